/* Byte-pair encoding: of all neighbours in a piece the two whose merge stands first in the list become one, again and again. The pieces are
 * HuggingFace's or llama.cpp's; they differ in what comes of texts that are no tokens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "token/split.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/table.h"

#define NONE UINT32_MAX
#define FEW  0x250u /* characters that are looked up once: ASCII, and those that stand for bytes */

/* What a piece is made of so far: a list through an array. token may be no token: a text that merges alone know.
 *   before, behind  the neighbours, or NONE; n is 0 once it has become part of the one before it */
struct symbol {
    uint32_t token, at, n, before, behind;
};

/* unknown  of HuggingFace, or NONE
 *   byte   the tokens for bytes, or NONE: "<0x41>", or what is one byte long
 *   merge  by | left 32 | right 32 |: | rank 32 | what they become 32 |
 *   made   of each merge by its rank: what comes of it; guess: what may come of the next one, as tokens stand by the order of merges
 *   extra  llama.cpp merges texts: those that are no tokens have numbers from v->size on
 *   wait   a heap of merges that may be: | rank 32 | place of the left one 32 | */
struct bpe {
    const struct apr_vocabulary *v;
    const struct apr_pre        *pre;
    bool                         as_llama, bytes;
    uint32_t                     unknown, byte[256], few[FEW], *made, guess;
    struct apr_table             merge, extra;
    struct symbol               *symbol;
    uint64_t                    *wait;
    size_t                       nsymbol, symbol_room, nwait, wait_room;
    struct apr_made              spelled;
};

/* ---- texts ----------------------------------------------------------------------------------------------------------- */

/* The model's own token of that text: those that are only added are not its affair. */
static uint32_t token_of(const struct bpe *b, struct apr_bytes text)
{
    const struct apr_token *const t = apr_vocabulary_find(b->v, text);
    const bool added = t != NULL && t->flags & APR_TOKEN_ADDED && !(t->flags & APR_TOKEN_OWN);
    return t == NULL || added ? NONE : t->id;
}

/* The number of that text: a token's, or one of its own. */
static uint32_t number_of(const struct bpe *b, struct apr_bytes text)
{
    const uint32_t token = token_of(b, text);
    const union apr_table_value *const at = token == NONE ? apr_table_find(&b->extra, text) : NULL;
    return at == NULL ? token : (uint32_t)at->number;
}

static enum apr_code number_for(struct bpe *b, struct apr_vocabulary *v, struct apr_bytes text, bool copied, uint32_t *number,
                                struct apr_error *e)
{
    bool fresh;
    *number = number_of(b, text);
    if (*number != NONE)
        return APR_OK;
    const struct apr_bytes kept = copied ? apr_arena_copy(&v->arena, text) : text;
    union apr_table_value *const at = kept.at == NULL ? NULL : apr_table_put(&b->extra, kept, &fresh);
    if (at == NULL)
        return apr_no_memory(e);
    at->number = v->size + b->extra.n - 1;
    *number = (uint32_t)at->number;
    return APR_OK;
}

/* ---- making it ------------------------------------------------------------------------------------------------------- */

/* Left and right in one text: without the mark of a continued word in between. */
static enum apr_code join(struct bpe *b, const struct apr_merge *m, struct apr_bytes *text, struct apr_error *e)
{
    const size_t mark = b->as_llama || b->v->prefix.n > m->right.n ? 0 : b->v->prefix.n;
    b->spelled.n = 0;
    APR_TRY(apr_made_add(&b->spelled, m->left, e));
    APR_TRY(apr_made_add(&b->spelled, (struct apr_bytes){ m->right.at + mark, m->right.n - mark }, e));
    *text = (struct apr_bytes){ b->spelled.at, b->spelled.n };
    return APR_OK;
}

