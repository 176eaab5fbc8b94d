#include "values/kernels/encode.h"

/* A scale that is not finite, or below the least normal f16, counts as 0: so does the reference that writes these blocks. */
static inline float q4_scale(const unsigned char *in)
{
    const unsigned exponent = apr_load16(in) >> 10 & 31;
    return exponent == 0 || exponent == 31 ? 0.0f : apr_load_half(in);
}

/* | f16 scale | 16: nibbles, element 2i low and 2i + 1 high in byte i | */
static void apr_q4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32) {
        const float scale = q4_scale(in);
        for (unsigned j = 0; j < 16; j++) {
            out[2 * j] = (float)((in[2 + j] & 15) - 8) * scale;
            out[2 * j + 1] = (float)((in[2 + j] >> 4) - 8) * scale;
        }
    }
}

/* | f16 scale, as above | 16: nibbles, element 2i low and 2i + 1 high in byte i, 8 too large | */
static void apr_q4_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 32, q4_scale(in));
    for (unsigned i = 0; i < 32; i++)
        u->quant[i] = (int8_t)((in[2 + i / 2] >> i % 2 * 4 & 15) - 8);
}

/* | f16 scale | 16: nibbles, element 2i low and 2i + 1 high in byte i, 8 too large |: scale = max|x| / 7, or 1 for none; codes
 * x / scale, ties away from zero, from -8 to 7, 0 for NaN. A division, by the scale that is not yet rounded to f16; where it is so small
 * that it is 0, codes are of either end. */
static void apr_q4_encode(const float *x, size_t n, unsigned char *out)
{
    uint8_t code[32];
    for (; n; n -= 32, x += 32, out += 18) {
        const float most = apr_largest(x, 32), scale = most > 0 ? most / 7 : 1;
        apr_store_scale(out, scale);
        for (unsigned i = 0; i < 32; i++) {
            const float q = x[i] / scale, low = q < -8 ? -8 : q;
            code[i] = (uint8_t)(apr_clamp(apr_round(low > 7 ? 7 : low), -8, 7) + 8);
        }
        for (unsigned j = 0; j < 16; j++)
            out[2 + j] = (unsigned char)(code[2 * j] | code[2 * j + 1] << 4);
    }
}

/* | f32 scale | then one i8 an element, to the end of the tensor | */
static void apr_q8(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    if (n == 0)
        return;
    const float scale = apr_float_of_bits(apr_load32(head));
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(int8_t)in[i] * scale;
}

/* An encoder writes scale = max|x| / 127. */
static enum apr_codes apr_q8_codes(const unsigned char *in) { return *in == 0x80 ? APR_CODES_FOREIGN : APR_CODES_SOUND; }

void apr_apr_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->decode[APR_APR_Q4] = apr_q4;
    k->decode[APR_APR_Q8] = apr_q8;
    k->unpack[APR_APR_Q4] = apr_q4_unpack;
    k->codes[APR_APR_Q8] = apr_q8_codes;
    k->encode[APR_APR_Q4] = apr_q4_encode;
    if (APR_X86 && isa >= APR_AVX2)
        apr_apr_x86(k);
    if (APR_ARM && isa == APR_NEON)
        apr_apr_neon(k);
}
