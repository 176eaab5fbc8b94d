#include "ui/block_json.h"

#include <string.h>

#include "base/cursor.h"
#include "values/dtype.h"

#define MOST_BLOCK_BYTES 320

static void write_integers(struct apr_out *o, const char *key, const int8_t *v, size_t n)
{
    apr_out_open(o, key, '[');
    for (size_t i = 0; i < n; i++)
        apr_out_int(o, NULL, v[i]);
    apr_out_close(o, ']');
}

static void write_parts(struct apr_out *o, const struct apr_unpacked *u)
{
    if (u->nsub > 1)
        write_integers(o, "scales", u->sub_scale, u->nsub);
    if (u->nsub > 1 && u->has_min)
        write_integers(o, "mins", u->sub_min, u->nsub);
    write_integers(o, "quants", u->quant, u->n);
}

/* Sums stand beside the scales and quants of a block that is made for products; it is shown field by field. */
static bool has_sums(const struct apr_dtype *d)
{
    bool yes = false;
    for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n > 0; f++)
        yes |= f->kind == APR_FIELD_I16;
    return yes;
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
    apr_unpack_fn *const unpack = has_sums(d) ? NULL : k->unpack[apr_dtype_id(d)];
    for (size_t i = 0; i < d->bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", block[i]);
    apr_out_open(o, key, '{');
    apr_out_text(o, "hex", hex);
    for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n > 0; f++)
        if (unpack == NULL || f->kind == APR_FIELD_F16 || f->kind == APR_FIELD_F32)
            write_field(o, f, block);
    if (unpack != NULL) {
        struct apr_unpacked u;
        unpack(block, &u);
        write_parts(o, &u);
    }
    apr_out_close(o, '}');
}
