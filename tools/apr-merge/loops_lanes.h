/* The loops, in vectors of WIDTH doubles; NAME(x) is x of that width, LEVEL what a function has that may use such vectors. The last few
 * values are filled up with zeros. */
typedef double   NAME(doubles) __attribute__((vector_size(8 * WIDTH)));
typedef int64_t  NAME(longs) __attribute__((vector_size(8 * WIDTH)));
typedef float    NAME(floats) __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t NAME(words) __attribute__((vector_size(4 * WIDTH)));
typedef int32_t  NAME(ints) __attribute__((vector_size(4 * WIDTH)));
#define doubles NAME(doubles)
#define longs   NAME(longs)
#define floats  NAME(floats)
#define words   NAME(words)
#define ints    NAME(ints)

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* What is not finite leaves a NaN in the sum of its lane for good. */
APR_INLINED void NAME(widen_some)(const float *x, double *out, floats *odd, size_t i, size_t m)
{
    LOAD(floats, v, x + i, m);
    const doubles wide = __builtin_convertvector(v, doubles);
    *odd += v * 0;
    STORE(wide, out + i, m);
}

LEVEL static bool NAME(widen)(const float *x, size_t n, double *out)
{
    floats odd = { 0 };
    EACH(n, NAME(widen_some), x, out, &odd);
    return SUM_OF(float, odd) == 0;
}

APR_INLINED void NAME(finite_some)(const double *x, doubles *odd, size_t i, size_t m)
{
    LOAD(doubles, v, x + i, m);
    *odd += v * 0;
}

LEVEL static bool NAME(are_finite)(const double *x, size_t n)
{
    doubles odd = { 0 };
    EACH(n, NAME(finite_some), x, &odd);
    return SUM_OF(double, odd) == 0;
}

APR_INLINED void NAME(narrow_some)(const double *x, float *out, size_t i, size_t m)
{
    LOAD(doubles, v, x + i, m);
    const floats narrow = __builtin_convertvector(v, floats);
    STORE(narrow, out + i, m);
}

LEVEL static void NAME(narrow)(const double *x, size_t n, float *out) { EACH(n, NAME(narrow_some), x, out); }

APR_INLINED void NAME(distance_some)(const float *x, const float *base, float *out, floats *odd, size_t i, size_t m)
{
    LOAD(floats, a, x + i, m);
    LOAD(floats, b, base + i, m);
    const words magnitude = (words)(a - b) & MAGNITUDE;
    *odd += a * 0 + b * 0;
    STORE(magnitude, out + i, m);
}

LEVEL static bool NAME(distance)(const float *x, const float *base, size_t n, float *out)
{
    floats odd = { 0 };
    EACH(n, NAME(distance_some), x, base, out, &odd);
    return SUM_OF(float, odd) == 0;
}

APR_INLINED void NAME(magnitude_some)(const double *x, float *out, size_t i, size_t m)
{
    LOAD(doubles, v, x + i, m);
    const words magnitude = (words)__builtin_convertvector(v, floats) & MAGNITUDE;
    STORE(magnitude, out + i, m);
}

LEVEL static void NAME(magnitude)(const double *x, size_t n, float *out) { EACH(n, NAME(magnitude_some), x, out); }

/* ---- arithmetic ----------------------------------------------------------------------------------------------------- */

APR_INLINED void NAME(subtract_some)(double *x, const double *base, size_t i, size_t m)
{
    LOAD(doubles, v, x + i, m);
    LOAD(doubles, b, base + i, m);
    v -= b;
    STORE(v, x + i, m);
}

LEVEL static void NAME(subtract)(double *x, const double *base, size_t n) { EACH(n, NAME(subtract_some), x, base); }

APR_INLINED void NAME(add_some)(double *sum, double c, const double *x, size_t i, size_t m)
{
    LOAD(doubles, s, sum + i, m);
    LOAD(doubles, v, x + i, m);
    s += c * v;
    STORE(s, sum + i, m);
}

LEVEL static void NAME(add)(double *sum, double c, const double *x, size_t n) { EACH(n, NAME(add_some), sum, c, x); }

APR_INLINED void NAME(scale_some)(double *x, double c, size_t i, size_t m)
{
    LOAD(doubles, v, x + i, m);
    v *= c;
    STORE(v, x + i, m);
}

LEVEL static void NAME(scale)(double *x, double c, size_t n) { EACH(n, NAME(scale_some), x, c); }

APR_INLINED void NAME(divide_some)(double *x, double c, size_t i, size_t m)
{
    LOAD(doubles, v, x + i, m);
    v /= c;
    STORE(v, x + i, m);
}

LEVEL static void NAME(divide)(double *x, double c, size_t n) { EACH(n, NAME(divide_some), x, c); }

/* ---- what is kept --------------------------------------------------------------------------------------------------- */

