/* lib/base/cursor.h: reads that cannot leave their bytes. */
#include "support.h"

#include "base/cursor.h"

static const unsigned char bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
static const struct apr_bytes nine = { bytes, sizeof bytes };

static void integers_are_read_in_both_byte_orders(void **state)
{
    (void)state;
    static const struct { unsigned width; uint64_t little, big; } rows[] = {
        { 1, 0x01, 0x01 },
        { 2, 0x0201, 0x0102 },
        { 4, 0x04030201, 0x01020304 },
        { 8, 0x0807060504030201, 0x0102030405060708 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_cursor c = apr_cursor_on(nine);
        assert_int_equal(apr_take_integer(&c, rows[i].width), rows[i].little);
        assert_int_equal(c.at, rows[i].width);
        c = apr_cursor_on(nine);
        c.big = true;
        assert_int_equal(apr_take_integer(&c, rows[i].width), rows[i].big);
        assert_false(c.bad);
    }
    struct apr_cursor c = apr_cursor_on(nine);
    assert_int_equal(apr_u8(&c), 0x01);
    assert_int_equal(apr_u16(&c), 0x0302);
    assert_int_equal(apr_u32(&c), 0x07060504);
    assert_int_equal(apr_left(&c), 2);
}

static void a_read_past_the_end_gives_nothing_and_stays_bad(void **state)
{
    (void)state;
    static const struct { size_t skip; uint64_t take; bool bad; } rows[] = {
        { 0, 0, false }, { 0, 9, false }, { 9, 0, false }, { 8, 1, false },
        { 0, 10, true }, { 9, 1, true },  { 2, 8, true },  { 1, UINT64_MAX, true }, { 9, UINT64_MAX - 8, true },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_cursor c = apr_cursor_on(nine);
        assert_int_equal(apr_take_bytes(&c, rows[i].skip).n, rows[i].skip);
        const struct apr_bytes got = apr_take_bytes(&c, rows[i].take);
        assert_int_equal(c.bad, rows[i].bad);
        assert_int_equal(got.n, rows[i].bad ? 0 : rows[i].take);
        if (rows[i].bad) {
            assert_int_equal(c.at, rows[i].skip);
            assert_int_equal(apr_u8(&c), 0);
            assert_int_equal(c.at, rows[i].skip);
        } else {
            assert_ptr_equal(got.at, bytes + rows[i].skip);
        }
    }
}

static void an_integer_cut_by_the_end_is_zero(void **state)
{
    (void)state;
    struct apr_cursor c = apr_cursor_on((struct apr_bytes){ bytes, 7 });
    assert_int_equal(apr_u64(&c), 0);
    assert_true(c.bad);
    c = apr_cursor_on((struct apr_bytes){ 0 });
    assert_int_equal(apr_take_bytes(&c, 0).n, 0);
    assert_false(c.bad);
    assert_int_equal(apr_u16(&c), 0);
    assert_true(c.bad);
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    uint64_t out;
    assert_true(apr_mul(UINT32_MAX, UINT32_MAX, &out));
    assert_int_equal(out, 0xfffffffe00000001);
    assert_false(apr_mul((uint64_t)1 << 32, (uint64_t)1 << 32, &out));
    assert_true(apr_add(UINT64_MAX, 0, &out));
    assert_false(apr_add(UINT64_MAX, 1, &out));
    static const struct { uint64_t a, to; bool fits; uint64_t up; } rows[] = {
        { 0, 64, true, 0 }, { 1, 64, true, 64 }, { 64, 64, true, 64 }, { 65, 32, true, 96 },
        { UINT64_MAX - 63, 64, true, UINT64_MAX - 63 }, { UINT64_MAX - 62, 64, false, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        assert_int_equal(apr_round_up(rows[i].a, rows[i].to, &out), rows[i].fits);
        if (rows[i].fits)
            assert_int_equal(out, rows[i].up);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_read_in_both_byte_orders),
        cmocka_unit_test(a_read_past_the_end_gives_nothing_and_stays_bad),
        cmocka_unit_test(an_integer_cut_by_the_end_is_zero),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
