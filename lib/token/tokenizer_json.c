/* tokenizer.json, member by member: what came along as it was, all else by the kind of vocabulary. */
#include "token/tokenizer_hf.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "model/json.h"

#define SPACE "\u2581"

void apr_write_added(struct apr_out *out, const struct apr_token *t, bool id)
{
    apr_out_open(out, NULL, '{');
    if (id)
        apr_out_count(out, "id", t->id);
    apr_out_bytes(out, "content", t->text);
    apr_out_bool(out, "single_word", t->flags & APR_TOKEN_SINGLE_WORD);
    apr_out_bool(out, "lstrip", t->flags & APR_TOKEN_LSTRIP);
    apr_out_bool(out, "rstrip", t->flags & APR_TOKEN_RSTRIP);
    apr_out_bool(out, "normalized", t->flags & APR_TOKEN_NORMALIZED);
    apr_out_bool(out, "special", t->flags & APR_TOKEN_SPECIAL);
    apr_out_close(out, '}');
}

static void write_added_tokens(struct apr_hf_writing *w)
{
    apr_out_open(w->out, NULL, '[');
    for (size_t i = 0; i < w->v.ntoken; i++)
        if (w->v.token[i].flags & APR_TOKEN_ADDED)
            apr_write_added(w->out, &w->v.token[i], true);
    apr_out_close(w->out, ']');
}

/* ---- small parts ----------------------------------------------------------------------------------------------------- */

static void open_typed(struct apr_out *out, const char *type)
{
    apr_out_open(out, NULL, '{');
    apr_out_text(out, "type", type);
}

static void open_sequence(struct apr_out *out, const char *of)
{
    open_typed(out, "Sequence");
    apr_out_open(out, of, '[');
}

static void close_sequence(struct apr_out *out)
{
    apr_out_close(out, ']');
    apr_out_close(out, '}');
}

static void write_bare(struct apr_out *out, const char *type)
{
    open_typed(out, type);
    apr_out_close(out, '}');
}

static void write_replace(struct apr_out *out, const char *from, const char *to)
{
    open_typed(out, "Replace");
    apr_out_open(out, "pattern", '{');
    apr_out_text(out, "String", from);
    apr_out_close(out, '}');
    apr_out_text(out, "content", to);
    apr_out_close(out, '}');
}

static void write_bytes(struct apr_out *out, bool trim)
{
    open_typed(out, "ByteLevel");
    apr_out_bool(out, "add_prefix_space", true);
    apr_out_bool(out, "trim_offsets", trim);
    apr_out_bool(out, "use_regex", true);
    apr_out_close(out, '}');
}

static bool says(enum apr_choice choice, bool otherwise) { return choice == APR_UNSAID ? otherwise : choice == APR_YES; }

static bool has_prefix(const struct apr_hf_writing *w) { return says(w->v.add_space_prefix, true); }

static void write_metaspace(struct apr_hf_writing *w)
{
    open_typed(w->out, "Metaspace");
    apr_out_text(w->out, "replacement", SPACE);
    apr_out_text(w->out, "prepend_scheme", has_prefix(w) ? "always" : "never");
    apr_out_bool(w->out, "split", true);
    apr_out_close(w->out, '}');
}

/* ---- normalizer ------------------------------------------------------------------------------------------------------ */

static void write_bert_normalizer(struct apr_hf_writing *w)
{
    open_typed(w->out, "BertNormalizer");
    apr_out_bool(w->out, "clean_text", true);
    apr_out_bool(w->out, "handle_chinese_chars", true);
    if (w->v.strip_accents == APR_UNSAID)
        apr_out_null(w->out, "strip_accents");
    else
        apr_out_bool(w->out, "strip_accents", w->v.strip_accents == APR_YES);
    apr_out_bool(w->out, "lowercase", says(w->v.lowercase, true));
    apr_out_close(w->out, '}');
}

static void write_spm_normalizer(struct apr_hf_writing *w)
{
    open_sequence(w->out, "normalizers");
    if (has_prefix(w)) {
        open_typed(w->out, "Prepend");
        apr_out_text(w->out, "prepend", SPACE);
        apr_out_close(w->out, '}');
    }
    write_replace(w->out, " ", SPACE);
    close_sequence(w->out);
}

static enum apr_code write_charsmap(struct apr_hf_writing *w)
{
    const struct apr_bytes map = apr_base64_encode(&w->v.arena, w->v.charsmap);
    if (map.at == NULL)
        return apr_no_memory(w->e);
    open_typed(w->out, "Precompiled");
    apr_out_bytes(w->out, "precompiled_charsmap", map);
    apr_out_close(w->out, '}');
    return APR_OK;
}

