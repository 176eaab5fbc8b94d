/* Sums of doubles in an order that is fixed: 16 lanes, element i to lane i % 16, folded 8+8, 4+4, 2+2, 1+1. Whoever includes this compiles
 * it for a level of instructions; the bits are the same at each, since no product is fused with a sum. */
#ifndef APR_LINEAR_LANES_H
#define APR_LINEAR_LANES_H

#include <string.h>

#include "base/core.h"

#define LANES 16

typedef double lanes_half __attribute__((vector_size(64)));
#define ALWAYS static inline __attribute__((always_inline))

/* Functions of one body for each level: what BODY(level, attributes) makes, with the level in its name. */
#if defined(__x86_64__)
#define FOR_LEVELS(BODY) BODY(scalar, ) BODY(avx2, __attribute__((target("avx2")))) BODY(avx512, __attribute__((target("avx512f"))))
#define AT_LEVEL(name, isa) ((isa) >= APR_AVX512 ? name##_avx512 : (isa) >= APR_AVX2 ? name##_avx2 : name##_scalar)
#else
#define FOR_LEVELS(BODY) BODY(scalar, )
#define AT_LEVEL(name, isa) ((void)(isa), name##_scalar)
#endif

/* The sum of a[i] * b[i]. */
ALWAYS double lanes_dot(const double *a, const double *b, size_t n)
{
    double lane[LANES] = { 0 };
    size_t i = 0;
    if (n >= LANES) {
        lanes_half low = { 0 }, high = { 0 }, x, y;
        for (; i + LANES <= n; i += LANES) {
            memcpy(&x, a + i, sizeof x);
            memcpy(&y, b + i, sizeof y);
            low += x * y;
            memcpy(&x, a + i + LANES / 2, sizeof x);
            memcpy(&y, b + i + LANES / 2, sizeof y);
            high += x * y;
        }
        memcpy(lane, &low, sizeof low);
        memcpy(lane + LANES / 2, &high, sizeof high);
    }
    for (size_t k = 0; i < n; i++, k++)
        lane[k] += a[i] * b[i];
    unsigned width = LANES / 2;
    while (width > 0 && n <= width)
        width /= 2; /* the other half are zeros */
    for (; width > 0; width /= 2)
        for (unsigned k = 0; k < width; k++)
            lane[k] += lane[k + width];
    return lane[0];
}

/* y[i] += a * x[i] */
ALWAYS void lanes_add(double *y, double a, const double *x, size_t n)
{
    size_t i = 0;
    lanes_half u, v;
    for (; i + LANES / 2 <= n; i += LANES / 2) {
        memcpy(&u, y + i, sizeof u);
        memcpy(&v, x + i, sizeof v);
        u += a * v;
        memcpy(y + i, &u, sizeof u);
    }
    for (; i < n; i++)
        y[i] += a * x[i];
}

/* y[i] += (a[0] * x[0][i] + a[1] * x[1][i]) + (a[2] * x[2][i] + a[3] * x[3][i]) */
ALWAYS void lanes_add_four(double *y, const double a[4], const double *const x[4], size_t n)
{
    size_t i = 0;
    lanes_half u, v[4];
    for (; i + LANES / 2 <= n; i += LANES / 2) {
        memcpy(&u, y + i, sizeof u);
        for (unsigned k = 0; k < 4; k++)
            memcpy(&v[k], x[k] + i, sizeof v[k]);
        u += (a[0] * v[0] + a[1] * v[1]) + (a[2] * v[2] + a[3] * v[3]);
        memcpy(y + i, &u, sizeof u);
    }
    for (; i < n; i++)
        y[i] += (a[0] * x[0][i] + a[1] * x[1][i]) + (a[2] * x[2][i] + a[3] * x[3][i]);
}

#endif
