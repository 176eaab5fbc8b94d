/* Floats of 16 and 8 bits, each value on its own. */
#ifdef __aarch64__
#include "values/kernels/arm/neon.h"

/* A decoder from one that does 8 values. The last ones go through a buffer, so that no byte beyond them is read or written. */
#define DECODER(name, bytes, decode8)                                                           \
    static void name(const unsigned char *head, const unsigned char *in, size_t n, float *out)  \
    {                                                                                           \
        (void)head;                                                                             \
        for (; n >= 8; n -= 8, in += 8 * (bytes), out += 8)                                     \
            decode8(in, out);                                                                   \
        if (n) {                                                                                \
            unsigned char last[8 * (bytes)] = { 0 };                                            \
            float values[8];                                                                    \
            memcpy(last, in, n * (bytes));                                                      \
            decode8(last, values);                                                              \
            memcpy(out, values, n * sizeof *out);                                               \
        }                                                                                       \
    }

INLINE void put_halves(uint16x8_t halves, float times, float *out)
{
    const float16x8_t h = vreinterpretq_f16_u16(halves);
    vst1q_f32(out, vmulq_n_f32(vcvt_f32_f16(vget_low_f16(h)), times));
    vst1q_f32(out + 4, vmulq_n_f32(vcvt_high_f32_f16(h), times));
}

INLINE void f16_8(const unsigned char *in, float *out) { put_halves(vreinterpretq_u16_u8(vld1q_u8(in)), 1, out); }

INLINE void bf16_8(const unsigned char *in, float *out)
{
    const uint16x8_t codes = vreinterpretq_u16_u8(vld1q_u8(in));
    vst1q_f32(out, vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(codes), 16)));
    vst1q_f32(out + 4, vreinterpretq_f32_u32(vshll_high_n_u16(codes, 16)));
}

/* The upper byte of a binary16. */
INLINE void e5m2_8(const unsigned char *in, float *out) { put_halves(vshll_n_u8(vld1_u8(in), 8), 1, out); }

/* As binary16, whose bias is 15, a code moved to its place stands for its value of bias 7 over 256. */
INLINE void e4m3_8(const unsigned char *in, float *out)
{
    const uint16x8_t codes = vmovl_u8(vld1_u8(in)), magnitude = vandq_u16(codes, vdupq_n_u16(0x7f));
    const uint16x8_t nan = vceqq_u16(magnitude, vdupq_n_u16(0x7f));
    const uint16x8_t number = vbslq_u16(nan, vdupq_n_u16(0x7e00), vshlq_n_u16(magnitude, 7));
    put_halves(vorrq_u16(number, vshlq_n_u16(vsubq_u16(codes, magnitude), 8)), 256, out);
}

DECODER(f16, 2, f16_8)
DECODER(bf16, 2, bf16_8)
DECODER(e5m2, 1, e5m2_8)
DECODER(e4m3, 1, e4m3_8)

/* An encoder from one that does 8 values, likewise. */
#define ENCODER(name, bytes, encode8)                                   \
    static void name(const float *x, size_t n, unsigned char *out)      \
    {                                                                   \
        for (; n >= 8; n -= 8, x += 8, out += 8 * (bytes))              \
            encode8(x, out);                                            \
        if (n) {                                                        \
            unsigned char codes[8 * (bytes)];                           \
            float last[8] = { 0 };                                      \
            memcpy(last, x, n * sizeof *x);                             \
            encode8(last, codes);                                       \
            memcpy(out, codes, n * (bytes));                            \
        }                                                               \
    }

INLINE void f16_encode8(const float *x, unsigned char *out)
{
    const float16x8_t halves = vcvt_high_f16_f32(vcvt_f16_f32(vld1q_f32(x)), vld1q_f32(x + 4));
    vst1q_u8(out, vreinterpretq_u8_f16(halves));
}

/* The upper halves of 4 values. */
INLINE uint16x4_t upper_halves(const float *x)
{
    const float32x4_t value = vld1q_f32(x);
    const uint32x4_t bits = vreinterpretq_u32_f32(value), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t up = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(value, value), up, quiet), 16);
}

INLINE void bf16_encode8(const float *x, unsigned char *out)
{
    vst1q_u8(out, vreinterpretq_u8_u16(vcombine_u16(upper_halves(x), upper_halves(x + 4))));
}

ENCODER(f16_encode, 2, f16_encode8)
ENCODER(bf16_encode, 2, bf16_encode8)

void apr_half_neon(struct apr_kernels *k)
{
    k->encode[APR_F16] = f16_encode;
    k->encode[APR_BF16] = bf16_encode;
    k->decode[APR_F16] = f16;
    k->decode[APR_BF16] = bf16;
}

void apr_float8_neon(struct apr_kernels *k)
{
    k->decode[APR_F8_E5M2] = e5m2;
    k->decode[APR_F8_E4M3] = e4m3;
}
#endif
