/* apr-convert and packed weights: carried as they are, undone by --type, rearranged into blocks where a GGUF has such, or refused by
 * name. */
#include "diff.h"

#include <unistd.h>

#define APR_CONVERT "apr-convert"

static void expect_done(struct test_answer a)
{
    if (a.exit != 0)
        fail_msg("exit %d: %s", a.exit, (const char *)a.err.at);
    test_answer_free(&a);
}

static void expect_equal(const char *a, const char *b, const char *option)
{
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", a, b, option, NULL), 0);
    expect_text(b, r, "results.0.status", "Identical");
    assert_int_equal(json_array_size(json_object_get(r, "only_in_a")) + json_array_size(json_object_get(r, "only_in_b")), 0);
    json_decref(r);
}

/* The config.json of a folder. */
static void expect_config(const char *folder, const char *want)
{
    char name[256];
    snprintf(name, sizeof name, "%s/config.json", folder);
    struct test_bytes text = test_load(test_path(name));
    if (strlen(want) != text.n || memcmp(text.at, want, text.n) != 0)
        fail_msg("%s has %.*s, not %s", name, (int)text.n, (const char *)text.at, want);
    test_free(&text);
}

static const float half = .5f;
static const struct test_tensor fp8[] = { { "m.weight", "F8_E4M3", "[2,2]", "\x38\x40\x44\xC8", 4 },
                                          { "m.weight_scale_inv", "F32", "[1,1]", &half, 4 } };
#define FP8_CONFIG "{\"a\": 1e-06, \"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}, \"b\": [2]}"

static void codes_are_carried_or_undone_by_a_type(void **state)
{
    (void)state;
    static const float values[] = { .5f, 1, 1.5f, -2 };
    const char *const truth = test_safetensors("truth.safetensors", &(struct test_tensor){ "m.weight", "F32", "[2,2]", values, 16 }, 1);
    const char *const source = test_checkpoint("fp8", FP8_CONFIG, fp8, 2);
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--to=safetensors", test_path("carried/"), NULL));
    expect_equal(source, test_path("carried"), "--raw-codes");
    expect_config("carried", FP8_CONFIG);
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--to=safetensors", "--type=bf16", test_path("undone/"), NULL));
    expect_equal(truth, test_path("undone"), NULL);
    expect_config("undone", "{\"a\": 1e-06, \"b\": [2]}");
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--keep-names", "--type=f32", test_path("undone.gguf"), NULL));
    expect_equal(truth, test_path("undone.gguf"), NULL);
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--type=f16", test_path("undone.apr"), NULL));
    expect_equal(truth, test_path("undone.apr"), NULL);
}

/* NVFP4 of one row: two codes a byte, the first lower; scales of 1 and 2; the block's halves of a group lie in the nibbles of its bytes. */
static void nvfp4_becomes_blocks_and_a_factor(void **state)
{
    (void)state;
    static const float factor = .25f, input = 3;
    static unsigned char codes[32], blocks[36] = { 0x38, 0x40, 0x38, 0x40 };
    for (unsigned i = 0; i < 32; i++)
        codes[i] = (unsigned char)(i * 37 + 11);
    for (unsigned i = 0; i < 64; i++) {
        const unsigned code = codes[i / 2] >> i % 2 * 4 & 15, byte = 4 + i / 16 * 8 + i % 8;
        blocks[byte] = (unsigned char)(blocks[byte] | code << i % 16 / 8 * 4);
    }
    const struct test_tensor t[] = { { "m.weight", "U8", "[1,32]", codes, 32 },
                                     { "m.weight_scale", "F8_E4M3", "[1,4]", "\x38\x40\x38\x40", 4 },
                                     { "m.weight_scale_2", "F32", "[]", &factor, 4 }, { "m.input_scale", "F32", "[]", &input, 4 } };
    const char *const source = test_checkpoint("nvfp4", "{\"quantization_config\": {\"quant_algo\": \"NVFP4\"}}", t, 4);
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--keep-names", "--type=auto", test_path("nvfp4.gguf"), NULL));
    expect_equal(source, test_path("nvfp4.gguf"), NULL);
    expect_done(test_tool(APR_CONVERT, "--quiet", test_path("nvfp4.gguf"), "--type=f32", test_path("values.gguf"), NULL));
    expect_equal(source, test_path("values.gguf"), NULL);
    struct test_bytes file = test_load(test_path("nvfp4.gguf"));
    if (memmem(file.at, file.n, blocks, sizeof blocks) == NULL)
        fail_msg("the blocks are others");
    assert_non_null(memmem(file.at, file.n, "m.input_scale", 13));
    test_free(&file);
}

