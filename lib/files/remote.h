/* Files that lie behind an address, as sources.
 *
 * A remote file is a source whose map is as long as the file and holds nothing at first; ranges are put into it as somebody asks for them.
 * Filling pages as they are touched would need a handler that waits for a network in the middle of any load: here those who read say what
 * they are about to read (apr_source_reach, apr_source_want), which is a line each in the few places that read headers, a tensor, or all.
 * Whoever forgets is told: a page that is not there ends like one of a disk that failed, in an error, never in zeros that pass for data.
 *
 * The bytes lie in unlinked files in r->tmpdir, one a read, so a length that is not true costs nothing. The first request asks
 * for 1 MiB; a format then says how far its header goes (struct apr_format, header), which is the next request. All of this runs on the
 * calling thread. */
#ifndef APR_REMOTE_H
#define APR_REMOTE_H

#include "base/core.h"

struct apr_remote;

/* How addresses are read. Strings are copied.
 *   endpoint   of hf://, "https://huggingface.co"
 *   token      for that origin only, or NULL; token_from says where it stood, for messages
 *   token_place  where one would be looked for
 *   cache      a folder, or NULL for none
 *   download   all of a file may be fetched where all is needed; else that is refused with the bytes it would take
 *   begin, add told what a download will take, and each time what came; or NULL */
struct apr_remote_options {
    const char *endpoint, *token, *token_from, *token_place, *cache;
    bool        download;
    void      (*begin)(void *ctx, uint64_t bytes);
    void      (*add)(void *ctx, uint64_t bytes);
    void       *ctx;
};

/* For the `remote` of a run; costs nothing until an address is opened. Frees with apr_remote_free, after all sources are closed; NULL is
 * nothing. */
APR_MUST_CHECK enum apr_code apr_remote_new(struct apr_remote **r, const struct apr_remote_options *o, struct apr_error *e);
void apr_remote_free(struct apr_remote *r);

/* Bytes of bodies that came in so far. */
uint64_t apr_remote_fetched(const struct apr_remote *r);

/* ---- for source.c --------------------------------------------------------------------------------------------------- */

struct apr_remote_file;

/* Those of source.h, for an address. Opens the file: its first MiB is there, or all of it. One that was only looked for, of at most `most`
 * bytes (UINT64_MAX: it is read by parts), may be absent: *s is NULL then, with APR_OK. r->remote NULL: APR_EUNSUPPORTED. */
APR_MUST_CHECK enum apr_code apr_remote_open(struct apr_source **s, const char *path, bool named, uint64_t most, const struct apr_run *r,
                                             struct apr_error *e);

struct apr_bytes apr_remote_head(const struct apr_source *s);
APR_MUST_CHECK enum apr_code apr_remote_reach(struct apr_source *s, uint64_t n, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_remote_want(struct apr_source *s, uint64_t begin, uint64_t end, struct apr_error *e);
uint64_t apr_remote_missing(const struct apr_source *s);
APR_MUST_CHECK enum apr_code apr_remote_may_download(const struct apr_source *s, uint64_t bytes, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_remote_download(struct apr_source *s, uint64_t announced, struct apr_error *e);
enum apr_code apr_remote_lost(const struct apr_source *s, struct apr_error *e);
void apr_remote_close(struct apr_source *s);

#endif
