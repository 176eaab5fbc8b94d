#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "model/model.h"
#include "part.h"
#include "ui/progress.h"
#include "values/dtype.h"

/* A unit of work is one part of one tensor, or up to 64 small tensors. Parts are added up by rising index, on one thread: one order,
 * whatever the threads do. */
#define GROUP_TENSORS 64
#define SAMPLE_PIECES 16
#define MOST_READERS  16 /* windows and counters stay well below 64 MiB together; more are not needed to wait for memory */

struct job {
    const struct apr_tensor *t;
    struct apr_grid          grid; /* BY_BINS */
};

struct unit {
    uint32_t job, nsmall; /* 0: a part of one tensor */
    uint64_t first;       /* its first piece */
};

/* A slot holds the rows of small tensors, or this; the counters are there when there are statistics. */
struct result {
    struct part part;
    uint32_t    count[APR_BINS];
};

struct scan {
    const struct apr_model *m;
    struct apr_run          run;
    unsigned                what;
    struct job             *job;
    struct unit            *unit;
    size_t                  njob, nunit;
    scan_fn                *take;
    void                   *ctx;
    struct apr_sums         sums;  /* of the tensor that is being added up, as are these: */
    struct apr_digest       stored, values;
    uint64_t               *count;
    float                  *value; /* of each code */
};

/* ---- small tensors -------------------------------------------------------------------------------------------------- */

static void fold_chunks(struct apr_digest *stored, struct apr_digest *values, const struct part *p)
{
    for (size_t i = 0; i < p->nstored; i++)
        *stored = apr_digest_fold(*stored, p->stored[i]);
    for (size_t i = 0; i < p->nvalues; i++)
        *values = apr_digest_fold(*values, p->values[i]);
}

/* value: room for twice the values of a small tensor. */
static void scan_small(const struct scan *s, const struct job *job, struct reader *r, double *value, struct scanned *row)
{
    struct part p;
    read_tensor(r, s->m, job->t);
    *row = (struct scanned){ .t = job->t, .decodable = apr_decodable(r->k, &r->t) };
    if (s->what & SCAN_HASH) {
        row->hash = apr_digest_stored(job->t);
        row->value_hash = apr_digest_values(job->t);
        read_part(r, SCAN_HASH, &job->grid, 0, CHUNK_PIECES, &p, NULL);
        fold_chunks(&row->hash, &row->value_hash, &p);
    }
    if ((s->what & SCAN_STATS) && row->decodable) {
        size_t n = 0;
        for (uint64_t piece = 0, now; (now = read_values(r, piece)) > 0; piece++)
            for (size_t i = 0; i < now; i++)
                value[n++] = r->t.dtype->wide ? r->x.d[i] : (double)r->x.f[i];
        row->stats = apr_stats_of_values(value, value + SMALL_PIECES * APR_PIECE, n);
    }
}

static enum apr_code scan_group(const struct scan *s, const struct unit *u, struct scanned *row, struct apr_error *e)
{
    struct reader r;
    double *const value = malloc(2 * SMALL_PIECES * APR_PIECE * sizeof *value);
    if (value == NULL)
        return apr_no_memory(e);
    begin_reading(&r, s->run.kernels);
    for (uint32_t k = 0; k < u->nsmall; k++)
        scan_small(s, &s->job[u->job + k], &r, value, &row[k]);
    end_reading(&r);
    free(value);
    return APR_OK;
}

/* ---- grids ---------------------------------------------------------------------------------------------------------- */

/* The centre and the bins of a large tensor are chosen by 16 pieces, evenly spread. */
static enum apr_code make_grid(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct scan *s = ctx;
    const struct apr_grid none = { 0 };
    struct reader r;
    (void)e;
    begin_reading(&r, s->run.kernels);
    read_tensor(&r, s->m, s->job[i].t);
    const uint64_t all = (r.t.count + APR_PIECE - 1) / APR_PIECE, n = apr_min(all, SAMPLE_PIECES);
    struct apr_sums sums = apr_no_sums();
    uint64_t values = 0;
    for (uint64_t k = 0; way_of(&r.t) == BY_BINS && apr_decodable(r.k, &r.t) && k < n; k++) {
        struct apr_moments m = apr_no_moments();
        const size_t now = read_values(&r, all / n * k);
        add_moments(&r, now, &none, &m);
        apr_sums_add_chunk(&sums, &m);
        values += now;
        end_reading(&r);
    }
    *(struct apr_grid *)slot = apr_grid_of(&sums, &none, values);
    return APR_OK;
}

