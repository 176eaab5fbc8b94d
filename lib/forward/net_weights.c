/* Weights as a forward pass wants them, of tensors as they lie in any container: the order of a GGUF, but heads as HuggingFace has them. */
#include "forward/net_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "ui/report.h"

#define MOST_ROLE 64 /* bytes of a role's name, with what stands behind it */

void *apr_net_room(const struct apr_netting *g, uint64_t n, size_t size)
{
    uint64_t bytes;
    return apr_mul(n, size, &bytes) && bytes <= SIZE_MAX / 2 ? apr_arena_alloc(&g->n->arena, (size_t)bytes + 1) : NULL;
}

/* ---- roles ---------------------------------------------------------------------------------------------------------- */

static const struct apr_role *present(const struct apr_netting *g, struct apr_bytes name, uint32_t layer)
{
    const struct apr_role *const r = apr_family_role(apr_binding_family(g->b), name);
    const bool there = r != NULL && !r->generated && (r->when == NULL || apr_binding_holds(g->b, r->when)) &&
                       apr_binding_dialect(g->b, r, layer) != APR_NDIALECTS;
    return there ? r : NULL;
}

/* The first of the names, each with `tail` behind it, that the model has. */
static const struct apr_role *find_role(const struct apr_netting *g, const char *roles, const char *tail, uint32_t layer)
{
    char name[MOST_ROLE];
    const struct apr_role *found = NULL;
    for (const char *at = roles; *at != 0 && found == NULL;) {
        const size_t n = strcspn(at, " ");
        const int length = snprintf(name, sizeof name, "%.*s%s", (int)n, at, tail);
        found = present(g, (struct apr_bytes){ (const unsigned char *)name, (size_t)length }, layer);
        at += n + (at[n] == ' ');
    }
    return found;
}

const struct apr_role *apr_net_role(const struct apr_netting *g, const char *roles, uint32_t layer)
{
    return find_role(g, roles, "", layer);
}

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

/* A role in a layer, as it is stored and as it is wanted. */
struct task {
    struct apr_stored    of;
    struct apr_transform to[APR_MAX_STEPS];
    size_t               nto;
};

static enum apr_code wrong_shape(const struct apr_netting *g, const struct apr_tensor *t, const uint64_t *dim, unsigned ndim)
{
    char has[176], wanted[176];
    return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, t->name, " has the shape %s, family %.*s with these sizes wants %s",
                           apr_spell_shape(t->dim, t->ndim, has), APR_PRINTED(g->n->family), apr_spell_shape(dim, ndim, wanted));
}

/* Heads stay as HuggingFace has them, so that halves turn in every container; and rows that a converter only cuts off stay too. */
static bool is_undone(const struct apr_transform *t)
{
    return t->op == APR_OP_ROPE_PERMUTE || t->op == APR_OP_MLA_SPLIT || (t->op == APR_OP_ROWS && t->n[0] == 0);
}

static enum apr_code find_chains(const struct apr_netting *g, struct task *t)
{
    struct apr_stored *const s = &t->of;
    struct apr_transform gguf[APR_MAX_STEPS];
    size_t n;
    APR_TRY(apr_binding_chain(g->b, s->role, s->dialect, s->chain, &s->nchain, g->e));
    APR_TRY(apr_binding_chain(g->b, s->role, APR_GGUF, gguf, &n, g->e));
    for (size_t i = 0; i < n; i++)
        if (!is_undone(&gguf[i]))
            t->to[t->nto++] = gguf[i];
    if (apr_binding_shape(g->b, s->role, s->dim, &s->ndim))
        return APR_OK;
    if (s->nchain + t->nto > 0)
        return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, s->part[0]->name, ": a size of role %.*s of family %.*s is in no metadata",
                               APR_PRINTED(s->role->name), APR_PRINTED(g->n->family));
    apr_stored_take_shape(s);
    return APR_OK;
}

