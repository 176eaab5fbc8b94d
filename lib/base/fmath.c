#include "base/fmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LN2_HIGH 0x1.62e42fee00000p-1 /* its low 32 bits are zero, so that n * LN2_HIGH is exact for any exponent n */
#define LN2_LOW  0x1.a39ef35793c76p-33

static double two_to(int n)
{
    const uint64_t bits = (uint64_t)(n + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x = n ln 2 + r, |r| <= ln 2 / 2; exp(r) by its Taylor series, whose 14th term is below 2^-60. */
double apr_exp(double x)
{
    if (isnan(x))
        return x;
    if (x > 709.782712893384)
        return INFINITY;
    if (x < -745.1332191019412)
        return 0;
    const double turns = x * 0x1.71547652b82fep+0;
    const int n = (int)(turns + (turns < 0 ? -0.5 : 0.5));
    const double r = x - n * LN2_HIGH - n * LN2_LOW;
    double term[15] = { 1 }, small = 0;
    for (int i = 1; i < 15; i++)
        term[i] = term[i - 1] * r / i;
    for (int i = 14; i > 0; i--)
        small += term[i];
    const double sum = 1 + small;
    return n < -1000 ? sum * two_to(n + 200) * two_to(-200) : n > 1000 ? sum * two_to(n - 200) * two_to(200) : sum * two_to(n);
}

/* x = m 2^n, sqrt(1/2) <= m < sqrt(2), f = m - 1, s = f / (2 + f); ln m = 2 atanh(s) by its series, spelled
 * f - (f^2 / 2 - s (f^2 / 2 + ...)) so that the largest term, f, is exact. */
double apr_ln(double x)
{
    if (isnan(x) || x < 0)
        return NAN;
    if (x == 0)
        return -INFINITY;
    if (isinf(x))
        return x;
    int n = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        n = -54;
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    n += (int)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFF) | (uint64_t)1023 << 52;
    memcpy(&x, &bits, sizeof x);
    if (x > 0x1.6a09e667f3bcdp+0) {
        x /= 2;
        n++;
    }
    const double f = x - 1, s = f / (2 + f), s2 = s * s, half = f * f / 2;
    double tail = 0;
    for (int i = 27; i > 1; i -= 2)
        tail = tail * s2 + 1.0 / i;
    return n * LN2_HIGH - (half - (s * (half + 2 * s2 * tail) + n * LN2_LOW) - f);
}
