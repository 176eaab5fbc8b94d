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

/* Tokens behind those of a source: their ids go from `first` on, one by one, and what the source has from there on is left out.
 *   merge  of a BPE those that lead to them; of SentencePiece's all that the source has, where it has merges: new ones come of the ranks */
struct apr_more_tokens {
    uint64_t                first;
    const struct apr_token *token;
    const struct apr_merge *merge;
    size_t                  ntoken, nmerge;
};

/* The same files, of a checkpoint too, made anew with more tokens, whose texts are as HuggingFace spells them; they keep their flags where
 * they are added ones. All are tokens of the model itself, added ones as well, since a reader numbers others behind those. SentencePiece's
 * pieces rank behind those of the source, in their order. APR_EUNSUPPORTED: the source has a tokenizer of another kind. */
APR_MUST_CHECK enum apr_code apr_tokenizer_extended(struct apr_side *files, struct apr_tokenizer *t, const struct apr_more_tokens *more,
                                                    const struct apr_run *r, struct apr_error *e);

/* Spells the tokens of a GGUF's WordPiece as HuggingFace does: what goes on with a word is marked, not what begins one. Before they are
 * indexed. */
APR_MUST_CHECK enum apr_code apr_spell_words(struct apr_vocabulary *v, struct apr_error *e);

/* tokenizer.* of an APR (families.md 7.5), from a checkpoint's files or from the keys of a GGUF; of an APR its own, unless other files take
 * the place of those that it carries. From a GGUF tokenizer.vocabulary, merges, scores, token_type hold its arrays element by element: they
 * can be made again where all texts are UTF-8, all scores finite, and the elements str, f32, i32. */
APR_MUST_CHECK enum apr_code apr_tokenizer_to_apr(struct apr_draft *d, struct apr_tokenizer *t, const struct apr_run *r,
                                                  struct apr_error *e);

#endif
