#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "forward/sequence.h"

/* ---- the cache ------------------------------------------------------------------------------------------------------ */

static uint64_t ntable(const struct apr_sequence *s) { return s->net->nlayer * s->key_heads; }

enum apr_code apr_cache_new(struct apr_sequence *s, struct apr_error *e)
{
    struct apr_cache *const c = &s->cache;
    uint64_t heads, keys, values;
    /* A power of two apart, a position's values would all want one set of the processor's caches: hence a line more. */
    if (!apr_round_up(s->room, APR_LANES, &c->stride) || !apr_add(c->stride, APR_LANES, &c->stride) ||
        !apr_mul(s->net->nlayer, s->key_heads, &heads) || !apr_mul(heads, s->net->head_k * sizeof(float), &keys) ||
        !apr_mul(keys, s->room, &keys) || !apr_mul(heads, s->net->head_v * sizeof(float), &values) || !apr_mul(values, c->stride, &values))
        return apr_no_memory(e);
    c->key = malloc(keys > 0 ? keys : 1);
    c->value = malloc(values > 0 ? values : 1);
    c->wild = calloc(heads > 0 ? heads : 1, 1);
    return c->key == NULL || c->value == NULL || c->wild == NULL ? apr_no_memory(e) : APR_OK;
}

void apr_cache_clear(struct apr_sequence *s)
{
    memset(s->cache.wild, 0, ntable(s));
}

void apr_cache_free(struct apr_sequence *s)
{
    free(s->cache.key);
    free(s->cache.value);
    free(s->cache.wild);
}

/* What a helping works on. first, last: positions that it sees at all; block: queries of a task. */
struct attending {
    struct apr_sequence *s;
    uint64_t             layer, window;
    size_t               block, nblock, span;
    bool                 scores, softmax;
};

static float *keys_of(const struct apr_sequence *s, uint64_t layer, uint64_t head)
{
    return s->cache.key + (layer * s->key_heads + head) * s->room * s->net->head_k;
}

static float *values_of(const struct apr_sequence *s, uint64_t layer, uint64_t head)
{
    return s->cache.value + (layer * s->key_heads + head) * s->cache.stride * s->net->head_v;
}

static unsigned char *wild_of(const struct apr_sequence *s, uint64_t layer, uint64_t head)
{
    return &s->cache.wild[layer * s->key_heads + head];
}

/* The run's keys and values of one head. */
static void keep_head(void *ctx, size_t head, unsigned worker)
{
    (void)worker;
    const struct attending *const a = ctx;
    const struct apr_sequence *const s = a->s;
    const size_t k = (size_t)s->net->head_k, v = (size_t)s->net->head_v, stride = (size_t)s->cache.stride;
    float *const key = keys_of(s, a->layer, head) + s->seen * k, *const value = values_of(s, a->layer, head) + s->seen;
    bool wild = false;
    for (size_t p = 0; p < s->n; p++) {
        const float *const row = s->at[APR_FLOW_QKV] + p * s->width[APR_FLOW_QKV] + s->q_width;
        memcpy(key + p * k, row + head * k, k * sizeof *key);
        for (size_t i = 0; i < v; i++) {
            value[i * stride + p] = row[s->k_width + head * v + i];
            wild |= !isfinite(value[i * stride + p]);
        }
    }
    *wild_of(s, a->layer, head) |= wild;
}

/* ---- one block of queries --------------------------------------------------------------------------------------------- */

/* Positions [first, last) are seen by position p. */
struct sight {
    uint64_t first, last;
};

static struct sight sight_of(const struct attending *a, uint64_t p)
{
    const struct apr_sequence *const s = a->s;
    struct sight see = { 0, s->net->causal ? p + 1 : s->whole };
    if (a->window == 0)
        return see;
    see.first = p + 1 > a->window ? p + 1 - a->window : 0;
    if (p + a->window < see.last)
        see.last = p + a->window;
    return see;
}

/* The queries [query, query + n) of a head, and the positions that any of them sees: from `low`, which is a multiple of the lanes, on. */
struct block {
    const struct attending *a;
    uint64_t                head, low, high;
    size_t                  query, n;
    double                 *q, *weight, *out; /* n x head_k; n x (high - low), first scores, then their softmax; n x head_v sums */
    float                  *values;           /* head_v x (high - low), side by side */
};

#define SOME_ROWS 64u

/* The sums of one x with rows that lie `apart`. */
static void sums_of_one(const struct apr_kernels *k, const float *w, size_t apart, size_t nrow, const double *x, size_t n, double *y)
{
    const unsigned char *row[SOME_ROWS];
    apr_dot_fn *const dot = k->dot[APR_F32];
    for (size_t r = 0; r < nrow && dot == NULL; r++)
        k->dots(w + r * apart, 1, x, 1, n, y + r, 1);
    for (size_t from = 0; from < nrow && dot != NULL; from += SOME_ROWS) {
        const size_t now = (size_t)apr_min(SOME_ROWS, nrow - from);
        for (size_t r = 0; r < now; r++)
            row[r] = (const unsigned char *)(w + (from + r) * apart);
        dot(row, now, x, n, y + from);
    }
}

