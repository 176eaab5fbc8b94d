#include "serve_http.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "serve_late.h"
#include "serve_lines.h"
#include "serve_log.h"
#include "serve_mhd.h"

#define HEAD_BYTES   8192u /* of memory that a connection has for a request's head; 1,000 connections shall take less than 20 MB */
#define KEPT_BYTES   1024u /* a body's buffer is kept from one request to the next up to that size */
#define LATE_SECONDS 10.0  /* that a client may go on sending after its connection was closed */
#define LOOK_NS      50000000 /* between two looks at all connections */

struct http {
    struct server      *s;
    struct http_options o;
    struct MHD_Daemon  *daemon;
    struct lines        lines;
    uint64_t            looked; /* when all lines were looked at */
    struct lates        late;
};

/* ---- connections ---------------------------------------------------------------------------------------------------- */

/* Before its socket is closed, so that none that is on the list has another's. */
static void drop_line(struct http *h, struct line *l)
{
    if (l == NULL)
        return;
    if (line_is_unread(l))
        late_add(&h->late, l->socket, now_ns() + (uint64_t)(fmin(h->o.timeout, LATE_SECONDS) * 1e9));
    line_drop(&h->lines, l);
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **line, enum MHD_ConnectionNotificationCode what)
{
    struct http *const h = ctx;
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        *line = line_take(&h->lines, mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    else
        drop_line(h, *line);
}

static struct line *line_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *const info = mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static void *on_uri(void *ctx, const char *uri, struct MHD_Connection *connection)
{
    struct line *const l = line_of(connection);
    (void)ctx;
    if (l != NULL) {
        const size_t n = strnlen(uri, LINE_URI_BYTES - 1);
        l->head_at = now_ns();
        memcpy(l->uri, uri, n);
        l->uri[n] = 0;
    }
    return NULL;
}

/* A length that is no number has been refused before. Of two that differ MHD takes the first, and what is not chunked for endless: who
 * stands between may have read it otherwise, and then takes the rest of the body for a request. */
static void take_length(struct request *q, bool *chunked, const char *length)
{
    const uint64_t n = strtoull(length, NULL, 10);
    q->unclear |= *chunked || (q->has_length && n != q->length);
    q->has_length = true;
    q->length = n;
}

static void take_transfer(struct request *q, bool *chunked, const char *how)
{
    q->unclear |= q->has_length || strcasecmp(how, "chunked") != 0;
    q->has_length = *chunked = true;
}

struct head {
    struct request *q;
    bool            chunked;
};

static enum MHD_Result on_header(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct head *const h = ctx;
    (void)kind;
    if (value == NULL)
        return MHD_YES;
    if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0)
        take_length(h->q, &h->chunked, value);
    else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0)
        take_transfer(h->q, &h->chunked, value);
    else if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_TYPE) == 0)
        h->q->type = value;
    else if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_ENCODING) == 0)
        h->q->coding = value;
    return MHD_YES;
}

/* As it is, or behind http://host. One with a NUL in it, which ends here what goes on, is none. */
static const char *path_of(const char *path, const char *uri)
{
    const char *const nul = strstr(uri, "%00");
    if (nul != NULL && nul < uri + strcspn(uri, "?"))
        return "";
    if (strncasecmp(path, "http://", 7) != 0)
        return path;
    path = strchr(path + 7, '/');
    return path == NULL ? "/" : path;
}

/* It lives as long as the request. */
static struct request request_of(struct MHD_Connection *connection, const struct line *l, const char *path, const char *method)
{
    struct request q = { .method = method, .path = path_of(path, l->uri), .crowded = l->crowded };
    struct head h = { .q = &q };
    mhd.MHD_get_connection_values(connection, MHD_HEADER_KIND, on_header, &h);
    return q;
}

/* Before the answer is on its way: who has it, and then asks for the counts, finds it among them. */
static void count_request(struct http *h, struct line *l, unsigned code)
{
    metrics_end_request(&h->s->metrics, l->reply.at, code, now_ns() - l->head_at);
    l->counted = true;
}

/* The text is the response's from here on. */
static enum MHD_Result send_reply(struct http *h, struct MHD_Connection *connection, struct line *l)
{
    struct reply *r = &l->reply;
    struct MHD_Response *response;
    if (r->text == NULL)
        return MHD_NO; /* no memory even to say so: the connection is closed */
    response = mhd.MHD_create_response_from_buffer(r->n, r->text, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        return MHD_NO;
    r->text = NULL;
    enum MHD_Result good = mhd.MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->type);
    if (r->allow != NULL)
        good &= mhd.MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, r->allow);
    if (r->closes)
        good &= mhd.MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (good == MHD_YES) {
        count_request(h, l, r->code);
        good = mhd.MHD_queue_response(connection, r->code, response);
    }
    mhd.MHD_destroy_response(response);
    l->sent = good == MHD_YES;
    return good;
}

/* What comes of a body that is longer than it may be is let go. */
static bool take_body(struct server *s, struct line *l, const char *bytes, size_t n)
{
    if (l->refused || !l->whole || n > s->most_body - l->n) {
        l->whole = false;
        return true;
    }
    if (n > l->room - l->n) {
        size_t room = l->room == 0 ? KEPT_BYTES : l->room;
        while (room - l->n < n)
            room *= 2;
        unsigned char *const more = realloc(l->body, room);
        if (more == NULL)
            return false;
        l->body = more;
        l->room = room;
    }
    memcpy(l->body + l->n, bytes, n);
    l->n += n;
    return true;
}

