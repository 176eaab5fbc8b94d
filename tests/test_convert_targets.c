/* apr-convert: what it does not write onto, what stops it, what an end at any moment leaves. */
#include "convert.h"

/* ---- usage ---------------------------------------------------------------------------------------------------------- */

static void what_makes_no_sense_is_refused_with_the_word_that_helps(void **state)
{
    (void)state;
    text_file("usage/x", "");
    const char *const apr = test_path("usage/m.apr"), *const gguf = test_path("usage/m.gguf"), *const zip = test_path("usage/m.zip");
    REFUSED("usage", ("fixtures/qwen2"), "usage: apr-convert");
    REFUSED("usage", ("fixtures/qwen2", apr, "third"), "usage: apr-convert");
    REFUSED("usage", ("fixtures/qwen2", zip), "m.zip", "--to");
    REFUSED("usage", ("fixtures/qwen2", gguf, "--to=zip"), "--to", "\"zip\"");
    REFUSED("usage", ("fixtures/qwen2", apr, "--type=q3_z"), "--type", "\"q3_z\"", "Q8_0");
    REFUSED("usage", ("fixtures/qwen2", apr, "--pure"), "--type");
    REFUSED("usage", ("fixtures/qwen2", gguf, "--compress=zstd"), "--compress", "APR");
    REFUSED("usage", ("fixtures/qwen2", apr, "--compress=lz4"), "\"lz4\"", "zstd");
    REFUSED("usage", ("fixtures/qwen2", apr, "--compress=zstd:20"), "zstd:20", "zstd:19");
    REFUSED("usage", ("fixtures/qwen2", apr, "--compress=zstd", "--resume"), "compressed", "resumed");
    REFUSED("usage", ("fixtures/qwen2", apr, "--shards=2", "--shard-size=9"), "--shard-size", "--shards");
    REFUSED("usage", ("fixtures/qwen2", apr, "--shards=0"), "--shards");
    REFUSED("usage", ("fixtures/qwen2", apr, "--shards=28"), "28 shards", "27 tensors");
    REFUSED("usage", ("fixtures/qwen2", apr, "--partition=1/28"), "28 shards", "27 tensors");
    REFUSED("usage", ("fixtures/qwen2", apr, "--partition=4/3"), "4/3", "K/N");
    REFUSED("usage", ("fixtures/qwen2", apr, "--partition=0/3"), "0/3", "K/N");
    REFUSED("usage", ("fixtures/qwen2", apr, "--in-place"), "--in-place");
    REFUSED("usage", ("nowhere", apr), "nowhere");
    REFUSED("usage", ("fixtures/trace", apr), "fixtures/trace", "trace");
    REFUSED("usage", ("fixtures/qwen2/config.json", apr), "config.json");
    REFUSED("usage", ("fixtures/qwen2", test_path("missing/m.apr")), "missing");
    REFUSED("usage", ("fixtures/qwen2", test_path("usage/"), "--to=gguf"), "folder", "file");
}

/* ---- what is there -------------------------------------------------------------------------------------------------- */

static void what_is_there_is_replaced_only_by_force(void **state)
{
    (void)state;
    const char *const old = text_file("there/old.apr", "old");
    REFUSED("there", ("fixtures/qwen2", old), "old.apr", "--force");
    struct test_bytes b = test_load(old);
    assert_string_equal((const char *)b.at, "old");
    test_free(&b);
    expect_identical("fixtures/qwen2", CONVERTED("fixtures/qwen2", "there/old.apr", "--force"), 27);
    assert_int_equal(files_in("there"), 1);
}

/* A model of one file in the place of one of five: of the five none is left but what is of both. */
static void a_folder_with_a_model_is_replaced_only_by_force_and_then_whole(void **state)
{
    (void)state;
    const char *const folder = checkpoint("full", "wordpiece");
    text_file("full/notes.txt", "mine");
    char slash[300];
    snprintf(slash, sizeof slash, "%s/", folder);
    REFUSED("full", ("fixtures/qwen2.apr", slash), "holds a model", "--force");
    expect_identical("fixtures/qwen2", folder, 27);
    CONVERTED("fixtures/qwen2.apr", "full/", "--force");
    expect_identical("fixtures/qwen2", folder, 27);
    assert_int_equal(access(test_path("full/model-00002-of-00003.safetensors"), F_OK), -1);
    assert_int_equal(access(test_path("full/model.safetensors.index.json"), F_OK), -1);
    expect_same_bytes(text_file("mine", "mine"), test_path("full/notes.txt"));
}

