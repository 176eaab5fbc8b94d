/* apr-convert --quantize, option by option: rules, importance that does not fit, keys, and what the report says. */
#include "quantize.h"

/* ---- rules ---------------------------------------------------------------------------------------------------------- */

/* A recipe of these rules, as an option. */
static const char *recipe(const char *rules)
{
    static char option[300];
    snprintf(option, sizeof option, "--recipe=%s", text_file("rules.yaml", rules));
    return option;
}

/* What blk.0's attn_q, attn_k, ffn_down, ffn_up and attn_output become. */
static void the_first_rule_that_matches_decides(void **state)
{
    (void)state;
    static const char *const name[] = { "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_down.weight", "blk.0.ffn_up.weight",
                                        "blk.0.attn_output.weight" };
    static const struct { const char *a, *b, *rules, *dtype[5]; } rows[] = {
        { "--tensor-type=attn_q=q8_0", NULL, NULL, { "Q8_0", "F16", "F16", "F16", "F16" } },
        { "--tensor-type=attn_q=q8_0", "--tensor-type=attn=q5_0", NULL, { "Q8_0", "Q5_0", "F16", "F16", "Q5_0" } },
        { "--tensor-type=attn=q5_0", "--tensor-type=attn_q=q8_0", "[]", { "Q5_0", "Q5_0", "F16", "F16", "Q5_0" } },
        { "--tensor-type=blk.*.ffn_*.weight=Q6_K", NULL, NULL, { "F16", "F16", "Q6_K", "Q6_K", "F16" } },
        { "--tensor-type=re:ffn_(up|gate)=q4_k", NULL, NULL, { "F16", "F16", "F16", "Q4_K", "F16" } },
        { "--tensor-type=attn_q=copy", NULL, "- {match: attn, type: q4_0}\n", { "F16", "Q4_0", "F16", "F16", "Q4_0" } },
        { "--tensor-type=attn_k=bf16", NULL, "- {match: attn_q, type: copy}\n- {match: 're:attn|ffn_down', type: F32}\n",
          { "F16", "BF16", "F32", "F16", "F32" } },
        { "--quantize=Q4_K_M", "--tensor-type=attn_q=copy", NULL, { "F16", "Q4_K", "Q4_K", "Q4_K", "Q5_0" } },
        { "--quantize=Q4_K_M", "--tensor-type=ffn_down=q8_0", "- {match: ffn, type: q5_k}\n", { "Q4_K", "Q4_K", "Q8_0", "Q5_K", "Q5_0" } },
        { "--type=q8_0", "--tensor-type=ffn_down=q4_k", NULL, { "Q8_0", "Q8_0", "Q4_K", "Q8_0", "Q8_0" } },
        { "--target-bpw=12", "--tensor-type=attn_k=q2_k", "- {match: ffn_up, type: copy}\n", { NULL, "Q2_K", NULL, "F16", NULL } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        json_t *const r = REPORTED(WIDE, "ruled.gguf", "--force", rows[i].a, rows[i].rules == NULL ? "--quiet" : recipe(rows[i].rules),
                                   rows[i].b);
        for (size_t k = 0; k < APR_LENGTH(name); k++)
            if (rows[i].dtype[k] != NULL)
                expect_text(rows[i].a, row_of(r, name[k]), "dtype_to", rows[i].dtype[k]);
        json_decref(r);
    }
}

/* A rule for a matrix matches its bias as well, which no preset and no rule makes blocks of. */
static void vectors_become_no_blocks(void **state)
{
    (void)state;
    static const char *const option[] = { "--tensor-type=attn_q=q8_0", "--tensor-type=blk.*=q8_0" };
    for (size_t i = 0; i < APR_LENGTH(option); i++)
        for (unsigned k = 0; k < 2; k++) {
            json_t *const r = REPORTED("fixtures/qwen2", "vectors.gguf", "--force", option[i], k == 0 ? NULL : "--quantize=Q4_0");
            expect_text(option[i], row_of(r, "blk.1.attn_q.weight"), "dtype_to", "Q8_0");
            expect_text(option[i], row_of(r, "blk.1.attn_q.bias"), "dtype_to", "F32");
            json_decref(r);
        }
}

static void what_is_said_of_an_output_is_said_of_a_tied_embedding(void **state)
{
    (void)state;
    static const struct { const char *how, *more, *dtype; } rows[] = {
        { "--quantize=Q4_K_M", NULL, "Q5_1" }, { "--target-bpw=9", NULL, "Q5_1" },
        { "--quantize=Q4_K_M", "--token-embedding-type=q5_0", "Q5_0" }, { "--target-bpw=9", "--token-embedding-type=q5_0", "Q5_0" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        json_t *const r = REPORTED(WIDE, "tied.gguf", "--force", "--drop=re:^output\\.weight$", rows[i].how, "--output-tensor-type=q5_1",
                                   rows[i].more);
        expect_text(rows[i].how, row_of(r, "token_embd.weight"), "dtype_to", rows[i].dtype);
        json_decref(r);
    }
}

static void a_rule_that_decides_nothing_is_refused(void **state)
{
    (void)state;
    text_file("idle/x", "");
    const char *const out = test_path("idle/m.gguf");
    REFUSED("idle", (WIDE, out, "--tensor-type=attn_z=q8_0"), "--tensor-type", "\"attn_z\"");
    REFUSED("idle", (WIDE, out, "--tensor-type=attn=q8_0", "--quantize=Q4_0", "--tensor-type=attn_z=q8_0"), "\"attn_z\"");
    REFUSED("idle", (WIDE, out, recipe("- {match: attn_q, type: q8_0}\n- {match: attn_z, type: q8_0}\n")), "rules.yaml", "line 2", "\"attn_z\"");
    REFUSED("idle", (WIDE, out, "--quantize=Q4_0", "--tensor-type=attn_norm=q8_0"), "\"attn_norm\"", "--pure");
    REFUSED("idle", (WIDE, out, "--quantize=Q4_0", "--pure", "--tensor-type=attn_norm=q8_0"), "\"attn_norm\"", "--type with --pure");
    REFUSED("idle", (WIDE, out, "--quantize=F16", "--tensor-type=attn_q=q8_0"), "F16 knows no rules", "--type F16");
    REFUSED("idle", (WIDE, out, "--quantize=bf16", recipe("- {match: attn_q, type: q8_0}\n")), "BF16 knows no rules");
}

static void what_is_no_rule_type_or_preset_is_refused_with_the_nearest(void **state)
{
    (void)state;
    const char *const out = test_path("unknown/m.gguf");
    text_file("unknown/x", "");
    REFUSED("unknown", (WIDE, out, "--tensor-type=attn_q=q4_kk"), "\"q4_kk\"", "did you mean \"q4_k\"");
    REFUSED("unknown", (WIDE, out, "--tensor-type=attn_q"), "PATTERN=TYPE");
    REFUSED("unknown", (WIDE, out, "--tensor-type==q4_k"), "empty");
    REFUSED("unknown", (WIDE, out, recipe("- {match: attn_q, type: iq3_xss}\n")), "rules.yaml", "line 1, column 25",
            "did you mean \"iq3_xxs\"");
    REFUSED("unknown", (WIDE, out, recipe("\n- {match: attn_q, typ: q4_k}\n")), "rules.yaml", "line 2", "\"typ\"");
    REFUSED("unknown", (WIDE, out, "--recipe=nowhere.yaml"), "nowhere.yaml");
    REFUSED("unknown", (WIDE, out, "--quantize=Q4_KM"), "\"Q4_KM\"", "did you mean Q4_K_M?");
    REFUSED("unknown", (WIDE, out, "--quantize=q4km"), "did you mean Q4_K_M?");
    REFUSED("unknown", (WIDE, out, "--dequantize"), "unknown option --dequantize (did you mean --type?)");
    REFUSED("unknown", (WIDE, out, "--quantize=IQ3_XSS"), "did you mean IQ3_");
    REFUSED("unknown", (WIDE, out, "--quantize=Q4_K_M", "--type=q8_0"), "--type", "--quantize");
    REFUSED("unknown", (WIDE, out, "--quantize=Q4_K_M", "--output-tensor-type=q9"), "--output-tensor-type", "\"q9\"", "Q8_0");
    REFUSED("unknown", (WIDE, out, "--quantize=Q4_K_M", "--token-embedding-type=q9"), "--token-embedding-type", "\"q9\"");
    REFUSED("unknown", (WIDE, out, "--leave-output"), "--leave-output", "--quantize");
    REFUSED("unknown", (WIDE, out, "--output-tensor-type=q8_0"), "--output-tensor-type", "--quantize");
    REFUSED("unknown", (WIDE, out, "--nan-to-zero"), "--nan-to-zero", "--quantize");
    REFUSED("unknown", (WIDE, out, "--allow-requantize"), "--allow-requantize", "--quantize");
    REFUSED("unknown", ("fixtures/qwen2", out, "--tensor-type=attn_v.weight=q4_k"), "blk.0.attn_v.weight", "Q4_K", "whole blocks");
    REFUSED("unknown", ("fixtures/qwen2-bf16.gguf", out, "--quantize=Q4_K_M", "--output-tensor-type=q4_k"), "output.weight", "Q4_K");
}

/* ---- importance ----------------------------------------------------------------------------------------------------- */

static void a_preset_that_takes_importance_is_refused_without(void **state)
{
    (void)state;
    static const char *const preset[] = { "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "Q2_K_S" };
    char imatrix[300];
    imatrix_of("one.dat", &(struct importance){ "blk.0.attn_k.weight", 256, 1 }, 1, imatrix);
    text_file("without/x", "");
    for (size_t i = 0; i < APR_LENGTH(preset); i++) {
        REFUSED("without", (WIDE, test_path("without/m.gguf"), "--quantize", preset[i]), "\"blk.0.attn_k.weight\"", "imatrix");
        REFUSED("without", (WIDE, test_path("without/m.gguf"), "--quantize", preset[i], imatrix), "imatrix has no entry");
    }
    REFUSED("without", (WIDE, test_path("without/m.gguf"), "--type=iq2_xs"), "IQ2_XS", "importance matrix");
    REFUSED("without", (WIDE, test_path("without/m.gguf"), "--tensor-type=attn_q=iq1_s"), "\"blk.0.attn_q.weight\"", "IQ1_S", "--imatrix");
}

static void importance_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const struct { struct importance x; const char *says; } rows[] = {
        { { "blk.0.attn_q.weight", 255, 1 }, "255" },        { { "blk.0.attn_q.weight", 512, 1 }, "512" },
        { { "blk.1.ffn_down.weight", 256, 1 }, "256" },      { { "blk.0.attn_q.weight", 256, NAN }, "NaN" },
        { { "blk.0.attn_q.weight", 256, INFINITY }, "inf" }, { { "blk.0.attn_q.weight", 256, -0.5f }, "negative" },
    };
    const char *const out = test_path("fit/m.gguf");
    char imatrix[300];
    text_file("fit/x", "");
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        REFUSED("fit", (WIDE, out, "--quantize=Q4_K_M", imatrix_of("unfit.dat", &rows[i].x, 1, imatrix)), "unfit.dat", rows[i].x.name,
                rows[i].says);
    REFUSED("fit", (WIDE, out, "--quantize=Q4_K_M", OWN_IMATRIX), "fixtures/qwen2.imatrix.gguf", "output.weight", "64", "256");
    REFUSED("fit", ("fixtures/qwen2", out, "--quantize=Q4_K_M", WIDE_IMATRIX), "wide.imatrix.gguf", "blk.0.ffn_down.weight", "512", "96");
    REFUSED("fit", (WIDE, out, "--quantize=Q4_K_M", "--imatrix=fixtures/qwen2-q8_0.gguf"), "qwen2-q8_0.gguf", "is a model");
    REFUSED("fit", (WIDE, out, "--quantize=Q4_K_M", "--imatrix=fixtures/presets.txt"), "presets.txt");
    REFUSED("fit", (WIDE, out, "--quantize=Q4_K_M", "--imatrix=nowhere"), "nowhere");
    const struct importance embedding[] = { { "token_embd.weight", 7, 1 }, { "output.weight", 256, 1 } }; /* which is not multiplied */
    REFUSED("fit", (WIDE, out, "--quantize=Q4_K_M", imatrix_of("other.dat", embedding, 1, imatrix)), "none of the 23 tensors");
    imatrix_of("fits.dat", embedding, 2, imatrix);
    json_decref(REPORTED(WIDE, "fits.gguf", "--quantize=Q4_K_M", imatrix));
    json_decref(REPORTED(WIDE, "fits.gguf", "--force", "--tensor-type=token_embd=q4_k", WIDE_IMATRIX)); /* it has none */
}

/* ---- what is quantized already -------------------------------------------------------------------------------------- */

static void what_is_quantized_is_quantized_again_only_when_that_is_allowed(void **state)
{
    (void)state;
    static const char *const option[] = { "--quantize=Q4_0", "--tensor-type=token_embd=q4_0", "--quantize=IQ4_NL",
                                          "--tensor-type=token_embd=q5_1" };
    const char *const out = test_path("requantized/m.gguf");
    text_file("requantized/x", "");
    for (size_t i = 0; i < APR_LENGTH(option); i++) {
        REFUSED("requantized", ("fixtures/qwen2-q8_0.gguf", out, option[i]), "token_embd.weight", "is Q8_0 already", "--allow-requantize");
        json_t *const r = REPORTED("fixtures/qwen2-q8_0.gguf", "requantized.gguf", "--force", option[i], "--allow-requantize");
        expect_text(option[i], row_of(r, "token_embd.weight"), "dtype_from", "Q8_0");
        assert_true(json_number_value(at(row_of(r, "token_embd.weight"), "rmse")) > 0);
        json_decref(r);
    }
    REFUSED("requantized", ("fixtures/qwen2-q8_0.gguf", out, "--target-bpw=5"), "bits per weight");
    json_t *const r = REPORTED("fixtures/qwen2-q8_0.gguf", "kept.gguf", "--quantize=Q8_0", "--leave-output"); /* what it is already */
    expect_text("Q8_0", row_of(r, "token_embd.weight"), "how", "copy");
    json_decref(r);
}

/* ---- keys ----------------------------------------------------------------------------------------------------------- */

/* Behind all others, as llama-quantize has them. */
static void keys_tell_how_it_was_quantized(void **state)
{
    (void)state;
    static const char *const last[] = { "quantize.imatrix.chunks_count", "quantize.imatrix.entries_count", "quantize.imatrix.dataset",
                                        "quantize.imatrix.file", "general.file_type", "general.quantization_version" };
    const char *const out = CONVERTED("fixtures/qwen2", "keys.gguf", "--quantize=q5_k_m", OWN_IMATRIX);
    expect_key(out, "general.file_type", "17");
    expect_key(out, "general.quantization_version", "2");
    expect_key(out, "quantize.imatrix.file", "fixtures/qwen2.imatrix.gguf");
    expect_key(out, "quantize.imatrix.dataset", "first.txt");
    expect_key(out, "quantize.imatrix.entries_count", "17");
    expect_key(out, "quantize.imatrix.chunks_count", "4");
    json_t *const r = report_of(test_tool("apr-inspect", "--json", out, NULL), 0), *const keys = json_object_get(r, "metadata");
    size_t i = json_object_size(keys);
    for (void *x = json_object_iter(keys); x != NULL; x = json_object_iter_next(keys, x))
        if (--i < APR_LENGTH(last))
            assert_string_equal(json_object_iter_key(x), last[i]);
    json_decref(r);
    const char *const without = CONVERTED("fixtures/qwen2", "keys-too.gguf", "--quantize=IQ4_NL");
    expect_key(without, "general.file_type", "25");
    expect_key(without, "quantize.imatrix.file", NULL);
    expect_key(CONVERTED(out, "keys-again.gguf", "--set=general.file_type=u32:3"), "general.file_type", "3");
}

/* As a loader guesses it of what most weights are. */
static void the_file_type_of_rules_is_that_of_most_weights(void **state)
{
    (void)state;
    static const struct { const char *type, *file_type; } rows[] = {
        { "weight=f32", "0" }, { "weight=f16", "1" }, { "weight=bf16", "32" }, { "ffn=q4_0", "2" },    { "ffn=q4_1", "3" },
        { "ffn=q8_0", "7" },   { "ffn=q5_0", "8" },   { "ffn=q5_1", "9" },     { "ffn=q2_k", "10" },   { "ffn=q3_k", "12" },
        { "ffn=q4_k", "15" },  { "ffn=q5_k", "17" },  { "ffn=q6_k", "18" },    { "ffn=iq4_xs", "30" }, { "ffn=iq4_nl", "25" },
        { "ffn=tq1_0", "36" }, { "ffn=tq2_0", "37" }, { "ffn=iq3_s", "26" },   { "attn_k=q4_0", "1" },
    };
    char rule[64];
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        snprintf(rule, sizeof rule, "--tensor-type=%s", rows[i].type);
        expect_key(CONVERTED(WIDE, "typed.gguf", "--force", rule), "general.file_type", rows[i].file_type);
    }
}

/* Whatever the source said of itself. */
static void an_apr_says_what_most_of_it_is_quantized_to(void **state)
{
    (void)state;
    static const struct { const char *in, *option, *type; } rows[] = {
        { "fixtures/qwen2", "--quantize=Q8_0", "q8_0" },     { "fixtures/qwen2.apr", "--quantize=Q8_0", "q8_0" },
        { "fixtures/qwen2.apr", "--target-bpw=9", "q8_0" },  { "fixtures/qwen2.apr", "--tensor-type=weight=q4_0", "q4_0" },
        { "said.apr", "--quantize=Q4_0", "q4_0" },           { "said.apr", "--tensor-type=weight=f16", NULL },
        { "fixtures/qwen2.apr", "--tensor-type=attn_k=q4_0", NULL },
    };
    CONVERTED("fixtures/qwen2.apr", "said.apr", "--type=q8_0");
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const in = strcmp(rows[i].in, "said.apr") == 0 ? test_path(rows[i].in) : rows[i].in;
        expect_key(CONVERTED(in, "says.apr", "--force", rows[i].option, "--allow-requantize"), "quantization.quant_type", rows[i].type);
    }
}

