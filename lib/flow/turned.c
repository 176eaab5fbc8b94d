#include "flow/turned.h"

#include "base/bytes.h"
#include "flow/wish.h"

bool apr_is_turned(const struct apr_tensor *t)
{
    return t->packed != NULL && t->dtype == &apr_dtypes[APR_MXFP4] && t->ndim == 3 &&
           !apr_bytes_end(t->name, apr_text(".weight"));
}

enum apr_code apr_turned_view(const struct apr_tensor *const *part, struct apr_view *view, uint64_t dim[APR_MAX_DIMS], struct apr_error *e)
{
    const struct apr_transform transpose = { .op = APR_OP_TRANSPOSE };
    const uint64_t turned[APR_MAX_DIMS] = { (*part)->dim[0], (*part)->dim[2], (*part)->dim[1] };
    memcpy(dim, turned, sizeof turned);
    *view = apr_view_of(part, 1, 0);
    return apr_view_forth(view, &transpose, 1, turned, 3, e);
}

enum apr_code apr_turned_input(struct apr_input *in, const struct apr_kernels *k, const struct apr_model *m,
                               const struct apr_tensor *const *part, struct apr_error *e)
{
    struct apr_view view;
    uint64_t dim[APR_MAX_DIMS];
    APR_TRY(apr_turned_view(part, &view, dim, e));
    *in = apr_input_through(k, m, &view, dim, 3);
    return APR_OK;
}

static enum apr_code turn(struct apr_wishes *w, struct apr_wish *x, const struct apr_kernels *k, const struct apr_model *m,
                          struct apr_error *e)
{
    const struct apr_tensor **const part = apr_arena_alloc(&w->arena, sizeof *part);
    struct apr_input in;
    if (part == NULL)
        return apr_no_memory(e);
    *part = apr_input_part(x->in, 0);
    APR_TRY(apr_turned_input(&in, k, m, part, e));
    memcpy(x->dim, in.dim, sizeof x->dim);
    x->in = apr_input_keep(&w->arena, &in);
    x->transform = apr_op_word(APR_OP_TRANSPOSE);
    return x->in == NULL ? apr_no_memory(e) : APR_OK;
}

enum apr_code apr_turn_wishes(struct apr_wishes *w, const struct apr_kernels *k, const struct apr_model *m, struct apr_error *e)
{
    for (size_t i = 0; i < w->n; i++)
        if (w->wish[i].values == NULL && apr_is_turned(apr_input_part(w->wish[i].in, 0)))
            APR_TRY(turn(w, &w->wish[i], k, m, e));
    return APR_OK;
}
