/* What makes a checkpoint's tokenizer, between tokenizer_hf.c and tokenizer_json.c. */
#ifndef APR_TOKENIZER_HF_H
#define APR_TOKENIZER_HF_H

#include "token/tokenizer_parts.h"

/* keys     tokenizer.* as a GGUF has them
 *   v        the same, read, its texts as HuggingFace spells them, its flags those of added tokens
 *   carried  the tokenizer.json that came along without its vocabulary (tokenizer_carry.c), or empty
 *   own      ids below it are the model's own; UINT64_MAX: all are
 *   more     tokens that `keys` has not, or NULL */
struct apr_hf_writing {
    struct apr_draft              keys;
    struct apr_vocabulary         v;
    struct apr_bytes              carried;
    uint64_t                      own;
    const struct apr_more_tokens *more;
    struct apr_out               *out;
    struct apr_error             *e;
};

/* tokenizer.json, whole, to w->out. */
APR_MUST_CHECK enum apr_code apr_write_tokenizer_json(struct apr_hf_writing *w);

/* tokenizer.model, whole, to w->out: of an SPM. */
APR_MUST_CHECK enum apr_code apr_write_sentencepiece(struct apr_hf_writing *w);

/* An added token as an object; with its id among its members or without. */
void apr_write_added(struct apr_out *out, const struct apr_token *t, bool id);

#endif
