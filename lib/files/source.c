#include "files/source.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "files/address.h"
#include "files/remote.h"

#define COPY_BYTES (256 * 1024)

/* All open sources, for apr_source_patch, and how many descriptors they keep. Only opening and closing take the lock; a handler only
 * follows the links, and the source whose fault it handles is not being closed. */
static struct apr_source *_Atomic all_sources;
static size_t                     all_kept;
static pthread_mutex_t            all_lock = PTHREAD_MUTEX_INITIALIZER;

static enum apr_code open_whole(struct apr_source **s, const char *path, const struct apr_run *r, struct apr_error *e);

static enum apr_code system_error(struct apr_error *e, const char *doing)
{
    char why[128];
    const char *text = strerror_r(errno, why, sizeof why);
    return apr_fail(e, errno == ENOMEM ? APR_ENOMEM : APR_EIO, APR_NOWHERE, "%s: %s", doing, text);
}

int apr_temporary(const struct apr_run *r, struct apr_error *e)
{
    int fd = r->tmpdir == NULL ? memfd_create("apr", MFD_CLOEXEC) : open(r->tmpdir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && r->tmpdir != NULL && (errno == EOPNOTSUPP || errno == EISDIR)) {
        char path[4096];
        const size_t n = strlen(r->tmpdir);
        if (n + sizeof "/apr-XXXXXX" <= sizeof path) {
            memcpy(path, r->tmpdir, n);
            memcpy(path + n, "/apr-XXXXXX", sizeof "/apr-XXXXXX");
            fd = mkostemp(path, O_CLOEXEC);
            if (fd >= 0)
                unlink(path);
        }
    }
    if (fd < 0) {
        system_error(e, "cannot make a temporary file");
        apr_error_in(e, r->tmpdir != NULL ? r->tmpdir : "memory");
    }
    return fd;
}

enum apr_code apr_write_all(int fd, const void *bytes, size_t n, struct apr_error *e)
{
    for (const unsigned char *at = bytes; n > 0;) {
        const ssize_t put = write(fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return system_error(e, "cannot write a temporary file");
        at += put;
        n -= (size_t)put;
    }
    return APR_OK;
}

static enum apr_code map_file(int fd, uint64_t n, struct apr_bytes *map, struct apr_error *e)
{
    *map = (struct apr_bytes){ (const unsigned char *)"", 0 };
    if (n == 0)
        return APR_OK;
    if (n > SIZE_MAX / 2)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "too large to map");
    void *at = mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return system_error(e, "cannot map the file");
    *map = (struct apr_bytes){ at, (size_t)n };
    return APR_OK;
}

static void unmap(struct apr_bytes map)
{
    if (map.n > 0)
        munmap((void *)(uintptr_t)map.at, map.n);
}

