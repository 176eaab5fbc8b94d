#include "remote_server.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"

struct file {
    char             *path;
    struct test_bytes bytes;
};

struct test_server {
    int              fd;
    char             root[64];
    pthread_mutex_t  lock;
    test_how_fn *_Atomic how; /* of the test that runs */
    struct file      file[1024];
    size_t           nfile, nask, from; /* from: the first that is not forgotten */
    struct test_ask *ask[4096];
    _Atomic unsigned connections;
    unsigned         visits; /* that have not ended */
    pthread_cond_t   quiet;  /* none has */
};

struct visit {
    struct test_server *s;
    int                 fd;
};

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static const struct file *find_file(const struct test_server *s, const char *path)
{
    for (size_t i = s->nfile; i-- > 0;)
        if (strcmp(s->file[i].path, path) == 0)
            return &s->file[i];
    return NULL;
}

void test_server_file(struct test_server *s, const char *path, const void *bytes, size_t n)
{
    pthread_mutex_lock(&s->lock);
    assert_true(s->nfile < APR_LENGTH(s->file));
    struct file *const f = &s->file[s->nfile];
    *f = (struct file){ .path = strdup(path) };
    test_put(&f->bytes, bytes, n);
    s->nfile++;
    pthread_mutex_unlock(&s->lock);
}

static struct test_server *walker;
static const char         *walk_prefix;
static size_t              walk_folder;

static int walk(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)where;
    if (kind != FTW_F)
        return 0;
    char name[1024];
    snprintf(name, sizeof name, "%s%s", walk_prefix, path + walk_folder);
    struct test_bytes b = test_load(path);
    test_server_file(walker, name, b.at, b.n);
    test_free(&b);
    return 0;
}

void test_server_folder(struct test_server *s, const char *prefix, const char *folder)
{
    walker = s;
    walk_prefix = prefix;
    walk_folder = strlen(folder);
    nftw(folder, walk, 8, FTW_PHYS);
}

/* ---- answers -------------------------------------------------------------------------------------------------------- */

static bool put(struct test_ask *a, const void *bytes, size_t n)
{
    for (const char *at = bytes; n > 0;) {
        const ssize_t put = send(a->fd, at, n, MSG_NOSIGNAL);
        if (put <= 0)
            return false;
        at += put;
        n -= (size_t)put;
        a->sent += (uint64_t)put;
    }
    return true;
}

static bool give(struct test_ask *a, int status, const char *headers, const void *body, size_t n, uint64_t promised)
{
    char head[4096], length[64] = "Connection: close\r\n";
    if (promised != UINT64_MAX)
        snprintf(length, sizeof length, "Content-Length: %llu\r\n", (unsigned long long)promised);
    const int nhead = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\n%s%s\r\n", status, headers, length);
    bool whole = put(a, head, (size_t)nhead);
    a->sent = 0;
    whole = whole && put(a, body, n);
    if (!whole || promised != n)
        shutdown(a->fd, SHUT_RDWR);
    return true;
}

bool test_give(struct test_ask *a, int status, const char *headers, const void *body, size_t n, uint64_t promised)
{
    return give(a, status, headers, body, n, promised);
}

bool test_give_text(struct test_ask *a, int status, const char *headers, const char *body)
{
    return give(a, status, headers, body, strlen(body), strlen(body));
}

/* The file's own tag. */
static void spell_tag(const struct test_bytes *b, char out[64])
{
    char digits[33];
    snprintf(out, 64, "\"%s\"", apr_digest_spell(apr_digest_of((struct apr_bytes){ b->at, b->n }), digits));
}

static bool give_range(struct test_ask *a, const struct test_bytes *b, const char *etag, bool ranges, size_t most)
{
    char headers[512], tag[320] = "";
    if (*etag != 0)
        snprintf(tag, sizeof tag, "ETag: %s\r\n", etag);
    if (*etag != 0 && strcmp(a->none_match, etag) == 0)
        return give(a, 304, tag, "", 0, 0);
    const bool fresh = a->if_range[0] == 0 || strcmp(a->if_range, etag) == 0;
    if (a->end == 0 || !ranges || !fresh)
        return give(a, 200, tag, b->at, apr_min(b->n, most), b->n);
    if (a->first >= b->n) {
        snprintf(headers, sizeof headers, "Content-Range: bytes */%zu\r\n", b->n);
        return give(a, 416, headers, "", 0, 0);
    }
    const size_t end = (size_t)apr_min(a->end, b->n), n = end - (size_t)a->first;
    snprintf(headers, sizeof headers, "%sContent-Range: bytes %llu-%zu/%zu\r\n", tag, (unsigned long long)a->first, end - 1, b->n);
    return give(a, 206, headers, b->at + a->first, apr_min(n, most), n);
}

static bool give_file(struct test_ask *a, const char *etag, bool ranges, size_t longer, size_t most)
{
    pthread_mutex_lock(&a->server->lock);
    const struct file *const f = find_file(a->server, a->path);
    struct test_bytes b = { 0 };
    if (f != NULL)
        test_put(&b, f->bytes.at, f->bytes.n);
    pthread_mutex_unlock(&a->server->lock);
    if (f == NULL)
        return test_give_text(a, 404, "", "not here");
    test_zeros(&b, longer);
    char own[64];
    spell_tag(&b, own);
    give_range(a, &b, etag == NULL ? own : etag, ranges, most);
    test_free(&b);
    return true;
}

bool test_give_file(struct test_ask *a, const char *etag, bool ranges, size_t longer)
{
    return give_file(a, etag, ranges, longer, SIZE_MAX);
}

