#include "values/dtype.h"

#include <float.h>
#include <string.h>

#include "values/kernels/init.h"

#define F16(name, at)    { name, APR_FIELD_F16, at, 1 }
#define F32(name, at)    { name, APR_FIELD_F32, at, 1 }
#define U8(name, at, n)  { name, APR_FIELD_U8, at, n }
#define I8(name, at, n)  { name, APR_FIELD_I8, at, n }
#define U16(name, at, n) { name, APR_FIELD_U16, at, n }
#define I16(name, at, n) { name, APR_FIELD_I16, at, n }
#define U32(name, at, n) { name, APR_FIELD_U32, at, n }

/* A type of SafeTensors: blocks without fields, over the whole tensor. */
#define PLAIN(word, elements, width, ggml_id, apr_id, init_fn) \
    .name = word, .block = elements, .bytes = width, .flat = true, .ggml = ggml_id, .apr = apr_id, .safetensors = word, .init = init_fn

/* A type of GGUF: blocks within a row. */
#define BLOCKS(word, elements, width, ggml_id, apr_id, init_fn) \
    .name = word, .block = elements, .bytes = width, .ggml = ggml_id, .apr = apr_id, .init = init_fn

/* A kind of packed weight; one that llama.cpp's converter decodes. */
#define PACKED(word)  { .name = word, .block = 1, .bytes = 1, .packed = true, .ggml = -1, .apr = -1 }
#define DECODED(word) { .name = word, .block = 1, .bytes = 1, .packed = true, .decoded = true, .ggml = -1, .apr = -1 }

#define BYTES 256
#define WORDS 65536

