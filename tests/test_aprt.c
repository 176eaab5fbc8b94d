/* formats/aprt.c: one saved activation. */
#include "base/bytes.h"
#include "model/format.h"
#include "model/open.h"
#include "support.h"

#define WHOLE_MODEL 0xffffffffu

static const float values[] = { 1.5f, -2.0f, 3.25f };

static struct test_bytes stage(uint32_t layer, uint32_t count)
{
    struct test_bytes b = { 0 };
    test_text(&b, "APRT");
    test_integer(&b, layer, 4);
    test_integer(&b, count, 4);
    test_floats(&b, values, APR_LENGTH(values));
    return b;
}

static void a_stage_is_named_by_its_layer_and_its_file(void **state)
{
    (void)state;
    static const struct { const char *file, *name; uint32_t layer; } rows[] = {
        { "layer-3/ffn_out.bin", "layer-3/ffn_out", 3 },
        { "lm_head.bin", "lm_head", WHOLE_MODEL },
        { "other/embedding", "layer-0/embedding", 0 },
        { "layer-9/x.bin.bin", "layer-4294967294/x.bin", WHOLE_MODEL - 1 },
        { ".bin", "stage", WHOLE_MODEL },
        { "\xff.bin", "layer-1/stage", 1 },
        { "\xc3\xa9.bin", "\xc3\xa9", WHOLE_MODEL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = stage(rows[i].layer, 3);
        struct apr_model *m = test_open(rows[i].file, rows[i].file, &b, APR_OK, APR_NOWHERE, NULL);
        assert_string_equal(m->format->name, "aprt");
        assert_int_equal(m->ntensor, 1);
        const struct apr_tensor *t = &m->tensor[0];
        if (!apr_bytes_equal(t->name, apr_text(rows[i].name)))
            fail_msg("%s is called %.*s", rows[i].file, (int)t->name.n, (const char *)t->name.at);
        assert_ptr_equal(t->dtype, &apr_dtypes[APR_F32]);
        assert_int_equal(t->ndim, 1);
        assert_int_equal(t->dim[0], 3);
        assert_memory_equal(t->data.at, values, sizeof values);
        assert_int_equal(m->nnote, 0);
        apr_close(m);
        test_free(&b);
    }
}

static void bytes_after_the_values_are_noted(void **state)
{
    (void)state;
    static const uint32_t counts[] = { 0, 1, 2 };
    for (size_t i = 0; i < APR_LENGTH(counts); i++) {
        struct test_bytes b = stage(1, counts[i]);
        struct apr_model *m = test_open("trailing", "stage.bin", &b, APR_OK, APR_NOWHERE, NULL);
        assert_int_equal(m->tensor[0].count, counts[i]);
        assert_int_equal(m->tensor[0].data.n, 4 * counts[i]);
        assert_int_equal(m->nnote, 1);
        assert_string_equal(m->note[0].code, "aprt.trailing");
        assert_int_equal(m->note[0].at, 12 + 4 * counts[i]);
        apr_close(m);
        test_free(&b);
    }
}

static void promises_beyond_the_end_are_refused(void **state)
{
    (void)state;
    static const struct { const char *what; uint32_t count; size_t size; uint64_t at; const char *words; } rows[] = {
        { "the magic alone", 3, 4, 4, "the file has 4" },
        { "half a header", 3, 11, 11, "the file has 11" },
        { "a value too many", 4, 24, 8, "4 values are promised, which take 16 bytes, but 12 follow" },
        { "2^30 values", 1u << 30, 24, 8, "which take 4294967296 bytes" },
        { "2^32 - 1 values", UINT32_MAX, 24, 8, "which take 17179869180 bytes" },
        { "a value cut in two", 3, 23, 8, "but 11 follow" },
        { "no values", 1, 12, 8, "but 0 follow" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = stage(3, rows[i].count);
        b.n = rows[i].size;
        test_open(rows[i].what, "stage.bin", &b, APR_ECORRUPT, rows[i].at, rows[i].words);
        test_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stage_is_named_by_its_layer_and_its_file),
        cmocka_unit_test(bytes_after_the_values_are_noted),
        cmocka_unit_test(promises_beyond_the_end_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
