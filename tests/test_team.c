/* lib/flow/team.c: every task is done once, whoever comes late, and memory is each worker's own. */
#include "support.h"

#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "flow/team.h"

#define MOST 3000u

/* What a helping sees. Assertions stand behind it, as no other thread may leave by longjmp. */
struct watch {
    struct apr_team *team;
    unsigned         done[MOST];
    uint64_t         sum; /* written by the caller before, read by tasks */
    uint64_t         got[MOST];
    _Atomic unsigned highest;
    bool             slow;
};

static void task(void *ctx, size_t i, unsigned worker)
{
    struct watch *const w = ctx;
    for (unsigned most = w->highest; worker > most && !atomic_compare_exchange_weak(&w->highest, &most, worker);)
        ;
    for (unsigned turn = 0; w->slow && turn < i % 7 * 3; turn++)
        sched_yield();
    w->done[i]++;
    w->got[i] = w->sum + i;
}

static struct apr_team *team_of(unsigned threads)
{
    struct apr_team *t;
    struct apr_error e;
    if (apr_team_new(&t, threads, &e) != APR_OK)
        fail_msg("%s", e.text);
    assert_in_range(apr_team_size(t), 1, threads > 0 ? threads : 1);
    return t;
}

static const unsigned threads[] = { 0, 1, 2, 3, 8, 33 };

static void every_task_is_done_once(void **state)
{
    (void)state;
    static struct watch w;
    for (size_t t = 0; t < APR_LENGTH(threads); t++) {
        struct apr_team *const team = team_of(threads[t]);
        for (unsigned helping = 0; helping < 600; helping++) {
            const size_t n = helping % 97 == 0 ? MOST : helping * 7 % 50;
            w = (struct watch){ .team = team, .sum = helping * 1000, .slow = helping % 20 == 1 };
            apr_team_do(team, n, task, &w);
            for (size_t i = 0; i < MOST; i++)
                if (w.done[i] != (i < n) || (i < n && w.got[i] != w.sum + i))
                    fail_msg("%u threads, helping %u: task %zu of %zu was done %u times", threads[t], helping, i, n, w.done[i]);
            assert_true(w.highest < apr_team_size(team));
            if (helping % 200 == 199)
                usleep(5000); /* so long that workers sleep */
        }
        apr_team_free(team);
    }
}

static void a_team_may_go_without_having_worked(void **state)
{
    (void)state;
    for (size_t t = 0; t < APR_LENGTH(threads); t++)
        apr_team_free(team_of(threads[t]));
    apr_team_free(NULL);
}

/* Where the worker writes, only it does. */
static void fill(void *ctx, size_t i, unsigned worker)
{
    struct watch *const w = ctx;
    memset(apr_team_scratch(w->team, worker), (int)worker, 1000);
    w->done[i] = *(unsigned char *)apr_team_scratch(w->team, worker) == worker;
}

static void workers_have_memory_of_their_own(void **state)
{
    (void)state;
    struct apr_team *const team = team_of(4);
    static struct watch w;
    w.team = team;
    assert_true(apr_team_room(team, 1000));
    for (unsigned i = 0; i < apr_team_size(team); i++)
        fill(&w, i, i);
    apr_team_do(team, 100, fill, &w);
    for (size_t i = 0; i < 100; i++)
        assert_true(w.done[i]);
    unsigned char *const common = apr_team_common(team, 3000);
    memset(common, 0xff, 3000);
    for (unsigned i = 0; i < apr_team_size(team); i++) {
        const unsigned char *const own = apr_team_scratch(team, i);
        assert_int_equal((uintptr_t)own % 64, 0);
        assert_int_equal(own[0], i);
        assert_int_equal(own[999], i);
    }
    assert_ptr_equal(apr_team_common(team, 2000), common);
    assert_true(apr_team_room(team, 10));
    assert_false(apr_team_room(team, SIZE_MAX - 100));
    assert_true(apr_team_room(team, 5000)); /* and it goes on */
    assert_non_null(apr_team_common(team, 5000));
    memset(apr_team_scratch(team, apr_team_size(team) - 1), 1, 5000);
    apr_team_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_is_done_once),
        cmocka_unit_test(a_team_may_go_without_having_worked),
        cmocka_unit_test(workers_have_memory_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
