/* lib/flow/trial.c: what is measured is what encoding and decoding gives, whoever measures and however many. */
#include "plans.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "flow/trial.h"
#include "model/model.h"
#include "model/open.h"
#include "values/dtype.h"

static const struct apr_dtype *const dtypes[] = { &apr_dtypes[APR_Q4_0], &apr_dtypes[APR_Q8_0], &apr_dtypes[APR_F16], &apr_dtypes[APR_BF16],
                                                  &apr_dtypes[APR_F32] };
#define N APR_LENGTH(dtypes)
enum { Q4, Q8, F16, BF16, F32 };
#define ALL ((1u << N) - 1)
#define MOST_TENSORS 64

/* All matrices of a model, each to be tried in all. */
struct trials {
    struct apr_model *m;
    struct apr_input  in[MOST_TENSORS];
    struct apr_trial  trial[MOST_TENSORS];
    struct apr_tried  tried[MOST_TENSORS * N];
    struct apr_trials all;
};

static void begin(struct trials *t, const char *path, const struct apr_kernels *k)
{
    *t = (struct trials){ .m = test_opened(path) };
    t->all = (struct apr_trials){ .trial = t->trial, .dtype = dtypes, .ndtype = N, .tried = t->tried };
    for (size_t i = 0; i < t->m->ntensor; i++) {
        const size_t at = t->all.ntrial;
        if (t->m->tensor[i].ndim < 2)
            continue;
        assert_true(at < MOST_TENSORS);
        t->in[at] = apr_input_of(k, t->m, &t->m->tensor[i]);
        t->trial[at] = (struct apr_trial){ .name = t->m->tensor[i].name, .in = &t->in[at], .dtypes = ALL };
        t->all.ntrial++;
    }
    assert_true(t->all.ntrial > 0);
}

static void run(struct trials *t, unsigned threads, const struct apr_kernels *k)
{
    struct apr_run r = *test_run_with(threads);
    struct apr_error e;
    r.kernels = k;
    if (apr_trials_run(&t->all, &r, &e) != APR_OK)
        fail_msg("%s", e.text);
}

/* Writes a GGUF of one F32 tensor "w" of 2 or 3 dims. */
static const char *write_one(const char *name, const float *x, const uint64_t *dim, unsigned ndim)
{
    struct apr_plan p = { .format = format("gguf"), .out = test_path(name), .force = true };
    struct apr_planned t = { .name = apr_text("w"), .dtype = &apr_dtypes[APR_F32], .ndim = ndim, .how = APR_GENERATE, .values = x };
    struct apr_error e;
    memcpy(t.dim, dim, ndim * sizeof *dim);
    if (apr_plan_add(&p, &t, &e) != APR_OK || write_plan(&p, test_run_with(1), &e) != APR_OK)
        fail_msg("%s", e.text);
    apr_plan_end(&p);
    return test_path(name);
}

static void draw(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = ((float)test_random(20001) - 10000) / 5000;
}

/* Plainly: a row at a time, one sum in doubles. */
static struct apr_tried expected(const struct apr_kernels *k, const struct apr_dtype *d, const float *x, size_t nrow, size_t ncol,
                                 size_t high, const float *importance)
{
    static unsigned char block[1 << 16];
    static float y[1 << 13];
    struct apr_tried sum = { 0, 0 };
    for (size_t row = 0; row < nrow; row++) {
        const float *const w = importance == NULL ? NULL : importance + row / high * ncol;
        if (w != NULL && k->encode_weighted[apr_dtype_id(d)] != NULL)
            k->encode_weighted[apr_dtype_id(d)](x + row * ncol, 1, ncol, w, block);
        else
            k->encode[apr_dtype_id(d)](x + row * ncol, ncol, block);
        k->decode[apr_dtype_id(d)](block, block, ncol, y);
        for (size_t i = 0; i < ncol; i++) {
            const double off = (double)x[row * ncol + i] - (double)y[i];
            sum.squares += off * off;
            sum.weighted += off * off * (w == NULL ? 1 : (double)w[i]);
        }
    }
    return sum;
}

static void expect_near(const char *what, double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 * want))
        fail_msg("%s: %.17g, but %.17g is expected", what, got, want);
}

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

