/* apr-trace: what a run over four tokens says and saves. Numbers are those of transformers 5.24 with torch 2.15, in F32, on fixtures/qwen2. */
#include "trace.h"

#define NAN_BITS 0x7FC0u /* of a BF16 */

/* ---- logits --------------------------------------------------------------------------------------------------------- */

static void the_best_tokens_are_those_of_transformers_from_every_format(void **state)
{
    (void)state;
    static const char *const models[] = { "fixtures/qwen2", "fixtures/qwen2.apr", "fixtures/qwen2-zstd.apr", "fixtures/qwen2-bf16.gguf" };
    static const struct { const char *id; double logit; } best[] = { { "61", 0.3285747766494751 }, { "12", 0.3225257992744446 },
                                                                     { "23", 0.31707584857940674 }, { "60", 0.3158222436904907 } };
    for (size_t m = 0; m < APR_LENGTH(models); m++) {
        json_t *const r = TRACED(models[m], 0, TOKENS, "--top=4");
        expect_text(models[m], r, "schema", "apr-trace/1");
        expect_text(models[m], r, "family", "qwen2");
        expect_text(models[m], r, "tokens", "[5,17,42,3]");
        expect_text(models[m], r, "logits.vocab_size", "96");
        expect_text(models[m], r, "logits.argmax", "61");
        assert_int_equal(json_array_size(at(r, "logits.top_k")), APR_LENGTH(best));
        for (size_t i = 0; i < APR_LENGTH(best); i++) {
            const json_t *const row = json_array_get(at(r, "logits.top_k"), i);
            expect_text(models[m], row, "token_id", best[i].id);
            assert_true(fabs(json_number_value(at(row, "logit")) - best[i].logit) < 1e-6);
        }
        json_decref(r);
    }
}

static void greedy_tokens_are_those_of_transformers(void **state)
{
    (void)state;
    json_t *const r = TRACED("fixtures/qwen2", 0, TOKENS, "--greedy=6");
    expect_text("greedy", r, "greedy", "[61,56,92,69,44,44]");
    expect_text("greedy", r, "greedy_ended", "false");
    expect_text("the prompt's last position", r, "logits.argmax", "61");
    json_decref(r);
}

static void logits_of_all_positions_are_had_by_positions(void **state)
{
    (void)state;
    static const size_t best[] = { 54, 23, 12, 61 };
    float *x;
    size_t n;
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=lm_head", "--positions=0..4", into("all")));
    struct test_bytes all = saved_values("all/lm_head.bin", UINT32_MAX, &x, &n);
    assert_int_equal(n, 4 * 96);
    for (size_t p = 0; p < 4; p++)
        for (size_t i = 0; i < 96; i++)
            assert_true(x[p * 96 + best[p]] >= x[p * 96 + i]);
    test_free(&all);
}

/* ---- stages --------------------------------------------------------------------------------------------------------- */

/* Smallest, largest, mean and deviation of what enters the layers, and the softmax of layer 1. */
static void stages_are_those_of_transformers(void **state)
{
    (void)state;
    static const struct { const char *stage; double v[4]; } rows[] = {
        { "stages.0", { -0.057861328125, 0.056884765625, -0.0004509631544351578, 0.020504501211741463 } },
        { "stages.1", { -0.0822155550122261, 0.07882343977689743, -0.0010329219758205, 0.027951945669675297 } },
    };
    static const char *const key[] = { "min", "max", "mean", "std" };
    json_t *const r = TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=embedding,layer_output", "--layer=0", into("two"));
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (size_t k = 0; k < 4; k++)
            assert_true(fabs(json_number_value(at(at(r, rows[i].stage), key[k])) - rows[i].v[k]) < 1e-7);
    json_decref(r);
    float *x;
    size_t n;
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=ATTN_Softmax", into("soft")));
    struct test_bytes b = saved_values("soft/layer-1/attn_softmax.bin", 1, &x, &n);
    assert_int_equal(n, 4 * 4 * 4);
    assert_true(x[0] == 1 && x[1] == 0 && x[2] == 0 && x[3] == 0);
    assert_true(fabs((double)x[3 * 4] - 0.24965552985668182) < 1e-6 && fabs((double)x[(3 * 4 + 3) * 4 + 3] - 0.24919608235359192) < 1e-6);
    test_free(&b);
}