/* Those of nx of them, as apr_dots_fn: y[p * stride + r]. side: memory for the rows side by side, where they are not. */
static void sums_of(const struct apr_kernels *k, const float *w, size_t apart, size_t nrow, const double *x, size_t nx, size_t n, double *y,
                    size_t stride, float *side)
{
    if (nx == 1) {
        sums_of_one(k, w, apart, nrow, x, n, y);
        return;
    }
    for (size_t r = 0; r < nrow && apart != n; r++)
        memcpy(side + r * n, w + r * apart, n * sizeof *w);
    k->dots(apart != n ? side : w, nrow, x, nx, n, y, stride);
}

static struct sight sight_in(const struct block *b, size_t i)
{
    const struct sight see = sight_of(b->a, b->a->s->seen + b->query + i);
    return (struct sight){ see.first - b->low, see.last - b->low };
}

/* Scaled, capped and rounded; returns the largest. */
static double score(const struct apr_net *net, double *x, struct sight see)
{
    const double scale = net->attn_scale, cap = net->attn_cap;
    double most = -INFINITY;
    for (uint64_t j = see.first; j < see.last && cap > 0; j++)
        x[j] = apr_rounded(cap * apr_tanh(x[j] * scale / cap));
    for (uint64_t j = see.first; j < see.last && !(cap > 0); j++)
        x[j] = apr_rounded(x[j] * scale);
    for (uint64_t j = see.first; j < see.last; j++)
        most = x[j] > most ? x[j] : most;
    return most;
}

/* What is not seen weighs nothing. */
static void soften(double *x, size_t span, struct sight see, double most)
{
    double sum = 0;
    for (uint64_t j = 0; j < see.first; j++)
        x[j] = 0;
    for (uint64_t j = see.first; j < see.last; j++)
        sum += x[j] = apr_exp(x[j] - most);
    const double share = 1 / sum;
    for (uint64_t j = see.first; j < see.last; j++)
        x[j] = apr_rounded(x[j] * share);
    for (uint64_t j = see.last; j < span; j++)
        x[j] = 0;
}

/* A row of a stage heads x n x whole. */
static void show(const struct block *b, float *stage, size_t i, const double *x)
{
    const struct apr_sequence *const s = b->a->s;
    const struct sight see = sight_in(b, i);
    float *const row = stage + (b->head * s->n + b->query + i) * s->whole;
    memset(row, 0, s->whole * sizeof *row);
    for (uint64_t j = see.first; j < see.last; j++)
        row[b->low + j] = (float)x[j];
}

/* What a position's queries are multiplied by, so that far ones do not blur. */
static double temper(const struct apr_net *net, uint64_t position)
{
    if (net->temperature == 0)
        return 1;
    return 1 + net->temperature * apr_log1p((double)(position / net->temperature_length));
}

/* Queries as doubles that hold floats, as the kernel wants them. */
static void take_queries(const struct block *b)
{
    const struct apr_sequence *const s = b->a->s;
    const size_t k = (size_t)s->net->head_k;
    for (size_t i = 0; i < b->n; i++) {
        const float *const q = s->at[APR_FLOW_QKV] + (b->query + i) * s->width[APR_FLOW_QKV] + b->head * k;
        const double scale = temper(s->net, s->seen + b->query + i);
        for (size_t j = 0; j < k; j++)
            b->q[i * k + j] = apr_rounded(q[j] * scale);
    }
}

static void weigh(const struct block *b)
{
    const struct attending *const a = b->a;
    const struct apr_sequence *const s = a->s;
    const size_t k = (size_t)s->net->head_k, span = (size_t)(b->high - b->low);
    const uint64_t of = b->head * s->key_heads / s->net->heads;
    take_queries(b);
    sums_of(s->k, keys_of(s, a->layer, of) + b->low * k, k, span, b->q, b->n, k, b->weight, span, NULL);
    for (size_t i = 0; i < b->n; i++) {
        double *const x = b->weight + i * span;
        const double most = score(s->net, x, sight_in(b, i));
        if (a->scores)
            show(b, s->scores, i, x);
        soften(x, span, sight_in(b, i), most);
        if (a->softmax)
            show(b, s->softmax, i, x);
    }
}

/* The sum that apr_dots_fn makes, without what is not seen: that weighs nothing, but nothing times infinity is not nothing. */
static double careful(const float *value, const double *weight, struct sight see)
{
    double lane[APR_LANES] = { 0 };
    for (uint64_t j = see.first; j < see.last; j++)
        lane[j % APR_LANES] += weight[j] * value[j];
    return apr_fold(lane);
}

