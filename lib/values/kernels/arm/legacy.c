#ifdef __aarch64__
#include "values/kernels/arm/neon.h"
#include "values/kernels/encode.h"

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

/* The largest magnitude of 32 floats. A comparison passes NaNs over; FMAX would keep them. */
INLINE float largest32(const float *x)
{
    float32x4_t most = vdupq_n_f32(0);
    for (unsigned i = 0; i < 8; i++) {
        const float32x4_t magnitude = vabsq_f32(vld1q_f32(x + 4 * i));
        most = vbslq_f32(vcgtq_f32(magnitude, most), magnitude, most);
    }
    return vmaxvq_f32(most);
}

/* 0 for what is no i32. Conversions here would give the nearest that is one. */
INLINE float32x4_t numbers(float32x4_t v)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vcltq_f32(vabsq_f32(v), vdupq_n_f32(0x1p31f))));
}

/* The low bytes of 16 integers. */
INLINE uint8x16_t low_bytes(const int32x4_t w[4])
{
    const int16x8_t low = vcombine_s16(vmovn_s32(w[0]), vmovn_s32(w[1])), high = vcombine_s16(vmovn_s32(w[2]), vmovn_s32(w[3]));
    return vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

/* Codes of 16 values around 8, rounded half up. */
INLINE uint8x16_t codes_around8(const float *x, float per_d)
{
    int32x4_t w[4];
    for (unsigned i = 0; i < 4; i++)
        w[i] = vcvtq_s32_f32(numbers(vaddq_f32(vmulq_n_f32(vld1q_f32(x + 4 * i), per_d), vdupq_n_f32(8.5f))));
    return vminq_u8(low_bytes(w), vdupq_n_u8(15));
}

static void q4_0_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 18) {
        const float most = largest32(x);
        unsigned at = 0;
        while (most > 0 && fabsf(x[at]) != most)
            at++;
        const float d = (most > 0 ? x[at] : 0) / -8, per_d = apr_inverse(d);
        apr_store_scale(out, d);
        vst1q_u8(out + 2, vorrq_u8(codes_around8(x, per_d), vshlq_n_u8(codes_around8(x + 16, per_d), 4)));
    }
}

/* 16 values as signed bytes, ties away from zero. */
INLINE uint8x16_t rounded16(const float *x, float per_d)
{
    int32x4_t w[4];
    for (unsigned i = 0; i < 4; i++)
        w[i] = vcvtaq_s32_f32(numbers(vmulq_n_f32(vld1q_f32(x + 4 * i), per_d)));
    return low_bytes(w);
}

static void q8_0_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 34) {
        const float d = largest32(x) / 127, per_d = apr_inverse(d);
        apr_store_scale(out, d);
        vst1q_u8(out + 2, rounded16(x, per_d));
        vst1q_u8(out + 18, rounded16(x + 16, per_d));
    }
}

void apr_legacy_neon(struct apr_kernels *k)
{
    k->encode[APR_Q4_0] = q4_0_encode;
    k->encode[APR_Q8_0] = q8_0_encode;
    k->decode[APR_Q4_0] = q4_0;
    k->decode[APR_Q4_1] = q4_1;
    k->decode[APR_Q5_0] = q5_0;
    k->decode[APR_Q5_1] = q5_1;
    k->decode[APR_Q8_0] = q8_0;
    k->decode[APR_Q8_1] = q8_1;
}
#endif
