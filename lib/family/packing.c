#include "family/packing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "model/hf_config.h"
#include "model/model.h"
#include "values/dtype.h"

/* ---- methods -------------------------------------------------------------------------------------------------------- */

/* Where several helpers lead to the same codes, the later method is meant. */
enum method { PLAIN, SCALED, MLX, AWQ, GPTQ, INT8, NF4, INT4, NVFP4, MXFP4, NMETHODS };

static const char *const words[NMETHODS] = { [SCALED] = "scales (FP8 or INT8)",     [MLX] = "MLX",
                                             [AWQ] = "AWQ",                         [GPTQ] = "GPTQ",
                                             [INT8] = "bitsandbytes (int8)",        [NF4] = "bitsandbytes (4 bits: nf4, fp4)",
                                             [INT4] = "compressed-tensors (packed)", [NVFP4] = "NVFP4",
                                             [MXFP4] = "MXFP4" };

#define BIT(dtype) (UINT64_C(1) << (dtype))
#define F8         (BIT(APR_F8_E4M3) | BIT(APR_F8_E5M2) | BIT(APR_F8_E4M3FNUZ) | BIT(APR_F8_E5M2FNUZ))

/* bitsandbytes keeps its bytes in any of these, as it is told. */
#define BYTES (BIT(APR_U8) | BIT(APR_BF16) | BIT(APR_F16) | BIT(APR_F32))

/* A tensor STEM + helper belongs to the codes STEM + codes, when those have one of the dtypes; without codes it is no helper. */
static const struct row {
    const char *helper, *codes;
    uint64_t    dtypes;
    enum method method;
} rows[] = {
    { ".weight_scale_inv", ".weight", F8, SCALED },
    { ".weight_scale", ".weight", F8 | BIT(APR_I8), SCALED },
    { ".weight_zero_point", ".weight", BIT(APR_I8), SCALED },
    { ".input_scale", ".weight", F8 | BIT(APR_I8) | BIT(APR_U8) | BIT(APR_NVFP4), SCALED },
    { ".output_scale", ".weight", F8 | BIT(APR_I8), SCALED },
    { ".scale", ".weight", BIT(APR_NVFP4), SCALED },
    { "_scale_inv", "", F8, SCALED },
    { ".scales", ".weight", BIT(APR_U32), MLX },
    { ".biases", ".weight", BIT(APR_U32), MLX },
    { ".scales", ".qweight", BIT(APR_I32), AWQ },
    { ".qzeros", ".qweight", BIT(APR_I32), AWQ },
    { ".g_idx", ".qweight", BIT(APR_I32), GPTQ },
    { ".SCB", ".weight", BIT(APR_I8), INT8 },
    { ".weight_format", ".weight", BIT(APR_I8), INT8 },
    { ".weight.absmax", ".weight", BYTES, NF4 },
    { ".weight.quant_map", ".weight", BYTES, NF4 },
    { ".weight.nested_absmax", ".weight", BYTES, NF4 },
    { ".weight.nested_quant_map", ".weight", BYTES, NF4 },
    { ".weight.quant_state.bitsandbytes__nf4", ".weight", BYTES, NF4 },
    { ".weight.quant_state.bitsandbytes__fp4", ".weight", BYTES, NF4 },
    { ".weight_scale", ".weight_packed", BIT(APR_I32), INT4 },
    { ".weight_zero_point", ".weight_packed", BIT(APR_I32), INT4 },
    { ".weight_shape", ".weight_packed", BIT(APR_I32), INT4 },
    { ".weight_g_idx", ".weight_packed", BIT(APR_I32), INT4 },
    { ".weight_scale", ".weight_packed", BIT(APR_U8), NVFP4 },
    { ".weight_global_scale", ".weight_packed", BIT(APR_U8), NVFP4 },
    { ".input_global_scale", ".weight_packed", BIT(APR_U8), NVFP4 },
    { ".weight_scale", ".weight", BIT(APR_U8), NVFP4 },
    { ".weight_scale_2", ".weight", BIT(APR_U8), NVFP4 },
    { "_scales", "_blocks", BIT(APR_U8), MXFP4 },
};

struct apr_packing {
    struct apr_model            view;
    const struct apr_model     *model;
    const struct apr_hf_config *config;
    unsigned char              *method;  /* of each tensor, as codes */
    bool                       *helper;
    struct apr_arena           *arena;
    size_t                      of[NMETHODS];
};

/* ---- which tensor is what -------------------------------------------------------------------------------------------- */

static bool ends_in(struct apr_bytes name, const char *end)
{
    const size_t n = strlen(end);
    return name.n > n && memcmp(name.at + name.n - n, end, n) == 0;
}

