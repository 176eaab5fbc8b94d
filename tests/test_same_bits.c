/* What a tool says is a function of its input: not of --threads, not of --isa. */
#include "diff.h"

#include "values/kernels.h"

/* Differences of every size over two chunks and a half, beside small ones; a transposed matrix among them. */
static void make_spread(const char **a, const char **b)
{
    enum { COUNT = 170000 };
    static float x[COUNT], y[COUNT];
    static uint16_t half[4096];
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = (float)(i * i * 31 % 509) / 100 - 2;
        y[i] = x[i] + ldexpf((float)(i * 13 % 29) - 14, -(int)(i % 23));
    }
    for (size_t i = 0; i < APR_LENGTH(half); i++)
        half[i] = (uint16_t)(i * 15);
    x[100] = y[200] = NAN;
    const struct test_tensor left[] = { { "big", "F32", "[425,400]", x, sizeof x }, { "half", "F16", "[64,64]", half, sizeof half },
                                        { "other", "F32", "[20,30]", x, 2400 }, { "small", "F32", "[999]", y, 3996 } };
    const struct test_tensor right[] = { { "big", "F32", "[425,400]", y, sizeof y }, { "half", "BF16", "[64,64]", half, sizeof half },
                                         { "other", "F32", "[30,20]", y, 2400 }, { "small", "F32", "[999]", x, 3996 } };
    *a = test_safetensors("spread-a", left, APR_LENGTH(left));
    *b = test_safetensors("spread-b", right, APR_LENGTH(right));
}

static void threads_and_isa_change_no_byte(void **state)
{
    (void)state;
    static const char *const threads[] = { "1", "3", "8" }, *const forms[] = { "--json", "--jsonl", "--sort=rmse" };
    const char *pairs[][2] = { { NULL, NULL },
                               { "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf" },
                               { "fixtures/trace", "fixtures/trace-drift" } };
    make_spread(&pairs[0][0], &pairs[0][1]);
    for (size_t p = 0; p < APR_LENGTH(pairs); p++)
        for (size_t f = 0; f < APR_LENGTH(forms); f++) {
            struct test_answer want = test_tool(APR_DIFF, "--isa=scalar", "--threads=1", "--top=3", "--rows=2", forms[f], pairs[p][0],
                                                pairs[p][1], NULL);
            for (enum apr_isa isa = APR_SCALAR; isa < APR_NISA; isa++)
                for (size_t t = 0; t < APR_LENGTH(threads) && apr_isa_has(isa); t++) {
                    struct test_answer got = test_tool(APR_DIFF, "--isa", apr_isa_word(isa), "--threads", threads[t], "--top=3", "--rows=2",
                                                       forms[f], pairs[p][0], pairs[p][1], NULL);
                    if (got.exit != want.exit || got.out.n != want.out.n || memcmp(got.out.at, want.out.at, want.out.n) != 0)
                        fail_msg("%s against %s %s: %s on %s threads says something else", pairs[p][0], pairs[p][1], forms[f],
                                 apr_isa_word(isa), threads[t]);
                    test_answer_free(&got);
                }
            assert_int_equal(want.exit, 1);
            test_answer_free(&want);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_isa_change_no_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
