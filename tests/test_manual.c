/* What comes beside the programs: man pages, completions and --help say the same, and what they show works. */
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SHARE APR_BUILD "/share"

static const char *const tools[] = { "apr-convert", "apr-diff", "apr-inspect", "apr-linear", "apr-merge", "apr-prune", "apr-trace" };
static const char *const verbs[] = { "fit", "predict", "serve" }; /* of apr-linear */

/* ---- words ---------------------------------------------------------------------------------------------------------- */

struct words {
    char   text[160][64];
    size_t n;
};

static bool has(const struct words *w, const char *word, size_t n)
{
    for (size_t i = 0; i < w->n; i++)
        if (strlen(w->text[i]) == n && memcmp(w->text[i], word, n) == 0)
            return true;
    return false;
}

static void add(struct words *w, const char *word, size_t n)
{
    if (has(w, word, n))
        return;
    assert_true(w->n < APR_LENGTH(w->text) && n < sizeof w->text[0]);
    memcpy(w->text[w->n], word, n);
    w->text[w->n++][n] = 0;
}

/* Options that a line declares: "-h, --help  ...", "--html FILE". */
static void add_options(struct words *w, const char *line)
{
    while (*line == '-') {
        const size_t n = strcspn(line, " ,[\n\t");
        add(w, line, n);
        line += n + (line[n] == ',' ? 2 : 0);
    }
}

static void expect_words(const char *what, const struct words *got, const struct words *want)
{
    for (size_t i = 0; i < want->n; i++)
        if (!has(got, want->text[i], strlen(want->text[i])))
            fail_msg("%s: %s is missing", what, want->text[i]);
    for (size_t i = 0; i < got->n; i++)
        if (!has(want, got->text[i], strlen(got->text[i])))
            fail_msg("%s: there is no %s", what, got->text[i]);
}

/* ---- what each says ------------------------------------------------------------------------------------------------- */

static struct test_answer help_of(const char *tool, const char *verb)
{
    struct test_answer a = verb != NULL ? test_tool(tool, verb, "--help", NULL) : test_tool(tool, "--help", NULL);
    assert_int_equal(a.exit, 0);
    return a;
}

static void add_help(struct words *w, const char *tool, const char *verb)
{
    struct test_answer a = help_of(tool, verb);
    for (const char *at = (const char *)a.out.at; (at = strstr(at, "\n  -")) != NULL;)
        add_options(w, at += 3);
    test_answer_free(&a);
}

static void add_completion(struct words *w, const char *tool, const char *verb)
{
    struct test_answer a = verb != NULL ? test_tool(tool, "--complete", "1", verb, "-", NULL) : test_tool(tool, "--complete", "0", "-", NULL);
    assert_int_equal(a.exit, 0);
    for (const char *at = (const char *)a.out.at; *at != 0; at += strcspn(at, "\n") + 1)
        add(w, at, strcspn(at, "\t"));
    test_answer_free(&a);
}

/* A page as text, without the requests and escapes that packaging/manual.c writes. */
static struct test_bytes page_of(const char *tool)
{
    static const struct { const char *escape, *stands_for; } escapes[] = {
        { "\\fB", "" }, { "\\fI", "" }, { "\\fR", "" }, { "\\-", "-" }, { "\\e", "\\" }, { "\\&", "" }, { "\\(aq", "'" }, { "\\(ga", "`" },
        { "\\(ha", "^" }, { "\\(ti", "~" } };
    char path[256];
    snprintf(path, sizeof path, SHARE "/man/man1/%s.1", tool);
    struct test_bytes page = test_load(path), text = { 0 };
    for (const char *at = (const char *)page.at, *end = at + page.n; at < end;) {
        size_t k = 0;
        while (k < APR_LENGTH(escapes) && strncmp(at, escapes[k].escape, strlen(escapes[k].escape)) != 0)
            k++;
        if (k < APR_LENGTH(escapes))
            test_text(&text, escapes[k].stands_for);
        else
            test_put(&text, at, 1);
        at += k < APR_LENGTH(escapes) ? strlen(escapes[k].escape) : 1;
    }
    test_put(&text, "", 1);
    test_free(&page);
    return text;
}

