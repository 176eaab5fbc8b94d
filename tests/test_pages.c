/* The pages of apr-diff and apr-inspect: what they hold, that they load nothing, and what a browser makes of them. */
#include "diff.h"

#include <dirent.h>
#include <sys/wait.h>

#define QWEN2 "fixtures/qwen2"
#define Q4_0  "fixtures/qwen2-q4_0.gguf"

static const char  evil_tensor[] = "</script><script>alert(1)</script>.7.<!--";
static const float ones[4] = { 1, 1, 1, 1 }, others[4] = { 1, 1, 1.5f, 1 };

/* ---- making and reading pages --------------------------------------------------------------------------------------- */

static const char *evil_model(const char *file, const float *values)
{
    const struct test_tensor t[] = {
        { evil_tensor, "F32", "[4]", values, 16 },
        { "<img src=x onerror=alert(2)>.w", "F32", "[4]", values, 16 },
        { "\\u001b[2J&amp;\\\"'\xE2\x80\xAE.3.w", "F32", "[4]", ones, 16 },
        { "\xC3\xA9.3.w", "F32", "[4]", ones, 16 },
    };
    return test_safetensors(file, t, APR_LENGTH(t));
}

enum kind { DIFF, DIFF_EVIL, INSPECT, INSPECT_EVIL, NKINDS };
static const char *const kind_words[] = { "apr-diff", "apr-diff of hostile names", "apr-inspect", "apr-inspect of hostile names" };

/* Makes the page and returns it; its path is in *path, if that is not NULL. */
static struct test_bytes page_of(enum kind kind, const char *threads, const char **path)
{
    char name[64];
    snprintf(name, sizeof name, "%s.html", kind_words[kind]);
    const char *const page = test_path(name), *const a = evil_model("evil-a", ones), *const b = evil_model("evil-b", others);
    const bool evil = kind == DIFF_EVIL || kind == INSPECT_EVIL;
    if (kind == DIFF || kind == DIFF_EVIL)
        expect_exit(test_tool("apr-diff", evil ? a : QWEN2, evil ? b : Q4_0, "--html", page, "--threads", threads, NULL), 1, NULL);
    else
        expect_exit(test_tool("apr-inspect", evil ? b : Q4_0, "--html", page, "--threads", threads, NULL), 0, NULL);
    if (path != NULL)
        *path = page;
    return test_load(page);
}

/* The data of a page. The caller gives it back with json_decref. */
static json_t *data_of(const struct test_bytes *page)
{
    static const char open[] = "<script type=\"application/json\" id=\"data\">\n";
    const char *const begin = strstr((const char *)page->at, open), *const end = begin == NULL ? NULL : strstr(begin, "</script>");
    json_error_t e;
    if (end == NULL)
        fail_msg("no data in the page");
    json_t *const data = json_loadb(begin + strlen(open), (size_t)(end - begin) - strlen(open), 0, &e);
    if (data == NULL)
        fail_msg("the data is no JSON: %s", e.text);
    return data;
}

static size_t occurrences(const char *text, const char *of)
{
    size_t n = 0;
    for (const char *at = strstr(text, of); at != NULL; at = strstr(at + 1, of))
        n++;
    return n;
}

/* ---- what a page holds ---------------------------------------------------------------------------------------------- */

static void the_page_of_a_comparison_holds_the_report_that_json_prints(void **state)
{
    (void)state;
    struct test_bytes page = page_of(DIFF, "1", NULL);
    json_t *const data = data_of(&page), *const report = report_of(test_tool("apr-diff", "--json", QWEN2, Q4_0, NULL), 1);
    const json_t *row;
    size_t i;
    assert_true(json_equal(data, report));
    assert_true(test_says(&page, "<span class=\"badge bad\">Fail</span>"));
    json_array_foreach(json_object_get(report, "results"), i, row) {
        char cell[600];
        snprintf(cell, sizeof cell, "<td class=\"name\">%s<", text_of(row, "name"));
        if (!test_says(&page, cell))
            fail_msg("no row of %s in the page", text_of(row, "name"));
    }
    json_decref(data);
    json_decref(report);
    test_free(&page);
}

