/* What the encoders of K types share at every level: the scales of a superblock as integers, and how these and 256 levels are laid out. */
#ifndef APR_KERNELS_K_PACK_H
#define APR_KERNELS_K_PACK_H

#include "values/kernels/search.h"

/* The scales (and mins) of a superblock's sub-blocks, quantized: d and dmin, to be rounded to f16, times integers. */
struct apr_k_scales {
    float   d, dmin;
    uint8_t scale[16], min[16];
};

/* The same as they come back: what the levels of each sub-block are of, d times its integer in f32. */
struct apr_k_rounded {
    float scale[16], min[16];
};

/* Levels of 256 elements, in their order, and 32 of them at once. */
typedef uint8_t apr_level32 __attribute__((vector_size(32)));
#define LEVELS(name, at)  \
    apr_level32 name;     \
    memcpy(&name, at, 32)

/* 64: 2-bit codes, four planes in 32 bytes, twice. Bits beyond the second are dropped. */
INLINE void apr_pack_twos(const uint8_t *level, unsigned char *q)
{
    for (unsigned i = 0; i < 2; i++, level += 128, q += 32) {
        LEVELS(a, level);
        LEVELS(b, level + 32);
        LEVELS(c, level + 64);
        LEVELS(d, level + 96);
        const apr_level32 all = (a & 3) | (b & 3) << 2 | (c & 3) << 4 | d << 6;
        memcpy(q, &all, sizeof all);
    }
}

/* 32: bit `bit` of the levels, that of elements 32 j and on in bits j. */
INLINE void apr_pack_bits(const uint8_t *level, int bit, unsigned char *out)
{
    apr_level32 all = { 0 };
    for (int j = 0; j < 8; j++, level += 32) {
        LEVELS(l, level);
        all |= (l >> bit & 1) << j;
    }
    memcpy(out, &all, sizeof all);
}

/* 128: nibbles, 32 low then the same 32 high, four times. */
INLINE void apr_pack_fours(const uint8_t *level, unsigned char *q)
{
    for (unsigned i = 0; i < 4; i++, level += 64, q += 32) {
        LEVELS(a, level);
        LEVELS(b, level + 32);
        const apr_level32 all = (a & 15) | b << 4;
        memcpy(q, &all, sizeof all);
    }
}

/* | 128: low nibbles | 64: upper two bits |; of each half of 128, quarters 0, 1 in the low nibbles of the two 32s, 2, 3 in the high. */
INLINE void apr_pack_sixes(const uint8_t *level, unsigned char *out)
{
    for (unsigned i = 0; i < 2; i++, level += 128) {
        LEVELS(a, level);
        LEVELS(b, level + 32);
        LEVELS(c, level + 64);
        LEVELS(d, level + 96);
        const apr_level32 even = (a & 15) | c << 4, odd = (b & 15) | d << 4;
        const apr_level32 high = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        memcpy(out + 64 * i, &even, sizeof even);
        memcpy(out + 64 * i + 32, &odd, sizeof odd);
        memcpy(out + 128 + 32 * i, &high, sizeof high);
    }
}

/* d or dmin as it is stored; returns what that is. */
INLINE float apr_put_scale(unsigned char *out, float d)
{
    apr_store_scale(out, d);
    return apr_load_half(out);
}

/* | 16: 4-bit scale, 4-bit min | 64: 2-bit codes, later | f16 d | f16 dmin | */
INLINE void apr_put_q2_k(const struct apr_k_scales *s, unsigned char *out, struct apr_k_rounded *r)
{
    const float d = apr_put_scale(out + 80, s->d), dmin = apr_put_scale(out + 82, s->dmin);
    for (unsigned j = 0; j < 16; j++) {
        out[j] = (unsigned char)(s->scale[j] | s->min[j] << 4);
        r->scale[j] = d * (float)(out[j] & 15);
        r->min[j] = dmin * (float)(out[j] >> 4);
    }
}

/* | 32: third bits, 64: 2-bit codes, later | 12: 6-bit scales, 32 too large | f16 d |, of the scales
 * | 8: nibbles, 0-7 low, 8-15 high | 4: upper two bits, those of 4 k + j in bits 2 k of byte j | */
INLINE void apr_put_q3_k(const struct apr_k_scales *s, unsigned char *out, struct apr_k_rounded *r)
{
    const float d = apr_put_scale(out + 108, s->d);
    unsigned char *const b = out + 96;
    apr_store_nibbles(s->scale, 16, b);
    for (unsigned j = 0; j < 4; j++)
        b[8 + j] = (unsigned char)(s->scale[j] >> 4 | s->scale[4 + j] >> 4 << 2 | s->scale[8 + j] >> 4 << 4 | s->scale[12 + j] >> 4 << 6);
    for (unsigned j = 0; j < 16; j++)
        r->scale[j] = d * (float)(s->scale[j] - 32);
}

