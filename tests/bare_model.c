#include "bare_model.h"

#include "support.h"

#include "base/bytes.h"
#include "model/format.h"

void model_begin(struct model *m, const char *format)
{
    *m = (struct model){ 0 };
    for (size_t i = 0; m->m.format == NULL; i++)
        if (strcmp(apr_formats[i]->name, format) == 0)
            m->m.format = apr_formats[i];
}

void model_config(struct model *m, const char *text)
{
    m->config = (struct apr_source){ .map = apr_text(text), .path = "config.json" };
    m->m.config = &m->config;
}

struct apr_value *model_key(struct model *m, const char *key)
{
    m->m.meta.entry = realloc(m->m.meta.entry, (m->m.meta.n + 1) * sizeof *m->m.meta.entry);
    assert_non_null(m->m.meta.entry);
    struct apr_meta_entry *entry = &m->m.meta.entry[m->m.meta.n++];
    *entry = (struct apr_meta_entry){ .key = apr_text(key) };
    return &entry->value;
}

void model_string(struct model *m, const char *key, const char *text)
{
    *model_key(m, key) = (struct apr_value){ .type = APR_META_STRING, .text = apr_text(text) };
}

void model_number(struct model *m, const char *key, uint64_t n)
{
    *model_key(m, key) = (struct apr_value){ .type = APR_META_U32, .u = n };
}

void model_real(struct model *m, const char *key, double v)
{
    *model_key(m, key) = (struct apr_value){ .type = APR_META_F32, .f = v };
}

void model_tensor(struct model *m, const char *name, uint64_t d0, uint64_t d1, uint64_t d2)
{
    if (m->m.ntensor == m->m.tensor_room) {
        m->m.tensor_room = 2 * m->m.tensor_room + 16;
        m->m.tensor = realloc(m->m.tensor, m->m.tensor_room * sizeof *m->m.tensor);
        assert_non_null(m->m.tensor);
    }
    struct apr_tensor *t = &m->m.tensor[m->m.ntensor++];
    *t = (struct apr_tensor){ .name = apr_text(name), .dtype = &apr_dtypes[APR_F32], .dim = { d0, d1, d2 } };
    while (t->dim[t->ndim] != 0)
        t->ndim++;
}

void model_end(struct model *m)
{
    free(m->m.tensor);
    free(m->m.meta.entry);
}

struct apr_families *all;

int open_families(void **state)
{
    struct apr_error e;
    (void)state;
    return apr_families_new(&all, &e) == APR_OK ? 0 : -1;
}

int close_families(void **state)
{
    (void)state;
    apr_families_free(all);
    return 0;
}

const struct apr_family *family(const char *name)
{
    const struct apr_family *f;
    struct apr_error e;
    for (size_t i = 0; apr_families_get(all, i, &f, &e) == APR_OK && f != NULL; i++)
        if (apr_bytes_is(f->name, name))
            return f;
    fail_msg("no family %s", name);
    return NULL;
}
