/* What the SIMD bodies of the moments share. They take runs without a branch inside, each lane by the operations of the scalar body in
 * its order; a run that turns out to hold a NaN or an infinity is thrown away and left to the scalar body, and so is what remains
 * below 16 values. `wide` is a constant in every body: doubles are to be read, not floats. */
#ifndef APR_KERNELS_RUN_H
#define APR_KERNELS_RUN_H

#include <float.h>
#include <math.h>

#include "values/kernels/init.h"

#define RUN 1024u /* values: few are read twice, and the lanes' way from memory and back costs nothing */

/* What is not finite leaves its mark in the sum of its lane for good. (So may sums beyond a double; the scalar body can have those.) */
INLINE bool was_finite(const struct apr_moments *m)
{
    bool finite = true;
    for (unsigned l = 0; l < APR_LANES; l++)
        finite &= fabs(m->d1[l]) <= DBL_MAX;
    return finite;
}

/* A kernel out of lanes(), which adds a whole number of 16 values to `into`. */
#define MOMENTS(TARGET, name, type, wide, lanes, scalar)                                     \
    TARGET static void name(const type *x, size_t n, double centre, struct apr_moments *into)\
    {                                                                                        \
        for (size_t now; n; x += now, n -= now) {                                            \
            const size_t whole = n - n % APR_LANES;                                          \
            now = whole == 0 ? n : whole < RUN ? whole : RUN;                                \
            const struct apr_moments before = *into;                                         \
            if (whole)                                                                       \
                lanes(x, now, wide, centre, into);                                           \
            if (whole && was_finite(into))                                                   \
                continue;                                                                    \
            *into = before;                                                                  \
            scalar(x, now, centre, into);                                                    \
        }                                                                                    \
    }

/* Likewise out of sixteen(), which puts 16 values into their bins. */
#define BINS(TARGET, name, type, wide, sixteen, scalar)                                      \
    TARGET static void name(const type *x, size_t n, double base, double scale, uint16_t *bin)\
    {                                                                                        \
        const size_t whole = n - n % 16;                                                     \
        for (size_t i = 0; i < whole; i += 16)                                               \
            sixteen(x, i, wide, base, scale, bin + i);                                       \
        scalar(x + whole, n - whole, base, scale, bin + whole);                              \
    }

#endif
