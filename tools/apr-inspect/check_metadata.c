/* Stage 4: keys that must be there, of the type that readers want, with values that can be meant. */
#include "check.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "model/format.h"
#include "model/meta.h"

/* What is known of a key whatever the family; the contract says which keys a family has.
 *   type      as llama.cpp reads it
 *   low, high the values that can be meant
 *   required  by llama.cpp, of the families that have it
 *   per_layer an array with a value for each layer will do too */
struct rule {
    const char *suffix, *type;
    double      low, high;
    bool        required, per_layer;
};

#define ANY      (-DBL_MAX), DBL_MAX
#define COUNT    1, 4294967295.0
#define POSITIVE FLT_TRUE_MIN, FLT_MAX

#define SAY(x, severity, code, ...) add_finding(&(x)->findings, severity, STAGE_METADATA, code, no_tensor, e, __VA_ARGS__)

static const struct rule rules[] = {
    { ".block_count", "u32", 1, 512, true, false },
    { ".context_length", "u32", COUNT, true, false },
    { ".embedding_length", "u32", COUNT, true, false },
    { ".feed_forward_length", "u32", 0, 4294967295.0, false, true },
    { ".attention.head_count", "u32", COUNT, true, true },
    { ".attention.head_count_kv", "u32", COUNT, false, true },
    { ".attention.layer_norm_rms_epsilon", "f32", FLT_TRUE_MIN, 1, true, false },
    { ".attention.layer_norm_epsilon", "f32", FLT_TRUE_MIN, 1, true, false },
    { ".attention.key_length", "u32", COUNT, false, false },
    { ".attention.value_length", "u32", COUNT, false, false },
    { ".rope.freq_base", "f32", POSITIVE, false, false },
    { ".rope.scaling.factor", "f32", POSITIVE, false, false },
    { ".rope.dimension_count", "u32", ANY, false, false },
    { ".vocab_size", "u32", COUNT, false, false },
    { ".expert_count", "u32", 0, 4096, false, false },
    { ".expert_used_count", "u32", 0, 4096, false, false },
};

static const struct rule *find_rule(struct apr_bytes suffix)
{
    for (size_t i = 0; i < APR_LENGTH(rules); i++)
        if (apr_bytes_equal(suffix, apr_text(rules[i].suffix)))
            return &rules[i];
    return NULL;
}

/* ---- one value ------------------------------------------------------------------------------------------------------ */

static bool is_integer(enum apr_meta_type t) { return t <= APR_META_I32 || t == APR_META_U64 || t == APR_META_I64; }

/* Its number; false when it is none. */
static bool number_of(const struct apr_value *v, double *n)
{
    switch (v->type) {
    case APR_META_U8: case APR_META_U16: case APR_META_U32: case APR_META_U64:
        *n = (double)v->u;
        return true;
    case APR_META_I8: case APR_META_I16: case APR_META_I32: case APR_META_I64:
        *n = (double)v->i;
        return true;
    case APR_META_F32: case APR_META_F64:
        *n = v->f;
        return true;
    default:
        return false;
    }
}

/* "u32", "f32", "arr_str" against the value. JSON has one kind of integer and of number. */
static bool has_type(const struct apr_value *v, const char *type, bool per_layer)
{
    if (strncmp(type, "arr_", 4) == 0)
        return v->type == APR_META_ARRAY && (v->encoding == APR_JSON || strcmp(apr_meta_type_word(v->element), type + 4) == 0);
    if (per_layer && v->type == APR_META_ARRAY)
        return v->encoding == APR_JSON || is_integer(v->element);
    if (v->encoding != APR_JSON)
        return strcmp(apr_meta_type_word(v->type), type) == 0;
    if (strcmp(type, "u32") == 0)
        return is_integer(v->type);
    if (strcmp(type, "f32") == 0)
        return is_integer(v->type) || v->type == APR_META_F64;
    return strcmp(apr_meta_type_word(v->type), type) == 0;
}

static enum apr_code check_range(struct inspection *x, const char *key, double value, const struct rule *r, struct apr_error *e)
{
    char spelled[32];
    if (value >= r->low && value <= r->high)
        return APR_OK;
    const char *text = isnan(value) ? "NaN" : isinf(value) ? "infinite" : apr_spell_real(value, spelled);
    if (r->low <= 0 || r->low == FLT_TRUE_MIN)
        return SAY(x, APR_FAULT, "meta.value", "%s is %s, expected a number %s", key, text,
                   r->low < 0 ? "that is finite" : r->low > 0 ? "above 0" : "from 0 on");
    return SAY(x, APR_FAULT, "meta.value", "%s is %s, expected %.0f to %.0f", key, text, r->low, r->high);
}

