/* GGML's types of two, three or four levels, all of them whole multiples of d. */
#include "values/kernels/init.h"

/* | f16 d | 16: signs, 1 for plus | */
static void q1_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 128, in += 18, out += 128) {
        const float d = apr_load_half(in);
        for (unsigned i = 0; i < 128; i++)
            out[i] = apr_flip(d, ~(unsigned)in[2 + i / 8] >> i % 8 & 1);
    }
}

/* | f16 d | 16: 2-bit codes, in order | */
static void q2_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 64, in += 18, out += 64) {
        const float d = apr_load_half(in);
        for (unsigned i = 0; i < 64; i++)
            out[i] = (float)((in[2 + i / 4] >> i % 4 * 2 & 3) - 1) * d;
    }
}

/* One base-3 digit of each of n bytes, which hold their digits as a fraction of 256: times 3 to the power of place, the digit stands
 * right above the byte. */
static inline float *put_digits(const unsigned char *q, unsigned n, unsigned place, float d, float *out)
{
    static const unsigned power[5] = { 1, 3, 9, 27, 81 };
    for (unsigned j = 0; j < n; j++)
        out[j] = (float)((int)((q[j] * power[place] & 255) * 3 >> 8) - 1) * d;
    return out + n;
}

/* | 48: five digits each, 32 bytes then 16 | 4: four digits each | f16 d | */
static void tq1_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 54) {
        const float d = apr_load_half(in + 52);
        for (unsigned place = 0; place < 5; place++)
            out = put_digits(in, 32, place, d, out);
        for (unsigned place = 0; place < 5; place++)
            out = put_digits(in + 32, 16, place, d, out);
        for (unsigned place = 0; place < 4; place++)
            out = put_digits(in + 48, 4, place, d, out);
    }
}

/* | 64: 2-bit codes, four planes in 32 bytes, twice | f16 d | */
static void tq2_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 66, out += 256) {
        const float d = apr_load_half(in + 64);
        for (unsigned i = 0; i < 256; i++)
            out[i] = (float)((in[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3) - 1) * d;
    }
}

void apr_ternary_init(struct apr_kernels *k, enum apr_isa isa)
{
    (void)isa;
    k->decode[APR_Q1_0] = q1_0;
    k->decode[APR_Q2_0] = q2_0;
    k->decode[APR_TQ1_0] = tq1_0;
    k->decode[APR_TQ2_0] = tq2_0;
}
