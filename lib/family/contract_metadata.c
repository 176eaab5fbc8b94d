/* What a contract says of metadata: kv, hf_config, apr, tokenizer. */
#include "family/contract.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "model/meta.h"

#define MOST_PATHS 8 /* of one value */
#define MOST_INCLUDES 8 /* of one list */
#define MOST_INCLUDED 32 /* entries of each */

/* Made from families/include/ at build time; a row without a name ends it. */
extern const struct embedded {
    const char *file, *text;
} apr_embedded_include[];

static enum apr_code read_computed(const struct apr_contract *c, const struct apr_yaml *at, struct apr_formula *out)
{
    unsigned which = 0;
    APR_TRY(apr_contract_choice(c, at, "nothing computes", "file_type main_dtype no_output_weight output_labels pooling_type "
                                "llama3_from_rope_freqs sliding_layers token_embd_rows", &which)); /* as enum apr_computed */
    out->origin = APR_OF_CODE;
    out->code = (enum apr_computed)which;
    return APR_OK;
}

/* ---- constants ---------------------------------------------------------------------------------------------------- */

/* A constant by its looks, as JSON has it; text is how it is spelled. */
static enum apr_code read_plain(const struct apr_contract *c, const struct apr_yaml *at, struct apr_value *out)
{
    const bool yes = apr_bytes_is(at->text, "true");
    char *end = NULL;
    *out = (struct apr_value){ .type = APR_META_STRING, .encoding = APR_JSON, .text = apr_arena_copy(&c->f->arena, at->text) };
    if (out->text.at == NULL)
        return apr_no_memory(c->e);
    const double number = strtod((const char *)out->text.at, &end);
    if (at->quoted || at->text.n == 0)
        return APR_OK;
    if (apr_bytes_is(at->text, "null")) {
        out->type = APR_META_NULL;
    } else if (yes || apr_bytes_is(at->text, "false")) {
        out->type = APR_META_BOOL;
        out->b = yes;
    } else if (*end == 0 && isfinite(number) && number == floor(number) && fabs(number) < 0x1p53) {
        out->type = number < 0 ? APR_META_I64 : APR_META_U64;
        out->i = (int64_t)number;
    } else if (*end == 0 && isfinite(number)) {
        out->type = APR_META_F64;
        out->f = number;
    }
    return APR_OK;
}

/* One of the type that the key has. */
static enum apr_code read_constant(const struct apr_contract *c, const struct apr_yaml *at, enum apr_meta_type type, struct apr_value *out)
{
    double number = 0;
    APR_TRY(read_plain(c, at, out));
    const bool is_boolean = out->type == APR_META_BOOL, is_number = apr_meta_number(out, &number) && !is_boolean;
    const bool whole = is_number && out->type != APR_META_F64;
    const bool fits = type == APR_META_STRING ? at->kind == APR_YAML_SCALAR && at->text.n > 0
                      : type == APR_META_BOOL ? is_boolean
                      : type == APR_META_F32  ? is_number
                      : type == APR_META_U32  ? whole && number >= 0 && number <= UINT32_MAX
                                              : type == APR_META_I32 && whole && number >= INT32_MIN && number <= INT32_MAX;
    if (!fits)
        return apr_contract_fault(c, at, "no constant of the key's type:", at->text);
    out->type = type;
    if (type == APR_META_F32)
        out->f = number;
    return APR_OK;
}

/* ---- kv ----------------------------------------------------------------------------------------------------------- */

static enum apr_code read_type(const struct apr_contract *c, const struct apr_yaml *at, struct apr_kv *k)
{
    static const enum apr_meta_type types[] = { APR_META_U32, APR_META_I32, APR_META_F32, APR_META_BOOL, APR_META_STRING };
    unsigned which = 0;
    APR_TRY(apr_contract_choice(c, at, "unknown type", "u32 i32 f32 bool str arr_u32 arr_i32 arr_f32 arr_bool arr_str", &which));
    k->element = types[which % APR_LENGTH(types)];
    k->type = which < APR_LENGTH(types) ? k->element : APR_META_ARRAY;
    return APR_OK;
}

static enum apr_code read_key(const struct apr_contract *c, const struct apr_yaml *at, struct apr_kv *k)
{
    APR_TRY(apr_contract_word(c, at, &k->key));
    k->own = k->key.n > 3 && memcmp(k->key.at, "{a}", 3) == 0;
    if (k->own)
        k->key = (struct apr_bytes){ k->key.at + 3, k->key.n - 3 };
    return APR_OK;
}

