/* Towards an APR, and what of one others carry. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "base/memstream.h"
#include "family/general.h"
#include "family/gguf_kv.h"
#include "family/list_value.h"
#include "family/spell.h"
#include "family/translate_parts.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/json.h"
#include "model/meta.h"
#include "ui/report.h"

#define SOURCE_METADATA "source_metadata"

/* ---- __metadata__ --------------------------------------------------------------------------------------------------- */

/* Strings of a SafeTensors file that are not __metadata__ of a checkpoint, but of what the file once was. */
static bool is_ours(struct apr_bytes key) { return apr_bytes_is(key, APR_KV_KEY) || apr_bytes_is(key, APR_FLAT_KEY); }

static enum apr_code each_member(const struct apr_value *object, apr_metadata_fn *f, void *ctx, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(object);
    struct apr_value v;
    enum apr_code code = APR_OK;
    while (code == APR_OK && apr_elements_next(&w, &v))
        if (v.type == APR_META_STRING)
            code = f(ctx, w.key, v.text, e);
    return apr_elements_done(&w, code, e);
}

enum apr_code apr_each_metadata(const struct apr_translation *t, apr_metadata_fn *f, void *ctx, struct apr_error *e)
{
    static const char prefix[] = APR_HF_METADATA;
    const struct apr_meta *const meta = &t->m->meta;
    const struct apr_value *const object = apr_meta_find(meta, SOURCE_METADATA);
    if (!t->m->format->own_names && !t->m->format->config)
        return object == NULL || object->type != APR_META_OBJECT ? APR_OK : each_member(object, f, ctx, e);
    for (size_t i = 0; i < meta->n; i++) {
        struct apr_bytes key = meta->entry[i].key;
        const bool carried = key.n >= sizeof prefix && memcmp(key.at, prefix, sizeof prefix - 1) == 0;
        if (meta->entry[i].value.type != APR_META_STRING || (t->m->format->own_names ? !carried : is_ours(key)))
            continue;
        if (carried && t->m->format->own_names)
            key = (struct apr_bytes){ key.at + sizeof prefix - 1, key.n - sizeof prefix + 1 };
        APR_TRY(f(ctx, key, meta->entry[i].value.text, e));
    }
    return APR_OK;
}

static enum apr_code write_metadata(void *ctx, struct apr_bytes key, struct apr_bytes text, struct apr_error *e)
{
    struct apr_out *const o = ctx;
    (void)e;
    if (o->depth == 0)
        apr_out_open(o, NULL, '{');
    apr_out_key(o, key);
    apr_out_bytes(o, NULL, text);
    return APR_OK;
}

/* ---- what nothing else tells ---------------------------------------------------------------------------------------- */

/* Keys that are told by tensors, by config.json, by the keys of a GGUF, or by the tokenizer. */
static bool is_told(const struct apr_translation *t, struct apr_bytes key)
{
    static const char *const told[] = {
        "model_type", "total_size", "param_count", "original_format", "quantization", "sharding",
        "architecture", "hf_architecture", "hf_model_type", "tied_embeddings", "tensor_shapes", "chat_template",
        "hidden_size", "hidden_dim", "d_model", "n_embd", "num_layers", "n_layers", "num_hidden_layers", "n_layer",
        "num_heads", "n_heads", "num_attention_heads", "n_head", "num_kv_heads", "n_kv_heads", "num_key_value_heads",
        "vocab_size", "n_vocab", "intermediate_size", "ffn_dim", "intermediate_dim", "n_inner", "head_dim",
        "max_position_embeddings", "max_seq_len", "context_length", "n_ctx", "rms_norm_eps", "layer_norm_eps", "norm_eps",
        "rope_theta", "rope_type", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
        SOURCE_METADATA, APR_SIDE_KEY, APR_KV_KEY, APR_FLAT_KEY,
    };
    static const char tokenizer[] = "tokenizer.";
    const struct apr_value *const carried = apr_meta_find(&t->m->meta, APR_SIDE_KEY);
    for (size_t i = 0; i < APR_LENGTH(told); i++)
        if (apr_bytes_is(key, told[i]))
            return true;
    if (apr_bytes_is(key, "license"))
        return carried != NULL; /* README.md tells it */
    return key.n >= sizeof tokenizer && memcmp(key.at, tokenizer, sizeof tokenizer - 1) == 0;
}

