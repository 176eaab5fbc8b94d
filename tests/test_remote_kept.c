/* lib/ui/remote.c, lib/files/remote_cache.c: who gets a token, and what is kept of a run for the next. */
#include "remote_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

static struct test_server *_Atomic elsewhere;

static bool gated(struct test_ask *a) { return strcmp(a->bearer, TOKEN) != 0 && test_give_text(a, 401, "", a->bearer); }

static bool away(struct test_ask *a)
{
    char location[700];
    if (gated(a))
        return true;
    snprintf(location, sizeof location, "Location: %s%s?sig=1\r\n", test_server_root(elsewhere), strrchr(a->path, '/'));
    return test_give_text(a, 302, location, "");
}

static bool back(struct test_ask *a) /* to the endpoint, which is not trusted any more by then */
{
    char location[700];
    snprintf(location, sizeof location, "Location: %s/back%s\r\n", test_server_root(server), a->path);
    return test_give_text(a, 302, location, "");
}

static bool away_and_back(struct test_ask *a)
{
    if (strncmp(a->path, "/back", 5) != 0)
        return away(a);
    return test_give_text(a, 404, "", "no");
}

static void a_token_goes_to_its_endpoint_alone(void **state)
{
    (void)state;
    elsewhere = test_server(NULL);
    test_server_folder(elsewhere, "/", "fixtures/qwen2/");
    setenv("HF_TOKEN", TOKEN, 1);
    test_server_how(server, gated);
    struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    fresh_cache();
    test_server_how(server, away);
    a = test_tool("apr-inspect", "--tensors", "hf://apr/qwen2", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    test_server_how(elsewhere, back);
    test_server_how(server, away_and_back);
    a = test_tool("apr-inspect", "hf://apr/qwen2/model.safetensors", NULL);
    assert_int_equal(a.exit, 2);
    assert_int_equal(test_server_asks(server, "/back/model.safetensors"), 1);
    assert_string_equal(test_server_ask(server, "/back/model.safetensors", 0)->bearer, "");
    test_answer_free(&a);
    test_server_how(elsewhere, NULL);
    a = test_tool("apr-inspect", "--no-cache", "--verbose", "--json", "hf://apr/none/none.gguf", NULL);
    assert_int_equal(a.exit, 2);
    assert_null(strstr((char *)a.err.at, TOKEN));
    test_answer_free(&a);
    assert_true(test_server_asks(elsewhere, NULL) > 3);
    for (size_t i = 0; i < test_server_asks(elsewhere, NULL); i++)
        assert_string_equal(test_server_ask(elsewhere, NULL, i)->bearer, "");
}

static void what_cannot_be_a_token_is_told_and_not_sent(void **state)
{
    static char long_one[1100];
    memset(long_one, 'x', sizeof long_one - 1);
    const char *const wrong[] = { TOKEN "\r\nX-Evil: 1", TOKEN " " TOKEN, TOKEN "\x01" TOKEN, TOKEN "\x80", long_one };
    const char *const right[] = { TOKEN "\n", " \t" TOKEN "\r\n" };
    for (size_t i = 0; i < APR_LENGTH(wrong); i++) {
        setenv("HF_TOKEN", wrong[i], 1);
        struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
        if (a.exit != 2 || !test_says(&a.err, "HF_TOKEN holds no token") || test_says(&a.err, "hf_") || test_server_asks(server, NULL) != 0)
            fail_msg("%zu: exit %d: %s", i, a.exit, (char *)a.err.at);
        test_answer_free(&a);
    }
    for (size_t i = 0; i < APR_LENGTH(right); i++) {
        begin_test(state);
        setenv("HF_TOKEN", right[i], 1);
        test_server_how(server, gated);
        struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
        assert_int_equal(a.exit, 0);
        test_answer_free(&a);
    }
    setenv("HF_TOKEN", " \n", 1); /* as good as none */
    struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
    assert_true(a.exit == 2 && test_says(&a.err, "401"));
    test_answer_free(&a);
}

static bool echo(struct test_ask *a)
{
    char tag[400];
    snprintf(tag, sizeof tag, "\"%s\"", a->bearer);
    return test_give_file(a, tag, true, 0);
}

static size_t files_with(const char *folder, const char *text, uint64_t *bytes)
{
    DIR *const d = opendir(folder);
    size_t n = 0;
    char path[8192];
    for (const struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        struct stat st;
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        struct test_bytes b = test_load(path);
        n += memmem(b.at, b.n, text, strlen(text)) != NULL;
        *bytes += b.n;
        test_free(&b);
    }
    if (d != NULL)
        closedir(d);
    return n;
}

static const char *cache(void)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/apr-tools", getenv("XDG_CACHE_HOME"));
    return path;
}

