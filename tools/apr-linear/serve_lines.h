/* serve's connections, and how long each may take. */
#ifndef APR_LINEAR_SERVE_LINES_H
#define APR_LINEAR_SERVE_LINES_H

#include <time.h>

#include "serve.h"

#define LINE_METHOD_BYTES 16u
#define LINE_URI_BYTES    512u /* of a request's path that the log shows */

/* Where a connection is. The time that counts is `since`. */
enum stage {
    IDLE,   /* since it was taken, or since its last answer */
    BEGUN,  /* something of the next request has come */
    HEAD,   /* the head has come, the answer has not gone */
    CUT,    /* it was told to go */
};

/* One connection, of the thread that MHD answers it on; what is atomic is looked at from outside, `ended` only there. */
struct line {
    struct line      *before, *after;
    int               socket;
    bool              crowded, refused, early, whole, sent, counted;
    _Atomic bool      answered; /* a request before this one */
    unsigned          ended;    /* looks since nothing more could come */
    _Atomic unsigned  stage;
    _Atomic uint64_t  since; /* nanoseconds */
    uint64_t          head_at;
    struct request    asked;
    struct reply      reply;
    unsigned char    *body;    /* n bytes, with room for more */
    size_t            n, room;
    char              method[LINE_METHOD_BYTES], uri[LINE_URI_BYTES];
};

struct lines {
    pthread_mutex_t lock; /* of the list */
    struct line    *first;
    size_t          n;
    uint64_t        most; /* above it they are crowded */
};

void lines_begin(struct lines *all, uint64_t most);
void lines_end(struct lines *all);

/* A new connection; NULL without memory. Any thread. */
struct line *line_take(struct lines *all, int socket);
/* Frees it, before its socket is closed. */
void line_drop(struct lines *all, struct line *l);

/* Does the client still send what nobody will read? */
bool line_is_unread(const struct line *l);

/* Cuts off those whose time is up: `timeout` seconds for a request; a minute, or the timeout, without one. */
void lines_look(struct lines *all, uint64_t now, double timeout);

/* Ends those that wait for no answer; how many there are still. A request that is on its way, or was read this moment, is answered. */
size_t lines_end_idle(struct lines *all, uint64_t now);

/* Nanoseconds of a clock that is never set. */
static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
