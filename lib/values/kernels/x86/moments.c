#ifdef __x86_64__
#include <immintrin.h>

#include "values/kernels/run.h"

#define AVX2   __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

AVX2 INLINE __m256d load4(const void *from, size_t i, bool wide)
{
    return wide ? _mm256_loadu_pd((const double *)from + i) : _mm256_cvtps_pd(_mm_loadu_ps((const float *)from + i));
}

AVX2 INLINE void lanes_avx2(const void *x, size_t n, bool wide, double centre, struct apr_moments *into)
{
    for (unsigned l = 0; l < APR_LANES; l += 4) {
        __m256d d1 = _mm256_loadu_pd(into->d1 + l), d2 = _mm256_loadu_pd(into->d2 + l), d3 = _mm256_loadu_pd(into->d3 + l);
        __m256d d4 = _mm256_loadu_pd(into->d4 + l), min = _mm256_loadu_pd(into->min + l), max = _mm256_loadu_pd(into->max + l);
        __m256i zeros = _mm256_setzero_si256();
        for (size_t i = l; i < n; i += APR_LANES) {
            const __m256d v = load4(x, i, wide), d = v - _mm256_set1_pd(centre), square = d * d;
            d1 += d;
            d2 += square;
            d3 += square * d;
            d4 += square * square;
            min = _mm256_min_pd(v, min);
            max = _mm256_max_pd(v, max);
            zeros -= _mm256_castpd_si256(_mm256_cmp_pd(v, _mm256_setzero_pd(), _CMP_EQ_OQ));
        }
        _mm256_storeu_pd(into->d1 + l, d1);
        _mm256_storeu_pd(into->d2 + l, d2);
        _mm256_storeu_pd(into->d3 + l, d3);
        _mm256_storeu_pd(into->d4 + l, d4);
        _mm256_storeu_pd(into->min + l, min);
        _mm256_storeu_pd(into->max + l, max);
        uint64_t of_lane[4];
        _mm256_storeu_si256((__m256i *)of_lane, zeros);
        into->zeros += of_lane[0] + of_lane[1] + of_lane[2] + of_lane[3];
    }
}

AVX2 INLINE __m128i bins4(const void *x, size_t i, bool wide, double base, double scale)
{
    const __m256d at = (load4(x, i, wide) - _mm256_set1_pd(base)) * _mm256_set1_pd(scale);
    const __m256d least = _mm256_cmp_pd(at, _mm256_set1_pd(1), _CMP_GE_OQ);
    return _mm256_cvttpd_epi32(_mm256_and_pd(_mm256_min_pd(_mm256_set1_pd(APR_BINS - 1), at), least));
}

AVX2 INLINE void bins_avx2(const void *x, size_t i, bool wide, double base, double scale, uint16_t *bin)
{
    for (unsigned l = 0; l < 16; l += 8)
        _mm_storeu_si128((__m128i *)(bin + l),
                         _mm_packus_epi32(bins4(x, i + l, wide, base, scale), bins4(x, i + l + 4, wide, base, scale)));
}

AVX512 INLINE __m512d load8(const void *from, size_t i, bool wide)
{
    return wide ? _mm512_loadu_pd((const double *)from + i) : _mm512_cvtps_pd(_mm256_loadu_ps((const float *)from + i));
}

AVX512 INLINE void lanes_avx512(const void *x, size_t n, bool wide, double centre, struct apr_moments *into)
{
    for (unsigned l = 0; l < APR_LANES; l += 8) {
        __m512d d1 = _mm512_loadu_pd(into->d1 + l), d2 = _mm512_loadu_pd(into->d2 + l), d3 = _mm512_loadu_pd(into->d3 + l);
        __m512d d4 = _mm512_loadu_pd(into->d4 + l), min = _mm512_loadu_pd(into->min + l), max = _mm512_loadu_pd(into->max + l);
        __m512i zeros = _mm512_setzero_si512();
        for (size_t i = l; i < n; i += APR_LANES) {
            const __m512d v = load8(x, i, wide), d = v - _mm512_set1_pd(centre), square = d * d;
            d1 += d;
            d2 += square;
            d3 += square * d;
            d4 += square * square;
            min = _mm512_min_pd(v, min);
            max = _mm512_max_pd(v, max);
            const __mmask8 zero = _mm512_cmp_pd_mask(v, _mm512_setzero_pd(), _CMP_EQ_OQ);
            zeros = _mm512_mask_sub_epi64(zeros, zero, zeros, _mm512_set1_epi64(-1));
        }
        _mm512_storeu_pd(into->d1 + l, d1);
        _mm512_storeu_pd(into->d2 + l, d2);
        _mm512_storeu_pd(into->d3 + l, d3);
        _mm512_storeu_pd(into->d4 + l, d4);
        _mm512_storeu_pd(into->min + l, min);
        _mm512_storeu_pd(into->max + l, max);
        into->zeros += (uint64_t)_mm512_reduce_add_epi64(zeros);
    }
}

AVX512 INLINE void bins_avx512(const void *x, size_t i, bool wide, double base, double scale, uint16_t *bin)
{
    for (unsigned l = 0; l < 16; l += 8) {
        const __m512d at = (load8(x, i + l, wide) - _mm512_set1_pd(base)) * _mm512_set1_pd(scale);
        const __mmask8 least = _mm512_cmp_pd_mask(at, _mm512_set1_pd(1), _CMP_GE_OQ);
        const __m256i bins = _mm512_maskz_cvttpd_epi32(least, _mm512_min_pd(_mm512_set1_pd(APR_BINS - 1), at));
        _mm_storeu_si128((__m128i *)(bin + l), _mm256_cvtepi32_epi16(bins));
    }
}

MOMENTS(AVX2, float_avx2, float, false, lanes_avx2, apr_moments_scalar)
MOMENTS(AVX2, double_avx2, double, true, lanes_avx2, apr_moments_wide_scalar)
MOMENTS(AVX512, float_avx512, float, false, lanes_avx512, apr_moments_scalar)
MOMENTS(AVX512, double_avx512, double, true, lanes_avx512, apr_moments_wide_scalar)
BINS(AVX2, float_bins_avx2, float, false, bins_avx2, apr_bins_scalar)
BINS(AVX2, double_bins_avx2, double, true, bins_avx2, apr_bins_wide_scalar)
BINS(AVX512, float_bins_avx512, float, false, bins_avx512, apr_bins_scalar)
BINS(AVX512, double_bins_avx512, double, true, bins_avx512, apr_bins_wide_scalar)

void apr_moments_x86(struct apr_kernels *k, enum apr_isa isa)
{
    k->moments = isa == APR_AVX512 ? float_avx512 : float_avx2;
    k->moments_wide = isa == APR_AVX512 ? double_avx512 : double_avx2;
    k->bins = isa == APR_AVX512 ? float_bins_avx512 : float_bins_avx2;
    k->bins_wide = isa == APR_AVX512 ? double_bins_avx512 : double_bins_avx2;
}
#endif
