/* Stages: which are wanted, and what becomes of each. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "trace.h"
#include "values/chunk.h"
#include "values/kernels.h"

#define MOST_STAGE_BYTES 64 /* of a stage's name, far longer than any */

/* ---- the command line ----------------------------------------------------------------------------------------------- */

static int unknown_stage(const struct options *o, struct apr_bytes word)
{
    struct apr_nearest near = apr_nearest_to(word);
    for (unsigned i = 0; i < APR_NSTAGES; i++)
        apr_nearest_try(&near, apr_text(apr_stage_name(i)));
    apr_nearest_try(&near, apr_text("layer_output"));
    char all[512] = "";
    for (unsigned i = 0; i < APR_NSTAGES; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), " %s", apr_stage_name(i));
    if (memchr(word.at, '*', word.n) != NULL || memchr(word.at, '?', word.n) != NULL || memchr(word.at, '[', word.n) != NULL)
        return apr_cli_usage(&o->cli, "--save-tensor takes names, no patterns: %s. There are%s", APR_QUOTED(word), all);
    if (near.best.n > 0)
        return apr_cli_usage(&o->cli, "--save-tensor: there is no stage %s (did you mean %.*s?)", APR_QUOTED(word), APR_PRINTED(near.best));
    return apr_cli_usage(&o->cli, "--save-tensor: there is no stage %s. There are%s", APR_QUOTED(word), all);
}

/* One name, in letters of either case. */
static int read_stage(struct options *o, struct apr_bytes word)
{
    char lower[MOST_STAGE_BYTES];
    size_t n = 0;
    for (; n < word.n && n < sizeof lower; n++)
        lower[n] = (char)(word.at[n] >= 'A' && word.at[n] <= 'Z' ? word.at[n] - 'A' + 'a' : word.at[n]);
    const struct apr_bytes name = { (const unsigned char *)lower, n };
    const unsigned rank = n < sizeof lower ? apr_stage_rank(name) : APR_NSTAGES;
    if (n == 0)
        return apr_cli_usage(&o->cli, "--save-tensor: the name of a stage is missing");
    if (apr_bytes_is(name, "all"))
        o->all = true;
    else if (rank < APR_NSTAGES)
        o->stage[rank] = true;
    else
        return unknown_stage(o, word);
    return -1;
}

static struct apr_bytes trimmed(const char *text, size_t n)
{
    while (n > 0 && (*text == ' ' || *text == '\t')) {
        text++;
        n--;
    }
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    return (struct apr_bytes){ (const unsigned char *)text, n };
}

int read_stages(struct options *o)
{
    int exit_code = -1;
    for (const char *text = o->save_tensor; exit_code < 0 && text != NULL;) {
        const size_t n = strcspn(text, ",");
        exit_code = read_stage(o, trimmed(text, n));
        text = text[n] == ',' ? text + n + 1 : NULL;
    }
    for (unsigned i = 0; i < APR_NSTAGES; i++)
        o->stage[i] |= o->all;
    return exit_code;
}

static bool read_bound(const char **text, uint64_t *n)
{
    const char *s = *text + strspn(*text, " \t");
    const size_t digits = apr_digits(apr_text(s), n);
    s += digits;
    *text = s + strspn(s, " \t");
    return digits > 0 && *n < UINT64_MAX;
}

int read_span(const struct options *o, const char *option, const char *text, struct span *span)
{
    const char *rest = text;
    const bool from = read_bound(&rest, &span->from) && rest[0] == '.' && rest[1] == '.';
    rest += from ? 2 : 0;
    if (!from || !read_bound(&rest, &span->to) || *rest != 0)
        return apr_cli_usage(&o->cli, "%s wants A..B, not %s", option, APR_QUOTED(apr_text(text)));
    if (span->to <= span->from)
        return apr_cli_usage(&o->cli, "%s %s is empty: B is the first that is left out", option, text);
    return -1;
}

/* ---- which are wanted ----------------------------------------------------------------------------------------------- */

bool in_layers(const struct options *o, uint32_t layer)
{
    return layer == APR_WHOLE_MODEL || o->layer.to == 0 || (layer >= o->layer.from && layer < o->layer.to);
}

