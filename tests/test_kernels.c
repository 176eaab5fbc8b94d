/* The dtype table and the kernels: against numbers from other people's code, and each ISA level against scalar. */
#include "kernels.h"

#include <libdeflate.h>
#include <math.h>

static bool decodable(const struct apr_kernels *k, const struct apr_dtype *d)
{
    return k->decode[apr_dtype_id(d)] || k->decode_wide[apr_dtype_id(d)];
}

/* The index of the first value that differs in its bits, or n. NaNs of block types are all alike: which of two NaN operands an
 * addition keeps is the compiler's choice. */
static size_t first_unlike(const struct apr_dtype *d, const void *a, const void *b, size_t n)
{
    const size_t width = d->wide ? sizeof(double) : sizeof(float);
    if (n == 0 || memcmp(a, b, n * width) == 0)
        return n;
    for (size_t i = 0; i < n; i++) {
        const char *x = (const char *)a + i * width, *y = (const char *)b + i * width;
        float fx = 0, fy = 0;
        if (!d->wide) {
            memcpy(&fx, x, sizeof fx);
            memcpy(&fy, y, sizeof fy);
        }
        if (memcmp(x, y, width) != 0 && !(d->block > 4 && isnan(fx) && isnan(fy)))
            return i;
    }
    return n;
}

static void expect_alike(const struct apr_kernels *k, const struct apr_dtype *d, const void *got, const void *wanted, size_t n)
{
    const size_t at = first_unlike(d, got, wanted, n);
    if (at < n)
        fail_msg("%s, %s: value %zu of %zu is not the expected one", d->name, apr_isa_word(k->isa), at, n);
}

static void fields_cover_their_block_and_ids_are_unique(void **state)
{
    (void)state;
    FOR_DTYPES(d) {
        assert_non_null(d->name);
        assert_true(d->block > 0 && d->bytes > 0 && d->block <= 256);
        unsigned at = 0;
        for (size_t i = 0; i < APR_MAX_FIELDS && d->field[i].n; i++) {
            assert_int_equal(d->field[i].at, at);
            at += d->field[i].n * apr_field_width(d->field[i].kind);
        }
        assert_true(at == d->bytes || (at == 0 && (d->flat || d->packed)));
        if (d->ggml >= 0) {
            assert_ptr_equal(apr_dtype_of_ggml((uint32_t)d->ggml), d);
            assert_null(apr_ggml_removed((uint32_t)d->ggml));
        }
        if (d->safetensors) {
            const struct apr_bytes name = { (const unsigned char *)d->safetensors, strlen(d->safetensors) };
            assert_ptr_equal(apr_dtype_of_safetensors(name), d);
            assert_null(apr_dtype_of_safetensors((struct apr_bytes){ name.at, name.n - 1 }));
        }
        for (const struct apr_dtype *other = apr_dtypes; other < d; other++) {
            assert_string_not_equal(other->name, d->name);
            assert_true(d->apr < 0 || d->apr != other->apr);
        }
    }
}

/* What the columns say of a dtype's values, and what its decoder makes of them. */
static void columns_are_true_of_the_values(void **state)
{
    (void)state;
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    static float value[65536];
    static unsigned char code[2 * 65536];
    FOR_DTYPES(d) {
        static const char *const kind[] = { "FBQITMNC", "I", "U", "B" };
        static const float one = 1;
        if (d->packed)
            continue;
        assert_true(d->pair == NULL || (d->bytes == 2 * d->pair->bytes && !decodable(k, d)));
        assert_true(decodable(k, d) != (d->pair != NULL));
        assert_true(strchr(kind[d->kind], d->name[0]) != NULL || strncmp(d->name, "APR_", 4) == 0);
        assert_true(apr_is_whole(d) == (strcmp(d->name, "I64") == 0 || strcmp(d->name, "U64") == 0));
        if (d->native) {
            assert_true(d->kind == APR_REAL && d->block == 1 && d->bytes == (d->wide ? sizeof(double) : sizeof(float)));
        }
        assert_int_equal(d->ncode, d->block == 1 && d->bytes <= 2 ? 1 << 8 * d->bytes : 0);
        for (unsigned i = 0; i < d->ncode; i++)
            for (unsigned b = 0; b < d->bytes; b++)
                code[i * d->bytes + b] = (unsigned char)(i >> 8 * b);
        if (d->ncode > 0)
            decode(k, d, (const unsigned char *)&one, code, d->ncode, value);
        for (unsigned half = 0; half < 2 && d->ncode > 0; half++) {
            const float *const v = value + half * d->ncode / 2, first = v[1], last = v[d->ncode / 4];
            for (unsigned i = 2; i < d->ncode / 2; i++)
                assert_true(!isfinite(v[i]) || !isfinite(v[i - 1]) || (last >= first ? v[i] >= v[i - 1] : v[i] <= v[i - 1]));
        }
    }
}

