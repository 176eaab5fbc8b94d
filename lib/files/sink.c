#include "files/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/sink_parts.h"
#include "files/source.h"

#define MOST_LINKS 40
#define MOST_TRIES 100

static const char reading[] = "it is being read", appeared[] = "it appeared meanwhile; --force replaces it";

enum apr_code apr_sink_failed(const char *path, int why, struct apr_error *e)
{
    const bool answer = strcmp(path, "-") == 0;
    char text[128];
    const char *const words = why == EISDIR ? "it is a folder" : why == EBUSY ? "it is mounted here" : strerror_r(why, text, sizeof text);
    const enum apr_code code = apr_fail(e, why == ENOMEM ? APR_ENOMEM : APR_EIO, APR_NOWHERE, "%s%s", answer ? "" : "cannot be written: ",
                                        words);
    apr_error_in(e, answer ? "standard output" : path);
    return code;
}

/* ---- where it lies -------------------------------------------------------------------------------------------------- */

/* The descriptor that a path names, or -1. */
static int stream_of(const char *path)
{
    static const char *const word[] = { "/dev/stdin", "/dev/stdout", "/dev/stderr" }, *const before[] = { "/dev/fd/", "/proc/self/fd/" };
    for (int i = 0; i < (int)APR_LENGTH(word); i++)
        if (strcmp(path, word[i]) == 0)
            return i;
    for (size_t i = 0; i < APR_LENGTH(before); i++) {
        const char *const digits = path + strlen(before[i]);
        const size_t n = strncmp(path, before[i], strlen(before[i])) == 0 ? strspn(digits, "0123456789") : 0;
        if (n > 0 && n < 10 && digits[n] == 0)
            return atoi(digits);
    }
    return -1;
}

int apr_follow_links(char **path)
{
    char to[PATH_MAX];
    for (unsigned i = 0; i < MOST_LINKS; i++) {
        const ssize_t n = stream_of(*path) >= 0 ? -1 : readlink(*path, to, sizeof to);
        if (n < 0)
            return 0; /* no link; whatever else it may be is found next */
        const char *const slash = strrchr(*path, '/');
        const int folder = slash == NULL || to[0] == '/' ? 0 : (int)(slash + 1 - *path);
        char *end;
        if (asprintf(&end, "%.*s%.*s", folder, *path, (int)n, to) < 0)
            return ENOMEM;
        free(*path);
        *path = end;
    }
    return ELOOP;
}

static enum apr_code refused_folder(const char *path, const char *folder, struct apr_error *e)
{
    char text[128];
    apr_fail(e, APR_EIO, APR_NOWHERE, "cannot be written: its folder %s: %s", APR_QUOTED(apr_text(folder)),
             strerror_r(errno, text, sizeof text));
    apr_error_in(e, path);
    return APR_EIO;
}