/* A row against the values that were saved, added up anew. */
static void expect_row(const json_t *row)
{
    const char *const file = text_of(row, "file") + strlen(test_folder()) + 1;
    const bool whole = json_is_string(at(row, "layer"));
    float *x;
    size_t n;
    double sum = 0, square = 0, low = INFINITY, high = -INFINITY, far = 0;
    struct test_bytes b = saved_values(file, whole ? UINT32_MAX : (uint32_t)json_integer_value(at(row, "layer")), &x, &n);
    assert_int_equal(json_integer_value(at(row, "count")), n);
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] / (double)n;
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        far = fabs((double)x[i]) > far ? fabs((double)x[i]) : far;
    }
    for (size_t i = 0; i < n; i++)
        square += (x[i] - sum) * (x[i] - sum) / (double)n;
    assert_true(json_number_value(at(row, "min")) == low && json_number_value(at(row, "max")) == high);
    assert_true(fabs(json_number_value(at(row, "mean")) - sum) <= 1e-12 * far &&
                fabs(json_number_value(at(row, "std")) - sqrt(square)) <= 1e-12 * far);
    assert_true(fabs(json_number_value(at(row, "rms")) - sqrt(square + sum * sum)) <= 1e-12 * far);
    test_free(&b);
}

static void the_report_describes_what_was_saved(void **state)
{
    (void)state;
    json_t *const r = TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=all", into("described"));
    json_t *const hashes = report_of(test_tool("apr-inspect", "--json", "--hash", test_path("described"), NULL), 0);
    const size_t n = json_array_size(at(r, "stages"));
    assert_int_equal(n, 1 + 2 * 17 + 2);
    assert_int_equal(json_array_size(at(r, "saved")), n);
    assert_int_equal(json_array_size(at(hashes, "tensors")), n);
    for (size_t i = 0; i < n; i++) {
        const json_t *const row = json_array_get(at(r, "stages"), i);
        expect_row(row);
        expect_text("the path", row, "file", json_string_value(json_array_get(at(r, "saved"), i)));
        expect_text("the hash", row, "hash", text_of(json_array_get(at(hashes, "tensors"), i), "hash"));
    }
    json_decref(hashes);
    json_decref(r);
}

static void a_npy_file_holds_the_same_values_in_their_shape(void **state)
{
    (void)state;
    float *x;
    size_t n;
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=attn_scores", into("a")));
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=attn_scores", "--format=npy", into("b")));
    struct test_bytes aprt = saved_values("a/layer-1/attn_scores.bin", 1, &x, &n), npy = test_load(test_path("b/layer-1/attn_scores.npy"));
    static const char head[] = "\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4, 4), }";
    assert_true(npy.n == 128 + 4 * n && memcmp(npy.at, head, sizeof head - 1) == 0 && npy.at[127] == '\n');
    assert_memory_equal(npy.at + 128, x, 4 * n);
    test_free(&aprt);
    test_free(&npy);
}

static void positions_and_layers_cut_without_changing_a_byte(void **state)
{
    (void)state;
    float *x, *y;
    size_t n, m;
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=all", into("full")));
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=all", "--positions=1 .. 3", "--save-tensor-layers=1..2", into("cut")));
    assert_int_equal(files_in("cut"), 3);
    assert_int_equal(files_in("cut/layer-1"), 17);
    struct test_bytes a = saved_values("full/layer-1/ffn_up.bin", 1, &x, &n), b = saved_values("cut/layer-1/ffn_up.bin", 1, &y, &m);
    assert_int_equal(m, 2 * 96);
    assert_memory_equal(x + 96, y, 4 * m);
    test_free(&a);
    test_free(&b);
    a = saved_values("full/layer-1/attn_scores.bin", 1, &x, &n);
    b = saved_values("cut/layer-1/attn_scores.bin", 1, &y, &m);
    assert_int_equal(m, 4 * 2 * 4);
    for (size_t h = 0; h < 4; h++)
        assert_memory_equal(x + (4 * h + 1) * 4, y + 2 * h * 4, 4 * 2 * 4);
    test_free(&a);
    test_free(&b);
}

static void threads_and_isa_change_nothing(void **state)
{
    (void)state;
    static const char *const options[] = { "--threads=1", "--threads=3", "--isa=scalar" };
    for (size_t i = 0; i < APR_LENGTH(options); i++) {
        json_t *const r = TRACED("fixtures/qwen2-q4_0.gguf", 0, TOKENS, "--save-tensor=all", into("same"), options[i], "--greedy=4");
        static json_t *first;
        if (first == NULL)
            first = json_incref(r);
        assert_true(json_equal(first, r));
        json_decref(r);
        if (i + 1 == APR_LENGTH(options))
            json_decref(first);
    }
}

/* ---- another trace -------------------------------------------------------------------------------------------------- */