/* Packed high bits, signs and indices count as fields of the width in which GGML's code moves them. */
const struct apr_dtype apr_dtypes[APR_NDTYPES] = {
    [APR_F64]         = { PLAIN("F64", 1, 8, 28, 3, apr_plain_init), .native = true, .wide = true },
    [APR_F32]         = { PLAIN("F32", 1, 4, 0, 0, apr_plain_init), .native = true },
    [APR_F16]         = { PLAIN("F16", 1, 2, 1, 1, apr_half_init), .ncode = WORDS },
    [APR_BF16]        = { PLAIN("BF16", 1, 2, 30, 30, apr_half_init), .ncode = WORDS },
    [APR_I64]         = { PLAIN("I64", 1, 8, 27, 5, apr_plain_init), .kind = APR_SIGNED, .wide = true },
    [APR_I32]         = { PLAIN("I32", 1, 4, 26, 4, apr_plain_init), .kind = APR_SIGNED, .wide = true },
    [APR_I16]         = { PLAIN("I16", 1, 2, 25, -1, apr_plain_init), .kind = APR_SIGNED, .ncode = WORDS },
    [APR_I8]          = { PLAIN("I8", 1, 1, 24, 6, apr_plain_init), .kind = APR_SIGNED, .ncode = BYTES },
    [APR_U64]         = { PLAIN("U64", 1, 8, -1, -1, apr_plain_init), .kind = APR_UNSIGNED, .wide = true },
    [APR_U32]         = { PLAIN("U32", 1, 4, -1, -1, apr_plain_init), .kind = APR_UNSIGNED, .wide = true },
    [APR_U16]         = { PLAIN("U16", 1, 2, -1, -1, apr_plain_init), .kind = APR_UNSIGNED, .ncode = WORDS },
    [APR_U8]          = { PLAIN("U8", 1, 1, -1, 7, apr_plain_init), .kind = APR_UNSIGNED, .ncode = BYTES },
    [APR_BOOL]        = { PLAIN("BOOL", 1, 1, -1, -1, apr_plain_init), .kind = APR_BOOLEAN, .ncode = BYTES },
    [APR_C64]         = { PLAIN("C64", 1, 8, -1, -1, NULL), .pair = &apr_dtypes[APR_F32] },
    [APR_F8_E4M3]     = { PLAIN("F8_E4M3", 1, 1, -1, -1, apr_float8_init), .ncode = BYTES },
    [APR_F8_E5M2]     = { PLAIN("F8_E5M2", 1, 1, -1, -1, apr_float8_init), .ncode = BYTES },
    [APR_F8_E4M3FNUZ] = { PLAIN("F8_E4M3FNUZ", 1, 1, -1, -1, apr_float8_init), .ncode = BYTES },
    [APR_F8_E5M2FNUZ] = { PLAIN("F8_E5M2FNUZ", 1, 1, -1, -1, apr_float8_init), .ncode = BYTES },
    [APR_F8_E8M0]     = { PLAIN("F8_E8M0", 1, 1, -1, -1, apr_float8_init), .ncode = BYTES },
    [APR_F6_E2M3]     = { PLAIN("F6_E2M3", 4, 3, -1, -1, apr_float8_init) },
    [APR_F6_E3M2]     = { PLAIN("F6_E3M2", 4, 3, -1, -1, apr_float8_init) },
    [APR_F4]          = { PLAIN("F4", 2, 1, -1, -1, apr_float8_init) },

    [APR_Q4_0] = { BLOCKS("Q4_0", 32, 18, 2, -1, apr_legacy_init), .field = { F16("d", 0), U8("qs", 2, 16) } },
    [APR_Q4_1] = { BLOCKS("Q4_1", 32, 20, 3, -1, apr_legacy_init), .field = { F16("d", 0), F16("m", 2), U8("qs", 4, 16) } },
    [APR_Q5_0] = { BLOCKS("Q5_0", 32, 22, 6, -1, apr_legacy_init), .field = { F16("d", 0), U32("qh", 2, 1), U8("qs", 6, 16) } },
    [APR_Q5_1] = { BLOCKS("Q5_1", 32, 24, 7, -1, apr_legacy_init), .field = { F16("d", 0), F16("m", 2), U32("qh", 4, 1), U8("qs", 8, 16) } },
    [APR_Q8_0] = { BLOCKS("Q8_0", 32, 34, 8, -1, apr_legacy_init), .field = { F16("d", 0), I8("qs", 2, 32) } },
    [APR_Q8_1] = { BLOCKS("Q8_1", 32, 36, 9, -1, apr_legacy_init), .field = { F16("d", 0), F16("s", 2), I8("qs", 4, 32) } },

    [APR_Q2_K] = { BLOCKS("Q2_K", 256, 84, 10, -1, apr_k_init),
                   .field = { U8("scales", 0, 16), U8("qs", 16, 64), F16("d", 80), F16("dmin", 82) } },
    [APR_Q3_K] = { BLOCKS("Q3_K", 256, 110, 11, -1, apr_k_init),
                   .field = { U8("hmask", 0, 32), U8("qs", 32, 64), U8("scales", 96, 12), F16("d", 108) } },
    [APR_Q4_K] = { BLOCKS("Q4_K", 256, 144, 12, 12, apr_k_init),
                   .field = { F16("d", 0), F16("dmin", 2), U8("scales", 4, 12), U8("qs", 16, 128) } },
    [APR_Q5_K] = { BLOCKS("Q5_K", 256, 176, 13, -1, apr_k_init),
                   .field = { F16("d", 0), F16("dmin", 2), U8("scales", 4, 12), U8("qh", 16, 32), U8("qs", 48, 128) } },
    [APR_Q6_K] = { BLOCKS("Q6_K", 256, 210, 14, 14, apr_k_init),
                   .field = { U8("ql", 0, 128), U8("qh", 128, 64), I8("scales", 192, 16), F16("d", 208) } },
    [APR_Q8_K] = { BLOCKS("Q8_K", 256, 292, 15, -1, apr_k_init), .field = { F32("d", 0), I8("qs", 4, 256), I16("bsums", 260, 16) } },

    [APR_IQ1_S]   = { BLOCKS("IQ1_S", 256, 50, 19, -1, apr_iq_init), .field = { F16("d", 0), U8("qs", 2, 32), U16("qh", 34, 8) } },
    [APR_IQ1_M]   = { BLOCKS("IQ1_M", 256, 56, 29, -1, apr_iq_init), .field = { U8("qs", 0, 32), U8("qh", 32, 16), U16("scales", 48, 4) } },
    [APR_IQ2_XXS] = { BLOCKS("IQ2_XXS", 256, 66, 16, -1, apr_iq_init), .field = { F16("d", 0), U16("qs", 2, 32) } },
    [APR_IQ2_XS]  = { BLOCKS("IQ2_XS", 256, 74, 17, -1, apr_iq_init), .field = { F16("d", 0), U16("qs", 2, 32), U8("scales", 66, 8) } },
    [APR_IQ2_S]   = { BLOCKS("IQ2_S", 256, 82, 22, -1, apr_iq_init),
                      .field = { F16("d", 0), U8("qs", 2, 32), U8("signs", 34, 32), U8("qh", 66, 8), U8("scales", 74, 8) } },
    [APR_IQ3_XXS] = { BLOCKS("IQ3_XXS", 256, 98, 18, -1, apr_iq_init),
                      .field = { F16("d", 0), U8("qs", 2, 64), U32("scales_and_signs", 66, 8) } },
    [APR_IQ3_S]   = { BLOCKS("IQ3_S", 256, 110, 21, -1, apr_iq_init),
                      .field = { F16("d", 0), U8("qs", 2, 64), U8("qh", 66, 8), U8("signs", 74, 32), U8("scales", 106, 4) } },
    [APR_IQ4_NL]  = { BLOCKS("IQ4_NL", 32, 18, 20, -1, apr_levels4_init), .field = { F16("d", 0), U8("qs", 2, 16) } },
    [APR_IQ4_XS]  = { BLOCKS("IQ4_XS", 256, 136, 23, -1, apr_levels4_init),
                      .field = { F16("d", 0), U16("scales_h", 2, 1), U8("scales_l", 4, 4), U8("qs", 8, 128) } },
    [APR_TQ1_0]   = { BLOCKS("TQ1_0", 256, 54, 34, -1, apr_ternary_init), .field = { U8("qs", 0, 48), U8("qh", 48, 4), F16("d", 52) } },
    [APR_TQ2_0]   = { BLOCKS("TQ2_0", 256, 66, 35, -1, apr_ternary_init), .field = { U8("qs", 0, 64), F16("d", 64) } },
    [APR_MXFP4]   = { BLOCKS("MXFP4", 32, 17, 39, -1, apr_levels4_init), .field = { U8("e", 0, 1), U8("qs", 1, 16) } },
    [APR_NVFP4]   = { BLOCKS("NVFP4", 64, 36, 40, -1, apr_levels4_init), .field = { U8("d", 0, 4), U8("qs", 4, 32) } },
    [APR_Q1_0]    = { BLOCKS("Q1_0", 128, 18, 41, -1, apr_ternary_init), .field = { F16("d", 0), U8("qs", 2, 16) } },
    [APR_Q2_0]    = { BLOCKS("Q2_0", 64, 18, 42, -1, apr_ternary_init), .field = { F16("d", 0), U8("qs", 2, 16) } },

    [APR_APR_Q4] = { BLOCKS("APR_Q4", 32, 18, -1, 128, apr_apr_init), .flat = true, .field = { F16("scale", 0), U8("qs", 2, 16) } },
    [APR_APR_Q8] = { BLOCKS("APR_Q8", 1, 1, -1, 129, apr_apr_init), .flat = true, .head = 4, .ncode = BYTES, .field = { I8("q", 0, 1) } },

    [APR_FP8_TENSOR]   = DECODED("FP8_TENSOR"),
    [APR_FP8_CHANNEL]  = DECODED("FP8_CHANNEL"),
    [APR_FP8_GROUP]    = DECODED("FP8_GROUP"),
    [APR_FP8_BLOCK]    = DECODED("FP8_BLOCK"),
    [APR_INT8_TENSOR]  = DECODED("INT8_TENSOR"),
    [APR_INT8_CHANNEL] = DECODED("INT8_CHANNEL"),
    [APR_INT8_GROUP]   = DECODED("INT8_GROUP"),
    [APR_INT8_BLOCK]   = DECODED("INT8_BLOCK"),
    [APR_BNB_INT8]     = PACKED("BNB_INT8"),
    [APR_NF4]          = PACKED("NF4"),
    [APR_FP4]          = PACKED("FP4"),
    [APR_GPTQ2]        = DECODED("GPTQ2"),
    [APR_GPTQ3]        = DECODED("GPTQ3"),
    [APR_GPTQ4]        = DECODED("GPTQ4"),
    [APR_GPTQ8]        = DECODED("GPTQ8"),
    [APR_AWQ4]         = PACKED("AWQ4"),
    [APR_CT_INT2]      = DECODED("CT_INT2"),
    [APR_CT_INT3]      = DECODED("CT_INT3"),
    [APR_CT_INT4]      = DECODED("CT_INT4"),
    [APR_CT_INT5]      = DECODED("CT_INT5"),
    [APR_CT_INT6]      = DECODED("CT_INT6"),
    [APR_CT_INT7]      = DECODED("CT_INT7"),
    [APR_CT_INT8]      = DECODED("CT_INT8"),
    [APR_MLX2]         = PACKED("MLX2"),
    [APR_MLX3]         = PACKED("MLX3"),
    [APR_MLX4]         = PACKED("MLX4"),
    [APR_MLX5]         = PACKED("MLX5"),
    [APR_MLX6]         = PACKED("MLX6"),
    [APR_MLX8]         = PACKED("MLX8"),
};

