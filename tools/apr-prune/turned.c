/* Matrices that are stored as [in, out]: a row of theirs, of which elements compete or are neighbours, is a column as they lie. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "flow/pass.h"
#include "prune.h"

#define PIECE 65536u /* elements, but at least a column */

/* ---- columns that compete ------------------------------------------------------------------------------------------- */

/* Those of the matrices that are turned. */
struct columns {
    struct pruning *p;
    struct matrix **matrix;
    size_t          n;
    uint64_t        longest;
};

/* score: column by column */
struct bench {
    struct apr_window window;
    float             value[APR_STRETCH], line[APR_STRETCH];
    float             score[];
};

/* At most as many as are read at once. */
static uint64_t columns_of_piece(const struct matrix *x)
{
    const uint64_t n = x->high >= PIECE ? 1 : PIECE / x->high;
    return apr_min(apr_min(n, APR_STRETCH), x->ncol);
}

static uint64_t pieces_of_stack(const struct matrix *x) { return apr_ceil(x->ncol, columns_of_piece(x)); }

static struct apr_cut cut(void *ctx, size_t input, unsigned mode)
{
    const struct columns *const c = ctx;
    const struct matrix *const x = c->matrix[input];
    (void)mode;
    return (struct apr_cut){ .npiece = x->nrow / x->high * pieces_of_stack(x), .run = 1, .elements = APR_ALONE, .bytes = x->t->data.n };
}

/* Columns [first, first + n) of a matrix of the stack. */
static enum apr_code rank_columns(const struct matrix *x, struct bench *b, uint64_t stack, uint64_t first, size_t n, struct apr_error *e)
{
    for (uint64_t row = 0; row < x->high; row++) {
        const uint64_t at = (stack * x->high + row) * x->ncol + first;
        apr_input_all_floats(&x->in, &b->window, at, n, b->value);
        APR_TRY(check_numbers(x, b->value, at, n, e));
        score_elements(x, b->value, at, n, b->line);
        for (size_t i = 0; i < n; i++)
            b->score[i * x->high + row] = b->line[i];
    }
    const uint64_t k = (uint64_t)floor(x->o->sparsity * (double)x->high);
    for (size_t i = 0; i < n; i++) {
        const struct apr_cutoff c = apr_cutoff_of(b->score + i * x->high, (size_t)x->high, k, false);
        x->row[stack * x->ncol + first + i] = (struct row_cut){ c.key, (uint32_t)apr_min(c.end, UINT32_MAX) };
    }
    return APR_OK;
}

static enum apr_code make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct columns *const c = ctx;
    const struct matrix *const x = c->matrix[p->input];
    struct bench *const b = scratch;
    (void)result;
    for (uint64_t i = p->first; i < p->first + p->n; i++) {
        const uint64_t stack = i / pieces_of_stack(x), first = i % pieces_of_stack(x) * columns_of_piece(x);
        APR_TRY(rank_columns(x, b, stack, first, (size_t)apr_min(columns_of_piece(x), x->ncol - first), e));
    }
    apr_window_rest(&b->window);
    return APR_OK;
}

static enum apr_code take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    (void)ctx;
    (void)p;
    (void)result;
    (void)e;
    return APR_OK;
}

static void enter(void *ctx, void *scratch)
{
    const struct columns *const c = ctx;
    ((struct bench *)scratch)->window = apr_window_of(&c->p->o->to.cli.run);
}

static void leave(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(&((struct bench *)scratch)->window);
}

enum apr_code rank_turned(struct pruning *p, struct apr_error *e)
{
    struct columns c = { .p = p, .matrix = calloc(p->nmatrix + 1, sizeof *c.matrix), .longest = PIECE };
    if (c.matrix == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < p->nmatrix; i++) {
        if (!p->matrix[i].turned)
            continue;
        c.matrix[c.n++] = &p->matrix[i];
        c.longest = p->matrix[i].high > c.longest ? p->matrix[i].high : c.longest;
    }
    const struct apr_job job = { .what = "ranking", .ctx = &c, .ninput = c.n, .result = 1,
                                 .scratch = sizeof(struct bench) + c.longest * sizeof(float), .cut = cut, .make = make, .take = take,
                                 .enter = enter, .leave = leave };
    const enum apr_code code = c.n == 0 ? APR_OK : apr_pass(&p->o->to.cli.run, &job, e);
    free(c.matrix);
    return code;
}

void zeros_of_columns(const struct matrix *x, const float *score, uint64_t first, size_t n, bool *zero)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t row = (first + i) / x->ncol, col = (first + i) % x->ncol;
        const struct row_cut at = x->row[row / x->high * x->ncol + col];
        const struct apr_cutoff c = { .key = at.key, .end = at.end };
        zero[i] = apr_cutoff_takes(&c, score[i], row % x->high);
    }
}

/* ---- neighbours ----------------------------------------------------------------------------------------------------- */

/* n elements of one stored row: each is held against those that stand above and below it in its group. */
static void hold_against_group(const struct matrix *x, struct apr_window *w, const float *score, uint64_t row, uint64_t col, size_t n,
                               bool *zero)
{
    const uint64_t of = x->o->of, group = row - row % x->high % of;
    float value[APR_STRETCH], other[APR_STRETCH];
    uint16_t before[APR_STRETCH] = { 0 };
    for (uint64_t r = group; r < group + of; r++) {
        if (r == row)
            continue;
        apr_input_all_floats(&x->in, w, r * x->ncol + col, n, value);
        clean_numbers(x, value, n);
        score_elements(x, value, r * x->ncol + col, n, other);
        for (size_t i = 0; i < n; i++)
            before[i] = (uint16_t)(before[i] + (other[i] < score[i] || (other[i] == score[i] && r < row)));
    }
    for (size_t i = 0; i < n; i++)
        zero[i] = before[i] < of - x->o->stay;
}

void zeros_by_turned_pattern(const struct matrix *x, struct apr_window *w, const float *score, uint64_t first, size_t n, bool *zero)
{
    for (size_t i = 0, now; i < n; i += now) {
        const uint64_t row = (first + i) / x->ncol, col = (first + i) % x->ncol;
        now = (size_t)apr_min(n - i, x->ncol - col);
        hold_against_group(x, w, score + i, row, col, now, zero + i);
    }
}
