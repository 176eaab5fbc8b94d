#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chunks.h"
#include "flow/pass.h"
#include "model/model.h"
#include "values/dtype.h"

/* A piece is a chunk of a tensor, or a whole small one. Runs of chunks are added up by rising index, on one thread: one order, whatever the
 * threads do. */
#define SAMPLE_STRETCHES 16

/* What a tensor is read for: what was asked for; its statistics once more, over a better grid. */
enum mode { FIRST, WIDER };

struct job {
    const struct apr_tensor *t;
    struct apr_grid          grid; /* BY_BINS */
    uint64_t                 nchunk, count;
    enum way                 way;
};

/* Of a run of chunks; the counters are there when there are statistics. A small tensor's result is its row. */
struct result {
    struct chunks chunks;
    uint32_t      count[APR_BINS];
};

struct scan {
    const struct apr_model *m;
    const struct apr_packing *packing;
    const struct apr_run   *run;
    unsigned                what;
    struct job             *job;
    size_t                  njob;
    scan_fn                *take;
    void                   *ctx;
    struct apr_grid         wider;
    struct apr_sums         sums;  /* of the tensor that is being added up, as are these: */
    struct apr_digest       stored, values;
    uint64_t               *count;
    float                  *value; /* of each code */
};

/* The digest of what is stored, before its bytes: of a packed tensor what is beside the codes counts as well. */
static struct apr_digest begin_stored(const struct scan *s, const struct apr_tensor *t)
{
    struct apr_digest d = apr_digest_stored(t);
    size_t n = 0;
    const struct apr_tensor *const *const part = t->packed == NULL ? NULL : apr_packing_parts(s->packing, (size_t)(t - s->m->tensor), &n);
    for (size_t i = 1; i < n; i++)
        d = apr_digest_fold(d, apr_digest_fold(apr_digest_stored(part[i]), apr_digest_of(part[i]->data)));
    return d;
}

static struct apr_input input_of(const struct scan *s, const struct job *j) { return apr_input_of(s->run->kernels, s->m, j->t); }

/* ---- grids ---------------------------------------------------------------------------------------------------------- */

static struct apr_cut cut_sample(void *ctx, size_t i, unsigned mode)
{
    const struct scan *s = ctx;
    (void)mode;
    return (struct apr_cut){ s->job[i].way == BY_BINS, 1, s->job[i].way == BY_BINS ? APR_ALONE : 0, 0 };
}

/* The centre and the bins of a large tensor are chosen by 16 stretches, evenly spread. */
static enum apr_code make_sample(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct scan *s = ctx;
    const struct apr_grid none = { 0 };
    const struct apr_input in = input_of(s, &s->job[p->input]);
    struct reader *const r = scratch;
    const uint64_t all = (in.count + APR_STRETCH - 1) / APR_STRETCH, n = apr_min(all, SAMPLE_STRETCHES);
    struct apr_sums sums = apr_no_sums();
    uint64_t values = 0;
    (void)e;
    for (uint64_t k = 0; in.decodable && k < n; k++) {
        struct apr_moments m = apr_no_moments();
        const size_t now = read_values(r, &in, all / n * k);
        add_moments(r, &in, now, &none, &m);
        apr_sums_add_chunk(&sums, &m);
        values += now;
    }
    apr_window_rest(&r->window);
    *(struct apr_grid *)result = apr_grid_of(&sums, &none, values);
    return APR_OK;
}

static enum apr_code take_sample(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    const struct scan *s = ctx;
    (void)e;
    s->job[p->input].grid = *(const struct apr_grid *)result;
    return APR_OK;
}

/* ---- making --------------------------------------------------------------------------------------------------------- */

static void fold_chunks(struct apr_digest *stored, struct apr_digest *values, const struct chunks *c)
{
    for (size_t i = 0; i < c->nstored; i++)
        *stored = apr_digest_fold(*stored, c->stored[i]);
    for (size_t i = 0; i < c->nvalues; i++)
        *values = apr_digest_fold(*values, c->values[i]);
}

