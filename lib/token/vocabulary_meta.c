/* A vocabulary in metadata: GGUF's keys, and the reference program's in an APR file. */
#include "token/vocabulary_read.h"

#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "model/json.h"
#include "model/meta.h"

#define MOST_KEYS 256 /* that begin with "tokenizer."; a dozen times those that there are */

/* Where keys are looked for, one after the other: what an APR file took over from a GGUF counts last. */
struct keys {
    struct apr_meta in[2];
};

static const struct apr_value *find(const struct keys *k, const char *gguf, const char *apr)
{
    const struct apr_value *v = NULL;
    for (size_t i = 0; i < 2 && v == NULL; i++) {
        v = apr_meta_find(&k->in[i], gguf);
        if (v == NULL)
            v = apr_meta_find(&k->in[i], apr);
    }
    return v;
}

static const struct apr_value *find_array(const struct keys *k, const char *gguf, const char *apr)
{
    const struct apr_value *v = find(k, gguf, apr);
    return v != NULL && v->type == APR_META_ARRAY ? v : NULL;
}

/* One of the lists that make up a vocabulary, or NULL; what is there and no list is a fault. */
static const struct apr_value *find_list(struct apr_vocabulary *v, const struct keys *k, const char *gguf, const char *apr)
{
    const struct apr_value *const array = find_array(k, gguf, apr);
    if (array == NULL && find(k, gguf, apr) != NULL)
        apr_put_odd(v, gguf, "list", (struct apr_bytes){ 0 });
    return array;
}

static struct apr_bytes first_string(const struct keys *k, const char *const *key, size_t n)
{
    struct apr_bytes s = { 0 };
    for (size_t i = 0; i < 2 * n && s.n == 0; i++)
        s = apr_meta_string(&k->in[i / n], key[i % n]);
    return s;
}

static enum apr_choice choice_at(const struct keys *k, const char *gguf, const char *apr)
{
    const struct apr_value *v = find(k, gguf, apr);
    return v == NULL || v->type != APR_META_BOOL ? APR_UNSAID : v->b ? APR_YES : APR_NO;
}

/* What stands between: "tokenizer.ggml.bos_token_id" -> "bos". Empty when the key is no such. */
static struct apr_bytes within(struct apr_bytes key, const char *before, const char *after)
{
    const size_t n = strlen(before), tail = strlen(after);
    if (key.n <= n + tail || memcmp(key.at, before, n) != 0 || memcmp(key.at + key.n - tail, after, tail) != 0)
        return (struct apr_bytes){ 0 };
    return (struct apr_bytes){ key.at + n, key.n - n - tail };
}

/* "gguf.kv": {"tokenizer.ggml.model": {"t": "string", "v": "llama"}, ...} */
static enum apr_code take_gguf_keys(struct apr_vocabulary *v, const struct apr_value *kv, struct apr_meta *keys, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = kv != NULL && kv->type == APR_META_OBJECT;
    if (!more)
        return APR_OK;
    keys->entry = apr_arena_alloc(&v->arena, MOST_KEYS * sizeof *keys->entry);
    if (keys->entry == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_walk_in(&w, kv->text, 0, '{', e));
    for (;;) {
        struct apr_member value[] = { { .key = "v" } };
        struct apr_value typed;
        struct apr_bytes key;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_text(&v->arena, item.key, item.key_at, &key, e));
        if (within(key, "tokenizer.", "").n == 0 || keys->n == MOST_KEYS)
            continue;
        APR_TRY(apr_json_checked(&v->arena, item.value, item.value_at, &typed, e));
        APR_TRY(apr_take_members(v, &typed, value, 1, e));
        if (value[0].value.type != APR_META_ANY)
            keys->entry[keys->n++] = (struct apr_meta_entry){ key, value[0].value };
    }
}

/* ---- lists ---------------------------------------------------------------------------------------------------------- */

/* A walk over an array of either encoding; strings stay. */
struct list {
    struct apr_vocabulary *v;
    struct apr_elements    gguf;
    struct apr_walk        json;
    struct apr_value       value;
    bool                   is_json, more;
};

static enum apr_code list_in(struct list *l, struct apr_vocabulary *v, const struct apr_value *array, struct apr_error *e)
{
    *l = (struct list){ .v = v, .gguf = apr_elements_of(array), .is_json = array->encoding == APR_JSON };
    return l->is_json ? apr_walk_in(&l->json, array->text, 0, '[', e) : APR_OK;
}

