/* Asking the dtype table. */
#ifndef APR_DTYPE_H
#define APR_DTYPE_H

#include "base/core.h"

/* The dtype with that id in a GGUF, or NULL. */
const struct apr_dtype *apr_dtype_of_ggml(uint32_t id);

/* The name of a GGML id that once was and was removed ("Q4_2"), or NULL. */
const char *apr_ggml_removed(uint32_t id);

/* What general.file_type of a GGUF says of most of its weights ("Q4_K_M"), or NULL. Bit 1024, "guessed by a loader", is no part of it. */
const char *apr_ggml_file_type(uint64_t value);

/* The dtype of that SafeTensors name, exactly, or NULL. */
const struct apr_dtype *apr_dtype_of_safetensors(struct apr_bytes name);

/* Width of one value of a field in bytes. */
unsigned apr_field_width(enum apr_field_kind kind);

/* Integers of 64 bits, which a double may not tell apart. */
static inline bool apr_is_whole(const struct apr_dtype *d) { return (d->kind == APR_SIGNED || d->kind == APR_UNSIGNED) && d->bytes == 8; }

/* Blocks with scales, or one scale for all: not the small floats that only share bytes. */
static inline bool apr_is_quantized(const struct apr_dtype *d) { return (d->block > 1 && d->safetensors == NULL) || d->head > 0; }

/* Real numbers, of which a converter makes others: not integers, truth values and complex ones. */
static inline bool apr_is_real(const struct apr_dtype *d) { return d->kind == APR_REAL && d->pair == NULL; }

/* No larger magnitude fits blocks of the dtype; FLT_MAX where the scale alone tells. Where squares or cubes of it overflow, a search for
 * scales loses a sub-block, and no scale shows it: the largest of blocks of 256 is 65504 * 128 * 32. NVFP4's scales saturate at 448, its
 * levels at 6. */
float apr_largest_held(const struct apr_dtype *d);

static inline enum apr_dtype_id apr_dtype_id(const struct apr_dtype *d) { return (enum apr_dtype_id)(d - apr_dtypes); }

#endif