static void an_endpoint_is_an_address_and_nothing_secret(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        { "http://me:hunter2@%s", "password" }, { "ftp://me:hunter2@%s", "password" },
        { "%s", "no http address" }, { "ftp://%s", "no http address" },
        { "http://%s/?key=hunter2", "query" }, { "http://%s/#hunter2", "fragment" }, { "http://%s ", "blank" },
        { "http://%s/\r\nX: hunter2", "control" },
    };
    uint64_t bytes = 0;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        char endpoint[200];
        snprintf(endpoint, sizeof endpoint, row[i][0], test_server_root(server) + 7); /* behind http:// */
        setenv("HF_ENDPOINT", endpoint, 1);
        struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
        if (a.exit != 2 || !test_says(&a.err, "HF_ENDPOINT") || !test_says(&a.err, row[i][1]) || test_says(&a.err, "hunter2"))
            fail_msg("%s: exit %d: %s", row[i][0], a.exit, (char *)a.err.at);
        test_answer_free(&a);
    }
    setenv("HF_ENDPOINT", test_server_root(server), 1);
    assert_int_equal(test_server_asks(server, NULL), 0);
    assert_int_equal(files_with(cache(), "hunter2", &bytes), 0);
}

static void a_token_is_not_kept_even_when_a_server_sends_it_back(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    setenv("HF_TOKEN", TOKEN, 1);
    test_server_how(server, echo);
    struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
    assert_int_equal(a.exit, 0);
    assert_int_equal(files_with(cache(), TOKEN, &bytes), 0);
    test_answer_free(&a);
}

/* ---- the cache ------------------------------------------------------------------------------------------------------ */

static uint64_t inspect_large(const char *option)
{
    test_server_forget(server);
    struct test_answer a = test_tool("apr-inspect", "--metadata", option, at_server("/large.safetensors"), NULL);
    if (a.exit != 0)
        fail_msg("%s", (char *)a.err.at);
    test_answer_free(&a);
    return test_server_sent(server, "/large.safetensors");
}

/* Calls change for each file of the cache. */
static void change_cache(void (*change)(const char *path))
{
    DIR *const d = opendir(cache());
    char path[8192];
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", cache(), entry->d_name);
        if (entry->d_name[0] != '.')
            change(path);
    }
    closedir(d);
}

static void turn_a_byte(const char *path)
{
    unsigned char c;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &c, 1, 5000), 1);
    c ^= 1;
    assert_int_equal(pwrite(fd, &c, 1, 5000), 1);
    close(fd);
}

static void turn_a_byte_of_ours(const char *path)
{
    if (strlen(strrchr(path, '/')) == 33)
        turn_a_byte(path);
}

static void open_to_all(const char *path) { chmod(path, 0666); }
static void cut(const char *path) { assert_int_equal(truncate(path, 100), 0); }

static void by_link(const char *path)
{
    unlink(path);
    assert_int_equal(symlink(test_path("victim"), path), 0);
}

static void by_pipe(const char *path)
{
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
}