/* Is every tensor shaped as the contract says? */
static enum apr_code check_shapes(const struct apr_netting *g, const struct apr_stored *s)
{
    for (size_t i = 0; i < s->n; i++) {
        uint64_t dim[APR_MAX_DIMS];
        unsigned ndim;
        if (!apr_stored_shape(s, i, dim, &ndim))
            return wrong_shape(g, s->part[i], s->dim, s->ndim);
        if (!apr_same_shape(dim, ndim, s->part[i]->dim, s->part[i]->ndim))
            return wrong_shape(g, s->part[i], dim, ndim);
    }
    return APR_OK;
}

static enum apr_code see(const struct apr_netting *g, const struct task *t, unsigned number, struct apr_piece *p)
{
    const struct apr_tensor *const first = t->of.part[0];
    struct apr_view view;
    struct apr_error why;
    uint64_t dim[APR_MAX_DIMS];
    unsigned ndim;
    if (!apr_stored_other_shape(&t->of, t->to, t->nto, number, dim, &ndim))
        return wrong_shape(g, first, t->of.dim, t->of.ndim);
    if (apr_stored_view(&t->of, t->to, t->nto, number, &view, &why) != APR_OK)
        return apr_fail_tensor(g->e, why.code, APR_NOWHERE, first->name, ": %s", why.text);
    const struct apr_input in = apr_input_through(g->k, g->m, &view, dim, ndim);
    if (!in.decodable)
        return apr_fail_tensor(g->e, APR_EUNSUPPORTED, APR_NOWHERE, first->name, " is of dtype %s, which nothing decodes",
                               first->dtype->name);
    *p = (struct apr_piece){ apr_input_keep(&g->n->arena, &in), t->of.role, first };
    return p->in == NULL ? apr_no_memory(g->e) : APR_OK;
}

static enum apr_code take(const struct apr_netting *g, const struct apr_role *role, uint32_t layer, unsigned number, struct apr_piece *p)
{
    struct task t = { 0 };
    APR_TRY(apr_stored_find(&t.of, g->b, role, layer, g->part, &g->n->arena, g->e));
    if (t.of.n == 0)
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "a tensor of role %.*s of layer %u is missing", APR_PRINTED(role->name), layer);
    APR_TRY(find_chains(g, &t));
    APR_TRY(check_shapes(g, &t.of));
    return see(g, &t, number, p);
}

enum apr_code apr_net_piece(const struct apr_netting *g, const char *roles, uint32_t layer, unsigned number, struct apr_piece *p)
{
    const struct apr_role *const role = apr_net_role(g, roles, layer);
    *p = (struct apr_piece){ 0 };
    return role == NULL ? APR_OK : take(g, role, layer, number, p);
}

/* ---- vectors -------------------------------------------------------------------------------------------------------- */

static enum apr_code vector_of(const struct apr_netting *g, const struct apr_role *role, uint32_t layer, uint64_t *n, const float **out,
                               const struct apr_input **in)
{
    struct apr_piece p;
    *out = NULL;
    if (role == NULL)
        return APR_OK;
    APR_TRY(take(g, role, layer, 0, &p));
    if (*n == 0)
        *n = p.in->count;
    if (p.in->count != *n)
        return wrong_shape(g, p.stored, n, 1);
    float *const values = apr_net_room(g, *n, sizeof *values);
    if (values == NULL)
        return apr_no_memory(g->e);
    apr_input_all_floats(p.in, NULL, 0, *n, values);
    *out = values;
    if (in != NULL)
        *in = p.in;
    return APR_OK;
}

enum apr_code apr_net_vector(const struct apr_netting *g, const char *roles, uint32_t layer, uint64_t *n, const float **out,
                              const struct apr_input **in)
{
    return vector_of(g, apr_net_role(g, roles, layer), layer, n, out, in);
}

enum apr_code apr_net_norm(const struct apr_netting *g, const char *roles, uint32_t layer, uint64_t n, struct apr_norm *out)
{
    out->n = n;
    APR_TRY(apr_net_vector(g, roles, layer, &out->n, &out->weight, &out->weight_in));
    return vector_of(g, find_role(g, roles, "_bias", layer), layer, &out->n, &out->bias, &out->bias_in);
}

