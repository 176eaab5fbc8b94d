#include "model/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/table.h"
#include "files/source.h"
#include "model/findings.h"
#include "model/open.h"

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

bool apr_tensor_measure(struct apr_tensor *t, uint64_t *bytes)
{
    uint64_t count = 1;
    for (unsigned i = 0; i < t->ndim; i++)
        if (!apr_mul(count, t->dim[i], &count))
            return false;
    t->count = count;
    if (t->row == 0)
        t->row = count;
    *bytes = 0;
    if (count == 0)
        return true;
    const uint64_t blocks_per_row = t->row / t->dtype->block + (t->row % t->dtype->block != 0);
    return apr_mul(count / t->row, blocks_per_row, bytes) && apr_mul(*bytes, t->dtype->bytes, bytes) &&
           apr_add(*bytes, t->dtype->head, bytes);
}

const struct apr_tensor *apr_model_find(const struct apr_model *m, struct apr_bytes name)
{
    const union apr_table_value *index = apr_table_find(&m->by_name, name);
    return index == NULL ? NULL : &m->tensor[index->number];
}

enum apr_code apr_model_expect(struct apr_model *m, size_t n, struct apr_error *e)
{
    const size_t wanted = m->ntensor + n;
    if (wanted >= UINT32_MAX / 4)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu tensors, more than any model has", wanted);
    if (wanted > m->tensor_room) {
        const size_t room = wanted > 2 * m->tensor_room ? wanted : 2 * m->tensor_room;
        struct apr_tensor *more = realloc(m->tensor, room * sizeof *more);
        if (more == NULL)
            return apr_no_memory(e);
        m->tensor = more;
        m->tensor_room = room;
    }
    return apr_table_expect(&m->by_name, wanted) ? APR_OK : apr_no_memory(e);
}


static enum apr_code check_name(struct apr_bytes name, uint64_t where, struct apr_error *e)
{
    size_t step = 1;
    for (size_t i = 0; i < name.n; i += step) {
        step = apr_utf8_length(name.at + i, name.n - i);
        if (step == 0)
            return apr_fail(e, APR_ECORRUPT, where, "the tensor name %s is not UTF-8 (byte %zu of it)", APR_QUOTED(name), i);
        if (name.at[i] == 0)
            return apr_fail(e, APR_ECORRUPT, where, "the tensor name %s has a NUL (byte %zu of it)", APR_QUOTED(name), i);
    }
    return APR_OK;
}

enum apr_code apr_model_add(struct apr_model *m, const struct apr_tensor *given, uint64_t offset, uint64_t size, uint64_t where,
                            struct apr_error *e)
{
    struct apr_tensor t = *given;
    const struct apr_bytes map = m->file[m->nfile - 1]->map;
    uint64_t bytes, end;
    APR_TRY(apr_found(check_name(t.name, where, e), e, "tensor.name"));
    if (!apr_tensor_measure(&t, &bytes)) {
        apr_fail_tensor(e, APR_ECORRUPT, where, t.name, ": its dimensions multiply to more than 64 bits hold");
        return apr_found(APR_ECORRUPT, e, "tensor.overflow");
    }
    if (bytes != size) {
        apr_fail_tensor(e, APR_ECORRUPT, where, t.name, ": %llu bytes of data, %llu elements of %s take %llu",
                        (unsigned long long)size, (unsigned long long)t.count, t.dtype->name, (unsigned long long)bytes);
        return apr_found(APR_ECORRUPT, e, "tensor.size");
    }
    if (!apr_add(offset, size, &end) || (end > map.n && !m->partial)) {
        apr_fail_tensor(e, APR_ECORRUPT, where, t.name, ": its %llu bytes from byte %llu on reach past the end of the file, which has %zu",
                        (unsigned long long)size, (unsigned long long)offset, map.n);
        return apr_found(APR_ECORRUPT, e, "tensor.extent");
    }
    if (end > map.n) {
        m->first_cut = m->ncut++ == 0 ? t.name : m->first_cut;
        m->cut_bytes += size;
        return APR_OK;
    }
    APR_TRY(apr_model_expect(m, 1, e));
    bool fresh;
    union apr_table_value *index = apr_table_put(&m->by_name, t.name, &fresh);
    if (index == NULL)
        return apr_no_memory(e);
    if (!fresh) {
        apr_fail_tensor(e, APR_ECORRUPT, where, t.name, ": the name stands twice");
        return apr_found(APR_ECORRUPT, e, "tensor.dup_name");
    }
    t.data = (struct apr_bytes){ map.at + offset, (size_t)size };
    t.file = (unsigned)m->nfile - 1;
    index->number = m->ntensor;
    m->tensor[m->ntensor++] = t;
    return APR_OK;
}

