#include "values/packed.h"

#include <assert.h>
#include <string.h>

#include "values/chunk.h"
#include "values/dtype.h"
#include "values/kernels/init.h"

#define RUN 1024u /* codes at a time */

const float apr_fp4_level[16] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6 };

/* ---- codes ---------------------------------------------------------------------------------------------------------- */

/* One row of codes: of which matrix, which row in it, where its bytes begin. */
struct row {
    uint64_t             matrix, row;
    const unsigned char *at;
};

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

/* Code number i of a stream; it may lie in two bytes, never in two words that have bits left over. */
static inline unsigned code_of(const unsigned char *at, uint64_t i, unsigned bits, unsigned per_word)
{
    const uint64_t bit = per_word == 0 ? i * bits : i / per_word * 32 + i % per_word * bits;
    const unsigned char *p = at + bit / 8;
    const unsigned shift = (unsigned)(bit % 8), two = shift + bits > 8 ? (unsigned)p[1] << 8 : 0;
    return (p[0] | two) >> shift & ((1u << bits) - 1);
}

static void fetch_nibbles(const struct apr_kernels *k, const struct apr_packed *p, const unsigned char *at, uint64_t col, size_t n, uint8_t *code)
{
    size_t i = 0;
    if (col % 2 == 1 && n > 0)
        code[i++] = at[col / 2] >> (p->nibbles_turned ? 0 : 4) & 15;
    k->nibbles(at + (col + i) / 2, (n - i) / 2, p->nibbles_turned, code + i);
    i += (n - i) / 2 * 2;
    if (i < n)
        code[i] = at[(col + i) / 2] >> (p->nibbles_turned ? 4 : 0) & 15;
}

static inline uint64_t few_bytes(const unsigned char *p, unsigned n)
{
    return n == 2 ? apr_load16(p)
           : n == 3 ? apr_load16(p) | (uint64_t)p[2] << 16
                    : apr_load32(p) | (uint64_t)(n == 5 ? p[4] : apr_load16(p + 4)) << 32;
}

/* Eight codes of a gapless stream are as many bytes as a code has bits: halved three times, until each code has a byte. */
#define FETCH_EIGHTS(w)                                                                                        \
    for (; i + 8 <= n; i += 8) {                                                                               \
        const uint64_t four = (UINT64_C(1) << 4 * (w)) - 1, two = ((UINT64_C(1) << 2 * (w)) - 1) * 0x100000001u, \
                       one = ((UINT64_C(1) << (w)) - 1) * 0x1000100010001u;                                    \
        const unsigned char *const p8 = at + (col + i) / 8 * (w);                                              \
        uint64_t x = few_bytes(p8, w);                                                                         \
        x = (x & four) | (x >> 4 * (w) & four) << 32;                                                          \
        x = (x & two) | (x >> 2 * (w) & two) << 16;                                                            \
        x = (x & one) | (x >> (w) & one) << 8;                                                                 \
        memcpy(code + i, &x, 8);                                                                               \
    }

static void fetch_stream(const struct apr_kernels *k, const struct apr_packed *p, const unsigned char *at, uint64_t col, size_t n, uint8_t *code)
{
    size_t i = 0;
    if (p->bits == 4) {
        fetch_nibbles(k, p, at, col, n, code);
        return;
    }
    for (; i < n && (p->per_word > 0 || (col + i) % 8 != 0); i++)
        code[i] = (uint8_t)code_of(at, col + i, p->bits, p->per_word);
    switch (i < n ? p->bits : 0) {
    case 2: FETCH_EIGHTS(2) break;
    case 3: FETCH_EIGHTS(3) break;
    case 5: FETCH_EIGHTS(5) break;
    case 6: FETCH_EIGHTS(6) break;
    default: break;
    }
    for (; i < n; i++)
        code[i] = (uint8_t)code_of(at, col + i, p->bits, p->per_word);
}

