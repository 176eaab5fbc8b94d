/* GGML's K types: super-blocks of 256 with scales that are quantized themselves. Products and sums are those of the reference,
 * each rounded on its own. */
#include "values/kernels/init.h"

/* The two-bit code of element i, as Q2_K and Q3_K lay them out: four planes in 32 bytes, twice. */
static inline unsigned two_bits(const unsigned char *q, unsigned i)
{
    return (unsigned)q[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3u;
}

/* | 16: 4-bit scale, 4-bit min | 64: 2-bit codes | f16 d | f16 dmin | */
static void q2_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 84, out += 256) {
        const float d = apr_load_half(in + 80), dmin = apr_load_half(in + 82);
        for (unsigned j = 0; j < 16; j++) {
            const float dl = d * (float)(in[j] & 15), ml = dmin * (float)(in[j] >> 4);
            for (unsigned i = 16 * j; i < 16 * j + 16; i++)
                out[i] = dl * (float)two_bits(in + 16, i) - ml;
        }
    }
}

static inline void begin(struct apr_unpacked *u, float d, unsigned nsub)
{
    apr_begin_block(u, 256, d);
    u->nsub = nsub;
    memset(u->sub_min, 0, sizeof u->sub_min);
}

static inline void begin_with_min(struct apr_unpacked *u, float d, float dmin, unsigned nsub)
{
    begin(u, d, nsub);
    u->has_min = true;
    u->min = dmin;
}

/* | 16: 4-bit scale, 4-bit min | 64: 2-bit codes | f16 d | f16 dmin | */
static void q2_k_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    begin_with_min(u, apr_load_half(in + 80), apr_load_half(in + 82), 16);
    for (unsigned j = 0; j < 16; j++) {
        u->sub_scale[j] = (int8_t)(in[j] & 15);
        u->sub_min[j] = (int8_t)(in[j] >> 4);
    }
    for (unsigned i = 0; i < 256; i++)
        u->quant[i] = (int8_t)two_bits(in + 16, i);
}

static inline int q3_scale(const unsigned char *scales, unsigned j)
{
    const int low = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4, high = scales[8 + j % 4] >> j / 4 * 2 & 3;
    return (low | high << 4) - 32;
}

static inline int q3_quant(const unsigned char *in, unsigned i)
{
    return (int)two_bits(in + 32, i) - (in[i % 32] >> i / 32 & 1 ? 0 : 4);
}

/* | 32: third bits, inverted | 64: 2-bit codes | 12: 6-bit scales, their low four bits first | f16 d | */
static void q3_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 110, out += 256) {
        const float d = apr_load_half(in + 108);
        for (unsigned j = 0; j < 16; j++) {
            const float dl = d * (float)q3_scale(in + 96, j);
            for (unsigned i = 16 * j; i < 16 * j + 16; i++)
                out[i] = dl * (float)q3_quant(in, i);
        }
    }
}

/* | 32: third bits, inverted | 64: 2-bit codes | 12: 6-bit scales, 32 too large | f16 d | */
static void q3_k_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    begin(u, apr_load_half(in + 108), 16);
    for (unsigned j = 0; j < 16; j++)
        u->sub_scale[j] = (int8_t)q3_scale(in + 96, j);
    for (unsigned i = 0; i < 256; i++)
        u->quant[i] = (int8_t)q3_quant(in, i);
}

/* | f16 d | f16 dmin | 12: 6-bit scales, mins | 128: nibbles, 32 low then the same 32 high | */
static void q4_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 144, out += 256) {
        const float d = apr_load_half(in), dmin = apr_load_half(in + 2);
        for (unsigned j = 0; j < 8; j++) {
            unsigned scale, min;
            apr_six_bits(in + 4, j, &scale, &min);
            const float dl = d * (float)scale, ml = dmin * (float)min;
            const unsigned char *q = in + 16 + j / 2 * 32;
            for (unsigned i = 0; i < 32; i++)
                out[32 * j + i] = dl * (float)(q[i] >> j % 2 * 4 & 15) - ml;
        }
    }
}

static inline void put_six_bits(const unsigned char *in, struct apr_unpacked *u)
{
    for (unsigned j = 0; j < 8; j++) {
        unsigned scale, min;
        apr_six_bits(in, j, &scale, &min);
        u->sub_scale[j] = (int8_t)scale;
        u->sub_min[j] = (int8_t)min;
    }
}

/* The nibble of element i, as Q4_K and Q5_K lay them out. */
static inline int q4_nibble(const unsigned char *q, unsigned i) { return q[i / 64 * 32 + i % 32] >> i / 32 % 2 * 4 & 15; }

