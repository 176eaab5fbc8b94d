/* lib/forward/matrix.c: products with matrices of any dtype and layout, the same bytes from any number of threads and any kernels. */
#include "support.h"

#include <math.h>

#include "files/source.h"
#include "forward/matrix.h"
#include "values/dtype.h"

/* Tensors of one file, as many as there are parts, side by side from byte 1 on. */
#define MOST_PARTS 3
struct stored {
    struct apr_source       *s;
    struct apr_model         m;
    struct apr_tensor        t[MOST_PARTS];
    const struct apr_tensor *part[MOST_PARTS];
};

/* One dtype, nrow rows of ncol each; values: of all of them, encoded as that dtype where something encodes it. */
static void store(struct stored *s, size_t n, enum apr_dtype_id id, uint64_t nrow, uint64_t ncol, const void *data, size_t bytes)
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
        s->t[i] = (struct apr_tensor){ .dtype = &apr_dtypes[id], .ndim = 2, .dim = { nrow, ncol }, .count = nrow * ncol, .row = nrow * ncol,
                                       .data = { s->s->map.at + 1 + i * (bytes / n), bytes / n } };
        s->part[i] = &s->t[i];
    }
}

static struct apr_team *team_of(unsigned threads)
{
    struct apr_team *t;
    struct apr_error e;
    assert_int_equal(apr_team_new(&t, threads, &e), APR_OK);
    return t;
}

static void multiply(const struct apr_matrix *w, unsigned threads, const float *x, size_t n, float *y, size_t stride)
{
    struct apr_team *const team = team_of(threads);
    struct apr_error e;
    if (apr_matrices_times(&(struct apr_product){ w, y, stride }, 1, team, x, n, &e) != APR_OK)
        fail_msg("%s", e.text);
    apr_team_free(team);
}

static const struct apr_kernels *next_level(unsigned *isa)
{
    while (*isa < APR_NISA && !apr_isa_has((enum apr_isa)*isa))
        ++*isa;
    return *isa < APR_NISA ? apr_kernels_for((enum apr_isa)(*isa)++) : NULL;
}
#define FOR_LEVELS(k) for (unsigned isa_ = 0, once_ = 1; once_; once_ = 0) for (const struct apr_kernels *k; (k = next_level(&isa_)) != NULL;)

/* Small integers, whose sums are exact in any order: element (r, c) of the matrix, (p, c) of the activations. */
static int weight(uint64_t r, uint64_t c) { return (int)((r * 31 + c * 17 + r * c % 7) % 23) - 11; }
static float activation(uint64_t p, uint64_t c) { return (float)((int)((p * 13 + c * 29) % 31) - 15) / 4; }

/* y = x W^T by the book, from weight(). what: named by a failure. */
static void expect_products(const char *what, const struct apr_matrix *w, uint64_t first, unsigned threads, size_t n)
{
    const size_t nin = (size_t)w->nin, nout = (size_t)w->nout, stride = nout + 3;
    float *const x = malloc((n * nin + 1) * sizeof *x), *const y = malloc(n * stride * sizeof *y);
    for (size_t i = 0; i < n * nin; i++)
        x[i] = activation(i / nin, i % nin);
    for (size_t i = 0; i < n * stride; i++)
        y[i] = 777;
    multiply(w, threads, x, n, y, stride);
    for (size_t p = 0; p < n; p++)
        for (size_t o = 0; o < stride; o++) {
            double wanted = o < nout ? 0 : 777;
            for (size_t c = 0; c < nin && o < nout; c++)
                wanted += weight(first + o, c) * (double)x[p * nin + c];
            if ((double)y[p * stride + o] != wanted)
                fail_msg("%s, %s, %u threads, %zu x %zu: output %zu of position %zu of %zu is %g, not %g", what, apr_isa_word(w->in->k->isa),
                         threads, nout, nin, o, p, n, (double)y[p * stride + o], wanted);
        }
    free(x);
    free(y);
}

