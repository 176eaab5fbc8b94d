/* Findings, measured over all elements that pair. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "discover.h"
#include "values/kernels.h"

#define LEAST_COSINE 0.5 /* below it two tensors have nothing in common, whatever the threshold */

/* Pairs of findings in doubt: pair i is of finding of[i]. */
struct trial {
    struct discovery *d;
    struct pair      *pair;
    size_t           *of, npair, at;
    struct apr_arena *arena;
};

/* The steps of a finding as each side's chain from the whole that a contract gives the shape of: joined tensors are split out of it. */
struct chains {
    const struct apr_transform *from, *to;
    size_t                      nfrom, nto;
    uint64_t                    dim[APR_MAX_DIMS];
    unsigned                    ndim;
};

static bool is_joined(const struct finding *f)
{
    return f->nstep > 0 && (f->step[0].op == APR_OP_CONCAT_ROWS || f->step[0].op == APR_OP_CONCAT_COLS);
}

unsigned whole_shape(const struct finding *f, uint64_t dim[APR_MAX_DIMS])
{
    const struct apr_tensor *const first = f->from[0]->t;
    const bool joined = is_joined(f);
    const unsigned axis = first->ndim - (joined && f->step[0].op == APR_OP_CONCAT_ROWS && first->ndim > 1 ? 2 : 1);
    memcpy(dim, first->dim, sizeof first->dim);
    for (size_t i = 1; i < f->nfrom && joined; i++)
        if (f->from[i]->t->ndim != first->ndim || !apr_add(dim[axis], f->from[i]->t->dim[axis], &dim[axis]))
            return 0;
    return first->ndim;
}

static bool chains_of(const struct finding *f, struct chains *c)
{
    const bool joined = is_joined(f);
    *c = (struct chains){ .from = f->step, .to = f->step + joined, .nfrom = joined, .nto = f->nstep - joined };
    c->ndim = whole_shape(f, c->dim);
    return c->ndim > 0;
}

/* Do the steps lead from the shapes there are to those there are? */
static bool shapes_fit(const struct chains *c, struct item *const *list, size_t n, bool from)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t dim[APR_MAX_DIMS];
        unsigned ndim = c->ndim;
        const struct apr_tensor *const t = list[i]->t;
        memcpy(dim, c->dim, sizeof dim);
        if (!apr_transform_shape(from ? c->from : c->to, from ? c->nfrom : c->nto, i, dim, &ndim) || ndim != t->ndim ||
            memcmp(dim, t->dim, ndim * sizeof *dim) != 0)
            return false;
    }
    return true;
}

bool finding_fits(const struct finding *f)
{
    struct chains c;
    return chains_of(f, &c) && shapes_fit(&c, f->from, f->nfrom, true) && shapes_fit(&c, f->to, f->nto, false);
}

/* Of A, the checkpoint's side, only those rows are compared that the chain begins by keeping. */
static enum apr_code keep_rows(struct pair *p, const struct chains *c, struct apr_view *own, uint64_t *dim, struct apr_error *e)
{
    APR_TRY(apr_view_back(own, c->to, 1, dim, c->ndim, e));
    p->before = c->to->n[0];
    for (unsigned i = 1; i < c->ndim; i++)
        p->before *= dim[i];
    dim[0] = p->dim[0] = c->to->n[1];
    return APR_OK;
}

/* Tensor number i of A's and all that B has, as the chains say. */
static enum apr_code add_pair(struct trial *t, const struct finding *f, const struct chains *c, size_t i, bool *good, struct apr_error *e)
{
    struct item *const *const own_side = f->flipped ? f->to : f->from, *const *const other = f->flipped ? f->from : f->to;
    const size_t n = f->flipped ? f->nfrom : f->nto;
    struct pair *const p = &t->pair[t->npair];
    const struct apr_tensor **const part = apr_arena_alloc(&t->arena, n * sizeof *part);
    struct apr_view *const view = apr_arena_alloc(&t->arena, sizeof *view), *const own = apr_arena_alloc(&t->arena, sizeof *own);
    uint64_t dim[APR_MAX_DIMS];
    if (part == NULL || view == NULL || own == NULL)
        return apr_no_memory(e);
    for (size_t k = 0; k < n; k++)
        part[k] = other[k]->t;
    *p = (struct pair){ .a = own_side[i]->t, .b = part[0], .name = own_side[i]->t->name, .view = view, .own = own };
    memcpy(p->dim, p->a->dim, sizeof p->dim);
    p->ndim = p->a->ndim;
    *view = apr_view_of(part, n, i);
    *own = (struct apr_view){ .npart = 1 };
    memcpy(dim, c->dim, sizeof dim);
    const bool rows = !f->flipped && c->nto > 0 && c->to->op == APR_OP_ROWS;
    struct apr_error why;
    enum apr_code code = rows ? keep_rows(p, c, own, dim, &why) : APR_OK;
    if (code == APR_OK)
        code = apr_view_back(view, f->flipped ? c->to : c->from, f->flipped ? c->nto : c->nfrom, dim, c->ndim, &why);
    if (code == APR_OK)
        code = apr_view_forth(view, f->flipped ? c->from : c->to + rows, f->flipped ? c->nfrom : c->nto - rows, dim, c->ndim, &why);
    *good &= code == APR_OK;
    if (code == APR_OK)
        apr_view_exchange(view, own);
    t->of[t->npair++] = (size_t)(f - t->d->finding);
    return APR_OK;
}

