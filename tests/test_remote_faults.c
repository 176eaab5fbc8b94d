/* lib/files/remote*.c: servers of all kinds, and connections that end. */
#include "remote_world.h"

#include <stdio.h>

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
    test_server_wait(server);
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
        test_server_wait(server);
        test_free(&whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(faults_are_told_in_one_line, begin_test),
        cmocka_unit_test_setup(what_is_no_address_is_not_asked_for, begin_test),
        cmocka_unit_test_setup(a_length_costs_nothing, begin_test),
        cmocka_unit_test_setup(a_refusal_for_now_is_tried_again_later_and_later, begin_test),
        cmocka_unit_test_setup(a_download_goes_on_where_it_was_cut, begin_test),
        cmocka_unit_test_setup(a_server_without_ranges_gives_all_or_nothing, begin_test),
        cmocka_unit_test_setup(a_server_that_turns_to_ranges_is_read_to_the_end, begin_test),
        cmocka_unit_test_setup(a_whole_of_another_length_is_told, begin_test),
    };
    return cmocka_run_group_tests(tests, begin_world, NULL);
}
