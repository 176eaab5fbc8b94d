#include "family/packing_fit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "model/fetch.h"
#include "model/model.h"
#include "values/chunk.h"
#include "values/dtype.h"

/* ---- helpers -------------------------------------------------------------------------------------------------------- */

const struct apr_tensor *apr_fit_find(const struct apr_fit *x, const char *helper)
{
    char text[1024];
    const struct apr_bytes begin = helper[0] == '.' ? x->module : x->stem;
    const size_t n = strlen(helper);
    if (begin.n + n > sizeof text)
        return NULL;
    memcpy(text, begin.at, begin.n);
    memcpy(text + begin.n, helper, n);
    return apr_model_find(x->m, (struct apr_bytes){ (const unsigned char *)text, begin.n + n });
}

const struct apr_tensor *apr_fit_take(struct apr_fit *x, const char *helper)
{
    const struct apr_tensor *const t = apr_fit_find(x, helper);
    if (t != NULL && x->npart < APR_MOST_PARTS)
        x->part[x->npart++] = t;
    return t;
}

enum apr_code apr_fit_need(struct apr_fit *x, const char *helper, const struct apr_tensor **t, struct apr_error *e)
{
    *t = apr_fit_take(x, helper);
    return *t != NULL ? APR_OK : apr_misfit(x, x->codes, e, " has no %s beside it, without which its codes say nothing", helper);
}

enum apr_code apr_fit_either(struct apr_fit *x, const char *const *helper, size_t n, const struct apr_tensor **t, struct apr_error *e)
{
    *t = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct apr_tensor *const found = apr_fit_find(x, helper[i]);
        if (found != NULL && *t != NULL)
            return apr_misfit(x, found, e, " stands beside %s: which of them counts, nothing tells", APR_QUOTED((*t)->name));
        if (found != NULL)
            *t = apr_fit_take(x, helper[i]);
    }
    return APR_OK;
}

void apr_fit_guessed(struct apr_fit *x, const char *format, ...)
{
    va_list arguments;
    if (x->guess[0] != 0)
        return;
    va_start(arguments, format);
    vsnprintf(x->guess, sizeof x->guess, format, arguments);
    va_end(arguments);
}

/* ---- faults --------------------------------------------------------------------------------------------------------- */

enum apr_code apr_misfit(const struct apr_fit *x, const struct apr_tensor *t, struct apr_error *e, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (t == x->codes)
        return apr_fail_tensor(e, APR_ECORRUPT, APR_NOWHERE, t->name, "%s", text);
    return apr_fail_tensor(e, APR_ECORRUPT, APR_NOWHERE, t->name, "%s (the codes are %s)", text, APR_QUOTED(x->codes->name));
}

const char *apr_fit_spell(const uint64_t *dim, unsigned ndim, char text[128])
{
    size_t n = 1;
    text[0] = '[';
    for (unsigned i = 0; i < ndim && n < 100; i++)
        n += (size_t)snprintf(text + n, 128 - n, "%s%llu", i > 0 ? ", " : "", (unsigned long long)dim[i]);
    snprintf(text + n, 128 - n, "]");
    return text;
}

bool apr_shape_fits(const struct apr_tensor *t, const uint64_t *dim, unsigned ndim)
{
    unsigned i = 0, k = 0;
    for (;; i++, k++) {
        while (i < t->ndim && t->dim[i] == 1)
            i++;
        while (k < ndim && dim[k] == 1)
            k++;
        if (i == t->ndim || k == ndim)
            return i == t->ndim && k == ndim;
        if (t->dim[i] != dim[k])
            return false;
    }
}

enum apr_code apr_fit_shape(const struct apr_fit *x, const struct apr_tensor *t, const uint64_t *dim, unsigned ndim, struct apr_error *e)
{
    char is[128], wanted[128];
    if (apr_shape_fits(t, dim, ndim))
        return APR_OK;
    return apr_misfit(x, t, e, " has the shape %s, %s would fit", apr_fit_spell(t->dim, t->ndim, is), apr_fit_spell(dim, ndim, wanted));
}

enum apr_code apr_fit_dtype(const struct apr_fit *x, const struct apr_tensor *t, uint64_t dtypes, struct apr_error *e)
{
    if (apr_dtype_id(t->dtype) < 64 && (dtypes >> apr_dtype_id(t->dtype) & 1) != 0)
        return APR_OK;
    return apr_misfit(x, t, e, " is of type %s, which it cannot be", t->dtype->name);
}

/* ---- parts ---------------------------------------------------------------------------------------------------------- */

struct apr_packed_part apr_fit_part(const struct apr_tensor *t)
{
    return (struct apr_packed_part){ .dtype = t->dtype, .data = t->data, .file = t->file };
}

