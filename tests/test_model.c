/* lib/model/model.c: what every format relies on when it adds a tensor, and what everyone asks of a model afterwards. */
#include "support.h"

#include <inttypes.h>
#include <stdio.h>

#include "files/source.h"
#include "model/format.h"
#include "model/model.h"
#include "model/open.h"

/* A model of one file of n zero bytes, without tensors. */
static struct apr_model *model_of(size_t n)
{
    struct apr_model *m = calloc(1, sizeof *m);
    unsigned char *zeros = calloc(1, n + 1);
    struct apr_error e;
    m->file = calloc(2, sizeof *m->file);
    m->nfile = 1;
    assert_int_equal(apr_source_open(&m->file[0], test_file("model", zeros, n), test_run_with(1), &e), APR_OK);
    free(zeros);
    return m;
}

static struct apr_tensor vector_of(struct apr_bytes name, enum apr_dtype_id dtype, uint64_t n)
{
    return (struct apr_tensor){ .name = name, .dtype = &apr_dtypes[dtype], .ndim = 1, .dim = { n } };
}

static struct apr_bytes bytes_of(const char *text, size_t n) { return (struct apr_bytes){ (const unsigned char *)text, n }; }

/* ---- adding -------------------------------------------------------------------------------------------------------- */

static void sizes_follow_from_dtype_and_shape(void **state)
{
    (void)state;
    enum { FITS = true, OVERFLOWS = false };
    static const struct { enum apr_dtype_id dtype; unsigned ndim; uint64_t dim[4], row; bool fits; uint64_t count, bytes; } rows[] = {
        { APR_F32, 0, { 0 }, 0, FITS, 1, 4 },
        { APR_F32, 2, { 3, 5 }, 0, FITS, 15, 60 },
        { APR_F32, 3, { 3, 0, 5 }, 0, FITS, 0, 0 },
        { APR_Q4_0, 2, { 2, 64 }, 64, FITS, 128, 72 },
        { APR_Q4_0, 2, { 2, 40 }, 40, FITS, 80, 72 },           /* rows padded to whole blocks */
        { APR_Q4_0, 2, { 2, 40 }, 0, FITS, 80, 54 },            /* or not */
        { APR_Q6_K, 1, { 257 }, 0, FITS, 257, 420 },
        { APR_F4, 2, { 3, 2 }, 0, FITS, 6, 3 },
        { APR_APR_Q8, 1, { 6 }, 0, FITS, 6, 10 },               /* the scale before them */
        { APR_U8, 2, { 1ull << 32, (1ull << 32) - 1 }, 0, FITS, ((1ull << 32) - 1) << 32, ((1ull << 32) - 1) << 32 },
        { APR_U8, 2, { 1ull << 32, 1ull << 32 }, 0, OVERFLOWS, 0, 0 },
        { APR_U8, 3, { 1ull << 32, 1ull << 32, 0 }, 0, OVERFLOWS, 0, 0 },
        { APR_U8, 3, { 0, 1ull << 32, 1ull << 32 }, 0, FITS, 0, 0 },
        { APR_F64, 1, { 1ull << 61 }, 0, OVERFLOWS, 0, 0 },
        { APR_F32, 1, { UINT64_MAX }, 0, OVERFLOWS, 0, 0 },
        { APR_Q4_0, 2, { 1ull << 62, 2 }, 2, OVERFLOWS, 0, 0 },
        { APR_APR_Q8, 1, { UINT64_MAX }, 0, OVERFLOWS, 0, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_tensor t = { .dtype = &apr_dtypes[rows[i].dtype], .ndim = rows[i].ndim, .row = rows[i].row };
        memcpy(t.dim, rows[i].dim, sizeof rows[i].dim);
        uint64_t bytes = 0;
        if (apr_tensor_measure(&t, &bytes) != rows[i].fits)
            fail_msg("row %zu: %s", i, rows[i].fits ? "does not fit" : "fits");
        if (rows[i].fits && (t.count != rows[i].count || bytes != rows[i].bytes))
            fail_msg("row %zu: %" PRIu64 " elements, %" PRIu64 " bytes", i, t.count, bytes);
        if (rows[i].fits)
            assert_int_equal(t.row, rows[i].row != 0 ? rows[i].row : t.count);
    }
}

static void only_tensors_within_the_file_are_added(void **state)
{
    (void)state;
    static const struct { uint64_t dim, offset, size; enum apr_code code; const char *words; } rows[] = {
        { 16, 0, 64, APR_OK, NULL },
        { 1, 60, 4, APR_OK, NULL },
        { 0, 64, 0, APR_OK, NULL },                              /* nothing, at the very end */
        { 0, 65, 0, APR_ECORRUPT, "reach past the end" },
        { 1, 61, 4, APR_ECORRUPT, "its 4 bytes from byte 61 on reach past the end of the file, which has 64" },
        { 17, 0, 68, APR_ECORRUPT, "reach past the end" },
        { 1, UINT64_MAX, 4, APR_ECORRUPT, "reach past the end" },
        { 1, UINT64_MAX - 3, 4, APR_ECORRUPT, "reach past the end" },
        { 1, 0, 5, APR_ECORRUPT, "5 bytes of data, 1 elements of F32 take 4" },
        { 2, 0, 4, APR_ECORRUPT, "4 bytes of data, 2 elements of F32 take 8" },
        { 1ull << 62, 0, 0, APR_ECORRUPT, "more than 64 bits" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_model *m = model_of(64);
        struct apr_error e = { .at = 0 };
        const struct apr_tensor t = vector_of(apr_text("a tensor"), APR_F32, rows[i].dim);
        const enum apr_code code = apr_model_add(m, &t, rows[i].offset, rows[i].size, 4120, &e);
        if (code != rows[i].code || (code != APR_OK && (e.at != 4120 || strstr(e.text, rows[i].words) == NULL)))
            fail_msg("row %zu: code %d, at %" PRIu64 ": %s", i, code, e.at, e.text);
        assert_int_equal(m->ntensor, code == APR_OK);
        if (code == APR_OK) {
            assert_ptr_equal(m->tensor[0].data.at, m->file[0]->map.at + rows[i].offset);
            assert_int_equal(m->tensor[0].data.n, rows[i].size);
            assert_int_equal(m->tensor[0].count, rows[i].dim);
            assert_int_equal(apr_tensor_offset(m, &m->tensor[0]), rows[i].offset);
        } else {
            assert_non_null(strstr(e.text, "tensor \"a tensor\""));
        }
        apr_close(m);
    }
}

static void names_are_text_and_stand_once(void **state)
{
    (void)state;
    static const struct { const char *name; size_t n; enum apr_code code; const char *words; } rows[] = {
        { "a", 1, APR_OK, NULL },
        { "", 0, APR_OK, NULL },
        { "\xe3\x83\x86.\xf0\x9f\x99\x82", 8, APR_OK, NULL },
        { "tab\there", 8, APR_OK, NULL },
        { "a", 1, APR_ECORRUPT, "tensor \"a\": the name stands twice" },
        { "", 0, APR_ECORRUPT, "twice" },
        { "ab\xff", 3, APR_ECORRUPT, "the tensor name \"ab\\xff\" is not UTF-8 (byte 2 of it)" },
        { "\xed\xa0\x80", 3, APR_ECORRUPT, "is not UTF-8 (byte 0 of it)" },
        { "a\xe3\x83", 3, APR_ECORRUPT, "is not UTF-8 (byte 1 of it)" },
        { "a\0b", 3, APR_ECORRUPT, "\"a\\x00b\" has a NUL (byte 1 of it)" },
        { "A", 1, APR_OK, NULL },
    };
    struct apr_model *m = model_of(1);
    size_t good = 0;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e = { .at = 0 };
        const struct apr_tensor t = vector_of(bytes_of(rows[i].name, rows[i].n), APR_U8, 1);
        const enum apr_code code = apr_model_add(m, &t, 0, 1, i, &e);
        if (code != rows[i].code || (code != APR_OK && (e.at != i || strstr(e.text, rows[i].words) == NULL)))
            fail_msg("row %zu: code %d, at %" PRIu64 ": %s", i, code, e.at, e.text);
        good += code == APR_OK;
    }
    assert_int_equal(m->ntensor, good);
    assert_null(apr_model_find(m, bytes_of("a\0b", 3)));
    apr_close(m);
}

static void each_of_100000_tensors_is_found(void **state)
{
    (void)state;
    enum { N = 100000 };
    for (unsigned expected = 0; expected < 2; expected++) {
        struct apr_model *m = model_of(N);
        struct apr_error e;
        char name[64];
        if (expected)
            assert_int_equal(apr_model_expect(m, N, &e), APR_OK);
        assert_null(apr_model_find(m, apr_text("blk.7")));
        for (uint64_t i = 0; i < N; i++) {
            const struct apr_tensor t = vector_of(apr_arena_format(&m->arena, "blk.%" PRIu64, i), APR_U8, 1);
            assert_int_equal(apr_model_add(m, &t, i, 1, i, &e), APR_OK);
        }
        assert_int_equal(m->ntensor, N);
        for (uint64_t i = 0; i < N; i++) {
            snprintf(name, sizeof name, "blk.%" PRIu64, i);
            assert_ptr_equal(apr_model_find(m, apr_text(name)), &m->tensor[i]);
            snprintf(name, sizeof name, "blk.%" PRIu64 ".weight", i);
            assert_null(apr_model_find(m, apr_text(name)));
        }
        apr_close(m);
    }
}

static void more_tensors_than_any_model_has_are_not_expected(void **state)
{
    (void)state;
    struct apr_model *m = model_of(1);
    struct apr_error e;
    assert_int_equal(apr_model_expect(m, UINT32_MAX, &e), APR_ELIMIT);
    assert_non_null(strstr(e.text, "4294967295 tensors"));
    assert_int_equal(apr_model_expect(m, 0, &e), APR_OK);
    assert_null(apr_model_find(m, apr_text("")));
    apr_close(m);
}

static void tensors_are_sorted_by_where_they_lie(void **state)
{
    (void)state;
    static const struct { uint64_t offset, size; } rows[] = { { 8, 8 }, { 0, 8 }, { 8, 0 }, { 8, 4 }, { 16, 0 }, { 8, 8 }, { 2, 1 } };
    static const uint32_t sorted[] = { 1, 6, 2, 3, 0, 5, 4 };
    struct apr_model *m = model_of(16);
    struct apr_error e;
    size_t n = 99;
    assert_null(apr_model_by_offset(m, 0, &n));
    assert_int_equal(n, 0);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_tensor t = vector_of(apr_arena_format(&m->arena, "%zu", i), APR_U8, rows[i].size);
        assert_int_equal(apr_model_add(m, &t, rows[i].offset, rows[i].size, 0, &e), APR_OK);
    }
    const unsigned char other[3] = { 0 };
    assert_int_equal(apr_source_open(&m->file[m->nfile++], test_file("other", other, 3), test_run_with(1), &e), APR_OK);
    const struct apr_tensor last = vector_of(apr_text("in the other"), APR_U8, 3);
    assert_int_equal(apr_model_add(m, &last, 0, 3, 0, &e), APR_OK);
    assert_int_equal(m->tensor[m->ntensor - 1].file, 1);

    uint32_t *order = apr_model_by_offset(m, 0, &n);
    assert_int_equal(n, APR_LENGTH(sorted));
    assert_memory_equal(order, sorted, sizeof sorted);
    free(order);
    order = apr_model_by_offset(m, 1, &n);
    assert_int_equal(n, 1);
    assert_int_equal(order[0], APR_LENGTH(rows));
    free(order);
    apr_close(m);
}

