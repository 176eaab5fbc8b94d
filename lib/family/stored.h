/* A role in a layer as a model stores it, and views of it in another order. */
#ifndef APR_STORED_H
#define APR_STORED_H

#include "family/bind.h"
#include "family/rows.h"

#define APR_MOST_PARTS 65536u /* tensors of a role in a layer: experts */

/*   dialect  the names it was found by
 *   part     n tensors
 *   chain    nchain transforms from HuggingFace's side to the stored one
 *   dim      of one tensor on HuggingFace's side, or of all that are joined: ndim of them */
struct apr_stored {
    const struct apr_role    *role;
    uint32_t                  layer;
    enum apr_dialect          dialect;
    const struct apr_tensor **part;
    size_t                    n, nchain;
    struct apr_transform      chain[APR_MAX_STEPS];
    uint64_t                  dim[APR_MAX_DIMS];
    unsigned                  ndim;
};

/* Fills role to n, part in the arena; n is 0 when a tensor is missing. all: room for APR_MOST_PARTS of them. */
APR_MUST_CHECK enum apr_code apr_stored_find(struct apr_stored *s, const struct apr_binding *b, const struct apr_role *role, uint32_t layer,
                                             const struct apr_tensor **all, struct apr_arena **arena, struct apr_error *e);

/* For a role whose sizes nothing tells, and that is stored as on HuggingFace's side: the shape is that of its first tensor. */
void apr_stored_take_shape(struct apr_stored *s);

/* The shape that part i should have; false where the role's does not go through the chain. */
bool apr_stored_shape(const struct apr_stored *s, size_t i, uint64_t dim[APR_MAX_DIMS], unsigned *ndim);

/* What lies behind another chain from HuggingFace's side, output number `number` of it: its shape, and the view. False where the shape does
 * not go through; a transform that the stored order does not allow fails as apr_view_back. */
bool apr_stored_other_shape(const struct apr_stored *s, const struct apr_transform *to, size_t nto, uint64_t number,
                            uint64_t dim[APR_MAX_DIMS], unsigned *ndim);
APR_MUST_CHECK enum apr_code apr_stored_view(const struct apr_stored *s, const struct apr_transform *to, size_t nto, uint64_t number,
                                             struct apr_view *view, struct apr_error *e);

#endif
