/* Memory that is taken piecemeal and freed at once. */
#ifndef APR_ARENA_H
#define APR_ARENA_H

#include "base/core.h"

/* An arena is a pointer to its newest block, NULL while it has none; each owner keeps one and frees it. One thread at a time. */
struct apr_arena;

/* n zeroed bytes, aligned for anything, that live as long as the arena; NULL when there is no memory. n is ours or already met the
 * bytes left in a file. */
void *apr_arena_alloc(struct apr_arena **a, size_t n);

/* A copy of b; text made here. NULL-at when memory is out. Both have a NUL behind them. */
struct apr_bytes apr_arena_copy(struct apr_arena **a, struct apr_bytes b);
struct apr_bytes apr_arena_format(struct apr_arena **a, const char *format, ...) APR_PRINTF(2, 3);

/* Frees all of it and leaves an empty arena. */
void apr_arena_free(struct apr_arena **a);

#endif
