/* apr-linear serve: the program and its clients, through sockets. */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct child {
    pid_t    pid;
    FILE    *err;
    unsigned port;
};

/* A layer of two inputs and one output: `scale` times their sum. */
static const char *layer(const char *name, float scale)
{
    struct test_bytes b = { 0 };
    const char header[] = "{\"weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}       ";
    test_integer(&b, sizeof header - 1, 8);
    test_text(&b, header);
    test_floats(&b, (const float[]){ scale, scale }, 2);
    const char *path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

/* descriptors: as many as it may have, 0: as it is. */
static struct child start_with(const char *model, const char *option, const char *value, rlim_t descriptors)
{
    struct child c = { 0 };
    int ends[2];
    char line[256];
    assert_int_equal(pipe(ends), 0);
    c.pid = fork();
    if (c.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves none behind */
        dup2(ends[1], 2);
        close(ends[0]);
        if (descriptors > 0)
            setrlimit(RLIMIT_NOFILE, &(struct rlimit){ descriptors, descriptors });
        execl(APR_BUILD "/apr-linear", "apr-linear", "serve", model, "--port", "0", "--threads", "2", option, value, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    c.err = fdopen(ends[0], "r");
    assert_non_null(fgets(line, sizeof line, c.err));
    if (sscanf(line, "apr-linear: listening on http://127.0.0.1:%u", &c.port) != 1)
        fail_msg("%s", line);
    return c;
}

static struct child start(const char *model, const char *option, const char *value) { return start_with(model, option, value, 0); }

static int wait_for(struct child *c)
{
    int status;
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    fclose(c->err);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int connected(const struct child *c)
{
    const struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)c->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const struct timeval patience = { .tv_sec = 20 };
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(s, (const struct sockaddr *)&a, sizeof a), 0);
    return s;
}

static void put(int s, const char *text) { assert_int_equal(send(s, text, strlen(text), MSG_NOSIGNAL), strlen(text)); }

/* Has all of an answer come, by the length that its head tells? */
static bool is_whole(const char *text)
{
    const char *const body = strstr(text, "\r\n\r\n"), *const length = strstr(text, "Content-Length: ");
    return body != NULL && length != NULL && strlen(body + 4) >= strtoul(length + 16, NULL, 10);
}

/* One answer; what came of it, or nothing, when the connection ended. */
static const char *taken(int s)
{
    static char text[8192];
    size_t n = 0;
    for (ssize_t now; n < sizeof text - 1; n += (size_t)now) {
        now = recv(s, text + n, sizeof text - 1 - n, 0);
        if (now <= 0)
            break;
        text[n + (size_t)now] = 0;
        if (is_whole(text))
            return text;
    }
    text[n] = 0;
    return text;
}

static void expect(int s, const char *status, const char *says)
{
    const char *const text = taken(s);
    if (strncmp(text, status, strlen(status)) != 0 || strstr(text, says) == NULL)
        fail_msg("expected %s with %s, got %s", status, says, text);
}

#define POST "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n"
#define BODY "{\"features\":[1,2]}"
#define OK   "HTTP/1.1 200 "

static void a_connection_is_kept_and_ends_with_the_answer_in_flight(void **state)
{
    (void)state;
    struct child c = start(layer("kept.safetensors", 1), "--timeout", "20");
    const int s = connected(&c), idle = connected(&c);
    for (unsigned i = 0; i < 3; i++) {
        put(s, POST BODY);
        expect(s, OK, "{\"prediction\":3,");
    }
    put(idle, POST BODY);
    expect(idle, OK, "{\"prediction\":3,");
    put(s, POST "{\"feat");
    nanosleep(&(struct timespec){ 0, 300000000 }, NULL);
    kill(c.pid, SIGTERM);
    assert_string_equal(taken(idle), "");
    put(s, "ures\":[1,2]}");
    expect(s, OK, "{\"prediction\":3,");
    assert_int_equal(wait_for(&c), 0);
    close(s);
    close(idle);
}

/* One that can be read in two ways could be a request within another's body. */
static void a_body_whose_end_is_unclear_is_not_taken(void **state)
{
    (void)state;
    static const struct {
        const char *head, *status, *says;
    } all[] = {
        { "Content-Length: 18\r\nContent-Length: 17\r\n\r\n" BODY, "HTTP/1.1 400 ", "bad_framing" },
        { "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n12\r\n" BODY "\r\n0\r\n\r\n", "HTTP/1.1 400 ", "bad_framing" },
        { "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n" BODY "\r\n0\r\n\r\n", "HTTP/1.1 400 ", "bad_framing" },
        { "Transfer-Encoding: gzip, chunked\r\n\r\n12\r\n" BODY "\r\n0\r\n\r\n", "HTTP/1.1 400 ", "bad_framing" },
        { "Content-Length: 18\r\nContent-Length: 18\r\n\r\n" BODY, OK, "{\"prediction\":3," },
        { "Transfer-Encoding: Chunked\r\n\r\n12\r\n" BODY "\r\n0\r\n\r\n", OK, "{\"prediction\":3," },
        { "Content-Encoding: gzip\r\nContent-Length: 18\r\n\r\n" BODY, "HTTP/1.1 415 ", "gzip" },
    };
    struct child c = start(layer("framing.safetensors", 1), "--timeout", "20");
    for (size_t i = 0; i < APR_LENGTH(all); i++) {
        const int s = connected(&c);
        put(s, "POST /predict HTTP/1.1\r\nHost: a\r\n");
        put(s, all[i].head);
        expect(s, all[i].status, all[i].says);
        if (strstr(all[i].says, "framing") != NULL)
            assert_string_equal(taken(s), "");
        close(s);
    }
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
}

static void a_target_may_name_the_host_and_has_no_nul(void **state)
{
    (void)state;
    struct child c = start(layer("target.safetensors", 1), "--timeout", "20");
    const int s = connected(&c);
    put(s, "GET http://a:80/health?x HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(s, OK, "ok");
    put(s, "GET HTTP://a HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(s, "HTTP/1.1 404 ", "not_found");
    put(s, "GET /health%00x HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(s, "HTTP/1.1 404 ", "not_found");
    put(s, "GET /%68ealth?%00 HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(s, OK, "ok");
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    close(s);
}

/* Sends all that it says it will, and only then looks for the answer, as most clients do. */
static void who_sends_too_much_can_send_it_and_is_told(void **state)
{
    (void)state;
    static char much[1 << 20];
    struct child c = start(layer("much.safetensors", 1), "--max-body=1k", NULL);
    memset(much, ' ', sizeof much);
    for (unsigned i = 0; i < 10; i++) {
        const int s = connected(&c);
        put(s, "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9437184\r\n\r\n");
        for (unsigned k = 0; k < 9; k++)
            assert_int_equal(send(s, much, sizeof much, MSG_NOSIGNAL), sizeof much);
        expect(s, "HTTP/1.1 413 ", "body_too_large");
        assert_string_equal(taken(s), "");
        close(s);
    }
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
}

#define METRICS "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"

static void an_answer_is_counted_when_it_has_come(void **state)
{
    (void)state;
    struct child c = start(layer("count.safetensors", 1), "--threads=8", NULL);
    const int s = connected(&c), other = connected(&c);
    for (unsigned i = 1; i <= 1500; i++) {
        char wanted[80];
        put(s, POST BODY);
        expect(s, OK, "{\"prediction\":3,");
        put(other, METRICS);
        snprintf(wanted, sizeof wanted, "{endpoint=\"/predict\",code=\"200\"} %u\n", i);
        expect(other, OK, wanted);
    }
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    close(s);
    close(other);
}

static void who_is_slow_is_cut_off_and_who_is_one_too_many_is_told(void **state)
{
    (void)state;
    struct child c = start(layer("slow.safetensors", 1), "--timeout=1", "--max-connections=2");
    const int slow = connected(&c), other = connected(&c);
    put(other, POST BODY);
    expect(other, OK, "{\"prediction\":3,");
    put(slow, "POST /predict HT");
    const int third = connected(&c);
    put(third, POST BODY);
    expect(third, "HTTP/1.1 503 ", "too_many_connections");
    for (unsigned i = 0; i < 50 && send(slow, "x", 1, MSG_NOSIGNAL) == 1; i++) /* a byte now and then: never idle */
        nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
    assert_string_equal(taken(slow), "");
    put(other, POST BODY);
    expect(other, OK, "{\"prediction\":3,");
    kill(c.pid, SIGINT);
    assert_int_equal(wait_for(&c), 0);
    close(slow);
    close(other);
    close(third);
}

static void the_time_of_a_request_begins_with_its_first_byte(void **state)
{
    (void)state;
    struct child c = start(layer("late.safetensors", 1), "--timeout=1", NULL);
    const int s = connected(&c);
    nanosleep(&(struct timespec){ 1, 400000000 }, NULL);
    put(s, POST BODY);
    expect(s, OK, "{\"prediction\":3,");
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    close(s);
}

/* A client's end that comes with its last bytes is no event of its own. */
static void who_hangs_up_amid_a_body_is_let_go(void **state)
{
    (void)state;
    struct child c = start(layer("gone.safetensors", 1), "--timeout=20", NULL);
    for (unsigned i = 0; i < 60; i++) {
        const int s = connected(&c);
        put(s, POST "{\"feat");
        close(s);
    }
    const int s = connected(&c);
    bool gone = false;
    for (unsigned i = 0; i < 30 && !gone; i++) {
        nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
        put(s, METRICS);
        gone = strstr(taken(s), "\napr_in_flight 1\n") != NULL;
    }
    assert_true(gone);
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    close(s);
}

#define PEERS 16u

/* Each connection asks again as soon as it has its answer: the last answer says that it is the last. */
static void no_request_is_lost_when_the_server_ends(void **state)
{
    (void)state;
    struct child c = start(layer("end.safetensors", 1), "--timeout=20", NULL);
    int s[PEERS];
    unsigned left = PEERS;
    for (unsigned i = 0; i < PEERS; i++)
        s[i] = connected(&c);
    for (unsigned round = 0; left > 0; round++) {
        for (unsigned i = 0; i < PEERS; i++)
            if (s[i] >= 0)
                put(s[i], POST BODY);
        if (round == 20)
            kill(c.pid, SIGTERM);
        for (unsigned i = 0; i < PEERS; i++) {
            const char *const text = s[i] < 0 ? NULL : taken(s[i]);
            if (text == NULL)
                continue;
            assert_true(strncmp(text, OK, strlen(OK)) == 0 || strstr(text, "draining") != NULL);
            if (strstr(text, "Connection: close") != NULL) {
                close(s[i]);
                s[i] = -1;
                left--;
            }
        }
    }
    assert_int_equal(wait_for(&c), 0);
}

/* What the server says on stderr, line by line, until one has the words. */
static void told(struct child *c, const char *words)
{
    char line[1024];
    do
        if (fgets(line, sizeof line, c->err) == NULL)
            fail_msg("it never said %s", words);
    while (strstr(line, words) == NULL);
}

static void a_hangup_reads_models_again_and_keeps_what_cannot_be_read(void **state)
{
    (void)state;
    const char *path = layer("again.safetensors", 1);
    struct child c = start(path, "--access-log", NULL);
    const int s = connected(&c);
    put(s, POST BODY);
    expect(s, OK, "{\"prediction\":3,");
    const char *next = layer("next", 2);
    assert_int_equal(rename(next, path), 0);
    kill(c.pid, SIGHUP);
    told(&c, "read again");
    put(s, POST BODY);
    expect(s, OK, "{\"prediction\":6,");
    next = test_file("next", "broken", 6);
    assert_int_equal(rename(next, path), 0);
    kill(c.pid, SIGHUP);
    told(&c, "again.safetensors");
    put(s, POST BODY);
    expect(s, OK, "{\"prediction\":6,");
    told(&c, "POST /predict 200 ");
    put(s, "GET /a\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(s, "HTTP/1.1 404 ", "not_found");
    told(&c, "GET /a\\x1b[31m 404 ");
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    close(s);
}

/* The first number behind a word in what /metrics says. */
static double metric(int s, const char *word)
{
    put(s, METRICS);
    const char *const text = taken(s), *const at = strstr(text, word);
    if (at == NULL)
        fail_msg("%s is not in %s", word, text);
    return strtod(at + strlen(word), NULL);
}

#define RESIDENT "\nprocess_resident_memory_bytes "
#define MANY     400u

static void what_the_library_answers_is_counted(void **state)
{
    (void)state;
    static const char *const all[] = {
        "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n",
        "GET /health HTTP/1.1\r\nHost\r\n\r\n",
    };
    struct child c = start(layer("library.safetensors", 1), "--timeout=20", NULL);
    for (size_t i = 0; i < APR_LENGTH(all); i++) {
        const int s = connected(&c);
        put(s, all[i]);
        expect(s, "HTTP/1.1 400 ", "");
        while (taken(s)[0] != 0)
            continue;
        close(s);
    }
    const int s = connected(&c);
    assert_true(metric(s, "{endpoint=\"/predict\",code=\"400\"} ") == 1);
    assert_true(metric(s, "{endpoint=\"other\",code=\"400\"} ") == 2);
    assert_true(metric(s, "\napr_in_flight ") == 1);
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    close(s);
}

/* 1,000 connections shall have room in 20 MB, and what large bodies took goes back. */
static void memory_goes_by_connections_and_not_by_the_largest_body(void **state)
{
    (void)state;
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    skip(); /* which have an allocator of their own */
#endif
    static char much[8 << 20];
    struct child c = start(layer("memory.safetensors", 1), "--timeout=60", NULL);
    const int first = connected(&c);
    const double before = metric(first, RESIDENT);
    int s[MANY];
    for (unsigned i = 0; i < MANY; i++)
        s[i] = connected(&c);
    for (unsigned i = 0; i < 3 * MANY; i++) {
        put(s[i % MANY], POST BODY);
        expect(s[i % MANY], OK, "{\"prediction\":3,");
    }
    const double all = metric(first, RESIDENT);
    assert_true(all - before < 13000.0 * MANY);
    memset(much, ' ', sizeof much);
    memcpy(much + sizeof much - strlen(BODY), BODY, strlen(BODY));
    for (unsigned i = 0; i < 4; i++) {
        put(s[i], "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n");
        assert_int_equal(send(s[i], much, sizeof much, MSG_NOSIGNAL), sizeof much);
        expect(s[i], OK, "{\"prediction\":3,");
    }
    for (unsigned i = 0; i < 40 && metric(first, RESIDENT) > all + 1e6; i++)
        nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
    assert_true(metric(first, RESIDENT) < all + 1e6);
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    for (unsigned i = 0; i < MANY; i++)
        close(s[i]);
    close(first);
}

/* A pipe holds 64 KiB, a line has more than 20 bytes. */
static void who_does_not_read_the_log_holds_nobody_up(void **state)
{
    (void)state;
    struct child c = start(layer("log.safetensors", 1), "--access-log", NULL);
    const int s = connected(&c);
    for (unsigned i = 0; i < 5000; i++) {
        put(s, POST BODY);
        expect(s, OK, "{\"prediction\":3,");
    }
    kill(c.pid, SIGHUP);
    for (unsigned i = 0; i < 10000; i++) {
        char line[256];
        assert_non_null(fgets(line, sizeof line, c.err));
        put(s, POST BODY);
        expect(s, OK, "{\"prediction\":3,");
        if (strstr(line, "lines were left out") != NULL)
            break;
        assert_true(i < 9999);
    }
    for (unsigned i = 0; i < 5000; i++) {
        put(s, POST BODY);
        expect(s, OK, "{\"prediction\":3,");
    }
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    close(s);
}

/* Where the process may have few descriptors, fewer connections are taken, and one too many is still told. */
static void few_descriptors_are_shared_out(void **state)
{
    (void)state;
    struct child c = start_with(layer("few.safetensors", 1), "--quiet", NULL, 128);
    int s[46];
    for (unsigned i = 0; i < APR_LENGTH(s); i++) {
        s[i] = connected(&c);
        put(s[i], POST BODY);
        expect(s[i], i < 45 ? OK : "HTTP/1.1 503 ", i < 45 ? "{\"prediction\":3," : "too_many_connections");
    }
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
    for (unsigned i = 0; i < APR_LENGTH(s); i++)
        close(s[i]);
}

static void a_port_that_is_taken_and_a_file_that_is_no_model_are_named(void **state)
{
    (void)state;
    const char *path = layer("taken.safetensors", 1);
    struct child c = start(path, "--timeout", "5");
    char port[16];
    snprintf(port, sizeof port, "%u", c.port);
    struct test_answer a = test_tool("apr-linear", "serve", path, "--port", port, NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, port));
    test_answer_free(&a);
    a = test_tool("apr-linear", "serve", test_file("none.apr", "none", 4), NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "none.apr"));
    test_answer_free(&a);
    a = test_tool("apr-linear", "serve", path, path, NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "another model"));
    test_answer_free(&a);
    a = test_tool("apr-linear", "serve", layer("l\xe4ufer.safetensors", 1), NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "no UTF-8"));
    test_answer_free(&a);
    kill(c.pid, SIGTERM);
    assert_int_equal(wait_for(&c), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_is_kept_and_ends_with_the_answer_in_flight),
        cmocka_unit_test(a_body_whose_end_is_unclear_is_not_taken),
        cmocka_unit_test(a_target_may_name_the_host_and_has_no_nul),
        cmocka_unit_test(who_sends_too_much_can_send_it_and_is_told),
        cmocka_unit_test(an_answer_is_counted_when_it_has_come),
        cmocka_unit_test(who_is_slow_is_cut_off_and_who_is_one_too_many_is_told),
        cmocka_unit_test(the_time_of_a_request_begins_with_its_first_byte),
        cmocka_unit_test(who_hangs_up_amid_a_body_is_let_go),
        cmocka_unit_test(no_request_is_lost_when_the_server_ends),
        cmocka_unit_test(a_hangup_reads_models_again_and_keeps_what_cannot_be_read),
        cmocka_unit_test(what_the_library_answers_is_counted),
        cmocka_unit_test(memory_goes_by_connections_and_not_by_the_largest_body),
        cmocka_unit_test(who_does_not_read_the_log_holds_nobody_up),
        cmocka_unit_test(few_descriptors_are_shared_out),
        cmocka_unit_test(a_port_that_is_taken_and_a_file_that_is_no_model_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
