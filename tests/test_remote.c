/* lib/files/remote*.c: what is said of models at an address, and what is fetched for it. */
#include "remote_world.h"

#include <stdio.h>

#include "files/remote.h"
#include "files/source.h"
#include "model/model.h"
#include "model/open.h"

/* ---- models --------------------------------------------------------------------------------------------------------- */

static void put_string(struct test_bytes *b, const char *text)
{
    test_integer(b, strlen(text), 8);
    test_text(b, text);
}

/* An array of n strings whose lengths grow from `least` to about twice that, as those of a vocabulary do. */
static void put_strings(struct test_bytes *b, const char *key, size_t n, size_t least)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    put_string(b, key);
    test_integer(b, 9, 4);
    test_integer(b, 8, 4);
    test_integer(b, n, 8);
    for (size_t i = 0; i < n; i++) {
        const size_t length = least + least * i / n + i % 3;
        test_integer(b, length, 8);
        test_put(b, letters, length);
    }
}

/* A GGUF as a model of today has it: 128,000 tokens with their types, 280,000 merges, 291 tensors of 64 floats. *header: its bytes. */
static struct test_bytes vocabulary(size_t *header)
{
    struct test_bytes b = { 0 };
    test_text(&b, "GGUF");
    test_integer(&b, 3, 4);
    test_integer(&b, 291, 8);
    test_integer(&b, 4, 8);
    put_string(&b, "general.architecture");
    test_integer(&b, 8, 4);
    put_string(&b, "none");
    put_strings(&b, "tokenizer.ggml.tokens", 128000, 4);
    put_string(&b, "tokenizer.ggml.token_type");
    test_integer(&b, 9, 4);
    test_integer(&b, 5, 4);
    test_integer(&b, 128000, 8);
    test_zeros(&b, 4 * 128000);
    put_strings(&b, "tokenizer.ggml.merges", 280000, 6);
    for (uint64_t i = 0; i < 291; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%03llu.ffn_something.weight", (unsigned long long)i);
        put_string(&b, name);
        test_integer(&b, 1, 4);
        test_integer(&b, 64, 8);
        test_integer(&b, 0, 4);
        test_integer(&b, i * 256, 8);
    }
    *header = b.n;
    test_align(&b, 32);
    test_zeros(&b, 291 * 256);
    test_zeros(&b, 2 * MIB);
    return b;
}

/* The answer, in which the server's address is left out. */
static char *answer(const char *what, const struct test_answer *a)
{
    char *const text = strdup((const char *)a->out.at);
    const size_t n = strlen(what);
    for (char *at = text; (at = strstr(at, what)) != NULL;)
        memmove(at, at + n, strlen(at + n) + 1);
    return text;
}

static void same_answer(const char *what, const char *remote, const char *local, const char *option, const char *second)
{
    struct test_answer far = test_tool("apr-inspect", "--json", option, second, remote, NULL);
    struct test_answer near = test_tool("apr-inspect", "--json", option, second, local, NULL);
    char *const a = answer(what, &far), *const b = answer("fixtures/", &near);
    if (far.exit != near.exit || strcmp(a, b) != 0)
        fail_msg("%s %s: exit %d and %d, %s\n%s\n%s", option, remote, far.exit, near.exit, (char *)far.err.at, a, b);
    free(a);
    free(b);
    test_answer_free(&far);
    test_answer_free(&near);
}

/* ---- answers -------------------------------------------------------------------------------------------------------- */

static void headers_alone_give_the_local_answer(void **state)
{
    (void)state;
    static const char *const file[] = { "qwen2.apr", "qwen2-q8_0.gguf", "qwen2-zstd.apr", "qwen2/model.safetensors.index.json",
                                        "split/qwen2-00002-of-00003.gguf", "qwen2-big-endian.gguf" };
    static const char *const view[] = { "--tensors", "--metadata", "--tree", "--tokenizer", "--check=fast" };
    char remote[300], local[300];
    for (size_t i = 0; i < APR_LENGTH(file); i++)
        for (size_t k = 0; k < APR_LENGTH(view); k++) {
            snprintf(remote, sizeof remote, "%s/fixtures/%s", test_server_root(server), file[i]);
            snprintf(local, sizeof local, "fixtures/%s", file[i]);
            same_answer(at_server("/fixtures/"), remote, local, view[k], "--quiet");
        }
}

static void a_header_takes_few_reads_and_a_mebibyte_more_at_most(void **state)
{
    (void)state;
    size_t header;
    struct test_bytes b = vocabulary(&header);
    test_server_file(server, "/vocabulary.gguf", b.at, b.n);
    struct test_answer a = test_tool("apr-inspect", "--json", at_server("/vocabulary.gguf"), NULL);
    assert_int_equal(a.exit, 0);
    assert_in_range(test_server_asks(server, NULL), 2, 4);
    assert_in_range(test_server_sent(server, NULL), header, header + MIB);
    assert_int_equal(test_server_connections(server), 1);
    test_answer_free(&a);
    test_free(&b);
    a = test_tool("apr-inspect", at_server("/large.safetensors"), NULL);
    assert_int_equal(a.exit, 0);
    assert_int_equal(test_server_asks(server, "/large.safetensors"), 2);
    assert_in_range(test_server_sent(server, "/large.safetensors"), 3 * MIB, 3 * MIB + 8192);
    test_answer_free(&a);
}

