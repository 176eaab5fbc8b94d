#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/table.h"
#include "diff.h"
#include "family/bind.h"
#include "family/chain.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/model.h"

#define MOST_TENSORS_OF_A_ROLE 4096 /* experts */

/* What matching two models takes. binding is NULL while no family is known. */
struct matching {
    struct match         *m;
    const struct options *o;
    const struct apr_model *model[2];
    struct apr_binding   *binding[2];
    unsigned             *taken;        /* of B's tensors: by how many of A */
    struct apr_table      spelled;      /* B's tensors by their names as the family spells them; filled at its first use */
    const struct apr_tensor **part;     /* room for one role's tensors */
    struct apr_error     *e;
};

void free_match(struct match *m)
{
    apr_arena_free(&m->arena);
    free(m->pair);
    free(m->only_a);
    free(m->only_b);
    free(m->excused);
    apr_binding_free(m->binding[0]);
    apr_binding_free(m->binding[1]);
    *m = (struct match){ 0 };
}

/* ---- the family ----------------------------------------------------------------------------------------------------- */

/* The class that either model names, now that no family is known. */
static enum apr_code keep_unknown(struct matching *w)
{
    for (unsigned i = 0; i < 2 && w->m->unknown.n == 0; i++) {
        struct apr_hf_config *config;
        APR_TRY(apr_hf_config_of(&config, w->model[i], w->e));
        const struct apr_bytes word = apr_class_said(w->model[i], config);
        w->m->unknown_of = i;
        if (word.n > 0)
            w->m->unknown = apr_arena_copy(&w->m->arena, word);
        apr_hf_config_free(config);
        if (word.n > 0 && w->m->unknown.at == NULL)
            return apr_no_memory(w->e);
    }
    return APR_OK;
}

/* Binds both models to the family that either names, or that the names of both fit. Where one names a class that nobody knows, the names
 * of the other are no evidence against it. */
static enum apr_code find_family(struct matching *w)
{
    const struct apr_family *f = NULL, *either[2] = { 0 };
    bool named = false;
    for (int i = 0; i < 2 && f == NULL; i++)
        APR_TRY(apr_family_said(w->o->selection.families, w->model[i], &f, w->e));
    for (int i = 0; i < 2 && f == NULL && !named; i++)
        APR_TRY(apr_names_a_class(w->model[i], &named, w->e));
    for (int i = 0; i < 2 && f == NULL && !named && either[1] == NULL; i++)
        APR_TRY(apr_family_guessed(w->o->selection.families, w->model[i], &f, either, w->e));
    w->m->either[0] = either[0];
    w->m->either[1] = either[1];
    if (f == NULL)
        return keep_unknown(w);
    struct apr_binding *first;
    APR_TRY(apr_bind(&first, f, w->model[0], NULL, w->e));
    enum apr_code code = apr_bind(&w->m->binding[1], f, w->model[1], first, w->e);
    if (code == APR_OK)
        code = apr_bind(&w->m->binding[0], f, w->model[0], w->m->binding[1], w->e);
    apr_binding_free(first);
    w->binding[0] = w->m->binding[0];
    w->binding[1] = w->m->binding[1];
    return code;
}

/* ---- one pair through its role -------------------------------------------------------------------------------------- */

/* A copy of the text that lives as long as the match. */
static enum apr_code keep(struct matching *w, const char *text, const char **kept)
{
    *kept = (const char *)apr_arena_copy(&w->m->arena, apr_text(text)).at;
    return *kept == NULL ? apr_no_memory(w->e) : APR_OK;
}

/* "rope_permute", "stack", "transpose+split_rows"; NULL when nothing is moved or changed. part: of which output of A's chain; first: which
 * of the two begins, as a checkpoint does. */
static enum apr_code describe(struct matching *w, struct pair *p, const struct apr_transform *const chain[2], const size_t n[2],
                              uint64_t part, unsigned first)
{
    const uint64_t of[2] = { part, APR_ALL_PARTS };
    char text[512] = "";
    apr_chain_spell(chain[first], n[first], of[first], false, text, sizeof text);
    apr_chain_spell(chain[!first], n[!first], of[!first], false, text, sizeof text);
    return text[0] == 0 ? APR_OK : keep(w, text, &p->transform);
}

