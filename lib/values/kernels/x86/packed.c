/* Packed weights with AVX2. */
#ifdef __x86_64__
#include "values/kernels/x86/avx2.h"

/* ---- codes ---------------------------------------------------------------------------------------------------------- */

/* Eight codes are as many bytes as a code has bits. `bytes` brings those of each code to its place, `shift` moves it to the right end. */
struct places {
    __m256i bytes, shift, mask;
};

AVX2 INLINE struct places places_of(const struct apr_coding *c)
{
    const __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), bit = _mm256_mullo_epi32(number, _mm256_set1_epi32((int)c->bits));
    const __m256i byte = _mm256_srli_epi32(bit, 3), seven = _mm256_set1_epi32(7);
    const __m256i next = _mm256_or_si256(_mm256_slli_epi32(_mm256_add_epi32(byte, _mm256_set1_epi32(1)), 8), byte);
    const __m256i shift = _mm256_xor_si256(_mm256_and_si256(bit, seven), _mm256_set1_epi32(c->turned ? 4 : 0));
    return (struct places){ _mm256_or_si256(next, _mm256_set1_epi32((int)0x80800000)), shift, _mm256_set1_epi32((1 << c->bits) - 1) };
}

/* The last bytes before `end`, fewer than eight or no fewer. */
AVX2 INLINE __m128i last_bytes(const unsigned char *at, const unsigned char *end)
{
    unsigned char last[8] = { 0 };
    memcpy(last, at, (size_t)apr_min((uint64_t)(end - at), 8));
    return load8(last);
}

AVX2 INLINE __m256i eight_codes(__m128i bytes, const struct places *p)
{
    const __m256i all = _mm256_broadcastq_epi64(bytes);
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_shuffle_epi8(all, p->bytes), p->shift), p->mask);
}

/* What a group has, kept apart from `out`, which may be anything. */
struct of_group {
    __m256 scale, zero, factor;
    bool   scaled, divides;
};

AVX2 INLINE struct of_group of_group(const struct apr_coding *c, size_t g)
{
    return (struct of_group){ _mm256_set1_ps(c->scale[g]), _mm256_set1_ps(c->level == NULL && c->bias == NULL ? c->zero[g] : 0),
                              _mm256_set1_ps(c->factor), c->scaled, c->divides };
}

AVX2 INLINE __m256 ended(__m256 x, const struct of_group *o)
{
    return !o->scaled ? x : o->divides ? _mm256_div_ps(x, o->factor) : _mm256_mul_ps(x, o->factor);
}

/* A code takes what it stands for, worked out once a group, from two halves. */
AVX2 INLINE __m256 taken(__m256i code, __m256 low, __m256 high)
{
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, code), _mm256_permutevar8x32_ps(high, code), upper);
}

/* n codes out of bytes that begin at `from`, fewer than eight of them last; values are written no further than n. */
#define CODES(from, load, vector)                                    \
    do {                                                             \
        for (; i + 8 <= n && end - (from) >= 8; i += 8) {            \
            const __m128i bytes = load8(from);                       \
            const __m256i code = load;                               \
            _mm256_storeu_ps(out + i, vector);                       \
        }                                                            \
        for (; i < n; i += 8) {                                      \
            const __m128i bytes = last_bytes(from, end);             \
            const __m256i code = load;                               \
            float value[8];                                          \
            _mm256_storeu_ps(value, vector);                         \
            memcpy(out + i, value, apr_min(n - i, 8) * sizeof *out); \
        }                                                            \
    } while (0)
#define PACKED(vector) CODES(at + i / 8 * bits, eight_codes(bytes, &p), vector)
#define SCALED         _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(code), o.zero), o.scale)
#define BIASED         _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(code), o.scale), bias)

