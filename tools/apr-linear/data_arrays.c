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

static enum apr_code take_all(struct data *d, const struct arrays *a, struct apr_error *e)
{
    const size_t before = a->y == NULL ? a->target : d->p;
    struct apr_error *const strict = a->keeps ? NULL : e;
    uint64_t bytes;
    d->n = a->x.n;
    if (!apr_mul(d->n + 1, d->p, &bytes) || !apr_mul(bytes, sizeof *d->x, &bytes) || bytes > SIZE_MAX / 2)
        return apr_no_memory(e);
    d->x = malloc((size_t)bytes);
    d->y = malloc((d->n + 1) * sizeof *d->y);
    if (d->x == NULL || d->y == NULL)
        return apr_no_memory(e);
    APR_TRY(array_rows(&a->x, 0, d->n, 0, before, d->x, d->p, strict));
    if (before < d->p)
        APR_TRY(array_rows(&a->x, 0, d->n, before + 1, d->p - before, d->x + before, d->p, strict));
    APR_TRY(a->y == NULL ? array_rows(&a->x, 0, d->n, a->target, 1, d->y, 1, strict) : array_rows(a->y, 0, d->n, 0, 1, d->y, 1, strict));
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

/* Columns of an array have no names. */
static enum apr_code find_target(struct arrays *a, const struct data_wish *w, struct apr_error *e)
{
    uint64_t n = a->x.p;
    if (w->table.drop.n > 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--drop %s: columns of an array have no names", w->table.drop.text[0]);
    if (w->table.target != NULL && (!table_by_number(w->table.target, &n) || n == 0 || n > a->x.p))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--target %s: the array has columns 1 to %zu", w->table.target, a->x.p);
    a->target = (size_t)n - (n > 0);
    return APR_OK;
}

static enum apr_code read_npy(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    struct arrays a = { .keeps = w->table.missing == 1 };
    struct array y = { 0 };
    APR_TRY(array_open_npy(&a.x, w->path, r, e));
    enum apr_code code = w->target_file == NULL ? APR_OK : array_open_npy(&y, w->target_file, r, e);
    a.y = w->target_file == NULL ? NULL : &y;
    if (code == APR_OK)
        code = find_target(&a, w, e);
    if (code == APR_OK)
        code = check_shapes(d, &a, e);
    if (code == APR_OK)
        code = take_all(d, &a, e);
    array_close(&a.x);
    array_close(&y);
    return code;
}

static enum apr_code read_safetensors(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    struct arrays a = { .keeps = w->table.missing == 1 };
    struct array y;
    if (w->table.target != NULL || w->table.drop.n > 0 || w->target_file != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "data in SafeTensors have their target in the tensor y: no --target, --target-file, --drop");
    APR_TRY(apr_open(&d->model, w->path, r, e));
    APR_TRY(array_of(&a.x, d->model, "X", r, e));
    APR_TRY(array_of(&y, d->model, "y", r, e));
    a.y = &y;
    APR_TRY(check_shapes(d, &a, e));
    return take_all(d, &a, e);
}

enum apr_code data_read_arrays(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    return data_is_npy(d->source->map) ? read_npy(d, w, r, e) : read_safetensors(d, w, r, e);
}