static void sums_are_those_of_encoding_and_decoding_row_by_row(void **state)
{
    (void)state;
    static const struct { uint64_t dim[3]; unsigned ndim; } row[] = {
        { { 3, 64 }, 2 }, { { 1, 8192 }, 2 }, { { 70, 4128 }, 2 }, { { 3, 50, 256 }, 3 }, { { 5, 1, 32 }, 3 },
    };
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    for (size_t i = 0; i < APR_LENGTH(row) * 2; i++) {
        const uint64_t *const dim = row[i / 2].dim;
        const unsigned ndim = row[i / 2].ndim;
        const size_t ncol = dim[ndim - 1], high = dim[ndim - 2], matrices = ndim == 3 ? dim[0] : 1, n = matrices * high * ncol;
        float *const x = calloc(n, sizeof *x), *const w = calloc(matrices * ncol, sizeof *w);
        static struct trials t;
        assert_true(x != NULL && w != NULL);
        draw(x, n);
        for (size_t j = 0; j < matrices * ncol; j++)
            w[j] = (float)test_random(1000) / 100;
        begin(&t, write_one("sums.gguf", x, dim, ndim), k);
        t.trial[0].importance = i % 2 == 0 ? NULL : w;
        run(&t, 1, k);
        for (size_t j = 0; j < N; j++) {
            const struct apr_tried want = expected(k, dtypes[j], x, matrices * high, ncol, high, t.trial[0].importance);
            expect_near(dtypes[j]->name, t.tried[j].squares, want.squares);
            expect_near(dtypes[j]->name, t.tried[j].weighted, want.weighted);
        }
        assert_true(t.tried[F32].squares == 0 && t.tried[Q4].squares > t.tried[Q8].squares);
        apr_close(t.m);
        free(x);
        free(w);
    }
}

static void sums_do_not_depend_on_threads_and_cpu(void **state)
{
    (void)state;
    static const char *const path[] = { "fixtures/qwen2-bf16.gguf", "fixtures/qwen2", "fixtures/qwen2-q8_0.gguf" };
    static struct trials one, other;
    for (size_t i = 0; i < APR_LENGTH(path); i++)
        for (unsigned isa = 0; isa < APR_NISA; isa++) {
            if (!apr_isa_has(isa))
                continue;
            begin(&one, path[i], apr_kernels_for(APR_SCALAR));
            begin(&other, path[i], apr_kernels_for(isa));
            run(&one, 1, apr_kernels_for(APR_SCALAR));
            run(&other, 1 + isa % 2 * 4, apr_kernels_for(isa));
            assert_memory_equal(one.tried, other.tried, one.all.ntrial * N * sizeof *one.tried);
            apr_close(one.m);
            apr_close(other.m);
        }
}

/* A matrix of F32 or F64 that lies transposed, and one that does not, have the sums of their values as rows of floats. */
static void rows_are_read_however_they_lie(void **state)
{
    (void)state;
    enum { HIGH = 300, WIDE = 96 };
    static const struct apr_transform transpose = { .op = APR_OP_TRANSPOSE };
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    static float x[HIGH * WIDE], turned[HIGH * WIDE];
    static double wide[HIGH * WIDE];
    const struct apr_tensor *part[1];
    for (unsigned i = 0; i < 4; i++) {
        static struct trials t;
        struct apr_error e;
        draw(x, HIGH * WIDE);
        for (size_t j = 0; j < HIGH * WIDE; j++)
            turned[j % WIDE * HIGH + j / WIDE] = x[j];
        for (size_t j = 0; j < HIGH * WIDE; j++)
            wide[j] = (double)(i / 2 == 1 ? turned : x)[j];
        const uint64_t dim[] = { i / 2 == 1 ? WIDE : HIGH, i / 2 == 1 ? HIGH : WIDE };
        begin(&t, write_one("lie.gguf", i / 2 == 1 ? turned : x, dim, 2), k);
        struct apr_tensor stored = t.m->tensor[0];
        if (i % 2 == 1) {
            stored.dtype = &apr_dtypes[APR_F64];
            stored.data = (struct apr_bytes){ (const unsigned char *)wide, sizeof wide };
        }
        part[0] = &stored;
        struct apr_view v = apr_view_of(part, 1, 0);
        if (i / 2 == 1)
            assert_int_equal(apr_view_forth(&v, &transpose, 1, (const uint64_t[APR_MAX_DIMS]){ HIGH, WIDE }, 2, &e), APR_OK);
        t.in[0] = apr_input_through(k, t.m, &v, (const uint64_t[]){ HIGH, WIDE }, 2);
        assert_true(t.in[0].strided == (i / 2 == 1) && t.in[0].wide == (i % 2 == 1));
        run(&t, 2, k);
        const struct apr_tried want = expected(k, dtypes[Q4], x, HIGH, WIDE, HIGH, NULL);
        expect_near("Q4_0", t.tried[Q4].squares, want.squares);
        apr_close(t.m);
    }
}

/* A sample is of rows evenly spread, scaled up: of rows that are all alike it says what all of them say. */
static void a_sample_says_what_all_rows_say(void **state)
{
    (void)state;
    enum { ROWS = 1000, COLUMNS = 256 };
    float *const x = calloc(ROWS * COLUMNS, sizeof *x);
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    static struct trials t;
    assert_non_null(x);
    draw(x, COLUMNS);
    for (size_t i = 1; i < ROWS; i++)
        memcpy(x + i * COLUMNS, x, COLUMNS * sizeof *x);
    const struct apr_tried want = expected(k, dtypes[Q4], x, ROWS, COLUMNS, ROWS, NULL);
    begin(&t, write_one("sample.gguf", x, (const uint64_t[]){ ROWS, COLUMNS }, 2), k);
    for (uint64_t sample = 1; sample < 2 * ROWS * COLUMNS; sample *= 3) {
        t.all.sample = sample;
        run(&t, 1 + sample % 4, k);
        if (!(fabs(t.tried[Q4].squares - want.squares) <= 1e-9 * want.squares))
            fail_msg("of %d elements: %g, of all: %g", (int)sample, t.tried[Q4].squares, want.squares);
    }
    apr_close(t.m);
    free(x);
}