/* | f16 d | f16 dmin | 12: 6-bit scales, mins | 128: nibbles, 32 low then the same 32 high | */
static void q4_k_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    begin_with_min(u, apr_load_half(in), apr_load_half(in + 2), 8);
    put_six_bits(in + 4, u);
    for (unsigned i = 0; i < 256; i++)
        u->quant[i] = (int8_t)q4_nibble(in + 16, i);
}

/* | f16 d | f16 dmin | 12: 6-bit scales, mins | 32: fifth bits, bit j for sub-block j | 128: nibbles | */
static void q5_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 176, out += 256) {
        const float d = apr_load_half(in), dmin = apr_load_half(in + 2);
        for (unsigned j = 0; j < 8; j++) {
            unsigned scale, min;
            apr_six_bits(in + 4, j, &scale, &min);
            const float dl = d * (float)scale, ml = dmin * (float)min;
            const unsigned char *high = in + 16, *q = in + 48 + j / 2 * 32;
            for (unsigned i = 0; i < 32; i++)
                out[32 * j + i] = dl * (float)((q[i] >> j % 2 * 4 & 15) | (high[i] >> j & 1) << 4) - ml;
        }
    }
}

/* | f16 d | f16 dmin | 12: 6-bit scales, mins | 32: fifth bits, bit j for sub-block j | 128: nibbles | */
static void q5_k_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    begin_with_min(u, apr_load_half(in), apr_load_half(in + 2), 8);
    put_six_bits(in + 4, u);
    for (unsigned i = 0; i < 256; i++)
        u->quant[i] = (int8_t)(q4_nibble(in + 48, i) | (in[16 + i % 32] >> i / 32 & 1) << 4);
}

/* | 128: low nibbles | 64: upper two bits | 16: i8 scales | f16 d |
 * Each half of 128 takes 64 and 32 bytes: quarters 0, 1 in the low nibbles of the two 32s, quarters 2, 3 in the high ones. */
static void q6_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 210, out += 256) {
        const float d = apr_load_half(in + 208);
        for (unsigned j = 0; j < 16; j++) {
            const unsigned quarter = j / 2 % 4, at = j % 2 * 16;
            const unsigned char *low = in + j / 8 * 64 + quarter % 2 * 32 + at, *high = in + 128 + j / 8 * 32 + at;
            const float dl = d * (float)(int8_t)in[192 + j];
            for (unsigned i = 0; i < 16; i++)
                out[16 * j + i] = dl * (float)(((low[i] >> quarter / 2 * 4 & 15) | (high[i] >> 2 * quarter & 3) << 4) - 32);
        }
    }
}

/* | 128: low nibbles | 64: upper two bits | 16: i8 scales | f16 d |, codes 32 too large */
static void q6_k_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    begin(u, apr_load_half(in + 208), 16);
    memcpy(u->sub_scale, in + 192, 16);
    for (unsigned i = 0; i < 256; i++) {
        const unsigned half = i / 128, quarter = i / 32 % 4, at = i % 32;
        const int low = in[64 * half + quarter % 2 * 32 + at] >> quarter / 2 * 4 & 15, high = in[128 + 32 * half + at] >> 2 * quarter & 3;
        u->quant[i] = (int8_t)((low | high << 4) - 32);
    }
}

/* | f32 d | 256: i8 | 16: i16 sums of 16 | */
static void q8_k(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 256, in += 292, out += 256) {
        const float d = apr_float_of_bits(apr_load32(in));
        for (unsigned i = 0; i < 256; i++)
            out[i] = d * (float)(int8_t)in[4 + i];
    }
}

/* | f32 d | 256: i8 | 16: i16 sums of 16, which no value needs | */
static void q8_k_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 256, apr_float_of_bits(apr_load32(in)));
    memcpy(u->quant, in + 4, 256);
}

void apr_k_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->decode[APR_Q2_K] = q2_k;
    k->decode[APR_Q3_K] = q3_k;
    k->decode[APR_Q4_K] = q4_k;
    k->decode[APR_Q5_K] = q5_k;
    k->decode[APR_Q6_K] = q6_k;
    k->decode[APR_Q8_K] = q8_k;
    k->unpack[APR_Q2_K] = q2_k_unpack;
    k->unpack[APR_Q3_K] = q3_k_unpack;
    k->unpack[APR_Q4_K] = q4_k_unpack;
    k->unpack[APR_Q5_K] = q5_k_unpack;
    k->unpack[APR_Q6_K] = q6_k_unpack;
    k->unpack[APR_Q8_K] = q8_k_unpack;
    apr_k_encode_init(k);
    if (APR_X86 && isa >= APR_AVX2)
        apr_k_x86(k);
    if (APR_ARM && isa == APR_NEON)
        apr_k_neon(k);
}