/* The number of what comes of a merge; looking it up is mostly avoided. */
static enum apr_code number_made(struct bpe *b, struct apr_vocabulary *v, struct apr_bytes both, uint32_t *number, struct apr_error *e)
{
    const struct apr_token *const t = v->faults.again > 0 ? NULL : apr_vocabulary_token(v, b->guess);
    if (t != NULL && apr_bytes_equal(t->text, both) && (!(t->flags & APR_TOKEN_ADDED) || t->flags & APR_TOKEN_OWN))
        *number = b->guess;
    else if (b->as_llama)
        APR_TRY(number_for(b, v, both, true, number, e));
    else
        *number = token_of(b, both);
    b->guess = *number + 1;
    return APR_OK;
}

/* HuggingFace's library refuses a merge of what is no token. */
static enum apr_code numbers_of(struct bpe *b, struct apr_vocabulary *v, size_t i, uint32_t number[3], struct apr_error *e)
{
    struct apr_bytes both;
    const struct apr_merge *const m = &v->merge[i];
    APR_TRY(join(b, m, &both, e));
    APR_TRY(number_made(b, v, both, &number[2], e));
    if (b->as_llama) {
        APR_TRY(number_for(b, v, m->left, false, &number[0], e));
        return number_for(b, v, m->right, false, &number[1], e);
    }
    number[0] = token_of(b, m->left);
    number[1] = token_of(b, m->right);
    if (number[0] != NONE && number[1] != NONE && number[2] != NONE)
        return APR_OK;
    const struct apr_bytes what = number[0] == NONE ? m->left : number[1] == NONE ? m->right : both;
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "merge %zu is of %s, which is no token", i, APR_QUOTED(what));
}

static enum apr_code take_merges(struct bpe *b, struct apr_vocabulary *v, struct apr_error *e)
{
    b->made = malloc((v->nmerge + 1) * sizeof *b->made);
    if (b->made == NULL || !apr_table_expect(&b->merge, v->nmerge))
        return apr_no_memory(e);
    for (size_t i = 0; i < v->nmerge; i++) {
        uint32_t number[3];
        bool fresh;
        APR_TRY(numbers_of(b, v, i, number, e));
        union apr_table_value *const at = apr_table_put(&b->merge, apr_table_integer((uint64_t)number[0] << 32 | number[1]), &fresh);
        if (at == NULL)
            return apr_no_memory(e);
        b->made[i] = number[2];
        if (fresh || !b->as_llama) /* of two the last counts, or the first */
            at->number = (uint64_t)i << 32 | number[2];
    }
    return APR_OK;
}

static void find_few(struct bpe *b)
{
    for (uint32_t c = 0; c < FEW; c++) {
        const unsigned char two[2] = { (unsigned char)(0xC0 | c >> 6), (unsigned char)(0x80 | (c & 0x3F)) };
        const unsigned char one = (unsigned char)c;
        b->few[c] = number_of(b, (struct apr_bytes){ c < 0x80 ? &one : two, c < 0x80 ? 1 : 2 });
    }
}

static void find_bytes(struct bpe *b)
{
    const bool plain = b->as_llama && b->bytes;
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        const unsigned char one = (unsigned char)byte;
        snprintf(text, sizeof text, "<0x%02X>", byte);
        b->byte[byte] = token_of(b, plain ? (struct apr_bytes){ &one, 1 } : apr_text(text));
    }
}

static void end(void *state)
{
    struct bpe *const b = state;
    apr_table_free(&b->merge);
    apr_table_free(&b->extra);
    free(b->made);
    free(b->symbol);
    free(b->wait);
    free(b->spelled.at);
}

