/* The encoders of legacy_weighted.c for lanes: one block of 32 a lane. See lanes.h. */
#ifndef APR_KERNELS_LEGACY_LANES_H
#define APR_KERNELS_LEGACY_LANES_H

#include "values/kernels/search_lanes.h"

/* Of LANES rows, of which `count` are there, the means of their squares. */
LEVEL static void variances(const float *x, size_t count, size_t ncol, float variance[LANES])
{
    floats sum = all(0);
    if (count < LANES) {
        for (size_t row = 0; row < count; row++)
            variance[row] = apr_sum_of_squares(x + row * ncol, ncol) / (float)ncol;
        return;
    }
    for (size_t i = 0; i < ncol; i += 4) {
        floats v[4];
        turn_four(x + i, ncol, v);
        for (unsigned j = 0; j < 4; j++)
            sum = sum + square(v[j]);
    }
    store(variance, sum / all((float)ncol));
}

/* ABREAST times LANES blocks, of which `count` are there, and what was found for them. */
#define BLOCKS (ABREAST * LANES)
struct blocks {
    float    x[32 * BLOCKS], weight[32 * BLOCKS];
    float    scale[BLOCKS], min[BLOCKS], per_scale[BLOCKS], from[BLOCKS];
    unsigned count;
};

/* Blocks of rows that begin at x, from block `first` on; those that are not there are zeros. */
LANE void take_blocks(const float *x, size_t first, size_t ncol, const float *importance, const float *variance, struct blocks *b)
{
    memset(b->x, 0, sizeof b->x);
    memcpy(b->x, x + 32 * first, 32 * b->count * sizeof *x);
    for (unsigned l = 0; l < b->count; l++) {
        const size_t at = 32 * (first + l);
        for (unsigned i = 0; i < 32; i += LANES) {
            const floats v = load(x + at + i);
            store(b->weight + 32 * l + i, load(importance + at % ncol + i) * root(all(variance[at / ncol]) + square(v)));
        }
    }
}

LANE void search_blocks(struct blocks *b, int half, int largest)
{
    floats x[32 * ABREAST], w[32 * ABREAST];
    struct lanes_found f[ABREAST];
    const struct apr_steps steps = apr_weighted_steps(largest);
    for (unsigned k = 0; k < ABREAST; k++) {
        turn(b->x + 32 * LANES * k, 32, 32, x + 32 * k);
        turn(b->weight + 32 * LANES * k, 32, 32, w + 32 * k);
        if (half)
            f[k] = fit_around(x + 32 * k, w + 32 * k, 32, half);
    }
    if (!half)
        fit_from_min(x, w, 32, &steps, f);
    for (unsigned k = 0; k < ABREAST; k++) {
        store(b->scale + k * LANES, f[k].scale);
        store(b->min + k * LANES, f[k].min);
        store(b->per_scale + k * LANES, f[k].per_scale);
        store(b->from + k * LANES, f[k].from);
    }
}

/* | f16 d | levels |, or with a min | f16 d | f16 m, which is added | levels |; these are
 * | 16: nibbles |, or when five bits are needed | u32: fifth bits | 16: nibbles | */
LANE void store_blocks(const struct blocks *b, int half, int largest, unsigned char *out)
{
    const unsigned head = half ? 2 : 4;
    const bool fives = (half ? 2 * half - 1 : largest) > 15;
    for (unsigned l = 0; l < b->count; l++, out += head + (fives ? 20 : 16)) {
        uint8_t level[32];
        apr_store_scale(out, b->scale[l]);
        if (!half)
            apr_store_scale(out + 2, -b->min[l]);
        levels_as_found(b->x + 32 * l, 32, b->per_scale[l], b->from[l], -half, half ? half - 1 : largest, level);
        if (fives)
            apr_store_fives(level, out + head);
        else
            apr_store_nibbles(level, 32, out + head);
    }
}

/* Levels around half, or with half 0 from a min, 0 .. largest. */
LANE void encode_rows(const float *x, size_t nrow, size_t ncol, const float *importance, int half, int largest, size_t bytes,
                      unsigned char *out)
{
    struct blocks b = { .count = 0 };
    float variance[LANES];
    for (size_t row = 0; row < nrow; row += LANES) {
        const size_t count = nrow - row < LANES ? nrow - row : LANES, nblock = count * ncol / 32;
        variances(x + row * ncol, count, ncol, variance);
        for (size_t i = 0; i < nblock; i += b.count, out += b.count * bytes) {
            b.count = nblock - i < BLOCKS ? (unsigned)(nblock - i) : BLOCKS;
            take_blocks(x + row * ncol, i, ncol, importance, variance, &b);
            search_blocks(&b, half, largest);
            store_blocks(&b, half, largest, out);
        }
    }
}

#define LEGACY_WEIGHTED(name, half, largest, bytes)                                                                          \
    LEVEL static void name##_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out) \
    {                                                                                                                        \
        encode_rows(x, nrow, ncol, importance, half, largest, bytes, out);                                                   \
    }
LEGACY_WEIGHTED(q4_0, 8, 0, 18)
LEGACY_WEIGHTED(q4_1, 0, 15, 20)
LEGACY_WEIGHTED(q5_0, 16, 0, 22)
LEGACY_WEIGHTED(q5_1, 0, 31, 24)

LEVEL static void set_legacy_encoders(struct apr_kernels *k)
{
    k->encode_weighted[APR_Q4_0] = q4_0_weighted;
    k->encode_weighted[APR_Q4_1] = q4_1_weighted;
    k->encode_weighted[APR_Q5_0] = q5_0_weighted;
    k->encode_weighted[APR_Q5_1] = q5_1_weighted;
}

#endif
