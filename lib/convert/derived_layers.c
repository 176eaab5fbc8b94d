/* Layers by other numbers: what config.json and metadata say of how many there are, of each, of some by their numbers. */
#include "convert/derived.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "model/draft.h"
#include "model/format.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/side.h"
#include "ui/report.h"

/* What a key says of layers. */
enum rule {
    NOTHING,
    COUNT,   /* how many there are */
    LEADING, /* how many from the first on are of a kind */
    NUMBERS, /* a list of layers' numbers */
    EACH,    /* a list of an element for each, or else no list of layers */
    LETTERS, /* a string of a letter for each */
};

/* By the key, or its part behind the last dot. So does a list of as many elements as there are layers whose key says "layer". */
static const struct {
    const char *word;
    enum rule   rule;
} words[] = {
    { "first_k_dense_replace", LEADING },     { "max_window_layers", LEADING },   { "num_dense_layers", LEADING },
    { "leading_dense_block_count", LEADING }, { "moe_layer_start_index", LEADING }, { "moe_layer_end_index", LEADING },
    { "mlp_only_layers", NUMBERS },           { "moe_layers", NUMBERS },
    { "full_attn_idxs", NUMBERS },            { "attn_layer_indices", NUMBERS },  { "hybrid_override_pattern", LETTERS },
    { "num_attention_heads", EACH },          { "num_key_value_heads", EACH },    { "intermediate_size", EACH },
    { "activation_sparsity_pattern", EACH },  { "num_query_heads", EACH },        { "num_kv_heads", EACH },
    { "ffn_multipliers", EACH },              { "block_types", EACH },
};

/* Layer i of n is layer from[i] of `before`.
 *   listed  of them all, so that lists can follow
 *   config  what config.json is now, as a string of JSON; empty: there is none */
struct relayering {
    struct apr_derived       *d;
    const struct apr_binding *b;
    const uint32_t           *from;
    size_t                    n;
    uint64_t                  before;
    bool                      listed;
    struct apr_bytes          config;
};

static bool counts_layers(const struct relayering *r, struct apr_bytes key)
{
    const struct apr_family *const f = apr_binding_family(r->b);
    for (size_t i = 0; i < f->nkv; i++) {
        const struct apr_kv *const k = &f->kv[i];
        if (k->own && apr_bytes_is(k->key, ".block_count") &&
            (apr_bytes_equal(k->hf, key) || apr_bytes_equal(k->apr, key) || (k->fills != NULL && apr_words_hold(&k->fills->key, key))))
            return true;
    }
    for (size_t i = 0; i < f->ndim; i++)
        if (apr_words_hold(&f->dim[i].key, apr_text("num_hidden_layers")) && apr_words_hold(&f->dim[i].key, key))
            return true;
    return apr_bytes_is(key, "block_count");
}

/* Behind the last dot. */
static struct apr_bytes last_of(struct apr_bytes key)
{
    size_t at = key.n;
    while (at > 0 && key.at[at - 1] != '.')
        at--;
    return (struct apr_bytes){ key.at + at, key.n - at };
}

static enum rule rule_of(const struct relayering *r, struct apr_bytes key)
{
    const struct apr_bytes last = last_of(key);
    if (counts_layers(r, last))
        return COUNT;
    for (size_t i = 0; i < APR_LENGTH(words); i++)
        if (apr_bytes_is(last, words[i].word))
            return words[i].rule;
    return apr_bytes_have(last, "layer") ? EACH : NOTHING;
}

/* How many layers are made of the first k; beyond the last, as many more. */
static uint64_t made_of_first(const struct relayering *r, uint64_t k)
{
    uint64_t n = k > r->before ? k - r->before : 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->from[i] < k;
    return n;
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

/* The elements of a list, at most `most`; *n is one more where it has more. */
static enum apr_code read_list(struct apr_bytes list, struct apr_bytes *element, size_t most, size_t *n, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    APR_TRY(apr_walk_in(&w, list, 0, '[', e));
    for (*n = 0; *n <= most; (*n)++) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        if (*n < most)
            element[*n] = item.value;
    }
    return APR_OK;
}

/* Elements that are joined to a list. */
static enum apr_code join(struct relayering *r, const struct apr_bytes *element, size_t n, struct apr_bytes *out, struct apr_error *e)
{
    size_t bytes = 3, at = 0;
    for (size_t i = 0; i < n; i++)
        bytes += element[i].n + 2;
    unsigned char *const text = apr_arena_alloc(&r->d->arena, bytes);
    if (text == NULL)
        return apr_no_memory(e);
    text[at++] = '[';
    for (size_t i = 0; i < n; i++) {
        memcpy(text + at, i > 0 ? ", " : "", i > 0 ? 2 : 0);
        at += i > 0 ? 2 : 0;
        memcpy(text + at, element[i].at, element[i].n);
        at += element[i].n;
    }
    text[at++] = ']';
    *out = (struct apr_bytes){ text, at };
    return APR_OK;
}

