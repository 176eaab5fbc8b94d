/* One 784 -> 2 prediction in this process, each of many on the clock, and what may be said of two lists of timings.
 *   linear predict ROUNDS           nanoseconds of each, a line each, on stdout, after 100 that do not count
 *   linear about WHAT FILE [OTHER]  p50, p95, p99, mean with its 95 % interval, standard deviation, how many a second; and how the other
 *                                   list's compare: Welch's t-test, Cohen's d */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tools/apr-linear/model.h"
#include "base/cpu.h"
#include "base/fmath.h"
#include "statistics.h"

#define INPUTS  784u
#define OUTPUTS 2u
#define WARM_UP 100u
#define AT_ONCE 16u /* predictions between two looks at the clock, which alone costs a fifth of one: a sample is their mean */
#define MOST    1000000u

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- predicting ----------------------------------------------------------------------------------------------------- */

static float any(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(*seed >> 40) * 0x1p-23f - 1;
}

static int predict(size_t rounds)
{
    static _Alignas(64) double weight[OUTPUTS * INPUTS], x[2][INPUTS], z[OUTPUTS], bias[OUTPUTS]; /* as linear_load has them */
    uint64_t seed = 1;
    double *const ns = malloc(rounds * sizeof *ns);
    const struct linear_model m = { .inputs = INPUTS, .outputs = OUTPUTS, .wide = weight, .bias = bias, .nclass = OUTPUTS,
                                    .kernels = apr_kernels_for(apr_isa_best()) };
    size_t sum = 0;
    if (ns == NULL)
        return 2;
    for (size_t i = 0; i < OUTPUTS * INPUTS; i++)
        weight[i] = any(&seed);
    for (size_t i = 0; i < INPUTS; i++)
        x[0][i] = -(x[1][i] = any(&seed));
    for (size_t i = 0; i < WARM_UP + rounds; i++) {
        const uint64_t from = now();
        for (size_t k = 0; k < AT_ONCE; k++) {
            linear_answer(&m, x[k % 2], z);
            sum += linear_choose(&m, z, NULL);
        }
        const uint64_t took = now() - from;
        if (i >= WARM_UP)
            ns[i - WARM_UP] = (double)took / AT_ONCE;
    }
    for (size_t i = 0; i < rounds; i++)
        printf("%.2f\n", ns[i]);
    free(ns);
    return sum > (WARM_UP + rounds) * AT_ONCE; /* never: so that answers are wanted */
}

/* ---- comparing ------------------------------------------------------------------------------------------------------ */

struct list {
    double *v, mean, deviation;
    size_t  n;
};

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct list read_list(const char *path)
{
    struct list l = { .v = malloc(MOST * sizeof *l.v) };
    FILE *const f = fopen(path, "re");
    if (f == NULL || l.v == NULL) {
        fprintf(stderr, "linear: %s: %s\n", path, strerror(errno));
        exit(2);
    }
    while (l.n < MOST && fscanf(f, "%lf", &l.v[l.n]) == 1)
        l.mean += l.v[l.n++];
    fclose(f);
    if (l.n < 2) {
        fprintf(stderr, "linear: %s: no list of timings\n", path);
        exit(2);
    }
    l.mean /= (double)l.n;
    for (size_t i = 0; i < l.n; i++)
        l.deviation += (l.v[i] - l.mean) * (l.v[i] - l.mean);
    l.deviation = sqrt(l.deviation / (double)(l.n - 1));
    qsort(l.v, l.n, sizeof *l.v, rising);
    return l;
}

static double error_of(const struct list *l) { return l->deviation / sqrt((double)l->n); }

/* Lists of so many are far beyond where Student's distribution differs from the normal one. */
static void compare(const struct list *a, const struct list *b)
{
    const double e = sqrt(error_of(a) * error_of(a) + error_of(b) * error_of(b)), t = (b->mean - a->mean) / e;
    const double spread = sqrt((a->deviation * a->deviation + b->deviation * b->deviation) / 2), p = 1 - apr_erf(fabs(t) / sqrt(2));
    const double times = bench_quantile(b->v, b->n, 0.5) / bench_quantile(a->v, a->n, 0.5);
    printf("| | p50 %.1f times, mean %.1f times | Welch's t %.0f, p %s%.2g | Cohen's d %.1f | mean later by %.0f to %.0f ns | | |\n",
           times, b->mean / a->mean, t, p < 1e-15 ? "< " : "", p < 1e-15 ? 1e-15 : p, (b->mean - a->mean) / spread, b->mean - a->mean - 1.96 * e, b->mean - a->mean + 1.96 * e);
}

static int about(const char *what, const char *path, const char *other)
{
    struct list a = read_list(path);
    printf("| %s | %.0f | %.0f | %.0f | %.1f +- %.1f | %.1f | %.3g |\n", what, bench_quantile(a.v, a.n, 0.5),
           bench_quantile(a.v, a.n, 0.95), bench_quantile(a.v, a.n, 0.99), a.mean, 1.96 * error_of(&a), a.deviation, 1e9 / a.mean);
    if (other != NULL) {
        struct list b = read_list(other);
        compare(&b, &a);
        free(b.v);
    }
    free(a.v);
    return 0;
}

int main(int argc, char **argv)
{
    const size_t rounds = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    if (argc == 3 && strcmp(argv[1], "predict") == 0 && rounds > 0 && rounds <= MOST)
        return predict(rounds);
    if (argc >= 4 && strcmp(argv[1], "about") == 0)
        return about(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    fprintf(stderr, "linear: expected predict ROUNDS, or about WHAT FILE [OTHER]\n");
    return 2;
}