static void the_page_of_a_model_holds_the_statistics_that_json_prints(void **state)
{
    (void)state;
    struct test_bytes page = page_of(INSPECT, "1", NULL);
    json_t *const data = data_of(&page);
    json_t *const report = report_of(test_tool("apr-inspect", "--json", "--stats", "--check=fast", Q4_0, NULL), 0);
    const json_t *member;
    const char *key;
    json_object_foreach(report, key, member)
        if (!json_equal(member, json_object_get(data, key)))
            fail_msg("%s of the page is not that of --json", key);
    json_object_foreach(data, key, member)
        assert_non_null(json_object_get(report, key));
    json_decref(data);
    json_decref(report);
    test_free(&page);
}

static void pages_load_nothing_from_elsewhere(void **state)
{
    (void)state;
    static const char *const loads[] = { "src=", "href=", "url(", "@import", "import(", "fetch(", "XMLHttpRequest", "https:" };
    for (enum kind kind = 0; kind < NKINDS; kind++) {
        struct test_bytes page = page_of(kind, "1", NULL);
        const char *const text = (const char *)page.at, *const script = strstr(text, "<script>");
        assert_non_null(strstr(text, "content=\"default-src 'none';"));
        assert_non_null(script);
        for (size_t i = 0; i < APR_LENGTH(loads); i++)
            if (kind != DIFF_EVIL && kind != INSPECT_EVIL && strstr(text, loads[i]) != NULL)
                fail_msg("%s: %s", kind_words[kind], loads[i]);
        assert_int_equal(occurrences(text, "http:"), occurrences(text, "http://www.w3.org/2000/svg"));
        test_free(&page);
    }
}

static void hostile_names_stay_text(void **state)
{
    (void)state;
    static const char *const never[] = { "\x1b", "\xE2\x80\xAE", "<img", "<!--", "<script>alert" };
    for (enum kind kind = DIFF_EVIL; kind < NKINDS; kind += INSPECT_EVIL - DIFF_EVIL) {
        struct test_bytes page = page_of(kind, "1", NULL);
        json_t *const data = data_of(&page);
        const char *const text = (const char *)page.at, *const body = strstr(text, "<body>");
        assert_non_null(body);
        for (size_t i = 0; i < APR_LENGTH(never); i++)
            if (strstr(i == 1 ? body : text, never[i]) != NULL)
                fail_msg("%s: %s", kind_words[kind], never[i]);
        assert_int_equal(occurrences(text, "<script"), 2);
        assert_int_equal(occurrences(text, "</script"), 2);
        assert_true(test_says(&page, "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;.7.&lt;!--"));
        assert_true(test_says(&page, "\\x1b[2J&amp;amp;&quot;&#39;\\xe2\\x80\\xae.3.w"));
        assert_true(test_says(&page, "\xC3\xA9.3.w"));
        json_decref(data);
        test_free(&page);
    }
}

