/* Tensors that hold the same in the same order: under another name, in another shape, with a constant added or times one, as slabs of one
 * tensor, or as -exp. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/table.h"
#include "discover.h"

#define MOST_TRIED 64u /* tensors of one class of which the likeliest is chosen */
#define MOST_EXP   ((uint64_t)1 << 26) /* elements of a tensor that is taken for -exp of another */

/* Values of one tensor, or of a slab of one. negated: times -1. */
struct run {
    struct item *item;
    bool         negated;
    uint64_t     slab, count;
    struct shape shape;
    uint32_t     class;
};

/* How one run becomes another: values times `times`, and `plus`. */
enum likeness { ALIKE, SCALED, MOVED, UNLIKE };

static enum likeness compare(const struct run *from, const struct run *to, double near, double *times, double *plus)
{
    const double slack = factor_slack(0.5 * near), size = norm_of(&to->shape);
    *times = to->shape.deviation / from->shape.deviation;
    *plus = to->shape.mean - from->shape.mean;
    const bool same_scale = fabs(*times - 1) <= slack;
    if (same_scale && fabs(*plus) <= slack * size)
        return ALIKE;
    if (fabs(to->shape.mean - from->shape.mean * *times) <= slack * to->shape.deviation)
        return SCALED;
    return same_scale ? MOVED : UNLIKE;
}

/* Where no side is a GGUF, a constant is added that is above 0, and what is scaled becomes larger: so it reads alike in both directions. */
static bool turns_round(const struct discovery *d, const struct run *a, const struct run *b, double near)
{
    double times, plus;
    const enum likeness how = compare(a, b, near, &times, &plus);
    return from_is_b(d, (how == SCALED && times < 1) || (how == MOVED && plus < 0));
}

static struct apr_transform scale_by(double times) { return (struct apr_transform){ .op = APR_OP_SCALE, .by = { times } }; }

static enum apr_code pair_runs(struct discovery *d, const struct run *a, const struct run *b, double near, struct apr_error *e)
{
    const bool flipped = turns_round(d, a, b, near);
    const struct run *const from = flipped ? b : a, *const to = flipped ? a : b;
    struct finding *f;
    double times, plus;
    APR_TRY(add_finding(d, &from->item, 1, &to->item, 1, &f, e));
    const enum likeness how = compare(from, to, near, &times, &plus);
    if (a->negated)
        f->step[f->nstep++] = scale_by(how == SCALED ? -shortest(times, fmax(near / 50, 1e-6)) : -1);
    else if (how == SCALED)
        f->step[f->nstep++] = scale_by(shortest(times, fmax(near / 50, 1e-6)));
    else if (how == MOVED)
        f->step[f->nstep++] = (struct apr_transform){ .op = APR_OP_ADD, .by = { shortest(plus, fmax(near, 1e-4)) } };
    (void)add_reshape(f, from->item->t->dim, from->item->t->ndim, to->item->t->dim, to->item->t->ndim); /* at most the second step */
    return APR_OK;
}

/* ---- classes of runs ------------------------------------------------------------------------------------------------ */

struct runs {
    struct run *run;
    size_t      n;
    uint32_t   *order, *first; /* runs by class; where each class begins */
    uint32_t   *open;          /* of each class: where the first stands that may be free */
    uint32_t    nclass;
};

static void free_runs(struct runs *r)
{
    free(r->run);
    free(r->order);
    free(r->first);
    free(r->open);
    *r = (struct runs){ 0 };
}

