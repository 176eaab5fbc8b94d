/* A file, mapped read-only, or one behind an address, whose map is filled by parts (remote.h). */
#ifndef APR_SOURCE_H
#define APR_SOURCE_H

#include <time.h>

#include "base/core.h"

/* An open file. path is as given ("-" for standard input). When the file was compressed, map is the decoded content and
 * `stored` how long the file itself is; else stored equals map.n. device and inode say which file it is, whatever it is called.
 *   copied   map is a copy of what a pipe or a server gave: nobody can change it
 *   fd       its descriptor, to ask whether it changed; -1 when there was no room for one
 *   written  when it was last written to, before it was opened
 *   lost     pages of the map could not be read (apr_source_patch)
 *   next     of all open ones, for apr_source_patch
 *   remote   NULL for a file of this machine, all of which is there */
struct apr_source {
    struct apr_bytes   map;
    uint64_t           stored, device, inode;
    const char        *path;
    bool               copied;
    int                fd;
    struct timespec    written;
    _Atomic int        lost;
    struct apr_source *next, *before;
    struct apr_remote_file *remote;
};

/* Maps the file that the user named; of one behind an address (files/address.h) all is fetched. What cannot be mapped (a pipe, "-", a
 * terminal) is first copied into an unlinked file in r->tmpdir. A folder or a file that does not open is APR_EIO. An empty file has an
 * empty map. */
APR_MUST_CHECK enum apr_code apr_source_open(struct apr_source **s, const char *path, const struct apr_run *r, struct apr_error *e);

/* The same, but of what lies behind an address only the first MiB is there, and more when it is asked for (below). */
APR_MUST_CHECK enum apr_code apr_source_open_parts(struct apr_source **s, const char *path, const struct apr_run *r, struct apr_error *e);

/* Maps a file that nobody named, but that was looked for beside another one. *s is NULL, and the code APR_OK, when there is none. It must
 * be a regular file, if only through links, of at most `most` bytes (APR_ELIMIT); a pipe, a device, a folder, a link that leads nowhere,
 * what may not be read: APR_EIO, with a finding, which a failure of the system has not. It never waits for anybody. Messages name the file
 * and say what it is. Of one behind an address all is there, but by parts where `most` is APR_MOST_SHARD. */
APR_MUST_CHECK enum apr_code apr_source_sidecar(struct apr_source **s, const char *path, uint64_t most, const struct apr_run *r,
                                                struct apr_error *e);

/* Maps what fd, a file of ours that is open for reading, holds now. The descriptor stays the caller's; path is for messages. */
APR_MUST_CHECK enum apr_code apr_source_of(struct apr_source **s, int fd, const char *path, struct apr_error *e);

/* How long they may be, many times the largest published; what reads one takes time and memory in proportion.
 *   CONFIG      config.json and its like, templates: some 10 KB, with each token that was added 1 MB
 *   INDEX       100 bytes a tensor: 9 MB for 90,000 tensors
 *   TOKENIZER   tokenizer.json: up to 35 MB
 *   VOCABULARY  tokenizer.model, vocab.txt, vocab.json, merges.txt: up to 10 MB
 *   SHARD       as long as it is: only its header is read at first */
#define APR_MOST_CONFIG     ((uint64_t)16 << 20)
#define APR_MOST_INDEX      ((uint64_t)256 << 20)
#define APR_MOST_TOKENIZER  ((uint64_t)256 << 20)
#define APR_MOST_VOCABULARY ((uint64_t)64 << 20)
#define APR_MOST_SHARD      UINT64_MAX

/* ---- parts of a remote file; of any other all is there, and these say so ----
 *   head     what is there from its beginning on
 *   reach    its first n bytes are there, as a header's; APR_ELIMIT beyond what a header may have, unless it may be downloaded
 *   want     so are those of its map
 *   missing  how many bytes are not
 *   may_fetch  may all of it be fetched, of a model of so many bytes? APR_EARG says how many, and that --download does it
 *   fetch    all of it is there, if it may. announced: bytes that a progress line is told to expect; 0: it knows already */
struct apr_bytes apr_source_head(const struct apr_source *s);
APR_MUST_CHECK enum apr_code apr_source_reach(struct apr_source *s, uint64_t n, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_source_want(struct apr_source *s, struct apr_bytes range, struct apr_error *e);
uint64_t apr_source_missing(const struct apr_source *s);
APR_MUST_CHECK enum apr_code apr_source_may_fetch(const struct apr_source *s, uint64_t bytes, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_source_fetch(struct apr_source *s, uint64_t announced, struct apr_error *e);

/* For remote.c: a source of n bytes of which none is there; bytes [begin, end) of it, whole pages but at its end, are those that fd has
 * from `from` on. */
APR_MUST_CHECK enum apr_code apr_source_reserve(struct apr_source **s, const char *path, uint64_t n, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_source_put(struct apr_source *s, int fd, uint64_t from, uint64_t begin, uint64_t end,
                                            struct apr_error *e);
size_t apr_source_page(void);

/* APR_EIO when the file is not as it was when it was opened: it shrank, grew or was written to, or its disk failed. What was read from it
 * is no answer then. A system call: to be asked once, when reading ends. Any thread. */
APR_MUST_CHECK enum apr_code apr_source_intact(const struct apr_source *s, struct apr_error *e);

/* Unmaps and frees; NULL is nothing. */
void apr_source_close(struct apr_source *s);

/* Is any source that is open this file? */
bool apr_source_is_open(uint64_t device, uint64_t inode);

/* Closes a file that is read to its end, `code` being what came of it: returns that, or what apr_source_intact says, since the word of
 * whoever read a file that changed under it is worth nothing. NULL s: code. */
APR_MUST_CHECK enum apr_code apr_source_end(struct apr_source *s, enum apr_code code, struct apr_error *e);

/* An unlinked temporary file in r->tmpdir, or in memory where that is NULL, as a descriptor; -1 and e when there is none. */
int apr_temporary(const struct apr_run *r, struct apr_error *e);

/* All n bytes to fd; APR_EIO otherwise. */
APR_MUST_CHECK enum apr_code apr_write_all(int fd, const void *bytes, size_t n, struct apr_error *e);

/* Puts what fd holds (at least n bytes, a private file of ours) in the place of s->map. The descriptor is closed in any case. */
APR_MUST_CHECK enum apr_code apr_source_replace(struct apr_source *s, int fd, uint64_t n, struct apr_error *e);

/* Lets go of pages that were read, so that resident memory does not grow with the file: the range and what a fault mapped around it,
 * but nothing outside the map. Harmless to whoever reads there meanwhile. */
void apr_drop_behind(struct apr_bytes map, struct apr_bytes range);

/* For a SIGBUS handler, and async-signal-safe: when `address` lies in a map, puts zero pages from there to its end, marks its
 * source as lost and returns true; the reader goes on and apr_model_intact tells. False for any other address. */
bool apr_source_patch(const void *address);

#endif