/* each: of an element, with as many as `count` says, else as there are layers. */
static enum apr_code read_each(const struct apr_contract *c, const struct apr_yaml *at, struct apr_formula *out)
{
    const struct apr_yaml *const count = apr_yaml_get(at, "count");
    out->origin = APR_OF_EACH;
    APR_TRY(apr_contract_layered(c, apr_yaml_get(at, "each"), &out->expr));
    if (count != NULL)
        return apr_contract_expression(c, count, &out->count);
    return apr_contract_expression(c, &(struct apr_yaml){ .line = at->line, .text = apr_text("N") }, &out->count);
}

/* One of which a GGUF has no tensor. */
static enum apr_code read_role(const struct apr_contract *c, const struct apr_yaml *at, struct apr_formula *out)
{
    struct apr_role *r = NULL;
    out->origin = APR_OF_ROLE;
    for (size_t i = 0; i < c->f->nrole; i++)
        if (apr_bytes_equal(c->f->role[i].name, at->text))
            r = &c->f->role[i];
    if (r == NULL || !r->layered || r->known[APR_GGUF].n > 0 || r->ntransform > 0)
        return apr_contract_fault(c, at, "no role of layers without a gguf name:", at->text);
    r->in_key = true;
    return apr_contract_several(c, at, 1, &out->word);
}

static enum apr_code read_formula(const struct apr_contract *c, const struct apr_yaml *at, const struct apr_kv *k, struct apr_formula *out)
{
    const struct apr_yaml *x = apr_yaml_get(at, "expr"), *from = apr_yaml_get(at, "from"), *constant = apr_yaml_get(at, "const"),
                           *computed = apr_yaml_get(at, "computed"), *each = apr_yaml_get(at, "each"), *role = apr_yaml_get(at, "role");
    if (!x + !from + !constant + !computed + !each + !role != 5)
        return apr_contract_fault(c, at, "one of expr, each, role, from, const and computed gives the value of",
                                  apr_yaml_get(at, "gguf")->text);
    if ((each == NULL && apr_yaml_get(at, "count") != NULL) || ((each != NULL || role != NULL) && k->type != APR_META_ARRAY) ||
        (x != NULL && k->type == APR_META_ARRAY))
        return apr_contract_fault(c, at, "each, role and count go with a type arr_..., expr does not; look at",
                                  apr_yaml_get(at, "gguf")->text);
    if (computed != NULL)
        return read_computed(c, computed, out);
    if (each != NULL)
        return read_each(c, at, out);
    if (role != NULL)
        return read_role(c, role, out);
    out->origin = x != NULL ? APR_OF_EXPR : from != NULL ? APR_OF_CONFIG : APR_OF_CONSTANT;
    APR_TRY(apr_contract_expression(c, x, &out->expr));
    APR_TRY(apr_contract_several(c, from, MOST_PATHS, &out->word));
    return constant == NULL ? APR_OK : read_constant(c, constant, k->type, &out->constant);
}

static enum apr_code read_kv(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    const struct apr_yaml *type = apr_yaml_get(at, "type"), *key = apr_yaml_get(at, "gguf"), *fills = apr_yaml_get(at, "fills");
    struct apr_kv *k = out;
    struct apr_bytes dim;
    APR_TRY(apr_contract_keys(c, at, "gguf type expr each count role from const computed default when hf apr fills"));
    if (type == NULL || key == NULL)
        return apr_contract_fault(c, at, "a key needs gguf and type; look at", at->child == NULL ? at->text : at->child->text);
    k->line = apr_contract_line(c, at);
    APR_TRY(read_type(c, type, k));
    APR_TRY(read_key(c, key, k));
    APR_TRY(apr_contract_word(c, apr_yaml_get(at, "hf"), &k->hf));
    APR_TRY(apr_contract_word(c, apr_yaml_get(at, "apr"), &k->apr));
    APR_TRY(apr_contract_expression(c, apr_yaml_get(at, "default"), &k->otherwise));
    APR_TRY(apr_contract_expression(c, apr_yaml_get(at, "when"), &k->when));
    APR_TRY(read_formula(c, at, k, &k->value));
    if (fills != NULL)
        return apr_contract_dim(c, fills, fills->text, &k->fills);
    if (k->value.expr != NULL && apr_expr_is_name(k->value.expr, &dim))
        k->fills = apr_family_dim(c->f, dim);
    return APR_OK;
}

static const char *included_text(struct apr_bytes name)
{
    char file[64];
    snprintf(file, sizeof file, "families/include/%.*s.yaml", (int)apr_min(name.n, 32), (const char *)name.at);
    const struct embedded *row = apr_embedded_include;
    while (row->file != NULL && strcmp(row->file, file) != 0)
        row++;
    return row->text;
}

