/* The one way anything is written: a file that appears whole or not at all, and never in the place of one that is being read. */
#ifndef APR_SINK_H
#define APR_SINK_H

#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/core.h"

/* Where an output lies: all links of its path are followed, the last one also when it leads to nothing.
 *   stream  the descriptor that the path names ("-" and /dev/stdout are 1, /dev/fd/3 is 3), or -1
 *   folder  a descriptor of the folder, good for its name only; -1 for a stream. name is that of the file in it
 *   exists  something is there, and st says what; else st is the folder's */
struct apr_target {
    int         stream, folder;
    char       *name;
    bool        exists;
    struct stat st;
};

/* Finds it; nothing is opened for writing and nothing made. APR_EIO when nothing could be written there: a folder, no folder to write
 * in, a file or folder that may not be written. Free it with apr_target_free, after a failure too. */
APR_MUST_CHECK enum apr_code apr_target_find(struct apr_target *p, const char *path, struct apr_error *e);
void apr_target_free(struct apr_target *p);

/* Would two outputs share a file, under whatever names, also one that does not exist yet? Never true of devices like /dev/null. */
bool apr_target_same(const struct apr_target *p, const struct apr_target *q);

/* Puts what the link at *path (of malloc) leads to in its stead, as long as there is one. An errno, or 0. */
int apr_follow_links(char **path);

/* Names that were made or removed in a folder last once it is on disk. An errno, or 0. */
int apr_sync_folder(int folder);

/* A file being written. `to` is for what comes from front to back; end it with apr_sink_end or apr_sink_drop.
 *   fresh  it replaces nothing, not even what appears while it is under way: to be set after it was begun. Else it replaces what is
 *          there
 *   unsynced  the disk is given the file before it has its name, but nobody waits for it: whole whatever ends the program; after a loss of
 *          power it may be missing. To be set after it was begun */
struct apr_sink {
    FILE             *to;
    struct apr_target place; /* private, as all below */
    struct apr_stray *stray; /* NULL for what is written as it is: a stream, a device, a pipe */
    char             *path;
    int               fd, log; /* log: of a partial file, 1 + its descriptor */
    bool              named; /* the new file has a name already */
    bool              synced, fresh, unsynced;
    atomic_bool       unshared, uncopied; /* the file system does not share, or copy */
    uint64_t          size;
    _Atomic int       why;   /* errno of the first write that failed */
};

/* Begins a file that will lie at path, in the stead of what is there. size: how long it will be, 0 when that is not known; there is
 * room for so much then, or the answer is APR_EIO. A file system that cannot tell is none that is full. A new file gets the umask's
 * mode, a replaced one keeps its own, and its owner when it may. A file that an open source reads is refused. e names path. */
APR_MUST_CHECK enum apr_code apr_sink_begin(struct apr_sink *s, const char *path, uint64_t size, struct apr_error *e);

/* Right after it was begun: the file has a name in its folder while it is under way, which stays whatever ends the run, and beside it
 * NAME.log. Both may be there from a run before, and vanish when the file takes its place. APR_EARG when another run has it, where no run
 * can have left them (links, pipes, folders, what is being read), and for streams, devices and pipes. */
APR_MUST_CHECK enum apr_code apr_sink_partial(struct apr_sink *s, const char *name, struct apr_error *e);

/* What the log holds, nothing of one that is longer than `most`; the caller frees it with free. Adds to it. Empties it, and the file. */
APR_MUST_CHECK enum apr_code apr_sink_log(const struct apr_sink *s, uint64_t most, struct apr_bytes *log, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_sink_note(struct apr_sink *s, const void *bytes, size_t n, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_sink_restart(struct apr_sink *s, struct apr_error *e);

/* All n bytes at an offset; any thread may. What went to `to` is to be flushed first. Not for streams, devices and pipes: APR_EARG. */
APR_MUST_CHECK enum apr_code apr_sink_write_at(struct apr_sink *s, uint64_t at, const void *bytes, size_t n, struct apr_error *e);

/* Reads back what was written there. */
APR_MUST_CHECK enum apr_code apr_sink_read_at(const struct apr_sink *s, uint64_t at, void *bytes, size_t n, struct apr_error *e);

/* n bytes of another file without reading them: shared with it (at, from_at and n are multiples of its blocks), or copied by the system.
 * False where that cannot be had, which is then not tried again: write them. Any thread. */
bool apr_sink_share_at(struct apr_sink *s, uint64_t at, int from, uint64_t from_at, uint64_t n);
bool apr_sink_copy_at(struct apr_sink *s, uint64_t at, int from, uint64_t from_at, uint64_t n);

/* The disk may begin with those bytes, that nobody waits for all of them at the end. */
void apr_sink_flush_at(const struct apr_sink *s, uint64_t at, uint64_t n);

/* On disk, not yet in place: apr_sink_end follows. */
APR_MUST_CHECK enum apr_code apr_sink_sync(struct apr_sink *s, struct apr_error *e);

/* On disk, then in place. After a failure path is what it was, and nothing is left; e holds the reason of the first write that failed.
 * APR_EARG when a fresh one's place is taken. A reader of a pipe who left early is no failure. */
APR_MUST_CHECK enum apr_code apr_sink_end(struct apr_sink *s, struct apr_error *e);

/* Gives it up. For one that was begun, or is all zero. */
void apr_sink_drop(struct apr_sink *s);

/* Both for signal handlers, and async-signal-safe. Is a file under way? Removes what would be left of all such files when the process
 * ends now. */
bool apr_sink_pending(void);
void apr_sink_abandon(void);

#endif
