/* Saved activations, ours and those of others, as one kind of model: tensors "layer-3/ffn_out" and "lm_head", in computation order. */
#ifndef APR_SAVED_H
#define APR_SAVED_H

#include "forward/stage_map.h"

/* What the activations are compared with. has: is that stage of that layer there? Some foreign values are one of two stages, and only the
 * other side shows which: a projection is qkv_bias where the model has a bias, else qkv_matmul. */
struct apr_other_side {
    bool (*has)(void *ctx, uint32_t layer, unsigned stage);
    void  *ctx;
};

/* Opens a trace (a folder, one APRT or .npy file) or activations that another program saved under its own names (a SafeTensors file, a
 * folder of .npy files): these are found by the map, NULL meaning that of transformers. What the map does not know is left out; what it
 * neither knows nor ignores is counted in a note, "trace.unmapped", for the tool to tell. Leading dimensions of 1 are dropped, down to two.
 * Tensors are views of the file, but those put together or split are copies. Where no name is known, as in a checkpoint: APR_EARG, with two
 * names that are there; traces stay then as they are.
 * other: NULL, nothing is known of it. Close with apr_close. */
APR_MUST_CHECK enum apr_code apr_open_trace(struct apr_model **m, const char *path, const struct apr_stage_map *map,
                                            const struct apr_other_side *other, const struct apr_run *r, struct apr_error *e);

/* The same of a model that is open; after a failure it is fit for nothing but apr_close. A trace under our names stays as it is. */
APR_MUST_CHECK enum apr_code apr_as_trace(struct apr_model *m, const struct apr_stage_map *map, const struct apr_other_side *other,
                                          struct apr_error *e);

/* Was it made of another program's activations? Then it has only some of the stages. */
bool apr_is_foreign(const struct apr_model *m);

/* lm_head and the stages of experts are saved of the last position alone, or of all. True when t, of such a stage, holds `count` values
 * several times: *view is then the last of them, in one dimension. */
bool apr_trace_last(const struct apr_tensor *t, uint64_t count, struct apr_tensor *view);

/* Are the values of two shapes in one order, of equally many values: is one the other with dimensions put together or taken apart
 * ([4, 2, 8] and [4, 16], or [64] of an APRT, but not [16, 4])? No values are in any order. */
bool apr_trace_fits(const uint64_t *a, unsigned na, const uint64_t *b, unsigned nb);

#endif
