/* apr-convert, option by option, and what it refuses: exit 2, with the word that helps, and nothing left. */
#include "convert.h"

#include <zstd.h>

/* ---- what was written ----------------------------------------------------------------------------------------------- */

/* Names of the tensors, in the order of the file: "a b c". */
static void expect_tensors(const char *model, const char *want)
{
    json_t *const r = report_of(test_tool("apr-inspect", "--json", "--tensors", model, NULL), 0);
    char names[2000] = "";
    for (size_t i = 0; i < json_array_size(at(r, "tensors")); i++) {
        strcat(names, i == 0 ? "" : " ");
        strcat(names, text_of(json_array_get(at(r, "tensors"), i), "name"));
    }
    if (strcmp(names, want) != 0)
        fail_msg("%s has %s, not %s", model, names, want);
    json_decref(r);
}

/* The report of a run that ended with 0. */
static json_t *told(const char *in, const char *out, const char *a, const char *b)
{
    return report_of(test_tool(APR_CONVERT, "--json", in, test_path(out), a, b, NULL), 0);
}

/* ---- dtypes --------------------------------------------------------------------------------------------------------- */

/* 16 matrices, 11 vectors. */
static void type_is_of_matrices_and_pure_of_all(void **state)
{
    (void)state;
    static const struct { const char *out, *type, *pure, *dtype; size_t n; const char *rest; } rows[] = {
        { "t1.gguf", "--type=q8_0", NULL, "Q8_0", 16, "F32" },      { "t2.gguf", "--type=f16", "--pure", "F16", 27, NULL },
        { "t3.apr", "--type=q4_0", NULL, "Q4_0", 16, "BF16" },      { "t4.apr", "--type=f16", NULL, "F16", 27, NULL }, /* exact */
        { "t5.safetensors", "--type=f32", NULL, "F32", 27, NULL },  { "t6.apr", "--type=f32", "--pure", "F32", 27, NULL },
        { "t7.gguf", "--type=auto", NULL, "BF16", 16, "F32" },      { "t8.apr", "--type=apr_q4", NULL, "APR_Q4", 16, "BF16" },
        { "t9.gguf", "--quantize=TQ2_0", NULL, "Q4_0", 14, NULL },  /* rows of 64 are no blocks of 256 */
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        json_t *const r = told("fixtures/qwen2", rows[i].out, rows[i].type, rows[i].pure);
        expect_count(r, rows[i].dtype, rows[i].n);
        if (rows[i].rest != NULL)
            expect_count(r, rows[i].rest, 27 - rows[i].n);
        json_decref(r);
    }
}

static void what_is_quantized_is_quantized_again_only_when_that_is_allowed(void **state)
{
    (void)state;
    text_file("again/x", "");
    REFUSED("again", ("fixtures/qwen2-q8_0.gguf", test_path("again/m.gguf"), "--type=q4_0"), "token_embd.weight", "Q8_0",
            "--allow-requantize", "Q4_0");
    json_t *const r = told("fixtures/qwen2-q8_0.gguf", "again/m.gguf", "--type=q4_0", "--allow-requantize");
    expect_count(r, "Q4_0", 16);
    json_decref(r);
    expect_identical("fixtures/qwen2-q8_0.gguf", CONVERTED("fixtures/qwen2-q8_0.gguf", "again/f32.safetensors", "--type=f32"), 27);
}

static void a_nan_stops_before_blocks_unless_it_becomes_zero(void **state)
{
    (void)state;
    float v[64] = { 0 };
    v[32 + 5] = NAN;
    v[32 + 6] = -INFINITY;
    const char *const model = test_safetensors("nan/in.safetensors", &(struct test_tensor){ "w.weight", "F32", "[2,32]", v, sizeof v }, 1);
    REFUSED("nan", (model, test_path("nan/m.gguf"), "--keep-names", "--type=q8_0"), "w.weight", "row 1", "column 5", "--nan-to-zero");
    expect_identical(model, CONVERTED(model, "nan/f32.apr", NULL), 1);
    json_t *const r = report_of(test_tool(APR_CONVERT, "--json", model, test_path("nan/m.gguf"), "--keep-names", "--type=q8_0",
                                          "--nan-to-zero", NULL), 0);
    expect_text("the report", r, "tensors.0.nan_to_zero", "2");
    json_decref(r);
}

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

