/* Preloaded by test_faults.c: makes one call of the C library fail. From the environment:
 *   APR_FAULT       "memory", "system", "threads", or "writes" (what changes a file or a folder, and sees to it that it lasts): which calls
 *                   are counted
 *   APR_FAULT_AT    the number, from 1, of the call that fails; of threads, of the first that fails. 0: none
 *   APR_FAULT_MARK  a file that is made when it did; where none was to fail, it is made at the end, as long as there were calls
 *   APR_FAULT_PLACES  a file for the numbers of the calls that come from a place for the first or the second time, a line each
 *   APR_FAULT_NAMED set: no file system has files without a name
 *   APR_FAULT_SENT  the number of a signal: the call does not fail, but the process gets the signal before it
 *   APR_FAULT_HOW   of writes: "killed" ends the process there (half of what a write was to write is written), "dead" lets all later ones
 *                   fail too, "full" and "broken" are ENOSPC and EIO */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);

enum kind { NONE, MEMORY, SYSTEM, THREADS, WRITES };
static enum kind   counted;
static long        fails_at;
static int         sent;
static bool        named;
static const char *mark, *ending = "";
static atomic_long calls;
static int         places = -1;
static _Thread_local bool looking; /* at where it was called from: what that takes is not counted */

/* Before this runs, which is before main, nothing fails. */
__attribute__((constructor)) static void begin(void)
{
    const char *const kind = getenv("APR_FAULT"), *const at = getenv("APR_FAULT_AT");
    mark = getenv("APR_FAULT_MARK");
    if (kind == NULL || at == NULL || mark == NULL)
        return;
    named = getenv("APR_FAULT_NAMED") != NULL;
    if (getenv("APR_FAULT_SENT") != NULL)
        sent = atoi(getenv("APR_FAULT_SENT"));
    if (getenv("APR_FAULT_HOW") != NULL)
        ending = getenv("APR_FAULT_HOW");
    if (getenv("APR_FAULT_PLACES") != NULL) {
        void *frame[2];
        (void)backtrace(frame, 2); /* the first call takes memory */
        places = (int)syscall(SYS_openat, AT_FDCWD, getenv("APR_FAULT_PLACES"), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    }
    fails_at = strtol(at, NULL, 10);
    counted = strcmp(kind, "writes") == 0 ? WRITES : strcmp(kind, "memory") == 0 ? MEMORY : strcmp(kind, "threads") == 0 ? THREADS : SYSTEM;
}

static void leave_mark(off_t n)
{
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_WRONLY, 0600);
    syscall(SYS_ftruncate, fd, n);
    syscall(SYS_close, fd);
}

__attribute__((destructor)) static void end(void)
{
    if (counted != NONE && fails_at == 0)
        leave_mark(calls);
}

/* A place is who called whom, eight functions up. */
static void note_place(long call)
{
    enum { SKIPPED = 2, FRAMES = 8, ROOM = 1 << 15 };
    static struct {
        size_t   place;
        unsigned times;
    } seen[ROOM];
    static atomic_flag busy = ATOMIC_FLAG_INIT;
    void *frame[SKIPPED + FRAMES];
    char line[24];
    size_t place = 1469598103934665603u;
    looking = true;
    const int n = backtrace(frame, SKIPPED + FRAMES);
    for (int i = SKIPPED; i < n; i++)
        place = (place ^ (size_t)frame[i]) * 1099511628211u;
    while (atomic_flag_test_and_set(&busy))
        ;
    size_t i = place % ROOM;
    while (seen[i].times > 0 && seen[i].place != place)
        i = (i + 1) % ROOM;
    seen[i].place = place;
    if (seen[i].times++ < 2)
        syscall(SYS_write, places, line, (size_t)snprintf(line, sizeof line, "%ld\n", call));
    atomic_flag_clear(&busy);
    looking = false;
}

