#include "family/stored.h"

#include <string.h>

#include "base/arena.h"

enum apr_code apr_stored_find(struct apr_stored *s, const struct apr_binding *b, const struct apr_role *role, uint32_t layer,
                              const struct apr_tensor **all, struct apr_arena **arena, struct apr_error *e)
{
    *s = (struct apr_stored){ .role = role, .layer = layer, .dialect = apr_binding_dialect(b, role, layer) };
    s->n = apr_binding_parts(b, role, layer, all, APR_MOST_PARTS);
    s->part = apr_arena_alloc(arena, (s->n + 1) * sizeof *s->part);
    if (s->part == NULL)
        return apr_no_memory(e);
    memcpy(s->part, all, s->n * sizeof *s->part);
    return APR_OK;
}

void apr_stored_take_shape(struct apr_stored *s)
{
    memcpy(s->dim, s->part[0]->dim, sizeof s->dim);
    s->ndim = s->part[0]->ndim;
}

static bool shape_behind(const struct apr_stored *s, const struct apr_transform *chain, size_t n, uint64_t number,
                         uint64_t dim[APR_MAX_DIMS], unsigned *ndim)
{
    memcpy(dim, s->dim, sizeof s->dim);
    *ndim = s->ndim;
    return apr_transform_shape(chain, n, number, dim, ndim);
}

/* Each has its own behind a split; experts are alike. */
bool apr_stored_shape(const struct apr_stored *s, size_t i, uint64_t dim[APR_MAX_DIMS], unsigned *ndim)
{
    return shape_behind(s, s->chain, s->nchain, i, dim, ndim);
}

bool apr_stored_other_shape(const struct apr_stored *s, const struct apr_transform *to, size_t nto, uint64_t number,
                            uint64_t dim[APR_MAX_DIMS], unsigned *ndim)
{
    return shape_behind(s, to, nto, number, dim, ndim);
}

enum apr_code apr_stored_view(const struct apr_stored *s, const struct apr_transform *to, size_t nto, uint64_t number,
                              struct apr_view *view, struct apr_error *e)
{
    *view = apr_view_of(s->part, s->n, number);
    APR_TRY(apr_view_back(view, to, nto, s->dim, s->ndim, e));
    return apr_view_forth(view, s->chain, s->nchain, s->dim, s->ndim, e);
}