static void every_ggml_id_below_43_is_a_dtype_or_removed(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < 43; id++)
        assert_true((apr_dtype_of_ggml(id) != NULL) != (apr_ggml_removed(id) != NULL));
    static const uint32_t unknown[] = { 43, 255, 0x7fffffff, 0x80000000, UINT32_MAX };
    for (size_t i = 0; i < APR_LENGTH(unknown); i++) {
        assert_null(apr_dtype_of_ggml(unknown[i]));
        assert_null(apr_ggml_removed(unknown[i]));
    }
}

static void the_best_level_is_one_this_cpu_has(void **state)
{
    (void)state;
    assert_true(apr_isa_has(APR_SCALAR));
    assert_true(apr_isa_has(apr_isa_best()));
    assert_string_equal(apr_isa_word(APR_AVX512), "avx512");
    FOR_LEVELS(k) {
        assert_int_equal(k->isa, isa_);
        assert_ptr_equal(k, apr_kernels_for(k->isa));
    }
}

static void stored_values_decode_as_numpy_and_gguf_decode_them(void **state)
{
    (void)state;
    FOR_LEVELS(k) FOR_DTYPES(d) {
        if (!decodable(k, d) || apr_dtype_id(d) == APR_F16 || apr_dtype_id(d) == APR_BF16)
            continue;
        struct test_bytes in = vector(d->name, "in"), wanted = vector(d->name, "out");
        const size_t n = (in.n - d->head) / d->bytes * d->block;
        assert_int_equal(wanted.n, n * (d->wide ? sizeof(double) : sizeof(float)));
        void *out = malloc(wanted.n);
        decode(k, d, in.at, in.at + d->head, n, out);
        expect_alike(k, d, out, wanted.at, n);
        free(out);
        test_free(&in);
        test_free(&wanted);
    }
}

static void all_sixteen_bit_floats_decode_as_numpy_decodes_them(void **state)
{
    (void)state;
    struct test_bytes sums = test_load("fixtures/vectors/every.txt"), codes = { 0 };
    for (unsigned i = 0; i < 65536; i++)
        test_integer(&codes, i, 2);
    float *out = malloc(65536 * sizeof *out);
    char text[64];
    FOR_LEVELS(k) {
        for (unsigned i = 0; i < 2; i++) {
            const struct apr_dtype *d = &apr_dtypes[i ? APR_BF16 : APR_F16];
            decode(k, d, NULL, codes.at, 65536, out);
            const int n = snprintf(text, sizeof text, "%s %08x\n", d->name, libdeflate_crc32(0, out, 65536 * sizeof *out));
            assert_non_null(memmem(sums.at, sums.n, text, (size_t)n));
        }
    }
    decode(apr_kernels_for(APR_SCALAR), &apr_dtypes[APR_F16], NULL, codes.at, 65536, out);
    for (unsigned i = 0; i < 65536; i++) {
        const float one = apr_f16_to_f32((uint16_t)i);
        assert_memory_equal(&one, &out[i], sizeof one);
    }
    free(out);
    test_free(&codes);
    test_free(&sums);
}

/* Random bytes, with scales mostly near 1 and sometimes subnormal, huge, infinite or NaN. */
static void random_blocks(const struct apr_dtype *d, unsigned char *at, size_t nblocks)
{
    for (size_t i = 0; i < nblocks * d->bytes; i++)
        at[i] = (unsigned char)next();
    for (size_t i = 0; i < nblocks; i++, at += d->bytes)
        for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n; f++)
            if (f->kind == APR_FIELD_F16 && next() % 4)
                at[f->at + 1] = (unsigned char)((at[f->at + 1] & 0x83) | 0x34);
}