/* {include: NAME}: all entries of families/include/NAME.yaml, at out[*n] and behind. They include nothing themselves. */
static enum apr_code read_included(const struct apr_contract *c, const struct apr_yaml *at, struct apr_kv *out, size_t *n)
{
    const struct apr_bytes name = apr_yaml_get(at, "include")->text;
    const char *const text = included_text(name);
    struct apr_yaml_document *document;
    APR_TRY(apr_contract_keys(c, at, "include"));
    if (text == NULL)
        return apr_contract_fault(c, at, "nothing to include is called", name);
    APR_TRY(apr_yaml_parse(&document, apr_text(text), c->e));
    const struct apr_contract in = { .f = c->f, .root = c->root, .e = c->e, .included = at->line };
    const struct apr_yaml *const list = apr_yaml_root(document);
    enum apr_code code = apr_contract_list(&in, list, MOST_INCLUDED);
    for (const struct apr_yaml *k = list->child; k != NULL && code == APR_OK; k = k->next)
        code = read_kv(&in, k, &out[(*n)++]);
    apr_yaml_free(document);
    return code;
}

static enum apr_code read_kvs(const struct apr_contract *c, const struct apr_yaml *list, struct apr_kv **out, size_t *n)
{
    size_t includes = 0;
    if (list == NULL)
        return APR_OK;
    APR_TRY(apr_contract_list(c, list, SIZE_MAX));
    for (const struct apr_yaml *k = list->child; k != NULL; k = k->next)
        includes += apr_yaml_get(k, "include") != NULL;
    if (includes > MOST_INCLUDES)
        return apr_contract_fault(c, list, "too much is included in", list->key);
    *out = apr_arena_alloc(&c->f->arena, (list->n + includes * MOST_INCLUDED) * sizeof **out);
    if (*out == NULL)
        return apr_no_memory(c->e);
    for (const struct apr_yaml *k = list->child; k != NULL; k = k->next)
        APR_TRY(apr_yaml_get(k, "include") != NULL ? read_included(c, k, *out, n) : read_kv(c, k, &(*out)[(*n)++]));
    return APR_OK;
}

/* ---- settings ----------------------------------------------------------------------------------------------------- */

static enum apr_code read_set_key(const struct apr_contract *c, const struct apr_yaml *at, struct apr_setting *s)
{
    return apr_contract_word(c, &(struct apr_yaml){ .line = at->line, .text = at->key }, &s->key);
}

/* {each: ..., count: ..., type: ...}, {expr: ..., type: ...}, {computed: ...} */
static enum apr_code read_set_map(const struct apr_contract *c, const struct apr_yaml *at, struct apr_setting *s)
{
    static const enum apr_meta_type types[] = { APR_META_I64, APR_META_F64, APR_META_BOOL };
    const struct apr_yaml *const computed = apr_yaml_get(at, "computed"), *const x = apr_yaml_get(at, "expr"),
                          *const type = apr_yaml_get(at, "type"), *const token = apr_yaml_get(at, "token");
    unsigned which = 0;
    APR_TRY(apr_contract_keys(c, at,
                              token != NULL ? "token" : computed != NULL ? "computed" : x != NULL ? "expr type" : "each count type"));
    APR_TRY(apr_contract_choice(c, type, "unknown type", "int float bool", &which));
    s->type = type == NULL ? APR_META_NULL : types[which];
    if (computed != NULL)
        return read_computed(c, computed, &s->value);
    s->value.origin = APR_OF_TOKEN;
    if (token != NULL)
        return apr_contract_several(c, token, 1, &s->value.word);
    s->value.origin = APR_OF_EXPR;
    if (x == NULL && apr_yaml_get(at, "each") == NULL)
        return apr_contract_fault(c, at, "it lacks", apr_text("computed, expr, each or token"));
    return x != NULL ? apr_contract_expression(c, x, &s->value.expr) : read_each(c, at, &s->value);
}

/* A map, a list of words, a dim or a constant. */
static enum apr_code read_set(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    struct apr_setting *s = out;
    APR_TRY(read_set_key(c, at, s));
    s->type = APR_META_NULL;
    if (at->kind == APR_YAML_MAP)
        return read_set_map(c, at, s);
    if (at->kind == APR_YAML_LIST) {
        s->value.origin = APR_OF_LIST;
        return apr_contract_words(c, at, &s->value.word);
    }
    if (!at->quoted && apr_family_dim(c->f, at->text) != NULL) {
        s->value.origin = APR_OF_EXPR;
        return apr_contract_expression(c, at, &s->value.expr);
    }
    s->value.origin = APR_OF_CONSTANT;
    return read_plain(c, at, &s->value.constant);
}

