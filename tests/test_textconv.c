/* --textconv as git runs it: set up by the lines that docs/git.md gives, on two versions of one model. */
#include "support.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs a shell command in the repository; what it says, or a failed test. */
static struct test_bytes run(const char *command)
{
    struct test_bytes said = { 0 }, line = { 0 };
    test_text(&line, "cd ");
    test_text(&line, test_path("repository"));
    test_text(&line, " && exec 2>&1 </dev/null && ");
    test_text(&line, command);
    FILE *const f = popen((const char *)line.at, "r");
    assert_non_null(f);
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;)
        test_put(&said, part, n);
    test_put(&said, "", 0);
    const int status = pclose(f);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s: %s", command, (const char *)said.at);
    test_free(&line);
    return said;
}

static void run_quietly(const char *command)
{
    struct test_bytes said = run(command);
    test_free(&said);
}

/* The lines of the page's sh block. */
static void set_up_as_the_page_says(void)
{
    struct test_bytes page = test_load("docs/git.md");
    char *const begin = strstr((char *)page.at, "```sh\n");
    assert_non_null(begin);
    char *const end = strstr(begin + 6, "```");
    assert_non_null(end);
    *end = 0;
    for (char *rest = begin + 6, *line; (line = strsep(&rest, "\n")) != NULL;)
        if (*line != 0)
            run_quietly(line);
    test_free(&page);
}

/* Two tensors and a word of metadata; the first tensor begins with `value`. */
static void write_model(const char *word, unsigned char value)
{
    char head[512];
    const int n = snprintf(head, sizeof head,
                           "{\"__metadata__\":{\"step\":\"%s\"},\"fixed\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]},"
                           "\"moving\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}", word);
    struct test_bytes b = { 0 };
    test_integer(&b, (uint64_t)n, 8);
    test_text(&b, head);
    test_integer(&b, value, 1);
    test_zeros(&b, 15);
    test_file("repository/model.safetensors", b.at, b.n);
    test_free(&b);
}

static void git_diff_names_the_tensor_that_changed(void **state)
{
    (void)state;
    if (system("git --version >/dev/null 2>&1") != 0)
        skip();
    write_model("1", 0);
    run_quietly("git init -q .");
    set_up_as_the_page_says();
    run_quietly("git add . && git -c user.name=test -c user.email=test@localhost commit -q -m one");
    write_model("2", 1);
    struct test_bytes said = run("git diff");
    static const char *const lines[] = { "-step  str  \"1\"", "+step  str  \"2\"", "-moving  BF16 [2, 2]  ", "+moving  BF16 [2, 2]  ",
                                         " fixed  F32 [2]  ", "-model  ", "+model  ", " format  safetensors" };
    for (size_t i = 0; i < APR_LENGTH(lines); i++)
        if (!test_says(&said, lines[i]))
            fail_msg("no line \"%s\" in\n%s", lines[i], (const char *)said.at);
    assert_false(test_says(&said, "Binary files"));
    test_free(&said);
}

static void the_text_does_not_move_with_the_order_of_the_file(void **state)
{
    (void)state;
    static const char *const head[] = {
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
        "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
    };
    struct test_answer text[2];
    for (size_t i = 0; i < 2; i++) {
        struct test_bytes b = { 0 };
        test_integer(&b, strlen(head[i]), 8);
        test_text(&b, head[i]);
        test_integer(&b, i == 0 ? 'a' : 'b', 1);
        test_integer(&b, i == 0 ? 'b' : 'a', 1);
        text[i] = test_tool("apr-inspect", "--textconv", test_file("order.safetensors", b.at, b.n), NULL);
        assert_int_equal(text[i].exit, 0);
        test_free(&b);
    }
    assert_string_equal((const char *)text[0].out.at, (const char *)text[1].out.at);
    test_answer_free(&text[0]);
    test_answer_free(&text[1]);
}

/* git finds the tool by its bare name, and no settings of whoever runs the test. */
static int prepare(void **state)
{
    (void)state;
    char here[1024], path[4096];
    if (getcwd(here, sizeof here) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/%s:%s", here, APR_BUILD, getenv("PATH"));
    setenv("PATH", path, 1);
    setenv("HOME", test_folder(), 1);
    setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
    setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
    setenv("GIT_PAGER", "cat", 1);
    static const char *const of_callers[] = { "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF" };
    for (size_t i = 0; i < APR_LENGTH(of_callers); i++)
        unsetenv(of_callers[i]);
    return 0;
}

static void it_is_never_json(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-inspect", "--textconv", "--json", "fixtures/qwen2.apr", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.out, "{\"schema\":\"apr-inspect/1\",\"error\":"));
    assert_true(test_says(&a.err, "--textconv does not go with --json"));
    test_answer_free(&a);
}

static void what_cannot_be_read_is_a_text_too(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
    } rows[] = {
        { "version https://git-lfs.github.com/spec/v1\noid sha256:9c\nsize 12\n", "version https://git-lfs.github.com/spec/v1\noid sha256:9c\nsize 12\n" },
        { "version https://git-lfs \x1b[31m", "version https://git-lfs \\x1b[31m\n" },
        { "", "cannot be read: at byte 0: is empty\n" },
        { "GGUF", "cannot be read: at byte " },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool("apr-inspect", "--textconv", test_file("no.gguf", rows[i].bytes, strlen(rows[i].bytes)), NULL);
        assert_int_equal(a.exit, 0);
        assert_int_equal(strncmp((const char *)a.out.at, rows[i].text, strlen(rows[i].text)), 0);
        assert_int_equal(a.err.n, 0);
        test_answer_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_never_json),
        cmocka_unit_test(what_cannot_be_read_is_a_text_too),
        cmocka_unit_test(git_diff_names_the_tensor_that_changed),
        cmocka_unit_test(the_text_does_not_move_with_the_order_of_the_file),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
