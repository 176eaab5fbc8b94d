/* Towards a checkpoint. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "base/fmath.h"
#include "base/memstream.h"
#include "family/general.h"
#include "family/gguf_kv.h"
#include "family/list_value.h"
#include "family/spell.h"
#include "family/translate_parts.h"
#include "files/source.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/json_edit.h"
#include "model/meta.h"
#include "model/model.h"

/* A model as a config.json alone describes it. */
struct like {
    struct apr_model    model;
    struct apr_source   config;
    struct apr_binding *b;
};

/* A config.json being made.
 *   keys    those of the GGUF that the source is or was; empty when it is none
 *   text    config.json, beginning with the one that the source carries
 *   into    before each path of a config.json that is being made; NULL: one that is there has them where it has them
 *   like    the carried config alone
 *   arena   of all texts; it becomes the files' */
struct work {
    const struct apr_translation *t;
    struct apr_draft              keys;
    struct apr_bytes              text;
    const char                   *into;
    struct like                   like;
    struct apr_arena            **arena;
    struct apr_error             *e;
};

/* ---- members -------------------------------------------------------------------------------------------------------- */

/* Where config.json has that path: within text_config, or at the top. */
static const char *inner_path(struct work *w, const char *path, char room[300])
{
    static const char *const inner[] = { "text_config", "llm_config", "lm_config", "language_config" };
    if (w->into != NULL) {
        snprintf(room, 300, "%s%s", w->into, path);
        return room;
    }
    for (size_t i = 0; i < APR_LENGTH(inner); i++) {
        snprintf(room, 300, "%s.%s", inner[i], path);
        if (apr_json_find(w->text, room).n > 0)
            return room;
    }
    return path;
}

static enum apr_code put(struct work *w, const char *path, struct apr_bytes json)
{
    char room[300];
    return apr_json_put(w->arena, &w->text, inner_path(w, path, room), json, w->e);
}

static enum apr_code put_text(struct work *w, const char *path, struct apr_bytes text)
{
    struct apr_bytes json;
    APR_TRY(apr_spell_string(w->arena, text, &json, w->e));
    return put(w, path, json);
}

static enum apr_code put_value(struct work *w, const char *path, const struct apr_value *v)
{
    struct apr_bytes json;
    APR_TRY(apr_spell_value(w->arena, v, &json, w->e));
    return put(w, path, json);
}

/* A dim's value: whole unless the contract says that it is not, or it is none. What was worked out of floats of 32 bits is not good for
 * more than six digits. */
static enum apr_code put_dim(struct work *w, const char *path, const struct apr_result *r, bool real)
{
    struct apr_value v;
    char digits[APR_SPELL_ROOM];
    if (!r->known)
        return APR_OK;
    if (r->text.at != NULL)
        return put_text(w, path, r->text);
    if (!apr_value_of_type(r, !real && r->number == floor(r->number) ? APR_META_I32 : APR_META_F32, &v))
        return APR_OK;
    if (v.type == APR_META_F32 && v.f != r->number && snprintf(digits, sizeof digits, "%.6g", r->number) > 0)
        v.f = strtod(digits, NULL);
    return put_value(w, path, &v);
}

/* ---- what only code can work out ------------------------------------------------------------------------------------ */

static const char *dtype_name(const struct apr_dtype *d)
{
    if (d == NULL)
        return NULL;
    switch (d - apr_dtypes) {
    case APR_F16:  return "float16";
    case APR_BF16: return "bfloat16";
    case APR_F32:  return "float32";
    case APR_F64:  return "float64";
    default:       return NULL;
    }
}

/* The wave length of pair i of a rotary embedding. */
static double wave(double base, double dims, size_t i)
{
    return 6.283185307179586 * apr_exp(2 * (double)i / dims * apr_log(base));
}

/* The scaling that gives these factors: 1 for short waves, `factor` for long ones, in between by how long they are (families.md 3), with
 * the usual 1 and 4 as bounds. A middle one tells the context; without any it is the usual 8192. */
