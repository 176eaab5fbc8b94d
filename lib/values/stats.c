#include "values/stats.h"

#include <float.h>
#include <math.h>
#include <string.h>

const unsigned apr_percentiles[APR_NPERCENTILES] = { 1, 5, 25, 50, 75, 95, 99 };

static struct apr_stats nothing(uint64_t count)
{
    struct apr_stats s = { .count = count, .min = NAN, .max = NAN, .mean = NAN, .std = NAN, .rms = NAN, .kurtosis = NAN };
    for (unsigned i = 0; i < APR_NPERCENTILES; i++)
        s.percentile[i] = NAN;
    return s;
}

/* Nearly the power of two that the largest value reaches: values are shifted down by it where squares, or differences, would leave the
 * numbers of full precision. Its own inverse is such a number too. */
static int shift_of(double min, double max)
{
    const int shift = ilogb(fmax(fabs(min), fabs(max))) + 1;
    return shift < -1022 ? -1022 : shift > 1022 ? 1022 : shift;
}

/* Of a shifted mean: rounding must not carry it beyond all values. */
static double shift_back(const struct apr_stats *s, double v, int shift)
{
    const double back = ldexp(v, shift), most = fmax(fabs(s->min), fabs(s->max));
    return shift != 0 && fabs(back) > most ? copysign(most, back) : back;
}

/* After the extremes: from the mean and the second and fourth central moments of values that were shifted. Where the square of the
 * variance has left the numbers of full precision, so has the fourth moment, and nobody knows their ratio. */
static void set_moments(struct apr_stats *s, int shift, double mean, double second, double fourth)
{
    s->mean = shift_back(s, mean, shift);
    s->std = shift_back(s, sqrt(second), shift);
    s->rms = shift_back(s, sqrt(second + mean * mean), shift);
    s->kurtosis = isnormal(second * second) ? fourth / (second * second) - 3 : NAN;
}

/* Adding zero takes the sign of a zero away, which is a matter of the order in which values came. */
static void set_extremes(struct apr_stats *s, double min, double max)
{
    s->min = min + 0.0;
    s->max = max + 0.0;
}

/* Halves are subtracted, so that no difference is beyond a double. */
static void add_spark(struct apr_stats *s, double value, uint64_t n)
{
    const double range = s->max / 2 - s->min / 2, at = range > 0 ? (value / 2 - s->min / 2) / range * APR_SPARK_BINS : 0;
    s->spark[at < 0 ? 0 : at < APR_SPARK_BINS - 1 ? (size_t)at : APR_SPARK_BINS - 1] += n;
}

/* The rank, from 0, of a percentile of n values: the least value that so many are not above. */
static uint64_t rank_of(unsigned percentile, uint64_t n)
{
    const uint64_t hundredths = n / 100 * percentile, rest = n % 100 * percentile;
    return hundredths + (rest + 99) / 100 - 1;
}

/* ---- all values ----------------------------------------------------------------------------------------------------- */

/* A double's bits as a number that rises with its value. */
static uint64_t key_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

/* By eight bits of the keys after the other, from the lowest; bits in which all keys agree are passed over, most of them where values
 * were halves. */
static void sort(double *value, double *scratch, size_t n)
{
    double *from = value, *to = scratch;
    uint64_t differ = 0;
    for (size_t i = 1; i < n; i++)
        differ |= key_of(value[i]) ^ key_of(value[0]);
    for (unsigned shift = 0; shift < 64 && differ >> shift != 0; shift += 8) {
        shift += (unsigned)__builtin_ctzll(differ >> shift);
        size_t place[256] = { 0 };
        for (size_t i = 0; i < n; i++)
            place[key_of(from[i]) >> shift & 0xff]++;
        for (size_t i = 0, before = 0; i < 256; i++) {
            before += place[i];
            place[i] = before - place[i];
        }
        for (size_t i = 0; i < n; i++)
            to[place[key_of(from[i]) >> shift & 0xff]++] = from[i];
        double *const sorted = to;
        to = from;
        from = sorted;
    }
    if (from != value)
        memcpy(value, from, n * sizeof *value);
}

