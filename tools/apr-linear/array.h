/* Rows of a matrix of a NumPy or SafeTensors file, as doubles. */
#ifndef APR_LINEAR_ARRAY_H
#define APR_LINEAR_ARRAY_H

#include "base/core.h"

/* n rows of p numbers. columns: they lie one column after the other. source is the model's where there is one, else its own. */
struct array {
    struct apr_source       *source;
    struct apr_model        *model;
    struct apr_tensor        t;
    const struct apr_kernels *kernels;
    size_t                   n, p;
    bool                     columns;
};

/* Opens a NumPy array of at most two dimensions; of one: n rows of one number. */
APR_MUST_CHECK enum apr_code array_open_npy(struct array *a, const char *path, const struct apr_run *r, struct apr_error *e);

/* A tensor of an open SafeTensors file. */
APR_MUST_CHECK enum apr_code array_of(struct array *a, const struct apr_model *m, const char *name, const struct apr_run *r,
                                      struct apr_error *e);
void array_close(struct array *a);

/* Columns [from, from + width) of the rows [first, first + n) into out, rows `stride` apart. APR_ECORRUPT names one that is no finite
 * number. */
APR_MUST_CHECK enum apr_code array_rows(const struct array *a, size_t first, size_t n, size_t from, size_t width, double *out,
                                        size_t stride, struct apr_error *e);

#endif
