/* apr-diff: what changes a forward pass beside the tensors is told, whichever way it is stated, and nothing else is. */
#include "diff.h"

static const float ones[] = { 1, 1, 1, 1 };

/* A checkpoint of one tensor with that config.json and, when it is not NULL, that tokenizer.json. */
static const char *checkpoint(const char *folder, const char *config, const char *tokenizer)
{
    static char path[2][256];
    static unsigned turn;
    char *const whole = path[turn++ % 2];
    char name[128];
    const struct test_tensor t = { "model.norm.weight", "F32", "[4]", ones, sizeof ones };
    snprintf(name, sizeof name, "%s/model.safetensors", folder);
    snprintf(whole, sizeof path[0], "%s", test_safetensors(name, &t, 1));
    *strrchr(whole, '/') = 0;
    snprintf(name, sizeof name, "%s/config.json", folder);
    test_file(name, config, strlen(config));
    snprintf(name, sizeof name, "%s/tokenizer.json", folder);
    if (tokenizer != NULL)
        test_file(name, tokenizer, strlen(tokenizer));
    return whole;
}

/* A value in few digits. */
static const char *brief(const json_t *d, const char *key)
{
    static char text[2][32];
    const json_t *const v = at(d, key);
    char *const out = text[key[0] == 'b'];
    snprintf(out, sizeof text[0], "%.9g", json_number_value(v));
    return json_is_real(v) ? out : text_of(d, key);
}

/* Each difference as "KEY_A KEY_B A B; ". */
static const char *differences(const json_t *report)
{
    static char text[2000];
    size_t i, n = 0;
    json_t *d;
    text[0] = 0;
    json_array_foreach(at(report, "config"), i, d)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s %s %s %s; ", text_of(d, "key_a"), text_of(d, "key_b"), brief(d, "a"),
                              brief(d, "b"));
    return text;
}

#define GPT_OSS "{\"architectures\":[\"GptOssForCausalLM\"],\"num_hidden_layers\":1,\"hidden_size\":4"
#define LLAMA "{\"architectures\":[\"LlamaForCausalLM\"],\"num_hidden_layers\":1,\"hidden_size\":4,\"num_attention_heads\":2"

static void two_folders_are_compared_by_what_their_configs_state(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *want;
    } table[] = {
        { LLAMA "}", LLAMA "}", "" },
        { LLAMA ",\"rope_theta\":10000}", LLAMA "}", "" }, /* the default */
        { LLAMA ",\"rope_theta\":10000.0}", LLAMA ",\"rope_parameters\":{\"rope_theta\":10000}}", "" },
        { LLAMA ",\"rope_theta\":500000}", LLAMA "}", "rope_theta null 500000 10000; " },
        { LLAMA ",\"rms_norm_eps\":1e-5}", LLAMA ",\"rms_norm_eps\":0.00001}", "" },
        { LLAMA ",\"rms_norm_eps\":1e-5}", LLAMA ",\"rms_norm_eps\":1e-6}", "rms_norm_eps rms_norm_eps 1e-05 1e-06; " },
        { LLAMA ",\"max_position_embeddings\":128}", LLAMA ",\"max_position_embeddings\":256}", "" }, /* changes nothing */
        { LLAMA ",\"hidden_act\":\"silu\"}", LLAMA ",\"hidden_act\":\"gelu\"}", "hidden_act hidden_act silu gelu; " },
        { LLAMA ",\"bos_token_id\":1}", LLAMA ",\"bos_token_id\":2}", "bos_token_id bos_token_id 1 2; " },
        { LLAMA ",\"bos_token_id\":1}", LLAMA "}", "" },
        { LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", LLAMA "}", "rope_scaling.rope_type null llama3 none; " },
        { LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":8}}", LLAMA ",\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":4}}",
          "rope_scaling.factor rope_scaling.factor 8 4; " },
        { LLAMA ",\"rope_scaling\":{\"rope_type\":\"default\"}}", LLAMA "}", "" },
        { GPT_OSS ",\"quantization_config\":{\"quant_method\":\"mxfp4\"}}", GPT_OSS "}", "" }, /* how values are packed */
        { "{\"architectures\":[\"NobodyKnows\"],\"rope_theta\":1}", "{\"architectures\":[\"NobodyKnows\"],\"rope_theta\":2}",
          "rope_theta rope_theta 1 2; " },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const a = checkpoint("a", table[i].a, NULL), *const b = checkpoint("b", table[i].b, NULL);
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", a, b, NULL), 0);
        if (strcmp(differences(r), table[i].want) != 0)
            fail_msg("%s against %s: %s", table[i].a, table[i].b, differences(r));
        json_decref(r);
    }
}

