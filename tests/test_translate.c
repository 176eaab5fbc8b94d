/* lib/family/translate.h, gguf_kv.h, general.h, model/json_edit.h: metadata from one dialect to another. */
#include "support.h"

#include <math.h>
#include <stdio.h>

#include "bare_model.h"
#include "base/bytes.h"
#include "family/general.h"
#include "family/gguf_kv.h"
#include "family/translate.h"
#include "model/hf_config.h"
#include "model/json_edit.h"
#include "model/meta.h"
#include "model/open.h"

static void fine(enum apr_code code, const struct apr_error *e)
{
    if (code != APR_OK)
        fail_msg("%s", e->text);
}

/* The value of key is, in the JSON of family/gguf_kv.h, the object with these members. */
static void says(const char *what, const struct apr_draft *d, const char *key, const char *members)
{
    const struct apr_value *const v = apr_draft_find(d, apr_text(key));
    struct apr_arena *arena = NULL;
    struct apr_bytes json;
    struct apr_error e;
    if (v == NULL)
        fail_msg("%s: no %s", what, key);
    struct apr_meta_entry entry = { apr_text("k"), *v };
    fine(apr_gguf_kv_write(&arena, &(struct apr_meta){ .entry = &entry, .n = 1 }, false, &json, &e), &e);
    const struct apr_bytes inner = { json.at + 6, json.n - 8 }; /* {"k":{ ... }} */
    if (!apr_bytes_is(inner, members))
        fail_msg("%s: %s is %.*s, not %s", what, key, APR_PRINTED(inner), members);
    apr_arena_free(&arena);
}

/* ---- the keys of a GGUF as JSON -------------------------------------------------------------------------------------- */

static void fill_with_everything(struct apr_draft *d)
{
    static const float singles[] = { 0.1f, -0.0f, 1e-45f, 3.4028235e38f };
    struct apr_error e;
    struct apr_value v[] = {
        { .type = APR_META_U8, .u = 255 },          { .type = APR_META_I8, .i = -128 },
        { .type = APR_META_U16, .u = 65535 },       { .type = APR_META_I16, .i = -32768 },
        { .type = APR_META_U32, .u = UINT32_MAX },  { .type = APR_META_I32, .i = INT32_MIN },
        { .type = APR_META_U64, .u = UINT64_MAX },  { .type = APR_META_I64, .i = INT64_MIN },
        { .type = APR_META_F32, .f = 0.1f },        { .type = APR_META_F32, .f = -0.0 },
        { .type = APR_META_F32, .f = 1e-45f },      { .type = APR_META_F64, .f = 0.1 },
        { .type = APR_META_F64, .f = 5e-324 },      { .type = APR_META_F32, .f = INFINITY },
        { .type = APR_META_F64, .f = -INFINITY },   { .type = APR_META_BOOL, .b = true },
        { .type = APR_META_STRING, .text = apr_text("") },
        { .type = APR_META_STRING, .text = apr_text("\"\\\n\x7f \xE2\x96\x81 \xE2\x80\xAE") },
        { .type = APR_META_STRING, .text = { (const unsigned char *)"a\0b", 3 } },
        { .type = APR_META_STRING, .text = apr_text("\xff\xc0 not UTF-8") },
    };
    char key[16];
    for (size_t i = 0; i < APR_LENGTH(v); i++) {
        snprintf(key, sizeof key, "key.%zu", i);
        fine(apr_draft_put(d, apr_text(key), &v[i], &e), &e);
    }
    for (enum apr_meta_type t = APR_META_U8; t <= APR_META_F64; t++) {
        struct apr_array a = { .element = t };
        snprintf(key, sizeof key, "array.%d", t);
        for (int i = 0; i < 4 && t != APR_META_ARRAY; i++)
            if (t == APR_META_STRING)
                apr_array_text(&a, apr_text(i == 2 ? "\xfe" : "text"));
            else if (t == APR_META_F32 || t == APR_META_F64)
                apr_array_real(&a, (double)singles[i]);
            else
                apr_array_integer(&a, t == APR_META_BOOL ? (uint64_t)i % 2 : UINT64_MAX - (uint64_t)i);
        if (t != APR_META_ARRAY)
            fine(apr_draft_array(d, key, &a, &e), &e);
    }
    struct apr_array odd = { .element = APR_META_F32 };
    apr_array_real(&odd, 1.5);
    apr_array_real(&odd, (double)-INFINITY);
    fine(apr_draft_array(d, "array.odd", &odd, &e), &e);
    struct apr_array none = { .element = APR_META_U32 };
    fine(apr_draft_array(d, "array.none", &none, &e), &e);
}

static void read_back(struct apr_draft *d, struct apr_bytes json, enum apr_code code, const char *words)
{
    struct model m;
    struct apr_error e;
    model_begin(&m, "safetensors");
    *model_key(&m, APR_KV_KEY) = (struct apr_value){ .type = APR_META_STRING, .text = json };
    const enum apr_code got = apr_gguf_kv_read(d, &m.m, true, &e);
    if (got != code || (code != APR_OK && strstr(e.text, words) == NULL))
        fail_msg("%.*s: %d, %s", APR_PRINTED(json), got, got == APR_OK ? "" : e.text);
    model_end(&m);
}

static void keys_of_every_type_come_back_from_json_with_their_bits(void **state)
{
    (void)state;
    struct apr_draft d = { 0 }, again = { 0 };
    struct apr_arena *arena = NULL;
    struct apr_bytes json;
    struct apr_error e;
    fill_with_everything(&d);
    fine(apr_gguf_kv_write(&arena, &d.meta, false, &json, &e), &e);
    read_back(&again, json, APR_OK, "");
    assert_int_equal(again.meta.n, d.meta.n);
    for (size_t i = 0; i < d.meta.n; i++) {
        const struct apr_meta_entry *a = &d.meta.entry[i], *b = &again.meta.entry[i];
        if (!apr_bytes_equal(a->key, b->key) || !apr_value_equal(&a->value, &b->value))
            fail_msg("%.*s became %.*s", APR_PRINTED(a->key), APR_PRINTED(b->key));
    }
    apr_draft_end(&d);
    apr_draft_end(&again);
    apr_arena_free(&arena);
}

static void nan_keeps_its_bits(void **state)
{
    (void)state;
    struct apr_draft d = { 0 };
    uint64_t bits;
    read_back(&d, apr_text("{\"a\":{\"t\":\"f64\",\"hex\":\"7ff8000000000abc\"},\"b\":{\"t\":\"arr_f32\",\"hex\":\"7fc000003f800000\"}}"),
              APR_OK, "");
    memcpy(&bits, &apr_draft_find(&d, apr_text("a"))->f, sizeof bits);
    assert_int_equal(bits, UINT64_C(0x7ff8000000000abc));
    says("NaN", &d, "b", "\"t\":\"arr_f32\",\"hex\":\"7fc000003f800000\"");
    apr_draft_end(&d);
}

