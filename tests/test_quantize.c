/* apr-convert --quantize: whole files as llama-quantize writes them, and the same tensors out of every container. */
#include "quantize.h"

#include "base/hash.h"

/* ---- llama-quantize's files ----------------------------------------------------------------------------------------- */

/* Exit 0 and a file of that XXH3-128, or "refused": exit 2 and no file. */
static void expect_file(struct test_answer a, const char *what, const char *file, const char *hash)
{
    const bool refused = strcmp(hash, "refused") == 0;
    char hex[33];
    if (a.exit != (refused ? 2 : 0))
        fail_msg("%s: exit %d: %s", what, a.exit, (const char *)a.err.at);
    test_answer_free(&a);
    if (refused) {
        assert_int_equal(access(file, F_OK), -1);
        return;
    }
    struct test_bytes b = test_load(file);
    const struct apr_digest d = apr_digest_of((struct apr_bytes){ b.at, b.n });
    if (strcmp(apr_digest_spell(d, hex), hash) != 0)
        fail_msg("%s: the file's hash is %s, not %s", what, hex, hash);
    test_free(&b);
    unlink(file);
}

/* presets.txt: "PRESET IMATRIX HASH". */
static void every_preset_gives_the_file_that_llama_quantize_gives(void **state)
{
    (void)state;
    char preset[16], imatrix[16], hash[33], what[64];
    const char *const out = test_path("q.gguf");
    FILE *const f = fopen("fixtures/presets.txt", "r");
    size_t n = 0;
    assert_non_null(f);
    for (; fscanf(f, "%15s %15s %32s", preset, imatrix, hash) == 3; n++) {
        const char *const with = strcmp(imatrix, "-") != 0 ? WIDE_IMATRIX : NULL;
        snprintf(what, sizeof what, "%s %s", preset, imatrix);
        expect_file(test_tool(APR_CONVERT, WIDE, out, "--quantize", preset, with, NULL), what, out, hash);
    }
    assert_int_equal(n, 68);
    fclose(f);
}

/* options.txt: "HASH MODEL PRESET OPTION...". */
static void every_option_gives_the_file_that_llama_quantize_gives(void **state)
{
    (void)state;
    enum { HASH, MODEL, PRESET, OPTION, MOST = OPTION + 4 };
    char line[500], what[500];
    const char *const out = test_path("q.gguf");
    FILE *const f = fopen("fixtures/options.txt", "r");
    size_t n = 0;
    assert_non_null(f);
    for (; fgets(line, sizeof line, f) != NULL; n++) {
        const char *word[MOST] = { NULL };
        strcpy(what, line);
        word[0] = strtok(line, " \n");
        for (size_t i = 1; i < MOST && word[i - 1] != NULL; i++)
            word[i] = strtok(NULL, " \n");
        expect_file(test_tool(APR_CONVERT, word[MODEL], out, "--quantize", word[PRESET], word[OPTION], word[OPTION + 1], word[OPTION + 2],
                              NULL), what, out, word[HASH]);
    }
    assert_int_equal(n, 77);
    fclose(f);
}

/* ---- importance ----------------------------------------------------------------------------------------------------- */

/* The path goes into the file: it must be the same. */
static void both_forms_of_an_importance_matrix_give_the_same_file(void **state)
{
    (void)state;
    static const char *const form[] = { "fixtures/qwen2.imatrix.gguf", "fixtures/qwen2.imatrix.dat" };
    const char *out[2];
    for (size_t i = 0; i < APR_LENGTH(form); i++) {
        const char *const imatrix = copy_of(form[i], "either.imatrix");
        out[i] = CONVERTED("fixtures/qwen2", i == 0 ? "gguf.gguf" : "dat.gguf", "--quantize=IQ4_XS", "--imatrix", imatrix);
    }
    expect_same_bytes(out[0], out[1]);
}

