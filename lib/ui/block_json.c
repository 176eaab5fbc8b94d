#include "ui/block_json.h"

#include <string.h>

#include "base/cursor.h"
#include "values/dtype.h"

#define MOST_BLOCK_BYTES 320
#define MOST_ELEMENTS    256

/* n bytes from `at` on that are set to `byte`. */
struct patch {
    uint16_t at, n;
    uint8_t  byte;
};

/* The parts of a block are found by asking its decoder: with every scale set to one it gives the quants, with every quant set to one the
 * scales. sub: elements of a sub-block with a scale of its own, 0 where there is just the one of the block. */
struct recipe {
    struct patch unit_scale[3], no_min, unit_quant[2];
    uint16_t     sub;
    bool         mins;
};

#define ONE_F16(at) { (at) + 1, 1, 0x3C }, { (at), 1, 0 }

static const struct recipe recipes[APR_NDTYPES] = {
    [APR_Q4_0] = { .unit_scale = { ONE_F16(0) } },
    [APR_Q4_1] = { .unit_scale = { ONE_F16(0) }, .no_min = { 2, 2, 0 } },
    [APR_Q5_0] = { .unit_scale = { ONE_F16(0) } },
    [APR_Q5_1] = { .unit_scale = { ONE_F16(0) }, .no_min = { 2, 2, 0 } },
    [APR_Q8_0] = { .unit_scale = { ONE_F16(0) } },
    [APR_Q8_1] = { .unit_scale = { ONE_F16(0) } },
    [APR_IQ4_NL] = { .unit_scale = { ONE_F16(0) } },
    [APR_Q1_0] = { .unit_scale = { ONE_F16(0) } },
    [APR_Q2_0] = { .unit_scale = { ONE_F16(0) } },
    [APR_TQ1_0] = { .unit_scale = { ONE_F16(52) } },
    [APR_TQ2_0] = { .unit_scale = { ONE_F16(64) } },
    [APR_APR_Q4] = { .unit_scale = { ONE_F16(0) } },
    [APR_MXFP4] = { .unit_scale = { { 0, 1, 128 } } },
    [APR_NVFP4] = { .unit_scale = { { 0, 4, 0x40 } } },
    [APR_Q2_K] = { .unit_scale = { ONE_F16(80), { 0, 16, 0x01 } }, .no_min = { 82, 2, 0 }, .unit_quant = { { 16, 64, 0x55 } }, .sub = 16, .mins = true },
    [APR_Q3_K] = { .unit_scale = { ONE_F16(108), { 96, 12, 0 } }, .unit_quant = { { 0, 32, 0xFF }, { 32, 64, 0x55 } }, .sub = 16 },
    [APR_Q4_K] = { .unit_scale = { ONE_F16(0), { 4, 12, 0 } }, .no_min = { 2, 2, 0 }, .unit_quant = { { 16, 128, 0x11 } }, .sub = 32, .mins = true },
    [APR_Q5_K] = { .unit_scale = { ONE_F16(0), { 4, 12, 0 } }, .no_min = { 2, 2, 0 }, .unit_quant = { { 16, 32, 0 }, { 48, 128, 0x11 } }, .sub = 32,
                   .mins = true },
    [APR_Q6_K] = { .unit_scale = { ONE_F16(208), { 192, 16, 0x01 } }, .unit_quant = { { 0, 128, 0x11 }, { 128, 64, 0xAA } }, .sub = 16 },
    [APR_IQ4_XS] = { .unit_scale = { ONE_F16(0), { 2, 6, 0 } }, .unit_quant = { { 8, 128, 0x88 } }, .sub = 32 },
};

static void apply(unsigned char *block, const struct patch *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        memset(block + p[i].at, p[i].byte, p[i].n);
}

