/* apr-diff: the numbers of a row, dtypes, layouts, containers. */
#include "diff.h"

#include <libdeflate.h>

#include "values/chunk.h"

/* ---- numbers ------------------------------------------------------------------------------------------------------- */

static void a_row_holds_the_sums_that_hand_and_paper_give(void **state)
{
    (void)state;
    static const float a[] = { 3, 4, 0, 12 }, b[] = { 3, 4.5f, 0x1p-10f, 12 + 0x1p-7f };
    static const struct {
        const char *key, *value;
    } exact[] = {
        { "element_count", "4" }, { "identical_count", "1" }, { "small_diff_count", "1" }, { "medium_diff_count", "1" },
        { "large_diff_count", "1" }, { "nonfinite_mismatch", "0" }, { "max_diff", "0.5" }, { "max_diff_index", "1" },
        { "status", "LargeDiff" }, { "pass", "true" }, { "layout", "same" }, { "shape_a", "[2,2]" }, { "shape_b", "[2,2]" },
        { "dtype_a", "F32" }, { "dtype_b", "F32" }, { "name", "t" }, { "name_b", "t" }, { "transform", "null" },
        { "cosine_linear", "null" }, { "cosine_transposed", "null" }, { "failed", "[]" },
    };
    const double aa = 9 + 16 + 144, ab = 9 + 18 + 12 * (12 + 0x1p-7), dd = 0.25 + 0x1p-20 + 0x1p-14;
    const double bb = 9 + 20.25 + 0x1p-20 + (12 + 0x1p-7) * (12 + 0x1p-7);
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", test_one("a", "F32", "[2,2]", a, sizeof a),
                                          test_one("b", "F32", "[2,2]", b, sizeof b), NULL), 0);
    const json_t *const row = at(r, "results.0");
    for (size_t i = 0; i < APR_LENGTH(exact); i++)
        expect_text("the row", row, exact[i].key, exact[i].value);
    expect_near("the row", row, "mean_diff", (0.5 + 0x1p-10 + 0x1p-7) / 4);
    expect_near("the row", row, "rmse", sqrt(dd / 4));
    expect_near("the row", row, "cosine_similarity", ab / sqrt(aa * bb));
    expect_near("the row", row, "sqnr_db", 10 * log10(aa / dd));
    expect_near("the row", row, "norm_ratio", sqrt(bb / aa));
    expect_near("the summary", r, "min_cosine", ab / sqrt(aa * bb));
    expect_text("the summary", r, "min_cosine_tensor", "t");
    json_decref(r);
}

static void a_status_begins_at_its_bound(void **state)
{
    (void)state;
    static const struct {
        double      b;
        const char *status, *count;
    } table[] = {
        { 0, "Identical", "identical_count" },         { -0.0, "Identical", "identical_count" },
        { 1e-9, "NearlyIdentical", "small_diff_count" }, { 0x1.0624dd2f1a9fbp-10, "NearlyIdentical", "small_diff_count" },
        { 0.001, "SmallDiff", "medium_diff_count" },   { 0x1.47ae147ae147ap-7, "SmallDiff", "medium_diff_count" },
        { 0.01, "MediumDiff", "large_diff_count" },    { 0x1.9999999999999p-4, "MediumDiff", "large_diff_count" },
        { 0.1, "LargeDiff", "large_diff_count" },      { 0x1.fffffffffffffp-1, "LargeDiff", "large_diff_count" },
        { 1, "Critical", "large_diff_count" },         { -7, "Critical", "large_diff_count" },
    };
    static const double zero;
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        char what[64];
        snprintf(what, sizeof what, "0 against %g", table[i].b);
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--threshold=-1", test_one("a", "F64", "[]", &zero, 8),
                                              test_one("b", "F64", "[]", &table[i].b, 8), NULL), table[i].b != 0); /* zero scaled is zero */
        expect_text(what, r, "results.0.status", table[i].status);
        expect_text(what, at(r, "results.0"), table[i].count, "1");
        expect_text(what, r, "results.0.cosine_similarity", table[i].b == 0 ? "1" : "0");
        json_decref(r);
    }
}

