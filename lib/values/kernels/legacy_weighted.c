/* Blocks of 32 with importance: an element weighs importance * sqrt(variance + x^2), the variance being that of its row; scales, and mins,
 * are searched for (search.h). */
#include "values/kernels/search.h"

typedef void encode_block_fn(const float *x, const float *weight, unsigned char *out);

static void rows(const float *x, size_t nrow, size_t ncol, const float *importance, encode_block_fn *encode, size_t bytes,
                 unsigned char *out)
{
    float weight[32];
    for (; nrow; nrow--) {
        const float variance = apr_sum_of_squares(x, ncol) / (float)ncol;
        for (size_t i = 0; i < ncol; i += 32, x += 32, out += bytes) {
            apr_weigh(x, 32, importance + i, variance, weight);
            encode(x, weight, out);
        }
    }
}

/* | f16 d | 16: nibbles, 8 too large | */
static void q4_0(const float *x, const float *weight, unsigned char *out)
{
    uint8_t level[32];
    apr_store_scale(out, apr_fit_around(x, 32, 8, weight, level));
    apr_store_nibbles(level, 32, out + 2);
}

/* | f16 d | u32: fifth bits | 16: nibbles |, 16 too large */
static void q5_0(const float *x, const float *weight, unsigned char *out)
{
    uint8_t level[32];
    apr_store_scale(out, apr_fit_around(x, 32, 16, weight, level));
    apr_store_fives(level, out + 2);
}

/* | f16 d | f16 m, which is added | and levels after that */
static void scale_and_min(const float *x, const float *weight, int largest, unsigned char *out, uint8_t level[32])
{
    const struct apr_steps steps = apr_weighted_steps(largest);
    float min;
    apr_store_scale(out, apr_fit_from_min(x, 32, weight, &steps, level, &min));
    apr_store_scale(out + 2, -min);
}

/* | f16 d | f16 m | 16: nibbles | */
static void q4_1(const float *x, const float *weight, unsigned char *out)
{
    uint8_t level[32];
    scale_and_min(x, weight, 15, out, level);
    apr_store_nibbles(level, 32, out + 4);
}

/* | f16 d | f16 m | u32: fifth bits | 16: nibbles | */
static void q5_1(const float *x, const float *weight, unsigned char *out)
{
    uint8_t level[32];
    scale_and_min(x, weight, 31, out, level);
    apr_store_fives(level, out + 4);
}

#define WEIGHTED(name, bytes)                                                                                                \
    static void name##_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)       \
    {                                                                                                                        \
        rows(x, nrow, ncol, importance, name, bytes, out);                                                                   \
    }
WEIGHTED(q4_0, 18)
WEIGHTED(q4_1, 20)
WEIGHTED(q5_0, 22)
WEIGHTED(q5_1, 24)

void apr_legacy_weighted_init(struct apr_kernels *k)
{
    k->encode_weighted[APR_Q4_0] = q4_0_weighted;
    k->encode_weighted[APR_Q4_1] = q4_1_weighted;
    k->encode_weighted[APR_Q5_0] = q5_0_weighted;
    k->encode_weighted[APR_Q5_1] = q5_1_weighted;
}
