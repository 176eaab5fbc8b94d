/* Towards a GGUF. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/general.h"
#include "family/gguf_kv.h"
#include "family/list_value.h"
#include "family/spell.h"
#include "family/translate_parts.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/meta.h"

const char *const apr_carried_files[] = {
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "modules.json",
    "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json", "README.md", "LICENSE", NULL,
};

/* ---- values --------------------------------------------------------------------------------------------------------- */

bool apr_value_of_type(const struct apr_result *r, enum apr_meta_type type, struct apr_value *v)
{
    const double n = r->number;
    *v = (struct apr_value){ .type = type, .text = r->text };
    if (!r->known || (r->text.at != NULL) != (type == APR_META_STRING))
        return false;
    switch (type) {
    case APR_META_STRING: return apr_is_utf8(r->text);
    case APR_META_BOOL:   v->b = n != 0; return true;
    case APR_META_F32:    v->f = (double)(float)n; return isfinite(v->f) || isinf(n);
    case APR_META_U32:
        v->u = n >= 0 && n <= UINT32_MAX ? (uint64_t)n : 0;
        return (double)v->u == n;
    case APR_META_I32:
        v->i = n >= INT32_MIN && n <= INT32_MAX ? (int64_t)n : 0;
        return (double)v->i == n;
    default:              return false;
    }
}

bool apr_same_statement(const struct apr_value *a, const struct apr_value *b)
{
    double x, y;
    if (apr_meta_number(a, &x) && apr_meta_number(b, &y))
        return x == y || (float)x == (float)y;
    return apr_value_equal(a, b);
}

bool apr_kv_key(const struct apr_binding *b, const struct apr_kv *k, char key[256])
{
    const struct apr_family *const f = apr_binding_family(b);
    for (size_t i = 0; i < f->nkv; i++)
        if (apr_bytes_is(f->kv[i].key, "general.architecture")) {
            const struct apr_result r = apr_binding_value(b, &f->kv[i], true);
            return apr_kv_spell(k, r.text, key, 256);
        }
    return !k->own && apr_kv_spell(k, (struct apr_bytes){ 0 }, key, 256);
}

bool apr_flat_edit(const struct apr_translation *t, const struct apr_kv *k, const struct apr_value *otherwise, struct apr_value *v)
{
    if (t->m->format->own_names || k->apr.n == 0)
        return false;
    const struct apr_statement s = apr_binding_states(t->b, k);
    return s.key.n > 0 && apr_value_of_type(&s.value, k->type, v) && !apr_same_statement(v, otherwise);
}

/* ---- what only code can work out ------------------------------------------------------------------------------------ */

static enum apr_code put_labels(struct apr_draft *d, const struct apr_hf_config *config, const char *key, struct apr_error *e)
{
    struct apr_array a = { .element = APR_META_STRING };
    struct apr_bytes label;
    for (unsigned i = 0; i < 100000; i++) {
        char path[32];
        snprintf(path, sizeof path, "id2label.%u", i);
        if (!apr_hf_config_string(config, apr_text(path), &label))
            break;
        apr_array_text(&a, label);
    }
    return a.n == 0 && !a.lost ? APR_OK : apr_draft_array(d, key, &a, e);
}

/* true: sliding. Every fourth is full where config.json does not say. */
static enum apr_code put_sliding(struct apr_draft *d, const struct apr_binding *b, const struct apr_hf_config *config, const char *key,
                                 struct apr_error *e)
{
    struct apr_array a = { .element = APR_META_BOOL };
    struct apr_bytes kind;
    double layers = 0;
    if (!apr_binding_number(b, apr_text("N"), &layers) || !(layers >= 0 && layers <= 1e6))
        return APR_OK;
    for (unsigned i = 0; i < (unsigned)layers; i++) {
        char path[32];
        snprintf(path, sizeof path, "layer_types.%u", i);
        const bool said = apr_hf_config_string(config, apr_text(path), &kind);
        apr_array_integer(&a, said ? apr_bytes_is(kind, "sliding_attention") : (i + 1) % 4 != 0);
    }
    return a.n == 0 && !a.lost ? APR_OK : apr_draft_array(d, key, &a, e);
}

/* From the file that modules.json points at. */
static enum apr_code put_pooling(struct apr_draft *d, const struct apr_side *side, const char *key, struct apr_error *e)
{
    static const char *const mode[] = { NULL, "pooling_mode_mean_tokens", "pooling_mode_cls_token", "pooling_mode_lasttoken" };
    const struct apr_bytes text = side == NULL ? (struct apr_bytes){ 0 } : apr_side_get(side, "1_Pooling/config.json");
    struct apr_hf_config *c;
    if (text.n == 0)
        return APR_OK;
    enum apr_code code = apr_side_in(side, "1_Pooling/config.json", apr_hf_config_new(&c, text, e), e);
    if (code != APR_OK)
        return code;
    for (uint32_t i = 1; i < APR_LENGTH(mode); i++) {
        double on;
        if (apr_hf_config_number(c, apr_text(mode[i]), &on) && on != 0) {
            code = apr_draft_u32(d, key, i, e);
            break;
        }
    }
    apr_hf_config_free(c);
    return code;
}

