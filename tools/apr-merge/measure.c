/* What methods need to know of whole tensors before the first value: dots and norms, cutoffs, sums of what is kept. Each is a pass over
 * the models; nothing is held but its sums. */
#include "lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "flow/pass.h"

#define PANEL 64u /* columns of a piece where columns are units */

/* ---- a pass --------------------------------------------------------------------------------------------------------- */

/* What each thread has for itself. */
struct scratch {
    struct apr_window window;
    double            x[OPERAND_ROOM];
};

/*   input   tensors that are looked at; nsum: numbers that a piece adds to those of its tensor, in sum, one after the other */
struct measuring {
    struct merge   *m;
    struct merged **input;
    size_t          ninput;
    size_t        (*nsum)(const struct merged *t);
    void          (*add)(struct merged *t, struct scratch *s, uint64_t first, uint64_t n, double *sum);
    double        **sum;
};

static void enter(void *ctx, void *scratch)
{
    const struct measuring *const g = ctx;
    ((struct scratch *)scratch)->window = apr_window_of(&g->m->o->c.cli.run);
}

static void leave(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(&((struct scratch *)scratch)->window);
}

static size_t vectors_of(const struct merged *t) { return t->n + (t->base != NULL && !t->method->differences); }

/* ---- dots ----------------------------------------------------------------------------------------------------------- */

/* n elements of each vector, as the method looks at them: differences where it wants those. */
static void read_vectors(struct merged *t, struct scratch *s, uint64_t first, size_t n)
{
    read_operands(t, &s->window, first, n, s->x);
    if (t->base == NULL || !t->method->differences)
        return;
    for (size_t i = 0; i < t->n; i++)
        t->merge->loops->subtract(s->x + i * n, s->x + t->n * n, n);
}

/* Adds the dots of elements [first, first + n) of all pairs to gram, nvector squared. */
static void add_dots(struct merged *t, struct scratch *s, uint64_t first, uint64_t n, double *gram)
{
    const size_t nvector = vectors_of(t);
    for (uint64_t now; n > 0; first += now, n -= now) {
        now = apr_min(stretch_of(t), n);
        read_vectors(t, s, first, (size_t)now);
        for (size_t i = 0; i < nvector; i++)
            for (size_t k = i; k < nvector; k++)
                gram[i * nvector + k] += t->merge->loops->dot(s->x + i * now, s->x + k * now, (size_t)now);
    }
}

static void mirror(size_t n, double *gram)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            gram[i * n + k] = gram[k * n + i];
}

/* The coefficients of a unit: of differences, the base has what is left of 1. */
static enum apr_code settle(const struct merged *t, double *gram, double *coef, struct apr_error *e)
{
    if (gram != NULL)
        mirror(vectors_of(t), gram);
    memset(coef, 0, (t->n + 1) * sizeof *coef);
    APR_TRY(t->method->settle(t, gram, coef, e));
    if (t->base == NULL || !t->method->differences)
        return APR_OK;
    double rest = 1;
    for (size_t i = 0; i < t->n; i++)
        rest -= coef[i];
    coef[t->n] = rest;
    return APR_OK;
}

/* ---- rows and columns ----------------------------------------------------------------------------------------------- */

static uint64_t rows_of_piece(const struct merged *t) { return t->ncol >= APR_CHUNK ? 1 : APR_CHUNK / t->ncol; }

static struct apr_cut cut_units(void *ctx, size_t input, unsigned mode)
{
    const struct measuring *const g = ctx;
    const struct merged *const t = g->input[input];
    (void)mode;
    const uint64_t n = t->method->units(t) == UNITS_ROWS ? apr_ceil(t->nrow, rows_of_piece(t)) : apr_ceil(t->ncol, PANEL);
    return (struct apr_cut){ .npiece = t->count == 0 ? 0 : n, .run = 1, .elements = APR_ALONE, .bytes = t->count };
}

static enum apr_code make_rows(struct merged *t, struct scratch *s, uint64_t piece, struct apr_error *e)
{
    const uint64_t rows = rows_of_piece(t), end = apr_min(t->nrow, (piece + 1) * rows);
    for (uint64_t row = piece * rows; row < end; row++) {
        double gram[MOST_MODELS * MOST_MODELS];
        memset(gram, 0, vectors_of(t) * vectors_of(t) * sizeof *gram);
        add_dots(t, s, row * t->ncol, t->ncol, gram);
        APR_TRY(settle(t, gram, t->coef + row * (t->n + 1), e));
    }
    return APR_OK;
}

