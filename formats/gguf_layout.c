/* Writing GGUF: version 3, little-endian, in the strict form that llama.cpp wants. */
#include "layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "flow/plan.h"
#include "model/meta.h"
#include "values/dtype.h"

enum { VERSION = 3, ALIGNMENT = 32, MOST_DIMS = 4, MOST_NAME = 63, MOST_SHARDS = 65535 };

#define MOST_ALIGNMENT (1u << 20)
#define ALIGNMENT_KEY "general.alignment"

/* ---- places --------------------------------------------------------------------------------------------------------- */

static bool is_alignment(const struct apr_value *v)
{
    return v->type == APR_META_U32 && v->u != 0 && v->u <= MOST_ALIGNMENT && (v->u & (v->u - 1)) == 0;
}

static uint64_t align(const struct apr_plan *p)
{
    const struct apr_value *const v = p == NULL ? NULL : apr_draft_find(&p->meta, apr_text(ALIGNMENT_KEY));
    return v == NULL || !is_alignment(v) ? ALIGNMENT : v->u;
}

static bool holds(const struct apr_planned *t, const char **why)
{
    const uint64_t row = t->ndim == 0 ? 1 : t->dim[t->ndim - 1];
    const bool unknown = t->dtype->ggml < 0;
    *why = unknown && apr_is_real(t->dtype) ? "GGUF has no such type; --type converts it"
           : unknown                     ? "GGUF has no such type; --drop leaves it out"
           : t->ndim > MOST_DIMS         ? "GGUF holds at most 4 dimensions"
           : t->name.n > MOST_NAME       ? "a name in GGUF has at most 63 bytes; --rename gives it another"
           : row % t->dtype->block != 0  ? "its rows are no whole blocks, which GGUF wants; --type converts it"
           : t->row % t->dtype->block != 0 ? "its rows are padded, which GGUF does not know; --type converts it"
                                         : NULL;
    return *why == NULL;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

static bool is_unsigned(enum apr_meta_type t) { return t == APR_META_U8 || t == APR_META_U16 || t == APR_META_U32 || t == APR_META_U64; }
static bool is_signed(enum apr_meta_type t) { return t == APR_META_I8 || t == APR_META_I16 || t == APR_META_I32 || t == APR_META_I64; }

static enum apr_code unfit(struct apr_bytes key, enum apr_meta_type type, struct apr_error *e)
{
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "key %s: its value, or one of its array, is none of type %s", APR_QUOTED(key),
                    apr_meta_type_word(type));
}

/* An integer of any width, as 64 bits, into one of `type`: false when it does not fit. */
static bool integer_as(const struct apr_value *v, enum apr_meta_type type, uint64_t *bits)
{
    const unsigned width = 8 * apr_meta_width(type);
    const bool negative = is_signed(v->type) && v->i < 0;
    *bits = is_signed(v->type) ? (uint64_t)v->i : v->u;
    if (!is_unsigned(v->type) && !is_signed(v->type))
        return false;
    if (is_unsigned(type))
        return !negative && (width == 64 || *bits >> width == 0);
    return negative ? width == 64 || v->i >= -(INT64_C(1) << (width - 1)) : *bits >> (width - 1) == 0;
}

void apr_gguf_put_string(FILE *to, struct apr_bytes s)
{
    apr_emit_integer(to, s.n, 8);
    apr_emit_bytes(to, s);
}

/* One value that is no array, as an element of `type`. */
static enum apr_code put_scalar(FILE *to, struct apr_bytes key, enum apr_meta_type type, const struct apr_value *v, struct apr_error *e)
{
    uint64_t bits = 0;
    double real;
    if (type == APR_META_STRING && v->type == APR_META_STRING) {
        apr_gguf_put_string(to, v->text);
        return APR_OK;
    }
    if (type == APR_META_BOOL && v->type == APR_META_BOOL) {
        putc(v->b, to);
        return APR_OK;
    }
    if (type == APR_META_F32 || type == APR_META_F64) {
        if (v->type == APR_META_BOOL || !apr_meta_number(v, &real))
            return unfit(key, type, e);
        const float single = (float)real;
        memcpy(&bits, type == APR_META_F32 ? (const void *)&single : &real, apr_meta_width(type));
    } else if (apr_meta_width(type) == 0 || type == APR_META_BOOL || !integer_as(v, type, &bits)) {
        return unfit(key, type, e);
    }
    apr_emit_integer(to, bits, apr_meta_width(type));
    return APR_OK;
}

static enum apr_code put_elements(FILE *to, struct apr_bytes key, const struct apr_value *array, uint64_t n, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(array);
    struct apr_value v;
    enum apr_code code = APR_OK;
    uint64_t i = 0;
    for (; i < n && code == APR_OK && apr_elements_next(&w, &v); i++)
        code = put_scalar(to, key, array->element, &v, e);
    apr_elements_end(&w);
    return code == APR_OK && i < n ? apr_no_memory(e) : code;
}

