/* Towards a checkpoint. */
#include "family/translate_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/general.h"
#include "family/gguf_kv.h"
#include "family/spell.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/json_edit.h"
#include "model/meta.h"

/* ---- one that is there ---------------------------------------------------------------------------------------------- */

/* Binds the family to a config.json alone, beside the model's tensors. End with like_end. */
static enum apr_code like_begin(struct apr_config_alone *l, const struct apr_translation *t, struct apr_bytes config, struct apr_error *e)
{
    l->config = (struct apr_source){ .map = config, .path = "config.json" };
    l->model = *t->m;
    l->model.meta = (struct apr_meta){ 0 };
    l->model.config = &l->config;
    return apr_bind(&l->b, apr_binding_family(t->b), &l->model, NULL, e);
}

/* Is the carried config.json one of the family's? A GGUF may be a bert that was a distilbert. */
static bool is_of_family(const struct apr_family *f, const struct apr_hf_config *c)
{
    struct apr_bytes word;
    if (apr_hf_config_string(c, apr_text("architectures.0"), &word))
        return apr_words_hold(&f->detect[APR_DETECT_ARCHITECTURES], word);
    return !apr_hf_config_string(c, apr_text("model_type"), &word) || apr_words_hold(&f->detect[APR_DETECT_MODEL_TYPES], word);
}

static enum apr_code ask_family(const struct apr_config_work *w, struct apr_bytes config, bool *yes)
{
    struct apr_hf_config *c;
    *yes = false;
    if (w->t->b == NULL)
        return APR_OK;
    const enum apr_code code = apr_hf_config_new(&c, config, w->e);
    if (code != APR_OK)
        return w->t->side == NULL ? code : apr_side_in(w->t->side, "config.json", code, w->e);
    *yes = is_of_family(apr_binding_family(w->t->b), c);
    apr_hf_config_free(c);
    return APR_OK;
}

static void like_end(struct apr_config_alone *l)
{
    apr_binding_free(l->b);
    l->b = NULL;
}

/* Where a config.json states an entry as it is: a path of its own, not of what it is worked out from. */
static const char *stated_at(const struct apr_config_work *w, const struct apr_kv *k)
{
    const struct apr_bytes key = apr_binding_states(w->like.b, k).key;
    const bool own = key.n > 0 && (apr_words_hold(&k->value.word, key) || (k->fills != NULL && apr_words_hold(&k->fills->key, key)));
    return own ? (const char *)key.at : k->hf.n > 0 ? (const char *)k->hf.at : NULL;
}

/* What the source's own keys say of an entry, otherwise than config.json does. */
static bool contradicts(const struct apr_config_work *w, const struct apr_kv *k, struct apr_value *v)
{
    char key[256];
    struct apr_value said;
    const struct apr_result r = apr_binding_value(w->like.b, k, true);
    const bool told = apr_value_of_type(&r, k->type, &said);
    if (w->keys.meta.n == 0)
        return told && apr_flat_edit(w->t, k, &said, v);
    const struct apr_value *const own = apr_kv_key(w->t->b, k, key) ? apr_draft_find(&w->keys, apr_text(key)) : NULL;
    if (own == NULL || own->type == APR_META_ARRAY || (told && apr_same_statement(own, &said)))
        return false;
    const struct apr_result back = apr_binding_value(w->t->b, k, false);
    return apr_value_of_type(&back, k->type, v);
}

/* Wherever it is spelled; a config.json that says nothing of it stays so. */
static enum apr_code mend_dtype(struct apr_config_work *w)
{
    static const char *const path[] = { "dtype", "torch_dtype", "text_config.dtype", "text_config.torch_dtype" };
    const char *const name = apr_config_dtype(w->t->main);
    struct apr_bytes json;
    if (name == NULL)
        return APR_OK;
    APR_TRY(apr_spell_string(w->arena, apr_text(name), &json, w->e));
    for (size_t i = 0; i < APR_LENGTH(path); i++) {
        const struct apr_bytes old = apr_json_find(w->text, path[i]);
        if (old.n > 0 && !apr_bytes_equal(old, json))
            APR_TRY(apr_json_put(w->arena, &w->text, path[i], json, w->e));
    }
    return APR_OK;
}

