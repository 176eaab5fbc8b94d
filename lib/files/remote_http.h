/* One request for a range of bytes, by way of libcurl: its redirects followed, its headers read. Nothing is tried again here. */
#ifndef APR_REMOTE_HTTP_H
#define APR_REMOTE_HTTP_H

#include "files/address.h"

struct apr_http;

/* A session: one handle, which keeps its connections. token, or NULL, goes to the origin of `endpoint` (scheme, host, port) alone, and not
 * there either once a redirect has led elsewhere. Both are copied. Ends with apr_http_free; NULL is nothing. */
APR_MUST_CHECK enum apr_code apr_http_new(struct apr_http **h, const char *endpoint, const char *token, struct apr_error *e);
void apr_http_free(struct apr_http *h);

/* What came back, of the last request of a chain of redirects.
 *   length      what Content-Length says, APR_NOWHERE: nothing
 *   ranged      there is a Content-Range that can be read, and it is `range`
 *   etag        with its quotes; "" for none, one that is too long, or one that holds the token
 *   modified    what Last-Modified says, as it is; "" for nothing, or what is too long
 *   wait        seconds that Retry-After asks for, 0 when it asks for none or by a date
 *   encoded     the body is packed in a way nobody asked for
 *   authorized  the token went along
 *   url         where it came from; trusted: no redirect has led away from where the chain began. Frees with apr_http_answer_free */
struct apr_http_answer {
    long                     status;
    uint64_t                 length, wait;
    bool                     ranged, encoded, authorized, trusted;
    struct apr_content_range range;
    char                     etag[256], modified[40];
    char                    *url;
};
void apr_http_answer_free(struct apr_http_answer *a);

/* Takes n bytes of the body of a 200 or 206; false: no more of it, please. */
typedef bool apr_http_take_fn(void *ctx, const struct apr_http_answer *a, const void *bytes, size_t n);

/* Bytes [first, end) of url. trusted: it is the user's own address, or was found from there without leaving its origin.
 *   none_match, if_range  ETags, or NULL */
struct apr_http_ask {
    const char       *url, *none_match, *if_range;
    bool              trusted;
    uint64_t          first, end;
    apr_http_take_fn *take;
    void             *ctx;
};

/* WHOLE    an answer came to its end, whatever its status
 * STOPPED  `take` wanted no more
 * CUT, STALLED  the connection ended, or went silent, before the answer did: what came is good. e says how
 * FAILED   there will be no answer: e says why */
enum apr_http_end { APR_HTTP_WHOLE, APR_HTTP_STOPPED, APR_HTTP_CUT, APR_HTTP_STALLED, APR_HTTP_FAILED };

enum apr_http_end apr_http_get(struct apr_http *h, const struct apr_http_ask *ask, struct apr_http_answer *a, struct apr_error *e);

/* Bytes of bodies so far, of all requests. */
uint64_t apr_http_fetched(const struct apr_http *h);

#endif
