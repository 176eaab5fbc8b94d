#include "family/bind_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "family/chain.h"
#include "family/gguf_kv.h"
#include "files/source.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/meta.h"

const struct apr_family *apr_binding_family(const struct apr_binding *b) { return b->family; }

/* ---- meanings -------------------------------------------------------------------------------------------------------- */

bool apr_binding_meaning(const struct apr_binding *b, const struct apr_tensor *t, size_t i, struct apr_meaning *meaning)
{
    const struct apr_meaning *found = apr_names_get(b->names, t, i);
    if (found != NULL)
        *meaning = *found;
    return found != NULL;
}

const struct apr_tensor *apr_binding_find(const struct apr_binding *b, const struct apr_meaning *meaning)
{
    return apr_names_find(b->names, meaning);
}

enum apr_dialect apr_binding_dialect(const struct apr_binding *b, const struct apr_role *role, uint32_t layer)
{
    struct apr_meaning meaning = { .role = role, .layer = layer };
    for (meaning.dialect = 0; meaning.dialect < APR_NDIALECTS; meaning.dialect++)
        if (apr_binding_find(b, &meaning) != NULL)
            break;
    return meaning.dialect;
}

size_t apr_binding_spell(const struct apr_binding *b, const struct apr_meaning *what, char *out, size_t room)
{
    const struct apr_cleaning *const how = &b->family->cleaning;
    const struct apr_bytes pattern = what->role->known[what->dialect].word[what->part], to = how->further_to, from = how->further_from;
    double by;
    if (what->dialect != APR_HF || how->further_by == NULL || pattern.n < to.n || memcmp(pattern.at, to.at, to.n) != 0 || from.n >= room ||
        !apr_binding_number(b, how->further_by->name, &by) || !(by >= 0 && (double)what->layer >= by))
        return apr_role_spell(pattern, what->layer, what->expert, out, room);
    memcpy(out, from.at, from.n);
    const struct apr_bytes rest = { pattern.at + to.n, pattern.n - to.n };
    const size_t n = apr_role_spell(rest, what->layer - (uint64_t)by, what->expert, out + from.n, room - from.n);
    return n == 0 ? 0 : from.n + n;
}

size_t apr_binding_parts(const struct apr_binding *b, const struct apr_role *role, uint32_t layer, const struct apr_tensor **part,
                         size_t room)
{
    struct apr_meaning meaning = { .role = role, .layer = layer, .dialect = apr_binding_dialect(b, role, layer) };
    const bool stacked = meaning.dialect == APR_HF && !apr_role_joined(role);
    uint64_t n = 1;
    if (meaning.dialect == APR_NDIALECTS)
        return 0;
    if (!stacked)
        n = role->known[meaning.dialect].n;
    else if (apr_role_stacked(role) && !apr_binding_size(b, role->transform[0].n[0], &n))
        return 0;
    if (n > room)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (stacked)
            meaning.expert = (uint32_t)i;
        else
            meaning.part = (unsigned)i;
        part[i] = apr_binding_find(b, &meaning);
        if (part[i] == NULL)
            return 0;
    }
    return (size_t)n;
}

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

/* Does the role's shape stand as it is in this dialect (but for a leading stack)? */
static bool keeps_shape(const struct apr_role *r)
{
    for (unsigned i = 0; i < r->ntransform; i++)
        if (!apr_op_keeps_shape(r->transform[i].op) && r->transform[i].op != APR_OP_STACK)
            return false;
    return true;
}

/* Tells a dim that stands alone in an expression, unless that is known. */
static void learn(struct apr_binding *b, const struct apr_expr *x, uint64_t size)
{
    struct apr_bytes name;
    const struct apr_dim *d = apr_expr_is_name(x, &name) ? apr_family_dim(b->family, name) : NULL;
    if (d == NULL || b->value[d - b->family->dim].known)
        return;
    b->told[d - b->family->dim] = true;
    b->value[d - b->family->dim] = (struct apr_result){ .known = true, .number = (double)size };
}

/* Sizes that stand alone in the shape of a tensor whose role is clear; on the GGUF side of `rows` the number of them. ordered: the first
 * of several roles is the one whose condition holds. */
static void learn_shape(struct apr_binding *b, const struct apr_tensor *t, bool ordered)
{
    const struct apr_meaning *s = ordered || apr_names_of(b->names, t) == 1 ? apr_names_get(b->names, t, 0) : NULL;
    if (s == NULL || s->role->generated || s->dialect == APR_REFERENCE)
        return;
    const struct apr_role *r = s->role;
    const bool gguf = s->dialect == APR_GGUF;
    const unsigned lead = gguf && apr_role_stacked(r);
    if (gguf && r->ntransform == 1 && r->transform[0].op == APR_OP_ROWS && t->ndim > 0)
        learn(b, r->transform[0].n[1], t->dim[0]);
    if ((gguf ? !keeps_shape(r) : apr_role_joined(r)) || t->ndim != r->ndim + lead)
        return;
    for (unsigned d = 0; d < r->ndim; d++)
        learn(b, r->dim[d], t->dim[d + lead]);
}