static void scan_small(const struct scan *s, const struct job *job, const struct apr_input *in, struct reader *r, struct scanned *row)
{
    *row = (struct scanned){ .t = job->t, .decodable = in->decodable };
    if (s->what & SCAN_HASH) {
        struct chunks c;
        row->hash = begin_stored(s, job->t);
        row->value_hash = apr_digest_values(job->t);
        read_chunks(r, in, SCAN_HASH, &job->grid, 0, job->nchunk, &c, NULL);
        fold_chunks(&row->hash, &row->value_hash, &c);
    }
    if ((s->what & SCAN_STATS) && row->decodable) {
        size_t n = 0;
        for (uint64_t stretch = 0, now; (now = read_values(r, in, stretch)) > 0; stretch++)
            for (size_t i = 0; i < now; i++)
                r->value[n++] = in->wide ? r->x.d[i] : (double)r->x.f[i];
        row->stats = apr_stats_of_values(r->value, r->value + SMALL_STRETCHES * APR_STRETCH, n);
    }
}

static struct apr_cut cut(void *ctx, size_t i, unsigned mode)
{
    const struct scan *s = ctx;
    const struct job *j = &s->job[i];
    (void)mode;
    if (j->way == BY_VALUES)
        return (struct apr_cut){ 1, 1, j->count, j->t->data.n };
    return (struct apr_cut){ j->nchunk, RUN_CHUNKS, APR_ALONE, j->t->data.n };
}

static enum apr_code make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct scan *s = ctx;
    const struct job *job = &s->job[p->input];
    const struct apr_input in = input_of(s, job);
    const unsigned what = p->mode == WIDER ? SCAN_STATS : s->what;
    struct reader *const r = scratch;
    (void)e;
    if (job->way == BY_VALUES) {
        scan_small(s, job, &in, r, result);
    } else {
        struct result *const into = result;
        if (what & SCAN_STATS)
            memset(into->count, 0, sizeof into->count);
        read_chunks(r, &in, what, p->mode == WIDER ? &s->wider : &job->grid, p->first, p->n, &into->chunks,
                    what & SCAN_STATS ? into->count : NULL);
    }
    apr_window_rest(&r->window);
    return APR_OK;
}

/* ---- taking --------------------------------------------------------------------------------------------------------- */

static void begin_tensor(struct scan *s, const struct apr_tensor *t)
{
    s->sums = apr_no_sums();
    s->stored = begin_stored(s, t);
    s->values = apr_digest_values(t);
    if (s->what & SCAN_STATS)
        memset(s->count, 0, APR_BINS * sizeof *s->count);
}

static enum apr_code take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    struct scan *s = ctx;
    const struct job *job = &s->job[p->input];
    if (job->way == BY_VALUES) {
        APR_TRY(apr_model_intact(s->m, e));
        return s->take(s->ctx, result, e);
    }
    const struct result *const from = result;
    if (p->first == 0)
        begin_tensor(s, job->t);
    apr_sums_add(&s->sums, &from->chunks.sums);
    fold_chunks(&s->stored, &s->values, &from->chunks);
    for (size_t i = 0; (s->what & SCAN_STATS) && i < APR_BINS; i++)
        s->count[i] += from->count[i];
    return APR_OK;
}

/* When the sample missed values far out, the tensor is read a second time, now that all of its range is known: for the spark, and for
 * percentiles that lie there. The others were told apart better the first time. */
static enum apr_code stats_of_bins(struct scan *s, struct apr_pass *pass, size_t i, uint64_t n, struct apr_stats *stats,
                                   struct apr_error *e)
{
    bool outside;
    *stats = apr_stats_of_bins(n, &s->sums, &s->job[i].grid, s->count, &outside);
    if (!outside)
        return APR_OK;
    const struct apr_stats first = *stats;
    s->wider = apr_grid_of(&s->sums, &s->job[i].grid, n);
    APR_TRY(apr_pass_again(pass, i, WIDER, e));
    *stats = apr_stats_of_bins(n, &s->sums, &s->wider, s->count, &outside);
    for (unsigned k = 0; k < APR_NPERCENTILES; k++)
        if (!isnan(first.percentile[k]))
            stats->percentile[k] = first.percentile[k];
    return APR_OK;
}

