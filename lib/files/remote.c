#include "files/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "files/address.h"
#include "files/remote_cache.h"
#include "files/remote_http.h"
#include "files/source.h"

#define FIRST_READ    ((uint64_t)1 << 20)
#define MOST_HEADER   ((uint64_t)256 << 20) /* bytes that a header may take */
#define PATIENT_READS 4                     /* of a header by its own word; from then on each read doubles what is there */
#define MOST_TRIES    5                     /* after the first, with nothing of note gained between them */
#define MOST_STALLS   1
#define LONGEST       ((uint64_t)1 << 46)   /* bytes that a file may have: half of what a process can address */
#define GAIN          ((uint64_t)1 << 20)   /* bytes that make a download's tries count anew */
#define FIRST_WAIT    0.25                  /* seconds before the second try; each further wait is twice the one before */
#define MOST_WAIT     30.0                  /* however long Retry-After asks for */

struct apr_remote {
    char                     *endpoint, *token, *token_from, *token_place, *cache;
    struct apr_remote_options o; /* its strings are those above */
    struct apr_http          *http;
};

struct part {
    uint64_t begin, end;
};

/* One file.
 *   path     as the user would know it
 *   url      what it stands for. direct: where a redirect led, which later requests ask first; or NULL
 *   etag     "" for none. It binds later reads unless it is weak (W/)
 *   size     of the whole; APR_NOWHERE until the server has said
 *   spool    of the read under way, or -1: an unlinked file, which begins with byte `base`
 *   tmpdir   of the run
 *   part     what is there: sorted, apart from each other
 *   keep     bytes from the start that are worth being cached, those that came from there not counted */
struct apr_remote_file {
    struct apr_remote *r;
    const char        *path;
    char              *url, *direct;
    bool               direct_trusted, ranges_ignored;
    char               etag[256];
    uint64_t           size, keep, cached, base;
    const char        *tmpdir;
    int                spool;
    unsigned           reads;
    struct part       *part;
    size_t             npart, part_room;
};

typedef unsigned long long ull;

/* ---- a session ------------------------------------------------------------------------------------------------------ */

static bool copy(char **to, const char *from)
{
    *to = from == NULL ? NULL : strdup(from);
    return from == NULL || *to != NULL;
}

enum apr_code apr_remote_new(struct apr_remote **out, const struct apr_remote_options *o, struct apr_error *e)
{
    struct apr_remote *const r = calloc(1, sizeof *r);
    *out = NULL;
    if (r == NULL)
        return apr_no_memory(e);
    r->o = *o;
    if (!copy(&r->endpoint, o->endpoint) || !copy(&r->token, o->token) || !copy(&r->token_from, o->token_from) ||
        !copy(&r->token_place, o->token_place) || !copy(&r->cache, o->cache)) {
        apr_remote_free(r);
        return apr_no_memory(e);
    }
    *out = r;
    return APR_OK;
}

void apr_remote_free(struct apr_remote *r)
{
    if (r == NULL)
        return;
    apr_http_free(r->http);
    if (r->token != NULL)
        explicit_bzero(r->token, strlen(r->token));
    free(r->endpoint);
    free(r->token);
    free(r->token_from);
    free(r->token_place);
    free(r->cache);
    free(r);
}

uint64_t apr_remote_fetched(const struct apr_remote *r) { return r == NULL || r->http == NULL ? 0 : apr_http_fetched(r->http); }

/* ---- what is there -------------------------------------------------------------------------------------------------- */

static uint64_t head_of(const struct apr_remote_file *f) { return f->npart > 0 && f->part[0].begin == 0 ? f->part[0].end : 0; }

/* The first bytes in [begin, end) that are not there; false when all are. */
static bool find_gap(const struct apr_remote_file *f, uint64_t begin, uint64_t end, struct part *gap)
{
    for (size_t i = 0; i < f->npart; i++) {
        if (f->part[i].end <= begin)
            continue;
        if (f->part[i].begin > begin) {
            end = apr_min(end, f->part[i].begin);
            break;
        }
        begin = f->part[i].end;
    }
    *gap = (struct part){ begin, end };
    return begin < end;
}