static const char *spell(const struct apr_tensor *t, char buffer[176]) { return apr_spell_shape(t->dim, t->ndim, buffer); }

/* Has t the shape that the HuggingFace shape takes on its way through the chain? */
static bool shape_fits(const struct apr_tensor *t, const struct apr_transform *chain, size_t n, uint64_t part, const uint64_t *dim, unsigned ndim)
{
    uint64_t shape[APR_MAX_DIMS];
    unsigned nshape = ndim;
    memcpy(shape, dim, sizeof shape);
    return apr_transform_shape(chain, n, part, shape, &nshape) && nshape == t->ndim && memcmp(shape, t->dim, nshape * sizeof *shape) == 0;
}

/* The shape on the HuggingFace side: of the side that has it, else as the contract says. */
static bool huggingface_shape(const struct matching *w, const struct apr_role *role, const struct apr_tensor *a, const struct apr_meaning *meaning_a,
                              enum apr_dialect dialect_b, uint64_t *dim, unsigned *ndim)
{
    const struct apr_tensor *t = meaning_a->dialect == APR_HF ? a : dialect_b == APR_HF ? w->part[0] : NULL;
    if (t == NULL || (apr_role_joined(role) && meaning_a->dialect != dialect_b))
        return apr_binding_shape(w->binding[0], role, dim, ndim);
    memcpy(dim, t->dim, sizeof t->dim);
    *ndim = t->ndim;
    return true;
}

static enum apr_code misshapen(struct matching *w, struct pair *p, const struct apr_role *role, const struct apr_tensor *t)
{
    char text[768], a[176], b[176];
    const struct apr_family *f = apr_binding_family(w->binding[0]);
    snprintf(text, sizeof text, "family %.*s, role %.*s: shape %s does not belong to %s %s (%s, line %u)", (int)f->name.n, (const char *)f->name.at,
             (int)role->name.n, (const char *)role->name.at, spell(p->a, a), t == p->a ? "this role, whose twin has" : "its twin's", spell(p->b, b), f->file,
             role->line);
    return keep(w, text, &p->problem);
}

/* The pair has the shape of t, of which a view is then made. */
static void have_shape(struct pair *p, const struct apr_tensor *t)
{
    memcpy(p->dim, t->dim, sizeof p->dim);
    p->ndim = t->ndim;
}

/* Gives p views of its own: *view of w->part, from part `first` on, *own of a. */
static enum apr_code have_views(struct matching *w, struct pair *p, size_t n, uint64_t first, struct apr_view **view, struct apr_view **own)
{
    const struct apr_tensor **part = apr_arena_alloc(&w->m->arena, n * sizeof *part);
    *view = apr_arena_alloc(&w->m->arena, sizeof **view);
    *own = apr_arena_alloc(&w->m->arena, sizeof **own);
    if (part == NULL || *view == NULL || *own == NULL)
        return apr_no_memory(w->e);
    memcpy(part, w->part, n * sizeof *part);
    **view = apr_view_of(part, n, first);
    **own = (struct apr_view){ .npart = 1 };
    p->view = *view;
    p->own = *own;
    return APR_OK;
}

static bool is_vocabulary(const struct apr_role *role)
{
    return apr_bytes_is(role->name, "token_embd") || apr_bytes_is(role->name, "output");
}

/* A token that only one side knows has rows on that side alone, behind all others: those that both have are compared. */
static enum apr_code share_rows_of(struct matching *w, struct pair *p, bool *yes)
{
    const struct apr_tensor *a = p->a, *b = p->b;
    struct apr_view *view, *own;
    *yes = a->ndim == b->ndim && a->ndim > 1 && memcmp(a->dim + 1, b->dim + 1, (a->ndim - 1) * sizeof *a->dim) == 0 && a->dim[0] != b->dim[0] &&
           a->dtype->pair == NULL && b->dtype->pair == NULL && apr_min(a->dim[0], b->dim[0]) > 0;
    if (!*yes)
        return APR_OK;
    w->part[0] = b;
    APR_TRY(have_views(w, p, 1, 0, &view, &own));
    p->dim[0] = apr_min(a->dim[0], b->dim[0]);
    p->left_out = a->dim[0] + b->dim[0] - 2 * p->dim[0];
    return APR_OK;
}