/* ---- inputs --------------------------------------------------------------------------------------------------------- */

static void expect_untouched(const char *file, const char *const *word, const char *says)
{
    struct test_bytes before = test_load(file), after;
    struct test_answer a = test_tool(APR_CONVERT, "--force", word[0], word[1], word[2], word[2] == NULL ? NULL : word[3], NULL);
    after = test_load(file);
    if (a.exit != 2 || !test_says(&a.err, says) || before.n != after.n || memcmp(before.at, after.at, before.n) != 0)
        fail_msg("%s to %s: exit %d, %s is %zu bytes after %zu: %s", word[0], word[1], a.exit, file, after.n, before.n,
                 (const char *)a.err.at);
    test_free(&before);
    test_free(&after);
    test_answer_free(&a);
}

static const char *in_hub(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "hub/%s", name);
    return test_path(path);
}

static void an_input_is_never_written(void **state)
{
    (void)state;
    const char *const a = copy_of("fixtures/qwen2-q8_0.gguf", "in/a.gguf"), *const b = copy_of("fixtures/qwen2-q4_0.gguf", "in/b.gguf");
    const char *const soft = test_path("in/soft.gguf"), *const hard = test_path("in/hard.gguf"),
        *const hub = checkpoint("hub", "wordpiece");
    const char *const template = text_file("in/t.gguf", "{{ x }}"), *const config = copy_of("fixtures/qwen2/config.json", "in/c.gguf");
    const char *const shard = copy_of("fixtures/split/qwen2-00001-of-00003.gguf", "split/qwen2-00001-of-00003.gguf");
    copy_of("fixtures/split/qwen2-00002-of-00003.gguf", "split/qwen2-00002-of-00003.gguf");
    const char *const last = copy_of("fixtures/split/qwen2-00003-of-00003.gguf", "split/qwen2-00003-of-00003.gguf");
    assert_int_equal(symlink("a.gguf", soft), 0);
    assert_int_equal(link(a, hard), 0);
    assert_int_equal(symlink("hub", test_path("hub-too")), 0);
    char graft[300], folder[300], linked[300], tokenizer[300];
    snprintf(graft, sizeof graft, "--graft=%s:*attn_q.weight", b);
    snprintf(folder, sizeof folder, "%s/", hub);
    snprintf(linked, sizeof linked, "%s/", test_path("hub-too"));
    snprintf(tokenizer, sizeof tokenizer, "--tokenizer=%s", hub);
    const char *const weights = in_hub("model-00002-of-00003.safetensors"), *const index = in_hub("model.safetensors.index.json");
    const struct { const char *file, *word[5]; } rows[] = {
        { a, { a, a } }, { a, { a, soft } }, { a, { a, hard } }, { a, { soft, a } }, { b, { a, b, graft } },
        { template, { a, template, "--chat-template", template } }, { config, { a, config, "--config", config } },
        { last, { shard, last } }, { shard, { last, test_path("split/qwen2.gguf"), "--shards=3" } },
        { weights, { hub, folder } }, { weights, { hub, linked } }, { index, { index, folder } },
        { weights, { weights, folder, "--keep-names" } },
        { index, { hub, index, "--to=gguf" } }, { in_hub("vocab.txt"), { hub, in_hub("vocab.txt"), "--to=gguf" } },
        { in_hub("tokenizer.json"), { "fixtures/qwen2", in_hub("tokenizer.json"), "--to=gguf", tokenizer } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        expect_untouched(rows[i].file, rows[i].word, "cannot be written: ");
    assert_int_equal(files_in("hub"), 8);
    assert_int_equal(files_in("in"), 6);
}

/* ---- sources that change -------------------------------------------------------------------------------------------- */

/* A reader of standard output writes to the source before it goes on reading. */
static void a_source_that_changes_while_it_is_read_is_an_error(void **state)
{
    (void)state;
    static const char *const change[] = { "printf x | dd of=m.safetensors bs=1 seek=900000 conv=notrunc status=none",
                                          "truncate -s 4096 m.safetensors" };
    static float values[1 << 20];
    char line[4000], shape[32], here[1024];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(shape, sizeof shape, "[1024,%zu]", APR_LENGTH(values) / 1024);
    for (size_t i = 0; i < APR_LENGTH(change); i++) {
        test_safetensors("changing/m.safetensors", &(struct test_tensor){ "w.weight", "F32", shape, values, sizeof values }, 1);
        snprintf(line, sizeof line,
                 "cd %s/changing && sleep 0.02 && { %s/%s/apr-convert --threads=1 m.safetensors - --to=apr 2>said; echo $? >ended; } | "
                 "{ head -c 1000 >got; sleep 0.1; %s; cat >>got; }", test_folder(), here, APR_BUILD, change[i]);
        assert_int_equal(system(line), 0);
        struct test_bytes said = test_load(test_path("changing/said")), ended = test_load(test_path("changing/ended"));
        if (strcmp((const char *)ended.at, "2\n") != 0 || !test_says(&said, "m.safetensors"))
            fail_msg("%s: exit %s: %s", change[i], (const char *)ended.at, (const char *)said.at);
        test_free(&said);
        test_free(&ended);
    }
}

static void a_full_disk_is_an_error_and_a_reader_who_leaves_is_silence(void **state)
{
    (void)state;
    char line[1000];
    struct test_bytes said;
    snprintf(line, sizeof line, "{ %s/apr-convert fixtures/qwen2 - --to=gguf >/dev/full; echo $?; } >%s 2>&1", APR_BUILD,
             test_path("full-disk"));
    assert_int_equal(system(line), 0);
    said = test_load(test_path("full-disk"));
    assert_true(test_says(&said, "No space left on device\n2\n"));
    test_free(&said);
    snprintf(line, sizeof line, "{ sleep 0.1; %s/apr-convert fixtures/qwen2 - --to=gguf; } 2>%s | :", APR_BUILD, test_path("left"));
    assert_int_equal(system(line), 0);
    said = test_load(test_path("left"));
    assert_int_equal(said.n, 0);
    test_free(&said);
}

/* ---- ends ----------------------------------------------------------------------------------------------------------- */

/* With --resume another run ends what was begun, with the bytes of one that was never interrupted. */
static void a_kill_at_any_write_leaves_nothing_that_looks_whole_and_resume_goes_on(void **state)
{
    (void)state;
    static const struct { const char *in, *out, *whole, *more; } rows[] = {
        { "fixtures/qwen2-q8_0.gguf", "killed-apr/m.apr", "unkilled/m.apr", NULL },
        { "fixtures/qwen2", "killed-gguf/m.gguf", "unkilled/m.gguf", "--type=q4_0" },
    };
    if (!has_shim())
        skip();
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const whole = CONVERTED(rows[i].in, rows[i].whole, rows[i].more), *const out = test_path(rows[i].out);
        char folder[32];
        snprintf(folder, sizeof folder, "%s", rows[i].out);
        *strchr(folder, '/') = 0;
        make_room(out);
        bool killed = true;
        unsigned n;
        for (n = 1; killed; n++) {
            unlink(out);
            killed = killed_at(n, (const char *const[]){ rows[i].in, out, "--resume", rows[i].more, NULL });
            if (access(out, F_OK) == 0)
                expect_same_bytes(whole, out);
            else if (!killed)
                fail_msg("%s: nothing was written", out);
            else
                CONVERTED(rows[i].in, rows[i].out, "--resume", rows[i].more);
            expect_same_bytes(whole, out);
        }
        assert_int_equal(files_in(folder), 1);
        assert_true(n > 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_makes_no_sense_is_refused_with_the_word_that_helps),
        cmocka_unit_test(what_is_there_is_replaced_only_by_force),
        cmocka_unit_test(a_folder_with_a_model_is_replaced_only_by_force_and_then_whole),
        cmocka_unit_test(an_input_is_never_written),
        cmocka_unit_test(a_source_that_changes_while_it_is_read_is_an_error),
        cmocka_unit_test(a_full_disk_is_an_error_and_a_reader_who_leaves_is_silence),
        cmocka_unit_test(a_kill_at_any_write_leaves_nothing_that_looks_whole_and_resume_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
