/* The order in which things reach the disk, each step only after the one before it:
 *   1. the journal: all bytes old and new, step 0              killed: the file is as it was
 *   2. whole blocks inserted at byte 0, when any are wanted    killed: the size tells; of a shift that stopped half way (a power cut) what
 *                                                              stands where the head was: the last byte is moved first
 *   3. step 1 in the journal
 *   4. the new head and tail                                   killed: written again
 *   5. the journal removed
 * To take an insertion back, the old tail and the old head go behind the inserted blocks, step 0 goes into the journal, and the blocks are
 * taken out: a state that step 2 knows, too. */
#include "files/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/journal_text.h"
#include "files/sink.h"
#include "files/source.h"

#define SUFFIX ".apr-journal"

/* One file under the lock.
 *   journal  its journal's descriptor, or -1
 *   j        what that says */
struct edit {
    const char        *path;
    struct apr_target  place;
    char              *name;
    int                fd, journal;
    uint64_t           size; /* of the file now */
    struct apr_journal j;
};

static enum apr_code failed(const struct edit *x, enum apr_code code, int why, const char *doing, struct apr_error *e)
{
    char text[128];
    apr_fail(e, code, APR_NOWHERE, "%s: %s", doing, strerror_r(why, text, sizeof text));
    apr_error_in(e, x->path);
    return code;
}

static enum apr_code refused(const struct edit *x, const char *text, struct apr_error *e)
{
    apr_fail(e, APR_EIO, APR_NOWHERE, "%s", text);
    apr_error_in(e, x->path);
    return APR_EIO;
}

/* ---- bytes of a descriptor, all or an errno ------------------------------------------------------------------------- */