/* weight() of nrow x ncol, or turned, as a dtype that holds it. Free with free. */
static unsigned char *weights(enum apr_dtype_id id, size_t nrow, size_t ncol, bool turned, size_t *bytes)
{
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    *bytes = nrow * ncol * apr_dtypes[id].bytes;
    unsigned char *const at = malloc(*bytes + 1);
    for (size_t i = 0; i < nrow * ncol; i++) {
        const int v = turned ? weight(i % nrow, i / nrow) : weight(i / ncol, i % ncol);
        const float f = (float)v;
        const double d = v;
        if (k->encode[id] != NULL)
            k->encode[id](&f, 1, at + i * apr_dtypes[id].bytes);
        else if (k->encode_wide[id] != NULL)
            k->encode_wide[id](&d, 1, at + i * apr_dtypes[id].bytes);
        else
            for (unsigned b = 0; b < apr_dtypes[id].bytes; b++)
                at[i * apr_dtypes[id].bytes + b] = (unsigned char)((int64_t)v >> 8 * b);
    }
    return at;
}

static const size_t shape[][2] = { { 1, 1 }, { 7, 16 }, { 300, 5 }, { 33, 70 }, { 9, 1030 }, { 2, 9000 }, { 19, 0 }, { 1000, 3 } };
static const size_t positions[] = { 1, 2, 6, 13 };

static void products_are_those_of_the_book(void **state)
{
    (void)state;
    static const enum apr_dtype_id id[] = { APR_F32, APR_BF16, APR_F16, APR_F64, APR_I8, APR_I64 };
    FOR_LEVELS(k)
        for (size_t i = 0; i < APR_LENGTH(id) * APR_LENGTH(shape); i++) {
            const size_t nrow = shape[i % APR_LENGTH(shape)][0], ncol = shape[i % APR_LENGTH(shape)][1];
            size_t bytes;
            unsigned char *const data = weights(id[i / APR_LENGTH(shape)], nrow, ncol, false, &bytes);
            struct stored s;
            store(&s, 1, id[i / APR_LENGTH(shape)], nrow, ncol, data, bytes);
            const struct apr_input in = apr_input_of(k, &s.m, &s.t[0]);
            const struct apr_matrix all = { .in = &in, .nout = nrow, .nin = ncol }, few = { .in = &in, .first = nrow / 2, .nout = nrow - nrow / 2, .nin = ncol };
            for (size_t p = 0; p < APR_LENGTH(positions); p++) {
                expect_products(s.t[0].dtype->name, &all, 0, 1, positions[p]);
                expect_products(s.t[0].dtype->name, &few, nrow / 2, 3, positions[p]);
            }
            free(data);
            apr_source_close(s.s);
        }
}

/* As GPT-2's are stored: columns are runs. */
static void turned_matrices_are_read_by_tiles(void **state)
{
    (void)state;
    static const struct apr_transform turn = { .op = APR_OP_TRANSPOSE };
    static const enum apr_dtype_id id[] = { APR_F32, APR_BF16, APR_F64 };
    FOR_LEVELS(k)
        for (size_t i = 0; i < APR_LENGTH(id) * 4; i++) {
            static const size_t dims[][2] = { { 3, 5 }, { 300, 70 }, { 40, 600 }, { 520, 260 } };
            const size_t nrow = dims[i % 4][0], ncol = dims[i % 4][1];
            size_t bytes;
            unsigned char *const data = weights(id[i / 4], nrow, ncol, true, &bytes);
            struct stored s;
            store(&s, 1, id[i / 4], ncol, nrow, data, bytes);
            struct apr_view v = apr_view_of(s.part, 1, 0);
            struct apr_error e;
            assert_int_equal(apr_view_back(&v, &turn, 1, (const uint64_t[APR_MAX_DIMS]){ ncol, nrow }, 2, &e), APR_OK);
            const struct apr_input in = apr_input_through(k, &s.m, &v, (const uint64_t[]){ nrow, ncol }, 2);
            assert_true(in.strided);
            const struct apr_matrix w = { .in = &in, .first = 1, .nout = nrow - 1, .nin = ncol };
            for (size_t p = 0; p < APR_LENGTH(positions); p++)
                expect_products("turned", &w, 1, (unsigned)p, positions[p]);
            free(data);
            apr_source_close(s.s);
        }
}

/* Three tensors as one: the rows of each are rows of the stack, from one to the next also within a group. */
static void rows_of_several_tensors_are_one_matrix(void **state)
{
    (void)state;
    static const struct apr_transform stack = { .op = APR_OP_STACK, .nn = 1, .n = { 3 } };
    size_t bytes;
    unsigned char *const data = weights(APR_BF16, 33, 48, false, &bytes);
    struct stored s;
    store(&s, 3, APR_BF16, 11, 48, data, bytes);
    FOR_LEVELS(k) {
        struct apr_view v = apr_view_of(s.part, 3, 0);
        struct apr_error e;
        assert_int_equal(apr_view_back(&v, &stack, 1, (const uint64_t[APR_MAX_DIMS]){ 11, 48 }, 2, &e), APR_OK);
        const struct apr_input in = apr_input_through(k, &s.m, &v, (const uint64_t[]){ 3, 11, 48 }, 3);
        const struct apr_matrix w = { .in = &in, .first = 2, .nout = 30, .nin = 48 };
        for (size_t p = 0; p < APR_LENGTH(positions); p++)
            expect_products("stacked", &w, 2, 2, positions[p]);
    }
    free(data);
    apr_source_close(s.s);
}

