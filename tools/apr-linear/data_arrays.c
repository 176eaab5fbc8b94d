/* NumPy arrays and the tensors X and y into a matrix. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "data.h"
#include "files/source.h"
#include "model/open.h"

/* y of its own, or NULL: then it is column `target` of x. */
struct arrays {
    struct array        x;
    const struct array *y;
    size_t              target;
    bool                keeps;
};

static bool is_finite_row(const struct data *d, size_t i)
{
    bool finite = isfinite(d->y[i]);
    for (size_t k = 0; k < d->p; k++)
        finite &= isfinite(d->x[i * d->p + k]) != 0;
    return finite;
}

static void leave_out(struct data *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        if (is_finite_row(d, i)) {
            memmove(d->x + n * d->p, d->x + i * d->p, d->p * sizeof *d->x);
            d->y[n++] = d->y[i];
        }
    d->left_out = d->n - n;
    d->n = n;
}

/* Rows [first, first + n) of what is learned from, and their targets. */
static enum apr_code take_rows(struct data *d, const struct arrays *a, struct apr_window *w, size_t first, size_t n, struct apr_error *e)
{
    struct apr_error *const strict = a->keeps ? NULL : e;
    APR_TRY(array_rows_but(&a->x, w, first, n, a->y == NULL ? a->target : a->x.p, d->x + first * d->p, d->p, strict));
    return a->y == NULL ? array_rows(&a->x, w, first, n, a->target, 1, d->y + first, 1, strict)
                        : array_rows(a->y, w, first, n, 0, 1, d->y + first, 1, strict);
}

static enum apr_code take_all(struct data *d, const struct arrays *a, const struct apr_run *r, struct apr_error *e)
{
    const size_t block = array_block(d->p);
    struct apr_window window = apr_window_of(r);
    enum apr_code code = APR_OK;
    uint64_t bytes;
    d->n = a->x.n;
    if (!apr_mul(d->n + 1, d->p, &bytes) || !apr_mul(bytes, sizeof *d->x, &bytes) || bytes > SIZE_MAX / 2)
        return apr_no_memory(e);
    d->x = malloc((size_t)bytes);
    d->y = malloc((d->n + 1) * sizeof *d->y);
    if (d->x == NULL || d->y == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < d->n && code == APR_OK; i += block)
        code = take_rows(d, a, &window, i, (size_t)apr_min(block, d->n - i), e);
    apr_window_drop(&window);
    APR_TRY(code);
    if (a->keeps)
        leave_out(d);
    return APR_OK;
}

static enum apr_code check_shapes(struct data *d, const struct arrays *a, struct apr_error *e)
{
    if (a->y != NULL && (a->y->n != a->x.n || a->y->p != 1))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "the target is [%zu, %zu], the data have %zu rows", a->y->n, a->y->p, a->x.n);
    d->p = a->x.p - (a->y == NULL && a->x.p > 0);
    return d->p > 0 ? APR_OK : apr_fail(e, APR_EARG, APR_NOWHERE, "there is no column to learn from, but for the target");
}

enum apr_code data_array_target(const struct table_wish *w, size_t columns, size_t *target, struct apr_error *e)
{
    uint64_t n = columns;
    if (w->drop.n > 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--drop %s: columns of an array have no names", w->drop.text[0]);
    if (w->delimiter != NULL || w->header != 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s has no effect on an array", w->delimiter != NULL ? "--delimiter" : "--header");
    if (w->target != NULL && (!table_by_number(w->target, &n) || n == 0 || n > columns))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--target %s: the array has columns 1 to %zu", w->target, columns);
    *target = (size_t)n - (n > 0);
    return APR_OK;
}

enum apr_code data_tensors_wish(const struct table_wish *w, const char *target_file, struct apr_error *e)
{
    size_t none;
    if (w->target != NULL || w->drop.n > 0 || target_file != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "data in SafeTensors have their target in the tensor y: no --target, --target-file, --drop");
    return data_array_target(w, 1, &none, e);
}

static enum apr_code read_npy(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    struct arrays a = { .keeps = w->table.missing == 1 };
    struct array y = { 0 };
    APR_TRY(array_of_npy(&a.x, d->source, r, e));
    enum apr_code code = w->target_file == NULL ? APR_OK : array_open_npy(&y, w->target_file, r, e);
    a.y = w->target_file == NULL ? NULL : &y;
    if (code == APR_OK)
        code = data_array_target(&w->table, a.x.p, &a.target, e);
    if (code == APR_OK)
        code = check_shapes(d, &a, e);
    if (code == APR_OK)
        code = take_all(d, &a, r, e);
    d->target_source = y.source;
    return code;
}

static enum apr_code read_safetensors(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    struct arrays a = { .keeps = w->table.missing == 1 };
    struct array y;
    struct apr_source *const s = d->source;
    APR_TRY(data_tensors_wish(&w->table, w->target_file, e));
    d->source = NULL;
    APR_TRY(array_open_tensors(&d->model, s, r, e));
    APR_TRY(array_of(&a.x, d->model, "X", r, e));
    APR_TRY(array_of(&y, d->model, "y", r, e));
    a.y = &y;
    APR_TRY(check_shapes(d, &a, e));
    return take_all(d, &a, r, e);
}

enum apr_code data_read_arrays(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    return data_is_npy(d->source->map) ? read_npy(d, w, r, e) : read_safetensors(d, w, r, e);
}
