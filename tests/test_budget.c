/* lib/flow/budget.c: its choices are as good as those of trying all, and near the bound where that would take forever. */
#include "support.h"

#include <math.h>
#include <time.h>

#include "flow/budget.h"

/* ---- trying all ----------------------------------------------------------------------------------------------------- */

/* The least error of all choices within the limits, INFINITY when there is none. */
static double least_of_all(const struct apr_budget *b, uint64_t least, size_t item, uint64_t bytes, double error)
{
    double best = INFINITY;
    if (bytes > b->most)
        return INFINITY;
    if (item == b->nitem)
        return bytes >= least ? error : INFINITY;
    for (size_t j = 0; j < b->noffer; j++) {
        const struct apr_offer *const o = &b->offer[item * b->noffer + j];
        if (!isnan(o->error) && !isinf(o->error))
            best = fmin(best, least_of_all(b, least, item + 1, bytes + o->bytes, error + o->error));
    }
    return best;
}

/* Offers like those of tensors (more bytes, less error), or of no order at all; some are absent. */
static void draw(struct apr_offer *o, size_t nitem, size_t noffer, bool wild)
{
    for (size_t i = 0; i < nitem; i++) {
        const uint64_t size = 1 + test_random(40);
        const double scale = (double)(1 + test_random(1000));
        for (size_t j = 0; j < noffer; j++) {
            struct apr_offer *const x = &o[i * noffer + j];
            x->bytes = wild ? test_random(60) : size * (j + 2) + test_random(3);
            x->error = wild ? (double)test_random(50) : scale * pow(0.4, (double)j) * (1 + (double)test_random(100) / 400);
            if (j > 0 && test_random(8) == 0)
                x->error = test_random(2) == 0 ? NAN : INFINITY;
        }
    }
}

static struct apr_spent spend(const struct apr_budget *b, size_t *choice)
{
    struct apr_spent s = { 0 };
    struct apr_error e;
    uint64_t bytes = 0;
    double error = 0;
    assert_int_equal(apr_budget_spend(b, choice, &s, &e), APR_OK);
    for (size_t i = 0; i < b->nitem; i++) {
        assert_true(choice[i] < b->noffer);
        bytes += b->offer[i * b->noffer + choice[i]].bytes;
        error += b->offer[i * b->noffer + choice[i]].error;
    }
    assert_int_equal(s.bytes, bytes);
    assert_true(s.error == error && isfinite(error));
    assert_true(bytes <= b->most && s.bound <= error);
    return s;
}

static bool is_near(double a, double b) { return fabs(a - b) <= 1e-12 * (1 + fabs(a)); }

static void small_budgets_are_spent_as_well_as_can_be(void **state)
{
    (void)state;
    for (size_t round = 0; round < 4000; round++) {
        struct apr_offer offer[6 * 5];
        size_t choice[6];
        struct apr_budget b = { .offer = offer, .nitem = test_random(7), .noffer = 1 + test_random(5) };
        uint64_t low, high;
        draw(offer, b.nitem, b.noffer, round % 3 == 0);
        apr_budget_range(&b, &low, &high);
        b.most = low + test_random(high - low + 5);
        const struct apr_spent s = spend(&b, choice);
        assert_true(s.exact);
        if (!is_near(s.error, least_of_all(&b, 0, 0, 0, 0)))
            fail_msg("round %zu: error %g, but %g fits %llu bytes", round, s.error, least_of_all(&b, 0, 0, 0, 0),
                     (unsigned long long)b.most);
    }
}

/* A smaller choice stands where no other is found: it is never as good a target, but it is one. */
static void what_would_be_too_small_is_the_best_of_those_that_are_not(void **state)
{
    (void)state;
    size_t enlarged = 0;
    for (size_t round = 0; round < 4000; round++) {
        struct apr_offer offer[6 * 5];
        size_t choice[6];
        struct apr_budget b = { .offer = offer, .nitem = 1 + test_random(6), .noffer = 1 + test_random(5) };
        uint64_t low, high;
        draw(offer, b.nitem, b.noffer, round % 3 == 0);
        apr_budget_range(&b, &low, &high);
        b.most = low + test_random(high - low + 5);
        b.least = b.most - b.most / 50;
        const struct apr_spent s = spend(&b, choice);
        const double all = least_of_all(&b, 0, 0, 0, 0), within = least_of_all(&b, b.least, 0, 0, 0);
        assert_true(isinf(within) ? is_near(s.error, all) && s.bytes < b.least : s.bytes >= b.least);
        assert_true(isinf(within) || is_near(s.error, within));
        enlarged += isfinite(within) && within > all;
    }
    assert_true(enlarged > 100);
}