static struct apr_stats stats_of_codes(const struct scan *s, const struct apr_tensor *t)
{
    const size_t ncode = t->dtype->ncode;
    const bool words = ncode > 256;
    unsigned char code[512];
    for (size_t i = 0; i < ncode; i += 256) {
        for (size_t k = 0; k < 256; k++) {
            code[words ? 2 * k : k] = (unsigned char)k;
            if (words)
                code[2 * k + 1] = (unsigned char)(i >> 8);
        }
        s->run->kernels->decode[apr_dtype_id(t->dtype)](t->data.at, code, 256, s->value + i);
    }
    for (size_t i = 256; !words && i < 1024; i++) /* bytes are counted in four tables */
        s->count[i % 256] += s->count[i];
    return apr_stats_of_counts(s->value, s->count, ncode);
}

static enum apr_code done(void *ctx, struct apr_pass *pass, size_t i, struct apr_error *e)
{
    struct scan *s = ctx;
    const struct job *job = &s->job[i];
    if (job->way == BY_VALUES)
        return APR_OK;
    const struct apr_input in = input_of(s, job);
    struct scanned row = { .t = job->t, .decodable = in.decodable, .hash = s->stored, .value_hash = s->values };
    if ((s->what & SCAN_STATS) && row.decodable && job->way == BY_BINS)
        APR_TRY(stats_of_bins(s, pass, i, in.count, &row.stats, e));
    else if ((s->what & SCAN_STATS) && row.decodable)
        row.stats = stats_of_codes(s, &in.one);
    APR_TRY(apr_model_intact(s->m, e));
    return s->take(s->ctx, &row, e);
}

/* ---- all chosen tensors --------------------------------------------------------------------------------------------- */

static void enter(void *ctx, void *scratch)
{
    const struct scan *s = ctx;
    ((struct reader *)scratch)->window = apr_window_of(s->run);
}

static void leave(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(&((struct reader *)scratch)->window);
}

static void choose(struct scan *s, const struct inspection *x)
{
    for (size_t i = 0; i < s->m->ntensor; i++) {
        const struct apr_tensor *t = &s->m->tensor[i];
        if (!is_mine(x, t))
            continue;
        const struct apr_input in = apr_input_of(s->run->kernels, s->m, t);
        s->job[s->njob++] = (struct job){ .t = t, .nchunk = chunks_of(&in), .count = in.count, .way = way_of(&in) };
    }
}

enum apr_code scan_tensors(const struct inspection *x, unsigned what, scan_fn *take_row, void *ctx, struct apr_error *e)
{
    struct scan s = { .m = x->m, .packing = x->packing, .run = &x->o->cli.run, .what = what, .take = take_row, .ctx = ctx };
    s.job = malloc((x->m->ntensor + 1) * sizeof *s.job);
    s.count = malloc(APR_BINS * sizeof *s.count);
    s.value = malloc(APR_BINS * sizeof *s.value);
    enum apr_code code = s.job == NULL || s.count == NULL || s.value == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK)
        choose(&s, x);
    const struct apr_job sample = { .ctx = &s, .ninput = s.njob, .result = sizeof(struct apr_grid), .shared = sizeof(struct apr_grid),
                                    .scratch = sizeof(struct reader), .cut = cut_sample, .make = make_sample, .take = take_sample,
                                    .enter = enter, .leave = leave };
    const struct apr_job all = { .what = "reading", .ctx = &s, .ninput = s.njob, .shared = sizeof(struct scanned),
                                 .result = what & SCAN_STATS ? sizeof(struct result) : sizeof(struct chunks),
                                 .scratch = sizeof(struct reader), .cut = cut, .make = make, .take = take, .done = done, .enter = enter,
                                 .leave = leave };
    struct apr_run silent = x->o->cli.run;
    silent.progress = NULL;
    if (code == APR_OK && (what & SCAN_STATS))
        code = apr_pass(&silent, &sample, e);
    if (code == APR_OK)
        code = apr_pass(s.run, &all, e);
    if (code == APR_OK)
        code = apr_model_unchanged(x->m, e);
    free(s.job);
    free(s.count);
    free(s.value);
    return code;
}
