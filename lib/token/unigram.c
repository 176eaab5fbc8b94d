/* The most likely pieces of a text, by the sum of their scores. From left to right, for each place the best way there is known: the
 * best way to a place before it, and one piece more.
 *
 * Three programs do this, and add up differently: SentencePiece keeps a float for each place, tokenizers and llama.cpp a double.
 * Where two ways are all but equally good the last bit decides, so each is done as the program does it. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "token/pieces.h"

#define PENALTY    10.0 /* below the lowest score there is, for what is unknown */
#define MOST_BYTES ((size_t)UINT32_MAX / 8)
#define UNKNOWN    (UINT32_MAX - 1) /* in the place of a token */

/* The best way to a place: where its last piece begins, and which token it is, by its place in v->token; APR_NO_VALUE: none leads there. */
struct way {
    double   score;
    uint32_t from, token;
};

struct unigram {
    struct apr_pieces pieces;
    struct apr_trie   trie;
    struct apr_made   text;
    struct way       *way;
    size_t            way_room;
    double            unknown_score;
};

/* ---- scores ---------------------------------------------------------------------------------------------------------- */

/* Is it one of the model's? */
static bool is_piece(const struct unigram *x, const struct apr_token *t)
{
    if (t->text.n == 0)
        return false;
    if (x->pieces.manner == APR_AS_HUGGINGFACE)
        return !(t->flags & APR_TOKEN_ADDED) || t->flags & APR_TOKEN_OWN;
    return t->type == APR_TOKEN_NORMAL || t->type == APR_TOKEN_USER || t->type == APR_TOKEN_UNUSED;
}

/* Below the lowest: of all pieces in tokenizers, of normal ones in the others. */
static void set_unknown_score(struct unigram *x)
{
    const struct apr_vocabulary *v = x->pieces.v;
    const bool all = x->pieces.manner == APR_AS_HUGGINGFACE;
    double low = all ? DBL_MAX : (double)FLT_MAX;
    for (size_t i = 0; i < v->ntoken; i++) {
        const struct apr_token *t = &v->token[i];
        if (all ? !is_piece(x, t) && t->text.n > 0 : t->type != APR_TOKEN_NORMAL)
            continue;
        low = t->score < low ? t->score : low;
    }
    x->unknown_score = all ? low - PENALTY : (double)((float)low - (float)PENALTY);
}

/* n: its bytes. One of the user's is to be taken before others. */
static double score_of(const struct unigram *x, const struct apr_token *t, size_t n)
{
    if (t->type != APR_TOKEN_USER || x->pieces.manner == APR_AS_HUGGINGFACE)
        return t->score;
    return x->pieces.manner == APR_AS_LLAMA_CPP ? 0 : (double)n * 0.1 - 0.1;
}

/* A better way to a place than what is known. */
static void offer(const struct unigram *x, size_t from, size_t to, uint32_t token, double score)
{
    struct way *w = &x->way[to];
    double sum = x->way[from].score + score;
    if (x->pieces.manner == APR_AS_SENTENCEPIECE)
        sum = (double)((float)x->way[from].score + (float)score);
    if (w->token == APR_NO_VALUE || sum > w->score)
        *w = (struct way){ sum, (uint32_t)from, token };
}

/* ---- ways ------------------------------------------------------------------------------------------------------------ */

/* Goes on from a place by every piece that stands there; true when one of them is the character alone, which has n bytes. */
static bool go_on(const struct unigram *x, struct apr_bytes text, size_t from, size_t n)
{
    uint32_t at = 0;
    bool alone = false;
    for (size_t i = from; i < text.n && (at = apr_trie_step(&x->trie, at, text.at[i])) != 0; i++) {
        const uint32_t token = x->trie.value[at];
        if (token == APR_NO_VALUE)
            continue;
        const struct apr_token *t = &x->pieces.v->token[token];
        if (x->pieces.manner == APR_AS_SENTENCEPIECE && t->type == APR_TOKEN_UNUSED)
            continue;
        offer(x, from, i + 1, token, score_of(x, t, i + 1 - from));
        alone = alone || i + 1 - from == n;
    }
    return alone;
}

static enum apr_code make_room(struct unigram *x, size_t n, struct apr_error *e)
{
    if (n + 1 > x->way_room) {
        struct way *more = realloc(x->way, 2 * (n + 1) * sizeof *more);
        if (more == NULL)
            return apr_no_memory(e);
        x->way = more;
        x->way_room = 2 * (n + 1);
    }
    for (size_t i = 0; i <= n; i++)
        x->way[i] = (struct way){ 0, 0, APR_NO_VALUE };
    return APR_OK;
}

