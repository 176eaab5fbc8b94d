#include "model_said.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fmath.h"
#include "base/hash.h"
#include "base/table.h"
#include "family/bind.h"
#include "family/gguf_kv.h"
#include "flow/input.h"
#include "model/format.h"
#include "model/model.h"
#include "model/open.h"

#define FEW_WEIGHTS 65536u /* as many are kept as doubles: to widen them anew for each row takes longer than to read twice the bytes */
#define LINE        64u    /* bytes of the cache's: registers of that size are then loaded from one each */

/* What is needed while one is loaded. */
struct loading {
    struct linear_model    *m;
    struct apr_model       *from;
    const struct apr_run   *r;
    const struct apr_tensor *weight, *bias;
};

/* ---- the family ----------------------------------------------------------------------------------------------------- */

/* Of one that says nothing the names of its tensors are asked, by this contract alone: to read all of them would take longer than a fit. */
static enum apr_code find_family(struct apr_families *all, const struct apr_model *from, const struct apr_family **f, struct apr_error *e)
{
    bool named;
    APR_TRY(apr_family_said(all, from, f, e));
    APR_TRY(apr_names_a_class(from, &named, e));
    for (size_t i = 0; *f == NULL && !named && apr_families_name(all, i).n > 0; i++)
        if (apr_bytes_is(apr_families_name(all, i), "linear"))
            APR_TRY(apr_families_get(all, i, f, e));
    if (*f != NULL && apr_bytes_is((*f)->name, "linear"))
        return APR_OK;
    if (*f == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "what it says of itself is no linear model");
    return apr_fail(e, APR_EARG, APR_NOWHERE, "a model of the family %s, not of linear", APR_QUOTED((*f)->name));
}

/* Tensors of the role in any layer; those that are for nothing would change the answer if they were passed over. */
static enum apr_code find_tensors(struct loading *l, const struct apr_binding *b, struct apr_error *e)
{
    static const char *const weights[] = { "weight", "coefficients" }, *const biases[] = { "bias", "intercept" };
    for (size_t i = 0; i < l->from->ntensor; i++) {
        const struct apr_tensor *t = &l->from->tensor[i];
        struct apr_meaning meaning;
        const struct apr_tensor **place = NULL;
        const bool known = apr_binding_meaning(b, t, 0, &meaning);
        for (size_t k = 0; known && k < APR_LENGTH(weights) && place == NULL; k++)
            place = apr_bytes_is(meaning.role->name, weights[k]) ? &l->weight
                  : apr_bytes_is(meaning.role->name, biases[k])  ? &l->bias : NULL;
        if (place == NULL)
            return apr_fail_tensor(e, APR_EARG, apr_tensor_offset(l->from, t), t->name, " is none of a linear model's");
        if (*place != NULL)
            return apr_fail_tensor(e, APR_EARG, apr_tensor_offset(l->from, t), t->name, " and %s are the same part of a linear model",
                                   APR_QUOTED((*place)->name));
        *place = t;
    }
    return l->weight != NULL ? APR_OK : apr_fail(e, APR_EARG, APR_NOWHERE, "it has no weights");
}

static enum apr_code bind(struct loading *l, struct apr_error *e)
{
    struct apr_families *all;
    const struct apr_family *f;
    struct apr_binding *b = NULL;
    APR_TRY(apr_families_new(&all, e));
    enum apr_code code = find_family(all, l->from, &f, e);
    if (code == APR_OK)
        code = apr_bind(&b, f, l->from, NULL, e);
    if (code == APR_OK)
        code = find_tensors(l, b, e);
    apr_binding_free(b);
    apr_families_free(all);
    return code;
}

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

/* Coefficients may be a vector: those of one output. */
static enum apr_code measure(struct loading *l, struct apr_error *e)
{
    const struct apr_tensor *w = l->weight, *b = l->bias;
    const uint64_t at = apr_tensor_offset(l->from, w);
    if (w->ndim < 1 || w->ndim > 2 || w->count == 0 || w->tied)
        return apr_fail_tensor(e, APR_EARG, at, w->name, " is no matrix [outputs, inputs]");
    l->m->outputs = w->ndim == 2 ? (size_t)w->dim[0] : 1;
    l->m->inputs = (size_t)w->dim[w->ndim - 1];
    if (b != NULL && b->ndim > 1)
        return apr_fail_tensor(e, APR_EARG, apr_tensor_offset(l->from, b), b->name, " has %u dimensions, expected one", b->ndim);
    if (b != NULL && (b->count != l->m->outputs || b->tied))
        return apr_fail_tensor(e, APR_EARG, apr_tensor_offset(l->from, b), b->name, " has %llu values, expected %zu: one an output",
                               (unsigned long long)b->count, l->m->outputs);
    return APR_OK;
}

