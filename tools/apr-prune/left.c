/* The model of what is left: the source's tensors but for those of layers that are gone, matrices without what was taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "forward/net.h"
#include "prune.h"

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

/* The name with the layer's new number: the first part between dots that is the old one. */
static enum apr_code renumbered(struct pruning *p, const struct apr_tensor *t, uint32_t layer, struct apr_bytes *name, struct apr_error *e)
{
    char number[16];
    const size_t digits = (size_t)snprintf(number, sizeof number, "%lu", (unsigned long)layer);
    for (size_t i = 0; i + digits <= t->name.n; i++) {
        const bool begins = i == 0 || t->name.at[i - 1] == '.', ends = i + digits == t->name.n || t->name.at[i + digits] == '.';
        if (!begins || !ends || memcmp(t->name.at + i, number, digits) != 0)
            continue;
        *name = apr_arena_format(&p->arena, "%.*s%lu%.*s", (int)i, (const char *)t->name.at, (unsigned long)new_layer(p, layer),
                                 (int)(t->name.n - i - digits), (const char *)t->name.at + i + digits);
        return name->at == NULL ? apr_no_memory(e) : APR_OK;
    }
    return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name, ": its layer's number, %lu, does not stand in its name",
                           (unsigned long)layer);
}

/* What a tensor is called afterwards; *stays false: it goes with its layer. */
static enum apr_code keep_tensor(struct pruning *p, const struct apr_tensor *t, struct apr_bytes *name, bool *stays, struct apr_error *e)
{
    struct apr_meaning s;
    *stays = true;
    if (p->gone == NULL || !apr_binding_meaning(p->binding, t, 0, &s) || !s.role->layered)
        return APR_OK;
    *stays = !p->gone[s.layer];
    return *stays ? renumbered(p, t, s.layer, name, e) : APR_OK;
}

static void compute(struct apr_tensor *t, const struct matrix *x)
{
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
    APR_TRY(apr_derived_begin(&p->pruned, p->m, e));
    for (size_t i = 0; i < p->m->ntensor; i++) {
        const struct apr_tensor *const before = &p->m->tensor[i];
        struct apr_tensor t = *before;
        bool stays;
        if (next < end && next->t == before)
            compute(&t, next++);
        APR_TRY(keep_tensor(p, before, &t.name, &stays, e));
        if (stays)
            APR_TRY(apr_derived_add(&p->pruned, &t, e));
    }
    return p->gone == NULL ? APR_OK : tell_layers(p, e);
}

/* ---- layers --------------------------------------------------------------------------------------------------------- */

static bool same_rope(const struct apr_rope *a, const struct apr_rope *b)
{
    const bool same = a->n == b->n && a->skip == b->skip && a->scale == b->scale;
    return same && (a->n == 0 || memcmp(a->freq, b->freq, a->n / 2 * sizeof *a->freq) == 0);
}

/* A layer may be what it is by its number: every second one sees a window, the first are dense. */
static enum apr_code compare_layers(const struct pruning *p, const struct apr_net *before, const struct apr_net *after, struct apr_error *e)
{
    for (uint32_t i = 0; i < p->nlayer; i++) {
        const struct apr_layer *const a = &before->layer[i], *const b = p->gone[i] ? a : &after->layer[new_layer(p, i)];
        if (a->window != b->window || a->experts.n != b->experts.n || !same_rope(&a->rope, &b->rope))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "layer %lu would become layer %lu, which by its number is of another kind: %s",
                            (unsigned long)i, (unsigned long)new_layer(p, i),
                            a->window != b->window ? "it sees another window" : a->experts.n != b->experts.n ? "it has other experts"
                                                                                                              : "its heads turn otherwise");
    }
    return APR_OK;
}

static enum apr_code check_net(struct pruning *p, const struct apr_net *before, struct apr_binding **bound, struct apr_net **after,
                               struct apr_error *e)
{
    APR_TRY(apr_bind(bound, apr_binding_family(p->binding), &p->pruned.m, NULL, e));
    APR_TRY(apr_net_new(after, p->o->to.cli.run.kernels, &p->pruned.m, *bound, e));
    if (before->nlayer != p->nlayer || (*after)->nlayer != p->nlayer - p->ngone)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "%llu of its layers would run, not %lu", (unsigned long long)(*after)->nlayer,
                        (unsigned long)(p->nlayer - p->ngone));
    return compare_layers(p, before, *after, e);
}

/* As far as there is a forward pass that knows. */
enum apr_code check_layers(struct pruning *p, struct apr_error *e)
{
    struct apr_net *before = NULL, *after = NULL;
    struct apr_binding *bound = NULL;
    if (p->gone == NULL || !apr_binding_family(p->binding)->runs)
        return APR_OK;
    enum apr_code code = apr_net_new(&before, p->o->to.cli.run.kernels, p->m, p->binding, e);
    if (code == APR_OK)
        code = check_net(p, before, &bound, &after, e);
    else if (code == APR_EARG || code == APR_EUNSUPPORTED)
        code = APR_OK; /* it does not run as it is */
    apr_net_free(after);
    apr_binding_free(bound);
    apr_net_free(before);
    return code;
}