/* ---- memory, notes, metadata --------------------------------------------------------------------------------------- */

static void memory_is_zeroed_aligned_and_stays(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 16, 17, 0, 60000, 100, 16384, 16385, 1, 5 << 20, 24, 70000, 3 };
    struct apr_model *m = model_of(0);
    unsigned char *block[APR_LENGTH(sizes) * 20];
    for (size_t i = 0; i < APR_LENGTH(block); i++) {
        const size_t n = sizes[i % APR_LENGTH(sizes)];
        block[i] = apr_arena_alloc(&m->arena, n);
        assert_non_null(block[i]);
        assert_int_equal((uintptr_t)block[i] % _Alignof(max_align_t), 0);
        for (size_t k = 0; k < n; k++)
            if (block[i][k] != 0)
                fail_msg("block %zu is not zeroed at %zu", i, k);
        memset(block[i], (int)(i % 255 + 1), n);
    }
    for (size_t i = 0; i < APR_LENGTH(block); i++)
        for (size_t k = 0; k < sizes[i % APR_LENGTH(sizes)]; k++)
            if (block[i][k] != i % 255 + 1)
                fail_msg("block %zu was overwritten at %zu", i, k);
    assert_null(apr_arena_alloc(&m->arena, SIZE_MAX));
    apr_close(m);
}

