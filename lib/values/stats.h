/* Moments, extremes and percentiles of a tensor's values: exact where all values can be kept or their codes counted, else out of power
 * sums and a histogram, both taken chunk by chunk and added by rising index. */
#ifndef APR_STATS_H
#define APR_STATS_H

#include "base/core.h"
#include "values/kernels.h"

#define APR_NPERCENTILES 7 /* 1 5 25 50 75 95 99 */
#define APR_SPARK_BINS   32

extern const unsigned apr_percentiles[APR_NPERCENTILES];

/* Of the finite values; NAN where there is none. std is the population's, kurtosis the excess. exact: percentiles are values of the
 * tensor, else they are within (max - min) / 4096. spark: a histogram from min to max. */
struct apr_stats {
    uint64_t count, zeros, nans, infs; /* count: all elements; a complex one is two numbers */
    double   min, max, mean, std, rms, kurtosis;
    double   percentile[APR_NPERCENTILES];
    bool     exact;
    uint64_t spark[APR_SPARK_BINS];
};

/* Of n values, which are sorted on the way; scratch has room for as many. */
struct apr_stats apr_stats_of_values(double *value, double *scratch, size_t n);

/* Of value[i] occurring count[i] times, i < n. Each half of value rises or falls, as codes of integers and floats do. */
struct apr_stats apr_stats_of_counts(const float *value, const uint64_t *count, size_t n);

/* Power sums about a centre, in one order: a chunk's lanes folded, then chunk by chunk, unit by unit. */
struct apr_sums {
    double   power[4], min, max;
    uint64_t zeros, nans, infs, plus;
};
struct apr_sums apr_no_sums(void);
void apr_sums_add_chunk(struct apr_sums *to, const struct apr_moments *chunk);
void apr_sums_add(struct apr_sums *to, const struct apr_sums *s);

/* Where sums are centred and bins lie, for values divided by 2^shift; shift is not 0 only where doubles would otherwise leave the
 * numbers of full precision. Chosen by a sample (at least 1 / 4096 of the range is told apart, as the whole range is no smaller than
 * the sample's, and values up to three ranges away have a bin); or by sums of the whole, when all values have one. */
struct apr_grid {
    double centre, base, scale;
    int    shift;
};
struct apr_grid apr_grid_of(const struct apr_sums *sample, const struct apr_grid *taken, uint64_t n);

/* What moments_wide and bins_wide do, over a grid. Values that were floats never need a shift. */
void apr_grid_add(const struct apr_kernels *k, const struct apr_grid *g, const double *x, size_t n, struct apr_moments *into);
void apr_grid_bins(const struct apr_kernels *k, const struct apr_grid *g, const double *x, size_t n, uint16_t *bin);

/* Of n values out of sums and bins taken over a grid. *outside: some value had no bin, so spark is not known, nor are the percentiles
 * that are NAN. */
struct apr_stats apr_stats_of_bins(uint64_t n, const struct apr_sums *s, const struct apr_grid *g, const uint64_t bin[APR_BINS],
                                   bool *outside);

#endif
