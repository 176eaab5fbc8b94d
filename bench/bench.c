/* Speed of the kernels: every dtype's decoder and encoder, the differences, the moments, the dots, at every level of this CPU, on pieces as large
 * as the tools hand them, which stay in the first cache of one core. All rows are measured in turn, round by round; each figure is the
 * median, noise is how far apart the quartiles are, and the bars are the distribution from the fastest to the slowest. GB are those of
 * encoded values: what decoders read and encoders write.
 *
 *     bench [OPTION]... [WORD]...     only rows that have one of the words as job, dtype or level; options as those of times */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "packed.h"
#include "rounds.h"
#include "values/chunk.h"
#include "values/kernels.h"

#define SAMPLES        101
#define SAMPLE_SECONDS 50e-6
#define MOST_ROWS      (APR_NISA * (4 * APR_NDTYPES + 40))
#define COLUMNS        1024u /* of rows that are encoded with importance */

static unsigned char blocks[APR_STRETCH * 8 + 64];
static float  a[APR_STRETCH], near_a[APR_STRETCH], far_a[APR_STRETCH], centred[APR_STRETCH], importance[COLUMNS];
static double wide_a[APR_STRETCH], wide_near[APR_STRETCH], wide_far[APR_STRETCH];
static int64_t small_whole[APR_STRETCH + 1];

struct row {
    const char               *job, *what;
    const struct apr_kernels *k;
    void                    (*pass)(const struct apr_kernels *k, size_t id);
    size_t                    id;
    double                    elements, bytes;
    unsigned                  passes;
};

static struct row       rows[MOST_ROWS];
static struct bench_job jobs[MOST_ROWS];
static size_t           nrows;
static char           **words;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What is timed: a piece decoded, encoded without importance or with it, or taken into bins, a chunk compared or summed, rows multiplied. */

static void decode(const struct apr_kernels *k, size_t id)
{
    static float out[APR_STRETCH];
    static double wide_out[APR_STRETCH];
    if (k->decode[id] != NULL)
        k->decode[id](blocks, blocks + apr_dtypes[id].head, APR_STRETCH, out);
    else
        k->decode_wide[id](blocks, blocks + apr_dtypes[id].head, APR_STRETCH, wide_out);
}

static void encode(const struct apr_kernels *k, size_t id)
{
    static unsigned char out[APR_STRETCH * sizeof(double)];
    if (k->encode[id] != NULL)
        k->encode[id](centred, APR_STRETCH, out);
    else
        k->encode_wide[id](wide_a, APR_STRETCH, out);
}

static void weighted(const struct apr_kernels *k, size_t id)
{
    static unsigned char out[APR_STRETCH * sizeof(float)];
    k->encode_weighted[id](centred, APR_STRETCH / COLUMNS, COLUMNS, importance, out);
}

static void difference(const struct apr_kernels *k, size_t far)
{
    struct apr_difference d = { 0 };
    for (uint64_t first = 0; first < APR_CHUNK; first += APR_STRETCH)
        k->difference(a, far ? far_a : near_a, APR_STRETCH, first, &d);
}

static void difference_wide(const struct apr_kernels *k, size_t far)
{
    struct apr_difference d = { 0 };
    for (uint64_t first = 0; first < APR_CHUNK; first += APR_STRETCH)
        k->difference_wide(wide_a, far ? wide_far : wide_near, APR_STRETCH, first, &d);
}

static void difference_whole(const struct apr_kernels *k, size_t large)
{
    const unsigned char *const p = large ? blocks : (const unsigned char *)small_whole;
    struct apr_difference d = { 0 };
    for (uint64_t first = 0; first < APR_CHUNK; first += APR_STRETCH)
        k->difference_whole(p, true, p + 8, true, APR_STRETCH, first, &d);
}

static void moments(const struct apr_kernels *k, size_t id)
{
    (void)id;
    struct apr_moments m = apr_no_moments();
    for (uint64_t first = 0; first < APR_CHUNK; first += APR_STRETCH)
        k->moments(a, APR_STRETCH, 0.5, &m);
}

static void moments_wide(const struct apr_kernels *k, size_t id)
{
    (void)id;
    struct apr_moments m = apr_no_moments();
    for (uint64_t first = 0; first < APR_CHUNK; first += APR_STRETCH)
        k->moments_wide(wide_a, APR_STRETCH, 0.5, &m);
}

