#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "base/parallel.h"
#include "measure.h"
#include "model/model.h"
#include "ui/progress.h"

/* Work is cut into pieces: chunks of a tensor, or bands of tiles where B's columns lie along A's rows. A unit is up to 16 chunks, or one
 * band, or up to 64 whole small tensors. Sums are taken per piece, added up within the unit by rising index, and the units' sums by
 * rising index in `take`: one order, whatever the threads do. */
#define UNIT_CHUNKS 16
#define GROUP_PAIRS 64

/* Each thread holds a window of both files' pages, and a kernel maps whole folios around what is touched: more readers than this break
 * the promise of 64 MiB, and are not needed to be limited by memory. */
#define MOST_READERS 16

struct unit {
    uint32_t pair, npair;
    uint64_t first, n; /* npair 1: these pieces of it */
};

struct compare {
    const struct options *o;
    const struct apr_run *run;
    const struct models  *models;
    const struct pair    *pair;
    struct unit          *unit;
    size_t                nunit, partial_bytes;
    row_fn               *take;
    void                 *ctx;
    struct partial       *linear, *turned;
    struct worst_row     *rows;
    size_t                nrows;
};

double cosine_of(const struct sums *s)
{
    if (s->aa == 0 || s->bb == 0)
        return s->aa == s->bb;
    const double product = s->aa * s->bb;
    const double cosine = isnormal(product) ? s->ab / sqrt(product) : s->ab / sqrt(s->aa) / sqrt(s->bb);
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

static bool by_bands(const struct pair *p, bool turned) { return turned || (p->view != NULL && apr_view_strided(p->view)); }

static uint64_t rows_of(const struct pair *p)
{
    const uint64_t count = comparable_count(p), ncol = p->a->ndim == 0 ? 1 : p->a->dim[p->a->ndim - 1];
    return count == 0 ? 0 : count / ncol;
}

static uint64_t pieces_of(const struct pair *p, bool turned)
{
    return by_bands(p, turned) ? (rows_of(p) + TILE_ROWS - 1) / TILE_ROWS : (comparable_count(p) + APR_CHUNK - 1) / APR_CHUNK;
}

static uint64_t unit_pieces(const struct pair *p, bool turned) { return by_bands(p, turned) ? 1 : UNIT_CHUNKS; }

/* Pieces [first, first + n), as far as there are so many. */
static enum apr_code measure_pieces(const struct compare *c, const struct pair *pair, bool turned, bool shortcut, uint64_t first, uint64_t n,
                                    struct partial *p, struct apr_error *e)
{
    struct sides s;
    const uint64_t end = apr_min(first + n, pieces_of(pair, turned));
    memset(p, 0, sizeof *p);
    if (first >= end)
        return APR_OK;
    take_sides(&s, c->o, c->models, pair, turned);
    if (!by_bands(pair, turned)) {
        measure_linear(&s, first * APR_CHUNK, apr_min(end * APR_CHUNK, s.count), shortcut, p);
        return APR_OK;
    }
    double *buffer = malloc(TILE_BUFFER * sizeof *buffer);
    if (buffer == NULL)
        return apr_no_memory(e);
    for (uint64_t i = first; i < end; i++)
        measure_band(&s, i * TILE_ROWS, (size_t)apr_min(TILE_ROWS, s.nrow - i * TILE_ROWS), buffer, p);
    free(buffer);
    return APR_OK;
}

/* ---- one tensor once more ------------------------------------------------------------------------------------------- */

struct again {
    const struct compare *c;
    const struct pair    *pair;
    bool                  turned;
    struct partial       *into;
};

static enum apr_code make_again(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct again *a = ctx;
    const uint64_t n = unit_pieces(a->pair, a->turned);
    return measure_pieces(a->c, a->pair, a->turned, false, i * n, n, slot, e);
}

static enum apr_code take_again(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct again *a = ctx;
    (void)i, (void)e;
    add_partial(a->into, slot, (size_t)a->c->o->top);
    return APR_OK;
}

/* The whole of one tensor, decoding what is equal too; turned: against the transpose. */
static enum apr_code measure_again(const struct compare *c, const struct pair *pair, bool turned, struct partial *into, struct apr_error *e)
{
    struct again a = { c, pair, turned, into };
    const uint64_t n = unit_pieces(pair, turned);
    memset(into, 0, sizeof *into);
    return apr_ordered(c->run, (pieces_of(pair, turned) + n - 1) / n, c->partial_bytes, make_again, take_again, &a, e);
}

/* ---- the worst rows ------------------------------------------------------------------------------------------------- */

struct row_job {
    struct compare    *c;
    const struct pair *pair;
    bool               turned;
};

static enum apr_code make_rows(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct row_job *job = ctx;
    struct worst_row *out = slot;
    struct sides s;
    take_sides(&s, job->c->o, job->c->models, job->pair, job->turned);
    const uint64_t row = i * TILE_ROWS;
    const size_t h = (size_t)apr_min(TILE_ROWS, s.nrow - row);
    struct apr_difference *lanes = calloc(TILE_ROWS, sizeof *lanes);
    double *buffer = malloc(TILE_BUFFER * sizeof *buffer);
    const enum apr_code code = lanes == NULL || buffer == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK)
        measure_rows(&s, row, h, buffer, lanes);
    for (size_t r = 0; code == APR_OK && r < h; r++) {
        const struct sums sums = folded(&lanes[r]);
        out[r] = (struct worst_row){ row + r, sums.nonfinite, sqrt(sums.dd / (double)s.ncol), sums.max, cosine_of(&sums) };
    }
    free(lanes);
    free(buffer);
    return code;
}

