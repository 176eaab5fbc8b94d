/* lib/flow/input.c and window.c: what a tool reads. Transforms are in test_rows.c; here is what lies as it lies, and in several parts. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "files/source.h"
#include "flow/input.h"
#include "values/dtype.h"

/* Tensors of one file, which is a model without a format. */
struct stored {
    struct apr_source       *s;
    struct apr_model         m;
    struct apr_tensor        t[4];
    const struct apr_tensor *part[4];
};

/* n tensors of that dtype and those dims, their data one after the other from byte 1 on: it is not aligned. */
static void store(struct stored *s, size_t n, enum apr_dtype_id id, const uint64_t *dim, unsigned ndim, const void *data, size_t bytes)
{
    struct test_bytes b = { 0 };
    struct apr_error e;
    test_text(&b, "?");
    test_put(&b, data, bytes);
    if (apr_source_open(&s->s, test_file("stored", b.at, b.n), test_run_with(1), &e) != APR_OK)
        fail_msg("%s", e.text);
    test_free(&b);
    s->m = (struct apr_model){ .file = &s->s, .nfile = 1 };
    for (size_t i = 0; i < n; i++) {
        struct apr_tensor *t = &s->t[i];
        *t = (struct apr_tensor){ .dtype = &apr_dtypes[id], .ndim = ndim, .count = 1 };
        memcpy(t->dim, dim, ndim * sizeof *dim);
        for (unsigned d = 0; d < ndim; d++)
            t->count *= dim[d];
        t->row = t->count;
        t->data = (struct apr_bytes){ s->s->map.at + 1 + i * (bytes / n), bytes / n };
        s->part[i] = t;
    }
}

static struct apr_input input_of(const struct stored *s) { return apr_input_of(apr_kernels_for(APR_SCALAR), &s->m, &s->t[0]); }

