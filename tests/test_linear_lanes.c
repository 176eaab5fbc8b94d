/* Sums and exponentials of fit: near the correctly rounded ones, and the same bits at every level of instructions. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../tools/apr-linear/lanes.h"
#include "base/cpu.h"
#include "base/fmath.h"

#define BODY(level, attributes)                                                                                      \
    attributes static void exp_##level(double *x, size_t n) { lanes_exp(x, n); }                                     \
    attributes static double dot_##level(const double *a, const double *b, size_t n) { return lanes_dot(a, b, n); }
APR_FOR_LEVELS(BODY)
#undef BODY

static double random_in(double low, double high) { return low + (high - low) * drand48(); }

static void exponentials_are_within_two_units_of_the_last_place(void **state)
{
    (void)state;
    srand48(1);
    for (unsigned i = 0; i < 300000; i++) {
        double x[3] = { random_in(-708, 0), random_in(-1, 0), ldexp(-drand48(), -(int)(i % 60)) };
        const double at[3] = { x[0], x[1], x[2] };
        exp_scalar(x, 3);
        for (unsigned k = 0; k < 3; k++) {
            const double want = apr_exp(at[k]), unit = nextafter(want, INFINITY) - want;
            if (!(fabs(x[k] - want) <= 2 * unit))
                fail_msg("exp(%.17g): %.17g, not %.17g", at[k], x[k], want);
        }
    }
}

static void exponentials_have_an_end_and_keep_what_is_no_number(void **state)
{
    (void)state;
    double x[] = { 0, -0.0, -708, -709, -1e300, -INFINITY, NAN, -5e-324, 0 };
    exp_scalar(x, APR_LENGTH(x));
    assert_true(x[0] == 1 && x[1] == 1 && x[7] == 1 && x[8] == 1);
    assert_true(x[2] > 0 && x[2] < 1e-307);
    assert_true(x[3] == x[2] && x[4] == x[2] && x[5] == x[2]);
    assert_true(isnan(x[6]));
}

/* Element i to lane i % 16; lanes fold 8 + 8, 4 + 4, 2 + 2, 1 + 1. */
static double plain_dot(const double *a, const double *b, size_t n)
{
    double lane[LANES] = { 0 };
    for (size_t i = 0; i < n; i++)
        lane[i % LANES] += a[i] * b[i];
    for (unsigned width = LANES / 2; width > 0; width /= 2)
        for (unsigned k = 0; k < width; k++)
            lane[k] += lane[k + width];
    return lane[0];
}

static void sums_have_their_order_at_every_level_and_length(void **state)
{
    (void)state;
    srand48(2);
    for (unsigned isa = APR_SCALAR; isa <= APR_AVX512; isa++)
        for (size_t n = 0; n < 70 && apr_isa_has((enum apr_isa)isa); n++) {
            double *const a = malloc((n + 1) * sizeof *a), *const b = malloc((n + 1) * sizeof *b);
            assert_true(a != NULL && b != NULL);
            for (size_t i = 0; i < n; i++) {
                a[i] = random_in(-1, 1);
                b[i] = ldexp(random_in(-1, 1), (int)(i % 30));
            }
            const double want = plain_dot(a, b, n), got = APR_AT_LEVEL(dot, isa)(a, b, n);
            if (want != got)
                fail_msg("level %u, %zu numbers: %a, not %a", isa, n, got, want);
            free(a);
            free(b);
        }
}

static void exponentials_have_the_same_bits_at_every_level(void **state)
{
    (void)state;
    double x[1003], want[1003];
    for (unsigned isa = APR_SCALAR; isa <= APR_AVX512; isa++) {
        srand48(3);
        for (size_t i = 0; i < APR_LENGTH(x); i++)
            x[i] = i % 7 == 0 ? -drand48() : random_in(-750, 0);
        if (!apr_isa_has((enum apr_isa)isa))
            continue;
        APR_AT_LEVEL(exp, isa)(x, APR_LENGTH(x));
        if (isa == APR_SCALAR)
            memcpy(want, x, sizeof x);
        assert_memory_equal(want, x, sizeof x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exponentials_are_within_two_units_of_the_last_place),
        cmocka_unit_test(exponentials_have_an_end_and_keep_what_is_no_number),
        cmocka_unit_test(sums_have_their_order_at_every_level_and_length),
        cmocka_unit_test(exponentials_have_the_same_bits_at_every_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
