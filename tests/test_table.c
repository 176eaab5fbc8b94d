/* lib/base/table.h: keys to values. */
#include "support.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/table.h"

static void every_key_put_is_found_with_its_value_and_no_other(void **state)
{
    (void)state;
    enum { N = 20000, ROOM = 16 };
    char (*text)[ROOM] = malloc(N * sizeof *text);
    struct apr_table t = { 0 };
    bool fresh;
    assert_non_null(text);
    for (uint64_t i = 0; i < N; i++) {
        snprintf(text[i], ROOM, "%llu", (unsigned long long)i);
        union apr_table_value *v = apr_table_put(&t, apr_text(text[i]), &fresh);
        assert_true(v != NULL && fresh && v->number == 0);
        v->number = 3 * i;
    }
    for (uint64_t i = 0; i < N; i++) {
        char again[ROOM];
        snprintf(again, ROOM, "%llu", (unsigned long long)i);
        const union apr_table_value *v = apr_table_put(&t, apr_text(again), &fresh);
        assert_true(v != NULL && !fresh && v->number == 3 * i);
        assert_ptr_equal(apr_table_find(&t, apr_text(again)), v);
        snprintf(again, ROOM, "%llu", (unsigned long long)(i + N));
        assert_null(apr_table_find(&t, apr_text(again)));
    }
    assert_int_equal(t.n, N);
    for (uint64_t i = 0; i < N; i++)
        assert_true(t.entry[i].key.at == (const unsigned char *)text[i] && t.entry[i].value.number == 3 * i);
    apr_table_free(&t);
    free(text);
}

static void integers_are_keys_like_no_bytes(void **state)
{
    (void)state;
    struct apr_table t = { 0 };
    const uint64_t number[] = { 0, 1, UINT64_MAX, (uint64_t)7 << 32 | 7 };
    const struct apr_bytes bytes[] = { { 0 }, { (const unsigned char *)"\0", 1 }, { (const unsigned char *)&number[0], 8 },
                                       { (const unsigned char *)&number[3], 8 } };
    bool fresh;
    for (size_t i = 0; i < APR_LENGTH(number); i++) {
        apr_table_put(&t, apr_table_integer(number[i]), &fresh)->number = i;
        assert_true(fresh);
        apr_table_put(&t, bytes[i], &fresh)->pointer = &t;
        assert_true(fresh);
    }
    for (size_t i = 0; i < APR_LENGTH(number); i++) {
        assert_int_equal(apr_table_find(&t, apr_table_integer(number[i]))->number, i);
        assert_ptr_equal(apr_table_find(&t, bytes[i])->pointer, &t);
    }
    assert_ptr_equal(apr_table_find(&t, apr_text("")), apr_table_find(&t, bytes[0]));
    assert_null(apr_table_find(&t, apr_table_integer(2)));
    apr_table_free(&t);
}

static void a_table_without_memory_stays_what_it_was(void **state)
{
    (void)state;
    struct apr_table t = { 0 };
    bool fresh;
    assert_null(apr_table_find(&t, apr_text("a")));
    assert_false(apr_table_expect(&t, SIZE_MAX / 4));
    assert_true(apr_table_expect(&t, 0));
    apr_table_put(&t, apr_text("a"), &fresh)->number = 5;
    assert_false(apr_table_expect(&t, SIZE_MAX));
    assert_int_equal(apr_table_find(&t, apr_text("a"))->number, 5);
    apr_table_free(&t);
    assert_null(apr_table_find(&t, apr_text("a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_put_is_found_with_its_value_and_no_other),
        cmocka_unit_test(integers_are_keys_like_no_bytes),
        cmocka_unit_test(a_table_without_memory_stays_what_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