static enum apr_code put_llama3(struct work *w, const char *path)
{
    const float *const f = w->t->rope_freqs;
    double factor = 1, context = 8192, base = 10000;
    if (f == NULL || w->t->nrope_freqs == 0)
        return APR_OK;
    for (size_t i = 0; i < w->t->nrope_freqs; i++)
        factor = (double)f[i] > factor ? (double)f[i] : factor;
    if (!apr_binding_number(w->t->b, apr_text("theta"), &base) || !(base > 0) || !isfinite(factor))
        return APR_OK;
    for (size_t i = 0; i < w->t->nrope_freqs; i++)
        if ((double)f[i] > 1 && (double)f[i] < factor) {
            const double s = (1 / (double)f[i] - 1 / factor) / (1 - 1 / factor);
            context = floor(wave(base, 2 * (double)w->t->nrope_freqs, i) * (3 * s + 1) + 0.5);
            break;
        }
    char text[APR_SPELL_ROOM];
    const struct apr_bytes json = apr_arena_format(w->arena, "{\"factor\": %s, \"high_freq_factor\": 4.0, \"low_freq_factor\": 1.0, "
                                                   "\"original_max_position_embeddings\": %.0f, \"rope_type\": \"llama3\"}",
                                                   apr_spell_f32(factor, text), context < 1e15 ? context : 8192);
    return json.at == NULL ? apr_no_memory(w->e) : put(w, path, json);
}

static enum apr_code put_computed(struct work *w, const char *path, enum apr_computed code)
{
    const char *const name = dtype_name(w->t->main);
    if (code == APR_MAIN_DTYPE)
        return name == NULL ? APR_OK : put_text(w, path, apr_text(name));
    if (code == APR_NO_OUTPUT_WEIGHT)
        return put(w, path, apr_text(w->t->head ? "false" : "true"));
    return code == APR_LLAMA3_FROM_ROPE_FREQS ? put_llama3(w, path) : APR_OK;
}

/* The values of a tensor that a converter made of a list in config.json. */
static enum apr_code put_list(struct work *w, const struct apr_role *role)
{
    const struct apr_tensor *const t = apr_model_find(w->t->m, role->known[APR_GGUF].n > 0 ? role->known[APR_GGUF].word[0] : role->name);
    if (role->generated != APR_CONFIG_LIST || role->list.n == 0 || t == NULL || t->dtype != &apr_dtypes[APR_F32] || t->count > 65536)
        return APR_OK;
    struct apr_cursor c = { .of = t->data, .big = t->swapped };
    char *text = NULL, number[APR_SPELL_ROOM];
    size_t n = 0;
    struct apr_bytes json;
    FILE *const to = apr_memstream(&text, &n);
    if (to == NULL)
        return apr_no_memory(w->e);
    for (uint64_t i = 0; i < t->count; i++) {
        float f;
        memcpy(&f, &(uint32_t){ apr_u32(&c) }, sizeof f);
        fprintf(to, "%s%s", i == 0 ? "[" : ", ", isfinite(f) ? apr_spell_f32((double)f, number) : "null");
    }
    putc(']', to);
    APR_TRY(apr_spelled(w->arena, to, &text, &n, &json, w->e));
    return t->count == 0 ? APR_OK : put(w, (const char *)role->list.word[0].at, json);
}

/* Which layers slide, and which labels there are, in their own form; n == 0: nothing of either. */
static enum apr_code spell_array(struct work *w, const struct apr_value *v, bool labels, struct apr_bytes *json)
{
    char *text = NULL;
    size_t n = 0, i = 0;
    FILE *const to = apr_memstream(&text, &n);
    if (to == NULL)
        return apr_no_memory(w->e);
    struct apr_elements walk = apr_elements_of(v);
    struct apr_value element;
    enum apr_code code = APR_OK;
    while (code == APR_OK && apr_elements_next(&walk, &element)) {
        *json = apr_text(element.b ? "\"sliding_attention\"" : "\"full_attention\"");
        if (labels)
            code = apr_spell_string(w->arena, element.text, json, w->e);
        fprintf(to, i == 0 ? labels ? "{" : "[" : ", ");
        if (labels)
            fprintf(to, "\"%zu\": ", i);
        fprintf(to, "%.*s", APR_PRINTED(*json));
        i++;
    }
    code = apr_elements_done(&walk, code, w->e);
    fprintf(to, labels ? "}" : "]");
    const enum apr_code spelled = apr_spelled(w->arena, to, &text, &n, json, w->e);
    if (i == 0)
        *json = (struct apr_bytes){ 0 };
    return code != APR_OK ? code : spelled;
}

