/* The encoders of k_encode.c for lanes: LANES superblocks at once, whose sub-blocks are searched LANES at a time, one in each lane, and
 * whose scales, where they are searched for too, have a superblock in each. See lanes.h. */
#ifndef APR_KERNELS_K_LANES_H
#define APR_KERNELS_K_LANES_H

#include "values/kernels/k_pack.h"
#include "values/kernels/search_lanes.h"

#define BATCH_VALUES (256 * LANES)

/* Superblocks on their way.
 *   x        count times 256 values, then zeros to BATCH_VALUES
 *   weight   as many, when weighted
 *   scale .. of each sub-block, in order: what the search found, by what it took its levels, and the sum of the weights */
struct batch {
    const float   *x;
    unsigned       count;
    unsigned char *out;
    bool           weighted;
    float          weight[BATCH_VALUES];
    float          scale[16 * LANES], min[16 * LANES], per_scale[16 * LANES], from[16 * LANES], weights[16 * LANES];
};

typedef void batch_fn(struct batch *b);

/* Weights of all superblocks; times is 1 or 2. */
LANE void weigh_batch(struct batch *b, const float *const *importance, float times)
{
    floats sum = all(0);
    float variance[LANES];
    for (unsigned i = 0; i < 256; i += 4) {
        floats x[4];
        turn_four(b->x + i, 256, x);
        for (unsigned j = 0; j < 4; j++)
            sum = sum + x[j] * x[j];
    }
    store(variance, all(times) * sum / all(256));
    for (unsigned s = 0; s < LANES; s++)
        for (unsigned i = 0; i < 256; i += LANES) {
            const floats x = load(b->x + 256 * s + i);
            store(b->weight + 256 * s + i, load(importance[s] + i) * root(all(variance[s]) + x * x));
        }
}

/* The sums of a group's weights, in order. */
LANE floats sum_of(const floats *w, unsigned n)
{
    floats sum = all(0);
    for (unsigned i = 0; i < n; i++)
        sum = sum + w[i];
    return sum;
}

LANE void keep_found(const struct lanes_found *f, struct batch *b, unsigned at)
{
    store(b->scale + at, f->scale);
    store(b->min + at, f->min);
    store(b->per_scale + at, f->per_scale);
    store(b->from + at, f->from);
}

enum plain_weight { SQUARES, MAGNITUDES, ROOT_AND_MAGNITUDES };

/* Weights of a group of sub-blocks, which begins with sub-block `at`. */
LANE void weights_of(struct batch *b, unsigned at, unsigned each, enum plain_weight plain, const floats *x, floats *w)
{
    floats sum = all(0);
    if (b->weighted) {
        turn(b->weight + each * at, each, each, w);
        store(b->weights + at, sum_of(w, each));
        return;
    }
    for (unsigned i = 0; i < each; i++) {
        w[i] = plain == SQUARES ? square(x[i]) : magnitude(x[i]);
        sum = sum + square(x[i]);
    }
    for (unsigned i = 0; i < each && plain == ROOT_AND_MAGNITUDES; i++)
        w[i] = root(sum / all((float)each)) + w[i];
}

LEVEL static void search_batch_around(struct batch *b, int half)
{
    for (unsigned at = 0; at < 16 * b->count; at += LANES) {
        floats x[16], w[16];
        turn(b->x + 16 * at, 16, 16, x);
        weights_of(b, at, 16, SQUARES, x, w);
        const struct lanes_found f = fit_around(x, w, 16, half);
        keep_found(&f, b, at);
    }
}

LEVEL static void search_batch_by_turns(struct batch *b, int half)
{
    for (unsigned at = 0; at < 16 * b->count; at += TURNS * LANES) {
        floats x[TURNS][16], scale[TURNS];
        for (unsigned t = 0; t < TURNS; t++)
            turn(b->x + 16 * (at + t * LANES), 16, 16, x[t]);
        fit_by_turns(x, half, scale);
        for (unsigned t = 0; t < TURNS; t++)
            store(b->scale + at + t * LANES, scale[t]);
    }
}

