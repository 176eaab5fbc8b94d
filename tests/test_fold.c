/* lib/ui/fold.h: many names as one line. */
#include "base/bytes.h"
#include "support.h"
#include "ui/fold.h"

static void names_that_differ_in_numbers_are_one(void **state)
{
    (void)state;
    static const char *const names[] = {
        "model.layers.0.norm.weight", "model.layers.1.norm.weight", "model.layers.47.norm.weight", "lm_head.weight",
        "h.3.experts.0.w1", "h.3.experts.7.w1", "h.9.experts.5.w1", "model.layers.0.norm2.weight", "a..5", "a..6", "x5.y", "x6.y",
        "7", "v.12345678901", "v.12345678902", "1.2.3.4.5", "1.2.3.4.6", "",
    };
    static const struct {
        const char *spelled;
        size_t      n;
    } groups[] = {
        { "model.layers.{0-47}.norm.weight", 3 }, { "lm_head.weight", 1 }, { "h.{3-9}.experts.{0-7}.w1", 3 }, { "model.layers.0.norm2.weight", 1 },
        { "a..{5-6}", 2 }, { "x5.y", 1 }, { "x6.y", 1 }, { "7", 1 }, { "v.12345678901", 1 }, { "v.12345678902", 1 }, { "1.2.3.4.5", 1 },
        { "1.2.3.4.6", 1 }, { "", 1 },
    };
    struct apr_bytes name[APR_LENGTH(names)];
    struct apr_fold *group;
    size_t n;
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        name[i] = apr_text(names[i]);
    assert_true(apr_fold_names(name, APR_LENGTH(names), &group, &n));
    assert_int_equal(n, APR_LENGTH(groups));
    for (size_t i = 0; i < n; i++) {
        char *text = NULL;
        size_t length;
        FILE *to = open_memstream(&text, &length);
        apr_fold_print(to, &group[i]);
        fclose(to);
        assert_string_equal(text, groups[i].spelled);
        assert_int_equal(group[i].n, groups[i].n);
        free(text);
    }
    free(group);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(names_that_differ_in_numbers_are_one) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
