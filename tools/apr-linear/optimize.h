/* Down to the minimum of a problem (problem.h). */
#ifndef APR_LINEAR_OPTIMIZE_H
#define APR_LINEAR_OPTIMIZE_H

#include "problem.h"

/* How far, and what came of it.
 *   most, tolerance  steps, and the gradient's largest component that is small enough
 *   rate             of gradient descent
 *   first            of gradient descent, the loss that it began with
 *   steps, loss, steepness  done; at the end. reached: steepness is at most the tolerance */
struct descent {
    uint64_t most;
    double   tolerance, rate;
    uint64_t steps;
    double   first, loss, steepness;
    bool     reached;
};

/* All from `at` on, which becomes the point that was reached.
 *
 * L-BFGS (D. C. Liu, J. Nocedal, 1989) with a diagonal of curvatures as the matrix that it begins with. liblbfgs does not serve: its sums
 * have another order with SSE than without, its line search compares losses, which are equal in all their bits long before the gradient is 1e-8,
 * and it stops at a ratio of norms. Along a line the loss is convex, so here the slope alone says where to stop. */
APR_MUST_CHECK enum apr_code optimize_lbfgs(struct problem *q, double *at, struct descent *d, struct apr_error *e);

/* `most` steps of rate times the gradient. APR_EARG when it leaves all bounds. */
APR_MUST_CHECK enum apr_code optimize_gd(struct problem *q, double *at, struct descent *d, struct apr_error *e);

/* Least squares, directly: a QR decomposition of the centred rows, taken in by blocks, then one with pivots. Where columns depend on others
 * it is the solution of least norm, a column counting as dependent as in LAPACK's gelsy: eps max(n, p) of the largest. LAPACK does not serve:
 * it wants a copy of all rows, and whichever BLAS is installed decides its bits. */
APR_MUST_CHECK enum apr_code optimize_squares(struct problem *q, double *at, struct descent *d, struct apr_error *e);

#endif
