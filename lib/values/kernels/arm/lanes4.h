/* Four lanes: NEON of AArch64. See lanes.h, and x86/lanes8.h for what each function does. */
#ifndef APR_KERNELS_ARM_LANES4_H
#define APR_KERNELS_ARM_LANES4_H

#include <arm_neon.h>

#include "values/kernels/encode.h"

#define LANES 4
#define LEVEL
#define LANE  INLINE

typedef float32x4_t floats;
typedef int32x4_t   ints;
typedef uint32x4_t  which; /* all bits of a lane set, or none */

LANE floats all(float v) { return vdupq_n_f32(v); }
LANE ints all_ints(int v) { return vdupq_n_s32(v); }
LANE floats load(const float *p) { return vld1q_f32(p); }
LANE ints load_ints(const int32_t *p) { return vld1q_s32(p); }
LANE void store(float *p, floats v) { vst1q_f32(p, v); }
LANE void store_ints(int32_t *p, ints v) { vst1q_s32(p, v); }
LANE ints lane_numbers(void) { return (ints){ 0, 1, 2, 3 }; }

LANE ints load_bytes(const uint8_t *p) { return (ints){ p[0], p[1], p[2], p[3] }; }
LANE void store_bytes(uint8_t *p, ints v)
{
    const uint16x4_t halves = vreinterpret_u16_s16(vmovn_s32(v));
    vst1_lane_u32((uint32_t *)(void *)p, vreinterpret_u32_u8(vmovn_u16(vcombine_u16(halves, halves))), 0);
}

LANE floats gather(const float *table, ints i) { return (floats){ table[i[0]], table[i[1]], table[i[2]], table[i[3]] }; }
LANE ints gather_ints(const uint32_t *table, ints i)
{
    return (ints){ (int)table[i[0]], (int)table[i[1]], (int)table[i[2]], (int)table[i[3]] };
}

typedef uint8x16x4_t sixteen_floats;
LANE sixteen_floats load_sixteen(const float *p)
{
    return (sixteen_floats){ { vreinterpretq_u8_f32(vld1q_f32(p)), vreinterpretq_u8_f32(vld1q_f32(p + 4)),
                               vreinterpretq_u8_f32(vld1q_f32(p + 8)), vreinterpretq_u8_f32(vld1q_f32(p + 12)) } };
}
/* Byte b of entry i is byte 4 i + b of the table. */
LANE floats look_up(sixteen_floats t, ints index)
{
    const uint32x4_t first = vmulq_n_u32(vandq_u32(vreinterpretq_u32_s32(index), vdupq_n_u32(15)), 0x04040404);
    return vreinterpretq_f32_u8(vqtbl4q_u8(t, vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x03020100)))));
}

typedef uint8x16_t   four_floats;
typedef uint8x16x2_t eight_floats;
LANE four_floats load_four(const float *p) { return vreinterpretq_u8_f32(vld1q_f32(p)); }
LANE floats look_up_four(four_floats t, ints index)
{
    const uint32x4_t first = vmulq_n_u32(vandq_u32(vreinterpretq_u32_s32(index), vdupq_n_u32(3)), 0x04040404);
    return vreinterpretq_f32_u8(vqtbl1q_u8(t, vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x03020100)))));
}
LANE floats again_and_again(four_floats t) { return vreinterpretq_f32_u8(t); }
LANE four_floats first_four(floats v) { return vreinterpretq_u8_f32(v); }
LANE eight_floats load_eight(const float *p) { return (eight_floats){ { load_four(p), load_four(p + 4) } }; }
LANE floats look_up_eight(eight_floats t, ints index)
{
    const uint32x4_t first = vmulq_n_u32(vandq_u32(vreinterpretq_u32_s32(index), vdupq_n_u32(7)), 0x04040404);
    return vreinterpretq_f32_u8(vqtbl2q_u8(t, vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x03020100)))));
}
LANE ints load_halves(const uint16_t *p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }

