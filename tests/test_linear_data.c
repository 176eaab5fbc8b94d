/* What apr-linear learns from: numbers, tables, arrays. */
#include "support.h"

#include <math.h>
#include <stdio.h>

#include "../tools/apr-linear/data.h"
#include "base/bytes.h"

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

static void expect_as_strtod(const char *text)
{
    double v = 0;
    const double want = strtod(text, NULL);
    assert_int_equal(number_read(apr_text(text), &v), NUMBER_FINITE);
    if (memcmp(&v, &want, sizeof v) != 0)
        fail_msg("%s is %.17g, not %.17g", text, v, want);
}

static void numbers_are_what_strtod_reads(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "0", "-0", "+5", "5.", ".5", " \t1", "1e5", "1E+05", "1e-5", "123456789012345678", "12345678901234567890123", "9007199254740993",
        "9007199254740992.5", "0.1", "0.30000000000000004", "179769313486231570814527423731704356798070", "1e22", "1e23", "9007199254740993e22",
        "2.2250738585072011e-308", "4.9e-324", "1.7976931348623157e308", "00000000000000000000000000001.5", "0.00000000000000000000000000015",
        "1e-27", "18446744073709551615e-27", "9999999999999999999e27", "7.038531e-26", "0e999999999",
    };
    for (size_t i = 0; i < APR_LENGTH(texts); i++)
        expect_as_strtod(texts[i]);
}

static void numbers_of_every_length_are_what_strtod_reads(void **state)
{
    (void)state;
    char text[64];
    for (unsigned i = 0; i < 300000; i++) {
        const uint64_t bits = test_random(UINT64_MAX);
        double v;
        memcpy(&v, &bits, sizeof v);
        if (i % 3 == 0)
            snprintf(text, sizeof text, "%.*g", (int)test_random(21), isfinite(v) ? v : 1.5);
        else if (i % 3 == 1)
            snprintf(text, sizeof text, "%.*f", (int)test_random(20), (double)(int64_t)bits * 0x1p-53);
        else
            snprintf(text, sizeof text, "%llue%d", (unsigned long long)(bits >> test_random(64)), (int)test_random(60) - 30);
        expect_as_strtod(text);
    }
}

static void what_is_no_number_is_nothing_or_text(void **state)
{
    (void)state;
    static const struct {
        const char      *text;
        enum number_kind kind;
    } rows[] = {
        { "", NUMBER_NONE },     { "  ", NUMBER_NONE },   { "nan", NUMBER_NONE },  { "-NaN", NUMBER_NONE }, { "inf", NUMBER_NONE },
        { "-Infinity", NUMBER_NONE }, { "1e999", NUMBER_NONE }, { "a", NUMBER_TEXT },   { "1 ", NUMBER_TEXT },   { "1,5", NUMBER_TEXT },
        { "4e", NUMBER_TEXT },   { "0x1p3", NUMBER_TEXT }, { "--1", NUMBER_TEXT },  { ".", NUMBER_TEXT },    { "1e+", NUMBER_TEXT },
        { "nano", NUMBER_TEXT }, { "e5", NUMBER_TEXT },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        double v;
        if (number_read(apr_text(rows[i].text), &v) != rows[i].kind)
            fail_msg("\"%s\"", rows[i].text);
    }
}

/* ---- fields --------------------------------------------------------------------------------------------------------- */

