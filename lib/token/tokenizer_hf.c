/* tokenizer.json and tokenizer_config.json. */
#include "token/tokenizer_hf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "model/format.h"
#include "model/json.h"
#include "model/meta.h"

/* ---- texts ----------------------------------------------------------------------------------------------------------- */

/* "[PAD7]" of token 7, or with the mark of a word before it: there to fill a GGUF. Of another token it is a text like any. */
static bool is_padding(const struct apr_token *t)
{
    struct apr_bytes s = t->text;
    char padding[32];
    if (t->type != APR_TOKEN_UNUSED)
        return false;
    if (s.n > 3 && memcmp(s.at, "\u2581", 3) == 0)
        s = (struct apr_bytes){ s.at + 3, s.n - 3 };
    snprintf(padding, sizeof padding, "[PAD%u]", (unsigned)t->id);
    return apr_bytes_is(s, padding);
}

/* WordPiece marks what goes on with a word, a GGUF what begins one. */
static bool spell_word(struct apr_arena **a, struct apr_token *t)
{
    const struct apr_bytes s = t->text;
    const bool bracketed = s.n > 2 && s.at[0] == '[' && s.at[s.n - 1] == ']';
    if (t->type == APR_TOKEN_CONTROL || t->type == APR_TOKEN_UNUSED || bracketed)
        return true;
    if (s.n >= 3 && memcmp(s.at, "\u2581", 3) == 0) {
        t->text = (struct apr_bytes){ s.at + 3, s.n - 3 };
        return true;
    }
    unsigned char *const own = apr_arena_alloc(a, s.n + 2);
    if (own == NULL)
        return false;
    memcpy(own, "##", 2);
    memcpy(own + 2, s.at, s.n);
    t->text = (struct apr_bytes){ own, s.n + 2 };
    return true;
}

enum apr_code apr_spell_words(struct apr_vocabulary *v, struct apr_error *e)
{
    for (size_t i = 0; i < v->ntoken && v->kind == APR_VOCABULARY_WORDPIECE; i++)
        if (!spell_word(&v->arena, &v->token[i]))
            return apr_no_memory(e);
    return APR_OK;
}

static void drop_padding(struct apr_vocabulary *v)
{
    size_t n = 0;
    for (size_t i = 0; i < v->ntoken; i++)
        if (!is_padding(&v->token[i]))
            v->token[n++] = v->token[i];
    v->ntoken = n;
}

/* ---- added tokens ---------------------------------------------------------------------------------------------------- */

static struct apr_token *token_of(struct apr_hf_writing *w, uint64_t id)
{
    return (struct apr_token *)(uintptr_t)apr_vocabulary_token(&w->v, id);
}

/* Those that are not normal; the model has all of them as well, so that their ids are theirs. */
static uint8_t flags_by_type(unsigned type)
{
    if (type == APR_TOKEN_CONTROL || type == APR_TOKEN_UNKNOWN)
        return APR_TOKEN_ADDED | APR_TOKEN_SPECIAL | APR_TOKEN_OWN;
    return type == APR_TOKEN_USER ? APR_TOKEN_ADDED | APR_TOKEN_OWN : 0;
}

static void add_by_types(struct apr_hf_writing *w)
{
    for (size_t i = 0; i < w->v.ntoken; i++)
        w->v.token[i].flags = flags_by_type(w->v.token[i].type);
}

/* [first, how many, flags] or [id, 1, flags, "text"]; *next: behind the last of those before, which rise. */
static enum apr_code add_run(struct apr_hf_writing *w, const struct apr_value *run, uint64_t *next)
{
    struct apr_walk walk;
    struct apr_item item;
    struct apr_value field[4] = { { .type = APR_META_ANY }, { .type = APR_META_ANY }, { .type = APR_META_ANY }, { .type = APR_META_ANY } };
    bool more = run->type == APR_META_ARRAY;
    if (more)
        APR_TRY(apr_walk_in(&walk, run->text, 0, '[', w->e));
    for (size_t i = 0; more; i++) {
        APR_TRY(apr_walk_next(&walk, &item, &more, w->e));
        if (more && i < 4)
            APR_TRY(apr_json_checked(&w->v.arena, item.value, 0, &field[i], w->e));
    }
    for (uint64_t i = 0; i < 3; i++)
        if (field[i].type != APR_META_U64)
            return APR_OK;
    if (field[0].u < *next || field[0].u >= w->v.size)
        return APR_OK; /* each token is of one run: they take no more steps than there are tokens */
    *next = field[0].u + apr_min(field[1].u, w->v.size - field[0].u);
    for (uint64_t id = field[0].u; id < *next; id++) {
        struct apr_token *const t = token_of(w, id);
        if (t == NULL)
            continue;
        t->flags = (uint8_t)(field[2].u | APR_TOKEN_ADDED);
        if (field[3].type == APR_META_STRING) {
            t->score = is_padding(t) ? 0 : t->score; /* a GGUF may lack what came along */
            t->text = field[3].text;
        }
    }
    return APR_OK;
}