/* Copies all that can be read from fd into a temporary file, which takes its place in *fd; *n becomes its length. */
static enum apr_code spool(int *fd, uint64_t *n, const struct apr_run *r, struct apr_error *e)
{
    const int copy = apr_temporary(r, e);
    if (copy < 0)
        return e->code;
    char *buffer = malloc(COPY_BYTES);
    enum apr_code code = buffer == NULL ? apr_no_memory(e) : APR_OK;
    *n = 0;
    while (code == APR_OK) {
        const ssize_t got = read(*fd, buffer, COPY_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            code = system_error(e, "cannot read");
        if (got <= 0)
            break;
        code = apr_write_all(copy, buffer, (size_t)got, e);
        *n += (uint64_t)got;
    }
    free(buffer);
    close(*fd);
    *fd = copy;
    return code;
}

/* Of the descriptors that the process may have, sources keep half: a trace can have more files. */
static bool may_keep(size_t kept)
{
    struct rlimit most;
    return getrlimit(RLIMIT_NOFILE, &most) == 0 && kept < most.rlim_cur / 2;
}

static void publish(struct apr_source *s, int fd)
{
    pthread_mutex_lock(&all_lock);
    s->fd = !s->copied && may_keep(all_kept) ? fd : -1;
    all_kept += s->fd >= 0;
    s->next = all_sources;
    if (s->next != NULL)
        s->next->before = s;
    all_sources = s;
    pthread_mutex_unlock(&all_lock);
    if (s->fd < 0)
        close(fd);
}

/* A source of the n bytes of fd, which it takes over; st says which file they came from. */
static enum apr_code new_source(struct apr_source **out, const char *path, int fd, uint64_t n, const struct stat *st, bool copied,
                                struct apr_error *e)
{
    const size_t length = strlen(path) + 1;
    struct apr_source *s = calloc(1, sizeof *s + length);
    const enum apr_code code = s == NULL ? apr_no_memory(e) : map_file(fd, n, &s->map, e);
    if (code != APR_OK) {
        close(fd);
        free(s);
        return code;
    }
    s->path = memcpy(s + 1, path, length);
    s->stored = n;
    s->device = st->st_dev;
    s->inode = st->st_ino;
    s->written = st->st_mtim;
    s->copied = copied;
    publish(s, fd);
    *out = s;
    return APR_OK;
}

/* A character device, but for a terminal, which a user ends, and /dev/null, which is empty. */
static bool is_endless(int fd, const struct stat *st) { return S_ISCHR(st->st_mode) && st->st_rdev != makedev(1, 3) && !isatty(fd); }

enum apr_code apr_source_open(struct apr_source **s, const char *path, const struct apr_run *r, struct apr_error *e)
{
    const bool dash = strcmp(path, "-") == 0;
    if (apr_is_address(path))
        return open_whole(s, path, r, e);
    int fd = dash ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st = { 0 };
    enum apr_code code = APR_OK;
    *s = NULL;
    if (fd < 0)
        code = system_error(e, "cannot open");
    else if (fstat(fd, &st) != 0)
        code = system_error(e, "cannot tell what it is");
    else if (S_ISDIR(st.st_mode))
        code = apr_fail(e, APR_EIO, APR_NOWHERE, "is a folder");
    else if (is_endless(fd, &st))
        code = apr_fail(e, APR_EIO, APR_NOWHERE, "is a device, which may have no end, not a file");
    const bool copied = code == APR_OK && (!S_ISREG(st.st_mode) || (dash && lseek(fd, 0, SEEK_CUR) != 0));
    uint64_t n = (uint64_t)st.st_size;
    if (copied)
        code = spool(&fd, &n, r, e);
    if (code == APR_OK)
        code = new_source(s, path, fd, n, &st, copied, e);
    else if (fd >= 0)
        close(fd);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

/* The failure is the file's own, not the system's. */
static enum apr_code of_file(struct apr_error *e)
{
    e->finding = "file.unreadable";
    return e->code;
}

static enum apr_code no_file(const struct stat *st, struct apr_error *e)
{
    const mode_t mode = st->st_mode;
    apr_fail(e, APR_EIO, APR_NOWHERE, "is %s, not a file", S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" :
             S_ISSOCK(mode) ? "a socket" : "a device");
    return of_file(e);
}

static enum apr_code too_long(const struct stat *st, uint64_t most, struct apr_error *e)
{
    apr_fail(e, APR_ELIMIT, APR_NOWHERE, "has %lld bytes, of such a file at most %llu are read", (long long)st->st_size,
             (unsigned long long)most);
    return of_file(e);
}

/* For a path that open refused: APR_OK when nothing is there. */
static enum apr_code not_opened(const char *path, struct apr_error *e)
{
    const int why = errno;
    struct stat st;
    char target[256];
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return no_file(&st, e);
    if (why == ENOENT || why == ENOTDIR) {
        const ssize_t n = readlink(path, target, sizeof target);
        if (n < 0)
            return APR_OK;
        apr_fail(e, APR_EIO, APR_NOWHERE, "is a link to %s, which is not there",
                 APR_QUOTED(((struct apr_bytes){ (unsigned char *)target, (size_t)n })));
        return of_file(e);
    }
    errno = why;
    system_error(e, "cannot open");
    return why == EACCES || why == EPERM || why == ELOOP || why == ENAMETOOLONG ? of_file(e) : e->code;
}

enum apr_code apr_source_sidecar(struct apr_source **s, const char *path, uint64_t most, const struct apr_run *r, struct apr_error *e)
{
    if (apr_is_address(path))
        return apr_remote_open(s, path, false, most, r, e);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a pipe without a writer does not hold us up */
    struct stat st;
    enum apr_code code = APR_OK;
    *s = NULL;
    if (fd < 0)
        code = not_opened(path, e);
    else if (fstat(fd, &st) != 0)
        code = system_error(e, "cannot tell what it is");
    else if (!S_ISREG(st.st_mode))
        code = no_file(&st, e);
    else if ((uint64_t)st.st_size > most)
        code = too_long(&st, most, e);
    if (code == APR_OK && fd >= 0)
        code = new_source(s, path, fd, (uint64_t)st.st_size, &st, false, e);
    else if (fd >= 0)
        close(fd);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

enum apr_code apr_source_of(struct apr_source **s, int fd, const char *path, struct apr_error *e)
{
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    struct stat st;
    enum apr_code code = APR_OK;
    *s = NULL;
    if (own < 0 || fstat(own, &st) != 0)
        code = system_error(e, "cannot be read back");
    if (code == APR_OK)
        code = new_source(s, path, own, (uint64_t)st.st_size, &st, false, e);
    else if (own >= 0)
        close(own);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

void apr_source_close(struct apr_source *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&all_lock);
    if (s->before == NULL)
        all_sources = s->next;
    else
        s->before->next = s->next;
    if (s->next != NULL)
        s->next->before = s->before;
    all_kept -= s->fd >= 0;
    pthread_mutex_unlock(&all_lock);
    if (s->fd >= 0)
        close(s->fd);
    if (s->remote != NULL)
        apr_remote_close(s);
    unmap(s->map);
    free(s);
}

/* ---- by parts ------------------------------------------------------------------------------------------------------- */

/* The map is that of an empty file: a page of it that nobody has put there is lost when it is touched. */
enum apr_code apr_source_reserve(struct apr_source **s, const char *path, uint64_t n, struct apr_error *e)
{
    const int fd = memfd_create("apr-reserve", MFD_CLOEXEC);
    struct stat st;
    *s = NULL;
    if (fd < 0 || fstat(fd, &st) != 0) {
        system_error(e, "cannot reserve memory");
        if (fd >= 0)
            close(fd);
        return e->code;
    }
    return new_source(s, path, fd, n, &st, true, e);
}

enum apr_code apr_source_put(struct apr_source *s, int fd, uint64_t from, uint64_t begin, uint64_t end, struct apr_error *e)
{
    void *const at = (void *)(uintptr_t)(s->map.at + begin);
    if (end > begin && mmap(at, (size_t)(end - begin), PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)from) == MAP_FAILED)
        return system_error(e, "cannot map what was fetched");
    return APR_OK;
}

struct apr_bytes apr_source_head(const struct apr_source *s) { return s->remote == NULL ? s->map : apr_remote_head(s); }
uint64_t apr_source_missing(const struct apr_source *s) { return s->remote == NULL ? 0 : apr_remote_missing(s); }

enum apr_code apr_source_reach(struct apr_source *s, uint64_t n, struct apr_error *e)
{
    return s->remote == NULL ? APR_OK : apr_remote_reach(s, n, e);
}

enum apr_code apr_source_want(struct apr_source *s, struct apr_bytes range, struct apr_error *e)
{
    if (s->remote == NULL || range.n == 0 || range.at < s->map.at || range.at >= s->map.at + s->map.n)
        return APR_OK;
    const uint64_t begin = (uint64_t)(range.at - s->map.at);
    return apr_remote_want(s, begin, begin + range.n, e);
}

enum apr_code apr_source_may_fetch(const struct apr_source *s, uint64_t bytes, struct apr_error *e)
{
    return s->remote == NULL || bytes == 0 ? APR_OK : apr_remote_may_download(s, bytes, e);
}

enum apr_code apr_source_fetch(struct apr_source *s, uint64_t announced, struct apr_error *e)
{
    return s->remote == NULL ? APR_OK : apr_remote_download(s, announced, e);
}

enum apr_code apr_source_open_parts(struct apr_source **s, const char *path, const struct apr_run *r, struct apr_error *e)
{
    return apr_is_address(path) ? apr_remote_open(s, path, true, APR_MOST_SHARD, r, e) : apr_source_open(s, path, r, e);
}

static enum apr_code open_whole(struct apr_source **s, const char *path, const struct apr_run *r, struct apr_error *e)
{
    APR_TRY(apr_remote_open(s, path, true, APR_MOST_SHARD, r, e));
    const enum apr_code code = apr_remote_download(*s, apr_remote_missing(*s), e);
    if (code != APR_OK) {
        apr_source_close(*s);
        *s = NULL;
    }
    return code;
}

bool apr_source_is_open(uint64_t device, uint64_t inode)
{
    pthread_mutex_lock(&all_lock);
    const struct apr_source *s = all_sources;
    while (s != NULL && (s->device != device || s->inode != inode))
        s = s->next;
    pthread_mutex_unlock(&all_lock);
    return s != NULL;
}

/* Length and time of writing count. The time of change does not: another name, another mode or owner, a move change it and no byte. A file
 * that is known by its path alone may have been replaced: then nobody can say what became of the mapped one. */
static enum apr_code compare_with(const struct apr_source *s, const struct stat *st, struct apr_error *e)
{
    if (st->st_dev != s->device || st->st_ino != s->inode)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "another file took its place while it was read");
    if ((uint64_t)st->st_size < s->stored)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "the file shrank while it was read");
    if ((uint64_t)st->st_size > s->stored || st->st_mtim.tv_sec != s->written.tv_sec || st->st_mtim.tv_nsec != s->written.tv_nsec)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "the file changed while it was read");
    return APR_OK;
}

