#include "family/missing.h"

#include <math.h>

#include "base/bytes.h"

#define MOST_PARTS 65536u /* experts of a layer that are looked for */

struct search {
    const struct apr_binding *b;
    enum apr_dialect          dialect;
    apr_missing_fn           *found;
    void                     *ctx;
};

/* The value of a size or condition; `otherwise` when it is not known. */
static uint64_t size_or(const struct apr_binding *b, const struct apr_expr *x, uint64_t otherwise)
{
    uint64_t n;
    return x != NULL && apr_binding_size(b, x, &n) ? n : otherwise;
}

uint64_t apr_binding_layers(const struct apr_binding *b, const struct apr_role *role)
{
    const struct apr_family *const f = apr_binding_family(b);
    double said;
    if (!apr_binding_number(b, apr_text("N"), &said) || !(said > 0 && said < 0x1p53) || said != floor(said))
        return 0;
    uint64_t last = (uint64_t)said;
    for (size_t i = 0; i < f->nrole; i++) {
        const struct apr_role *const r = &f->role[i];
        const bool counts = r->layers[1] != NULL && (role == NULL || role == r) && (r->when == NULL || size_or(b, r->when, 0) != 0);
        const uint64_t to = counts ? size_or(b, r->layers[1], 0) : 0;
        if (to > last)
            last = to;
    }
    return last;
}

enum apr_dialect apr_binding_spoken(const struct apr_binding *b, const struct apr_model *m)
{
    size_t named[APR_NDIALECTS] = { 0 };
    enum apr_dialect most = APR_HF;
    struct apr_meaning s;
    for (size_t i = 0; i < m->ntensor; i++)
        if (apr_binding_meaning(b, &m->tensor[i], 0, &s))
            named[s.dialect]++;
    for (unsigned d = 0; d < APR_NDIALECTS; d++)
        if (named[d] > named[most])
            most = (enum apr_dialect)d;
    return most;
}

static bool tell(const struct search *w, const struct apr_meaning *s)
{
    char text[APR_NAME_ROOM];
    const size_t n = apr_binding_spell(w->b, s, text, sizeof text);
    return w->found(w->ctx, s, (struct apr_bytes){ (const unsigned char *)text, n });
}

static uint64_t part_count(const struct search *w, const struct apr_role *r, enum apr_dialect d)
{
    if (d != APR_HF || apr_role_joined(r))
        return r->known[d].n;
    return apr_role_stacked(r) ? apr_min(size_or(w->b, r->transform[0].n[0], 0), MOST_PARTS) : 1;
}

/* Every part and expert that makes up the role in that layer; false to stop. */
static bool look_in_layer(const struct search *w, const struct apr_role *r, uint32_t layer)
{
    struct apr_meaning s = { .role = r, .layer = layer, .dialect = apr_binding_dialect(w->b, r, layer) };
    const bool absent = s.dialect == APR_NDIALECTS;
    if (absent && r->in_key && w->dialect == APR_GGUF)
        return true;
    if (absent)
        s.dialect = r->known[w->dialect].n > 0 ? w->dialect : APR_HF;
    if (r->known[s.dialect].n == 0)
        return true;
    const uint64_t n = part_count(w, r, s.dialect);
    for (uint64_t i = 0; i < n; i++) {
        if (s.dialect == APR_HF && !apr_role_joined(r))
            s.expert = (uint32_t)i;
        else
            s.part = (unsigned)i;
        if ((absent || apr_binding_find(w->b, &s) == NULL) && !tell(w, &s))
            return false;
    }
    return true;
}

/* Nothing tells whether a model has it, or in which layers. */
static bool is_guessed(const struct apr_binding *b, const struct apr_role *r)
{
    bool yes = apr_binding_guesses(b, r->when) || apr_binding_guesses(b, r->optional) || apr_binding_guesses(b, r->where);
    for (unsigned i = 0; i < 3 && !yes; i++)
        yes = apr_binding_guesses(b, r->layers[i]);
    return yes;
}

static bool is_required(const struct apr_binding *b, const struct apr_role *r)
{
    return !is_guessed(b, r) && !r->generated && (r->when == NULL || size_or(b, r->when, 0) != 0) && (r->optional == NULL || size_or(b, r->optional, 1) == 0);
}

void apr_binding_missing(const struct apr_binding *b, enum apr_dialect dialect, uint64_t nlayer, apr_missing_fn *found, void *ctx)
{
    const struct search w = { b, dialect, found, ctx };
    const struct apr_family *f = apr_binding_family(b);
    bool more = true;
    for (size_t i = 0; i < f->nrole && more; i++) {
        const struct apr_role *r = &f->role[i];
        if (!is_required(b, r))
            continue;
        const uint64_t from = r->layered ? size_or(b, r->layers[0], 0) : 0, step = size_or(b, r->layers[2], 1);
        const uint64_t last = r->layers[1] == NULL ? nlayer : apr_min(nlayer, size_or(b, r->layers[1], 0)), to = r->layered ? last : 1;
        for (uint64_t layer = from; layer < to && step > 0 && more; layer += step)
            if (apr_binding_in_layer(b, r, layer, false))
                more = look_in_layer(&w, r, (uint32_t)layer);
    }
}
