/* lib/files/remote*.c: models behind an address, and servers of all kinds. */
#include "remote_server.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "files/remote.h"
#include "files/source.h"
#include "model/model.h"
#include "model/open.h"

#define MIB   ((size_t)1 << 20)
#define TOKEN "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"

/* ---- models --------------------------------------------------------------------------------------------------------- */

/* SafeTensors with a header of so many bytes, a tensor "w" of n floats, whose i-th is i, and a last byte that tells two apart. */
static struct test_bytes tensors(size_t header, size_t n, unsigned char last)
{
    struct test_bytes b = { 0 };
    char text[256];
    const int length = snprintf(text, sizeof text, "{\"w\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", n, 4 * n);
    test_integer(&b, header, 8);
    test_text(&b, text);
    for (size_t i = (size_t)length; i < header; i++)
        test_text(&b, " ");
    for (size_t i = 0; i < n; i++)
        test_floats(&b, &(float){ (float)i }, 1);
    b.at[b.n - 1] = last;
    return b;
}

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

/* ---- a world -------------------------------------------------------------------------------------------------------- */

/* Answers of the tool, with an empty cache of its own. */
static void fresh_cache(void)
{
    static unsigned n;
    char name[32];
    snprintf(name, sizeof name, "cache-%u", n++);
    setenv("XDG_CACHE_HOME", test_path(name), 1);
}

static struct test_server *server;

static int begin_world(void **state)
{
    (void)state;
    static const char *const unset[] = { "HF_TOKEN", "HF_HOME", "HF_TOKEN_PATH", "http_proxy", "https_proxy", "all_proxy", "ALL_PROXY" };
    for (size_t i = 0; i < APR_LENGTH(unset); i++)
        unsetenv(unset[i]);
    setenv("HOME", test_folder(), 1);
    server = test_server(NULL);
    setenv("HF_ENDPOINT", test_server_root(server), 1);
    test_server_folder(server, "/apr/qwen2/resolve/main/", "fixtures/qwen2/");
    test_server_folder(server, "/fixtures/", "fixtures/");
    struct test_bytes b = tensors(3 * MIB, MIB, 0);
    test_server_file(server, "/large.safetensors", b.at, b.n);
    test_free(&b);
    b = tensors(100, 64, 0);
    test_server_file(server, "/small.safetensors", b.at, b.n);
    test_free(&b);
    return 0;
}

static int begin_test(void **state)
{
    (void)state;
    test_server_how(server, NULL);
    test_server_forget(server);
    unsetenv("HF_TOKEN");
    fresh_cache();
    return 0;
}

