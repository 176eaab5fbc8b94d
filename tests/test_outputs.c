/* What the tools write: never onto what they read, never two into one, never by halves, whatever ends them. */
#include "diff.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 16

/* ---- files ---------------------------------------------------------------------------------------------------------- */

/* Copies a fixture. */
static const char *copy(const char *from, const char *name)
{
    struct test_bytes b = test_load(from);
    const char *const path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

static const char *text_file(const char *name, const char *text) { return test_file(name, text, strlen(text)); }

/* A checkpoint in three shards with what lies beside them on the hub. */
static void make_checkpoint(const char *folder)
{
    static const char *const parts[] = { "config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
                                         "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors" };
    static const char *const more[] = { "tokenizer.json", "tokenizer_config.json", "generation_config.json", "tokenizer.model", "merges.txt",
                                        "README.md", "original/params.json", "original/more/notes" };
    char from[200], name[200];
    for (size_t i = 0; i < APR_LENGTH(parts); i++) {
        snprintf(from, sizeof from, "fixtures/qwen2/%s", parts[i]);
        snprintf(name, sizeof name, "%s/%s", folder, parts[i]);
        copy(from, name);
    }
    for (size_t i = 0; i < APR_LENGTH(more); i++) {
        snprintf(name, sizeof name, "%s/%s", folder, more[i]);
        text_file(name, "{}");
    }
}

/* A model of n small tensors; its report is some 300 bytes for each. */
static const char *model_of(const char *name, size_t n, float value)
{
    struct test_tensor *const t = calloc(n, sizeof *t);
    const float values[4] = { 1, 2, 3, value };
    char (*const names)[48] = calloc(n, sizeof *names);
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "model.layers.%zu.weight", i);
        t[i] = (struct test_tensor){ names[i], "F32", "[4]", values, sizeof values };
    }
    const char *const path = test_safetensors(name, t, n);
    free(names);
    free(t);
    return path;
}

/* ---- runs ----------------------------------------------------------------------------------------------------------- */

/* A name of a test's file when it has a '/' in it and no '-' before it; else a word as it is. */
static struct test_answer run_words(const char *const *word)
{
    const char *w[MOST] = { NULL };
    for (size_t i = 0; word[i] != NULL; i++)
        w[i] = strchr(word[i], '/') != NULL && word[i][0] != '/' && strncmp(word[i], "fixtures/", 9) != 0 ? test_path(word[i]) : word[i];
    return test_tool(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], NULL);
}

static void say(const char *const *word, const struct test_answer *a)
{
    for (size_t i = 0; word[i] != NULL; i++)
        print_error("%s ", word[i]);
    print_error("\nexit %d: %s\n", a->exit, (const char *)a->err.at);
}

/* Refused, with a message that names the file, which is as it was. */
static void expect_unharmed(const char *file, const char *named, const char *const *word)
{
    struct test_bytes before = test_load(test_path(file));
    struct test_answer a = run_words(word);
    struct test_bytes after = test_load(test_path(file));
    const bool same = before.n == after.n && memcmp(before.at, after.at, after.n) == 0;
    if (!same || a.exit != 2 || !test_says(&a.err, named) || !test_says(&a.err, "cannot be written")) {
        say(word, &a);
        fail_msg("%s %s", file, same ? "is not named, or that was no refusal" : "was overwritten");
    }
    test_free(&before);
    test_free(&after);
    test_answer_free(&a);
}

static void expect_written(const char *file, const char *begins, int exit, const char *const *word)
{
    struct test_answer a = run_words(word);
    if (a.exit != exit) {
        say(word, &a);
        fail_msg("not exit %d", exit);
    }
    struct test_bytes b = test_load(test_path(file));
    if (strncmp((const char *)b.at, begins, strlen(begins)) != 0)
        fail_msg("%s does not begin with %s", file, begins);
    test_free(&b);
    test_answer_free(&a);
}

/* How many files a folder has; `with` in their names, if that is not NULL. */
static size_t files_in(const char *folder, const char *with)
{
    DIR *const d = opendir(test_path(folder));
    size_t n = 0;
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && (with == NULL || strstr(entry->d_name, with) != NULL);
    closedir(d);
    return n;
}

