/* Sixteen lanes: AVX-512 F BW DQ VL, no FMA written. See lanes.h, and lanes8.h for what each function does. */
#ifndef APR_KERNELS_X86_LANES16_H
#define APR_KERNELS_X86_LANES16_H

#include <immintrin.h>

#include "values/kernels/encode.h"

#define LANES 16
#define LEVEL __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,f16c")))
#define LANE  LEVEL INLINE

typedef __m512    floats;
typedef __m512i   ints;
typedef __mmask16 which;

LANE floats all(float v) { return _mm512_set1_ps(v); }
LANE ints all_ints(int v) { return _mm512_set1_epi32(v); }
LANE floats load(const float *p) { return _mm512_loadu_ps(p); }
LANE ints load_ints(const int32_t *p) { return _mm512_loadu_si512(p); }
LANE void store(float *p, floats v) { _mm512_storeu_ps(p, v); }
LANE void store_ints(int32_t *p, ints v) { _mm512_storeu_si512(p, v); }
LANE ints lane_numbers(void) { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }

LANE ints load_bytes(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
LANE void store_bytes(uint8_t *p, ints v) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(v)); }

LANE floats gather(const float *table, ints index) { return _mm512_i32gather_ps(index, table, 4); }
LANE ints gather_ints(const uint32_t *table, ints index) { return _mm512_i32gather_epi32(index, table, 4); }

typedef __m512 sixteen_floats;
LANE sixteen_floats load_sixteen(const float *p) { return _mm512_loadu_ps(p); }
LANE floats look_up(sixteen_floats t, ints index) { return _mm512_permutexvar_ps(index, t); }

/* Lanes look up in their own fourth; a table of eight is there twice, as four bits of an index count. */
typedef __m512 four_floats, eight_floats;
LANE four_floats load_four(const float *p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
LANE floats look_up_four(four_floats t, ints index) { return _mm512_permutevar_ps(t, index); }
LANE floats again_and_again(four_floats t) { return t; }
LANE four_floats first_four(floats v) { return v; }
LANE eight_floats load_eight(const float *p) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(p)); }
LANE floats look_up_eight(eight_floats t, ints index) { return _mm512_permutexvar_ps(index, t); }
LANE ints load_halves(const uint16_t *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)); }

LANE ints plus(ints a, ints b) { return _mm512_add_epi32(a, b); }
LANE ints minus(ints a, ints b) { return _mm512_sub_epi32(a, b); }
LANE ints times(ints a, ints b) { return _mm512_mullo_epi32(a, b); }
LANE ints and(ints a, ints b) { return _mm512_and_si512(a, b); }
LANE ints or(ints a, ints b) { return _mm512_or_si512(a, b); }
LANE ints xor(ints a, ints b) { return _mm512_xor_si512(a, b); }
LANE ints left(ints v, int by) { return (ints)((__v16su)v << by); }
LANE ints right(ints v, int by) { return (ints)((__v16su)v >> by); }
LANE ints right_signed(ints v, int by) { return (ints)((__v16si)v >> by); }
LANE ints lesser_ints(ints a, ints b) { return _mm512_min_epi32(a, b); }
LANE ints greater_ints(ints a, ints b) { return _mm512_max_epi32(a, b); }

LANE floats floats_of_ints(ints v) { return _mm512_cvtepi32_ps(v); }
LANE ints truncated(floats v) { return _mm512_cvttps_epi32(v); }
LANE ints bits(floats v) { return _mm512_castps_si512(v); }
LANE floats floats_of(ints v) { return _mm512_castsi512_ps(v); }

LANE floats root(floats v) { return _mm512_sqrt_ps(v); }
LANE floats rough_inverse(floats v) { return _mm512_rcp14_ps(v); }
LANE floats lesser(floats a, floats b) { return _mm512_min_ps(a, b); }
LANE floats greater(floats a, floats b) { return _mm512_max_ps(a, b); }

LANE float least_of(floats v) { return _mm512_reduce_min_ps(v); }

LANE which is_less(floats a, floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
LANE which is_at_most(floats a, floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
LANE which is_equal(floats a, floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
LANE which is_other(floats a, floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
LANE which is_less_int(ints a, ints b) { return _mm512_cmplt_epi32_mask(a, b); }
LANE which is_equal_int(ints a, ints b) { return _mm512_cmpeq_epi32_mask(a, b); }

LANE which no_lane(void) { return 0; }
LANE which both(which a, which b) { return a & b; }
LANE which either(which a, which b) { return a | b; }
LANE which unless(which a, which b) { return (which)(a & ~(unsigned)b); }
LANE bool any(which w) { return w != 0; }
LANE unsigned bits_of(which w) { return w; }

LANE floats choose(which w, floats yes, floats no) { return _mm512_mask_blend_ps(w, no, yes); }
LANE ints choose_ints(which w, ints yes, ints no) { return _mm512_mask_blend_epi32(w, no, yes); }

/* Four floats from every fourth row, the first of them lowest. */
LANE floats fours(const float *x, size_t stride)
{
    const floats first = _mm512_castps128_ps512(_mm_loadu_ps(x));
    const floats two = _mm512_insertf32x4(first, _mm_loadu_ps(x + 4 * stride), 1);
    return _mm512_insertf32x4(_mm512_insertf32x4(two, _mm_loadu_ps(x + 8 * stride), 2), _mm_loadu_ps(x + 12 * stride), 3);
}

LANE void turn_four(const float *x, size_t stride, floats out[4])
{
    const floats a = fours(x, stride), b = fours(x + stride, stride), c = fours(x + 2 * stride, stride), d = fours(x + 3 * stride, stride);
    const __m512d low_ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b)), high_ab = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
    const __m512d low_cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d)), high_cd = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
    out[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low_ab, low_cd));
    out[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low_ab, low_cd));
    out[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high_ab, high_cd));
    out[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high_ab, high_cd));
}

#include "values/kernels/lanes.h"

#endif
