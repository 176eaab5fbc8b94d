/* What goes, and what that does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/levels.h"
#include "flow/pass.h"
#include "prune.h"

static uint64_t share_of(const struct options *o, uint64_t n) { return (uint64_t)floor(o->sparsity * (double)n); }

/* n <= APR_STRETCH values, all of which are numbers. */
static enum apr_code read_values(const struct matrix *x, struct apr_window *w, uint64_t first, size_t n, float *value, struct apr_error *e)
{
    apr_input_all_floats(&x->in, w, first, n, value);
    return check_numbers(x, value, first, n, e);
}

/* ---- groups of whole matrices --------------------------------------------------------------------------------------- */

/* Matrices in the order in which they compete, and the room for each. */
struct ranking {
    const struct pruning *p;
    struct matrix       **matrix;
    struct apr_scored    *scored;
    struct apr_contest   *contest;
    struct apr_cutoff    *cutoff;
    size_t                ncontest;
};

struct bench {
    struct apr_window window;
    float             value[APR_STRETCH];
};

static enum apr_code score(void *ctx, size_t tensor, uint64_t first, size_t n, void *scratch, float *out, struct apr_error *e)
{
    const struct ranking *const g = ctx;
    const struct matrix *const x = g->matrix[tensor];
    struct bench *const b = scratch;
    APR_TRY(read_values(x, &b->window, first, n, b->value, e));
    score_elements(x, b->value, first, n, out);
    if ((first + n) % APR_CHUNK == 0 || first + n == x->t->count)
        apr_window_rest(&b->window);
    return APR_OK;
}

static void enter(void *ctx, void *scratch)
{
    const struct ranking *const g = ctx;
    ((struct bench *)scratch)->window = apr_window_of(&g->p->o->to.cli.run);
}

static void leave(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(&((struct bench *)scratch)->window);
}

/* Those of a group side by side, groups as they are met. */
static int in_order(const void *a, const void *b)
{
    const struct matrix *const x = *(struct matrix *const *)a, *const y = *(struct matrix *const *)b;
    if (x->group != y->group && x->o->scope == ROLE)
        return x->group < y->group ? -1 : 1;
    return (x > y) - (x < y);
}

static void make_contests(struct ranking *g)
{
    const struct options *const o = g->p->o;
    for (size_t i = 0; i < g->p->nmatrix; i++) {
        const struct matrix *const x = g->matrix[i];
        const bool same = i > 0 && (o->scope == MODEL || (o->scope == ROLE && x->group == g->matrix[i - 1]->group));
        g->scored[i] = (struct apr_scored){ x->t->name, x->t->count };
        if (!same)
            g->contest[g->ncontest++] = (struct apr_contest){ .first = i, .nrank = 1 };
        struct apr_contest *const c = &g->contest[g->ncontest - 1];
        c->n++;
        c->count += x->t->count;
        c->rank[0].k = share_of(o, c->count);
    }
}

static enum apr_code rank_matrices(struct ranking *g, struct apr_error *e)
{
    for (size_t i = 0; i < g->p->nmatrix; i++)
        g->matrix[i] = &g->p->matrix[i];
    qsort(g->matrix, g->p->nmatrix, sizeof *g->matrix, in_order);
    make_contests(g);
    const struct apr_thresholds t = { .tensor = g->scored, .ntensor = g->p->nmatrix, .contest = g->contest, .ncontest = g->ncontest,
                                      .ctx = g, .scratch = sizeof(struct bench), .score = score, .enter = enter, .leave = leave,
                                      .cutoff = g->cutoff };
    APR_TRY(apr_thresholds_find(&t, &g->p->o->to.cli.run, e));
    for (size_t i = 0; i < g->p->nmatrix; i++)
        g->matrix[i]->cutoff = g->cutoff[i * APR_MOST_RANKS];
    return APR_OK;
}