AVX2 INLINE void put_group(const unsigned char *at, const unsigned char *end, size_t n, const struct apr_coding *c, struct places p,
                           size_t g, float *out)
{
    const struct of_group o = of_group(c, g);
    const size_t bits = c->bits;
    size_t i = 0;
    if (c->level != NULL) {
        const __m256 low = ended(_mm256_mul_ps(_mm256_loadu_ps(c->level), o.scale), &o);
        const __m256 high = ended(_mm256_mul_ps(_mm256_loadu_ps(c->level + 8), o.scale), &o);
        PACKED(taken(code, low, high));
    } else if (c->bias != NULL) {
        const __m256 bias = _mm256_set1_ps(c->bias[g]);
        PACKED(BIASED);
    } else if (c->with_sign) {
        CODES(at + i, _mm256_cvtepi8_epi32(bytes), ended(SCALED, &o));
    } else if (bits == 8) {
        CODES(at + i, _mm256_cvtepu8_epi32(bytes), ended(SCALED, &o));
    } else {
        PACKED(ended(SCALED, &o));
    }
}

/* Groups of whole sixteens of codes of four bits, which are eight bytes: as put_group, with the fewest steps. */
AVX2 INLINE void four_bits(const unsigned char *at, bool turned, __m256i code[2])
{
    const __m128i both = load8(at), high = _mm_srli_epi16(both, 4), fifteen = _mm_set1_epi8(15);
    const __m128i bytes = _mm_and_si128(turned ? _mm_unpacklo_epi8(high, both) : _mm_unpacklo_epi8(both, high), fifteen);
    code[0] = _mm256_cvtepu8_epi32(bytes);
    code[1] = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
}

#define FOURS(vector)                                                \
    for (size_t i = 0; i < now; i += 16, at += 8, out += 16) {       \
        __m256i both[2];                                             \
        four_bits(at, turned, both);                                 \
        for (unsigned k = 0; k < 2; k++) {                           \
            const __m256i code = both[k];                            \
            _mm256_storeu_ps(out + 8 * k, vector);                   \
        }                                                            \
    }

AVX2 INLINE void put_fours(const unsigned char *at, size_t n, const struct apr_coding *c, float *out)
{
    const bool turned = c->turned; /* `out` may be anything */
    for (size_t g = 0, now; n > 0; g++, n -= now) {
        const struct of_group o = of_group(c, g);
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        if (c->level != NULL) {
            const __m256 low = ended(_mm256_mul_ps(_mm256_loadu_ps(c->level), o.scale), &o);
            const __m256 high = ended(_mm256_mul_ps(_mm256_loadu_ps(c->level + 8), o.scale), &o);
            FOURS(taken(code, low, high))
        } else if (c->bias != NULL) {
            const __m256 bias = _mm256_set1_ps(c->bias[g]);
            FOURS(BIASED)
        } else {
            FOURS(ended(SCALED, &o))
        }
    }
}

AVX2 static void put_codes(const unsigned char *codes, size_t n, const struct apr_coding *c, float *out)
{
    const struct places p = places_of(c);
    const unsigned char *const end = codes + (n * c->bits + 7) / 8;
    if (c->bits == 4 && (n | c->first | c->group) % 16 == 0) {
        put_fours(codes, n, c, out);
        return;
    }
    for (size_t g = 0, i = 0, now; i < n; g++, i += now) {
        now = (size_t)apr_min(n - i, g == 0 ? c->first : c->group);
        if (i % 8 == 0)
            put_group(codes + i / 8 * c->bits, end, now, c, p, g, out + i);
        else
            apr_put_some_codes(codes, i, now, c, g, out + i);
    }
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

AVX2 INLINE void values_group(float *x, size_t n, const struct apr_coding *c, size_t g)
{
    const struct of_group o = of_group(c, g);
    const bool shifted = c->zero[g] != 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        _mm256_storeu_ps(x + i, ended(_mm256_mul_ps(shifted ? _mm256_sub_ps(v, o.zero) : v, o.scale), &o));
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

/* ---- words ---------------------------------------------------------------------------------------------------------- */

/* Eight lines of eight words become rows. */
AVX2 INLINE void eight_down(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    __m256 a[8], b[8];
    UNROLL for (unsigned i = 0; i < 8; i += 2) {
        const __m256 x = _mm256_castsi256_ps(load32(words + i * stride)), y = _mm256_castsi256_ps(load32(words + (i + 1) * stride));
        a[i] = _mm256_unpacklo_ps(x, y);
        a[i + 1] = _mm256_unpackhi_ps(x, y);
    }
    UNROLL for (unsigned i = 0; i < 8; i += 4)
        UNROLL for (unsigned k = 0; k < 2; k++) {
            b[i + 2 * k] = _mm256_shuffle_ps(a[i + k], a[i + k + 2], 0x44);
            b[i + 2 * k + 1] = _mm256_shuffle_ps(a[i + k], a[i + k + 2], 0xee);
        }
    UNROLL for (unsigned i = 0; i < 4; i++) {
        _mm256_storeu_ps((float *)(void *)(out + i * out_stride), _mm256_permute2f128_ps(b[i], b[i + 4], 0x20));
        _mm256_storeu_ps((float *)(void *)(out + (i + 4) * out_stride), _mm256_permute2f128_ps(b[i], b[i + 4], 0x31));
    }
}

AVX2 static void words_down(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    for (unsigned line = 0; line < 16; line += 8)
        for (unsigned w = 0; w < 16; w += 8)
            eight_down(words + line * stride + 4 * w, stride, out + w * out_stride + 4 * line, out_stride);
}

/* The lower parts of x and y, then their upper ones, in their places or moved by n bits; `low` says which bits are lower ones. */
AVX2 INLINE void swap(__m256i *x, __m256i *y, int n, uint32_t low)
{
    const __m256i mask = _mm256_set1_epi32((int)low), a = *x, b = *y;
    *x = _mm256_or_si256(_mm256_and_si256(a, mask), _mm256_slli_epi32(_mm256_and_si256(b, mask), n));
    *y = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(a, n), mask), _mm256_andnot_si256(mask, b));
}

