/* tokenizer.model: SentencePiece's protobuf, so that scores come along, which a tokenizer.json has not. */
#include "token/tokenizer_hf.h"

#include <string.h>

#include "base/bytes.h"

enum { VARINT, FIXED32 = 5, BYTES = 2 };

static void put_varint(FILE *to, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        putc((int)(v & 0x7F) | 0x80, to);
    putc((int)v, to);
}

static unsigned varint_length(uint64_t v)
{
    unsigned n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static void put_number(FILE *to, unsigned field, uint64_t v)
{
    put_varint(to, field << 3 | VARINT);
    put_varint(to, v);
}

static void put_text(FILE *to, unsigned field, struct apr_bytes text)
{
    put_varint(to, field << 3 | BYTES);
    put_varint(to, text.n);
    fwrite(text.at, 1, text.n, to);
}

/* ModelProto.pieces: { 1: piece, 2: f32 score, 3: type } */
static void put_piece(FILE *to, struct apr_bytes text, float score, unsigned type)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    put_varint(to, 1 << 3 | BYTES);
    put_varint(to, 1 + varint_length(text.n) + text.n + 5 + 2);
    put_text(to, 1, text);
    put_varint(to, 2 << 3 | FIXED32);
    for (unsigned i = 0; i < 32; i += 8)
        putc((int)(bits >> i & 0xFF), to);
    put_number(to, 3, type);
}

/* TrainerSpec: { 3: model_type, of which 2 is BPE, 4: vocab_size, 35: byte_fallback, 40 to 43: ids of unk, bos, eos, pad, 45 to 48: their
 * texts } */
static void put_trainer(FILE *to, const struct apr_hf_writing *w, uint64_t n)
{
    static const enum apr_special_role role[] = { APR_UNK, APR_BOS, APR_EOS, APR_PAD };
    put_number(to, 3, 2);
    put_number(to, 4, n);
    put_number(to, 35, w->v.byte_fallback);
    for (unsigned i = 0; i < APR_LENGTH(role); i++) {
        uint32_t id;
        const bool known = apr_vocabulary_special(&w->v, role[i], &id) && id < n;
        put_number(to, 40 + i, known ? id : UINT64_MAX); /* -1 */
        if (known)
            put_text(to, 45 + i, apr_vocabulary_token(&w->v, id)->text);
    }
}

/* NormalizerSpec: { 1: name, 3: add_dummy_prefix, 4: remove_extra_whitespaces, 5: escape_whitespaces } */
static void put_normalizer(FILE *to, const struct apr_hf_writing *w)
{
    put_text(to, 1, apr_text("identity"));
    put_number(to, 3, w->v.add_space_prefix != APR_NO);
    put_number(to, 4, w->v.remove_extra_whitespaces == APR_YES);
    put_number(to, 5, 1);
}

static enum apr_code put_spec(struct apr_hf_writing *w, FILE *to, unsigned field, uint64_t n)
{
    struct apr_text_made m;
    struct apr_bytes spec;
    APR_TRY(apr_text_begin(&m, w->e));
    if (field == 2)
        put_trainer(m.out.to, w, n);
    else
        put_normalizer(m.out.to, w);
    APR_TRY(apr_text_end(&m, &w->v.arena, &spec, w->e));
    put_text(to, field, spec);
    return APR_OK;
}

/* A piece has U+2581 where a GGUF has the blanks of a token that users defined. */
static enum apr_code piece_text(struct apr_hf_writing *w, const struct apr_token *t, struct apr_bytes *out)
{
    static const char blank[] = "\xE2\x96\x81";
    size_t n = 0;
    *out = t->text;
    if (t->type != APR_TOKEN_USER || t->text.n == 0 || memchr(t->text.at, ' ', t->text.n) == NULL)
        return APR_OK;
    unsigned char *const text = apr_arena_alloc(&w->v.arena, 3 * t->text.n);
    if (text == NULL)
        return apr_no_memory(w->e);
    for (size_t i = 0; i < t->text.n; i++) {
        const bool is_blank = t->text.at[i] == ' ';
        memcpy(text + n, is_blank ? blank : (const char *)&t->text.at[i], is_blank ? 3 : 1);
        n += is_blank ? 3 : 1;
    }
    *out = (struct apr_bytes){ text, n };
    return APR_OK;
}

enum apr_code apr_write_sentencepiece(struct apr_hf_writing *w)
{
    FILE *const to = w->out->to;
    const uint64_t n = w->v.ntoken == 0 ? 0 : (uint64_t)w->v.token[w->v.ntoken - 1].id + 1;
    uint32_t unknown = UINT32_MAX;
    apr_vocabulary_special(&w->v, APR_UNK, &unknown);
    for (uint64_t id = 0; id < n; id++) {
        const struct apr_token *const t = apr_vocabulary_token(&w->v, id);
        struct apr_bytes text;
        char padding[32];
        if (t != NULL)
            APR_TRY(piece_text(w, t, &text));
        snprintf(padding, sizeof padding, "[PAD%llu]", (unsigned long long)id);
        if (t == NULL)
            put_piece(to, apr_text(padding), -10000, APR_TOKEN_UNUSED);
        else
            put_piece(to, text, (float)t->score, id == unknown ? APR_TOKEN_UNKNOWN : t->type);
    }
    APR_TRY(put_spec(w, to, 2, n));
    return put_spec(w, to, 3, n);
}
