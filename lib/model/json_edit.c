#include "model/json_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/json.h"

/* What an object has at a key. value.at is NULL when it has nothing; last: behind its last member, or behind its brace. */
struct member {
    struct apr_bytes value;
    size_t           last;
    bool             empty;
};

static bool is_key(struct apr_bytes quoted, const char *key, size_t n)
{
    return quoted.n == n + 2 && memcmp(quoted.at + 1, key, n) == 0;
}

/* Looks for a key in an object, and where a further one would go; offsets count from the start of `object`. */
static enum apr_code look(struct apr_bytes object, const char *key, size_t n, struct member *m, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more;
    *m = (struct member){ .empty = true };
    APR_TRY(apr_walk_in(&w, object, 0, '{', e));
    m->last = w.at;
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        m->empty = false;
        m->last = (size_t)(item.value.at + item.value.n - object.at);
        if (is_key(item.key, key, n))
            m->value = item.value;
    }
}

struct apr_bytes apr_json_find(struct apr_bytes object, const char *path)
{
    struct apr_error e;
    struct member m;
    while (object.n > 0) {
        const size_t n = strcspn(path, ".");
        if (object.at[0] != '{' && memchr(" \t\r\n", object.at[0], 4) == NULL)
            return (struct apr_bytes){ 0 };
        if (look(object, path, n, &m, &e) != APR_OK || m.value.at == NULL)
            return (struct apr_bytes){ 0 };
        object = m.value;
        if (path[n] == 0)
            return object;
        path += n + 1;
    }
    return (struct apr_bytes){ 0 };
}

/* text with the bytes [from, to) replaced. */
static enum apr_code splice(struct apr_arena **a, struct apr_bytes *text, size_t from, size_t to, struct apr_bytes with,
                            struct apr_error *e)
{
    const size_t n = text->n - (to - from) + with.n;
    unsigned char *const out = apr_arena_alloc(a, n + 1);
    if (out == NULL)
        return apr_no_memory(e);
    memcpy(out, text->at, from);
    memcpy(out + from, with.at, with.n);
    memcpy(out + from + with.n, text->at + to, text->n - to);
    *text = (struct apr_bytes){ out, n };
    return APR_OK;
}

/* Adds a member to the object that begins at byte `at` and lies `depth` levels deep. */
static enum apr_code add(struct apr_arena **a, struct apr_bytes *text, size_t at, const struct member *m, int depth, const char *key, int n,
                         struct apr_bytes value, struct apr_error *e)
{
    const bool lines = memchr(text->at, '\n', text->n) != NULL;
    const size_t from = at + m->last;
    size_t to = from;
    while (m->empty && to < text->n && text->at[to] != '}')
        to++;
    const struct apr_bytes line = apr_arena_format(a, "%s%s%*s\"%.*s\": %.*s%s%*s", m->empty ? "" : ",", lines ? "\n" : m->empty ? "" : " ",
                                                   lines ? 2 * depth + 2 : 0, "", n, key, APR_PRINTED(value), lines && m->empty ? "\n" : "",
                                                   lines && m->empty ? 2 * depth : 0, "");
    return line.at == NULL ? apr_no_memory(e) : splice(a, text, from, to, line, e);
}

enum apr_code apr_json_put(struct apr_arena **a, struct apr_bytes *object, const char *path, struct apr_bytes value, struct apr_error *e)
{
    size_t at = 0;
    for (int depth = 0;; depth++) {
        const size_t n = strcspn(path, ".");
        const bool last = path[n] == 0;
        struct member m;
        APR_TRY(look((struct apr_bytes){ object->at + at, object->n - at }, path, n, &m, e));
        if (m.value.at == NULL) {
            APR_TRY(add(a, object, at, &m, depth, path, (int)n, last ? value : apr_text("{}"), e));
            if (last)
                return APR_OK;
            depth--; /* now it is there */
            continue;
        }
        const size_t from = (size_t)(m.value.at - object->at);
        if (last)
            return splice(a, object, from, from + m.value.n, value, e);
        if (m.value.at[0] != '{')
            APR_TRY(splice(a, object, from, from + m.value.n, apr_text("{}"), e));
        at = from;
        path += n + 1;
    }
}

/* From the member's key to the next one's, or from behind the one before. */
enum apr_code apr_json_drop(struct apr_arena **a, struct apr_bytes *object, const char *key, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more, found = false;
    const unsigned char *from = NULL, *to = NULL, *before = NULL;
    APR_TRY(apr_walk_in(&w, *object, 0, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more || found)
            break;
        found = is_key(item.key, key, strlen(key));
        from = found && before != NULL ? before : item.key.at;
        before = to = item.value.at + item.value.n;
    }
    if (!found)
        return APR_OK;
    if (more && *from == '"')
        to = item.key.at;
    const struct apr_bytes text = apr_arena_format(a, "%.*s%.*s", (int)(from - object->at), object->at,
                                                   (int)(object->at + object->n - to), to);
    if (text.at == NULL)
        return apr_no_memory(e);
    *object = text;
    return apr_json_drop(a, object, key, e); /* it may stand twice */
}
