#include "files/sinks.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/sink_parts.h"

/* sub: the folder in the folder, where it has to be made or lies in a new one; or NULL. */
struct member {
    struct apr_sink sink;
    char           *sub;
    bool            ended;
};

/*   path    as given, with its '/'; NULL: none
 *   name    of a new folder, in the folder `in`; NULL: it is there, and is `in`
 *   stray   of a new one, and of each folder in it; made: it, open */
struct apr_sinks {
    char              *path, *name;
    int                in, made;
    bool               shared;
    struct member    **member;
    size_t             n, room;
    char             **gone;
    size_t             ngone, gone_room;
    struct apr_stray  *stray, **sub;
    size_t             nsub, sub_room;
};

/* ---- beginning ------------------------------------------------------------------------------------------------------ */

static const char another[] = "another run is writing there";

/* The files of two runs would be one set of neither. The lock ends with the descriptor. */
static enum apr_code lock_folder(const struct apr_sinks *s, struct apr_error *e)
{
    if (s->shared || flock(s->in, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return APR_OK;
    return apr_sink_refused(s->path, another, e);
}

/* Opens the folder at path (without a '/' at its end), or the one where it would be. */
static enum apr_code open_folder(struct apr_sinks *s, char *path, struct apr_error *e)
{
    struct stat st;
    s->in = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->in >= 0)
        return faccessat(s->in, ".", W_OK | X_OK, AT_EACCESS) == 0 ? lock_folder(s, e) : apr_sink_failed(s->path, errno, e);
    if (errno != ENOENT || lstat(path, &st) == 0)
        return apr_sink_failed(s->path, errno == ENOENT ? ENOTDIR : errno, e);
    char *const slash = strrchr(path, '/');
    s->name = strdup(slash == NULL ? path : slash + 1);
    if (s->name == NULL)
        return apr_no_memory(e);
    if (slash != NULL)
        slash[slash == path] = 0;
    s->in = open(slash == NULL ? "." : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->in < 0 || faccessat(s->in, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return apr_sink_failed(s->path, errno, e);
    return APR_OK;
}

static enum apr_code begin_folder(struct apr_sinks *s, const char *folder, struct apr_error *e)
{
    s->path = strdup(folder);
    char *const path = strdup(folder);
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    if (path != NULL)
        path[n] = 0;
    const enum apr_code code = path == NULL || s->path == NULL ? apr_no_memory(e) : open_folder(s, path, e);
    free(path);
    return code;
}

enum apr_code apr_sinks_begin(struct apr_sinks **out, const char *folder, bool shared, struct apr_error *e)
{
    struct apr_sinks *const s = calloc(1, sizeof *s);
    *out = s;
    if (s == NULL)
        return apr_no_memory(e);
    s->in = s->made = -1;
    s->shared = shared;
    return folder == NULL ? APR_OK : begin_folder(s, folder, e);
}

bool apr_sinks_exists(const struct apr_sinks *s) { return s->path != NULL && s->name == NULL; }

/* Where in the folder: name, or sub/name. */
static enum apr_code begin_member(struct apr_sinks *s, struct member *m, const char *path, uint64_t size, struct apr_error *e)
{
    const char *const within = s->path == NULL ? NULL : path + strlen(s->path), *const slash = within == NULL ? NULL : strchr(within, '/');
    struct stat st;
    if (slash != NULL) {
        m->sub = strndup(within, (size_t)(slash - within));
        if (m->sub == NULL)
            return apr_no_memory(e);
        if (s->name == NULL && fstatat(s->in, m->sub, &st, 0) == 0) {
            free(m->sub);
            m->sub = NULL;
        }
    }
    return apr_sink_begin_in(&m->sink, path, s->name != NULL || m->sub != NULL ? s->in : -1, size, e);
}

enum apr_code apr_sinks_add(struct apr_sinks *s, const char *path, uint64_t size, bool force, struct apr_sink **sink, struct apr_error *e)
{
    struct member **const grown = apr_grown(s->member, &s->room, s->n, 16, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    s->member = grown;
    struct member *const m = calloc(1, sizeof *m);
    if (m == NULL)
        return apr_no_memory(e);
    s->member[s->n++] = m;
    *sink = &m->sink;
    APR_TRY(begin_member(s, m, path, size, e));
    m->sink.fresh = !force;
    const struct apr_target *const place = &m->sink.place;
    if (!force && place->exists && place->stream < 0 && S_ISREG(place->st.st_mode))
        return apr_sink_refused(path, "it is there already; --force replaces it", e);
    return APR_OK;
}

enum apr_code apr_sinks_keep(struct apr_sinks *s, struct apr_sink *sink, struct apr_error *e)
{
    char name[NAME_MAX + 1];
    const bool fresh = s->name != NULL;
    const int n = snprintf(name, sizeof name - sizeof ".log", "%s%s%s.apr-partial", fresh ? s->name : "", fresh ? "." : "",
                           sink->stray == NULL ? "" : sink->place.name);
    if (n >= (int)(sizeof name - sizeof ".log"))
        return apr_sink_failed(sink->path, ENAMETOOLONG, e);
    return apr_sink_partial(sink, name, e);
}

enum apr_code apr_sinks_remove(struct apr_sinks *s, const char *name, struct apr_error *e)
{
    struct stat st;
    if (s->path == NULL || s->name != NULL || fstatat(s->in, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return APR_OK;
    if (apr_is_read(&st))
        return apr_sink_refused(s->path, "a file in it that would be removed is being read", e);
    char **const grown = apr_grown(s->gone, &s->gone_room, s->ngone, 16, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    s->gone = grown;
    s->gone[s->ngone] = strdup(name);
    if (s->gone[s->ngone] == NULL)
        return apr_no_memory(e);
    s->ngone++;
    return APR_OK;
}

/* ---- a folder that is there ----------------------------------------------------------------------------------------- */

/* The folder sub in `in`, made if need be, as a descriptor; -1 and errno. */
static int open_sub(int in, const char *sub)
{
    if (mkdirat(in, sub, 0777) != 0 && errno != EEXIST)
        return -1;
    return openat(in, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Its temporary name lies where it was begun. */
static void at_home(const struct apr_sinks *s, const struct member *m)
{
    if (m->sink.stray != NULL)
        m->sink.stray->folder = s->in;
}

static enum apr_code place_member(struct apr_sinks *s, struct member *m, int folder, struct apr_error *e)
{
    if (m->sub != NULL || s->name != NULL) { /* it was begun elsewhere */
        const int to = m->sub != NULL ? open_sub(folder, m->sub) : fcntl(folder, F_DUPFD_CLOEXEC, 3);
        struct apr_target *const place = &m->sink.place;
        if (to < 0)
            return apr_sink_failed(m->sink.path, errno, e);
        at_home(s, m);
        close(place->folder);
        place->folder = to;
        place->exists = fstatat(to, place->name, &place->st, AT_SYMLINK_NOFOLLOW) == 0;
    }
    return apr_sink_place(&m->sink, e);
}

/* Everything is on disk, and what is left to do are names. Whoever wants the process to end waits for all of them: of a set that is old in
 * part and new in part nobody could tell. No other thread of ours is there to take the signal. */
static enum apr_code place_all(struct apr_sinks *s, int folder, struct apr_error *e)
{
    enum apr_code code = APR_OK;
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* which would not wait */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (size_t i = 0; i < s->n && code == APR_OK; i++)
        code = place_member(s, s->member[i], folder, e);
    for (size_t i = 0; i < s->ngone && code == APR_OK; i++)
        unlinkat(folder, s->gone[i], 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

/* Is the folder of the member that of the one before? Then it is synced once for both. */
static bool is_beside(const struct member *m, const struct member *before)
{
    struct stat a, b;
    return fstat(m->sink.place.folder, &a) == 0 && fstat(before->sink.place.folder, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino;
}

static enum apr_code end_each(struct apr_sinks *s, struct apr_error *e)
{
    int folder = s->in;
    for (size_t i = 0; i < s->n; i++)
        if (s->name == NULL && s->member[i]->sub == NULL)
            APR_TRY(apr_sink_check(&s->member[i]->sink, e)); /* of all before any */
    if (s->name != NULL && (folder = open_sub(s->in, s->name)) < 0)
        return apr_sink_failed(s->path, errno, e);
    const enum apr_code code = place_all(s, folder, e);
    for (size_t i = 0; i < s->n && code == APR_OK; i++)
        if (s->member[i]->sink.stray != NULL && !s->member[i]->sink.unsynced && (i == 0 || s->member[i - 1]->sink.stray == NULL ||
                                                 !is_beside(s->member[i], s->member[i - 1])))
            apr_sync_folder(s->member[i]->sink.place.folder);
    if (s->name != NULL && code != APR_OK)
        unlinkat(s->in, s->name, AT_REMOVEDIR); /* when nothing is in it */
    if (folder != s->in)
        close(folder);
    return code;
}

/* ---- a new folder --------------------------------------------------------------------------------------------------- */

/* The folder sub in the temporary one: a stray as what it is in. */
static enum apr_code make_sub(struct apr_sinks *s, const char *path, const char *sub, struct apr_error *e)
{
    for (size_t i = 0; i < s->nsub; i++)
        if (strcmp(s->sub[i]->name, sub) == 0)
            return APR_OK;
    struct apr_stray **const grown = apr_grown(s->sub, &s->sub_room, s->nsub, 4, sizeof *grown);
    struct apr_stray *const stray = grown == NULL ? NULL : apr_stray_take();
    if (grown != NULL)
        s->sub = grown;
    if (stray == NULL)
        return apr_no_memory(e);
    s->sub[s->nsub++] = stray;
    strncpy(stray->name, sub, sizeof stray->name - 1);
    stray->folder = s->made;
    stray->within = s->stray;
    stray->is_folder = true;
    stray->there = true;
    return mkdirat(s->made, sub, 0777) == 0 ? APR_OK : apr_sink_failed(path, errno, e);
}

/* Descriptors of folders in the temporary one stay open as long as a stray may have to be removed by them. */
static enum apr_code link_member(struct apr_sinks *s, struct member *m, struct apr_error *e)
{
    int folder = s->made;
    if (m->sub != NULL) {
        APR_TRY(make_sub(s, m->sink.path, m->sub, e));
        folder = openat(s->made, m->sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
            return apr_sink_failed(m->sink.path, errno, e);
        at_home(s, m);
        close(m->sink.place.folder);
        m->sink.place.folder = folder;
    }
    return apr_sink_link(&m->sink, folder, s->stray, e);
}

/* Once, when all that is to be in them is there: each time would be a journal's commit. */
static void sync_subs(const struct apr_sinks *s)
{
    for (size_t i = 0; i < s->nsub; i++) {
        const int folder = openat(s->made, s->sub[i]->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
            continue;
        apr_sync_folder(folder);
        close(folder);
    }
}

static enum apr_code make_folder(struct apr_sinks *s, struct apr_error *e)
{
    s->stray = apr_stray_take();
    if (s->stray == NULL)
        return apr_no_memory(e);
    s->stray->is_folder = true;
    if (apr_stray_make(s->stray, s->in, -1, 0777) < 0)
        return apr_sink_failed(s->path, errno, e);
    s->made = openat(s->in, s->stray->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return s->made < 0 ? apr_sink_failed(s->path, errno, e) : APR_OK;
}

static enum apr_code end_together(struct apr_sinks *s, struct apr_error *e)
{
    APR_TRY(make_folder(s, e));
    for (size_t i = 0; i < s->n; i++)
        APR_TRY(link_member(s, s->member[i], e));
    sync_subs(s);
    apr_sync_folder(s->made);
    int put = renameat2(s->in, s->stray->name, s->in, s->name, RENAME_NOREPLACE);
    if (put != 0 && (errno == EINVAL || errno == ENOSYS))
        put = renameat(s->in, s->stray->name, s->in, s->name); /* over an empty folder at most */
    if (put != 0 && (errno == EEXIST || errno == ENOTEMPTY))
        return apr_sink_refused(s->path, another, e);
    if (put != 0)
        return apr_sink_failed(s->path, errno, e);
    for (size_t i = 0; i < s->n; i++) {
        s->member[i]->ended = true;
        apr_sink_settle(&s->member[i]->sink);
    }
    for (size_t i = 0; i < s->nsub; i++)
        s->sub[i]->there = false;
    s->stray->there = false;
    apr_sync_folder(s->in);
    return APR_OK;
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

enum apr_code apr_sinks_end(struct apr_sinks *s, struct apr_error *e)
{
    for (size_t i = 0; i < s->n; i++)
        APR_TRY(apr_sink_sync(&s->member[i]->sink, e));
    return s->name != NULL && !s->shared ? end_together(s, e) : end_each(s, e);
}

void apr_sinks_drop(struct apr_sinks *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n; i++) {
        if (!s->member[i]->ended)
            apr_sink_drop(&s->member[i]->sink);
        free(s->member[i]->sub);
        free(s->member[i]);
    }
    for (size_t i = 0; i < s->nsub; i++)
        apr_stray_drop(s->sub[i]);
    apr_stray_drop(s->stray);
    for (size_t i = 0; i < s->ngone; i++)
        free(s->gone[i]);
    if (s->made >= 0)
        close(s->made);
    if (s->in >= 0)
        close(s->in);
    free(s->member);
    free(s->gone);
    free(s->sub);
    free(s->path);
    free(s->name);
    free(s);
}
