/* lib/base/error.c: what reaches a terminal is always printable, whatever a file calls its tensors. */
#include "support.h"

#include "base/bytes.h"

static void only_well_formed_utf8_has_a_length(void **state)
{
    (void)state;
    static const struct { const char *text; size_t n, length; } rows[] = {
        { "", 0, 0 },
        { "\0", 1, 1 },
        { "a", 1, 1 },
        { "\x7f", 1, 1 },
        { "\x80", 1, 0 },                                        /* a continuation alone */
        { "\xc1\xbf", 2, 0 },                                    /* overlong */
        { "\xc2\x80", 2, 2 },
        { "\xc2", 1, 0 },                                        /* cut */
        { "\xc2\xc2", 2, 0 },
        { "\xe0\x9f\xbf", 3, 0 },
        { "\xe0\xa0\x80", 3, 3 },
        { "\xe3\x83\x86" "x", 4, 3 },
        { "\xe3\x83", 2, 0 },
        { "\xed\x9f\xbf", 3, 3 },
        { "\xed\xa0\x80", 3, 0 },                                /* a surrogate */
        { "\xf0\x8f\xbf\xbf", 4, 0 },
        { "\xf0\x90\x80\x80", 4, 4 },
        { "\xf4\x8f\xbf\xbf", 4, 4 },
        { "\xf4\x90\x80\x80", 4, 0 },                            /* above U+10FFFF */
        { "\xf5\x80\x80\x80", 4, 0 },
        { "\xff", 1, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (apr_utf8_length((const unsigned char *)rows[i].text, rows[i].n) != rows[i].length)
            fail_msg("row %zu: not %zu", i, rows[i].length);
}

static void texts_are_made_printable(void **state)
{
    (void)state;
    static const struct { const char *raw, *shown; } rows[] = {
        { "plain", "plain" },
        { "", "" },
        { "two\nlines\tand \x1b[31m", "two\\x0alines\\x09and \\x1b[31m" },
        { "\x7f", "\\x7f" },
        { "C1 \xc2\x9b" "31m", "C1 \\xc2\\x9b31m" },
        { "\xe3\x83\x86\xf0\x9f\x99\x82", "\xe3\x83\x86\xf0\x9f\x99\x82" },
        { "bad \xff\xc3(", "bad \\xff\\xc3(" },
        { "\xe2\x80\xaegpj.exe \xe2\x81\xa6 \xe2\x80\xa8", "\\xe2\\x80\\xaegpj.exe \\xe2\\x81\\xa6 \\xe2\\x80\\xa8" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e;
        assert_int_equal(apr_fail(&e, APR_ECORRUPT, 7, "%s", rows[i].raw), APR_ECORRUPT);
        assert_int_equal(e.code, APR_ECORRUPT);
        assert_int_equal(e.at, 7);
        assert_string_equal(e.file, "");
        assert_string_equal(e.text, rows[i].shown);
        apr_error_in(&e, rows[i].raw);
        assert_string_equal(e.file, rows[i].shown);
    }
}

static void the_first_file_named_stays(void **state)
{
    (void)state;
    struct apr_error e;
    assert_int_equal(apr_no_memory(&e), APR_ENOMEM);
    assert_true(e.at == APR_NOWHERE);
    assert_string_equal(e.text, "out of memory");
    apr_error_in(&e, "shard");
    apr_error_in(&e, "index");
    assert_string_equal(e.file, "shard");
}

static void a_text_may_be_built_from_itself(void **state)
{
    (void)state;
    struct apr_error e;
    apr_fail(&e, APR_EIO, 1, "inner");
    apr_fail(&e, APR_EARG, 2, "outer: %s", e.text);
    assert_string_equal(e.text, "outer: inner");
}

static void long_texts_are_cut_and_stay_printable(void **state)
{
    (void)state;
    static const char *const unit[] = { "a", "\x01", "\xe3\x83\x86", "\xf0\x9f\x99\x82", "\xff" };
    char raw[4096];
    for (size_t u = 0; u < APR_LENGTH(unit); u++)
        for (size_t lead = 0; lead < 8; lead++) {
            struct apr_error e;
            memset(raw, 'x', lead);
            raw[lead] = 0;
            while (strlen(raw) + strlen(unit[u]) < sizeof raw)
                strcat(raw, unit[u]);
            apr_fail(&e, APR_EIO, 0, "%s", raw);
            apr_error_in(&e, raw);
            const char *const cut[] = { e.text, e.file };
            for (size_t k = 0; k < APR_LENGTH(cut); k++) {
                const size_t n = strlen(cut[k]);
                assert_in_range(n, sizeof e.text - 16, sizeof e.text - 1);
                for (size_t i = 0, step; i < n; i += step) {
                    step = apr_utf8_length((const unsigned char *)cut[k] + i, n - i);
                    assert_true(step > 0 && (unsigned char)cut[k][i] >= 0x20);
                }
            }
        }
}

static void names_are_quoted_and_cut(void **state)
{
    (void)state;
    static const struct { const char *name; size_t n; const char *shown; } rows[] = {
        { "blk.0.attn_q.weight", 19, "\"blk.0.attn_q.weight\"" },
        { NULL, 0, "\"\"" },
        { "a\0b", 3, "\"a\\x00b\"" },
        { "\xff\n", 2, "\"\\xff\\x0a\"" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        assert_string_equal(APR_QUOTED(((struct apr_bytes){ (const unsigned char *)rows[i].name, rows[i].n })), rows[i].shown);

    unsigned char name[400];
    for (size_t n = 0; n <= sizeof name; n++) {
        memset(name, 'n', sizeof name);
        struct apr_quoted q;
        const char *const shown = apr_quote(&q, (struct apr_bytes){ name, n });
        assert_in_range(strlen(shown), 2, sizeof q.text - 1);
        assert_int_equal(shown[0], '"');
        assert_int_equal(shown[strlen(shown) - 1], '"');
        assert_int_equal(strstr(shown, "...\"") != NULL, n > sizeof q.text - 6);
    }
}

static void each_code_has_its_word(void **state)
{
    (void)state;
    static const char *const word[] = {
        [APR_OK] = "ok", [APR_EIO] = "io", [APR_ECORRUPT] = "corrupt", [APR_EUNSUPPORTED] = "unsupported",
        [APR_ELIMIT] = "limit", [APR_ENOMEM] = "memory", [APR_EARG] = "argument",
    };
    for (unsigned i = 0; i < APR_LENGTH(word); i++)
        assert_string_equal(apr_code_word((enum apr_code)i), word[i]);
}

static void a_failure_about_a_tensor_knows_its_name(void **state)
{
    (void)state;
    unsigned char whole[257];
    memset(whole, 'n', sizeof whole);
    const struct { struct apr_bytes name; const char *text; bool kept; } rows[] = {
        { apr_text("a.weight"), "tensor \"a.weight\": 3 bytes", true },
        { apr_text("a\"b\\c\n"), "tensor \"a\"b\\c\\x0a\": 3 bytes", true },
        { { whole, 256 }, "...\": 3 bytes", true },
        { { whole, 257 }, "...\": 3 bytes", false },              /* rather none than half of one */
        { { whole, 0 }, "tensor \"\": 3 bytes", false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e = { .tensor_bytes = 7 };
        assert_int_equal(apr_fail_tensor(&e, APR_ECORRUPT, 5, rows[i].name, ": %d bytes", 3), APR_ECORRUPT);
        assert_true(e.code == APR_ECORRUPT && e.at == 5 && e.finding == NULL);
        assert_non_null(strstr(e.text, rows[i].text));
        assert_int_equal(e.tensor_bytes, rows[i].kept ? rows[i].name.n : 0);
        assert_memory_equal(e.tensor, rows[i].name.at, e.tensor_bytes);
        apr_fail(&e, APR_EIO, 0, "another");
        assert_int_equal(e.tensor_bytes, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_about_a_tensor_knows_its_name),
        cmocka_unit_test(only_well_formed_utf8_has_a_length),
        cmocka_unit_test(texts_are_made_printable),
        cmocka_unit_test(the_first_file_named_stays),
        cmocka_unit_test(a_text_may_be_built_from_itself),
        cmocka_unit_test(long_texts_are_cut_and_stay_printable),
        cmocka_unit_test(names_are_quoted_and_cut),
        cmocka_unit_test(each_code_has_its_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
