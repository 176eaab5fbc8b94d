/* What is done with whole runs of values, compiled for each level of instructions: the same bits at each. No array may overlap another,
 * but where one is both read and written; any alignment. */
#ifndef APR_MERGE_LOOPS_H
#define APR_MERGE_LOOPS_H

#include "flow/threshold.h"

/* Which elements of a run stay: those among the `in` that are not among the `out` as well. Keys as of apr_cutoff_takes, from 1 on: of the
 * element at i, what is above `from` and at most `to`. */
struct band {
    uint32_t flip, from, to;
};

/*   widen       out[i] = x[i]; false: not all are finite
 *   are_finite  of doubles
 *   narrow      out[i] = x[i], rounded
 *   distance    out[i] = |x[i] - base[i]|, rounded, of finite floats; false: not all are
 *   magnitude   out[i] = |x[i]|, rounded
 *   subtract    x[i] -= base[i]
 *   add         sum[i] += c * x[i]
 *   scale       x[i] *= c
 *   divide      x[i] /= c
 *   change      out[i] = c * (x[i] - base[i]) where the band holds the key of |x[i] - base[i]|, else 0; false: not all are finite
 *   keep        x[i] becomes 0 where the band does not hold the key of |x[i]|, rounded to a float
 *   vote        v: nv runs of n, one behind the other, of weight w[k]; out[i]: the sum of those that have the sign of the sum of all, of
 *               which zero has a plus; over the sum of their weights, unless that is 0, where `normalize`
 *   dot         the sum of a[i] * b[i] in 16 lanes, folded; sum_of_magnitudes: likewise of |a[i]|
 *   count       of what is not 0 */
struct loops {
    bool (*widen)(const float *x, size_t n, double *out);
    bool (*are_finite)(const double *x, size_t n);
    void (*narrow)(const double *x, size_t n, float *out);
    bool (*distance)(const float *x, const float *base, size_t n, float *out);
    void (*magnitude)(const double *x, size_t n, float *out);
    void (*subtract)(double *x, const double *base, size_t n);
    void (*add)(double *sum, double c, const double *x, size_t n);
    void (*scale)(double *x, double c, size_t n);
    void (*divide)(double *x, double c, size_t n);
    bool (*change)(const float *x, const float *base, size_t n, const struct band *b, double c, double *out);
    void (*keep)(double *x, size_t n, const struct band *b);
    void (*vote)(const double *v, size_t nv, const double *w, bool normalize, size_t n, double *out);
    double (*dot)(const double *a, const double *b, size_t n);
    double (*sum_of_magnitudes)(const double *a, size_t n);
    uint64_t (*count)(const double *a, size_t n);
};
const struct loops *loops_at(enum apr_isa isa);

#endif
