/* Vectors: their values in another order, by what is the same among them when sorted; one after the other in a longer one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "discover_search.h"
#include "flow/input.h"

#define MOST_VALUES ((uint64_t)4 << 20) /* of all vectors */
#define MOST_TRIED  64u                 /* vectors of like moments that one is held against */
#define HEAD        8u                  /* values that a part has at least */
#define MOST_LOOKS  ((uint64_t)1 << 24) /* places at which a part may begin, in all */

struct vector {
    struct item *item;
    float       *value;
    size_t       n;
    double       mean, size; /* size: root of the mean square */
};

struct vectors {
    struct discovery *d;
    struct vector    *v;
    size_t            n;
    float            *value;
    uint64_t          looks;
};

/* As near as rounding to 16 bits leaves two values, of vectors of that size. */
static bool is_near(float x, float y, double size)
{
    return fabs((double)x - (double)y) <= 0x1p-8 * fmax(fabs((double)x), fabs((double)y)) + 1e-6 * size;
}

static int by_moments(const void *p, const void *q)
{
    const struct vector *x = p, *y = q;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

static enum apr_code load(struct vectors *w, struct apr_error *e)
{
    struct discovery *const d = w->d;
    uint64_t all = 0;
    for (size_t i = 0; i < d->nitem; i++)
        all += !d->item[i].used && d->item[i].ndim == 1 && d->item[i].t->count <= MOST_VALUES - all ? d->item[i].t->count : 0;
    w->v = malloc((d->nitem + 1) * sizeof *w->v);
    w->value = malloc((size_t)(all + 1) * sizeof *w->value);
    if (w->v == NULL || w->value == NULL)
        return apr_no_memory(e);
    float *at = w->value;
    all = 0;
    for (size_t i = 0; i < d->nitem; i++) {
        struct item *const item = &d->item[i];
        struct shape shape;
        if (item->used || item->ndim != 1 || item->t->count > MOST_VALUES - all)
            continue;
        all += item->t->count;
        if (!shape_of(d, &item->whole, item->t->count, &shape)) /* all one value */
            continue;
        const struct apr_input in = apr_input_of(d->o->cli.run.kernels, item->of_b ? d->models->b : d->models->a, item->t);
        w->v[w->n++] = (struct vector){ item, at, (size_t)item->t->count, shape.mean, norm_of(&shape) };
        apr_input_all_floats(&in, NULL, 0, item->t->count, at);
        for (uint64_t k = 0; k < item->t->count; k++)
            at[k] = isfinite(at[k]) ? at[k] : 0;
        at += item->t->count;
    }
    if (w->n > 0)
        qsort(w->v, w->n, sizeof *w->v, by_moments);
    return APR_OK;
}

/* ---- another order -------------------------------------------------------------------------------------------------- */

struct ranked {
    float    value;
    uint32_t at;
};

static int by_value(const void *p, const void *q)
{
    const struct ranked *x = p, *y = q;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static void sort_values(const struct vector *v, struct ranked *r)
{
    for (size_t i = 0; i < v->n; i++)
        r[i] = (struct ranked){ v->value[i], (uint32_t)i };
    qsort(r, v->n, sizeof *r, by_value);
}

/* Strings of both by rank, where equal values of either share one; false where sorted values differ. */
static bool rank(const struct vector *a, const struct vector *b, struct ranked *x, struct ranked *y, uint32_t *s, uint32_t *t)
{
    uint32_t class = 0;
    sort_values(a, x);
    sort_values(b, y);
    for (size_t i = 0; i < a->n; i++) {
        if (!is_near(x[i].value, y[i].value, a->size))
            return false;
        class += i > 0 && x[i].value != x[i - 1].value && y[i].value != y[i - 1].value;
        s[x[i].at] = t[y[i].at] = class;
    }
    return true;
}

static enum apr_code pair_ranked(struct vectors *w, const struct vector *a, const struct vector *b, uint32_t *s, uint32_t *t,
                                 struct apr_error *e)
{
    const bool flipped = from_is_b(w->d, false);
    const struct vector *const from = flipped ? b : a, *const to = flipped ? a : b;
    const struct strings x = { flipped ? t : s, flipped ? s : t, a->n, 1, false };
    struct apr_transform rule;
    struct finding *f;
    unsigned nrule;
    bool found;
    APR_TRY(order_rule(w->d, &x, false, &rule, &nrule, &found, e));
    if (!found)
        return APR_OK;
    APR_TRY(add_finding(w->d, &(struct item *){ from->item }, 1, &(struct item *){ to->item }, 1, &f, e));
    if (!add_reshape(f, from->item->t->dim, from->item->t->ndim, from->item->dim, 1) || !add_rule(f, &rule, nrule) ||
        !add_reshape(f, to->item->dim, 1, to->item->t->dim, to->item->t->ndim))
        drop_finding(w->d);
    return APR_OK;
}

static enum apr_code pair_orders(struct vectors *w, struct apr_error *e)
{
    const size_t most = w->n > 0 ? w->v[w->n - 1].n : 0; /* they are sorted by length */
    struct ranked *x = malloc((most + 1) * sizeof *x), *y = malloc((most + 1) * sizeof *y);
    uint32_t *s = malloc((most + 1) * sizeof *s), *t = malloc((most + 1) * sizeof *t);
    enum apr_code code = x == NULL || y == NULL || s == NULL || t == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < w->n; i++)
        for (size_t k = i + 1; code == APR_OK && k < w->n && k - i <= MOST_TRIED; k++) {
            const struct vector *const p = &w->v[i], *const q = &w->v[k];
            const struct vector *const a = p->item->of_b ? q : p, *const b = p->item->of_b ? p : q;
            if (p->n != q->n || q->size - p->size > 0.01 * q->size)
                break;
            if (p->item->used || q->item->used || p->item->of_b == q->item->of_b || fabs(p->mean - q->mean) > 0.01 * q->size)
                continue;
            if (rank(a, b, x, y, s, t))
                code = pair_ranked(w, a, b, s, t, e);
        }
    free(x);
    free(y);
    free(s);
    free(t);
    return code;
}

/* ---- parts ---------------------------------------------------------------------------------------------------------- */

/* Does the part lie there in the whole? */
static bool lies_at(const struct vector *whole, size_t at, const struct vector *part)
{
    size_t i = 0;
    while (i < part->n && is_near(whole->value[at + i], part->value[i], part->size))
        i++;
    return i == part->n;
}

static enum apr_code add_parts(struct vectors *w, const struct vector *whole, const struct vector *const *part, size_t n,
                               struct apr_error *e)
{
    const bool from = w->d->gguf >= 0 && (w->d->gguf == 1) != whole->item->of_b;
    struct apr_transform step = { .op = from ? APR_OP_SPLIT_ROWS : APR_OP_CONCAT_ROWS, .nn = (unsigned)n };
    struct item *list[APR_MAX_PARTS], *all = whole->item;
    struct finding *f;
    bool plain = all->t->ndim == 1;
    for (size_t i = 0; i < n; i++) {
        list[i] = part[i]->item;
        step.n[i] = part[i]->n;
        plain &= list[i]->t->ndim == 1;
    }
    if (!plain)
        return APR_OK;
    APR_TRY(from ? add_finding(w->d, &all, 1, list, n, &f, e) : add_finding(w->d, list, n, &all, 1, &f, e));
    (void)add_rule(f, &step, 1);
    return APR_OK;
}

/* Fills the whole from its start with parts of the other side that lie there one behind the other. */
static enum apr_code fill(struct vectors *w, const struct vector *whole, struct apr_error *e)
{
    const struct vector *part[APR_MAX_PARTS];
    size_t n = 0, at = 0;
    while (at < whole->n && n < APR_MAX_PARTS) {
        const struct vector *found = NULL;
        for (size_t i = 0; i < w->n && found == NULL && w->looks < MOST_LOOKS; i++) {
            const struct vector *const p = &w->v[i];
            w->looks++;
            if (p->n > whole->n - at || p->n == whole->n || p->n < HEAD)
                continue;
            if (!p->item->used && p->item->of_b != whole->item->of_b && lies_at(whole, at, p))
                found = p;
        }
        if (found == NULL)
            break;
        part[n++] = found;
        at += found->n;
    }
    bool twice = false;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            twice |= part[i] == part[k];
    return at == whole->n && n > 1 && !twice ? add_parts(w, whole, part, n, e) : APR_OK;
}

enum apr_code discover_vectors(struct discovery *d, struct apr_error *e)
{
    struct vectors w = { .d = d };
    enum apr_code code = load(&w, e);
    if (code == APR_OK)
        code = pair_orders(&w, e);
    for (size_t i = 0; code == APR_OK && i < w.n; i++)
        if (!w.v[i].item->used)
            code = fill(&w, &w.v[i], e);
    free(w.v);
    free(w.value);
    return code == APR_OK ? measure_findings(d, e) : code;
}