/* | f16 d | f16 dmin | 12: 6-bit scales, mins |: 0-3 and 0-3, then nibble pairs of 4-7, whose upper two bits stand in those before. */
INLINE void apr_put_q4_k(const struct apr_k_scales *s, unsigned char *out, struct apr_k_rounded *r)
{
    const float d = apr_put_scale(out, s->d), dmin = apr_put_scale(out + 2, s->dmin);
    unsigned char *const b = out + 4;
    for (unsigned j = 0; j < 4; j++) {
        b[j] = (unsigned char)(s->scale[j] | s->scale[j + 4] >> 4 << 6);
        b[j + 4] = (unsigned char)(s->min[j] | s->min[j + 4] >> 4 << 6);
        b[j + 8] = (unsigned char)((s->scale[j + 4] & 15) | s->min[j + 4] << 4);
    }
    for (unsigned j = 0; j < 8; j++) {
        unsigned scale, min;
        apr_six_bits(b, j, &scale, &min);
        r->scale[j] = d * (float)scale;
        r->min[j] = dmin * (float)min;
    }
}

/* | 192: codes, later | 16: i8 scales | f16 d | */
INLINE void apr_put_q6_k(const struct apr_k_scales *s, unsigned char *out, struct apr_k_rounded *r)
{
    const float d = apr_put_scale(out + 208, s->d);
    memcpy(out + 192, s->scale, 16);
    for (unsigned j = 0; j < 16; j++)
        r->scale[j] = d * (float)(int8_t)s->scale[j];
}

/* n scales or mins that are not negative as integers to `largest`, which the largest gets, in a byte each. Returns what one is. */
INLINE float apr_shares_of(const float *v, unsigned n, int largest, uint8_t *share)
{
    float most = 0;
    for (unsigned j = 0; j < n; j++)
        most = v[j] > most ? v[j] : most;
    const float per = most > 0 ? (float)largest / most : 0;
    for (unsigned j = 0; j < n; j++)
        share[j] = (uint8_t)apr_nearest(per * v[j]);
    return most / (float)largest;
}

/* Sixteen scales of both signs as integers -half .. half - 1 in a byte each, of which the farthest from 0 gets -half. Returns what one
 * is; without a scale there is 0, and integers of 0. */
INLINE float apr_signed_shares_of(const float *v, int half, uint8_t *share)
{
    const float farthest = apr_farthest(v, 16), per = (float)-half / farthest;
    memset(share, 0, 16);
    for (unsigned j = 0; j < 16 && farthest != 0; j++) {
        const int l = apr_nearest(per * v[j]);
        share[j] = (uint8_t)(l < half ? l : half - 1);
    }
    return farthest != 0 ? 1 / per : 0;
}

/* The scales of each type out of what its plain search found. */
INLINE void apr_q2_k_scales(const float *scale, const float *min, struct apr_k_scales *s)
{
    s->d = apr_shares_of(scale, 16, 15, s->scale);
    s->dmin = apr_shares_of(min, 16, 15, s->min);
}

INLINE void apr_q3_k_scales(const float *scale, struct apr_k_scales *s)
{
    s->d = apr_signed_shares_of(scale, 32, s->scale);
    for (unsigned j = 0; j < 16 && s->d != 0; j++)
        s->scale[j] = (uint8_t)(s->scale[j] + 32);
}

/* To six bits. Q4_K's are not limited when they were searched for with importance: one below 0 spoils those it shares bytes with. */
INLINE void apr_limit_to_six_bits(struct apr_k_scales *s)
{
    for (unsigned j = 0; j < 8; j++) {
        s->scale[j] = s->scale[j] < 63 ? s->scale[j] : 63;
        s->min[j] = s->min[j] < 63 ? s->min[j] : 63;
    }
}

INLINE void apr_q4_k_scales(const float *scale, const float *min, struct apr_k_scales *s)
{
    s->d = apr_shares_of(scale, 8, 63, s->scale);
    s->dmin = apr_shares_of(min, 8, 63, s->min);
    apr_limit_to_six_bits(s);
}

/* False where all scales are next to nothing: the block is all zeros then. */
INLINE bool apr_q6_k_scales(const float *scale, struct apr_k_scales *s)
{
    s->d = apr_signed_shares_of(scale, 128, s->scale);
    return !(fabsf(apr_farthest(scale, 16)) < APR_ALMOST_NOTHING);
}

#endif
