#ifdef __x86_64__
#include "values/kernels/x86/avx2.h"

AVX2 static void q4_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32)
        put32(_mm256_sub_epi8(nibbles(in + 2), _mm256_set1_epi8(8)), half_everywhere(in), out);
}

AVX2 static void q4_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 20, out += 32)
        put32_shifted(nibbles(in + 4), half_everywhere(in), half_everywhere(in + 2), out);
}

/* 32 nibbles, and 16 more where the bit of that number is set. */
AVX2 INLINE __m256i fives(const unsigned char *q, const unsigned char *high)
{
    const __m256i eight_times = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    const __m256i spread = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)apr_load32(high)), eight_times), bit);
    return _mm256_or_si256(nibbles(q), _mm256_and_si256(_mm256_cmpeq_epi8(spread, bit), _mm256_set1_epi8(16)));
}

AVX2 static void q5_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 22, out += 32)
        put32(_mm256_sub_epi8(fives(in + 6, in + 2), _mm256_set1_epi8(16)), half_everywhere(in), out);
}

AVX2 static void q5_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 24, out += 32)
        put32_shifted(fives(in + 8, in + 4), half_everywhere(in), half_everywhere(in + 2), out);
}

AVX2 static void q8_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 34, out += 32)
        put32(load32(in + 2), half_everywhere(in), out);
}

AVX2 static void q8_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 36, out += 32)
        put32(load32(in + 4), half_everywhere(in), out);
}

void apr_legacy_x86(struct apr_kernels *k)
{
    k->decode[APR_Q4_0] = q4_0;
    k->decode[APR_Q4_1] = q4_1;
    k->decode[APR_Q5_0] = q5_0;
    k->decode[APR_Q5_1] = q5_1;
    k->decode[APR_Q8_0] = q8_0;
    k->decode[APR_Q8_1] = q8_1;
}
#endif