static enum apr_code make_rows(struct pruning *p, struct apr_error *e)
{
    for (size_t i = 0; i < p->nmatrix; i++) {
        struct matrix *const x = &p->matrix[i];
        const uint64_t n = outputs_of(x);
        x->row = n > SIZE_MAX / sizeof *x->row ? NULL : apr_arena_alloc(&p->arena, (size_t)n * sizeof *x->row);
        if (x->row == NULL)
            return apr_no_memory(e);
    }
    return rank_turned(p, e); /* others are ranked while they are measured */
}

enum apr_code find_cutoffs(struct pruning *p, struct apr_error *e)
{
    const size_t n = p->nmatrix + 1;
    if (p->o->of > 0)
        return APR_OK;
    if (p->o->scope == ROW)
        return make_rows(p, e);
    struct ranking g = { .p = p, .matrix = calloc(n, sizeof *g.matrix), .scored = calloc(n, sizeof *g.scored),
                         .contest = calloc(n, sizeof *g.contest), .cutoff = calloc(n * APR_MOST_RANKS, sizeof *g.cutoff) };
    const bool room = g.matrix != NULL && g.scored != NULL && g.contest != NULL && g.cutoff != NULL;
    const enum apr_code code = room ? rank_matrices(&g, e) : apr_no_memory(e);
    free(g.matrix);
    free(g.scored);
    free(g.contest);
    free(g.cutoff);
    return code;
}

/* ---- damage --------------------------------------------------------------------------------------------------------- */

#define PIECE 65536u /* elements, but at least a row */

/* What a thread measures with. score: of the longest row that is ranked. */
struct meter {
    struct apr_window window;
    float             value[APR_STRETCH];
    bool              zero[APR_STRETCH];
    float             score[];
};

/* Lanes of the sums: an element goes to that of its column. */
struct sums {
    double   all[APR_LANES], kept[APR_LANES], weighed[APR_LANES], lost[APR_LANES];
    uint64_t zeros;
};

static uint64_t rows_of_piece(const struct matrix *x) { return x->ncol >= PIECE ? 1 : PIECE / x->ncol; }

/* Whole groups of a pattern at a time. */
static uint64_t stretch_of(const struct matrix *x) { return APR_STRETCH - APR_STRETCH % group_length(x); }

static enum apr_code rank_row(const struct matrix *x, struct meter *m, uint64_t row, struct apr_error *e)
{
    for (uint64_t col = 0; col < x->ncol; col += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, x->ncol - col);
        APR_TRY(read_values(x, &m->window, row * x->ncol + col, n, m->value, e));
        score_elements(x, m->value, row * x->ncol + col, n, m->score + col);
    }
    const struct apr_cutoff c = apr_cutoff_of(m->score, (size_t)x->ncol, share_of(x->o, x->ncol), false);
    x->row[row] = (struct row_cut){ c.key, (uint32_t)apr_min(c.end, UINT32_MAX) };
    return APR_OK;
}

static inline void add_element(const struct meter *m, size_t i, unsigned lane, struct sums *s)
{
    const double v = (double)m->value[i], square = v * v;
    s->all[lane] += square;
    s->kept[lane] += apr_kept(!m->zero[i], square);
    s->zeros += m->zero[i] | (m->value[i] == 0);
}

/* n elements of one row, from column `col` on. */
static void add_elements(const struct meter *m, uint64_t col, size_t n, struct sums *s)
{
    size_t i = 0;
    for (; col % APR_LANES == 0 && i + APR_LANES <= n; i += APR_LANES)
        for (unsigned lane = 0; lane < APR_LANES; lane++)
            add_element(m, i + lane, lane, s);
    for (; i < n; i++)
        add_element(m, i, (unsigned)((col + i) % APR_LANES), s);
}

static void add_weighed(const struct matrix *x, const struct meter *m, uint64_t row, uint64_t col, size_t n, struct sums *s)
{
    const float *const rms = x->turned ? x->rms + row : x->rms + row / x->high * x->ncol + col;
    for (size_t i = 0; i < n; i++) {
        const unsigned lane = (unsigned)((col + i) % APR_LANES);
        const double in = (double)m->value[i] * (double)rms[x->turned ? 0 : i], square = in * in;
        s->weighed[lane] += square;
        s->lost[lane] += m->zero[i] ? square : 0;
    }
}