/* Turns the signs of a saved stage round. */
static void negate(const char *path)
{
    struct test_bytes b = test_load(test_path(path));
    for (size_t i = 15; i < b.n; i += 4)
        b.at[i] ^= 0x80;
    test_file(path, b.at, b.n);
    test_free(&b);
}

static void the_first_stage_that_differs_is_named_in_computation_order(void **state)
{
    (void)state;
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=all", into("reference")));
    json_t *r = TRACED("fixtures/qwen2.apr", 0, TOKENS, against("reference"));
    expect_text("itself", r, "first_divergence", "null");
    expect_text("itself", r, "stages.3.cosine_sim", "1");
    json_decref(r);
    negate("reference/lm_head.bin");
    negate("reference/layer-1/attn_norm.bin");
    negate("reference/layer-0/ffn_up.bin");
    r = TRACED("fixtures/qwen2", 1, TOKENS, against("reference"));
    expect_text("three stages", r, "first_divergence.layer", "0");
    expect_text("three stages", r, "first_divergence.stage", "ffn_up");
    assert_true(json_is_integer(at(r, "first_divergence.index")));
    json_decref(r);
    r = TRACED("fixtures/qwen2", 1, TOKENS, against("reference"), "--layer=1");
    expect_text("layer 1", r, "first_divergence.stage", "attn_norm");
    json_decref(r);
    struct test_answer a = test_tool(APR_TRACE, "fixtures/qwen2", TOKENS, against("reference"), NULL);
    assert_true(a.exit == 1 && test_says(&a.out, "first divergence: layer 0, stage ffn_up, index "));
    test_answer_free(&a);
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, against("reference"), "--threshold=-1"));
}

static void a_trace_of_other_tokens_is_told_by_its_sizes(void **state)
{
    (void)state;
    json_decref(TRACED("fixtures/qwen2", 0, "--tokens=1,2", "--save-tensor=attn_norm,lm_head", into("other")));
    json_t *const r = TRACED("fixtures/qwen2", 1, TOKENS, against("other"));
    expect_text("sizes", r, "first_divergence.stage", "attn_norm");
    expect_text("sizes", r, "first_divergence.index", "null");
    expect_text("sizes", r, "stages.0.count_in_reference", "128");
    json_decref(r);
    struct test_answer a = test_tool(APR_TRACE, "fixtures/qwen2", TOKENS, against("other"), NULL);
    assert_true(a.exit == 1 && test_says(&a.out, "256 values here, 128 there"));
    test_answer_free(&a);
}

static void stages_on_one_side_alone_are_told(void **state)
{
    (void)state;
    json_decref(TRACED("fixtures/qwen2", 0, TOKENS, "--save-tensor=attn_norm,lm_head", into("some")));
    text_file("some/layer-0/moe_router.bin", "");
    const unsigned char one[] = { 'A', 'P', 'R', 'T', 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 };
    test_file("some/layer-0/moe_router.bin", one, sizeof one);
    json_t *const r = TRACED("fixtures/qwen2", 0, TOKENS, against("some"), "--save-tensor=ffn_norm,lm_head", into("some2"));
    expect_text("sides", r, "only_in_reference", "[\"layer-0/moe_router\"]");
    expect_text("sides", r, "only_here", "[\"layer-0/ffn_norm\",\"layer-1/ffn_norm\"]");
    json_decref(r);
    expect_exit(test_tool(APR_TRACE, "fixtures/qwen2", TOKENS, against("some"), "--save-tensor=all", into("some"), NULL), 2,
                "it is being read");
}

/* ---- what is not finite --------------------------------------------------------------------------------------------- */

/* Puts a BF16 into the element of a tensor, wherever it is in a checkpoint. */
static void poison(const char *folder, const char *tensor, size_t element, unsigned bits)
{
    char path[512], key[256];
    snprintf(key, sizeof key, "\"%s\":", tensor);
    for (unsigned i = 1; i <= 3; i++) {
        snprintf(path, sizeof path, "%s/model-0000%u-of-00003.safetensors", folder, i);
        struct test_bytes b = test_load(test_path(path));
        const size_t header = b.at[0] | (size_t)b.at[1] << 8 | (size_t)b.at[2] << 16;
        const char *const entry = memmem(b.at + 8, header, key, strlen(key));
        const char *const offsets = entry == NULL ? NULL : strstr(entry, "\"data_offsets\":[");
        if (offsets != NULL) {
            const size_t at_byte = 8 + header + strtoul(offsets + strlen("\"data_offsets\":["), NULL, 10) + 2 * element;
            b.at[at_byte] = (unsigned char)bits;
            b.at[at_byte + 1] = (unsigned char)(bits >> 8);
            test_file(path, b.at, b.n);
        }
        test_free(&b);
    }
}

