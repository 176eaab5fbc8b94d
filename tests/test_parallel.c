/* lib/base/parallel.c: whatever the threads do, results and failures come in one order. */
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "base/parallel.h"

#define NEVER UINT64_MAX

/* What a loop is told to do, and what it saw. A test asserts behind the loop, for no assertion may leave it by longjmp. */
struct watch {
    size_t           slot_bytes;
    uint64_t         make_fails, take_fails; /* from this index on / at it */
    bool             low_is_slow;            /* the first failing item is made last */
    const struct apr_run *inner;             /* take runs a loop of its own */
    pthread_t        caller;
    _Atomic uint64_t made, live, most_live;
    _Atomic bool     made_by_caller, made_by_others;
    uint64_t         taken;
    bool             disorder, misaligned, damaged;
};

static unsigned char byte_of(uint64_t i, size_t k) { return (unsigned char)(31 * i + 7 * k + (i >> 8)); }

/* Some items take longer, so that they are finished out of order. */
static void dawdle(uint64_t turns)
{
    while (turns-- > 0)
        sched_yield();
}

static enum apr_code make(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    struct watch *w = ctx;
    const uint64_t live = atomic_fetch_add(&w->live, 1) + 1;
    for (uint64_t most = w->most_live; live > most && !atomic_compare_exchange_weak(&w->most_live, &most, live);)
        ;
    atomic_fetch_add(&w->made, 1);
    if (pthread_equal(pthread_self(), w->caller))
        w->made_by_caller = true;
    else
        w->made_by_others = true;
    dawdle(w->low_is_slow && i == w->make_fails ? 50 : i * 2654435761u % 5);
    for (size_t k = 0; k < w->slot_bytes; k++)
        ((unsigned char *)slot)[k] = byte_of(i, k);
    if (i < w->make_fails)
        return APR_OK;
    apr_fail(e, APR_ECORRUPT, i, "make %" PRIu64, i);
    apr_error_in(e, "a file");
    return APR_ECORRUPT;
}

static enum apr_code add(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    (void)e;
    *(uint64_t *)ctx = *(uint64_t *)ctx * 3 + i + *(const uint64_t *)slot;
    return APR_OK;
}

static enum apr_code put_index(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    (void)ctx, (void)e;
    *(uint64_t *)slot = i;
    return APR_OK;
}

static enum apr_code take(void *ctx, uint64_t i, void *slot, struct apr_error *e)
{
    struct watch *w = ctx;
    w->disorder |= i != w->taken++ || !pthread_equal(pthread_self(), w->caller);
    w->misaligned |= (uintptr_t)slot % 64 != 0;
    for (size_t k = 0; k < w->slot_bytes; k++)
        w->damaged |= ((const unsigned char *)slot)[k] != byte_of(i, k);
    if (w->inner != NULL) {
        uint64_t sum = 0, expected = 0;
        APR_TRY(apr_ordered(w->inner, 20, sizeof(uint64_t), put_index, add, &sum, e));
        for (uint64_t k = 0; k < 20; k++)
            expected = expected * 3 + 2 * k;
        w->damaged |= sum != expected;
    }
    atomic_fetch_sub(&w->live, 1);
    if (i == w->take_fails)
        return apr_fail(e, APR_EIO, i, "take %" PRIu64, i);
    return APR_OK;
}

static enum apr_code run(struct watch *w, unsigned threads, uint64_t n, struct apr_error *e)
{
    w->caller = pthread_self();
    const enum apr_code code = apr_ordered(test_run_with(threads), n, w->slot_bytes, make, take, w, e);
    assert_false(w->disorder);
    assert_false(w->misaligned);
    assert_false(w->damaged);
    assert_true(w->most_live <= (threads == 1 ? 1 : 2 * threads));
    return code;
}

static void results_are_taken_in_order(void **state)
{
    (void)state;
    static const unsigned threads[] = { 1, 2, 3, 8, 64 };
    static const uint64_t n[] = { 0, 1, 2, 7, 129, 600 };
    for (size_t t = 0; t < APR_LENGTH(threads); t++)
        for (size_t k = 0; k < APR_LENGTH(n); k++) {
            struct watch w = { .slot_bytes = 100, .make_fails = NEVER, .take_fails = NEVER };
            struct apr_error e;
            assert_int_equal(run(&w, threads[t], n[k], &e), APR_OK);
            assert_int_equal(w.made, n[k]);
            assert_int_equal(w.taken, n[k]);
            assert_int_equal(w.made_by_caller, n[k] > 0 && (threads[t] == 1 || n[k] == 1));
        }
}

