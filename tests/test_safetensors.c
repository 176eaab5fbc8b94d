/* formats/safetensors.c: which files are read, and where and why the others are refused. */
#include "support.h"

#include <stdio.h>

#include "model/format.h"
#include "model/model.h"
#include "model/open.h"

#define A "\"a\": {\"dtype\": \"F32\", \"shape\": [2, 1], \"data_offsets\": [0, 8]}"
#define B "\"b\": {\"dtype\": \"U8\", \"shape\": [3], \"data_offsets\": [8, 11]}"
#define F32(name, shape, offsets) "\"" name "\": {\"dtype\": \"F32\", \"shape\": " shape ", \"data_offsets\": " offsets "}"

/* The file of a header and n bytes of data. A ^ in the header is left out, and *at is the file offset where it stood. */
static struct test_bytes file_of(const char *header, size_t n, uint64_t *at)
{
    struct test_bytes b = { 0 };
    const char *mark = strchr(header, '^');
    const size_t length = strlen(header) - (mark != NULL);
    test_integer(&b, length, 8);
    test_put(&b, header, mark != NULL ? (size_t)(mark - header) : length);
    *at = mark != NULL ? b.n : APR_NOWHERE;
    if (mark != NULL)
        test_text(&b, mark + 1);
    for (size_t i = 0; i < n; i++)
        test_integer(&b, i + 1, 1);
    return b;
}

static struct apr_model *read_sound(const char *header, size_t n)
{
    uint64_t at;
    struct test_bytes b = file_of(header, n, &at);
    struct apr_model *m = test_open(header, "a.safetensors", &b, APR_OK, APR_NOWHERE, NULL);
    assert_string_equal(m->format->name, "safetensors");
    test_free(&b);
    return m;
}

static void tensors_are_views_in_the_order_of_their_data(void **state)
{
    (void)state;
    struct apr_model *m = read_sound("{" B ", " A "}", 11);
    assert_int_equal(m->ntensor, 2);
    const struct apr_tensor *a = &m->tensor[0], *b = &m->tensor[1];
    assert_true(apr_bytes_is(a->name, "a"));
    assert_ptr_equal(a->dtype, &apr_dtypes[APR_F32]);
    assert_int_equal(a->ndim, 2);
    assert_int_equal(a->dim[0], 2);
    assert_int_equal(a->dim[1], 1);
    assert_int_equal(a->count, 2);
    assert_int_equal(a->data.n, 8);
    assert_int_equal(a->data.at[0], 1);
    assert_int_equal(b->data.n, 3);
    assert_int_equal(b->data.at[0], 9);
    assert_ptr_equal(apr_model_find(m, apr_text("b")), b);
    assert_int_equal(m->nnote, 0);
    apr_close(m);
}