/* Notes that [begin, end) is there, which touches no other part or joins it. */
static enum apr_code add_part(struct apr_remote_file *f, uint64_t begin, uint64_t end, struct apr_error *e)
{
    size_t i = 0;
    while (i < f->npart && f->part[i].end < begin)
        i++;
    if (i < f->npart && f->part[i].begin <= end) {
        f->part[i].begin = apr_min(f->part[i].begin, begin);
        f->part[i].end = f->part[i].end > end ? f->part[i].end : end;
        if (i + 1 < f->npart && f->part[i + 1].begin <= f->part[i].end) {
            f->part[i].end = f->part[i + 1].end > f->part[i].end ? f->part[i + 1].end : f->part[i].end;
            memmove(&f->part[i + 1], &f->part[i + 2], (f->npart - i - 2) * sizeof *f->part);
            f->npart--;
        }
        return APR_OK;
    }
    struct part *const more = apr_grown(f->part, &f->part_room, f->npart, 4, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    f->part = more;
    memmove(&more[i + 1], &more[i], (f->npart - i) * sizeof *more);
    more[i] = (struct part){ begin, end };
    f->npart++;
    return APR_OK;
}

/* ---- one answer ----------------------------------------------------------------------------------------------------- */

/* A read under way.
 *   at, end   what is still to come; end APR_NOWHERE: all there is, of a server that does not say how much
 *   most      bytes that an answer without ranges may have, to be taken for the whole file; whole: any number, which is a download
 *   bound     If-Range went along
 *   begun     an answer was looked at, and found good
 *   e         what was found wrong with it */
struct reading {
    struct apr_remote_file *f;
    uint64_t                at, end, most;
    bool                    bound, begun, named, whole, download, failed;
    struct apr_error       *e;
};

static bool refuse(struct reading *g, enum apr_code code, const char *text)
{
    apr_fail(g->e, code, APR_NOWHERE, "%s", text);
    g->failed = true;
    return false;
}

static bool changed(struct reading *g) { return refuse(g, APR_EIO, "the file changed on the server while it was read: begin again"); }

/* Is the tag another than the one that is known? */
static bool other_tag(const struct apr_remote_file *f, const struct apr_http_answer *a)
{
    return f->etag[0] != 0 && a->etag[0] != 0 && strcmp(f->etag, a->etag) != 0;
}

/* 206: the range that was asked for, or the beginning of it. */
static bool check_part(struct reading *g, const struct apr_http_answer *a)
{
    struct apr_remote_file *const f = g->f;
    if (!a->ranged || a->range.first != g->at || a->range.end > g->end || a->range.end == 0)
        return refuse(g, APR_EIO, "the server answers a request for a range with another one");
    if (a->range.total == APR_NOWHERE && f->size == APR_NOWHERE)
        return refuse(g, APR_EIO, "the server does not say how long the file is");
    if (a->length != APR_NOWHERE && a->length != a->range.end - a->range.first)
        return refuse(g, APR_EIO, "the server promises a range and a body of another length");
    if (f->size != APR_NOWHERE && a->range.total != APR_NOWHERE && f->size != a->range.total) {
        apr_fail(g->e, APR_EIO, APR_NOWHERE, "the file changed on the server while it was read: its length was %llu, now it is %llu", (ull)f->size,
                 (ull)a->range.total);
        g->failed = true;
        return false;
    }
    if (f->size == APR_NOWHERE)
        f->size = a->range.total;
    g->end = apr_min(g->end, f->size);
    return true;
}

/* 200: all of the file, though a range was asked for. Good enough where all of it is wanted, or it is no longer than what was. */
static bool check_all(struct reading *g, const struct apr_http_answer *a)
{
    struct apr_remote_file *const f = g->f;
    if ((g->bound && strcmp(f->etag, a->etag) != 0) || (f->size != APR_NOWHERE && a->length != APR_NOWHERE && f->size != a->length))
        return changed(g);
    if (!g->whole && a->length != APR_NOWHERE && a->length > g->most) {
        apr_fail(g->e, APR_EIO, APR_NOWHERE, "the server ignores range requests, so all %llu bytes would be fetched: --download does that, or curl -O",
                 (ull)a->length);
        g->failed = true;
        return false;
    }
    if (g->whole && !g->download && f->r->o.begin != NULL)
        f->r->o.begin(f->r->o.ctx, a->length == APR_NOWHERE ? 0 : a->length);
    g->download |= g->whole;
    f->ranges_ignored = true;
    f->size = a->length;
    g->at = f->base = 0;
    g->end = a->length;
    return true;
}

static bool check_answer(struct reading *g, const struct apr_http_answer *a)
{
    if (a->encoded)
        return refuse(g, APR_EIO, "the server packs what it sends, though nobody asked for that");
    if (other_tag(g->f, a))
        return changed(g);
    if (!(a->status == 206 ? check_part(g, a) : check_all(g, a)))
        return false;
    memcpy(g->f->etag, a->etag[0] != 0 ? a->etag : g->f->etag, sizeof g->f->etag);
    return true;
}

static bool write_at(struct reading *g, const unsigned char *at, size_t n)
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
    struct reading *const g = ctx;
    if (!g->begun && !check_answer(g, a))
        return false;
    g->begun = true;
    if (n > g->end - g->at)
        return refuse(g, APR_EIO, "the server sends more than it promised");
    if (g->end == APR_NOWHERE && !g->whole && n > g->most - apr_min(g->most, g->at))
        return refuse(g, APR_EIO, "the server ignores range requests and does not say how long the file is: --download fetches it, or curl -O");
    if (!write_at(g, bytes, n))
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
        return apr_fail(e, APR_EIO, APR_NOWHERE, "%s: it is gated or private, or is not there; a token goes into HF_TOKEN or %s", what, r->token_place);
    return apr_fail(e, APR_EIO, APR_NOWHERE, "%s: a token, from HF_TOKEN or %s, is sent to HF_ENDPOINT alone, which is %s", what, r->token_place,
                    r->endpoint);
}

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
        return apr_fail(e, APR_EIO, APR_NOWHERE, "429, too many requests, also after %d more tries: wait, or give a token in HF_TOKEN", MOST_TRIES);
    default:
        if (a->status >= 500)
            return apr_fail(e, APR_EIO, APR_NOWHERE, "the server fails with %ld, also after %d more tries", a->status, MOST_TRIES);
        return apr_fail(e, APR_EIO, APR_NOWHERE, "the server answers %ld, which is no file", a->status);
    }
}

