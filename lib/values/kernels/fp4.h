/* What the encoders of MXFP4 and NVFP4 share at all levels. */
#ifndef APR_KERNELS_FP4_H
#define APR_KERNELS_FP4_H

#include "values/kernels/encode.h"
#include "values/kernels/grids.h"

/* The eight levels of E2M1 that are not negative, times scale. */
static inline void apr_fp4_levels(float scale, float level[8])
{
    for (unsigned c = 0; c < 8; c++)
        level[c] = (float)fp4_doubled[c] * scale;
}

/* floor(log2(most)) + 125, where the logarithm is rounded to f32 before: it is whole for numbers a little below a power of two as well,
 * 2^K less up to 11/16 of the power of two in |K|, in last places. Not below 0, which it is for 0 too; 255, which is invalid, for
 * infinity. */
static inline unsigned char apr_mxfp4_exponent(float most)
{
    const uint32_t bits = apr_bits_of_float(most), fraction = bits & 0x7fffffu;
    const int exponent = (int)(bits >> 23) - 127;
    if (exponent == 128)
        return 255;
    const unsigned away = (unsigned)(exponent < 0 ? -(exponent + 1) : exponent);
    unsigned power = 64;
    while (power > away)
        power /= 2;
    return (unsigned char)apr_clamp(exponent + (fraction >= 0x800000u - power * 11 / 16) + 125, 0, 254);
}

/* An unsigned float of | exponent, bias 7: 4 | fraction: 3 |, rounded half up on the bit after, at most 448. v is not negative. */
static inline unsigned char apr_to_ue4m3(float v)
{
    const uint32_t bits = apr_bits_of_float(v > 448 ? 448 : v);
    const int exponent = (int)(bits >> 23) - 127 + 7;
    if (exponent <= 0)
        return (unsigned char)apr_clamp(apr_truncate(v * 512 + 0.5f), 0, 7);
    const unsigned code = (unsigned)exponent << 3 | (bits >> 20 & 7), rounded = code + (bits >> 19 & 1);
    return (unsigned char)(rounded < 15u << 3 ? rounded : 0x7e);
}

#endif
