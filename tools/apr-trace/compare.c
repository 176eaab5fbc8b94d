/* A saved trace, or what another program saved, held against this run stage by stage. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
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
 *   in        the stage there, `given` values of it; decodable, or there is none
 *   here      stages that are only here
 *   first     valid when `diverged` */
struct comparing {
    struct apr_model     *m;
    struct apr_stage_map *map;
    struct apr_window     window;
    bool                 *met;
    struct apr_tensor     view;
    struct apr_input      in;
    double                ab, aa, bb, dd, max;
    uint64_t              nonfinite, max_at, mismatch, compared;
    struct apr_bytes     *here;
    size_t                nhere, here_room;
    struct stage_row      first;
    bool                  diverged;
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

enum apr_code begin_comparing(struct trace *t, struct apr_error *e)
{
    t->comparing = calloc(1, sizeof *t->comparing);
    if (t->comparing == NULL)
        return apr_no_memory(e);
    struct comparing *const c = t->comparing;
    APR_TRY(open_reference(t, e));
    c->window = apr_window_of(&t->o->cli.run);
    c->met = calloc(c->m->ntensor + 1, sizeof *c->met);
    apr_cli_tell(&t->o->cli, c->m, "trace.unmapped");
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

void begin_comparison(struct trace *t, struct stage_row *r)
{
    struct comparing *const c = t->comparing;
    const struct apr_tensor *const x = find(t, r->layer, r->stage);
    if (x == NULL)
        return;
    c->met[x - c->m->tensor] = true;
    c->view = *x;
    if (t->o->cut.to == 0)
        (void)apr_trace_last(x, r->count, &c->view);
    c->in = apr_input_of(t->o->cli.run.kernels, c->m, &c->view);
    c->ab = c->aa = c->bb = c->dd = c->max = 0;
    c->nonfinite = c->max_at = 0;
    c->mismatch = APR_NOWHERE;
    r->in_reference = true;
    r->other = c->in.count;
    r->compared = c->in.decodable && c->in.count == r->count;
}

static bool is_mismatch(double a, double b) { return !(isfinite(a) && isfinite(b)) && a != b && !(isnan(a) && isnan(b)); }

static void add_stretch(struct comparing *c, const float *x, uint64_t first, size_t n, uint64_t at, struct apr_difference *d)
{
    double mine[APR_STRETCH], theirs[APR_STRETCH];
    float floats[APR_STRETCH];
    const uint64_t before = d->nonfinite;
    if (c->in.wide) {
        apr_input_doubles(&c->in, &c->window, first, n, theirs);
        for (size_t i = 0; i < n; i++)
            mine[i] = x[i];
        c->in.k->difference_wide(mine, theirs, n, at, d);
    } else {
        apr_input_floats(&c->in, &c->window, first, n, floats);
        c->in.k->difference(x, floats, n, at, d);
    }
    for (size_t i = 0; d->nonfinite > before && i < n && c->mismatch == APR_NOWHERE; i++)
        if (is_mismatch(x[i], c->in.wide ? theirs[i] : floats[i]))
            c->mismatch = first + i;
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

enum apr_code end_comparison(struct trace *t, struct stage_row *r, struct apr_error *e)
{
    struct comparing *const c = t->comparing;
    if (!r->in_reference)
        return note_here(t, r, e);
    APR_TRY(apr_model_intact(c->m, e));
    r->index = APR_NOWHERE;
    if (r->compared) {
        r->cosine = apr_cosine(c->ab, c->aa, c->bb);
        r->max_diff = c->max;
        r->rms_diff = r->count > 0 ? sqrt(c->dd / (double)r->count) : 0;
        r->mismatches = c->nonfinite;
        r->index = c->nonfinite > 0 ? c->mismatch : c->max > 0 ? c->max_at : APR_NOWHERE;
        r->same = c->nonfinite == 0 && r->cosine >= t->o->threshold;
    }
    c->compared++;
    if (!r->same && !c->diverged) {
        c->diverged = true;
        c->first = *r;
    }
    return APR_OK;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

const struct stage_row *first_divergence(const struct trace *t)
{
    return t->comparing != NULL && t->comparing->diverged ? &t->comparing->first : NULL;
}

uint64_t stages_compared(const struct trace *t) { return t->comparing->compared; }

enum apr_code check_comparison(const struct trace *t, struct apr_error *e)
{
    if (t->comparing->compared == 0 && !t->nonfinite.found) {
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
