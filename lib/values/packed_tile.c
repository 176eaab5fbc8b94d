/* Where the words of a row lie far apart, those of the rows beside it are fetched with them, and turned: a line of the cache has words of
 * 16 rows (DOWN) or of 128 (EIGHTS), lines that follow each other are fetched faster than single ones, and rows are mostly asked for one
 * after the other, or those of two halves by turns. */
#include <stdatomic.h>
#include <string.h>

#include "values/dtype.h"
#include "values/packed_row.h"

#define DOWN_ROWS  64u          /* of a tile */
#define EIGHT_ROWS 128u
#define ROW_BYTES  (16u << 10)  /* of codes, at most */
#define PADDING    64u          /* behind a row, so that rows do not lie in one set of the cache */
#define BLOCK      64u          /* bytes of a row that are turned at once */
#define MOST_SCALE (16u << 10)  /* scales of all rows */
#define DOWN_LINES 16u          /* that make a block */
#define EIGHT_LINES 128u
#define AHEAD      64u          /* lines that are asked for ahead of time */
#define CACHES     16u

struct tile {
    uint64_t      serial, matrix, row; /* what it holds; serial 0: nothing */
    bool          there[ROW_BYTES / BLOCK], has_groups, done;
    _Alignas(64) unsigned char code[EIGHT_ROWS * (ROW_BYTES + PADDING)];
    float         scale[MOST_SCALE], zero[MOST_SCALE];
};

/* What a thread has, of its own as long as there are no more than CACHES of them. Pages that nobody needs are never touched. */
static struct cache {
    atomic_flag busy;
    unsigned    newest;
    struct tile tile[2];
} cache[CACHES];
static atomic_uint           nthread;
static _Thread_local unsigned mine; /* counted from 1; 0: none yet */

static bool is_down(const struct apr_packed *p) { return p->form == APR_PACKED_DOWN; }

/* Rows of a tile, blocks of a row, bytes from one row to the next; lines of words, and bytes of a line that are the tile's. */
static unsigned rows_of(const struct apr_packed *p) { return is_down(p) ? DOWN_ROWS : EIGHT_ROWS; }
static uint64_t blocks_of(const struct apr_packed *p) { return apr_ceil(p->ncol * p->bits, 8 * BLOCK); }
static size_t   stride_of(const struct apr_packed *p) { return (size_t)blocks_of(p) * BLOCK + PADDING; }
static uint64_t lines_of(const struct apr_packed *p) { return is_down(p) ? apr_ceil(p->ncol * p->bits, 32) : p->ncol; }
static unsigned width_of(const struct apr_packed *p) { return is_down(p) ? 4 * DOWN_ROWS : EIGHT_ROWS / 2; }

/* ---- codes ---------------------------------------------------------------------------------------------------------- */

/* Lines side by side, zeros behind the last one. */
static void fetch_lines(const struct apr_packed *p, const unsigned char *at, uint64_t line, unsigned n, unsigned char *out)
{
    const uint64_t nlines = lines_of(p);
    const unsigned width = width_of(p);
    for (unsigned i = 0; i < n; i++, line++, out += width) {
        for (unsigned byte = 0; line + AHEAD < nlines && byte <= width; byte += BLOCK) /* the last one may be cut by two lines */
            __builtin_prefetch(at + (line + AHEAD) * p->stride + apr_min(byte, width - 1), 0, 2);
        for (unsigned byte = 0; byte < width; byte += BLOCK)
            if (line < nlines)
                memcpy(out + byte, at + line * p->stride + byte, BLOCK);
            else
                memset(out + byte, 0, BLOCK);
    }
}

static void turn_block(const struct apr_kernels *k, const struct apr_packed *p, const unsigned char *at, uint64_t block, unsigned char *out)
{
    const unsigned n = is_down(p) ? DOWN_LINES : EIGHT_LINES, width = width_of(p);
    unsigned char lines[EIGHT_LINES * EIGHT_ROWS / 2];
    fetch_lines(p, at, block * n, n, lines);
    if (!is_down(p))
        k->words_across(lines, width, out, stride_of(p));
    for (unsigned r = 0; is_down(p) && r < DOWN_ROWS; r += 16)
        k->words_down(lines + 4 * r, width, out + r * stride_of(p), stride_of(p));
}

/* ---- groups --------------------------------------------------------------------------------------------------------- */

