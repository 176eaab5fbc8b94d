/* A saved trace, or what another program saved, held against this run stage by stage. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "files/source.h"
#include "flow/window.h"
#include "forward/saved.h"
#include "model/findings.h"
#include "model/format.h"
#include "model/model.h"
#include "model/open.h"
#include "trace.h"
#include "values/chunk.h"

/* The other trace, and the stage that is being compared.
 *   met       of its tensors: this run had them
 *   in        the stage there
 *   run ...   element i here is element offset + i / run * stride + i % run there: of some positions, where all are there
 *   of_all    a stage of it has been cut so
 *   finite    pairs of which both are; nonfinite_there: values there that are not
 *   here      stages that are only here
 *   first     valid when tally.differing > 0; lowest: when tally.lowest is not NULL */
struct comparing {
    struct apr_model     *m;
    struct apr_stage_map *map;
    struct apr_window     window;
    bool                 *met;
    struct apr_tensor     view;
    struct apr_input      in;
    uint64_t              run, stride, offset;
    bool                  of_all;
    double                ab, aa, bb, dd, max;
    uint64_t              finite, nonfinite_there, nonfinite, max_at, mismatch;
    struct apr_bytes     *here;
    size_t                nhere, here_room;
    struct stage_row      first, lowest;
    struct tally          tally;
};

/* ---- opening -------------------------------------------------------------------------------------------------------- */

/* Which of two stages a projection of another program is: before or after a bias. */
static bool run_has(void *ctx, uint32_t layer, unsigned stage)
{
    const struct apr_net *const net = ((const struct trace *)ctx)->engine.net;
    if (stage != APR_STAGE_QKV_BIAS)
        return true;
    const struct apr_layer *const l = layer < net->nlayer ? &net->layer[layer] : NULL;
    return l != NULL && (l->qkv.bias != NULL || l->q.bias != NULL || l->k.bias != NULL || l->v.bias != NULL);
}

static enum apr_code open_reference(struct trace *t, struct apr_error *e)
{
    const struct apr_run *const r = &t->o->cli.run;
    struct comparing *const c = t->comparing;
    if (t->o->map != NULL)
        APR_TRY(apr_stage_map_open(&c->map, t->o->map, r, e));
    const struct apr_other_side other = { run_has, t };
    const enum apr_code code = apr_open_trace(&c->m, t->o->compare, c->map, &other, r, e);
    if (code != APR_OK)
        apr_error_in(e, t->o->compare);
    return code;
}

/* Values that somebody forgot to count, maybe. */
static void tell_trailing(const struct trace *t)
{
    const struct apr_model *const m = t->comparing->m;
    for (size_t i = 0; i < m->nnote && !t->o->cli.quiet; i++) {
        struct apr_error e;
        const struct apr_note *const note = &m->note[i];
        if (strcmp(note->code, "npy.trailing") != 0 && strcmp(note->code, "aprt.trailing") != 0)
            continue;
        apr_fail(&e, APR_OK, note->at, "%s", note->text);
        apr_error_in(&e, m->file[note->file]->path);
        apr_cli_fail(&t->o->cli, &e);
    }
}

/* What is saved would take the place of what is read, and stages that are not saved would be taken away. */
static enum apr_code check_folders(const struct options *o, struct apr_error *e)
{
    struct stat a, b;
    if (!saves_stages(o) || o->dir == NULL || stat(o->dir, &a) != 0 || stat(o->compare, &b) != 0 || a.st_dev != b.st_dev ||
        a.st_ino != b.st_ino)
        return APR_OK;
    apr_fail(e, APR_EARG, APR_NOWHERE, "--save-tensor-dir is the folder of --compare: it is being read");
    apr_error_in(e, o->dir);
    return e->code;
}

enum apr_code begin_comparing(struct trace *t, struct apr_error *e)
{
    APR_TRY(check_folders(t->o, e));
    t->comparing = calloc(1, sizeof *t->comparing);
    if (t->comparing == NULL)
        return apr_no_memory(e);
    struct comparing *const c = t->comparing;
    APR_TRY(open_reference(t, e));
    c->window = apr_window_of(&t->o->cli.run);
    c->met = calloc(c->m->ntensor + 1, sizeof *c->met);
    apr_cli_tell(&t->o->cli, c->m, "trace.unmapped");
    tell_trailing(t);
    return c->met == NULL ? apr_no_memory(e) : APR_OK;
}

void end_comparing(struct trace *t)
{
    struct comparing *const c = t->comparing;
    if (c == NULL)
        return;
    apr_window_drop(&c->window);
    apr_close(c->m);
    apr_stage_map_free(c->map);
    free(c->met);
    free(c->here);
    free(c);
    t->comparing = NULL;
}

/* ---- one stage ------------------------------------------------------------------------------------------------------ */