static void fields_are_cut_as_rfc_4180_has_them(void **state)
{
    (void)state;
    static const struct {
        const char    *text, *fields; /* of the first row, each behind a '|' */
        enum csv_after after;
    } rows[] = {
        { "a,b\n", "|a|b", CSV_ROW },          { "a,b", "|a|b", CSV_ROW },         { "a,b\r\nc", "|a|b", CSV_ROW },
        { "\"a,b\",c\n", "|a,b|c", CSV_ROW },  { "\"a\"\"b\"\n", "|a\"b", CSV_ROW }, { "\"a\nb\",c\n", "|a\nb|c", CSV_ROW },
        { ",\n", "||", CSV_ROW },              { "\"\",\"\"\r\n", "||", CSV_ROW },  { "a\"b,c\n", "|a\"b|c", CSV_ROW },
        { "\"a", "|a", CSV_OPEN },             { "\"a\"b,c\n", "|a", CSV_BEHIND },  { "a\rb\n", "|a\rb", CSV_ROW },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct csv c = { (const unsigned char *)rows[i].text, (const unsigned char *)rows[i].text + strlen(rows[i].text), ',', 1 };
        struct test_bytes got = { 0 };
        struct csv_field f;
        enum csv_after after;
        do {
            unsigned char room[16];
            after = csv_next(&c, &f);
            const struct apr_bytes text = csv_text(&f, room);
            test_text(&got, "|");
            test_put(&got, text.at, text.n);
        } while (after == CSV_FIELD);
        test_put(&got, "", 1);
        assert_string_equal((const char *)got.at, rows[i].fields);
        assert_int_equal(after, rows[i].after);
        test_free(&got);
    }
}

static void a_stretch_ends_where_a_row_does(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t      end;
        uint64_t    lines;
    } rows[] = {
        { "a\nb\nc", 4, 2 }, { "a", 0, 0 }, { "", 0, 0 }, { "\"a\nb\"\nc", 6, 2 }, { "\"a\nb", 0, 0 }, { "\"a\n\"\"\n\"\n", 8, 3 },
        { "x\n\"a\"", 2, 1 }, { "1,\"a\n\",2\n3,", 9, 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const unsigned char *const at = (const unsigned char *)rows[i].text;
        uint64_t lines = 99;
        assert_int_equal(csv_last_row(at, at + strlen(rows[i].text), ',', &lines) - at, rows[i].end);
        assert_int_equal(lines, rows[i].lines);
    }
}

/* ---- tables --------------------------------------------------------------------------------------------------------- */

static struct data read_text(const char *text, struct data_wish w, enum apr_code want, const char *words)
{
    struct data d;
    struct apr_error e;
    w.path = test_file("data.csv", text, strlen(text));
    const enum apr_code code = data_read(&d, &w, test_run_with(1), &e);
    if (code != want || (code != APR_OK && strstr(e.text, words) == NULL))
        fail_msg("%s\ngives %d: %s", text, code, code == APR_OK ? "" : e.text);
    return d;
}

static void bad_tables_are_told_by_line_and_column(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } rows[] = {
        { "", "no row" },
        { "\n\r\n", "no row" },
        { "a,b,y\n", "no row" },
        { "width,height,y\n1,2,0\n3,,1\n", "line 3, column \"height\"" },
        { "width,height,y\n1,2,0\n3,twelve,1\n", "line 3, column \"height\": \"twelve\"" },
        { "1,nan,0\n", "line 1, column 2: \"nan\"" },
        { "1,2,0\n3,1e999,1\n", "line 2, column 2: \"1e999\"" },
        { "1,2,0\n\n3,1\n", "line 3 has 2 fields, not 3" },
        { "1,2,0\n3,4,5,1\n", "line 2 has more than 3 fields" },
        { "1,2,0\n\"3,4,1\n", "line 2, column 1: its quotes do not end" },
        { "1,2,0\n\"3\"4,4,1\n", "line 2, column 1: something follows" },
        { "a,b,y\n1,2,\n", "line 2, column \"y\": nothing stands there" },
        { "a,b,y\n1,2,0\n2,3,0\n", "one class, \"0\"" },
        { "a,a,y\n1,2,0\n2,3,1\n", "two columns have the name \"a\"" },
        { "w,y\n\"1\",\"a\nb\"\ntwelve,c\n", "line 4, column \"w\": \"twelve\"" },
        { "w,y\n1,a\n2,\xff\n", "line 3: the target" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct data d = read_text(rows[i].text, (struct data_wish){ .learn = LEARN_LOGISTIC }, APR_ECORRUPT, rows[i].words);
        data_free(&d);
    }
}

