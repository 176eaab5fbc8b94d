#include "files/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum apr_code refused(const char *path, int why, struct apr_error *e)
{
    apr_fail(e, APR_EIO, APR_NOWHERE, "cannot be written: %s", strerror(why == 0 ? EIO : why));
    apr_error_in(e, path);
    return APR_EIO;
}

static void forget(struct apr_replacement *r)
{
    free(r->target);
    free(r->part);
    *r = (struct apr_replacement){ .to = NULL };
}

enum apr_code apr_replace_begin(struct apr_replacement *r, const char *path, struct apr_error *e)
{
    struct stat st;
    char *const real = realpath(path, NULL);
    const bool special = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    *r = (struct apr_replacement){ .target = real != NULL ? real : strdup(path) };
    if (r->target == NULL || (!special && asprintf(&r->part, "%s.%ld.part", r->target, (long)getpid()) < 0)) {
        r->part = NULL;
        forget(r);
        return apr_no_memory(e);
    }
    const int fd = special ? open(r->target, O_WRONLY | O_CLOEXEC) : open(r->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const int why = errno;
    if (fd >= 0 && (r->to = fdopen(fd, "w")) != NULL)
        return APR_OK;
    if (fd >= 0) {
        close(fd);
        if (r->part != NULL)
            unlink(r->part);
    }
    forget(r);
    return fd < 0 ? refused(path, why, e) : apr_no_memory(e);
}

/* The rename lasts once the folder it happened in is on disk. */
static void sync_folder(char *path)
{
    const int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

enum apr_code apr_replace_end(struct apr_replacement *r, struct apr_error *e)
{
    errno = 0;
    bool good = fflush(r->to) == 0 && !ferror(r->to) && (r->part == NULL || fsync(fileno(r->to)) == 0);
    good = fclose(r->to) == 0 && good;
    r->to = NULL;
    if (good && (r->part == NULL || rename(r->part, r->target) == 0)) {
        if (r->part != NULL)
            sync_folder(r->part);
        forget(r);
        return APR_OK;
    }
    refused(r->target, errno, e);
    apr_replace_drop(r);
    return APR_EIO;
}

void apr_replace_drop(struct apr_replacement *r)
{
    if (r->to != NULL)
        fclose(r->to);
    if (r->part != NULL)
        unlink(r->part);
    forget(r);
}