static void threads_change_no_byte_of_a_page(void **state)
{
    (void)state;
    for (enum kind kind = 0; kind < NKINDS; kind++) {
        struct test_bytes one = page_of(kind, "1", NULL), many = page_of(kind, "5", NULL);
        assert_int_equal(one.n, many.n);
        assert_memory_equal(one.at, many.at, one.n);
        test_free(&one);
        test_free(&many);
    }
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

static bool any_part_is_left(void)
{
    DIR *const folder = opendir(test_folder());
    bool found = false;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        found |= strstr(entry->d_name, ".part") != NULL;
    closedir(folder);
    return found;
}

static void a_page_that_cannot_be_written_is_exit_2(void **state)
{
    (void)state;
    const char *const nowhere = test_path("no/such/folder/page.html"), *const folder = test_folder();
    const char *const pages[] = { nowhere, folder, "/dev/full" };
    for (size_t i = 0; i < APR_LENGTH(pages); i++) {
        expect_exit(test_tool("apr-diff", QWEN2, QWEN2, "--html", pages[i], NULL), 2, pages[i]);
        expect_exit(test_tool("apr-inspect", Q4_0, "--html", pages[i], NULL), 2, pages[i]);
        struct test_answer a = test_tool("apr-diff", "--json", QWEN2, QWEN2, "--html", pages[i], NULL);
        json_t *const report = report_of(a, 2);
        expect_text(pages[i], report, "error.code", "io");
        json_decref(report);
    }
    expect_exit(test_tool("apr-diff", QWEN2, QWEN2, "--structure", "--html", "x", NULL), 2, "--structure does not go with --html");
    expect_exit(test_tool("apr-diff", "fixtures/trace", "fixtures/trace", "--html", "x", NULL), 2, "traces");
    assert_false(any_part_is_left());
}

static void a_page_takes_the_place_of_an_older_one_or_leaves_it(void **state)
{
    (void)state;
    const char *const page = test_file("page.html", "old", 3), *const trouble = test_file("not-a-model", "?", 1);
    expect_exit(test_tool("apr-inspect", trouble, "--html", page, NULL), 2, NULL);
    struct test_bytes text = test_load(page);
    assert_string_equal((const char *)text.at, "old");
    test_free(&text);
    expect_exit(test_tool("apr-diff", QWEN2, QWEN2, "--html", page, NULL), 0, NULL);
    text = test_load(page);
    assert_true(test_says(&text, "<span class=\"badge good\">Pass</span>"));
    assert_true(test_says(&text, "</html>"));
    test_free(&text);
    assert_false(any_part_is_left());
}

static void merged_shares_give_the_page_of_one_run(void **state)
{
    (void)state;
    const char *const whole = test_path("whole.html"), *const merged = test_path("merged.html");
    struct test_answer part[2] = { test_tool("apr-diff", "--json", "--partition=1/2", QWEN2, Q4_0, NULL),
                                   test_tool("apr-diff", "--json", "--partition=2/2", QWEN2, Q4_0, NULL) };
    const char *const one = test_file("1", part[0].out.at, part[0].out.n), *const two = test_file("2", part[1].out.at, part[1].out.n);
    expect_exit(test_tool("apr-diff", QWEN2, Q4_0, "--html", whole, NULL), 1, NULL);
    expect_exit(test_tool("apr-diff", "--merge", one, two, "--html", merged, NULL), 1, NULL);
    struct test_bytes a = test_load(whole), b = test_load(merged);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.at, b.at, a.n);
    test_free(&a);
    test_free(&b);
    test_answer_free(&part[0]);
    test_answer_free(&part[1]);
}

/* ---- in a browser --------------------------------------------------------------------------------------------------- */

/* The document as a browser leaves it after its scripts ran; empty when there is no browser. */
static struct test_bytes loaded(const char *path)
{
    struct test_bytes line = { 0 }, dom = { 0 };
    test_text(&line, "b=$(command -v chromium || command -v chromium-browser || command -v google-chrome) && timeout 50 $b --headless "
                     "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
                     "--disable-sync --window-size=1280,900 --virtual-time-budget=2000 --user-data-dir='");
    test_text(&line, test_path("browser"));
    test_text(&line, "' --dump-dom 'file://");
    test_text(&line, path);
    test_text(&line, "' 2>/dev/null");
    FILE *const f = popen((const char *)line.at, "r");
    char part[4096];
    size_t n;
    assert_non_null(f);
    test_put(&dom, "", 0);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        test_put(&dom, part, n);
    pclose(f);
    test_free(&line);
    return dom;
}

