#ifdef __x86_64__
#include "values/kernels/x86/avx2.h"

/* 32 codes of two bits, `right` bits from the right end of each byte. */
AVX2 INLINE __m256i plane(__m256i q, int right) { return _mm256_and_si256(_mm256_srli_epi16(q, right), _mm256_set1_epi8(3)); }

AVX2 INLINE void put_pair(__m256i codes, const float *scale, const float *shift, float *out)
{
    put16_shifted(_mm256_castsi256_si128(codes), _mm256_set1_ps(scale[0]), _mm256_set1_ps(shift[0]), out);
    put16_shifted(_mm256_extracti128_si256(codes, 1), _mm256_set1_ps(scale[1]), _mm256_set1_ps(shift[1]), out + 16);
}

AVX2 static void q2_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 84) {
        const __m128i both = load16(in), low = _mm_set1_epi8(15);
        float scale[16], shift[16];
        put16(_mm_and_si128(both, low), half_everywhere(in + 80), scale);
        put16(_mm_and_si128(_mm_srli_epi16(both, 4), low), -half_everywhere(in + 82), shift);
        for (unsigned j = 0; j < 16; j += 8, out += 128) {
            const __m256i q = load32(in + 16 + 4 * j);
            put_pair(plane(q, 0), scale + j, shift + j, out);
            put_pair(plane(q, 2), scale + j + 2, shift + j + 2, out + 32);
            put_pair(plane(q, 4), scale + j + 4, shift + j + 4, out + 64);
            put_pair(plane(q, 6), scale + j + 6, shift + j + 6, out + 96);
        }
    }
}

AVX2 INLINE void put_two16(__m256i codes, const float *scale, float *out)
{
    put16(_mm256_castsi256_si128(codes), _mm256_set1_ps(scale[0]), out);
    put16(_mm256_extracti128_si256(codes, 1), _mm256_set1_ps(scale[1]), out + 16);
}

/* Two bits of q, less 4 where the bit of `high` is clear. */
AVX2 INLINE __m256i third_bits(__m256i q, int right, __m256i high, unsigned bit)
{
    const __m256i mask = _mm256_set1_epi8((char)(1u << bit));
    const __m256i clear = _mm256_cmpeq_epi8(_mm256_and_si256(high, mask), _mm256_setzero_si256());
    return _mm256_sub_epi8(plane(q, right), _mm256_and_si256(clear, _mm256_set1_epi8(4)));
}

AVX2 static void q3_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 110) {
        const __m256i high = load32(in);
        float scale[16];
        put16(q3_scales(in + 96), half_everywhere(in + 108), scale);
        for (unsigned j = 0; j < 16; j += 8, out += 128) {
            const __m256i q = load32(in + 32 + 4 * j);
            put_two16(third_bits(q, 0, high, j / 2), scale + j, out);
            put_two16(third_bits(q, 2, high, j / 2 + 1), scale + j + 2, out + 32);
            put_two16(third_bits(q, 4, high, j / 2 + 2), scale + j + 4, out + 64);
            put_two16(third_bits(q, 6, high, j / 2 + 3), scale + j + 6, out + 96);
        }
    }
}

AVX2 static void q4_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 144) {
        float scale[8], shift[8];
        six_bits(in, scale, shift);
        for (unsigned j = 0; j < 8; j += 2, out += 64) {
            const __m256i q = load32(in + 16 + 16 * j);
            put32_shifted(nibbles_of32(q, 0), _mm256_set1_ps(scale[j]), _mm256_set1_ps(shift[j]), out);
            put32_shifted(nibbles_of32(q, 4), _mm256_set1_ps(scale[j + 1]), _mm256_set1_ps(shift[j + 1]), out + 32);
        }
    }
}

/* 16 where bit j of a byte is set. */
AVX2 INLINE __m256i fifth_bits(__m256i high, unsigned j)
{
    return _mm256_slli_epi16(_mm256_and_si256(_mm256_srl_epi16(high, _mm_cvtsi32_si128((int)j)), _mm256_set1_epi8(1)), 4);
}

AVX2 static void q5_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 176) {
        const __m256i high = load32(in + 16);
        float scale[8], shift[8];
        six_bits(in, scale, shift);
        for (unsigned j = 0; j < 8; j += 2, out += 64) {
            const __m256i q = load32(in + 48 + 16 * j);
            const __m256i even = _mm256_or_si256(nibbles_of32(q, 0), fifth_bits(high, j));
            const __m256i odd = _mm256_or_si256(nibbles_of32(q, 4), fifth_bits(high, j + 1));
            put32_shifted(even, _mm256_set1_ps(scale[j]), _mm256_set1_ps(shift[j]), out);
            put32_shifted(odd, _mm256_set1_ps(scale[j + 1]), _mm256_set1_ps(shift[j + 1]), out + 32);
        }
    }
}

AVX2 static void q6_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 210) {
        float scale[16];
        put16(load16(in + 192), half_everywhere(in + 208), scale);
        for (unsigned j = 0; j < 16; j += 8, out += 128) {
            const __m256i even = load32(in + 8 * j), odd = load32(in + 8 * j + 32), high = load32(in + 128 + 4 * j);
            put_two16(sixes(nibbles_of32(even, 0), high), scale + j, out);
            put_two16(sixes(nibbles_of32(odd, 0), _mm256_srli_epi16(high, 2)), scale + j + 2, out + 32);
            put_two16(sixes(nibbles_of32(even, 4), _mm256_srli_epi16(high, 4)), scale + j + 4, out + 64);
            put_two16(sixes(nibbles_of32(odd, 4), _mm256_srli_epi16(high, 6)), scale + j + 6, out + 96);
        }
    }
}

AVX2 static void q8_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 292) {
        const __m256 d = _mm256_set1_ps(apr_float_of_bits(apr_load32(in)));
        for (unsigned i = 0; i < 256; i += 32, out += 32)
            put32(load32(in + 4 + i), d, out);
    }
}

void apr_k_x86(struct apr_kernels *k)
{
    k->decode[APR_Q2_K] = q2_k;
    k->decode[APR_Q3_K] = q3_k;
    k->decode[APR_Q4_K] = q4_k;
    k->decode[APR_Q5_K] = q5_k;
    k->decode[APR_Q6_K] = q6_k;
    k->decode[APR_Q8_K] = q8_k;
}
#endif
