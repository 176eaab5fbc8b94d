/* Which of a family's roles each tensor of a model may have, by its name alone. */
#ifndef APR_SEATS_H
#define APR_SEATS_H

#include "family.h"

/* What a tensor is for. piece: which of the role's names in that dialect. */
struct apr_seat {
    const struct apr_role *role;
    uint32_t               layer, expert;
    enum apr_dialect       dialect;
    unsigned               piece;
};

/* Linear in the tensors. The family and the model must outlive it; free with apr_seats_free. */
struct apr_seats;
APR_MUST_CHECK enum apr_code apr_seats_new(struct apr_seats **s, const struct apr_family *f, const struct apr_model *m,
                                           struct apr_error *e);

/* The same, but *s is NULL as soon as a tensor has no seat and is not skipped. */
APR_MUST_CHECK enum apr_code apr_seats_fit(struct apr_seats **s, const struct apr_family *f, const struct apr_model *m,
                                           struct apr_error *e);
void apr_seats_free(struct apr_seats *s);

/* How many seats t may have (more than one where roles share a name, none for a stranger), and number i of them, or NULL. */
size_t apr_seats_of(const struct apr_seats *s, const struct apr_tensor *t);
const struct apr_seat *apr_seats_get(const struct apr_seats *s, const struct apr_tensor *t, size_t i);

/* May some tensor, other than a placeholder, have the role? */
bool apr_seats_present(const struct apr_seats *s, const struct apr_role *role);

/* Puts the likeliest seat of each tensor first, now that dims are known: those whose `when` holds. Once, and before apr_seats_find. */
APR_MUST_CHECK enum apr_code apr_seats_order(struct apr_seats *s, const struct apr_scope *scope, struct apr_error *e);

/* The tensor with that seat, or NULL. */
const struct apr_tensor *apr_seats_find(const struct apr_seats *s, const struct apr_seat *seat);

/* Does the contract drop t (`skip`)? Never in a GGUF, nor while a dim that a glob asks for is not known. */
bool apr_seats_skips(const struct apr_seats *s, const struct apr_tensor *t, const struct apr_scope *scope);

/* Is t, spelled as the contract spells names, called that? */
bool apr_seats_named(const struct apr_seats *s, const struct apr_tensor *t, struct apr_bytes name);

#endif
