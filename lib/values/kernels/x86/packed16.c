/* Packed weights with AVX-512. */
#ifdef __x86_64__
#include <immintrin.h>

#include "values/kernels/init.h"

#define AVX512 __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")))

/* As for AVX2, of sixteen codes, which are as many pairs of bytes as a code has bits. */
struct places {
    __m512i bytes, shift, mask;
};

AVX512 INLINE struct places places_of(const struct apr_coding *c)
{
    const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i bit = _mm512_mullo_epi32(number, _mm512_set1_epi32((int)c->bits)), byte = _mm512_srli_epi32(bit, 3);
    const __m512i next = _mm512_or_si512(_mm512_slli_epi32(_mm512_add_epi32(byte, _mm512_set1_epi32(1)), 8), byte);
    const __m512i shift = _mm512_xor_si512(_mm512_and_si512(bit, _mm512_set1_epi32(7)), _mm512_set1_epi32(c->turned ? 4 : 0));
    return (struct places){ _mm512_or_si512(next, _mm512_set1_epi32((int)0x80800000)), shift, _mm512_set1_epi32((1 << c->bits) - 1) };
}

/* A mask for the first n of sixteen, or all. */
AVX512 INLINE __mmask16 first(size_t n) { return (__mmask16)((1u << apr_min(n, 16)) - 1); }

/* The last bytes before `end`, fewer than sixteen or no fewer. */
AVX512 INLINE __m128i last_bytes(const unsigned char *at, const unsigned char *end)
{
    return _mm_maskz_loadu_epi8(first((size_t)(end - at)), at);
}

AVX512 INLINE __m512i sixteen_codes(__m128i bytes, const struct places *p)
{
    const __m512i all = _mm512_broadcast_i32x4(bytes);
    return _mm512_and_si512(_mm512_srlv_epi32(_mm512_shuffle_epi8(all, p->bytes), p->shift), p->mask);
}

/* What a group has, kept apart from `out`, which may be anything. */
struct of_group {
    __m512 scale, zero, bias, factor;
    bool   biased, scaled, divides;
};

AVX512 INLINE struct of_group of_group(const struct apr_coding *c, size_t g)
{
    const bool biased = c->bias != NULL;
    return (struct of_group){ _mm512_set1_ps(c->scale[g]), _mm512_set1_ps(c->level == NULL && !biased ? c->zero[g] : 0),
                              _mm512_set1_ps(biased ? c->bias[g] : 0), _mm512_set1_ps(c->factor), biased, c->scaled, c->divides };
}

AVX512 INLINE __m512 ended(__m512 x, const struct of_group *o)
{
    return !o->scaled ? x : o->divides ? _mm512_div_ps(x, o->factor) : _mm512_mul_ps(x, o->factor);
}

/* Numbers to values, but for levels. */
AVX512 INLINE __m512 values_of(__m512 x, const struct of_group *o)
{
    return o->biased ? _mm512_add_ps(_mm512_mul_ps(x, o->scale), o->bias)
                     : ended(_mm512_mul_ps(_mm512_sub_ps(x, o->zero), o->scale), o);
}

/* What all codes of up to four bits stand for. */
AVX512 INLINE __m512 table_of(const float *level, const struct of_group *o)
{
    return level != NULL ? ended(_mm512_mul_ps(_mm512_loadu_ps(level), o->scale), o)
                         : values_of(_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), o);
}

/* n codes out of bytes that begin at `from`; the last ones are read, and written, behind a mask. */
#define CODES(from, load, vector)                                                                                           \
    do {                                                                                                                    \
        for (; i + 16 <= n && end - (from) >= 16; i += 16) {                                                                \
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(from));                                   \
            const __m512i code = load;                                                                                      \
            _mm512_storeu_ps(out + i, vector);                                                                              \
        }                                                                                                                   \
        for (; i < n; i += 16) {                                                                                            \
            const __m128i bytes = last_bytes(from, end);                                                                    \
            const __m512i code = load;                                                                                      \
            _mm512_mask_storeu_ps(out + i, first(n - i), vector);                                                           \
        }                                                                                                                   \
    } while (0)
#define PACKED(vector) CODES(at + i / 8 * bits, sixteen_codes(bytes, &p), vector)
#define NUMBER         values_of(_mm512_cvtepi32_ps(code), &o)

AVX512 INLINE void put_group(const unsigned char *at, const unsigned char *end, size_t n, const struct apr_coding *c, struct places p,
                             size_t g, float *out)
{
    const struct of_group o = of_group(c, g);
    const size_t bits = c->bits;
    size_t i = 0;
    if (bits <= 4 || c->level != NULL) {
        const __m512 table = table_of(c->level, &o);
        PACKED(_mm512_permutexvar_ps(code, table));
    } else if (bits < 8) {
        PACKED(NUMBER);
    } else if (c->with_sign) {
        CODES(at + i, _mm512_cvtepi8_epi32(bytes), NUMBER);
    } else {
        CODES(at + i, _mm512_cvtepu8_epi32(bytes), NUMBER);
    }
}

/* Groups of whole sixteens of codes of four bits, which are eight bytes: as put_group, with the fewest steps. */
AVX512 static void put_fours(const unsigned char *at, size_t n, const struct apr_coding *c, float *out)
{
    const struct places p = places_of(c);
    for (size_t g = 0, now; n > 0; g++, n -= now) {
        const struct of_group o = of_group(c, g);
        const __m512 table = table_of(c->level, &o);
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        for (size_t i = 0; i < now; i += 16, at += 8, out += 16) {
            const __m512i all = _mm512_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)(const void *)at));
            _mm512_storeu_ps(out, _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_shuffle_epi8(all, p.bytes), p.shift), table));
        }
    }
}

