/* A run of a tensor's chunks, read once. */
#ifndef APR_INSPECT_CHUNKS_H
#define APR_INSPECT_CHUNKS_H

#include "flow/input.h"
#include "inspect.h"

/* A tensor is read in stretches of 4,096 elements: hashed as stored, decoded, hashed as values, counted, all while they are in the first
 * cache. 16 stretches are a chunk, whose sums and digests are made in one order; up to 32 chunks are read in one go. */
#define CHUNK_STRETCHES (APR_CHUNK / APR_STRETCH)
#define RUN_CHUNKS      32

/* How statistics are made: of all values, in memory; by counting the codes of types of 16 bits and fewer; out of sums and bins. */
enum way { BY_VALUES, BY_CODES, BY_BINS };

/* Of small tensors all values are kept: they have no more than so many, and one chunk of bytes. */
#define SMALL_STRETCHES 4
enum way way_of(const struct apr_input *in);

/* Chunks of its values, or of its stored bytes if those are more: where rows are padded. */
uint64_t chunks_of(const struct apr_input *in);

/* What some chunks were found to be: sums about the grid's centre, and a digest for each. */
struct chunks {
    struct apr_sums   sums;
    size_t            nstored, nvalues;
    struct apr_digest stored[RUN_CHUNKS], values[RUN_CHUNKS];
};

/* What a thread has for itself: its window, a stretch, and all values of a small tensor, twice. */
struct reader {
    struct apr_window window;
    _Alignas(64) union {
        float         f[APR_STRETCH];
        double        d[APR_STRETCH];
        unsigned char bytes[APR_STRETCH * sizeof(double)];
    } x;
    _Alignas(64) unsigned char turned[APR_STRETCH * sizeof(double)];
    uint16_t bin[APR_STRETCH];
    double   value[2 * SMALL_STRETCHES * APR_STRETCH];
};

/* Decodes a stretch into r->x; returns how many values there are. */
size_t read_values(struct reader *r, const struct apr_input *in, uint64_t stretch);

/* Adds the first n values of r->x, over a grid. */
void add_moments(const struct reader *r, const struct apr_input *in, size_t n, const struct apr_grid *g, struct apr_moments *m);

/* Reads n chunks from `first` on, at most RUN_CHUNKS and no more than there are. count: APR_BINS counters, to which codes or bins are
 * added; NULL when `what` has no SCAN_STATS. Values of small tensors are not counted. */
void read_chunks(struct reader *r, const struct apr_input *in, unsigned what, const struct apr_grid *g, uint64_t first, uint64_t n,
                 struct chunks *c, uint32_t *count);

#endif
