#ifdef __x86_64__
#include "values/kernels/x86/avx2.h"

#define LEVEL   __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define LANE    LEVEL INLINE
#define PER_SUM 2u

typedef __m512d doubles;

LANE doubles none(void) { return _mm512_setzero_pd(); }

LANE double folded(const doubles sum[PER_SUM])
{
    const __m512d eight = sum[0] + sum[1];
    const __m256d four = _mm512_castpd512_pd256(eight) + _mm512_extractf64x4_pd(eight, 1);
    const __m128d two = _mm256_castpd256_pd128(four) + _mm256_extractf128_pd(four, 1);
    return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

LANE void add_floats(__m256 low, __m256 high, const double *x, doubles sum[PER_SUM])
{
    sum[0] = _mm512_fmadd_pd(_mm512_cvtps_pd(low), _mm512_loadu_pd(x), sum[0]);
    sum[1] = _mm512_fmadd_pd(_mm512_cvtps_pd(high), _mm512_loadu_pd(x + 8), sum[1]);
}

#include "values/kernels/x86/dot_lanes.h"

/* Of blocks there is nothing left over. */
#define BLOCK_DOT(name, block, bytes, adds) DOT(name, block, bytes, adds, no_more)
LANE void no_more(const unsigned char *in, const double *x, size_t n, doubles sum[PER_SUM]) { (void)in, (void)x, (void)n, (void)sum; }

LANE doubles half_scale(const unsigned char *p) { return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_set1_epi16((short)apr_load16(p)))); }

/* Eight signed codes times scale, which a float holds exactly, and so a double. */
LANE doubles add_signed8(__m128i codes, doubles scale, const double *x, doubles sum)
{
    return _mm512_fmadd_pd(_mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(codes)) * scale, _mm512_loadu_pd(x), sum);
}

LANE void add_signed16(__m128i codes, doubles scale, const double *x, doubles sum[PER_SUM])
{
    sum[0] = add_signed8(codes, scale, x, sum[0]);
    sum[1] = add_signed8(_mm_srli_si128(codes, 8), scale, x + 8, sum[1]);
}

LANE void add_signed32(__m256i codes, doubles first, doubles second, const double *x, doubles sum[PER_SUM])
{
    add_signed16(_mm256_castsi256_si128(codes), first, x, sum);
    add_signed16(_mm256_extracti128_si256(codes, 1), second, x + 16, sum);
}

LANE void q4_0(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const doubles scale = half_scale(in);
    add_signed32(_mm256_sub_epi8(nibbles(in + 2), _mm256_set1_epi8(8)), scale, scale, x, sum);
}

LANE void q5_0(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const doubles scale = half_scale(in);
    add_signed32(_mm256_sub_epi8(fives(in + 6, in + 2), _mm256_set1_epi8(16)), scale, scale, x, sum);
}

LANE void q8_0(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const doubles scale = half_scale(in);
    UNROLL
    for (unsigned i = 0; i < 4; i++)
        sum[i % 2] = add_signed8(load8(in + 2 + 8 * i), scale, x + 8 * i, sum[i % 2]);
}

LANE void add_two16(__m256i codes, const float *scale, const double *x, doubles sum[PER_SUM])
{
    add_signed32(codes, _mm512_set1_pd(scale[0]), _mm512_set1_pd(scale[1]), x, sum);
}

LANE void q6_k(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    float scale[16];
    put16(load16(in + 192), half_everywhere(in + 208), scale);
    UNROLL
    for (unsigned j = 0; j < 16; j += 8, x += 128) {
        const __m256i even = load32(in + 8 * j), odd = load32(in + 8 * j + 32), high = load32(in + 128 + 4 * j);
        add_two16(sixes(nibbles_of32(even, 0), high), scale + j, x, sum);
        add_two16(sixes(nibbles_of32(odd, 0), _mm256_srli_epi16(high, 2)), scale + j + 2, x + 32, sum);
        add_two16(sixes(nibbles_of32(even, 4), _mm256_srli_epi16(high, 4)), scale + j + 4, x + 64, sum);
        add_two16(sixes(nibbles_of32(odd, 4), _mm256_srli_epi16(high, 6)), scale + j + 6, x + 96, sum);
    }
}

/* The sixteen values of a run of codes, as doubles: scale * code - shift, rounded to float. */
struct sixteen {
    doubles low, high;
};
LANE struct sixteen values_of(float scale, float shift)
{
    const __m512 code = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 v = code * _mm512_set1_ps(scale) + _mm512_set1_ps(shift);
    return (struct sixteen){ _mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)) };
}

/* The products of eight codes, those in the right four bits of 64. */
LANE doubles add_eight(__m512i codes, const struct sixteen *v, const double *x, doubles sum)
{
    return _mm512_fmadd_pd(_mm512_permutex2var_pd(v->low, codes, v->high), _mm512_loadu_pd(x), sum);
}

LANE void q4_k(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    float scale[8], shift[8];
    six_bits(in, scale, shift);
    UNROLL
    for (unsigned j = 0; j < 8; j += 2, x += 64) {
        const struct sixteen even = values_of(scale[j], shift[j]), odd = values_of(scale[j + 1], shift[j + 1]);
        UNROLL
        for (unsigned i = 0; i < 4; i++) {
            const __m512i codes = _mm512_cvtepu8_epi64(load8(in + 16 + 16 * j + 8 * i));
            sum[i % 2] = add_eight(codes, &even, x + 8 * i, sum[i % 2]);
        }
        UNROLL
        for (unsigned i = 0; i < 4; i++) {
            const __m512i codes = _mm512_srli_epi64(_mm512_cvtepu8_epi64(load8(in + 16 + 16 * j + 8 * i)), 4);
            sum[i % 2] = add_eight(codes, &odd, x + 32 + 8 * i, sum[i % 2]);
        }
    }
}

BLOCK_DOT(q4_0_dot, 32, 18, q4_0)
BLOCK_DOT(q5_0_dot, 32, 22, q5_0)
BLOCK_DOT(q8_0_dot, 32, 34, q8_0)
BLOCK_DOT(q6_k_dot, 256, 210, q6_k)
BLOCK_DOT(q4_k_dot, 256, 144, q4_k)

void apr_dot_avx512(struct apr_kernels *k)
{
    set_plain_dots(k);
    k->dot[APR_Q4_0] = q4_0_dot;
    k->dot[APR_Q5_0] = q5_0_dot;
    k->dot[APR_Q8_0] = q8_0_dot;
    k->dot[APR_Q6_K] = q6_k_dot;
    k->dot[APR_Q4_K] = q4_k_dot;
}
#endif