static struct apr_bytes spell_stage(uint32_t layer, unsigned stage, char name[64])
{
    const int n = layer == APR_WHOLE_MODEL ? snprintf(name, 64, "%s", apr_stage_name(stage))
                                           : snprintf(name, 64, "layer-%lu/%s", (unsigned long)layer, apr_stage_name(stage));
    return (struct apr_bytes){ (const unsigned char *)name, (size_t)n };
}

static const struct apr_tensor *find(const struct trace *t, uint32_t layer, unsigned stage)
{
    char name[64];
    return apr_model_find(t->comparing->m, spell_stage(layer, stage, name));
}

bool has_reference(const struct trace *t, uint32_t layer, unsigned stage) { return find(t, layer, stage) != NULL; }

/* The stage as it is of all positions, when some were asked for. */
static uint64_t whole_shape(const struct trace *t, const struct stage_row *r, uint64_t dim[3])
{
    memcpy(dim, r->dim, sizeof r->dim);
    dim[r->ndim == 3 ? 1 : 0] = positions_of(t);
    return (r->ndim == 3 ? dim[0] : 1) * dim[r->ndim - 2] * dim[r->ndim - 1];
}

/* Positions were asked for: theirs are cut out of a trace of all. False where that has but the last position of the stage, and another is
 * asked for. */
static bool cut_reference(struct trace *t, const struct stage_row *r)
{
    struct comparing *const c = t->comparing;
    const struct span cut = t->o->cut;
    uint64_t whole[3];
    const uint64_t width = r->dim[r->ndim - 1], n = positions_of(t);
    if (c->view.count == whole_shape(t, r, whole) && c->view.count > r->count) {
        c->run = (cut.to - cut.from) * width;
        c->stride = n * width;
        c->offset = cut.from * width;
        c->of_all = true;
    }
    const bool of_last = apr_stage_is_of_last(r->stage) && c->view.count == width;
    return !of_last || cut.from + 1 == n || (r->count == width && !c->of_all);
}

static bool shape_fits(const struct trace *t, const struct stage_row *r)
{
    const struct comparing *const c = t->comparing;
    uint64_t whole[3];
    memcpy(whole, r->dim, sizeof whole);
    if (c->run < r->count || c->stride > c->run)
        whole_shape(t, r, whole);
    return apr_trace_fits(whole, r->ndim, c->view.dim, c->view.ndim);
}

void begin_comparison(struct trace *t, struct stage_row *r)
{
    struct comparing *const c = t->comparing;
    const struct apr_tensor *const x = find(t, r->layer, r->stage);
    if (x == NULL)
        return;
    c->met[x - c->m->tensor] = true;
    c->view = *x;
    c->run = c->stride = r->count;
    c->offset = 0;
    if (t->o->cut.to == 0)
        (void)apr_trace_last(x, r->count, &c->view);
    else if (!cut_reference(t, r))
        return;
    c->in = apr_input_of(t->o->cli.run.kernels, c->m, &c->view);
    c->ab = c->aa = c->bb = c->dd = c->max = 0;
    c->finite = c->nonfinite_there = c->nonfinite = c->max_at = 0;
    c->mismatch = APR_NOWHERE;
    r->in_reference = true;
    r->other = c->in.count;
    r->other_ndim = c->view.ndim;
    memcpy(r->other_dim, c->view.dim, sizeof r->other_dim);
    const bool as_many = c->in.count == r->count || c->stride > c->run;
    r->compared = c->in.decodable && as_many && shape_fits(t, r);
}

static bool is_mismatch(double a, double b) { return !(isfinite(a) && isfinite(b)) && a != b && !(isnan(a) && isnan(b)); }

/* Theirs, beside elements [first, first + n) here: as doubles where some value needs it, else as floats. */
static void read_theirs(struct comparing *c, uint64_t first, size_t n, float *floats, double *wide)
{
    for (size_t i = 0, now; i < n; i += now) {
        const uint64_t at = first + i, there = c->offset + at / c->run * c->stride + at % c->run;
        now = (size_t)apr_min(n - i, c->run - at % c->run);
        if (c->in.wide)
            apr_input_doubles(&c->in, &c->window, there, now, wide + i);
        else
            apr_input_floats(&c->in, &c->window, there, now, floats + i);
    }
}

static void count_nonfinite(struct comparing *c, double here, double there, uint64_t at)
{
    c->finite += isfinite(here) && isfinite(there);
    c->nonfinite_there += isfinite(there) == 0;
    if (c->mismatch == APR_NOWHERE && is_mismatch(here, there))
        c->mismatch = at;
}

static void add_stretch(struct comparing *c, const float *x, uint64_t first, size_t n, uint64_t at, struct apr_difference *d)
{
    double mine[APR_STRETCH], theirs[APR_STRETCH];
    float floats[APR_STRETCH];
    read_theirs(c, first, n, floats, theirs);
    for (size_t i = 0; i < n && c->in.wide; i++)
        mine[i] = x[i];
    if (c->in.wide)
        c->in.k->difference_wide(mine, theirs, n, at, d);
    else
        c->in.k->difference(x, floats, n, at, d);
    for (size_t i = 0; i < n; i++)
        count_nonfinite(c, x[i], c->in.wide ? theirs[i] : (double)floats[i], first + i);
}