/* Of A, in the HuggingFace dialect, only those rows are compared that B's chain begins by keeping; dim becomes their shape. */
static enum apr_code keep_rows(struct pair *p, const struct apr_transform *rows, struct apr_view *own, uint64_t *dim, unsigned ndim,
                               struct apr_error *why)
{
    APR_TRY(apr_view_back(own, rows, 1, dim, ndim, why));
    p->left_out = dim[0] - rows->n[1];
    p->before = rows->n[0];
    for (unsigned i = 1; i < ndim; i++)
        p->before *= dim[i];
    dim[0] = p->dim[0] = rows->n[1];
    return APR_OK;
}

static bool begins_with_rows(const struct apr_transform *chain, size_t n) { return n > 0 && chain[0].op == APR_OP_ROWS; }

/* A pair of several parts that cannot be compared names them all the same. */
static enum apr_code keep_parts(struct matching *w, struct pair *p, size_t n)
{
    const struct apr_tensor **part = apr_arena_alloc(&w->m->arena, n * sizeof *part);
    if (part == NULL)
        return apr_no_memory(w->e);
    memcpy(part, w->part, n * sizeof *part);
    p->part = part;
    p->npart = n;
    return APR_OK;
}

/* Fills p->view: B's `n` tensors of the role, in w->part, in the order of A. */
static enum apr_code look_through(struct matching *w, struct pair *p, const struct apr_role *role, const struct apr_meaning *meaning_a, size_t n)
{
    struct apr_transform chain_a[APR_MAX_STEPS], chain_b[APR_MAX_STEPS];
    const struct apr_transform *const chain[2] = { chain_a, chain_b };
    size_t length[2];
    uint64_t dim[APR_MAX_DIMS] = { 0 };
    unsigned ndim;
    const enum apr_dialect dialect_b = apr_binding_dialect(w->binding[1], role, meaning_a->layer);
    struct apr_error why;
    const bool checkpoints = meaning_a->dialect == APR_HF && dialect_b == APR_HF; /* a tensor met its like */
    length[0] = length[1] = 0;
    if (!checkpoints && (apr_binding_chain(w->binding[0], role, meaning_a->dialect, chain_a, &length[0], &why) != APR_OK ||
                         apr_binding_chain(w->binding[1], role, dialect_b, chain_b, &length[1], &why) != APR_OK))
        return keep(w, why.text, &p->problem);
    const uint64_t number = meaning_a->dialect == APR_HF && !apr_role_joined(role) ? meaning_a->expert : meaning_a->part;
    if (!huggingface_shape(w, role, p->a, meaning_a, dialect_b, dim, &ndim) || !shape_fits(p->a, chain_a, length[0], number, dim, ndim))
        return misshapen(w, p, role, p->a);
    for (size_t i = 0; i < n; i++)
        if (!shape_fits(w->part[i], chain_b, length[1], i, dim, ndim)) {
            p->b = w->part[i];
            return misshapen(w, p, role, w->part[i]);
        }
    APR_TRY(describe(w, p, chain, length, number, dialect_b == APR_HF));
    if (length[0] + length[1] == 0)
        return APR_OK;
    struct apr_view *view, *own;
    APR_TRY(have_views(w, p, n, number, &view, &own));
    const bool rows_of_a = length[0] == 0 && begins_with_rows(chain_b, length[1]);
    if (length[1] == 0 && begins_with_rows(chain_a, length[0]))
        p->left_out = dim[0] - chain_a[0].n[1];
    if (length[0] == 0 && length[1] == 1 && chain_b[0].op == APR_OP_PAD_ROWS) /* of B, behind all that A has */
        p->left_out = chain_b[0].n[0] - dim[ndim > 1 ? ndim - 2 : 0];
    enum apr_code code = rows_of_a ? keep_rows(p, chain_b, own, dim, ndim, &why) : APR_OK;
    if (code == APR_OK)
        code = apr_view_back(view, chain_a, length[0], dim, ndim, &why);
    if (code == APR_OK)
        code = apr_view_forth(view, chain_b + rows_of_a, length[1] - rows_of_a, dim, ndim, &why);
    if (code != APR_OK)
        return keep(w, why.text, &p->problem);
    apr_view_exchange(view, own);
    return APR_OK;
}

