/* apr-trace: where files go, and what in a folder is replaced, removed, refused and let be. */
#include "remote_server.h"
#include "trace.h"

#include <sys/file.h>

#define QWEN2 "fixtures/qwen2"

static void expect_same(const char *path, const char *text)
{
    struct test_bytes b = test_load(test_path(path));
    if (b.n != strlen(text) || memcmp(b.at, text, b.n) != 0)
        fail_msg("%s is not what it was", path);
    test_free(&b);
}

/* An array of two numbers, as numpy saves it. */
static const char *array(const char *name, const char *descr)
{
    struct test_bytes b = { 0 };
    char head[128];
    memset(head, ' ', sizeof head);
    memcpy(head, "\x93NUMPY\x01\0v\0", 10);
    const int n = snprintf(head + 10, sizeof head - 10, "{'descr': '%s', 'fortran_order': False, 'shape': (2,), }", descr);
    head[10 + n] = ' ';
    head[127] = '\n';
    test_put(&b, head, sizeof head);
    test_zeros(&b, descr[2] == '2' ? 4 : 8);
    const char *const path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

static void beside_the_model_is_where_a_trace_lies_by_default(void **state)
{
    (void)state;
    const char *const file = copy_of("fixtures/qwen2-q8_0.gguf", "beside/some.model.gguf");
    json_decref(TRACED(file, 0, TOKENS, "--save-tensor=lm_head"));
    assert_int_equal(files_in("beside"), 2);
    assert_int_equal(files_in("beside/some.model-trace"), 1);
    const char *const folder = checkpoint("beside/folder", NULL);
    char dot[4096];
    snprintf(dot, sizeof dot, "%s/.", folder);
    json_decref(TRACED(dot, 0, TOKENS, "--save-tensor=final_norm"));
    assert_int_equal(files_in("beside/folder-trace"), 1);
    json_decref(TRACED(folder, 0, TOKENS, "--save-tensor-dir=x")); /* unasked */
    assert_int_equal(files_in("beside"), 4);
}

static void beside_an_address_is_no_folder(void **state)
{
    (void)state;
    char url[256];
    struct test_server *const server = test_server(NULL);
    test_server_folder(server, "/qwen2/", "fixtures/qwen2/");
    snprintf(url, sizeof url, "%s/qwen2/", test_server_root(server));
    unsetenv("http_proxy");
    setenv("XDG_CACHE_HOME", test_path("cache"), 1);
    expect_exit(test_tool(APR_TRACE, url, "--tokens=1", "--save-tensor=lm_head", NULL), 2, "no folder beside it: --save-tensor-dir says");
    json_decref(TRACED(url, 0, "--tokens=1", "--save-tensor=lm_head", into("from-an-address")));
    assert_int_equal(files_in("from-an-address"), 1);
}

/* The same stages again; others only by --force, which removes saved activations and nothing else. */
static void a_second_run_leaves_nothing_of_the_first_when_it_may(void **state)
{
    (void)state;
    json_decref(TRACED(QWEN2, 0, TOKENS, "--save-tensor=all", into("twice")));
    json_decref(TRACED(QWEN2, 0, TOKENS, "--save-tensor=all", into("twice")));
    text_file("twice/notes.txt", "mine");
    text_file("twice/layer-1/other.bin", "APRT");
    text_file("twice/lm_head.npy", "mine, though it has a stage's name");
    json_decref(TRACED(QWEN2, 2, "--tokens=1,2", "--save-tensor=attn_norm,final_norm", "--layer=1", into("twice")));
    expect_exit(test_tool(APR_TRACE, QWEN2, "--tokens=1,2", "--save-tensor=attn_norm,final_norm", "--layer=1", into("twice"), NULL), 2,
                "twice/layer-0/attention.bin: cannot be written: it is a stage of another run, and would stay beside those of this one: "
                "--force removes it");
    assert_int_equal(files_in("twice/layer-0"), 18);
    json_decref(TRACED(QWEN2, 0, "--tokens=1,2", "--save-tensor=attn_norm,final_norm", "--layer=1", into("twice"), "--force"));
    assert_int_equal(files_in("twice"), 4); /* final_norm.bin, layer-1, and those that are no stage of a trace */
    assert_int_equal(files_in("twice/layer-1"), 2);
    assert_int_equal(files_in("twice/layer-0"), 0);
    float *x;
    size_t n;
    struct test_bytes b = saved_values("twice/layer-1/attn_norm.bin", 1, &x, &n);
    assert_int_equal(n, 2 * 64);
    test_free(&b);
}

/* It may end before the stages that lie there. */
static void a_run_that_may_stop_wants_leave_before_it_begins(void **state)
{
    (void)state;
    json_decref(TRACED(QWEN2, 0, TOKENS, "--save-tensor=final_norm", into("stop")));
    expect_exit(test_tool(APR_TRACE, QWEN2, TOKENS, "--save-tensor=final_norm", "--stop-at-nan", into("stop"), NULL), 2, "--force");
    json_decref(TRACED(QWEN2, 0, TOKENS, "--save-tensor=final_norm", "--stop-at-nan", into("stop"), "--force"));
    assert_int_equal(files_in("stop"), 1);
}

/* What another program may have dumped. */
static void arrays_of_others_are_neither_removed_nor_replaced(void **state)
{
    (void)state;
    static const struct { const char *file, *descr, *format, *stages, *force, *says; } rows[] = {
        { "layer-0/embedding.npy", "<i2", "--format=npy", "all", "--force", "no array of F32" },
        { "layer-0/embedding.npy", "<i2", "--format=npy", "lm_head", "--force", "is not removed: take another folder" },
        { "layer-0/embedding.npy", "<i2", "--format=aprt", "all", "--force", "is not removed: take another folder" },
        { "layer-0/embedding.npy", "<f4", "--format=aprt", "all", "--force", "is not removed: take another folder" },
        { "layer-0/embedding.npy", "<f4", "--format=npy", "all", "--quiet", "it is there already; --force replaces it" },
        { "layer-0/embedding.npy", "<f4", "--format=npy", "lm_head", "--quiet", "--force removes it" },
        { "lm_head.npy", "<f4", "--format=npy", "all", "--quiet", "it is there already; --force replaces it" },
        { "layer-7/ffn_up.npy", "<f4", "--format=npy", "all", "--quiet", "--force removes it" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char name[64], folder[32], stages[64];
        snprintf(folder, sizeof folder, "theirs%zu", i);
        snprintf(name, sizeof name, "%s/%s", folder, rows[i].file);
        snprintf(stages, sizeof stages, "--save-tensor=%s", rows[i].stages);
        struct test_bytes before = test_load(array(name, rows[i].descr));
        expect_exit(test_tool(APR_TRACE, QWEN2, TOKENS, stages, into(folder), rows[i].format, rows[i].force, NULL), 2, rows[i].says);
        struct test_bytes after = test_load(test_path(name));
        assert_true(after.n == before.n && memcmp(after.at, before.at, after.n) == 0);
        assert_int_equal(files_in(folder), 1);
        test_free(&before);
        test_free(&after);
    }
    json_decref(TRACED(QWEN2, 0, TOKENS, "--save-tensor=lm_head", into("theirs5"), "--format=npy", "--force"));
    assert_int_equal(files_in("theirs5"), 1);
}

static void weights_replace_nothing_without_force(void **state)
{
    (void)state;
    static const char weight[] = "--save-weights=model.norm.weight";
    array("w/model.norm.weight.npy", "<f4");
    text_file("w/model.norm.weight.raw", "mine");
    expect_exit(test_tool(APR_TRACE, QWEN2, weight, into("w"), NULL), 2, "it is there already; --force replaces it");
    expect_exit(test_tool(APR_TRACE, QWEN2, weight, "--raw", into("w"), NULL), 2, "it is there already; --force replaces it");
    expect_same("w/model.norm.weight.raw", "mine");
    json_decref(TRACED(QWEN2, 0, weight, into("w"), "--force"));
    json_decref(TRACED(QWEN2, 0, weight, "--raw", into("w"), "--force"));
    struct test_bytes npy = test_load(test_path("w/model.norm.weight.npy")), raw = test_load(test_path("w/model.norm.weight.raw"));
    assert_int_equal(npy.n, 128 + 4 * 64);
    assert_int_equal(raw.n, 2 * 64);
    test_free(&npy);
    test_free(&raw);
    text_file("w/model.norm.weight.npy", "mine");
    expect_exit(test_tool(APR_TRACE, QWEN2, weight, into("w"), "--force", NULL), 2, "no saved activation");
    expect_same("w/model.norm.weight.npy", "mine");
    expect_exit(test_tool(APR_TRACE, QWEN2, TOKENS, "--force", NULL), 2, "--force has no effect without --save-tensor or --save-weights");
}

/* Nobody writes into it: opening it would wait for ever. */
static void a_pipe_with_the_name_of_a_stage_is_not_waited_for(void **state)
{
    (void)state;
    text_file("pipe/notes", "");
    assert_int_equal(mkfifo(test_path("pipe/lm_head.bin"), 0600), 0);
    json_decref(TRACED(QWEN2, 0, TOKENS, "--save-tensor=final_norm", into("pipe")));
    expect_exit(test_tool(APR_TRACE, QWEN2, TOKENS, "--save-tensor=lm_head", into("pipe"), "--force", NULL), 2, "it is no file");
    assert_int_equal(files_in("pipe"), 3);
}

/* Of two runs each would have some of the files. */
static void a_folder_that_another_run_writes_into_is_refused(void **state)
{
    (void)state;
    text_file("shared/notes", "");
    const int fd = open(test_path("shared"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    expect_exit(test_tool(APR_TRACE, QWEN2, TOKENS, "--save-tensor=all", into("shared"), NULL), 2, "another run is writing there");
    assert_int_equal(files_in("shared"), 1);
    close(fd);
    json_decref(TRACED(QWEN2, 0, TOKENS, "--save-tensor=lm_head", into("shared")));
}

/* An unset variable of a script is no root of the file system. */
static void an_empty_name_is_none(void **state)
{
    (void)state;
    static const char *const option[] = { "--save-tensor-dir=", "--compare=", "--tokens-file=", "--perplexity=", "--imatrix=" };
    for (size_t i = 0; i < APR_LENGTH(option); i++) {
        char says[64];
        snprintf(says, sizeof says, "%.*s wants a name for ", (int)strlen(option[i]) - 1, option[i]);
        expect_exit(test_tool(APR_TRACE, QWEN2, i == 2 ? "--json" : TOKENS, "--save-tensor=all", option[i], NULL), 2, says);
    }
    expect_exit(test_tool(APR_TRACE, QWEN2, "--save-weights=", into("none"), NULL), 2, "--save-weights wants a pattern");
}

/* The file that could not be written is another one than the object's. */
static void the_file_of_a_failure_is_named_in_json_too(void **state)
{
    (void)state;
    text_file("a-file", "x");
    json_t *const r = report_of(test_tool(APR_TRACE, "--json", QWEN2, TOKENS, "--save-tensor=all", into("a-file"), NULL), 2);
    assert_non_null(strstr(text_of(r, "error.text"), "a-file/: cannot be written: "));
    json_decref(r);
    json_t *const own = report_of(test_tool(APR_TRACE, "--json", QWEN2, "--tokens=96", NULL), 2);
    assert_int_equal(strncmp(text_of(own, "error.text"), "--tokens: ", 10), 0);
    json_decref(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_the_model_is_where_a_trace_lies_by_default),
        cmocka_unit_test(beside_an_address_is_no_folder),
        cmocka_unit_test(a_second_run_leaves_nothing_of_the_first_when_it_may),
        cmocka_unit_test(a_run_that_may_stop_wants_leave_before_it_begins),
        cmocka_unit_test(arrays_of_others_are_neither_removed_nor_replaced),
        cmocka_unit_test(weights_replace_nothing_without_force),
        cmocka_unit_test(a_pipe_with_the_name_of_a_stage_is_not_waited_for),
        cmocka_unit_test(a_folder_that_another_run_writes_into_is_refused),
        cmocka_unit_test(an_empty_name_is_none),
        cmocka_unit_test(the_file_of_a_failure_is_named_in_json_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
