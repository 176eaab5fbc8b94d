#include <string.h>

#include "forward/sequence.h"

static size_t row_of_qkv(const struct apr_sequence *s) { return (size_t)s->width[APR_FLOW_QKV]; }

/* ---- queries, keys, values ------------------------------------------------------------------------------------------- */

static bool any_bias(const struct apr_into *into, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++)
        any |= into[i].linear->w.in != NULL && into[i].linear->bias != NULL;
    return any;
}

/* One tensor or three: the rows are the same. */
static enum apr_code project(struct apr_sequence *s, uint32_t layer, const float *x, struct apr_error *e)
{
    const struct apr_layer *const l = &s->net->layer[layer];
    const size_t row = row_of_qkv(s);
    float *const qkv = s->at[APR_FLOW_QKV];
    const struct apr_into fused = { &l->qkv, qkv, row };
    const struct apr_into apart[] = {
        { &l->q, qkv, row }, { &l->k, qkv + s->q_width, row }, { &l->v, qkv + s->q_width + s->k_width, row },
    };
    const bool one = l->qkv.w.in != NULL;
    const struct apr_into *const into = one ? &fused : apart;
    const size_t n = one ? 1 : APR_LENGTH(apart);
    APR_TRY(apr_linear_products(s, into, n, x, s->n, e));
    APR_TRY(apr_stage_tell(s, layer, APR_STAGE_QKV_MATMUL, qkv, row, e));
    if (!any_bias(into, n))
        return APR_OK;
    apr_linear_bias(into, n, s->n);
    return apr_stage_tell(s, layer, APR_STAGE_QKV_BIAS, qkv, row, e);
}

/* Over each head, or over all of them: as wide as the norm is. */
static void norm_heads(struct apr_sequence *s, const struct apr_norm *norm, uint64_t from, uint64_t width)
{
    float *const x = s->at[APR_FLOW_QKV] + from;
    if (norm->weight != NULL)
        apr_norm_rows(s, &(struct apr_norm_rows){ norm, x, x, row_of_qkv(s), row_of_qkv(s), (size_t)(width / norm->n) }, s->n);
}

/* Columns of the queries, keys and values, side by side. */
static enum apr_code tell_part(struct apr_sequence *s, uint32_t layer, unsigned stage, uint64_t from, uint64_t width, struct apr_error *e)
{
    if (!apr_stage_wanted(s, layer, stage))
        return APR_OK;
    float *const part = s->at[APR_FLOW_PART];
    for (size_t p = 0; p < s->n; p++)
        memcpy(part + p * width, s->at[APR_FLOW_QKV] + p * row_of_qkv(s) + from, width * sizeof *part);
    return apr_stage_tell(s, layer, stage, part, width, e);
}

static enum apr_code turn(struct apr_sequence *s, uint32_t layer, struct apr_error *e)
{
    const struct apr_rope *const r = &s->net->layer[layer].rope;
    if (r->n == 0)
        return APR_OK;
    APR_TRY(apr_rope_turn(s, r, e));
    APR_TRY(tell_part(s, layer, APR_STAGE_Q_POST_ROPE, 0, s->q_width, e));
    return tell_part(s, layer, APR_STAGE_K_POST_ROPE, s->q_width, s->k_width, e);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

enum apr_code apr_attention(struct apr_sequence *s, uint32_t layer, const float *x, struct apr_error *e)
{
    const struct apr_layer *const l = &s->net->layer[layer];
    APR_TRY(l->latent.rank > 0 ? apr_latent_project(s, layer, x, e) : project(s, layer, x, e));
    norm_heads(s, &l->q_norm, 0, s->q_width);
    norm_heads(s, &l->k_norm, s->q_width, s->k_width);
    APR_TRY(turn(s, layer, e));
    APR_TRY(apr_attend(s, layer, e));
    APR_TRY(apr_linear_whole(s, &l->o, s->at[APR_FLOW_MIXED], s->n, s->at[APR_FLOW_OUT], e));
    return apr_stage_tell(s, layer, APR_STAGE_ATTN_OUT, s->at[APR_FLOW_OUT], s->net->hidden, e);
}
