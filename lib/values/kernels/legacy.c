/* GGML's blocks of 32. Products and sums are those of the reference, each rounded on its own. */
#include "values/kernels/encode.h"

/* | f16 d | 16: nibbles, elements 0-15 low, 16-31 high | */
static void q4_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 18, out += 32) {
        const float d = apr_load_half(in);
        for (unsigned j = 0; j < 16; j++) {
            out[j] = (float)((in[2 + j] & 15) - 8) * d;
            out[j + 16] = (float)((in[2 + j] >> 4) - 8) * d;
        }
    }
}

/* Element i of 32 in 16 bytes of nibbles. */
static inline int nibble(const unsigned char *q, unsigned i) { return q[i % 16] >> i / 16 * 4 & 15; }

/* | f16 d | 16: nibbles, 8 too large | */
static void q4_0_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 32, apr_load_half(in));
    for (unsigned i = 0; i < 32; i++)
        u->quant[i] = (int8_t)(nibble(in + 2, i) - 8);
}

/* | f16 d | f16 m | 16: nibbles | */
static void q4_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 20, out += 32) {
        const float d = apr_load_half(in), m = apr_load_half(in + 2);
        for (unsigned j = 0; j < 16; j++) {
            out[j] = (float)(in[4 + j] & 15) * d + m;
            out[j + 16] = (float)(in[4 + j] >> 4) * d + m;
        }
    }
}

static inline void begin_with_min(struct apr_unpacked *u, const unsigned char *in)
{
    apr_begin_block(u, 32, apr_load_half(in));
    u->has_min = true;
    u->min = -apr_load_half(in + 2);
}

/* | f16 d | f16 m, which is added | 16: nibbles | */
static void q4_1_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    begin_with_min(u, in);
    for (unsigned i = 0; i < 32; i++)
        u->quant[i] = (int8_t)nibble(in + 4, i);
}

/* The five-bit code of elements j and j + 16: a nibble, and bit j or j + 16 of the high bits. */
static inline int low_five(unsigned char q, uint32_t high, unsigned j) { return (int)((q & 15u) | (high >> j & 1) << 4); }
static inline int high_five(unsigned char q, uint32_t high, unsigned j) { return (int)(q >> 4 | (high >> (j + 16) & 1) << 4); }

/* | f16 d | u32: fifth bits | 16: nibbles | */
static void q5_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 22, out += 32) {
        const float d = apr_load_half(in);
        const uint32_t high = apr_load32(in + 2);
        for (unsigned j = 0; j < 16; j++) {
            out[j] = (float)(low_five(in[6 + j], high, j) - 16) * d;
            out[j + 16] = (float)(high_five(in[6 + j], high, j) - 16) * d;
        }
    }
}

/* | f16 d | f16 m | u32: fifth bits | 16: nibbles | */
static void q5_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 24, out += 32) {
        const float d = apr_load_half(in), m = apr_load_half(in + 2);
        const uint32_t high = apr_load32(in + 4);
        for (unsigned j = 0; j < 16; j++) {
            out[j] = (float)low_five(in[8 + j], high, j) * d + m;
            out[j + 16] = (float)high_five(in[8 + j], high, j) * d + m;
        }
    }
}

/* | f16 d | u32: fifth bits, bit i for element i | 16: nibbles |, 16 too large */
static void q5_0_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 32, apr_load_half(in));
    for (unsigned i = 0; i < 32; i++)
        u->quant[i] = (int8_t)((nibble(in + 6, i) | (int)(apr_load32(in + 2) >> i & 1) << 4) - 16);
}

/* | f16 d | f16 m, which is added | u32: fifth bits | 16: nibbles | */
static void q5_1_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    begin_with_min(u, in);
    for (unsigned i = 0; i < 32; i++)
        u->quant[i] = (int8_t)(nibble(in + 8, i) | (int)(apr_load32(in + 4) >> i & 1) << 4);
}

static inline void signed_bytes(const unsigned char *q, float d, float *out)
{
    for (unsigned j = 0; j < 32; j++)
        out[j] = (float)(int8_t)q[j] * d;
}

/* | f16 d | 32: i8 | */
static void q8_0(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 34, out += 32)
        signed_bytes(in + 2, apr_load_half(in), out);
}

/* | f16 d | f16: d times the sum of what follows | 32: i8 | */
static void q8_1(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (; n; n -= 32, in += 36, out += 32)
        signed_bytes(in + 4, apr_load_half(in), out);
}

/* | f16 d | 32: i8 | */
static void q8_0_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 32, apr_load_half(in));
    memcpy(u->quant, in + 2, 32);
}

/* | f16 d | f16: d times the sum of what follows | 32: i8 | */
static void q8_1_unpack(const unsigned char *in, struct apr_unpacked *u)
{
    apr_begin_block(u, 32, apr_load_half(in));
    memcpy(u->quant, in + 4, 32);
}