static const char *at_server(const char *path)
{
    static char url[8][600];
    static unsigned n;
    char *const out = url[n++ % 8];
    snprintf(out, 600, "%s%s", test_server_root(server), path);
    return out;
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

/* ---- faults --------------------------------------------------------------------------------------------------------- */

static bool is_model(const struct test_ask *a) { return strcmp(a->path, "/large.safetensors") == 0; }
static bool no_ranges(struct test_ask *a) { return test_give_file(a, NULL, false, 0); }
static bool not_found(struct test_ask *a) { return test_give_text(a, 404, "", "no"); }
static bool unauthorized(struct test_ask *a) { return test_give_text(a, 401, "WWW-Authenticate: Bearer\r\n", "no"); }
static bool forbidden(struct test_ask *a) { return test_give_text(a, 403, "", "no"); }
static bool teapot(struct test_ask *a) { return test_give_text(a, 418, "", "no"); }
static bool broken(struct test_ask *a) { return test_give_text(a, 503, "", "no"); }
static bool loop(struct test_ask *a) { return test_give_text(a, 302, "Location: /large.safetensors?x\r\n", ""); }
static bool to_file(struct test_ask *a) { return test_give_text(a, 302, "Location: file:///etc/passwd\r\n", ""); }
static bool to_nowhere(struct test_ask *a) { return test_give_text(a, 302, "", ""); }
static bool to_user(struct test_ask *a) { return test_give_text(a, 302, "Location: http://me:secret@127.0.0.1/\r\n", ""); }
static bool shorter(struct test_ask *a) { return test_give_cut(a, a->first == 0 ? 1000 : 0); }
static bool changing_tag(struct test_ask *a) { return a->nth > 1 && test_give_file(a, "\"other\"", true, 0); }
static bool changing_date(struct test_ask *a)
{
    static char zeros[64 * 1024];
    char headers[200];
    if (a->nth == 1)
        return test_give_file(a, "", true, 0);
    snprintf(headers, sizeof headers, "Content-Range: bytes %llu-%llu/7340040\r\nLast-Modified: Sat, 01 Nov 2025 00:00:%02u GMT\r\n",
             (unsigned long long)a->first, (unsigned long long)a->first + sizeof zeros - 1, a->nth);
    return test_give(a, 206, headers, zeros, sizeof zeros, sizeof zeros);
}
static bool changing_length(struct test_ask *a) { return test_give_file(a, "", true, a->nth > 1 ? 64 : 0); }
static bool page(struct test_ask *a) { return test_give_text(a, 200, "", "<!DOCTYPE html><html>Sign in</html>"); }
static bool empty(struct test_ask *a) { return test_give_text(a, 416, "Content-Range: bytes */0\r\n", ""); }
static bool packed(struct test_ask *a)
{
    return test_give_text(a, 206, "Content-Encoding: gzip\r\nContent-Range: bytes 0-3/9999999\r\n", "abcd");
}
static bool other_range(struct test_ask *a) { return test_give_text(a, 206, "Content-Range: bytes 1-4/9999999\r\n", "abcd"); }
static bool no_range(struct test_ask *a) { return test_give_text(a, 206, "", "abcd"); }
static bool wrong_length(struct test_ask *a) { return test_give_text(a, 206, "Content-Range: bytes 0-9/9999999\r\n", "abcd"); }
static bool no_total(struct test_ask *a) { return test_give_text(a, 206, "Content-Range: bytes 0-3/*\r\n", "abcd"); }
static bool endless(struct test_ask *a)
{
    static char zeros[4 * MIB];
    return test_give(a, 200, "", zeros, sizeof zeros, UINT64_MAX);
}
static bool longer_than_said(struct test_ask *a)
{
    static char zeros[2 * MIB];
    return test_give(a, 206, "Content-Range: bytes 0-1048575/9999999\r\n", zeros, sizeof zeros, UINT64_MAX);
}
static bool hollow(struct test_ask *a, const char *text, const char *total) /* a header, and zeros up to a MiB */
{
    static _Thread_local char head[MIB];
    char range[100];
    memset(head, 0, sizeof head);
    head[0] = 100;
    memset(head + 8, ' ', 100);
    memcpy(head + 8, text, strlen(text));
    snprintf(range, sizeof range, "Content-Range: bytes 0-1048575/%s\r\n", total);
    return test_give(a, 206, range, head, sizeof head, sizeof head);
}
static bool huge(struct test_ask *a) { return hollow(a, "{}", "4611686018427387904"); }
static bool large_and_hollow(struct test_ask *a)
{
    return strcmp(a->path, "/hollow") == 0 &&
           hollow(a, "{\"w\":{\"dtype\":\"U8\",\"shape\":[8000000000000],\"data_offsets\":[0,8000000000000]}}", "8000000000108");
}
static bool many_headers(struct test_ask *a)
{
    static char lines[4000];
    for (size_t i = 0; i + 40 < sizeof lines; i += 39)
        memcpy(lines + i, "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", 40);
    for (unsigned i = 0; i < 100; i++)
        test_give(a, 100, lines, "", 0, 0);
    return true;
}

static bool long_header(struct test_ask *a)
{
    static char line[200000];
    memset(line, 'a', sizeof line);
    memcpy(line, "HTTP/1.1 206 X\r\nX: ", 19);
    return test_give(a, 100, "", line, sizeof line, UINT64_MAX);
}

static void faults_are_told_in_one_line(void **state)
{
    (void)state;
    static const struct {
        test_how_fn *how;
        const char  *words[2];
        size_t       least, most; /* requests for the model */
    } row[] = {
        { no_ranges, { "ignores range", "--download" }, 1, 1 }, { not_found, { "404", "not found" }, 1, 1 },
        { unauthorized, { "401", "HF_TOKEN" }, 1, 1 }, { forbidden, { "403", "HF_TOKEN" }, 1, 1 }, { teapot, { "418", "" }, 1, 1 },
        { broken, { "503", "5 more" }, 6, 6 }, { loop, { "redirect", "loop" }, 11, 11 },
        { to_file, { "redirects", "nowhere" }, 1, 1 }, { to_nowhere, { "redirects", "" }, 1, 1 }, { to_user, { "password", "" }, 1, 1 },
        { shorter, { "ended early", "" }, 6, 7 },
        { changing_tag, { "changed", "" }, 2, 2 }, { changing_length, { "changed", "length" }, 2, 2 },
        { changing_date, { "changed", "begin again" }, 3, 3 },
        { page, { "HTML", "hf://OWNER" }, 1, 1 }, { empty, { "is empty", "" }, 1, 1 }, { packed, { "packs", "" }, 1, 1 },
        { other_range, { "another one", "" }, 1, 1 }, { no_range, { "another one", "" }, 1, 1 },
        { wrong_length, { "another length", "" }, 1, 1 },
        { no_total, { "how long", "" }, 1, 1 }, { endless, { "ignores range", "" }, 1, 1 },
        { longer_than_said, { "more than it promised", "" }, 1, 1 },
        { huge, { "than can be mapped", "" }, 1, 2 }, { many_headers, { "of headers", "" }, 1, 1 },
        { long_header, { "headers is too long", "" }, 1, 1 },
    };
    const char *const url = at_server("/large.safetensors");
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        begin_test(state);
        test_server_how(server, row[i].how);
        struct test_answer a = test_tool("apr-inspect", url, NULL);
        const char *const line = (const char *)a.err.at, *const end = strchr(line, '\n');
        if (a.exit != 2 || a.out.n != 0 || end == NULL || end[1] != 0 || strncmp(line, "apr-inspect: http://", 20) != 0 ||
            !test_says(&a.err, row[i].words[0]) || !test_says(&a.err, row[i].words[1]) || !test_says(&a.err, url))
            fail_msg("%s: exit %d: %s%s", row[i].words[0], a.exit, line, (char *)a.out.at);
        const size_t asks = test_server_asks(server, "/large.safetensors");
        if (asks < row[i].least || asks > row[i].most)
            fail_msg("%s: %zu requests", row[i].words[0], asks);
        test_answer_free(&a);
    }
}

