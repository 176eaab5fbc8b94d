/* Which dtype each tensor of a GGUF gets under a preset, as llama-quantize chooses: by name, shape, block, and what came before. */
#ifndef APR_MIX_H
#define APR_MIX_H

#include "family/preset.h"

/* What is asked of the model and of the options.
 *   nblock           all blocks, those that only predict among them (npredict)
 *   nhead, nhead_kv  of block 0
 *   nexpert          0: no mixture of experts
 *   pure             the preset's dtype for all
 *   imatrix          importance weights are given
 *   leave_output     output.weight stays as it is
 *   output,
 *   embedding        the dtype of output.weight, of token_embd.weight and per_layer_token_embd.weight, or NULL: the mix says */
struct apr_mix {
    const struct apr_preset *preset;
    struct apr_bytes         architecture;
    uint32_t                 nblock, npredict, nhead, nhead_kv, nexpert;
    bool                     pure, imatrix, leave_output;
    const struct apr_dtype  *output, *embedding;
};

/* Sets the model's part (architecture to nexpert) by the keys of a GGUF; what stands in none is 0. */
void apr_mix_read(struct apr_mix *m, const struct apr_meta *meta);

/* One tensor, as it stands in the GGUF.
 *   name, ndim, dim   as in apr_tensor: dims slowest first
 *   from              what it would have without a preset: of a checkpoint, what the converter makes of it
 *   ruled             the dtype that the first matching rule gives it, or NULL
 *   has_importance    the imatrix has an entry for it
 * and the answer:
 *   dtype             from, when it stays as it is
 *   needs_importance  blocks of that dtype are worth nothing without importance weights
 *   fell_back         the rows are no whole blocks of what was chosen first */
struct apr_mixed {
    struct apr_bytes        name;
    unsigned                ndim;
    const uint64_t         *dim;
    const struct apr_dtype *from, *ruled;
    bool                    has_importance;
    const struct apr_dtype *dtype;
    bool                    needs_importance, fell_back;
};

/* Is it one that llama-quantize changes at all: a matrix, and none of those that are small or sensitive? By name and dims alone; no preset
 * is needed. */
bool apr_mix_may_change(const struct apr_mix *m, const struct apr_mixed *t);

/* Is it the output or an embedding, of which an imatrix of the very model may know nothing? */
bool apr_mix_outside(const struct apr_mix *m, struct apr_bytes name);

/* Fills in the answers. t is all tensors of the model, in any order. APR_EARG names the first one, in llama-quantize's order, that needs
 * importance weights and has none, whose rows fit neither the dtype nor one in its place, that has four dimensions and would change, or
 * of a model with experts the one whose name has no block. */
APR_MUST_CHECK enum apr_code apr_mix_choose(const struct apr_mix *m, struct apr_mixed *t, size_t n, struct apr_error *e);

/* The number behind a leading "blk.", -1 without one. */
int64_t apr_mix_block(struct apr_bytes name);

/* The order in which llama-quantize looks at tensors and writes them, of two of their names: by block, those outside of blocks first, then
 * by bytes. As memcmp. */
int apr_mix_order(struct apr_bytes a, struct apr_bytes b);

#endif