static void add_page(struct words *w, const char *tool)
{
    struct test_bytes page = page_of(tool);
    const char *at = strstr((const char *)page.at, "\n.SH OPTIONS\n"), *const end = strstr((const char *)page.at, "\n.SH EXIT STATUS\n");
    assert_true(at != NULL && end != NULL);
    while ((at = strstr(at, "\n.TP 4\n")) != NULL && at < end)
        add_options(w, at += 7);
    test_free(&page);
}

static void help_page_and_completion_have_the_same_options(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(tools); i++) {
        struct words help = { .n = 0 }, completion = { .n = 0 }, page = { .n = 0 };
        const size_t nverb = strcmp(tools[i], "apr-linear") == 0 ? APR_LENGTH(verbs) : 0;
        for (size_t v = 0; v <= nverb; v++) {
            add_help(&help, tools[i], v > 0 ? verbs[v - 1] : NULL);
            add_completion(&completion, tools[i], v > 0 ? verbs[v - 1] : NULL);
        }
        add_page(&page, tools[i]);
        assert_true(help.n > 15);
        expect_words(tools[i], &completion, &help);
        expect_words(tools[i], &page, &help);
    }
}

/* But for those of every tool, which README.md has. */
static void every_option_stands_in_its_document(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(tools); i++) {
        char path[64], quoted[80];
        struct words all = { .n = 0 }, common = { .n = 0 };
        const bool linear = strcmp(tools[i], "apr-linear") == 0;
        snprintf(path, sizeof path, "docs/%s.md", tools[i]);
        struct test_bytes text = test_load(path), more = linear ? test_load("docs/apr-linear-serve.md") : (struct test_bytes){ 0 };
        test_put(&text, more.at, more.n);
        test_put(&text, "", 1);
        add_help(&common, "apr-linear", NULL);
        for (size_t v = 0; v <= (linear ? APR_LENGTH(verbs) : 0); v++)
            add_help(&all, tools[i], v > 0 ? verbs[v - 1] : NULL);
        for (size_t k = 0; k < all.n; k++) {
            snprintf(quoted, sizeof quoted, "`%s", all.text[k]);
            if (!has(&common, all.text[k], strlen(all.text[k])) && !test_says(&text, quoted))
                fail_msg("%s does not have %s`", path, quoted);
        }
        test_free(&text);
        test_free(&more);
    }
}

/* ---- pages ---------------------------------------------------------------------------------------------------------- */

static void pages_have_their_sections(void **state)
{
    (void)state;
    static const char *const sections[] = { "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO" };
    for (size_t i = 0; i < APR_LENGTH(tools); i++) {
        struct test_bytes page = page_of(tools[i]), version = test_load("VERSION");
        const char *at = (const char *)page.at;
        char line[64];
        for (size_t k = 0; k < APR_LENGTH(sections); k++) {
            snprintf(line, sizeof line, "\n.SH %s\n", sections[k]);
            at = strstr(at, line);
            if (at == NULL)
                fail_msg("%s: no %s, or not there", tools[i], sections[k]);
        }
        snprintf(line, sizeof line, "\"apr tools %.*s\"\n", (int)strcspn((const char *)version.at, "\n"), (const char *)version.at);
        assert_true(test_says(&page, line));
        for (size_t k = 0; k < APR_LENGTH(tools); k++) {
            snprintf(line, sizeof line, "\n%s(1)", tools[k]);
            if (k != i && !test_says(&page, line))
                fail_msg("%s: no %s", tools[i], line + 1);
        }
        test_free(&page);
        test_free(&version);
    }
}

