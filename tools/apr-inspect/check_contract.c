/* Stage 5: the model against its family's contract: every tensor there, of the right shape, and no other. */
#include "check.h"

#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "family/missing.h"
#include "model/format.h"
#include "model/model.h"

#define MOST_LAYERS 65536u

#define SAY(c, code, tensor, ...) add_finding(&(c)->x->findings, code, tensor, (c)->e, __VA_ARGS__)

/* dialect: the one most tensors are named in. nlayer: layers to look at; said: those the metadata gives, 0 when it gives none. */
struct contract {
    struct inspection *x;
    struct apr_error  *e;
    enum apr_dialect   dialect;
    uint64_t           nlayer, said;
    size_t             nmissing, nunknown;
};

/* ---- what is missing ------------------------------------------------------------------------------------------------ */

/* What apr_binding_missing calls; the first failure stays. */
struct missing {
    struct contract *c;
    enum apr_code    code;
};

static bool add_missing(void *ctx, const struct apr_meaning *s, struct apr_bytes spelled)
{
    struct missing *const w = ctx;
    struct contract *const c = w->c;
    if (++c->nmissing > MOST_ALIKE)
        return false;
    const struct apr_bytes name = apr_arena_copy(&c->x->m->arena, spelled);
    w->code = name.at == NULL ? apr_no_memory(c->e)
                              : SAY(c, "contract.missing", name, "tensor %s is not there; family %.*s needs it as %.*s", APR_QUOTED(name),
                                    APR_PRINTED(c->x->family->name), APR_PRINTED(s->role->name));
    return w->code == APR_OK;
}

static enum apr_code check_presence(struct contract *c)
{
    struct missing w = { c, APR_OK };
    apr_binding_missing(c->x->binding, c->dialect, c->nlayer, add_missing, &w);
    if (w.code != APR_OK || c->nmissing <= MOST_ALIKE)
        return w.code;
    return SAY(c, "contract.missing", no_tensor, "more tensors are not there than the %d named", MOST_ALIKE);
}

/* ---- what is there -------------------------------------------------------------------------------------------------- */

/* The shape the contract wants of a tensor of that meaning; false when a size is not known. */
static bool wanted_shape(const struct contract *c, const struct apr_meaning *s, uint64_t *dim, unsigned *ndim)
{
    return !apr_binding_guesses_role(c->x->binding, s->role) && apr_binding_meant_shape(c->x->binding, s, dim, ndim);
}

static enum apr_code add_shape(struct contract *c, const struct apr_tensor *t, const struct apr_role *r, const uint64_t *dim, unsigned ndim)
{
    char has[176], wants[176];
    return SAY(c, "contract.shape", t->name, "tensor %s has the shape %s, family %.*s wants %s for %.*s", APR_QUOTED(t->name),
               apr_spell_shape(t->dim, t->ndim, has), APR_PRINTED(c->x->family->name), apr_spell_shape(dim, ndim, wants),
               APR_PRINTED(r->name));
}

static enum apr_code add_unknown_tensor(struct contract *c, const struct apr_tensor *t, const char *why)
{
    if (++c->nunknown > MOST_ALIKE + 1)
        return APR_OK;
    if (c->nunknown > MOST_ALIKE)
        return SAY(c, "contract.stranger", no_tensor, "more tensors do not belong there than the %d named", MOST_ALIKE);
    return SAY(c, "contract.stranger", t->name, "tensor %s %s family %.*s", APR_QUOTED(t->name), why,
               APR_PRINTED(c->x->family->name));
}

