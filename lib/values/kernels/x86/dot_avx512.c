#ifdef __x86_64__
#include "values/kernels/grids.h"

#include "values/kernels/x86/avx2.h"

#define LEVEL   __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#define LANE    LEVEL INLINE
#define PER_SUM 2u

typedef __m512d doubles;

/* Of 256 elements: a byte for each, and the scales of 16 or 32 of them, with what is added to scale * code. */
struct prepared {
    _Alignas(64) double  scale[16], shift[8];
    _Alignas(64) uint8_t code[256];
    float                narrow_scale[8], narrow_shift[8];
};

LANE doubles none(void) { return _mm512_setzero_pd(); }

LANE double folded(const doubles sum[PER_SUM])
{
    const __m512d eight = sum[0] + sum[1];
    const __m256d four = _mm512_castpd512_pd256(eight) + _mm512_extractf64x4_pd(eight, 1);
    const __m128d two = _mm256_castpd256_pd128(four) + _mm256_extractf128_pd(four, 1);
    return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

LANE doubles add_eight(__m256 w, const double *x, doubles sum) { return _mm512_fmadd_pd(_mm512_cvtps_pd(w), _mm512_loadu_pd(x), sum); }

LANE void add_floats(__m256 low, __m256 high, const double *x, doubles sum[PER_SUM])
{
    sum[0] = add_eight(low, x, sum[0]);
    sum[1] = add_eight(high, x + 8, sum[1]);
}

#include "values/kernels/x86/dot_lanes.h"

/* Of blocks there is nothing left over. */
LANE void no_more(const unsigned char *in, const double *x, size_t n, doubles sum[PER_SUM]) { (void)in, (void)x, (void)n, (void)sum; }

/* ---- scales --------------------------------------------------------------------------------------------------------- */

/* A half as the bits of a double. Where it is an ordinary number, ports do it that have nothing else to do. */
LANE uint64_t half_bits(const unsigned char *p)
{
    const unsigned half = apr_load16(p), exponent = half & 0x7c00;
    uint64_t bits;
    if (__builtin_expect(exponent == 0 || exponent == 0x7c00, 0)) {
        const double d = (double)_cvtsh_ss((unsigned short)half);
        memcpy(&bits, &d, sizeof bits);
        return bits;
    }
    return (uint64_t)(half >> 15) << 63 | (((uint64_t)(half & 0x7fff) << 42) + ((UINT64_C(1023) - 15) << 52));
}

LANE doubles everywhere(uint64_t bits) { return _mm512_castsi512_pd(_mm512_set1_epi64((long long)bits)); }
LANE doubles half_scale(const unsigned char *p) { return everywhere(half_bits(p)); }

/* As an integer: some CPUs take twice as long for it as a double. */
LANE doubles repeated(const double *p)
{
    uint64_t bits;
    memcpy(&bits, p, sizeof bits);
    return everywhere(bits);
}

struct sixteen {
    doubles low, high;
};

/* By way of memory, where compilers would not go: out of it, a widening is one operation, else two. */
LANE struct sixteen widened(__m512 v)
{
    _Alignas(64) float in_memory[16];
    _mm512_store_ps(in_memory, v);
    __asm__("" : "+m"(in_memory));
    return (struct sixteen){ _mm512_cvtps_pd(_mm256_load_ps(in_memory)), _mm512_cvtps_pd(_mm256_load_ps(in_memory + 8)) };
}

/* Whether no value scale * code + shift has more than the 24 bits of a float, so that it is not rounded and may be worked out in double.
 * Both are halves, of 11 bits, times integers: of `product` bits in scale * code, of `other` bits in shift. Their sum has a bit more than
 * the one that reaches further up, and ends where the lower one ends. */
LANE bool fits_a_float(const unsigned char *scale, const unsigned char *shift, int product, int other)
{
    const int a = apr_load16(scale) >> 10 & 31, b = apr_load16(shift) >> 10 & 31;
    const int apart = (a > 0 ? a : 1) - (b > 0 ? b : 1);
    return __builtin_expect(11 + product + apart < 24 && 11 + other - apart < 24, 1);
}

/* ---- codes of four bits: looked up in the sixteen values that they have --------------------------------------------- */

LANE struct sixteen to_fifteen(void)
{
    return (struct sixteen){ _mm512_setr_pd(0, 1, 2, 3, 4, 5, 6, 7), _mm512_setr_pd(8, 9, 10, 11, 12, 13, 14, 15) };
}

LANE struct sixteen scaled(doubles low, doubles high, doubles scale) { return (struct sixteen){ low * scale, high * scale }; }

LANE struct sixteen levels(const int8_t level[16], doubles scale)
{
    const __m512i all = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)level));
    return scaled(_mm512_cvtepi32_pd(_mm512_castsi512_si256(all)), _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(all, 1)), scale);
}

