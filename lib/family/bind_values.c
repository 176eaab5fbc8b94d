/* What a model says of itself: in config.json, in metadata, through the kv of its family. */
#include "family/bind_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/llama3.h"
#include "family/missing.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/meta.h"
#include "values/chunk.h"

#define MOST_ELEMENTS 65536 /* of a list of which the largest is wanted */
#define MOST_SEARCHED 1000 /* names, for the path of config.json that a formula rests on */
#define MOST_WALKED   4096  /* elements on the way to one, where it has no place of its own */

/* ---- entries of the metadata ---------------------------------------------------------------------------------------- */

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

/* An entry whose key is that, or that behind its architecture. */
static const struct apr_meta_entry *any_entry(const struct apr_binding *b, struct apr_bytes name)
{
    char key[256], spelled[256];
    struct apr_kv plain = { .own = true };
    const struct apr_meta_entry *const as_it_is = entry_at(b, name);
    if (as_it_is != NULL || name.n > 128)
        return as_it_is;
    memcpy(key, ".", 1);
    memcpy(key + 1, name.at, name.n);
    plain.key = (struct apr_bytes){ (const unsigned char *)key, name.n + 1 };
    return spell_key(b, &plain, spelled) ? entry_at(b, apr_text(spelled)) : NULL;
}

static bool is_key(const struct apr_kv *k, struct apr_bytes name)
{
    return k->own ? apr_bytes_equal((struct apr_bytes){ k->key.at + 1, k->key.n - 1 }, name) : apr_bytes_equal(k->key, name);
}

/* The entry that is called so in any dialect. */
static const struct apr_meta_entry *entry_named(const struct apr_binding *b, struct apr_bytes name)
{
    const struct apr_meta_entry *entry = name.n == 0 ? NULL : any_entry(b, name);
    for (size_t i = 0; i < b->family->nkv && entry == NULL && name.n > 0; i++) {
        const struct apr_kv *const k = &b->family->kv[i];
        if (is_key(k, name) || apr_bytes_equal(k->hf, name) || apr_bytes_equal(k->apr, name) || apr_words_hold(&k->value.word, name) ||
            (k->fills != NULL && apr_words_hold(&k->fills->key, name)))
            entry = stating(b, k);
    }
    return entry;
}

/* ---- lists ---------------------------------------------------------------------------------------------------------- */

/* The largest number of a list: what a model of layers unlike each other has at most. */
static struct apr_result largest_of(const struct apr_value *list)
{
    struct apr_result r = { 0 };
    struct apr_elements w = apr_elements_of(list);
    struct apr_value v;
    bool sound = true;
    for (uint64_t i = 0; sound && apr_elements_next(&w, &v); i++) {
        const struct apr_result one = result_of(&v);
        sound = i < MOST_ELEMENTS && ((one.known && one.text.at == NULL) || v.type == APR_META_NULL);
        if (one.known && (!r.known || one.number > r.number))
            r = one;
    }
    apr_elements_end(&w);
    return sound ? r : (struct apr_result){ 0 };
}

/* Element number `index`. An escaped text of JSON has no place of its own. */
static struct apr_result element_of(const struct apr_value *list, uint64_t index)
{
    const unsigned width = list->encoding == APR_JSON ? 0 : apr_meta_width(list->element);
    struct apr_result r = { 0 };
    struct apr_elements w = apr_elements_of(list);
    struct apr_value v;
    uint64_t i = 0;
    if (width > 0) { /* no need to walk there */
        i = apr_min(index, list->n);
        w.at = (size_t)i * width;
        w.left = list->n - i;
    }
    for (const uint64_t from = i; i <= index && i - from < MOST_WALKED && apr_elements_next(&w, &v); i++)
        if (i == index)
            r = result_of(&v);
    if (r.text.at != NULL && r.text.at == w.scratch)
        r = (struct apr_result){ .wrong = true };
    apr_elements_end(&w);
    return r;
}