static bool is_saved(const struct options *o, uint32_t layer, unsigned stage)
{
    return saves_stages(o) && o->stage[stage] && in_layers(o, layer);
}

static bool is_compared(const struct trace *t, uint32_t layer, unsigned stage)
{
    return t->comparing != NULL && in_layers(t->o, layer) && has_reference(t, layer, stage);
}

bool is_wanted(const struct trace *t, uint32_t layer, unsigned stage)
{
    return t->o->stop_at_nan || is_saved(t->o, layer, stage) || is_compared(t, layer, stage);
}

/* ---- a stage that is being taken ------------------------------------------------------------------------------------ */

/* What has come of it; values wait in `rest` until they are a chunk.
 *   finite, mean, squares  of the finite ones: how many, and the sum of their squared differences from their mean
 *   live                   it is a stage that is saved or compared */
struct measure {
    struct stage_row   row;
    struct saved_file *file;
    uint64_t           done, finite;
    double             mean, squares;
    size_t             nrest;
    bool               live;
    float              rest[APR_CHUNK];
};

/* As apr-inspect has it of an APRT: by stretches within a chunk. */
static struct apr_digest digest_of_chunk(const float *x, size_t n)
{
    struct apr_digest d = { 0, 0 };
    for (size_t i = 0; i < n; i += APR_STRETCH)
        d = apr_digest_fold(d, apr_digest_of((struct apr_bytes){ (const unsigned char *)(x + i),
                                                                 apr_min(n - i, APR_STRETCH) * sizeof *x }));
    return d;
}

/* Adds a chunk's moments to those before it (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
 * variances", 1979); within the chunk they are taken about its own mean. */
static void add_moments(struct measure *s, const struct apr_kernels *k, const float *x, size_t n)
{
    struct apr_moments first = apr_no_moments(), second = apr_no_moments();
    struct stage_row *const r = &s->row;
    k->moments(x, n, 0, &first);
    const uint64_t finite = n - first.nans - first.infs, all = s->finite + finite;
    r->nan += first.nans;
    r->inf += first.infs;
    r->zero += first.zeros;
    if (finite == 0)
        return;
    const double mean = apr_fold(first.d1) / (double)finite;
    k->moments(x, n, mean, &second);
    const double off = apr_fold(second.d1), squares = apr_fold(second.d2) - off * off / (double)finite;
    const double delta = mean + off / (double)finite - s->mean;
    s->squares += squares + delta * delta * (double)s->finite / (double)all * (double)finite;
    s->mean += delta * (double)finite / (double)all;
    s->finite = all;
    for (unsigned l = 0; l < APR_LANES; l++) {
        r->min = first.min[l] < r->min ? first.min[l] : r->min;
        r->max = first.max[l] > r->max ? first.max[l] : r->max;
    }
}

static enum apr_code take_chunk(struct trace *t, const float *x, size_t n, struct apr_error *e)
{
    struct measure *const s = t->measure;
    add_moments(s, t->o->cli.run.kernels, x, n);
    s->row.hash = apr_digest_fold(s->row.hash, digest_of_chunk(x, n));
    if (s->row.compared)
        add_comparison(t, x, s->done, n);
    s->done += n;
    return s->file == NULL ? APR_OK : put_bytes(s->file, x, n * sizeof *x, e);
}

enum apr_code begin_stage(struct trace *t, uint32_t layer, unsigned stage, const uint64_t *dim, unsigned ndim, struct apr_error *e)
{
    if (t->measure == NULL && (t->measure = malloc(sizeof *t->measure)) == NULL)
        return apr_no_memory(e);
    struct measure *const s = t->measure;
    struct stage_row *const r = &s->row;
    const bool saved = is_saved(t->o, layer, stage), compared = is_compared(t, layer, stage);
    s->nrest = 0;
    s->done = s->finite = 0;
    s->mean = s->squares = 0;
    s->file = NULL;
    s->live = saved || compared;
    *r = (struct stage_row){ .layer = layer, .stage = stage, .ndim = ndim, .count = 1, .min = INFINITY, .max = -INFINITY };
    for (unsigned i = 0; i < ndim; i++) {
        r->dim[i] = dim[i];
        if (!apr_mul(r->count, dim[i], &r->count))
            return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "stage %s is too large", apr_stage_name(stage));
    }
    r->hash = apr_digest_stored(&(struct apr_tensor){ .dtype = &apr_dtypes[APR_F32], .ndim = 1, .dim = { r->count } });
    if (t->comparing != NULL && s->live)
        begin_comparison(t, r);
    return saved ? begin_stage_file(t, r, &s->file, &r->file, e) : APR_OK;
}