/* v is at key. `meant`: the contract's own constant, which is right by itself, or NULL. */
static enum apr_code check_value(struct inspection *x, const char *key, const struct apr_value *v, const char *type, const struct rule *r,
                                 const char *meant, struct apr_error *e)
{
    double value;
    char word[32], constant[32] = "";
    if (!has_type(v, type, r != NULL && r->per_layer)) {
        snprintf(word, sizeof word, v->type == APR_META_ARRAY ? "arr_%s" : "%s",
                 apr_meta_type_word(v->type == APR_META_ARRAY ? v->element : v->type));
        return SAY(x, APR_FAULT, "meta.type", "%s is of type %s, expected %s", key, word, type);
    }
    if (!number_of(v, &value))
        return APR_OK;
    if (meant != NULL && isfinite(value))
        apr_spell_real(value, constant);
    if (meant != NULL && strcmp(constant, meant) == 0)
        return APR_OK;
    const struct rule any = { "", type, ANY, false, false };
    return check_range(x, key, value, r == NULL ? &any : r, e);
}

/* ---- keys of a contract --------------------------------------------------------------------------------------------- */

static enum apr_code check_gguf_key(struct inspection *x, struct apr_bytes architecture, const struct apr_yaml *k, struct apr_error *e)
{
    char key[256];
    const struct apr_bytes name = apr_yaml_get(k, "gguf")->text;
    const bool own = name.n > 3 && memcmp(name.at, "{a}", 3) == 0;
    const struct apr_bytes suffix = own ? (struct apr_bytes){ name.at + 3, name.n - 3 } : name;
    const struct rule *r = own ? find_rule(suffix) : NULL;
    const struct apr_yaml *constant = apr_yaml_get(k, "const");
    snprintf(key, sizeof key, "%.*s%.*s", own ? (int)architecture.n : 0, (const char *)architecture.at, (int)suffix.n,
             (const char *)suffix.at);
    const struct apr_value *v = apr_meta_find(&x->m->meta, key);
    const char *type = (const char *)apr_yaml_get(k, "type")->text.at, *meant = constant == NULL ? NULL : (const char *)constant->text.at;
    if (v != NULL)
        return check_value(x, key, v, type, r, meant, e);
    if (r == NULL || !r->required || apr_yaml_get(k, "when") != NULL)
        return APR_OK;
    return SAY(x, APR_FAULT, "meta.missing", "there is no %s, which family %.*s needs", key, (int)x->family->name.n,
               (const char *)x->family->name.at);
}

static enum apr_code check_apr_key(struct inspection *x, const struct apr_yaml *k, struct apr_error *e)
{
    const struct apr_yaml *name = apr_yaml_get(k, "apr");
    const struct apr_bytes gguf = apr_yaml_get(k, "gguf")->text;
    const struct rule *r = gguf.n > 3 ? find_rule((struct apr_bytes){ gguf.at + 3, gguf.n - 3 }) : NULL;
    if (name == NULL)
        return APR_OK;
    const char *key = (const char *)name->text.at;
    const struct apr_value *v = apr_meta_find(&x->m->meta, key);
    if (v != NULL && v->type != APR_META_NULL)
        return check_value(x, key, v, (const char *)apr_yaml_get(k, "type")->text.at, r, NULL, e);
    if (r == NULL || !r->required || apr_yaml_get(k, "when") != NULL)
        return APR_OK;
    return SAY(x, APR_WARNING, "meta.missing", "there is no %s, which family %.*s needs", key, (int)x->family->name.n,
               (const char *)x->family->name.at);
}

/* ---- GGUF ----------------------------------------------------------------------------------------------------------- */

static bool model_number(const struct inspection *x, struct apr_bytes architecture, const char *suffix, uint64_t *n)
{
    char key[256];
    snprintf(key, sizeof key, "%.*s%s", (int)architecture.n, (const char *)architecture.at, suffix);
    return apr_meta_unsigned(&x->m->meta, key, n);
}

/* Numbers that must agree with each other. */
static enum apr_code check_counts(struct inspection *x, struct apr_bytes architecture, struct apr_error *e)
{
    uint64_t heads, kv, experts, used;
    if (model_number(x, architecture, ".attention.head_count", &heads) && model_number(x, architecture, ".attention.head_count_kv", &kv) &&
        kv > 0 && heads % kv != 0)
        APR_TRY(SAY(x, APR_FAULT, "meta.heads", "%llu heads do not share %llu key/value heads evenly", (unsigned long long)heads,
                    (unsigned long long)kv));
    if (model_number(x, architecture, ".expert_count", &experts) && model_number(x, architecture, ".expert_used_count", &used) &&
        used > experts)
        APR_TRY(SAY(x, APR_FAULT, "meta.experts", "%llu experts are used at a time, of %llu there are", (unsigned long long)used,
                    (unsigned long long)experts));
    return APR_OK;
}

