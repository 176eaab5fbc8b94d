/* lib/flow/pass.c: whatever the threads do, results and failures come in one order, and what is read again comes in between. */
#include "support.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "flow/pass.h"
#include "flow/window.h"

#define NEVER UINT64_MAX

/* What a pass is told to do, and what it saw. A test asserts behind the pass, for no assertion may leave it by longjmp.
 *   kind   input i is cut as kind i % nkind
 *   again  done reads every third input again, so often, in as many pieces as the mode says */
struct watch {
    size_t                ninput, nkind, result, shared;
    const struct apr_cut *kind;
    uint64_t              make_fails, take_fails; /* from this place on (input * 1000 + piece) / at it */
    unsigned              again;
    uint64_t              again_pieces;
    bool                  low_is_slow;            /* the first piece that fails is made last */
    pthread_t             caller;
    _Atomic uint64_t      made, live, most_live, scratches;
    _Atomic bool          made_by_caller, made_by_others, damaged_scratch, made_again;
    uint64_t              taken, ntaken, ndone;   /* taken: of the input that is being taken */
    size_t                input;
    unsigned              mode;
    bool                  disorder, damaged;
};

struct own {
    uint64_t begun, ended;
    char     rest[100];
};

static unsigned char byte_of(const struct apr_pieces *p, size_t k)
{
    return (unsigned char)(31 * p->input + 7 * k + 3 * p->first + 101 * p->mode + p->n);
}

static uint64_t place_of(const struct apr_pieces *p) { return p->input * 1000 + p->first; }

/* Some pieces take longer, so that they are finished out of order. */
static void dawdle(uint64_t turns)
{
    while (turns-- > 0)
        sched_yield();
}

static struct apr_cut cut(void *ctx, size_t i, unsigned mode)
{
    const struct watch *w = ctx;
    if (mode > 0)
        return (struct apr_cut){ w->again_pieces, 2, 1, 0 };
    return w->kind[i % w->nkind];
}

static size_t bytes_of(const struct watch *w, const struct apr_pieces *p)
{
    const struct apr_cut c = cut((void *)(uintptr_t)w, p->input, p->mode);
    return w->shared > 0 && c.elements != APR_ALONE ? w->shared : w->result;
}

static enum apr_code make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    struct watch *w = ctx;
    struct own *own = scratch;
    const uint64_t live = atomic_fetch_add(&w->live, 1) + 1;
    for (uint64_t most = w->most_live; live > most && !atomic_compare_exchange_weak(&w->most_live, &most, live);)
        ;
    atomic_fetch_add(&w->made, p->n);
    if (pthread_equal(pthread_self(), w->caller))
        w->made_by_caller = true;
    else
        w->made_by_others = true;
    w->made_again |= p->mode > 0;
    w->damaged_scratch |= own->begun != own->ended || (uintptr_t)scratch % 64 != 0;
    own->begun++;
    dawdle(w->low_is_slow && place_of(p) == w->make_fails ? 50 : place_of(p) * 2654435761u % 5);
    own->ended++;
    for (size_t k = 0; k < bytes_of(w, p); k++)
        ((unsigned char *)result)[k] = byte_of(p, k);
    if (p->mode > 0 || place_of(p) < w->make_fails)
        return APR_OK;
    apr_fail(e, APR_ECORRUPT, place_of(p), "make %" PRIu64, place_of(p));
    apr_error_in(e, "a file");
    return APR_ECORRUPT;
}

static enum apr_code take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    struct watch *w = ctx;
    const struct apr_cut c = cut(w, p->input, p->mode);
    w->disorder |= p->input != w->input || p->mode != w->mode || p->first != w->taken || !pthread_equal(pthread_self(), w->caller) || p->n == 0 ||
                   p->first + p->n > c.npiece || (p->n > c.run && p->n != c.npiece);
    w->taken += p->n;
    w->ntaken += p->n;
    for (size_t k = 0; k < bytes_of(w, p); k++)
        w->damaged |= ((const unsigned char *)result)[k] != byte_of(p, k);
    atomic_fetch_sub(&w->live, 1);
    if (p->mode == 0 && place_of(p) == w->take_fails)
        return apr_fail(e, APR_EIO, place_of(p), "take %" PRIu64, place_of(p));
    return APR_OK;
}

static enum apr_code done(void *ctx, struct apr_pass *pass, size_t input, struct apr_error *e)
{
    struct watch *w = ctx;
    w->disorder |= input != w->input || w->taken != cut(w, input, 0).npiece;
    for (w->mode = 1; w->mode <= w->again && input % 3 == 0; w->mode++) {
        w->taken = 0;
        APR_TRY(apr_pass_again(pass, input, w->mode, e));
        w->disorder |= w->taken != w->again_pieces;
    }
    w->mode = 0;
    w->taken = 0;
    w->input++;
    w->ndone++;
    return APR_OK;
}

