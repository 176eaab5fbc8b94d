/* Which tensors take part in a search by value, and its steps. */
#include "discover.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/format.h"
#include "model/model.h"
#include "values/chunk.h"

double nearness(const struct discovery *d, unsigned round)
{
    static const double step[] = { 0.999, 0.99, 0.9, -1 };
    double cosine = 2, near = 0;
    if (round < 2)
        return round == 0 ? 1e-5 : NEAR_ROUNDED;
    for (unsigned i = 0; i + 2 <= round; i++) {
        if (i == APR_LENGTH(step) || cosine <= d->o->bounds.cosine)
            return 0;
        cosine = fmax(step[i], d->o->bounds.cosine);
        near = fmin(fmax(2.7 * sqrt(2 * fmax(0, 1 - cosine)), 0.03), 0.85);
    }
    return near;
}

double shortest(double x, double slack)
{
    char text[40];
    for (int digits = 1; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        const double v = strtod(text, NULL);
        if (fabs(v - x) <= slack * fabs(x))
            return v;
    }
    return x;
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* The next number that stands alone between dots; false when there is none. */
static bool next_number(struct apr_bytes s, size_t *at, uint64_t *number)
{
    while (*at < s.n) {
        size_t end = *at;
        bool digits = true;
        *number = 0;
        for (; end < s.n && s.at[end] != '.' && s.at[end] != '/'; end++) {
            digits &= s.at[end] >= '0' && s.at[end] <= '9' && end - *at < 18;
            *number = *number * 10 + (uint64_t)(s.at[end] & 15);
        }
        const bool some = digits && end > *at;
        *at = end + 1;
        if (some)
            return true;
    }
    return false;
}

unsigned names_fit(struct apr_bytes a, struct apr_bytes b)
{
    size_t at_a = 0;
    uint64_t x, y;
    for (unsigned i = 0; next_number(a, &at_a, &x); i++) {
        size_t at_b = 0;
        for (unsigned k = 0; next_number(b, &at_b, &y); k++)
            if (x == y)
                return i + k == 0 ? 2 : 1;
    }
    return at_a == 0 && b.n == 0;
}

/* ---- findings ------------------------------------------------------------------------------------------------------- */

static struct item **copied(struct discovery *d, struct item *const *list, size_t n)
{
    struct item **const copy = apr_arena_alloc(&d->arena, n * sizeof *copy);
    for (size_t i = 0; copy != NULL && i < n; i++) {
        copy[i] = list[i];
        copy[i]->used = true;
    }
    return copy;
}

enum apr_code add_finding(struct discovery *d, struct item *const *from, size_t nfrom, struct item *const *to, size_t nto,
                          struct finding **f, struct apr_error *e)
{
    struct finding *const more = apr_grown(d->finding, &d->room, d->nfinding, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    d->finding = more;
    *f = &d->finding[d->nfinding];
    **f = (struct finding){ .from = copied(d, from, nfrom), .to = copied(d, to, nto), .nfrom = nfrom, .nto = nto, .flipped = from[0]->of_b,
                            .doubt = true, .cosine = NAN };
    if ((*f)->from == NULL || (*f)->to == NULL)
        return apr_no_memory(e);
    d->nfinding++;
    return APR_OK;
}

bool add_reshape(struct finding *f, const uint64_t *from, unsigned nfrom, const uint64_t *to, unsigned nto)
{
    if (nfrom == nto && memcmp(from, to, nto * sizeof *to) == 0)
        return true;
    if (f->nstep == APR_MAX_STEPS || nto > APR_MAX_PARTS || nto == 0)
        return false;
    struct apr_transform *const t = &f->step[f->nstep++];
    *t = (struct apr_transform){ .op = APR_OP_RESHAPE, .nn = nto };
    memcpy(t->n, to, nto * sizeof *to);
    return true;
}

/* ---- items ---------------------------------------------------------------------------------------------------------- */

static void add_item(struct discovery *d, const struct apr_tensor *t, bool of_b)
{
    if (t == NULL || t->tied || t->dtype->pair != NULL || t->count < LEAST_EVIDENCE || !apr_decodable(d->o->cli.run.kernels, t))
        return;
    struct item *const item = &d->item[d->nitem++];
    *item = (struct item){ .t = t, .of_b = of_b };
    for (unsigned i = 0; i < t->ndim; i++)
        if (t->dim[i] != 1)
            item->dim[item->ndim++] = t->dim[i];
}

static enum apr_code gather_items(struct discovery *d, const struct match *m, struct apr_error *e)
{
    d->item = malloc((m->nonly_a + m->nonly_b + 1) * sizeof *d->item);
    if (d->item == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->nonly_a; i++)
        add_item(d, apr_model_find(d->models->a, m->only_a[i]), false);
    for (size_t i = 0; i < m->nonly_b; i++)
        add_item(d, apr_model_find(d->models->b, m->only_b[i]), true);
    return APR_OK;
}

static int by_names(const void *a, const void *b)
{
    const struct finding *x = a, *y = b;
    const struct item *const p = x->flipped ? x->to[0] : x->from[0], *const q = y->flipped ? y->to[0] : y->from[0];
    if (p != q)
        return p < q ? -1 : 1;
    const struct item *const v = x->flipped ? x->from[0] : x->to[0], *const w = y->flipped ? y->from[0] : y->to[0];
    return (v > w) - (v < w);
}

enum apr_code discover(struct discovery *d, const struct options *o, const struct models *models, const struct match *m,
                       struct apr_error *e)
{
    const bool a = models->a->format->own_names, b = models->b->format->own_names;
    *d = (struct discovery){ .o = o, .models = models, .match = m, .gguf = a == b ? -1 : b };
    APR_TRY(gather_items(d, m, e));
    APR_TRY(prepare_sketches(d, e));
    APR_TRY(discover_same(d, e));
    APR_TRY(discover_rows(d, e));
    APR_TRY(discover_vectors(d, e));
    if (d->nfinding > 0)
        qsort(d->finding, d->nfinding, sizeof *d->finding, by_names);
    return APR_OK;
}

void free_discovery(struct discovery *d)
{
    free(d->item);
    free(d->finding);
    free(d->sign);
    apr_arena_free(&d->arena);
    *d = (struct discovery){ 0 };
}