/* ---- matrices ------------------------------------------------------------------------------------------------------- */

/* count matrices one below the other, of nout rows of nin; what is 0 is told. */
static enum apr_code fit(const struct apr_netting *g, const struct apr_piece *p, uint64_t count, uint64_t *nout, uint64_t *nin)
{
    const uint64_t rows = p->in->nrow, cols = p->in->ncol;
    if (*nout == 0 && rows % count == 0)
        *nout = rows / count;
    if (*nin == 0)
        *nin = cols;
    uint64_t all;
    if (rows == 0 || cols == 0 || !apr_mul(count, *nout, &all) || all != rows || cols != *nin)
        return wrong_shape(g, p->stored, count > 1 ? (uint64_t[]){ count, *nout, *nin } : (uint64_t[]){ *nout, *nin }, count > 1 ? 3 : 2);
    if (cols > APR_MOST_COLUMNS)
        return apr_fail_tensor(g->e, APR_ELIMIT, APR_NOWHERE, p->stored->name, " has rows of more than %llu elements",
                               (unsigned long long)APR_MOST_COLUMNS);
    return APR_OK;
}

/* Of no layer what is no layer's. */
static uint32_t layer_of(const struct apr_role *role, uint32_t layer) { return role->layered ? layer : APR_WHOLE_MODEL; }

enum apr_code apr_net_matrix(const struct apr_netting *g, const char *roles, uint32_t layer, unsigned number, uint64_t *nout, uint64_t *nin,
                             struct apr_matrix *out)
{
    struct apr_piece p;
    *out = (struct apr_matrix){ 0 };
    APR_TRY(apr_net_piece(g, roles, layer, number, &p));
    if (p.in == NULL)
        return APR_OK;
    APR_TRY(fit(g, &p, 1, nout, nin));
    *out = (struct apr_matrix){ .in = p.in, .role = p.role, .nout = *nout, .nin = *nin, .layer = layer_of(p.role, layer), .part = number };
    return APR_OK;
}

enum apr_code apr_net_linear(const struct apr_netting *g, const char *roles, uint32_t layer, uint64_t *nout, uint64_t *nin,
                             struct apr_linear *out)
{
    out->bias = NULL;
    APR_TRY(apr_net_matrix(g, roles, layer, 0, nout, nin, &out->w));
    if (out->w.in == NULL)
        return APR_OK;
    return vector_of(g, find_role(g, roles, "_bias", layer), layer, nout, &out->bias, &out->bias_in);
}

enum apr_code apr_net_stack(const struct apr_netting *g, const char *roles, uint32_t layer, unsigned number, uint64_t n, uint64_t *nout,
                            uint64_t *nin, struct apr_linear *out, size_t stride)
{
    struct apr_piece p;
    APR_TRY(apr_net_piece(g, roles, layer, number, &p));
    if (p.in == NULL)
        return APR_OK;
    APR_TRY(fit(g, &p, n, nout, nin));
    for (uint64_t i = 0; i < n; i++)
        *(struct apr_linear *)((char *)out + i * stride) = (struct apr_linear){
            .w = { .in = p.in, .role = p.role, .first = i * *nout, .nout = *nout, .nin = *nin, .layer = layer_of(p.role, layer),
                   .expert = (uint32_t)i, .part = number } };
    return APR_OK;
}

bool apr_matrix_gguf_name(const struct apr_matrix *w, char out[APR_NAME_ROOM])
{
    const struct apr_words *const names = &w->role->known[APR_GGUF];
    for (unsigned i = 0; i < w->role->ntransform; i++)
        if (w->role->transform[i].op == APR_OP_MLA_SPLIT) /* it is whole here, and two matrices there */
            return false;
    return w->part < names->n && apr_role_spell(names->word[w->part], w->layer, w->expert, out, APR_NAME_ROOM) > 0;
}
