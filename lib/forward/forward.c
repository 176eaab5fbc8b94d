#include "forward/forward.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "forward/sequence.h"

/* ---- sizes ------------------------------------------------------------------------------------------------------------ */

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

static void widen(uint64_t *width, uint64_t n) { *width = larger(*width, n); }

static void widths_of_latent(struct apr_sequence *s, const struct apr_latent *t)
{
    uint64_t *const w = s->width;
    widen(&w[APR_FLOW_Q_LATENT], t->q_a.w.nout);
    widen(&w[APR_FLOW_LATENT], s->q_width + t->rank + t->rotated);
    widen(&w[APR_FLOW_KV_LATENT], t->rank);
    widen(&w[APR_FLOW_KEYS_VALUES], s->net->heads * (t->nope + s->net->head_v));
}

static bool widths_of_experts(struct apr_sequence *s, const struct apr_experts *x)
{
    uint64_t *const w = s->width, rows, columns;
    if (!apr_mul(x->used, s->net->hidden, &rows) || !apr_mul(x->used, x->expert[0].up.w.nout, &columns))
        return false;
    widen(&s->used, x->used);
    widen(&s->nexpert, x->n);
    widen(&w[APR_FLOW_ROUTER], x->n);
    widen(&w[APR_FLOW_WEIGHTS], x->used);
    widen(&w[APR_FLOW_INDICES], x->used);
    widen(&w[APR_FLOW_SORTED], rows);
    widen(&w[APR_FLOW_RESULTS], rows);
    widen(&w[APR_FLOW_GATE], larger(columns, x->shared.up.w.nout));
    widen(&w[APR_FLOW_UP], larger(columns, x->shared.up.w.nout));
    widen(&w[APR_FLOW_SHARED], x->shared.up.w.in != NULL ? s->net->hidden : 0);
    w[APR_FLOW_SHARED_GATE] = 1;
    return true;
}

static bool widths_of_layer(struct apr_sequence *s, const struct apr_layer *l)
{
    if (l->latent.rank > 0)
        widths_of_latent(s, &l->latent);
    widen(&s->width[APR_FLOW_GATE], l->ffn.up.w.nout);
    widen(&s->width[APR_FLOW_UP], l->ffn.gate.w.nout);
    return l->experts.n == 0 || widths_of_experts(s, &l->experts);
}

static bool heads_of(struct apr_sequence *s)
{
    const struct apr_net *const net = s->net;
    uint64_t *const w = s->width, qk;
    s->key_heads = net->nlayer > 0 && net->layer[0].latent.rank > 0 ? net->heads : net->kv_heads;
    return apr_mul(net->heads, net->head_k, &s->q_width) && apr_mul(s->key_heads, net->head_k, &s->k_width) &&
           apr_mul(s->key_heads, net->head_v, &s->v_width) && apr_add(s->q_width, s->k_width, &qk) &&
           apr_add(qk, s->v_width, &w[APR_FLOW_QKV]) && apr_mul(net->heads, net->head_v, &w[APR_FLOW_MIXED]);
}

static bool widths_of(struct apr_sequence *s)
{
    static const enum apr_flow hidden[] = { APR_FLOW_STREAM, APR_FLOW_NORMED, APR_FLOW_OUT, APR_FLOW_FINAL };
    const struct apr_net *const net = s->net;
    if (!heads_of(s))
        return false;
    for (size_t i = 0; i < APR_LENGTH(hidden); i++)
        s->width[hidden[i]] = net->hidden;
    s->width[APR_FLOW_SECOND] = net->order == APR_ORDER_PARALLEL ? net->hidden : 0;
    s->width[APR_FLOW_PART] = larger(s->q_width, s->k_width);
    for (uint64_t i = 0; i < net->nlayer; i++)
        if (!widths_of_layer(s, &net->layer[i]))
            return false;
    return true;
}

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

static void free_rows(struct apr_sequence *s)
{
    for (unsigned i = 0; i < APR_NFLOWS; i++) {
        free(s->at[i]);
        s->at[i] = NULL;
    }
    free(s->place);
    s->place = NULL;
    s->most = 0;
}

