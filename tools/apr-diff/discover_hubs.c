/* A tensor that holds several others, or one and more: what was split, joined, stacked, cut or filled up with zeros. */
#include <stdlib.h>
#include <string.h>

#include "discover_search.h"

#define MOST_SPOKES 65536u /* experts */

/* A tensor whose rows are all in the hub: where, in the hub's first slab or, with one slab, anywhere. */
struct spoke {
    const struct view *v;
    uint32_t          *place, least;
};

/* What is tried of a hub: spokes seen all in one way, in the order in which they lie in it.
 *   whole   their rows are all that it has
 *   joined  their strings, slab by slab */
struct hub {
    const struct view *v;
    struct spoke      *spoke;
    size_t             nspoke;
    uint64_t           rows; /* of a slab of all spokes */
    uint32_t          *joined;
};

static void free_spokes(struct hub *h)
{
    for (size_t i = 0; i < h->nspoke; i++)
        free(h->spoke[i].place);
    free(h->joined);
    h->joined = NULL;
    h->nspoke = 0;
}

/* ---- spokes --------------------------------------------------------------------------------------------------------- */

/* Adds a spoke whose rows no other has taken. */
static enum apr_code add_spoke(struct search *w, struct hub *h, const struct view *v, struct places *places, struct apr_error *e)
{
    const size_t n = (size_t)natoms(v);
    struct spoke s = { v, malloc((n + 1) * sizeof *s.place), UINT32_MAX };
    if (s.place == NULL)
        return apr_no_memory(e);
    take_places(places, string_of(w, v), n, s.place);
    size_t missing = 0;
    for (size_t i = 0; i < n; i++) {
        missing += s.place[i] == UINT32_MAX;
        s.least = s.place[i] < s.least ? s.place[i] : s.least;
    }
    if (10 * missing > (is_rough(w) ? 3 : 1) * n) {
        leave_places(places, s.place, n);
        free(s.place);
        return APR_OK;
    }
    h->spoke[h->nspoke++] = s;
    return APR_OK;
}

static int by_place(const void *p, const void *q)
{
    const struct spoke *x = p, *y = q;
    return (x->least > y->least) - (x->least < y->least);
}

/* Joins the strings of the spokes, slab by slab where each has as many slabs as the hub; else all are one slab. */
static enum apr_code join_spokes(struct search *w, struct hub *h, struct apr_error *e)
{
    bool slabs = true;
    uint64_t all = 0;
    for (size_t i = 0; i < h->nspoke; i++) {
        slabs &= h->spoke[i].v->slabs == h->v->slabs;
        all += natoms(h->spoke[i].v);
    }
    const uint64_t nslab = slabs ? h->v->slabs : 1;
    h->rows = all / nslab;
    h->joined = malloc((size_t)(all + 1) * sizeof *h->joined);
    if (h->joined == NULL)
        return apr_no_memory(e);
    size_t at = 0;
    for (uint64_t k = 0; k < nslab; k++)
        for (size_t i = 0; i < h->nspoke; i++) {
            const struct view *const v = h->spoke[i].v;
            const size_t n = (size_t)(natoms(v) / nslab);
            memcpy(h->joined + at, string_of(w, v) + k * n, n * sizeof *h->joined);
            at += n;
        }
    return APR_OK;
}

/* Takes of the hub's edges those seen in one way: the hub turned, the others turned. */
static enum apr_code gather(struct search *w, struct hub *h, const struct edge *edge, size_t n, bool of_b, bool turned, bool others,
                            struct apr_error *e)
{
    struct places places = { 0 };
    enum apr_code code = APR_OK;
    for (size_t i = 0; code == APR_OK && i < n && h->nspoke < MOST_SPOKES; i++) {
        const struct view *const hub = &w->view[of_b ? edge[i].b : edge[i].a], *const v = &w->view[of_b ? edge[i].a : edge[i].b];
        if (hub->turned != turned || v->turned != others || v->item->used || natoms(v) >= natoms(hub))
            continue;
        if (h->v == NULL)
            code = begin_places(&places, string_of(w, hub), (size_t)natoms(hub), e);
        h->v = hub;
        if (code == APR_OK)
            code = add_spoke(w, h, v, &places, e);
    }
    end_places(&places);
    if (code == APR_OK && h->nspoke > 0) {
        qsort(h->spoke, h->nspoke, sizeof *h->spoke, by_place);
        code = join_spokes(w, h, e);
    }
    return code;
}