static void nans_and_infinities_match_their_like_alone(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        float       a, b;
        bool        match;
    } table[] = {
        { "NaN, NaN", NAN, NAN, true },           { "NaN, -NaN", NAN, -NAN, true },
        { "inf, inf", INFINITY, INFINITY, true }, { "inf, -inf", INFINITY, -INFINITY, false },
        { "NaN, inf", NAN, INFINITY, false },     { "1, NaN", 1, NAN, false },
        { "-inf, 1", -INFINITY, 1, false },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const float a[] = { 3, table[i].a, 0 }, b[] = { 3, table[i].b, 0.5f };
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--threshold=0.9", "--top=2", test_one("a", "F32", "[3]", a, sizeof a),
                                              test_one("b", "F32", "[3]", b, sizeof b), NULL), !table[i].match);
        const json_t *const row = at(r, "results.0");
        expect_text(table[i].what, row, "nonfinite_mismatch", table[i].match ? "0" : "1");
        expect_text(table[i].what, row, "identical_count", table[i].match ? "2" : "1");
        expect_text(table[i].what, row, "large_diff_count", "1");
        expect_text(table[i].what, row, "max_diff", "0.5");
        expect_text(table[i].what, row, "status", table[i].match ? "LargeDiff" : "Critical");
        expect_near(table[i].what, row, "cosine_similarity", 9 / sqrt(9 * 9.25));
        expect_text(table[i].what, row, "top.0.index", table[i].match ? "2" : "1");
        if (!table[i].match)
            expect_text(table[i].what, row, "top.0.abs_diff", "null");
        json_decref(r);
    }
}

/* Transposed too, and among the worst elements, where they are shown as the doubles next to them. */
static void integers_of_64_bits_are_equal_only_to_themselves(void **state)
{
    (void)state;
    static const int64_t a[] = { INT64_C(1) << 53, INT64_MIN, -1, 7, (INT64_C(1) << 62) + 1, INT64_MAX };
    static const int64_t b[] = { (INT64_C(1) << 53) + 1, INT64_MIN, -1, 7, (INT64_C(1) << 62) + 4, INT64_MAX };
    static const int64_t turned[] = { (INT64_C(1) << 53) + 1, 7, INT64_MIN, (INT64_C(1) << 62) + 4, -1, INT64_MAX };
    static const struct {
        const char    *shape_b, *layout;
        const int64_t *b;
    } table[] = { { "[2,3]", "same", b }, { "[3,2]", "transposed", turned } };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        struct test_answer got = test_tool(APR_DIFF, "--json", "--top=9", "--rows=9", test_one("a", "I64", "[2,3]", a, sizeof a),
                                           test_one("b", "I64", table[i].shape_b, table[i].b, sizeof a), NULL);
        json_t *const r = report_of(got, got.exit);
        const json_t *const row = at(r, "results.0");
        expect_text(table[i].layout, row, "layout", table[i].layout);
        expect_text(table[i].layout, row, "identical_count", "4");
        expect_text(table[i].layout, row, "max_diff", "3");
        expect_text(table[i].layout, row, "max_diff_index", "4");
        expect_text(table[i].layout, row, "top.0.abs_diff", "3");
        expect_text(table[i].layout, row, "top.1.abs_diff", "1");
        assert_int_equal(json_array_size(at(row, "top")), 2);
        expect_text(table[i].layout, row, "rows.0.row", "1");
        expect_text(table[i].layout, row, "rows.0.max_diff", "3");
        expect_text(table[i].layout, row, "rows.1.max_diff", "1");
        json_decref(r);
    }
    static const uint64_t far[] = { UINT64_MAX };
    static const int64_t low[] = { INT64_MIN };
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", test_one("a", "U64", "[1]", far, sizeof far),
                                          test_one("b", "I64", "[1]", low, sizeof low), NULL), 1);
    expect_text("U64 and I64", r, "results.0.max_diff", "2.7670116110564327e19"); /* 2^64 - 1 + 2^63 */
    json_decref(r);
}

