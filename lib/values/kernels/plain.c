#include "values/kernels/init.h"

/* out of any type, from values of `type` at any alignment; `value` says what v becomes. */
#define DECODER(name, out_type, type, value)                                                        \
    static void name(const unsigned char *head, const unsigned char *in, size_t n, out_type *out)   \
    {                                                                                               \
        (void)head;                                                                                 \
        for (size_t i = 0; i < n; i++) {                                                            \
            type v;                                                                                 \
            memcpy(&v, in + i * sizeof v, sizeof v);                                                \
            out[i] = (value);                                                                       \
        }                                                                                           \
    }

DECODER(i16, float, int16_t, v)
DECODER(i8, float, int8_t, v)
DECODER(u16, float, uint16_t, v)
DECODER(u8, float, uint8_t, v)
DECODER(boolean, float, uint8_t, v != 0)
DECODER(i64, double, int64_t, (double)v)
DECODER(i32, double, int32_t, v)
DECODER(u64, double, uint64_t, (double)v)
DECODER(u32, double, uint32_t, v)

static void f32(const unsigned char *head, const unsigned char *in, size_t n, float *out)
{
    (void)head;
    if (n)
        memcpy(out, in, n * sizeof *out);
}

static void f64(const unsigned char *head, const unsigned char *in, size_t n, double *out)
{
    (void)head;
    if (n)
        memcpy(out, in, n * sizeof *out);
}

static void f32_encode(const float *x, size_t n, unsigned char *out)
{
    if (n)
        memcpy(out, x, n * sizeof *x);
}

static void f64_encode(const double *x, size_t n, unsigned char *out)
{
    if (n)
        memcpy(out, x, n * sizeof *x);
}

void apr_plain_init(struct apr_kernels *k, enum apr_isa isa)
{
    (void)isa;
    k->decode[APR_F32] = f32;
    k->encode[APR_F32] = f32_encode;
    k->decode[APR_I16] = i16;
    k->decode[APR_I8] = i8;
    k->decode[APR_U16] = u16;
    k->decode[APR_U8] = u8;
    k->decode[APR_BOOL] = boolean;
    k->decode_wide[APR_F64] = f64;
    k->decode_wide[APR_I64] = i64;
    k->decode_wide[APR_I32] = i32;
    k->decode_wide[APR_U64] = u64;
    k->decode_wide[APR_U32] = u32;
    k->encode[APR_F32] = f32_encode;
    k->encode_wide[APR_F64] = f64_encode;
}
