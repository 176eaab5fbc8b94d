/* Headers of remote files, kept in a folder from one run to the next. A file of it, named by a digest of the URL:
 *   | "APRCACHE" | u8[16] XXH3-128 of what follows | u64 size | u64 n | u32 netag | u32 nname | etag | name | n first bytes of the file |
 * where name is the URL without what follows a '?', so that no signature is written down and no two addresses share an entry. A file that
 * is not as it was written, that belongs to somebody else or that others may write is no entry. Whatever fails here is done without. */
#ifndef APR_REMOTE_CACHE_H
#define APR_REMOTE_CACHE_H

#include "base/core.h"

#define APR_CACHE_BYTES ((uint64_t)256 << 20) /* of all files in it */

/* size: of the whole file; bytes: its first ones. All point into one piece of memory, which apr_cached_free frees. */
struct apr_cached {
    const char      *etag;
    uint64_t         size;
    struct apr_bytes bytes;
    void            *memory;
};

/* False when there is no entry of that URL that can be believed. */
bool apr_cache_find(struct apr_cached *c, const char *folder, const char *url);
void apr_cached_free(struct apr_cached *c);

/* Keeps the bytes; the oldest entries make room. Two processes do so one after the other, and an entry is there whole or not at all. */
void apr_cache_keep(const char *folder, const char *url, const char *etag, uint64_t size, struct apr_bytes bytes);

#endif
