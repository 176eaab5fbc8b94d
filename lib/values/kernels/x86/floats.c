/* Floats of 16 and 8 bits, each value on its own. */
#ifdef __x86_64__
#include "values/kernels/x86/avx2.h"

/* A decoder from one that does 16 values. The last ones go through a buffer, so that no byte beyond them is read or written. */
#define DECODER(name, bytes, decode16)                                                                  \
    AVX2 static void name(const unsigned char *head, const unsigned char *in, size_t n, float *out)     \
    {                                                                                                   \
        (void)head;                                                                                     \
        for (; n >= 16; n -= 16, in += 16 * (bytes), out += 16)                                         \
            decode16(in, out);                                                                          \
        if (n) {                                                                                        \
            unsigned char last[16 * (bytes)] = { 0 };                                                   \
            float values[16];                                                                           \
            memcpy(last, in, n * (bytes));                                                              \
            decode16(last, values);                                                                     \
            memcpy(out, values, n * sizeof *out);                                                       \
        }                                                                                               \
    }

AVX2 INLINE void put_halves(__m256i halves, __m256 times, float *out)
{
    _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm256_castsi256_si128(halves)) * times);
    _mm256_storeu_ps(out + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)) * times);
}

AVX2 INLINE void f16_16(const unsigned char *in, float *out)
{
    _mm256_storeu_ps(out, _mm256_cvtph_ps(load16(in)));
    _mm256_storeu_ps(out + 8, _mm256_cvtph_ps(load16(in + 16)));
}

AVX2 INLINE void bf16_16(const unsigned char *in, float *out)
{
    for (unsigned i = 0; i < 2; i++)
        _mm256_storeu_si256((__m256i *)(out + 8 * i), _mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(in + 16 * i)), 16));
}

/* The upper byte of a binary16. */
AVX2 INLINE void e5m2_16(const unsigned char *in, float *out)
{
    put_halves(_mm256_slli_epi16(_mm256_cvtepu8_epi16(load16(in)), 8), _mm256_set1_ps(1), out);
}

/* As binary16, whose bias is 15, a code moved to its place stands for its value of bias 7 over 256. */
AVX2 INLINE void e4m3_16(const unsigned char *in, float *out)
{
    const __m256i codes = _mm256_cvtepu8_epi16(load16(in)), magnitude = _mm256_and_si256(codes, _mm256_set1_epi16(0x7f));
    const __m256i nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f));
    const __m256i number = _mm256_blendv_epi8(_mm256_slli_epi16(magnitude, 7), _mm256_set1_epi16(0x7e00), nan);
    const __m256i sign = _mm256_slli_epi16(_mm256_sub_epi16(codes, magnitude), 8);
    put_halves(_mm256_or_si256(number, sign), _mm256_set1_ps(256), out);
}

DECODER(f16, 2, f16_16)
DECODER(bf16, 2, bf16_16)
DECODER(e5m2, 1, e5m2_16)
DECODER(e4m3, 1, e4m3_16)

/* An encoder from one that does 16 values, likewise. */
#define ENCODER(name, bytes, encode16)                                              \
    AVX2 static void name(const float *x, size_t n, unsigned char *out)             \
    {                                                                               \
        for (; n >= 16; n -= 16, x += 16, out += 16 * (bytes))                      \
            encode16(x, out);                                                       \
        if (n) {                                                                    \
            unsigned char codes[16 * (bytes)];                                      \
            float last[16] = { 0 };                                                 \
            memcpy(last, x, n * sizeof *x);                                         \
            encode16(last, codes);                                                  \
            memcpy(out, codes, n * (bytes));                                        \
        }                                                                           \
    }

AVX2 INLINE void f16_encode16(const float *x, unsigned char *out)
{
    for (unsigned i = 0; i < 2; i++)
        _mm_storeu_si128((__m128i *)(out + 16 * i), _mm256_cvtps_ph(_mm256_loadu_ps(x + 8 * i), _MM_FROUND_TO_NEAREST_INT));
}

/* The upper halves of 8 values, each in 32 bits. */
AVX2 INLINE __m256i upper_halves(const float *x)
{
    const __m256i bits = _mm256_loadu_si256((const __m256i *)x), upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i up = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256 value = _mm256_castsi256_ps(bits), nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    return _mm256_blendv_epi8(up, quiet, _mm256_castps_si256(nan));
}

AVX2 INLINE void bf16_encode16(const float *x, unsigned char *out)
{
    const __m256i mixed = _mm256_packus_epi32(upper_halves(x), upper_halves(x + 8));
    _mm256_storeu_si256((__m256i *)out, _mm256_permute4x64_epi64(mixed, _MM_SHUFFLE(3, 1, 2, 0)));
}

ENCODER(f16_encode, 2, f16_encode16)
ENCODER(bf16_encode, 2, bf16_encode16)

void apr_half_x86(struct apr_kernels *k)
{
    k->encode[APR_F16] = f16_encode;
    k->encode[APR_BF16] = bf16_encode;
    k->decode[APR_F16] = f16;
    k->decode[APR_BF16] = bf16;
}

void apr_float8_x86(struct apr_kernels *k)
{
    k->decode[APR_F8_E5M2] = e5m2;
    k->decode[APR_F8_E4M3] = e4m3;
}
#endif