/* The key of a magnitude is its bits and the sign's. */
APR_INLINED void NAME(keep_some)(double *x, const struct band *b, size_t i, size_t m)
{
    LOAD(doubles, v, x + i, m);
    const words key = ((words)__builtin_convertvector(v, floats) | ~MAGNITUDE) ^ b->flip;
    const ints stays = (key > b->from) & (key <= b->to);
    v = (doubles)((longs)v & __builtin_convertvector(stays, longs));
    STORE(v, x + i, m);
}

APR_INLINED void NAME(change_some)(const float *x, const float *base, const struct band *b, double c, double *out, floats *odd, size_t i,
                                   size_t m)
{
    LOAD(floats, v, x + i, m);
    LOAD(floats, w, base + i, m);
    *odd += v * 0 + w * 0;
    doubles d = __builtin_convertvector(v, doubles) - __builtin_convertvector(w, doubles);
    const words key = ((words)(v - w) | ~MAGNITUDE) ^ b->flip;
    const ints stays = (key > b->from) & (key <= b->to);
    d = (doubles)((longs)(d * c) & __builtin_convertvector(stays, longs));
    STORE(d, out + i, m);
}

LEVEL static bool NAME(change)(const float *x, const float *base, size_t n, const struct band *b, double c, double *out)
{
    const struct band band = *b;
    floats odd = { 0 };
    EACH(n, NAME(change_some), x, base, &band, c, out, &odd);
    return SUM_OF(float, odd) == 0;
}

LEVEL static void NAME(keep)(double *x, size_t n, const struct band *b)
{
    const struct band band = *b;
    EACH(n, NAME(keep_some), x, &band);
}

APR_INLINED void NAME(vote_some)(const double *v, size_t nv, size_t n, const double *w, bool normalize, double *out, size_t i, size_t m)
{
    doubles sum = { 0 }, agreed = { 0 }, share = { 0 };
    for (size_t k = 0; k < nv; k++) {
        LOAD(doubles, x, v + k * n + i, m);
        sum += x;
    }
    const longs plus = sum >= 0;
    for (size_t k = 0; k < nv; k++) {
        LOAD(doubles, x, v + k * n + i, m);
        const longs agrees = (plus & (x > 0)) | (~plus & (x < 0));
        agreed += (doubles)((longs)x & agrees);
        share += (doubles)((longs)((doubles){ 0 } + w[k]) & agrees);
    }
    if (normalize) {
        const longs none = share == 0;
        agreed /= (doubles)(((longs)share & ~none) | ((longs)((doubles){ 0 } + 1) & none));
    }
    STORE(agreed, out + i, m);
}

LEVEL static void NAME(vote)(const double *v, size_t nv, const double *w, bool normalize, size_t n, double *out)
{
    if (normalize)
        EACH(n, NAME(vote_some), v, nv, n, w, true, out);
    else
        EACH(n, NAME(vote_some), v, nv, n, w, false, out);
}

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

/* m values, at most 16, each to its lane. */
APR_INLINED void NAME(dot_some)(const double *a, const double *b, doubles lane[16 / WIDTH], size_t i, size_t m)
{
    UNROLLED
    for (size_t k = 0; k < 16; k += WIDTH) {
        const size_t n = m == 16 ? WIDTH : k >= m ? 0 : apr_min(m - k, WIDTH);
        LOAD(doubles, x, a + i + k, n);
        LOAD(doubles, y, b + i + k, n);
        lane[k / WIDTH] += x * y;
    }
}

LEVEL static double NAME(dot)(const double *a, const double *b, size_t n)
{
    doubles lane[16 / WIDTH] = { 0 };
    EACH_OF(16, n, NAME(dot_some), a, b, lane);
    return FOLDED(lane);
}

APR_INLINED void NAME(magnitudes_some)(const double *a, doubles lane[16 / WIDTH], size_t i, size_t m)
{
    UNROLLED
    for (size_t k = 0; k < 16; k += WIDTH) {
        const size_t n = m == 16 ? WIDTH : k >= m ? 0 : apr_min(m - k, WIDTH);
        LOAD(doubles, x, a + i + k, n);
        lane[k / WIDTH] += (doubles)((longs)x & INT64_MAX);
    }
}

LEVEL static double NAME(sum_of_magnitudes)(const double *a, size_t n)
{
    doubles lane[16 / WIDTH] = { 0 };
    EACH_OF(16, n, NAME(magnitudes_some), a, lane);
    return FOLDED(lane);
}

APR_INLINED void NAME(count_some)(const double *a, longs *number, size_t i, size_t m)
{
    LOAD(doubles, x, a + i, m);
    *number -= x != 0;
}

LEVEL static uint64_t NAME(count)(const double *a, size_t n)
{
    longs number = { 0 };
    EACH(n, NAME(count_some), a, &number);
    return (uint64_t)SUM_OF(int64_t, number);
}

static const struct loops NAME(loops) = {
    NAME(widen), NAME(are_finite), NAME(narrow), NAME(distance), NAME(magnitude), NAME(subtract), NAME(add), NAME(scale), NAME(divide),
    NAME(change), NAME(keep), NAME(vote), NAME(dot), NAME(sum_of_magnitudes), NAME(count),
};

#undef doubles
#undef longs
#undef floats
#undef words
#undef ints
