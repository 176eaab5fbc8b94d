/* The keys of a GGUF that is not at hand: out of gguf.kv, or out of the flat keys of an APR. */
#include "token/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "model/format.h"
#include "model/json.h"
#include "model/meta.h"

static bool is_ours(struct apr_bytes key)
{
    static const char before[] = "tokenizer.";
    return (key.n > sizeof before - 1 && memcmp(key.at, before, sizeof before - 1) == 0) || apr_bytes_is(key, APR_CARRIED_TOKENIZER) ||
           apr_bytes_is(key, APR_CARRIED_CONFIG) || apr_bytes_is(key, APR_CARRIED_MAP);
}

static enum apr_code copy_keys(struct apr_draft *d, const struct apr_meta *meta, struct apr_error *e)
{
    for (size_t i = 0; i < meta->n; i++)
        if (is_ours(meta->entry[i].key))
            APR_TRY(apr_draft_put(d, meta->entry[i].key, &meta->entry[i].value, e));
    return APR_OK;
}

/* ---- gguf.kv --------------------------------------------------------------------------------------------------------- */

/* What is restored.
 *   scratch  memory of what is read on the way; key: the one under way */
struct restoring {
    struct apr_draft      *d;
    const struct apr_meta *meta;
    bool                   words; /* no arrays */
    struct apr_vocabulary  scratch;
    struct apr_bytes       key;
    struct apr_error      *e;
};

static const struct {
    const char        *word;
    enum apr_meta_type type;
} types[] = {
    { "u8", APR_META_U8 },     { "i8", APR_META_I8 },   { "u16", APR_META_U16 }, { "i16", APR_META_I16 },   { "u32", APR_META_U32 },
    { "i32", APR_META_I32 },   { "u64", APR_META_U64 }, { "i64", APR_META_I64 }, { "f32", APR_META_F32 },   { "f64", APR_META_F64 },
    { "bool", APR_META_BOOL }, { "str", APR_META_STRING },
};

static bool type_called(struct apr_bytes word, enum apr_meta_type *type)
{
    for (size_t i = 0; i < APR_LENGTH(types); i++)
        if (apr_bytes_is(word, types[i].word)) {
            *type = types[i].type;
            return true;
        }
    return false;
}

static enum apr_code broken(const struct restoring *r)
{
    return apr_fail(r->e, APR_ECORRUPT, APR_NOWHERE, "gguf.kv: key %s is no value of the type that it names", APR_QUOTED(r->key));
}

/* A text, or {"base64": "..."} for one that is no UTF-8. */
static enum apr_code text_at(struct restoring *r, const struct apr_value *v, struct apr_bytes *out)
{
    struct apr_member m[] = { { .key = "base64" } };
    *out = v->text;
    if (v->type == APR_META_STRING)
        return APR_OK;
    APR_TRY(apr_take_members(&r->scratch, v, m, 1, r->e));
    if (v->type == APR_META_OBJECT && m[0].value.type == APR_META_STRING && apr_base64_decode(&r->scratch.arena, m[0].value.text, out))
        return APR_OK;
    return broken(r);
}

/* JSON's integer is of 64 bits with its sign; as GGUF has it, of that type. */
static bool scalar(const struct apr_value *v, enum apr_meta_type type, struct apr_value *out)
{
    const bool number = v->type == APR_META_U64 || v->type == APR_META_I64 || v->type == APR_META_F64;
    *out = (struct apr_value){ .type = type };
    if (type == APR_META_BOOL) {
        out->b = v->b;
        return v->type == APR_META_BOOL;
    }
    if (type == APR_META_F32 || type == APR_META_F64)
        out->f = apr_number(v);
    else
        out->i = v->i;
    return number && (type == APR_META_F32 || type == APR_META_F64 || v->type != APR_META_F64);
}

