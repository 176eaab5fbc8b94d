/* A NumPy array, one saved activation: lib/model/npy.h draws it. */
#include <inttypes.h>
#include <string.h>

#include "files/source.h"
#include "model/format.h"
#include "model/model.h"
#include "model/npy.h"
#include "model/stage.h"

static bool probe(struct apr_bytes start, uint64_t size)
{
    (void)size;
    return apr_npy_probe(start);
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

/* Columns first is the same as rows first where all but one dimension are 1, or there is no element. */
static bool is_line(const struct apr_npy *h)
{
    unsigned longer = 0;
    for (unsigned i = 0; i < h->ndim; i++) {
        if (h->dim[i] == 0)
            return true;
        longer += h->dim[i] > 1;
    }
    return longer < 2;
}

static enum apr_code add(struct apr_model *m, const struct apr_npy *h, struct apr_cursor *c, struct apr_bytes name, struct apr_error *e)
{
    struct apr_tensor t = { .name = name, .dtype = h->dtype, .ndim = h->ndim, .swapped = h->swapped };
    memcpy(t.dim, h->dim, sizeof t.dim);
    uint64_t bytes = 0; /* apr_model_add says it when they are too many to count */
    if (apr_tensor_measure(&t, &bytes) && bytes > apr_left(c) && !m->partial) {
        apr_fail(e, APR_ECORRUPT, c->at, "its %" PRIu64 " elements take %" PRIu64 " bytes, but %zu follow the header", t.count, bytes,
                 apr_left(c));
        return apr_found(APR_ECORRUPT, e, "npy.extent");
    }
    APR_TRY(apr_model_add(m, &t, c->at, bytes, h->at, e));
    if (bytes < apr_left(c))
        apr_model_note(m, "npy.trailing", name, c->at + bytes, "%" PRIu64 " bytes follow the %" PRIu64 " elements",
                       (uint64_t)apr_left(c) - bytes, t.count);
    return APR_OK;
}

static enum apr_code read(struct apr_model *m, struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    (void)r;
    struct apr_cursor c = apr_cursor_on(s->map);
    struct apr_npy h;
    struct apr_bytes name;
    APR_TRY(apr_npy_read(&h, &c, e));
    if (h.fortran && !is_line(&h)) {
        apr_fail(e, APR_EUNSUPPORTED, h.at, "is in Fortran order, columns first: save numpy.ascontiguousarray of it");
        return apr_found(APR_EUNSUPPORTED, e, "npy.order");
    }
    const struct apr_bytes layer = apr_stage_of_path(s->path, ".npy", &name);
    name = layer.n == 0 ? apr_arena_copy(&m->arena, name)
                        : apr_arena_format(&m->arena, "%.*s/%.*s", APR_PRINTED(layer), APR_PRINTED(name));
    return name.at == NULL ? apr_no_memory(e) : add(m, &h, &c, name, e);
}

const struct apr_format apr_npy = { .name = "npy", .title = "NPY", .suffix = ".npy", .trace = true, .probe = probe, .read = read };