static enum apr_code each_layer(struct relayering *r, struct apr_bytes list, struct apr_bytes *out, struct apr_error *e)
{
    const size_t before = (size_t)r->before;
    struct apr_bytes *const element = apr_arena_alloc(&r->d->arena, (before + r->n + 1) * sizeof *element), *const now = element + before;
    size_t n;
    if (element == NULL)
        return apr_no_memory(e);
    APR_TRY(read_list(list, element, before, &n, e));
    if (n != before)
        return APR_OK;
    for (size_t i = 0; i < r->n; i++)
        now[i] = element[r->from[i]];
    return join(r, now, r->n, out, e);
}

/* The numbers that those listed have now. */
static enum apr_code numbers(struct relayering *r, struct apr_bytes list, struct apr_bytes *out, struct apr_error *e)
{
    const size_t before = (size_t)r->before;
    struct apr_bytes *const element = apr_arena_alloc(&r->d->arena, (before + r->n + 1) * sizeof *element), *const now = element + before;
    size_t n, nnow = 0;
    uint64_t layer;
    if (element == NULL)
        return apr_no_memory(e);
    APR_TRY(read_list(list, element, before, &n, e));
    for (size_t i = 0; i < r->n && n <= before; i++)
        for (size_t k = 0; k < n; k++)
            if (apr_json_plain(element[k], &layer) && layer == r->from[i]) {
                now[nnow] = apr_arena_format(&r->d->arena, "%zu", i);
                if (now[nnow++].at == NULL)
                    return apr_no_memory(e);
                break;
            }
    return n <= before ? join(r, now, nnow, out, e) : APR_OK;
}

/* "MEM*M-" in its quotes. */
static enum apr_code letters(struct relayering *r, struct apr_bytes quoted, struct apr_bytes *out, struct apr_error *e)
{
    if (quoted.n != r->before + 2)
        return APR_OK;
    unsigned char *const text = apr_arena_alloc(&r->d->arena, r->n + 2);
    if (text == NULL)
        return apr_no_memory(e);
    text[0] = text[r->n + 1] = '"';
    for (size_t i = 0; i < r->n; i++)
        text[1 + i] = quoted.at[1 + r->from[i]];
    *out = (struct apr_bytes){ text, r->n + 2 };
    return APR_OK;
}

/* What stands at the key afterwards; empty: what stood there. */
static enum apr_code new_value(struct relayering *r, struct apr_bytes key, struct apr_bytes json, struct apr_bytes *out,
                               struct apr_error *e)
{
    const enum rule rule = rule_of(r, key);
    uint64_t k;
    *out = (struct apr_bytes){ 0 };
    if (json.n == 0)
        return APR_OK;
    if (rule == EACH && json.at[0] == '[' && r->listed)
        return each_layer(r, json, out, e);
    if (rule == NUMBERS && json.at[0] == '[')
        return numbers(r, json, out, e);
    if (rule == LETTERS && json.at[0] == '"' && r->listed)
        return letters(r, json, out, e);
    const bool count = rule == COUNT || rule == LEADING;
    if (!count || !apr_json_plain(json, &k) || (rule == COUNT && k != r->before))
        return APR_OK;
    *out = apr_arena_format(&r->d->arena, "%" PRIu64, rule == COUNT ? (uint64_t)r->n : made_of_first(r, k));
    return out->at == NULL ? apr_no_memory(e) : APR_OK;
}

/* A text that grows by pieces of another. */
struct splicing {
    unsigned char *at;
    size_t         n, room;
};

static bool put(struct splicing *s, const unsigned char *at, size_t n)
{
    while (s->room - s->n < n) {
        unsigned char *const grown = apr_grown(s->at, &s->room, s->room, n + 4096, 1);
        if (grown == NULL)
            return false;
        s->at = grown;
    }
    if (n > 0)
        memcpy(s->at + s->n, at, n);
    s->n += n;
    return true;
}

/* Parts of a config.json that are configs, what an APR has of a GGUF's keys: {"llama.block_count": {"t": "u32", "v": 6}}, and of files:
 * {"config.json": "its text"}. */
