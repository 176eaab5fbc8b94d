/* Inside lib/family/mix.c: what a preset mixes, tensor by tensor in llama-quantize's order. */
#ifndef APR_MIXTURE_H
#define APR_MIXTURE_H

#include "family/mix.h"

/* What a tensor is to a mix. VALUES are attention's values, alone or together with keys, or queries and keys. EIGHT_BITS: some of glm5-next
 * that are spared. */
enum apr_category {
    APR_MIX_OUTPUT, APR_MIX_EMBEDDING, APR_MIX_VALUES, APR_MIX_KEYS, APR_MIX_QUERIES, APR_MIX_ATTENTION, APR_MIX_UP, APR_MIX_GATE,
    APR_MIX_DOWN, APR_MIX_EIGHT_BITS, APR_MIX_OTHER, APR_MIX_NCATEGORIES,
};
enum apr_category apr_category_of(const struct apr_mix *m, struct apr_bytes name);


/* A walk over the tensors.
 *   tied     there is no output.weight
 *   nvalues  tensors of APR_MIX_VALUES, those that do not change among them
 *   seen     tensors of each category that were mixed so far */
struct apr_mixture {
    const struct apr_mix *mix;
    bool                  tied;
    uint64_t              nvalues, seen[APR_MIX_NCATEGORIES];
};
struct apr_mixture apr_mixture_of(const struct apr_mix *m, const struct apr_mixed *t, size_t n);

/* *d is the dtype of the next tensor, before anyone asks whether its shape fits. APR_EARG: with experts, a feed-forward tensor outside of
 * the blocks. */
APR_MUST_CHECK enum apr_code apr_mixture_next(struct apr_mixture *x, const struct apr_mixed *t, const struct apr_dtype **d,
                                              struct apr_error *e);

#endif
