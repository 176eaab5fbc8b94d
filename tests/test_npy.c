/* formats/npy.c: a NumPy array as a saved activation. fixtures/trace-npy is NumPy's own. */
#include "base/bytes.h"
#include "model/format.h"
#include "model/open.h"
#include "support.h"

#include <stdio.h>

/* A file of that version around a header, which is padded as NumPy does, with n bytes of data. */
static struct test_bytes array(unsigned major, const char *header, size_t n)
{
    struct test_bytes b = { 0 };
    test_text(&b, "\x93NUMPY");
    test_integer(&b, major, 1);
    test_integer(&b, 0, 1);
    const unsigned width = major == 1 ? 2 : 4;
    const size_t before = b.n + width, length = (before + strlen(header) + 1 + 63) / 64 * 64 - before;
    test_integer(&b, length, width);
    test_text(&b, header);
    while (b.n < before + length - 1)
        test_text(&b, " ");
    test_text(&b, "\n");
    for (size_t i = 0; i < n; i++)
        test_integer(&b, i, 1);
    return b;
}

static void numpy_s_own_files_are_read(void **state)
{
    (void)state;
    static const struct { const char *path, *name; enum apr_dtype_id id; bool swapped; uint64_t dim[2]; } rows[] = {
        { "fixtures/trace-npy/layer-0/embedding.npy", "layer-0/embedding", APR_F32, false, { 4, 64 } },
        { "fixtures/trace-npy/layer-1/attn_out.npy", "layer-1/attn_out", APR_F64, false, { 4, 64 } },
        { "fixtures/trace-npy/layer-1/ffn_out.npy", "layer-1/ffn_out", APR_F32, true, { 4, 64 } },
        { "fixtures/trace-npy/final_norm.npy", "final_norm", APR_F64, true, { 4, 64 } },
        { "fixtures/trace-npy/lm_head.npy", "lm_head", APR_F32, false, { 1, 96 } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_model *m;
        struct apr_error e;
        assert_int_equal(apr_open(&m, rows[i].path, test_run_with(1), &e), APR_OK);
        const struct apr_tensor *const t = &m->tensor[0];
        assert_string_equal(m->format->name, "npy");
        assert_true(m->ntensor == 1 && m->nnote == 0 && apr_bytes_is(t->name, rows[i].name));
        assert_ptr_equal(t->dtype, &apr_dtypes[rows[i].id]);
        assert_int_equal(t->swapped, rows[i].swapped);
        assert_int_equal(t->ndim, 2);
        assert_memory_equal(t->dim, rows[i].dim, sizeof rows[i].dim);
        apr_close(m);
    }
}

static void a_folder_of_arrays_is_the_trace_that_its_files_of_ours_are(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-diff", "--max-abs=0", "fixtures/trace", "fixtures/trace-npy", NULL);
    assert_int_equal(a.exit, 0);
    assert_true(test_says(&a.out, "layer-1/ffn_out") && test_says(&a.out, "verdict: Pass"));
    test_answer_free(&a);
    a = test_tool("apr-inspect", "fixtures/trace-npy/layer-1/ffn_out.npy", NULL);
    assert_int_equal(a.exit, 0);
    assert_true(test_says(&a.out, "npy"));
    test_answer_free(&a);
    a = test_tool("apr-convert", "fixtures/trace-npy/lm_head.npy", test_path("none.gguf"), NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "is a trace, which holds no weights"));
    test_answer_free(&a);
}

static void dtypes_are_those_of_their_descr(void **state)
{
    (void)state;
    static const struct { const char *descr; enum apr_dtype_id id; unsigned bytes; bool swapped; } rows[] = {
        { "<f8", APR_F64, 8, false }, { ">f8", APR_F64, 8, true },  { "<f4", APR_F32, 4, false }, { "=f4", APR_F32, 4, false },
        { "<f2", APR_F16, 2, false }, { ">f2", APR_F16, 2, true },  { "<i8", APR_I64, 8, false }, { ">i4", APR_I32, 4, true },
        { "<i2", APR_I16, 2, false }, { "|i1", APR_I8, 1, false },  { "<u8", APR_U64, 8, false }, { "<u4", APR_U32, 4, false },
        { ">u2", APR_U16, 2, true },  { "|u1", APR_U8, 1, false },  { "|b1", APR_BOOL, 1, false }, { ">i1", APR_I8, 1, false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char header[128];
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (2, 3), }", rows[i].descr);
        struct test_bytes b = array(1, header, 6 * rows[i].bytes);
        struct apr_model *m = test_open(rows[i].descr, "x.npy", &b, APR_OK, APR_NOWHERE, NULL);
        assert_ptr_equal(m->tensor[0].dtype, &apr_dtypes[rows[i].id]);
        assert_int_equal(m->tensor[0].swapped, rows[i].swapped);
        assert_int_equal(m->tensor[0].data.n, 6 * rows[i].bytes);
        assert_int_equal(m->tensor[0].data.at[1], 1);
        apr_close(m);
        test_free(&b);
    }
}

