#include "files/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"

#define HUB "hf://"

static bool begins(const char *s, const char *with) { return strncasecmp(s, with, strlen(with)) == 0; }
static bool is_http(const char *path) { return begins(path, "http://") || begins(path, "https://"); }
static bool is_hub(const char *path) { return strncmp(path, HUB, sizeof HUB - 1) == 0; }

bool apr_is_address(const char *path) { return is_http(path) || is_hub(path); }

size_t apr_path_length(const char *path) { return is_http(path) ? strcspn(path, "?#") : strlen(path); }

size_t apr_folder_length(const char *path)
{
    const char *const slash = memrchr(path, '/', apr_path_length(path));
    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

bool apr_is_folder_address(const char *path)
{
    if (!apr_is_address(path))
        return false;
    const size_t n = apr_path_length(path);
    if (!is_hub(path))
        return path[n - 1] == '/';
    const char *const owner = path + sizeof HUB - 1, *const name = strchr(owner, '/');
    if (name == NULL || name[1] == 0)
        return false; /* and of nothing else: hf://OWNER alone names no model */
    const char *const revision = strchr(name, '@'), *rest = strchr(name + 1, '/');
    if (rest != NULL && revision != NULL && revision < rest && begins(revision, "@refs/")) /* refs/pr/1, refs/convert/parquet */
        for (unsigned i = 0; i < 2 && rest != NULL; i++)
            rest = strchr(rest + 1, '/');
    return rest == NULL || path[n - 1] == '/';
}

/* ---- putting together ------------------------------------------------------------------------------------------------ */

static bool is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != 0 && strchr("-._~", c) != NULL);
}

/* Appends the n bytes of s to `to`, which has room for three times as many; what is not plain, nor one of `also`, as %XX. */
static char *put_escaped(char *to, const char *s, size_t n, const char *also)
{
    static const char digit[] = "0123456789ABCDEF";
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (is_plain(c) || (c != 0 && strchr(also, c) != NULL)) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digit[c >> 4];
            *to++ = digit[c & 15];
        }
    }
    *to = 0;
    return to;
}

char *apr_beside(const char *folder, struct apr_bytes name)
{
    const size_t given = apr_path_length(folder), n = given > 0 && folder[given - 1] == '/' ? given - 1 : given;
    char *const path = malloc(n + 3 * name.n + 2);
    if (path == NULL)
        return NULL;
    memcpy(path, folder, n);
    path[n] = '/';
    if (is_http(folder)) {
        put_escaped(path + n + 1, (const char *)name.at, name.n, "/");
    } else {
        memcpy(path + n + 1, name.at, name.n);
        path[n + 1 + name.n] = 0;
    }
    return path;
}

/* ---- the hub -------------------------------------------------------------------------------------------------------- */

/* Owners and names are letters, digits and "-._", and neither "." nor "..". */
static bool is_name(struct apr_bytes s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_plain(s.at[i]) || s.at[i] == '~')
            return false;
    return s.n > 0 && s.n <= 96 && !apr_bytes_is(s, ".") && !apr_bytes_is(s, "..");
}

/* Does it stay below the folder that it is put behind? Empty parts are none. */
static bool stays(struct apr_bytes path)
{
    for (size_t i = 0, n; i <= path.n; i += n + 1) {
        const unsigned char *const slash = i < path.n ? memchr(path.at + i, '/', path.n - i) : NULL;
        n = (slash == NULL ? path.n : (size_t)(slash - path.at)) - i;
        const struct apr_bytes part = { path.at + i, n };
        if ((n == 0 && i < path.n) || apr_bytes_is(part, ".") || apr_bytes_is(part, ".."))
            return false;
    }
    return true;
}

/* The bytes from s up to one of `ends`, or the end. */
static struct apr_bytes up_to(const char *s, const char *ends) { return (struct apr_bytes){ (const unsigned char *)s, strcspn(s, ends) }; }

/* A revision may be a branch, a tag, a commit; with slashes in it those below refs/ alone: refs/pr/1, refs/convert/parquet. */
static struct apr_bytes take_revision(const char *s)
{
    struct apr_bytes revision = up_to(s, "/");
    for (unsigned i = 0; i < 2 && begins(s, "refs/") && s[revision.n] == '/'; i++)
        revision.n += 1 + strcspn(s + revision.n + 1, "/");
    return revision;
}

/* refs/ alone, or with one part behind it, names nothing. */
static bool is_revision(struct apr_bytes revision)
{
    size_t slashes = 0;
    for (size_t i = 0; i < revision.n; i++)
        slashes += revision.at[i] == '/';
    return revision.n > 0 && stays(revision) && (slashes == 0 || (slashes == 2 && revision.at[revision.n - 1] != '/'));
}