/* Blanks in a row become one where SentencePiece is told to leave them out. */
static enum apr_code write_unigram_normalizer(struct apr_hf_writing *w)
{
    const bool single = w->v.remove_extra_whitespaces == APR_YES, map = w->v.charsmap.n > 0;
    if (!single && !map) {
        apr_out_null(w->out, NULL);
        return APR_OK;
    }
    if (single)
        open_sequence(w->out, "normalizers");
    if (map)
        APR_TRY(write_charsmap(w));
    if (!single)
        return APR_OK;
    open_typed(w->out, "Strip");
    apr_out_bool(w->out, "strip_left", true);
    apr_out_bool(w->out, "strip_right", true);
    apr_out_close(w->out, '}');
    open_typed(w->out, "Replace");
    apr_out_open(w->out, "pattern", '{');
    apr_out_text(w->out, "Regex", " {2,}");
    apr_out_close(w->out, '}');
    apr_out_text(w->out, "content", " ");
    apr_out_close(w->out, '}');
    close_sequence(w->out);
    return APR_OK;
}

static enum apr_code write_normalizer(struct apr_hf_writing *w)
{
    const char *const pre = apr_pretoken_known(w->v.pre);
    switch (w->v.kind) {
    case APR_VOCABULARY_SPM:       write_spm_normalizer(w); return APR_OK;
    case APR_VOCABULARY_WORDPIECE: write_bert_normalizer(w); return APR_OK;
    case APR_VOCABULARY_UNIGRAM:   return write_unigram_normalizer(w);
    default:                       break;
    }
    if (pre != NULL && apr_pretoken_composes(pre))
        write_bare(w->out, "NFC");
    else
        apr_out_null(w->out, NULL);
    return APR_OK;
}

/* ---- pre-tokenizer, decoder ------------------------------------------------------------------------------------------ */

static void write_pre_tokenizer(struct apr_hf_writing *w)
{
    const char *const pre = apr_pretoken_known(w->v.pre);
    switch (w->v.kind) {
    case APR_VOCABULARY_SPM:       apr_out_null(w->out, NULL); break;
    case APR_VOCABULARY_WORDPIECE: write_bare(w->out, "BertPreTokenizer"); break;
    case APR_VOCABULARY_UNIGRAM:   write_metaspace(w); break;
    default:                       apr_pretoken_write(w->out, pre != NULL ? pre : apr_pretoken_known(apr_text("gpt-2")));
    }
}

static void write_spm_decoder(struct apr_hf_writing *w)
{
    open_sequence(w->out, "decoders");
    write_replace(w->out, SPACE, " ");
    write_bare(w->out, "ByteFallback");
    write_bare(w->out, "Fuse");
    if (has_prefix(w)) {
        open_typed(w->out, "Strip");
        apr_out_text(w->out, "content", " ");
        apr_out_count(w->out, "start", 1);
        apr_out_count(w->out, "stop", 0);
        apr_out_close(w->out, '}');
    }
    close_sequence(w->out);
}

static void write_decoder(struct apr_hf_writing *w)
{
    switch (w->v.kind) {
    case APR_VOCABULARY_SPM:     write_spm_decoder(w); break;
    case APR_VOCABULARY_UNIGRAM: write_metaspace(w); break;
    case APR_VOCABULARY_WORDPIECE:
        open_typed(w->out, "WordPiece");
        apr_out_text(w->out, "prefix", "##");
        apr_out_bool(w->out, "cleanup", true);
        apr_out_close(w->out, '}');
        break;
    default: write_bytes(w->out, true);
    }
}

/* ---- post-processor -------------------------------------------------------------------------------------------------- */

/* What stands around a text: NULL for nothing. twice: what ends the first of a pair begins the second as well; typed: the second is of
 * another type. */
struct frame {
    const struct apr_token *before, *after;
    bool                    twice, typed;
};

static const struct apr_token *special(const struct apr_hf_writing *w, enum apr_special_role role, enum apr_special_role other)
{
    uint32_t id;
    const bool known = apr_vocabulary_special(&w->v, role, &id) || apr_vocabulary_special(&w->v, other, &id);
    return known ? apr_vocabulary_token(&w->v, id) : NULL;
}