/* The tensor of name less `from`, plus `to`; NULL when there is none. */
static const struct apr_tensor *beside(const struct apr_model *m, struct apr_bytes name, const char *from, const char *to)
{
    char text[1024];
    const size_t stem = name.n - strlen(from), n = stem + strlen(to);
    if (n > sizeof text)
        return NULL;
    memcpy(text, name.at, stem);
    memcpy(text + stem, to, n - stem);
    return apr_model_find(m, (struct apr_bytes){ (const unsigned char *)text, n });
}

static void find_role(struct apr_packing *p, size_t i)
{
    const struct apr_bytes name = p->model->tensor[i].name;
    for (size_t k = 0; k < APR_LENGTH(rows); k++) {
        const struct row *r = &rows[k];
        const struct apr_tensor *codes = ends_in(name, r->helper) ? beside(p->model, name, r->helper, r->codes) : NULL;
        if (codes == NULL || (r->dtypes >> apr_dtype_id(codes->dtype) & 1) == 0)
            continue;
        unsigned char *method = &p->method[codes - p->model->tensor];
        p->helper[i] = true;
        if (r->method > *method)
            *method = (unsigned char)r->method;
    }
}

/* ---- shapes ---------------------------------------------------------------------------------------------------------- */

/* The count that config.json gives, under either of its names; `otherwise` where it gives none that can be meant. */
static uint64_t said(const struct apr_packing *p, const char *word, uint64_t otherwise)
{
    char path[64];
    static const char *const group[] = { "quantization_config", "quantization" };
    for (size_t i = 0; i < APR_LENGTH(group); i++) {
        double n;
        snprintf(path, sizeof path, "%s.%s", group[i], word);
        if (apr_hf_config_number(p->config, apr_text(path), &n) && n >= 1 && n <= 65536)
            return (uint64_t)n;
    }
    return otherwise;
}

static bool two(struct apr_tensor *t, uint64_t rows_, uint64_t columns)
{
    t->ndim = 2;
    t->dim[0] = rows_;
    t->dim[1] = columns;
    return true;
}

/* Words of 32 bits along a dimension, as codes. */
static uint64_t unpacked(const struct apr_packing *p, uint64_t nwords) { return apr_min(nwords, UINT32_MAX) * 32 / said(p, "bits", 4); }

/* AWQ packs along out, which its scales have whole; GPTQ along in. */
static bool is_awq(const struct apr_packing *p, const struct apr_tensor *codes)
{
    const struct apr_tensor *scales = beside(p->model, codes->name, ".qweight", ".scales");
    return scales != NULL && scales->ndim == 2 && codes->ndim == 2 && scales->dim[1] != codes->dim[1];
}

static bool shape_by_words(const struct apr_packing *p, const struct apr_tensor *codes, struct apr_tensor *t)
{
    const struct apr_tensor *g = beside(p->model, codes->name, ".qweight", ".g_idx");
    if (codes->ndim != 2)
        return false;
    if (is_awq(p, codes))
        return two(t, beside(p->model, codes->name, ".qweight", ".scales")->dim[1], codes->dim[0]);
    return two(t, codes->dim[1], g != NULL ? g->count : unpacked(p, codes->dim[0]));
}