LANE struct sixteen exact_values(doubles scale, doubles shift)
{
    const struct sixteen v = to_fifteen();
    return (struct sixteen){ _mm512_fmadd_pd(v.low, scale, shift), _mm512_fmadd_pd(v.high, scale, shift) };
}

/* The product is exact, and the sum is rounded, as a float. */
LANE struct sixteen rounded_values(__m512 scale, __m512 shift)
{
    const __m512 v = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return widened(_mm512_fmadd_ps(v, scale, shift));
}

/* Of 8 bytes in every lane each lane shifts its own to the right end; what is left of its four bits does not count. */
LANE doubles add_looked_up(const unsigned char *in, __m512i right, const struct sixteen *v, const double *x, doubles sum)
{
    const __m512i codes = _mm512_srlv_epi64(_mm512_broadcastq_epi64(load8(in)), right);
    return _mm512_fmadd_pd(_mm512_permutex2var_pd(v->low, codes, v->high), _mm512_loadu_pd(x), sum);
}

/* n bytes of two codes each, 16 or 32: the left ones belong to the n elements after those of the right ones. */
LANE void add_nibbles(const unsigned char *in, unsigned n, const struct sixteen *right, const struct sixteen *left, const double *x,
                      doubles sum[PER_SUM])
{
    const __m512i low = _mm512_setr_epi64(0, 8, 16, 24, 32, 40, 48, 56), high = _mm512_setr_epi64(4, 12, 20, 28, 36, 44, 52, 60);
    UNROLL
    for (unsigned i = 0; i < n; i += 8)
        sum[i / 8 % 2] = add_looked_up(in + i, low, right, x + i, sum[i / 8 % 2]);
    UNROLL
    for (unsigned i = 0; i < n; i += 8)
        sum[i / 8 % 2] = add_looked_up(in + i, high, left, x + n + i, sum[i / 8 % 2]);
}

LANE void q4_0(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const struct sixteen v =
        scaled(_mm512_setr_pd(-8, -7, -6, -5, -4, -3, -2, -1), _mm512_setr_pd(0, 1, 2, 3, 4, 5, 6, 7), half_scale(in));
    add_nibbles(in + 2, 16, &v, &v, x, sum);
}

LANE void q4_1(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    struct sixteen v;
    if (fits_a_float(in, in + 2, 4, 0))
        v = exact_values(half_scale(in), half_scale(in + 2));
    else
        v = rounded_values(_mm512_set1_ps(_cvtsh_ss(apr_load16(in))), _mm512_set1_ps(_cvtsh_ss(apr_load16(in + 2))));
    add_nibbles(in + 4, 16, &v, &v, x, sum);
}

LANE void iq4_nl(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    const struct sixteen v = levels(iq4nl_levels, half_scale(in));
    add_nibbles(in + 2, 16, &v, &v, x, sum);
}

/* | f16 d | u16 two upper bits of each scale | 4: lower four bits | 128: nibbles | */
LANE void prepare_iq4_xs(const unsigned char *in, struct prepared *p)
{
    const __m256i fours = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28), twos = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256i low = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32((int)apr_load32(in + 4)), fours), _mm256_set1_epi32(15));
    const __m256i high = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(apr_load16(in + 2)), twos), _mm256_set1_epi32(3));
    const __m256i six = _mm256_or_si256(low, _mm256_slli_epi32(high, 4));
    _mm512_store_pd(p->scale, _mm512_cvtepi32_pd(_mm256_sub_epi32(six, _mm256_set1_epi32(32))) * half_scale(in));
}

