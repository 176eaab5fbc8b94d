/* apr-trace, option by option, and what it refuses: exit 2, with the word that helps, and nothing left. */
#include "trace.h"

#define QWEN2 "fixtures/qwen2"

/* One row: the words behind the model, and what must stand on stderr. */
struct refusal {
    const char *word[6], *says;
};

static void expect_refusals(const char *model, const struct refusal *rows, size_t n)
{
    text_file("refused/keep", "");
    for (size_t i = 0; i < n; i++) {
        const char *const *const w = rows[i].word;
        struct test_answer a = test_tool(APR_TRACE, model, into("refused/t"), w[0], w[1], w[2], w[3], NULL); /* NULL ends them */
        if (a.exit != 2 || !test_says(&a.err, rows[i].says) || strncmp((const char *)a.err.at, "apr-trace: ", 11) != 0)
            fail_msg("%s %s: exit %d, and \"%s\" is to be in: %s", w[0], w[1] == NULL ? "" : w[1], a.exit, rows[i].says,
                     (const char *)a.err.at);
        if (files_in("refused") != 1)
            fail_msg("%s %s: something is left", w[0], w[1] == NULL ? "" : w[1]);
        test_answer_free(&a);
    }
}

/* ---- usage ---------------------------------------------------------------------------------------------------------- */

static void tokens_are_ids_of_the_vocabulary(void **state)
{
    (void)state;
    static const struct refusal rows[] = {
        { { "--tokens=3,96" }, "token \"96\" is past the vocabulary, which ends at 95" },
        { { "--tokens=-1" }, "\"-1\" is no token id" },
        { { "--tokens=3,x7" }, "\"x7\" is no token id" },
        { { "--tokens=9999999999999999999999999999999999999999" }, "99999999" },
        { { "--tokens=" }, "no token ids" },
        { { "--tokens=1,,2" }, "a token id is missing" },
        { { "--tokens=1,2," }, "a token id is missing" },
        { { "--tokens=1,2", "--prompt=the" }, "--tokens does not go with --prompt" },
        { { "--features=1" }, "--tokens, --tokens-file or --prompt" },
        { { NULL }, "needs tokens (--tokens, --tokens-file or --prompt; a classic model takes --features)" },
        { { "--save-tensor=all" }, "--save-tensor needs tokens" },
        { { "--greedy=3" }, "--greedy needs tokens" },
        { { "--tokens-file=nowhere" }, "nowhere" },
        { { "--prompt=the" }, "tokenizer" },
        { { "--no-special", "--tokens=1" }, "--no-special has no effect without --prompt" },
    };
    expect_refusals(QWEN2, rows, APR_LENGTH(rows));
}

static void a_file_of_tokens_is_parted_by_commas_or_white_space(void **state)
{
    (void)state;
    static const char *const texts[] = { "5,17,42,3", "5, 17,\n42 ,3\n", "5 17\t42\r\n3\n\n", "  5\n17\n42\n3" };
    for (size_t i = 0; i < APR_LENGTH(texts); i++) {
        json_t *const r = TRACED(QWEN2, 0, "--tokens-file", text_file("ids", texts[i]));
        expect_text(texts[i], r, "tokens", "[5,17,42,3]");
        json_decref(r);
    }
    static const struct { const char *text, *says; } bad[] = { { "", "no token ids" }, { " \n", "no token ids" },
                                                               { "1 2 x", "ids: at byte 4: \"x\"" },
                                                               { "1,\n,2", "at byte 3: a token id is missing" },
                                                               { "1,2,\n", "at byte 5" } };
    for (size_t i = 0; i < APR_LENGTH(bad); i++)
        expect_exit(test_tool(APR_TRACE, QWEN2, "--tokens-file", text_file("ids", bad[i].text), NULL), 2, bad[i].says);
}

