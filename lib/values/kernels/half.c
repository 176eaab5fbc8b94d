#include "values/kernels/encode.h"

float apr_f16_to_f32(uint16_t h)
{
    return apr_half(h);
}

static void f16(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (size_t i = 0; i < n; i++)
        out[i] = apr_load_half(in + 2 * i);
}

static void bf16(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (size_t i = 0; i < n; i++)
        out[i] = apr_float_of_bits((uint32_t)apr_load16(in + 2 * i) << 16);
}

static void f16_encode(const float *x, size_t n, unsigned char *out)
{
    for (size_t i = 0; i < n; i++)
        apr_store16(out + 2 * i, apr_to_half(x[i]));
}

/* The upper half of a binary32, one up where the lower half is more than half of its last place, or half and the place odd. A NaN whose
 * payload is all in the lower half would become an infinity; made quiet it stays one. */
static inline uint16_t upper_half(uint32_t bits)
{
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return (uint16_t)(nan ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static void bf16_encode(const float *x, size_t n, unsigned char *out)
{
    for (size_t i = 0; i < n; i++)
        apr_store16(out + 2 * i, upper_half(apr_bits_of_float(x[i])));
}

void apr_half_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->decode[APR_F16] = f16;
    k->decode[APR_BF16] = bf16;
    k->encode[APR_F16] = f16_encode;
    k->encode[APR_BF16] = bf16_encode;
    if (APR_X86 && isa >= APR_AVX2)
        apr_half_x86(k);
    if (APR_ARM && isa == APR_NEON)
        apr_half_neon(k);
}
