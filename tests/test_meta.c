/* lib/model/meta.h: asking metadata, walking arrays of both encodings, equality. */
#include "base/bytes.h"
#include "model/json.h"
#include "model/meta.h"
#include "support.h"

static struct apr_value json(const char *text)
{
    struct apr_value v;
    struct apr_error e;
    static struct apr_model none; /* nothing here is escaped, so nothing is kept */
    if (apr_json_value(&none, apr_text(text), 0, &v, &e) != APR_OK)
        fail_msg("%s: %s", text, e.text);
    return v;
}

static struct apr_value gguf_array(const struct test_bytes *b, enum apr_meta_type element, uint64_t n)
{
    return (struct apr_value){ .type = APR_META_ARRAY, .element = element, .encoding = b->big ? APR_GGUF_BE : APR_GGUF_LE, .n = n,
                               .text = { b->at, b->n } };
}

static void put_string(struct test_bytes *b, const char *text)
{
    test_integer(b, strlen(text), 8);
    test_text(b, text);
}

static void keys_are_found_and_the_last_twin_wins(void **state)
{
    (void)state;
    struct apr_meta_entry entry[] = {
        { apr_text("a"), json("1") }, { apr_text("b"), json("\"text\"") }, { apr_text("a"), json("2") },
        { apr_text("neg"), json("-3") }, { apr_text("real"), json("4.0") }, { apr_text("max"), json("18446744073709551615") },
        { apr_text("i8"), { .type = APR_META_I8, .i = 5 } }, { apr_text("u16"), { .type = APR_META_U16, .u = 6 } },
        { apr_text("bool"), { .type = APR_META_BOOL, .b = true } },
    };
    const struct apr_meta meta = { entry, APR_LENGTH(entry), APR_LENGTH(entry) };
    static const struct { const char *key; bool found; uint64_t n; } rows[] = {
        { "a", true, 2 }, { "max", true, UINT64_MAX }, { "i8", true, 5 }, { "u16", true, 6 },
        { "neg", false, 0 }, { "real", false, 0 }, { "b", false, 0 }, { "bool", false, 0 }, { "absent", false, 0 }, { "", false, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        uint64_t n = 0;
        if (apr_meta_unsigned(&meta, rows[i].key, &n) != rows[i].found || n != rows[i].n)
            fail_msg("key \"%s\"", rows[i].key);
    }
    assert_ptr_equal(apr_meta_find(&meta, "a"), &entry[2].value);
    assert_null(apr_meta_find(&meta, "absent"));
    assert_true(apr_bytes_is(apr_meta_string(&meta, "b"), "text"));
    assert_int_equal(apr_meta_string(&meta, "a").n, 0);
}

static void every_type_has_its_word_and_width(void **state)
{
    (void)state;
    static const struct { const char *word; unsigned width; } rows[] = {
        { "u8", 1 },   { "i8", 1 },  { "u16", 2 }, { "i16", 2 }, { "u32", 4 }, { "i32", 4 },  { "f32", 4 }, { "bool", 1 },
        { "str", 0 },  { "arr", 0 }, { "u64", 8 }, { "i64", 8 }, { "f64", 8 }, { "null", 0 }, { "obj", 0 }, { "any", 0 },
    };
    for (unsigned i = 0; i < APR_LENGTH(rows); i++) {
        assert_string_equal(apr_meta_type_word((enum apr_meta_type)i), rows[i].word);
        assert_int_equal(apr_meta_width((enum apr_meta_type)i), rows[i].width);
    }
    assert_int_equal(apr_meta_width((enum apr_meta_type)99), 0);
}

static void gguf_numbers_are_read_in_both_byte_orders(void **state)
{
    (void)state;
    static const struct { enum apr_meta_type type; uint64_t bits; struct apr_value want; } rows[] = {
        { APR_META_U8, 0xfe, { .u = 254 } },          { APR_META_I8, 0xfe, { .i = -2 } },
        { APR_META_U16, 0xfffe, { .u = 65534 } },     { APR_META_I16, 0xfffe, { .i = -2 } },
        { APR_META_U32, 0xfffffffe, { .u = 0xfffffffe } }, { APR_META_I32, 0xfffffffe, { .i = -2 } },
        { APR_META_U64, UINT64_MAX, { .u = UINT64_MAX } }, { APR_META_I64, UINT64_MAX - 1, { .i = -2 } },
        { APR_META_F32, 0xbfc00000, { .f = -1.5 } },  { APR_META_F64, 0xbff8000000000000, { .f = -1.5 } },
    };
    for (int big = 0; big < 2; big++) {
        for (size_t i = 0; i < APR_LENGTH(rows); i++) {
            struct test_bytes b = { .big = big != 0 };
            test_integer(&b, rows[i].bits, apr_meta_width(rows[i].type));
            test_integer(&b, rows[i].bits, apr_meta_width(rows[i].type));
            const struct apr_value array = gguf_array(&b, rows[i].type, 2);
            struct apr_elements w = apr_elements_of(&array);
            struct apr_value v;
            for (int k = 0; k < 2; k++) {
                assert_true(apr_elements_next(&w, &v));
                assert_int_equal(v.type, rows[i].type);
                assert_int_equal(v.u, rows[i].want.u);
            }
            assert_false(apr_elements_next(&w, &v));
            assert_false(apr_elements_next(&w, &v));
            apr_elements_end(&w);
            test_free(&b);
        }
    }
}

static void numbers_of_all_kinds_are_doubles(void **state)
{
    (void)state;
    static const struct { struct apr_value v; double number; } rows[] = {
        { { .type = APR_META_U8, .u = 255 }, 255 },      { { .type = APR_META_U64, .u = UINT64_MAX }, 0x1p64 },
        { { .type = APR_META_I16, .i = -7 }, -7 },       { { .type = APR_META_I64, .i = INT64_MIN }, -0x1p63 },
        { { .type = APR_META_F32, .f = 0.5 }, 0.5 },     { { .type = APR_META_F64, .f = -0.25 }, -0.25 },
        { { .type = APR_META_BOOL, .b = true }, 1 },
    };
    double number;
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        assert_true(apr_meta_number(&rows[i].v, &number) && number == rows[i].number);
    for (enum apr_meta_type t = APR_META_STRING; t <= APR_META_ARRAY; t++)
        assert_false(apr_meta_number(&(struct apr_value){ .type = t, .u = 1 }, &number));
    assert_false(apr_meta_number(&(struct apr_value){ .type = APR_META_NULL }, &number));
}

static void gguf_strings_and_nested_arrays_are_views(void **state)
{
    (void)state;
    struct test_bytes b = { 0 };
    test_integer(&b, APR_META_STRING, 4);
    test_integer(&b, 2, 8);
    put_string(&b, "one");
    put_string(&b, "");
    test_integer(&b, APR_META_U16, 4);
    test_integer(&b, 3, 8);
    for (unsigned i = 7; i < 10; i++)
        test_integer(&b, i, 2);
    const struct apr_value array = gguf_array(&b, APR_META_ARRAY, 2);
    struct apr_elements outer = apr_elements_of(&array), inner;
    struct apr_value v, x;
    assert_true(apr_elements_next(&outer, &v));
    assert_int_equal(v.type, APR_META_ARRAY);
    assert_int_equal(v.element, APR_META_STRING);
    assert_int_equal(apr_meta_length(&v), 2);
    inner = apr_elements_of(&v);
    assert_true(apr_elements_next(&inner, &x));
    assert_true(apr_bytes_is(x.text, "one"));
    assert_true(apr_elements_next(&inner, &x));
    assert_int_equal(x.text.n, 0);
    assert_false(apr_elements_next(&inner, &x));
    assert_true(apr_elements_next(&outer, &v));
    inner = apr_elements_of(&v);
    for (unsigned i = 7; i < 10; i++) {
        assert_true(apr_elements_next(&inner, &x));
        assert_int_equal(x.u, i);
    }
    assert_false(apr_elements_next(&outer, &v));
    test_free(&b);
}

static void gguf_counts_that_lie_end_the_walk_inside_the_bytes(void **state)
{
    (void)state;
    static const enum apr_meta_type types[] = { APR_META_U8, APR_META_U64, APR_META_STRING, APR_META_ARRAY, APR_META_NULL, APR_META_ANY };
    static const uint64_t counts[] = { 1, 3, UINT64_C(1) << 32, UINT64_MAX };
    struct test_bytes b = { 0 };
    for (int i = 0; i < 40; i++)
        test_integer(&b, i % 8 == 0 ? 9 : 0xff, 1);
    for (size_t t = 0; t < APR_LENGTH(types); t++) {
        for (size_t c = 0; c < APR_LENGTH(counts); c++) {
            for (size_t n = 0; n <= b.n; n++) {
                struct apr_value array = gguf_array(&b, types[t], counts[c]), v;
                array.text.n = n;
                struct apr_elements w = apr_elements_of(&array);
                size_t steps = 0;
                while (apr_elements_next(&w, &v)) {
                    assert_true(v.text.n <= n);
                    assert_true(++steps <= n);
                }
                apr_elements_end(&w);
            }
        }
    }
    test_free(&b);
}

static void json_elements_have_the_type_of_their_spelling(void **state)
{
    (void)state;
    const struct apr_value array = json("[1, -1, 1.5, true, null, \"a\", \"\\u00e9\", [1], {}, \"\\n\"]");
    static const enum apr_meta_type types[] = { APR_META_U64, APR_META_I64, APR_META_F64, APR_META_BOOL, APR_META_NULL, APR_META_STRING,
                                                APR_META_STRING, APR_META_ARRAY, APR_META_OBJECT, APR_META_STRING };
    struct apr_elements w = apr_elements_of(&array);
    struct apr_value v;
    assert_int_equal(apr_meta_length(&array), APR_LENGTH(types));
    for (size_t i = 0; i < APR_LENGTH(types); i++) {
        assert_true(apr_elements_next(&w, &v));
        assert_int_equal(v.type, types[i]);
        if (i == 6)
            assert_true(apr_bytes_is(v.text, "\xc3\xa9"));
    }
    assert_true(apr_bytes_is(v.text, "\n"));
    assert_false(apr_elements_next(&w, &v));
    assert_false(apr_elements_next(&w, &v));
    apr_elements_end(&w);
}

static void json_members_have_decoded_keys(void **state)
{
    (void)state;
    const struct apr_value object = json("{ \"a\\tb\": \"c\\td\", \"\": 2 }");
    struct apr_elements w = apr_elements_of(&object);
    struct apr_value v;
    assert_true(apr_elements_next(&w, &v));
    assert_true(apr_bytes_is(w.key, "a\tb"));
    assert_true(apr_bytes_is(v.text, "c\td"));
    assert_true(apr_elements_next(&w, &v));
    assert_int_equal(w.key.n, 0);
    assert_int_equal(v.u, 2);
    assert_false(apr_elements_next(&w, &v));
    apr_elements_end(&w);
    const struct apr_value empty = json("{}"), none = json("[ ]");
    assert_int_equal(apr_meta_length(&empty), 0);
    assert_int_equal(apr_meta_length(&none), 0);
}

static void json_values_are_equal_by_what_they_say(void **state)
{
    (void)state;
    static const struct { const char *a, *b; bool equal; } rows[] = {
        { "1", "1", true },               { "1", "1.0", false },           { "1.0", "1.00", true },          { "0.0", "-0.0", false },
        { "\"a\"", "\"a\"", true },       { "\"a\"", "\"b\"", false },     { "null", "null", true },         { "true", "false", false },
        { "[1,2]", "[ 1 , 2 ]", true },   { "[1,2]", "[2,1]", false },     { "[1]", "[1,2]", false },        { "[]", "[ ]", true },
        { "[\"\\u0061\"]", "[\"a\"]", true }, { "[[1],[2]]", "[[1], [2]]", true }, { "[[1],[2]]", "[[1],[3]]", false },
        { "[]", "{}", false },
        { "{\"a\":1,\"b\":[2]}", "{\"b\":[ 2],\"a\":1}", true },           { "{\"a\":1}", "{\"a\":2}", false },
        { "{\"a\":1}", "{\"b\":1}", false },
        { "{\"a\":1}", "{\"a\":1,\"b\":1}", false },                       { "{\"a\":\"\\n\"}", "{\"a\": \"\\u000a\"}", true },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_value a = json(rows[i].a), b = json(rows[i].b);
        if (apr_value_equal(&a, &b) != rows[i].equal || apr_value_equal(&b, &a) != rows[i].equal)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
        assert_true(apr_value_equal(&a, &a));
    }
}

static void arrays_are_equal_across_byte_orders_and_encodings(void **state)
{
    (void)state;
    struct test_bytes little = { 0 }, big = { .big = true }, other = { 0 }, words = { 0 };
    for (unsigned i = 1; i < 4; i++) {
        test_integer(&little, i, 4);
        test_integer(&big, i, 4);
        test_integer(&other, i == 3 ? 9 : i, 4);
    }
    put_string(&words, "a");
    put_string(&words, "b\n");
    const struct apr_value a = gguf_array(&little, APR_META_U32, 3), b = gguf_array(&big, APR_META_U32, 3);
    const struct apr_value c = gguf_array(&other, APR_META_U32, 3), d = gguf_array(&little, APR_META_I32, 3);
    const struct apr_value e = gguf_array(&words, APR_META_STRING, 2), f = json("[\"a\",\"b\\n\"]");
    assert_true(apr_value_equal(&a, &b));
    assert_false(apr_value_equal(&a, &c));
    assert_false(apr_value_equal(&a, &d));
    assert_true(apr_value_equal(&e, &f));
    assert_true(apr_value_equal(&f, &e));
    assert_false(apr_value_equal(&a, &f));
    test_free(&little);
    test_free(&big);
    test_free(&other);
    test_free(&words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_found_and_the_last_twin_wins),
        cmocka_unit_test(every_type_has_its_word_and_width),
        cmocka_unit_test(gguf_numbers_are_read_in_both_byte_orders),
        cmocka_unit_test(numbers_of_all_kinds_are_doubles),
        cmocka_unit_test(gguf_strings_and_nested_arrays_are_views),
        cmocka_unit_test(gguf_counts_that_lie_end_the_walk_inside_the_bytes),
        cmocka_unit_test(json_elements_have_the_type_of_their_spelling),
        cmocka_unit_test(json_members_have_decoded_keys),
        cmocka_unit_test(json_values_are_equal_by_what_they_say),
        cmocka_unit_test(arrays_are_equal_across_byte_orders_and_encodings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