static void every_level_gives_the_bits_of_scalar_and_stays_in_its_bytes(void **state)
{
    (void)state;
    const size_t most = LONG_RUN * sizeof(double);
    unsigned char *in_end = guarded(most), *out_end = guarded(most), *wanted = malloc(most), head[4];
    seed = 1;
    FOR_LEVELS(k) FOR_DTYPES(d) {
        if (!decodable(k, d))
            continue;
        assert_true(decodable(apr_kernels_for(APR_SCALAR), d));
        const size_t tails = d->block > 64 ? 9 : 69, width = d->wide ? sizeof(double) : sizeof(float);
        for (size_t run = 0; run <= 4 * tails + 12; run++) {
            const size_t offset = run % 4, nblocks = run / 4 <= tails ? run / 4 : LONG_RUN / d->block - offset;
            const size_t n = nblocks * d->block;
            unsigned char *in = in_end - nblocks * d->bytes - offset, *out = out_end - (n + offset) * width;
            random_blocks(d, in, nblocks);
            const float scale = (float)(int64_t)next() * 0x1p-60f;
            memcpy(head, &scale, sizeof scale);
            decode(apr_kernels_for(APR_SCALAR), d, head, in, n, wanted);
            decode(k, d, head, in, n, out);
            expect_alike(k, d, out, wanted, n);
        }
    }
    free(wanted);
}

#define UNPACKED_BLOCKS 1000000 /* of all types together */

static float value_of(const struct apr_unpacked *u, unsigned i)
{
    const unsigned j = i / (u->n / u->nsub);
    const float scale = u->scale[i / (u->n / u->nscale)] * (float)u->sub_scale[j], min = u->min * (float)u->sub_min[j];
    const float product = scale * (float)u->quant[i];
    return product - min;
}

/* Which types have no such numbers: plain ones, one whose scale stands before all blocks, and those whose codes stand for groups. */
static bool is_unpacked(const struct apr_dtype *d)
{
    return d->block > 4 && strncmp(d->name, "IQ1", 3) != 0 && strncmp(d->name, "IQ2", 3) != 0 && strncmp(d->name, "IQ3", 3) != 0;
}

static void blocks_are_their_numbers_put_together(void **state)
{
    (void)state;
    const struct apr_kernels *const k = apr_kernels_for(apr_isa_best());
    unsigned ntypes = 0;
    FOR_DTYPES(d)
        ntypes += is_unpacked(d);
    seed = 6;
    FOR_DTYPES(d) {
        unsigned char block[320];
        float wanted[APR_MOST_ELEMENTS], got[APR_MOST_ELEMENTS];
        struct apr_unpacked u;
        assert_true((k->unpack[apr_dtype_id(d)] != NULL) == is_unpacked(d));
        for (unsigned b = 0; is_unpacked(d) && b <= UNPACKED_BLOCKS / ntypes; b++) {
            memset(&u, 0x55, sizeof u);
            random_blocks(d, block, 1);
            k->unpack[apr_dtype_id(d)](block, &u);
            assert_int_equal(u.n, d->block);
            for (unsigned i = 0; i < u.n; i++)
                got[i] = value_of(&u, i);
            decode(k, d, NULL, block, u.n, wanted);
            expect_alike(k, d, got, wanted, u.n);
        }
    }
}

/* Codes are rare in which two neighbouring bits are set, so that sound blocks are common, and only one byte may be out of place. */
static void codes_are_judged_by_the_numbers_they_stand_for(void **state)
{
    (void)state;
    static const enum apr_dtype_id ternary[] = { APR_TQ2_0, APR_Q2_0 };
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    unsigned nsound = 0;
    seed = 7;
    for (unsigned r = 0; r < 2000; r++) {
        const struct apr_dtype *d = &apr_dtypes[ternary[r % 2]];
        unsigned char block[66] = { 0 };
        struct apr_unpacked u;
        bool fourth = false;
        for (unsigned i = 0; i < d->bytes; i++)
            block[i] = (unsigned char)(next() & 0x55);
        block[next() % d->bytes] = (unsigned char)next();
        k->unpack[apr_dtype_id(d)](block, &u);
        for (unsigned i = 0; i < u.n; i++)
            fourth |= u.quant[i] == 2;
        nsound += !fourth;
        assert_int_equal(k->codes[apr_dtype_id(d)](block), fourth ? APR_CODES_FOREIGN : APR_CODES_SOUND);
    }
    assert_in_range(nsound, 200, 1800);
    for (unsigned byte = 0, q = 0; byte < 256; byte++) { /* 243 of them are five digits, rounded up */
        unsigned char block[54] = { 0 };
        block[byte % 52] = (unsigned char)byte;
        const bool sound = q < 243 && byte * 243 >= q * 256 && (byte == 0 || (byte - 1) * 243 < q * 256);
        q += sound;
        assert_int_equal(k->codes[APR_TQ1_0](block), sound ? APR_CODES_SOUND : APR_CODES_FOREIGN);
    }
}

