/* Expected numbers are numpy's (quantile) and scipy's: mannwhitneyu(method="asymptotic"), and bootstrap(method="percentile") of
 * the median with 100,000 resamples at three seeds, which all agree; ttest_ind(b, a, equal_var=False) and its confidence_interval(),
 * t.interval() of a mean. */
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

static void expect_close(double value, double wanted)
{
    if (!(fabs(value - wanted) <= 1e-9 * fmax(fabs(wanted), 1)))
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

static void expect_welch(const double *a, size_t na, const double *b, size_t nb, const struct bench_welch *wanted)
{
    const struct bench_moments x = bench_moments(a, na), y = bench_moments(b, nb);
    const struct bench_welch got = bench_welch(&x, &y);
    expect_close(got.t, wanted->t);
    expect_close(got.freedom, wanted->freedom);
    expect_close(got.low, wanted->low);
    expect_close(got.high, wanted->high);
    expect_close(got.effect, wanted->effect);
    if (!(fabs(got.p - wanted->p) <= 1e-8 * wanted->p)) /* small ones have their digits, too */
        fail_msg("expected p %.17g, actual %.17g", wanted->p, got.p);
}

static void welch_agrees_with_scipy(void **state)
{
    (void)state;
    static const struct {
        double a[10];
        size_t na;
        double b[10];
        size_t nb;
        struct bench_welch wanted;
    } row[] = {
        { SAMPLES(SEVEN), SAMPLES(SIX),
          { -1.3647437865843242, 10.141468172604565, 0.20184610946284992, -5.2096608419803685, 1.2472798895994153, -0.731541587859592 } },
        { SAMPLES(SIX), SAMPLES(SEVEN),
          { 1.3647437865843242, 10.141468172604565, 0.20184610946284992, -1.2472798895994153, 5.2096608419803685, 0.731541587859592 } },
        { SAMPLES(LOW), SAMPLES(HIGH),
          { 2.3070798646660555, 14.412961015169628, 0.0363696147103796, 0.12240906497230997, 3.2387020461388007, 1.0986570089529586 } },
        { SAMPLES(1, 2, 3, 4, 5, 6), SAMPLES(7, 8, 9, 10, 11, 12),
          { 5.554920598635309, 10, 0.0002424308244322483, 3.593334976704798, 8.406665023295202, 3.2071349029490928 } },
        { SAMPLES(3, 3.5), SAMPLES(1, 2),
          { -3.1304951684997055, 1.4705882352941178, 0.12904783554828334, -5.209261415035532, 1.7092614150355319, -3.1304951684997055 } },
        { SAMPLES(5, 5, 5), SAMPLES(1000001, 1000002, 1000004),
          { 1133890.3953118979, 2, 7.777819259416108e-13, 999993.5387502997, 1000001.127916367, 925817.6309189522 } },
        { SAMPLES(SIX), SAMPLES(SIX), { 0, 10, 1, -2.545550447789962, 2.545550447789962, 0 } },
    };
    for (size_t i = 0; i < LENGTH(row); i++)
        expect_welch(row[i].a, row[i].na, row[i].b, row[i].nb, &row[i].wanted);
}

static void welch_agrees_with_scipy_on_ten_thousand(void **state)
{
    (void)state;
    enum { MANY = 10000 };
    static double a[MANY], wider[MANY], later[MANY];
    for (int64_t i = 0; i < MANY; i++) {
        a[i] = (double)(i * 2654435761 % 1009);
        wider[i] = 1.5 * a[i] + 3;
        later[i] = a[i] + (double)(20 * (i % 2));
    }
    const struct bench_welch small = { 2.4269775606730803, 19997.99274258655, 0.015233971395018002, 1.923771159542369, 18.07622884045763,
                                       0.034322645818790416 };
    const struct bench_welch large = { 48.571799173765946, 17420.938144329895, 0, 244.75129720847949, 265.3357027915205, 0.6869089714040209 };
    expect_welch(a, MANY, later, MANY, &small);
    expect_welch(a, MANY, wider, MANY, &large);
}

static void intervals_of_means_agree_with_scipy(void **state)
{
    (void)state;
    static const double seven[] = { SEVEN }, low[] = { LOW }, two[] = { 3, 3.5 };
    const struct {
        const double *sample;
        size_t        n;
        double        mean, deviation, low, high;
    } row[] = {
        { seven, LENGTH(seven), 4.392857142857143, 3.1911895080346566, 1.441499094274139, 7.3442151914401474 },
        { low, LENGTH(low), 2.875, 1.246423454758225, 1.8329639146121404, 3.91703608538786 },
        { two, LENGTH(two), 3.25, 0.3535533905932738, 0.07344881595632646, 6.4265511840436735 },
    };
    for (size_t i = 0; i < LENGTH(row); i++) {
        const struct bench_moments m = bench_moments(row[i].sample, row[i].n);
        expect_close(m.mean, row[i].mean);
        expect_close(m.deviation, row[i].deviation);
        expect_close(m.low, row[i].low);
        expect_close(m.high, row[i].high);
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
        cmocka_unit_test(welch_agrees_with_scipy),
        cmocka_unit_test(welch_agrees_with_scipy_on_ten_thousand),
        cmocka_unit_test(intervals_of_means_agree_with_scipy),
        cmocka_unit_test(equal_samples_give_equal_intervals),
        cmocka_unit_test(pictures_show_order_and_distribution),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