/* ---- findings ------------------------------------------------------------------------------------------------------- */

static enum apr_code begin(struct search *w, const struct hub *h, bool from, struct finding **f, struct apr_error *e)
{
    struct item *const all = h->v->item;
    struct item **const list = malloc(h->nspoke * sizeof *list);
    if (list == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < h->nspoke; i++)
        list[i] = h->spoke[i].v->item;
    const enum apr_code code = from ? add_finding(w->d, &all, 1, list, h->nspoke, f, e) : add_finding(w->d, list, h->nspoke, &all, 1, f, e);
    free(list);
    return code;
}

/* A step of as many parts as there are spokes, each of its rows; false where these are too many. */
static bool add_parts(struct finding *f, const struct hub *h, enum apr_op op, uint64_t slabs)
{
    struct apr_transform t = { .op = op, .nn = (unsigned)h->nspoke };
    if (h->nspoke > APR_MAX_PARTS)
        return false;
    for (size_t i = 0; i < h->nspoke; i++)
        t.n[i] = natoms(h->spoke[i].v) / slabs;
    return add_rule(f, &t, 1);
}

static uint64_t slabs_of(const struct hub *h) { return h->rows == h->v->rows ? h->v->slabs : 1; }

/* Each part gets the shape that its tensor has. */
static bool shape_parts(struct finding *f, const struct hub *h, uint64_t slabs)
{
    bool good = true;
    for (size_t i = 0; i < h->nspoke && good; i++) {
        struct view v = *h->spoke[i].v;
        uint64_t dim[3];
        unsigned ndim, before = f->nstep;
        v.slabs = slabs;
        shape_of_view(&v, natoms(h->spoke[i].v) / slabs, dim, &ndim);
        good = add_reshape(f, dim, ndim, v.item->t->dim, v.item->t->ndim);
        if (f->nstep > before)
            f->step[before].only = (unsigned)i + 1;
    }
    return good;
}

/* ---- splits --------------------------------------------------------------------------------------------------------- */

/* The parts as they would be if each kept the order of the hub: then they differ from it by groups at most, and each by a rule of its
 * own. */
static enum apr_code find_inner(struct search *w, const struct hub *h, struct apr_transform *outer, unsigned *nouter,
                                struct apr_transform *inner, unsigned *ninner, bool *found, struct apr_error *e)
{
    const uint32_t *const all = string_of(w, h->v);
    const size_t n = (size_t)h->v->rows;
    uint32_t *const kept = malloc((n + 1) * sizeof *kept);
    bool *const mine = malloc(n + 1);
    enum apr_code code = kept == NULL || mine == NULL ? apr_no_memory(e) : APR_OK;
    const bool cols = h->v->turned && h->spoke[0].v->turned;
    size_t at = 0;
    *found = h->v->slabs == 1 && h->rows == n;
    for (size_t i = 0; code == APR_OK && *found && i < h->nspoke; i++) {
        const size_t rows = (size_t)natoms(h->spoke[i].v), begin_at = at;
        struct apr_transform rule;
        unsigned nrule;
        memset(mine, 0, n);
        for (size_t j = 0; j < rows; j++)
            if (h->spoke[i].place[j] != UINT32_MAX)
                mine[h->spoke[i].place[j]] = true;
        for (size_t j = 0; j < n && at < begin_at + rows; j++)
            if (mine[j])
                kept[at++] = all[j];
        *found = at == begin_at + rows;
        const struct strings x = { kept + begin_at, string_of(w, h->spoke[i].v), rows, 1, is_rough(w) };
        if (*found)
            code = order_rule(w->d, &x, cols, &rule, &nrule, found, e);
        if (code == APR_OK && *found && nrule > 0) {
            *found = *ninner < APR_MAX_STEPS;
            rule.only = (unsigned)i + 1;
            if (*found)
                inner[(*ninner)++] = rule;
        }
    }
    const struct strings y = { all, kept, n, 1, is_rough(w) };
    if (code == APR_OK && *found)
        code = order_rule(w->d, &y, cols, outer, nouter, found, e);
    free(kept);
    free(mine);
    return code;
}

