/* apr-convert as its users run it: each direction, held against files that other people's libraries made of the same weights; targets. */
#include "convert.h"

#include <sys/wait.h>

/* ---- directions ----------------------------------------------------------------------------------------------------- */

/* What the fixtures hold of one model. The big-endian GGUF has its first four tensors, in F16. */
static const struct source {
    const char *path;
    bool        blocks;
} sources[] = {
    { "fixtures/qwen2", false },          { "fixtures/qwen2.apr", false },       { "fixtures/qwen2-zstd.apr", false },
    { "fixtures/qwen2-bf16.gguf", false }, { "fixtures/qwen2-q8_0.gguf", true }, { "fixtures/qwen2-q4_0.gguf", true },
    { "fixtures/split/qwen2-00001-of-00003.gguf", true },
    { "fixtures/split/qwen2-00003-of-00003.gguf", true },
};

static void every_direction_keeps_every_value(void **state)
{
    (void)state;
    static const char *const targets[] = { "all/m.apr", "all/m.gguf", "all/m.safetensors", "all/folder/" };
    for (size_t i = 0; i < APR_LENGTH(sources); i++)
        for (size_t k = 0; k < APR_LENGTH(targets); k++) {
            if (sources[i].blocks && k >= 2) {
                REFUSED("all", (sources[i].path, test_path(targets[k]), "--force"), "model.embed_tokens.weight",
                        "SafeTensors has no such type", "--type");
                continue;
            }
            const char *const out = CONVERTED(sources[i].path, targets[k], "--force");
            expect_identical(sources[i].path, out, 27);
            expect_exit(test_tool("apr-inspect", "--check", out, NULL), 0, NULL);
        }
}

