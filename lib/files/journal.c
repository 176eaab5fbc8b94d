/* The order in which things reach the disk, each step only after the one before it:
 *   1. the journal: all bytes old and new, step 0              killed: the file is as it was
 *   2. whole blocks inserted at byte 0, when any are wanted    killed: the size tells; a shift that stopped half way (a power cut) tells by
 *                                                              what stands where the head was, for a shift goes from the last byte to the first
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
#include "base/cursor.h"
#include "base/hash.h"
#include "files/sink.h"
#include "files/source.h"

/* | "APRJRNL1" | u64 step | u64 size | u64 old head | u64 new head | u64 tail | u64 whole | old head | new head | old tail | new tail |
 * | 16: XXH3-128 of all from the size to the new tail |                                                         lengths, then bytes */
static const char magic[8] = { 'A', 'P', 'R', 'J', 'R', 'N', 'L', '1' };
enum { STEP_AT = 8, HASHED_AT = 16, FIXED = 56, DIGEST = 16 };
#define SUFFIX ".apr-journal"

/* One file under the lock.
 *   journal  its journal's descriptor, or -1
 *   w        what the journal says
 *   whole    the file had no holes before: a hole in it is then an insertion's */
struct edit {
    const char        *path;
    struct apr_target  place;
    char              *name;
    int                fd, journal;
    uint64_t           size; /* of the file now */
    struct apr_rewrite w;
    bool               whole;
};

static uint64_t inserted(const struct apr_rewrite *w) { return w->new_head.n - w->old_head.n; }

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
        return errno == EWOULDBLOCK ? refused(x, "is being changed by another process", e) : failed(x, APR_EIO, errno, "cannot be locked", e);
    if (fstatat(x->place.folder, x->place.name, &x->place.st, AT_SYMLINK_NOFOLLOW) != 0 || x->place.st.st_ino != st.st_ino)
        return refused(x, "another file took its place", e);
    x->size = (uint64_t)st.st_size;
    return APR_OK;
}

