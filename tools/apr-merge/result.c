/* The model that the merged tensors are, and its way to the target. */
#include "merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* ---- sizes ---------------------------------------------------------------------------------------------------------- */

/* Layer i of the result was, in the model whose words these are, that of the slice's first source where it has one of that number. */
static enum apr_code count_layers(struct merge *m, struct apr_error *e)
{
    const struct config *const c = &m->config;
    const struct model *const reference = &m->model[m->reference];
    size_t n = 0, k = 0;
    for (size_t i = 0; i < c->nslice; i++)
        n += c->slice[i].part[0].to - c->slice[i].part[0].from;
    uint32_t *const from = apr_arena_alloc(&m->arena, (n + 1) * sizeof *from);
    if (from == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < c->nslice; i++)
        for (uint32_t layer = c->slice[i].part[0].from; layer < c->slice[i].part[0].to; layer++)
            from[k++] = reference->nlayer == 0 ? 0 : (uint32_t)apr_min(layer, reference->nlayer - 1);
    return reference->binding == NULL || !c->sliced ? APR_OK : apr_derived_layers(&m->result, reference->binding, from, n, e);
}

/* Rows of the vocabulary follow the embedding. */
static enum apr_code count_rows(struct merge *m, struct apr_error *e)
{
    const struct model *const reference = &m->model[m->reference];
    for (size_t i = 0; i < m->ntensor; i++) {
        const struct apr_tensor *const t = &m->tensor[i]->tensor;
        const struct apr_wish *const w = layer_in(t->name) < 0 && t->ndim == 2 ? wish_called(reference, t->name) : NULL;
        if (w != NULL && w->ndim == 2 && w->dim[0] != t->dim[0] && reference->binding != NULL)
            return apr_derived_vocabulary(&m->result, reference->binding, t->dim[0], e);
    }
    return APR_OK;
}

/* ---- the order ------------------------------------------------------------------------------------------------------ */

/* Tensors lie as in the model whose words these are, the others behind them. */
struct placed {
    struct merged *t;
    size_t         at, number;
};

static int by_place(const void *a, const void *b)
{
    const struct placed *const x = a, *const y = b;
    return x->at != y->at ? (x->at > y->at) - (x->at < y->at) : (x->number > y->number) - (x->number < y->number);
}

static enum apr_code put_in_order(struct merge *m, struct apr_error *e)
{
    const struct model *const reference = &m->model[m->reference];
    struct placed *const p = malloc((m->ntensor + 1) * sizeof *p);
    if (p == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->ntensor; i++) {
        const struct apr_wish *const w = wish_called(reference, m->tensor[i]->tensor.name);
        p[i] = (struct placed){ m->tensor[i], w == NULL ? SIZE_MAX : (size_t)(w - reference->wishes.wish), i };
        if (w != NULL && !m->config.sliced)
            m->tensor[i]->tensor.name = w->name;
    }
    if (!m->config.sliced)
        qsort(p, m->ntensor, sizeof *p, by_place);
    for (size_t i = 0; i < m->ntensor; i++)
        m->tensor[i] = p[i].t;
    free(p);
    return APR_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

/* The files of all models, of the first in words first. Before tensors are paired, which then say where they lie. */
enum apr_code begin_result(struct merge *m, struct apr_error *e)
{
    m->first_file = apr_arena_alloc(&m->arena, (m->config.nmodel + 1) * sizeof *m->first_file);
    if (m->first_file == NULL)
        return apr_no_memory(e);
    m->began = true;
    APR_TRY(apr_derived_begin(&m->result, m->model[m->reference].m, e));
    for (size_t i = 0; i < m->config.nmodel; i++)
        if (i != m->reference)
            APR_TRY(apr_derived_files(&m->result, m->model[i].m, &m->first_file[i], e));
    return APR_OK;
}

enum apr_code make_result(struct merge *m, struct apr_error *e)
{
    APR_TRY(put_in_order(m, e));
    APR_TRY(count_layers(m, e));
    APR_TRY(count_rows(m, e));
    if (m->model[m->reference].packing != NULL)
        APR_TRY(apr_derived_unpacked(&m->result, e));
    for (size_t i = 0; i < m->ntensor; i++)
        APR_TRY(apr_derived_add(&m->result, &m->tensor[i]->tensor, e));
    return APR_OK;
}

/* ---- against the base ----------------------------------------------------------------------------------------------- */

/* The same tensor with the base's values; *other stays NULL where it has none. */
static enum apr_code base_of(struct merge *m, const struct apr_tensor *t, struct apr_tensor **other, struct apr_error *e)
{
    struct merged *const merged = t->computed == NULL ? NULL : (struct merged *)(uintptr_t)t->computed;
    *other = NULL;
    if (merged == NULL || merged->base == NULL)
        return APR_OK;
    *other = apr_arena_alloc(&m->arena, sizeof **other);
    if (*other == NULL)
        return apr_no_memory(e);
    **other = *t;
    merged->of_base.values = base_values;
    (*other)->computed = &merged->of_base;
    return APR_OK;
}

/* What a planned tensor is read from, but with the base's values: it is measured against that. */
static enum apr_code set_against(struct merge *m, struct apr_planned *t, struct apr_error *e)
{
    struct apr_tensor *other;
    if (t->how != APR_ENCODE)
        return APR_OK;
    struct apr_input *const in = apr_input_keep(&m->arena, t->in);
    const struct apr_tensor **const part = apr_arena_alloc(&m->arena, (t->in->view.npart + 1) * sizeof *part);
    if (in == NULL || part == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < t->in->view.npart; i++) {
        APR_TRY(base_of(m, apr_input_part(t->in, i), &other, e));
        if (other == NULL)
            return APR_OK;
        part[i] = other;
    }
    in->view.part = part;
    t->against = m->o->c.cli.json ? in : NULL; /* who does not ask saves the reading of the base; all else of the plan is the same */
    t->lossy = true;
    return APR_OK;
}

enum apr_code measure_against_base(struct merge *m, struct apr_error *e)
{
    for (size_t i = 0; i < m->conversion.plan.ntensor; i++)
        APR_TRY(set_against(m, &m->conversion.plan.tensor[i], e));
    return APR_OK;
}
