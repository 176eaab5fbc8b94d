/* Checkpoints that hold a weight as codes, with scales and what else undoes them in tensors beside it: FP8, bitsandbytes, GPTQ, AWQ, MLX,
 * compressed-tensors, MXFP4, NVFP4. What is made of them here is the same model with each weight as one tensor, whose rows are decoded
 * where they are read (values/packed.h). */
#ifndef APR_PACKING_H
#define APR_PACKING_H

#include "base/core.h"

struct apr_hf_config;
struct apr_packing;

/* *p is NULL when nothing is packed and no method is named that nobody knows. config: the model's, or NULL; one that says nothing of
 * packing gives way to what the model's metadata has of it (apr_packing_keys, or a GGUF's hf.config.json). The model must outlive it; free
 * with apr_packing_free. */
APR_MUST_CHECK enum apr_code apr_packing_of(struct apr_packing **p, const struct apr_model *m, const struct apr_hf_config *config,
                                            struct apr_error *e);
void apr_packing_free(struct apr_packing *p);

/* The same with the configuration that the model has beside or in it; one that cannot be read says nothing. */
APR_MUST_CHECK enum apr_code apr_packing_open(struct apr_packing **p, const struct apr_model *m, struct apr_error *e);

/* The keys of config.json that say how weights are packed, likeliest first, by which a file that stands alone keeps them in its metadata, as JSON; NULL
 * ends them. */
extern const char *const apr_packing_keys[];

/* The model as if it were not packed: codes have the name, the shape and the values of their weight, what undoes them is gone, and so are
 * the scales of activations; all else is as in the model, in its order. As it is where the method is one that nobody knows. A whole model,
 * but for closing: that is the other one's. */
struct apr_model *apr_packing_view(struct apr_packing *p);

/* The stored tensors that tensor number i of the view is made of, *n of them, codes first; of one that is not packed, itself. */
const struct apr_tensor *const *apr_packing_parts(const struct apr_packing *p, size_t i, size_t *n);

/* Whether stored tensor number i of the model is a scale of activations or of a cache, that is in no weight. */
bool apr_packing_is_spared(const struct apr_packing *p, size_t i);

/* How many weights are packed, and "GPTQ", the method of most of them; "" of none. */
size_t apr_packing_count(const struct apr_packing *p, const char **method);

/* Weights that stay as they are stored, since what is beside them does not fit: the tensor that does not, and why, with both names. */
struct apr_packing_fault {
    struct apr_bytes tensor;
    const char      *text;
};
size_t apr_packing_faults(const struct apr_packing *p, const struct apr_packing_fault **fault);

/* Weights that are read in the likeliest way of several that fit, since nothing says which: the codes, and how else they may be read. */
size_t apr_packing_guesses(const struct apr_packing *p, const struct apr_packing_fault **guess);

/* The method that config.json names when nobody here knows it, printable; else NULL. */
const char *apr_packing_unknown(const struct apr_packing *p);

/* APR_OK when all that is packed was understood; else APR_ECORRUPT with the first fault, or APR_EUNSUPPORTED with the method that nobody
 * knows; `instead` ends the message. NULL p is understood. */
APR_MUST_CHECK enum apr_code apr_packing_understood(const struct apr_packing *p, const char *instead, struct apr_error *e);

/* The same where values are made of codes for good: APR_EUNSUPPORTED for a guess as well. */
APR_MUST_CHECK enum apr_code apr_packing_sure(const struct apr_packing *p, const char *instead, struct apr_error *e);

#endif