/* ---- many items ----------------------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Sizes like those of a model's tensors; bits per weight as those of the types; errors fall by 4 with each bit, more or less. */
static void draw_model(struct apr_offer *o, size_t nitem, size_t noffer)
{
    for (size_t i = 0; i < nitem; i++) {
        const uint64_t weights = (1 + test_random(64)) * 65536 + 256 * test_random(64);
        const double spread = (double)weights * (1 + (double)test_random(1000));
        for (size_t j = 0; j < noffer; j++) {
            const double bits = 1.5 + 0.75 * (double)j;
            o[i * noffer + j] = (struct apr_offer){ weights / 256 * (uint64_t)(bits * 32), spread * pow(0.25, bits) *
                                                    (1 + (double)test_random(100) / 500) };
        }
    }
}

static void many_tensors_take_under_a_second_and_end_at_the_bound(void **state)
{
    (void)state;
    static const struct { size_t nitem; double gap; } row[] = { { 20, 0.05 }, { 300, 1e-3 }, { 10000, 1e-5 } };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        const size_t noffer = 16;
        struct apr_offer *const offer = calloc(row[i].nitem * noffer, sizeof *offer);
        size_t *const choice = calloc(row[i].nitem, sizeof *choice), *const again = calloc(row[i].nitem, sizeof *again);
        struct apr_budget b = { .offer = offer, .nitem = row[i].nitem, .noffer = noffer };
        assert_true(offer != NULL && choice != NULL && again != NULL);
        for (unsigned fill = 1; fill < 10; fill += 2) {
            uint64_t low, high;
            draw_model(offer, row[i].nitem, noffer);
            apr_budget_range(&b, &low, &high);
            b.most = low + (high - low) / 10 * fill;
            b.least = b.most - b.most / 100;
            const double start = seconds();
            const struct apr_spent s = spend(&b, choice);
            const double took = seconds() - start;
            if (s.error - s.bound > row[i].gap * s.bound || s.bytes < b.least)
                fail_msg("%zu items: error %g, bound %g; %llu of %llu bytes", row[i].nitem, s.error, s.bound,
                         (unsigned long long)s.bytes, (unsigned long long)b.most);
            if (took > 5) /* a tenth of that; slow machines and sanitizers are not the point */
                fail_msg("%zu items took %g s", row[i].nitem, took);
            spend(&b, again);
            assert_memory_equal(choice, again, row[i].nitem * sizeof *choice);
        }
        free(offer);
        free(choice);
        free(again);
    }
}

/* ---- edges ---------------------------------------------------------------------------------------------------------- */

static void ties_go_to_the_smaller_then_to_the_first(void **state)
{
    (void)state;
    static const struct apr_offer offer[] = { { 9, 1 }, { 5, 1 }, { 5, 1 }, { 5, 2 }, { 5, 0 }, { 6, 0 }, { 5, 0 }, { 4, 1 } };
    const struct apr_budget b = { .offer = offer, .nitem = 2, .noffer = 4, .most = 100 };
    size_t choice[2];
    const struct apr_spent s = spend(&b, choice);
    assert_int_equal(choice[0], 1);
    assert_int_equal(choice[1], 0);
    assert_true(s.exact && s.error == 1 && s.bound == 1);
}

static void what_nothing_fits_is_refused(void **state)
{
    (void)state;
    static const struct apr_offer offer[] = { { 10, 1 }, { 20, 0 }, { 7, NAN }, { 30, 1 }, { 7, INFINITY }, { 8, -1 },
                                              { UINT64_MAX - 1, 0 }, { UINT64_MAX - 1, 0 } };
    static const struct { size_t first, nitem; uint64_t most; enum apr_code code; uint64_t low, high; } row[] = {
        { 0, 2, 39, APR_EARG, 40, 50 },
        { 0, 2, 40, APR_OK, 40, 50 },
        { 0, 3, 1000, APR_EARG, UINT64_MAX, UINT64_MAX }, /* the third has no offer */
        { 6, 1, UINT64_MAX, APR_OK, UINT64_MAX - 1, UINT64_MAX - 1 },
        { 0, 0, 0, APR_OK, 0, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        const struct apr_budget b = { .offer = offer + row[i].first, .nitem = row[i].nitem, .noffer = 2, .most = row[i].most };
        struct apr_spent s;
        struct apr_error e;
        size_t choice[4];
        uint64_t low, high;
        apr_budget_range(&b, &low, &high);
        assert_int_equal(low, row[i].low);
        assert_int_equal(high, row[i].high);
        assert_int_equal(apr_budget_spend(&b, choice, &s, &e), row[i].code);
    }
    const struct apr_budget twice = { .offer = (const struct apr_offer[]){ { UINT64_MAX - 1, 0 }, { 2, 0 } }, .nitem = 2, .noffer = 1,
                                      .most = UINT64_MAX };
    struct apr_spent s;
    struct apr_error e;
    size_t choice[2];
    assert_int_equal(apr_budget_spend(&twice, choice, &s, &e), APR_EARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_budgets_are_spent_as_well_as_can_be),
        cmocka_unit_test(what_would_be_too_small_is_the_best_of_those_that_are_not),
        cmocka_unit_test(many_tensors_take_under_a_second_and_end_at_the_bound),
        cmocka_unit_test(ties_go_to_the_smaller_then_to_the_first),
        cmocka_unit_test(what_nothing_fits_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
