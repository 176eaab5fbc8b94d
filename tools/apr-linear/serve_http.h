/* serve's sockets: requests in, replies out, and who is kept waiting. */
#ifndef APR_LINEAR_SERVE_HTTP_H
#define APR_LINEAR_SERVE_HTTP_H

#include "serve.h"

/* How it listens, set by the caller.
 *   socket   bound and listening; it is http_begin's from then on
 *   spare    connections above the limit, which are told so; further ones wait
 *   timeout  seconds that a request may take, from its first byte to the end of its answer
 *   log      a line a request on stderr */
struct http_options {
    int      socket;
    unsigned threads;
    uint64_t most_connections, spare;
    double   timeout;
    bool     log;
};

struct http;
APR_MUST_CHECK enum apr_code http_begin(struct http **h, struct server *s, const struct http_options *o, struct apr_error *e);

/* To be called several times a second: cuts off whom the time is up for. Shall it be called again within milliseconds? */
bool http_look_round(struct http *h);

/* Takes no more connections, closes those that wait for nothing, and lets the others have their answers, `seconds` at most. */
void http_drain(struct http *h, double seconds);

void http_end(struct http *h);

#endif
