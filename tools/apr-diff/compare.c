#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "flow/pass.h"
#include "measure.h"
#include "model/model.h"

/* A piece is a chunk of a tensor, or a band of tiles where B's columns lie along A's rows. Sums are taken per piece and added up by rising
 * index, within a unit of work and then in `take`: one order, whatever the threads do. */
#define UNIT_CHUNKS 16

/* What a pair is read for: to be compared, first with a shortcut where bytes are equal; against some of B's transpose, and all of it; for
 * its worst rows, of either. */
enum mode { FIRST, DECODED, SAMPLE, TURNED, ROWS, ROWS_TURNED };

#define LEAST_TURNED  0.9 /* the cosine from which on a square is taken as a transpose */
#define LEAST_SAMPLED 0.5 /* that of a sample of it, below which the whole cannot reach that */

struct compare {
    const struct options *o;
    const struct models  *models;
    const struct pair    *pair;
    row_fn               *take;
    void                 *ctx;
    struct partial       *linear, *turned; /* of the pair that is being taken, as are these: */
    struct worst_row     *rows;
    size_t                nrows;
};

double cosine_of(const struct sums *s) { return apr_cosine(s->ab, s->aa, s->bb); }

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

static bool is_turned(unsigned mode) { return mode == SAMPLE || mode == TURNED || mode == ROWS_TURNED; }

static uint64_t stored_bytes(const struct pair *p) { return p->a->data.n + (p->view == NULL ? p->b->data.n : p->a->data.n); }

static struct apr_cut cut(void *ctx, size_t i, unsigned mode)
{
    const struct compare *c = ctx;
    const struct pair *p = &c->pair[i];
    const uint64_t count = comparable_count(p), bytes = stored_bytes(p);
    if (mode == SAMPLE)
        return (struct apr_cut){ 1, 1, SAMPLED, 0 };
    if (mode < SAMPLE && (p->view == NULL || !apr_view_strided(p->view)))
        return (struct apr_cut){ (count + APR_CHUNK - 1) / APR_CHUNK, UNIT_CHUNKS, count, bytes };
    const uint64_t ncol = p->ndim == 0 ? 1 : p->dim[p->ndim - 1], nrow = count == 0 ? 0 : count / ncol;
    return (struct apr_cut){ (nrow + TILE_ROWS - 1) / TILE_ROWS, 1, count, bytes };
}

static void make_rows(const struct sides *s, struct scratch *own, uint64_t row, size_t h, struct worst_row *out)
{
    measure_rows(s, own, row, h);
    for (size_t r = 0; r < h; r++) {
        const struct sums sums = folded(&own->lanes[r]);
        out[r] = (struct worst_row){ row + r, sums.nonfinite, sqrt(sums.dd / (double)s->a.ncol), sums.max, cosine_of(&sums) };
    }
}

static enum apr_code make(void *ctx, const struct apr_pieces *pieces, void *scratch, void *result, struct apr_error *e)
{
    const struct compare *c = ctx;
    const struct pair *pair = &c->pair[pieces->input];
    const struct sides s = sides_of(c->o, c->models, pair, is_turned(pieces->mode));
    const bool sample = pieces->mode == SAMPLE, bands = pieces->mode > SAMPLE || (!sample && s.b.strided);
    struct scratch *const own = scratch;
    struct partial *const p = result;
    (void)e;
    if (pieces->mode < ROWS)
        memset(p, 0, sizeof *p);
    if (sample)
        measure_sample(&s, own, p);
    else if (!bands)
        measure_linear(&s, own, pieces->first * APR_CHUNK, apr_min((pieces->first + pieces->n) * APR_CHUNK, comparable_count(pair)),
                       pieces->mode == FIRST, p);
    for (uint64_t i = pieces->first; bands && i < pieces->first + pieces->n; i++) {
        const uint64_t row = i * TILE_ROWS;
        const size_t h = (size_t)apr_min(TILE_ROWS, s.a.nrow - row);
        if (pieces->mode < ROWS)
            measure_band(&s, own, row, h, p);
        else
            make_rows(&s, own, row, h, result);
    }
    apr_window_rest(&own->a);
    apr_window_rest(&own->b);
    return APR_OK;
}

