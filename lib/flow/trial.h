/* How far from its values each tensor would be in each of several dtypes: encoded, decoded again, compared. Nothing is written. */
#ifndef APR_TRIAL_H
#define APR_TRIAL_H

#include "flow/input.h"

#define APR_LONGEST_TRIED 131072u /* elements of a row */

/* A tensor that may become another dtype.
 *   name        for messages; borrowed, as all here
 *   importance  of each column (ncol of them) of each matrix, one matrix after the other: finite and not negative; or NULL
 *   dtypes      which of the list are tried: bit j for dtype[j] */
struct apr_trial {
    struct apr_bytes        name;
    const struct apr_input *in;
    const float            *importance;
    uint64_t                dtypes;
};

/* Sums over all elements of the squared difference, as it is and times the importance of its column (1 without importance). Not finite:
 * not tried, or the dtype does not hold the values. */
struct apr_tried {
    double squares, weighted;
};

/* What is to be measured.
 *   dtype        at most 64, any that can be encoded and decoded
 *   sample       elements of a tensor that are looked at, at least one row: rows evenly spread, and the sums scaled up by what they leave
 *                out. 0: all. Tensors whose rows are read by tiles are always looked at whole
 *   nan_to_zero  non-finite values count as 0; else they are refused with tensor, row and column
 *   tried        of trial i in dtype j at [i * ndtype + j], set by apr_trials_run */
struct apr_trials {
    const struct apr_trial         *trial;
    size_t                          ntrial;
    const struct apr_dtype *const *dtype;
    size_t                          ndtype;
    uint64_t                        sample;
    bool                            nan_to_zero;
    struct apr_tried               *tried;
};

/* Can rows of ncol values, with importance or without, be tried in the dtype? That is whether they are whole blocks which can be encoded
 * so: some types need importance. */
bool apr_can_try(const struct apr_kernels *k, const struct apr_dtype *d, uint64_t ncol, bool importance);

/* Reads each tensor once and encodes it by each of its dtypes, on r->threads threads: the same sums at any number of them and on any CPU.
 * What apr_can_try refuses is not tried. */
APR_MUST_CHECK enum apr_code apr_trials_run(const struct apr_trials *t, const struct apr_run *r, struct apr_error *e);

#endif