static bool is_rest(const struct apr_translation *t, const struct apr_meta_entry *entry)
{
    static const char *const general[] = { "name", "description", "author", "version", "license" };
    const bool stated = entry->value.type != APR_META_NULL && !is_told(t, entry->key);
    for (size_t i = 0; stated && apr_meta_find(&t->m->meta, APR_KV_KEY) != NULL && i < APR_LENGTH(general); i++)
        if (apr_bytes_is(entry->key, general[i]))
            return false;
    return stated;
}

/* Not what any file with such tensors would say. */
static bool is_its_own(const struct apr_translation *t, const struct apr_meta_entry *entry)
{
    static const char *const without[] = { "total_size", "param_count", "original_format", "sharding", SOURCE_METADATA, APR_KV_KEY };
    (void)t;
    for (size_t i = 0; i < APR_LENGTH(without); i++)
        if (apr_bytes_is(entry->key, without[i]))
            return false;
    return entry->value.type != APR_META_NULL && !(entry->value.type == APR_META_STRING && entry->value.text.n == 0);
}

static enum apr_code write_entries(struct apr_arena **a, const struct apr_translation *t,
                                   bool wanted(const struct apr_translation *, const struct apr_meta_entry *), struct apr_bytes *json,
                                   struct apr_error *e)
{
    const struct apr_meta *const meta = &t->m->meta;
    char *text = NULL;
    size_t n = 0;
    struct apr_out o = { .to = apr_memstream(&text, &n) };
    if (o.to == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < meta->n; i++) {
        if (!wanted(t, &meta->entry[i]))
            continue;
        if (o.depth == 0)
            apr_out_open(&o, NULL, '{');
        apr_out_key(&o, meta->entry[i].key);
        apr_out_value(&o, NULL, &meta->entry[i].value, 0);
    }
    if (o.depth > 0)
        apr_out_close(&o, '}');
    return apr_spelled(a, o.to, &text, &n, json, e);
}

enum apr_code apr_flat_rest(struct apr_arena **a, const struct apr_translation *t, struct apr_bytes *json, struct apr_error *e)
{
    *json = t->m->format->config ? apr_meta_string(&t->m->meta, APR_FLAT_KEY) : (struct apr_bytes){ 0 };
    return t->m->format->config || t->m->format->own_names ? APR_OK : write_entries(a, t, is_rest, json, e);
}

enum apr_code apr_flat_whole(struct apr_arena **a, const struct apr_translation *t, struct apr_bytes *json, struct apr_error *e)
{
    return write_entries(a, t, is_its_own, json, e);
}

/* ---- identity ------------------------------------------------------------------------------------------------------- */

static enum apr_code put_null(struct apr_draft *d, const char *key, struct apr_error *e)
{
    return apr_draft_put(d, apr_text(key), &(struct apr_value){ .type = APR_META_NULL, .encoding = APR_JSON }, e);
}

static enum apr_code put_text(struct apr_draft *d, const char *key, struct apr_bytes text, struct apr_error *e)
{
    return text.n == 0 ? APR_OK : apr_draft_text(d, key, text, e);
}

static enum apr_code put_text_or_null(struct apr_draft *d, const char *key, struct apr_bytes text, struct apr_error *e)
{
    return text.n == 0 ? put_null(d, key, e) : apr_draft_text(d, key, text, e);
}

static enum apr_code put_count(struct apr_draft *d, const char *key, uint64_t n, struct apr_error *e)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    return apr_draft_json(d, key, apr_text(text), e);
}

/* What config.json says at a path, else what the contract would write there. */
static struct apr_bytes class_of(const struct apr_translation *t, const char *path, const char *key)
{
    const struct apr_family *const f = t->b == NULL ? NULL : apr_binding_family(t->b);
    struct apr_bytes word = { 0 };
    if (apr_hf_config_string(t->config, apr_text(path), &word))
        return word;
    for (size_t i = 0; f != NULL && i < f->nhf_config; i++)
        for (size_t k = 0; k < f->hf_config[i].n; k++) {
            const struct apr_setting *const s = &f->hf_config[i].set[k];
            if (!apr_bytes_is(s->key, key) || !apr_binding_holds(t->b, f->hf_config[i].when))
                continue;
            if (s->value.origin == APR_OF_LIST)
                return s->value.word.n > 0 ? s->value.word.word[0] : word;
            return apr_binding_formula(t->b, &s->value).text;
        }
    return word;
}