static bool is_worse_row(const struct worst_row *x, const struct worst_row *y)
{
    if (x->nonfinite != y->nonfinite)
        return x->nonfinite > y->nonfinite;
    return x->rmse > y->rmse || (x->rmse == y->rmse && x->row < y->row);
}

static void keep_worst_rows(struct compare *c, const struct worst_row *row, size_t n)
{
    const size_t most = (size_t)c->o->rows;
    for (size_t r = 0; r < n; r++) {
        if ((row[r].rmse == 0 && row[r].nonfinite == 0) || (c->nrows == most && !is_worse_row(&row[r], &c->rows[most - 1])))
            continue;
        size_t k = c->nrows < most ? c->nrows++ : most - 1;
        for (; k > 0 && is_worse_row(&row[r], &c->rows[k - 1]); k--)
            c->rows[k] = c->rows[k - 1];
        c->rows[k] = row[r];
    }
}

static enum apr_code take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    struct compare *c = ctx;
    (void)e;
    if (p->mode < ROWS)
        add_partial(is_turned(p->mode) ? c->turned : c->linear, result, (size_t)c->o->top);
    else
        keep_worst_rows(c, result, (size_t)apr_min(TILE_ROWS, c->pair[p->input].dim[0] - p->first * TILE_ROWS));
    return APR_OK;
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

static bool is_square(const struct row *r) { return r->ndim_a == 2 && r->dim_a[0] == r->dim_a[1]; }

/* The bounds that the row breaks. That a square is transposed is told by nothing but its values. */
static unsigned failures_of(const struct row *r, const struct bounds *bounds, bool transpose_aware)
{
    if (bounds->ignore || r->layout == LAYOUT_INCOMPATIBLE || r->error != NULL)
        return bounds->ignore ? 0 : r->error == NULL ? 1u << FAILED_SHAPE : 1u << FAILED_VALUES;
    const bool broken[NFAILURES] = {
        [FAILED_COSINE] = apr_is_unlike(r->cosine, r->sums.max, bounds->cosine, scale_allowed(bounds)),
        [FAILED_SCALE] = apr_is_scaled(r->norm_ratio, scale_allowed(bounds)),
        [FAILED_SQNR] = r->sums.dd > 0 && bounds->sqnr > -INFINITY && !(r->sqnr >= bounds->sqnr),
        [FAILED_MAX_ABS] = !(r->sums.max <= bounds->max_abs),
        [FAILED_RMSE] = !(r->rmse <= bounds->rmse),
        [FAILED_NONFINITE] = r->sums.nonfinite > 0,
        [FAILED_LAYOUT] = r->layout == LAYOUT_TRANSPOSED && is_square(r) && !transpose_aware,
    };
    unsigned failed = 0;
    for (unsigned i = 0; i < NFAILURES; i++)
        failed |= (unsigned)broken[i] << i;
    return failed;
}

static void judge(struct row *r, const struct bounds *bounds, bool transpose_aware)
{
    r->status = status_of(r);
    r->ignored = bounds->ignore;
    r->failed = failures_of(r, bounds, transpose_aware);
    r->below = r->failed >> FAILED_COSINE & 1;
    r->pass = r->failed == 0;
}

static void fill_row(struct row *r, const struct pair *p)
{
    *r = (struct row){ .name = p->name, .name_b = p->b->name, .ndim_a = p->a->ndim, .ndim_b = p->b->ndim, .dtype_a = p->a->dtype->name,
                       .dtype_b = p->b->dtype->name, .pair = p, .transform = p->transform, .problem = p->problem, .layout = layout_of(p),
                       .cosine = NAN, .cosine_linear = NAN, .cosine_transposed = NAN, .rmse = NAN, .mean = NAN, .sqnr = NAN, .norm_ratio = NAN };
    memcpy(r->dim_a, p->a->dim, sizeof r->dim_a);
    memcpy(r->dim_b, p->b->dim, sizeof r->dim_b);
    r->left_out = p->left_out;
    r->count = r->layout == LAYOUT_INCOMPATIBLE ? p->a->count : comparable_count(p);
}