void add_comparison(struct trace *t, const float *x, uint64_t first, size_t n)
{
    struct comparing *const c = t->comparing;
    struct apr_difference d = { 0 };
    for (size_t i = 0; i < n; i += APR_STRETCH)
        add_stretch(c, x + i, first + i, (size_t)apr_min(n - i, APR_STRETCH), i, &d);
    c->ab += apr_fold(d.ab);
    c->aa += apr_fold(d.aa);
    c->bb += apr_fold(d.bb);
    c->dd += apr_fold(d.dd);
    c->nonfinite += d.nonfinite;
    if (d.max > c->max) {
        c->max = d.max;
        c->max_at = first + d.max_at;
    }
}

static enum apr_code note_here(struct trace *t, const struct stage_row *r, struct apr_error *e)
{
    struct comparing *const c = t->comparing;
    char name[64];
    struct apr_bytes *const grown = apr_grown(c->here, &c->here_room, c->nhere, 16, sizeof *grown);
    const struct apr_bytes copy = apr_arena_copy(&t->arena, spell_stage(r->layer, r->stage, name));
    if (grown == NULL || copy.at == NULL)
        return apr_no_memory(e);
    c->here = grown;
    c->here[c->nhere++] = copy;
    return APR_OK;
}

/* By the bounds that apr-diff has. */
static void judge_stage(const struct trace *t, struct stage_row *r)
{
    const struct comparing *const c = t->comparing;
    const double floor = t->o->threshold, allowed = apr_scale_allowed(floor);
    const bool any = c->finite > 0 || r->count == 0;
    r->cosine = any ? apr_cosine(c->ab, c->aa, c->bb) : NAN;
    r->ratio = any ? apr_norm_ratio(c->bb, c->aa) : NAN;
    r->max_diff = any ? c->max : NAN;
    r->rms_diff = c->finite > 0 ? sqrt(c->dd / (double)r->count) : any ? 0 : NAN;
    r->mismatches = c->nonfinite;
    r->nonfinite_there = c->nonfinite_there;
    r->index = c->nonfinite > 0 ? c->mismatch : c->max > 0 ? c->max_at : APR_NOWHERE;
    r->exact = c->nonfinite == 0 && c->max == 0;
    r->unlike = any && !r->exact && apr_is_unlike(r->cosine, c->max, floor, allowed);
    r->scaled = any && !r->exact && apr_is_scaled(r->ratio, allowed);
    r->same = c->nonfinite == 0 && !r->unlike && !r->scaled;
}

enum apr_code end_comparison(struct trace *t, struct stage_row *r, struct apr_error *e)
{
    struct comparing *const c = t->comparing;
    if (!r->in_reference)
        return note_here(t, r, e);
    APR_TRY(apr_model_intact(c->m, e));
    r->index = APR_NOWHERE;
    if (r->compared)
        judge_stage(t, r);
    c->tally.compared++;
    c->tally.exact += r->exact;
    if (!r->same && c->tally.differing++ == 0)
        c->first = *r;
    if (r->compared && !r->exact && (c->tally.lowest == NULL ? !isnan(r->cosine) : r->cosine < c->lowest.cosine)) {
        c->lowest = *r;
        c->tally.lowest = &c->lowest;
    }
    return APR_OK;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

const struct stage_row *first_divergence(const struct trace *t)
{
    return t->comparing != NULL && t->comparing->tally.differing > 0 ? &t->comparing->first : NULL;
}

struct tally tally_of(const struct trace *t) { return t->comparing->tally; }

bool is_foreign_reference(const struct trace *t) { return apr_is_foreign(t->comparing->m); }

enum apr_code check_comparison(const struct trace *t, struct apr_error *e)
{
    if (t->comparing->tally.compared == 0 && !t->nonfinite.found) {
        apr_fail(e, APR_EARG, APR_NOWHERE, "it has no stage in common with this run");
        apr_error_in(e, t->o->compare);
        return e->code;
    }
    return apr_model_unchanged(t->comparing->m, e);
}

/* What a run that stopped early did not come to is not missed, nor are layers that were not asked for. */
bool only_in_reference(const struct trace *t, size_t *i, struct apr_bytes *name)
{
    const struct comparing *const c = t->comparing;
    for (; *i < c->m->ntensor && !t->nonfinite.found; ++*i) {
        uint32_t layer;
        struct apr_bytes stage;
        *name = c->m->tensor[*i].name;
        apr_stage_split(*name, &layer, &stage);
        if (!c->met[*i] && in_layers(t->o, layer)) {
            ++*i;
            return true;
        }
    }
    return false;
}

/* Another program has only some of the stages. */
bool only_here(const struct trace *t, size_t *i, struct apr_bytes *name)
{
    const struct comparing *const c = t->comparing;
    if (apr_is_foreign(c->m) || *i >= c->nhere)
        return false;
    *name = c->here[(*i)++];
    return true;
}
