/* Sums of doubles in an order that is fixed: 16 lanes, element i to lane i % 16, folded 8+8, 4+4, 2+2, 1+1. Whoever includes this compiles
 * it for a level of instructions; the bits are the same at each, since no product is fused with a sum. */
#ifndef APR_LINEAR_LANES_H
#define APR_LINEAR_LANES_H

#include <string.h>

#include "base/levels.h"

#define LANES 16

typedef double  lanes_half __attribute__((vector_size(64)));
typedef int64_t lanes_bits __attribute__((vector_size(64)));

/* The products of fewer than eight, and zeros. One jump, and all stay in registers. */
APR_INLINED void lanes_few(const double *a, const double *b, size_t n, double v[LANES / 2])
{
    for (size_t i = 0; i < LANES / 2; i++)
        v[i] = 0;
    switch (n) {
    case 7: v[6] = a[6] * b[6]; /* fall through */
    case 6: v[5] = a[5] * b[5]; /* fall through */
    case 5: v[4] = a[4] * b[4]; /* fall through */
    case 4: v[3] = a[3] * b[3]; /* fall through */
    case 3: v[2] = a[2] * b[2]; /* fall through */
    case 2: v[1] = a[1] * b[1]; /* fall through */
    case 1: v[0] = a[0] * b[0];
    }
}

APR_INLINED double lanes_fold(const double v[LANES / 2]) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

/* The sum of a[i] * b[i]. */
APR_INLINED double lanes_dot(const double *a, const double *b, size_t n)
{
    double v[LANES / 2];
    if (n < LANES / 2) {
        lanes_few(a, b, n, v);
        return lanes_fold(v);
    }
    lanes_half low = { 0 }, high = { 0 }, x, y;
    for (; n >= LANES; n -= LANES) {
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        low += x * y;
        memcpy(&x, a + LANES / 2, sizeof x);
        memcpy(&y, b + LANES / 2, sizeof y);
        high += x * y;
        a += LANES;
        b += LANES;
    }
    const bool more = n >= LANES / 2;
    if (more) {
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        low += x * y;
        a += LANES / 2;
        b += LANES / 2;
    }
    lanes_few(a, b, n % (LANES / 2), v);
    memcpy(&x, v, sizeof x);
    if (more)
        high += x;
    else
        low += x;
    low += high;
    memcpy(v, &low, sizeof v);
    return lanes_fold(v);
}

/* y[i] += a * x[i] */
APR_INLINED void lanes_add(double *y, double a, const double *x, size_t n)
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
APR_INLINED void lanes_add_four(double *y, const double a[4], const double *const x[4], size_t n)
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

/* exp of eight numbers that are not above 0, in their place, within two units in the last place; of all below -708 as of -708. NaN stays. x is
 * n ln 2 + r with |r| <= ln 2 / 2 (W. J. Cody, W. Waite, "Software manual for the elementary functions", 1980); then Taylor's series of r, even and
 * odd powers apart: r^14 / 14! is below 2^-57. */
APR_INLINED void lanes_exp_eight(double *at)
{
    static const double c[] = { 1 / 2., 1 / 6., 1 / 24., 1 / 120., 1 / 720., 1 / 5040., 1 / 40320., 1 / 362880., 1 / 3628800., 1 / 39916800.,
                                1 / 479001600., 1 / 6227020800. };
    const double round = 0x1.8p52; /* what is added to it and taken off again is an integer, in the low bits of the sum */
    const lanes_half least = (lanes_half){ 0 } - 708;
    lanes_half x, even = { 0 }, odd = { 0 };
    memcpy(&x, at, sizeof x);
    const lanes_bits below = x < least;
    x = (lanes_half)(((lanes_bits)least & below) | ((lanes_bits)x & ~below));
    const lanes_half shifted = x * 0x1.71547652b82fep+0 + round, n = shifted - round;
    const lanes_half r = x - n * 0x1.62e42fee00000p-1 - n * 0x1.a39ef35793c76p-33, square = r * r;
    for (unsigned i = APR_LENGTH(c); i > 0; i -= 2) {
        even = even * square + c[i - 2];
        odd = odd * square + c[i - 1];
    }
    const lanes_bits power = ((lanes_bits)shifted + 1023) << 52;
    x = (1 + (r + square * (even + odd * r))) * (lanes_half)power;
    memcpy(at, &x, sizeof x);
}

/* Of any number of them. */
APR_INLINED void lanes_exp(double *x, size_t n)
{
    double last[LANES / 2] = { 0 };
    size_t i = 0;
    for (; i + LANES / 2 <= n; i += LANES / 2)
        lanes_exp_eight(x + i);
    if (i == n)
        return;
    memcpy(last, x + i, (n - i) * sizeof *x);
    lanes_exp_eight(last);
    memcpy(x + i, last, (n - i) * sizeof *x);
}

#endif
