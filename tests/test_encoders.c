/* The encoders of the kernel table: against other people's, each ISA level against scalar, and back through the decoders. */
#include "kernels.h"

#include <float.h>
#include <math.h>

static bool encodable(const struct apr_kernels *k, const struct apr_dtype *d)
{
    return k->encode[apr_dtype_id(d)] || k->encode_wide[apr_dtype_id(d)];
}

static void encode(const struct apr_kernels *k, const struct apr_dtype *d, const void *x, size_t n, unsigned char *out)
{
    if (d->wide)
        k->encode_wide[apr_dtype_id(d)](x, n, out);
    else
        k->encode[apr_dtype_id(d)](x, n, out);
}

static void expect_bytes(const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *got, const unsigned char *wanted,
                         size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != wanted[i])
            fail_msg("%s, %s: byte %zu of block %zu is %02x, not %02x", d->name, apr_isa_word(k->isa), i % d->bytes, i / d->bytes, got[i],
                     wanted[i]);
}

static float of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void floats_encode_as_numpy_and_gguf_encode_them(void **state)
{
    (void)state;
    static const enum apr_dtype_id id[] = {
        APR_F16,  APR_BF16, APR_Q4_0, APR_Q4_1, APR_Q5_0, APR_Q5_1,   APR_Q8_0,
        APR_Q1_0, APR_Q2_0, APR_TQ1_0, APR_TQ2_0, APR_MXFP4, APR_APR_Q4,
    };
    struct test_bytes in = vector("encode", "in");
    const size_t n = in.n / sizeof(float);
    float *x = malloc(in.n);
    unsigned char *out = malloc(in.n);
    memcpy(x, in.at, in.n);
    FOR_LEVELS(k) for (size_t i = 0; i < APR_LENGTH(id); i++) {
        const struct apr_dtype *d = &apr_dtypes[id[i]];
        struct test_bytes wanted = vector(d->name, "encoded");
        assert_int_equal(wanted.n, n / d->block * d->bytes);
        encode(k, d, x, n, out);
        expect_bytes(k, d, out, wanted.at, wanted.n);
        test_free(&wanted);
    }
    free(x);
    free(out);
    test_free(&in);
}

/* No library for Python has these; the bytes are llama.cpp's, of floats made by rule. */
static void first_blocks_are_those_of_llama_cpp(void **state)
{
    (void)state;
    static const struct {
        enum apr_dtype_id id;
        unsigned char     wanted[36];
    } rows[] = {
        { APR_IQ4_NL, { 0x88, 0x9b, 0x79, 0x99, 0xb1, 0x82, 0x99, 0xa8, 0x97, 0x8a, 0x76, 0x8a, 0x65, 0x95, 0x9e, 0x86, 0x08, 0x9a } },
        { APR_NVFP4, { 0x18, 0x1a, 0x19, 0x19, 0x3a, 0xaa, 0x47, 0x47, 0xf9, 0x30, 0x01, 0xbb, 0x11, 0x0a, 0x2b, 0x90, 0x9a, 0x0b,
                       0x7a, 0x90, 0x2b, 0x93, 0x91, 0xfb, 0x10, 0xba, 0x7a, 0xaf, 0x00, 0xc1, 0x95, 0x12, 0xea, 0xd0, 0x7a, 0x3d } },
    };
    float x[64];
    uint64_t s = 12345;
    for (unsigned i = 0; i < 64; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        x[i] = ldexpf((float)((int64_t)(s >> 40) - 8388608), -(24 + (int)(s >> 36 & 3)));
    }
    FOR_LEVELS(k) for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_dtype *d = &apr_dtypes[rows[i].id];
        unsigned char out[36];
        encode(k, d, x, d->block, out);
        expect_bytes(k, d, out, rows[i].wanted, d->bytes);
    }
}

