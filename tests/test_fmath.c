/* lib/base/fmath.h against MPFR: 200,000 arguments in all, or with SLOW=1 in the environment ten million. */
#include "support.h"

#include <math.h>
#include <mpfr.h>

#include "base/fmath.h"

#define PRECISION 140 /* bits of what MPFR computes: to a double it is exact */

/* most: units in the last place between a result and the exact value. Below 1 it is one of the two doubles around that, so within a unit
 * of the nearest; a half is the nearest. What is subnormal was rounded twice, hence 0.8. */
static const struct function {
    const char *name;
    double    (*ours)(double);
    int       (*exact)(mpfr_t, const mpfr_t, mpfr_rnd_t);
    double      most, range[5][2];
} functions[] = {
    { "exp", apr_exp, mpfr_exp, 0.8, { { -1, 1 }, { -0.01, 0.01 }, { -30, 30 }, { -746, 710 }, { -746, -708 } } },
    { "exp2", apr_exp2, mpfr_exp2, 0.8, { { -1, 1 }, { -0.01, 0.01 }, { -30, 30 }, { -1076, 1025 }, { -1076, -1021 } } },
    { "log", apr_log, mpfr_log, 0.501, { { 0.5, 2 }, { 0.99, 1.01 }, { 0, 1e6 }, { 0, 1e308 }, { 0, 0x1p-1020 } } },
    { "log10", apr_log10, mpfr_log10, 0.501, { { 0.5, 2 }, { 0.99, 1.01 }, { 0, 1e10 }, { 0, 1e308 }, { 0, 0x1p-1020 } } },
    { "log1p", apr_log1p, mpfr_log1p, 0.501, { { -1, 2 }, { -0.01, 0.01 }, { -1, -0.99 }, { 0, 1e20 }, { -1e-15, 1e-15 } } },
    { "sin", apr_sin, mpfr_sin, 0.6, { { -1, 1 }, { -10, 10 }, { -1e6, 1e6 }, { -1e22, 1e22 }, { -1e-6, 1e-6 } } },
    { "cos", apr_cos, mpfr_cos, 0.6, { { -1, 1 }, { -10, 10 }, { -1e6, 1e6 }, { -1e22, 1e22 }, { -1e-6, 1e-6 } } },
    { "tanh", apr_tanh, mpfr_tanh, 0.6, { { -1, 1 }, { -0.01, 0.01 }, { -4, 4 }, { -22, 22 }, { -1e-7, 1e-7 } } },
    { "erf", apr_erf, mpfr_erf, 0.8, { { -0.5, 0.5 }, { -1, 1 }, { 0.4, 2.5 }, { -6.1, 6.1 }, { -1e-6, 1e-6 } } },
};

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint64_t random_bits(void)
{
    static uint64_t seed = 1;
    uint64_t bits = 0;
    for (unsigned half = 0; half < 2; half++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        bits = bits << 32 | seed >> 32;
    }
    return bits;
}

