/* A model as a forward pass sees it: its matrices by what they multiply, its vectors as floats, its numbers. Which family it is shows in
 * nothing but what is there and what the numbers are: contracts say it (families/NAME.yaml, `forward`), not code. */
#ifndef APR_NET_H
#define APR_NET_H

#include "family/bind.h"
#include "forward/matrix.h"

/* Of a linear layer: y = x W^T + bias. bias: nout floats, or NULL; bias_in: where they are stored, from element w.first on where w is
 * some rows of a matrix (a gate's; experts have none). */
struct apr_linear {
    struct apr_matrix       w;
    const float            *bias;
    const struct apr_input *bias_in;
};

/* weight NULL: it is not there, and x stays as it is. n: what it goes over: the hidden size, a head, or for q and k all heads at once
 * (OLMo 2: n is heads * head_k, kv_heads * head_k). bias: LayerNorm's, or NULL. Weights are those that
 * multiply: Gemma's 1 + w. weight_in, bias_in: where they are stored. */
struct apr_norm {
    const float            *weight, *bias;
    const struct apr_input *weight_in, *bias_in;
    uint64_t                n;
};

/* down(act(gate x) * (up x)) where there is a gate, else down(act(up x)). */
enum apr_act { APR_SILU, APR_GELU, APR_GELU_TANH, APR_RELU, APR_RELU2, APR_NACTS };

/* A feed-forward network, as a layer has one, or an expert. gate.w.in NULL: there is none. */
struct apr_ffn {
    struct apr_linear gate, up, down;
};

/* Routed experts, n of them; n 0: a dense layer. Weights of the `used` best go through
 *   sigmoid      or softmax, over all n; after it the best are chosen, by score + bias where there is one
 *   groups       > 1: experts in so many groups, of which `groups_used` stay, by the sum of the two best of each (best_two: DeepSeek V3) or by
 *                its best
 *   normalized   the weights that were chosen are divided by their sum; scale multiplies them
 * shared: the expert that every token takes, its weight sigmoid(shared_gate x) where there is such a row */
struct apr_experts {
    uint64_t                n, used, groups, groups_used;
    bool                    sigmoid, normalized, best_two;
    double                  scale;
    struct apr_linear       router;
    const float            *score_bias;
    const struct apr_input *score_bias_in;
    struct apr_ffn         *expert;
    struct apr_ffn          shared;
    struct apr_linear       shared_gate;
};

/* Rotary positions: the first n elements (behind `skip`) of each head turn by position * freq[i], i < n / 2; element i with i + n / 2 (halves,
 * as HuggingFace's), or 2i with 2i + 1 (adjacent). cos and sin are multiplied by `scale`. long_freq, long_scale: in their stead for
 * runs of more than `original` positions (longrope); NULL: there are none. growth: of such a run of t positions, frequency i is divided
 * by (growth * t / original - growth + 1) ^ (2i / (n - 2)) (dynamic); 0: it is not. n 0: heads do not turn. */
struct apr_rope {
    uint64_t      n, skip, original;
    bool          adjacent;
    const double *freq, *long_freq;
    double        scale, long_scale, growth;
};

/* Multi-head latent attention (DeepSeek): q through q_a, norm, q_b (or q alone); kv_a gives rank + rotated elements; kv_b makes keys and
 * values of the normed latent. rank 0: there is none. */
struct apr_latent {
    uint64_t          rank, nope, rotated;
    struct apr_linear q_a, q_b, kv_a, kv_b;
    struct apr_norm   q_a_norm, kv_a_norm;
};

/* qkv: rows of all queries, then all keys, then all values, where they are one tensor: then q, k, v are not there. window: a position sees
 * so many, itself included; 0: all. Q and K rows are in HuggingFace's order. */
struct apr_layer {
    struct apr_norm    attn_norm, q_norm, k_norm, post_attn_norm, ffn_norm, post_ffn_norm;
    struct apr_linear  qkv, q, k, v, o;
    struct apr_latent  latent;
    struct apr_ffn     ffn;
    struct apr_experts experts;
    struct apr_rope    rope;
    uint64_t           window;
};

/* The whole.
 *   order         of a layer. BEFORE: x + attn(norm x), then x + ffn(norm x), post norms on what is added. PARALLEL: x + attn(norm x) +
 *                 ffn(ffn_norm x), ffn_norm that of attn_norm where it is not there. AFTER: norm(x + attn(x)), then norm(x + ffn(x)): BERT;
 *                 then the two are attn_norm and ffn_norm
 *   layer_norm    LayerNorm, else RMS: everywhere; eps of both
 *   heads ...     queries are heads * head_k wide, keys kv_heads * head_k, values kv_heads * head_v
 *   temperature   0: none; else queries at position p are multiplied by 1 + temperature * ln(1 + floor(p / temperature_length)), as
 *                 Ministral 3 has it
 *   attn_scale    of q k; attn_cap, logit_cap: cap * tanh(x / cap), 0: none
 *   embed_scale   of embeddings; residual_scale: of what is added to the stream; logit_scale: of logits
 *   positions     learned ones, rows of `position`; 0: none are. context: what the model was made for, 0: not told. Row 0 of types is added
 *                 to each position
 *   causal        false: BERT's
 *   head          logits = final_norm head^T (+ bias); head.w.in NULL: an encoder; embedding tied: the same matrix. output_norm not
 *                 there: what the last layer gives is final
 *   features      a classic model: `hidden` features go in, not tokens, and there is nothing but the head */
enum apr_order { APR_ORDER_BEFORE, APR_ORDER_PARALLEL, APR_ORDER_AFTER };
struct apr_net {
    const struct apr_model   *model;
    const struct apr_binding *binding;
    struct apr_bytes          family;
    enum apr_order            order;
    enum apr_act              act;
    bool                      layer_norm, causal, features;
    double                    eps, attn_scale, attn_cap, logit_cap, embed_scale, residual_scale, logit_scale, temperature;
    uint64_t                  nlayer, hidden, vocab, heads, kv_heads, head_k, head_v, positions, context, temperature_length;
    struct apr_matrix         embedding, position, types;
    struct apr_norm           embedding_norm, output_norm;
    struct apr_linear         head;
    struct apr_layer         *layer;
    struct apr_arena         *arena;
};

/* Puts it together, reads vectors and checks every shape against the numbers; matrices stay where they are. The model and the binding must
 * outlive it. APR_EARG names a family without a forward pass, a tensor that is missing, a number that nothing tells (its key), a shape
 * that does not fit. Free with apr_net_free. */
APR_MUST_CHECK enum apr_code apr_net_new(struct apr_net **n, const struct apr_kernels *k, const struct apr_model *m,
                                         const struct apr_binding *b, struct apr_error *e);
void apr_net_free(struct apr_net *n);

/* The GGUF name of a matrix into out; false when the role has none there. */
bool apr_matrix_gguf_name(const struct apr_matrix *w, char out[APR_NAME_ROOM]);

#endif