LANE void search_batch_from_min(struct batch *b, unsigned each, enum plain_weight plain, const struct apr_steps *s)
{
    for (unsigned at = 0; at < 256 / each * b->count; at += ABREAST * LANES) {
        floats x[32 * ABREAST], w[32 * ABREAST];
        struct lanes_found f[ABREAST];
        for (unsigned k = 0; k < ABREAST; k++) {
            turn(b->x + each * (at + k * LANES), each, each, x + each * k);
            weights_of(b, at + k * LANES, each, plain, x + each * k, w + each * k);
        }
        fit_from_min(x, w, each, s, f);
        for (unsigned k = 0; k < ABREAST; k++)
            keep_found(&f[k], b, at + k * LANES);
    }
}

/* n scales, or mins, of each superblock as integers that are searched for: the first in bytes of each superblock, 16 apart. */
LANE void store_shares(const floats *level, unsigned n, uint8_t share[16 * LANES])
{
    for (unsigned j = 0; j < n; j++) {
        uint8_t of_each[LANES];
        store_bytes(of_each, truncated(level[j]));
        for (unsigned s = 0; s < LANES; s++)
            share[16 * s + j] = of_each[s];
    }
}

LANE void find_positive_shares(const struct batch *b, const float *v, unsigned n, int largest, float d[LANES], uint8_t share[16 * LANES])
{
    floats x[16] = { { 0 } }, w[16] = { { 0 } }, level[16];
    turn(v, n, n, x);
    turn(b->weights, n, n, w);
    store(d, fit_positive(x, w, n, largest, level));
    store_shares(level, n, share);
}

/* What of the integers' search each superblock gets. */
LEVEL static void find_all_shares(const struct batch *b, unsigned n, int largest, struct apr_k_scales s[LANES])
{
    float d[LANES], dmin[LANES];
    uint8_t scale[16 * LANES], min[16 * LANES];
    find_positive_shares(b, b->scale, n, largest, d, scale);
    find_positive_shares(b, b->min, n, largest, dmin, min);
    for (unsigned i = 0; i < LANES; i++) {
        s[i].d = d[i];
        s[i].dmin = dmin[i];
        memcpy(s[i].scale, scale + 16 * i, 16);
        memcpy(s[i].min, min + 16 * i, 16);
    }
}

LEVEL static void find_signed_shares(const struct batch *b, struct apr_k_scales s[LANES])
{
    floats x[16], w[16], level[16];
    float d[LANES];
    uint8_t share[16 * LANES];
    turn(b->scale, 16, 16, x);
    turn(b->weights, 16, 16, w);
    const struct lanes_found f = fit_around(x, w, 16, 32);
    for (unsigned j = 0; j < 16; j++) {
        const floats l = clamp(nearest_of_any(f.per_scale * x[j]), -32, 31) + all(32);
        level[j] = choose(is_nan(f.per_scale), all(0), l);
    }
    store(d, f.scale);
    store_shares(level, 16, share);
    for (unsigned i = 0; i < LANES; i++) {
        s[i].d = d[i];
        memcpy(s[i].scale, share + 16 * i, 16);
    }
}

/* Levels of superblock s: of the scales as they come back, and where one is 0 those of the search. */
LANE void levels_around(const struct batch *b, unsigned s, const struct apr_k_rounded *r, int half, uint8_t level[256])
{
    for (unsigned j = 0; j < 16; j++) {
        const float *const x = b->x + 256 * s + 16 * j;
        if (r->scale[j] != 0)
            levels_of(x, 16, r->scale[j], 0, -half, half - 1, level + 16 * j);
        else
            levels_as_found(x, 16, b->per_scale[16 * s + j], 0, -half, half - 1, level + 16 * j);
    }
}

