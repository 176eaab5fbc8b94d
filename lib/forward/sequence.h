/* What the stages of a forward pass share: a sequence under way, its activations, and who looks on. */
#ifndef APR_SEQUENCE_H
#define APR_SEQUENCE_H

#include <math.h>

#include "forward/forward.h"
#include "values/kernels.h"

/* Activations: rows of positions, each of a width of its own, side by side.
 *   STREAM    what goes through the layers       NORMED   what a norm made of it
 *   QKV       queries, keys, values              MIXED    what attention made of values
 *   OUT       of attention, of a feed-forward    SECOND   of a feed-forward beside attention
 *   GATE, UP  of a feed-forward, of all experts that a position takes
 *   PART      columns of QKV, for an observer    FINAL    what the last norm gave
 *   Q_LATENT, KV_LATENT, LATENT, KEYS_VALUES  of latent attention: q_a; kv_a's normed; what stage qkv_matmul is; kv_b
 *   ROUTER    scores of all experts              WEIGHTS, INDICES  of those that were chosen, by rank
 *   SORTED, RESULTS  what experts take and give, `used` rows a position, by expert
 *   SHARED    of an expert that all positions take; SHARED_GATE  one number */
enum apr_flow {
    APR_FLOW_STREAM, APR_FLOW_NORMED, APR_FLOW_QKV, APR_FLOW_PART, APR_FLOW_MIXED, APR_FLOW_OUT, APR_FLOW_SECOND,
    APR_FLOW_GATE, APR_FLOW_UP, APR_FLOW_FINAL, APR_FLOW_Q_LATENT, APR_FLOW_LATENT, APR_FLOW_KV_LATENT, APR_FLOW_KEYS_VALUES,
    APR_FLOW_ROUTER, APR_FLOW_WEIGHTS, APR_FLOW_INDICES, APR_FLOW_SORTED, APR_FLOW_RESULTS, APR_FLOW_SHARED, APR_FLOW_SHARED_GATE,
    APR_NFLOWS,
};

/* Cosines and sines of the positions of a run: n / 2 of each a position. freq: of what; NULL: of nothing yet; stretch: by how much the
 * longest wave is longer, as a logarithm. room: numbers of each that there is memory for. */
struct apr_angles {
    const double *freq;
    uint64_t      n, room;
    double        scale, stretch;
    double       *cos, *sin;
};
#define APR_ANGLES 2 /* tables at a time: families have one for layers that slide and one for the others */

/* Keys: of each layer and head its positions, head_k floats each. Values turned round: of each layer, head and element `stride` floats, one
 * a position, so that both are rows that apr_dots_fn multiplies. wild: of each layer and head, whether a value is not finite. */
struct apr_cache {
    float         *key, *value;
    unsigned char *wild;
    uint64_t       stride;
};

/*   heads that have keys: kv_heads, or all (latent attention)
 *   seen    positions before this run; whole: with it. text: those whose number decides how heads turn (longrope, dynamic). id: of those seen, where
 *           a longer text changes all that was computed
 *   n       positions of the run that is under way, or the last one; most: those for which there is room in `at`
 *   scores, softmax  heads x n x whole, where an observer wants them
 *   place   of position p's expert of rank r: its row of SORTED, at [p * used + r]; first: of each expert, its first row */
struct apr_sequence {
    const struct apr_net      *net;
    const struct apr_kernels  *k;
    struct apr_team           *team;
    const struct apr_observer *observer;
    uint64_t                   room, seen, whole, text, key_heads, q_width, k_width, v_width, used, nexpert;
    size_t                     n, most;
    uint64_t                   width[APR_NFLOWS];
    float                     *at[APR_NFLOWS];
    struct apr_cache           cache;
    struct apr_angles          angles[APR_ANGLES];
    unsigned                   oldest;
    float                     *scores, *softmax;
    size_t                     scores_room, softmax_room;
    uint32_t                  *id;
    size_t                    *place, *first;
};

/* What every number of a stage went through: rounded to float, and of all that is no number the one quiet NaN. */
static inline float apr_rounded(double x) { return x == x ? (float)x : NAN; }