static enum apr_code hub_url(char **url, const char *path, const char *endpoint, struct apr_error *e)
{
    const struct apr_bytes owner = up_to(path + sizeof HUB - 1, "/");
    const char *at = (const char *)owner.at + owner.n;
    const struct apr_bytes name = up_to(at + (*at == '/'), "/@");
    at = (const char *)name.at + name.n;
    struct apr_bytes revision = apr_text("main");
    if (*at == '@') {
        revision = take_revision(at + 1);
        at = (const char *)revision.at + revision.n;
    }
    const struct apr_bytes file = apr_text(at + (*at == '/'));
    if (!is_name(owner) || !is_name(name) || !is_revision(revision) || !stays(file))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "is no address of the hub, which is hf://OWNER/NAME[@REVISION][/PATH]");
    size_t n = strlen(endpoint);
    while (n > 0 && endpoint[n - 1] == '/')
        n--;
    *url = malloc(n + owner.n + name.n + 3 * revision.n + 3 * file.n + sizeof "///resolve//");
    if (*url == NULL)
        return apr_no_memory(e);
    char *to = *url + sprintf(*url, "%.*s/%.*s/%.*s/resolve/", (int)n, endpoint, APR_PRINTED(owner), APR_PRINTED(name));
    to = put_escaped(to, (const char *)revision.at, revision.n, "");
    *to++ = '/';
    put_escaped(to, (const char *)file.at, file.n, "/");
    return APR_OK;
}

/* ---- http ----------------------------------------------------------------------------------------------------------- */

size_t apr_origin_length(const char *url)
{
    const size_t scheme = begins(url, "https://") ? 8 : begins(url, "http://") ? 7 : 0, host = strcspn(url + scheme, "/?#");
    return scheme == 0 || host == 0 ? 0 : scheme + host;
}

bool apr_same_origin(const char *a, const char *b)
{
    const size_t n = apr_origin_length(a);
    return n > 0 && n == apr_origin_length(b) && strncasecmp(a, b, n) == 0;
}

/* The message has the address without what is secret. The first n bytes are its origin. */
static enum apr_code refuse_user(const char *path, size_t n, struct apr_error *e)
{
    char shown[sizeof e->file];
    snprintf(shown, sizeof shown, "%.*s...%s", (int)(strstr(path, "://") + 3 - path), path, (const char *)memrchr(path, '@', n));
    apr_fail(e, APR_EARG, APR_NOWHERE, "a name or password in an address is not sent: who reads the list of processes sees it");
    apr_error_in(e, shown);
    return e->code;
}

enum apr_code apr_address_url(char **url, const char *path, const char *endpoint, struct apr_error *e)
{
    *url = NULL;
    for (const char *c = path; *c != 0; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7F || (*c == '\\' && is_http(path)))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "an address has no blanks, control characters or backslashes: %%20 is a blank");
    if (is_hub(path))
        return hub_url(url, path, endpoint, e);
    const size_t n = apr_origin_length(path);
    if (n == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "is an address without a host");
    if (memchr(path, '@', n) != NULL)
        return refuse_user(path, n, e);
    *url = strdup(path);
    return *url == NULL ? apr_no_memory(e) : APR_OK;
}

enum apr_code apr_address_check(const char *path, struct apr_error *e)
{
    char *url;
    const enum apr_code code = apr_address_url(&url, path, "https://hub", e);
    free(url);
    return code;
}

/* ---- headers -------------------------------------------------------------------------------------------------------- */

static bool take_count(struct apr_bytes *text, uint64_t *n)
{
    size_t i = 0;
    *n = 0;
    for (; i < text->n && text->at[i] >= '0' && text->at[i] <= '9'; i++)
        if (!apr_mul(*n, 10, n) || !apr_add(*n, (uint64_t)(text->at[i] - '0'), n) || *n > INT64_MAX)
            return false;
    *text = (struct apr_bytes){ text->at + i, text->n - i };
    return i > 0;
}

bool apr_count_read(struct apr_bytes text, uint64_t *n) { return take_count(&text, n) && text.n == 0; }

static bool take_letter(struct apr_bytes *text, char letter)
{
    if (text->n == 0 || text->at[0] != (unsigned char)letter)
        return false;
    *text = (struct apr_bytes){ text->at + 1, text->n - 1 };
    return true;
}

bool apr_content_range_read(struct apr_bytes text, struct apr_content_range *r)
{
    uint64_t last = 0;
    *r = (struct apr_content_range){ 0 };
    if (text.n < 6 || strncasecmp((const char *)text.at, "bytes", 5) != 0)
        return false;
    text = (struct apr_bytes){ text.at + 5, text.n - 5 };
    while (take_letter(&text, ' ')) {
    }
    const bool none = take_letter(&text, '*');
    if (!none && (!take_count(&text, &r->first) || !take_letter(&text, '-') || !take_count(&text, &last)))
        return false;
    if (!take_letter(&text, '/'))
        return false;
    r->end = none ? 0 : last + 1;
    if (!none && apr_bytes_is(text, "*"))
        r->total = APR_NOWHERE;
    else if (!apr_count_read(text, &r->total))
        return false;
    return none || (r->first < r->end && r->end <= r->total);
}
