#include "values/kernels/init.h"

/* A finite number of so many bits: sign, exponent, fraction. */
static inline float number(uint32_t code, unsigned bits, unsigned fraction, unsigned bias)
{
    const uint32_t sign = code >> (bits - 1) << 31, magnitude = code & ((1u << (bits - 1)) - 1);
    return apr_float_of_bits(sign | apr_rebias(magnitude << (23 - fraction), 127 - bias));
}

static inline float nan_of(unsigned code)
{
    return apr_float_of_bits(0x7fc00000u | (uint32_t)(code & 0x80u) << 24);
}

static inline float e4m3(unsigned c) { return (c & 0x7f) == 0x7f ? nan_of(c) : number(c, 8, 3, 7); }
static inline float e5m2(unsigned c) { return apr_half((uint16_t)(c << 8)); }
static inline float e4m3fnuz(unsigned c) { return c == 0x80 ? nan_of(c) : number(c, 8, 3, 8); }
static inline float e5m2fnuz(unsigned c) { return c == 0x80 ? nan_of(c) : number(c, 8, 2, 16); }
static inline float e2m3(unsigned c) { return number(c, 6, 3, 1); }
static inline float e3m2(unsigned c) { return number(c, 6, 2, 3); }
static inline float e2m1(unsigned c) { return number(c, 4, 1, 1); }

/* A bare exponent: 0 is 2^-127, a subnormal here, and 255 is NaN. */
static inline float e8m0(unsigned c)
{
    return apr_float_of_bits(c == 0 ? 0x400000u : c == 255 ? 0x7fc00000u : (uint32_t)c << 23);
}

#define BYTES(name, value)                                                                       \
    static void name(const unsigned char *head, const unsigned char *in, size_t n, float *out)   \
    {                                                                                            \
        (void)head;                                                                              \
        for (size_t i = 0; i < n; i++)                                                           \
            out[i] = value(in[i]);                                                               \
    }

/* | a: 6 | b: 6 | c: 6 | d: 6 | from the lowest bit of three little-endian bytes. */
#define SIXES(name, value)                                                                       \
    static void name(const unsigned char *head, const unsigned char *in, size_t n, float *out)   \
    {                                                                                            \
        (void)head;                                                                              \
        for (size_t i = 0; i < n; i += 4, in += 3) {                                             \
            const unsigned codes = in[0] | (unsigned)in[1] << 8 | (unsigned)in[2] << 16;         \
            for (unsigned j = 0; j < 4; j++)                                                     \
                out[i + j] = value(codes >> 6 * j & 63);                                         \
        }                                                                                        \
    }

BYTES(f8_e4m3, e4m3)
BYTES(f8_e5m2, e5m2)
BYTES(f8_e4m3fnuz, e4m3fnuz)
BYTES(f8_e5m2fnuz, e5m2fnuz)
BYTES(f8_e8m0, e8m0)
SIXES(f6_e2m3, e2m3)
SIXES(f6_e3m2, e3m2)

static void f4(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    for (size_t i = 0; i < n; i += 2, in++) {
        out[i] = e2m1(*in & 15u);
        out[i + 1] = e2m1(*in >> 4);
    }
}

void apr_float8_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->decode[APR_F8_E4M3] = f8_e4m3;
    k->decode[APR_F8_E5M2] = f8_e5m2;
    k->decode[APR_F8_E4M3FNUZ] = f8_e4m3fnuz;
    k->decode[APR_F8_E5M2FNUZ] = f8_e5m2fnuz;
    k->decode[APR_F8_E8M0] = f8_e8m0;
    k->decode[APR_F6_E2M3] = f6_e2m3;
    k->decode[APR_F6_E3M2] = f6_e3m2;
    k->decode[APR_F4] = f4;
    if (APR_X86 && isa >= APR_AVX2)
        apr_float8_x86(k);
    if (APR_ARM && isa == APR_NEON)
        apr_float8_neon(k);
}
