/* What the name of a model says of it: "meta-llama/Llama-3.2-1B-Instruct", read as the converter of llama.cpp reads such names. */
#ifndef APR_MODEL_NAME_H
#define APR_MODEL_NAME_H

#include "base/arena.h"
#include "base/core.h"

/* Views into the name or the arena; at is NULL where the name does not say it.
 *   WHOLE         what stands behind the owner, as it is spelled
 *   ORGANIZATION  who stands before the first '/', as it is spelled
 *   the others    parts of the name, joined by '-': "Llama-3.2", "Instruct", "v0.3", "8x7B" */
enum apr_name_part {
    APR_NAME_WHOLE, APR_NAME_ORGANIZATION, APR_NAME_BASE, APR_NAME_FINETUNE, APR_NAME_VERSION, APR_NAME_SIZE, APR_NAME_NPARTS,
};
struct apr_model_name {
    struct apr_bytes part[APR_NAME_NPARTS];
};

/* Reads a name, which is UTF-8. A size that is far from that many elements is none, but tells a fine-tune from others; 0: not known, any is
 * near. A name with a blank in it is a title, one of more than 4,096 bytes is too long for a name: both have no parts. Digits are those of
 * ASCII, and so are letters that have two cases. */
APR_MUST_CHECK enum apr_code apr_model_name_read(struct apr_model_name *m, struct apr_arena **a, struct apr_bytes name, uint64_t elements,
                                                 struct apr_error *e);

/* "meta-llama" -> "Meta Llama": words that are all small letters begin with a capital, versions and numbers stay. In the arena. */
APR_MUST_CHECK enum apr_code apr_model_title(struct apr_bytes *title, struct apr_arena **a, struct apr_bytes name, struct apr_error *e);

#endif