/* Both with nothing but the tensor, so that its blocks stand at the end. */
static void each_expert_of_a_stack_has_its_own_importance(void **state)
{
    (void)state;
    enum { EXPERTS = 3, ROWS = 4, COLUMNS = 256, BLOCK = 144 };
    static float v[EXPERTS * ROWS * COLUMNS];
    char of_stack[300], of_one[300], name[32];
    for (size_t i = 0; i < APR_LENGTH(v); i++)
        v[i] = (float)test_random(2001) / 1000 - 1;
    imatrix_of("stack.dat", &(struct importance){ "blk.0.ffn_up_exps.weight", EXPERTS * COLUMNS, 0.5f }, 1, of_stack);
    const struct test_tensor t = { "blk.0.ffn_up_exps.weight", "F32", "[3,4,256]", v, sizeof v };
    const char *const stack = test_safetensors("stack.safetensors", &t, 1);
    struct test_bytes all = test_load(CONVERTED(stack, "stack.gguf", "--keep-names", "--type=q4_K", of_stack));
    struct test_bytes even = test_load(CONVERTED(stack, "even.gguf", "--keep-names", "--type=q4_K"));
    assert_true(memcmp(all.at + all.n - EXPERTS * ROWS * BLOCK, even.at + even.n - EXPERTS * ROWS * BLOCK, EXPERTS * ROWS * BLOCK) != 0);
    struct test_bytes weights = test_load(test_path("stack.dat"));
    for (size_t i = 0; i < EXPERTS; i++) {
        struct test_bytes b = { 0 };
        snprintf(name, sizeof name, "one%zu.safetensors", i);
        const char *const one = test_safetensors(name, &(struct test_tensor){ "w.weight", "F32", "[4,256]", v + i * ROWS * COLUMNS,
                                                 sizeof v / EXPERTS }, 1);
        test_integer(&b, 1, 4);
        test_integer(&b, strlen("w.weight"), 4);
        test_text(&b, "w.weight");
        test_integer(&b, 1, 4);
        test_integer(&b, COLUMNS, 4);
        test_put(&b, weights.at + weights.n - 4 * (EXPERTS - i) * COLUMNS, 4 * COLUMNS);
        snprintf(of_one, sizeof of_one, "--imatrix=%s", test_file("one.dat", b.at, b.n));
        struct test_bytes alone = test_load(CONVERTED(one, "one.gguf", "--force", "--keep-names", "--type=q4_K", of_one));
        assert_memory_equal(all.at + all.n - (EXPERTS - i) * ROWS * BLOCK, alone.at + alone.n - ROWS * BLOCK, ROWS * BLOCK);
        test_free(&b);
        test_free(&alone);
    }
    test_free(&weights);
    test_free(&all);
    test_free(&even);
}

/* ---- containers ----------------------------------------------------------------------------------------------------- */

/* Rows of 64 and 96, so that every type falls back. */
static void every_container_of_a_model_gives_the_same_tensors(void **state)
{
    (void)state;
    static const struct { const char *preset, *imatrix; } rows[] = {
        { "--quantize=Q4_K_M", NULL }, { "--quantize=Q4_K_M", OWN_IMATRIX },  { "--quantize=Q5_K_S", NULL },
        { "--quantize=Q8_0", NULL },   { "--quantize=IQ4_XS", OWN_IMATRIX }, { "--quantize=Q2_K", OWN_IMATRIX },
    };
    static const char *const from[] = { "fixtures/qwen2", "fixtures/qwen2.apr", "fixtures/qwen2-zstd.apr" };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        json_t *const r = REPORTED("fixtures/qwen2-bf16.gguf", "of-gguf.gguf", "--force", rows[i].preset, rows[i].imatrix);
        for (size_t k = 0; k < APR_LENGTH(from); k++)
            expect_same_end(test_path("of-gguf.gguf"), CONVERTED(from[k], "of-other.gguf", "--force", rows[i].preset, rows[i].imatrix),
                            bytes_of_tensors(r));
        json_decref(r);
    }
}

/* Whatever its names were. */
static void a_graft_of_the_same_tensors_changes_nothing(void **state)
{
    (void)state;
    static const char *const graft[] = { "--graft=fixtures/qwen2-bf16.gguf:ffn_down", "--graft=fixtures/qwen2.apr:down_proj" };
    static const char *const out[] = { "grafted.apr", "grafted.gguf" };
    for (size_t i = 0; i < APR_LENGTH(out); i++) {
        char plain[512];
        snprintf(plain, sizeof plain, "%s",
                 CONVERTED("fixtures/qwen2", i == 0 ? "ungrafted.apr" : "ungrafted.gguf", "--quantize=Q4_K_M", OWN_IMATRIX));
        for (size_t k = 0; k < APR_LENGTH(graft); k++) {
            json_t *const r = REPORTED("fixtures/qwen2", out[i], "--force", "--quantize=Q4_K_M", OWN_IMATRIX, graft[k]);
            expect_text(graft[k], r, "imatrix.weighed", "13");
            expect_identical(plain, test_path(out[i]), 27);
            json_decref(r);
        }
    }
}

