#include "model/inputs.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/glob.h"
#include "files/source.h"
#include "model/format.h"
#include "model/imatrix.h"
#include "model/shard_index.h"

#define DEEP 4 /* folders in a model's folder: those of a pipeline, of other formats */

/* ---- by name -------------------------------------------------------------------------------------------------------- */

/* As the hub's models have them. */
static bool names_a_part(const char *name)
{
    static const char *const shape[] = {
        "*.safetensors", "*.gguf", "*.apr", "*.index.json", "config.json", "*_config.json", "tokenizer.json", "*.model", "*.tiktoken",
        "vocab.[jt]*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.jinja", "chat_template.json",
        "model_index.json", "modules.json",
    };
    for (size_t i = 0; i < APR_LENGTH(shape); i++)
        if (apr_glob_is(shape[i], name))
            return true;
    return false;
}

static bool same(const struct stat *a, const struct stat *b) { return a->st_dev == b->st_dev && a->st_ino == b->st_ino; }

/* folder: an open one, which is closed, or -1. all: every file of it counts, and of the folders in it, so many deep; not through links. */
static enum apr_use use_in(int folder, const struct stat *file, bool all, unsigned deep)
{
    enum apr_use use = APR_UNUSED;
    struct stat st;
    DIR *const d = folder < 0 ? NULL : fdopendir(folder);
    if (d == NULL && folder >= 0)
        close(folder);
    for (const struct dirent *entry; d != NULL && use != APR_PART && (entry = readdir(d)) != NULL;) {
        const bool part = names_a_part(entry->d_name), dots = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        enum apr_use found = APR_UNUSED;
        if (dots || (!part && !all) || fstatat(folder, entry->d_name, &st, 0) != 0)
            continue;
        if (same(&st, file))
            found = part ? APR_PART : APR_BESIDE;
        else if (deep > 0 && S_ISDIR(st.st_mode))
            found = use_in(openat(folder, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), file, all, deep - 1);
        use = found > use ? found : use;
    }
    if (d != NULL)
        closedir(d);
    return use;
}

/* The folder that a file lies in. */
static int open_parent(const char *path)
{
    char folder[4096] = ".";
    const char *const slash = strrchr(path, '/');
    const size_t n = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    if (n >= sizeof folder)
        return -1;
    if (n > 0) {
        memcpy(folder, path, n);
        folder[n] = 0;
    }
    return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

enum apr_use apr_use_of(const struct stat *file, const char *path, bool model)
{
    struct stat st;
    const bool input = strcmp(path, "-") == 0;
    if ((input ? fstat(STDIN_FILENO, &st) : stat(path, &st)) != 0)
        return APR_UNUSED;
    if (same(&st, file))
        return APR_READ;
    if (input || !model)
        return APR_UNUSED;
    if (S_ISDIR(st.st_mode))
        return use_in(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), file, true, DEEP);
    return use_in(open_parent(path), file, false, 0);
}

bool apr_would_be_part(int folder, const char *name, const char *path)
{
    struct stat own, st;
    if (!names_a_part(name) || fstat(folder, &own) != 0 || strcmp(path, "-") == 0 || stat(path, &st) != 0)
        return false;
    const int parent = S_ISDIR(st.st_mode) ? -1 : open_parent(path);
    const bool yes = (S_ISDIR(st.st_mode) || fstat(parent, &st) == 0) && same(&st, &own);
    if (parent >= 0)
        close(parent);
    return yes;
}

/* ---- by content ----------------------------------------------------------------------------------------------------- */

static bool begins(struct apr_bytes file, const char *with) { return apr_bytes_begin(file, apr_text(with)); }

static bool is_model(struct apr_bytes file)
{
    static const char map[] = "\"weight_map\"";
    const struct apr_bytes start = { file.at, (size_t)apr_min(file.n, 64) };
    for (const struct apr_format *const *f = apr_formats; *f != NULL; f++)
        if ((*f)->probe(start, file.n))
            return true;
    return apr_is_shard_index(file) && memmem(file.at, file.n, map, sizeof map - 1) != NULL;
}

/* A GGUF, too, but not of weights. */
static bool is_imatrix(const char *path, const struct apr_run *r)
{
    struct apr_imatrix *im;
    struct apr_error ignored;
    if (apr_imatrix_open(&im, path, r, &ignored) != APR_OK)
        return false;
    apr_imatrix_close(im);
    return true;
}

enum apr_content apr_content_of(const char *path, const struct apr_run *r)
{
    struct apr_source *s = NULL;
    struct apr_error ignored;
    enum apr_content content = APR_CONTENT_OTHER;
    if (apr_source_sidecar(&s, path, UINT64_MAX, r, &ignored) != APR_OK || s == NULL)
        return APR_CONTENT_OTHER;
    if (s->map.n == 0)
        content = APR_CONTENT_EMPTY;
    else if (begins(s->map, "<!DOCTYPE html>") || begins(s->map, "{\"schema\":\"apr-"))
        content = APR_CONTENT_OURS;
    else if (is_imatrix(path, r))
        content = APR_CONTENT_IMATRIX;
    else if (is_model(s->map))
        content = APR_CONTENT_MODEL;
    apr_source_close(s);
    return content;
}