const struct apr_dtype *apr_dtype_of_ggml(uint32_t id)
{
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (apr_dtypes[i].ggml >= 0 && (uint32_t)apr_dtypes[i].ggml == id)
            return &apr_dtypes[i];
    return NULL;
}

const char *apr_ggml_file_type(uint64_t value)
{
    static const char *const word[] = {
        "F32", "F16", "Q4_0", "Q4_1", "Q4_1_SOME_F16", "Q4_2", "Q4_3", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S",
        "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S",
        "IQ2_M", "IQ4_XS", "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "MXFP4_MOE", "NVFP4", "Q1_0", "Q2_0",
    };
    value &= ~UINT64_C(1024);
    return value < APR_LENGTH(word) ? word[value] : NULL;
}

const char *apr_ggml_removed(uint32_t id)
{
    static const struct {
        uint32_t    id;
        const char *name;
    } removed[] = {
        { 4, "Q4_2" },        { 5, "Q4_3" },         { 31, "Q4_0_4_4" },   { 32, "Q4_0_4_8" },
        { 33, "Q4_0_8_8" },   { 36, "IQ4_NL_4_4" },  { 37, "IQ4_NL_4_8" }, { 38, "IQ4_NL_8_8" },
    };
    for (size_t i = 0; i < APR_LENGTH(removed); i++)
        if (removed[i].id == id)
            return removed[i].name;
    return NULL;
}

const struct apr_dtype *apr_dtype_of_safetensors(struct apr_bytes name)
{
    for (size_t i = 0; i < APR_NDTYPES; i++) {
        const char *known = apr_dtypes[i].safetensors;
        if (known && strlen(known) == name.n && memcmp(known, name.at, name.n) == 0)
            return &apr_dtypes[i];
    }
    return NULL;
}

unsigned apr_field_width(enum apr_field_kind kind)
{
    switch (kind) {
    case APR_FIELD_U8:
    case APR_FIELD_I8: return 1;
    case APR_FIELD_U16:
    case APR_FIELD_I16:
    case APR_FIELD_F16: return 2;
    case APR_FIELD_U32:
    case APR_FIELD_F32: return 4;
    }
    return 0;
}

float apr_largest_held(const struct apr_dtype *d)
{
    return !apr_is_quantized(d) ? FLT_MAX : d == &apr_dtypes[APR_NVFP4] ? 2688 : d->block == 256 ? 0x1p28f : FLT_MAX;
}
