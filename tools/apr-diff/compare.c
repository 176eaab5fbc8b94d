#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chunk.h"
#include "diff.h"
#include "model.h"
#include "parallel.h"
#include "progress.h"
#include "source.h"

/* Work is cut into units: up to 16 chunks of one tensor, or up to 64 whole small ones. Sums are taken per chunk, added up within the
 * unit by rising index, and the units' sums by rising index in `take`: one order, whatever the threads do. */
#define UNIT_CHUNKS  16
#define GROUP_PAIRS  64
#define TILE         128u /* rows and columns of a tile of a matrix */
#define TILE_ROWS    64u  /* rows measured at once for --rows */
#define WINDOW_BYTES ((uint64_t)16 << 20) /* resident map pages, all threads together, each side */

struct unit {
    uint32_t pair, npair;
    uint64_t chunk, nchunk; /* npair 1: these chunks of it */
};

/* What a unit found out about one tensor. top has room for options.top elements. */
struct partial {
    struct sums  sums;
    bool         equal, differs, undecodable;
    size_t       ntop;
    struct worst top[];
};

struct compare {
    const struct options   *o;
    const struct apr_model *a, *b;
    const struct pair      *pair;
    struct unit            *unit;
    size_t                  nunit, partial_bytes;
    row_fn                 *take;
    void                   *ctx;
    bool                    shortcut;   /* equal bytes need no decoding */
    struct partial         *linear, *turned, *into;
    struct worst_row       *rows;
    size_t                  nrows;
};

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

static void add_sums(struct sums *to, const struct sums *s)
{
    to->ab += s->ab;
    to->aa += s->aa;
    to->bb += s->bb;
    to->d += s->d;
    to->dd += s->dd;
    to->identical += s->identical;
    to->small += s->small;
    to->medium += s->medium;
    to->large += s->large;
    to->nonfinite += s->nonfinite;
    if (s->max > to->max || (s->max == to->max && s->max_at < to->max_at)) {
        to->max = s->max;
        to->max_at = s->max_at;
    }
}

static struct sums folded(const struct apr_difference *d)
{
    return (struct sums){ .ab = apr_fold(d->ab), .aa = apr_fold(d->aa), .bb = apr_fold(d->bb), .d = apr_fold(d->d), .dd = apr_fold(d->dd),
                          .max = d->max, .max_at = d->max_at, .identical = d->identical, .small = d->small, .medium = d->medium,
                          .large = d->large, .nonfinite = d->nonfinite };
}

