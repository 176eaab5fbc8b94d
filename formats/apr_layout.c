/* Writing APR v2. */
#include "layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc.h"
#include "base/emit.h"
#include "flow/plan.h"
#include "model/meta.h"
#include "ui/report.h"
#include "values/dtype.h"

enum { HEADER = 64, ALIGN = 64, PAGE = 4096, FOOTER = 4, MOST_NAME = 256 };
#define MOST_METADATA 100000000u

enum { FLAG_ZSTD = 1 << 1, FLAG_SHARDED = 1 << 4, FLAG_QUANTIZED = 1 << 5, FLAG_ROW_MAJOR = 1 << 10 };

/* ---- places --------------------------------------------------------------------------------------------------------- */

static uint64_t align(const struct apr_plan *p)
{
    (void)p;
    return ALIGN;
}

/* The dtype byte, or -1. */
static int byte_of(const struct apr_dtype *d)
{
    if (d->apr >= 0)
        return d->apr;
    return d->ggml >= 0 && d->ggml <= UINT8_MAX && apr_apr_ggml((uint8_t)d->ggml) == d ? d->ggml : -1;
}

static bool holds(const struct apr_planned *t, const char **why)
{
    const bool padded = t->row != t->count && t->count > 0 && !(t->ndim == 2 && t->row == t->dim[1]);
    const bool unknown = byte_of(t->dtype) < 0;
    *why = unknown && apr_is_real(t->dtype) ? "no reader of APR knows that type; --type converts it"
           : unknown                ? "no reader of APR knows that type; --drop leaves it out"
           : t->ndim > APR_MAX_DIMS ? "APR holds at most 8 dimensions"
           : t->name.n > MOST_NAME  ? "a name in APR has at most 256 bytes; --rename gives it another"
           : padded                 ? "APR pads the rows of matrices alone; --type converts it"
                                    : NULL;
    return *why == NULL;
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

static uint64_t bytes_of_all(const struct apr_plan *p)
{
    uint64_t n = 0;
    for (size_t i = 0; i < p->ntensor; i++)
        n += p->tensor[i].bytes;
    return n;
}

/* "model-{:05d}-of-{:05d}.apr" for model-00001-of-00002.apr. */
static void put_pattern(struct apr_out *o, const char *path, const char *suffix)
{
    const char *const slash = strrchr(path, '/'), *const name = slash == NULL ? path : slash + 1;
    const size_t numbers = sizeof "-00001-of-00002" - 1 + strlen(suffix), n = strlen(name);
    char pattern[320];
    snprintf(pattern, sizeof pattern, "%.*s-{:05d}-of-{:05d}%s", n > numbers ? (int)(n - numbers) : 0, name, suffix);
    apr_out_text(o, "pattern", pattern);
}

static void put_sharding(struct apr_out *o, const struct apr_plan *p, size_t file)
{
    apr_out_open(o, "sharding", '{');
    apr_out_count(o, "shard_count", p->nfile);
    apr_out_count(o, "shard_index", file);
    apr_out_count(o, "total_size", bytes_of_all(p));
    put_pattern(o, p->file[file].path, p->format->suffix);
    apr_out_close(o, '}');
}

enum apr_code apr_fits_json(const struct apr_meta_entry *entry, struct apr_error *e)
{
    const struct apr_value *const v = &entry->value;
    bool fits = apr_is_utf8(entry->key) && (v->type != APR_META_STRING || apr_is_utf8(v->text));
    if (v->type == APR_META_ARRAY && v->element == APR_META_STRING && v->encoding != APR_JSON) {
        struct apr_elements w = apr_elements_of(v);
        struct apr_value one;
        while (fits && apr_elements_next(&w, &one))
            fits = apr_is_utf8(one.text);
        apr_elements_end(&w);
    }
    return fits ? APR_OK : apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "key %s: a text that is not UTF-8, which JSON does not hold",
                                    APR_QUOTED(entry->key));
}

/* What the draft says of shards is of the source. */
static enum apr_code put_metadata(FILE *to, const struct apr_plan *p, size_t file, struct apr_error *e)
{
    struct apr_out o = { .to = to };
    apr_out_open(&o, NULL, '{');
    for (size_t i = 0; i < p->meta.meta.n; i++) {
        const struct apr_meta_entry *const entry = &p->meta.meta.entry[i];
        if (apr_bytes_is(entry->key, "sharding"))
            continue;
        APR_TRY(apr_fits_json(entry, e));
        apr_out_key(&o, entry->key);
        apr_out_value(&o, NULL, &entry->value, 0);
    }
    if (p->nfile > 1)
        put_sharding(&o, p, file);
    apr_out_close(&o, '}');
    return APR_OK;
}