static void wide_and_complex_values_keep_all_their_bits(void **state)
{
    (void)state;
    static const int64_t i64[] = { 9007199254740991, -4 }, other_i64[] = { 9007199254740990, -4 };
    static const double f64[] = { 1, 1e200 }, other_f64[] = { 1 + 0x1p-52, 1e200 };
    static const float c64[] = { 1, 2, 3, 4, 5, 6, 7, 8 }, other_c64[] = { 1, 2, 3, 4, 5, 6.5f, 7, 8 };
    static const struct {
        const char *dtype, *shape;
        const void *a, *b;
        size_t      n;
        const char *count, *max, *index, *index_a;
    } table[] = {
        { "I64", "[2]", i64, other_i64, sizeof i64, "2", "1", "0", "[0]" },
        { "F64", "[2]", f64, other_f64, sizeof f64, "2", "2.2204460492503131e-16", "0", "[0]" },
        { "C64", "[2,2]", c64, other_c64, sizeof c64, "8", "0.5", "5", "[1,0,1]" }, /* element [1, 0], its imaginary part */
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const a_path = test_one("a", table[i].dtype, table[i].shape, table[i].a, table[i].n);
        const char *const b_path = test_one("b", table[i].dtype, table[i].shape, table[i].b, table[i].n);
        struct test_answer a = test_tool(APR_DIFF, "--json", "--top=1", a_path, b_path, NULL);
        json_t *const r = report_of(a, a.exit);
        expect_text(table[i].dtype, r, "results.0.element_count", table[i].count);
        expect_text(table[i].dtype, r, "results.0.max_diff", table[i].max);
        expect_text(table[i].dtype, r, "results.0.max_diff_index", table[i].index);
        expect_text(table[i].dtype, r, "results.0.top.0.index_a", table[i].index_a);
        json_decref(r);
    }
}

/* Three chunks and a tail; only the second differs. Against a copy in doubles no chunk can be skipped, and the floats' products
 * are exact there, so all sums must be the same. */
static void sums_do_not_show_which_chunks_were_equal(void **state)
{
    (void)state;
    enum { COUNT = 3 * APR_CHUNK + 5 };
    static const char *const keys[] = { "mean_diff", "max_diff", "max_diff_index", "rmse", "cosine_similarity", "sqnr_db",
                                        "identical_count", "small_diff_count", "large_diff_count" };
    float *const a = malloc(COUNT * sizeof *a), *const b = malloc(COUNT * sizeof *b);
    double *const wide = malloc(COUNT * sizeof *wide);
    char shape[32];
    assert_true(a != NULL && b != NULL && wide != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        a[i] = (float)(i * 7919 % 1000) / 256 - 2;
        b[i] = a[i] + (i / APR_CHUNK == 1 ? (float)(i % 17) / 1024 : 0);
        wide[i] = b[i];
    }
    snprintf(shape, sizeof shape, "[%d]", COUNT);
    const char *const left = test_one("a", "F32", shape, a, COUNT * sizeof *a);
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", left, test_one("b", "F32", shape, b, COUNT * sizeof *b), NULL), 0);
    json_t *const plain = report_of(test_tool(APR_DIFF, "--json", left, test_one("w", "F64", shape, wide, COUNT * sizeof *wide), NULL), 0);
    for (size_t i = 0; i < APR_LENGTH(keys); i++)
        expect_text("doubles against floats", at(plain, "results.0"), keys[i], text_of(at(r, "results.0"), keys[i]));
    expect_text("the differing chunk", r, "results.0.max_diff", "0.015625"); /* 16 / 1024 */
    expect_text("the differing chunk", r, "results.0.max_diff_index", "65551"); /* 65551 % 17 == 16, the first behind 65536 */
    json_decref(r);
    json_decref(plain);
    free(a);
    free(b);
    free(wide);
}

/* ---- layouts ------------------------------------------------------------------------------------------------------- */

#define SIDE 130u /* two tiles and a bit */

static float element(size_t i) { return (float)(i * i * 31 % 509) - 200; }

