/* What bench/linear.sh times in a process of ours, each of many on the clock; tables to learn from; and what may be said of lists of timings.
 *   linear predict ROUNDS AT_ONCE   a 784 -> 2 prediction: nanoseconds of each, a line each, after 100 rounds that do not count; with
 *                                   AT_ONCE so many lie between two looks at the clock, and a sample is their mean
 *   linear read CSV ROUNDS          the table read into a matrix by one thread, likewise after one round
 *   linear table ROWS COLUMNS CSV [RAW]   a made-up table, two classes that overlap, and the same as doubles, the class last in each row
 *   linear model FILE               a SafeTensors of 784 -> 2
 *   linear about WHAT FILE [OURS]   cells of a table, microseconds: p50, p95, p99, mean and its 95 % interval, standard deviation, how many
 *                                   a second; against OURS: how many times its p50, Welch's t and p, Cohen's d, the difference of means */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tools/apr-linear/data.h"
#include "../tools/apr-linear/model.h"
#include "base/cpu.h"
#include "statistics.h"

#define INPUTS  784u
#define OUTPUTS 2u
#define WARM_UP 100u
#define MOST    1000000u
#define MICRO   1000000

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double *room_for(size_t n)
{
    double *const v = calloc(n, sizeof *v);
    if (v == NULL) {
        fprintf(stderr, "linear: no memory\n");
        exit(2);
    }
    return v;
}

static void print_list(const double *ns, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%.2f\n", ns[i]);
}