static enum apr_code add(struct restoring *r, struct apr_array *a, const struct apr_value *v)
{
    struct apr_value one;
    struct apr_bytes text;
    if (a->element == APR_META_STRING) {
        APR_TRY(text_at(r, v, &text));
        apr_array_text(a, text);
        return APR_OK;
    }
    if (!scalar(v, a->element, &one))
        return broken(r);
    if (a->element == APR_META_F32 || a->element == APR_META_F64)
        apr_array_real(a, one.f);
    else
        apr_array_integer(a, a->element == APR_META_BOOL ? one.b : one.u);
    return APR_OK;
}

/* A JSON array as one of GGUF's; len: how many there must be, or UINT64_MAX. */
static enum apr_code put_array(struct restoring *r, const struct apr_value *array, enum apr_meta_type element, uint64_t len)
{
    char key[256];
    struct apr_walk w;
    struct apr_item item;
    struct apr_array a = { .element = element };
    bool more = true;
    enum apr_code code = APR_OK;
    snprintf(key, sizeof key, "%.*s", APR_PRINTED(r->key));
    if (array->type != APR_META_ARRAY || array->encoding != APR_JSON || r->key.n >= sizeof key)
        return broken(r);
    APR_TRY(apr_walk_in(&w, array->text, 0, '[', r->e));
    while (code == APR_OK) {
        struct apr_value v;
        code = apr_walk_next(&w, &item, &more, r->e);
        if (code != APR_OK || !more)
            break;
        code = apr_json_checked(&r->scratch.arena, item.value, 0, &v, r->e);
        if (code == APR_OK)
            code = add(r, &a, &v);
    }
    if (code == APR_OK && len != UINT64_MAX && a.n != len)
        code = apr_fail(r->e, APR_ECORRUPT, APR_NOWHERE, "gguf.kv: key %s is said to have %llu elements, and there are %llu",
                        APR_QUOTED(r->key), (unsigned long long)len, (unsigned long long)a.n);
    if (code == APR_OK)
        code = apr_draft_array(r->d, key, &a, r->e);
    apr_array_drop(&a);
    return code;
}

/* {"t": "custom", "custom": "tokenizer.vocabulary", "len": n}: the flat key of that name. */
static enum apr_code put_reference(struct restoring *r, const struct apr_value *name, const struct apr_value *len)
{
    static const struct {
        const char        *key;
        enum apr_meta_type element;
    } lists[] = { { "tokenizer.vocabulary", APR_META_STRING }, { "tokenizer.merges", APR_META_STRING },
                  { "tokenizer.scores", APR_META_F32 },        { "tokenizer.token_type", APR_META_I32 } };
    for (size_t i = 0; i < APR_LENGTH(lists) && name->type == APR_META_STRING; i++) {
        const struct apr_value *const list = apr_bytes_is(name->text, lists[i].key) ? apr_meta_find(r->meta, lists[i].key) : NULL;
        if (list != NULL)
            return put_array(r, list, lists[i].element, len->type == APR_META_U64 ? len->u : UINT64_MAX);
    }
    return apr_fail(r->e, APR_ECORRUPT, APR_NOWHERE, "gguf.kv: key %s stands under another that is not there: %s", APR_QUOTED(r->key),
                    APR_QUOTED(name->text));
}

static enum apr_code restore(struct restoring *r, const struct apr_value *typed)
{
    enum { T, V, CUSTOM, LEN, N };
    struct apr_member m[N] = { { .key = "t" }, { .key = "v" }, { .key = "custom" }, { .key = "len" } };
    enum apr_meta_type type;
    struct apr_value out;
    APR_TRY(apr_take_members(&r->scratch, typed, m, N, r->e));
    const struct apr_bytes t = m[T].value.type == APR_META_STRING ? m[T].value.text : (struct apr_bytes){ 0 };
    if (r->words && (apr_bytes_is(t, "custom") || apr_bytes_have(t, "arr_")))
        return APR_OK;
    if (apr_bytes_is(t, "custom"))
        return put_reference(r, &m[CUSTOM].value, &m[LEN].value);
    if (t.n > 4 && memcmp(t.at, "arr_", 4) == 0 && type_called((struct apr_bytes){ t.at + 4, t.n - 4 }, &type))
        return put_array(r, &m[V].value, type, UINT64_MAX);
    if (!type_called(t, &type))
        return broken(r);
    if (type == APR_META_STRING) {
        out = (struct apr_value){ .type = type };
        APR_TRY(text_at(r, &m[V].value, &out.text));
        out.text = apr_arena_copy(&r->d->arena, out.text);
        return out.text.at == NULL ? apr_no_memory(r->e) : apr_draft_put(r->d, r->key, &out, r->e);
    }
    return scalar(&m[V].value, type, &out) ? apr_draft_put(r->d, r->key, &out, r->e) : broken(r);
}