static enum apr_code take_grid(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct scan *s = ctx;
    (void)e;
    s->job[i].grid = *(const struct apr_grid *)slot;
    return APR_OK;
}

/* ---- large tensors -------------------------------------------------------------------------------------------------- */

static void begin_tensor(struct scan *s, const struct apr_tensor *t)
{
    s->sums = apr_no_sums();
    s->stored = apr_digest_stored(t);
    s->values = apr_digest_values(t);
    if (s->what & SCAN_STATS)
        memset(s->count, 0, APR_BINS * sizeof *s->count);
}

static void add_part(struct scan *s, const struct result *result)
{
    apr_sums_add(&s->sums, &result->part.sums);
    fold_chunks(&s->stored, &s->values, &result->part);
    for (size_t i = 0; (s->what & SCAN_STATS) && i < APR_BINS; i++)
        s->count[i] += result->count[i];
}

static void scan_part(const struct scan *s, const struct job *job, unsigned what, uint64_t first, struct result *result)
{
    struct reader r;
    begin_reading(&r, s->run.kernels);
    read_tensor(&r, s->m, job->t);
    if (what & SCAN_STATS)
        memset(result->count, 0, sizeof result->count);
    read_part(&r, what, &job->grid, first, PART_PIECES, &result->part, what & SCAN_STATS ? result->count : NULL);
    end_reading(&r);
}

/* One tensor's statistics once more, over a better grid. */
struct again {
    struct scan      *s;
    const struct job *job;
};

static enum apr_code make_again(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct again *a = ctx;
    (void)e;
    scan_part(a->s, a->job, SCAN_STATS, i * PART_PIECES, slot);
    return APR_OK;
}

static enum apr_code take_again(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct again *a = ctx;
    (void)i, (void)e;
    add_part(a->s, slot);
    return APR_OK;
}

/* When the sample missed values far out, the tensor is read a second time, now that all of its range is known: for the spark, and for
 * percentiles that lie there. The others were told apart better the first time. */
static enum apr_code stats_of_bins(struct scan *s, const struct job *job, const struct apr_tensor *real, struct apr_stats *stats,
                                   struct apr_error *e)
{
    bool outside;
    *stats = apr_stats_of_bins(real->count, &s->sums, &job->grid, s->count, &outside);
    if (!outside)
        return APR_OK;
    const struct job wide = { job->t, apr_grid_of(&s->sums, &job->grid, real->count) };
    const struct apr_stats first = *stats;
    struct again a = { s, &wide };
    begin_tensor(s, job->t);
    APR_TRY(apr_ordered(&s->run, (pieces_of(real) + PART_PIECES - 1) / PART_PIECES, sizeof(struct result), make_again, take_again, &a, e));
    *stats = apr_stats_of_bins(real->count, &s->sums, &wide.grid, s->count, &outside);
    for (unsigned i = 0; i < APR_NPERCENTILES; i++)
        if (!isnan(first.percentile[i]))
            stats->percentile[i] = first.percentile[i];
    return APR_OK;
}

static struct apr_stats stats_of_codes(const struct scan *s, const struct apr_tensor *real)
{
    const size_t ncode = real->dtype->ncode;
    const bool words = ncode > 256;
    unsigned char code[512];
    for (size_t i = 0; i < ncode; i += 256) {
        for (size_t k = 0; k < 256; k++) {
            code[words ? 2 * k : k] = (unsigned char)k;
            if (words)
                code[2 * k + 1] = (unsigned char)(i >> 8);
        }
        s->run.kernels->decode[apr_dtype_id(real->dtype)](real->data.at, code, 256, s->value + i);
    }
    for (size_t i = 256; !words && i < 1024; i++) /* bytes are counted in four tables */
        s->count[i % 256] += s->count[i];
    return apr_stats_of_counts(s->value, s->count, ncode);
}

static enum apr_code finish_tensor(struct scan *s, const struct job *job, struct apr_error *e)
{
    const struct apr_tensor real = as_reals(job->t);
    struct scanned row = { .t = job->t, .decodable = apr_decodable(s->run.kernels, &real), .hash = s->stored, .value_hash = s->values };
    if ((s->what & SCAN_STATS) && row.decodable && way_of(&real) == BY_BINS)
        APR_TRY(stats_of_bins(s, job, &real, &row.stats, e));
    else if ((s->what & SCAN_STATS) && row.decodable)
        row.stats = stats_of_codes(s, &real);
    APR_TRY(apr_model_intact(s->m, e));
    return s->take(s->ctx, &row, e);
}