static int put_at(int fd, const void *bytes, size_t n, uint64_t at)
{
    for (const unsigned char *from = bytes; n > 0;) {
        const ssize_t put = pwrite(fd, from, n, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put == 0 ? ENOSPC : errno;
        from += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

static int get_at(int fd, void *bytes, size_t n, uint64_t at)
{
    for (unsigned char *to = bytes; n > 0;) {
        const ssize_t got = pread(fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0 ? EIO : errno;
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static int sync_fd(int fd) { return fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno; }

static int shift(int fd, int mode, uint64_t at, uint64_t n)
{
    int done;
    do
        done = fallocate(fd, mode, (off_t)at, (off_t)n);
    while (done != 0 && errno == EINTR);
    return done == 0 ? 0 : errno;
}

static int measure(struct edit *x)
{
    struct stat st;
    if (fstat(x->fd, &st) != 0)
        return errno;
    x->size = (uint64_t)st.st_size;
    return 0;
}

/* Do the bytes stand there? *holds; or an errno. */
static int compare_at(int fd, struct apr_bytes with, uint64_t at, bool *holds)
{
    static const size_t step = 1 << 20;
    unsigned char *now = malloc(step);
    int why = now == NULL ? ENOMEM : 0;
    *holds = true;
    for (size_t i = 0; why == 0 && *holds && i < with.n; i += step) {
        const size_t n = (size_t)apr_min(step, with.n - i);
        why = get_at(fd, now, n, at + i);
        *holds = why == 0 && memcmp(now, with.at + i, n) == 0;
    }
    free(now);
    return why;
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

static void end(struct edit *x)
{
    if (x->journal >= 0)
        close(x->journal);
    if (x->fd >= 0)
        close(x->fd); /* and with it the lock */
    free(x->name);
    apr_target_free(&x->place);
}

/* Finds, opens and locks it. To be ended after a failure, too. */
static enum apr_code begin(struct edit *x, const char *path, struct apr_error *e)
{
    struct stat st;
    *x = (struct edit){ .path = path, .fd = -1, .journal = -1 };
    APR_TRY(apr_target_find(&x->place, path, e));
    if (!x->place.exists || x->place.stream >= 0 || !S_ISREG(x->place.st.st_mode))
        return refused(x, x->place.exists ? "is no file that could be changed in place" : "cannot be changed in place: it is not there", e);
    if (asprintf(&x->name, "%s" SUFFIX, x->place.name) < 0) {
        x->name = NULL;
        return apr_no_memory(e);
    }
    x->fd = openat(x->place.folder, x->place.name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (x->fd < 0 || fstat(x->fd, &st) != 0)
        return failed(x, APR_EIO, errno, "cannot be opened for writing", e);
    if (apr_source_is_open(st.st_dev, st.st_ino))
        return refused(x, "cannot be changed: it is being read", e);
    if (flock(x->fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? refused(x, "is being changed by another process", e)
                                    : failed(x, APR_EIO, errno, "cannot be locked", e);
    if (fstatat(x->place.folder, x->place.name, &x->place.st, AT_SYMLINK_NOFOLLOW) != 0 || x->place.st.st_ino != st.st_ino)
        return refused(x, "another file took its place", e);
    x->size = (uint64_t)st.st_size;
    return APR_OK;
}

/* Is what was read still there? */
static enum apr_code check_unchanged(const struct edit *x, struct apr_error *e)
{
    const struct apr_rewrite *w = &x->j.w;
    bool head = false, tail = false;
    int why = 0;
    if (x->size == w->size)
        why = compare_at(x->fd, w->old_head, 0, &head);
    if (why == 0 && head)
        why = compare_at(x->fd, w->old_tail, w->size - w->old_tail.n, &tail);
    if (why != 0)
        return failed(x, APR_EIO, why, "cannot be read", e);
    return head && tail ? APR_OK : refused(x, "the file changed while it was read", e);
}

/* ---- the journal ---------------------------------------------------------------------------------------------------- */

static enum apr_code make_journal(struct edit *x, struct apr_error *e)
{
    const struct apr_bytes text = apr_journal_spell(&x->j);
    if (text.at == NULL)
        return apr_no_memory(e);
    x->journal = openat(x->place.folder, x->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int why = x->journal < 0 ? errno : 0;
    const bool made = why == 0;
    if (made) {
        fchmod(x->journal, (x->place.st.st_mode & 0666) | 0600); /* who may change the file may recover it */
        why = put_at(x->journal, text.at, text.n, 0);
    }
    if (why == 0)
        why = sync_fd(x->journal);
    if (why == 0)
        why = apr_sync_folder(x->place.folder);
    free((void *)(uintptr_t)text.at);
    if (why == 0)
        return APR_OK;
    if (made)
        unlinkat(x->place.folder, x->name, 0);
    return failed(x, APR_EIO, why, "its journal cannot be written, so nothing was changed", e);
}

static int set_step(const struct edit *x, uint64_t step)
{
    const unsigned char text[8] = { (unsigned char)step };
    const int why = put_at(x->journal, text, sizeof text, APR_JOURNAL_STEP_AT);
    return why != 0 ? why : sync_fd(x->journal);
}

/* All is on disk. */
static enum apr_code remove_journal(const struct edit *x, struct apr_error *e)
{
    int why = unlinkat(x->place.folder, x->name, 0) == 0 ? 0 : errno;
    if (why == 0)
        why = apr_sync_folder(x->place.folder);
    return why == 0 ? APR_OK : failed(x, APR_EIO, why, "nothing is left to do, but its journal cannot be removed", e);
}

/* ---- the steps ------------------------------------------------------------------------------------------------------ */

static int insert(struct edit *x)
{
    int why = shift(x->fd, FALLOC_FL_INSERT_RANGE, 0, apr_rewrite_inserted(&x->j.w));
    if (why == 0)
        why = sync_fd(x->fd);
    return why;
}

/* The new bytes, into a file that has its new size. */
static int write_new(const struct edit *x)
{
    const struct apr_rewrite *w = &x->j.w;
    const uint64_t size = w->size + apr_rewrite_inserted(w);
    int why = set_step(x, 1);
    if (why == 0)
        why = put_at(x->fd, w->new_head.at, w->new_head.n, 0);
    if (why == 0)
        why = put_at(x->fd, w->new_tail.at, w->new_tail.n, size - w->new_tail.n);
    return why != 0 ? why : sync_fd(x->fd);
}

/* The file became longer, but nothing was shifted: cuts off what is behind its own end, zeros up to the hole and the hole. */
static int cut_off(const struct edit *x, uint64_t hole)
{
    static unsigned char zeros[1 << 16]; /* not const: it takes no room in the program */
    bool clear = false;
    int why = hole - x->j.w.size > sizeof zeros || hole >= x->size || lseek(x->fd, (off_t)hole, SEEK_DATA) >= 0 ? ENOTSUP : 0;
    if (why == 0)
        why = compare_at(x->fd, (struct apr_bytes){ zeros, (size_t)(hole - x->j.w.size) }, x->j.w.size, &clear);
    if (why == 0 && !clear)
        why = ENOTSUP;
    return why != 0 ? why : ftruncate(x->fd, (off_t)x->j.w.size) == 0 ? 0 : errno;
}

/* A shift of the file by `inserted` stopped half way: what was not shifted, a hole of that length, what was. Takes the hole out, and no
 * byte that is not in it. */
static int close_hole(const struct edit *x)
{
    const uint64_t n = apr_rewrite_inserted(&x->j.w);
    if (!x->j.whole)
        return ENOTSUP; /* it has other holes */
    const off_t hole = lseek(x->fd, 0, SEEK_HOLE);
    if (hole < 0)
        return errno;
    if ((uint64_t)hole >= x->j.w.size)
        return cut_off(x, (uint64_t)hole);
    if (lseek(x->fd, hole, SEEK_DATA) != hole + (off_t)n)
        return ENOTSUP;
    return shift(x->fd, FALLOC_FL_COLLAPSE_RANGE, (uint64_t)hole, n);
}

/* Takes back an insertion that was whole, whatever was written over its head since. */
static int take_out(const struct edit *x)
{
    const struct apr_rewrite *w = &x->j.w;
    const uint64_t n = apr_rewrite_inserted(w);
    int why = put_at(x->fd, w->old_tail.at, w->old_tail.n, w->size + n - w->old_tail.n);
    if (why == 0)
        why = put_at(x->fd, w->old_head.at, w->old_head.n, n);
    if (why == 0)
        why = sync_fd(x->fd);
    if (why == 0)
        why = set_step(x, 0);
    return why != 0 ? why : shift(x->fd, FALLOC_FL_COLLAPSE_RANGE, 0, n);
}

/* Makes the file what it was, whatever step failed. */
static int undo(struct edit *x)
{
    const struct apr_rewrite *w = &x->j.w;
    bool unmoved = false;
    int why = measure(x);
    if (why != 0)
        return why;
    if (apr_rewrite_inserted(w) == 0) {
        why = put_at(x->fd, w->old_head.at, w->old_head.n, 0);
        if (why == 0)
            why = put_at(x->fd, w->old_tail.at, w->old_tail.n, w->size - w->old_tail.n);
    } else if (x->size != w->size) {
        why = compare_at(x->fd, w->old_head, 0, &unmoved);
        if (why == 0)
            why = unmoved ? close_hole(x) : take_out(x);
    }
    return why != 0 ? why : sync_fd(x->fd);
}

/* For a step that failed with `why`. */
static enum apr_code take_back(struct edit *x, int why, struct apr_error *e)
{
    char text[128], first[128];
    const bool unable = why == EOPNOTSUPP || why == ENOSYS || why == EINVAL;
    const int again = undo(x);
    if (again != 0) {
        apr_fail(e, APR_EIO, APR_NOWHERE, "%s, and then it could not be made as it was: %s; apr-convert --recover ends it",
                 strerror_r(why, first, sizeof first), strerror_r(again, text, sizeof text));
        apr_error_in(e, x->path);
        return APR_EIO;
    }
    APR_TRY(remove_journal(x, e));
    return unable ? failed(x, APR_EUNSUPPORTED, why, "its file system inserts no blocks", e)
                  : failed(x, APR_EIO, why, "could not be changed and is as it was", e);
}

static enum apr_code carry_out(struct edit *x, struct apr_error *e)
{
    int why = apr_rewrite_inserted(&x->j.w) > 0 ? insert(x) : 0;
    if (why == 0)
        why = write_new(x);
    return why != 0 ? take_back(x, why, e) : remove_journal(x, e);
}

uint64_t apr_rewrite_unit(const char *path)
{
    struct statfs disk;
    struct stat st;
    uint64_t unit = 4096;
    if (statfs(path, &disk) == 0 && disk.f_bsize > 0)
        while (unit < (uint64_t)disk.f_bsize && unit < 1 << 24)
            unit *= 2;
    if (stat(path, &st) == 0 && st.st_blksize > 0)
        while (unit < (uint64_t)st.st_blksize && unit < 1 << 24)
            unit *= 2;
    return unit;
}

enum apr_code apr_rewrite(const char *path, const struct apr_rewrite *w, struct apr_error *e)
{
    struct edit x;
    if (!apr_rewrite_sensible(w))
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a header of %zu bytes is more than is written in place", w->new_head.n);
    enum apr_code code = begin(&x, path, e);
    if (code == APR_OK)
        code = apr_rewrite_pending(path, e);
    if (code == APR_OK) {
        x.j.w = *w;
        x.j.whole = (uint64_t)lseek(x.fd, 0, SEEK_HOLE) == x.size;
        code = check_unchanged(&x, e);
    }
    if (code == APR_OK)
        code = make_journal(&x, e);
    if (code == APR_OK)
        code = carry_out(&x, e);
    end(&x);
    return code;
}

/* ---- afterwards ----------------------------------------------------------------------------------------------------- */

/* Does a journal lie there? */
static enum apr_code journal_of(const char *path, bool *there, struct apr_error *e)
{
    char *file = strdup(path), *name = NULL;
    *there = false;
    const bool lost = file == NULL || apr_follow_links(&file) == ENOMEM || asprintf(&name, "%s" SUFFIX, file) < 0;
    if (!lost) {
        *there = faccessat(AT_FDCWD, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
        free(name);
    }
    free(file);
    return lost ? apr_no_memory(e) : APR_OK;
}

enum apr_code apr_rewrite_pending(const char *path, struct apr_error *e)
{
    bool there;
    APR_TRY(journal_of(path, &there, e));
    if (!there)
        return APR_OK;
    const char *const slash = strrchr(path, '/');
    apr_fail(e, APR_EIO, APR_NOWHERE, "an edit of it was interrupted (%.200s" SUFFIX "): apr-convert --recover finishes or undoes it",
             slash == NULL ? path : slash + 1);
    apr_error_in(e, path);
    return APR_EIO;
}

/* The bytes of the journal; at is NULL after a failure. */
static enum apr_code load(struct edit *x, struct apr_bytes *text, struct apr_error *e)
{
    struct stat st;
    *text = (struct apr_bytes){ 0 };
    x->journal = openat(x->place.folder, x->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (x->journal < 0 || fstat(x->journal, &st) != 0)
        return failed(x, APR_EIO, errno, "its journal cannot be opened", e);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > APR_JOURNAL_MOST)
        return refused(x, "what lies beside it as its journal is none", e);
    unsigned char *const bytes = malloc((size_t)st.st_size + 1);
    if (bytes == NULL)
        return apr_no_memory(e);
    const int why = get_at(x->journal, bytes, (size_t)st.st_size, 0);
    if (why != 0) {
        free(bytes);
        return failed(x, APR_EIO, why, "its journal cannot be read", e);
    }
    *text = (struct apr_bytes){ bytes, (size_t)st.st_size };
    return APR_OK;
}

/* Asks the file. */
static enum apr_code look(const struct edit *x, enum apr_journal_state *state, struct apr_error *e)
{
    const struct apr_rewrite *w = &x->j.w;
    unsigned char tail[APR_MOST_TAIL] = { 0 };
    *state = APR_FOREIGN;
    if (x->size != w->size && x->size != w->size + apr_rewrite_inserted(w))
        return APR_OK;
    const size_t n = x->size == w->size ? w->old_head.n : w->new_head.n;
    unsigned char *const now = malloc(n);
    if (now == NULL)
        return apr_no_memory(e);
    int why = get_at(x->fd, now, n, 0);
    if (why == 0)
        why = get_at(x->fd, tail, w->old_tail.n, x->size - w->old_tail.n);
    if (why == 0)
        *state = apr_journal_state_of(&x->j, x->size, now, tail);
    free(now);
    return why == 0 ? APR_OK : failed(x, APR_EIO, why, "cannot be read", e);
}

static enum apr_code act(struct edit *x, enum apr_journal_state state, enum apr_recovery *done, struct apr_error *e)
{
    int why = 0;
    *done = state == APR_SHIFTED || state == APR_WRITTEN ? APR_FINISHED : APR_UNDONE;
    switch (state) {
    case APR_FOREIGN:
        return refused(x, "its first bytes are neither the old nor the new ones of its journal: if that is of another file, remove it", e);
    case APR_AS_IT_WAS:
        break;
    case APR_TORN:
        why = close_hole(x);
        if (why == 0)
            why = sync_fd(x->fd);
        if (why == ENOTSUP)
            return refused(x, "the file system stopped while it moved the bytes of a file with holes: it must come from a copy", e);
        break;
    case APR_SHIFTED:
    case APR_WRITTEN:
        why = write_new(x);
        if (why != 0)
            return take_back(x, why, e);
    }
    return why == 0 ? remove_journal(x, e) : failed(x, APR_EIO, why, "cannot be made as it was", e);
}

static enum apr_code recover(struct edit *x, enum apr_recovery *done, struct apr_error *e)
{
    struct apr_bytes text;
    enum apr_journal_state state = APR_AS_IT_WAS;
    enum apr_code code = load(x, &text, e);
    if (code == APR_OK && apr_journal_parse(&x->j, text))
        code = look(x, &state, e);
    else if (code == APR_OK && x->j.step != 0)
        code = refused(x, "its journal is damaged", e);
    if (code == APR_OK)
        code = act(x, state, done, e);
    free((void *)(uintptr_t)text.at);
    return code;
}

enum apr_code apr_rewrite_recover(const char *path, enum apr_recovery *done, struct apr_error *e)
{
    struct edit x;
    bool there;
    *done = APR_NOTHING_LEFT;
    APR_TRY(journal_of(path, &there, e));
    if (!there)
        return APR_OK;
    enum apr_code code = begin(&x, path, e);
    if (code == APR_OK)
        code = journal_of(path, &there, e); /* whoever held the lock may have ended it */
    if (code == APR_OK && there)
        code = recover(&x, done, e);
    end(&x);
    return code;
}
