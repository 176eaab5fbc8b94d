/* tokenizer.json and the JSON files beside it. */
#include "token/vocabulary_read.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "model/json.h"

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* Everything is checked once: scalars by who takes them, arrays and objects by who walks them, and the others as a whole.
 *   inner    '[' or '{': who walks this walks those within it; '*': checks them as it likes; else 0
 *   key      decoded; spelled: the value as it stands */
struct walk {
    struct apr_vocabulary *v;
    struct apr_walk        json;
    char                   inner;
    bool                   more;
    struct apr_bytes       key, spelled;
    struct apr_value       value;
};

/* Where in the file it stands. */
static uint64_t place(const struct apr_vocabulary *v, struct apr_bytes text)
{
    return v->reading.at == NULL ? 0 : (uint64_t)(text.at - v->reading.at);
}

static bool is_container(const struct apr_value *v) { return v->type == APR_META_ARRAY || v->type == APR_META_OBJECT; }

static enum apr_code check(const struct apr_vocabulary *v, const struct apr_value *value, struct apr_error *e)
{
    return is_container(value) ? apr_json_check(value->text, place(v, value->text), e) : APR_OK;
}

/* Starts on an array or object; a value that is neither has no elements. */
static enum apr_code walk_in(struct walk *w, struct apr_vocabulary *v, const struct apr_value *container, char inner, struct apr_error *e)
{
    *w = (struct walk){ .v = v, .inner = inner, .more = is_container(container) };
    if (!w->more)
        return APR_OK;
    return apr_walk_in(&w->json, container->text, place(v, container->text), container->type == APR_META_OBJECT ? '{' : '[', e);
}

static enum apr_code walk_next(struct walk *w, struct apr_error *e)
{
    struct apr_item item;
    if (!w->more)
        return APR_OK;
    APR_TRY(apr_walk_next(&w->json, &item, &w->more, e));
    if (!w->more)
        return apr_walk_end(&w->json, e);
    if (w->json.close == '}')
        APR_TRY(apr_json_text(&w->v->arena, item.key, item.key_at, &w->key, e));
    w->spelled = item.value;
    APR_TRY(apr_json_checked(&w->v->arena, item.value, item.value_at, &w->value, e));
    return w->inner == '*' || item.value.at[0] == w->inner ? APR_OK : check(w->v, &w->value, e);
}

static const struct kind_of_member {
    char               letter;
    enum apr_meta_type type;
    const char        *word;
} kinds_of_members[] = { { 's', APR_META_STRING, "string" }, { 'b', APR_META_BOOL, "boolean" },   { 'u', APR_META_U64, "count" },
                         { '[', APR_META_ARRAY, "list" },    { '{', APR_META_OBJECT, "object" } };

/* spelled: as it stands; empty where it is not there. */
static void question(struct apr_vocabulary *v, const struct apr_member *m, struct apr_bytes spelled)
{
    const struct kind_of_member *kind = kinds_of_members;
    if (m->must == NULL || (m->value.type == APR_META_NULL && strchr(m->must, 'n') != NULL) ||
        (m->value.type == APR_META_ANY && strchr(m->must, '!') == NULL))
        return;
    while (kind->letter != m->must[0])
        kind++;
    if (m->value.type != kind->type)
        apr_put_odd(v, m->key, kind->word, spelled);
}

/* Those that are not there. */
static void question_absent(struct apr_vocabulary *v, const struct apr_member *member, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (member[i].value.type == APR_META_ANY)
            question(v, &member[i], (struct apr_bytes){ 0 });
}

enum apr_code apr_take_members(struct apr_vocabulary *v, const struct apr_value *object, struct apr_member *member, size_t n,
                               struct apr_error *e)
{
    struct walk w;
    for (size_t i = 0; i < n; i++)
        member[i].value = (struct apr_value){ .type = APR_META_ANY };
    if (object->type != APR_META_OBJECT) {
        question_absent(v, member, n);
        return check(v, object, e);
    }
    APR_TRY(walk_in(&w, v, object, '*', e));
    for (;;) {
        APR_TRY(walk_next(&w, e));
        if (!w.more)
            break;
        size_t i = 0;
        while (i < n && !apr_bytes_is(w.key, member[i].key))
            i++;
        if (i < n) {
            member[i].value = w.value;
            question(v, &member[i], w.spelled);
        }
        if (i == n || !member[i].walked)
            APR_TRY(check(v, &w.value, e));
    }
    question_absent(v, member, n);
    return APR_OK;
}