static enum apr_code restore_all(struct restoring *r, const struct apr_value *kv)
{
    struct apr_walk w;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&w, kv->text, 0, '{', r->e));
    for (;;) {
        struct apr_value typed;
        APR_TRY(apr_walk_next(&w, &item, &more, r->e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_text(&r->scratch.arena, item.key, item.key_at, &r->key, r->e));
        if (!is_ours(r->key))
            continue;
        APR_TRY(apr_json_checked(&r->scratch.arena, item.value, item.value_at, &typed, r->e));
        APR_TRY(restore(r, &typed));
    }
}

enum apr_code apr_restore_words(struct apr_draft *d, const struct apr_value *kv, struct apr_error *e)
{
    struct restoring r = { .d = d, .meta = &d->meta, .words = true, .e = e };
    const enum apr_code code = restore_all(&r, kv);
    apr_vocabulary_end(&r.scratch);
    return code;
}

/* ---- flat keys ------------------------------------------------------------------------------------------------------- */

const char *apr_special_key(enum apr_special_role role)
{
    static const char *const word[APR_NROLES] = {
        [APR_BOS] = "bos",         [APR_EOS] = "eos",         [APR_UNK] = "unknown",     [APR_SEP] = "seperator",
        [APR_PAD] = "padding",     [APR_MASK] = "mask",       [APR_EOT] = "eot",         [APR_EOM] = "eom",
        [APR_FIM_PRE] = "fim_pre", [APR_FIM_SUF] = "fim_suf", [APR_FIM_MID] = "fim_mid", [APR_FIM_PAD] = "fim_pad",
        [APR_FIM_REP] = "fim_rep", [APR_FIM_SEP] = "fim_sep",
    };
    return role < APR_NROLES ? word[role] : NULL;
}

static bool is_byte(struct apr_bytes t) { return t.n == 6 && memcmp(t.at, "<0x", 3) == 0 && t.at[5] == '>'; }

/* A SentencePiece vocabulary has tokens for bytes, whatever it is called. */
static enum apr_vocabulary_kind kind_of(const struct apr_vocabulary *v)
{
    if (v->kind != APR_VOCABULARY_BPE)
        return v->kind == APR_VOCABULARY_NONE ? APR_VOCABULARY_BPE : v->kind;
    unsigned bytes = 0;
    for (size_t i = 0; i < v->ntoken; i++)
        bytes += is_byte(v->token[i].text);
    return bytes >= 256 ? APR_VOCABULARY_SPM : APR_VOCABULARY_BPE;
}

static enum apr_token_type guessed_type(const struct apr_vocabulary *v, const struct apr_token *t, bool spm)
{
    if (spm && is_byte(t->text))
        return APR_TOKEN_BYTE;
    for (size_t i = 0; i < v->nspecial; i++)
        if (v->special[i].id == t->id)
            return v->special[i].role == APR_UNK ? APR_TOKEN_UNKNOWN : APR_TOKEN_CONTROL;
    return t->text.n > 4 && memcmp(t->text.at, "<|", 2) == 0 && memcmp(t->text.at + t->text.n - 2, "|>", 2) == 0 ? APR_TOKEN_CONTROL
                                                                                                                   : APR_TOKEN_NORMAL;
}

