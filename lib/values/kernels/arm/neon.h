/* What the NEON decoders share. */
#ifndef APR_KERNELS_ARM_NEON_H
#define APR_KERNELS_ARM_NEON_H

#include <arm_neon.h>

#include "values/kernels/init.h"

INLINE void put4(int16x4_t codes, float scale, float *out) { vst1q_f32(out, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(codes)), scale)); }

INLINE void put4_shifted(int16x4_t codes, float scale, float32x4_t shift, float *out)
{
    vst1q_f32(out, vaddq_f32(vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(codes)), scale), shift));
}

/* 16 signed bytes times scale. */
INLINE void put16(int8x16_t codes, float scale, float *out)
{
    const int16x8_t low = vmovl_s8(vget_low_s8(codes)), high = vmovl_high_s8(codes);
    put4(vget_low_s16(low), scale, out);
    put4(vget_high_s16(low), scale, out + 4);
    put4(vget_low_s16(high), scale, out + 8);
    put4(vget_high_s16(high), scale, out + 12);
}

/* The same of codes below 128, plus shift. */
INLINE void put16_shifted(uint8x16_t codes, float scale, float shift, float *out)
{
    const float32x4_t everywhere = vdupq_n_f32(shift);
    const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(codes))), high = vreinterpretq_s16_u16(vmovl_high_u8(codes));
    put4_shifted(vget_low_s16(low), scale, everywhere, out);
    put4_shifted(vget_high_s16(low), scale, everywhere, out + 4);
    put4_shifted(vget_low_s16(high), scale, everywhere, out + 8);
    put4_shifted(vget_high_s16(high), scale, everywhere, out + 12);
}

INLINE uint8x16_t low_nibbles(uint8x16_t q) { return vandq_u8(q, vdupq_n_u8(15)); }
INLINE uint8x16_t high_nibbles(uint8x16_t q) { return vshrq_n_u8(q, 4); }

/* Codes less an offset. */
INLINE int8x16_t less(uint8x16_t codes, uint8_t offset) { return vreinterpretq_s8_u8(vsubq_u8(codes, vdupq_n_u8(offset))); }

#endif