static void a_folder_is_held_against_a_gguf(void **state)
{
    (void)state;
#define QWEN2 "{\"architectures\":[\"Qwen2ForCausalLM\"],\"num_hidden_layers\":2,\"hidden_size\":64,\"intermediate_size\":96," \
              "\"num_attention_heads\":4,\"rms_norm_eps\":1e-06"
    static const struct {
        const char *config, *want;
    } table[] = {
        { QWEN2 ",\"num_key_value_heads\":2,\"rope_theta\":1000000,\"bos_token_id\":0,\"eos_token_id\":1}", "" },
        { QWEN2 ",\"num_key_value_heads\":2,\"rope_theta\":10000}", "rope_theta qwen2.rope.freq_base 10000 1000000; " },
        { QWEN2 ",\"num_key_value_heads\":2}", "null qwen2.rope.freq_base 10000 1000000; " },
        { QWEN2 ",\"num_key_value_heads\":4,\"rope_theta\":1000000}",
          "num_key_value_heads qwen2.attention.head_count_kv 4 2; " },
        { QWEN2 ",\"num_key_value_heads\":2,\"rope_theta\":1000000,\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2}}",
          "rope_scaling.rope_type null linear none; " },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const a = checkpoint("a", table[i].config, NULL);
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--subset", "--filter=blk.0.attn_q", a, "fixtures/qwen2-bf16.gguf", NULL), 0);
        if (strcmp(differences(r), table[i].want) != 0)
            fail_msg("%s: %s", table[i].config, differences(r));
        json_decref(r);
    }
    static const char *const healthy[] = { "fixtures/qwen2-bf16.gguf", "fixtures/qwen2-q8_0.gguf", "fixtures/qwen2.apr",
                                           "fixtures/qwen2" };
    for (size_t i = 0; i < APR_LENGTH(healthy); i++)
        for (size_t k = 0; k < APR_LENGTH(healthy); k++) {
            json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--subset", healthy[i], healthy[k], NULL), 0);
            expect_text(healthy[i], r, "config", "[]");
            json_decref(r);
        }
}

/* Of Llama 3's scaling a GGUF has the factors alone. */
static void factors_of_a_gguf_are_held_against_the_scaling_of_a_folder(void **state)
{
    (void)state;
    static const char own[] =
        "schema: apr-family/1\nfamily: factors\ndetect: {architectures: [FactorsForCausalLM], gguf: [factors]}\n"
        "dims:\n  theta: {keys: [rope_theta]}\n  D: {keys: [head_dim], default: 8}\n  rope_factor: {keys: [rope_scaling.factor]}\n"
        "  rope_low: {default: 1}\n  rope_high: {default: 4}\n  rope_orig: {keys: [rope_scaling.original_max_position_embeddings]}\n"
        "  rope_kind: {keys: [rope_scaling.rope_type], type: str, default: \"'none'\"}\n"
        "tensors:\n  - {role: token_embd, hf: model.norm.weight, gguf: token_embd.weight, shape: [4]}\n"
        "generated:\n  - {role: rope_freqs, gguf: rope_freqs.weight, shape: [D/2], dtype: f32, op: llama3_rope_factors,\n"
        "     when: rope_kind == 'llama3'}\n"
        "kv:\n  - {gguf: general.architecture, type: str, const: factors}\n"
        "  - {gguf: \"{a}.rope.freq_base\", type: f32, expr: theta, hf: rope_theta}\n";
#define FACTORS(factor, original) \
    "{\"architectures\":[\"FactorsForCausalLM\"],\"rope_theta\":1000000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":" factor \
    ",\"original_max_position_embeddings\":" original "}}"
    static const struct {
        const char *config, *want;
    } table[] = {
        { FACTORS("16", "64"), "" },
        { FACTORS("16", "32"), "" }, /* which gives the same */
        { FACTORS("8", "64"), "rope_scaling.rope_type rope_freqs.weight 8 16; " },
        { FACTORS("16", "8192"), "rope_scaling.rope_type rope_freqs.weight 1 16; " },
    };
    char family[256], gguf[256];
    test_file("factors.yaml", own, strlen(own));
    snprintf(family, sizeof family, "--family-file=%s", test_path("factors.yaml"));
    snprintf(gguf, sizeof gguf, "%s", test_path("factors.gguf"));
    struct test_answer made = test_tool("apr-convert", family, checkpoint("a", table[0].config, NULL), gguf, NULL);
    assert_int_equal(made.exit, 0);
    test_answer_free(&made);
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", family, checkpoint("b", table[i].config, NULL), gguf, NULL), 0);
        if (strcmp(differences(r), table[i].want) != 0)
            fail_msg("%s: %s", table[i].config, differences(r));
        json_decref(r);
    }
}

