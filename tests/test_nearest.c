/* lib/base/nearest.h: what a misspelt word probably meant. */
#include "base/bytes.h"
#include "base/nearest.h"
#include "support.h"

static void the_nearest_word_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *wanted, *best;
        unsigned    distance;
    } rows[] = {
        { "--treshold", "--threshold", 1 },  { "--trheshold", "--threshold", 1 }, { "--thresholds", "--threshold", 1 },
        { "--metdata", "--metadata", 1 },    { "--tensros", "--tensors", 1 },     { "--threshold", "--threshold", 0 },
        { "block_count", "llama.block_count", 1 }, { "llama", "llama.block_count", 1 }, { "count", "", 3 },
        { "q_proj", "layers.0.q_proj.weight", 2 }, { "proj", "", 3 }, { "0", "", 3 },
        { "--xyz", "", 3 },                  { "", "", 3 },                       { "a", "", 3 },
    };
    static const char *const words[] = { "--threshold", "--threads", "--metadata", "--tensors", "--tensor", "llama.block_count", "layers.0.q_proj.weight" };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_nearest n = apr_nearest_to(apr_text(rows[i].wanted));
        for (size_t k = 0; k < APR_LENGTH(words); k++)
            apr_nearest_try(&n, apr_text(words[k]));
        if (!apr_bytes_is(n.best, rows[i].best) || (n.best.n > 0 && n.distance != rows[i].distance))
            fail_msg("%s: %.*s, %u", rows[i].wanted, (int)n.best.n, (const char *)n.best.at, n.distance);
    }
}

static void long_words_cost_nothing(void **state)
{
    (void)state;
    static char word[100000];
    memset(word, 'a', sizeof word - 1);
    struct apr_nearest n = apr_nearest_to(apr_text(word));
    apr_nearest_try(&n, apr_text(word + 1));
    assert_int_equal(n.best.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_nearest_word_is_found), cmocka_unit_test(long_words_cost_nothing) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
