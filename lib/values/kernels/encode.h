/* What the encoders share: rounding, scales, packing. Each operation is one of f32, rounded on its own, in the order written. */
#ifndef APR_KERNELS_ENCODE_H
#define APR_KERNELS_ENCODE_H

#include <float.h>
#include <math.h>

#include "values/kernels/init.h"

static inline void apr_store16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

/* binary32 to binary16 as F16C does it: nearest even, 65520 and more to infinity, a NaN quiet with the upper bits of its payload. A sum
 * with 0.5 has the last place of a subnormal binary16 for its own, so that rounding to it is the addition's. */
static inline uint16_t apr_to_half(float f)
{
    const uint32_t bits = apr_bits_of_float(f), magnitude = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x47800000u)
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u)
        return (uint16_t)(sign | (apr_bits_of_float(apr_float_of_bits(magnitude) + 0.5f) - apr_bits_of_float(0.5f)));
    return (uint16_t)(sign | (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

/* A scale or a min of a block. What machines differ in, the sign of a NaN of their own, is not kept. */
static inline void apr_store_scale(unsigned char *p, float scale) { apr_store16(p, isnan(scale) ? 0x7e00 : apr_to_half(scale)); }

static inline float apr_inverse(float d) { return d != 0 ? 1 / d : 0; }

/* Toward zero, and 0 for what no i32 holds, NaN among it: the low byte of what cvttss2si gives. */
static inline int apr_truncate(float f) { return fabsf(f) < 0x1p31f ? (int)f : 0; }

/* To the nearest integer, ties to even: a sum with 1.5 * 2^23 has its last place at 1. Of what is beyond 2^22 the low bits of that sum
 * remain, whatever they mean; a NaN gives 0. */
#define APR_TO_NEAREST 12582912.0f
static inline int apr_nearest(float f)
{
    return isnan(f) ? 0 : (int)(apr_bits_of_float(f + APR_TO_NEAREST) & 0x7fffff) - 0x400000;
}

/* To the nearest integer, ties away from zero. The float before 0.5, unlike 0.5 itself, carries no number below a tie over it. */
#define APR_BEFORE_HALF 0x1.fffffep-2f
static inline int apr_round(float f) { return apr_truncate(f + copysignf(APR_BEFORE_HALF, f)); }

static inline int apr_clamp(int v, int least, int most) { return v < least ? least : v > most ? most : v; }

/* The largest |x|. NaNs do not count. */
static inline float apr_largest(const float *x, unsigned n)
{
    float most = 0;
    for (unsigned i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* The value of largest |x|, the first of several; 0 when all are 0. */
static inline float apr_farthest(const float *x, unsigned n)
{
    float most = 0, at = 0;
    for (unsigned i = 0; i < n; i++)
        if (fabsf(x[i]) > most) {
            most = fabsf(x[i]);
            at = x[i];
        }
    return at;
}

/* n codes as n / 2 bytes of nibbles: the first half low, the second high. Bits beyond the fourth are dropped. */
static inline void apr_store_nibbles(const uint8_t *code, unsigned n, unsigned char *q)
{
    for (unsigned j = 0; j < n / 2; j++)
        q[j] = (unsigned char)((code[j] & 15) | code[j + n / 2] << 4);
}

/* | u32: fifth bits, bit i for element i | 16: nibbles | */
static inline void apr_store_fives(const uint8_t code[32], unsigned char *out)
{
    uint32_t high = 0;
    for (unsigned i = 0; i < 32; i++)
        high |= (uint32_t)(code[i] >> 4) << i;
    apr_store16(out, (uint16_t)high);
    apr_store16(out + 2, (uint16_t)(high >> 16));
    apr_store_nibbles(code, 32, out + 4);
}

#endif