/* The same weights, written by gguf-py and by make.py. */
static void what_comes_out_is_what_others_made_of_the_same_weights(void **state)
{
    (void)state;
    static const struct { const char *in, *out, *type, *made; } rows[] = {
        { "fixtures/qwen2", "made/bf16.gguf", "--no-verify", "fixtures/qwen2-bf16.gguf" },
        { "fixtures/qwen2", "made/auto.gguf", "--type=auto", "fixtures/qwen2-bf16.gguf" },
        { "fixtures/qwen2", "made/q8_0.gguf", "--type=q8_0", "fixtures/qwen2-q8_0.gguf" },
        { "fixtures/qwen2.apr", "made/q4_0.gguf", "--type=Q4_0", "fixtures/qwen2-q4_0.gguf" },
        { "fixtures/qwen2-zstd.apr", "made/preset.gguf", "--quantize=Q8_0", "fixtures/qwen2-q8_0.gguf" },
        { "fixtures/qwen2-bf16.gguf", "made/back.apr", "--no-verify", "fixtures/qwen2.apr" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const out = CONVERTED(rows[i].in, rows[i].out, rows[i].type);
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", out, rows[i].made, NULL), 0);
        for (size_t k = 0; k < json_array_size(at(r, "results")); k++) {
            const json_t *const row = json_array_get(at(r, "results"), k);
            expect_text(text_of(row, "name"), row, "status", "Identical");
            expect_text(text_of(row, "name"), row, "dtype_a", text_of(row, "dtype_b"));
        }
        json_decref(r);
    }
}

static void byte_for_byte_where_nothing_is_to_change(void **state)
{
    (void)state;
    static const struct { const char *in, *by, *out, *made; } rows[] = {
        { "fixtures/qwen2-q8_0.gguf", NULL, "same/a.gguf", "fixtures/qwen2-q8_0.gguf" },
        { "fixtures/qwen2-bf16.gguf", NULL, "same/b.gguf", "fixtures/qwen2-bf16.gguf" },
        { "fixtures/vocabulary/spm.gguf", NULL, "same/v.gguf", "fixtures/vocabulary/spm.gguf" },
        { "fixtures/split/qwen2-00002-of-00003.gguf", NULL, "same/c.gguf", "fixtures/qwen2-q8_0.gguf" },
        { "fixtures/qwen2.apr", NULL, "same/d.apr", "fixtures/qwen2.apr" },
        { "fixtures/qwen2-zstd.apr", NULL, "same/e.apr", "fixtures/qwen2.apr" },
        { "fixtures/qwen2.apr", "same/packed.apr", "same/f.apr", "fixtures/qwen2.apr" },
        { "fixtures/qwen2-q4_0.gguf", "same/by.apr", "same/g.gguf", "fixtures/qwen2-q4_0.gguf" },
        { "fixtures/qwen2-bf16.gguf", "same/by2.apr", "same/h.gguf", "fixtures/qwen2-bf16.gguf" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *in = rows[i].in;
        if (rows[i].by != NULL)
            in = converted(in, rows[i].by, (const char *const[]){ strstr(rows[i].by, "packed") ? "--compress=zstd:7" : NULL, NULL });
        expect_same_bytes(converted(in, rows[i].out, NULL), rows[i].made);
    }
}

static void a_big_endian_file_becomes_little_endian(void **state)
{
    (void)state;
    const char *const out = CONVERTED("fixtures/qwen2-big-endian.gguf", "turned/m.gguf", NULL);
    struct test_bytes b = test_load(out);
    expect_identical("fixtures/qwen2-big-endian.gguf", out, 4);
    assert_int_equal(b.at[4], 3);
    test_free(&b);
    REFUSED("turned", ("fixtures/qwen2-big-endian.gguf", test_path("turned/m.apr")), "output_norm.weight", "--keep-names");
    expect_identical("fixtures/qwen2-big-endian.gguf", CONVERTED("fixtures/qwen2-big-endian.gguf", "turned/m.apr", "--keep-names"), 4);
}

/* ---- checkpoints ---------------------------------------------------------------------------------------------------- */

/* Another reader of JSON says that they say the same. */
static void expect_same_json(const char *a, const char *b)
{
    json_t *const x = json_load_file(a, 0, NULL), *const y = json_load_file(b, 0, NULL);
    if (x == NULL || y == NULL || !json_equal(x, y))
        fail_msg("%s and %s do not say the same", a, b);
    json_decref(x);
    json_decref(y);
}

static const char *in_folder(const char *folder, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return test_path(path);
}

static void a_checkpoint_comes_back_from_an_apr_with_every_file(void **state)
{
    (void)state;
    static const char *const kind[] = { "unigram", "wordpiece" };
    static const char *const files[][6] = { { "config.json", "spiece.model", "tokenizer.json", "tokenizer_config.json" },
                                            { "config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json" } };
    for (size_t i = 0; i < APR_LENGTH(kind); i++) {
        const char *const model = checkpoint(kind[i], kind[i]);
        text_file(i == 0 ? "unigram/README.md" : "wordpiece/LICENSE", "who and what\n");
        CONVERTED(CONVERTED(model, "by.apr", "--force"), "back/", "--force", "--shards=3");
        for (size_t k = 0; files[i][k] != NULL; k++)
            expect_same_bytes(in_folder(kind[i], files[i][k]), in_folder("back", files[i][k]));
        expect_same_bytes(in_folder(kind[i], i == 0 ? "README.md" : "LICENSE"), in_folder("back", i == 0 ? "README.md" : "LICENSE"));
        expect_identical(model, test_path("back"), 27);
    }
}

/* Of one file: names, places, metadata. */
static void a_safetensors_file_comes_back_byte_for_byte(void **state)
{
    (void)state;
    static const char *const by[] = { "round/by.apr", "round/by.gguf", "round/packed.apr" };
    CONVERTED("fixtures/qwen2", "round/one/", NULL);
    for (size_t i = 0; i < APR_LENGTH(by); i++) {
        converted(test_path("round/one"), by[i], (const char *const[]){ i == 2 ? "--compress=zstd" : NULL, NULL });
        CONVERTED(test_path(by[i]), "round/back/", "--force");
        expect_same_bytes(test_path("round/one/model.safetensors"), test_path("round/back/model.safetensors"));
        expect_same_json("fixtures/qwen2/config.json", test_path("round/back/config.json"));
    }
}

/* How a tokenizer looks to apr-inspect. */
static json_t *tokenizer_of(const char *model)
{
    return report_of(test_tool("apr-inspect", "--json", "--tokenizer", "--full", model, NULL), 0);
}

static void a_tokenizer_goes_all_the_way_round(void **state)
{
    (void)state;
    static const char *const way[] = { "way/1.gguf", "way/2.apr", "way/3/", "way/4.apr", "way/5.gguf", "way/6/" };
    const char *model = checkpoint("spoken", "unigram");
    json_t *const first = tokenizer_of(model);
    for (size_t i = 0; i < APR_LENGTH(way); i++) {
        model = converted(model, way[i], NULL);
        json_t *const now = tokenizer_of(model);
        expect_identical("fixtures/qwen2", model, 27);
        expect_text(way[i], now, "tokenizer.chat_template", text_of(first, "tokenizer.chat_template"));
        if (strstr(way[i], "gguf") == NULL)
            for (size_t k = 0; k < json_array_size(at(first, "tokenizer.first")); k++)
                if (!json_equal(json_array_get(at(first, "tokenizer.first"), k), json_array_get(at(now, "tokenizer.first"), k)))
                    fail_msg("%s: token %zu is another", way[i], k);
        json_decref(now);
    }
    expect_same_json(test_path("spoken/tokenizer_config.json"), test_path("way/6/tokenizer_config.json"));
    expect_same_json(test_path("spoken/config.json"), test_path("way/6/config.json"));
    json_decref(first);
}

/* 302 tokens and an embedding of 96 rows. */
static void a_vocabulary_larger_than_the_embedding_is_refused(void **state)
{
    (void)state;
    const char *const model = checkpoint("large", "bpe");
    REFUSED("large", (model, test_path("large/m.gguf")), "96", "--tokenizer");
}

/* ---- shards --------------------------------------------------------------------------------------------------------- */

static void a_partition_is_the_shards_of_one_run(void **state)
{
    (void)state;
    static const struct { const char *one, *parts, *file; size_t nfile; } rows[] = {
        { "whole/m.gguf", "parts/m.gguf", "m-0000%u-of-00003.gguf", 3 },
        { "whole-apr/m.apr", "parts-apr/m.apr", "m-0000%u-of-00003.apr", 3 },
        { "whole-hf/", "parts-hf/", "model-0000%u-of-00003.safetensors", 5 },
    };
    static const char *const part[] = { "--partition=3/3", "--partition=1/3", "--partition=2/3" };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char folder[2][32], name[64];
        for (unsigned k = 0; k < 2; k++) {
            snprintf(folder[k], sizeof folder[k], "%s", k == 0 ? rows[i].one : rows[i].parts);
            *strchr(folder[k], '/') = 0;
        }
        CONVERTED("fixtures/qwen2", rows[i].one, "--shards=3");
        for (size_t k = 0; k < APR_LENGTH(part); k++)
            CONVERTED("fixtures/qwen2", rows[i].parts, part[k]);
        for (unsigned k = 1; k <= 3; k++) {
            snprintf(name, sizeof name, rows[i].file, k);
            expect_same_bytes(in_folder(folder[0], name), in_folder(folder[1], name));
        }
        assert_int_equal(files_in(folder[0]), rows[i].nfile);
        assert_int_equal(files_in(folder[1]), rows[i].nfile);
    }
    expect_same_bytes(test_path("whole-hf/model.safetensors.index.json"), test_path("parts-hf/model.safetensors.index.json"));
    expect_same_bytes(test_path("whole-hf/config.json"), test_path("parts-hf/config.json"));
    expect_identical("fixtures/qwen2", test_path("parts/m-00002-of-00003.gguf"), 27);
    expect_identical("fixtures/qwen2", test_path("parts-apr/m-00003-of-00003.apr"), 27);
    expect_identical("fixtures/qwen2", test_path("parts-hf"), 27);
}

/* Of three jobs the third finds that the others were made of something else. */
static void an_input_that_changes_between_jobs_is_noticed(void **state)
{
    (void)state;
    static const struct { const char *out, *file; } rows[] = {
        { "changed/m.gguf", "m-0000%u-of-00003.gguf" }, { "changed-apr/m.apr", "m-0000%u-of-00003.apr" },
        { "changed-hf/", "model-0000%u-of-00003.safetensors" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char folder[32], name[3][64];
        snprintf(folder, sizeof folder, "%.*s", (int)strcspn(rows[i].out, "/"), rows[i].out);
        for (unsigned k = 0; k < 3; k++)
            snprintf(name[k], sizeof name[k], rows[i].file, k + 1);
        CONVERTED("fixtures/qwen2", rows[i].out, "--partition=1/3");
        CONVERTED("fixtures/qwen2", rows[i].out, "--partition=2/3");
        expect_exit(test_tool(APR_CONVERT, "fixtures/qwen2-q8_0.gguf", test_path(rows[i].out), "--type=f32", "--partition=3/3", NULL), 2, "the input changed between two jobs");
        assert_int_not_equal(access(in_folder(folder, name[2]), F_OK), 0);
        assert_int_equal(access(in_folder(folder, name[0]), F_OK), 0);
        CONVERTED("fixtures/qwen2-q8_0.gguf", rows[i].out, "--type=f32", "--partition=3/3", "--force"); /* what is of another plan goes */
        assert_int_equal(access(in_folder(folder, name[2]), F_OK), 0);
        assert_int_not_equal(access(in_folder(folder, name[0]), F_OK), 0);
        assert_int_not_equal(access(in_folder(folder, name[1]), F_OK), 0);
    }
}

/* The jobs' rows, one after the other, are those of one run; none tells of what it has not seen. */
static void a_part_reports_the_tensors_it_wrote(void **state)
{
    (void)state;
    static const char *const part[] = { "--partition=1/2", "--partition=2/2" };
    json_t *const whole = report_of(test_tool(APR_CONVERT, "--json", "--type=q8_0", "--shards=2", "fixtures/qwen2",
                                              test_path("told.gguf"), NULL), 0);
    size_t n = 0;
    for (size_t i = 0; i < APR_LENGTH(part); i++) {
        json_t *const r = report_of(test_tool(APR_CONVERT, "--json", "--type=q8_0", part[i], "fixtures/qwen2", test_path("told-too.gguf"),
                                              NULL), 0);
        for (size_t k = 0; k < json_array_size(at(r, "tensors")); k++, n++)
            if (!json_equal(json_array_get(at(r, "tensors"), k), json_array_get(at(whole, "tensors"), n)))
                fail_msg("row %zu of %s is another than that of one run", k, part[i]);
        json_decref(r);
    }
    assert_int_equal(n, 27);
    json_decref(whole);
}

static void shards_hold_at_most_what_is_asked_for(void **state)
{
    (void)state;
    CONVERTED("fixtures/qwen2", "sized/", "--shard-size=30k");
    json_t *const index = json_load_file(test_path("sized/model.safetensors.index.json"), 0, NULL);
    const size_t shards = files_in("sized") - 2; /* without index and configuration */
    char last[64];
    assert_non_null(index);
    assert_int_equal(json_object_size(at(index, "weight_map")), 27);
    expect_text("the index", index, "metadata.total_size", "148608");
    assert_in_range(shards, 5, 10);
    for (unsigned i = 1; i <= shards; i++) {
        struct stat st;
        snprintf(last, sizeof last, "sized/model-%05u-of-%05zu.safetensors", i, shards);
        assert_int_equal(stat(test_path(last), &st), 0);
        assert_in_range(st.st_size, 1, 30000 + 4096); /* and the header */
    }
    CONVERTED(test_path("sized"), "joined/", "--no-shard");
    assert_int_equal(files_in("joined"), 2);
    expect_identical("fixtures/qwen2", test_path("joined"), 27);
    json_decref(index);
}

/* ---- streams -------------------------------------------------------------------------------------------------------- */

static void a_dash_does_as_well_as_a_file(void **state)
{
    (void)state;
    static const struct { const char *in, *to, *file, *option; } rows[] = {
        { "fixtures/qwen2-q8_0.gguf", "apr", "piped/a.apr", NULL },
        { "fixtures/qwen2.apr", "safetensors", "piped/b.safetensors", NULL },
        { "fixtures/qwen2.apr", "gguf", "piped/c.gguf", "--type=q4_0" },
        { "fixtures/qwen2-bf16.gguf", "apr", "piped/d.apr", "--compress=zstd" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const *const more = (const char *const[]){ "--to", rows[i].to, rows[i].option, NULL };
        struct test_bytes in = test_load(rows[i].in), want = test_load(converted(rows[i].in, rows[i].file, more));
        struct test_answer out = test_tool(APR_CONVERT, rows[i].in, "-", "--to", rows[i].to, rows[i].option, NULL);
        struct test_answer both = test_tool_in(&in, APR_CONVERT, "-", "-", "--to", rows[i].to, rows[i].option, NULL);
        /* a GGUF's general.name is the file's */
        if (out.exit != 0 || out.out.n != want.n || memcmp(out.out.at, want.at, want.n) != 0 || both.exit != 0 ||
            (i != 2 && both.out.n != want.n))
            fail_msg("%s to - is not %s: %s%s", rows[i].in, rows[i].file, (const char *)out.err.at, (const char *)both.err.at);
        expect_identical(test_file("piped/out", both.out.at, both.out.n), test_path(rows[i].file), 27);
        test_answer_free(&out);
        test_answer_free(&both);
        test_free(&in);
        test_free(&want);
    }
    REFUSED("piped", ("fixtures/qwen2", "-"), "--to");
    REFUSED("piped", ("fixtures/qwen2", "-", "--to=gguf", "--json"), "standard output");
    REFUSED("piped", ("fixtures/qwen2", "-", "--to=gguf", "--shards=2"), "standard output");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_direction_keeps_every_value),
        cmocka_unit_test(what_comes_out_is_what_others_made_of_the_same_weights),
        cmocka_unit_test(byte_for_byte_where_nothing_is_to_change),
        cmocka_unit_test(a_big_endian_file_becomes_little_endian),
        cmocka_unit_test(a_checkpoint_comes_back_from_an_apr_with_every_file),
        cmocka_unit_test(a_safetensors_file_comes_back_byte_for_byte),
        cmocka_unit_test(a_tokenizer_goes_all_the_way_round),
        cmocka_unit_test(a_vocabulary_larger_than_the_embedding_is_refused),
        cmocka_unit_test(a_partition_is_the_shards_of_one_run),
        cmocka_unit_test(an_input_that_changes_between_jobs_is_noticed),
        cmocka_unit_test(a_part_reports_the_tensors_it_wrote),
        cmocka_unit_test(shards_hold_at_most_what_is_asked_for),
        cmocka_unit_test(a_dash_does_as_well_as_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
