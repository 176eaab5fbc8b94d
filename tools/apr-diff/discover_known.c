/* Pairs that names made, as findings: a contract of two models has to have those too. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "discover.h"
#include "model/model.h"

/* item: of each tensor of a model that is in a finding. seen: roles in their layers. */
struct known {
    struct discovery         *d;
    struct item             **item[2];
    const struct apr_tensor **part;
    struct apr_table          seen;
    struct finding           *f;
    size_t                    n, room;
    struct apr_error         *e;
};

static const struct apr_model *model_of(const struct known *k, bool of_b) { return of_b ? k->d->models->b : k->d->models->a; }

/* The item of a tensor, the same each time; NULL when memory is out. */
static struct item *item_of(struct known *k, const struct apr_tensor *t, bool of_b)
{
    struct item **const at = &k->item[of_b][t - model_of(k, of_b)->tensor];
    if (*at == NULL)
        *at = apr_arena_alloc(&k->d->arena, sizeof **at);
    if (*at != NULL && (*at)->t == NULL)
        **at = (struct item){ .t = t, .of_b = of_b, .used = true };
    return *at;
}

static enum apr_code items_of(struct known *k, size_t n, bool of_b, struct item ***list)
{
    *list = apr_arena_alloc(&k->d->arena, n * sizeof **list);
    if (*list == NULL)
        return apr_no_memory(k->e);
    for (size_t i = 0; i < n; i++)
        if (((*list)[i] = item_of(k, k->part[i], of_b)) == NULL)
            return apr_no_memory(k->e);
    return APR_OK;
}

/* All tensors of a side that are the role; false where one is missing, or `one` is none of them. */
static enum apr_code side_of_role(struct known *k, const struct apr_meaning *what, const struct apr_tensor *one, bool of_b,
                                  struct item ***list, size_t *n, bool *good)
{
    const struct apr_binding *const b = k->d->match->binding[of_b];
    const size_t room = model_of(k, of_b)->ntensor;
    *good = false;
    *n = apr_binding_parts(b, what->role, what->layer, k->part, room);
    for (size_t i = 0; i < *n; i++)
        *good |= k->part[i] == one;
    return *good ? items_of(k, *n, of_b, list) : APR_OK;
}

/* The chain from the checkpoint's tensors to those of the GGUF. */
static bool chain_of_role(const struct known *k, const struct apr_role *role, bool from_b, struct finding *f)
{
    const struct apr_binding *const hf = k->d->match->binding[from_b], *const gguf = k->d->match->binding[!from_b];
    struct apr_transform join[APR_MAX_STEPS], chain[APR_MAX_STEPS];
    size_t njoin, n;
    struct apr_error why;
    if (apr_binding_chain(hf, role, APR_HF, join, &njoin, &why) != APR_OK ||
        apr_binding_chain(gguf, role, APR_GGUF, chain, &n, &why) != APR_OK || njoin + n > APR_MAX_STEPS)
        return false;
    memcpy(f->step, join, njoin * sizeof *join);
    memcpy(f->step + njoin, chain, n * sizeof *chain);
    f->nstep = (unsigned)(njoin + n);
    return true;
}

