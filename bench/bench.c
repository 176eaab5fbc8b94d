/* Speed of the kernels: every dtype's decoder and the differences, at every level of this CPU, on pieces as large as apr-diff hands
 * them, which stay in the first cache of one core. Each figure is the median of many samples; noise is how far apart the quartiles
 * are. GB are those of encoded input.
 *
 *     bench [WORD]...     only rows that have one of the words as job, dtype or level */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chunk.h"
#include "kernels.h"

#define SAMPLES        101
#define SAMPLE_SECONDS 50e-6

static unsigned char blocks[APR_PIECE * 8 + 64];
static float  a[APR_PIECE], near_a[APR_PIECE], far_a[APR_PIECE];
static double wide_a[APR_PIECE], wide_near[APR_PIECE], wide_far[APR_PIECE];

static char **words;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What is timed: a piece decoded, a chunk compared. */
typedef void pass_fn(const struct apr_kernels *k, size_t id);

static void decode(const struct apr_kernels *k, size_t id)
{
    static float out[APR_PIECE];
    static double wide_out[APR_PIECE];
    if (k->decode[id] != NULL)
        k->decode[id](blocks, blocks + apr_dtypes[id].head, APR_PIECE, out);
    else
        k->decode_wide[id](blocks, blocks + apr_dtypes[id].head, APR_PIECE, wide_out);
}

static void difference(const struct apr_kernels *k, size_t far)
{
    struct apr_difference d = { 0 };
    for (uint64_t first = 0; first < APR_CHUNK; first += APR_PIECE)
        k->difference(a, far ? far_a : near_a, APR_PIECE, first, &d);
}

static void difference_wide(const struct apr_kernels *k, size_t far)
{
    struct apr_difference d = { 0 };
    for (uint64_t first = 0; first < APR_CHUNK; first += APR_PIECE)
        k->difference_wide(wide_a, far ? wide_far : wide_near, APR_PIECE, first, &d);
}

static double seconds(pass_fn *pass, const struct apr_kernels *k, size_t id, unsigned passes)
{
    const double begin = now();
    for (unsigned i = 0; i < passes; i++)
        pass(k, id);
    return now() - begin;
}

static int by_value(const void *x, const void *y)
{
    const double v = *(const double *)x, w = *(const double *)y;
    return (v > w) - (v < w);
}

static bool wanted(const char *word)
{
    for (char **w = words; *w; w++)
        if (strcmp(*w, word) == 0)
            return true;
    return *words == NULL;
}

static void row(const char *job, const char *what, const struct apr_kernels *k, pass_fn *pass, size_t id, double elements, double bytes)
{
    if (!wanted(job) && !wanted(what) && !wanted(apr_isa_word(k->isa)))
        return;
    unsigned passes = 1;
    while (seconds(pass, k, id, passes) < SAMPLE_SECONDS)
        passes *= 2;
    double sample[SAMPLES];
    for (unsigned i = 0; i < SAMPLES; i++)
        sample[i] = seconds(pass, k, id, passes) / passes;
    qsort(sample, SAMPLES, sizeof *sample, by_value);
    const double median = sample[SAMPLES / 2], spread = sample[SAMPLES * 3 / 4] - sample[SAMPLES / 4];
    printf("%-10s  %-13s %-7s %7.2f GB/s %7.2f elements/ns  noise %4.1f%%\n", job, what, apr_isa_word(k->isa), bytes / median / 1e9,
           elements / median / 1e9, 100 * spread / median);
}

static void level(const struct apr_kernels *k)
{
    for (size_t id = 0; id < APR_NDTYPES; id++) {
        const struct apr_dtype *const d = &apr_dtypes[id];
        if (k->decode[id] != NULL || k->decode_wide[id] != NULL)
            row("decode", d->name, k, decode, id, APR_PIECE, (double)APR_PIECE / d->block * d->bytes);
    }
    row("difference", "float, near", k, difference, 0, APR_CHUNK, 2.0 * APR_CHUNK * sizeof(float));
    row("difference", "float, far", k, difference, 1, APR_CHUNK, 2.0 * APR_CHUNK * sizeof(float));
    row("difference", "double, near", k, difference_wide, 0, APR_CHUNK, 2.0 * APR_CHUNK * sizeof(double));
    row("difference", "double, far", k, difference_wide, 1, APR_CHUNK, 2.0 * APR_CHUNK * sizeof(double));
}

/* Near: all differences are small. Far: of every size. */
static void fill(void)
{
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof blocks; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        blocks[i] = (unsigned char)(x >> 24);
    }
    for (size_t i = 0; i < APR_PIECE; i++) {
        const float step = (float)blocks[2 * i];
        wide_a[i] = a[i] = (float)blocks[2 * i + 1] / 256;
        wide_near[i] = near_a[i] = a[i] + step * 3e-6f;
        wide_far[i] = far_a[i] = a[i] + step * 1e-4f;
    }
}

int main(int argc, char **argv)
{
    words = argv + (argc > 0);
    fill();
    for (int isa = APR_SCALAR; isa < APR_NISA; isa++)
        if (apr_isa_has((enum apr_isa)isa))
            level(apr_kernels_for((enum apr_isa)isa));
    return 0;
}
