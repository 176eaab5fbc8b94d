#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model/open.h"
#include "values/kernels.h"

/* ---- bytes --------------------------------------------------------------------------------------------------------- */

/* There is always a NUL behind the last byte, so that text can be searched. */
static void *grow(struct test_bytes *b, size_t n)
{
    if (b->room - b->n <= n) {
        b->room = 2 * b->room + n + 64;
        b->at = realloc(b->at, b->room);
        if (b->at == NULL)
            abort();
    }
    unsigned char *const fresh = b->at + b->n;
    b->n += n;
    b->at[b->n] = 0;
    return fresh;
}

size_t test_put(struct test_bytes *b, const void *bytes, size_t n)
{
    void *const fresh = grow(b, n);
    if (n != 0)
        memcpy(fresh, bytes, n);
    return b->n - n;
}

size_t test_text(struct test_bytes *b, const char *text)
{
    return test_put(b, text, strlen(text));
}

size_t test_integer(struct test_bytes *b, uint64_t v, unsigned width)
{
    unsigned char byte[8];
    for (unsigned i = 0; i < width; i++)
        byte[b->big ? width - 1 - i : i] = (unsigned char)(v >> 8 * i);
    return test_put(b, byte, width);
}

size_t test_zeros(struct test_bytes *b, size_t n)
{
    memset(grow(b, n), 0, n);
    return b->n - n;
}

size_t test_align(struct test_bytes *b, size_t to)
{
    return test_zeros(b, (to - b->n % to) % to);
}

size_t test_floats(struct test_bytes *b, const float *v, size_t n)
{
    const size_t begin = b->n;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, 4);
        test_integer(b, bits, 4);
    }
    return begin;
}

void test_free(struct test_bytes *b)
{
    free(b->at);
    *b = (struct test_bytes){ 0 };
}

bool test_says(const struct test_bytes *b, const char *text)
{
    return memmem(b->at, b->n, text, strlen(text)) != NULL;
}

uint64_t test_random(uint64_t n)
{
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 16) % n;
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

static char folder[256];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_folder(void)
{
    if (folder[0] == 0) {
        const char *const top = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/apr-test-XXXXXX", top != NULL ? top : "/tmp");
        if (mkdtemp(folder) == NULL)
            abort();
        atexit(remove_folder);
    }
    return folder;
}

const char *test_path(const char *name)
{
    struct path { struct path *next; char text[]; };
    static struct path *all;
    const size_t room = strlen(test_folder()) + strlen(name) + 2;
    struct path *const p = malloc(sizeof *p + room);
    if (p == NULL)
        abort();
    snprintf(p->text, room, "%s/%s", folder, name);
    p->next = all;
    all = p;
    return p->text;
}

