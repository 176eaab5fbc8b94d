/* Encoders of the K types: superblocks of 256, whose sub-blocks of 16 or 32 each get a scale, and a min or not, by a search (search.h);
 * scales and mins become integers times an f16; then levels are taken once more, of the scales as these come back. Where a scale comes
 * back as 0 the levels of the search stay. With importance an element weighs importance * sqrt(variance + x^2), the variance being that
 * of the superblock, and the integers are searched for as well. */
#include "values/kernels/k_pack.h"

/* A superblock on its way: of its sub-blocks, what the search found and the sum of the weights. */
struct found {
    float   scale[16], min[16], weight[16];
    uint8_t level[256];
};

/* Sub-blocks of `each` with a scale and a min. */
static void fit_from_min(const float *x, const float *weight, unsigned each, const struct apr_steps *s, struct found *f)
{
    for (unsigned j = 0; j < 256 / each; j++)
        f->scale[j] = apr_fit_from_min(x + each * j, each, weight + each * j, s, f->level + each * j, &f->min[j]);
}

static void level_from_min(const float *x, unsigned each, const struct apr_k_rounded *r, int largest, uint8_t *level)
{
    for (unsigned j = 0; j < 256 / each; j++)
        apr_level_from_min(x + each * j, each, r->scale[j], r->min[j], largest, level + each * j);
}

static void level_around(const float *x, const struct apr_k_rounded *r, int half, uint8_t *level)
{
    for (unsigned j = 0; j < 16; j++)
        apr_level_around(x + 16 * j, 16, r->scale[j], half, level + 16 * j);
}

/* The weights of a superblock and their sums over each sub-block; times is 1 or 2. */
static void weigh(const float *x, const float *importance, float times, unsigned each, float *weight, struct found *f)
{
    apr_weigh(x, 256, importance, times * apr_sum_of_squares(x, 256) / 256, weight);
    for (unsigned j = 0; j < 256 / each; j++) {
        f->weight[j] = 0;
        for (unsigned i = each * j; i < each * (j + 1); i++)
            f->weight[j] += weight[i];
    }
}

static void find_positive_shares(const struct found *f, unsigned n, int largest, struct apr_k_scales *s)
{
    s->d = apr_fit_positive(f->scale, n, largest, f->weight, s->scale);
    s->dmin = apr_fit_positive(f->min, n, largest, f->weight, s->min);
}

/* | 16: 4-bit scale, 4-bit min | 64: 2-bit codes | f16 d | f16 dmin |: a value weighs |x|. */
static void q2_k(const float *x, const float *importance, unsigned char *out)
{
    struct found f;
    struct apr_k_scales s;
    struct apr_k_rounded r;
    float weight[256];
    if (importance) {
        weigh(x, importance, 1, 16, weight, &f);
        const struct apr_steps steps = apr_weighted_steps(3);
        fit_from_min(x, weight, 16, &steps, &f);
        find_positive_shares(&f, 16, 15, &s);
    } else {
        for (unsigned i = 0; i < 256; i++)
            weight[i] = fabsf(x[i]);
        fit_from_min(x, weight, 16, &apr_q2_steps, &f);
        apr_q2_k_scales(f.scale, f.min, &s);
    }
    apr_put_q2_k(&s, out, &r);
    level_from_min(x, 16, &r, 3, f.level);
    apr_pack_twos(f.level, out + 16);
}

/* | 32: third bits | 64: 2-bit codes | 12: 6-bit scales, 32 too large | f16 d |: a value weighs x^2. */
static void q3_k(const float *x, const float *importance, unsigned char *out)
{
    struct found f;
    struct apr_k_scales s;
    struct apr_k_rounded r;
    float weight[256];
    if (importance) {
        weigh(x, importance, 2, 16, weight, &f);
        for (unsigned j = 0; j < 16; j++)
            f.scale[j] = apr_fit_around(x + 16 * j, 16, 4, weight + 16 * j, f.level + 16 * j);
        s.d = apr_fit_around(f.scale, 16, 32, f.weight, s.scale);
    } else {
        for (unsigned j = 0; j < 16; j++)
            f.scale[j] = apr_fit_by_turns(x + 16 * j, 16, 4, f.level + 16 * j);
        apr_q3_k_scales(f.scale, &s);
    }
    apr_put_q3_k(&s, out, &r);
    level_around(x, &r, 4, f.level);
    apr_pack_bits(f.level, 2, out);
    apr_pack_twos(f.level, out + 32);
}

