/* Which of a family's roles each tensor of a model may have, by its name alone. */
#ifndef APR_NAMES_H
#define APR_NAMES_H

#include "family/family.h"

/* What a tensor is for. part: which of the role's names in that dialect. */
struct apr_meaning {
    const struct apr_role *role;
    uint32_t               layer, expert;
    enum apr_dialect       dialect;
    unsigned               part;
};

/* Linear in the tensors. The family and the model must outlive it; free with apr_names_free. */
struct apr_names;
APR_MUST_CHECK enum apr_code apr_names_new(struct apr_names **s, const struct apr_family *f, const struct apr_model *m,
                                           struct apr_error *e);

/* The same, but *s is NULL as soon as a tensor has no meaning and is not skipped. */
APR_MUST_CHECK enum apr_code apr_names_fit(struct apr_names **s, const struct apr_family *f, const struct apr_model *m,
                                           struct apr_error *e);
void apr_names_free(struct apr_names *s);

/* How many meanings t may have (more than one where roles share a name, none for what the family does not know), and number i of them,
 * or NULL. */
size_t apr_names_of(const struct apr_names *s, const struct apr_tensor *t);
const struct apr_meaning *apr_names_get(const struct apr_names *s, const struct apr_tensor *t, size_t i);

/* May some tensor, other than a placeholder, have the role? */
bool apr_names_present(const struct apr_names *s, const struct apr_role *role);

/* The first that may have it under its name of the dialect, or NULL. It looks at all names. */
const struct apr_tensor *apr_names_first(const struct apr_names *s, const struct apr_role *role, enum apr_dialect dialect);

/* Puts the likeliest meaning of each tensor first, now that dims are known: those whose `when` holds. Of several, those that are not in
 * its layer (`where`) go. Once, and before apr_names_find. */
APR_MUST_CHECK enum apr_code apr_names_order(struct apr_names *s, const struct apr_scope *scope, struct apr_error *e);

/* The tensor with that meaning, or NULL. */
const struct apr_tensor *apr_names_find(const struct apr_names *s, const struct apr_meaning *meaning);

/* Does the contract drop t (`skip`, `buffers`)? Never in a GGUF, nor where a dim that a glob asks for is not known. After
 * apr_names_order. */
bool apr_names_skips(const struct apr_names *s, const struct apr_tensor *t);

/* Is it one of those that it drops as `buffers`? */
bool apr_names_buffer(const struct apr_names *s, const struct apr_tensor *t);

/* A model's name as the contract spells it, into out (APR_NAME_ROOM) where that differs from the name. */
struct apr_bytes apr_family_spelling(const struct apr_family *f, struct apr_bytes name, char *out);

/* Is t, spelled as the contract spells names, called that? */
bool apr_names_named(const struct apr_names *s, const struct apr_tensor *t, struct apr_bytes name);

#endif