/* Sub-block scales of one where a byte alone does not say it: six bits cut up, or counted from 32. */
static void unit_sub_scales(const struct apr_dtype *d, unsigned char *block)
{
    if (d == &apr_dtypes[APR_Q4_K] || d == &apr_dtypes[APR_Q5_K]) {
        memset(block + 4, 1, 4);
        memset(block + 12, 1, 4);
    } else if (d == &apr_dtypes[APR_Q3_K]) {
        memset(block + 96, 0x11, 8);
        memset(block + 104, 0xAA, 4);
    } else if (d == &apr_dtypes[APR_IQ4_XS]) {
        memset(block + 2, 0xAA, 2);
        memset(block + 4, 0x11, 4);
    }
}

static void write_values(struct apr_out *o, const char *key, const float *v, size_t n, size_t step, float sign)
{
    apr_out_open(o, key, '[');
    for (size_t i = 0; i < n; i += step)
        apr_out_real(o, NULL, (double)(sign * v[i]));
    apr_out_close(o, ']');
}

static void write_parts(struct apr_out *o, const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *block, const struct recipe *r)
{
    apr_decode_fn *const decode = k->decode[d - apr_dtypes];
    unsigned char patched[MOST_BLOCK_BYTES];
    float values[MOST_ELEMENTS];
    if (r->sub > 0) {
        memcpy(patched, block, d->bytes);
        apply(patched, r->unit_scale, 2);
        apply(patched, &r->no_min, 1);
        apply(patched, r->unit_quant, 2);
        decode(NULL, patched, d->block, values);
        write_values(o, "scales", values, d->block, r->sub, 1);
    }
    if (r->mins) { /* no scale and a minimum of one: what is left is minus the sub-block's */
        memcpy(patched, block, d->bytes);
        memset(patched + r->unit_scale[1].at, 0, 2);
        memcpy(patched + r->no_min.at, "\0\x3C", 2);
        decode(NULL, patched, d->block, values);
        write_values(o, "mins", values, d->block, r->sub, -1);
    }
    memcpy(patched, block, d->bytes);
    apply(patched, r->unit_scale, 3);
    unit_sub_scales(d, patched);
    apply(patched, &r->no_min, 1);
    decode(NULL, patched, d->block, values);
    write_values(o, "quants", values, d->block, 1, 1);
}

static void write_field(struct apr_out *o, const struct apr_field *f, const unsigned char *block)
{
    struct apr_cursor c = { .of = { block + f->at, (size_t)f->n * apr_field_width(f->kind) } };
    if (f->n > 1)
        apr_out_open(o, f->name, '[');
    for (unsigned i = 0; i < f->n; i++) {
        const uint32_t bits = (uint32_t)apr_take_integer(&c, apr_field_width(f->kind));
        const char *key = f->n > 1 ? NULL : f->name;
        float single;
        memcpy(&single, &bits, sizeof single);
        if (f->kind == APR_FIELD_F16 || f->kind == APR_FIELD_F32)
            apr_out_real(o, key, (double)(f->kind == APR_FIELD_F16 ? apr_f16_to_f32((uint16_t)bits) : single));
        else
            apr_out_int(o, key, f->kind == APR_FIELD_I8 ? (int8_t)bits : f->kind == APR_FIELD_I16 ? (int16_t)bits : (int64_t)bits);
    }
    if (f->n > 1)
        apr_out_close(o, ']');
}

void apr_out_block(struct apr_out *o, const char *key, const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *block)
{
    char hex[2 * MOST_BLOCK_BYTES + 1] = "";
    const struct recipe *r = &recipes[d - apr_dtypes];
    const bool known = r->unit_scale[0].n > 0 && k->decode[d - apr_dtypes] != NULL;
    for (size_t i = 0; i < d->bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", block[i]);
    apr_out_open(o, key, '{');
    apr_out_text(o, "hex", hex);
    for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n > 0; f++)
        if (!known || f->kind == APR_FIELD_F16 || f->kind == APR_FIELD_F32)
            write_field(o, f, block);
    if (known)
        write_parts(o, k, d, block, r);
    apr_out_close(o, '}');
}
