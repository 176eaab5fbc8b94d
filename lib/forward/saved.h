/* Saved activations, ours and those of others, as one kind of model: tensors called "layer-3/ffn_out" and "lm_head", in computation order. */
#ifndef APR_SAVED_H
#define APR_SAVED_H

#include "forward/stage_map.h"

/* Opens a trace (a folder, one APRT or .npy file) or activations that another program saved under its own names (a SafeTensors file, a folder
 * of .npy files): these are found by the map, NULL meaning that of transformers. What the map does not know is left out; when that is more
 * than it ignores, m has the note "trace.unmapped", for the tool to tell. Leading dimensions of 1 are dropped down to two. Tensors are views
 * of the file but those put together or split, which are copies in m's arena. Checkpoints and files without one known name: APR_EARG, with names
 * that are in it. Close with apr_close. */
APR_MUST_CHECK enum apr_code apr_open_trace(struct apr_model **m, const char *path, const struct apr_stage_map *map, const struct apr_run *r,
                                            struct apr_error *e);

/* The same of a model that is open; it is fit only for apr_close after a failure. Nothing happens to a trace of ours. */
APR_MUST_CHECK enum apr_code apr_as_trace(struct apr_model *m, const struct apr_stage_map *map, struct apr_error *e);

/* Some foreign values are one of two stages, and only who compares them knows which: a projection is qkv_bias where the model has a bias, else
 * qkv_matmul. They stand under the latter until this is called: made(ctx, layer, stage) says whether the other side has that stage. */
APR_MUST_CHECK enum apr_code apr_trace_settle(struct apr_model *m, bool (*made)(void *ctx, uint32_t layer, unsigned stage), void *ctx,
                                              struct apr_error *e);

/* lm_head and the router's stages are saved of the last position alone, or of all. True when t holds a whole multiple of `count` values of such
 * a stage: *view is then the last `count` of them, in one dimension. */
bool apr_trace_last(const struct apr_tensor *t, uint64_t count, struct apr_tensor *view);

#endif