static enum apr_code put_identity(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    const struct apr_meta *const meta = &t->m->meta;
    const bool gguf = t->m->format->own_names;
    const bool was_gguf = gguf || (t->config == NULL && t->b != NULL);
    const struct apr_bytes type = class_of(t, "model_type", "model_type"),
                           own = apr_meta_string(gguf || !was_gguf ? meta : apr_binding_carried(t->b), "general.architecture");
    struct apr_arena *arena = NULL;
    const struct apr_bytes license = gguf ? apr_meta_string(meta, "general.license") : apr_general_license(&arena, t->side);
    APR_TRY(apr_draft_text(d, "model_type", type, e));
    APR_TRY(put_text(d, "name", gguf ? apr_meta_string(meta, "general.name") : (struct apr_bytes){ 0 }, e));
    APR_TRY(put_text(d, "description", gguf ? apr_meta_string(meta, "general.description") : (struct apr_bytes){ 0 }, e));
    APR_TRY(put_text(d, "author", gguf ? apr_meta_string(meta, "general.author") : (struct apr_bytes){ 0 }, e));
    APR_TRY(put_text(d, "version", gguf ? apr_meta_string(meta, "general.version") : (struct apr_bytes){ 0 }, e));
    const enum apr_code code = put_text_or_null(d, "license", license, e);
    apr_arena_free(&arena);
    APR_TRY(code);
    APR_TRY(put_null(d, "data_source", e));
    APR_TRY(put_null(d, "data_license", e));
    APR_TRY(put_text(d, "original_format", apr_text(t->m->format->name), e));
    APR_TRY(put_count(d, "total_size", t->bytes, e));
    APR_TRY(put_count(d, "param_count", t->elements, e));
    APR_TRY(put_text(d, "architecture", was_gguf && own.n > 0 ? own : type, e));
    APR_TRY(put_text(d, "hf_architecture", class_of(t, "architectures.0", "architectures"), e));
    return put_text(d, "hf_model_type", type, e);
}

/* ---- flat keys ------------------------------------------------------------------------------------------------------ */

static bool is_single(double v) { return v == (double)(float)v; }

static enum apr_code put_result(struct apr_draft *d, const char *key, const struct apr_result *r, bool real, struct apr_error *e)
{
    char text[APR_SPELL_ROOM];
    struct apr_value v;
    if (!r->known)
        return APR_OK;
    if (r->text.at != NULL)
        return put_text(d, key, r->text, e);
    if (!real && apr_value_of_type(r, APR_META_U32, &v))
        return put_count(d, key, v.u, e);
    if (!apr_value_of_type(r, APR_META_F32, &v))
        return APR_OK;
    return apr_draft_json(d, key, apr_text(is_single(r->number) ? apr_spell_f32(r->number, text) : apr_spell_f64(r->number, text)), e);
}

static enum apr_code put_list(struct apr_draft *d, const struct apr_binding *b, struct apr_bytes key, const struct apr_formula *f,
                              enum apr_meta_type element, struct apr_error *e)
{
    struct apr_value v;
    struct apr_bytes json;
    APR_TRY(apr_list_value(&d->arena, b, f, element, (const char *)key.at, &v, e));
    if (v.type != APR_META_ARRAY)
        return APR_OK;
    APR_TRY(apr_list_spell(&d->arena, &v, &json, e));
    return apr_draft_json(d, (const char *)key.at, json, e);
}

static enum apr_code put_setting(struct apr_draft *d, const struct apr_binding *b, const struct apr_setting *s, struct apr_error *e)
{
    if (s->value.origin == APR_OF_EACH)
        return put_list(d, b, s->key, &s->value, s->type, e);
    const struct apr_result r = apr_binding_formula(b, &s->value);
    if (s->type == APR_META_BOOL && r.known && r.text.at == NULL)
        return apr_draft_bool(d, (const char *)s->key.at, r.number != 0, e);
    return put_result(d, (const char *)s->key.at, &r, s->type == APR_META_F64, e);
}

/* A value that the reference's programs ask for; `otherwise` where nothing tells it. */
static enum apr_code put_default(struct apr_draft *d, const char *key, double otherwise, bool real, struct apr_error *e)
{
    if (apr_draft_find(d, apr_text(key)) != NULL || !(otherwise > 0))
        return APR_OK;
    return put_result(d, key, &(struct apr_result){ .known = true, .number = otherwise }, real, e);
}

