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
    const char        *suffix;
    enum apr_meta_type type;
    double             low, high;
    bool               required, per_layer;
};

#define ANY      (-DBL_MAX), DBL_MAX
#define COUNT    1, 4294967295.0
#define POSITIVE FLT_TRUE_MIN, FLT_MAX

#define SAY(x, code, ...) add_finding(&(x)->findings, code, no_tensor, e, __VA_ARGS__)

static const struct rule rules[] = {
    { ".block_count", APR_META_U32, 1, 512, true, false },
    { ".context_length", APR_META_U32, COUNT, true, false },
    { ".embedding_length", APR_META_U32, COUNT, true, false },
    { ".feed_forward_length", APR_META_U32, 0, 4294967295.0, false, true },
    { ".attention.head_count", APR_META_U32, COUNT, true, true },
    { ".attention.head_count_kv", APR_META_U32, COUNT, false, true },
    { ".attention.layer_norm_rms_epsilon", APR_META_F32, FLT_TRUE_MIN, 1, true, false },
    { ".attention.layer_norm_epsilon", APR_META_F32, FLT_TRUE_MIN, 1, true, false },
    { ".attention.key_length", APR_META_U32, COUNT, false, false },
    { ".attention.value_length", APR_META_U32, COUNT, false, false },
    { ".rope.freq_base", APR_META_F32, POSITIVE, false, false },
    { ".rope.scaling.factor", APR_META_F32, POSITIVE, false, false },
    { ".rope.dimension_count", APR_META_U32, ANY, false, false },
    { ".vocab_size", APR_META_U32, COUNT, false, false },
    { ".expert_count", APR_META_U32, 0, 4096, false, false },
    { ".expert_used_count", APR_META_U32, 0, 4096, false, false },
};

static const struct rule *find_rule(struct apr_bytes suffix)
{
    for (size_t i = 0; i < APR_LENGTH(rules); i++)
        if (apr_bytes_is(suffix, rules[i].suffix))
            return &rules[i];
    return NULL;
}

/* ---- one value ------------------------------------------------------------------------------------------------------ */

static bool is_integer(enum apr_meta_type t) { return t <= APR_META_I32 || t == APR_META_U64 || t == APR_META_I64; }

/* Is the value of that type, an array of that element? JSON has one kind of integer and of number. */
static bool has_type(const struct apr_value *v, enum apr_meta_type type, enum apr_meta_type element, bool per_layer)
{
    if (type == APR_META_ARRAY)
        return v->type == APR_META_ARRAY && (v->encoding == APR_JSON || v->element == element);
    if (per_layer && v->type == APR_META_ARRAY)
        return v->encoding == APR_JSON || is_integer(v->element);
    if (v->encoding == APR_JSON && (type == APR_META_U32 || type == APR_META_F32))
        return is_integer(v->type) || (type == APR_META_F32 && v->type == APR_META_F64);
    return v->type == type;
}

static enum apr_code check_range(struct inspection *x, const char *key, double value, const struct rule *r, struct apr_error *e)
{
    char spelled[32];
    if (value >= r->low && value <= r->high)
        return APR_OK;
    const char *text = isnan(value) ? "NaN" : isinf(value) ? "infinite" : apr_spell_real(value, spelled);
    if (r->low <= 0 || r->low == FLT_TRUE_MIN)
        return SAY(x, "meta.value", "%s is %s, expected a number %s", key, text,
                   r->low < 0 ? "that is finite" : r->low > 0 ? "above 0" : "from 0 on");
    return SAY(x, "meta.value", "%s is %s, expected %.0f to %.0f", key, text, r->low, r->high);
}

/* v is at key. `meant`: the contract's own constant, which is right by itself, or NULL. */
static enum apr_code check_value(struct inspection *x, const char *key, const struct apr_value *v, enum apr_meta_type type,
                                 enum apr_meta_type element, const struct rule *r, const struct apr_value *meant, struct apr_error *e)
{
    double value, constant;
    if (!has_type(v, type, element, r != NULL && r->per_layer)) {
        const bool is_array = v->type == APR_META_ARRAY, array = type == APR_META_ARRAY;
        return SAY(x, "meta.type", "%s is of type %s%s, expected %s%s", key, is_array ? "arr_" : "",
                   apr_meta_type_word(is_array ? v->element : v->type), array ? "arr_" : "", apr_meta_type_word(array ? element : type));
    }
    if (!apr_meta_number(v, &value) || (meant != NULL && apr_meta_number(meant, &constant) && value == constant))
        return APR_OK;
    const struct rule any = { "", type, ANY, false, false };
    return check_range(x, key, value, r == NULL ? &any : r, e);
}

