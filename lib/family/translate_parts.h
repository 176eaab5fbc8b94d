/* What the three directions of family/translate.h share. */
#ifndef APR_TRANSLATE_PARTS_H
#define APR_TRANSLATE_PARTS_H

#include "family/translate.h"

/* What a GGUF carries of a checkpoint, behind APR_HF_PREFIX: small files that are no tokenizer's, under their names, and __metadata__. */
#define APR_HF_METADATA "hf.metadata."
extern const char *const apr_carried_files[]; /* ends with NULL */

/* general.* and the keys of the family, as `b` has them; b may be bound to another config than t->b. Without quantization_version. */
APR_MUST_CHECK enum apr_code apr_family_keys(struct apr_draft *d, const struct apr_translation *t, const struct apr_binding *b,
                                             struct apr_error *e);

/* The keys of a GGUF that the source is, or that it carries whole (an APR, or a bare SafeTensors file, that was one), as a GGUF that is
 * written now has them. None of other sources. */
APR_MUST_CHECK enum apr_code apr_gguf_keys(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e);

/* An entry's key in a GGUF of this model; false when it does not fit. */
bool apr_kv_key(const struct apr_binding *b, const struct apr_kv *k, char key[256]);

/* A value as a GGUF has it under an entry's type; false when it is none of that type. Texts are borrowed. */
bool apr_value_of_type(const struct apr_result *r, enum apr_meta_type type, struct apr_value *v);

/* Do both say the same, numbers as floats of 32 bits? */
bool apr_same_statement(const struct apr_value *a, const struct apr_value *b);

/* What an APR's own flat keys say of an entry, where that is not what it would get from config.json or from the GGUF that the APR carries:
 * then somebody edited it. */
bool apr_flat_edit(const struct apr_translation *t, const struct apr_kv *k, const struct apr_value *otherwise, struct apr_value *v);

/* The keys of an APR's metadata that nothing else tells, as a JSON object in the arena; empty when there are none. */
APR_MUST_CHECK enum apr_code apr_flat_rest(struct apr_arena **a, const struct apr_translation *t, struct apr_bytes *json,
                                            struct apr_error *e);

/* The same of all its keys, but for those that follow from its tensors. */
APR_MUST_CHECK enum apr_code apr_flat_whole(struct apr_arena **a, const struct apr_translation *t, struct apr_bytes *json,
                                             struct apr_error *e);

/* __metadata__ of the checkpoint that the source is or was: calls f for each. */
typedef enum apr_code apr_metadata_fn(void *ctx, struct apr_bytes key, struct apr_bytes text, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_each_metadata(const struct apr_translation *t, apr_metadata_fn *f, void *ctx, struct apr_error *e);

#endif
