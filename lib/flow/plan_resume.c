/* Going on with what a run before has written. The log of a partial file: | digest of the plan | a record for each finished piece | ... A
 * record is believed as far as the bytes it speaks of are there, so neither its order nor a torn end matters. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "flow/plan_writing.h"

static uint64_t check_of(const struct apr_logged *x)
{
    return apr_digest_of((struct apr_bytes){ (const unsigned char *)x, offsetof(struct apr_logged, check) }).low;
}

static void add(struct apr_digest *d, const void *bytes, size_t n)
{
    *d = apr_digest_fold(*d, apr_digest_of((struct apr_bytes){ bytes, n }));
}

static void add_text(struct apr_digest *d, const char *text)
{
    add(d, text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
}

static void add_view(struct apr_digest *d, const struct apr_view *v)
{
    const uint64_t shape[] = { v->nstep, v->nvalue, v->npart, v->first };
    add(d, shape, sizeof shape);
    for (unsigned i = 0; i < v->nstep; i++) {
        const struct apr_step *const s = &v->step[i];
        const uint64_t step[] = { s->op, s->forward, s->nn, s->only, s->norder, s->rows, s->cols };
        add(d, step, sizeof step);
        add(d, s->n, apr_min(s->nn, APR_MAX_PARTS) * sizeof *s->n);
        add(d, s->order, s->norder * sizeof *s->order);
    }
    for (unsigned i = 0; i < v->nvalue; i++) {
        const struct apr_change *const c = &v->value[i];
        const uint64_t op[] = { c->op, c->forward, c->nn, c->only, c->at, c->rows, c->cols };
        add(d, op, sizeof op);
        add(d, c->n, sizeof c->n);
        add(d, c->by, sizeof c->by);
    }
}

/* Which file a part lies in, as it was when it was opened, and where. */
static void add_part(struct apr_digest *d, const struct apr_input *in, size_t i)
{
    const struct apr_tensor *const t = apr_input_part(in, i);
    const struct apr_source *const s = in->m->file[t->file];
    const uint64_t place[] = { s->stored, (uint64_t)s->written.tv_sec, (uint64_t)s->written.tv_nsec, (uint64_t)(t->data.at - s->map.at),
                               t->data.n };
    add(d, place, sizeof place);
}

/* Of all that the bytes of a file depend on. */
static struct apr_digest digest_of_plan(const struct apr_plan *p, const struct apr_planned_file *f)
{
    struct apr_digest d = apr_digest_of(f->header);
    add(&d, &f->size, sizeof f->size);
    add_text(&d, p->based_on);
    for (size_t i = f->first; i < f->first + f->n; i++) {
        const struct apr_planned *const t = &p->tensor[i];
        const uint64_t how[] = { t->how, t->lossy, p->nan_to_zero };
        add(&d, how, sizeof how);
        add_text(&d, t->transform);
        if (t->how == APR_GENERATE) {
            if (t->wide != NULL)
                add(&d, t->wide, t->count * sizeof *t->wide);
            else
                add(&d, t->values, t->count * sizeof *t->values);
            continue;
        }
        if (t->importance != NULL)
            add(&d, t->importance, apr_planned_importance(t) * sizeof *t->importance);
        add_view(&d, &t->in->view);
        for (size_t k = 0; k < t->in->view.npart; k++)
            add_part(&d, t->in, k);
    }
    return d;
}

static uint64_t pieces_of(const struct apr_writing *w, size_t file)
{
    uint64_t n = 0;
    for (size_t i = 0; i < w->segments.n; i++)
        n += w->segments.at[i].file == file ? w->segments.at[i].npiece : 0;
    return n;
}

/* Each piece is noted once, and again where its bytes were not as noted: a log that has grown beyond this is worth no more than none. */
#define MOST_NOTES 4u

static enum apr_code read_log(struct apr_writing *w, size_t file, struct apr_error *e)
{
    struct apr_written *const f = &w->file[file];
    const struct apr_digest plan = digest_of_plan(w->p, &w->p->file[file]);
    const uint64_t npiece = pieces_of(w, file);
    struct apr_bytes log;
    APR_TRY(apr_sink_log(f->sink, sizeof plan + (npiece + 1) * MOST_NOTES * sizeof *w->logged, &log, e));
    const bool same = log.n >= sizeof plan && memcmp(log.at, &plan, sizeof plan) == 0;
    const size_t bytes = same ? log.n - sizeof plan : 0, records = bytes / sizeof *w->logged, torn = bytes % sizeof *w->logged;
    for (size_t i = 0; i < records; i++) {
        struct apr_logged x;
        memcpy(&x, log.at + sizeof plan + i * sizeof x, sizeof x);
        if (x.check == check_of(&x) && x.piece > 0 && x.piece <= npiece)
            w->logged[f->base + x.piece - 1] = x;
    }
    free((void *)(uintptr_t)log.at);
    if (!same) {
        APR_TRY(apr_sink_restart(f->sink, e));
        return apr_sink_note(f->sink, &plan, sizeof plan, e);
    }
    const unsigned char zeros[sizeof *w->logged] = { 0 };
    return torn == 0 ? APR_OK : apr_sink_note(f->sink, zeros, sizeof *w->logged - torn, e);
}

enum apr_code apr_writing_resume(struct apr_writing *w, struct apr_error *e)
{
    w->logged = calloc((size_t)w->segments.npiece + 1, sizeof *w->logged);
    if (w->logged == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < w->p->nfile; i++)
        if (w->file[i].sink != NULL)
            APR_TRY(read_log(w, i, e));
    return APR_OK;
}

bool apr_writing_has(const struct apr_writing *w, const struct apr_segment *s, uint64_t i, struct apr_writer *t)
{
    const struct apr_logged *const x = w->logged == NULL ? NULL : &w->logged[s->base + i];
    struct apr_error ignored;
    uint64_t from, to;
    if (x == NULL || x->piece == 0)
        return false;
    apr_piece_range(w->p, s, i, &from, &to);
    if (apr_sink_read_at(w->file[s->file].sink, from, t->maker.out, (size_t)(to - from), &ignored) != APR_OK)
        return false;
    return apr_digest_equal(apr_digest_of((struct apr_bytes){ t->maker.out, (size_t)(to - from) }), x->digest);
}

enum apr_code apr_writing_note(struct apr_writing *w, const struct apr_segment *s, uint64_t i, const struct apr_digest *digest,
                               const struct apr_rounding *rounding, struct apr_error *e)
{
    struct apr_written *const f = &w->file[s->file];
    struct apr_logged x = { .piece = s->base + i - f->base + 1, .digest = *digest, .rounding = *rounding };
    x.check = check_of(&x);
    return apr_sink_note(f->sink, &x, sizeof x, e);
}
