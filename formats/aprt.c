/* APRT, one saved activation: | "APRT" | u32 layer, 0xFFFFFFFF for the whole model | u32 n | n f32, little-endian | */
#include <string.h>

#include "base/cursor.h"
#include "files/source.h"
#include "model/format.h"
#include "model/model.h"
#include "model/stage.h"

#define HEADER 12u

static bool probe(struct apr_bytes start, uint64_t size)
{
    (void)size;
    return start.n >= 4 && memcmp(start.at, "APRT", 4) == 0;
}

static enum apr_code read(struct apr_model *m, struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    (void)r;
    struct apr_cursor c = apr_cursor_on(s->map);
    apr_take_bytes(&c, 4);
    const uint32_t layer = apr_u32(&c), count = apr_u32(&c);
    if (c.bad) {
        apr_fail(e, APR_ECORRUPT, s->map.n, "the header takes %u bytes, the file has %zu", HEADER, s->map.n);
        return apr_found(APR_ECORRUPT, e, "aprt.header");
    }
    const uint64_t bytes = 4 * (uint64_t)count;
    if (bytes > apr_left(&c)) {
        apr_fail(e, APR_ECORRUPT, 8, "%u values are promised, which take %llu bytes, but %zu follow", count, (unsigned long long)bytes,
                 apr_left(&c));
        return apr_found(APR_ECORRUPT, e, "aprt.extent");
    }
    struct apr_bytes name; /* the file has the layer, but not the stage */
    apr_stage_of_path(s->path, ".bin", &name);
    struct apr_tensor t = { .dtype = &apr_dtypes[APR_F32], .ndim = 1, .dim = { count } };
    t.name = layer == UINT32_MAX ? apr_arena_format(&m->arena, "%.*s", APR_PRINTED(name))
                                 : apr_arena_format(&m->arena, "layer-%u/%.*s", layer, APR_PRINTED(name));
    if (t.name.at == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_model_add(m, &t, HEADER, bytes, 0, e));
    if (bytes < apr_left(&c))
        apr_model_note(m, "aprt.trailing", t.name, HEADER + bytes, "%llu bytes follow the %u values",
                       (unsigned long long)(apr_left(&c) - bytes), count);
    return APR_OK;
}

const struct apr_format apr_aprt = { .name = "aprt", .title = "APRT", .suffix = ".bin", .trace = true, .probe = probe, .read = read };
