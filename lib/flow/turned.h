/* Expert stacks whose codes lie the other way round than their values: gpt-oss. */
#ifndef APR_TURNED_H
#define APR_TURNED_H

#include "base/core.h"
#include "family/rows.h"

struct apr_input;
struct apr_wishes;

/* Is it MXFP4 of a stack that is called by its layer alone ("experts.down_proj", no ".weight")? The class keeps such codes as [experts, out,
 * in], and the parameter that it makes of them, or finds in a checkpoint that is not packed, as [experts, in, out]. */
bool apr_is_turned(const struct apr_tensor *t);

/* A view of *part, which has three dims, with the last two exchanged: dim is its shape. Borrows part. */
APR_MUST_CHECK enum apr_code apr_turned_view(const struct apr_tensor *const *part, struct apr_view *view, uint64_t dim[APR_MAX_DIMS],
                                             struct apr_error *e);

/* The same as an input. */
APR_MUST_CHECK enum apr_code apr_turned_input(struct apr_input *in, const struct apr_kernels *k, const struct apr_model *m,
                                              const struct apr_tensor *const *part, struct apr_error *e);

/* Wishes for tensors of m under a checkpoint's own names, which no contract turns: each such stack is as the class has it. */
APR_MUST_CHECK enum apr_code apr_turn_wishes(struct apr_wishes *w, const struct apr_kernels *k, const struct apr_model *m,
                                             struct apr_error *e);

#endif