/* ---- looking on (observe.c) ------------------------------------------------------------------------------------------ */

bool apr_stage_wanted(const struct apr_sequence *s, uint32_t layer, unsigned stage);

/* Tells of a stage that is there: rows of the run's positions. */
APR_MUST_CHECK enum apr_code apr_stage_tell(struct apr_sequence *s, uint32_t layer, unsigned stage, const float *values, uint64_t width,
                                            struct apr_error *e);

/* The same of heads x n x whole. */
APR_MUST_CHECK enum apr_code apr_stage_tell_heads(struct apr_sequence *s, uint32_t layer, unsigned stage, const float *values,
                                                  struct apr_error *e);

/* ---- linear layers (linear.c) ---------------------------------------------------------------------------------------- */

/* y[p * stride ...] = x W^T, without the bias. */
struct apr_into {
    const struct apr_linear *linear;
    float                   *y;
    size_t                   stride;
};

/* Several of one x, at most APR_INTO; those whose matrix is not there are left out. The observer sees each. */
#define APR_INTO 32
APR_MUST_CHECK enum apr_code apr_linear_products(struct apr_sequence *s, const struct apr_into *into, size_t ninto, const float *x,
                                                 size_t n, struct apr_error *e);
void apr_linear_bias(const struct apr_into *into, size_t ninto, size_t n);

/* One with its bias, rows side by side. */
APR_MUST_CHECK enum apr_code apr_linear_whole(struct apr_sequence *s, const struct apr_linear *l, const float *x, size_t n, float *y,
                                              struct apr_error *e);

/* Calls task for i < n, on the team where it is worth it. work: numbers that are computed in all, roughly. */
void apr_share_work(struct apr_sequence *s, size_t n, uint64_t work, apr_task_fn *task, void *ctx);

/* ---- stages --------------------------------------------------------------------------------------------------------- */

/* Norms of n rows of ngroup groups of norm->n each, which lie x_stride apart. y may be x. (norm.c) */
struct apr_norm_rows {
    const struct apr_norm *norm;
    const float           *x;
    float                 *y;
    size_t                 x_stride, y_stride, ngroup;
};
void apr_norm_rows(struct apr_sequence *s, const struct apr_norm_rows *rows, size_t n);

/* Turns queries and keys of the run where they lie in QKV. (rope.c) */
APR_MUST_CHECK enum apr_code apr_rope_turn(struct apr_sequence *s, const struct apr_rope *r, struct apr_error *e);
void apr_rope_free(struct apr_sequence *s);

/* From x to OUT: queries, keys and values, attention over all that was seen, and the output's product. (attention.c) */
APR_MUST_CHECK enum apr_code apr_attention(struct apr_sequence *s, uint32_t layer, const float *x, struct apr_error *e);

/* Keys and values into the cache, and from queries to MIXED. (attend.c) */
APR_MUST_CHECK enum apr_code apr_attend(struct apr_sequence *s, uint32_t layer, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_cache_new(struct apr_sequence *s, struct apr_error *e);
void apr_cache_clear(struct apr_sequence *s);
void apr_cache_free(struct apr_sequence *s);

/* From x to queries, keys and values, by way of a latent (latent.c). Stages: qkv_matmul is queries, then what kv_a gives, and qkv_bias the
 * same with their biases. */
APR_MUST_CHECK enum apr_code apr_latent_project(struct apr_sequence *s, uint32_t layer, const float *x, struct apr_error *e);

/* From n rows of x to y, hidden elements each. layer: whose stages it tells; APR_WHOLE_MODEL: none. (ffn.c) */
APR_MUST_CHECK enum apr_code apr_ffn_run(struct apr_sequence *s, const struct apr_ffn *f, uint32_t layer, const float *x, size_t n,
                                         float *y, struct apr_error *e);
void apr_ffn_activate(struct apr_sequence *s, float *x, uint64_t n);
void apr_ffn_multiply(struct apr_sequence *s, float *x, const float *y, uint64_t n);

/* The same of a layer with experts. (experts.c) */
APR_MUST_CHECK enum apr_code apr_experts_run(struct apr_sequence *s, uint32_t layer, const float *x, float *y, struct apr_error *e);

#endif
