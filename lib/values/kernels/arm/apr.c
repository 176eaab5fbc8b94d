#ifdef __aarch64__
#include "values/kernels/arm/neon.h"

static void apr_q4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32) {
        const unsigned exponent = apr_load16(in) >> 10 & 31;
        const float scale = exponent == 0 || exponent == 31 ? 0.0f : apr_load_half(in);
        const uint8x16_t q = vld1q_u8(in + 2), even = low_nibbles(q), odd = high_nibbles(q);
        put16(less(vzip1q_u8(even, odd), 8), scale, out);
        put16(less(vzip2q_u8(even, odd), 8), scale, out + 16);
    }
}

static void apr_q8(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    if (n == 0)
        return;
    const float scale = apr_float_of_bits(apr_load32(head));
    for (; n >= 16; n -= 16, in += 16, out += 16)
        put16(vreinterpretq_s8_u8(vld1q_u8(in)), scale, out);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(int8_t)in[i] * scale;
}

void apr_apr_neon(struct apr_kernels *k)
{
    k->decode[APR_APR_Q4] = apr_q4;
    k->decode[APR_APR_Q8] = apr_q8;
}
#endif
