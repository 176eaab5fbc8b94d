#include "flow/trial.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "flow/pass.h"
#include "values/dtype.h"

#define PIECE 32768u /* elements, but at least a row: values and blocks of it fit L2 */
#define MOST_DTYPES 64u

struct trying {
    const struct apr_trials *t;
    const struct apr_run    *r;
};

/* What a thread tries with. largest: the magnitude of what is in x */
struct bench {
    struct apr_window window;
    float             largest;
    unsigned char     blocks[APR_LONGEST_TRIED * sizeof(float)];
    float             x[APR_LONGEST_TRIED];
    float             line[APR_STRETCH];
    double            wide_line[APR_STRETCH];
};

/* Lanes of a sum: a row's element i goes to lane i % 16. */
struct lanes {
    double squares[APR_LANES], weighted[APR_LANES];
};

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

bool apr_can_try(const struct apr_kernels *k, const struct apr_dtype *d, uint64_t ncol, bool importance)
{
    const enum apr_dtype_id id = apr_dtype_id(d);
    return d->head == 0 && !d->wide && d->bytes <= d->block * sizeof(float) && k->decode[id] != NULL &&
           (k->encode[id] != NULL || (importance && k->encode_weighted[id] != NULL)) && ncol % d->block == 0 && ncol <= APR_LONGEST_TRIED;
}

static bool is_readable(const struct apr_input *in)
{
    return in->decodable && in->count > 0 && in->ncol > 0 && in->ncol <= APR_LONGEST_TRIED;
}

/* How many rows are looked at. */
static uint64_t rows_of(const struct apr_trials *t, const struct apr_input *in)
{
    const uint64_t wanted = t->sample / in->ncol + (t->sample % in->ncol != 0);
    return t->sample == 0 || in->strided ? in->nrow : apr_min(in->nrow, wanted);
}

/* The number of the i-th row that is looked at, of n. */
static uint64_t row_at(const struct apr_input *in, uint64_t i, uint64_t n) { return in->nrow / n * i + in->nrow % n * i / n; }

static uint64_t rows_of_piece(const struct apr_input *in) { return in->ncol >= PIECE ? 1 : PIECE / in->ncol; }

/* Rows of one matrix, which have their importance in common. */
static uint64_t rows_of_matrix(const struct apr_input *in) { return in->ndim < 2 ? 1 : in->dim[in->ndim - 2]; }

static void read_stretch(const struct apr_input *in, struct bench *b, uint64_t first, size_t n, float *x)
{
    if (!in->wide) {
        apr_input_floats(in, &b->window, first, n, x);
        return;
    }
    apr_input_doubles(in, &b->window, first, n, b->wide_line);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)b->wide_line[i];
}

/* n rows side by side, by tiles. */
static void read_tiles(const struct apr_input *in, struct bench *b, uint64_t first, uint64_t n, float *x)
{
    const size_t panel = APR_STRETCH / APR_TILE;
    for (uint64_t row = 0; row < n; row += APR_TILE)
        for (uint64_t col = 0; col < in->ncol; col += panel) {
            const size_t h = (size_t)apr_min(APR_TILE, n - row), wide = (size_t)apr_min(panel, in->ncol - col);
            if (in->wide)
                apr_input_tile_doubles(in, &b->window, first + row, h, col, wide, b->wide_line);
            else
                apr_input_tile_floats(in, &b->window, first + row, h, col, wide, b->line);
            for (size_t i = 0; i < h * wide; i++)
                x[(row + i / wide) * in->ncol + col + i % wide] = in->wide ? (float)b->wide_line[i] : b->line[i];
        }
}

/* Those looked at from the i-th on into b->x. */
static void read_rows(const struct apr_trials *t, const struct apr_input *in, struct bench *b, uint64_t i, uint64_t n)
{
    const uint64_t looked = rows_of(t, in);
    if (in->strided) {
        read_tiles(in, b, i, n, b->x);
        return;
    }
    for (uint64_t row = 0; row < n; row++)
        for (uint64_t col = 0; col < in->ncol; col += APR_STRETCH)
            read_stretch(in, b, row_at(in, i + row, looked) * in->ncol + col, (size_t)apr_min(APR_STRETCH, in->ncol - col),
                         b->x + row * in->ncol + col);
}

