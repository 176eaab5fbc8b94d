#include "match.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "family/chain.h"
#include "flow/turned.h"

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
static bool shape_fits(const struct apr_tensor *t, const struct apr_transform *chain, size_t n, uint64_t part, const uint64_t *dim,
                       unsigned ndim)
{
    uint64_t shape[APR_MAX_DIMS];
    unsigned nshape = ndim;
    memcpy(shape, dim, sizeof shape);
    return apr_transform_shape(chain, n, part, shape, &nshape) && nshape == t->ndim && memcmp(shape, t->dim, nshape * sizeof *shape) == 0;
}

/* The shape on the HuggingFace side: of the side that has it, else as the contract says. */
static bool huggingface_shape(const struct matching *w, const struct apr_role *role, const struct apr_tensor *a,
                              const struct apr_meaning *meaning_a, enum apr_dialect dialect_b, uint64_t *dim, unsigned *ndim)
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
    snprintf(text, sizeof text, "family %.*s, role %.*s: shape %s does not belong to %s %s (%s, line %u)", APR_PRINTED(f->name),
             APR_PRINTED(role->name), spell(p->a, a), t == p->a ? "this role, whose twin has" : "its twin's", spell(p->b, b), f->file,
             role->line);
    return keep(w, text, &p->problem);
}

void have_shape(struct pair *p, const struct apr_tensor *t)
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

/* Shapes that tell that both lie alike count more than what is usual. */
enum apr_code turn_stack(struct matching *w, struct pair *p)
{
    const struct apr_tensor *const a = p->a, *const b = p->b;
    const bool one = apr_is_turned(a) ? b->packed == NULL : a->packed == NULL && apr_is_turned(b);
    struct apr_view *view, *own;
    uint64_t dim[APR_MAX_DIMS];
    if (!one || a->ndim != b->ndim || a->dim[0] != b->dim[0] || a->dim[1] != b->dim[2] || a->dim[2] != b->dim[1])
        return APR_OK;
    w->part[0] = b;
    APR_TRY(have_views(w, p, 1, 0, &view, &own));
    p->transform = apr_op_word(APR_OP_TRANSPOSE);
    return apr_turned_view(view->part, view, dim, w->e);
}

bool is_vocabulary(const struct apr_role *role)
{
    return apr_bytes_is(role->name, "token_embd") || apr_bytes_is(role->name, "output");
}

enum apr_code share_rows_of(struct matching *w, struct pair *p, bool *yes)
{
    const struct apr_tensor *a = p->a, *b = p->b;
    struct apr_view *view, *own;
    *yes = a->ndim == b->ndim && a->ndim > 1 && memcmp(a->dim + 1, b->dim + 1, (a->ndim - 1) * sizeof *a->dim) == 0 &&
           a->dim[0] != b->dim[0] && a->dtype->pair == NULL && b->dtype->pair == NULL && apr_min(a->dim[0], b->dim[0]) > 0;
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
static enum apr_code look_through(struct matching *w, struct pair *p, const struct apr_role *role, const struct apr_meaning *meaning_a,
                                  size_t n)
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

enum apr_code wanted(const struct matching *w, struct apr_bytes a, const struct apr_tensor *const *part, size_t n, bool *yes)
{
    APR_TRY(apr_patterns_want(w->o->selection.filter, a, yes, w->e));
    for (size_t i = 0; !*yes && i < n; i++)
        APR_TRY(apr_patterns_want(w->o->selection.filter, part[i]->name, yes, w->e));
    return APR_OK;
}

enum apr_code begin_pair(struct matching *w, const struct apr_tensor *t, size_t n, struct pair **p)
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

enum apr_code pair_role(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning, const struct apr_role *role,
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

enum apr_code pair_experts(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning, bool *found)
{
    if (meaning->dialect != APR_HF)
        return APR_OK;
    return apr_role_stacked(meaning->role) ? pair_with_fused(w, t, meaning, found) : pair_with_split(w, t, meaning, found);
}
