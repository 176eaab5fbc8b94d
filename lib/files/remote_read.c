/* One read of a remote file: answers are held against what was asked, refusals told or waited out, connections that end taken up again. */
#include "files/remote_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST_TRIES    5                     /* after the first, with nothing of note gained between them */
#define MOST_STALLS   1
#define GAIN          ((uint64_t)1 << 20)   /* bytes that make a download's tries count anew */
#define LEAST_PART    ((uint64_t)64 << 10)  /* bytes of an answer that ends before what was asked for does: with less a server is toying */
#define FIRST_WAIT    0.25                  /* seconds before the second try; each further wait is twice the one before */
#define MOST_WAIT     30.0                  /* however long Retry-After asks for */

typedef unsigned long long ull;

/* ---- one answer ----------------------------------------------------------------------------------------------------- */

static bool refuse(struct apr_reading *g, enum apr_code code, const char *text)
{
    apr_fail(g->e, code, APR_NOWHERE, "%s", text);
    g->failed = true;
    return false;
}

static bool changed(struct apr_reading *g) { return refuse(g, APR_EIO, "the file changed on the server while it was read: begin again"); }

/* Is it another file than the one that is known, by its tag, or by its date where a tag is not there to tell? */
static bool other_file(const struct apr_remote_file *f, const struct apr_http_answer *a)
{
    const bool tags = f->etag[0] != 0 && a->etag[0] != 0, dates = f->modified[0] != 0 && a->modified[0] != 0;
    return tags ? strcmp(f->etag, a->etag) != 0 : dates && strcmp(f->modified, a->modified) != 0;
}

/* 206: the range that was asked for, or the beginning of it. */
static bool check_part(struct apr_reading *g, const struct apr_http_answer *a)
{
    struct apr_remote_file *const f = g->f;
    if (!a->ranged || a->range.first != g->at || a->range.end > g->end || a->range.end == 0)
        return refuse(g, APR_EIO, "the server answers a request for a range with another one");
    if (a->range.total == APR_NOWHERE && f->size == APR_NOWHERE)
        return refuse(g, APR_EIO, "the server does not say how long the file is");
    if (a->length != APR_NOWHERE && a->length != a->range.end - a->range.first)
        return refuse(g, APR_EIO, "the server promises a range and a body of another length");
    if (f->size != APR_NOWHERE && a->range.total != APR_NOWHERE && f->size != a->range.total) {
        apr_fail(g->e, APR_EIO, APR_NOWHERE, "the file changed on the server while it was read: its length was %llu, now it is %llu",
                 (ull)f->size, (ull)a->range.total);
        g->failed = true;
        return false;
    }
    if (f->size == APR_NOWHERE)
        f->size = a->range.total;
    g->end = apr_min(g->end, f->size);
    return true;
}

/* 200: all of the file, though a range was asked for. Good enough where all of it is wanted, or it is no longer than what was. */
static bool check_all(struct apr_reading *g, const struct apr_http_answer *a)
{
    struct apr_remote_file *const f = g->f;
    if ((g->bound && strcmp(f->etag, a->etag) != 0) || (f->size != APR_NOWHERE && a->length != APR_NOWHERE && f->size != a->length))
        return changed(g);
    if (!g->whole && a->length != APR_NOWHERE && a->length > g->most) {
        apr_fail(g->e, APR_EIO, APR_NOWHERE,
                 "the server ignores range requests, so all %llu bytes would be fetched: --download does that, or curl -O", (ull)a->length);
        g->failed = true;
        return false;
    }
    if (g->whole && !g->download && f->r->o.begin != NULL)
        f->r->o.begin(f->r->o.ctx, a->length == APR_NOWHERE ? 0 : a->length);
    g->download |= g->whole;
    f->ranges_ignored = true;
    if (a->length != APR_NOWHERE)
        f->size = a->length;
    g->at = f->base = 0;
    g->end = f->size;
    return true;
}

static bool check_answer(struct apr_reading *g, const struct apr_http_answer *a)
{
    if (a->encoded)
        return refuse(g, APR_EIO, "the server packs what it sends, though nobody asked for that");
    if (other_file(g->f, a))
        return changed(g);
    if (!(a->status == 206 ? check_part(g, a) : check_all(g, a)))
        return false;
    if (a->etag[0] != 0)
        memcpy(g->f->etag, a->etag, sizeof g->f->etag);
    if (a->modified[0] != 0)
        memcpy(g->f->modified, a->modified, sizeof g->f->modified);
    return true;
}

