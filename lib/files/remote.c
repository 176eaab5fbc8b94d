#include "files/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "files/address.h"
#include "files/remote_cache.h"
#include "files/remote_parts.h"
#include "files/source.h"

#define MOST_HEADER   ((uint64_t)256 << 20) /* bytes that a header may take */
#define PATIENT_READS 4                     /* of a header by its own word; from then on each read doubles what is there */
#define LONGEST       ((uint64_t)1 << 46)   /* bytes that a file may have: half of what a process can address */

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
static bool find_gap(const struct apr_remote_file *f, uint64_t begin, uint64_t end, struct apr_part *gap)
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
    *gap = (struct apr_part){ begin, end };
    return begin < end;
}

/* Notes that [begin, end) is there: it joins the parts that it touches. */
static enum apr_code add_part(struct apr_remote_file *f, uint64_t begin, uint64_t end, struct apr_error *e)
{
    size_t i = 0;
    while (i < f->npart && f->part[i].end < begin)
        i++;
    if (i < f->npart && f->part[i].begin <= end) {
        f->part[i].begin = apr_min(f->part[i].begin, begin);
        f->part[i].end = f->part[i].end > end ? f->part[i].end : end;
        while (i + 1 < f->npart && f->part[i + 1].begin <= f->part[i].end) {
            f->part[i].end = f->part[i + 1].end > f->part[i].end ? f->part[i + 1].end : f->part[i].end;
            memmove(&f->part[i + 1], &f->part[i + 2], (f->npart - i - 2) * sizeof *f->part);
            f->npart--;
        }
        return APR_OK;
    }
    struct apr_part *const more = apr_grown(f->part, &f->part_room, f->npart, 4, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    f->part = more;
    memmove(&more[i + 1], &more[i], (f->npart - i) * sizeof *more);
    more[i] = (struct apr_part){ begin, end };
    f->npart++;
    return APR_OK;
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
    struct apr_part gap;
    long status;
    while (find_gap(f, begin, end, &gap)) {
        struct apr_reading g = { .f = f, .at = gap.begin, .end = gap.end, .whole = download, .download = download, .e = e };
        enum apr_code code = open_spool(f, gap.begin, e);
        if (code == APR_OK)
            code = apr_remote_read(&g, NULL, &status);
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
static enum apr_code from_cache(struct apr_reading *g, const struct apr_cached *c)
{
    struct apr_remote_file *const f = g->f;
    f->size = c->size;
    f->keep = f->cached = c->bytes.n;
    snprintf(f->etag, sizeof f->etag, "%s", c->etag);
    g->at = 0;
    g->end = c->bytes.n;
    return apr_remote_spool(g, c->bytes.at, c->bytes.n) ? APR_OK : g->e->code;
}

/* Stores of objects say 403 where they do not tell what they hold; the hub says it of what may not be read. */
static bool is_absent(const struct apr_remote_file *f, long status)
{
    return status == 404 || status == 410 || (status == 403 && !apr_same_origin(f->url, f->r->endpoint));
}

/* The first read. *there false: there is no such file, and nobody has named it. */
static enum apr_code read_first(struct apr_reading *g, bool *there)
{
    struct apr_remote_file *const f = g->f;
    struct apr_cached cached = { 0 };
    long status = 0;
    if (f->r->cache != NULL && apr_cache_find(&cached, f->r->cache, f->url) && strlen(cached.etag) >= sizeof f->etag)
        apr_cached_free(&cached);
    enum apr_code code = apr_remote_read(g, cached.etag, &status);
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

enum apr_code apr_remote_open(struct apr_source **s, const char *path, bool named, uint64_t most, const struct apr_run *r,
                              struct apr_error *e)
{
    struct apr_remote_file *f;
    bool there = false;
    *s = NULL;
    enum apr_code code = new_file(&f, path, r, e);
    if (code == APR_OK) {
        struct apr_reading g = { .f = f, .end = APR_FIRST_READ, .most = most == APR_MOST_SHARD ? APR_FIRST_READ : most, .named = named,
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
