/* Expected numbers are numpy's (quantile) and scipy's: mannwhitneyu(method="asymptotic"), and bootstrap(method="percentile") of
 * the median with 100,000 resamples at three seeds, which all agree. */
#include "support.h"

#include <math.h>

#include "../bench/statistics.h"

#define LENGTH(x) (sizeof(x) / sizeof *(x))
#define SAMPLES(...) { __VA_ARGS__ }, LENGTH(((double[]){ __VA_ARGS__ }))
#define SEVEN 9.2, 5.0, 2.6, 1.4, 1.15, 3.3, 8.1
#define SIX   6.0, 3.1, 1.7, 0.9, 0.57, 2.2
#define LOW   1, 2, 2, 3, 3, 3, 4, 5
#define HIGH  2, 3, 3, 4, 4, 6, 6, 6, 7

static void expect_near(double value, double wanted)
{
    if (!(fabs(value - wanted) <= 1e-12))
        fail_msg("expected %.17g, actual %.17g", wanted, value);
}

static void mann_whitney_agrees_with_scipy(void **state)
{
    (void)state;
    static const struct {
        double a[10];
        size_t na;
        double b[10];
        size_t nb;
        double u, p;
    } row[] = {
        { SAMPLES(SEVEN), SAMPLES(SIX), 30, 0.22463863892378044 },
        { SAMPLES(SIX), SAMPLES(SEVEN), 12, 0.22463863892378044 },
        { SAMPLES(LOW), SAMPLES(HIGH), 16, 0.05558195697932287 },
        { SAMPLES(1, 2, 3, 4, 5, 6), SAMPLES(7, 8, 9, 10, 11, 12), 0, 0.005074868097940253 },
        { SAMPLES(1, 2, 3, 4), SAMPLES(2, 2, 2, 2), 10, 0.6198391186854187 },
        { SAMPLES(3), SAMPLES(3, 4), 0.5, 1 },
        { SAMPLES(1, 1, 1, 1, 1), SAMPLES(1, 1, 1, 1, 1), 12.5, 1 },
    };
    for (size_t i = 0; i < LENGTH(row); i++) {
        const struct bench_test t = bench_mann_whitney(row[i].a, row[i].na, row[i].b, row[i].nb);
        expect_near(t.u, row[i].u);
        expect_near(t.p, row[i].p);
    }
}

static void summaries_agree_with_numpy_and_scipy(void **state)
{
    (void)state;
    double squares[31];
    for (int i = 0; i < 31; i++)
        squares[30 - i] = (i + 1) * (i + 1) / 10.0;
    static const double seven[] = { SEVEN }, low[] = { LOW }, high[] = { HIGH }, one[] = { 4 };
    const struct {
        const double *sample;
        size_t        n;
        double        median, p95, quartile, third, low, high;
    } row[] = {
        { seven, LENGTH(seven), 3.3, 8.87, 2.0, 6.55, 1.4, 8.1 },
        { low, LENGTH(low), 3, 4.65, 2, 3.25, 2, 4 },
        { high, LENGTH(high), 4, 6.6, 3, 6, 3, 6 },
        { squares, LENGTH(squares), 25.6, 87.05, 7.25, 55.25, 12.1, 44.1 },
        { one, LENGTH(one), 4, 4, 4, 4, 4, 4 },
    };
    for (size_t i = 0; i < LENGTH(row); i++) {
        const struct bench_summary s = bench_summarize(row[i].sample, row[i].n);
        expect_near(s.median, row[i].median);
        expect_near(s.p95, row[i].p95);
        expect_near(s.quartile, row[i].quartile);
        expect_near(s.third_quartile, row[i].third);
        expect_near(s.low, row[i].low);
        expect_near(s.high, row[i].high);
    }
}

static void equal_samples_give_equal_intervals(void **state)
{
    (void)state;
    double sample[BENCH_MOST];
    for (unsigned i = 0; i < BENCH_MOST; i++)
        sample[i] = i * 2654435761u % 1009;
    const struct bench_summary x = bench_summarize(sample, BENCH_MOST), y = bench_summarize(sample, BENCH_MOST);
    assert_memory_equal(&x, &y, sizeof x);
    assert_true(x.least <= x.low && x.low < x.median && x.median < x.high && x.high <= x.p95 && x.p95 <= x.most);
}

static void pictures_show_order_and_distribution(void **state)
{
    (void)state;
    static const struct {
        double      sample[40];
        size_t      n;
        const char *line, *bins;
    } row[] = {
        { SAMPLES(1, 2, 3, 4, 5, 6, 7, 8), "▁▂▃▄▅▆▇█", "█▁█▁█▁█▁▁█▁█▁█▁█" },
        { SAMPLES(5, 5, 5), "▁▁▁", "█▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁" },
        { SAMPLES(8, 1, 1, 1, 1, 1, 1, 1), "█▁▁▁▁▁▁▁", "█▁▁▁▁▁▁▁▁▁▁▁▁▁▁▂" },
        { SAMPLES(0, 2, 1, 1, 0, 2, 1, 1, 0, 2, 1, 1, 0, 2, 1, 1, 0, 2, 1, 1, 0, 2, 1, 1, 0, 2, 1, 1, 0, 2, 3, 3),
          "▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁█", "▅▁▁▁▁█▁▁▁▁▅▁▁▁▁▂" },
    };
    for (size_t i = 0; i < LENGTH(row); i++) {
        char art[BENCH_ART];
        bench_sparkline(row[i].sample, row[i].n, art);
        assert_string_equal(art, row[i].line);
        bench_histogram(row[i].sample, row[i].n, art);
        assert_string_equal(art, row[i].bins);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mann_whitney_agrees_with_scipy),
        cmocka_unit_test(summaries_agree_with_numpy_and_scipy),
        cmocka_unit_test(equal_samples_give_equal_intervals),
        cmocka_unit_test(pictures_show_order_and_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