bool apr_binding_in_layer(const struct apr_binding *b, const struct apr_role *role, uint64_t layer, bool otherwise)
{
    const struct apr_scope scope = apr_bound_scope(b);
    return apr_role_in_layer(role, &scope, layer, otherwise);
}

/* The other model's value, in memory of our own. */
static enum apr_code take_over(struct apr_binding *b, size_t i, const struct apr_result *value, struct apr_error *e)
{
    b->value[i] = *value;
    if (!value->known || value->text.at == NULL)
        return APR_OK;
    b->value[i].text = apr_arena_copy(&b->arena, value->text);
    return b->value[i].text.at == NULL ? apr_no_memory(e) : APR_OK;
}

/* Dims in their order, since formulas need those above: what the model says of them, then what its shapes show, then what the other
 * model was told, then the default. A formula comes before shapes, which are held against it. */
static enum apr_code find_size(struct apr_binding *b, size_t i, const struct apr_binding *other, struct apr_error *e)
{
    const struct apr_dim *d = &b->family->dim[i];
    const struct apr_scope scope = apr_bound_scope(b);
    const struct apr_result shown = b->told[i] ? b->value[i] : (struct apr_result){ 0 };
    const bool formula = d->key.n == 0 && d->value != NULL;
    b->value[i] = apr_bound_said(b, d);
    b->states |= b->value[i].known;
    if (!b->value[i].known && formula)
        b->value[i] = apr_expr_value(d->value, &scope);
    if (!b->value[i].known)
        b->value[i] = shown;
    if (!b->value[i].known && !formula && other != NULL && other->told[i])
        APR_TRY(take_over(b, i, &other->value[i], e));
    b->told[i] = b->value[i].known && !formula;
    if (!b->value[i].known && d->value != NULL)
        b->value[i] = apr_expr_value(d->value, &scope);
    return b->value[i].known || other == NULL ? APR_OK : take_over(b, i, &other->value[i], e);
}

static enum apr_code find_sizes(struct apr_binding *b, const struct apr_binding *other, struct apr_error *e)
{
    const size_t n = b->family->ndim;
    b->told = calloc(n + 1, sizeof *b->told);
    b->value = calloc(n + 1, sizeof *b->value);
    if (b->told == NULL || b->value == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < b->model->ntensor; i++)
        learn_shape(b, &b->model->tensor[i], false);
    for (size_t i = 0; i < n; i++)
        APR_TRY(find_size(b, i, other != NULL && other->family == b->family ? other : NULL, e));
    return APR_OK;
}

bool apr_binding_told(const struct apr_binding *b, struct apr_bytes dim)
{
    const struct apr_dim *const d = apr_family_dim(b->family, dim);
    return d != NULL && (b->told[d - b->family->dim] || (d->key.n == 0 && d->value != NULL));
}

struct guessing {
    const struct apr_binding *b;
    unsigned                  depth;
    bool                      yes;
};

static bool is_of_tensors(void *ctx, struct apr_bytes path)
{
    struct apr_bytes role;
    *(bool *)ctx |= apr_path_role(path, &role);
    return true;
}

static bool asks_for_tensors(const struct apr_expr *x)
{
    bool yes = false;
    apr_expr_paths(x, is_of_tensors, &yes);
    apr_expr_values(x, is_of_tensors, &yes);
    return yes;
}

/* A default that asks for tensors is told by them, if what else it names is. */
static bool find_guess(void *ctx, struct apr_bytes name)
{
    struct guessing *const g = ctx;
    const struct apr_dim *const d = apr_family_dim(g->b->family, name);
    if (d == NULL || d->value == NULL || g->b->told[d - g->b->family->dim])
        return true;
    if (d->key.n > 0 && !asks_for_tensors(d->value))
        g->yes = true;
    else if (g->depth > 0) {
        g->depth--;
        apr_expr_names(d->value, find_guess, g);
        g->depth++;
    }
    return !g->yes;
}

bool apr_binding_guesses(const struct apr_binding *b, const struct apr_expr *x)
{
    struct guessing g = { .b = b, .depth = 4 };
    if (x != NULL && !b->states)
        apr_expr_names(x, find_guess, &g);
    return g.yes;
}