double cosine_of(const struct sums *s)
{
    if (s->aa == 0 || s->bb == 0)
        return s->aa == s->bb;
    const double product = s->aa * s->bb;
    const double cosine = isnormal(product) ? s->ab / sqrt(product) : s->ab / sqrt(s->aa) / sqrt(s->bb);
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

static bool is_worse(const struct worst *x, const struct worst *y)
{
    return x->diff > y->diff || (x->diff == y->diff && x->index < y->index);
}

static void add_worst(struct partial *p, size_t most, const struct worst *w)
{
    if (p->ntop == most && !is_worse(w, &p->top[most - 1]))
        return;
    size_t i = p->ntop < most ? p->ntop++ : most - 1;
    for (; i > 0 && is_worse(w, &p->top[i - 1]); i--)
        p->top[i] = p->top[i - 1];
    p->top[i] = *w;
}

/* index: of the first pair, in A; width, stride: after `width` pairs the index jumps to the next row, `stride` further on. */
static void collect_worst(struct partial *p, size_t most, const double *a, const double *b, size_t n, uint64_t index, size_t width,
                          uint64_t stride)
{
    for (size_t i = 0; i < n; i++) {
        const bool same = a[i] == b[i] || (isnan(a[i]) && isnan(b[i]));
        const double diff = isfinite(a[i]) && isfinite(b[i]) ? fabs(a[i] - b[i]) : INFINITY;
        if (!same)
            add_worst(p, most, &(struct worst){ index + i / width * stride + i % width, a[i], b[i], diff });
    }
}

static void add_partial(const struct compare *c, struct partial *to, const struct partial *p)
{
    add_sums(&to->sums, &p->sums);
    to->equal |= p->equal;
    to->differs |= p->differs;
    to->undecodable |= p->undecodable;
    for (size_t i = 0; i < p->ntop; i++)
        add_worst(to, (size_t)c->o->top, &p->top[i]);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

/* The bytes of a map that one thread has read and not yet let go of. */
struct window {
    struct apr_bytes     map;
    const unsigned char *from;
    size_t               most;
};

static struct window window_on(const struct compare *c, const struct apr_model *m, const struct apr_tensor *t, uint64_t first)
{
    const uint64_t share = WINDOW_BYTES / c->o->cli.run.threads;
    const size_t most = share < 65536 ? 65536 : share > 2 << 20 ? 2 << 20 : (size_t)share;
    return (struct window){ m->file[t->file]->map, apr_element_bytes(t, first, 0).at, most };
}

static void read_up_to(struct window *w, struct apr_bytes done, bool last)
{
    const size_t n = (size_t)(done.at + done.n - w->from);
    if (n < w->most && !last)
        return;
    apr_drop_behind(w->map, (struct apr_bytes){ w->from, n });
    w->from += n;
}

/* A C64 tensor is compared as twice as many F32: its real and imaginary parts. */
static struct apr_tensor as_reals(const struct apr_tensor *t)
{
    struct apr_tensor real = *t;
    if (t->dtype == &apr_dtypes[APR_C64]) {
        real.dtype = &apr_dtypes[APR_F32];
        real.count *= 2;
        real.row *= 2;
    }
    return real;
}

static bool same_encoding(const struct apr_tensor *a, const struct apr_tensor *b)
{
    const size_t head = a->dtype->head;
    return a->dtype == b->dtype && a->row == b->row && a->swapped == b->swapped && a->data.n == b->data.n &&
           (head == 0 || a->data.n == 0 || memcmp(a->data.at, b->data.at, head) == 0);
}

static void measure_piece(const struct compare *c, const struct apr_tensor *a, const struct apr_tensor *b, uint64_t at, size_t n,
                          uint64_t in_chunk, struct apr_difference *lanes, struct partial *p)
{
    const struct apr_kernels *k = c->o->cli.run.kernels;
    if (a->dtype->wide || b->dtype->wide || c->o->top > 0) {
        double x[APR_PIECE], y[APR_PIECE];
        apr_read_doubles(k, a, at, n, x);
        apr_read_doubles(k, b, at, n, y);
        k->difference_wide(x, y, n, in_chunk, lanes);
        if (c->o->top > 0)
            collect_worst(p, (size_t)c->o->top, x, y, n, at, n, 0);
    } else {
        float x[APR_PIECE], y[APR_PIECE];
        apr_read_floats(k, a, at, n, x);
        apr_read_floats(k, b, at, n, y);
        k->difference(x, y, n, in_chunk, lanes);
    }
}

/* Elements [first, end) of both, in linear order; first is a multiple of the chunk. */
static void measure_linear(const struct compare *c, const struct pair *pair, uint64_t first, uint64_t end, struct partial *p)
{
    const struct apr_tensor a = as_reals(pair->a), b = as_reals(pair->b);
    const bool encoded_alike = c->shortcut && same_encoding(&a, &b);
    const bool decodable = apr_decodable(c->o->cli.run.kernels, &a) && apr_decodable(c->o->cli.run.kernels, &b);
    struct window wa = window_on(c, c->a, &a, first), wb = window_on(c, c->b, &b, first);
    for (uint64_t chunk = first; chunk < end; chunk += APR_CHUNK) {
        const uint64_t n = apr_min(end - chunk, APR_CHUNK);
        const struct apr_bytes in_a = apr_element_bytes(&a, chunk, n), in_b = apr_element_bytes(&b, chunk, n);
        if (encoded_alike && memcmp(in_a.at, in_b.at, in_a.n) == 0) {
            p->equal = true;
            p->sums.identical += n;
        } else if (!decodable) {
            p->undecodable = true;
        } else {
            struct apr_difference lanes = { 0 };
            p->differs = true;
            for (uint64_t i = 0; i < n; i += APR_PIECE)
                measure_piece(c, &a, &b, chunk + i, (size_t)apr_min(n - i, APR_PIECE), i, &lanes, p);
            struct sums s = folded(&lanes);
            s.max_at += chunk;
            add_sums(&p->sums, &s);
        }
        read_up_to(&wa, in_a, chunk + n == end);
        read_up_to(&wb, in_b, chunk + n == end);
    }
}

/* ---- matrices, by tiles --------------------------------------------------------------------------------------------- */

/* Rows [row, row + h) and columns [col, col + w) of matrix A, and what belongs to them in B: the same linear positions, or the
 * transposed ones. */
static void read_tile(const struct compare *c, const struct pair *pair, bool turned, uint64_t row, size_t h, uint64_t col, size_t w,
                      double *a, double *b)
{
    const struct apr_kernels *k = c->o->cli.run.kernels;
    const uint64_t nrow = pair->a->dim[0], ncol = pair->a->dim[1];
    double column[TILE];
    for (size_t i = 0; i < h; i++) {
        apr_read_doubles(k, pair->a, (row + i) * ncol + col, w, a + i * w);
        if (!turned)
            apr_read_doubles(k, pair->b, (row + i) * ncol + col, w, b + i * w);
    }
    for (size_t j = 0; turned && j < w; j++) {
        apr_read_doubles(k, pair->b, (col + j) * nrow + row, h, column);
        for (size_t i = 0; i < h; i++)
            b[i * w + j] = column[i];
    }
}

/* Lets go of what reading columns of B, or rows of both, has mapped. */
static void drop_elements(const struct apr_model *m, const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    apr_drop_behind(m->file[t->file]->map, apr_element_bytes(t, first, n));
}

/* Unit i is a band of tiles: rows [i * TILE, (i + 1) * TILE) of A against columns of B. */
static enum apr_code measure_band(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct compare *c = ctx;
    const struct pair *pair = c->pair;
    const uint64_t nrow = pair->a->dim[0], ncol = pair->a->dim[1], row = i * TILE;
    const size_t h = (size_t)apr_min(TILE, nrow - row);
    double *buffer = malloc(2 * TILE * TILE * sizeof *buffer);
    struct partial *p = slot;
    if (buffer == NULL)
        return apr_no_memory(e);
    memset(p, 0, sizeof *p);
    for (uint64_t col = 0; col < ncol; col += TILE) {
        const size_t w = (size_t)apr_min(TILE, ncol - col);
        double *a = buffer, *b = buffer + TILE * TILE;
        struct apr_difference lanes = { 0 };
        read_tile(c, pair, true, row, h, col, w, a, b);
        c->o->cli.run.kernels->difference_wide(a, b, h * w, 0, &lanes);
        struct sums s = folded(&lanes);
        s.max_at = (row + s.max_at / w) * ncol + col + s.max_at % w;
        add_sums(&p->sums, &s);
        if (c->o->top > 0)
            collect_worst(p, (size_t)c->o->top, a, b, h * w, row * ncol + col, w, ncol);
        drop_elements(c->b, pair->b, col * nrow, w * nrow);
    }
    drop_elements(c->a, pair->a, row * ncol, h * ncol);
    p->differs = true;
    free(buffer);
    return APR_OK;
}

static enum apr_code take_band(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    struct compare *c = ctx;
    (void)i, (void)e;
    add_partial(c, c->into, slot);
    return APR_OK;
}

static enum apr_code measure_turned(struct compare *c, const struct pair *pair, struct apr_error *e)
{
    struct compare one = *c;
    one.pair = pair;
    one.into = c->turned;
    memset(c->turned, 0, sizeof *c->turned);
    return apr_ordered(&c->o->cli.run, (pair->a->dim[0] + TILE - 1) / TILE, c->partial_bytes, measure_band, take_band, &one, e);
}

/* ---- the worst rows ------------------------------------------------------------------------------------------------- */

struct row_job {
    struct compare *c;
    bool            turned;
};

static enum apr_code measure_rows(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct row_job *job = ctx;
    const struct compare *c = job->c;
    const struct pair *pair = c->pair;
    const uint64_t nrow = pair->a->dim[0], ncol = pair->a->dim[1], row = i * TILE_ROWS;
    const size_t h = (size_t)apr_min(TILE_ROWS, nrow - row);
    struct apr_difference *lanes = calloc(TILE_ROWS, sizeof *lanes);
    double *buffer = malloc(2 * TILE_ROWS * TILE * sizeof *buffer);
    struct worst_row *out = slot;
    if (lanes == NULL || buffer == NULL) {
        free(lanes);
        free(buffer);
        return apr_no_memory(e);
    }
    for (uint64_t col = 0; col < ncol; col += TILE) {
        const size_t w = (size_t)apr_min(TILE, ncol - col);
        double *a = buffer, *b = buffer + TILE_ROWS * TILE;
        read_tile(c, pair, job->turned, row, h, col, w, a, b);
        for (size_t r = 0; r < h; r++)
            c->o->cli.run.kernels->difference_wide(a + r * w, b + r * w, w, col, &lanes[r]);
        if (job->turned)
            drop_elements(c->b, pair->b, col * nrow, w * nrow);
    }
    drop_elements(c->a, pair->a, row * ncol, h * ncol);
    if (!job->turned)
        drop_elements(c->b, pair->b, row * ncol, h * ncol);
    for (size_t r = 0; r < h; r++) {
        const struct sums s = folded(&lanes[r]);
        out[r] = (struct worst_row){ row + r, s.nonfinite, ncol == 0 ? 0 : sqrt(s.dd / (double)ncol), s.max, cosine_of(&s) };
    }
    free(lanes);
    free(buffer);
    return APR_OK;
}

static bool is_worse_row(const struct worst_row *x, const struct worst_row *y)
{
    if (x->nonfinite != y->nonfinite)
        return x->nonfinite > y->nonfinite;
    return x->rmse > y->rmse || (x->rmse == y->rmse && x->row < y->row);
}

static enum apr_code take_rows(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    struct compare *c = ((struct row_job *)ctx)->c;
    const uint64_t h = apr_min(TILE_ROWS, c->pair->a->dim[0] - i * TILE_ROWS);
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
    struct compare one = *c;
    struct row_job job = { &one, turned };
    one.pair = pair;
    one.nrows = 0;
    const uint64_t n = (pair->a->dim[0] + TILE_ROWS - 1) / TILE_ROWS;
    const enum apr_code code = apr_ordered(&c->o->cli.run, n, TILE_ROWS * sizeof(struct worst_row), measure_rows, take_rows, &job, e);
    c->nrows = one.nrows;
    return code;
}

/* ---- units ---------------------------------------------------------------------------------------------------------- */

/* Values to compare, 0 when the two do not belong together. */
static uint64_t comparable_count(const struct pair *p)
{
    const struct apr_tensor a = as_reals(p->a), b = as_reals(p->b);
    return p->a->count == p->b->count && a.count == b.count ? a.count : 0;
}

static enum apr_code make_unit(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    const struct compare *c = ctx;
    const struct unit *u = &c->unit[i];
    (void)e;
    for (uint32_t k = 0; k < u->npair; k++) {
        const struct pair *pair = &c->pair[u->pair + k];
        struct partial *p = (struct partial *)((unsigned char *)slot + k * c->partial_bytes);
        const uint64_t count = comparable_count(pair), first = u->chunk * APR_CHUNK;
        memset(p, 0, sizeof *p);
        if (count > 0)
            measure_linear(c, pair, first, u->npair > 1 ? count : apr_min(count, first + u->nchunk * APR_CHUNK), p);
    }
    return APR_OK;
}

/* The whole of one tensor again, decoding what is equal too. */
static enum apr_code measure_again(struct compare *c, const struct pair *pair, struct apr_error *e)
{
    const uint64_t nchunk = (comparable_count(pair) + APR_CHUNK - 1) / APR_CHUNK, n = (nchunk + UNIT_CHUNKS - 1) / UNIT_CHUNKS;
    struct compare one = *c;
    one.unit = malloc((size_t)n * sizeof *one.unit);
    if (one.unit == NULL)
        return apr_no_memory(e);
    for (uint64_t i = 0; i < n; i++)
        one.unit[i] = (struct unit){ 0, 1, i * UNIT_CHUNKS, UNIT_CHUNKS };
    one.pair = pair;
    one.shortcut = false;
    one.into = c->linear;
    memset(c->linear, 0, sizeof *c->linear);
    const enum apr_code code = apr_ordered(&c->o->cli.run, n, c->partial_bytes, make_unit, take_band, &one, e);
    free(one.unit);
    return code;
}

/* ---- one finished tensor -------------------------------------------------------------------------------------------- */

static enum layout layout_of(const struct pair *p)
{
    const struct apr_tensor *a = p->a, *b = p->b;
    if (a->count != b->count || (comparable_count(p) == 0 && a->count > 0))
        return LAYOUT_INCOMPATIBLE;
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
    *r = (struct row){ .name = p->a->name, .name_b = p->b->name, .ndim_a = p->a->ndim, .ndim_b = p->b->ndim, .dtype_a = p->a->dtype->name,
                       .dtype_b = p->b->dtype->name, .layout = layout_of(p), .bytes = p->a->data.n + p->b->data.n,
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
    r->sqnr = p->sums.dd > 0 && p->sums.aa > 0 ? 10 * log10(p->sums.aa / p->sums.dd) : NAN;
    r->top = p->top;
    r->ntop = p->ntop;
}

static enum apr_code finish_pair(struct compare *c, const struct pair *pair, struct apr_error *e)
{
    struct row r;
    fill_row(&r, pair);
    const struct bounds *bounds = bounds_for(c->o, r.name, r.name_b);
    const bool matrix = pair->a->ndim == 2 && pair->b->ndim == 2 && pair->a->dtype != &apr_dtypes[APR_C64];
    APR_TRY(apr_model_intact(c->a, e));
    APR_TRY(apr_model_intact(c->b, e));
    if (c->linear->undecodable)
        r.error = "the values of this dtype cannot be decoded";
    if (was_compared(&r)) {
        if (c->linear->equal && c->linear->differs)
            APR_TRY(measure_again(c, pair, e));
        if (c->linear->equal && !c->linear->differs) /* nothing was decoded: any sum that is not zero stands for all of them */
            c->linear->sums.ab = c->linear->sums.aa = c->linear->sums.bb = 1;
        fill_numbers(&r, c->linear);
        const bool square = r.layout == LAYOUT_SAME && matrix && pair->a->dim[0] == pair->a->dim[1] && r.cosine < bounds->cosine;
        if (!c->o->no_transpose && matrix && (r.layout == LAYOUT_REVERSED || square)) {
            APR_TRY(measure_turned(c, pair, e));
            const double linear = r.cosine, turned = cosine_of(&c->turned->sums);
            if (turned > linear) {
                fill_numbers(&r, c->turned);
                r.layout = LAYOUT_TRANSPOSED;
            }
            r.cosine_linear = linear;
            r.cosine_transposed = turned;
        }
        if (c->o->rows > 0 && matrix && r.sums.identical < r.count) {
            APR_TRY(find_worst_rows(c, pair, r.layout == LAYOUT_TRANSPOSED, e));
            r.rows = c->rows;
            r.nrows = c->nrows;
        }
    }
    judge(&r, bounds);
    APR_TRY(apr_model_intact(c->a, e));
    APR_TRY(apr_model_intact(c->b, e));
    memset(c->linear, 0, sizeof *c->linear);
    return c->take(c->ctx, &r, e);
}

static enum apr_code take_unit(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    struct compare *c = ctx;
    const struct unit *u = &c->unit[i];
    for (uint32_t k = 0; k < u->npair; k++) {
        const struct pair *pair = &c->pair[u->pair + k];
        const uint64_t count = comparable_count(pair), first = u->chunk * APR_CHUNK;
        const uint64_t end = u->npair > 1 ? count : apr_min(count, first + u->nchunk * APR_CHUNK);
        add_partial(c, c->linear, (const struct partial *)((const unsigned char *)slot + k * c->partial_bytes));
        if (end > first) {
            const double bytes = (double)(pair->a->data.n + pair->b->data.n);
            apr_progress_add(c->o->cli.run.progress, (uint64_t)(bytes / (double)count * (double)(end - first)));
        }
        if (end == count)
            APR_TRY(finish_pair(c, pair, e));
    }
    return APR_OK;
}

static enum apr_code plan_units(struct compare *c, size_t npair, struct apr_error *e)
{
    const size_t group = c->o->top > 0 ? 1 : GROUP_PAIRS;
    size_t room = npair;
    for (size_t i = 0; i < npair; i++)
        room += (size_t)(comparable_count(&c->pair[i]) / APR_CHUNK / UNIT_CHUNKS);
    c->unit = malloc((room + 1) * sizeof *c->unit);
    if (c->unit == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < npair;) {
        const uint64_t nchunk = (comparable_count(&c->pair[i]) + APR_CHUNK - 1) / APR_CHUNK;
        uint64_t elements = 0;
        size_t n = 0;
        while (i + n < npair && n < group && elements + comparable_count(&c->pair[i + n]) <= UNIT_CHUNKS * APR_CHUNK)
            elements += comparable_count(&c->pair[i + n++]);
        if (n > 1) {
            c->unit[c->nunit++] = (struct unit){ (uint32_t)i, (uint32_t)n, 0, 0 };
            i += n;
            continue;
        }
        uint64_t chunk = 0;
        do {
            c->unit[c->nunit++] = (struct unit){ (uint32_t)i, 1, chunk, UNIT_CHUNKS };
            chunk += UNIT_CHUNKS;
        } while (chunk < nchunk);
        i++;
    }
    return APR_OK;
}

enum apr_code compare_pairs(const struct options *o, const struct apr_model *a, const struct apr_model *b, const struct pair *pair,
                            size_t npair, row_fn *take, void *ctx, struct apr_error *e)
{
    struct compare c = { .o = o, .a = a, .b = b, .pair = pair, .take = take, .ctx = ctx, .shortcut = true };
    uint64_t bytes = 0;
    c.partial_bytes = sizeof(struct partial) + (size_t)o->top * sizeof(struct worst);
    c.linear = calloc(1, c.partial_bytes);
    c.turned = calloc(1, c.partial_bytes);
    c.rows = malloc(((size_t)o->rows + 1) * sizeof *c.rows);
    enum apr_code code = c.linear == NULL || c.turned == NULL || c.rows == NULL ? apr_no_memory(e) : plan_units(&c, npair, e);
    for (size_t i = 0; i < npair; i++)
        bytes += pair[i].a->data.n + pair[i].b->data.n;
    apr_progress_begin(o->cli.run.progress, "comparing", bytes);
    if (code == APR_OK)
        code = apr_ordered(&o->cli.run, c.nunit, (o->top > 0 ? 1 : GROUP_PAIRS) * c.partial_bytes, make_unit, take_unit, &c, e);
    apr_progress_end(o->cli.run.progress);
    free(c.linear);
    free(c.turned);
    free(c.rows);
    free(c.unit);
    return code;
}