static void q8_0_is_sound_where_its_largest_code_is_127(void **state)
{
    (void)state;
    static const struct {
        int            most;
        unsigned       d;
        enum apr_codes codes;
    } rows[] = {
        { 127, 0x3C00, APR_CODES_SOUND },    { -127, 0x3C00, APR_CODES_SOUND },  { 126, 0x3C00, APR_CODES_LOOSE },
        { 0, 0x3C00, APR_CODES_SOUND },      { 0, 0xBC00, APR_CODES_SOUND },     { 127, 0xBC00, APR_CODES_FOREIGN },
        { -128, 0x3C00, APR_CODES_FOREIGN }, { -128, 0, APR_CODES_FOREIGN },     { 5, 0, APR_CODES_SOUND },
        { 5, 0x8000, APR_CODES_SOUND },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        unsigned char block[34] = { (unsigned char)rows[i].d, (unsigned char)(rows[i].d >> 8) };
        block[2 + i] = (unsigned char)rows[i].most;
        assert_int_equal(apr_kernels_for(APR_SCALAR)->codes[APR_Q8_0](block), rows[i].codes);
    }
}

#define DIFFERENCE_NUMBERS 12

/* A struct apr_difference as the vectors hold it. */
static void expect_record(const struct apr_difference *got, const unsigned char *wanted)
{
    double w[DIFFERENCE_NUMBERS];
    memcpy(w, wanted, sizeof w);
    const double sums[5] = { apr_fold(got->ab), apr_fold(got->aa), apr_fold(got->bb), apr_fold(got->d), apr_fold(got->dd) };
    for (unsigned i = 0; i < 5; i++)
        assert_true(fabs(sums[i] - w[i]) <= 1e-13 * fabs(w[i]));
    assert_true(got->max == w[5]);
    const uint64_t counts[6] = { got->max_at, got->identical, got->small, got->medium, got->large, got->nonfinite };
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(counts[i], (uint64_t)w[6 + i]);
}

static void expect_difference(const struct apr_difference *got, const struct test_bytes *wanted)
{
    assert_int_equal(wanted->n, DIFFERENCE_NUMBERS * sizeof(double));
    expect_record(got, wanted->at);
}

static void differences_are_those_of_numpy(void **state)
{
    (void)state;
    struct test_bytes in = vector("difference", "in"), out = vector("difference", "out");
    struct test_bytes wide_in = vector("difference_wide", "in"), wide_out = vector("difference_wide", "out");
    const size_t n = in.n / 2 / sizeof(float);
    assert_int_equal(wide_in.n / 2 / sizeof(double), n);
    float *f = malloc(in.n);
    double *w = malloc(wide_in.n);
    memcpy(f, in.at, in.n);
    memcpy(w, wide_in.at, wide_in.n);
    FOR_LEVELS(k) {
        struct apr_difference whole = { 0 }, pieces = { 0 }, wide = { 0 };
        k->difference(f, f + n, n, 0, &whole);
        expect_difference(&whole, &out);
        k->difference_wide(w, w + n, n, 0, &wide);
        expect_difference(&wide, &wide_out);
        for (size_t at = 0, now; at < n; at += now) {
            now = at + 48 < n ? 48 : n - at;
            k->difference(f + at, f + n + at, now, at, &pieces);
        }
        assert_memory_equal(&pieces, &whole, sizeof whole);
    }
    free(f);
    free(w);
    test_free(&in);
    test_free(&out);
    test_free(&wide_in);
    test_free(&wide_out);
}

static void integers_of_64_bits_differ_as_those_of_python(void **state)
{
    (void)state;
    struct test_bytes in = vector("difference_whole", "in"), out = vector("difference_whole", "out");
    const size_t n = in.n / 2 / sizeof(uint64_t), record = DIFFERENCE_NUMBERS * sizeof(double);
    assert_int_equal(out.n, 4 * record);
    unsigned char *const a = guarded(in.n / 2 + 1) - in.n / 2, *const b = guarded(in.n / 2 + 1) - in.n / 2 - 1;
    memcpy(a, in.at, in.n / 2);
    memcpy(b, in.at + in.n / 2, in.n / 2);
    FOR_LEVELS(k) {
        for (unsigned which = 0; which < 4; which++) {
            const bool a_signed = which % 2 == 0, b_signed = which < 2;
            struct apr_difference whole = { 0 }, pieces = { 0 };
            k->difference_whole(a, a_signed, b, b_signed, n, 0, &whole);
            expect_record(&whole, out.at + which * record);
            for (size_t at = 0, now; at < n; at += now) {
                now = at + 48 < n ? 48 : n - at;
                k->difference_whole(a + 8 * at, a_signed, b + 8 * at, b_signed, now, at, &pieces);
            }
            assert_memory_equal(&pieces, &whole, sizeof whole);
        }
    }
    test_free(&in);
    test_free(&out);
}

