/* Whether layers by their new numbers are what they were. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/missing.h"
#include "forward/net.h"
#include "prune.h"

/* The pruned model as whoever loads it sees it. */
struct afterwards {
    struct apr_packing     *packing;
    const struct apr_model *m;
    struct apr_binding     *binding;
    struct apr_net         *net;
};

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

/* Is its shape one that the contract gives a role of its name, as far as that is known? */
static bool fits(const struct apr_binding *b, const struct apr_tensor *t)
{
    uint64_t dim[APR_MAX_DIMS];
    struct apr_meaning s;
    unsigned ndim;
    size_t n = 0;
    for (; apr_binding_meaning(b, t, n, &s); n++) {
        const bool known = !apr_binding_guesses_role(b, s.role) && apr_binding_meant_shape(b, &s, dim, &ndim);
        if (!known || apr_same_shape(dim, ndim, t->dim, t->ndim))
            return true;
    }
    return n == 0;
}

/* The first tensor whose shape does not fit, or NULL. */
static const struct apr_tensor *misfit(const struct apr_binding *b, const struct apr_model *m)
{
    for (size_t i = 0; i < m->ntensor; i++)
        if (!fits(b, &m->tensor[i]))
            return &m->tensor[i];
    return NULL;
}

struct missing {
    char     name[APR_NAME_ROOM];
    uint32_t layer;
    bool     any;
};

static bool note_missing(void *ctx, const struct apr_meaning *what, struct apr_bytes name)
{
    struct missing *const x = ctx;
    x->any = true;
    x->layer = what->layer;
    snprintf(x->name, sizeof x->name, "%s", APR_QUOTED(name));
    return false;
}

static struct missing missing_of(const struct apr_binding *b, const struct apr_model *m, uint64_t nlayer)
{
    struct missing x = { .any = false };
    apr_binding_missing(b, apr_binding_spoken(b, m), nlayer, note_missing, &x);
    return x;
}

/* A model that was whole, and whose tensors had the shapes that its contract wants, stays so. */
static enum apr_code check_contract(const struct pruning *p, const struct afterwards *a, struct apr_error *e)
{
    const struct apr_tensor *const odd = misfit(a->binding, a->m);
    const struct missing gap = missing_of(a->binding, a->m, p->nlayer - p->ngone);
    if (odd != NULL && misfit(p->binding, p->m) == NULL)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, odd->name, " has parts for each of the layers, which are not taken out");
    if (gap.any && !missing_of(p->binding, p->m, p->nlayer).any)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "a layer would become layer %lu, which by its number is of another kind: it needs %s",
                        (unsigned long)gap.layer, gap.name);
    return APR_OK;
}

/* ---- what they do --------------------------------------------------------------------------------------------------- */

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

/* Is there a list of kinds in config.json, for which a GGUF of the family has no key? */
static bool loses_kinds(const struct pruning *p)
{
    const struct apr_family *const f = apr_binding_family(p->binding);
    bool told = false;
    for (size_t i = 0; i < f->nkv; i++)
        told |= f->kv[i].type == APR_META_ARRAY && apr_bytes_end(f->kv[i].key, apr_text(".sliding_window_pattern"));
    return p->conversion.format->own_names && !p->m->format->own_names && !told;
}

/* m as its GGUF has it, which says less: neither which layers see all nor which have no positions. */
struct as_gguf {
    struct apr_derived  m;
    struct apr_binding *binding;
    struct apr_net     *net;
};

static enum apr_code forget_kinds(struct apr_derived *d, const struct apr_model *m, struct apr_error *e)
{
    APR_TRY(apr_derived_begin(d, m, e));
    for (size_t i = 0; i < m->ntensor; i++)
        APR_TRY(apr_derived_add(d, &m->tensor[i], e));
    APR_TRY(apr_derived_forget(d, "layer_types", e));
    return apr_derived_forget(d, "no_rope_layers", e);
}

static enum apr_code net_of_gguf(const struct pruning *p, const struct apr_model *m, struct as_gguf *g, struct apr_error *e)
{
    APR_TRY(forget_kinds(&g->m, m, e));
    APR_TRY(apr_bind(&g->binding, apr_binding_family(p->binding), &g->m.m, NULL, e));
    return apr_net_new(&g->net, p->o->to.cli.run.kernels, &g->m.m, g->binding, e);
}

static void end_gguf(struct as_gguf *g)
{
    apr_net_free(g->net);
    apr_binding_free(g->binding);
    apr_derived_end(&g->m);
}