/* Places are counted in A as it is stored. */
static void fill_numbers(struct row *r, struct partial *p)
{
    const uint64_t before = r->pair->before;
    const double n = r->count == 0 ? 1 : (double)r->count;
    r->sums = p->sums;
    r->sums.max_at += before;
    for (size_t i = 0; i < p->ntop; i++)
        p->top[i].index += before;
    r->cosine = cosine_of(&p->sums);
    r->norm_ratio = apr_norm_ratio(p->sums.aa, p->sums.bb);
    r->mean = p->sums.d / n;
    r->rmse = sqrt(p->sums.dd / n);
    r->sqnr = p->sums.dd > 0 && p->sums.aa > 0 ? 10 * apr_log10(p->sums.aa / p->sums.dd) : NAN;
    r->top = p->top;
    r->ntop = p->ntop;
}

static bool is_real_matrix(const struct apr_tensor *t) { return t->ndim == 2 && t->dtype->pair == NULL; }

/* Is B to be tried transposed: where shapes say so, and where a square matrix is too far from A as it lies? */
static bool wants_transpose(const struct compare *c, const struct pair *pair, const struct row *r, const struct bounds *bounds)
{
    const struct apr_tensor *a = pair->a;
    if (c->o->no_transpose || pair->view != NULL || !is_real_matrix(a) || pair->b->ndim != 2)
        return false;
    return r->layout == LAYOUT_REVERSED || (r->layout == LAYOUT_SAME && a->dim[0] == a->dim[1] && r->cosine < bounds->cosine);
}

/* Can the transpose of a square reach the cosine from which on it is taken? A sample says so, of what is more than that. */
static enum apr_code may_be_transposed(struct compare *c, struct apr_pass *pass, size_t i, const struct row *r, bool *yes, struct apr_error *e)
{
    *yes = r->layout == LAYOUT_REVERSED || r->count <= SAMPLED;
    if (*yes)
        return APR_OK;
    memset(c->turned, 0, sizeof *c->turned);
    APR_TRY(apr_pass_again(pass, i, SAMPLE, e));
    const struct sums *s = &c->turned->sums;
    *yes = s->aa == 0 || s->bb == 0 || !(cosine_of(s) < LEAST_SAMPLED);
    return APR_OK;
}

static enum apr_code fill_transposed(struct compare *c, struct apr_pass *pass, size_t i, struct row *r, struct apr_error *e)
{
    bool may;
    APR_TRY(may_be_transposed(c, pass, i, r, &may, e));
    if (!may)
        return APR_OK;
    memset(c->turned, 0, sizeof *c->turned);
    APR_TRY(apr_pass_again(pass, i, TURNED, e));
    const double linear = r->cosine, turned = cosine_of(&c->turned->sums);
    if (turned > linear && (r->layout == LAYOUT_REVERSED || turned >= LEAST_TURNED)) {
        fill_numbers(r, c->turned);
        r->layout = LAYOUT_TRANSPOSED;
    }
    r->cosine_linear = linear;
    r->cosine_transposed = turned;
    return APR_OK;
}

static uint64_t pair_rows_before(const struct pair *p) { return p->before == 0 ? 0 : p->before / (p->dim[p->ndim - 1]); }

static enum apr_code fill_worst_rows(struct compare *c, struct apr_pass *pass, size_t i, struct row *r, struct apr_error *e)
{
    c->nrows = 0;
    APR_TRY(apr_pass_again(pass, i, r->layout == LAYOUT_TRANSPOSED ? ROWS_TURNED : ROWS, e));
    for (size_t k = 0; k < c->nrows; k++)
        c->rows[k].row += pair_rows_before(&c->pair[i]);
    r->rows = c->rows;
    r->nrows = c->nrows;
    return APR_OK;
}