bool apr_remote_spool(struct apr_reading *g, const unsigned char *at, size_t n)
{
    while (n > 0) {
        const ssize_t put = pwrite(g->f->spool, at, n, (off_t)(g->at - g->f->base));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            apr_fail(g->e, APR_EIO, APR_NOWHERE, "cannot write to a temporary file: %s", strerror(put < 0 ? errno : EIO));
            g->failed = true;
            return false;
        }
        at += put;
        n -= (size_t)put;
        g->at += (uint64_t)put;
    }
    return true;
}

static bool take(void *ctx, const struct apr_http_answer *a, const void *bytes, size_t n)
{
    struct apr_reading *const g = ctx;
    if (!g->begun && !check_answer(g, a))
        return false;
    g->begun = true;
    if (n > g->end - g->at)
        return refuse(g, APR_EIO, "the server sends more than it promised");
    if (g->end == APR_NOWHERE && !g->whole && n > g->most - apr_min(g->most, g->at))
        return refuse(g, APR_EIO, "the server ignores range requests and does not say how long the file is: --download fetches it, or "
                      "curl -O");
    if (!apr_remote_spool(g, bytes, n))
        return false;
    if (g->download && g->f->r->o.add != NULL)
        g->f->r->o.add(g->f->r->o.ctx, n);
    return true;
}

/* ---- an answer that is none ----------------------------------------------------------------------------------------- */

static enum apr_code no_access(const struct apr_remote_file *f, const struct apr_http_answer *a, struct apr_error *e)
{
    const struct apr_remote *const r = f->r;
    const char *const what = a->status == 401 ? "401, unauthorized" : "403, forbidden";
    if (a->authorized)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "%s: the token of %s is not one that may read it%s", what, r->token_from,
                        a->status == 403 ? ", or its terms are still to be accepted on the model's page" : "");
    if (apr_same_origin(f->url, r->endpoint))
        return apr_fail(e, APR_EIO, APR_NOWHERE, "%s: it is gated or private, or is not there; a token goes into HF_TOKEN or %s", what,
                        r->token_place);
    return apr_fail(e, APR_EIO, APR_NOWHERE, "%s: a token, from HF_TOKEN or %s, is sent to HF_ENDPOINT alone, which is %s", what,
                    r->token_place, r->endpoint);
}

static bool comes_back(long status) { return status == 429 || (status >= 500 && status < 600); }

