/* A checkpoint's config.json. */
#ifndef APR_HF_CONFIG_H
#define APR_HF_CONFIG_H

#include "base/core.h"

struct apr_hf_config;
struct json_t;

/* Parses the text: bare NaN and Infinity are taken as null; the members of text_config (llm_config, lm_config, language_config) count
 * before those of the top, but for tie_word_embeddings, which is the whole model's, and true where either says so; of a key that stands
 * twice the last counts, as in Python. At most 16 MiB. A message has no offset when a NaN or Infinity was met. The caller frees it with
 * apr_hf_config_free. */
APR_MUST_CHECK enum apr_code apr_hf_config_new(struct apr_hf_config **c, struct apr_bytes text, struct apr_error *e);

/* That of a model, from the file beside it, or from the one that its metadata carries (model/side.h); NULL when there is none. Messages
 * name the file beside it. */
APR_MUST_CHECK enum apr_code apr_hf_config_of(struct apr_hf_config **c, const struct apr_model *m, struct apr_error *e);
void apr_hf_config_free(struct apr_hf_config *c);

/* The value at a path ("rope_scaling.rope_type", "architectures.0"). False when it is absent or null, no number (booleans count as 0
 * and 1), no string. Strings live as long as the config. NULL c has nothing. */
bool apr_hf_config_has(const struct apr_hf_config *c, struct apr_bytes path);
bool apr_hf_config_number(const struct apr_hf_config *c, struct apr_bytes path, double *value);
bool apr_hf_config_string(const struct apr_hf_config *c, struct apr_bytes path, struct apr_bytes *value);

/* Of a list at the path: its length, 0 for what is none; its largest number, false where it has none, or what is neither a
 * number nor null. */
size_t apr_hf_config_length(const struct apr_hf_config *c, struct apr_bytes path);
bool apr_hf_config_largest(const struct apr_hf_config *c, struct apr_bytes path, double *value);

/* The value there as jansson has it, which lives as long as the config; NULL when it is absent or null. */
const struct json_t *apr_hf_config_json(const struct apr_hf_config *c, struct apr_bytes path);

#endif