/* The exit code of a shell's line, whose output goes to the log of this test. */
static int shell(const char *line)
{
    fflush(NULL);
    const int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void pages_and_completions_pass_those_who_judge_such_text(void **state)
{
    (void)state;
    static const struct { const char *judge, *line; } rows[] = {
        { "mandoc", "for f in " SHARE "/man/man1/*.1; do mandoc -Tlint -Wwarning $f || exit; done" },
        { "man", "for f in " SHARE "/man/man1/*.1; do test -z \"$(man --warnings -E UTF-8 -l -Tutf8 -Z $f 2>&1 >/dev/null)\" || exit; done" },
        { "man", "for f in " SHARE "/man/man1/*.1; do ! MANWIDTH=60 man -E UTF-8 -l $f | grep '\u2010$' || exit; done" }, /* --trans-pose */
        { "bash", "for f in " SHARE "/bash-completion/completions/*; do bash -n $f || exit; done" },
        { "zsh", "for f in " SHARE "/zsh/site-functions/_*; do zsh -n $f || exit; done" },
        { "fish", "for f in " SHARE "/fish/vendor_completions.d/*.fish; do fish -n $f || exit; done" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char there[64];
        snprintf(there, sizeof there, "command -v %s >/dev/null", rows[i].judge);
        if (shell(there) == 0 && shell(rows[i].line) != 0)
            fail_msg("%s does not take what there is", rows[i].judge);
    }
}

/* ---- examples ------------------------------------------------------------------------------------------------------- */

/* A folder with all that examples name. */
static const char *desk(const char *name)
{
    static const char *const copies[][2] = {
        { "qwen2-bf16.gguf", "model.gguf" }, { "qwen2-q8_0.gguf", "model-q8_0.gguf" }, { "qwen2-q4_0.gguf", "model-q4_k_m.gguf" },
        { "qwen2.apr", "b.apr" }, { "forward/qwen2.safetensors", "a.safetensors" }, { "forward/qwen2.safetensors", "model.safetensors" },
        { "iris.csv", "iris.csv" }, { "iris.csv", "flowers.csv" }, { "deep/config.json", "large/config.json" },
        { "deep/model.safetensors", "large/model.safetensors" }, { "deep/tokens.txt", "tokens.txt" } };
    static const char *const checkpoints[] = { "one", "two", "base" };
    char prices[1024] = "id,size,rooms,price\n";
    for (int i = 0; i < 20; i++)
        snprintf(prices + strlen(prices), 64, "%d,%d,%d,%d.5\n", i, 30 + 7 * i % 60, 1 + i % 4, 60 + 15 * i % 140);
    char file[256], from[256];
    for (size_t i = 0; i < APR_LENGTH(copies); i++) {
        snprintf(from, sizeof from, "fixtures/%s", copies[i][0]);
        snprintf(file, sizeof file, "%s/%s", name, copies[i][1]);
        struct test_bytes b = test_load(from);
        test_file(file, b.at, b.n);
        test_free(&b);
    }
    snprintf(file, sizeof file, "%s/prices.csv", name);
    test_file(file, prices, strlen(prices));
    static const char merge[] = "merge_method: linear\nmodels:\n- {model: one, parameters: {weight: 2}}\n- {model: two, parameters: {weight: 1}}\n";
    snprintf(file, sizeof file, "%s/merge.yml", name);
    test_file(file, merge, strlen(merge));
    for (size_t i = 0; i < APR_LENGTH(checkpoints); i++) {
        snprintf(file, sizeof file, "%s/%s", name, checkpoints[i]);
        checkpoint(file, NULL);
    }
    snprintf(file, sizeof file, "%s/chat.jinja", name);
    test_file(file, "{{ messages }}", 14);
    snprintf(file, sizeof file, "%s/model", name);
    const char *const model = spoken(file, 0, 0);
    snprintf(file, sizeof file, "%s/model.imatrix.gguf", name);
    expect_exit(test_tool("apr-trace", model, "--perplexity", "fixtures/judged.ids", "--window=16", "--imatrix", test_path(file), NULL), 0, NULL);
    return test_path(name);
}

/* An example as it is; a server gets a port that is free, and is ended; what asks one gets it. */
static int run_example(const char *folder, const char *line)
{
    char script[4096];
    static const char server[] = "2>log & p=$!; touch log; until grep -q listening log; do kill -0 $p || exit 9; sleep 0.05; done; ";
    if (strstr(line, " serve ") != NULL)
        snprintf(script, sizeof script, "%s --port 0 %s kill $p; wait $p", line, server);
    else if (strncmp(line, "curl ", 5) == 0)
        snprintf(script, sizeof script, "command -v curl >/dev/null || exit 0; apr-linear serve iris.apr --port 0 %s"
                 "port=$(sed -n 's/.*:\\([0-9]*\\)$/\\1/p' log); line=$(cat <<'END'\n%s\nEND\n); eval \"$(echo \"$line\" | sed \"s/localhost:8080/127.0.0.1:$port/\")\"; "
                 "code=$?; kill $p; exit $code", server, line);
    else
        snprintf(script, sizeof script, "%s", line);
    struct test_bytes whole = { 0 };
    test_text(&whole, "exec >>'");
    test_text(&whole, folder);
    test_text(&whole, "/said' 2>&1 </dev/null; cd '");
    test_text(&whole, folder);
    test_text(&whole, "' || exit; ");
    test_text(&whole, script);
    test_put(&whole, "", 1);
    const int exit_code = shell((const char *)whole.at);
    test_free(&whole);
    return exit_code;
}

static size_t run_examples(const char *folder, const char *tool, const char *verb)
{
    struct test_answer help = help_of(tool, verb);
    struct test_bytes page = page_of(tool);
    char *at = strstr((char *)help.out.at, "\nExamples:\n");
    size_t n = 0;
    assert_non_null(at);
    for (at = strchr(at + 1, '\n') + 1; *at != 0; n++) {
        char *const end = strchr(at, '\n');
        *end = 0;
        const int exit_code = run_example(folder, at + 2);
        if (exit_code != 0 && exit_code != 1)
            fail_msg("$ %s\nends with %d", at + 2, exit_code);
        if ((verb != NULL || strcmp(tool, "apr-linear") != 0) && !test_says(&page, at + 2))
            fail_msg("the page of %s has not: %s", tool, at + 2);
        at = end + 1;
    }
    test_free(&page);
    test_answer_free(&help);
    return n;
}

static void every_example_works(void **state)
{
    (void)state;
    char here[1024], path[4096];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(path, sizeof path, "%s/" APR_BUILD ":%s", here, getenv("PATH"));
    setenv("PATH", path, 1);
    for (size_t i = 0; i < APR_LENGTH(tools); i++) {
        const char *const folder = desk(tools[i]);
        assert_true(run_examples(folder, tools[i], NULL) >= 3);
        for (size_t v = 0; strcmp(tools[i], "apr-linear") == 0 && v < APR_LENGTH(verbs); v++) {
            if (v == 0)
                unlink(test_path("apr-linear/iris.apr"));
            assert_true(run_examples(folder, tools[i], verbs[v]) >= 2);
        }
    }
}

/* ---- completion ----------------------------------------------------------------------------------------------------- */

#define PAIR "model.layers.1.self_attn."

static void a_line_is_completed_by_what_could_stand_there(void **state)
{
    (void)state;
    static const struct { const char *tool, *words[6], *out; } rows[] = {
        { "apr-diff", { "1", "--isa", "av" }, "avx2\navx512\n" },
        { "apr-diff", { "0", "--isa=s" }, "scalar\n" },
        { "apr-diff", { "0", "--colo=" }, "auto\nalways\nnever\n" },
        { "apr-inspect", { "0", "--check=" }, "fast\n" },
        { "apr-inspect", { "0", "" }, "\tfiles safetensors gguf apr safetensors.index.json\n" },
        { "apr-inspect", { "1", "--", "--" }, "\tfiles safetensors gguf apr safetensors.index.json\n" },
        { "apr-inspect", { "1", "--html", "x" }, "\tfiles html\n" },
        { "apr-inspect", { "1", "-j", "" }, "" },
        { "apr-inspect", { "0", "--nothing=" }, "" },
        { "apr-inspect", { "9" }, "\tfiles safetensors gguf apr safetensors.index.json\n" },
        { "apr-inspect", { "-1", "a" }, "\tfiles safetensors gguf apr safetensors.index.json\n" },
        { "apr-inspect", { "2", "fixtures/qwen2", "--tensor", PAIR "q" }, PAIR "q_proj.bias\n" PAIR "q_proj.weight\n" },
        { "apr-inspect", { "1", "--tensor", PAIR "q", "fixtures/qwen2.apr" }, PAIR "q_proj.bias\n" PAIR "q_proj.weight\n" },
        { "apr-inspect", { "2", "fixtures/qwen2-q8_0.gguf", "--get", "general.arch" }, "general.architecture\n" },
        { "apr-inspect", { "2", "nothing.gguf", "--get", "general.arch" }, "" },
        { "apr-diff", { "3", "fixtures/qwen2", "fixtures/qwen2.apr", "--filter", "lm_h" }, "lm_head.weight\n" },
        { "apr-diff", { "1", "--merge", "" }, "\tfiles json\n" },
        { "apr-convert", { "1", "--to", "" }, "gguf\napr\nsafetensors\n" },
        { "apr-convert", { "1", "--quantize", "Q4_K_" }, "Q4_K_S\nQ4_K_M\n" },
        { "apr-convert", { "1", "--quantize", "apr_" }, "apr_q4\napr_q8\n" },
        { "apr-convert", { "0", "--type=bf" }, "bf16\n" },
        { "apr-merge", { "1", "--method", "dare" }, "dare_ties\ndare_linear\n" },
        { "apr-merge", { "1", "--base", "" }, "\tfiles safetensors gguf apr safetensors.index.json\n" },
        { "apr-merge", { "0", "--to=g" }, "gguf\n" },
        { "apr-prune", { "1", "--scope", "r" }, "row\nrole\n" },
        { "apr-prune", { "2", "fixtures/qwen2", "--skip", PAIR "q" }, PAIR "q_proj.bias\n" PAIR "q_proj.weight\n" },
        { "apr-trace", { "1", "--save-tensor", "lm_head,ffn_o" }, "lm_head,ffn_out\n" },
        { "apr-linear", { "0", "p" }, "predict\tanswers each row of data with a row\n" },
        { "apr-linear", { "2", "fit", "--model", "" }, "logistic\nlinear\n" },
        { "apr-linear", { "1", "serve", "" }, "\tfiles apr gguf safetensors\n" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const *w = rows[i].words;
        struct test_answer a = test_tool(rows[i].tool, "--complete", w[0], w[1], w[2], w[3], w[4], NULL);
        assert_int_equal(a.exit, 0);
        if (strcmp((const char *)a.out.at, rows[i].out) != 0 || a.err.n > 1)
            fail_msg("%s %s %s: \"%s\", not \"%s\"; %s", rows[i].tool, w[1], w[2] != NULL ? w[2] : "", (const char *)a.out.at, rows[i].out, (const char *)a.err.at);
        test_answer_free(&a);
    }
}

/* Names that a terminal would take for orders are not offered; what a shell would is, and every shell is told only to show it. */
static void hostile_names_are_offered_as_text_or_not_at_all(void **state)
{
    (void)state;
    static const float one[1] = { 1 };
    static const char *const names[] = { "a.weight", "a $(touch x)", "a\x1b[2J", "a\xC2\x9B", "a'\"`;" };
    struct test_tensor t[APR_LENGTH(names)];
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        t[i] = (struct test_tensor){ i == 2 ? "a\\u001b[2J" : i == 4 ? "a'\\\"`;" : names[i], "F32", "[1]", one, 4 };
    struct test_answer a = test_tool("apr-inspect", "--complete", "2", test_safetensors("hostile", t, APR_LENGTH(t)), "--tensor", "a", NULL);
    assert_int_equal(a.exit, 0);
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        if (test_says(&a.out, names[i]) != (i != 2 && i != 3))
            fail_msg("name %zu of: %s", i, (const char *)a.out.at);
    test_answer_free(&a);
}

/* Blanks and quotes in its name are part of it: a file called as its first word stays. */
static void uninstall_takes_what_is_ours_from_a_folder_of_any_name(void **state)
{
    (void)state;
    static const char script[] = "set -e; unset MAKEFLAGS MAKELEVEL; cd \"$0\"; d=\"$1/root it's\"; mkdir -p \"$d/u $/bin\" \"$d/u $/share/doc/apr-tools\"; "
                                 "touch \"$1/root\" \"$d/u $/bin/apr-diff\" \"$d/u $/bin/mine\"; "
                                 "make -s uninstall DESTDIR=\"$d\" PREFIX='/u $$'; "
                                 "test -e \"$1/root\" -a -e \"$d/u $/bin/mine\" -a ! -e \"$d/u $/bin/apr-diff\" -a ! -e \"$d/u $/share/doc/apr-tools\"";
    char here[4096], command[8192];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(command, sizeof command, "sh -c '%s' '%s' '%s' >%s 2>&1", "eval \"$SCRIPT\"", here, test_folder(), test_path("uninstall.log"));
    setenv("SCRIPT", script, 1);
    if (system(command) != 0)
        fail_msg("%s", (const char *)test_load(test_path("uninstall.log")).at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_page_and_completion_have_the_same_options),
        cmocka_unit_test(every_option_stands_in_its_document),
        cmocka_unit_test(pages_have_their_sections),
        cmocka_unit_test(pages_and_completions_pass_those_who_judge_such_text),
        cmocka_unit_test(every_example_works),
        cmocka_unit_test(a_line_is_completed_by_what_could_stand_there),
        cmocka_unit_test(hostile_names_are_offered_as_text_or_not_at_all),
        cmocka_unit_test(uninstall_takes_what_is_ours_from_a_folder_of_any_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