static enum apr_code add_by_runs(struct apr_hf_writing *w, const struct apr_value *runs)
{
    struct apr_walk walk;
    struct apr_item item;
    bool more = true;
    uint64_t next = 0;
    for (size_t i = 0; i < w->v.ntoken; i++)
        w->v.token[i].flags = 0;
    APR_TRY(apr_walk_in(&walk, runs->text, 0, '[', w->e));
    for (;;) {
        struct apr_value run;
        APR_TRY(apr_walk_next(&walk, &item, &more, w->e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_checked(&w->v.arena, item.value, 0, &run, w->e));
        APR_TRY(add_run(w, &run, &next));
    }
}

/* What came along is heeded as far as it is of this kind of model. */
static enum apr_code read_carried(struct apr_hf_writing *w)
{
    static const char *const words[APR_VOCABULARY_OTHER + 1] = {
        [APR_VOCABULARY_BPE] = "BPE",
        [APR_VOCABULARY_SPM] = "BPE",
        [APR_VOCABULARY_UNIGRAM] = "Unigram",
        [APR_VOCABULARY_WORDPIECE] = "WordPiece",
    };
    const struct apr_value *const carried = apr_draft_find(&w->keys, apr_text(APR_CARRIED_TOKENIZER));
    struct apr_member m[] = { { .key = "model" }, { .key = "added_tokens" } }, model[] = { { .key = "type" }, { .key = "vocab" } };
    struct apr_value whole;
    if (carried == NULL || carried->type != APR_META_STRING || words[w->v.kind] == NULL)
        return APR_OK;
    APR_TRY(apr_take_object(&w->v, carried->text, &whole, w->e));
    APR_TRY(apr_take_members(&w->v, &whole, m, 2, w->e));
    APR_TRY(apr_take_members(&w->v, &m[0].value, model, 2, w->e));
    if (model[0].value.type != APR_META_STRING || !apr_bytes_is(model[0].value.text, words[w->v.kind]) || m[1].value.type != APR_META_ARRAY)
        return APR_OK;
    w->carried = carried->text;
    w->own = model[1].value.type == APR_META_U64 ? model[1].value.u : UINT64_MAX;
    return add_by_runs(w, &m[1].value);
}

/* ---- more tokens ----------------------------------------------------------------------------------------------------- */

#define LEAST_RANK (-1e8) /* below it are pieces that no merge makes */

static double lowest_rank(const struct apr_vocabulary *v)
{
    double lowest = 0;
    for (size_t i = 0; i < v->ntoken; i++)
        if (v->token[i].type == APR_TOKEN_NORMAL && v->token[i].score < lowest && v->token[i].score > LEAST_RANK)
            lowest = v->token[i].score;
    return lowest;
}

/* A model has one unknown token. */
static enum apr_code add_more(struct apr_hf_writing *w, const struct apr_more_tokens *more)
{
    struct apr_vocabulary *const v = &w->v;
    while (v->ntoken > 0 && v->token[v->ntoken - 1].id >= more->first)
        v->ntoken--;
    double rank = lowest_rank(v);
    for (size_t i = 0; i < more->ntoken; i++) {
        const struct apr_token *const t = &more->token[i];
        const unsigned type = t->type == APR_TOKEN_UNKNOWN ? APR_TOKEN_CONTROL : t->type;
        const bool ranked = v->kind == APR_VOCABULARY_SPM && type == APR_TOKEN_NORMAL;
        APR_TRY(apr_put_token(v, t->text, t->id, type, ranked ? --rank : t->score, w->e));
        v->token[v->ntoken - 1].flags = t->flags & APR_TOKEN_ADDED ? t->flags : flags_by_type(type);
        v->byte_fallback |= type == APR_TOKEN_BYTE;
    }
    for (size_t i = 0; i < more->nmerge; i++)
        APR_TRY(apr_put_merge(v, more->merge[i].left, more->merge[i].right, w->e));
    v->size = more->first + more->ntoken;
    w->own = UINT64_MAX;
    return APR_OK;
}

/* ---- files ----------------------------------------------------------------------------------------------------------- */

static enum apr_code put_file(struct apr_side *files, const char *name, struct apr_text_made *m, enum apr_code code, struct apr_error *e)
{
    struct apr_bytes text;
    struct apr_error why;
    const enum apr_code end = apr_text_end(m, &files->arena, &text, &why);
    if (code != APR_OK)
        return code;
    return end != APR_OK ? apr_no_memory(e) : apr_side_put(files, name, text, e);
}

typedef enum apr_code write_fn(struct apr_hf_writing *w);

static enum apr_code make_file(struct apr_side *files, struct apr_hf_writing *w, const char *name, write_fn *write)
{
    struct apr_text_made m;
    APR_TRY(apr_text_begin(&m, w->e));
    w->out = &m.out;
    return put_file(files, name, &m, write(w), w->e);
}

static enum apr_code make_vocabulary(struct apr_side *files, struct apr_hf_writing *w)
{
    if (w->v.ntoken == 0 || w->v.kind < APR_VOCABULARY_BPE || w->v.kind > APR_VOCABULARY_WORDPIECE)
        return APR_OK;
    if (apr_side_get(files, "tokenizer.json").at == NULL)
        APR_TRY(make_file(files, w, "tokenizer.json", apr_write_tokenizer_json));
    return w->v.kind != APR_VOCABULARY_SPM ? APR_OK : make_file(files, w, "tokenizer.model", apr_write_sentencepiece);
}

/* The templates as they stand in tokenizer_config.json: a text, or a list of named ones. */
static void write_templates(struct apr_hf_writing *w)
{
    const struct apr_vocabulary *const v = &w->v;
    const struct apr_bytes only = apr_vocabulary_chat(v, "default");
    if (v->nchat == 1 && only.n > 0) {
        apr_out_bytes(w->out, NULL, only);
        return;
    }
    apr_out_open(w->out, NULL, '[');
    for (size_t i = 0; i < v->nchat; i++) {
        apr_out_open(w->out, NULL, '{');
        apr_out_bytes(w->out, "name", v->chat[i].name);
        apr_out_bytes(w->out, "template", v->chat[i].text);
        apr_out_close(w->out, '}');
    }
    apr_out_close(w->out, ']');
}

/* Would a GGUF made of tokenizer.model have it otherwise? There a user's token is a piece like any other, and one token is unknown. */
static bool is_told(const struct apr_hf_writing *w, const struct apr_token *t)
{
    uint32_t unknown;
    if (t->type == APR_TOKEN_USER)
        return true;
    return apr_vocabulary_special(&w->v, APR_UNK, &unknown) && t->id == unknown && t->type != APR_TOKEN_UNKNOWN;
}

/* Of all added tokens, or of those that must be told. */
static void write_decoder(struct apr_hf_writing *w, bool all)
{
    apr_out_open(w->out, NULL, '{');
    for (size_t i = 0; i < w->v.ntoken; i++) {
        const struct apr_token *const t = &w->v.token[i];
        char id[16];
        if (!(t->flags & APR_TOKEN_ADDED) || (!all && !is_told(w, t)))
            continue;
        snprintf(id, sizeof id, "%u", (unsigned)t->id);
        apr_out_key(w->out, apr_text(id));
        apr_write_added(w->out, t, false);
    }
    apr_out_close(w->out, '}');
}

static bool wants_decoder(const struct apr_hf_writing *w)
{
    for (size_t i = 0; i < w->v.ntoken && w->v.kind == APR_VOCABULARY_SPM; i++)
        if (w->v.token[i].flags & APR_TOKEN_ADDED && is_told(w, &w->v.token[i]))
            return true;
    return false;
}

/* What came along, with the templates and the added tokens put where they stood. */
static enum apr_code write_carried_config(struct apr_hf_writing *w, struct apr_bytes carried, bool *template, bool *decoder)
{
    struct apr_walk walk;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&walk, carried, 0, '{', w->e));
    for (;;) {
        struct apr_bytes key;
        APR_TRY(apr_walk_next(&walk, &item, &more, w->e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_text(&w->v.arena, item.key, item.key_at, &key, w->e));
        const bool null = item.value.n == 4 && memcmp(item.value.at, "null", 4) == 0, chat = apr_bytes_is(key, "chat_template");
        const bool added = apr_bytes_is(key, "added_tokens_decoder");
        if (apr_bytes_is(key, APR_OWN_MEMBER))
            continue;
        *template = *template || chat;
        *decoder = *decoder || added;
        apr_out_key(w->out, key);
        if (null && chat && w->v.nchat > 0)
            write_templates(w);
        else if (null && added)
            write_decoder(w, true);
        else
            apr_out_raw(w->out, NULL, item.value);
    }
}

