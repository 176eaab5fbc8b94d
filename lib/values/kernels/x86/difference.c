#ifdef __x86_64__
#include <immintrin.h>

#include "values/kernels/runs.h"

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
AVX2 INLINE void four_lanes(const void *a, const void *b, size_t n, bool wide, bool far, unsigned l,
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
        if (far) {
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
AVX512 INLINE void eight_lanes(const void *a, const void *b, size_t n, bool wide, bool far, unsigned l,
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
        if (far) {
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

AVX2 INLINE bool run_avx2(const void *a, const void *b, size_t n, bool wide, bool far, uint64_t first, struct apr_difference *into)
{
    const struct apr_difference before = *into;
    struct found f = { 0 };
    for (unsigned l = 0; l < APR_LANES; l += 4)
        four_lanes(a, b, n, wide, far, l, into, &f);
    return close_run(a, b, n, wide, far, first, &f, &before, into);
}

AVX512 INLINE bool run_avx512(const void *a, const void *b, size_t n, bool wide, bool far, uint64_t first, struct apr_difference *into)
{
    const struct apr_difference before = *into;
    struct found f = { 0 };
    for (unsigned l = 0; l < APR_LANES; l += 8)
        eight_lanes(a, b, n, wide, far, l, into, &f);
    return close_run(a, b, n, wide, far, first, &f, &before, into);
}

DIFFERENCE(AVX2, float_avx2, float, false, run_avx2, apr_difference_scalar)
DIFFERENCE(AVX2, double_avx2, double, true, run_avx2, apr_difference_wide_scalar)
/* Floats, all 16 lanes at once. Counts and the largest difference are taken from differences rounded to f32: rounding keeps order, so
 * one that is not the threshold itself, rounded, lies on the same side as the exact one; a run that meets the threshold itself is left
 * to the scalar body. The sums are in double as everywhere. */
AVX512 INLINE bool float_run_avx512(const float *a, const float *b, size_t n, bool far, uint64_t first, struct apr_difference *into)
{
    __m512d ab0 = _mm512_loadu_pd(into->ab), ab1 = _mm512_loadu_pd(into->ab + 8), aa0 = _mm512_loadu_pd(into->aa), aa1 = _mm512_loadu_pd(into->aa + 8);
    __m512d bb0 = _mm512_loadu_pd(into->bb), bb1 = _mm512_loadu_pd(into->bb + 8), sum0 = _mm512_loadu_pd(into->d), sum1 = _mm512_loadu_pd(into->d + 8);
    __m512d dd0 = _mm512_loadu_pd(into->dd), dd1 = _mm512_loadu_pd(into->dd + 8);
    const __m512 small = _mm512_set1_ps((float)APR_SMALL), medium = _mm512_set1_ps((float)APR_MEDIUM);
    const __m512i one = _mm512_set1_epi32(1);
    __m512i nzero = _mm512_setzero_si512(), nsmall = nzero, nmedium = nzero;
    __m512 most = _mm512_setzero_ps();
    __mmask16 clear = 0xFFFF, clear_too = 0xFFFF;
    for (size_t i = 0; i < n; i += APR_LANES) {
        const __m512 rounded = _mm512_abs_ps(_mm512_loadu_ps(a + i) - _mm512_loadu_ps(b + i));
        const __m512d x0 = _mm512_cvtps_pd(_mm256_loadu_ps(a + i)), y0 = _mm512_cvtps_pd(_mm256_loadu_ps(b + i)), d0 = _mm512_abs_pd(x0 - y0);
        const __m512d x1 = _mm512_cvtps_pd(_mm256_loadu_ps(a + i + 8)), y1 = _mm512_cvtps_pd(_mm256_loadu_ps(b + i + 8)), d1 = _mm512_abs_pd(x1 - y1);
        most = _mm512_max_ps(rounded, most);
        nzero = _mm512_mask_add_epi32(nzero, _mm512_cmp_ps_mask(rounded, _mm512_setzero_ps(), _CMP_EQ_OQ), nzero, one);
        if (far) {
            nsmall = _mm512_mask_add_epi32(nsmall, _mm512_cmp_ps_mask(rounded, small, _CMP_LT_OQ), nsmall, one);
            nmedium = _mm512_mask_add_epi32(nmedium, _mm512_cmp_ps_mask(rounded, medium, _CMP_LT_OQ), nmedium, one);
            clear = _mm512_mask_cmp_ps_mask(clear, rounded, small, _CMP_NEQ_OQ);
            clear_too = _mm512_mask_cmp_ps_mask(clear_too, rounded, medium, _CMP_NEQ_OQ);
        }
        ab0 = _mm512_fmadd_pd(x0, y0, ab0);
        ab1 = _mm512_fmadd_pd(x1, y1, ab1);
        aa0 = _mm512_fmadd_pd(x0, x0, aa0);
        aa1 = _mm512_fmadd_pd(x1, x1, aa1);
        bb0 = _mm512_fmadd_pd(y0, y0, bb0);
        bb1 = _mm512_fmadd_pd(y1, y1, bb1);
        sum0 += d0;
        sum1 += d1;
        dd0 += d0 * d0;
        dd1 += d1 * d1;
    }
    const __m512d limit = _mm512_set1_pd(DBL_MAX);
    const __mmask8 finite = _mm512_cmp_pd_mask(aa0, limit, _CMP_LE_OQ) & _mm512_cmp_pd_mask(aa1, limit, _CMP_LE_OQ) &
                            _mm512_cmp_pd_mask(bb0, limit, _CMP_LE_OQ) & _mm512_cmp_pd_mask(bb1, limit, _CMP_LE_OQ);
    const float largest = _mm512_reduce_max_ps(most);
    if (finite != 0xFF || (clear & clear_too) != 0xFFFF || (!far && largest >= (float)APR_SMALL))
        return false;
    _mm512_storeu_pd(into->ab, ab0), _mm512_storeu_pd(into->ab + 8, ab1), _mm512_storeu_pd(into->aa, aa0), _mm512_storeu_pd(into->aa + 8, aa1);
    _mm512_storeu_pd(into->bb, bb0), _mm512_storeu_pd(into->bb + 8, bb1), _mm512_storeu_pd(into->d, sum0), _mm512_storeu_pd(into->d + 8, sum1);
    _mm512_storeu_pd(into->dd, dd0), _mm512_storeu_pd(into->dd + 8, dd1);
    const uint64_t zero = (uint64_t)_mm512_reduce_add_epi32(nzero), below_small = far ? (uint64_t)_mm512_reduce_add_epi32(nsmall) : n;
    const uint64_t below_medium = far ? (uint64_t)_mm512_reduce_add_epi32(nmedium) : n;
    into->identical += zero;
    into->small += below_small - zero;
    into->medium += below_medium - below_small;
    into->large += n - below_medium;
    /* several differences may round to the largest: the first of the really largest is sought among those */
    for (size_t i = 0; largest > 0 && largest >= (float)into->max && i < n; i += APR_LANES) {
        const __m512 rounded = _mm512_abs_ps(_mm512_loadu_ps(a + i) - _mm512_loadu_ps(b + i));
        for (unsigned which = _mm512_cmp_ps_mask(rounded, _mm512_set1_ps(largest), _CMP_EQ_OQ); which != 0; which &= which - 1) {
            const size_t at = i + (size_t)__builtin_ctz(which);
            const double d = difference_at(a, b, at, false);
            if (d > into->max) {
                into->max = d;
                into->max_at = first + at;
            }
        }
    }
    return true;
}

AVX512 static void float_avx512(const float *a, const float *b, size_t n, uint64_t first, struct apr_difference *into)
{
    for (size_t now; n > 0; a += now, b += now, n -= now, first += now) {
        const size_t whole = n - n % APR_LANES;
        now = whole == 0 ? n : whole < RUN ? whole : RUN;
        const bool quiet = whole > 0 && into->max < APR_SMALL && float_run_avx512(a, b, now, false, first, into);
        if (!quiet && !(whole > 0 && float_run_avx512(a, b, now, true, first, into)))
            apr_difference_scalar(a, b, now, first, into);
    }
}

DIFFERENCE(AVX512, double_avx512, double, true, run_avx512, apr_difference_wide_scalar)

WHOLE(whole_avx2, double_avx2)
WHOLE(whole_avx512, double_avx512)

void apr_difference_x86(struct apr_kernels *k, enum apr_isa isa)
{
    k->difference = isa == APR_AVX512 ? float_avx512 : float_avx2;
    k->difference_wide = isa == APR_AVX512 ? double_avx512 : double_avx2;
    k->difference_whole = isa == APR_AVX512 ? whole_avx512 : whole_avx2;
}
#endif