enum apr_code put_values(struct trace *t, const float *x, uint64_t n, struct apr_error *e)
{
    struct measure *const s = t->measure;
    while (s->live && n > 0) {
        const size_t now = (size_t)apr_min(n, APR_CHUNK - s->nrest);
        const bool whole = now == APR_CHUNK;
        if (!whole) {
            memcpy(s->rest + s->nrest, x, now * sizeof *x);
            s->nrest += now;
        }
        if (whole || s->nrest == APR_CHUNK) {
            APR_TRY(take_chunk(t, whole ? x : s->rest, APR_CHUNK, e));
            s->nrest = 0;
        }
        x += now;
        n -= now;
    }
    return APR_OK;
}

enum apr_code end_stage(struct trace *t, struct apr_error *e)
{
    struct measure *const s = t->measure;
    struct stage_row *const r = &s->row;
    if (!s->live)
        return APR_OK;
    if (s->nrest > 0)
        APR_TRY(take_chunk(t, s->rest, s->nrest, e));
    s->nrest = 0;
    const double n = (double)s->finite;
    r->mean = s->finite > 0 ? s->mean : NAN;
    r->std = s->finite > 0 ? sqrt(s->squares > 0 ? s->squares / n : 0) : NAN;
    r->rms = s->finite > 0 ? sqrt(r->std * r->std + r->mean * r->mean) : NAN;
    if (s->finite == 0)
        r->min = r->max = NAN;
    if (t->comparing != NULL)
        APR_TRY(end_comparison(t, r, e));
    t->seen[r->stage] = true;
    t->nstage++;
    report_stage(t, r);
    return APR_OK;
}

void free_measure(struct trace *t)
{
    free(t->measure);
    t->measure = NULL;
}

/* ---- a stage as a run hands it over --------------------------------------------------------------------------------- */

/* Of some stages there is the last position alone, unless positions are asked for. */
static struct span rows_of(const struct trace *t, const struct apr_stage_values *v, uint64_t n)
{
    struct span s = t->o->cut;
    if (s.to == 0)
        s = apr_stage_is_of_last(v->stage) ? (struct span){ positions_of(t) - 1, positions_of(t) }
                                           : (struct span){ v->position, v->position + n };
    const uint64_t end = apr_min(s.to, v->position + n);
    s.from = s.from > v->position ? s.from - v->position : 0;
    s.to = end > v->position ? end - v->position : 0;
    s.from = apr_min(s.from, s.to);
    return s;
}

enum apr_code take_stage(struct trace *t, const struct apr_stage_values *v, struct apr_error *e)
{
    const unsigned at = v->ndim == 3 ? 1 : 0; /* the dimension of positions */
    const uint64_t heads = v->ndim == 3 ? v->dim[0] : 1, n = v->dim[at], width = v->dim[at + 1];
    const struct span rows = rows_of(t, v, n);
    uint64_t dim[3] = { v->dim[0], v->dim[1], v->dim[2] };
    dim[at] = rows.to - rows.from;
    if (t->o->stop_at_nan)
        APR_TRY(find_nonfinite(t, v, e));
    APR_TRY(begin_stage(t, v->layer, v->stage, dim, v->ndim, e));
    for (uint64_t h = 0; h < heads; h++)
        APR_TRY(put_values(t, v->values + (h * n + rows.from) * width, dim[at] * width, e));
    APR_TRY(end_stage(t, e));
    return t->nonfinite.found ? stop_run(t, e) : APR_OK;
}