static enum apr_code put_computed(struct apr_draft *d, const struct apr_translation *t, const struct apr_binding *b, const struct apr_kv *k,
                                  const char *key, struct apr_error *e)
{
    const struct apr_role *const embedding = apr_family_role(apr_binding_family(b), apr_text("token_embd"));
    uint64_t dim[APR_MAX_DIMS];
    unsigned ndim;
    if (k->value.code == APR_POOLING_TYPE)
        return put_pooling(d, t->side, key, e);
    if (!apr_binding_holds(b, k->when))
        return APR_OK;
    switch (k->value.code) {
    case APR_FILE_TYPE:
        return t->file_type < 0 ? APR_OK : apr_draft_u32(d, key, (uint32_t)t->file_type, e);
    case APR_OUTPUT_LABELS:
        return put_labels(d, t->config, key, e);
    case APR_SLIDING_LAYERS:
        return put_sliding(d, b, t->config, key, e);
    case APR_TOKEN_EMBD_ROWS:
        if (embedding == NULL || !apr_binding_shape(b, embedding, dim, &ndim) || ndim == 0 || dim[0] > UINT32_MAX)
            return APR_OK;
        return apr_draft_u32(d, key, (uint32_t)dim[0], e);
    default:
        return APR_OK; /* of config.json */
    }
}

/* ---- the family's keys ---------------------------------------------------------------------------------------------- */

static enum apr_code missing(const struct apr_binding *b, const struct apr_kv *k, const char *key, struct apr_error *e)
{
    const struct apr_family *const f = apr_binding_family(b);
    struct apr_bytes path = k->hf;
    if (path.n == 0 && k->fills != NULL && k->fills->key.n > 0)
        path = k->fills->key.word[0];
    return apr_fail(e, APR_EARG, APR_NOWHERE, "family %.*s needs %s, and %s%.*s gives it (%s, line %u); --config FILE, or --set %s=...",
                    APR_PRINTED(f->name), key, path.n > 0 ? "no " : "nothing", APR_PRINTED(path), f->file, k->line, key);
}

static enum apr_code put_list(struct apr_draft *d, const struct apr_binding *b, const struct apr_kv *k, const char *key,
                              struct apr_error *e)
{
    struct apr_value v;
    APR_TRY(apr_list_value(&d->arena, b, &k->value, k->element, key, &v, e));
    if (v.type == APR_META_ARRAY)
        return apr_draft_put(d, apr_text(key), &v, e);
    return k->value.origin == APR_OF_EACH || k->value.origin == APR_OF_ROLE ? missing(b, k, key, e) : APR_OK;
}

static enum apr_code put_entry(struct apr_draft *d, const struct apr_translation *t, const struct apr_binding *b, const struct apr_kv *k,
                               struct apr_error *e)
{
    char key[256];
    struct apr_value v, edited;
    if (!apr_kv_key(b, k, key))
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%s, line %u: too long a key", apr_binding_family(b)->file, k->line);
    if (k->value.origin == APR_OF_CODE)
        return put_computed(d, t, b, k, key, e);
    if (!apr_binding_holds(b, k->when))
        return APR_OK;
    if (k->type == APR_META_ARRAY)
        return put_list(d, b, k, key, e);
    const struct apr_result r = apr_binding_value(b, k, true);
    if (!r.known)
        return k->value.origin == APR_OF_EXPR ? missing(b, k, key, e) : APR_OK;
    if (r.text.at != NULL && r.text.n == 0)
        return APR_OK;
    if (!apr_value_of_type(&r, k->type, &v))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s is of type %s, which the model's value is not", key, apr_meta_type_word(k->type));
    if (b == t->b && apr_flat_edit(t, k, &v, &edited))
        v = edited;
    if (v.type == APR_META_STRING)
        return apr_draft_text(d, key, v.text, e);
    return apr_draft_put(d, apr_text(key), &v, e);
}

enum apr_code apr_family_keys(struct apr_draft *d, const struct apr_translation *t, const struct apr_binding *b, struct apr_error *e)
{
    const struct apr_family *const f = apr_binding_family(b);
    bool placed = false; /* the contract says where general.* begins */
    for (size_t i = 0; i < f->nkv; i++)
        placed = placed || apr_bytes_is(f->kv[i].key, "general.type");
    for (size_t i = 0; i < f->nkv; i++) {
        const struct apr_kv *const k = &f->kv[i];
        APR_TRY(put_entry(d, t, b, k, e));
        if (apr_bytes_is(k->key, placed ? "general.type" : "general.architecture"))
            APR_TRY(apr_general_put(d, t, e));
    }
    return APR_OK;
}

/* ---- keys that are there already ------------------------------------------------------------------------------------ */