static enum apr_code list_next(struct list *l, struct apr_error *e)
{
    struct apr_item item;
    if (!l->is_json) {
        l->more = apr_elements_next(&l->gguf, &l->value);
        return APR_OK;
    }
    APR_TRY(apr_walk_next(&l->json, &item, &l->more, e));
    return l->more ? apr_json_checked(&l->v->arena, item.value, item.value_at, &l->value, e) : APR_OK;
}

static enum apr_code take_tokens(struct apr_vocabulary *v, const struct apr_value *tokens, struct apr_error *e)
{
    struct list l;
    APR_TRY(list_in(&l, v, tokens, e));
    for (;; v->faults.listed++) {
        APR_TRY(list_next(&l, e));
        if (!l.more)
            break;
        const bool text = l.value.type == APR_META_STRING;
        APR_TRY(apr_put_token(v, l.value.text, text ? v->faults.listed : UINT64_MAX, APR_TOKEN_NORMAL, 0, e));
    }
    v->size = v->faults.listed;
    return APR_OK;
}

double apr_number(const struct apr_value *v)
{
    switch (v->type) {
    case APR_META_F32:
    case APR_META_F64: return v->f;
    case APR_META_U8:
    case APR_META_U16:
    case APR_META_U32:
    case APR_META_U64: return (double)v->u;
    case APR_META_I8:
    case APR_META_I16:
    case APR_META_I32:
    case APR_META_I64: return (double)v->i;
    default:           return 0;
    }
}

/* One score, or one type, for each token by its id; more are none's, fewer a fault. */
static enum apr_code take_numbers(struct apr_vocabulary *v, const struct apr_value *list, bool scores, struct apr_error *e)
{
    struct list l;
    size_t i = 0;
    APR_TRY(list_in(&l, v, list, e));
    for (uint64_t id = 0; i < v->ntoken; id++) {
        APR_TRY(list_next(&l, e));
        if (!l.more)
            break;
        if (v->token[i].id != id)
            continue;
        const double number = apr_number(&l.value);
        if (scores)
            v->token[i].score = (float)number;
        else if (number >= APR_TOKEN_NORMAL && number <= APR_TOKEN_BYTE)
            v->token[i].type = (uint8_t)number;
        v->byte_fallback = v->byte_fallback || v->token[i].type == APR_TOKEN_BYTE;
        i++;
    }
    if (i < v->ntoken)
        apr_put_odd(v, scores ? "tokenizer.ggml.scores" : "tokenizer.ggml.token_type", "list of a number for each token",
                    (struct apr_bytes){ 0 });
    return APR_OK;
}

static enum apr_code take_merges(struct apr_vocabulary *v, const struct apr_value *merges, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(merges);
    struct apr_value merge;
    if (merges->encoding == APR_JSON)
        return apr_take_merges(v, merges, e);
    while (apr_elements_next(&w, &merge))
        APR_TRY(apr_put_spelled_merge(v, merge.text, e));
    return APR_OK;
}

/* ---- keys ----------------------------------------------------------------------------------------------------------- */

static enum apr_code take_entry(struct apr_vocabulary *v, const struct apr_meta_entry *m, struct apr_error *e)
{
    const struct apr_value *value = &m->value;
    const bool whole = value->type == APR_META_U32 || value->type == APR_META_U64 || (value->type == APR_META_I32 && value->i >= 0);
    const struct apr_bytes chat = within(m->key, "tokenizer.chat_template.", "");
    struct apr_bytes role = within(m->key, "tokenizer.ggml.", "_token_id");
    if (role.n == 0)
        role = within(m->key, "tokenizer.", "_token_id");
    if (role.n > 0 && whole)
        return apr_put_special(v, role, value->u, false, e);
    return chat.n > 0 && value->type == APR_META_STRING ? apr_put_template(v, chat, value->text, e) : APR_OK;
}