static enum apr_code check_finite(const struct loading *l, const struct apr_tensor *t, uint64_t first, const double *x, size_t n,
                                  struct apr_error *e)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return apr_fail_tensor(e, APR_EARG, apr_tensor_offset(l->from, t), t->name, ": value %llu is %s: no answer comes of it",
                                   (unsigned long long)(first + i), isnan(x[i]) ? "NaN" : "infinite");
    return APR_OK;
}

/* Its values into one of the two. */
static enum apr_code read_values(const struct loading *l, const struct apr_tensor *t, float *narrow, double *wide, struct apr_error *e)
{
    const struct apr_input in = apr_input_of(l->r->kernels, l->from, t);
    struct apr_window window = apr_window_of(l->r);
    double x[APR_STRETCH];
    enum apr_code code = APR_OK;
    if (!in.decodable)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, apr_tensor_offset(l->from, t), t->name, " is %s, which is not decoded", t->dtype->name);
    for (uint64_t first = 0; first < in.count && code == APR_OK; first += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, in.count - first);
        apr_input_doubles(&in, &window, first, n, x);
        for (size_t i = 0; i < n && narrow != NULL; i++)
            narrow[first + i] = (float)x[i];
        if (narrow == NULL)
            memcpy(wide + first, x, n * sizeof *x);
        code = check_finite(l, t, first, x, n, e);
        apr_window_rest(&window);
    }
    apr_window_drop(&window);
    return code;
}

static enum apr_code read_numbers(struct loading *l, struct apr_error *e)
{
    struct linear_model *m = l->m;
    const bool wide = apr_input_of(l->r->kernels, l->from, l->weight).wide || l->weight->count <= FEW_WEIGHTS;
    uint64_t bytes, bias;
    APR_TRY(measure(l, e));
    if (!apr_mul(l->weight->count, wide ? sizeof(double) : sizeof(float), &bytes) || !apr_round_up(bytes, LINE, &bytes) ||
        !apr_mul(m->outputs, sizeof(double), &bias) || bytes > SIZE_MAX / 2 || bias > SIZE_MAX / 2)
        return apr_no_memory(e);
    m->bias = calloc(1, (size_t)bias);
    m->weight = wide ? NULL : aligned_alloc(LINE, (size_t)bytes);
    m->wide = wide ? aligned_alloc(LINE, (size_t)bytes) : NULL;
    if (m->bias == NULL || (m->weight == NULL && m->wide == NULL))
        return apr_no_memory(e);
    APR_TRY(read_values(l, l->weight, m->weight, m->wide, e));
    return l->bias == NULL ? APR_OK : read_values(l, l->bias, NULL, m->bias, e);
}

/* ---- the version ---------------------------------------------------------------------------------------------------- */

/* As apr-inspect --hash folds it: stretches into chunks, chunks into the tensor. */
static struct apr_digest digest_of(const struct loading *l, const struct apr_tensor *t)
{
    const struct apr_input in = apr_input_of(l->r->kernels, l->from, t);
    const size_t stretch = APR_STRETCH / t->dtype->block * t->dtype->bytes, most = APR_CHUNK / APR_STRETCH;
    struct apr_window window = apr_window_of(l->r);
    struct apr_digest tensor = apr_digest_stored(t), chunk = { 0, 0 };
    unsigned char turned[APR_STRETCH * sizeof(double)];
    size_t in_chunk = 0;
    for (uint64_t from = 0;; from += stretch) {
        struct apr_bytes b = apr_input_stored(&in, &window, from, stretch);
        if (b.n == 0)
            break;
        if (t->swapped) {
            apr_turn_blocks(t, b, turned);
            b.at = turned;
        }
        chunk = apr_digest_fold(chunk, apr_digest_of(b));
        if (++in_chunk == most) {
            tensor = apr_digest_fold(tensor, chunk);
            chunk = (struct apr_digest){ 0, 0 };
            in_chunk = 0;
        }
        apr_window_rest(&window);
    }
    apr_window_drop(&window);
    return in_chunk > 0 ? apr_digest_fold(tensor, chunk) : tensor;
}