AVX512 static void put_codes(const unsigned char *codes, size_t n, const struct apr_coding *c, float *out)
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

/* ---- words ---------------------------------------------------------------------------------------------------------- */

/* Sixteen lines of sixteen words become rows: within a quarter of a line, then quarter by quarter. */
AVX512 INLINE void turn(__m512i x[16])
{
    __m512i a[16];
    UNROLL for (unsigned i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    UNROLL for (unsigned i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL for (unsigned i = 0; i < 16; i += i % 8 == 3 ? 5 : 1) {
        a[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        a[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    }
    UNROLL for (unsigned i = 0; i < 8; i++) {
        x[i] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0xdd);
    }
}

AVX512 static void words_down(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    __m512i x[16];
    UNROLL for (unsigned i = 0; i < 16; i++)
        x[i] = _mm512_loadu_si512(words + i * stride);
    turn(x);
    UNROLL for (unsigned i = 0; i < 16; i++)
        _mm512_storeu_si512(out + i * out_stride, x[i]);
}

/* The lower parts of x and y, then their upper ones, in their places or moved by n bits; `low` says which bits are lower ones. */
AVX512 INLINE void swap(__m512i *x, __m512i *y, unsigned n, uint32_t low)
{
    const __m512i mask = _mm512_set1_epi32((int)low), a = *x, b = *y;
    *x = _mm512_ternarylogic_epi32(mask, a, _mm512_slli_epi32(b, n), 0xca); /* mask ? a : b */
    *y = _mm512_ternarylogic_epi32(mask, _mm512_srli_epi32(a, n), b, 0xca);
}

/* Eight lines: nibble k of each becomes line k, and word `at` of sixteen words. */
AVX512 INLINE void turn_nibbles(const unsigned char *words, size_t stride, unsigned at, __m512i out[8][16])
{
    __m512i x[8];
    UNROLL for (unsigned i = 0; i < 8; i++)
        x[i] = _mm512_loadu_si512(words + i * stride);
    UNROLL for (unsigned i = 0; i < 4; i++)
        swap(&x[i], &x[i + 4], 16, 0x0000ffff);
    UNROLL for (unsigned i = 0; i < 8; i += i % 2 == 0 ? 1 : 3)
        swap(&x[i], &x[i + 2], 8, 0x00ff00ff);
    UNROLL for (unsigned i = 0; i < 8; i += 2)
        swap(&x[i], &x[i + 1], 4, 0x0f0f0f0f);
    UNROLL for (unsigned i = 0; i < 8; i++)
        out[i][at] = x[i];
}

AVX512 static void words_across(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    __m512i x[8][16];
    for (unsigned i = 0; i < 16; i++)
        turn_nibbles(words + 8 * i * stride, stride, i, x);
    for (unsigned k = 0; k < 8; k++) {
        unsigned char *const row = out + (k / 4 + k % 4 * 2) * out_stride;
        turn(x[k]);
        UNROLL for (unsigned w = 0; w < 16; w++)
            _mm512_storeu_si512(row + 8 * w * out_stride, x[k][w]);
    }
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* As binary16 a code moved to its place stands for its value over 256. */
AVX512 INLINE __m512i e4m3_halves(__m256i bytes)
{
    const __m512i codes = _mm512_cvtepu8_epi16(bytes), magnitude = _mm512_and_si512(codes, _mm512_set1_epi16(0x7f));
    const __mmask32 nan = _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x7f));
    const __m512i number = _mm512_mask_mov_epi16(_mm512_slli_epi16(magnitude, 7), nan, _mm512_set1_epi16(0x7e00));
    return _mm512_or_si512(number, _mm512_slli_epi16(_mm512_sub_epi16(codes, magnitude), 8));
}

/* 256 times a scale is exact unless it is infinite, and then, or with a factor, it is multiplied by 256 alone first. */
#define E4M3_VALUES(bytes)                                                                      \
    const __m512i half = e4m3_halves(bytes);                                                    \
    __m512 low = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_castsi512_si256(half)), times);           \
    __m512 high = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1)), times);    \
    if (apart) {                                                                                \
        low = ended(_mm512_mul_ps(low, o.scale), &o);                                           \
        high = ended(_mm512_mul_ps(high, o.scale), &o);                                         \
    }

AVX512 INLINE void e4m3_group(const unsigned char *code, size_t n, const struct apr_coding *c, size_t g, float *out)
{
    const struct of_group o = of_group(c, g);
    const bool large = !(c->scale[g] < 0x1p100f && c->scale[g] > -0x1p100f), apart = large || c->scaled;
    const __m512 times = _mm512_set1_ps(apart ? 256 : 256 * c->scale[g]);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        E4M3_VALUES(_mm256_loadu_si256((const __m256i *)(const void *)(code + i)));
        _mm512_storeu_ps(out + i, low);
        _mm512_storeu_ps(out + i + 16, high);
    }
    if (i < n) {
        const __mmask32 some = (1u << (n - i)) - 1;
        E4M3_VALUES(_mm256_maskz_loadu_epi8(some, code + i));
        _mm512_mask_storeu_ps(out + i, (__mmask16)some, low);
        if (some >> 16 != 0)
            _mm512_mask_storeu_ps(out + i + 16, (__mmask16)(some >> 16), high);
    }
}

AVX512 static void put_e4m3(const unsigned char *code, size_t n, const struct apr_coding *c, float *out)
{
    for (size_t g = 0, now; n > 0; g++, code += now, out += now, n -= now) {
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        e4m3_group(code, now, c, g, out);
    }
}

void apr_packed_avx512(struct apr_kernels *k)
{
    k->put_codes = put_codes;
    k->put_e4m3 = put_e4m3;
    k->words_down = words_down;
    k->words_across = words_across;
}
#endif