static void something_large_leaves_the_current_block_in_use(void **state)
{
    (void)state;
    struct apr_model *m = model_of(0);
    unsigned char *const before = apr_arena_alloc(&m->arena, 16);
    assert_non_null(apr_arena_alloc(&m->arena, 1 << 20));
    assert_ptr_equal(apr_arena_alloc(&m->arena, 16), before + 16);
    apr_close(m);
}

static void names_are_made_of_any_length(void **state)
{
    (void)state;
    struct apr_model *m = model_of(0);
    char x[100001];
    memset(x, 'x', sizeof x - 1);
    x[sizeof x - 1] = 0;
    const struct apr_bytes shorter = apr_arena_format(&m->arena, "%s-%d", "layer", 3), longer = apr_arena_format(&m->arena, "%s!", x);
    assert_true(apr_bytes_is(shorter, "layer-3"));
    assert_int_equal(longer.n, sizeof x);
    assert_int_equal(longer.at[longer.n - 1], '!');
    assert_int_equal(apr_arena_format(&m->arena, "%s", "").n, 0);
    apr_close(m);
}

static void a_thousand_notes_are_kept(void **state)
{
    (void)state;
    struct apr_model *m = model_of(0);
    for (unsigned i = 0; i < 2500; i++)
        apr_model_note(m, "gguf.gap", apr_text("t"), i, "gap %u \x1b%s", i, "\xff");
    assert_int_equal(m->nnote, 1000);
    for (unsigned i = 0; i < 1000; i++) {
        char text[64];
        snprintf(text, sizeof text, "gap %u \\x1b\\xff", i);
        assert_string_equal(m->note[i].text, text);
        assert_string_equal(m->note[i].code, "gguf.gap");
        assert_int_equal(m->note[i].severity, APR_WARNING);
        assert_int_equal(m->note[i].stage, 3);
        assert_int_equal(m->note[i].at, i);
        assert_int_equal(m->note[i].file, 0);
        assert_true(apr_bytes_is(m->note[i].tensor, "t"));
    }
    apr_close(m);
}