/* The shape that bitsandbytes keeps as JSON. */
static bool shape_by_state(const struct apr_packing *p, const struct apr_tensor *codes, struct apr_tensor *t)
{
    static const char *const kind[] = { ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4" };
    const struct apr_tensor *state = beside(p->model, codes->name, "", kind[0]);
    struct apr_hf_config *json;
    struct apr_error ignored;
    double rows_, columns;
    if (state == NULL)
        state = beside(p->model, codes->name, "", kind[1]);
    if (state == NULL || apr_hf_config_new(&json, state->data, &ignored) != APR_OK)
        return false;
    const bool known = apr_hf_config_number(json, apr_text("shape.0"), &rows_) && apr_hf_config_number(json, apr_text("shape.1"), &columns) &&
                       rows_ >= 1 && rows_ < 0x1p32 && columns >= 1 && columns < 0x1p32;
    apr_hf_config_free(json);
    return known && two(t, (uint64_t)rows_, (uint64_t)columns);
}

static bool shape_by_tensor(const struct apr_packing *p, const struct apr_tensor *codes, struct apr_tensor *t)
{
    const struct apr_tensor *shape = beside(p->model, codes->name, ".weight_packed", ".weight_shape");
    uint64_t n[2];
    if (codes->ndim != 2)
        return false;
    if (shape == NULL || shape->dtype != &apr_dtypes[APR_I64] || shape->count != 2)
        return two(t, codes->dim[0], unpacked(p, codes->dim[1]));
    memcpy(n, shape->data.at, sizeof n);
    return n[0] <= UINT32_MAX && n[1] <= UINT32_MAX && two(t, n[0], n[1]);
}

/* Blocks of 16 bytes, which are 32 codes, make the last dimension. */
static bool shape_by_blocks(const struct apr_tensor *codes, struct apr_tensor *t)
{
    uint64_t n;
    if (codes->ndim < 3 || !apr_mul(codes->dim[codes->ndim - 2], codes->dim[codes->ndim - 1], &n) || !apr_mul(n, 2, &n))
        return false;
    t->ndim = codes->ndim - 1;
    t->dim[t->ndim - 1] = n;
    return true;
}

static bool find_shape(const struct apr_packing *p, const struct apr_tensor *codes, struct apr_tensor *t)
{
    const struct apr_tensor *scales;
    switch ((enum method)p->method[codes - p->model->tensor]) {
    case AWQ: case GPTQ: return shape_by_words(p, codes, t);
    case NF4: return shape_by_state(p, codes, t);
    case INT4: return shape_by_tensor(p, codes, t);
    case MXFP4: return shape_by_blocks(codes, t);
    case NVFP4: return codes->ndim == 2 && codes->dim[1] <= UINT32_MAX && two(t, codes->dim[0], 2 * codes->dim[1]);
    case MLX:
        scales = beside(p->model, codes->name, ".weight", ".scales");
        if (scales == NULL || scales->ndim != codes->ndim || codes->ndim == 0)
            return false;
        return apr_mul(scales->dim[codes->ndim - 1], said(p, "group_size", 64), &t->dim[codes->ndim - 1]);
    case PLAIN: case SCALED: case INT8: case NMETHODS: break;
    }
    return true;
}

/* "a.qweight", "a.weight_packed" -> "a.weight"; "a_blocks" -> "a". */
static enum apr_code rename_codes(struct apr_packing *p, struct apr_tensor *t, struct apr_error *e)
{
    static const char *const known[][2] = { { ".qweight", ".weight" }, { ".weight_packed", ".weight" }, { "_blocks", "" } };
    for (size_t i = 0; i < APR_LENGTH(known); i++)
        if (ends_in(t->name, known[i][0])) {
            const struct apr_bytes name = apr_arena_format(&p->arena, "%.*s%s", (int)(t->name.n - strlen(known[i][0])), t->name.at, known[i][1]);
            if (name.at == NULL)
                return apr_no_memory(e);
            t->name = name;
            return APR_OK;
        }
    return APR_OK;
}

static enum apr_code unpack(struct apr_packing *p, size_t i, struct apr_error *e)
{
    const struct apr_tensor *codes = &p->model->tensor[i];
    struct apr_tensor t = *codes;
    uint64_t ignored;
    if (p->method[i] == PLAIN)
        return APR_OK;
    if (p->method[i] == AWQ && !is_awq(p, codes))
        p->method[i] = GPTQ; /* without g_idx, as some leave it out */
    t.row = 0;
    if (!find_shape(p, codes, &t) || !apr_tensor_measure(&t, &ignored))
        t = *codes;
    p->of[p->method[i]]++;
    p->view.tensor[i] = t;
    return rename_codes(p, &p->view.tensor[i], e);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

enum apr_code apr_packing_of(struct apr_packing **out, const struct apr_model *m, const struct apr_hf_config *config, struct apr_error *e)
{
    struct apr_packing *p = calloc(1, sizeof *p);
    bool any = false;
    *out = NULL;
    if (p == NULL)
        return apr_no_memory(e);
    p->model = m;
    p->config = config;
    p->view = *m;
    p->method = calloc(m->ntensor + 1, sizeof *p->method);
    p->helper = calloc(m->ntensor + 1, sizeof *p->helper);
    p->view.tensor = calloc(m->ntensor + 1, sizeof *p->view.tensor);
    enum apr_code code = p->method == NULL || p->helper == NULL || p->view.tensor == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < m->ntensor; i++) {
        p->view.tensor[i] = m->tensor[i];
        find_role(p, i);
        any |= p->helper[i];
    }
    for (size_t i = 0; code == APR_OK && any && i < m->ntensor; i++)
        code = unpack(p, i, e);
    if (code == APR_OK && any)
        *out = p;
    else
        apr_packing_free(p);
    return code;
}

void apr_packing_free(struct apr_packing *p)
{
    if (p == NULL)
        return;
    free(p->method);
    free(p->helper);
    free(p->view.tensor);
    apr_arena_free(&p->arena);
    free(p);
}

const struct apr_model *apr_packing_view(const struct apr_packing *p) { return &p->view; }
bool apr_packing_codes(const struct apr_packing *p, size_t i) { return p->method[i] != PLAIN; }
bool apr_packing_helps(const struct apr_packing *p, size_t i) { return p->helper[i]; }

size_t apr_packing_count(const struct apr_packing *p, const char **method)
{
    size_t all = 0;
    unsigned most = SCALED;
    for (unsigned k = SCALED; k < NMETHODS; k++) {
        all += p->of[k];
        most = p->of[k] > p->of[most] ? k : most;
    }
    *method = words[most];
    return all;
}
