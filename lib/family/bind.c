#include "family/bind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/hf_config.h"
#include "model/meta.h"

struct apr_binding {
    const struct apr_family *family;
    const struct apr_model  *model;
    struct apr_hf_config       *config;
    struct apr_names        *names;
    struct apr_result       *value;      /* of family->dim */
    bool                    *told;       /* that value is what a model says or has, no default */
    unsigned char          **text;       /* of values that the other model was told */
    bool                     gguf_order; /* tensors under the reference's names lie as in a GGUF */
};

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

static bool is_stacked(const struct apr_role *r) { return r->ntransform > 0 && r->transform[0].op == APR_OP_STACK; }

size_t apr_binding_parts(const struct apr_binding *b, const struct apr_role *role, uint32_t layer, const struct apr_tensor **part,
                         size_t room)
{
    struct apr_meaning meaning = { .role = role, .layer = layer, .dialect = apr_binding_dialect(b, role, layer) };
    uint64_t n = 1;
    if (meaning.dialect == APR_NDIALECTS)
        return 0;
    if (meaning.dialect != APR_HF)
        n = role->nknown[meaning.dialect];
    else if (is_stacked(role) && !apr_binding_size(b, role->transform[0].n[0], &n))
        return 0;
    if (n > room)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (meaning.dialect == APR_HF)
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

static struct apr_result dim_value(void *ctx, struct apr_bytes name)
{
    const struct apr_binding *b = ctx;
    const struct apr_dim *d = apr_family_dim(b->family, name);
    return d == NULL ? (struct apr_result){ 0 } : b->value[d - b->family->dim];
}

/* "tensors.ROLE": does the model have a tensor for it? Else a path in config.json, or a key of the metadata. */
static bool has_path(void *ctx, struct apr_bytes path)
{
    const struct apr_binding *b = ctx;
    static const char tensors[] = "tensors.";
    const size_t n = sizeof tensors - 1;
    if (path.n > n && memcmp(path.at, tensors, n) == 0) {
        const struct apr_role *role = apr_family_role(b->family, (struct apr_bytes){ path.at + n, path.n - n });
        return role != NULL && apr_names_present(b->names, role);
    }
    bool yes = apr_hf_config_has(b->config, path);
    for (size_t i = 0; !yes && i < b->model->meta.n; i++)
        yes = apr_bytes_equal(b->model->meta.entry[i].key, path);
    return yes;
}

static struct apr_scope scope_of(const struct apr_binding *b) { return (struct apr_scope){ dim_value, has_path, (void *)(uintptr_t)b }; }

static bool number_of(const struct apr_value *v, double *out)
{
    if (v == NULL)
        return false;
    switch (v->type) {
    case APR_META_U8: case APR_META_U16: case APR_META_U32: case APR_META_U64:
        *out = (double)v->u;
        return true;
    case APR_META_I8: case APR_META_I16: case APR_META_I32: case APR_META_I64:
        *out = (double)v->i;
        return true;
    case APR_META_F32: case APR_META_F64:
        *out = v->f;
        return true;
    case APR_META_BOOL:
        *out = v->b;
        return true;
    default:
        return false;
    }
}

static struct apr_result result_of(const struct apr_value *v)
{
    double number;
    if (number_of(v, &number))
        return (struct apr_result){ true, number, { 0 } };
    if (v != NULL && v->type == APR_META_STRING)
        return (struct apr_result){ true, 0, v->text };
    return (struct apr_result){ 0 };
}

/* The contract's key with {a} as the architecture's name. */
static const struct apr_value *gguf_value(const struct apr_model *m, struct apr_bytes key)
{
    char text[256];
    const struct apr_bytes a = apr_meta_string(&m->meta, "general.architecture");
    const bool own = key.n > 3 && memcmp(key.at, "{a}", 3) == 0;
    const int n = snprintf(text, sizeof text, "%.*s%.*s", own ? (int)apr_min(a.n, 100) : 0, (const char *)a.at,
                           (int)(key.n - (own ? 3 : 0)), (const char *)key.at + (own ? 3 : 0));
    return n > 0 && (size_t)n < sizeof text ? apr_meta_find(&m->meta, text) : NULL;
}

/* What config.json or the metadata says of a dim. */
static struct apr_result said_value(const struct apr_binding *b, const struct apr_dim *d)
{
    struct apr_result r = { 0 };
    for (unsigned i = 0; i < d->nkey && !r.known; i++)
        r.known = d->text ? apr_hf_config_string(b->config, d->key[i], &r.text) : apr_hf_config_number(b->config, d->key[i], &r.number);
    for (const struct apr_yaml *k = b->family->kv == NULL ? NULL : b->family->kv->child; k != NULL && !r.known; k = k->next) {
        const struct apr_yaml *x = apr_yaml_get(k, "fills"), *gguf = apr_yaml_get(k, "gguf"), *apr = apr_yaml_get(k, "apr");
        if (x == NULL)
            x = apr_yaml_get(k, "expr");
        if (x == NULL || !apr_bytes_equal(x->text, d->name))
            continue;
        if (gguf != NULL)
            r = result_of(gguf_value(b->model, gguf->text));
        if (!r.known && apr != NULL)
            r = result_of(apr_meta_find(&b->model->meta, (const char *)apr->text.at));
    }
    return r;
}

/* Does the role's shape stand as it is in this dialect (but for a leading stack)? */
static bool keeps_shape(const struct apr_role *r)
{
    for (unsigned i = 0; i < r->ntransform; i++)
        if (r->transform[i].op != APR_OP_ROPE_PERMUTE && r->transform[i].op != APR_OP_ADD && r->transform[i].op != APR_OP_STACK)
            return false;
    return true;
}

/* Tells a dim that stands alone in an expression, unless that is known. */
static void learn(struct apr_binding *b, const struct apr_expr *x, uint64_t size)
{
    struct apr_bytes name;
    const struct apr_dim *d = apr_expr_is_name(x, &name) ? apr_family_dim(b->family, name) : NULL;
    if (d == NULL || b->told[d - b->family->dim])
        return;
    b->told[d - b->family->dim] = true;
    b->value[d - b->family->dim] = (struct apr_result){ true, (double)size, { 0 } };
}

/* Sizes that stand alone in the shape of a tensor whose role is clear; on the GGUF side of `rows` the number of them. */
static void learn_shape(struct apr_binding *b, const struct apr_tensor *t)
{
    const struct apr_meaning *s = apr_names_of(b->names, t) == 1 ? apr_names_get(b->names, t, 0) : NULL;
    if (s == NULL || s->role->generated || s->dialect == APR_REFERENCE)
        return;
    const struct apr_role *r = s->role;
    const bool gguf = s->dialect == APR_GGUF;
    const unsigned lead = gguf && is_stacked(r);
    if (gguf && r->ntransform == 1 && r->transform[0].op == APR_OP_ROWS && t->ndim > 0)
        learn(b, r->transform[0].n[1], t->dim[0]);
    if ((gguf && !keeps_shape(r)) || t->ndim != r->ndim + lead)
        return;
    for (unsigned d = 0; d < r->ndim; d++)
        learn(b, r->dim[d], t->dim[d + lead]);
}

/* The other model's value, in memory of our own. */
static enum apr_code take_over(struct apr_binding *b, size_t i, const struct apr_result *value, struct apr_error *e)
{
    b->value[i] = *value;
    if (!value->known || value->text.at == NULL)
        return APR_OK;
    b->text[i] = malloc(value->text.n + 1);
    if (b->text[i] == NULL)
        return apr_no_memory(e);
    memcpy(b->text[i], value->text.at, value->text.n);
    b->value[i].text.at = b->text[i];
    return APR_OK;
}

/* Dims in their order, since formulas need those above: what the model says of them, then what its shapes show, then what the other
 * model was told, then the default. A formula comes before shapes, which are held against it. */
static enum apr_code find_size(struct apr_binding *b, size_t i, const struct apr_binding *other, struct apr_error *e)
{
    const struct apr_dim *d = &b->family->dim[i];
    const struct apr_scope scope = scope_of(b);
    const struct apr_result shown = b->told[i] ? b->value[i] : (struct apr_result){ 0 };
    const bool formula = d->nkey == 0 && d->value != NULL;
    b->value[i] = said_value(b, d);
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
    b->text = calloc(n + 1, sizeof *b->text);
    if (b->told == NULL || b->value == NULL || b->text == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < b->model->ntensor; i++)
        learn_shape(b, &b->model->tensor[i]);
    for (size_t i = 0; i < n; i++)
        APR_TRY(find_size(b, i, other != NULL && other->family == b->family ? other : NULL, e));
    return APR_OK;
}

bool apr_binding_size(const struct apr_binding *b, const struct apr_expr *x, uint64_t *n)
{
    const struct apr_scope scope = scope_of(b);
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
    const struct apr_scope scope = scope_of(b);
    return head != NULL && head->optional != NULL && (b->config == NULL || apr_expr_true(head->optional, &scope, true));
}

bool apr_binding_skips(const struct apr_binding *b, const struct apr_tensor *t)
{
    const struct apr_scope scope = scope_of(b);
    return apr_names_skips(b->names, t, &scope);
}

bool apr_binding_tied(const struct apr_binding *b)
{
    const struct apr_role *head = apr_family_role(b->family, apr_text("output")),
                           *embedding = apr_family_role(b->family, apr_text("token_embd"));
    return apr_binding_may_tie(b) && apr_binding_dialect(b, head, 0) == APR_NDIALECTS && embedding != NULL &&
           apr_binding_dialect(b, embedding, 0) != APR_NDIALECTS;
}

/* ---- chains ------------------------------------------------------------------------------------------------------- */

static enum apr_code unknown_size(const struct apr_binding *b, const struct apr_role *role, struct apr_error *e)
{
    return apr_fail(e, APR_EARG, APR_NOWHERE, "family %.*s: a size that role %.*s needs is in no metadata (%s, line %u)",
                    (int)b->family->name.n,
                    (const char *)b->family->name.at, (int)role->name.n, (const char *)role->name.at, b->family->file, role->line);
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
    *n = 0;
    if (dialect == APR_HF)
        return APR_OK;
    for (unsigned i = 0; i < role->ntransform && (dialect == APR_GGUF || b->gguf_order); i++) {
        const struct apr_role_transform *t = &role->transform[i];
        struct apr_transform *to = &out[(*n)++];
        *to = (struct apr_transform){ .op = t->op, .nn = t->nn, .value = t->value };
        for (unsigned k = 0; k < t->nn; k++)
            if (!apr_binding_size(b, t->n[k], &to->n[k]))
                return unknown_size(b, role, e);
    }
    return dialect == APR_REFERENCE ? reference_chain(b, role, out, n, e) : APR_OK;
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
        code = apr_names_new(&b->names, f, m, e);
    if (code == APR_OK)
        code = find_sizes(b, other, e);
    const struct apr_scope scope = scope_of(b);
    if (code == APR_OK)
        code = apr_names_order(b->names, &scope, e);
    if (code == APR_OK) {
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
    for (size_t i = 0; b->text != NULL && i < b->family->ndim; i++)
        free(b->text[i]);
    free(b->text);
    free(b->value);
    free(b->told);
    apr_hf_config_free(b->config);
    free(b);
}