static void a_browser_draws_a_cell_for_every_tensor(void **state)
{
    (void)state;
    static const size_t cells[NKINDS] = { [DIFF] = 27, [DIFF_EVIL] = 4, [INSPECT] = 27, [INSPECT_EVIL] = 4 };
    for (enum kind kind = 0; kind < NKINDS; kind++) {
        const char *path;
        struct test_bytes page = page_of(kind, "1", &path), dom = loaded(path);
        json_t *const data = data_of(&page), *const rows = json_object_get(data, kind < INSPECT ? "results" : "tensors");
        if (dom.n == 0) {
            print_message("no chromium here: nothing was drawn\n");
            skip();
        }
        const char *const text = (const char *)dom.at;
        if (occurrences(text, "class=\"cell ") != cells[kind] || json_array_size(rows) != cells[kind])
            fail_msg("%s: %zu cells of %zu tensors", kind_words[kind], occurrences(text, "class=\"cell "), json_array_size(rows));
        for (size_t i = 0; i < json_array_size(rows) && (kind == DIFF || kind == INSPECT); i++) {
            char label[600];
            const json_t *const row = json_array_get(rows, i);
            snprintf(label, sizeof label, "aria-label=\"%s: %s ", text_of(row, "name"), kind == DIFF ? "1 \xE2\x88\x92 cosine" : "rms");
            if (strstr(text, label) == NULL)
                fail_msg("%s: no cell of %s", kind_words[kind], label);
        }
        if (occurrences(text, "class=\"bar\"") == 0 && occurrences(text, "class=\"tile ") == 0)
            fail_msg("%s: neither bars nor tiles", kind_words[kind]);
        assert_int_equal(occurrences(text, "<img"), 0);
        json_decref(data);
        test_free(&page);
        test_free(&dom);
    }
}

/* Forty layers, of which number 30 is another in B; and many tensors that only A has. */
static const char *layers_file(const char *name, float of_30, bool more)
{
    static char names[100][64];
    static float values[2][4] = { { 1, 2, 3, 4 } };
    struct test_tensor t[100];
    size_t n = 0;
    values[1][0] = of_30;
    for (; n < (more ? 88 : 40); n++) {
        snprintf(names[n], sizeof names[n], n < 40 ? "layers.%zu.weight" : "tower%zu", n);
        t[n] = (struct test_tensor){ names[n], "F32", "[2,2]", values[n == 30], sizeof values[0] };
    }
    return test_safetensors(name, t, n);
}

static void what_fails_is_named_and_what_one_side_has_waits(void **state)
{
    (void)state;
    const char *const path = test_path("worst.html");
    expect_exit(test_tool("apr-diff", layers_file("many", 5, true), layers_file("few", -5, false), "--html", path, NULL), 1, NULL);
    struct test_bytes dom = loaded(path);
    if (dom.n == 0)
        skip();
    assert_true(test_says(&dom, "the framed cell: <button type=\"button\" class=\"name\">layers.30.weight</button>"));
    assert_true(test_says(&dom, "show the 48 rows that only one model has"));
    assert_int_equal(occurrences((const char *)dom.at, "class=\"cell "), 40);
    test_free(&dom);
}

static void the_badge_says_what_a_check_says(void **state)
{
    (void)state;
    static const float zeros[16] = { 0 };
    const char *const model = test_one("zero.safetensors", "F32", "[4,4]", zeros, sizeof zeros), *const path = test_path("zero.html");
    expect_exit(test_tool("apr-inspect", model, "--check", NULL), 1, NULL);
    expect_exit(test_tool("apr-inspect", model, "--html", path, NULL), 0, NULL);
    struct test_bytes page = test_load(path);
    test_put(&page, "", 1);
    assert_true(test_says(&page, "<span class=\"badge bad\">1 error</span>"));
    assert_true(test_says(&page, "values.zero"));
    test_free(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_of_a_comparison_holds_the_report_that_json_prints),
        cmocka_unit_test(the_page_of_a_model_holds_the_statistics_that_json_prints),
        cmocka_unit_test(pages_load_nothing_from_elsewhere),
        cmocka_unit_test(hostile_names_stay_text),
        cmocka_unit_test(threads_change_no_byte_of_a_page),
        cmocka_unit_test(a_page_that_cannot_be_written_is_exit_2),
        cmocka_unit_test(a_page_takes_the_place_of_an_older_one_or_leaves_it),
        cmocka_unit_test(merged_shares_give_the_page_of_one_run),
        cmocka_unit_test(a_browser_draws_a_cell_for_every_tensor),
        cmocka_unit_test(what_fails_is_named_and_what_one_side_has_waits),
        cmocka_unit_test(the_badge_says_what_a_check_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
