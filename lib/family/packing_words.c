/* Methods whose codes lie in words down the columns, or in one run over all rows. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/packing_fit.h"
#include "model/fetch.h"
#include "model/hf_config.h"
#include "model/model.h"
#include "values/dtype.h"

/* ---- GPTQ, AWQ ------------------------------------------------------------------------------------------------------ */

/* Scales [ngroup, nrow]: groups follow each other downwards. */
static enum apr_code fit_scales(struct apr_fit *x, const struct apr_tensor *scale, struct apr_error *e)
{
    struct apr_packed *const to = &x->to;
    if (scale->ndim != 2)
        return apr_misfit(x, scale, e, " has %u dimensions, scales of this method have two", scale->ndim);
    to->ngroup = scale->dim[0];
    APR_TRY(apr_fit_shape(x, scale, (const uint64_t[]){ to->ngroup, to->nrow }, 2, e));
    APR_TRY(apr_fit_scale(x, scale, e));
    to->group_rows = 1;
    to->group_columns = apr_fit_group(x, to->ncol, to->ngroup);
    to->scale_down = 1;
    to->scale_along = to->nrow;
    return to->group_columns > 0 ? APR_OK
                                 : apr_misfit(x, scale, e, " has %llu groups for %llu columns of %llu each", (unsigned long long)to->ngroup,
                                              (unsigned long long)to->ncol, (unsigned long long)x->said.group);
}

static enum apr_code fit_words(const struct apr_fit *x, struct apr_error *e)
{
    const struct apr_tensor *const c = x->codes;
    if (c->ndim != 2 || c->dim[0] > UINT32_MAX || c->dim[1] > UINT32_MAX)
        return apr_misfit(x, c, e, " has %u dimensions, codes of this method have two", c->ndim);
    return APR_OK;
}

/* Bits of a code: those that were said, or what zeros or the index make of them. */
static unsigned gptq_bits(const struct apr_fit *x, const struct apr_tensor *zeros)
{
    const struct apr_tensor *const c = x->codes, *const index = apr_fit_find(x, ".g_idx");
    if (x->said.bits > 0)
        return x->said.bits;
    if (zeros != NULL && zeros->ndim == 2 && c->dim[1] > 0 && zeros->dim[1] <= UINT32_MAX)
        return (unsigned)apr_min(zeros->dim[1] * 32 / c->dim[1], 99);
    return index != NULL && index->count > 0 ? (unsigned)apr_min(c->dim[0] * 32 / index->count, 99) : 4;
}

static enum apr_code fit_gptq_zeros(struct apr_fit *x, const struct apr_tensor *zeros, struct apr_error *e)
{
    struct apr_packed *const to = &x->to;
    if (zeros == NULL && !x->said.no_zeros)
        return apr_misfit(x, x->codes, e, " has no .qzeros beside it, and nothing says that its codes are symmetric");
    if (zeros == NULL) { /* symmetric, and left out */
        to->zero = (float)(1u << (to->bits - 1));
        return APR_OK;
    }
    if (!x->said.any)
        apr_fit_guessed(x, "zeros of one more than is stored (gptq); as they are stored (gptq_v2) fits as well");
    APR_TRY(apr_fit_dtype(x, zeros, APR_BIT(APR_I32), e));
    to->zero_form = APR_ZERO_ALONG;
    to->zeros = apr_fit_part(zeros);
    to->zero = x->said.v2 ? 0 : 1;
    if (to->nrow * to->bits % 32 != 0)
        return apr_misfit(x, zeros, e, " holds zeros of %llu rows, which are no whole words", (unsigned long long)to->nrow);
    return apr_fit_shape(x, zeros, (const uint64_t[]){ to->ngroup, to->nrow * to->bits / 32 }, 2, e);
}

