#include "gguf_header.h"

#include "base/cursor.h"
#include "model/meta.h"

#define SLACK ((uint64_t)768 << 10) /* bytes asked for beyond what is known of: keys and tensors that are still to come */

/* A walk that checks nothing but where it is.
 *   need  once it has stopped: bytes that its next step takes, with all that must follow; 0: it came upon nonsense */
struct skim {
    struct apr_cursor c;
    uint64_t          need;
};

static bool stop(struct skim *s, uint64_t at, uint64_t bytes)
{
    if (!apr_add(at, bytes, &s->need))
        s->need = 0;
    return false;
}

/* The same with n more things of so many bytes behind it. */
static void stop_before(struct skim *s, uint64_t n, uint64_t each)
{
    uint64_t bytes;
    if (s->need != 0 && (!apr_mul(n, each, &bytes) || !apr_add(s->need, bytes, &s->need)))
        s->need = 0;
}

static bool skip(struct skim *s, uint64_t bytes)
{
    const uint64_t at = s->c.at;
    apr_take_bytes(&s->c, bytes);
    return !s->c.bad || stop(s, at, bytes);
}

static bool take(struct skim *s, unsigned width, uint64_t *v)
{
    const uint64_t at = s->c.at;
    *v = apr_take_integer(&s->c, width);
    return !s->c.bad || stop(s, at, width);
}

static bool skip_string(struct skim *s)
{
    uint64_t n;
    return take(s, 8, &n) && skip(s, n);
}

static bool skip_value(struct skim *s, uint64_t type, unsigned depth);

static bool skip_array(struct skim *s, unsigned depth)
{
    uint64_t type, n, bytes;
    if (!take(s, 4, &type) || !take(s, 8, &n))
        return false;
    const unsigned width = type <= APR_META_F64 ? apr_meta_width((enum apr_meta_type)type) : 0;
    if (type > APR_META_F64 || depth > MOST_DEPTH || !apr_mul(n, width, &bytes))
        return false;
    if (width > 0)
        return skip(s, bytes);
    const size_t first = s->c.at;
    for (uint64_t i = 0; i < n; i++) {
        const size_t at = s->c.at;
        if (skip_value(s, type, depth + 1))
            continue;
        stop_before(s, n - i - 1, i > 0 ? (at - first) / i : type == APR_META_STRING ? LEAST_STRING : LEAST_ARRAY);
        return false;
    }
    return true;
}

static bool skip_value(struct skim *s, uint64_t type, unsigned depth)
{
    if (type == APR_META_STRING)
        return skip_string(s);
    if (type == APR_META_ARRAY)
        return skip_array(s, depth);
    return type <= APR_META_F64 && skip(s, apr_meta_width((enum apr_meta_type)type));
}

static bool skip_key(struct skim *s)
{
    uint64_t type;
    return skip_string(s) && take(s, 4, &type) && skip_value(s, type, 1);
}

static bool skip_tensor(struct skim *s)
{
    uint64_t ndim;
    return skip_string(s) && take(s, 4, &ndim) && ndim <= MOST_DIMS && skip(s, 8 * ndim + 4 + 8);
}

static void walk(struct skim *s)
{
    uint64_t version, ntensors, nkeys;
    if (!skip(s, 4) || !take(s, 4, &version))
        return;
    s->c.big = version != 0 && (version & 0xFFFF) == 0;
    if (!take(s, 8, &ntensors) || !take(s, 8, &nkeys))
        return;
    for (uint64_t i = 0; i < nkeys; i++)
        if (!skip_key(s)) {
            stop_before(s, nkeys - i - 1, LEAST_KEY);
            stop_before(s, ntensors, LEAST_TENSOR);
            return;
        }
    const size_t first = s->c.at;
    for (uint64_t i = 0; i < ntensors; i++) {
        const size_t at = s->c.at;
        if (skip_tensor(s))
            continue;
        stop_before(s, ntensors - i - 1, i > 0 ? (at - first) / i : LEAST_TENSOR);
        return;
    }
    s->need = s->c.at;
}

uint64_t apr_gguf_header(struct apr_bytes start, uint64_t size)
{
    struct skim s = { .c = apr_cursor_on(start) };
    walk(&s);
    if (s.need == 0)
        return start.n;
    return s.need <= start.n ? s.need : apr_min(s.need > UINT64_MAX - SLACK ? UINT64_MAX : s.need + SLACK, size);
}
