/* exp in single precision throughout. */
#include "base/fmath.h"

#include <math.h>
#include <stdint.h>

/* PyTorch's, which on x86 comes from a library whose steps are not published; these were found by its results. x is
 * n / 128 of ln 2, rounded, and r, which is at most 0.0028: exp(x) = 2^(n / 128) (1 + r + r^2 / 2); what lacks, r^3 / 6, is a thirtieth of
 * a unit in the last place. n * STEP_HIGH is exact: that has few digits (as ln 2 has in W. J. Cody, W. Waite, "Software manual for the
 * elementary functions", 1980), and n no more than 15. */
#define PER_STEP  0x1.715476p+7f
#define STEP_HIGH 0x1.63p-8f
#define STEP_LOW  (-0x1.bd0106p-20f)
#define ROUNDER   0x1.8p+23f /* what is added to it has no digits behind the point */

float apr_exp_float(float x)
{
    if (isnan(x))
        return x;
    if (x > 89)
        return INFINITY;
    if (x < -104)
        return 0;
    const float n = (x * PER_STEP + ROUNDER) - ROUNDER, r = (x - n * STEP_HIGH) - n * STEP_LOW;
    const int steps = (int)n, part = steps & 127;
    const double power = apr_exp2(part / 128.0);
    const float high = (float)power, low = (float)(power - (double)high);
    const float m = high + (high * (r + r * r * 0.5f) + low);
    return (float)((double)m * apr_exp2((steps - part) / 128));
}
