/* apr-trace with a tokenizer: how a prompt is cut, tokens that are made, two models' tokens against each other. */
#include "trace.h"

static void a_prompt_is_shown_as_it_was_cut(void **state)
{
    (void)state;
    const char *const model = spoken("spoken", 0, 0);
    json_t *const r = TRACED(model, 0, "--prompt=the A");
    expect_text("ids", r, "tokens", "[95,68,94,32]");
    expect_text("pieces", r, "pieces", "[\"th\",\"e\",\" \",\"A\"]");
    json_decref(r);
    json_t *const ids = TRACED(model, 0, TOKENS);
    assert_null(json_object_get(ids, "pieces"));
    json_decref(ids);
    struct test_answer a = test_tool(APR_TRACE, model, "--prompt=the A", NULL);
    assert_true(test_says(&a.out, "4 tokens: 95 \"th\" 68 \"e\" 94 \" \" 32 \"A\"\n"));
    test_answer_free(&a);
    a = test_tool(APR_TRACE, model, "--quiet", "--prompt=the A", NULL);
    assert_false(test_says(&a.out, "tokens:"));
    test_answer_free(&a);
}

/* The numbers are those of transformers. */
static void tokens_that_are_made_are_shown_as_text_and_as_ids(void **state)
{
    (void)state;
    struct test_answer a = test_tool(APR_TRACE, spoken("made", 0, 0), TOKENS, "--greedy=4", NULL);
    assert_int_equal(a.exit, 0);
    assert_string_equal((const char *)a.out.at, "^Y}f\n4 tokens\nids: 61 56 92 69\n");
    test_answer_free(&a);
}

static void a_model_of_other_tokens_is_no_base(void **state)
{
    (void)state;
    const char *const own = spoken("own", 0, 0), *const other = spoken("other", 'B', 'Q');
    struct test_answer a = test_tool(APR_TRACE, own, "--perplexity=fixtures/judged.ids", "--window=16", "--kld", other, "--json", NULL);
    assert_true(a.exit == 2 && test_says(&a.err, "token 33 is \"B\", in --kld ") && test_says(&a.err, "it is \"Q\""));
    assert_true(test_says(&a.out, "\"error\":{\"code\":\"argument\"") && test_says(&a.out, "token 33 is "));
    test_answer_free(&a);
    static const char *const same[] = { "own", "fixtures/qwen2", "fixtures/qwen2-bf16.gguf" };
    for (size_t i = 0; i < APR_LENGTH(same); i++)
        expect_exit(test_tool(APR_TRACE, own, "--perplexity=fixtures/judged.ids", "--window=16", "--kld", i == 0 ? own : same[i], NULL), 0,
                    NULL);
}

static void what_helps_without_a_tokenizer_is_said(void **state)
{
    (void)state;
    const char *const text = text_file("text", "the lazy fox");
    expect_exit(test_tool(APR_TRACE, "fixtures/qwen2", "--prompt=the", NULL), 2, "no tokenizer: --tokens and --tokens-file take ids");
    expect_exit(test_tool(APR_TRACE, "fixtures/qwen2", "--perplexity", text, NULL), 2, "no tokenizer: --perplexity takes a file of ids");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_shown_as_it_was_cut),
        cmocka_unit_test(tokens_that_are_made_are_shown_as_text_and_as_ids),
        cmocka_unit_test(a_model_of_other_tokens_is_no_base),
        cmocka_unit_test(what_helps_without_a_tokenizer_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
