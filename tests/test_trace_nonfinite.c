/* apr-trace: values that are no numbers, the weights they come from, and answers that are not what they look like. */
#include "trace.h"

static void expect_culprit(const char *model, const char *stage, const char *culprit)
{
    json_t *const r = TRACED(model, 1, MOE_TOKENS, "--stop-at-nan");
    expect_text(culprit, r, "first_nonfinite.stage", stage);
    expect_text(culprit, r, "first_nonfinite.culprit", culprit);
    json_decref(r);
}

/* The same weight in a checkpoint, where experts are tensors of their own, and in a GGUF, where they are one. */
static void the_weight_behind_a_nan_is_named_wherever_it_lies(void **state)
{
    (void)state;
#define HOLDS(name, element) "tensor \"" name "\" holds nan, its element " element
#define M1                   "model.layers.1.mlp."
    static const struct { const char *tensor; size_t element; const char *stage, *hf, *gguf; } rows[] = {
        { M1 "gate.weight", 3 * 16 + 7, "moe_router", HOLDS(M1 "gate.weight", "[3, 7]"), HOLDS("blk.1.ffn_gate_inp.weight", "[3, 7]") },
        { M1 "shared_expert.up_proj.weight", 5 * 16 + 7, "ffn_out", HOLDS(M1 "shared_expert.up_proj.weight", "[5, 7]"),
          HOLDS("blk.1.ffn_up_shexp.weight", "[5, 7]") },
        { M1 "shared_expert_gate.weight", 7, "ffn_out", HOLDS(M1 "shared_expert_gate.weight", "[0, 7]"),
          HOLDS("blk.1.ffn_gate_inp_shexp.weight", "[0, 7]") },
        { "model.layers.0.self_attn.k_proj.bias", 5, "qkv_bias", HOLDS("model.layers.0.self_attn.k_proj.bias", "[5]"),
          HOLDS("blk.0.attn_k.bias", "[5]") },
        { "model.layers.1.post_attention_layernorm.weight", 5, "ffn_norm",
          HOLDS("model.layers.1.post_attention_layernorm.weight", "[5]"), HOLDS("blk.1.ffn_norm.weight", "[5]") },
        { "model.embed_tokens.weight", 9 * 16 + 2, "embedding", HOLDS("model.embed_tokens.weight", "[9, 2]"),
          HOLDS("token_embd.weight", "[9, 2]") },
        { "lm_head.weight", 31 * 16, "lm_head", HOLDS("lm_head.weight", "[31, 0]"), HOLDS("output.weight", "[31, 0]") },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const model = damaged("poisoned", rows[i].tensor, rows[i].element, 1, NAN);
        expect_culprit(model, rows[i].stage, rows[i].hf);
        expect_culprit(CONVERTED(model, "poisoned.gguf", "--force"), rows[i].stage, rows[i].gguf);
    }
}

/* Only those that a position goes through have a part in it: the other ones may hold what they like. */
static void of_experts_those_are_named_that_are_gone_through(void **state)
{
    (void)state;
    json_t *const sound = TRACED(MOE, 0, "--tokens=1", "--save-tensor=moe_router_indices", "--layer=0", into("routes"));
    json_decref(sound);
    float *x;
    size_t n;
    bool taken[6] = { false };
    struct test_bytes b = saved_values("routes/layer-0/moe_router_indices.bin", 0, &x, &n);
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++)
        taken[(size_t)x[i]] = true;
    test_free(&b);
    for (unsigned k = 0; k < 6; k++) {
        char tensor[128], culprit[256];
        snprintf(tensor, sizeof tensor, "model.layers.0.mlp.experts.%u.down_proj.weight", k);
        const char *const model = damaged("expert", tensor, 5 * 12 + 7, 1, NAN);
        json_t *r = TRACED(model, taken[k] ? 1 : 0, "--tokens=1", "--stop-at-nan");
        if (taken[k]) {
            snprintf(culprit, sizeof culprit, HOLDS("%s", "[5, 7], of expert %u"), tensor, k);
            expect_text(tensor, r, "first_nonfinite.stage", "moe_ffn_out");
            expect_text(tensor, r, "first_nonfinite.culprit", culprit);
            json_decref(r);
            r = TRACED(CONVERTED(model, "expert.gguf", "--force"), 1, "--tokens=1", "--stop-at-nan");
            snprintf(culprit, sizeof culprit, HOLDS("blk.0.ffn_down_exps.weight", "[%u, 5, 7], of expert %u"), k, k);
            expect_text(tensor, r, "first_nonfinite.culprit", culprit);
        }
        json_decref(r);
    }
}

