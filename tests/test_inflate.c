#include "support.h"

#include <lz4.h>
#include <zstd.h>

#include "files/inflate.h"

enum { HEADER = 64, BODY = 300000, FRAME = 100000 };

/* Bytes that compress, but not to nothing. */
static struct test_bytes plain_bytes(void)
{
    struct test_bytes b = { 0 };
    uint32_t x = 1;
    for (size_t i = 0; i < HEADER + BODY; i++) {
        x = x * 1664525 + 1013904223;
        test_integer(&b, x >> 30, 1);
    }
    return b;
}

static void put_frame(struct test_bytes *b, const unsigned char *from, size_t n)
{
    const size_t room = ZSTD_compressBound(n);
    void *scratch = malloc(room);
    assert_non_null(scratch);
    test_put(b, scratch, ZSTD_compress(scratch, room, from, n, 3));
    free(scratch);
}

static void put_skippable(struct test_bytes *b, size_t n)
{
    test_integer(b, 0x184D2A5E, 4);
    test_integer(b, n, 4);
    test_zeros(b, n);
}

static struct test_bytes packed_bytes(const struct test_bytes *plain, enum apr_packing packing)
{
    struct test_bytes b = { 0 };
    test_put(&b, plain->at, HEADER);
    if (packing == APR_PACKED_ZSTD) {
        for (size_t at = HEADER; at < plain->n; at += FRAME)
            put_frame(&b, plain->at + at, FRAME);
        put_skippable(&b, 17);
        return b;
    }
    const int room = LZ4_compressBound(BODY);
    char *scratch = malloc((size_t)room);
    assert_non_null(scratch);
    test_integer(&b, BODY, 4);
    test_put(&b, scratch, (size_t)LZ4_compress_default((const char *)plain->at + HEADER, scratch, BODY, room));
    free(scratch);
    return b;
}

static struct apr_source *source_of(const struct test_bytes *b)
{
    struct apr_source *s = NULL;
    struct apr_error e;
    assert_int_equal(apr_source_open(&s, test_file("packed", b->at, b->n), test_run_with(1), &e), APR_OK);
    return s;
}

static void any_number_of_bytes_can_be_asked_for_and_no_more_come(void **state)
{
    (void)state;
    static const size_t steps[] = { 0, HEADER, HEADER + 1, 4096, FRAME + HEADER, FRAME + HEADER + 1, 262144, HEADER + BODY, SIZE_MAX };
    struct test_bytes plain = plain_bytes();
    for (enum apr_packing packing = APR_PACKED_ZSTD; packing <= APR_PACKED_LZ4; packing++) {
        struct test_bytes b = packed_bytes(&plain, packing);
        struct apr_source *s = source_of(&b);
        struct apr_inflater *f;
        struct apr_error e;
        assert_int_equal(apr_inflate_new(&f, s, HEADER, packing, test_run_with(1), &e), APR_OK);
        for (size_t i = 0; i < APR_LENGTH(steps); i++) {
            struct apr_bytes view;
            const size_t wanted = steps[i] < HEADER ? HEADER : steps[i] > plain.n ? plain.n : steps[i];
            assert_int_equal(apr_inflate_to(f, steps[i], &e), APR_OK);
            assert_int_equal(apr_inflate_view(f, &view, &e), APR_OK);
            assert_int_equal(view.n, wanted);
            assert_memory_equal(view.at, plain.at, wanted);
        }
        assert_int_equal(apr_inflate_into(f, s, &e), APR_OK);
        apr_inflate_free(f);
        assert_int_equal(s->map.n, plain.n);
        assert_int_equal(s->stored, b.n);
        assert_memory_equal(s->map.at, plain.at, plain.n);
        apr_source_close(s);
        test_free(&b);
    }
    test_free(&plain);
}

/* Everything that b unpacks to; the code of the first step that fails. */
static enum apr_code inflate_all(const struct test_bytes *b, enum apr_packing packing, size_t *n, struct apr_error *e)
{
    struct apr_source *s = source_of(b);
    struct apr_inflater *f;
    struct apr_bytes view = { 0 };
    enum apr_code code = apr_inflate_new(&f, s, HEADER, packing, test_run_with(1), e);
    if (code == APR_OK)
        code = apr_inflate_to(f, UINT64_MAX, e);
    if (code == APR_OK)
        code = apr_inflate_view(f, &view, e);
    *n = view.n;
    apr_inflate_free(f);
    apr_source_close(s);
    return code;
}