static void tell_version(struct loading *l)
{
    struct apr_model_digest all = { 0 };
    apr_model_digest_add(&all, l->weight, digest_of(l, l->weight));
    if (l->bias != NULL)
        apr_model_digest_add(&all, l->bias, digest_of(l, l->bias));
    apr_digest_spell(apr_model_digest_end(&all), l->m->version);
}

/* ---- loading -------------------------------------------------------------------------------------------------------- */

/* The last part of the path without what follows its last dot. */
static enum apr_code name(struct linear_model *m, const char *path, struct apr_error *e)
{
    size_t end = strlen(path), from;
    while (end > 1 && path[end - 1] == '/')
        end--;
    for (from = end; from > 0 && path[from - 1] != '/';)
        from--;
    const char *const dot = memrchr(path + from, '.', end - from);
    if (dot != NULL && dot > path + from && path[end] == 0)
        end = (size_t)(dot - path);
    m->name = (const char *)apr_arena_copy(&m->arena, (struct apr_bytes){ (const unsigned char *)path + from, end - from }).at;
    return m->name == NULL ? apr_no_memory(e) : APR_OK;
}

/* What the model says of itself; one that was an APR carries it under one key. */
static enum apr_code read_said(struct loading *l, enum linear_as as, struct apr_error *e)
{
    struct apr_draft carried = { 0 };
    enum apr_code code = apr_flat_read(&carried, l->from, false, e);
    if (code == APR_OK)
        code = linear_read_said(l->m, carried.meta.n > 0 ? &carried.meta : &l->from->meta, as, e);
    apr_draft_end(&carried);
    return code;
}

static enum apr_code load(struct loading *l, const char *path, enum linear_as as, struct apr_error *e)
{
    APR_TRY(name(l->m, path, e));
    APR_TRY(apr_open(&l->from, path, l->r, e));
    APR_TRY(apr_model_verify(l->from, e)); /* a weight that is another would answer like any */
    APR_TRY(bind(l, e));
    APR_TRY(read_numbers(l, e));
    APR_TRY(read_said(l, as, e));
    tell_version(l);
    return apr_model_unchanged(l->from, e);
}

enum apr_code linear_load(struct linear_model **m, const char *path, enum linear_as as, const struct apr_run *r, struct apr_error *e)
{
    struct loading l = { .m = calloc(1, sizeof *l.m), .r = r };
    *m = NULL;
    if (l.m == NULL)
        return apr_no_memory(e);
    l.m->kernels = r->kernels;
    const enum apr_code code = load(&l, path, as, e);
    apr_close(l.from);
    if (code == APR_OK) {
        *m = l.m;
        return APR_OK;
    }
    apr_error_in(e, path);
    linear_free(l.m);
    return code;
}

void linear_free(struct linear_model *m)
{
    if (m == NULL)
        return;
    free(m->weight);
    free(m->wide);
    free(m->bias);
    free(m->class);
    free(m->feature);
    apr_table_free(&m->by_name);
    apr_arena_free(&m->arena);
    free(m);
}

/* ---- answering ------------------------------------------------------------------------------------------------------ */

size_t linear_feature(const struct linear_model *m, struct apr_bytes wanted)
{
    const union apr_table_value *const at = apr_table_find(&m->by_name, wanted);
    return at == NULL ? m->inputs : (size_t)at->number;
}

void linear_answer(const struct linear_model *m, const double *x, double *z)
{
    if (m->weight != NULL)
        m->kernels->row_dots(m->weight, m->outputs, x, m->inputs, z);
    else
        m->kernels->row_dots_wide(m->wide, m->outputs, x, m->inputs, z);
    for (size_t i = 0; i < m->outputs; i++)
        z[i] += m->bias[i];
}

static size_t choose_of_two(double z, double *p)
{
    const double later = 1 / (1 + apr_exp(-z));
    if (p != NULL) {
        p[0] = 1 / (1 + apr_exp(z));
        p[1] = later;
    }
    return later >= 0.5;
}

size_t linear_choose(const struct linear_model *m, const double *z, double *p)
{
    size_t best = 0;
    double sum = 0;
    if (m->outputs == 1)
        return choose_of_two(z[0], p);
    for (size_t i = 1; i < m->outputs; i++)
        best = z[i] > z[best] ? i : best;
    if (p == NULL)
        return best;
    for (size_t i = 0; i < m->outputs; i++)
        sum += p[i] = apr_exp(z[i] - z[best]);
    for (size_t i = 0; i < m->outputs; i++)
        p[i] /= sum;
    return best;
}