static void tensors_are_dropped_kept_and_renamed(void **state)
{
    (void)state;
    static const struct { const char *a, *b, *tensors; } rows[] = {
        { "--drop=b.", NULL, "a.weight c" },
        { "--drop=*.weight", NULL, "b.bias c" },
        { "--drop=re:^a[.]", NULL, "b.bias b.weight c" },
        { "--keep=*.weight", NULL, "a.weight b.weight" },
        { "--keep=*.weight", "--drop=a", "b.weight" },
        { "--rename=a.weight=d", NULL, "b.bias b.weight c d" },
        { "--rename=a.weight=c", "--rename=c=a.weight", "a.weight b.bias b.weight c" },
    };
    const char *const model = four_tensors("four.safetensors");
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        expect_tensors(CONVERTED(model, "picked.safetensors", "--force", rows[i].a, rows[i].b), rows[i].tensors);
    json_t *const r = told(model, "dropped.safetensors", "--drop=b.bias", NULL);
    expect_text("what is dropped", r, "dropped", "[{\"name\":\"b.bias\",\"reason\":\"dropped\"}]");
    json_decref(r);
    text_file("picking/x", "");
    const char *const out = test_path("picking/m.safetensors");
    REFUSED("picking", (model, out, "--rename=z=y"), "--rename", "\"z\"");
    REFUSED("picking", (model, out, "--rename=a.weight=c"), "\"c\"");
    REFUSED("picking", (model, out, "--rename=a.weight"), "--rename");
    REFUSED("picking", (model, out, "--drop=nothing"), "--drop \"nothing\" matches no tensor");
    REFUSED("picking", (model, out, "--keep=re:("), "--keep");
}

/* By names of either side; what a family misses then is not missed. */
static void patterns_know_both_names(void **state)
{
    (void)state;
    static const char *const drop[] = { "--drop=*ffn_up*", "--drop=*mlp.up*" };
    for (size_t i = 0; i < APR_LENGTH(drop); i++) {
        json_t *const r = told("fixtures/qwen2", i == 0 ? "p1.gguf" : "p2.gguf", drop[i], NULL);
        assert_int_equal(json_array_size(at(r, "tensors")), 25);
        assert_int_equal(json_array_size(at(r, "dropped")), 2);
        json_decref(r);
    }
    json_t *const r = told("fixtures/qwen2-q8_0.gguf", "p3.apr", "--keep=model.layers.1.*", NULL);
    assert_int_equal(json_array_size(at(r, "tensors")), 12);
    json_decref(r);
}

static void a_graft_takes_the_place_of_its_namesake(void **state)
{
    (void)state;
    json_t *r = told("fixtures/qwen2-q8_0.gguf", "g1.gguf", "--graft=fixtures/qwen2-q4_0.gguf:*attn_q.weight", NULL);
    expect_count(r, "Q4_0", 2);
    expect_count(r, "Q8_0", 14);
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", test_path("g1.gguf"), "fixtures/qwen2-q4_0.gguf", NULL), 1);
    for (size_t i = 0; i < json_array_size(at(r, "results")); i++) {
        const json_t *const row = json_array_get(at(r, "results"), i);
        if (strstr(text_of(row, "name"), "attn_q.weight") != NULL)
            expect_text("the graft", row, "status", "Identical");
    }
    json_decref(r);
    r = told("fixtures/qwen2-q8_0.gguf", "g2.gguf", "--graft=fixtures/qwen2:*lm_head*", NULL); /* of another dialect */
    expect_count(r, "BF16", 1);
    json_decref(r);
    float v[6] = { 0 };
    const char *const other = test_safetensors("graft/other.safetensors", &(struct test_tensor){ "c", "F32", "[3,2]", v, sizeof v }, 1);
    char option[300];
    snprintf(option, sizeof option, "--graft=%s:c", other);
    REFUSED("graft", (four_tensors("four.safetensors"), test_path("graft/m.safetensors"), option), "\"c\"", "another shape");
    REFUSED("graft", ("fixtures/qwen2", test_path("graft/m.apr"), "--graft=nowhere:x"), "--graft", "nowhere:x");
    REFUSED("graft", ("fixtures/qwen2", test_path("graft/m.apr"), "--graft=fixtures/qwen2.apr:nothing"), "--graft", "nothing");
}

