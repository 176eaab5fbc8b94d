/* Files under way that stay when a run ends, for another to go on. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "files/sink_parts.h"
#include "files/source.h"

static int open_named(int folder, const char *name) { return openat(folder, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666); }

/* The log of the file called so: its stray has room for the name. */
static int open_log(const struct apr_stray *stray)
{
    char name[NAME_MAX + 1];
    const int n = snprintf(name, sizeof name, "%s.log", stray->name);
    if (n >= (int)sizeof name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open_named(stray->folder, name);
}

enum apr_code apr_sink_partial(struct apr_sink *s, const char *name, struct apr_error *e)
{
    struct stat st;
    if (s->stray == NULL)
        return apr_sink_refused(s->path, "only a file can be gone on with", e);
    const int fd = open_named(s->place.folder, name);
    if (fd < 0)
        return apr_sink_failed(s->path, errno, e);
    if (s->named) /* a temporary name is not needed any more */
        unlinkat(s->stray->folder, s->stray->name, 0);
    s->stray->there = false;
    s->stray->folder = s->place.folder;
    snprintf(s->stray->name, sizeof s->stray->name, "%s", name);
    s->named = true;
    close(s->fd);
    s->fd = fd;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return apr_sink_failed(s->path, EINVAL, e);
    if (apr_is_read(&st))
        return apr_sink_refused(s->path, "what would be gone on with is being read", e);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? apr_sink_refused(s->path, "another run is writing it", e) : apr_sink_failed(s->path, errno, e);
    s->log = open_log(s->stray) + 1;
    if (s->log == 0)
        return apr_sink_failed(s->path, errno, e);
    const int why = apr_reserve(fd, s->size);
    return why == 0 ? APR_OK : apr_sink_failed(s->path, why, e);
}

enum apr_code apr_sink_log(const struct apr_sink *s, struct apr_bytes *log, struct apr_error *e)
{
    struct stat st;
    unsigned char *at = NULL;
    size_t n = 0;
    *log = (struct apr_bytes){ 0 };
    if (fstat(s->log - 1, &st) != 0)
        return apr_sink_failed(s->path, errno, e);
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