static uint16_t bin[APR_STRETCH];

static void bins(const struct apr_kernels *k, size_t id)
{
    (void)id;
    k->bins(a, APR_STRETCH, 0, APR_BINS, bin);
}

static void bins_wide(const struct apr_kernels *k, size_t id)
{
    (void)id;
    k->bins_wide(wide_a, APR_STRETCH, 0, APR_BINS, bin);
}

#define PACKED_ROWS 128u

/* Row after row, as a pass reads them. */
static void packed(const struct apr_kernels *k, size_t i)
{
    static uint64_t first;
    static float out[APR_STRETCH];
    const struct apr_tensor *const t = bench_packed(i);
    for (unsigned r = 0; r < PACKED_ROWS; r++, first += APR_STRETCH)
        apr_read_floats(k, t, first % t->count, APR_STRETCH, out);
}

/* Rows as a matrix decodes them, elements are products. */
#define DOT_ROWS      (APR_STRETCH / COLUMNS)
#define DOT_POSITIONS 13u
static double activations[DOT_POSITIONS * COLUMNS], sums[DOT_POSITIONS * DOT_ROWS];

static void dots(const struct apr_kernels *k, size_t npositions)
{
    k->dots(a, DOT_ROWS, activations, npositions, COLUMNS, sums, DOT_ROWS);
}

/* As they are stored; numbers, where those are to be had. */
static void dot(const struct apr_kernels *k, size_t id)
{
    static unsigned char stored[APR_STRETCH * sizeof(float)];
    static size_t last = APR_NDTYPES;
    const unsigned char *at[DOT_ROWS];
    if (id != last && k->encode[id] != NULL)
        k->encode[id](centred, APR_STRETCH, stored);
    else if (id != last)
        memcpy(stored, blocks, sizeof stored);
    last = id;
    for (size_t r = 0; r < DOT_ROWS; r++)
        at[r] = stored + r * (COLUMNS / apr_dtypes[id].block) * apr_dtypes[id].bytes;
    k->dot[id](at, DOT_ROWS, activations, COLUMNS, sums);
}

static double seconds(const struct row *r)
{
    const double begin = now();
    for (unsigned i = 0; i < r->passes; i++)
        r->pass(r->k, r->id);
    return now() - begin;
}

/* The pass before warms the caches, which the row before has filled with its own. */
static double once(struct bench_job *job)
{
    const struct row *const r = job->what;
    r->pass(r->k, r->id);
    return seconds(r) / r->passes;
}

static bool wanted(const char *word)
{
    for (char **w = words; *w; w++)
        if (strcmp(*w, word) == 0)
            return true;
    return *words == NULL;
}

static void add(struct row row)
{
    const char *const isa = apr_isa_word(row.k->isa);
    if (!wanted(row.job) && !wanted(row.what) && !wanted(isa))
        return;
    for (row.passes = 1; seconds(&row) < SAMPLE_SECONDS; row.passes *= 2)
        ;
    struct bench_job *const j = &jobs[nrows];
    snprintf(j->name, sizeof j->name, "%s %s %s", row.job, row.what, isa);
    j->what = &rows[nrows];
    rows[nrows++] = row;
}