static enum apr_code begin(void *state, struct apr_vocabulary *v, enum apr_manner manner, struct apr_error *e)
{
    static const struct apr_pre none = { .no_bytes = false };
    struct bpe *const b = state;
    b->as_llama = manner == APR_AS_LLAMA_CPP;
    const bool by_name = b->as_llama && apr_bytes_is(v->model, "gemma4");
    b->v = v;
    b->pre = b->as_llama ? apr_pre_named(by_name ? apr_text("gemma4") : v->pre) : &none;
    if (b->pre == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "pre-tokenizer %s is not known", APR_QUOTED(v->pre));
    b->bytes = b->as_llama ? !b->pre->no_bytes
                           : v->from != APR_FROM_TOKENIZER_JSON || apr_bytes_have(v->decoder, "\"ByteLevel\"") ||
                                 apr_bytes_have(v->pre_tokenizer, "\"ByteLevel\"");
    b->unknown = b->as_llama || v->unk_token.n == 0 ? NONE : token_of(b, v->unk_token);
    APR_TRY(take_merges(b, v, e));
    find_few(b);
    find_bytes(b);
    return APR_OK;
}

/* ---- a heap of merges ------------------------------------------------------------------------------------------------ */

static enum apr_code push(struct bpe *b, uint64_t merge, struct apr_error *e)
{
    uint64_t *const more = apr_grown(b->wait, &b->wait_room, b->nwait, 1024, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    b->wait = more;
    size_t i = b->nwait++;
    for (; i > 0 && b->wait[(i - 1) / 2] > merge; i = (i - 1) / 2)
        b->wait[i] = b->wait[(i - 1) / 2];
    b->wait[i] = merge;
    return APR_OK;
}

static uint64_t pop(struct bpe *b)
{
    const uint64_t first = b->wait[0], last = b->wait[--b->nwait];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < b->nwait; i = child) {
        child += child + 1 < b->nwait && b->wait[child + 1] < b->wait[child];
        if (b->wait[child] >= last)
            break;
        b->wait[i] = b->wait[child];
    }
    b->wait[i] = last;
    return first;
}

/* ---- symbols --------------------------------------------------------------------------------------------------------- */

