/* Text to tokens and back, by a model's own tokenizer. */
#ifndef APR_ENCODE_H
#define APR_ENCODE_H

#include "token/vocabulary.h"

/* Ids that grow; begin with zeros, end with apr_ids_free. */
struct apr_ids {
    uint32_t *id;
    size_t    n, room;
};
APR_MUST_CHECK enum apr_code apr_ids_add(struct apr_ids *ids, uint32_t id, struct apr_error *e);
void apr_ids_free(struct apr_ids *ids);

/* A tokenizer at work: byte-level BPE, SentencePiece's BPE, Unigram, WordPiece. One thread at a time. */
struct apr_encoder;

/* That of the model: tokenizer.json's own pipeline where the source has one (a checkpoint, an APR that carries its files), as the library
 * `tokenizers` runs it; else what llama.cpp does for the kind and its `pre`. APR_EARG: there is no tokenizer; APR_EUNSUPPORTED names a
 * kind, a step of the pipeline or a `pre` that is not known; APR_ECORRUPT names tokens, merges or members that make no sense (what
 * reading a vocabulary leaves out): without them a text would be other tokens. The model must outlive it. Free with apr_encoder_free. */
APR_MUST_CHECK enum apr_code apr_encoder_new(struct apr_encoder **x, const struct apr_model *m, const struct apr_run *r,
                                             struct apr_error *e);
void apr_encoder_free(struct apr_encoder *x);

/* Adds the tokens of a text to ids, those around it included (BOS, EOS, [CLS], [SEP]) as the tokenizer adds them.
 *   text     any bytes; each that is of no character is taken as U+FFFD, as llama.cpp does, but by its SentencePiece-style BPE: as itself
 *   special  special tokens that stand in the text are found; else they are text like any other. Tokens that are added and not special are
 *            found in any case
 * APR_ELIMIT: an expression of the tokenizer takes more steps for the text than are accepted (16 million, and 256 for each byte), or what
 * is made of the text on the way is, all in all, more than 64 times its bytes and 64 KiB. */
APR_MUST_CHECK enum apr_code apr_encode(struct apr_encoder *x, struct apr_bytes text, bool special, struct apr_ids *ids,
                                        struct apr_error *e);

/* What a token stands for: bytes as in a text, " the"; special tokens as they are spelled. A view until the next call; empty for an id that
 * is no token. */
struct apr_bytes apr_token_spelling(struct apr_encoder *x, uint64_t id);

/* Is a BOS (or [CLS]) put before a text? Then *id is it: what a window of a long text begins with. */
bool apr_encoder_adds_bos(const struct apr_encoder *x, uint32_t *id);

const struct apr_vocabulary *apr_encoder_vocabulary(const struct apr_encoder *x);

#endif
