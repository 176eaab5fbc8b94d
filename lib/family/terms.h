/* The terms of a family's forward pass, of one model: what its contract's section `forward` comes to. */
#ifndef APR_TERMS_H
#define APR_TERMS_H

#include "family/bind.h"

/* Booleans are 0 and 1. Terms with (l) may depend on the layer, which the expression calls `layer`. What stands behind a colon holds where
 * the contract has no such term, or it is not known.
 *   only           1: is the forward pass that of this model?
 *   layers hidden heads kv_heads head_k head_v context   sizes; kv_heads: heads; head_k: hidden / heads; head_v: head_k; context: 0, not
 *                  told
 *   parallel       attention and feed-forward both read what the layer is given, and are added to it
 *   norm_after     norm(x + f(x)), not x + f(norm(x))
 *   layer_norm     LayerNorm, not RMS norm; eps of either
 *   act            gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, silu, swish, relu, relu2 ...
 *   gate_in_up     ffn_up has the rows of a gate before its own
 *   causal         1: positions see none behind them
 *   head           1: it predicts tokens; features: it takes `hidden` numbers, not tokens, and is a head alone
 *   embed_scale residual_scale logit_scale   1; logit_cap attn_cap: 0, none; attn_scale: 1 / sqrt(head_k)
 *   slides (l)     1: is the window that of this layer? window (l): 0, a position sees all before it
 *   temperature    0: none; queries at position p times 1 + temperature * ln(1 + floor(p / temperature_length))
 *   latent_rank    0: no latent attention
 *   rope_dims (l)  0: heads do not turn; rope_skip: 0, elements of a head before them; rope_base (l): 10000; rope_adjacent: 0, halves
 *   rope_kind (l)  none default linear llama3 yarn longrope su dynamic; rope_factor rope_original rope_mscale rope_mscale_all rope_scale:
 *                  of that, as far as it is not where HuggingFace or GGUF keep it
 *   experts (l)    and experts_used (l), both needed where a model has routers; expert_sigmoid: 0, softmax; expert_normalized: 0;
 *                  expert_scale: 1; expert_groups: 1; expert_groups_used: all; expert_best_two: 0, a group is worth its best */

/* The value of a term in a layer; not known where the contract does not say, or the model does not tell what it needs. */
struct apr_result apr_term(const struct apr_binding *b, enum apr_term term, uint64_t layer);

/* Fails, APR_EARG, and says which word of config.json and which key of a GGUF would have told it. */
enum apr_code apr_term_unknown(const struct apr_binding *b, enum apr_term term, struct apr_error *e);

#endif
