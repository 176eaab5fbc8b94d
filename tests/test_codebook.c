/* The codebooks that the encoders of IQ1 to IQ3 search: against what they are by definition. */
#include "kernels.h"

#include "values/kernels/codebook.h"

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
        cmocka_unit_test(tuples_off_the_grid_have_all_entries_at_the_nearest_distances_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