/* An encoder writes d = max|x| / 127: codes from -127 to 127, and one of either end in each block but an empty one. */
static enum apr_codes q8_0_codes(const unsigned char *in)
{
    const unsigned d = apr_load16(in);
    unsigned most = 0;
    for (unsigned i = 0; i < 32; i++) {
        const unsigned code = in[2 + i], size = code < 128 ? code : 256 - code;
        most = size > most ? size : most;
    }
    if (most == 128 || (d > 0x8000 && most > 0))
        return APR_CODES_FOREIGN;
    return most != 127 && most > 0 && (d & 0x7FFF) != 0 ? APR_CODES_LOOSE : APR_CODES_SOUND;
}

/* Codes around an offset: d is such that the value farthest from 0 becomes code 0, exactly -offset. Codes are
 *     x / d + offset, rounded half up, at most 2 offset - 1
 * where 1 / d is of the d that is not yet rounded to f16. */
static void code_around(const float *x, int offset, unsigned char *out, uint8_t code[32])
{
    const float d = apr_farthest(x, 32) / (float)-offset, per_d = apr_inverse(d);
    apr_store_scale(out, d);
    for (unsigned i = 0; i < 32; i++)
        code[i] = (uint8_t)apr_clamp(apr_truncate(x[i] * per_d + ((float)offset + 0.5f)), 0, 2 * offset - 1);
}

/* Codes from a min: m is the least value, d the range over the largest code. Codes are
 *     (x - m) / d, rounded half up, at most the largest
 * where m and d are not yet rounded to f16. */
static void code_from_min(const float *x, int largest, unsigned char *out, uint8_t code[32])
{
    float least = FLT_MAX, most = -FLT_MAX;
    for (unsigned i = 0; i < 32; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    const float d = (most - least) / (float)largest, per_d = apr_inverse(d);
    apr_store_scale(out, d);
    apr_store_scale(out + 2, least);
    for (unsigned i = 0; i < 32; i++)
        code[i] = (uint8_t)apr_clamp(apr_truncate((x[i] - least) * per_d + 0.5f), 0, largest);
}

/* | f16 d | 16: nibbles, 8 too large | */
static void q4_0_encode(const float *x, size_t n, unsigned char *out)
{
    uint8_t code[32];
    for (; n; n -= 32, x += 32, out += 18) {
        code_around(x, 8, out, code);
        apr_store_nibbles(code, 32, out + 2);
    }
}

/* | f16 d | f16 m | 16: nibbles | */
static void q4_1_encode(const float *x, size_t n, unsigned char *out)
{
    uint8_t code[32];
    for (; n; n -= 32, x += 32, out += 20) {
        code_from_min(x, 15, out, code);
        apr_store_nibbles(code, 32, out + 4);
    }
}

/* | f16 d | u32: fifth bits | 16: nibbles |, 16 too large */
static void q5_0_encode(const float *x, size_t n, unsigned char *out)
{
    uint8_t code[32];
    for (; n; n -= 32, x += 32, out += 22) {
        code_around(x, 16, out, code);
        apr_store_fives(code, out + 2);
    }
}

/* | f16 d | f16 m | u32: fifth bits | 16: nibbles | */
static void q5_1_encode(const float *x, size_t n, unsigned char *out)
{
    uint8_t code[32];
    for (; n; n -= 32, x += 32, out += 24) {
        code_from_min(x, 31, out, code);
        apr_store_fives(code, out + 4);
    }
}

/* | f16 d | 32: i8 |: d = max|x| / 127, codes x / d, ties away from zero, where 1 / d is of the d that is not yet rounded to f16. */
static void q8_0_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 34) {
        const float d = apr_largest(x, 32) / 127, per_d = apr_inverse(d);
        apr_store_scale(out, d);
        for (unsigned i = 0; i < 32; i++)
            out[2 + i] = (unsigned char)apr_round(x[i] * per_d);
    }
}

void apr_legacy_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->decode[APR_Q4_0] = q4_0;
    k->decode[APR_Q4_1] = q4_1;
    k->decode[APR_Q5_0] = q5_0;
    k->decode[APR_Q5_1] = q5_1;
    k->decode[APR_Q8_0] = q8_0;
    k->decode[APR_Q8_1] = q8_1;
    k->unpack[APR_Q4_0] = q4_0_unpack;
    k->unpack[APR_Q4_1] = q4_1_unpack;
    k->unpack[APR_Q5_0] = q5_0_unpack;
    k->unpack[APR_Q5_1] = q5_1_unpack;
    k->unpack[APR_Q8_0] = q8_0_unpack;
    k->unpack[APR_Q8_1] = q8_1_unpack;
    k->codes[APR_Q8_0] = q8_0_codes;
    k->encode[APR_Q4_0] = q4_0_encode;
    k->encode[APR_Q4_1] = q4_1_encode;
    k->encode[APR_Q5_0] = q5_0_encode;
    k->encode[APR_Q5_1] = q5_1_encode;
    k->encode[APR_Q8_0] = q8_0_encode;
    apr_legacy_weighted_init(k);
    if (APR_X86 && isa >= APR_AVX2)
        apr_legacy_x86(k);
    if (APR_ARM && isa == APR_NEON)
        apr_legacy_neon(k);
}
