#include "statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RESAMPLES 2000u
#define SEED      0x9E3779B97F4A7C15u

static int by_value(const void *x, const void *y)
{
    const double v = *(const double *)x, w = *(const double *)y;
    return (v > w) - (v < w);
}

static void sort(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
}

double bench_quantile(const double *rising, size_t n, double q)
{
    const double at = q * (double)(n - 1);
    const size_t below = (size_t)at, above = below + 1 < n ? below + 1 : below;
    return rising[below] + (at - (double)below) * (rising[above] - rising[below]);
}

/* ---- bootstrap ------------------------------------------------------------------------------------------------------ */

static uint64_t random_bits(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 32;
}

/* Value number `rank` of a resample that holds rising[i] count[i] times. */
static double ranked(const double *rising, const unsigned *count, size_t rank)
{
    size_t i = 0;
    for (size_t seen = count[0]; seen <= rank; seen += count[i])
        i++;
    return rising[i];
}

static double resampled_median(const double *rising, size_t n, uint64_t *state)
{
    unsigned count[BENCH_MOST] = { 0 };
    for (size_t i = 0; i < n; i++)
        count[random_bits(state) * n >> 32]++;
    return 0.5 * (ranked(rising, count, (n - 1) / 2) + ranked(rising, count, n / 2));
}

struct bench_summary bench_summarize(const double *sample, size_t n)
{
    double rising[BENCH_MOST], median[RESAMPLES];
    uint64_t state = SEED;
    memcpy(rising, sample, n * sizeof *sample);
    sort(rising, n);
    for (size_t i = 0; i < RESAMPLES; i++)
        median[i] = resampled_median(rising, n, &state);
    sort(median, RESAMPLES);
    return (struct bench_summary){ .median = bench_quantile(rising, n, 0.5), .p95 = bench_quantile(rising, n, 0.95),
                                   .low = bench_quantile(median, RESAMPLES, 0.025), .high = bench_quantile(median, RESAMPLES, 0.975),
                                   .quartile = bench_quantile(rising, n, 0.25), .third_quartile = bench_quantile(rising, n, 0.75),
                                   .least = rising[0], .most = rising[n - 1] };
}

/* ---- Mann-Whitney --------------------------------------------------------------------------------------------------- */

/* Sum of t^3 - t over the groups of t equal values. */
static double tied(const double *a, size_t na, const double *b, size_t nb)
{
    double all[2 * BENCH_MOST], sum = 0;
    memcpy(all, a, na * sizeof *a);
    memcpy(all + na, b, nb * sizeof *b);
    sort(all, na + nb);
    for (size_t i = 0, end; i < na + nb; i = end) {
        for (end = i + 1; end < na + nb && all[end] == all[i]; end++)
            ;
        const double t = (double)(end - i);
        sum += t * t * t - t;
    }
    return sum;
}

struct bench_test bench_mann_whitney(const double *a, size_t na, const double *b, size_t nb)
{
    double u = 0;
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++)
            u += a[i] > b[j] ? 1 : a[i] == b[j] ? 0.5 : 0;
    const double pairs = (double)na * (double)nb, n = (double)(na + nb);
    const double variance = pairs / 12 * (n + 1 - tied(a, na, b, nb) / (n * (n - 1)));
    const double away = fabs(u - pairs / 2) - 0.5;
    return (struct bench_test){ u, variance > 0 && away > 0 ? erfc(away / sqrt(2 * variance)) : 1 };
}

/* ---- Welch ---------------------------------------------------------------------------------------------------------- */

#define TERMS 100000 /* of the fraction: it takes some hundreds where there are a million samples */

/* The continued fraction of the regularized incomplete beta function, by Lentz, for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double x, double a, double b)
{
    double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), f = d;
    for (int m = 1; m < TERMS; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / (1 + even * d);
        c = 1 + even / c;
        f *= c * d;
        d = 1 / (1 + odd * d);
        c = 1 + odd / c;
        f *= c * d;
        if (fabs(c * d - 1) < 1e-15)
            break;
    }
    return f;
}

/* The regularized incomplete beta function; y = 1 - x, which the caller knows without a loss of digits. */
static double beta_share(double x, double y, double a, double b)
{
    if (x <= 0 || y <= 0)
        return x > 0;
    const double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(y));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(x, a, b) / a : 1 - front * beta_fraction(y, b, a) / b;
}