/* ---- keys of a contract --------------------------------------------------------------------------------------------- */

static const struct rule *rule_of(const struct apr_kv *k) { return k->own ? find_rule(k->key) : NULL; }

/* Is it of the type that another entry of the same key has, and not of this one's? */
static bool is_anothers(const struct inspection *x, const struct apr_value *v, const struct apr_kv *k)
{
    const struct rule *const r = rule_of(k);
    const bool per_layer = r != NULL && r->per_layer;
    bool others = false;
    for (size_t i = 0; i < x->family->nkv && !others && !has_type(v, k->type, k->element, per_layer); i++) {
        const struct apr_kv *const o = &x->family->kv[i];
        others = o != k && o->own == k->own && apr_bytes_equal(o->key, k->key) && has_type(v, o->type, o->element, per_layer);
    }
    return others;
}

static enum apr_code check_key(struct inspection *x, const char *key, const struct apr_value *v, const struct apr_kv *k,
                               enum apr_severity severity, struct apr_error *e)
{
    const struct rule *r = rule_of(k);
    if (v != NULL && is_anothers(x, v, k))
        return APR_OK;
    if (v != NULL)
        return check_value(x, key, v, k->type, k->element, r, k->value.origin == APR_OF_CONSTANT ? &k->value.constant : NULL, e);
    if (r == NULL || !r->required || k->when != NULL)
        return APR_OK;
    return add_finding_as(&x->findings, severity, "meta.missing", no_tensor, e, "there is no %s, which family %.*s needs", key,
                          APR_PRINTED(x->family->name));
}

static enum apr_code check_gguf_key(struct inspection *x, struct apr_bytes architecture, const struct apr_kv *k, struct apr_error *e)
{
    char key[256];
    return apr_kv_spell(k, architecture, key, sizeof key) ? check_key(x, key, apr_meta_find(&x->m->meta, key), k, APR_FAULT, e) : APR_OK;
}

static enum apr_code check_apr_key(struct inspection *x, const struct apr_kv *k, struct apr_error *e)
{
    if (k->apr.n == 0)
        return APR_OK;
    const char *key = (const char *)k->apr.at;
    const struct apr_value *v = apr_meta_find(&x->m->meta, key);
    return check_key(x, key, v != NULL && v->type == APR_META_NULL ? NULL : v, k, APR_WARNING, e);
}

/* Has it a family's keys, all of them? */
static bool is_whole(const struct inspection *x) { return x->kind == APR_KIND_MODEL || x->kind == APR_KIND_VOCABULARY; }

/* ---- GGUF ----------------------------------------------------------------------------------------------------------- */

static bool model_number(const struct inspection *x, struct apr_bytes architecture, const char *suffix, uint64_t *n)
{
    char key[256];
    snprintf(key, sizeof key, "%.*s%s", APR_PRINTED(architecture), suffix);
    return apr_meta_unsigned(&x->m->meta, key, n);
}

/* Numbers that must agree with each other. */
static enum apr_code check_counts(struct inspection *x, struct apr_bytes architecture, struct apr_error *e)
{
    uint64_t heads, kv, experts, used;
    if (model_number(x, architecture, ".attention.head_count", &heads) && model_number(x, architecture, ".attention.head_count_kv", &kv) &&
        kv > 0 && heads % kv != 0)
        APR_TRY(SAY(x, "meta.heads", "%llu heads do not share %llu key/value heads evenly", (unsigned long long)heads,
                    (unsigned long long)kv));
    if (model_number(x, architecture, ".expert_count", &experts) && model_number(x, architecture, ".expert_used_count", &used) &&
        used > experts)
        APR_TRY(SAY(x, "meta.experts", "%llu experts are used at a time, of %llu there are", (unsigned long long)used,
                    (unsigned long long)experts));
    return APR_OK;
}