static void *rows_of(uint64_t n, uint64_t width, size_t size)
{
    uint64_t bytes;
    if (!apr_mul(n, width, &bytes) || !apr_mul(bytes, size, &bytes))
        return NULL;
    return malloc(bytes > 0 ? bytes : 1);
}

/* Room for a run of n positions. */
static enum apr_code grow(struct apr_sequence *s, size_t n, struct apr_error *e)
{
    if (n <= s->most)
        return APR_OK;
    free_rows(s);
    bool all = (s->place = rows_of(n, s->used, sizeof *s->place)) != NULL;
    for (unsigned i = 0; i < APR_NFLOWS; i++)
        all &= (s->at[i] = rows_of(n, s->width[i], sizeof *s->at[i])) != NULL;
    if (!all) {
        free_rows(s);
        return apr_no_memory(e);
    }
    s->most = n;
    return APR_OK;
}

static bool may_lengthen(const struct apr_net *net)
{
    bool any = false;
    for (uint64_t i = 0; i < net->nlayer; i++)
        any |= net->layer[i].rope.n > 0 && (net->layer[i].rope.long_freq != NULL || net->layer[i].rope.growth > 0);
    return any;
}

enum apr_code apr_sequence_new(struct apr_sequence **out, const struct apr_net *net, struct apr_team *team, uint64_t room,
                               struct apr_error *e)
{
    struct apr_sequence *const s = calloc(1, sizeof *s);
    if (s == NULL)
        return apr_no_memory(e);
    *s = (struct apr_sequence){ .net = net, .team = team, .room = room };
    s->k = (net->features ? net->head.w.in : net->embedding.in)->k;
    enum apr_code code = widths_of(s) ? apr_cache_new(s, e) : apr_no_memory(e);
    if (code == APR_OK && ((s->first = rows_of(1, s->nexpert + 1, sizeof *s->first)) == NULL ||
                           (may_lengthen(net) && (s->id = rows_of(1, room, sizeof *s->id)) == NULL)))
        code = apr_no_memory(e);
    if (code != APR_OK) {
        apr_sequence_free(s);
        return code;
    }
    *out = s;
    return APR_OK;
}

void apr_sequence_free(struct apr_sequence *s)
{
    if (s == NULL)
        return;
    free_rows(s);
    apr_cache_free(s);
    apr_rope_free(s);
    free(s->scores);
    free(s->softmax);
    free(s->first);
    free(s->id);
    free(s);
}

void apr_sequence_clear(struct apr_sequence *s)
{
    s->seen = s->n = 0;
    apr_cache_clear(s);
}

/* ---- a layer ---------------------------------------------------------------------------------------------------------- */

static void norm(struct apr_sequence *s, const struct apr_norm *norm, const float *x, float *y)
{
    const size_t hidden = (size_t)s->net->hidden;
    apr_norm_rows(s, &(struct apr_norm_rows){ norm, x, y, hidden, hidden, 1 }, s->n);
}

/* The stream through a norm, or itself where there is none. */
static enum apr_code normed(struct apr_sequence *s, uint32_t layer, const struct apr_norm *n, unsigned stage, const float **out,
                            struct apr_error *e)
{
    *out = s->at[APR_FLOW_STREAM];
    if (n->weight == NULL)
        return APR_OK;
    norm(s, n, *out, s->at[APR_FLOW_NORMED]);
    *out = s->at[APR_FLOW_NORMED];
    return apr_stage_tell(s, layer, stage, *out, s->net->hidden, e);
}

static enum apr_code feed_forward(struct apr_sequence *s, uint32_t layer, const float *x, float *y, struct apr_error *e)
{
    const struct apr_layer *const l = &s->net->layer[layer];
    APR_TRY(l->experts.n > 0 ? apr_experts_run(s, layer, x, y, e) : apr_ffn_run(s, &l->ffn, layer, x, s->n, y, e));
    return apr_stage_tell(s, layer, APR_STAGE_FFN_OUT, y, s->net->hidden, e);
}

/* The stream and what is added to it: a, and b where it is not NULL. */
struct addition {
    const struct apr_sequence *s;
    const float               *a, *b;
};