LANE void levels_from_min(const struct batch *b, unsigned s, unsigned each, const struct apr_k_rounded *r, int largest, uint8_t level[256])
{
    for (unsigned j = 0, i = 256 / each * s; j < 256 / each; j++, i++) {
        const float *const x = b->x + each * i;
        if (r->scale[j] != 0)
            levels_of(x, each, r->scale[j], r->min[j], 0, largest, level + each * j);
        else
            levels_as_found(x, each, b->per_scale[i], b->from[i], 0, largest, level + each * j);
    }
}

LEVEL static void q2_k_batch(struct batch *b)
{
    struct apr_k_scales scales[LANES];
    const struct apr_steps weighted = apr_weighted_steps(3);
    search_batch_from_min(b, 16, MAGNITUDES, b->weighted ? &weighted : &apr_q2_steps);
    if (b->weighted)
        find_all_shares(b, 16, 15, scales);
    for (unsigned s = 0; s < b->count; s++) {
        unsigned char *const out = b->out + 84 * s;
        struct apr_k_rounded r;
        uint8_t level[256];
        if (!b->weighted)
            apr_q2_k_scales(b->scale + 16 * s, b->min + 16 * s, &scales[s]);
        apr_put_q2_k(&scales[s], out, &r);
        levels_from_min(b, s, 16, &r, 3, level);
        apr_pack_twos(level, out + 16);
    }
}

LEVEL static void q3_k_batch(struct batch *b)
{
    struct apr_k_scales scales[LANES];
    if (b->weighted) {
        search_batch_around(b, 4);
        find_signed_shares(b, scales);
    } else {
        search_batch_by_turns(b, 4);
    }
    for (unsigned s = 0; s < b->count; s++) {
        unsigned char *const out = b->out + 110 * s;
        struct apr_k_rounded r;
        uint8_t level[256];
        if (!b->weighted)
            apr_q3_k_scales(b->scale + 16 * s, &scales[s]);
        apr_put_q3_k(&scales[s], out, &r);
        levels_around(b, s, &r, 4, level);
        for (unsigned j = 0; j < 16 && !b->weighted; j++)
            if (r.scale[j] == 0)
                (void)apr_fit_by_turns(b->x + 256 * s + 16 * j, 16, 4, level + 16 * j);
        apr_pack_bits(level, 2, out);
        apr_pack_twos(level, out + 32);
    }
}

/* Q4_K's and Q5_K's scales and levels of one superblock. */
LANE void q4_k_levels(const struct batch *b, unsigned s, int largest, struct apr_k_scales *scales, unsigned char *out, uint8_t level[256])
{
    struct apr_k_rounded r;
    if (!b->weighted)
        apr_q4_k_scales(b->scale + 8 * s, b->min + 8 * s, scales);
    else if (largest == 31)
        apr_limit_to_six_bits(scales);
    apr_put_q4_k(scales, out, &r);
    levels_from_min(b, s, 32, &r, largest, level);
}

LEVEL static void q4_k_batch(struct batch *b)
{
    struct apr_k_scales scales[LANES];
    const struct apr_steps weighted = apr_weighted_steps(15);
    search_batch_from_min(b, 32, ROOT_AND_MAGNITUDES, b->weighted ? &weighted : &apr_q4_steps);
    if (b->weighted)
        find_all_shares(b, 8, 63, scales);
    for (unsigned s = 0; s < b->count; s++) {
        unsigned char *const out = b->out + 144 * s;
        uint8_t level[256];
        q4_k_levels(b, s, 15, &scales[s], out, level);
        apr_pack_fours(level, out + 16);
    }
}

LEVEL static void q5_k_batch(struct batch *b)
{
    struct apr_k_scales scales[LANES];
    const struct apr_steps weighted = apr_weighted_steps(31);
    search_batch_from_min(b, 32, ROOT_AND_MAGNITUDES, b->weighted ? &weighted : &apr_q5_steps);
    if (b->weighted)
        find_all_shares(b, 8, 63, scales);
    for (unsigned s = 0; s < b->count; s++) {
        unsigned char *const out = b->out + 176 * s;
        uint8_t level[256];
        q4_k_levels(b, s, 31, &scales[s], out, level);
        apr_pack_bits(level, 4, out + 16);
        apr_pack_fours(level, out + 48);
    }
}