/* What stands in the GGUF as an array. */
static enum apr_code put_array(struct work *w, const struct apr_kv *k, const struct apr_value *v)
{
    const bool labels = k->value.origin == APR_OF_CODE && k->value.code == APR_OUTPUT_LABELS;
    struct apr_bytes json;
    if (k->value.origin == APR_OF_CODE && !labels && k->value.code != APR_SLIDING_LAYERS)
        return APR_OK;
    if (k->value.origin == APR_OF_CODE)
        APR_TRY(spell_array(w, v, labels, &json));
    else
        APR_TRY(apr_list_spell(w->arena, v, &json, w->e));
    return json.n == 0 ? APR_OK : put(w, labels ? "id2label" : (const char *)k->hf.at, json);
}

/* ---- a config.json from nothing ------------------------------------------------------------------------------------- */

static enum apr_code make_entry(struct work *w, const struct apr_kv *k)
{
    char key[256];
    struct apr_value v;
    const struct apr_value *const own = apr_kv_key(w->t->b, k, key) ? apr_draft_find(&w->keys, apr_text(key)) : NULL;
    const bool labels = k->value.origin == APR_OF_CODE && k->value.code == APR_OUTPUT_LABELS;
    if (own != NULL && own->type == APR_META_ARRAY && (labels || k->hf.n > 0))
        return put_array(w, k, own);
    if (k->hf.n == 0 || k->value.origin == APR_OF_CODE)
        return APR_OK;
    const struct apr_result r = apr_binding_value(w->t->b, k, false);
    return r.known && apr_value_of_type(&r, k->type, &v) ? put_value(w, (const char *)k->hf.at, &v) : APR_OK;
}

static enum apr_code make_setting(struct work *w, const struct apr_setting *s)
{
    const char *const path = (const char *)s->key.at;
    struct apr_bytes json = apr_text("["), word, name;
    const struct apr_dim *dim = NULL;
    struct apr_result r;
    struct apr_value v;
    switch (s->value.origin) {
    case APR_OF_EACH:
        APR_TRY(apr_list_value(w->arena, w->t->b, &s->value, s->type, path, &v, w->e));
        if (v.type != APR_META_ARRAY)
            return APR_OK;
        APR_TRY(apr_list_spell(w->arena, &v, &json, w->e));
        return put(w, path, json);
    case APR_OF_CODE:     return put_computed(w, path, s->value.code);
    case APR_OF_CONSTANT: return put_value(w, path, &s->value.constant);
    case APR_OF_TOKEN:
    case APR_OF_ROLE:
    case APR_OF_CONFIG:   return APR_OK;
    case APR_OF_EXPR:
        if (apr_expr_is_name(s->value.expr, &name))
            dim = apr_family_dim(apr_binding_family(w->t->b), name);
        r = apr_binding_formula(w->t->b, &s->value);
        if (s->type == APR_META_BOOL && r.known && r.text.at == NULL)
            return put(w, path, apr_text(r.number != 0 ? "true" : "false"));
        return put_dim(w, path, &r, s->type == APR_META_F64 || (dim != NULL && dim->real));
    case APR_OF_LIST:
        for (size_t i = 0; i < s->value.word.n; i++) {
            APR_TRY(apr_spell_string(w->arena, s->value.word.word[i], &word, w->e));
            json = apr_arena_format(w->arena, "%.*s%s%.*s", APR_PRINTED(json), i == 0 ? "" : ", ", APR_PRINTED(word));
        }
        json = apr_arena_format(w->arena, "%.*s]", APR_PRINTED(json));
        return json.at == NULL ? apr_no_memory(w->e) : put(w, path, json);
    }
    return APR_OK;
}

