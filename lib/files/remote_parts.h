/* What the halves of remote.c share: a file behind an address, and a read of it. */
#ifndef APR_REMOTE_PARTS_H
#define APR_REMOTE_PARTS_H

#include "files/remote.h"
#include "files/remote_http.h"

#define APR_FIRST_READ ((uint64_t)1 << 20) /* bytes */

struct apr_remote {
    char                     *endpoint, *token, *token_from, *token_place, *cache;
    struct apr_remote_options o; /* but for its strings, which are the caller's: they stand above */
    struct apr_http          *http;
};

struct apr_part {
    uint64_t begin, end;
};

/* One file.
 *   path     as the user would know it
 *   url      what it stands for. direct: where a redirect led, which later requests ask first; or NULL
 *   etag     "" for none. It binds later reads unless it is weak (W/)
 *   modified when it was, as the server spells it; "" for nothing. It is compared where there is no etag
 *   size     of the whole; APR_NOWHERE until the server has said
 *   spool    of the read under way, or -1: an unlinked file, which begins with byte `base`
 *   tmpdir   of the run
 *   part     what is there: sorted, apart from each other
 *   keep     bytes from the start that are worth being cached, those that came from there not counted */
struct apr_remote_file {
    struct apr_remote *r;
    const char        *path;
    char              *url, *direct;
    bool               direct_trusted, ranges_ignored;
    char               etag[256], modified[40];
    uint64_t           size, keep, cached, base;
    const char        *tmpdir;
    int                spool;
    unsigned           reads;
    struct apr_part   *part;
    size_t             npart, part_room;
};

/* A read under way.
 *   at, end   what is still to come; end APR_NOWHERE: all there is, of a server that does not say how much
 *   most      bytes that an answer without ranges may have, to be taken for the whole file; whole: any number, which is a download
 *   bound     If-Range went along
 *   begun     an answer was looked at, and found good
 *   e         what was found wrong with it */
struct apr_reading {
    struct apr_remote_file *f;
    uint64_t                at, end, most;
    bool                    bound, begun, named, whole, download, failed;
    struct apr_error       *e;
};

/* Puts bytes of the file into the spool, from g->at on; false and g->e when the disk does not take them. */
bool apr_remote_spool(struct apr_reading *g, const unsigned char *at, size_t n);

/* remote_read.c: reads until all of it is in the spool, with as many tries as are due. *status is that of the last answer; with a failure
 * but no g->failed it is one that has no body to take: 304, 404, 416 of an empty file, which callers may take otherwise. */
APR_MUST_CHECK enum apr_code apr_remote_read(struct apr_reading *g, const char *none_match, long *status);

#endif
