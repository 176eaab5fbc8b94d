/* Where a row of a packed weight stands: for the files that decode one. */
#ifndef APR_PACKED_ROW_H
#define APR_PACKED_ROW_H

#include "values/kernels/init.h"
#include "values/packed.h"

/* One row of codes: of which matrix, which row in it, where its bytes begin. */
struct apr_packed_row {
    uint64_t             matrix, row;
    const unsigned char *at;
};

/* The row of element `first`. */
struct apr_packed_row apr_packed_row_of(const struct apr_tensor *t, uint64_t first);

/* The scale, and zero, of its group g. */
static inline uint64_t apr_scale_index(const struct apr_packed *p, const struct apr_packed_row *r, uint64_t g)
{
    return r->matrix * p->scales_per_matrix + r->row / p->group_rows * p->scale_down + g * p->scale_along;
}

/* Rows 0 2 4 6 1 3 5 7 of eight, low bits first. */
static inline unsigned apr_shift_of_eight(uint64_t row) { return (unsigned)(row % 8 / 2 + row % 2 * 4) * 4; }

/* Bits first to first + bits of words of 32 bits, whose line number 0 is at `words`: a code that is in two words is in lines that follow
 * each other. */
static inline uint8_t apr_code_down(const unsigned char *words, uint64_t stride, uint64_t first, unsigned bits)
{
    const unsigned char *const at = words + first / 32 * stride;
    const unsigned shift = (unsigned)(first % 32);
    const uint64_t upper = shift + bits > 32 ? apr_load32(at + stride) : 0;
    return (uint8_t)((apr_load32(at) | upper << 32) >> shift & ((1u << bits) - 1));
}

/* ---- tiles ---------------------------------------------------------------------------------------------------------- */

/* A row whose words stand in columns, turned: its codes from column 0 on as a stream, and scale and zero of all its groups, or NULL. */
struct apr_tile_row {
    const unsigned char *codes;
    const float         *scale, *zero;
    unsigned             held;
};

/* Columns col to col + n of it. false: it is read word by word, as nothing is gained, or there is no room. Else, once it is read, it is
 * given back by the same thread, which has taken no other. */
bool apr_tile_take(struct apr_tile_row *to, const struct apr_kernels *k, const struct apr_packed *p, const struct apr_packed_row *r,
                   uint64_t col, uint64_t n);
void apr_tile_give_back(const struct apr_tile_row *row);

#endif
