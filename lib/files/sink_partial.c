/* Files under way that stay when a run ends, for another to go on. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/sink_parts.h"
#include "files/source.h"

static enum apr_code not_own(const struct apr_sink *s, const char *name, const char *what, struct apr_error *e)
{
    apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be gone on with: %s is %s", APR_QUOTED(apr_text(name)), what);
    apr_error_in(e, s->path);
    return APR_EARG;
}

/* Opens the file of that name in a folder, or makes it. It is emptied and written over, so it must be one that a run before may have left:
 * not a link, a pipe or a folder, not a file that has another name as well, not what is being read. */
static enum apr_code open_own(const struct apr_sink *s, int folder, const char *name, int *fd, struct apr_error *e)
{
    struct stat st;
    *fd = openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0666);
    if (*fd < 0)
        return errno == ELOOP || errno == EISDIR || errno == ENXIO ? not_own(s, name, "no file", e) : apr_sink_failed(s->path, errno, e);
    const bool file = fstat(*fd, &st) == 0 && S_ISREG(st.st_mode);
    const char *const why = !file ? "no file" : apr_is_read(&st) ? "being read" : st.st_nlink > 1 ? "a file of more than one name" : NULL;
    if (why == NULL)
        return APR_OK;
    close(*fd);
    *fd = -1;
    return not_own(s, name, why, e);
}

static enum apr_code open_log(struct apr_sink *s, const char *name, struct apr_error *e)
{
    char log[NAME_MAX + 1];
    int fd;
    if (snprintf(log, sizeof log, "%s.log", name) >= (int)sizeof log)
        return apr_sink_failed(s->path, ENAMETOOLONG, e);
    APR_TRY(open_own(s, s->place.folder, log, &fd, e));
    s->log = fd + 1;
    return APR_OK;
}

/* Is the file that was opened still the one of that name? */
static bool is_there(const struct apr_sink *s, const char *name)
{
    struct stat own, now;
    return fstat(s->fd, &own) == 0 && fstatat(s->place.folder, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && own.st_dev == now.st_dev &&
           own.st_ino == now.st_ino;
}

enum apr_code apr_sink_partial(struct apr_sink *s, const char *name, struct apr_error *e)
{
    struct stat st;
    int fd;
    if (s->stray == NULL)
        return apr_sink_refused(s->path, "only a file can be gone on with", e);
    APR_TRY(open_own(s, s->place.folder, name, &fd, e));
    if (s->named) /* a temporary name is not needed any more */
        unlinkat(s->stray->folder, s->stray->name, 0);
    s->stray->there = false;
    s->stray->folder = s->place.folder;
    snprintf(s->stray->name, sizeof s->stray->name, "%s", name);
    s->named = true;
    close(s->fd);
    s->fd = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? apr_sink_refused(s->path, "another run is writing it", e) : apr_sink_failed(s->path, errno, e);
    if (!is_there(s, name)) /* which has put it in place just now */
        return apr_sink_refused(s->path, "another run has written it", e);
    const enum apr_code code = open_log(s, name, e);
    if (code != APR_OK && fstat(fd, &st) == 0 && st.st_size == 0)
        unlinkat(s->stray->folder, name, 0); /* nothing was begun */
    APR_TRY(code);
    const int why = apr_reserve(fd, s->size);
    return why == 0 ? APR_OK : apr_sink_failed(s->path, why, e);
}

enum apr_code apr_sink_log(const struct apr_sink *s, uint64_t most, struct apr_bytes *log, struct apr_error *e)
{
    struct stat st;
    unsigned char *at = NULL;
    size_t n = 0;
    *log = (struct apr_bytes){ 0 };
    if (fstat(s->log - 1, &st) != 0)
        return apr_sink_failed(s->path, errno, e);
    if ((uint64_t)st.st_size > most)
        return APR_OK;
    at = malloc((size_t)st.st_size + 1);
    if (at == NULL)
        return apr_no_memory(e);
    for (ssize_t got; n < (size_t)st.st_size && (got = pread(s->log - 1, at + n, (size_t)st.st_size - n, (off_t)n)) != 0; n += (size_t)got)
        if (got < 0) {
            free(at);
            return apr_sink_failed(s->path, errno, e);
        }
    *log = (struct apr_bytes){ at, n };
    return APR_OK;
}

enum apr_code apr_sink_note(struct apr_sink *s, const void *bytes, size_t n, struct apr_error *e)
{
    if (lseek(s->log - 1, 0, SEEK_END) < 0)
        return apr_sink_failed(s->path, errno, e);
    const enum apr_code code = apr_write_all(s->log - 1, bytes, n, e);
    if (code != APR_OK)
        apr_error_in(e, s->path);
    return code;
}

enum apr_code apr_sink_restart(struct apr_sink *s, struct apr_error *e)
{
    if (ftruncate(s->log - 1, 0) != 0 || ftruncate(s->fd, 0) != 0)
        return apr_sink_failed(s->path, errno, e);
    const int why = apr_reserve(s->fd, s->size);
    return why == 0 ? APR_OK : apr_sink_failed(s->path, why, e);
}

void apr_sink_forget(struct apr_sink *s)
{
    char name[NAME_MAX + 1];
    if (s->log > 0 && snprintf(name, sizeof name, "%s.log", s->stray->name) < (int)sizeof name)
        unlinkat(s->stray->folder, name, 0);
}
