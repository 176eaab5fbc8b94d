#include "values/packed.h"

#include <assert.h>
#include <string.h>

#include "values/chunk.h"
#include "values/dtype.h"
#include "values/kernels/init.h"

#define RUN 512u /* codes at a time */

const float apr_fp4_level[16] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6 };

/* ---- codes ---------------------------------------------------------------------------------------------------------- */

/* One row of codes: of which matrix, which row in it, where its bytes begin. */
struct row {
    uint64_t             matrix, row;
    const unsigned char *at;
};

/* Code number i of a stream; it may lie in two bytes, never in two words that have bits left over. */
static inline unsigned code_of(const unsigned char *at, uint64_t i, unsigned bits, unsigned per_word)
{
    const uint64_t bit = per_word == 0 ? i * bits : i / per_word * 32 + i % per_word * bits;
    const unsigned char *p = at + bit / 8;
    const unsigned shift = (unsigned)(bit % 8), two = shift + bits > 8 ? (unsigned)p[1] << 8 : 0;
    return (p[0] | two) >> shift & ((1u << bits) - 1);
}

/* Pairs of codes from bytes; low nibbles first, or high ones. */
static void nibbles(const unsigned char *p, size_t npair, bool turned, uint8_t *code)
{
    const unsigned first = turned ? 4 : 0, second = 4 - first;
    size_t i = 0;
    for (; i + 16 <= npair; i += 16)
        for (unsigned j = 0; j < 16; j++) {
            code[2 * (i + j)] = p[i + j] >> first & 15;
            code[2 * (i + j) + 1] = p[i + j] >> second & 15;
        }
    for (; i < npair; i++) {
        code[2 * i] = p[i] >> first & 15;
        code[2 * i + 1] = p[i] >> second & 15;
    }
}

static void fetch_stream(const struct apr_packed *p, const struct row *r, uint64_t col, size_t n, uint8_t *code)
{
    size_t i = 0;
    if (p->bits == 8) {
        memcpy(code, r->at + col, n);
        return;
    }
    if (p->bits == 4) {
        if (col % 2 == 1 && n > 0)
            code[i++] = r->at[col / 2] >> (p->nibbles_turned ? 0 : 4) & 15;
        nibbles(r->at + (col + i) / 2, (n - i) / 2, p->nibbles_turned, code + i);
        i += (n - i) / 2 * 2;
        if (i < n)
            code[i] = r->at[(col + i) / 2] >> (p->nibbles_turned ? 4 : 0) & 15;
        return;
    }
    for (; i < n; i++)
        code[i] = (uint8_t)code_of(r->at, col + i, p->bits, p->per_word);
}

/* Words of one column of words stand `stride` apart: 32 / bits codes each, or of 3 bits also across two. */
static void fetch_down(const struct apr_packed *p, const struct row *r, uint64_t col, size_t n, uint8_t *code)
{
    const unsigned mask = (1u << p->bits) - 1;
    uint64_t bit = col * p->bits;
    for (size_t i = 0; i < n;) {
        const unsigned char *const at = r->at + bit / 32 * p->stride;
        const uint64_t word = apr_load32(at);
        unsigned shift = (unsigned)(bit % 32);
        for (; i < n && shift + p->bits <= 32; shift += p->bits, bit += p->bits)
            code[i++] = (uint8_t)(word >> shift & mask);
        if (i < n && shift < 32) {
            code[i++] = (uint8_t)((word | (uint64_t)apr_load32(at + p->stride) << 32) >> shift & mask);
            bit += p->bits;
        }
    }
}

/* Rows 0 2 4 6 1 3 5 7 of eight, low bits first. */
static inline unsigned shift_of_eight(uint64_t row) { return (unsigned)(row % 8 / 2 + row % 2 * 4) * 4; }

static void fetch_eights(const struct apr_packed *p, const struct row *r, uint64_t col, size_t n, uint8_t *code)
{
    const unsigned shift = shift_of_eight(r->row);
    const unsigned char *at = r->at + col * p->stride + shift / 8;
    for (size_t i = 0; i < n; i++, at += p->stride)
        code[i] = *at >> shift % 8 & 15;
}

static void fetch(const struct apr_packed *p, const struct row *r, uint64_t col, size_t n, uint8_t *code)
{
    if (p->form == APR_PACKED_DOWN)
        fetch_down(p, r, col, n, code);
    else if (p->form == APR_PACKED_EIGHTS)
        fetch_eights(p, r, col, n, code);
    else
        fetch_stream(p, r, col, n, code);
}

/* ---- groups --------------------------------------------------------------------------------------------------------- */

