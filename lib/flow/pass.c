#include "flow/pass.h"

#include <pthread.h>
#include <stdlib.h>

#include "flow/window.h"
#include "ui/progress.h"

#define STACK_BYTES     (4 << 20) /* of address space: computed inputs stand on each other, some 200 KB each (eight adapters, a merge) */
#define SHARED_INPUTS   64
#define SHARED_ELEMENTS ((uint64_t)1 << 20)
#define LINE            64 /* bytes that threads do not share */

/* What is made in one go: a run of pieces of an input, or all pieces of `ninput` inputs. */
struct unit {
    struct apr_pieces pieces;
    size_t            ninput;
};

/* A unit on its way. nmade: of its inputs, before one failed. */
struct slot {
    struct unit      unit;
    bool             made;
    size_t           nmade;
    enum apr_code    code;
    struct apr_error error;
};

/* Units of inputs [input, end), in order: made by whoever is free, taken by number; unit i has slot i % nslot.
 *   input, first  where the next unit begins
 *   given, taken  units that were given to threads, that were taken
 *   here          no thread takes part: the taker makes them */
struct lane {
    struct slot   *slot;
    unsigned char *memory;
    size_t         input, end;
    unsigned       mode;
    uint64_t       first, given, taken;
    bool           here;
};

/* Under the lock: both lanes, but for what is in a slot, which belongs to whom it was given. */
struct apr_pass {
    const struct apr_job *job;
    const struct apr_run *run;
    size_t                nslot, slot_bytes, scratch_bytes;
    unsigned char        *scratch;
    struct lane           lane[2]; /* all inputs; one that is read again */
    bool                  stop;
    pthread_mutex_t       lock;
    pthread_cond_t        work, made;
};

enum { ALL, AGAIN };

/* ---- units ---------------------------------------------------------------------------------------------------------- */

/* How many inputs from the lane's next one on share a unit. */
static size_t inputs_of_unit(const struct apr_pass *p, const struct lane *l, struct apr_cut cut)
{
    uint64_t elements = 0;
    size_t n = 0;
    while (cut.elements <= SHARED_ELEMENTS - elements) {
        elements += cut.elements;
        if (++n == SHARED_INPUTS || l->input + n == l->end)
            break;
        cut = p->job->cut(p->job->ctx, l->input + n, l->mode);
    }
    return n > 0 ? n : 1;
}

/* The lane's next unit, if there is one; the lane moves on. */
static bool next_unit(const struct apr_pass *p, struct lane *l, struct unit *u)
{
    if (l->input == l->end)
        return false;
    const struct apr_cut cut = p->job->cut(p->job->ctx, l->input, l->mode);
    *u = (struct unit){ { l->input, l->mode, l->first, apr_min(cut.run, cut.npiece - l->first) }, 1 };
    if (p->job->shared > 0 && l->first == 0)
        u->ninput = inputs_of_unit(p, l, cut);
    l->first += u->pieces.n;
    if (u->ninput > 1 || l->first == cut.npiece) {
        l->input += u->ninput;
        l->first = 0;
    }
    return true;
}

/* The pieces of one of the unit's inputs. */
static struct apr_pieces pieces_of(const struct apr_pass *p, const struct unit *u, size_t i)
{
    struct apr_pieces pieces = u->pieces;
    pieces.input += i;
    if (u->ninput > 1)
        pieces.n = p->job->cut(p->job->ctx, pieces.input, pieces.mode).npiece;
    return pieces;
}

static struct slot *slot_of(const struct apr_pass *p, const struct lane *l, uint64_t unit) { return &l->slot[unit % p->nslot]; }

static void *result_of(const struct apr_pass *p, const struct lane *l, const struct slot *s, size_t i)
{
    return l->memory + (size_t)(s - l->slot) * p->slot_bytes + i * p->job->shared;
}

/* ---- making --------------------------------------------------------------------------------------------------------- */

/* A slot with the lane's next unit in it, or NULL: no slot is free, or nothing is left. */
static struct slot *give(struct apr_pass *p, struct lane *l)
{
    struct slot *s = slot_of(p, l, l->given);
    if (l->given - l->taken == p->nslot || !next_unit(p, l, &s->unit))
        return NULL;
    l->given++;
    s->made = false;
    return s;
}