static void a_layout_is_found_from_shapes_and_values(void **state)
{
    (void)state;
    enum { NROW = 3, NCOL = 5 };
    float a[NROW * NCOL], turned[NROW * NCOL];
    for (size_t i = 0; i < NROW; i++)
        for (size_t k = 0; k < NCOL; k++)
            a[i * NCOL + k] = turned[k * NROW + i] = element(i * NCOL + k);
    const struct {
        const char  *shape_a, *shape_b, *option;
        const float *b;
        size_t       n;
        const char  *layout, *status;
        int          exit;
    } table[] = {
        { "[3,5]", "[3,5]", NULL, a, 15, "same", "Identical", 0 },
        { "[3,5]", "[5,3]", NULL, turned, 15, "transposed", "Transposed", 0 },
        { "[3,5]", "[5,3]", NULL, a, 15, "reversed_shape", "Identical", 0 },
        { "[3,5]", "[5,3]", "--no-transpose", turned, 15, "reversed_shape", "Critical", 1 },
        { "[3,5]", "[15]", NULL, a, 15, "reshaped", "Identical", 0 },
        { "[3,5]", "[3,1,5]", NULL, a, 15, "reshaped", "Identical", 0 },
        { "[3,5]", "[3,4]", NULL, a, 12, "incompatible", "Critical", 1 },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        char what[64];
        snprintf(what, sizeof what, "%s against %s", table[i].shape_a, table[i].shape_b);
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", test_one("a", "F32", table[i].shape_a, a, sizeof a),
                                              test_one("b", "F32", table[i].shape_b, table[i].b, table[i].n * sizeof(float)),
                                              table[i].option, NULL), table[i].exit);
        expect_text(what, r, "results.0.layout", table[i].layout);
        expect_text(what, r, "results.0.status", table[i].status);
        json_decref(r);
    }
}

/* 0.0447 is sqrt(2 * 0.001): what a cosine of 0.999 allows for noise. */
static void a_lost_scale_fails_although_the_cosine_is_one(void **state)
{
    (void)state;
    enum { N = 64 };
    static const struct {
        float       a, b;
        const char *option, *failed;
    } table[] = {
        { 1, 2, "--top=0", "[\"scale\"]" }, { 2, 1, "--top=0", "[\"scale\"]" }, { 1, 1000, "--top=0", "[\"scale\"]" },
        { 1, 1.044f, "--top=0", "[]" }, { 1.044f, 1, "--top=0", "[]" }, { 1, 1.045f, "--top=0", "[\"scale\"]" },
        { 1.045f, 1, "--top=0", "[\"scale\"]" }, { 1, 2, "--max-scale=1.0001", "[]" }, { 1, 2, "--max-scale=0.9999", "[\"scale\"]" },
        { 1, 1.2f, "--threshold=0.9", "[]" }, { 1, 1.5f, "--threshold=0.9", "[\"scale\"]" }, { 1, -1, "--top=0", "[\"cosine\"]" },
        { 0, 0, "--top=0", "[]" }, { 0, 1, "--top=0", "[\"cosine\",\"scale\"]" }, { 1, 0, "--top=0", "[\"cosine\",\"scale\"]" },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        char what[64];
        float a[N], b[N];
        for (size_t k = 0; k < N; k++) {
            a[k] = table[i].a * (float)(k + 1);
            b[k] = table[i].b * (float)(k + 1);
        }
        snprintf(what, sizeof what, "%g against %g, %s", table[i].a, table[i].b, table[i].option);
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", table[i].option, test_one("a", "F32", "[64]", a, sizeof a),
                                              test_one("b", "F32", "[64]", b, sizeof b), NULL), strcmp(table[i].failed, "[]") != 0);
        expect_text(what, r, "results.0.failed", table[i].failed);
        if (table[i].a == 0)
            expect_text(what, r, "results.0.norm_ratio", table[i].b == 0 ? "1" : "null");
        json_decref(r);
    }
}

/* 130 x 130 is more than a sample of it. */
static void unrelated_squares_lie_as_they_are_and_are_not_measured_twice(void **state)
{
    (void)state;
    static float a[SIDE * SIDE], b[SIDE * SIDE];
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        a[i] = (float)test_random(1000) - 500;
        b[i] = (float)test_random(1000) - 500;
    }
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", test_one("a", "F32", "[130,130]", a, sizeof a),
                                          test_one("b", "F32", "[130,130]", b, sizeof b), NULL), 1);
    expect_text("two squares", r, "results.0.layout", "same");
    expect_text("two squares", r, "results.0.cosine_transposed", "null");
    expect_text("two squares", r, "results.0.failed", "[\"cosine\"]");
    json_decref(r);
}

