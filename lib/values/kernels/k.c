/* GGML's K types: super-blocks of 256 with scales that are quantized themselves. Products and sums are those of the reference,
 * each rounded on its own. */
#include "values/kernels/init.h"

/* The two-bit code of element i, as Q2_K and Q3_K lay them out: four planes in 32 bytes, twice. */
static inline unsigned two_bits(const unsigned char *q, unsigned i)
{
    return (unsigned)q[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3u;
}

/* | 16: 4-bit scale, 4-bit min | 64: 2-bit codes | f16 d | f16 dmin | */
static void q2_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 84, out += 256) {
        const float d = apr_load_half(in + 80), dmin = apr_load_half(in + 82);
        for (unsigned j = 0; j < 16; j++) {
            const float dl = d * (float)(in[j] & 15), ml = dmin * (float)(in[j] >> 4);
            for (unsigned i = 16 * j; i < 16 * j + 16; i++)
                out[i] = dl * (float)two_bits(in + 16, i) - ml;
        }
    }
}

/* | 32: third bits, inverted | 64: 2-bit codes | 12: 6-bit scales, their low four bits first | f16 d | */
static void q3_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 110, out += 256) {
        const unsigned char *scales = in + 96;
        const float d = apr_load_half(in + 108);
        for (unsigned j = 0; j < 16; j++) {
            const int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4, high = scales[8 + j % 4] >> j / 4 * 2 & 3;
            const float dl = d * (float)((low | high << 4) - 32);
            for (unsigned i = 16 * j; i < 16 * j + 16; i++)
                out[i] = dl * (float)((int)two_bits(in + 32, i) - (in[i % 32] >> i / 32 & 1 ? 0 : 4));
        }
    }
}

/* Scale and min j of the eight pairs in 12 bytes:
 *   | 4: scales 0-3 | 4: mins 0-3 | 4: scales 4-7 low nibble, mins 4-7 high nibble |, their upper two bits in those of the first 8 */
static inline void six_bits(const unsigned char *b, unsigned j, unsigned *scale, unsigned *min)
{
    if (j < 4) {
        *scale = b[j] & 63u;
        *min = b[j + 4] & 63u;
    } else {
        *scale = (b[j + 4] & 15u) | (unsigned)b[j - 4] >> 6 << 4;
        *min = b[j + 4] >> 4 | (unsigned)b[j] >> 6 << 4;
    }
}

/* | f16 d | f16 dmin | 12: 6-bit scales, mins | 128: nibbles, 32 low then the same 32 high | */
static void q4_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 144, out += 256) {
        const float d = apr_load_half(in), dmin = apr_load_half(in + 2);
        for (unsigned j = 0; j < 8; j++) {
            unsigned scale, min;
            six_bits(in + 4, j, &scale, &min);
            const float dl = d * (float)scale, ml = dmin * (float)min;
            const unsigned char *q = in + 16 + j / 2 * 32;
            for (unsigned i = 0; i < 32; i++)
                out[32 * j + i] = dl * (float)(q[i] >> j % 2 * 4 & 15) - ml;
        }
    }
}

/* | f16 d | f16 dmin | 12: 6-bit scales, mins | 32: fifth bits, bit j for sub-block j | 128: nibbles | */
static void q5_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 176, out += 256) {
        const float d = apr_load_half(in), dmin = apr_load_half(in + 2);
        for (unsigned j = 0; j < 8; j++) {
            unsigned scale, min;
            six_bits(in + 4, j, &scale, &min);
            const float dl = d * (float)scale, ml = dmin * (float)min;
            const unsigned char *high = in + 16, *q = in + 48 + j / 2 * 32;
            for (unsigned i = 0; i < 32; i++)
                out[32 * j + i] = dl * (float)((q[i] >> j % 2 * 4 & 15) | (high[i] >> j & 1) << 4) - ml;
        }
    }
}

/* | 128: low nibbles | 64: upper two bits | 16: i8 scales | f16 d |
 * Each half of 128 takes 64 and 32 bytes: quarters 0, 1 in the low nibbles of the two 32s, quarters 2, 3 in the high ones. */
static void q6_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 210, out += 256) {
        const float d = apr_load_half(in + 208);
        for (unsigned j = 0; j < 16; j++) {
            const unsigned quarter = j / 2 % 4, at = j % 2 * 16;
            const unsigned char *low = in + j / 8 * 64 + quarter % 2 * 32 + at, *high = in + 128 + j / 8 * 32 + at;
            const float dl = d * (float)(int8_t)in[192 + j];
            for (unsigned i = 0; i < 16; i++)
                out[16 * j + i] = dl * (float)(((low[i] >> quarter / 2 * 4 & 15) | (high[i] >> 2 * quarter & 3) << 4) - 32);
        }
    }
}

/* | f32 d | 256: i8 | 16: i16 sums of 16 | */
static void q8_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 292, out += 256) {
        const float d = apr_float_of_bits(apr_load32(in));
        for (unsigned i = 0; i < 256; i++)
            out[i] = d * (float)(int8_t)in[4 + i];
    }
}

void apr_k_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->decode[APR_Q2_K] = q2_k;
    k->decode[APR_Q3_K] = q3_k;
    k->decode[APR_Q4_K] = q4_k;
    k->decode[APR_Q5_K] = q5_k;
    k->decode[APR_Q6_K] = q6_k;
    k->decode[APR_Q8_K] = q8_k;
    if (APR_X86 && isa >= APR_AVX2)
        apr_k_x86(k);
    if (APR_ARM && isa == APR_NEON)
        apr_k_neon(k);
}