enum apr_code apr_source_intact(const struct apr_source *s, struct apr_error *e)
{
    struct stat st;
    enum apr_code code = APR_OK;
    if (!s->copied)
        code = (s->fd >= 0 ? fstat(s->fd, &st) : stat(s->path, &st)) != 0 ? system_error(e, "cannot be asked whether it changed")
                                                                        : compare_with(s, &st, e);
    if (code == APR_OK && s->lost && s->remote != NULL)
        code = apr_remote_lost(s, e);
    else if (code == APR_OK && s->lost) /* pages within its length */
        code = apr_fail(e, APR_EIO, APR_NOWHERE, "the disk failed while it was read: %s", strerror(EIO));
    if (code != APR_OK)
        apr_error_in(e, s->path);
    return code;
}

enum apr_code apr_source_end(struct apr_source *s, enum apr_code code, struct apr_error *e)
{
    struct apr_error why;
    if (s != NULL && apr_source_intact(s, &why) != APR_OK) {
        code = why.code;
        *e = why;
    }
    apr_source_close(s);
    return code;
}

enum apr_code apr_source_replace(struct apr_source *s, int fd, uint64_t n, struct apr_error *e)
{
    struct apr_bytes map;
    const enum apr_code code = map_file(fd, n, &map, e);
    close(fd);
    if (code != APR_OK)
        return code;
    if (s->remote != NULL)
        apr_remote_close(s);
    unmap(s->map);
    s->map = map;
    return APR_OK;
}