static bool is_list(const struct apr_transform *t, unsigned n) { return n > 0 && (t->op == APR_OP_ORDER || t->op == APR_OP_ORDER_COLS); }

static enum apr_code split_whole(struct search *w, struct hub *h, bool *done, struct apr_error *e)
{
    struct apr_transform rule, outer, inner[APR_MAX_STEPS];
    unsigned nrule, nouter = 0, ninner = 0;
    bool found, parted = false;
    struct finding *f;
    const struct view *const v = h->v, *const part = h->spoke[0].v;
    const struct strings x = { string_of(w, v), h->joined, (size_t)h->rows, (size_t)slabs_of(h), is_rough(w) };
    if (h->nspoke > APR_MAX_PARTS)
        return APR_OK;
    APR_TRY(order_rule(w->d, &x, v->turned && part->turned, &rule, &nrule, &found, e));
    if (!found || is_list(&rule, nrule))
        APR_TRY(find_inner(w, h, &outer, &nouter, inner, &ninner, &parted, e));
    if (parted && !is_list(&outer, nouter) && ninner > 0) {
        rule = outer;
        nrule = nouter;
    } else if (!found) {
        return APR_OK;
    } else {
        ninner = 0;
    }
    uint64_t dim[3];
    unsigned ndim;
    APR_TRY(begin(w, h, true, &f, e));
    shape_of_view(v, v->rows, dim, &ndim);
    bool good = add_reshape(f, v->item->t->dim, v->item->t->ndim, dim, ndim) && add_rule_between(f, v, part, &rule, nrule) &&
                add_parts(f, h, part->turned ? APR_OP_SPLIT_COLS : APR_OP_SPLIT_ROWS, slabs_of(h));
    for (unsigned i = 0; good && i < ninner; i++)
        good = add_rule(f, &inner[i], 1);
    *done = good && (ninner > 0 || shape_parts(f, h, slabs_of(h)));
    if (!*done)
        drop_finding(w->d);
    return APR_OK;
}

/* Some rows, one after the other, are all that is left. */
static enum apr_code cut_rows(struct search *w, struct hub *h, bool *done, struct apr_error *e)
{
    const struct view *const part = h->spoke[0].v;
    struct finding *f;
    for (uint64_t j = 0; j < part->rows; j++)
        if (h->spoke[0].place[j] != h->spoke[0].least + j)
            return APR_OK;
    if (h->nspoke != 1 || part->slabs > 1 || h->v->slabs > 1 || part->turned || h->v->turned)
        return APR_OK;
    APR_TRY(begin(w, h, true, &f, e));
    const struct apr_transform rows = { .op = APR_OP_ROWS, .nn = 2, .n = { h->spoke[0].least, part->rows } };
    *done = add_reshape(f, h->v->item->t->dim, h->v->item->t->ndim, h->v->item->dim, h->v->item->ndim) && add_rule(f, &rows, 1) &&
            add_reshape(f, part->item->dim, part->item->ndim, part->item->t->dim, part->item->t->ndim);
    if (!*done)
        drop_finding(w->d);
    return APR_OK;
}