static enum apr_code check_gguf(struct inspection *x, struct apr_error *e)
{
    static const struct {
        const char *key, *type;
    } general[] = { { "general.architecture", "str" }, { "general.type", "str" }, { "general.name", "str" }, { "general.file_type", "u32" },
                    { "general.quantization_version", "u32" } };
    struct apr_bytes architecture = apr_meta_string(&x->m->meta, "general.architecture");
    architecture.n = (size_t)apr_min(architecture.n, 64);
    for (size_t i = 0; i < APR_LENGTH(general); i++) {
        const struct apr_value *v = apr_meta_find(&x->m->meta, general[i].key);
        if (v != NULL)
            APR_TRY(check_value(x, general[i].key, v, general[i].type, NULL, NULL, e));
    }
    if (x->family != NULL && has_weights(x->m)) {
        for (const struct apr_yaml *k = x->family->kv == NULL ? NULL : x->family->kv->child; k != NULL; k = k->next)
            if (strncmp((const char *)apr_yaml_get(k, "gguf")->text.at, "general.", 8) != 0)
                APR_TRY(check_gguf_key(x, architecture, k, e));
    } else {
        for (size_t i = 0; i < APR_LENGTH(rules); i++) {
            char key[256];
            snprintf(key, sizeof key, "%.*s%s", (int)architecture.n, (const char *)architecture.at, rules[i].suffix);
            const struct apr_value *v = apr_meta_find(&x->m->meta, key);
            if (v != NULL)
                APR_TRY(check_value(x, key, v, rules[i].type, &rules[i], NULL, e));
        }
    }
    return check_counts(x, architecture, e);
}

/* ---- config.json ---------------------------------------------------------------------------------------------------- */

/* Dims by the letters that all contracts use. */
static bool is_count(struct apr_bytes dim)
{
    static const char *const letter[] = { "V", "H", "N", "A", "K", "F", "C" };
    for (size_t i = 0; i < APR_LENGTH(letter); i++)
        if (apr_bytes_equal(dim, apr_text(letter[i])))
            return true;
    return false;
}

static enum apr_code check_dim(struct inspection *x, const struct apr_dim *d, struct apr_error *e)
{
    static const struct rule count = { "", "u32", 1, 9007199254740992.0, true, false }, any = { "", "f32", ANY, false, false };
    struct apr_bytes text;
    char key[128];
    double value;
    unsigned i = 0;
    while (i < d->nkey && !apr_hf_config_has(x->config, d->key[i]))
        i++;
    const struct apr_bytes name = d->key[i == d->nkey ? 0 : i];
    snprintf(key, sizeof key, "config.json: %.*s", (int)apr_min(name.n, 100), (const char *)name.at);
    if (i == d->nkey && d->value == NULL && is_count(d->name))
        return SAY(x, APR_WARNING, "config.missing", "%s is not there, family %.*s needs it", key, (int)x->family->name.n,
                   (const char *)x->family->name.at);
    if (i == d->nkey)
        return APR_OK;
    if (d->text ? !apr_hf_config_string(x->config, name, &text) : !apr_hf_config_number(x->config, name, &value))
        return SAY(x, APR_FAULT, "config.type", "%s is no %s", key, d->text ? "string" : "number");
    if (d->text)
        return APR_OK;
    if (is_count(d->name) && value != floor(value))
        return SAY(x, APR_FAULT, "config.type", "%s is %g, expected an integer", key, value);
    const bool zero_is_meant = value == 0 && d->value != NULL;
    return zero_is_meant ? APR_OK : check_range(x, key, value, is_count(d->name) ? &count : &any, e);
}

static enum apr_code check_config(struct inspection *x, struct apr_error *e)
{
    if (x->config_error.code != APR_OK)
        return SAY(x, APR_FAULT, "config.syntax", "config.json: %s", x->config_error.text);
    if (x->config == NULL)
        return APR_OK;
    if (!apr_hf_config_has(x->config, apr_text("architectures.0")) && !apr_hf_config_has(x->config, apr_text("model_type")))
        APR_TRY(SAY(x, APR_WARNING, "config.architecture", "config.json names neither architectures nor a model_type"));
    for (size_t i = 0; x->family != NULL && i < x->family->ndim; i++)
        if (x->family->dim[i].nkey > 0)
            APR_TRY(check_dim(x, &x->family->dim[i], e));
    return APR_OK;
}

enum apr_code check_metadata(struct inspection *x, struct apr_error *e)
{
    const char *format = x->m->format->name;
    if (strcmp(format, "gguf") == 0)
        return check_gguf(x, e);
    if (strcmp(format, "apr") == 0 && x->family != NULL)
        for (const struct apr_yaml *k = x->family->kv == NULL ? NULL : x->family->kv->child; k != NULL; k = k->next)
            APR_TRY(check_apr_key(x, k, e));
    return check_config(x, e);
}
