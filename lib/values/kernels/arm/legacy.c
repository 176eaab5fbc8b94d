#ifdef __aarch64__
#include "values/kernels/arm/neon.h"

static void q4_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32) {
        const float d = apr_load_half(in);
        const uint8x16_t q = vld1q_u8(in + 2);
        put16(less(low_nibbles(q), 8), d, out);
        put16(less(high_nibbles(q), 8), d, out + 16);
    }
}

static void q4_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 20, out += 32) {
        const float d = apr_load_half(in), m = apr_load_half(in + 2);
        const uint8x16_t q = vld1q_u8(in + 4);
        put16_shifted(low_nibbles(q), d, m, out);
        put16_shifted(high_nibbles(q), d, m, out + 16);
    }
}

/* 16 in each byte whose bit is set in the two bytes at `high`. */
INLINE uint8x16_t fifth_bits(const unsigned char *high)
{
    const uint8x16_t both = vcombine_u8(vdup_n_u8(high[0]), vdup_n_u8(high[1]));
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    return vandq_u8(vtstq_u8(both, bit), vdupq_n_u8(16));
}

static void q5_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 22, out += 32) {
        const float d = apr_load_half(in);
        const uint8x16_t q = vld1q_u8(in + 6);
        put16(less(vorrq_u8(low_nibbles(q), fifth_bits(in + 2)), 16), d, out);
        put16(less(vorrq_u8(high_nibbles(q), fifth_bits(in + 4)), 16), d, out + 16);
    }
}

static void q5_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 24, out += 32) {
        const float d = apr_load_half(in), m = apr_load_half(in + 2);
        const uint8x16_t q = vld1q_u8(in + 8);
        put16_shifted(vorrq_u8(low_nibbles(q), fifth_bits(in + 4)), d, m, out);
        put16_shifted(vorrq_u8(high_nibbles(q), fifth_bits(in + 6)), d, m, out + 16);
    }
}

INLINE void put_signed32(const unsigned char *q, float d, float *out)
{
    put16(vreinterpretq_s8_u8(vld1q_u8(q)), d, out);
    put16(vreinterpretq_s8_u8(vld1q_u8(q + 16)), d, out + 16);
}

static void q8_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 34, out += 32)
        put_signed32(in + 2, apr_load_half(in), out);
}

static void q8_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 36, out += 32)
        put_signed32(in + 4, apr_load_half(in), out);
}

void apr_legacy_neon(struct apr_kernels *k)
{
    k->decode[APR_Q4_0] = q4_0;
    k->decode[APR_Q4_1] = q4_1;
    k->decode[APR_Q5_0] = q5_0;
    k->decode[APR_Q5_1] = q5_1;
    k->decode[APR_Q8_0] = q8_0;
    k->decode[APR_Q8_1] = q8_1;
}
#endif