uint64_t apr_tensor_offset(const struct apr_model *m, const struct apr_tensor *t)
{
    return t->data.n == 0 && t->data.at == NULL ? 0 : (uint64_t)(t->data.at - m->file[t->file]->map.at);
}

static int by_offset(const void *a, const void *b, void *model)
{
    const struct apr_model *m = model;
    const uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct apr_tensor *x = &m->tensor[i], *y = &m->tensor[k];
    if (x->data.at != y->data.at)
        return x->data.at < y->data.at ? -1 : 1;
    if (x->data.n != y->data.n)
        return x->data.n < y->data.n ? -1 : 1;
    return (i > k) - (i < k);
}

uint32_t *apr_model_by_offset(const struct apr_model *m, unsigned file, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < m->ntensor; i++)
        *n += m->tensor[i].file == file;
    uint32_t *order = *n == 0 ? NULL : malloc(*n * sizeof *order);
    if (order == NULL)
        return NULL;
    size_t k = 0;
    for (size_t i = 0; i < m->ntensor; i++)
        if (m->tensor[i].file == file)
            order[k++] = (uint32_t)i;
    qsort_r(order, *n, sizeof *order, by_offset, (void *)(uintptr_t)m);
    return order;
}

/* ---- metadata and notes --------------------------------------------------------------------------------------------- */

enum apr_code apr_model_meta(struct apr_model *m, struct apr_bytes key, const struct apr_value *v, struct apr_error *e)
{
    struct apr_meta *meta = &m->meta;
    struct apr_meta_entry *more = apr_grown(meta->entry, &meta->room, meta->n, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    meta->entry = more;
    meta->entry[meta->n++] = (struct apr_meta_entry){ key, *v };
    return APR_OK;
}

#define MOST_NOTES 1000

void apr_model_note(struct apr_model *m, const char *code, struct apr_bytes tensor, uint64_t at, const char *format, ...)
{
    const struct apr_finding *f = apr_finding_of(code);
    struct apr_error printable;
    char text[sizeof printable.text];
    va_list arguments;
    if (m->nnote == MOST_NOTES)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    apr_fail(&printable, APR_OK, at, "%s", text);
    const struct apr_bytes kept = apr_arena_format(&m->arena, "%s", printable.text);
    if (kept.at == NULL)
        return;
    struct apr_note *more = apr_grown(m->note, &m->note_room, m->nnote, 8, sizeof *more);
    if (more == NULL)
        return;
    m->note = more;
    m->note[m->nnote++] = (struct apr_note){ .severity = f->severity, .stage = f->stage, .code = f->code, .tensor = tensor, .at = at,
                                             .file = m->nfile == 0 ? 0 : (unsigned)m->nfile - 1, .text = (const char *)kept.at };
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

enum apr_code apr_model_intact(const struct apr_model *m, struct apr_error *e)
{
    for (size_t i = 0; i < m->nfile; i++)
        if (m->file[i]->lost)
            return apr_source_intact(m->file[i], e);
    return APR_OK;
}

enum apr_code apr_model_unchanged(const struct apr_model *m, struct apr_error *e)
{
    for (size_t i = 0; i < m->nfile; i++)
        APR_TRY(apr_source_intact(m->file[i], e));
    if (m->config != NULL)
        APR_TRY(apr_source_intact(m->config, e));
    return m->quant_config == NULL ? APR_OK : apr_source_intact(m->quant_config, e);
}

void apr_close(struct apr_model *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->nfile; i++)
        apr_source_close(m->file[i]);
    apr_source_close(m->config);
    apr_source_close(m->quant_config);
    apr_arena_free(&m->arena);
    free(m->file);
    free(m->tensor);
    free(m->meta.entry);
    free(m->note);
    apr_table_free(&m->by_name);
    free(m);
}
