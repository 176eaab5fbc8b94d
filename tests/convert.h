/* What the tests of apr-convert share: models to convert, runs, and what they leave. */
#ifndef APR_TESTS_CONVERT_H
#define APR_TESTS_CONVERT_H

#include "diff.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define APR_CONVERT "apr-convert"

/* Makes the folders above a path of the tests. */
static inline void make_room(const char *path)
{
    char part[4096];
    for (const char *slash = strchr(path + strlen(test_folder()) + 1, '/'); slash != NULL && slash[1] != 0;
         slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        mkdir(part, 0777);
    }
}

/* Runs apr-convert --quiet on a model and a target among the tests' files; more: words up to NULL. Fails unless it ends with 0. */
static inline const char *converted(const char *in, const char *out, const char *const *more)
{
    const char *w[12] = { NULL };
    const char *const path = out[0] == '/' || strcmp(out, "-") == 0 ? out : test_path(out);
    for (size_t i = 0; more != NULL && more[i] != NULL; i++)
        w[i] = more[i];
    make_room(path);
    struct test_answer a = test_tool(APR_CONVERT, "--quiet", in, path, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], NULL);
    if (a.exit != 0)
        fail_msg("%s to %s %s: exit %d: %s", in, path, w[0] == NULL ? "" : w[0], a.exit, (const char *)a.err.at);
    test_answer_free(&a);
    return path;
}
#define CONVERTED(in, out, ...) converted(in, out, (const char *const[]){ __VA_ARGS__, NULL })

/* Every tensor of both has its counterpart with the same values; n of them. */
static inline void expect_identical(const char *a, const char *b, size_t n)
{
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", a, b, NULL), 0);
    const json_t *const rows = at(r, "results");
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (strcmp(text_of(json_array_get(rows, i), "status"), "Identical") != 0)
            fail_msg("%s against %s: %s is %s", a, b, text_of(json_array_get(rows, i), "name"), text_of(json_array_get(rows, i), "status"));
    if (json_array_size(rows) != n)
        fail_msg("%s against %s: %zu tensors, not %zu", a, b, json_array_size(rows), n);
    json_decref(r);
}

static inline void expect_same_bytes(const char *a, const char *b)
{
    struct test_bytes x = test_load(a), y = test_load(b);
    size_t i = 0;
    while (i < x.n && i < y.n && x.at[i] == y.at[i])
        i++;
    if (x.n != y.n || i < x.n)
        fail_msg("%s (%zu bytes) and %s (%zu) differ at byte %zu", a, x.n, b, y.n, i);
    test_free(&x);
    test_free(&y);
}

