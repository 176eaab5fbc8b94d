/* lib/flow/computed.h: tensors whose values no file holds, read and written as any other. */
#include "plans.h"

#include <unistd.h>

#include "base/bytes.h"
#include "flow/computed.h"
#include "model/open.h"
#include "values/dtype.h"

#define ROWS 300u
#define COLS 70u
#define COUNT (ROWS * COLS)

/* Element i is i; what is not fit is told at the end. */
static void count_up(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out)
{
    (void)c;
    (void)w;
    assert_true(n > 0 && n <= APR_STRETCH && first + n <= COUNT);
    for (size_t i = 0; i < n; i++)
        ((float *)out)[i] = (float)(first + i);
}

static void count_up_wide(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out)
{
    (void)c;
    (void)w;
    for (size_t i = 0; i < n; i++)
        ((double *)out)[i] = (double)(first + i) + 0x1p-40;
}

static enum apr_code unfit(const struct apr_computation *c, struct apr_error *e)
{
    (void)c;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "one of its sources is NaN");
}

static const struct apr_computation counting = { .values = count_up }, counting_wide = { .values = count_up_wide },
                                 unsound = { .values = count_up, .sound = unfit };

static struct apr_tensor tensor(const struct apr_computation *c, enum apr_dtype_id id)
{
    return (struct apr_tensor){ .name = apr_text("w"), .dtype = &apr_dtypes[id], .ndim = 2, .dim = { ROWS, COLS }, .count = COUNT, .row = COUNT, .computed = c };
}

static void it_is_read_as_floats_as_doubles_and_through_views(void **state)
{
    (void)state;
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    const struct apr_model m = { 0 };
    const struct apr_tensor t = tensor(&counting, APR_BF16), wide = tensor(&counting_wide, APR_F64), *part = &t;
    const struct apr_transform transpose = { .op = APR_OP_TRANSPOSE };
    struct apr_input in = apr_input_of(k, &m, &t);
    struct apr_view view = apr_view_of(&part, 1, 0);
    struct apr_error e;
    static float x[APR_STRETCH];
    static double y[APR_STRETCH];
    assert_true(in.decodable && !in.plain && !in.wide);
    apr_input_floats(&in, NULL, 1000, 4096, x);
    apr_input_doubles(&in, NULL, 1000, 4096, y);
    for (size_t i = 0; i < 4096; i++)
        assert_true(x[i] == (float)(1000 + i) && y[i] == 1000. + (double)i);
    assert_false(apr_input_blocks(&in, NULL, 0, 32, x));
    in = apr_input_of(k, &m, &wide);
    apr_input_doubles(&in, NULL, 5, 2, y);
    assert_true(y[0] == 5 + 0x1p-40 && y[1] == 6 + 0x1p-40);
    assert_int_equal(apr_view_forth(&view, &transpose, 1, (const uint64_t[]){ COLS, ROWS }, 2, &e), APR_OK);
    in = apr_input_through(k, &m, &view, (const uint64_t[]){ COLS, ROWS }, 2);
    assert_true(in.strided);
    apr_input_tile_floats(&in, NULL, 7, 20, 100, 64, x);
    for (size_t i = 0; i < 20; i++)
        for (size_t j = 0; j < 64; j++)
            assert_true(x[i * 64 + j] == (float)((100 + j) * COLS + 7 + i));
    assert_false(apr_input_tile_blocks(&in, NULL, 7, 20, 100, 64, x));
}

static enum apr_code write_one(const struct apr_computation *c, const char *path, unsigned threads, struct apr_error *e)
{
    const struct apr_run *const r = test_run_with(threads);
    const struct apr_model m = { 0 };
    const struct apr_tensor t = tensor(c, APR_F32);
    const struct apr_input in = apr_input_of(r->kernels, &m, &t);
    struct apr_plan p = { .format = format("safetensors"), .out = path };
    const struct apr_planned planned = { .name = t.name, .from = t.name, .dtype = t.dtype, .ndim = 2, .dim = { ROWS, COLS }, .how = APR_ENCODE, .in = &in };
    unlink(path);
    enum apr_code code = apr_plan_add(&p, &planned, e);
    if (code == APR_OK)
        code = write_plan(&p, r, e);
    apr_plan_end(&p);
    return code;
}

static void it_is_written_on_any_threads_unless_it_is_not_sound(void **state)
{
    (void)state;
    struct apr_error e;
    for (unsigned threads = 1; threads < 4; threads += 2) {
        assert_int_equal(write_one(&counting, test_path("computed.safetensors"), threads, &e), APR_OK);
        struct apr_model *const m = test_opened(test_path("computed.safetensors"));
        static float x[COUNT];
        memcpy(x, m->tensor[0].data.at, sizeof x);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(x[i] == (float)i);
        apr_close(m);
    }
    assert_int_equal(write_one(&unsound, test_path("unsound.safetensors"), 2, &e), APR_EARG);
    assert_string_equal(e.text, "one of its sources is NaN");
    assert_int_not_equal(access(test_path("unsound.safetensors"), F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_read_as_floats_as_doubles_and_through_views),
        cmocka_unit_test(it_is_written_on_any_threads_unless_it_is_not_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
