/* Metadata from one dialect to another: config.json, the keys of a GGUF, the metadata of an APR. All but the tokenizer's
 * (token/tokenizer_write.h). */
#ifndef APR_TRANSLATE_H
#define APR_TRANSLATE_H

#include "family/bind.h"
#include "model/draft.h"
#include "model/side.h"

/* What is known of a model and of how it will be written.
 *   m, b, side   the source, its binding (NULL: no family is known), the files beside it
 *   config       config.json beside it or carried by it, or NULL
 *   name         what the source is called: the name of its folder, or of its file without the suffix; general.name and other keys are
 *                made of it where nothing else says them
 *   main         the dtype of most of the written weights: 16-bit or F32, or a block type
 *   file_type    general.file_type of the target; -1: not to be written where the source has none
 *   head         a head of its own is written (output.weight, lm_head.weight)
 *   quantized    some written tensor is of a block type
 *   bytes        of all tensors as they are written; 0: not known
 *   elements     of all source tensors that are written; experts: those of them in tensors of one expert each, or stacked; for
 *                general.size_label. nexpert: how many experts
 *   typed        a conversion of dtypes was asked for: what the source says of its dtype is then replaced by `main` and `file_type`
 *   refiled      the files beside may be others than those that the source carries
 *   rope_freqs   values of the source's rope_freqs.weight, of nrope_freqs; NULL: it has none */
struct apr_translation {
    const struct apr_model     *m;
    const struct apr_binding   *b;
    const struct apr_side      *side;
    const struct apr_hf_config *config;
    struct apr_bytes            name;
    const struct apr_dtype     *main;
    int64_t                     file_type;
    bool                        head, quantized, typed, refiled;
    uint64_t                    bytes, elements, expert_elements, nexpert;
    const float                *rope_freqs;
    size_t                      nrope_freqs;
};

/* The keys of a GGUF, from a checkpoint or an APR, as the converter of llama.cpp writes them and in its order, tokenizer.* left out: those
 * of the family's kv, general.*, what an APR carries in "gguf.kv"; what has no key goes under hf.*. A source that is a GGUF: its keys, with
 * general.file_type as it will be. APR_EARG names a key that the family needs and nothing gives. */
APR_MUST_CHECK enum apr_code apr_translate_to_gguf(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e);

/* The metadata of an APR (families.md 5, apr-v2.md): flat keys, "gguf.kv" with every key of a GGUF, typed, "source_metadata" for
 * __metadata__, "hf.files" for the files beside a checkpoint. A source that is an APR: its metadata. tokenizer.* is left out of it, but in
 * gguf.kv arrays of tokens stand by reference: {"t":"custom","custom":"tokenizer.vocabulary","len":n}. */
APR_MUST_CHECK enum apr_code apr_translate_to_apr(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e);

/* A checkpoint's: `meta` gets __metadata__ (strings), `files` config.json and generation_config.json, from a GGUF or an APR; those it
 * carries come back, with what its own keys say otherwise. files NULL: a single SafeTensors file, whose __metadata__ then carries what is
 * left of a GGUF or an APR ("gguf.kv"). A source that is SafeTensors: what it has, dtype as it will be. */
APR_MUST_CHECK enum apr_code apr_translate_to_hf(struct apr_draft *meta, struct apr_side *files, const struct apr_translation *t,
                                                 struct apr_error *e);

#endif