/* Do k and v take turns in each head of the hub's rows? */
static bool take_turns(const struct spoke *k, const struct spoke *v)
{
    const size_t heads = (size_t)k->v->slabs, nope = (size_t)k->v->rows, own = (size_t)natoms(v->v) / heads;
    if (natoms(v->v) % heads != 0)
        return false;
    for (size_t i = 0; i < heads * nope; i++)
        if (k->place[i] != i / nope * (nope + own) + i % nope)
            return false;
    for (size_t i = 0; i < heads * own; i++)
        if (v->place[i] != i / own * (nope + own) + nope + i % own)
            return false;
    return true;
}

/* kv_b: in each head rows of k, which become columns of their own, and rows of v. */
static enum apr_code split_latent(struct search *w, const struct hub *k, const struct hub *v, bool *done, struct apr_error *e)
{
    struct finding *f;
    for (size_t i = 0; i < k->nspoke; i++)
        for (size_t j = 0; j < v->nspoke; j++) {
            const struct spoke *const x = &k->spoke[i], *const y = &v->spoke[j];
            if (*done || x->v->item == y->v->item || natoms(x->v) + natoms(y->v) != natoms(k->v) || !take_turns(x, y))
                continue;
            const uint64_t heads = x->v->slabs, own = natoms(y->v) / heads;
            APR_TRY(add_finding(w->d, &(struct item *){ k->v->item }, 1, (struct item *[]){ x->v->item, y->v->item }, 2, &f, e));
            *done = add_rule(f, &(struct apr_transform){ .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { heads, x->v->rows, own } }, 1);
        }
    return APR_OK;
}

/* ---- what is put together --------------------------------------------------------------------------------------------- */

/* Slabs of the hub, one of each spoke. */
static enum apr_code stack_spokes(struct search *w, struct hub *h, bool *done, struct apr_error *e)
{
    const struct view *const part = h->spoke[0].v, *const all = h->v;
    struct apr_transform rule;
    unsigned nrule, ndim;
    bool found = all->slabs == h->nspoke && h->nspoke > 1;
    struct finding *f;
    for (size_t i = 0; i < h->nspoke && found; i++)
        found = h->spoke[i].v->slabs == 1 && h->spoke[i].v->rows == all->rows && h->spoke[i].v->item->t->ndim == part->item->t->ndim &&
                memcmp(h->spoke[i].v->item->t->dim, part->item->t->dim, sizeof(uint64_t) * part->item->t->ndim) == 0;
    const struct strings x = { h->joined, string_of(w, all), (size_t)all->rows, (size_t)all->slabs, is_rough(w) };
    if (found)
        APR_TRY(order_rule(w->d, &x, all->turned && part->turned, &rule, &nrule, &found, e));
    if (!found)
        return APR_OK;
    struct view stacked = *part;
    uint64_t dim[APR_MAX_DIMS] = { h->nspoke }, flat[3];
    stacked.slabs = h->nspoke;
    memcpy(dim + 1, part->item->t->dim, (APR_MAX_DIMS - 1) * sizeof *dim);
    APR_TRY(begin(w, h, false, &f, e));
    shape_of_view(&stacked, part->rows, flat, &ndim);
    *done = add_rule(f, &(struct apr_transform){ .op = APR_OP_STACK, .nn = 1, .n = { h->nspoke } }, 1) &&
            add_reshape(f, dim, part->item->t->ndim + 1, flat, ndim) && add_rule_between(f, &stacked, all, &rule, nrule);
    shape_of_view(all, all->rows, flat, &ndim);
    *done = *done && add_reshape(f, flat, ndim, all->item->t->dim, all->item->t->ndim);
    if (!*done)
        drop_finding(w->d);
    return APR_OK;
}

