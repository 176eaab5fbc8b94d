/* Unigram against SentencePiece, tokenizers and llama.cpp; the tables it looks texts up in. */
#include "token_vectors.h"

#include <stdio.h>

#include "base/bytes.h"
#include "token/trie.h"

static void ids_are_those_of_sentencepiece(void **state)
{
    (void)state;
    vectors_expect(PIECES "unigram.sentencepiece", &apr_model_unigram, APR_AS_SENTENCEPIECE, PIECES "unigram/", APR_FROM_SENTENCEPIECE);
}

static void ids_are_those_of_tokenizers(void **state)
{
    (void)state;
    vectors_expect(PIECES "unigram.tokenizers", &apr_model_unigram, APR_AS_HUGGINGFACE, PIECES "unigram/", APR_FROM_TOKENIZER_JSON);
}

static void ids_are_those_of_llama_cpp(void **state)
{
    (void)state;
    vectors_expect(PIECES "unigram.llama", &apr_model_unigram, APR_AS_LLAMA_CPP, PIECES "unigram.gguf", APR_FROM_METADATA);
}

static void unknown_characters_in_a_row_are_one_token_or_their_bytes(void **state)
{
    (void)state;
    static const char *const words[] = { "<unk>", "a", "<0x62>", "<0x63>", NULL };
    struct apr_vocabulary v;
    struct apr_error e;
    void *x;
    vectors_list(&v, APR_VOCABULARY_UNIGRAM, words);
    for (unsigned bytes = 0; bytes < 2; bytes++) {
        v.byte_fallback = bytes == 1;
        v.token[0].type = APR_TOKEN_UNKNOWN;
        assert_int_equal(apr_token_model_begin(&apr_model_unigram, &x, &v, APR_AS_HUGGINGFACE, &e), APR_OK);
        assert_string_equal(vectors_ids(&apr_model_unigram, x, apr_text("abcba")), bytes == 0 ? "1 0 1" : "1 2 3 2 1");
        assert_string_equal(vectors_ids(&apr_model_unigram, x, apr_text("abxa")), "1 0 1");
        apr_token_model_end(&apr_model_unigram, x);
    }
    apr_vocabulary_end(&v);
}

static void a_trie_finds_the_longest_and_the_last_of_equal_texts(void **state)
{
    (void)state;
    struct apr_trie_text texts[] = { { apr_text("ab"), 1 }, { apr_text("abcd"), 2 }, { apr_text("ab"), 7 }, { apr_text("\xFF"), 4 },
                                     { apr_text("b"), 5 } };
    struct apr_trie t = { 0 };
    struct apr_error e;
    uint32_t value = 0;
    assert_int_equal(apr_trie_make(&t, texts, APR_LENGTH(texts), &e), APR_OK);
    assert_int_equal(apr_trie_longest(&t, apr_text("abcx"), &value), 2);
    assert_int_equal(value, 7);
    assert_int_equal(apr_trie_longest(&t, apr_text("abcde"), &value), 4);
    assert_int_equal(value, 2);
    assert_int_equal(apr_trie_longest(&t, apr_text("\xFF\xFF"), &value), 1);
    assert_int_equal(value, 4);
    assert_int_equal(apr_trie_longest(&t, apr_text("x"), &value), 0);
    assert_int_equal(apr_trie_longest(&t, (struct apr_bytes){ 0 }, &value), 0);
    apr_trie_free(&t);
}

static void a_piece_without_end_is_refused(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    struct apr_trie t = { 0 };
    struct apr_error e;
    test_zeros(&text, APR_LONGEST_IN_TRIE + 1);
    struct apr_trie_text texts[] = { { { text.at, text.n }, 1 } };
    assert_int_equal(apr_trie_make(&t, texts, 1, &e), APR_ELIMIT);
    apr_trie_free(&t);
    texts[0].text.n--;
    assert_int_equal(apr_trie_make(&t, texts, 1, &e), APR_OK);
    apr_trie_free(&t);
    test_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_sentencepiece),
        cmocka_unit_test(ids_are_those_of_tokenizers),
        cmocka_unit_test(ids_are_those_of_llama_cpp),
        cmocka_unit_test(unknown_characters_in_a_row_are_one_token_or_their_bytes),
        cmocka_unit_test(a_trie_finds_the_longest_and_the_last_of_equal_texts),
        cmocka_unit_test(a_piece_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