static void add_row(void *ctx, size_t p, unsigned worker)
{
    (void)worker;
    const struct addition *const c = ctx;
    const size_t hidden = (size_t)c->s->net->hidden;
    const double scale = c->s->net->residual_scale;
    float *const x = c->s->at[APR_FLOW_STREAM] + p * hidden;
    const float *const a = c->a + p * hidden, *const b = c->b == NULL ? NULL : c->b + p * hidden;
    for (size_t i = 0; i < hidden && b == NULL; i++)
        x[i] = apr_rounded(x[i] + scale * a[i]);
    for (size_t i = 0; i < hidden && b != NULL; i++)
        x[i] = apr_rounded(x[i] + scale * ((double)a[i] + b[i]));
}

static enum apr_code add(struct apr_sequence *s, uint32_t layer, unsigned stage, const float *a, const float *b, struct apr_error *e)
{
    struct addition c = { s, a, b };
    apr_share_work(s, s->n, s->n * s->net->hidden, add_row, &c);
    return stage == APR_NSTAGES ? APR_OK : apr_stage_tell(s, layer, stage, s->at[APR_FLOW_STREAM], s->net->hidden, e);
}

static enum apr_code layer_before(struct apr_sequence *s, uint32_t layer, struct apr_error *e)
{
    const struct apr_layer *const l = &s->net->layer[layer];
    float *const out = s->at[APR_FLOW_OUT];
    const float *x;
    APR_TRY(normed(s, layer, &l->attn_norm, APR_STAGE_ATTN_NORM, &x, e));
    APR_TRY(apr_attention(s, layer, x, e));
    if (l->post_attn_norm.weight != NULL)
        norm(s, &l->post_attn_norm, out, out);
    APR_TRY(add(s, layer, APR_STAGE_POST_ATTN_RESIDUAL, out, NULL, e));
    APR_TRY(normed(s, layer, &l->ffn_norm, APR_STAGE_FFN_NORM, &x, e));
    APR_TRY(feed_forward(s, layer, x, out, e));
    if (l->post_ffn_norm.weight != NULL)
        norm(s, &l->post_ffn_norm, out, out);
    return add(s, layer, APR_STAGE_POST_FFN_RESIDUAL, out, NULL, e);
}

static enum apr_code layer_parallel(struct apr_sequence *s, uint32_t layer, struct apr_error *e)
{
    const struct apr_layer *const l = &s->net->layer[layer];
    const float *x;
    APR_TRY(normed(s, layer, &l->attn_norm, APR_STAGE_ATTN_NORM, &x, e));
    APR_TRY(apr_attention(s, layer, x, e));
    if (l->ffn_norm.weight != NULL)
        APR_TRY(normed(s, layer, &l->ffn_norm, APR_STAGE_FFN_NORM, &x, e));
    APR_TRY(feed_forward(s, layer, x, s->at[APR_FLOW_SECOND], e));
    return add(s, layer, APR_STAGE_POST_FFN_RESIDUAL, s->at[APR_FLOW_OUT], s->at[APR_FLOW_SECOND], e);
}

static enum apr_code layer_after(struct apr_sequence *s, uint32_t layer, struct apr_error *e)
{
    const struct apr_layer *const l = &s->net->layer[layer];
    float *const x = s->at[APR_FLOW_STREAM];
    APR_TRY(apr_attention(s, layer, x, e));
    APR_TRY(add(s, layer, APR_STAGE_POST_ATTN_RESIDUAL, s->at[APR_FLOW_OUT], NULL, e));
    norm(s, &l->attn_norm, x, x);
    APR_TRY(apr_stage_tell(s, layer, APR_STAGE_FFN_NORM, x, s->net->hidden, e));
    APR_TRY(feed_forward(s, layer, x, s->at[APR_FLOW_OUT], e));
    APR_TRY(add(s, layer, APR_NSTAGES, s->at[APR_FLOW_OUT], NULL, e));
    norm(s, &l->ffn_norm, x, x);
    return apr_stage_tell(s, layer, APR_STAGE_POST_FFN_RESIDUAL, x, s->net->hidden, e);
}