static void by_folder(const char *path)
{
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void what_lies_in_the_place_of_an_entry_is_not_followed(void **state)
{
    static void (*const put[])(const char *) = { by_link, by_pipe, by_folder };
    test_file("victim", "precious", 8);
    for (size_t i = 0; i < APR_LENGTH(put); i++) {
        begin_test(state);
        assert_true(inspect_large("--quiet") >= 3 * MIB);
        change_cache(put[i]);
        assert_true(inspect_large("--quiet") >= 3 * MIB);
        if (put[i] != by_folder)
            assert_int_equal(inspect_large("--quiet"), 0);
    }
    struct test_bytes b = test_load(test_path("victim"));
    assert_true(b.n == 8 && memcmp(b.at, "precious", 8) == 0);
    test_free(&b);
}

static void the_oldest_of_many_files_make_room(void **state)
{
    (void)state;
    char path[8192];
    assert_true(inspect_large("--quiet") >= 3 * MIB);
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(path, sizeof path, "%s/%u", cache(), i);
        const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        const struct timespec when[2] = { { .tv_sec = 1 + (20000 - i) }, { .tv_sec = 1 + (20000 - i) } };
        assert_int_equal(ftruncate(fd, i == 3 ? 200 << 20 : i == 4 ? 60 << 20 : 10), 0);
        assert_int_equal(futimens(fd, when), 0);
        close(fd);
    }
    change_cache(turn_a_byte_of_ours);
    const time_t begun = time(NULL);
    assert_true(inspect_large("--quiet") >= 3 * MIB);
    assert_in_range(time(NULL) - begun, 0, 20);
    snprintf(path, sizeof path, "%s/4", cache());
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/3", cache());
    assert_int_equal(access(path, F_OK), 0); /* the oldest are enough */
    assert_int_equal(inspect_large("--quiet"), 0);
}

static void a_header_that_is_known_is_not_fetched_again(void **state)
{
    (void)state;
    static void (*const harm[])(const char *) = { turn_a_byte, open_to_all, cut };
    assert_true(inspect_large("--quiet") >= 3 * MIB);
    assert_int_equal(inspect_large("--quiet"), 0);
    assert_int_equal(test_server_asks(server, "/large.safetensors"), 1);
    for (size_t i = 0; i < APR_LENGTH(harm); i++) {
        change_cache(harm[i]);
        assert_true(inspect_large("--quiet") >= 3 * MIB); /* it is not believed, and written anew */
        assert_int_equal(inspect_large("--quiet"), 0);
    }
    assert_true(inspect_large("--no-cache") >= 3 * MIB);
    struct stat st;
    assert_int_equal(stat(cache(), &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
}

static bool weak(struct test_ask *a) { return test_give_file(a, "W/\"1\"", true, 0); }

static void a_weak_tag_is_not_believed(void **state)
{
    (void)state;
    test_server_how(server, weak);
    assert_true(inspect_large("--quiet") >= 3 * MIB);
    assert_string_equal(test_server_ask(server, "/large.safetensors", 1)->if_range, "");
    assert_true(inspect_large("--quiet") >= 3 * MIB);
}

static void many_processes_share_a_cache(void **state)
{
    (void)state;
    pid_t child[6];
    uint64_t bytes = 0;
    for (size_t i = 0; i < APR_LENGTH(child); i++)
        if ((child[i] = fork()) == 0) {
            char tool[256];
            snprintf(tool, sizeof tool, "%s/apr-inspect", APR_BUILD);
            freopen("/dev/null", "w", stdout);
            execl(tool, tool, "--metadata", at_server("/large.safetensors"), NULL);
            _exit(127);
        }
    for (size_t i = 0; i < APR_LENGTH(child); i++) {
        int status;
        waitpid(child[i], &status, 0);
        assert_int_equal(status, 0);
    }
    files_with(cache(), "x", &bytes);
    assert_in_range(bytes, 3 * MIB, 4 * MIB);
    assert_int_equal(inspect_large("--quiet"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_token_goes_to_its_endpoint_alone, begin_test),
        cmocka_unit_test_setup(an_endpoint_is_an_address_and_nothing_secret, begin_test),
        cmocka_unit_test_setup(what_cannot_be_a_token_is_told_and_not_sent, begin_test),
        cmocka_unit_test_setup(a_token_is_not_kept_even_when_a_server_sends_it_back, begin_test),
        cmocka_unit_test_setup(a_header_that_is_known_is_not_fetched_again, begin_test),
        cmocka_unit_test_setup(what_lies_in_the_place_of_an_entry_is_not_followed, begin_test),
        cmocka_unit_test_setup(the_oldest_of_many_files_make_room, begin_test),
        cmocka_unit_test_setup(a_weak_tag_is_not_believed, begin_test),
        cmocka_unit_test_setup(many_processes_share_a_cache, begin_test),
    };
    return cmocka_run_group_tests(tests, begin_world, NULL);
}