/* Where doubles are exact the integers differ as their doubles do, to the last bit of every lane. */
static void small_integers_differ_as_their_doubles(void **state)
{
    (void)state;
    int64_t a[203], b[203];
    double x[203], y[203];
    seed = 5;
    for (size_t i = 0; i < APR_LENGTH(a); i++) {
        x[i] = (double)(a[i] = (int64_t)next() >> 11);
        y[i] = (double)(b[i] = i % 3 ? (int64_t)next() >> 11 : a[i]);
    }
    FOR_LEVELS(k) {
        for (size_t n = 0; n <= APR_LENGTH(a); n++) {
            struct apr_difference whole = { 0 }, wide = { 0 };
            k->difference_whole((const unsigned char *)a, true, (const unsigned char *)b, true, n, 32, &whole);
            k->difference_wide(x, y, n, 32, &wide);
            assert_memory_equal(&whole, &wide, sizeof whole);
        }
    }
}

/* Alone among pairs of ones, so that a way for small integers would be taken if it could be. */
static void one_large_integer_among_small_ones_is_seen(void **state)
{
    (void)state;
    static const struct {
        uint64_t a, b;
        bool     a_signed, b_signed;
        double   apart;
    } pair[] = {
        { UINT64_MAX, UINT64_MAX, true, false, 0x1p64 },      { UINT64_MAX, UINT64_MAX, false, true, 0x1p64 },
        { UINT64_MAX, UINT64_MAX, true, true, 0 },            { UINT64_MAX, 1, true, true, 2 },
        { UINT64_MAX, 1, false, false, 0x1p64 },              { (UINT64_C(1) << 53) + 1, UINT64_C(1) << 53, true, true, 1 },
        { UINT64_C(1) << 63, UINT64_MAX, true, false, 0x1.8p64 }, { (UINT64_C(1) << 52) + 1, UINT64_C(1) << 52, false, true, 1 },
        { -(UINT64_C(1) << 52), UINT64_C(1) << 52, true, true, 0x1p53 }, { -(UINT64_C(1) << 52), 0, false, false, 0x1.ffep63 },
    };
    FOR_LEVELS(k) {
        for (size_t i = 0; i < APR_LENGTH(pair); i++) {
            uint64_t a[40], b[40];
            for (size_t j = 0; j < APR_LENGTH(a); j++)
                a[j] = b[j] = 1;
            a[20] = pair[i].a;
            b[20] = pair[i].b;
            struct apr_difference d = { 0 };
            k->difference_whole((unsigned char *)a, pair[i].a_signed, (unsigned char *)b, pair[i].b_signed, 40, 0, &d);
            assert_true(d.max == pair[i].apart);
            assert_int_equal(d.identical, pair[i].apart == 0 ? 40 : 39);
        }
    }
}

static void every_level_gives_the_differences_of_scalar(void **state)
{
    (void)state;
    static const float odd[] = { 0, -0.0f, NAN, INFINITY, -INFINITY, 3e38f, 1e-45f, 1 };
    static const struct {
        unsigned odd_every; /* pairs, 0 for none */
        float    step;      /* between pairs, up to four of them */
    } kind[] = { { 16, 0x1p-10f }, { 0, 0x1p-14f }, { 0, 0x1p-10f }, { 0, 0.1f }, { 3000, 0x1p-14f }, { 3000, 0x1p-9f } };
    const size_t most = 4096;
    float *a_end = (void *)guarded(most * sizeof(float)), *b_end = (void *)guarded(most * sizeof(float));
    double *wa_end = (void *)guarded(most * sizeof(double)), *wb_end = (void *)guarded(most * sizeof(double));
    seed = 2;
    FOR_LEVELS(k) {
        for (size_t run = 0; run < 90 * APR_LENGTH(kind); run++) {
            const size_t which = run / 90, n = run % 90, count = n < 70 ? n : most - 16 * n % 1500;
            float *a = a_end - count, *b = b_end - count;
            double *wa = wa_end - count, *wb = wb_end - count;
            for (size_t i = 0; i < count; i++) {
                const bool special = kind[which].odd_every && next() % kind[which].odd_every == 0;
                a[i] = special ? odd[next() % APR_LENGTH(odd)] : (float)(int64_t)next() * 0x1p-62f;
                b[i] = special ? odd[next() % APR_LENGTH(odd)] : a[i] + (float)(int64_t)(next() % 5) * kind[which].step;
                wa[i] = a[i];
                wb[i] = b[i];
            }
            struct apr_difference got = { 0 }, wanted = { 0 }, wide = { 0 };
            const size_t half = count / 32 * 16;
            for (unsigned part = 0; part < 2; part++) { /* so that there are sums already */
                const size_t at = part ? half : 0, now = part ? count - half : half;
                apr_kernels_for(APR_SCALAR)->difference(a + at, b + at, now, 16 + at, &wanted);
                k->difference(a + at, b + at, now, 16 + at, &got);
                k->difference_wide(wa + at, wb + at, now, 16 + at, &wide);
            }
            assert_memory_equal(&got, &wanted, sizeof got);
            assert_memory_equal(&wide, &wanted, sizeof wide);
            assert_int_equal(got.identical + got.small + got.medium + got.large + got.nonfinite, count);
        }
    }
}