static bool is_true(const struct apr_value *v) { return v->type == APR_META_BOOL && v->b; }

static bool is_string(const struct apr_value *v) { return v->type == APR_META_STRING; }

static bool is_number(const struct apr_value *v)
{
    return v->type == APR_META_U64 || v->type == APR_META_I64 || v->type == APR_META_F64;
}

static struct apr_bytes text_of(const struct apr_value *v) { return is_string(v) ? v->text : (struct apr_bytes){ 0 }; }

/* An object as it is spelled. */
static struct apr_bytes spelling_of(const struct apr_value *v) { return v->type == APR_META_OBJECT ? v->text : (struct apr_bytes){ 0 }; }

/* The file as an object that is yet to be walked. */
static enum apr_code begin_object(struct apr_vocabulary *v, struct apr_bytes text, struct apr_value *object, struct apr_error *e)
{
    v->reading = text;
    while (text.n > 0 && memchr(" \t\r\n", text.at[0], 4) != NULL)
        text = (struct apr_bytes){ text.at + 1, text.n - 1 };
    *object = (struct apr_value){ .type = APR_META_OBJECT, .encoding = APR_JSON, .text = text };
    return text.n > 0 && text.at[0] == '{' ? APR_OK : apr_fail(e, APR_ECORRUPT, place(v, text), "is no JSON object");
}

enum apr_code apr_take_object(struct apr_vocabulary *v, struct apr_bytes text, struct apr_value *object, struct apr_error *e)
{
    enum apr_code code = begin_object(v, text, object, e);
    if (code == APR_OK)
        code = check(v, object, e);
    return apr_found(code, e, "vocab.syntax");
}

/* ---- the model's own tokens ------------------------------------------------------------------------------------------ */

/* {"token": id, ...} */
static enum apr_code take_words(struct apr_vocabulary *v, const struct apr_value *vocabulary, bool bytes, struct apr_error *e)
{
    struct walk w;
    APR_TRY(walk_in(&w, v, vocabulary, 0, e));
    for (;;) {
        APR_TRY(walk_next(&w, e));
        if (!w.more)
            return APR_OK;
        v->faults.listed++;
        const bool byte = bytes && w.key.n == 6 && memcmp(w.key.at, "<0x", 3) == 0 && w.key.at[5] == '>';
        const uint64_t id = w.value.type == APR_META_U64 ? w.value.u : UINT64_MAX;
        APR_TRY(apr_put_keyed(v, w.key, id, byte ? APR_TOKEN_BYTE : APR_TOKEN_NORMAL, e));
    }
}

/* ["token", score] */
static enum apr_code take_piece(struct apr_vocabulary *v, const struct apr_value *pair, uint64_t id, struct apr_error *e)
{
    struct walk w;
    struct apr_value text = { .type = APR_META_ANY }, score = { .type = APR_META_ANY };
    size_t n = 0;
    APR_TRY(walk_in(&w, v, pair, 0, e));
    while (w.more) {
        APR_TRY(walk_next(&w, e));
        if (w.more && n < 2)
            *(n == 0 ? &text : &score) = w.value;
        n += w.more;
    }
    const bool sound = pair->type == APR_META_ARRAY && n == 2 && is_string(&text) && is_number(&score);
    return apr_put_token(v, text_of(&text), sound ? id : UINT64_MAX, APR_TOKEN_NORMAL, apr_number(&score), e);
}

/* [["token", score], ...] by id */
static enum apr_code take_pieces(struct apr_vocabulary *v, const struct apr_value *vocabulary, struct apr_error *e)
{
    struct walk w;
    APR_TRY(walk_in(&w, v, vocabulary, '[', e));
    v->has_scores = true;
    for (;; v->faults.listed++) {
        APR_TRY(walk_next(&w, e));
        if (!w.more)
            return APR_OK;
        APR_TRY(take_piece(v, &w.value, v->faults.listed, e));
    }
}

/* ["left", "right"] */
static enum apr_code take_pair(struct apr_vocabulary *v, const struct walk *merge, struct apr_error *e)
{
    struct walk w;
    struct apr_bytes part[2] = { { 0 } };
    size_t n = 0;
    APR_TRY(walk_in(&w, v, &merge->value, 0, e));
    for (;; n++) {
        APR_TRY(walk_next(&w, e));
        if (!w.more)
            break;
        if (n < 2)
            part[n] = text_of(&w.value);
    }
    if (n == 2 && part[0].n > 0 && part[1].n > 0)
        return apr_put_merge(v, part[0], part[1], e);
    apr_put_bad_merge(v, merge->spelled);
    return APR_OK;
}

