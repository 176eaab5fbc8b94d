/* Four-bit codes that stand for levels of a table. */
#include "values/kernels/fp4.h"

/* n bytes of nibbles: low ones first, then high ones. */
static inline void put(const int8_t levels[16], const unsigned char *q, unsigned n, float scale, float *out)
{
    for (unsigned j = 0; j < n; j++) {
        out[j] = scale * (float)levels[q[j] & 15];
        out[j + n] = scale * (float)levels[q[j] >> 4];
    }
}

/* | f16 d | 16: nibbles | */
static void iq4_nl(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32)
        put(iq4nl_levels, in + 2, 16, apr_load_half(in), out);
}

/* Levels of n values from n / 2 bytes of nibbles: low ones first, then high ones. */
static inline void put_levels(const int8_t levels[16], const unsigned char *q, unsigned n, int8_t *out)
{
    for (unsigned i = 0; i < n; i++)
        out[i] = levels[q[i % (n / 2)] >> i / (n / 2) * 4 & 15];
}

/* | f16 d | 16: nibbles, which stand for levels | */
static void iq4_nl_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 32, apr_load_half(in));
    put_levels(iq4nl_levels, in + 2, 32, u->quant);
}

static inline int iq4_scale(const unsigned char *scales, unsigned s)
{
    return ((scales[2 + s / 2] >> s % 2 * 4 & 15) | (apr_load16(scales) >> 2 * s & 3) << 4) - 32;
}

/* | f16 d | u16: upper two bits of eight scales | 4: lower four bits | 128: nibbles, 16 low then the same 16 high | */
static void iq4_xs(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 136) {
        const float d = apr_load_half(in);
        for (unsigned s = 0; s < 8; s++, out += 32)
            put(iq4nl_levels, in + 8 + 16 * s, 16, d * (float)iq4_scale(in + 2, s), out);
    }
}

/* | f16 d | u16: upper two bits of eight scales | 4: lower four bits, both 32 too large | 128: nibbles, which stand for levels | */
static void iq4_xs_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 256, apr_load_half(in));
    u->nsub = 8;
    for (unsigned s = 0; s < 8; s++) {
        u->sub_scale[s] = (int8_t)iq4_scale(in + 2, s);
        u->sub_min[s] = 0;
        put_levels(iq4nl_levels, in + 8 + 16 * s, 32, u->quant + 32 * s);
    }
}

/* | exponent | 16: nibbles | */
static void mxfp4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 17, out += 32)
        put(fp4_doubled, in + 1, 16, apr_e8m0_half(in[0]), out);
}

/* | exponent | 16: nibbles, which stand for levels, doubled, of E2M1 | */
static void mxfp4_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 32, apr_e8m0_half(in[0]));
    put_levels(fp4_doubled, in + 1, 32, u->quant);
}

/* | 4: scales | 32: nibbles, 8 low then the same 8 high |; a scale is for 16 elements. */
static void nvfp4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 64, in += 36)
        for (unsigned g = 0; g < 4; g++, out += 16)
            put(fp4_doubled, in + 4 + 8 * g, 8, apr_float_of_bits(ue4m3_half[in[g]]), out);
}

/* | 4: scales of 16 elements | 32: nibbles, which stand for levels, doubled, of E2M1 | */
static void nvfp4_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 64, 0);
    u->nscale = 4;
    for (unsigned g = 0; g < 4; g++) {
        u->scale[g] = apr_float_of_bits(ue4m3_half[in[g]]);
        put_levels(fp4_doubled, in + 4 + 8 * g, 16, u->quant + 16 * g);
    }
}

static const char *mxfp4_bad_scale(const unsigned char *in) { return in[0] == 0xFF ? "e" : NULL; }

static const char *nvfp4_bad_scale(const unsigned char *in)
{
    bool bad = false;
    for (unsigned i = 0; i < 4; i++)
        bad |= (in[i] & 0x7F) == 0x7F;
    return bad ? "d" : NULL;
}

/* The code of the level nearest to x, the first of several, 0 for NaN. Levels of the other sign are farther than that of code 0. */
static uint8_t nearest_fp4(float x, const float level[8])
{
    const float far = fabsf(x);
    float least = far;
    unsigned code = 0;
    for (unsigned c = 1; c < 8; c++) {
        const float distance = fabsf(level[c] - far);
        code = distance < least ? c : code;
        least = distance < least ? distance : least;
    }
    return (uint8_t)(code > 0 && x < 0 ? code + 8 : code);
}

static void store_nearest_fp4(const float *x, unsigned n, float scale, unsigned char *out)
{
    uint8_t code[32];
    float level[8];
    apr_fp4_levels(scale, level);
    for (unsigned i = 0; i < n; i++)
        code[i] = nearest_fp4(x[i], level);
    apr_store_nibbles(code, n, out);
}

/* | exponent | 16: nibbles |: the exponent gives the largest |x| a level of 8 or 12. */
static void mxfp4_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 17) {
        out[0] = apr_mxfp4_exponent(apr_largest(x, 32));
        store_nearest_fp4(x, 32, apr_e8m0_half(out[0]), out + 1);
    }
}

/* | 4: scales | 32: nibbles, 8 low then the same 8 high |; a scale is for 16 elements: max|x| / 6. */
static void nvfp4_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 64, out += 36)
        for (unsigned g = 0; g < 4; g++, x += 16) {
            out[g] = apr_to_ue4m3(apr_largest(x, 16) / 6);
            store_nearest_fp4(x, 16, apr_float_of_bits(ue4m3_half[out[g]]), out + 4 + 8 * g);
        }
}

void apr_levels4_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->decode[APR_IQ4_NL] = iq4_nl;
    k->decode[APR_IQ4_XS] = iq4_xs;
    k->decode[APR_MXFP4] = mxfp4;
    k->decode[APR_NVFP4] = nvfp4;
    k->unpack[APR_IQ4_NL] = iq4_nl_unpack;
    k->unpack[APR_IQ4_XS] = iq4_xs_unpack;
    k->unpack[APR_MXFP4] = mxfp4_unpack;
    k->unpack[APR_NVFP4] = nvfp4_unpack;
    k->bad_scale[APR_MXFP4] = mxfp4_bad_scale;
    k->bad_scale[APR_NVFP4] = nvfp4_bad_scale;
    k->encode[APR_MXFP4] = mxfp4_encode;
    k->encode[APR_NVFP4] = nvfp4_encode;
    apr_iq4_encoders(k);
    if (APR_X86 && isa >= APR_AVX2)
        apr_levels4_x86(k);
    if (APR_ARM && isa == APR_NEON)
        apr_levels4_neon(k);
}