/* A tokenizer.json of byte-level BPE with those members of its vocabulary, and merges. */
#define BPE(vocab, merges) "{\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[" merges "]}}"

/* Lists of config.json, or what a contract makes of them, against the arrays of a GGUF; a number is a list of it. */
static void lists_are_compared_by_their_elements(void **state)
{
    (void)state;
    static const char own[] =
        "schema: apr-family/1\nfamily: lists\ndetect: {architectures: [ListsForCausalLM]}\n"
        "dims:\n  N: {keys: [num_hidden_layers]}\n  A: {keys: [heads]}\n"
        "tensors:\n  - {role: norm, hf: model.norm.weight, gguf: output_norm.weight, shape: [4]}\n"
        "kv:\n"
        "  - {gguf: \"{a}.attention.head_count\", type: arr_u32, each: \"at(heads, layer)\"}\n"
        "  - {gguf: \"{a}.scales\", type: arr_f32, from: scales}\n";
#define LISTS "{\"architectures\":[\"ListsForCausalLM\"],\"num_hidden_layers\":2,"
    static const struct {
        const char *a, *b, *want;
    } table[] = {
        { LISTS "\"heads\":[2,4]}", LISTS "\"heads\":[2,4]}", "" },
        { LISTS "\"heads\":4}", LISTS "\"heads\":[4,4]}", "" },
        { LISTS "\"heads\":[2,4]}", LISTS "\"heads\":[4,2]}", "heads heads [2,4] [4,2]; " },
        { LISTS "\"heads\":[2,4]}", LISTS "\"heads\":[2,4,4]}", "heads heads [2,4] [2,4,4]; " },
        { LISTS "\"heads\":4}", LISTS "\"heads\":[4,5]}", "heads heads 4 [4,5]; " },
        { LISTS "\"heads\":[2,null]}", LISTS "\"heads\":[2,4]}", "" },
        { LISTS "\"heads\":1,\"scales\":[0.1,2]}", LISTS "\"heads\":1,\"scales\":[0.10000000001,2]}", "" },
        { LISTS "\"heads\":1,\"scales\":[0.5,2]}", LISTS "\"heads\":1,\"scales\":[0.5,3]}", "scales scales [0.5,2] [0.5,3]; " },
    };
    test_file("lists.yaml", own, strlen(own));
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const a = checkpoint("a", table[i].a, NULL), *const b = checkpoint("b", table[i].b, NULL);
        char family[256];
        snprintf(family, sizeof family, "--family-file=%s", test_path("lists.yaml"));
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", family, a, b, NULL), 0);
        if (strcmp(differences(r), table[i].want) != 0)
            fail_msg("%s %s: %s", table[i].a, table[i].b, differences(r));
        json_decref(r);
    }
}

static void vocabularies_are_compared_by_length_and_content(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *want;
    } table[] = {
        { BPE("\"a\":0,\"b\":1,\"ab\":2", "\"a b\""), BPE("\"b\":1,\"ab\":2,\"a\":0", "[\"a\",\"b\"]"), "" },
        { BPE("\"a\":0,\"b\":1", ""), BPE("\"a\":0,\"b\":1,\"[PAD2]\":2,\"[PAD3]\":3", ""), "" },
        { BPE("\"a\":0,\"b\":1", ""), BPE("\"a\":0,\"b\":1,\"c\":2", ""), "vocab vocab 2 3; " },
        { BPE("\"a\":0,\"b\":1,\"c\":2", ""), BPE("\"a\":0,\"c\":1,\"b\":2", ""), "vocab vocab b c; " },
        { BPE("\"a\":0,\"b\":1", "\"a b\",\"b a\""), BPE("\"a\":0,\"b\":1", "\"b a\",\"a b\""), "merges merges a b b a; " },
        { BPE("\"a\":0,\"b\":1", "\"a b\""), BPE("\"a\":0,\"b\":1", "\"a b\",\"b a\""), "merges merges 1 2; " },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const a = checkpoint("va", LLAMA "}", table[i].a), *const b = checkpoint("vb", LLAMA "}", table[i].b);
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", a, b, NULL), 0);
        if (strcmp(differences(r), table[i].want) != 0)
            fail_msg("%s against %s: %s", table[i].a, table[i].b, differences(r));
        json_decref(r);
    }
}

