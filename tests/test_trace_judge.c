/* apr-trace --perplexity, --kld, --imatrix: what is told, what is written, what is refused. The figures behind them: test_judge.c. */
#include "remote_server.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "model/imatrix.h"

#define BF16 "fixtures/qwen2-bf16.gguf"
#define Q4_0 "fixtures/qwen2-q4_0.gguf"
#define IDS  "fixtures/judged.ids"

static const char *text_file(const char *name, const char *text) { return test_file(name, text, strlen(text)); }

static const char *copy(const char *from, const char *name)
{
    struct test_bytes b = test_load(from);
    const char *const path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

static double number_in(const struct test_bytes *b, const char *key)
{
    const char *const at = strstr((const char *)b->at, key);
    if (at == NULL)
        fail_msg("there is no %s in %s", key, (const char *)b->at);
    return strtod(at + strlen(key), NULL);
}

static void expect_exit(const struct test_answer *a, int code)
{
    if (a->exit != code)
        fail_msg("exit %d: %s", a->exit, (const char *)a->err.at);
}

/* ---- what is told --------------------------------------------------------------------------------------------------- */

static void the_report_has_numpys_perplexity(void **state)
{
    (void)state;
    struct test_bytes figures = test_load("fixtures/judged.txt");
    test_zeros(&figures, 1);
    struct test_answer a = test_tool("apr-trace", BF16, "--perplexity", IDS, "--window", "16", "--json", NULL);
    expect_exit(&a, 0);
    static const char *const key[][2] = {
        { "\"perplexity\":", "plain.value " }, { "\"perplexity_error\":", "plain.error " }, { "\"mean_nll\":", "plain.mean " } };
    for (size_t i = 0; i < APR_LENGTH(key); i++) {
        const double got = number_in(&a.out, key[i][0]), wanted = number_in(&figures, key[i][1]);
        if (fabs(got - wanted) > 1e-6 * wanted)
            fail_msg("%s%.17g, numpy has %.17g", key[i][0], got, wanted);
    }
    assert_true(test_says(&a.out, "\"tokens_counted\":63,\"windows\":9,\"window\":16,\"window_bos\":null"));
    assert_false(test_says(&a.out, "kld"));
    test_answer_free(&a);
    test_free(&figures);
}

static void ids_may_be_parted_as_programs_print_them(void **state)
{
    (void)state;
    const char *const list = text_file("list", "[1, 2, 3,\n 4, 5, 6]\n"), *const lines = text_file("lines", "1\r\n2\r\n3\n4\n5\n6");
    struct test_answer a = test_tool("apr-trace", BF16, "--perplexity", list, "--window", "3", NULL),
                       b = test_tool("apr-trace", BF16, "--perplexity", lines, "--window", "3", NULL);
    expect_exit(&a, 0);
    assert_string_equal((const char *)a.out.at, (const char *)b.out.at);
    assert_true(test_says(&a.out, "over 2 tokens, in 2 windows of 3\n"));
    test_answer_free(&a);
    test_answer_free(&b);
}

static void divergence_is_told_with_its_percentiles(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-trace", Q4_0, "--perplexity", IDS, "--window", "16", "--kld", BF16, NULL);
    expect_exit(&a, 0);
    static const char *const words[] = { "perplexity       97.", "KL divergence    0.0003", "percentiles      90: 0.000",
                                         "same best token  84.127 %", "right token's p  -0.00", " of " BF16 "\n" };
    for (size_t i = 0; i < APR_LENGTH(words); i++)
        if (!test_says(&a.out, words[i]))
            fail_msg("no \"%s\" in %s", words[i], (const char *)a.out.at);
    test_answer_free(&a);
}

static void the_other_model_may_be_at_an_address(void **state)
{
    (void)state;
    char url[256];
    struct test_server *const server = test_server(NULL);
    test_server_folder(server, "/fixtures/", "fixtures/");
    snprintf(url, sizeof url, "%s/" BF16, test_server_root(server));
    unsetenv("http_proxy");
    setenv("XDG_CACHE_HOME", test_path("cache"), 1);
    struct test_answer a = test_tool("apr-trace", Q4_0, "--perplexity", IDS, "--window", "16", "--kld", url, "--download", NULL);
    expect_exit(&a, 0);
    assert_true(test_says(&a.out, "KL divergence    0.0003"));
    test_answer_free(&a);
}

static void threads_and_isa_change_no_byte(void **state)
{
    (void)state;
    const char *const out = test_path("t.gguf");
    struct test_answer a = test_tool("apr-trace", Q4_0, "--perplexity", IDS, "--window", "20", "--kld", BF16, "--imatrix", out, "--threads",
                                     "1", "--isa", "scalar", "--json", NULL);
    struct test_bytes one = test_load(out);
    struct test_answer b = test_tool("apr-trace", Q4_0, "--perplexity", IDS, "--window", "20", "--kld", BF16, "--imatrix", out, "--threads",
                                     "3", "--json", NULL);
    struct test_bytes three = test_load(out);
    expect_exit(&a, 0);
    assert_string_equal((const char *)a.out.at, (const char *)b.out.at);
    assert_int_equal(one.n, three.n);
    assert_memory_equal(one.at, three.at, one.n);
    test_free(&one);
    test_free(&three);
    test_answer_free(&a);
    test_answer_free(&b);
}

/* ---- importance ----------------------------------------------------------------------------------------------------- */

static void expect_counts(const char *path, float count, uint32_t chunks, size_t ndataset)
{
    struct apr_imatrix *im;
    struct apr_error e;
    if (apr_imatrix_open(&im, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s", e.text);
    assert_int_equal(im->nentry, 14);
    assert_int_equal(im->chunks, chunks);
    assert_int_equal(im->ndataset, ndataset);
    const struct apr_imatrix_entry *const x = apr_imatrix_find(im, apr_text("blk.1.ffn_down.weight"));
    float stored;
    memcpy(&stored, x->count, sizeof stored);
    assert_true(stored == count && x->n == 96);
    apr_imatrix_close(im);
}

static void importance_is_of_the_text_or_of_the_input(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-trace", BF16, "--perplexity", IDS, "--window", "16", "--imatrix", test_path("a.gguf"), NULL),
                       b = test_tool("apr-trace", "fixtures/qwen2", "--tokens", "1,2,3", "--imatrix", test_path("b.gguf"), NULL),
                       c = test_tool("apr-trace", BF16, "--tokens", "1,2,3", "--perplexity", IDS, "--window", "16", "--imatrix",
                                     test_path("c.gguf"), NULL);
    expect_exit(&a, 0);
    expect_exit(&b, 0);
    expect_exit(&c, 0);
    assert_true(test_says(&a.out, "importance       of 14 matrices, by 9 runs of 16 tokens: "));
    assert_true(test_says(&b.out, "importance       of 14 matrices, by 1 run of 3 tokens: "));
    expect_counts(test_path("a.gguf"), 144, 9, 1);
    expect_counts(test_path("b.gguf"), 3, 1, 0);
    expect_counts(test_path("c.gguf"), 144, 9, 1);
    test_answer_free(&a);
    test_answer_free(&b);
    test_answer_free(&c);
}

/* The whole way: no other program is needed. */
static void a_model_is_calibrated_quantized_and_judged(void **state)
{
    (void)state;
    const char *const importance = test_path("way.gguf"), *const small = test_path("small.gguf");
    struct test_answer a = test_tool("apr-trace", BF16, "--perplexity", IDS, "--window", "16", "--imatrix", importance, NULL),
                       b = test_tool("apr-convert", BF16, small, "--quantize", "Q4_0", "--imatrix", importance, NULL),
                       c = test_tool("apr-trace", small, "--perplexity", IDS, "--window", "16", "--kld", BF16, "--json", NULL);
    expect_exit(&a, 0);
    expect_exit(&b, 0);
    expect_exit(&c, 0);
    assert_true(test_says(&b.out, "importance: 14 of 15 tensors that take it have it"));
    const double kld = number_in(&c.out, "\"mean\":");
    assert_true(kld > 0 && kld < 0.0005);
    test_answer_free(&a);
    test_answer_free(&b);
    test_answer_free(&c);
}

static void it_may_lie_beside_the_model_but_never_replace_one(void **state)
{
    (void)state;
    const char *const model = copy(BF16, "beside/model.gguf");
    const struct { const char *name; int exit; const char *words; } row[] = {
        { "beside/importance.gguf", 0, "" },
        { "beside/importance.gguf", 0, "" }, /* a newer one */
        { "beside/model.gguf", 2, "cannot be written: it is an input" },
        { "beside/model-00002-of-00002.gguf", 2, "by its name it would be a part of the model" },
        { "beside/config.json", 2, "by its name it would be a part of the model" },
        { "beside/other.gguf", 2, "cannot be written: it holds a model" },
        { "beside", 2, "beside" },
    };
    copy(Q4_0, "beside/other.gguf");
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_answer a = test_tool("apr-trace", model, "--tokens", "1,2,3", "--imatrix", test_path(row[i].name), NULL);
        expect_exit(&a, row[i].exit);
        if (!test_says(&a.err, row[i].words))
            fail_msg("expected \"%s\": %s", row[i].words, (const char *)a.err.at);
        test_answer_free(&a);
    }
}

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

/* The model with 95 rows in its embedding and its head: a row of each lies idle. */
static const char *smaller_vocabulary(void)
{
    static const char names[][20] = { "\0token_embd.weight", "\0output.weight" }; /* the bytes before a name are its length's */
    struct test_bytes b = test_load(BF16);
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        const size_t n = 1 + strlen(names[i] + 1);
        unsigned char *const at = memmem(b.at, b.n, names[i], n); /* | name | u32 dims | u64 columns | u64 rows | */
        assert_non_null(at);
        assert_int_equal(at[n + 12], 96);
        at[n + 12] = 95;
    }
    const char *const path = test_file("vocabulary.gguf", b.at, b.n);
    test_free(&b);
    return path;
}

static void what_cannot_be_judged_is_refused_with_the_reason(void **state)
{
    (void)state;
    const char *const empty = text_file("empty", ""), *const three = text_file("three", "1 2 3"),
               *const far = text_file("far", "1 2\n3 96\n"), *const negative = text_file("negative", "1\n\n-5"),
               *const huge = text_file("huge", "99999999999999999999 1"),
               *const binary = test_file("binary", "text\0more", 9), *const words = text_file("words", "to be or not to be");
    const struct { const char *file, *option, *value; const char *words; } row[] = {
        { empty, NULL, NULL, "empty: 0 tokens are too few: two windows of 128 take 256" },
        { three, NULL, NULL, "three: 3 tokens are too few" },
        { three, "--window", "3", "3 tokens are too few: two windows of 3 take 6" },
        { far, NULL, NULL, "far: at byte 6: line 2: \"96\" is no token: the model has 96" },
        { negative, NULL, NULL, "line 3: \"-5\" is no token" },
        { huge, NULL, NULL, "line 1: \"99999999999999999999\" is no token" },
        { binary, NULL, NULL, "binary: at byte 4: a NUL stands here: it is no text" },
        { words, NULL, NULL, "tokenizer" },
        { "fixtures", NULL, NULL, "fixtures: " },
        { test_path("absent"), NULL, NULL, "absent: cannot open" },
        { IDS, "--window", "1", "a window of 1 foretells no token" },
        { IDS, "--window", "0", "a window of 0 foretells no token" },
        { IDS, "--window", "129", "longer than the model's context of 128" },
        { IDS, "--window", "76", "150 tokens are too few for two windows of 76, which take 152; they would do for --window 75" },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_answer a = test_tool("apr-trace", BF16, "--perplexity", row[i].file, row[i].option, row[i].value, NULL);
        expect_exit(&a, 2);
        if (!test_says(&a.err, row[i].words))
            fail_msg("expected \"%s\": %s", row[i].words, (const char *)a.err.at);
        test_answer_free(&a);
    }
}

static void what_is_no_model_is_no_base(void **state)
{
    (void)state;
    static const char *const base[] = { "fixtures/qwen2.imatrix.gguf", "fixtures/trace", IDS, "fixtures/absent" };
    for (size_t i = 0; i < APR_LENGTH(base); i++) {
        struct test_answer a = test_tool("apr-trace", BF16, "--perplexity", IDS, "--window", "16", "--kld", base[i], NULL);
        expect_exit(&a, 2);
        if (!test_says(&a.err, base[i]))
            fail_msg("%s is not named: %s", base[i], (const char *)a.err.at);
        test_answer_free(&a);
    }
}

/* As a model that is judged, and as the other one. */
static void a_model_without_logits_of_tokens_is_named(void **state)
{
    (void)state;
    static const char json[] = "{\"bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                               "\"weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]}}";
    struct test_bytes b = { 0 };
    test_integer(&b, strlen(json), 8);
    test_text(&b, json);
    test_zeros(&b, 32);
    const char *const linear = test_file("linear.safetensors", b.at, b.n);
    test_free(&b);
    for (unsigned i = 0; i < 2; i++) {
        struct test_answer a = test_tool("apr-trace", i == 0 ? linear : BF16, "--perplexity", IDS, "--window", "16", "--kld",
                                         i == 0 ? BF16 : linear, NULL);
        expect_exit(&a, 2);
        if (!test_says(&a.err, "linear.safetensors: it foretells no tokens: family \"linear\""))
            fail_msg("%s", (const char *)a.err.at);
        test_answer_free(&a);
    }
}

static void another_vocabulary_foretells_something_else(void **state)
{
    (void)state;
    const char *const other = smaller_vocabulary();
    struct test_answer a = test_tool("apr-trace", BF16, "--perplexity", IDS, "--window", "16", "--kld", other, "--json", NULL);
    expect_exit(&a, 2);
    assert_true(test_says(&a.err, BF16 ": it has 96 tokens, --kld ") && test_says(&a.err, "vocabulary.gguf\" has 95: "));
    assert_true(test_says(&a.out, "\"error\":{\"code\":\"argument\"") && !test_says(&a.out, "\"perplexity\""));
    test_answer_free(&a);
}

static void options_without_effect_are_refused(void **state)
{
    (void)state;
    static const struct { const char *option[3], *words; } row[] = {
        { { "--kld", BF16 }, "--kld has no effect without --perplexity" },
        { { "--window", "16", "--tokens=1,2" }, "--window has no effect without --perplexity" },
        { { "--imatrix", "x.gguf" }, "--imatrix has no effect without --perplexity, --tokens" },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_answer a = test_tool("apr-trace", BF16, row[i].option[0], row[i].option[1], row[i].option[2], NULL);
        expect_exit(&a, 2);
        if (!test_says(&a.err, row[i].words))
            fail_msg("expected \"%s\": %s", row[i].words, (const char *)a.err.at);
        test_answer_free(&a);
    }
}

static void an_importance_matrix_replaces_nothing_else(void **state)
{
    (void)state;
    static const char *const mine[] = { "a text of mine", "<!DOCTYPE html>", "{\"schema\":\"apr-inspect/1\"}" };
    for (size_t i = 0; i < APR_LENGTH(mine); i++) {
        const char *const out = text_file("mine", mine[i]);
        struct test_answer a = test_tool("apr-trace", BF16, "--tokens", "1,2", "--imatrix", out, NULL);
        struct test_bytes b = test_load(out);
        expect_exit(&a, 2);
        assert_true(test_says(&a.err, "mine: cannot be written: it is there already, and no importance matrix"));
        assert_true(b.n == strlen(mine[i]) && memcmp(b.at, mine[i], b.n) == 0);
        test_free(&b);
        test_answer_free(&a);
    }
    const char *const out[] = { text_file("none", ""), copy("fixtures/qwen2.imatrix.gguf", "old.gguf"),
                                copy("fixtures/qwen2.imatrix.dat", "old") };
    for (size_t i = 0; i < APR_LENGTH(out); i++) {
        struct test_answer a = test_tool("apr-trace", BF16, "--tokens", "1,2", "--imatrix", out[i], NULL);
        expect_exit(&a, 0);
        expect_counts(out[i], 2, 1, 0);
        test_answer_free(&a);
    }
}

static void a_failed_run_leaves_no_importance(void **state)
{
    (void)state;
    const char *const few = text_file("few", "1 2 3 4");
    struct test_answer a = test_tool("apr-trace", BF16, "--perplexity", few, "--imatrix", test_path("f.gguf"), NULL);
    expect_exit(&a, 2);
    assert_int_not_equal(access(test_path("f.gguf"), F_OK), 0);
    test_answer_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_report_has_numpys_perplexity),
        cmocka_unit_test(ids_may_be_parted_as_programs_print_them),
        cmocka_unit_test(divergence_is_told_with_its_percentiles),
        cmocka_unit_test(the_other_model_may_be_at_an_address),
        cmocka_unit_test(threads_and_isa_change_no_byte),
        cmocka_unit_test(importance_is_of_the_text_or_of_the_input),
        cmocka_unit_test(a_model_is_calibrated_quantized_and_judged),
        cmocka_unit_test(it_may_lie_beside_the_model_but_never_replace_one),
        cmocka_unit_test(what_cannot_be_judged_is_refused_with_the_reason),
        cmocka_unit_test(what_is_no_model_is_no_base),
        cmocka_unit_test(a_model_without_logits_of_tokens_is_named),
        cmocka_unit_test(another_vocabulary_foretells_something_else),
        cmocka_unit_test(options_without_effect_are_refused),
        cmocka_unit_test(an_importance_matrix_replaces_nothing_else),
        cmocka_unit_test(a_failed_run_leaves_no_importance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
