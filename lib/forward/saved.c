#include "forward/saved.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/table.h"
#include "forward/stage_map_parts.h"
#include "model/format.h"
#include "model/model.h"
#include "model/open.h"
#include "model/stage.h"

/* What stands in the place of the format that the activations were read from. No file is of it. */
static const struct apr_format foreign = { .name = "activations", .title = "saved activations", .suffix = "", .trace = true };

bool apr_is_foreign(const struct apr_model *m) { return m->format == &foreign; }

/* The work of one mapping.
 *   plain   names of m's tensors as the map spells them, and of each its index
 *   used    of m's tensors, those that went into a stage
 *   made    the stages, the first nown of them under names of ours; made_names: of each that it is there */
struct mapping {
    struct apr_model            *m;
    const struct apr_stage_map  *map;
    const struct apr_other_side *other;
    struct apr_bytes            *name;
    struct apr_table             plain, made_names;
    bool                        *used;
    struct apr_tensor           *made;
    size_t                       nmade, nown, room;
};

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* The tensor of that name in that layer, or NULL. end: "", or a side. */
static const struct apr_tensor *find(const struct mapping *g, const struct apr_foreign_name *name, uint32_t layer, const char *end)
{
    char spelled[1024];
    const size_t n = apr_foreign_spell(name, layer, end, spelled, sizeof spelled);
    const struct apr_bytes key = { (const unsigned char *)spelled, n };
    const union apr_table_value *const v = n == 0 ? NULL : apr_table_find(&g->plain, key);
    return v == NULL ? NULL : &g->m->tensor[v->number];
}

static bool any_there(const struct mapping *g, const struct apr_foreign_names *names, uint32_t layer)
{
    for (unsigned i = 0; i < names->n; i++)
        if (find(g, &names->name[i], layer, "") != NULL || find(g, &names->name[i], layer, ":out") != NULL ||
            find(g, &names->name[i], layer, ":in") != NULL)
            return true;
    return false;
}

static enum apr_code spell_names(struct mapping *g, struct apr_error *e)
{
    struct apr_model *const m = g->m;
    g->name = calloc(m->ntensor + 1, sizeof *g->name);
    g->used = calloc(m->ntensor + 1, sizeof *g->used);
    if (g->name == NULL || g->used == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->ntensor; i++) {
        bool fresh;
        g->name[i] = m->tensor[i].name;
        APR_TRY(apr_foreign_plain(g->map, &m->arena, &g->name[i], e));
        union apr_table_value *const v = apr_table_put(&g->plain, g->name[i], &fresh);
        if (v == NULL)
            return apr_no_memory(e);
        if (!fresh)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "%s and %s are one name for the map of stages", APR_QUOTED(m->tensor[v->number].name),
                            APR_QUOTED(m->tensor[i].name));
        v->number = i;
    }
    return APR_OK;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* A batch of one is none. */
static void drop_batch(struct apr_tensor *t)
{
    unsigned drop = 0;
    while (t->ndim - drop > 2 && t->dim[drop] == 1)
        drop++;
    t->ndim -= drop;
    memmove(t->dim, t->dim + drop, t->ndim * sizeof *t->dim);
}

static uint64_t columns(const struct apr_tensor *t) { return t->ndim == 0 ? 1 : t->dim[t->ndim - 1]; }

/* May they stand side by side: rows of one number, bytes of one kind? */
static bool fit(const struct apr_tensor *part, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (part[i].ndim == 0 || part[i].dtype->block != 1 || part[i].dtype->head != 0 || part[i].dtype != part[0].dtype ||
            part[i].swapped != part[0].swapped || part[i].ndim != part[0].ndim ||
            memcmp(part[i].dim, part[0].dim, (part[0].ndim - 1) * sizeof *part[0].dim) != 0)
            return false;
    return true;
}

/* A block of `wide` columns, from column `from` on, of a matrix of ncol columns. */
struct block {
    unsigned char *at;
    uint64_t       from, ncol;
};
static void copy_rows(const struct block *to, const struct block *from, uint64_t nrow, uint64_t wide, size_t width)
{
    for (uint64_t r = 0; r < nrow && wide > 0; r++)
        memcpy(to->at + (r * to->ncol + to->from) * width, from->at + (r * from->ncol + from->from) * width, (size_t)wide * width);
}

