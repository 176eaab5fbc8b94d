#include <string.h>

#include "forward/sequence.h"

/* What gives queries: of a latent of theirs, or of x itself. */
static const struct apr_linear *query_of(const struct apr_layer *l) { return l->latent.q_a.w.in != NULL ? &l->latent.q_b : &l->q; }

static enum apr_code down(struct apr_sequence *s, const struct apr_layer *l, const float *x, struct apr_error *e)
{
    const struct apr_latent *const t = &l->latent;
    const size_t row = (size_t)s->width[APR_FLOW_LATENT];
    float *const y = s->at[APR_FLOW_LATENT], *const q_a = s->at[APR_FLOW_Q_LATENT];
    const struct apr_into kv_a = { &t->kv_a, y + s->q_width, row }, query = { query_of(l), y, row };
    if (t->q_a.w.in == NULL)
        return apr_linear_products(s, (const struct apr_into[]){ query, kv_a }, 2, x, s->n, e);
    const struct apr_into first[] = { { &t->q_a, q_a, (size_t)t->q_a.w.nout }, kv_a };
    APR_TRY(apr_linear_products(s, first, APR_LENGTH(first), x, s->n, e));
    apr_linear_bias(first, 1, s->n);
    if (t->q_a_norm.weight != NULL)
        apr_norm_rows(s, &(struct apr_norm_rows){ &t->q_a_norm, q_a, q_a, (size_t)t->q_a.w.nout, (size_t)t->q_a.w.nout, 1 }, s->n);
    return apr_linear_products(s, &query, 1, q_a, s->n, e);
}

struct spreading {
    const struct apr_sequence *s;
    const struct apr_latent   *latent;
};

/* kv_b gives each head its part of the key that does not turn, and its value; what turns is the same for all heads. */
static void spread(void *ctx, size_t p, unsigned worker)
{
    (void)worker;
    const struct spreading *const c = ctx;
    const struct apr_sequence *const s = c->s;
    const struct apr_net *const net = s->net;
    const struct apr_latent *const t = c->latent;
    const float *const q = s->at[APR_FLOW_LATENT] + p * s->width[APR_FLOW_LATENT], *const turned = q + s->q_width + t->rank;
    const float *kv = s->at[APR_FLOW_KEYS_VALUES] + p * s->width[APR_FLOW_KEYS_VALUES];
    float *const out = s->at[APR_FLOW_QKV] + p * s->width[APR_FLOW_QKV], *k = out + s->q_width, *v = k + s->k_width;
    memcpy(out, q, s->q_width * sizeof *out);
    for (uint64_t h = 0; h < net->heads; h++, k += net->head_k, v += net->head_v, kv += t->nope + net->head_v) {
        memcpy(k, kv, t->nope * sizeof *k);
        memcpy(k + t->nope, turned, t->rotated * sizeof *k);
        memcpy(v, kv + t->nope, net->head_v * sizeof *v);
    }
}

enum apr_code apr_latent_project(struct apr_sequence *s, uint32_t layer, const float *x, struct apr_error *e)
{
    const struct apr_layer *const l = &s->net->layer[layer];
    const struct apr_latent *const t = &l->latent;
    const size_t row = (size_t)s->width[APR_FLOW_LATENT], rank = (size_t)t->rank;
    float *const y = s->at[APR_FLOW_LATENT], *const latent = s->at[APR_FLOW_KV_LATENT];
    const struct apr_into into[] = { { query_of(l), y, row }, { &t->kv_a, y + s->q_width, row } };
    APR_TRY(down(s, l, x, e));
    APR_TRY(apr_stage_tell(s, layer, APR_STAGE_QKV_MATMUL, y, row, e));
    apr_linear_bias(into, APR_LENGTH(into), s->n);
    if (query_of(l)->bias != NULL || t->kv_a.bias != NULL)
        APR_TRY(apr_stage_tell(s, layer, APR_STAGE_QKV_BIAS, y, row, e));
    if (t->kv_a_norm.weight != NULL)
        apr_norm_rows(s, &(struct apr_norm_rows){ &t->kv_a_norm, y + s->q_width, latent, row, rank, 1 }, s->n);
    else
        for (size_t p = 0; p < s->n; p++)
            memcpy(latent + p * rank, y + p * row + s->q_width, rank * sizeof *latent);
    APR_TRY(apr_linear_whole(s, &t->kv_b, latent, s->n, s->at[APR_FLOW_KEYS_VALUES], e));
    apr_share_work(s, s->n, s->n * row, spread, &(struct spreading){ s, t });
    return APR_OK;
}