/* An array as a little-endian file has it. */
static enum apr_code put_turned(struct apr_draft *d, const struct apr_meta_entry *entry, struct apr_error *e)
{
    struct apr_array a = { .element = entry->value.element };
    struct apr_elements w = apr_elements_of(&entry->value);
    const struct apr_bytes key = apr_arena_copy(&d->arena, entry->key);
    struct apr_value v;
    if (key.at == NULL)
        return apr_no_memory(e);
    if (a.element == APR_META_ARRAY)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "key %s: an array of arrays in a big-endian file; --unset it", APR_QUOTED(key));
    while (apr_elements_next(&w, &v)) {
        if (v.type == APR_META_STRING)
            apr_array_text(&a, v.text);
        else if (v.type == APR_META_F32 || v.type == APR_META_F64)
            apr_array_real(&a, v.f);
        else
            apr_array_integer(&a, v.type == APR_META_BOOL ? v.b : v.u);
    }
    apr_elements_end(&w);
    return apr_draft_array(d, (const char *)key.at, &a, e);
}

static enum apr_code copy_keys(struct apr_draft *d, const struct apr_meta *meta, struct apr_error *e)
{
    for (size_t i = 0; i < meta->n; i++) {
        struct apr_value v = meta->entry[i].value;
        if (apr_bytes_begin(meta->entry[i].key, apr_text("split.")))
            continue;
        if (v.encoding == APR_GGUF_BE && v.type == APR_META_ARRAY) {
            APR_TRY(put_turned(d, &meta->entry[i], e));
            continue;
        }
        v.encoding = APR_GGUF_LE;
        APR_TRY(apr_draft_put(d, meta->entry[i].key, &v, e));
    }
    return APR_OK;
}

static enum apr_code put_edits(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    const struct apr_family *const f = t->b == NULL ? NULL : apr_binding_family(t->b);
    for (size_t i = 0; f != NULL && i < f->nkv; i++) {
        char key[256];
        struct apr_value v;
        const struct apr_value *const old = apr_kv_key(t->b, &f->kv[i], key) ? apr_draft_find(d, apr_text(key)) : NULL;
        if (old == NULL || old->type == APR_META_ARRAY || !apr_flat_edit(t, &f->kv[i], old, &v))
            continue;
        if (v.type == APR_META_STRING)
            APR_TRY(apr_draft_text(d, key, v.text, e));
        else
            APR_TRY(apr_draft_put(d, apr_text(key), &v, e));
    }
    return APR_OK;
}

enum apr_code apr_gguf_keys(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    if (t->m->format->own_names)
        APR_TRY(copy_keys(d, &t->m->meta, e));
    else if (t->config == NULL)
        APR_TRY(apr_gguf_kv_read(d, t->m, true, e));
    if (d->meta.n == 0)
        return APR_OK;
    if (!t->m->format->own_names)
        APR_TRY(put_edits(d, t, e));
    if (t->typed && t->file_type >= 0)
        APR_TRY(apr_draft_u32(d, "general.file_type", (uint32_t)t->file_type, e));
    return t->typed ? apr_draft_u32(d, "general.quantization_version", 2, e) : APR_OK;
}

/* ---- what has no key ------------------------------------------------------------------------------------------------ */

static enum apr_code put_metadata(void *ctx, struct apr_bytes key, struct apr_bytes text, struct apr_error *e)
{
    struct apr_draft *const d = ctx;
    const struct apr_bytes name = apr_arena_format(&d->arena, APR_HF_METADATA "%.*s", APR_PRINTED(key));
    return name.at == NULL ? apr_no_memory(e) : apr_draft_text(d, (const char *)name.at, text, e);
}

static enum apr_code put_carried(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    struct apr_bytes rest;
    for (size_t i = 0; t->side != NULL && apr_carried_files[i] != NULL; i++) {
        const struct apr_bytes text = apr_side_get(t->side, apr_carried_files[i]);
        char key[96];
        snprintf(key, sizeof key, APR_HF_PREFIX "%s", apr_carried_files[i]);
        if (text.at != NULL && apr_is_utf8(text))
            APR_TRY(apr_draft_text(d, key, text, e));
    }
    APR_TRY(apr_each_metadata(t, put_metadata, d, e));
    APR_TRY(apr_flat_rest(&d->arena, t, &rest, e));
    return rest.n == 0 ? APR_OK : apr_draft_text(d, APR_HF_PREFIX APR_FLAT_KEY, rest, e);
}

enum apr_code apr_translate_to_gguf(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    APR_TRY(apr_gguf_keys(d, t, e));
    if (t->m->format->own_names)
        return APR_OK;
    if (d->meta.n == 0) {
        if (t->b != NULL)
            APR_TRY(apr_family_keys(d, t, t->b, e));
        else if (t->file_type >= 0)
            APR_TRY(apr_draft_u32(d, "general.file_type", (uint32_t)t->file_type, e));
        APR_TRY(apr_draft_u32(d, "general.quantization_version", 2, e));
        APR_TRY(apr_gguf_kv_read(d, t->m, true, e));
        if (t->typed && t->file_type >= 0 && apr_draft_find(d, apr_text("general.file_type")) != NULL)
            APR_TRY(apr_draft_u32(d, "general.file_type", (uint32_t)t->file_type, e));
    }
    return put_carried(d, t, e);
}
