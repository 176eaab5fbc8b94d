/* Unions of vocabularies: models of other tokens merged token by token, against numpy and tokenizers (fixtures/union). */
#include "support.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "model/model.h"
#include "model/open.h"
#include "token/vocabulary.h"

#define MERGE    "apr-merge"
#define HEAD     "merge_method: linear\ntokenizer_source: union\n"
#define WEIGHTS  { "1", "1", "2" }
#define MODELS   3

static const char *const names[MODELS] = { "a", "b.gguf", "c" };

/* The models in that order behind the words, as a file. */
static const char *config_of(const char *words, const size_t order[MODELS])
{
    static const char *const weight[MODELS] = WEIGHTS;
    struct test_bytes b = { 0 };
    char here[2048], line[4096];
    assert_non_null(getcwd(here, sizeof here));
    test_text(&b, words);
    test_text(&b, "models:\n");
    for (size_t i = 0; i < MODELS; i++) {
        snprintf(line, sizeof line, "- {model: %s/fixtures/union/%s, parameters: {weight: %s}}\n", here, names[order[i]], weight[order[i]]);
        test_text(&b, line);
    }
    const char *const path = test_file("union.yml", b.at, b.n);
    test_free(&b);
    return path;
}

static void expect_end(struct test_answer a, int code, const char *what)
{
    if (a.exit != code)
        fail_msg("%s: exit %d: %s%s", what, a.exit, (const char *)a.out.at, (const char *)a.err.at);
    test_answer_free(&a);
}

static void expect_said(struct test_answer a, const char *words)
{
    if (a.exit != 0 || !test_says(&a.out, words))
        fail_msg("no %s, exit %d: %s%s", words, a.exit, (const char *)a.out.at, (const char *)a.err.at);
    test_answer_free(&a);
}

/* A model with its vocabulary. */
struct opened {
    struct apr_model     *m;
    struct apr_vocabulary v;
};

static struct opened open_at(const char *path)
{
    struct opened o = { 0 };
    struct apr_error e;
    if (apr_open(&o.m, path, test_run_with(1), &e) != APR_OK || apr_vocabulary_read(&o.v, o.m, test_run_with(1), &e) != APR_OK ||
        apr_vocabulary_index(&o.v, &e) != APR_OK)
        fail_msg("%s: %s", path, e.text);
    return o;
}

static void close_it(struct opened *o)
{
    apr_vocabulary_end(&o->v);
    apr_close(o->m);
}

static void expect_tokens(const char *path, const char *wanted)
{
    struct opened got = open_at(path), want = open_at(wanted);
    assert_int_equal(got.v.ntoken, want.v.ntoken);
    assert_int_equal(got.v.nmerge, want.v.nmerge);
    for (size_t i = 0; i < want.v.ntoken; i++) {
        const struct apr_token *const t = &got.v.token[i], *const w = &want.v.token[i];
        if (t->id != w->id || t->type != w->type || !apr_bytes_equal(t->text, w->text))
            fail_msg("%s: token %u is %.*s of type %u", path, t->id, APR_PRINTED(t->text), t->type);
    }
    close_it(&got);
    close_it(&want);
}

/* As tokenizers reads them; how many of the lines. */
static void expect_texts(const char *path, size_t lines)
{
    FILE *const f = fopen("fixtures/union/texts.txt", "r");
    char ids[64], text[64], want[96];
    assert_non_null(f);
    for (size_t i = 0; i < lines; i++) {
        assert_int_equal(fscanf(f, "%63s %63[^\n]", ids, text), 2);
        snprintf(want, sizeof want, "\"tokens\":[%s]", ids);
        expect_said(test_tool("apr-trace", path, "--prompt", text, "--json", "--top", "1", NULL), want);
    }
    fclose(f);
}

/* ---- what is made --------------------------------------------------------------------------------------------------- */

static void tokens_that_only_some_have_count_by_their_rows_in_any_format(void **state)
{
    (void)state;
    char here[2048], based[4096];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(based, sizeof based, "merge_method: linear\ntokenizer: {source: union}\nbase_model: %s/fixtures/union/a\n", here);
    const struct { const char *words, *want; } rows[] = { { HEAD, "fixtures/union/want" }, { based, "fixtures/union/want-base" } };
    static const char *const targets[] = { "union/", "union.gguf", "union.apr" };
    for (size_t i = 0; i < 2 * APR_LENGTH(targets); i++) {
        const char *const out = test_path(targets[i / 2]), *const want = rows[i % 2].want;
        expect_end(test_tool(MERGE, config_of(rows[i % 2].words, (const size_t[]){ 0, 1, 2 }), out, "--force", "--threads",
                             i % 2 == 0 ? "1" : "3", NULL), 0, out);
        expect_said(test_tool("apr-diff", want, out, "--json", NULL), "\"tensors_compared\":12,\"identical_count\":12,");
        expect_end(test_tool("apr-inspect", "--check", out, NULL), 0, out);
        expect_tokens(out, want);
        expect_texts(out, i / 2 == 1 ? 3 : 4); /* a GGUF does not say that a token takes the blank before it */
    }
}