static void a_tensor_is_fetched_alone(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-inspect", "--tensor", "w", "--slice", "1000000:1000002", at_server("/large.safetensors"), NULL);
    assert_int_equal(a.exit, 0);
    assert_true(test_says(&a.out, "       1e+06        1e+06"));
    test_answer_free(&a);
}

static void what_takes_all_waits_for_the_word(void **state)
{
    (void)state;
    struct test_bytes b = tensors(3 * MIB, MIB, 0);
    const char *const local = test_file("large.safetensors", b.at, b.n), *const url = at_server("/large.safetensors");
    char bytes[32];
    snprintf(bytes, sizeof bytes, " %zu bytes", b.n);
    struct test_answer a = test_tool("apr-inspect", "--hash", url, NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, bytes) && test_says(&a.err, "--download"));
    test_answer_free(&a);
    test_server_forget(server);
    a = test_tool("apr-inspect", "--hash", "--download", url, NULL);
    struct test_answer near = test_tool("apr-inspect", "--hash", local, NULL);
    assert_int_equal(a.exit, 0);
    assert_string_equal((char *)a.out.at, (char *)near.out.at);
    assert_in_range(test_server_sent(server, "/large.safetensors"), b.n - 3 * MIB - 8192, b.n); /* the header is in the cache */
    test_answer_free(&a);
    test_answer_free(&near);
    a = test_tool("apr-inspect", "--download", "fixtures/qwen2", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "no effect"));
    test_answer_free(&a);
    test_free(&b);
}

static void expect_end(struct test_answer a, int code, const char *in_error)
{
    if (a.exit != code || !test_says(&a.err, in_error))
        fail_msg("exit %d, not %d, or no %s: %s", a.exit, code, in_error, (const char *)a.err.at);
    test_answer_free(&a);
}

static void models_at_addresses_are_merged_as_files_are(void **state)
{
    (void)state;
    struct test_bytes b = tensors(3 * MIB, MIB, 0), got[2];
    const char *const local = test_file("merged/large.safetensors", b.at, b.n), *const two = test_file("merged/two.safetensors", b.at, b.n),
                     *const url = at_server("/large.safetensors"), *const here = test_path("merged/here.safetensors"),
                     *const there = test_path("merged/there.safetensors");
    expect_end(test_tool("apr-merge", "--method=slerp", "--t=0.5", "--base", local, two, here, NULL), 0, "");
    expect_end(test_tool("apr-merge", "--method=slerp", "--t=0.5", "--base", url, two, there, NULL), 2, "--download");
    expect_end(test_tool("apr-merge", "--method=slerp", "--t=0.5", "--base", url, two, there, "--download", NULL), 0, "");
    got[0] = test_load(here);
    got[1] = test_load(there);
    assert_int_equal(got[0].n, got[1].n);
    assert_memory_equal(got[0].at, got[1].at, got[0].n);
    char text[700];
    snprintf(text, sizeof text, "merge_method: passthrough\nmodels: [{model: \"%s\"}]\n", url);
    expect_end(test_tool("apr-merge", test_file("merged/far.yml", text, strlen(text)), there, "--force", NULL), 2, "line 2,");
    test_free(&got[0]);
    test_free(&got[1]);
    test_free(&b);
}

/* What nobody asked for is an error, not zeros: of a run like that of the tools, in a process of its own. */
static void a_page_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct apr_remote_options o = { .endpoint = "https://e", .token_place = "" };
    struct apr_run r = *test_run_with(1);
    struct apr_source *s;
    struct apr_error e;
    assert_int_equal(apr_remote_new(&r.remote, &o, &e), APR_OK);
    if (apr_source_open_parts(&s, at_server("/large.safetensors"), &r, &e) != APR_OK)
        fail_msg("%s", e.text);
    assert_int_equal(apr_source_head(s).n, MIB);
    assert_int_equal(apr_source_missing(s), s->map.n - MIB);
    assert_int_equal(apr_source_intact(s, &e), APR_OK);
    assert_int_equal(apr_source_fetch(s, 1, &e), APR_EARG);
    assert_int_equal(apr_source_want(s, (struct apr_bytes){ s->map.at + 5 * MIB + 5, 10 }, &e), APR_OK);
    assert_in_range(apr_source_missing(s), s->map.n - MIB - 65536, s->map.n - MIB - 10);
    float x;
    memcpy(&x, s->map.at + 5 * MIB + 8, sizeof x);
    assert_true(x == (float)(2 * MIB / 4));
    assert_true(apr_source_patch(s->map.at + 4 * MIB)); /* what SIGBUS there comes to */
    assert_int_equal(s->map.at[4 * MIB], 0);
    assert_int_equal(apr_source_intact(s, &e), APR_EARG);
    assert_non_null(strstr(e.text, "--download"));
    apr_source_close(s);
    apr_remote_free(r.remote);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(headers_alone_give_the_local_answer, begin_test),
        cmocka_unit_test_setup(a_header_takes_few_reads_and_a_mebibyte_more_at_most, begin_test),
        cmocka_unit_test_setup(a_tensor_is_fetched_alone, begin_test),
        cmocka_unit_test_setup(what_takes_all_waits_for_the_word, begin_test),
        cmocka_unit_test_setup(models_at_addresses_are_merged_as_files_are, begin_test),
        cmocka_unit_test_setup(a_page_that_is_not_there_is_an_error, begin_test),
    };
    return cmocka_run_group_tests(tests, begin_world, NULL);
}