/* GPTQ of 4 bits whose zeros are stored as they are, which config.json alone tells: eight rows of eight columns, one group. */
static void what_a_config_says_of_codes_goes_along_with_them(void **state)
{
    (void)state;
    static const uint32_t codes[8] = { 0x76543210, 0x89abcdef, 0x11111111, 0x22222222, 0x33333333, 0xffffffff, 0, 0x88888888 };
    static const uint32_t zeros = 0x88887654;
    static const float scales[8] = { 1, 2, .5f, 1, 1, 1, .25f, 3 };
    static const struct test_tensor t[] = { { "m.qweight", "I32", "[1,8]", codes, 32 }, { "m.qzeros", "I32", "[1,1]", &zeros, 4 },
                                            { "m.scales", "F32", "[1,8]", scales, 32 } };
    static const char *const copy[] = { "v2.safetensors", "v2.apr", "v2.gguf" };
    float values[64];
    for (unsigned i = 0; i < 64; i++)
        values[i] = (float)((int)(codes[i / 8] >> i % 8 * 4 & 15) - (int)(zeros >> i / 8 * 4 & 15)) * scales[i / 8];
    const char *const truth = test_safetensors("v2-truth.safetensors", &(struct test_tensor){ "m.weight", "F32", "[8,8]", values, 256 }, 1);
    const char *const source = test_checkpoint("v2", "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, "
                                                "\"group_size\": 8, \"checkpoint_format\": \"gptq_v2\"}}", t, 3);
    expect_equal(truth, source, NULL);
    for (size_t i = 0; i < APR_LENGTH(copy); i++) {
        expect_done(test_tool(APR_CONVERT, "--quiet", "--keep-names", source, test_path(copy[i]), NULL));
        expect_equal(truth, test_path(copy[i]), NULL);
    }
    expect_done(test_tool(APR_CONVERT, "--quiet", test_path("v2.safetensors"), "--type=f32", test_path("v2-undone.safetensors"), NULL));
    expect_exit(test_tool("apr-inspect", test_path("v2-undone.safetensors"), "--get=quantization_config", NULL), 1, "");
    expect_done(test_tool(APR_CONVERT, "--quiet", test_path("v2.safetensors"), "--to=safetensors", test_path("v2-again/"), NULL));
    expect_equal(truth, test_path("v2-again"), NULL);
    struct test_tensor alone[3] = { t[0], t[1], t[2] };
    const char *const bare = test_safetensors("v2-bare.safetensors", alone, 3);
    expect_exit(test_tool(APR_CONVERT, bare, "--keep-names", "--type=f32", test_path("v2-bare.gguf"), NULL), 2, "gptq_v2");
}

static void files_that_tell_of_packing_go_along(void **state)
{
    (void)state;
    const char *const source = test_checkpoint("modelopt", "{\"quantization_config\": {\"quant_algo\": \"FP8\"}}", fp8, 2);
    test_file("modelopt/hf_quant_config.json", "{}", 2);
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--to=safetensors", test_path("modelopt-again/"), NULL));
    struct test_bytes text = test_load(test_path("modelopt-again/hf_quant_config.json"));
    assert_int_equal(text.n, 2);
    test_free(&text);
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--to=safetensors", "--type=f32", test_path("modelopt-undone/"), NULL));
    assert_int_not_equal(access(test_path("modelopt-undone/hf_quant_config.json"), F_OK), 0);
}