static void write_plain_config(struct apr_hf_writing *w)
{
    static const struct {
        const char           *key;
        enum apr_special_role role;
    } roles[] = { { "bos_token", APR_BOS }, { "eos_token", APR_EOS }, { "unk_token", APR_UNK },  { "sep_token", APR_SEP },
                  { "pad_token", APR_PAD }, { "cls_token", APR_CLS }, { "mask_token", APR_MASK } };
    const struct {
        const char     *key;
        enum apr_choice choice;
    } flags[] = { { "add_bos_token", w->v.add_bos }, { "add_eos_token", w->v.add_eos }, { "add_sep_token", w->v.add_sep } };
    apr_out_text(w->out, "tokenizer_class", "PreTrainedTokenizerFast");
    for (size_t i = 0; i < APR_LENGTH(roles); i++) {
        uint32_t id;
        const bool first = roles[i].role == APR_CLS && w->v.kind == APR_VOCABULARY_WORDPIECE; /* a GGUF calls it BOS */
        if (apr_vocabulary_special(&w->v, roles[i].role, &id) || (first && apr_vocabulary_special(&w->v, APR_BOS, &id)))
            apr_out_bytes(w->out, roles[i].key, apr_vocabulary_token(&w->v, id)->text);
    }
    for (size_t i = 0; i < APR_LENGTH(flags); i++)
        if (flags[i].choice != APR_UNSAID)
            apr_out_bool(w->out, flags[i].key, flags[i].choice == APR_YES);
    apr_out_bool(w->out, "clean_up_tokenization_spaces", w->v.kind == APR_VOCABULARY_UNIGRAM && w->v.remove_extra_whitespaces == APR_YES);
    if (w->v.add_space_prefix != APR_UNSAID)
        apr_out_bool(w->out, "add_prefix_space", w->v.add_space_prefix == APR_YES);
}