/* ---- pages ---------------------------------------------------------------------------------------------------------- */

size_t apr_source_page(void)
{
    static _Atomic size_t known;
    size_t n = known;
    if (n == 0)
        known = n = (size_t)sysconf(_SC_PAGESIZE);
    return n;
}

/* A fault on a mapped file maps the pages in the page cache around it too, within a window of this size. */
#define FAULT_AROUND 65536

void apr_drop_behind(struct apr_bytes map, struct apr_bytes range)
{
    const uintptr_t low = (uintptr_t)map.at, high = low + map.n;
    uintptr_t begin = (uintptr_t)range.at / FAULT_AROUND * FAULT_AROUND;
    uintptr_t end = ((uintptr_t)range.at + range.n + FAULT_AROUND - 1) / FAULT_AROUND * FAULT_AROUND;
    begin = begin < low ? low : begin;
    end = end > high ? high : end;
    if (range.n > 0 && end > begin)
        madvise((void *)begin, (size_t)(end - begin), MADV_DONTNEED);
}

bool apr_source_patch(const void *address)
{
    const unsigned char *at = address;
    for (struct apr_source *s = all_sources; s != NULL; s = s->next) {
        if (at < s->map.at || at >= s->map.at + s->map.n)
            continue;
        const size_t page = apr_source_page();
        const uintptr_t begin = (uintptr_t)at / page * page;
        /* the bare call: a handler may make it, and a sanitizer does not take it for a write that races with the readers */
        const long zeros = syscall(SYS_mmap, begin, (size_t)((uintptr_t)(s->map.at + s->map.n) - begin), PROT_READ,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        s->lost = 1;
        return zeros != -1;
    }
    return false;
}