/* "##ing" -> "ing", "in" -> U+2581 "in"; what is special stays. */
static struct apr_bytes word_text(struct apr_arena **a, struct apr_bytes text)
{
    if (text.n >= 2 && memcmp(text.at, "##", 2) == 0)
        return (struct apr_bytes){ text.at + 2, text.n - 2 };
    unsigned char *const own = apr_arena_alloc(a, text.n + 3);
    if (own == NULL)
        return (struct apr_bytes){ 0 };
    memcpy(own, "\u2581", 3);
    memcpy(own + 3, text.at, text.n);
    return (struct apr_bytes){ own, text.n + 3 };
}

/* spelled: as HuggingFace spells them. n: how many, padding at the end. */
static enum apr_code put_tokens(struct apr_draft *d, struct apr_vocabulary *v, enum apr_vocabulary_kind kind, uint64_t n, bool spelled,
                                struct apr_error *e)
{
    struct apr_array texts = { .element = APR_META_STRING }, scores = { .element = APR_META_F32 }, kinds = { .element = APR_META_I32 };
    const bool spm = kind == APR_VOCABULARY_SPM, scored = spm || kind == APR_VOCABULARY_UNIGRAM;
    enum apr_code code = APR_OK;
    for (uint64_t i = 0; i < n; i++) {
        const struct apr_token *const t = apr_vocabulary_token(v, i);
        struct apr_bytes text = t != NULL ? t->text : apr_arena_format(&v->arena, "[PAD%llu]", (unsigned long long)i);
        const enum apr_token_type type = t == NULL     ? APR_TOKEN_UNUSED
                                         : v->has_types ? (enum apr_token_type)t->type
                                                        : guessed_type(v, t, spm);
        if (kind == APR_VOCABULARY_WORDPIECE && spelled && type != APR_TOKEN_CONTROL && type != APR_TOKEN_UNKNOWN)
            text = word_text(&v->arena, text);
        texts.lost = texts.lost || text.at == NULL;
        apr_array_text(&texts, text);
        apr_array_real(&scores, t == NULL ? -10000 : v->has_scores ? (double)t->score : -(double)i);
        apr_array_integer(&kinds, type);
    }
    code = apr_draft_array(d, "tokenizer.ggml.tokens", &texts, e);
    if (code == APR_OK && scored)
        code = apr_draft_array(d, "tokenizer.ggml.scores", &scores, e);
    if (code == APR_OK)
        code = apr_draft_array(d, "tokenizer.ggml.token_type", &kinds, e);
    apr_array_drop(&texts);
    apr_array_drop(&scores);
    apr_array_drop(&kinds);
    return code;
}

static enum apr_code put_merges(struct apr_draft *d, struct apr_vocabulary *v, struct apr_error *e)
{
    struct apr_array merges = { .element = APR_META_STRING };
    unsigned char *line = NULL;
    size_t room = 0;
    for (size_t i = 0; i < v->nmerge; i++) {
        const struct apr_bytes a = v->merge[i].left, b = v->merge[i].right;
        if (a.n + b.n + 1 > room) {
            room = 2 * (a.n + b.n + 1);
            line = apr_arena_alloc(&v->arena, room);
        }
        if (line == NULL) {
            apr_array_drop(&merges);
            return apr_no_memory(e);
        }
        memcpy(line, a.at, a.n);
        line[a.n] = ' ';
        memcpy(line + a.n + 1, b.at, b.n);
        apr_array_text(&merges, (struct apr_bytes){ line, a.n + b.n + 1 });
    }
    return merges.n == 0 ? APR_OK : apr_draft_array(d, "tokenizer.ggml.merges", &merges, e);
}

static enum apr_code put_flag(struct apr_draft *d, const char *key, enum apr_choice choice, struct apr_error *e)
{
    return choice == APR_UNSAID ? APR_OK : apr_draft_bool(d, key, choice == APR_YES, e);
}

