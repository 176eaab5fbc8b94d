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

void apr_window_drop(struct apr_window *w)
{
    for (unsigned i = 0; i < w->nrange; i++) {
        const struct apr_range *r = &w->range[i];
        apr_drop_behind(r->map, (struct apr_bytes){ (const unsigned char *)r->low, r->high - r->low });
    }
    w->held = w->nrange = w->last = 0;
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
    const struct apr_range *const last = &w->range[w->last];
    if (bytes.n == 0 || (w->nrange > 0 && low >= last->low && high <= last->high && last->map.at == map.at))
        return;
    unsigned i = range_at(w, map.at, low, high);
    if (w->held >= w->most || i == APR_LENGTH(w->range)) {
        apr_window_drop(w);
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