bool apr_binding_guesses_role(const struct apr_binding *b, const struct apr_role *role)
{
    bool yes = false;
    for (unsigned i = 0; i < role->ndim && !yes; i++)
        yes = apr_binding_guesses(b, role->dim[i]);
    for (unsigned i = 0; i < role->ntransform && !yes; i++)
        for (unsigned k = 0; k < role->transform[i].nn && !yes; k++)
            yes = apr_binding_guesses(b, role->transform[i].n[k]);
    return yes;
}

bool apr_binding_size(const struct apr_binding *b, const struct apr_expr *x, uint64_t *n)
{
    const struct apr_scope scope = apr_bound_scope(b);
    return apr_expr_size(x, &scope, n);
}

bool apr_binding_shape(const struct apr_binding *b, const struct apr_role *role, uint64_t *dim, unsigned *ndim)
{
    *ndim = role->ndim;
    for (unsigned i = 0; i < role->ndim; i++)
        if (!apr_binding_size(b, role->dim[i], &dim[i]))
            return false;
    return true;
}

bool apr_binding_may_tie(const struct apr_binding *b)
{
    const struct apr_role *head = apr_family_role(b->family, apr_text("output"));
    const struct apr_scope scope = apr_bound_scope(b);
    return head == NULL || head->unless_equal.n > 0 ||
           (head->optional != NULL && (b->config == NULL || apr_expr_true(head->optional, &scope, true)));
}

bool apr_binding_is_copy(const struct apr_binding *b, const struct apr_meaning *s, const struct apr_tensor *t)
{
    const struct apr_meaning meaning = { .role = apr_family_role(b->family, s->role->unless_equal), .dialect = s->dialect };
    const struct apr_tensor *const other = meaning.role == NULL ? NULL : apr_binding_find(b, &meaning);
    return other != NULL && other->packed == NULL && t->packed == NULL && other->dtype == t->dtype && apr_bytes_equal(other->data, t->data);
}

bool apr_binding_is_second(const struct apr_binding *b, const struct apr_meaning *s, const struct apr_tensor *t)
{
    const struct apr_tensor *const first = apr_binding_find(b, s);
    return first != NULL && first != t && first->dtype == t->dtype && apr_bytes_equal(first->data, t->data);
}

bool apr_binding_skips(const struct apr_binding *b, const struct apr_tensor *t) { return apr_names_skips(b->names, t); }
bool apr_binding_is_buffer(const struct apr_binding *b, const struct apr_tensor *t) { return apr_names_buffer(b->names, t); }

bool apr_binding_tied(const struct apr_binding *b)
{
    const struct apr_role *head = apr_family_role(b->family, apr_text("output")),
                           *embedding = apr_family_role(b->family, apr_text("token_embd"));
    return apr_binding_may_tie(b) && (head == NULL || apr_binding_dialect(b, head, 0) == APR_NDIALECTS) && embedding != NULL &&
           apr_binding_dialect(b, embedding, 0) != APR_NDIALECTS;
}

/* ---- tensors that a converter makes --------------------------------------------------------------------------------- */

bool apr_binding_generates(const struct apr_binding *b, const struct apr_role *role)
{
    return role->generated != APR_NOT_GENERATED && apr_binding_holds(b, role->when);
}

/* ---- chains ------------------------------------------------------------------------------------------------------- */

static bool comes_to_none(const struct apr_binding *b, const struct apr_expr *x, double *value)
{
    const struct apr_scope scope = apr_bound_scope(b);
    const struct apr_result r = apr_expr_value(x, &scope);
    uint64_t n;
    *value = r.number;
    return r.known && r.text.at == NULL && !apr_expr_size(x, &scope, &n);
}

bool apr_binding_no_size(const struct apr_binding *b, const struct apr_role *role, double *value)
{
    bool yes = false;
    for (unsigned i = 0; i < role->ndim && !yes; i++)
        yes = comes_to_none(b, role->dim[i], value);
    for (unsigned i = 0; i < role->ntransform && !yes; i++)
        for (unsigned k = 0; k < role->transform[i].nn && !yes; k++)
            yes = comes_to_none(b, role->transform[i].n[k], value);
    return yes;
}

static enum apr_code unknown_size(const struct apr_binding *b, const struct apr_role *role, struct apr_error *e)
{
    double value;
    if (apr_binding_no_size(b, role, &value))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "family %.*s: what role %.*s needs comes to %.17g, which is no size (%s, line %u)",
                        APR_PRINTED(b->family->name), APR_PRINTED(role->name), value, b->family->file, role->line);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "family %.*s: a size that role %.*s needs is in no metadata (%s, line %u)",
                    APR_PRINTED(b->family->name), APR_PRINTED(role->name), b->family->file, role->line);
}

