/* lib/model/hf_config.h: paths, the configuration inside a configuration, Python's numbers, and hostile JSON. */
#include "support.h"

#include <math.h>

#include <stdio.h>

#include "base/bytes.h"
#include "model/hf_config.h"

static struct apr_hf_config *parse(const char *text)
{
    struct apr_hf_config *c;
    struct apr_error e;
    if (apr_hf_config_new(&c, apr_text(text), &e) != APR_OK)
        fail_msg("%s: %s", text, e.text);
    return c;
}

static void refused(const char *what, struct apr_bytes text, enum apr_code code)
{
    struct apr_hf_config *c = NULL;
    struct apr_error e;
    const enum apr_code found = apr_hf_config_new(&c, text, &e);
    if (found != code)
        fail_msg("%s: %s (%s)", what, apr_code_word(found), found == APR_OK ? "" : e.text);
    assert_null(c);
}

/* A number or a string is expected; neither: it is not there. */
static void values_are_found_by_path(void **state)
{
    (void)state;
    static const char text[] =
        "{\"hidden_size\": 64, \"name\": \"a\", \"architectures\": [\"First\", \"Second\"], \"tie\": true, \"not\": false, \"none\": null,"
        " \"big\": 18446744073709551615.0, \"rope\": {\"kind\": \"llama3\", \"factor\": 8.5, \"deep\": [[1, 2], {\"x\": 3}]}, \"\": 5,"
        " \"empty\": \"\", \"text_config\": {\"hidden_size\": 32, \"none\": 7, \"name\": null, \"rope\": {\"factor\": 2}}}";
    static const struct { const char *path; double number; const char *string; bool has; } rows[] = {
        { "hidden_size", 32, NULL, true },          { "name", -1, "a", true },              { "none", 7, NULL, true },
        { "architectures.0", -1, "First", true },   { "architectures.1", -1, "Second", true }, { "architectures.2", -1, NULL, false },
        { "architectures.x", -1, NULL, false },     { "architectures.-1", -1, NULL, false }, { "architectures.", -1, NULL, true },
        { "architectures", -1, NULL, true },        { "architectures.0x", -1, NULL, false },
        { "architectures.99999999999999999999", -1, NULL, false },
        { "tie", 1, NULL, true },                   { "not", 0, NULL, true },               { "big", 0x1p64, NULL, true },
        { "rope.kind", -1, "llama3", true },        { "rope.factor", 2, NULL, true },       { "rope.deep.0.1", 2, NULL, true },
        { "rope.deep.1.x", 3, NULL, true },         { "rope.deep.0.x", -1, NULL, false },   { "rope.kind.x", -1, NULL, false },
        { "hidden_size.0", -1, NULL, false },       { "absent", -1, NULL, false },          { "rope.absent", -1, NULL, false },
        { "empty", -1, "", true },                  { "hidden", -1, NULL, false },
    };
    struct apr_hf_config *c = parse(text);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        double number = -1;
        struct apr_bytes string = { 0 }, path = apr_text(rows[i].path);
        const bool is_number = apr_hf_config_number(c, path, &number), is_string = apr_hf_config_string(c, path, &string);
        if (is_number != (rows[i].number >= 0) || (is_number && number != rows[i].number))
            fail_msg("%s: %d, %g", rows[i].path, is_number, number);
        if (is_string != (rows[i].string != NULL) || (is_string && !apr_bytes_equal(string, apr_text(rows[i].string))))
            fail_msg("%s: %d, %.*s", rows[i].path, is_string, (int)string.n, (const char *)string.at);
        if (apr_hf_config_has(c, path) != rows[i].has)
            fail_msg("%s: has() is wrong", rows[i].path);
    }
    apr_hf_config_free(c);
}

