/* lib/forward/stage_map.c, saved.c, maps/: another program's activations as a trace. fixtures/qwen2.activations.safetensors is what
 * transformers' modules saw; what stages have to hold is taken from its tensors here. */
#include "diff.h"

#include <unistd.h>

#include "base/bytes.h"
#include "forward/saved.h"
#include "model/model.h"
#include "model/open.h"
#include "model/stage.h"

#define DUMP "fixtures/qwen2.activations.safetensors"

static bool says_so(void *yes, uint32_t layer, unsigned stage)
{
    (void)layer, (void)stage;
    return yes != NULL;
}

static struct apr_stage_map *map_of(const char *text)
{
    struct apr_stage_map *map;
    struct apr_error e;
    if (apr_stage_map_parse(&map, apr_text(text), &e) != APR_OK)
        fail_msg("%s: %s", text, e.text);
    return map;
}

/* The activations in that file, by that map (NULL: the embedded one), of a model with biases or without. */
static struct apr_model *trace_of(const char *path, const char *text, bool bias)
{
    struct apr_model *m;
    struct apr_error e;
    struct apr_stage_map *const map = text == NULL ? NULL : map_of(text);
    if (apr_open_trace(&m, path, map, &(struct apr_other_side){ says_so, bias ? &m : NULL }, test_run_with(1), &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
    apr_stage_map_free(map);
    return m;
}

static const struct apr_tensor *stage_of(const struct apr_model *m, const char *name)
{
    const struct apr_tensor *const t = apr_model_find(m, apr_text(name));
    if (t == NULL)
        fail_msg("no stage %s", name);
    return t;
}

/* ---- transformers --------------------------------------------------------------------------------------------------- */

/* Of a layer: what a stage is made from, as columns [from, to) of a tensor that stand from column `at` on. */
static const struct {
    const char *stage, *module;
    size_t      at, ncol, columns;
} parts[] = {
    { "attn_norm", "input_layernorm:out", 0, 64, 64 },
    { "qkv_bias", "self_attn.q_proj:out", 0, 64, 128 },
    { "qkv_bias", "self_attn.k_proj:out", 64, 32, 128 },
    { "qkv_bias", "self_attn.v_proj:out", 96, 32, 128 },
    { "attention", "self_attn.o_proj:in", 0, 64, 64 },
    { "attn_out", "self_attn.o_proj:out", 0, 64, 64 },
    { "post_attn_residual", "post_attention_layernorm:in", 0, 64, 64 },
    { "ffn_norm", "post_attention_layernorm:out", 0, 64, 64 },
    { "ffn_gate", "mlp.gate_proj:out", 0, 96, 96 },
    { "ffn_up", "mlp.up_proj:out", 0, 96, 96 },
    { "ffn_silu", "mlp.act_fn:out", 0, 96, 96 },
    { "ffn_swigl", "mlp.down_proj:in", 0, 96, 96 },
    { "ffn_out", "mlp:out", 0, 64, 64 },
    { "post_ffn_residual", "", 0, 64, 64 },
};

static void modules_of_transformers_are_stages(void **state)
{
    (void)state;
    struct apr_model *dump, *const m = trace_of(DUMP, NULL, true);
    struct apr_error e;
    assert_int_equal(apr_open(&dump, DUMP, test_run_with(1), &e), APR_OK);
    assert_true(apr_is_foreign(m) && m->nnote == 0);
    assert_int_equal(m->ntensor, 2 * 12 + 3);
    for (unsigned layer = 0; layer < 2; layer++)
        for (size_t i = 0; i < APR_LENGTH(parts); i++) {
            char name[128];
            snprintf(name, sizeof name, "layer-%u/%s", layer, parts[i].stage);
            const struct apr_tensor *const t = stage_of(m, name);
            const bool whole = parts[i].module[0] == 0;
            snprintf(name, sizeof name, "model.layers.%u%s%s", layer, whole ? ":out" : ".", parts[i].module);
            const struct apr_tensor *const of = stage_of(dump, name);
            assert_true(t->ndim == 2 && t->dim[0] == 4 && t->dim[1] == parts[i].columns && of->count == 4 * parts[i].ncol);
            const size_t bytes = 4 * parts[i].ncol;
            for (size_t row = 0; row < 4; row++)
                assert_memory_equal(t->data.at + 4 * (row * parts[i].columns + parts[i].at), of->data.at + row * bytes, bytes);
        }
    assert_memory_equal(stage_of(m, "lm_head")->data.at, stage_of(dump, "lm_head:out")->data.at, 4 * 4 * 96);
    assert_memory_equal(stage_of(m, "final_norm")->data.at, stage_of(dump, "model.norm:out")->data.at, 4 * 4 * 64);
    assert_memory_equal(stage_of(m, "layer-0/embedding")->data.at, stage_of(dump, "model.layers.0:in")->data.at, 4 * 4 * 64);
    apr_close(dump);
    apr_close(m);
}

static void stages_stand_in_computation_order(void **state)
{
    (void)state;
    struct apr_model *const m = trace_of(DUMP, NULL, false);
    for (size_t i = 0; i < m->ntensor; i++) {
        assert_true(i == 0 || apr_stage_compare(m->tensor[i - 1].name, m->tensor[i].name) < 0);
        assert_ptr_equal(apr_model_find(m, m->tensor[i].name), &m->tensor[i]);
    }
    stage_of(m, "layer-1/qkv_matmul"); /* nobody has a bias */
    assert_null(apr_model_find(m, apr_text("layer-1/qkv_bias")));
    apr_close(m);
}

/* ---- other shapes and names ----------------------------------------------------------------------------------------- */

static const float ramp[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };

#define TENSOR(name, shape, n) { name, "F32", shape, ramp, 4 * (n) }

static const char *tensors(const char *file, const struct test_tensor *t, size_t n) { return test_safetensors(file, t, n); }

/* A family's names tell where a norm stands. */
static void the_same_name_is_another_stage_in_another_family(void **state)
{
    (void)state;
    static const struct { const char *names[4], *stages; } rows[] = {
        { { "model.layers.1.post_attention_layernorm:in", "model.layers.1.post_attention_layernorm:out" },
          "layer-1/post_attn_residual layer-1/ffn_norm " },
        { { "model.layers.1.post_attention_layernorm:in", "model.layers.1.post_attention_layernorm:out",
            "model.layers.1.pre_feedforward_layernorm:in", "model.layers.1.post_feedforward_layernorm:out" },
          "layer-1/post_attn_residual " },
        { { "model.layers.1.post_attention_layernorm:in", "model.layers.1.post_feedforward_layernorm:out", "model.layers.1.mlp:in" },
          "layer-1/post_attn_residual " },
        { { "gpt_neox.layers.1.post_attention_layernorm:in", "gpt_neox.layers.1.post_attention_layernorm:out",
            "gpt_neox.layers.1.attention.query_key_value:out" }, "layer-1/ffn_norm " },
        { { "model.language_model.layers.12.mlp", "language_model.model.layers.3", "logits" },
          "layer-3/post_ffn_residual layer-12/ffn_out lm_head " },
        { { "transformer.h.0:in", "transformer.h.0.ln_1", "transformer.h.0.attn.c_proj:in", "transformer.ln_f" },
          "layer-0/embedding layer-0/attn_norm layer-0/attention final_norm " },
        { { "lm_head:out", "model.layers.0.pre_feedforward_layernorm:in" }, "layer-0/post_attn_residual " }, /* a cap is behind the head */
        { { "lm_head:out", ":out", "model.layers.0.pre_feedforward_layernorm:in" }, "layer-0/post_attn_residual lm_head " },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_tensor t[4];
        size_t n = 0;
        for (; n < 4 && rows[i].names[n] != NULL; n++)
            t[n] = (struct test_tensor)TENSOR(rows[i].names[n], "[1,3,4]", 12);
        struct apr_model *const m = trace_of(tensors("names.safetensors", t, n), NULL, false);
        struct test_bytes all = { 0 };
        for (size_t k = 0; k < m->ntensor; k++) {
            test_put(&all, m->tensor[k].name.at, m->tensor[k].name.n);
            test_text(&all, " ");
            assert_true(m->tensor[k].ndim == 2 && m->tensor[k].dim[0] == 3); /* the batch of one is dropped */
        }
        test_put(&all, "", 1);
        assert_string_equal((const char *)all.at, rows[i].stages);
        test_free(&all);
        apr_close(m);
    }
}

static void a_tensor_is_cut_where_it_holds_two_stages(void **state)
{
    (void)state;
    static const float gate[] = { 0, 1, 4, 5, 8, 9 }, up[] = { 2, 3, 6, 7, 10, 11 };
    const struct test_tensor t[] = { TENSOR("model.layers.7.mlp.gate_up_proj", "[3,4]", 12) };
    struct apr_model *const m = trace_of(tensors("split.safetensors", t, 1), NULL, false);
    assert_int_equal(m->ntensor, 2);
    assert_memory_equal(stage_of(m, "layer-7/ffn_gate")->data.at, gate, sizeof gate);
    assert_memory_equal(stage_of(m, "layer-7/ffn_up")->data.at, up, sizeof up);
    apr_close(m);
}

static void a_folder_of_arrays_may_have_foreign_names(void **state)
{
    (void)state;
    static const char header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }\n";
    static const char *const names[] = { "dump/model.layers.0:in.npy", "dump/model.layers.0.mlp:out.npy", "dump/model.norm.npy",
                                         "dump/x.npy" };
    struct test_bytes b = { 0 };
    test_put(&b, "\x93NUMPY\1\0", 8);
    test_integer(&b, sizeof header - 1, 2);
    test_text(&b, header);
    test_floats(&b, ramp, 12);
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        test_file(names[i], b.at, b.n);
    struct apr_model *const m = trace_of(test_path("dump"), NULL, false);
    assert_int_equal(m->ntensor, 3);
    stage_of(m, "layer-0/embedding"), stage_of(m, "layer-0/ffn_out"), stage_of(m, "final_norm");
    assert_int_equal(m->nnote, 1);
    assert_string_equal(m->note[0].text, "1 of 4 tensors are no stage by the map and are left out, as \"x\"");
    apr_close(m);
    test_free(&b);
}

/* ---- maps of one's own ---------------------------------------------------------------------------------------------- */

static void a_map_of_ones_own_is_a_list(void **state)
{
    (void)state;
    static const char map[] = "- {stage: qkv_matmul, from: [\"blk.{L}.q\", \"blk.{L}.kv\"]}\n"
                              "- {stage: attention, from: \"blk.{L}.o:in\"}\n"
                              "- {stage: final_norm, from: result}\n";
    const struct test_tensor t[] = { TENSOR("blk.0.q", "[3,1]", 3),      TENSOR("blk.0.kv", "[3,2]", 6), TENSOR("blk.0.o:in", "[3,4]", 12),
                                     TENSOR("result", "[1,4]", 4),       TENSOR("blk.00.q", "[3,1]", 3), TENSOR("blk.1.q", "[3,1]", 3),
                                     TENSOR("lm_head", "[4]", 4),        TENSOR("blk.2.q", "[2,1]", 2),  TENSOR("blk.2.kv", "[3,2]", 6),
                                     TENSOR("layer-0/ffn_out", "[3,4]", 12) };
    const char *const path = tensors("own.safetensors", t, APR_LENGTH(t));
    struct apr_model *const m = trace_of(path, map, false);
    static const float qkv[] = { 0, 0, 1, 1, 2, 3, 2, 4, 5 };
    assert_int_equal(m->ntensor, 5); /* a layer of which half is there has none; a name that is a stage's stays */
    assert_memory_equal(stage_of(m, "layer-0/qkv_matmul")->data.at, qkv, sizeof qkv);
    assert_int_equal(stage_of(m, "layer-0/qkv_matmul")->dim[1], 3);
    stage_of(m, "layer-0/attention"), stage_of(m, "layer-0/ffn_out"), stage_of(m, "final_norm"), stage_of(m, "lm_head");
    assert_int_equal(m->nnote, 2);
    assert_string_equal(m->note[0].text, "line 1 of the map makes no qkv_matmul of \"blk.2.q\": its rows or dtype are not those of what "
                        "stands beside it");
    apr_close(m);
}

static void a_stage_is_one_of_two_by_what_the_other_side_has(void **state)
{
    (void)state;
    const struct test_tensor t[] = { TENSOR("a.3", "[3,4]", 12) };
    const char *const path = tensors("either.safetensors", t, 1), *const map = "[{stage: qkv_matmul, either: qkv_bias, from: \"a.{L}\"}]";
    for (unsigned bias = 0; bias < 2; bias++) {
        struct apr_model *const m = trace_of(path, map, bias);
        stage_of(m, bias ? "layer-3/qkv_bias" : "layer-3/qkv_matmul");
        apr_close(m);
    }
}

static void maps_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const struct { const char *text, *words; } rows[] = {
        { "stages", "line 1: expected stages:" },
        { "prefix: model.\n", "line 1: expected stages:" },
        { "stages: []\nstage: []\n", "line 2: a map has stages, prefix and ignore, but not \"stage\"" },
        { "- ffn_out\n", "line 1: expected a line of {stage: STAGE, from: NAME}" },
        { "- {stage: ffn_out}\n", "line 1: expected a line of" },
        { "- {from: \"x.{L}\"}\n", "line 1: expected a line of" },
        { "\n- {stage: fnn_out, from: \"x.{L}\"}\n", "line 2: \"fnn_out\" is no stage; did you mean \"ffn_out\"" },
        { "- {stage: ffn_out, from: x}\n", "no {L} in a name of a layer's stage: \"ffn_out\"" },
        { "- {stage: lm_head, from: \"x.{L}\"}\n", "{L} in a name of a stage that is not of each layer: \"lm_head\"" },
        { "- {stage: embedding, from: \"x.{L}\"}\n", "{L} in a name of a stage that is not of each layer: \"embedding\"" },
        { "- {stage: lm_head, from: x, when: \"y.{L}\"}\n", "{L} in a condition" },
        { "- {stage: lm_head, from: x, unless: [z, \"y.{L}\"]}\n", "{L} in a condition" },
        { "- {stage: ffn_out, from: \"x.{L}.{L}\"}\n", "may have {L}, once, not \"x.{L}.{L}\"" },
        { "- {stage: ffn_out, from: \"x.{X}\"}\n", "may have {L}, once" },
        { "- {stage: ffn_out, from: []}\n", "expected a name, or up to 8" },
        { "- {stage: ffn_out, from: [[a]]}\n", "expected a name" },
        { "- {stage: ffn_out, from: \"\"}\n", "expected a name" },
        { "- {stage: ffn_out, from: [a, b, c, d, e, f, g, h, i]}\n", "expected a name, or up to 8" },
        { "- {stage: ffn_out, split: [ffn_up, ffn_gate], from: \"x.{L}\"}\n", "stage and split exclude each other" },
        { "- {split: [ffn_up], from: \"x.{L}\"}\n", "split: expected a list of 2 to 8" },
        { "- {split: [ffn_up, lm_head], from: \"x.{L}\"}\n", "do not come of one tensor" },
        { "- {stage: ffn_up, either: lm_head, from: \"x.{L}\"}\n", "either: one stage, of the same kind" },
        { "- {stage: ffn_up, side: in, from: \"x.{L}\"}\n", "but not \"side\"" },
        { "stages: []\nprefix: {a: b}\n", "line 2: prefix" },
        { "stages: []\nignore: [[]]\n", "line 2: ignore" },
        { "a: [\n", "line 2" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_stage_map *map;
        struct apr_error e;
        assert_int_equal(apr_stage_map_parse(&map, apr_text(rows[i].text), &e), APR_EARG);
        assert_null(map);
        if (strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: \"%s\" is not in: %s", rows[i].text, rows[i].words, e.text);
    }
}

static void a_file_without_a_known_name_is_told_and_how_to_write_a_map(void **state)
{
    (void)state;
    const struct test_tensor t[] = { TENSOR("model.layers.0.mlp:out", "[12]", 12), TENSOR("layers.0.mlp", "[12]", 12) };
    struct apr_model *m;
    struct apr_error e;
    assert_int_equal(apr_open_trace(&m, "fixtures/qwen2.apr", NULL, NULL, test_run_with(1), &e), APR_EARG);
    assert_null(m);
    assert_string_equal(e.file, "fixtures/qwen2.apr");
    assert_non_null(strstr(e.text, "of its 27 tensors (\"lm_head.weight\", \"model.norm.weight\") none is a stage"));
    assert_non_null(strstr(e.text, "{stage: ffn_out, from: \"layers.{L}.mlp\"}"));
    assert_int_equal(apr_open_trace(&m, tensors("twice.safetensors", t, 2), NULL, NULL, test_run_with(1), &e), APR_EARG);
    assert_non_null(strstr(e.text, "\"model.layers.0.mlp:out\" and \"layers.0.mlp\" are one name for the map"));
}

/* ---- what is compared ----------------------------------------------------------------------------------------------- */

static void of_stages_of_the_last_position_the_last_is_taken(void **state)
{
    (void)state;
    const struct test_tensor t[] = { TENSOR("lm_head", "[3,4]", 12), TENSOR("model.layers.1.mlp.experts", "[3,2]", 6),
                                     TENSOR("model.norm", "[3,4]", 12) };
    struct apr_model *const m = trace_of(tensors("last.safetensors", t, 3), NULL, false);
    struct apr_tensor view;
    assert_true(apr_trace_last(stage_of(m, "lm_head"), 4, &view));
    assert_true(view.ndim == 1 && view.dim[0] == 4 && view.count == 4 && view.data.n == 16);
    assert_memory_equal(view.data.at, ramp + 8, 16);
    assert_true(apr_trace_last(stage_of(m, "layer-1/moe_ffn_out"), 2, &view));
    assert_memory_equal(view.data.at, ramp + 4, 8);
    assert_false(apr_trace_last(stage_of(m, "lm_head"), 12, &view));
    assert_false(apr_trace_last(stage_of(m, "lm_head"), 5, &view));
    assert_false(apr_trace_last(stage_of(m, "lm_head"), 24, &view));
    assert_false(apr_trace_last(stage_of(m, "lm_head"), 0, &view));
    assert_false(apr_trace_last(stage_of(m, "final_norm"), 4, &view));
    apr_close(m);
}

/* A hook that takes the first of what has no batch keeps the first position: that must not pass for the last. */
static void a_row_of_experts_among_more_of_others_is_of_no_known_position(void **state)
{
    (void)state;
    const struct test_tensor t[] = { TENSOR("model.layers.1.mlp.experts", "[4]", 4), TENSOR("model.layers.2.mlp.experts", "[3,4]", 12),
                                     TENSOR("model.layers.1", "[1,3,4]", 12), TENSOR("lm_head", "[1,4]", 4),
                                     TENSOR("layer-3/moe_ffn_out", "[1,4]", 4) };
    struct apr_model *const m = trace_of(tensors("odd.safetensors", t, APR_LENGTH(t)), NULL, false);
    assert_null(apr_model_find(m, apr_text("layer-1/moe_ffn_out")));
    stage_of(m, "layer-2/moe_ffn_out"), stage_of(m, "layer-3/moe_ffn_out");
    stage_of(m, "layer-1/post_ffn_residual"), stage_of(m, "lm_head");
    assert_int_equal(m->nnote, 1);
    assert_string_equal(m->note[0].text, "stage \"layer-1/moe_ffn_out\" is left out: it has 1 row where others have 3, so nobody knows of "
                        "which position");
    apr_close(m);
}

static void a_split_that_does_not_divide_is_named(void **state)
{
    (void)state;
    const struct test_tensor t[] = { TENSOR("blk.7.gate_up", "[4,3]", 12) };
    const char *const path = tensors("uneven.safetensors", t, 1);
    struct apr_stage_map *const map = map_of("- {split: [ffn_gate, ffn_up], from: \"blk.{L}.gate_up\"}");
    struct apr_model *m;
    struct apr_error e;
    assert_int_equal(apr_open_trace(&m, path, map, NULL, test_run_with(1), &e), APR_EARG);
    assert_string_equal(e.text, "has no stage: line 1 of the map splits \"blk.7.gate_up\" into 2 stages from ffn_gate on, but it has 3 "
                        "columns");
    apr_stage_map_free(map);
}

static void shapes_of_one_order_fit(void **state)
{
    (void)state;
    static const struct { uint64_t a[3], b[3]; unsigned na, nb; bool fit; } rows[] = {
        { { 4, 64 }, { 4, 64 }, 2, 2, true },   { { 4, 64 }, { 256 }, 2, 1, true },      { { 4, 64 }, { 1, 4, 64 }, 2, 3, true },
        { { 4, 64 }, { 4, 4, 16 }, 2, 3, true }, { { 4, 4, 4 }, { 64 }, 3, 1, true },    { { 1, 96 }, { 96 }, 2, 1, true },
        { { 4, 64 }, { 64, 4 }, 2, 2, false }, { { 4, 64 }, { 8, 32 }, 2, 2, false }, { { 3, 256 }, { 256, 3 }, 2, 2, false },
        { { 6, 4 }, { 4, 6 }, 2, 2, false },    { { 4, 64 }, { 4, 1, 64 }, 2, 3, true }, { { 2, 6 }, { 3, 4 }, 2, 2, false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (apr_trace_fits(rows[i].a, rows[i].na, rows[i].b, rows[i].nb) != rows[i].fit)
            fail_msg("row %zu", i);
}

/* PYTHON=... names one with torch and transformers. The lines are those of the page; the dump is held against the one in fixtures/. */
static void the_lines_of_the_page_make_such_a_file(void **state)
{
    (void)state;
    if (getenv("PYTHON") == NULL)
        skip();
    struct test_bytes page = test_load("docs/apr-trace.md"), script = { 0 };
    test_put(&page, "", 1);
    const char *const start = strstr((const char *)page.at, "```python\nimport torch");
    assert_non_null(start);
    test_put(&script, start + 10, (size_t)(strstr(start + 10, "```") - start - 10));
    const char *const path = test_file("dump.py", script.at, script.n);
    char command[4096], link[4096];
    snprintf(command, sizeof command, "cd %s && ln -sfn \"$OLDPWD/fixtures\" fixtures && \"$PYTHON\" %s >&2", test_folder(), path);
    assert_int_equal(system(command), 0);
    snprintf(link, sizeof link, "%s/dump.safetensors", test_folder());
    expect_exit(test_tool(APR_DIFF, "--stage-map", "transformers", "--max-abs=1e-5", DUMP, link, NULL), 0, NULL);
    test_free(&page);
    test_free(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_of_transformers_are_stages),
        cmocka_unit_test(stages_stand_in_computation_order),
        cmocka_unit_test(the_same_name_is_another_stage_in_another_family),
        cmocka_unit_test(a_tensor_is_cut_where_it_holds_two_stages),
        cmocka_unit_test(a_folder_of_arrays_may_have_foreign_names),
        cmocka_unit_test(a_map_of_ones_own_is_a_list),
        cmocka_unit_test(a_stage_is_one_of_two_by_what_the_other_side_has),
        cmocka_unit_test(maps_that_make_no_sense_are_refused),
        cmocka_unit_test(a_file_without_a_known_name_is_told_and_how_to_write_a_map),
        cmocka_unit_test(of_stages_of_the_last_position_the_last_is_taken),
        cmocka_unit_test(a_row_of_experts_among_more_of_others_is_of_no_known_position),
        cmocka_unit_test(a_split_that_does_not_divide_is_named),
        cmocka_unit_test(shapes_of_one_order_fit),
        cmocka_unit_test(the_lines_of_the_page_make_such_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