LEVEL static void q6_k_batch(struct batch *b)
{
    search_batch_around(b, 32);
    for (unsigned s = 0; s < b->count; s++) {
        unsigned char *const out = b->out + 210 * s;
        struct apr_k_scales scales;
        struct apr_k_rounded r;
        uint8_t level[256];
        if (!apr_q6_k_scales(b->scale + 16 * s, &scales)) {
            memset(out, 0, 210);
            continue;
        }
        apr_put_q6_k(&scales, out, &r);
        levels_around(b, s, &r, 32, level);
        apr_pack_sixes(level, out);
    }
}

/* What importance means to a type: nothing but itself, or with a variance, which is once or twice the mean square. */
enum weighing { AS_IT_IS, ONE_VARIANCE, TWO_VARIANCES };

/* n superblocks of `bytes` each. `importance`, of ncol columns, is NULL for the plain encoder. */
LANE void encode_batches(const float *x, size_t n, const float *importance, size_t ncol, enum weighing weighing, batch_fn *encode,
                         size_t bytes, unsigned char *out)
{
    struct batch b = { .weighted = importance != NULL };
    float rest[BATCH_VALUES];
    for (size_t done = 0; done < n; done += LANES, x += BATCH_VALUES, out += bytes * LANES) {
        b.count = n - done < LANES ? (unsigned)(n - done) : LANES;
        b.x = x;
        b.out = out;
        if (b.count < LANES) {
            memset(rest, 0, sizeof rest);
            memcpy(rest, x, 256 * b.count * sizeof *x);
            b.x = rest;
        }
        if (importance) {
            const float *of[LANES];
            for (unsigned s = 0; s < LANES; s++)
                of[s] = importance + (done + s) * 256 % ncol;
            for (unsigned s = 0; s < LANES && weighing == AS_IT_IS; s++)
                memcpy(b.weight + 256 * s, of[s], 256 * sizeof(float));
            if (weighing != AS_IT_IS)
                weigh_batch(&b, of, weighing == ONE_VARIANCE ? 1 : 2);
        }
        encode(&b);
    }
}

#define K_ENCODERS(name, bytes, weighing)                                                                                    \
    LEVEL static void name##_encode(const float *x, size_t n, unsigned char *out)                                            \
    {                                                                                                                        \
        encode_batches(x, n / 256, NULL, 0, weighing, name##_batch, bytes, out);                                             \
    }                                                                                                                        \
    LEVEL static void name##_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out) \
    {                                                                                                                        \
        encode_batches(x, nrow * ncol / 256, importance, ncol, weighing, name##_batch, bytes, out);                          \
    }
K_ENCODERS(q2_k, 84, ONE_VARIANCE)
K_ENCODERS(q3_k, 110, TWO_VARIANCES)
K_ENCODERS(q4_k, 144, TWO_VARIANCES)
K_ENCODERS(q5_k, 176, TWO_VARIANCES)
K_ENCODERS(q6_k, 210, AS_IT_IS)

LEVEL static void set_k_encoders(struct apr_kernels *k)
{
    k->encode[APR_Q2_K] = q2_k_encode;
    k->encode[APR_Q3_K] = q3_k_encode;
    k->encode[APR_Q4_K] = q4_k_encode;
    k->encode[APR_Q5_K] = q5_k_encode;
    k->encode[APR_Q6_K] = q6_k_encode;
    k->encode_weighted[APR_Q2_K] = q2_k_weighted;
    k->encode_weighted[APR_Q3_K] = q3_k_weighted;
    k->encode_weighted[APR_Q4_K] = q4_k_weighted;
    k->encode_weighted[APR_Q5_K] = q5_k_weighted;
    k->encode_weighted[APR_Q6_K] = q6_k_weighted;
}

#endif