static enum apr_vocabulary_kind kind_of(struct apr_bytes model)
{
    static const struct {
        const char              *word;
        enum apr_vocabulary_kind kind;
    } kinds[] = {
        { "llama", APR_VOCABULARY_SPM },        { "gpt2", APR_VOCABULARY_BPE },          { "BPE", APR_VOCABULARY_BPE },
        { "t5", APR_VOCABULARY_UNIGRAM },       { "Unigram", APR_VOCABULARY_UNIGRAM },   { "bert", APR_VOCABULARY_WORDPIECE },
        { "WordPiece", APR_VOCABULARY_WORDPIECE }, { "rwkv", APR_VOCABULARY_RWKV },      { "none", APR_VOCABULARY_NONE },
        { "no_vocab", APR_VOCABULARY_NONE },    { "", APR_VOCABULARY_NONE },
    };
    for (size_t i = 0; i < APR_LENGTH(kinds); i++)
        if (apr_bytes_is(model, kinds[i].word))
            return kinds[i].kind;
    return APR_VOCABULARY_OTHER;
}

static void take_flags(struct apr_vocabulary *v, const struct keys *k)
{
    const struct apr_value *charsmap = find_array(k, "tokenizer.ggml.precompiled_charsmap", "tokenizer.precompiled_charsmap");
    v->add_bos = choice_at(k, "tokenizer.ggml.add_bos_token", "tokenizer.add_bos_token");
    v->add_eos = choice_at(k, "tokenizer.ggml.add_eos_token", "tokenizer.add_eos_token");
    v->add_sep = choice_at(k, "tokenizer.ggml.add_sep_token", "tokenizer.add_sep_token");
    v->add_space_prefix = choice_at(k, "tokenizer.ggml.add_space_prefix", "tokenizer.add_space_prefix");
    v->remove_extra_whitespaces = choice_at(k, "tokenizer.ggml.remove_extra_whitespaces", "tokenizer.remove_extra_whitespaces");
    v->lowercase = choice_at(k, "tokenizer.ggml.normalizer.lowercase", "tokenizer.normalizer.lowercase");
    v->strip_accents = choice_at(k, "tokenizer.ggml.normalizer.strip_accents", "tokenizer.normalizer.strip_accents");
    if (charsmap != NULL && apr_meta_width(charsmap->element) == 1)
        v->charsmap = charsmap->text;
}

static enum apr_code take_names(struct apr_vocabulary *v, const struct keys *k, struct apr_error *e)
{
    static const char *const models[] = { "tokenizer.ggml.model", "tokenizer.model", "tokenizer.model_type" };
    static const char *const pres[] = { "tokenizer.ggml.pre", "tokenizer.pre_type" };
    static const char *const chats[] = { "tokenizer.chat_template", "chat_template" };
    const struct apr_bytes chat = first_string(k, chats, APR_LENGTH(chats));
    v->model = first_string(k, models, APR_LENGTH(models));
    v->pre = first_string(k, pres, APR_LENGTH(pres));
    v->kind = kind_of(v->model);
    if (chat.n > 0)
        APR_TRY(apr_put_template(v, apr_text("default"), chat, e));
    for (size_t i = 0; i < 2; i++)
        for (size_t n = 0; n < k->in[i].n; n++)
            APR_TRY(take_entry(v, &k->in[i].entry[n], e));
    return APR_OK;
}

enum apr_code apr_read_metadata(struct apr_vocabulary *v, const struct apr_meta *meta, struct apr_error *e)
{
    struct keys k = { .in = { *meta } };
    APR_TRY(take_gguf_keys(v, apr_meta_find(meta, "gguf.kv"), &k.in[1], e));
    const struct apr_value *tokens = find_list(v, &k, "tokenizer.ggml.tokens", "tokenizer.vocabulary");
    const struct apr_value *merges = find_list(v, &k, "tokenizer.ggml.merges", "tokenizer.merges");
    const struct apr_value *scores = find_list(v, &k, "tokenizer.ggml.scores", "tokenizer.scores");
    const struct apr_value *types = find_list(v, &k, "tokenizer.ggml.token_type", "tokenizer.token_type");
    APR_TRY(take_names(v, &k, e));
    take_flags(v, &k);
    v->from = tokens != NULL || v->model.n > 0 ? APR_FROM_METADATA : APR_FROM_NOTHING;
    v->found = v->found || v->from == APR_FROM_METADATA;
    v->has_scores = scores != NULL;
    v->has_types = types != NULL;
    if (tokens != NULL)
        APR_TRY(take_tokens(v, tokens, e));
    if (scores != NULL)
        APR_TRY(take_numbers(v, scores, true, e));
    if (types != NULL)
        APR_TRY(take_numbers(v, types, false, e));
    return merges == NULL ? APR_OK : take_merges(v, merges, e);
}