LANE void iq4_xs(const unsigned char *in, const struct prepared *p, const double *x, doubles sum[PER_SUM])
{
    UNROLL
    for (unsigned j = 0; j < 8; j++) {
        const struct sixteen v = levels(iq4nl_levels, repeated(p->scale + j));
        add_nibbles(in + 8 + 16 * j, 16, &v, &v, x + 32 * j, sum);
    }
}

#define OVERFLOWS 253u /* from this exponent on the largest level, 12, is too much for a float */

LANE void mxfp4(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    struct sixteen v = levels(fp4_doubled, everywhere((uint64_t)(1023 - 128 + in[0]) << 52));
    if (__builtin_expect(in[0] >= OVERFLOWS, 0))
        v = widened(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)fp4_doubled))) *
                    _mm512_set1_ps(apr_e8m0_half(in[0])));
    add_nibbles(in + 1, 16, &v, &v, x, sum);
}

/* Scales and shifts of a K type's eight sub-blocks. */
LANE void prepare_pairs(const unsigned char *in, struct prepared *p)
{
    six_bits(in, p->narrow_scale, p->narrow_shift);
    _mm512_store_pd(p->scale, _mm512_cvtps_pd(_mm256_loadu_ps(p->narrow_scale)));
    _mm512_store_pd(p->shift, _mm512_cvtps_pd(_mm256_loadu_ps(p->narrow_shift)));
}

LANE struct sixteen values_of_pair(const struct prepared *p, unsigned j, bool exact)
{
    return exact ? exact_values(repeated(p->scale + j), repeated(p->shift + j))
                 : rounded_values(_mm512_set1_ps(p->narrow_scale[j]), _mm512_set1_ps(p->narrow_shift[j]));
}

LANE void q4_k_as(const unsigned char *in, const struct prepared *p, bool exact, const double *x, doubles sum[PER_SUM])
{
    UNROLL
    for (unsigned j = 0; j < 8; j += 2, x += 64) {
        const struct sixteen right = values_of_pair(p, j, exact), left = values_of_pair(p, j + 1, exact);
        add_nibbles(in + 16 + 16 * j, 32, &right, &left, x, sum);
    }
}

LANE void q4_k(const unsigned char *in, const struct prepared *p, const double *x, doubles sum[PER_SUM])
{
    if (fits_a_float(in, in + 2, 6 + 4, 6))
        q4_k_as(in, p, true, x, sum);
    else
        q4_k_as(in, p, false, x, sum);
}

/* ---- codes of more bits: by way of integers --------------------------------------------------------------- */

/* 8 signed bytes. */
LANE doubles doubles_of(const uint8_t *code) { return _mm512_cvtepi64_pd(_mm512_cvtepi8_epi64(load8(code))); }

/* n of them times scale, 16 or 32. */
LANE void add_signed(const uint8_t *code, unsigned n, doubles scale, const double *x, doubles sum[PER_SUM])
{
    UNROLL
    for (unsigned i = 0; i < n; i += 8)
        sum[i / 8 % 2] = _mm512_fmadd_pd(doubles_of(code + i) * scale, _mm512_loadu_pd(x + i), sum[i / 8 % 2]);
}

LANE void q8_0(const unsigned char *in, const double *x, doubles sum[PER_SUM]) { add_signed(in + 2, 32, half_scale(in), x, sum); }

/* The codes of a block: 16 less where the fifth bit is clear. */
LANE void fives(const unsigned char *in, uint8_t code[32])
{
    const __m128i both = load16(in + 6);
    const __m256i less = _mm256_or_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8((char)0xf0));
    _mm256_store_si256((__m256i *)code, _mm256_mask_add_epi8(less, apr_load32(in + 2), less, _mm256_set1_epi8(16)));
}

#define Q5_0_BYTES  22u
#define Q5_0_BLOCKS 8u /* that are prepared at once */

LANE void prepare_q5_0(const unsigned char *in, struct prepared *p)
{
    UNROLL
    for (unsigned i = 0; i < Q5_0_BLOCKS; i++)
        fives(in + Q5_0_BYTES * i, p->code + 32 * i);
}