/* own: the member of our own, or empty. */
static enum apr_code make_config(struct apr_side *files, struct apr_hf_writing *w, struct apr_bytes own)
{
    const struct apr_value *const carried = apr_draft_find(&w->keys, apr_text(APR_CARRIED_CONFIG));
    struct apr_text_made m;
    struct apr_value object;
    bool template = false, decoder = false;
    enum apr_code code = APR_OK;
    const bool came = carried != NULL && carried->type == APR_META_STRING;
    if (came)
        APR_TRY(apr_take_object(&w->v, carried->text, &object, w->e));
    APR_TRY(apr_text_begin(&m, w->e));
    w->out = &m.out;
    apr_out_open(w->out, NULL, '{');
    if (came)
        code = write_carried_config(w, object.text, &template, &decoder);
    else
        write_plain_config(w);
    const struct apr_bytes chat = apr_vocabulary_chat(&w->v, "default");
    const bool apart = came && w->v.nchat == 1 && chat.n > 0; /* it had a file of its own */
    if (!template && !apart && w->v.nchat > 0) {
        apr_out_key(w->out, apr_text("chat_template"));
        write_templates(w);
    }
    if (!decoder && wants_decoder(w)) {
        apr_out_key(w->out, apr_text("added_tokens_decoder"));
        write_decoder(w, false);
    }
    if (own.n > 0)
        apr_out_raw(w->out, APR_OWN_MEMBER, own);
    apr_out_close(w->out, '}');
    APR_TRY(put_file(files, "tokenizer_config.json", &m, code, w->e));
    if (template || !apart || apr_side_get(files, "chat_template.jinja").at != NULL)
        return APR_OK;
    const struct apr_bytes text = apr_arena_copy(&files->arena, chat);
    return text.at == NULL ? apr_no_memory(w->e) : apr_side_put(files, "chat_template.jinja", text, w->e);
}

