/* What a model's logits say of the tokens that came: probabilities, and how those of two models part. Sums are double, in one order. */
#ifndef APR_JUDGE_H
#define APR_JUDGE_H

#include "base/core.h"

/* One row of logits, and what makes probabilities of it: log p of token i is logit[i] - max - log_sum.
 *   max, best  the largest, and the first token that has it
 *   log_sum    log of the sum of exp(logit - max), which is summed in 16 lanes (style of values/kernels.h) */
struct apr_row {
    const float *logit;
    double       max, log_sum;
    uint64_t     best;
};

/* Of n > 0 logits, which stay. *odd: the first that is no finite number; then it is false. */
bool apr_row_of(const float *logit, uint64_t n, struct apr_row *row, uint64_t *odd);

static inline double apr_row_log(const struct apr_row *row, uint64_t token)
{
    return (double)row->logit[token] - row->max - row->log_sum;
}

/* Kullback-Leibler divergence of q from p, n tokens each: the sum of p (log p - log q), never negative, 0 for equal rows. */
double apr_row_divergence(const struct apr_row *p, const struct apr_row *q, uint64_t n);

/* How well tokens were foretold, n > 0 of them.
 *   mean   of -log p; value: exp(mean)
 *   error  value times the standard error of the mean; NaN for one token */
struct apr_perplexity {
    uint64_t count;
    double   mean, value, error;
};
struct apr_perplexity apr_perplexity_of(const double *minus_log_p, size_t n);

/* How far a model is from another, over count positions.
 *   mean, mean_error           of the divergence, and the standard error (NaN for one position); then its median, percentiles and largest
 *   same_top                   at which share of positions both have the same best token
 *   mean_delta_p, rms_delta_p  of the change of the right token's probability, which is from -1 to 1 */
struct apr_divergence {
    uint64_t count;
    double   mean, mean_error, median, p90, p95, p99, p99_9, max, same_top, mean_delta_p, rms_delta_p;
};

/* divergence and delta_p: n > 0 each; divergence is sorted by it. same: at so many positions the best token was the same. */
struct apr_divergence apr_divergence_of(double *divergence, const double *delta_p, size_t n, uint64_t same);

/* Between the values at either side of fraction * (n - 1), in a straight line; of n > 0 rising values. */
double apr_percentile(const double *rising, size_t n, double fraction);

#endif