static void what_is_no_such_json_is_refused_by_its_key(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
    } rows[] = {
        { "[]", "" },
        { "{", "" },
        { "{\"a\":1}", "\"a\"" },
        { "{\"a\":{\"v\":1}}", "\"a\"" },
        { "{\"a\":{\"t\":\"u32\"}}", "\"a\": its value is missing" },
        { "{\"a\":{\"t\":\"u31\",\"v\":1}}", "\"a\": its \"t\"" },
        { "{\"a\":{\"t\":\"arr\",\"v\":[]}}", "\"a\": its \"t\"" },
        { "{\"a\":{\"t\":\"null\",\"v\":null}}", "\"a\": its \"t\"" },
        { "{\"a\":{\"t\":\"u8\",\"v\":256}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"u8\",\"v\":-1}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"i8\",\"v\":128}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"i8\",\"v\":-129}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"u32\",\"v\":1.5}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"u32\",\"v\":true}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"f32\",\"v\":1e99}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"str\",\"v\":1}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"str\",\"base64\":\"?\"}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"f32\",\"hex\":\"7fc0\"}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"f32\",\"hex\":\"7fc000000\"}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"u32\",\"hex\":\"7fc00000\"}}", "\"a\": its value" },
        { "{\"a\":{\"t\":\"arr_u8\",\"v\":[1,2,300]}}", "\"a\": its elements" },
        { "{\"a\":{\"t\":\"arr_u8\",\"v\":{}}}", "\"a\": its elements" },
        { "{\"a\":{\"t\":\"arr_arr\",\"v\":[]}}", "\"a\": its \"t\"" },
        { "{\"a\":{\"t\":\"custom\",\"v\":1}}", "\"a\": expected \"custom\"" },
        { "{\"a\":{\"t\":\"custom\",\"custom\":\"tokenizer.vocabulary\",\"len\":3}}", "\"a\": the array" },
        { "{\"a\\u0000b\":{\"t\":\"u8\",\"v\":1}}", "NUL" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_draft d = { 0 };
        read_back(&d, apr_text(rows[i].json), APR_ECORRUPT, rows[i].words);
        apr_draft_end(&d);
    }
}

/* ---- JSON in its text ------------------------------------------------------------------------------------------------ */

