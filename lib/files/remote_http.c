#include "files/remote_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "files/remote_curl.h"

#define MOST_REDIRECTS 10
#define MOST_HEADERS   (256u << 10) /* bytes of one answer's */
#define MOST_ERROR     (64u << 10)  /* bytes of the body of an answer that is none: read so that the connection lives on */
#define CONNECT_WAIT   20L          /* seconds */
#define SLOWEST        64L          /* bytes a second; slower for so many seconds is a stall: */
#define STALL          30L
#define BUFFER         (256L << 10)

struct apr_http {
    CURL    *curl;
    char    *endpoint, *token;
    uint64_t fetched;
    char     why[CURL_ERROR_SIZE];
};

/* One request under way. */
struct request {
    struct apr_http           *h;
    const struct apr_http_ask *ask;
    struct apr_http_answer    *a;
    size_t                     headers, body;
    bool                       flooded, stopped;
    char                      *location; /* where a redirect leads, as it says it; free */
};

enum apr_code apr_http_new(struct apr_http **out, const char *endpoint, const char *token, struct apr_error *e)
{
    *out = NULL;
    APR_TRY(apr_curl_load(e));
    struct apr_http *const h = calloc(1, sizeof *h);
    if (h == NULL)
        return apr_no_memory(e);
    h->curl = apr_curl.curl_easy_init();
    h->endpoint = strdup(endpoint);
    h->token = token == NULL ? NULL : strdup(token);
    if (h->curl == NULL || h->endpoint == NULL || (token != NULL && h->token == NULL)) {
        apr_http_free(h);
        return apr_no_memory(e);
    }
    *out = h;
    return APR_OK;
}

void apr_http_free(struct apr_http *h)
{
    if (h == NULL)
        return;
    if (h->curl != NULL)
        apr_curl.curl_easy_cleanup(h->curl);
    if (h->token != NULL)
        explicit_bzero(h->token, strlen(h->token));
    free(h->token);
    free(h->endpoint);
    free(h);
}

uint64_t apr_http_fetched(const struct apr_http *h) { return h->fetched; }

void apr_http_answer_free(struct apr_http_answer *a)
{
    free(a->url);
    a->url = NULL;
}

/* ---- headers -------------------------------------------------------------------------------------------------------- */

static struct apr_bytes trimmed(struct apr_bytes s)
{
    while (s.n > 0 && (s.at[0] == ' ' || s.at[0] == '\t'))
        s = (struct apr_bytes){ s.at + 1, s.n - 1 };
    while (s.n > 0 && (s.at[s.n - 1] == ' ' || s.at[s.n - 1] == '\t' || s.at[s.n - 1] == '\r' || s.at[s.n - 1] == '\n'))
        s.n--;
    return s;
}

/* A tag is printable, and holds no token, as that of a server that sends back what it was sent. */
static void take_etag(const struct apr_http *h, struct apr_http_answer *a, struct apr_bytes text)
{
    a->etag[0] = 0;
    if (text.n >= sizeof a->etag || (h->token != NULL && memmem(text.at, text.n, h->token, strlen(h->token)) != NULL))
        return;
    for (size_t i = 0; i < text.n; i++)
        if (text.at[i] <= ' ' || text.at[i] >= 0x7F)
            return;
    memcpy(a->etag, text.at, text.n);
    a->etag[text.n] = 0;
}

/* A date is only ever compared. */
static void take_modified(struct apr_http_answer *a, struct apr_bytes text)
{
    const size_t n = text.n < sizeof a->modified ? text.n : 0;
    memcpy(a->modified, text.at, n);
    a->modified[n] = 0;
}

static bool is_called(struct apr_bytes name, const char *word)
{
    return name.n == strlen(word) && strncasecmp((const char *)name.at, word, name.n) == 0;
}

static void take_header(struct request *q, struct apr_bytes name, struct apr_bytes text)
{
    struct apr_http_answer *const a = q->a;
    uint64_t n;
    if (is_called(name, "content-length"))
        a->length = apr_count_read(text, &n) ? n : APR_NOWHERE;
    else if (is_called(name, "content-range"))
        a->ranged = apr_content_range_read(text, &a->range);
    else if (is_called(name, "content-encoding"))
        a->encoded = text.n > 0 && !is_called(text, "identity");
    else if (is_called(name, "retry-after"))
        a->wait = apr_count_read(text, &n) ? n : 0;
    else if (is_called(name, "etag"))
        take_etag(q->h, a, text);
    else if (is_called(name, "last-modified"))
        take_modified(a, text);
    else if (is_called(name, "location") && q->location == NULL)
        q->location = strndup((const char *)text.at, text.n);
}