/* A Mixtral of one layer, with rows of 256; returns its folder. */
static const char *mixtral(void)
{
    enum { WIDTH = 256, MOST = WIDTH * WIDTH };
    static const char config[] = "{\"architectures\":[\"MixtralForCausalLM\"],\"model_type\":\"mixtral\",\"hidden_size\":256,"
        "\"intermediate_size\":256,\"num_hidden_layers\":1,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"num_local_experts\":2,"
        "\"num_experts_per_tok\":1,\"vocab_size\":16,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-5,\"rope_theta\":1e6}";
    static const struct { const char *name, *shape; size_t n; } part[] = {
        { "model.embed_tokens.weight", "[16,256]", 16 * WIDTH },
        { "model.norm.weight", "[256]", WIDTH },
        { "lm_head.weight", "[16,256]", 16 * WIDTH },
        { "model.layers.0.input_layernorm.weight", "[256]", WIDTH },
        { "model.layers.0.post_attention_layernorm.weight", "[256]", WIDTH },
        { "model.layers.0.self_attn.q_proj.weight", "[256,256]", MOST },
        { "model.layers.0.self_attn.k_proj.weight", "[128,256]", MOST / 2 },
        { "model.layers.0.self_attn.v_proj.weight", "[128,256]", MOST / 2 },
        { "model.layers.0.self_attn.o_proj.weight", "[256,256]", MOST },
        { "model.layers.0.block_sparse_moe.gate.weight", "[2,256]", 2 * WIDTH },
        { "model.layers.0.block_sparse_moe.experts.0.w1.weight", "[256,256]", MOST },
        { "model.layers.0.block_sparse_moe.experts.0.w2.weight", "[256,256]", MOST },
        { "model.layers.0.block_sparse_moe.experts.0.w3.weight", "[256,256]", MOST },
        { "model.layers.0.block_sparse_moe.experts.1.w1.weight", "[256,256]", MOST },
        { "model.layers.0.block_sparse_moe.experts.1.w2.weight", "[256,256]", MOST },
        { "model.layers.0.block_sparse_moe.experts.1.w3.weight", "[256,256]", MOST },
    };
    static float v[APR_LENGTH(part)][MOST];
    struct test_tensor t[APR_LENGTH(part)];
    for (size_t i = 0; i < APR_LENGTH(part); i++) {
        for (size_t k = 0; k < part[i].n; k++)
            v[i][k] = (float)((double)test_random(4001) / 2000 - 1) / 16;
        t[i] = (struct test_tensor){ part[i].name, "F32", part[i].shape, v[i], 4 * part[i].n };
    }
    test_safetensors("mixtral/model.safetensors", t, APR_LENGTH(t));
    text_file("mixtral/config.json", config);
    return test_path("mixtral");
}

/* Rows of q and k stand in another order in a GGUF, experts in a stack; what each is quantized to is the same. */
static void an_apr_holds_a_mix_with_the_importance_that_its_gguf_has(void **state)
{
    (void)state;
    static const struct importance x[] = {
        { "blk.0.attn_k.weight", 256, 1 }, { "blk.0.attn_q.weight", 256, 0.25f }, { "blk.0.attn_v.weight", 256, 3 },
        { "blk.0.ffn_down_exps.weight", 512, 0.5f }, { "blk.0.ffn_gate_exps.weight", 512, 0.125f }, { "blk.0.ffn_up_exps.weight", 512, 0 },
    };
    char imatrix[300];
    imatrix_of("mixtral.dat", x, APR_LENGTH(x), imatrix);
    const char *const folder = mixtral(), *const plain = CONVERTED(folder, "mixtral.apr", NULL),
                      *const stacked = CONVERTED(folder, "mixtral.gguf", NULL);
    for (size_t i = 0; i < 2; i++) {
        const char *const with = i == 0 ? NULL : imatrix;
        json_t *const r = REPORTED(folder, "mixtral.q.apr", "--force", "--quantize=Q4_K_M", with);
        expect_count(r, "Q4_K", 8);
        expect_count(r, "F32", 4);
        const char *const gguf = CONVERTED(folder, "mixtral.q.gguf", "--force", "--quantize=Q4_K_M", with);
        expect_identical(gguf, test_path("mixtral.q.apr"), 13);
        expect_identical(test_path("mixtral.q.apr"), CONVERTED(plain, "mixtral.of.apr", "--force", "--quantize=Q4_K_M", with), 16);
        expect_identical(test_path("mixtral.q.apr"), CONVERTED(stacked, "mixtral.of.apr", "--force", "--quantize=Q4_K_M", with), 16);
        json_decref(r);
    }
}

static void an_apr_takes_no_type_that_its_readers_do_not_know(void **state)
{
    (void)state;
    const char *const out = test_path("kept/m.apr");
    text_file("kept/x", "");
    REFUSED("kept", (WIDE, out, "--keep-names", "--quantize=IQ4_XS"), "IQ4_XS", "APR");
    REFUSED("kept", ("fixtures/qwen2", out, "--quantize=Q4_K_M", "--tensor-type=v_proj=iq4_nl"), "v_proj", "IQ4_NL", "APR");
    REFUSED("kept", ("fixtures/qwen2", test_path("kept/"), "--to=safetensors", "--quantize=Q8_0"), "Q8_0", "SafeTensors");
    REFUSED("kept", ("fixtures/qwen2", test_path("kept/m.gguf"), "--quantize=apr_q4"), "APR_Q4", "GGUF");
    const char *const apr = CONVERTED(WIDE, "kept/m.apr", "--keep-names", "--quantize=Q4_K_M", WIDE_IMATRIX);
    expect_identical(apr, CONVERTED(WIDE, "kept/m.gguf", "--quantize=Q4_K_M", WIDE_IMATRIX), 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_preset_gives_the_file_that_llama_quantize_gives),
        cmocka_unit_test(every_option_gives_the_file_that_llama_quantize_gives),
        cmocka_unit_test(both_forms_of_an_importance_matrix_give_the_same_file),
        cmocka_unit_test(each_expert_of_a_stack_has_its_own_importance),
        cmocka_unit_test(every_container_of_a_model_gives_the_same_tensors),
        cmocka_unit_test(a_graft_of_the_same_tensors_changes_nothing),
        cmocka_unit_test(an_apr_holds_a_mix_with_the_importance_that_its_gguf_has),
        cmocka_unit_test(an_apr_takes_no_type_that_its_readers_do_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