static enum apr_code check_finite(const struct apr_trials *t, const struct apr_trial *x, struct bench *b, uint64_t first, uint64_t n,
                                  struct apr_error *e)
{
    const struct apr_input *const in = x->in;
    b->largest = 0;
    for (uint64_t i = 0; i < n * in->ncol; i++) {
        const float magnitude = fabsf(b->x[i]);
        if (magnitude <= FLT_MAX) {
            b->largest = magnitude > b->largest ? magnitude : b->largest;
            continue;
        }
        if (!t->nan_to_zero)
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->name,
                                   ": row %llu, column %llu is %s, which blocks cannot hold; --nan-to-zero writes 0",
                                   (unsigned long long)row_at(in, first + i / in->ncol, rows_of(t, in)), (unsigned long long)(i % in->ncol),
                                   isnan(b->x[i]) ? "NaN" : b->x[i] > 0 ? "infinite" : "minus infinity");
        b->x[i] = 0;
    }
    return APR_OK;
}

/* ---- differences ---------------------------------------------------------------------------------------------------- */

static void add_row(const float *restrict x, const float *restrict y, size_t n, struct lanes *restrict into)
{
    size_t i = 0;
    for (; i + APR_LANES <= n; i += APR_LANES)
        for (unsigned l = 0; l < APR_LANES; l++) {
            const double d = (double)x[i + l] - (double)y[i + l];
            into->squares[l] += d * d;
        }
    for (unsigned l = 0; i + l < n; l++) {
        const double d = (double)x[i + l] - (double)y[i + l];
        into->squares[l] += d * d;
    }
}

static void add_weighted_row(const float *restrict x, const float *restrict y, const float *restrict w, size_t n,
                             struct lanes *restrict into)
{
    size_t i = 0;
    for (; i + APR_LANES <= n; i += APR_LANES)
        for (unsigned l = 0; l < APR_LANES; l++) {
            const double d = (double)x[i + l] - (double)y[i + l], dd = d * d;
            into->squares[l] += dd;
            into->weighted[l] += dd * (double)w[i + l];
        }
    for (unsigned l = 0; i + l < n; l++) {
        const double d = (double)x[i + l] - (double)y[i + l], dd = d * d;
        into->squares[l] += dd;
        into->weighted[l] += dd * (double)w[i + l];
    }
}

/* Encodes n rows of one matrix at x and adds how far they are off. */
static void try_rows(const struct apr_kernels *k, const struct apr_dtype *d, const float *x, uint64_t n, size_t ncol,
                     const float *importance, struct bench *b, struct lanes *into)
{
    const enum apr_dtype_id id = apr_dtype_id(d);
    if (importance != NULL && k->encode_weighted[id] != NULL)
        k->encode_weighted[id](x, (size_t)n, ncol, importance, b->blocks);
    else
        k->encode[id](x, (size_t)n * ncol, b->blocks);
    for (uint64_t row = 0; row < n; row++)
        for (size_t col = 0, now; col < ncol; col += now) {
            const size_t at = (size_t)row * ncol + col;
            now = (size_t)apr_min(APR_STRETCH, ncol - col);
            k->decode[id](b->blocks, b->blocks + at / d->block * d->bytes, now, b->line);
            if (importance == NULL)
                add_row(x + at, b->line, now, into);
            else
                add_weighted_row(x + at, b->line, importance + col, now, into);
        }
}

/* All n rows from the i-th on, which may be of several matrices. */
static struct apr_tried try_dtype(const struct trying *p, const struct apr_trial *x, const struct apr_dtype *d, struct bench *b, uint64_t i,
                                  uint64_t n)
{
    const struct apr_input *const in = x->in;
    const uint64_t looked = rows_of(p->t, in), high = rows_of_matrix(in);
    struct lanes sum = { { 0 }, { 0 } };
    if (b->largest > apr_largest_held(d))
        return (struct apr_tried){ INFINITY, INFINITY };
    for (uint64_t row = 0, now; row < n; row += now) {
        const uint64_t matrix = row_at(in, i + row, looked) / high;
        const float *const importance = x->importance == NULL ? NULL : x->importance + matrix * in->ncol;
        for (now = 1; row + now < n && (importance == NULL || row_at(in, i + row + now, looked) / high == matrix); now++)
            ;
        try_rows(p->r->kernels, d, b->x + row * in->ncol, now, (size_t)in->ncol, importance, b, &sum);
    }
    const double squares = apr_fold(sum.squares);
    return (struct apr_tried){ squares, x->importance == NULL ? squares : apr_fold(sum.weighted) };
}

/* ---- pass ----------------------------------------------------------------------------------------------------------- */

