#ifdef __aarch64__
#include "values/kernels/grids.h"

#include "values/kernels/arm/neon.h"

/* 16 bytes of nibbles, low ones first, as the levels they stand for times scale. */
INLINE void put_levels(const int8_t levels[16], const unsigned char *in, float scale, float *out)
{
    const int8x16_t table = vld1q_s8(levels);
    const uint8x16_t q = vld1q_u8(in);
    put16(vqtbl1q_s8(table, low_nibbles(q)), scale, out);
    put16(vqtbl1q_s8(table, high_nibbles(q)), scale, out + 16);
}

static void iq4_nl(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32)
        put_levels(iq4nl_levels, in + 2, apr_load_half(in), out);
}

static void iq4_xs(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 136) {
        const float d = apr_load_half(in);
        const unsigned high = apr_load16(in + 2);
        for (unsigned s = 0; s < 8; s++, out += 32) {
            const int scale = (in[4 + s / 2] >> s % 2 * 4 & 15) | (int)(high >> 2 * s & 3) << 4;
            put_levels(iq4nl_levels, in + 8 + 16 * s, d * (float)(scale - 32), out);
        }
    }
}

static void mxfp4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 17, out += 32)
        put_levels(fp4_doubled, in + 1, apr_e8m0_half(in[0]), out);
}

static void nvfp4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    const int8x16_t table = vld1q_s8(fp4_doubled);
    for (; n; n -= 64, in += 36)
        for (unsigned g = 0; g < 4; g++, out += 16) {
            const uint8x8_t q = vld1_u8(in + 4 + 8 * g);
            const uint8x16_t codes = vcombine_u8(vand_u8(q, vdup_n_u8(15)), vshr_n_u8(q, 4));
            put16(vqtbl1q_s8(table, codes), apr_float_of_bits(ue4m3_half[in[g]]), out);
        }
}

void apr_levels4_neon(struct apr_kernels *k)
{
    k->decode[APR_IQ4_NL] = iq4_nl;
    k->decode[APR_IQ4_XS] = iq4_xs;
    k->decode[APR_MXFP4] = mxfp4;
    k->decode[APR_NVFP4] = nvfp4;
}
#endif
