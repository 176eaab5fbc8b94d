#ifdef __x86_64__
#include "values/kernels/grids.h"

#include "values/kernels/x86/avx2.h"

/* Codes below 16 become the levels they stand for. */
AVX2 INLINE __m256i levels_of(const int8_t levels[16], __m256i codes)
{
    const __m128i table = _mm_loadu_si128((const __m128i *)levels);
    return _mm256_shuffle_epi8(_mm256_set_m128i(table, table), codes);
}

AVX2 static void iq4_nl(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32)
        put32(levels_of(iq4nl_levels, nibbles(in + 2)), half_everywhere(in), out);
}

AVX2 static void iq4_xs(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 136) {
        const float d = _cvtsh_ss(apr_load16(in));
        const unsigned high = apr_load16(in + 2);
        for (unsigned s = 0; s < 8; s++, out += 32) {
            const int scale = (in[4 + s / 2] >> s % 2 * 4 & 15) | (int)(high >> 2 * s & 3) << 4;
            put32(levels_of(iq4nl_levels, nibbles(in + 8 + 16 * s)), _mm256_set1_ps(d * (float)(scale - 32)), out);
        }
    }
}

AVX2 static void mxfp4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 17, out += 32)
        put32(levels_of(fp4_doubled, nibbles(in + 1)), _mm256_set1_ps(apr_e8m0_half(in[0])), out);
}

AVX2 static void nvfp4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 64, in += 36)
        for (unsigned g = 0; g < 4; g += 2, out += 32) {
            const __m256i codes = levels_of(fp4_doubled, nibbles(in + 4 + 8 * g));
            const __m128i low = _mm256_castsi256_si128(codes), high = _mm256_extracti128_si256(codes, 1);
            put16(_mm_unpacklo_epi64(low, high), _mm256_set1_ps(apr_float_of_bits(ue4m3_half[in[g]])), out);
            put16(_mm_unpackhi_epi64(low, high), _mm256_set1_ps(apr_float_of_bits(ue4m3_half[in[g + 1]])), out + 16);
        }
}

void apr_levels4_x86(struct apr_kernels *k)
{
    k->decode[APR_IQ4_NL] = iq4_nl;
    k->decode[APR_IQ4_XS] = iq4_xs;
    k->decode[APR_MXFP4] = mxfp4;
    k->decode[APR_NVFP4] = nvfp4;
}
#endif