static bool is_inner(struct apr_bytes key)
{
    static const char *const inner[] = { "text_config", "llm_config", "lm_config", "language_config", "gguf.kv", APR_SIDE_KEY };
    for (size_t i = 0; i < APR_LENGTH(inner); i++)
        if (apr_bytes_is(key, inner[i]))
            return true;
    return false;
}

#define MOST_DEPTH 4

static enum apr_code relayer_object(struct relayering *r, struct apr_bytes about, unsigned depth, struct apr_bytes *object,
                                    struct apr_error *e);

/* about: the key of the object that the member is in, where it is a GGUF's key with its type. */
static enum apr_code relayer_member(struct relayering *r, struct apr_bytes about, unsigned depth, const struct apr_item *item,
                                    struct apr_bytes *value, struct apr_error *e)
{
    struct apr_bytes key, now;
    APR_TRY(apr_json_text(&r->d->arena, item->key, 0, &key, e));
    const bool object = item->value.n > 0 && item->value.at[0] == '{', keys = apr_bytes_is(about, "gguf.kv");
    *value = item->value;
    if (object && depth < MOST_DEPTH && (keys || is_inner(key)))
        return relayer_object(r, key, depth + 1, value, e);
    if (apr_bytes_is(about, APR_SIDE_KEY)) {
        *value = apr_bytes_is(key, "config.json") && r->config.n > 0 ? r->config : item->value;
        return APR_OK;
    }
    APR_TRY(new_value(r, apr_bytes_is(key, "v") ? about : key, item->value, &now, e));
    *value = now.n > 0 ? now : item->value;
    return APR_OK;
}