static void each_name_of_the_inner_configuration_counts(void **state)
{
    (void)state;
    static const char *const text[] = {
        "{\"n\": 1, \"text_config\": {\"n\": 2}}", "{\"n\": 1, \"llm_config\": {\"n\": 2}}", "{\"n\": 1, \"lm_config\": {\"n\": 2}}",
        "{\"n\": 1, \"language_config\": {\"n\": 2}}", "{\"n\": 2, \"text_config\": {}}", "{\"n\": 2, \"text_config\": 5}",
        "{\"n\": 2, \"text_config\": {\"n\": null}}", "{\"llm_config\": {\"n\": 1}, \"text_config\": {\"n\": 2}}",
    };
    for (size_t i = 0; i < APR_LENGTH(text); i++) {
        struct apr_hf_config *c = parse(text[i]);
        double n;
        if (!apr_hf_config_number(c, apr_text("n"), &n) || n != 2)
            fail_msg("%s", text[i]);
        apr_hf_config_free(c);
    }
}

/* As transformers 5 ties: by the class that has the head, unless that is an older save which says so of its text alone. */
static void a_head_is_tied_by_the_word_of_the_whole_model(void **state)
{
    (void)state;
    static const struct { const char *text; double tied; } rows[] = {
        { "{\"tie_word_embeddings\": true, \"text_config\": {\"tie_word_embeddings\": false}}", 1 },
        { "{\"tie_word_embeddings\": false, \"text_config\": {\"tie_word_embeddings\": true}}", 1 },
        { "{\"tie_word_embeddings\": false, \"text_config\": {\"tie_word_embeddings\": false}}", 0 },
        { "{\"tie_word_embeddings\": false, \"text_config\": {}}", 0 },
        { "{\"text_config\": {\"tie_word_embeddings\": true}}", 1 },
        { "{\"text_config\": {\"tie_word_embeddings\": false}}", 0 },
        { "{\"tie_word_embeddings\": true}", 1 },
        { "{\"text_config\": {}}", NAN },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_hf_config *c = parse(rows[i].text);
        double n;
        const bool known = apr_hf_config_number(c, apr_text("tie_word_embeddings"), &n);
        if (known == isnan(rows[i].tied) || (known && n != rows[i].tied))
            fail_msg("%s", rows[i].text);
        apr_hf_config_free(c);
    }
}

static void a_list_has_a_length_and_a_largest_number(void **state)
{
    (void)state;
    static const struct { const char *text; size_t length; double largest; } rows[] = {
        { "{\"n\": [1, 3, 2]}", 3, 3 }, { "{\"n\": [-1, null, -2.5]}", 3, -1 }, { "{\"n\": [null]}", 1, NAN }, { "{\"n\": []}", 0, NAN },
        { "{\"n\": [1, \"2\"]}", 2, NAN }, { "{\"n\": [1, [2]]}", 2, NAN }, { "{\"n\": 5}", 0, NAN },
        { "{\"n\": {\"0\": 1}}", 0, NAN }, { "{}", 0, NAN },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_hf_config *c = parse(rows[i].text);
        double n;
        const bool known = apr_hf_config_largest(c, apr_text("n"), &n);
        if (known == isnan(rows[i].largest) || (known && n != rows[i].largest) || apr_hf_config_length(c, apr_text("n")) != rows[i].length)
            fail_msg("%s", rows[i].text);
        apr_hf_config_free(c);
    }
    assert_int_equal(apr_hf_config_length(NULL, apr_text("n")), 0);
}

static void of_a_key_that_stands_twice_the_last_counts(void **state)
{
    (void)state;
    struct apr_hf_config *c = parse("{\"n\": 1, \"s\": {\"a\": 1, \"a\": \"x\"}, \"n\": NaN, \"s\": {\"a\": 5, \"b\": 6, \"a\": 7}, \"n\": 3}");
    double n;
    assert_true(apr_hf_config_number(c, apr_text("n"), &n) && n == 3);
    assert_true(apr_hf_config_number(c, apr_text("s.a"), &n) && n == 7);
    assert_true(apr_hf_config_number(c, apr_text("s.b"), &n) && n == 6);
    apr_hf_config_free(c);
}

