/* Rows of a matrix of a NumPy or SafeTensors file, as doubles. */
#ifndef APR_LINEAR_ARRAY_H
#define APR_LINEAR_ARRAY_H

#include "flow/window.h"

/* n rows of p numbers. columns: they lie one column after the other. source: what array_open_npy opened, or NULL;
 * map: the file's. */
struct array {
    struct apr_source       *source;
    struct apr_bytes         map;
    struct apr_tensor        t;
    const struct apr_kernels *kernels;
    size_t                   n, p;
    bool                     columns;
};

/* Opens a NumPy array of at most two dimensions; of one: n rows of one number. */
APR_MUST_CHECK enum apr_code array_open_npy(struct array *a, const char *path, const struct apr_run *r, struct apr_error *e);

/* The same of a file that is open, and stays the caller's. */
APR_MUST_CHECK enum apr_code array_of_npy(struct array *a, const struct apr_source *s, const struct apr_run *r, struct apr_error *e);

/* Opens a SafeTensors file, whose source is the model's from here on, also after a failure. */
APR_MUST_CHECK enum apr_code array_open_tensors(struct apr_model **m, struct apr_source *s, const struct apr_run *r, struct apr_error *e);

/* A tensor of an open SafeTensors file. */
APR_MUST_CHECK enum apr_code array_of(struct array *a, const struct apr_model *m, const char *name, const struct apr_run *r,
                                      struct apr_error *e);
void array_close(struct array *a);

/* So many rows of p numbers are read at once: at least one, some hundred kilobytes as doubles. */
size_t array_block(size_t p);

/* Columns [from, from + width) of the rows [first, first + n) into out, rows `stride` apart. w: of the thread that reads. APR_ECORRUPT names one that is no finite
 * number; with e NULL they are taken as they are. */
APR_MUST_CHECK enum apr_code array_rows(const struct array *a, struct apr_window *w, size_t first, size_t n, size_t from, size_t width,
                                        double *out, size_t stride, struct apr_error *e);

/* The same of all columns but one, p or more for none. */
APR_MUST_CHECK enum apr_code array_rows_but(const struct array *a, struct apr_window *w, size_t first, size_t n, size_t column,
                                            double *out, size_t stride, struct apr_error *e);

#endif