/* Is a name of either side wanted? */
static enum apr_code wanted(const struct matching *w, struct apr_bytes a, const struct apr_tensor *const *part, size_t n, bool *yes)
{
    APR_TRY(apr_patterns_want(w->o->selection.filter, a, yes, w->e));
    for (size_t i = 0; !*yes && i < n; i++)
        APR_TRY(apr_patterns_want(w->o->selection.filter, part[i]->name, yes, w->e));
    return APR_OK;
}

/* Takes w->part, `n` of B's tensors, as what t is compared with; *p is NULL when neither name is wanted. */
static enum apr_code begin_pair(struct matching *w, const struct apr_tensor *t, size_t n, struct pair **p)
{
    bool yes;
    *p = NULL;
    for (size_t i = 0; i < n; i++)
        w->taken[w->part[i] - w->model[1]->tensor]++;
    APR_TRY(wanted(w, t->name, w->part, n, &yes));
    if (!yes)
        return APR_OK;
    *p = &w->m->pair[w->m->npair++];
    **p = (struct pair){ .a = t, .b = w->part[0], .name = t->name };
    have_shape(*p, t);
    return APR_OK;
}

/* What B has of the role. Between two checkpoints a tensor meets its like alone. */
static size_t parts_of_b(const struct matching *w, const struct apr_meaning *meaning, const struct apr_role *role)
{
    struct apr_meaning like = *meaning;
    like.role = role;
    if (meaning->dialect == APR_HF && apr_binding_dialect(w->binding[1], role, meaning->layer) == APR_HF)
        return (w->part[0] = apr_binding_find(w->binding[1], &like)) != NULL;
    return apr_binding_parts(w->binding[1], role, meaning->layer, w->part, MOST_TENSORS_OF_A_ROLE);
}

/* Of several parts that a view may meet it meets one: the pair is with that one. */
static void leave_others(struct matching *w, struct pair *p, size_t n)
{
    size_t met;
    const struct apr_tensor *const *const part = parts_met(p, &met);
    if (met == n)
        return;
    p->b = part[0];
    for (size_t i = 0; i < n; i++)
        if (w->part[i] != p->b)
            w->taken[w->part[i] - w->model[1]->tensor]--;
}

/* Pairs t of A with B's tensors of the role, when B has them all; *found says so. */
static enum apr_code pair_role(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning, const struct apr_role *role,
                               bool *found)
{
    const size_t n = parts_of_b(w, meaning, role);
    struct pair *p;
    *found = n > 0;
    if (n == 0)
        return APR_OK;
    APR_TRY(begin_pair(w, t, n, &p));
    bool shared = false;
    if (p != NULL && n == 1 && is_vocabulary(role))
        APR_TRY(share_rows_of(w, p, &shared));
    if (p == NULL || shared)
        return APR_OK;
    APR_TRY(look_through(w, p, role, meaning, n));
    if (p->view == NULL)
        return n > 1 ? keep_parts(w, p, n) : APR_OK;
    leave_others(w, p, n);
    return APR_OK;
}

/* ---- experts, fused or not ------------------------------------------------------------------------------------------- */

/* Does the role hold all experts of a layer in one tensor, n parts of a GGUF (gate and up) above each other in each of them? */
static bool is_fused(const struct apr_role *r, size_t *n)
{
    *n = r->known[APR_GGUF].n;
    return r->ndim == 3 && *n > 0 && r->known[APR_HF].n == 1 &&
           (r->ntransform == 0 ? *n == 1 : r->ntransform == 1 && r->transform[0].op == APR_OP_SPLIT_ROWS);
}