/* ---- header and index ----------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return apr_bytes_compare((*(const struct apr_planned *const *)a)->name, (*(const struct apr_planned *const *)b)->name);
}

static enum apr_code put_index(FILE *to, const struct apr_plan *p, size_t file, struct apr_error *e)
{
    const struct apr_planned_file *const f = &p->file[file];
    const struct apr_planned **const order = malloc((f->n + 1) * sizeof *order);
    if (order == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < f->n; i++)
        order[i] = &p->tensor[f->first + i];
    qsort(order, f->n, sizeof *order, by_name);
    for (size_t i = 0; i < f->n; i++) {
        const struct apr_planned *const t = order[i];
        apr_emit_integer(to, t->name.n, 2);
        apr_emit_bytes(to, t->name);
        putc(byte_of(t->dtype), to);
        putc((int)t->ndim, to);
        for (unsigned k = 0; k < t->ndim; k++)
            apr_emit_integer(to, t->dim[k], 8);
        apr_emit_integer(to, t->at, 8);
        apr_emit_integer(to, t->bytes, 8);
    }
    free(order);
    return APR_OK;
}

static unsigned flags_of(const struct apr_plan *p, size_t file)
{
    const struct apr_planned_file *const f = &p->file[file];
    unsigned flags = FLAG_ROW_MAJOR | (p->zstd != 0 ? FLAG_ZSTD : 0) | (p->nfile > 1 ? FLAG_SHARDED : 0);
    for (size_t i = 0; i < f->n; i++)
        if (apr_is_quantized(p->tensor[f->first + i].dtype))
            flags |= FLAG_QUANTIZED;
    return flags;
}

struct sections {
    uint64_t metadata, index, data;
};

static void put_header(unsigned char *h, const struct apr_plan *p, size_t file, const struct sections *s)
{
    memcpy(h, "APR\0\2\0", 6);
    apr_put_integer(h + 6, flags_of(p, file), 2);
    apr_put_integer(h + 8, p->file[file].n, 4);
    apr_put_integer(h + 12, HEADER, 8);
    apr_put_integer(h + 20, s->metadata, 4);
    apr_put_integer(h + 24, s->index, 8);
    apr_put_integer(h + 32, s->data, 8);
    apr_put_integer(h + 40, apr_crc32_of(apr_crc32_of(0, (struct apr_bytes){ h, 40 }), (struct apr_bytes){ h + 44, HEADER - 44 }), 4);
}

static enum apr_code put_sections(struct apr_emit *m, const struct apr_plan *p, size_t file, uint64_t at, struct sections *s,
                                  struct apr_error *e)
{
    apr_emit_fill(m->to, 0, HEADER);
    APR_TRY(put_metadata(m->to, p, file, e));
    s->metadata = apr_emit_length(m) - HEADER;
    apr_emit_fill(m->to, 0, -apr_emit_length(m) % ALIGN);
    s->index = apr_emit_length(m);
    APR_TRY(put_index(m->to, p, file, e));
    apr_emit_fill(m->to, 0, -apr_emit_length(m) % ALIGN);
    if (at != APR_NOWHERE && at % ALIGN == 0)
        apr_emit_fill(m->to, 0, (at - apr_emit_length(m)) % PAGE);
    s->data = apr_emit_length(m);
    if (s->metadata > MOST_METADATA)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%llu bytes of metadata, an APR holds %u", (unsigned long long)s->metadata,
                        MOST_METADATA);
    return APR_OK;
}

enum apr_code apr_apr_layout(const struct apr_plan *p, size_t file, uint64_t at, struct apr_bytes *header, struct apr_error *e)
{
    struct apr_emit m;
    struct sections s = { 0 };
    APR_TRY(apr_emit_begin(&m, e));
    enum apr_code code = put_sections(&m, p, file, at, &s, e);
    if (code == APR_OK)
        code = apr_emit_end(&m, header, e);
    if (code == APR_OK)
        put_header((unsigned char *)(uintptr_t)header->at, p, file, &s);
    apr_emit_drop(&m);
    return code;
}

void apr_apr_finish(const struct apr_plan *p, size_t file, uint32_t crc, unsigned char *tail)
{
    (void)p;
    (void)file;
    apr_put_integer(tail, crc, FOOTER);
}

const struct apr_rule apr_apr_rule = { .align = align, .padded = true, .tail = FOOTER, .holds = holds };