LANE ints plus(ints a, ints b) { return vreinterpretq_s32_u32(vaddq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b))); }
LANE ints minus(ints a, ints b) { return vreinterpretq_s32_u32(vsubq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b))); }
LANE ints times(ints a, ints b) { return vreinterpretq_s32_u32(vmulq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b))); }
LANE ints and(ints a, ints b) { return vandq_s32(a, b); }
LANE ints or(ints a, ints b) { return vorrq_s32(a, b); }
LANE ints xor(ints a, ints b) { return veorq_s32(a, b); }
LANE ints left(ints v, int by) { return vshlq_s32(v, vdupq_n_s32(by)); }
LANE ints right(ints v, int by) { return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), vdupq_n_s32(-by))); }
LANE ints right_signed(ints v, int by) { return vshlq_s32(v, vdupq_n_s32(-by)); }
LANE ints lesser_ints(ints a, ints b) { return vminq_s32(a, b); }
LANE ints greater_ints(ints a, ints b) { return vmaxq_s32(a, b); }

LANE floats floats_of_ints(ints v) { return vcvtq_f32_s32(v); }
/* FCVTZS gives the nearest int for what is none. */
LANE ints truncated(floats v)
{
    return vbslq_s32(vcltq_f32(vabsq_f32(v), vdupq_n_f32(0x1p31f)), vcvtq_s32_f32(v), vdupq_n_s32(INT32_MIN));
}
LANE ints bits(floats v) { return vreinterpretq_s32_f32(v); }
LANE floats floats_of(ints v) { return vreinterpretq_f32_s32(v); }

/* FMIN and FMAX would keep NaNs. */
LANE floats root(floats v) { return vsqrtq_f32(v); }
LANE floats rough_inverse(floats v)
{
    const floats first = vrecpeq_f32(v);
    return vmulq_f32(first, vrecpsq_f32(v, first));
}
LANE floats lesser(floats a, floats b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
LANE floats greater(floats a, floats b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }

LANE float least_of(floats v) { return vminvq_f32(v); }

LANE which is_less(floats a, floats b) { return vcltq_f32(a, b); }
LANE which is_at_most(floats a, floats b) { return vcleq_f32(a, b); }
LANE which is_equal(floats a, floats b) { return vceqq_f32(a, b); }
LANE which is_other(floats a, floats b) { return vmvnq_u32(vceqq_f32(a, b)); }
LANE which is_less_int(ints a, ints b) { return vcltq_s32(a, b); }
LANE which is_equal_int(ints a, ints b) { return vceqq_s32(a, b); }

LANE which no_lane(void) { return vdupq_n_u32(0); }
LANE which both(which a, which b) { return vandq_u32(a, b); }
LANE which either(which a, which b) { return vorrq_u32(a, b); }
LANE which unless(which a, which b) { return vbicq_u32(a, b); }
LANE bool any(which w) { return vmaxvq_u32(w) != 0; }
LANE unsigned bits_of(which w) { return vaddvq_u32(vandq_u32(w, (uint32x4_t){ 1, 2, 4, 8 })); }

LANE floats choose(which w, floats yes, floats no) { return vbslq_f32(w, yes, no); }
LANE ints choose_ints(which w, ints yes, ints no) { return vbslq_s32(w, yes, no); }

/* Four elements of four rows as four vectors. */
LANE void turn_four(const float *x, size_t stride, floats out[4])
{
    const floats a = load(x), b = load(x + stride), c = load(x + 2 * stride), d = load(x + 3 * stride);
    const float64x2_t low_ab = vreinterpretq_f64_f32(vzip1q_f32(a, b)), high_ab = vreinterpretq_f64_f32(vzip2q_f32(a, b));
    const float64x2_t low_cd = vreinterpretq_f64_f32(vzip1q_f32(c, d)), high_cd = vreinterpretq_f64_f32(vzip2q_f32(c, d));
    out[0] = vreinterpretq_f32_f64(vzip1q_f64(low_ab, low_cd));
    out[1] = vreinterpretq_f32_f64(vzip2q_f64(low_ab, low_cd));
    out[2] = vreinterpretq_f32_f64(vzip1q_f64(high_ab, high_cd));
    out[3] = vreinterpretq_f32_f64(vzip2q_f64(high_ab, high_cd));
}

#include "values/kernels/lanes.h"

#endif