/* The role that has each expert of part p of `fused` in a tensor of its own, or NULL. */
static const struct apr_role *split_role(const struct matching *w, const struct apr_role *fused, size_t p)
{
    const struct apr_family *f = apr_binding_family(w->binding[0]);
    for (size_t i = 0; i < f->nrole; i++) {
        const struct apr_role *r = &f->role[i];
        if (apr_role_stacked(r) && r->ntransform == 1 && r->known[APR_GGUF].n == 1 && r->known[APR_HF].n == 1 &&
            apr_bytes_equal(r->known[APR_GGUF].word[0], fused->known[APR_GGUF].word[p]))
            return r;
    }
    return NULL;
}

/* Is `all` `experts` times n tensors of one's shape, one above the other? */
static bool is_pile_of(const struct apr_tensor *all, const struct apr_tensor *one, uint64_t n)
{
    return all->ndim == 3 && one->ndim == 2 && all->dim[1] == n * one->dim[0] && all->dim[2] == one->dim[1] && one->count > 0;
}

static enum apr_code piled(struct matching *w, struct pair *p, bool fused_a, bool split_rows)
{
    static const char *const words[2][2] = { { "stack", "stack" }, { "stack+split_rows", "split_rows+stack" } };
    return keep(w, words[split_rows][fused_a], &p->transform);
}

/* t is one expert of A; B has them fused. */
static enum apr_code pair_with_fused(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning, bool *found)
{
    const struct apr_family *f = apr_binding_family(w->binding[0]);
    for (size_t i = 0, n; i < f->nrole && !*found; i++)
        for (size_t k = 0; is_fused(&f->role[i], &n) && k < n && !*found; k++) {
            const struct apr_meaning all = { .role = &f->role[i], .layer = meaning->layer, .dialect = APR_HF };
            const struct apr_tensor *b = split_role(w, &f->role[i], k) == meaning->role ? apr_binding_find(w->binding[1], &all) : NULL;
            if (b == NULL || !is_pile_of(b, t, n) || meaning->expert >= b->dim[0])
                continue;
            const uint64_t dim[] = { b->dim[0] * n, t->dim[0], t->dim[1] };
            const struct apr_transform one = { .op = APR_OP_ROWS, .nn = 2, .n = { meaning->expert * n + k, 1 } };
            struct apr_view *view, *own;
            struct pair *p;
            *found = true;
            w->part[0] = b;
            APR_TRY(begin_pair(w, t, 1, &p));
            if (p == NULL)
                return APR_OK;
            APR_TRY(have_views(w, p, 1, 0, &view, &own));
            APR_TRY(apr_view_back(view, &one, 1, dim, 3, w->e));
            return piled(w, p, false, n > 1);
        }
    return APR_OK;
}

/* t holds all experts of A; B has them one by one. */
static enum apr_code pair_with_split(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning, bool *found)
{
    size_t n, got = 0;
    if (!is_fused(meaning->role, &n) || t->ndim != 3 || t->dim[0] > MOST_TENSORS_OF_A_ROLE / n)
        return APR_OK;
    struct apr_meaning one = { .layer = meaning->layer, .dialect = APR_HF };
    for (; one.expert < t->dim[0]; one.expert++)
        for (size_t k = 0; k < n; k++, got++) {
            one.role = split_role(w, meaning->role, k);
            w->part[got] = one.role == NULL ? NULL : apr_binding_find(w->binding[1], &one);
            if (w->part[got] == NULL || !is_pile_of(t, w->part[got], n))
                return APR_OK;
        }
    *found = got > 0;
    if (got == 0)
        return APR_OK;
    const struct apr_transform stack = { .op = APR_OP_STACK, .nn = 1, .n = { got } };
    struct apr_view *view, *own;
    struct pair *p;
    APR_TRY(begin_pair(w, t, got, &p));
    if (p == NULL)
        return APR_OK;
    APR_TRY(have_views(w, p, got, 0, &view, &own));
    APR_TRY(apr_view_back(view, &stack, 1, w->part[0]->dim, 2, w->e));
    return piled(w, p, true, n > 1);
}

