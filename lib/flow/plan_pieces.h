/* A plan's files in pieces: where each begins and ends, by the plan alone, and its bytes. For plan_write.c and plan_verify.c. */
#ifndef APR_PLAN_PIECES_H
#define APR_PLAN_PIECES_H

#include "flow/plan.h"
#include "flow/window.h"

/* Most bytes of a piece: with what zstd may add it fits a slot of 1 MiB, and it is a multiple of all that file systems have as blocks. */
#define APR_PIECE 983040u

/* Some bytes of one file, side by side: of its header, of small tensors with the padding behind each, of one large tensor, of padding
 * alone.
 *   first, n    its tensors in the plan; none: the header, or padding
 *   begin, end  in the file
 *   npiece      how many pieces they are; base: the number of the first of them, of all files
 *   step        elements of a piece; 0: pieces end at multiples of APR_PIECE in the file */
struct apr_segment {
    size_t   file, first, n;
    uint64_t begin, end, npiece, base, step;
};

struct apr_segments {
    struct apr_segment *at;
    size_t              n, room;
    uint64_t            npiece;
};

/* Those of all files that are to be written, in order. Free at with free. */
APR_MUST_CHECK enum apr_code apr_segments_of(struct apr_segments *s, const struct apr_plan *p, struct apr_error *e);

/* Piece i of a segment: bytes [from, to) of the file. */
void apr_piece_range(const struct apr_plan *p, const struct apr_segment *s, uint64_t i, uint64_t *from, uint64_t *to);

/* Are the tensor's bytes those of one range of its source? */
bool apr_is_verbatim(const struct apr_planned *t);

/* What a thread makes pieces with. */
#define APR_BATCH 131072u /* elements that are encoded in one go */
struct apr_maker {
    struct apr_window window;
    unsigned char     out[APR_PIECE];
    double            wide[APR_BATCH];
    float             x[APR_BATCH];
    float             line[APR_STRETCH]; /* of a tile, or decoded again */
    double            wide_line[APR_STRETCH];
};

/* What rounding did to the finite values of one piece: sums of products, of squares, of squared differences, the largest difference, how
 * many values; how many others became 0, and how many finite ones became infinite, of which the sums know nothing. */
struct apr_rounding {
    double   ab, aa, bb, dd, max;
    uint64_t n, nan, overflowed;
};

/* Fills m->out with piece i. scale: of each tensor of the plan whose dtype has one for all of it. Any thread with an m of its own. */
APR_MUST_CHECK enum apr_code apr_piece_make(const struct apr_plan *p, const struct apr_kernels *k, const struct apr_segment *s, uint64_t i,
                                            const float *scale, struct apr_maker *m, struct apr_rounding *rounding, struct apr_error *e);

/* The largest magnitude in piece i of a segment that is one tensor. */
APR_MUST_CHECK enum apr_code apr_piece_largest(const struct apr_plan *p, const struct apr_segment *s, uint64_t i, struct apr_maker *m,
                                               float *largest, struct apr_error *e);

#endif
