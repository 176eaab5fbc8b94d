#include "base/parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define STACK_BYTES (1 << 20)

/* A ring of slots. Item i uses slot i % nslot; `state` of a slot says whose turn it is:
 *   2 * lap      free for the item of that lap (i / nslot)
 *   2 * lap + 1  made, waiting to be taken
 * so that a maker waits for the taker to have freed its slot, and the taker for the maker to have filled it. */
struct slot {
    uint64_t         turn;
    enum apr_code    code;
    struct apr_error error;
};

struct ordered {
    uint64_t         n;
    size_t           nslot, slot_bytes;
    apr_make_fn     *make;
    void            *ctx;
    struct slot     *slot;
    unsigned char   *memory;
    _Atomic uint64_t next;
    _Atomic bool     stop;
    pthread_mutex_t  lock;
    pthread_cond_t   freed, filled;
};

static void *memory_of(const struct ordered *o, uint64_t i) { return o->memory + (size_t)(i % o->nslot) * o->slot_bytes; }

static void *maker(void *argument)
{
    struct ordered *o = argument;
    for (;;) {
        const uint64_t i = atomic_fetch_add(&o->next, 1);
        if (i >= o->n)
            return NULL;
        struct slot *s = &o->slot[i % o->nslot];
        const uint64_t turn = 2 * (i / o->nslot);
        pthread_mutex_lock(&o->lock);
        while (s->turn != turn && !o->stop)
            pthread_cond_wait(&o->freed, &o->lock);
        pthread_mutex_unlock(&o->lock);
        if (o->stop)
            return NULL;
        s->code = o->make(o->ctx, i, memory_of(o, i), &s->error);
        pthread_mutex_lock(&o->lock);
        s->turn = turn + 1;
        pthread_cond_signal(&o->filled);
        pthread_mutex_unlock(&o->lock);
    }
}

static enum apr_code take_all(struct ordered *o, apr_take_fn *take, struct apr_error *e)
{
    for (uint64_t i = 0; i < o->n; i++) {
        struct slot *s = &o->slot[i % o->nslot];
        const uint64_t turn = 2 * (i / o->nslot) + 1;
        pthread_mutex_lock(&o->lock);
        while (s->turn != turn)
            pthread_cond_wait(&o->filled, &o->lock);
        pthread_mutex_unlock(&o->lock);
        if (s->code != APR_OK) {
            *e = s->error;
            return s->code;
        }
        APR_TRY(take(o->ctx, i, memory_of(o, i), e));
        pthread_mutex_lock(&o->lock);
        s->turn = turn + 1;
        pthread_cond_broadcast(&o->freed);
        pthread_mutex_unlock(&o->lock);
    }
    return APR_OK;
}

static enum apr_code one_thread(uint64_t n, void *slot, apr_make_fn *make, apr_take_fn *take, void *ctx, struct apr_error *e)
{
    for (uint64_t i = 0; i < n; i++) {
        APR_TRY(make(ctx, i, slot, e));
        APR_TRY(take(ctx, i, slot, e));
    }
    return APR_OK;
}

enum apr_code apr_ordered(const struct apr_run *r, uint64_t n, size_t slot_bytes, apr_make_fn *make, apr_take_fn *take, void *ctx,
                          struct apr_error *e)
{
    const size_t nthreads = (size_t)apr_min(r->threads, n);
    struct ordered o = { .n = n, .make = make, .ctx = ctx, .slot_bytes = slot_bytes / 64 * 64 + 64 };
    if (n == 0)
        return APR_OK;
    o.nslot = nthreads == 1 ? 1 : 2 * nthreads;
    o.memory = aligned_alloc(64, o.nslot * o.slot_bytes);
    o.slot = calloc(o.nslot, sizeof *o.slot);
    pthread_t *thread = malloc(nthreads * sizeof *thread);
    enum apr_code code = APR_OK;
    if (o.memory == NULL || o.slot == NULL || thread == NULL) {
        code = apr_no_memory(e);
    } else if (nthreads == 1) {
        code = one_thread(n, o.memory, make, take, ctx, e);
    } else {
        size_t started = 0;
        pthread_attr_t small;
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, STACK_BYTES);
        pthread_mutex_init(&o.lock, NULL);
        pthread_cond_init(&o.freed, NULL);
        pthread_cond_init(&o.filled, NULL);
        while (started < nthreads && pthread_create(&thread[started], &small, maker, &o) == 0)
            started++;
        code = started > 0 ? take_all(&o, take, e) : apr_fail(e, APR_EIO, APR_NOWHERE, "cannot start a thread");
        pthread_mutex_lock(&o.lock);
        o.stop = true;
        pthread_cond_broadcast(&o.freed);
        pthread_mutex_unlock(&o.lock);
        for (size_t i = 0; i < started; i++)
            pthread_join(thread[i], NULL);
        pthread_attr_destroy(&small);
        pthread_cond_destroy(&o.filled);
        pthread_cond_destroy(&o.freed);
        pthread_mutex_destroy(&o.lock);
    }
    free(thread);
    free(o.slot);
    free(o.memory);
    return code;
}
