/* What a tool says is a function of its input: not of --threads, not of --isa, not of the CPU that libm finds. */
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

/* The CPU as it is, and without what glibc picks other bodies of log10 and its kind for. It takes no notice of what a CPU lacks. */
static const char *const cpus[] = { "glibc.cpu.hwcaps=", "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2" };

static void pretend(const char *cpu) { assert_int_equal(setenv("GLIBC_TUNABLES", cpu, 1), 0); }

struct command {
    const char *tool, *word[7]; /* NULL from the last on */
};

static struct test_answer answer_of(const struct command *c, enum apr_isa isa, const char *threads)
{
    const char *const *const w = c->word;
    return test_tool(c->tool, "--isa", apr_isa_word(isa), "--threads", threads, w[0], w[1], w[2], w[3], w[4], w[5], w[6], NULL);
}

static void expect_one_answer(const struct command *c)
{
    static const char *const threads[] = { "1", "3", "8" };
    pretend(cpus[0]);
    struct test_answer want = answer_of(c, APR_SCALAR, "1");
    for (size_t p = 0; p < APR_LENGTH(cpus); p++) {
        pretend(cpus[p]);
        for (enum apr_isa isa = APR_SCALAR; isa < APR_NISA; isa++)
            for (size_t t = 0; t < APR_LENGTH(threads) && apr_isa_has(isa); t++) {
                struct test_answer got = answer_of(c, isa, threads[t]);
                if (got.exit != want.exit || got.out.n != want.out.n || memcmp(got.out.at, want.out.at, want.out.n) != 0)
                    fail_msg("%s %s ... %s: %s on %s threads, %s, says something else", c->tool, c->word[0], c->word[4], apr_isa_word(isa),
                             threads[t], cpus[p]);
                test_answer_free(&got);
            }
    }
    assert_true(want.out.n > 500);
    test_answer_free(&want);
}

static void nothing_changes_a_byte_of_a_comparison(void **state)
{
    (void)state;
    static const char *const forms[] = { "--json", "--jsonl", "--sort=rmse" };
    const char *pairs[][2] = { { NULL, NULL },
                               { "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf" },
                               { "fixtures/trace-npy", "fixtures/trace-drift" } };
    make_spread(&pairs[0][0], &pairs[0][1]);
    for (size_t p = 0; p < APR_LENGTH(pairs); p++)
        for (size_t f = 0; f < APR_LENGTH(forms); f++)
            expect_one_answer(&(struct command){ APR_DIFF, { forms[f], "--top=3", "--rows=2", pairs[p][0], pairs[p][1] } });
}

static void nothing_changes_a_byte_of_an_inspection(void **state)
{
    (void)state;
    const char *models[] = { NULL, NULL, "fixtures/qwen2", "fixtures/qwen2.apr", "fixtures/qwen2-zstd.apr", "fixtures/qwen2-q4_0.gguf",
                             "fixtures/qwen2-q8_0.gguf", "fixtures/qwen2-big-endian.gguf", "fixtures/trace" };
    make_spread(&models[0], &models[1]);
    for (size_t m = 0; m < APR_LENGTH(models); m++)
        expect_one_answer(&(struct command){ "apr-inspect", { "--json", "--stats", "--hash", "--check", models[m] } });
}