static void a_member_is_put_and_all_else_stays_byte_for_byte(void **state)
{
    (void)state;
    static const struct {
        const char *text, *path, *value, *expected;
    } rows[] = {
        { "{\"a\": 1,  \"b\":2}", "a", "3", "{\"a\": 3,  \"b\":2}" },
        { "{\"a\": 1,  \"b\":2}", "c", "3", "{\"a\": 1,  \"b\":2, \"c\": 3}" },
        { "{}", "a", "1", "{\"a\": 1}" },
        { "{\n}", "a", "1", "{\n  \"a\": 1\n}" },
        { "{\n  \"a\": 1\n}\n", "b", "[]", "{\n  \"a\": 1,\n  \"b\": []\n}\n" },
        { "{\n  \"a\": 1\n}", "r.t.u", "1", "{\n  \"a\": 1,\n  \"r\": {\n    \"t\": {\n      \"u\": 1\n    }\n  }\n}" },
        { "{\"r\": null}", "r.t", "1", "{\"r\": {\"t\": 1}}" },
        { "{\"a\": {\"x\": NaN}, \"a\": {\"x\": 2}}", "a.x", "3", "{\"a\": {\"x\": NaN}, \"a\": {\"x\": 3}}" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_arena *arena = NULL;
        struct apr_bytes text = apr_text(rows[i].text);
        struct apr_error e;
        fine(apr_json_put(&arena, &text, rows[i].path, apr_text(rows[i].value), &e), &e);
        if (!apr_bytes_is(text, rows[i].expected) || !apr_bytes_is(apr_json_find(text, rows[i].path), rows[i].value))
            fail_msg("%s: %.*s", rows[i].text, APR_PRINTED(text));
        apr_arena_free(&arena);
    }
}

/* ---- general.* ------------------------------------------------------------------------------------------------------- */

/* What llama.cpp's converter says of models of that size. */
static void a_size_is_rounded_to_two_digits_or_more(void **state)
{
    (void)state;
    static const struct {
        uint64_t    elements, expert_elements, experts;
        const char *label;
    } rows[] = {
        { 1345792, 0, 0, "1.3M" },     { 336704, 0, 0, "337K" },        { 7241732096, 0, 0, "7.2B" },
        { 134515008, 0, 0, "135M" },   { 46702792704, 45097156608, 8, "8x7.2B" }, { 1000, 0, 0, "1.0K" },
        { 9600, 0, 0, "10K" },         { 96, 0, 0, "0.10K" },           { UINT64_C(1100000000000), 0, 0, "1.1T" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char label[48];
        assert_string_equal(apr_size_label(rows[i].elements, rows[i].expert_elements, rows[i].experts, label), rows[i].label);
    }
}

static void side_file(struct apr_side *s, const char *name, const char *text)
{
    struct apr_error e;
    fine(apr_side_put(s, name, apr_text(text), &e), &e);
}

/* The expected keys are those that gguf-py makes of the same files. */
static void a_card_and_sampling_become_general_keys(void **state)
{
    (void)state;
    struct apr_side side = { 0 };
    struct apr_draft d = { 0 };
    struct apr_error e;
    side_file(&side, "README.md", "---\nlicense: other\nlicense_name: qwen-research\nlanguage:\n- en\n- zh\n"
              "base_model:\n- Qwen/qwen2.5-3B\n- https://huggingface.co/a/b-v1\n- {name: N, doi: 1/2, x: y}\n- http://a/b\n"
              "datasets: [allenai/c4, \"wiki-text\"]\npipeline_tag: text-generation\ntags:\n- chat\n---\n# Title\n");
    side_file(&side, "generation_config.json", "{\"top_k\": 20, \"top_p\": 0.8, \"temperature\": 0.7}");
    const struct apr_translation t = { .side = &side, .name = apr_text("Qwen2 Tiny"), .elements = 1345792 };
    static const char *const expected[][2] = {
        { "general.type", "\"t\":\"str\",\"v\":\"model\"" },
        { "general.sampling.top_k", "\"t\":\"i32\",\"v\":20" },
        { "general.sampling.top_p", "\"t\":\"f32\",\"v\":0.8" },
        { "general.sampling.temp", "\"t\":\"f32\",\"v\":0.7" },
        { "general.name", "\"t\":\"str\",\"v\":\"Qwen2 Tiny\"" },
        { "general.size_label", "\"t\":\"str\",\"v\":\"1.3M\"" },
        { "general.license", "\"t\":\"str\",\"v\":\"other\"" },
        { "general.license.name", "\"t\":\"str\",\"v\":\"qwen-research\"" },
        { "general.base_model.count", "\"t\":\"u32\",\"v\":4" },
        { "general.base_model.0.name", "\"t\":\"str\",\"v\":\"Qwen2.5 3B\"" },
        { "general.base_model.0.organization", "\"t\":\"str\",\"v\":\"Qwen\"" },
        { "general.base_model.0.repo_url", "\"t\":\"str\",\"v\":\"https://huggingface.co/Qwen/qwen2.5-3B\"" },
        { "general.base_model.1.name", "\"t\":\"str\",\"v\":\"B v1\"" },
        { "general.base_model.1.version", "\"t\":\"str\",\"v\":\"v1\"" },
        { "general.base_model.1.organization", "\"t\":\"str\",\"v\":\"A\"" },
        { "general.base_model.1.repo_url", "\"t\":\"str\",\"v\":\"https://huggingface.co/a/b-v1\"" },
        { "general.base_model.2.name", "\"t\":\"str\",\"v\":\"N\"" },
        { "general.base_model.2.doi", "\"t\":\"str\",\"v\":\"1/2\"" },
        { "general.base_model.3.repo_url", "\"t\":\"str\",\"v\":\"http://a/b\"" },
        { "general.dataset.count", "\"t\":\"u32\",\"v\":2" },
        { "general.dataset.0.name", "\"t\":\"str\",\"v\":\"C4\"" },
        { "general.dataset.0.organization", "\"t\":\"str\",\"v\":\"Allenai\"" },
        { "general.dataset.0.repo_url", "\"t\":\"str\",\"v\":\"https://huggingface.co/allenai/c4\"" },
        { "general.dataset.1.name", "\"t\":\"str\",\"v\":\"Wiki Text\"" },
        { "general.tags", "\"t\":\"arr_str\",\"v\":[\"chat\",\"text-generation\"]" },
        { "general.languages", "\"t\":\"arr_str\",\"v\":[\"en\",\"zh\"]" },
    };
    fine(apr_general_put(&d, &t, &e), &e);
    assert_int_equal(d.meta.n, APR_LENGTH(expected));
    for (size_t i = 0; i < APR_LENGTH(expected); i++) {
        assert_true(apr_bytes_is(d.meta.entry[i].key, expected[i][0]));
        says("card", &d, expected[i][0], expected[i][1]);
    }
    apr_draft_end(&d);
    apr_side_end(&side);
}

/* What gguf-py makes of a folder "Foo-7B-chat-v2". The card goes before config.json's name, that before the folder's. */
static void names_say_what_the_card_does_not(void **state)
{
    (void)state;
    static const char path[] = "{\"_name_or_path\": \"meta-llama/Llama-2-7b-hf\", \"text_config\": {\"_name_or_path\": \"a/b-1B\"}}";
    static const struct {
        const char *config, *card, *said[6]; /* name, organization, basename, finetune, version, size_label */
        uint64_t    elements;
    } rows[] = {
        { "{}", "", { "Foo 7B Chat v2", NULL, "Foo", "chat", "v2", "7B" }, 0 },
        { "{}", "", { "Foo 7B Chat v2", NULL, "Foo", "7b-chat", "v2", "1.3M" }, 1345792 },
        { path, "", { "Llama 2 7b Hf", "Meta Llama", "Llama-2", "hf", "v2", "7B" }, 0 },
        { "{\"_name_or_path\": \"/tmp/x/y-1B\"}", "", { "Foo 7B Chat v2", NULL, "Foo", "chat", "v2", "7B" }, 0 },
        { "{\"_name_or_path\": \"\"}", "", { NULL, NULL, "Foo", "chat", "v2", "7B" }, 0 },
        { "{\"_name_or_path\": null}", "", { "Foo 7B Chat v2", NULL, "Foo", "chat", "v2", "7B" }, 0 },
        { path, "name: N\nversion: v9\nmodel_basename: b\nfinetune: ''\norganization: x-y\nsize_label: ~\n",
          { "N", "x-y", "b", NULL, "v9", "7B" }, 0 },
        { "{}", "basename:\nmodel_type: llama\n", { "Foo 7B Chat v2", NULL, "llama", "chat", "v2", "7B" }, 0 },
    };
    static const char *const keys[6] = { "general.name", "general.organization", "general.basename", "general.finetune", "general.version",
                                         "general.size_label" };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_side side = { 0 };
        struct apr_draft d = { 0 };
        struct apr_hf_config *config;
        struct apr_error e;
        char card[256];
        snprintf(card, sizeof card, "---\n%s---\n", rows[i].card);
        side_file(&side, "README.md", card);
        side_file(&side, "config.json", rows[i].config);
        fine(apr_hf_config_new(&config, apr_text(rows[i].config), &e), &e);
        const struct apr_translation t = {
            .side = &side, .config = config, .name = apr_text("Foo-7B-chat-v2"), .elements = rows[i].elements,
        };
        fine(apr_general_put(&d, &t, &e), &e);
        for (size_t k = 0; k < APR_LENGTH(keys); k++) {
            const struct apr_value *const v = apr_draft_find(&d, apr_text(keys[k]));
            const char *const said = rows[i].said[k];
            if ((v == NULL) != (said == NULL) || (v != NULL && !apr_bytes_is(v->text, said)))
                fail_msg("row %zu: %s is %.*s", i, keys[k], v == NULL ? 6 : (int)v->text.n,
                         v == NULL ? "absent" : (const char *)v->text.at);
        }
        apr_draft_end(&d);
        apr_hf_config_free(config);
        apr_side_end(&side);
    }
}

static void what_came_from_a_gguf_gets_no_keys_of_its_folder_name(void **state)
{
    (void)state;
    struct model m;
    struct apr_draft d = { 0 };
    struct apr_error e;
    model_begin(&m, "safetensors");
    model_string(&m, APR_KV_KEY, "{}");
    const struct apr_translation t = { .m = &m.m, .name = apr_text("Foo-7B-chat-v2"), .elements = 1345792 };
    fine(apr_general_put(&d, &t, &e), &e);
    assert_int_equal(d.meta.n, 3);
    says("GGUF", &d, "general.name", "\"t\":\"str\",\"v\":\"Foo 7B Chat v2\"");
    says("GGUF", &d, "general.size_label", "\"t\":\"str\",\"v\":\"1.3M\"");
    apr_draft_end(&d);
    model_end(&m);
}

static void a_card_that_is_no_yaml_says_nothing(void **state)
{
    (void)state;
    static const char *const cards[] = {
        "---\nlicense: [a\n---\n", "---\n&a *a: !!x\n---\n", "---\nlicense: mit", "no card", "---\n---\n", "",
    };
    for (size_t i = 0; i < APR_LENGTH(cards); i++) {
        struct apr_side side = { 0 };
        struct apr_draft d = { 0 };
        struct apr_error e;
        side_file(&side, "README.md", cards[i]);
        const struct apr_translation t = { .side = &side, .name = apr_text("X") };
        fine(apr_general_put(&d, &t, &e), &e);
        assert_int_equal(d.meta.n, 2);
        apr_draft_end(&d);
        apr_side_end(&side);
    }
}

/* ---- a checkpoint ---------------------------------------------------------------------------------------------------- */

/* A model, bound, with what a converter would know of it. */
struct subject {
    struct model           m;
    struct apr_binding    *b;
    struct apr_hf_config  *config;
    struct apr_side        side;
    struct apr_translation t;
};

static void subject_bind_to(struct subject *s, const struct apr_family *f)
{
    struct apr_error e;
    fine(apr_bind(&s->b, f, &s->m.m, NULL, &e), &e);
    fine(apr_hf_config_of(&s->config, &s->m.m, &e), &e);
    fine(apr_side_of(&s->side, &s->m.m, test_run_with(1), &e), &e);
    if (s->m.m.config != NULL)
        fine(apr_side_put(&s->side, "config.json", s->m.config.map, &e), &e);
    s->t = (struct apr_translation){ .m = &s->m.m, .b = s->b, .side = &s->side, .config = s->config, .name = apr_text("Name"), .head = true,
                                     .main = &apr_dtypes[APR_F16], .file_type = 1, .elements = 1344768, .bytes = 7 };
}

static void subject_bind(struct subject *s, const char *name) { subject_bind_to(s, family(name)); }

static void subject_end(struct subject *s)
{
    apr_binding_free(s->b);
    apr_hf_config_free(s->config);
    apr_side_end(&s->side);
    model_end(&s->m);
}

static const char llama_config[] =
    "{\n  \"architectures\": [\n    \"LlamaForCausalLM\"\n  ],\n  \"dtype\": \"float16\",\n  \"head_dim\": 64,\n"
    "  \"hidden_size\": 256,\n  \"intermediate_size\": 512,\n  \"max_position_embeddings\": 512,\n  \"model_type\": \"llama\",\n"
    "  \"num_attention_heads\": 4,\n  \"num_hidden_layers\": 2,\n  \"num_key_value_heads\": 2,\n  \"pretraining_tp\": 1,\n"
    "  \"rms_norm_eps\": 1e-05,\n  \"rope_parameters\": {\n    \"rope_theta\": 10000.0,\n    \"rope_type\": \"default\"\n  },\n"
    "  \"tie_word_embeddings\": false,\n  \"vocab_size\": 320\n}";

/* As the converter of llama.cpp writes them for this config. */
static const char *const llama_keys[][2] = {
    { "general.architecture", "\"t\":\"str\",\"v\":\"llama\"" },
    { "general.type", "\"t\":\"str\",\"v\":\"model\"" },
    { "general.name", "\"t\":\"str\",\"v\":\"Name\"" },
    { "general.size_label", "\"t\":\"str\",\"v\":\"1.3M\"" },
    { "llama.block_count", "\"t\":\"u32\",\"v\":2" },
    { "llama.context_length", "\"t\":\"u32\",\"v\":512" },
    { "llama.embedding_length", "\"t\":\"u32\",\"v\":256" },
    { "llama.feed_forward_length", "\"t\":\"u32\",\"v\":512" },
    { "llama.attention.head_count", "\"t\":\"u32\",\"v\":4" },
    { "llama.attention.head_count_kv", "\"t\":\"u32\",\"v\":2" },
    { "llama.rope.freq_base", "\"t\":\"f32\",\"v\":10000.0" },
    { "llama.attention.layer_norm_rms_epsilon", "\"t\":\"f32\",\"v\":1e-05" },
    { "llama.attention.key_length", "\"t\":\"u32\",\"v\":64" },
    { "llama.attention.value_length", "\"t\":\"u32\",\"v\":64" },
    { "general.file_type", "\"t\":\"u32\",\"v\":1" },
    { "llama.vocab_size", "\"t\":\"u32\",\"v\":320" },
    { "llama.rope.dimension_count", "\"t\":\"u32\",\"v\":64" },
    { "general.quantization_version", "\"t\":\"u32\",\"v\":2" },
};

static void a_checkpoint(struct subject *s, const char *config)
{
    *s = (struct subject){ 0 };
    model_begin(&s->m, "safetensors");
    model_config(&s->m, config);
    model_string(&s->m, "format", "pt");
    subject_bind(s, "llama");
}

static void a_config_becomes_the_keys_that_llama_cpp_writes(void **state)
{
    (void)state;
    struct subject s;
    struct apr_draft d = { 0 };
    struct apr_error e;
    a_checkpoint(&s, llama_config);
    fine(apr_translate_to_gguf(&d, &s.t, &e), &e);
    for (size_t i = 0; i < APR_LENGTH(llama_keys); i++) {
        assert_true(apr_bytes_is(d.meta.entry[i].key, llama_keys[i][0]));
        says("llama", &d, llama_keys[i][0], llama_keys[i][1]);
    }
    says("__metadata__", &d, "hf.metadata.format", "\"t\":\"str\",\"v\":\"pt\"");
    assert_true(apr_bytes_is(apr_draft_find(&d, apr_text("hf.config.json"))->text, llama_config));
    assert_int_equal(d.meta.n, APR_LENGTH(llama_keys) + 2);
    apr_draft_end(&d);
    subject_end(&s);
}

/* As the converter of llama.cpp, of a DeepseekV3ForCausalLM too. */
static void a_gating_function_is_written_where_the_config_names_one(void **state)
{
    (void)state;
    static const struct {
        const char *member;
        unsigned    gating; /* 0: no key */
    } rows[] = {
        { "", 0 }, { ", \"scoring_func\": null", 0 }, { ", \"scoring_func\": \"softmax\"", 1 }, { ", \"scoring_func\": \"sigmoid\"", 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct subject s = { 0 };
        struct apr_draft d = { 0 };
        struct apr_error e;
        char config[1024];
        snprintf(config, sizeof config,
                 "{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"vocab_size\": 320, \"hidden_size\": 64, \"intermediate_size\": 96,"
                 " \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"max_position_embeddings\": 512, \"q_lora_rank\": 32,"
                 " \"kv_lora_rank\": 32, \"qk_nope_head_dim\": 16, \"qk_rope_head_dim\": 8, \"v_head_dim\": 16, \"n_routed_experts\": 4,"
                 " \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32, \"n_shared_experts\": 1, \"first_k_dense_replace\": 1%s}",
                 rows[i].member);
        model_begin(&s.m, "safetensors");
        model_config(&s.m, config);
        subject_bind(&s, "deepseek2");
        fine(apr_translate_to_gguf(&d, &s.t, &e), &e);
        const struct apr_value *const v = apr_draft_find(&d, apr_text("deepseek2.expert_gating_func"));
        assert_int_equal(v == NULL ? 0 : v->u, rows[i].gating);
        apr_draft_end(&d);
        subject_end(&s);
    }
}

static void a_key_that_nothing_gives_is_named(void **state)
{
    (void)state;
    struct subject s;
    struct apr_draft d = { 0 };
    struct apr_error e;
    a_checkpoint(&s, "{\"architectures\": [\"LlamaForCausalLM\"], \"num_hidden_layers\": 2}");
    assert_int_equal(apr_translate_to_gguf(&d, &s.t, &e), APR_EARG);
    assert_non_null(strstr(e.text, "llama.context_length"));
    assert_non_null(strstr(e.text, "max_position_embeddings"));
    apr_draft_end(&d);
    subject_end(&s);
}

static void flat_is(const struct apr_draft *d, const char *key, const char *json)
{
    const struct apr_value *const v = apr_draft_find(d, apr_text(key));
    if (v == NULL || !apr_bytes_is(v->text, json))
        fail_msg("%s is %.*s, not %s", key, v == NULL ? 6 : (int)v->text.n, v == NULL ? "absent" : (const char *)v->text.at, json);
}

static void an_apr_has_one_spelling_of_each_size_and_the_files(void **state)
{
    (void)state;
    static const char *const expected[][2] = {
        { "model_type", "llama" }, { "architecture", "llama" }, { "hf_architecture", "LlamaForCausalLM" },
        { "original_format", "safetensors" },
        { "hidden_size", "256" }, { "num_layers", "2" }, { "num_heads", "4" }, { "num_kv_heads", "2" }, { "vocab_size", "320" },
        { "intermediate_size", "512" }, { "max_position_embeddings", "512" }, { "rope_theta", "10000.0" }, { "rope_type", "2" },
        { "rms_norm_eps", "1e-05" }, { "total_size", "7" }, { "param_count", "1344768" }, { "source_metadata", "{\"format\":\"pt\"}" },
    };
    static const char *const never[] = { "n_embd", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "context_length" };
    struct subject s;
    struct apr_draft d = { 0 };
    struct apr_error e;
    a_checkpoint(&s, llama_config);
    fine(apr_translate_to_apr(&d, &s.t, &e), &e);
    for (size_t i = 0; i < APR_LENGTH(expected); i++)
        flat_is(&d, expected[i][0], expected[i][1]);
    for (size_t i = 0; i < APR_LENGTH(never); i++)
        assert_null(apr_draft_find(&d, apr_text(never[i])));
    assert_int_equal(apr_draft_find(&d, apr_text("license"))->type, APR_META_NULL);
    assert_non_null(apr_draft_find(&d, apr_text(APR_SIDE_KEY)));

    struct subject apr = { 0 }; /* and from it the same keys */
    struct apr_draft keys = { 0 };
    model_begin(&apr.m, "apr");
    for (size_t i = 0; i < d.meta.n; i++) {
        struct apr_value *const v = model_key(&apr.m, "");
        apr.m.m.meta.entry[i].key = d.meta.entry[i].key;
        *v = d.meta.entry[i].value;
    }
    subject_bind(&apr, "llama");
    fine(apr_translate_to_gguf(&keys, &apr.t, &e), &e);
    for (size_t i = 0; i < APR_LENGTH(llama_keys); i++)
        says("APR", &keys, llama_keys[i][0], llama_keys[i][1]);
    assert_int_equal(keys.meta.n, APR_LENGTH(llama_keys) + 2);
    apr_draft_end(&keys);
    subject_end(&apr);
    apr_draft_end(&d);
    subject_end(&s);
}

/* ---- a GGUF ---------------------------------------------------------------------------------------------------------- */

static void a_gguf(struct subject *s, const char *carried, double theta)
{
    *s = (struct subject){ 0 };
    model_begin(&s->m, "gguf");
    model_string(&s->m, "general.architecture", "llama");
    model_string(&s->m, "general.name", "Its Name");
    model_number(&s->m, "llama.block_count", 2);
    model_number(&s->m, "llama.context_length", 512);
    model_number(&s->m, "llama.embedding_length", 256);
    model_number(&s->m, "llama.feed_forward_length", 512);
    model_number(&s->m, "llama.attention.head_count", 4);
    model_number(&s->m, "llama.attention.head_count_kv", 2);
    model_number(&s->m, "llama.vocab_size", 320);
    model_real(&s->m, "llama.rope.freq_base", theta);
    model_real(&s->m, "llama.attention.layer_norm_rms_epsilon", (double)1e-05f);
    model_number(&s->m, "tokenizer.ggml.eos_token_id", 2);
    model_number(&s->m, "split.count", 1);
    if (carried != NULL)
        model_string(&s->m, "hf.config.json", carried);
    subject_bind(s, "llama");
}

static void member_is(struct apr_bytes json, const char *path, const char *value)
{
    const struct apr_bytes found = apr_json_find(json, path);
    if (!apr_bytes_is(found, value))
        fail_msg("%s is %.*s, not %s", path, APR_PRINTED(found), value);
}

static void a_gguf_becomes_a_config_with_numbers_as_people_write_them(void **state)
{
    (void)state;
    struct subject s;
    struct apr_draft meta = { 0 };
    struct apr_side files = { 0 };
    struct apr_error e;
    a_gguf(&s, NULL, 500000);
    fine(apr_translate_to_hf(&meta, &files, &s.t, &e), &e);
    const struct apr_bytes config = apr_side_get(&files, "config.json");
    member_is(config, "model_type", "\"llama\"");
    member_is(config, "architectures", "[\"LlamaForCausalLM\"]");
    member_is(config, "num_hidden_layers", "2");
    member_is(config, "rms_norm_eps", "1e-05");
    member_is(config, "rope_theta", "500000.0");
    member_is(config, "tie_word_embeddings", "false");
    member_is(config, "torch_dtype", "\"float16\"");
    member_is(config, "eos_token_id", "2");
    member_is(apr_side_get(&files, "generation_config.json"), "eos_token_id", "2");
    assert_true(apr_bytes_is(apr_draft_find(&meta, apr_text("format"))->text, "pt"));
    assert_true(apr_bytes_is(apr_draft_find(&meta, apr_text(APR_KV_KEY))->text, "{\"general.name\":{\"t\":\"str\",\"v\":\"Its Name\"}}"));
    apr_draft_end(&meta);
    apr_side_end(&files);
    subject_end(&s);
}

/* Expected: what transformers loads without a tensor that it finds of another shape, or in no place. */
static void a_classifier_gets_the_class_that_has_it(void **state)
{
    (void)state;
    static const struct {
        const char *family;
        struct {
            const char *name;
            uint64_t    rows;
        } tensor[2];
        const char *member[5][2];
    } rows[] = {
        { "bert", { { NULL, 0 } }, { { "architectures", "[\"BertModel\"]" }, { "model_type", "\"bert\"" }, { "type_vocab_size", "3" } } },
        { "bert", { { "cls.weight", 5 } },
          { { "architectures", "[\"BertForSequenceClassification\"]" }, { "model_type", "\"bert\"" }, { "num_labels", "5" },
            { "pad_token_id", "7" } } },
        { "bert", { { "cls.output.weight", 5 } },
          { { "architectures", "[\"BertForSequenceClassification\"]" }, { "model_type", "\"bert\"" } } },
        { "bert", { { "cls.weight", 32 }, { "cls.output.weight", 5 } },
          { { "architectures", "[\"RobertaForSequenceClassification\"]" }, { "model_type", "\"roberta\"" }, { "pad_token_id", "-1" } } },
        { "distilbert", { { NULL, 0 } }, { { "architectures", "[\"DistilBertModel\"]" }, { "model_type", "\"distilbert\"" } } },
        { "distilbert", { { "cls.weight", 32 }, { "cls.output.weight", 5 } },
          { { "architectures", "[\"DistilBertForSequenceClassification\"]" }, { "model_type", "\"distilbert\"" } } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct subject s = { 0 };
        struct apr_draft meta = { 0 };
        struct apr_side files = { 0 };
        struct apr_error e;
        model_begin(&s.m, "gguf");
        model_string(&s.m, "general.architecture", "bert");
        model_number(&s.m, "tokenizer.ggml.padding_token_id", 7);
        model_tensor(&s.m, "token_embd.weight", 90, 32, 0);
        model_tensor(&s.m, "token_types.weight", 3, 32, 0);
        for (size_t k = 0; k < 2 && rows[i].tensor[k].name != NULL; k++)
            model_tensor(&s.m, rows[i].tensor[k].name, rows[i].tensor[k].rows, 32, 0);
        subject_bind(&s, rows[i].family);
        fine(apr_translate_to_hf(&meta, &files, &s.t, &e), &e);
        for (size_t k = 0; k < 5 && rows[i].member[k][0] != NULL; k++)
            member_is(apr_side_get(&files, "config.json"), rows[i].member[k][0], rows[i].member[k][1]);
        apr_draft_end(&meta);
        apr_side_end(&files);
        subject_end(&s);
    }
}

static void a_config_that_a_gguf_carries_changes_only_where_its_keys_say_otherwise(void **state)
{
    (void)state;
    for (int edited = 0; edited < 2; edited++) {
        struct subject s;
        struct apr_draft meta = { 0 };
        struct apr_side files = { 0 };
        struct apr_error e;
        a_gguf(&s, llama_config, edited ? 500000 : 10000);
        fine(apr_translate_to_hf(&meta, &files, &s.t, &e), &e);
        struct apr_bytes config = apr_side_get(&files, "config.json");
        if (edited)
            fine(apr_json_put(&files.arena, &config, "rope_parameters.rope_theta", apr_text("10000.0"), &e), &e);
        if (!apr_bytes_is(config, llama_config))
            fail_msg("%.*s", APR_PRINTED(config));
        member_is(apr_side_get(&files, "config.json"), "rope_parameters.rope_theta", edited ? "500000.0" : "10000.0");
        assert_null(apr_draft_find(&meta, apr_text(APR_KV_KEY)));
        apr_draft_end(&meta);
        apr_side_end(&files);
        subject_end(&s);
    }
}

/* Its keys come back as they were, but for what somebody changed in the APR. */
static void a_gguf_survives_an_apr_and_its_flat_keys_can_be_edited(void **state)
{
    (void)state;
    for (int edited = 0; edited < 2; edited++) {
        struct subject s, apr = { 0 };
        struct apr_draft d = { 0 }, keys = { 0 };
        struct apr_error e;
        a_gguf(&s, NULL, 500000);
        fine(apr_translate_to_apr(&d, &s.t, &e), &e);
        flat_is(&d, "rope_theta", "500000.0");
        if (edited)
            fine(apr_draft_json(&d, "rope_theta", apr_text("12345.5"), &e), &e);
        model_begin(&apr.m, "apr");
        for (size_t i = 0; i < d.meta.n; i++) {
            struct apr_value *const v = model_key(&apr.m, "");
            apr.m.m.meta.entry[i].key = d.meta.entry[i].key;
            *v = d.meta.entry[i].value;
        }
        subject_bind(&apr, "llama");
        apr.t.file_type = -1;
        fine(apr_translate_to_gguf(&keys, &apr.t, &e), &e);
        assert_int_equal(keys.meta.n, s.m.m.meta.n - 1); /* split.count is the file's own */
        for (size_t i = 0; i < keys.meta.n; i++) {
            const struct apr_meta_entry *const was = &s.m.m.meta.entry[i];
            assert_true(apr_bytes_equal(keys.meta.entry[i].key, was->key));
            if (!edited || !apr_bytes_is(was->key, "llama.rope.freq_base"))
                assert_true(apr_value_equal(&keys.meta.entry[i].value, &was->value));
        }
        says("edited", &keys, "llama.rope.freq_base", edited ? "\"t\":\"f32\",\"v\":12345.5" : "\"t\":\"f32\",\"v\":500000.0");
        apr_draft_end(&keys);
        subject_end(&apr);
        apr_draft_end(&d);
        subject_end(&s);
    }
}

static void a_big_endian_file_gives_the_keys_of_its_twin(void **state)
{
    (void)state;
    static const char *const path[] = { "fixtures/qwen2-bf16.gguf", "fixtures/qwen2-big-endian.gguf" };
    struct apr_draft d[2] = { { { 0 } } };
    struct apr_model *m[2];
    struct apr_error e;
    for (int i = 0; i < 2; i++) {
        fine(apr_open(&m[i], path[i], test_run_with(1), &e), &e);
        const struct apr_translation t = { .m = m[i], .file_type = -1 };
        fine(apr_translate_to_gguf(&d[i], &t, &e), &e);
    }
    for (size_t i = 0; i < d[0].meta.n; i++) {
        const struct apr_value *const other = apr_draft_find(&d[1], d[0].meta.entry[i].key);
        assert_true(other == NULL || (other->encoding == APR_GGUF_LE && apr_value_equal(other, &d[0].meta.entry[i].value)));
    }
    for (int i = 0; i < 2; i++) {
        apr_draft_end(&d[i]);
        apr_close(m[i]);
    }
}

/* ---- lists ---------------------------------------------------------------------------------------------------------- */

static const char hybrid[] =
    "schema: apr-family/1\n"
    "family: hybrid\n"
    "dims:\n"
    "  N: {keys: [num_layers]}\n"
    "  H: {keys: [hidden_size]}\n"
    "  K: {keys: [kv_heads]}\n"
    "  every: {keys: [full_every], default: 2}\n"
    "tensors:\n"
    "  - {role: token_embd, hf: embed, gguf: token_embd.weight, shape: [9, H]}\n"
    "kv:\n"
    "  - {gguf: general.architecture, type: str, const: hybrid}\n"
    "  - {gguf: \"{a}.block_count\", type: u32, expr: N}\n"
    "  - {gguf: \"{a}.attention.head_count_kv\", type: arr_i32, each: \"first(at(kv_heads, layer), 0)\", hf: kv_heads, apr: kv, fills: K}\n"
    "  - {gguf: \"{a}.rope.sections\", type: arr_i32, each: \"first(at(rope.sections, layer), 0)\", count: 4}\n"
    "  - {gguf: \"{a}.windowed\", type: arr_bool, each: \"mod(layer + 1, every) > 0\"}\n"
    "  - {gguf: \"{a}.kinds\", type: arr_str, from: [kinds, layer_types], hf: layer_types}\n"
    "  - {gguf: \"{a}.scales\", type: arr_f32, from: scales, hf: scales}\n"
    "hf_config:\n"
    "  - set:\n"
    "      num_layers: N\n"
    "      layers_block_type: {each: \"if(at(attention.head_count_kv, layer) > 0, 'attention', 'mamba')\"}\n"
    "      ones: {each: \"at(windowed, layer)\", type: bool, count: 2}\n"
    "      halves: {each: layer / 2}\n"
    "      rope.sections: {each: \"at(rope.sections, layer)\", count: 3}\n"
    "      has_heads: {expr: K > 0, type: bool}\n"
    "apr:\n"
    "  set: {layers: N, doubled: {each: 2 * layer}}\n";

static struct apr_family *hybrid_family(void)
{
    struct apr_family *f;
    struct apr_error e;
    fine(apr_family_parse(&f, "hybrid.yaml", apr_text(hybrid), &e), &e);
    return f;
}

static void lists_become_arrays_of_a_gguf_and_come_back(void **state)
{
    (void)state;
    struct apr_family *const f = hybrid_family();
    struct subject hf = { 0 }, gguf = { 0 };
    struct apr_draft d = { 0 }, apr = { 0 }, meta = { 0 };
    struct apr_side files = { 0 };
    struct apr_error e;
    model_begin(&hf.m, "safetensors");
    model_config(&hf.m, "{\"num_layers\": 3, \"kv_heads\": [0, null, 4], \"rope\": {\"sections\": [8, 12, 12]}, "
                        "\"layer_types\": [\"a\", \"b\"], \"scales\": [0.5, 1]}");
    subject_bind_to(&hf, f);
    fine(apr_translate_to_gguf(&d, &hf.t, &e), &e);
    says("kv heads", &d, "hybrid.attention.head_count_kv", "\"t\":\"arr_i32\",\"v\":[0,0,4]");
    says("padded", &d, "hybrid.rope.sections", "\"t\":\"arr_i32\",\"v\":[8,12,12,0]");
    says("of a formula", &d, "hybrid.windowed", "\"t\":\"arr_bool\",\"v\":[true,false,true]");
    says("as it is", &d, "hybrid.kinds", "\"t\":\"arr_str\",\"v\":[\"a\",\"b\"]");
    says("floats", &d, "hybrid.scales", "\"t\":\"arr_f32\",\"v\":[0.5,1.0]");
    fine(apr_translate_to_apr(&apr, &hf.t, &e), &e);
    flat_is(&apr, "kv", "[0, 0, 4]");
    flat_is(&apr, "doubled", "[0, 2, 4]");

    model_begin(&gguf.m, "gguf");
    for (size_t i = 0; i < d.meta.n; i++)
        if (d.meta.entry[i].key.at[0] != 'h' || d.meta.entry[i].key.at[1] == 'y') { /* all but what it carries: hf.config.json */
            struct apr_value *const v = model_key(&gguf.m, "");
            gguf.m.m.meta.entry[gguf.m.m.meta.n - 1].key = d.meta.entry[i].key;
            *v = d.meta.entry[i].value;
        }
    subject_bind_to(&gguf, f);
    fine(apr_translate_to_hf(&meta, &files, &gguf.t, &e), &e);
    static const char *const members[][2] = {
        { "num_layers", "3" }, { "kv_heads", "[0, 0, 4]" }, { "layers_block_type", "[\"mamba\", \"mamba\", \"attention\"]" },
        { "ones", "[true, false]" }, { "halves", "[0.0, 0.5, 1.0]" }, { "rope.sections", "[8, 12, 12]" }, { "has_heads", "true" },
        { "layer_types", "[\"a\", \"b\"]" }, { "scales", "[0.5, 1.0]" },
    };
    for (size_t i = 0; i < APR_LENGTH(members); i++)
        member_is(apr_side_get(&files, "config.json"), members[i][0], members[i][1]);
    apr_draft_end(&meta);
    apr_side_end(&files);
    subject_end(&gguf);
    apr_draft_end(&apr);
    apr_draft_end(&d);
    subject_end(&hf);
    apr_family_free(f);
}

/* Of a class whose text model has a configuration of its own. */
static const char wrapped[] =
    "schema: apr-family/1\n"
    "family: wrapped\n"
    "dims: {N: {keys: [num_layers]}, H: {keys: [hidden_size]}}\n"
    "tensors: [{role: token_embd, hf: embed, gguf: token_embd.weight, shape: [9, H]}]\n"
    "kv:\n"
    "  - {gguf: \"{a}.block_count\", type: u32, expr: N, hf: num_layers}\n"
    "  - {gguf: \"{a}.embedding_length\", type: u32, expr: H, hf: hidden_size}\n"
    "hf_config:\n"
    "  - set: {model_type: outer, text_config.model_type: inner}\n";

static void numbers_go_where_a_contract_has_set_a_text_config(void **state)
{
    (void)state;
    static const char *const members[][2] = {
        { "model_type", "\"outer\"" }, { "text_config.model_type", "\"inner\"" }, { "text_config.num_layers", "3" },
        { "text_config.hidden_size", "8" }, { "text_config.bos_token_id", "1" },
    };
    struct apr_family *f;
    struct subject s = { 0 };
    struct apr_draft meta = { 0 };
    struct apr_side files = { 0 };
    struct apr_error e;
    fine(apr_family_parse(&f, "wrapped.yaml", apr_text(wrapped), &e), &e);
    model_begin(&s.m, "gguf");
    model_string(&s.m, "general.architecture", "wrapped");
    model_number(&s.m, "wrapped.block_count", 3);
    model_number(&s.m, "wrapped.embedding_length", 8);
    model_number(&s.m, "tokenizer.ggml.bos_token_id", 1);
    subject_bind_to(&s, f);
    fine(apr_translate_to_hf(&meta, &files, &s.t, &e), &e);
    for (size_t i = 0; i < APR_LENGTH(members); i++)
        member_is(apr_side_get(&files, "config.json"), members[i][0], members[i][1]);
    member_is(apr_side_get(&files, "generation_config.json"), "bos_token_id", "1");
    apr_draft_end(&meta);
    apr_side_end(&files);
    subject_end(&s);
    apr_family_free(f);
}

static void an_element_that_nothing_tells_or_that_is_of_another_type_is_named(void **state)
{
    (void)state;
    static const struct { const char *config, *words; } rows[] = {
        { "{\"num_layers\": 2, \"kv_heads\": [1, \"two\"]}", "hybrid.attention.head_count_kv is a list of type i32, which element 1" },
        { "{\"num_layers\": 2, \"kv_heads\": [1, 2.5]}", "element 1" },
        { "{\"num_layers\": 2, \"kv_heads\": [1, {}]}", "element 1" },
        { "{\"num_layers\": 2, \"scales\": [\"all\"]}", "hybrid.scales is a list of type f32, which element 0" },
        { "{\"num_layers\": 2, \"scales\": [1, null]}", "nothing tells element 1 of hybrid.scales" },
        { "{\"num_layers\": 99999999}", "at most 65536" },
        { "{}", "needs hybrid.block_count" },
    };
    struct apr_family *const f = hybrid_family();
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct subject s = { 0 };
        struct apr_draft d = { 0 };
        struct apr_error e;
        model_begin(&s.m, "safetensors");
        model_config(&s.m, rows[i].config);
        subject_bind_to(&s, f);
        const enum apr_code code = apr_translate_to_gguf(&d, &s.t, &e);
        if (code == APR_OK || strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: %s", rows[i].config, code == APR_OK ? "taken" : e.text);
        apr_draft_end(&d);
        subject_end(&s);
    }
    apr_family_free(f);
}

/* ---- SafeTensors ------------------------------------------------------------------------------------------------------ */

static void a_checkpoint_stays_as_it_is_but_for_its_dtype(void **state)
{
    (void)state;
    for (int typed = 0; typed < 2; typed++) {
        struct subject s;
        struct apr_draft meta = { 0 };
        struct apr_side files = { 0 };
        struct apr_error e;
        a_checkpoint(&s, "{\"torch_dtype\": \"float32\", \"text_config\": {\"dtype\":\"float32\"}, \"x\":  1.50}");
        s.t.typed = typed;
        fine(apr_translate_to_hf(&meta, &files, &s.t, &e), &e);
        assert_true(apr_bytes_is(apr_side_get(&files, "config.json"),
                                 typed ? "{\"torch_dtype\": \"float16\", \"text_config\": {\"dtype\":\"float16\"}, \"x\":  1.50}"
                                       : "{\"torch_dtype\": \"float32\", \"text_config\": {\"dtype\":\"float32\"}, \"x\":  1.50}"));
        assert_int_equal(meta.meta.n, 1);
        apr_draft_end(&meta);
        apr_side_end(&files);
        subject_end(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_every_type_come_back_from_json_with_their_bits),
        cmocka_unit_test(nan_keeps_its_bits),
        cmocka_unit_test(what_is_no_such_json_is_refused_by_its_key),
        cmocka_unit_test(a_member_is_put_and_all_else_stays_byte_for_byte),
        cmocka_unit_test(a_size_is_rounded_to_two_digits_or_more),
        cmocka_unit_test(a_card_and_sampling_become_general_keys),
        cmocka_unit_test(names_say_what_the_card_does_not),
        cmocka_unit_test(what_came_from_a_gguf_gets_no_keys_of_its_folder_name),
        cmocka_unit_test(a_card_that_is_no_yaml_says_nothing),
        cmocka_unit_test(a_config_becomes_the_keys_that_llama_cpp_writes),
        cmocka_unit_test(a_gating_function_is_written_where_the_config_names_one),
        cmocka_unit_test(a_key_that_nothing_gives_is_named),
        cmocka_unit_test(an_apr_has_one_spelling_of_each_size_and_the_files),
        cmocka_unit_test(a_gguf_becomes_a_config_with_numbers_as_people_write_them),
        cmocka_unit_test(a_classifier_gets_the_class_that_has_it),
        cmocka_unit_test(a_config_that_a_gguf_carries_changes_only_where_its_keys_say_otherwise),
        cmocka_unit_test(a_gguf_survives_an_apr_and_its_flat_keys_can_be_edited),
        cmocka_unit_test(a_big_endian_file_gives_the_keys_of_its_twin),
        cmocka_unit_test(lists_become_arrays_of_a_gguf_and_come_back),
        cmocka_unit_test(numbers_go_where_a_contract_has_set_a_text_config),
        cmocka_unit_test(an_element_that_nothing_tells_or_that_is_of_another_type_is_named),
        cmocka_unit_test(a_checkpoint_stays_as_it_is_but_for_its_dtype),
    };
    return cmocka_run_group_tests(tests, open_families, close_families);
}
