/* SentencePiece's BPE: of all pairs of neighbours whose texts together are a piece, the one with the highest score is joined, of equal
 * ones the leftmost, until there is none.
 *
 * Between two characters that stand beside each other in no piece nothing is ever joined, so a text is cut there, and what was found
 * for such a part is kept: most of a text has been seen before. Within a part pairs wait in a heap, and the characters are a linked
 * list, so that a megabyte of one letter takes no longer than any other. */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/bytes.h"
#include "token/pieces.h"

#define NONE         UINT32_MAX
#define MOST_BYTES   ((size_t)UINT32_MAX / 8) /* of a text at once */
#define NKEPT        16384u
#define KEPT_BYTES   40u
#define KEPT_IDS     10u
#define MOST_BITS    ((size_t)1 << 24) /* 2 MiB */
#define MOST_CUTS    64                /* of one unused piece, one within the other */

/* A part of a text and its tokens, where the lower bits of its hash say. */
struct kept {
    unsigned char n, nid, text[KEPT_BYTES];
    uint32_t      id[KEPT_IDS];
};

/* A run of characters that has become one; n is 0 once it has been joined to the one before. */
struct symbol {
    uint32_t at, n, before, behind;
};

/* A pair that may be joined, if both still have these bytes together then. */
struct pair {
    float    score;
    uint32_t left, n;
};

struct spm {
    struct apr_pieces pieces;
    struct apr_made   text;
    struct symbol    *symbol;
    struct pair      *heap;
    struct kept      *kept;
    uint32_t         *cut;    /* of each unused token: where the last pair that makes it has its second half, or 0; NULL: there is none */
    uint64_t         *beside; /* a bit for each pair of neighbours in a piece, at the place that its hash gives; nbeside bits */
    size_t            nbeside, nsymbol, symbol_room, npair, pair_room;
};

/* ---- which characters stand beside each other ------------------------------------------------------------------------ */

static uint64_t packed(struct apr_bytes text, size_t n)
{
    uint64_t c = 0;
    for (size_t i = 0; i < n; i++)
        c = c << 8 | text.at[i];
    return c;
}

static size_t place_of(const struct spm *x, uint64_t before, uint64_t c)
{
    return (size_t)(((before << 32 | c) * 0x9E3779B97F4A7C15u) >> 20) & (x->nbeside - 1);
}

static void note_neighbours(struct spm *x, struct apr_bytes text)
{
    uint64_t before = 0;
    for (size_t n, i = 0; i < text.n; i += n) {
        const struct apr_bytes rest = { text.at + i, text.n - i };
        n = apr_pieces_character(rest);
        const uint64_t c = packed(rest, n);
        const size_t place = place_of(x, before, c);
        if (i > 0)
            x->beside[place / 64] |= (uint64_t)1 << place % 64;
        before = c;
    }
}

static bool may_join(const struct spm *x, uint64_t before, uint64_t c)
{
    const size_t place = place_of(x, before, c);
    return x->beside[place / 64] >> place % 64 & 1;
}

/* ---- tokens of a text ------------------------------------------------------------------------------------------------ */

/* May it come out of joining? SentencePiece keeps control, unknown and byte tokens apart. */
static bool is_piece(const struct spm *x, const struct apr_token *t)
{
    return x->pieces.manner == APR_AS_LLAMA_CPP || t->type == APR_TOKEN_NORMAL || t->type == APR_TOKEN_USER || t->type == APR_TOKEN_UNUSED;
}

/* An unused piece is joined like any other, and at the end taken apart again. */
static bool is_unused(const struct spm *x, const struct apr_token *t)
{
    return x->pieces.manner == APR_AS_SENTENCEPIECE && t->type == APR_TOKEN_UNUSED;
}

static struct apr_bytes text_of(const struct spm *x, uint32_t i, uint32_t n)
{
    return (struct apr_bytes){ x->text.at + x->symbol[i].at, n };
}

/* ---- the heap -------------------------------------------------------------------------------------------------------- */