static void what_python_writes_for_no_number_is_null(void **state)
{
    (void)state;
    struct apr_hf_config *c = parse("{\"a\": NaN, \"b\": [Infinity, -Infinity,NaN], \"c\": \"NaN\","
                                 " \"d\\\"NaN\": 1, \"e\": -1, \"f\": \"\\\\\", \"g\": NaN}");
    struct apr_bytes s;
    double n;
    assert_false(apr_hf_config_has(c, apr_text("a")) || apr_hf_config_has(c, apr_text("b.0")) || apr_hf_config_has(c, apr_text("b.1")) ||
                 apr_hf_config_has(c, apr_text("b.2")) || apr_hf_config_has(c, apr_text("g")));
    assert_true(apr_hf_config_has(c, apr_text("b")));
    assert_true(apr_hf_config_string(c, apr_text("c"), &s) && apr_bytes_is(s, "NaN"));
    assert_true(apr_hf_config_number(c, apr_text("d\"NaN"), &n) && n == 1);
    assert_true(apr_hf_config_number(c, apr_text("e"), &n) && n == -1);
    assert_true(apr_hf_config_string(c, apr_text("f"), &s) && apr_bytes_is(s, "\\"));
    apr_hf_config_free(c);
    struct test_bytes b = { 0 };
    test_text(&b, "[NaN");
    for (unsigned i = 0; i < 100000; i++)
        test_text(&b, ",NaN"); /* the worst that mending can grow */
    test_text(&b, "]");
    refused("an array of NaN", (struct apr_bytes){ b.at, b.n }, APR_ECORRUPT);
    test_free(&b);
}

static void nothing_is_in_no_configuration(void **state)
{
    (void)state;
    double n;
    struct apr_bytes s;
    assert_false(apr_hf_config_has(NULL, apr_text("a")));
    assert_false(apr_hf_config_number(NULL, apr_text("a"), &n));
    assert_false(apr_hf_config_string(NULL, apr_text("a"), &s));
    apr_hf_config_free(NULL);
}

static void faults_keep_their_place_unless_mended(void **state)
{
    (void)state;
    struct apr_hf_config *c;
    struct apr_error e;
    assert_int_equal(apr_hf_config_new(&c, apr_text("{\"a\": 1, \"b\": nul}"), &e), APR_ECORRUPT);
    assert_true(e.at != APR_NOWHERE);
    assert_int_equal(apr_hf_config_new(&c, apr_text("{\"a\": NaN, \"b\": nul}"), &e), APR_ECORRUPT);
    assert_true(e.at == APR_NOWHERE);
}

static void hostile_json_is_refused(void **state)
{
    (void)state;
    static const char *const text[] = {
        "", " ", "[]", "1", "null", "NaN", "\"", "{", "{}}", "{\"a\": 1,}", "{\"a\" 1}", "{\"a\": 1 \"b\": 2}", "{\"a\": -}",
        "{\"a\": InfinityInfinity}", "{\"a\": \"\\", "{\"a\": \"\xff\"}", "{a: 1}", "{\"a\": 1e999}",
    };
    for (size_t i = 0; i < APR_LENGTH(text); i++)
        refused(text[i], apr_text(text[i]), APR_ECORRUPT);
    struct test_bytes b = { 0 };
    test_text(&b, "{\"a\": ");
    for (unsigned i = 0; i < 100000; i++)
        test_text(&b, "[");
    struct apr_hf_config *c = NULL;
    struct apr_error e;
    assert_int_not_equal(apr_hf_config_new(&c, (struct apr_bytes){ b.at, b.n }, &e), APR_OK);
    assert_null(c);
    test_zeros(&b, (16u << 20) + 1 - b.n);
    refused("more than 16 MiB", (struct apr_bytes){ b.at, b.n }, APR_ELIMIT);
    test_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_found_by_path),
        cmocka_unit_test(each_name_of_the_inner_configuration_counts),
        cmocka_unit_test(a_head_is_tied_by_the_word_of_the_whole_model),
        cmocka_unit_test(a_list_has_a_length_and_a_largest_number),
        cmocka_unit_test(of_a_key_that_stands_twice_the_last_counts),
        cmocka_unit_test(what_python_writes_for_no_number_is_null),
        cmocka_unit_test(nothing_is_in_no_configuration),
        cmocka_unit_test(faults_keep_their_place_unless_mended),
        cmocka_unit_test(hostile_json_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