/* How many files a folder of the tests holds, hidden ones too; 0 when it is not there. */
static inline size_t files_in(const char *folder)
{
    DIR *const d = opendir(test_path(folder));
    size_t n = 0;
    for (const struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (d != NULL)
        closedir(d);
    return n;
}

static inline const char *copy_of(const char *from, const char *name)
{
    struct test_bytes b = test_load(from);
    const char *const path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

static inline const char *text_file(const char *name, const char *text) { return test_file(name, text, strlen(text)); }

/* A folder with the files of fixtures/qwen2, and where it is not NULL of a tokenizer of fixtures/vocabulary. */
static inline const char *checkpoint(const char *name, const char *tokenizer)
{
    static const char *const from[] = { "fixtures/qwen2", "fixtures/vocabulary" };
    char folder[256], to[512], path[512];
    for (size_t i = 0; i < (tokenizer == NULL ? 1 : 2); i++) {
        snprintf(folder, sizeof folder, "%s%s%s", from[i], i == 0 ? "" : "/", i == 0 ? "" : tokenizer);
        DIR *const d = opendir(folder);
        assert_non_null(d);
        for (const struct dirent *entry; (entry = readdir(d)) != NULL;) {
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            snprintf(to, sizeof to, "%s/%s", name, entry->d_name);
            copy_of(path, to);
        }
        closedir(d);
    }
    return test_path(name);
}

/* A SafeTensors file with four small tensors of F32, [2,3]: "a.weight", "b.weight", "b.bias", "c". */
static inline const char *four_tensors(const char *name)
{
    static const float v[] = { 0, 1, 2, 3, 4, 5 };
    static const char *const names[] = { "a.weight", "b.bias", "b.weight", "c" };
    struct test_tensor t[APR_LENGTH(names)];
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        t[i] = (struct test_tensor){ names[i], "F32", "[2,3]", v, sizeof v };
    return test_safetensors(name, t, APR_LENGTH(names));
}

/* Exit 2, the words on stderr, and the target's folder as it was. */
static inline void expect_refused(const char *const *word, const char *folder, const char *const *says)
{
    const char *w[14] = { NULL };
    const size_t before = files_in(folder);
    for (size_t i = 0; word[i] != NULL; i++)
        w[i] = word[i];
    struct test_answer a = test_tool(APR_CONVERT, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], NULL);
    for (size_t i = 0; a.exit != 2 || says[i] != NULL; i++)
        if (a.exit != 2 || !test_says(&a.err, says[i]))
            fail_msg("%s %s %s: exit %d, and \"%s\" is to be in: %s", w[0], w[1], w[2] == NULL ? "" : w[2], a.exit, says[i],
                     (const char *)a.err.at);
    if (files_in(folder) != before)
        fail_msg("%s %s: %zu files, not %zu: something is left", w[0], w[1], files_in(folder), before);
    test_answer_free(&a);
}
#define REFUSED(folder, words, ...) expect_refused((const char *const[])UNPACK words, folder, (const char *const[]){ __VA_ARGS__, NULL })
#define UNPACK(...) { __VA_ARGS__, NULL }

/* A value of the metadata as apr-inspect prints it. */
static inline void expect_key(const char *model, const char *key, const char *want)
{
    struct test_answer a = test_tool("apr-inspect", "--get", key, model, NULL);
    char text[1000];
    snprintf(text, sizeof text, "%s", (const char *)a.out.at);
    if (a.out.n > 0 && a.out.n < sizeof text && text[a.out.n - 1] == '\n')
        text[a.out.n - 1] = 0;
    if (want == NULL ? a.exit == 0 : a.exit != 0 || strcmp(text, want) != 0)
        fail_msg("%s: %s is \"%s\", not \"%s\"", model, key, text, want == NULL ? "absent" : want);
    test_answer_free(&a);
}

/* The report of a run of apr-convert that ended with 0; more: words up to NULL. */
static inline json_t *reported(const char *in, const char *out, const char *const *more)
{
    const char *w[8] = { NULL };
    for (size_t i = 0; more[i] != NULL; i++)
        w[i] = more[i];
    return report_of(test_tool(APR_CONVERT, "--json", in, test_path(out), w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], NULL), 0);
}
#define REPORTED(in, out, ...) reported(in, out, (const char *const[]){ __VA_ARGS__, NULL })

/* What a report says of a tensor, by its name in the target. */
static inline const json_t *row_of(const json_t *report, const char *name)
{
    for (size_t i = 0; i < json_array_size(at(report, "tensors")); i++)
        if (strcmp(json_string_value(at(json_array_get(at(report, "tensors"), i), "name_to")), name) == 0)
            return json_array_get(at(report, "tensors"), i);
    fail_msg("no tensor \"%s\" in the report", name);
    return NULL;
}

/* How many tensors were written in a dtype. */
static inline void expect_count(const json_t *report, const char *dtype, size_t want)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(at(report, "tensors")); i++)
        n += strcmp(text_of(json_array_get(at(report, "tensors"), i), "dtype_to"), dtype) == 0;
    if (n != want)
        fail_msg("%zu tensors of %s, not %zu", n, dtype, want);
}

/* A run, of up to five words, that is killed at its n-th write, half of which is written; false when it has not so many. */
static inline bool killed_at(unsigned n, const char *const *word)
{
    char number[16], shim[1200], here[1024], program[300];
    const char *const mark = test_path("killed");
    int status;
    assert_non_null(getcwd(here, sizeof here));
    unlink(mark);
    snprintf(number, sizeof number, "%u", n);
    snprintf(shim, sizeof shim, "%s/%s/faults_shim.so", here, APR_BUILD);
    snprintf(program, sizeof program, "%s/apr-convert", APR_BUILD);
    const pid_t pid = fork();
    if (pid == 0) {
        setenv("APR_FAULT", "writes", 1);
        setenv("APR_FAULT_HOW", "killed", 1);
        setenv("APR_FAULT_AT", number, 1);
        setenv("APR_FAULT_MARK", mark, 1);
        setenv("LD_PRELOAD", shim, 1);
        dup2(open("/dev/null", O_RDWR), 1);
        alarm(60);
        execl(program, program, "--threads=1", word[0], word[1], word[2], word[3], word[3] == NULL ? NULL : word[4], NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return access(mark, F_OK) == 0;
}

static inline bool has_shim(void) { return strcmp(APR_BUILD, "build/release") == 0; }

#endif
