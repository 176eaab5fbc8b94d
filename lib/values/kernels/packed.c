/* What packed weights are decoded with (values/packed.h). Of no dtype. */
#include "values/kernels/init.h"

#define RUN 64u /* codes that are unpacked at a time */

static inline float ended(float x, const struct apr_coding *c)
{
    return !c->scaled ? x : c->divides ? x / c->factor : x * c->factor;
}

/* ---- codes ---------------------------------------------------------------------------------------------------------- */

/* Eight codes of `bits` bytes: halved three times, until each code has a byte. */
static inline uint64_t spread(const unsigned char *p, unsigned bits)
{
    const uint64_t four = (UINT64_C(1) << 4 * bits) - 1, two = ((UINT64_C(1) << 2 * bits) - 1) * 0x100000001u,
                   one = ((UINT64_C(1) << bits) - 1) * 0x1000100010001u;
    uint64_t x = 0;
    for (unsigned i = 0; i < bits; i++)
        x |= (uint64_t)p[i] << 8 * i;
    x = (x & four) | (x >> 4 * bits & four) << 32;
    x = (x & two) | (x >> 2 * bits & two) << 16;
    return (x & one) | (x >> bits & one) << 8;
}

/* Code number i; it may lie in two bytes. */
static inline uint8_t code_at(const unsigned char *codes, size_t i, const struct apr_coding *c)
{
    const size_t bit = i * c->bits;
    const unsigned char *const at = codes + bit / 8;
    const unsigned from = (unsigned)(bit % 8), two = *at | (from + c->bits > 8 ? (unsigned)at[1] << 8 : 0);
    return (uint8_t)(two >> (c->turned ? 4 - from : from) & ((1u << c->bits) - 1));
}

/* n codes from number i on, a byte each. */
static void unpack(const unsigned char *codes, size_t i, size_t n, const struct apr_coding *c, uint8_t *code)
{
    size_t k = 0;
    if (c->bits == 8) {
        memcpy(code, codes + i, n);
        return;
    }
    for (; i % 8 == 0 && !c->turned && k + 8 <= n; k += 8) {
        const uint64_t x = spread(codes + (i + k) / 8 * c->bits, c->bits);
        for (unsigned j = 0; j < 8; j++)
            code[k + j] = (uint8_t)(x >> 8 * j);
    }
    for (; k < n; k++)
        code[k] = code_at(codes, i + k, c);
}

/* Codes of group number g of the run. */
static void put_group(const uint8_t *code, size_t n, const struct apr_coding *c, size_t g, float *out)
{
    const float scale = c->scale[g];
    if (c->level != NULL) {
        float value[16];
        for (unsigned k = 0; k < 16; k++)
            value[k] = ended(c->level[k] * scale, c);
        for (size_t i = 0; i < n; i++)
            out[i] = value[code[i]];
    } else if (c->bias != NULL) {
        for (size_t i = 0; i < n; i++)
            out[i] = (float)code[i] * scale + c->bias[g];
    } else if (c->with_sign) {
        for (size_t i = 0; i < n; i++)
            out[i] = ended(((float)(int8_t)code[i] - c->zero[g]) * scale, c);
    } else {
        for (size_t i = 0; i < n; i++)
            out[i] = ended(((float)code[i] - c->zero[g]) * scale, c);
    }
}

void apr_put_some_codes(const unsigned char *codes, size_t i, size_t n, const struct apr_coding *c, size_t g, float *out)
{
    uint8_t code[RUN];
    for (size_t now; n > 0; i += now, out += now, n -= now) {
        now = n < RUN ? n : RUN;
        unpack(codes, i, now, c, code);
        put_group(code, now, c, g, out);
    }
}

static void put_codes(const unsigned char *codes, size_t n, const struct apr_coding *c, float *out)
{
    for (size_t g = 0, i = 0, now; i < n; g++, i += now) {
        now = (size_t)apr_min(n - i, g == 0 ? c->first : c->group);
        apr_put_some_codes(codes, i, now, c, g, out + i);
    }
}

void apr_put_values_scalar(float *x, size_t n, const struct apr_coding *c)
{
    for (size_t g = 0, now; n > 0; g++, x += now, n -= now) {
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        for (size_t i = 0; i < now; i++)
            x[i] = ended((c->zero[g] != 0 ? x[i] - c->zero[g] : x[i]) * c->scale[g], c);
    }
}

/* ---- words ---------------------------------------------------------------------------------------------------------- */

static void words_down(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    for (unsigned line = 0; line < 16; line++)
        for (unsigned w = 0; w < 16; w++)
            memcpy(out + w * out_stride + 4 * line, words + line * stride + 4 * w, 4);
}

/* Sixteen lines: eight bytes of each row. */
static void some_across(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    for (unsigned w = 0; w < 16; w++) {
        uint64_t row[8] = { 0 };
        for (unsigned line = 0; line < 16; line++) {
            const uint64_t word = apr_load32(words + line * stride + 4 * w);
            for (unsigned k = 0; k < 8; k++)
                row[k / 4 + k % 4 * 2] |= (word >> 4 * k & 15) << 4 * line;
        }
        for (unsigned r = 0; r < 8; r++)
            for (unsigned i = 0; i < 8; i++)
                out[(8 * w + r) * out_stride + i] = (unsigned char)(row[r] >> 8 * i);
    }
}

static void words_across(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride)
{
    for (unsigned line = 0; line < 128; line += 16)
        some_across(words + line * stride, stride, out + line / 2, out_stride);
}

void apr_packed_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->put_codes = put_codes;
    k->put_values = apr_put_values_scalar;
    k->words_down = words_down;
    k->words_across = words_across;
    if (APR_X86 && isa >= APR_AVX2)
        apr_packed_x86(k);
}