static bool is_worse_row(const struct worst_row *x, const struct worst_row *y)
{
    if (x->nonfinite != y->nonfinite)
        return x->nonfinite > y->nonfinite;
    return x->rmse > y->rmse || (x->rmse == y->rmse && x->row < y->row);
}

static enum apr_code take_rows(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct row_job *job = ctx;
    struct compare *c = job->c;
    const uint64_t h = apr_min(TILE_ROWS, rows_of(job->pair) - i * TILE_ROWS);
    const struct worst_row *row = slot;
    const size_t most = (size_t)c->o->rows;
    (void)e;
    for (size_t r = 0; r < h; r++) {
        if ((row[r].rmse == 0 && row[r].nonfinite == 0) || (c->nrows == most && !is_worse_row(&row[r], &c->rows[most - 1])))
            continue;
        size_t k = c->nrows < most ? c->nrows++ : most - 1;
        for (; k > 0 && is_worse_row(&row[r], &c->rows[k - 1]); k--)
            c->rows[k] = c->rows[k - 1];
        c->rows[k] = row[r];
    }
    return APR_OK;
}

static enum apr_code find_worst_rows(struct compare *c, const struct pair *pair, bool turned, struct apr_error *e)
{
    struct row_job job = { c, pair, turned };
    c->nrows = 0;
    return apr_ordered(c->run, (rows_of(pair) + TILE_ROWS - 1) / TILE_ROWS, TILE_ROWS * sizeof(struct worst_row), make_rows, take_rows, &job, e);
}

/* ---- one finished tensor -------------------------------------------------------------------------------------------- */

static enum layout layout_of(const struct pair *p)
{
    const struct apr_tensor *a = p->a, *b = p->b;
    if (p->problem != NULL || (comparable_count(p) == 0 && (a->count > 0 || b->count > 0)))
        return LAYOUT_INCOMPATIBLE;
    if (p->view != NULL)
        return LAYOUT_SAME;
    if (a->ndim == b->ndim && memcmp(a->dim, b->dim, a->ndim * sizeof *a->dim) == 0)
        return LAYOUT_SAME;
    return a->ndim == 2 && b->ndim == 2 && a->dim[0] == b->dim[1] && a->dim[1] == b->dim[0] ? LAYOUT_REVERSED : LAYOUT_RESHAPED;
}

static enum status status_of(const struct row *r)
{
    static const double bound[] = { 0.001, 0.01, 0.1, 1 };
    const double max = r->sums.max;
    unsigned i = 0;
    if (!was_compared(r) || r->sums.nonfinite > 0)
        return STATUS_CRITICAL;
    if (r->layout == LAYOUT_TRANSPOSED && max < 0.1)
        return STATUS_TRANSPOSED;
    if (max == 0)
        return STATUS_IDENTICAL;
    while (i < APR_LENGTH(bound) && !(max < bound[i]))
        i++;
    return (enum status)(STATUS_NEARLY + i);
}

