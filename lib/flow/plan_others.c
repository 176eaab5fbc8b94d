/* The shards that other jobs of a plan have written, held against it: their headers say what was planned. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "flow/plan_writing.h"

static bool begins_with(int fd, struct apr_bytes wanted)
{
    unsigned char here[16384];
    for (size_t at = 0; at < wanted.n;) {
        const ssize_t n = pread(fd, here, apr_min(sizeof here, wanted.n - at), (off_t)at);
        if (n <= 0 || memcmp(here, wanted.at + at, (size_t)n) != 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

/* What is not there, or no file, says nothing. */
static bool agrees(const char *path, struct apr_bytes begin, uint64_t size)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return true;
    const bool fine = fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || ((uint64_t)st.st_size == size && begins_with(fd, begin));
    close(fd);
    return fine;
}

/* With force it goes, as it would if this run wrote all of them. */
static enum apr_code refuse(const struct apr_plan *p, const char *path, struct apr_error *e)
{
    if (p->force && (unlink(path) == 0 || errno == ENOENT))
        return APR_OK;
    apr_fail(e, APR_EARG, APR_NOWHERE, "was written by another plan: the input changed between two jobs, or the options did; --force takes it away, "
                                       "then all jobs are to be run again");
    apr_error_in(e, path);
    return APR_EARG;
}

enum apr_code apr_writing_others(const struct apr_plan *p, struct apr_error *e)
{
    for (size_t i = 0; p->only > 0 && p->zstd == 0 && i < p->nfile; i++)
        if (i + 1 != p->only && !agrees(p->file[i].path, p->file[i].header, p->file[i].size))
            APR_TRY(refuse(p, p->file[i].path, e));
    if (p->only > 1 && p->index.path != NULL && !agrees(p->index.path, p->index.text, p->index.text.n))
        return refuse(p, p->index.path, e);
    return APR_OK;
}

enum apr_code apr_writing_others_still(const struct apr_plan *p, struct apr_error *e)
{
    const enum apr_code code = apr_writing_others(p, e);
    if (code == APR_OK)
        return APR_OK;
    unlink(p->file[p->only - 1].path);
    if (p->only == 1 && p->index.path != NULL)
        unlink(p->index.path);
    return code;
}
