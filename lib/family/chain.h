/* The transforms of a role with their numbers: worked out, and as text. */
#ifndef APR_CHAIN_H
#define APR_CHAIN_H

#include "family/family.h"

/* From the HuggingFace side to the GGUF, or to the tensors as HuggingFace has them where the role has several (else nothing): out of the
 * whole of which the contract gives the shape. False when a number is not known. Lists are the family's. */
bool apr_role_chain(const struct apr_role *role, bool gguf, const struct apr_scope *scope, struct apr_transform out[APR_MAX_STEPS],
                    size_t *n);

/* Adds "regroup(2,16)+split_rows(32,8)" to the text of `room` bytes, behind a "+" where it has some. part: of which output, so those of
 * another are left out; APR_ALL_PARTS: of all, "split_rows(8,4)[rope_permute(2);]". numbers: of those too that a name tells enough of. */
#define APR_ALL_PARTS UINT64_MAX
void apr_chain_spell(const struct apr_transform *chain, size_t n, uint64_t part, bool numbers, char *text, size_t room);

#endif