static void a_weight_that_is_no_number_is_named_where_it_first_shows(void **state)
{
    (void)state;
    static const struct { const char *tensor; size_t element; const char *layer, *stage, *position, *index; } rows[] = {
        { "model.layers.1.mlp.gate_proj.weight", 3 * 64 + 7, "1", "ffn_gate", "0", "3" },
        { "model.layers.0.self_attn.v_proj.weight", 5 * 64, "0", "qkv_matmul", "0", "101" },
        { "model.embed_tokens.weight", 42 * 64 + 9, "0", "embedding", "2", "9" },
        { "lm_head.weight", 95 * 64, "whole-model", "lm_head", "3", "95" },
        { "model.layers.1.input_layernorm.weight", 8, "1", "attn_norm", "0", "8" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const model = checkpoint("poisoned", NULL);
        poison("poisoned", rows[i].tensor, rows[i].element, NAN_BITS);
        json_t *const r = TRACED(model, 1, TOKENS, "--stop-at-nan", "--greedy=2");
        expect_text(rows[i].tensor, r, "first_nonfinite.layer", rows[i].layer);
        expect_text(rows[i].tensor, r, "first_nonfinite.stage", rows[i].stage);
        expect_text(rows[i].tensor, r, "first_nonfinite.position", rows[i].position);
        expect_text(rows[i].tensor, r, "first_nonfinite.index", rows[i].index);
        expect_text(rows[i].tensor, r, "first_nonfinite.value", "nan");
        assert_non_null(strstr(text_of(r, "first_nonfinite.culprit"), rows[i].tensor));
        json_decref(r);
    }
    expect_exit(test_tool(APR_TRACE, "fixtures/qwen2", TOKENS, "--stop-at-nan", NULL), 0, NULL);
}

/* Token 56 comes second; its row of the embedding is looked up when it is run, and what came before it is told. */
static void it_is_found_among_the_tokens_that_are_made_too(void **state)
{
    (void)state;
    static const struct { const char *tensor; size_t element; unsigned bits; const char *stage, *position, *index, *greedy; } rows[] = {
        { "model.embed_tokens.weight", 56 * 64 + 9, NAN_BITS, "embedding", "5", "9", "[61,56]" },
        { "model.embed_tokens.weight", 61 * 64, 0x7F80, "embedding", "4", "0", "[61]" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const model = checkpoint("later", NULL);
        poison("later", rows[i].tensor, rows[i].element, rows[i].bits);
        json_t *const r = TRACED(model, 1, TOKENS, "--stop-at-nan", "--greedy=6");
        expect_text("layer", r, "first_nonfinite.layer", "0");
        expect_text("stage", r, "first_nonfinite.stage", rows[i].stage);
        expect_text("position", r, "first_nonfinite.position", rows[i].position);
        expect_text("index", r, "first_nonfinite.index", rows[i].index);
        expect_text("the tokens before it", r, "greedy", rows[i].greedy);
        json_decref(r);
        json_decref(TRACED(model, 2, TOKENS, "--greedy=6"));
    }
    json_t *const r = TRACED("fixtures/qwen2", 0, TOKENS, "--stop-at-nan", "--greedy=6");
    expect_text("a sound model", r, "greedy", "[61,56,92,69,44,44]");
    expect_text("a sound model", r, "first_nonfinite", "null");
    json_decref(r);
}

/* The run ends there; what came before, and the stage itself, are saved. */
static void what_came_before_it_is_saved(void **state)
{
    (void)state;
    const char *const model = checkpoint("stopped", NULL);
    poison("stopped", "model.layers.1.mlp.gate_proj.weight", 0, 0xFF80); /* -inf */
    json_t *const r = TRACED(model, 1, TOKENS, "--stop-at-nan", "--save-tensor=ffn_norm,ffn_gate,ffn_up,lm_head", into("until"));
    assert_int_equal(json_array_size(at(r, "saved")), 5);
    assert_int_equal(files_in("until/layer-1"), 2);
    assert_true(json_integer_value(at(r, "stages.4.inf_count")) > 0);
    json_decref(r);
}

/* ---- weights -------------------------------------------------------------------------------------------------------- */

static void weights_are_saved_as_floats_or_as_they_are(void **state)
{
    (void)state;
    json_t *r = TRACED("fixtures/qwen2", 0, "--save-weights=model.layers.1.mlp.up_proj.weight", "--raw", into("raw"));
    expect_text("one tensor", r, "tokens", "[]");
    assert_int_equal(json_array_size(at(r, "saved")), 1);
    json_decref(r);
    r = TRACED("fixtures/qwen2", 0, "--save-weights=*.up_proj.*", "--save-weights=re:^lm_head", into("floats"));
    assert_int_equal(json_array_size(at(r, "saved")), 3);
    json_decref(r);
    struct test_bytes raw = test_load(test_path("raw/model.layers.1.mlp.up_proj.weight.raw"));
    struct test_bytes npy = test_load(test_path("floats/model.layers.1.mlp.up_proj.weight.npy"));
    assert_int_equal(raw.n, 2 * 96 * 64);
    assert_int_equal(npy.n, 128 + 4 * 96 * 64);
    assert_true(test_says(&npy, "") && strstr((const char *)npy.at + 10, "'shape': (96, 64), }") != NULL);
    for (size_t i = 0; i < 96 * 64; i++)
        assert_true(npy.at[128 + 4 * i] == 0 && npy.at[129 + 4 * i] == 0 && memcmp(npy.at + 130 + 4 * i, raw.at + 2 * i, 2) == 0);
    test_free(&raw);
    test_free(&npy);
}

/* Of any model: names that lead elsewhere lead nowhere, doubles become floats, a scalar is one. */
static void every_tensor_is_a_file_of_the_folder(void **state)
{
    (void)state;
    static const double wide[] = { 1, 1e-300 };
    static const float one = 2.5f;
    const struct test_tensor t[] = { { "../a/b%", "F64", "[2]", wide, sizeof wide }, { "s", "F32", "[]", &one, sizeof one },
                                     { "none", "F32", "[0,3]", "", 0 } };
    json_decref(TRACED(test_safetensors("odd.safetensors", t, APR_LENGTH(t)), 0, "--save-weights=*", into("odd")));
    assert_int_equal(files_in("odd"), 3);
    struct test_bytes b = test_load(test_path("odd/%2E.%2Fa%2Fb%25.npy"));
    static const float narrow[] = { 1, 0 };
    assert_memory_equal(b.at + 128, narrow, sizeof narrow);
    test_free(&b);
    b = test_load(test_path("odd/s.npy"));
    assert_true(strstr((const char *)b.at + 10, "'shape': (), }") != NULL && memcmp(b.at + 128, &one, sizeof one) == 0);
    test_free(&b);
    b = test_load(test_path("odd/none.npy"));
    assert_true(strstr((const char *)b.at + 10, "'shape': (0, 3), }") != NULL && b.n == 128);
    test_free(&b);
}

/* ---- other models --------------------------------------------------------------------------------------------------- */

static void a_classic_model_takes_features(void **state)
{
    (void)state;
    static const float weight[] = { 1, 2, 3, -1, 0.5f, 4 }, bias[] = { 0.25f, -1 };
    const struct test_tensor t[] = { { "bias", "F32", "[2]", bias, sizeof bias }, { "weight", "F32", "[2,3]", weight, sizeof weight } };
    json_t *const r = TRACED(test_safetensors("linear.safetensors", t, 2), 0, "--features=1, 2,-1");
    expect_text("linear", r, "family", "linear");
    expect_text("linear", r, "features", "[1,2,-1]");
    expect_text("linear", r, "logits.argmax", "0");
    expect_text("linear", r, "logits.top_k.0.logit", "2.25");
    expect_text("linear", r, "logits.top_k.1.logit", "-5");
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_tokens_are_those_of_transformers_from_every_format),
        cmocka_unit_test(greedy_tokens_are_those_of_transformers),
        cmocka_unit_test(logits_of_all_positions_are_had_by_positions),
        cmocka_unit_test(stages_are_those_of_transformers),
        cmocka_unit_test(the_report_describes_what_was_saved),
        cmocka_unit_test(a_npy_file_holds_the_same_values_in_their_shape),
        cmocka_unit_test(positions_and_layers_cut_without_changing_a_byte),
        cmocka_unit_test(threads_and_isa_change_nothing),
        cmocka_unit_test(the_first_stage_that_differs_is_named_in_computation_order),
        cmocka_unit_test(a_trace_of_other_tokens_is_told_by_its_sizes),
        cmocka_unit_test(stages_on_one_side_alone_are_told),
        cmocka_unit_test(a_weight_that_is_no_number_is_named_where_it_first_shows),
        cmocka_unit_test(it_is_found_among_the_tokens_that_are_made_too),
        cmocka_unit_test(what_came_before_it_is_saved),
        cmocka_unit_test(weights_are_saved_as_floats_or_as_they_are),
        cmocka_unit_test(every_tensor_is_a_file_of_the_folder),
        cmocka_unit_test(a_classic_model_takes_features),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