static float value_of(const struct apr_kernels *k, const struct apr_packed_part *p, uint64_t i)
{
    float x;
    k->decode[apr_dtype_id(p->dtype)](p->data.at, p->data.at + i * p->dtype->bytes, 1, &x);
    return x;
}

/* What the codes of one group have in common. */
struct group {
    float scale, zero, bias;
};

static uint64_t scale_index(const struct apr_packed *p, const struct row *r, uint64_t g)
{
    return r->matrix * p->scales_per_matrix + r->row / p->group_rows * p->scale_down + g * p->scale_along;
}

static float zero_of(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t g)
{
    const unsigned char *const at = p->zeros.data.at;
    switch (p->zero_form) {
    case APR_ZERO_SAME: break;
    case APR_ZERO_VALUES: return value_of(k, &p->zeros, scale_index(p, r, g));
    case APR_ZERO_ALONG: return (float)code_of(at + g * (p->nrow * p->bits / 8), r->row, p->bits, 0) + p->zero;
    case APR_ZERO_DOWN:
        return (float)(apr_load32(at + (r->row / p->per_word * p->ngroup + g) * 4) >> r->row % p->per_word * p->bits & ((1u << p->bits) - 1));
    case APR_ZERO_EIGHTS: return (float)(apr_load32(at + (g * (p->nrow / 8) + r->row / 8) * 4) >> shift_of_eight(r->row) & 15);
    }
    return p->zero;
}

