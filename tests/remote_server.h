/* A server of files over HTTP/1.1 on a port of its own, which keeps a list of what it was asked and answers badly when it is told to. */
#ifndef APR_TESTS_REMOTE_SERVER_H
#define APR_TESTS_REMOTE_SERVER_H

#include "support.h"

/* One request. first, end: of its range, end 0 when it has none, UINT64_MAX when that is open. nth: of its path, from 1 on.
 *   sent  bytes of body that it was given */
struct test_ask {
    char               path[512], query[256], if_range[300], none_match[300], bearer[300];
    uint64_t           first, end;
    _Atomic uint64_t   sent;
    unsigned           nth;
    double             at; /* seconds */
    int                fd; /* private, as all below */
    struct test_server *server;
};

/* How it answers; false: as a good server does. */
typedef bool test_how_fn(struct test_ask *a);

/* Ends at exit. Files by path; the folder's files, and those in its folders, under a prefix. */
struct test_server *test_server(test_how_fn *how);
void                test_server_how(struct test_server *s, test_how_fn *how);
/* Until all connections are closed, so that what answers were made of may go. */
void                test_server_wait(struct test_server *s);
void                test_server_file(struct test_server *s, const char *path, const void *bytes, size_t n);
void                test_server_folder(struct test_server *s, const char *prefix, const char *folder);
const char         *test_server_root(const struct test_server *s); /* "http://127.0.0.1:4711" */

/* What was asked so far, of all paths or one; forgets it. */
size_t   test_server_asks(struct test_server *s, const char *path);
struct test_ask *test_server_ask(struct test_server *s, const char *path, size_t i);
uint64_t test_server_sent(struct test_server *s, const char *path);
unsigned test_server_connections(struct test_server *s);
void     test_server_forget(struct test_server *s);

/* For a test_how_fn. headers: lines that end in \r\n. promised: what Content-Length says, UINT64_MAX: it does not stand there, and the
 * body ends with the connection. */
bool test_give(struct test_ask *a, int status, const char *headers, const void *body, size_t n, uint64_t promised);
bool test_give_text(struct test_ask *a, int status, const char *headers, const char *body);

/* The file as a good server gives it, with another tag, or "" for none; bytes beyond what it has are zeros. */
bool test_give_file(struct test_ask *a, const char *etag, bool ranges, size_t longer);

/* Gives at most so many bytes of the body, then ends the connection. */
bool test_give_cut(struct test_ask *a, size_t most);

#endif