static unsigned char *unconst(const unsigned char *at) { return (unsigned char *)(uintptr_t)at; }

/* A tensor like t, with so many columns and room for their values. */
static enum apr_code make_room(struct mapping *g, struct apr_tensor *t, uint64_t ncol, struct apr_error *e)
{
    uint64_t bytes;
    t->dim[t->ndim - 1] = ncol;
    t->row = 0;
    if (!apr_tensor_measure(t, &bytes) || bytes > SIZE_MAX / 2)
        return apr_no_memory(e);
    t->data = (struct apr_bytes){ apr_arena_alloc(&g->m->arena, (size_t)bytes + 1), (size_t)bytes };
    return t->data.at == NULL ? apr_no_memory(e) : APR_OK;
}

static enum apr_code put_side_by_side(struct mapping *g, const struct apr_tensor *part, unsigned n, struct apr_tensor *t,
                                      struct apr_error *e)
{
    uint64_t ncol = 0, from = 0;
    *t = part[0];
    for (unsigned i = 0; i < n; i++)
        if (!apr_add(ncol, columns(&part[i]), &ncol))
            return apr_no_memory(e);
    APR_TRY(make_room(g, t, ncol, e));
    for (unsigned i = 0; i < n; i++) {
        const uint64_t wide = columns(&part[i]);
        const struct block to = { unconst(t->data.at), from, ncol }, of = { unconst(part[i].data.at), 0, wide };
        copy_rows(&to, &of, wide == 0 ? 0 : part[i].count / wide, wide, t->dtype->bytes);
        from += wide;
    }
    return APR_OK;
}

/* Columns [from, from + wide) of `whole`. */
static enum apr_code cut_columns(struct mapping *g, const struct apr_tensor *whole, uint64_t from, uint64_t wide, struct apr_tensor *t,
                                 struct apr_error *e)
{
    const uint64_t ncol = columns(whole);
    *t = *whole;
    APR_TRY(make_room(g, t, wide, e));
    const struct block to = { unconst(t->data.at), 0, wide }, of = { unconst(whole->data.at), from, ncol };
    copy_rows(&to, &of, ncol == 0 ? 0 : whole->count / ncol, wide, t->dtype->bytes);
    return APR_OK;
}

/* ---- stages --------------------------------------------------------------------------------------------------------- */

/* The name of a stage in a trace; single ones but the embedding are of the whole model. */
static struct apr_bytes stage_name(struct mapping *g, uint32_t layer, unsigned stage)
{
    const bool whole = stage == APR_STAGE_FINAL_NORM || stage == APR_STAGE_LM_HEAD;
    return whole ? apr_text(apr_stage_name(stage)) : apr_arena_format(&g->m->arena, "layer-%u/%s", layer, apr_stage_name(stage));
}

static unsigned rank_of(const struct apr_tensor *t)
{
    struct apr_bytes stage;
    uint32_t layer;
    apr_stage_split(t->name, &layer, &stage);
    return apr_stage_rank(stage);
}

/* Keeps a stage, unless an earlier line made it. */
static enum apr_code keep(struct mapping *g, const struct apr_tensor *t, struct apr_bytes name, struct apr_error *e)
{
    bool fresh;
    struct apr_tensor *const more = apr_grown(g->made, &g->room, g->nmade, 64, sizeof *more);
    if (more == NULL || name.at == NULL)
        return apr_no_memory(e);
    g->made = more;
    if (apr_table_put(&g->made_names, name, &fresh) == NULL)
        return apr_no_memory(e);
    if (fresh) {
        g->made[g->nmade] = *t;
        g->made[g->nmade++].name = name;
    }
    return APR_OK;
}

/* Tells of a line that has all it is made from, and still makes nothing. */
static void note_unfit(struct mapping *g, const struct apr_map_line *line, const struct apr_tensor *t)
{
    if (line->nstage > 1 && fit(t, 1) && line->from.n == 1)
        apr_model_note(g->m, "trace.unmapped", t->name, 0, "line %u of the map splits %s into %u stages from %s on, but it has %" PRIu64
                       " columns", line->line, APR_QUOTED(t->name), line->nstage, apr_stage_name(line->stage[0]), columns(t));
    else
        apr_model_note(g->m, "trace.unmapped", t->name, 0, "line %u of the map makes no %s of %s: its rows or dtype are not those of what "
                       "stands beside it", line->line, apr_stage_name(line->stage[0]), APR_QUOTED(t->name));
}