/* Of two vectors, which is all that has such units. */
static enum apr_code make_columns(struct merged *t, struct scratch *s, uint64_t piece, struct apr_error *e)
{
    const uint64_t col = piece * PANEL;
    const size_t n = (size_t)apr_min(PANEL, t->ncol - col);
    double gram[PANEL][4] = { { 0 } };
    for (uint64_t row = 0; row < t->nrow; row++) {
        read_vectors(t, s, row * t->ncol + col, n);
        for (size_t k = 0; k < n; k++) {
            gram[k][0] += s->x[k] * s->x[k];
            gram[k][1] += s->x[k] * s->x[n + k];
            gram[k][3] += s->x[n + k] * s->x[n + k];
        }
    }
    for (size_t k = 0; k < n; k++)
        APR_TRY(settle(t, gram[k], t->coef + (col + k) * (t->n + 1), e));
    return APR_OK;
}

static enum apr_code make_units(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct measuring *const g = ctx;
    struct merged *const t = g->input[p->input];
    (void)result;
    for (uint64_t i = p->first; i < p->first + p->n; i++)
        APR_TRY(t->method->units(t) == UNITS_ROWS ? make_rows(t, scratch, i, e) : make_columns(t, scratch, i, e));
    return APR_OK;
}

static enum apr_code take_units(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    (void)ctx;
    (void)p;
    (void)result;
    (void)e;
    return APR_OK;
}

/* ---- sums over whole tensors ---------------------------------------------------------------------------------------- */

static struct apr_cut cut_chunks(void *ctx, size_t input, unsigned mode)
{
    const struct measuring *const g = ctx;
    (void)mode;
    return (struct apr_cut){ .npiece = apr_ceil(g->input[input]->count, APR_CHUNK), .run = 1, .elements = APR_ALONE,
                             .bytes = g->input[input]->count };
}

static enum apr_code make_sums(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct measuring *const g = ctx;
    struct merged *const t = g->input[p->input];
    double *const sum = result;
    (void)e;
    memset(sum, 0, g->nsum(t) * sizeof *sum);
    for (uint64_t i = p->first; i < p->first + p->n; i++)
        g->add(t, scratch, i * APR_CHUNK, apr_min(APR_CHUNK, t->count - i * APR_CHUNK), sum);
    return APR_OK;
}

static enum apr_code take_sums(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    const struct measuring *const g = ctx;
    const double *const sum = result;
    (void)e;
    for (size_t i = 0; i < g->nsum(g->input[p->input]); i++)
        g->sum[p->input][i] += sum[i];
    return APR_OK;
}

/* Are there tensors of that kind? Those, in g. */
static enum apr_code choose(struct measuring *g, bool (*wanted)(const struct merged *t), struct apr_error *e)
{
    struct merge *const m = g->m;
    g->input = apr_arena_alloc(&m->arena, (m->ntensor + 1) * sizeof(struct merged *));
    g->sum = apr_arena_alloc(&m->arena, (m->ntensor + 1) * sizeof *g->sum);
    if (g->input == NULL || g->sum == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->ntensor; i++)
        if (m->tensor[i]->tensor.computed != NULL && wanted(m->tensor[i]))
            g->input[g->ninput++] = m->tensor[i];
    return APR_OK;
}

/* The first tensor in which something was wrong says so. */
static enum apr_code check_sound(const struct measuring *g, struct apr_error *e)
{
    for (size_t i = 0; i < g->ninput; i++)
        APR_TRY(merged_sound(&g->input[i]->c, e));
    return APR_OK;
}

static enum apr_code sum_up(struct measuring *g, struct apr_error *e)
{
    struct apr_job job = { .what = "measuring", .ctx = g, .ninput = g->ninput, .scratch = sizeof(struct scratch), .cut = cut_chunks,
                           .make = make_sums,
                           .take = take_sums, .enter = enter, .leave = leave };
    for (size_t i = 0; i < g->ninput; i++) {
        const size_t n = g->nsum(g->input[i]);
        g->sum[i] = apr_arena_alloc(&g->m->arena, (n + 1) * sizeof **g->sum);
        if (g->sum[i] == NULL)
            return apr_no_memory(e);
        job.result = n * sizeof(double) > job.result ? n * sizeof(double) : job.result;
    }
    if (g->ninput == 0)
        return APR_OK;
    APR_TRY(apr_pass(&g->m->o->c.cli.run, &job, e));
    return check_sound(g, e);
}

