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

/* Adds 16 finite pairs that are d apart, of which the last `idle` are zeros that nobody asked about. The loops have no branches and no
 * order among lanes, so that a compiler may take them side by side: the bits stay the same. */
static inline void add_finite(const double *restrict x, const double *restrict y, const double *restrict d, unsigned idle,
                              uint64_t first, struct apr_difference *restrict into)
{
    unsigned zero = 0, below_small = 0, below_medium = 0;
    double most = 0;
    for (unsigned l = 0; l < APR_LANES; l++) {
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

static inline void add(double *restrict x, double *restrict y, unsigned idle, uint64_t first, struct apr_difference *restrict into)
{
    unsigned finite = 0;
    for (unsigned l = 0; l < APR_LANES; l++)
        finite += (fabs(x[l]) <= DBL_MAX) & (fabs(y[l]) <= DBL_MAX);
    if (finite != APR_LANES)
        idle += set_aside(x, y, into);
    double d[APR_LANES];
    for (unsigned l = 0; l < APR_LANES; l++)
        d[l] = fabs(x[l] - y[l]);
    add_finite(x, y, d, idle, first, into);
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

static inline double whole_value(uint64_t bits, bool is_signed) { return is_signed ? (double)(int64_t)bits : (double)bits; }

/* Between a signed and an unsigned integer there may be 65 bits: the lowest two become one that keeps how the rest is rounded. */
static inline double apart(uint64_t a, bool a_signed, uint64_t b, bool b_signed)
{
    if (a_signed == b_signed) {
        const uint64_t sign = (uint64_t)a_signed << 63;
        return (double)((a ^ sign) > (b ^ sign) ? a - b : b - a);
    }
    const uint64_t with_sign = a_signed ? a : b, without = a_signed ? b : a;
    if (with_sign >> 63 == 0)
        return (double)(a > b ? a - b : b - a);
    const uint64_t low = without - with_sign;
    return low >= without ? (double)low : 2 * (double)(low >> 1 | (low & 1) | UINT64_C(1) << 63);
}

static void add_whole(const unsigned char *a, bool a_signed, const unsigned char *b, bool b_signed, size_t n, uint64_t first,
                      struct apr_difference *into)
{
    for (size_t i = 0; i < n; i += APR_LANES) {
        const size_t live = n - i < APR_LANES ? n - i : APR_LANES;
        uint64_t p[APR_LANES] = { 0 }, q[APR_LANES] = { 0 };
        double x[APR_LANES], y[APR_LANES], d[APR_LANES];
        memcpy(p, a + 8 * i, 8 * live);
        memcpy(q, b + 8 * i, 8 * live);
        for (unsigned l = 0; l < APR_LANES; l++) {
            x[l] = whole_value(p[l], a_signed);
            y[l] = whole_value(q[l], b_signed);
            d[l] = apart(p[l], a_signed, q[l], b_signed);
        }
        add_finite(x, y, d, (unsigned)(APR_LANES - live), first + i, into);
    }
}

#define SMALL_BITS 53  /* with the sign */
#define SMALL_RUN  512 /* pairs: doubles of 8 KiB, on the stack and in the first cache */

/* Integers as doubles; false when some are not small. */
static bool small_values(const unsigned char *in, bool is_signed, size_t n, double *out)
{
    const uint64_t below = is_signed ? UINT64_C(1) << (SMALL_BITS - 1) : 0;
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t v;
        memcpy(&v, in + 8 * i, sizeof v);
        all |= v + below;
        out[i] = (double)(int64_t)v;
    }
    return all >> SMALL_BITS == 0;
}

/* Small integers, which nearly all are, are exact as doubles, and so are their differences. */
void apr_difference_whole_by(apr_difference_wide_fn *wide, const unsigned char *a, bool a_signed, const unsigned char *b, bool b_signed,
                             size_t n, uint64_t first, struct apr_difference *into)
{
    double x[SMALL_RUN], y[SMALL_RUN];
    for (size_t now; n; a += 8 * now, b += 8 * now, n -= now, first += now) {
        now = n < SMALL_RUN ? n : SMALL_RUN;
        if (small_values(a, a_signed, now, x) && small_values(b, b_signed, now, y))
            wide(x, y, now, first, into);
        else
            add_whole(a, a_signed, b, b_signed, now, first, into);
    }
}

WHOLE(whole_scalar, apr_difference_wide_scalar)

void apr_difference_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->difference = apr_difference_scalar;
    k->difference_wide = apr_difference_wide_scalar;
    k->difference_whole = whole_scalar;
    if (APR_X86 && isa >= APR_AVX2)
        apr_difference_x86(k, isa);
    if (APR_ARM && isa == APR_NEON)
        apr_difference_neon(k);
}
