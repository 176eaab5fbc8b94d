/* A vocabulary in metadata: GGUF's keys, and the reference program's in an APR file. */
#include "token/vocabulary_read.h"

#include <string.h>

#include "base/bytes.h"
#include "model/json.h"
#include "model/meta.h"

static const struct apr_value *find(const struct apr_meta *meta, const char *gguf, const char *apr)
{
    const struct apr_value *v = apr_meta_find(meta, gguf);
    return v != NULL ? v : apr_meta_find(meta, apr);
}

static const struct apr_value *find_array(const struct apr_meta *meta, const char *gguf, const char *apr)
{
    const struct apr_value *v = find(meta, gguf, apr);
    return v != NULL && v->type == APR_META_ARRAY ? v : NULL;
}

static struct apr_bytes first_string(const struct apr_meta *meta, const char *const *key, size_t n)
{
    struct apr_bytes s = { 0 };
    for (size_t i = 0; i < n && s.n == 0; i++)
        s = apr_meta_string(meta, key[i]);
    return s;
}

static enum apr_choice choice_at(const struct apr_meta *meta, const char *gguf, const char *apr)
{
    const struct apr_value *v = find(meta, gguf, apr);
    return v == NULL || v->type != APR_META_BOOL ? APR_UNSAID : v->b ? APR_YES : APR_NO;
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

/* One score, or one type, for each token by its id; more are none's. */
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

/* What stands between: "tokenizer.ggml.bos_token_id" -> "bos". Empty when the key is no such. */
static struct apr_bytes within(struct apr_bytes key, const char *before, const char *after)
{
    const size_t n = strlen(before), tail = strlen(after);
    if (key.n <= n + tail || memcmp(key.at, before, n) != 0 || memcmp(key.at + key.n - tail, after, tail) != 0)
        return (struct apr_bytes){ 0 };
    return (struct apr_bytes){ key.at + n, key.n - n - tail };
}

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

static void take_flags(struct apr_vocabulary *v, const struct apr_meta *meta)
{
    const struct apr_value *charsmap = apr_meta_find(meta, "tokenizer.ggml.precompiled_charsmap");
    v->add_bos = choice_at(meta, "tokenizer.ggml.add_bos_token", "tokenizer.add_bos_token");
    v->add_eos = choice_at(meta, "tokenizer.ggml.add_eos_token", "tokenizer.add_eos_token");
    v->add_sep = choice_at(meta, "tokenizer.ggml.add_sep_token", "tokenizer.add_sep_token");
    v->add_space_prefix = choice_at(meta, "tokenizer.ggml.add_space_prefix", "tokenizer.add_space_prefix");
    v->remove_extra_whitespaces = choice_at(meta, "tokenizer.ggml.remove_extra_whitespaces", "tokenizer.remove_extra_whitespaces");
    v->lowercase = choice_at(meta, "tokenizer.ggml.normalizer.lowercase", "tokenizer.normalizer.lowercase");
    v->strip_accents = choice_at(meta, "tokenizer.ggml.normalizer.strip_accents", "tokenizer.normalizer.strip_accents");
    if (charsmap != NULL && charsmap->type == APR_META_ARRAY && apr_meta_width(charsmap->element) == 1)
        v->charsmap = charsmap->text;
}

enum apr_code apr_read_metadata(struct apr_vocabulary *v, const struct apr_meta *meta, struct apr_error *e)
{
    static const char *const models[] = { "tokenizer.ggml.model", "tokenizer.model", "tokenizer.model_type" };
    static const char *const pres[] = { "tokenizer.ggml.pre", "tokenizer.pre_type" };
    static const char *const chats[] = { "tokenizer.chat_template", "chat_template" };
    const struct apr_value *tokens = find_array(meta, "tokenizer.ggml.tokens", "tokenizer.vocabulary");
    const struct apr_value *merges = find_array(meta, "tokenizer.ggml.merges", "tokenizer.merges");
    const struct apr_value *scores = find_array(meta, "tokenizer.ggml.scores", "tokenizer.scores");
    const struct apr_value *types = find_array(meta, "tokenizer.ggml.token_type", "tokenizer.token_type");
    const struct apr_bytes chat = first_string(meta, chats, APR_LENGTH(chats));
    v->model = first_string(meta, models, APR_LENGTH(models));
    v->pre = first_string(meta, pres, APR_LENGTH(pres));
    v->kind = kind_of(v->model);
    v->found = tokens != NULL || v->model.n > 0;
    v->from = v->found ? APR_FROM_METADATA : APR_FROM_NOTHING;
    v->has_scores = scores != NULL;
    v->has_types = types != NULL;
    take_flags(v, meta);
    if (chat.n > 0)
        APR_TRY(apr_put_template(v, apr_text("default"), chat, e));
    for (size_t i = 0; i < meta->n; i++)
        APR_TRY(take_entry(v, &meta->entry[i], e));
    if (tokens != NULL)
        APR_TRY(take_tokens(v, tokens, e));
    if (scores != NULL)
        APR_TRY(take_numbers(v, scores, true, e));
    if (types != NULL)
        APR_TRY(take_numbers(v, types, false, e));
    return merges == NULL ? APR_OK : take_merges(v, merges, e);
}
