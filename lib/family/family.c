#include "family/family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/hf_config.h"

#define MOST_LAYERS 65536 /* of a test vector, in which a role may be or not */

bool apr_words_hold(const struct apr_words *list, struct apr_bytes word)
{
    size_t i = 0;
    while (i < list->n && !apr_bytes_equal(list->word[i], word))
        i++;
    return i < list->n;
}

bool apr_role_stacked(const struct apr_role *r) { return r->ntransform > 0 && r->transform[0].op == APR_OP_STACK; }

bool apr_role_joined(const struct apr_role *r)
{
    return r->ntransform > 0 && (r->transform[0].op == APR_OP_CONCAT_ROWS || r->transform[0].op == APR_OP_CONCAT_COLS);
}

const struct apr_dim *apr_family_dim(const struct apr_family *f, struct apr_bytes name)
{
    for (size_t i = 0; i < f->ndim; i++)
        if (apr_bytes_equal(f->dim[i].name, name))
            return &f->dim[i];
    return NULL;
}

const struct apr_role *apr_family_role(const struct apr_family *f, struct apr_bytes name)
{
    for (size_t i = 0; i < f->nrole; i++)
        if (apr_bytes_equal(f->role[i].name, name))
            return &f->role[i];
    return NULL;
}

bool apr_role_in_layer(const struct apr_role *role, const struct apr_scope *scope, uint64_t layer, bool otherwise)
{
    const struct apr_result r = role->where == NULL ? (struct apr_result){ .known = true, .number = 1 }
                                                    : apr_expr_in_layer(role->where, scope, layer);
    return r.known && r.text.at == NULL ? r.number != 0 : otherwise;
}

size_t apr_role_spell(struct apr_bytes pattern, uint64_t layer, uint64_t expert, char *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < pattern.n;) {
        char digits[24];
        const char *text = (const char *)pattern.at + i;
        size_t length = 1, taken = 1;
        if (pattern.n - i >= 3 && text[0] == '{' && text[2] == '}' && (text[1] == 'L' || text[1] == 'X')) {
            length = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)(text[1] == 'L' ? layer : expert));
            text = digits;
            taken = 3;
        }
        if (n + length >= room)
            return 0;
        memcpy(out + n, text, length);
        n += length;
        i += taken;
    }
    out[n] = 0;
    return n;
}

bool apr_kv_spell(const struct apr_kv *k, struct apr_bytes architecture, char *out, size_t room)
{
    const int n = snprintf(out, room, "%.*s%.*s", k->own ? (int)apr_min(architecture.n, room) : 0, (const char *)architecture.at,
                           (int)apr_min(k->key.n, room), (const char *)k->key.at);
    return n > 0 && (size_t)n < room;
}

/* ---- test vectors --------------------------------------------------------------------------------------------------- */

/* Dims as a test vector gives them, the rest by default and formula: each once, as it needs only those above it. */
struct sizes {
    const struct apr_family *f;
    struct apr_result       *value;
    struct apr_hf_config    *config;
};

static struct apr_result size_value(void *ctx, struct apr_bytes name)
{
    const struct sizes *v = ctx;
    const struct apr_dim *d = apr_family_dim(v->f, name);
    return d == NULL ? (struct apr_result){ 0 } : v->value[d - v->f->dim];
}

static struct apr_result path_value(void *ctx, struct apr_bytes path)
{
    const struct sizes *v = ctx;
    struct apr_result r = { 0 };
    r.known = apr_hf_config_number(v->config, path, &r.number) || apr_hf_config_string(v->config, path, &r.text);
    return r.known ? r : size_value(ctx, path);
}

static bool has_path(void *ctx, struct apr_bytes path)
{
    const struct sizes *v = ctx;
    return apr_hf_config_has(v->config, path);
}

static struct apr_scope scope_of(const struct sizes *s)
{
    return (struct apr_scope){ size_value, has_path, (void *)(uintptr_t)s, path_value };
}

static void fill(const struct sizes *s, const struct apr_vector *v)
{
    const struct apr_scope scope = scope_of(s);
    for (size_t i = 0; i < v->ngiven; i++)
        s->value[v->given[i].dim - s->f->dim] = v->given[i].value;
    for (size_t i = 0; i < s->f->ndim; i++)
        if (!s->value[i].known && s->f->dim[i].value != NULL)
            s->value[i] = apr_expr_value(s->f->dim[i].value, &scope);
}

/* Of the layers from, from + step ... below `to` those in which the role is; false when that cannot be worked out. */
static bool count_where(const struct apr_role *r, const struct apr_scope *scope, uint64_t from, uint64_t to, uint64_t step, uint64_t *n)
{
    *n = 0;
    for (uint64_t layer = from; layer < to; layer += step) {
        const bool there = apr_role_in_layer(r, scope, layer, true);
        if (to > MOST_LAYERS || there != apr_role_in_layer(r, scope, layer, false))
            return false;
        *n += there;
    }
    return true;
}

/* How many layers have the role; false when that cannot be worked out. */
static bool count_layers(const struct apr_role *r, const struct apr_scope *scope, uint64_t *n)
{
    const struct apr_result layers = scope->value(scope->ctx, apr_text("N"));
    uint64_t from = 0, to = layers.known && layers.number >= 0 && layers.number < 0x1p53 ? (uint64_t)layers.number : 0, step = 1;
    *n = 1;
    if (!r->layered)
        return true;
    if (r->layers[0] != NULL && (!apr_expr_size(r->layers[0], scope, &from) || !apr_expr_size(r->layers[1], scope, &to)))
        return false;
    if (r->layers[2] != NULL && !apr_expr_size(r->layers[2], scope, &step))
        return false;
    *n = to <= from || step == 0 ? 0 : (to - from - 1) / step + 1;
    return r->where == NULL || *n == 0 || count_where(r, scope, from, to, step, n);
}

/* Adds the elements of one role; false when a size cannot be worked out. */
static bool add_elements(const struct apr_role *r, const struct apr_scope *scope, uint64_t *total)
{
    uint64_t n, size;
    if (!count_layers(r, scope, &n))
        return false;
    for (unsigned d = 0; d < r->ndim; d++)
        if (!apr_expr_size(r->dim[d], scope, &size) || !apr_mul(n, size, &n))
            return false;
    if (apr_role_stacked(r))
        if (!apr_expr_size(r->transform[0].n[0], scope, &size) || !apr_mul(n, size, &n))
            return false;
    return apr_add(*total, n, total);
}

bool apr_family_elements(const struct apr_family *f, const struct apr_vector *v, uint64_t *n)
{
    struct sizes s = { f, calloc(f->ndim + 1, sizeof *s.value), NULL };
    const struct apr_scope scope = scope_of(&s);
    struct apr_error ignored;
    bool fine = s.value != NULL && (v->config.n == 0 || apr_hf_config_new(&s.config, v->config, &ignored) == APR_OK);
    *n = 0;
    if (fine)
        fill(&s, v);
    for (size_t k = 0; fine && k < f->nrole; k++) {
        const struct apr_role *r = &f->role[k];
        const bool there = !r->generated && (r->when == NULL || apr_expr_true(r->when, &scope, false));
        if (there && (r->optional == NULL || !apr_expr_true(r->optional, &scope, false)))
            fine = add_elements(r, &scope, n);
    }
    apr_hf_config_free(s.config);
    free(s.value);
    return fine;
}