static void complex_numbers_are_pairs_of_reals(void **state)
{
    (void)state;
    static const float data[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    struct stored s;
    store(&s, 1, APR_C64, (const uint64_t[]){ 3, 2 }, 2, data, sizeof data);
    const struct apr_input in = input_of(&s), copy = in;
    float out[5];
    double doubles[5];
    assert_int_equal(in.ndim, 3);
    assert_int_equal(in.dim[2], 2);
    assert_int_equal(in.count, 12);
    assert_int_equal(in.nrow, 6);
    assert_true(in.decodable && in.plain && !in.wide && !in.strided && !in.whole);
    apr_input_floats(&copy, NULL, 5, 5, out);
    apr_input_doubles(&copy, NULL, 5, 5, doubles);
    for (size_t i = 0; i < 5; i++)
        assert_true(out[i] == data[5 + i] && doubles[i] == (double)data[5 + i]);
    apr_source_close(s.s);
}

/* All 65,536 of them: signalling NaNs and payloads too, which no conversion leaves alone. */
static void sixteen_bits_pass_as_they_are(void **state)
{
    (void)state;
    static const enum apr_dtype_id id[] = { APR_F16, APR_BF16 };
    static uint16_t code[65536], out[65536];
    for (unsigned swapped = 0; swapped < 2; swapped++)
        for (size_t i = 0; i < APR_LENGTH(id); i++) {
            struct stored s;
            for (unsigned k = 0; k < 65536; k++)
                code[k] = (uint16_t)(swapped ? k >> 8 | k << 8 : k);
            store(&s, 1, id[i], (const uint64_t[]){ 256, 256 }, 2, code, sizeof code);
            s.t[0].swapped = swapped;
            const struct apr_input in = input_of(&s);
            struct apr_window w = apr_window_of(test_run_with(1));
            assert_true(apr_input_blocks(&in, &w, 0, 65536, out));
            for (unsigned k = 0; k < 65536; k++)
                assert_int_equal(out[k], k);
            apr_window_drop(&w);
            apr_source_close(s.s);
        }
}

static void blocks_are_had_whole_or_not_at_all(void **state)
{
    (void)state;
    unsigned char data[12 * 34], out[sizeof data];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37);
    struct stored s;
    store(&s, 2, APR_Q8_0, (const uint64_t[]){ 3, 64 }, 2, data, sizeof data);
    const struct apr_input one = input_of(&s);
    static const struct { uint64_t first, n; bool yes; } rows[] = {
        { 0, 192, true }, { 32, 32, true }, { 160, 32, true }, { 64, 128, true }, { 0, 0, true }, { 1, 32, false }, { 0, 33, false }, { 32, 16, false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        if (apr_input_blocks(&one, NULL, rows[i].first, rows[i].n, out) != rows[i].yes)
            fail_msg("elements %d and on, %d of them", (int)rows[i].first, (int)rows[i].n);
        if (rows[i].yes)
            assert_memory_equal(out, data + rows[i].first / 32 * 34, rows[i].n / 32 * 34);
    }

    /* both of them stacked, and rows 2 and 3 of that */
    static const struct apr_transform stack = { .op = APR_OP_STACK, .nn = 1, .n = { 2 } };
    struct apr_view v = apr_view_of(s.part, 2, 0);
    struct apr_error e;
    assert_int_equal(apr_view_back(&v, &stack, 1, (const uint64_t[APR_MAX_DIMS]){ 3, 64 }, 2, &e), APR_OK);
    const struct apr_input both = apr_input_through(one.k, &s.m, &v, (const uint64_t[]){ 2, 3, 64 }, 3);
    assert_int_equal(both.nrow, 6);
    assert_true(apr_input_blocks(&both, NULL, 2 * 64, 2 * 64, out));
    assert_memory_equal(out, data + 4 * 34, 4 * 34);
    s.t[1].dtype = &apr_dtypes[APR_F16];
    assert_false(apr_input_blocks(&both, NULL, 2 * 64, 2 * 64, out));
    apr_source_close(s.s);
}

/* Rows of 40 in blocks of 32: each row has one block of padding in part. */
static void padded_rows_are_whole_blocks(void **state)
{
    (void)state;
    unsigned char data[4 * 34], out[sizeof data];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 37);
    struct stored s;
    store(&s, 1, APR_Q8_0, (const uint64_t[]){ 2, 40 }, 2, data, sizeof data);
    s.t[0].row = 40;
    const struct apr_input in = input_of(&s);
    assert_true(apr_input_blocks(&in, NULL, 40, 40, out));
    assert_memory_equal(out, data + 2 * 34, 2 * 34);
    assert_true(apr_input_blocks(&in, NULL, 0, 80, out));
    assert_memory_equal(out, data, sizeof data);
    assert_false(apr_input_blocks(&in, NULL, 0, 39, out));
    const struct apr_bytes stored = apr_input_stored(&in, NULL, 34, 1000);
    assert_ptr_equal(stored.at, s.t[0].data.at + 34);
    assert_int_equal(stored.n, 3 * 34);
    assert_int_equal(apr_input_stored(&in, NULL, 5 * 34, 34).n, 0);
    apr_source_close(s.s);
}

/* Rows that no part has are zeros; as blocks only where zeros are: not where bytes are exponents. */
static void rows_that_are_not_stored_are_zeros(void **state)
{
    (void)state;
    static const struct apr_transform some = { .op = APR_OP_ROWS, .nn = 2, .n = { 1, 2 } };
    static const struct { enum apr_dtype_id id; bool yes; } rows[] = { { APR_BF16, true }, { APR_I64, true }, { APR_F8_E8M0, false } };
    static const unsigned char data[2 * 3 * 8] = { 1, 1, 1, 1 };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        unsigned char out[5 * 3 * 8];
        double values[15];
        struct stored s;
        const size_t width = apr_dtypes[rows[i].id].bytes;
        store(&s, 1, rows[i].id, (const uint64_t[]){ 2, 3 }, 2, data, 6 * width);
        struct apr_view v = apr_view_of(s.part, 1, 0);
        struct apr_error e;
        assert_int_equal(apr_view_forth(&v, &some, 1, (const uint64_t[APR_MAX_DIMS]){ 5, 3 }, 2, &e), APR_OK);
        const struct apr_input in = apr_input_through(apr_kernels_for(APR_SCALAR), &s.m, &v, (const uint64_t[]){ 5, 3 }, 2);
        memset(out, 7, sizeof out);
        assert_int_equal(apr_input_blocks(&in, NULL, 0, 15, out), rows[i].yes);
        apr_input_doubles(&in, NULL, 0, 15, values);
        for (size_t k = 0; k < 3; k++)
            assert_true(values[k] == 0 && values[9 + k] == 0);
        for (size_t k = 0; rows[i].yes && k < 15 * width; k++)
            assert_int_equal(out[k], k >= 3 * width && k < 3 * width + 4 && k < 9 * width);
        apr_source_close(s.s);
    }
}

