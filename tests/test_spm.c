/* SentencePiece's BPE against SentencePiece and llama.cpp. */
#include "token_vectors.h"

#include <stdio.h>
#include <time.h>

#include "base/bytes.h"

static void ids_are_those_of_sentencepiece(void **state)
{
    (void)state;
    vectors_expect(PIECES "spm.sentencepiece", &apr_model_spm, APR_AS_SENTENCEPIECE, PIECES "spm/", APR_FROM_SENTENCEPIECE);
}

static void ids_are_those_of_llama_cpp(void **state)
{
    (void)state;
    vectors_expect(PIECES "spm.llama", &apr_model_spm, APR_AS_LLAMA_CPP, PIECES "spm.gguf", APR_FROM_METADATA);
}

static void begin(void **model, struct apr_vocabulary *v, enum apr_manner manner)
{
    struct apr_error e;
    assert_int_equal(apr_token_model_begin(&apr_model_spm, model, v, manner, &e), APR_OK);
}

/* A blank stands before what begins a text or follows a special token, and nowhere when the file says so. */
static void a_blank_is_put_where_a_text_begins(void **state)
{
    (void)state;
    static const char *const words[] = { "\u2581", "a", NULL };
    struct apr_vocabulary v;
    struct apr_ids ids = { 0 };
    struct apr_error e;
    void *x;
    vectors_list(&v, APR_VOCABULARY_SPM, words);
    begin(&x, &v, APR_AS_LLAMA_CPP);
    assert_string_equal(vectors_ids(&apr_model_spm, x, apr_text("a")), "0 1");
    assert_int_equal(apr_model_spm.encode(x, apr_text("a"), 0, &ids, &e), APR_OK);
    assert_int_equal(ids.n, 1);
    apr_ids_free(&ids);
    apr_token_model_end(&apr_model_spm, x);
    v.add_space_prefix = APR_NO;
    begin(&x, &v, APR_AS_LLAMA_CPP);
    assert_string_equal(vectors_ids(&apr_model_spm, x, apr_text("a")), "1");
    apr_token_model_end(&apr_model_spm, x);
    apr_vocabulary_end(&v);
}

static void what_has_no_token_is_named(void **state)
{
    (void)state;
    static const char *const words[] = { "\u2581", "a", "c", NULL };
    static const enum apr_manner manners[] = { APR_AS_SENTENCEPIECE, APR_AS_LLAMA_CPP };
    static const char *const says[] = { "the vocabulary has no token for \"b\", and none for what is unknown",
                                        "the vocabulary has no token for byte 0x62" };
    for (size_t i = 0; i < APR_LENGTH(manners); i++) {
        struct apr_vocabulary v;
        struct apr_ids ids = { 0 };
        struct apr_error e;
        void *x;
        vectors_list(&v, APR_VOCABULARY_SPM, words);
        begin(&x, &v, manners[i]);
        assert_int_equal(apr_model_spm.encode(x, apr_text("ab"), APR_AT_START, &ids, &e), APR_EUNSUPPORTED);
        assert_string_equal(e.text, says[i]);
        apr_ids_free(&ids);
        apr_token_model_end(&apr_model_spm, x);
        apr_vocabulary_end(&v);
    }
}

static void expect_spelled(const struct apr_token_model *model, void *x, const struct apr_vocabulary *v, uint64_t id, const char *text)
{
    const struct apr_bytes got = model->spelling(x, apr_vocabulary_token(v, id));
    if (!apr_bytes_is(got, text))
        fail_msg("%s, expected %s", APR_QUOTED(got), text);
}

static void a_token_is_spelled_as_it_stands_in_a_text(void **state)
{
    (void)state;
    static const char *const words[] = { "\u2581the", "<0x41>", "a\u2581\u2581b", "<0x4>", "", NULL };
    struct apr_vocabulary v;
    void *x;
    vectors_list(&v, APR_VOCABULARY_SPM, words);
    v.token[1].type = APR_TOKEN_BYTE;
    begin(&x, &v, APR_AS_SENTENCEPIECE);
    expect_spelled(&apr_model_spm, x, &v, 0, " the");
    expect_spelled(&apr_model_spm, x, &v, 1, "A");
    expect_spelled(&apr_model_spm, x, &v, 2, "a  b");
    expect_spelled(&apr_model_spm, x, &v, 3, "<0x4>");
    expect_spelled(&apr_model_spm, x, &v, 4, "");
    apr_token_model_end(&apr_model_spm, x);
    apr_vocabulary_end(&v);
}

/* A text that is nowhere cut: 2^20 letters make 2^18 tokens of four, in the time of an ordinary one. */
static void a_megabyte_of_one_letter_takes_no_time(void **state)
{
    (void)state;
    static const char *const words[] = { "a", "aa", "aaaa", "\u2581", NULL };
    struct apr_vocabulary v;
    struct test_bytes text = { 0 };
    struct apr_ids ids = { 0 };
    struct apr_error e;
    void *x;
    vectors_list(&v, APR_VOCABULARY_SPM, words);
    v.add_space_prefix = APR_NO;
    test_zeros(&text, 1 << 20);
    memset(text.at, 'a', text.n);
    begin(&x, &v, APR_AS_LLAMA_CPP);
    const clock_t before = clock();
    assert_int_equal(apr_model_spm.encode(x, (struct apr_bytes){ text.at, text.n }, APR_AT_START, &ids, &e), APR_OK);
    assert_true((clock() - before) / CLOCKS_PER_SEC < 20);
    assert_int_equal(ids.n, 1 << 18);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_equal(ids.id[i], 2);
    apr_ids_free(&ids);
    apr_token_model_end(&apr_model_spm, x);
    apr_vocabulary_end(&v);
    test_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_sentencepiece),     cmocka_unit_test(ids_are_those_of_llama_cpp),
        cmocka_unit_test(a_blank_is_put_where_a_text_begins), cmocka_unit_test(what_has_no_token_is_named),
        cmocka_unit_test(a_token_is_spelled_as_it_stands_in_a_text), cmocka_unit_test(a_megabyte_of_one_letter_takes_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