/* Adds the pairs of a finding; it stays without any, and is dropped later, where its steps cannot be followed. */
static enum apr_code add_pairs(struct trial *t, struct finding *f, struct apr_error *e)
{
    struct chains c;
    const size_t before = t->npair;
    bool good = chains_of(f, &c) && finding_fits(f);
    for (size_t i = 0; good && i < (f->flipped ? f->nto : f->nfrom); i++)
        APR_TRY(add_pair(t, f, &c, i, &good, e));
    if (!good)
        t->npair = before;
    return APR_OK;
}

static enum apr_code take(void *ctx, const struct row *r, struct apr_error *e)
{
    struct trial *const t = ctx;
    struct finding *const f = &t->d->finding[t->of[t->at++]];
    (void)e;
    if (!was_compared(r) || 2 * r->sums.nonfinite > r->count) {
        f->bb = NAN;
        return APR_OK;
    }
    const bool equal = r->sums.identical == r->count && f->nfrom + f->nto > 2; /* then sums may stand for others */
    double own = r->sums.aa;
    for (size_t i = 0; equal && i < f->nfrom + f->nto; i++) {
        const struct item *const x = i < f->nfrom ? f->from[i] : f->to[i - f->nfrom];
        own = x->t == r->pair->a ? x->whole.square : own;
    }
    f->ab += equal ? own : r->sums.ab;
    f->aa += equal ? own : r->sums.aa;
    f->bb += equal ? own : r->sums.bb;
    return APR_OK;
}

static void mark(const struct finding *f, bool used)
{
    for (size_t i = 0; i < f->nfrom; i++)
        f->from[i]->used = used;
    for (size_t i = 0; i < f->nto; i++)
        f->to[i]->used = used;
}

/* Drops what does not hold. What another finding has stays used. */
static void keep_or_drop(struct discovery *d)
{
    const double least = fmax(d->o->bounds.cosine, LEAST_COSINE);
    size_t kept = 0;
    for (size_t i = 0; i < d->nfinding; i++) {
        struct finding *const f = &d->finding[i];
        if (f->doubt)
            f->cosine = apr_cosine(f->ab, f->aa, f->bb);
        if (f->doubt && !(f->aa > 0 && f->bb > 0 && f->cosine >= least))
            mark(f, false);
        else
            d->finding[kept++] = *f;
    }
    d->nfinding = kept;
    for (size_t i = 0; i < kept; i++) {
        mark(&d->finding[i], true);
        d->finding[i].doubt = false;
    }
}

enum apr_code measure_findings(struct discovery *d, struct apr_error *e)
{
    struct trial t = { .d = d };
    size_t most = 0;
    for (size_t i = 0; i < d->nfinding; i++)
        most += d->finding[i].doubt ? (d->finding[i].flipped ? d->finding[i].nto : d->finding[i].nfrom) : 0;
    t.pair = malloc((most + 1) * sizeof *t.pair);
    t.of = malloc((most + 1) * sizeof *t.of);
    enum apr_code code = t.pair == NULL || t.of == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < d->nfinding; i++)
        if (d->finding[i].doubt)
            code = add_pairs(&t, &d->finding[i], e);
    struct options o = *d->o;
    o.top = o.rows = 0;
    o.rules = (struct rules){ 0 };
    o.no_transpose = true;
    if (code == APR_OK)
        code = compare_pairs(&o, d->models, t.pair, t.npair, take, &t, e);
    if (code == APR_OK)
        keep_or_drop(d);
    free(t.pair);
    free(t.of);
    apr_arena_free(&t.arena);
    return code;
}
