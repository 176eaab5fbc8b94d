/* apr-diff: saved activations, stage by stage. */
#include "diff.h"

#include "base/bytes.h"
#include "model/model.h"
#include "model/open.h"

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
    const char *const none = test_file("none.bin", "APRT\3\0\0\0\0\0\0\0", 12);
    const struct {
        const char *a, *b, *option, *words;
        int         exit;
    } table[] = {
        { none, none, "--threshold=0.5", "verdict: Pass", 0 },
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

/* ---- another program's activations ---------------------------------------------------------------------------------- */

#define DUMP "fixtures/qwen2.activations.safetensors"

/* Saves what transformers saw under our names, as a trace would: all positions, of lm_head the last. times: the factor of layer 1's ffn_out. */
static const char *trace_of_dump(const char *folder, float times)
{
    static const struct { const char *file, *tensor; uint32_t layer; } stages[] = {
        { "layer-0/attn_norm.bin", "model.layers.0.input_layernorm:out", 0 }, { "layer-0/ffn_out.bin", "model.layers.0.mlp:out", 0 },
        { "layer-1/attn_norm.bin", "model.layers.1.input_layernorm:out", 1 }, { "layer-1/ffn_out.bin", "model.layers.1.mlp:out", 1 },
        { "final_norm.bin", "model.norm:out", UINT32_MAX },                   { "lm_head.bin", "lm_head:out", UINT32_MAX },
        { "layer-1/attn_scores.bin", "model.norm:in", 1 },
    };
    struct apr_model *m;
    struct apr_error e;
    assert_int_equal(apr_open(&m, DUMP, test_run_with(1), &e), APR_OK);
    for (size_t i = 0; i < APR_LENGTH(stages); i++) {
        const struct apr_tensor *const t = apr_model_find(m, apr_text(stages[i].tensor));
        const size_t n = strcmp(stages[i].file, "lm_head.bin") == 0 ? 96 : 4 * 64;
        float values[4 * 64];
        char name[128];
        struct test_bytes b = { 0 };
        memcpy(values, t->data.at + t->data.n - n * sizeof *values, n * sizeof *values);
        for (size_t k = 0; k < n && strcmp(stages[i].file, "layer-1/ffn_out.bin") == 0; k++)
            values[k] *= times;
        test_text(&b, "APRT");
        test_integer(&b, stages[i].layer, 4);
        test_integer(&b, n, 4);
        test_floats(&b, values, n);
        snprintf(name, sizeof name, "%s/%s", folder, stages[i].file);
        test_file(name, b.at, b.n);
        test_free(&b);
    }
    apr_close(m);
    return test_path(folder);
}

static void a_trace_is_held_against_what_another_program_saved(void **state)
{
    (void)state;
    const char *const same = trace_of_dump("same", 1), *const other = trace_of_dump("other", -1);
    json_t *r = report_of(test_tool(APR_DIFF, "--json", "--max-abs=0", same, DUMP, NULL), 0);
    expect_text("what both have", r, "schema", "apr-stage-diff/1");
    expect_text("what both have", r, "verdict", "Pass");
    assert_int_equal(json_array_size(at(r, "stages")), 6);
    expect_text("the last position", r, "stages.5.stage", "lm_head");
    expect_text("the last position", r, "stages.5.dim_product", "96");
    expect_text("what the dump has not", r, "only_in_a.0", "layer-1/attn_scores");
    assert_true(json_array_size(at(r, "only_in_b")) > 15);
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", DUMP, other, NULL), 1);
    expect_text("a stage turned round", r, "first_divergence.stage", "ffn_out");
    expect_text("a stage turned round", r, "first_divergence.layer", "1");
    json_decref(r);
}

static void maps_are_an_option_of_traces(void **state)
{
    (void)state;
    static const char map[] = "- {stage: final_norm, from: model.norm}\n", none[] = "- {stage: attn_scores, from: \"model.layers.{L}.mlp\"}\n";
    const char *const same = trace_of_dump("same", 1), *const own = test_file("own.yaml", map, sizeof map - 1);
    const char *const no_stage = test_file("none.yaml", none, sizeof none - 1), *const bad = test_file("bad.yaml", "a: 1", 4);
    const struct {
        const char *a, *b, *map, *out, *err;
        int         exit;
    } table[] = {
        { same, DUMP, "--stage-map=transformers", "not compared: stages that only A has, 1, or only B, 21", "", 0 },
        { DUMP, DUMP, "--stage-map=transformers", "layer-1/qkv_matmul", "", 0 },
        { same, DUMP, own, "final_norm", "60 of 61 tensors are no stage by the map and are left out, as \":in\"", 0 },
        { DUMP, DUMP, "--quiet", "model.layers.1.mlp.act_fn:in", "", 0 },
        { "fixtures/trace/layer-0", DUMP, no_stage, "", "", 2 },
        { same, "fixtures/trace", "--stage-map=transformers", "", "--stage-map has no effect", 2 },
        { same, "fixtures/qwen2.apr", "--quiet", "", "is no trace: of its 27 tensors", 2 },
        { DUMP, DUMP, bad, "", "line 1: expected stages:", 2 },
        { DUMP, DUMP, "--stage-map=nowhere.yaml", "", "nowhere.yaml", 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        char option[4096];
        snprintf(option, sizeof option, "%s%s", table[i].map[0] == '/' ? "--stage-map=" : "", table[i].map);
        struct test_answer a = test_tool(APR_DIFF, table[i].a, table[i].b, option, NULL);
        if (!test_says(&a.out, table[i].out) || !test_says(&a.err, table[i].err))
            fail_msg("row %zu, %s: %s%s", i, option, (const char *)a.out.at, (const char *)a.err.at);
        expect_exit(a, table[i].exit, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_stage_where_two_traces_part_is_named),
        cmocka_unit_test(options_hold_for_traces_too),
        cmocka_unit_test(a_trace_is_held_against_what_another_program_saved),
        cmocka_unit_test(maps_are_an_option_of_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