static void what_is_no_address_is_not_asked_for(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        { "http://", "without a host" }, { "https:///", "without a host" }, { "hf://", "OWNER/NAME" }, { "hf://apr", "OWNER/NAME" },
        { "hf://apr/", "OWNER/NAME" }, { "hf://apr/qwen2@", "OWNER/NAME" }, { "hf://apr/qwen2@refs", "OWNER/NAME" },
        { "hf://apr/qwen2@refs/pr", "OWNER/NAME" }, { "hf://apr/..", "OWNER/NAME" }, { "hf://apr/qwen2/../x.gguf", "OWNER/NAME" },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_answer a = test_tool("apr-inspect", row[i][0], NULL);
        if (a.exit != 2 || !test_says(&a.err, row[i][1]) || test_server_asks(server, NULL) != 0)
            fail_msg("%s: exit %d: %s", row[i][0], a.exit, (char *)a.err.at);
        test_answer_free(&a);
    }
}

static void a_length_costs_nothing(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it leaves no room for 8 TB of addresses */
#endif
    test_server_how(server, large_and_hollow);
    struct test_answer a = test_tool("apr-inspect", "--tensors", at_server("/hollow"), NULL);
    if (a.exit != 0 || !test_says(&a.out, "[8000000000000]") || a.peak > 1024 * MIB)
        fail_msg("exit %d, %llu bytes: %s", a.exit, (unsigned long long)a.peak, (char *)a.err.at);
    test_answer_free(&a);
    a = test_tool("apr-inspect", "--stats", at_server("/hollow"), NULL);
    assert_true(a.exit == 2 && test_says(&a.err, "8000000000108 bytes"));
    test_answer_free(&a);
}