static double number_at(const struct apr_draft *d, const char *key)
{
    const struct apr_value *const v = apr_draft_find(d, apr_text(key));
    double n;
    return v != NULL && apr_meta_number(v, &n) ? n : 0;
}

static enum apr_code put_flat(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    const struct apr_family *const f = apr_binding_family(t->b);
    double rows = 0;
    for (size_t i = 0; i < f->nkv; i++) {
        const struct apr_kv *const k = &f->kv[i];
        if (k->apr.n == 0 || k->value.origin == APR_OF_CODE || apr_draft_find(d, k->apr) != NULL)
            continue;
        if (k->type == APR_META_ARRAY) {
            APR_TRY(put_list(d, t->b, k->apr, &k->value, k->element, e));
            continue;
        }
        const struct apr_result r = apr_binding_value(t->b, k, true);
        if (k->type == APR_META_BOOL && r.known)
            APR_TRY(apr_draft_bool(d, (const char *)k->apr.at, r.number != 0, e));
        else
            APR_TRY(put_result(d, (const char *)k->apr.at, &r, k->type == APR_META_F32, e));
    }
    for (size_t i = 0; i < f->apr.n; i++) {
        const struct apr_setting *const s = &f->apr.set[i];
        if (apr_draft_find(d, s->key) == NULL)
            APR_TRY(put_setting(d, t->b, s, e));
    }
    if (apr_binding_number(t->b, apr_text("V"), &rows))
        APR_TRY(put_default(d, "vocab_size", rows, false, e));
    APR_TRY(put_default(d, "num_kv_heads", number_at(d, "num_heads"), false, e));
    APR_TRY(put_default(d, "intermediate_size", 4 * number_at(d, "hidden_size"), false, e));
    APR_TRY(put_default(d, "rms_norm_eps", 1e-6, true, e));
    if (f->rope_type.hf_order < 0)
        return APR_OK;
    APR_TRY(put_default(d, "rope_theta", 10000, true, e));
    return put_count(d, "rope_type", (uint64_t)f->rope_type.hf_order, e);
}

static enum apr_code put_quantization(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    static const char *const lopsided[] = { "Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K" };
    char name[24] = "", text[128];
    bool symmetric = true;
    if (!t->quantized || t->main == NULL || t->main->block == 1)
        return APR_OK;
    for (size_t i = 0; i < APR_LENGTH(lopsided); i++)
        symmetric = symmetric && strcmp(lopsided[i], t->main->name) != 0;
    for (size_t i = 0; i + 1 < sizeof name && t->main->name[i] != 0; i++)
        name[i] = (char)(t->main->name[i] >= 'A' && t->main->name[i] <= 'Z' ? t->main->name[i] - 'A' + 'a' : t->main->name[i]);
    snprintf(text, sizeof text, "{\"quant_type\":\"%s\",\"bits\":%d,\"block_size\":%d,\"symmetric\":%s}", name,
             8 * t->main->bytes / t->main->block, t->main->block, symmetric ? "true" : "false");
    return apr_draft_json(d, "quantization", apr_text(text), e);
}

/* ---- what is carried ------------------------------------------------------------------------------------------------ */

static enum apr_code put_source_metadata(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    char *text = NULL;
    size_t n = 0;
    struct apr_bytes json;
    struct apr_out o = { .to = apr_memstream(&text, &n) };
    if (o.to == NULL)
        return apr_no_memory(e);
    const enum apr_code code = apr_each_metadata(t, write_metadata, &o, e);
    if (o.depth > 0)
        apr_out_close(&o, '}');
    const enum apr_code spelled = apr_spelled(&d->arena, o.to, &text, &n, &json, e);
    if (code != APR_OK || spelled != APR_OK)
        return code != APR_OK ? code : spelled;
    return json.n == 0 ? APR_OK : apr_draft_json(d, SOURCE_METADATA, json, e);
}

