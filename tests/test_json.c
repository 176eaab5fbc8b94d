/* lib/model/json.h: walking members, checking values, jansson under a budget. */
#include "base/bytes.h"
#include "model/json.h"
#include "model/open.h"
#include "support.h"

#define BASE 1000 /* file offset of the text in every test */

static struct apr_bytes repeat(struct test_bytes *b, const char *open, const char *unit, size_t n, const char *close)
{
    *b = (struct test_bytes){ 0 };
    test_text(b, open);
    for (size_t i = 0; i < n; i++)
        test_text(b, unit);
    test_text(b, close);
    return (struct apr_bytes){ b->at, b->n };
}

static struct apr_bytes nested(struct test_bytes *b, size_t levels)
{
    struct test_bytes closed = { 0 };
    for (size_t i = 0; i < levels; i++)
        test_text(&closed, "]");
    test_put(&closed, "", 1);
    repeat(b, "", "[", levels, (const char *)closed.at);
    test_free(&closed);
    return (struct apr_bytes){ b->at, b->n };
}

static void members_come_with_their_spelling_and_their_offsets(void **state)
{
    (void)state;
    static const char text[] = " {\"a\" : 1.50,\n\"\\u0062\":[1, \"]\\\"\"] , \"c\":{ }}\r\n ";
    static const struct { const char *key, *value; uint64_t key_at, value_at; } rows[] = {
        { "\"a\"", "1.50", 2, 8 }, { "\"\\u0062\"", "[1, \"]\\\"\"]", 14, 23 }, { "\"c\"", "{ }", 36, 40 },
    };
    struct apr_error e;
    struct apr_walk w;
    struct apr_item item;
    bool more;
    assert_int_equal(apr_walk_in(&w, apr_text(text), BASE, '{', &e), APR_OK);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        assert_int_equal(apr_walk_next(&w, &item, &more, &e), APR_OK);
        assert_true(more);
        assert_true(apr_bytes_equal(item.key, apr_text(rows[i].key)));
        assert_true(apr_bytes_equal(item.value, apr_text(rows[i].value)));
        assert_int_equal(item.key_at, BASE + rows[i].key_at);
        assert_int_equal(item.value_at, BASE + rows[i].value_at);
    }
    assert_int_equal(apr_walk_next(&w, &item, &more, &e), APR_OK);
    assert_false(more);
    assert_int_equal(apr_walk_end(&w, &e), APR_OK);
}

static void broken_structure_is_refused_at_its_byte(void **state)
{
    (void)state;
    static const struct { const char *text; char open; uint64_t at; } rows[] = {
        { "", '{', 0 },           { "  ", '{', 2 },          { "[]", '{', 0 },          { "\f{}", '{', 0 },        { "{", '{', 1 },
        { "{,}", '{', 1 },        { "{\"a\"}", '{', 4 },     { "{\"a\":}", '{', 5 },    { "{\"a\":1,}", '{', 7 },
        { "{\"a\":1 2}", '{', 7 },
        { "{\"a\":1", '{', 6 },   { "{'a':1}", '{', 1 },     { "{\"a:1}", '{', 1 },     { "{\"a\":\"1}", '{', 5 }, { "{\"a\":[1}", '{', 7 },
        { "{a:1}", '{', 1 },      { "{}x", '{', 2 },         { "{} {}", '{', 3 },       { "{}\xef\xbb\xbf", '{', 2 },
        { "[1,]", '[', 3 },
        { "[,1]", '[', 1 },       { "[1,,2]", '[', 3 },      { "[1", '[', 2 },          { "[[1]", '[', 4 },        { "[\"\\\"]", '[', 1 },
        { "[1}", '[', 2 },        { "[{]", '[', 2 },         { "[/**/1]", '[', 1 },    { "{\"a\":{\"b\"}}", '{', 9 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e = { .code = APR_OK };
        struct apr_walk w;
        enum apr_code code = apr_walk_in(&w, apr_text(rows[i].text), BASE, rows[i].open, &e);
        if (code == APR_OK)
            code = apr_json_check(apr_text(rows[i].text), BASE, &e);
        if (code != APR_ECORRUPT || e.at != BASE + rows[i].at)
            fail_msg("%s: code %d at %lld: %s", rows[i].text, code, (long long)(e.at - BASE), e.text);
    }
}

static void values_are_judged_strictly(void **state)
{
    (void)state;
    static const char *const good[] = {
        "0", "-0", "1.0", "-1e-5", "1E+2", "18446744073709551616", "true", "null", "\"\"", "\"\\u0000\"", "\"\\ud83d\\ude42\"",
        "\"\\/\x7f\"", "\"\xf0\x9f\x99\x82\"", "[]", "{}", "[[],{}]", " [1 , 2]\n", "{\"a\":1,\"a\":2}", "{\"\\u0000\":0}",
    };
    static const char *const bad[] = {
        "", "01", "-01", "+1", "1.", ".5", "1e", "0x1", "NaN", "Infinity", "-", "True", "nul", "nulll", "1e400", "\"\n\"", "\"\t\"",
        "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "'a'", "[1 2]", "[01]",
        "{\"\\ud800\":1}", "{\"\xff\":1}", "[\"\x01\"]", "1 2", "[1]]", "\"a\"\"b\"",
    };
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(good); i++)
        if (apr_json_check(apr_text(good[i]), BASE, &e) != APR_OK)
            fail_msg("%s: %s", good[i], e.text);
    for (size_t i = 0; i < APR_LENGTH(bad); i++)
        if (apr_json_check(apr_text(bad[i]), BASE, &e) != APR_ECORRUPT || e.at < BASE || e.at > BASE + strlen(bad[i]))
            fail_msg("%s: accepted, or refused elsewhere", bad[i]);
}