static void make_parents(const char *path)
{
    char part[4096];
    for (const char *slash = strchr(path + strlen(folder) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            fail_msg("mkdir %s: %s", part, strerror(errno));
    }
}

const char *test_file(const char *name, const void *bytes, size_t n)
{
    const char *const path = test_path(name);
    make_parents(path);
    FILE *const f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        fail_msg("writing %s: %s", path, strerror(errno));
    return path;
}

const char *test_edited(const char *name, const char *text, const char *after, const char *find, const char *replace)
{
    struct test_bytes edited = { 0 };
    const char *const from = strstr(text, after), *const at = from == NULL ? NULL : strstr(from, find);
    if (at == NULL)
        fail_msg("%s is not behind %s", find, after);
    test_put(&edited, text, (size_t)(at - text));
    test_text(&edited, replace);
    test_text(&edited, at + strlen(find));
    const char *const path = test_file(name, edited.at, edited.n);
    test_free(&edited);
    return path;
}

static struct test_bytes load(FILE *f)
{
    struct test_bytes b = { 0 };
    unsigned char part[16384];
    size_t n;
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        test_put(&b, part, n);
    test_put(&b, "", 0);
    fclose(f);
    return b;
}

struct test_bytes test_load(const char *path)
{
    FILE *const f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    return load(f);
}

/* ---- models -------------------------------------------------------------------------------------------------------- */

const struct apr_run *test_run_with(unsigned threads)
{
    static struct apr_run run[65];
    assert_in_range(threads, 1, 64);
    run[threads] = (struct apr_run){ .threads = threads, .kernels = apr_kernels_for(APR_SCALAR), .tmpdir = test_folder() };
    return &run[threads];
}

static const char *code_word(enum apr_code code)
{
    return code == APR_OK ? "ok" : apr_code_word(code);
}

struct apr_model *test_opened(const char *path)
{
    struct apr_model *m;
    struct apr_error e;
    if (apr_open(&m, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
    return m;
}

struct apr_model *test_open(const char *what, const char *name, const struct test_bytes *b, enum apr_code code, uint64_t at,
                            const char *words)
{
    struct apr_model *m = NULL;
    struct apr_error e = { .at = APR_NOWHERE };
    const enum apr_code got = apr_open(&m, test_file(name, b->at, b->n), test_run_with(1), &e);
    if (got != code)
        fail_msg("%s: code %s, not %s: %s", what, code_word(got), code_word(code), e.text);
    if (got == APR_OK)
        return m;
    if (m != NULL)
        fail_msg("%s: a model in spite of the failure", what);
    if (e.code != code)
        fail_msg("%s: returned %s, but the error says %s", what, apr_code_word(code), apr_code_word(e.code));
    if (at != APR_NOWHERE && e.at != at)
        fail_msg("%s: at %" PRIu64 ", not %" PRIu64 ": %s", what, e.at, at, e.text);
    if (words != NULL && strstr(e.text, words) == NULL)
        fail_msg("%s: \"%s\" is not in: %s", what, words, e.text);
    return NULL;
}

/* ---- tools --------------------------------------------------------------------------------------------------------- */

#define MOST_ARGUMENTS 30
#define MOST_SECONDS   60

static void child(const char *program, char **argv, int in, int out, int err)
{
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        _exit(126);
    signal(SIGPIPE, SIG_DFL);
    setenv("ASAN_OPTIONS", "exitcode=99", 1); /* or a finding would pass for "they differ" */
    setenv("TSAN_OPTIONS", "exitcode=99", 1);
    alarm(MOST_SECONDS); /* it survives execv */
    execv(program, argv);
    _exit(127);
}

/* A pipe, not a file: that is what a tool must cope with. A tool may end without having read it all. */
static void feed(int fd, const struct test_bytes *b)
{
    void (*const before)(int) = signal(SIGPIPE, SIG_IGN);
    for (size_t at = 0; at < b->n;) {
        const ssize_t n = write(fd, b->at + at, b->n - at);
        if (n < 0)
            break;
        at += (size_t)n;
    }
    signal(SIGPIPE, before);
}

static struct test_answer run_tool(const struct test_bytes *in, const char *tool, va_list more)
{
    char program[4096];
    snprintf(program, sizeof program, "%s/%s", APR_BUILD, tool);
    char *argv[MOST_ARGUMENTS + 2] = { (char *)(uintptr_t)tool };
    for (size_t n = 1; (argv[n] = va_arg(more, char *)) != NULL; n++)
        assert_true(n <= MOST_ARGUMENTS);

    FILE *const out = tmpfile(), *const err = tmpfile();
    int ends[2];
    if (out == NULL || err == NULL || pipe2(ends, O_CLOEXEC) != 0)
        fail_msg("no files for the answer of %s", tool);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0)
        child(program, argv, ends[0], fileno(out), fileno(err));
    close(ends[0]);
    if (in != NULL)
        feed(ends[1], in);
    close(ends[1]);

    int status = 0;
    struct rusage use;
    if (pid < 0 || wait4(pid, &status, 0, &use) != pid)
        fail_msg("%s did not start", tool);
    rewind(out);
    rewind(err);
    const struct test_answer a = {
        .exit = WEXITSTATUS(status), .peak = 1024 * (uint64_t)use.ru_maxrss, .out = load(out), .err = load(err),
    };
    const int killed = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (killed != 0)
        fail_msg("%s: %s (signal %d): %s", tool, killed == SIGALRM ? "too slow" : "crashed", killed, (const char *)a.err.at);
    if (a.exit > 2)
        fail_msg("%s: exit %d%s: %s", program, a.exit, a.exit == 127 ? ", it could not be run" : "", (const char *)a.err.at);
    return a;
}

struct test_answer test_tool(const char *tool, ...)
{
    va_list more;
    va_start(more, tool);
    const struct test_answer a = run_tool(NULL, tool, more);
    va_end(more);
    return a;
}

struct test_answer test_tool_in(const struct test_bytes *standard_input, const char *tool, ...)
{
    va_list more;
    va_start(more, tool);
    const struct test_answer a = run_tool(standard_input, tool, more);
    va_end(more);
    return a;
}

void test_answer_free(struct test_answer *a)
{
    test_free(&a->out);
    test_free(&a->err);
}