static enum apr_code pair_experts(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning, bool *found)
{
    if (meaning->dialect != APR_HF)
        return APR_OK;
    return apr_role_stacked(meaning->role) ? pair_with_fused(w, t, meaning, found) : pair_with_split(w, t, meaning, found);
}

/* ---- spellings ------------------------------------------------------------------------------------------------------ */

/* Pairs t, for which the contract has no role, with the tensor of B whose name is the same as the contract spells it. */
static enum apr_code pair_spelling(struct matching *w, const struct apr_tensor *t, bool *found)
{
    const struct apr_family *f = apr_binding_family(w->binding[0]);
    const struct apr_model *b = w->model[1];
    char room[APR_NAME_ROOM];
    bool fresh;
    if (w->model[0]->format->own_names || b->format->own_names)
        return APR_OK;
    const bool first_use = w->spelled.n == 0;
    for (size_t i = 0; first_use && i < b->ntensor; i++) {
        const struct apr_bytes name = apr_arena_copy(&w->m->arena, apr_family_spelling(f, b->tensor[i].name, room));
        union apr_table_value *v = name.at == NULL ? NULL : apr_table_put(&w->spelled, name, &fresh);
        if (v == NULL)
            return apr_no_memory(w->e);
        if (fresh)
            v->number = i;
    }
    const union apr_table_value *v = apr_table_find(&w->spelled, apr_family_spelling(f, t->name, room));
    if (v == NULL || w->taken[v->number])
        return APR_OK;
    struct pair *p;
    *found = true;
    w->part[0] = &b->tensor[v->number];
    return begin_pair(w, t, 1, &p);
}

/* ---- tied heads ----------------------------------------------------------------------------------------------------- */

static const struct apr_role *embedding_role(const struct matching *w)
{
    return apr_family_role(apr_binding_family(w->binding[0]), apr_text("token_embd"));
}

/* By its role or, where the contract knows none, since it drops a head that is always the embedding, by its name. */
static bool is_head(const struct apr_binding *b, const struct apr_tensor *t, struct apr_meaning *meaning)
{
    const struct apr_family *f = apr_binding_family(b);
    char room[APR_NAME_ROOM];
    if (apr_binding_meaning(b, t, 0, meaning))
        return apr_bytes_is(meaning->role->name, "output");
    *meaning = (struct apr_meaning){ .role = apr_family_role(f, apr_text("token_embd")), .dialect = APR_HF };
    return apr_family_role(f, apr_text("output")) == NULL && apr_bytes_is(apr_family_spelling(f, t->name, room), "lm_head.weight");
}