/* ---- the report ----------------------------------------------------------------------------------------------------- */

/* Of every tensor that was rounded what apr-diff finds between the two files; of all, their bytes over their elements. */
static void the_report_says_how_far_each_tensor_is_off(void **state)
{
    (void)state;
    const char *const out = test_path("off.gguf");
    json_t *const r = REPORTED(WIDE, "off.gguf", "--quantize=IQ4_XS", WIDE_IMATRIX);
    json_t *const d = report_of(test_tool(APR_DIFF, "--json", WIDE, out, NULL), 1);
    double bytes = 0;
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(at(d, "results")); i++) {
        const json_t *const found = json_array_get(at(d, "results"), i), *const row = row_of(r, text_of(found, "name"));
        bytes += json_number_value(at(row, "bytes"));
        if (strcmp(text_of(row, "how"), "encode") != 0) {
            assert_null(json_object_get(row, "rmse"));
            continue;
        }
        n++;
        expect_near("rmse", row, "rmse", json_number_value(at(found, "rmse")));
        expect_near("cosine", row, "cosine", json_number_value(at(found, "cosine_similarity")));
        expect_near("max_error", row, "max_error", json_number_value(at(found, "max_diff")));
    }
    assert_int_equal(n, 23);
    expect_near("bits", r, "bits_per_weight", 8 * bytes / 125184);
    expect_text("the report", r, "preset", "IQ4_XS");
    expect_text("the report", r, "verified", "true");
    assert_null(json_object_get(r, "target"));
    assert_null(json_object_get(r, "nan_to_zero"));
    json_decref(d);
    json_decref(r);
    struct test_answer a = test_tool(APR_CONVERT, WIDE, out, "--force", "--quantize=Q8_0", NULL);
    assert_true(test_says(&a.out, "blk.0.attn_k.weight       F16 -> Q8_0   8.50 bits  rmse 0.000"));
    assert_true(test_says(&a.out, "23 rounded (lowest cosine 0.9999") && test_says(&a.out, " bits per weight, 16.23 before; verified\n"));
    test_answer_free(&a);
}

