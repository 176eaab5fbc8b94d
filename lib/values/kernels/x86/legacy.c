#ifdef __x86_64__
#include "values/kernels/encode.h"
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

/* 8 floats, or their magnitudes. */
AVX2 INLINE __m256 eight(const float *x, bool magnitude)
{
    const __m256 v = _mm256_loadu_ps(x);
    return magnitude ? _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v) : v;
}

/* Which of 32 floats, or magnitudes, have a value: bit i for x[i]. */
AVX2 INLINE uint32_t equal(const float *x, bool magnitude, float to)
{
    uint32_t mask = 0;
    for (unsigned i = 0; i < 4; i++)
        mask |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(eight(x + 8 * i, magnitude), _mm256_set1_ps(to), _CMP_EQ_OQ)) << 8 * i;
    return mask;
}

AVX2 INLINE float most_of_8(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* The largest of 32 floats or magnitudes, `none` when all are less or NaN, which is why it comes second: MAXPS gives that. */
AVX2 INLINE float most_of_32(const float *x, bool magnitude, float none)
{
    __m256 most = _mm256_set1_ps(none);
    for (unsigned i = 0; i < 4; i++)
        most = _mm256_max_ps(eight(x + 8 * i, magnitude), most);
    return most_of_8(most);
}

/* The least likewise: a zero's sign is lost. */
AVX2 INLINE float least_of_32(const float *x, float none)
{
    __m256 least = _mm256_set1_ps(none);
    for (unsigned i = 0; i < 4; i++)
        least = _mm256_min_ps(eight(x + 8 * i, false), least);
    return -most_of_8(_mm256_xor_ps(least, _mm256_set1_ps(-0.0f)));
}

/* The first of those equal to v, which differ from it in a zero's sign at most; v when there is none. */
AVX2 INLINE float first_equal(const float *x, float v)
{
    const uint32_t mask = equal(x, false, v);
    return mask ? x[__builtin_ctz(mask)] : v;
}

/* 32 floats truncated, to the low byte of each integer; what is no i32 gives 0. */
AVX2 INLINE __m256i truncate32(const __m256 v[4])
{
    const __m256i byte = _mm256_set1_epi32(255);
    __m256i w[4];
    for (unsigned i = 0; i < 4; i++)
        w[i] = _mm256_and_si256(_mm256_cvttps_epi32(v[i]), byte);
    const __m256i mixed = _mm256_packus_epi16(_mm256_packus_epi32(w[0], w[1]), _mm256_packus_epi32(w[2], w[3]));
    return _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

AVX2 INLINE void store_half(unsigned char *p, float f)
{
    const float number = isnan(f) ? NAN : f;
    apr_store16(p, _cvtss_sh(number, _MM_FROUND_TO_NEAREST_INT));
}

AVX2 INLINE void store_nibbles(__m256i codes, unsigned char *q)
{
    const __m128i low = _mm256_castsi256_si128(codes), high = _mm_slli_epi16(_mm256_extracti128_si256(codes, 1), 4);
    const __m128i mask = _mm_set1_epi8(15);
    _mm_storeu_si128((__m128i *)q, _mm_or_si128(_mm_and_si128(low, mask), _mm_andnot_si128(mask, high)));
}

AVX2 INLINE void store_fives(__m256i codes, unsigned char *out)
{
    const uint32_t high = (uint32_t)_mm256_movemask_epi8(_mm256_slli_epi16(codes, 3));
    memcpy(out, &high, sizeof high);
    store_nibbles(codes, out + 4);
}

/* As the scalar bodies of these names: the scale, and codes. */
AVX2 INLINE __m256i code_around(const float *x, int offset, unsigned char *out)
{
    const float most = most_of_32(x, true, 0);
    const float d = (most > 0 ? x[__builtin_ctz(equal(x, true, most))] : 0) / (float)-offset;
    const __m256 per_d = _mm256_set1_ps(apr_inverse(d)), half_up = _mm256_set1_ps((float)offset + 0.5f);
    __m256 v[4];
    for (unsigned i = 0; i < 4; i++)
        v[i] = _mm256_loadu_ps(x + 8 * i) * per_d + half_up;
    store_half(out, d);
    return _mm256_min_epu8(truncate32(v), _mm256_set1_epi8((char)(2 * offset - 1)));
}

AVX2 INLINE __m256i code_from_min(const float *x, int largest, unsigned char *out)
{
    const float least = first_equal(x, least_of_32(x, FLT_MAX)), most = first_equal(x, most_of_32(x, false, -FLT_MAX));
    const float d = (most - least) / (float)largest;
    const __m256 per_d = _mm256_set1_ps(apr_inverse(d)), from = _mm256_set1_ps(least);
    __m256 v[4];
    for (unsigned i = 0; i < 4; i++)
        v[i] = (_mm256_loadu_ps(x + 8 * i) - from) * per_d + _mm256_set1_ps(0.5f);
    store_half(out, d);
    store_half(out + 2, least);
    return _mm256_min_epu8(truncate32(v), _mm256_set1_epi8((char)largest));
}

AVX2 static void q4_0_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 18)
        store_nibbles(code_around(x, 8, out), out + 2);
}

AVX2 static void q4_1_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 20)
        store_nibbles(code_from_min(x, 15, out), out + 4);
}

AVX2 static void q5_0_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 22)
        store_fives(code_around(x, 16, out), out + 2);
}

AVX2 static void q5_1_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 24)
        store_fives(code_from_min(x, 31, out), out + 4);
}

AVX2 static void q8_0_encode(const float *x, size_t n, unsigned char *out)
{
    const __m256 minus = _mm256_set1_ps(-0.0f), before_half = _mm256_set1_ps(APR_BEFORE_HALF);
    for (; n; n -= 32, x += 32, out += 34) {
        const float d = most_of_32(x, true, 0) / 127;
        const __m256 per_d = _mm256_set1_ps(apr_inverse(d));
        __m256 v[4];
        for (unsigned i = 0; i < 4; i++) {
            const __m256 q = _mm256_loadu_ps(x + 8 * i) * per_d;
            v[i] = q + _mm256_or_ps(_mm256_and_ps(q, minus), before_half);
        }
        store_half(out, d);
        _mm256_storeu_si256((__m256i *)(out + 2), truncate32(v));
    }
}

void apr_legacy_x86(struct apr_kernels *k)
{
    k->encode[APR_Q4_0] = q4_0_encode;
    k->encode[APR_Q4_1] = q4_1_encode;
    k->encode[APR_Q5_0] = q5_0_encode;
    k->encode[APR_Q5_1] = q5_1_encode;
    k->encode[APR_Q8_0] = q8_0_encode;
    k->decode[APR_Q4_0] = q4_0;
    k->decode[APR_Q4_1] = q4_1;
    k->decode[APR_Q5_0] = q5_0;
    k->decode[APR_Q5_1] = q5_1;
    k->decode[APR_Q8_0] = q8_0;
    k->decode[APR_Q8_1] = q8_1;
}
#endif