static enum apr_code measure_row(const struct matrix *x, struct meter *m, uint64_t row, struct sums *s, struct apr_error *e)
{
    if (x->row != NULL && !x->turned)
        APR_TRY(rank_row(x, m, row, e));
    for (uint64_t col = 0, now; col < x->ncol; col += now) {
        const uint64_t first = row * x->ncol + col;
        now = apr_min(stretch_of(x), x->ncol - col);
        APR_TRY(read_values(x, &m->window, first, (size_t)now, m->value, e));
        find_zeros(x, &m->window, m->value, first, (size_t)now, m->zero);
        add_elements(m, col, (size_t)now, s);
        if (x->rms != NULL)
            add_weighed(x, m, row, col, (size_t)now, s);
    }
    return APR_OK;
}

static struct apr_cut cut(void *ctx, size_t input, unsigned mode)
{
    const struct pruning *const p = ctx;
    const struct matrix *const x = &p->matrix[input];
    (void)mode;
    return (struct apr_cut){ .npiece = apr_ceil(x->nrow, rows_of_piece(x)), .run = 1, .elements = x->t->count, .bytes = x->t->data.n };
}

static enum apr_code make(void *ctx, const struct apr_pieces *pieces, void *scratch, void *result, struct apr_error *e)
{
    const struct pruning *const p = ctx;
    const struct matrix *const x = &p->matrix[pieces->input];
    struct meter *const m = scratch;
    struct damage d = { 0 };
    for (uint64_t piece = pieces->first; piece < pieces->first + pieces->n; piece++) {
        struct sums s = { { 0 }, { 0 }, { 0 }, { 0 }, 0 };
        const uint64_t begin = piece * rows_of_piece(x), end = apr_min(begin + rows_of_piece(x), x->nrow);
        for (uint64_t row = begin; row < end; row++)
            APR_TRY(measure_row(x, m, row, &s, e));
        d.zeros += s.zeros;
        d.all += apr_fold(s.all);
        d.kept += apr_fold(s.kept);
        d.weighed += apr_fold(s.weighed);
        d.lost += apr_fold(s.lost);
    }
    memcpy(result, &d, sizeof d);
    apr_window_rest(&m->window);
    return APR_OK;
}

static enum apr_code take(void *ctx, const struct apr_pieces *pieces, const void *result, struct apr_error *e)
{
    const struct pruning *const p = ctx;
    const struct damage *const d = result;
    struct damage *const into = &p->matrix[pieces->input].damage;
    (void)e;
    into->zeros += d->zeros;
    into->all += d->all;
    into->kept += d->kept;
    into->weighed += d->weighed;
    into->lost += d->lost;
    return APR_OK;
}

static void enter_meter(void *ctx, void *scratch)
{
    const struct pruning *const p = ctx;
    ((struct meter *)scratch)->window = apr_window_of(&p->o->to.cli.run);
}

static void leave_meter(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(&((struct meter *)scratch)->window);
}

enum apr_code measure_damage(struct pruning *p, struct apr_error *e)
{
    uint64_t longest = 0;
    for (size_t i = 0; i < p->nmatrix; i++)
        if (p->matrix[i].row != NULL && !p->matrix[i].turned && p->matrix[i].ncol > longest)
            longest = p->matrix[i].ncol;
    const struct apr_job job = { .what = "measuring", .ctx = p, .ninput = p->nmatrix, .result = sizeof(struct damage),
                                 .shared = sizeof(struct damage), .scratch = sizeof(struct meter) + longest * sizeof(float), .cut = cut,
                                 .make = make, .take = take, .enter = enter_meter, .leave = leave_meter };
    return apr_pass(&p->o->to.cli.run, &job, e);
}
