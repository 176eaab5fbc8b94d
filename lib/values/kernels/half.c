#include "values/kernels/init.h"

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

void apr_half_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->decode[APR_F16] = f16;
    k->decode[APR_BF16] = bf16;
    if (APR_X86 && isa >= APR_AVX2)
        apr_half_x86(k);
    if (APR_ARM && isa == APR_NEON)
        apr_half_neon(k);
}
