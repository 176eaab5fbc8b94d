#include "flow/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define STACK_BYTES (1 << 20)
#define LINE        64   /* bytes that threads do not share */
#define SPINS       4000 /* looks before a thread sleeps: some 50 us, more than what lies between two helpings of a decode step */

struct worker {
    struct apr_team *team;
    unsigned         number;
    pthread_t        thread;
    void            *scratch;
};

/* A helping is there while `left` is not 0. Whoever takes one of its tasks, by counting `left` down, may read what it is: it does not end
 * before that task is done. So one who comes late, from an earlier helping, takes part in the next as well as any other.
 *   left        tasks that nobody has taken
 *   unfinished  tasks that are not done
 *   sleeping    workers that wait for `work`; awaited: the caller waits for `done` */
struct apr_team {
    _Alignas(LINE) _Atomic size_t left;
    _Alignas(LINE) _Atomic size_t unfinished;
    _Alignas(LINE) _Atomic unsigned sleeping;
    _Atomic bool    awaited, stop;
    apr_task_fn    *task;
    void           *ctx;
    size_t          ntask, room, common_bytes;
    void           *common;
    struct worker  *worker;
    unsigned        n;
    pthread_mutex_t lock;
    pthread_cond_t  work, done;
};

static void relax(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* ---- helpings ------------------------------------------------------------------------------------------------------- */

static void finish(struct apr_team *t)
{
    if (atomic_fetch_sub(&t->unfinished, 1) > 1 || !atomic_load(&t->awaited))
        return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_signal(&t->done);
    pthread_mutex_unlock(&t->lock);
}

/* Does what is left of the helping, if there is one. */
static void help(struct apr_team *t, unsigned number)
{
    size_t left = atomic_load(&t->left);
    while (left > 0)
        if (atomic_compare_exchange_weak(&t->left, &left, left - 1)) {
            t->task(t->ctx, t->ntask - left, number);
            finish(t);
            left = atomic_load(&t->left);
        }
}

static void wait_for_work(struct apr_team *t)
{
    for (unsigned i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&t->left, memory_order_relaxed) > 0)
            return;
        relax();
    }
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->sleeping, 1);
    while (atomic_load(&t->left) == 0 && !atomic_load(&t->stop))
        pthread_cond_wait(&t->work, &t->lock);
    atomic_fetch_sub(&t->sleeping, 1);
    pthread_mutex_unlock(&t->lock);
}

static void *work(void *argument)
{
    const struct worker *const w = argument;
    while (!atomic_load(&w->team->stop)) {
        help(w->team, w->number);
        wait_for_work(w->team);
    }
    return NULL;
}

static void wake(struct apr_team *t)
{
    pthread_mutex_lock(&t->lock);
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
}

static void await(struct apr_team *t)
{
    for (unsigned i = 0; i < SPINS; i++) {
        if (atomic_load(&t->unfinished) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->awaited, true);
    while (atomic_load(&t->unfinished) > 0)
        pthread_cond_wait(&t->done, &t->lock);
    atomic_store(&t->awaited, false);
    pthread_mutex_unlock(&t->lock);
}

void apr_team_do(struct apr_team *t, size_t n, apr_task_fn *task, void *ctx)
{
    if (n < 2 || t->n == 1) {
        for (size_t i = 0; i < n; i++)
            task(ctx, i, 0);
        return;
    }
    t->task = task;
    t->ctx = ctx;
    t->ntask = n;
    atomic_store(&t->unfinished, n);
    atomic_store(&t->left, n);
    if (atomic_load(&t->sleeping) > 0)
        wake(t);
    help(t, 0);
    await(t);
}

/* ---- the team ------------------------------------------------------------------------------------------------------- */

/* Those that can be started, from worker 1 on: the calling thread is worker 0. */
static void start(struct apr_team *t, unsigned threads)
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK_BYTES);
    for (t->n = 1; t->n < threads; t->n++) {
        struct worker *const w = &t->worker[t->n];
        *w = (struct worker){ .team = t, .number = t->n };
        if (pthread_create(&w->thread, &small, work, w) != 0)
            break;
    }
    pthread_attr_destroy(&small);
}

enum apr_code apr_team_new(struct apr_team **out, unsigned threads, struct apr_error *e)
{
    struct apr_team *const t = aligned_alloc(LINE, sizeof *t);
    struct worker *const worker = calloc(threads > 0 ? threads : 1, sizeof *worker);
    if (t == NULL || worker == NULL) {
        free(t);
        free(worker);
        return apr_no_memory(e);
    }
    *t = (struct apr_team){ .worker = worker };
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->done, NULL);
    start(t, threads);
    *out = t;
    return APR_OK;
}

void apr_team_free(struct apr_team *t)
{
    if (t == NULL)
        return;
    atomic_store(&t->stop, true);
    wake(t);
    for (unsigned i = 1; i < t->n; i++)
        pthread_join(t->worker[i].thread, NULL);
    for (unsigned i = 0; i < t->n; i++)
        free(t->worker[i].scratch);
    pthread_cond_destroy(&t->done);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
    free(t->common);
    free(t->worker);
    free(t);
}

unsigned apr_team_size(const struct apr_team *t) { return t->n; }

/* ---- memory --------------------------------------------------------------------------------------------------------- */

/* At least n bytes in the stead of those at *at, and a quarter more, so that what grows step by step does not move at each. */
static bool grow(void **at, size_t *room, size_t n)
{
    uint64_t bytes;
    if (!apr_add(n, n / 4 + 1, &bytes) || !apr_round_up(bytes, LINE, &bytes))
        return false;
    free(*at);
    *at = aligned_alloc(LINE, bytes);
    *room = *at != NULL ? bytes : 0;
    return *at != NULL;
}

bool apr_team_room(struct apr_team *t, size_t n)
{
    if (n < t->room)
        return true;
    size_t room = 0;
    bool all = true;
    for (unsigned i = 0; i < t->n; i++)
        all &= grow(&t->worker[i].scratch, &room, n);
    t->room = all ? room : 0;
    return all;
}

void *apr_team_scratch(struct apr_team *t, unsigned worker) { return t->worker[worker].scratch; }

void *apr_team_common(struct apr_team *t, size_t n)
{
    return n < t->common_bytes || grow(&t->common, &t->common_bytes, n) ? t->common : NULL;
}