/* Sorts the runs into classes. */
static enum apr_code sort_runs(struct runs *r, double near, struct apr_error *e)
{
    float (*lane)[SKETCH] = malloc((r->n + 1) * sizeof *lane);
    uint64_t *key = malloc((r->n + 1) * sizeof *key);
    uint32_t *class = malloc((r->n + 1) * sizeof *class);
    enum apr_code code = lane == NULL || key == NULL || class == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < r->n; i++) {
        memcpy(lane[i], r->run[i].shape.lane, sizeof *lane);
        key[i] = class_key(r->run[i].count, r->run[i].item->of_b);
    }
    if (code == APR_OK)
        code = classify(&(struct points){ (const float (*)[SKETCH])lane, key, NULL }, r->n, near, class, &r->nclass, e);
    free(r->order);
    free(r->first);
    free(r->open);
    r->open = code == APR_OK ? malloc(((size_t)r->nclass + 1) * sizeof *r->open) : NULL;
    r->order = malloc((r->n + 1) * sizeof *r->order);
    r->first = code == APR_OK ? calloc((size_t)r->nclass + 2, sizeof *r->first) : NULL;
    if (code == APR_OK && (r->order == NULL || r->first == NULL || r->open == NULL))
        code = apr_no_memory(e);
    for (size_t i = 0; code == APR_OK && i < r->n; i++)
        r->first[(r->run[i].class = class[i]) + 2]++;
    for (size_t k = 2; code == APR_OK && k < (size_t)r->nclass + 2; k++)
        r->first[k] += r->first[k - 1];
    for (size_t i = 0; code == APR_OK && i < r->n; i++)
        r->order[r->first[class[i] + 1]++] = (uint32_t)i;
    if (code == APR_OK)
        memcpy(r->open, r->first, r->nclass * sizeof *r->open);
    free(lane);
    free(key);
    free(class);
    return code;
}

/* How well x fits `to`: by its values, its shape, and the numbers in its name; 0 not at all. */
static unsigned fit(const struct run *x, const struct run *to, double near)
{
    const struct apr_tensor *const a = x->item->t, *const b = to->item->t;
    double times, plus;
    const enum likeness how = x->item->of_b == to->item->of_b ? UNLIKE : compare(x, to, near, &times, &plus);
    const bool shaped = a->ndim == b->ndim && memcmp(a->dim, b->dim, a->ndim * sizeof *a->dim) == 0;
    if (how == MOVED && (x->negated || to->negated)) /* that would take two steps */
        return 0;
    return how == UNLIKE ? 0 : 1u + (how == ALIKE ? 16u : 0u) + (shaped ? 8u : 0u) + names_fit(a->name, b->name);
}

/* The likeliest of the other side's runs in the class, of those that are free; if none is, of the others. */
static const struct run *likeliest(const struct runs *r, const struct run *to, double near)
{
    const struct run *best = NULL;
    const uint32_t class = to->class, end = r->first[class + 1];
    unsigned most = 0, tried = 0;
    while (r->open[class] < end && r->run[r->order[r->open[class]]].item->used)
        r->open[class]++;
    for (unsigned used = 0; used < 2 && best == NULL; used++, tried = 0)
        for (uint32_t k = used ? r->first[class] : r->open[class]; k < end && tried < MOST_TRIED; k++, tried++) {
            const struct run *const x = &r->run[r->order[k]];
            const unsigned fits = x->item->used == used ? fit(x, to, near) : 0;
            if (fits > most) {
                most = fits;
                best = x;
            }
        }
    return best;
}

static bool add_run(struct runs *r, const struct discovery *d, struct item *item, const struct signature *s, uint64_t slab, uint64_t count)
{
    struct run *const run = &r->run[r->n];
    *run = (struct run){ .item = item, .slab = slab, .count = count };
    const bool tells = shape_of(d, s, count, &run->shape);
    r->n += tells;
    return tells;
}

static void negate(struct run *r)
{
    r->negated = true;
    r->shape.mean = -r->shape.mean;
    for (size_t l = 0; l < SKETCH; l++)
        r->shape.lane[l] = -r->shape.lane[l];
}

/* Pairs whole tensors, of both sides, as near as the round says; negated: with -1 times A's. Those that are found already may be found
 * again by one that is not. */
static enum apr_code pair_whole(struct discovery *d, double near, bool negated, struct apr_error *e)
{
    struct runs r = { .run = malloc((d->nitem + 1) * sizeof *r.run) };
    enum apr_code code = r.run == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < d->nitem; i++)
        if (add_run(&r, d, &d->item[i], &d->item[i].whole, 0, d->item[i].t->count) && negated && !d->item[i].of_b)
            negate(&r.run[r.n - 1]);
    if (code == APR_OK)
        code = sort_runs(&r, near, e);
    for (size_t pass = 0; code == APR_OK && pass < 2; pass++) /* B's first, then what is left of A */
        for (size_t i = 0; code == APR_OK && i < r.n; i++) {
            const struct run *const x = &r.run[i], *const other = x->item->used || x->item->of_b == pass ? NULL : likeliest(&r, x, near);
            if (other != NULL)
                code = pair_runs(d, x->item->of_b ? other : x, x->item->of_b ? x : other, near, e);
        }
    free_runs(&r);
    return code;
}