static enum apr_code keep(struct known *k, const struct finding *f)
{
    struct finding *const more = apr_grown(k->f, &k->room, k->n, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(k->e);
    k->f = more;
    k->f[k->n++] = *f;
    return APR_OK;
}

/* Was the role of that layer met before? */
static enum apr_code meet(struct known *k, const struct apr_meaning *what, bool *fresh)
{
    const uint64_t key[] = { (uint64_t)(uintptr_t)what->role, what->layer };
    const struct apr_bytes text = apr_arena_copy(&k->d->arena, (struct apr_bytes){ (const unsigned char *)key, sizeof key });
    return text.at == NULL || apr_table_put(&k->seen, text, fresh) == NULL ? apr_no_memory(k->e) : APR_OK;
}

/* A pair of a role's tensors. *said: it has a finding now, or had one. */
static enum apr_code add_role(struct known *k, const struct pair *p, const struct apr_meaning *what, bool *said)
{
    const struct match *const m = k->d->match;
    const bool from_b = from_is_b(k->d, false), gguf = k->d->gguf >= 0;
    struct finding f = { .flipped = from_b };
    bool from, to = false, fresh;
    if (gguf && (apr_binding_dialect(m->binding[from_b], what->role, what->layer) != APR_HF ||
                 apr_binding_dialect(m->binding[!from_b], what->role, what->layer) != APR_GGUF))
        return APR_OK;
    APR_TRY(side_of_role(k, what, from_b ? p->b : p->a, from_b, &f.from, &f.nfrom, &from));
    if (from)
        APR_TRY(side_of_role(k, what, from_b ? p->a : p->b, !from_b, &f.to, &f.nto, &to));
    const bool rows = p->left_out > 0 && f.nfrom == 1 && f.nto == 1; /* a vocabulary of another size: the role of that name may have it */
    if (!from || !to || (gguf && !chain_of_role(k, what->role, from_b, &f)) || (!rows && !finding_fits(&f)))
        return APR_OK;
    APR_TRY(meet(k, what, &fresh));
    *said = true;
    return fresh ? keep(k, &f) : APR_OK;
}

/* Of a pair in which the embedding of one side stands for a head that it does not have: which of the two is the head. */
static enum tied tied_of(const struct known *k, const struct finding *f, bool from_b)
{
    const struct apr_binding *const b = k->d->match->binding[from_b];
    struct apr_meaning what;
    if (apr_bytes_is(f->to[0]->t->name, "output.weight"))
        return TIED_TO;
    return b != NULL && apr_binding_meaning(b, f->from[0]->t, 0, &what) && apr_bytes_is(what.role->name, "output") ? TIED_FROM : TIED_NOT;
}

/* Is the finding as close as the threshold asks for? */
static enum apr_code holds(const struct known *k, const struct finding *f, bool *yes)
{
    struct discovery one = *k->d;
    one.room = one.nfinding = 0;
    one.finding = malloc(sizeof *one.finding);
    if (one.finding == NULL)
        return apr_no_memory(k->e);
    one.finding[one.nfinding++] = *f;
    one.finding[0].doubt = true;
    const enum apr_code code = measure_findings(&one, k->e);
    *yes = one.nfinding == 1;
    free(one.finding);
    return code;
}

/* One tensor against one, as they are. */
static enum apr_code add_plain(struct known *k, const struct pair *p, bool *said)
{
    const bool from_b = from_is_b(k->d, false);
    struct finding f = { .flipped = from_b, .nfrom = 1, .nto = 1 };
    bool yes = true;
    if (p->transform != NULL || p->problem != NULL || p->npart > 1)
        return APR_OK;
    k->part[0] = from_b ? p->b : p->a;
    APR_TRY(items_of(k, 1, from_b, &f.from));
    k->part[0] = from_b ? p->a : p->b;
    APR_TRY(items_of(k, 1, !from_b, &f.to));
    *said = p->a->count == p->b->count && add_reshape(&f, f.from[0]->t->dim, f.from[0]->t->ndim, f.to[0]->t->dim, f.to[0]->t->ndim);
    f.tied = tied_of(k, &f, from_b);
    if (*said && f.tied != TIED_NOT) /* no head is better than that of another model */
        APR_TRY(holds(k, &f, &yes));
    return *said && yes ? keep(k, &f) : APR_OK;
}

static enum apr_code add_pair(struct known *k, const struct pair *p, struct untold *untold)
{
    const struct apr_binding *const b = k->d->match->binding[0];
    struct apr_meaning what;
    bool said = p->a->tied || p->b->tied || apr_bytes_equal(p->a->name, p->b->name); /* equal names need no contract */
    for (size_t i = 0; !said && b != NULL && p->problem == NULL && apr_binding_meaning(b, p->a, i, &what); i++)
        APR_TRY(add_role(k, p, &what, &said));
    if (!said)
        APR_TRY(add_plain(k, p, &said));
    if (!said)
        untold->pair[untold->n++] = p;
    return APR_OK;
}

static enum apr_code begin(struct known *k, struct untold *untold)
{
    const struct models *const m = k->d->models;
    const size_t most = (m->a->ntensor > m->b->ntensor ? m->a->ntensor : m->b->ntensor) + 1;
    k->item[0] = calloc(m->a->ntensor + 1, sizeof *k->item[0]);
    k->item[1] = calloc(m->b->ntensor + 1, sizeof *k->item[1]);
    k->part = malloc(most * sizeof *k->part);
    untold->pair = apr_arena_alloc(&k->d->arena, (k->d->match->npair + 1) * sizeof *untold->pair);
    if (k->item[0] == NULL || k->item[1] == NULL || k->part == NULL || untold->pair == NULL)
        return apr_no_memory(k->e);
    for (size_t i = 0; i < k->d->nitem; i++) {
        struct item *const item = &k->d->item[i];
        k->item[item->of_b][item->t - model_of(k, item->of_b)->tensor] = item;
    }
    return APR_OK;
}

enum apr_code known_findings(struct discovery *d, struct finding **f, size_t *n, struct untold *untold, struct apr_error *e)
{
    struct known k = { .d = d, .e = e };
    *untold = (struct untold){ 0 };
    enum apr_code code = begin(&k, untold);
    for (size_t i = 0; code == APR_OK && i < d->match->npair; i++)
        code = add_pair(&k, &d->match->pair[i], untold);
    *f = code == APR_OK ? apr_arena_alloc(&d->arena, (k.n + 1) * sizeof **f) : NULL;
    if (code == APR_OK && *f == NULL)
        code = apr_no_memory(e);
    if (code == APR_OK && k.n > 0)
        memcpy(*f, k.f, k.n * sizeof **f);
    *n = k.n;
    free(k.item[0]);
    free(k.item[1]);
    free(k.part);
    free(k.f);
    apr_table_free(&k.seen);
    return code;
}