static void doubles_beyond_a_float_differ_at_every_level_as_in_scalar(void **state)
{
    (void)state;
    static const double huge[] = { 1e200, -1e200, 1.7e308, -1.7e308, 1e-320, -1e-200, 0x1.fffffffffffffp0, 1 };
    double a[96], b[96];
    seed = 3;
    FOR_LEVELS(k) {
        for (unsigned run = 0; run < 200; run++) {
            struct apr_difference got = { 0 }, wanted = { 0 };
            for (size_t i = 0; i < 96; i++) {
                a[i] = run % 2 ? (double)next() * 0x1p-64 : huge[next() % APR_LENGTH(huge)];
                b[i] = run % 2 ? (double)next() * 0x1p-64 : huge[next() % APR_LENGTH(huge)];
            }
            apr_kernels_for(APR_SCALAR)->difference_wide(a, b, 96, 0, &wanted);
            k->difference_wide(a, b, 96, 0, &got);
            assert_memory_equal(&got, &wanted, sizeof got);
        }
    }
}

/* Over the sign of a zero that is a lowest or highest value nobody promised anything. */
static void unsign_zeros(struct apr_moments *m)
{
    for (unsigned l = 0; l < APR_LANES; l++) {
        m->min[l] += 0.0;
        m->max[l] += 0.0;
    }
}

static void every_level_gives_the_moments_and_bins_of_scalar(void **state)
{
    (void)state;
    static const float odd[] = { 0, -0.0f, NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f };
    const struct apr_kernels *const scalar = apr_kernels_for(APR_SCALAR);
    const size_t most = 4096;
    float *x_end = (void *)guarded(most * sizeof(float));
    double *wide_end = (void *)guarded(most * sizeof(double));
    uint16_t *bin_end = (void *)guarded(most * sizeof(uint16_t)), *wanted_bin = malloc(most * sizeof *wanted_bin);
    seed = 4;
    FOR_LEVELS(k) {
        for (size_t run = 0; run < 300; run++) {
            const size_t n = run % 100, count = n < 70 ? n : most - 16 * n % 1500 - n % 16, half = count / 32 * 16;
            const unsigned odd_every = run < 100 ? 0 : run < 200 ? 16 : 3000;
            float *x = x_end - count;
            double *wide = wide_end - count;
            uint16_t *bin = bin_end - count;
            for (size_t i = 0; i < count; i++)
                wide[i] = x[i] = odd_every && next() % odd_every == 0 ? odd[next() % APR_LENGTH(odd)] : (float)(int64_t)next() * 0x1p-62f;
            struct apr_moments got = apr_no_moments(), got_wide = got, wanted = got;
            for (unsigned part = 0; part < 2; part++) { /* so that there are sums already */
                const size_t at = part ? half : 0, now = part ? count - half : half;
                scalar->moments(x + at, now, 0.25, &wanted);
                k->moments(x + at, now, 0.25, &got);
                k->moments_wide(wide + at, now, 0.25, &got_wide);
            }
            unsign_zeros(&wanted);
            unsign_zeros(&got);
            unsign_zeros(&got_wide);
            assert_memory_equal(&got, &wanted, sizeof got);
            assert_memory_equal(&got_wide, &wanted, sizeof got);
            const double scale = run % 2 ? 20000 : 1e300;
            scalar->bins(x, count, -1.5, scale, wanted_bin);
            for (unsigned w = 0; w < 2; w++) {
                memset(bin, 0xff, count * sizeof *bin);
                if (w)
                    k->bins_wide(wide, count, -1.5, scale, bin);
                else
                    k->bins(x, count, -1.5, scale, bin);
                if (count)
                    assert_memory_equal(bin, wanted_bin, count * sizeof *bin);
            }
        }
    }
    free(wanted_bin);
}

