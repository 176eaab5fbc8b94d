/* CRCs of joined parts against libdeflate's of the whole. */
#include "support.h"

#include <libdeflate.h>

#include "base/crc.h"

#define MOST 5000

static void parts_join_to_the_whole_and_come_apart_again(void **state)
{
    (void)state;
    unsigned char bytes[MOST];
    for (unsigned i = 0; i < MOST; i++)
        bytes[i] = (unsigned char)test_random(256);
    for (unsigned round = 0; round < 4000; round++) {
        const size_t n = (size_t)test_random(round % 2 == 0 ? 40 : MOST), cut = (size_t)test_random(n + 1);
        const uint32_t whole = libdeflate_crc32(0, bytes, n), a = libdeflate_crc32(0, bytes, cut);
        const uint32_t b = libdeflate_crc32(0, bytes + cut, n - cut);
        assert_int_equal(apr_crc32_joined(a, b, n - cut), whole);
        assert_int_equal(apr_crc32_behind(whole, a, n - cut), b);
        assert_int_equal(apr_crc32_of(a, (struct apr_bytes){ bytes + cut, n - cut }), whole);
    }
    /* the check value of CRC-32 */
    assert_int_equal(apr_crc32_of(0, (struct apr_bytes){ (const unsigned char *)"123456789", 9 }), 0xCBF43926);
}

/* More than 2^32 zeros, put together by doubling, against libdeflate over all of them. */
static void lengths_beyond_32_bits_count(void **state)
{
    (void)state;
    static const unsigned char zeros[1 << 20];
    const uint64_t n = (UINT64_C(1) << 32) + (64 << 20);
    uint32_t expected = libdeflate_crc32(0, "head", 4);
    for (uint64_t at = 0; at < n; at += sizeof zeros)
        expected = libdeflate_crc32(expected, zeros, sizeof zeros);
    uint32_t megabytes = libdeflate_crc32(0, zeros, sizeof zeros), all = 0;
    uint64_t length = sizeof zeros;
    for (uint64_t left = n >> 20; left != 0; left >>= 1, length *= 2) {
        if ((left & 1) != 0)
            all = apr_crc32_joined(all, megabytes, length);
        megabytes = apr_crc32_joined(megabytes, megabytes, length);
    }
    assert_int_equal(apr_crc32_joined(libdeflate_crc32(0, "head", 4), all, n), expected);
    assert_int_equal(apr_crc32_behind(expected, libdeflate_crc32(0, "head", 4), n), all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_join_to_the_whole_and_come_apart_again),
        cmocka_unit_test(lengths_beyond_32_bits_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