/* What is written, and what is told of it. */
static void nothing_changes_a_byte_of_a_conversion(void **state)
{
    (void)state;
    static const char *const threads[] = { "1", "2", "5", "16" };
    static const struct { const char *in, *out, *option; } rows[] = {
        { "fixtures/qwen2", "kind.gguf", "--type=auto" },     { "fixtures/qwen2", "kind.apr", "--compress=zstd:3" },
        { "fixtures/qwen2-q8_0.gguf", "kind.apr", "--no-shard" }, { "fixtures/qwen2-q4_0.gguf", "kind.safetensors", "--type=f16" },
        { "fixtures/qwen2.apr", "kind.gguf", "--type=q8_0" }, { "fixtures/qwen2", "kind.gguf", "--type=q4_0" },
        { NULL, "kind.gguf", "--type=q8_0" },                 { NULL, "kind.apr", "--type=apr_q4" },
        { NULL, "kind.gguf", "--type=mxfp4" },                { NULL, "kind.gguf", "--type=iq4_nl" },
        { "fixtures/qwen2-big-endian.gguf", "kind.gguf", "--type=bf16" },
    };
    enum { ROWS = 700, COLUMNS = 320 };
    static float values[ROWS * COLUMNS];
    for (size_t i = 0; i < APR_LENGTH(values); i++)
        values[i] = ldexpf((float)(i * 13 % 29) - 14, -(int)(i * 7 % 23));
    const char *const big = test_one("matrix.safetensors", "F32", "[700,320]", values, sizeof values);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes want = { 0 }, said = { 0 };
        const char *const out = test_path(rows[i].out), *const in = rows[i].in == NULL ? big : rows[i].in;
        for (size_t p = 0; p < APR_LENGTH(cpus); p++)
            for (enum apr_isa isa = APR_SCALAR; isa < APR_NISA; isa++)
                for (size_t t = 0; t < APR_LENGTH(threads) && apr_isa_has(isa); t++) {
                    pretend(cpus[p]);
                    struct test_answer a = test_tool("apr-convert", "--json", "--force", "--isa", apr_isa_word(isa), "--threads",
                                                     threads[t], in, out, rows[i].option,
                                                     rows[i].in == NULL ? "--keep-names" : NULL, NULL);
                    struct test_bytes got = test_load(out);
                    if (a.exit != 0)
                        fail_msg("%s: %s", in, (const char *)a.err.at);
                    if (want.n == 0) {
                        test_put(&want, got.at, got.n);
                        test_put(&said, a.out.at, a.out.n);
                    }
                    if (got.n != want.n || memcmp(got.at, want.at, got.n) != 0 || a.out.n != said.n ||
                        memcmp(a.out.at, said.at, said.n) != 0)
                        fail_msg("%s to %s %s: %s on %s threads, %s, gives something else", in, out, rows[i].option, apr_isa_word(isa),
                                 threads[t], cpus[p]);
                    test_free(&got);
                    test_answer_free(&a);
                }
        assert_true(want.n > 1000);
        test_free(&want);
        test_free(&said);
    }
}

/* One double against itself plus 2^-10: glibc's log10 gives 65.95723793911611 on one CPU, ...613 on the other. */
static const double value = 1.9389291518312124, other = 1.9389291518312124 + 0x1p-10;

/* Ten times the decimal logarithm of (value / (value - other))^2, with mpmath to 200 bits, as the nearest double. */
#define SQNR 65.95723793911613

static void a_ratio_in_decibels_is_the_nearest_double_on_any_cpu(void **state)
{
    (void)state;
    const char *const a = test_one("value", "F64", "[1]", &value, sizeof value);
    const char *const b = test_one("other", "F64", "[1]", &other, sizeof other);
    for (size_t p = 0; p < APR_LENGTH(cpus); p++) {
        pretend(cpus[p]);
        json_t *const report = report_of(test_tool(APR_DIFF, "--json", a, b, NULL), 0);
        const double got = json_real_value(at(report, "results.0.sqnr_db"));
        if (got != SQNR)
            fail_msg("%s: %.17g, not %.17g", cpus[p], got, SQNR);
        json_decref(report);
    }
    expect_one_answer(&(struct command){ APR_DIFF, { "--json", "--top=3", "--rows=2", a, b } });
}

/* Or the tests above would try one CPU twice. This program, run with a word, says what libm makes of the ratio. */
static void libm_itself_changes_with_the_cpu(void **state)
{
    (void)state;
    struct test_answer said[APR_LENGTH(cpus)];
    for (size_t p = 0; p < APR_LENGTH(cpus); p++) {
        pretend(cpus[p]);
        said[p] = test_tool("tests/test_same_bits", "log10", NULL);
        assert_int_equal(said[p].exit, 0);
    }
    const bool changes = strcmp((const char *)said[0].out.at, (const char *)said[1].out.at) != 0;
    if (changes != apr_isa_has(APR_AVX2)) /* which has FMA; other CPUs have nothing to hide */
        fail_msg("log10 is %s, and with less of a CPU %s", (const char *)said[0].out.at, (const char *)said[1].out.at);
    for (size_t p = 0; p < APR_LENGTH(cpus); p++)
        test_answer_free(&said[p]);
}

int main(int argc, char **argv)
{
    volatile double ratio = value * value / ((value - other) * (value - other)); /* or the compiler would do it */
    if (argc == 2 && strcmp(argv[1], "log10") == 0)
        return printf("%a\n", log10(ratio)) < 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_a_byte_of_a_comparison),
        cmocka_unit_test(nothing_changes_a_byte_of_an_inspection),
        cmocka_unit_test(nothing_changes_a_byte_of_a_conversion),
        cmocka_unit_test(a_ratio_in_decibels_is_the_nearest_double_on_any_cpu),
        cmocka_unit_test(libm_itself_changes_with_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
