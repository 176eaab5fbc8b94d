/* apr-trace --compare: when two runs part, and what is said of it. Damage is done to the weights; what it does to a stage follows. */
#include "trace.h"

#define SAVED_ALL(model, tokens, folder, ...) \
    json_decref(traced(model, 0, (const char *const[]){ tokens, "--save-tensor=all", into(folder), ##__VA_ARGS__, NULL }))

static void expect_words(const char *model, const char *tokens, const char *folder, const char *option, int exit, const char *words)
{
    struct test_answer a = test_tool(APR_TRACE, model, tokens, against(folder), option, NULL);
    if (!test_says(&a.out, words))
        fail_msg("\"%s\" is not in: %s%s", words, (const char *)a.out.at, (const char *)a.err.at);
    expect_exit(a, exit, NULL);
}

static const json_t *last_stage(const json_t *r)
{
    const json_t *const stages = at(r, "stages");
    return json_array_get(stages, json_array_size(stages) - 1);
}

/* ---- bounds --------------------------------------------------------------------------------------------------------- */

/* A cosine is blind to it; apr-diff, given the two traces, says the same. */
static void a_lost_scale_is_a_divergence_in_both_tools(void **state)
{
    (void)state;
    const char *const model = damaged("scaled", "lm_head.weight", 0, 32 * 16, 1.5f);
    SAVED_ALL(MOE, MOE_TOKENS, "sound");
    json_t *r = traced(model, 1, (const char *const[]){ MOE_TOKENS, against("sound"), "--save-tensor=all", into("lost"), NULL });
    expect_text("trace", r, "first_divergence.stage", "lm_head");
    expect_text("trace", last_stage(r), "failed", "[\"scale\"]");
    assert_true(json_number_value(at(last_stage(r), "cosine_sim")) > 0.999999);
    assert_true(fabs(json_number_value(at(last_stage(r), "norm_ratio")) - 1.5) < 1e-6);
    json_decref(r);
    char lost[4096];
    snprintf(lost, sizeof lost, "%s", test_path("lost"));
    r = report_of(test_tool(APR_DIFF, "--json", test_path("sound"), lost, NULL), 1);
    expect_text("diff", r, "first_divergence.stage", "lm_head");
    assert_true(fabs(json_number_value(at(last_stage(r), "norm_ratio")) - 1.5) < 1e-6);
    json_decref(r);
    expect_words(model, MOE_TOKENS, "sound", "--quiet", 1, "1.5 times as large, largest difference");
    expect_words(model, MOE_TOKENS, "sound", "--threshold=0.8", 0, "no divergence"); /* which allows 1.63 */
}

/* One weight of 192 is enough for no cosine below 0.999, but not for nothing. */
static void agreement_names_what_is_equal_and_the_lowest_cosine(void **state)
{
    (void)state;
    SAVED_ALL(MOE, MOE_TOKENS, "sound");
    const char *const model = damaged("nearly", "model.layers.1.mlp.shared_expert.down_proj.weight", 20, 1, 0.5f);
    json_t *r = TRACED(model, 0, MOE_TOKENS, against("sound"));
    expect_text("nearly", r, "first_divergence", "null");
    expect_text("nearly", r, "lowest_cosine.layer", "1");
    expect_text("nearly", r, "lowest_cosine.stage", "ffn_out");
    const json_int_t all = json_integer_value(at(r, "stages_compared"));
    assert_int_equal(json_integer_value(at(r, "stages_equal")), all - 4); /* ffn_out and what comes behind it */
    json_decref(r);
    expect_words(model, MOE_TOKENS, "sound", "--quiet", 0, "of them equal in every value; lowest cosine 0.99");
    r = TRACED(model, 1, MOE_TOKENS, against("sound"), "--threshold=1");
    expect_text("at 1", r, "first_divergence.stage", "ffn_out");
    expect_text("at 1", r, "first_divergence.layer", "1");
    expect_text("at 1", r, "stages_differing", "4");
    json_decref(r);
    expect_words(model, MOE_TOKENS, "sound", "--threshold=1", 1, "4 of 35 stages differ");
    expect_words(MOE, MOE_TOKENS, "sound", "--threshold=1", 0, "no divergence: 35 stages are the same, equal in every value");
}

static void values_that_are_not_finite_are_counted_on_each_side(void **state)
{
    (void)state;
    const char *const model = damaged("nan", "model.layers.1.self_attn.k_proj.bias", 3, 1, NAN);
    SAVED_ALL(MOE, MOE_TOKENS, "sound");
    SAVED_ALL(model, MOE_TOKENS, "unsound");
    expect_words(model, MOE_TOKENS, "sound", "--quiet", 1, "stage qkv_bias, index 19: of 128 values 4 are not finite here, 0 there");
    expect_words(MOE, MOE_TOKENS, "unsound", "--quiet", 1, "stage qkv_bias, index 19: of 128 values 0 are not finite here, 4 there");
    expect_words(model, MOE_TOKENS, "unsound", "--quiet", 0, "no divergence");
    json_t *const r = TRACED(MOE, 1, MOE_TOKENS, against("unsound"));
    expect_text("all of them", last_stage(r), "nonfinite_in_reference", "32");
    expect_text("all of them", last_stage(r), "cosine_sim", "null");
    json_decref(r);
}

/* ---- positions and tokens ------------------------------------------------------------------------------------------- */

static void positions_are_cut_out_of_a_trace_of_all(void **state)
{
    (void)state;
    static const char *const cuts[] = { "--positions=0..2", "--positions=1..3", "--positions=2..3" };
    SAVED_ALL("fixtures/qwen2", TOKENS, "whole");
    for (size_t i = 0; i < APR_LENGTH(cuts); i++) {
        json_t *const r = TRACED("fixtures/qwen2", 0, TOKENS, against("whole"), cuts[i]);
        expect_text(cuts[i], r, "stages_equal", "36"); /* but the logits, which are the last position's */
        expect_text(cuts[i], r, "only_here", "[\"lm_head\"]");
        json_decref(r);
    }
    expect_words("fixtures/qwen2", TOKENS, "whole", "--positions=3..4", 0, "37 stages are the same, equal in every value");
    expect_words("fixtures/qwen2", "--tokens=5,17,42,9", "whole", "--positions=0..3", 0, "equal in every value");
    expect_words("fixtures/qwen2", "--tokens=5,17,42,9", "whole", "--positions=1..4", 1, "first divergence: layer 0, stage embedding");
    expect_exit(test_tool(APR_TRACE, "fixtures/qwen2", "--tokens=5,17,2,40", "--compare=fixtures/qwen2.activations.safetensors",
                          "--positions=1..3", NULL), 0, NULL);
}

static void other_tokens_are_a_guess_where_the_embedding_differs(void **state)
{
    (void)state;
    SAVED_ALL("fixtures/qwen2", TOKENS, "whole");
    expect_words("fixtures/qwen2", "--tokens=5,17,43,3", "whole", "--quiet", 1, ": a trace of other tokens?; ");
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static void values_of_a_shape_turned_round_are_not_compared(void **state)
{
    (void)state;
    SAVED_ALL("fixtures/qwen2", TOKENS, "turned", "--format=npy");
    const char *const file = "turned/layer-0/attn_norm.npy";
    struct test_bytes b = test_load(test_path(file));
    char *const shape = memmem(b.at, b.n, "(4, 64)", 7);
    memcpy(shape, "(64, 4)", 7);
    test_put(&b, "more", 4);
    test_file(file, b.at, b.n);
    test_free(&b);
    json_t *const r = TRACED("fixtures/qwen2", 1, TOKENS, against("turned"));
    expect_text("turned", r, "first_divergence.stage", "attn_norm");
    expect_text("turned", r, "stages.1.shape_in_reference", "[64,4]");
    expect_text("turned", r, "stages.1.failed", "[\"shape\"]");
    expect_text("turned", r, "stages_differing", "1");
    json_decref(r);
    struct test_answer a = test_tool(APR_TRACE, "fixtures/qwen2", TOKENS, against("turned"), "--quiet", NULL);
    assert_true(a.exit == 1 && test_says(&a.out, "stage attn_norm: [4, 64] here, [64, 4] there; 1 of 37 stages differs"));
    test_answer_free(&a);
    SAVED_ALL("fixtures/qwen2", TOKENS, "arrays", "--format=npy");
    char whole[4096];
    snprintf(whole, sizeof whole, "%s", test_path("arrays"));
    expect_exit(test_tool(APR_DIFF, whole, test_path("turned"), NULL), 2, "has the shape [4, 64] in A and [64, 4] in B");
    expect_exit(test_tool(APR_TRACE, "fixtures/qwen2", TOKENS, against("turned"), NULL), 1, "attn_norm.npy: at byte 1152: 4 bytes follow");
}

static void the_folder_that_is_compared_with_is_not_saved_into(void **state)
{
    (void)state;
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=attn_norm", into("both")));
    expect_exit(test_tool(APR_TRACE, "fixtures/qwen2", TOKENS, against("both"), "--save-tensor=lm_head", into("both"), NULL), 2,
                "--save-tensor-dir is the folder of --compare");
    assert_int_equal(files_in("both"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_scale_is_a_divergence_in_both_tools),
        cmocka_unit_test(agreement_names_what_is_equal_and_the_lowest_cosine),
        cmocka_unit_test(values_that_are_not_finite_are_counted_on_each_side),
        cmocka_unit_test(positions_are_cut_out_of_a_trace_of_all),
        cmocka_unit_test(other_tokens_are_a_guess_where_the_embedding_differs),
        cmocka_unit_test(values_of_a_shape_turned_round_are_not_compared),
        cmocka_unit_test(the_folder_that_is_compared_with_is_not_saved_into),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