/* Of sorted values, shifted. Returns whether all that was summed up is of full precision. */
static bool set_sorted_moments(struct apr_stats *s, const double *value, size_t n, int shift)
{
    const double unit = ldexp(1, -shift), centre = value[n / 2] * unit;
    double off = 0, second = 0, fourth = 0;
    for (size_t i = 0; i < n; i++)
        off += (value[i] * unit - centre) / (double)n;
    const double mean = centre + off;
    for (size_t i = 0; i < n; i++) {
        const double d = value[i] * unit - mean, square = d * d;
        second += square;
        fourth += square * square;
    }
    set_moments(s, shift, mean, second / (double)n, fourth / (double)n);
    return (isnormal(second) || value[0] == value[n - 1]) && isnormal(second + mean * mean);
}

struct apr_stats apr_stats_of_values(double *value, double *scratch, size_t n)
{
    struct apr_stats s = nothing(n);
    size_t finite = 0;
    for (size_t i = 0; i < n; i++) {
        s.nans += isnan(value[i]) != 0;
        s.infs += isinf(value[i]) != 0;
        s.zeros += value[i] == 0;
        if (isfinite(value[i]))
            value[finite++] = value[i];
    }
    if (finite == 0)
        return s;
    sort(value, scratch, finite);
    set_extremes(&s, value[0], value[finite - 1]);
    if (!set_sorted_moments(&s, value, finite, 0))
        set_sorted_moments(&s, value, finite, shift_of(s.min, s.max));
    for (size_t i = 0; i < finite; i++)
        add_spark(&s, value[i], 1);
    for (unsigned i = 0; i < APR_NPERCENTILES; i++)
        s.percentile[i] = value[rank_of(apr_percentiles[i], finite)] + 0.0;
    s.exact = true;
    return s;
}

/* ---- codes ---------------------------------------------------------------------------------------------------------- */

/* Finite values that occur, along a run of codes: upwards in value, whichever way the codes go. */
struct climb {
    const float    *value;
    const uint64_t *count;
    size_t          low, high; /* still to come: [low, high) */
    bool            falls;
};

static size_t at_climb(const struct climb *c) { return c->falls ? c->high - 1 : c->low; }

static void skip_absent(struct climb *c)
{
    while (c->low < c->high && (c->count[at_climb(c)] == 0 || !isfinite(c->value[at_climb(c)])))
        c->falls ? c->high-- : c->low++;
}

static struct climb climb_on(const float *value, const uint64_t *count, size_t low, size_t high)
{
    struct climb c = { value, count, low, high, false };
    size_t first = low, last = high;
    while (first < high && !isfinite(value[first]))
        first++;
    while (last > first && !isfinite(value[last - 1]))
        last--;
    c.falls = first < last && value[first] > value[last - 1];
    skip_absent(&c);
    return c;
}

/* The next code by value, of two runs; false at the end of both. */
static bool next_of(struct climb c[2], size_t *code)
{
    const bool more[2] = { c[0].low < c[0].high, c[1].low < c[1].high };
    if (!more[0] && !more[1])
        return false;
    struct climb *const from = !more[1] || (more[0] && c[0].value[at_climb(&c[0])] <= c[1].value[at_climb(&c[1])]) ? &c[0] : &c[1];
    *code = at_climb(from);
    from->falls ? from->high-- : from->low++;
    skip_absent(from);
    return true;
}