static void stages_layers_and_positions_are_there(void **state)
{
    (void)state;
    static const struct refusal rows[] = {
        { { TOKENS, "--save-tensor=attn_nrom" }, "no stage \"attn_nrom\" (did you mean attn_norm?)" },
        { { TOKENS, "--save-tensor=attn_*" }, "takes names, no patterns: \"attn_*\". There are embedding attn_norm" },
        { { TOKENS, "--save-tensor=zzzzzzzzzzzzz" }, "final_norm lm_head" },
        { { TOKENS, "--save-tensor=attn_norm,,ffn_norm" }, "the name of a stage is missing" },
        { { TOKENS, "--save-tensor=" }, "the name of a stage is missing" },
        { { TOKENS, "--save-tensor=all", "--layer=2" }, "no layer 2: the model has 2" },
        { { TOKENS, "--save-tensor=all", "--save-tensor-layers=0..3" }, "no layer 2" },
        { { TOKENS, "--save-tensor=all", "--save-tensor-layers=1..1" }, "1..1 is empty" },
        { { TOKENS, "--save-tensor=all", "--save-tensor-layers=1" }, "wants A..B" },
        { { TOKENS, "--save-tensor=all", "--positions=5..9" }, "5..9: the input has 4" },
        { { TOKENS, "--save-tensor=all", "--positions=x..9" }, "wants A..B" },
        { { TOKENS, "--save-tensor=all", "--format=csv" }, "csv" },
        { { TOKENS, "--layer=0" }, "--layer has no effect without" },
        { { TOKENS, "--positions=0..1" }, "--positions has no effect without" },
        { { TOKENS, "--save-tensor=all", "--layer=0", "--save-tensor-layers=0..1" }, "--save-tensor-layers does not go with --layer" },
        { { TOKENS, "--save-tensor=moe_router" }, "no stage moe_router" },
    };
    expect_refusals(QWEN2, rows, APR_LENGTH(rows));
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    static const struct refusal rows[] = {
        { { TOKENS, "--compare=nowhere" }, "nowhere" },
        { { TOKENS, "--compare=fixtures/qwen2" }, "fixtures/qwen2" },
        { { TOKENS, "--threshold=0.9" }, "--threshold has no effect without --compare" },
        { { TOKENS, "--stage-map=x" }, "--stage-map has no effect without --compare" },
        { { TOKENS, "--greedy=0" }, "--greedy takes more than 0" },
        { { TOKENS, "--top=0" }, "--top takes more than 0" },
        { { TOKENS, "--compare=fixtures/trace", "--threshold=1.5" }, "--threshold wants a cosine, from -1 to 1" },
        { { TOKENS, "--greedy=18446744073709551615" }, "--greedy" },
        { { TOKENS, "--raw" }, "--raw has no effect without --save-weights" },
        { { "--save-weights=lm_hed.weight" }, "matches no tensor (did you mean \"lm_head.weight\"?)" },
        { { "--save-weights=re:(" }, "re:(" },
        { { TOKENS, "second" }, "needs one model, got 2" },
    };
    expect_refusals(QWEN2, rows, APR_LENGTH(rows));
    static const struct refusal trace[] = { { { TOKENS }, "it is a trace, which does not run" } };
    expect_refusals("fixtures/trace", trace, APR_LENGTH(trace));
}

/* Nothing in common is no comparison. */
static void a_trace_without_a_common_stage_is_no_answer(void **state)
{
    (void)state;
    static const unsigned char one[] = { 'A', 'P', 'R', 'T', 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 };
    char folder[4096];
    test_file("alien/layer-9/attn_norm.bin", one, sizeof one);
    snprintf(folder, sizeof folder, "--compare=%s", test_path("alien"));
    expect_exit(test_tool(APR_TRACE, QWEN2, TOKENS, folder, NULL), 2, "no stage in common");
}

/* ---- models that do not run ----------------------------------------------------------------------------------------- */

static void a_model_that_cannot_run_is_refused_by_name(void **state)
{
    (void)state;
    static const struct refusal unknown[] = { { { TOKENS }, "family mamba has no forward pass; these have: arcee bert " } };
    checkpoint("mamba", NULL);
    text_file("mamba/config.json", "{\"architectures\": [\"MambaForCausalLM\"], \"model_type\": \"mamba\"}");
    expect_refusals(test_path("mamba"), unknown, APR_LENGTH(unknown));
    static const struct refusal fit[] = { { { TOKENS }, "k_proj" } };
    struct test_bytes config = test_load("fixtures/qwen2/config.json");
    test_put(&config, "", 1);
    checkpoint("unfit", NULL);
    strstr((char *)config.at, "\"num_key_value_heads\": 2")[strlen("\"num_key_value_heads\": ")] = '1';
    text_file("unfit/config.json", (const char *)config.at);
    test_free(&config);
    expect_refusals(test_path("unfit"), fit, APR_LENGTH(fit));
}