enum apr_code apr_fit_scale(struct apr_fit *x, const struct apr_tensor *t, struct apr_error *e)
{
    APR_TRY(apr_fit_dtype(x, t, APR_FLOATS | APR_F8S | APR_BIT(APR_F8_E8M0) | APR_BIT(APR_U8), e));
    x->to.scale = apr_fit_part(t);
    if (t->dtype == &apr_dtypes[APR_U8])
        x->to.scale.dtype = &apr_dtypes[APR_F8_E8M0];
    return APR_OK;
}

enum apr_code apr_fit_floats(struct apr_fit *x, const struct apr_tensor *t, const float **out, struct apr_error *e)
{
    APR_TRY(apr_fit_dtype(x, t, APR_FLOATS, e));
    if (t->count > APR_STRETCH)
        return apr_misfit(x, t, e, " has %llu numbers, more than it can have", (unsigned long long)t->count);
    float *const all = apr_arena_alloc(x->arena, (size_t)t->count * sizeof *all + 1);
    if (all == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_fetch_tensor(x->m, t, e));
    apr_read_floats(x->k, t, 0, (size_t)t->count, all);
    *out = all;
    return APR_OK;
}

enum apr_code apr_fit_index(struct apr_fit *x, const struct apr_tensor *t, struct apr_error *e)
{
    bool plain = true, none = true;
    APR_TRY(apr_fit_dtype(x, t, APR_BIT(APR_I32) | APR_BIT(APR_I64), e));
    APR_TRY(apr_fit_shape(x, t, &x->to.ncol, 1, e));
    APR_TRY(apr_fetch_tensor(x->m, t, e));
    for (uint64_t i = 0; i < t->count; i++) {
        int64_t g = 0;
        int32_t narrow;
        if (t->dtype->bytes == 4) {
            memcpy(&narrow, t->data.at + 4 * i, 4);
            g = narrow;
        } else {
            memcpy(&g, t->data.at + 8 * i, 8);
        }
        none &= g == -1;
        if (none)
            continue;
        if (g < 0 || (uint64_t)g >= x->to.ngroup)
            return apr_misfit(x, t, e, " says that column %llu is of group %lld, but there are %llu groups", (unsigned long long)i, (long long)g,
                              (unsigned long long)x->to.ngroup);
        plain &= x->to.group_columns > 0 && (uint64_t)g == i / x->to.group_columns;
    }
    if (!plain && !none)
        x->to.index = apr_fit_part(t);
    return APR_OK;
}

uint64_t apr_fit_share(uint64_t n, uint64_t nscale, uint64_t *other)
{
    uint64_t power = 1;
    *other = 0;
    if (nscale == 0)
        return 0;
    while (power < n && apr_ceil(n, power) > nscale)
        power *= 2;
    const bool fits = apr_ceil(n, power) == nscale;
    if (n % nscale != 0)
        return fits ? power : 0;
    if (fits && nscale > 1 && power != n / nscale)
        *other = power;
    return n / nscale;
}

uint64_t apr_fit_group(struct apr_fit *x, uint64_t ncol, uint64_t ngroup)
{
    uint64_t other;
    const uint64_t said = x->said.group;
    if (ngroup == 0 || ncol == 0)
        return 0;
    if (ngroup == 1 && (said == 0 || said >= ncol))
        return ncol;
    if (said > 0)
        return apr_ceil(ncol, said) == ngroup ? said : 0;
    if (x->said.strategy == APR_STRATEGY_CHANNEL || x->said.strategy == APR_STRATEGY_TENSOR)
        return 0;
    const uint64_t group = apr_fit_share(ncol, ngroup, &other);
    if (other > 0)
        apr_fit_guessed(x, "groups of %llu columns; %llu fit as well", (unsigned long long)group, (unsigned long long)other);
    return group;
}

enum apr_code apr_fit_dims(struct apr_fit *x, uint64_t nrow, uint64_t ncol, struct apr_error *e)
{
    struct apr_tensor *const t = &x->t;
    uint64_t count = 1;
    if (nrow == 0 || ncol == 0 || nrow > UINT32_MAX || ncol > UINT32_MAX)
        return apr_misfit(x, x->codes, e, " has no weights, or more than any model has");
    if (t->ndim < 2 && nrow > 1)
        t->ndim = 2;
    if (t->ndim > 1)
        t->dim[t->ndim - 2] = nrow;
    t->dim[t->ndim - 1] = ncol;
    for (unsigned i = 0; i < t->ndim; i++)
        if (!apr_mul(count, t->dim[i], &count))
            return apr_misfit(x, x->codes, e, " has more weights than 64 bits count");
    if (count == 0)
        return apr_misfit(x, x->codes, e, " has no weights");
    t->count = count;
    t->row = ncol;
    x->to.nrow = nrow;
    x->to.ncol = ncol;
    x->to.matrix_bytes = x->codes->data.n / (count / nrow / ncol);
    return APR_OK;
}
