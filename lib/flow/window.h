/* The pages of maps that one thread has read and not yet let go, so that resident memory does not grow with what is read. */
#ifndef APR_WINDOW_H
#define APR_WINDOW_H

#include "base/core.h"

/* More threads than this do not read at once: each has a window of one model or two, of 2 MiB at least, and more would break the promise
 * of 64 MiB. They are not needed to be limited by memory. */
#define APR_MOST_READERS 12

/* Of one thread, for all that it reads of one model. It goes by bytes, not by tensor: small tensors side by side are let go at once.
 *   most, held  bytes to keep, and those that are kept: the lengths of the ranges
 *   streams     how many places are read in turn, none of which lets go of another's block: set by who reads so; 0: one
 *   range       of a map each; last: the one that was read last */
#define APR_MOST_STREAMS 72u
struct apr_window {
    size_t most, held;
    unsigned streams, nrange, last;
    struct apr_range {
        struct apr_bytes map;
        uintptr_t        low, high;
    } range[APR_MOST_STREAMS + 4];
};

/* An empty window for one of the run's threads. */
struct apr_window apr_window_of(const struct apr_run *r);

/* The bytes of the map are about to be read, before the window is touched again; what was read before them may go. */
void apr_window_touch(struct apr_window *w, struct apr_bytes map, struct apr_bytes bytes);

/* The thread may have to wait: lets go if more is held than is to be kept, as it is where the last bytes lay in two blocks. */
void apr_window_rest(struct apr_window *w);

/* Lets go of all. */
void apr_window_drop(struct apr_window *w);

#endif