/* A tensor that has a role, but none that the pass knows. */
static void a_contract_of_ones_own_leaves_nothing_out(void **state)
{
    (void)state;
    static const struct { const char *role, *says; } rows[] = {
        { "role: attn_output,", "layer 0 has no output of its attention" }, { "role: attn_v,", "layer 0 has no queries, keys and values" },
        { "role: ffn_up,", "layer 0 has no feed-forward" }, { "role: ffn_down,", "layer 0 has no feed-forward" },
        { "role: token_embd,", "there is no token_embd" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes contract = test_load("families/qwen2.yaml");
        test_put(&contract, "", 1);
        char *const role = strstr((char *)contract.at, rows[i].role);
        assert_non_null(role);
        role[strlen("role: ")] = 'x';
        const char *const own = text_file("own.yaml", (const char *)contract.at);
        expect_exit(test_tool(APR_TRACE, QWEN2, TOKENS, "--family-file", own, NULL), 2, rows[i].says);
        test_free(&contract);
    }
}

static void a_classic_model_takes_as_many_features_as_it_has(void **state)
{
    (void)state;
    static const float weight[] = { 1, 2, 3 };
    static const struct refusal rows[] = {
        { { TOKENS }, "--features X,Y,... gives it 3 numbers" },
        { { "--features=1,2" }, "2 numbers, where the model takes 3" },
        { { "--features=1,2,3,4" }, "4 numbers" },
        { { "--features=1,x,3" }, "\"x\" is no finite number" },
        { { "--features=1,nan,3" }, "\"nan\"" },
        { { "--features=" }, "\"\" is no finite number" },
        { { "--features=1,2,3", "--greedy=1" }, "--greedy" },
    };
    const struct test_tensor t[] = { { "coefficients", "F32", "[3]", weight, sizeof weight },
                                     { "intercept", "F32", "[1]", weight, sizeof *weight } };
    expect_refusals(test_safetensors("classic.safetensors", t, 2), rows, APR_LENGTH(rows));
}

/* ---- where files go ------------------------------------------------------------------------------------------------- */

static void nothing_is_written_onto_what_is_read_or_not_ours(void **state)
{
    (void)state;
    const char *const model = checkpoint("own", NULL);
    char option[4096];
    snprintf(option, sizeof option, "--save-tensor-dir=%s/", model);
    expect_exit(test_tool(APR_TRACE, model, TOKENS, "--save-tensor=all", option, NULL), 2, "it is the model's own folder");
    const size_t before = files_in("own");
    snprintf(option, sizeof option, "--save-tensor-dir=%s", text_file("a-file", "x"));
    expect_exit(test_tool(APR_TRACE, model, TOKENS, "--save-tensor=all", option, NULL), 2, "a-file");
    text_file("mine/final_norm.bin", "a text of mine");
    expect_exit(test_tool(APR_TRACE, model, TOKENS, "--save-tensor=all", into("mine"), NULL), 2, "final_norm.bin");
    assert_int_equal(files_in("mine"), 1);
    assert_int_equal(files_in("own"), before);
    copy_of("fixtures/qwen2-q8_0.gguf", "w/lm_head.weight.raw");
    expect_exit(test_tool(APR_TRACE, model, "--save-weights=lm_head.weight", "--raw", into("w"), NULL), 2, "it holds a model");
    struct test_bytes gguf = test_load("fixtures/qwen2-q8_0.gguf");
    struct test_answer a = test_tool_in(&gguf, APR_TRACE, "-", TOKENS, "--save-tensor=all", NULL);
    assert_true(a.exit == 2 && test_says(&a.err, "--save-tensor-dir says where"));
    test_answer_free(&a);
    test_free(&gguf);
}

static void with_json_an_error_is_an_object_too(void **state)
{
    (void)state;
    static const char *const tokens[] = { "--tokens=999", "--tokens=1,,", "--top=x" };
    for (size_t i = 0; i < APR_LENGTH(tokens); i++) {
        json_t *const r = report_of(test_tool(APR_TRACE, "--json", QWEN2, tokens[i], NULL), 2);
        expect_text(tokens[i], r, "schema", "apr-trace/1");
        expect_text(tokens[i], r, "error.code", "argument");
        json_decref(r);
    }
}

/* Rows first, the object without them last. */
static void json_lines_are_the_stages_and_the_summary(void **state)
{
    (void)state;
    struct test_answer a = test_tool(APR_TRACE, "--jsonl", QWEN2, TOKENS, "--save-tensor=final_norm,lm_head", into("lines"), NULL);
    assert_int_equal(a.exit, 0);
    size_t lines = 0;
    for (const char *line = (const char *)a.out.at; *line != 0; line = strchr(line, '\n') + 1, lines++) {
        json_t *const r = json_loadb(line, strcspn(line, "\n"), 0, NULL);
        assert_non_null(r);
        assert_true((json_object_get(r, "schema") != NULL) == (lines == 2));
        json_decref(r);
    }
    assert_int_equal(lines, 3);
    test_answer_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_ids_of_the_vocabulary),
        cmocka_unit_test(a_file_of_tokens_is_parted_by_commas_or_white_space),
        cmocka_unit_test(stages_layers_and_positions_are_there),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_trace_without_a_common_stage_is_no_answer),
        cmocka_unit_test(a_model_that_cannot_run_is_refused_by_name),
        cmocka_unit_test(a_contract_of_ones_own_leaves_nothing_out),
        cmocka_unit_test(a_classic_model_takes_as_many_features_as_it_has),
        cmocka_unit_test(nothing_is_written_onto_what_is_read_or_not_ours),
        cmocka_unit_test(with_json_an_error_is_an_object_too),
        cmocka_unit_test(json_lines_are_the_stages_and_the_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
