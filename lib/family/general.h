/* general.* of a GGUF: what a model is called, how large it is, under which license; from its folder and from the files in it. */
#ifndef APR_GENERAL_H
#define APR_GENERAL_H

#include "family/translate.h"

/* "1.3M", "4x330K": two digits at least, K M B T. experts 0: no mixture; else shared + one expert, times so many. */
const char *apr_size_label(uint64_t elements, uint64_t expert_elements, uint64_t experts, char text[48]);

/* general.type up to general.languages, as the converter of llama.cpp writes them from generation_config.json, the front matter of
 * README.md, config.json's _name_or_path and the name, the earlier first. A front matter that is no YAML says nothing. Of a model that has
 * the keys of a GGUF with it (APR_KV_KEY) only general.name is made of names. */
APR_MUST_CHECK enum apr_code apr_general_put(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e);

/* The license that the front matter names, in the arena; empty when it names none. */
struct apr_bytes apr_general_license(struct apr_arena **a, const struct apr_side *side);

#endif
