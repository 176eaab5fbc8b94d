#include "family/bind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "family/gguf_kv.h"
#include "files/source.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/meta.h"

struct apr_binding {
    const struct apr_family *family;
    const struct apr_model  *model;
    struct apr_hf_config       *config;
    struct apr_names        *names;
    struct apr_result       *value;      /* of family->dim */
    bool                    *told;       /* that value is what a model says or has, no default */
    struct apr_arena        *arena;      /* of texts that the other model was told */
    struct apr_draft         carried;    /* keys that the model carries of a GGUF, or of an APR, that it once was */
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

size_t apr_binding_parts(const struct apr_binding *b, const struct apr_role *role, uint32_t layer, const struct apr_tensor **part,
                         size_t room)
{
    struct apr_meaning meaning = { .role = role, .layer = layer, .dialect = apr_binding_dialect(b, role, layer) };
    uint64_t n = 1;
    if (meaning.dialect == APR_NDIALECTS)
        return 0;
    if (meaning.dialect != APR_HF)
        n = role->known[meaning.dialect].n;
    else if (apr_role_stacked(role) && !apr_binding_size(b, role->transform[0].n[0], &n))
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

static const struct apr_meta_entry *last_entry(const struct apr_meta *meta, struct apr_bytes key)
{
    for (size_t i = meta->n; key.n > 0 && i-- > 0;)
        if (apr_bytes_equal(meta->entry[i].key, key) && meta->entry[i].value.type != APR_META_NULL)
            return &meta->entry[i];
    return NULL;
}

/* A key of the metadata, or of what it carries; NULL when neither has it. */
static const struct apr_meta_entry *entry_at(const struct apr_binding *b, struct apr_bytes key)
{
    const struct apr_meta_entry *const own = last_entry(&b->model->meta, key);
    return own != NULL ? own : last_entry(&b->carried.meta, key);
}

/* The same for a key of an APR, which may be spelled otherwise. */
static const struct apr_meta_entry *flat_entry(const struct apr_binding *b, struct apr_bytes key)
{
    static const char *const alias[][4] = {
        { "hidden_size", "hidden_dim", "d_model", "n_embd" },
        { "num_layers", "n_layers", "num_hidden_layers", "n_layer" },
        { "num_heads", "n_heads", "num_attention_heads", "n_head" },
        { "num_kv_heads", "n_kv_heads", "num_key_value_heads", NULL },
        { "vocab_size", "n_vocab", NULL, NULL },
        { "intermediate_size", "ffn_dim", "intermediate_dim", "n_inner" },
        { "max_position_embeddings", "max_seq_len", "context_length", "n_ctx" },
        { "rms_norm_eps", "layer_norm_eps", "norm_eps", NULL },
    };
    const struct apr_meta_entry *found = entry_at(b, key);
    for (size_t i = 0; i < APR_LENGTH(alias); i++)
        for (size_t k = 1; found == NULL && apr_bytes_is(key, alias[i][0]) && k < APR_LENGTH(alias[i]) && alias[i][k] != NULL; k++)
            found = entry_at(b, apr_text(alias[i][k]));
    return found;
}

/* "tensors.ROLE": does the model have a tensor for it? Else a path in config.json, or a key of the metadata. */
static bool has_path(void *ctx, struct apr_bytes path)
{
    const struct apr_binding *b = ctx;
    struct apr_bytes name;
    if (apr_path_role(path, &name)) {
        const struct apr_role *role = apr_family_role(b->family, name);
        return role != NULL && apr_names_present(b->names, role);
    }
    return apr_hf_config_has(b->config, path) || entry_at(b, path) != NULL;
}

static struct apr_scope scope_of(const struct apr_binding *b) { return (struct apr_scope){ dim_value, has_path, (void *)(uintptr_t)b }; }

static struct apr_result result_of(const struct apr_value *v)
{
    double number;
    if (v != NULL && apr_meta_number(v, &number))
        return (struct apr_result){ .known = true, .number = number };
    if (v != NULL && v->type == APR_META_STRING)
        return (struct apr_result){ .known = true, .text = v->text };
    return (struct apr_result){ 0 };
}

/* The GGUF key of an entry, as this model has it. */
static bool spell_key(const struct apr_binding *b, const struct apr_kv *k, char key[256])
{
    const struct apr_meta_entry *const said = entry_at(b, apr_text("general.architecture"));
    struct apr_bytes architecture = said != NULL && said->value.type == APR_META_STRING ? said->value.text : (struct apr_bytes){ 0 };
    architecture.n = (size_t)apr_min(architecture.n, 100);
    return apr_kv_spell(k, architecture, key, 256);
}

/* The entry of the metadata that states k, or NULL. */
static const struct apr_meta_entry *stating(const struct apr_binding *b, const struct apr_kv *k)
{
    char key[256];
    const struct apr_meta_entry *own = spell_key(b, k, key) ? last_entry(&b->model->meta, apr_text(key)) : NULL;
    if (own == NULL && !b->model->format->own_names)
        own = flat_entry(b, k->apr);
    return own != NULL || !spell_key(b, k, key) ? own : last_entry(&b->carried.meta, apr_text(key));
}

#define MOST_LAYERS 4096

/* Of a list by layers the number that all have which have any: hybrid models give heads to some of theirs. */
static struct apr_result common_value(const struct apr_value *list)
{
    struct apr_result r = { 0 };
    struct apr_elements w = apr_elements_of(list);
    struct apr_value v;
    bool same = list->encoding != APR_JSON && list->n <= MOST_LAYERS;
    while (same && apr_elements_next(&w, &v)) {
        const struct apr_result one = result_of(&v);
        same = one.known && one.text.at == NULL && (one.number == 0 || !r.known || one.number == r.number);
        if (same && one.number != 0)
            r = one;
    }
    apr_elements_end(&w);
    return same ? r : (struct apr_result){ 0 };
}

/* What the metadata says at a contract's key. */
static struct apr_result said_at(const struct apr_binding *b, const struct apr_kv *k)
{
    const struct apr_meta_entry *const entry = stating(b, k);
    if (entry != NULL && entry->value.type == APR_META_ARRAY && k->type != APR_META_ARRAY)
        return common_value(&entry->value);
    return entry == NULL ? (struct apr_result){ 0 } : result_of(&entry->value);
}

/* Metadata that may have the words of a config.json. */
static bool is_apr(const struct apr_model *m) { return !m->format->own_names && !m->format->config; }

/* What config.json or the metadata says of a dim. */
static struct apr_result said_value(const struct apr_binding *b, const struct apr_dim *d)
{
    struct apr_result r = { 0 };
    for (size_t i = 0; i < d->key.n && !r.known; i++)
        r.known = d->text ? apr_hf_config_string(b->config, d->key.word[i], &r.text)
                          : apr_hf_config_number(b->config, d->key.word[i], &r.number);
    for (size_t i = 0; i < b->family->nkv && !r.known; i++)
        if (b->family->kv[i].fills == d)
            r = said_at(b, &b->family->kv[i]);
    for (size_t i = 0; is_apr(b->model) && i < d->key.n && !r.known; i++)
        r = result_of(apr_meta_at(&b->model->meta, d->key.word[i]));
    return r.known && (r.text.at != NULL) != d->text ? (struct apr_result){ 0 } : r;
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
    b->value[i].text = apr_arena_copy(&b->arena, value->text);
    return b->value[i].text.at == NULL ? apr_no_memory(e) : APR_OK;
}

/* Dims in their order, since formulas need those above: what the model says of them, then what its shapes show, then what the other
 * model was told, then the default. A formula comes before shapes, which are held against it. */
static enum apr_code find_size(struct apr_binding *b, size_t i, const struct apr_binding *other, struct apr_error *e)
{
    const struct apr_dim *d = &b->family->dim[i];
    const struct apr_scope scope = scope_of(b);
    const struct apr_result shown = b->told[i] ? b->value[i] : (struct apr_result){ 0 };
    const bool formula = d->key.n == 0 && d->value != NULL;
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
    if (b->told == NULL || b->value == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < b->model->ntensor; i++)
        learn_shape(b, &b->model->tensor[i], false);
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
    return head == NULL || (head->optional != NULL && (b->config == NULL || apr_expr_true(head->optional, &scope, true)));
}

bool apr_binding_skips(const struct apr_binding *b, const struct apr_tensor *t) { return apr_names_skips(b->names, t); }

bool apr_binding_tied(const struct apr_binding *b)
{
    const struct apr_role *head = apr_family_role(b->family, apr_text("output")),
                           *embedding = apr_family_role(b->family, apr_text("token_embd"));
    return apr_binding_may_tie(b) && (head == NULL || apr_binding_dialect(b, head, 0) == APR_NDIALECTS) && embedding != NULL &&
           apr_binding_dialect(b, embedding, 0) != APR_NDIALECTS;
}

/* ---- other values --------------------------------------------------------------------------------------------------- */

/* The number or the text at a path of config.json. */
static struct apr_result config_value(const struct apr_binding *b, struct apr_bytes path)
{
    struct apr_result r = { 0 };
    r.known = apr_hf_config_number(b->config, path, &r.number) || apr_hf_config_string(b->config, path, &r.text);
    return r;
}

/* Not known: lists, and what only the code that writes can work out. */
static struct apr_result formula_value(const struct apr_binding *b, const struct apr_formula *f)
{
    const struct apr_scope scope = scope_of(b);
    struct apr_result r = { 0 };
    if (f->origin == APR_OF_EXPR)
        return apr_expr_value(f->expr, &scope);
    if (f->origin == APR_OF_CONSTANT)
        return result_of(&f->constant);
    for (size_t i = 0; f->origin == APR_OF_CONFIG && i < f->word.n && !r.known; i++)
        r = config_value(b, f->word.word[i]);
    return r;
}

static bool holds(const struct apr_binding *b, const struct apr_expr *when)
{
    const struct apr_scope scope = scope_of(b);
    return when == NULL || apr_expr_true(when, &scope, false);
}

/* The value of an entry, as a GGUF or as config.json has it. A key that is there needs no `when`, and is right where the contract has a
 * constant for those that it writes. */
static struct apr_result kv_value(const struct apr_binding *b, const struct apr_kv *k, bool gguf)
{
    const struct apr_scope scope = scope_of(b);
    const bool wanted = holds(b, k->when);
    struct apr_result r = { 0 };
    if (wanted && !gguf && k->fills != NULL)
        return b->value[k->fills - b->family->dim];
    if (wanted && k->value.origin != APR_OF_CONSTANT)
        r = formula_value(b, &k->value);
    if (!r.known)
        r = said_at(b, k);
    if (!r.known && wanted && k->value.origin == APR_OF_CONSTANT)
        r = formula_value(b, &k->value);
    return r.known || !wanted || k->otherwise == NULL ? r : apr_expr_value(k->otherwise, &scope);
}

static bool is_key(const struct apr_kv *k, struct apr_bytes name)
{
    return k->own ? apr_bytes_equal((struct apr_bytes){ k->key.at + 1, k->key.n - 1 }, name) : apr_bytes_equal(k->key, name);
}

/* A key as it is, or without its architecture. */
static const struct apr_meta_entry *any_entry(const struct apr_binding *b, struct apr_bytes name)
{
    char key[256];
    struct apr_kv plain = { .own = true, .key = name };
    const struct apr_meta_entry *const as_it_is = entry_at(b, name);
    if (as_it_is != NULL || name.n > 128)
        return as_it_is;
    memcpy(key, ".", 1);
    memcpy(key + 1, name.at, name.n);
    plain.key = (struct apr_bytes){ (const unsigned char *)key, name.n + 1 };
    char spelled[256];
    return spell_key(b, &plain, spelled) ? entry_at(b, apr_text(spelled)) : NULL;
}

/* The entry whose array stands at a GGUF key, or at what goes with it elsewhere. */
static const struct apr_meta_entry *list_at(const struct apr_binding *b, struct apr_bytes name)
{
    const struct apr_meta_entry *entry = any_entry(b, name);
    for (size_t i = 0; i < b->family->nkv && entry == NULL; i++)
        if (is_key(&b->family->kv[i], name) || apr_bytes_equal(b->family->kv[i].hf, name))
            entry = stating(b, &b->family->kv[i]);
    return entry != NULL && entry->value.type == APR_META_ARRAY && entry->value.encoding != APR_JSON ? entry : NULL;
}

/* "LIST.7": element 7 of a list in the metadata. */
static struct apr_result element_at(const struct apr_binding *b, struct apr_bytes path)
{
    struct apr_result r = { 0 };
    struct apr_value v;
    size_t dot = path.n;
    uint64_t index = 0;
    while (dot > 0 && path.at[dot - 1] != '.')
        dot--;
    if (dot < 2 || dot == path.n || path.n - dot > 9)
        return r;
    for (size_t i = dot; i < path.n; i++) {
        if (path.at[i] < '0' || path.at[i] > '9')
            return r;
        index = 10 * index + (uint64_t)(path.at[i] - '0');
    }
    const struct apr_meta_entry *const list = list_at(b, (struct apr_bytes){ path.at, dot - 1 });
    if (list == NULL || index >= list->value.n || list->value.n > MOST_LAYERS)
        return r;
    struct apr_elements w = apr_elements_of(&list->value);
    for (uint64_t i = 0; i <= index && apr_elements_next(&w, &v); i++)
        if (i == index)
            r = result_of(&v);
    apr_elements_end(&w);
    return r;
}

static struct apr_result value_of(const struct apr_binding *b, struct apr_bytes name)
{
    const struct apr_family *f = b->family;
    struct apr_result r = dim_value((void *)(uintptr_t)b, name);
    if (name.n == 0) /* what an entry has no name in */
        return r;
    for (size_t i = 0; i < f->nkv && !r.known; i++) {
        const struct apr_kv *k = &f->kv[i];
        const bool gguf = is_key(k, name);
        if (gguf || apr_bytes_equal(k->hf, name) || apr_bytes_equal(k->apr, name) || apr_words_hold(&k->value.word, name))
            r = kv_value(b, k, gguf);
    }
    if (!r.known)
        r = config_value(b, name);
    if (!r.known)
        r = any_entry(b, name) == NULL ? r : result_of(&any_entry(b, name)->value);
    if (!r.known)
        r = element_at(b, name);
    for (size_t i = 0; i < f->nhf_config && !r.known; i++)
        for (size_t k = 0; k < f->hf_config[i].n && !r.known; k++)
            if (apr_bytes_equal(f->hf_config[i].set[k].key, name) && holds(b, f->hf_config[i].when))
                r = formula_value(b, &f->hf_config[i].set[k].value);
    return r;
}

struct apr_result apr_binding_word(const struct apr_binding *b, struct apr_bytes name) { return value_of(b, name); }

enum apr_standing apr_binding_stands(const struct apr_binding *b, struct apr_bytes path, struct apr_result *value)
{
    *value = config_value(b, path);
    if (apr_hf_config_has(b->config, path))
        return APR_STANDS_IN_CONFIG;
    const struct apr_meta_entry *const entry = entry_at(b, path);
    *value = result_of(entry == NULL ? NULL : &entry->value);
    return entry == NULL ? APR_STANDS_NOWHERE : APR_STANDS_IN_METADATA;
}

bool apr_binding_has(const struct apr_binding *b, struct apr_bytes path) { return has_path((void *)(uintptr_t)b, path); }

bool apr_binding_number(const struct apr_binding *b, struct apr_bytes name, double *out)
{
    const struct apr_result r = value_of(b, name);
    *out = r.number;
    return r.known && r.text.at == NULL;
}

bool apr_binding_text(const struct apr_binding *b, struct apr_bytes name, struct apr_bytes *out)
{
    const struct apr_result r = value_of(b, name);
    *out = r.text;
    return r.known && r.text.at != NULL;
}

/* ---- statements ----------------------------------------------------------------------------------------------------- */

static struct apr_bytes first_path(const struct apr_binding *b, const struct apr_words *paths)
{
    for (size_t i = 0; i < paths->n; i++)
        if (apr_hf_config_has(b->config, paths->word[i]))
            return paths->word[i];
    return (struct apr_bytes){ 0 };
}

/* Looks for the path of config.json that an expression rests on; formulas of dims are followed a little. */
struct search {
    const struct apr_binding *b;
    struct apr_bytes          path;
    unsigned                  depth;
};

static bool search_dim(void *ctx, struct apr_bytes name)
{
    struct search *s = ctx;
    const struct apr_dim *d = apr_family_dim(s->b->family, name);
    if (d == NULL)
        return true;
    s->path = first_path(s->b, &d->key);
    if (s->path.n == 0 && d->key.n == 0 && d->value != NULL && s->depth > 0) {
        s->depth--;
        apr_expr_names(d->value, search_dim, s);
        s->depth++;
    }
    return s->path.n == 0;
}

static struct apr_bytes path_of(const struct apr_binding *b, const struct apr_kv *k)
{
    struct search s = { .b = b, .depth = 3 };
    if (k->value.origin == APR_OF_CONFIG)
        return first_path(b, &k->value.word);
    if (k->fills != NULL && (s.path = first_path(b, &k->fills->key)).n > 0)
        return s.path;
    if (apr_hf_config_has(b->config, k->hf))
        return k->hf;
    apr_expr_names(k->value.expr, search_dim, &s);
    return s.path;
}

struct apr_statement apr_binding_states_dim(const struct apr_binding *b, const struct apr_dim *d)
{
    return (struct apr_statement){ .value = b->value[d - b->family->dim], .key = first_path(b, &d->key), .wanted = true };
}

struct apr_statement apr_binding_states(const struct apr_binding *b, const struct apr_kv *k)
{
    const struct apr_scope scope = scope_of(b);
    const struct apr_meta_entry *entry = stating(b, k);
    struct apr_statement s = { .wanted = entry != NULL || holds(b, k->when) };
    if (entry != NULL) {
        s.value = result_of(&entry->value);
        s.list = entry->value.type == APR_META_ARRAY ? &entry->value : NULL;
        s.key = entry->key;
    } else if (!s.wanted && k->fills != NULL) {
        s.value = b->value[k->fills - b->family->dim];
    } else if (s.wanted && (k->value.origin == APR_OF_EXPR || k->value.origin == APR_OF_CONFIG)) {
        s.value = formula_value(b, &k->value);
        s.key = path_of(b, k);
    }
    if (s.wanted && s.key.n == 0 && !s.value.known && k->otherwise != NULL)
        s.value = apr_expr_value(k->otherwise, &scope);
    return s;
}

/* ---- for those that write metadata ---------------------------------------------------------------------------------- */

bool apr_binding_holds(const struct apr_binding *b, const struct apr_expr *when) { return holds(b, when); }

struct apr_result apr_binding_formula(const struct apr_binding *b, const struct apr_formula *f) { return formula_value(b, f); }

struct apr_result apr_binding_value(const struct apr_binding *b, const struct apr_kv *k, bool gguf) { return kv_value(b, k, gguf); }

const struct apr_meta *apr_binding_carried(const struct apr_binding *b) { return &b->carried.meta; }

/* ---- tensors that a converter makes --------------------------------------------------------------------------------- */

bool apr_binding_generates(const struct apr_binding *b, const struct apr_role *role)
{
    return role->generated != APR_NOT_GENERATED && holds(b, role->when);
}

/* ---- chains ------------------------------------------------------------------------------------------------------- */

static enum apr_code unknown_size(const struct apr_binding *b, const struct apr_role *role, struct apr_error *e)
{
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
        code = apr_flat_read(&b->carried, m, false, e);
    if (code == APR_OK)
        code = apr_gguf_kv_read(&b->carried, m, false, e);
    if (code == APR_OK)
        code = apr_names_new(&b->names, f, m, e);
    if (code == APR_OK)
        code = find_sizes(b, other, e);
    const struct apr_scope scope = scope_of(b);
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