/* So many tensors of one shape that no join has them: stacked, and then seen as one matrix. */
static bool add_many(struct finding *f, const struct hub *h)
{
    const struct item *const part = h->spoke[0].v->item;
    const uint64_t flat[] = { h->rows, h->spoke[0].v->width };
    uint64_t dim[APR_MAX_DIMS] = { h->nspoke };
    bool good = slabs_of(h) == 1 && !h->spoke[0].v->turned && part->t->ndim < APR_MAX_DIMS;
    for (size_t i = 1; i < h->nspoke && good; i++) {
        const struct item *const other = h->spoke[i].v->item;
        good = other->t->ndim == part->t->ndim && memcmp(other->t->dim, part->t->dim, sizeof part->t->dim) == 0;
    }
    memcpy(dim + 1, part->t->dim, (APR_MAX_DIMS - 1) * sizeof *dim);
    return good && add_rule(f, &(struct apr_transform){ .op = APR_OP_STACK, .nn = 1, .n = { h->nspoke } }, 1) &&
           add_reshape(f, dim, part->t->ndim + 1, flat, 2);
}

static enum apr_code join_whole(struct search *w, struct hub *h, bool *done, struct apr_error *e)
{
    const struct view *const part = h->spoke[0].v, *const all = h->v;
    struct apr_transform rule;
    unsigned nrule, ndim;
    bool found;
    struct finding *f;
    uint64_t dim[3];
    const uint64_t slabs = slabs_of(h);
    const struct strings x = { h->joined, string_of(w, all), (size_t)h->rows, (size_t)slabs, is_rough(w) };
    APR_TRY(order_rule(w->d, &x, all->turned && part->turned, &rule, &nrule, &found, e));
    for (size_t i = 0; i < h->nspoke; i++) /* a join takes them as they are */
        found &= h->spoke[i].v->item->ndim == h->spoke[i].v->item->t->ndim;
    if (!found)
        return APR_OK;
    struct view joined = *part;
    joined.slabs = slabs;
    APR_TRY(begin(w, h, false, &f, e));
    *done = h->nspoke > APR_MAX_PARTS ? add_many(f, h) : add_parts(f, h, part->turned ? APR_OP_CONCAT_COLS : APR_OP_CONCAT_ROWS, slabs);
    *done = *done && add_rule_between(f, &joined, all, &rule, nrule);
    joined = *all;
    joined.slabs = slabs;
    shape_of_view(&joined, h->rows, dim, &ndim);
    *done = *done && add_reshape(f, dim, ndim, all->item->t->dim, all->item->t->ndim);
    if (!*done)
        drop_finding(w->d);
    return APR_OK;
}

/* The rows behind those of its only spoke are zeros. */
static enum apr_code pad_rows(struct search *w, struct hub *h, bool *done, struct apr_error *e)
{
    const struct view *const part = h->spoke[0].v, *const all = h->v;
    struct finding *f;
    bool zeros = h->nspoke == 1 && part->slabs == 1 && all->slabs == 1 && !part->turned && !all->turned && h->spoke[0].least == 0;
    for (uint64_t j = 0; j < all->rows && zeros; j++)
        zeros = j < part->rows ? h->spoke[0].place[j] == j : !(w->norm[all->first + j] > 0);
    if (!zeros)
        return APR_OK;
    APR_TRY(begin(w, h, false, &f, e));
    *done = add_reshape(f, part->item->t->dim, part->item->t->ndim, part->item->dim, part->item->ndim) &&
            add_rule(f, &(struct apr_transform){ .op = APR_OP_PAD_ROWS, .nn = 1, .n = { all->rows } }, 1) &&
            add_reshape(f, all->item->dim, all->item->ndim, all->item->t->dim, all->item->t->ndim);
    if (!*done)
        drop_finding(w->d);
    return APR_OK;
}

/* ---- all hubs ------------------------------------------------------------------------------------------------------- */