static void odd_but_sound_files_are_read(void **state)
{
    (void)state;
    static const struct { const char *header; size_t n, ntensor; const char *note; } rows[] = {
        { "{}", 0, 0, NULL },
        { "{}      ", 0, 0, NULL },
        { " \t\r\n{" A "}\n ", 8, 1, "st.leading_space" },
        { "{" F32("e", "[0]", "[0, 0]") "," F32("s", "[]", "[0, 4]") "," F32("z", "[3,0]", "[4,4]") "}", 4, 3, NULL },
        { "{" F32("x", "[0, 4294967296, 4294967296]", "[0, 0]") "}", 0, 1, NULL },
        { "{\"x\":{\"dtype\":\"F4\",\"shape\":[3,2],\"data_offsets\":[0,3]}}", 3, 1, NULL },
        { "{\"x\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3, 1, NULL },
        { "{\"x\":{\"data_offsets\":[0,1],\"d\\u0074ype\":\"BOOL\",\"shape\":[1,1,1,1,1,1,1,1]}}", 1, 1, NULL },
        { "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}," F32("y", "[1]", "[1, 5]") "}", 5, 2, NULL },
        { "{\"a\": {\"note\": [{\"k\": 1.5}], \"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1, 1, "st.unknown_field" },
        { "{\"__metadata__\": null, " A "}", 8, 1, NULL },
        { "{\"__metadata__\": {}, " A "}", 8, 1, NULL },
        { "{\"\xe3\x83\x86.\\ud83d\\ude42\": {\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, 1, NULL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_model *m = read_sound(rows[i].header, rows[i].n);
        assert_int_equal(m->ntensor, rows[i].ntensor);
        assert_int_equal(m->nnote, rows[i].note != NULL);
        if (rows[i].note != NULL)
            assert_string_equal(m->note[0].code, rows[i].note);
        apr_close(m);
    }
}

static void metadata_is_strings_of_which_the_last_twin_stays(void **state)
{
    (void)state;
    struct apr_model *m = read_sound("{" A ", \"__metadata__\": "
                                     "{\"k\": \"1\", \"format\": \"p\\u0074\", \"\\u006b\": \"2\", \"\": \"\"}}", 8);
    static const char *const want[][2] = { { "format", "pt" }, { "k", "2" }, { "", "" } };
    assert_int_equal(m->meta.n, APR_LENGTH(want));
    for (size_t i = 0; i < APR_LENGTH(want); i++) {
        assert_true(apr_bytes_equal(m->meta.entry[i].key, apr_text(want[i][0])));
        assert_int_equal(m->meta.entry[i].value.type, APR_META_STRING);
        assert_true(apr_bytes_equal(m->meta.entry[i].value.text, apr_text(want[i][1])));
    }
    assert_int_equal(m->nnote, 1);
    assert_string_equal(m->note[0].code, "st.metadata_twice");
    assert_int_equal(m->note[0].stage, 4);
    apr_close(m);
}

static void broken_headers_are_named_not_followed(void **state)
{
    (void)state;
    static const struct { const char *header; size_t n; const char *words; } rows[] = {
        /* JSON */
        { "^[]", 0, "an object" },
        { "^\"x\"", 0, "an object" },
        { "^\xef\xbb\xbf{}", 0, "an object" },
        { "{" A "^", 8, "the text ends" },
        { "{" A "}^x", 8, "the end of the text" },
        { "{" A "} ^{}", 8, "the end of the text" },
        { "{" A ",^}", 8, "a name" },
        { "{\"a^\xff\": 1}", 0, "not UTF-8" },
        { "{\"a\": ^[[[}", 0, "never closed" },
        /* fields */
        { "{\"a\": ^3}", 0, "tensor \"a\": expected an object" },
        { "{\"a\": ^[\"F32\", [2], [0, 8]]}", 8, "tensor \"a\": expected an object" },
        { "{\"a\": ^{\"shape\": [1], \"data_offsets\": [0, 1]}}", 1, "tensor \"a\": it has no dtype" },
        { "{\"a\": ^{\"dtype\": \"U8\", \"data_offsets\": [0, 1]}}", 1, "it has no shape" },
        { "{\"a\": ^{\"dtype\": \"U8\", \"shape\": [1]}}", 1, "it has no data_offsets" },
        { "{\"a\": {\"shape\": [1], ^\"shape\": [1]}}", 1, "the field shape stands twice" },
        { "{\"a\": {\"dtype\": \"U8\", ^\"dtyp\\u0065\": \"U8\"}}", 1, "the field dtype stands twice" },
        { "{\"a\": {\"dtype\": ^7}}", 0, "dtype: expected a string, found \"7\"" },
        { "{\"a\": {\"dtype\": ^{\"F32\": null}}}", 0, "dtype: expected a string" },
        { "{" F32("a", "[^-8]", "[0, 32]") "}", 32, "tensor \"a\": shape: expected a plain integer from 0 to 2^64 - 1, found \"-8\"" },
        { "{" F32("a", "[^8.0]", "[0, 32]") "}", 32, "found \"8.0\"" },
        { "{" F32("a", "[^-0]", "[0, 0]") "}", 0, "found \"-0\"" },
        { "{" F32("a", "[^18446744073709551616]", "[0, 32]") "}", 32, "found \"18446744073709551616\"" },
        { "{" F32("a", "[^[8]]", "[0, 32]") "}", 32, "found \"[8]\"" },
        { "{" F32("a", "^8", "[0, 32]") "}", 32, "shape: expected an array" },
        { "{" F32("a", "[8]", "^[32]") "}", 32, "expected two integers, found 1" },
        { "{" F32("a", "[8]", "^[0, 32, 32]") "}", 32, "expected two integers, found 3" },
        { "{" F32("a", "[8]", "^[32, 0]") "}", 32, "the end 0 lies before the begin 32" },
        { "{" F32("a", "[8]", "[0, ^\"32\"]") "}", 32, "data_offsets: expected a plain integer" },
        { "{" F32("a", "[8]", "^null") "}", 32, "data_offsets: expected an array" },
        /* shape against bytes */
        { "{^" F32("a", "[7]", "[0, 32]") "}", 32, "give it 32 bytes, but 7 elements of F32 take 28" },
        { "{" F32("a", "^[4294967296, 4294967296, 0]", "[0, 0]") "}", 0, "2^64 elements" },
        { "{" F32("a", "^[2305843009213693952]", "[0, 0]") "}", 0, "2^64 bits" },
        { "{\"x\":{\"dtype\":\"F4\",\"shape\":^[3],\"data_offsets\":[0,2]}}", 2, "3 elements of F4 do not fill whole bytes" },
        { "{\"x\":{\"dtype\":\"F6_E3M2\",\"shape\":^[2],\"data_offsets\":[0,2]}}", 2, "do not fill whole bytes" },
        /* layout */
        { "{^" F32("a", "[1]", "[4, 8]") "}", 8, "a gap: it is the first, but begins at byte 4" },
        { "{" A ", ^" F32("c", "[1]", "[12, 16]") "}", 16,
          "tensor \"c\": a gap: it begins at byte 12 of the data, but \"a\" before it ends at 8" },
        { "{" A ", ^" F32("c", "[1]", "[4, 8]") "}", 8,
          "tensor \"c\": an overlap: it begins at byte 4 of the data, but \"a\" before it ends at 8" },
        { "{" A ", ^" B "}", 10, "tensor \"b\": it ends at byte 11 of the data, the file holds only 10" },
        { "{" A ", ^\"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 8]}}", 8, "tensor \"a\": it stands twice" },
        { "{" A ", ^" F32("\\u0061", "[1]", "[8, 12]") "}", 12, "stands twice" },
        { "{^" F32("a\\u0000b", "[1]", "[0, 4]") "}", 4, "NUL" },
        /* metadata */
        { "{\"__metadata__\": {}, ^\"__metadata__\": {}}", 0, "__metadata__ stands twice" },
        { "{\"__metadata__\": ^[]}", 0, "__metadata__: expected an object" },
        { "{\"__metadata__\": {\"k\": ^1}}", 0, "__metadata__: \"k\": expected a string, found \"1\"" },
        { "{\"__metadata__\": {\"k\": ^null}}", 0, "expected a string, found \"null\"" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        uint64_t at;
        struct test_bytes b = file_of(rows[i].header, rows[i].n, &at);
        assert_null(test_open(rows[i].header, "a.safetensors", &b, APR_ECORRUPT, at, rows[i].words));
        test_free(&b);
    }
}

static void what_is_not_read_is_told_from_what_is_broken(void **state)
{
    (void)state;
    static const struct { const char *header; size_t n; enum apr_code code; const char *words; } rows[] = {
        { "{\"a\":{\"dtype\":^\"F99\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, APR_EUNSUPPORTED, "dtype \"F99\"" },
        { "{\"a\":{\"dtype\":^\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, APR_EUNSUPPORTED, "dtype \"f32\"" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":^[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, APR_EUNSUPPORTED, "9 dimensions" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        uint64_t at;
        struct test_bytes b = file_of(rows[i].header, rows[i].n, &at);
        assert_null(test_open(rows[i].header, "a.safetensors", &b, rows[i].code, at, rows[i].words));
        test_free(&b);
    }
}

static void header_lengths_are_held_against_the_file(void **state)
{
    (void)state;
    static const struct { uint64_t length; enum apr_code code; const char *words; } rows[] = {
        { sizeof A + 10, APR_ECORRUPT, "promised, only" },
        { 100000000, APR_ECORRUPT, "a header of 100000000 bytes is promised" },
        { 100000001, APR_ELIMIT, "at most 100000000" },
        { UINT64_C(1) << 63, APR_ELIMIT, "9223372036854775808" },
        { UINT64_MAX - 7, APR_ELIMIT, "18446744073709551608" },
        { UINT64_MAX, APR_ELIMIT, "18446744073709551615" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        uint64_t at;
        struct test_bytes b = file_of("{" A "}", 8, &at);
        for (unsigned k = 0; k < 8; k++)
            b.at[k] = (unsigned char)(rows[i].length >> 8 * k);
        assert_null(test_open(rows[i].words, "a.safetensors", &b, rows[i].code, 0, rows[i].words));
        test_free(&b);
    }
}

static void bytes_that_no_tensor_covers_are_refused(void **state)
{
    (void)state;
    static const struct { const char *header; size_t n, covered; const char *words; } rows[] = {
        { "{" A "}", 9, 8, "1 bytes follow the data of the last tensor, \"a\"" },
        { "{}", 5, 0, "5 bytes of data, but the header names no tensor" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        uint64_t at;
        struct test_bytes b = file_of(rows[i].header, rows[i].n, &at);
        at = 8 + strlen(rows[i].header) + rows[i].covered;
        assert_null(test_open(rows[i].header, "a.safetensors", &b, APR_ECORRUPT, at, rows[i].words));
        test_free(&b);
    }
}

static void every_cut_of_a_good_file_is_refused(void **state)
{
    (void)state;
    uint64_t at;
    struct test_bytes b = file_of("{\"__metadata__\": {\"k\\n\": \"v\"}, " A ", " B "}", 11, &at);
    for (size_t n = 0; n < b.n; n++) {
        const struct test_bytes cut = { .at = b.at, .n = n };
        assert_null(test_open("a cut file", "a.safetensors", &cut, APR_ECORRUPT, APR_NOWHERE, NULL));
    }
    test_free(&b);
}

static void a_hundred_thousand_tensors_and_a_padded_header_are_read(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct test_bytes header = { 0 };
    for (unsigned i = 0; i < N; i++) {
        char entry[128];
        snprintf(entry, sizeof entry, "%c\"t.%u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%u,%u]}", i == 0 ? '{' : ',', i, i,
                 i + 1);
        test_text(&header, entry);
    }
    test_text(&header, "}");
    for (unsigned i = 0; i < 1 << 20; i++)
        test_text(&header, "     ");
    uint64_t at;
    struct test_bytes b = file_of((const char *)header.at, N, &at);
    struct apr_model *m = test_open("many tensors", "a.safetensors", &b, APR_OK, APR_NOWHERE, NULL);
    assert_int_equal(m->ntensor, N);
    assert_int_equal(apr_tensor_offset(m, apr_model_find(m, apr_text("t.77777"))), 8 + header.n + 77777);
    apr_close(m);
    test_free(&b);
    test_free(&header);
}

/* Where the reference library's own parser stops: 127 levels, counted from the header's. */
static void an_unknown_field_is_as_deep_as_the_reference_reads(void **state)
{
    (void)state;
    static const struct { unsigned levels; enum apr_code code; } rows[] = { { 1, APR_OK }, { 125, APR_OK }, { 126, APR_ELIMIT }, { 100000, APR_ELIMIT } };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes header = { 0 }, b = { 0 };
        test_text(&header, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":");
        for (unsigned k = 0; k < rows[i].levels; k++)
            test_text(&header, "[");
        for (unsigned k = 0; k < rows[i].levels; k++)
            test_text(&header, "]");
        test_text(&header, "}}");
        test_integer(&b, header.n, 8);
        test_put(&b, header.at, header.n);
        test_zeros(&b, 1);
        apr_close(test_open("a deep field", "deep.safetensors", &b, rows[i].code, APR_NOWHERE, "more than 125 levels deep"));
        test_free(&header);
        test_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_field_is_as_deep_as_the_reference_reads),
        cmocka_unit_test(tensors_are_views_in_the_order_of_their_data),
        cmocka_unit_test(odd_but_sound_files_are_read),
        cmocka_unit_test(metadata_is_strings_of_which_the_last_twin_stays),
        cmocka_unit_test(broken_headers_are_named_not_followed),
        cmocka_unit_test(what_is_not_read_is_told_from_what_is_broken),
        cmocka_unit_test(header_lengths_are_held_against_the_file),
        cmocka_unit_test(bytes_that_no_tensor_covers_are_refused),
        cmocka_unit_test(every_cut_of_a_good_file_is_refused),
        cmocka_unit_test(a_hundred_thousand_tensors_and_a_padded_header_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
