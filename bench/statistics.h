/* What may be said about repeated timings. Those lean to one side, so nothing here assumes a distribution, but for Welch's test: of means,
 * which are near to normal where there are many samples. */
#ifndef APR_BENCH_STATISTICS_H
#define APR_BENCH_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

#define BENCH_MOST 1000u /* samples of one kind */
#define BENCH_BINS 16u   /* of a histogram, and columns of a sparkline */
#define BENCH_ART  (3 * BENCH_BINS + 1)

/* The quantile q (0 to 1) of n > 0 rising values, with straight lines between them, as numpy has it. */
double bench_quantile(const double *rising, size_t n, double q);

/* Of n samples, 0 < n <= BENCH_MOST, in any order. low, high: 95 % interval of the median, by bootstrap: percentiles of the medians of
 * resamples drawn from a fixed seed, so the same samples give the same interval. */
struct bench_summary {
    double median, p95, low, high, quartile, third_quartile, least, most;
};
struct bench_summary bench_summarize(const double *sample, size_t n);

/* The Mann-Whitney test of whether one kind of sample tends to be smaller: u counts the pairs in which that of a is the larger, ties by
 * halves; p is two-sided, by the normal approximation with corrections for ties and continuity. na and nb are in 1 .. BENCH_MOST. */
struct bench_test {
    double u, p;
};
struct bench_test bench_mann_whitney(const double *a, size_t na, const double *b, size_t nb);

/* Of n >= 2 samples; high and low: 95 % interval of the mean, by Student's distribution. deviation: the sample's, by n - 1. */
struct bench_moments {
    double mean, deviation, low, high;
    size_t n;
};
struct bench_moments bench_moments(const double *sample, size_t n);

/* Welch's test of whether two means differ, their variances be what they are: t of b's less a's, degrees of freedom, two-sided p, and the
 * 95 % interval of the difference. effect: Cohen's d, the difference in pooled deviations. One of the two must vary. */
struct bench_welch {
    double t, freedom, p, low, high, effect;
};
struct bench_welch bench_welch(const struct bench_moments *a, const struct bench_moments *b);

/* Samples in the order of time, and how many have which value from the least to the most: UTF-8 bars in BENCH_BINS columns or fewer. */
void bench_sparkline(const double *sample, size_t n, char out[BENCH_ART]);
void bench_histogram(const double *sample, size_t n, char out[BENCH_ART]);

#endif