/* ---- answers -------------------------------------------------------------------------------------------------------- */

static void logits_of_nan_are_remarked_on(void **state)
{
    (void)state;
    const char *const model = damaged("nan", "model.layers.1.self_attn.k_proj.bias", 3, 1, NAN);
    json_t *r = TRACED(model, 0, MOE_TOKENS);
    expect_text("all", r, "logits.argmax", "null");
    expect_text("all", r, "logits.nan_count", "32");
    expect_text("all", r, "logits.inf_count", "0");
    json_decref(r);
    expect_exit(test_tool(APR_TRACE, model, MOE_TOKENS, NULL), 0,
                "of 32 logits 32 are no number: --stop-at-nan finds where they begin");
    struct test_answer a = test_tool(APR_TRACE, model, MOE_TOKENS, "--quiet", NULL);
    assert_int_equal(a.err.n, 0);
    expect_exit(a, 0, NULL);
    r = TRACED(damaged("one", "lm_head.weight", 31 * 16, 1, NAN), 0, MOE_TOKENS, "--top=32");
    expect_text("one", r, "logits.nan_count", "1");
    expect_text("one comes last", r, "logits.top_k.31.token_id", "31");
    json_decref(r);
}

static void a_head_that_is_not_run_is_told(void **state)
{
    (void)state;
    const char *const model = CONVERTED("fixtures/forward/bert", "cls/", "--rename=pooler.dense.weight=classifier.dense.weight");
    json_t *r = TRACED(model, 0, MOE_TOKENS);
    expect_text("a classifier", r, "embedding.head", "ignored");
    expect_text("a classifier", r, "embedding.head_tensor", "classifier.dense.weight");
    json_decref(r);
    struct test_answer a = test_tool(APR_TRACE, model, MOE_TOKENS, NULL);
    assert_true(test_says(&a.out, "not its labels: the classifier's head, classifier.dense.weight, is ignored"));
    test_answer_free(&a);
    r = TRACED("fixtures/forward/bert", 0, MOE_TOKENS);
    assert_null(json_object_get(at(r, "embedding"), "head"));
    json_decref(r);
}

/* Byte 255 begins nothing, and is a token of every vocabulary of bytes. */
static void a_token_that_is_no_text_has_its_bytes(void **state)
{
    (void)state;
    json_t *const r = TRACED(checkpoint("bytes", "bpe"), 0, TOKENS, "--top=96");
    const json_t *const top = at(r, "logits.top_k");
    size_t with = 0;
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *const row = json_array_get(top, i);
        const char *const bytes = json_string_value(json_object_get(row, "bytes"));
        assert_true((bytes != NULL) == (strstr(json_string_value(json_object_get(row, "text")), "\xEF\xBF\xBD") != NULL));
        assert_true(bytes == NULL || (strlen(bytes) % 2 == 0 && bytes[0] >= '8')); /* not ASCII */
        with += bytes != NULL;
    }
    assert_true(with > 0);
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_weight_behind_a_nan_is_named_wherever_it_lies),
        cmocka_unit_test(of_experts_those_are_named_that_are_gone_through),
        cmocka_unit_test(logits_of_nan_are_remarked_on),
        cmocka_unit_test(a_head_that_is_not_run_is_told),
        cmocka_unit_test(a_token_that_is_no_text_has_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
