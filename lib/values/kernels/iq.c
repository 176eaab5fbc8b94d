/* GGML's codebook types of 256: groups of 8 or 4 values are entries of a grid, under scales in a few bits. */
#include "values/kernels/grids.h"
#include "values/kernels/init.h"

/* Seven sign bits; the eighth makes their number even. */
static inline unsigned eight_signs(uint32_t seven)
{
    seven &= 127;
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

/* n values of a grid entry; bit j of signs turns value j. */
static inline void put(const int8_t *entry, unsigned n, float scale, unsigned signs, float *out)
{
    for (unsigned j = 0; j < n; j++)
        out[j] = apr_flip(scale * (float)entry[j], signs >> j & 1);
}

static inline void put_shifted(const int8_t entry[8], float scale, float shift, float *out)
{
    for (unsigned j = 0; j < 8; j++)
        out[j] = scale * ((float)entry[j] + shift);
}

/* | f16 d | 8 of: 4 indices, u32: four 7-bit signs, 4-bit scale | */
static void iq2_xxs(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 66) {
        const float d = apr_load_half(in);
        for (unsigned s = 0; s < 8; s++) {
            const unsigned char *q = in + 2 + 8 * s;
            const uint32_t a = apr_load32(q + 4);
            const float scale = d * (0.5f + (float)(a >> 28)) * 0.25f;
            for (unsigned l = 0; l < 4; l++, out += 8)
                put(iq2xxs_grid[q[l]], 8, scale, eight_signs(a >> 7 * l), out);
        }
    }
}

/* Scales of 16 elements in nibbles, as IQ2_XS and IQ2_S have them; l counts groups of 8. */
static inline float nibble_scale(const unsigned char *scales, unsigned l, float d)
{
    return d * (0.5f + (float)(scales[l / 4] >> l / 2 % 2 * 4 & 15)) * 0.25f;
}

/* | f16 d | 32 u16: 9-bit index, 7-bit signs | 8: 4-bit scales | */
static void iq2_xs(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 74) {
        const float d = apr_load_half(in);
        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned q = apr_load16(in + 2 + 2 * l);
            put(iq2xs_grid[q & 511], 8, nibble_scale(in + 66, l, d), eight_signs(q >> 9), out);
        }
    }
}

/* | f16 d | 32: indices | 32: signs | 8: the indices' bits 8, 9 | 8: 4-bit scales | */
static void iq2_s(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 82) {
        const float d = apr_load_half(in);
        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned index = in[2 + l] | ((unsigned)in[66 + l / 4] >> l % 4 * 2 & 3) << 8;
            put(iq2s_grid[index], 8, nibble_scale(in + 74, l, d), in[34 + l], out);
        }
    }
}

/* | f16 d | 64: indices | 8 u32: four 7-bit signs, 4-bit scale | */
static void iq3_xxs(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 98) {
        const float d = apr_load_half(in);
        for (unsigned l = 0; l < 32; l++, out += 8) {
            const uint32_t a = apr_load32(in + 66 + l / 4 * 4);
            const unsigned signs = eight_signs(a >> 7 * (l % 4));
            const float scale = d * (0.5f + (float)(a >> 28)) * 0.5f;
            put(iq3xxs_grid[in[2 + 2 * l]], 4, scale, signs, out);
            put(iq3xxs_grid[in[3 + 2 * l]], 4, scale, signs >> 4, out + 4);
        }
    }
}

/* | f16 d | 64: indices | 8: the indices' bits 8 | 32: signs | 4: 4-bit scales | */
static void iq3_s(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 110) {
        const float d = apr_load_half(in);
        for (unsigned k = 0; k < 64; k++, out += 4) {
            const unsigned index = in[2 + k] | ((unsigned)in[66 + k / 8] >> k % 8 & 1) << 8;
            const unsigned scale = (unsigned)in[106 + k / 16] >> k / 8 % 2 * 4 & 15;
            put(iq3s_grid[index], 4, d * (float)(1 + 2 * scale), (unsigned)in[74 + k / 2] >> k % 2 * 4, out);
        }
    }
}

/* | f16 d | 32: indices | 8 u16: four times bits 8-10 of an index, 3-bit scale, sign of the shift | */
static void iq1_s(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 50) {
        const float d = apr_load_half(in);
        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned high = apr_load16(in + 34 + l / 4 * 2), index = in[2 + l] | (high >> 3 * (l % 4) & 7) << 8;
            put_shifted(iq1s_grid[index], d * (float)(2 * (high >> 12 & 7) + 1), high >> 15 ? -0.125f : 0.125f, out);
        }
    }
}

/* The f16 that IQ1_M has cut up: the top four bits of its four u16, lowest first. */
static inline uint16_t assembled(const unsigned char *in, unsigned scales[4])
{
    unsigned half = 0;
    for (unsigned i = 0; i < 4; i++) {
        scales[i] = apr_load16(in + 48 + 2 * i);
        half |= scales[i] >> 12 << 4 * i;
    }
    return (uint16_t)half;
}

/* | 32: indices | 16: two nibbles: bits 8-10 of an index, sign of the shift | 4 u16: four 3-bit scales, a quarter of f16 d | */
static void iq1_m(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 56) {
        unsigned scales[4];
        const float d = apr_half(assembled(in, scales));
        for (unsigned l = 0; l < 32; l++, out += 8) {
            const unsigned nibble = (unsigned)in[32 + l / 2] >> l % 2 * 4 & 15, index = in[l] | (nibble & 7) << 8;
            const unsigned scale = scales[l / 8] >> l / 2 % 4 * 3 & 7;
            put_shifted(iq1s_grid[index], d * (float)(2 * scale + 1), nibble & 8 ? -0.125f : 0.125f, out);
        }
    }
}

static const char *iq1_m_bad_scale(const unsigned char *in)
{
    unsigned scales[4];
    return (assembled(in, scales) & 0x7C00) == 0x7C00 ? "scales" : NULL;
}

void apr_iq_init(struct apr_kernels *k, enum apr_isa isa)
{
    (void)isa;
    k->decode[APR_IQ1_S] = iq1_s;
    k->decode[APR_IQ1_M] = iq1_m;
    k->bad_scale[APR_IQ1_M] = iq1_m_bad_scale;
    k->decode[APR_IQ2_XXS] = iq2_xxs;
    k->decode[APR_IQ2_XS] = iq2_xs;
    k->decode[APR_IQ2_S] = iq2_s;
    k->decode[APR_IQ3_XXS] = iq3_xxs;
    k->decode[APR_IQ3_S] = iq3_s;
    apr_iq_encode_init(k);
    apr_iq1_encode_init(k);
}