static enum apr_code put_words(struct apr_draft *d, const struct apr_vocabulary *v, struct apr_error *e)
{
    for (size_t i = 0; i < v->nspecial; i++) {
        char key[64];
        const char *const word = apr_special_key(v->special[i].role);
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", word == NULL ? "" : word);
        if (word != NULL && v->special[i].id <= UINT32_MAX && apr_draft_find(d, apr_text(key)) == NULL)
            APR_TRY(apr_draft_u32(d, key, (uint32_t)v->special[i].id, e));
    }
    APR_TRY(put_flag(d, "tokenizer.ggml.add_bos_token", v->add_bos, e));
    APR_TRY(put_flag(d, "tokenizer.ggml.add_eos_token", v->add_eos, e));
    APR_TRY(put_flag(d, "tokenizer.ggml.add_sep_token", v->add_sep, e));
    APR_TRY(put_flag(d, "tokenizer.ggml.add_space_prefix", v->add_space_prefix, e));
    const struct apr_bytes chat = apr_vocabulary_chat(v, "default");
    return chat.n == 0 ? APR_OK : apr_draft_text(d, "tokenizer.chat_template", chat, e);
}

static enum apr_code put_flat(struct apr_draft *d, struct apr_tokenizer *t, struct apr_vocabulary *v, struct apr_error *e)
{
    static const char *const models[] = {
        [APR_VOCABULARY_BPE] = "gpt2", [APR_VOCABULARY_SPM] = "llama", [APR_VOCABULARY_UNIGRAM] = "t5", [APR_VOCABULARY_WORDPIECE] = "bert",
    };
    static const char *const pres[] = { [APR_VOCABULARY_BPE] = "gpt-2", [APR_VOCABULARY_SPM] = "default",
                                        [APR_VOCABULARY_UNIGRAM] = "default", [APR_VOCABULARY_WORDPIECE] = "jina-v2-en" };
    const enum apr_vocabulary_kind kind = kind_of(v);
    const bool spelled = apr_meta_string(&t->m->meta, "tokenizer.model").n == 0;
    const uint64_t n = t->rows > v->size ? t->rows : v->size;
    if (v->ntoken == 0)
        return APR_OK;
    if (kind >= APR_LENGTH(models) || n > APR_MOST_TOKENS || (t->rows != 0 && v->size > t->rows))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "a tokenizer of %llu tokens, %s, for an embedding of %llu rows (--tokenizer DIR takes "
                        "that of DIR)", (unsigned long long)v->size, APR_QUOTED(v->model), (unsigned long long)t->rows);
    t->unknown_pre = kind == APR_VOCABULARY_BPE && v->pre.n == 0;
    const struct apr_bytes pre = v->pre.n > 0 ? v->pre : apr_text(pres[kind]);
    APR_TRY(apr_draft_text(d, "tokenizer.ggml.model", apr_text(models[kind]), e));
    APR_TRY(apr_draft_text(d, "tokenizer.ggml.pre", pre, e));
    APR_TRY(put_tokens(d, v, kind, n, spelled, e));
    if (kind == APR_VOCABULARY_BPE)
        APR_TRY(put_merges(d, v, e));
    return put_words(d, v, e);
}

enum apr_code apr_gguf_keys_of(struct apr_draft *d, struct apr_tokenizer *t, struct apr_error *e)
{
    const struct apr_meta *const meta = &t->m->meta;
    const struct apr_value *const kv = apr_meta_find(meta, "gguf.kv");
    const size_t before = d->meta.n;
    if (t->m->format->own_names)
        return copy_keys(d, meta, e);
    if (kv != NULL && kv->type == APR_META_OBJECT) {
        struct restoring r = { .d = d, .meta = meta, .e = e };
        const enum apr_code code = restore_all(&r, kv);
        apr_vocabulary_end(&r.scratch);
        if (code != APR_OK)
            return code;
    }
    if (d->meta.n > before)
        return APR_OK;
    struct apr_vocabulary v = { 0 };
    enum apr_code code = apr_read_metadata(&v, meta, e);
    if (code == APR_OK)
        code = put_flat(d, t, &v, e);
    apr_vocabulary_end(&v);
    return code;
}