/* ---- onto inputs ---------------------------------------------------------------------------------------------------- */

static void no_output_is_written_onto_what_is_read(void **state)
{
    (void)state;
    make_checkpoint("hub");
    copy("fixtures/qwen2-q4_0.gguf", "in/a.gguf");
    copy("fixtures/qwen2-bf16.gguf", "in/b.gguf");
    text_file("in/config.json", "{}");
    text_file("in/broken.gguf", "cut short");
    for (unsigned i = 1; i <= 3; i++) {
        char from[100], name[100];
        snprintf(from, sizeof from, "fixtures/split/qwen2-0000%u-of-00003.gguf", i);
        snprintf(name, sizeof name, "split/qwen2-0000%u-of-00003.gguf", i);
        copy(from, name);
    }
    text_file("in/rules.yaml", "- {match: '*', cosine: 0.5}\n");
    text_file("in/family.yaml", "name: mine\n");
    text_file("blobs/1234", "{}");
    text_file("cache/model.gguf", "");
    assert_int_equal(symlink("a.gguf", test_path("in/link")), 0);
    assert_int_equal(link(test_path("in/a.gguf"), test_path("in/hard")), 0);
    assert_int_equal(symlink("../blobs/1234", test_path("hub/vocab.json")), 0);
    static const struct { const char *file, *named, *word[MOST]; } rows[] = {
        { "in/a.gguf", "in/a.gguf", { "apr-inspect", "--html", "in/a.gguf", "in/a.gguf" } },
        { "in/a.gguf", "in/a.gguf", { "apr-inspect", "--manifest", "in/a.gguf", "in/a.gguf" } },
        { "in/a.gguf", "in/link", { "apr-inspect", "--manifest", "in/link", "in/a.gguf" } },
        { "in/a.gguf", "in/hard", { "apr-inspect", "--html", "in/hard", "in/a.gguf", "--json" } },
        { "in/a.gguf", "in/a.gguf", { "apr-inspect", "--html", "in/a.gguf", "in/link" } },
        { "in/a.gguf", "in/a.gguf", { "apr-diff", "--html", "in/a.gguf", "in/a.gguf", "in/b.gguf" } },
        { "in/b.gguf", "in/b.gguf", { "apr-diff", "--html", "in/../in/b.gguf", "in/a.gguf", "in/b.gguf" } },
        { "in/rules.yaml", "rules.yaml", { "apr-diff", "--html", "in/rules.yaml", "--tolerances", "in/rules.yaml", "in/a.gguf", "in/b.gguf" } },
        { "in/family.yaml", "family.yaml", { "apr-diff", "--html", "in/family.yaml", "--family-file", "in/family.yaml", "in/a.gguf", "in/b.gguf" } },
        { "in/family.yaml", "family.yaml", { "apr-inspect", "--html", "in/family.yaml", "--family-file", "in/family.yaml", "in/a.gguf" } },
        { "in/rules.yaml", "rules.yaml", { "apr-diff", "--html", "in/rules.yaml", "--merge", "in/rules.yaml" } },
        { "in/config.json", "config.json", { "apr-inspect", "--html", "in/config.json", "in/a.gguf" } },
        { "in/broken.gguf", "broken.gguf", { "apr-inspect", "--html", "in/broken.gguf", "in/a.gguf" } },
        { "split/qwen2-00003-of-00003.gguf", "00003", { "apr-inspect", "--html", "split/qwen2-00003-of-00003.gguf",
                                                        "split/qwen2-00001-of-00003.gguf" } },
        { "hub/config.json", "config.json", { "apr-diff", "--html", "hub/config.json", "hub/", "in/a.gguf" } },
        { "hub/config.json", "config.json", { "apr-inspect", "--manifest", "hub/config.json", "hub/model-00001-of-00003.safetensors" } },
        { "hub/tokenizer.json", "tokenizer.json", { "apr-diff", "--html", "hub/tokenizer.json", "in/a.gguf", "hub/" } },
        { "hub/tokenizer.model", "tokenizer.model", { "apr-inspect", "--html", "hub/tokenizer.model", "hub/model.safetensors.index.json" } },
        { "hub/generation_config.json", "generation_config", { "apr-inspect", "--html", "hub/generation_config.json", "hub/" } },
        { "hub/merges.txt", "merges.txt", { "apr-inspect", "--html", "hub/merges.txt", "hub/" } },
        { "hub/README.md", "README.md", { "apr-inspect", "--html", "hub/README.md", "hub/" } },
        { "hub/original/params.json", "params.json", { "apr-inspect", "--html", "hub/original/params.json", "hub/" } },
        { "hub/original/more/notes", "more/notes", { "apr-inspect", "--html", "hub/original/more/notes", "hub/" } },
        { "hub/model.safetensors.index.json", "index.json", { "apr-inspect", "--html", "hub/model.safetensors.index.json", "hub/" } },
        { "hub/model-00002-of-00003.safetensors", "00002", { "apr-inspect", "--html", "hub/model-00002-of-00003.safetensors", "hub/" } },
        { "blobs/1234", "blobs/1234", { "apr-inspect", "--html", "blobs/1234", "hub/" } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        expect_unharmed(rows[i].file, rows[i].named, rows[i].word);
}

static void no_page_or_manifest_takes_the_place_of_another_model(void **state)
{
    (void)state;
    static const char *const from[] = { "fixtures/qwen2-q4_0.gguf", "fixtures/qwen2.apr", "fixtures/qwen2/model-00001-of-00003.safetensors",
                                        "fixtures/trace/lm_head.bin", "fixtures/qwen2/model.safetensors.index.json" };
    for (size_t i = 0; i < APR_LENGTH(from); i++) {
        copy(from[i], "elsewhere/file"); /* its name says nothing */
        expect_unharmed("elsewhere/file", "it holds a model",
                        (const char *[]){ "apr-inspect", "--html", "elsewhere/file", "fixtures/qwen2-q8_0.gguf", NULL });
        expect_unharmed("elsewhere/file", "it holds a model",
                        (const char *[]){ "apr-inspect", "--manifest", "elsewhere/file", "fixtures/qwen2-q8_0.gguf", NULL });
        expect_unharmed("elsewhere/file", "it holds a model",
                        (const char *[]){ "apr-diff", "--html", "elsewhere/file", "fixtures/qwen2", "fixtures/qwen2-q8_0.gguf", NULL });
    }
}

static void what_is_nobodys_input_may_be_replaced(void **state)
{
    (void)state;
    static const char page[] = "<!DOCTYPE html>", manifest[] = "{\"schema\":\"apr-manifest/1\"";
    make_checkpoint("own");
    copy("fixtures/qwen2-q4_0.gguf", "beside/a.gguf");
    text_file("own/page.html", "");
    text_file("beside/notes.html", "notes");
    text_file("beside/notes.json", "{}");
    for (unsigned i = 0; i < 2; i++) { /* and again */
        expect_written("own/page.html", page, 0, (const char *[]){ "apr-inspect", "--html", "own/page.html", "own/", NULL });
        expect_written("own/hashes.json", manifest, 0, (const char *[]){ "apr-inspect", "--manifest", "own/hashes.json", "own/", NULL });
        expect_written("beside/notes.html", page, 0, (const char *[]){ "apr-inspect", "--html", "beside/notes.html", "beside/a.gguf", NULL });
        expect_written("beside/notes.json", manifest, 0,
                       (const char *[]){ "apr-inspect", "--manifest", "beside/notes.json", "beside/a.gguf", NULL });
    }
}

/* What a shell says of a line. */
static void expect_shell(const char *want, const char *format, ...) APR_PRINTF(2, 3);
static void expect_shell(const char *want, const char *format, ...)
{
    char line[2000], text[2000] = "";
    va_list more;
    va_start(more, format);
    vsnprintf(line, sizeof line, format, more);
    va_end(more);
    FILE *const f = popen(line, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    pclose(f);
    if (strcmp(text, want) != 0)
        fail_msg("%s\nsays \"%s\", not \"%s\"", line, text, want);
}

static void standard_output_is_no_input_either(void **state)
{
    (void)state;
    const char *const model = copy("fixtures/qwen2-q4_0.gguf", "appended/a.gguf");
    struct test_bytes before = test_load(model);
    expect_shell("2\napr-inspect: standard output: cannot be written: it is an input\n",
                 "cd %s && $OLDPWD/" APR_BUILD "/apr-inspect --json a.gguf 2>said >>a.gguf; echo $?; cat said", test_path("appended"));
    expect_shell("2\n", "cd %s && $OLDPWD/" APR_BUILD "/apr-inspect --json - <a.gguf 2>said >>a.gguf; echo $?", test_path("appended"));
    struct test_bytes after = test_load(model);
    assert_int_equal(before.n, after.n);
    expect_shell("0\n1\n", "cd %s && b=$OLDPWD/" APR_BUILD "/apr-inspect; mkdir f && cp $OLDPWD/fixtures/qwen2/* f; $b f >f/report; echo $?; "
                 "grep -c 'format *safetensors' f/report", test_path("appended"));
    test_free(&before);
    test_free(&after);
}

/* ---- two outputs ---------------------------------------------------------------------------------------------------- */

static void two_outputs_never_share_a_file(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        { "two/out", "two/out" }, { "two/out", "two/./out" }, { "two/out", "two/link" }, { "two/out", "two/hard" }, { "two/new", "two/new" },
        { "two/new", "two/../two/new" }, { "two/new", "two/dangling" }, { "-", "-" }, { "-", "/dev/stdout" }, { "/dev/fd/1", "-" },
    };
    const char *const out = text_file("two/out", "old");
    assert_int_equal(symlink("out", test_path("two/link")), 0);
    assert_int_equal(symlink("new", test_path("two/dangling")), 0);
    assert_int_equal(link(out, test_path("two/hard")), 0);
    for (size_t i = 0; i < APR_LENGTH(pairs); i++)
        for (unsigned turn = 0; turn < 2; turn++) {
            const char *const word[] = { "apr-inspect", "--html", pairs[i][turn], "--manifest", pairs[i][1 - turn], "fixtures/qwen2.apr", NULL };
            struct test_answer a = run_words(word);
            if (a.exit != 2 || a.out.n > 0 || !test_says(&a.err, "would share it"))
                say(word, &a), fail();
            test_answer_free(&a);
        }
    assert_int_equal(files_in("two", NULL), 4);
    expect_shell("apr-inspect: out: cannot be written: --html and standard output would share it\n2\n",
                 "cd %s && $OLDPWD/" APR_BUILD "/apr-inspect --html out $OLDPWD/fixtures/qwen2.apr 2>&1 >out; echo $?", test_path("two"));
    expect_exit(test_tool("apr-inspect", "--html", "/dev/null", "--manifest", "/dev/null", "fixtures/qwen2.apr", NULL), 0, NULL);
}

static void a_dash_is_standard_output_and_has_it_alone(void **state)
{
    (void)state;
    static const char *const dashes[] = { "-", "/dev/stdout", "/dev/fd/1" };
    static const char *const clashes[][MOST] = {
        { "apr-inspect", "--html", "-", "--json", "fixtures/qwen2.apr" },
        { "apr-inspect", "--manifest", "-", "--tensors", "fixtures/qwen2.apr" },
        { "apr-inspect", "--html", "-", "--check=fast", "fixtures/qwen2.apr" },
        { "apr-diff", "--html", "-", "--json", "fixtures/qwen2", "fixtures/qwen2.apr" },
        { "apr-diff", "--html", "/dev/stdout", "--jsonl", "fixtures/qwen2", "fixtures/qwen2.apr" },
    };
    for (size_t i = 0; i < 3 * APR_LENGTH(dashes); i++) {
        const char *const to = dashes[i % 3];
        struct test_answer a = i / 3 == 0 ? test_tool("apr-diff", "fixtures/qwen2", "fixtures/qwen2.apr", "--html", to, "--sort=rmse", NULL)
                                          : test_tool("apr-inspect", "fixtures/qwen2.apr", i / 3 == 1 ? "--html" : "--manifest", to, NULL);
        const char *const text = (const char *)a.out.at, *const begin = i / 3 == 2 ? "{\"schema\"" : "<!DOCTYPE html>";
        const char *const end = i / 3 == 2 ? "}\n" : "</html>\n";
        assert_int_equal(a.exit, 0);
        assert_int_equal(strncmp(text, begin, strlen(begin)), 0);
        assert_string_equal(text + a.out.n - strlen(end), end);
        test_answer_free(&a);
    }
    assert_int_not_equal(access("-", F_OK), 0);
    for (size_t i = 0; i < APR_LENGTH(clashes); i++) {
        struct test_answer a = run_words(clashes[i]);
        if (a.exit != 2 || test_says(&a.out, "DOCTYPE") || !test_says(&a.err, "share"))
            say(clashes[i], &a), fail();
        test_answer_free(&a);
    }
}

/* ---- whatever ends a run -------------------------------------------------------------------------------------------- */

static const struct writer { const char *option, *word[4]; } writers[] = {
    { "--manifest", { "apr-inspect", "fixtures/qwen2.apr" } },
    { "--html", { "apr-inspect", "fixtures/qwen2.apr" } },
    { "--html", { "apr-diff", "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf" } },
    { "fixtures/qwen2-q4_0.gguf", { "apr-convert", "--to=apr", "--force" } },
};

/* A run in which call number n of the system's is preceded by a signal; 0: a run as any. named: files without a name are not to be had. */
struct fate {
    int      sent, ignored;
    unsigned n;
    bool     named;
};

/* Ends in a status as of waitpid. *sent: the call was made. */
static int run_writer(const struct writer *w, const char *to, const struct fate *fate, bool *sent)
{
    char program[200], shim[200], number[16], sign[16], mark[300];
    int status = 0;
    snprintf(program, sizeof program, "%s/%s", APR_BUILD, w->word[0]);
    snprintf(shim, sizeof shim, "%s/faults_shim.so", APR_BUILD);
    snprintf(number, sizeof number, "%u", fate->n);
    snprintf(sign, sizeof sign, "%d", fate->sent);
    snprintf(mark, sizeof mark, "%s", test_path("sent"));
    unlink(mark);
    const pid_t pid = fork();
    if (pid == 0) {
        const int nothing = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(nothing, fd);
        if (fate->n > 0) {
            setenv("LD_PRELOAD", shim, 1);
            setenv("APR_FAULT", "system", 1);
            setenv("APR_FAULT_AT", number, 1);
            setenv("APR_FAULT_SENT", sign, 1);
            setenv("APR_FAULT_MARK", mark, 1);
        }
        if (fate->named)
            setenv("APR_FAULT_NAMED", "1", 1);
        if (fate->ignored != 0)
            signal(fate->ignored, SIG_IGN);
        alarm(60);
        execl(program, program, "--threads=1", w->option, to, w->word[1], w->word[2], NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    *sent = access(mark, F_OK) == 0;
    return status;
}

static struct test_bytes whole_of(const struct writer *w)
{
    bool sent;
    const int status = run_writer(w, test_path("ends/whole"), &(struct fate){ 0 }, &sent);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    struct test_bytes b = test_load(test_path("ends/whole"));
    unlink(test_path("ends/whole"));
    return b;
}

/* The old file or the whole new one. Nothing else but, where `left`, one that its name tells as something left. */
static void expect_old_or_new(const struct fate *fate, const struct test_bytes *whole, bool old, bool left)
{
    const char *const out = test_path("ends/out");
    const size_t parts = files_in("ends", ".part"), there = access(out, F_OK) == 0;
    if (files_in("ends", NULL) != there + parts || parts > left || (old && !there))
        fail_msg("signal %d before call %u: %zu files, %zu of them left over", fate->sent, fate->n, files_in("ends", NULL), parts);
    if (!there)
        return;
    struct test_bytes b = test_load(out);
    const bool is_old = old && b.n == 3 && memcmp(b.at, "old", 3) == 0;
    if (!is_old && (b.n != whole->n || memcmp(b.at, whole->at, b.n) != 0))
        fail_msg("signal %d before call %u: neither the old file nor the whole new one, but %zu bytes", fate->sent, fate->n, b.n);
    test_free(&b);
}

static void clear_ends(void)
{
    DIR *const d = opendir(test_path("ends"));
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
}

static void before_every_call(const struct writer *w, int sent, bool named, bool old)
{
    struct test_bytes whole = whole_of(w);
    bool came = true;
    for (struct fate fate = { .sent = sent, .named = named, .n = 1 }; came; fate.n++) {
        clear_ends();
        if (old)
            text_file("ends/out", "old");
        const int status = run_writer(w, test_path("ends/out"), &fate, &came);
        if (came && (!WIFSIGNALED(status) || WTERMSIG(status) != sent))
            fail_msg("signal %d before call %u: not the end of it, but status %x", sent, fate.n, status);
        expect_old_or_new(&fate, &whole, old, came && sent == SIGKILL);
    }
    test_free(&whole);
}

static bool has_shim(void) { return strcmp(APR_BUILD, "build/release") == 0; }

static void a_signal_before_any_call_leaves_the_old_file_or_the_new_one(void **state)
{
    (void)state;
    static const int rest[] = { SIGHUP, SIGQUIT, SIGXCPU, SIGUSR1, SIGALRM, SIGABRT };
    text_file("ends/out", "");
    if (!has_shim())
        skip();
    for (size_t i = 0; i < APR_LENGTH(writers); i++)
        for (unsigned k = 0; k < 4; k++) {
            before_every_call(&writers[i], SIGTERM, k % 2, k / 2);
            before_every_call(&writers[i], SIGKILL, k % 2, k / 2);
        }
    before_every_call(&writers[0], SIGINT, false, true);
    for (size_t i = 0; i < APR_LENGTH(rest); i++)
        before_every_call(&writers[0], rest[i], true, true);
}

static void a_signal_that_the_caller_ignores_is_ignored(void **state)
{
    (void)state;
    text_file("ends/out", "");
    if (!has_shim())
        skip();
    struct test_bytes whole = whole_of(&writers[0]);
    const struct fate fate = { .sent = SIGHUP, .ignored = SIGHUP, .n = 5 };
    bool came;
    clear_ends();
    const int status = run_writer(&writers[0], test_path("ends/out"), &fate, &came);
    assert_true(came && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    expect_old_or_new(&fate, &whole, false, false);
    assert_int_equal(access(test_path("ends/out"), F_OK), 0);
    test_free(&whole);
}

static void what_a_kill_left_hinders_no_later_run(void **state)
{
    (void)state;
    bool came;
    text_file("ends/out", "");
    struct test_bytes whole = whole_of(&writers[1]);
    clear_ends();
    for (unsigned i = 0; i < 3; i++) {
        text_file("ends/out", "old");
        run_writer(&writers[1], test_path("ends/out"), &(struct fate){ .sent = SIGKILL, .named = true, .n = has_shim() ? 12 : 0 }, &came);
    }
    assert_true(!has_shim() || files_in("ends", ".part") > 0);
    assert_int_equal(run_writer(&writers[1], test_path("ends/out"), &(struct fate){ .named = true }, &came), 0);
    struct test_bytes b = test_load(test_path("ends/out"));
    assert_int_equal(b.n, whole.n);
    test_free(&b);
    test_free(&whole);
}

static void a_reader_that_leaves_hurts_no_page(void **state)
{
    (void)state;
    const char *const a = model_of("leaving/a", 2000, 4), *const b = model_of("leaving/b", 2000, 5), *const page = test_path("page/out");
    text_file("page/out", "old");
    for (unsigned ignored = 0; ignored < 2; ignored++) {
        int ends[2], said[2], status;
        char first[1], err[16];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(pipe2(said, O_CLOEXEC), 0);
        const pid_t pid = fork();
        if (pid == 0) {
            dup2(ends[1], STDOUT_FILENO);
            dup2(said[1], STDERR_FILENO);
            signal(SIGPIPE, ignored ? SIG_IGN : SIG_DFL);
            execl(APR_BUILD "/apr-diff", "apr-diff", "--html", page, a, b, NULL);
            _exit(127);
        }
        close(ends[1]);
        close(said[1]);
        assert_int_equal(read(ends[0], first, 1), 1);
        close(ends[0]);
        assert_int_equal(read(said[0], err, sizeof err), 0); /* silence */
        close(said[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (ignored ? !WIFEXITED(status) || WEXITSTATUS(status) != 2 : !WIFSIGNALED(status) || WTERMSIG(status) != SIGPIPE)
            fail_msg("ended by status %x", status);
        struct test_bytes text = test_load(page);
        assert_true(test_says(&text, "</html>"));
        assert_int_equal(files_in("page", NULL), 1);
        test_free(&text);
        text_file("page/out", "old");
    }
}

/* ---- full disks ----------------------------------------------------------------------------------------------------- */

static void a_limit_of_size_leaves_the_old_file_and_says_why(void **state)
{
    (void)state;
    text_file("limited/out", "old");
    for (size_t i = 0; i < APR_LENGTH(writers); i++) {
        const struct writer *const w = &writers[i];
        expect_shell("2\n1\nold\nout\n", "cd %s; r=$OLDPWD; (cd $r; ulimit -f 4; " APR_BUILD "/%s %s %s %s %s >/dev/null 2>%s; echo $?); "
                     "grep -c '^%s: .*limited/out: cannot be written: File too large$' ../said; cat out; echo; ls -A", test_path("limited"),
                     w->word[0], w->option, test_path("limited/out"), w->word[1], w->word[2] == NULL ? "" : w->word[2], test_path("said"),
                     w->word[0]);
    }
}

static void a_full_disk_leaves_the_old_file_and_says_so(void **state)
{
    (void)state;
    if (system("unshare -rm mount -t tmpfs none /mnt 2>/dev/null") != 0)
        skip();
    text_file("disk/a", "");
    for (size_t i = 0; i < APR_LENGTH(writers); i++) {
        const struct writer *const w = &writers[i];
        expect_shell("2\n1\nold\nout\n", "unshare -rm sh -c 'mount -t tmpfs -o size=4k none %s; printf old >%s/out; " APR_BUILD
                     "/%s %s %s/out %s %s >/dev/null 2>%s; echo $?; "
                     "grep -c \"^%s: .*disk/out: cannot be written: No space left on device$\" %s; cat %s/out; echo; ls -A %s'",
                     test_path("disk"), test_path("disk"), w->word[0], w->option, test_path("disk"), w->word[1],
                     w->word[2] == NULL ? "" : w->word[2], test_path("said"), w->word[0], test_path("said"), test_path("disk"), test_path("disk"));
    }
}

static void a_file_that_is_mounted_alone_is_refused_at_once(void **state)
{
    (void)state;
    if (system("unshare -rm true 2>/dev/null") != 0)
        skip();
    text_file("mounted/out", "old");
    text_file("mounted/other", "other");
    expect_shell("2\n1\nother\n2\n", "unshare -rm sh -c 'cd %s && mount --bind other out && cd $OLDPWD && " APR_BUILD
                 "/apr-inspect fixtures/qwen2.apr --html %s/out 2>%s; echo $?; grep -c \"cannot be written: it is mounted here$\" %s; "
                 "cat %s/out; echo; ls -A %s | wc -l'", test_path("mounted"), test_path("mounted"), test_path("said"), test_path("said"),
                 test_path("mounted"), test_path("mounted"));
}

static void a_full_standard_output_says_so(void **state)
{
    (void)state;
    static const char *const lines[] = { "", "--json", "--html -", "--manifest /dev/stdout", "--html /dev/full", "--tensors", "--help" };
    const char *const large = model_of("large", 3000, 4); /* many a buffer */
    for (size_t i = 0; i < 2 * APR_LENGTH(lines); i++)
        expect_shell("2\n1\n1\n", APR_BUILD "/apr-inspect %s %s >/dev/full 2>%s; echo $?; wc -l <%s; grep -c 'No space left on device$' %s",
                     lines[i / 2], i % 2 ? large : "fixtures/qwen2.apr", test_path("said"), test_path("said"), test_path("said"));
}

/* The shell's redirection: words with ">>FILE" in them. */
static void expect_no_append(const char *line, const char *file)
{
    char command[1024];
    struct test_bytes before = test_load(test_path(file));
    snprintf(command, sizeof command, "d='%s'; b=%s; %s 2>/dev/null", test_folder(), APR_BUILD, line);
    const int status = system(command);
    struct test_bytes after = test_load(test_path(file));
    if (WEXITSTATUS(status) != 2 || before.n != after.n)
        fail_msg("%s: exit %d, %zu bytes became %zu", line, WEXITSTATUS(status), before.n, after.n);
    test_free(&before);
    test_free(&after);
}

static void an_answer_is_never_appended_to_a_part_of_a_model(void **state)
{
    (void)state;
    make_checkpoint("hub");
    copy("fixtures/qwen2-q4_0.gguf", "in/a.gguf");
    text_file("hub/config.json", "{}");
    static const char *const line[] = {
        "$b/apr-inspect $d/hub >>$d/hub/config.json", "$b/apr-inspect $d/in/a.gguf $d/hub >>$d/hub/config.json",
        "$b/apr-inspect --json --check=fast $d/hub >>$d/hub/config.json", "$b/apr-diff $d/in/a.gguf $d/hub >>$d/hub/config.json",
        "$b/apr-diff --json $d/hub $d/in/a.gguf >>$d/hub/config.json",
    };
    for (size_t i = 0; i < APR_LENGTH(line); i++)
        expect_no_append(line[i], "hub/config.json");
}

static void no_page_is_made_under_the_name_of_a_part(void **state)
{
    (void)state;
    static const char *const name[] = { "hub/model.safetensors", "hub/tokenizer.json", "hub/adapter_config.json", "in/new.gguf" };
    make_checkpoint("hub");
    copy("fixtures/qwen2-q4_0.gguf", "in/a.gguf");
    for (size_t i = 0; i < APR_LENGTH(name); i++) {
        const char *const model = test_path(i < 3 ? "hub" : "in/a.gguf"), *const page = test_path(name[i]);
        unlink(page);
        struct test_answer a = test_tool("apr-inspect", "--html", page, model, NULL);
        assert_int_equal(a.exit, 2);
        assert_true(test_says(&a.err, "would be a part of the model"));
        assert_int_not_equal(access(page, F_OK), 0);
        test_answer_free(&a);
    }
}

static void a_device_without_end_is_no_file(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-inspect", "/dev/zero", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "is a device"));
    test_answer_free(&a);
    a = test_tool("apr-diff", "--tolerances", "/dev/urandom", "fixtures/qwen2.apr", "fixtures/qwen2.apr", NULL);
    assert_int_equal(a.exit, 2);
    test_answer_free(&a);
}

/* What runs the tests may ignore signals, in the background of a shell for one; the tools inherit that. */
static int heed_signals(void **state)
{
    (void)state;
    static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGXCPU, SIGXFSZ };
    for (size_t i = 0; i < APR_LENGTH(signals); i++)
        signal(signals[i], SIG_DFL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_never_appended_to_a_part_of_a_model),
        cmocka_unit_test(no_page_is_made_under_the_name_of_a_part),
        cmocka_unit_test(a_device_without_end_is_no_file),
        cmocka_unit_test(no_output_is_written_onto_what_is_read),
        cmocka_unit_test(no_page_or_manifest_takes_the_place_of_another_model),
        cmocka_unit_test(what_is_nobodys_input_may_be_replaced),
        cmocka_unit_test(standard_output_is_no_input_either),
        cmocka_unit_test(two_outputs_never_share_a_file),
        cmocka_unit_test(a_dash_is_standard_output_and_has_it_alone),
        cmocka_unit_test(a_signal_before_any_call_leaves_the_old_file_or_the_new_one),
        cmocka_unit_test(a_signal_that_the_caller_ignores_is_ignored),
        cmocka_unit_test(what_a_kill_left_hinders_no_later_run),
        cmocka_unit_test(a_reader_that_leaves_hurts_no_page),
        cmocka_unit_test(a_limit_of_size_leaves_the_old_file_and_says_why),
        cmocka_unit_test(a_full_disk_leaves_the_old_file_and_says_so),
        cmocka_unit_test(a_file_that_is_mounted_alone_is_refused_at_once),
        cmocka_unit_test(a_full_standard_output_says_so),
    };
    return cmocka_run_group_tests(tests, heed_signals, NULL);
}