/* Random blocks, in rows that end within a block or do not; products of all and rows of some. */
static void bytes_depend_neither_on_threads_nor_on_kernels(void **state)
{
    (void)state;
    static const struct { enum apr_dtype_id id; size_t nrow, ncol; } rows[] = {
        { APR_Q8_0, 50, 640 }, { APR_Q5_0, 37, 96 }, { APR_Q4_0, 21, 2080 }, { APR_Q4_K, 40, 512 }, { APR_Q6_K, 40, 1024 }, { APR_Q5_K, 9, 256 },
        { APR_IQ4_NL, 40, 64 }, { APR_F16, 30, 77 }, { APR_BF16, 3, 4099 }, { APR_Q8_0, 64, 40 }, { APR_Q4_K, 5, 257 },
    };
    static float x[70 * 4099], y[70 * 67], wanted[70 * 67], scalar_row[4099], row[4099];
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = ((float)test_random(1 << 24) - (1 << 23)) * 0x1p-22f;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_dtype *const d = &apr_dtypes[rows[i].id];
        const size_t bytes = rows[i].nrow * ((rows[i].ncol + d->block - 1) / d->block) * d->bytes;
        unsigned char *const data = malloc(bytes);
        for (size_t b = 0; b < bytes; b++)
            data[b] = (unsigned char)(b % 2 ? test_random(256) & 0xbd : test_random(256)); /* few are NaN */
        struct stored s;
        store(&s, 1, rows[i].id, rows[i].nrow, rows[i].ncol, data, bytes);
        s.t[0].row = rows[i].ncol;
        for (size_t n = 1; n <= 70; n = n < 14 ? n + 3 : 70 + (n == 70)) {
            const struct apr_input plain = apr_input_of(apr_kernels_for(APR_SCALAR), &s.m, &s.t[0]);
            const struct apr_matrix by_scalar = { .in = &plain, .nout = rows[i].nrow, .nin = rows[i].ncol };
            multiply(&by_scalar, 1, x, n, wanted, 67);
            apr_matrix_rows(&by_scalar, rows[i].nrow - 1, 1, scalar_row);
            for (size_t j = 0; j < n * 67; j++)
                if (isnan(wanted[j]))
                    assert_memory_equal(&wanted[j], (&(const uint32_t){ 0x7fc00000 }), 4);
            FOR_LEVELS(k)
                for (unsigned threads = 1; threads < 6; threads += 2) {
                    const struct apr_input in = apr_input_of(k, &s.m, &s.t[0]);
                    const struct apr_matrix w = { .in = &in, .nout = rows[i].nrow, .nin = rows[i].ncol };
                    memcpy(y, wanted, sizeof y);
                    for (size_t j = 0; j < n * 67; j++)
                        y[j] = j % 67 < rows[i].nrow ? 1234 : y[j];
                    multiply(&w, threads, x, n, y, 67);
                    if (memcmp(y, wanted, sizeof y) != 0)
                        fail_msg("%s, %zu x %zu, %zu positions, %u threads, %s", d->name, rows[i].nrow, rows[i].ncol, n, threads, apr_isa_word(k->isa));
                    apr_matrix_rows(&w, rows[i].nrow - 1, 1, row);
                    for (size_t j = 0; j < rows[i].ncol; j++)
                        assert_true(row[j] == scalar_row[j] || (isnan(row[j]) && isnan(scalar_row[j])));
                }
        }
        free(data);
        apr_source_close(s.s);
    }
}