static void integers_of_64_bits_are_read_as_they_are(void **state)
{
    (void)state;
    static const int64_t data[] = { INT64_MIN, -1, 0, 1, (INT64_C(1) << 53) + 1, INT64_MAX };
    uint64_t out[6], tile[6];
    struct stored s;
    store(&s, 1, APR_I64, (const uint64_t[]){ 2, 3 }, 2, data, sizeof data);
    const struct apr_input in = input_of(&s);
    assert_true(in.whole && in.wide);
    apr_input_whole(&in, NULL, 0, 6, out);
    assert_memory_equal(out, data, sizeof data);
    apr_input_tile_whole(&in, NULL, 0, 2, 1, 2, tile);
    assert_true(tile[0] == out[1] && tile[1] == out[2] && tile[2] == out[4] && tile[3] == out[5]);

    /* as a transposed matrix */
    static const struct apr_transform transpose = { .op = APR_OP_TRANSPOSE };
    struct apr_view v = apr_view_of(s.part, 1, 0);
    struct apr_error e;
    assert_int_equal(apr_view_forth(&v, &transpose, 1, (const uint64_t[APR_MAX_DIMS]){ 3, 2 }, 2, &e), APR_OK);
    const struct apr_input turned = apr_input_through(in.k, &s.m, &v, (const uint64_t[]){ 3, 2 }, 2);
    assert_true(turned.whole && turned.strided && !turned.plain);
    apr_input_whole(&turned, NULL, 0, 6, out);
    apr_input_tile_whole(&turned, NULL, 0, 3, 0, 2, tile);
    for (size_t i = 0; i < 6; i++)
        assert_true(out[i] == (uint64_t)data[i % 2 * 3 + i / 2] && tile[i] == out[i]);
    apr_source_close(s.s);
}

/* ---- windows ---------------------------------------------------------------------------------------------------------- */

#define MIB ((size_t)1 << 20)

static size_t resident(void)
{
    unsigned long pages = 0;
    FILE *const f = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(f, "%*u %*u %lu", &pages), 1);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* In order and out of it, small steps and large ones: what is kept is bounded, and what is read is what is there. */
static void a_window_keeps_what_it_may_and_no_more(void **state)
{
    (void)state;
    enum { LENGTH = 64 << 20 };
    static const struct { size_t step, n; } rows[] = { { 4096, 4096 }, { 5000, 4000 }, { 300000, 262144 }, { 37 * 4096 * 101 + 5, 512 }, { 6 << 20, 1 << 20 } };
    const char *const path = test_file("large", "x", 1);
    assert_int_equal(truncate(path, LENGTH), 0);
    struct apr_source *s;
    struct apr_error e;
    assert_int_equal(apr_source_open(&s, path, test_run_with(1), &e), APR_OK);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_window w = apr_window_of(test_run_with(16));
        const size_t before = resident();
        size_t most = 0, sum = 0;
        for (size_t k = 0, at = 0; k < 3000; k++, at = (at + rows[i].step) % (LENGTH - rows[i].n)) {
            const struct apr_bytes b = { s->map.at + at, rows[i].n };
            apr_window_touch(&w, s->map, b);
            for (size_t c = 0; c < b.n; c += 4096)
                sum += b.at[c];
            if (k % 16 == 0)
                apr_window_rest(&w);
            const size_t now = k % 50 == 0 ? resident() : 0;
            most = now > before && now - before > most ? now - before : most;
        }
        assert_true(sum <= 3000 * 120);
        if (most > 6 * MIB)
            fail_msg("steps of %zu bytes: %zu KiB are kept", rows[i].step, most >> 10);
        apr_window_drop(&w);
        assert_true(resident() < before + MIB);
    }
    apr_source_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(complex_numbers_are_pairs_of_reals),
        cmocka_unit_test(sixteen_bits_pass_as_they_are),
        cmocka_unit_test(blocks_are_had_whole_or_not_at_all),
        cmocka_unit_test(padded_rows_are_whole_blocks),
        cmocka_unit_test(rows_that_are_not_stored_are_zeros),
        cmocka_unit_test(integers_of_64_bits_are_read_as_they_are),
        cmocka_unit_test(a_window_keeps_what_it_may_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
