/* lib/ui/report.h: JSON and text as they reach a stream. */
#include "support.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>

#include <jansson.h>

#include "base/bytes.h"
#include "ui/report.h"

/* A report into memory: begin, write to r.o, then say what must stand there. */
struct recorder {
    struct apr_out o;
    char          *text;
    size_t         n;
};

static void begin(struct recorder *r)
{
    *r = (struct recorder){ 0 };
    r->o.to = open_memstream(&r->text, &r->n);
    assert_non_null(r->o.to);
}

static void expect(struct recorder *r, const char *text)
{
    fclose(r->o.to);
    assert_string_equal(r->text, text);
    free(r->text);
}

static void commas_stand_between_values_and_nowhere_else(void **state)
{
    (void)state;
    struct recorder r;
    begin(&r);
    struct apr_out *const o = &r.o;
    apr_out_open(o, NULL, '{');
    apr_out_open(o, "empty", '{');
    apr_out_close(o, '}');
    apr_out_counts(o, "shape", (const uint64_t[]){ 256, UINT64_MAX }, 2);
    apr_out_counts(o, "none", NULL, 0);
    apr_out_open(o, "rows", '[');
    for (int i = 0; i < 2; i++) {
        apr_out_open(o, NULL, '{');
        apr_out_int(o, "i", i == 0 ? INT64_MIN : 1);
        apr_out_bool(o, "first", i == 0);
        apr_out_close(o, '}');
    }
    apr_out_close(o, ']');
    apr_out_null(o, "nothing");
    apr_out_text(o, "absent", NULL);
    apr_out_key(o, apr_text("a\"b"));
    apr_out_count(o, NULL, 7);
    apr_out_key(o, apr_text(""));
    apr_out_open(o, NULL, '[');
    apr_out_close(o, ']');
    apr_out_raw(o, "raw", apr_text("1e400"));
    apr_out_close(o, '}');
    apr_out_line(o);
    apr_out_open(o, NULL, '[');
    apr_out_close(o, ']');
    apr_out_line(o);
    expect(&r, "{\"empty\":{},\"shape\":[256,18446744073709551615],\"none\":[],\"rows\":[{\"i\":-9223372036854775808,\"first\":true},"
               "{\"i\":1,\"first\":false}],\"nothing\":null,\"absent\":null,\"a\\\"b\":7,\"\":[],\"raw\":1e400}\n[]\n");
}

static const struct {
    const char *bytes;
    size_t      n;
    const char *json, *terminal;
    size_t      columns;
} strings[] = {
    { "", 0, "\"\"", "", 0 },
    { "blk.0.attn_q", 12, "\"blk.0.attn_q\"", "blk.0.attn_q", 12 },
    { "a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"", "a\"b\\c/d", 7 },
    { "\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"", "\\x08\\x0c\\x0a\\x0d\\x09", 20 },
    { "\0x\x1F\x7F", 4, "\"\\u0000x\\u001f\\u007f\"", "\\x00x\\x1f\\x7f", 13 },
    { "\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80", 9,
      "\"\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80\"",
      "\xC3\xA9\xE6\xBC\xA2\xF0\x9F\x98\x80", 3 },
    { "\xC2\x9B" "2J", 4, "\"\\u009b2J\"", "\\xc2\\x9b2J", 10 },
    { "\xE2\x80\xAEgpj\xE2\x81\xA6\xD8\x9C", 11, "\"\\u202egpj\\u2066\\u061c\"", "\\xe2\\x80\\xaegpj\\xe2\\x81\\xa6\\xd8\\x9c", 35 },
    { "\xE2\x80\xA7\xE2\x80\xAF\xE2\x81\xAA", 9, "\"\xE2\x80\xA7\xE2\x80\xAF\xE2\x81\xAA\"", "\xE2\x80\xA7\xE2\x80\xAF\xE2\x81\xAA", 3 },
    { "\xC2\xA0", 2, "\"\xC2\xA0\"", "\xC2\xA0", 1 },
    { "a\xFFz", 3, "\"a\xEF\xBF\xBDz\"", "a\\xffz", 6 },
    { "\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"", "\\xed\\xa0\\x80", 12 },
    { "\xE6\xBC", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\"", "\\xe6\\xbc", 8 },
    { "\x1B[31m", 5, "\"\\u001b[31m\"", "\\x1b[31m", 8 },
};

static void strings_are_escaped_for_their_reader(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(strings); i++) {
        const struct apr_bytes s = { strings[i].n ? (const unsigned char *)strings[i].bytes : NULL, strings[i].n };
        struct recorder r;
        begin(&r);
        apr_out_bytes(&r.o, NULL, s);
        expect(&r, strings[i].json);
        begin(&r);
        apr_print_bytes(r.o.to, s);
        expect(&r, strings[i].terminal);
        assert_int_equal(apr_columns(s), strings[i].columns);
        json_t *const read = json_loads(strings[i].json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(read);
        json_decref(read);
    }
}

static void reals_have_their_shortest_spelling(void **state)
{
    (void)state;
    static const struct { double v; const char *text; } rows[] = {
        { 0, "0" }, { -0.0, "0" }, { 1, "1" }, { -1, "-1" }, { 0.5, "0.5" }, { 0.1, "0.1" }, { 1e20, "1e+20" }, { 123456, "123456" },
        { 1.0 / 3, "0.3333333333333333" }, { 0.1 + 0.2, "0.30000000000000004" }, { DBL_MAX, "1.7976931348623157e+308" },
        { DBL_MIN, "2.2250738585072014e-308" }, { 5e-324, "5e-324" }, { -1.5e-320, "-1.5e-320" },
        { 9007199254740993.0, "9007199254740992" }, { (double)0.1f, "0.10000000149011612" }, { 0.99999999999999989, "0.9999999999999999" },
    };
    char buffer[32];
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        assert_string_equal(apr_spell_real(rows[i].v, buffer), rows[i].text);

    static const double none[] = { (double)NAN, (double)INFINITY, -(double)INFINITY };
    for (size_t i = 0; i < APR_LENGTH(none); i++) {
        struct recorder r;
        begin(&r);
        apr_out_real(&r.o, NULL, none[i]);
        expect(&r, "null");
    }
}

static void any_double_reads_back_as_itself(void **state)
{
    (void)state;
    uint64_t seed = 0x9E3779B97F4A7C15, bits;
    for (int i = 0; i < 20000; i++) {
        double v, back;
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        bits = i % 4 ? seed : seed & ~0x7FF0000000000000u;  /* every fourth is subnormal */
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v))
            continue;
        char buffer[32];
        back = strtod(apr_spell_real(v, buffer), NULL);
        assert_memory_equal(&back, &v, sizeof v);
    }
}