enum apr_code apr_take_merges(struct apr_vocabulary *v, const struct apr_value *merges, struct apr_error *e)
{
    struct walk w;
    if (merges->type != APR_META_ARRAY)
        return check(v, merges, e);
    APR_TRY(walk_in(&w, v, merges, '[', e));
    for (;;) {
        APR_TRY(walk_next(&w, e));
        if (!w.more)
            return APR_OK;
        if (w.value.type == APR_META_ARRAY)
            APR_TRY(take_pair(v, &w, e));
        else if (is_string(&w.value))
            APR_TRY(apr_put_spelled_merge(v, w.value.text, e));
        else
            apr_put_bad_merge(v, w.spelled);
    }
}

/* ---- tokens that are added ------------------------------------------------------------------------------------------- */

enum { ID, CONTENT, SPECIAL, SINGLE_WORD, LSTRIP, RSTRIP, NORMALIZED, NADDED };

/* {"id": 0, "content": "<s>", "special": true, ...}; `id` where it stands outside. */
static enum apr_code take_added(struct apr_vocabulary *v, const struct apr_value *token, uint64_t id, struct apr_error *e)
{
    static const unsigned flag[NADDED] = {
        [SPECIAL] = APR_TOKEN_SPECIAL, [SINGLE_WORD] = APR_TOKEN_SINGLE_WORD, [LSTRIP] = APR_TOKEN_LSTRIP, [RSTRIP] = APR_TOKEN_RSTRIP,
        [NORMALIZED] = APR_TOKEN_NORMALIZED,
    };
    struct apr_member m[] = { { .key = "id", .must = "u" },          { .key = "content", .must = "s!" },
                              { .key = "special", .must = "b" },     { .key = "single_word", .must = "b" },
                              { .key = "lstrip", .must = "b" },      { .key = "rstrip", .must = "b" },
                              { .key = "normalized", .must = "b" } };
    unsigned flags = 0;
    APR_TRY(apr_take_members(v, token, m, NADDED, e));
    if (m[ID].value.type == APR_META_U64)
        id = m[ID].value.u;
    if (!is_string(&m[CONTENT].value))
        return APR_OK;
    for (size_t i = SPECIAL; i < NADDED; i++)
        flags |= is_true(&m[i].value) ? flag[i] : 0;
    return apr_put_added(v, m[CONTENT].value.text, id, flags, e);
}

static enum apr_code take_added_list(struct apr_vocabulary *v, const struct apr_value *list, struct apr_error *e)
{
    struct walk w;
    if (list->type != APR_META_ARRAY)
        return check(v, list, e);
    APR_TRY(walk_in(&w, v, list, '{', e));
    for (;;) {
        APR_TRY(walk_next(&w, e));
        if (!w.more)
            return APR_OK;
        APR_TRY(take_added(v, &w.value, UINT64_MAX, e));
    }
}

enum apr_code apr_read_added_tokens(struct apr_vocabulary *v, const struct apr_value *object, struct apr_error *e)
{
    struct walk w;
    if (object->type != APR_META_OBJECT)
        return APR_OK;
    APR_TRY(walk_in(&w, v, object, '{', e));
    for (;;) {
        uint64_t id;
        APR_TRY(walk_next(&w, e));
        if (!w.more)
            return APR_OK;
        if (w.value.type == APR_META_U64)
            APR_TRY(apr_put_added(v, w.key, w.value.u, APR_TOKEN_BARE, e));
        else if (w.value.type == APR_META_OBJECT && apr_json_plain(w.key, &id))
            APR_TRY(take_added(v, &w.value, id, e));
    }
}

/* ---- tokenizer.json -------------------------------------------------------------------------------------------------- */

static enum apr_vocabulary_kind kind_of(struct apr_bytes type, enum apr_meta_type vocabulary, bool merges, bool bytes)
{
    if (apr_bytes_is(type, "BPE") || (type.n == 0 && merges))
        return bytes ? APR_VOCABULARY_SPM : APR_VOCABULARY_BPE;
    if (apr_bytes_is(type, "Unigram") || (type.n == 0 && vocabulary == APR_META_ARRAY))
        return APR_VOCABULARY_UNIGRAM;
    return apr_bytes_is(type, "WordPiece") ? APR_VOCABULARY_WORDPIECE : APR_VOCABULARY_OTHER;
}