static void depth_ends_at_127_levels(void **state)
{
    (void)state;
    static const struct { size_t levels; enum apr_code code; } rows[] = {
        { 1, APR_OK }, { 127, APR_OK }, { 128, APR_ELIMIT }, { 100000, APR_ELIMIT },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b;
        struct apr_error e = { .at = 0 };
        json_t *json;
        const struct apr_bytes text = nested(&b, rows[i].levels);
        assert_int_equal(apr_json_check(text, BASE, &e), rows[i].code);
        if (rows[i].code != APR_OK)
            assert_int_equal(e.at, BASE + 127);
        assert_int_equal(apr_json_load(&json, text, BASE, &e), rows[i].code);
        if (rows[i].code != APR_OK)
            assert_int_equal(e.at, BASE + 127);
        json_decref(json);
        test_free(&b);
    }
}

static void numbers_keep_64_bits_and_their_spelling(void **state)
{
    (void)state;
    static const struct { const char *text; enum apr_meta_type type; uint64_t u; double f; } rows[] = {
        { "0", APR_META_U64, 0, 0 },
        { "18446744073709551615", APR_META_U64, UINT64_MAX, 0 },
        { "-1", APR_META_I64, UINT64_MAX, 0 },
        { "-9223372036854775808", APR_META_I64, (uint64_t)INT64_MAX + 1, 0 },
        { "18446744073709551616", APR_META_F64, 0, 0x1p64 },
        { "-9223372036854775809", APR_META_F64, 0, -0x1p63 },
        { "-0", APR_META_F64, 0, -0.0 },
        { "1.0", APR_META_F64, 0, 1.0 },
        { "1e2", APR_META_F64, 0, 100.0 },
        { "0.1", APR_META_F64, 0, 0.1 },
    };
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_value v;
        assert_int_equal(apr_json_value(&(struct apr_model){ 0 }, apr_text(rows[i].text), BASE, &v, &e), APR_OK);
        assert_int_equal(v.type, rows[i].type);
        assert_int_equal(v.encoding, APR_JSON);
        assert_true(apr_bytes_equal(v.text, apr_text(rows[i].text)));
        if (v.type == APR_META_F64)
            assert_memory_equal(&v.f, &rows[i].f, sizeof v.f);
        else
            assert_int_equal(v.u, rows[i].u);
    }
}

