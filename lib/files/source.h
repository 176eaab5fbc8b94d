/* A file, mapped read-only. */
#ifndef APR_SOURCE_H
#define APR_SOURCE_H

#include "base/core.h"

/* An open file. path is as given ("-" for standard input). When the file was compressed, map is the decoded content and
 * `stored` how long the file itself is; else stored equals map.n. device and inode say which file it is, whatever it is called. */
struct apr_source {
    struct apr_bytes   map;
    uint64_t           stored, device, inode;
    const char        *path;
    _Atomic int        shrank;   /* set by apr_source_patch */
    struct apr_source *next;     /* of all open ones, for apr_source_patch */
};

/* Maps the file at path. What cannot be mapped (a pipe, "-", a terminal) is first copied into an unlinked file in r->tmpdir.
 * A folder or a file that does not open is APR_EIO. An empty file has an empty map. */
APR_MUST_CHECK enum apr_code apr_source_open(struct apr_source **s, const char *path, const struct apr_run *r, struct apr_error *e);

/* Unmaps and frees; NULL is nothing. */
void apr_source_close(struct apr_source *s);

/* An unlinked temporary file in r->tmpdir, as a descriptor; -1 and e when there is none. */
int apr_temporary(const struct apr_run *r, struct apr_error *e);

/* All n bytes to fd; APR_EIO otherwise. */
APR_MUST_CHECK enum apr_code apr_write_all(int fd, const void *bytes, size_t n, struct apr_error *e);

/* Puts what fd holds (at least n bytes, a private file of ours) in the place of s->map. The descriptor is closed in any case. */
APR_MUST_CHECK enum apr_code apr_source_replace(struct apr_source *s, int fd, uint64_t n, struct apr_error *e);

/* Lets go of pages that were read, so that resident memory does not grow with the file: the range and what a fault mapped around it,
 * but nothing outside the map. Harmless to whoever reads there meanwhile. */
void apr_drop_behind(struct apr_bytes map, struct apr_bytes range);

/* For a SIGBUS handler, and async-signal-safe: when `address` lies in a map, puts zero pages from there to its end, marks its
 * source as shrunk and returns true; the reader goes on and apr_model_intact tells. False for any other address. */
bool apr_source_patch(const void *address);

#endif