static void judge(struct row *r, const struct bounds *bounds)
{
    const bool compared = was_compared(r);
    r->status = status_of(r);
    r->ignored = bounds->ignore;
    r->below = !r->ignored && compared && !(r->cosine >= bounds->cosine);
    r->pass = r->ignored || (compared && !r->below && r->sums.nonfinite == 0 && r->sums.max <= bounds->max_abs && r->rmse <= bounds->rmse);
}

static void fill_row(struct row *r, const struct pair *p)
{
    *r = (struct row){ .name = p->name, .name_b = p->b->name, .ndim_a = p->a->ndim, .ndim_b = p->b->ndim, .dtype_a = p->a->dtype->name,
                       .dtype_b = p->b->dtype->name, .pair = p, .transform = p->transform, .problem = p->problem, .layout = layout_of(p),
                       .cosine = NAN, .cosine_linear = NAN, .cosine_transposed = NAN, .rmse = NAN, .mean = NAN, .sqnr = NAN };
    memcpy(r->dim_a, p->a->dim, sizeof r->dim_a);
    memcpy(r->dim_b, p->b->dim, sizeof r->dim_b);
    r->count = r->layout == LAYOUT_INCOMPATIBLE ? p->a->count : comparable_count(p);
}

static void fill_numbers(struct row *r, const struct partial *p)
{
    const double n = r->count == 0 ? 1 : (double)r->count;
    r->sums = p->sums;
    r->cosine = cosine_of(&p->sums);
    r->mean = p->sums.d / n;
    r->rmse = sqrt(p->sums.dd / n);
    r->sqnr = p->sums.dd > 0 && p->sums.aa > 0 ? 10 * apr_log10(p->sums.aa / p->sums.dd) : NAN;
    r->top = p->top;
    r->ntop = p->ntop;
}

static enum apr_code finish_pair(struct compare *c, const struct pair *pair, struct apr_error *e)
{
    struct row r;
    fill_row(&r, pair);
    const struct bounds *bounds;
    APR_TRY(find_rule(&c->o->rules, pair->a->name, r.name_b, &bounds, e));
    if (bounds == NULL)
        bounds = &c->o->bounds;
    const bool matrix = pair->a->ndim == 2 && pair->b->ndim == 2 && pair->view == NULL && pair->a->dtype->pair == NULL;
    APR_TRY(apr_model_intact(c->models->a, e));
    APR_TRY(apr_model_intact(c->models->b, e));
    if (c->linear->undecodable)
        r.error = "the values of this dtype cannot be decoded";
    if (was_compared(&r)) {
        if (c->linear->equal && c->linear->differs)
            APR_TRY(measure_again(c, pair, false, c->linear, e));
        if (c->linear->equal && !c->linear->differs) /* nothing was decoded: any sum that is not zero stands for all of them */
            c->linear->sums.ab = c->linear->sums.aa = c->linear->sums.bb = 1;
        fill_numbers(&r, c->linear);
        const bool square = r.layout == LAYOUT_SAME && matrix && pair->a->dim[0] == pair->a->dim[1] && r.cosine < bounds->cosine;
        if (!c->o->no_transpose && matrix && (r.layout == LAYOUT_REVERSED || square)) {
            APR_TRY(measure_again(c, pair, true, c->turned, e));
            const double linear = r.cosine, turned = cosine_of(&c->turned->sums);
            if (turned > linear) {
                fill_numbers(&r, c->turned);
                r.layout = LAYOUT_TRANSPOSED;
            }
            r.cosine_linear = linear;
            r.cosine_transposed = turned;
        }
        if (c->o->rows > 0 && pair->a->ndim == 2 && pair->a->dtype->pair == NULL && r.sums.identical < r.count) {
            APR_TRY(find_worst_rows(c, pair, r.layout == LAYOUT_TRANSPOSED, e));
            r.rows = c->rows;
            r.nrows = c->nrows;
        }
    }
    judge(&r, bounds);
    APR_TRY(apr_model_intact(c->models->a, e));
    APR_TRY(apr_model_intact(c->models->b, e));
    memset(c->linear, 0, sizeof *c->linear);
    return c->take(c->ctx, &r, e);
}

/* ---- units ---------------------------------------------------------------------------------------------------------- */