/* A head of B where A has none of its own: A's embedding is its match. */
static enum apr_code pair_tied_head(struct matching *w, const struct apr_tensor *head, bool *found)
{
    const struct apr_tensor *embedding[1];
    struct apr_meaning meaning;
    *found = is_head(w->binding[1], head, &meaning) && !apr_binding_is_copy(w->binding[1], &meaning, head) &&
             apr_binding_tied(w->binding[0]) && apr_binding_may_tie(w->binding[1]) &&
             apr_binding_parts(w->binding[0], embedding_role(w), 0, embedding, 1) == 1;
    bool yes;
    if (!*found)
        return APR_OK;
    APR_TRY(wanted(w, embedding[0]->name, &head, 1, &yes));
    if (!yes)
        return APR_OK;
    /* a placeholder is a name for the embedding, so it goes by its own */
    struct pair *p = &w->m->pair[w->m->npair++];
    *p = (struct pair){ .a = embedding[0], .b = head, .name = head->tied ? head->name : embedding[0]->name };
    have_shape(p, embedding[0]);
    return share_rows_of(w, p, &yes);
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

/* Adds the name, if it is wanted. */
static enum apr_code keep_name(const struct matching *w, struct apr_bytes name, struct apr_bytes *kept, size_t *n)
{
    bool yes;
    APR_TRY(apr_patterns_want(w->o->selection.filter, name, &yes, w->e));
    kept[*n] = name;
    *n += yes;
    return APR_OK;
}

static enum apr_code match_a(struct matching *w, const struct apr_tensor *t)
{
    bool found = false;
    if (w->binding[0] != NULL) {
        struct apr_meaning meaning;
        /* of two spellings one has the pair, from whichever side it is looked at */
        if (apr_binding_meaning(w->binding[0], t, 0, &meaning) && apr_binding_is_second(w->binding[0], &meaning, t))
            return keep_name(w, t->name, w->m->only_a, &w->m->nonly_a);
        for (size_t i = 0; !found && apr_binding_meaning(w->binding[0], t, i, &meaning); i++)
            APR_TRY(pair_role(w, t, &meaning, meaning.role, &found));
        for (size_t i = 0; !found && apr_binding_meaning(w->binding[0], t, i, &meaning); i++)
            APR_TRY(pair_experts(w, t, &meaning, &found));
        if (!found && is_head(w->binding[0], t, &meaning) && apr_binding_tied(w->binding[1]) && apr_binding_may_tie(w->binding[0]) &&
            !apr_binding_is_copy(w->binding[0], &meaning, t))
            APR_TRY(pair_role(w, t, &meaning, embedding_role(w), &found));
        if (!found)
            APR_TRY(pair_spelling(w, t, &found));
    }
    return found ? APR_OK : keep_name(w, t->name, w->m->only_a, &w->m->nonly_a);
}

static enum apr_code match_b(struct matching *w, const struct apr_tensor *t)
{
    bool found = false;
    if (w->binding[1] != NULL)
        APR_TRY(pair_tied_head(w, t, &found));
    return found ? APR_OK : keep_name(w, t->name, w->m->only_b, &w->m->nonly_b);
}

/* The same of two tensors of one name, where that is the name of an embedding or of a head. */
static enum apr_code share_vocabulary(struct matching *w, struct pair *p)
{
    struct apr_meaning meaning;
    bool shared;
    return apr_binding_meaning(w->binding[0], p->a, 0, &meaning) && is_vocabulary(meaning.role) ? share_rows_of(w, p, &shared) : APR_OK;
}

static enum apr_code match_all(struct matching *w)
{
    const struct apr_model *a = w->model[0], *b = w->model[1];
    size_t nsame = 0;
    bool other_rows = false;
    for (size_t i = 0; i < a->ntensor; i++) {
        const struct apr_tensor *t = &a->tensor[i], *match = apr_model_find(b, t->name);
        if (match == NULL)
            continue;
        w->taken[match - b->tensor]++;
        nsame++;
        bool yes;
        APR_TRY(apr_patterns_want(w->o->selection.filter, t->name, &yes, w->e));
        w->m->pair[w->m->npair] = (struct pair){ .a = t, .b = match, .name = t->name };
        have_shape(&w->m->pair[w->m->npair], t);
        w->m->npair += yes;
        other_rows |= t->ndim > 1 && match->ndim == t->ndim && t->dim[0] != match->dim[0];
    }
    const size_t npair = w->m->npair;
    if (nsame < a->ntensor || nsame < b->ntensor || other_rows)
        APR_TRY(find_family(w));
    for (size_t i = 0; w->binding[0] != NULL && other_rows && i < npair; i++)
        APR_TRY(share_vocabulary(w, &w->m->pair[i]));
    for (size_t i = 0; nsame < a->ntensor && i < a->ntensor; i++)
        if (apr_model_find(b, a->tensor[i].name) == NULL)
            APR_TRY(match_a(w, &a->tensor[i]));
    for (size_t i = 0; i < b->ntensor; i++)
        if (w->taken[i] == 0)
            APR_TRY(match_b(w, &b->tensor[i]));
    return APR_OK;
}

/* The absence of a match fails the verdict, but not where there is an excuse, nor for what a rule ignores. */
static enum apr_code mind_unmatched(const struct matching *w, int side, struct apr_bytes name)
{
    const struct bounds *rule;
    const struct apr_model *m = w->model[side];
    const char *reason = excuse_of(m, w->binding[side], apr_model_find(m, name), w->model[!side]->format->own_names);
    if (reason != NULL)
        w->m->excused[w->m->nexcused++] = (struct excuse){ name, side, reason };
    APR_TRY(find_rule(&w->o->rules, name, name, &rule, w->e));
    w->m->unmatched |= !w->o->subset && reason == NULL && !(rule != NULL && rule->ignore);
    return APR_OK;
}

const struct apr_tensor *const *parts_met(const struct pair *p, size_t *n)
{
    const struct apr_view *v = p->view;
    *n = v == NULL && p->npart > 0 ? p->npart : 1;
    if (v == NULL)
        return p->npart > 0 ? p->part : &p->b;
    for (unsigned i = 0; i < v->nstep && *n == 1; i++)
        if (v->step[i].forward ? apr_op_splits(v->step[i].op) : v->step[i].op == APR_OP_STACK)
            *n = v->npart;
    return *n > 1 ? v->part : v->part + apr_min(apr_view_place(v, 0).part, v->npart - 1);
}

static int by_name(const void *a, const void *b) { return apr_bytes_compare(*(const struct apr_bytes *)a, *(const struct apr_bytes *)b); }

static int by_pair_name(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    const int order = apr_bytes_compare(x->name, y->name);
    return order != 0 ? order : apr_bytes_compare(x->b->name, y->b->name);
}

static uint64_t pair_bytes(const struct pair *p) { return p->a->data.n + (p->view == NULL ? p->b->data.n : p->a->data.n) + 1; }

/* Keeps the share of this part: pair p goes where the bytes before it fall when all of them are cut into nparts equal lengths. */
static void keep_part(struct match *m, uint64_t part, uint64_t nparts)
{
    uint64_t total = 0, before = 0;
    size_t kept = 0;
    for (size_t i = 0; i < m->npair; i++)
        total += pair_bytes(&m->pair[i]);
    for (size_t i = 0; i < m->npair; i++) {
        const uint64_t share = (uint64_t)((unsigned __int128)before * nparts / total) + 1;
        before += pair_bytes(&m->pair[i]);
        if (share == part)
            m->pair[kept++] = m->pair[i];
    }
    m->npair = kept;
}

enum apr_code match_models(struct match *m, const struct options *o, const struct models *models, struct apr_error *e)
{
    const struct apr_model *const a = models->a, *const b = models->b;
    *m = (struct match){ .pair = malloc((a->ntensor + b->ntensor + 1) * sizeof *m->pair),
                         .only_a = malloc((a->ntensor + 1) * sizeof *m->only_a),
                         .only_b = malloc((b->ntensor + 1) * sizeof *m->only_b),
                         .excused = malloc((a->ntensor + b->ntensor + 1) * sizeof *m->excused) };
    struct matching w = { .m = m, .o = o, .model = { a, b }, .taken = calloc(b->ntensor + 1, sizeof *w.taken),
                          .part = malloc(MOST_TENSORS_OF_A_ROLE * sizeof *w.part), .e = e };
    const bool memory = w.taken != NULL && w.part != NULL && m->pair != NULL && m->only_a != NULL && m->only_b != NULL && m->excused != NULL;
    enum apr_code code = memory ? match_all(&w) : apr_no_memory(e);
    m->note = models->codes ? "codes compared, scales not applied" : NULL;
    if (code == APR_OK && o->selection.filter != NULL && m->npair + m->nonly_a + m->nonly_b == 0)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "no tensor matches the filter");
    if (code == APR_OK) {
        qsort(m->pair, m->npair, sizeof *m->pair, by_pair_name);
        qsort(m->only_a, m->nonly_a, sizeof *m->only_a, by_name);
        qsort(m->only_b, m->nonly_b, sizeof *m->only_b, by_name);
    }
    for (size_t i = 0; code == APR_OK && i < m->nonly_a; i++)
        code = mind_unmatched(&w, 0, m->only_a[i]);
    for (size_t i = 0; code == APR_OK && i < m->nonly_b; i++)
        code = mind_unmatched(&w, 1, m->only_b[i]);
    free(w.taken);
    apr_table_free(&w.spelled);
    free(w.part);
    if (code != APR_OK) {
        free_match(m);
        return code;
    }
    if (o->limit > 0 && m->npair > o->limit)
        m->npair = (size_t)o->limit;
    if (o->nparts > 0)
        keep_part(m, o->part, o->nparts);
    return APR_OK;
}