static enum apr_code read_set_expression(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    struct apr_setting *s = out;
    APR_TRY(read_set_key(c, at, s));
    s->type = APR_META_NULL;
    if (at->kind == APR_YAML_MAP)
        return read_set_map(c, at, s);
    s->value.origin = APR_OF_EXPR;
    return apr_contract_expression(c, at, &s->value.expr);
}

static enum apr_code read_settings(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    const struct apr_yaml *set = apr_yaml_get(at, "set");
    struct apr_settings *s = out;
    APR_TRY(apr_contract_keys(c, at, "when set"));
    APR_TRY(apr_contract_expression(c, apr_yaml_get(at, "when"), &s->when));
    if (set == NULL)
        return apr_contract_fault(c, at, "a map is missing:", apr_text("set"));
    return apr_contract_all(c, set, APR_YAML_MAP, sizeof *s->set, read_set, &s->set, &s->n);
}

static enum apr_code read_all_settings(const struct apr_contract *c, const struct apr_yaml *list, struct apr_settings **out, size_t *n)
{
    return apr_contract_all(c, list, APR_YAML_LIST, sizeof **out, read_settings, out, n);
}

static enum apr_code read_apr(const struct apr_contract *c, const struct apr_yaml *apr)
{
    const struct apr_yaml *rope = apr_yaml_get(apr, "rope_type");
    struct apr_settings *set = &c->f->apr;
    double gguf = -1, hf = -1;
    if (apr != NULL)
        APR_TRY(apr_contract_keys(c, apr, "rope_type set"));
    if (rope != NULL)
        APR_TRY(apr_contract_keys(c, rope, "gguf_order hf_order"));
    APR_TRY(apr_contract_number(c, apr_yaml_get(rope, "gguf_order"), &gguf));
    APR_TRY(apr_contract_number(c, apr_yaml_get(rope, "hf_order"), &hf));
    if (!(gguf >= -1 && gguf <= INT32_MAX && hf >= -1 && hf <= INT32_MAX))
        return apr_contract_fault(c, rope, "out of range:", apr_text("rope_type"));
    c->f->rope_type = (struct apr_rope_type){ (int)gguf, (int)hf };
    return apr_contract_all(c, apr_yaml_get(apr, "set"), APR_YAML_MAP, sizeof *set->set, read_set_expression, &set->set, &set->n);
}

static enum apr_code read_pre_name(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    struct apr_pre_name *p = out;
    APR_TRY(apr_contract_keys(c, at, "when name"));
    APR_TRY(apr_contract_expression(c, apr_yaml_get(at, "when"), &p->when));
    APR_TRY(apr_contract_word(c, apr_yaml_get(at, "name"), &p->name));
    return p->name.n > 0 ? APR_OK : apr_contract_fault(c, at, "it lacks", apr_text("name"));
}

static enum apr_code read_tokenizer(const struct apr_contract *c, const struct apr_yaml *at)
{
    struct apr_tokenizer_rules *t = &c->f->tokenizer;
    const struct apr_yaml *order = apr_yaml_get(at, "order");
    if (at != NULL)
        APR_TRY(apr_contract_keys(c, at, "order pre kv_first overrides normalizer"));
    if (order != NULL)
        APR_TRY(apr_contract_list(c, order, APR_LENGTH(t->order)));
    for (const struct apr_yaml *k = order == NULL ? NULL : order->child; k != NULL; k = k->next) {
        unsigned which = 0; /* as enum apr_tokenizer_source */
        APR_TRY(apr_contract_choice(c, k, "unknown kind of tokenizer", "spm_model spm_json bpe wordpiece unigram gemma4", &which));
        t->order[t->norder++] = (enum apr_tokenizer_source)which;
    }
    APR_TRY(apr_contract_word(c, apr_yaml_get(at, "normalizer"), &t->normalizer));
    APR_TRY(apr_contract_all(c, apr_yaml_get(at, "pre"), APR_YAML_LIST, sizeof *t->pre, read_pre_name, &t->pre, &t->npre));
    APR_TRY(read_kvs(c, apr_yaml_get(at, "kv_first"), &t->first, &t->nfirst));
    return read_all_settings(c, apr_yaml_get(at, "overrides"), &t->override, &t->noverride);
}

enum apr_code apr_contract_read_metadata(const struct apr_contract *c)
{
    APR_TRY(read_kvs(c, apr_yaml_get(c->root, "kv"), &c->f->kv, &c->f->nkv));
    APR_TRY(read_all_settings(c, apr_yaml_get(c->root, "hf_config"), &c->f->hf_config, &c->f->nhf_config));
    APR_TRY(read_apr(c, apr_yaml_get(c->root, "apr")));
    return read_tokenizer(c, apr_yaml_get(c->root, "tokenizer"));
}