static void slots_of_any_size_are_aligned_and_apart(void **state)
{
    (void)state;
    static const size_t bytes[] = { 0, 1, 63, 64, 65, 4096, 262143, 1 << 20 };
    for (size_t i = 0; i < APR_LENGTH(bytes); i++)
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct watch w = { .slot_bytes = bytes[i], .make_fails = NEVER, .take_fails = NEVER };
            struct apr_error e;
            assert_int_equal(run(&w, threads, 15, &e), APR_OK);
        }
}

static void the_lowest_failure_is_returned(void **state)
{
    (void)state;
    static const struct { uint64_t make_fails, take_fails; const char *text; enum apr_code code; uint64_t at, taken; } rows[] = {
        { 0, NEVER, "make 0", APR_ECORRUPT, 0, 0 },
        { 13, NEVER, "make 13", APR_ECORRUPT, 13, 13 },
        { 13, 12, "take 12", APR_EIO, 12, 13 },
        { 13, 13, "make 13", APR_ECORRUPT, 13, 13 },
        { 13, 14, "make 13", APR_ECORRUPT, 13, 13 },
        { NEVER, 0, "take 0", APR_EIO, 0, 1 },
        { NEVER, 99, "take 99", APR_EIO, 99, 100 },
        { 99, NEVER, "make 99", APR_ECORRUPT, 99, 99 },
    };
    static const unsigned threads[] = { 1, 2, 7, 20 };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (size_t t = 0; t < APR_LENGTH(threads); t++)
            for (unsigned again = 0; again < 8; again++) {
                struct watch w = { .slot_bytes = 8, .make_fails = rows[i].make_fails, .take_fails = rows[i].take_fails,
                                   .low_is_slow = again % 2 };
                struct apr_error e;
                assert_int_equal(run(&w, threads[t], 100, &e), rows[i].code);
                assert_int_equal(e.code, rows[i].code);
                assert_int_equal(e.at, rows[i].at);
                assert_string_equal(e.text, rows[i].text);
                assert_string_equal(e.file, rows[i].code == APR_ECORRUPT ? "a file" : "");
                assert_int_equal(w.taken, rows[i].taken);
            }
}

static void a_failure_stops_the_work(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 16; threads *= 4)
        for (unsigned in_take = 0; in_take < 2; in_take++) {
            struct watch w = { .slot_bytes = 8, .make_fails = in_take ? NEVER : 10, .take_fails = in_take ? 10 : NEVER };
            struct apr_error e;
            assert_int_equal(run(&w, threads, UINT64_C(1) << 40, &e), in_take ? APR_EIO : APR_ECORRUPT);
            assert_in_range(w.made, 11, 10 + 2 * threads);
        }
}

static void a_take_may_run_a_loop_of_its_own(void **state)
{
    (void)state;
    for (unsigned outer = 1; outer <= 4; outer++)
        for (unsigned inner = 1; inner <= 3; inner++) {
            struct watch w = { .slot_bytes = 8, .make_fails = NEVER, .take_fails = NEVER, .inner = test_run_with(inner + 4) };
            struct apr_error e;
            assert_int_equal(run(&w, outer, 12, &e), APR_OK);
            assert_int_equal(w.taken, 12);
        }
}

static void the_work_is_done_by_the_threads(void **state)
{
    (void)state;
    struct watch w = { .slot_bytes = 8, .make_fails = NEVER, .take_fails = NEVER };
    struct apr_error e;
    assert_int_equal(run(&w, 2, 50, &e), APR_OK);
    assert_true(w.made_by_others);
    assert_false(w.made_by_caller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_taken_in_order),
        cmocka_unit_test(slots_of_any_size_are_aligned_and_apart),
        cmocka_unit_test(the_lowest_failure_is_returned),
        cmocka_unit_test(a_failure_stops_the_work),
        cmocka_unit_test(a_take_may_run_a_loop_of_its_own),
        cmocka_unit_test(the_work_is_done_by_the_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