/* The token for what is unknown: "unk_token" of most models, "unk_id" of a Unigram. */
static enum apr_code take_unknown(struct apr_vocabulary *v, const struct apr_value *text, const struct apr_value *id, struct apr_error *e)
{
    const struct apr_token *t = is_string(text) ? apr_vocabulary_find(v, text->text) : NULL;
    if (t == NULL && id->type != APR_META_U64)
        return APR_OK;
    return apr_put_special(v, apr_text("unk"), t != NULL ? t->id : id->u, true, e);
}

enum { TYPE, VOCAB, MERGES, BYTE_FALLBACK, IGNORE_MERGES, FUSE_UNK, PREFIX, SUFFIX, UNK_TOKEN, UNK_ID, LONGEST_WORD, NMODEL };

static enum apr_code take_model(struct apr_vocabulary *v, const struct apr_member *m, struct apr_error *e)
{
    const struct apr_value *vocabulary = &m[VOCAB].value;
    v->model = text_of(&m[TYPE].value);
    v->byte_fallback = is_true(&m[BYTE_FALLBACK].value);
    v->ignore_merges = is_true(&m[IGNORE_MERGES].value);
    v->fuse_unk = is_true(&m[FUSE_UNK].value);
    v->prefix = text_of(&m[PREFIX].value);
    v->suffix = text_of(&m[SUFFIX].value);
    v->unk_token = text_of(&m[UNK_TOKEN].value);
    v->longest_word = m[LONGEST_WORD].value.type == APR_META_U64 ? m[LONGEST_WORD].value.u : 0;
    v->kind = kind_of(v->model, vocabulary->type, m[MERGES].value.type == APR_META_ARRAY, v->byte_fallback);
    if (vocabulary->type != (v->kind == APR_VOCABULARY_UNIGRAM ? APR_META_ARRAY : APR_META_OBJECT))
        apr_put_odd(v, m[VOCAB].key, v->kind == APR_VOCABULARY_UNIGRAM ? "list" : "object", vocabulary->text);
    if ((v->kind == APR_VOCABULARY_BPE || v->kind == APR_VOCABULARY_SPM) && m[MERGES].value.type != APR_META_ARRAY)
        apr_put_odd(v, m[MERGES].key, "list", m[MERGES].value.text);
    if (vocabulary->type == APR_META_OBJECT)
        APR_TRY(take_words(v, vocabulary, v->byte_fallback, e));
    else if (vocabulary->type == APR_META_ARRAY)
        APR_TRY(take_pieces(v, vocabulary, e));
    APR_TRY(apr_vocabulary_index(v, e));
    return apr_take_merges(v, &m[MERGES].value, e);
}

static enum apr_code take_tokenizer(struct apr_vocabulary *v, const struct apr_value *whole, struct apr_error *e)
{
    enum { MODEL, ADDED, NORMALIZER, PRE, POST, DECODER, NTOP };
    struct apr_member top[] = { { .key = "model", .walked = true, .must = "{!" }, { .key = "added_tokens", .walked = true, .must = "[" },
                                { .key = "normalizer", .must = "{n" },            { .key = "pre_tokenizer", .must = "{n" },
                                { .key = "post_processor", .must = "{n" },        { .key = "decoder", .must = "{n" } };
    struct apr_member m[] = { { .key = "type", .must = "s" },
                              { .key = "vocab", .walked = true },
                              { .key = "merges", .walked = true },
                              { .key = "byte_fallback", .must = "bn" },
                              { .key = "ignore_merges", .must = "bn" },
                              { .key = "fuse_unk", .must = "bn" },
                              { .key = "continuing_subword_prefix", .must = "sn" },
                              { .key = "end_of_word_suffix", .must = "sn" },
                              { .key = "unk_token", .must = "sn" },
                              { .key = "unk_id", .must = "un" },
                              { .key = "max_input_chars_per_word", .must = "un" } };
    struct apr_member pre[] = { { .key = "type" } };
    APR_TRY(apr_take_members(v, whole, top, NTOP, e));
    APR_TRY(apr_take_members(v, &top[MODEL].value, m, NMODEL, e));
    APR_TRY(apr_take_members(v, &top[PRE].value, pre, 1, e));
    v->pre = text_of(&pre[0].value);
    v->normalizer = spelling_of(&top[NORMALIZER].value);
    v->pre_tokenizer = spelling_of(&top[PRE].value);
    v->post_processor = spelling_of(&top[POST].value);
    v->decoder = spelling_of(&top[DECODER].value);
    APR_TRY(take_model(v, m, e));
    APR_TRY(take_added_list(v, &top[ADDED].value, e));
    APR_TRY(apr_order_tokens(v, e));
    APR_TRY(apr_vocabulary_index(v, e));
    return take_unknown(v, &m[UNK_TOKEN].value, &m[UNK_ID].value, e);
}

