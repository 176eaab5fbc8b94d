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

LANE doubles add_eight(__m256 w, const double *x, doubles sum) { return _mm512_fmadd_pd(_mm512_cvtps_pd(w), _mm512_loadu_pd(x), sum); }

LANE void add_floats(__m256 low, __m256 high, const double *x, doubles sum[PER_SUM])
{
    sum[0] = add_eight(low, x, sum[0]);
    sum[1] = add_eight(high, x + 8, sum[1]);
}

#include "values/kernels/x86/dot_lanes.h"

/* Of blocks there is nothing left over. */
#define BLOCK_DOT(name, block, bytes, adds) DOT(name, block, bytes, adds, no_more)
LANE void no_more(const unsigned char *in, const double *x, size_t n, doubles sum[PER_SUM]) { (void)in, (void)x, (void)n, (void)sum; }

LANE __m256 half_scale(const unsigned char *p) { return _mm256_cvtph_ps(_mm_set1_epi16((short)apr_load16(p))); }

/* Signed bytes times a scale: 16 of them, or twice 16. */
LANE void add_signed16(__m128i codes, __m256 scale, const double *x, doubles sum[PER_SUM])
{
    add_floats(floats_of_i8(codes) * scale, floats_of_i8(_mm_srli_si128(codes, 8)) * scale, x, sum);
}

LANE void add_signed32(__m256i codes, __m256 first, __m256 second, const double *x, doubles sum[PER_SUM])
{
    add_signed16(_mm256_castsi256_si128(codes), first, x, sum);
    add_signed16(_mm256_extracti128_si256(codes, 1), second, x + 16, sum);
}

/* The sixteen values that codes of four bits have. */
struct sixteen {
    __m256 low, high;
};
LANE struct sixteen values_of(__m256 scale, __m256 shift)
{
    const __m256 low = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), high = _mm256_setr_ps(8, 9, 10, 11, 12, 13, 14, 15);
    return (struct sixteen){ low * scale + shift, high * scale + shift };
}

/* The values of 8 codes, in the right four bits of 32 each. */
LANE __m256 look_up(__m256i codes, const struct sixteen *v) { return _mm256_permutex2var_ps(v->low, codes, v->high); }

/* 16 bytes of two codes each: values of the left ones belong to what is `apart` further on. */
LANE void add_nibbles16(const unsigned char *in, const struct sixteen *right, const struct sixteen *left, const double *x, unsigned apart,
                        doubles sum[PER_SUM])
{
    const __m256i first = _mm256_cvtepu8_epi32(load8(in)), second = _mm256_cvtepu8_epi32(load8(in + 8));
    add_floats(look_up(first, right), look_up(second, right), x, sum);
    add_floats(look_up(_mm256_srli_epi32(first, 4), left), look_up(_mm256_srli_epi32(second, 4), left), x + apart, sum);
}

LANE void q4_0(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const __m256 scale = half_scale(in);
    const __m256 low = _mm256_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1), high = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
    const struct sixteen v = { low * scale, high * scale };
    add_nibbles16(in + 2, &v, &v, x, 16, sum);
}

LANE void q5_0(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const __m256 scale = half_scale(in);
    const __m256i low = nibbles(in + 6); /* 16 less where the fifth bit is clear */
    add_signed32(_mm256_mask_sub_epi8(low, ~apr_load32(in + 2), low, _mm256_set1_epi8(16)), scale, scale, x, sum);
}

LANE void q8_0(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const __m256 scale = half_scale(in);
    UNROLL
    for (unsigned i = 0; i < 4; i++)
        sum[i % 2] = add_eight(floats_of_i8(load8(in + 2 + 8 * i)) * scale, x + 8 * i, sum[i % 2]);
}

LANE void q4_k(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    float scale[8], shift[8];
    six_bits(in, scale, shift);
    UNROLL
    for (unsigned j = 0; j < 8; j += 2, x += 64) {
        const struct sixteen right = values_of(_mm256_set1_ps(scale[j]), _mm256_set1_ps(shift[j]));
        const struct sixteen left = values_of(_mm256_set1_ps(scale[j + 1]), _mm256_set1_ps(shift[j + 1]));
        __m256i codes[4];
        UNROLL
        for (unsigned i = 0; i < 4; i++) {
            codes[i] = _mm256_cvtepu8_epi32(load8(in + 16 + 16 * j + 8 * i));
            sum[i % 2] = add_eight(look_up(codes[i], &right), x + 8 * i, sum[i % 2]);
        }
        UNROLL
        for (unsigned i = 0; i < 4; i++)
            sum[i % 2] = add_eight(look_up(_mm256_srli_epi32(codes[i], 4), &left), x + 32 + 8 * i, sum[i % 2]);
    }
}

LANE void add_two16(__m256i codes, const float *scale, const double *x, doubles sum[PER_SUM])
{
    add_signed32(codes, _mm256_set1_ps(scale[0]), _mm256_set1_ps(scale[1]), x, sum);
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

/* 32 codes times scale, plus shift. */
LANE void add_shifted32(__m256i codes, float scale, float shift, const double *x, doubles sum[PER_SUM])
{
    const __m256 by = _mm256_set1_ps(scale), plus = _mm256_set1_ps(shift);
    const __m128i half[2] = { _mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1) };
    UNROLL
    for (unsigned i = 0; i < 2; i++)
        add_floats(floats_of_i8(half[i]) * by + plus, floats_of_i8(_mm_srli_si128(half[i], 8)) * by + plus, x + 16 * i, sum);
}

LANE void q5_k(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const __m256i fifth = _mm256_set1_epi8(16);
    __m256i high = load32(in + 16);
    float scale[8], shift[8];
    six_bits(in, scale, shift);
    UNROLL
    for (unsigned j = 0; j < 8; j += 2, x += 64, high = _mm256_srli_epi16(high, 2)) {
        const __m256i q = load32(in + 48 + 16 * j);
        const __m256i even = _mm256_or_si256(nibbles_of32(q, 0), _mm256_and_si256(_mm256_slli_epi16(high, 4), fifth));
        const __m256i odd = _mm256_or_si256(nibbles_of32(q, 4), _mm256_and_si256(_mm256_slli_epi16(high, 3), fifth));
        add_shifted32(even, scale[j], shift[j], x, sum);
        add_shifted32(odd, scale[j + 1], shift[j + 1], x + 32, sum);
    }
}

BLOCK_DOT(q4_0_dot, 32, 18, q4_0)
BLOCK_DOT(q5_0_dot, 32, 22, q5_0)
BLOCK_DOT(q8_0_dot, 32, 34, q8_0)
BLOCK_DOT(q6_k_dot, 256, 210, q6_k)
BLOCK_DOT(q4_k_dot, 256, 144, q4_k)
BLOCK_DOT(q5_k_dot, 256, 176, q5_k)

void apr_dot_avx512(struct apr_kernels *k)
{
    set_plain_dots(k);
    k->dot[APR_Q4_0] = q4_0_dot;
    k->dot[APR_Q5_0] = q5_0_dot;
    k->dot[APR_Q8_0] = q8_0_dot;
    k->dot[APR_Q6_K] = q6_k_dot;
    k->dot[APR_Q4_K] = q4_k_dot;
    k->dot[APR_Q5_K] = q5_k_dot;
}
#endif
