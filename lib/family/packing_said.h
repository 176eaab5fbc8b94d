/* What config.json says of how a module's weight is packed: the sections quantization_config and quantization. */
#ifndef APR_PACKING_SAID_H
#define APR_PACKING_SAID_H

#include "base/core.h"

struct apr_hf_config;
struct json_t;

/* Which weights share a scale. */
enum apr_strategy { APR_STRATEGY_ANY, APR_STRATEGY_TENSOR, APR_STRATEGY_CHANNEL, APR_STRATEGY_GROUP, APR_STRATEGY_BLOCK };

/* 0 and ANY: it does not say.
 *   block  rows and columns of a block
 *   v2     GPTQ's zeros are stored as they are
 *   awq    the method is AWQ by name; gptq: it is GPTQ
 *   floats MLX's codes are floats: their scales E4M3 (16) or exponents (32)
 *   zeros  codes are not symmetric: zeros are beside them; no_zeros: they are, and zeros may be left out
 *   order  columns are grouped out of their order: an index is beside the codes
 *   any    there is such a section at all
 *   wrong  what it says that cannot be, by its key, and its value; or NULL */
struct apr_said {
    unsigned          bits;
    uint64_t          group, block[2];
    enum apr_strategy strategy;
    bool              v2, awq, gptq;
    unsigned          floats;
    bool              zeros, no_zeros, order, any;
    const char          *wrong;
    const struct json_t *value;
};

/* Such a section, or NULL; is there one? */
const struct json_t *apr_said_section(const struct apr_hf_config *config);
bool apr_said_any(const struct apr_hf_config *config);

/* The method by the word that config.json has for it, "gptq"; a name to show of one that none of our methods is, or of a format, version,
 * type or strategy that none reads. */
struct apr_said_method {
    struct apr_bytes word;
    const char      *unknown; /* in the arena, printable; or NULL */
};
struct apr_arena;

APR_MUST_CHECK enum apr_code apr_said_method(struct apr_said_method *s, struct apr_arena **a, const struct apr_hf_config *config,
                                             struct apr_error *e);

/* What may be meant for the weight of the module ("model.layers.0.mlp.up_proj"), likeliest first: at most `most`, at least one. */
size_t apr_said_of(const struct apr_hf_config *config, struct apr_bytes module, struct apr_said *said, size_t most);

#endif