/* The whole model's word on its head, and that of its text alone where it contradicts the head's being there. */
static enum apr_code mend_tie(struct apr_config_work *w)
{
    static const char key[] = "tie_word_embeddings";
    char room[300];
    const char *const inner = apr_config_inner(w, key, room), *const now = w->t->head ? "false" : "true";
    const struct apr_bytes top = apr_json_find(w->text, key), tied = apr_json_find(w->text, inner);
    if (inner != key && tied.n > 0 && !apr_bytes_is(tied, now) && (top.n == 0 || w->t->head))
        APR_TRY(apr_json_put(w->arena, &w->text, inner, apr_text(now), w->e));
    if (top.n > 0 && !apr_bytes_is(top, now))
        return apr_json_put(w->arena, &w->text, key, apr_text(now), w->e);
    return APR_OK;
}

static enum apr_code mend_config(struct apr_config_work *w)
{
    const struct apr_family *const f = apr_binding_family(w->t->b);
    for (size_t i = 0; i < f->nkv; i++) {
        struct apr_value v;
        const char *const path = stated_at(w, &f->kv[i]);
        if (path != NULL && f->kv[i].value.origin != APR_OF_CODE && contradicts(w, &f->kv[i], &v))
            APR_TRY(apr_config_put_value(w, path, &v));
    }
    return w->keys.meta.n == 0 ? APR_OK : mend_tie(w);
}

/* ---- tokens and sampling -------------------------------------------------------------------------------------------- */

/* The id of a token by what a GGUF or an APR calls it. */
static bool token_id(const struct apr_config_work *w, const char *name, uint64_t *id)
{
    static const char *const prefix[] = { "tokenizer.ggml.", "tokenizer." };
    for (size_t i = 0; i < APR_LENGTH(prefix); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s_token_id", prefix[i], name);
        if (apr_meta_unsigned(&w->keys.meta, key, id) || apr_meta_unsigned(&w->t->m->meta, key, id))
            return true;
    }
    return false;
}

/* What the contract has set stays. */
static bool has_member(const struct apr_config_work *w, const char *name)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    return apr_bytes_have(w->text, quoted);
}

static enum apr_code put_tokens(struct apr_config_work *w)
{
    static const char *const tokens[][2] = { { "bos", "bos_token_id" }, { "eos", "eos_token_id" }, { "padding", "pad_token_id" } };
    uint64_t id;
    for (size_t i = 0; i < APR_LENGTH(tokens); i++)
        if (!has_member(w, tokens[i][1]) && token_id(w, tokens[i][0], &id))
            APR_TRY(apr_config_put_value(w, tokens[i][1], &(struct apr_value){ .type = APR_META_U64, .u = id }));
    return APR_OK;
}

/* The model may end a turn with a token of its own as well. */
static enum apr_code put_turn_end(struct apr_config_work *w)
{
    uint64_t eos, eot;
    if (!token_id(w, "eos", &eos) || !token_id(w, "eot", &eot) || eos == eot)
        return APR_OK;
    const struct apr_bytes both = apr_arena_format(w->arena, "[%llu, %llu]", (unsigned long long)eos, (unsigned long long)eot);
    return both.at == NULL ? apr_no_memory(w->e) : apr_config_put(w, "eos_token_id", both);
}

/* generation_config.json from nothing; w->text is that file then. */
static enum apr_code make_generation(struct apr_config_work *w)
{
    static const char *const settings[][2] = {
        { "general.sampling.temp", "temperature" }, { "general.sampling.top_k", "top_k" }, { "general.sampling.top_p", "top_p" },
        { "general.sampling.min_p", "min_p" }, { "general.sampling.penalty_repeat", "repetition_penalty" },
    };
    bool sampled = false;
    w->text = apr_text("{\n}");
    w->into = "";
    APR_TRY(put_tokens(w));
    APR_TRY(put_turn_end(w));
    for (size_t i = 0; i < APR_LENGTH(settings); i++) {
        const struct apr_value *const v = apr_draft_find(&w->keys, apr_text(settings[i][0]));
        double number;
        if (v == NULL || !apr_meta_number(v, &number) || !isfinite(number))
            continue;
        if (!sampled)
            APR_TRY(apr_config_put(w, "do_sample", apr_text("true")));
        sampled = true;
        APR_TRY(apr_config_put_value(w, settings[i][1], v));
    }
    return APR_OK;
}

/* ---- what is left over ---------------------------------------------------------------------------------------------- */

static enum apr_code put_string(void *ctx, struct apr_bytes key, struct apr_bytes text, struct apr_error *e)
{
    struct apr_draft *const d = ctx;
    struct apr_value v = { .type = APR_META_STRING, .encoding = APR_JSON, .text = apr_arena_copy(&d->arena, text) };
    return v.text.at == NULL ? apr_no_memory(e) : apr_draft_put(d, key, &v, e);
}