static void make(struct apr_pass *p, const struct lane *l, struct slot *s, void *scratch)
{
    const struct apr_job *job = p->job;
    s->code = APR_OK;
    for (s->nmade = 0; s->nmade < s->unit.ninput && s->code == APR_OK; s->nmade += s->code == APR_OK) {
        const struct apr_pieces pieces = pieces_of(p, &s->unit, s->nmade);
        if (pieces.n > 0)
            s->code = job->make(job->ctx, &pieces, scratch, result_of(p, l, s, s->nmade), &s->error);
    }
}

/* The first one is that of the calling thread. */
static void *scratch_of(const struct apr_pass *p, size_t thread) { return p->scratch + thread * p->scratch_bytes; }

struct maker {
    struct apr_pass *pass;
    void            *scratch;
    pthread_t        thread;
};

static void *maker(void *argument)
{
    const struct maker *m = argument;
    struct apr_pass *p = m->pass;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        struct lane *l = &p->lane[AGAIN];
        struct slot *s = l->here ? NULL : give(p, l);
        if (s == NULL) {
            l = &p->lane[ALL];
            s = give(p, l);
        }
        if (s == NULL) {
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        make(p, l, s, m->scratch);
        pthread_mutex_lock(&p->lock);
        s->made = true;
        pthread_cond_signal(&p->made);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- taking --------------------------------------------------------------------------------------------------------- */

/* The lane's next unit when it is made, or NULL when all are taken. */
static struct slot *await(struct apr_pass *p, struct lane *l)
{
    struct slot *s = slot_of(p, l, l->taken);
    if (l->here) {
        if (give(p, l) == NULL)
            return NULL;
        make(p, l, s, scratch_of(p, 0));
        return s;
    }
    pthread_mutex_lock(&p->lock);
    while (l->taken == l->given ? l->input < l->end : !s->made)
        pthread_cond_wait(&p->made, &p->lock);
    const bool over = l->taken == l->given;
    pthread_mutex_unlock(&p->lock);
    return over ? NULL : s;
}

static enum apr_code take_input(struct apr_pass *p, const struct apr_pieces *pieces, const void *result, struct apr_error *e)
{
    const struct apr_job *job = p->job;
    if (pieces->n > 0)
        APR_TRY(job->take(job->ctx, pieces, result, e));
    if (pieces->mode > 0)
        return APR_OK;
    const struct apr_cut cut = job->cut(job->ctx, pieces->input, 0);
    const double share = cut.npiece > 0 ? (double)pieces->n / (double)cut.npiece : 1;
    apr_progress_add(p->run->progress, (uint64_t)((double)cut.bytes * share));
    const bool last = pieces->first + pieces->n == cut.npiece;
    return last && job->done != NULL ? job->done(job->ctx, p, pieces->input, e) : APR_OK;
}

static enum apr_code take_lane(struct apr_pass *p, struct lane *l, struct apr_error *e)
{
    for (struct slot *s; (s = await(p, l)) != NULL;) {
        for (size_t i = 0; i < s->nmade; i++) {
            const struct apr_pieces pieces = pieces_of(p, &s->unit, i);
            APR_TRY(take_input(p, &pieces, result_of(p, l, s, i), e));
        }
        if (s->code != APR_OK) {
            *e = s->error;
            return s->code;
        }
        pthread_mutex_lock(&p->lock);
        l->taken++;
        pthread_cond_signal(&p->work);
        pthread_mutex_unlock(&p->lock);
    }
    return APR_OK;
}

enum apr_code apr_pass_again(struct apr_pass *p, size_t input, unsigned mode, struct apr_error *e)
{
    struct lane *l = &p->lane[AGAIN];
    const struct apr_cut cut = p->job->cut(p->job->ctx, input, mode);
    if (cut.npiece == 0)
        return APR_OK;
    pthread_mutex_lock(&p->lock);
    l->here = p->lane[ALL].here || cut.npiece <= cut.run; /* not worth the waiting */
    l->input = input;
    l->end = input + 1;
    l->mode = mode;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    return take_lane(p, l, e);
}

/* ---- threads -------------------------------------------------------------------------------------------------------- */

/* As many as there are units for, and none for one. */
static size_t threads_wanted(const struct apr_pass *p)
{
    const size_t most = (size_t)apr_min(p->run->threads, APR_MOST_READERS);
    struct lane l = p->lane[ALL];
    struct unit u;
    size_t n = 0;
    while (n < most && next_unit(p, &l, &u))
        n++;
    return n > 1 ? n : 0;
}

static size_t lines(size_t bytes) { return (bytes / LINE + 1) * LINE; }

static void free_room(struct apr_pass *p)
{
    free(p->scratch);
    for (unsigned i = 0; i < APR_LENGTH(p->lane); i++) {
        free(p->lane[i].slot);
        free(p->lane[i].memory);
    }
}

static bool make_room(struct apr_pass *p, size_t nthread)
{
    const struct apr_job *job = p->job;
    const size_t shared = job->shared * SHARED_INPUTS;
    p->nslot = nthread > 0 ? 2 * nthread : 1;
    p->slot_bytes = lines(job->result > shared ? job->result : shared);
    p->scratch_bytes = lines(job->scratch);
    p->scratch = aligned_alloc(LINE, (nthread + 1) * p->scratch_bytes);
    bool room = p->scratch != NULL;
    for (unsigned i = 0; i < APR_LENGTH(p->lane); i++) {
        p->lane[i].slot = calloc(p->nslot, sizeof(struct slot));
        p->lane[i].memory = aligned_alloc(LINE, p->nslot * p->slot_bytes);
        room &= p->lane[i].slot != NULL && p->lane[i].memory != NULL;
    }
    if (!room)
        free_room(p);
    return room;
}

/* Starts up to n threads; returns how many there are. */
static size_t start(struct apr_pass *p, struct maker *thread, size_t n)
{
    size_t started = 0;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK_BYTES);
    for (bool begun = true; begun && started < n; started += begun) {
        struct maker *const m = &thread[started];
        *m = (struct maker){ .pass = p, .scratch = scratch_of(p, started + 1) };
        begun = pthread_create(&m->thread, &small, maker, m) == 0;
    }
    pthread_attr_destroy(&small);
    return started;
}

static void stop(struct apr_pass *p, const struct maker *thread, size_t n)
{
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < n; i++)
        pthread_join(thread[i].thread, NULL);
}

