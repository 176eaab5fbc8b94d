/* The best approximation of low rank of what one matrix has over another, by its singular vectors. */
#ifndef APR_MERGE_SVD_H
#define APR_MERGE_SVD_H

#include "flow/input.h"
#include "flow/team.h"

/* D = tuned - base, two matrices of nrow x ncol finite numbers.
 *   rank     how many singular values are wanted, at least 1
 *   epsilon  those up to it are left out
 *   square   the sum of the squares of D's elements, above 0
 *   turned   rows and columns below are laid out for the transpose of D */
struct svd {
    const struct apr_input *base, *tuned;
    const struct apr_run   *run;
    struct apr_team        *team;
    uint64_t                rank;
    double                  epsilon, square;
    bool                    turned;
};

/* What D is near to: the product of of_rows, nrow x rank, and of_cols, rank x ncol, both in the order of C; or, of one that is turned,
 * rank x nrow and ncol x rank. Freed with free.
 *   rank   as wanted, or less: of the singular values that D has
 *   error  the norm of what is left, over that of D */
struct low_rank {
    float   *of_rows, *of_cols;
    uint64_t rank;
    double   error;
};

/* The same bits at any number of threads and any level of instructions. D itself is not held: it is read tile by tile, some ten times, and
 * what is held are vectors, a few times as many as the rank. */
APR_MUST_CHECK enum apr_code svd_of(const struct svd *s, struct low_rank *out, struct apr_error *e);

#endif
