/* Any range of a tensor's elements: blocks entered and left in the middle, padded rows, heads, big-endian files. */
#include "support.h"

#include "values/chunk.h"
#include "values/dtype.h"

static uint64_t seed;

static uint64_t next(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed >> 33;
}

/* A tensor of random finite values; data has exactly its size. Free data.at. */
static struct apr_tensor random_tensor(enum apr_dtype_id id, uint64_t rows, uint64_t row, bool padded)
{
    const struct apr_dtype *d = &apr_dtypes[id];
    struct apr_tensor t = { .dtype = d, .ndim = 2, .dim = { rows, row }, .count = rows * row, .row = padded ? row : rows * row };
    const uint64_t nblocks = t.count / t.row * ((t.row + d->block - 1) / d->block);
    t.data.n = (size_t)(d->head + nblocks * d->bytes);
    unsigned char *at = malloc(t.data.n);
    for (size_t i = 0; i < t.data.n; i++)
        at[i] = (unsigned char)(next() & (d->block == 1 ? 0x37 : 0xff));
    for (unsigned char *block = at + d->head; block < at + t.data.n; block += d->bytes)
        for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n; f++)
            if (f->kind == APR_FIELD_F16 || f->kind == APR_FIELD_F32)
                block[f->at + apr_field_width(f->kind) - 1] &= 0x3b;
    t.data.at = at;
    return t;
}

/* All its values, by the kernels alone. Free it. */
static double *whole(const struct apr_kernels *k, const struct apr_tensor *t)
{
    const struct apr_dtype *d = t->dtype;
    const uint64_t blocks_per_row = (t->row + d->block - 1) / d->block, padded = blocks_per_row * d->block;
    double *all = malloc(t->count * sizeof *all), *wide = malloc(padded * sizeof *wide);
    float *floats = malloc(padded * sizeof *floats);
    for (uint64_t r = 0; r < t->count / t->row; r++) {
        const unsigned char *blocks = t->data.at + d->head + r * blocks_per_row * d->bytes;
        if (d->wide)
            k->decode_wide[apr_dtype_id(d)](t->data.at, blocks, padded, wide);
        else
            k->decode[apr_dtype_id(d)](t->data.at, blocks, padded, floats);
        for (uint64_t i = 0; i < t->row; i++)
            all[r * t->row + i] = d->wide ? wide[i] : (double)floats[i];
    }
    free(wide);
    free(floats);
    return all;
}

static void expect_slice(const struct apr_kernels *k, const struct apr_tensor *t, const double *all, uint64_t first, size_t n)
{
    double *doubles = malloc((n + 1) * sizeof *doubles);
    float *floats = malloc((n + 1) * sizeof *floats);
    apr_read_doubles(k, t, first, n, doubles);
    if (n && memcmp(doubles, all + first, n * sizeof *doubles) != 0)
        fail_msg("%s: elements from %zu, %zu of them, in rows of %zu", t->dtype->name, (size_t)first, n, (size_t)t->row);
    if (!t->dtype->wide) {
        apr_read_floats(k, t, first, n, floats);
        for (size_t i = 0; i < n; i++) {
            const double value = floats[i];
            assert_memory_equal(&value, &all[first + i], sizeof value);
        }
    }
    free(doubles);
    free(floats);
}

/* The first and the last element, the whole, the middle of blocks, and whatever else. */
static void expect_slices(const struct apr_kernels *k, const struct apr_tensor *t, const double *all)
{
    expect_slice(k, t, all, 0, 0);
    expect_slice(k, t, all, t->count, 0);
    expect_slice(k, t, all, 0, 1);
    expect_slice(k, t, all, t->count - 1, 1);
    expect_slice(k, t, all, 0, apr_min(t->count, APR_STRETCH));
    for (unsigned i = 0; i < 60; i++) {
        const uint64_t first = next() % t->count;
        expect_slice(k, t, all, first, (size_t)apr_min(next() % (i % 2 ? 40 : APR_STRETCH + 1), t->count - first));
    }
}

static void any_range_is_a_slice_of_the_whole(void **state)
{
    (void)state;
    static const struct {
        uint64_t rows, row;
        bool     padded;
    } shapes[] = {
        { 1, 1, false }, { 1, 5, false }, { 3, 300, false }, { 9, 896, false }, { 4, 256, true }, { 1, 31, true },
        { 7, 33, true }, { 3, 300, true }, { 9, 896, true },
    };
    const struct apr_kernels *k = apr_kernels_for(apr_isa_best());
    seed = 1;
    for (unsigned id = 0; id < APR_NDTYPES; id++) {
        for (size_t i = 0; i < APR_LENGTH(shapes); i++) {
            struct apr_tensor t = random_tensor((enum apr_dtype_id)id, shapes[i].rows, shapes[i].row, shapes[i].padded);
            if (apr_decodable(k, &t)) {
                double *all = whole(k, &t);
                expect_slices(k, &t, all);
                free(all);
            }
            free((void *)t.data.at);
        }
    }
}

static void complex_numbers_have_no_values_of_their_own(void **state)
{
    (void)state;
    const struct apr_tensor t = { .dtype = &apr_dtypes[APR_C64] };
    assert_false(apr_decodable(apr_kernels_for(APR_SCALAR), &t));
}