static void metadata_keeps_its_order(void **state)
{
    (void)state;
    struct apr_model *m = model_of(0);
    struct apr_error e;
    for (uint64_t i = 0; i < 1000; i++) {
        const struct apr_value v = { .type = APR_META_U64, .u = i };
        assert_int_equal(apr_model_meta(m, apr_arena_format(&m->arena, "key %" PRIu64, i), &v, &e), APR_OK);
    }
    assert_int_equal(m->meta.n, 1000);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(m->meta.entry[i].value.u, i);
    assert_true(apr_bytes_is(m->meta.entry[999].key, "key 999"));
    apr_close(m);
}

static void bytes_are_ordered_as_memcmp_does(void **state)
{
    (void)state;
    static const struct { const char *text; size_t n; } sorted[] = {
        { NULL, 0 }, { "\0", 1 }, { "A", 1 }, { "a", 1 }, { "a\0", 2 }, { "aa", 2 }, { "b", 1 }, { "\xff", 1 },
    };
    for (size_t i = 0; i < APR_LENGTH(sorted); i++)
        for (size_t k = 0; k < APR_LENGTH(sorted); k++) {
            const struct apr_bytes a = bytes_of(sorted[i].text, sorted[i].n), b = bytes_of(sorted[k].text, sorted[k].n);
            const int order = apr_bytes_compare(a, b);
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
            assert_int_equal(apr_bytes_equal(a, b), i == k);
        }
}

static void a_model_is_intact_until_pages_are_lost(void **state)
{
    (void)state;
    struct apr_model *m = model_of(1);
    struct apr_error e;
    assert_int_equal(apr_model_intact(m, &e), APR_OK);
    m->file[0]->lost = 1; /* and its length is what it was */
    assert_int_equal(apr_model_intact(m, &e), APR_EIO);
    assert_string_equal(e.file, m->file[0]->path);
    assert_non_null(strstr(e.text, "the disk failed while it was read: Input/output error"));
    apr_close(m);
    apr_close(NULL);
}

static void every_format_fills_its_row(void **state)
{
    (void)state;
    for (size_t i = 0; apr_formats[i] != NULL; i++) {
        const struct apr_format *f = apr_formats[i];
        assert_true(f->suffix[0] == '.' && f->probe != NULL && f->read != NULL);
        assert_int_equal(strcasecmp(f->name, f->title), 0); /* as --structure spells it */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_follow_from_dtype_and_shape),
        cmocka_unit_test(only_tensors_within_the_file_are_added),
        cmocka_unit_test(names_are_text_and_stand_once),
        cmocka_unit_test(each_of_100000_tensors_is_found),
        cmocka_unit_test(more_tensors_than_any_model_has_are_not_expected),
        cmocka_unit_test(tensors_are_sorted_by_where_they_lie),
        cmocka_unit_test(memory_is_zeroed_aligned_and_stays),
        cmocka_unit_test(something_large_leaves_the_current_block_in_use),
        cmocka_unit_test(names_are_made_of_any_length),
        cmocka_unit_test(a_thousand_notes_are_kept),
        cmocka_unit_test(metadata_keeps_its_order),
        cmocka_unit_test(bytes_are_ordered_as_memcmp_does),
        cmocka_unit_test(a_model_is_intact_until_pages_are_lost),
        cmocka_unit_test(every_format_fills_its_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
