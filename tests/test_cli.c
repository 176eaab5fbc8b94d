/* lib/ui/cli.h: a small tool, run in a child, and what it says. */
#include "support.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/source.h"
#include "ui/cli.h"
#include "values/kernels.h"

#define MOST_WORDS 8

/* The tool: it prints what it was asked. */
static int tool_main(int argc, char **argv)
{
    uint64_t limit = 0, size = 0, rows = 0;
    double floor = 0;
    const char *page = "none";
    struct apr_texts filter = { 0 };
    unsigned sort = 0;
    bool values = false, transpose = true, limited = false;
    const struct apr_option option[] = {
        { "--limit", APR_OPTION_COUNT, &limit, "N", "the first N common tensors, by name in the dialect of A; default: all of them",
          .given = &limited, .instead = "--cap --ceiling" },
        { "--values", APR_OPTION_FLAG, &values, NULL, "accepted" },
        { "--no-transpose", APR_OPTION_UNSET, &transpose, NULL, "compare in linear order only" },
        { "--size", APR_OPTION_SIZE, &size, "SIZE", "a size" },
        { "--threshold", APR_OPTION_COSINE, &floor, "F", "cosine floor" },
        { "--html", APR_OPTION_PATH, &page, "FILE", "a page" },
        { "--filter", APR_OPTION_LIST, &filter, "PATTERN", "only these" },
        { "--sort", APR_OPTION_CHOICE, &sort, "name|cosine|rmse", "order of rows" },
        { "--rows", APR_OPTION_COUNT, &rows, "K", "rows", .needs = "--limit --size", .against = "--html --json" },
    };
    struct apr_cli c = { .tool = "apr-try", .synopsis = "A B", .about = "Tries the command line.",
                         .example = { "apr-try a b", "apr-try --json a b | jq" }, .option = option, .noption = APR_LENGTH(option) };
    const int told = apr_cli_parse(&c, argc, argv);
    if (told >= 0)
        return apr_cli_finish(&c, told);
    if (limited)
        printf("limit=%" PRIu64 " ", limit);
    printf("%s%ssize=%" PRIu64 " floor=%g page=%s sort=%u%s", values ? "values " : "", transpose ? "" : "linear ", size, floor, page, sort,
           c.json ? " json" : "");
    for (size_t i = 0; i < filter.n; i++)
        printf(" filter:%s", filter.text[i]);
    for (size_t i = 0; i < c.noperand; i++)
        printf(" <%s>", c.operand[i]);
    return apr_cli_finish(&c, APR_EXIT_YES);
}

struct answer {
    int               exit, signal;
    struct test_bytes out, err;
};

static struct test_bytes rest_of(FILE *f)
{
    struct test_bytes b = { 0 };
    unsigned char part[4096];
    size_t n;
    rewind(f);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        test_put(&b, part, n);
    test_put(&b, "", 0);
    fclose(f);
    return b;
}

/* Runs a main in a child; stdout is `out`, or collected when that is -1. */
static struct answer run(int (*body)(int, char **), const char *const *words, int out)
{
    char *argv[MOST_WORDS + 2] = { (char *)(uintptr_t)"apr-try" };
    int argc = 1, status;
    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc - 1];

    FILE *const o = tmpfile(), *const e = tmpfile();
    assert_true(o && e);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        stdout = fdopen(STDOUT_FILENO, "w");    /* unused yet, as a tool finds it */
        dup2(out < 0 ? fileno(o) : out, STDOUT_FILENO);
        dup2(fileno(e), STDERR_FILENO);
        _exit(body(argc, argv));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return (struct answer){ .exit = WIFEXITED(status) ? WEXITSTATUS(status) : -1, .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
                            .out = rest_of(o), .err = rest_of(e) };
}

static void end(struct answer *a)
{
    test_free(&a->out);
    test_free(&a->err);
}