static void a_square_matrix_stored_transposed_is_found_and_indexed_in_a(void **state)
{
    (void)state;
    static float a[SIDE * SIDE], b[SIDE * SIDE];
    for (size_t i = 0; i < SIDE; i++)
        for (size_t k = 0; k < SIDE; k++)
            a[i * SIDE + k] = b[k * SIDE + i] = element(i * SIDE + k);
    b[7 * SIDE + 129] += 0.0625f; /* A's [129, 7] and, as large but later in A's order, nothing before it */
    b[128 * SIDE + 129] += 0.0625f;
    b[2 * SIDE + 1] -= 0.03125f;
    const char *const paths[] = { test_one("a", "F32", "[130,130]", a, sizeof a), test_one("b", "F32", "[130,130]", b, sizeof b) };
    json_t *r = report_of(test_tool(APR_DIFF, "--json", "--transpose-aware", paths[0], paths[1], NULL), 0);
    expect_text("asked for", r, "results.0.failed", "[]");
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", "--top=3", "--rows=5", paths[0], paths[1], NULL), 1);
    const json_t *const row = at(r, "results.0");
    expect_text("square", row, "layout", "transposed");
    expect_text("square", row, "failed", "[\"layout\"]");
    expect_text("square", row, "status", "Transposed");
    expect_text("square", row, "cosine_similarity", text_of(row, "cosine_transposed"));
    assert_true(json_number_value(at(row, "cosine_linear")) < 0.999);
    expect_text("square", row, "max_diff", "0.0625");
    expect_text("square", row, "max_diff_index", "16777"); /* 129 * 130 + 7 */
    expect_text("square", row, "top.0.index", "16777");
    expect_text("square", row, "top.0.index_a", "[129,7]");
    expect_text("square", row, "top.0.index_b", "[7,129]");
    expect_text("square", row, "top.1.index_a", "[129,128]");
    expect_text("square", row, "top.2.index_a", "[1,2]");
    assert_int_equal(json_array_size(at(row, "rows")), 2);
    expect_text("square", row, "rows.0.row", "129");
    expect_near("square", row, "rows.0.rmse", sqrt(2 * 0x1p-8 / SIDE));
    expect_text("square", row, "rows.1.row", "1");
    expect_near("square", row, "rows.1.rmse", sqrt(0x1p-10 / SIDE));
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", "--no-transpose", paths[0], paths[1], NULL), 1);
    expect_text("not asked for", r, "results.0.layout", "same");
    expect_text("not asked for", r, "results.0.cosine_transposed", "null");
    json_decref(r);
}

static void the_worst_elements_and_rows_come_first(void **state)
{
    (void)state;
    static const float a[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, b[] = { 1, 2, 4, 4, 5, 6, 7, 8, 8, 10, 11, 15 };
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--top=2", "--rows=9", test_one("a", "F32", "[4,3]", a, sizeof a),
                                          test_one("b", "F32", "[2,6]", b, sizeof b), NULL), 1);
    const json_t *const row = at(r, "results.0");
    expect_text("top", row, "top", "[{\"index\":11,\"index_a\":[3,2],\"index_b\":[1,5],\"name_b\":\"t\",\"a\":12,\"b\":15,\"abs_diff\":3},"
                                   "{\"index\":2,\"index_a\":[0,2],\"index_b\":[0,2],\"name_b\":\"t\",\"a\":3,\"b\":4,\"abs_diff\":1}]");
    assert_int_equal(json_array_size(at(row, "rows")), 3); /* row 1 is equal */
    expect_text("rows", row, "rows.0.row", "3");
    expect_near("rows", row, "rows.0.rmse", sqrt(3));
    expect_near("rows", row, "rows.0.cosine_similarity", 401 / sqrt(365 * 446));
    expect_text("rows", row, "rows.1.row", "0"); /* as bad as row 2: the lower one first */
    expect_text("rows", row, "rows.2.row", "2");
    json_decref(r);
}

/* ---- containers ---------------------------------------------------------------------------------------------------- */

struct apr_part {
    const char *name;
    uint8_t     byte;
    uint64_t    dim[2];
    const void *data;
    size_t      n;
};