/* ---- a run ------------------------------------------------------------------------------------------------------------ */

/* The run's embeddings into the stream: | of the token | of the position | of type 0 |, summed. */
static void embed(struct apr_sequence *s, const uint32_t *id)
{
    const struct apr_net *const net = s->net;
    const size_t hidden = (size_t)net->hidden;
    float *const row = s->at[APR_FLOW_NORMED], *const type = s->at[APR_FLOW_OUT];
    if (net->types.in != NULL)
        apr_matrix_rows(&net->types, 0, 1, type);
    for (size_t p = 0; p < s->n; p++) {
        float *const x = s->at[APR_FLOW_STREAM] + p * hidden;
        apr_matrix_rows(&net->embedding, id[p], 1, x);
        if (net->positions > 0)
            apr_matrix_rows(&net->position, s->seen + p, 1, row);
        for (size_t i = 0; i < hidden; i++) {
            const double token = x[i] * net->embed_scale, position = net->positions > 0 ? row[i] : 0;
            x[i] = apr_rounded(token + position + (net->types.in != NULL ? type[i] : 0));
        }
    }
    if (net->embedding_norm.weight != NULL)
        norm(s, &net->embedding_norm, s->at[APR_FLOW_STREAM], s->at[APR_FLOW_STREAM]);
}

static enum apr_code finish(struct apr_sequence *s, struct apr_error *e)
{
    const struct apr_net *const net = s->net;
    if (net->output_norm.weight == NULL) {
        memcpy(s->at[APR_FLOW_FINAL], s->at[APR_FLOW_STREAM], s->n * net->hidden * sizeof(float));
        return APR_OK;
    }
    norm(s, &net->output_norm, s->at[APR_FLOW_STREAM], s->at[APR_FLOW_FINAL]);
    return apr_stage_tell(s, APR_WHOLE_MODEL, APR_STAGE_FINAL_NORM, s->at[APR_FLOW_FINAL], net->hidden, e);
}

/* n positions behind those that were seen, of a text of so many. */
static enum apr_code run(struct apr_sequence *s, const uint32_t *id, size_t n, uint64_t text, struct apr_error *e)
{
    static enum apr_code (*const layer[])(struct apr_sequence *, uint32_t, struct apr_error *) = {
        [APR_ORDER_BEFORE] = layer_before, [APR_ORDER_PARALLEL] = layer_parallel, [APR_ORDER_AFTER] = layer_after,
    };
    const struct apr_net *const net = s->net;
    APR_TRY(grow(s, n, e));
    s->n = n;
    s->whole = s->seen + n;
    s->text = text;
    for (unsigned i = 0; i < APR_ANGLES; i++)
        s->angles[i].freq = NULL;
    embed(s, id);
    APR_TRY(apr_stage_tell(s, 0, APR_STAGE_EMBEDDING, s->at[APR_FLOW_STREAM], net->hidden, e));
    for (uint64_t i = 0; i < net->nlayer; i++)
        APR_TRY(layer[net->order](s, (uint32_t)i, e));
    APR_TRY(finish(s, e));
    s->seen += n;
    return APR_OK;
}

static enum apr_code check_ids(const struct apr_sequence *s, const uint32_t *id, size_t n, struct apr_error *e)
{
    for (size_t i = 0; i < n; i++)
        if (id[i] >= s->net->embedding.nout)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "token %" PRIu32 " at position %" PRIu64 " is none of the vocabulary's %" PRIu64,
                            id[i], s->seen + i, s->net->embedding.nout);
    return APR_OK;
}

static enum apr_code check(const struct apr_sequence *s, const uint32_t *id, size_t n, struct apr_error *e)
{
    const struct apr_net *const net = s->net;
    uint64_t whole;
    if (net->features)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "the model takes %" PRIu64 " features, not tokens", net->hidden);
    if (n == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "there is no token to run the model on");
    if (!apr_add(s->seen, n, &whole) || (net->positions > 0 && whole > net->positions))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%zu tokens behind %" PRIu64 " are more than the model's %" PRIu64 " positions", n,
                        s->seen, net->positions);
    if (whole > s->room)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%zu tokens behind %" PRIu64 " are more than the %" PRIu64 " that there is room for", n,
                        s->seen, s->room);
    if (!net->causal && s->seen > 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "an encoder sees a text as a whole: %zu tokens cannot follow %" PRIu64, n, s->seen);
    return check_ids(s, id, n, e);
}

