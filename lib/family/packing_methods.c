/* The methods of packing.h, one row each. */
#include <string.h>

#include "base/bytes.h"
#include "family/packing_fit.h"
#include "values/dtype.h"

/* AWQ packs along the rows, which its scales have whole; GPTQ along the columns. */
static bool is_awq(const struct apr_fit *x)
{
    const struct apr_tensor *const scale = apr_fit_find(x, ".scales");
    return x->said.awq || apr_bytes_is(x->method, "awq") ||
           (!x->said.gptq && scale != NULL && scale->ndim == 2 && x->codes->ndim == 2 && apr_fit_find(x, ".g_idx") == NULL &&
            scale->dim[1] / 8 == x->codes->dim[1] && (x->said.bits == 0 || x->said.bits == 4));
}

/* bitsandbytes keeps its bytes in any of these, as it is told. */
#define BYTES      (APR_BIT(APR_U8) | APR_BIT(APR_BF16) | APR_BIT(APR_F16) | APR_BIT(APR_F32))
#define WORDS      (APR_BIT(APR_I32) | APR_BIT(APR_U32))
#define CODES_OF_8 (APR_F8S | APR_BIT(APR_I8))
#define ALL        UINT64_MAX

#define BNB4_HELPERS                                                                                                                    \
    { ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax", ".weight.nested_quant_map",                                     \
      ".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4" }
#define VALUES_HELPERS                                                                                                                  \
    { "_scale_inv", "_scale", "_zero_point", ".input_scale", ".output_scale", ".activation_scale", ".qscale_weight", ".qscale_act",  \
      ".input_zero_point" }

const struct apr_packing_method apr_packing_methods[] = {
    { "bitsandbytes (4 bits)", ".weight", BYTES,
      { ".weight.absmax", ".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4" }, ALL, BNB4_HELPERS, ".weight",
      NULL, apr_fit_bnb4 },
    { "bitsandbytes (int8)", ".weight", APR_BIT(APR_I8), { ".SCB" }, ALL, { ".SCB", ".weight_format" }, ".weight", NULL, apr_fit_values },
    { "AWQ", ".qweight", WORDS, { ".scales", ".qzeros" }, ALL, { ".scales", ".qzeros" }, ".weight", is_awq, apr_fit_awq },
    { "GPTQ", ".qweight", WORDS, { ".scales", ".qzeros", ".g_idx" }, ALL, { ".scales", ".qzeros", ".g_idx" }, ".weight", NULL, apr_fit_gptq },
    { "compressed-tensors (packed)", ".weight_packed", WORDS, { ".weight_scale", ".weight_shape", ".weight_zero_point" }, ALL,
      { ".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx", ".input_scale", ".input_zero_point" }, ".weight", NULL,
      apr_fit_packed_ints },
    { "NVFP4", ".weight_packed", APR_BIT(APR_U8), { ".weight_scale" }, APR_F8S,
      { ".weight_scale", ".weight_global_scale", ".weight_scale_2", ".input_global_scale" }, ".weight", NULL, apr_fit_nvfp4 },
    { "MXFP4", ".weight_packed", APR_BIT(APR_U8), { ".weight_scale" }, ALL, { ".weight_scale" }, ".weight", NULL, apr_fit_nvfp4 },
    { "NVFP4", ".weight", APR_BIT(APR_U8), { ".weight_scale" }, APR_F8S, { ".weight_scale", ".weight_scale_2", ".input_scale" }, ".weight",
      NULL, apr_fit_nvfp4 },
    { "FP8", "", APR_F8S, { "_scale_inv", "_scale", ".qscale_weight" }, ALL, VALUES_HELPERS, "", NULL, apr_fit_values },
    { "INT8", "", APR_BIT(APR_I8), { "_scale" }, ALL, VALUES_HELPERS, "", NULL, apr_fit_values },
    { "MLX", ".weight", APR_BIT(APR_U32), { ".scales", ".biases" }, ALL, { ".scales", ".biases" }, ".weight", NULL, apr_fit_mlx },
    { "MXFP4", "_blocks", APR_BIT(APR_U8), { "_scales" }, ALL, { "_scales" }, "", NULL, apr_fit_mxfp4 },
    { "NVFP4", ".weight", APR_BIT(APR_NVFP4), { ".scale", ".input_scale" }, ALL, { ".scale", ".input_scale" }, ".weight", NULL, apr_fit_gguf },
};
const size_t apr_packing_nmethod = APR_LENGTH(apr_packing_methods);
