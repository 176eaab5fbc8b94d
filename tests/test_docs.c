/* The console blocks of README.md and docs/ are run as written: "$ " begins a command, what follows is what it says on stdout and
 * stderr, and "..." alone on a line stands for any lines. */
#include "remote_server.h"

#include <glob.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "flow/plan.h"
#include "model/format.h"

/* The next line of *text, without its end; NULL after the last. */
static char *take_line(char **text)
{
    char *const line = *text;
    if (line == NULL || *line == 0)
        return NULL;
    char *const end = strchr(line, '\n');
    if (end != NULL)
        *end = 0;
    *text = end != NULL ? end + 1 : NULL;
    return line;
}

struct lines {
    char  *line[2000];
    size_t n;
};

static void add_line(struct lines *l, char *line)
{
    assert_true(l->n < APR_LENGTH(l->line));
    l->line[l->n++] = line;
}

/* want[0..nwant) against got[0..ngot). */
static bool matches(char **want, size_t nwant, char **got, size_t ngot)
{
    if (nwant == 0)
        return ngot == 0;
    if (strcmp(want[0], "...") != 0)
        return ngot != 0 && strcmp(want[0], got[0]) == 0 && matches(want + 1, nwant - 1, got + 1, ngot - 1);
    for (size_t skipped = 0; skipped <= ngot; skipped++)
        if (matches(want + 1, nwant - 1, got + skipped, ngot - skipped))
            return true;
    return false;
}

static struct test_bytes run_line(const char *command)
{
    struct test_bytes said = { 0 }, line = { 0 };
    test_text(&line, "exec 2>&1 </dev/null; ");
    test_text(&line, command);
    FILE *const f = popen((const char *)line.at, "r");
    assert_non_null(f);
    char part[4096];
    size_t n;
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        test_put(&said, part, n);
    test_put(&said, "", 0);
    pclose(f);
    test_free(&line);
    return said;
}

static bool command_says(const char *page, const char *command, const struct lines *want)
{
    struct test_bytes said = run_line(command);
    char *rest = strdup((const char *)said.at), *const copy = rest, *line;
    static struct lines got;
    got.n = 0;
    while ((line = take_line(&rest)) != NULL)
        add_line(&got, line);
    const bool good = matches((char **)(uintptr_t)want->line, want->n, got.line, got.n);
    if (!good)
        print_error("%s: $ %s\nsays:\n%s", page, command, (const char *)said.at);
    free(copy);
    test_free(&said);
    return good;
}

static unsigned failed_commands(const char *page)
{
    struct test_bytes text = test_load(page);
    static struct lines want;
    char *rest = (char *)text.at, *line;
    const char *command = NULL;
    bool inside = false;
    unsigned failed = 0;
    while ((line = take_line(&rest)) != NULL) {
        const bool fence = strncmp(line, "```", 3) == 0, next = inside && strncmp(line, "$ ", 2) == 0;
        if (command != NULL && (fence || next)) {
            failed += !command_says(page, command, &want);
            command = NULL;
        }
        if (fence) {
            inside = strcmp(line, "```console") == 0;
        } else if (next) {
            command = line + 2;
            want.n = 0;
        } else if (command != NULL) {
            add_line(&want, line);
        }
    }
    test_free(&text);
    return failed;
}

/* The hub of docs/remote.md. */
static void open_hub(void)
{
    struct test_server *const hub = test_server(NULL);
    test_server_folder(hub, "/apr/qwen2/resolve/main/", "fixtures/qwen2/");
    struct test_bytes b = test_load("fixtures/qwen2-q8_0.gguf");
    test_server_file(hub, "/apr/ggufs/resolve/v1/qwen2-q8_0.gguf", b.at, b.n);
    test_free(&b);
    setenv("HF_ENDPOINT", test_server_root(hub), 1);
    setenv("XDG_CACHE_HOME", test_path("cache"), 1);
    unsetenv("HF_TOKEN");
    unsetenv("http_proxy");
}

static void the_pages_say_what_the_tools_say(void **state)
{
    (void)state;
    glob_t pages;
    assert_int_equal(glob("README.md", 0, NULL, &pages), 0);
    glob("docs/*.md", GLOB_APPEND, NULL, &pages);
    unsigned failed = 0;
    open_hub();
    assert_int_equal(setenv("d", test_folder(), 1), 0); /* what d=$(mktemp -d), a line of its own, would leave behind */
    for (size_t i = 0; i < pages.gl_pathc; i++)
        failed += failed_commands(pages.gl_pathv[i]);
    globfree(&pages);
    assert_int_equal(failed, 0);
}

/* ---- docs/apr-convert.md --------------------------------------------------------------------------------------------- */

static const struct apr_format *format_called(const char *name)
{
    size_t i = 0;
    while (apr_formats[i] != NULL && strcmp(apr_formats[i]->name, name) != 0)
        i++;
    assert_non_null(apr_formats[i]);
    return apr_formats[i];
}

/* "yes", or the option that is named when a matrix of that dtype is refused. */
static void say_whether_it_holds(const struct apr_format *f, const struct apr_dtype *d, char cell[64])
{
    const struct apr_planned t = { .name = apr_text("w"), .dtype = d, .ndim = 2, .dim = { 2, 256 }, .count = 512, .row = 512 };
    const char *why;
    snprintf(cell, 64, "yes");
    if (f->rule->holds(&t, &why))
        return;
    const char *const option = strstr(why, "--");
    if (option == NULL)
        fail_msg("%s, %s: no option in: %s", f->name, d->name, why);
    snprintf(cell, 64, "`%.*s`", (int)strcspn(option, " "), option);
}

static void every_dtype_has_its_row_and_the_formats_do_as_it_says(void **state)
{
    (void)state;
    static const char *const formats[] = { "apr", "safetensors", "gguf" };
    struct test_bytes page = test_load("docs/apr-convert.md");
    for (size_t i = 0; i < APR_NDTYPES; i++) {
        char row[256], cell[64];
        if (apr_dtypes[i].packed)
            continue;
        size_t n = (size_t)snprintf(row, sizeof row, "\n| %s |", apr_dtypes[i].name);
        for (size_t k = 0; k < APR_LENGTH(formats); k++) {
            say_whether_it_holds(format_called(formats[k]), &apr_dtypes[i], cell);
            n += (size_t)snprintf(row + n, sizeof row - n, " %s |", cell);
        }
        if (!test_says(&page, row))
            fail_msg("docs/apr-convert.md has no row %s", row + 1);
    }
    test_free(&page);
}

/* The pages call the programs by their bare names, and make as a reader would, not as a child of `make check`. */
static int prepare(void **state)
{
    (void)state;
    char here[1024], path[4096];
    if (getcwd(here, sizeof here) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/%s:%s", here, APR_BUILD, getenv("PATH"));
    setenv("PATH", path, 1);
    setenv("MODE", strrchr(APR_BUILD, '/') + 1, 1);
    unsetenv("MAKEFLAGS");
    unsetenv("MAKELEVEL");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pages_say_what_the_tools_say),
        cmocka_unit_test(every_dtype_has_its_row_and_the_formats_do_as_it_says),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
