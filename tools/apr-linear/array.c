#include "array.h"

#include <math.h>
#include <string.h>

#include "base/cursor.h"
#include "files/source.h"
#include "model/format.h"
#include "model/model.h"
#include "model/npy.h"
#include "model/open.h"
#include "values/chunk.h"
#include "values/dtype.h"

#define BLOCK 65536u /* numbers that are read at once: of columns that lie one after the other each is touched once for so many */

static enum apr_code take_shape(struct array *a, unsigned ndim, const uint64_t *dim, struct apr_error *e)
{
    if (ndim == 0 || ndim > 2)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "an array of %u dimensions: rows of numbers have 2, a target has 1", ndim);
    if (!apr_decodable(a->kernels, &a->t) || a->t.dtype->pair != NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "its values are %s, no numbers that are read", a->t.dtype->name);
    a->n = (size_t)dim[0];
    a->p = ndim == 2 ? (size_t)dim[1] : 1;
    return APR_OK;
}

static enum apr_code read_npy(struct array *a, struct apr_bytes map, struct apr_error *e)
{
    struct apr_cursor c = apr_cursor_on(map);
    struct apr_npy h;
    uint64_t bytes;
    APR_TRY(apr_npy_read(&h, &c, e));
    a->t = (struct apr_tensor){ .dtype = h.dtype, .ndim = h.ndim, .swapped = h.swapped };
    memcpy(a->t.dim, h.dim, sizeof a->t.dim);
    if (!apr_tensor_measure(&a->t, &bytes) || bytes > apr_left(&c))
        return apr_fail(e, APR_ECORRUPT, c.at, "its %llu elements are not all there: %zu bytes follow the header", (unsigned long long)a->t.count,
                        apr_left(&c));
    a->t.data = apr_take_bytes(&c, bytes);
    a->map = map;
    a->columns = h.fortran && h.ndim == 2;
    return take_shape(a, h.ndim, h.dim, e);
}

enum apr_code array_open_npy(struct array *a, const char *path, const struct apr_run *r, struct apr_error *e)
{
    *a = (struct array){ .kernels = r->kernels };
    enum apr_code code = apr_source_open(&a->source, path, r, e);
    if (code == APR_OK)
        code = read_npy(a, a->source->map, e);
    if (code != APR_OK) {
        apr_error_in(e, path);
        array_close(a);
    }
    return code;
}

enum apr_code array_of_npy(struct array *a, const struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    *a = (struct array){ .kernels = r->kernels };
    return read_npy(a, s->map, e);
}

enum apr_code array_open_tensors(struct apr_model **m, struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    return apr_open_source(m, s, apr_format_called("safetensors"), r, e);
}

enum apr_code array_of(struct array *a, const struct apr_model *m, const char *name, const struct apr_run *r, struct apr_error *e)
{
    const struct apr_tensor *const t = apr_model_find(m, apr_text(name));
    *a = (struct array){ .kernels = r->kernels };
    if (t == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "there is no tensor \"%s\": data in SafeTensors are X and y", name);
    a->t = *t;
    a->map = m->file[0]->map;
    return take_shape(a, t->ndim, t->dim, e);
}

void array_close(struct array *a)
{
    apr_source_close(a->source);
    *a = (struct array){ 0 };
}

static enum apr_code no_number(size_t row, size_t column, double v, struct apr_error *e)
{
    return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "row %zu, column %zu: %s is no finite number; --missing drop leaves such rows out", row + 1,
                    column + 1, isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

/* n elements in a line, every `stride`th of out. */
static void read_line(const struct array *a, struct apr_window *w, uint64_t first, size_t n, double *out, size_t stride)
{
    const struct apr_dtype *const d = a->t.dtype;
    double line[APR_STRETCH];
    for (size_t i = 0; i < n; i += APR_STRETCH) {
        const size_t now = (size_t)apr_min(APR_STRETCH, n - i);
        apr_window_touch(w, a->map, (struct apr_bytes){ a->t.data.at + (first + i) / d->block * d->bytes, now / d->block * d->bytes });
        apr_read_doubles(a->kernels, &a->t, first + i, now, line);
        for (size_t k = 0; k < now; k++)
            out[(i + k) * stride] = line[k];
    }
}

size_t array_block(size_t p)
{
    const size_t n = BLOCK / (p + 1);
    return n < 1 ? 1 : n;
}

enum apr_code array_rows(const struct array *a, struct apr_window *w, size_t first, size_t n, size_t from, size_t width, double *out,
                         size_t stride, struct apr_error *e)
{
    if (a->columns)
        for (size_t k = 0; k < width; k++)
            read_line(a, w, (uint64_t)(from + k) * a->n + first, n, out + k, stride);
    else
        for (size_t i = 0; i < n; i++)
            read_line(a, w, (uint64_t)(first + i) * a->p + from, width, out + i * stride, 1);
    if (e == NULL)
        return APR_OK;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < width; k++)
            if (!isfinite(out[i * stride + k]))
                return no_number(first + i, from + k, out[i * stride + k], e);
    return APR_OK;
}

enum apr_code array_rows_but(const struct array *a, struct apr_window *w, size_t first, size_t n, size_t column, double *out, size_t stride,
                             struct apr_error *e)
{
    const size_t before = column < a->p ? column : a->p;
    APR_TRY(array_rows(a, w, first, n, 0, before, out, stride, e));
    return before == a->p ? APR_OK : array_rows(a, w, first, n, before + 1, a->p - before - 1, out + before, stride, e);
}