/* | 64: header | "{}", to 64 | index, to 64 | data, each to 64 | CRC-32 |, all of it matrices */
static const char *apr_file(const char *file, const struct apr_part *part, size_t n)
{
    struct test_bytes b = { 0 }, index = { 0 }, data = { 0 };
    for (size_t i = 0; i < n; i++) {
        test_integer(&index, strlen(part[i].name), 2);
        test_text(&index, part[i].name);
        test_integer(&index, part[i].byte, 1);
        test_integer(&index, 2, 1);
        test_integer(&index, part[i].dim[0], 8);
        test_integer(&index, part[i].dim[1], 8);
        test_integer(&index, data.n, 8);
        test_integer(&index, part[i].n, 8);
        test_put(&data, part[i].data, part[i].n);
        test_align(&data, 64);
    }
    test_align(&index, 64);
    test_put(&b, "APR\0\2", 6);
    test_integer(&b, 1 << 10, 2); /* row-major */
    test_integer(&b, n, 4);
    test_integer(&b, 64, 8);
    test_integer(&b, 2, 4);
    test_integer(&b, 128, 8);
    test_integer(&b, 128 + index.n, 8);
    test_zeros(&b, 24);
    const uint32_t crc = libdeflate_crc32(libdeflate_crc32(0, b.at, 40), b.at + 44, 20);
    for (unsigned i = 0; i < 4; i++)
        b.at[40 + i] = (unsigned char)(crc >> 8 * i);
    test_text(&b, "{}");
    test_align(&b, 64);
    test_put(&b, index.at, index.n);
    test_put(&b, data.at, data.n);
    test_integer(&b, libdeflate_crc32(0, b.at, b.n), 4);
    const char *const path = test_file(file, b.at, b.n);
    test_free(&index);
    test_free(&data);
    test_free(&b);
    return path;
}

/* Rows of 200 in Q4_K: each takes a whole block of 256, whose tail is nobody's. */
static void padded_rows_of_an_apr_file_lose_their_padding(void **state)
{
    (void)state;
    enum { Q4_K = 12, NROW = 6, NCOL = 200, BLOCK = 256, BLOCK_BYTES = 144 };
    struct test_bytes in = test_load("fixtures/vectors/Q4_K.in"), out = test_load("fixtures/vectors/Q4_K.out");
    float rows[NROW * NCOL], columns[NROW * NCOL];
    assert_true(in.n >= NROW * BLOCK_BYTES && out.n >= NROW * BLOCK * sizeof(float));
    for (size_t i = 0; i < NROW; i++)
        for (size_t k = 0; k < NCOL; k++) {
            memcpy(&rows[i * NCOL + k], out.at + (i * BLOCK + k) * sizeof(float), sizeof(float));
            columns[k * NROW + i] = rows[i * NCOL + k];
        }
    const struct apr_part part = { "t", Q4_K, { NROW, NCOL }, in.at, NROW * BLOCK_BYTES };
    const char *const packed = apr_file("q4k.apr", &part, 1);
    const char *const by_rows = test_one("rows", "F32", "[6,200]", rows, sizeof rows);
    const char *const by_columns = test_one("columns", "F32", "[200,6]", columns, sizeof columns);
    json_t *r = report_of(test_tool(APR_DIFF, "--json", "--rows=1", packed, by_rows, NULL), 0);
    expect_text("rows", r, "results.0.status", "Identical");
    expect_text("rows", r, "results.0.identical_count", "1200");
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", packed, by_columns, NULL), 0);
    expect_text("columns", r, "results.0.layout", "transposed");
    expect_text("columns", r, "results.0.max_diff", "0");
    json_decref(r);
    test_free(&in);
    test_free(&out);
}

static void a_placeholder_head_is_the_embedding(void **state)
{
    (void)state;
    static const float e[] = { 1, 2, 3, 4, 5, 6 };
    static const struct apr_part tied[] = { { "lm_head.weight", 0, { 3, 2 }, "", 0 },
                                            { "model.embed_tokens.weight", 0, { 3, 2 }, e, sizeof e } };
    static const struct test_tensor both[] = { { "lm_head.weight", "F32", "[3,2]", e, sizeof e },
                                               { "model.embed_tokens.weight", "F32", "[3,2]", e, sizeof e } };
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", apr_file("tied.apr", tied, 2), test_safetensors("both", both, 2), NULL),
                                0);
    expect_text("a tied head", r, "results.0.name", "lm_head.weight");
    expect_text("a tied head", r, "results.0.status", "Identical");
    expect_text("a tied head", r, "results.0.element_count", "6");
    json_decref(r);
}