static void kept_names_are_carried_as_they_are(void **state)
{
    (void)state;
    const char *const model = four_tensors("four.safetensors");
    expect_tensors(CONVERTED(model, "kept.gguf", "--keep-names"), "a.weight b.bias b.weight c");
    json_t *const r = told("fixtures/qwen2-q8_0.gguf", "kept.apr", "--keep-names", NULL);
    expect_count(r, "Q8_0", 16);
    expect_text("the first", r, "tensors.0.name_to", "token_embd.weight");
    json_decref(r);
    text_file("unkept/x", "");
    expect_same_bytes(CONVERTED(model, "untold.gguf", "--threads=1"), test_path("kept.gguf"));
    struct test_answer told_so = test_tool(APR_CONVERT, "--force", model, test_path("untold.gguf"), NULL);
    assert_int_equal(told_so.exit, 0);
    assert_non_null(strstr((char *)told_so.err.at, "four.safetensors: nothing says what model it is"));
    test_answer_free(&told_so);
    REFUSED("unkept", (model, test_path("unkept/m.gguf"), "--type=f16"), "--family", "--keep-names");
    REFUSED("unkept", (model, test_path("unkept/m.gguf"), "--family=qwen2"), "a.weight", "qwen2", "--keep-names");
    REFUSED("unkept", ("fixtures/qwen2", test_path("unkept/m.gguf"), "--family=qwen22"), "qwen22", "did you mean");
    float v[2] = { 0 };
    const char *const other = test_checkpoint("nobody", "{\"architectures\": [\"NobodyKnows\"]}",
                                              &(struct test_tensor){ "c", "F32", "[2]", v, sizeof v }, 1);
    REFUSED("unkept", (other, test_path("unkept/m.gguf")), "NobodyKnows", "--family-file takes one of your own");
    REFUSED("unkept", (other, test_path("unkept/m.gguf"), "--family-file=fixtures/pebble.yaml"), "detect.architectures", "--family pebble");
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

static void keys_are_set_and_unset(void **state)
{
    (void)state;
    const char *out = CONVERTED("fixtures/qwen2-q8_0.gguf", "set.gguf", "--set=general.author=str:a: b=c",
                                "--set=qwen2.context_length=u32:77", "--set=my.f32=f32:0.5",
                                "--set=my.i64=i64:-9223372036854775808", "--set=my.bool=bool:true", "--set=general.alignment=u32:128",
                                "--unset=general.name");
    expect_key(out, "general.author", "a: b=c");
    expect_key(out, "qwen2.context_length", "77");
    expect_key(out, "my.f32", "0.5");
    expect_key(out, "my.i64", "-9223372036854775808");
    expect_key(out, "my.bool", "true");
    expect_key(out, "general.name", NULL);
    expect_identical("fixtures/qwen2-q8_0.gguf", out, 27);
    out = CONVERTED("fixtures/qwen2.apr", "set.apr", "--set=license=str:MIT", "--set=extra=json:{\"a\":[1,2]}");
    expect_key(out, "license", "MIT");
    expect_key(CONVERTED(four_tensors("four.safetensors"), "set.safetensors", "--set=who=str:me"), "who", "me");
    static const char *const bad[] = { "--set=x", "--set=x=1", "--set=x=u33:1", "--set=x=u32:-1", "--set=x=u8:256", "--set=x=bool:maybe",
                                       "--set=x=f32:1.5y",
                                       "--set=x=json:{}", "--unset=nothing", "--set=general.alignment=u32:48" };
    text_file("setting/x", "");
    for (size_t i = 0; i < APR_LENGTH(bad); i++)
        REFUSED("setting", ("fixtures/qwen2-q8_0.gguf", test_path("setting/m.gguf"), bad[i]), i == 9 ? "general.alignment" : i == 8 ?
                "--unset" : "--set");
}

static void tokenizer_configuration_and_template_come_from_where_they_are_told(void **state)
{
    (void)state;
    const char *const template = text_file("chat.jinja", "{{ messages }}\xc3\xbc\n");
    const char *const config = text_file("other.json",
        "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"hidden_size\": 64, "
        "\"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"vocab_size\": 96, \"max_position_embeddings\": 99, \"rms_norm_eps\": 1e-06, \"rope_theta\": 5000.0}");
    const char *out = CONVERTED("fixtures/qwen2", "told.gguf", "--tokenizer=fixtures/vocabulary/wordpiece", "--config", config,
                                "--chat-template", template, "--pre=mine");
    expect_key(out, "qwen2.context_length", "99");
    expect_key(out, "qwen2.rope.freq_base", "5000");
    expect_key(out, "tokenizer.chat_template", "{{ messages }}\xc3\xbc\n");
    expect_key(out, "tokenizer.ggml.pre", "mine");
    expect_key(CONVERTED("fixtures/vocabulary/bpe.gguf", "pre.gguf", "--pre=mine"), "tokenizer.ggml.pre", "mine");
    CONVERTED("fixtures/qwen2.apr", "told-too/", "--tokenizer=fixtures/vocabulary/wordpiece/", "--chat-template", template);
    expect_same_bytes(template, test_path("told-too/chat_template.jinja"));
    expect_same_bytes("fixtures/vocabulary/wordpiece/tokenizer.json", test_path("told-too/tokenizer.json"));
    expect_same_bytes("fixtures/vocabulary/wordpiece/vocab.txt", test_path("told-too/vocab.txt"));
    text_file("telling/x", "");
    REFUSED("telling", ("fixtures/qwen2", test_path("telling/m.gguf"), "--tokenizer=fixtures/trace"), "--tokenizer", "fixtures/trace");
    REFUSED("telling", ("fixtures/qwen2", test_path("telling/m.gguf"), "--config=nowhere"), "nowhere");
    REFUSED("telling", ("fixtures/qwen2", test_path("telling/m.gguf"), "--chat-template=nowhere"), "nowhere");
    REFUSED("telling", ("fixtures/qwen2", test_path("telling/m.safetensors"), "--chat-template", template), "--chat-template");
}

/* ---- how it is written ---------------------------------------------------------------------------------------------- */

/* zstd's own decoder, which knows no seek table, gives the file that is not compressed; only flags and checksums differ. */
static void what_is_compressed_any_zstd_reads(void **state)
{
    (void)state;
    static const char *const level[] = { "--compress=zstd", "--compress=zstd:1", "--compress=zstd:19" };
    enum { HEADER = 64, FOOTER = 4 };
    struct test_bytes plain = test_load(CONVERTED("fixtures/qwen2", "plain.apr", NULL));
    for (size_t i = 0; i < APR_LENGTH(level); i++) {
        struct test_bytes packed = test_load(CONVERTED("fixtures/qwen2", "packed.apr", "--force", level[i]));
        unsigned char *const out = malloc(plain.n);
        const size_t n = ZSTD_decompress(out, plain.n, packed.at + HEADER, packed.n - HEADER);
        if (ZSTD_isError(n) || n != plain.n - HEADER || memcmp(out, plain.at + HEADER, n - FOOTER) != 0)
            fail_msg("%s: %s", level[i], ZSTD_isError(n) ? ZSTD_getErrorName(n) : "other bytes");
        assert_true(packed.n < plain.n);
        expect_identical("fixtures/qwen2", test_path("packed.apr"), 27);
        free(out);
        test_free(&packed);
    }
    test_free(&plain);
}

static void what_is_not_read_back_is_not_called_verified(void **state)
{
    (void)state;
    json_t *r = told("fixtures/qwen2", "unread.apr", "--no-verify", NULL);
    expect_text("the report", r, "verified", "false");
    json_decref(r);
    expect_same_bytes(test_path("unread.apr"), CONVERTED("fixtures/qwen2", "read.apr", NULL));
}

/* ---- reports -------------------------------------------------------------------------------------------------------- */

static void a_dry_run_tells_what_a_run_does_and_writes_nothing(void **state)
{
    (void)state;
    text_file("dry/x", "");
    json_t *const plan = told("fixtures/qwen2", "dry/m.gguf", "--type=q8_0", "--dry-run");
    assert_int_equal(files_in("dry"), 1);
    json_t *const done = told("fixtures/qwen2", "dry/m.gguf", "--type=q8_0", NULL);
    expect_text("the plan", plan, "bytes_out", text_of(done, "bytes_out"));
    expect_text("the plan", plan, "verified", "false");
    for (size_t i = 0; i < json_array_size(at(done, "tensors")); i++) {
        json_t *const row = json_array_get(at(done, "tensors"), i);
        json_object_del(row, "rmse");
        json_object_del(row, "cosine");
        json_object_del(row, "max_error");
        if (!json_equal(row, json_array_get(at(plan, "tensors"), i)))
            fail_msg("row %zu of the plan is another than what was done", i);
    }
    json_decref(plan);
    json_decref(done);
    struct test_answer a = test_tool(APR_CONVERT, "fixtures/qwen2", test_path("dry/m.gguf"), "--dry-run", NULL); /* which is there by now */
    assert_int_equal(a.exit, 0);
    assert_true(test_says(&a.out, "blk.0.attn_norm.weight    F32   [64]        256 B  <- model.layers.0.input_layernorm.weight  BF16\n"));
    assert_true(test_says(&a.out, "; nothing was written\n"));
    test_answer_free(&a);
}

/* rmse and cosine are those that apr-diff finds in the two files. */
static void the_report_has_every_key(void **state)
{
    (void)state;
    static const struct { const char *key, *value; } rows[] = {
        { "schema", "apr-convert/1" }, { "input", "fixtures/qwen2" }, { "format_from", "safetensors" }, { "format_to", "gguf" },
        { "dropped", "[]" }, { "metadata_dropped", "[\"general.type\"]" }, { "bytes_in", "151400" }, { "verified", "true" },
        { "tensors.0.name_from", "model.embed_tokens.weight" }, { "tensors.0.name_to", "token_embd.weight" },
        { "tensors.0.dtype_from", "BF16" },
        { "tensors.0.dtype_to", "Q4_0" }, { "tensors.0.shape", "[96,64]" }, { "tensors.0.transform", "null" },
        { "tensors.0.how", "encode" },
        { "tensors.0.bytes", "3456" },
    };
    json_t *const r = told("fixtures/qwen2", "every.gguf", "--type=q4_0", "--unset=general.type");
    json_t *const diff = report_of(test_tool(APR_DIFF, "--json", "fixtures/qwen2", test_path("every.gguf"), "--threshold=0.9", NULL), 0);
    struct stat st;
    assert_int_equal(stat(test_path("every.gguf"), &st), 0);
    assert_int_equal(json_integer_value(at(r, "bytes_out")), st.st_size);
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        expect_text("the report", r, rows[i].key, rows[i].value);
    for (size_t i = 0; i < json_array_size(at(diff, "results")); i++) {
        const json_t *const measured = json_array_get(at(diff, "results"), i);
        for (size_t k = 0; k < json_array_size(at(r, "tensors")); k++) {
            const json_t *const row = json_array_get(at(r, "tensors"), k);
            if (strcmp(text_of(row, "name_from"), text_of(measured, "name")) != 0 || json_object_get(row, "rmse") == NULL)
                continue;
            expect_near(text_of(row, "name_to"), row, "rmse", json_number_value(at(measured, "rmse")));
            expect_near(text_of(row, "name_to"), row, "cosine", json_number_value(at(measured, "cosine_similarity")));
        }
    }
    json_decref(r);
    json_decref(diff);
}

static void a_failure_still_closes_the_object(void **state)
{
    (void)state;
    json_t *const r = report_of(test_tool(APR_CONVERT, "--json", "fixtures/qwen2-q8_0.gguf", test_path("none.safetensors"), NULL), 2);
    expect_text("the report", r, "schema", "apr-convert/1");
    expect_text("the report", r, "error.code", "unsupported");
    assert_non_null(strstr(text_of(r, "error.text"), "Q8_0"));
    json_decref(r);
    json_decref(report_of(test_tool(APR_CONVERT, "--json", "nowhere", test_path("none.apr"), NULL), 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(type_is_of_matrices_and_pure_of_all),
        cmocka_unit_test(what_is_quantized_is_quantized_again_only_when_that_is_allowed),
        cmocka_unit_test(a_nan_stops_before_blocks_unless_it_becomes_zero),
        cmocka_unit_test(tensors_are_dropped_kept_and_renamed),
        cmocka_unit_test(patterns_know_both_names),
        cmocka_unit_test(a_graft_takes_the_place_of_its_namesake),
        cmocka_unit_test(kept_names_are_carried_as_they_are),
        cmocka_unit_test(keys_are_set_and_unset),
        cmocka_unit_test(tokenizer_configuration_and_template_come_from_where_they_are_told),
        cmocka_unit_test(what_is_compressed_any_zstd_reads),
        cmocka_unit_test(what_is_not_read_back_is_not_called_verified),
        cmocka_unit_test(a_dry_run_tells_what_a_run_does_and_writes_nothing),
        cmocka_unit_test(the_report_has_every_key),
        cmocka_unit_test(a_failure_still_closes_the_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
