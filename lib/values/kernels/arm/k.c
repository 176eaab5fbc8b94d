#ifdef __aarch64__
#include "values/kernels/arm/neon.h"

/* `right` bits from the right end of each byte, two of them. */
INLINE uint8x16_t plane(uint8x16_t q, unsigned right) { return vandq_u8(vshlq_u8(q, vdupq_n_s8((int8_t)-(int)right)), vdupq_n_u8(3)); }

static void q2_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 84) {
        const uint8x16_t both = vld1q_u8(in);
        float scale[16], shift[16];
        put16(vreinterpretq_s8_u8(low_nibbles(both)), apr_load_half(in + 80), scale);
        put16(vreinterpretq_s8_u8(high_nibbles(both)), -apr_load_half(in + 82), shift);
        for (unsigned j = 0; j < 16; j++, out += 16) {
            const uint8x16_t q = vld1q_u8(in + 16 + j / 8 * 32 + j % 2 * 16);
            put16_shifted(plane(q, j / 2 % 4 * 2), scale[j], shift[j], out);
        }
    }
}

/* The sixteen 6-bit scales, less 32. */
INLINE int8x16_t q3_scales(const unsigned char *b)
{
    static const int32_t right[4] = { 0, -2, -4, -6 };
    const uint8x8_t eight = vld1_u8(b);
    const uint8x16_t low = vcombine_u8(vand_u8(eight, vdup_n_u8(15)), vshr_n_u8(eight, 4));
    const uint8x16_t pairs = vreinterpretq_u8_u32(vshlq_u32(vdupq_n_u32(apr_load32(b + 8)), vld1q_s32(right)));
    return less(vorrq_u8(low, vshlq_n_u8(vandq_u8(pairs, vdupq_n_u8(3)), 4)), 32);
}

static void q3_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 110) {
        float scale[16];
        put16(q3_scales(in + 96), apr_load_half(in + 108), scale);
        for (unsigned j = 0; j < 16; j++, out += 16) {
            const uint8x16_t q = vld1q_u8(in + 32 + j / 8 * 32 + j % 2 * 16), high = vld1q_u8(in + j % 2 * 16);
            const uint8x16_t third = vandq_u8(vtstq_u8(high, vdupq_n_u8((uint8_t)(1u << j / 2))), vdupq_n_u8(4));
            put16(less(vorrq_u8(plane(q, j / 2 % 4 * 2), third), 4), scale[j], out);
        }
    }
}

/* d and dmin times the eight pairs of 6-bit scales and mins in 12 bytes, as scalar six_bits() finds them; the mins turned negative,
 * since a - b and a + -b are the same. */
INLINE void six_bits(const unsigned char *in, float scale[16], float shift[16])
{
    const uint32_t low = 0x0f0f0f0f, two = 0x03030303, six = 0x3f3f3f3f;
    const uint32_t a = apr_load32(in + 4), b = apr_load32(in + 8), c = apr_load32(in + 12);
    const uint64_t scales = (c & low) | (a >> 6 & two) << 4, mins = (c >> 4 & low) | (b >> 6 & two) << 4;
    put16(vreinterpretq_s8_u64(vdupq_n_u64(scales << 32 | (a & six))), apr_load_half(in), scale);
    put16(vreinterpretq_s8_u64(vdupq_n_u64(mins << 32 | (b & six))), -apr_load_half(in + 2), shift);
}

static void q4_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 144) {
        float scale[16], shift[16];
        six_bits(in, scale, shift);
        for (unsigned j = 0; j < 8; j += 2, out += 64)
            for (unsigned i = 0; i < 32; i += 16) {
                const uint8x16_t q = vld1q_u8(in + 16 + 16 * j + i);
                put16_shifted(low_nibbles(q), scale[j], shift[j], out + i);
                put16_shifted(high_nibbles(q), scale[j + 1], shift[j + 1], out + 32 + i);
            }
    }
}

/* 16 where bit j of a byte is set. */
INLINE uint8x16_t fifth_bits(uint8x16_t high, unsigned j)
{
    return vandq_u8(vtstq_u8(high, vdupq_n_u8((uint8_t)(1u << j))), vdupq_n_u8(16));
}

static void q5_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 176) {
        float scale[16], shift[16];
        six_bits(in, scale, shift);
        for (unsigned j = 0; j < 8; j += 2, out += 64)
            for (unsigned i = 0; i < 32; i += 16) {
                const uint8x16_t q = vld1q_u8(in + 48 + 16 * j + i), high = vld1q_u8(in + 16 + i);
                put16_shifted(vorrq_u8(low_nibbles(q), fifth_bits(high, j)), scale[j], shift[j], out + i);
                put16_shifted(vorrq_u8(high_nibbles(q), fifth_bits(high, j + 1)), scale[j + 1], shift[j + 1], out + 32 + i);
            }
    }
}

static void q6_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 210) {
        float scale[16];
        put16(vreinterpretq_s8_u8(vld1q_u8(in + 192)), apr_load_half(in + 208), scale);
        for (unsigned j = 0; j < 16; j++, out += 16) {
            const unsigned quarter = j / 2 % 4, at = j % 2 * 16;
            const uint8x16_t q = vld1q_u8(in + j / 8 * 64 + quarter % 2 * 32 + at), high = vld1q_u8(in + 128 + j / 8 * 32 + at);
            const uint8x16_t low = quarter < 2 ? low_nibbles(q) : high_nibbles(q);
            put16(less(vorrq_u8(low, vshlq_n_u8(plane(high, 2 * quarter), 4)), 32), scale[j], out);
        }
    }
}

static void q8_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 292)
        for (unsigned i = 0; i < 256; i += 16, out += 16)
            put16(vreinterpretq_s8_u8(vld1q_u8(in + 4 + i)), apr_float_of_bits(apr_load32(in)), out);
}

void apr_k_neon(struct apr_kernels *k)
{
    k->decode[APR_Q2_K] = q2_k;
    k->decode[APR_Q3_K] = q3_k;
    k->decode[APR_Q4_K] = q4_k;
    k->decode[APR_Q5_K] = q5_k;
    k->decode[APR_Q6_K] = q6_k;
    k->decode[APR_Q8_K] = q8_k;
}
#endif