struct apr_stats apr_stats_of_counts(const float *value, const uint64_t *count, size_t n)
{
    struct apr_stats s = nothing(0);
    double sum = 0, second = 0, fourth = 0;
    for (size_t i = 0; i < n; i++) {
        if (count[i] == 0)
            continue;
        s.count += count[i];
        s.nans += isnan(value[i]) ? count[i] : 0;
        s.infs += isinf(value[i]) ? count[i] : 0;
        s.zeros += value[i] == 0 ? count[i] : 0;
        sum += isfinite(value[i]) ? value[i] * (double)count[i] : 0;
    }
    const uint64_t finite = s.count - s.nans - s.infs;
    if (finite == 0)
        return s;
    const double mean = sum / (double)finite;
    struct climb c[2] = { climb_on(value, count, 0, n / 2), climb_on(value, count, n / 2, n) };
    uint64_t before = 0;
    double last = 0;
    for (size_t code, i = 0; next_of(c, &code); before += count[code]) {
        const double v = value[code], d = v - mean, square = d * d;
        if (before == 0)
            s.min = v;
        for (; i < APR_NPERCENTILES && rank_of(apr_percentiles[i], finite) < before + count[code]; i++)
            s.percentile[i] = v + 0.0;
        second += square * (double)count[code];
        fourth += square * square * (double)count[code];
        last = v;
    }
    set_extremes(&s, s.min, last);
    set_moments(&s, 0, mean, second / (double)finite, fourth / (double)finite);
    for (size_t i = 0; i < n; i++)
        if (count[i] > 0 && isfinite(value[i]))
            add_spark(&s, value[i], count[i]);
    s.exact = true;
    return s;
}

/* ---- sums and bins -------------------------------------------------------------------------------------------------- */

#define RANGE_BINS 8192.0 /* that the range of a grid's sample is cut into: half the width that is promised */

struct apr_sums apr_no_sums(void)
{
    return (struct apr_sums){ .min = INFINITY, .max = -INFINITY };
}

static void add_extremes(struct apr_sums *to, double min, double max)
{
    to->min = min < to->min ? min : to->min;
    to->max = max > to->max ? max : to->max;
}

void apr_sums_add_chunk(struct apr_sums *to, const struct apr_moments *chunk)
{
    to->power[0] += apr_fold(chunk->d1);
    to->power[1] += apr_fold(chunk->d2);
    to->power[2] += apr_fold(chunk->d3);
    to->power[3] += apr_fold(chunk->d4);
    for (unsigned l = 0; l < APR_LANES; l++)
        add_extremes(to, chunk->min[l], chunk->max[l]);
    to->zeros += chunk->zeros;
    to->nans += chunk->nans;
    to->infs += chunk->infs;
    to->plus += chunk->plus;
}

void apr_sums_add(struct apr_sums *to, const struct apr_sums *s)
{
    for (unsigned i = 0; i < 4; i++)
        to->power[i] += s->power[i];
    add_extremes(to, s->min, s->max);
    to->zeros += s->zeros;
    to->nans += s->nans;
    to->infs += s->infs;
    to->plus += s->plus;
}

/* False when the width of a bin, or its inverse, is no number. */
static bool set_bins(struct apr_grid *g, double min, double max)
{
    const double low = ldexp(min, -g->shift), high = ldexp(max, -g->shift), width = (high - low) / RANGE_BINS;
    g->scale = 1 / width;
    g->base = low / 2 + high / 2 - width * (APR_BINS / 2);
    return isfinite(g->scale) && isfinite(g->base);
}

struct apr_grid apr_grid_of(const struct apr_sums *sample, const struct apr_grid *taken, uint64_t n)
{
    struct apr_grid g = { 0, 0, 0, 0 };
    const uint64_t finite = n - sample->nans - sample->infs;
    if (finite == 0)
        return g;
    if (sample->min < sample->max && !(isnormal(sample->power[1]) && set_bins(&g, sample->min, sample->max))) {
        g.shift = shift_of(sample->min, sample->max);
        set_bins(&g, sample->min, sample->max);
    }
    double mean = ldexp(taken->centre + sample->power[0] / (double)finite, taken->shift);
    if (g.shift != 0 && !isfinite(mean))
        mean = sample->min / 2 + sample->max / 2;
    g.centre = ldexp(mean < sample->min ? sample->min : mean <= sample->max ? mean : sample->max, -g.shift);
    return g;
}

#define SHIFTED_RUN 256u /* values at a time */

static size_t shift_run(const struct apr_grid *g, const double *x, size_t n, double shifted[SHIFTED_RUN])
{
    const double unit = ldexp(1, -g->shift);
    const size_t now = n < SHIFTED_RUN ? n : SHIFTED_RUN;
    for (size_t i = 0; i < now; i++)
        shifted[i] = x[i] * unit;
    return now;
}