enum apr_code apr_fit_gptq(struct apr_fit *x, struct apr_error *e)
{
    static const unsigned char kind[9] = { [2] = APR_GPTQ2, [3] = APR_GPTQ3, [4] = APR_GPTQ4, [8] = APR_GPTQ8 };
    const struct apr_tensor *const c = x->codes, *scale, *zeros, *index;
    struct apr_packed *const to = &x->to;
    APR_TRY(fit_words(x, e));
    APR_TRY(apr_fit_need(x, ".scales", &scale, e));
    zeros = apr_fit_take(x, ".qzeros");
    to->bits = gptq_bits(x, zeros);
    if (to->bits > 8 || kind[to->bits] == 0 || c->dim[0] * 32 % to->bits != 0)
        return apr_misfit(x, c, e, " has codes of %u bits in %llu words, which no weight has", to->bits, (unsigned long long)c->dim[0]);
    APR_TRY(apr_fit_dims(x, c->dim[1], c->dim[0] * 32 / to->bits, e));
    APR_TRY(fit_scales(x, scale, e));
    APR_TRY(fit_gptq_zeros(x, zeros, e));
    to->form = APR_PACKED_DOWN;
    to->stride = to->nrow * 4;
    x->t.dtype = &apr_dtypes[kind[to->bits]];
    index = apr_fit_take(x, ".g_idx");
    if (index == NULL && x->said.order && to->ngroup > 1)
        return apr_misfit(x, c, e, " has no .g_idx beside it, which desc_act asks for");
    return index == NULL ? APR_OK : apr_fit_index(x, index, e);
}

enum apr_code apr_fit_awq(struct apr_fit *x, struct apr_error *e)
{
    const struct apr_tensor *const c = x->codes, *scale, *zeros;
    struct apr_packed *const to = &x->to;
    APR_TRY(fit_words(x, e));
    APR_TRY(apr_fit_need(x, ".scales", &scale, e));
    zeros = apr_fit_take(x, ".qzeros");
    if (x->said.bits != 0 && x->said.bits != 4)
        return apr_misfit(x, c, e, " has codes of %u bits, 4 are known", x->said.bits);
    to->bits = 4;
    APR_TRY(apr_fit_dims(x, c->dim[1] * 8, c->dim[0], e));
    APR_TRY(fit_scales(x, scale, e));
    to->form = APR_PACKED_EIGHTS;
    to->stride = c->dim[1] * 4;
    to->zero = 8;
    x->t.dtype = &apr_dtypes[APR_AWQ4];
    if (zeros == NULL && !x->said.no_zeros)
        return apr_misfit(x, c, e, " has no .qzeros beside it, and nothing says that its codes are symmetric");
    if (zeros == NULL)
        return APR_OK;
    APR_TRY(apr_fit_dtype(x, zeros, APR_BIT(APR_I32), e));
    to->zero_form = APR_ZERO_EIGHTS;
    to->zeros = apr_fit_part(zeros);
    return apr_fit_shape(x, zeros, (const uint64_t[]){ to->ngroup, c->dim[1] }, 2, e);
}

/* ---- bitsandbytes --------------------------------------------------------------------------------------------------- */

/* What bitsandbytes keeps as JSON. */
struct state {
    double dim[3], block, nested_block, nested_offset;
    unsigned ndim;
    bool   has_nested_block, has_nested_offset;
};

static bool is_count(double n) { return n >= 1 && n <= 0x1p31 && n == (double)(uint64_t)n; }

static bool read_numbers(const struct apr_hf_config *json, struct state *s)
{
    char path[16];
    double none;
    for (s->ndim = 0; s->ndim < 3; s->ndim++) {
        snprintf(path, sizeof path, "shape.%u", s->ndim);
        if (!apr_hf_config_number(json, apr_text(path), &s->dim[s->ndim]))
            break;
        if (!is_count(s->dim[s->ndim]))
            return false;
    }
    snprintf(path, sizeof path, "shape.%u", s->ndim);
    if (s->ndim == 0 || apr_hf_config_number(json, apr_text(path), &none))
        return false;
    s->has_nested_block = apr_hf_config_number(json, apr_text("nested_blocksize"), &s->nested_block) && is_count(s->nested_block);
    s->has_nested_offset = apr_hf_config_number(json, apr_text("nested_offset"), &s->nested_offset);
    return apr_hf_config_number(json, apr_text("blocksize"), &s->block) && is_count(s->block);
}

