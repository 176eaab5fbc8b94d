/* apr-merge and adapters of low rank: what PEFT's configuration makes of them, and what is no adapter of the model. */
#include "diff.h"

#include <unistd.h>

#define MERGE "apr-merge"
#define ROWS  2
#define COLS  3

static const float weight[ROWS * COLS] = { 1, 2, 3, 4, 5, 6 }, a[2 * COLS] = { 1, 0, 2, 0, 1, -1 }, b[ROWS * 2] = { 1, 2, 3, -1 };

/* A model of one matrix, and an adapter of rank 2 for it. */
static const char *model(void)
{
    const struct test_tensor t = { "model.layers.0.self_attn.q_proj.weight", "F32", "[2,3]", weight, sizeof weight };
    return test_safetensors("model.safetensors", &t, 1);
}

#define MODULE "base_model.model.model.layers.0.self_attn.q_proj"
static const struct test_tensor pair[] = { { MODULE ".lora_A.weight", "F32", "[2,3]", a, sizeof a },
                                           { MODULE ".lora_B.weight", "F32", "[2,2]", b, sizeof b } };

static const char *adapter(const char *config, const struct test_tensor *t, size_t n)
{
    test_file("adapter/adapter_config.json", config, strlen(config));
    test_safetensors("adapter/adapter_model.safetensors", t, n);
    return test_path("adapter");
}

static struct test_answer merged(const char *lora)
{
    unlink(test_path("out.safetensors"));
    return test_tool(MERGE, "--method", "linear", "--weight", "1", model(), "--lora", lora, test_path("out.safetensors"), NULL);
}

/* The last bytes of the file are the matrix. B A = { 1 2 0, 3 -1 7 } */
static void expect_factor(const char *lora, float factor, const char *what)
{
    static const float product[ROWS * COLS] = { 1, 2, 0, 3, -1, 7 };
    float want[ROWS * COLS];
    for (size_t i = 0; i < ROWS * COLS; i++)
        want[i] = weight[i] + factor * product[i];
    expect_exit(merged(lora), 0, NULL);
    struct test_bytes file = test_load(test_path("out.safetensors"));
    if (memcmp(file.at + file.n - sizeof want, want, sizeof want) != 0)
        fail_msg("%s: the matrix is another", what);
    test_free(&file);
}

static void the_factor_is_what_the_configuration_says(void **state)
{
    (void)state;
    static const struct { const char *config; float factor; } row[] = {
        { "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"use_rslora\": false, \"alpha_pattern\": {}}", 2 },
        { "{\"r\": 2, \"lora_alpha\": 1, \"rank_pattern\": null}", .5f },
        { "{\"r\": 2}", 1 },
        { "{\"r\": 8, \"lora_alpha\": 4, \"rank_pattern\": {\"q_proj\": 2}}", 2 },
        { "{\"r\": 2, \"lora_alpha\": 4, \"alpha_pattern\": {\"k_proj\": 1, \"layers.0.*q_proj\": 6, \"q_proj\": 8}}", 3 },
        { "{\"r\": 2, \"lora_alpha\": 4, \"alpha_pattern\": {\"proj\": 6}}", 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++)
        expect_factor(adapter(row[i].config, pair, 2), row[i].factor, row[i].config);
    char scaled[256];
    snprintf(scaled, sizeof scaled, "%s:-0.5", adapter(row[0].config, pair, 2));
    expect_factor(scaled, -1, "a scale");
}

static void a_configuration_that_says_something_else_is_refused(void **state)
{
    (void)state;
    static const struct { const char *config, *says; } row[] = {
        { "[]", "lora_alpha" },
        { "{}", "lora_alpha" },
        { "{\"r\": 0, \"lora_alpha\": 4}", "not 0" },
        { "{\"r\": \"2\", \"lora_alpha\": 4}", "r is no number" },
        { "{\"r\": 4, \"lora_alpha\": 4}", "has rank 2, adapter_config.json says 4" },
        { "{\"r\": 2, \"lora_alpha\": \"4\"}", "lora_alpha is no number" },
        { "{\"r\": 2, \"lora_alpha\": null}", "lora_alpha is no number" },
        { "{\"r\": 2, \"lora_alpha\": NaN}", "NaN" },
        { "{\"r\": 2, \"lora_alpha\": 4, \"use_rslora\": \"yes\"}", "use_rslora" },
        { "{\"r\": 2, \"lora_alpha\": 4, \"alpha_pattern\": {\"q_proj\": \"8\"}}", "alpha_pattern" },
        { "{\"r\": 2, \"lora_alpha\": 4, \"alpha_pattern\": [8]}", "alpha_pattern" },
        { "{\"r\": 2, \"lora_alpha\": 4, \"rank_pattern\": {\"(\": 8}}", "its expression \"(\"" },
        { "{\"r\": 2, \"lora_alpha\": 4, \"alpha_pattern\": {\"(q)\\\\1\": 8}}", "back references" },
        { "{\"r\": 2, \"lora_alpha\": 4, \"peft_type\": \"IA3\"}", "IA3" },
        { "{\"r\": 2, \"lora_alpha\": 4, \"peft_type\": 3}", "LORA" },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        expect_exit(merged(adapter(row[i].config, pair, 2)), 2, row[i].says);
        assert_int_not_equal(access(test_path("out.safetensors"), F_OK), 0);
    }
}

static void what_does_not_belong_is_named(void **state)
{
    (void)state;
    static const char config[] = "{\"r\": 2, \"lora_alpha\": 4}";
    const struct test_tensor odd[] = { { MODULE ".lora_A.weight", "F32", "[3,2]", a, sizeof a },
                                       { "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight", "F32", "[2,3]", a, sizeof a },
                                       { MODULE ".lora_magnitude_vector", "F32", "[3]", a, 12 },
                                       { MODULE ".lora_B.bias", "F32", "[2]", b, 8 },
                                       { MODULE ".weight", "F32", "[2,2]", b, sizeof b } };
    const struct { struct test_tensor t[3]; size_t n; const char *says; } row[] = {
        { { pair[0] }, 1, "no counterpart lora_B" },
        { { pair[1] }, 1, "no counterpart lora_A" },
        { { odd[0], pair[1] }, 2, "do not fit" },
        { { pair[0], pair[1], odd[1] }, 3, "layers.7.mlp.up_proj" },
        { { pair[0], pair[1], odd[2] }, 3, "one number for each row" },
        { { odd[2] }, 1, "no counterpart lora_A" },
        { { pair[0], pair[1], odd[3] }, 3, "lora_B.bias" },
        { { odd[4] }, 1, "has not the shape" },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++)
        expect_exit(merged(adapter(config, row[i].t, row[i].n)), 2, row[i].says);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_factor_is_what_the_configuration_says),
        cmocka_unit_test(a_configuration_that_says_something_else_is_refused),
        cmocka_unit_test(what_does_not_belong_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
