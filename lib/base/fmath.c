#include "base/fmath.h"

#include <math.h>
#include <string.h>

#include "base/core.h"

/* ---- numbers of twice the precision --------------------------------------------------------------------------------- */

/* hi + lo, where lo is at most half a unit in the last place of hi. Sums and products of two doubles are such pairs exactly: T. J. Dekker,
 * "A floating-point technique for extending the available precision", 1971; the sum of any two is Knuth's. */
struct pair {
    double hi, lo;
};

/* |a| >= |b| or a = 0 */
static struct pair sum_of_ordered(double a, double b)
{
    const double s = a + b;
    return (struct pair){ s, b - (s - a) };
}

static struct pair sum_of(double a, double b)
{
    const double s = a + b, b_part = s - a;
    return (struct pair){ s, (a - (s - b_part)) + (b - b_part) };
}

static struct pair halves_of(double a)
{
    const double shifted = 0x8000001p0 * a, hi = shifted - (shifted - a);
    return (struct pair){ hi, a - hi };
}

static struct pair product_of(double a, double b)
{
    const struct pair x = halves_of(a), y = halves_of(b);
    const double p = a * b;
    return (struct pair){ p, ((x.hi * y.hi - p) + x.hi * y.lo + x.lo * y.hi) + x.lo * y.lo };
}

static struct pair add(struct pair a, struct pair b)
{
    const struct pair s = sum_of(a.hi, b.hi);
    return sum_of_ordered(s.hi, s.lo + (a.lo + b.lo));
}