static enum apr_code put_array(FILE *to, struct apr_bytes key, const struct apr_value *v, struct apr_error *e)
{
    const uint64_t n = apr_meta_length(v);
    if (v->element == APR_META_ARRAY)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "key %s: an array in an array, which llama.cpp refuses, is not written",
                        APR_QUOTED(key));
    if (v->element > APR_META_F64)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "key %s: an array of no one type, which GGUF does not hold", APR_QUOTED(key));
    apr_emit_integer(to, v->element, 4);
    apr_emit_integer(to, n, 8);
    if (v->encoding != APR_GGUF_LE || v->element == APR_META_BOOL)
        return put_elements(to, key, v, n, e);
    apr_emit_bytes(to, v->text);
    return APR_OK;
}

enum apr_code apr_gguf_put_key(FILE *to, struct apr_bytes key, const struct apr_value *v, struct apr_error *e)
{
    if (key.n == 0)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "a key without a name is not written");
    if (v->type > APR_META_F64)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "key %s: a value of type %s, which GGUF does not hold", APR_QUOTED(key),
                        apr_meta_type_word(v->type));
    if (apr_bytes_is(key, ALIGNMENT_KEY) && !is_alignment(v))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "general.alignment must be a power of two up to %u, of type u32", MOST_ALIGNMENT);
    apr_gguf_put_string(to, key);
    apr_emit_integer(to, v->type, 4);
    return v->type == APR_META_ARRAY ? put_array(to, key, v, e) : put_scalar(to, key, v->type, v, e);
}

/* ---- keys ----------------------------------------------------------------------------------------------------------- */

static bool is_split(struct apr_bytes key)
{
    return apr_bytes_is(key, "split.no") || apr_bytes_is(key, "split.count") || apr_bytes_is(key, "split.tensors.count");
}

/* All keys are in the first file; a later one repeats an alignment that is not everybody's, as its places depend on it. */
static bool has_key(const struct apr_plan *p, size_t file, struct apr_bytes key)
{
    return !is_split(key) && (file == 0 || (apr_bytes_is(key, ALIGNMENT_KEY) && align(p) != ALIGNMENT));
}

static enum apr_code put_split(FILE *to, const struct apr_plan *p, size_t file, struct apr_error *e)
{
    if (p->nfile > MOST_SHARDS || p->ntensor > INT32_MAX)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu shards, or %zu tensors in them, are more than GGUF can number", p->nfile,
                        p->ntensor);
    const struct apr_value no = { .type = APR_META_U16, .u = file }, count = { .type = APR_META_U16, .u = p->nfile },
                           tensors = { .type = APR_META_I32, .i = (int64_t)p->ntensor };
    APR_TRY(apr_gguf_put_key(to, apr_text("split.no"), &no, e));
    APR_TRY(apr_gguf_put_key(to, apr_text("split.count"), &count, e));
    return apr_gguf_put_key(to, apr_text("split.tensors.count"), &tensors, e);
}

static enum apr_code put_header(FILE *to, const struct apr_plan *p, size_t file, struct apr_error *e)
{
    const struct apr_planned_file *const f = &p->file[file];
    const struct apr_meta *const meta = &p->meta.meta;
    uint64_t nkey = p->nfile > 1 ? 3 : 0;
    for (size_t i = 0; i < meta->n; i++)
        nkey += has_key(p, file, meta->entry[i].key);
    fputs("GGUF", to);
    apr_emit_integer(to, VERSION, 4);
    apr_emit_integer(to, f->n, 8);
    apr_emit_integer(to, nkey, 8);
    for (size_t i = 0; i < meta->n; i++)
        if (has_key(p, file, meta->entry[i].key))
            APR_TRY(apr_gguf_put_key(to, meta->entry[i].key, &meta->entry[i].value, e));
    if (p->nfile > 1)
        APR_TRY(put_split(to, p, file, e));
    for (size_t i = 0; i < f->n; i++) {
        const struct apr_planned *const t = &p->tensor[f->first + i];
        apr_gguf_put_string(to, t->name);
        apr_emit_integer(to, t->ndim, 4);
        for (unsigned k = t->ndim; k-- > 0;)
            apr_emit_integer(to, t->dim[k], 8);
        apr_emit_integer(to, (uint64_t)t->dtype->ggml, 4);
        apr_emit_integer(to, t->at, 8);
    }
    return APR_OK;
}

enum apr_code apr_gguf_layout(const struct apr_plan *p, size_t file, uint64_t at, struct apr_bytes *header, struct apr_error *e)
{
    struct apr_emit m;
    (void)at;
    APR_TRY(apr_emit_begin(&m, e));
    enum apr_code code = put_header(m.to, p, file, e);
    const uint64_t n = apr_emit_length(&m), to = align(p);
    apr_emit_fill(m.to, 0, (to - n % to) % to); /* without tensors too, as llama.cpp and gguf-py do */
    if (code == APR_OK)
        code = apr_emit_end(&m, header, e);
    apr_emit_drop(&m);
    return code;
}

const struct apr_rule apr_gguf_rule = { .align = align, .padded = true, .holds = holds };
