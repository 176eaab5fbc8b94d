/* apr-diff: what belongs to what between two checkpoints of a family, and what the absence of a match means. */
#include "diff.h"

#define SIDE 4u
#define ONE  (SIDE * SIDE)

static json_t *diff(const char *a, const char *b, int exit)
{
    return report_of(test_tool(APR_DIFF, "--json", "--top=2", "--threshold=-1", "--max-scale=1e9", a, b, NULL), exit);
}

/* Every worst element stands in B where it is said to. */
static void expect_places(const json_t *report, const struct test_tensor *b, size_t n)
{
    size_t i, k, seen = 0;
    json_t *row, *top;
    json_array_foreach(at(report, "results"), i, row)
        json_array_foreach(at(row, "top"), k, top) {
            const json_t *const index = at(top, "index_b");
            size_t t = 0, place = 0;
            while (t < n && strcmp(b[t].name, text_of(top, "name_b")) != 0)
                t++;
            assert_true(t < n);
            for (size_t d = 0; d < json_array_size(index); d++) {
                const size_t rows = json_array_size(index) == 3 && d == 1 ? b[t].n / 4 / SIDE / 2 : SIDE; /* of two experts in one */
                place = place * rows + (size_t)json_integer_value(json_array_get(index, d));
            }
            assert_true(place < b[t].n / 4);
            if (((const float *)b[t].data)[place] != (float)json_number_value(at(top, "b")))
                fail_msg("%s: %s is not at %s of %s", text_of(row, "name"), text_of(top, "b"), text_of(top, "index_b"), b[t].name);
            seen++;
        }
    assert_true(seen > 0);
}

#define EXPERTS  "model.layers.0.mlp.experts."
#define QWEN3MOE "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\",\"num_experts\":2,\"moe_intermediate_size\":4,\"hidden_size\":4}"

/* All numbers are different, so that a number tells its place. Fused: expert by expert, gate above up. */
static void experts_fused_or_not_are_one_model_and_places_are_those_of_the_part(void **state)
{
    (void)state;
    static float split[6][ONE], up_gate[4 * ONE], down[2 * ONE];
    static const char *const names[] = { EXPERTS "0.gate_proj.weight", EXPERTS "0.up_proj.weight", EXPERTS "0.down_proj.weight",
                                         EXPERTS "1.gate_proj.weight", EXPERTS "1.up_proj.weight", EXPERTS "1.down_proj.weight" };
    struct test_tensor one[6];
    for (size_t i = 0; i < 6; i++) {
        for (size_t k = 0; k < ONE; k++)
            split[i][k] = (float)(100 * i + k + 1);
        memcpy(i % 3 == 2 ? down + i / 3 * ONE : up_gate + (i / 3 * 2 + i % 3) * ONE, split[i], sizeof split[i]);
        one[i] = (struct test_tensor){ names[i], "F32", "[4,4]", split[i], sizeof split[i] };
    }
    const struct test_tensor fused[] = { { EXPERTS "gate_up_proj", "F32", "[2,8,4]", up_gate, sizeof up_gate },
                                         { EXPERTS "down_proj", "F32", "[2,4,4]", down, sizeof down } };
    const char *const a = test_checkpoint("split", QWEN3MOE, one, 6), *const same = test_checkpoint("fused", QWEN3MOE, fused, 2);
    for (int turned = 0; turned < 2; turned++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", turned ? same : a, turned ? a : same, NULL), 0);
        expect_text("one model", r, "tensors_compared", turned ? "2" : "6");
        expect_text("one model", r, "identical_count", turned ? "2" : "6");
        json_decref(r);
    }
    for (size_t i = 0; i < 4 * ONE; i += 7)
        up_gate[i] += 0.25f + (float)i;
    for (size_t i = 0; i < 2 * ONE; i += 5)
        down[i] -= 0.25f + (float)i;
    const char *const other = test_checkpoint("other", QWEN3MOE, fused, 2);
    json_t *r = diff(a, other, 0);
    expect_places(r, fused, 2);
    expect_text("an expert", r, "results.0.name", EXPERTS "0.down_proj.weight");
    expect_text("an expert", r, "results.1.parts_b", "[\"" EXPERTS "gate_up_proj\"]");
    expect_text("an expert", r, "results.1.transform", "stack+split_rows");
    json_decref(r);
    r = diff(other, a, 0);
    expect_places(r, one, 6);
    expect_text("all experts", r, "results.1.parts_b", "[\"" EXPERTS "0.gate_proj.weight\",\"" EXPERTS "0.up_proj.weight\",\"" EXPERTS
                                                       "1.gate_proj.weight\",\"" EXPERTS "1.up_proj.weight\"]");
    json_decref(r);
}

#define GEMMA3 "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"model_type\":\"gemma3\"}"
#define TOWER  "vision_tower.encoder.layers.0.q_proj.weight"

