/* What is to be minimized, and its gradient. */
#ifndef APR_LINEAR_PROBLEM_H
#define APR_LINEAR_PROBLEM_H

#include "flow/team.h"

/* What becomes of a row. */
enum { ROW_UNUSED, ROW_LEARNED, ROW_SCORED };

/* Over the rows of x [n, p] that are learned from, `used` of them, with z = W u + b and u_j = (x_j - shift_j) / scale_j:
 *     mean of loss(z, y) + l2/2 sum W^2
 *   logistic  of one output log(1 + exp(-s z)), s = +1 where y is 1; of more the softmax's; else (z - y)^2 / 2
 * Parameters stand as outputs rows of p weights, and behind all of them the outputs' biases. At most 64 blocks of rows are summed each for
 * itself and then in their order, as many as the sizes alone say: the same bits at any number of threads, at any level.
 *   moved  the shift only helps: the gradient is told of W x + b */
struct problem {
    const double    *x, *y;
    const uint8_t   *role;
    size_t           n, p, outputs, used;
    bool             logistic, moved;
    double           l2;
    double          *shift, *scale, *variance; /* of each column */
    struct apr_team *team;
    enum apr_isa     isa;

    size_t  nblock, rows, stride; /* private, as what follows */
    double *partial, *w, *b;
    bool    wants_loss;
};

/* How well a model does on the rows of one role. log_loss: mean; rss: the sum of squared residuals, tss: of y about its mean; apart: rows that lie
 * on the right side, and not on the boundary. */
struct score {
    size_t n, right, apart;
    double log_loss, rss, tss;
};

/* Counts the rows, and measures the columns of those that are learned from: their mean into shift, or with `standard` their standard
 * deviation (1 for a column of one value) into scale. Takes the room that sums need; end with problem_end, after a failure too. */
APR_MUST_CHECK enum apr_code problem_begin(struct problem *q, bool shifts, bool standard, struct apr_error *e);
void problem_end(struct problem *q);

static inline size_t problem_size(const struct problem *q) { return q->outputs * (q->p + 1); }

/* The objective at a point, and its gradient there. loss NULL: it is not wanted. */
void problem_at(struct problem *q, const double *at, double *gradient, double *loss);

/* The largest component of a gradient, as it is told. */
double problem_steepness(const struct problem *q, const double *gradient);

/* Weights and biases of x itself: z = Wx + b. */
void problem_plain(const struct problem *q, const double *at, double *w, double *b);

/* Scores such weights on the rows of a role. */
struct score problem_score(struct problem *q, const double *w, const double *b, uint8_t role);

#endif