/* "LIST.7": the list's name and 7. */
static bool is_element(struct apr_bytes path, struct apr_bytes *list, uint64_t *index)
{
    size_t dot = path.n;
    *index = 0;
    while (dot > 0 && path.at[dot - 1] != '.')
        dot--;
    if (dot < 2 || dot == path.n || path.n - dot > 9)
        return false;
    for (size_t i = dot; i < path.n; i++) {
        if (path.at[i] < '0' || path.at[i] > '9')
            return false;
        *index = 10 * *index + (uint64_t)(path.at[i] - '0');
    }
    *list = (struct apr_bytes){ path.at, dot - 1 };
    return true;
}

/* The number or the text at a path of config.json. */
static struct apr_result config_value(const struct apr_binding *b, struct apr_bytes path)
{
    struct apr_result r = { 0 };
    r.known = apr_hf_config_number(b->config, path, &r.number) || apr_hf_config_string(b->config, path, &r.text);
    return r;
}

/* Element "LIST.7" of what is no object: of a list, of a scalar that holds for all. */
static struct apr_result element_at(const struct apr_binding *b, struct apr_bytes path)
{
    struct apr_bytes list;
    uint64_t index;
    if (!is_element(path, &list, &index))
        return (struct apr_result){ 0 };
    if (apr_hf_config_has(b->config, list))
        return config_value(b, list); /* a list there has been asked already */
    const struct apr_meta_entry *const entry = entry_named(b, list);
    if (entry == NULL)
        return (struct apr_result){ 0 };
    return entry->value.type == APR_META_ARRAY ? element_of(&entry->value, index) : result_of(&entry->value);
}

struct apr_result apr_bound_stored(const struct apr_binding *b, struct apr_bytes path)
{
    struct apr_result r = config_value(b, path);
    if (!r.known && apr_hf_config_has(b->config, path))
        return (struct apr_result){ .wrong = true };
    const struct apr_meta_entry *const entry = r.known ? NULL : entry_named(b, path);
    if (entry != NULL) {
        r = result_of(&entry->value);
        r.wrong = !r.known;
        return r;
    }
    return r.known ? r : element_at(b, path);
}

static struct apr_result list_element(const struct apr_binding *b, struct apr_bytes list, uint64_t i)
{
    char path[300];
    const int n = snprintf(path, sizeof path, "%.*s.%llu", (int)apr_min(list.n, 256), (const char *)list.at, (unsigned long long)i);
    return apr_bound_stored(b, (struct apr_bytes){ (const unsigned char *)path, (size_t)n });
}

static uint64_t list_length(const struct apr_binding *b, struct apr_bytes path)
{
    const struct apr_meta_entry *const entry = entry_named(b, path);
    const uint64_t n = apr_hf_config_length(b->config, path);
    return n > 0 || entry == NULL || entry->value.type != APR_META_ARRAY ? n : apr_meta_length(&entry->value);
}

/* ---- dims ----------------------------------------------------------------------------------------------------------- */

static struct apr_result number_or_largest(const struct apr_value *v)
{
    return v != NULL && v->type == APR_META_ARRAY ? largest_of(v) : result_of(v);
}

/* What the metadata says at a contract's key. */
static struct apr_result said_at(const struct apr_binding *b, const struct apr_kv *k)
{
    const struct apr_meta_entry *const entry = stating(b, k);
    return entry == NULL ? (struct apr_result){ 0 } : number_or_largest(&entry->value);
}

/* Metadata that may have the words of a config.json. */
static bool is_apr(const struct apr_model *m) { return !m->format->own_names && !m->format->config; }

static struct apr_result path_says(const struct apr_binding *b, const struct apr_dim *d, struct apr_bytes path)
{
    struct apr_result r = { 0 };
    r.known = d->text ? apr_hf_config_string(b->config, path, &r.text)
                      : apr_hf_config_number(b->config, path, &r.number) || apr_hf_config_largest(b->config, path, &r.number);
    return r;
}

struct apr_result apr_bound_said(const struct apr_binding *b, const struct apr_dim *d)
{
    struct apr_result r = { 0 };
    for (size_t i = 0; i < d->key.n && !r.known; i++)
        r = path_says(b, d, d->key.word[i]);
    for (size_t i = 0; i < b->family->nkv && !r.known; i++)
        if (b->family->kv[i].fills == d)
            r = said_at(b, &b->family->kv[i]);
    for (size_t i = 0; is_apr(b->model) && i < d->key.n && !r.known; i++)
        r = number_or_largest(apr_meta_at(&b->model->meta, d->key.word[i]));
    return r.known && (r.text.at != NULL) != d->text ? (struct apr_result){ 0 } : r;
}