static void columns_are_as_told(void **state)
{
    (void)state;
    const char *drop = "b";
    struct data d = read_text("\xEF\xBB\xBFy;a;b;c\nno;1;x;2\nyes;3;;4\n",
                              (struct data_wish){ .table = { .target = "y", .delimiter = ";", .drop = { &drop, 1 } } }, APR_OK, "");
    assert_int_equal(d.n, 2);
    assert_int_equal(d.p, 2);
    assert_true(apr_bytes_is(d.name[0], "a") && apr_bytes_is(d.name[1], "c"));
    assert_true(d.x[0] == 1 && d.x[1] == 2 && d.x[2] == 3 && d.x[3] == 4);
    assert_true(apr_bytes_is(d.class[0].text, "no") && apr_bytes_is(d.class[1].json, "\"yes\""));
    data_free(&d);
    d = read_text("0\n1\n", (struct data_wish){ 0 }, APR_EARG, "no column to learn from");
    data_free(&d);
    drop = "d";
    d = read_text("a,b,y\n1,2,3\n", (struct data_wish){ .table = { .drop = { &drop, 1 } } }, APR_EARG, "no such column");
    data_free(&d);
    d = read_text("a,b,y\n1,2,3\n", (struct data_wish){ .table = { .target = "4" } }, APR_EARG, "columns, 1 to 3");
    data_free(&d);
}

static void a_name_that_stands_twice_is_dropped_whole_and_no_target(void **state)
{
    (void)state;
    const char *drop = "a";
    struct data d = read_text("a,b,a,y\n1,2,3,0\n4,5,6,1\n", (struct data_wish){ .table = { .drop = { &drop, 1 } } }, APR_OK, "");
    assert_true(d.p == 1 && d.x[0] == 2 && d.x[1] == 5);
    data_free(&d);
    d = read_text("y,b,y\n1,2,3\n", (struct data_wish){ .table = { .target = "y" } }, APR_EARG, "two columns");
    data_free(&d);
}

static void a_target_that_must_be_a_number_is_left_out_where_it_is_none(void **state)
{
    (void)state;
    static const char text[] = "a,y\n1,2\n3,high\n5,\n7,8\n";
    struct data d = read_text(text, (struct data_wish){ .table = { .missing = 1 }, .learn = LEARN_LINEAR }, APR_OK, "");
    assert_true(d.n == 2 && d.left_out == 2 && d.x[1] == 7 && d.y[1] == 8);
    data_free(&d);
    d = read_text(text, (struct data_wish){ .learn = LEARN_LINEAR }, APR_ECORRUPT, "line 3, column \"y\": \"high\"");
    data_free(&d);
}

static void tabs_are_seen_behind_empty_lines(void **state)
{
    (void)state;
    struct data d = read_text("\xEF\xBB\xBF\n\r\n1\t2\t0\n3\t4\t1\n", (struct data_wish){ 0 }, APR_OK, "");
    assert_true(d.n == 2 && d.p == 2 && d.x[3] == 4);
    data_free(&d);
}

static void classes_stand_in_their_order(void **state)
{
    (void)state;
    struct data d = read_text("1,10\n2,9\n3,-1\n4,9.0\n", (struct data_wish){ 0 }, APR_OK, "");
    assert_int_equal(d.nclass, 3);
    assert_true(apr_bytes_is(d.class[0].text, "-1") && apr_bytes_is(d.class[1].text, "9") && apr_bytes_is(d.class[2].json, "10"));
    assert_true(d.y[0] == 2 && d.y[1] == 1 && d.y[2] == 0 && d.y[3] == 1);
    data_free(&d);
    d = read_text("1,b\n2,\"a\"\"\"\n3,10\n", (struct data_wish){ 0 }, APR_OK, "");
    assert_true(apr_bytes_is(d.class[0].text, "10") && apr_bytes_is(d.class[1].text, "a\"") && apr_bytes_is(d.class[1].json, "\"a\\\"\""));
    assert_true(d.y[0] == 2 && d.y[1] == 1 && d.y[2] == 0);
    data_free(&d);
    d = read_text("1,0.5\n2,1\n", (struct data_wish){ 0 }, APR_OK, "");
    assert_int_equal(d.nclass, 0);
    data_free(&d);
}

