/* The model of what is left: the source's tensors but for those of layers that are gone, matrices without what was taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "prune.h"
#include "token/ids.h"

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

/* Where the number of its layer stands in a name: the first part between dots that is it. */
static bool find_number(struct apr_bytes name, uint32_t layer, size_t *at, size_t *digits)
{
    char number[16];
    *digits = (size_t)snprintf(number, sizeof number, "%lu", (unsigned long)layer);
    for (*at = 0; *at + *digits <= name.n; ++*at) {
        const bool begins = *at == 0 || name.at[*at - 1] == '.', ends = *at + *digits == name.n || name.at[*at + *digits] == '.';
        if (begins && ends && memcmp(name.at + *at, number, *digits) == 0)
            return true;
    }
    return false;
}

/* The name with the layer's new number. */
static enum apr_code renumbered(struct pruning *p, const struct apr_tensor *t, uint32_t layer, struct apr_bytes *name, struct apr_error *e)
{
    size_t at, digits;
    if (!find_number(t->name, layer, &at, &digits))
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name, ": its layer's number, %lu, does not stand in its name",
                               (unsigned long)layer);
    *name = apr_arena_format(&p->arena, "%.*s%lu%.*s", (int)at, (const char *)t->name.at, (unsigned long)new_layer(p, layer),
                             (int)(t->name.n - at - digits), (const char *)t->name.at + at + digits);
    return name->at == NULL ? apr_no_memory(e) : APR_OK;
}

/* What names of layers begin with, up to the number. */
static enum apr_code learn_prefixes(struct pruning *p, struct apr_error *e)
{
    for (size_t i = 0; i < p->m->ntensor; i++) {
        const struct apr_tensor *const t = &p->m->tensor[i];
        struct apr_meaning s;
        size_t at, digits;
        bool fresh;
        if (!apr_binding_meaning(p->binding, t, 0, &s) || !s.role->layered || !find_number(t->name, s.layer, &at, &digits) || at == 0)
            continue;
        if (apr_table_put(&p->prefixes, (struct apr_bytes){ t->name.at, at }, &fresh) == NULL)
            return apr_no_memory(e);
    }
    return APR_OK;
}

/* The layer that a name which no family knows begins with, as names of layers do: of codes and what undoes them, of buffers. */
static bool layer_by_name(const struct pruning *p, struct apr_bytes name, uint64_t *layer)
{
    for (size_t i = 1; i < name.n; i++) {
        const struct apr_bytes rest = { name.at + i, name.n - i };
        const size_t n = name.at[i - 1] == '.' ? apr_digits(rest, layer) : 0;
        if (n > 0 && n < rest.n && rest.at[n] == '.' && apr_table_find(&p->prefixes, (struct apr_bytes){ name.at, i }) != NULL)
            return true;
    }
    return false;
}

/* *in: it is of a layer. */
static enum apr_code layer_of(const struct pruning *p, const struct apr_tensor *t, bool *in, uint32_t *layer, struct apr_error *e)
{
    const struct apr_tensor *const known = apr_model_find(p->m, t->name);
    struct apr_meaning s;
    uint64_t n;
    if (known != NULL && apr_binding_meaning(p->binding, known, 0, &s)) {
        *in = s.role->layered;
        *layer = s.layer;
        return APR_OK;
    }
    *in = layer_by_name(p, t->name, &n);
    if (*in && n >= p->nlayer)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name, " is of no layer, of which the model has %lu",
                               (unsigned long)p->nlayer);
    *layer = *in ? (uint32_t)n : 0;
    return APR_OK;
}

/* What a tensor is called afterwards; *stays false: it goes with its layer. */
static enum apr_code keep_tensor(struct pruning *p, const struct apr_tensor *t, struct apr_bytes *name, bool *stays, struct apr_error *e)
{
    bool in = false;
    uint32_t layer = 0;
    *stays = true;
    if (p->gone != NULL)
        APR_TRY(layer_of(p, t, &in, &layer, e));
    if (!in)
        return APR_OK;
    *stays = !p->gone[layer];
    return *stays ? renumbered(p, t, layer, name, e) : APR_OK;
}

/* Of codes there are values from now on. */
static void compute(struct apr_tensor *t, const struct matrix *x)
{
    if (t->packed != NULL) {
        t->dtype = &apr_dtypes[APR_F32];
        memcpy(t->dim, x->t->dim, sizeof t->dim);
        t->packed = NULL;
    }
    t->computed = &x->computation;
    t->data = (struct apr_bytes){ 0 };
    t->row = t->count;
    t->swapped = false;
}

/* Of each layer that stays, its number before. */
static enum apr_code tell_layers(struct pruning *p, struct apr_error *e)
{
    uint32_t *const from = calloc(p->nlayer + 1, sizeof *from);
    uint32_t n = 0;
    if (from == NULL)
        return apr_no_memory(e);
    for (uint32_t i = 0; i < p->nlayer; i++)
        if (!p->gone[i])
            from[n++] = i;
    const enum apr_code code = apr_derived_layers(&p->pruned, p->binding, from, n, e);
    free(from);
    return code;
}

enum apr_code make_pruned(struct pruning *p, struct apr_error *e)
{
    const struct matrix *next = p->matrix, *const end = p->nmatrix == 0 ? p->matrix : p->matrix + p->nmatrix;
    APR_TRY(apr_derived_begin(&p->pruned, p->source, e));
    if (p->gone != NULL)
        APR_TRY(learn_prefixes(p, e));
    p->o->to.unpacked = p->source != p->opened;
    if (p->o->to.unpacked)
        APR_TRY(apr_derived_unpacked(&p->pruned, e));
    for (size_t i = 0; i < p->source->ntensor; i++) {
        const struct apr_tensor *const before = &p->source->tensor[i];
        struct apr_tensor t = *before;
        bool stays;
        if (next < end && next->before == before)
            compute(&t, next++);
        APR_TRY(keep_tensor(p, before, &t.name, &stays, e));
        if (stays)
            APR_TRY(apr_derived_add(&p->pruned, &t, e));
    }
    return p->gone == NULL ? APR_OK : tell_layers(p, e);
}
