#ifdef __x86_64__
#include "values/kernels/x86/avx2.h"

AVX2 static void apr_q4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32) {
        const unsigned exponent = apr_load16(in) >> 10 & 31;
        const __m256 scale = exponent == 0 || exponent == 31 ? _mm256_setzero_ps() : half_everywhere(in);
        const __m256i codes = _mm256_sub_epi8(nibbles(in + 2), _mm256_set1_epi8(8));
        const __m128i even = _mm256_castsi256_si128(codes), odd = _mm256_extracti128_si256(codes, 1);
        put16(_mm_unpacklo_epi8(even, odd), scale, out);
        put16(_mm_unpackhi_epi8(even, odd), scale, out + 16);
    }
}

AVX2 static void apr_q8(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    if (n == 0)
        return;
    const float scale = apr_float_of_bits(apr_load32(head));
    for (; n >= 32; n -= 32, in += 32, out += 32)
        put32(load32(in), _mm256_set1_ps(scale), out);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(int8_t)in[i] * scale;
}

void apr_apr_x86(struct apr_kernels *k)
{
    k->decode[APR_APR_Q4] = apr_q4;
    k->decode[APR_APR_Q8] = apr_q8;
}
#endif