/* A key of the GGUF that comes back from the files, or by itself. */
static bool comes_back(const struct apr_config_work *w, const struct apr_meta_entry *entry, const struct apr_draft *again)
{
    static const char *const own[] = { "general.architecture", "general.file_type", "general.quantization_version", "general.alignment" };
    static const char *const of_folder[] = { "general.name", "general.organization", "general.basename", "general.finetune",
                                             "general.version", "general.size_label" };
    const struct apr_value *const v = apr_draft_find(again, entry->key);
    bool named = false;
    for (size_t i = 0; i < APR_LENGTH(own); i++)
        if (apr_bytes_is(entry->key, own[i]))
            return true;
    for (size_t i = 0; i < APR_LENGTH(of_folder); i++)
        named = named || apr_bytes_is(entry->key, of_folder[i]);
    named = named && apr_draft_find(&w->keys, apr_text("hf.config.json")) != NULL; /* it was made of a folder */
    return named || apr_bytes_begin(entry->key, apr_text("tokenizer.")) || apr_bytes_begin(entry->key, apr_text(APR_HF_PREFIX)) ||
           (v != NULL && apr_value_equal(v, &entry->value));
}

/* "gguf.kv" for a folder: what its files do not tell. The keys that they do are found by going back. */
static enum apr_code put_rest(struct apr_config_work *w, struct apr_draft *meta, const struct apr_side *files)
{
    struct apr_translation back = *w->t;
    struct apr_hf_config *config = NULL;
    struct apr_draft again = { 0 }, rest = { 0 };
    struct apr_config_alone like = { 0 };
    struct apr_bytes json = { 0 };
    const struct apr_bytes text = apr_side_get(files, "config.json");
    enum apr_code code = text.at == NULL ? APR_OK : apr_hf_config_new(&config, text, w->e);
    back.side = files;
    back.config = config;
    back.name = (struct apr_bytes){ 0 }; /* the folder may be called otherwise */
    if (code == APR_OK && config != NULL && w->t->b != NULL)
        code = like_begin(&like, w->t, text, w->e);
    if (like.b != NULL && apr_family_keys(&again, &back, like.b, w->e) == APR_ENOMEM) /* what is found until it fails, comes back */
        code = APR_ENOMEM;
    for (size_t i = 0; code == APR_OK && i < w->keys.meta.n; i++)
        if (!comes_back(w, &w->keys.meta.entry[i], &again))
            code = apr_draft_put(&rest, w->keys.meta.entry[i].key, &w->keys.meta.entry[i].value, w->e);
    if (code == APR_OK && rest.meta.n > 0)
        code = apr_gguf_kv_write(&meta->arena, &rest.meta, false, &json, w->e);
    if (code == APR_OK && json.n > 0)
        code = put_string(meta, apr_text(APR_KV_KEY), json, w->e);
    like_end(&like);
    apr_draft_end(&again);
    apr_draft_end(&rest);
    apr_hf_config_free(config);
    return code;
}

static enum apr_code put_all_keys(struct apr_config_work *w, struct apr_draft *meta)
{
    struct apr_bytes json;
    if (w->keys.meta.n == 0)
        return APR_OK;
    APR_TRY(apr_gguf_kv_write(&meta->arena, &w->keys.meta, false, &json, w->e));
    return put_string(meta, apr_text(APR_KV_KEY), json, w->e);
}