static enum apr_code put_symbol(struct bpe *b, uint32_t token, size_t at, size_t n, struct apr_error *e)
{
    struct symbol *const more = apr_grown(b->symbol, &b->symbol_room, b->nsymbol, 256, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    const uint32_t i = (uint32_t)b->nsymbol++;
    b->symbol = more;
    b->symbol[i] = (struct symbol){ token, (uint32_t)at, (uint32_t)n, i == 0 ? NONE : i - 1, NONE };
    if (i > 0)
        b->symbol[i - 1].behind = i;
    return APR_OK;
}

/* The character as the vocabulary has it, marked where it stands in its word. */
static enum apr_code spell(struct bpe *b, struct apr_bytes c, bool first, bool last, struct apr_bytes *text, struct apr_error *e)
{
    *text = c;
    if ((first || b->v->prefix.n == 0) && (!last || b->v->suffix.n == 0))
        return APR_OK;
    b->spelled.n = 0;
    if (!first)
        APR_TRY(apr_made_add(&b->spelled, b->v->prefix, e));
    APR_TRY(apr_made_add(&b->spelled, c, e));
    if (last)
        APR_TRY(apr_made_add(&b->spelled, b->v->suffix, e));
    *text = (struct apr_bytes){ b->spelled.at, b->spelled.n };
    return APR_OK;
}

/* All bytes of the text as tokens; *done is false, and nothing put, when one has none. */
static enum apr_code fall_back(struct bpe *b, struct apr_bytes text, bool *done, struct apr_error *e)
{
    *done = b->v->byte_fallback;
    for (size_t i = 0; i < text.n && *done; i++)
        *done = b->byte[text.at[i]] != NONE;
    for (size_t i = 0; i < text.n && *done; i++)
        APR_TRY(put_symbol(b, b->byte[text.at[i]], 0, 1, e));
    return APR_OK;
}

/* The characters of a piece as HuggingFace takes them. One that is unknown waits for the next that is known, or is unknown as well. */
static enum apr_code put_characters(struct bpe *b, struct apr_bytes piece, struct apr_error *e)
{
    const bool marked = b->v->prefix.n > 0 || b->v->suffix.n > 0;
    size_t waiting = 0, n;
    for (size_t i = 0; i < piece.n; i += n) {
        const uint32_t c = apr_character(piece.at + i, piece.n - i, &n);
        struct apr_bytes text = { piece.at + i, n };
        bool done = false;
        if (marked)
            APR_TRY(spell(b, text, i == 0, i + n == piece.n, &text, e));
        const uint32_t token = c < FEW && !marked ? b->few[c] : token_of(b, text);
        if (token == NONE)
            APR_TRY(fall_back(b, text, &done, e));
        if (done || (token == NONE && b->unknown == NONE))
            continue;
        if (waiting > 0 && (token != NONE || !b->v->fuse_unk)) {
            APR_TRY(put_symbol(b, b->unknown, 0, waiting, e));
            waiting = 0;
        }
        if (token != NONE)
            APR_TRY(put_symbol(b, token, i, n, e));
        else
            waiting += n;
    }
    return waiting > 0 ? put_symbol(b, b->unknown, 0, waiting, e) : APR_OK;
}

static enum apr_code put_texts(struct bpe *b, struct apr_bytes piece, struct apr_error *e)
{
    for (size_t i = 0, n; i < piece.n; i += n) {
        const uint32_t c = apr_character(piece.at + i, piece.n - i, &n);
        APR_TRY(put_symbol(b, c < FEW ? b->few[c] : number_of(b, (struct apr_bytes){ piece.at + i, n }), i, n, e));
    }
    return APR_OK;
}

/* ---- merging --------------------------------------------------------------------------------------------------------- */

/* What may come of the symbol and the one behind it; *merge is | rank 32 | what they become 32 |. */
static bool may_merge(const struct bpe *b, uint32_t i, uint64_t *merge)
{
    const uint32_t next = b->symbol[i].behind;
    if (next == NONE)
        return false;
    const uint64_t key = (uint64_t)b->symbol[i].token << 32 | b->symbol[next].token;
    const union apr_table_value *const at = apr_table_find(&b->merge, apr_table_integer(key));
    *merge = at == NULL ? 0 : at->number;
    return at != NULL;
}

static enum apr_code await(struct bpe *b, uint32_t i, struct apr_error *e)
{
    uint64_t merge;
    return i != NONE && may_merge(b, i, &merge) ? push(b, (merge & (uint64_t)NONE << 32) | i, e) : APR_OK;
}

/* A merge that waited may come too late: for symbols that are gone, or became others. It counts when the two there become the same. */
static enum apr_code merge_all(struct bpe *b, struct apr_error *e)
{
    b->nwait = 0;
    for (uint32_t i = 0; i < b->nsymbol; i++)
        APR_TRY(await(b, i, e));
    while (b->nwait > 0) {
        const uint64_t top = pop(b);
        const uint32_t i = (uint32_t)top, made = b->made[top >> 32];
        struct symbol *const s = &b->symbol[i];
        uint64_t merge;
        if (s->n == 0 || !may_merge(b, i, &merge) || (uint32_t)merge != made)
            continue;
        struct symbol *const gone = &b->symbol[s->behind];
        s->token = made;
        s->n += gone->n;
        s->behind = gone->behind;
        gone->n = 0;
        if (s->behind != NONE)
            b->symbol[s->behind].before = i;
        APR_TRY(await(b, s->before, e));
        APR_TRY(await(b, i, e));
    }
    return APR_OK;
}

/* ---- encoding -------------------------------------------------------------------------------------------------------- */

/* llama.cpp puts a text that is no token byte by byte, those that have a token. */
static enum apr_code put_text(const struct bpe *b, struct apr_bytes text, struct apr_ids *ids, struct apr_error *e)
{
    for (size_t i = 0; i < text.n; i++)
        if (b->byte[text.at[i]] != NONE)
            APR_TRY(apr_ids_add(ids, b->byte[text.at[i]], e));
    return APR_OK;
}

static bool only_lines(struct apr_bytes piece)
{
    size_t i = 0;
    while (i < piece.n && piece.at[i] == '\n')
        i++;
    return i == piece.n;
}

static enum apr_code encode(void *state, struct apr_bytes piece, unsigned where, struct apr_ids *ids, struct apr_error *e)
{
    struct bpe *const b = state;
    const bool whole = b->as_llama ? b->pre->ignore_merges || (b->pre->whole_lines && only_lines(piece)) : b->v->ignore_merges;
    const uint32_t token = whole ? token_of(b, piece) : NONE;
    (void)where;
    if (token != NONE)
        return apr_ids_add(ids, token, e);
    if (piece.n >= NONE / 2)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a piece of the text has %zu bytes", piece.n);
    b->nsymbol = 0;
    APR_TRY(b->as_llama ? put_texts(b, piece, e) : put_characters(b, piece, e));
    APR_TRY(merge_all(b, e));
    for (uint32_t i = 0; i < b->nsymbol; i++) {
        const struct symbol *const s = &b->symbol[i];
        if (s->n > 0 && s->token < b->v->size)
            APR_TRY(apr_ids_add(ids, s->token, e));
        else if (s->n > 0)
            APR_TRY(put_text(b, (struct apr_bytes){ piece.at + s->at, s->n }, ids, e));
    }
    return APR_OK;
}

/* ---- spelling -------------------------------------------------------------------------------------------------------- */

/* "<0x41>" -> 0x41 */
static bool byte_of(struct apr_bytes text, unsigned char *byte)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *const high = text.n == 6 && memcmp(text.at, "<0x", 3) == 0 && text.at[5] == '>' ? strchr(digits, text.at[3]) : NULL;
    const char *const low = high == NULL || text.at[4] == 0 ? NULL : strchr(digits, text.at[4]);
    if (low == NULL || *high == 0)
        return false;
    *byte = (unsigned char)((high - digits) << 4 | (low - digits));
    return true;
}

