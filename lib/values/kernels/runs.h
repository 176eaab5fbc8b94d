/* What the SIMD bodies of the difference share. They measure runs of pairs without a branch inside, each lane by the operations of the
 * scalar body in its order. A run that turns out to have a NaN or an infinity is thrown away and left to the scalar body; so are the
 * last few pairs. `wide` and `far` are constants in every body. Wide: doubles are to be read, not floats. The product of two widened
 * floats is exact, so that a fused multiply-add rounds once like the addition alone; that of two doubles is not. Loud: there may be
 * differences that are not small; where there are none, as after mild quantization, a quarter of the work is saved. */
#ifndef APR_KERNELS_RUNS_H
#define APR_KERNELS_RUNS_H

#include <float.h>
#include <math.h>

#include "values/kernels/init.h"

#define RUN 2048u /* pairs: as doubles, both sides stay in the first cache for all passes */

/* Pairs counted, and the largest difference of each lane. */
struct found {
    uint64_t zero, below_small, below_medium;
    double   most[APR_LANES];
};

INLINE double difference_at(const void *a, const void *b, size_t i, bool wide)
{
    return wide ? fabs(((const double *)a)[i] - ((const double *)b)[i]) : fabs((double)((const float *)a)[i] - ((const float *)b)[i]);
}

/* What is not finite leaves its mark in the sum of its lane for good. (So do squares beyond a double; the scalar body can have those.) */
INLINE bool was_finite(const struct apr_difference *s)
{
    bool finite = true;
    for (unsigned l = 0; l < APR_LANES; l++)
        finite &= s->aa[l] <= DBL_MAX && s->bb[l] <= DBL_MAX;
    return finite;
}

/* The lowest index that has the largest difference, for which only the lanes that have it are searched. */
INLINE size_t first_of(const void *a, const void *b, size_t n, bool wide, const double lane_most[APR_LANES], double most)
{
    size_t lowest = n;
    for (size_t l = 0; l < APR_LANES; l++)
        for (size_t i = l; lane_most[l] == most && i < lowest; i += APR_LANES)
            if (difference_at(a, b, i, wide) == most)
                lowest = i;
    return lowest;
}

/* Adds what was found in a run to `into`, which has its sums already; makes it what it was `before` if the run was none for this body. */
INLINE bool close_run(const void *a, const void *b, size_t n, bool wide, bool far, uint64_t first, const struct found *f,
                      const struct apr_difference *before, struct apr_difference *into)
{
    double most = 0;
    for (unsigned l = 0; l < APR_LANES; l++)
        most = f->most[l] > most ? f->most[l] : most;
    if (!was_finite(into) || (!far && most >= APR_SMALL)) {
        *into = *before;
        return false;
    }
    const uint64_t below_small = far ? f->below_small : n, below_medium = far ? f->below_medium : n;
    into->identical += f->zero;
    into->small += below_small - f->zero;
    into->medium += below_medium - below_small;
    into->large += n - below_medium;
    if (most > into->max) {
        into->max = most;
        into->max_at = first + first_of(a, b, n, wide, f->most, most);
    }
    return true;
}

/* A kernel out of run(), which measures a whole number of 16 pairs by close_run(). */
#define DIFFERENCE(TARGET, name, type, wide, run, scalar)                                                            \
    TARGET static void name(const type *a, const type *b, size_t n, uint64_t first, struct apr_difference *into)     \
    {                                                                                                                \
        for (size_t now; n; a += now, b += now, n -= now, first += now) {                                            \
            const size_t whole = n - n % APR_LANES;                                                                  \
            now = whole == 0 ? n : whole < RUN ? whole : RUN;                                                        \
            const bool quiet = whole && into->max < APR_SMALL && run(a, b, now, wide, false, first, into);           \
            if (!quiet && !(whole && run(a, b, now, wide, true, first, into)))                                       \
                scalar(a, b, now, first, into);                                                                      \
        }                                                                                                            \
    }

#endif