static enum apr_code split(struct mapping *g, const struct apr_map_line *line, uint32_t layer, const struct apr_tensor *whole,
                           struct apr_error *e)
{
    const uint64_t wide = columns(whole) / line->nstage;
    for (unsigned i = 0; i < line->nstage; i++) {
        struct apr_tensor t;
        APR_TRY(cut_columns(g, whole, i * wide, wide, &t, e));
        APR_TRY(keep(g, &t, stage_name(g, layer, line->stage[i]), e));
    }
    return APR_OK;
}

/* What a line is made from in one layer, its batches dropped; false when it is not all there. */
static bool find_parts(struct mapping *g, const struct apr_foreign_names *from, uint32_t layer, struct apr_tensor *part)
{
    size_t place[APR_MAX_FOREIGN];
    for (unsigned i = 0; i < from->n; i++) {
        const struct apr_tensor *const t = find(g, &from->name[i], layer, "");
        if (t == NULL)
            return false;
        place[i] = (size_t)(t - g->m->tensor);
        part[i] = *t;
        drop_batch(&part[i]);
    }
    for (unsigned i = 0; i < from->n; i++)
        g->used[place[i]] = true;
    return true;
}

static bool holds(const struct mapping *g, const struct apr_map_line *line, uint32_t layer)
{
    return (line->when.n == 0 || any_there(g, &line->when, layer)) && !any_there(g, &line->unless, layer);
}

/* Makes what the line says of one layer, where all it is made from is there and no earlier line made it. */
static enum apr_code make_stage(struct mapping *g, const struct apr_map_line *line, uint32_t layer, struct apr_error *e)
{
    struct apr_tensor part[APR_MAX_FOREIGN];
    const bool other = line->either < APR_NSTAGES && g->other != NULL && g->other->has(g->other->ctx, layer, line->either);
    const struct apr_bytes name = stage_name(g, layer, other ? line->either : line->stage[0]);
    if (name.at == NULL)
        return apr_no_memory(e);
    if (apr_table_find(&g->made_names, name) != NULL || !holds(g, line, layer) || !find_parts(g, &line->from, layer, part))
        return APR_OK;
    const bool copied = line->from.n > 1 || line->nstage > 1;
    if (copied && (!fit(part, line->from.n) || columns(&part[0]) % line->nstage != 0)) {
        note_unfit(g, line, &part[0]);
        return APR_OK;
    }
    struct apr_tensor whole = part[0];
    if (line->from.n > 1)
        APR_TRY(put_side_by_side(g, part, line->from.n, &whole, e));
    return line->nstage > 1 ? split(g, line, layer, &whole, e) : keep(g, &whole, name, e);
}

/* Names that are stages already stay: of layers, or of the whole model. */
static enum apr_code keep_own(struct mapping *g, bool whole, struct apr_error *e)
{
    for (size_t i = 0; i < g->m->ntensor; i++) {
        struct apr_tensor t = g->m->tensor[i];
        struct apr_bytes stage;
        uint32_t layer;
        apr_stage_split(t.name, &layer, &stage);
        if ((layer == APR_WHOLE_MODEL) != whole || apr_stage_rank(stage) == APR_NSTAGES)
            continue;
        drop_batch(&t);
        g->used[i] = true;
        APR_TRY(keep(g, &t, t.name, e));
    }
    return APR_OK;
}

