/* What SentencePiece's two models have in common: how a text is normalized, what becomes of a piece that is not known, how one is
 * spelled. */
#ifndef APR_PIECES_H
#define APR_PIECES_H

#include "token/charsmap.h"
#include "token/encode_parts.h"
#include "token/trie.h"

/* A model's normalizer_spec and its like.
 *   user           pieces that are taken as they stand; values are places in v->token
 *   unknown        its id, where has_unknown
 *   byte           ids of the tokens for bytes, or APR_NO_VALUE
 *   dummy_prefix   a blank is put before a text; behind it, when `suffix`
 *   escape         a blank is written U+2581 */
struct apr_pieces {
    const struct apr_vocabulary *v;
    enum apr_manner              manner;
    struct apr_charsmap          map;
    struct apr_trie              user;
    uint32_t                     unknown, byte[256];
    bool                         has_unknown, dummy_prefix, remove_extra, escape, suffix;
    struct apr_made              spelled;
};
APR_MUST_CHECK enum apr_code apr_pieces_begin(struct apr_pieces *p, struct apr_vocabulary *v, enum apr_manner manner, struct apr_error *e);
void apr_pieces_end(struct apr_pieces *p);

/* Puts a text that is not empty into `out` as SentencePiece does, or as llama.cpp does for a Unigram: in the place of what is there.
 * APR_ELIMIT: its map makes too much of it. */
APR_MUST_CHECK enum apr_code apr_pieces_normalize(const struct apr_pieces *p, struct apr_bytes text, struct apr_made *out,
                                                  struct apr_error *e);

/* Adds the tokens of the bytes. APR_EUNSUPPORTED names one that has none. */
APR_MUST_CHECK enum apr_code apr_pieces_bytes(const struct apr_pieces *p, struct apr_bytes text, struct apr_ids *ids, struct apr_error *e);

/* What stands for a token in a text. */
struct apr_bytes apr_pieces_spelling(struct apr_pieces *p, const struct apr_token *t);

/* The bytes of the character, as its first byte tells; what follows is not looked at. */
static inline size_t apr_pieces_character(struct apr_bytes text)
{
    static const unsigned char length[16] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4 };
    return apr_min(length[text.at[0] >> 4], text.n);
}

#endif
