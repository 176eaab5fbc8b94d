/* Llama 3's scaling of rotary frequencies, there and back. The factors are those of transformers' function for rope_type "llama3": its
 * frequencies without scaling over those with it. */
#include "support.h"

#include "base/bytes.h"
#include "family/llama3.h"

#define MOST 16

static const struct {
    struct apr_llama3 s;
    double            context;
    uint64_t          n;
    float             factor[MOST];
} known[] = {
    { { 500000, 16, 32, 1, 4, 8192 }, 131072, 8, { 1, 1, 1, 1, 3.29226255f, 32, 32, 32 } },
    { { 10000, 16, 8, 1, 4, 8192 }, 131072, 8, { 1, 1, 1, 1, 1, 1, 4.68148184f, 8 } },
    /* none between the two: any context between two waves will do */
    { { 1000000, 8, 16, 1, 4, 64 }, 512, 4, { 1, 16, 16, 16 } },
    /* other bounds than the usual, of which only the relation is told */
    { { 10000, 32, 4, 2, 16, 512 }, 0, 16,
      { 1, 1, 1, 1.08796644f, 1.72593403f, 2.57505536f, 3.55994773f, 4, 4, 4, 4, 4, 4, 4, 4, 4 } },
    /* no wave is so long as to have the factor whole */
    { { 10000, 32, 8, 1, 4, 65536 }, 524288, 16, { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.25729311f, 2.67150855f } },
    { { 10000, 32, 8, 1, 4, 256 }, 2048, 16, { 1, 1, 1, 1, 1, 1.99363852f, 4.78183365f, 8, 8, 8, 8, 8, 8, 8, 8, 8 } },
};

static bool close(float a, float b) { return a >= b * (1 - 2e-6f) && a <= b * (1 + 2e-6f); }

static void gives(const struct apr_llama3 *s, const float *factor, uint64_t n, const char *what)
{
    for (uint64_t i = 0; i < n; i++)
        if (!close(apr_llama3_factor(s, i), factor[i]))
            fail_msg("%s: factor %u is %.9g, not %.9g", what, (unsigned)i, (double)apr_llama3_factor(s, i), (double)factor[i]);
}

static void factors_are_those_of_transformers(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(known); i++)
        gives(&known[i].s, known[i].factor, known[i].n, "there");
}

static void the_scaling_that_gives_some_factors_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(known); i++) {
        struct apr_llama3 s = { .theta = known[i].s.theta, .dims = known[i].s.dims };
        if (!apr_llama3_find(&s, known[i].factor, known[i].n, known[i].context))
            fail_msg("%zu: nothing found", i);
        gives(&s, known[i].factor, known[i].n, "back");
        if (known[i].s.high == 4 && i != 2)
            assert_true(s.original == known[i].s.original && s.factor == known[i].s.factor && s.low == 1 && s.high == 4);
    }
}

static void factors_of_no_scaling_are_refused(void **state)
{
    (void)state;
    static const float none[][4] = { { 1, 3, 2, 8 }, { 8, 8, 1, 1 }, { 1, -1, 8, 8 }, { 1, 0, 8, 8 }, { 1, 1, 1e30f, 8 } };
    for (size_t i = 0; i < APR_LENGTH(none); i++) {
        struct apr_llama3 s = { .theta = 10000, .dims = 8 };
        if (apr_llama3_find(&s, none[i], 4, 8192))
            fail_msg("%zu: factor %g, original %g", i, s.factor, s.original);
    }
    struct apr_llama3 s = { .theta = 10000, .dims = 8 };
    assert_false(apr_llama3_find(&s, none[0], 0, 8192));
    s = (struct apr_llama3){ .theta = 1, .dims = 8 };
    assert_false(apr_llama3_find(&s, known[2].factor, 4, 8192));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_are_those_of_transformers),
        cmocka_unit_test(the_scaling_that_gives_some_factors_is_found),
        cmocka_unit_test(factors_of_no_scaling_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