enum apr_code apr_read_tokenizer_json(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e)
{
    struct apr_value whole;
    enum apr_code code = begin_object(v, text, &whole, e);
    if (code == APR_OK)
        code = take_tokenizer(v, &whole, e);
    v->from = APR_FROM_TOKENIZER_JSON;
    v->found = true;
    return apr_found(code, e, "vocab.syntax");
}

enum apr_code apr_read_vocab_json(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e)
{
    struct apr_value whole;
    enum apr_code code = begin_object(v, text, &whole, e);
    if (code == APR_OK)
        code = take_words(v, &whole, false, e);
    if (code == APR_OK)
        code = apr_order_tokens(v, e);
    v->from = APR_FROM_VOCAB_JSON;
    v->kind = APR_VOCABULARY_BPE;
    v->model = apr_text("BPE");
    v->found = true;
    return code == APR_OK ? apr_vocabulary_index(v, e) : apr_found(code, e, "vocab.syntax");
}

/* ---- tokenizer_config.json and its like ------------------------------------------------------------------------------ */

static enum apr_choice choice_of(const struct apr_value *v, enum apr_choice before)
{
    return v->type == APR_META_BOOL ? v->b ? APR_YES : APR_NO : before;
}

/* Is there a token of that role, by its name? */
static bool is_named(const struct apr_vocabulary *v, struct apr_bytes word)
{
    for (size_t i = 0; i < v->nspecial; i++)
        if (!v->special[i].implied && apr_bytes_equal(v->special[i].word, word))
            return true;
    return false;
}

enum apr_code apr_read_roles(struct apr_vocabulary *v, const struct apr_value *config, struct apr_error *e)
{
    static const char *const role[] = { "bos", "eos", "unk", "pad", "cls", "sep", "mask" };
    struct apr_member m[] = { { .key = "bos_token" },    { .key = "eos_token" },     { .key = "unk_token" },     { .key = "pad_token" },
                              { .key = "cls_token" },    { .key = "sep_token" },     { .key = "mask_token" },    { .key = "add_bos_token" },
                              { .key = "add_eos_token" }, { .key = "add_sep_token" }, { .key = "add_prefix_space" } };
    APR_TRY(apr_take_members(v, config, m, APR_LENGTH(m), e));
    for (size_t i = 0; i < APR_LENGTH(role); i++) {
        struct apr_member content[] = { { .key = "content" } };
        APR_TRY(apr_take_members(v, &m[i].value, content, 1, e));
        const struct apr_value *text = is_string(&m[i].value) ? &m[i].value : &content[0].value;
        const struct apr_token *t = is_string(text) && text->text.n > 0 ? apr_vocabulary_find(v, text->text) : NULL;
        if (t != NULL && !is_named(v, apr_text(role[i])))
            APR_TRY(apr_put_special(v, apr_text(role[i]), t->id, false, e));
    }
    v->add_bos = choice_of(&m[7].value, v->add_bos);
    v->add_eos = choice_of(&m[8].value, v->add_eos);
    v->add_sep = choice_of(&m[9].value, v->add_sep);
    v->add_space_prefix = choice_of(&m[10].value, v->add_space_prefix);
    return APR_OK;
}

enum apr_code apr_read_templates(struct apr_vocabulary *v, const struct apr_value *templates, struct apr_error *e)
{
    struct walk w;
    if (is_string(templates))
        return apr_put_template(v, apr_text("default"), templates->text, e);
    if (templates->type != APR_META_ARRAY)
        return APR_OK;
    APR_TRY(walk_in(&w, v, templates, '{', e));
    for (;;) {
        struct apr_member m[] = { { .key = "name" }, { .key = "template" } };
        APR_TRY(walk_next(&w, e));
        if (!w.more)
            return APR_OK;
        APR_TRY(apr_take_members(v, &w.value, m, 2, e));
        if (is_string(&m[0].value) && is_string(&m[1].value))
            APR_TRY(apr_put_template(v, m[0].value.text, m[1].value.text, e));
    }
}
