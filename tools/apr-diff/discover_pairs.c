/* Two tensors that hold the same rows, or columns, in another order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "discover_search.h"

#define MOST_MENDED 16384u /* rows, each of which is held against all that are left */

/* ---- steps ---------------------------------------------------------------------------------------------------------- */

bool add_rule(struct finding *f, const struct apr_transform *rule, unsigned n)
{
    if (f->nstep + n > APR_MAX_STEPS)
        return false;
    if (n > 0)
        f->step[f->nstep++] = *rule;
    return true;
}

bool add_step(struct finding *f, enum apr_op op) { return add_rule(f, &(struct apr_transform){ .op = op }, 1); }

bool add_rule_between(struct finding *f, const struct view *s, const struct view *t, const struct apr_transform *rule, unsigned nrule)
{
    bool good = !s->turned || t->turned || add_step(f, APR_OP_TRANSPOSE);
    good = good && add_rule(f, rule, nrule);
    return good && (s->turned || !t->turned || add_step(f, APR_OP_TRANSPOSE));
}

void shape_of_view(const struct view *v, uint64_t rows, uint64_t dim[3], unsigned *ndim)
{
    *ndim = 0;
    if (v->slabs > 1)
        dim[(*ndim)++] = v->slabs;
    dim[(*ndim)++] = v->turned ? v->width : rows;
    dim[(*ndim)++] = v->turned ? rows : v->width;
}

void drop_finding(struct discovery *d)
{
    struct finding *const f = &d->finding[--d->nfinding];
    for (size_t i = 0; i < f->nfrom; i++)
        f->from[i]->used = false;
    for (size_t i = 0; i < f->nto; i++)
        f->to[i]->used = false;
}

/* ---- multiples ------------------------------------------------------------------------------------------------------ */

/* By what t's rows are multiples of those of s, in parts of few rows as there may be. */
static bool find_parts(const struct search *w, const struct view *s, const struct view *t, struct apr_transform *scale)
{
    const double slack = factor_slack(w->near);
    double was = 0, is = 0;
    *scale = (struct apr_transform){ .op = APR_OP_SCALE };
    for (uint64_t j = 0; j < s->rows; j++) {
        const double x = (double)w->norm[s->first + j], y = (double)w->norm[t->first + j];
        if (scale->nn == 0 || fabs(y - x * sqrt(is / was)) > slack * y) {
            if (scale->nn == APR_MAX_PARTS || !(x > 0))
                return false;
            scale->nn++;
            was = is = 0;
        }
        was += x * x;
        is += y * y;
        scale->n[scale->nn - 1]++;
        scale->by[scale->nn - 1] = shortest(sqrt(is / was), fmax(w->near / 50, 1e-6));
    }
    return true;
}

/* The step that makes multiples, if there are some: of rows by parts, of all values by one. */
static bool find_scale(const struct search *w, const struct view *s, const struct view *t, bool parts, struct apr_transform *scale)
{
    const double was = s->item->whole.square, is = t->item->whole.square, times = sqrt(is / was);
    if (parts && find_parts(w, s, t, scale) && scale->nn > 1)
        return true;
    *scale = (struct apr_transform){ .op = APR_OP_SCALE, .by = { shortest(times, fmax(w->near / 50, 1e-6)) } };
    return fabs(times - 1) > factor_slack(w->near);
}

/* ---- pairs ---------------------------------------------------------------------------------------------------------- */

/* How one view becomes another. */
struct way {
    const struct view   *s, *t;
    struct apr_transform rule;
    unsigned             nrule;
    bool                 found;
};

static enum apr_code find_way(struct search *w, const struct view *s, const struct view *t, struct way *way, struct apr_error *e)
{
    const struct strings x = { string_of(w, s), string_of(w, t), (size_t)s->rows, (size_t)s->slabs, is_rough(w) };
    *way = (struct way){ .s = s, .t = t };
    return order_rule(w->d, &x, s->turned && t->turned, &way->rule, &way->nrule, &way->found, e);
}

/* Is x the plainer of the two, by what they do alone? */
static bool is_plainer(const struct way *x, const struct way *y)
{
    if (x->nrule != y->nrule || x->nrule == 0)
        return x->nrule != y->nrule ? x->nrule < y->nrule : x->s->turned;
    if (x->rule.op != y->rule.op)
        return x->rule.op < y->rule.op;
    const int order = memcmp(x->rule.n, y->rule.n, sizeof x->rule.n);
    if (order != 0 || x->rule.norder == 0)
        return order < 0;
    return memcmp(x->rule.order, y->rule.order, x->rule.norder * sizeof *x->rule.order) < 0;
}