/* How a tensor under the reference's names comes from the HuggingFace one: cut along the side that the sizes add up to. */
static enum apr_code reference_chain(const struct apr_binding *b, const struct apr_role *role, struct apr_transform *out, size_t *n,
                                     struct apr_error *e)
{
    if (role->nsplit == 0)
        return APR_OK;
    struct apr_transform *t = &out[*n];
    uint64_t dim[APR_MAX_DIMS], total = 0;
    unsigned ndim;
    *t = (struct apr_transform){ .op = APR_OP_SPLIT_COLS, .nn = role->nsplit };
    for (unsigned i = 0; i < role->nsplit; i++, total += t->n[i - 1])
        if (!apr_binding_size(b, role->split[i], &t->n[i]))
            return unknown_size(b, role, e);
    if (!apr_binding_shape(b, role, dim, &ndim))
        return unknown_size(b, role, e);
    if (ndim == 2 && (b->gguf_order || dim[1] != total))
        t->op = APR_OP_SPLIT_ROWS;
    ++*n;
    return APR_OK;
}

enum apr_code apr_binding_chain(const struct apr_binding *b, const struct apr_role *role, enum apr_dialect dialect,
                                struct apr_transform out[APR_MAX_STEPS], size_t *n, struct apr_error *e)
{
    const struct apr_scope scope = apr_bound_scope(b);
    *n = 0;
    if ((dialect != APR_REFERENCE || b->gguf_order) && !apr_role_chain(role, dialect != APR_HF, &scope, out, n))
        return unknown_size(b, role, e);
    return dialect == APR_REFERENCE ? reference_chain(b, role, out, n, e) : APR_OK;
}

bool apr_binding_meant_shape(const struct apr_binding *b, const struct apr_meaning *s, uint64_t *dim, unsigned *ndim)
{
    struct apr_transform chain[APR_MAX_STEPS];
    struct apr_error ignored;
    size_t n;
    return apr_binding_shape(b, s->role, dim, ndim) && apr_binding_chain(b, s->role, s->dialect, chain, &n, &ignored) == APR_OK &&
           apr_transform_shape(chain, n, s->part, dim, ndim);
}

/* Under the reference's names a Conv1D matrix may lie as HuggingFace or as GGUF has it; one that is no square tells for all. */
static void find_order(struct apr_binding *b)
{
    for (size_t i = 0; i < b->model->ntensor; i++) {
        const struct apr_tensor *t = &b->model->tensor[i];
        const struct apr_meaning *s = apr_names_get(b->names, t, 0);
        uint64_t dim[APR_MAX_DIMS];
        unsigned ndim;
        if (s == NULL || s->dialect != APR_REFERENCE || s->role->ntransform == 0 || s->role->transform[0].op != APR_OP_TRANSPOSE ||
            s->role->nsplit > 0)
            continue;
        if (t->ndim != 2 || t->dim[0] == t->dim[1] || !apr_binding_shape(b, s->role, dim, &ndim) || ndim != 2)
            continue;
        b->gguf_order = t->dim[0] == dim[1] && t->dim[1] == dim[0];
        return;
    }
}

/* ---- binding ------------------------------------------------------------------------------------------------------ */

enum apr_code apr_bind(struct apr_binding **out, const struct apr_family *f, const struct apr_model *m, const struct apr_binding *other,
                       struct apr_error *e)
{
    struct apr_binding *b = *out = calloc(1, sizeof *b);
    if (b == NULL)
        return apr_no_memory(e);
    b->family = f;
    b->model = m;
    enum apr_code code = apr_hf_config_of(&b->config, m, e);
    if (code == APR_OK)
        code = apr_flat_read(&b->carried, m, false, e);
    if (code == APR_OK)
        code = apr_gguf_kv_read(&b->carried, m, false, e);
    if (code == APR_OK)
        code = apr_names_new(&b->names, f, m, e);
    if (code == APR_OK)
        code = find_sizes(b, other, e);
    const struct apr_scope scope = apr_bound_scope(b);
    if (code == APR_OK)
        code = apr_names_order(b->names, &scope, e);
    if (code == APR_OK) {
        for (size_t i = 0; i < m->ntensor; i++)
            learn_shape(b, &m->tensor[i], true);
        find_order(b);
        return APR_OK;
    }
    apr_binding_free(b);
    *out = NULL;
    return code;
}

void apr_binding_free(struct apr_binding *b)
{
    if (b == NULL)
        return;
    apr_names_free(b->names);
    apr_arena_free(&b->arena);
    apr_draft_end(&b->carried);
    free(b->value);
    free(b->told);
    apr_hf_config_free(b->config);
    free(b);
}
