/* The stages of a forward pass, as traces name them. */
#ifndef APR_STAGE_H
#define APR_STAGE_H

#include "base/core.h"

/* Place of a stage in computation order, from 0; unknown names come last. Aliases share a place. */
unsigned apr_stage_rank(struct apr_bytes stage);

/* A tensor name of a trace, "layer-3/ffn_out" or "lm_head", taken apart: *layer is APR_WHOLE_MODEL for the latter. */
#define APR_WHOLE_MODEL UINT32_MAX
void apr_stage_split(struct apr_bytes name, uint32_t *layer, struct apr_bytes *stage);

/* Computation order of two such names: layers by number, whole-model stages behind them. */
int apr_stage_compare(struct apr_bytes a, struct apr_bytes b);

#endif
