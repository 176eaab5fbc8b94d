/* Writing SafeTensors, as its reference library does. */
#include "layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "flow/plan.h"
#include "ui/report.h"
#include "values/dtype.h"

enum { PREFIX = 8, ALIGN = 8, PAGE = 4096 };
#define MOST_HEADER 100000000u

static uint64_t align(const struct apr_plan *p)
{
    (void)p;
    return 1;
}

static bool holds(const struct apr_planned *t, const char **why)
{
    *why = t->dtype->safetensors == NULL          ? "SafeTensors has no such type; --type converts it"
           : apr_bytes_is(t->name, "__metadata__") ? "in SafeTensors no tensor has that name; --rename gives it another"
           : t->count % t->dtype->block != 0       ? "its elements do not fill whole bytes"
                                                   : NULL;
    return *why == NULL;
}

/* The library's dtypes, those that come last in a file first. */
static int rank_of(const struct apr_dtype *d)
{
    static const enum apr_dtype_id rising[] = {
        APR_BOOL, APR_F4, APR_F6_E2M3, APR_F6_E3M2, APR_U8, APR_I8, APR_F8_E5M2, APR_F8_E4M3, APR_F8_E8M0, APR_F8_E4M3FNUZ, APR_F8_E5M2FNUZ,
        APR_I16, APR_U16, APR_F16, APR_BF16, APR_I32, APR_U32, APR_F32, APR_C64, APR_F64, APR_I64, APR_U64,
    };
    int rank = 0;
    while (rank < (int)APR_LENGTH(rising) - 1 && rising[rank] != apr_dtype_id(d))
        rank++;
    return rank;
}

static int before(const struct apr_planned *a, const struct apr_planned *b)
{
    const int order = rank_of(b->dtype) - rank_of(a->dtype);
    return order != 0 ? order : apr_bytes_compare(a->name, b->name);
}

static enum apr_code put_metadata(struct apr_out *o, const struct apr_meta *meta, struct apr_error *e)
{
    apr_out_open(o, "__metadata__", '{');
    for (size_t i = 0; i < meta->n; i++) {
        if (meta->entry[i].value.type != APR_META_STRING)
            return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "__metadata__: %s is no string, which is all it holds",
                            APR_QUOTED(meta->entry[i].key));
        APR_TRY(apr_fits_json(&meta->entry[i], e));
        apr_out_key(o, meta->entry[i].key);
        apr_out_bytes(o, NULL, meta->entry[i].value.text);
    }
    apr_out_close(o, '}');
    return APR_OK;
}

static enum apr_code put_header(FILE *to, const struct apr_plan *p, const struct apr_planned_file *f, struct apr_error *e)
{
    struct apr_out o = { .to = to };
    apr_out_open(&o, NULL, '{');
    if (p->meta.meta.n > 0)
        APR_TRY(put_metadata(&o, &p->meta.meta, e));
    for (size_t i = 0; i < f->n; i++) {
        const struct apr_planned *const t = &p->tensor[f->first + i];
        apr_out_key(&o, t->name);
        apr_out_open(&o, NULL, '{');
        apr_out_text(&o, "dtype", t->dtype->safetensors);
        apr_out_counts(&o, "shape", t->dim, t->ndim);
        apr_out_counts(&o, "data_offsets", (uint64_t[]){ t->at, t->at + t->bytes }, 2);
        apr_out_close(&o, '}');
    }
    apr_out_close(&o, '}');
    return APR_OK;
}

enum apr_code apr_safetensors_layout(const struct apr_plan *p, size_t file, uint64_t at, struct apr_bytes *header, struct apr_error *e)
{
    struct apr_emit m;
    APR_TRY(apr_emit_begin(&m, e));
    apr_emit_fill(m.to, 0, PREFIX);
    enum apr_code code = put_header(m.to, p, &p->file[file], e);
    apr_emit_fill(m.to, ' ', -apr_emit_length(&m) % ALIGN);
    if (at != APR_NOWHERE && at % ALIGN == 0)
        apr_emit_fill(m.to, ' ', (at - apr_emit_length(&m)) % PAGE);
    const uint64_t n = apr_emit_length(&m) - PREFIX;
    if (code == APR_OK && n > MOST_HEADER)
        code = apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a header of %llu bytes, SafeTensors has at most %u", (unsigned long long)n,
                        MOST_HEADER);
    if (code == APR_OK)
        code = apr_emit_end(&m, header, e);
    if (code == APR_OK)
        apr_put_integer((unsigned char *)(uintptr_t)header->at, n, PREFIX);
    apr_emit_drop(&m);
    return code;
}

const struct apr_rule apr_safetensors_rule = { .align = align, .holds = holds, .before = before };
