#include "token/pieces.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define BLANK "\u2581"

static const struct apr_bytes replacement = { (const unsigned char *)"\uFFFD", 3 };

/* ---- what a vocabulary says ------------------------------------------------------------------------------------------ */

static void find_unknown(struct apr_pieces *p)
{
    for (size_t i = 0; i < p->v->ntoken && !p->has_unknown; i++)
        if (p->v->token[i].type == APR_TOKEN_UNKNOWN) {
            p->unknown = p->v->token[i].id;
            p->has_unknown = true;
        }
    for (size_t i = 0; i < p->v->nspecial && (!p->has_unknown || p->manner != APR_AS_SENTENCEPIECE); i++)
        if (p->v->special[i].role == APR_UNK && apr_vocabulary_token(p->v, p->v->special[i].id) != NULL) {
            p->unknown = (uint32_t)p->v->special[i].id;
            p->has_unknown = true;
            return; /* the model's own stands first */
        }
}

static void find_bytes(struct apr_pieces *p)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        const struct apr_token *t = apr_vocabulary_find(p->v, apr_text(text));
        if (t == NULL && p->manner == APR_AS_LLAMA_CPP)
            t = apr_vocabulary_find(p->v, (struct apr_bytes){ &(unsigned char){ (unsigned char)byte }, 1 });
        p->byte[byte] = t == NULL ? APR_NO_VALUE : t->id;
    }
}

static enum apr_code find_user(struct apr_pieces *p, struct apr_error *e)
{
    size_t n = 0;
    struct apr_trie_text *text = malloc((p->v->ntoken + 1) * sizeof *text);
    if (text == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < p->v->ntoken; i++)
        if (p->v->token[i].type == APR_TOKEN_USER && p->v->token[i].text.n > 0)
            text[n++] = (struct apr_trie_text){ p->v->token[i].text, (uint32_t)i };
    const enum apr_code code = apr_trie_make(&p->user, text, n, e);
    free(text);
    return code;
}

enum apr_code apr_pieces_begin(struct apr_pieces *p, struct apr_vocabulary *v, enum apr_manner manner, struct apr_error *e)
{
    const bool always = manner == APR_AS_SENTENCEPIECE;
    *p = (struct apr_pieces){ .v = v, .manner = manner };
    p->dummy_prefix = v->add_space_prefix == APR_YES || (v->add_space_prefix == APR_UNSAID && (always || v->kind == APR_VOCABULARY_SPM));
    p->remove_extra = v->remove_extra_whitespaces == APR_YES || (v->remove_extra_whitespaces == APR_UNSAID && always);
    p->escape = v->escape_whitespaces != APR_NO;
    p->suffix = v->space_suffix == APR_YES;
    find_unknown(p);
    find_bytes(p);
    if (manner == APR_AS_HUGGINGFACE)
        return APR_OK;
    APR_TRY(apr_charsmap_on(&p->map, v->charsmap, e));
    return find_user(p, e);
}

void apr_pieces_end(struct apr_pieces *p)
{
    apr_trie_free(&p->user);
    free(p->spelled.at);
    p->spelled = (struct apr_made){ 0 };
}

/* ---- normalizing ----------------------------------------------------------------------------------------------------- */

static struct apr_bytes rest_of(struct apr_bytes text, size_t from) { return (struct apr_bytes){ text.at + from, text.n - from }; }

static struct apr_bytes first_of(struct apr_bytes text, size_t n) { return (struct apr_bytes){ text.at, n }; }

/* A piece of the user's, whole; llama.cpp takes what is the beginning of one as well. */
static size_t match_user(const struct apr_pieces *p, struct apr_bytes text)
{
    uint32_t value, at = 0;
    size_t n = 0;
    if (p->manner != APR_AS_LLAMA_CPP)
        return apr_trie_longest(&p->user, text, &value);
    while (n < text.n && (at = apr_trie_step(&p->user, at, text.at[n])) != 0)
        n++;
    return n;
}