static struct pair multiply(struct pair a, struct pair b)
{
    const struct pair p = product_of(a.hi, b.hi);
    return sum_of_ordered(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

static struct pair divide(struct pair a, struct pair b)
{
    const double q = a.hi / b.hi;
    const struct pair p = product_of(q, b.hi);
    return sum_of_ordered(q, ((a.hi - p.hi) - p.lo + a.lo - q * b.lo) / b.hi);
}

static struct pair scaled(struct pair a, double power_of_two) { return (struct pair){ a.hi * power_of_two, a.lo * power_of_two }; }

/* ---- powers of two, series ------------------------------------------------------------------------------------------ */

static double from_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* -1022 <= n <= 1023 */
static double two_to(int n) { return from_bits((uint64_t)(n + 1023) << 52); }

/* x = m 2^n with sqrt(1/2) <= m < sqrt(2); returns m. x is finite and above 0. */
static double mantissa_of(double x, int *n)
{
    const bool subnormal = x < 0x1p-1022;
    const uint64_t bits = bits_of(subnormal ? x * 0x1p54 : x);
    const double m = from_bits((bits & 0xFFFFFFFFFFFFF) | (uint64_t)1023 << 52);
    const bool large = m > 0x1.6a09e667f3bcdp+0;
    *n = (int)(bits >> 52) - 1023 - (subnormal ? 54 : 0) + large;
    return large ? m / 2 : m;
}

/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1), n even. Even and odd powers go apart, so that a CPU works on both at once. */
static double series(const double *c, unsigned n, double x)
{
    const double x2 = x * x;
    double even = 0, odd = 0;
    for (unsigned i = n; i > 0; i -= 2) {
        even = even * x2 + c[i - 2];
        odd = odd * x2 + c[i - 1];
    }
    return even + odd * x;
}

/* ---- exp, exp2, tanh ------------------------------------------------------------------------------------------------ */

/* ln 2; the low 32 bits of its high part are zero, so that n * LN2_HIGH is exact for any exponent n (W. J. Cody, W. Waite, "Software
 * manual for the elementary functions", 1980). */
#define LN2_HIGH 0x1.62e42fee00000p-1
#define LN2_LOW  0x1.a39ef35793c76p-33

static int nearest(double x) { return (int)(x + (x < 0 ? -0.5 : 0.5)); }

/* exp(r) - 1, |r| <= 0.35, by Taylor's series: r + r^2 / 2 as pairs; the rest, below r / 45, as a double; r^15 / 15! is below 2^-61 r. */
static struct pair expm1_near(struct pair r)
{
    static const double c[] = { 1 / 6., 1 / 24., 1 / 120., 1 / 720., 1 / 5040., 1 / 40320., 1 / 362880., 1 / 3628800., 1 / 39916800.,
                                1 / 479001600., 1 / 6227020800., 1 / 87178291200. };
    const struct pair square = product_of(r.hi, r.hi);
    const double rest = square.hi * r.hi * series(c, APR_LENGTH(c), r.hi);
    const struct pair sum = sum_of_ordered(r.hi, square.hi / 2);
    return sum_of_ordered(sum.hi, sum.lo + (square.lo / 2 + (r.lo + r.lo * r.hi) + rest));
}

/* x = n ln 2 + r, |r| <= ln 2 / 2; |x| < 750 */
static struct pair without_ln2(double x, int *n)
{
    *n = nearest(x * 0x1.71547652b82fep+0);
    return sum_of(x - *n * LN2_HIGH, -*n * LN2_LOW);
}

/* (1 + p) 2^n; two factors, since 2^n itself may be out of range. */
static double power(struct pair p, int n)
{
    const struct pair s = sum_of_ordered(1, p.hi);
    const double m = s.hi + (s.lo + p.lo);
    const int part = n < -1000 ? -200 : n > 1000 ? 200 : 0;
    return m * two_to(n - part) * two_to(part);
}

double apr_exp(double x)
{
    if (isnan(x))
        return x;
    if (x > 710)
        return INFINITY;
    if (x < -746)
        return 0;
    int n;
    const struct pair r = without_ln2(x, &n);
    return power(expm1_near(r), n);
}

double apr_exp2(double x)
{
    if (isnan(x))
        return x;
    if (x >= 1024)
        return INFINITY;
    if (x <= -1075)
        return 0;
    const int n = nearest(x);
    const double f = x - n;
    const struct pair r = product_of(f, LN2_HIGH);
    return power(expm1_near(sum_of_ordered(r.hi, r.lo + f * LN2_LOW)), n);
}

/* With e = exp(2 |x|) - 1: e / (e + 2). */
double apr_tanh(double x)
{
    const double size = fabs(x);
    if (isnan(x) || size < 0x1p-28)
        return x;
    if (size >= 20)
        return copysign(1, x);
    int n;
    const struct pair r = without_ln2(2 * size, &n);
    const struct pair e = add(sum_of(two_to(n), -1), scaled(expm1_near(r), two_to(n)));
    return copysign(divide(e, add((struct pair){ 2, 0 }, e)).hi, x);
}

/* ---- log, log10, log1p ---------------------------------------------------------------------------------------------- */

/* ln(1 + f) for sqrt(1/2) <= 1 + f < sqrt(2): 2 artanh(s) with s = f / (2 + f), |s| < 0.172, that is 2 s (1 + z / 3 + z^2 / 5 + ...) with
 * z = s^2. From z^2 on, 2^-12 of the whole, doubles do; z^12 / 25 is below 2^-65. */
static struct pair log_near(struct pair f)
{
    static const double c[] = { 1 / 5., 1 / 7., 1 / 9., 1 / 11., 1 / 13., 1 / 15., 1 / 17., 1 / 19., 1 / 21., 1 / 23. };
    static const struct pair third = { 0x1.5555555555555p-2, 0x1.5555555555555p-56 };
    const struct pair s = divide(f, add((struct pair){ 2, 0 }, f)), z = multiply(s, s), t = multiply(z, third);
    const struct pair one = sum_of_ordered(1, t.hi);
    const double rest = z.hi * z.hi * series(c, APR_LENGTH(c), z.hi);
    return multiply(scaled(s, 2), sum_of_ordered(one.hi, one.lo + (t.lo + rest)));
}

/* ln(2^n (1 + f)) */
static struct pair log_of(int n, struct pair f)
{
    return add((struct pair){ n * LN2_HIGH, n * LN2_LOW }, log_near(f));
}

/* What a logarithm is where its argument is no finite number above 0. */
static double log_outside(double x) { return isnan(x) ? x : x < 0 ? NAN : x == 0 ? -INFINITY : INFINITY; }

static bool has_log(double x) { return x > 0 && x < INFINITY; }

double apr_log(double x)
{
    if (!has_log(x))
        return log_outside(x);
    int n;
    const double m = mantissa_of(x, &n);
    return log_of(n, (struct pair){ m - 1, 0 }).hi;
}

double apr_log10(double x)
{
    static const struct pair per_decade = { 0x1.bcb7b1526e50ep-2, 0x1.95355baaafad3p-57 }; /* 1 / ln 10 */
    if (!has_log(x))
        return log_outside(x);
    int n;
    const double m = mantissa_of(x, &n);
    return multiply(log_of(n, (struct pair){ m - 1, 0 }), per_decade).hi;
}

/* What 1 + x loses by rounding is carried along; from 2^64 on it is nothing. */
double apr_log1p(double x)
{
    if (fabs(x) < 0x1p-54)
        return x;
    if (x >= 0x1p64)
        return apr_log(x);
    if (!has_log(1 + x))
        return log_outside(1 + x);
    const struct pair sum = sum_of(1, x);
    int n;
    const double m = mantissa_of(sum.hi, &n);
    return log_of(n, sum_of(m - 1, sum.lo * two_to(-n))).hi;
}

/* ---- sin, cos ------------------------------------------------------------------------------------------------------- */

/* The bits of 2 / pi behind 64 zeros that stand for its integer part: as many as the largest double needs. */
static const uint64_t two_over_pi[] = {
    0, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41,
    0x3991D639835339F4, 0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7,
    0x4F463F669E5FEA2D, 0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
};

/* x, at least 1/2, less the nearest multiple of pi / 2, and that multiple modulo 4. M. H. Payne, R. N. Hanek, "Radian reduction for
 * trigonometric functions", 1983: x = m 2^e with an integer m; of m times 2 / pi only the two bits above the point and those below it
 * matter, so m is multiplied by the 192 bits of 2 / pi that begin where 2^e times a bit is 2, modulo 2^192. Of the
 * product 126 bits below the point are kept: no double comes closer to a multiple than 2^-62 of a quarter turn. */
static struct pair without_quarters(double x, unsigned *quarters)
{
    static const struct pair quarter = { 0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54 }; /* pi / 2 */
    const uint64_t bits = bits_of(x), m = (bits & 0xFFFFFFFFFFFFF) | (uint64_t)1 << 52;
    const unsigned first = (unsigned)(bits >> 52) - 1075 + 62, shift = first % 64;
    const uint64_t *const word = two_over_pi + first / 64;
    uint64_t window[3];
    for (unsigned i = 0; i < 3; i++)
        window[i] = shift == 0 ? word[i] : word[i] << shift | word[i + 1] >> (64 - shift);
    const unsigned __int128 low = (unsigned __int128)m * window[2], middle = (unsigned __int128)m * window[1];
    const unsigned __int128 turns = ((unsigned __int128)(m * window[0]) << 64) + middle + (low >> 64); /* 2^126 is a quarter */
    *quarters = (unsigned)((turns + ((unsigned __int128)1 << 125)) >> 126);
    const __int128 rest = (__int128)(turns - ((unsigned __int128)*quarters << 126));
    const double hi = (double)rest;
    return multiply(scaled((struct pair){ hi, (double)(rest - (__int128)hi) }, 0x1p-126), quarter);
}

/* |r| <= pi / 4. Taylor's series in z = r^2: r (1 - z / 6 + ...), with doubles from z^2 on; the term left out is below 2^-70. */
static double sin_near(struct pair r)
{
    static const double c[] = { 1 / 120., -1 / 5040., 1 / 362880., -1 / 39916800., 1 / 6227020800., -1 / 1307674368000.,
                                1 / 355687428096000., -1 / 121645100408832000. };
    static const struct pair minus_sixth = { -0x1.5555555555555p-3, -0x1.5555555555555p-57 };
    const struct pair z = multiply(r, r), t = multiply(z, minus_sixth), one = sum_of_ordered(1, t.hi);
    const double rest = z.hi * z.hi * series(c, APR_LENGTH(c), z.hi);
    return multiply(r, sum_of_ordered(one.hi, one.lo + (t.lo + rest))).hi;
}

/* 1 - z / 2 + ... */
static double cos_near(struct pair r)
{
    static const double c[] = { 1 / 24., -1 / 720., 1 / 40320., -1 / 3628800., 1 / 479001600., -1 / 87178291200., 1 / 20922789888000.,
                                -1 / 6402373705728000. };
    const struct pair z = multiply(r, r), one = sum_of_ordered(1, -z.hi / 2);
    return one.hi + (one.lo + (z.hi * z.hi * series(c, APR_LENGTH(c), z.hi) - z.lo / 2));
}

/* sin(x + ahead pi / 2), x >= 0 */
static double wave(double x, unsigned ahead)
{
    if (!(x < INFINITY))
        return NAN;
    unsigned quarters = 0;
    const struct pair r = x < 0.75 ? (struct pair){ x, 0 } : without_quarters(x, &quarters);
    quarters += ahead;
    const double y = quarters % 2 == 0 ? sin_near(r) : cos_near(r);
    return quarters % 4 < 2 ? y : -y;
}

double apr_sin(double x)
{
    if (fabs(x) < 0x1p-27)
        return x;
    return x < 0 ? -wave(-x, 0) : wave(x, 0);
}

double apr_cos(double x) { return fabs(x) < 0x1p-27 ? 1 : wave(fabs(x), 1); }

/* ---- erf ------------------------------------------------------------------------------------------------------------ */

/* At i / 8 from i = 4 on: erf as a pair, and its slope 2 / sqrt(pi) exp(-x^2). Computed with mpmath to 2000 bits. */
static const struct knot {
    double hi, lo, slope;
} knots[] = {
    { 0x1.0a7ef5c18edd2p-1, 0x1.5e809f1a31a28p-56, 0x1.c1efca49a5011p-1 },
    { 0x1.3f196dcd0f135p-1, -0x1.f25f4f6fdf70bp-56, 0x1.86e9694134b9ep-1 },
    { 0x1.6c1c9759d0e5fp-1, 0x1.b1432f2cbc455p-55, 0x1.492e42d78d2c5p-1 },
    { 0x1.91724951b8fc6p-1, -0x1.27912dd352f8bp-55, 0x1.0cab61f084b93p-1 },
    { 0x1.af767a741088bp-1, -0x1.c97f778122797p-56, 0x1.a911f096fbc26p-2 },
    { 0x1.c6dad2829ec62p-1, -0x1.ab76d4cba3d05p-57, 0x1.45e99bcbb7915p-2 },
    { 0x1.d8865d98abe01p-1, -0x1.fcec4afb974d9p-55, 0x1.e4652fadcb6b2p-3 },
    { 0x1.e5768c3b4a3fcp-1, 0x1.8b62674f89890p-57, 0x1.5ce595c455b0ap-3 },
    { 0x1.eea5557137ae0p-1, -0x1.385e445f2c96dp-55, 0x1.e723726b824a9p-4 },
    { 0x1.f4f693b67bd77p-1, -0x1.3a1ee1406c356p-56, 0x1.499d478bca735p-4 },
    { 0x1.f92d077f8d56dp-1, 0x1.8b55ef493fce7p-56, 0x1.b055303221015p-5 },
    { 0x1.fbe61eef4cf6ap-1, 0x1.15ded88667618p-55, 0x1.12ceb37ff9bc3p-5 },
    { 0x1.fd9ae142795e3p-1, 0x1.972801904b9a3p-56, 0x1.529b9e8cf9a1ep-6 },
    { 0x1.fea4218d6594ap-1, -0x1.e3333d8f7d98cp-58, 0x1.94624e78e0fafp-7 },
    { 0x1.ff404760319b4p-1, 0x1.f142071432025p-56, 0x1.d4143a9dfe965p-8 },
    { 0x1.ff9960f3eb327p-1, -0x1.08b1ca6e97f80p-56, 0x1.06918b6355624p-8 },
    { 0x1.ffcaa8f4c9beap-1, 0x1.b0cee160116f9p-55, 0x1.1d83170fbf6fbp-9 },
    { 0x1.ffe514bbdc197p-1, -0x1.cd963345b5c6dp-58, 0x1.2ce898809244ep-10 },
    { 0x1.fff2cfb0453d9p-1, 0x1.9a913686042a3p-55, 0x1.3360ccd23db3ap-11 },
    { 0x1.fff9ba420e834p-1, 0x1.1379ec5aa630ep-56, 0x1.30538fbb77ecdp-12 },
    { 0x1.fffd1ac4135f9p-1, 0x1.eeafa1ecd6cefp-55, 0x1.2408e9ba3327fp-13 },
    { 0x1.fffeb3ebb267bp-1, 0x1.e47f697047cbap-57, 0x1.0f9e1b4dd36dfp-14 },
    { 0x1.ffff6f9f67e55p-1, 0x1.e1e4483ba034bp-55, 0x1.e9b5e8d00ce77p-16 },
    { 0x1.ffffc316d9ed0p-1, -0x1.8b32f44f46b3bp-55, 0x1.abe09e9144b5ep-17 },
    { 0x1.ffffe710d565ep-1, 0x1.c9ea52d76dc04p-55, 0x1.6a597219a93dap-18 },
    { 0x1.fffff618c3da6p-1, -0x1.19309ce23aa3ep-58, 0x1.296a70f414053p-19 },
    { 0x1.fffffc2f171e3p-1, 0x1.85edd0395f475p-55, 0x1.d9371e2ff7c35p-21 },
    { 0x1.fffffe92ced93p-1, -0x1.d2db2ecfe14aep-55, 0x1.6ce1aa3fd7bddp-22 },
    { 0x1.ffffff7b91176p-1, 0x1.0b2865615db40p-56, 0x1.10b1488aeb235p-23 },
    { 0x1.ffffffd169d0cp-1, 0x1.70a2bfb068e6fp-55, 0x1.8b0cfce0579e0p-25 },
    { 0x1.fffffff01a8b6p-1, 0x1.23370eca5ca6ap-60, 0x1.155a09065d4f7p-26 },
    { 0x1.fffffffabd229p-1, -0x1.4dbe49bec3ef2p-57, 0x1.7974e743dea3dp-28 },
    { 0x1.fffffffe4fa30p-1, 0x1.d166bcb681c7bp-57, 0x1.f1e3523b41d7dp-30 },
    { 0x1.ffffffff79626p-1, 0x1.5fbc52d650a89p-55, 0x1.3e44e45301b92p-31 },
    { 0x1.ffffffffd759dp-1, 0x1.f7bee7eb23420p-55, 0x1.8a61745ec7d1dp-33 },
    { 0x1.fffffffff4188p-1, 0x1.7a2cb3d056eacp-55, 0x1.d9a880f306bd8p-35 },
    { 0x1.fffffffffc9e8p-1, -0x1.a759f7738935fp-56, 0x1.13af4f04f9998p-36 },
    { 0x1.ffffffffff11ap-1, -0x1.3eafccbc6e8b7p-56, 0x1.370ab8327af5ep-38 },
    { 0x1.ffffffffffc05p-1, 0x1.07ba96a6b2e1ap-55, 0x1.5422ef5d8949dp-40 },
    { 0x1.ffffffffffef8p-1, 0x1.14be6226402c7p-56, 0x1.68823e52970bep-42 },
    { 0x1.fffffffffffbep-1, -0x1.182b326b228dcp-55, 0x1.7258610b3b233p-44 },
    { 0x1.ffffffffffff0p-1, -0x1.20ef3618f2d54p-56, 0x1.70beaf9c7ffb6p-46 },
    { 0x1.ffffffffffffcp-1, 0x1.8115fd1b12786p-56, 0x1.63daf8b4b1e0cp-48 },
    { 0x1.fffffffffffffp-1, 0x1.0439397b5f70ap-56, 0x1.4cd9c04158cd7p-50 },
};

/* 0 <= x < 1/2, by Taylor's series: 2 / sqrt(pi) x (1 - z / 3 + z^2 / 10 - ...), z = x^2; the term left out is below 2^-64. */
static double erf_near(double x)
{
    static const double c[] = { 1 / 10., -1 / 42., 1 / 216., -1 / 1320., 1 / 9360., -1 / 75600., 1 / 685440., -1 / 6894720.,
                                1 / 76204800., -1 / 918086400., 1 / 11975040000., -1 / 168129561600. };
    static const struct pair minus_third = { -0x1.5555555555555p-2, -0x1.5555555555555p-56 };
    static const struct pair slope = { 0x1.20dd750429b6dp+0, 0x1.1ae3a914fed80p-56 };
    if (x < 0x1p-28) /* scaled, or the parts of the product would be subnormal */
        return multiply(slope, (struct pair){ x * 0x1p200, 0 }).hi * 0x1p-200;
    const struct pair z = product_of(x, x), t = multiply(z, minus_third), one = sum_of_ordered(1, t.hi);
    const double rest = z.hi * z.hi * series(c, APR_LENGTH(c), z.hi);
    return multiply(multiply(slope, (struct pair){ x, 0 }), sum_of_ordered(one.hi, one.lo + (t.lo + rest))).hi;
}

/* From the knot c at most 1/16 away, x = c + h: erf(c) + slope times the integral from 0 to h of exp(-2 c t - t^2). With b[k] for the
 * integrand's Taylor term of t^k at h, b[k + 1] = -2 h (c b[k] + h b[k - 1]) / (k + 1). */
static double erf_beyond(double x)
{
    static const double inverse[] = { 1, 1 / 2., 1 / 3., 1 / 4., 1 / 5., 1 / 6., 1 / 7., 1 / 8., 1 / 9., 1 / 10., 1 / 11., 1 / 12., 1 / 13.,
                                      1 / 14., 1 / 15. };
    const int i = nearest(8 * x);
    const struct knot *const at = &knots[i - 4];
    const double c = i / 8., h = x - c, step = -2 * h * c, step2 = -2 * h * h;
    double before = 0, term = 1, sum = 0;
    for (unsigned k = 1; k < APR_LENGTH(inverse); k++) {
        const double next = (step * term + step2 * before) * inverse[k - 1];
        before = term;
        term = next;
        sum += term * inverse[k];
    }
    const struct pair first = product_of(at->slope, h), y = sum_of_ordered(at->hi, first.hi);
    return y.hi + (y.lo + (first.lo + (at->lo + first.hi * sum)));
}

double apr_erf(double x)
{
    const double size = fabs(x);
    if (isnan(x))
        return x;
    return copysign(size < 0.5 ? erf_near(size) : size < 5.9375 ? erf_beyond(size) : 1, x);
}