static enum apr_code check_gguf(struct inspection *x, struct apr_error *e)
{
    static const struct {
        const char        *key;
        enum apr_meta_type type;
    } general[] = { { "general.architecture", APR_META_STRING }, { "general.type", APR_META_STRING }, { "general.name", APR_META_STRING },
                    { "general.file_type", APR_META_U32 }, { "general.quantization_version", APR_META_U32 } };
    struct apr_bytes architecture = apr_meta_string(&x->m->meta, "general.architecture");
    architecture.n = (size_t)apr_min(architecture.n, 64);
    for (size_t i = 0; i < APR_LENGTH(general); i++) {
        const struct apr_value *v = apr_meta_find(&x->m->meta, general[i].key);
        if (v != NULL)
            APR_TRY(check_value(x, general[i].key, v, general[i].type, general[i].type, NULL, NULL, e));
    }
    if (x->family != NULL && is_whole(x)) {
        for (size_t i = 0; i < x->family->nkv; i++)
            if (strncmp((const char *)x->family->kv[i].key.at, "general.", 8) != 0)
                APR_TRY(check_gguf_key(x, architecture, &x->family->kv[i], e));
    } else {
        for (size_t i = 0; i < APR_LENGTH(rules); i++) {
            char key[256];
            snprintf(key, sizeof key, "%.*s%s", APR_PRINTED(architecture), rules[i].suffix);
            const struct apr_value *v = apr_meta_find(&x->m->meta, key);
            if (v != NULL)
                APR_TRY(check_value(x, key, v, rules[i].type, rules[i].type, &rules[i], NULL, e));
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
        if (apr_bytes_is(dim, letter[i]))
            return true;
    return false;
}

static enum apr_code check_dim(struct inspection *x, const struct apr_dim *d, struct apr_error *e)
{
    static const struct rule count = { "", APR_META_U32, 1, 9007199254740992.0, true, false },
                             any = { "", APR_META_F32, ANY, false, false };
    struct apr_bytes text;
    char key[128];
    double value;
    size_t i = 0;
    while (i < d->key.n && !apr_hf_config_has(x->config, d->key.word[i]))
        i++;
    const struct apr_bytes name = d->key.word[i == d->key.n ? 0 : i];
    snprintf(key, sizeof key, "config.json: %.*s", (int)apr_min(name.n, 100), (const char *)name.at);
    if (i == d->key.n && d->value == NULL && is_count(d->name))
        return SAY(x, "config.missing", "%s is not there, family %.*s needs it", key, APR_PRINTED(x->family->name));
    if (i == d->key.n)
        return APR_OK;
    if (d->text ? !apr_hf_config_string(x->config, name, &text)
                : !apr_hf_config_number(x->config, name, &value) && !apr_hf_config_largest(x->config, name, &value)) /* by layers */
        return SAY(x, "config.type", "%s is no %s", key, d->text ? "string" : "number");
    if (d->text)
        return APR_OK;
    if (is_count(d->name) && value != floor(value))
        return SAY(x, "config.type", "%s is %g, expected an integer", key, value);
    const bool zero_is_meant = value == 0 && d->value != NULL;
    return zero_is_meant ? APR_OK : check_range(x, key, value, is_count(d->name) ? &count : &any, e);
}

static enum apr_code check_config(struct inspection *x, struct apr_error *e)
{
    if (x->config_error.code != APR_OK)
        return SAY(x, "config.syntax", "config.json: %s", x->config_error.text);
    if (x->config == NULL)
        return APR_OK;
    if (!apr_hf_config_has(x->config, apr_text("architectures.0")) && !apr_hf_config_has(x->config, apr_text("model_type")) &&
        !apr_hf_config_has(x->config, apr_text("ssm_cfg")))
        APR_TRY(SAY(x, "config.architecture", "config.json names neither architectures nor a model_type"));
    for (size_t i = 0; x->family != NULL && i < x->family->ndim; i++)
        if (x->family->dim[i].key.n > 0)
            APR_TRY(check_dim(x, &x->family->dim[i], e));
    return APR_OK;
}

enum apr_code check_metadata(struct inspection *x, struct apr_error *e)
{
    if (x->m->format->own_names)
        return check_gguf(x, e);
    if (strcmp(x->m->format->name, "apr") == 0 && x->family != NULL)
        for (size_t i = 0; i < x->family->nkv; i++)
            APR_TRY(check_apr_key(x, &x->family->kv[i], e));
    return check_config(x, e);
}
