/* Files that appear together: shards, and what lies beside them. */
#ifndef APR_SINKS_H
#define APR_SINKS_H

#include "files/sink.h"

struct apr_sinks;

/* Begins a set of files.
 *   folder  "path/", NULL: each lies where its own path says. One that is there keeps what it has, and each file takes its place by one
 *           rename, in the order in which they were added; signals wait meanwhile, so that nothing but SIGKILL leaves some of them. A new
 *           one appears at the end, with all that is in it. One that another set is being written into is refused (flock, where the
 *           file system has it)
 *   shared  others write into the same folder: it is made, if need be, before the files take their places one by one */
APR_MUST_CHECK enum apr_code apr_sinks_begin(struct apr_sinks **s, const char *folder, bool shared, struct apr_error *e);

/* Was the folder there when the set was begun? */
bool apr_sinks_exists(const struct apr_sinks *s);

/* Begins one of them (apr_sink_begin). path begins with the folder, and may have one folder more in it, which is made at the end. A file
 * that is there is refused unless force is set, one that appears meanwhile as well. It is written through *sink, which the set ends. */
APR_MUST_CHECK enum apr_code apr_sinks_add(struct apr_sinks *s, const char *path, uint64_t size, bool force, struct apr_sink **sink,
                                           struct apr_error *e);

/* Right after apr_sinks_add: it is OUT.apr-partial while it is under way (apr_sink_partial), in a new folder's place
 * FOLDER.OUT.apr-partial. */
APR_MUST_CHECK enum apr_code apr_sinks_keep(struct apr_sinks *s, struct apr_sink *sink, struct apr_error *e);

/* A file of that name in the folder is removed when all others are in place. APR_EARG when it is being read. */
APR_MUST_CHECK enum apr_code apr_sinks_remove(struct apr_sinks *s, const char *name, struct apr_error *e);

/* All on disk, then in place. After a failure of a new folder nothing is there; else those files that were in place before it. */
APR_MUST_CHECK enum apr_code apr_sinks_end(struct apr_sinks *s, struct apr_error *e);

/* Gives up what has not taken its place, and frees the set. NULL is nothing. To be called after apr_sinks_end as well. */
void apr_sinks_drop(struct apr_sinks *s);

#endif