/* llama.cpp takes characters that are spelled longer than they need be, surrogates, and what is beyond Unicode. */
static size_t lenient_character(struct apr_bytes text)
{
    const unsigned char lead = text.at[0];
    const size_t n = lead < 0x80 ? 1 : lead < 0xC0 || lead >= 0xF8 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (n > text.n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text.at[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

/* What the text begins with (n bytes), and what stands for it. */
static enum apr_code map_prefix(const struct apr_pieces *p, struct apr_bytes text, struct apr_mapped *m, struct apr_error *e)
{
    m->n = p->user.n > 1 ? match_user(p, text) : 0;
    m->to = first_of(text, m->n);
    if (m->n > 0)
        return APR_OK;
    APR_TRY(apr_charsmap_find(&p->map, text, false, m, e));
    if (m->n > 0)
        return APR_OK;
    m->n = p->manner == APR_AS_LLAMA_CPP ? lenient_character(text) : apr_utf8_length(text.at, text.n);
    m->to = m->n > 0 ? first_of(text, m->n) : replacement;
    m->n = m->n > 0 ? m->n : 1;
    return APR_OK;
}

static enum apr_code add_blank(const struct apr_pieces *p, struct apr_made *out, struct apr_error *e)
{
    return apr_made_add(out, apr_text(p->escape ? BLANK : " "), e);
}

/* Blanks in it become U+2581. */
static enum apr_code add_escaped(const struct apr_pieces *p, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    for (const unsigned char *blank; p->escape && (blank = text.n == 0 ? NULL : memchr(text.at, ' ', text.n)) != NULL;) {
        const size_t n = (size_t)(blank - text.at);
        APR_TRY(apr_made_add(out, first_of(text, n), e));
        APR_TRY(add_blank(p, out, e));
        text = rest_of(text, n + 1);
    }
    return apr_made_add(out, text, e);
}

static bool ends_with(const struct apr_made *out, const char *word)
{
    const size_t n = strlen(word);
    return out->n >= n && memcmp(out->at + out->n - n, word, n) == 0;
}

static enum apr_code skip_blanks(const struct apr_pieces *p, struct apr_bytes *text, struct apr_error *e)
{
    while (text->n > 0) {
        struct apr_mapped m;
        APR_TRY(map_prefix(p, *text, &m, e));
        if (!apr_bytes_is(m.to, " "))
            break;
        *text = rest_of(*text, m.n);
    }
    return APR_OK;
}

static enum apr_code as_sentencepiece(const struct apr_pieces *p, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    bool after_blank = p->remove_extra;
    if (p->remove_extra)
        APR_TRY(skip_blanks(p, &text, e));
    if (text.n == 0)
        return APR_OK;
    if (p->dummy_prefix && !p->suffix)
        APR_TRY(add_blank(p, out, e));
    while (text.n > 0) {
        struct apr_mapped m;
        APR_TRY(map_prefix(p, text, &m, e));
        text = rest_of(text, m.n);
        while (after_blank && m.to.n > 0 && m.to.at[0] == ' ')
            m.to = rest_of(m.to, 1);
        APR_TRY(add_escaped(p, m.to, out, e));
        if (m.to.n > 0)
            after_blank = p->remove_extra && m.to.at[m.to.n - 1] == ' ';
    }
    while (p->remove_extra && ends_with(out, p->escape ? BLANK : " "))
        out->n -= strlen(p->escape ? BLANK : " ");
    return p->dummy_prefix && p->suffix ? add_blank(p, out, e) : APR_OK;
}

/* Byte by byte: a run of blanks is put down when the word behind it begins. */
static enum apr_code as_llama_cpp(const struct apr_pieces *p, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    bool prefixed = false, in_word = false;
    while (text.n > 0) {
        struct apr_mapped m;
        APR_TRY(map_prefix(p, text, &m, e));
        text = rest_of(text, m.n);
        for (size_t i = 0; i < m.to.n; i++) {
            const bool blank = m.to.at[i] == ' ';
            if (!blank && !in_word && ((p->dummy_prefix && !prefixed) || p->remove_extra)) {
                APR_TRY(add_blank(p, out, e));
                prefixed = true;
            }
            in_word = !blank;
            if (!blank)
                APR_TRY(apr_made_add(out, first_of(rest_of(m.to, i), 1), e));
            else if (!p->remove_extra)
                APR_TRY(add_blank(p, out, e));
        }
    }
    return APR_OK;
}

enum apr_code apr_pieces_normalize(const struct apr_pieces *p, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    out->n = 0;
    out->most = apr_most_made(text.n);
    return p->manner == APR_AS_LLAMA_CPP ? as_llama_cpp(p, text, out, e) : as_sentencepiece(p, text, out, e);
}

/* ---- tokens ---------------------------------------------------------------------------------------------------------- */

enum apr_code apr_pieces_bytes(const struct apr_pieces *p, struct apr_bytes text, struct apr_ids *ids, struct apr_error *e)
{
    for (size_t i = 0; i < text.n; i++) {
        if (p->byte[text.at[i]] == APR_NO_VALUE)
            return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the vocabulary has no token for byte 0x%02X", text.at[i]);
        APR_TRY(apr_ids_add(ids, p->byte[text.at[i]], e));
    }
    return APR_OK;
}

static int hex_digit(unsigned char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

/* "<0x41>" -> "A" */
static bool byte_of(const struct apr_token *t, unsigned char *byte)
{
    const struct apr_bytes text = t->text;
    if (text.n != 6 || memcmp(text.at, "<0x", 3) != 0 || text.at[5] != '>' || hex_digit(text.at[3]) < 0 || hex_digit(text.at[4]) < 0)
        return false;
    *byte = (unsigned char)(hex_digit(text.at[3]) << 4 | hex_digit(text.at[4]));
    return true;
}

/* When there is no memory for it, the token is spelled as it stands. */
struct apr_bytes apr_pieces_spelling(struct apr_pieces *p, const struct apr_token *t)
{
    struct apr_error e;
    unsigned char byte;
    struct apr_bytes rest = t->text;
    enum apr_code code = APR_OK;
    p->spelled.n = 0;
    if ((t->type == APR_TOKEN_BYTE || p->v->byte_fallback) && byte_of(t, &byte)) {
        code = apr_made_add(&p->spelled, (struct apr_bytes){ &byte, 1 }, &e);
        rest.n = 0;
    }
    for (const unsigned char *blank; code == APR_OK && rest.n > 0 && (blank = memmem(rest.at, rest.n, BLANK, 3)) != NULL;) {
        const size_t n = (size_t)(blank - rest.at);
        code = apr_made_add(&p->spelled, first_of(rest, n), &e);
        if (code == APR_OK)
            code = apr_made_add(&p->spelled, apr_text(" "), &e);
        rest = rest_of(rest, n + 3);
    }
    if (code == APR_OK)
        code = apr_made_add(&p->spelled, rest, &e);
    return code == APR_OK ? (struct apr_bytes){ p->spelled.at, p->spelled.n } : t->text;
}