static enum apr_code make_stages(struct mapping *g, struct apr_error *e)
{
    APR_TRY(keep_own(g, false, e));
    if (g->nmade > 0) /* "lm_head" alone may be a module */
        APR_TRY(keep_own(g, true, e));
    g->nown = g->nmade;
    for (size_t k = 0; k < g->map->nline; k++) {
        const struct apr_map_line *const line = &g->map->line[k];
        uint32_t layer;
        for (size_t i = 0; i < g->m->ntensor; i++)
            if (apr_foreign_matches(&line->from.name[0], g->name[i], &layer))
                APR_TRY(make_stage(g, line, layer, e));
    }
    return APR_OK;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

/* How many positions the stages are of that have all: 0 where there are none, or they disagree. */
static uint64_t positions(const struct mapping *g)
{
    uint64_t n = 0;
    for (size_t i = 0; i < g->nmade; i++) {
        const struct apr_tensor *const t = &g->made[i];
        const unsigned stage = rank_of(t);
        if (t->ndim != 2 || apr_stage_is_of_last(stage) || stage == APR_STAGE_ATTN_SCORES || stage == APR_STAGE_ATTN_SOFTMAX)
            continue;
        if (n != 0 && n != t->dim[0])
            return 0;
        n = t->dim[0];
    }
    return n;
}

/* Which position is a row of that is not one of so many? A single row of logits is the last one's. One of experts is as likely the first
 * one's: a program that takes off a batch, where a module has none, takes off all positions but that. */
static void leave_odd_rows(struct mapping *g)
{
    const uint64_t n = positions(g);
    size_t kept = 0;
    for (size_t i = 0; i < g->nmade; i++) {
        const struct apr_tensor *const t = &g->made[i];
        const uint64_t wide = columns(t), rows = wide == 0 ? 0 : t->count / wide;
        const unsigned stage = rank_of(t);
        const bool odd = i >= g->nown && n > 0 && apr_stage_is_of_last(stage) && rows != n && (rows != 1 || stage != APR_STAGE_LM_HEAD);
        if (odd)
            apr_model_note(g->m, "trace.unmapped", t->name, 0,
                           "stage %s is left out: it has %" PRIu64 " row%s where others have %" PRIu64 ", so nobody knows of which "
                           "position", APR_QUOTED(t->name), rows, rows == 1 ? "" : "s", n);
        g->made[kept] = *t;
        kept += !odd;
    }
    g->nmade = kept;
}

/* ---- the model ------------------------------------------------------------------------------------------------------ */

/* Counts what neither became a stage nor is ignored. */
static enum apr_code note_rest(struct mapping *g, struct apr_error *e)
{
    size_t n = 0, first = 0;
    for (size_t i = 0; i < g->m->ntensor; i++) {
        bool ignored = false;
        if (!g->used[i] && g->map->ignore != NULL)
            APR_TRY(apr_patterns_want(g->map->ignore, g->name[i], &ignored, e));
        if (!g->used[i] && !ignored && n++ == 0)
            first = i;
    }
    if (n > 0)
        apr_model_note(g->m, "trace.unmapped", g->m->tensor[first].name, 0,
                       "%zu of %zu tensors are no stage by the map and are left out, as %s", n, g->m->ntensor,
                       APR_QUOTED(g->m->tensor[first].name));
    return APR_OK;
}

/* A line that would have made something tells more than the names. */
static enum apr_code nothing_known(const struct apr_model *m, struct apr_error *e)
{
    if (m->nnote > 0 && strcmp(m->note[m->nnote - 1].code, "trace.unmapped") == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "has no stage: %s", m->note[m->nnote - 1].text);
    const struct apr_bytes none = apr_text("nothing"), first = m->ntensor > 0 ? m->tensor[0].name : none,
                           last = m->ntensor > 1 ? m->tensor[m->ntensor - 1].name : first;
    return apr_fail(e, APR_EARG, APR_NOWHERE,
                    "is no trace: of its %zu tensors (%s, %s) none is a stage by the map; a map is YAML, a list of {stage: ffn_out, "
                    "from: \"layers.{L}.mlp\"}, with the names that the file has and {L} for the layer", m->ntensor, APR_QUOTED(first),
                    APR_QUOTED(last));
}

static int in_computation_order(const void *a, const void *b)
{
    return apr_stage_compare(((const struct apr_tensor *)a)->name, ((const struct apr_tensor *)b)->name);
}

/* Puts the stages in the place of the tensors. */
static enum apr_code become_trace(struct mapping *g, struct apr_error *e)
{
    struct apr_model *const m = g->m;
    struct apr_table index = { 0 };
    qsort(g->made, g->nmade, sizeof *g->made, in_computation_order);
    for (size_t i = 0; i < g->nmade; i++) {
        bool fresh;
        union apr_table_value *const v = apr_table_put(&index, g->made[i].name, &fresh);
        if (v == NULL) {
            apr_table_free(&index);
            return apr_no_memory(e);
        }
        v->number = i;
    }
    apr_table_free(&m->by_name);
    free(m->tensor);
    m->by_name = index;
    m->tensor = g->made;
    m->ntensor = g->nmade;
    m->tensor_room = g->room;
    m->format = &foreign;
    g->made = NULL;
    return APR_OK;
}

static enum apr_code apply(struct apr_model *m, const struct apr_stage_map *map, const struct apr_other_side *other, struct apr_error *e)
{
    struct mapping g = { .m = m, .map = map, .other = other };
    enum apr_code code = spell_names(&g, e);
    if (code == APR_OK)
        code = make_stages(&g, e);
    if (code == APR_OK)
        leave_odd_rows(&g);
    if (code == APR_OK && g.nmade == 0)
        code = m->format->trace ? APR_OK : nothing_known(m, e); /* what it has is activations in any case */
    else if (code == APR_OK && (code = note_rest(&g, e)) == APR_OK)
        code = become_trace(&g, e);
    apr_table_free(&g.plain);
    apr_table_free(&g.made_names);
    free(g.name);
    free(g.used);
    free(g.made);
    return code;
}

/* A trace of ours; a single file is a stage, whatever it is called. */
static bool is_own(const struct apr_model *m)
{
    bool own = apr_is_foreign(m) || (m->format->trace && m->ntensor < 2);
    for (size_t i = 0; i < m->ntensor && m->format->trace && !own; i++) {
        struct apr_bytes stage;
        uint32_t layer;
        apr_stage_split(m->tensor[i].name, &layer, &stage);
        own = apr_stage_rank(stage) < APR_NSTAGES;
    }
    return own;
}

enum apr_code apr_as_trace(struct apr_model *m, const struct apr_stage_map *map, const struct apr_other_side *other, struct apr_error *e)
{
    struct apr_stage_map *usual = NULL;
    if (is_own(m))
        return APR_OK;
    enum apr_code code = map == NULL ? apr_stage_map_open(&usual, NULL, NULL, e) : APR_OK;
    if (code == APR_OK)
        code = apply(m, map == NULL ? usual : map, other, e);
    apr_stage_map_free(usual);
    return code;
}

enum apr_code apr_open_trace(struct apr_model **m, const char *path, const struct apr_stage_map *map, const struct apr_other_side *other,
                             const struct apr_run *r, struct apr_error *e)
{
    APR_TRY(apr_open(m, path, r, e));
    const enum apr_code code = apr_as_trace(*m, map, other, e);
    if (code == APR_OK)
        return APR_OK;
    apr_error_in(e, path);
    apr_close(*m);
    *m = NULL;
    return code;
}

bool apr_trace_last(const struct apr_tensor *t, uint64_t count, struct apr_tensor *view)
{
    struct apr_bytes stage;
    uint32_t layer;
    apr_stage_split(t->name, &layer, &stage);
    if (!apr_stage_is_of_last(apr_stage_rank(stage)) || count == 0 ||
        t->count <= count || t->count % count != 0 || t->dtype->block != 1 || t->dtype->head != 0)
        return false;
    const size_t bytes = (size_t)count * t->dtype->bytes;
    *view = *t;
    view->ndim = 1;
    view->dim[0] = view->count = view->row = count;
    view->data = (struct apr_bytes){ t->data.at + t->data.n - bytes, bytes };
    return true;
}

/* Is every dimension of a the product of some of b's, in their order? */
static bool is_of(const uint64_t *a, unsigned na, const uint64_t *b, unsigned nb)
{
    unsigned k = 0;
    for (unsigned i = 0; i < na; i++) {
        uint64_t n = 1;
        while (k < nb && n < a[i] && apr_mul(n, b[k], &n))
            k++;
        if (n != a[i])
            return false;
    }
    return true;
}

bool apr_trace_fits(const uint64_t *a, unsigned na, const uint64_t *b, unsigned nb)
{
    bool none = false;
    for (unsigned i = 0; i < na; i++)
        none |= a[i] == 0;
    return none || is_of(a, na, b, nb) || is_of(b, nb, a, na);
}