static struct group group_of(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t g)
{
    const uint64_t i = scale_index(p, r, g);
    struct group x = { .zero = zero_of(k, p, r, g) };
    if (p->nested.data.at != NULL)
        x.scale = p->nested_level[p->scale.data.at[i]] * value_of(k, &p->nested, i / p->nested_block) + p->nested_offset;
    else
        x.scale = p->scale.data.at == NULL ? 1 : value_of(k, &p->scale, i);
    if (p->bias.data.at != NULL)
        x.bias = value_of(k, &p->bias, i);
    return x;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* Before a loop's body: rounds of 16, whose number a compiler knows, then what is left. */
#define SIXTEENS(i, n, body)                                 \
    do {                                                     \
        size_t i = 0;                                        \
        for (size_t to_ = 16; to_ <= (n); to_ += 16)         \
            for (unsigned j_ = 0; j_ < 16; j_++, i++)        \
                body;                                        \
        for (; i < (n); i++)                                 \
            body;                                            \
    } while (0)

static void put_run(const struct apr_packed *p, const struct group *g, const uint8_t *code, size_t n, float *out)
{
    const float scale = g->scale, zero = g->zero, bias = g->bias;
    if (p->level != NULL)
        SIXTEENS(i, n, out[i] = p->level[code[i]] * scale);
    else if (p->bias.data.at != NULL)
        SIXTEENS(i, n, out[i] = (float)code[i] * scale + bias);
    else
        SIXTEENS(i, n, out[i] = ((float)code[i] - zero) * scale);
}

/* Of codes that are values by themselves. */
static void scale_run(const struct group *g, size_t n, float *out)
{
    const float scale = g->scale, zero = g->zero;
    if (zero != 0)
        SIXTEENS(i, n, out[i] = (out[i] - zero) * scale);
    else
        SIXTEENS(i, n, out[i] *= scale);
}

static void put(const struct apr_packed *p, const struct group *g, const uint8_t *code, size_t n, float *out)
{
    if (p->form == APR_PACKED_VALUES)
        scale_run(g, n, out);
    else
        put_run(p, g, code, n, out);
}

/* Columns whose groups an index tells, one by one. */
static void put_by_index(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t col, const uint8_t *code,
                         size_t n, float *out)
{
    uint64_t last = UINT64_MAX;
    struct group g = { 0 };
    for (size_t i = 0; i < n; i++) {
        const uint64_t now = apr_load32(p->index.data.at + (col + i) * p->index.dtype->bytes);
        if (now != last)
            g = group_of(k, p, r, now);
        last = now;
        put(p, &g, code + i, 1, out + i);
    }
}

static void put_groups(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t col, const uint8_t *code,
                       size_t n, float *out)
{
    for (size_t now; n > 0; col += now, code += now, out += now, n -= now) {
        const struct group g = group_of(k, p, r, col / p->group_columns);
        now = (size_t)apr_min(n, p->group_columns - col % p->group_columns);
        put(p, &g, code, now, out);
    }
}

void apr_packed_scale(const struct apr_packed *p, uint64_t first, size_t n, float *x)
{
    if (p->nfactor == 0)
        return;
    const float factor = p->factor[p->nfactor == 1 ? 0 : first / (p->nrow * p->ncol)];
    if (p->divides)
        SIXTEENS(i, n, x[i] /= factor);
    else
        SIXTEENS(i, n, x[i] *= factor);
}

static struct row row_at(const struct apr_tensor *t, uint64_t first)
{
    const struct apr_packed *const p = t->packed;
    const uint64_t row = first / p->ncol;
    struct row r = { .matrix = row / p->nrow, .row = row % p->nrow };
    r.at = t->data.at + r.matrix * p->matrix_bytes;
    if (p->form == APR_PACKED_DOWN)
        r.at += r.row * 4;
    else
        r.at += p->form == APR_PACKED_EIGHTS ? r.row / 8 * 4 : r.row * p->stride;
    return r;
}

void apr_unpack_floats(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, float *out)
{
    const struct apr_packed *const p = t->packed;
    const struct row r = row_at(t, first);
    uint8_t code[RUN];
    assert(first % p->ncol + n <= p->ncol);
    for (size_t now, at = 0; at < n; at += now) {
        const uint64_t col = first % p->ncol + at;
        now = n - at < RUN ? n - at : RUN;
        if (p->form == APR_PACKED_VALUES)
            k->decode[apr_dtype_id(p->code)](r.at, r.at + col * p->code->bytes, now, out + at);
        else
            fetch(p, &r, col, now, code);
        if (p->index.data.at != NULL)
            put_by_index(k, p, &r, col, code, now, out + at);
        else
            put_groups(k, p, &r, col, code, now, out + at);
    }
    apr_packed_scale(p, first, n, out);
}

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

struct apr_bytes apr_packed_codes(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    const struct apr_packed *const p = t->packed;
    if (n == 0 || p->form == APR_PACKED_DOWN || p->form == APR_PACKED_EIGHTS)
        return (struct apr_bytes){ t->data.at, n == 0 ? 0 : t->data.n };
    const struct row from = row_at(t, first), to = row_at(t, first + n - 1);
    const uint64_t last = (first + n - 1) % p->ncol;
    const unsigned char *begin = from.at, *end = to.at + p->stride;
    if (p->form == APR_PACKED_VALUES || p->per_word == 0) {
        const unsigned bits = p->form == APR_PACKED_VALUES ? 8u * p->code->bytes : p->bits;
        begin += first % p->ncol * bits / 8;
        end = to.at + (last * bits + bits + 7) / 8;
    }
    return (struct apr_bytes){ begin, (size_t)(end - begin) };
}

struct apr_bytes apr_packed_scales(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    const struct apr_packed *const p = t->packed;
    if (n == 0 || p->scale.data.at == NULL || p->index.data.at != NULL || p->scale_along > 1)
        return (struct apr_bytes){ t->data.at, 0 };
    const struct row from = row_at(t, first), to = row_at(t, first + n - 1);
    const uint64_t begin = scale_index(p, &from, 0) * p->scale.dtype->bytes;
    const uint64_t end = (scale_index(p, &to, 0) + p->ngroup) * p->scale.dtype->bytes;
    return (struct apr_bytes){ p->scale.data.at + begin, (size_t)(apr_min(end, p->scale.data.n) - begin) };
}

/* ---- blocks --------------------------------------------------------------------------------------------------------- */

bool apr_packed_has_blocks(const struct apr_tensor *t)
{
    return t->packed == NULL || t->packed->form == APR_PACKED_BLOCKS || (!t->dtype->packed && t->packed->ncol % t->dtype->block == 0);
}

/* Pairs of neighbours, n codes in all, to pairs of elements n / 2 apart. */
static void turn_nibbles(const unsigned char *in, unsigned n, unsigned char *out)
{
    uint8_t code[32];
    nibbles(in, n / 2, false, code);
    for (unsigned i = 0; i < n / 2; i++)
        out[i] = (unsigned char)(code[i] | code[i + n / 2] << 4);
}

void apr_packed_blocks(const struct apr_tensor *t, uint64_t first, uint64_t n, unsigned char *out)
{
    const struct apr_packed *const p = t->packed;
    const unsigned block = t->dtype->block, group = (unsigned)p->group_columns, ngroup = block / group;
    for (uint64_t now; n > 0; first += now, n -= now, out += t->dtype->bytes) {
        const struct row r = row_at(t, first);
        const uint64_t col = first % p->ncol;
        const unsigned char *const scale = p->scale.data.at + scale_index(p, &r, col / group);
        now = apr_min(n, block);
        for (unsigned g = 0; g < ngroup; g++) {
            out[g] = ngroup == 1 ? scale[g] : scale[g] & 0x7f; /* a scale of NVFP4 has no sign there */
            turn_nibbles(r.at + (col + g * group) / 2, group, out + ngroup + g * group / 2);
        }
    }
}
