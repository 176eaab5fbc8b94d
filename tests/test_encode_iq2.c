/* The encoders of IQ2 and IQ3: against llama.cpp's, and the codebooks that they search against what these are by definition. */
#include "kernels.h"

#include <math.h>
#include <xxhash.h>

#include "values/kernels/codebook.h"

enum { ROWS = 4, COLUMNS = 1024, SUPERS = ROWS * COLUMNS / 256 };

static uint64_t random_bits(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s;
}

/* Values of four sizes; a super-block and a sub-block of zeros in the third row, no minus sign in the fourth. */
static void make_values(float *x)
{
    uint64_t s = 12345;
    for (unsigned i = 0; i < ROWS * COLUMNS; i++) {
        const uint64_t bits = random_bits(&s);
        x[i] = ldexpf((float)((int64_t)(bits >> 40) - 8388608), -(24 + (int)(bits >> 36 & 3)));
        const unsigned column = i % COLUMNS;
        if (i / COLUMNS == 2 && (column < 256 || (column >= 512 && column < 544)))
            x[i] = 0;
        if (i / COLUMNS == 3)
            x[i] = fabsf(x[i]);
    }
}

static void make_importance(float *w)
{
    uint64_t s = 777;
    for (unsigned i = 0; i < COLUMNS; i++)
        w[i] = (float)((random_bits(&s) >> 40) + 1) * 0x1p-20f;
}

/* XXH3 of what llama.cpp makes of them; SHA-256 of the same bytes was compared with its. */
static void bytes_are_those_of_llama_cpp(void **state)
{
    (void)state;
    static const struct {
        enum apr_dtype_id id;
        bool              weighted;
        uint64_t          wanted;
    } rows[] = {
        { APR_IQ2_XXS, true, 0x1d5f6c132311c370 },
        { APR_IQ2_XS, true, 0xbde90f61daec14d1 },
        { APR_IQ2_S, false, 0xc2fda14b9d9c9e1a },
        { APR_IQ2_S, true, 0x40b4199e80ccf0b9 },
        { APR_IQ3_XXS, false, 0x874a8d6527f84368 },
        { APR_IQ3_XXS, true, 0x98dda130550c9bf2 },
        { APR_IQ3_S, false, 0xfd2918a3a1032403 },
        { APR_IQ3_S, true, 0xb307755a6583f9b2 },
    };
    static float x[ROWS * COLUMNS], w[COLUMNS];
    static unsigned char out[SUPERS * 110];
    make_values(x);
    make_importance(w);
    FOR_LEVELS(k) for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_dtype *d = &apr_dtypes[rows[i].id];
        if (rows[i].weighted)
            k->encode_weighted[rows[i].id](x, ROWS, COLUMNS, w, out);
        else
            k->encode[rows[i].id](x, ROWS * COLUMNS, out);
        const uint64_t got = XXH3_64bits(out, SUPERS * d->bytes);
        if (got != rows[i].wanted)
            fail_msg("%s, %s, %s: XXH3 is 0x%016llx", d->name, rows[i].weighted ? "weighted" : "plain", apr_isa_word(k->isa),
                     (unsigned long long)got);
    }
}

static unsigned squared_distance(const struct apr_codebook *b, unsigned s, unsigned t)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < b->width; i++) {
        const int step = (int)(s >> i * b->bits & ((1u << b->bits) - 1)) - (int)(t >> i * b->bits & ((1u << b->bits) - 1));
        sum += (unsigned)(step * step);
    }
    return sum;
}

/* How many entries a tuple's list would have, were it cut after `rings` distances: those at most as far as its last. */
static void expect_list(const struct apr_codebook *b, unsigned tuple, unsigned nentry, unsigned rings)
{
    const uint16_t *const list = b->list + apr_near_first(b->at[tuple]);
    const unsigned n = apr_near_count(b->at[tuple]), most = squared_distance(b, tuple, list[n - 1]);
    unsigned within = 0, distances = 1;
    for (unsigned i = 0; i < nentry; i++)
        within += squared_distance(b, tuple, b->entry[i]) <= most;
    assert_int_equal(n, within);
    for (unsigned i = 1; i < n; i++) {
        const unsigned before = squared_distance(b, tuple, list[i - 1]), now = squared_distance(b, tuple, list[i]);
        assert_true(before < now || (before == now && b->at[list[i - 1]] < b->at[list[i]]));
        distances += before < now;
    }
    assert_int_equal(distances, rings);
}

static void tuples_off_the_grid_have_all_entries_at_the_nearest_distances_in_order(void **state)
{
    (void)state;
    static const struct {
        enum apr_codebook_id id;
        unsigned             nentry, rings;
    } rows[] = { { APR_BOOK_IQ2XXS, 256, 2 }, { APR_BOOK_IQ2XS, 512, 2 },  { APR_BOOK_IQ2S, 1024, 1 },
                 { APR_BOOK_IQ1S, 2048, 3 },  { APR_BOOK_IQ3XXS, 256, 2 }, { APR_BOOK_IQ3S, 512, 3 } };
    for (size_t r = 0; r < APR_LENGTH(rows); r++) {
        const struct apr_codebook *const b = apr_codebook(rows[r].id);
        unsigned on = 0, off = 0;
        for (unsigned t = 0; t < 1u << b->width * b->bits; t++) {
            const bool tuple = b->bits == 3 || !(t & t >> 1 & 0x5555);
            if (tuple && b->at[t] & APR_OFF_GRID) {
                if (off++ % 7 == 0)
                    expect_list(b, t, rows[r].nentry, rows[r].rings);
            } else if (tuple) {
                assert_int_equal(b->entry[b->at[t]], t);
                on++;
            }
        }
        assert_int_equal(on, rows[r].nentry);
        assert_int_equal(on + off, b->bits == 3 ? 4096 : 6561);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_llama_cpp),
        cmocka_unit_test(tuples_off_the_grid_have_all_entries_at_the_nearest_distances_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