/* How likely Student's t is as far from 0, on either side. */
static double beyond(double t, double freedom)
{
    return beta_share(freedom / (freedom + t * t), t * t / (freedom + t * t), freedom / 2, 0.5);
}

/* The t that is exceeded, on both sides together, with p = 0.05. */
static double student_95(double freedom)
{
    double low = 1.9, high = 13; /* 1.96 for many, 12.7 for one degree */
    for (int i = 0; i < 60; i++) {
        const double middle = (low + high) / 2;
        *(beyond(middle, freedom) > 0.05 ? &low : &high) = middle;
    }
    return (low + high) / 2;
}

struct bench_moments bench_moments(const double *sample, size_t n)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        mean += sample[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (sample[i] - mean) * (sample[i] - mean);
    const double deviation = sqrt(squares / (double)(n - 1)), reach = student_95((double)(n - 1)) * deviation / sqrt((double)n);
    return (struct bench_moments){ .mean = mean, .deviation = deviation, .low = mean - reach, .high = mean + reach, .n = n };
}

struct bench_welch bench_welch(const struct bench_moments *a, const struct bench_moments *b)
{
    const double na = (double)a->n, nb = (double)b->n, difference = b->mean - a->mean;
    const double va = a->deviation * a->deviation, vb = b->deviation * b->deviation, v = va / na + vb / nb;
    const double freedom = v * v / (va * va / (na * na * (na - 1)) + vb * vb / (nb * nb * (nb - 1)));
    const double t = difference / sqrt(v), reach = student_95(freedom) * sqrt(v);
    const double pooled = sqrt(((na - 1) * va + (nb - 1) * vb) / (na + nb - 2));
    return (struct bench_welch){ .t = t, .freedom = freedom, .p = beyond(t, freedom), .low = difference - reach, .high = difference + reach,
                                 .effect = difference / pooled };
}

/* ---- pictures ------------------------------------------------------------------------------------------------------- */

/* U+2581 to U+2588, by `share` of the full height. */
static void draw(char *out, size_t column, double share)
{
    const char bar[3] = { '\xE2', '\x96', (char)('\x81' + (int)(7 * share + 0.5)) };
    memcpy(out + 3 * column, bar, sizeof bar);
    out[3 * column + 3] = 0;
}

static void extremes(const double *v, size_t n, double *least, double *most)
{
    *least = *most = v[0];
    for (size_t i = 1; i < n; i++) {
        *least = fmin(*least, v[i]);
        *most = fmax(*most, v[i]);
    }
}

/* A column is the mean of its samples. */
void bench_sparkline(const double *sample, size_t n, char out[BENCH_ART])
{
    const size_t columns = n < BENCH_BINS ? n : BENCH_BINS;
    double mean[BENCH_BINS] = { 0 }, least, most;
    for (size_t c = 0; c < columns; c++) {
        const size_t begin = c * n / columns, end = (c + 1) * n / columns;
        for (size_t i = begin; i < end; i++)
            mean[c] += sample[i] / (double)(end - begin);
    }
    extremes(mean, columns, &least, &most);
    for (size_t c = 0; c < columns; c++)
        draw(out, c, most > least ? (mean[c] - least) / (most - least) : 0);
}

void bench_histogram(const double *sample, size_t n, char out[BENCH_ART])
{
    double count[BENCH_BINS] = { 0 }, least, most, few, many;
    extremes(sample, n, &least, &most);
    for (size_t i = 0; i < n; i++) {
        const size_t bin = most > least ? (size_t)((sample[i] - least) / (most - least) * BENCH_BINS) : 0;
        count[bin < BENCH_BINS ? bin : BENCH_BINS - 1]++;
    }
    extremes(count, BENCH_BINS, &few, &many);
    for (size_t c = 0; c < BENCH_BINS; c++)
        draw(out, c, count[c] / many);
}
