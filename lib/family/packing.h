/* Checkpoints that hold a weight as codes, with scales and what else undoes them in tensors beside it: FP8, bitsandbytes, GPTQ, AWQ, MLX,
 * compressed-tensors, MXFP4, NVFP4. What is told here is which tensor is what, and the true shape of the weight; no values. */
#ifndef APR_PACKING_H
#define APR_PACKING_H

#include "base/core.h"

struct apr_hf_config;
struct apr_packing;

/* *p is NULL when nothing is packed. config: the model's, or NULL. The model must outlive it; free with apr_packing_free. */
APR_MUST_CHECK enum apr_code apr_packing_of(struct apr_packing **p, const struct apr_model *m, const struct apr_hf_config *config,
                                            struct apr_error *e);
void apr_packing_free(struct apr_packing *p);

/* The model as if it were not packed: the same tensors, at the same indices, but codes have the name and the shape of their weight. Good
 * for names and shapes alone, not to be sought in by name; its data are still codes. */
const struct apr_model *apr_packing_view(const struct apr_packing *p);

/* How many weights are packed, and "GPTQ", the method of most of them. */
size_t apr_packing_count(const struct apr_packing *p, const char **method);

/* Of tensor number i: does it hold codes, is it beside such codes? */
bool apr_packing_codes(const struct apr_packing *p, size_t i);
bool apr_packing_helps(const struct apr_packing *p, size_t i);

#endif
