#include "flow/turned.h"

#include "base/bytes.h"

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