static enum apr_code read_state(struct apr_fit *x, struct state *s, struct apr_error *e)
{
    static const char *const name[] = { ".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4" };
    const struct apr_tensor *t;
    struct apr_hf_config *json;
    struct apr_error why;
    APR_TRY(apr_fit_either(x, name, 2, &t, e));
    if (t == NULL)
        return apr_misfit(x, x->codes, e, " has no .weight.quant_state.bitsandbytes__nf4 or __fp4 beside it, without which its codes "
                          "say nothing");
    x->t.dtype = &apr_dtypes[apr_bytes_have(t->name, name[0]) ? APR_NF4 : APR_FP4];
    APR_TRY(apr_fit_dtype(x, t, APR_BIT(APR_U8), e));
    APR_TRY(apr_fetch_tensor(x->m, t, e));
    const enum apr_code code = apr_hf_config_new(&json, t->data, &why);
    if (code == APR_ENOMEM)
        return apr_no_memory(e);
    if (code != APR_OK)
        return apr_misfit(x, t, e, " is no JSON: %s", why.text);
    const bool known = read_numbers(json, s);
    apr_hf_config_free(json);
    return known ? APR_OK : apr_misfit(x, t, e, " says nothing of a shape, or of a blocksize, that can be");
}

/* Scales of their own: floats, or codes of 8 bits. */
static enum apr_code fit_absmax(struct apr_fit *x, const struct state *s, struct apr_error *e)
{
    const struct apr_tensor *scale, *nested, *levels;
    struct apr_packed *const to = &x->to;
    APR_TRY(apr_fit_need(x, ".weight.absmax", &scale, e));
    APR_TRY(apr_fit_shape(x, scale, &to->ngroup, 1, e));
    to->scale = apr_fit_part(scale);
    if (scale->dtype != &apr_dtypes[APR_U8])
        return apr_fit_dtype(x, scale, APR_FLOATS, e);
    APR_TRY(apr_fit_need(x, ".weight.nested_absmax", &nested, e));
    APR_TRY(apr_fit_need(x, ".weight.nested_quant_map", &levels, e));
    APR_TRY(apr_fit_dtype(x, nested, APR_FLOATS, e));
    if (!s->has_nested_block || !s->has_nested_offset)
        return apr_misfit(x, scale, e, " is nested, but its quant_state has no number as %s",
                          s->has_nested_block ? "nested_offset" : "nested_blocksize");
    to->nested_block = (uint64_t)s->nested_block;
    const uint64_t n = apr_ceil(to->ngroup, to->nested_block), all = 256;
    APR_TRY(apr_fit_shape(x, nested, &n, 1, e));
    APR_TRY(apr_fit_shape(x, levels, &all, 1, e));
    to->nested = apr_fit_part(nested);
    to->nested_offset = (float)s->nested_offset;
    return apr_fit_floats(x, levels, &to->nested_level, e);
}

/* Blocks run over all rows, so that it is one row of codes. */
enum apr_code apr_fit_bnb4(struct apr_fit *x, struct apr_error *e)
{
    const struct apr_tensor *levels;
    struct apr_packed *const to = &x->to;
    struct state s;
    const uint64_t all = 16;
    APR_TRY(read_state(x, &s, e));
    x->t.ndim = s.ndim;
    for (unsigned i = 0; i + 2 < s.ndim; i++)
        x->t.dim[i] = (uint64_t)s.dim[i];
    const double nrow = s.ndim > 1 ? s.dim[s.ndim - 2] : 1;
    APR_TRY(apr_fit_dims(x, (uint64_t)nrow, (uint64_t)s.dim[s.ndim - 1], e));
    if (x->codes->data.n != apr_ceil(x->t.count, 2))
        return apr_misfit(x, x->codes, e, " has %zu bytes of codes, %llu weights have %llu", x->codes->data.n, (unsigned long long)x->t.count,
                          (unsigned long long)apr_ceil(x->t.count, 2));
    *to = (struct apr_packed){ .form = APR_PACKED_STREAM, .bits = 4, .nibbles_turned = true, .nrow = 1, .ncol = x->t.count };
    x->t.row = x->t.count;
    to->matrix_bytes = to->stride = x->codes->data.n;
    to->group_rows = 1;
    to->group_columns = (uint64_t)s.block;
    to->ngroup = apr_ceil(x->t.count, to->group_columns);
    to->scale_down = to->scales_per_matrix = to->ngroup;
    to->scale_along = 1;
    APR_TRY(fit_absmax(x, &s, e));
    APR_TRY(apr_fit_need(x, ".weight.quant_map", &levels, e));
    APR_TRY(apr_fit_shape(x, levels, &all, 1, e));
    return apr_fit_floats(x, levels, &to->level, e);
}
