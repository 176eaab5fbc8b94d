/* WordPiece against tokenizers and llama.cpp. */
#include "token_vectors.h"

#include <stdio.h>

#include "base/bytes.h"

static void ids_are_those_of_tokenizers(void **state)
{
    (void)state;
    vectors_expect(PIECES "wordpiece.tokenizers", &apr_model_wordpiece, APR_AS_HUGGINGFACE, PIECES "wordpiece/", APR_FROM_TOKENIZER_JSON);
}

static void a_vocabulary_alone_is_cut_as_bert_does(void **state)
{
    (void)state;
    vectors_expect(PIECES "wordpiece.text", &apr_model_wordpiece, APR_AS_SENTENCEPIECE, PIECES "wordpiece/", APR_FROM_VOCAB_TXT);
}

static void ids_are_those_of_llama_cpp(void **state)
{
    (void)state;
    vectors_expect(PIECES "wordpiece.llama", &apr_model_wordpiece, APR_AS_LLAMA_CPP, PIECES "wordpiece.gguf", APR_FROM_METADATA);
}

static void expect_spelled(struct apr_vocabulary *v, enum apr_manner manner, uint64_t id, const char *text)
{
    struct apr_error e;
    void *x;
    assert_int_equal(apr_token_model_begin(&apr_model_wordpiece, &x, v, manner, &e), APR_OK);
    const struct apr_bytes got = apr_model_wordpiece.spelling(x, apr_vocabulary_token(v, id));
    if (!apr_bytes_is(got, text))
        fail_msg("%s, expected \"%s\"", APR_QUOTED(got), text);
    apr_token_model_end(&apr_model_wordpiece, x);
}

static void what_begins_a_word_is_spelled_with_a_blank(void **state)
{
    (void)state;
    static const char *const words[] = { "the", "##er", "\u2581the", NULL };
    struct apr_vocabulary v;
    vectors_list(&v, APR_VOCABULARY_WORDPIECE, words);
    v.prefix = apr_text("##");
    expect_spelled(&v, APR_AS_HUGGINGFACE, 0, " the");
    expect_spelled(&v, APR_AS_HUGGINGFACE, 1, "er");
    expect_spelled(&v, APR_AS_LLAMA_CPP, 0, "the");
    expect_spelled(&v, APR_AS_LLAMA_CPP, 2, " the");
    apr_vocabulary_end(&v);
}

static void a_word_that_cannot_be_put_together_is_unknown_or_named(void **state)
{
    (void)state;
    static const char *const words[] = { "[UNK]", "ab", "##c", NULL };
    struct apr_vocabulary v;
    struct apr_error e;
    void *x;
    vectors_list(&v, APR_VOCABULARY_WORDPIECE, words);
    v.prefix = apr_text("##");
    assert_int_equal(apr_token_model_begin(&apr_model_wordpiece, &x, &v, APR_AS_HUGGINGFACE, &e), APR_OK);
    assert_string_equal(vectors_ids(&apr_model_wordpiece, x, apr_text("abcc")), "1 2 2");
    assert_string_equal(vectors_ids(&apr_model_wordpiece, x, apr_text("abcab")), "0");
    apr_token_model_end(&apr_model_wordpiece, x);
    apr_vocabulary_end(&v);
    vectors_list(&v, APR_VOCABULARY_WORDPIECE, words + 1);
    assert_int_equal(apr_token_model_begin(&apr_model_wordpiece, &x, &v, APR_AS_HUGGINGFACE, &e), APR_OK);
    assert_string_equal(vectors_ids(&apr_model_wordpiece, x, apr_text("c")),
                        "the vocabulary has no tokens for \"c\", and none for what is unknown");
    apr_token_model_end(&apr_model_wordpiece, x);
    apr_vocabulary_end(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_tokenizers),
        cmocka_unit_test(a_vocabulary_alone_is_cut_as_bert_does),
        cmocka_unit_test(ids_are_those_of_llama_cpp),
        cmocka_unit_test(what_begins_a_word_is_spelled_with_a_blank),
        cmocka_unit_test(a_word_that_cannot_be_put_together_is_unknown_or_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