/* Each answer begins with a line of its own; one of 100 or so may come before the one that counts. */
static void begin_answer(struct request *q)
{
    char *const url = q->a->url;
    const bool authorized = q->a->authorized, trusted = q->a->trusted;
    *q->a = (struct apr_http_answer){ .length = APR_NOWHERE, .url = url, .authorized = authorized, .trusted = trusted };
    free(q->location);
    q->location = NULL;
}

static size_t on_header(char *at, size_t one, size_t n, void *ctx)
{
    struct request *const q = ctx;
    const struct apr_bytes line = { (const unsigned char *)at, one * n };
    const unsigned char *const colon = memchr(line.at, ':', line.n);
    q->headers += line.n;
    q->flooded |= q->headers > MOST_HEADERS;
    if (line.n >= 5 && memcmp(line.at, "HTTP/", 5) == 0)
        begin_answer(q);
    else if (colon != NULL)
        take_header(q, trimmed((struct apr_bytes){ line.at, (size_t)(colon - line.at) }),
                    trimmed((struct apr_bytes){ colon + 1, line.n - (size_t)(colon - line.at) - 1 }));
    return q->flooded ? 0 : line.n;
}

/* ---- one request ---------------------------------------------------------------------------------------------------- */

static size_t on_body(char *at, size_t one, size_t n, void *ctx)
{
    struct request *const q = ctx;
    n *= one;
    q->h->fetched += n;
    q->body += n;
    if (q->a->status == 0)
        apr_curl.curl_easy_getinfo(q->h->curl, CURLINFO_RESPONSE_CODE, &q->a->status);
    const bool wanted = q->a->status == 200 || q->a->status == 206;
    q->stopped |= wanted ? !q->ask->take(q->ask->ctx, q->a, at, n) : q->body > MOST_ERROR;
    return q->stopped ? 0 : n;
}

/* Adds "name: value"; false when memory is out. */
static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    char *line;
    if (asprintf(&line, "%s: %s", name, value) < 0)
        return false;
    struct curl_slist *const longer = apr_curl.curl_slist_append(*list, line);
    explicit_bzero(line, strlen(line));
    free(line);
    *list = longer == NULL ? *list : longer;
    return longer != NULL;
}

static bool set_headers(struct request *q, struct curl_slist **list)
{
    const struct apr_http_ask *const ask = q->ask;
    struct apr_http *const h = q->h;
    char range[64], bearer[1200];
    bool set = true;
    snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)ask->first, (unsigned long long)ask->end - 1);
    set &= add_header(list, "Range", range);
    if (ask->none_match != NULL)
        set &= add_header(list, "If-None-Match", ask->none_match);
    if (ask->if_range != NULL)
        set &= add_header(list, "If-Range", ask->if_range);
    q->a->authorized = h->token != NULL && q->a->trusted && apr_same_origin(q->a->url, h->endpoint);
    if (q->a->authorized) {
        snprintf(bearer, sizeof bearer, "Bearer %s", h->token);
        set &= add_header(list, "Authorization", bearer);
        explicit_bzero(bearer, sizeof bearer);
    }
    return set;
}

static void set_options(struct request *q, struct curl_slist *headers)
{
    CURL *const c = q->h->curl;
    apr_curl.curl_easy_reset(c);
    apr_curl.curl_easy_setopt(c, CURLOPT_URL, q->a->url);
    apr_curl.curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    apr_curl.curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    apr_curl.curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    apr_curl.curl_easy_setopt(c, CURLOPT_USERAGENT, "apr-tools");
    apr_curl.curl_easy_setopt(c, CURLOPT_ERRORBUFFER, q->h->why);
    apr_curl.curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    apr_curl.curl_easy_setopt(c, CURLOPT_HEADERDATA, q);
    apr_curl.curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    apr_curl.curl_easy_setopt(c, CURLOPT_WRITEDATA, q);
    apr_curl.curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_WAIT);
    apr_curl.curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, SLOWEST);
    apr_curl.curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL);
    apr_curl.curl_easy_setopt(c, CURLOPT_BUFFERSIZE, BUFFER);
}

static enum apr_http_end fail(struct apr_error *e, const char *format, const char *why)
{
    apr_fail(e, APR_EIO, APR_NOWHERE, format, why);
    return APR_HTTP_FAILED;
}

