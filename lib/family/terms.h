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

/* The value of a term in a layer; not known where the contract does not say, or the model does not tell what it needs; wrong where what it
 * tells cannot be meant: a text for a number, a list too short for the layer. */
struct apr_result apr_term(const struct apr_binding *b, enum apr_term term, uint64_t layer);

/* A term as a number or as a text: `otherwise`, or empty, where it is not known. APR_EARG where it is wrong, of the other kind, or outside
 * the range that all numbers of the term lie in (eps, bases and scales above 0, caps not below): the message names the paths and keys that
 * it was worked out of, and what stands there. */
APR_MUST_CHECK enum apr_code apr_term_number(const struct apr_binding *b, enum apr_term term, uint64_t layer, double otherwise, double *out,
                                             struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_term_text(const struct apr_binding *b, enum apr_term term, uint64_t layer, struct apr_bytes *out,
                                           struct apr_error *e);

/* Fails, APR_EARG, as those do: what it comes to, and what is wanted. */
enum apr_code apr_term_refuse(const struct apr_binding *b, enum apr_term term, uint64_t layer, const char *wanted, struct apr_error *e);

/* The path of config.json, or the key of the metadata, that tells what a contract calls so (apr_binding_word); the name itself where
 * nothing does. */
struct apr_bytes apr_term_place(const struct apr_binding *b, struct apr_bytes name);

/* What a number of that range should be, in words; NULL: v is in it. */
enum apr_bounds { APR_ANY_NUMBER, APR_ABOVE_0, APR_FROM_0 };
const char *apr_bounds_wanted(enum apr_bounds range, double v);

/* APR_EARG where a dim's path of config.json, or its key of the metadata, is of another kind than the dim: it would count as absent. */
APR_MUST_CHECK enum apr_code apr_terms_check(const struct apr_binding *b, struct apr_error *e);

/* Fails, APR_EARG, and says which word of config.json and which key of a GGUF would have told it. */
enum apr_code apr_term_unknown(const struct apr_binding *b, enum apr_term term, struct apr_error *e);

#endif