/* The names of a bare file are no evidence against the class that the other one has. */
static void an_unknown_class_beside_a_bare_file_is_no_known_family(void **state)
{
    (void)state;
    static const struct test_tensor gpt2[] = { { "wte.weight", "F32", "[2,2]", ones, sizeof ones },
                                               { "h.0.ln_1.weight", "F32", "[4]", ones, sizeof ones },
                                               { "transformer.wte.weight", "F32", "[2,2]", ones, sizeof ones },
                                               { "transformer.h.0.ln_1.weight", "F32", "[4]", ones, sizeof ones } };
    static const char *const config[] = { "{}", "{\"architectures\":[\"NobodysForCausalLM\"]}" };
    for (int unknown = 0; unknown < 2; unknown++) {
        char bare[256], folder[256];
        snprintf(bare, sizeof bare, "%s", test_safetensors("bare.safetensors", gpt2, 2));
        snprintf(folder, sizeof folder, "%s", test_safetensors("named/model.safetensors", gpt2 + 2, 2));
        test_file("named/config.json", config[unknown], strlen(config[unknown]));
        *strrchr(folder, '/') = 0;
        for (int turned = 0; turned < 2; turned++) {
            json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--subset", turned ? bare : folder, turned ? folder : bare, NULL), 0);
            expect_text(config[unknown], r, "tensors_compared", unknown ? "0" : "2");
            json_decref(r);
        }
    }
}

static void it_fails_the_verdict_only_with_metadata(void **state)
{
    (void)state;
    const char *const a = checkpoint("a", LLAMA ",\"rope_theta\":10000}", NULL), *const b = checkpoint("b", LLAMA ",\"rope_theta\":500000}", NULL);
    struct test_answer text = test_tool(APR_DIFF, a, b, NULL);
    assert_true(test_says(&text.out, "config differs: rope base 10000 (config.json rope_theta) against 500000 (config.json rope_theta)\n"));
    expect_exit(text, 0, NULL);
    expect_exit(test_tool(APR_DIFF, "--metadata", a, b, NULL), 1, NULL);
    expect_exit(test_tool(APR_DIFF, "--structure", a, b, NULL), 0, NULL);
}

static void what_is_broken_beside_a_model_is_told_and_costs_no_answer(void **state)
{
    (void)state;
    const char *const a = checkpoint("broken", LLAMA, NULL), *const b = checkpoint("b", LLAMA "}", NULL);
    expect_exit(test_tool(APR_DIFF, a, b, NULL), 0, "config.json");
    const char *const c = checkpoint("odd", LLAMA "}", "{\"model\":[}");
    expect_exit(test_tool(APR_DIFF, c, b, NULL), 0, "tokenizer.json");
}

static void merged_shares_say_the_same(void **state)
{
    (void)state;
    static const char *const forms[] = { "--json", "--threads=1" }; /* JSON, text */
    char a[256], b[256];
    snprintf(a, sizeof a, "%s", checkpoint("a", LLAMA ",\"rope_theta\":500000,\"rms_norm_eps\":1e-5}", NULL));
    snprintf(b, sizeof b, "%s", checkpoint("b", LLAMA ",\"rms_norm_eps\":1e-6}", NULL));
    const char *part[2];
    for (unsigned k = 0; k < 2; k++) {
        char partition[32], file[32];
        snprintf(partition, sizeof partition, "--partition=%u/2", k + 1);
        snprintf(file, sizeof file, "share-%u", k);
        struct test_answer share = test_tool(APR_DIFF, "--json", "--metadata", partition, a, b, NULL);
        part[k] = test_file(file, share.out.at, share.out.n);
        test_answer_free(&share);
    }
    for (size_t i = 0; i < APR_LENGTH(forms); i++) {
        struct test_answer merged = test_tool(APR_DIFF, forms[i], "--merge", part[1], part[0], NULL);
        struct test_answer whole = test_tool(APR_DIFF, forms[i], "--metadata", a, b, NULL);
        assert_int_equal(merged.exit, 1);
        assert_string_equal((const char *)merged.out.at, (const char *)whole.out.at);
        test_answer_free(&merged);
        test_answer_free(&whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_folders_are_compared_by_what_their_configs_state),
        cmocka_unit_test(a_folder_is_held_against_a_gguf),
        cmocka_unit_test(factors_of_a_gguf_are_held_against_the_scaling_of_a_folder),
        cmocka_unit_test(lists_are_compared_by_their_elements),
        cmocka_unit_test(vocabularies_are_compared_by_length_and_content),
        cmocka_unit_test(an_unknown_class_beside_a_bare_file_is_no_known_family),
        cmocka_unit_test(it_fails_the_verdict_only_with_metadata),
        cmocka_unit_test(what_is_broken_beside_a_model_is_told_and_costs_no_answer),
        cmocka_unit_test(merged_shares_say_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
