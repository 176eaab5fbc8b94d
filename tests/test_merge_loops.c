/* tools/apr-merge/loops.c: at every level of instructions what plain C does, value by value, to the last bit. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../tools/apr-merge/loops.h"
#include "base/cpu.h"

#define MOST 70u /* values: a few vectors, and every number of them that may be left */

static double a[MOST + 1], b[MOST], v[3 * MOST];
static float  narrow_a[MOST + 1], narrow_b[MOST];

static double drawn(void) { return (drand48() - 0.5) * (drand48() < 0.1 ? 0 : drand48() < 0.2 ? 1e-40 : drand48() < 0.3 ? 1e30 : 1); }

static void draw(void)
{
    for (size_t i = 0; i < MOST; i++) {
        narrow_a[i] = (float)(a[i] = drawn());
        narrow_b[i] = (float)(b[i] = drand48() < 0.2 ? a[i] : drawn());
    }
    for (size_t i = 0; i < 3 * MOST; i++)
        v[i] = drand48() < 0.3 ? 0 : drawn();
}

/* Calls `check` for all levels of this CPU, numbers of values and seeds. */
static void at_every_level(void (*check)(const struct loops *l, size_t n))
{
    static const enum apr_isa isa[] = { APR_SCALAR, APR_NEON, APR_AVX2, APR_AVX512 };
    for (size_t i = 0; i < APR_LENGTH(isa); i++)
        for (size_t n = 0; apr_isa_has(isa[i]) && n <= MOST; n++) {
            draw();
            check(loops_at(isa[i]), n);
        }
}

