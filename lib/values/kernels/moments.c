#include <float.h>
#include <math.h>

#include "values/kernels/init.h"

struct apr_moments apr_no_moments(void)
{
    struct apr_moments m = { 0 };
    for (unsigned l = 0; l < APR_LANES; l++) {
        m.min[l] = INFINITY;
        m.max[l] = -INFINITY;
    }
    return m;
}

/* Adds one value to its lane. What is not finite is counted only; a SIMD body never meets it. */
static inline void add(double x, double centre, unsigned l, struct apr_moments *into)
{
    if (!(fabs(x) <= DBL_MAX)) {
        *(isnan(x) ? &into->nans : &into->infs) += 1;
        into->plus += x > 0;
        return;
    }
    const double d = x - centre, square = d * d;
    into->d1[l] += d;
    into->d2[l] += square;
    into->d3[l] += square * d;
    into->d4[l] += square * square;
    into->min[l] = x < into->min[l] ? x : into->min[l];
    into->max[l] = x > into->max[l] ? x : into->max[l];
    into->zeros += x == 0;
}

#define MOMENTS(name, type)                                                                  \
    void name(const type *x, size_t n, double centre, struct apr_moments *into)              \
    {                                                                                        \
        for (size_t i = 0; i < n; i++)                                                       \
            add(x[i], centre, i % APR_LANES, into);                                          \
    }

MOMENTS(apr_moments_scalar, float)
MOMENTS(apr_moments_wide_scalar, double)

#define BINS(name, type)                                                                     \
    void name(const type *x, size_t n, double base, double scale, uint16_t *bin)             \
    {                                                                                        \
        for (size_t i = 0; i < n; i++) {                                                     \
            const double at = (x[i] - base) * scale;                                         \
            bin[i] = !(at >= 1) ? 0 : at < APR_BINS - 1 ? (uint16_t)at : APR_BINS - 1;       \
        }                                                                                    \
    }

BINS(apr_bins_scalar, float)
BINS(apr_bins_wide_scalar, double)

void apr_moments_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->moments = apr_moments_scalar;
    k->moments_wide = apr_moments_wide_scalar;
    k->bins = apr_bins_scalar;
    k->bins_wide = apr_bins_wide_scalar;
    if (APR_X86 && isa >= APR_AVX2)
        apr_moments_x86(k, isa);
    if (APR_ARM && isa == APR_NEON)
        apr_moments_neon(k);
}
