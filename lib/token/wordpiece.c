/* WordPiece: of a word the longest piece that it begins with, then of the rest the longest that continues a word; a word for which
 * that leads nowhere is unknown as a whole. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "token/encode_parts.h"
#include "token/letters.h"
#include "token/trie.h"

#define BLANK       "\u2581"
#define LONGEST     100 /* characters of a word, where nothing else is said */

/* begins, continues: pieces without the mark that tells them apart; in a GGUF one trie has all, and U+2581 begins a word.
 *   lower, strip  what is done to letters, where no normalizer does it; strip: accents are taken off */
struct wordpiece {
    const struct apr_vocabulary *v;
    enum apr_manner              manner;
    struct apr_trie              begins, continues;
    bool                         lower, strip, has_unknown;
    uint32_t                     unknown;
    uint64_t                     longest;
    struct apr_made              text, composed, word, spelled;
};

/* ---- a word ---------------------------------------------------------------------------------------------------------- */

static enum apr_code put_unknown(const struct wordpiece *x, struct apr_bytes word, struct apr_ids *ids, struct apr_error *e)
{
    if (!x->has_unknown)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the vocabulary has no tokens for %s, and none for what is unknown",
                        APR_QUOTED(word));
    return apr_ids_add(ids, x->unknown, e);
}

/* Are there more characters than n? */
static bool is_longer(struct apr_bytes word, uint64_t n)
{
    uint64_t characters = 0;
    for (size_t i = 0; i < word.n && characters <= n; i++)
        characters += (word.at[i] & 0xC0) != 0x80;
    return characters > n;
}

static enum apr_code put_word(const struct wordpiece *x, struct apr_bytes word, struct apr_ids *ids, struct apr_error *e)
{
    const size_t before = ids->n;
    uint32_t id;
    if (x->manner != APR_AS_LLAMA_CPP && is_longer(word, x->longest))
        return put_unknown(x, word, ids, e);
    for (size_t i = 0, n; i < word.n; i += n) {
        const bool first = i == 0 || x->manner == APR_AS_LLAMA_CPP;
        n = apr_trie_longest(first ? &x->begins : &x->continues, (struct apr_bytes){ word.at + i, word.n - i }, &id);
        if (n == 0) {
            ids->n = before;
            return put_unknown(x, word, ids, e);
        }
        APR_TRY(apr_ids_add(ids, id, e));
    }
    return APR_OK;
}

/* ---- words of a text ------------------------------------------------------------------------------------------------- */

/* Ends the word under way, if there is one. */
static enum apr_code end_word(struct wordpiece *x, struct apr_ids *ids, struct apr_error *e)
{
    const size_t mark = x->manner == APR_AS_LLAMA_CPP ? strlen(BLANK) : 0;
    if (x->word.n > mark)
        APR_TRY(put_word(x, (struct apr_bytes){ x->word.at, x->word.n }, ids, e));
    x->word.n = 0;
    return mark > 0 ? apr_made_add(&x->word, apr_text(BLANK), e) : APR_OK;
}

/* Does it stand alone? Of what ASCII has neither letters nor digits do. llama.cpp knows no '~' among them. */
static bool stands_alone(const struct wordpiece *x, uint32_t c)
{
    const char class = apr_letter_class(c);
    if (x->manner != APR_AS_LLAMA_CPP && apr_is_young(c))
        return false;
    return class == 'P' || (class == 'S' && c < (x->manner == APR_AS_LLAMA_CPP ? 0x7Fu : 0x80u)) || apr_is_ideograph(c);
}

/* llama.cpp takes all that is white for a blank; of what is of category C BERT does so with three. */
static bool is_blank(const struct wordpiece *x, uint32_t c)
{
    return apr_is_space(c) && (x->manner == APR_AS_LLAMA_CPP || c == '\t' || c == '\n' || c == '\r' || apr_letter_class(c) != 'C');
}

static bool is_dropped(const struct wordpiece *x, uint32_t c)
{
    if (c == 0 || c == 0xFFFD)
        return true;
    if (x->manner != APR_AS_LLAMA_CPP && apr_is_young(c))
        return false;
    if (apr_letter_class(c) == 'C' && !apr_is_unassigned(c))
        return true;
    return x->strip && (x->manner == APR_AS_LLAMA_CPP ? apr_letter_class(c) == 'M' : apr_is_nonspacing(c));
}

static enum apr_code add_letter(struct wordpiece *x, uint32_t c, struct apr_error *e)
{
    if (x->lower && c == 0x130 && x->manner != APR_AS_LLAMA_CPP) { /* the one letter that has two for one */
        APR_TRY(apr_made_character(&x->word, 'i', e));
        c = 0x307;
    }
    return apr_made_character(&x->word, x->lower ? apr_lower(c) : c, e);
}

static enum apr_code put_words(struct wordpiece *x, struct apr_bytes text, struct apr_ids *ids, struct apr_error *e)
{
    x->word.n = 0;
    APR_TRY(end_word(x, ids, e));
    for (size_t i = 0, n; i < text.n; i += n) {
        const uint32_t c = apr_character(text.at + i, text.n - i, &n);
        if (is_blank(x, c)) {
            APR_TRY(end_word(x, ids, e));
            continue;
        }
        if (is_dropped(x, c))
            continue;
        const bool alone = stands_alone(x, c);
        if (alone)
            APR_TRY(end_word(x, ids, e));
        APR_TRY(add_letter(x, c, e));
        if (alone)
            APR_TRY(end_word(x, ids, e));
    }
    return end_word(x, ids, e);
}

/* ---- letters apart from their accents -------------------------------------------------------------------------------- */

