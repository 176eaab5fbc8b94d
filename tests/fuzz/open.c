/* Any bytes as a model file: open it, touch all that the model promises, close it. */
#include "fuzz.h"

#include "model/open.h"

#include "model/format.h"
#include "model/meta.h"
#include "model/model.h"
#include "values/chunk.h"

/* Where what was read goes, so that no read is optimised away. */
static volatile unsigned seen;

static void touch_bytes(struct apr_bytes b)
{
    if (b.n != 0)
        seen += b.at[0] + b.at[b.n - 1];
}

static void touch_values(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n)
{
    double wide[APR_STRETCH];
    float narrow[APR_STRETCH];
    if (!t->dtype->wide) {
        apr_read_floats(k, t, first, n, narrow);
        seen += narrow[n - 1] > 0;
    }
    apr_read_doubles(k, t, first, n, wide);
    seen += wide[n - 1] > 0;
    touch_bytes(apr_element_bytes(t, first, n));
}

static void touch_tensor(const struct apr_kernels *k, const struct apr_tensor *t)
{
    touch_bytes(t->name);
    touch_bytes(t->data);
    if (t->count == 0 || !apr_decodable(k, t))
        return;
    const size_t n = (size_t)apr_min(t->count, APR_STRETCH);
    touch_values(k, t, 0, n);
    touch_values(k, t, t->count - n, n);
}

static void touch_value(const struct apr_value *v, unsigned depth)
{
    touch_bytes(v->text);
    if ((v->type != APR_META_ARRAY && v->type != APR_META_OBJECT) || depth == 4)
        return;
    struct apr_elements w = apr_elements_of(v);
    struct apr_value inner;
    for (unsigned i = 0; i < 1000 && apr_elements_next(&w, &inner); i++) {
        touch_bytes(w.key);
        touch_value(&inner, depth + 1);
    }
    apr_elements_end(&w);
    fuzz_expect(apr_value_equal(v, v));
}

static void touch_model(const struct apr_model *m, const struct apr_run *run, struct apr_error *e)
{
    for (size_t i = 0; i < m->ntensor; i++) {
        touch_tensor(run->kernels, &m->tensor[i]);
        fuzz_expect(apr_model_find(m, m->tensor[i].name) == &m->tensor[i]);
    }
    for (size_t i = 0; i < m->meta.n; i++)
        touch_value(&m->meta.entry[i].value, 0);
    for (size_t i = 0; i < m->nfile && m->format->verify != NULL; i++)
        seen += m->format->verify(m, m->file[i], e) == APR_OK;
    fuzz_expect(apr_model_intact(m, e) == APR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    struct apr_error e = { .at = APR_NOWHERE };
    struct apr_model *m;
    const enum apr_code code = apr_open(&m, fuzz_file(bytes, n), &run, &e);
    if (code == APR_OK) {
        touch_model(m, &run, &e);
    } else {
        fuzz_expect_error(code, &e);
        fuzz_expect(m == NULL);
    }
    apr_close(m);
    return 0;
}
