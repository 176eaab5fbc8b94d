/* tokenizer.model: SentencePiece's protobuf, of which the fields are read that say how text is cut. */
#include "token/vocabulary_read.h"

#include <string.h>

#include "base/bytes.h"
#include "base/cursor.h"

#define GROUPS 100u /* one in another */

enum { VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 };

struct field {
    uint64_t         number, value; /* value: of a varint, or 4 or 8 bytes */
    unsigned         wire;
    struct apr_bytes bytes;
};

/* Seven bits a byte, the lowest first, in at most ten. */
static uint64_t varint(struct apr_cursor *c)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        const uint8_t byte = apr_u8(c);
        value |= (uint64_t)(byte & 0x7F) << (shift < 63 ? shift : 63);
        if (byte < 0x80)
            return value;
    }
    c->bad = true;
    return 0;
}

/* One field, or the end of what holds it. A group comes as GROUP and its end as GROUP_END. */
static bool next_field(struct apr_cursor *c, struct field *f)
{
    *f = (struct field){ 0 };
    if (c->bad || apr_left(c) == 0)
        return false;
    const uint64_t tag = varint(c);
    f->number = tag >> 3;
    f->wire = tag & 7;
    switch (f->wire) {
    case VARINT:  f->value = varint(c); break;
    case FIXED64: f->value = apr_u64(c); break;
    case FIXED32: f->value = apr_u32(c); break;
    case BYTES:   f->bytes = apr_take_bytes(c, varint(c)); break;
    case GROUP:
    case GROUP_END: break;
    default: c->bad = true;
    }
    c->bad = c->bad || f->number == 0;
    return !c->bad;
}

/* The same without groups, which nothing here has: they are stepped over whole. */
static bool next(struct apr_cursor *c, struct field *f)
{
    unsigned depth = 0;
    while (next_field(c, f)) {
        if (f->wire == GROUP)
            depth++;
        else if (f->wire != GROUP_END && depth == 0)
            return true;
        else if (f->wire == GROUP_END && depth-- == 0)
            break;
        if (depth > GROUPS)
            break;
    }
    c->bad = c->bad || f->wire == GROUP_END || depth > 0;
    return false;
}

static float float_of(uint64_t bits)
{
    float f;
    memcpy(&f, &(uint32_t){ (uint32_t)bits }, sizeof f);
    return f;
}

/* ModelProto.pieces: { 1: bytes piece, 2: float score, 3: type, normal by default } */
static bool take_piece(struct apr_vocabulary *v, struct apr_bytes wire, enum apr_code *code, struct apr_error *e)
{
    struct apr_cursor c = apr_cursor_on(wire);
    struct field f;
    struct apr_bytes text = { wire.at, 0 };
    enum apr_token_type type = APR_TOKEN_NORMAL;
    float score = 0;
    while (next(&c, &f)) {
        if (f.number == 1 && f.wire == BYTES)
            text = f.bytes;
        else if (f.number == 2 && f.wire == FIXED32)
            score = float_of(f.value);
        else if (f.number == 3 && f.wire == VARINT && f.value >= APR_TOKEN_NORMAL && f.value <= APR_TOKEN_BYTE)
            type = (enum apr_token_type)f.value;
    }
    v->byte_fallback = v->byte_fallback || type == APR_TOKEN_BYTE;
    *code = apr_put_token(v, text, v->faults.listed++, type, score, e);
    return !c.bad;
}

/* ModelProto.trainer_spec: { 3: model_type, 24: treat_whitespace_as_suffix, 40 to 43: the ids of unk, bos, eos, pad, negative for none } */
struct trainer {
    uint64_t model_type, suffix, id[4];
};

static bool take_trainer(struct trainer *t, struct apr_bytes wire)
{
    struct apr_cursor c = apr_cursor_on(wire);
    struct field f;
    while (next(&c, &f))
        if (f.number == 3 && f.wire == VARINT)
            t->model_type = f.value;
        else if (f.number == 24 && f.wire == VARINT)
            t->suffix = f.value;
        else if (f.number >= 40 && f.number <= 43 && f.wire == VARINT)
            t->id[f.number - 40] = f.value;
    return !c.bad;
}

/* ModelProto.normalizer_spec: { 2: precompiled_charsmap, 3: add_dummy_prefix, 4: remove_extra_whitespaces, 5: escape_whitespaces } */
static bool take_normalizer(struct apr_vocabulary *v, struct apr_bytes wire)
{
    struct apr_cursor c = apr_cursor_on(wire);
    struct field f;
    while (next(&c, &f))
        if (f.number == 2 && f.wire == BYTES)
            v->charsmap = f.bytes;
        else if (f.number == 3 && f.wire == VARINT)
            v->add_space_prefix = f.value != 0 ? APR_YES : APR_NO;
        else if (f.number == 4 && f.wire == VARINT)
            v->remove_extra_whitespaces = f.value != 0 ? APR_YES : APR_NO;
        else if (f.number == 5 && f.wire == VARINT)
            v->escape_whitespaces = f.value != 0 ? APR_YES : APR_NO;
    return !c.bad;
}

static enum apr_code name_ids(struct apr_vocabulary *v, const struct trainer *t, struct apr_error *e)
{
    static const char *const word[] = { "unk", "bos", "eos", "pad" };
    for (size_t i = 0; i < APR_LENGTH(word); i++)
        if (t->id[i] < v->size)
            APR_TRY(apr_put_special(v, apr_text(word[i]), t->id[i], true, e));
    return APR_OK;
}

enum apr_code apr_read_sentencepiece(struct apr_vocabulary *v, struct apr_bytes wire, struct apr_error *e)
{
    static const struct {
        const char              *word;
        enum apr_vocabulary_kind kind;
    } models[] = { { "unigram", APR_VOCABULARY_UNIGRAM }, { "bpe", APR_VOCABULARY_SPM }, { "word", APR_VOCABULARY_OTHER },
                   { "char", APR_VOCABULARY_OTHER } };
    struct apr_cursor c = apr_cursor_on(wire);
    struct trainer trainer = { .model_type = 1, .id = { 0, 1, 2, UINT64_MAX } };
    struct field f;
    enum apr_code code = APR_OK;
    size_t at = 0;
    v->from = APR_FROM_SENTENCEPIECE;
    v->add_space_prefix = v->remove_extra_whitespaces = APR_YES;
    bool sound = true;
    while (sound && code == APR_OK && (at = c.at, next(&c, &f))) {
        if (f.number == 1 && f.wire == BYTES)
            sound = take_piece(v, f.bytes, &code, e);
        else if (f.number == 2 && f.wire == BYTES)
            sound = take_trainer(&trainer, f.bytes);
        else if (f.number == 3 && f.wire == BYTES)
            sound = take_normalizer(v, f.bytes);
    }
    if (code != APR_OK)
        return code;
    if (!sound || c.bad || v->ntoken == 0)
        return apr_found(apr_fail(e, APR_ECORRUPT, at, "is no SentencePiece model: %s", v->ntoken == 0 ? "there is no piece" :
                                  "a field breaks off, or is of no kind"), e, "vocab.syntax");
    const size_t model = trainer.model_type >= 1 && trainer.model_type <= APR_LENGTH(models) ? (size_t)trainer.model_type - 1 : 0;
    v->kind = models[model].kind;
    v->model = apr_text(models[model].word);
    v->has_scores = v->has_types = v->found = true;
    v->space_suffix = trainer.suffix != 0 ? APR_YES : APR_NO;
    return name_ids(v, &trainer, e);
}