/* Only power sums are of the shifted values, some of which a shift takes for zeros. */
void apr_grid_add(const struct apr_kernels *k, const struct apr_grid *g, const double *x, size_t n, struct apr_moments *into)
{
    double shifted[SHIFTED_RUN];
    for (size_t now; g->shift != 0 && n > 0; x += now, n -= now) {
        struct apr_moments sums = *into;
        now = shift_run(g, x, n, shifted);
        k->moments_wide(shifted, now, g->centre, &sums);
        k->moments_wide(x, now, 0, into);
        memcpy(into->d1, sums.d1, sizeof sums.d1);
        memcpy(into->d2, sums.d2, sizeof sums.d2);
        memcpy(into->d3, sums.d3, sizeof sums.d3);
        memcpy(into->d4, sums.d4, sizeof sums.d4);
    }
    if (g->shift == 0)
        k->moments_wide(x, n, g->centre, into);
}

void apr_grid_bins(const struct apr_kernels *k, const struct apr_grid *g, const double *x, size_t n, uint16_t *bin)
{
    double shifted[SHIFTED_RUN];
    for (size_t now; g->shift != 0 && n > 0; x += now, bin += now, n -= now) {
        now = shift_run(g, x, n, shifted);
        k->bins_wide(shifted, now, g->base, g->scale, bin);
    }
    if (g->shift == 0)
        k->bins_wide(x, n, g->base, g->scale, bin);
}

/* The value that `part` of a bin lies below; unit is what takes the grid's shift back. */
static double in_bin(const struct apr_stats *s, const struct apr_grid *g, double unit, size_t bin, double part)
{
    const double v = (g->base + ((double)bin + part) / g->scale) * unit;
    return v < s->min ? s->min : v <= s->max ? v : s->max;
}

struct apr_stats apr_stats_of_bins(uint64_t n, const struct apr_sums *s, const struct apr_grid *g, const uint64_t bin[APR_BINS],
                                   bool *outside)
{
    struct apr_stats out = nothing(n);
    const uint64_t finite = n - s->nans - s->infs;
    out.zeros = s->zeros;
    out.nans = s->nans;
    out.infs = s->infs;
    *outside = false;
    if (finite == 0)
        return out;
    set_extremes(&out, s->min, s->max);
    const double m = s->power[0] / (double)finite, q2 = s->power[1] / (double)finite, q3 = s->power[2] / (double)finite;
    const double second = q2 - m * m, fourth = s->power[3] / (double)finite - 4 * m * q3 + 6 * m * m * q2 - 3 * m * m * m * m;
    out.exact = out.min == out.max;
    if (out.exact) {
        const int shift = shift_of(out.min, out.max);
        set_moments(&out, shift, ldexp(out.min, -shift), 0, 0);
        for (unsigned i = 0; i < APR_NPERCENTILES; i++)
            out.percentile[i] = out.min;
        add_spark(&out, out.min, finite);
        return out;
    }
    set_moments(&out, g->shift, g->centre + m, second < 0 ? 0 : second, fourth);
    *outside = g->scale == 0 || bin[0] + bin[APR_BINS - 1] > s->nans + s->infs || !isnormal(s->power[1]);
    const double unit = ldexp(1, g->shift);
    uint64_t before = bin[0] - s->nans - (s->infs - s->plus);
    for (size_t b = 1, i = 0; g->scale != 0 && b < APR_BINS - 1; before += bin[b++]) {
        if (bin[b] == 0)
            continue;
        for (uint64_t r; i < APR_NPERCENTILES && (r = rank_of(apr_percentiles[i], finite)) < before + bin[b]; i++)
            if (r >= before)
                out.percentile[i] = in_bin(&out, g, unit, b, ((double)(r - before) + 0.5) / (double)bin[b]) + 0.0;
        if (!*outside)
            add_spark(&out, in_bin(&out, g, unit, b, 0.5), bin[b]);
    }
    return out;
}
