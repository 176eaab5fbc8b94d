/* What changes a forward pass beside the tensors: sizes, bases, epsilons, scalings and the like, as config.json, a GGUF's keys or an APR's
 * state them, through the families' kv. */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "family/llama3.h"
#include "model/meta.h"
#include "values/chunk.h"

#define MOST_ELEMENTS 64    /* of a list that is spelled out */
#define MOST_COMPARED 65536 /* of lists of which one is worked out */

/* ---- a difference --------------------------------------------------------------------------------------------------- */

/* Bytes into the arena; empty ones stay so. */
static enum apr_code keep(struct config *c, struct apr_bytes *b, struct apr_error *e)
{
    if (b->n == 0) {
        *b = (struct apr_bytes){ 0 };
        return APR_OK;
    }
    *b = apr_arena_copy(&c->arena, *b);
    return b->at == NULL ? apr_no_memory(e) : APR_OK;
}

static bool is_told(const struct config *c, const struct stated *a, const struct stated *b)
{
    for (size_t i = 0; i < c->n; i++)
        if (apr_bytes_equal(c->difference[i].side[0].key, a->key) && apr_bytes_equal(c->difference[i].side[1].key, b->key) &&
            apr_bytes_equal(c->difference[i].side[0].value, a->value) && apr_bytes_equal(c->difference[i].side[1].value, b->value))
            return true;
    return false;
}

enum apr_code tell_config(struct config *c, const char *name, const struct stated *a, const struct stated *b, struct apr_error *e)
{
    if (is_told(c, a, b))
        return APR_OK;
    struct config_difference *more = apr_grown(c->difference, &c->room, c->n, 16, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    c->difference = more;
    struct config_difference *d = &c->difference[c->n];
    *d = (struct config_difference){ .name = apr_text(name), .side = { *a, *b } };
    APR_TRY(keep(c, &d->name, e));
    for (int i = 0; i < 2; i++) {
        APR_TRY(keep(c, &d->side[i].file, e));
        APR_TRY(keep(c, &d->side[i].key, e));
        APR_TRY(keep(c, &d->side[i].value, e));
    }
    c->n++;
    return APR_OK;
}

/* A string, or a list (its first elements), as JSON. */
static enum apr_code spell_json(struct config *c, const struct apr_value *v, struct apr_bytes *json, struct apr_error *e)
{
    char *spelled = NULL;
    size_t n = 0;
    FILE *to = apr_memstream(&spelled, &n);
    if (to == NULL)
        return apr_no_memory(e);
    apr_out_value(&(struct apr_out){ .to = to }, NULL, v, MOST_ELEMENTS);
    *json = (struct apr_bytes){ 0 };
    if (close_text(to, &spelled))
        *json = apr_arena_copy(&c->arena, (struct apr_bytes){ (const unsigned char *)spelled, n });
    free(spelled);
    return json->at == NULL ? apr_no_memory(e) : APR_OK;
}

enum apr_code spell_string(struct config *c, struct apr_bytes text, struct apr_bytes *json, struct apr_error *e)
{
    return spell_json(c, &(struct apr_value){ .type = APR_META_STRING, .encoding = APR_JSON, .text = text }, json, e);
}

enum apr_code spell_count(struct config *c, uint64_t n, struct apr_bytes *json, struct apr_error *e)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    *json = apr_arena_copy(&c->arena, apr_text(text));
    return json->at == NULL ? apr_no_memory(e) : APR_OK;
}

void free_config(struct config *c)
{
    free(c->difference);
    apr_arena_free(&c->arena);
    *c = (struct config){ 0 };
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

static bool is_whole(double v) { return v > -0x1p53 && v < 0x1p53 && v == (double)(int64_t)v; }

/* As JSON, for its type: an integer, a float in as few digits as tell it from its neighbours, true, a string. */
static enum apr_code spell_value(struct config *c, const struct apr_result *v, enum apr_meta_type type, struct apr_bytes *json,
                                 struct apr_error *e)
{
    char text[32];
    if (v->text.at != NULL)
        return spell_string(c, v->text, json, e);
    if (type == APR_META_BOOL)
        snprintf(text, sizeof text, "%s", v->number != 0 ? "true" : "false");
    else if (is_whole(v->number))
        snprintf(text, sizeof text, "%lld", (long long)v->number);
    else
        apr_spell_real(v->number, text);
    for (int digits = 1; digits < 10 && type == APR_META_F32 && !is_whole(v->number); digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v->number);
        if (strtof(text, NULL) == (float)v->number)
            break;
    }
    *json = apr_arena_copy(&c->arena, apr_text(text));
    return json->at == NULL ? apr_no_memory(e) : APR_OK;
}