static struct apr_cut cut(void *ctx, size_t input, unsigned mode)
{
    const struct trying *const p = ctx;
    const struct apr_input *const in = p->t->trial[input].in;
    (void)mode;
    if (!is_readable(in) || p->t->trial[input].dtypes == 0)
        return (struct apr_cut){ 0 };
    const struct apr_dtype *const stored = apr_input_part(in, 0)->dtype;
    const uint64_t looked = rows_of(p->t, in), rows = rows_of_piece(in), elements = looked * in->ncol;
    return (struct apr_cut){ .npiece = (looked - 1) / rows + 1, .run = 1, .elements = elements,
                             .bytes = elements / stored->block * stored->bytes };
}

static bool is_tried(const struct trying *p, const struct apr_trial *x, size_t j)
{
    return (x->dtypes >> j & 1) != 0 && apr_can_try(p->r->kernels, p->t->dtype[j], x->in->ncol, x->importance != NULL);
}

static enum apr_code make(void *ctx, const struct apr_pieces *pieces, void *scratch, void *result, struct apr_error *e)
{
    const struct trying *const p = ctx;
    const struct apr_trial *const x = &p->t->trial[pieces->input];
    const uint64_t rows = rows_of_piece(x->in), looked = rows_of(p->t, x->in);
    struct apr_tried sum[MOST_DTYPES] = { { 0, 0 } };
    struct bench *const b = scratch;
    for (uint64_t piece = pieces->first; piece < pieces->first + pieces->n; piece++) {
        const uint64_t first = piece * rows, n = apr_min(rows, looked - first);
        read_rows(p->t, x->in, b, first, n);
        APR_TRY(check_finite(p->t, x, b, first, n, e));
        for (size_t j = 0; j < p->t->ndtype; j++)
            if (is_tried(p, x, j)) {
                const struct apr_tried one = try_dtype(p, x, p->t->dtype[j], b, first, n);
                sum[j].squares += one.squares;
                sum[j].weighted += one.weighted;
            }
    }
    memcpy(result, sum, p->t->ndtype * sizeof *sum);
    apr_window_rest(&b->window);
    return APR_OK;
}

static enum apr_code take(void *ctx, const struct apr_pieces *pieces, const void *result, struct apr_error *e)
{
    const struct trying *const p = ctx;
    const struct apr_tried *const sum = result;
    (void)e;
    for (size_t j = 0; j < p->t->ndtype; j++) {
        p->t->tried[pieces->input * p->t->ndtype + j].squares += sum[j].squares;
        p->t->tried[pieces->input * p->t->ndtype + j].weighted += sum[j].weighted;
    }
    return APR_OK;
}

/* Scales up what was looked at. */
static enum apr_code done(void *ctx, struct apr_pass *pass, size_t input, struct apr_error *e)
{
    const struct trying *const p = ctx;
    const struct apr_trial *const x = &p->t->trial[input];
    (void)pass;
    (void)e;
    for (size_t j = 0; j < p->t->ndtype; j++) {
        const bool tried = is_tried(p, x, j) && (x->in->count == 0 || is_readable(x->in));
        const double scale = !tried ? NAN : x->in->count == 0 ? 1 : (double)x->in->nrow / (double)rows_of(p->t, x->in);
        p->t->tried[input * p->t->ndtype + j].squares *= scale;
        p->t->tried[input * p->t->ndtype + j].weighted *= scale;
    }
    return APR_OK;
}

static void enter(void *ctx, void *scratch)
{
    const struct trying *const p = ctx;
    ((struct bench *)scratch)->window = apr_window_of(p->r);
}

static void leave(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(&((struct bench *)scratch)->window);
}

enum apr_code apr_trials_run(const struct apr_trials *t, const struct apr_run *r, struct apr_error *e)
{
    struct trying p = { .t = t, .r = r };
    const size_t result = t->ndtype * sizeof *t->tried;
    const struct apr_job job = { .what = "measuring", .ctx = &p, .ninput = t->ntrial, .result = result, .shared = result,
                                 .scratch = sizeof(struct bench), .cut = cut, .make = make, .take = take, .done = done, .enter = enter,
                                 .leave = leave };
    if (t->ndtype > MOST_DTYPES)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%zu dtypes are more than are tried at once", t->ndtype);
    for (size_t i = 0; i < t->ntrial * t->ndtype; i++)
        t->tried[i] = (struct apr_tried){ 0, 0 };
    return apr_pass(r, &job, e);
}
