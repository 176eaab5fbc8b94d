#include "flow/window.h"

#include "files/source.h"

/* What one fault maps at most: the page cache holds a file in folios of up to 2 MiB, and kernels map them whole, as far as one page table
 * goes. So pages are kept and let go by such blocks: what is left of one comes back with the next fault, and nobody would let go of it. */
#define BLOCK ((uintptr_t)2 << 20)

#define ALL_BYTES ((size_t)16 << 20) /* of a model, all threads together, as far as a block for each allows */

struct apr_window apr_window_of(const struct apr_run *r)
{
    const size_t share = ALL_BYTES / (size_t)apr_min(r->threads, APR_MOST_READERS);
    return (struct apr_window){ .most = share < 2 * BLOCK ? BLOCK : 2 * BLOCK };
}

/* Lets go of all but [low, high). */
static void drop_but(struct apr_window *w, uintptr_t low, uintptr_t high)
{
    for (unsigned i = 0; i < w->nrange; i++) {
        const struct apr_range *r = &w->range[i];
        const uintptr_t before = low < r->high ? low : r->high, behind = high > r->low ? high : r->low;
        if (before > r->low)
            apr_drop_behind(r->map, (struct apr_bytes){ (const unsigned char *)r->low, before - r->low });
        if (behind < r->high)
            apr_drop_behind(r->map, (struct apr_bytes){ (const unsigned char *)behind, r->high - behind });
    }
    w->held = w->nrange = w->last = 0;
}

void apr_window_drop(struct apr_window *w) { drop_but(w, UINTPTR_MAX, UINTPTR_MAX); }

/* A block for each place that is read in turn, besides. */
static size_t limit_of(const struct apr_window *w)
{
    return w->streams < 2 ? w->most : w->most + apr_min(w->streams, APR_MOST_STREAMS) * BLOCK;
}

void apr_window_rest(struct apr_window *w)
{
    if (w->held > limit_of(w))
        apr_window_drop(w);
}

/* The range that touches [low, high) of the map, or nrange. */
static unsigned range_at(const struct apr_window *w, const unsigned char *map, uintptr_t low, uintptr_t high)
{
    unsigned i = 0;
    while (i < w->nrange && (w->range[i].map.at != map || low > w->range[i].high || high < w->range[i].low))
        i++;
    return i;
}

void apr_window_touch(struct apr_window *w, struct apr_bytes map, struct apr_bytes bytes)
{
    const uintptr_t at = (uintptr_t)bytes.at, low = at / BLOCK * BLOCK, high = (at + bytes.n + BLOCK - 1) / BLOCK * BLOCK;
    const size_t limit = limit_of(w);
    const struct apr_range *const last = &w->range[w->last];
    const bool inside = w->nrange > 0 && low >= last->low && high <= last->high && last->map.at == map.at;
    if (bytes.n == 0 || (inside && w->held <= limit))
        return;
    unsigned i = range_at(w, map.at, low, high);
    if (i < w->nrange && w->held <= limit && low >= w->range[i].low && high <= w->range[i].high) {
        w->last = i;
        return;
    }
    const unsigned room = w->streams < 2 ? 4 : APR_LENGTH(w->range);
    if (w->held >= limit || i >= room) {
        drop_but(w, low, high);
        i = 0;
    }
    struct apr_range *const r = &w->range[i];
    if (i == w->nrange) {
        *r = (struct apr_range){ map, low, low };
        w->nrange++;
    }
    w->held -= r->high - r->low;
    r->low = low < r->low ? low : r->low;
    r->high = high > r->high ? high : r->high;
    w->held += r->high - r->low;
    w->last = i;
}
