/* Factors of NVFP4 weights, which a GGUF has in tensors beside the blocks. */
#include "convert/conversion_parts.h"

#include <math.h>
#include <string.h>

#include "values/dtype.h"
#include "values/packed.h"

static uint64_t nfactor(const struct apr_packed *p, bool input) { return p == NULL ? 0 : input ? p->ninput : p->nfactor; }

/* The factors of one part, as many as the tensor wants of it; 1 where it has none. */
static void read_factors(const struct apr_packed *p, bool input, uint64_t n, float *out)
{
    const uint64_t have = nfactor(p, input);
    const float *const from = have == 0 ? NULL : input ? p->input : p->factor;
    for (uint64_t i = 0; i < n; i++) {
        const float x = have == 0 ? 1 : from[have == 1 ? 0 : i];
        out[i] = have > 0 && p->divides ? 1 / x : x;
    }
}

/* A factor that llama.cpp's converter leaves out, since it changes nothing. */
static bool is_trivial(const float *factor, uint64_t n)
{
    bool one = true;
    for (uint64_t i = 0; i < n; i++)
        one &= fabs((double)factor[i] - 1) < (n == 1 ? 1e-6 : 1.1e-5);
    return one;
}

/* Factors of all parts, one a matrix of a stack, else one for all: *n of them in the plan's arena. */
static enum apr_code factors_of(struct apr_conversion *c, const struct apr_planned *t, bool input, float **factor, uint64_t *n,
                                struct apr_error *e)
{
    const uint64_t npart = t->in->view.npart;
    const uint64_t of_first = nfactor(apr_input_part(t->in, 0)->packed, input);
    const bool stacked = t->ndim > 2 && npart == t->dim[0] && npart > 1;
    *n = stacked ? npart : npart == 1 && of_first > 1 ? of_first : 1;
    float *const out = apr_arena_alloc(&c->plan.arena, (size_t)*n * sizeof *out);
    if (out == NULL)
        return apr_no_memory(e);
    *factor = out;
    for (uint64_t i = 0; i < npart; i++) {
        float one;
        const struct apr_packed *const p = apr_input_part(t->in, i)->packed;
        if (!stacked && i == 0)
            read_factors(p, input, *n, out);
        read_factors(p, input, 1, stacked ? &out[i] : &one);
        if (!stacked && i > 0 && memcmp(&one, &out[0], sizeof one) != 0)
            return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name,
                                   " is made of parts whose %s differ, and NVFP4 has one: --type decodes them",
                                   input ? "input scales" : "scales");
    }
    return APR_OK;
}

static enum apr_code plan_scale(struct apr_conversion *c, const struct apr_planned *t, bool input, struct apr_error *e)
{
    const struct apr_bytes weight = apr_text(".weight");
    const bool named = t->name.n > weight.n && apr_bytes_end(t->name, weight);
    struct apr_planned scale = { .dtype = &apr_dtypes[APR_F32], .ndim = 1, .how = APR_GENERATE };
    float *factor = NULL;
    APR_TRY(factors_of(c, t, input, &factor, &scale.dim[0], e));
    if (is_trivial(factor, scale.dim[0]))
        return APR_OK;
    scale.values = factor;
    scale.count = scale.row = scale.dim[0];
    scale.name = apr_arena_format(&c->plan.arena, "%.*s%s", (int)(t->name.n - (named ? weight.n : 0)), t->name.at,
                                  input ? ".input_scale" : ".scale");
    return scale.name.at == NULL ? apr_no_memory(e) : apr_plan_add(&c->plan, &scale, e);
}

enum apr_code apr_plan_scales(struct apr_conversion *c, const struct apr_planned *t, struct apr_error *e)
{
    bool any = false;
    if (t->how != APR_BLOCKS || t->dtype != &apr_dtypes[APR_NVFP4])
        return APR_OK;
    for (uint64_t i = 0; i < t->in->view.npart; i++)
        any |= apr_input_part(t->in, i)->packed != NULL;
    if (!any)
        return APR_OK;
    APR_TRY(plan_scale(c, t, false, e));
    return plan_scale(c, t, true, e);
}