/* llama.cpp keeps of a letter only what it is without all that can be taken off it. */
static enum apr_code bare(struct apr_bytes text, struct apr_made *scratch, struct apr_made *out, struct apr_error *e)
{
    out->n = 0;
    for (size_t i = 0, n, first; i < text.n; i += n) {
        (void)apr_character(text.at + i, text.n - i, &n);
        if (text.at[i] < 0x80) {
            APR_TRY(apr_made_add(out, (struct apr_bytes){ text.at + i, 1 }, e));
            continue;
        }
        APR_TRY(apr_compose(APR_NFD, (struct apr_bytes){ text.at + i, n }, scratch, e));
        (void)apr_character(scratch->at, scratch->n, &first);
        APR_TRY(apr_made_add(out, (struct apr_bytes){ scratch->at, first }, e));
    }
    return APR_OK;
}

static enum apr_code encode(void *state, struct apr_bytes text, unsigned where, struct apr_ids *ids, struct apr_error *e)
{
    struct wordpiece *x = state;
    (void)where;
    if (x->manner == APR_AS_HUGGINGFACE)
        return put_word(x, text, ids, e);
    if (!x->strip)
        return put_words(x, text, ids, e);
    if (x->manner == APR_AS_LLAMA_CPP)
        APR_TRY(bare(text, &x->text, &x->composed, e));
    else
        APR_TRY(apr_compose(APR_NFD, text, &x->composed, e));
    return put_words(x, (struct apr_bytes){ x->composed.at, x->composed.n }, ids, e);
}

/* ---- the model ------------------------------------------------------------------------------------------------------- */

static bool begins_with(struct apr_bytes text, struct apr_bytes mark)
{
    return mark.n > 0 && apr_bytes_begin(text, mark);
}

static bool is_piece(const struct wordpiece *x, const struct apr_token *t)
{
    return t->text.n > 0 && (x->manner != APR_AS_HUGGINGFACE || !(t->flags & APR_TOKEN_ADDED) || t->flags & APR_TOKEN_OWN);
}

/* The pieces that begin a word, or those that continue one. Without a mark all do both. */
static enum apr_code make_trie(struct wordpiece *x, struct apr_trie *trie, bool continues, struct apr_error *e)
{
    const struct apr_bytes mark = x->manner == APR_AS_LLAMA_CPP ? (struct apr_bytes){ 0 } : x->v->prefix;
    size_t n = 0;
    struct apr_trie_text *text = malloc((x->v->ntoken + 1) * sizeof *text);
    if (text == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < x->v->ntoken; i++) {
        struct apr_bytes t = x->v->token[i].text;
        if (!is_piece(x, &x->v->token[i]) || (continues && mark.n > 0 && !begins_with(t, mark)))
            continue;
        if (continues)
            t = (struct apr_bytes){ t.at + mark.n, t.n - mark.n };
        if (t.n > 0)
            text[n++] = (struct apr_trie_text){ t, x->v->token[i].id };
    }
    const enum apr_code code = apr_trie_make(trie, text, n, e);
    free(text);
    return code;
}

static enum apr_code begin(void *state, struct apr_vocabulary *v, enum apr_manner manner, struct apr_error *e)
{
    struct wordpiece *x = state;
    x->v = v;
    x->manner = manner;
    x->lower = v->lowercase != APR_NO;
    x->strip = v->strip_accents == APR_YES || (v->strip_accents == APR_UNSAID && x->lower);
    x->longest = v->longest_word > 0 ? v->longest_word : LONGEST;
    for (size_t i = 0; i < v->nspecial && !x->has_unknown; i++)
        if (v->special[i].role == APR_UNK && apr_vocabulary_token(v, v->special[i].id) != NULL) {
            x->unknown = (uint32_t)v->special[i].id;
            x->has_unknown = true;
        }
    if (!x->has_unknown) { /* llama.cpp's default, that of BERT */
        const struct apr_token *t = manner == APR_AS_LLAMA_CPP ? apr_vocabulary_token(v, 100) : apr_vocabulary_find(v, apr_text("[UNK]"));
        x->has_unknown = t != NULL;
        x->unknown = t == NULL ? 0 : t->id;
    }
    APR_TRY(make_trie(x, &x->begins, false, e));
    return manner == APR_AS_LLAMA_CPP ? APR_OK : make_trie(x, &x->continues, true, e);
}

static void end(void *state)
{
    struct wordpiece *x = state;
    apr_trie_free(&x->begins);
    apr_trie_free(&x->continues);
    free(x->text.at);
    free(x->composed.at);
    free(x->word.at);
    free(x->spelled.at);
}

/* A blank, and what begins a word; what continues one, alone. */
static struct apr_bytes spelling(void *state, const struct apr_token *t)
{
    struct wordpiece *x = state;
    struct apr_error e;
    const struct apr_bytes mark = x->manner == APR_AS_LLAMA_CPP ? apr_text(BLANK) : x->v->prefix;
    const bool marked = begins_with(t->text, mark);
    const struct apr_bytes rest = marked ? (struct apr_bytes){ t->text.at + mark.n, t->text.n - mark.n } : t->text;
    x->spelled.n = 0;
    if (marked != (x->manner == APR_AS_LLAMA_CPP))
        return rest;
    if (apr_made_add(&x->spelled, apr_text(" "), &e) != APR_OK || apr_made_add(&x->spelled, rest, &e) != APR_OK)
        return rest;
    return (struct apr_bytes){ x->spelled.at, x->spelled.n };
}

const struct apr_token_model apr_model_wordpiece = { sizeof(struct wordpiece), begin, encode, spelling, end };