static void strings_are_views_until_something_is_escaped(void **state)
{
    (void)state;
    static const struct { const char *text, *decoded; size_t n; bool view; } rows[] = {
        { "\"\"", "", 0, true },
        { "\"a b\"", "a b", 3, true },
        { "\"\xc3\xa9\"", "\xc3\xa9", 2, true },
        { "\"\\u00e9\\n\\\"\"", "\xc3\xa9\n\"", 4, false },
        { "\"a\\u0000b\"", "a\0b", 3, false },
    };
    struct apr_error e;
    struct apr_model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_value v;
        const struct apr_bytes text = apr_text(rows[i].text);
        assert_int_equal(apr_json_value(m, text, BASE, &v, &e), APR_OK);
        assert_int_equal(v.type, APR_META_STRING);
        assert_int_equal(v.text.n, rows[i].n);
        assert_memory_equal(v.text.at, rows[i].decoded, rows[i].n);
        assert_int_equal(v.text.at == text.at + 1, rows[i].view);
    }
    struct apr_bytes out;
    assert_int_equal(apr_json_string(m, apr_text("7"), BASE, &out, &e), APR_ECORRUPT);
    assert_int_equal(apr_json_string(m, apr_text("\"a"), BASE, &out, &e), APR_ECORRUPT);
    apr_close(m);
}

static void plain_integers_have_one_spelling(void **state)
{
    (void)state;
    static const struct { const char *text; bool plain; uint64_t n; } rows[] = {
        { "0", true, 0 },      { "7", true, 7 },     { "18446744073709551615", true, UINT64_MAX }, { "18446744073709551616", false, 0 },
        { "", false, 0 },      { "00", false, 0 },   { "07", false, 0 },   { "-0", false, 0 },     { "+1", false, 0 },
        { "1.0", false, 0 },   { "1e0", false, 0 },  { " 1", false, 0 },   { "1 ", false, 0 },     { "99999999999999999999999", false, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        uint64_t n;
        if (apr_json_plain(apr_text(rows[i].text), &n) != rows[i].plain || (rows[i].plain && n != rows[i].n))
            fail_msg("\"%s\"", rows[i].text);
    }
}

static void loading_refuses_twins_and_names_the_byte(void **state)
{
    (void)state;
    struct apr_error e;
    json_t *json;
    assert_int_equal(apr_json_load(&json, apr_text("{\"a\":1,\"b\":[true]}"), BASE, &e), APR_OK);
    assert_int_equal(json_integer_value(json_object_get(json, "a")), 1);
    json_decref(json);
    assert_int_equal(apr_json_load(&json, apr_text("{\"a\":1,\"a\":2}"), BASE, &e), APR_ECORRUPT);
    assert_null(json);
    assert_non_null(strstr(e.text, "duplicate"));
    assert_in_range(e.at, BASE + 7, BASE + 13);
    assert_int_equal(apr_json_load(&json, apr_text("[1,2,x]"), BASE, &e), APR_ECORRUPT);
    assert_in_range(e.at, BASE + 5, BASE + 7);
}

static void a_tree_over_the_budget_is_refused_but_a_check_needs_none(void **state)
{
    (void)state;
    struct test_bytes b;
    struct apr_error e;
    json_t *json;
    const struct apr_bytes text = repeat(&b, "[", "\"abc\",", 1 << 20, "0]");
    assert_int_equal(apr_json_load(&json, text, BASE, &e), APR_ELIMIT);
    assert_non_null(strstr(e.text, "64 MiB"));
    assert_int_equal(apr_json_check(text, BASE, &e), APR_OK);
    test_free(&b);
    for (int i = 0; i < 3; i++) { /* what a refusal had taken is given back */
        const struct apr_bytes small = repeat(&b, "[", "\"abc\",", 1 << 18, "0]");
        assert_int_equal(apr_json_load(&json, small, BASE, &e), APR_OK);
        json_decref(json);
        test_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_with_their_spelling_and_their_offsets),
        cmocka_unit_test(broken_structure_is_refused_at_its_byte),
        cmocka_unit_test(values_are_judged_strictly),
        cmocka_unit_test(depth_ends_at_127_levels),
        cmocka_unit_test(numbers_keep_64_bits_and_their_spelling),
        cmocka_unit_test(strings_are_views_until_something_is_escaped),
        cmocka_unit_test(plain_integers_have_one_spelling),
        cmocka_unit_test(loading_refuses_twins_and_names_the_byte),
        cmocka_unit_test(a_tree_over_the_budget_is_refused_but_a_check_needs_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
