/* apr-diff --merge: shares as they come from elsewhere. An oddly spelled one says the same; one that lies is named by file and row. */
#include "diff.h"

static const char *const a = "fixtures/qwen2", *const b = "fixtures/qwen2-q4_0.gguf";

/* The JSON of share `number` of 2 with the first `find` behind `after` (both in it) as `replace`, in a file of that name. */
static const char *edited(const char *file, unsigned number, const char *after, const char *find, const char *replace)
{
    char partition[32];
    snprintf(partition, sizeof partition, "--partition=%u/2", number);
    struct test_answer answer = test_tool(APR_DIFF, "--json", "--top=1", "--rows=1", "--metadata", partition, a, b, NULL);
    const char *const path = test_edited(file, (const char *)answer.out.at, after, find, replace);
    test_answer_free(&answer);
    return path;
}

static void a_share_that_lies_is_refused_by_file_and_row(void **state)
{
    (void)state;
    static const struct {
        const char *after, *find, *replace, *words;
    } rows[] = {
        { "\"results\"", "\"name\":", "\"nom\":", "row 0, \"without a name\": there is none, or none of its kind: name" },
        { "\"results\"", "\"status\":\"", "\"status\":\"Perfect", "none of its kind: status" },
        { "\"results\"", "\"layout\":\"same\"", "\"layout\":\"inside out\"", "none of its kind: layout" },
        { "\"results\"", "\"small_diff_count\":", "\"small_diff_count\":1", "its counts do not add up to element_count" },
        { "\"results\"", "\"small_diff_count\":", "\"small_diff_count\":-9", "none of its kind: small_diff_count" },
        { "\"results\"", "\"shape_a\":[", "\"shape_a\":[1,1,1,1,1,1,1,1,", "none of its kind: shape_a" },
        { "\"results\"", "\"pass\":", "\"pass\":0,\"p\":", "none of its kind: pass" },
        { "\"results\"", "\"failed\":[", "\"failed\":[\"luck\"],\"f\":[", "none of its kind: failed" },
        { "\"results\"", "\"pass\":true,\"failed\":[]", "\"pass\":true,\"failed\":[\"cosine\"]", "it does not bear out its pass" },
        { "\"results\"", "\"rmse\":", "\"rmse\":NaN,\"r\":", "JSON" },
        { "\"results\"", "\"top\":[", "\"top\":[7],\"t\":[", "top object" },
        { "\"results\"", "\"rows\":[", "\"rows\":[{}],\"r\":[", "rows row" },
        { "\"results\"", "{\"name\"", "7,{\"name\"", "row 0" },
        { "\"only_in_b\"", "\"tensors_compared\":1", "\"tensors_compared\":2", "its rows do not add up to its tensors_compared" },
        { "\"only_in_b\"", "\"verdict\":\"Fail\"", "\"verdict\":\"Pass\"", "its rows do not bear out its verdict" },
        { "\"only_in_b\"", "\"excused\":[]", "\"excused\":[{\"side\":\"c\",\"name\":\"x\",\"reason\":\"tied\"}]", "its excused have no sound side" },
        { "\"only_in_b\"", "\"excused\":[]", "\"excused\":[{\"side\":\"a\",\"name\":\"x\",\"reason\":\"rain\"}]", "no sound reason" },
        { "\"partition\"", "\"plan\":\"", "\"plan\":\"x", "it has no partition number" },
        { "\"partition\"", "\"unmatched_fails\":", "\"unmatched_fails\":1,\"u\":", "it has no partition number" },
        { "\"schema\"", "\"model_a\":", "\"model_a\":7,\"m\":", "its summary has no sound model_a" },
        { "\"threshold\"", "\"metadata\":{", "\"metadata\":{\"differences\":[{}]},\"m\":{", "its metadata has no sound key" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (unsigned liar = 1; liar <= 2; liar++) {
            const char *const share = edited("liar.json", liar, rows[i].after, rows[i].find, rows[i].replace);
            const char *const other = edited("other.json", 3 - liar, "{", "{", "{");
            struct test_answer answer = test_tool(APR_DIFF, "--merge", share, other, NULL);
            if (answer.exit != 2 || answer.out.n > 0 || !test_says(&answer.err, rows[i].words) || !test_says(&answer.err, "liar.json: "))
                fail_msg("%s: exit %d: %s", rows[i].replace, answer.exit, (const char *)answer.err.at);
            test_answer_free(&answer);
        }
}

static void keys_may_be_spelled_with_escapes(void **state)
{
    (void)state;
    static const struct {
        const char *after, *find, *replace;
    } rows[] = {
        { "{", "\"results\"", "\"result\\u0073\"" },
        { "\"results\"", "\"top\":", "\"t\\u006fp\":" },
        { "\"results\"", "\"block_b\":", "\"block\\u005fb\":" },
        { "\"results\"", "\"name_b\":", "\"name\\u005Fb\":" },
        { "\"verdict\"", "\"metadata\":", "\"metadat\\u0061\":" },
        { "\"verdict\"", "\"differences\":", "\"\\u0064ifferences\":" },
    };
    static const char *const forms[] = { "--json", "--jsonl", "--sort=max" };
    for (size_t f = 0; f < APR_LENGTH(forms); f++) {
        struct test_answer whole = test_tool(APR_DIFF, forms[f], "--top=1", "--rows=1", "--metadata", a, b, NULL);
        for (size_t i = 0; i < APR_LENGTH(rows); i++) {
            const char *const odd = edited("odd.json", 1, rows[i].after, rows[i].find, rows[i].replace);
            struct test_answer merged = test_tool(APR_DIFF, forms[f], "--merge", odd, edited("plain.json", 2, "{", "{", "{"), NULL);
            const bool block = i == 2 && strcmp(forms[f], "--sort=max") != 0; /* "top" is carried over as it is spelled */
            if (merged.exit != whole.exit || (!block && (merged.out.n != whole.out.n || memcmp(merged.out.at, whole.out.at, whole.out.n) != 0)))
                fail_msg("%s, %s: %s%s", rows[i].replace, forms[f], (const char *)merged.err.at, (const char *)merged.out.at);
            test_answer_free(&merged);
        }
        test_answer_free(&whole);
    }
}

/* Share `number` of 2 of `a` against another model, in a file of its own. */
static const char *share_of(unsigned number, const char *other, const char *option)
{
    char partition[32], file[32];
    snprintf(partition, sizeof partition, "--partition=%u/2", number);
    snprintf(file, sizeof file, "share-%u.json", number);
    struct test_answer answer = test_tool(APR_DIFF, "--json", partition, option, a, other, NULL);
    const char *const path = test_file(file, answer.out.at, answer.out.n);
    test_answer_free(&answer);
    return path;
}

static void shares_of_other_inputs_or_options_are_told_by_their_plan(void **state)
{
    (void)state;
    struct test_bytes model = test_load(b);
    const char *const copy = test_file("copy.gguf", model.at, model.n), *const first = share_of(1, copy, "--max-abs=1");
    struct test_answer same = test_tool(APR_DIFF, "--merge", first, share_of(2, copy, "--max-abs=1"), NULL);
    assert_int_not_equal(same.exit, 2);
    test_answer_free(&same);
    for (int changed = 0; changed < 2; changed++) {
        model.at[model.n - 1] ^= (unsigned char)changed; /* the last byte of the last tensor */
        test_file("copy.gguf", model.at, model.n);
        struct test_answer answer = test_tool(APR_DIFF, "--merge", first, share_of(2, copy, changed ? "--max-abs=1" : "--max-abs=2"), NULL);
        if (answer.exit != 2 || answer.out.n > 0 || !test_says(&answer.err, "share-2.json: its plan is not that of") ||
            !test_says(&answer.err, "the input changed between the two jobs"))
            fail_msg("exit %d: %s", answer.exit, (const char *)answer.err.at);
        test_answer_free(&answer);
    }
    test_free(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_share_that_lies_is_refused_by_file_and_row),
        cmocka_unit_test(keys_may_be_spelled_with_escapes),
        cmocka_unit_test(shares_of_other_inputs_or_options_are_told_by_their_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
