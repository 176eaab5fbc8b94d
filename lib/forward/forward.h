/* The forward pass: tokens in, stages out. Every stage is rounded to float once, sums are double in one order, exp, sin and their like are
 * those of base/fmath.h, and what is no number is one quiet NaN: the bytes of a stage depend on the model and the tokens alone. */
#ifndef APR_FORWARD_H
#define APR_FORWARD_H

#include "forward/net.h"
#include "model/stage.h"

/* Stages that a net has are told, no others: no rope stages where heads do not turn, no norm that is not there, no gate in plain networks
 * (ffn_silu is their activation) and in those of experts, no post_attn_residual where both parts of a layer are added at once, no
 * final_norm where the last layer's output is final. BERT's order: post_attn_residual is the sum, ffn_norm its norm, which enters the
 * feed-forward; post_ffn_residual is behind the layer's last norm. Latent attention: qkv_matmul and qkv_bias are queries, then what kv_a
 * gives; keys are whole in k_post_rope, which, as q_post_rope, leaves turning pairs side by side. */

/* One stage of one layer: ndim dims, values row-major. Rows of positions are [n, width]; attn_scores and attn_softmax [heads, n, seen],
 * where seen counts all positions so far, masked entries 0; router stages [n, used]. position: the first of the n.
 *   layer   APR_WHOLE_MODEL for final_norm and lm_head
 *   values  lives until the function returns */
struct apr_stage_values {
    unsigned     stage; /* its rank (model/stage.h) */
    uint32_t     layer;
    unsigned     ndim;
    uint64_t     dim[3], position;
    const float *values;
};

/* Who looks on. Any function may be NULL.
 *   wants    is the stage of that layer looked at? Those that are not, and that nothing else needs, are not made; NULL: none
 *   stage    a stage, in computation order. A failure ends the run
 *   product  x (n x w->nin, of the positions or of those that an expert gets) is about to be multiplied */
struct apr_observer {
    void *ctx;
    bool (*wants)(void *ctx, uint32_t layer, unsigned stage);
    enum apr_code (*stage)(void *ctx, const struct apr_stage_values *s, struct apr_error *e);
    enum apr_code (*product)(void *ctx, const struct apr_matrix *w, const float *x, size_t n, struct apr_error *e);
};

/* A sequence under way: keys and values of what it has seen. Memory: activations of the longest run, and per position and layer
 * k_width + v_width floats. One thread calls; the team works. */
struct apr_sequence;

/* room: positions it will have at most. The net and the team must outlive it. Free with apr_sequence_free. */
APR_MUST_CHECK enum apr_code apr_sequence_new(struct apr_sequence **s, const struct apr_net *net, struct apr_team *team, uint64_t room,
                                              struct apr_error *e);
void apr_sequence_free(struct apr_sequence *s);

/* Forgets all positions: a new text begins. */
void apr_sequence_clear(struct apr_sequence *s);

/* Runs n further tokens through all layers and the final norm. The bytes of a position's stages are the same however a text is cut into
 * runs, but where its length decides how heads turn (longrope): then what was seen is run again, unobserved, when it grows past that.
 * APR_EARG, with nothing changed, for an id that is no row of the embedding, for no token, for more positions than are learned or than
 * there is room for, and for a second run of an encoder, which sees a text as a whole; after other failures it is to be cleared or freed.
 * observer: or NULL. */
APR_MUST_CHECK enum apr_code apr_sequence_run(struct apr_sequence *s, const uint32_t *id, size_t n, const struct apr_observer *observer,
                                              struct apr_error *e);

/* A classic model: net->hidden features in the stead of each of n tokens; then apr_sequence_logits. */
APR_MUST_CHECK enum apr_code apr_sequence_features(struct apr_sequence *s, const float *x, size_t n, struct apr_error *e);

/* What the final norm gave for row i of the last run's n (not of the whole sequence): net->hidden floats each, contiguous, until the next
 * run. */
const float *apr_sequence_final(const struct apr_sequence *s, uint64_t i);

/* Logits of rows [first, first + n) of the last run into out, n x net->vocab, cap and scale included. Of an observer only `product` is
 * called. APR_EARG: there is no head, or no such row. */
APR_MUST_CHECK enum apr_code apr_sequence_logits(struct apr_sequence *s, uint64_t first, uint64_t n, const struct apr_observer *observer,
                                                 float *out, struct apr_error *e);

#endif