/* Q4_K's and Q5_K's scales and levels: a value weighs the root of its sub-block's mean square, and |x|. */
static void find_q4_k(const float *x, const float *importance, const struct apr_steps *plain, unsigned char *out, struct found *f)
{
    const struct apr_steps steps = importance ? apr_weighted_steps(plain->largest) : *plain;
    struct apr_k_scales scales;
    struct apr_k_rounded r;
    float weight[256];
    if (importance) {
        weigh(x, importance, 2, 32, weight, f);
        fit_from_min(x, weight, 32, &steps, f);
        find_positive_shares(f, 8, 63, &scales);
        if (plain->largest == 31)
            apr_limit_to_six_bits(&scales);
    } else {
        for (unsigned i = 0; i < 256; i += 32) {
            const float root = sqrtf(apr_sum_of_squares(x + i, 32) / 32);
            for (unsigned j = i; j < i + 32; j++)
                weight[j] = root + fabsf(x[j]);
        }
        fit_from_min(x, weight, 32, &steps, f);
        apr_q4_k_scales(f->scale, f->min, &scales);
    }
    apr_put_q4_k(&scales, out, &r);
    level_from_min(x, 32, &r, steps.largest, f->level);
}

/* | f16 d | f16 dmin | 12: 6-bit scales, mins | 128: nibbles, 32 low then the same 32 high | */
static void q4_k(const float *x, const float *importance, unsigned char *out)
{
    struct found f;
    find_q4_k(x, importance, &apr_q4_steps, out, &f);
    apr_pack_fours(f.level, out + 16);
}

/* | f16 d | f16 dmin | 12: 6-bit scales, mins | 32: fifth bits, bit j for sub-block j | 128: nibbles | */
static void q5_k(const float *x, const float *importance, unsigned char *out)
{
    struct found f;
    find_q4_k(x, importance, &apr_q5_steps, out, &f);
    apr_pack_bits(f.level, 4, out + 16);
    apr_pack_fours(f.level, out + 48);
}

/* | 128: low nibbles | 64: upper two bits | 16: i8 scales | f16 d |, codes 32 too large: a value weighs x^2, or its importance alone. */
static void q6_k(const float *x, const float *importance, unsigned char *out)
{
    struct found f;
    struct apr_k_scales s;
    struct apr_k_rounded r;
    for (unsigned i = 0; i < 256; i += 16)
        f.scale[i / 16] = apr_fit_around(x + i, 16, 32, importance ? importance + i : NULL, f.level + i);
    if (!apr_q6_k_scales(f.scale, &s)) {
        memset(out, 0, 210);
        return;
    }
    apr_put_q6_k(&s, out, &r);
    level_around(x, &r, 32, f.level);
    apr_pack_sixes(f.level, out);
}

#define ENCODERS(name, bytes)                                                                                                \
    static void name##_encode(const float *x, size_t n, unsigned char *out)                                                   \
    {                                                                                                                        \
        for (; n; n -= 256, x += 256, out += (bytes))                                                                        \
            name(x, NULL, out);                                                                                              \
    }                                                                                                                        \
    static void name##_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)        \
    {                                                                                                                        \
        for (; nrow; nrow--)                                                                                                 \
            for (size_t i = 0; i < ncol; i += 256, x += 256, out += (bytes))                                                 \
                name(x, importance + i, out);                                                                                \
    }
ENCODERS(q2_k, 84)
ENCODERS(q3_k, 110)
ENCODERS(q4_k, 144)
ENCODERS(q5_k, 176)
ENCODERS(q6_k, 210)

void apr_k_encode_init(struct apr_kernels *k)
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
