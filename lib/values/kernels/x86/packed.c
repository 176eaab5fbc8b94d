/* Packed weights with AVX2. */
#ifdef __x86_64__
#include "values/kernels/x86/avx2.h"

/* Codes as numbers. */
AVX2 INLINE __m256 numbers(const uint8_t *code)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)code)));
}

AVX2 INLINE __m256 ended(__m256 x, const struct apr_coding *c)
{
    if (!c->scaled)
        return x;
    const __m256 factor = _mm256_set1_ps(c->factor);
    return c->divides ? _mm256_div_ps(x, factor) : _mm256_mul_ps(x, factor);
}

/* One group, less than a vector of it last: codes are read, and values written, no further than n. */
#define GROUP(vector)                                                                                               \
    do {                                                                                                            \
        size_t i = 0;                                                                                               \
        for (; i + 8 <= n; i += 8)                                                                                  \
            _mm256_storeu_ps(out + i, vector(code + i));                                                            \
        if (i < n) {                                                                                                \
            uint8_t last[8] = { 0 };                                                                                \
            float value[8];                                                                                         \
            memcpy(last, code + i, n - i);                                                                          \
            _mm256_storeu_ps(value, vector(last));                                                                  \
            memcpy(out + i, value, (n - i) * sizeof *out);                                                          \
        }                                                                                                           \
    } while (0)

/* What levels stand for is worked out once a group; an index of four bits takes it from two halves. */
AVX2 INLINE __m256 taken(const uint8_t *code, __m256 low, __m256 high)
{
    const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)code));
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index), upper);
}

AVX2 INLINE void put_group(const uint8_t *code, size_t n, const struct apr_coding *c, size_t g, float *out)
{
    const __m256 scale = _mm256_set1_ps(c->scale[g]);
    if (c->level != NULL) {
        const __m256 low = ended(_mm256_mul_ps(_mm256_loadu_ps(c->level), scale), c);
        const __m256 high = ended(_mm256_mul_ps(_mm256_loadu_ps(c->level + 8), scale), c);
#define LEVEL(at) taken(at, low, high)
        GROUP(LEVEL);
    } else if (c->bias != NULL) {
        const __m256 bias = _mm256_set1_ps(c->bias[g]);
#define BIASED(at) _mm256_add_ps(_mm256_mul_ps(numbers(at), scale), bias)
        GROUP(BIASED);
    } else {
        const __m256 zero = _mm256_set1_ps(c->zero[g]);
#define SCALED(at) _mm256_mul_ps(_mm256_sub_ps(numbers(at), zero), scale)
#define ENDED(at)  ended(SCALED(at), c)
        if (c->scaled)
            GROUP(ENDED);
        else
            GROUP(SCALED);
    }
}

AVX2 static void put_codes(const uint8_t *code, size_t n, const struct apr_coding *c, float *out)
{
    for (size_t g = 0, now; n > 0; g++, code += now, out += now, n -= now) {
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        put_group(code, now, c, g, out);
    }
}

AVX2 INLINE void values_group(float *x, size_t n, const struct apr_coding *c, size_t g)
{
    const __m256 scale = _mm256_set1_ps(c->scale[g]), zero = _mm256_set1_ps(c->zero[g]);
    const bool shifted = c->zero[g] != 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        _mm256_storeu_ps(x + i, ended(_mm256_mul_ps(shifted ? _mm256_sub_ps(v, zero) : v, scale), c));
    }
    if (i < n)
        apr_put_values_scalar(x + i, n - i, &(struct apr_coding){ .scale = &c->scale[g], .zero = &c->zero[g], .first = n - i, .group = 1,
                                                                   .factor = c->factor, .scaled = c->scaled, .divides = c->divides });
}

AVX2 static void put_values(float *x, size_t n, const struct apr_coding *c)
{
    for (size_t g = 0, now; n > 0; g++, x += now, n -= now) {
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        values_group(x, now, c, g);
    }
}

/* As binary16 a code moved to its place stands for its value over 256, as in floats.c. */
AVX2 INLINE __m256i e4m3_halves(const unsigned char *in)
{
    const __m256i codes = _mm256_cvtepu8_epi16(load16(in)), magnitude = _mm256_and_si256(codes, _mm256_set1_epi16(0x7f));
    const __m256i nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f));
    const __m256i number = _mm256_blendv_epi8(_mm256_slli_epi16(magnitude, 7), _mm256_set1_epi16(0x7e00), nan);
    return _mm256_or_si256(number, _mm256_slli_epi16(_mm256_sub_epi16(codes, magnitude), 8));
}

/* 256 times a scale is exact unless it is infinite: both products are one. */
AVX2 INLINE void e4m3_16(const unsigned char *in, __m256 times, float *out)
{
    const __m256i half = e4m3_halves(in);
    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), times));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), times));
}

AVX2 static void put_e4m3(const unsigned char *code, size_t n, const struct apr_coding *c, float *out)
{
    for (size_t g = 0, now; n > 0; g++, code += now, out += now, n -= now) {
        const bool large = !(c->scale[g] < 0x1p100f && c->scale[g] > -0x1p100f), apart = large || c->scaled;
        const __m256 times = _mm256_set1_ps(apart ? 256 : 256 * c->scale[g]);
        size_t i = 0;
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        for (; i + 16 <= now; i += 16)
            e4m3_16(code + i, times, out + i);
        if (i < now) {
            unsigned char last[16] = { 0 };
            float value[16];
            memcpy(last, code + i, now - i);
            e4m3_16(last, times, value);
            memcpy(out + i, value, (now - i) * sizeof *out);
        }
        if (apart)
            values_group(out, now, c, g);
    }
}