/* What libcurl's verdict means. */
static enum apr_http_end judge(struct request *q, CURLcode code, struct apr_error *e)
{
    const char *const why = q->h->why[0] != 0 ? q->h->why : apr_curl.curl_easy_strerror(code);
    if (q->flooded)
        return fail(e, "the server sends more than %s of headers", "256 KiB");
    if (q->stopped)
        return q->a->status == 200 || q->a->status == 206 ? APR_HTTP_STOPPED : APR_HTTP_WHOLE;
    switch (code) {
    case CURLE_OK:
        return APR_HTTP_WHOLE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
        return fail(e, "the server's certificate does not hold: %s", why);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
        return fail(e, "cannot connect: %s", why);
    case CURLE_OUT_OF_MEMORY: /* also its word for a line that is longer than it takes */
        return fail(e, "%s", "a line of the server's headers is too long, or memory is out");
    case CURLE_OPERATION_TIMEDOUT:
        fail(e, "the server is silent: %s", why);
        return APR_HTTP_STALLED;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        fail(e, "the connection ended early: %s", why);
        return APR_HTTP_CUT;
    default:
        return fail(e, "%s", why);
    }
}

static enum apr_http_end perform(struct request *q, struct apr_error *e)
{
    struct curl_slist *headers = NULL;
    enum apr_http_end end = APR_HTTP_FAILED;
    q->headers = q->body = 0;
    q->h->why[0] = 0;
    q->a->status = 0;
    if (set_headers(q, &headers)) {
        set_options(q, headers);
        const CURLcode code = apr_curl.curl_easy_perform(q->h->curl);
        apr_curl.curl_easy_getinfo(q->h->curl, CURLINFO_RESPONSE_CODE, &q->a->status);
        end = judge(q, code, e);
    } else {
        apr_no_memory(e);
    }
    apr_curl.curl_slist_free_all(headers);
    return end;
}

/* ---- redirects ------------------------------------------------------------------------------------------------------ */

static bool is_redirect(long status) { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }

/* `location` as seen from url; NULL when it is none. The caller frees it. */
static char *resolve(const char *url, const char *location)
{
    CURLU *const u = apr_curl.curl_url();
    char *found = NULL, *own = NULL;
    if (u != NULL && apr_curl.curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
        apr_curl.curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK &&
        apr_curl.curl_url_get(u, CURLUPART_URL, &found, 0) == CURLUE_OK)
        own = strdup(found);
    if (found != NULL)
        apr_curl.curl_free(found);
    if (u != NULL)
        apr_curl.curl_url_cleanup(u);
    return own;
}

static enum apr_http_end follow(struct request *q, struct apr_error *e)
{
    struct apr_http_answer *const a = q->a;
    char *const next = q->location == NULL ? NULL : resolve(a->url, q->location);
    const size_t origin = next == NULL ? 0 : apr_origin_length(next);
    const char *why = NULL;
    if (origin == 0)
        why = "to nowhere";
    else if (memchr(next, '@', origin) != NULL)
        why = "to an address with a name or password in it";
    else if (strncasecmp(a->url, "https:", 6) == 0 && strncasecmp(next, "https:", 6) != 0)
        why = "from https to http, which anybody could read and change";
    if (why != NULL) {
        free(next);
        return fail(e, "the server redirects %s", why);
    }
    a->trusted &= apr_same_origin(a->url, next);
    free(a->url);
    a->url = next;
    return APR_HTTP_WHOLE;
}

enum apr_http_end apr_http_get(struct apr_http *h, const struct apr_http_ask *ask, struct apr_http_answer *a, struct apr_error *e)
{
    struct request q = { .h = h, .ask = ask, .a = a };
    *a = (struct apr_http_answer){ .length = APR_NOWHERE, .trusted = ask->trusted, .url = strdup(ask->url) };
    if (a->url == NULL) {
        apr_no_memory(e);
        return APR_HTTP_FAILED;
    }
    enum apr_http_end end = perform(&q, e);
    unsigned led = 0;
    while (end == APR_HTTP_WHOLE && is_redirect(a->status) && led++ < MOST_REDIRECTS) {
        end = follow(&q, e);
        if (end == APR_HTTP_WHOLE)
            end = perform(&q, e);
    }
    free(q.location);
    return end == APR_HTTP_WHOLE && is_redirect(a->status) ? fail(e, "the server redirects more than %s times: a loop", "10") : end;
}