/* The first layer that differs, or their number. */
static uint64_t first_odd(const struct apr_net *a, const struct apr_net *b)
{
    uint64_t i = 0;
    while (i < a->nlayer && i < b->nlayer && a->layer[i].window == b->layer[i].window && same_rope(&a->layer[i].rope, &b->layer[i].rope))
        i++;
    return i;
}

/* Where a GGUF said as much as config.json, it is to go on so. */
static enum apr_code check_gguf(const struct pruning *p, const struct apr_net *before, const struct afterwards *a, struct apr_error *e)
{
    struct as_gguf was = { 0 }, is = { 0 };
    if (!loses_kinds(p))
        return APR_OK;
    enum apr_code code = net_of_gguf(p, p->m, &was, e);
    if (code == APR_OK)
        code = net_of_gguf(p, a->m, &is, e);
    if (code == APR_OK && first_odd(before, was.net) == before->nlayer && first_odd(a->net, is.net) < a->net->nlayer)
        code = apr_fail(e, APR_EARG, APR_NOWHERE,
                        "layer %llu would be of another kind in a GGUF, which has no list of kinds, as a checkpoint or an APR has",
                        (unsigned long long)first_odd(a->net, is.net));
    end_gguf(&was);
    end_gguf(&is);
    return code;
}

static enum apr_code compare_nets(const struct pruning *p, const struct apr_net *before, struct afterwards *a, struct apr_error *e)
{
    APR_TRY(apr_net_new(&a->net, p->o->to.cli.run.kernels, a->m, a->binding, e));
    if (before->nlayer != p->nlayer || a->net->nlayer != p->nlayer - p->ngone)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "%llu of its layers would run, not %lu", (unsigned long long)a->net->nlayer,
                        (unsigned long)(p->nlayer - p->ngone));
    APR_TRY(compare_layers(p, before, a->net, e));
    return check_gguf(p, before, a, e);
}

/* Does the target say of each layer whether it sees a window? A checkpoint's config.json does where the model's did. */
static bool lists_kinds(const struct pruning *p)
{
    struct apr_bytes word;
    if (p->conversion.format->own_names || p->m->format->own_names)
        return !loses_kinds(p) && apr_binding_has(p->binding, apr_text("attention.sliding_window_pattern"));
    return apr_binding_text(p->binding, apr_text("layer_types.0"), &word);
}

/* Where no forward pass tells, layers that may see a window by their number keep it. */
static enum apr_code check_window(const struct pruning *p, struct apr_error *e)
{
    double window;
    if (lists_kinds(p) || !apr_binding_number(p->binding, apr_text("attention.sliding_window"), &window) || !(window > 0))
        return APR_OK;
    for (uint32_t i = 0; i < p->nlayer; i++)
        if (!p->gone[i] && new_layer(p, i) != i)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "layer %lu would become layer %lu: whether it sees a window goes by its number there",
                            (unsigned long)i, (unsigned long)new_layer(p, i));
    return APR_OK;
}

/* As far as there is a forward pass that knows. */
static enum apr_code check_net(const struct pruning *p, struct afterwards *a, struct apr_error *e)
{
    struct apr_net *before = NULL;
    if (!apr_binding_family(p->binding)->runs)
        return check_window(p, e);
    enum apr_code code = apr_net_new(&before, p->o->to.cli.run.kernels, p->m, p->binding, e);
    if (code == APR_OK)
        code = compare_nets(p, before, a, e);
    else if (code == APR_EARG || code == APR_EUNSUPPORTED)
        code = APR_OK; /* it does not run as it is */
    apr_net_free(before);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code bind_pruned(struct pruning *p, struct afterwards *a, struct apr_error *e)
{
    APR_TRY(apr_packing_open(&a->packing, &p->pruned.m, e));
    a->m = a->packing == NULL ? &p->pruned.m : apr_packing_view(a->packing);
    return apr_bind(&a->binding, apr_binding_family(p->binding), a->m, NULL, e);
}

enum apr_code check_layers(struct pruning *p, struct apr_error *e)
{
    struct afterwards a = { 0 };
    if (p->gone == NULL)
        return APR_OK;
    enum apr_code code = bind_pruned(p, &a, e);
    if (code == APR_OK)
        code = check_contract(p, &a, e);
    if (code == APR_OK)
        code = check_net(p, &a, e);
    apr_net_free(a.net);
    apr_binding_free(a.binding);
    apr_packing_free(a.packing);
    return code;
}
