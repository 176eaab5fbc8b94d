/* GGML's types of two, three or four levels, all of them whole multiples of d. */
#include "values/kernels/encode.h"

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

/* | f16 d | 16: signs, 1 for plus | */
static void q1_0_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 128, apr_load_half(in));
    for (unsigned i = 0; i < 128; i++)
        u->quant[i] = in[2 + i / 8] >> i % 8 & 1 ? 1 : -1;
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

/* | f16 d | 16: 2-bit codes, 1 too large | */
static void q2_0_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 64, apr_load_half(in));
    for (unsigned i = 0; i < 64; i++)
        u->quant[i] = (int8_t)((in[2 + i / 4] >> i % 4 * 2 & 3) - 1);
}

/* A base-3 digit less 1 of a byte, which holds its digits as a fraction of 256: times 3 to the power of place, the digit stands right
 * above the byte. */
static inline int digit(unsigned byte, unsigned place)
{
    static const unsigned power[5] = { 1, 3, 9, 27, 81 };
    return (int)((byte * power[place] & 255) * 3 >> 8) - 1;
}

static inline float *put_digits(const unsigned char *q, unsigned n, unsigned place, float d, float *out)
{
    for (unsigned j = 0; j < n; j++)
        out[j] = (float)digit(q[j], place) * d;
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

/* | 48: five digits each, 32 bytes then 16 | 4: four digits each |, 1 too large | f16 d | */
static void tq1_0_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 256, apr_load_half(in + 52));
    for (unsigned i = 0; i < 160; i++)
        u->quant[i] = (int8_t)digit(in[i % 32], i / 32);
    for (unsigned i = 0; i < 80; i++)
        u->quant[160 + i] = (int8_t)digit(in[32 + i % 16], i / 16);
    for (unsigned i = 0; i < 16; i++)
        u->quant[240 + i] = (int8_t)digit(in[48 + i % 4], i / 4);
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

/* | 64: 2-bit codes, four planes in 32 bytes, twice, 1 too large | f16 d | */
static void tq2_0_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 256, apr_load_half(in + 64));
    for (unsigned i = 0; i < 256; i++)
        u->quant[i] = (int8_t)((in[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3) - 1);
}

/* Codes of two bits are of three levels. */
static enum apr_codes no_fourth_level(const unsigned char *in, unsigned n)
{
    unsigned fourth = 0;
    for (unsigned i = 0; i < n; i++)
        fourth |= in[i] & in[i] >> 1 & 0x55u;
    return fourth ? APR_CODES_FOREIGN : APR_CODES_SOUND;
}

static enum apr_codes q2_0_codes(const unsigned char *in) { return no_fourth_level(in + 2, 16); }
static enum apr_codes tq2_0_codes(const unsigned char *in) { return no_fourth_level(in, 64); }

/* Of a number q below 3^5 an encoder writes the fraction of 256: ceil(q * 256 / 243). */
static enum apr_codes tq1_0_codes(const unsigned char *in)
{
    bool sound = true;
    for (unsigned i = 0; i < 52; i++) {
        const unsigned q = in[i] * 243u / 256;
        sound &= (q * 256 + 242) / 243 == in[i];
    }
    return sound ? APR_CODES_SOUND : APR_CODES_FOREIGN;
}

/* | f16 d | 16: signs, 1 for plus |: d is the mean of |x|, summed in order; either zero is plus. */
void apr_q1_0_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 128, x += 128, out += 18) {
        float sum = 0;
        memset(out + 2, 0, 16);
        for (unsigned i = 0; i < 128; i++) {
            sum += fabsf(x[i]);
            out[2 + i / 8] |= (unsigned char)((x[i] >= 0) << i % 8);
        }
        apr_store_scale(out, sum / 128);
    }
}

/* Levels 0, 1, 2 for -d, 0, d of n values: d = max|x|, levels the nearest, ties away from zero. Returns d. */
static float ternary(const float *x, unsigned n, uint8_t *level)
{
    const float d = apr_largest(x, n), per_d = apr_inverse(d);
    for (unsigned i = 0; i < n; i++)
        level[i] = (uint8_t)(apr_round(x[i] * per_d) + 1);
    return d;
}

/* | f16 d | 16: 2-bit codes, in order |; the fourth is not used. Where d, 0 as f16, is so small that 1 / d is infinite, the reference has
 * no integers to round to: as on x86, all its codes are 0. */
static void q2_0_encode(const float *x, size_t n, unsigned char *out)
{
    uint8_t level[64];
    for (; n; n -= 64, x += 64, out += 18) {
        const float d = ternary(x, 64, level);
        apr_store_scale(out, d);
        if (isinf(apr_inverse(d)))
            memset(level, 0, sizeof level);
        for (unsigned i = 0; i < 16; i++)
            out[2 + i] = (unsigned char)(level[4 * i] | level[4 * i + 1] << 2 | level[4 * i + 2] << 4 | level[4 * i + 3] << 6);
    }
}

/* n bytes of `places` digits each, digit p of byte j being level[p * n + j], as a fraction of 256, rounded up. */
static inline const uint8_t *store_digits(const uint8_t *level, unsigned n, unsigned places, unsigned char *q)
{
    for (unsigned j = 0; j < n; j++) {
        unsigned number = 0;
        for (unsigned p = 0; p < 5; p++)
            number = number * 3 + (p < places ? level[p * n + j] : 0);
        q[j] = (unsigned char)((number * 256 + 242) / 243);
    }
    return level + places * n;
}

/* | 48: five digits each, 32 bytes then 16 | 4: four digits each | f16 d | */
static void tq1_0_encode(const float *x, size_t n, unsigned char *out)
{
    uint8_t level[256];
    for (; n; n -= 256, x += 256, out += 54) {
        apr_store_scale(out + 52, ternary(x, 256, level));
        const uint8_t *rest = store_digits(level, 32, 5, out);
        rest = store_digits(rest, 16, 5, out + 32);
        store_digits(rest, 4, 4, out + 48);
    }
}

/* | 64: 2-bit codes, four planes in 32 bytes, twice | f16 d | */
static void tq2_0_encode(const float *x, size_t n, unsigned char *out)
{
    uint8_t level[256];
    for (; n; n -= 256, x += 256, out += 66) {
        apr_store_scale(out + 64, ternary(x, 256, level));
        for (unsigned i = 0; i < 64; i++) {
            const uint8_t *const l = level + i / 32 * 128 + i % 32;
            out[i] = (unsigned char)(l[0] | l[32] << 2 | l[64] << 4 | l[96] << 6);
        }
    }
}

void apr_ternary_init(struct apr_kernels *k, enum apr_isa isa)
{
    (void)isa;
    k->decode[APR_Q1_0] = q1_0;
    k->decode[APR_Q2_0] = q2_0;
    k->decode[APR_TQ1_0] = tq1_0;
    k->decode[APR_TQ2_0] = tq2_0;
    k->unpack[APR_Q1_0] = q1_0_unpack;
    k->unpack[APR_Q2_0] = q2_0_unpack;
    k->unpack[APR_TQ1_0] = tq1_0_unpack;
    k->unpack[APR_TQ2_0] = tq2_0_unpack;
    k->codes[APR_Q2_0] = q2_0_codes;
    k->codes[APR_TQ1_0] = tq1_0_codes;
    k->codes[APR_TQ2_0] = tq2_0_codes;
    k->encode[APR_Q1_0] = apr_q1_0_encode;
    k->encode[APR_Q2_0] = q2_0_encode;
    k->encode[APR_TQ1_0] = tq1_0_encode;
    k->encode[APR_TQ2_0] = tq2_0_encode;
}
