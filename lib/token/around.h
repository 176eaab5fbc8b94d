/* What a tokenizer puts around a text: BOS and EOS, [CLS] and [SEP], what a template says. */
#ifndef APR_AROUND_H
#define APR_AROUND_H

#include "token/split.h"

/* Begin with zeros, end with apr_around_end. */
struct apr_around {
    struct apr_ids before, behind;
};
void apr_around_end(struct apr_around *a);

/* As the post_processor of a tokenizer.json says; v's arena is used. APR_EUNSUPPORTED names a type that is not known. */
APR_MUST_CHECK enum apr_code apr_around_json(struct apr_around *a, struct apr_vocabulary *v, struct apr_error *e);

/* As transformers does with the files of a tokenizer that has none. */
APR_MUST_CHECK enum apr_code apr_around_files(struct apr_around *a, const struct apr_vocabulary *v, struct apr_error *e);

/* As llama.cpp does; pre: of a byte-level BPE, else NULL. */
APR_MUST_CHECK enum apr_code apr_around_keys(struct apr_around *a, const struct apr_vocabulary *v, const struct apr_pre *pre,
                                             struct apr_error *e);

#endif
