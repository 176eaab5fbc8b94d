/* Statistics in their three ways, against closed forms and plain sorting. */
#include "support.h"

#include <float.h>
#include <math.h>

#include "values/stats.h"

/* ---- the three ways ------------------------------------------------------------------------------------------------- */

/* As a tool would: sums and bins by chunks, a grid by a sample of every `step`th value. */
static struct apr_stats by_bins(const double *x, size_t n, size_t step, bool *outside)
{
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    const struct apr_grid none = { 0 };
    static uint64_t count[APR_BINS];
    static uint16_t bin[1024];
    struct apr_sums sample = apr_no_sums(), sums = apr_no_sums();
    struct apr_moments m = apr_no_moments();
    uint64_t taken = 0;
    for (size_t i = 0; i < n; i += step, taken++)
        k->moments_wide(&x[i], 1, 0, &m);
    apr_sums_add_chunk(&sample, &m);
    struct apr_grid g = apr_grid_of(&sample, &none, taken);
    for (unsigned pass = 0;; pass++) {
        memset(count, 0, sizeof count);
        sums = apr_no_sums();
        for (size_t i = 0, now; i < n; i += now) {
            now = (size_t)apr_min(1024, n - i);
            m = apr_no_moments();
            apr_grid_add(k, &g, x + i, now, &m);
            apr_grid_bins(k, &g, x + i, now, bin);
            apr_sums_add_chunk(&sums, &m);
            for (size_t j = 0; j < now; j++)
                count[bin[j]]++;
        }
        const struct apr_stats s = apr_stats_of_bins(n, &sums, &g, count, outside);
        if (!*outside || pass == 1)
            return s;
        g = apr_grid_of(&sums, &g, n);
        *outside = pass == 0;
    }
}

static struct apr_stats by_values(const double *x, size_t n)
{
    double *const copy = malloc((2 * n + 1) * sizeof *copy);
    memcpy(copy, x, n * sizeof *copy);
    const struct apr_stats s = apr_stats_of_values(copy, copy + n, n);
    free(copy);
    return s;
}

/* Codes 0 .. 32767 upwards, the others downwards: as a signed integer whose upper half was turned round. */
static struct apr_stats by_counts(const double *x, size_t n)
{
    static float value[65536];
    static uint64_t count[65536];
    memset(count, 0, sizeof count);
    for (size_t i = 0; i < 65536; i++)
        value[i] = i < 32768 ? (float)i : (float)(32767 - (double)i);
    for (size_t i = 0; i < n; i++)
        count[x[i] >= 0 ? (size_t)x[i] : (size_t)(32767 - x[i])]++;
    return apr_stats_of_counts(value, count, 65536);
}

/* ---- expectations --------------------------------------------------------------------------------------------------- */