static bool comes_back(long status) { return status == 429 || status == 500 || status == 502 || status == 503 || status == 504; }

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
static enum apr_http_end ask(struct reading *g, const char *none_match, struct apr_http_answer *a)
{
    struct apr_remote_file *const f = g->f;
    g->bound = g->at > 0 || f->size != APR_NOWHERE ? f->etag[0] == '"' : false;
    g->begun = false;
    struct apr_http_ask q = { .url = f->direct != NULL ? f->direct : f->url, .trusted = f->direct == NULL || f->direct_trusted,
                              .none_match = none_match, .if_range = g->bound ? f->etag : NULL, .first = g->at,
                              .end = g->end == APR_NOWHERE ? g->at + FIRST_READ : g->end, .take = take, .ctx = g };
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
static bool again(struct tries *t, const struct reading *g, enum apr_http_end end, const struct apr_http_answer *a)
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
static bool settle(struct reading *g, enum apr_http_end end, struct apr_http_answer *a, enum apr_code *code)
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

/* Reads until all of it is there; *status is that of the last answer: 206 or 200, or with APR_OK what else `named` readers fail with: 304,
 * 404, 416 of an empty file. */
static enum apr_code read_all(struct reading *g, const char *none_match, long *status)
{
    struct tries t = { .from = g->at };
    for (;;) {
        struct apr_http_answer a;
        const uint64_t before = g->at;
        enum apr_code code;
        const enum apr_http_end end = ask(g, none_match, &a);
        *status = a.status;
        const bool body = a.status == 200 || a.status == 206;
        const bool done = settle(g, end, &a, &code), more = !done && end == APR_HTTP_WHOLE && body && g->at > before;
        if (end != APR_HTTP_FAILED && body && !g->failed)
            remember(g->f, &a);
        if (g->f->ranges_ignored && !done)
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

/* ---- ranges --------------------------------------------------------------------------------------------------------- */

/* A file for what a read from there on brings. */
static enum apr_code open_spool(struct apr_remote_file *f, uint64_t base, struct apr_error *e)
{
    f->base = base;
    f->spool = apr_temporary(&(struct apr_run){ .tmpdir = f->tmpdir }, e);
    return f->spool < 0 ? e->code : APR_OK;
}

/* What is mapped of it lives on. */
static void close_spool(struct apr_remote_file *f)
{
    if (f->spool >= 0)
        close(f->spool);
    f->spool = -1;
}

static enum apr_code take_over(struct apr_source *s, uint64_t begin, uint64_t end, struct apr_error *e)
{
    const uint64_t page = apr_source_page(), from = begin / page * page, to = end == s->map.n ? end : end / page * page;
    if (to <= from)
        return APR_OK;
    APR_TRY(apr_source_put(s, s->remote->spool, from - s->remote->base, from, to, e));
    return add_part(s->remote, from, to, e);
}

static enum apr_code read_gaps(struct apr_source *s, uint64_t begin, uint64_t end, bool download, struct apr_error *e)
{
    struct apr_remote_file *const f = s->remote;
    struct part gap;
    long status;
    while (find_gap(f, begin, end, &gap)) {
        struct reading g = { .f = f, .at = gap.begin, .end = gap.end, .whole = download, .download = download, .e = e };
        enum apr_code code = open_spool(f, gap.begin, e);
        if (code == APR_OK)
            code = read_all(&g, NULL, &status);
        if (code == APR_OK)
            code = take_over(s, f->ranges_ignored ? 0 : gap.begin, f->ranges_ignored ? s->map.n : gap.end, e);
        close_spool(f);
        if (code != APR_OK) {
            apr_error_in(e, f->path);
            return code;
        }
    }
    return APR_OK;
}

enum apr_code apr_remote_want(struct apr_source *s, uint64_t begin, uint64_t end, struct apr_error *e)
{
    const uint64_t page = apr_source_page();
    uint64_t to;
    if (!apr_round_up(end, page, &to) || to > s->map.n)
        to = s->map.n;
    return read_gaps(s, begin / page * page, to, false, e);
}

enum apr_code apr_remote_may_download(const struct apr_source *s, uint64_t bytes, struct apr_error *e)
{
    if (s->remote->r->o.download)
        return APR_OK;
    apr_fail(e, APR_EARG, APR_NOWHERE, "this takes all of its data, %llu bytes: --download fetches them", (ull)bytes);
    apr_error_in(e, s->path);
    return APR_EARG;
}

enum apr_code apr_remote_reach(struct apr_source *s, uint64_t n, struct apr_error *e)
{
    struct apr_remote_file *const f = s->remote;
    const uint64_t there = head_of(f);
    if (n <= there || there == s->map.n)
        return APR_OK;
    if (f->reads++ >= PATIENT_READS && n < 2 * there)
        n = 2 * there;
    n = apr_min(n, s->map.n);
    if (n > MOST_HEADER)
        APR_TRY(apr_remote_may_download(s, s->map.n, e));
    APR_TRY(apr_remote_want(s, 0, n, e));
    f->keep = head_of(f);
    return APR_OK;
}

uint64_t apr_remote_missing(const struct apr_source *s)
{
    uint64_t missing = s->map.n;
    for (size_t i = 0; i < s->remote->npart; i++)
        missing -= s->remote->part[i].end - s->remote->part[i].begin;
    return missing;
}

enum apr_code apr_remote_download(struct apr_source *s, uint64_t announced, struct apr_error *e)
{
    const struct apr_remote_options *const o = &s->remote->r->o;
    const uint64_t missing = apr_remote_missing(s);
    if (missing > 0)
        APR_TRY(apr_remote_may_download(s, s->map.n, e));
    if (missing > 0 && announced > 0 && o->begin != NULL)
        o->begin(o->ctx, announced);
    return read_gaps(s, 0, s->map.n, true, e);
}

struct apr_bytes apr_remote_head(const struct apr_source *s) { return (struct apr_bytes){ s->map.at, (size_t)head_of(s->remote) }; }

enum apr_code apr_remote_lost(const struct apr_source *s, struct apr_error *e)
{
    return apr_fail(e, APR_EARG, APR_NOWHERE, "this takes data behind its header, %zu bytes: --download fetches them", s->map.n);
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static void free_file(struct apr_remote_file *f)
{
    if (f == NULL)
        return;
    close_spool(f);
    free(f->url);
    free(f->direct);
    free(f->part);
    free(f);
}

void apr_remote_close(struct apr_source *s)
{
    struct apr_remote_file *const f = s->remote;
    const struct apr_remote *const r = f->r;
    const struct apr_bytes bytes = { s->map.at, (size_t)f->keep };
    const bool token = r->token != NULL && memmem(bytes.at, bytes.n, r->token, strlen(r->token)) != NULL;
    if (r->cache != NULL && f->keep > f->cached && f->etag[0] == '"' && !s->lost && !token)
        apr_cache_keep(r->cache, f->url, f->etag, f->size, bytes);
    free_file(f);
    s->remote = NULL;
}

static enum apr_code new_file(struct apr_remote_file **out, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct apr_remote *const session = r->remote;
    *out = NULL;
    if (session == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "is an address, and files behind one are not read here: fetch it first");
    if (session->http == NULL)
        APR_TRY(apr_http_new(&session->http, session->endpoint, session->token, e));
    struct apr_remote_file *const f = calloc(1, sizeof *f);
    if (f == NULL)
        return apr_no_memory(e);
    f->r = session;
    f->path = path;
    f->size = APR_NOWHERE;
    f->spool = -1;
    f->tmpdir = r->tmpdir;
    enum apr_code code = apr_address_url(&f->url, path, session->endpoint, e);
    if (code == APR_OK)
        code = open_spool(f, 0, e);
    if (code != APR_OK) {
        free_file(f);
        return code;
    }
    *out = f;
    return APR_OK;
}

/* What the server says is as it was. */
static enum apr_code from_cache(struct reading *g, const struct apr_cached *c)
{
    struct apr_remote_file *const f = g->f;
    f->size = c->size;
    f->keep = f->cached = c->bytes.n;
    snprintf(f->etag, sizeof f->etag, "%s", c->etag);
    g->at = 0;
    g->end = c->bytes.n;
    return write_at(g, c->bytes.at, c->bytes.n) ? APR_OK : g->e->code;
}

/* Stores of objects say 403 where they do not tell what they hold; the hub says it of what may not be read. */
static bool is_absent(const struct apr_remote_file *f, long status)
{
    return status == 404 || status == 410 || (status == 403 && !apr_same_origin(f->url, f->r->endpoint));
}

/* The first read. *there false: there is no such file, and nobody has named it. */
static enum apr_code read_first(struct reading *g, bool *there)
{
    struct apr_remote_file *const f = g->f;
    struct apr_cached cached = { 0 };
    long status = 0;
    if (f->r->cache != NULL && apr_cache_find(&cached, f->r->cache, f->url) && strlen(cached.etag) >= sizeof f->etag)
        apr_cached_free(&cached);
    enum apr_code code = read_all(g, cached.etag, &status);
    *there = true;
    if (code != APR_OK && !g->failed && status == 304 && cached.etag != NULL) {
        code = from_cache(g, &cached);
    } else if (code != APR_OK && !g->failed && status == 416) {
        f->size = g->at = 0;
        code = APR_OK;
    } else if (code != APR_OK && !g->failed && !g->named && is_absent(f, status)) {
        *there = false;
        code = APR_OK;
    }
    apr_cached_free(&cached);
    return code;
}

/* A source of what the first read has brought. */
static enum apr_code source_of(struct apr_source **s, struct apr_remote_file *f, const char *path, uint64_t there, struct apr_error *e)
{
    if (f->size > LONGEST)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "has %llu bytes, as the server says: more than can be mapped", (ull)f->size);
    APR_TRY(apr_source_reserve(s, path, f->size, e));
    (*s)->remote = f;
    f->path = (*s)->path;
    const struct apr_digest tag = apr_digest_of(apr_text(f->etag));
    (*s)->written = (struct timespec){ .tv_sec = (time_t)(tag.low >> 1), .tv_nsec = 0 }; /* for who asks whether it is the same file */
    APR_TRY(take_over(*s, 0, there, e));
    close_spool(f);
    f->keep = head_of(f);
    return APR_OK;
}

static enum apr_code too_long(uint64_t n, uint64_t most, struct apr_error *e)
{
    apr_fail(e, APR_ELIMIT, APR_NOWHERE, "has %llu bytes, of such a file at most %llu are read", (ull)n, (ull)most);
    e->finding = "file.unreadable";
    return APR_ELIMIT;
}

enum apr_code apr_remote_open(struct apr_source **s, const char *path, bool named, uint64_t most, const struct apr_run *r, struct apr_error *e)
{
    struct apr_remote_file *f;
    bool there = false;
    *s = NULL;
    enum apr_code code = new_file(&f, path, r, e);
    if (code == APR_OK) {
        struct reading g = { .f = f, .end = FIRST_READ, .most = most == APR_MOST_SHARD ? FIRST_READ : most, .named = named,
                             .whole = most == APR_MOST_SHARD && f->r->o.download, .e = e };
        code = read_first(&g, &there);
        if (code == APR_OK && there)
            code = f->size > most ? too_long(f->size, most, e) : source_of(s, f, path, g.at, e);
        if (*s == NULL)
            free_file(f);
    }
    if (code == APR_OK && there && most != APR_MOST_SHARD)
        code = apr_remote_want(*s, 0, (*s)->map.n, e);
    if (code == APR_OK && there && most != APR_MOST_SHARD)
        (*s)->remote->keep = (*s)->map.n;
    if (code != APR_OK) {
        apr_error_in(e, path);
        apr_source_close(*s);
        *s = NULL;
    }
    return code;
}