/* The multi-byte scalars of a block, as the GGUF converters know them (the last three rows: as GGML's code loads them). */
static void big_endian_blocks_give_the_same_values(void **state)
{
    (void)state;
    static const struct {
        enum apr_dtype_id id;
        struct {
            unsigned char at, width, n;
        } field[3];
    } rows[] = {
        { APR_F64, { { 0, 8, 1 } } },  { APR_F32, { { 0, 4, 1 } } },   { APR_F16, { { 0, 2, 1 } } }, { APR_BF16, { { 0, 2, 1 } } },
        { APR_I64, { { 0, 8, 1 } } },  { APR_I32, { { 0, 4, 1 } } },   { APR_I16, { { 0, 2, 1 } } }, { APR_I8, { { 0, 0, 0 } } },
        { APR_Q4_0, { { 0, 2, 1 } } }, { APR_Q8_0, { { 0, 2, 1 } } },  { APR_Q4_K, { { 0, 2, 2 } } }, { APR_Q6_K, { { 208, 2, 1 } } },
        { APR_Q4_1, { { 0, 2, 2 } } }, { APR_Q2_K, { { 80, 2, 2 } } }, { APR_Q3_K, { { 108, 2, 1 } } },
        { APR_Q5_0, { { 0, 2, 1 }, { 2, 4, 1 } } }, { APR_Q5_1, { { 0, 2, 2 }, { 4, 4, 1 } } }, { APR_Q8_K, { { 0, 4, 1 } } },
    };
    const struct apr_kernels *k = apr_kernels_for(apr_isa_best());
    seed = 2;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_tensor t = random_tensor(rows[i].id, 11, 512, true);
        const size_t bytes = t.dtype->bytes;
        double *all = whole(k, &t);
        unsigned char *turned = malloc(t.data.n);
        memcpy(turned, t.data.at, t.data.n);
        for (size_t block = 0; block < t.data.n; block += bytes)
            for (size_t f = 0; f < APR_LENGTH(rows[i].field); f++)
                for (size_t v = 0, width = rows[i].field[f].width; v < rows[i].field[f].n; v++)
                    for (size_t b = 0, at = block + rows[i].field[f].at + v * width; b < width; b++)
                        turned[at + b] = t.data.at[at + width - 1 - b];
        free((void *)t.data.at);
        t.data.at = turned;
        t.swapped = true;
        expect_slices(k, &t, all);
        free(all);
        free(turned);
    }
}

static void blocks_are_read_as_they_are(void **state)
{
    (void)state;
    unsigned char bytes[8 * 5 + 1];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(0xF0 + i);
    for (unsigned big = 0; big < 2; big++) {
        const struct apr_tensor t = { .dtype = &apr_dtypes[big ? APR_I64 : APR_U64], .ndim = 1, .dim = { 5 }, .count = 5, .row = 5,
                                      .data = { bytes + 1, 40 }, .swapped = big };
        uint64_t out[3] = { 0 };
        apr_read_blocks(&t, 2, 3, out);
        for (size_t i = 0; i < 3; i++)
            for (unsigned b = 0; b < 8; b++)
                assert_int_equal(out[i] >> 8 * b & 0xFF, bytes[1 + 8 * (i + 2) + (big ? 7 - b : b)]);
        apr_read_blocks(&t, 5, 0, out);
    }
}

static void the_bytes_of_elements_are_whole_blocks(void **state)
{
    (void)state;
    static const struct {
        enum apr_dtype_id id;
        uint64_t          count, row, first, n;
        size_t            at, bytes;
    } rows[] = {
        { APR_F32, 100, 100, 7, 3, 28, 12 },      { APR_F32, 100, 100, 7, 0, 0, 0 },       { APR_F32, 0, 0, 0, 0, 0, 0 },
        { APR_Q4_0, 128, 128, 31, 2, 0, 36 },     { APR_Q4_0, 128, 128, 32, 32, 18, 18 },  { APR_F6_E2M3, 64, 64, 3, 2, 0, 6 },
        { APR_Q4_K, 600, 300, 0, 600, 0, 576 },   { APR_Q4_K, 600, 300, 299, 1, 144, 144 }, { APR_Q4_K, 600, 300, 299, 2, 144, 288 },
        { APR_Q4_K, 600, 600, 0, 600, 0, 432 },   { APR_Q4_K, 600, 600, 599, 1, 288, 144 }, { APR_APR_Q8, 10, 10, 2, 3, 6, 3 },
        { APR_APR_Q4, 40, 40, 39, 1, 18, 18 },    { APR_F4, 10, 10, 9, 1, 4, 1 },
    };
    unsigned char bytes[1024];
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_tensor t = { .dtype = &apr_dtypes[rows[i].id], .count = rows[i].count, .row = rows[i].row,
                                      .data = { bytes, sizeof bytes } };
        const struct apr_bytes b = apr_element_bytes(&t, rows[i].first, rows[i].n);
        assert_int_equal(b.at - bytes, rows[i].at);
        assert_int_equal(b.n, rows[i].bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_range_is_a_slice_of_the_whole),
        cmocka_unit_test(complex_numbers_have_no_values_of_their_own),
        cmocka_unit_test(big_endian_blocks_give_the_same_values),
        cmocka_unit_test(blocks_are_read_as_they_are),
        cmocka_unit_test(the_bytes_of_elements_are_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