static enum apr_code no_answer(const struct apr_remote_file *f, const struct apr_http_answer *a, struct apr_error *e)
{
    switch (a->status) {
    case 401:
    case 403:
        return no_access(f, a, e);
    case 404:
    case 410:
        return apr_fail(e, APR_EIO, APR_NOWHERE, "%ld, not found on the server", a->status);
    case 412:
    case 416:
        return apr_fail(e, APR_EIO, APR_NOWHERE, "the file changed on the server while it was read: it answers %ld", a->status);
    case 429:
        return apr_fail(e, APR_EIO, APR_NOWHERE, "429, too many requests, also after %d more tries: wait, or give a token in HF_TOKEN",
                        MOST_TRIES);
    default:
        if (comes_back(a->status))
            return apr_fail(e, APR_EIO, APR_NOWHERE, "the server fails with %ld, also after %d more tries", a->status, MOST_TRIES);
        return apr_fail(e, APR_EIO, APR_NOWHERE, "the server answers %ld, which is no file", a->status);
    }
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static void wait_before(unsigned try, uint64_t asked)
{
    double seconds = FIRST_WAIT;
    for (unsigned i = 0; i < try; i++)
        seconds *= 2;
    if (seconds < (double)asked)
        seconds = (double)asked < MOST_WAIT ? (double)asked : MOST_WAIT;
    struct timespec left = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* One request for what the reading still lacks, to where a redirect led last time if there was one. */
static enum apr_http_end ask(struct apr_reading *g, const char *none_match, struct apr_http_answer *a)
{
    struct apr_remote_file *const f = g->f;
    g->bound = g->at > 0 || f->size != APR_NOWHERE ? f->etag[0] == '"' : false;
    g->begun = false;
    struct apr_http_ask q = { .url = f->direct != NULL ? f->direct : f->url, .trusted = f->direct == NULL || f->direct_trusted,
                              .none_match = none_match, .if_range = g->bound ? f->etag : NULL, .first = g->at,
                              .end = g->end == APR_NOWHERE ? g->at + APR_FIRST_READ : g->end, .take = take, .ctx = g };
    enum apr_http_end end = apr_http_get(f->r->http, &q, a, g->e);
    if (f->direct != NULL && end == APR_HTTP_WHOLE && a->status >= 400 && !comes_back(a->status)) { /* a signed address that ran out */
        free(f->direct);
        f->direct = NULL;
        apr_http_answer_free(a);
        q.url = f->url;
        q.trusted = true;
        end = apr_http_get(f->r->http, &q, a, g->e);
    }
    return end == APR_HTTP_CUT && a->status >= 300 ? APR_HTTP_WHOLE : end; /* of a refusal the words are no matter */
}

/* Later requests go where the redirects have led. */
static void remember(struct apr_remote_file *f, struct apr_http_answer *a)
{
    if (strcmp(a->url, f->url) == 0 || f->direct != NULL)
        return;
    f->direct = a->url;
    f->direct_trusted = a->trusted;
    a->url = NULL;
}

/* What the tries of one reading have come to. */
struct tries {
    unsigned n, stalls;
    uint64_t from; /* where it was when n was 0 */
};

/* Is there to be another try? */
static bool again(struct tries *t, const struct apr_reading *g, enum apr_http_end end, const struct apr_http_answer *a)
{
    const bool cut = end == APR_HTTP_CUT || end == APR_HTTP_STALLED;
    if (g->failed || end == APR_HTTP_FAILED || end == APR_HTTP_STOPPED || (!cut && !comes_back(a->status)))
        return false;
    if (g->download && g->at >= t->from + GAIN)
        *t = (struct tries){ .from = g->at };
    if (t->n == MOST_TRIES || (end == APR_HTTP_STALLED && t->stalls++ == MOST_STALLS))
        return false;
    wait_before(t->n++, cut ? 0 : a->wait);
    return true;
}

/* Is the reading done with this answer, in which case *code says how? */
static bool settle(struct apr_reading *g, enum apr_http_end end, struct apr_http_answer *a, enum apr_code *code)
{
    const bool body = a->status == 200 || a->status == 206;
    *code = APR_OK;
    if (end == APR_HTTP_WHOLE && body && !g->begun && !check_answer(g, a)) /* an empty body */
        *code = g->e->code;
    else if (end == APR_HTTP_WHOLE && body && g->end == APR_NOWHERE)
        g->f->size = g->end = g->at;
    else if (g->failed)
        *code = g->e->code;
    return *code != APR_OK || (end == APR_HTTP_WHOLE && body && g->at >= g->end);
}

enum apr_code apr_remote_read(struct apr_reading *g, const char *none_match, long *status)
{
    struct tries t = { .from = g->at };
    for (;;) {
        struct apr_http_answer a;
        const uint64_t before = g->at;
        enum apr_code code;
        const enum apr_http_end end = ask(g, none_match, &a);
        *status = a.status;
        const bool body = a.status == 200 || a.status == 206;
        const bool done = settle(g, end, &a, &code), part = a.status == 206 && end == APR_HTTP_WHOLE;
        const bool more = !done && part && g->at - before >= LEAST_PART;
        if (end != APR_HTTP_FAILED && body && !g->failed)
            remember(g->f, &a);
        if (g->f->ranges_ignored && !done && a.status != 206)
            g->at = 0; /* the whole comes again */
        const bool go_on = !done && (more || again(&t, g, end, &a));
        if (!done && !go_on && code == APR_OK)
            code = end == APR_HTTP_WHOLE ? (body ? apr_fail(g->e, APR_EIO, APR_NOWHERE, "the server sends fewer bytes than it promised")
                                                 : no_answer(g->f, &a, g->e))
                                         : g->e->code;
        apr_http_answer_free(&a);
        if (!go_on)
            return code;
    }
}
