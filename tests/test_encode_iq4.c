/* Whole rows as llama.cpp's quantizers write them, without and with importance, of floats made by rule: as fingerprints of all blocks. */
#include "kernels.h"

#include <math.h>
#include <xxhash.h>

#define ROWS    4u
#define COLUMNS 1024u
#define N       (ROWS * COLUMNS)

static uint64_t step(uint64_t *s) { return *s = *s * 6364136223846793005u + 1442695040888963407u; }

/* Values of four sizes; in the third row a block and a sub-block of zeros; the fourth without signs. */
static void fill(float x[N], float importance[COLUMNS])
{
    uint64_t s = 12345;
    for (unsigned i = 0; i < N; i++) {
        step(&s);
        x[i] = ldexpf((float)((int64_t)(s >> 40) - 8388608), -(24 + (int)(s >> 36 & 3)));
        x[i] = i >= 3 * COLUMNS ? fabsf(x[i]) : x[i];
    }
    memset(x + 2 * COLUMNS, 0, 256 * sizeof *x);
    memset(x + 2 * COLUMNS + 512, 0, 32 * sizeof *x);
    s = 777;
    for (unsigned i = 0; i < COLUMNS; i++)
        importance[i] = ldexpf((float)((step(&s) >> 40) + 1), -20);
}

static const struct {
    enum apr_dtype_id id;
    uint64_t          plain, weighted; /* XXH3 of 64 bits; 0: importance changes nothing */
} rows[] = {
    { APR_IQ4_NL, 0x110ecdc1effba93b, 0xedddc9a9ea149216 }, { APR_IQ4_XS, 0x7ce14cc3ef48ab4d, 0x4d3a6612beab913f },
    { APR_MXFP4, 0x51a04e1fc95ab898, 0 },                   { APR_NVFP4, 0x8801fefc09df8d4e, 0 },
    { APR_Q1_0, 0x69d2a6f0177f4d8b, 0 },                    { APR_Q2_0, 0x277842012f4731b0, 0 },
    { APR_TQ1_0, 0xf110ed0fd638560c, 0 },                   { APR_TQ2_0, 0x43d4098f209d51fe, 0 },
};

static void expect(const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *out, uint64_t wanted, const char *how)
{
    const uint64_t got = XXH3_64bits(out, N / d->block * d->bytes);
    if (got != wanted)
        fail_msg("%s, %s, %s: %016llx, not %016llx", d->name, apr_isa_word(k->isa), how, (unsigned long long)got, (unsigned long long)wanted);
}

static void whole_rows_are_those_of_llama_cpp(void **state)
{
    (void)state;
    float x[N], importance[COLUMNS];
    unsigned char out[N * sizeof(float)];
    fill(x, importance);
    FOR_LEVELS(k) for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_dtype *const d = &apr_dtypes[rows[i].id];
        k->encode[rows[i].id](x, N, out);
        expect(k, d, out, rows[i].plain, "plain");
        assert_int_equal(k->encode_weighted[rows[i].id] != NULL, rows[i].weighted != 0);
        if (rows[i].weighted == 0)
            continue;
        k->encode_weighted[rows[i].id](x, ROWS, COLUMNS, importance, out);
        expect(k, d, out, rows[i].weighted, "weighted");
    }
}

/* Scales of a sub-block are such that values lie on the middles between levels, or a step of f32 beside them. */
static void every_level_breaks_ties_between_levels_as_scalar_does(void **state)
{
    (void)state;
    static const float middle[] = { -115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101 };
    static const enum apr_dtype_id id[] = { APR_IQ4_NL, APR_IQ4_XS };
    float x[N];
    unsigned char out[N], wanted[N];
    seed = 21;
    FOR_LEVELS(k) for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < N; i++) {
            const float v = middle[next() % 15] / (float)(120 + round % 15), toward = next() & 1 ? 200 : -200;
            x[i] = i % 32 == 0 ? -1 : next() % 3 ? v : nextafterf(v, toward);
        }
        for (size_t i = 0; i < APR_LENGTH(id); i++) {
            apr_kernels_for(APR_SCALAR)->encode[id[i]](x, N, wanted);
            k->encode[id[i]](x, N, out);
            assert_memory_equal(out, wanted, N / apr_dtypes[id[i]].block * apr_dtypes[id[i]].bytes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_rows_are_those_of_llama_cpp),
        cmocka_unit_test(every_level_breaks_ties_between_levels_as_scalar_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