static enum apr_code splice(struct relayering *r, struct apr_bytes about, unsigned depth, struct apr_bytes object, struct splicing *s,
                            struct apr_error *e)
{
    const unsigned char *from = object.at;
    struct apr_walk w;
    struct apr_item item;
    struct apr_bytes value;
    bool more;
    APR_TRY(apr_walk_in(&w, object, 0, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return put(s, from, (size_t)(object.at + object.n - from)) ? APR_OK : apr_no_memory(e);
        APR_TRY(relayer_member(r, about, depth, &item, &value, e));
        if (!put(s, from, (size_t)(item.value.at - from)) || !put(s, value.at, value.n))
            return apr_no_memory(e);
        from = item.value.at + item.value.n;
    }
}

/* All bytes between the values stay. */
static enum apr_code relayer_object(struct relayering *r, struct apr_bytes about, unsigned depth, struct apr_bytes *object,
                                    struct apr_error *e)
{
    struct splicing s = { 0 };
    enum apr_code code = splice(r, about, depth, *object, &s, e);
    if (code == APR_OK) {
        *object = apr_arena_copy(&r->d->arena, (struct apr_bytes){ s.at, s.n });
        code = object->at == NULL ? apr_no_memory(e) : APR_OK;
    }
    free(s.at);
    return code;
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

static bool is_integer(const struct apr_value *v)
{
    return v->type == APR_META_U8 || v->type == APR_META_I8 || v->type == APR_META_U16 || v->type == APR_META_I16 ||
           v->type == APR_META_U32 || v->type == APR_META_I32 || v->type == APR_META_U64 || v->type == APR_META_I64;
}

static void put_element(struct apr_array *a, const struct apr_value *v)
{
    if (v->type == APR_META_STRING)
        apr_array_text(a, v->text);
    else if (v->type == APR_META_F32 || v->type == APR_META_F64)
        apr_array_real(a, v->f);
    else
        apr_array_integer(a, v->type == APR_META_BOOL ? v->b : v->u);
}

/* Element i of an array, a view; false when it was lost. */
static bool element_of(const struct apr_value *array, uint64_t i, struct apr_array *into)
{
    struct apr_elements w = apr_elements_of(array);
    struct apr_value v;
    bool more = apr_elements_next(&w, &v);
    for (; more && i > 0; i--)
        more = apr_elements_next(&w, &v);
    if (more)
        put_element(into, &v);
    apr_elements_end(&w);
    return more;
}

static enum apr_code relayer_array(struct relayering *r, struct apr_value *array, struct apr_error *e)
{
    struct apr_array a = { .element = array->element };
    struct apr_draft d = { 0 };
    bool whole = true;
    for (size_t i = 0; i < r->n; i++)
        whole = whole && element_of(array, r->from[i], &a);
    enum apr_code code = whole ? apr_draft_array(&d, "array", &a, e) : apr_no_memory(e);
    if (code == APR_OK) {
        *array = *apr_draft_find(&d, apr_text("array"));
        array->text = apr_arena_copy(&r->d->arena, array->text);
        code = array->text.at == NULL ? apr_no_memory(e) : APR_OK;
    }
    apr_array_drop(&a);
    apr_draft_end(&d);
    return code;
}

/* In a GGUF the architecture's keys are the model's; lists among them of as many as there are layers are of layers, but what is of rope. */
static enum apr_code relayer_gguf(struct relayering *r, struct apr_bytes architecture, struct apr_meta_entry *entry, struct apr_error *e)
{
    struct apr_value *const v = &entry->value;
    const struct apr_bytes key = entry->key;
    const bool own = key.n > architecture.n && memcmp(key.at, architecture.at, architecture.n) == 0 && key.at[architecture.n] == '.';
    const enum rule rule = own ? rule_of(r, key) : NOTHING;
    const bool list = v->type == APR_META_ARRAY && v->n == r->before && v->element != APR_META_ARRAY;
    if (own && list && r->listed && !apr_bytes_have(key, ".rope."))
        return relayer_array(r, v, e);
    if (rule == COUNT && is_integer(v) && v->u == r->before)
        v->u = r->n;
    if (rule == LEADING && is_integer(v))
        v->u = made_of_first(r, v->u);
    return APR_OK;
}

/* Values that are JSON, as they are spelled; an object may stand in a string. */
static enum apr_code relayer_json(struct relayering *r, struct apr_meta_entry *entry, struct apr_error *e)
{
    struct apr_value *const v = &entry->value;
    struct apr_bytes now = v->text;
    const bool object = v->text.n > 0 && v->text.at[0] == '{';
    uint64_t k;
    if (object && (is_inner(entry->key) || apr_bytes_is(entry->key, APR_FLAT_KEY)))
        return relayer_object(r, entry->key, 0, &v->text, e);
    if (v->type != APR_META_ARRAY && !is_integer(v))
        return APR_OK;
    APR_TRY(new_value(r, entry->key, v->text, &now, e));
    if (now.n == 0)
        return APR_OK;
    v->text = now;
    if (is_integer(v) && apr_json_plain(now, &k))
        v->u = k;
    return APR_OK;
}

/* Sizes that were those of all layers: whoever writes the model counts anew. */
static void forget_sizes(struct apr_meta *meta)
{
    size_t n = 0;
    for (size_t i = 0; i < meta->n; i++)
        if (!apr_bytes_is(meta->entry[i].key, "param_count"))
            meta->entry[n++] = meta->entry[i];
    meta->n = n;
}

/* A text as a string of JSON. */
static enum apr_code quote(struct relayering *r, struct apr_bytes text, struct apr_error *e)
{
    char *quoted = NULL;
    size_t n = 0;
    struct apr_out o = { .to = apr_memstream(&quoted, &n) };
    if (o.to == NULL)
        return apr_no_memory(e);
    apr_out_bytes(&o, NULL, text);
    const bool whole = ferror(o.to) == 0, closed = fclose(o.to) == 0;
    if (whole && closed)
        r->config = apr_arena_copy(&r->d->arena, (struct apr_bytes){ (const unsigned char *)quoted, n });
    free(quoted);
    return r->config.at == NULL ? apr_no_memory(e) : APR_OK;
}

static enum apr_code relayer_config(struct relayering *r, struct apr_error *e)
{
    struct apr_bytes text = r->d->config.map;
    if (r->d->m.config == NULL)
        return APR_OK;
    APR_TRY(relayer_object(r, (struct apr_bytes){ 0 }, 0, &text, e));
    r->d->config.map = text;
    r->d->config.stored = text.n;
    return quote(r, text, e);
}

enum apr_code apr_derived_layers(struct apr_derived *d, const struct apr_binding *b, const uint32_t *from, size_t n, struct apr_error *e)
{
    struct relayering r = { .d = d, .b = b, .from = from, .n = n };
    const struct apr_bytes architecture = apr_meta_string(&d->m.meta, "general.architecture");
    double before;
    if (!apr_binding_number(b, apr_text("block_count"), &before) || !(before >= 0 && before <= APR_MOST_LAYERS))
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "nothing in it says how many layers it has");
    r.before = (uint64_t)before;
    r.listed = true;
    for (size_t i = 0; i < n; i++)
        r.listed = r.listed && from[i] < r.before;
    APR_TRY(relayer_config(&r, e));
    for (size_t i = 0; i < d->m.meta.n; i++)
        APR_TRY(d->m.format->own_names ? relayer_gguf(&r, architecture, &d->m.meta.entry[i], e) : relayer_json(&r, &d->m.meta.entry[i], e));
    forget_sizes(&d->m.meta);
    return APR_OK;
}