/* ---- what would come back -------------------------------------------------------------------------------------------- */

static bool is_plain(const struct apr_meta_entry *m, const struct apr_tokenizer *t)
{
    const struct apr_tokenizer_rules *const rules = t->b == NULL ? NULL : &apr_binding_family(t->b)->tokenizer;
    for (size_t i = 0; rules != NULL && i < rules->nfirst; i++)
        if (rules->first[i].hf.n > 0 && apr_bytes_equal(rules->first[i].key, m->key))
            return false; /* config.json has it */
    static const char before[] = "tokenizer.";
    return m->value.type != APR_META_ARRAY && m->key.n > sizeof before - 1 && memcmp(m->key.at, before, sizeof before - 1) == 0 &&
           !apr_bytes_is(m->key, "tokenizer.ggml.model") && !(m->key.n > 23 && memcmp(m->key.at, "tokenizer.chat_template", 23) == 0);
}

/* The keys that a GGUF made of the files would lack, or have otherwise; and those that it would have too many. */
static void write_difference(struct apr_out *out, const struct apr_draft *want, const struct apr_draft *got, const struct apr_tokenizer *t,
                             bool *any)
{
    apr_out_open(out, "kv", '{');
    for (size_t i = 0; i < want->meta.n; i++) {
        const struct apr_meta_entry *const m = &want->meta.entry[i];
        const struct apr_value *const other = apr_draft_find(got, m->key);
        if (!is_plain(m, t) || (other != NULL && other->type == m->value.type && apr_value_equal(other, &m->value)))
            continue;
        *any = true;
        apr_out_key(out, m->key);
        apr_out_open(out, NULL, '{');
        apr_out_text(out, "t", apr_meta_type_word(m->value.type));
        apr_out_value(out, "v", &m->value, UINT64_MAX);
        apr_out_close(out, '}');
    }
    apr_out_close(out, '}');
    apr_out_open(out, "unset", '[');
    for (size_t i = 0; i < got->meta.n; i++)
        if (is_plain(&got->meta.entry[i], t) && apr_draft_find(want, got->meta.entry[i].key) == NULL) {
            *any = true;
            apr_out_bytes(out, NULL, got->meta.entry[i].key);
        }
    apr_out_close(out, ']');
}

/* The same for tokens. */
static enum apr_code write_tokens(struct apr_out *out, const struct apr_hf_writing *w, const struct apr_tokenizer_files *read, bool *any)
{
    struct apr_token_list l = { 0 };
    const struct apr_value *const want = apr_draft_find(&w->keys, apr_text("tokenizer.ggml.tokens"));
    const uint64_t n = want == NULL ? 0 : w->more != NULL ? w->v.size : want->n;
    enum apr_code code = n == 0 ? APR_OK : apr_tokens_of_files(&l, read, n, 0, w->e);
    if (w->more != NULL)
        l.n = apr_min(l.n, w->more->first);
    if (code == APR_OK && n > 0)
        code = apr_write_own_tokens(out, &w->keys, &l, any, w->e);
    apr_token_list_end(&l);
    return code;
}