/* Does llama.cpp put a BOS before texts where no flag says so? */
static bool begins_with_bos(const struct apr_vocabulary *v)
{
    static const char *const pre[] = { "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "tekken", "chameleon" };
    bool begins = v->kind == APR_VOCABULARY_SPM;
    for (size_t i = 0; i < APR_LENGTH(pre) && v->kind == APR_VOCABULARY_BPE && !begins; i++)
        begins = apr_bytes_is(v->pre, pre[i]);
    return begins;
}

/* By the flags; where they are silent as llama.cpp does. */
static struct frame frame_of(const struct apr_hf_writing *w)
{
    const enum apr_vocabulary_kind kind = w->v.kind;
    const bool words = kind == APR_VOCABULARY_WORDPIECE;
    struct frame f = { .typed = words, .twice = kind == APR_VOCABULARY_UNIGRAM && w->v.add_sep == APR_YES };
    if (words || says(w->v.add_bos, begins_with_bos(&w->v)))
        f.before = special(w, words ? APR_CLS : APR_BOS, APR_BOS);
    if (words || says(w->v.add_eos, kind == APR_VOCABULARY_UNIGRAM))
        f.after = special(w, words ? APR_SEP : APR_EOS, APR_EOS);
    return f;
}

static void write_special(struct apr_out *out, const struct apr_token *t, unsigned type)
{
    if (t == NULL)
        return;
    apr_out_open(out, NULL, '{');
    apr_out_open(out, "SpecialToken", '{');
    apr_out_bytes(out, "id", t->text);
    apr_out_count(out, "type_id", type);
    apr_out_close(out, '}');
    apr_out_close(out, '}');
}

static void write_sequence(struct apr_out *out, const char *id, unsigned type)
{
    apr_out_open(out, NULL, '{');
    apr_out_open(out, "Sequence", '{');
    apr_out_text(out, "id", id);
    apr_out_count(out, "type_id", type);
    apr_out_close(out, '}');
    apr_out_close(out, '}');
}

static void write_used(struct apr_out *out, const struct apr_token *t)
{
    if (t == NULL)
        return;
    apr_out_key(out, t->text);
    apr_out_open(out, NULL, '{');
    apr_out_bytes(out, "id", t->text);
    apr_out_open(out, "ids", '[');
    apr_out_count(out, NULL, t->id);
    apr_out_close(out, ']');
    apr_out_open(out, "tokens", '[');
    apr_out_bytes(out, NULL, t->text);
    apr_out_close(out, ']');
    apr_out_close(out, '}');
}

static void write_pair(struct apr_out *out, const struct frame *f)
{
    const unsigned second = f->typed ? 1 : 0;
    apr_out_open(out, "pair", '[');
    write_special(out, f->before, 0);
    write_sequence(out, "A", 0);
    if (f->typed || f->twice)
        write_special(out, f->after, 0);
    if (f->twice)
        write_special(out, f->after, 0);
    write_sequence(out, "B", f->twice ? 0 : 1);
    write_special(out, f->after, second);
    apr_out_close(out, ']');
}

static void write_post_processor(struct apr_hf_writing *w)
{
    const struct frame f = frame_of(w);
    if (f.before == NULL && f.after == NULL) {
        if (w->v.kind == APR_VOCABULARY_BPE)
            write_bytes(w->out, false);
        else
            apr_out_null(w->out, NULL);
        return;
    }
    open_typed(w->out, "TemplateProcessing");
    apr_out_open(w->out, "single", '[');
    write_special(w->out, f.before, 0);
    write_sequence(w->out, "A", 0);
    write_special(w->out, f.after, 0);
    apr_out_close(w->out, ']');
    write_pair(w->out, &f);
    apr_out_open(w->out, "special_tokens", '{');
    write_used(w->out, f.before);
    write_used(w->out, f.after == f.before ? NULL : f.after);
    apr_out_close(w->out, '}');
    apr_out_close(w->out, '}');
}

/* ---- model ----------------------------------------------------------------------------------------------------------- */

static bool is_own(const struct apr_hf_writing *w, const struct apr_token *t)
{
    if (w->carried.n == 0)
        return true;
    return w->own == UINT64_MAX || t->id < w->own;
}

static void write_scored(struct apr_out *out, struct apr_bytes text, float score)
{
    char spelled[32];
    apr_out_open(out, NULL, '[');
    apr_out_bytes(out, NULL, text);
    apr_out_raw(out, NULL, apr_text(apr_spell_float(score - score == 0 ? score : 0, spelled)));
    apr_out_close(out, ']');
}

/* {"text": id}, or [["text", score], ...], whose places are the ids */
static void write_vocabulary(struct apr_hf_writing *w)
{
    const bool list = w->v.kind == APR_VOCABULARY_UNIGRAM;
    uint64_t next = 0;
    apr_out_open(w->out, NULL, list ? '[' : '{');
    for (size_t i = 0; i < w->v.ntoken; i++) {
        const struct apr_token *const t = &w->v.token[i];
        char padding[32];
        if (!is_own(w, t))
            continue;
        if (!list) {
            apr_out_key(w->out, t->text);
            apr_out_count(w->out, NULL, t->id);
            continue;
        }
        for (; next < t->id; next++) {
            snprintf(padding, sizeof padding, "[PAD%llu]", (unsigned long long)next);
            write_scored(w->out, apr_text(padding), -10000);
        }
        write_scored(w->out, t->text, (float)t->score);
        next++;
    }
    apr_out_close(w->out, list ? ']' : '}');
}

static void write_merge(struct apr_out *out, struct apr_bytes left, struct apr_bytes right)
{
    apr_out_open(out, NULL, '[');
    apr_out_bytes(out, NULL, left);
    apr_out_bytes(out, NULL, right);
    apr_out_close(out, ']');
}

/* Those of a SentencePiece come of its scores, but for what there is already where tokens were added: behind that those of the new ones. */
static enum apr_code write_merges(struct apr_hf_writing *w)
{
    struct apr_id_pair *pair = NULL;
    size_t n = 0;
    const bool spm = w->v.kind == APR_VOCABULARY_SPM, known = !spm || w->more != NULL;
    const uint64_t first = known && w->v.nmerge > 0 && spm ? w->more->first : 0;
    if (spm)
        APR_TRY(apr_merges_of_scores(&w->v, &pair, &n, w->e));
    apr_out_open(w->out, NULL, '[');
    for (size_t i = 0; i < w->v.nmerge && known; i++)
        write_merge(w->out, w->v.merge[i].left, w->v.merge[i].right);
    for (size_t i = 0; i < n; i++) {
        const struct apr_merge m = { apr_vocabulary_token(&w->v, pair[i].left)->text, apr_vocabulary_token(&w->v, pair[i].right)->text };
        const struct apr_token *const whole = first == 0 ? NULL : apr_vocabulary_join(&w->v, &m);
        if (whole == NULL || whole->id >= first)
            write_merge(w->out, m.left, m.right);
    }
    apr_out_close(w->out, ']');
    free(pair);
    return APR_OK;
}

/* The token for what is unknown; roles first, then types. */
static const struct apr_token *unknown(const struct apr_hf_writing *w)
{
    uint32_t id;
    if (apr_vocabulary_special(&w->v, APR_UNK, &id))
        return apr_vocabulary_token(&w->v, id);
    for (size_t i = 0; i < w->v.ntoken; i++)
        if (w->v.token[i].type == APR_TOKEN_UNKNOWN)
            return &w->v.token[i];
    return NULL;
}

static void write_text(struct apr_out *out, const char *key, const struct apr_token *t)
{
    if (t == NULL)
        apr_out_null(out, key);
    else
        apr_out_bytes(out, key, t->text);
}

static enum apr_code write_bpe(struct apr_hf_writing *w)
{
    const char *const pre = apr_pretoken_known(w->v.pre);
    const bool spm = w->v.kind == APR_VOCABULARY_SPM;
    open_typed(w->out, "BPE");
    apr_out_null(w->out, "dropout");
    write_text(w->out, "unk_token", spm ? unknown(w) : NULL);
    apr_out_null(w->out, "continuing_subword_prefix");
    apr_out_null(w->out, "end_of_word_suffix");
    apr_out_bool(w->out, "fuse_unk", spm);
    apr_out_bool(w->out, "byte_fallback", spm);
    apr_out_bool(w->out, "ignore_merges", !spm && pre != NULL && apr_pretoken_ignores_merges(pre));
    apr_out_key(w->out, apr_text("vocab"));
    write_vocabulary(w);
    apr_out_key(w->out, apr_text("merges"));
    APR_TRY(write_merges(w));
    apr_out_close(w->out, '}');
    return APR_OK;
}

static enum apr_code write_model(struct apr_hf_writing *w)
{
    const struct apr_token *const unk = unknown(w);
    if (w->v.kind == APR_VOCABULARY_BPE || w->v.kind == APR_VOCABULARY_SPM)
        return write_bpe(w);
    if (w->v.kind == APR_VOCABULARY_UNIGRAM) {
        open_typed(w->out, "Unigram");
        if (unk == NULL)
            apr_out_null(w->out, "unk_id");
        else
            apr_out_count(w->out, "unk_id", unk->id);
        apr_out_bool(w->out, "byte_fallback", w->v.byte_fallback);
    } else {
        open_typed(w->out, "WordPiece");
        apr_out_bytes(w->out, "unk_token", unk == NULL ? apr_text("[UNK]") : unk->text);
        apr_out_text(w->out, "continuing_subword_prefix", "##");
        apr_out_count(w->out, "max_input_chars_per_word", 100);
    }
    apr_out_key(w->out, apr_text("vocab"));
    write_vocabulary(w);
    apr_out_close(w->out, '}');
    return APR_OK;
}

/* ---- what came along ------------------------------------------------------------------------------------------------- */

typedef enum apr_code fill_fn(struct apr_hf_writing *w, struct apr_bytes key, struct apr_bytes value);

static enum apr_code fill_object(struct apr_hf_writing *w, struct apr_bytes object, fill_fn *fill)
{
    struct apr_walk walk;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&walk, object, 0, '{', w->e));
    apr_out_open(w->out, NULL, '{');
    for (;;) {
        struct apr_bytes key;
        APR_TRY(apr_walk_next(&walk, &item, &more, w->e));
        if (!more)
            break;
        APR_TRY(apr_json_text(&w->v.arena, item.key, item.key_at, &key, w->e));
        apr_out_key(w->out, key);
        APR_TRY(fill(w, key, item.value));
    }
    apr_out_close(w->out, '}');
    return APR_OK;
}