/* Nothing is there after the first, nor left by it. */
static void a_value_that_is_not_finite_stops_a_mix_or_becomes_zero(void **state)
{
    (void)state;
    static float v[2 * 256];
    v[256 + 77] = NAN;
    v[3] = INFINITY;
    static const struct { const char *option; bool imatrix; } rows[] = {
        { "--tensor-type=attn_q=q4_k", false }, { "--tensor-type=attn_q=iq2_xs", true }, { "--tensor-type=attn_q=q8_0", true },
    };
    const struct test_tensor t = { "blk.0.attn_q.weight", "F32", "[2,256]", v, sizeof v };
    const char *const model = test_safetensors("nan.safetensors", &t, 1);
    char imatrix[300];
    imatrix_of("nan.dat", &(struct importance){ "blk.0.attn_q.weight", 256, 1 }, 1, imatrix);
    text_file("finite/x", "");
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const with = rows[i].imatrix ? imatrix : NULL;
        REFUSED("finite", (model, test_path("finite/m.gguf"), "--keep-names", rows[i].option, with), "blk.0.attn_q.weight", "row 0",
                "column 3", "--nan-to-zero");
        json_t *const r = REPORTED(model, "finite.gguf", "--force", "--keep-names", "--nan-to-zero", rows[i].option, with);
        expect_text("the report", r, "nan_to_zero", "2");
        expect_text("the report", r, "tensors.0.nan_to_zero", "2");
        json_decref(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_matches_decides),
        cmocka_unit_test(vectors_become_no_blocks),
        cmocka_unit_test(what_is_said_of_an_output_is_said_of_a_tied_embedding),
        cmocka_unit_test(a_rule_that_decides_nothing_is_refused),
        cmocka_unit_test(what_is_no_rule_type_or_preset_is_refused_with_the_nearest),
        cmocka_unit_test(a_preset_that_takes_importance_is_refused_without),
        cmocka_unit_test(importance_that_does_not_fit_is_refused),
        cmocka_unit_test(what_is_quantized_is_quantized_again_only_when_that_is_allowed),
        cmocka_unit_test(keys_tell_how_it_was_quantized),
        cmocka_unit_test(the_file_type_of_rules_is_that_of_most_weights),
        cmocka_unit_test(an_apr_says_what_most_of_it_is_quantized_to),
        cmocka_unit_test(the_report_says_how_far_each_tensor_is_off),
        cmocka_unit_test(a_value_that_is_not_finite_stops_a_mix_or_becomes_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
