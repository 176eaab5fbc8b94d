/* One block of a quantized type taken apart, for people. */
#ifndef APR_BLOCK_JSON_H
#define APR_BLOCK_JSON_H

#include "ui/report.h"
#include "values/kernels.h"

/* Writes {"hex", the scale fields by name, "scales", "mins", "quants"} under key. scales and mins are the small integers of the
 * sub-blocks, where the type has such; quants the integers that a scale is multiplied with. A type that codes groups of weights at once
 * has its fields as they are instead. `block` is in little-endian order. */
void apr_out_block(struct apr_out *o, const char *key, const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *block);

#endif