static const uint32_t gptq_codes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, gptq_zero = 0x77777777;
static const float gptq_scales[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, plain_values[64] = { 1 };
static const struct test_tensor gptq[] = { { "m.qweight", "I32", "[1,8]", gptq_codes, 32 }, { "m.qzeros", "I32", "[1,1]", &gptq_zero, 4 },
                                           { "m.scales", "F32", "[1,8]", gptq_scales, 32 },
                                           { "n.weight", "F32", "[8,8]", plain_values, 256 } };
#define GPTQ_CONFIG "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 8}}"

static void names_of_what_is_carried_are_those_that_are_stored(void **state)
{
    (void)state;
    const char *const source = test_checkpoint("gptq", GPTQ_CONFIG, gptq, 4), *const out = test_path("gptq-out/");
    expect_exit(test_tool(APR_CONVERT, source, out, "--drop=m.weight", NULL), 2, "names of codes and scales: --type");
    expect_exit(test_tool(APR_CONVERT, source, out, "--rename=m.weight=x", NULL), 2, "names of codes and scales: --type");
    expect_exit(test_tool(APR_CONVERT, source, out, "--drop=m.scales", NULL), 2, "\"m.qweight\"");
    expect_exit(test_tool(APR_CONVERT, source, out, "--rename=m.scales=x", NULL), 2, "\"m.qweight\"");
    expect_done(test_tool(APR_CONVERT, "--quiet", source, test_path("gptq-less/"), "--drop=m.*", NULL));
    expect_done(test_tool(APR_CONVERT, "--quiet", source, test_path("gptq-moved/"), "--rename=m.scales=x.scales",
                          "--rename=m.qweight=x.qweight", "--rename=m.qzeros=x.qzeros", NULL));
    const struct test_tensor plain = { "m.weight", "F32", "[8,8]", plain_values, 256 };
    char graft[256];
    snprintf(graft, sizeof graft, "--graft=%s:m.*", source);
    const char *const whole = test_safetensors("plain.safetensors", &plain, 1);
    expect_exit(test_tool(APR_CONVERT, whole, "--keep-names", test_path("grafted.safetensors"), graft, NULL), 2, "--type");
    const struct test_tensor mlx[] = { { "m.weight", "U32", "[8,4]", plain_values, 128 }, { "m.scales", "F16", "[8,1]", plain_values, 16 },
                                       { "m.biases", "F16", "[8,1]", plain_values, 16 } };
    const char *const words = test_checkpoint("mlx", "{\"quantization\": {\"bits\": 4, \"group_size\": 32}}", mlx, 3);
    expect_exit(test_tool(APR_CONVERT, words, test_path("mlx.apr"), NULL), 2, "MLX under the names of codes and scales: --type");
}

static void codes_are_quantized_again_only_when_that_is_allowed(void **state)
{
    (void)state;
    static const uint32_t codes[32] = { 1 };
    static const uint32_t zeros = 0x77777777;
    const struct test_tensor t[] = { { "m.qweight", "I32", "[4,8]", codes, 128 }, { "m.qzeros", "I32", "[1,1]", &zeros, 4 },
                                     { "m.scales", "F32", "[1,8]", gptq_scales, 32 } };
    const char *const config = "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32}}";
    const char *const source = test_checkpoint("again", config, t, 3);
    expect_exit(test_tool(APR_CONVERT, source, "--keep-names", "--type=q4_0", test_path("again.gguf"), NULL), 2, "--allow-requantize");
    expect_done(test_tool(APR_CONVERT, "-q", source, "--keep-names", "--type=q4_0", "--allow-requantize", test_path("again.gguf"), NULL));
}

static void a_rule_for_one_says_nothing_of_the_codes_of_others(void **state)
{
    (void)state;
    const char *const source = test_checkpoint("ruled", GPTQ_CONFIG, gptq, 4);
    const char *const rule = "--tensor-type=n.weight=bf16", *const out = test_path("ruled-out/");
    expect_exit(test_tool(APR_CONVERT, source, "--keep-names", rule, out, NULL), 2, "no rule is for it: --type");
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--keep-names", rule, "--type=f32", out, NULL));
}

static void what_is_not_understood_is_carried_alone(void **state)
{
    (void)state;
    static const struct test_tensor odd[] = { { "m.W_q", "U8", "[2,2]", "abcd", 4 } };
    const char *const source = test_checkpoint("hqq", "{\"quantization_config\": {\"quant_method\": \"hqq\"}}", odd, 1);
    expect_exit(test_tool(APR_CONVERT, source, "--keep-names", "--type=f32", test_path("hqq.gguf"), NULL), 2, "\"hqq\"");
    expect_done(test_tool(APR_CONVERT, "--quiet", source, "--to=safetensors", test_path("hqq-again/"), NULL));
    expect_equal(source, test_path("hqq-again"), NULL);
    struct test_tensor bad[2] = { fp8[0], fp8[1] };
    bad[1].shape = "[1,1,1]";
    bad[0].shape = "[4,1]";
    const char *const config = "{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [2, 2]}}";
    const char *const misfit = test_checkpoint("bad", config, bad, 2);
    expect_exit(test_tool(APR_CONVERT, misfit, "--keep-names", "--type=f32", test_path("bad.gguf"), NULL), 2,
                "\"m.weight_scale_inv\"");
}

/* Rows of 32 codes, all of one value a row, in two experts of two rows: 16 bytes of codes and an exponent each. */
static void a_type_is_that_of_expert_stacks_too(void **state)
{
    (void)state;
    static unsigned char codes[4 * 16];
    static const unsigned char scales[4] = { 127, 128, 126, 127 }, norm[64] = { 0x80, 0x3F }; /* 1, 2, 1/2, 1; BF16 of 1, 0, ... */
    static const float row[4] = { 1, 3, -.25f, 2 };                                           /* codes 2 3 9 4: 1, 1.5, -0.5, 2 */
    static float turned[2 * 32 * 2];
    for (unsigned i = 0; i < sizeof codes; i++)
        codes[i] = (unsigned char)("\x22\x33\x99\x44"[i / 16]);
    for (unsigned i = 0; i < 128; i++)
        turned[i] = row[i / 64 * 2 + i % 2];
    const struct test_tensor t[] = { { "layers.0.experts.down_proj_blocks", "U8", "[2,2,1,16]", codes, 64 },
                                     { "layers.0.experts.down_proj_scales", "U8", "[2,2,1]", scales, 4 },
                                     { "layers.0.norm.weight", "BF16", "[32]", norm, 64 } };
    const struct test_tensor want[] = { { "layers.0.experts.down_proj", "F32", "[2,32,2]", turned, sizeof turned }, t[2] };
    const char *const source = test_checkpoint("mxfp4", "{\"quantization_config\": {\"quant_method\": \"mxfp4\"}}", t, 3);
    const char *const truth = test_safetensors("stack.safetensors", want, 2);
    static const char *const type[] = { "--type=bf16", "--type=f16" }, *const dtype[] = { "BF16", "F16" };
    for (unsigned i = 0; i < 2; i++) {
        const char *const out = test_path(i == 0 ? "stack-bf16" : "stack-f16");
        json_t *const r = report_of(test_tool(APR_CONVERT, "--json", source, "--to=safetensors", type[i], out, NULL), 0);
        expect_text(type[i], r, "tensors.0.dtype_to", dtype[i]);
        expect_text(type[i], r, "tensors.0.transform", "transpose");
        expect_text(type[i], r, "tensors.1.dtype_to", dtype[i]);
        json_decref(r);
        expect_equal(truth, out, NULL);
        expect_equal(source, out, NULL); /* one side has codes, the other values */
        expect_equal(out, source, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_are_carried_or_undone_by_a_type),
        cmocka_unit_test(nvfp4_becomes_blocks_and_a_factor),
        cmocka_unit_test(what_a_config_says_of_codes_goes_along_with_them),
        cmocka_unit_test(files_that_tell_of_packing_go_along),
        cmocka_unit_test(names_of_what_is_carried_are_those_that_are_stored),
        cmocka_unit_test(codes_are_quantized_again_only_when_that_is_allowed),
        cmocka_unit_test(a_rule_for_one_says_nothing_of_the_codes_of_others),
        cmocka_unit_test(what_is_not_understood_is_carried_alone),
        cmocka_unit_test(a_type_is_that_of_expert_stacks_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