/* ---- units ---------------------------------------------------------------------------------------------------------- */

static enum apr_code make_unit(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct scan *s = ctx;
    const struct unit *u = &s->unit[i];
    if (u->nsmall > 0)
        return scan_group(s, u, slot, e);
    scan_part(s, &s->job[u->job], s->what, u->first, slot);
    return APR_OK;
}

static enum apr_code take_unit(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    struct scan *s = ctx;
    const struct unit *u = &s->unit[i];
    const struct scanned *row = slot;
    for (uint32_t k = 0; k < u->nsmall; k++) {
        apr_progress_add(s->run.progress, row[k].t->data.n);
        APR_TRY(apr_model_intact(s->m, e));
        APR_TRY(s->take(s->ctx, &row[k], e));
    }
    if (u->nsmall > 0)
        return APR_OK;
    const struct job *job = &s->job[u->job];
    const struct apr_tensor real = as_reals(job->t);
    const uint64_t all = pieces_of(&real), n = apr_min(PART_PIECES, all - u->first);
    if (u->first == 0)
        begin_tensor(s, job->t);
    add_part(s, slot);
    apr_progress_add(s->run.progress, (uint64_t)((double)real.data.n / (double)all * (double)n));
    return u->first + n == all ? finish_tensor(s, job, e) : APR_OK;
}

static enum apr_code plan(struct scan *s, const struct inspection *x, struct apr_error *e)
{
    size_t room = s->m->ntensor;
    s->job = calloc(room + 1, sizeof *s->job);
    if (s->job == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < s->m->ntensor; i++) {
        const struct apr_tensor real = as_reals(&s->m->tensor[i]);
        if (!is_chosen(x, &s->m->tensor[i]))
            continue;
        s->job[s->njob++].t = &s->m->tensor[i];
        room += (size_t)(pieces_of(&real) / PART_PIECES);
    }
    s->unit = malloc((room + 1) * sizeof *s->unit);
    if (s->unit == NULL)
        return apr_no_memory(e);
    for (uint32_t i = 0; i < s->njob; i++) {
        const struct apr_tensor real = as_reals(s->job[i].t);
        struct unit *const last = s->nunit > 0 ? &s->unit[s->nunit - 1] : NULL;
        if (is_small(&real) && last != NULL && last->nsmall > 0 && last->nsmall < GROUP_TENSORS)
            last->nsmall++;
        else if (is_small(&real))
            s->unit[s->nunit++] = (struct unit){ i, 1, 0 };
        else
            for (uint64_t first = 0; first < pieces_of(&real); first += PART_PIECES)
                s->unit[s->nunit++] = (struct unit){ i, 0, first };
    }
    return APR_OK;
}

enum apr_code scan_tensors(const struct inspection *x, unsigned what, scan_fn *take, void *ctx, struct apr_error *e)
{
    struct scan s = { .m = x->m, .run = x->o->cli.run, .what = what, .take = take, .ctx = ctx };
    const size_t part_bytes = what & SCAN_STATS ? sizeof(struct result) : sizeof(struct part);
    const size_t rows_bytes = GROUP_TENSORS * sizeof(struct scanned);
    uint64_t bytes = 0;
    s.run.threads = (unsigned)apr_min(s.run.threads, MOST_READERS);
    s.count = malloc(APR_BINS * sizeof *s.count);
    s.value = malloc(APR_BINS * sizeof *s.value);
    enum apr_code code = s.count == NULL || s.value == NULL ? apr_no_memory(e) : plan(&s, x, e);
    for (size_t i = 0; i < s.njob; i++)
        bytes += s.job[i].t->data.n;
    apr_progress_begin(s.run.progress, "reading", bytes);
    if (code == APR_OK && (what & SCAN_STATS))
        code = apr_ordered(&s.run, s.njob, sizeof(struct apr_grid), make_grid, take_grid, &s, e);
    if (code == APR_OK)
        code = apr_ordered(&s.run, s.nunit, part_bytes > rows_bytes ? part_bytes : rows_bytes, make_unit, take_unit, &s, e);
    if (code == APR_OK)
        code = apr_model_unchanged(x->m, e);
    apr_progress_end(s.run.progress);
    free(s.count);
    free(s.value);
    free(s.job);
    free(s.unit);
    return code;
}