static void enter(void *ctx, void *scratch)
{
    struct watch *w = ctx;
    w->scratches++;
    *(struct own *)scratch = (struct own){ 0 };
}

static void leave(void *ctx, void *scratch)
{
    struct watch *w = ctx;
    (void)scratch;
    w->scratches--;
}

static enum apr_code run(struct watch *w, unsigned threads, struct apr_error *e)
{
    const struct apr_job job = { .what = "testing", .ctx = w, .ninput = w->ninput, .result = w->result, .shared = w->shared,
                                 .scratch = sizeof(struct own), .cut = cut, .make = make, .take = take, .done = done, .enter = enter,
                                 .leave = leave };
    w->caller = pthread_self();
    const enum apr_code code = apr_pass(test_run_with(threads), &job, e);
    assert_false(w->disorder);
    assert_false(w->damaged);
    assert_false(w->damaged_scratch);
    assert_int_equal(w->scratches, 0);
    const uint64_t slots = threads == 1 ? 2 : 4 * (uint64_t)(threads < APR_MOST_READERS ? threads : APR_MOST_READERS);
    assert_true(w->most_live <= slots * (w->shared > 0 ? 64 : 1));
    return code;
}

static const unsigned threads[] = { 1, 2, 3, 8, 64 };

/* Large and small, none at all, whole and cut into runs of several pieces. */
static const struct apr_cut one_piece[] = { { 1, 1, 5, 0 } };
static const struct apr_cut large[] = { { 7, 1, 1 << 19, 0 }, { 40, 16, APR_ALONE, 0 }, { 0, 1, 0, 0 }, { 1, 1, APR_ALONE, 0 } };
static const struct apr_cut mixed[] = { { 1, 1, 10, 0 },     { 3, 1, 70000, 0 },  { 1, 16, 0, 0 }, { 0, 1, 0, 0 },
                                        { 9, 4, 1 << 21, 0 }, { 5, 2, 900000, 0 }, { 1, 1, 1, 0 },  { 2, 1, APR_ALONE, 0 } };
static const struct { const struct apr_cut *kind; size_t n; } kinds[] = { { one_piece, 1 }, { large, 4 }, { mixed, 8 } };

static uint64_t pieces_in(const struct watch *w)
{
    uint64_t n = 0;
    for (size_t i = 0; i < w->ninput; i++)
        n += w->kind[i % w->nkind].npiece + (i % 3 == 0 ? w->again * w->again_pieces : 0);
    return n;
}

static void results_are_taken_in_order(void **state)
{
    (void)state;
    static const size_t ninput[] = { 0, 1, 2, 7, 129, 600 };
    for (size_t t = 0; t < APR_LENGTH(threads); t++)
        for (size_t i = 0; i < APR_LENGTH(ninput) * APR_LENGTH(kinds) * 2; i++) {
            const size_t k = i / 2 % APR_LENGTH(kinds);
            struct watch w = { .ninput = ninput[i / 2 / APR_LENGTH(kinds)], .nkind = kinds[k].n, .kind = kinds[k].kind, .result = 100,
                               .shared = i % 2 * 24, .make_fails = NEVER, .take_fails = NEVER };
            struct apr_error e;
            assert_int_equal(run(&w, threads[t], &e), APR_OK);
            assert_int_equal(w.made, pieces_in(&w));
            assert_int_equal(w.ntaken, pieces_in(&w));
            assert_int_equal(w.ndone, w.ninput);
        }
}

static void what_is_read_again_is_taken_before_the_next_input(void **state)
{
    (void)state;
    static const uint64_t pieces[] = { 0, 1, 2, 3, 61 };
    for (size_t t = 0; t < APR_LENGTH(threads); t++)
        for (size_t i = 0; i < APR_LENGTH(pieces) * APR_LENGTH(kinds) * 2; i++) {
            const size_t k = i / 2 % APR_LENGTH(kinds);
            struct watch w = { .ninput = 70, .nkind = kinds[k].n, .kind = kinds[k].kind, .result = 100, .shared = i % 2 * 24,
                               .make_fails = NEVER, .take_fails = NEVER, .again = 2, .again_pieces = pieces[i / 2 / APR_LENGTH(kinds)] };
            struct apr_error e;
            assert_int_equal(run(&w, threads[t], &e), APR_OK);
            assert_int_equal(w.made, pieces_in(&w));
            assert_int_equal(w.ntaken, pieces_in(&w));
            assert_int_equal(w.ndone, w.ninput);
        }
}

