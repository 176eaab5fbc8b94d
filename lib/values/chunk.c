#include "values/chunk.h"

#include <assert.h>
#include <string.h>

#include "values/dtype.h"
#include "values/packed.h"

#define SWAPPED_BYTES 2048 /* whole blocks are turned round that many bytes at a time */

bool apr_decodable(const struct apr_kernels *k, const struct apr_tensor *t)
{
    const enum apr_dtype_id id = apr_dtype_id(t->dtype);
    return t->packed || t->computed || k->decode[id] || k->decode_wide[id];
}

/* The block that holds an element, counted from the first one: each row begins a fresh block. */
static uint64_t block_of(const struct apr_tensor *t, uint64_t element)
{
    const uint64_t block = t->dtype->block, row = element / t->row, blocks_per_row = t->row / block + (t->row % block != 0);
    return row * blocks_per_row + element % t->row / block;
}

struct apr_bytes apr_element_bytes(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    if (t->packed != NULL && t->packed->form != APR_PACKED_BLOCKS)
        return apr_packed_codes(t, first, n);
    if (n == 0)
        return (struct apr_bytes){ t->data.at, 0 };
    const uint64_t from = block_of(t, first), to = block_of(t, first + n - 1) + 1;
    return (struct apr_bytes){ t->data.at + t->dtype->head + from * t->dtype->bytes, (size_t)((to - from) * t->dtype->bytes) };
}

uint64_t apr_blocks_bytes(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    return n == 0 ? 0 : (block_of(t, first + n - 1) + 1 - block_of(t, first)) * t->dtype->bytes;
}

static void turn(unsigned char *at, unsigned width)
{
    for (unsigned i = 0; i < width / 2; i++) {
        const unsigned char byte = at[i];
        at[i] = at[width - 1 - i];
        at[width - 1 - i] = byte;
    }
}

/* Makes one big-endian block little-endian: field by field, or a value without fields as a whole. */
static void turn_block(const struct apr_dtype *d, unsigned char *block)
{
    if (d->field[0].n == 0)
        turn(block, d->bytes);
    for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n; f++)
        for (unsigned i = 0, width = apr_field_width(f->kind); i < f->n; i++)
            turn(block + f->at + i * width, width);
}

void apr_turn_blocks(const struct apr_tensor *t, struct apr_bytes blocks, unsigned char *out)
{
    memcpy(out, blocks.at, blocks.n);
    for (size_t i = 0; i < blocks.n; i += t->dtype->bytes)
        turn_block(t->dtype, out + i);
}

static size_t value_bytes(const struct apr_tensor *t)
{
    return t->dtype->wide ? sizeof(double) : sizeof(float);
}

/* Whole blocks in the file's byte order into floats, or doubles for a wide type. */
static void decode_native(const struct apr_kernels *k, const struct apr_tensor *t, const unsigned char *blocks, size_t n, void *out)
{
    const enum apr_dtype_id id = apr_dtype_id(t->dtype);
    if (t->dtype->wide)
        k->decode_wide[id](t->data.at, blocks, n, out);
    else
        k->decode[id](t->data.at, blocks, n, out);
}

static void decode(const struct apr_kernels *k, const struct apr_tensor *t, const unsigned char *blocks, size_t n, void *out)
{
    if (!t->swapped) {
        decode_native(k, t, blocks, n, out);
        return;
    }
    const struct apr_dtype *d = t->dtype;
    const size_t most = SWAPPED_BYTES / d->bytes;
    unsigned char turned[SWAPPED_BYTES];
    for (size_t left = n / d->block; left;) {
        const size_t blocks_now = left < most ? left : most;
        apr_turn_blocks(t, (struct apr_bytes){ blocks, blocks_now * d->bytes }, turned);
        decode_native(k, t, turned, blocks_now * d->block, out);
        blocks += blocks_now * d->bytes;
        out = (unsigned char *)out + blocks_now * d->block * value_bytes(t);
        left -= blocks_now;
    }
}

/* Elements [first, first + n) of one row: a block entered in the middle, whole blocks, a block left in the middle. */
static void read_row(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, unsigned char *out)
{
    const struct apr_dtype *d = t->dtype;
    const size_t width = value_bytes(t);
    const unsigned char *blocks = apr_element_bytes(t, first, n).at;
    for (size_t skip = (size_t)(first % t->row % d->block); n; skip = 0) {
        size_t now = n - n % d->block;
        if (skip || now == 0) {
            float block[APR_MOST_ELEMENTS];
            now = n < d->block - skip ? n : d->block - skip;
            decode(k, t, blocks, d->block, block);
            memcpy(out, block + skip, now * width);
            blocks += d->bytes;
        } else {
            decode(k, t, blocks, now, out);
            blocks += now / d->block * d->bytes;
        }
        out += now * width;
        n -= now;
    }
}

static void read_rows(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, void *out)
{
    unsigned char *to = out;
    while (n) {
        const size_t now = (size_t)apr_min(n, t->row - first % t->row);
        if (t->packed != NULL && t->packed->form != APR_PACKED_BLOCKS)
            apr_unpack_floats(k, t, first, now, (float *)(void *)to);
        else
            read_row(k, t, first, now, to);
        if (t->packed != NULL && t->packed->form == APR_PACKED_BLOCKS)
            apr_packed_scale(t->packed, first, now, (float *)(void *)to);
        to += now * value_bytes(t);
        first += now;
        n -= now;
    }
}

void apr_read_floats(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, float *out)
{
    assert(!t->dtype->wide && n <= APR_STRETCH && first + n <= t->count);
    read_rows(k, t, first, n, out);
}

void apr_read_doubles(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, double *out)
{
    assert(n <= APR_STRETCH && first + n <= t->count);
    if (t->dtype->wide) {
        read_rows(k, t, first, n, out);
        return;
    }
    float narrow[APR_STRETCH];
    read_rows(k, t, first, n, narrow);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (unsigned j = 0; j < 8; j++) /* a number of turns that is known is what makes gcc -O2 use its vectors */
            out[i + j] = narrow[i + j];
    for (; i < n; i++)
        out[i] = narrow[i];
}

void apr_read_blocks(const struct apr_tensor *t, uint64_t first, uint64_t n, void *out)
{
    const struct apr_bytes b = apr_element_bytes(t, first, n);
    assert(n <= t->count && first <= t->count - n);
    if (t->packed != NULL && t->packed->form != APR_PACKED_BLOCKS)
        apr_packed_blocks(t, first, n, out);
    else if (t->swapped)
        apr_turn_blocks(t, b, out);
    else if (n > 0)
        memcpy(out, b.at, b.n);
}
