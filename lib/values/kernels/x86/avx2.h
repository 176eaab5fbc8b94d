/* What the AVX2 decoders share. They serve AVX-512 as well: storing floats, not working them out, is what takes the time. */
#ifndef APR_KERNELS_X86_AVX2_H
#define APR_KERNELS_X86_AVX2_H

#include <immintrin.h>

#include "values/kernels/init.h"

#define AVX2 __attribute__((target("avx2,f16c")))

AVX2 INLINE __m128i load16(const unsigned char *p) { return _mm_loadu_si128((const __m128i *)p); }
AVX2 INLINE __m256i load32(const unsigned char *p) { return _mm256_loadu_si256((const __m256i *)p); }
AVX2 INLINE __m128i load8(const unsigned char *p) { return _mm_loadl_epi64((const __m128i *)p); }
AVX2 INLINE __m256 half_everywhere(const unsigned char *p) { return _mm256_set1_ps(_cvtsh_ss(apr_load16(p))); }

/* 8 signed bytes, the lowest ones, as floats. */
AVX2 INLINE __m256 floats_of_i8(__m128i codes) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)); }

/* 16 or 32 signed bytes times scale. */
AVX2 INLINE void put16(__m128i codes, __m256 scale, float *out)
{
    _mm256_storeu_ps(out, floats_of_i8(codes) * scale);
    _mm256_storeu_ps(out + 8, floats_of_i8(_mm_srli_si128(codes, 8)) * scale);
}

AVX2 INLINE void put32(__m256i codes, __m256 scale, float *out)
{
    put16(_mm256_castsi256_si128(codes), scale, out);
    put16(_mm256_extracti128_si256(codes, 1), scale, out + 16);
}

/* The same plus shift. */
AVX2 INLINE void put16_shifted(__m128i codes, __m256 scale, __m256 shift, float *out)
{
    _mm256_storeu_ps(out, floats_of_i8(codes) * scale + shift);
    _mm256_storeu_ps(out + 8, floats_of_i8(_mm_srli_si128(codes, 8)) * scale + shift);
}

AVX2 INLINE void put32_shifted(__m256i codes, __m256 scale, __m256 shift, float *out)
{
    put16_shifted(_mm256_castsi256_si128(codes), scale, shift, out);
    put16_shifted(_mm256_extracti128_si256(codes, 1), scale, shift, out + 16);
}

/* The nibbles of 16 bytes: low ones, then high ones. */
AVX2 INLINE __m256i nibbles(const unsigned char *q)
{
    const __m128i both = load16(q);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15));
}

/* The low or the high nibbles of 32 bytes; `right` is 0 or 4. */
AVX2 INLINE __m256i nibbles_of32(__m256i both, int right)
{
    return _mm256_and_si256(_mm256_srli_epi16(both, right), _mm256_set1_epi8(15));
}

/* d and dmin times the eight pairs of 6-bit scales and mins in 12 bytes, as scalar six_bits() finds them; the mins turned negative,
 * since a - b and a + -b are the same. */
AVX2 INLINE void six_bits(const unsigned char *in, float scale[8], float shift[8])
{
    const uint32_t low = 0x0f0f0f0f, two = 0x03030303, six = 0x3f3f3f3f;
    const uint32_t a = apr_load32(in + 4), b = apr_load32(in + 8), c = apr_load32(in + 12);
    const uint32_t scales = (c & low) | (a >> 6 & two) << 4, mins = (c >> 4 & low) | (b >> 6 & two) << 4;
    _mm256_storeu_ps(scale, half_everywhere(in) * floats_of_i8(_mm_set_epi32(0, 0, (int)scales, (int)(a & six))));
    _mm256_storeu_ps(shift, -half_everywhere(in + 2) * floats_of_i8(_mm_set_epi32(0, 0, (int)mins, (int)(b & six))));
}

/* Q3_K's sixteen 6-bit scales, less 32. */
AVX2 INLINE __m128i q3_scales(const unsigned char *b)
{
    const __m128i eight = load8(b), low = _mm_and_si128(_mm_unpacklo_epi64(eight, _mm_srli_epi16(eight, 4)), _mm_set1_epi8(15));
    const __m128i pairs = _mm_srlv_epi32(_mm_set1_epi32((int)apr_load32(b + 8)), _mm_set_epi32(6, 4, 2, 0));
    const __m128i high = _mm_slli_epi16(_mm_and_si128(pairs, _mm_set1_epi8(3)), 4);
    return _mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32));
}

/* Six bits of which the upper two are at the right end of `high`, less 32. */
AVX2 INLINE __m256i sixes(__m256i low, __m256i high)
{
    const __m256i upper = _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(3)), 4);
    return _mm256_sub_epi8(_mm256_or_si256(low, upper), _mm256_set1_epi8(32));
}

#endif
