/* The encoders against llama.cpp's quantizers: one input, in every type that both have, with importance and without. */
#include "kernels.h"

#include <math.h>

#include "base/crc.h"

enum { ROWS = 4, COLUMNS = 1024, N = ROWS * COLUMNS };

static uint64_t advance(uint64_t *s) { return *s = *s * 6364136223846793005u + 1442695040888963407u; }

/* As fixtures/quantized.py makes them. */
static void make(float x[N], float importance[COLUMNS])
{
    uint64_t s = 12345;
    for (unsigned i = 0; i < N; i++) {
        const uint64_t v = advance(&s);
        x[i] = ldexpf((float)((int64_t)(v >> 40) - 8388608), -(24 + (int)(v >> 36 & 3)));
    }
    memset(x + 2048, 0, 256 * sizeof *x);
    memset(x + 2560, 0, 32 * sizeof *x);
    for (unsigned i = 3072; i < N; i++)
        x[i] = fabsf(x[i]);
    s = 777;
    for (unsigned i = 0; i < COLUMNS; i++)
        importance[i] = ldexpf((float)((advance(&s) >> 40) + 1), -20);
}

static const struct apr_dtype *named(const char *name)
{
    FOR_DTYPES(d)
        if (strcmp(d->name, name) == 0)
            return d;
    fail_msg("no dtype is called %s", name);
    return NULL;
}

/* | type | plain, weighted | CRC-32 | first block | */
static void expect_line(const struct apr_kernels *k, const char *line, const float *x, const float *importance)
{
    char name[16], form[16], first[512], text[512];
    unsigned sum = 0;
    assert_int_equal(sscanf(line, "%15s %15s %8x %511s", name, form, &sum, first), 4);
    const struct apr_dtype *const d = named(name);
    const enum apr_dtype_id id = apr_dtype_id(d);
    static unsigned char out[N * sizeof(float)];
    const size_t bytes = (size_t)N / d->block * d->bytes;
    memset(out, 0x5a, bytes);
    if (strcmp(form, "plain") == 0 && k->encode[id])
        k->encode[id](x, N, out);
    else if (strcmp(form, "weighted") == 0 && k->encode_weighted[id])
        k->encode_weighted[id](x, ROWS, COLUMNS, importance, out);
    else
        fail_msg("%s, %s: there is no encoder", name, form);
    for (unsigned i = 0; i < d->bytes; i++)
        snprintf(text + 2 * i, sizeof text - 2 * i, "%02x", out[i]);
    if (strcmp(text, first) != 0)
        fail_msg("%s, %s, %s: the first block is %s, not %s", name, form, apr_isa_word(k->isa), text, first);
    const unsigned got = apr_crc32_of(0, (struct apr_bytes){ out, bytes });
    if (got != sum)
        fail_msg("%s, %s, %s: the first block is right, the CRC of all is %08x, not %08x", name, form, apr_isa_word(k->isa), got, sum);
}

static void every_type_is_quantized_as_llama_cpp_quantizes_it(void **state)
{
    (void)state;
    static float x[N], importance[COLUMNS];
    make(x, importance);
    struct test_bytes lines = test_load("fixtures/vectors/quantized.txt");
    test_integer(&lines, 0, 1);
    unsigned nline = 0;
    char *rest = NULL;
    for (char *line = strtok_r((char *)lines.at, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), nline++)
        FOR_LEVELS(k)
            expect_line(k, line, x, importance);
    assert_int_equal(nline, 40);
    test_free(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_type_is_quantized_as_llama_cpp_quantizes_it) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