/* Some megabytes, so that there are stretches; rows that are left out, and quotes, in some of them. */
static void any_number_of_threads_reads_the_same_matrix(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    char row[96];
    for (unsigned i = 0; i < 120000; i++) {
        const int n = snprintf(row, sizeof row, i % 1000 == 7 ? "%u,,\"k\n%u\"\n" : "%u,0.%u,k%u\n", i, i, i % 5);
        test_put(&text, row, (size_t)n);
    }
    struct data d[2];
    for (unsigned i = 0; i < 2; i++) {
        struct apr_error e;
        const struct data_wish w = { .path = test_file("large.csv", text.at, text.n), .table = { .missing = 1 } };
        assert_int_equal(data_read(&d[i], &w, test_run_with(i == 0 ? 1 : 5), &e), APR_OK);
        assert_int_equal(d[i].n, 120000 - 120);
        assert_int_equal(d[i].left_out, 120);
        assert_int_equal(d[i].nclass, 5);
    }
    for (size_t i = 0; i < d[0].n; i++)
        if (d[0].x[2 * i] != d[1].x[2 * i] || d[0].x[2 * i + 1] != d[1].x[2 * i + 1] || d[0].y[i] != d[1].y[i] ||
            d[0].y[i] != (double)((uint64_t)d[0].x[2 * i] % 5))
            fail_msg("row %zu", i);
    data_free(&d[0]);
    data_free(&d[1]);
    test_free(&text);
}

/* Of numpy: array([[1, 2, 0], [3, 4, 1]]) in both orders. */
static void arrays_of_both_orders_are_read(void **state)
{
    (void)state;
    static const double rows[] = { 1, 2, 0, 3, 4, 1 }, columns[] = { 1, 3, 2, 4, 0, 1 };
    for (unsigned fortran = 0; fortran < 2; fortran++) {
        struct test_bytes b = { 0 };
        struct apr_error e;
        struct data d;
        test_put(&b, "\x93NUMPY\1\0", 8);
        test_integer(&b, 118, 2);
        const size_t at = test_text(&b, fortran ? "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }"
                                                : "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }");
        while (b.n < at + 118)
            test_text(&b, " ");
        test_put(&b, fortran ? columns : rows, sizeof rows);
        assert_int_equal(data_read(&d, &(struct data_wish){ .path = test_file("a.npy", b.at, b.n) }, test_run_with(1), &e), APR_OK);
        assert_true(d.n == 2 && d.p == 2 && d.nclass == 2);
        assert_true(d.x[0] == 1 && d.x[1] == 2 && d.x[2] == 3 && d.x[3] == 4 && d.y[0] == 0 && d.y[1] == 1);
        data_free(&d);
        test_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_what_strtod_reads),
        cmocka_unit_test(numbers_of_every_length_are_what_strtod_reads),
        cmocka_unit_test(what_is_no_number_is_nothing_or_text),
        cmocka_unit_test(fields_are_cut_as_rfc_4180_has_them),
        cmocka_unit_test(a_stretch_ends_where_a_row_does),
        cmocka_unit_test(bad_tables_are_told_by_line_and_column),
        cmocka_unit_test(columns_are_as_told),
        cmocka_unit_test(a_name_that_stands_twice_is_dropped_whole_and_no_target),
        cmocka_unit_test(a_target_that_must_be_a_number_is_left_out_where_it_is_none),
        cmocka_unit_test(tabs_are_seen_behind_empty_lines),
        cmocka_unit_test(classes_stand_in_their_order),
        cmocka_unit_test(any_number_of_threads_reads_the_same_matrix),
        cmocka_unit_test(arrays_of_both_orders_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