/* The member of our own that tells it; empty when a GGUF made of the files would be the same. */
static enum apr_code find_difference(struct apr_side *files, const struct apr_hf_writing *w, struct apr_tokenizer *t, struct apr_bytes *own)
{
    struct apr_tokenizer back = { .m = t->m, .b = t->b, .side = files };
    struct apr_tokenizer_files read = { 0 };
    struct apr_draft got = { 0 };
    struct apr_text_made m;
    bool any = false;
    enum apr_code code = apr_tokenizer_files_read(&read, &back, w->e);
    *own = (struct apr_bytes){ 0 };
    if (code == APR_OK && read.v != NULL)
        code = apr_gguf_words_of(&got, &back, &read, w->e);
    if (code == APR_OK && read.v != NULL)
        code = apr_text_begin(&m, w->e);
    if (code == APR_OK && read.v != NULL) {
        struct apr_error why;
        apr_out_open(&m.out, NULL, '{');
        write_difference(&m.out, &w->keys, &got, t, &any);
        code = write_tokens(&m.out, w, &read, &any);
        apr_out_close(&m.out, '}');
        if (apr_text_end(&m, &files->arena, own, &why) != APR_OK && code == APR_OK)
            code = apr_no_memory(w->e);
    }
    if (!any)
        own->n = 0;
    apr_draft_end(&got);
    apr_tokenizer_files_end(&read);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

static enum apr_code make(struct apr_side *files, struct apr_hf_writing *w, struct apr_tokenizer *t)
{
    const struct apr_value *const map = apr_draft_find(&w->keys, apr_text(APR_CARRIED_MAP));
    const bool config = apr_side_get(files, "tokenizer_config.json").at == NULL;
    struct apr_bytes own = { 0 };
    APR_TRY(apr_spell_words(&w->v, w->e));
    add_by_types(w);
    APR_TRY(read_carried(w));
    drop_padding(&w->v);
    if (w->more != NULL)
        APR_TRY(add_more(w, w->more));
    APR_TRY(apr_vocabulary_index(&w->v, w->e));
    APR_TRY(make_vocabulary(files, w));
    if (map != NULL && map->type == APR_META_STRING && apr_side_get(files, "special_tokens_map.json").at == NULL) {
        const struct apr_bytes text = apr_arena_copy(&files->arena, map->text);
        APR_TRY(text.at == NULL ? apr_no_memory(w->e) : apr_side_put(files, "special_tokens_map.json", text, w->e));
    }
    if (!config)
        return APR_OK;
    APR_TRY(make_config(files, w, own));
    APR_TRY(find_difference(files, w, t, &own));
    return own.n == 0 ? APR_OK : make_config(files, w, own);
}

/* What the keys that w has by now say; code: of what made them. */
static enum apr_code from_keys(struct apr_side *files, struct apr_tokenizer *t, struct apr_hf_writing *w, enum apr_code code)
{
    if (code == APR_OK)
        code = apr_read_metadata(&w->v, &w->keys.meta, w->e);
    if (code == APR_OK && w->more != NULL && (w->v.ntoken == 0 || w->v.kind < APR_VOCABULARY_BPE || w->v.kind > APR_VOCABULARY_WORDPIECE))
        code = apr_fail(w->e, APR_EUNSUPPORTED, APR_NOWHERE, "its tokenizer is of no kind to which tokens can be added: %s",
                        APR_QUOTED(w->v.model));
    if (code == APR_OK && (w->v.ntoken > 0 || w->v.nchat > 0))
        code = make(files, w, t);
    apr_vocabulary_end(&w->v);
    apr_draft_end(&w->keys);
    return code;
}

enum apr_code apr_tokenizer_extended(struct apr_side *files, struct apr_tokenizer *t, const struct apr_more_tokens *more,
                                     const struct apr_run *r, struct apr_error *e)
{
    struct apr_hf_writing w = { .more = more, .e = e };
    return from_keys(files, t, &w, apr_tokenizer_to_gguf(&w.keys, t, r, e));
}

static bool is_tokenizers(struct apr_bytes name)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                                         "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt",
                                         "merges.txt", "chat_template.jinja", "chat_template.json" };
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        if (apr_bytes_is(name, names[i]))
            return true;
    return name.n > 26 && memcmp(name.at, "additional_chat_templates/", 26) == 0;
}

enum apr_code apr_tokenizer_to_hf(struct apr_side *files, struct apr_tokenizer *t, const struct apr_run *r, struct apr_error *e)
{
    (void)r;
    for (size_t i = 0; t->side != NULL && t->side != files && i < t->side->n; i++) {
        char name[160];
        snprintf(name, sizeof name, "%.*s", APR_PRINTED(t->side->file[i].name));
        if (is_tokenizers(t->side->file[i].name) && apr_side_get(files, name).at == NULL)
            APR_TRY(apr_side_put(files, name, t->side->file[i].text, e));
    }
    if (t->m->format->config || apr_tokenizer_files_any(files))
        return APR_OK;
    struct apr_hf_writing w = { .e = e };
    return from_keys(files, t, &w, apr_gguf_keys_of(&w.keys, t, e));
}