static bool later(struct test_ask *a) { return a->nth <= 2 && test_give_text(a, a->nth == 1 ? 429 : 520, "Retry-After: 0\r\n", "later"); }

static void a_refusal_for_now_is_tried_again_later_and_later(void **state)
{
    (void)state;
    test_server_how(server, later);
    struct test_answer a = test_tool("apr-inspect", at_server("/small.safetensors"), NULL);
    assert_int_equal(a.exit, 0);
    double at[3];
    for (size_t i = 0; i < 3; i++)
        at[i] = test_server_ask(server, "/small.safetensors", i)->at;
    assert_true(at[1] - at[0] > 0.2 && at[2] - at[1] > 0.45);
    test_answer_free(&a);
}

/* ---- downloads ------------------------------------------------------------------------------------------------------ */

static bool cut_often(struct test_ask *a) { return is_model(a) && test_give_cut(a, 3 * MIB / 2); }

static void a_download_goes_on_where_it_was_cut(void **state)
{
    (void)state;
    struct test_bytes b = tensors(1000, 6 * MIB, 7);
    test_server_file(server, "/large.safetensors", b.at, b.n);
    const char *const local = test_file("longer.safetensors", b.at, b.n);
    test_server_how(server, cut_often);
    struct test_answer a = test_tool("apr-inspect", "--hash", "--download", at_server("/large.safetensors"), NULL);
    struct test_answer near = test_tool("apr-inspect", "--hash", local, NULL);
    if (a.exit != 0)
        fail_msg("%s", (char *)a.err.at);
    assert_string_equal((char *)a.out.at, (char *)near.out.at);
    assert_in_range(test_server_asks(server, "/large.safetensors"), 16, 18); /* more than the tries, each after a gain */
    assert_int_equal(test_server_sent(server, "/large.safetensors"), b.n);
    for (size_t i = 1; i < test_server_asks(server, "/large.safetensors"); i++)
        assert_string_not_equal(test_server_ask(server, "/large.safetensors", i)->if_range, "");
    test_answer_free(&a);
    test_answer_free(&near);
    test_free(&b);
}