static struct partial *partial_of(const struct compare *c, void *slot, size_t i) { return (struct partial *)((unsigned char *)slot + i * c->partial_bytes); }

static enum apr_code make_unit(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct compare *c = ctx;
    const struct unit *u = &c->unit[i];
    for (uint32_t k = 0; k < u->npair; k++) {
        const struct pair *pair = &c->pair[u->pair + k];
        APR_TRY(measure_pieces(c, pair, false, true, u->first, u->npair > 1 ? pieces_of(pair, false) : u->n, partial_of(c, slot, k), e));
    }
    return APR_OK;
}

static uint64_t stored_bytes(const struct pair *p) { return p->a->data.n + (p->view == NULL ? p->b->data.n : p->a->data.n); }

static enum apr_code take_unit(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    struct compare *c = ctx;
    const struct unit *u = &c->unit[i];
    for (uint32_t k = 0; k < u->npair; k++) {
        const struct pair *pair = &c->pair[u->pair + k];
        const uint64_t all = pieces_of(pair, false), end = u->npair > 1 ? all : apr_min(all, u->first + u->n);
        add_partial(c->linear, partial_of(c, slot, k), (size_t)c->o->top);
        if (end > u->first)
            apr_progress_add(c->o->cli.run.progress, (uint64_t)((double)stored_bytes(pair) / (double)all * (double)(end - u->first)));
        if (end == all)
            APR_TRY(finish_pair(c, pair, e));
    }
    return APR_OK;
}

static enum apr_code plan_units(struct compare *c, size_t npair, struct apr_error *e)
{
    const size_t group = c->o->top > 0 ? 1 : GROUP_PAIRS;
    size_t room = npair;
    for (size_t i = 0; i < npair; i++)
        room += (size_t)(pieces_of(&c->pair[i], false) / unit_pieces(&c->pair[i], false));
    c->unit = malloc((room + 1) * sizeof *c->unit);
    if (c->unit == NULL)
        return apr_no_memory(e);
    for (size_t i = 0, n; i < npair; i += n) {
        uint64_t elements = 0;
        for (n = 0; i + n < npair && n < group && elements + comparable_count(&c->pair[i + n]) <= UNIT_CHUNKS * APR_CHUNK; n++)
            elements += comparable_count(&c->pair[i + n]);
        if (n > 1) {
            c->unit[c->nunit++] = (struct unit){ (uint32_t)i, (uint32_t)n, 0, 0 };
            continue;
        }
        n = 1;
        const uint64_t all = pieces_of(&c->pair[i], false), each = unit_pieces(&c->pair[i], false);
        uint64_t first = 0;
        do {
            c->unit[c->nunit++] = (struct unit){ (uint32_t)i, 1, first, each };
            first += each;
        } while (first < all);
    }
    return APR_OK;
}

enum apr_code compare_pairs(const struct options *o, const struct models *models, const struct pair *pair, size_t npair, row_fn *take, void *ctx,
                            struct apr_error *e)
{
    struct apr_run run = o->cli.run;
    run.threads = (unsigned)apr_min(run.threads, MOST_READERS);
    struct compare c = { .o = o, .run = &run, .models = models, .pair = pair, .take = take, .ctx = ctx };
    uint64_t bytes = 0;
    c.partial_bytes = sizeof(struct partial) + (size_t)o->top * sizeof(struct worst);
    c.linear = calloc(1, c.partial_bytes);
    c.turned = calloc(1, c.partial_bytes);
    c.rows = malloc(((size_t)o->rows + 1) * sizeof *c.rows);
    enum apr_code code = c.linear == NULL || c.turned == NULL || c.rows == NULL ? apr_no_memory(e) : plan_units(&c, npair, e);
    for (size_t i = 0; i < npair; i++)
        bytes += stored_bytes(&pair[i]);
    apr_progress_begin(o->cli.run.progress, "comparing", bytes);
    if (code == APR_OK)
        code = apr_ordered(&run, c.nunit, (o->top > 0 ? 1 : GROUP_PAIRS) * c.partial_bytes, make_unit, take_unit, &c, e);
    apr_progress_end(o->cli.run.progress);
    free(c.linear);
    free(c.turned);
    free(c.rows);
    free(c.unit);
    return code;
}