static bool goes_before(const struct pair *a, const struct pair *b)
{
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static enum apr_code push(struct spm *x, struct pair p, struct apr_error *e)
{
    struct pair *more = apr_grown(x->heap, &x->pair_room, x->npair, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    x->heap = more;
    size_t i = x->npair++;
    for (; i > 0 && goes_before(&p, &x->heap[(i - 1) / 2]); i = (i - 1) / 2)
        x->heap[i] = x->heap[(i - 1) / 2];
    x->heap[i] = p;
    return APR_OK;
}

static struct pair pop(struct spm *x)
{
    const struct pair top = x->heap[0], last = x->heap[--x->npair];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < x->npair; i = child) {
        child += child + 1 < x->npair && goes_before(&x->heap[child + 1], &x->heap[child]);
        if (!goes_before(&x->heap[child], &last))
            break;
        x->heap[i] = x->heap[child];
    }
    x->heap[i] = last;
    return top;
}

/* ---- joining --------------------------------------------------------------------------------------------------------- */

static enum apr_code offer(struct spm *x, uint32_t left, uint32_t right, struct apr_error *e)
{
    if (left == NONE || right == NONE)
        return APR_OK;
    const uint32_t n = x->symbol[left].n + x->symbol[right].n;
    if (n > x->pieces.v->longest)
        return APR_OK;
    const struct apr_token *t = apr_vocabulary_find(x->pieces.v, text_of(x, left, n));
    if (t == NULL || !is_piece(x, t))
        return APR_OK;
    if (x->cut != NULL && is_unused(x, t))
        x->cut[t - x->pieces.v->token] = x->symbol[left].n;
    return push(x, (struct pair){ (float)t->score, left, n }, e);
}

static enum apr_code join(struct spm *x, const struct pair *p, struct apr_error *e)
{
    struct symbol *left = &x->symbol[p->left];
    if (left->n == 0 || left->behind == NONE || left->n + x->symbol[left->behind].n != p->n)
        return APR_OK; /* one of both has been joined since */
    struct symbol *right = &x->symbol[left->behind];
    left->n = p->n;
    right->n = 0;
    left->behind = right->behind;
    if (right->behind != NONE)
        x->symbol[right->behind].before = p->left;
    APR_TRY(offer(x, left->before, p->left, e));
    return offer(x, p->left, left->behind, e);
}

static enum apr_code add_character(struct spm *x, size_t at, size_t n, struct apr_error *e)
{
    struct symbol *more = apr_grown(x->symbol, &x->symbol_room, x->nsymbol, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    x->symbol = more;
    const uint32_t i = (uint32_t)x->nsymbol++;
    x->symbol[i] = (struct symbol){ (uint32_t)at, (uint32_t)n, i == 0 ? NONE : i - 1, NONE };
    if (i > 0)
        x->symbol[i - 1].behind = i;
    return APR_OK;
}

static enum apr_code put_unknown(const struct spm *x, struct apr_bytes text, bool *after_unknown, struct apr_ids *ids, struct apr_error *e)
{
    const bool bytes = x->pieces.manner == APR_AS_LLAMA_CPP || x->pieces.v->byte_fallback;
    const bool again = *after_unknown && !bytes;
    *after_unknown = true;
    if (bytes)
        return apr_pieces_bytes(&x->pieces, text, ids, e);
    if (!x->pieces.has_unknown)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the vocabulary has no token for %s, and none for what is unknown",
                        APR_QUOTED(text));
    return again ? APR_OK : apr_ids_add(ids, x->pieces.unknown, e);
}

/* Adds the token of the text; one that is unused is taken apart where the last pair was found that makes it. */
static enum apr_code put_token(const struct spm *x, struct apr_bytes text, unsigned levels, bool *after_unknown, struct apr_ids *ids,
                               struct apr_error *e)
{
    const struct apr_token *t = apr_vocabulary_find(x->pieces.v, text);
    const bool unknown = t == NULL || (x->pieces.manner == APR_AS_SENTENCEPIECE && t->type == APR_TOKEN_UNKNOWN);
    const uint32_t cut = t == NULL || x->cut == NULL || !is_unused(x, t) ? 0 : x->cut[t - x->pieces.v->token];
    if (unknown)
        return put_unknown(x, text, after_unknown, ids, e);
    if (cut > 0 && cut < text.n && levels > 0) {
        APR_TRY(put_token(x, (struct apr_bytes){ text.at, cut }, levels - 1, after_unknown, ids, e));
        return put_token(x, (struct apr_bytes){ text.at + cut, text.n - cut }, levels - 1, after_unknown, ids, e);
    }
    *after_unknown = false;
    return apr_ids_add(ids, t->id, e);
}

/* ---- parts of a text -------------------------------------------------------------------------------------------------- */

static enum apr_code join_part(struct spm *x, size_t begin, size_t end, bool *after_unknown, struct apr_ids *ids, struct apr_error *e)
{
    x->nsymbol = x->npair = 0;
    for (size_t n, at = begin; at < end; at += n) {
        n = apr_pieces_character((struct apr_bytes){ x->text.at + at, end - at });
        APR_TRY(add_character(x, at, n, e));
    }
    for (uint32_t i = 1; i < x->nsymbol; i++)
        APR_TRY(offer(x, i - 1, i, e));
    while (x->npair > 0) {
        const struct pair p = pop(x);
        APR_TRY(join(x, &p, e));
    }
    for (uint32_t i = 0; i != NONE; i = x->symbol[i].behind)
        APR_TRY(put_token(x, text_of(x, i, x->symbol[i].n), MOST_CUTS, after_unknown, ids, e));
    return APR_OK;
}

/* The same by what is kept, if it can be; *after_unknown: the token before it is the one for what is unknown. */
static enum apr_code put_part(struct spm *x, size_t begin, size_t end, bool *after_unknown, struct apr_ids *ids, struct apr_error *e)
{
    const size_t n = end - begin, before = ids->n;
    struct kept *k = &x->kept[XXH3_64bits(x->text.at + begin, n) & (NKEPT - 1)];
    if (n > KEPT_BYTES || *after_unknown)
        return join_part(x, begin, end, after_unknown, ids, e);
    if (k->n != n || memcmp(k->text, x->text.at + begin, n) != 0) {
        APR_TRY(join_part(x, begin, end, after_unknown, ids, e));
        if (ids->n - before > KEPT_IDS || *after_unknown)
            return APR_OK;
        *k = (struct kept){ .n = (unsigned char)n, .nid = (unsigned char)(ids->n - before) };
        memcpy(k->text, x->text.at + begin, n);
        memcpy(k->id, ids->id + before, k->nid * sizeof *k->id);
        return APR_OK;
    }
    for (size_t i = 0; i < k->nid; i++)
        APR_TRY(apr_ids_add(ids, k->id[i], e));
    return APR_OK;
}

/* Cuts x->text, and takes out what is a piece of the user's. */
static enum apr_code put_text(struct spm *x, struct apr_ids *ids, struct apr_error *e)
{
    const bool user = x->pieces.manner == APR_AS_SENTENCEPIECE && x->pieces.user.n > 1;
    const struct apr_bytes text = { x->text.at, x->text.n };
    bool after_unknown = false;
    uint64_t before = 0;
    size_t begin = 0;
    for (size_t n, i = 0; i < text.n; i += n) {
        const struct apr_bytes rest = { text.at + i, text.n - i };
        uint32_t own;
        const size_t whole = user ? apr_trie_longest(&x->pieces.user, rest, &own) : 0;
        n = whole > 0 ? whole : apr_pieces_character(rest);
        const uint64_t c = packed(rest, whole > 0 ? 0 : n);
        if (i > begin && (whole > 0 || !may_join(x, before, c))) {
            APR_TRY(put_part(x, begin, i, &after_unknown, ids, e));
            begin = i;
        }
        before = c;
        if (whole > 0) {
            APR_TRY(apr_ids_add(ids, x->pieces.v->token[own].id, e));
            after_unknown = false;
            begin = i + n;
        }
    }
    return begin < text.n ? put_part(x, begin, text.n, &after_unknown, ids, e) : APR_OK;
}

/* ---- the model -------------------------------------------------------------------------------------------------------- */

static enum apr_code begin(void *state, struct apr_vocabulary *v, enum apr_manner manner, struct apr_error *e)
{
    struct spm *x = state;
    size_t bytes = 0, unused = 0;
    APR_TRY(apr_pieces_begin(&x->pieces, v, manner, e));
    for (size_t i = 0; i < v->ntoken; i++) {
        bytes += v->token[i].text.n;
        unused += is_unused(x, &v->token[i]);
    }
    for (x->nbeside = 4096; x->nbeside < 16 * bytes && x->nbeside < MOST_BITS; x->nbeside *= 2)
        continue;
    x->beside = calloc(x->nbeside / 64, sizeof *x->beside);
    x->kept = calloc(NKEPT, sizeof *x->kept);
    x->cut = unused == 0 ? NULL : calloc(v->ntoken, sizeof *x->cut);
    if (x->beside == NULL || x->kept == NULL || (unused > 0 && x->cut == NULL))
        return apr_no_memory(e);
    for (size_t i = 0; i < v->ntoken; i++)
        if (is_piece(x, &v->token[i]))
            note_neighbours(x, v->token[i].text);
    return APR_OK;
}

static void end(void *state)
{
    struct spm *x = state;
    apr_pieces_end(&x->pieces);
    free(x->text.at);
    free(x->symbol);
    free(x->heap);
    free(x->kept);
    free(x->beside);
    free(x->cut);
}

/* llama.cpp puts the blank before all that does not follow another text. */
static enum apr_code escape(struct spm *x, struct apr_bytes text, unsigned where, struct apr_error *e)
{
    x->text.n = 0;
    if (x->pieces.dummy_prefix && where != 0)
        APR_TRY(apr_made_add(&x->text, apr_text("\u2581"), e));
    for (const unsigned char *blank; text.n > 0 && (blank = memchr(text.at, ' ', text.n)) != NULL;) {
        const size_t n = (size_t)(blank - text.at);
        APR_TRY(apr_made_add(&x->text, (struct apr_bytes){ text.at, n }, e));
        APR_TRY(apr_made_add(&x->text, apr_text("\u2581"), e));
        text = (struct apr_bytes){ text.at + n + 1, text.n - n - 1 };
    }
    return apr_made_add(&x->text, text, e);
}

static enum apr_code encode(void *state, struct apr_bytes text, unsigned where, struct apr_ids *ids, struct apr_error *e)
{
    struct spm *x = state;
    if (text.n > MOST_BYTES)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu bytes of text, at most %zu are tokenized at once", text.n, MOST_BYTES);
    if (x->pieces.manner == APR_AS_LLAMA_CPP)
        APR_TRY(escape(x, text, where, e));
    else
        APR_TRY(apr_pieces_normalize(&x->pieces, text, &x->text, e));
    return put_text(x, ids, e);
}

static struct apr_bytes spelling(void *state, const struct apr_token *t) { return apr_pieces_spelling(&((struct spm *)state)->pieces, t); }

const struct apr_token_model apr_model_spm = { sizeof(struct spm), begin, encode, spelling, end };
