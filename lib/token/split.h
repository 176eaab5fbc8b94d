/* Cutting a text into the pieces that a byte-pair encoding, a Unigram or a WordPiece then takes one by one: a pre-tokenizer. */
#ifndef APR_SPLIT_H
#define APR_SPLIT_H

#include "token/encode_parts.h"

/* Pieces one behind the other, none of them empty: piece i ends before end[i] of text. Begin with zeros, end with apr_cut_text_end. */
struct apr_cut_text {
    struct apr_made text;
    size_t         *end, n, room;
};
void apr_cut_text_end(struct apr_cut_text *c);

/* A pre_tokenizer of a tokenizer.json, or how llama.cpp cuts by a name. One thread at a time. Free with apr_split_free. */
struct apr_split;

/* The pre_tokenizer as it is spelled, or none (empty). The arena of scratch is used. APR_EUNSUPPORTED names a type, or an expression, that
 * is not known. */
APR_MUST_CHECK enum apr_code apr_split_json(struct apr_split **s, struct apr_vocabulary *scratch, struct apr_bytes pre_tokenizer,
                                            struct apr_error *e);

/* By llama.cpp's name for it; the empty one is its default. APR_EUNSUPPORTED: it is none. */
struct apr_pre;
APR_MUST_CHECK enum apr_code apr_split_named(struct apr_split **s, const struct apr_pre *pre, struct apr_error *e);
void apr_split_free(struct apr_split *s);

/* Cuts a text, which is UTF-8. at_start: nothing of the whole text is before it. *cut stays until the next call. APR_ELIMIT: a step makes
 * more than `most` bytes, which are not 0; or an expression takes too many steps. */
APR_MUST_CHECK enum apr_code apr_split_run(struct apr_split *s, struct apr_bytes text, bool at_start, size_t most,
                                           const struct apr_cut_text **cut, struct apr_error *e);

/* ---- what llama.cpp knows by a name (pre.c) -------------------------------------------------------------------------- */

/* A step is an expression whose matches, and what is between them, are pieces; or one of those below.
 *   no_bytes       characters do not stand for bytes
 *   ignore_merges  a piece that is a token is one, whatever the merges
 *   add_bos, no_bos  a BOS is put before a text unless a key says otherwise; there is none unless a key gives one
 *   escape         blanks become U+2581 before all else
 *   whole_lines    ends of lines that are a token are one, whatever the merges; and a BOS is put whatever a key says */
#define APR_MOST_PRE_STEPS 6
#define APR_GROUPS_OF_DIGITS "\x1f" /* runs of digits in threes from the right; what is before a run goes with the first */
struct apr_pre {
    const char *names;                    /* with a blank before and behind each */
    const char *step[APR_MOST_PRE_STEPS]; /* up to NULL */
    bool        no_bytes, ignore_merges, add_bos, no_bos, escape, whole_lines;
};

/* That of the name, the default when it is empty; NULL: it is not known. */
const struct apr_pre *apr_pre_named(struct apr_bytes name);

#endif
