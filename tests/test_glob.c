/* lib/base/glob.h, against the C library's fnmatch, and lib/base/words.h, against its memmem. */
#include "support.h"

#include <fnmatch.h>

#include "base/bytes.h"
#include "base/glob.h"
#include "base/words.h"

static bool matches(const char *glob, struct apr_bytes name)
{
    uint64_t work = 1 << 20;
    const bool yes = apr_glob_matches(apr_text(glob), name, &work);
    assert_true(work > 0);
    return yes;
}

static void sets_and_escapes_are_those_of_fnmatch(void **state)
{
    (void)state;
    static const char *const globs[] = {
        "", "a", "*", "**", "?", "a*", "*a", "*a*b*", "[ab]", "[!ab]", "[^ab]", "[a-c]", "[]a]", "[!]a]", "[a-]", "[-a]", "[a", "[",
        "a[", "[[:digit:]]",
        "[[:alpha:][:digit:]_]*", "[![:upper:]]", "[[:space:]]", "[[:punct:]]", "\\*", "\\[a]", "[\\]a]", "[a\\-c]", "a\\?", "*[0-9].*",
        "?[!0]?", "[*]",
        "[?]", "[[]", "[z-a]", "*.b", "[[:xdigit:]]*",
    };
    static const char *const names[] = {
        "", "a", "b", "c", "ab", "ba", "abc", "]", "-", "[", "[a", "a[", "7", "a7", "_x", "A", " ", ".", "*", "[a]", "\\", "?", "a?",
        "x1.y", "a0b", "a1b",
        "a.b", "aXbXb", "fF",
    };
    for (size_t i = 0; i < APR_LENGTH(globs); i++)
        for (size_t k = 0; k < APR_LENGTH(names); k++)
            if (matches(globs[i], apr_text(names[k])) != (fnmatch(globs[i], names[k], 0) == 0))
                fail_msg("%s against %s: not %d", globs[i], names[k], matches(globs[i], apr_text(names[k])));
}

static const char *random_text(char *to, size_t most, const char *letters)
{
    const size_t n = test_random(most + 1);
    for (size_t i = 0; i < n; i++)
        to[i] = letters[test_random(strlen(letters))];
    to[n] = 0;
    return to;
}

static void any_glob_matches_what_fnmatch_does_and_holds_its_literal(void **state)
{
    (void)state;
    char glob[16], name[16];
    for (unsigned i = 0; i < 300000; i++) {
        random_text(glob, 8, "aab*?[!]-b\\");
        random_text(name, 10, "aab-]");
        if (strstr(glob, "\\") != NULL && (strstr(glob, "[") != NULL || glob[strlen(glob) - 1] == '\\'))
            continue; /* where fnmatch has ways of its own with a \ */
        const bool yes = matches(glob, apr_text(name));
        const struct apr_bytes literal = apr_glob_literal(apr_text(glob));
        if (yes != (fnmatch(glob, name, 0) == 0))
            fail_msg("%s against %s: not %d", glob, name, yes);
        if (yes && literal.n > 0 && memmem(name, strlen(name), literal.at, literal.n) == NULL)
            fail_msg("%s matches %s without %.*s", glob, name, (int)literal.n, (const char *)literal.at);
    }
}

static void the_longest_plain_run_of_a_glob_is_its_literal(void **state)
{
    (void)state;
    static const struct { const char *glob, *literal; } rows[] = {
        { "", "" }, { "*", "" }, { "abc", "abc" }, { "ab*cde?f", "cde" }, { "[abcdef]gh", "gh" }, { "[abc", "abc" }, { "a\\*bc", "bc" },
        { "ab\\", "ab" },
        { "*.layers.00017.*", ".layers.00017." },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        assert_true(apr_bytes_is(apr_glob_literal(apr_text(rows[i].glob)), rows[i].literal));
}

static void stars_cost_no_more_than_both_lengths(void **state)
{
    (void)state;
    static const char *const globs[] = { "*a*a*a*a*a*a*a*a*b", "*a?a?a?a?a?a?a?ab", "*[a-z]*[a-z]*[a-z]*[!a-z]" };
    struct test_bytes name = { 0 };
    for (unsigned i = 0; i < 50000; i++)
        test_text(&name, "a");
    for (size_t i = 0; i < APR_LENGTH(globs); i++) {
        const uint64_t most = strlen(globs[i]) * strlen(globs[i]) * name.n;
        uint64_t left = most, none = 100;
        assert_false(apr_glob_matches(apr_text(globs[i]), (struct apr_bytes){ name.at, name.n }, &left));
        assert_in_range(left, 1, most);
        assert_false(apr_glob_matches(apr_text(globs[i]), (struct apr_bytes){ name.at, name.n }, &none));
        assert_int_equal(none, 0);
    }
    test_free(&name);
}

/* ---- words ---------------------------------------------------------------------------------------------------------- */

static bool count(void *seen, size_t i)
{
    ((unsigned *)seen)[i]++;
    return true;
}

static void each_word_that_occurs_is_found_once(void **state)
{
    (void)state;
    enum { WORDS = 12 };
    char text[WORDS][8], name[24];
    for (unsigned i = 0; i < 30000; i++) {
        struct apr_bytes word[WORDS];
        struct apr_words *w;
        struct apr_error e;
        unsigned seen[WORDS] = { 0 };
        uint64_t work = 0;
        for (unsigned k = 0; k < WORDS; k++)
            word[k] = apr_text(random_text(text[k], 6, "abb"));
        random_text(name, 20, "abb");
        assert_int_equal(apr_words_new(&w, word, WORDS, &e), APR_OK);
        apr_words_find(w, apr_text(name), count, seen, &work);
        for (unsigned k = 0; k < WORDS; k++)
            if (seen[k] != (strstr(name, text[k]) != NULL))
                fail_msg("%s in %s: %u times", text[k], name, seen[k]);
        apr_words_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_escapes_are_those_of_fnmatch),
        cmocka_unit_test(any_glob_matches_what_fnmatch_does_and_holds_its_literal),
        cmocka_unit_test(the_longest_plain_run_of_a_glob_is_its_literal),
        cmocka_unit_test(stars_cost_no_more_than_both_lengths),
        cmocka_unit_test(each_word_that_occurs_is_found_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