/* Nibble k of eight lines becomes line k: of eight words at once. */
AVX2 INLINE void turn_nibbles(const unsigned char *words, size_t stride, __m256i x[8])
{
    UNROLL for (unsigned i = 0; i < 8; i++)
        x[i] = load32(words + i * stride);
    UNROLL for (unsigned i = 0; i < 4; i++)
        swap(&x[i], &x[i + 4], 16, 0x0000ffff);
    UNROLL for (unsigned i = 0; i < 8; i += i % 2 == 0 ? 1 : 3)
        swap(&x[i], &x[i + 2], 8, 0x00ff00ff);
    UNROLL for (unsigned i = 0; i < 8; i += 2)
        swap(&x[i], &x[i + 1], 4, 0x0f0f0f0f);
}

AVX2 INLINE void store_pairs(__m256i x, unsigned char *out, size_t step)
{
    const __m128i a = _mm256_castsi256_si128(x), b = _mm256_extracti128_si256(x, 1);
    _mm_storel_epi64((__m128i *)(void *)out, a);
    _mm_storel_epi64((__m128i *)(void *)(out + step), _mm_unpackhi_epi64(a, a));
    _mm_storel_epi64((__m128i *)(void *)(out + 4 * step), b);
    _mm_storel_epi64((__m128i *)(void *)(out + 5 * step), _mm_unpackhi_epi64(b, b));
}

/* Sixteen lines of eight words: eight bytes of each row. */
AVX2 INLINE void some_across(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    __m256i a[8], b[8];
    turn_nibbles(words, stride, a);
    turn_nibbles(words + 8 * stride, stride, b);
    for (unsigned k = 0; k < 8; k++) {
        unsigned char *const row = out + (k / 4 + k % 4 * 2) * out_stride;
        store_pairs(_mm256_unpacklo_epi32(a[k], b[k]), row, 8 * out_stride);
        store_pairs(_mm256_unpackhi_epi32(a[k], b[k]), row + 16 * out_stride, 8 * out_stride);
    }
}

AVX2 static void words_across(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    for (unsigned line = 0; line < 128; line += 16)
        for (unsigned w = 0; w < 16; w += 8)
            some_across(words + line * stride + 4 * w, stride, out + 8 * w * out_stride + line / 2, out_stride);
}

void apr_packed_x86(struct apr_kernels *k)
{
    k->put_codes = put_codes;
    k->put_values = put_values;
    k->put_e4m3 = put_e4m3;
    k->words_down = words_down;
    k->words_across = words_across;
    if (k->isa == APR_AVX512)
        apr_packed_avx512(k);
}
#endif
