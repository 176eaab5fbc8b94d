/* The normalizers of a tokenizer.json against tokenizers'. */
#include "token_vectors.h"

#include <stdio.h>
#include <time.h>

#include "base/arena.h"
#include "base/base64.h"
#include "base/bytes.h"
#include "token/charsmap.h"

static enum apr_code make(struct apr_normalizer **n, struct apr_vocabulary *v, const char *json, struct apr_error *e)
{
    *v = (struct apr_vocabulary){ .normalizer = apr_text(json) };
    return apr_normalizer_new(n, v, e);
}

static void drop(struct apr_normalizer *n, struct apr_vocabulary *v)
{
    apr_normalizer_free(n);
    apr_vocabulary_end(v);
}

static void expect_line(struct apr_normalizer *n, const char *json, const char *line)
{
    struct apr_made got = { 0 };
    struct apr_error e;
    const char *at = line;
    struct test_bytes text = vectors_bytes(&at);
    at++;
    struct test_bytes wanted = vectors_bytes(&at);
    assert_int_equal(apr_normalize(n, (struct apr_bytes){ text.at, text.n }, apr_most_made(text.n), &got, &e), APR_OK);
    if (got.n != wanted.n || (got.n > 0 && memcmp(got.at, wanted.at, got.n) != 0))
        fail_msg("%.60s: %s: %s", json, line, APR_QUOTED(((struct apr_bytes){ got.at, got.n })));
    free(got.at);
    test_free(&text);
    test_free(&wanted);
}

static void texts_are_what_tokenizers_makes_of_them(void **state)
{
    (void)state;
    struct test_bytes lines = test_load(PIECES "normal");
    struct apr_vocabulary v = { 0 };
    struct apr_normalizer *n = NULL;
    struct apr_error e;
    const char *json = NULL;
    size_t normalizers = 0;
    test_put(&lines, "", 1);
    for (char *line = (char *)lines.at, *end; *line != 0; line = end + 1) {
        end = strchr(line, '\n');
        *end = 0;
        if (line[0] != '{') {
            expect_line(n, json, line);
            continue;
        }
        drop(n, &v);
        json = line;
        normalizers++;
        if (make(&n, &v, json, &e) != APR_OK)
            fail_msg("%s: %s", json, e.text);
    }
    assert_int_equal(normalizers, 19);
    drop(n, &v);
    test_free(&lines);
}

