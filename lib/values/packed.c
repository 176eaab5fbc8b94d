#include "values/packed.h"

#include <assert.h>
#include <string.h>

#include "values/dtype.h"
#include "values/packed_row.h"

#define RUN 2048u /* values at a time */

const float apr_fp4_level[16] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6 };

/* ---- codes ---------------------------------------------------------------------------------------------------------- */

struct apr_packed_row apr_packed_row_of(const struct apr_tensor *t, uint64_t first)
{
    const struct apr_packed *const p = t->packed;
    const uint64_t row = first / p->ncol;
    struct apr_packed_row r = { .matrix = row / p->nrow, .row = row % p->nrow };
    r.at = t->data.at + r.matrix * p->matrix_bytes;
    if (p->form == APR_PACKED_DOWN)
        r.at += r.row * 4;
    else
        r.at += p->form == APR_PACKED_EIGHTS ? r.row / 8 * 4 : r.row * p->stride;
    return r;
}

/* Bytes with a sign, and streams of codes, are read where they are. */
static bool is_signed(const struct apr_packed *p) { return p->form == APR_PACKED_VALUES && p->code == &apr_dtypes[APR_I8]; }
static bool is_stream(const struct apr_packed *p) { return is_signed(p) || (p->form == APR_PACKED_STREAM && p->per_word == 0); }

/* Column i of a stream, which may be in two bytes. */
static inline uint8_t code_along(const struct apr_packed *p, const unsigned char *at, uint64_t i)
{
    const uint64_t bit = p->per_word == 0 ? i * p->bits : i / p->per_word * 32 + i % p->per_word * p->bits;
    const unsigned shift = (unsigned)(bit % 8), two = at[bit / 8] | (shift + p->bits > 8 ? (unsigned)at[bit / 8 + 1] << 8 : 0);
    return (uint8_t)(two >> (p->nibbles_turned ? shift ^ 4 : shift) & ((1u << p->bits) - 1));
}

/* Codes of a row one by one, a byte each. */
static void fetch(const struct apr_packed *p, const struct apr_packed_row *r, uint64_t col, size_t n, uint8_t *code)
{
    const unsigned shift = apr_shift_of_eight(r->row);
    const unsigned char *word = p->form == APR_PACKED_EIGHTS ? r->at + col * p->stride + shift / 8 : NULL;
    switch (p->form) {
    case APR_PACKED_DOWN:
        for (size_t i = 0; i < n; i++)
            code[i] = apr_code_down(r->at, p->stride, (col + i) * p->bits, p->bits);
        break;
    case APR_PACKED_EIGHTS:
        for (size_t i = 0; i < n; i++, word += p->stride)
            code[i] = *word >> shift % 8 & 15;
        break;
    default:
        for (size_t i = 0; i < n; i++)
            code[i] = code_along(p, r->at, col + i);
    }
}

/* ---- groups --------------------------------------------------------------------------------------------------------- */

static inline float value_of(const struct apr_kernels *k, const struct apr_packed_part *p, uint64_t i)
{
    const unsigned char *const at = p->data.at + i * p->dtype->bytes;
    float x;
    if (p->dtype == &apr_dtypes[APR_F16])
        return apr_load_half(at);
    k->decode[apr_dtype_id(p->dtype)](p->data.at, at, 1, &x);
    return x;
}

static float zero_of(const struct apr_kernels *k, const struct apr_packed *p, const struct apr_packed_row *r, uint64_t g)
{
    const unsigned char *const at = p->zeros.data.at;
    switch (p->zero_form) {
    case APR_ZERO_SAME: break;
    case APR_ZERO_VALUES: return value_of(k, &p->zeros, apr_scale_index(p, r, g));
    case APR_ZERO_ALONG: return (float)apr_code_down(at + g * (p->nrow * p->bits / 8), 4, r->row * p->bits, p->bits) + p->zero;
    case APR_ZERO_DOWN:
        return (float)apr_code_down(at + g * 4, p->ngroup * 4, r->row / p->per_word * 32 + r->row % p->per_word * p->bits, p->bits);
    case APR_ZERO_EIGHTS: return (float)(apr_load32(at + (g * (p->nrow / 8) + r->row / 8) * 4) >> apr_shift_of_eight(r->row) & 15);
    }
    return p->zero;
}

/* What groups have: a run meets RUN of them at most. */
struct groups {
    float scale[RUN], zero[RUN], bias[RUN];
};

static float nested_scale(const struct apr_kernels *k, const struct apr_packed *p, uint64_t i)
{
    return p->nested_level[p->scale.data.at[i]] * value_of(k, &p->nested, i / p->nested_block) + p->nested_offset;
}

static void read_numbers(const struct apr_kernels *k, const struct apr_packed_part *from, uint64_t i, uint64_t along, size_t n, float *out)
{
    if (along == 1)
        k->decode[apr_dtype_id(from->dtype)](NULL, from->data.at + i * from->dtype->bytes, n, out);
    else
        for (size_t g = 0; g < n; g++)
            out[g] = value_of(k, from, i + g * along);
}