static void add_level(const struct apr_kernels *k)
{
    const double floats = APR_CHUNK * sizeof(float), doubles = APR_CHUNK * sizeof(double);
    for (size_t id = 0; id < APR_NDTYPES; id++) {
        const struct apr_dtype *const d = &apr_dtypes[id];
        if (k->decode[id] != NULL || k->decode_wide[id] != NULL)
            add((struct row){ "decode", d->name, k, decode, id, APR_STRETCH, (double)APR_STRETCH / d->block * d->bytes, 0 });
        if (k->encode[id] != NULL || k->encode_wide[id] != NULL)
            add((struct row){ "encode", d->name, k, encode, id, APR_STRETCH, (double)APR_STRETCH / d->block * d->bytes, 0 });
        if (k->encode_weighted[id] != NULL)
            add((struct row){ "weighted", d->name, k, weighted, id, APR_STRETCH, (double)APR_STRETCH / d->block * d->bytes, 0 });
        if (k->dot[id] != NULL)
            add((struct row){ "dot", d->name, k, dot, id, APR_STRETCH, (double)APR_STRETCH / d->block * d->bytes, 0 });
    }
    for (size_t i = 0; bench_packed(i) != NULL; i++) {
        const struct apr_tensor *const t = bench_packed(i);
        add((struct row){ t->packed != NULL ? "packed" : "blocks", t->dtype->name, k, packed, i, PACKED_ROWS * APR_STRETCH,
                          PACKED_ROWS * APR_STRETCH, 0 });
    }
    add((struct row){ "dots", "1 position", k, dots, 1, APR_STRETCH, APR_STRETCH * sizeof(float), 0 });
    add((struct row){ "dots", "12 positions", k, dots, 12, 12.0 * APR_STRETCH, APR_STRETCH * sizeof(float), 0 });
    add((struct row){ "dots", "13 positions", k, dots, 13, 13.0 * APR_STRETCH, APR_STRETCH * sizeof(float), 0 });
    add((struct row){ "difference", "float, near", k, difference, 0, APR_CHUNK, 2 * floats, 0 });
    add((struct row){ "difference", "float, far", k, difference, 1, APR_CHUNK, 2 * floats, 0 });
    add((struct row){ "difference", "double, near", k, difference_wide, 0, APR_CHUNK, 2 * doubles, 0 });
    add((struct row){ "difference", "double, far", k, difference_wide, 1, APR_CHUNK, 2 * doubles, 0 });
    add((struct row){ "difference", "I64, small", k, difference_whole, 0, APR_CHUNK, 2 * doubles, 0 });
    add((struct row){ "difference", "I64, large", k, difference_whole, 1, APR_CHUNK, 2 * doubles, 0 });
    add((struct row){ "moments", "float", k, moments, 0, APR_CHUNK, floats, 0 });
    add((struct row){ "moments", "double", k, moments_wide, 0, APR_CHUNK, doubles, 0 });
    add((struct row){ "bins", "float", k, bins, 0, APR_STRETCH, APR_STRETCH * sizeof(float), 0 });
    add((struct row){ "bins", "double", k, bins_wide, 0, APR_STRETCH, APR_STRETCH * sizeof(double), 0 });
}

static void print(const struct bench_settings *s, const struct bench_job *job)
{
    const struct row *const r = job->what;
    const struct bench_summary t = bench_summarize(job->sample, job->n);
    char shape[BENCH_ART];
    bench_histogram(job->sample, job->n, shape);
    printf("%-10s  %-13s %-7s %8.3f GB/s %8.4f elements/ns  noise %4.1f%%  %s\n", r->job, r->what, apr_isa_word(r->k->isa),
           r->bytes / t.median / 1e9, r->elements / t.median / 1e9, 100 * (t.third_quartile - t.quartile) / t.median, shape);
    bench_print_against_baseline(s, job);
}

/* Near: all differences are small. Far: of every size. */
static void fill(void)
{
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof blocks; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        blocks[i] = (unsigned char)(x >> 24);
    }
    for (size_t i = 0; i < APR_LENGTH(activations); i++)
        activations[i] = (float)blocks[i] / 256 - 0.5f;
    for (size_t i = 0; i < APR_STRETCH; i++) {
        const float step = (float)blocks[2 * i];
        wide_a[i] = a[i] = (float)blocks[2 * i + 1] / 256;
        centred[i] = a[i] - 0.5f + step * 1e-5f;
        importance[i % COLUMNS] = a[i];
        wide_near[i] = near_a[i] = a[i] + step * 3e-6f;
        wide_far[i] = far_a[i] = a[i] + step * 1e-4f;
        small_whole[i] = (int64_t)i - blocks[i];
    }
}

int main(int argc, char **argv)
{
    struct bench_settings s = { .rounds = SAMPLES, .seconds = 1 };
    const int first = bench_parse(&s, argc, argv, "[WORD]...");
    if (first < 0)
        return 2;
    words = argv + first;
    fill();
    for (int isa = APR_SCALAR; isa < APR_NISA; isa++)
        if (apr_isa_has((enum apr_isa)isa))
            add_level(apr_kernels_for((enum apr_isa)isa));
    bench_measure(&s, jobs, nrows, once);
    for (size_t i = 0; i < nrows; i++)
        print(&s, &jobs[i]);
    const bool kept = bench_keep(&s, jobs, nrows);
    json_decref(s.earlier);
    return kept ? 0 : 2;
}