bool apr_binding_listed(const struct apr_binding *b, struct apr_bytes path, double *largest)
{
    const struct apr_meta_entry *const entry = entry_named(b, path);
    if (apr_hf_config_largest(b->config, path, largest))
        return true;
    const struct apr_result r = entry != NULL && entry->value.type == APR_META_ARRAY ? largest_of(&entry->value) : (struct apr_result){ 0 };
    *largest = r.number;
    return r.known;
}

/* ---- expressions ---------------------------------------------------------------------------------------------------- */

struct apr_result apr_bound_dim(const struct apr_binding *b, struct apr_bytes name)
{
    const struct apr_dim *const d = apr_family_dim(b->family, name);
    return d == NULL ? (struct apr_result){ 0 } : b->value[d - b->family->dim];
}

static struct apr_result dim_value(void *ctx, struct apr_bytes name) { return apr_bound_dim(ctx, name); }

/* "tensors.ROLE.1": that side of a tensor under its HuggingFace name, as it is stored. */
static struct apr_result side_at(const struct apr_binding *b, struct apr_bytes role, uint64_t side)
{
    const struct apr_role *const r = apr_family_role(b->family, role);
    const struct apr_tensor *const t = r == NULL ? NULL : apr_names_first(b->names, r, APR_HF);
    return t == NULL || side >= t->ndim ? (struct apr_result){ 0 } : (struct apr_result){ .known = true, .number = (double)t->dim[side] };
}

static struct apr_result stored_value(void *ctx, struct apr_bytes path)
{
    struct apr_bytes list, role;
    uint64_t side;
    if (is_element(path, &list, &side) && apr_path_role(list, &role))
        return side_at(ctx, role, side);
    return apr_bound_stored(ctx, path);
}

/* "tensors.ROLE", "tensors.ROLE.7": does the model have a tensor for it, or one of that layer? Else a path in config.json, or a key of
 * the metadata. */
static bool has_path(void *ctx, struct apr_bytes path)
{
    const struct apr_binding *const b = ctx;
    struct apr_bytes name, list;
    uint64_t layer;
    if (is_element(path, &list, &layer) && apr_path_role(list, &name)) {
        const struct apr_role *const role = apr_family_role(b->family, name);
        return role != NULL && apr_binding_dialect(b, role, (uint32_t)layer) != APR_NDIALECTS;
    }
    if (apr_path_role(path, &name)) {
        const struct apr_role *const role = apr_family_role(b->family, name);
        return role != NULL && apr_names_present(b->names, role);
    }
    return apr_hf_config_has(b->config, path) || entry_at(b, path) != NULL;
}

struct apr_scope apr_bound_scope(const struct apr_binding *b)
{
    return (struct apr_scope){ dim_value, has_path, (void *)(uintptr_t)b, stored_value };
}

static bool holds(const struct apr_binding *b, const struct apr_expr *when)
{
    const struct apr_scope scope = apr_bound_scope(b);
    return when == NULL || apr_expr_true(when, &scope, false);
}

/* ---- other values --------------------------------------------------------------------------------------------------- */

/* Not known: lists, and what only the code that writes can work out. */
static struct apr_result formula_value(const struct apr_binding *b, const struct apr_formula *f)
{
    const struct apr_scope scope = apr_bound_scope(b);
    struct apr_result r = { 0 };
    if (f->origin == APR_OF_EXPR)
        return apr_expr_value(f->expr, &scope);
    if (f->origin == APR_OF_CONSTANT)
        return result_of(&f->constant);
    for (size_t i = 0; f->origin == APR_OF_CONFIG && i < f->word.n && !r.known; i++)
        r = config_value(b, f->word.word[i]);
    return r;
}

/* The value of an entry, as a GGUF or as config.json has it. A key that is there needs no `when`, and is right where the contract has a
 * constant for those that it writes. */