/* ---- slabs ---------------------------------------------------------------------------------------------------------- */

static bool is_stack(const struct item *item) { return item->ndim > 2 && item->dim[0] > 1; }

/* Finds for each slab, runs [at, at + n), a tensor of its own. */
static enum apr_code pair_slabs(struct discovery *d, const struct runs *r, size_t at, double near, struct apr_error *e)
{
    struct item *const all = r->run[at].item;
    const size_t n = (size_t)all->dim[0];
    struct item **const part = malloc(n * sizeof *part);
    size_t got = 0;
    struct finding *f;
    if (part == NULL)
        return apr_no_memory(e);
    for (; got < n; got++) {
        const struct run *const x = likeliest(r, &r->run[at + got], near);
        double times, plus;
        if (x == NULL || x->item->used || is_stack(x->item) || compare(x, &r->run[at + got], near, &times, &plus) != ALIKE ||
            memcmp(x->item->dim, all->dim + 1, sizeof(uint64_t) * (all->ndim - 1)) != 0)
            break;
        part[got] = x->item;
        x->item->used = true; /* not twice */
    }
    for (size_t i = 0; i < got; i++)
        part[i]->used = false;
    enum apr_code code = got < n ? APR_OK : add_finding(d, part, n, &all, 1, &f, e);
    if (code == APR_OK && got == n) {
        uint64_t dim[APR_MAX_DIMS] = { n };
        memcpy(dim + 1, part[0]->t->dim, (APR_MAX_DIMS - 1) * sizeof *dim);
        f->step[f->nstep++] = (struct apr_transform){ .op = APR_OP_STACK, .nn = 1, .n = { n } };
        (void)add_reshape(f, dim, part[0]->t->ndim + 1, all->t->dim, all->t->ndim);
    }
    free(part);
    return code;
}

/* What may be a slab: how many elements, of a tensor of which side. */
static struct apr_bytes slab_key(uint64_t count, bool of_b) { return apr_table_integer(2 * count + of_b); }

static enum apr_code count_tensors(const struct discovery *d, struct apr_table *sizes, struct apr_error *e)
{
    bool fresh;
    for (size_t i = 0; i < d->nitem; i++)
        if (!d->item[i].used && apr_table_put(sizes, slab_key(d->item[i].t->count, d->item[i].of_b), &fresh) == NULL)
            return apr_no_memory(e);
    return APR_OK;
}

/* Sketches the slabs of what may be a stack: on the other side is a tensor as large as one. */
static enum apr_code sketch_slabs(const struct discovery *d, const struct apr_table *sizes, struct stretch **s, size_t *n,
                                  struct apr_error *e)
{
    uint64_t most = 0;
    *n = 0;
    for (size_t i = 0; i < d->nitem; i++)
        if (is_stack(&d->item[i]) && !apr_add(most, d->item[i].dim[0], &most))
            most = UINT32_MAX;
    if (most >= UINT32_MAX / 2)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "too many slabs for a search by value");
    *s = malloc((size_t)(most + 1) * sizeof **s);
    if (*s == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < d->nitem; i++) {
        const struct item *const item = &d->item[i];
        if (item->used || !is_stack(item) || item->t->count / item->dim[0] < LEAST_EVIDENCE ||
            apr_table_find(sizes, slab_key(item->t->count / item->dim[0], !item->of_b)) == NULL)
            continue;
        const uint64_t count = item->t->count / item->dim[0];
        for (uint64_t k = 0; k < item->dim[0]; k++)
            (*s)[(*n)++] = (struct stretch){ .item = item, .first = k * count, .count = count };
    }
    return sketch_stretches(d, *s, *n, e);
}