/* "none" and "default" are words for no scaling. */
static struct apr_bytes plain_word(struct apr_bytes word)
{
    return apr_bytes_is(word, "default") ? apr_text("none") : word;
}

/* Numbers are equal when they are the same float, where one of them is a fraction or the key holds a float. */
static bool same_value(const struct apr_result *a, const struct apr_result *b, enum apr_meta_type type)
{
    if (a->text.at != NULL || b->text.at != NULL)
        return a->text.at != NULL && b->text.at != NULL && apr_bytes_equal(plain_word(a->text), plain_word(b->text));
    if (type == APR_META_BOOL)
        return (a->number != 0) == (b->number != 0);
    return a->number == b->number ||
           ((type == APR_META_F32 || !is_whole(a->number) || !is_whole(b->number)) && (float)a->number == (float)b->number);
}

static bool same_lists(const struct apr_value *a, const struct apr_value *b)
{
    struct apr_elements x = apr_elements_of(a), y = apr_elements_of(b);
    struct apr_value v, w;
    bool more = true, same = true;
    while (more && same) {
        double p, q;
        const bool more_a = apr_elements_next(&x, &v), more_b = apr_elements_next(&y, &w);
        more = more_a && more_b;
        same = more_a == more_b &&
               (!more || (apr_meta_number(&v, &p) && apr_meta_number(&w, &q) ? p == q || (float)p == (float)q : apr_value_equal(&v, &w)));
    }
    apr_elements_end(&x);
    apr_elements_end(&y);
    return same;
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

#define NAME_ROOM 200

/* What people call a GGUF key without its architecture, a path of config.json: "rope base", "sliding window". */
static void name_of(struct apr_bytes key, char name[NAME_ROOM])
{
    static const struct {
        const char *key, *name;
    } names[] = {
        { "rope.freq_base", "rope base" },
        { "rope.freq_base_swa", "rope base of windowed layers" },
        { "attention.layer_norm_rms_epsilon", "rms norm eps" },
        { "attention.layer_norm_epsilon", "layer norm eps" },
        { "attention.head_count", "heads" },
        { "attention.head_count_kv", "key/value heads" },
        { "block_count", "layers" },
    };
    static const char before[] = "attention.";
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        if (apr_bytes_is(key, names[i].key)) {
            snprintf(name, NAME_ROOM, "%s", names[i].name);
            return;
        }
    if (key.n > sizeof before && memcmp(key.at, before, sizeof before - 1) == 0)
        key = (struct apr_bytes){ key.at + sizeof before - 1, key.n - (sizeof before - 1) };
    snprintf(name, NAME_ROOM, "%.*s", (int)apr_min(key.n, NAME_ROOM - 1), (const char *)key.at);
    for (char *c = name; *c != 0; c++)
        if (*c == '.' || *c == '_')
            *c = ' ';
}

static struct apr_bytes own_key(const struct apr_kv *k) { return (struct apr_bytes){ k->key.at + 1, k->key.n - 1 }; }

/* What describes a model, or what shapes tell of every tensor, changes no forward pass. */
static bool counts(const struct apr_kv *k)
{
    static const char *const descriptive[] = { "context_length", "vocab_size", "tensor_data_layout", "classifier.output_labels" };
    bool yes = k->own && k->key.n > 1;
    for (size_t i = 0; yes && i < APR_LENGTH(descriptive); i++)
        yes = !apr_bytes_is(own_key(k), descriptive[i]);
    return yes;
}

/* ---- through the contracts ------------------------------------------------------------------------------------------ */

static struct apr_bytes file_of(const struct config_side *s, struct apr_bytes key)
{
    return key.n > 0 && s->config != NULL ? apr_text("config.json") : (struct apr_bytes){ 0 };
}

/* Element by element, a scalar being all elements of its list. What nothing tells is like anything. */
static bool same_elements(const struct config_work *w, const struct apr_statement s[2], enum apr_meta_type type)
{
    const uint64_t n = s[0].n > s[1].n ? s[0].n : s[1].n;
    if (s[0].n > 0 && s[1].n > 0 && s[0].n != s[1].n)
        return false;
    for (uint64_t i = 0; i < n && i < MOST_COMPARED; i++) {
        const struct apr_result a = apr_statement_element(w->side[0].binding, &s[0], i),
                                b = apr_statement_element(w->side[1].binding, &s[1], i);
        if (a.known && b.known && !same_value(&a, &b, type))
            return false;
    }
    return true;
}

static bool same_statements(const struct config_work *w, const struct apr_statement s[2], enum apr_meta_type type)
{
    if (s[0].list != NULL && s[1].list != NULL)
        return same_lists(s[0].list, s[1].list);
    if (s[0].n > 0 || s[1].n > 0)
        return same_elements(w, s, type);
    return !s[0].value.known || !s[1].value.known || same_value(&s[0].value, &s[1].value, type);
}

/* The first elements, as JSON. */
static enum apr_code spell_elements(struct config_work *w, const struct config_side *side, const struct apr_statement *s,
                                    enum apr_meta_type type, struct apr_bytes *json)
{
    char *spelled = NULL;
    size_t n = 0;
    FILE *const to = apr_memstream(&spelled, &n);
    if (to == NULL)
        return apr_no_memory(w->e);
    enum apr_code code = APR_OK;
    putc('[', to);
    for (uint64_t i = 0; i < s->n && i < MOST_ELEMENTS && code == APR_OK; i++) {
        const struct apr_result r = apr_statement_element(side->binding, s, i);
        *json = apr_text("null");
        if (r.known)
            code = spell_value(w->c, &r, type, json, w->e);
        fprintf(to, "%s%.*s", i == 0 ? "" : ", ", APR_PRINTED(*json));
    }
    putc(']', to);
    *json = (struct apr_bytes){ 0 };
    if (close_text(to, &spelled) && code == APR_OK)
        *json = apr_arena_copy(&w->c->arena, (struct apr_bytes){ (const unsigned char *)spelled, n });
    free(spelled);
    return code == APR_OK && json->at == NULL ? apr_no_memory(w->e) : code;
}

static enum apr_code compare_statements(struct config_work *w, const char *name, const struct apr_statement s[2], enum apr_meta_type type)
{
    struct stated side[2];
    if (s[0].key.n + s[1].key.n == 0 || (!s[0].wanted && !s[1].wanted) || same_statements(w, s, type))
        return APR_OK;
    for (int i = 0; i < 2; i++) {
        side[i] = (struct stated){ .file = file_of(&w->side[i], s[i].key), .key = s[i].key };
        if (s[i].list != NULL && s[!i].list != NULL)
            APR_TRY(spell_json(w->c, s[i].list, &side[i].value, w->e));
        else
            APR_TRY(s[i].n > 0 ? spell_elements(w, &w->side[i], &s[i], type, &side[i].value)
                               : spell_value(w->c, &s[i].value, type, &side[i].value, w->e));
    }
    return tell_config(w->c, name, &side[0], &side[1], w->e);
}

static bool same_key(const struct apr_kv *a, const struct apr_kv *b) { return a->own == b->own && apr_bytes_equal(a->key, b->key); }

/* The entry of a contract with the same key; of several, as a number and as a list, the one that this model has. */
static const struct apr_kv *entry_like(const struct apr_binding *b, const struct apr_kv *k)
{
    const struct apr_family *const f = apr_binding_family(b);
    const struct apr_kv *first = NULL;
    for (size_t i = 0; i < f->nkv; i++) {
        if (!same_key(&f->kv[i], k))
            continue;
        if (f->kv[i].when == NULL || apr_binding_holds(b, f->kv[i].when))
            return &f->kv[i];
        first = first == NULL ? &f->kv[i] : first;
    }
    return first;
}

static bool is_first_of_key(const struct apr_family *f, const struct apr_kv *k)
{
    const struct apr_kv *first = f->kv;
    while (first < k && !same_key(first, k))
        first++;
    return first == k;
}

/* Within config.json an entry is compared where it lies there as it is: what is worked out from several sizes is told by them. */
static enum apr_code compare_entry(struct config_work *w, const struct apr_kv *k)
{
    const bool both = w->side[0].config != NULL && w->side[1].config != NULL;
    const struct apr_kv *const own = entry_like(w->side[0].binding, k), *const other = entry_like(w->side[1].binding, k);
    char name[NAME_ROOM];
    if (!counts(k) || !is_first_of_key(apr_binding_family(w->side[0].binding), k) || other == NULL ||
        (both && own->value.origin != APR_OF_CONFIG))
        return APR_OK;
    const struct apr_statement s[] = { apr_binding_states(w->side[0].binding, own), apr_binding_states(w->side[1].binding, other) };
    name_of(own_key(k), name);
    return compare_statements(w, name, s, own->type == APR_META_ARRAY ? own->element : own->type);
}

/* What says how the values are packed is no difference between models: the values are compared. */
static bool is_of_packing(struct apr_bytes path)
{
    static const char of[] = "quantization_config.";
    return path.n >= sizeof of - 1 && memcmp(path.at, of, sizeof of - 1) == 0;
}

/* What a dim is called by the first key that it fills, else by its path; false where it only describes. */
static bool name_dim(const struct apr_family *f, const struct apr_dim *d, char name[NAME_ROOM])
{
    static const char *const descriptive[] = { "model_type", "architectures.0", "tie_word_embeddings", "vocab_size" };
    for (size_t i = 0; i < APR_LENGTH(descriptive); i++)
        if (d->key.n == 0 || apr_bytes_is(d->key.word[0], descriptive[i]) || is_of_packing(d->key.word[0]))
            return false;
    for (size_t i = 0; i < f->nkv; i++)
        if (f->kv[i].fills == d && f->kv[i].own) {
            name_of(own_key(&f->kv[i]), name);
            return counts(&f->kv[i]);
        }
    name_of(d->key.word[0], name);
    return true;
}

static enum apr_code compare_dims(struct config_work *w)
{
    const struct apr_family *f = apr_binding_family(w->side[0].binding);
    for (size_t i = 0; i < f->ndim; i++) {
        const struct apr_statement s[] = { apr_binding_states_dim(w->side[0].binding, &f->dim[i]),
                                           apr_binding_states_dim(w->side[1].binding, &f->dim[i]) };
        char name[NAME_ROOM];
        if (name_dim(f, &f->dim[i], name))
            APR_TRY(compare_statements(w, name, s, APR_META_F64));
    }
    return APR_OK;
}

/* The first factor that the scaling of config.json, of that side, does not give as the other's tensor has it, and both. */
static bool other_factor(const struct config_work *w, int of, const struct apr_role *role, uint64_t *i, double value[2])
{
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    const struct apr_tensor *t;
    struct apr_llama3 s;
    if (role->generated != APR_LLAMA3_ROPE_FACTORS || apr_binding_parts(w->side[!of].binding, role, 0, &t, 1) != 1 || !apr_decodable(k, t) ||
        !apr_binding_llama3(w->side[of].binding, &s))
        return false;
    for (*i = 0; *i < t->count && *i < MOST_COMPARED; ++*i) {
        apr_read_doubles(k, t, *i, 1, &value[!of]);
        value[of] = (double)apr_llama3_factor(&s, *i);
        if (!(fabs(value[0] - value[1]) <= 1e-5 * fabs(value[of])))
            return true;
    }
    return false;
}

static enum apr_code compare_numbers_of_factors(struct config_work *w, int of, const struct apr_role *role)
{
    const struct apr_dim *const kind = apr_family_dim(apr_binding_family(w->side[of].binding), apr_text("rope_kind"));
    const struct apr_statement s = kind == NULL ? (struct apr_statement){ 0 } : apr_binding_states_dim(w->side[of].binding, kind);
    struct stated side[2] = { 0 };
    char name[64];
    double value[2];
    uint64_t i;
    if (!other_factor(w, of, role, &i, value))
        return APR_OK;
    side[of] = (struct stated){ .file = file_of(&w->side[of], s.key), .key = s.key };
    side[!of] = (struct stated){ .key = role->known[APR_GGUF].word[0] };
    for (int k = 0; k < 2; k++)
        APR_TRY(spell_value(w->c, &(struct apr_result){ .known = true, .number = value[k] }, APR_META_F32, &side[k].value, w->e));
    snprintf(name, sizeof name, "rope factor %llu", (unsigned long long)i);
    return tell_config(w->c, name, &side[0], &side[1], w->e);
}

/* Factors that a converter makes a tensor of stand for a scaling of config.json: `of` is the side that holds config.json. */
static enum apr_code compare_factors(struct config_work *w, int of, const struct apr_role *role)
{
    const struct apr_binding *b = w->side[of].binding;
    const struct apr_dim *kind = apr_family_dim(apr_binding_family(b), apr_text("rope_kind"));
    const bool asked = apr_binding_generates(b, role), there = apr_binding_dialect(w->side[!of].binding, role, 0) == APR_GGUF;
    const struct apr_statement s = asked && kind != NULL ? apr_binding_states_dim(b, kind) : (struct apr_statement){ 0 };
    struct stated side[2] = { 0 };
    if (asked == there)
        return there ? compare_numbers_of_factors(w, of, role) : APR_OK;
    if (there)
        side[!of] = (struct stated){ .key = role->known[APR_GGUF].word[0], .value = apr_text("true") };
    else
        side[of] = (struct stated){ .file = file_of(&w->side[of], s.key), .key = s.key, .value = apr_text("true") };
    if (!there && s.value.text.at != NULL)
        APR_TRY(spell_string(w->c, s.value.text, &side[of].value, w->e));
    return tell_config(w->c, "rope factors", &side[0], &side[1], w->e);
}

static enum apr_code compare_generated(struct config_work *w)
{
    const int of = w->side[0].config == NULL;
    const struct apr_family *f = apr_binding_family(w->side[of].binding);
    const struct apr_role *embedding = apr_family_role(f, apr_text("token_embd"));
    if (w->side[of].config == NULL || w->side[!of].config != NULL || apr_binding_family(w->side[!of].binding) != f || embedding == NULL ||
        apr_binding_dialect(w->side[!of].binding, embedding, 0) != APR_GGUF)
        return APR_OK;
    for (size_t i = 0; i < f->nrole; i++)
        if (f->role[i].generated != APR_NOT_GENERATED)
            APR_TRY(compare_factors(w, of, &f->role[i]));
    return APR_OK;
}

static bool states_anything(const struct config_side *s)
{
    const struct apr_family *f = s->binding == NULL ? NULL : apr_binding_family(s->binding);
    bool yes = s->config != NULL;
    for (size_t i = 0; f != NULL && !yes && i < f->nkv; i++)
        yes = counts(&f->kv[i]) && apr_binding_states(s->binding, &f->kv[i]).key.n > 0;
    return yes;
}

static enum apr_code compare_bound(struct config_work *w)
{
    const struct apr_family *f = apr_binding_family(w->side[0].binding);
    const bool both = w->side[0].config != NULL && w->side[1].config != NULL;
    if (!states_anything(&w->side[0]) || !states_anything(&w->side[1]))
        return APR_OK;
    if (both && apr_binding_family(w->side[1].binding) == f)
        APR_TRY(compare_dims(w));
    for (size_t i = 0; i < f->nkv; i++)
        APR_TRY(compare_entry(w, &f->kv[i]));
    return compare_generated(w);
}

/* ---- within one dialect --------------------------------------------------------------------------------------------- */

/* Two paths of config.json, older and newer. */
static struct apr_statement path_states(const struct config_side *s, const char *const path[2])
{
    struct apr_statement out = { .wanted = true };
    for (int i = 0; i < 2 && path[i] != NULL && !out.value.known; i++) {
        const struct apr_bytes at = apr_text(path[i]);
        out.value.known = apr_hf_config_number(s->config, at, &out.value.number) || apr_hf_config_string(s->config, at, &out.value.text);
        out.key = out.value.known ? at : out.key;
    }
    return out;
}

/* What configs say in one way whatever their family. */
static enum apr_code compare_paths(struct config_work *w)
{
    static const struct {
        const char *name, *path[2];
    } paths[] = {
        { "rope base", { "rope_theta", "rope_parameters.rope_theta" } },
        { "rope scaling factor", { "rope_scaling.factor", "rope_parameters.factor" } },
        { "rope scaling low frequency factor", { "rope_scaling.low_freq_factor", "rope_parameters.low_freq_factor" } },
        { "rope scaling high frequency factor", { "rope_scaling.high_freq_factor", "rope_parameters.high_freq_factor" } },
        { "rope scaling original context length",
          { "rope_scaling.original_max_position_embeddings", "rope_parameters.original_max_position_embeddings" } },
        { "partial rotary factor", { "partial_rotary_factor", "rope_parameters.partial_rotary_factor" } },
        { "rms norm eps", { "rms_norm_eps", "norm_eps" } },
        { "layer norm eps", { "layer_norm_eps", "layer_norm_epsilon" } },
        { "heads", { "num_attention_heads", "n_head" } },
        { "key/value heads", { "num_key_value_heads", NULL } },
        { "key length", { "head_dim", NULL } },
        { "layers", { "num_hidden_layers", "n_layer" } },
        { "activation", { "hidden_act", "activation_function" } },
        { "query scale", { "query_pre_attn_scalar", NULL } },
        { "sliding window", { "sliding_window", NULL } },
        { "attention soft cap", { "attn_logit_softcapping", NULL } },
        { "final soft cap", { "final_logit_softcapping", NULL } },
        { "experts used", { "num_experts_per_tok", NULL } },
    };
    for (size_t i = 0; i < APR_LENGTH(paths); i++) {
        const struct apr_statement s[] = { path_states(&w->side[0], paths[i].path), path_states(&w->side[1], paths[i].path) };
        APR_TRY(compare_statements(w, paths[i].name, s, APR_META_F64));
    }
    return APR_OK;
}

/* ---- both ----------------------------------------------------------------------------------------------------------- */

/* A failure that is about one model's own words: told, but no reason to give no answer. */
static enum apr_code forgive(const struct options *o, enum apr_code code, const struct apr_error *e)
{
    if (code != APR_ECORRUPT && code != APR_EUNSUPPORTED && code != APR_ELIMIT)
        return code;
    if (!o->cli.quiet)
        apr_cli_fail(&o->cli, e);
    return APR_OK;
}

/* Each side is bound to the family that it names, else to the other's. */
static enum apr_code bind_sides(struct config_work *w)
{
    const struct apr_family *f[2];
    for (int i = 0; i < 2; i++)
        APR_TRY(apr_family_said(w->o->selection.families, w->side[i].model, &f[i], w->e));
    for (int i = 0; i < 2; i++)
        if (f[i] != NULL || f[!i] != NULL)
            APR_TRY(apr_bind(&w->side[i].binding, f[i] != NULL ? f[i] : f[!i], w->side[i].model, NULL, w->e));
    return APR_OK;
}

static enum apr_code compare_words(struct config_work *w)
{
    for (int i = 0; i < 2; i++)
        APR_TRY(apr_hf_config_of(&w->side[i].config, w->side[i].model, w->e));
    APR_TRY(bind_sides(w));
    if (w->side[0].binding != NULL)
        APR_TRY(compare_bound(w));
    return w->side[0].config != NULL && w->side[1].config != NULL ? compare_paths(w) : APR_OK;
}

enum apr_code compare_config(struct config *c, const struct options *o, const struct apr_model *a, const struct apr_model *b,
                             struct apr_error *e)
{
    struct config_work w = { .c = c, .o = o, .side = { { .model = a }, { .model = b } }, .e = e };
    *c = (struct config){ 0 };
    enum apr_code code = forgive(o, compare_words(&w), e);
    if (code == APR_OK)
        code = forgive(o, compare_vocabularies(&w), e);
    for (int i = 0; i < 2; i++) {
        apr_binding_free(w.side[i].binding);
        apr_hf_config_free(w.side[i].config);
    }
    return code;
}

/* ---- output --------------------------------------------------------------------------------------------------------- */

static void write_side(struct apr_out *j, const char *key, struct apr_bytes text)
{
    if (text.n > 0)
        apr_out_bytes(j, key, text);
    else
        apr_out_null(j, key);
}

static void write_value(struct apr_out *j, const char *key, struct apr_bytes json)
{
    if (json.n > 0)
        apr_out_raw(j, key, json);
    else
        apr_out_null(j, key);
}

void write_config(struct apr_out *j, const char *key, const struct config *c)
{
    apr_out_open(j, key, '[');
    for (size_t i = 0; i < c->n; i++) {
        const struct config_difference *d = &c->difference[i];
        apr_out_open(j, NULL, '{');
        apr_out_bytes(j, "name", d->name);
        write_side(j, "file_a", d->side[0].file);
        write_side(j, "key_a", d->side[0].key);
        write_side(j, "file_b", d->side[1].file);
        write_side(j, "key_b", d->side[1].key);
        write_value(j, "a", d->side[0].value);
        write_value(j, "b", d->side[1].value);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

static void print_side(const struct stated *s)
{
    apr_print_bytes(stdout, s->value.n > 0 ? s->value : apr_text("none"));
    if (s->key.n == 0 && s->value.n == 0)
        return;
    fputs(" (", stdout);
    apr_print_bytes(stdout, s->key.n > 0 ? s->file : apr_text("by default"));
    fputs(s->key.n > 0 && s->file.n > 0 ? " " : "", stdout);
    apr_print_bytes(stdout, s->key);
    putchar(')');
}

void print_config(const struct config *c)
{
    for (size_t i = 0; i < c->n; i++) {
        fputs("config differs: ", stdout);
        apr_print_bytes(stdout, c->difference[i].name);
        putchar(' ');
        print_side(&c->difference[i].side[0]);
        fputs(" against ", stdout);
        print_side(&c->difference[i].side[1]);
        putchar('\n');
    }
}
