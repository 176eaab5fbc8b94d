/* What a contract wants of a model, and the model does not have. */
#ifndef APR_MISSING_H
#define APR_MISSING_H

#include "family/bind.h"

/* The dialect that most tensors of the model are named in; HuggingFace's when none has a meaning. */
enum apr_dialect apr_binding_spoken(const struct apr_binding *b, const struct apr_model *m);

/* Calls found(ctx, what, name) for every tensor that the contract wants in layers below nlayer and that is not there, spelled in the
 * dialect in which the model has other parts of its role, else in `dialect`; until found says false. */
typedef bool apr_missing_fn(void *ctx, const struct apr_meaning *what, struct apr_bytes name);
void apr_binding_missing(const struct apr_binding *b, enum apr_dialect dialect, uint64_t nlayer, apr_missing_fn *found, void *ctx);

/* How many layers the model says that it has: N, or more where `layers` of a role goes further (a decoder deeper than its encoder).
 * role: where that role ends, or NULL for the whole. 0: nothing tells. */
uint64_t apr_binding_layers(const struct apr_binding *b, const struct apr_role *role);

#endif
