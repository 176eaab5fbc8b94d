/* apr-diff: saved activations, stage by stage. */
#include "diff.h"

/* fixtures/trace-drift is fixtures/trace with noise from attn_out of layer 1 on. */
static void the_first_stage_where_two_traces_part_is_named(void **state)
{
    (void)state;
    static const char *const stages[] = { "embedding", "attn_norm", "attn_out", "ffn_out", "attn_norm", "attn_out", "ffn_out", "final_norm",
                                          "lm_head" };
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "fixtures/trace", "fixtures/trace-drift", NULL), 1);
    assert_int_equal(json_array_size(at(r, "stages")), APR_LENGTH(stages));
    for (size_t i = 0; i < APR_LENGTH(stages); i++) {
        const json_t *const stage = json_array_get(at(r, "stages"), i);
        const json_t *const top = at(stage, "top_diffs");
        expect_text("a stage", stage, "stage", stages[i]);
        expect_text(stages[i], stage, "layer", i >= 7 ? "whole-model" : i >= 4 ? "1" : "0");
        expect_text(stages[i], stage, "dim_product", i == 8 ? "96" : "256");
        expect_text(stages[i], stage, "pass", i < 5 ? "true" : "false");
        assert_int_equal(json_array_size(top), i < 5 ? 0 : 10);
        if (i >= 5)
            expect_text(stages[i], stage, "max_abs_diff", text_of(top, "0.abs_diff"));
    }
    expect_text("the traces", r, "first_divergence.stage", "attn_out");
    expect_text("the traces", r, "first_divergence.layer", "1");
    expect_text("the traces", r, "first_divergence.index", text_of(r, "stages.5.max_abs_diff_index"));
    json_decref(r);
}

static void options_hold_for_traces_too(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *option, *words;
        int         exit;
    } table[] = {
        { "fixtures/trace", "fixtures/trace", "--json", "\"first_divergence\":null", 0 },
        { "fixtures/trace", "fixtures/trace-drift", "--threshold=0.9", "verdict: Pass", 0 },
        { "fixtures/trace", "fixtures/trace-drift", "--filter=layer-0", "verdict: Pass", 0 },
        { "fixtures/trace", "fixtures/trace-drift", "--limit=5", "verdict: Pass", 0 },
        { "fixtures/trace", "fixtures/trace-drift", "--structure", "the same structure", 0 },
        { "fixtures/trace/lm_head.bin", "fixtures/trace-drift/lm_head.bin", "--json", "\"layer\":\"whole-model\"", 1 },
        { "fixtures/trace/layer-0", "fixtures/trace", "--filter=zebra", "", 2 },
        { "fixtures/trace", "fixtures/trace", "--partition=1/2", "", 2 },
        { "fixtures/trace/lm_head.bin", "fixtures/trace/final_norm.bin", "--quiet", "", 2 },
        { "fixtures/trace/layer-0/ffn_out.bin", "fixtures/trace/layer-1/ffn_out.bin", "--quiet", "", 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        struct test_answer a = test_tool(APR_DIFF, table[i].a, table[i].b, table[i].option, NULL);
        if (!test_says(&a.out, table[i].words))
            fail_msg("%s %s: %s%s", table[i].b, table[i].option, (const char *)a.out.at, (const char *)a.err.at);
        expect_exit(a, table[i].exit, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_stage_where_two_traces_part_is_named),
        cmocka_unit_test(options_hold_for_traces_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
