/* Measuring one pair of tensors, piece by piece. */
#ifndef APR_DIFF_MEASURE_H
#define APR_DIFF_MEASURE_H

#include "diff.h"
#include "flow/input.h"

#define TILE_ROWS    APR_TILE /* of a tile of a matrix */
#define TILE_COLUMNS 256u

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

/* Both sides of a pair, in A's order and A's shape. alike: equal bytes are equal values. */
struct sides {
    const struct options *o;
    struct apr_input      a, b;
    bool                  alike;
};

/* turned: B's matrix is read transposed. */
struct sides sides_of(const struct options *o, const struct models *models, const struct pair *pair, bool turned);

/* The number of values to compare, 0 when the two do not belong together. */
uint64_t comparable_count(const struct pair *p);

/* What a thread has for itself: windows of both models, room for a tile of each side and for the lanes of its rows. */
struct scratch {
    struct apr_window     a, b;
    struct apr_difference lanes[TILE_ROWS];
    double                tile[2][TILE_ROWS * TILE_COLUMNS];
};

/* Measures elements [first, end) in linear order; first is a multiple of APR_CHUNK. shortcut: equal bytes need no decoding. */
void measure_linear(const struct sides *s, struct scratch *own, uint64_t first, uint64_t end, bool shortcut, struct partial *p);

/* Measures rows [row, row + h) by tiles; h <= TILE_ROWS. */
void measure_band(const struct sides *s, struct scratch *own, uint64_t row, size_t h, struct partial *p);

/* Measures SAMPLED elements of a matrix that has more, in tiles whose places follow from its size alone. */
#define SAMPLED 4096u
void measure_sample(const struct sides *s, struct scratch *own, struct partial *p);

/* Measures each of rows [row, row + h) on its own, into own->lanes; h <= TILE_ROWS. */
void measure_rows(const struct sides *s, struct scratch *own, uint64_t row, size_t h);

#endif