static void a_server_without_ranges_gives_all_or_nothing(void **state)
{
    (void)state;
    struct test_bytes b = tensors(3 * MIB, MIB, 0);
    test_server_file(server, "/large.safetensors", b.at, b.n);
    test_server_how(server, no_ranges);
    struct test_answer a = test_tool("apr-inspect", "--hash", "--download", at_server("/large.safetensors"), NULL);
    if (a.exit != 0)
        fail_msg("%s", (char *)a.err.at);
    assert_int_equal(test_server_asks(server, "/large.safetensors"), 1);
    test_answer_free(&a);
    a = test_tool("apr-inspect", at_server("/small.safetensors"), NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    test_free(&b);
}

/* A server that has ranges at some times only: the whole at first, or parts. */
static struct test_bytes whole;
static size_t           part_bytes;

static bool give_part(struct test_ask *a)
{
    char range[100];
    const size_t first = (size_t)a->first, n = whole.n - first < part_bytes ? whole.n - first : part_bytes;
    snprintf(range, sizeof range, "Content-Range: bytes %zu-%zu/%zu\r\n", first, first + n - 1, whole.n);
    return test_give(a, 206, range, whole.at + first, n, n);
}

static bool whole_then_parts(struct test_ask *a)
{
    return is_model(a) && (a->nth == 1 ? test_give(a, 200, "", whole.at, 100000, whole.n) : give_part(a));
}

static bool parts_then_shorter(struct test_ask *a) /* which has no length */
{
    return is_model(a) && (a->nth == 1 ? give_part(a) : test_give(a, 200, "", whole.at, whole.n - 300000, UINT64_MAX));
}

static bool parts_then_longer(struct test_ask *a)
{
    static char longer[16 * MIB];
    return is_model(a) && (a->nth == 1 ? give_part(a) : test_give(a, 200, "", longer, sizeof longer, UINT64_MAX));
}

static void a_server_that_turns_to_ranges_is_read_to_the_end(void **state)
{
    (void)state;
    whole = tensors(1000, MIB, 0);
    const char *const local = test_file("whole.safetensors", whole.at, whole.n);
    part_bytes = 65536;
    test_server_how(server, whole_then_parts);
    struct test_answer a = test_tool("apr-inspect", "--hash", "--download", at_server("/large.safetensors"), NULL);
    struct test_answer near = test_tool("apr-inspect", "--hash", local, NULL);
    if (a.exit != 0)
        fail_msg("%s", (char *)a.err.at);
    assert_string_equal((char *)a.out.at, (char *)near.out.at);
    assert_in_range(test_server_asks(server, "/large.safetensors"), 2, whole.n / 65536 + 3);
    test_answer_free(&a);
    test_answer_free(&near);
    test_free(&whole);
}

static void a_whole_of_another_length_is_told(void **state)
{
    static test_how_fn *const how[] = { parts_then_shorter, parts_then_longer };
    static const char *const  words[] = { "fewer bytes than", "more than it promised" };
    for (size_t i = 0; i < APR_LENGTH(how); i++) {
        begin_test(state);
        whole = tensors(1000, MIB, 0);
        part_bytes = MIB;
        test_server_how(server, how[i]);
        struct test_answer a = test_tool("apr-inspect", "--hash", "--download", at_server("/large.safetensors"), NULL);
        if (a.exit != 2 || !test_says(&a.err, words[i]) || test_server_asks(server, "/large.safetensors") != 2)
            fail_msg("exit %d, %zu requests: %s", a.exit, test_server_asks(server, "/large.safetensors"), (char *)a.err.at);
        test_answer_free(&a);
        test_free(&whole);
    }
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

static struct test_server *_Atomic elsewhere;

static bool gated(struct test_ask *a) { return strcmp(a->bearer, TOKEN) != 0 && test_give_text(a, 401, "", a->bearer); }

static bool away(struct test_ask *a)
{
    char location[700];
    if (gated(a))
        return true;
    snprintf(location, sizeof location, "Location: %s%s?sig=1\r\n", test_server_root(elsewhere), strrchr(a->path, '/'));
    return test_give_text(a, 302, location, "");
}

static bool back(struct test_ask *a) /* to the endpoint, which is not trusted any more by then */
{
    char location[700];
    snprintf(location, sizeof location, "Location: %s/back%s\r\n", test_server_root(server), a->path);
    return test_give_text(a, 302, location, "");
}

static bool away_and_back(struct test_ask *a)
{
    if (strncmp(a->path, "/back", 5) != 0)
        return away(a);
    return test_give_text(a, 404, "", "no");
}

static void a_token_goes_to_its_endpoint_alone(void **state)
{
    (void)state;
    elsewhere = test_server(NULL);
    test_server_folder(elsewhere, "/", "fixtures/qwen2/");
    setenv("HF_TOKEN", TOKEN, 1);
    test_server_how(server, gated);
    struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    fresh_cache();
    test_server_how(server, away);
    a = test_tool("apr-inspect", "--tensors", "hf://apr/qwen2", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    test_server_how(elsewhere, back);
    test_server_how(server, away_and_back);
    a = test_tool("apr-inspect", "hf://apr/qwen2/model.safetensors", NULL);
    assert_int_equal(a.exit, 2);
    assert_int_equal(test_server_asks(server, "/back/model.safetensors"), 1);
    assert_string_equal(test_server_ask(server, "/back/model.safetensors", 0)->bearer, "");
    test_answer_free(&a);
    test_server_how(elsewhere, NULL);
    a = test_tool("apr-inspect", "--no-cache", "--verbose", "--json", "hf://apr/none/none.gguf", NULL);
    assert_int_equal(a.exit, 2);
    assert_null(strstr((char *)a.err.at, TOKEN));
    test_answer_free(&a);
    assert_true(test_server_asks(elsewhere, NULL) > 3);
    for (size_t i = 0; i < test_server_asks(elsewhere, NULL); i++)
        assert_string_equal(test_server_ask(elsewhere, NULL, i)->bearer, "");
}

static void what_cannot_be_a_token_is_told_and_not_sent(void **state)
{
    static char long_one[1100];
    memset(long_one, 'x', sizeof long_one - 1);
    const char *const wrong[] = { TOKEN "\r\nX-Evil: 1", TOKEN " " TOKEN, TOKEN "\x01" TOKEN, TOKEN "\x80", long_one };
    const char *const right[] = { TOKEN "\n", " \t" TOKEN "\r\n" };
    for (size_t i = 0; i < APR_LENGTH(wrong); i++) {
        setenv("HF_TOKEN", wrong[i], 1);
        struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
        if (a.exit != 2 || !test_says(&a.err, "HF_TOKEN holds no token") || test_says(&a.err, "hf_") || test_server_asks(server, NULL) != 0)
            fail_msg("%zu: exit %d: %s", i, a.exit, (char *)a.err.at);
        test_answer_free(&a);
    }
    for (size_t i = 0; i < APR_LENGTH(right); i++) {
        begin_test(state);
        setenv("HF_TOKEN", right[i], 1);
        test_server_how(server, gated);
        struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
        assert_int_equal(a.exit, 0);
        test_answer_free(&a);
    }
    setenv("HF_TOKEN", " \n", 1); /* as good as none */
    struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
    assert_true(a.exit == 2 && test_says(&a.err, "401"));
    test_answer_free(&a);
}

static bool echo(struct test_ask *a)
{
    char tag[400];
    snprintf(tag, sizeof tag, "\"%s\"", a->bearer);
    return test_give_file(a, tag, true, 0);
}

static size_t files_with(const char *folder, const char *text, uint64_t *bytes)
{
    DIR *const d = opendir(folder);
    size_t n = 0;
    char path[8192];
    for (const struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        struct stat st;
        if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        struct test_bytes b = test_load(path);
        n += memmem(b.at, b.n, text, strlen(text)) != NULL;
        *bytes += b.n;
        test_free(&b);
    }
    if (d != NULL)
        closedir(d);
    return n;
}

static const char *cache(void)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/apr-tools", getenv("XDG_CACHE_HOME"));
    return path;
}

static void an_endpoint_is_an_address_and_nothing_secret(void **state)
{
    (void)state;
    static const char *const row[][2] = {
        { "http://me:hunter2@%s", "password" }, { "ftp://me:hunter2@%s", "password" },
        { "%s", "no http address" }, { "ftp://%s", "no http address" },
        { "http://%s/?key=hunter2", "query" }, { "http://%s/#hunter2", "fragment" }, { "http://%s ", "blank" },
        { "http://%s/\r\nX: hunter2", "control" },
    };
    uint64_t bytes = 0;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        char endpoint[200];
        snprintf(endpoint, sizeof endpoint, row[i][0], test_server_root(server) + 7); /* behind http:// */
        setenv("HF_ENDPOINT", endpoint, 1);
        struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
        if (a.exit != 2 || !test_says(&a.err, "HF_ENDPOINT") || !test_says(&a.err, row[i][1]) || test_says(&a.err, "hunter2"))
            fail_msg("%s: exit %d: %s", row[i][0], a.exit, (char *)a.err.at);
        test_answer_free(&a);
    }
    setenv("HF_ENDPOINT", test_server_root(server), 1);
    assert_int_equal(test_server_asks(server, NULL), 0);
    assert_int_equal(files_with(cache(), "hunter2", &bytes), 0);
}

static void a_token_is_not_kept_even_when_a_server_sends_it_back(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    setenv("HF_TOKEN", TOKEN, 1);
    test_server_how(server, echo);
    struct test_answer a = test_tool("apr-inspect", "hf://apr/qwen2", NULL);
    assert_int_equal(a.exit, 0);
    assert_int_equal(files_with(cache(), TOKEN, &bytes), 0);
    test_answer_free(&a);
}

/* ---- the cache ------------------------------------------------------------------------------------------------------ */

static uint64_t inspect_large(const char *option)
{
    test_server_forget(server);
    struct test_answer a = test_tool("apr-inspect", "--metadata", option, at_server("/large.safetensors"), NULL);
    if (a.exit != 0)
        fail_msg("%s", (char *)a.err.at);
    test_answer_free(&a);
    return test_server_sent(server, "/large.safetensors");
}

/* Calls change for each file of the cache. */
static void change_cache(void (*change)(const char *path))
{
    DIR *const d = opendir(cache());
    char path[8192];
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", cache(), entry->d_name);
        if (entry->d_name[0] != '.')
            change(path);
    }
    closedir(d);
}

