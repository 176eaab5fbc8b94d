#include "files/journal_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/hash.h"

/* | "APRJRNL1" | u64 step | u64 size | u64 old head | u64 new head | u64 tail | u64 whole | old head | new head | old tail | new tail |
 * | 16: XXH3-128 of all from the size to the new tail |                                                         lengths, then bytes */
static const char magic[8] = { 'A', 'P', 'R', 'J', 'R', 'N', 'L', '1' };
enum { HASHED_AT = 16, FIXED = 56, DIGEST = 16 };

bool apr_rewrite_sensible(const struct apr_rewrite *w)
{
    uint64_t size, kept;
    return w->old_head.n > 0 && w->new_head.n >= w->old_head.n && w->new_head.n <= APR_MOST_HEAD && w->old_tail.n == w->new_tail.n &&
           w->old_tail.n <= APR_MOST_TAIL && apr_add(w->old_head.n, w->old_tail.n, &kept) && kept <= w->size &&
           apr_add(w->size, apr_rewrite_inserted(w), &size) && size <= INT64_MAX;
}

static unsigned char *put_u64(unsigned char *to, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        to[i] = (unsigned char)(v >> 8 * i);
    return to + 8;
}

static unsigned char *put_bytes(unsigned char *to, struct apr_bytes b)
{
    return b.n == 0 ? to : (unsigned char *)memcpy(to, b.at, b.n) + b.n;
}

struct apr_bytes apr_journal_spell(const struct apr_journal *j)
{
    const struct apr_rewrite *w = &j->w;
    const size_t n = FIXED + w->old_head.n + w->new_head.n + w->old_tail.n + w->new_tail.n + DIGEST;
    unsigned char *const text = malloc(n);
    if (text == NULL)
        return (struct apr_bytes){ 0 };
    unsigned char *to = put_bytes(text, (struct apr_bytes){ (const unsigned char *)magic, sizeof magic });
    const uint64_t fixed[] = { 0, w->size, w->old_head.n, w->new_head.n, w->old_tail.n, j->whole };
    for (size_t i = 0; i < APR_LENGTH(fixed); i++)
        to = put_u64(to, fixed[i]);
    to = put_bytes(put_bytes(to, w->old_head), w->new_head);
    to = put_bytes(put_bytes(to, w->old_tail), w->new_tail);
    const struct apr_digest d = apr_digest_of((struct apr_bytes){ text + HASHED_AT, (size_t)(to - text) - HASHED_AT });
    put_u64(put_u64(to, d.high), d.low);
    return (struct apr_bytes){ text, n };
}

bool apr_journal_parse(struct apr_journal *j, struct apr_bytes text)
{
    struct apr_cursor c = apr_cursor_on(text);
    struct apr_rewrite *const w = &j->w;
    const struct apr_bytes begins = apr_take_bytes(&c, sizeof magic);
    j->step = apr_u64(&c);
    w->size = apr_u64(&c);
    const uint64_t old_head = apr_u64(&c), new_head = apr_u64(&c), tail = apr_u64(&c);
    j->whole = apr_u64(&c) != 0;
    w->old_head = apr_take_bytes(&c, old_head);
    w->new_head = apr_take_bytes(&c, new_head);
    w->old_tail = apr_take_bytes(&c, tail);
    w->new_tail = apr_take_bytes(&c, tail);
    const size_t hashed = c.at;
    const uint64_t high = apr_u64(&c), low = apr_u64(&c);
    if (c.bad || apr_left(&c) > 0 || memcmp(begins.at, magic, sizeof magic) != 0)
        return false;
    const struct apr_digest d = apr_digest_of((struct apr_bytes){ text.at + HASHED_AT, hashed - HASHED_AT });
    return d.high == high && d.low == low && apr_rewrite_sensible(w);
}

/* Is each byte of `now` as it was before, or as it will be? A write that was cut short may end anywhere. lead: zeros that stood before
 * `old`. */
static bool is_mixture(const unsigned char *now, struct apr_bytes old, size_t lead, struct apr_bytes new)
{
    for (size_t i = 0; i < new.n; i++)
        if (now[i] != new.at[i] && now[i] != (i < lead ? 0 : old.at[i - lead]))
            return false;
    return true;
}

/* Did a shift of the file end inside its head, or before it? Then all behind the head is where it should be. */
static bool is_shifted(const unsigned char *now, struct apr_bytes old, size_t lead)
{
    size_t kept = 0;
    if (memcmp(now + lead, old.at, old.n) == 0)
        return true;
    while (kept < old.n && now[kept] == old.at[kept])
        kept++;
    kept = kept / 512 * 512; /* no file system has smaller blocks */
    for (size_t i = kept; i < kept + lead; i++)
        if (now[i] != 0)
            return false;
    return memcmp(now + lead + kept, old.at + kept, old.n - kept) == 0;
}

enum apr_journal_state apr_journal_state_of(const struct apr_journal *j, uint64_t size, const unsigned char *now,
                                            const unsigned char *tail)
{
    const struct apr_rewrite *w = &j->w;
    const size_t lead = (size_t)apr_rewrite_inserted(w);
    const bool old_tail = w->old_tail.n == 0 || memcmp(tail, w->old_tail.at, w->old_tail.n) == 0;
    const bool old = memcmp(now, w->old_head.at, w->old_head.n) == 0;
    if (size == w->size && old && old_tail && (lead > 0 || j->step == 0))
        return APR_AS_IT_WAS;
    if (size != w->size + lead || (lead == 0 && j->step == 0))
        return APR_FOREIGN;
    if (j->step == 0)
        return old ? APR_TORN : old_tail && is_shifted(now, w->old_head, lead) ? APR_SHIFTED : APR_FOREIGN;
    return is_mixture(now, w->old_head, lead, w->new_head) && is_mixture(tail, w->old_tail, 0, w->new_tail) ? APR_WRITTEN : APR_FOREIGN;
}

