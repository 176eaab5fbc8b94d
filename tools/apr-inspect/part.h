/* A part of a tensor, read once. */
#ifndef APR_INSPECT_PART_H
#define APR_INSPECT_PART_H

#include "inspect.h"
#include "values/chunk.h"

/* A tensor is read in pieces of 4,096 elements: hashed as stored, decoded, hashed as values, counted, all while it is in the first
 * cache. 16 pieces are a chunk, whose sums and digests are made in one order; a part is up to 32 chunks. */
#define CHUNK_PIECES (APR_CHUNK / APR_PIECE)
#define PART_CHUNKS  32
#define PART_PIECES  (PART_CHUNKS * CHUNK_PIECES)

/* How statistics are made: of all values, in memory; by counting the codes of types of 16 bits and fewer; out of sums and bins. */
enum way { BY_VALUES, BY_CODES, BY_BINS };

/* The tensor with two numbers for a complex one: what "real" means below. */
struct apr_tensor as_reals(const struct apr_tensor *t);

/* Pieces of its values, or of its stored bytes if those are more: where rows are padded. */
uint64_t pieces_of(const struct apr_tensor *real);

/* No more values than are kept, and one chunk of bytes. */
#define SMALL_PIECES 4
bool is_small(const struct apr_tensor *real);
enum way way_of(const struct apr_tensor *real);

/* What a part was found to be: sums about the grid's centre, and a digest per chunk. */
struct part {
    struct apr_sums   sums;
    size_t            nstored, nvalues;
    struct apr_digest stored[PART_CHUNKS], values[PART_CHUNKS];
};

/* One thread's view of a tensor. window: what it has touched and not yet let go. */
struct reader {
    const struct apr_kernels *k;
    struct apr_bytes          map, window;
    struct apr_tensor         t;
    unsigned char             turned[APR_PIECE * sizeof(double)];
    union {
        float         f[APR_PIECE];
        double        d[APR_PIECE];
        unsigned char bytes[APR_PIECE * sizeof(double)];
    } x;
    uint16_t bin[APR_PIECE];
};

/* Begins with no tensor, goes on to the next one, ends. */
void begin_reading(struct reader *r, const struct apr_kernels *k);
void read_tensor(struct reader *r, const struct apr_model *m, const struct apr_tensor *t);
void end_reading(struct reader *r);

/* Decodes a piece into r->x; returns how many values there are. */
size_t read_values(struct reader *r, uint64_t piece);

/* Adds the first n values of r->x, over a grid. */
void add_moments(const struct reader *r, size_t n, const struct apr_grid *g, struct apr_moments *m);

/* Reads pieces [first, first + n) as far as there are so many, first being the first of a chunk, n at most PART_PIECES. count:
 * APR_BINS counters, to which codes or bins are added; NULL when `what` has no SCAN_STATS. Values of small tensors are not counted. */
void read_part(struct reader *r, unsigned what, const struct apr_grid *g, uint64_t first, uint64_t n, struct part *p, uint32_t *count);

#endif