static void turn_a_byte(const char *path)
{
    unsigned char c;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &c, 1, 5000), 1);
    c ^= 1;
    assert_int_equal(pwrite(fd, &c, 1, 5000), 1);
    close(fd);
}

static void turn_a_byte_of_ours(const char *path)
{
    if (strlen(strrchr(path, '/')) == 33)
        turn_a_byte(path);
}

static void open_to_all(const char *path) { chmod(path, 0666); }
static void cut(const char *path) { assert_int_equal(truncate(path, 100), 0); }

static void by_link(const char *path)
{
    unlink(path);
    assert_int_equal(symlink(test_path("victim"), path), 0);
}

static void by_pipe(const char *path)
{
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
}

static void by_folder(const char *path)
{
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void what_lies_in_the_place_of_an_entry_is_not_followed(void **state)
{
    static void (*const put[])(const char *) = { by_link, by_pipe, by_folder };
    test_file("victim", "precious", 8);
    for (size_t i = 0; i < APR_LENGTH(put); i++) {
        begin_test(state);
        assert_true(inspect_large("--quiet") >= 3 * MIB);
        change_cache(put[i]);
        assert_true(inspect_large("--quiet") >= 3 * MIB);
        if (put[i] != by_folder)
            assert_int_equal(inspect_large("--quiet"), 0);
    }
    struct test_bytes b = test_load(test_path("victim"));
    assert_true(b.n == 8 && memcmp(b.at, "precious", 8) == 0);
    test_free(&b);
}

static void the_oldest_of_many_files_make_room(void **state)
{
    (void)state;
    char path[8192];
    assert_true(inspect_large("--quiet") >= 3 * MIB);
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(path, sizeof path, "%s/%u", cache(), i);
        const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        const struct timespec when[2] = { { .tv_sec = 1 + (20000 - i) }, { .tv_sec = 1 + (20000 - i) } };
        assert_int_equal(ftruncate(fd, i == 3 ? 200 << 20 : i == 4 ? 60 << 20 : 10), 0);
        assert_int_equal(futimens(fd, when), 0);
        close(fd);
    }
    change_cache(turn_a_byte_of_ours);
    const time_t begun = time(NULL);
    assert_true(inspect_large("--quiet") >= 3 * MIB);
    assert_in_range(time(NULL) - begun, 0, 20);
    snprintf(path, sizeof path, "%s/4", cache());
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/3", cache());
    assert_int_equal(access(path, F_OK), 0); /* the oldest are enough */
    assert_int_equal(inspect_large("--quiet"), 0);
}