static enum apr_code try_hub(struct search *w, struct hub *h, bool from, bool *done, struct apr_error *e)
{
    const bool whole = h->rows * slabs_of(h) == natoms(h->v);
    if (from && whole)
        APR_TRY(split_whole(w, h, done, e));
    else if (from && w->last)
        APR_TRY(cut_rows(w, h, done, e));
    if (!from && whole)
        APR_TRY(stack_spokes(w, h, done, e));
    if (!from && whole && !*done)
        APR_TRY(join_whole(w, h, done, e));
    if (!from && !whole && w->last)
        APR_TRY(pad_rows(w, h, done, e));
    return APR_OK;
}

/* The edges of one hub, of which two ways are needed at once. */
static enum apr_code pair_latent(struct search *w, const struct edge *edge, size_t n, bool of_b, bool *done, struct spoke *room,
                                 struct apr_error *e)
{
    struct hub k = { .spoke = room }, v = { .spoke = room + MOST_SPOKES };
    enum apr_code code = gather(w, &k, edge, n, of_b, false, true, e);
    if (code == APR_OK && k.nspoke > 0)
        code = gather(w, &v, edge, n, of_b, false, false, e);
    if (code == APR_OK && v.nspoke > 0)
        code = split_latent(w, &k, &v, done, e);
    free_spokes(&k);
    free_spokes(&v);
    return code;
}

/* The edges of one hub, of side of_b. */
static enum apr_code pair_hub(struct search *w, const struct edge *edge, size_t n, bool of_b, struct spoke *room, struct apr_error *e)
{
    const bool from = w->d->gguf >= 0 && (w->d->gguf == 1) != of_b;
    bool done = false;
    if (from)
        APR_TRY(pair_latent(w, edge, n, of_b, &done, room, e));
    for (unsigned how = 0; how < 4 && !done; how++) {
        struct hub h = { .spoke = room };
        enum apr_code code = gather(w, &h, edge, n, of_b, how & 1, how == 1 || how == 2, e);
        if (code == APR_OK && h.nspoke > 0)
            code = try_hub(w, &h, from, &done, e);
        free_spokes(&h);
        APR_TRY(code);
    }
    return APR_OK;
}

/* An edge at its hub's item. */
struct held {
    const struct item *hub;
    size_t             order;
    struct edge        edge;
};

static int by_hub(const void *p, const void *q)
{
    const struct held *const x = p, *const y = q;
    if (x->hub != y->hub)
        return x->hub < y->hub ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static enum apr_code pair_side(struct search *w, bool of_b, struct held *held, struct edge *edge, struct spoke *room, struct apr_error *e)
{
    size_t n = 0;
    for (size_t i = 0; i < w->nedge; i++) {
        const struct view *const a = &w->view[w->edge[i].a], *const b = &w->view[w->edge[i].b];
        if (of_b ? natoms(a) < natoms(b) : natoms(b) < natoms(a))
            held[n++] = (struct held){ of_b ? b->item : a->item, i, w->edge[i] };
    }
    if (n > 0)
        qsort(held, n, sizeof *held, by_hub);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && held[end].hub == held[i].hub; end++)
            edge[end - i] = held[end].edge;
        if (!held[i].hub->used)
            APR_TRY(pair_hub(w, edge, end - i, of_b, room, e));
    }
    return APR_OK;
}

enum apr_code pair_hubs(struct search *w, struct apr_error *e)
{
    struct held *held = malloc((w->nedge + 1) * sizeof *held);
    struct edge *edge = malloc((w->nedge + 1) * sizeof *edge);
    struct spoke *room = malloc(2 * MOST_SPOKES * sizeof *room);
    enum apr_code code = held == NULL || edge == NULL || room == NULL ? apr_no_memory(e) : APR_OK;
    for (unsigned side = 0; code == APR_OK && w->nedge > 0 && side < 2; side++)
        code = pair_side(w, side == 1, held, edge, room, e);
    free(held);
    free(edge);
    free(room);
    return code;
}