static void a_file_cut_inside_its_packed_bytes_is_refused(void **state)
{
    (void)state;
    struct test_bytes plain = plain_bytes();
    for (enum apr_packing packing = APR_PACKED_ZSTD; packing <= APR_PACKED_LZ4; packing++) {
        struct test_bytes b = packed_bytes(&plain, packing);
        const size_t whole = b.n;
        for (size_t cut = 1; cut < whole; cut += cut < 100 ? 1 : 7919) {
            struct apr_error e;
            size_t n;
            b.n = whole - cut;
            const enum apr_code code = inflate_all(&b, packing, &n, &e);
            const bool between_frames = packing == APR_PACKED_ZSTD && cut == 25;
            if (code != (between_frames ? APR_OK : APR_ECORRUPT))
                fail_msg("%zu bytes cut off: %s", cut, code == APR_OK ? "ok" : e.text);
        }
        test_free(&b);
    }
    test_free(&plain);
}

/* A zstd frame by hand: a window of 2^(10 + log) bytes, then blocks of 128 KiB that repeat one byte; the last is empty. */
static void put_zeros_frame(struct test_bytes *b, unsigned log, size_t nblocks)
{
    test_integer(b, 0xFD2FB528, 4);
    test_integer(b, 0, 1);
    test_integer(b, log << 3, 1);
    for (size_t i = 0; i < nblocks; i++)
        test_integer(b, 1 << 1 | (1u << 17) << 3, 4); /* 24 bits of header, then the byte */
    test_put(b, "\1\0", 3);
}

static void a_window_of_128_MiB_is_read_and_a_larger_one_refused(void **state)
{
    (void)state;
    for (unsigned log = 17; log <= 18; log++) {
        struct test_bytes b = { 0 };
        struct apr_error e;
        size_t n;
        test_zeros(&b, HEADER);
        put_zeros_frame(&b, log, 3);
        assert_int_equal(inflate_all(&b, APR_PACKED_ZSTD, &n, &e), log == 17 ? APR_OK : APR_ELIMIT);
        assert_int_equal(n, log == 17 ? HEADER + (3u << 17) : 0);
        if (log == 18)
            assert_int_equal(e.at, HEADER);
        test_free(&b);
    }
}

/* 64 GiB would come out, and 4,096 bytes do. */
static void a_bomb_costs_what_was_asked_for(void **state)
{
    (void)state;
    struct test_bytes b = { 0 };
    test_zeros(&b, HEADER);
    put_zeros_frame(&b, 10, 1 << 19);
    struct apr_source *s = source_of(&b);
    struct apr_inflater *f;
    struct apr_bytes view;
    struct apr_error e;
    assert_int_equal(apr_inflate_new(&f, s, HEADER, APR_PACKED_ZSTD, test_run_with(1), &e), APR_OK);
    assert_int_equal(apr_inflate_to(f, 4096, &e), APR_OK);
    assert_int_equal(apr_inflate_view(f, &view, &e), APR_OK);
    assert_int_equal(view.n, 4096);
    apr_inflate_free(f);
    apr_source_close(s);
    test_free(&b);
}

static void broken_packing_is_named(void **state)
{
    (void)state;
    static const struct {
        const char      *what;
        enum apr_packing packing;
        uint64_t         start;   /* the first 4 bytes behind the header */
        size_t           more;    /* and as many zeros */
        enum apr_code    code;
        uint64_t         at;
        const char      *words;
    } rows[] = {
        { "no frame", APR_PACKED_ZSTD, 0x7B7B7B7B, 40, APR_ECORRUPT, HEADER, "zstd stream is broken" },
        { "half a magic", APR_PACKED_ZSTD, 0xFD2FB528, 0, APR_ECORRUPT, HEADER + 4, "ends inside a zstd frame" },
        { "a size larger than any block", APR_PACKED_LZ4, UINT32_MAX, 40, APR_ECORRUPT, HEADER, "promised" },
        { "a size without a block", APR_PACKED_LZ4, 9, 0, APR_ECORRUPT, HEADER + 4, "LZ4 block is broken" },
        { "a block that refers to nothing", APR_PACKED_LZ4, 500, 40, APR_ECORRUPT, HEADER + 4, "LZ4 block is broken" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = { 0 };
        struct apr_error e = { 0 };
        size_t n;
        test_zeros(&b, HEADER);
        test_integer(&b, rows[i].start, 4);
        test_zeros(&b, rows[i].more);
        const enum apr_code code = inflate_all(&b, rows[i].packing, &n, &e);
        if (code != rows[i].code || e.at != rows[i].at || strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: at %zu: %s", rows[i].what, (size_t)e.at, e.text);
        test_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_bytes_can_be_asked_for_and_no_more_come),
        cmocka_unit_test(a_file_cut_inside_its_packed_bytes_is_refused),
        cmocka_unit_test(a_window_of_128_MiB_is_read_and_a_larger_one_refused),
        cmocka_unit_test(a_bomb_costs_what_was_asked_for),
        cmocka_unit_test(broken_packing_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
