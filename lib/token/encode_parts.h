/* What an encoder is put together with: the frame (encode.c), a model for each kind of vocabulary, a tokenizer.json's steps before it. */
#ifndef APR_ENCODE_PARTS_H
#define APR_ENCODE_PARTS_H

#include "token/encode.h"

/* Text that is made; begin with zeros, free `at` with free. What fails leaves it as it was.
 *   most  bytes that it may be, more is APR_ELIMIT; 0: any number */
struct apr_made {
    unsigned char *at;
    size_t         n, room, most;
};
APR_MUST_CHECK enum apr_code apr_made_add(struct apr_made *m, struct apr_bytes text, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_made_character(struct apr_made *m, uint32_t c, struct apr_error *e); /* as UTF-8 */

/* What a tokenizer may make of n bytes of text, in all: far above what any form of Unicode is, with stand-ins for its bytes. */
static inline size_t apr_most_made(size_t n) { return n > (SIZE_MAX >> 7) ? SIZE_MAX : 64 * n + 65536; }
enum apr_code apr_made_too_much(struct apr_error *e); /* APR_ELIMIT, which says so */

/* The character at s, whose UTF-8 has *n bytes; `left` are left, at least one. What begins no character is U+FFFD, one byte long. */
#define APR_NO_CHARACTER 0xFFFDu
uint32_t apr_character(const unsigned char *s, size_t left, size_t *n);

/* The text, or a copy of it in room in which each byte that is of no character is U+FFFD. */
APR_MUST_CHECK enum apr_code apr_valid(struct apr_bytes text, struct apr_made *room, struct apr_bytes *valid, struct apr_error *e);

bool apr_is_space(uint32_t c); /* Unicode's White_Space */

/* The character that a byte stands in a byte-level vocabulary as, and back (false: it stands for none). */
uint32_t apr_stand_in(unsigned char byte);
bool apr_stands_for(uint32_t c, unsigned char *byte);

/* ---- models ---------------------------------------------------------------------------------------------------------- */

/* Whose results are to come out.
 *   HUGGINGFACE    there is a tokenizer.json; its normalizer and pre_tokenizer are the frame's, the model is left
 *   SENTENCEPIECE  a checkpoint without one: tokenizer.model, vocab.txt, vocab.json; the program that made it, or transformers
 *   LLAMA_CPP      metadata, of a GGUF or an APR: llama.cpp */
enum apr_manner { APR_AS_HUGGINGFACE, APR_AS_SENTENCEPIECE, APR_AS_LLAMA_CPP };

/* Where a text stands. AT_START: nothing of the text is before it. AFTER_TOKEN: a special token (one found in the text) is. */
enum { APR_AT_START = 1, APR_AFTER_TOKEN = 2 };

/* A kind of vocabulary at work. The state is its own; v stays and is indexed (apr_vocabulary_find works); only its arena is used.
 *   begin     gets a state ready that is all zero. APR_EUNSUPPORTED names what it does not know
 *   encode    adds the tokens of a text that is not empty. Special tokens have been cut out, what stands around a text is not its affair.
 *             HUGGINGFACE, and any BPE: one piece of what the pre_tokenizer made, normalized, UTF-8 (bytes that were none are U+FFFD by
 *             now); else all that stands between two special tokens, as it is, any bytes: normalizing and cutting are the model's
 *   spelling  of a token that is neither CONTROL nor added: what it stands for in a text, a view until the next call
 *   end       frees what a state holds, after a failure too */
struct apr_token_model {
    size_t        state_bytes;
    enum apr_code (*begin)(void *state, struct apr_vocabulary *v, enum apr_manner manner, struct apr_error *e);
    enum apr_code (*encode)(void *state, struct apr_bytes text, unsigned where, struct apr_ids *ids, struct apr_error *e);
    struct apr_bytes (*spelling)(void *state, const struct apr_token *t);
    void (*end)(void *state);
};

/* bpe.c: byte-level and any other BPE of a tokenizer.json, also with byte_fallback (Llama, Gemma); of a GGUF, "gpt2".
 * spm.c: tokenizer.model of type BPE; of a GGUF, "llama". unigram.c: Unigram; "t5". wordpiece.c: WordPiece, vocab.txt; "bert". */
extern const struct apr_token_model apr_model_bpe, apr_model_spm, apr_model_unigram, apr_model_wordpiece;

/* A model at work: *state is NULL after a failure, and may be NULL at the end. */
APR_MUST_CHECK enum apr_code apr_token_model_begin(const struct apr_token_model *model, void **state, struct apr_vocabulary *v,
                                                   enum apr_manner manner, struct apr_error *e);
void apr_token_model_end(const struct apr_token_model *model, void *state);

/* The encoder of a vocabulary that was read, which is taken over, also by a failure. */
APR_MUST_CHECK enum apr_code apr_encoder_of(struct apr_encoder **x, struct apr_vocabulary *v, struct apr_error *e);

/* ---- a normalizer (normalize.c) -------------------------------------------------------------------------------------- */

/* The normalizer of a tokenizer.json: any type that there is, and Sequences of them. *n is NULL where it has none. APR_EUNSUPPORTED names a
 * type that is not known. v stays; its arena is used. */
struct apr_normalizer;
APR_MUST_CHECK enum apr_code apr_normalizer_new(struct apr_normalizer **n, struct apr_vocabulary *v, struct apr_error *e);
void apr_normalizer_free(struct apr_normalizer *n);

/* Puts the text, which is UTF-8, into `out` as it is normalized: in the place of what is there. text is not in out. n is not NULL.
 * APR_ELIMIT: a step makes more than `most` bytes, which are not 0. */
APR_MUST_CHECK enum apr_code apr_normalize(struct apr_normalizer *n, struct apr_bytes text, size_t most, struct apr_made *out,
                                           struct apr_error *e);

/* ---- Unicode's forms (compose.c) ------------------------------------------------------------------------------------- */

enum apr_form { APR_NFC, APR_NFD, APR_NFKC, APR_NFKD };

/* Puts the text, UTF-8, into `out` in that form: in the place of what is there. */
APR_MUST_CHECK enum apr_code apr_compose(enum apr_form form, struct apr_bytes text, struct apr_made *out, struct apr_error *e);

/* ---- expressions (expression.c) -------------------------------------------------------------------------------------- */

/* An expression of a tokenizer, over characters, with Unicode's classes. APR_EUNSUPPORTED: it is none that is understood. huggingface: it
 * is read as Oniguruma reads it; else as it stands. Free with apr_expression_free. */
struct apr_expression;
APR_MUST_CHECK enum apr_code apr_expression_new(struct apr_expression **x, struct apr_bytes text, bool huggingface, struct apr_error *e);
void apr_expression_free(struct apr_expression *x);

/* The first match in text (UTF-8) that begins at `from` or later, with what is before it in view: from *begin to *end, which may be the
 * same. *found is false when there is none. APR_ELIMIT: it takes too many steps. */
APR_MUST_CHECK enum apr_code apr_expression_next(struct apr_expression *x, struct apr_bytes text, size_t from, size_t *begin, size_t *end,
                                                 bool *found, struct apr_error *e);

#endif