LANE void q5_0(const unsigned char *in, const struct prepared *p, const double *x, doubles sum[PER_SUM])
{
    UNROLL
    for (unsigned i = 0; i < Q5_0_BLOCKS; i++)
        add_signed(p->code + 32 * i, 32, half_scale(in + Q5_0_BYTES * i), x + 32 * i, sum);
}

LANE void q5_0_last(const unsigned char *in, const double *x, size_t n, doubles sum[PER_SUM])
{
    for (; n > 0; n -= 32, in += Q5_0_BYTES, x += 32) {
        _Alignas(64) uint8_t code[32];
        fives(in, code);
        add_signed(code, 32, half_scale(in), x, sum);
    }
}

/* Sixteen scales: signed bytes times a half. */
LANE void prepare_scales(__m128i scale, const unsigned char *half, struct prepared *p)
{
    const struct sixteen v = widened(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scale)) * _mm512_set1_ps(_cvtsh_ss(apr_load16(half))));
    _mm512_store_pd(p->scale, v.low);
    _mm512_store_pd(p->scale + 8, v.high);
}

LANE void sixteen_scales(const unsigned char *in, const struct prepared *p, const double *x, doubles sum[PER_SUM])
{
    (void)in;
    UNROLL
    for (unsigned i = 0; i < 16; i++)
        add_signed(p->code + 16 * i, 16, repeated(p->scale + i), x + 16 * i, sum);
}

/* What is done to words of the lower half and of the upper one. */
LANE __m512i by_halves(short first, short second) { return _mm512_inserti64x4(_mm512_set1_epi16(first), _mm256_set1_epi16(second), 1); }

#define A_OR_BOTH 0xf8 /* a | (b & c) */

/* 64 codes: `low` bits of a, `high` ones of b, less the highest one's worth. */
LANE void put_codes64(__m512i a, char low, __m512i b, char high, char less, uint8_t code[64])
{
    const __m512i all = _mm512_ternarylogic_epi64(_mm512_and_si512(a, _mm512_set1_epi8(low)), b, _mm512_set1_epi8(high), A_OR_BOTH);
    _mm512_store_si512(code, _mm512_sub_epi8(all, _mm512_set1_epi8(less)));
}

LANE void prepare_q6_k(const unsigned char *in, struct prepared *p)
{
    prepare_scales(load16(in + 192), in + 208, p);
    UNROLL
    for (unsigned i = 0; i < 2; i++) {
        const __m512i low = _mm512_loadu_si512(in + 64 * i), high = _mm512_broadcast_i64x4(load32(in + 128 + 32 * i));
        put_codes64(low, 15, _mm512_sllv_epi16(high, by_halves(4, 2)), 48, 32, p->code + 128 * i);
        put_codes64(_mm512_srli_epi16(low, 4), 15, _mm512_srlv_epi16(high, by_halves(0, 2)), 48, 32, p->code + 128 * i + 64);
    }
}

LANE void prepare_q3_k(const unsigned char *in, struct prepared *p)
{
    const __m512i high = _mm512_broadcast_i64x4(load32(in));
    prepare_scales(q3_scales(in + 96), in + 108, p);
    UNROLL
    for (unsigned i = 0; i < 4; i++) {
        const __m512i low = _mm512_broadcast_i64x4(load32(in + 32 + i / 2 * 32));
        const short right = (short)(2 * i - 2);
        const __m512i third = /* bits 2 * i and 2 * i + 1, to where a third bit stands */
            i == 0 ? _mm512_sllv_epi16(high, by_halves(2, 1)) : _mm512_srlv_epi16(high, by_halves(right, (short)(right + 1)));
        put_codes64(_mm512_srlv_epi16(low, i % 2 ? by_halves(4, 6) : by_halves(0, 2)), 3, third, 4, 4, p->code + 64 * i);
    }
}

/* 32 codes times a scale, plus a shift. */
LANE void add_exact(const uint8_t *code, doubles scale, doubles shift, const double *x, doubles sum[PER_SUM])
{
    UNROLL
    for (unsigned i = 0; i < 32; i += 8)
        sum[i / 8 % 2] = _mm512_fmadd_pd(_mm512_fmadd_pd(doubles_of(code + i), scale, shift), _mm512_loadu_pd(x + i), sum[i / 8 % 2]);
}