static enum apr_code run_threads(struct apr_pass *p, size_t n, struct apr_error *e)
{
    const struct apr_job *job = p->job;
    struct maker thread[APR_MOST_READERS];
    for (size_t i = 0; job->enter != NULL && i <= n; i++)
        job->enter(job->ctx, scratch_of(p, i));
    const size_t started = start(p, thread, n);
    if (started == 0)
        p->lane[ALL].here = true;
    const enum apr_code code = take_lane(p, &p->lane[ALL], e);
    stop(p, thread, started);
    for (size_t i = 0; job->leave != NULL && i <= n; i++)
        job->leave(job->ctx, scratch_of(p, i));
    return code;
}

enum apr_code apr_pass(const struct apr_run *r, const struct apr_job *job, struct apr_error *e)
{
    struct apr_pass p = { .job = job, .run = r, .lane[ALL].end = job->ninput };
    uint64_t bytes = 0;
    for (size_t i = 0; r->progress != NULL && i < job->ninput; i++)
        bytes += job->cut(job->ctx, i, 0).bytes;
    size_t n = threads_wanted(&p);
    while (!make_room(&p, n)) {
        if (n == 0)
            return apr_no_memory(e);
        n /= 2;
    }
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.work, NULL);
    pthread_cond_init(&p.made, NULL);
    apr_progress_begin(r->progress, job->what, bytes);
    const enum apr_code code = run_threads(&p, n, e);
    apr_progress_end(r->progress);
    pthread_cond_destroy(&p.made);
    pthread_cond_destroy(&p.work);
    pthread_mutex_destroy(&p.lock);
    free_room(&p);
    return code;
}