static void check_values(const struct loops *l, size_t n)
{
    double wide[MOST + 1], wide_wanted[MOST];
    float out[MOST + 1], wanted[MOST];
    wide[n] = 77;
    out[n] = 77;
    for (size_t i = 0; i < n; i++)
        wide_wanted[i] = narrow_a[i];
    assert_true(l->widen(narrow_a, n, wide));
    assert_memory_equal(wide, wide_wanted, n * sizeof *wide);
    for (size_t i = 0; i < n; i++)
        wanted[i] = (float)a[i];
    l->narrow(a, n, out);
    assert_memory_equal(out, wanted, n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        wanted[i] = fabsf((float)a[i]);
    l->magnitude(a, n, out);
    assert_memory_equal(out, wanted, n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        wanted[i] = fabsf(narrow_a[i] - narrow_b[i]);
    assert_true(l->distance(narrow_a, narrow_b, n, out));
    assert_memory_equal(out, wanted, n * sizeof *out);
    assert_true(wide[n] == 77 && out[n] == 77);
}

static void values_are_widened_rounded_and_compared(void **state)
{
    (void)state;
    at_every_level(check_values);
}

static void check_odd(const struct loops *l, size_t n)
{
    static const double odd[] = { INFINITY, -INFINITY, NAN };
    static const struct band all = { 0, 0, UINT32_MAX };
    double wide[MOST];
    float out[MOST];
    assert_true(l->are_finite(a, n));
    for (size_t i = 0; i < n; i++) {
        const double good = a[i];
        a[i] = odd[i % 3];
        narrow_a[i] = (float)odd[i % 3];
        if (l->are_finite(a, n) || l->widen(narrow_a, n, wide) || l->distance(narrow_a, narrow_b, n, out) ||
            l->distance(narrow_b, narrow_a, n, out) || l->change(narrow_a, narrow_b, n, &all, 0.5, wide) ||
            l->change(narrow_b, narrow_a, n, &all, 0.5, wide))
            fail_msg("value %zu of %zu is not found", i, n);
        a[i] = good;
        narrow_a[i] = (float)good;
    }
}

static void one_value_that_is_not_finite_is_found_wherever_it_is(void **state)
{
    (void)state;
    at_every_level(check_odd);
}

static void check_arithmetic(const struct loops *l, size_t n)
{
    enum { SUBTRACT, ADD, SCALE, DIVIDE };
    for (unsigned what = SUBTRACT; what <= DIVIDE; what++) {
        double x[MOST + 1], wanted[MOST];
        memcpy(x, a, sizeof x);
        x[n] = 77;
        for (size_t i = 0; i < n; i++) {
            const double product = 0.3 * b[i];
            wanted[i] = what == SUBTRACT ? a[i] - b[i] : what == ADD ? a[i] + product : what == SCALE ? a[i] * 0.3 : a[i] / 0.3;
        }
        if (what == SUBTRACT)
            l->subtract(x, b, n);
        if (what == ADD)
            l->add(x, 0.3, b, n);
        if (what == SCALE)
            l->scale(x, 0.3, n);
        if (what == DIVIDE)
            l->divide(x, 0.3, n);
        assert_memory_equal(x, wanted, n * sizeof *x);
        assert_true(x[n] == 77);
    }
}

static void runs_are_subtracted_added_scaled_and_divided(void **state)
{
    (void)state;
    at_every_level(check_arithmetic);
}

static void check_keeping(const struct loops *l, size_t n)
{
    const struct apr_cutoff taken[] = {
        { ~apr_score_key(0.125f), UINT32_MAX, UINT64_MAX }, { apr_score_key(0.25f), 0, UINT64_MAX }, { UINT32_MAX, UINT32_MAX, UINT64_MAX },
        { ~apr_score_key((float)fabs(a[n / 2])), UINT32_MAX, UINT64_MAX },
    };
    const struct apr_cutoff left = { ~apr_score_key(0.3f), UINT32_MAX, UINT64_MAX };
    for (size_t c = 0; c < 2 * APR_LENGTH(taken); c++) {
        const struct apr_cutoff *const t = &taken[c / 2];
        const bool both = c % 2 == 1 && t->flip != 0;
        const struct band band = { t->flip, both ? left.key : 0, t->key };
        double x[MOST], wanted[MOST];
        memcpy(x, a, n * sizeof *x);
        for (size_t i = 0; i < n; i++) {
            const float score = fabsf((float)a[i]);
            wanted[i] = apr_cutoff_takes(t, score, i) && !(both && apr_cutoff_takes(&left, score, i)) ? a[i] : 0;
        }
        l->keep(x, n, &band);
        assert_memory_equal(x, wanted, n * sizeof *x);
        for (size_t i = 0; i < n; i++) {
            const double d = (double)narrow_a[i] - (double)narrow_b[i];
            const float score = fabsf(narrow_a[i] - narrow_b[i]);
            wanted[i] = apr_cutoff_takes(t, score, i) && !(both && apr_cutoff_takes(&left, score, i)) ? -0.3 * d : 0;
        }
        assert_true(l->change(narrow_a, narrow_b, n, &band, -0.3, x));
        assert_memory_equal(x, wanted, n * sizeof *x);
    }
}

static void what_a_cutoff_takes_stays(void **state)
{
    (void)state;
    at_every_level(check_keeping);
}

static void check_voting(const struct loops *l, size_t n)
{
    static const double weight[3] = { 0.5, 0.3, -0.3 };
    for (size_t nv = 1; nv <= 3; nv++)
        for (unsigned normalize = 0; normalize < 2; normalize++) {
            double out[MOST], wanted[MOST];
            for (size_t i = 0; i < n; i++) {
                double sum = 0, share = 0;
                wanted[i] = 0;
                for (size_t k = 0; k < nv; k++)
                    sum += v[k * n + i];
                for (size_t k = 0; k < nv; k++)
                    if (sum >= 0 ? v[k * n + i] > 0 : v[k * n + i] < 0) {
                        wanted[i] += v[k * n + i];
                        share += weight[k];
                    }
                if (normalize && share != 0)
                    wanted[i] /= share;
            }
            l->vote(v, nv, weight, normalize, n, out);
            assert_memory_equal(out, wanted, n * sizeof *out);
        }
}

static void the_majority_of_signs_is_summed(void **state)
{
    (void)state;
    at_every_level(check_voting);
}

static double folded(double lane[16])
{
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t k = 0; k < half; k++)
            lane[k] += lane[k + half];
    return lane[0];
}

static void check_sums(const struct loops *l, size_t n)
{
    double lane[16] = { 0 }, magnitude[16] = { 0 };
    uint64_t number = 0;
    for (size_t i = 0; i < n; i++) {
        const double product = a[i] * b[i];
        lane[i % 16] += product;
        magnitude[i % 16] += fabs(a[i]);
        number += a[i] != 0;
    }
    assert_true(l->dot(a, b, n) == folded(lane));
    assert_true(l->sum_of_magnitudes(a, n) == folded(magnitude));
    assert_int_equal(l->count(a, n), number);
}

static void sums_have_sixteen_lanes(void **state)
{
    (void)state;
    at_every_level(check_sums);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_widened_rounded_and_compared),
        cmocka_unit_test(one_value_that_is_not_finite_is_found_wherever_it_is),
        cmocka_unit_test(runs_are_subtracted_added_scaled_and_divided),
        cmocka_unit_test(what_a_cutoff_takes_stays),
        cmocka_unit_test(the_majority_of_signs_is_summed),
        cmocka_unit_test(sums_have_sixteen_lanes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