static void what_is_no_number_is_one_nan(void **state)
{
    (void)state;
    static const uint32_t bits[] = { 0x7fc00001, 0xffc00000, 0x7f800001, 0xff800000, 0x7f800000, 0x7f7fffff };
    static const uint32_t wanted[] = { 0x7fc00000, 0x7fc00000, 0x7fc00000, 0xff800000, 0x7f800000, 0x7f800000 }; /* times 2 */
    struct stored s;
    store(&s, 1, APR_F32, 6, 1, bits, sizeof bits);
    FOR_LEVELS(k) {
        const struct apr_input in = apr_input_of(k, &s.m, &s.t[0]);
        const struct apr_matrix w = { .in = &in, .nout = 6, .nin = 1 };
        const float x[] = { 2, 0, 2 };
        float y[3 * 6];
        for (size_t n = 1; n <= 3; n += 2) {
            multiply(&w, 1, x, n, y, 6);
            assert_memory_equal(y, wanted, sizeof wanted);
        }
        assert_memory_equal(y + 6 + 3, wanted, 4); /* infinity times 0 */
        assert_true(y[6 + 5] == 0);
    }
    apr_source_close(s.s);
}

static void several_matrices_are_multiplied_in_one_go(void **state)
{
    (void)state;
    size_t bytes, turned_bytes;
    unsigned char *const data = weights(APR_BF16, 90, 64, false, &bytes), *const turned = weights(APR_F32, 64, 64, true, &turned_bytes);
    struct stored s, other;
    store(&s, 1, APR_BF16, 90, 64, data, bytes);
    store(&other, 1, APR_F32, 64, 64, turned, turned_bytes);
    static const struct apr_transform turn = { .op = APR_OP_TRANSPOSE };
    struct apr_view v = apr_view_of(other.part, 1, 0);
    struct apr_error e;
    assert_int_equal(apr_view_back(&v, &turn, 1, (const uint64_t[APR_MAX_DIMS]){ 64, 64 }, 2, &e), APR_OK);
    FOR_LEVELS(k)
        for (unsigned with_turned = 0; with_turned < 2; with_turned++)
            for (size_t i = 0; i < APR_LENGTH(positions); i++) {
                const struct apr_input in = apr_input_of(k, &s.m, &s.t[0]), strided = apr_input_through(k, &other.m, &v, (const uint64_t[]){ 64, 64 }, 2);
                const struct apr_matrix w[] = { { .in = &in, .nout = 40, .nin = 64 }, { .in = &in, .first = 40, .nout = 1, .nin = 64 },
                                                { .in = &in, .first = 41, .nout = 49, .nin = 64 }, { .in = &strided, .nout = 64, .nin = 64 } };
                float x[13 * 64], y[4][13 * 64], alone[13 * 64];
                struct apr_product product[4];
                for (size_t j = 0; j < APR_LENGTH(x); j++)
                    x[j] = activation(j / 64, j % 64);
                for (size_t j = 0; j < 4; j++)
                    product[j] = (struct apr_product){ &w[j], y[j], (size_t)w[j].nout };
                struct apr_team *const team = team_of(3);
                assert_int_equal(apr_matrices_times(product, 3 + with_turned, team, x, positions[i], &e), APR_OK);
                assert_int_equal(apr_matrices_times(product, 0, team, x, positions[i], &e), APR_OK);
                assert_int_equal(apr_matrices_times(product, 1, team, x, 0, &e), APR_OK);
                apr_team_free(team);
                for (size_t j = 0; j < 3 + with_turned; j++) {
                    multiply(&w[j], 1, x, positions[i], alone, (size_t)w[j].nout);
                    assert_memory_equal(y[j], alone, positions[i] * w[j].nout * sizeof(float));
                }
            }
    free(data);
    free(turned);
    apr_source_close(s.s);
    apr_source_close(other.s);
}

static void rows_without_end_are_refused(void **state)
{
    (void)state;
    const struct apr_input in = { .k = apr_kernels_for(APR_SCALAR) };
    const struct apr_matrix w = { .in = &in, .nout = 1, .nin = APR_MOST_COLUMNS + 1 };
    struct apr_team *const team = team_of(1);
    struct apr_error e;
    float y;
    assert_int_equal(apr_matrices_times(&(struct apr_product){ &w, &y, 1 }, 1, team, &y, 1, &e), APR_ELIMIT);
    assert_non_null(strstr(e.text, "16777216 columns"));
    apr_team_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_the_book),
        cmocka_unit_test(turned_matrices_are_read_by_tiles),
        cmocka_unit_test(rows_of_several_tensors_are_one_matrix),
        cmocka_unit_test(bytes_depend_neither_on_threads_nor_on_kernels),
        cmocka_unit_test(what_is_no_number_is_one_nan),
        cmocka_unit_test(several_matrices_are_multiplied_in_one_go),
        cmocka_unit_test(rows_without_end_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