static double random_pattern(void)
{
    const uint64_t bits = random_bits();
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What MPFR says, and how far from it we are. */
struct answer {
    double want, off;
};

static struct answer compare(const struct function *f, double x, double got)
{
    MPFR_DECL_INIT(argument, 53);
    MPFR_DECL_INIT(exact, PRECISION);
    mpfr_set_d(argument, x, MPFR_RNDN);
    f->exact(exact, argument, MPFR_RNDN);
    struct answer a = { mpfr_get_d(exact, MPFR_RNDN), 0 };
    if (isnan(a.want) || isnan(got) || isinf(a.want) || isinf(got) || a.want == 0) {
        a.off = isnan(a.want) ? !isnan(got) : bits_of(a.want) != bits_of(got);
        return a;
    }
    mpfr_sub_d(exact, exact, got, MPFR_RNDN);
    mpfr_mul_2si(exact, exact, fabs(a.want) < 0x1p-1022 ? 1074 : 52 - ilogb(a.want), MPFR_RNDN);
    a.off = fabs(mpfr_get_d(exact, MPFR_RNDN));
    return a;
}

/* Returns how far off. */
static double expect_close(const struct function *f, double x)
{
    const double got = f->ours(x);
    const struct answer a = compare(f, x, got);
    if (!(a.off <= f->most))
        fail_msg("%s(%a) is %a, not %a: %g units off", f->name, x, got, a.want, a.off);
    return a.off;
}

static void every_result_is_within_a_unit_of_the_nearest(void **state)
{
    (void)state;
    const size_t nrange = APR_LENGTH(functions->range);
    const unsigned all = getenv("SLOW") != NULL ? 10000000 : 200000, each = all / APR_LENGTH(functions) + 1;
    for (const struct function *f = functions; f < functions + APR_LENGTH(functions); f++) {
        double worst = 0;
        unsigned next = 0;
        for (unsigned i = 0; i < each; i++) {
            const double *const range = f->range[i % nrange], part = (double)(random_bits() >> 11) * 0x1p-53;
            const double off = expect_close(f, i % 3 == 0 ? random_pattern() : range[0] + (range[1] - range[0]) * part);
            worst = off > worst ? off : worst;
            next += off > 0.5;
        }
        print_message("%-5s %u arguments: at most %.4f units off, %u are not the nearest double\n", f->name, each, worst, next);
    }
}

/* Where ranges end, methods change or the exact value is a double, and the doubles on both sides. */
static void the_ends_of_the_range_are_ieee(void **state)
{
    (void)state;
    static const double edges[] = {
        0, 0x1p-1074, 0x1p-1022, 0x1p-969, 0x1p-54, 0x1p-53, 0x1p-28, 0x1p-27, 0.0625, 0.125, 0.3465735902799726, 0.5, 0.70710678118654752,
        0.75, 1, 1.41421356237309505, 2, 3, 5.875, 5.9375, 6, 8, 10, 19.0615, 20, 22, 100, 1000, 1e5, 1e10, 1e15, 0x1p52, 0x1p53, 1e22,
        0x1p63, 0x1p64, 1e100, 1e300, 0x1p1023, 0x1.fffffffffffffp+1023, INFINITY, 708.3964185322641, 709.782712893384, 710,
        745.1332191019411, 746, 1022, 1023, 1024, 1074, 1075, 1076, 0.1, 0.001, 1e-5, 1e-10, 1e-300,
    };
    for (const struct function *f = functions; f < functions + APR_LENGTH(functions); f++)
        for (size_t i = 0; i < APR_LENGTH(edges); i++) {
            const double x[] = { edges[i], nextafter(edges[i], INFINITY), nextafter(edges[i], -INFINITY) };
            for (size_t k = 0; k < APR_LENGTH(x); k++) {
                expect_close(f, x[k]);
                expect_close(f, -x[k]);
            }
        }
}

/* The doubles next to multiples of pi / 2, where nearly all bits of the argument cancel; 6381956970095103 * 2^797 comes closest of all. */
static void angles_next_to_a_zero_keep_all_their_bits(void **state)
{
    (void)state;
    MPFR_DECL_INIT(angle, 2000);
    const struct function *const sine = &functions[5], *const cosine = &functions[6];
    for (int width = 1; width < 1023; width++)
        for (unsigned i = 0; i < 8; i++) {
            const int known = width < 53 ? width : 53;
            mpfr_const_pi(angle, MPFR_RNDN);
            mpfr_mul_ui(angle, angle, random_bits() >> (64 - known), MPFR_RNDN);
            mpfr_mul_2si(angle, angle, width - known - 1, MPFR_RNDN);
            const double x = mpfr_get_d(angle, MPFR_RNDN);
            expect_close(sine, x);
            expect_close(cosine, x);
        }
    expect_close(sine, ldexp(6381956970095103, 797));
    expect_close(cosine, ldexp(6381956970095103, 797));
}

static void what_is_a_double_is_hit(void **state)
{
    (void)state;
    double power = 1;
    for (int n = 0; n <= 22; n++, power *= 10)
        assert_true(apr_log10(power) == n);
    for (int n = -1074; n < 1024; n++)
        assert_true(apr_exp2(n) == ldexp(1, n));
}

/* PyTorch 2.15's torch.exp, which is not always the nearest float: the first two dozen are where it is the other one. */
static void exp_of_floats_is_that_of_pytorch(void **state)
{
    (void)state;
    static const float rows[][2] = {
        { -0x1.608bfep-3f, 0x1.af0838p-1f }, { -0x1.69d628p-1f, 0x1.f91a08p-2f }, { 0x1.a9d616p-1f, 0x1.260c32p+1f },
        { 0x1.774824p+1f, 0x1.2c356ap+4f }, { 0x1.6f0e9p+1f, 0x1.19865cp+4f }, { -0x1.64df9p-1f, 0x1.fe059ap-2f },
        { -0x1.49820cp+0f, 0x1.1aaf36p-2f }, { 0x1.5cc22p+0f, 0x1.f3e132p+1f }, { -0x1.753c32p+1f, 0x1.bba3e4p-5f },
        { -0x1.6401d8p+1f, 0x1.fb8e56p-5f }, { 0x1.56108ap+1f, 0x1.cf2e1p+3f }, { 0x1.d0e02ep-1f, 0x1.3d586ap+1f },
        { -0x1.064fccp+1f, 0x1.07d4bep-3f }, { 0x1.3f74fep+0f, 0x1.bdd138p+1f }, { 0x1.2902d6p+1f, 0x1.45c064p+3f },
        { -0x1.02d698p-4f, 0x1.e0a574p-1f }, { -0x1.28552ap+1f, 0x1.948198p-4f }, { -0x1.2f376p+1f, 0x1.7f53cp-4f },
        { -0x1.732c56p+1f, 0x1.c2d83cp-5f }, { 0x1.64bb86p+0f, 0x1.01d908p+2f }, { 0x1.1d09eep+0f, 0x1.85bbc4p+1f },
        { 0x1.512efcp-1f, 0x1.ee984cp+0f }, { -0x1.c0d52ep-3f, 0x1.9b3c8p-1f }, { -0x1.4f9e86p-5f, 0x1.eb729ap-1f }, { 0, 0x1p+0f },
        { -0, 0x1p+0f }, { 0x1p+0f, 0x1.5bf0a8p+1f }, { -0x1p+0f, 0x1.78b564p-2f }, { 0x1p-1f, 0x1.a61298p+0f },
        { 0x1.5798eep-27f, 0x1p+0f }, { -0x1.5798eep-27f, 0x1p+0f }, { 0x1.62e43p+1f, 0x1p+4f }, { 0x1.6p+6f, 0x1.f1056ep+126f },
        { 0x1.62e43p+6f, INFINITY }, { 0x1.62e43p+6f, INFINITY }, { 0x1.62eb86p+6f, INFINITY }, { -0x1.5cp+6f, 0x1.666d0ep-126f },
        { -0x1.5d999ap+6f, 0x1.e085p-127f }, { -0x1.7cp+6f, 0x1.ec8p-138f }, { -0x1.9cp+6f, 0x1p-149f }, { -0x1.9fe148p+6f, 0x1p-149f },
        { -0x1.9feb86p+6f, 0 }, { -0x1.a2p+6f, 0 }, { 0x1.66p+6f, INFINITY }, { 0x1.93e594p+99f, INFINITY }, { -0x1.93e594p+99f, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (apr_exp_float(rows[i][0]) != rows[i][1])
            fail_msg("exp(%a) is %a, not %a", (double)rows[i][0], (double)apr_exp_float(rows[i][0]), (double)rows[i][1]);
    assert_true(isnan(apr_exp_float(NAN)) && apr_exp_float(INFINITY) == INFINITY && apr_exp_float(-INFINITY) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_result_is_within_a_unit_of_the_nearest),
        cmocka_unit_test(the_ends_of_the_range_are_ieee),
        cmocka_unit_test(angles_next_to_a_zero_keep_all_their_bits),
        cmocka_unit_test(what_is_a_double_is_hit),
        cmocka_unit_test(exp_of_floats_is_that_of_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