static enum apr_code fill_compared(struct compare *c, struct apr_pass *pass, size_t i, struct row *r, const struct bounds *bounds,
                                   struct apr_error *e)
{
    const struct pair *pair = &c->pair[i];
    if (c->linear->equal && c->linear->differs) {
        memset(c->linear, 0, sizeof *c->linear);
        APR_TRY(apr_pass_again(pass, i, DECODED, e));
    } else if (c->linear->equal) { /* nothing was decoded: any sum that is not zero stands for all of them */
        c->linear->sums.ab = c->linear->sums.aa = c->linear->sums.bb = 1;
    }
    fill_numbers(r, c->linear);
    if (wants_transpose(c, pair, r, bounds))
        APR_TRY(fill_transposed(c, pass, i, r, e));
    if (c->o->rows > 0 && is_real_matrix(pair->a) && r->sums.identical < r->count)
        APR_TRY(fill_worst_rows(c, pass, i, r, e));
    return APR_OK;
}

static enum apr_code are_intact(const struct compare *c, struct apr_error *e)
{
    APR_TRY(apr_model_intact(c->models->a, e));
    return apr_model_intact(c->models->b, e);
}

/* The first rule that names the row's tensor or a part that it meets; those of all rows where there is none. */
static enum apr_code bounds_of(const struct compare *c, const struct pair *p, const struct bounds **bounds, struct apr_error *e)
{
    size_t n;
    const struct apr_tensor *const *const part = parts_met(p, &n);
    const struct bounds *one;
    *bounds = NULL;
    for (size_t i = 0; i < n; i++) {
        APR_TRY(find_rule(&c->o->rules, p->a->name, part[i]->name, &one, e));
        if (one != NULL && (*bounds == NULL || one < *bounds))
            *bounds = one;
    }
    *bounds = *bounds == NULL ? &c->o->bounds : *bounds;
    return APR_OK;
}

static enum apr_code done(void *ctx, struct apr_pass *pass, size_t i, struct apr_error *e)
{
    struct compare *c = ctx;
    const struct pair *pair = &c->pair[i];
    const struct bounds *bounds;
    struct row r;
    fill_row(&r, pair);
    APR_TRY(bounds_of(c, pair, &bounds, e));
    APR_TRY(are_intact(c, e));
    if (c->linear->undecodable)
        r.error = "the values of this dtype cannot be decoded";
    if (was_compared(&r))
        APR_TRY(fill_compared(c, pass, i, &r, bounds, e));
    judge(&r, bounds, c->o->transpose_aware);
    APR_TRY(are_intact(c, e));
    memset(c->linear, 0, sizeof *c->linear);
    return c->take(c->ctx, &r, e);
}

/* ---- all pairs ------------------------------------------------------------------------------------------------------ */

static void enter(void *ctx, void *scratch)
{
    const struct compare *c = ctx;
    struct scratch *const own = scratch;
    own->a = own->b = apr_window_of(&c->o->cli.run);
}

static void leave(void *ctx, void *scratch)
{
    struct scratch *const own = scratch;
    (void)ctx;
    apr_window_drop(&own->a);
    apr_window_drop(&own->b);
}

enum apr_code models_unchanged(const struct models *models, struct apr_error *e)
{
    APR_TRY(apr_model_unchanged(models->a, e));
    return apr_model_unchanged(models->b, e);
}

enum apr_code compare_pairs(const struct options *o, const struct models *models, const struct pair *pair, size_t npair, row_fn *take_row, void *ctx,
                            struct apr_error *e)
{
    struct compare c = { .o = o, .models = models, .pair = pair, .take = take_row, .ctx = ctx };
    const size_t partial = sizeof(struct partial) + (size_t)o->top * sizeof(struct worst), rows = TILE_ROWS * sizeof(struct worst_row);
    const struct apr_job job = { .what = "comparing", .ctx = &c, .ninput = npair, .result = partial > rows ? partial : rows,
                                 .shared = o->top > 0 ? 0 : partial, .scratch = sizeof(struct scratch), .cut = cut, .make = make,
                                 .take = take, .done = done, .enter = enter, .leave = leave };
    c.linear = calloc(1, partial);
    c.turned = calloc(1, partial);
    c.rows = malloc(((size_t)o->rows + 1) * sizeof *c.rows);
    enum apr_code code = c.linear == NULL || c.turned == NULL || c.rows == NULL ? apr_no_memory(e) : apr_pass(&o->cli.run, &job, e);
    if (code == APR_OK)
        code = models_unchanged(models, e);
    free(c.linear);
    free(c.turned);
    free(c.rows);
    return code;
}