static bool fault(enum kind kind, int error)
{
    if (kind != counted || looking)
        return false;
    const long call = atomic_fetch_add(&calls, 1) + 1;
    if (places >= 0)
        note_place(call);
    if (fails_at == 0 || (kind == THREADS ? call < fails_at : call != fails_at))
        return false;
    leave_mark(0);
    if (sent != 0)
        kill(getpid(), sent);
    errno = error;
    return sent == 0;
}

void *malloc(size_t n)
{
    return fault(MEMORY, ENOMEM) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return fault(MEMORY, ENOMEM) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t n)
{
    return fault(MEMORY, ENOMEM) ? NULL : __libc_realloc(old, n);
}

/* The function behind ours. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    const mode_t mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
    va_end(more);
    return fault(SYSTEM, EMFILE) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    const mode_t mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (named && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return fault(SYSTEM, EMFILE) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}

DIR *opendir(const char *path)
{
    return fault(SYSTEM, EMFILE) ? NULL : NEXT(opendir)(path);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return fault(SYSTEM, ENOMEM) ? MAP_FAILED : NEXT(mmap)(at, n, protection, flags, fd, offset);
}

ssize_t read(int fd, void *bytes, size_t n)
{
    return fault(SYSTEM, EIO) ? -1 : NEXT(read)(fd, bytes, n);
}

static bool fault_writes(void)
{
    const long call = atomic_fetch_add(&calls, 1) + 1;
    if (fails_at == 0 || (strcmp(ending, "dead") == 0 ? call < fails_at : call != fails_at))
        return false;
    leave_mark(0);
    return true;
}

/* In a function that changes a file. half: what is made of it when the process is killed there. */
#define WRITING(half)                                      \
    do {                                                   \
        if (counted != WRITES || !fault_writes())          \
            break;                                         \
        if (strcmp(ending, "killed") == 0) {                  \
            half;                                          \
            _exit(137);                                    \
        }                                                  \
        errno = strcmp(ending, "broken") == 0 ? EIO : ENOSPC; \
        return -1;                                         \
    } while (0)

ssize_t write(int fd, const void *bytes, size_t n)
{
    WRITING((void)!NEXT(write)(fd, bytes, n / 2));
    return fault(SYSTEM, ENOSPC) ? -1 : NEXT(write)(fd, bytes, n);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    WRITING((void)!NEXT(pwrite)(fd, bytes, n / 2, at));
    return fault(SYSTEM, ENOSPC) ? -1 : NEXT(pwrite)(fd, bytes, n, at);
}

int fsync(int fd)
{
    WRITING((void)0);
    return fault(SYSTEM, EIO) ? -1 : NEXT(fsync)(fd);
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
    WRITING((void)0);
    return NEXT(fallocate)(fd, mode, at, n);
}

int unlinkat(int folder, const char *path, int flags)
{
    WRITING((void)0);
    return NEXT(unlinkat)(folder, path, flags);
}

int linkat(int from, const char *path, int to, const char *name, int flags)
{
    WRITING((void)0);
    return fault(SYSTEM, EACCES) ? -1 : NEXT(linkat)(from, path, to, name, flags);
}

int renameat(int from, const char *path, int to, const char *name)
{
    WRITING((void)0);
    return fault(SYSTEM, EACCES) ? -1 : NEXT(renameat)(from, path, to, name);
}

int renameat2(int from, const char *path, int to, const char *name, unsigned flags)
{
    WRITING((void)0);
    return fault(SYSTEM, EACCES) ? -1 : NEXT(renameat2)(from, path, to, name, flags);
}

int ftruncate(int fd, off_t n)
{
    WRITING((void)0);
    return fault(SYSTEM, ENOSPC) ? -1 : NEXT(ftruncate)(fd, n);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *argument)
{
    return fault(SYSTEM, EAGAIN) || fault(THREADS, EAGAIN) ? EAGAIN : NEXT(pthread_create)(thread, how, run, argument);
}
