#include <float.h>
#include <math.h>

#include "values/kernels/init.h"

/* Pairs that cannot be subtracted are counted, and leave as two equal zeros, which add nothing to any sum. Returns how many. */
static unsigned set_aside(double x[APR_LANES], double y[APR_LANES], struct apr_difference *into)
{
    unsigned n = 0;
    for (unsigned l = 0; l < APR_LANES; l++) {
        if (fabs(x[l]) <= DBL_MAX && fabs(y[l]) <= DBL_MAX)
            continue;
        if (x[l] == y[l] || (isnan(x[l]) && isnan(y[l])))
            into->identical++;
        else
            into->nonfinite++;
        x[l] = y[l] = 0;
        n++;
    }
    return n;
}

/* Adds 16 pairs, of which the last `idle` are zeros that nobody asked about. The loops have no branches and no order among lanes,
 * so that a compiler may take them side by side: the bits stay the same. */
static inline void add(double *restrict x, double *restrict y, unsigned idle, uint64_t first, struct apr_difference *restrict into)
{
    unsigned finite = 0;
    for (unsigned l = 0; l < APR_LANES; l++)
        finite += (fabs(x[l]) <= DBL_MAX) & (fabs(y[l]) <= DBL_MAX);
    if (finite != APR_LANES)
        idle += set_aside(x, y, into);

    double d[APR_LANES];
    unsigned zero = 0, below_small = 0, below_medium = 0;
    double most = 0;
    for (unsigned l = 0; l < APR_LANES; l++) {
        d[l] = fabs(x[l] - y[l]);
        into->ab[l] += x[l] * y[l];
        into->aa[l] += x[l] * x[l];
        into->bb[l] += y[l] * y[l];
        into->d[l] += d[l];
        into->dd[l] += d[l] * d[l];
    }
    for (unsigned l = 0; l < APR_LANES; l++) {
        zero += d[l] == 0;
        below_small += d[l] < APR_SMALL;
        below_medium += d[l] < APR_MEDIUM;
        most = d[l] > most ? d[l] : most;
    }
    into->identical += zero - idle;
    into->small += below_small - zero;
    into->medium += below_medium - below_small;
    into->large += APR_LANES - below_medium;
    if (most > into->max) {
        unsigned l = 0;
        while (d[l] != most)
            l++;
        into->max = most;
        into->max_at = first + l;
    }
}

#define DIFFERENCE(name, type)                                                                                      \
    void name(const type *a, const type *b, size_t n, uint64_t first, struct apr_difference *into)                  \
    {                                                                                                               \
        for (size_t i = 0; i < n; i += APR_LANES) {                                                                 \
            const unsigned live = n - i < APR_LANES ? (unsigned)(n - i) : APR_LANES;                                \
            double x[APR_LANES] = { 0 }, y[APR_LANES] = { 0 };                                                      \
            for (unsigned l = 0; l < live; l++) {                                                                   \
                x[l] = a[i + l];                                                                                    \
                y[l] = b[i + l];                                                                                    \
            }                                                                                                       \
            add(x, y, APR_LANES - live, first + i, into);                                                           \
        }                                                                                                           \
    }

DIFFERENCE(apr_difference_scalar, float)
DIFFERENCE(apr_difference_wide_scalar, double)

void apr_difference_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->difference = apr_difference_scalar;
    k->difference_wide = apr_difference_wide_scalar;
    if (APR_X86 && isa >= APR_AVX2)
        apr_difference_x86(k, isa);
    if (APR_ARM && isa == APR_NEON)
        apr_difference_neon(k);
}