AVX2 static void packed_nibbles(const unsigned char *p, size_t npair, bool turned, uint8_t *code)
{
    const __m128i four = _mm_set1_epi8(15);
    size_t i = 0;
    for (; i + 16 <= npair; i += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        const __m128i low = _mm_and_si128(x, four), high = _mm_and_si128(_mm_srli_epi16(x, 4), four);
        const __m128i first = turned ? high : low, second = turned ? low : high;
        _mm_storeu_si128((__m128i *)(void *)(code + 2 * i), _mm_unpacklo_epi8(first, second));
        _mm_storeu_si128((__m128i *)(void *)(code + 2 * i + 16), _mm_unpackhi_epi8(first, second));
    }
    if (i < npair)
        apr_nibbles_scalar(p + i, npair - i, turned, code + 2 * i);
}

AVX2 static void nibbles_down(const unsigned char *words, uint8_t *code, size_t stride)
{
    const __m128i four = _mm_set1_epi8(15);
    for (unsigned r = 0; r < APR_TILE_ROWS; r += 4) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(words + 4 * r));
        const __m128i low = _mm_and_si128(x, four), high = _mm_and_si128(_mm_srli_epi16(x, 4), four);
        const __m128i a = _mm_unpacklo_epi8(low, high), b = _mm_unpackhi_epi8(low, high);
        _mm_storel_epi64((__m128i *)(void *)(code + r * stride), a);
        _mm_storeh_pd((double *)(void *)(code + (r + 1) * stride), _mm_castsi128_pd(a));
        _mm_storel_epi64((__m128i *)(void *)(code + (r + 2) * stride), b);
        _mm_storeh_pd((double *)(void *)(code + (r + 3) * stride), _mm_castsi128_pd(b));
    }
}

/* Words of four columns, side by side. */
AVX2 INLINE __m128i four_words(const unsigned char *at, size_t stride)
{
    return _mm_set_epi32((int)apr_load32(at + 3 * stride), (int)apr_load32(at + 2 * stride), (int)apr_load32(at + stride), (int)apr_load32(at));
}

AVX2 static void nibbles_across(const unsigned char *words, size_t word_stride, uint8_t *code, size_t stride)
{
    const __m128i four = _mm_set1_epi32(15);
    for (unsigned w = 0; w < APR_TILE_ROWS / 8; w++) {
        __m128i x[4];
        for (unsigned k = 0; k < 4; k++)
            x[k] = four_words(words + 4 * w + 4 * k * word_stride, word_stride);
        for (unsigned place = 0; place < 8; place++) {
            __m128i v[4];
            for (unsigned k = 0; k < 4; k++) {
                v[k] = _mm_and_si128(x[k], four);
                x[k] = _mm_srli_epi32(x[k], 4);
            }
            const __m128i codes = _mm_packus_epi16(_mm_packus_epi32(v[0], v[1]), _mm_packus_epi32(v[2], v[3]));
            const unsigned r = place < 4 ? 2 * place : 2 * place - 7;
            _mm_storeu_si128((__m128i *)(void *)(code + (8 * w + r) * stride), codes);
        }
    }
}

/* ---- 16 at a time --------------------------------------------------------------------------------------------------- */

#define AVX512 __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")))

AVX512 INLINE __m512 ended16(__m512 x, const struct apr_coding *c)
{
    if (!c->scaled)
        return x;
    const __m512 factor = _mm512_set1_ps(c->factor);
    return c->divides ? _mm512_div_ps(x, factor) : _mm512_mul_ps(x, factor);
}

/* The last ones of a group are read and written behind a mask. */
#define GROUP16(vector)                                                                                                       \
    do {                                                                                                                      \
        size_t i = 0;                                                                                                         \
        for (; i + 16 <= n; i += 16) {                                                                                        \
            const __m512i index = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(code + i)));           \
            _mm512_storeu_ps(out + i, vector);                                                                                \
        }                                                                                                                     \
        if (i < n) {                                                                                                          \
            const __mmask16 some = (__mmask16)((1u << (n - i)) - 1);                                                          \
            const __m512i index = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, code + i));                                 \
            _mm512_mask_storeu_ps(out + i, some, vector);                                                                     \
        }                                                                                                                     \
    } while (0)

AVX512 INLINE void put_group16(const uint8_t *code, size_t n, const struct apr_coding *c, size_t g, float *out)
{
    const __m512 scale = _mm512_set1_ps(c->scale[g]);
    if (c->level != NULL) {
        const __m512 level = ended16(_mm512_mul_ps(_mm512_loadu_ps(c->level), scale), c);
        GROUP16(_mm512_permutexvar_ps(index, level));
    } else if (c->bias != NULL) {
        const __m512 bias = _mm512_set1_ps(c->bias[g]);
        GROUP16(_mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(index), scale), bias));
    } else {
        const __m512 zero = _mm512_set1_ps(c->zero[g]);
        GROUP16(ended16(_mm512_mul_ps(_mm512_sub_ps(_mm512_cvtepi32_ps(index), zero), scale), c));
    }
}

AVX512 static void put_codes16(const uint8_t *code, size_t n, const struct apr_coding *c, float *out)
{
    for (size_t g = 0, now; n > 0; g++, code += now, out += now, n -= now) {
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        put_group16(code, now, c, g, out);
    }
}

void apr_packed_x86(struct apr_kernels *k)
{
    k->put_codes = k->isa == APR_AVX512 ? put_codes16 : put_codes;
    k->put_values = put_values;
    k->put_e4m3 = put_e4m3;
    k->nibbles = packed_nibbles;
    k->nibbles_down = nibbles_down;
    k->nibbles_across = nibbles_across;
}
#endif