bool test_give_cut(struct test_ask *a, size_t most) { return give_file(a, NULL, true, 0, most); }

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static void take_value(const char *head, const char *name, char *out, size_t room)
{
    *out = 0;
    const char *const at = strcasestr(head, name);
    if (at != NULL)
        snprintf(out, room, "%.*s", (int)strcspn(at + strlen(name), "\r"), at + strlen(name));
}

static struct test_ask *read_request(struct test_server *s, char *head, int fd)
{
    struct test_ask *const a = calloc(1, sizeof *a);
    char target[700], range[100], *stop;
    struct timespec t;
    if (a == NULL || sscanf(head, "GET %699s", target) != 1) {
        free(a);
        return NULL;
    }
    clock_gettime(CLOCK_MONOTONIC, &t);
    a->fd = fd;
    a->server = s;
    a->at = (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
    const size_t n = strcspn(target, "?");
    snprintf(a->path, sizeof a->path, "%.*s", (int)n, target);
    snprintf(a->query, sizeof a->query, "%s", target[n] == '?' ? target + n + 1 : "");
    take_value(head, "\nIf-Range: ", a->if_range, sizeof a->if_range);
    take_value(head, "\nIf-None-Match: ", a->none_match, sizeof a->none_match);
    take_value(head, "\nAuthorization: Bearer ", a->bearer, sizeof a->bearer);
    take_value(head, "\nRange: bytes=", range, sizeof range);
    if (*range != 0) {
        a->first = strtoull(range, &stop, 10);
        a->end = *stop == '-' && stop[1] != 0 ? strtoull(stop + 1, NULL, 10) + 1 : UINT64_MAX;
    }
    pthread_mutex_lock(&s->lock);
    for (size_t i = s->from; i < s->nask; i++)
        a->nth += strcmp(s->ask[i]->path, a->path) == 0;
    a->nth++;
    if (s->nask < APR_LENGTH(s->ask))
        s->ask[s->nask++] = a;
    pthread_mutex_unlock(&s->lock);
    return a;
}

/* Reads up to the empty line; false when the other side has left. */
static bool read_head(int fd, char head[16384])
{
    size_t n = 0;
    head[0] = 0;
    while (strstr(head, "\r\n\r\n") == NULL) {
        const ssize_t got = n + 1 < 16384 ? recv(fd, head + n, 16384 - n - 1, 0) : 0;
        if (got <= 0)
            return false;
        n += (size_t)got;
        head[n] = 0;
    }
    return true;
}

static void *serve(void *ctx)
{
    const struct visit v = *(struct visit *)ctx;
    static _Thread_local char head[16384];
    free(ctx);
    while (read_head(v.fd, head)) {
        struct test_ask *const a = read_request(v.s, head, v.fd);
        if (a == NULL)
            break;
        test_how_fn *const how = v.s->how;
        if (how == NULL || !how(a))
            test_give_file(a, NULL, true, 0);
    }
    close(v.fd);
    pthread_mutex_lock(&v.s->lock);
    if (--v.s->visits == 0)
        pthread_cond_broadcast(&v.s->quiet);
    pthread_mutex_unlock(&v.s->lock);
    return NULL;
}

static void *accept_all(void *ctx)
{
    struct test_server *const s = ctx;
    for (int fd; (fd = accept(s->fd, NULL, NULL)) >= 0;) {
        pthread_t thread;
        struct visit *const v = malloc(sizeof *v);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        *v = (struct visit){ s, fd };
        pthread_mutex_lock(&s->lock);
        s->connections++;
        s->visits++;
        pthread_mutex_unlock(&s->lock);
        if (pthread_create(&thread, NULL, serve, v) != 0)
            abort();
        pthread_detach(thread);
    }
    return NULL;
}

struct test_server *test_server(test_how_fn *how)
{
    struct test_server *const s = calloc(1, sizeof *s);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof at;
    pthread_t thread;
    assert_non_null(s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->quiet, NULL);
    s->how = how;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s->fd, 64), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &n), 0);
    snprintf(s->root, sizeof s->root, "http://127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&thread, NULL, accept_all, s), 0);
    pthread_detach(thread);
    return s;
}

void        test_server_how(struct test_server *s, test_how_fn *how) { s->how = how; }
const char *test_server_root(const struct test_server *s) { return s->root; }

void test_server_wait(struct test_server *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->visits > 0)
        pthread_cond_wait(&s->quiet, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

/* ---- what was asked ------------------------------------------------------------------------------------------------- */

struct test_ask *test_server_ask(struct test_server *s, const char *path, size_t i)
{
    struct test_ask *found = NULL;
    pthread_mutex_lock(&s->lock);
    for (size_t k = s->from; k < s->nask && found == NULL; k++)
        if ((path == NULL || strcmp(s->ask[k]->path, path) == 0) && i-- == 0)
            found = s->ask[k];
    pthread_mutex_unlock(&s->lock);
    return found;
}

size_t test_server_asks(struct test_server *s, const char *path)
{
    size_t n = 0;
    while (test_server_ask(s, path, n) != NULL)
        n++;
    return n;
}

uint64_t test_server_sent(struct test_server *s, const char *path)
{
    uint64_t sent = 0;
    for (size_t i = 0; test_server_ask(s, path, i) != NULL; i++)
        sent += test_server_ask(s, path, i)->sent;
    return sent;
}

unsigned test_server_connections(struct test_server *s) { return s->connections; }

void test_server_forget(struct test_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->from = s->nask; /* their threads may still write there */
    s->connections = 0;
    pthread_mutex_unlock(&s->lock);
}
