/* lib/family/detect.c: which family a model is of. */
#include "support.h"

#include <stdio.h>

#include "bare_model.h"
#include "base/bytes.h"

static void family_is(const char *what, const struct apr_family *f, const char *name)
{
    if (name == NULL ? f != NULL : f == NULL || !apr_bytes_is(f->name, name))
        fail_msg("%s: %s, not %s", what, f == NULL ? "none" : f->file, name == NULL ? "none" : name);
}

static void a_model_says_its_family(void **state)
{
    (void)state;
    static const struct { const char *format, *config, *key, *value, *family; } rows[] = {
        { "safetensors", "{\"architectures\": [\"MistralForCausalLM\"]}", NULL, NULL, "llama" },
        { "safetensors", "{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"text_config\": {}}", NULL, NULL, "gemma3" },
        { "safetensors", "{\"architectures\": [\"Other\"], \"text_config\": {\"architectures\": [\"Qwen2ForCausalLM\"]}}", NULL, NULL,
          "qwen2" },
        { "safetensors", "{\"architectures\": [\"Other\"], \"model_type\": \"llama\"}", NULL, NULL, NULL },
        { "safetensors", "{\"model_type\": \"llama\"}", NULL, NULL, "llama" },
        { "safetensors", "{\"ssm_cfg\": {}}", NULL, NULL, "mamba" },
        { "safetensors", "{\"ssm_cfg\": {\"layer\": \"Mamba2\"}}", NULL, NULL, "mamba2" },
        { "safetensors", "{\"architectures\": []}", NULL, NULL, NULL },
        { "safetensors", "{\"architectures\": [5]}", NULL, NULL, NULL },
        { "safetensors", NULL, NULL, NULL, NULL },
        { "gguf", NULL, "general.architecture", "qwen3moe", "qwen3moe" },
        { "gguf", NULL, "general.architecture", "nothing", NULL },
        { "gguf", NULL, "general.architecture", "", NULL },
        { "apr", NULL, "hf_architecture", "Phi3ForCausalLM", "phi3" },
        { "apr", NULL, "architecture", "gpt_neox", "gptneox" },
        { "apr", NULL, "architecture", "gptneox", "gptneox" },
        { "apr", NULL, "hf_model_type", "starcoder2", "starcoder2" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_family *f;
        struct apr_error e;
        struct model m;
        char what[32];
        snprintf(what, sizeof what, "row %zu", i);
        model_begin(&m, rows[i].format);
        if (rows[i].config != NULL)
            model_config(&m, rows[i].config);
        if (rows[i].key != NULL)
            model_string(&m, rows[i].key, rows[i].value);
        assert_int_equal(apr_family_said(all, &m.m, &f, &e), APR_OK);
        family_is(what, f, rows[i].family);
        model_end(&m);
    }
}

/* Both are "bert" in a GGUF, and in an APR that was made of one. */
static void a_bert_without_token_types_is_a_distilbert(void **state)
{
    (void)state;
    static const struct { const char *format, *tensor[2], *family; } rows[] = {
        { "gguf", { "token_embd.weight", "token_types.weight" }, "bert" },
        { "gguf", { "token_embd.weight", "blk.0.attn_q.weight" }, "distilbert" },
        { "gguf", { NULL, NULL }, "bert" },
        { "apr", { "embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight" }, "bert" },
        { "apr", { "embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight" }, "bert" },
        { "apr", { "embeddings.word_embeddings.weight", "transformer.layer.0.attention.q_lin.weight" }, "distilbert" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_family *f;
        struct apr_error e;
        struct model m;
        char what[32];
        snprintf(what, sizeof what, "row %zu", i);
        model_begin(&m, rows[i].format);
        model_string(&m, "general.architecture", "bert");
        for (size_t k = 0; k < 2 && rows[i].tensor[k] != NULL; k++)
            model_tensor(&m, rows[i].tensor[k], 2, 2, 0);
        assert_int_equal(apr_family_said(all, &m.m, &f, &e), APR_OK);
        family_is(what, f, rows[i].family);
        model_end(&m);
    }
}

static void a_broken_configuration_is_named(void **state)
{
    (void)state;
    const struct apr_family *f;
    struct apr_error e = { 0 };
    struct apr_binding *b;
    struct model m;
    model_begin(&m, "safetensors");
    model_config(&m, "{\"architectures\": [}");
    assert_int_equal(apr_family_said(all, &m.m, &f, &e), APR_ECORRUPT);
    assert_string_equal(e.file, "config.json");
    assert_int_equal(apr_bind(&b, family("llama"), &m.m, NULL, &e), APR_ECORRUPT);
    assert_null(b);
    model_end(&m);
}

static void names_tell_the_family_where_they_leave_no_doubt(void **state)
{
    (void)state;
    static const struct { const char *name[4], *family, *either[2]; } rows[] = {
        { { "h.0.attn.c_attn.weight", "h.0.ln_1.weight", "wte.weight" }, NULL, { "", "" } }, /* or starcoder, of these shapes */
        { { "h.0.attn.c_proj.weight", "h.0.mlp.c_proj.weight", "h.0.attn.masked_bias" }, NULL, { "", "" } },
        { { "gpt_neox.layers.0.attention.query_key_value.weight" }, "gptneox", { "gptneox", NULL } },
        { { "weight", "bias" }, "linear", { "linear", NULL } },
        { { "bias" }, NULL, { NULL, NULL } },
        { { "coef_", "intercept_" }, "linear", { "linear", NULL } },
        { { "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight" }, NULL, { "", "" } },
        { { "blk.0.attn_q.weight", "blk.0.ffn_norm.weight" }, NULL, { "", "" } },
        { { "model.layers.0.self_attn.q_proj.weight", "something.else" }, NULL, { NULL, NULL } },
        { { "something.else" }, NULL, { NULL, NULL } },
        { { "vision_model.embeddings.patch_embedding.weight", "vision_model.post_layernorm.weight" }, NULL, { NULL, NULL } },
        { { NULL }, NULL, { NULL, NULL } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_family *f, *either[2];
        struct apr_error e;
        struct model m;
        model_begin(&m, "safetensors");
        for (size_t k = 0; k < 4 && rows[i].name[k] != NULL; k++)
            model_tensor(&m, rows[i].name[k], 4, 4, 0);
        assert_int_equal(apr_family_guessed(all, &m.m, &f, either, &e), APR_OK);
        family_is(rows[i].name[0], f, rows[i].family);
        for (size_t k = 0; k < 2; k++)
            if (rows[i].either[k] == NULL || rows[i].either[k][0] != 0)
                family_is(rows[i].name[0], either[k], rows[i].either[k]);
            else
                assert_non_null(either[k]);
        model_end(&m);
    }
}

/* GPT-2's matrices lie the other way round than StarCoder's of the same names. */
static void shapes_tell_families_of_the_same_names_apart(void **state)
{
    (void)state;
    for (int starcoder = 0; starcoder < 2; starcoder++) {
        const struct apr_family *f, *either[2];
        struct apr_error e;
        struct model m;
        model_begin(&m, "safetensors");
        model_tensor(&m, "wte.weight", 50, 8, 0);
        model_tensor(&m, "h.0.ln_1.weight", 8, 0, 0);
        model_tensor(&m, "h.0.attn.c_attn.weight", starcoder ? 12 : 8, starcoder ? 8 : 24, 0);
        model_tensor(&m, "h.0.mlp.c_fc.weight", starcoder ? 32 : 8, starcoder ? 8 : 32, 0);
        assert_int_equal(apr_family_guessed(all, &m.m, &f, either, &e), APR_OK);
        family_is("c_attn", f, starcoder ? "starcoder" : "gpt2");
        model_end(&m);
    }
}

static void a_class_that_nobody_knows_is_no_other_family(void **state)
{
    (void)state;
    static const struct { const char *format, *config, *key, *text; } rows[] = {
        { "safetensors", "{\"architectures\": [\"NobodysForCausalLM\"]}", NULL, NULL },
        { "safetensors", "{\"model_type\": \"nobody\"}", NULL, NULL },
        { "safetensors", "{\"architectures\": [\"NobodysForCausalLM\"], \"model_type\": \"gpt2\"}", NULL, NULL },
        { "safetensors", "{\"text_config\": {\"model_type\": \"nobody\"}}", NULL, NULL },
        { "safetensors", NULL, "gguf.kv", "{\"general.architecture\":{\"t\":\"str\",\"v\":\"nobody\"}}" },
        { "gguf", NULL, "general.architecture", "nobody" },
        { "apr", NULL, "hf_architecture", "NobodysForCausalLM" },
        { "apr", NULL, "architecture", "nobody" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const bool gguf = strcmp(rows[i].format, "gguf") == 0;
        const struct apr_family *f, *either[2];
        struct apr_error e;
        struct model m;
        bool named = false;
        model_begin(&m, rows[i].format);
        if (rows[i].config != NULL)
            model_config(&m, rows[i].config);
        if (rows[i].key != NULL)
            model_string(&m, rows[i].key, rows[i].text);
        model_tensor(&m, gguf ? "blk.0.attn_qkv.weight" : "h.0.attn.c_attn.weight", 4, 4, 0);
        model_tensor(&m, gguf ? "token_embd.weight" : "wte.weight", 4, 4, 0);
        assert_int_equal(apr_names_a_class(&m.m, &named, &e), APR_OK);
        assert_int_equal(apr_family_guessed(all, &m.m, &f, either, &e), APR_OK);
        if (!named || f != NULL || either[0] != NULL)
            fail_msg("%zu: %s", i, named ? "guessed" : "no class");
        model_end(&m);
    }
}

/* Minutes, if any of it were quadratic. */
static void a_hundred_thousand_names_are_soon_seen_through(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct model m;
    const struct apr_family *f, *either[2];
    struct apr_error e;
    char (*name)[64] = malloc(N * sizeof *name);
    assert_non_null(name);
    model_begin(&m, "safetensors");
    for (unsigned i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i], i % 2 ? "model.layers.%u.self_attn.q_proj.weight" : "model.layers.%u.mlp.up_proj.weight", i / 2);
        model_tensor(&m, name[i], 4, 4, 0);
    }
    assert_int_equal(apr_family_guessed(all, &m.m, &f, either, &e), APR_OK);
    assert_true(f == NULL && either[1] != NULL);
    model_end(&m);
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_says_its_family),
        cmocka_unit_test(a_bert_without_token_types_is_a_distilbert),
        cmocka_unit_test(a_broken_configuration_is_named),
        cmocka_unit_test(names_tell_the_family_where_they_leave_no_doubt),
        cmocka_unit_test(shapes_tell_families_of_the_same_names_apart),
        cmocka_unit_test(a_class_that_nobody_knows_is_no_other_family),
        cmocka_unit_test(a_hundred_thousand_names_are_soon_seen_through),
    };
    return cmocka_run_group_tests(tests, open_families, close_families);
}