/* ---- combinations --------------------------------------------------------------------------------------------------- */

static bool combines(const struct merged *t) { return t->method->kernel == KERNEL_COMBINATION; }
static bool is_whole(const struct merged *t) { return combines(t) && t->method->units(t) == UNITS_WHOLE; }
static bool has_units(const struct merged *t) { return combines(t) && t->method->units(t) >= UNITS_ROWS; }
static size_t ndot(const struct merged *t) { return vectors_of(t) * vectors_of(t); }

static enum apr_code make_room(struct merge *m, struct apr_error *e)
{
    for (size_t i = 0; i < m->ntensor; i++) {
        struct merged *const t = m->tensor[i];
        uint64_t n = t->n + 1;
        if (t->tensor.computed == NULL || !combines(t))
            continue;
        const enum units units = t->method->units(t);
        if (units >= UNITS_ROWS && (!apr_mul(n, units == UNITS_ROWS ? t->nrow : t->ncol, &n) || n > SIZE_MAX / sizeof *t->coef))
            return apr_no_memory(e);
        t->coef = apr_arena_alloc(&m->arena, (size_t)n * sizeof *t->coef);
        if (t->coef == NULL)
            return apr_no_memory(e);
        if (units == UNITS_NONE)
            APR_TRY(settle(t, NULL, t->coef, e));
    }
    return APR_OK;
}

static enum apr_code measure_units(struct merge *m, struct apr_error *e)
{
    struct measuring g = { .m = m };
    APR_TRY(choose(&g, has_units, e));
    const struct apr_job job = { .what = "measuring", .ctx = &g, .ninput = g.ninput, .result = sizeof(double),
                                 .scratch = sizeof(struct scratch),
                                 .cut = cut_units, .make = make_units, .take = take_units, .enter = enter, .leave = leave };
    if (g.ninput == 0)
        return APR_OK;
    APR_TRY(apr_pass(&m->o->c.cli.run, &job, e));
    return check_sound(&g, e);
}

static enum apr_code measure_whole(struct merge *m, struct apr_error *e)
{
    struct measuring g = { .m = m, .nsum = ndot, .add = add_dots };
    APR_TRY(choose(&g, is_whole, e));
    APR_TRY(sum_up(&g, e));
    for (size_t i = 0; i < g.ninput; i++)
        APR_TRY(settle(g.input[i], g.sum[i], g.input[i]->coef, e));
    return APR_OK;
}

/* ---- cutoffs -------------------------------------------------------------------------------------------------------- */

/* A contest: of x number i of a tensor by magnitude, or, of sce, by variance. */
struct contender {
    struct merged *t;
    size_t         i;
};

struct cutting {
    struct merge         *m;
    struct contender     *of;
    struct apr_scored    *scored;
    struct apr_contest   *contest;
    size_t                n;
};

static uint64_t share_of(double share, uint64_t n) { return share <= 0 ? 0 : share >= 1 ? n : (uint64_t)(share * (double)n); }

/* How many of x number i are kept where magnitude decides. */
static uint64_t kept_of(const struct merged *t, size_t i)
{
    const double density = t->x[i].p[PARAM_DENSITY];
    const uint64_t n = share_of(density, t->count);
    return t->method->thinning == THIN_LARGEST && density > 0 && n == 0 && t->count > 0 ? 1 : n;
}

static enum apr_code score(void *ctx, size_t tensor, uint64_t first, size_t n, void *scratch, float *out, struct apr_error *e)
{
    const struct cutting *const c = ctx;
    struct merged *const t = c->of[tensor].t;
    struct scratch *const s = scratch;
    (void)e;
    if (t->method->kernel != KERNEL_SCE) {
        read_magnitudes(t, c->of[tensor].i, &s->window, first, n, out);
        return APR_OK;
    }
    for (size_t at = 0, now; at < n; at += now) {
        now = (size_t)apr_min(stretch_of(t), n - at);
        read_operands(t, &s->window, first + at, now, s->x);
        for (size_t i = 0; i < t->n; i++)
            t->merge->loops->subtract(s->x + i * now, s->x + t->n * now, now);
        for (size_t k = 0; k < now; k++)
            out[at + k] = variance_at(t, now, s->x, k);
    }
    return APR_OK;
}

/* Of those that vary at all. */
static void choose_varying(void *ctx, size_t contest, struct apr_contest *x)
{
    const struct cutting *const c = ctx;
    x->rank[0].k = share_of(c->of[contest].t->p[PARAM_TOPK], x->count - x->zeros);
}