static enum MHD_Result begin_request(struct http *h, struct MHD_Connection *connection, struct line *l)
{
    const struct request *const q = &l->asked;
    bool at_once;
    l->head_at = now_ns();
    if (atomic_load(&l->stage) == IDLE)
        atomic_store(&l->since, l->head_at);
    atomic_store(&l->stage, HEAD);
    l->n = 0;
    l->whole = true;
    l->sent = l->counted = false;
    snprintf(l->method, sizeof l->method, "%s", q->method);
    metrics_begin_request(&h->s->metrics);
    l->refused = server_refuses(h->s, q, &l->reply, &at_once);
    l->early = l->refused && at_once && q->has_length;
    return l->refused && at_once ? send_reply(h, connection, l) : MHD_YES;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
                                  const char *upload, size_t *n, void **begun)
{
    struct http *const h = ctx;
    struct line *const l = line_of(connection);
    (void)version;
    if (l == NULL)
        return MHD_NO;
    if (*begun == NULL) {
        *begun = l;
        l->asked = request_of(connection, l, path, method);
        return begin_request(h, connection, l);
    }
    if (*n > 0) {
        const bool good = take_body(h->s, l, upload, *n);
        *n = 0;
        return good ? MHD_YES : MHD_NO;
    }
    if (!l->refused)
        server_answers(h->s, &l->asked, (struct apr_bytes){ l->body, l->n }, l->whole, &l->reply);
    return send_reply(h, connection, l);
}

/* What libmicrohttpd answered itself, 0 for nothing. */
static unsigned own_answer(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *const info = mhd.MHD_get_connection_info(connection, MHD_CONNECTION_INFO_HTTP_STATUS);
    return info == NULL ? 0 : info->http_status;
}

/* A request that did not get as far as here: its head is too long, or no HTTP behind its first line. */
static void count_foreign(struct http *h, struct MHD_Connection *connection)
{
    const unsigned code = own_answer(connection);
    struct line *const l = line_of(connection);
    if (l == NULL || code == 0)
        return;
    const uint64_t ns = now_ns() - l->head_at;
    metrics_begin_request(&h->s->metrics);
    metrics_end_request(&h->s->metrics, ON_NONE, code, ns);
    if (h->o.log)
        log_request("-", l->uri, code, 0, ns);
}

static void on_completed(void *ctx, struct MHD_Connection *connection, void **begun, enum MHD_RequestTerminationCode how)
{
    struct http *const h = ctx;
    struct line *const l = *begun;
    if (l == NULL) {
        count_foreign(h, connection);
        return;
    }
    const uint64_t now = now_ns();
    l->sent &= how == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (!l->counted)
        count_request(h, l, own_answer(connection));
    if (h->o.log)
        log_request(l->method, l->uri, l->sent ? l->reply.code : 0, l->sent && strcmp(l->method, "HEAD") != 0 ? l->reply.n : 0,
                    now - l->head_at);
    free(l->reply.text);
    l->reply = (struct reply){ 0 };
    if (l->room > KEPT_BYTES) {
        free(l->body);
        l->body = NULL;
        l->room = 0;
    }
    *begun = NULL;
    atomic_store(&l->answered, true);
    atomic_store(&l->since, now);
    atomic_store(&l->stage, IDLE);
}

/* ---- time ----------------------------------------------------------------------------------------------------------- */

bool http_look_round(struct http *h)
{
    const uint64_t now = now_ns();
    const bool soon = late_look(&h->late, now);
    if (now < h->looked + LOOK_NS)
        return soon;
    h->looked = now;
    lines_look(&h->lines, now, h->o.timeout);
    return soon;
}

void http_drain(struct http *h, double seconds)
{
    const uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    const MHD_socket listening = mhd.MHD_quiesce_daemon(h->daemon);
    if (listening != MHD_INVALID_SOCKET)
        close(listening);
    for (http_look_round(h); lines_end_idle(&h->lines, now_ns()) > 0 && now_ns() < end; http_look_round(h))
        nanosleep(&(struct timespec){ 0, LOOK_NS }, NULL);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

enum apr_code http_begin(struct http **out, struct server *s, const struct http_options *o, struct apr_error *e)
{
    struct http *const h = calloc(1, sizeof *h);
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_TURBO;
    const uint64_t most = (o->most_connections + o->spare) * o->threads; /* MHD deals them out to the threads, which do not come by turns */
    *out = h;
    if (h == NULL) {
        close(o->socket);
        return apr_no_memory(e);
    }
    h->s = s;
    h->o = *o;
    lines_begin(&h->lines, o->most_connections);
    late_begin(&h->late);
    h->daemon = mhd.MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, (MHD_socket)o->socket,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)apr_min(most, INT32_MAX),
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_URI_LOG_CALLBACK, on_uri, h,
                                 o->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, o->threads, MHD_OPTION_END);
    if (h->daemon != NULL)
        return APR_OK;
    close(o->socket);
    return apr_fail(e, APR_EIO, APR_NOWHERE, "the server does not start");
}

void http_end(struct http *h)
{
    if (h == NULL)
        return;
    if (h->daemon != NULL)
        mhd.MHD_stop_daemon(h->daemon);
    late_end(&h->late);
    lines_end(&h->lines);
    free(h);
}