static enum apr_code spell_bytes(struct bpe *b, struct apr_bytes text, struct apr_error *e)
{
    for (size_t i = 0, n; i < text.n; i += n) {
        unsigned char byte;
        const uint32_t c = apr_character(text.at + i, text.n - i, &n);
        const bool stands = apr_stands_for(c, &byte);
        APR_TRY(apr_made_add(&b->spelled, stands ? (struct apr_bytes){ &byte, 1 } : (struct apr_bytes){ text.at + i, n }, e));
    }
    return APR_OK;
}

static enum apr_code spell_pieces(struct bpe *b, struct apr_bytes text, struct apr_error *e)
{
    unsigned char byte;
    const struct apr_bytes prefix = b->v->prefix;
    const bool marked = b->v->suffix.n > 0 && apr_bytes_end(text, b->v->suffix);
    if ((b->v->byte_fallback || b->as_llama) && byte_of(text, &byte))
        return apr_made_add(&b->spelled, (struct apr_bytes){ &byte, 1 }, e);
    if (marked)
        text.n -= b->v->suffix.n;
    if (prefix.n > 0 && text.n > prefix.n && memcmp(text.at, prefix.at, prefix.n) == 0)
        text = (struct apr_bytes){ text.at + prefix.n, text.n - prefix.n };
    for (size_t i = 0, n; i < text.n; i += n) {
        const uint32_t c = apr_character(text.at + i, text.n - i, &n);
        APR_TRY(apr_made_add(&b->spelled, c == 0x2581 ? apr_text(" ") : (struct apr_bytes){ text.at + i, n }, e));
    }
    return marked ? apr_made_add(&b->spelled, apr_text(" "), e) : APR_OK;
}

/* When there is no memory for it, the token is spelled as it stands. */
static struct apr_bytes spelling(void *state, const struct apr_token *t)
{
    struct bpe *const b = state;
    struct apr_error e;
    b->spelled.n = 0;
    const enum apr_code code = b->bytes ? spell_bytes(b, t->text, &e) : spell_pieces(b, t->text, &e);
    return code == APR_OK ? (struct apr_bytes){ b->spelled.at, b->spelled.n } : t->text;
}

const struct apr_token_model apr_model_bpe = { sizeof(struct bpe), begin, encode, spelling, end };