static enum apr_code put_files(struct apr_draft *d, const struct apr_side *side, struct apr_error *e)
{
    char *text = NULL;
    size_t n = 0;
    struct apr_bytes json;
    struct apr_arena *scratch = NULL;
    struct apr_out o = { .to = apr_memstream(&text, &n) };
    bool lost = false;
    if (o.to == NULL)
        return apr_no_memory(e);
    apr_out_open(&o, NULL, '{');
    for (size_t i = 0; i < side->n && !lost; i++) {
        apr_out_key(&o, side->file[i].name);
        if (apr_is_utf8(side->file[i].text)) {
            apr_out_bytes(&o, NULL, side->file[i].text);
            continue;
        }
        const struct apr_bytes spelled = apr_base64_encode(&scratch, side->file[i].text);
        lost = spelled.at == NULL;
        apr_out_open(&o, NULL, '{');
        apr_out_bytes(&o, "base64", spelled);
        apr_out_close(&o, '}');
    }
    apr_out_close(&o, '}');
    apr_arena_free(&scratch);
    APR_TRY(apr_spelled(&d->arena, o.to, &text, &n, &json, e));
    return lost ? apr_no_memory(e) : apr_draft_json(d, APR_SIDE_KEY, json, e);
}

static enum apr_code put_kv(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    struct apr_draft keys = { 0 };
    struct apr_bytes json = apr_meta_string(&t->m->meta, APR_KV_KEY);
    enum apr_code code = APR_OK;
    if (t->m->format->own_names) {
        code = apr_gguf_keys(&keys, t, e);
        if (code == APR_OK)
            code = apr_gguf_kv_write(&d->arena, &keys.meta, true, &json, e);
        apr_draft_end(&keys);
    }
    return code != APR_OK || json.n == 0 ? code : apr_draft_json(d, APR_KV_KEY, json, e);
}

/* What the source carries of an APR's metadata, but for what is said anew. */
static enum apr_code put_carried(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    struct apr_draft carried = { 0 };
    enum apr_code code = apr_flat_read(&carried, t->m, true, e);
    for (size_t i = 0; code == APR_OK && i < carried.meta.n; i++) {
        struct apr_value v = carried.meta.entry[i].value;
        const struct apr_value *const old = apr_draft_find(d, carried.meta.entry[i].key);
        const bool said = old != NULL && old->type != APR_META_NULL && !(old->type == APR_META_STRING && old->text.n == 0);
        if (said || v.type == APR_META_NULL)
            continue;
        if (v.type == APR_META_STRING)
            v.text = apr_arena_copy(&d->arena, v.text);
        code = v.type == APR_META_STRING && v.text.at == NULL ? apr_no_memory(e) : apr_draft_put(d, carried.meta.entry[i].key, &v, e);
    }
    apr_draft_end(&carried);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code copy_own(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    for (size_t i = 0; i < t->m->meta.n; i++)
        if (!apr_bytes_is(t->m->meta.entry[i].key, "sharding") && !(t->typed && apr_bytes_is(t->m->meta.entry[i].key, "quantization")))
            APR_TRY(apr_draft_put(d, t->m->meta.entry[i].key, &t->m->meta.entry[i].value, e));
    static const char *const always[] = { "license", "data_source", "data_license" };
    if (apr_draft_find(d, apr_text("model_type")) == NULL)
        APR_TRY(apr_draft_text(d, "model_type", apr_text(""), e));
    for (size_t i = 0; i < APR_LENGTH(always); i++)
        if (apr_draft_find(d, apr_text(always[i])) == NULL)
            APR_TRY(put_null(d, always[i], e));
    if (t->bytes > 0 || apr_draft_find(d, apr_text("total_size")) == NULL)
        APR_TRY(put_count(d, "total_size", t->bytes, e));
    if (apr_draft_find(d, apr_text("param_count")) == NULL)
        APR_TRY(put_count(d, "param_count", t->elements, e));
    if (t->refiled && t->side->n > 0 && apr_draft_find(d, apr_text(APR_SIDE_KEY)) != NULL)
        APR_TRY(put_files(d, t->side, e));
    return t->typed ? put_quantization(d, t, e) : APR_OK;
}

enum apr_code apr_translate_to_apr(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    if (!t->m->format->own_names && !t->m->format->config)
        return copy_own(d, t, e);
    APR_TRY(put_identity(d, t, e));
    if (t->b != NULL)
        APR_TRY(put_flat(d, t, e));
    APR_TRY(put_quantization(d, t, e));
    APR_TRY(put_source_metadata(d, t, e));
    if (t->side != NULL && t->side->n > 0)
        APR_TRY(put_files(d, t->side, e));
    APR_TRY(put_kv(d, t, e));
    return put_carried(d, t, e);
}