static enum apr_code fill_model(struct apr_hf_writing *w, struct apr_bytes key, struct apr_bytes value)
{
    if (apr_bytes_is(key, "vocab"))
        write_vocabulary(w);
    else if (apr_bytes_is(key, "merges") && (w->v.kind == APR_VOCABULARY_BPE || w->v.kind == APR_VOCABULARY_SPM))
        return write_merges(w);
    else if (apr_bytes_is(key, "merges"))
        apr_out_raw(w->out, NULL, apr_text("[]"));
    else
        apr_out_raw(w->out, NULL, value);
    return APR_OK;
}

/* With the map of characters that a key of the GGUF holds. */
static enum apr_code fill_charsmap(struct apr_hf_writing *w, struct apr_bytes value)
{
    static const char mark[] = "\"precompiled_charsmap\":\"\"";
    const unsigned char *const at = w->v.charsmap.n == 0 ? NULL : memmem(value.at, value.n, mark, sizeof mark - 1);
    const struct apr_bytes map = at == NULL ? (struct apr_bytes){ 0 } : apr_base64_encode(&w->v.arena, w->v.charsmap);
    if (at == NULL) {
        apr_out_raw(w->out, NULL, value);
        return APR_OK;
    }
    if (map.at == NULL)
        return apr_no_memory(w->e);
    const size_t before = (size_t)(at - value.at) + sizeof mark - 2;
    apr_out_raw(w->out, NULL, (struct apr_bytes){ value.at, before });
    fwrite(map.at, 1, map.n, w->out->to);
    fwrite(value.at + before, 1, value.n - before, w->out->to);
    return APR_OK;
}