/* Scales and zeros of one group stand side by side for all rows of the tile. */
static void put_group(const struct apr_kernels *k, const struct apr_packed *p, const struct apr_packed_row *r, uint64_t g, struct tile *t)
{
    const unsigned n = rows_of(p);
    const float one = 1, minus = p->zero_form == APR_ZERO_ALONG ? -p->zero : 0;
    const struct apr_coding c = { .bits = p->bits, .scale = &one, .zero = &minus, .first = n, .group = n };
    const bool eights = p->zero_form == APR_ZERO_EIGHTS;
    float scale[EIGHT_ROWS], zero[EIGHT_ROWS];
    k->decode[apr_dtype_id(p->scale.dtype)](NULL, p->scale.data.at + apr_scale_index(p, r, g) * p->scale.dtype->bytes, n, scale);
    if (p->zero_form != APR_ZERO_SAME)
        k->put_codes(p->zeros.data.at + (g * p->nrow + r->row) * p->bits / 8, n, &c, zero);
    for (unsigned i = 0; i < n; i++) {
        const unsigned from = eights ? i / 8 * 8 + apr_shift_of_eight(i) / 4 : i;
        t->scale[i * p->ngroup + g] = scale[i];
        t->zero[i * p->ngroup + g] = p->zero_form == APR_ZERO_SAME ? p->zero : zero[from];
    }
}

static bool keeps_groups(const struct apr_packed *p)
{
    const bool zeros = p->zero_form == APR_ZERO_SAME || p->zero_form == APR_ZERO_ALONG || p->zero_form == APR_ZERO_EIGHTS;
    return zeros && p->group_rows == 1 && p->scale_down == 1 && p->ngroup <= MOST_SCALE / rows_of(p);
}

/* ---- tiles ---------------------------------------------------------------------------------------------------------- */

static struct tile *find(struct cache *c, const struct apr_kernels *k, const struct apr_packed *p, const struct apr_packed_row *first)
{
    for (unsigned i = 0; i < 2; i++)
        if (c->tile[i].serial == p->serial && c->tile[i].matrix == first->matrix && c->tile[i].row == first->row) {
            c->newest = i;
            return &c->tile[i];
        }
    c->newest ^= !c->tile[c->newest].done; /* the last row is read: it is in the cache, and not needed */
    struct tile *const t = &c->tile[c->newest];
    t->serial = p->serial;
    t->matrix = first->matrix;
    t->row = first->row;
    t->done = false;
    t->has_groups = keeps_groups(p);
    memset(t->there, 0, sizeof t->there);
    for (uint64_t g = 0; t->has_groups && g < p->ngroup; g++)
        put_group(k, p, first, g, t);
    return t;
}

bool apr_tile_take(struct apr_tile_row *to, const struct apr_kernels *k, const struct apr_packed *p, const struct apr_packed_row *r,
                   uint64_t col, uint64_t n)
{
    const unsigned nrow = rows_of(p);
    if (p->serial == 0 || n < 64 || p->nrow < nrow || blocks_of(p) > ROW_BYTES / BLOCK)
        return false;
    const uint64_t first = apr_min(r->row - r->row % nrow, p->nrow - nrow);
    const unsigned row = (unsigned)(r->row - first);
    if (mine == 0)
        mine = atomic_fetch_add(&nthread, 1) % CACHES + 1;
    struct cache *const c = &cache[mine - 1];
    if (atomic_flag_test_and_set_explicit(&c->busy, memory_order_acquire))
        return false;
    const unsigned char *const at = r->at - (is_down(p) ? row : row / 8) * 4;
    struct tile *const t = find(c, k, p, &(struct apr_packed_row){ r->matrix, first, at });
    for (uint64_t b = col * p->bits / (8 * BLOCK); b <= ((col + n) * p->bits - 1) / (8 * BLOCK); b++) {
        if (!t->there[b])
            turn_block(k, p, at, b, t->code + b * BLOCK);
        t->there[b] = true;
    }
    t->done |= row + 1 == nrow && col + n == p->ncol;
    *to = (struct apr_tile_row){ .codes = t->code + row * stride_of(p), .held = mine };
    if (t->has_groups) {
        to->scale = t->scale + row * p->ngroup;
        to->zero = t->zero + row * p->ngroup;
    }
    return true;
}

void apr_tile_give_back(const struct apr_tile_row *row) { atomic_flag_clear_explicit(&cache[row->held - 1].busy, memory_order_release); }
