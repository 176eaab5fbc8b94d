/* lib/base/pattern.h: names as users write them, and what of that is refused. */
#include "support.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/pattern.h"
#include "base/regex.h"

static struct apr_patterns *compile(const char *text)
{
    struct apr_patterns *p = NULL;
    struct apr_error e;
    if (apr_patterns_add(&p, apr_text(text), &e) != APR_OK)
        fail_msg("%s", e.text);
    return p;
}

static size_t first(struct apr_patterns *p, struct apr_bytes name)
{
    struct apr_error e;
    size_t i;
    if (apr_patterns_first(p, name, &i, &e) != APR_OK)
        fail_msg("%s", e.text);
    return i;
}

static bool matches(const char *pattern, struct apr_bytes name)
{
    struct apr_patterns *p = compile(pattern);
    const bool yes = first(p, name) == 0;
    apr_patterns_free(p);
    return yes;
}

static void words_globs_and_expressions_match_as_promised(void **state)
{
    (void)state;
    static const struct { const char *pattern, *name; bool yes; } rows[] = {
        { "attn_q", "blk.0.attn_q.weight", true }, { "attn_q", "blk.0.attn_k.weight", false },
        { "blk.0.", "blk.0.attn_q.weight", true }, { "blk.0.", "blk.01", false },
        { "(q|k)", "a(q|k)b", true }, { "", "anything", true }, { "", "", true }, { "a", "", false },
        { "blk.*.weight", "blk.0.attn_q.weight", true }, { "blk.*.weight", "xblk.0.attn_q.weight", false },
        { "blk.?.bias", "blk.1.bias", true }, { "blk.?.bias", "blk.11.bias", false },
        { "blk.[0-3].*", "blk.2.x", true }, { "blk.[!0-3].*", "blk.2.x", false },
        { "*", "", true }, { "*/*", "layer-0/ffn_up", true }, { "*", ".hidden", true },
        { "re:^blk\\.[0-9]+\\.", "blk.17.attn", true },
        { "re:(q|k)_proj$", "model.k_proj", true }, { "re:(q|k)_proj$", "model.v_proj", false },
        { "re:(q|k)_proj$", "model.k_proj.weight", false }, { "re:", "anything", true }, { "re:", "", true }, { "re:^$", "", true },
        { "re:[[:alpha:]]_[[:digit:]]+$", "a_17", true }, { "re:[[:upper:]]", "a_17", false }, { "re:[^[:space:]]", " ", false },
        { "re:[]1[]+", "x[1]", true }, { "re:^a.b$", "a\xc3\xa4" "b", true }, { "re:^a..b$", "a\xc3\xa4" "b", false },
        { "re:^[\xc3\xa0-\xc3\xbf]$", "\xc3\xa4", true }, { "a?b", "a\xc3\xa4" "b", true }, { "re:a$", "a\n", false }, { "re:a.$",
        "a\n", true },
        { "re:(?i)ATTN", "blk.0.attn", true }, { "re:^(?!lm_head)", "lm_head", false }, { "re:q(?=_proj)", "q_proj", true },
        { "re:(?<=\\.)q", ".q", true }, { "re:(?>a+)b", "aab", true }, { "re:\\(\\?R\\)", "(?R)", true }, { "re:[(?R)]", "R", true },
        { "re:^blk\\.0\\.x$", "blk.0.x", true }, { "re:^blk\\.0\\.x$", "blk.0.xy", false }, { "re:^blk\\.0\\.x$", "ablk.0.x", false },
        { "re:^blk\\.0$", "blk_0", false }, { "re:^a$", "a\n", false }, { "re:^a\\$", "a$", true }, { "re:^a\\$", "a$b", true },
        { "re:^\\d$", "7", true }, { "re:^\\d$", "d", false }, { "re:^a\\b$", "a", true }, { "re:^a|b$", "ac", true },
        { "re:^a*$", "aa", true },
        { "re:^\\\\\\_\\-/$", "\\_-/", true }, { "re:^\xc3\xa4\\+$", "\xc3\xa4+", true },
        { "re:a\\(*b", "a((b", true }, { "re:\\\\g", "\\g", true },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (matches(rows[i].pattern, apr_text(rows[i].name)) != rows[i].yes)
            fail_msg("%s against %s", rows[i].pattern, rows[i].name);
}

static void names_end_where_they_end(void **state)
{
    (void)state;
    static const unsigned char map[] = "blk.0.weight.blk.1";
    const struct apr_bytes name = { map, 5 };
    assert_false(matches("weight", name));
    assert_true(matches("blk.?", name));
    assert_true(matches("re:0$", name));
    assert_true(matches("*", (struct apr_bytes){ 0 }));
    assert_true(matches("re:^$", (struct apr_bytes){ 0 }));
}

static void names_of_any_length_are_seen_whole(void **state)
{
    (void)state;
    static const size_t length[] = { 510, 511, 512, 513, APR_REGEX_SUBJECT, 65536 };
    for (size_t i = 0; i < APR_LENGTH(length); i++) {
        unsigned char *const name = malloc(length[i]);
        assert_non_null(name);
        memset(name, 'a', length[i]);
        name[length[i] - 1] = 'z';
        const struct apr_bytes b = { name, length[i] };
        assert_true(matches("az", b));
        assert_true(matches("a*z", b));
        assert_false(matches("a*y", b));
        if (length[i] <= APR_REGEX_SUBJECT)
            assert_true(matches("re:z$", b));
        free(name);
    }
}

/* The text, so many times. */
static void repeat(struct test_bytes *b, const char *text, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        test_text(b, text);
}

static void what_is_wrong_with_a_pattern_is_said(void **state)
{
    (void)state;
    static const struct { const char *before, *piece; unsigned n; const char *after, *words; } rows[] = {
        { "re:(", "", 0, "", "missing closing parenthesis" }, { "re:[a", "", 0, "", "missing terminating ]" },
        { "re:a{2,1}", "", 0, "", "out of order" }, { "re:*a", "", 0, "", "quantifier does not follow" }, { "re:\xff", "", 0, "", "UTF-8" },
        { "re:(a)\\1", "", 0, "", "back references" }, { "re:(a)\\g1", "", 0, "", "back references" },
        { "re:(a)\\g{-1}", "", 0, "", "back references" }, { "re:(?<x>a)\\k<x>", "", 0, "", "(?" }, { "re:(?P<x>a)", "", 0, "", "(?" },
        { "re:(?'x'a)", "", 0, "", "(?" }, { "re:a(?R)?b", "", 0, "", "(?" }, { "re:(a)(?1)", "", 0, "", "(?" }, { "re:(a)(?-1)",
        "", 0, "", "(?" },
        { "re:(a)(?+1)", "", 0, "", "(?" }, { "re:(?&x)", "", 0, "", "(?" }, { "re:(?P>x)", "", 0, "", "(?" }, { "re:(?(1)a|b)",
        "", 0, "", "(?" },
        { "re:(?C1)a", "", 0, "", "(?" }, { "re:(?#remark)", "", 0, "", "(?" }, { "re:(?x) a", "", 0, "", "(?" },
        { "re:[[:](?R)[:]]", "", 0, "", "(?" }, { "re:[^]](?R)", "", 0, "", "(?" }, { "re:[\\]](?R)", "", 0, "", "(?" },
        { "re:(*ACCEPT)", "", 0, "", "verbs" }, { "re:(*UTF)a", "", 0, "", "verbs" }, { "re:a(*MARK:x)", "", 0, "", "verbs" },
        { "re:\\Qa", "", 0, "", "\\Q" }, { "re:a\\C", "", 0, "", "\\C" },
        { "re:", "(", 15000, "", "parenthes" }, { "re:", "(", 101, "a", "parenthes" }, { "re:", "(a{1,", 5, "255}", "" },
        { "re:(a{1,500}b){1,9000}", "", 0, "", "too large" }, { "re:((a{1,255}){1,255}){1,20}", "", 0, "", "too large" },
        { "re:", "a", 16382, "", "16385 bytes, more than 16384" }, { "*", "a", 16384, "", "more than 16384" }, { "", "a", 16385, "",
        "more than 16384" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_patterns *p = NULL;
        struct test_bytes b = { 0 };
        struct apr_error e = { 0 };
        test_text(&b, rows[i].before);
        repeat(&b, rows[i].piece, rows[i].n);
        test_text(&b, rows[i].after);
        const enum apr_code code = apr_patterns_add(&p, (struct apr_bytes){ b.at, b.n }, &e);
        if (code != APR_EARG || e.at != APR_NOWHERE || strncmp(e.text, "pattern \"", 9) != 0 || strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s%s...: %d %s", rows[i].before, rows[i].piece, e.code, e.text);
        assert_int_equal(apr_patterns_count(p), 0);
        apr_patterns_free(p);
        test_free(&b);
    }
    apr_patterns_free(NULL);
}

/* Each would take longer than anybody waits, or more memory than there is. */
static void a_match_without_end_is_an_error_that_names_the_pattern(void **state)
{
    (void)state;
    static const struct { const char *pattern, *letter; unsigned n; const char *end, *words; } rows[] = {
        { "re:^((a+)+)+b", "a", 40, "cb", "more steps" }, { "re:^(a|aa)+x", "a", 60, "yx", "more steps" },
        { "re:.{0,500}.{0,500}.{0,500}c.*b$", "a", 1000, "b", "more steps" }, { "re:^(?:.*?,){20}P", "1,", 30, "xP", "more steps" },
        { "re:z$", "a", 1023, "z.", "1025 bytes, and expressions are for 1024" },
        { "*a?a?a?aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?ab*", "a", 10000000, "", "more steps" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_patterns *p = compile(rows[i].pattern);
        struct test_bytes b = { 0 };
        struct apr_error e = { 0 };
        size_t found;
        repeat(&b, rows[i].letter, rows[i].n);
        test_text(&b, rows[i].end);
        if (apr_patterns_first(p, (struct apr_bytes){ b.at, b.n }, &found, &e) != APR_ELIMIT || strstr(e.text, rows[i].words) == NULL ||
            strstr(e.text, rows[i].pattern) == NULL)
            fail_msg("%s: %d %s", rows[i].pattern, e.code, e.text);
        apr_patterns_free(p);
        test_free(&b);
    }
}

static void a_name_that_is_no_utf8_is_no_match_but_an_error_of_expressions(void **state)
{
    (void)state;
    struct apr_patterns *p = compile("re:a");
    struct apr_error e;
    size_t found;
    assert_int_equal(apr_patterns_first(p, apr_text("a\xff"), &found, &e), APR_ELIMIT);
    assert_non_null(strstr(e.text, "UTF-8"));
    apr_patterns_free(p);
    assert_true(matches("a", apr_text("a\xff")));
    assert_true(matches("a?", apr_text("a\xff")));
}

static void of_many_patterns_the_first_that_matches_is_told(void **state)
{
    (void)state;
    static const char *const text[] = { "blk.1.attn", "*.2.*", "re:^blk\\.[34]\\.", "attn", "blk.1.attn", "re:ffn", "*", "attn" };
    static const struct { const char *name; size_t first; } rows[] = {
        { "blk.1.attn", 0 }, { "blk.2.attn", 1 }, { "blk.3.attn", 2 }, { "blk.5.attn", 3 }, { "blk.4.ffn", 2 }, { "blk.5.ffn", 5 },
        { "x", 6 }, { "", 6 },
    };
    struct apr_patterns *p = NULL;
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(text); i++)
        assert_int_equal(apr_patterns_add(&p, apr_text(text[i]), &e), APR_OK);
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        assert_int_equal(first(p, apr_text(rows[i].name)), rows[i].first);
    assert_int_equal(apr_patterns_count(p), APR_LENGTH(text));
    assert_true(apr_bytes_is(apr_patterns_text(p, 5), "re:ffn"));
    apr_patterns_free(p);
    assert_int_equal(first(NULL, apr_text("x")), APR_NO_PATTERN);
    bool yes = false;
    assert_int_equal(apr_patterns_want(NULL, apr_text("x"), &yes, &e), APR_OK);
    assert_true(yes);
}

static void patterns_that_matched_nothing_are_known(void **state)
{
    (void)state;
    static const struct { const char *text; bool noted; } rows[] = {
        { "attn", true }, { "atn", false }, { "*.2.*", true }, { "*.4.*", false }, { "re:q$", true }, { "re:^q", false },
        { "attn", true }, { "atn", false },
        { "", true }, { "blk.1.attn_q", true }, { "blk.1.attn_q.", false },
    };
    struct apr_patterns *p = NULL;
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        assert_int_equal(apr_patterns_add(&p, apr_text(rows[i].text), &e), APR_OK);
    assert_int_equal(apr_patterns_note(p, apr_text("blk.1.attn_q"), &e), APR_OK);
    assert_int_equal(first(p, apr_text("blk.4.atn_q.q")), 1);
    assert_int_equal(apr_patterns_note(p, apr_text("blk.2.ffn"), &e), APR_OK);
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (apr_patterns_noted(p, i) != rows[i].noted)
            fail_msg("%zu: %s", i, rows[i].text);
    apr_patterns_free(p);
}

/* Of the first three kinds only one pattern has a plain part that a name has; of the last all have. */
static void many_patterns_cost_little_or_are_told_to_cost_too_much(void **state)
{
    (void)state;
    static const struct { const char *pattern; enum apr_code code; } rows[] = {
        { "layers.%05u.", APR_OK }, { "*.layers.%05u.*", APR_OK }, { "*.%05u.*?eig*", APR_OK }, { "*a*[%u]x", APR_ELIMIT },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_patterns *p = NULL;
        struct apr_error e = { 0 };
        char text[64];
        enum apr_code code = APR_OK;
        for (unsigned k = 0; k < 50000; k++) {
            snprintf(text, sizeof text, rows[i].pattern, k);
            assert_int_equal(apr_patterns_add(&p, apr_text(text), &e), APR_OK);
        }
        for (unsigned k = 0; code == APR_OK && k < 50000; k++) {
            size_t found = 0;
            snprintf(text, sizeof text, "model.layers.%05u.weight.", k);
            code = apr_patterns_first(p, apr_text(text), &found, &e);
            assert_true(rows[i].code != APR_OK || found == k);
        }
        if (code != rows[i].code)
            fail_msg("%s: %d %s", rows[i].pattern, code, e.text);
        apr_patterns_free(p);
    }
}

static void expressions_together_take_bounded_memory(void **state)
{
    (void)state;
    struct apr_patterns *p = NULL;
    struct apr_error e;
    enum apr_code code = APR_OK;
    for (unsigned k = 0; code == APR_OK && k < 2000; k++)
        code = apr_patterns_add(&p, apr_text("re:(a{1,400}b){1,900}"), &e);
    assert_int_equal(code, APR_EARG);
    assert_non_null(strstr(e.text, "more than 16 MiB"));
    assert_true(apr_patterns_count(p) > 100);
    apr_patterns_free(p);
}

/* A tenth of them as expressions would take too much memory, and too many steps. */
static void names_spelled_whole_are_as_many_as_a_model_has(void **state)
{
    (void)state;
    struct apr_patterns *p = NULL;
    struct apr_error e;
    char text[128];
    for (unsigned i = 0; i < 90000; i++) {
        snprintf(text, sizeof text, "re:^model\\.layers\\.%u\\.mlp\\.experts\\.%u\\.up_proj\\.weight$", i / 500, i % 500);
        assert_int_equal(apr_patterns_add(&p, apr_text(text), &e), APR_OK);
    }
    for (unsigned i = 0; i < 90000; i++) {
        snprintf(text, sizeof text, "model.layers.%u.mlp.experts.%u.up_proj.weight", i / 500, i % 500);
        assert_int_equal(first(p, apr_text(text)), i);
    }
    assert_int_equal(first(p, apr_text("model.layers.0.mlp.experts.0.up_proj.weights")), APR_NO_PATTERN);
    apr_patterns_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_globs_and_expressions_match_as_promised),
        cmocka_unit_test(names_end_where_they_end),
        cmocka_unit_test(names_spelled_whole_are_as_many_as_a_model_has),
        cmocka_unit_test(names_of_any_length_are_seen_whole),
        cmocka_unit_test(what_is_wrong_with_a_pattern_is_said),
        cmocka_unit_test(a_match_without_end_is_an_error_that_names_the_pattern),
        cmocka_unit_test(a_name_that_is_no_utf8_is_no_match_but_an_error_of_expressions),
        cmocka_unit_test(of_many_patterns_the_first_that_matches_is_told),
        cmocka_unit_test(patterns_that_matched_nothing_are_known),
        cmocka_unit_test(many_patterns_cost_little_or_are_told_to_cost_too_much),
        cmocka_unit_test(expressions_together_take_bounded_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
