/* Work in parallel, results in order. */
#ifndef APR_PARALLEL_H
#define APR_PARALLEL_H

#include "base/core.h"

typedef enum apr_code apr_make_fn(void *ctx, uint64_t i, void *slot, struct apr_error *e);
typedef enum apr_code apr_take_fn(void *ctx, uint64_t i, void *slot, struct apr_error *e);

/* Calls make(ctx, i, slot, e) for every i < n on r->threads threads, and take(ctx, i, slot, e) on this one by rising i. At most
 * 2 * threads slots of slot_bytes (at most 1 MiB; 64-aligned, not cleared) are live. After a failure no take follows; the failure
 * returned is that of the lowest i, so messages are as reproducible as numbers. One thread means no thread: make and take
 * alternate here. A take may itself call apr_ordered. */
APR_MUST_CHECK enum apr_code apr_ordered(const struct apr_run *r, uint64_t n, size_t slot_bytes, apr_make_fn *make, apr_take_fn *take,
                                         void *ctx, struct apr_error *e);

#endif