/* ---- what is not tried ---------------------------------------------------------------------------------------------- */

static void what_cannot_be_or_was_not_asked_for_has_no_sum(void **state)
{
    (void)state;
    float x[3 * 40];
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    static struct trials t;
    draw(x, APR_LENGTH(x));
    begin(&t, write_one("odd.gguf", x, (const uint64_t[]){ 3, 40 }, 2), k); /* 40 is no multiple of 32 */
    t.trial[0].dtypes &= ~(1u << BF16);
    run(&t, 2, k);
    assert_true(isnan(t.tried[Q4].squares) && isnan(t.tried[Q8].weighted) && isnan(t.tried[BF16].squares));
    assert_true(t.tried[F16].squares > 0 && t.tried[F32].squares == 0);
    apr_close(t.m);
}

static void a_dtype_that_does_not_hold_the_values_has_no_finite_sum(void **state)
{
    (void)state;
    float x[64] = { 1, 1e30f };
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    static struct trials t;
    begin(&t, write_one("large.gguf", x, (const uint64_t[]){ 2, 32 }, 2), k);
    run(&t, 1, k);
    assert_false(isfinite(t.tried[Q4].squares) || isfinite(t.tried[Q8].squares) || isfinite(t.tried[F16].squares));
    assert_true(isfinite(t.tried[BF16].squares) && t.tried[F32].squares == 0);
    apr_close(t.m);
}

/* Whose square overflows, so that the search for a scale loses it and no scale shows it. */
static void a_value_that_is_lost_with_its_block_has_no_finite_sum(void **state)
{
    (void)state;
    static const struct apr_dtype *const blocks[] = { &apr_dtypes[APR_Q3_K], &apr_dtypes[APR_Q6_K], &apr_dtypes[APR_IQ4_XS] };
    static const float lost[] = { 3e8f, 1e18f, -1e20f, 1e30f };
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    for (size_t i = 0; i < APR_LENGTH(lost); i++) {
        float x[2 * 256];
        static struct trials t;
        draw(x, APR_LENGTH(x));
        x[256 + 7] = lost[i];
        begin(&t, write_one("lost.gguf", x, (const uint64_t[]){ 2, 256 }, 2), k);
        t.all.dtype = blocks;
        t.all.ndtype = APR_LENGTH(blocks);
        run(&t, 1, k);
        for (size_t j = 0; j < APR_LENGTH(blocks); j++)
            if (isfinite(t.tried[j].squares) || isfinite(t.tried[j].weighted))
                fail_msg("%g in %s: %g", (double)lost[i], blocks[j]->name, t.tried[j].squares);
        apr_close(t.m);
    }
}

static void a_value_that_is_not_finite_is_told_with_its_place(void **state)
{
    (void)state;
    static const struct { float value; const char *words; } row[] = {
        { NAN, "row 5, column 33 is NaN" },
        { INFINITY, "row 5, column 33 is infinite" },
        { -INFINITY, "row 5, column 33 is minus infinity" },
    };
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        float x[8 * 64];
        static struct trials t;
        struct apr_error e;
        draw(x, APR_LENGTH(x));
        x[5 * 64 + 33] = row[i].value;
        begin(&t, write_one("bad.gguf", x, (const uint64_t[]){ 8, 64 }, 2), k);
        assert_int_equal(apr_trials_run(&t.all, test_run_with(3), &e), APR_EARG);
        if (strstr(e.text, row[i].words) == NULL || strstr(e.text, "\"w\"") == NULL)
            fail_msg("\"%s\" is not in: %s", row[i].words, e.text);
        x[5 * 64 + 33] = 0;
        const struct apr_tried want = expected(k, dtypes[Q8], x, 8, 64, 8, NULL);
        t.all.nan_to_zero = true;
        run(&t, 1, k);
        expect_near("zeroed", t.tried[Q8].squares, want.squares);
        apr_close(t.m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_encoding_and_decoding_row_by_row),
        cmocka_unit_test(sums_do_not_depend_on_threads_and_cpu),
        cmocka_unit_test(rows_are_read_however_they_lie),
        cmocka_unit_test(a_sample_says_what_all_rows_say),
        cmocka_unit_test(what_cannot_be_or_was_not_asked_for_has_no_sum),
        cmocka_unit_test(a_dtype_that_does_not_hold_the_values_has_no_finite_sum),
        cmocka_unit_test(a_value_that_is_lost_with_its_block_has_no_finite_sum),
        cmocka_unit_test(a_value_that_is_not_finite_is_told_with_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
