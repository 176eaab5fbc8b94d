#ifdef __x86_64__
#include <immintrin.h>

#include "../runs.h"

#define AVX2   __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512dq")))

AVX2 INLINE __m256d load4(const void *from, size_t i, bool wide)
{
    return wide ? _mm256_loadu_pd((const double *)from + i) : _mm256_cvtps_pd(_mm_loadu_ps((const float *)from + i));
}

AVX2 INLINE __m256d add_product4(__m256d sum, __m256d x, __m256d y, bool wide)
{
    return wide ? _mm256_add_pd(sum, _mm256_mul_pd(x, y)) : _mm256_fmadd_pd(x, y, sum);
}

AVX2 INLINE uint64_t total4(__m256i counts)
{
    uint64_t lane[4];
    _mm256_storeu_si256((__m256i *)lane, counts);
    return lane[0] + lane[1] + lane[2] + lane[3];
}

/* Lanes l .. l + 3 of a run: few enough for all sums to stay in registers. */
AVX2 INLINE void four_lanes(const void *a, const void *b, size_t n, bool wide, bool loud, unsigned l,
                             struct apr_difference *into, struct found *f)
{
    __m256d ab = _mm256_loadu_pd(into->ab + l), aa = _mm256_loadu_pd(into->aa + l), bb = _mm256_loadu_pd(into->bb + l);
    __m256d sum = _mm256_loadu_pd(into->d + l), dd = _mm256_loadu_pd(into->dd + l), most = _mm256_setzero_pd();
    __m256i zero = _mm256_setzero_si256(), below_small = zero, below_medium = zero;
    for (size_t i = l; i < n; i += APR_LANES) {
        const __m256d x = load4(a, i, wide), y = load4(b, i, wide), d = _mm256_andnot_pd(_mm256_set1_pd(-0.0), x - y);
        ab = add_product4(ab, x, y, wide);
        aa = add_product4(aa, x, x, wide);
        bb = add_product4(bb, y, y, wide);
        sum += d;
        dd += d * d;
        most = _mm256_max_pd(d, most);
        zero -= _mm256_castpd_si256(_mm256_cmp_pd(d, _mm256_setzero_pd(), _CMP_EQ_OQ));
        if (loud) {
            below_small -= _mm256_castpd_si256(_mm256_cmp_pd(d, _mm256_set1_pd(APR_SMALL), _CMP_LT_OQ));
            below_medium -= _mm256_castpd_si256(_mm256_cmp_pd(d, _mm256_set1_pd(APR_MEDIUM), _CMP_LT_OQ));
        }
    }
    _mm256_storeu_pd(into->ab + l, ab);
    _mm256_storeu_pd(into->aa + l, aa);
    _mm256_storeu_pd(into->bb + l, bb);
    _mm256_storeu_pd(into->d + l, sum);
    _mm256_storeu_pd(into->dd + l, dd);
    _mm256_storeu_pd(f->most + l, most);
    f->zero += total4(zero);
    f->below_small += total4(below_small);
    f->below_medium += total4(below_medium);
}

AVX512 INLINE __m512d load8(const void *from, size_t i, bool wide)
{
    return wide ? _mm512_loadu_pd((const double *)from + i) : _mm512_cvtps_pd(_mm256_loadu_ps((const float *)from + i));
}

AVX512 INLINE __m512d add_product8(__m512d sum, __m512d x, __m512d y, bool wide)
{
    return wide ? _mm512_add_pd(sum, _mm512_mul_pd(x, y)) : _mm512_fmadd_pd(x, y, sum);
}

AVX512 INLINE __m512i count8(__m512i counts, __mmask8 which)
{
    return _mm512_mask_sub_epi64(counts, which, counts, _mm512_set1_epi64(-1));
}

/* Lanes l .. l + 7 of a run. */
AVX512 INLINE void eight_lanes(const void *a, const void *b, size_t n, bool wide, bool loud, unsigned l,
                                struct apr_difference *into, struct found *f)
{
    __m512d ab = _mm512_loadu_pd(into->ab + l), aa = _mm512_loadu_pd(into->aa + l), bb = _mm512_loadu_pd(into->bb + l);
    __m512d sum = _mm512_loadu_pd(into->d + l), dd = _mm512_loadu_pd(into->dd + l), most = _mm512_setzero_pd();
    __m512i zero = _mm512_setzero_si512(), below_small = zero, below_medium = zero;
    for (size_t i = l; i < n; i += APR_LANES) {
        const __m512d x = load8(a, i, wide), y = load8(b, i, wide), d = _mm512_abs_pd(x - y);
        ab = add_product8(ab, x, y, wide);
        aa = add_product8(aa, x, x, wide);
        bb = add_product8(bb, y, y, wide);
        sum += d;
        dd += d * d;
        most = _mm512_max_pd(d, most);
        zero = count8(zero, _mm512_cmp_pd_mask(d, _mm512_setzero_pd(), _CMP_EQ_OQ));
        if (loud) {
            below_small = count8(below_small, _mm512_cmp_pd_mask(d, _mm512_set1_pd(APR_SMALL), _CMP_LT_OQ));
            below_medium = count8(below_medium, _mm512_cmp_pd_mask(d, _mm512_set1_pd(APR_MEDIUM), _CMP_LT_OQ));
        }
    }
    _mm512_storeu_pd(into->ab + l, ab);
    _mm512_storeu_pd(into->aa + l, aa);
    _mm512_storeu_pd(into->bb + l, bb);
    _mm512_storeu_pd(into->d + l, sum);
    _mm512_storeu_pd(into->dd + l, dd);
    _mm512_storeu_pd(f->most + l, most);
    f->zero += (uint64_t)_mm512_reduce_add_epi64(zero);
    f->below_small += (uint64_t)_mm512_reduce_add_epi64(below_small);
    f->below_medium += (uint64_t)_mm512_reduce_add_epi64(below_medium);
}

AVX2 INLINE bool run_avx2(const void *a, const void *b, size_t n, bool wide, bool loud, uint64_t first, struct apr_difference *into)
{
    const struct apr_difference before = *into;
    struct found f = { 0 };
    for (unsigned l = 0; l < APR_LANES; l += 4)
        four_lanes(a, b, n, wide, loud, l, into, &f);
    return close_run(a, b, n, wide, loud, first, &f, &before, into);
}

AVX512 INLINE bool run_avx512(const void *a, const void *b, size_t n, bool wide, bool loud, uint64_t first, struct apr_difference *into)
{
    const struct apr_difference before = *into;
    struct found f = { 0 };
    for (unsigned l = 0; l < APR_LANES; l += 8)
        eight_lanes(a, b, n, wide, loud, l, into, &f);
    return close_run(a, b, n, wide, loud, first, &f, &before, into);
}

DIFFERENCE(AVX2, float_avx2, float, false, run_avx2, apr_difference_scalar)
DIFFERENCE(AVX2, double_avx2, double, true, run_avx2, apr_difference_wide_scalar)
DIFFERENCE(AVX512, float_avx512, float, false, run_avx512, apr_difference_scalar)
DIFFERENCE(AVX512, double_avx512, double, true, run_avx512, apr_difference_wide_scalar)

void apr_difference_x86(struct apr_kernels *k, enum apr_isa isa)
{
    k->difference = isa == APR_AVX512 ? float_avx512 : float_avx2;
    k->difference_wide = isa == APR_AVX512 ? double_avx512 : double_avx2;
}
#endif