static void enter_score(void *ctx, void *scratch)
{
    const struct cutting *const c = ctx;
    ((struct scratch *)scratch)->window = apr_window_of(&c->m->o->c.cli.run);
}

static void contend(struct cutting *c, struct merged *t, size_t i)
{
    struct apr_contest *const x = &c->contest[c->n];
    c->of[c->n] = (struct contender){ t, i };
    c->scored[c->n] = (struct apr_scored){ t->tensor.name, t->count };
    *x = (struct apr_contest){ .first = c->n, .n = 1, .nrank = 1 };
    c->n++;
    if (t->method->kernel == KERNEL_SCE) {
        x->rank[0] = (struct apr_rank){ 0, true };
        return;
    }
    const uint64_t keep = kept_of(t, i), outliers = share_of(t->x[i].p[PARAM_GAMMA], t->count), top = apr_min(outliers, t->count - keep);
    x->rank[0] = (struct apr_rank){ t->method->thinning == THIN_MIDDLE ? top : keep, true };
    if (t->method->thinning == THIN_MIDDLE)
        x->rank[x->nrank++] = (struct apr_rank){ top + keep, true };
}

static bool is_cut(const struct merged *t, size_t i)
{
    if (t->method->kernel == KERNEL_SCE)
        return i == 0 && t->p[PARAM_TOPK] < 1;
    return (t->method->thinning == THIN_LARGEST || t->method->thinning == THIN_MIDDLE) && t->x[i].p[PARAM_DENSITY] < 1;
}

static enum apr_code begin_cutting(struct cutting *c, struct apr_error *e)
{
    struct merge *const m = c->m;
    size_t most = 0;
    for (size_t i = 0; i < m->ntensor; i++)
        most += m->tensor[i]->n;
    c->of = apr_arena_alloc(&m->arena, (most + 1) * sizeof *c->of);
    c->scored = apr_arena_alloc(&m->arena, (most + 1) * sizeof *c->scored);
    c->contest = apr_arena_alloc(&m->arena, (most + 1) * sizeof *c->contest);
    if (c->of == NULL || c->scored == NULL || c->contest == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->ntensor; i++) {
        struct merged *const t = m->tensor[i];
        t->cut = apr_arena_alloc(&m->arena, (t->n + 1) * sizeof *t->cut);
        if (t->cut == NULL)
            return apr_no_memory(e);
        for (size_t k = 0; k < t->n && t->tensor.computed != NULL; k++)
            if (is_cut(t, k))
                contend(c, t, k);
    }
    return APR_OK;
}

static enum apr_code find_cutoffs(struct merge *m, struct apr_error *e)
{
    struct cutting c = { .m = m };
    APR_TRY(begin_cutting(&c, e));
    if (c.n == 0)
        return APR_OK;
    struct apr_thresholds t = { .tensor = c.scored, .ntensor = c.n, .contest = c.contest, .ncontest = c.n, .ctx = &c,
                                .scratch = sizeof(struct scratch),
                                .score = score, .enter = enter_score, .leave = leave,
                                .choose = m->config.method->kernel == KERNEL_SCE ? choose_varying : NULL };
    t.cutoff = apr_arena_alloc(&m->arena, c.n * APR_MOST_RANKS * sizeof *t.cutoff);
    if (t.cutoff == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_thresholds_find(&t, &m->o->c.cli.run, e));
    for (size_t i = 0; i < c.n; i++) {
        memcpy(c.of[i].t->cut[c.of[i].i], &t.cutoff[i * APR_MOST_RANKS], sizeof *c.of[i].t->cut);
        APR_TRY(merged_sound(&c.of[i].t->c, e));
    }
    return APR_OK;
}

/* ---- what is kept --------------------------------------------------------------------------------------------------- */

/* Of each x: the sum of magnitudes before and after it is thinned out, how many are kept. */
static size_t nkept(const struct merged *t) { return 3 * t->n; }

static void add_kept(struct merged *t, struct scratch *s, uint64_t first, uint64_t n, double *sum)
{
    for (uint64_t now; n > 0; first += now, n -= now) {
        now = apr_min(APR_STRETCH, n);
        for (size_t i = 0; i < t->n; i++) {
            double *const d = s->x;
            read_difference(t, i, &s->window, first, (size_t)now, d);
            sum[3 * i] += t->merge->loops->sum_of_magnitudes(d, (size_t)now);
            thin_out(t, i, &s->window, first, (size_t)now, d);
            sum[3 * i + 1] += t->merge->loops->sum_of_magnitudes(d, (size_t)now);
            sum[3 * i + 2] += (double)t->merge->loops->count(d, (size_t)now);
        }
    }
}