static void a_header_that_is_known_is_not_fetched_again(void **state)
{
    (void)state;
    static void (*const harm[])(const char *) = { turn_a_byte, open_to_all, cut };
    assert_true(inspect_large("--quiet") >= 3 * MIB);
    assert_int_equal(inspect_large("--quiet"), 0);
    assert_int_equal(test_server_asks(server, "/large.safetensors"), 1);
    for (size_t i = 0; i < APR_LENGTH(harm); i++) {
        change_cache(harm[i]);
        assert_true(inspect_large("--quiet") >= 3 * MIB); /* it is not believed, and written anew */
        assert_int_equal(inspect_large("--quiet"), 0);
    }
    assert_true(inspect_large("--no-cache") >= 3 * MIB);
    struct stat st;
    assert_int_equal(stat(cache(), &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
}

static bool weak(struct test_ask *a) { return test_give_file(a, "W/\"1\"", true, 0); }

static void a_weak_tag_is_not_believed(void **state)
{
    (void)state;
    test_server_how(server, weak);
    assert_true(inspect_large("--quiet") >= 3 * MIB);
    assert_string_equal(test_server_ask(server, "/large.safetensors", 1)->if_range, "");
    assert_true(inspect_large("--quiet") >= 3 * MIB);
}

static void many_processes_share_a_cache(void **state)
{
    (void)state;
    pid_t child[6];
    uint64_t bytes = 0;
    for (size_t i = 0; i < APR_LENGTH(child); i++)
        if ((child[i] = fork()) == 0) {
            char tool[256];
            snprintf(tool, sizeof tool, "%s/apr-inspect", APR_BUILD);
            freopen("/dev/null", "w", stdout);
            execl(tool, tool, "--metadata", at_server("/large.safetensors"), NULL);
            _exit(127);
        }
    for (size_t i = 0; i < APR_LENGTH(child); i++) {
        int status;
        waitpid(child[i], &status, 0);
        assert_int_equal(status, 0);
    }
    files_with(cache(), "x", &bytes);
    assert_in_range(bytes, 3 * MIB, 4 * MIB);
    assert_int_equal(inspect_large("--quiet"), 0);
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
        cmocka_unit_test_setup(faults_are_told_in_one_line, begin_test),
        cmocka_unit_test_setup(what_is_no_address_is_not_asked_for, begin_test),
        cmocka_unit_test_setup(a_length_costs_nothing, begin_test),
        cmocka_unit_test_setup(a_refusal_for_now_is_tried_again_later_and_later, begin_test),
        cmocka_unit_test_setup(a_token_goes_to_its_endpoint_alone, begin_test),
        cmocka_unit_test_setup(an_endpoint_is_an_address_and_nothing_secret, begin_test),
        cmocka_unit_test_setup(what_cannot_be_a_token_is_told_and_not_sent, begin_test),
        cmocka_unit_test_setup(a_token_is_not_kept_even_when_a_server_sends_it_back, begin_test),
        cmocka_unit_test_setup(a_header_that_is_known_is_not_fetched_again, begin_test),
        cmocka_unit_test_setup(what_lies_in_the_place_of_an_entry_is_not_followed, begin_test),
        cmocka_unit_test_setup(the_oldest_of_many_files_make_room, begin_test),
        cmocka_unit_test_setup(a_weak_tag_is_not_believed, begin_test),
        cmocka_unit_test_setup(many_processes_share_a_cache, begin_test),
        cmocka_unit_test_setup(a_download_goes_on_where_it_was_cut, begin_test),
        cmocka_unit_test_setup(a_server_without_ranges_gives_all_or_nothing, begin_test),
        cmocka_unit_test_setup(a_server_that_turns_to_ranges_is_read_to_the_end, begin_test),
        cmocka_unit_test_setup(a_whole_of_another_length_is_told, begin_test),
    };
    return cmocka_run_group_tests(tests, begin_world, NULL);
}