/* A file that was mounted alone, as containers have them, holds its place: no other can be renamed over it. */
static bool is_mounted(const struct apr_target *p)
{
    struct statx st;
    return statx(p->folder, p->name, AT_SYMLINK_NOFOLLOW, 0, &st) == 0 && (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* end: path with its links followed; it is taken apart. */
static enum apr_code find_file(struct apr_target *p, const char *path, char *end, struct apr_error *e)
{
    char *const slash = strrchr(end, '/');
    const char *const name = slash == NULL ? end : slash + 1;
    if (*path == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "an output has no name");
    if (*name == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return apr_sink_failed(path, EISDIR, e);
    p->name = strdup(name);
    if (p->name == NULL)
        return apr_no_memory(e);
    if (slash != NULL)
        slash[slash == end] = 0; /* what is left is the folder, or "/" */
    const char *const folder = slash == NULL ? "." : end;
    p->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (p->folder < 0)
        return refused_folder(path, folder, e);
    p->exists = fstatat(p->folder, p->name, &p->st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!p->exists && (errno != ENOENT || fstat(p->folder, &p->st) != 0))
        return apr_sink_failed(path, errno, e);
    if (p->exists && S_ISDIR(p->st.st_mode))
        return apr_sink_failed(path, EISDIR, e);
    if (p->exists && faccessat(p->folder, p->name, W_OK, AT_EACCESS) != 0)
        return apr_sink_failed(path, errno, e);
    if (p->exists && S_ISREG(p->st.st_mode) && is_mounted(p))
        return apr_sink_failed(path, EBUSY, e);
    if ((!p->exists || S_ISREG(p->st.st_mode)) && faccessat(p->folder, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return refused_folder(path, folder, e);
    return APR_OK;
}

enum apr_code apr_target_find(struct apr_target *p, const char *path, struct apr_error *e)
{
    char *end = strdup(path);
    *p = (struct apr_target){ .stream = -1, .folder = -1 };
    if (end == NULL)
        return apr_no_memory(e);
    const bool answer = strcmp(path, "-") == 0;
    const int why = answer ? 0 : apr_follow_links(&end);
    enum apr_code code = why == 0 ? APR_OK : apr_sink_failed(path, why, e);
    if (code == APR_OK && (p->stream = answer ? STDOUT_FILENO : stream_of(end)) >= 0) {
        p->exists = true;
        if (fstat(p->stream, &p->st) != 0)
            code = apr_sink_failed(path, errno, e);
    } else if (code == APR_OK) {
        code = find_file(p, path, end, e);
    }
    free(end);
    return code;
}

void apr_target_free(struct apr_target *p)
{
    if (p->folder >= 0)
        close(p->folder);
    free(p->name);
    *p = (struct apr_target){ .stream = -1, .folder = -1 };
}

bool apr_target_same(const struct apr_target *p, const struct apr_target *q)
{
    if (p->stream >= 0 && p->stream == q->stream)
        return true;
    const bool node = p->st.st_dev == q->st.st_dev && p->st.st_ino == q->st.st_ino;
    if (p->exists != q->exists || !node)
        return false;
    return p->exists ? !S_ISCHR(p->st.st_mode) : strcmp(p->name, q->name) == 0;
}

/* ---- what a sudden end would leave ---------------------------------------------------------------------------------- */

static struct apr_stray *_Atomic all_strays;

struct apr_stray *apr_stray_take(void)
{
    for (struct apr_stray *s = all_strays; s != NULL; s = s->next)
        if (!atomic_exchange(&s->taken, true))
            return s;
    struct apr_stray *const s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->taken = true;
    s->next = all_strays;
    while (!atomic_compare_exchange_weak(&all_strays, &s->next, s))
        continue;
    return s;
}

bool apr_sink_pending(void)
{
    for (const struct apr_stray *s = all_strays; s != NULL; s = s->next)
        if (s->taken)
            return true;
    return false;
}

/* What lies in a temporary folder is a stray as long as that folder has not got its own name. */
static void remove_stray(const struct apr_stray *s)
{
    struct stat st;
    const struct apr_stray *const in = s->within;
    if (s->there && (in == NULL || fstatat(in->folder, in->name, &st, AT_SYMLINK_NOFOLLOW) == 0))
        unlinkat(s->folder, s->name, s->is_folder ? AT_REMOVEDIR : 0);
}

void apr_stray_drop(struct apr_stray *s)
{
    if (s == NULL)
        return;
    remove_stray(s);
    s->there = false;
    s->is_folder = false;
    s->within = NULL;
    s->taken = false;
}

void apr_sink_abandon(void)
{
    for (unsigned folders = 0; folders <= 2; folders++) /* what is in one comes before it */
        for (const struct apr_stray *s = all_strays; s != NULL; s = s->next)
            if (s->is_folder == (folders > 0))
                remove_stray(s);
}

/* Nothing is called so, not even what a process of the same number left in the same folder. */
static void new_name(struct apr_stray *s)
{
    static atomic_uint count;
    uint64_t number;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
        number = (uint64_t)getpid() << 32 | atomic_fetch_add(&count, 1); /* the machine has just begun */
    snprintf(s->name, sizeof s->name, ".apr-%016llx.part", (unsigned long long)number);
}

/* Gives the file without a name at fd a temporary one or, when fd is -1, makes a file of that name, or a folder. A descriptor (of a file),
 * or -1 and errno. */
static int make_new(const struct apr_stray *s, int folder, int fd, mode_t mode)
{
    char nameless[32];
    snprintf(nameless, sizeof nameless, "/proc/self/fd/%d", fd);
    if (s->is_folder)
        return mkdirat(folder, s->name, mode);
    return fd < 0 ? openat(folder, s->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode)
                  : linkat(AT_FDCWD, nameless, folder, s->name, AT_SYMLINK_FOLLOW);
}

int apr_stray_make(struct apr_stray *s, int folder, int fd, mode_t mode)
{
    s->folder = folder;
    for (unsigned i = 0; i < MOST_TRIES; i++) {
        new_name(s);
        s->there = true; /* before it is */
        const int made = make_new(s, folder, fd, mode);
        if (made >= 0)
            return fd < 0 ? made : fd;
        s->there = false;
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

/* ---- beginning ------------------------------------------------------------------------------------------------------ */

bool apr_is_read(const struct stat *st)
{
    return (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode)) && apr_source_is_open(st->st_dev, st->st_ino);
}

enum apr_code apr_sink_refused(const char *path, const char *why, struct apr_error *e)
{
    apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: %s", why);
    apr_error_in(e, path);
    return APR_EARG;
}

/* Room for n bytes: an errno when there surely is none. */
int apr_reserve(int fd, uint64_t n)
{
    struct statvfs disk;
    int made;
    if (n == 0)
        return 0;
    if (n > INT64_MAX)
        return EFBIG;
    do
        made = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)n);
    while (made != 0 && errno == EINTR);
    if (made == 0 || errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return made == 0 ? 0 : errno;
    if (fstatvfs(fd, &disk) != 0 || disk.f_blocks == 0 || disk.f_frsize == 0)
        return 0;
    return n / disk.f_frsize > disk.f_bavail ? ENOSPC : 0;
}

/* A file without a name where there can be one, so that a kill leaves nothing. It gets its name by way of /proc. */
static int make_file(struct apr_sink *s)
{
    const mode_t mode = s->place.exists ? 0600 : 0666;
    int fd = access("/proc/self/fd", X_OK) == 0 ? openat(s->place.folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode) : -1;
    s->named = fd < 0;
    if (fd < 0)
        fd = apr_stray_make(s->stray, s->place.folder, -1, mode);
    return fd;
}

static enum apr_code open_target(struct apr_sink *s, struct apr_error *e)
{
    const struct apr_target *p = &s->place;
    if (p->exists && apr_is_read(&p->st))
        return apr_sink_refused(s->path, reading, e);
    if (p->stream >= 0) {
        s->fd = p->stream;
    } else if (p->exists && !S_ISREG(p->st.st_mode)) {
        s->fd = openat(p->folder, p->name, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    } else {
        s->stray = apr_stray_take();
        if (s->stray == NULL)
            return apr_no_memory(e);
        s->fd = make_file(s);
    }
    const int why = s->fd < 0 ? errno : s->stray == NULL ? 0 : apr_reserve(s->fd, s->size);
    return why == 0 ? APR_OK : apr_sink_failed(s->path, why, e);
}

/* The errno of the first failure is the one that counts: the others follow from it. */
static void remember(struct apr_sink *s, int why)
{
    int none = 0;
    atomic_compare_exchange_strong(&s->why, &none, why);
}

static ssize_t put(void *sink, const char *bytes, size_t n)
{
    struct apr_sink *const s = sink;
    for (size_t at = 0; at < n && s->why == 0;) {
        const ssize_t written = write(s->fd, bytes + at, n - at);
        if (written > 0)
            at += (size_t)written;
        else if (written == 0)
            remember(s, ENOSPC);
        else if (errno == EAGAIN) /* who opened it did not want to wait; we do */
            poll(&(struct pollfd){ .fd = s->fd, .events = POLLOUT }, 1, -1);
        else if (errno != EINTR)
            remember(s, errno);
    }
    return s->why == 0 ? (ssize_t)n : 0;
}

/* A name in a folder that is open, where nothing has it. */
static enum apr_code find_new(struct apr_target *p, const char *path, int folder, struct apr_error *e)
{
    const char *const slash = strrchr(path, '/');
    *p = (struct apr_target){ .stream = -1, .folder = fcntl(folder, F_DUPFD_CLOEXEC, 3) };
    if (p->folder < 0 || fstat(p->folder, &p->st) != 0)
        return apr_sink_failed(path, errno, e);
    p->name = strdup(slash == NULL ? path : slash + 1);
    return p->name == NULL ? apr_no_memory(e) : APR_OK;
}

enum apr_code apr_sink_begin_in(struct apr_sink *s, const char *path, int folder, uint64_t size, struct apr_error *e)
{
    *s = (struct apr_sink){ .fd = -1, .size = size, .path = strdup(path), .place = { .stream = -1, .folder = -1 } };
    if (s->path == NULL)
        return apr_no_memory(e);
    enum apr_code code = folder < 0 ? apr_target_find(&s->place, path, e) : find_new(&s->place, path, folder, e);
    if (code == APR_OK)
        code = open_target(s, e);
    if (code == APR_OK) {
        s->to = fopencookie(s, "w", (cookie_io_functions_t){ .write = put });
        code = s->to == NULL ? apr_no_memory(e) : APR_OK;
    }
    if (code != APR_OK)
        apr_sink_drop(s);
    return code;
}

enum apr_code apr_sink_begin(struct apr_sink *s, const char *path, uint64_t size, struct apr_error *e)
{
    return apr_sink_begin_in(s, path, -1, size, e);
}

/* ---- writing and ending --------------------------------------------------------------------------------------------- */

enum apr_code apr_sink_write_at(struct apr_sink *s, uint64_t at, const void *bytes, size_t n, struct apr_error *e)
{
    uint64_t end;
    if (s->stray == NULL)
        return apr_sink_refused(s->path, "it takes bytes from front to back only", e);
    if (!apr_add(at, n, &end) || end > INT64_MAX)
        remember(s, EFBIG);
    for (const char *from = bytes; n > 0 && s->why == 0;) {
        const ssize_t written = pwrite(s->fd, from, n, (off_t)at);
        if (written > 0) {
            from += written;
            at += (uint64_t)written;
            n -= (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            remember(s, written == 0 ? ENOSPC : errno);
        }
    }
    return s->why == 0 ? APR_OK : apr_sink_failed(s->path, s->why, e);
}

enum apr_code apr_sink_read_at(const struct apr_sink *s, uint64_t at, void *bytes, size_t n, struct apr_error *e)
{
    for (char *to = bytes; n > 0;) {
        const ssize_t got = pread(s->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            apr_fail(e, APR_EIO, at, "cannot be read back: %s", got == 0 ? "it is too short" : strerror(errno));
            apr_error_in(e, s->path);
            return APR_EIO;
        }
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return APR_OK;
}

bool apr_sink_share_at(struct apr_sink *s, uint64_t at, int from, uint64_t from_at, uint64_t n)
{
    struct file_clone_range range = { .src_fd = from, .src_offset = from_at, .src_length = n, .dest_offset = at };
    if (s->unshared || s->stray == NULL || from < 0 || at > INT64_MAX - n)
        return false;
    const bool shared = ioctl(s->fd, FICLONERANGE, &range) == 0;
    if (!shared)
        s->unshared = true;
    return shared;
}

bool apr_sink_copy_at(struct apr_sink *s, uint64_t at, int from, uint64_t from_at, uint64_t n)
{
    off_t to = (off_t)at, begin = (off_t)from_at;
    if (s->uncopied || s->stray == NULL || from < 0 || at > INT64_MAX - n)
        return false;
    while (n > 0) {
        const ssize_t done = copy_file_range(from, &begin, s->fd, &to, n, 0);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) { /* whoever comes next writes the bytes, and hears what is wrong where anything is */
            s->uncopied = true;
            return false;
        }
        n -= (uint64_t)done;
    }
    return true;
}

void apr_sink_flush_at(const struct apr_sink *s, uint64_t at, uint64_t n)
{
    if (s->stray != NULL && !s->unsynced)
        sync_file_range(s->fd, (off_t)at, (off_t)n, SYNC_FILE_RANGE_WRITE);
}

/* As the file was that is replaced. Where the group cannot be kept, the new one is given no more than all others have. */
static void keep_mode(const struct apr_sink *s)
{
    const struct stat *const old = &s->place.st;
    mode_t mode = old->st_mode & 07777;
    if (!s->place.exists)
        return;
    if (fchown(s->fd, old->st_uid, old->st_gid) != 0) {
        mode &= 0777;
        if (fchown(s->fd, (uid_t)-1, old->st_gid) != 0)
            mode &= (mode_t)(0707 | (mode & 7) << 3);
    }
    fchmod(s->fd, mode); /* a file system without modes has nothing to keep */
}

/* On disk. Where a file system knows no sync, it is as good as there. */
static int sync_file(const struct apr_sink *s)
{
    struct stat st;
    if (s->size > 0 && fstat(s->fd, &st) == 0 && (uint64_t)st.st_size < s->size && ftruncate(s->fd, st.st_size) != 0)
        return errno; /* gives back the room that was not needed */
    const int failed = s->unsynced ? sync_file_range(s->fd, 0, 0, SYNC_FILE_RANGE_WRITE) : fsync(s->fd);
    return failed == 0 || errno == EINVAL || errno == ENOTSUP || errno == ESPIPE ? 0 : errno;
}

/* What was written so far may be put in place. */
enum apr_code apr_sink_sync(struct apr_sink *s, struct apr_error *e)
{
    if (fflush(s->to) != 0)
        remember(s, errno);
    if (s->why == 0 && s->stray != NULL && !s->synced) {
        keep_mode(s);
        remember(s, sync_file(s));
        s->synced = true;
    }
    return s->why != 0 && (s->why != EPIPE || s->stray != NULL) ? apr_sink_failed(s->path, s->why, e) : APR_OK;
}

/* Gives the stray its own name where nothing has it. Some file systems can only link so, others cannot at all. */
static int rename_fresh(const struct apr_stray *from, const struct apr_target *to)
{
    struct stat st;
    if (renameat2(from->folder, from->name, to->folder, to->name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return errno;
    if (linkat(from->folder, from->name, to->folder, to->name, 0) == 0)
        return unlinkat(from->folder, from->name, 0) == 0 ? 0 : errno;
    if (errno == EEXIST)
        return EEXIST;
    if (fstatat(to->folder, to->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return EEXIST;
    return renameat(from->folder, from->name, to->folder, to->name) == 0 ? 0 : errno;
}

/* Links and renames; the old file or the new one is there at any moment. */
static int put_in_place(struct apr_sink *s)
{
    const struct apr_target *p = &s->place;
    char nameless[32];
    snprintf(nameless, sizeof nameless, "/proc/self/fd/%d", s->fd);
    if (!s->named && !p->exists && linkat(AT_FDCWD, nameless, p->folder, p->name, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (!s->named && apr_stray_make(s->stray, p->folder, s->fd, 0) < 0)
        return errno;
    s->named = true;
    const int why = s->fresh ? rename_fresh(s->stray, p) : renameat(s->stray->folder, s->stray->name, p->folder, p->name) == 0 ? 0 : errno;
    if (why != 0)
        return why;
    s->stray->there = false;
    apr_sink_forget(s);
    return 0;
}

int apr_sync_folder(int folder)
{
    const int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    const int why = fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
    close(fd);
    return why;
}

/* Into a temporary folder, where it has its own name and is a stray until the folder has its own. */
enum apr_code apr_sink_link(struct apr_sink *s, int folder, const struct apr_stray *within, struct apr_error *e)
{
    struct apr_stray *const end = apr_stray_take();
    char nameless[32];
    if (end == NULL)
        return apr_no_memory(e);
    snprintf(nameless, sizeof nameless, "/proc/self/fd/%d", s->fd);
    snprintf(end->name, sizeof end->name, "%s", s->place.name);
    end->folder = folder;
    end->within = within;
    end->there = true;
    const int made = s->named ? renameat(s->stray->folder, s->stray->name, folder, end->name)
                              : linkat(AT_FDCWD, nameless, folder, end->name, AT_SYMLINK_FOLLOW);
    const int why = made == 0 ? 0 : errno;
    if (why != 0) {
        end->there = false;
        apr_stray_drop(end);
        return apr_sink_failed(s->path, why, e);
    }
    s->stray->there = false;
    apr_sink_forget(s);
    apr_stray_drop(s->stray);
    s->stray = end;
    return APR_OK;
}

void apr_sink_settle(struct apr_sink *s)
{
    s->stray->there = false;
    apr_sink_drop(s);
}

enum apr_code apr_sink_check(const struct apr_sink *s, struct apr_error *e)
{
    struct stat now;
    if (s->stray == NULL || fstatat(s->place.folder, s->place.name, &now, AT_SYMLINK_NOFOLLOW) != 0)
        return APR_OK;
    if (apr_is_read(&now))
        return apr_sink_refused(s->path, reading, e); /* it came there meanwhile */
    return s->fresh ? apr_sink_refused(s->path, appeared, e) : APR_OK;
}

enum apr_code apr_sink_place(struct apr_sink *s, struct apr_error *e)
{
    APR_TRY(apr_sink_check(s, e));
    const int why = s->stray == NULL ? 0 : put_in_place(s);
    if (why == EEXIST && s->fresh)
        return apr_sink_refused(s->path, appeared, e);
    return why == 0 ? APR_OK : apr_sink_failed(s->path, why, e);
}

enum apr_code apr_sink_end(struct apr_sink *s, struct apr_error *e)
{
    enum apr_code code = apr_sink_sync(s, e);
    if (code == APR_OK)
        code = apr_sink_place(s, e);
    if (code == APR_OK && s->stray != NULL)
        apr_sync_folder(s->place.folder);
    apr_sink_drop(s);
    return code;
}

void apr_sink_drop(struct apr_sink *s)
{
    if (s->path == NULL)
        return;
    remember(s, ECANCELED); /* what is still in the buffer is not wanted */
    if (s->to != NULL)
        fclose(s->to);
    apr_stray_drop(s->stray);
    if (s->log > 0)
        close(s->log - 1);
    if (s->fd >= 0 && s->place.stream < 0)
        close(s->fd);
    apr_target_free(&s->place);
    free(s->path);
    *s = (struct apr_sink){ .to = NULL };
}