static void mix(const struct block *b)
{
    const struct apr_sequence *const s = b->a->s;
    const size_t v = (size_t)s->net->head_v, span = (size_t)(b->high - b->low), width = (size_t)s->width[APR_FLOW_MIXED];
    const uint64_t of = b->head * s->key_heads / s->net->heads;
    const float *const values = values_of(s, b->a->layer, of) + b->low;
    const bool wild = *wild_of(s, b->a->layer, of);
    float *const y = s->at[APR_FLOW_MIXED] + b->query * width + b->head * v;
    if (!wild)
        sums_of(s->k, values, s->cache.stride, v, b->weight, b->n, span, b->out, v, b->values);
    for (size_t i = 0; i < b->n; i++)
        for (size_t d = 0; d < v; d++) {
            const float *const value = values + d * s->cache.stride;
            y[i * width + d] = apr_rounded(wild ? careful(value, b->weight + i * span, sight_in(b, i)) : b->out[i * v + d]);
        }
}

/* Task i: a head, and of it a block; a head's blocks follow each other. The scratch of a worker: | queries | weights | sums | values | */
static void attend(void *ctx, size_t i, unsigned worker)
{
    const struct attending *const a = ctx;
    const struct apr_sequence *const s = a->s;
    const size_t k = (size_t)s->net->head_k;
    struct block b = { .a = a, .head = i / a->nblock, .query = i % a->nblock * a->block, .q = apr_team_scratch(s->team, worker) };
    b.n = (size_t)apr_min(a->block, s->n - b.query);
    b.low = sight_of(a, s->seen + b.query).first / APR_LANES * APR_LANES;
    b.high = sight_of(a, s->seen + b.query + b.n - 1).last;
    b.weight = b.q + a->block * k;
    b.out = b.weight + a->block * a->span;
    b.values = (float *)(void *)(b.out + a->block * (size_t)s->net->head_v);
    weigh(&b);
    mix(&b);
}

/* ---- all of them ------------------------------------------------------------------------------------------------------ */

#define MOST_QUERIES  16u    /* of a block: they share what is read of keys and values */
#define LEAST_QUERIES 4u
#define BLOCK_WEIGHTS 16384u /* of a block, unless it has the least queries: as doubles, half a second cache */

/* heads x n x whole floats, where they are wanted. */
static enum apr_code room_for(struct apr_sequence *s, float **at, size_t *room, struct apr_error *e)
{
    uint64_t n;
    if (!apr_mul(s->net->heads, s->n, &n) || !apr_mul(n, s->whole, &n) || !apr_mul(n, sizeof **at, &n))
        return apr_no_memory(e);
    if (n <= *room)
        return APR_OK;
    free(*at);
    *at = malloc(n);
    *room = *at != NULL ? n : 0;
    return *at != NULL ? APR_OK : apr_no_memory(e);
}

static bool make_blocks(struct attending *a)
{
    const struct apr_sequence *const s = a->s;
    uint64_t queries, weights, values, bytes;
    a->span = (size_t)s->whole;
    a->block = BLOCK_WEIGHTS / a->span;
    a->block = a->block > MOST_QUERIES ? MOST_QUERIES : a->block < LEAST_QUERIES ? LEAST_QUERIES : a->block;
    a->block = (size_t)apr_min(a->block, s->n);
    a->nblock = (s->n + a->block - 1) / a->block;
    return apr_mul(a->block * sizeof(double), a->span, &weights) &&
           apr_mul(a->block * sizeof(double), s->net->head_k + s->net->head_v, &queries) &&
           apr_mul(a->span * sizeof(float), a->block > 1 ? s->net->head_v : 0, &values) && apr_add(weights, queries, &bytes) &&
           apr_add(bytes, values, &bytes) && apr_team_room(s->team, bytes);
}

enum apr_code apr_attend(struct apr_sequence *s, uint32_t layer, struct apr_error *e)
{
    struct attending a = { .s = s, .layer = layer, .window = s->net->layer[layer].window };
    a.scores = apr_stage_wanted(s, layer, APR_STAGE_ATTN_SCORES);
    a.softmax = apr_stage_wanted(s, layer, APR_STAGE_ATTN_SOFTMAX);
    if (a.scores)
        APR_TRY(room_for(s, &s->scores, &s->scores_room, e));
    if (a.softmax)
        APR_TRY(room_for(s, &s->softmax, &s->softmax_room, e));
    if (!make_blocks(&a))
        return apr_no_memory(e);
    apr_share_work(s, s->key_heads, s->n * (s->k_width + s->v_width), keep_head, &a);
    apr_team_do(s->team, s->net->heads * a.nblock, attend, &a);
    if (a.scores)
        APR_TRY(apr_stage_tell_heads(s, layer, APR_STAGE_ATTN_SCORES, s->scores, e));
    if (a.softmax)
        APR_TRY(apr_stage_tell_heads(s, layer, APR_STAGE_ATTN_SOFTMAX, s->softmax, e));
    return apr_stage_tell(s, layer, APR_STAGE_ATTENTION, s->at[APR_FLOW_MIXED], s->width[APR_FLOW_MIXED], e);
}
