/* A config.json from nothing, and what goes into any. */
#include "family/translate_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "base/memstream.h"
#include "family/list_value.h"
#include "family/llama3.h"
#include "family/spell.h"
#include "model/json_edit.h"
#include "model/meta.h"

/* ---- members -------------------------------------------------------------------------------------------------------- */

/* Where config.json has that path: within text_config, or at the top. */
const char *apr_config_inner(struct apr_config_work *w, const char *path, char room[300])
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

enum apr_code apr_config_put(struct apr_config_work *w, const char *path, struct apr_bytes json)
{
    char room[300];
    return apr_json_put(w->arena, &w->text, apr_config_inner(w, path, room), json, w->e);
}

static enum apr_code put_text(struct apr_config_work *w, const char *path, struct apr_bytes text)
{
    struct apr_bytes json;
    APR_TRY(apr_spell_string(w->arena, text, &json, w->e));
    return apr_config_put(w, path, json);
}

enum apr_code apr_config_put_value(struct apr_config_work *w, const char *path, const struct apr_value *v)
{
    struct apr_bytes json;
    APR_TRY(apr_spell_value(w->arena, v, &json, w->e));
    return apr_config_put(w, path, json);
}

/* A dim's value: whole unless the contract says that it is not, or it is none. What was worked out of floats of 32 bits is not good for
 * more than six digits. */
static enum apr_code put_dim(struct apr_config_work *w, const char *path, const struct apr_result *r, bool real)
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
    return apr_config_put_value(w, path, &v);
}

/* ---- what only code can work out ------------------------------------------------------------------------------------ */

const char *apr_config_dtype(const struct apr_dtype *d)
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

/* The scaling that gives these factors. */
static enum apr_code put_llama3(struct apr_config_work *w, const char *path)
{
    const struct apr_translation *const t = w->t;
    char factor[APR_SPELL_ROOM], high[APR_SPELL_ROOM];
    struct apr_llama3 s = { .dims = 2 * (double)t->nrope_freqs };
    double context;
    if (t->rope_freqs == NULL || t->nrope_freqs == 0)
        return APR_OK;
    if (!apr_binding_number(t->b, apr_text("theta"), &s.theta))
        s.theta = 10000;
    if (!apr_binding_number(t->b, apr_text("C"), &context))
        context = 0;
    if (!apr_llama3_find(&s, t->rope_freqs, t->nrope_freqs, context))
        return apr_fail(w->e, APR_EARG, APR_NOWHERE, "tensor \"rope_freqs.weight\": no factor, low, high and original context of a llama3 "
                                                     "scaling give its factors, so that no config.json can say them");
    const struct apr_bytes json = apr_arena_format(w->arena, "{\"factor\": %s, \"high_freq_factor\": %s, \"low_freq_factor\": 1.0, "
                                                   "\"original_max_position_embeddings\": %.0f, \"rope_type\": \"llama3\"}",
                                                   apr_spell_f32(s.factor, factor), apr_spell_f32(s.high, high), s.original);
    return json.at == NULL ? apr_no_memory(w->e) : apr_config_put(w, path, json);
}

static enum apr_code put_computed(struct apr_config_work *w, const char *path, enum apr_computed code)
{
    const char *const name = apr_config_dtype(w->t->main);
    if (code == APR_MAIN_DTYPE)
        return name == NULL ? APR_OK : put_text(w, path, apr_text(name));
    if (code == APR_NO_OUTPUT_WEIGHT)
        return apr_config_put(w, path, apr_text(w->t->head ? "false" : "true"));
    return code == APR_LLAMA3_FROM_ROPE_FREQS ? put_llama3(w, path) : APR_OK;
}

/* The values of a tensor that a converter made of a list in config.json. */
static enum apr_code put_list(struct apr_config_work *w, const struct apr_role *role)
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
    return t->count == 0 ? APR_OK : apr_config_put(w, (const char *)role->list.word[0].at, json);
}

/* Which layers slide, and which labels there are, in their own form; n == 0: nothing of either. */
static enum apr_code spell_array(struct apr_config_work *w, const struct apr_value *v, bool labels, struct apr_bytes *json)
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
static enum apr_code put_array(struct apr_config_work *w, const struct apr_kv *k, const struct apr_value *v)
{
    const bool labels = k->value.origin == APR_OF_CODE && k->value.code == APR_OUTPUT_LABELS;
    struct apr_bytes json;
    if (k->value.origin == APR_OF_CODE && !labels && k->value.code != APR_SLIDING_LAYERS)
        return APR_OK;
    if (k->value.origin == APR_OF_CODE)
        APR_TRY(spell_array(w, v, labels, &json));
    else
        APR_TRY(apr_list_spell(w->arena, v, &json, w->e));
    return json.n == 0 ? APR_OK : apr_config_put(w, labels ? "id2label" : (const char *)k->hf.at, json);
}

/* ---- a config.json from nothing ------------------------------------------------------------------------------------- */

static enum apr_code make_entry(struct apr_config_work *w, const struct apr_kv *k)
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
    return r.known && apr_value_of_type(&r, k->type, &v) ? apr_config_put_value(w, (const char *)k->hf.at, &v) : APR_OK;
}

static enum apr_code make_setting(struct apr_config_work *w, const struct apr_setting *s)
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
        return apr_config_put(w, path, json);
    case APR_OF_CODE:     return put_computed(w, path, s->value.code);
    case APR_OF_CONSTANT: return apr_config_put_value(w, path, &s->value.constant);
    case APR_OF_TOKEN:
    case APR_OF_ROLE:
    case APR_OF_CONFIG:   return APR_OK;
    case APR_OF_EXPR:
        if (apr_expr_is_name(s->value.expr, &name))
            dim = apr_family_dim(apr_binding_family(w->t->b), name);
        r = apr_binding_formula(w->t->b, &s->value);
        if (s->type == APR_META_BOOL && r.known && r.text.at == NULL)
            return apr_config_put(w, path, apr_text(r.number != 0 ? "true" : "false"));
        return put_dim(w, path, &r, s->type == APR_META_F64 || (dim != NULL && dim->real));
    case APR_OF_LIST:
        for (size_t i = 0; i < s->value.word.n; i++) {
            APR_TRY(apr_spell_string(w->arena, s->value.word.word[i], &word, w->e));
            json = apr_arena_format(w->arena, "%.*s%s%.*s", APR_PRINTED(json), i == 0 ? "" : ", ", APR_PRINTED(word));
        }
        json = apr_arena_format(w->arena, "%.*s]", APR_PRINTED(json));
        return json.at == NULL ? apr_no_memory(w->e) : apr_config_put(w, path, json);
    }
    return APR_OK;
}

enum apr_code apr_config_make(struct apr_config_work *w)
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