/* What there is no order of: of several NaNs, the compiler chooses. */
static void expect_sums(const struct apr_kernels *k, const double *got, const double *wanted, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &wanted[i], sizeof *got) != 0 && !(isnan(got[i]) && isnan(wanted[i])))
            fail_msg("%s, %s: sum %zu of %zu is %a, expected is %a", what, apr_isa_word(k->isa), i, n, got[i], wanted[i]);
}

static float odd_float(void)
{
    static const float odd[] = { 0, -0.0f, NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, -1e-40f, 1 };
    return odd[next() % APR_LENGTH(odd)];
}

#define MOST_DOTS 3100u /* elements of a row, of a sum of more than one run of columns */

static void every_level_gives_the_dots_of_scalar(void **state)
{
    (void)state;
    float *const w_end = (void *)guarded(9 * MOST_DOTS * sizeof(float));
    double *const x_end = (void *)guarded(13 * MOST_DOTS * sizeof(double));
    double got[13 * 11], wanted[13 * 11];
    seed = 7;
    FOR_LEVELS(k) {
        for (size_t run = 0; run < 9 * 13 * 8; run++) {
            const size_t nrow = run % 9 + 1, nx = run / 9 % 13 + 1, stride = nrow + run % 3, kind = run / (9 * 13);
            const size_t n = kind < 6 ? next() % 71 : MOST_DOTS - next() % 2500;
            float *const w = w_end - nrow * n;
            double *const x = x_end - nx * n;
            for (size_t i = 0; i < nrow * n; i++)
                w[i] = kind % 2 && next() % 256 == 0 ? odd_float() : (float)(int64_t)next() * 0x1p-62f;
            for (size_t i = 0; i < nx * n; i++)
                x[i] = kind % 2 && next() % 256 == 0 ? odd_float() : (float)(int64_t)next() * 0x1p-62f;
            for (size_t i = 0; i < APR_LENGTH(got); i++)
                got[i] = wanted[i] = 77;
            apr_kernels_for(APR_SCALAR)->dots(w, nrow, x, nx, n, wanted, stride);
            k->dots(w, nrow, x, nx, n, got, stride);
            expect_sums(k, got, wanted, APR_LENGTH(got), "dots");
        }
    }
}

/* Numbers of all sizes, whose products no double holds: where one is fused, its last bit shows. */
static double any_double(void) { return next() % 256 == 0 ? odd_float() : (double)(int64_t)next() * 0x1p-62; }

static void every_level_gives_the_row_dots_of_scalar(void **state)
{
    (void)state;
    const struct apr_kernels *const scalar = apr_kernels_for(APR_SCALAR);
    float *const w_end = (void *)guarded(9 * 200 * sizeof(float));
    double *const wide_end = (void *)guarded(9 * 200 * sizeof(double)), *const x_end = (void *)guarded(200 * sizeof(double));
    double got[10], wanted[10];
    seed = 9;
    FOR_LEVELS(k) {
        for (size_t run = 0; run < 2000; run++) {
            const size_t nrow = run % 9 + 1, n = next() % 200;
            for (size_t i = 1; i <= nrow * n; i++) {
                wide_end[-(ptrdiff_t)i] = any_double();
                w_end[-(ptrdiff_t)i] = (float)wide_end[-(ptrdiff_t)i];
            }
            for (size_t i = 1; i <= n; i++)
                x_end[-(ptrdiff_t)i] = any_double();
            got[nrow] = wanted[nrow] = 77;
            scalar->row_dots(w_end - nrow * n, nrow, x_end - n, n, wanted);
            k->row_dots(w_end - nrow * n, nrow, x_end - n, n, got);
            expect_sums(k, got, wanted, nrow + 1, "row_dots");
            scalar->row_dots_wide(wide_end - nrow * n, nrow, x_end - n, n, wanted);
            k->row_dots_wide(wide_end - nrow * n, nrow, x_end - n, n, got);
            expect_sums(k, got, wanted, nrow + 1, "row_dots_wide");
        }
    }
}

/* Plain floats of 16 bits are random bits now and then, with all the NaNs among them, else as numbers are. */
static void random_rows(const struct apr_dtype *d, unsigned char *at, size_t nblocks, bool all)
{
    random_blocks(d, at, nblocks);
    for (size_t i = 0; i < nblocks && d->block == 1 && !all; i++)
        at[i * d->bytes + d->bytes - 1u] = (unsigned char)((at[i * d->bytes + d->bytes - 1u] & 0x81) | 0x3c);
}

