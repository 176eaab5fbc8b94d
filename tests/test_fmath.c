/* lib/base/fmath.h: within one unit in the last place of the long double functions, and the same at the ends of the range. */
#include "support.h"

#include <math.h>
#include <stdio.h>

#include "base/fmath.h"

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double random_double(double from, double to)
{
    static uint64_t seed = 1;
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return from + (to - from) * ((double)(seed >> 11) * 0x1p-53);
}

/* |got - want| in units of want's last place. */
static double units_off(double got, long double want)
{
    const double rounded = fabs((double)want), unit = nextafter(rounded, INFINITY) - rounded;
    return (double)(fabsl((long double)got - want) / (long double)unit);
}

static void exp_is_within_a_unit(void **state)
{
    (void)state;
    static const double ranges[][2] = { { -1, 1 }, { -0.01, 0.01 }, { -30, 30 }, { -745, 709.7 }, { -745.2, -708 }, { 700, 709.78 } };
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++)
        for (unsigned i = 0; i < 100000; i++) {
            const double x = random_double(ranges[r][0], ranges[r][1]), off = units_off(apr_exp(x), expl((long double)x));
            if (!(off <= 1))
                fail_msg("exp(%a) is %a, %g units off", x, apr_exp(x), off);
        }
}

static void ln_is_within_a_unit(void **state)
{
    (void)state;
    static const double ranges[][2] = { { 0.5, 2 }, { 0.99, 1.01 }, { 0, 1e-300 }, { 0, 1e308 }, { 1, 1e6 }, { 0, 0x1p-1022 } };
    for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++)
        for (unsigned i = 0; i < 100000; i++) {
            const double x = random_double(ranges[r][0], ranges[r][1]), off = x == 0 ? 0 : units_off(apr_ln(x), logl((long double)x));
            if (!(off <= 1))
                fail_msg("ln(%a) is %a, %g units off", x, apr_ln(x), off);
        }
}

static void the_ends_of_the_range_are_ieee(void **state)
{
    (void)state;
    static const struct { double x, y; } exps[] = {
        { 0, 1 }, { -0.0, 1 }, { INFINITY, INFINITY }, { -INFINITY, 0 }, { 709.79, INFINITY }, { 1e300, INFINITY }, { -745.14, 0 },
        { -1e300, 0 },
        { 1e-320, 1 }, { -745.1, 0x1p-1074 },
    }, lns[] = {
        { 1, 0 }, { 0, -INFINITY }, { -0.0, -INFINITY }, { INFINITY, INFINITY },
    };
    for (size_t i = 0; i < sizeof exps / sizeof *exps; i++)
        if (bits_of(apr_exp(exps[i].x)) != bits_of(exps[i].y))
            fail_msg("exp(%g) is %g", exps[i].x, apr_exp(exps[i].x));
    for (size_t i = 0; i < sizeof lns / sizeof *lns; i++)
        if (bits_of(apr_ln(lns[i].x)) != bits_of(lns[i].y))
            fail_msg("ln(%g) is %g", lns[i].x, apr_ln(lns[i].x));
    assert_true(isnan(apr_exp(NAN)) && isnan(apr_ln(NAN)) && isnan(apr_ln(-1)) && isnan(apr_ln(-INFINITY)));
}

/* What -exp(A_log) and back meets: every result rounded to f32 is the one that libm rounds to, but for the halves. */
static void rounded_to_f32_they_are_right(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        const float x = (float)random_double(-20, 20), y = (float)random_double(1e-6, 100);
        assert_true((float)apr_exp((double)x) == (float)expl((long double)x));
        assert_true((float)apr_ln((double)y) == (float)logl((long double)y));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_a_unit),
        cmocka_unit_test(ln_is_within_a_unit),
        cmocka_unit_test(the_ends_of_the_range_are_ieee),
        cmocka_unit_test(rounded_to_f32_they_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