/* Is what was read still there? */
static enum apr_code check_unchanged(const struct edit *x, struct apr_error *e)
{
    const struct apr_rewrite *w = &x->w;
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

static unsigned char *put_u64(unsigned char *to, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        to[i] = (unsigned char)(v >> 8 * i);
    return to + 8;
}

static unsigned char *put_bytes(unsigned char *to, struct apr_bytes b)
{
    return b.n == 0 ? to : (unsigned char *)memcpy(to, b.at, b.n) + b.n;
}

/* Its bytes, which the caller frees; at is NULL when memory is out. */
static struct apr_bytes spell(const struct edit *x)
{
    const struct apr_rewrite *w = &x->w;
    const size_t n = FIXED + w->old_head.n + w->new_head.n + w->old_tail.n + w->new_tail.n + DIGEST;
    unsigned char *const text = malloc(n);
    if (text == NULL)
        return (struct apr_bytes){ 0 };
    unsigned char *to = put_bytes(text, (struct apr_bytes){ (const unsigned char *)magic, sizeof magic });
    const uint64_t fixed[] = { 0, w->size, w->old_head.n, w->new_head.n, w->old_tail.n, x->whole };
    for (size_t i = 0; i < APR_LENGTH(fixed); i++)
        to = put_u64(to, fixed[i]);
    to = put_bytes(put_bytes(to, w->old_head), w->new_head);
    to = put_bytes(put_bytes(to, w->old_tail), w->new_tail);
    const struct apr_digest d = apr_digest_of((struct apr_bytes){ text + HASHED_AT, (size_t)(to - text) - HASHED_AT });
    put_u64(put_u64(to, d.high), d.low);
    return (struct apr_bytes){ text, n };
}

static enum apr_code make_journal(struct edit *x, struct apr_error *e)
{
    const struct apr_bytes text = spell(x);
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
    unsigned char text[8];
    put_u64(text, step);
    const int why = put_at(x->journal, text, sizeof text, STEP_AT);
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
    int why = shift(x->fd, FALLOC_FL_INSERT_RANGE, 0, inserted(&x->w));
    if (why == 0)
        why = sync_fd(x->fd);
    return why;
}

/* The new bytes, into a file that has its new size. */
static int write_new(const struct edit *x)
{
    const struct apr_rewrite *w = &x->w;
    const uint64_t size = w->size + inserted(w);
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
    static const unsigned char zeros[1 << 16];
    bool clear = false;
    int why = hole - x->w.size > sizeof zeros || hole >= x->size || lseek(x->fd, (off_t)hole, SEEK_DATA) >= 0 ? ENOTSUP : 0;
    if (why == 0)
        why = compare_at(x->fd, (struct apr_bytes){ zeros, (size_t)(hole - x->w.size) }, x->w.size, &clear);
    if (why == 0 && !clear)
        why = ENOTSUP;
    return why != 0 ? why : ftruncate(x->fd, (off_t)x->w.size) == 0 ? 0 : errno;
}

/* A shift of the file by `inserted` stopped half way: what was not shifted, a hole of that length, what was. Takes the hole out, and no
 * byte that is not in it. */
static int close_hole(const struct edit *x)
{
    const uint64_t n = inserted(&x->w);
    if (!x->whole)
        return ENOTSUP; /* it has other holes */
    const off_t hole = lseek(x->fd, 0, SEEK_HOLE);
    if (hole < 0)
        return errno;
    if ((uint64_t)hole >= x->w.size)
        return cut_off(x, (uint64_t)hole);
    if (lseek(x->fd, hole, SEEK_DATA) != hole + (off_t)n)
        return ENOTSUP;
    return shift(x->fd, FALLOC_FL_COLLAPSE_RANGE, (uint64_t)hole, n);
}

/* Takes back an insertion that was whole, whatever was written over its head since. */
static int take_out(const struct edit *x)
{
    const struct apr_rewrite *w = &x->w;
    const uint64_t n = inserted(w);
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
    const struct apr_rewrite *w = &x->w;
    bool unmoved = false;
    int why = measure(x);
    if (why != 0)
        return why;
    if (inserted(w) == 0) {
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
        apr_fail(e, APR_EIO, APR_NOWHERE, "%s, and then it could not be made as it was: %s; apr-convert --recover ends it with the journal beside it",
                 strerror_r(why, first, sizeof first), strerror_r(again, text, sizeof text));
        apr_error_in(e, x->path);
        return APR_EIO;
    }
    APR_TRY(remove_journal(x, e));
    return failed(x, unable ? APR_EUNSUPPORTED : APR_EIO, why, unable ? "its file system inserts no blocks" : "could not be changed and is as it was", e);
}

static enum apr_code carry_out(struct edit *x, struct apr_error *e)
{
    int why = inserted(&x->w) > 0 ? insert(x) : 0;
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

static bool sensible(const struct apr_rewrite *w)
{
    uint64_t size, kept;
    return w->old_head.n > 0 && w->new_head.n >= w->old_head.n && w->new_head.n <= APR_MOST_HEAD && w->old_tail.n == w->new_tail.n &&
           w->old_tail.n <= APR_MOST_TAIL && apr_add(w->old_head.n, w->old_tail.n, &kept) && kept <= w->size &&
           apr_add(w->size, inserted(w), &size) && size <= INT64_MAX;
}

enum apr_code apr_rewrite(const char *path, const struct apr_rewrite *w, struct apr_error *e)
{
    struct edit x;
    if (!sensible(w))
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a header of %zu bytes is more than is written in place", w->new_head.n);
    enum apr_code code = begin(&x, path, e);
    if (code == APR_OK)
        code = apr_rewrite_pending(path, e);
    if (code == APR_OK) {
        x.w = *w;
        x.whole = (uint64_t)lseek(x.fd, 0, SEEK_HOLE) == x.size;
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
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > FIXED + 2 * (APR_MOST_HEAD + APR_MOST_TAIL) + DIGEST)
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

/* Reads it into x->w, as views of text. False: not all of it was written. */
static bool parse(struct edit *x, struct apr_bytes text, uint64_t *step)
{
    struct apr_cursor c = apr_cursor_on(text);
    struct apr_rewrite *const w = &x->w;
    const struct apr_bytes begins = apr_take_bytes(&c, sizeof magic);
    *step = apr_u64(&c);
    w->size = apr_u64(&c);
    const uint64_t old_head = apr_u64(&c), new_head = apr_u64(&c), tail = apr_u64(&c);
    x->whole = apr_u64(&c) != 0;
    w->old_head = apr_take_bytes(&c, old_head);
    w->new_head = apr_take_bytes(&c, new_head);
    w->old_tail = apr_take_bytes(&c, tail);
    w->new_tail = apr_take_bytes(&c, tail);
    const size_t hashed = c.at;
    const uint64_t high = apr_u64(&c), low = apr_u64(&c);
    if (c.bad || apr_left(&c) > 0 || memcmp(begins.at, magic, sizeof magic) != 0)
        return false;
    const struct apr_digest d = apr_digest_of((struct apr_bytes){ text.at + HASHED_AT, hashed - HASHED_AT });
    return d.high == high && d.low == low && sensible(w);
}

/* Is each byte of `now` as it was before, or as it will be? A write that was cut short may end anywhere. lead: zeros that stood before
 * `old`. */
static bool is_mixture(const unsigned char *now, struct apr_bytes old, size_t lead, struct apr_bytes new)
{
    for (size_t i = 0; i < new.n; i++)
        if (now[i] != new.at[i] && now[i] != (i < lead ? 0 : old.at[i - lead]))
            return false;
    return true;
}

/* Did a shift of the file end inside its head, or before it? Then all behind the head is where it should be. */
static bool is_shifted(const unsigned char *now, struct apr_bytes old, size_t lead)
{
    size_t kept = 0;
    if (memcmp(now + lead, old.at, old.n) == 0)
        return true;
    while (kept < old.n && now[kept] == old.at[kept])
        kept++;
    kept = kept / 512 * 512; /* no file system has smaller blocks */
    for (size_t i = kept; i < kept + lead; i++)
        if (now[i] != 0)
            return false;
    return memcmp(now + lead + kept, old.at + kept, old.n - kept) == 0;
}

enum state { FOREIGN, AS_IT_WAS, TORN, SHIFTED, WRITTEN };

/* What the file says of itself; now: its first bytes, as many as the new head has or the file. */
static enum state state_of(const struct edit *x, const unsigned char *now, const unsigned char *tail, uint64_t step)
{
    const struct apr_rewrite *w = &x->w;
    const size_t lead = (size_t)inserted(w);
    const bool old_tail = w->old_tail.n == 0 || memcmp(tail, w->old_tail.at, w->old_tail.n) == 0;
    const bool old = memcmp(now, w->old_head.at, w->old_head.n) == 0;
    if (x->size == w->size && old && old_tail && (lead > 0 || step == 0))
        return AS_IT_WAS;
    if (x->size != w->size + lead || (lead == 0 && step == 0))
        return FOREIGN;
    if (step == 0)
        return old ? TORN : old_tail && is_shifted(now, w->old_head, lead) ? SHIFTED : FOREIGN;
    return is_mixture(now, w->old_head, lead, w->new_head) && is_mixture(tail, w->old_tail, 0, w->new_tail) ? WRITTEN : FOREIGN;
}

/* Reads what state_of looks at. */
static enum apr_code look(const struct edit *x, uint64_t step, enum state *state, struct apr_error *e)
{
    const struct apr_rewrite *w = &x->w;
    unsigned char tail[APR_MOST_TAIL] = { 0 };
    *state = FOREIGN;
    if (x->size != w->size && x->size != w->size + inserted(w))
        return APR_OK;
    const size_t n = x->size == w->size ? w->old_head.n : w->new_head.n;
    unsigned char *const now = malloc(n);
    if (now == NULL)
        return apr_no_memory(e);
    int why = get_at(x->fd, now, n, 0);
    if (why == 0)
        why = get_at(x->fd, tail, w->old_tail.n, x->size - w->old_tail.n);
    if (why == 0)
        *state = state_of(x, now, tail, step);
    free(now);
    return why == 0 ? APR_OK : failed(x, APR_EIO, why, "cannot be read", e);
}

static enum apr_code act(struct edit *x, enum state state, enum apr_recovery *done, struct apr_error *e)
{
    int why = 0;
    *done = state == SHIFTED || state == WRITTEN ? APR_FINISHED : APR_UNDONE;
    switch (state) {
    case FOREIGN:
        return refused(x, "neither its old nor its new first bytes are what its journal says: if the journal is of another file, remove it", e);
    case AS_IT_WAS:
        break;
    case TORN:
        why = close_hole(x);
        if (why == 0)
            why = sync_fd(x->fd);
        if (why == ENOTSUP)
            return refused(x, "the file system stopped while it moved the file's bytes, and the file has other holes than its own: restore it from a copy", e);
        break;
    case SHIFTED:
    case WRITTEN:
        why = write_new(x);
        if (why != 0)
            return take_back(x, why, e);
    }
    return why == 0 ? remove_journal(x, e) : failed(x, APR_EIO, why, "cannot be made as it was", e);
}

static enum apr_code recover(struct edit *x, enum apr_recovery *done, struct apr_error *e)
{
    struct apr_bytes text;
    uint64_t step;
    enum state state = AS_IT_WAS;
    enum apr_code code = load(x, &text, e);
    if (code == APR_OK && parse(x, text, &step))
        code = look(x, step, &state, e);
    else if (code == APR_OK && step != 0)
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