/* Words of one column of words stand `stride` apart: 32 / bits codes each, or of 3 bits also across two. */
static void fetch_down(const struct apr_packed *p, const unsigned char *row, uint64_t col, size_t n, uint8_t *code)
{
    const unsigned mask = (1u << p->bits) - 1;
    uint64_t bit = col * p->bits;
    for (size_t i = 0; i < n;) {
        const unsigned char *const at = row + bit / 32 * p->stride;
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

/* ---- tiles ---------------------------------------------------------------------------------------------------------- */

/* Where the words of a row lie far apart, those of its neighbours are fetched with them: 16 rows, of the columns that the last row was
 * asked for. Kept for the thread, by the weight's serial number, since rows are mostly asked for one after the other. */
#define TILE_STRIDE (APR_STRETCH + 64) /* so that rows do not lie in one set of the cache */
#define AHEAD       24u                /* words that are asked for ahead of time */

struct tile {
    uint64_t serial, matrix, row, col, n; /* what it holds; serial 0: nothing */
    uint64_t last_serial, last_row;       /* what was asked for before */
    uint8_t  code[APR_TILE_ROWS][TILE_STRIDE];
};
static _Thread_local struct tile tile;

static void fill_down(const struct apr_kernels *k, const struct apr_packed *p, const unsigned char *at)
{
    const unsigned per_word = 32 / p->bits;
    uint64_t i = 0;
    for (; p->bits == 4 && tile.col % 8 == 0 && i + 8 <= tile.n; i += 8) {
        __builtin_prefetch(at + ((tile.col + i) / 8 + AHEAD) * p->stride, 0, 2);
        k->nibbles_down(at + (tile.col + i) / 8 * p->stride, &tile.code[0][i], TILE_STRIDE);
    }
    for (; p->bits == 8 && tile.col % 4 == 0 && i + 4 <= tile.n; i += 4) {
        const unsigned char *const words = at + (tile.col + i) / 4 * p->stride;
        __builtin_prefetch(words + AHEAD * p->stride, 0, 2);
        for (unsigned r = 0; r < APR_TILE_ROWS; r++)
            memcpy(&tile.code[r][i], words + 4 * r, 4);
    }
    for (; p->bits != 4 && 32 % p->bits == 0 && tile.col % per_word == 0 && i + per_word <= tile.n; i += per_word) {
        const unsigned char *const words = at + (tile.col + i) / per_word * p->stride;
        for (unsigned r = 0; r < APR_TILE_ROWS; r++) {
            const uint32_t word = apr_load32(words + 4 * r);
            for (unsigned j = 0; j < per_word; j++)
                tile.code[r][i + j] = (uint8_t)(word >> j * p->bits & ((1u << p->bits) - 1));
        }
    }
    for (unsigned r = 0; i < tile.n && r < APR_TILE_ROWS; r++)
        fetch_down(p, at + 4 * r, tile.col + i, (size_t)(tile.n - i), &tile.code[r][i]);
}

static void fill_eights(const struct apr_kernels *k, const struct apr_packed *p, const unsigned char *at)
{
    uint64_t i = 0;
    for (; i + 16 <= tile.n; i += 16) {
        for (unsigned j = 0; j < 16; j++)
            __builtin_prefetch(at + (tile.col + i + AHEAD + j) * p->stride, 0, 2);
        k->nibbles_across(at + (tile.col + i) * p->stride, (size_t)p->stride, &tile.code[0][i], TILE_STRIDE);
    }
    for (unsigned r = 0; i < tile.n && r < APR_TILE_ROWS; r++)
        fetch_eights(p, &(struct row){ .row = r, .at = at + r / 8 * 4 }, tile.col + i, (size_t)(tile.n - i), &tile.code[r][i]);
}

/* Codes of a row by way of the tile; NULL where that would not pay: few of them, or rows in no order. */
static const uint8_t *tiled(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t col, size_t n)
{
    const uint64_t first = r->row / APR_TILE_ROWS * APR_TILE_ROWS;
    const bool follows = tile.last_serial == p->serial && (tile.last_row + 1 == r->row || tile.last_row == r->row);
    if (p->serial == 0 || n < 64 || n > APR_STRETCH || p->nrow - first < APR_TILE_ROWS)
        return NULL;
    tile.last_serial = p->serial;
    tile.last_row = r->row;
    if (tile.serial != p->serial || tile.matrix != r->matrix || tile.row != first || tile.col != col || tile.n != n) {
        if (!follows && r->row != first)
            return NULL;
        const uint64_t back = (r->row - first) / (p->form == APR_PACKED_DOWN ? 1 : 8) * 4;
        tile.serial = p->serial;
        tile.matrix = r->matrix;
        tile.row = first;
        tile.col = col;
        tile.n = n;
        if (p->form == APR_PACKED_DOWN)
            fill_down(k, p, r->at - back);
        else
            fill_eights(k, p, r->at - back);
    }
    return tile.code[r->row - first];
}

/* Bytes with a sign, each 128 more than it says. */
static void fetch_signed(const unsigned char *at, size_t n, uint8_t *code)
{
    size_t i = 0;
    for (uint64_t x; i + 8 <= n; i += 8) {
        memcpy(&x, at + i, 8);
        x ^= 0x8080808080808080u;
        memcpy(code + i, &x, 8);
    }
    for (; i < n; i++)
        code[i] = at[i] ^ 0x80;
}

/* The codes of a row: in `room`, or where they are already. */
static const uint8_t *fetch(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t col, size_t n, uint8_t *room)
{
    if (p->form == APR_PACKED_DOWN)
        fetch_down(p, r->at, col, n, room);
    else if (p->form == APR_PACKED_EIGHTS)
        fetch_eights(p, r, col, n, room);
    else if (p->form == APR_PACKED_VALUES)
        fetch_signed(r->at + col, n, room);
    else if (p->bits == 8)
        return r->at + col;
    else
        fetch_stream(k, p, r->at, col, n, room);
    return room;
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

static inline uint64_t scale_index(const struct apr_packed *p, const struct row *r, uint64_t g)
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

/* Are bytes with a sign read as codes? */
static bool is_signed(const struct apr_packed *p) { return p->form == APR_PACKED_VALUES && p->code == &apr_dtypes[APR_I8]; }

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
static void read_groups(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t g, size_t n, struct groups *to)
{
    const uint64_t i = scale_index(p, r, g);
    const float plus = is_signed(p) ? 128 : 0;
    if (p->nested.data.at == NULL)
        read_numbers(k, &p->scale, i, p->scale_along, n, to->scale);
    for (size_t j = 0; p->nested.data.at != NULL && j < n; j++)
        to->scale[j] = nested_scale(k, p, i + j);
    if (p->bias.data.at != NULL)
        read_numbers(k, &p->bias, i, p->scale_along, n, to->bias);
    for (size_t j = 0; p->level == NULL && p->bias.data.at == NULL && j < n; j++)
        to->zero[j] = zero_of(k, p, r, g + j) + plus;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* Columns whose groups an index tells, one by one. */
static void put_by_index(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t col, const uint8_t *code,
                         size_t n, float *out)
{
    uint64_t last = UINT64_MAX;
    float scale = 0, zero = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t g = apr_load32(p->index.data.at + (col + i) * p->index.dtype->bytes);
        if (g != last) {
            scale = value_of(k, &p->scale, scale_index(p, r, g));
            zero = zero_of(k, p, r, g);
        }
        last = g;
        out[i] = ((float)code[i] - zero) * scale;
    }
}

/* One run of a row; code: NULL where codes are values of their own. */
static void put_groups(const struct apr_kernels *k, const struct apr_packed *p, const struct row *r, uint64_t col, const uint8_t *code,
                       size_t n, struct apr_coding *c, float *out)
{
    struct groups groups;
    const uint64_t g = col / p->group_columns, last = (col + n - 1) / p->group_columns;
    const unsigned char *const bytes = r->at + col;
    c->first = (size_t)apr_min(n, p->group_columns - col % p->group_columns);
    c->group = (size_t)apr_min(RUN, p->group_columns);
    read_groups(k, p, r, g, (size_t)(last - g + 1), &groups);
    c->scale = groups.scale;
    c->zero = groups.zero;
    c->bias = p->bias.data.at != NULL ? groups.bias : NULL;
    if (code != NULL) {
        k->put_codes(code, n, c, out);
    } else if (k->put_e4m3 != NULL && p->code == &apr_dtypes[APR_F8_E4M3] && p->zero_form == APR_ZERO_SAME) {
        k->put_e4m3(bytes, n, c, out);
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

void apr_unpack_floats(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, float *out)
{
    const struct apr_packed *const p = t->packed;
    const struct row r = row_at(t, first);
    const uint64_t col = first % p->ncol;
    const bool down = p->form == APR_PACKED_DOWN || p->form == APR_PACKED_EIGHTS, values = p->form == APR_PACKED_VALUES && !is_signed(p);
    const uint8_t *const all = down ? tiled(k, p, &r, col, n) : NULL;
    struct apr_coding c = { .level = p->level, .scaled = p->nfactor > 0, .divides = p->divides };
    uint8_t room[RUN];
    assert(col + n <= p->ncol);
    if (c.scaled)
        c.factor = factor_of(p, r.matrix);
    for (size_t now, at = 0; at < n; at += now) {
        now = n - at < RUN ? n - at : RUN;
        const uint8_t *const code = values ? NULL : all != NULL ? all + at : fetch(k, p, &r, col + at, now, room);
        if (p->index.data.at != NULL)
            put_by_index(k, p, &r, col + at, code, now, out + at);
        else
            put_groups(k, p, &r, col + at, code, now, &c, out + at);
    }
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
    apr_nibbles_scalar(in, n / 2, false, code);
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