LANE void add_rounded(const uint8_t *code, __m512 scale, __m512 shift, const double *x, doubles sum[PER_SUM])
{
    UNROLL
    for (unsigned i = 0; i < 32; i += 16) {
        const struct sixteen w = widened(_mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load16(code + i))), scale, shift));
        sum[0] = _mm512_fmadd_pd(w.low, _mm512_loadu_pd(x + i), sum[0]);
        sum[1] = _mm512_fmadd_pd(w.high, _mm512_loadu_pd(x + i + 8), sum[1]);
    }
}

LANE void prepare_q5_k(const unsigned char *in, struct prepared *p)
{
    const __m256i fifth = _mm256_set1_epi8(16);
    __m256i high = load32(in + 16);
    prepare_pairs(in, p);
    UNROLL
    for (unsigned i = 0; i < 4; i++, high = _mm256_srli_epi16(high, 2)) {
        const __m256i q = load32(in + 48 + 32 * i);
        _mm256_store_si256((__m256i *)(p->code + 64 * i),
                            _mm256_or_si256(nibbles_of32(q, 0), _mm256_and_si256(_mm256_slli_epi16(high, 4), fifth)));
        _mm256_store_si256((__m256i *)(p->code + 64 * i + 32),
                            _mm256_or_si256(nibbles_of32(q, 4), _mm256_and_si256(_mm256_slli_epi16(high, 3), fifth)));
    }
}

LANE void q5_k(const unsigned char *in, const struct prepared *p, const double *x, doubles sum[PER_SUM])
{
    if (fits_a_float(in, in + 2, 6 + 5, 6)) {
        UNROLL
        for (unsigned j = 0; j < 8; j++)
            add_exact(p->code + 32 * j, repeated(p->scale + j), repeated(p->shift + j), x + 32 * j, sum);
    } else {
        UNROLL
        for (unsigned j = 0; j < 8; j++)
            add_rounded(p->code + 32 * j, _mm512_set1_ps(p->narrow_scale[j]), _mm512_set1_ps(p->narrow_shift[j]), x + 32 * j, sum);
    }
}

SIMPLE_DOT(q4_0_dot, 32, 18, q4_0, no_more)
SIMPLE_DOT(q4_1_dot, 32, 20, q4_1, no_more)
DOT(q5_0_dot, 32 * Q5_0_BLOCKS, Q5_0_BYTES * Q5_0_BLOCKS, prepare_q5_0, q5_0, q5_0_last)
SIMPLE_DOT(q8_0_dot, 32, 34, q8_0, no_more)
DOT(q4_k_dot, 256, 144, prepare_pairs, q4_k, no_more)
DOT(q5_k_dot, 256, 176, prepare_q5_k, q5_k, no_more)
DOT(q6_k_dot, 256, 210, prepare_q6_k, sixteen_scales, no_more)
DOT(q3_k_dot, 256, 110, prepare_q3_k, sixteen_scales, no_more)
SIMPLE_DOT(iq4_nl_dot, 32, 18, iq4_nl, no_more)
DOT(iq4_xs_dot, 256, 136, prepare_iq4_xs, iq4_xs, no_more)
SIMPLE_DOT(mxfp4_dot, 32, 17, mxfp4, no_more)

void apr_dot_avx512(struct apr_kernels *k)
{
    set_plain_dots(k);
    k->dot[APR_Q4_0] = q4_0_dot;
    k->dot[APR_Q4_1] = q4_1_dot;
    k->dot[APR_Q5_0] = q5_0_dot;
    k->dot[APR_Q8_0] = q8_0_dot;
    k->dot[APR_Q3_K] = q3_k_dot;
    k->dot[APR_Q4_K] = q4_k_dot;
    k->dot[APR_Q5_K] = q5_k_dot;
    k->dot[APR_Q6_K] = q6_k_dot;
    k->dot[APR_IQ4_NL] = iq4_nl_dot;
    k->dot[APR_IQ4_XS] = iq4_xs_dot;
    k->dot[APR_MXFP4] = mxfp4_dot;
}
#endif