static enum apr_code pair_stacks(struct discovery *d, struct apr_error *e)
{
    struct stretch *s = NULL;
    struct apr_table sizes = { 0 };
    size_t n = 0;
    enum apr_code code = count_tensors(d, &sizes, e);
    if (code == APR_OK)
        code = sketch_slabs(d, &sizes, &s, &n, e);
    apr_table_free(&sizes);
    struct runs r = { .run = code == APR_OK ? malloc((n + d->nitem + 1) * sizeof *r.run) : NULL };
    if (code == APR_OK && r.run == NULL)
        code = apr_no_memory(e);
    for (unsigned round = 0; code == APR_OK && n > 0 && nearness(d, round) > 0; round++) {
        const double near = nearness(d, round);
        r.n = 0;
        for (size_t i = 0, end; i < n; i = end) { /* a stack of which a slab tells nothing is none */
            struct item *const all = &d->item[s[i].item - d->item];
            const size_t before = r.n;
            end = i + (size_t)all->dim[0];
            for (size_t k = i; k < end && !all->used; k++)
                if (!add_run(&r, d, all, &s[k].signature, k - i, s[k].count)) {
                    r.n = before;
                    break;
                }
        }
        const size_t nslab = r.n;
        for (size_t i = 0; i < d->nitem; i++)
            if (!d->item[i].used && !is_stack(&d->item[i]))
                add_run(&r, d, &d->item[i], &d->item[i].whole, 0, d->item[i].t->count);
        code = sort_runs(&r, near, e);
        for (size_t i = 0; code == APR_OK && i < nslab; i += (size_t)r.run[i].item->dim[0])
            code = pair_slabs(d, &r, i, near, e);
    }
    free(s);
    free_runs(&r);
    return code;
}

/* ---- -exp ----------------------------------------------------------------------------------------------------------- */

/* Tensors that are below 0 throughout are -exp of those that equal their log(-x). */
static enum apr_code pair_exp(struct discovery *d, struct apr_error *e)
{
    struct stretch *s = malloc((d->nitem + 1) * sizeof *s);
    struct runs r = { .run = malloc((2 * d->nitem + 1) * sizeof *r.run) };
    size_t n = 0;
    enum apr_code code = s == NULL || r.run == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < d->nitem; i++)
        if (!d->item[i].used && d->item[i].whole.max < 0 && d->item[i].t->count <= MOST_EXP &&
            (d->gguf < 0 || d->item[i].of_b == (d->gguf == 1)))
            s[n++] = (struct stretch){ .item = &d->item[i], .count = d->item[i].t->count, .negated = true };
    if (code == APR_OK)
        code = sketch_stretches(d, s, n, e);
    for (size_t i = 0; code == APR_OK && i < n; i++)
        add_run(&r, d, &d->item[s[i].item - d->item], &s[i].signature, 0, s[i].count);
    const size_t nlog = r.n;
    for (size_t i = 0; code == APR_OK && i < d->nitem; i++)
        if (!d->item[i].used)
            add_run(&r, d, &d->item[i], &d->item[i].whole, 0, d->item[i].t->count);
    const double near = nearness(d, 1);
    if (code == APR_OK && nlog > 0)
        code = sort_runs(&r, near, e);
    for (size_t i = 0; code == APR_OK && i < nlog; i++) {
        const struct run *const x = &r.run[i], *const from = x->item->used ? NULL : likeliest(&r, x, near);
        double times, plus;
        struct finding *f;
        if (from == NULL || from->item->used || from < r.run + nlog || compare(from, x, near, &times, &plus) != ALIKE)
            continue;
        code = add_finding(d, &from->item, 1, &x->item, 1, &f, e);
        if (code != APR_OK)
            break;
        f->step[f->nstep++] = (struct apr_transform){ .op = APR_OP_NEG_EXP };
        (void)add_reshape(f, from->item->t->dim, from->item->t->ndim, x->item->t->dim, x->item->t->ndim);
    }
    free(s);
    free_runs(&r);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code sketch_whole(struct discovery *d, struct apr_error *e)
{
    struct stretch *const s = malloc((d->nitem + 1) * sizeof *s);
    if (s == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < d->nitem; i++)
        s[i] = (struct stretch){ .item = &d->item[i], .count = d->item[i].t->count };
    const enum apr_code code = sketch_stretches(d, s, d->nitem, e);
    for (size_t i = 0; i < d->nitem; i++)
        d->item[i].whole = s[i].signature;
    free(s);
    return code;
}

enum apr_code discover_same(struct discovery *d, struct apr_error *e)
{
    APR_TRY(sketch_whole(d, e));
    for (unsigned round = 0; nearness(d, round) > 0; round++)
        for (unsigned negated = 0; negated < 2; negated++) {
            APR_TRY(pair_whole(d, nearness(d, round), negated, e));
            APR_TRY(measure_findings(d, e));
        }
    APR_TRY(pair_exp(d, e));
    APR_TRY(pair_stacks(d, e));
    return measure_findings(d, e);
}