/* Adds the token of one step of the best way, whose text is this: a piece, or a run of unknown characters. */
static enum apr_code put(const struct unigram *x, struct apr_bytes text, const struct way *w, struct apr_ids *ids, struct apr_error *e)
{
    const struct apr_token *t = NULL;
    if (w->token != UNKNOWN)
        return apr_ids_add(ids, x->pieces.v->token[w->token].id, e);
    if (x->pieces.manner == APR_AS_HUGGINGFACE)
        t = apr_vocabulary_find(x->pieces.v, text);
    if (t != NULL && is_piece(x, t))
        return apr_ids_add(ids, t->id, e);
    bool bytes = x->pieces.v->byte_fallback && x->pieces.manner != APR_AS_LLAMA_CPP;
    for (size_t i = 0; i < text.n && bytes; i++)
        bytes = x->pieces.byte[text.at[i]] != APR_NO_VALUE;
    if (bytes)
        return apr_pieces_bytes(&x->pieces, text, ids, e);
    if (!x->pieces.has_unknown)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the vocabulary has no token for %s, and none for what is unknown",
                        APR_QUOTED(text));
    return apr_ids_add(ids, x->pieces.unknown, e);
}

/* Nothing is known there, or the token for that stands there itself. */
static bool is_unknown(const struct unigram *x, const struct way *w)
{
    return w->token == UNKNOWN || (x->pieces.has_unknown && x->pieces.v->token[w->token].id == x->pieces.unknown);
}

/* Turns the ways round, so that `from` leads on; unknown characters that follow one another become one step. */
static void turn_round(struct unigram *x, size_t n)
{
    size_t to = n;
    struct way next = x->way[n];
    x->way[n].from = (uint32_t)n;
    while (to > 0) {
        const size_t from = next.from;
        const struct way before = x->way[from];
        uint32_t end = (uint32_t)to;
        if (is_unknown(x, &next) && to < n && x->way[to].token == UNKNOWN)
            end = x->way[to].from;
        x->way[from] = (struct way){ 0, end, is_unknown(x, &next) ? UNKNOWN : next.token };
        next = before;
        to = from;
    }
}

static enum apr_code take_best(struct unigram *x, struct apr_bytes text, struct apr_ids *ids, struct apr_error *e)
{
    APR_TRY(make_room(x, text.n, e));
    for (size_t n, i = 0; i < text.n; i += n) {
        n = apr_pieces_character((struct apr_bytes){ text.at + i, text.n - i });
        if (!go_on(x, text, i, n))
            offer(x, i, i + n, UNKNOWN, x->unknown_score);
    }
    turn_round(x, text.n);
    for (size_t i = 0; i < text.n; i = x->way[i].from)
        APR_TRY(put(x, (struct apr_bytes){ text.at + i, x->way[i].from - i }, &x->way[i], ids, e));
    return APR_OK;
}

/* ---- the model ------------------------------------------------------------------------------------------------------- */

static enum apr_code begin(void *state, struct apr_vocabulary *v, enum apr_manner manner, struct apr_error *e)
{
    struct unigram *x = state;
    size_t n = 0;
    APR_TRY(apr_pieces_begin(&x->pieces, v, manner, e));
    struct apr_trie_text *text = malloc((v->ntoken + 1) * sizeof *text);
    if (text == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < v->ntoken; i++)
        if (is_piece(x, &v->token[i]))
            text[n++] = (struct apr_trie_text){ v->token[i].text, (uint32_t)i };
    const enum apr_code code = apr_trie_make(&x->trie, text, n, e);
    free(text);
    set_unknown_score(x);
    return code;
}

static void end(void *state)
{
    struct unigram *x = state;
    apr_pieces_end(&x->pieces);
    apr_trie_free(&x->trie);
    free(x->text.at);
    free(x->way);
}

static enum apr_code encode(void *state, struct apr_bytes text, unsigned where, struct apr_ids *ids, struct apr_error *e)
{
    struct unigram *x = state;
    (void)where;
    if (text.n > MOST_BYTES)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu bytes of text, at most %zu are tokenized at once", text.n, MOST_BYTES);
    if (x->pieces.manner == APR_AS_HUGGINGFACE)
        return take_best(x, text, ids, e);
    APR_TRY(apr_pieces_normalize(&x->pieces, text, &x->text, e));
    return take_best(x, (struct apr_bytes){ x->text.at, x->text.n }, ids, e);
}

static struct apr_bytes spelling(void *state, const struct apr_token *t)
{
    return apr_pieces_spelling(&((struct unigram *)state)->pieces, t);
}

const struct apr_token_model apr_model_unigram = { sizeof(struct unigram), begin, encode, spelling, end };
