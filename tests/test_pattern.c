/* lib/base/pattern.h: names as users write them. */
#include "support.h"

#include <pthread.h>

#include "base/bytes.h"
#include "base/pattern.h"

static bool matches(const char *pattern, struct apr_bytes name)
{
    struct apr_pattern *p;
    struct apr_error e;
    assert_int_equal(apr_pattern_new(&p, pattern, &e), APR_OK);
    const bool yes = apr_pattern_matches(p, name);
    apr_pattern_free(p);
    return yes;
}

static void words_globs_and_expressions_match_as_promised(void **state)
{
    (void)state;
    static const struct { const char *pattern, *name; bool yes; } rows[] = {
        { "attn_q", "blk.0.attn_q.weight", true },
        { "attn_q", "blk.0.attn_k.weight", false },
        { "blk.0.", "blk.0.attn_q.weight", true },
        { "blk.0.", "blk.01", false },
        { "(q|k)", "a(q|k)b", true },
        { "", "anything", true },
        { "", "", true },
        { "a", "", false },
        { "blk.*.weight", "blk.0.attn_q.weight", true },
        { "blk.*.weight", "xblk.0.attn_q.weight", false },
        { "blk.?.bias", "blk.1.bias", true },
        { "blk.?.bias", "blk.11.bias", false },
        { "blk.[0-3].*", "blk.2.x", true },
        { "blk.[!0-3].*", "blk.2.x", false },
        { "*", "", true },
        { "*/*", "layer-0/ffn_up", true },
        { "*", ".hidden", true },
        { "re:^blk\\.[0-9]+\\.", "blk.17.attn", true },
        { "re:(q|k)_proj$", "model.k_proj", true },
        { "re:(q|k)_proj$", "model.v_proj", false },
        { "re:(q|k)_proj$", "model.k_proj.weight", false },
        { "re:", "anything", true },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (matches(rows[i].pattern, apr_text(rows[i].name)) != rows[i].yes)
            fail_msg("%s against %s", rows[i].pattern, rows[i].name);
}

static void names_end_where_they_end(void **state)
{
    (void)state;
    static const unsigned char map[] = "blk.0.weight.blk.1";
    const struct apr_bytes name = { map, 5 };
    assert_false(matches("weight", name));
    assert_true(matches("blk.?", name));
    assert_true(matches("re:0$", name));
    assert_true(matches("*", (struct apr_bytes){ 0 }));
}

static void names_of_any_length_are_seen_whole(void **state)
{
    (void)state;
    static const size_t length[] = { 510, 511, 512, 513, 65536 };
    for (size_t i = 0; i < APR_LENGTH(length); i++) {
        unsigned char *const name = malloc(length[i]);
        assert_non_null(name);
        memset(name, 'a', length[i]);
        name[length[i] - 1] = 'z';
        const struct apr_bytes b = { name, length[i] };
        assert_true(matches("az", b));
        assert_true(matches("a*z", b));
        assert_true(matches("re:z$", b));
        assert_false(matches("a*y", b));
        free(name);
    }
}

static void a_broken_expression_is_named(void **state)
{
    (void)state;
    static const char *const bad[] = { "re:(", "re:[a", "re:a{2,1}" };
    for (size_t i = 0; i < APR_LENGTH(bad); i++) {
        struct apr_pattern *p;
        struct apr_error e;
        assert_int_equal(apr_pattern_new(&p, bad[i], &e), APR_EARG);
        assert_null(p);
        assert_int_equal(e.code, APR_EARG);
        assert_int_equal(e.at, APR_NOWHERE);
        assert_non_null(strstr(e.text, bad[i]));
    }
    apr_pattern_free(NULL);
}

static void *ask(void *pattern)
{
    bool right = true;
    for (int i = 0; i < 2000; i++)
        right &= apr_pattern_matches(pattern, apr_text("blk.3.attn_q")) && !apr_pattern_matches(pattern, apr_text("blk.3.attn_k"));
    return right ? pattern : NULL;
}

static void many_threads_may_ask_one_pattern(void **state)
{
    (void)state;
    static const char *const patterns[] = { "attn_q", "*_q", "re:_q$" };
    for (size_t i = 0; i < APR_LENGTH(patterns); i++) {
        struct apr_pattern *p;
        struct apr_error e;
        pthread_t thread[4];
        assert_int_equal(apr_pattern_new(&p, patterns[i], &e), APR_OK);
        for (size_t t = 0; t < APR_LENGTH(thread); t++)
            assert_int_equal(pthread_create(&thread[t], NULL, ask, p), 0);
        for (size_t t = 0; t < APR_LENGTH(thread); t++) {
            void *answer;
            assert_int_equal(pthread_join(thread[t], &answer), 0);
            assert_ptr_equal(answer, p);
        }
        apr_pattern_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_globs_and_expressions_match_as_promised),
        cmocka_unit_test(names_end_where_they_end),
        cmocka_unit_test(names_of_any_length_are_seen_whole),
        cmocka_unit_test(a_broken_expression_is_named),
        cmocka_unit_test(many_threads_may_ask_one_pattern),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