static void options_and_operands_mix(void **state)
{
    (void)state;
    static const struct { const char *words[MOST_WORDS]; const char *out; } rows[] = {
        { { NULL }, "size=0 floor=0 page=none sort=0" },
        { { "a", "b" }, "size=0 floor=0 page=none sort=0 <a> <b>" },
        { { "a", "--json", "b", "--values" }, "values size=0 floor=0 page=none sort=0 json <a> <b>" },
        { { "--limit", "3", "--size=2Ki", "-" }, "limit=3 size=2048 floor=0 page=none sort=0 <->" },
        { { "--limit=0" }, "limit=0 size=0 floor=0 page=none sort=0" },
        { { "--limit=1", "--limit=18446744073709551615" }, "limit=18446744073709551615 size=0 floor=0 page=none sort=0" },
        { { "--size", "16T", "--threshold=-1.5e-3" }, "size=16000000000000 floor=-0.0015 page=none sort=0" },
        { { "--size", "4.25G" }, "size=4250000000 floor=0 page=none sort=0" },
        { { "--size=0.5Ki" }, "size=512 floor=0 page=none sort=0" },
        { { "--size=7.999999T" }, "size=7999999000000 floor=0 page=none sort=0" },
        { { "--size=3.0" }, "size=3 floor=0 page=none sort=0" },
        { { "--size", "7k", "--sort", "rmse" }, "size=7000 floor=0 page=none sort=2" },
        { { "--html=a=b", "--no-transpose" }, "linear size=0 floor=0 page=a=b sort=0" },
        { { "--html", "--json" }, "size=0 floor=0 page=--json sort=0" },
        { { "--filter", "x", "--filter=re:y=", "a" }, "size=0 floor=0 page=none sort=0 filter:x filter:re:y= <a>" },
        { { "--", "--json", "-", "--" }, "size=0 floor=0 page=none sort=0 <--json> <-> <-->" },
        { { "--lim", "3", "--thresh=1", "--va", "--json" }, "limit=3 values size=0 floor=1 page=none sort=0 json" },
        { { "-q", "-j", "3", "a", "-j4", "-qj5" }, "size=0 floor=0 page=none sort=0 <a>" },
        { { "--rows", "2", "--size=1" }, "size=1 floor=0 page=none sort=0" },
        { { "", "--isa=scalar", "--threads", "1024", "--quiet", "--progress=never" }, "size=0 floor=0 page=none sort=0 <>" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct answer a = run(tool_main, rows[i].words, -1);
        assert_string_equal(a.err.at, "");
        assert_string_equal(a.out.at, rows[i].out);
        assert_int_equal(a.exit, APR_EXIT_YES);
        end(&a);
    }
}

static void a_wrong_word_is_named_on_stderr(void **state)
{
    (void)state;
    static const struct { const char *words[MOST_WORDS]; const char *why; } rows[] = {
        { { "--foo" }, "unknown option --foo" },
        { { "a", "--foo=bar", "--help" }, "unknown option --foo" },
        { { "--treshold=1" }, "unknown option --treshold (did you mean --threshold?)" },
        { { "--limits", "3" }, "unknown option --limits (did you mean --limit?)" },
        { { "--ceiling=2" }, "unknown option --ceiling (did you mean --limit?)" },
        { { "--s", "3" }, "option --s could be --size, --sort" },
        { { "--th", "3" }, "option --th could be --threshold, --threads" },
        { { "-j" }, "--threads wants an argument: N" },
        { { "-x" }, "unknown option -x" },
        { { "-qx" }, "unknown option -qx" },
        { { "-jq" }, "--threads wants a whole number, not \"q\"" },
        { { "--rows=2" }, "--rows has no effect without --limit or --size" },
        { { "--\033[2J" }, "unknown option --\\x1b[2J" },
        { { "--json=yes" }, "--json takes no argument" },
        { { "--no-transpose=" }, "--no-transpose takes no argument" },
        { { "--limit" }, "--limit wants an argument: N" },
        { { "--limit", "" }, "--limit wants a whole number, not \"\"" },
        { { "--limit", "-1" }, "--limit wants a whole number, not \"-1\"" },
        { { "--limit=1k" }, "--limit wants a whole number, not \"1k\"" },
        { { "--limit=18446744073709551616" }, "--limit wants a whole number, not \"18446744073709551616\"" },
        { { "--size", "1KB" }, "--size wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \"1KB\"" },
        { { "--size", "M" }, "--size wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \"M\"" },
        { { "--size", "1.5" }, "--size wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \"1.5\"" },
        { { "--size", "1.G" }, "--size wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \"1.G\"" },
        { { "--size", ".5G" }, "--size wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \".5G\"" },
        { { "--size", "1.0000001G" }, "--size wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \"1.0000001G\"" },
        { { "--size", "1.5.5k" }, "--size wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \"1.5.5k\"" },
        { { "--size", "18446744073709551615k" },
          "--size wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \"18446744073709551615k\"" },
        { { "--threshold", "nan" }, "--threshold wants a finite number, not \"nan\"" },
        { { "--threshold", "1e999" }, "--threshold wants a finite number, not \"1e999\"" },
        { { "--threshold", "0x1" }, "--threshold wants a finite number, not \"0x1\"" },
        { { "--threshold", " 1" }, "--threshold wants a finite number, not \" 1\"" },
        { { "--threshold", "1-" }, "--threshold wants a finite number, not \"1-\"" },
        { { "--threshold=" }, "--threshold wants a finite number, not \"\"" },
        { { "--threshold=1.0001" }, "--threshold wants a cosine, from -1 to 1, not \"1.0001\"" },
        { { "--threshold=-2" }, "--threshold wants a cosine, from -1 to 1, not \"-2\"" },
        { { "--html=" }, "--html wants a name for FILE, not \"\"" },
        { { "--html", "" }, "--html wants a name for FILE, not \"\"" },
        { { "--sort=cos" }, "--sort wants one of name|cosine|rmse, not \"cos\"" },
        { { "--sort=name|cosine" }, "--sort wants one of name|cosine|rmse, not \"name|cosine\"" },
        { { "--sort=" }, "--sort wants one of name|cosine|rmse, not \"\"" },
        { { "--isa=sse9" }, "--isa wants one of auto|scalar|avx2|avx512|neon, not \"sse9\"" },
        { { "--threads=0" }, "--threads wants a number from 1 to 1024" },
        { { "--threads=1025" }, "--threads wants a number from 1 to 1024" },
        { { "--color=\xFF" }, "--color wants one of auto|always|never, not \"\\xff\"" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char expected[512];
        snprintf(expected, sizeof expected, "apr-try: %s\nusage: apr-try [OPTION]... A B   (more: apr-try --help)\n", rows[i].why);
        struct answer a = run(tool_main, rows[i].words, -1);
        assert_string_equal(a.err.at, expected);
        assert_string_equal(a.out.at, "");
        assert_int_equal(a.exit, APR_EXIT_NONE);
        end(&a);
    }
}

static void with_json_a_wrong_word_is_a_report_too(void **state)
{
    (void)state;
    static const char *const words[][MOST_WORDS] = { { "--rows=2", "--limit=1", "--json" }, { "--json", "--rows=2", "--limit=1" } };
    for (size_t i = 0; i < APR_LENGTH(words); i++) {
        struct answer a = run(tool_main, words[i], -1);
        assert_string_equal(a.out.at, "{\"schema\":\"apr-try/1\",\"error\":{\"code\":\"argument\",\"at\":null,"
                                      "\"text\":\"--rows does not go with --json\"}}\n");
        assert_int_equal(a.exit, APR_EXIT_NONE);
        end(&a);
    }
}

static void a_level_this_cpu_lacks_is_refused(void **state)
{
    (void)state;
    for (enum apr_isa isa = APR_SCALAR; isa < APR_NISA; isa++) {
        struct answer a = run(tool_main, (const char *const[]){ "--isa", apr_isa_word(isa), NULL }, -1);
        assert_int_equal(a.exit, apr_isa_has(isa) ? APR_EXIT_YES : APR_EXIT_NONE);
        assert_int_equal(test_says(&a.err, ": this CPU does not have it\n"), !apr_isa_has(isa));
        end(&a);
    }
}

static void help_and_version_answer_on_stdout(void **state)
{
    (void)state;
    struct answer a = run(tool_main, (const char *const[]){ "a", "--help", "--foo", NULL }, -1);
    assert_int_equal(a.exit, APR_EXIT_YES);
    assert_string_equal(a.err.at, "");
    static const char head[] =
        "usage: apr-try [OPTION]... A B\n"
        "\n"
        "Tries the command line.\n"
        "\n"
        "Options:\n"
        "  --limit N                     the first N common tensors, by name in the dialect of A;\n"
        "                                default: all of them\n"
        "  --values                      accepted\n";
    assert_memory_equal(a.out.at, head, sizeof head - 1);
    assert_true(test_says(&a.out, "\n\nOptions of every tool:\n  --json                        the answer as one JSON object\n"));
    assert_true(test_says(&a.out, "\n  --isa auto|scalar|avx2|avx512|neon\n                                instructions to use"));
    assert_true(test_says(&a.out, "\n  -j, --threads N               1 to 1024"));
    assert_true(test_says(&a.out, "\n  -h, --help                    this page\n"));
    assert_true(test_says(&a.out, "\n\nExit status:\n  0  "));
    assert_true(test_says(&a.out, "\n\nExamples:\n  apr-try a b\n  apr-try --json a b | jq\n"));
    for (const char *line = (const char *)a.out.at; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 100);
    end(&a);

    a = run(tool_main, (const char *const[]){ "-V", NULL }, -1);
    assert_int_equal(a.exit, APR_EXIT_YES);
    struct test_bytes version = test_load("VERSION"), want = { 0 };
    test_text(&want, "apr-try ");
    test_put(&want, version.at, version.n);
    test_put(&want, "", 1);
    assert_string_equal(a.out.at, want.at);
    test_free(&version);
    test_free(&want);
    end(&a);
}

/* ---- what a run is handed ------------------------------------------------------------------------------------------- */

static int run_main(int argc, char **argv)
{
    struct apr_cli c = { .tool = "apr-try", .synopsis = "", .about = "" };
    const int told = apr_cli_parse(&c, argc, argv);
    if (told < 0)
        printf("%s %s %s%s", c.run.threads >= 1 && c.run.threads <= 1024 ? "threads" : "none", c.run.tmpdir, c.colour ? "colour" : "plain",
               c.run.progress ? " progress" : "");
    if (told < 0 && c.run.threads == 5)
        printf(" %s", apr_isa_word(c.run.kernels->isa));
    return apr_cli_finish(&c, told < 0 ? APR_EXIT_NO : told);
}

static void the_environment_is_read_once(void **state)
{
    (void)state;
    static const struct { const char *tmpdir, *words[MOST_WORDS], *out; } rows[] = {
        { NULL, { NULL }, "threads /tmp plain" },
        { "", { NULL }, "threads /tmp plain" },
        { "/var/tmp", { "--threads=5", "--isa=scalar" }, "threads /var/tmp plain scalar" },
        { NULL, { "--color=always" }, "threads /tmp colour" },
        { NULL, { "--color", "never", "--progress", "auto" }, "threads /tmp plain" },
        { NULL, { "--progress=always", "--quiet" }, "threads /tmp plain progress" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const kept = getenv("TMPDIR");
        char *const before = kept ? strdup(kept) : NULL;
        if (rows[i].tmpdir)
            setenv("TMPDIR", rows[i].tmpdir, 1);
        else
            unsetenv("TMPDIR");
        struct answer a = run(run_main, rows[i].words, -1);
        if (before)
            setenv("TMPDIR", before, 1);
        else
            unsetenv("TMPDIR");
        free(before);
        assert_string_equal(a.out.at, rows[i].out);
        assert_int_equal(a.exit, APR_EXIT_NO);
        end(&a);
    }
}

static int fail_main(int argc, char **argv)
{
    struct apr_cli c = { .tool = "apr-try", .synopsis = "", .about = "" };
    struct apr_error e;
    int code = apr_cli_parse(&c, argc, argv);
    apr_fail(&e, APR_ECORRUPT, 4120, "tensor \"x\": too short");
    apr_error_in(&e, "dir/a\n.gguf");
    code = apr_cli_fail(&c, &e);
    apr_fail(&e, APR_EARG, APR_NOWHERE, "no tensor matches");
    code |= apr_cli_fail(&c, &e);
    return apr_cli_finish(&c, code);
}

static void a_failure_is_one_line_with_its_place(void **state)
{
    (void)state;
    struct answer a = run(fail_main, (const char *const[]){ NULL }, -1);
    assert_string_equal(a.err.at, "apr-try: dir/a\\x0a.gguf: at byte 4120: tensor \"x\": too short\napr-try: no tensor matches\n");
    assert_int_equal(a.exit, APR_EXIT_NONE);
    end(&a);
}

/* ---- the end of stdout ---------------------------------------------------------------------------------------------- */

static void a_full_disk_is_told_and_a_closed_pipe_is_not(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    const int full = open("/dev/full", O_WRONLY), unwritable = open("/dev/null", O_RDONLY);
    assert_true(full >= 0 && unwritable >= 0);
    const struct { int out; const char *err; } rows[] = {
        { full, "apr-try: standard output: No space left on device\n" },
        { unwritable, "apr-try: standard output: Bad file descriptor\n" },
        { ends[1], "" },
    };
    void (*const before)(int) = signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct answer a = run(tool_main, (const char *const[]){ NULL }, rows[i].out);
        assert_string_equal(a.err.at, rows[i].err);
        assert_int_equal(a.exit, APR_EXIT_NONE);
        close(rows[i].out);
        end(&a);
    }
    signal(SIGPIPE, before);
}

static int closed_main(int argc, char **argv)
{
    struct apr_cli c = { .tool = "apr-try", .synopsis = "", .about = "" };
    close(STDOUT_FILENO);
    if (apr_cli_parse(&c, argc, argv) >= 0)
        return 9;
    const int fd = open(test_path("written"), O_RDWR | O_CREAT | O_TRUNC, 0666);
    printf("an answer");
    const int code = apr_cli_finish(&c, APR_EXIT_YES);
    return lseek(fd, 0, SEEK_END) == 0 ? code : 9;
}

static void an_answer_never_lands_in_another_file(void **state)
{
    (void)state;
    test_folder();
    struct answer a = run(closed_main, (const char *const[]){ NULL }, -1);
    assert_int_equal(a.exit, APR_EXIT_NONE);
    assert_string_equal(a.err.at, "apr-try: standard output: Bad file descriptor\n");
    end(&a);
}

/* ---- SIGBUS --------------------------------------------------------------------------------------------------------- */

static int shrinking_main(int argc, char **argv)
{
    struct apr_cli c = { .tool = "apr-try", .synopsis = "", .about = "" };
    struct apr_source *s;
    struct apr_error e;
    if (apr_cli_parse(&c, argc, argv) >= 0 || apr_source_open(&s, c.operand[0], &c.run, &e) != APR_OK)
        return 9;
    if (truncate(c.operand[0], 1) != 0)
        return 9;
    const volatile unsigned char *const end_of_map = s->map.at + s->map.n;
    const unsigned last = end_of_map[-1];
    printf("%u %d", last, s->lost != 0);
    apr_source_close(s);
    return apr_cli_finish(&c, APR_EXIT_YES);
}

static void a_file_that_shrinks_reads_as_zeros(void **state)
{
    (void)state;
    static unsigned char bytes[3 << 16];
    memset(bytes, 'x', sizeof bytes);
    struct answer a = run(shrinking_main, (const char *const[]){ test_file("shrinking", bytes, sizeof bytes), NULL }, -1);
    assert_string_equal(a.out.at, "0 1");
    assert_int_equal(a.exit, APR_EXIT_YES);
    end(&a);
}

/* A page of a file that ends before it, which is none of the sources. */
static int stray_main(int argc, char **argv)
{
    struct apr_cli c = { .tool = "apr-try", .synopsis = "", .about = "" };
    if (apr_cli_parse(&c, argc, argv) >= 0)
        return 9;
    if (!strcmp(c.operand[0], "sent"))
        raise(SIGBUS);
    const int fd = open(c.operand[0], O_RDONLY);
    const volatile unsigned char *const page = mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0);
    return *page;
}

static void any_other_bus_error_still_kills(void **state)
{
    (void)state;
    struct answer a = run(stray_main, (const char *const[]){ "sent", NULL }, -1);
    assert_int_equal(a.signal, SIGBUS);
    end(&a);
    a = run(stray_main, (const char *const[]){ test_file("empty", "", 0), NULL }, -1);
    assert_int_equal(a.signal, SIGBUS);
    end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_operands_mix),
        cmocka_unit_test(a_wrong_word_is_named_on_stderr),
        cmocka_unit_test(with_json_a_wrong_word_is_a_report_too),
        cmocka_unit_test(a_level_this_cpu_lacks_is_refused),
        cmocka_unit_test(help_and_version_answer_on_stdout),
        cmocka_unit_test(the_environment_is_read_once),
        cmocka_unit_test(a_failure_is_one_line_with_its_place),
        cmocka_unit_test(a_full_disk_is_told_and_a_closed_pipe_is_not),
        cmocka_unit_test(an_answer_never_lands_in_another_file),
        cmocka_unit_test(a_file_that_shrinks_reads_as_zeros),
        cmocka_unit_test(any_other_bus_error_still_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