/* Do the positions up to `whole` turn all heads of some layer otherwise than those up to now did? */
static bool turns_otherwise(const struct apr_sequence *s, uint64_t whole)
{
    bool any = false;
    for (uint64_t i = 0; i < s->net->nlayer; i++) {
        const struct apr_rope *const r = &s->net->layer[i].rope;
        any |= r->n > 0 && whole > r->original && (r->growth > 0 || (r->long_freq != NULL && s->seen <= r->original));
    }
    return any;
}

/* What was seen, once more, in runs no longer than those before: as it is the text of `whole` tokens that decides how heads turn, what
 * comes of it is what one run of all tokens gives. */
static enum apr_code run_again(struct apr_sequence *s, uint64_t whole, struct apr_error *e)
{
    const uint64_t seen = s->seen;
    apr_sequence_clear(s);
    while (s->seen < seen)
        APR_TRY(run(s, s->id + s->seen, (size_t)apr_min(s->most, seen - s->seen), whole, e));
    return APR_OK;
}

enum apr_code apr_sequence_run(struct apr_sequence *s, const uint32_t *id, size_t n, const struct apr_observer *observer,
                                struct apr_error *e)
{
    APR_TRY(check(s, id, n, e));
    if (s->seen > 0 && turns_otherwise(s, s->seen + n))
        APR_TRY(run_again(s, s->seen + n, e));
    if (s->id != NULL)
        memcpy(s->id + s->seen, id, n * sizeof *id);
    s->observer = observer;
    const enum apr_code code = run(s, id, n, s->seen + n, e);
    s->observer = NULL;
    return code;
}

enum apr_code apr_sequence_features(struct apr_sequence *s, const float *x, size_t n, struct apr_error *e)
{
    if (!s->net->features)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "the model takes tokens, not features");
    APR_TRY(grow(s, n, e));
    s->n = n;
    memcpy(s->at[APR_FLOW_FINAL], x, n * s->net->hidden * sizeof *x);
    return APR_OK;
}

const float *apr_sequence_final(const struct apr_sequence *s, uint64_t i) { return s->at[APR_FLOW_FINAL] + i * s->net->hidden; }

/* ---- logits ----------------------------------------------------------------------------------------------------------- */

#define HELPING 4096u /* logits of a task */

struct logits {
    const struct apr_net *net;
    float                *y;
    uint64_t              n;
};

static void cap_some(void *ctx, size_t i, unsigned worker)
{
    (void)worker;
    const struct logits *const c = ctx;
    const double cap = c->net->logit_cap;
    const uint64_t end = apr_min(c->n, (i + 1) * HELPING);
    for (uint64_t k = i * HELPING; k < end; k++) {
        const double x = c->y[k] * c->net->logit_scale;
        c->y[k] = apr_rounded(cap > 0 ? cap * apr_tanh(x / cap) : x);
    }
}

enum apr_code apr_sequence_logits(struct apr_sequence *s, uint64_t first, uint64_t n, const struct apr_observer *observer, float *out,
                                  struct apr_error *e)
{
    const struct apr_net *const net = s->net;
    if (net->head.w.in == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "the model has no head that makes logits");
    if (first > s->n || n > s->n - first)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "logits of rows %" PRIu64 "..%" PRIu64 " of a run of %zu", first, first + n, s->n);
    struct logits c = { net, out, n * net->head.w.nout };
    s->observer = observer;
    const enum apr_code code = apr_linear_whole(s, &net->head, apr_sequence_final(s, first), (size_t)n, out, e);
    s->observer = NULL;
    if (code == APR_OK && (net->logit_scale != 1 || net->logit_cap > 0))
        apr_share_work(s, (size_t)((c.n + HELPING - 1) / HELPING), c.n * 8, cap_some, &c);
    return code;
}