static struct apr_result kv_value(const struct apr_binding *b, const struct apr_kv *k, bool gguf)
{
    const struct apr_scope scope = apr_bound_scope(b);
    const bool wanted = holds(b, k->when);
    struct apr_result r = { 0 };
    if (wanted && !gguf && k->fills != NULL)
        return b->value[k->fills - b->family->dim];
    if (wanted && k->value.origin != APR_OF_CONSTANT)
        r = formula_value(b, &k->value);
    if (!r.known && k->type != APR_META_ARRAY)
        r = said_at(b, k);
    if (!r.known && wanted && k->value.origin == APR_OF_CONSTANT)
        r = formula_value(b, &k->value);
    return r.known || !wanted || k->otherwise == NULL ? r : apr_expr_value(k->otherwise, &scope);
}

static struct apr_result value_of(const struct apr_binding *b, struct apr_bytes name)
{
    const struct apr_family *f = b->family;
    struct apr_result r = apr_bound_dim(b, name);
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

bool apr_binding_llama3(const struct apr_binding *b, struct apr_llama3 *s)
{
    const struct { const char *dim; double *to; } of[] = {
        { "theta", &s->theta },  { "D", &s->dims },         { "rope_factor", &s->factor },
        { "rope_low", &s->low }, { "rope_high", &s->high }, { "rope_orig", &s->original },
    };
    bool known = true;
    for (size_t i = 0; i < APR_LENGTH(of); i++)
        known = known && apr_binding_number(b, apr_text(of[i].dim), of[i].to);
    return known && s->theta > 0 && s->dims > 0 && s->factor > 0 && s->high >= s->low;
}

/* ---- statements ----------------------------------------------------------------------------------------------------- */

static struct apr_bytes first_path(const struct apr_binding *b, const struct apr_words *paths)
{
    for (size_t i = 0; i < paths->n; i++)
        if (apr_hf_config_has(b->config, paths->word[i]))
            return paths->word[i];
    return (struct apr_bytes){ 0 };
}

/* Looks for the path of config.json that an expression rests on; formulas of dims are followed a little. A path of a dim comes before one
 * that is asked for. */
struct search {
    const struct apr_binding *b;
    struct apr_bytes          path;
    unsigned                  depth, left; /* left: names yet to be looked at */
};

static bool search_dim(void *ctx, struct apr_bytes name)
{
    struct search *s = ctx;
    const struct apr_dim *d = apr_family_dim(s->b->family, name);
    if (s->left == 0)
        return false;
    s->left--;
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

static bool search_value(void *ctx, struct apr_bytes path)
{
    struct search *s = ctx;
    if (apr_hf_config_has(s->b->config, path))
        s->path = path;
    return s->path.n == 0;
}

static struct apr_bytes path_of(const struct apr_binding *b, const struct apr_kv *k)
{
    struct search s = { .b = b, .depth = 3, .left = MOST_SEARCHED };
    if (k->value.origin == APR_OF_CONFIG)
        return first_path(b, &k->value.word);
    if (k->fills != NULL && (s.path = first_path(b, &k->fills->key)).n > 0)
        return s.path;
    if (apr_hf_config_has(b->config, k->hf))
        return k->hf;
    apr_expr_names(k->value.expr, search_dim, &s);
    if (s.path.n == 0)
        apr_expr_values(k->value.expr, search_value, &s);
    return s.path;
}

struct apr_statement apr_binding_states_dim(const struct apr_binding *b, const struct apr_dim *d)
{
    const struct apr_bytes key = first_path(b, &d->key);
    return (struct apr_statement){ .value = b->value[d - b->family->dim], .key = key, .wanted = true,
                                   .n = apr_hf_config_length(b->config, key) };
}

struct apr_statement apr_binding_states(const struct apr_binding *b, const struct apr_kv *k)
{
    const struct apr_scope scope = apr_bound_scope(b);
    const struct apr_meta_entry *entry = stating(b, k);
    struct apr_statement s = { .wanted = entry != NULL || holds(b, k->when) };
    if (entry != NULL) {
        s.value = result_of(&entry->value);
        s.list = entry->value.type == APR_META_ARRAY ? &entry->value : NULL;
        s.n = s.list == NULL ? 0 : apr_meta_length(s.list);
        s.key = entry->key;
    } else if (!s.wanted && k->fills != NULL) {
        s.value = b->value[k->fills - b->family->dim];
    } else if (s.wanted && (k->value.origin == APR_OF_EXPR || k->value.origin == APR_OF_CONFIG)) {
        s.value = formula_value(b, &k->value);
        s.key = path_of(b, k);
        s.n = k->type == APR_META_ARRAY ? apr_hf_config_length(b->config, s.key) : 0;
    } else if (s.wanted && k->value.origin == APR_OF_EACH && b->config != NULL && apr_binding_length(b, &k->value, &s.n)) {
        s.key = path_of(b, k);
        s.each = &k->value;
    } else if (s.wanted && k->value.origin == APR_OF_ROLE && apr_binding_element(b, &k->value, 0).known &&
               apr_binding_length(b, &k->value, &s.n)) {
        s.key = k->value.word.word[0];
        s.each = &k->value;
    }
    if (s.wanted && s.key.n == 0 && !s.value.known && k->otherwise != NULL)
        s.value = apr_expr_value(k->otherwise, &scope);
    return s;
}

struct apr_result apr_statement_element(const struct apr_binding *b, const struct apr_statement *s, uint64_t i)
{
    if (s->n == 0)
        return s->value;
    if (i >= s->n)
        return (struct apr_result){ 0 };
    return s->list != NULL ? element_of(s->list, i) : s->each != NULL ? apr_binding_element(b, s->each, i) : list_element(b, s->key, i);
}

/* ---- for those that write metadata ---------------------------------------------------------------------------------- */

bool apr_binding_holds(const struct apr_binding *b, const struct apr_expr *when) { return holds(b, when); }

struct apr_result apr_binding_formula(const struct apr_binding *b, const struct apr_formula *f) { return formula_value(b, f); }

struct apr_result apr_binding_value(const struct apr_binding *b, const struct apr_kv *k, bool gguf) { return kv_value(b, k, gguf); }

const struct apr_meta *apr_binding_carried(const struct apr_binding *b) { return &b->carried.meta; }

/* The first of the paths at which a list stands. */
static struct apr_bytes list_of(const struct apr_binding *b, const struct apr_formula *f, uint64_t *n)
{
    *n = 0;
    for (size_t i = 0; f->origin == APR_OF_CONFIG && i < f->word.n; i++) {
        *n = list_length(b, f->word.word[i]);
        if (*n > 0)
            return f->word.word[i];
    }
    return (struct apr_bytes){ 0 };
}

/* The value of a role in a layer. */
static struct apr_result role_value(const struct apr_binding *b, const struct apr_role *role, uint64_t layer)
{
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    const struct apr_tensor *t;
    struct apr_result r = { 0 };
    if (layer > UINT32_MAX || apr_binding_parts(b, role, (uint32_t)layer, &t, 1) != 1 || t->count != 1 || !apr_decodable(k, t))
        return r;
    apr_read_doubles(k, t, 0, 1, &r.number);
    r.known = true;
    return r;
}

bool apr_binding_length(const struct apr_binding *b, const struct apr_formula *f, uint64_t *n)
{
    const struct apr_scope scope = apr_bound_scope(b);
    if (f->origin == APR_OF_ROLE)
        return (*n = apr_binding_layers(b, NULL)) > 0;
    if (f->origin != APR_OF_EACH)
        return list_of(b, f, n).n > 0;
    return apr_expr_size(f->count, &scope, n);
}

struct apr_result apr_binding_element(const struct apr_binding *b, const struct apr_formula *f, uint64_t i)
{
    const struct apr_scope scope = apr_bound_scope(b);
    uint64_t n;
    if (f->origin == APR_OF_EACH)
        return apr_expr_in_layer(f->expr, &scope, i);
    if (f->origin == APR_OF_ROLE)
        return role_value(b, apr_family_role(b->family, f->word.word[0]), i);
    const struct apr_bytes list = list_of(b, f, &n);
    return i < n ? list_element(b, list, i) : (struct apr_result){ 0 };
}
