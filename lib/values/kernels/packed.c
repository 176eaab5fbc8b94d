/* What packed weights are decoded with (values/packed.h). Of no dtype. */
#include "values/kernels/init.h"

static inline float ended(float x, const struct apr_coding *c)
{
    return !c->scaled ? x : c->divides ? x / c->factor : x * c->factor;
}

/* The codes of group number g of the run. */
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
    } else {
        for (size_t i = 0; i < n; i++)
            out[i] = ended(((float)code[i] - c->zero[g]) * scale, c);
    }
}

void apr_put_codes_scalar(const uint8_t *code, size_t n, const struct apr_coding *c, float *out)
{
    for (size_t g = 0, now; n > 0; g++, code += now, out += now, n -= now) {
        now = (size_t)apr_min(n, g == 0 ? c->first : c->group);
        put_group(code, now, c, g, out);
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

void apr_nibbles_scalar(const unsigned char *p, size_t npair, bool turned, uint8_t *code)
{
    const unsigned first = turned ? 4 : 0, second = 4 - first;
    for (size_t i = 0; i < npair; i++) {
        code[2 * i] = p[i] >> first & 15;
        code[2 * i + 1] = p[i] >> second & 15;
    }
}

/* Eight nibbles, the lowest first, to eight bytes. */
static inline uint64_t spread(uint32_t word)
{
    uint64_t x = word;
    x = (x | x << 16) & 0x0000FFFF0000FFFFu;
    x = (x | x << 8) & 0x00FF00FF00FF00FFu;
    return (x | x << 4) & 0x0F0F0F0F0F0F0F0Fu;
}

static void nibbles_down(const unsigned char *words, uint8_t *code, size_t stride)
{
    for (unsigned r = 0; r < APR_TILE_ROWS; r++) {
        const uint64_t x = spread(apr_load32(words + 4 * r));
        for (unsigned i = 0; i < 8; i++)
            code[r * stride + i] = (uint8_t)(x >> 8 * i);
    }
}

static void nibbles_across(const unsigned char *words, size_t word_stride, uint8_t *code, size_t stride)
{
    for (unsigned i = 0; i < 16; i++)
        for (unsigned w = 0; w < APR_TILE_ROWS / 8; w++) {
            const uint64_t x = spread(apr_load32(words + i * word_stride + 4 * w));
            for (unsigned r = 0; r < 8; r++)
                code[(8 * w + r) * stride + i] = (uint8_t)(x >> 8 * (r / 2 + r % 2 * 4));
        }
}

void apr_packed_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->put_codes = apr_put_codes_scalar;
    k->put_values = apr_put_values_scalar;
    k->nibbles = apr_nibbles_scalar;
    k->nibbles_down = nibbles_down;
    k->nibbles_across = nibbles_across;
    if (APR_X86 && isa >= APR_AVX2)
        apr_packed_x86(k);
}
