/* A tokenizer from one dialect to another: a checkpoint's files, the keys of a GGUF, the metadata of an APR. */
#ifndef APR_TOKENIZER_WRITE_H
#define APR_TOKENIZER_WRITE_H

#include "family/bind.h"
#include "model/draft.h"
#include "model/side.h"
#include "token/vocabulary.h"

/* What is known of it.
 *   m, b, side  the source, its binding (NULL: no family is known), the files beside it or carried by it
 *   pre         tokenizer.ggml.pre as the user wants it, or NULL
 *   rows        of the embedding as it will be written; 0: not known
 *   unknown_pre set when a byte-level BPE was of no known kind and "gpt-2" was taken */
struct apr_tokenizer {
    const struct apr_model   *m;
    const struct apr_binding *b;
    const struct apr_side    *side;
    const char               *pre;
    uint64_t                  rows;
    bool                      unknown_pre;
};

/* tokenizer.* of a GGUF, from a checkpoint's files or from an APR's metadata, as the converter of llama.cpp writes them and in its order
 * (families.md 7). A source that has no tokenizer: tokenizer.ggml.model "none" as families.md says, or nothing without a family. APR_EARG
 * names an id beyond the vocabulary, a vocabulary that has more tokens than the embedding has rows, and the option that helps. */
APR_MUST_CHECK enum apr_code apr_tokenizer_to_gguf(struct apr_draft *d, struct apr_tokenizer *t, const struct apr_run *r,
                                                   struct apr_error *e);

/* tokenizer.json, tokenizer_config.json, for SentencePiece tokenizer.model (and what the source carries of tokenizer files), from the keys
 * of a GGUF or from the metadata of an APR (families.md 8). Files that are there stay; config.json is to be among them first, since what
 * it tells is not told again. Texts may be views into t->side and t->m. */
APR_MUST_CHECK enum apr_code apr_tokenizer_to_hf(struct apr_side *files, struct apr_tokenizer *t, const struct apr_run *r,
                                                 struct apr_error *e);

/* tokenizer.* of an APR (families.md 7.5), from a checkpoint's files or from the keys of a GGUF; of an APR its own, unless other files take
 * the place of those that it carries. From a GGUF tokenizer.vocabulary, merges, scores, token_type hold its arrays element by element: they
 * can be made again where all texts are UTF-8, all scores finite, and the elements str, f32, i32. */
APR_MUST_CHECK enum apr_code apr_tokenizer_to_apr(struct apr_draft *d, struct apr_tokenizer *t, const struct apr_run *r,
                                                  struct apr_error *e);

#endif