static void sixteen_bit_floats_round_to_even_overflow_and_keep_their_nans(void **state)
{
    (void)state;
    static const struct {
        uint32_t f32;
        uint16_t f16, bf16;
    } rows[] = {
        { 0x00000000, 0x0000, 0x0000 }, { 0x80000000, 0x8000, 0x8000 }, { 0x3f801000, 0x3c00, 0x3f80 }, { 0x3f803000, 0x3c02, 0x3f80 },
        { 0x3f801001, 0x3c01, 0x3f80 }, { 0x3f808000, 0x3c04, 0x3f80 }, { 0x3f818000, 0x3c0c, 0x3f82 }, { 0x3f808001, 0x3c04, 0x3f81 },
        { 0x477fefff, 0x7bff, 0x4780 }, { 0x477ff000, 0x7c00, 0x4780 }, { 0xc77ff000, 0xfc00, 0xc780 }, { 0x7f7fffff, 0x7c00, 0x7f80 },
        { 0x7f7f7fff, 0x7c00, 0x7f7f }, { 0x33000000, 0x0000, 0x3300 }, { 0x33000001, 0x0001, 0x3300 }, { 0x33c00000, 0x0002, 0x33c0 },
        { 0xb3000000, 0x8000, 0xb300 }, { 0x387fdfff, 0x03ff, 0x3880 }, { 0x387ff000, 0x0400, 0x3880 }, { 0x38800000, 0x0400, 0x3880 },
        { 0x00000001, 0x0000, 0x0000 }, { 0x007fffff, 0x0000, 0x0080 }, { 0x80008001, 0x8000, 0x8001 }, { 0x7f800000, 0x7c00, 0x7f80 },
        { 0xff800000, 0xfc00, 0xff80 }, { 0x7fc00000, 0x7e00, 0x7fc0 }, { 0x7f800001, 0x7e00, 0x7fc0 }, { 0xff802000, 0xfe01, 0xffc0 },
        { 0x7fffffff, 0x7fff, 0x7fff }, { 0xffa5a5a5, 0xff2d, 0xffe5 }, { 0x7fc12345, 0x7e09, 0x7fc1 },
    };
    float x[APR_LENGTH(rows)];
    unsigned char out[2 * APR_LENGTH(rows)];
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        memcpy(&x[i], &rows[i].f32, sizeof x[i]);
    FOR_LEVELS(k) for (unsigned bf16 = 0; bf16 < 2; bf16++) {
        const struct apr_dtype *d = &apr_dtypes[bf16 ? APR_BF16 : APR_F16];
        encode(k, d, x, APR_LENGTH(rows), out);
        for (size_t i = 0; i < APR_LENGTH(rows); i++) {
            const unsigned got = out[2 * i] | (unsigned)out[2 * i + 1] << 8, wanted = bf16 ? rows[i].bf16 : rows[i].f16;
            if (got != wanted)
                fail_msg("%s, %s: %08x becomes %04x, not %04x", d->name, apr_isa_word(k->isa), rows[i].f32, got, wanted);
        }
    }
}

/* Codes that a decoder takes to a float and an encoder brings back: all but signalling NaNs, which both make quiet. */
static void every_sixteen_bit_float_comes_back(void **state)
{
    (void)state;
    struct test_bytes codes = { 0 };
    for (unsigned i = 0; i < 65536; i++)
        test_integer(&codes, i, 2);
    float *x = malloc(65536 * sizeof *x);
    unsigned char *out = malloc(codes.n);
    FOR_LEVELS(k) for (unsigned bf16 = 0; bf16 < 2; bf16++) {
        const struct apr_dtype *d = &apr_dtypes[bf16 ? APR_BF16 : APR_F16];
        const unsigned infinity = bf16 ? 0x7f80 : 0x7c00, quiet = bf16 ? 0x40 : 0x200;
        decode(k, d, NULL, codes.at, 65536, x);
        encode(k, d, x, 65536, out);
        for (unsigned i = 0; i < 65536; i++) {
            const unsigned got = out[2 * i] | (unsigned)out[2 * i + 1] << 8;
            assert_int_equal(got, (i & 0x7fff) > infinity ? i | quiet : i);
        }
    }
    free(x);
    free(out);
    test_free(&codes);
}

/* What a block is filled with: each kind is a corner of some encoder. */
enum { NORMAL, SMALL_INTEGERS, CONSTANT, ZEROS, SUBNORMAL, TINY, HUGE_ONES, TIES, MIRRORED, BITS, WITH_NAN, WITH_INFINITY, NANS, NKINDS };

static float uniform(void) { return (float)((int64_t)(next() >> 40) - 8388608) * 0x1p-23f; }
static float signed_zero(void) { return next() & 1 ? -0.0f : 0.0f; }
static float any_nan(void) { return of_bits((uint32_t)(next() & 0x80000000u) | 0x7f800001u | (uint32_t)(next() >> 41)); }

static void fill(float *x, size_t n, unsigned kind)
{
    const float scale = ldexpf(1 + uniform() / 2, (int)(next() % 24) - 16), first = uniform();
    for (size_t i = 0; i < n; i++)
        switch (kind) {
        case SMALL_INTEGERS: x[i] = (float)((int)(next() % 17) - 8); break;
        case CONSTANT: x[i] = first; break;
        case ZEROS: x[i] = signed_zero(); break;
        case SUBNORMAL: x[i] = of_bits((uint32_t)next() & (first < 0 ? 0x807fffffu : 0x80ffffffu)); break;
        case TINY: x[i] = uniform() * (first < 0 ? 0x1p-118f : 0x1p-143f); break;
        case HUGE_ONES: x[i] = uniform() * (first < 0 ? FLT_MAX : 0x1p20f); break;
        case TIES: x[i] = i % 32 == 0 ? 127 * scale : (float)((int)(next() % 255) - 127) * 0.5f * scale; break;
        case MIRRORED: x[i] = next() & 1 ? first : -first; break;
        case BITS: x[i] = of_bits((uint32_t)next()); break;
        case WITH_NAN: x[i] = next() % 16 ? uniform() * scale : any_nan(); break;
        case WITH_INFINITY: x[i] = next() % 16 ? uniform() * scale : next() & 1 ? INFINITY : -INFINITY; break;
        case NANS: x[i] = any_nan(); break;
        default: x[i] = uniform() * scale;
        }
}

