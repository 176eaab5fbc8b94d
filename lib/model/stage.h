/* The stages of a forward pass, as traces name them. */
#ifndef APR_STAGE_H
#define APR_STAGE_H

#include "base/core.h"

/* Place of a stage in computation order, from 0; unknown names come last. Aliases share a place. */
unsigned apr_stage_rank(struct apr_bytes stage);

/* The stages by their place, and the name of one: apr_stage_name(APR_STAGE_FFN_OUT) is "ffn_out". */
enum {
    APR_STAGE_EMBEDDING, APR_STAGE_ATTN_NORM, APR_STAGE_QKV_MATMUL, APR_STAGE_QKV_BIAS, APR_STAGE_Q_POST_ROPE, APR_STAGE_K_POST_ROPE,
    APR_STAGE_ATTN_SCORES, APR_STAGE_ATTN_SOFTMAX, APR_STAGE_ATTENTION, APR_STAGE_ATTN_OUT, APR_STAGE_POST_ATTN_RESIDUAL,
    APR_STAGE_FFN_NORM, APR_STAGE_FFN_GATE, APR_STAGE_FFN_UP, APR_STAGE_FFN_SILU, APR_STAGE_FFN_SWIGL, APR_STAGE_MOE_ROUTER,
    APR_STAGE_MOE_ROUTER_INDICES, APR_STAGE_MOE_FFN_OUT, APR_STAGE_FFN_OUT, APR_STAGE_POST_FFN_RESIDUAL, APR_STAGE_FINAL_NORM,
    APR_STAGE_LM_HEAD, APR_NSTAGES,
};
const char *apr_stage_name(unsigned rank);

/* Is it one that is saved of the last position alone, unless all are asked for: lm_head, those of experts? */
bool apr_stage_is_of_last(unsigned rank);

/* A tensor name of a trace, "layer-3/ffn_out" or "lm_head", taken apart: *layer is APR_WHOLE_MODEL for the latter. */
#define APR_WHOLE_MODEL UINT32_MAX
void apr_stage_split(struct apr_bytes name, uint32_t *layer, struct apr_bytes *stage);

/* What a file of a trace is called for: "trace/layer-3/ffn_out.bin" with suffix ".bin" has the stage "ffn_out", and "layer-3" is returned,
 * or nothing where no such folder is named. Views of path; "stage" where its name is empty, not UTF-8, or standard input's. */
struct apr_bytes apr_stage_of_path(const char *path, const char *suffix, struct apr_bytes *stage);

/* Computation order of two such names: layers by number, whole-model stages behind them. */
int apr_stage_compare(struct apr_bytes a, struct apr_bytes b);

#endif