static enum apr_code make_config(struct work *w)
{
    const struct apr_family *const f = apr_binding_family(w->t->b);
    w->text = apr_text("{\n}");
    w->into = "";
    for (size_t i = 0; i < f->nhf_config; i++)
        for (size_t k = 0; k < f->hf_config[i].n && apr_binding_holds(w->t->b, f->hf_config[i].when); k++)
            APR_TRY(make_setting(w, &f->hf_config[i].set[k]));
    if (apr_json_find(w->text, "text_config").n > 0)
        w->into = "text_config.";
    for (size_t i = 0; i < f->nkv; i++)
        APR_TRY(make_entry(w, &f->kv[i]));
    for (size_t i = 0; i < f->nrole; i++)
        APR_TRY(put_list(w, &f->role[i]));
    return APR_OK;
}

/* ---- one that is there ---------------------------------------------------------------------------------------------- */

/* Binds the family to a config.json alone, beside the model's tensors. End with like_end. */
static enum apr_code like_begin(struct like *l, const struct apr_translation *t, struct apr_bytes config, struct apr_error *e)
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

static enum apr_code ask_family(const struct work *w, struct apr_bytes config, bool *yes)
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

static void like_end(struct like *l)
{
    apr_binding_free(l->b);
    l->b = NULL;
}

/* Where a config.json states an entry as it is: a path of its own, not of what it is worked out from. */
static const char *stated_at(const struct work *w, const struct apr_kv *k)
{
    const struct apr_bytes key = apr_binding_states(w->like.b, k).key;
    const bool own = key.n > 0 && (apr_words_hold(&k->value.word, key) || (k->fills != NULL && apr_words_hold(&k->fills->key, key)));
    return own ? (const char *)key.at : k->hf.n > 0 ? (const char *)k->hf.at : NULL;
}

/* What the source's own keys say of an entry, otherwise than config.json does. */
static bool contradicts(const struct work *w, const struct apr_kv *k, struct apr_value *v)
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
static enum apr_code mend_dtype(struct work *w)
{
    static const char *const path[] = { "dtype", "torch_dtype", "text_config.dtype", "text_config.torch_dtype" };
    const char *const name = dtype_name(w->t->main);
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
static enum apr_code mend_tie(struct work *w)
{
    static const char key[] = "tie_word_embeddings";
    char room[300];
    const char *const inner = inner_path(w, key, room), *const now = w->t->head ? "false" : "true";
    const struct apr_bytes top = apr_json_find(w->text, key), tied = apr_json_find(w->text, inner);
    if (inner != key && tied.n > 0 && !apr_bytes_is(tied, now) && (top.n == 0 || w->t->head))
        APR_TRY(apr_json_put(w->arena, &w->text, inner, apr_text(now), w->e));
    if (top.n > 0 && !apr_bytes_is(top, now))
        return apr_json_put(w->arena, &w->text, key, apr_text(now), w->e);
    return APR_OK;
}

static enum apr_code mend_config(struct work *w)
{
    const struct apr_family *const f = apr_binding_family(w->t->b);
    for (size_t i = 0; i < f->nkv; i++) {
        struct apr_value v;
        const char *const path = stated_at(w, &f->kv[i]);
        if (path != NULL && f->kv[i].value.origin != APR_OF_CODE && contradicts(w, &f->kv[i], &v))
            APR_TRY(put_value(w, path, &v));
    }
    return w->keys.meta.n == 0 ? APR_OK : mend_tie(w);
}

/* ---- tokens and sampling -------------------------------------------------------------------------------------------- */

/* The id of a token by what a GGUF or an APR calls it. */
static bool token_id(const struct work *w, const char *name, uint64_t *id)
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
static bool has_member(const struct work *w, const char *name)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    return apr_bytes_have(w->text, quoted);
}

static enum apr_code put_tokens(struct work *w)
{
    static const char *const tokens[][2] = { { "bos", "bos_token_id" }, { "eos", "eos_token_id" }, { "padding", "pad_token_id" } };
    uint64_t id;
    for (size_t i = 0; i < APR_LENGTH(tokens); i++)
        if (!has_member(w, tokens[i][1]) && token_id(w, tokens[i][0], &id))
            APR_TRY(put_value(w, tokens[i][1], &(struct apr_value){ .type = APR_META_U64, .u = id }));
    return APR_OK;
}