/* "apr.metadata" for a single file: all that the APR says, unless that is what any file of these tensors would say. */
static enum apr_code put_flat(struct apr_config_work *w, struct apr_draft *meta)
{
    struct apr_bytes json;
    APR_TRY(apr_flat_whole(&meta->arena, w->t, &json, w->e));
    return json.n == 0 ? APR_OK : put_string(meta, apr_text(APR_FLAT_KEY), json, w->e);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

/* The files that the source carries, as they are. */
static enum apr_code put_carried(struct apr_config_work *w, struct apr_side *files)
{
    for (size_t i = 0; w->t->side != NULL && i < w->t->side->n; i++)
        APR_TRY(apr_side_put(files, (const char *)w->t->side->file[i].name.at, w->t->side->file[i].text, w->e));
    for (size_t i = 0; apr_carried_files[i] != NULL; i++) {
        char key[96];
        snprintf(key, sizeof key, APR_HF_PREFIX "%s", apr_carried_files[i]);
        const struct apr_value *const v = apr_draft_find(&w->keys, apr_text(key));
        if (v == NULL || v->type != APR_META_STRING)
            continue;
        const struct apr_bytes own = apr_arena_copy(w->arena, v->text);
        if (own.at == NULL)
            return apr_no_memory(w->e);
        APR_TRY(apr_side_put(files, apr_carried_files[i], own, w->e));
    }
    return APR_OK;
}

static enum apr_code put_config(struct apr_config_work *w, struct apr_side *files)
{
    w->text = apr_side_get(files, "config.json");
    const bool carried = w->text.at != NULL;
    bool own = false;
    if (w->t->b == NULL && !carried)
        return APR_OK;
    if (carried)
        APR_TRY(ask_family(w, w->text, &own));
    if (own) {
        enum apr_code code = like_begin(&w->like, w->t, w->text, w->e);
        if (code == APR_OK)
            code = mend_config(w);
        like_end(&w->like);
        APR_TRY(code);
    } else if (!carried) {
        APR_TRY(apr_config_make(w));
        APR_TRY(put_tokens(w));
    }
    if (carried && (w->t->typed || w->keys.meta.n > 0))
        APR_TRY(mend_dtype(w));
    return apr_side_put(files, "config.json", w->text, w->e);
}

static enum apr_code put_generation(struct apr_config_work *w, struct apr_side *files)
{
    if (w->t->b == NULL || apr_side_get(files, "generation_config.json").at != NULL)
        return APR_OK;
    APR_TRY(make_generation(w));
    return apr_bytes_is(w->text, "{\n}") ? APR_OK : apr_side_put(files, "generation_config.json", w->text, w->e);
}

static enum apr_code put_metadata(struct apr_config_work *w, struct apr_draft *meta)
{
    const struct apr_value *const flat = apr_draft_find(&w->keys, apr_text(APR_HF_PREFIX APR_FLAT_KEY));
    APR_TRY(apr_each_metadata(w->t, put_string, meta, w->e));
    if (flat != NULL && flat->type == APR_META_STRING)
        APR_TRY(put_string(meta, apr_text(APR_FLAT_KEY), flat->text, w->e));
    return meta->meta.n > (flat != NULL) ? APR_OK : put_string(meta, apr_text("format"), apr_text("pt"), w->e);
}

static enum apr_code to_hf(struct apr_config_work *w, struct apr_draft *meta, struct apr_side *files)
{
    const bool apr = !w->t->m->format->own_names;
    struct apr_bytes rest;
    APR_TRY(apr_gguf_keys(&w->keys, w->t, w->e));
    APR_TRY(put_metadata(w, meta));
    if (files == NULL) {
        if (apr)
            APR_TRY(put_flat(w, meta));
        return put_all_keys(w, meta);
    }
    APR_TRY(put_carried(w, files));
    APR_TRY(put_config(w, files));
    if (w->keys.meta.n > 0 || apr_side_get(files, "generation_config.json").at == NULL)
        APR_TRY(put_generation(w, files));
    if (apr) {
        APR_TRY(apr_flat_rest(&meta->arena, w->t, &rest, w->e));
        if (rest.n > 0)
            APR_TRY(put_string(meta, apr_text(APR_FLAT_KEY), rest, w->e));
    }
    bool own = true;
    const struct apr_bytes config = apr_side_get(files, "config.json");
    if (config.at != NULL)
        APR_TRY(ask_family(w, config, &own));
    return w->keys.meta.n == 0 || !own ? APR_OK : put_rest(w, meta, files);
}

/* From SafeTensors: what it has. */
static enum apr_code same_kind(struct apr_config_work *w, struct apr_draft *meta, struct apr_side *files)
{
    for (size_t i = 0; i < w->t->m->meta.n; i++)
        APR_TRY(apr_draft_put(meta, w->t->m->meta.entry[i].key, &w->t->m->meta.entry[i].value, w->e));
    if (files == NULL)
        return APR_OK;
    APR_TRY(put_carried(w, files));
    w->text = apr_side_get(files, "config.json");
    if (w->text.at == NULL || !w->t->typed)
        return APR_OK;
    APR_TRY(mend_dtype(w));
    return apr_side_put(files, "config.json", w->text, w->e);
}

enum apr_code apr_translate_to_hf(struct apr_draft *meta, struct apr_side *files, const struct apr_translation *t, struct apr_error *e)
{
    struct apr_config_work w = { .t = t, .arena = files != NULL ? &files->arena : &meta->arena, .e = e };
    const enum apr_code code = t->m->format->config ? same_kind(&w, meta, files) : to_hf(&w, meta, files);
    apr_draft_end(&w.keys);
    return code;
}