/* The rows of each token, wherever it stands. */
static void expect_rows(const char *path, const char *name, const char *own)
{
    struct opened got = open_at(path), want = open_at("fixtures/union/want");
    const struct apr_tensor *const t = apr_model_find(got.m, apr_text(own)), *const w = apr_model_find(want.m, apr_text(name));
    assert_non_null(t);
    assert_int_equal(t->data.n, w->data.n);
    assert_int_equal(got.v.ntoken, want.v.ntoken);
    const size_t row = w->data.n / want.v.ntoken;
    for (size_t i = 0; i < want.v.ntoken; i++) {
        const struct apr_token *const at = apr_vocabulary_find(&got.v, want.v.token[i].text);
        assert_non_null(at);
        assert_memory_equal(t->data.at + at->id * row, w->data.at + i * row, row);
    }
    close_it(&got);
    close_it(&want);
}

static void tokens_of_the_first_model_keep_their_ids(void **state)
{
    (void)state;
    static const size_t orders[][MODELS] = { { 1, 2, 0 }, { 2, 0, 1 } };
    for (size_t i = 0; i < APR_LENGTH(orders); i++) {
        char first[64];
        const char *const hf = test_path("turned/"), *const gguf = test_path("turned.gguf");
        snprintf(first, sizeof first, "fixtures/union/%s", names[orders[i][0]]);
        expect_end(test_tool(MERGE, config_of(HEAD, orders[i]), hf, "--force", NULL), 0, first);
        expect_end(test_tool(MERGE, config_of(HEAD, orders[i]), gguf, "--force", NULL), 0, first);
        expect_rows(hf, "model.embed_tokens.weight", "model.embed_tokens.weight");
        expect_rows(hf, "lm_head.weight", "lm_head.weight");
        expect_rows(gguf, "model.embed_tokens.weight", "token_embd.weight");
        expect_rows(gguf, "lm_head.weight", "output.weight");
        struct opened of = open_at(first), got = open_at(gguf);
        for (size_t k = 0; k < of.v.ntoken; k++)
            assert_true(apr_bytes_equal(of.v.token[k].text, got.v.token[k].text));
        close_it(&of);
        close_it(&got);
    }
}

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

static void copy(const char *from, const char *to)
{
    struct test_bytes b = test_load(from);
    test_file(to, b.at, b.n);
    test_free(&b);
}

static void what_has_no_union_is_told_by_line_and_name(void **state)
{
    (void)state;
    static const struct { const char *words, *file, *says; } rows[] = {
        { "tokenizer_source: union\n", "fixtures/vocabulary/spm/tokenizer.json", "is a SentencePiece's BPE" },
        { "tokenizer_source: union\n", "fixtures/vocabulary/unigram/tokenizer.json", "is a Unigram" },
        { "tokenizer_source: union\n", NULL, "has no vocabulary" },
        { "tokenizer: {source: union, tokens: {a: {source: x}}}\n", NULL, "tokens" },
        { "tokenizer: {source: union, pad_to_multiple_of: 64}\n", NULL, "pad_to_multiple_of" },
    };
    char here[2048], text[8192];
    assert_non_null(getcwd(here, sizeof here));
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char folder[32], file[64];
        snprintf(folder, sizeof folder, "other%zu", i);
        snprintf(file, sizeof file, "%s/config.json", folder);
        copy("fixtures/union/c/config.json", file);
        snprintf(file, sizeof file, "%s/model.safetensors", folder);
        copy("fixtures/union/c/model.safetensors", file);
        snprintf(file, sizeof file, "%s/tokenizer.json", folder);
        if (rows[i].file != NULL)
            copy(rows[i].file, file);
        snprintf(text, sizeof text, "merge_method: linear\n%sparameters: {weight: 1}\nmodels:\n- model: %s/fixtures/union/a\n- model: %s\n",
                 rows[i].words, here, folder);
        const char *const config = test_file("refused.yml", text, strlen(text));
        struct test_answer a = test_tool(MERGE, config, test_path("refused/"), NULL);
        if (a.exit != 2 || !test_says(&a.err, "refused.yml") || !test_says(&a.err, "line 2,") || !test_says(&a.err, rows[i].says))
            fail_msg("%zu: exit %d: %s", i, a.exit, (const char *)a.err.at);
        test_answer_free(&a);
        assert_int_not_equal(access(test_path("refused"), F_OK), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_that_only_some_have_count_by_their_rows_in_any_format),
        cmocka_unit_test(tokens_of_the_first_model_keep_their_ids),
        cmocka_unit_test(what_has_no_union_is_told_by_line_and_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