/* One of the roles that t may have must fit. */
static enum apr_code check_tensor(struct contract *c, const struct apr_tensor *t)
{
    struct apr_meaning s, first;
    uint64_t dim[APR_MAX_DIMS];
    unsigned ndim;
    if (apr_binding_skips(c->x->binding, t))
        return APR_OK;
    if (!apr_binding_meaning(c->x->binding, t, 0, &first))
        return add_unknown_tensor(c, t, "is unknown to");
    if (first.role->layered && c->said > 0 && first.layer >= apr_binding_layers(c->x->binding, first.role))
        return add_unknown_tensor(c, t, "is of a layer beyond those of");
    for (size_t i = 0; apr_binding_meaning(c->x->binding, t, i, &s); i++)
        if (!wanted_shape(c, &s, dim, &ndim) || apr_same_shape(dim, ndim, t->dim, t->ndim))
            return APR_OK;
    return wanted_shape(c, &first, dim, &ndim) ? add_shape(c, t, first.role, dim, ndim) : APR_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

/* The dialect, and the layers: those that the model has, as far as its metadata wants them. */
static enum apr_code survey(struct contract *c)
{
    const struct apr_model *m = c->x->m;
    size_t named[APR_NDIALECTS] = { 0 };
    uint64_t last = 0;
    struct apr_meaning s;
    c->said = apr_binding_told(c->x->binding, apr_text("N")) ? apr_binding_layers(c->x->binding, NULL) : 0;
    for (size_t i = 0; i < m->ntensor; i++)
        if (apr_binding_meaning(c->x->binding, &m->tensor[i], 0, &s)) {
            named[s.dialect]++;
            if (s.role->layered && s.layer + (uint64_t)1 > last && !apr_binding_skips(c->x->binding, &m->tensor[i]))
                last = s.layer + (uint64_t)1;
        }
    for (unsigned d = 0; d < APR_NDIALECTS; d++)
        if (named[d] > named[c->dialect])
            c->dialect = (enum apr_dialect)d;
    c->nlayer = apr_min(MOST_LAYERS, c->said > 0 ? apr_min(c->said, last) : last);
    if (c->said <= last)
        return APR_OK;
    return SAY(c, "contract.layers", no_tensor, "the metadata says %llu layers, there are tensors of %llu",
               (unsigned long long)c->said, (unsigned long long)last);
}

static enum apr_code add_unknown(struct inspection *x, struct apr_error *e)
{
    const struct apr_bytes word = architecture_of(x);
    const enum apr_model_kind kind = x->kind;
    if (kind != APR_KIND_MODEL)
        return add_finding(&x->findings, "contract.unknown", no_tensor, e,
                           "this is %s, which no family's contract describes: it is looked at by itself", apr_model_kind_text(kind));
    if (x->family != NULL)
        return add_finding(&x->findings, "contract.unknown", no_tensor, e,
                           "no tensor has a role in family %.*s, which %s is of: they are held against no contract",
                           APR_PRINTED(x->family->name), APR_QUOTED(word));
    if (word.n == 0)
        return add_finding(&x->findings, "contract.unknown", no_tensor, e,
                           "the model does not say what it is: its tensors are held against no contract");
    if (x->o->selection.files.n > 0)
        return add_finding(&x->findings, "contract.unknown", no_tensor, e,
                           "no contract knows %s, that of --family-file neither: its tensors are held against none; it is to be named "
                           "there under detect.architectures", APR_QUOTED(word));
    return add_finding(&x->findings, "contract.unknown", no_tensor, e,
                       "no contract knows %s: its tensors are held against none; --family-file takes one of your own", APR_QUOTED(word));
}

/* ---- tensors without elements --------------------------------------------------------------------------------------- */

/* "a.b.weight" -> "a.b". */
static struct apr_bytes module_of(struct apr_bytes name)
{
    while (name.n > 0 && name.at[name.n - 1] != '.')
        name.n--;
    return (struct apr_bytes){ name.at, name.n == 0 ? 0 : name.n - 1 };
}

/* Modules of which nothing is left: what a save of a model whose parts lie elsewhere writes. */
static enum apr_code check_modules(struct inspection *x, struct apr_error *e)
{
    struct apr_table filled = { 0 };
    enum apr_code code = APR_OK;
    bool fresh;
    for (size_t i = 0; i < x->m->ntensor && code == APR_OK; i++) {
        const struct apr_tensor *t = &x->m->tensor[i];
        if (t->count > 0 && apr_table_put(&filled, module_of(t->name), &fresh) == NULL)
            code = apr_no_memory(e);
    }
    for (size_t i = 0; i < x->m->ntensor && code == APR_OK; i++) {
        const struct apr_bytes name = x->m->tensor[i].name, module = module_of(name);
        if (x->m->tensor[i].count > 0 || apr_table_find(&filled, module) != NULL)
            continue;
        union apr_table_value *told = apr_table_put(&filled, module, &fresh);
        code = told == NULL ? apr_no_memory(e)
                            : add_finding(&x->findings, "module.empty", name, e,
                                          "tensor %s has no elements, nor has any other of its module", APR_QUOTED(name));
    }
    apr_table_free(&filled);
    return code;
}

static enum apr_code check_adapter(struct inspection *x, struct apr_error *e)
{
    if (x->m->ntensor == 0)
        return add_finding(&x->findings, "adapter.empty", no_tensor, e, "the adapter has no tensors");
    for (size_t i = 0; i < x->m->ntensor; i++) {
        const struct apr_bytes name = x->m->tensor[i].name;
        if (x->m->tensor[i].count == 0)
            APR_TRY(add_finding(&x->findings, "adapter.empty", name, e,
                                "tensor %s of the adapter has no elements", APR_QUOTED(name)));
    }
    return APR_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code tell_packing(struct inspection *x, struct apr_error *e)
{
    const struct apr_packing_fault *fault, *guess;
    const char *method;
    if (x->packing == NULL)
        return APR_OK;
    const size_t n = apr_packing_count(x->packing, &method), nfault = apr_packing_faults(x->packing, &fault);
    const char *const unknown = apr_packing_unknown(x->packing);
    for (size_t i = 0; i < nfault && i < MOST_ALIKE; i++)
        APR_TRY(add_finding(&x->findings, "packed.misfit", fault[i].tensor, e, "%s", fault[i].text));
    if (nfault > MOST_ALIKE)
        APR_TRY(add_finding(&x->findings, "packed.misfit", no_tensor, e, "more weights have codes that do not fit than the %d named",
                            MOST_ALIKE));
    const size_t nguess = apr_packing_guesses(x->packing, &guess);
    for (size_t i = 0; i < nguess && i < MOST_ALIKE; i++)
        APR_TRY(add_finding(&x->findings, "packed.guess", guess[i].tensor, e, "%s", guess[i].text));
    if (unknown != NULL)
        APR_TRY(add_finding(&x->findings, "packed.unknown", no_tensor, e, "its weights are packed by %s, which is not known here",
                            APR_QUOTED(apr_text(unknown))));
    return n == 0 ? APR_OK : add_finding(&x->findings, "contract.packed", no_tensor, e, "%zu weights are stored by %s", n, method);
}

static enum apr_code check_family(struct inspection *x, struct apr_error *e)
{
    struct contract c = { .x = x, .e = e, .dialect = x->m->format->own_names ? APR_GGUF : APR_HF };
    APR_TRY(survey(&c));
    APR_TRY(check_presence(&c));
    for (size_t i = 0; i < x->m->ntensor; i++)
        APR_TRY(check_tensor(&c, &x->m->tensor[i]));
    return APR_OK;
}

enum apr_code check_contract(struct inspection *x, struct apr_error *e)
{
    if (!has_weights(x))
        return APR_OK;
    APR_TRY(tell_packing(x, e));
    if (x->packing != NULL && apr_packing_unknown(x->packing) != NULL)
        return APR_OK; /* its tensors are no weights of the family's shapes */
    APR_TRY(x->binding == NULL ? add_unknown(x, e) : check_family(x, e));
    return x->kind == APR_KIND_ADAPTER ? check_adapter(x, e) : check_modules(x, e);
}