static enum apr_code fill_tokenizer(struct apr_hf_writing *w, struct apr_bytes key, struct apr_bytes value)
{
    if (apr_bytes_is(key, "added_tokens"))
        write_added_tokens(w);
    else if (apr_bytes_is(key, "normalizer"))
        return fill_charsmap(w, value);
    else if (apr_bytes_is(key, "model"))
        return fill_object(w, value, fill_model);
    else
        apr_out_raw(w->out, NULL, value);
    return APR_OK;
}

enum apr_code apr_write_tokenizer_json(struct apr_hf_writing *w)
{
    struct apr_out *const out = w->out;
    if (w->carried.n > 0)
        return fill_object(w, w->carried, fill_tokenizer);
    apr_out_open(out, NULL, '{');
    apr_out_text(out, "version", "1.0");
    apr_out_null(out, "truncation");
    apr_out_null(out, "padding");
    apr_out_key(out, apr_text("added_tokens"));
    write_added_tokens(w);
    apr_out_key(out, apr_text("normalizer"));
    APR_TRY(write_normalizer(w));
    apr_out_key(out, apr_text("pre_tokenizer"));
    write_pre_tokenizer(w);
    apr_out_key(out, apr_text("post_processor"));
    write_post_processor(w);
    apr_out_key(out, apr_text("decoder"));
    write_decoder(w);
    apr_out_key(out, apr_text("model"));
    APR_TRY(write_model(w));
    apr_out_close(out, '}');
    return APR_OK;
}