static bool is_thinned(const struct merged *t) { return t->method->kernel == KERNEL_THINNED; }
static bool is_random(const struct merged *t) { return t->method->thinning == THIN_RANDOM || t->method->thinning == THIN_BY_RANK; }
static bool weighs_kept(const struct merged *t) { return is_thinned(t) && (t->p[PARAM_RESCALE] != 0 || is_random(t)); }

static enum apr_code begin_thinning(struct merge *m, struct apr_error *e)
{
    for (size_t i = 0; i < m->ntensor; i++) {
        struct merged *const t = m->tensor[i];
        if (t->tensor.computed == NULL || !is_thinned(t))
            continue;
        t->key = apr_arena_alloc(&m->arena, (t->n + 1) * sizeof *t->key);
        t->keep = apr_arena_alloc(&m->arena, (t->n + 1) * sizeof *t->keep);
        t->kept = apr_arena_alloc(&m->arena, (t->n + 1) * sizeof *t->kept);
        if (t->key == NULL || t->keep == NULL || t->kept == NULL)
            return apr_no_memory(e);
        for (size_t k = 0; k < t->n; k++) {
            t->key[k] = apr_draw(apr_draw_key(t->tensor.name, m->o->seed), t->x[k].place);
            t->keep[k] = 1;
            t->kept[k] = kept_of(t, k);
        }
    }
    return APR_OK;
}

static enum apr_code weigh_kept(struct merge *m, struct apr_error *e)
{
    struct measuring g = { .m = m, .nsum = nkept, .add = add_kept };
    APR_TRY(choose(&g, weighs_kept, e));
    APR_TRY(sum_up(&g, e));
    for (size_t i = 0; i < g.ninput; i++) {
        struct merged *const t = g.input[i];
        for (size_t k = 0; k < t->n; k++) {
            const double before = g.sum[i][3 * k], after = g.sum[i][3 * k + 1];
            t->keep[k] = t->p[PARAM_RESCALE] != 0 && before >= 1e-7 && after >= 1e-7 ? before / after : 1;
            if (is_random(t))
                t->kept[k] = (uint64_t)g.sum[i][3 * k + 2];
        }
    }
    return APR_OK;
}

/* ---- sce ------------------------------------------------------------------------------------------------------------ */

static bool is_sce(const struct merged *t) { return t->method->kernel == KERNEL_SCE; }
static size_t nsquare(const struct merged *t) { return t->n; }

static void add_squares(struct merged *t, struct scratch *s, uint64_t first, uint64_t n, double *sum)
{
    for (uint64_t now; n > 0; first += now, n -= now) {
        now = apr_min(stretch_of(t), n);
        read_operands(t, &s->window, first, (size_t)now, s->x);
        select_varying(t, first, (size_t)now, s->x);
        for (size_t i = 0; i < t->n; i++)
            sum[i] += t->merge->loops->dot(s->x + i * now, s->x + i * now, (size_t)now);
    }
}

static enum apr_code weigh_sce(struct merge *m, struct apr_error *e)
{
    struct measuring g = { .m = m, .nsum = nsquare, .add = add_squares };
    APR_TRY(choose(&g, is_sce, e));
    APR_TRY(sum_up(&g, e));
    for (size_t i = 0; i < g.ninput; i++) {
        struct merged *const t = g.input[i];
        double all = 0;
        t->part = g.sum[i];
        for (size_t k = 0; k < t->n; k++)
            all += t->part[k] /= (double)t->count;
        for (size_t k = 0; k < t->n; k++)
            t->part[k] = all >= 1e-6 ? t->part[k] / all : 1 / (double)t->n;
    }
    return APR_OK;
}

enum apr_code measure_tensors(struct merge *m, struct apr_error *e)
{
    APR_TRY(measure_loras(m->model, m->config.nmodel, &m->o->c.cli.run, e));
    APR_TRY(make_room(m, e));
    APR_TRY(measure_units(m, e));
    APR_TRY(measure_whole(m, e));
    APR_TRY(find_cutoffs(m, e));
    APR_TRY(begin_thinning(m, e));
    APR_TRY(weigh_kept(m, e));
    return weigh_sce(m, e);
}
