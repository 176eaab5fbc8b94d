#include "files/remote_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "base/hash.h"
#include "files/address.h"
#include "files/sink.h"
#include "files/source.h"

#define MAGIC      "APRCACHE"
#define DIGEST_AT  8
#define SUMMED_AT  24                       /* where begins what the digest is of */
#define FIXED      (SUMMED_AT + 8 + 8 + 4 + 4)
#define MOST_ENTRY (APR_CACHE_BYTES / 4)
#define DIGITS     32                       /* of a name */

/* FOLDER/DIGITS, which the caller frees. */
static char *path_of(const char *folder, const char *url)
{
    char digits[DIGITS + 1], *path;
    apr_digest_spell(apr_digest_of(apr_text(url)), digits);
    return asprintf(&path, "%s/%s", folder, digits) < 0 ? NULL : path;
}

/* ---- finding -------------------------------------------------------------------------------------------------------- */

/* The whole file, in memory that the caller frees; NULL when it is not ours alone. */
static unsigned char *load(const char *path, size_t *n)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    unsigned char *bytes = NULL;
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 022) == 0 && st.st_size >= FIXED &&
        (uint64_t)st.st_size <= MOST_ENTRY)
        bytes = malloc((size_t)st.st_size);
    *n = 0;
    for (ssize_t got = 1; bytes != NULL && *n < (size_t)st.st_size && got > 0; *n += got > 0 ? (size_t)got : 0)
        got = read(fd, bytes + *n, (size_t)st.st_size - *n);
    if (bytes != NULL)
        futimens(fd, NULL); /* the oldest go first; a failure makes it older than it is */
    close(fd);
    return bytes;
}

static struct apr_digest digest_at(const unsigned char *at)
{
    struct apr_digest d;
    memcpy(&d, at, sizeof d); /* of this machine's own byte order: a cache does not travel */
    return d;
}

/* A strong one, as it goes into a header line, with a 0 behind it. */
static bool is_tag(struct apr_bytes tag)
{
    for (size_t i = 0; i + 1 < tag.n; i++)
        if (tag.at[i] <= ' ' || tag.at[i] >= 0x7F)
            return false;
    return tag.n > 1 && tag.at[0] == '"' && tag.at[tag.n - 1] == 0;
}

/* The fields, when all of them is as it was written and of that URL. */
static bool take(struct apr_cached *c, struct apr_bytes file, const char *url)
{
    const struct apr_bytes summed = { file.at + SUMMED_AT, file.n - SUMMED_AT };
    struct apr_cursor at = apr_cursor_on(summed);
    if (memcmp(file.at, MAGIC, DIGEST_AT) != 0 || !apr_digest_equal(digest_at(file.at + DIGEST_AT), apr_digest_of(summed)))
        return false;
    c->size = apr_u64(&at);
    const uint64_t n = apr_u64(&at);
    const uint32_t netag = apr_u32(&at), nname = apr_u32(&at);
    const struct apr_bytes etag = apr_take_bytes(&at, netag), name = apr_take_bytes(&at, nname);
    c->bytes = apr_take_bytes(&at, n);
    if (at.bad || apr_left(&at) != 0 || n == 0 || n > c->size || (n < c->size && n % apr_source_page() != 0) || !is_tag(etag) ||
        !apr_bytes_equal(name, (struct apr_bytes){ (const unsigned char *)url, apr_path_length(url) }))
        return false;
    c->etag = (const char *)etag.at;
    return true;
}

bool apr_cache_find(struct apr_cached *c, const char *folder, const char *url)
{
    size_t n = 0;
    char *const path = path_of(folder, url);
    unsigned char *const bytes = path == NULL ? NULL : load(path, &n);
    free(path);
    *c = (struct apr_cached){ .memory = bytes };
    if (bytes != NULL && n >= FIXED && take(c, (struct apr_bytes){ bytes, n }, url))
        return true;
    apr_cached_free(c);
    return false;
}

void apr_cached_free(struct apr_cached *c)
{
    free(c->memory);
    *c = (struct apr_cached){ 0 };
}

/* ---- keeping -------------------------------------------------------------------------------------------------------- */

/* Makes the folder and those above it, for nobody else to read. */
static void make_folders(const char *folder)
{
    char path[4096];
    const size_t n = strlen(folder);
    if (n >= sizeof path)
        return;
    memcpy(path, folder, n + 1);
    for (size_t i = 1; i <= n; i++)
        if (path[i] == '/' || path[i] == 0) {
            path[i] = 0;
            mkdir(path, 0700);
            path[i] = folder[i];
        }
}

/* The files in it, but for one name. */
struct survey {
    struct entry {
        struct timespec written;
        uint64_t        bytes;
        char           *name;
    }       *entry;
    size_t   n, room;
    uint64_t bytes;
};