static uint64_t any(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* A multiple of a millionth in [-1, 1]. */
static int millionths(uint64_t *seed) { return (int)(any(seed) % (2 * MICRO + 1)) - MICRO; }

/* ---- predicting ----------------------------------------------------------------------------------------------------- */

static int predict(size_t rounds, size_t at_once)
{
    static _Alignas(64) double weight[OUTPUTS * INPUTS], x[2][INPUTS], z[OUTPUTS], bias[OUTPUTS]; /* as linear_load has them */
    uint64_t seed = 1;
    double *const ns = room_for(rounds);
    const struct linear_model m = { .inputs = INPUTS, .outputs = OUTPUTS, .wide = weight, .bias = bias, .nclass = OUTPUTS,
                                    .kernels = apr_kernels_for(apr_isa_best()) };
    size_t sum = 0;
    for (size_t i = 0; i < OUTPUTS * INPUTS; i++)
        weight[i] = (float)millionths(&seed) / MICRO;
    for (size_t i = 0; i < INPUTS; i++)
        x[0][i] = -(x[1][i] = (float)millionths(&seed) / MICRO);
    for (size_t i = 0; i < WARM_UP + rounds; i++) {
        const uint64_t from = now();
        for (size_t k = 0; k < at_once; k++) {
            linear_answer(&m, x[(i + k) % 2], z);
            sum += linear_choose(&m, z, NULL);
        }
        const uint64_t took = now() - from;
        if (i >= WARM_UP)
            ns[i - WARM_UP] = (double)took / (double)at_once;
    }
    print_list(ns, rounds);
    free(ns);
    return sum > (WARM_UP + rounds) * at_once; /* never: so that answers are wanted */
}

/* ---- tables --------------------------------------------------------------------------------------------------------- */

static int read_table(const char *path, size_t rounds)
{
    const struct data_wish wish = { .path = path };
    const struct apr_run run = { .threads = 1, .kernels = apr_kernels_for(apr_isa_best()) };
    double *const ns = room_for(rounds + 1);
    for (size_t i = 0; i <= rounds; i++) {
        struct data d = { 0 };
        struct apr_error e;
        const uint64_t from = now();
        const enum apr_code code = data_read(&d, &wish, &run, &e);
        ns[i] = (double)(now() - from);
        data_free(&d);
        if (code != APR_OK) {
            fprintf(stderr, "linear: %s\n", e.text);
            return 2;
        }
    }
    print_list(ns + 1, rounds);
    free(ns);
    return 0;
}

/* A class follows from the sum of the features and as much chance, so that no plane parts the two. Text and doubles are the same numbers. */
static void write_row(FILE *csv, FILE *raw, size_t columns, uint64_t *seed)
{
    int sum = 0;
    for (size_t i = 0; i < columns; i++) {
        const int v = millionths(seed) + millionths(seed);
        const double x = (double)v / MICRO;
        sum += i % 2 == 0 ? v / 16 : -v / 16;
        fprintf(csv, "%.6f,", x);
        if (raw != NULL)
            fwrite(&x, sizeof x, 1, raw);
    }
    const double class = sum + millionths(seed) / 4 > 0;
    fprintf(csv, "%.0f\n", class);
    if (raw != NULL)
        fwrite(&class, sizeof class, 1, raw);
}

static int write_table(size_t rows, size_t columns, const char *path, const char *raw_path)
{
    FILE *const csv = fopen(path, "we"), *const raw = raw_path == NULL ? NULL : fopen(raw_path, "we");
    uint64_t seed = 7;
    if (csv == NULL || (raw == NULL && raw_path != NULL)) {
        fprintf(stderr, "linear: %s: %s\n", csv == NULL ? path : raw_path, strerror(errno));
        return 2;
    }
    for (size_t i = 0; i < columns; i++)
        fprintf(csv, "x%zu,", i);
    fputs("y\n", csv);
    for (size_t i = 0; i < rows; i++)
        write_row(csv, raw, columns, &seed);
    const bool csv_written = fclose(csv) == 0, raw_written = raw == NULL || fclose(raw) == 0;
    return csv_written && raw_written ? 0 : 2;
}

/* ---- a model -------------------------------------------------------------------------------------------------------- */

static int write_model(const char *path)
{
    static const char head[] = "{\"weight\":{\"dtype\":\"F32\",\"shape\":[2,784],\"data_offsets\":[0,6272]},"
                               "\"bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[6272,6280]}}";
    const uint64_t n = sizeof head - 1;
    float values[OUTPUTS * (INPUTS + 1)];
    uint64_t seed = 1;
    FILE *const f = fopen(path, "we");
    if (f == NULL) {
        fprintf(stderr, "linear: %s: %s\n", path, strerror(errno));
        return 2;
    }
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = (float)millionths(&seed) / MICRO;
    fwrite(&n, sizeof n, 1, f);
    fwrite(head, 1, n, f);
    fwrite(values, sizeof values, 1, f);
    return fclose(f) == 0 ? 0 : 2;
}

/* ---- comparing ------------------------------------------------------------------------------------------------------ */

struct list {
    double *v;
    size_t  n;
};

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct list read_list(const char *path)
{
    struct list l = { .v = room_for(MOST) };
    FILE *const f = fopen(path, "re");
    while (f != NULL && l.n < MOST && fscanf(f, "%lf", &l.v[l.n]) == 1)
        l.n++;
    if (l.n < 2) {
        fprintf(stderr, "linear: %s: %s\n", path, f == NULL ? strerror(errno) : "no list of timings");
        exit(2);
    }
    fclose(f);
    for (size_t i = 0; i < l.n; i++)
        l.v[i] /= 1e3; /* microseconds from here on */
    qsort(l.v, l.n, sizeof *l.v, rising);
    return l;
}

/* Four digits, or all that stand before the point: 0.1264, 2559031. */
static void print_number(double v, const char *behind)
{
    const double before = v == 0 ? 1 : floor(log10(fabs(v))) + 1;
    printf(" %.*f%s", (int)fmin(fmax(4 - before, 0), 4), v, behind);
}

static void print_compared(const struct list *ours, const struct list *l, const struct bench_moments *m)
{
    const struct bench_moments o = bench_moments(ours->v, ours->n);
    const struct bench_welch w = bench_welch(&o, m);
    print_number(bench_quantile(l->v, l->n, 0.5) / bench_quantile(ours->v, ours->n, 0.5), " |");
    printf(" %.4g, %s%.2g | %.3g |", w.t, w.p < 1e-99 ? "< " : "", fmax(w.p, 1e-99), w.effect);
    print_number(w.low, " ..");
    print_number(w.high, " |\n");
}

static int about(const char *what, const char *path, const char *other)
{
    const struct list l = read_list(path);
    const struct bench_moments m = bench_moments(l.v, l.n);
    printf("| %s |", what);
    print_number(bench_quantile(l.v, l.n, 0.5), " |");
    print_number(bench_quantile(l.v, l.n, 0.95), " |");
    print_number(bench_quantile(l.v, l.n, 0.99), " |");
    print_number(m.mean, " (");
    print_number(m.low, " ..");
    print_number(m.high, ") |");
    print_number(m.deviation, " |");
    print_number(1e6 / m.mean, " |");
    if (other != NULL) {
        const struct list ours = read_list(other);
        print_compared(&ours, &l, &m);
        free(ours.v);
    } else
        puts(" | | | |");
    free(l.v);
    return 0;
}

static size_t count(const char *text)
{
    const unsigned long long n = strtoull(text, NULL, 10);
    return n <= MOST ? (size_t)n : 0;
}

int main(int argc, char **argv)
{
    const char *const verb = argc > 3 || (argc == 3 && strcmp(argv[1], "model") == 0) ? argv[1] : "";
    if (strcmp(verb, "model") == 0)
        return write_model(argv[2]);
    if (strcmp(verb, "predict") == 0 && count(argv[2]) > 0 && count(argv[3]) > 0)
        return predict(count(argv[2]), count(argv[3]));
    if (strcmp(verb, "read") == 0 && count(argv[3]) > 0)
        return read_table(argv[2], count(argv[3]));
    if (strcmp(verb, "table") == 0 && argc > 4)
        return write_table(count(argv[2]), count(argv[3]), argv[4], argc > 5 ? argv[5] : NULL);
    if (strcmp(verb, "about") == 0)
        return about(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    fprintf(stderr, "linear: expected predict ROUNDS AT_ONCE, read CSV ROUNDS, table ROWS COLUMNS CSV [RAW], model FILE, "
                    "or about WHAT FILE [OURS]\n");
    return 2;
}
