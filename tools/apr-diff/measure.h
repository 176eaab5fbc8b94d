/* Measuring one pair of tensors, piece by piece. */
#ifndef APR_DIFF_MEASURE_H
#define APR_DIFF_MEASURE_H

#include "diff.h"
#include "family/rows.h"
#include "values/chunk.h"

#define TILE_ROWS    APR_TILE /* of a tile of a matrix */
#define TILE_COLUMNS 256u
#define TILE_BUFFER  (2 * TILE_ROWS * TILE_COLUMNS)

/* What was found out about a tensor, or about some of it. top has room for options.top elements.
 *   equal, differs  some elements were equal by their bytes and not decoded; some were decoded */
struct partial {
    struct sums  sums;
    bool         equal, differs, undecodable;
    size_t       ntop;
    struct worst top[];
};

/* Adds what p found to `to`, keeping the `most` worst elements of both. */
void add_partial(struct partial *to, const struct partial *p, size_t most);

struct sums folded(const struct apr_difference *d);

/* Both sides of a pair, made ready to be read in A's order. C64 is read as twice as many F32: its real and imaginary parts. */
struct sides {
    const struct options    *o;
    const struct apr_model  *model_a, *model_b;
    struct apr_tensor        a, b;
    const struct apr_tensor *part_a[1], *part_b[1];
    struct apr_view          view_a, view_b;
    uint64_t                 count, nrow, ncol; /* of A; a vector is one row */
    bool                     alike, decodable, wide, strided;
};

/* turned: B's matrix is read transposed. The sides must not be copied. */
void take_sides(struct sides *s, const struct options *o, const struct models *models, const struct pair *pair, bool turned);

/* The number of values to compare, 0 when the two do not belong together. */
uint64_t comparable_count(const struct pair *p);

/* Measures elements [first, end) in linear order; first is a multiple of APR_CHUNK. shortcut: equal bytes need no decoding. */
void measure_linear(const struct sides *s, uint64_t first, uint64_t end, bool shortcut, struct partial *p);

/* Measures rows [row, row + h) by tiles; h <= TILE_ROWS. buffer has room for TILE_BUFFER doubles. */
void measure_band(const struct sides *s, uint64_t row, size_t h, double *buffer, struct partial *p);

/* Measures each of rows [row, row + h) on its own; h <= TILE_ROWS. */
void measure_rows(const struct sides *s, uint64_t row, size_t h, double *buffer, struct apr_difference *lanes);

#endif