static void towers_and_buffers_are_told_apart_between_checkpoints(void **state)
{
    (void)state;
    static const float ones[ONE] = { 1, 2, 3, 4 }, zeros[ONE];
    static const struct test_tensor norm[] = { { "language_model.model.norm.weight", "F32", "[4]", ones, 16 },
                                               { TOWER, "F32", "[4,4]", ones, sizeof ones },
                                               { "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", "[4]", ones, 16 } };
    static const struct test_tensor spelled[] = { { "model.language_model.norm.weight", "F32", "[4]", ones, 16 },
                                                  { "model." TOWER, "F32", "[4,4]", ones, sizeof ones } };
    static const struct test_tensor zeroed[] = { { "model.language_model.norm.weight", "F32", "[4]", ones, 16 },
                                                 { "model." TOWER, "F32", "[4,4]", zeros, sizeof zeros } };
    const char *const whole = test_checkpoint("whole", GEMMA3, norm, 3), *const lost = test_checkpoint("lost", GEMMA3, norm, 1);
    const char *const other = test_checkpoint("spelled", GEMMA3, spelled, 2), *const nothing = test_checkpoint("zeroed", GEMMA3, zeroed, 2);
    const struct {
        const char *what, *a, *b, *only_a, *excused;
        int         exit;
    } table[] = {
        { "two spellings", whole, other, "[\"model.layers.0.self_attn.rotary_emb.inv_freq\"]",
          "[{\"side\":\"a\",\"name\":\"model.layers.0.self_attn.rotary_emb.inv_freq\",\"reason\":\"recomputed\"}]", 0 },
        { "a lost tower", other, lost, "[\"model." TOWER "\"]", "[]", 1 },
        { "a tower of zeros", other, nothing, "[]", "[]", 1 },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", table[i].a, table[i].b, NULL), table[i].exit);
        expect_text(table[i].what, r, "only_in_a", table[i].only_a);
        expect_text(table[i].what, r, "excused", table[i].excused);
        json_decref(r);
    }
}

/* A token more on one side: its row is in no number, whichever side has it. */
static void rows_that_one_side_lacks_are_left_out_and_counted(void **state)
{
    (void)state;
    static const float rows[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    static const struct test_tensor more = { "model.embed_tokens.weight", "F32", "[3,4]", rows, 48 },
                                    less = { "model.embed_tokens.weight", "F32", "[2,4]", rows, 32 };
    static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"tie_word_embeddings\":true}";
    const char *const a = test_checkpoint("more", config, &more, 1), *const b = test_checkpoint("less", config, &less, 1);
    for (int turned = 0; turned < 2; turned++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", turned ? b : a, turned ? a : b, NULL), 0);
        expect_text("the embedding", r, "results.0.rows_left_out", "1");
        expect_text("the embedding", r, "results.0.element_count", "8");
        expect_text("the embedding", r, "results.0.status", "Identical");
        json_decref(r);
    }
}

/* Codes of FP8 that stand for 1 2 3 4, and a scale. */
static void packed_weights_are_compared_by_values_or_when_asked_by_codes(void **state)
{
    (void)state;
    static const float values[] = { .5f, 1, 1.5f, 2 }, half = .5f, wrong = .75f;
    static const struct test_tensor norm = { "model.norm.weight", "F32", "[4]", values, 16 };
    static const struct test_tensor plain = { "m.weight", "F32", "[2,2]", values, 16 };
    struct test_tensor packed[] = { { "m.weight", "F8_E4M3", "[2,2]", "\x38\x40\x44\x48", 4 },
                                    { "m.weight_scale_inv", "F32", "[1,1]", &half, 4 } };
    static const char config[] =
        "{\"model_type\":\"llama\",\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}}";
    const char *const a = test_checkpoint("plain", "{\"model_type\":\"llama\"}", &plain, 1);
    const char *const b = test_checkpoint("packed", config, packed, 2);
    json_t *r = report_of(test_tool(APR_DIFF, "--json", a, b, NULL), 0);
    expect_text("packed", r, "results.0.dtype_b", "FP8_BLOCK");
    expect_text("packed", r, "results.0.status", "Identical");
    assert_null(json_object_get(r, "note"));
    json_decref(r);
    packed[1].data = &wrong;
    r = report_of(test_tool(APR_DIFF, "--json", a, test_checkpoint("wrong", config, packed, 2), NULL), 1);
    expect_text("a wrong scale", r, "results.0.failed.0", "scale");
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", "--raw-codes", b, b, NULL), 0);
    assert_int_equal(json_array_size(json_object_get(r, "results")), 2);
    expect_text("codes", r, "note", "codes compared, scales not applied");
    json_decref(r);
    struct test_answer text = test_tool(APR_DIFF, "--raw-codes", b, b, NULL);
    assert_true(test_says(&text.out, "\nnote: codes compared, scales not applied\nverdict: "));
    test_answer_free(&text);
    packed[0].name = "m.weight_packed";
    packed[1].name = "m.weight_scale";
    packed[0].dtype = "I32";
    packed[0].shape = "[1,1]";
    packed[1].shape = "[1,1,1]";
    static const char nine_bits[] = "{\"quantization_config\":{\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":9}}}}}";
    const char *const misfit = test_checkpoint("misfit", nine_bits, packed, 2);
    expect_exit(test_tool(APR_DIFF, misfit, misfit, NULL), 0, "codes are compared as they are stored");
    const char *const good = test_checkpoint("good", "{\"model_type\":\"llama\"}", &norm, 1);
    expect_exit(test_tool(APR_DIFF, good, test_checkpoint("broken", "{", &norm, 1), NULL), 0, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_fused_or_not_are_one_model_and_places_are_those_of_the_part),
        cmocka_unit_test(towers_and_buffers_are_told_apart_between_checkpoints),
        cmocka_unit_test(rows_that_one_side_lacks_are_left_out_and_counted),
        cmocka_unit_test(packed_weights_are_compared_by_values_or_when_asked_by_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
