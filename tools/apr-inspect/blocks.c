/* One tensor's blocks, field by field, and its bytes. */
#include <string.h>

#include "base/cursor.h"
#include "model/model.h"
#include "values.h"
#include "values/chunk.h"
#include "values/dtype.h"

#define MOST_BYTES  256 /* of --hex without --slice */
#define MOST_BLOCKS 4   /* of --blocks without --slice */

static uint64_t blocks_per_row(const struct apr_tensor *t) { return t->row / t->dtype->block + (t->row % t->dtype->block != 0); }

static uint64_t nblocks(const struct apr_tensor *t) { return t->count == 0 ? 0 : t->count / t->row * blocks_per_row(t); }

/* The elements of block number b: a row's last one may be shorter. */
static uint64_t block_elements(const struct apr_tensor *t, uint64_t b, uint64_t *first)
{
    const uint64_t row = b / blocks_per_row(t), within = b % blocks_per_row(t) * t->dtype->block;
    *first = row * t->row + within;
    return apr_min(t->dtype->block, t->row - within);
}

static double field_value(struct apr_cursor *c, enum apr_field_kind kind)
{
    const uint32_t bits = (uint32_t)apr_take_integer(c, apr_field_width(kind));
    float f;
    switch (kind) {
    case APR_FIELD_I8:  return (int8_t)bits;
    case APR_FIELD_I16: return (int16_t)bits;
    case APR_FIELD_F16: return (double)apr_f16_to_f32((uint16_t)bits);
    case APR_FIELD_F32: memcpy(&f, &bits, sizeof f); return (double)f;
    default:            return bits;
    }
}

static void put_field(struct apr_out *json, const struct view *v, const struct apr_field *f, struct apr_bytes block)
{
    struct apr_cursor c = { .of = block, .at = f->at, .big = v->in.one.swapped };
    const bool real = f->kind == APR_FIELD_F16 || f->kind == APR_FIELD_F32;
    char number[32];
    if (json == NULL)
        printf("  %-16s", f->name);
    else if (f->n > 1)
        apr_out_open(json, f->name, '[');
    for (unsigned i = 0; i < f->n; i++) {
        const double value = field_value(&c, f->kind);
        if (json != NULL)
            apr_out_real(json, f->n > 1 ? NULL : f->name, value);
        else if (real)
            printf(" %s", spell_float(value, number));
        else
            printf("%s%4.0f", i > 0 && i % 15 == 0 ? "\n                  " : "", value);
    }
    if (json == NULL)
        putchar('\n');
    else if (f->n > 1)
        apr_out_close(json, ']');
}

static void put_block(struct apr_out *json, const struct view *v, uint64_t b)
{
    uint64_t first;
    const uint64_t n = block_elements(&v->in.one, b, &first);
    const struct apr_bytes block = apr_element_bytes(&v->in.one, first, 1);
    struct printer p = { .json = json, .whole = false };
    if (json != NULL) {
        apr_out_open(json, NULL, '{');
        apr_out_count(json, "block", b);
        apr_out_count(json, "element", first);
        apr_out_count(json, "offset", apr_tensor_offset(v->x->m, v->stored) + (uint64_t)(block.at - v->in.one.data.at));
    } else {
        printf("block %llu, elements %llu to %llu\n", (unsigned long long)b, (unsigned long long)first,
               (unsigned long long)(first + n - 1));
    }
    for (const struct apr_field *f = v->in.one.dtype->field; f < v->in.one.dtype->field + APR_MAX_FIELDS && f->n > 0; f++)
        put_field(json, v, f, block);
    if (json != NULL)
        apr_out_open(json, "values", '[');
    else
        printf("  values\n  ");
    if (v->in.decodable)
        put_run(&p, v, first, n);
    if (json != NULL) {
        apr_out_close(json, ']');
        apr_out_close(json, '}');
    } else {
        putchar('\n');
    }
}

/* A scale before the first block (APR_Q8). */
static void put_head(struct apr_out *json, const struct view *v)
{
    static const struct apr_field scale = { "scale", APR_FIELD_F32, 0, 1 };
    if (v->in.one.dtype->head > 0 && v->in.one.data.n >= v->in.one.dtype->head)
        put_field(json, v, &scale, v->in.one.data);
}

enum apr_code take_blocks(const struct view *v, uint64_t *from, uint64_t *to, struct apr_error *e)
{
    if (v->in.one.dtype->field[0].n == 0 || (v->in.one.packed != NULL && v->in.one.packed->form != APR_PACKED_BLOCKS))
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, v->in.one.name, ": type %s has no blocks%s", v->in.one.dtype->name,
                               v->in.one.packed != NULL ? " as it is stored here" : "");
    return take_run(v->x, nblocks(&v->in.one), MOST_BLOCKS, from, to, e);
}

void put_blocks(struct apr_out *json, const struct view *v, uint64_t from, uint64_t to)
{
    put_head(json, v);
    if (json != NULL)
        apr_out_open(json, "blocks", '[');
    for (uint64_t b = from; b < to; b++)
        put_block(json, v, b);
    if (json != NULL)
        apr_out_close(json, ']');
}

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

void print_hex(struct apr_bytes b, uint64_t at)
{
    for (size_t i = 0; i < b.n; i += 16) {
        printf("%08llx  ", (unsigned long long)(at + i));
        for (size_t k = 0; k < 16; k++) {
            if (i + k < b.n)
                printf("%02x %s", b.at[i + k], k == 7 ? " " : "");
            else
                printf("   %s", k == 7 ? " " : "");
        }
        fputs(" |", stdout);
        for (size_t k = i; k < b.n && k < i + 16; k++)
            putchar(b.at[k] >= 0x20 && b.at[k] < 0x7F ? b.at[k] : '.');
        puts("|");
    }
}

void write_hex(struct apr_out *j, struct apr_bytes b)
{
    static const char digit[] = "0123456789abcdef";
    char text[2 * MOST_BYTES];
    size_t n = 0;
    apr_out_open(j, "hex", '[');
    for (size_t i = 0; i < b.n; i++) {
        text[n++] = digit[b.at[i] >> 4];
        text[n++] = digit[b.at[i] & 15];
        if (n == sizeof text || i + 1 == b.n) {
            apr_out_bytes(j, NULL, (struct apr_bytes){ (const unsigned char *)text, n });
            n = 0;
        }
    }
    apr_out_close(j, ']');
}

enum apr_code take_bytes(const struct view *v, struct apr_bytes *b, uint64_t *at, struct apr_error *e)
{
    uint64_t from, to;
    APR_TRY(take_run(v->x, v->stored->data.n, MOST_BYTES, &from, &to, e));
    *b = (struct apr_bytes){ v->stored->data.at == NULL ? NULL : v->stored->data.at + from, (size_t)(to - from) };
    *at = apr_tensor_offset(v->x->m, v->stored) + from;
    return APR_OK;
}