/* The fixtures hold one model in many containers, written by other people's libraries. */
static void one_model_in_two_containers_is_one_model(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *compared;
    } table[] = {
        { "fixtures/qwen2", "fixtures/qwen2.apr", "27" },
        { "fixtures/qwen2", "fixtures/qwen2-bf16.gguf", "27" },
        { "fixtures/qwen2-bf16.gguf", "fixtures/qwen2/model.safetensors.index.json", "27" },
        { "fixtures/qwen2.apr", "fixtures/qwen2-zstd.apr", "27" },
        { "fixtures/qwen2-q8_0.gguf", "fixtures/split/qwen2-00002-of-00003.gguf", "27" },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", table[i].a, table[i].b, NULL), 0);
        expect_text(table[i].b, r, "tensors_compared", table[i].compared);
        expect_text(table[i].b, r, "identical_count", table[i].compared);
        expect_text(table[i].b, r, "nearly_identical_count", "0");
        expect_text(table[i].b, r, "verdict", "Pass");
        json_decref(r);
    }
}

/* F16 has BF16's bits to spare, but not its range: what is lost lies below half a unit of 2^-24. */
static void big_endian_values_are_turned_round(void **state)
{
    (void)state;
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--subset", "fixtures/qwen2-big-endian.gguf", "fixtures/qwen2", NULL), 0);
    assert_int_equal(json_array_size(at(r, "results")), 4);
    for (size_t i = 0; i < 4; i++)
        assert_true(json_number_value(at(json_array_get(at(r, "results"), i), "max_diff")) <= 0x1p-25);
    json_decref(r);
}

/* Cosine and signal to noise of two matrices against fixtures/qwen2, by numpy in binary64 over what gguf decodes. */
static void quantized_weights_differ_as_numpy_says(void **state)
{
    (void)state;
    static const struct {
        const char *file, *name;
        double      cosine, sqnr, mean, max;
    } table[] = {
        { "fixtures/qwen2-q8_0.gguf", "model.layers.1.mlp.up_proj.weight",
          0.9999857537705118, 45.452731493986406, 8.984803328833853e-05, 0.0002956390380859375 },
        { "fixtures/qwen2-q8_0.gguf", "lm_head.weight",
          0.9999855361490092, 45.386510257143456, 8.959289440705713e-05, 0.0002918243408203125 },
        { "fixtures/qwen2-q4_0.gguf", "model.layers.1.mlp.up_proj.weight",
          0.9962486765474865, 21.248156366933628, 0.001451041304486959, 0.005828857421875 },
        { "fixtures/qwen2-q4_0.gguf", "lm_head.weight",
          0.9963516627741269, 21.362896438833097, 0.0014192136318342818, 0.00555419921875 },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        struct test_answer a = test_tool(APR_DIFF, "--json", "--filter", table[i].name, "fixtures/qwen2", table[i].file, NULL);
        json_t *const r = report_of(a, a.exit);
        const json_t *const row = at(r, "results.0");
        expect_near(table[i].file, row, "cosine_similarity", table[i].cosine);
        expect_near(table[i].file, row, "sqnr_db", table[i].sqnr);
        expect_near(table[i].file, row, "mean_diff", table[i].mean);
        expect_near(table[i].file, row, "max_diff", table[i].max);
        json_decref(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_holds_the_sums_that_hand_and_paper_give),
        cmocka_unit_test(a_status_begins_at_its_bound),
        cmocka_unit_test(nans_and_infinities_match_their_like_alone),
        cmocka_unit_test(integers_of_64_bits_are_equal_only_to_themselves),
        cmocka_unit_test(wide_and_complex_values_keep_all_their_bits),
        cmocka_unit_test(sums_do_not_show_which_chunks_were_equal),
        cmocka_unit_test(a_layout_is_found_from_shapes_and_values),
        cmocka_unit_test(a_lost_scale_fails_although_the_cosine_is_one),
        cmocka_unit_test(unrelated_squares_lie_as_they_are_and_are_not_measured_twice),
        cmocka_unit_test(a_square_matrix_stored_transposed_is_found_and_indexed_in_a),
        cmocka_unit_test(the_worst_elements_and_rows_come_first),
        cmocka_unit_test(padded_rows_of_an_apr_file_lose_their_padding),
        cmocka_unit_test(a_placeholder_head_is_the_embedding),
        cmocka_unit_test(one_model_in_two_containers_is_one_model),
        cmocka_unit_test(big_endian_values_are_turned_round),
        cmocka_unit_test(quantized_weights_differ_as_numpy_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