/* Groups g to g + n of a row. */
static void read_groups(const struct apr_kernels *k, const struct apr_packed *p, const struct apr_packed_row *r, uint64_t g, size_t n,
                        struct groups *to)
{
    const uint64_t i = apr_scale_index(p, r, g);
    if (p->nested.data.at == NULL)
        read_numbers(k, &p->scale, i, p->scale_along, n, to->scale);
    for (size_t j = 0; p->nested.data.at != NULL && j < n; j++)
        to->scale[j] = nested_scale(k, p, i + j);
    if (p->bias.data.at != NULL)
        read_numbers(k, &p->bias, i, p->scale_along, n, to->bias);
    else if (p->zero_form == APR_ZERO_VALUES)
        read_numbers(k, &p->zeros, i, p->scale_along, n, to->zero);
    else
        for (size_t j = 0; p->level == NULL && j < n; j++)
            to->zero[j] = zero_of(k, p, r, g + j);
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* Codes of a row: in a tile, where they are, or a byte each in `room`. */
struct codes {
    const unsigned char *at; /* NULL: they are values of their own */
    unsigned             bits;
    bool                 turned;
};

/* Columns whose groups an index tells, one by one. */
static void put_by_index(const struct apr_kernels *k, const struct apr_packed *p, const struct apr_packed_row *r,
                         const struct apr_tile_row *tile, uint64_t col, const struct codes *codes, size_t n, float *out)
{
    static const float one = 1, none = 0;
    const struct apr_coding plain = { .bits = codes->bits, .scale = &one, .zero = &none, .first = n, .group = n };
    uint64_t last = UINT64_MAX;
    float scale = 0, zero = 0;
    k->put_codes(codes->at, n, &plain, out);
    for (size_t i = 0; i < n; i++) {
        const uint64_t g = apr_load32(p->index.data.at + (col + i) * p->index.dtype->bytes);
        if (tile->scale != NULL) {
            out[i] = (out[i] - tile->zero[g]) * tile->scale[g];
            continue;
        }
        if (g != last) {
            scale = value_of(k, &p->scale, apr_scale_index(p, r, g));
            zero = zero_of(k, p, r, g);
        }
        last = g;
        out[i] = (out[i] - zero) * scale;
    }
}

/* One run of a row. */
static void put_groups(const struct apr_kernels *k, const struct apr_packed *p, const struct apr_packed_row *r,
                       const struct apr_tile_row *tile, uint64_t col, const struct codes *codes, size_t n, struct apr_coding *c, float *out)
{
    struct groups groups;
    const uint64_t g = col / p->group_columns, last = (col + n - 1) / p->group_columns;
    c->bits = codes->bits;
    c->turned = codes->turned;
    c->first = (size_t)apr_min(n, p->group_columns - col % p->group_columns);
    c->group = (size_t)apr_min(RUN, p->group_columns);
    if (tile->scale == NULL)
        read_groups(k, p, r, g, (size_t)(last - g + 1), &groups);
    c->scale = tile->scale != NULL ? tile->scale + g : groups.scale;
    c->zero = tile->scale != NULL ? tile->zero + g : groups.zero;
    c->bias = p->bias.data.at != NULL ? groups.bias : NULL;
    if (codes->at != NULL) {
        k->put_codes(codes->at, n, c, out);
    } else if (k->put_e4m3 != NULL && p->code == &apr_dtypes[APR_F8_E4M3] && p->zero_form == APR_ZERO_SAME) {
        k->put_e4m3(r->at + col, n, c, out);
    } else {
        k->decode[apr_dtype_id(p->code)](r->at, r->at + col * p->code->bytes, n, out);
        k->put_values(out, n, c);
    }
}

static float factor_of(const struct apr_packed *p, uint64_t matrix) { return p->factor[p->nfactor == 1 ? 0 : matrix]; }

void apr_packed_scale(const struct apr_packed *p, uint64_t first, size_t n, float *x)
{
    if (p->nfactor == 0)
        return;
    const float factor = factor_of(p, first / (p->nrow * p->ncol));
    for (size_t i = 0; i < n; i++)
        x[i] = p->divides ? x[i] / factor : x[i] * factor;
}

/* Codes from column col on; n: as many at most, and then as many as they are. */
static struct codes codes_of(const struct apr_packed *p, const struct apr_packed_row *r, const struct apr_tile_row *tile, uint64_t col,
                             size_t *n, uint8_t *room)
{
    const unsigned char *const all = tile->codes != NULL ? tile->codes : r->at;
    const unsigned bits = is_signed(p) ? 8 : p->bits;
    if (p->form == APR_PACKED_VALUES && !is_signed(p))
        return (struct codes){ NULL, 0, false };
    if ((tile->codes != NULL || is_stream(p)) && col * bits % 8 == 0)
        return (struct codes){ all + col * bits / 8, bits, p->nibbles_turned };
    if (tile->codes != NULL || is_stream(p))
        *n = (size_t)apr_min(*n, 8 - col % 8); /* from there on they begin a byte */
    if (tile->codes != NULL)
        for (size_t i = 0; i < *n; i++)
            room[i] = apr_code_down(all, 4, (col + i) * bits, bits);
    else
        fetch(p, r, col, *n, room);
    return (struct codes){ room, 8, false };
}

void apr_unpack_floats(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, float *out)
{
    const struct apr_packed *const p = t->packed;
    const struct apr_packed_row r = apr_packed_row_of(t, first);
    const uint64_t col = first % p->ncol;
    const bool down = p->form == APR_PACKED_DOWN || p->form == APR_PACKED_EIGHTS;
    struct apr_tile_row tile = { NULL };
    struct apr_coding c = { .level = p->level, .with_sign = is_signed(p), .scaled = p->nfactor > 0, .divides = p->divides };
    uint8_t room[RUN];
    assert(col + n <= p->ncol);
    const bool tiled = down && apr_tile_take(&tile, k, p, &r, col, n);
    if (c.scaled)
        c.factor = factor_of(p, r.matrix);
    for (size_t now, at = 0; at < n; at += now) {
        now = n - at < RUN ? n - at : RUN;
        const struct codes codes = codes_of(p, &r, &tile, col + at, &now, room);
        if (p->index.data.at != NULL)
            put_by_index(k, p, &r, &tile, col + at, &codes, now, out + at);
        else
            put_groups(k, p, &r, &tile, col + at, &codes, now, &c, out + at);
    }
    if (tiled)
        apr_tile_give_back(&tile);
}