/* The model may end a turn with a token of its own as well. */
static enum apr_code put_turn_end(struct work *w)
{
    uint64_t eos, eot;
    if (!token_id(w, "eos", &eos) || !token_id(w, "eot", &eot) || eos == eot)
        return APR_OK;
    const struct apr_bytes both = apr_arena_format(w->arena, "[%llu, %llu]", (unsigned long long)eos, (unsigned long long)eot);
    return both.at == NULL ? apr_no_memory(w->e) : put(w, "eos_token_id", both);
}

/* generation_config.json from nothing; w->text is that file then. */
static enum apr_code make_generation(struct work *w)
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
            APR_TRY(put(w, "do_sample", apr_text("true")));
        sampled = true;
        APR_TRY(put_value(w, settings[i][1], v));
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

static bool begins(struct apr_bytes s, const char *with)
{
    return s.n >= strlen(with) && memcmp(s.at, with, strlen(with)) == 0;
}

/* A key of the GGUF that comes back from the files, or by itself. */
static bool comes_back(const struct work *w, const struct apr_meta_entry *entry, const struct apr_draft *again)
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
    return named || begins(entry->key, "tokenizer.") || begins(entry->key, APR_HF_PREFIX) ||
           (v != NULL && apr_value_equal(v, &entry->value));
}

/* "gguf.kv" for a folder: what its files do not tell. The keys that they do are found by going back. */
static enum apr_code put_rest(struct work *w, struct apr_draft *meta, const struct apr_side *files)
{
    struct apr_translation back = *w->t;
    struct apr_hf_config *config = NULL;
    struct apr_draft again = { 0 }, rest = { 0 };
    struct like like = { 0 };
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

static enum apr_code put_all_keys(struct work *w, struct apr_draft *meta)
{
    struct apr_bytes json;
    if (w->keys.meta.n == 0)
        return APR_OK;
    APR_TRY(apr_gguf_kv_write(&meta->arena, &w->keys.meta, false, &json, w->e));
    return put_string(meta, apr_text(APR_KV_KEY), json, w->e);
}

/* "apr.metadata" for a single file: all that the APR says, unless that is what any file of these tensors would say. */
static enum apr_code put_flat(struct work *w, struct apr_draft *meta)
{
    struct apr_bytes json;
    APR_TRY(apr_flat_whole(&meta->arena, w->t, &json, w->e));
    return json.n == 0 ? APR_OK : put_string(meta, apr_text(APR_FLAT_KEY), json, w->e);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

/* The files that the source carries, as they are. */
static enum apr_code put_carried(struct work *w, struct apr_side *files)
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

static enum apr_code put_config(struct work *w, struct apr_side *files)
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
        APR_TRY(make_config(w));
        APR_TRY(put_tokens(w));
    }
    if (carried && (w->t->typed || w->keys.meta.n > 0))
        APR_TRY(mend_dtype(w));
    return apr_side_put(files, "config.json", w->text, w->e);
}

static enum apr_code put_generation(struct work *w, struct apr_side *files)
{
    if (w->t->b == NULL || apr_side_get(files, "generation_config.json").at != NULL)
        return APR_OK;
    APR_TRY(make_generation(w));
    return apr_bytes_is(w->text, "{\n}") ? APR_OK : apr_side_put(files, "generation_config.json", w->text, w->e);
}

static enum apr_code put_metadata(struct work *w, struct apr_draft *meta)
{
    const struct apr_value *const flat = apr_draft_find(&w->keys, apr_text(APR_HF_PREFIX APR_FLAT_KEY));
    APR_TRY(apr_each_metadata(w->t, put_string, meta, w->e));
    if (flat != NULL && flat->type == APR_META_STRING)
        APR_TRY(put_string(meta, apr_text(APR_FLAT_KEY), flat->text, w->e));
    return meta->meta.n > (flat != NULL) ? APR_OK : put_string(meta, apr_text("format"), apr_text("pt"), w->e);
}

static enum apr_code to_hf(struct work *w, struct apr_draft *meta, struct apr_side *files)
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
static enum apr_code same_kind(struct work *w, struct apr_draft *meta, struct apr_side *files)
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
    struct work w = { .t = t, .arena = files != NULL ? &files->arena : &meta->arena, .e = e };
    const enum apr_code code = t->m->format->config ? same_kind(&w, meta, files) : to_hf(&w, meta, files);
    apr_draft_end(&w.keys);
    return code;
}