static void what_is_not_known_is_named(void **state)
{
    (void)state;
    static const struct {
        const char   *json, *says;
        enum apr_code code;
    } rows[] = {
        { "{\"type\":\"Turbo\"}", "the normalizer \"Turbo\" of the tokenizer is not known", APR_EUNSUPPORTED },
        { "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"X\"}]}", "\"X\"", APR_EUNSUPPORTED },
        { "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a)b\"},\"content\":\"$1\"}", "\"$1\"", APR_EUNSUPPORTED },
        { "{\"type\":\"Replace\",\"pattern\":{},\"content\":\"\"}", "no pattern", APR_EUNSUPPORTED },
        { "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"####\"}", "no base64", APR_ECORRUPT },
        { "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}", "has 3 bytes", APR_ECORRUPT },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_vocabulary v;
        struct apr_normalizer *n;
        struct apr_error e;
        assert_int_equal(make(&n, &v, rows[i].json, &e), rows[i].code);
        if (strstr(e.text, rows[i].says) == NULL)
            fail_msg("%s: %s", rows[i].json, e.text);
        assert_null(n);
        drop(n, &v);
    }
}

static void sequences_have_an_end(void **state)
{
    (void)state;
    struct test_bytes deep = { 0 }, many = { 0 };
    struct apr_vocabulary v;
    struct apr_normalizer *n;
    struct apr_error e;
    for (unsigned i = 0; i < 20; i++)
        test_text(&deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (unsigned i = 0; i < 20; i++)
        test_text(&deep, "]}");
    test_put(&deep, "", 1);
    assert_int_equal(make(&n, &v, (const char *)deep.at, &e), APR_ELIMIT);
    drop(n, &v);
    test_text(&many, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}");
    for (unsigned i = 0; i < 100; i++)
        test_text(&many, ",{\"type\":\"Lowercase\"}");
    test_put(&many, "]}", 3);
    assert_int_equal(make(&n, &v, (const char *)many.at, &e), APR_ELIMIT);
    drop(n, &v);
    test_free(&deep);
    test_free(&many);
}

/* A run of marks is put in order, however long; here the last belongs before all others. */
static void a_megabyte_of_marks_takes_no_time(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    struct apr_made out = { 0 };
    struct apr_error e;
    test_text(&text, "a");
    for (unsigned i = 0; i < 1 << 19; i++)
        test_text(&text, i % 2 == 0 ? "\u0301" : "\u0327"); /* of classes 230 and 202 */
    const clock_t before = clock();
    assert_int_equal(apr_compose(APR_NFD, (struct apr_bytes){ text.at, text.n }, &out, &e), APR_OK);
    assert_true((clock() - before) / CLOCKS_PER_SEC < 20);
    assert_int_equal(out.n, text.n);
    assert_memory_equal(out.at, "a\u0327", 3);
    assert_memory_equal(out.at + out.n - 2, "\u0301", 2);
    free(out.at);
    test_free(&text);
}

/* ---- charsmaps ------------------------------------------------------------------------------------------------------- */

static void put_unit(struct test_bytes *b, uint32_t offset, unsigned byte, bool leaf)
{
    test_integer(b, offset << 10 | (leaf ? 1u << 8 : 0) | byte, 4);
}

/* "a" becomes "xy": the root, whose offset is 1; 'a' at 1 ^ 'a' = 0x60, with offset 2; its value at 0x60 ^ 2 = 0x62. */
static struct test_bytes charsmap(uint32_t value, const char *texts, size_t n)
{
    struct test_bytes b = { 0 };
    test_integer(&b, 4 * 0x63, 4);
    put_unit(&b, 1, 0, false);
    test_zeros(&b, 4 * 0x5F);
    put_unit(&b, 2, 'a', true);
    test_zeros(&b, 4);
    test_integer(&b, value | 1u << 31, 4);
    test_put(&b, texts, n);
    return b;
}

static void a_charsmap_maps_and_says_when_it_is_broken(void **state)
{
    (void)state;
    static const struct {
        uint32_t      value;
        size_t        n;
        enum apr_code code;
    } rows[] = { { 0, 4, APR_OK }, { 3, 4, APR_OK }, { 4, 4, APR_ECORRUPT }, { 0x7FFFFFFF, 4, APR_ECORRUPT }, { 0, 2, APR_ECORRUPT } };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = charsmap(rows[i].value, "xy", rows[i].n == 4 ? 3 : 2);
        struct apr_charsmap m;
        struct apr_mapped found;
        struct apr_error e;
        if (rows[i].n == 4)
            test_zeros(&b, 1);
        assert_int_equal(apr_charsmap_on(&m, (struct apr_bytes){ b.at, b.n }, &e), APR_OK);
        assert_int_equal(apr_charsmap_find(&m, apr_text("b"), false, &found, &e), APR_OK);
        assert_int_equal(found.n, 0);
        assert_int_equal(apr_charsmap_find(&m, apr_text("ab"), false, &found, &e), rows[i].code);
        if (rows[i].code == APR_OK) {
            assert_int_equal(found.n, 1);
            assert_true(apr_bytes_is(found.to, rows[i].value == 0 ? "xy" : ""));
        }
        test_free(&b);
    }
}

/* Every byte of it broken in turn: it maps, or says that it is broken. */
static void a_broken_charsmap_is_never_followed_out_of_itself(void **state)
{
    (void)state;
    struct test_bytes b = charsmap(0, "xy", 3);
    for (size_t i = 0; i < 8 * b.n; i++) {
        unsigned char *copy = malloc(b.n);
        struct apr_charsmap m;
        struct apr_mapped found;
        struct apr_error e;
        assert_non_null(copy);
        memcpy(copy, b.at, b.n);
        copy[i / 8] ^= (unsigned char)(1 << i % 8);
        enum apr_code code = apr_charsmap_on(&m, (struct apr_bytes){ copy, b.n }, &e);
        for (unsigned c = 0; c < 256 && code == APR_OK; c++)
            code = apr_charsmap_find(&m, (struct apr_bytes){ (unsigned char[]){ (unsigned char)c, 'a', 'b' }, 3 }, c % 2 == 0, &found, &e);
        assert_true(code == APR_OK || code == APR_ECORRUPT);
        free(copy);
    }
    test_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_what_tokenizers_makes_of_them),
        cmocka_unit_test(what_is_not_known_is_named),
        cmocka_unit_test(sequences_have_an_end),
        cmocka_unit_test(a_megabyte_of_marks_takes_no_time),
        cmocka_unit_test(a_charsmap_maps_and_says_when_it_is_broken),
        cmocka_unit_test(a_broken_charsmap_is_never_followed_out_of_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