static void slots_of_any_size_are_apart(void **state)
{
    (void)state;
    static const size_t bytes[] = { 0, 1, 63, 64, 65, 4096, 262143, 1 << 20 };
    for (size_t i = 0; i < APR_LENGTH(bytes); i++)
        for (unsigned n = 1; n <= 3; n++) {
            struct watch w = { .ninput = 15, .nkind = 1, .kind = one_piece, .result = bytes[i], .shared = i < 6 ? bytes[i] : 0,
                               .make_fails = NEVER, .take_fails = NEVER, .again = 1, .again_pieces = 5 };
            struct apr_error e;
            assert_int_equal(run(&w, n, &e), APR_OK);
        }
}

static void small_inputs_share_a_unit_of_64(void **state)
{
    (void)state;
    static const struct { uint64_t elements; size_t shared; uint64_t live; } rows[] = {
        { 16384, 8, 64 }, { 16385, 8, 63 }, { 0, 8, 64 }, { 1 << 20, 8, 1 }, { APR_ALONE, 8, 1 }, { 16384, 0, 1 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_cut kind = { 1, 1, rows[i].elements, 0 };
        struct watch w = { .ninput = 640, .nkind = 1, .kind = &kind, .result = 8, .shared = rows[i].shared, .make_fails = NEVER,
                           .take_fails = NEVER };
        struct apr_error e;
        assert_int_equal(run(&w, 1, &e), APR_OK);
        assert_int_equal(w.most_live, rows[i].live); /* one slot */
    }
}

static void the_lowest_failure_is_returned(void **state)
{
    (void)state;
    static const struct { uint64_t make_fails, take_fails; const char *text; enum apr_code code; uint64_t at, taken; } rows[] = {
        { 0, NEVER, "make 0", APR_ECORRUPT, 0, 0 },
        { 13000, NEVER, "make 13000", APR_ECORRUPT, 13000, 13 },
        { 13000, 12000, "take 12000", APR_EIO, 12000, 13 },
        { 13000, 13000, "make 13000", APR_ECORRUPT, 13000, 13 },
        { 13000, 14000, "make 13000", APR_ECORRUPT, 13000, 13 },
        { NEVER, 0, "take 0", APR_EIO, 0, 1 },
        { NEVER, 99000, "take 99000", APR_EIO, 99000, 100 },
        { 99000, NEVER, "make 99000", APR_ECORRUPT, 99000, 99 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (size_t t = 0; t < APR_LENGTH(threads); t++)
            for (unsigned k = 0; k < 8; k++) {
                struct watch w = { .ninput = 100, .nkind = 1, .kind = one_piece, .result = 8, .shared = k / 2 % 2 * 8,
                                   .make_fails = rows[i].make_fails, .take_fails = rows[i].take_fails, .low_is_slow = k % 2 };
                struct apr_error e;
                assert_int_equal(run(&w, threads[t], &e), rows[i].code);
                assert_int_equal(e.code, rows[i].code);
                assert_int_equal(e.at, rows[i].at);
                assert_string_equal(e.text, rows[i].text);
                assert_string_equal(e.file, rows[i].code == APR_ECORRUPT ? "a file" : "");
                assert_int_equal(w.ntaken, rows[i].taken);
            }
}

static void a_failure_stops_the_work(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 16; n *= 4)
        for (unsigned in_take = 0; in_take < 2; in_take++) {
            static const struct apr_cut kind = { UINT64_C(1) << 40, 1, APR_ALONE, 0 };
            struct watch w = { .ninput = 1, .nkind = 1, .kind = &kind, .result = 8, .make_fails = in_take ? NEVER : 10,
                               .take_fails = in_take ? 10 : NEVER };
            struct apr_error e;
            assert_int_equal(run(&w, n, &e), in_take ? APR_EIO : APR_ECORRUPT);
            assert_in_range(w.made, 11, 10 + 2 * n);
        }
}

static void the_work_is_done_by_the_threads(void **state)
{
    (void)state;
    struct watch w = { .ninput = 50, .nkind = 1, .kind = one_piece, .result = 8, .make_fails = NEVER, .take_fails = NEVER, .again = 2,
                       .again_pieces = 50 };
    struct apr_error e;
    assert_int_equal(run(&w, 2, &e), APR_OK);
    assert_true(w.made_by_others && w.made_again);
    assert_false(w.made_by_caller);
    struct watch alone = { .ninput = 50, .nkind = 1, .kind = one_piece, .result = 8, .shared = 8, .make_fails = NEVER, .take_fails = NEVER };
    assert_int_equal(run(&alone, 2, &e), APR_OK); /* one unit needs no thread */
    assert_false(alone.made_by_others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_taken_in_order),
        cmocka_unit_test(what_is_read_again_is_taken_before_the_next_input),
        cmocka_unit_test(slots_of_any_size_are_apart),
        cmocka_unit_test(small_inputs_share_a_unit_of_64),
        cmocka_unit_test(the_lowest_failure_is_returned),
        cmocka_unit_test(a_failure_stops_the_work),
        cmocka_unit_test(the_work_is_done_by_the_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