static void expect_near(const char *what, double got, double wanted, double bound)
{
    if (!(fabs(got - wanted) <= bound))
        fail_msg("%s is %.17g, not %.17g", what, got, wanted);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* width: of a bin, 0 for exact percentiles. */
static void expect_percentiles(const struct apr_stats *s, const double *x, size_t n, double width)
{
    double *const sorted = malloc(n * sizeof *sorted);
    memcpy(sorted, x, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_value);
    for (unsigned i = 0; i < APR_NPERCENTILES; i++)
        expect_near("a percentile", s->percentile[i], sorted[(size_t)ceil((double)(n * apr_percentiles[i]) / 100) - 1], width);
    uint64_t all = 0;
    for (unsigned i = 0; i < APR_SPARK_BINS; i++)
        all += s->spark[i];
    assert_int_equal(all, n);
    free(sorted);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void evenly_spread_values_have_the_moments_of_the_closed_form(void **state)
{
    (void)state;
    static const struct { double n, from; } row[] = { { 2, 0 }, { 101, -50 }, { 1000, 0 }, { 30000, -10000 } };
    for (size_t r = 0; r < APR_LENGTH(row); r++) {
        const size_t n = (size_t)row[r].n;
        double *const x = malloc(n * sizeof *x);
        for (size_t i = 0; i < n; i++)
            x[i] = row[r].from + (double)(i * 7919 % n);
        bool outside;
        const struct apr_stats way[] = { by_values(x, n), by_counts(x, n), by_bins(x, n, 1, &outside) };
        const double N = row[r].n, mean = row[r].from + (N - 1) / 2, variance = (N * N - 1) / 12;
        for (unsigned w = 0; w < 3; w++) {
            assert_int_equal(way[w].count, n);
            assert_int_equal(way[w].zeros, 1);
            assert_true(way[w].min == row[r].from && way[w].max == row[r].from + N - 1);
            expect_near("the mean", way[w].mean, mean, 1e-10);
            expect_near("std", way[w].std, sqrt(variance), 1e-11 * sqrt(variance));
            expect_near("rms", way[w].rms, sqrt(variance + mean * mean), 1e-9);
            expect_near("kurtosis", way[w].kurtosis, -1.2 * (N * N + 1) / (N * N - 1), 1e-9);
            assert_int_equal(way[w].exact, w < 2);
            expect_percentiles(&way[w], x, n, w < 2 ? 0 : (N - 1) / 4096);
        }
        free(x);
    }
}

static void a_small_spread_around_a_large_mean_is_kept(void **state)
{
    (void)state;
    static double x[100000];
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = 1e6 + (i * 31 % 97 % 2 ? 1 : -1);
    bool outside;
    size_t up = 0;
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        up += x[i] > 1e6;
    const double p = (double)up / APR_LENGTH(x), variance = 4 * p * (1 - p);
    const struct apr_stats way[] = { by_values(x, APR_LENGTH(x)), by_bins(x, APR_LENGTH(x), 1000, &outside) };
    for (unsigned w = 0; w < 2; w++) {
        expect_near("the mean", way[w].mean, 1e6 + 2 * p - 1, 1e-8);
        expect_near("std", way[w].std, sqrt(variance), 1e-10);
        expect_near("kurtosis", way[w].kurtosis, (1 - 6 * p * (1 - p)) / (p * (1 - p)), 1e-8);
    }
}

static void what_is_not_finite_is_counted_and_left_out(void **state)
{
    (void)state;
    static const double mixed[] = { NAN, 1, -INFINITY, 3, INFINITY, 0, -0.0, NAN, 2 };
    bool outside;
    const struct apr_stats way[] = { by_values(mixed, 9), by_bins(mixed, 9, 1, &outside) };
    for (unsigned w = 0; w < 2; w++) {
        assert_int_equal(way[w].count, 9);
        assert_int_equal(way[w].nans, 2);
        assert_int_equal(way[w].infs, 2);
        assert_int_equal(way[w].zeros, 2);
        assert_true(way[w].min == 0 && !signbit(way[w].min) && way[w].max == 3);
        expect_near("the mean", way[w].mean, 1.2, 1e-15);
        expect_near("the median", way[w].percentile[3], 1, w == 0 ? 0 : 3 / 4096.0);
    }
    static const double none[] = { NAN, INFINITY, NAN };
    const struct apr_stats without[] = { by_values(none, 3), by_values(none, 0), by_bins(none, 3, 1, &outside) };
    for (unsigned w = 0; w < 3; w++)
        assert_true(isnan(without[w].min) && isnan(without[w].mean) && isnan(without[w].std) && isnan(without[w].percentile[3]) &&
                    isnan(without[w].kurtosis));
}

static void one_value_is_all_there_is_to_a_constant(void **state)
{
    (void)state;
    static double x[5000];
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = -0.1;
    bool outside;
    const struct apr_stats way[] = { by_values(x, APR_LENGTH(x)), by_bins(x, APR_LENGTH(x), 7, &outside) };
    for (unsigned w = 0; w < 2; w++) {
        assert_true(way[w].exact && way[w].min == -0.1 && way[w].max == -0.1 && isnan(way[w].kurtosis));
        expect_near("the mean", way[w].mean, -0.1, 1e-15);
        expect_near("std", way[w].std, 0, 1e-15);
        expect_percentiles(&way[w], x, APR_LENGTH(x), 0);
    }
}

static void values_beyond_the_sample_are_noticed_and_found_the_second_time(void **state)
{
    (void)state;
    static double x[20000];
    static const double odd[] = { 1e9, -40, 1e300, 12 };
    for (size_t o = 0; o < APR_LENGTH(odd); o++) {
        for (size_t i = 0; i < APR_LENGTH(x); i++)
            x[i] = (double)(i * 7919 % 20000) / 20000;
        double most = 0;
        for (size_t i = 0; i < 2000; i++)
            x[10 * i + 1] = odd[o];
        for (size_t i = 0; i < APR_LENGTH(x); i++)
            most = fmax(most, x[i]);
        bool outside;
        const struct apr_stats s = by_bins(x, APR_LENGTH(x), 10, &outside);
        assert_false(outside);
        assert_true(s.min == fmin(odd[o], 0) && s.max == fmax(odd[o], most));
        expect_percentiles(&s, x, APR_LENGTH(x), (s.max - s.min) / 4096);
    }
}

static void percentiles_of_half_floats_are_sorted_by_value_not_by_code(void **state)
{
    (void)state;
    static float value[65536];
    static uint64_t count[65536];
    static double x[65536];
    size_t n = 0;
    for (unsigned i = 0; i < 65536; i++) {
        value[i] = apr_f16_to_f32((uint16_t)i);
        count[i] = i % 5 != 0;
        if (count[i] && isfinite(value[i]))
            x[n++] = value[i];
    }
    const struct apr_stats s = apr_stats_of_counts(value, count, 65536);
    assert_int_equal(s.count - s.nans - s.infs, n);
    assert_true(s.min == -65504 && s.max == 65504);
    expect_percentiles(&s, x, n, 0);
}

/* Values of which squares, sums or differences are no doubles any more, or next to zero. Kurtosis may be unknown, but never wrong. */
static void numbers_near_the_ends_of_doubles_have_statistics_too(void **state)
{
    (void)state;
    static const double unit[] = { 1e-312, 1e-300, 1e-200, 1e-155, 1e-80, 1, 1e80, 1e150, 1e155, 1e200, 1e300, 8.9e303 };
    static double x[20001];
    const double N = APR_LENGTH(x), std = sqrt((N * N - 1) / 12), kurtosis = -1.2 * (N * N + 1) / (N * N - 1);
    for (size_t u = 0; u < APR_LENGTH(unit); u++) {
        for (size_t from = 0; from < 2; from++) {
            const double first = from ? -10000 : 0;
            for (size_t i = 0; i < APR_LENGTH(x); i++)
                x[i] = (first + (double)(i * 7919 % APR_LENGTH(x))) * (from ? 2 * unit[u] : unit[u]);
            const double least = 1e-9 + 0x1p-1070 / unit[u], step = from ? 2 : 1; /* of the spacing of subnormal numbers, too */
            bool outside;
            const struct apr_stats way[] = { by_values(x, APR_LENGTH(x)), by_bins(x, APR_LENGTH(x), 1, &outside),
                                             by_bins(x, APR_LENGTH(x), 1000, &outside) };
            for (unsigned w = 0; w < APR_LENGTH(way); w++) {
                const double mean = step * (first + (N - 1) / 2), rms = hypot(mean, step * std);
                const double width = way[w].max / 4096 - way[w].min / 4096;
                assert_true(way[w].min == step * first * unit[u] && way[w].max == step * (first + N - 1) * unit[u]);
                assert_int_equal(way[w].zeros, 1);
                expect_near("the mean", way[w].mean / unit[u], mean, least * N);
                expect_near("std", way[w].std / unit[u], step * std, least * N);
                expect_near("rms", way[w].rms / unit[u], rms, least * N);
                if (!isnan(way[w].kurtosis))
                    expect_near("kurtosis", way[w].kurtosis, kurtosis, 1e-6);
                expect_percentiles(&way[w], x, APR_LENGTH(x), w == 0 ? 0 : width);
            }
        }
    }
}

static void as_far_apart_as_doubles_can_be(void **state)
{
    (void)state;
    static double x[300];
    bool outside;
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = i % 2 ? DBL_MAX : -DBL_MAX;
    const struct apr_stats way[] = { by_values(x, APR_LENGTH(x)), by_bins(x, APR_LENGTH(x), 1, &outside),
                                     by_bins(x, APR_LENGTH(x), 7, &outside) };
    for (unsigned w = 0; w < APR_LENGTH(way); w++) {
        assert_true(way[w].min == -DBL_MAX && way[w].max == DBL_MAX);
        assert_true(fabs(way[w].mean) <= DBL_MAX * 1e-13);
        assert_true(isfinite(way[w].std) && way[w].std >= DBL_MAX * (1 - 1e-14));
        assert_true(isfinite(way[w].rms) && way[w].rms >= DBL_MAX * (1 - 1e-14));
        expect_near("kurtosis", way[w].kurtosis, -2, 1e-12);
        expect_percentiles(&way[w], x, APR_LENGTH(x), w == 0 ? 0 : DBL_MAX / 2048);
        assert_int_equal(way[w].spark[0], 150);
        assert_int_equal(way[w].spark[APR_SPARK_BINS - 1], 150);
    }
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = i % 50 ? 0 : i % 100 ? -1e308 : 1e308; /* far out, and not in each sample */
    const struct apr_stats far[] = { by_values(x, APR_LENGTH(x)), by_bins(x, APR_LENGTH(x), 1, &outside),
                                     by_bins(x, APR_LENGTH(x), 7, &outside) };
    for (unsigned w = 0; w < APR_LENGTH(far); w++) {
        assert_int_equal(far[w].zeros, 294);
        expect_near("std", far[w].std / 1e308, sqrt(6 / 300.0), 1e-14);
        expect_percentiles(&far[w], x, APR_LENGTH(x), w == 0 ? 0 : 1e308 / 2048);
    }
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = 1e200;
    const struct apr_stats constant[] = { by_values(x, APR_LENGTH(x)), by_bins(x, APR_LENGTH(x), 1, &outside) };
    for (unsigned w = 0; w < APR_LENGTH(constant); w++)
        assert_true(constant[w].mean == 1e200 && constant[w].std == 0 && constant[w].rms == 1e200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evenly_spread_values_have_the_moments_of_the_closed_form),
        cmocka_unit_test(a_small_spread_around_a_large_mean_is_kept),
        cmocka_unit_test(what_is_not_finite_is_counted_and_left_out),
        cmocka_unit_test(one_value_is_all_there_is_to_a_constant),
        cmocka_unit_test(values_beyond_the_sample_are_noticed_and_found_the_second_time),
        cmocka_unit_test(percentiles_of_half_floats_are_sorted_by_value_not_by_code),
        cmocka_unit_test(numbers_near_the_ends_of_doubles_have_statistics_too),
        cmocka_unit_test(as_far_apart_as_doubles_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
