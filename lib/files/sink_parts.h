/* What sink.c and sinks.c share. */
#ifndef APR_SINK_PARTS_H
#define APR_SINK_PARTS_H

#include <limits.h>

#include "files/sink.h"

/* A name that a sudden end would leave. They are kept for ever, for a handler may look at them at any time, and used again.
 *   taken   something is under way
 *   there   the name may exist: it is to be removed
 *   within  it lies in that temporary folder, and is no stray any more when the folder has another name; or NULL */
struct apr_stray {
    struct apr_stray       *next;
    const struct apr_stray *within;
    atomic_bool             taken, there, is_folder;
    int                     folder;
    char                    name[NAME_MAX + 1];
};

/* NULL when memory is out. */
struct apr_stray *apr_stray_take(void);

/* Gives the file without a name at fd a temporary one or, when fd is -1, makes a file or folder of that name. A descriptor (0 for a
 * folder), or -1 and errno. */
int apr_stray_make(struct apr_stray *s, int folder, int fd, mode_t mode);

/* Removes what is there. NULL is nothing. */
void apr_stray_drop(struct apr_stray *s);

/* Is it a file that an open source reads? */
bool apr_is_read(const struct stat *st);

/* Messages: an errno; a wish that is not granted. */
enum apr_code apr_sink_failed(const char *path, int why, struct apr_error *e);
enum apr_code apr_sink_refused(const char *path, const char *why, struct apr_error *e);

/* Begins a file that will lie in a folder by the last name of path, where nothing has that name; the folder may be another one in the end.
 * folder -1: as apr_sink_begin. */
APR_MUST_CHECK enum apr_code apr_sink_begin_in(struct apr_sink *s, const char *path, int folder, uint64_t size, struct apr_error *e);

/* Gives a synced file its name in a temporary folder. When that has got its own name, apr_sink_settle ends the sink. */
APR_MUST_CHECK enum apr_code apr_sink_link(struct apr_sink *s, int folder, const struct apr_stray *within, struct apr_error *e);
void apr_sink_settle(struct apr_sink *s);

/* May it take its place, as far as can be seen? */
APR_MUST_CHECK enum apr_code apr_sink_check(const struct apr_sink *s, struct apr_error *e);

/* Puts a synced file in place. apr_sink_drop follows, and whoever wants the name to last syncs the folder. */
APR_MUST_CHECK enum apr_code apr_sink_place(struct apr_sink *s, struct apr_error *e);

/* Room for n bytes: an errno when there surely is none. */
int apr_reserve(int fd, uint64_t n);

/* The file that was partial has its own name: its log goes. */
void apr_sink_forget(struct apr_sink *s);

#endif