/* What NumPy's reader takes: any order, either quotes, spaces, Python 2's L, all three versions, no comma at the end. */
static void headers_may_be_spelled_otherwise(void **state)
{
    (void)state;
    static const struct { const char *header; unsigned major, ndim; uint64_t count; } rows[] = {
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 1, 0, 1 },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 2, 1, 3 },
        { "{\"shape\":(2,2),\"fortran_order\":False,\"descr\":\"<f4\"}", 3, 2, 4 },
        { " { 'shape' : ( 3L , 1L ) , 'descr' : '<f4' , 'fortran_order' : False } ", 1, 2, 3 },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1, 4), }", 1, 3, 4 }, /* a line is in either order */
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (4,), }", 1, 1, 4 },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (5, 0, 7), }", 1, 3, 0 },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 2), }", 1, 8, 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = array(rows[i].major, rows[i].header, 4 * rows[i].count);
        struct apr_model *m = test_open(rows[i].header, "x.npy", &b, APR_OK, APR_NOWHERE, NULL);
        assert_int_equal(m->tensor[0].ndim, rows[i].ndim);
        assert_int_equal(m->tensor[0].count, rows[i].count);
        assert_int_equal(m->nnote, 0);
        apr_close(m);
        test_free(&b);
    }
}

static void a_stage_is_named_by_its_file_and_its_folder(void **state)
{
    (void)state;
    static const struct { const char *file, *name; } rows[] = {
        { "layer-3/ffn_out.npy", "layer-3/ffn_out" },     { "lm_head.npy", "lm_head" },
        { "model.layers.0.mlp:out.npy", "model.layers.0.mlp:out" }, { "layer-x/a", "a" },
        { "layer-007/a.npy.npy", "layer-007/a.npy" },     { ".npy", "stage" },
        { "\xff.npy", "stage" },                          { "layer-4294967295/a.npy", "a" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = array(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", 2);
        struct apr_model *m = test_open(rows[i].file, rows[i].file, &b, APR_OK, APR_NOWHERE, NULL);
        if (!apr_bytes_is(m->tensor[0].name, rows[i].name))
            fail_msg("%s is called %s", rows[i].file, APR_QUOTED(m->tensor[0].name));
        apr_close(m);
        test_free(&b);
    }
}

#define F4(rest) "{'descr': '<f4', 'fortran_order': False, " rest

static void what_is_no_such_array_is_refused_by_name(void **state)
{
    (void)state;
    static const struct { const char *header; enum apr_code code; uint64_t at; const char *words; } rows[] = {
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", APR_EUNSUPPORTED, 10, "in Fortran order" },
        { "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", APR_EUNSUPPORTED, 20, "Python objects, pickled" },
        { "{'descr': '<V2', 'fortran_order': False, 'shape': (2,), }", APR_EUNSUPPORTED, 20, "perhaps bfloat16" },
        { "{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }", APR_EUNSUPPORTED, 20, "\"<c8\"" },
        { "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (2,), }", APR_EUNSUPPORTED, 20, "M8" },
        { "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,), }", APR_EUNSUPPORTED, 20, "several fields" },
        { "{'descr': 5, 'fortran_order': False, 'shape': (2,), }", APR_ECORRUPT, 20, "expected descr, a string" },
        { "{'descr': '<f\\x34', 'fortran_order': False, 'shape': (2,), }", APR_ECORRUPT, 20, "expected descr" },
        { "{'descr': '<f4, 'shape': (2,), }", APR_EUNSUPPORTED, 20, "descr \"<f4, \"" },
        { "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,), }", APR_ECORRUPT, 44, "True or False" },
        { F4("'shape': (-2,), }"), APR_ECORRUPT, APR_NOWHERE, "expected a number of shape, found \"-2" },
        { F4("'shape': (2 3), }"), APR_ECORRUPT, APR_NOWHERE, "expected a number of shape, found \"3)" },
        { F4("'shape': (2,"), APR_ECORRUPT, APR_NOWHERE, "found its end" },
        { F4("'shape': 4, }"), APR_ECORRUPT, APR_NOWHERE, "numbers in parentheses" },
        { F4("'shape': (99999999999999999999,), }"), APR_ECORRUPT, APR_NOWHERE, "expected a number" },
        { F4("'shape': (4294967296, 4294967296), }"), APR_ECORRUPT, APR_NOWHERE, "64 bits" },
        { F4("'shape': (4611686018427387904,), }"), APR_ECORRUPT, APR_NOWHERE, "64 bits" },
        { F4("'shape': (1152921504606846976,), }"), APR_ECORRUPT, 128, "take 4611686018427387904 bytes, but 8 follow" },
        { F4("'shape': (3,), }"), APR_ECORRUPT, 128, "its 3 elements take 12 bytes, but 8 follow" },
        { F4("'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }"), APR_EUNSUPPORTED, APR_NOWHERE, "more than 8 dimensions" },
        { F4("'shape': (2,), 'shape': (2,), }"), APR_ECORRUPT, APR_NOWHERE, "\"shape\" stands twice" },
        { F4("'shape': (2,), 'more': 1, }"), APR_ECORRUPT, APR_NOWHERE, "\"more\" is none of descr" },
        { F4("'shape': (2,), } 5"), APR_ECORRUPT, APR_NOWHERE, "nothing but blanks" },
        { F4("}"), APR_ECORRUPT, 10, "has no shape" },
        { "{}", APR_ECORRUPT, 10, "has no descr" },
        { "[]", APR_ECORRUPT, 10, "expected '{'" },
        { "", APR_ECORRUPT, APR_NOWHERE, "its end" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = array(1, rows[i].header, 8);
        test_open(rows[i].header, "x.npy", &b, rows[i].code, rows[i].at, rows[i].words);
        test_free(&b);
    }
}

static void a_file_that_is_cut_or_too_long_is_told(void **state)
{
    (void)state;
    static const struct { size_t keep; uint64_t at; const char *words; } rows[] = {
        { 6, 6, "ends within the length of its header" }, { 7, 7, "ends within" }, { 9, 9, "ends within" },
        { 10, 8, "a header of 118 bytes is promised, only 0 follow" }, { 127, 8, "only 117 follow" }, { 128, 128, "but 0 follow" },
        { 135, 128, "but 7 follow" },
    };
    struct test_bytes b = array(1, F4("'shape': (2,), }"), 8);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes cut = b;
        cut.n = rows[i].keep;
        test_open("cut", "x.npy", &cut, APR_ECORRUPT, rows[i].at, rows[i].words);
    }
    test_integer(&b, 0, 4);
    struct apr_model *m = test_open("two arrays, say", "x.npy", &b, APR_OK, APR_NOWHERE, NULL);
    assert_int_equal(m->nnote, 1);
    assert_string_equal(m->note[0].code, "npy.trailing");
    assert_int_equal(m->note[0].at, 136);
    apr_close(m);
    b.at[6] = 4;
    test_open("version 4", "x.npy", &b, APR_EUNSUPPORTED, 6, "version 4.0; 1.0, 2.0 and 3.0 are read");
    b.at[6] = 1, b.at[7] = 1;
    test_open("version 1.1", "x.npy", &b, APR_EUNSUPPORTED, 6, "version 1.1");
    memcpy(b.at + 6, "\2\0\0\0\0\xff", 6);
    test_open("a header of 4 GB", "x.npy", &b, APR_ELIMIT, 8, "at most 65536 are read");
    test_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numpy_s_own_files_are_read),
        cmocka_unit_test(a_folder_of_arrays_is_the_trace_that_its_files_of_ours_are),
        cmocka_unit_test(dtypes_are_those_of_their_descr),
        cmocka_unit_test(headers_may_be_spelled_otherwise),
        cmocka_unit_test(a_stage_is_named_by_its_file_and_its_folder),
        cmocka_unit_test(what_is_no_such_array_is_refused_by_name),
        cmocka_unit_test(a_file_that_is_cut_or_too_long_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