/* Values for nblocks blocks of a type at any address, kinds mixed in runs of 32. A wide type takes what bits there are. */
static void fill_blocks(const struct apr_dtype *d, unsigned char *at, size_t nblocks, bool finite)
{
    float run[32];
    const size_t bytes = nblocks * d->block * (d->wide ? sizeof(double) : sizeof(float));
    for (size_t i = 0; i < bytes; i += sizeof run) {
        fill(run, 32, (unsigned)(next() % (finite ? BITS : NKINDS)));
        memcpy(at + i, run, bytes - i < sizeof run ? bytes - i : sizeof run);
    }
}

/* K and IQ types: scales are searched for, to fit all values of a block. */
static bool is_searched(const struct apr_dtype *d) { return apr_dtype_id(d) >= APR_Q2_K && apr_dtype_id(d) <= APR_IQ4_XS; }

/* Of their runs, which are slow, each fifth. */
static size_t stride_of(const struct apr_dtype *d) { return is_searched(d) ? 5 : 1; }

static void every_level_encodes_to_the_bytes_of_scalar_and_stays_in_its_own(void **state)
{
    (void)state;
    const size_t most = LONG_RUN * sizeof(double);
    unsigned char *in_end = guarded(most + 64), *out_end = guarded(most + 64), *wanted = malloc(most);
    seed = 11;
    FOR_LEVELS(k) FOR_DTYPES(d) {
        assert_int_equal(encodable(k, d), encodable(apr_kernels_for(APR_SCALAR), d));
        if (!encodable(k, d))
            continue;
        const size_t tails = d->block > 64 ? 9 : 69, width = d->wide ? sizeof(double) : sizeof(float);
        for (size_t run = 0; run <= 4 * tails + 12; run += stride_of(d)) {
            const size_t offset = run % 4, nblocks = run / 4 <= tails ? run / 4 : LONG_RUN / d->block - offset;
            const size_t n = nblocks * d->block, bytes = nblocks * d->bytes;
            unsigned char *in = in_end - n * width - offset * width, *out = out_end - bytes - offset;
            fill_blocks(d, in, nblocks, false);
            memset(out - 16, 0x5a, bytes + 16);
            encode(apr_kernels_for(APR_SCALAR), d, in, n, wanted);
            encode(k, d, in, n, out);
            expect_bytes(k, d, out, wanted, bytes);
            for (unsigned i = 1; i <= 16; i++)
                assert_int_equal(out[-(int)i], 0x5a);
        }
    }
    free(wanted);
}

/* Importance for the columns of rows: any, equal, none, or of any size. */
static void fill_importance(float *w, size_t n, unsigned kind)
{
    const float one = fabsf(uniform());
    for (size_t i = 0; i < n; i++)
        w[i] = kind == 0 ? fabsf(uniform()) * 8 : kind == 1 ? one : kind == 2 ? 0 : ldexpf(fabsf(uniform()), (int)(next() % 60) - 30);
}

static void every_level_weighs_as_scalar_does(void **state)
{
    (void)state;
    enum { COLUMNS = 1024 };
    unsigned char *const in_end = guarded(8 * COLUMNS * sizeof(float) + 64), *const out_end = guarded(8 * COLUMNS * sizeof(float) + 64);
    unsigned char *const wanted = malloc(8 * COLUMNS * sizeof(float));
    seed = 13;
    FOR_LEVELS(k) FOR_DTYPES(d) {
        apr_encode_weighted_fn *const weighted = k->encode_weighted[apr_dtype_id(d)];
        assert_int_equal(!weighted, !apr_kernels_for(APR_SCALAR)->encode_weighted[apr_dtype_id(d)]);
        for (size_t run = 0; weighted && run < 200; run += stride_of(d)) {
            float importance[COLUMNS];
            const size_t nrow = next() % 8 + 1, ncol = (next() % (COLUMNS / d->block) + 1) * d->block;
            const size_t n = nrow * ncol, bytes = n / d->block * d->bytes, offset = run % 4;
            unsigned char *const in = in_end - (n + offset) * sizeof(float), *const out = out_end - bytes - offset;
            fill_importance(importance, ncol, (unsigned)(run / 4 % 4));
            fill_blocks(d, in, n / d->block, false);
            memset(out - 16, 0x5a, bytes + 16);
            apr_kernels_for(APR_SCALAR)->encode_weighted[apr_dtype_id(d)]((const float *)(const void *)in, nrow, ncol, importance, wanted);
            weighted((const float *)(const void *)in, nrow, ncol, importance, out);
            expect_bytes(k, d, out, wanted, bytes);
            for (unsigned i = 1; i <= 16; i++)
                assert_int_equal(out[-(int)i], 0x5a);
        }
    }
    free(wanted);
}

