/* The named mixes of llama-quantize: Q4_K_M, IQ4_XS ... */
#ifndef APR_PRESET_H
#define APR_PRESET_H

#include "base/core.h"

/* A preset is known by the general.file_type that it writes. */
enum apr_file_type {
    APR_MIX_F32 = 0, APR_MIX_F16 = 1, APR_MIX_Q4_0 = 2, APR_MIX_Q4_1 = 3, APR_MIX_Q8_0 = 7, APR_MIX_Q5_0 = 8, APR_MIX_Q5_1 = 9,
    APR_MIX_Q2_K = 10, APR_MIX_Q3_K_S = 11, APR_MIX_Q3_K_M = 12, APR_MIX_Q3_K_L = 13, APR_MIX_Q4_K_S = 14, APR_MIX_Q4_K_M = 15,
    APR_MIX_Q5_K_S = 16, APR_MIX_Q5_K_M = 17, APR_MIX_Q6_K = 18, APR_MIX_IQ2_XXS = 19, APR_MIX_IQ2_XS = 20, APR_MIX_Q2_K_S = 21,
    APR_MIX_IQ3_XS = 22, APR_MIX_IQ3_XXS = 23, APR_MIX_IQ1_S = 24, APR_MIX_IQ4_NL = 25, APR_MIX_IQ3_S = 26, APR_MIX_IQ3_M = 27,
    APR_MIX_IQ2_S = 28, APR_MIX_IQ2_M = 29, APR_MIX_IQ4_XS = 30, APR_MIX_IQ1_M = 31, APR_MIX_BF16 = 32, APR_MIX_TQ1_0 = 36,
    APR_MIX_TQ2_0 = 37, APR_MIX_MXFP4_MOE = 38, APR_MIX_Q1_0 = 40, APR_MIX_Q2_0 = 41,
};

/* alias: another word for it, or NULL. dtype: of most tensors, before lib/family/mix.h looks at each. */
struct apr_preset {
    const char        *name, *alias;
    enum apr_file_type file_type;
    enum apr_dtype_id  dtype;
};

/* The preset of that name, alias or number ("q4_k_m", "Q4_K", "15"), letters of either case; NULL when there is none. llama-quantize's COPY
 * is none: it leaves every tensor as it is, which converting does without a preset. NVFP4 is none: it has a number, but llama-quantize has
 * no mix for it. */
const struct apr_preset *apr_preset_of(const char *word);

/* The i-th by rising number, NULL behind the last. */
const struct apr_preset *apr_preset_at(size_t i);

#endif
