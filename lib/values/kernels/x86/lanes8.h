/* Eight lanes: AVX2, without FMA, so that nothing can be fused. See lanes.h. */
#ifndef APR_KERNELS_X86_LANES8_H
#define APR_KERNELS_X86_LANES8_H

#include <immintrin.h>

#include "values/kernels/encode.h"

#define LANES 8
#define LEVEL __attribute__((target("avx2,f16c")))
#define LANE  LEVEL INLINE

typedef __m256  floats;
typedef __m256i ints;
typedef __m256  which; /* all bits of a lane set, or none */

/* The same in every lane; LANES numbers in memory, at any address; the lane's number. */
LANE floats all(float v) { return _mm256_set1_ps(v); }
LANE ints all_ints(int v) { return _mm256_set1_epi32(v); }
LANE floats load(const float *p) { return _mm256_loadu_ps(p); }
LANE ints load_ints(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
LANE void store(float *p, floats v) { _mm256_storeu_ps(p, v); }
LANE void store_ints(int32_t *p, ints v) { _mm256_storeu_si256((__m256i *)p, v); }
LANE ints lane_numbers(void) { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }

/* LANES bytes without sign; the low bytes of ints. */
LANE ints load_bytes(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
LANE void store_bytes(uint8_t *p, ints v)
{
    const __m256i low = _mm256_shuffle_epi8(v, _mm256_set1_epi64x(0x0c080400));
    _mm_storel_epi64((__m128i *)p, _mm_unpacklo_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
}

/* The lane's entry of a table. */
LANE floats gather(const float *table, ints index) { return _mm256_i32gather_ps(table, index, 4); }
LANE ints gather_ints(const uint32_t *table, ints index) { return _mm256_i32gather_epi32((const int *)(const void *)table, index, 4); }

/* A table of 16 floats in registers, and entries of it; only the low four bits of an index count. */
typedef struct {
    __m256 low, high;
} sixteen_floats;
LANE sixteen_floats load_sixteen(const float *p) { return (sixteen_floats){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) }; }
LANE floats look_up(sixteen_floats t, ints index)
{
    const __m256 low = _mm256_permutevar8x32_ps(t.low, index), high = _mm256_permutevar8x32_ps(t.high, index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

/* Tables of 4 and 8 floats; only the low two or three bits of an index count. 16-bit numbers without sign. */
typedef __m256 four_floats, eight_floats;
LANE four_floats load_four(const float *p) { return _mm256_broadcast_ps((const __m128 *)(const void *)p); }
LANE floats look_up_four(four_floats t, ints index) { return _mm256_permutevar_ps(t, index); }
LANE floats again_and_again(four_floats t) { return t; }
LANE four_floats first_four(floats v) { return v; }
LANE eight_floats load_eight(const float *p) { return load(p); }
LANE floats look_up_eight(eight_floats t, ints index) { return _mm256_permutevar8x32_ps(t, index); }
LANE ints load_halves(const uint16_t *p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)); }

/* Ints, which wrap; shifts by a constant, right ones with zeros or with the sign. */
LANE ints plus(ints a, ints b) { return _mm256_add_epi32(a, b); }
LANE ints minus(ints a, ints b) { return _mm256_sub_epi32(a, b); }
LANE ints times(ints a, ints b) { return _mm256_mullo_epi32(a, b); }
LANE ints and(ints a, ints b) { return _mm256_and_si256(a, b); }
LANE ints or(ints a, ints b) { return _mm256_or_si256(a, b); }
LANE ints xor(ints a, ints b) { return _mm256_xor_si256(a, b); }
LANE ints left(ints v, int by) { return (ints)((__v8su)v << by); }
LANE ints right(ints v, int by) { return (ints)((__v8su)v >> by); }
LANE ints right_signed(ints v, int by) { return (ints)((__v8si)v >> by); }
LANE ints lesser_ints(ints a, ints b) { return _mm256_min_epi32(a, b); }
LANE ints greater_ints(ints a, ints b) { return _mm256_max_epi32(a, b); }

/* Between the two: as numbers (truncation gives the least int for what is none), and as bits. */
LANE floats floats_of_ints(ints v) { return _mm256_cvtepi32_ps(v); }
LANE ints truncated(floats v) { return _mm256_cvttps_epi32(v); }
LANE ints bits(floats v) { return _mm256_castps_si256(v); }
LANE floats floats_of(ints v) { return _mm256_castsi256_ps(v); }

LANE floats root(floats v) { return _mm256_sqrt_ps(v); }
LANE floats rough_inverse(floats v) { return _mm256_rcp_ps(v); } /* to 2^-11; machines differ: for bounds, not for results */
LANE floats lesser(floats a, floats b) { return _mm256_min_ps(a, b); }   /* a < b ? a : b */
LANE floats greater(floats a, floats b) { return _mm256_max_ps(a, b); } /* a > b ? a : b */

/* The least of all lanes, none of them a NaN. */
LANE float least_of(floats v)
{
    const __m128 four = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}

/* Comparisons, false where there is a NaN, but is_other, which is true there. */
LANE which is_less(floats a, floats b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
LANE which is_at_most(floats a, floats b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
LANE which is_equal(floats a, floats b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
LANE which is_other(floats a, floats b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
LANE which is_less_int(ints a, ints b) { return floats_of(_mm256_cmpgt_epi32(b, a)); }
LANE which is_equal_int(ints a, ints b) { return floats_of(_mm256_cmpeq_epi32(a, b)); }

LANE which no_lane(void) { return _mm256_setzero_ps(); }
LANE which both(which a, which b) { return _mm256_and_ps(a, b); }
LANE which either(which a, which b) { return _mm256_or_ps(a, b); }
LANE which unless(which a, which b) { return _mm256_andnot_ps(b, a); } /* a and not b */
LANE bool any(which w) { return !_mm256_testz_si256(bits(w), bits(w)); }
LANE unsigned bits_of(which w) { return (unsigned)_mm256_movemask_ps(w); } /* bit l for lane l */

LANE floats choose(which w, floats yes, floats no) { return _mm256_blendv_ps(no, yes, w); }
LANE ints choose_ints(which w, ints yes, ints no) { return bits(_mm256_blendv_ps(floats_of(no), floats_of(yes), w)); }

/* Four floats from every fourth row, the first of them in the low half. */
LANE floats fours(const float *x, size_t stride)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x)), _mm_loadu_ps(x + 4 * stride), 1);
}

/* Four elements of LANES rows as four vectors. */
LANE void turn_four(const float *x, size_t stride, floats out[4])
{
    const floats a = fours(x, stride), b = fours(x + stride, stride), c = fours(x + 2 * stride, stride), d = fours(x + 3 * stride, stride);
    const __m256d low_ab = _mm256_castps_pd(_mm256_unpacklo_ps(a, b)), high_ab = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
    const __m256d low_cd = _mm256_castps_pd(_mm256_unpacklo_ps(c, d)), high_cd = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
    out[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low_ab, low_cd));
    out[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low_ab, low_cd));
    out[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high_ab, high_cd));
    out[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high_ab, high_cd));
}

#include "values/kernels/lanes.h"

#endif