/* Scales of a sub-block are such that values lie on the middles between levels, or a step of f32 beside them. */
static void every_level_breaks_ties_of_iq4_as_scalar_does(void **state)
{
    (void)state;
    static const float middle[] = { -115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101 };
    static const enum apr_dtype_id id[] = { APR_IQ4_NL, APR_IQ4_XS };
    enum { N = 4096 };
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
            assert_memory_equal(out, wanted, (size_t)N / apr_dtypes[id[i]].block * apr_dtypes[id[i]].bytes);
        }
    }
}

/* What was encoded, decoded and is encoded again keeps its values, unless the scale is searched for. NVFP4 does so where its scales are
 * not subnormal. */
static void values_that_were_encoded_once_no_longer_change(void **state)
{
    (void)state;
    enum { N = 1024 };
    seed = 12;
    FOR_LEVELS(k) FOR_DTYPES(d) for (unsigned round = 0; encodable(k, d) && !d->wide && round < 300; round++) {
        if (is_searched(d))
            continue;
        float x[N], once[N], twice[N];
        unsigned char block[N * sizeof(float)];
        for (size_t i = 0; i < N; i += 32)
            fill(x + i, 32, apr_dtype_id(d) == APR_NVFP4 ? SMALL_INTEGERS : NORMAL);
        encode(k, d, x, N, block);
        decode(k, d, NULL, block, N, once);
        encode(k, d, once, N, block);
        decode(k, d, NULL, block, N, twice);
        for (unsigned i = 0; i < N; i++)
            if (once[i] != twice[i])
                fail_msg("%s, %s: %a becomes %a", d->name, apr_isa_word(k->isa), (double)once[i], (double)twice[i]);
    }
}

static bool has_bad_scale(const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *block)
{
    apr_bad_scale_fn *const own = k->bad_scale[apr_dtype_id(d)];
    bool bad = own && own(block);
    for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n; f++)
        bad |= f->kind == APR_FIELD_F16 && (block[f->at + 1] & 0x7c) == 0x7c;
    return bad;
}

static void an_infinity_shows_in_the_scale_and_a_nan_does_not_spoil_the_others(void **state)
{
    (void)state;
    FOR_LEVELS(k) FOR_DTYPES(d) {
        if (!encodable(k, d) || d->block < 32 || (is_searched(d) && apr_dtype_id(d) != APR_IQ4_NL))
            continue;
        float x[256], out[256];
        unsigned char block[64 * 16];
        const enum apr_dtype_id id = apr_dtype_id(d);
        for (unsigned i = 0; i < d->block; i++)
            x[i] = i % 3 == 0 ? 1.0f : -1.0f;
        x[5] = -INFINITY;
        encode(k, d, x, d->block, block);
        assert_int_equal(has_bad_scale(k, d, block), id != APR_NVFP4);
        x[5] = NAN;
        encode(k, d, x, d->block, block);
        assert_int_equal(has_bad_scale(k, d, block), id == APR_Q1_0);
        decode(k, d, NULL, block, d->block, out);
        for (unsigned i = 0; i < d->block && id != APR_Q1_0 && id != APR_IQ4_NL; i++)
            assert_true(i == 5 || fabsf(out[i] - x[i]) <= 0.125f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_encode_as_numpy_and_gguf_encode_them),
        cmocka_unit_test(first_blocks_are_those_of_llama_cpp),
        cmocka_unit_test(sixteen_bit_floats_round_to_even_overflow_and_keep_their_nans),
        cmocka_unit_test(every_sixteen_bit_float_comes_back),
        cmocka_unit_test(every_level_encodes_to_the_bytes_of_scalar_and_stays_in_its_own),
        cmocka_unit_test(every_level_weighs_as_scalar_does),
        cmocka_unit_test(every_level_breaks_ties_of_iq4_as_scalar_does),
        cmocka_unit_test(values_that_were_encoded_once_no_longer_change),
        cmocka_unit_test(an_infinity_shows_in_the_scale_and_a_nan_does_not_spoil_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