static void every_level_gives_the_dots_of_stored_rows_as_of_decoded_ones(void **state)
{
    (void)state;
    const struct apr_kernels *const scalar = apr_kernels_for(APR_SCALAR);
    const size_t most = 2048;
    unsigned char *const in_end = guarded(5 * most * 4 + 5);
    double *const x_end = (void *)guarded(most * sizeof *x_end), got[5], wanted[5];
    float *const w = malloc(5 * most * sizeof *w);
    seed = 8;
    FOR_LEVELS(k) FOR_DTYPES(d) {
        apr_dot_fn *const dot = k->dot[apr_dtype_id(d)];
        for (size_t run = 0; run < 400 && dot != NULL; run++) {
            const size_t nrow = run % 5 + 1, nblocks = d->block == 1 ? run % 71 : run % (most / d->block), n = nblocks * d->block;
            const size_t bytes = nblocks * d->bytes, apart = bytes + run % 3;
            const unsigned char *row[5];
            for (size_t i = 0; i < n; i++)
                x_end[i - n] = run % 7 == 0 && next() % 64 == 0 ? odd_float() : (float)(int64_t)next() * 0x1p-62f;
            for (size_t r = 0; r < nrow; r++) {
                unsigned char *const at = in_end - (nrow - 1 - r) * apart - bytes;
                random_rows(d, at, nblocks, run % 5 == 0);
                scalar->decode[apr_dtype_id(d)](NULL, at, n, w + r * n);
                row[r ^ (nrow > 1 && r < 2)] = at; /* rows need not be in order */
            }
            scalar->dots(w, nrow, x_end - n, 1, n, wanted, nrow);
            dot(row, nrow, x_end - n, n, got);
            if (nrow > 1) {
                const double first = got[0];
                got[0] = got[1];
                got[1] = first;
            }
            expect_sums(k, got, wanted, nrow, d->name);
        }
    }
    free(w);
}

/* 2^60 and 1 in one lane lose the 1, in two they do not until these are folded; +-2^60 in lanes 0 and 8 meet before 1 in lane 4 does. */
static void dots_are_added_by_lanes(void **state)
{
    (void)state;
    double x[40] = { 0 };
    float w[40];
    for (size_t i = 0; i < APR_LENGTH(w); i++)
        w[i] = 0x1p30f;
    x[0] = 0x1p30, x[8] = -0x1p30, x[4] = 0x1p-30, x[23] = 0x1p-30;
    FOR_LEVELS(k) {
        double y;
        k->dots(w, 1, x, 1, 40, &y, 1);
        assert_true(y == 2);
        x[16] = 0x1p-30; /* lost in lane 0 */
        k->dots(w, 1, x, 1, 40, &y, 1);
        assert_true(y == 2);
        x[16] = 0;
    }
}

static void lanes_fold_in_halves(void **state)
{
    (void)state;
    const double lanes[APR_LANES] = { 1e16, 1, -1e16, 1, 0, 0, 0, 0, 0, 0, 0, 1 };
    assert_true(apr_fold(lanes) == ((1e16 + -1e16) + (1 + (1 + 1.0))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_cover_their_block_and_ids_are_unique),
        cmocka_unit_test(columns_are_true_of_the_values),
        cmocka_unit_test(every_ggml_id_below_43_is_a_dtype_or_removed),
        cmocka_unit_test(the_best_level_is_one_this_cpu_has),
        cmocka_unit_test(stored_values_decode_as_numpy_and_gguf_decode_them),
        cmocka_unit_test(all_sixteen_bit_floats_decode_as_numpy_decodes_them),
        cmocka_unit_test(every_level_gives_the_bits_of_scalar_and_stays_in_its_bytes),
        cmocka_unit_test(blocks_are_their_numbers_put_together),
        cmocka_unit_test(codes_are_judged_by_the_numbers_they_stand_for),
        cmocka_unit_test(q8_0_is_sound_where_its_largest_code_is_127),
        cmocka_unit_test(differences_are_those_of_numpy),
        cmocka_unit_test(integers_of_64_bits_differ_as_those_of_python),
        cmocka_unit_test(small_integers_differ_as_their_doubles),
        cmocka_unit_test(one_large_integer_among_small_ones_is_seen),
        cmocka_unit_test(every_level_gives_the_differences_of_scalar),
        cmocka_unit_test(doubles_beyond_a_float_differ_at_every_level_as_in_scalar),
        cmocka_unit_test(every_level_gives_the_moments_and_bins_of_scalar),
        cmocka_unit_test(every_level_gives_the_dots_of_scalar),
        cmocka_unit_test(every_level_gives_the_row_dots_of_scalar),
        cmocka_unit_test(every_level_gives_the_dots_of_stored_rows_as_of_decoded_ones),
        cmocka_unit_test(dots_are_added_by_lanes),
        cmocka_unit_test(lanes_fold_in_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