static void the_users_locale_changes_no_number(void **state)
{
    (void)state;
    static const char *const with_comma[] = { "de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "pt_BR.UTF-8" };
    const char *set = NULL;
    for (size_t i = 0; i < APR_LENGTH(with_comma) && set == NULL; i++)
        set = setlocale(LC_ALL, with_comma[i]);
    if (set == NULL)
        skip();
    char real[32], size[32];
    apr_spell_real(0.5, real);
    apr_spell_size(1500, size);
    setlocale(LC_ALL, "C");
    assert_string_equal(real, "0.5");
    assert_string_equal(size, "1.5 kB");
}

static void raw_json_loses_only_its_white_space(void **state)
{
    (void)state;
    static const struct { const char *in, *out; } rows[] = {
        { "{ \"a b\" : [ 1,\n\t2 ] }\r\n", "{\"a b\":[1,2]}" },
        { "[\"\\\" x \\\\\" , \"y z\"]", "[\"\\\" x \\\\\",\"y z\"]" },
        { "1.0e+0", "1.0e+0" },
        { "{\"\xE2\x80\xAE\": \"\x7F \xC2\x9B \\u202e\"}", "{\"\\u202e\":\"\\u007f \\u009b \\u202e\"}" }, /* or what commands a terminal */
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct recorder r;
        begin(&r);
        apr_out_raw(&r.o, NULL, apr_text(rows[i].in));
        expect(&r, rows[i].out);
    }
}

static void metadata_is_written_by_its_type(void **state)
{
    (void)state;
    static const unsigned char numbers[] = { 1, 0, 2, 0, 255, 255 };
    static const unsigned char nested[] = { 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
    static const unsigned char long_array[20] = { 1, 2, 3 };
    const struct apr_bytes object = apr_text("{\"k\": 1}"), list = apr_text("[1, \"x\", {\"y\": 2}]");
    const struct { struct apr_value v; uint64_t most; const char *json; } rows[] = {
        { { .type = APR_META_U8, .u = 7 }, 0, "7" },
        { { .type = APR_META_U64, .u = UINT64_MAX }, 0, "18446744073709551615" },
        { { .type = APR_META_I32, .i = -5 }, 0, "-5" },
        { { .type = APR_META_F32, .f = 0.5 }, 0, "0.5" },
        { { .type = APR_META_F64, .f = (double)NAN }, 0, "null" },
        { { .type = APR_META_BOOL, .b = true }, 0, "true" },
        { { .type = APR_META_NULL }, 0, "null" },
        { { .type = APR_META_STRING, .text = apr_text("a\nb") }, 0, "\"a\\nb\"" },
        { { .type = APR_META_F64, .encoding = APR_JSON, .f = 1e-5, .text = apr_text("1.00e-05") }, 0, "1.00e-05" },
        { { .type = APR_META_I64, .encoding = APR_JSON, .i = 3, .text = apr_text("3") }, 0, "3" },
        { { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = object }, 0, "{\"k\":1}" },
        { { .type = APR_META_ARRAY, .encoding = APR_JSON, .element = APR_META_ANY, .text = list }, 0, "[1,\"x\",{\"y\":2}]" },
        { { .type = APR_META_ARRAY, .encoding = APR_JSON, .element = APR_META_ANY, .text = list }, 3, "[1,\"x\",{\"y\":2}]" },
        { { .type = APR_META_ARRAY, .encoding = APR_JSON, .element = APR_META_ANY, .text = list }, 2,
          "{\"type\":\"any\",\"len\":3,\"first\":[1,\"x\",{\"y\":2}]}" },
        { { .type = APR_META_ARRAY, .element = APR_META_I16, .n = 3, .text = { numbers, sizeof numbers } }, 16, "[1,2,-1]" },
        { { .type = APR_META_ARRAY, .element = APR_META_ARRAY, .n = 2, .text = { nested, sizeof nested } }, 16, "[[8,9],[]]" },
        { { .type = APR_META_ARRAY, .element = APR_META_U8, .n = 20, .text = { long_array, sizeof long_array } }, 16,
          "{\"type\":\"u8\",\"len\":20,\"first\":[1,2,3,0,0,0,0,0,0,0,0,0,0,0,0,0]}" },
        { { .type = APR_META_ARRAY, .element = APR_META_U8, .n = 20, .text = { long_array, sizeof long_array } }, 0,
          "[1,2,3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct recorder r;
        begin(&r);
        apr_out_value(&r.o, NULL, &rows[i].v, rows[i].most);
        expect(&r, rows[i].json);
    }
}

static void nesting_ends_before_our_depth_does(void **state)
{
    (void)state;
    struct test_bytes b = { 0 };
    for (int i = 0; i < 60; i++) {              /* | u32 array | u64 1 | over and over */
        test_integer(&b, APR_META_ARRAY, 4);
        test_integer(&b, 1, 8);
    }
    test_integer(&b, APR_META_U8, 4);
    test_integer(&b, 0, 8);
    const struct apr_value v = { .type = APR_META_ARRAY, .element = APR_META_ARRAY, .n = 1, .text = { b.at, b.n } };
    struct recorder r;
    begin(&r);
    apr_out_value(&r.o, NULL, &v, 0);
    fclose(r.o.to);
    assert_non_null(strstr(r.text, "[null]"));
    json_t *const read = json_loads(r.text, 0, NULL);
    assert_non_null(read);
    json_decref(read);
    free(r.text);
    test_free(&b);
}

static void an_error_is_the_last_key(void **state)
{
    (void)state;
    struct apr_error e;
    struct recorder r;
    begin(&r);
    apr_fail(&e, APR_ECORRUPT, 4120, "tensor %s ends early", APR_QUOTED(apr_text("a")));
    apr_out_open(&r.o, NULL, '{');
    apr_out_error(&r.o, &e);
    apr_fail(&e, APR_EIO, APR_NOWHERE, "no");
    apr_out_error(&r.o, &e);
    apr_out_close(&r.o, '}');
    expect(&r, "{\"error\":{\"code\":\"corrupt\",\"at\":4120,\"text\":\"tensor \\\"a\\\" ends early\"},"
               "\"error\":{\"code\":\"io\",\"at\":null,\"text\":\"no\"}}");
}

static void sizes_and_shapes_read_well(void **state)
{
    (void)state;
    static const struct { uint64_t n; const char *text; } rows[] = {
        { 0, "0 B" }, { 1, "1 B" }, { 999, "999 B" }, { 1000, "1.0 kB" }, { 1049, "1.0 kB" }, { 1050, "1.1 kB" }, { 1234567, "1.2 MB" },
        { 99949, "99.9 kB" }, { 99950, "100 kB" }, { 999499, "999 kB" }, { 999500, "1.0 MB" }, { 3100000000, "3.1 GB" },
        { 999999999999, "1.0 TB" }, { UINT64_MAX, "18.4 EB" },
    };
    char size[32], shape[176];
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        assert_string_equal(apr_spell_size(rows[i].n, size), rows[i].text);
    assert_string_equal(apr_spell_shape(NULL, 0, shape), "[]");
    assert_string_equal(apr_spell_shape((const uint64_t[]){ 256, 512 }, 2, shape), "[256, 512]");
    const uint64_t most[APR_MAX_DIMS] = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
    assert_true(strlen(apr_spell_shape(most, APR_MAX_DIMS, shape)) < sizeof shape);
}

static void no_colour_means_no_escape(void **state)
{
    (void)state;
    assert_string_equal(apr_style(false, APR_RED), "");
    assert_string_equal(apr_style(true, APR_PLAIN), "\033[0m");
    assert_string_equal(apr_style(true, APR_YELLOW), "\033[33m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_stand_between_values_and_nowhere_else),
        cmocka_unit_test(strings_are_escaped_for_their_reader),
        cmocka_unit_test(reals_have_their_shortest_spelling),
        cmocka_unit_test(any_double_reads_back_as_itself),
        cmocka_unit_test(the_users_locale_changes_no_number),
        cmocka_unit_test(raw_json_loses_only_its_white_space),
        cmocka_unit_test(metadata_is_written_by_its_type),
        cmocka_unit_test(nesting_ends_before_our_depth_does),
        cmocka_unit_test(an_error_is_the_last_key),
        cmocka_unit_test(sizes_and_shapes_read_well),
        cmocka_unit_test(no_colour_means_no_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