static enum apr_code add_way(struct search *w, const struct way *way, struct apr_error *e)
{
    const struct view *const s = way->s, *const t = way->t;
    struct apr_transform scale;
    struct finding *f;
    uint64_t dim[3];
    unsigned ndim;
    APR_TRY(add_finding(w->d, &(struct item *){ s->item }, 1, &(struct item *){ t->item }, 1, &f, e));
    shape_of_view(s, s->rows, dim, &ndim);
    bool good = add_reshape(f, s->item->t->dim, s->item->t->ndim, dim, ndim) && add_rule_between(f, s, t, &way->rule, way->nrule);
    const bool plain = way->nrule == 0 && s->slabs == 1 && !s->turned && !t->turned;
    if (good && find_scale(w, s, t, plain, &scale))
        good = add_rule(f, &scale, 1);
    shape_of_view(t, t->rows, dim, &ndim);
    if (!good || !add_reshape(f, dim, ndim, t->item->t->dim, t->item->t->ndim))
        drop_finding(w->d);
    return APR_OK;
}

/* The free row that is nearest to row j of b; it is taken then. */
static void take_nearest(struct search *w, const struct view *a, const struct view *b, uint64_t j, uint32_t *open, size_t *n)
{
    size_t best = 0;
    double least = INFINITY;
    for (size_t i = 0; i < *n; i++) {
        const double away = distance_of(w->lane[a->first + open[i]], w->lane[b->first + j]);
        if (away < least) {
            least = away;
            best = i;
        }
    }
    w->class[b->first + j] = w->class[a->first + open[best]];
    memmove(open + best, open + best + 1, (--*n - best) * sizeof *open);
}

/* Rows of b that are no row of a are those of a that are left, each the nearest: among all tensors' rows another was nearer. */
static enum apr_code mend(struct search *w, const struct view *a, const struct view *b, struct apr_error *e)
{
    const size_t n = (size_t)natoms(a);
    struct places p;
    uint32_t *const place = malloc((n + 1) * sizeof *place), *const open = malloc((n + 1) * sizeof *open);
    enum apr_code code = begin_places(&p, string_of(w, a), n, e);
    size_t left = 0;
    if (code == APR_OK && (place == NULL || open == NULL))
        code = apr_no_memory(e);
    if (code == APR_OK)
        take_places(&p, string_of(w, b), n, place);
    for (size_t i = 0; code == APR_OK && i < n; i++)
        if (!p.taken[i])
            open[left++] = (uint32_t)i;
    for (size_t j = 0; code == APR_OK && left <= MOST_MENDED && j < n; j++)
        if (place[j] == UINT32_MAX && left > 0)
            take_nearest(w, a, b, j, open, &left);
    free(place);
    free(open);
    end_places(&p);
    return code;
}

static enum apr_code pair_one(struct search *w, const struct view *a, const struct view *b, struct apr_error *e)
{
    const int gguf = w->d->gguf;
    struct way forth = { 0 }, back = { 0 };
    if (is_rough(w))
        APR_TRY(mend(w, a, b, e));
    if (gguf != 0)
        APR_TRY(find_way(w, a, b, &forth, e));
    if (gguf != 1)
        APR_TRY(find_way(w, b, a, &back, e));
    if (!forth.found && !back.found)
        return APR_OK;
    return add_way(w, !forth.found || (back.found && is_plainer(&back, &forth)) ? &back : &forth, e);
}

/* The view as one of as many slabs, where that is only another shape of it. */
static bool as_slabs(const struct view *v, uint64_t slabs, struct view *out)
{
    *out = *v;
    if (v->slabs == slabs)
        return true;
    out->slabs = slabs;
    out->rows = v->rows / slabs;
    return v->slabs == 1 && !v->turned && v->rows % slabs == 0;
}

enum apr_code pair_ones(struct search *w, struct apr_error *e)
{
    for (size_t i = 0; i < w->nedge; i++) {
        const struct view *const a = &w->view[w->edge[i].a], *const b = &w->view[w->edge[i].b];
        const uint64_t slabs = a->slabs > b->slabs ? a->slabs : b->slabs;
        struct view x, y;
        if (!a->item->used && !b->item->used && natoms(a) == natoms(b) && as_slabs(a, slabs, &x) && as_slabs(b, slabs, &y))
            APR_TRY(pair_one(w, &x, &y, e));
    }
    return APR_OK;
}