static bool add_entry(struct survey *s, const char *name, const struct stat *st)
{
    struct entry *const more = apr_grown(s->entry, &s->room, s->n, 64, sizeof *more);
    char *const own = strdup(name);
    if (more != NULL)
        s->entry = more;
    if (more == NULL || own == NULL) {
        free(own);
        return false;
    }
    more[s->n++] = (struct entry){ st->st_mtim, (uint64_t)st->st_size, own };
    s->bytes += (uint64_t)st->st_size;
    return true;
}

/* False when it cannot be told. */
static bool look_around(struct survey *s, int folder, const char *but)
{
    const int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *const d = own < 0 ? NULL : fdopendir(own);
    bool told = d != NULL;
    struct stat st;
    if (d == NULL && own >= 0)
        close(own);
    for (const struct dirent *entry; told && (entry = readdir(d)) != NULL;)
        if (strcmp(entry->d_name, but) != 0 && fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            told = add_entry(s, entry->d_name, &st);
    if (d != NULL)
        closedir(d);
    return told;
}

static int by_age(const void *a, const void *b)
{
    const struct timespec x = ((const struct entry *)a)->written, y = ((const struct entry *)b)->written;
    return x.tv_sec != y.tv_sec ? (x.tv_sec > y.tv_sec) - (x.tv_sec < y.tv_sec) : (x.tv_nsec > y.tv_nsec) - (x.tv_nsec < y.tv_nsec);
}

/* Removes the oldest files until n more bytes fit, in the place of the one called `name`. */
static bool make_room(int folder, const char *name, uint64_t n)
{
    struct survey s = { 0 };
    const bool told = look_around(&s, folder, name);
    if (told && s.bytes + n > APR_CACHE_BYTES)
        qsort(s.entry, s.n, sizeof *s.entry, by_age);
    for (size_t i = 0; told && i < s.n && s.bytes + n > APR_CACHE_BYTES; i++)
        if (unlinkat(folder, s.entry[i].name, 0) == 0)
            s.bytes -= s.entry[i].bytes;
    for (size_t i = 0; i < s.n; i++)
        free(s.entry[i].name);
    free(s.entry);
    return told && s.bytes + n <= APR_CACHE_BYTES;
}

/* A file lies there, or nothing: a link would be followed, a pipe waited for. */
static bool clear_place(int folder, const char *name)
{
    struct stat st;
    return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || S_ISREG(st.st_mode) || unlinkat(folder, name, 0) == 0;
}

static void put_u64(unsigned char *at, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        at[i] = (unsigned char)(v >> 8 * i);
}

/* The file's bytes, which the caller frees. */
static unsigned char *spell(size_t *n, const char *url, const char *etag, uint64_t size, struct apr_bytes bytes)
{
    const size_t netag = strlen(etag) + 1, nname = apr_path_length(url);
    *n = FIXED + netag + nname + bytes.n;
    unsigned char *const file = malloc(*n);
    if (file == NULL)
        return NULL;
    memcpy(file, MAGIC, DIGEST_AT);
    put_u64(file + SUMMED_AT, size);
    put_u64(file + SUMMED_AT + 8, bytes.n);
    put_u64(file + SUMMED_AT + 16, netag | (uint64_t)nname << 32);
    memcpy(file + FIXED, etag, netag);
    memcpy(file + FIXED + netag, url, nname);
    memcpy(file + FIXED + netag + nname, bytes.at, bytes.n);
    const struct apr_digest d = apr_digest_of((struct apr_bytes){ file + SUMMED_AT, *n - SUMMED_AT });
    memcpy(file + DIGEST_AT, &d, sizeof d);
    return file;
}

static void write_file(const char *path, const unsigned char *file, size_t n)
{
    struct apr_sink sink;
    struct apr_error ignored;
    if (apr_sink_begin(&sink, path, n, &ignored) != APR_OK)
        return;
    sink.unsynced = true;
    fwrite(file, 1, n, sink.to);
    if (apr_sink_end(&sink, &ignored) == APR_OK)
        chmod(path, 0600);
}

void apr_cache_keep(const char *folder, const char *url, const char *etag, uint64_t size, struct apr_bytes bytes)
{
    size_t n;
    if (bytes.n > MOST_ENTRY - 65536 || strlen(url) > 32768)
        return;
    make_folders(folder);
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    char *const path = path_of(folder, url);
    unsigned char *const file = spell(&n, url, etag, size, bytes);
    const bool ours = fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 022) == 0;
    const char *const name = path == NULL ? NULL : path + strlen(folder) + 1;
    if (ours && path != NULL && file != NULL && flock(fd, LOCK_EX | LOCK_NB) == 0 && clear_place(fd, name) && make_room(fd, name, n))
        write_file(path, file, n);
    free(file);
    free(path);
    if (fd >= 0)
        close(fd); /* and the lock goes with it */
}
