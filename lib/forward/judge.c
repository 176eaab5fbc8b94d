#include "forward/judge.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/fmath.h"
#include "values/kernels.h"

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

bool apr_row_of(const float *logit, uint64_t n, struct apr_row *row, uint64_t *odd)
{
    double lane[APR_LANES] = { 0 };
    *row = (struct apr_row){ .logit = logit, .max = -INFINITY };
    for (uint64_t i = 0; i < n; i++) {
        if (!(fabsf(logit[i]) <= FLT_MAX)) {
            *odd = i;
            return false;
        }
        if (logit[i] > row->max) {
            row->max = logit[i];
            row->best = i;
        }
    }
    for (uint64_t i = 0; i < n; i++)
        lane[i % APR_LANES] += apr_exp(logit[i] - row->max);
    row->log_sum = apr_log(apr_fold(lane));
    return true;
}

/* The logs are constants of a row, so exp is taken once, and of equal rows nothing is left. Rounding may leave less than nothing. */
double apr_row_divergence(const struct apr_row *p, const struct apr_row *q, uint64_t n)
{
    double weight[APR_LANES] = { 0 }, weighted[APR_LANES] = { 0 };
    for (uint64_t i = 0; i < n; i++) {
        const double x = p->logit[i] - p->max, y = q->logit[i] - q->max, e = apr_exp(x);
        weight[i % APR_LANES] += e;
        weighted[i % APR_LANES] += e * (x - y);
    }
    const double divergence = apr_fold(weighted) / apr_fold(weight) - p->log_sum + q->log_sum;
    return divergence > 0 ? divergence : 0;
}

/* ---- what they add up to -------------------------------------------------------------------------------------------- */

static double mean_of(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

/* Standard error of the mean; NaN for less than two. */
static double error_of(const double *x, size_t n, double mean)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return n < 2 ? (double)NAN : sqrt(sum / (double)n / (double)(n - 1));
}

struct apr_perplexity apr_perplexity_of(const double *minus_log_p, size_t n)
{
    const double mean = mean_of(minus_log_p, n), value = apr_exp(mean);
    return (struct apr_perplexity){ .count = n, .mean = mean, .value = value, .error = value * error_of(minus_log_p, n, mean) };
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double apr_percentile(const double *rising, size_t n, double fraction)
{
    const double place = fraction * (double)(n - 1);
    const size_t below = (size_t)place, above = below + (below + 1 < n);
    const double part = place - (double)below;
    return (1 - part) * rising[below] + part * rising[above];
}

struct apr_divergence apr_divergence_of(double *divergence, const double *delta_p, size_t n, uint64_t same)
{
    struct apr_divergence d = { .count = n };
    double squares = 0;
    d.mean = mean_of(divergence, n);
    d.mean_error = error_of(divergence, n, d.mean);
    d.mean_delta_p = mean_of(delta_p, n);
    for (size_t i = 0; i < n; i++)
        squares += delta_p[i] * delta_p[i];
    d.rms_delta_p = sqrt(squares / (double)n);
    d.same_top = (double)same / (double)n;
    qsort(divergence, n, sizeof *divergence, by_value);
    d.median = apr_percentile(divergence, n, 0.5);
    d.p90 = apr_percentile(divergence, n, 0.9);
    d.p95 = apr_percentile(divergence, n, 0.95);
    d.p99 = apr_percentile(divergence, n, 0.99);
    d.p99_9 = apr_percentile(divergence, n, 0.999);
    d.max = divergence[n - 1];
    return d;
}
