/* What lies in the folder of a trace already: what may be replaced, and stages of another run. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/sinks.h"
#include "model/inputs.h"
#include "saving.h"

enum apr_code refuse_place(const char *path, const char *why, struct apr_error *e)
{
    apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: %s", why);
    apr_error_in(e, path);
    return APR_EARG;
}

enum apr_code saving_failed(const char *path, struct apr_error *e)
{
    apr_fail(e, APR_EIO, APR_NOWHERE, "%s", strerror(errno));
    apr_error_in(e, path);
    return APR_EIO;
}

/* ---- what a file is ------------------------------------------------------------------------------------------------- */

/*   APRT    saved activations, or nothing at all
 *   F32     an array as --format npy and --save-weights write it, and as many others do
 *   ARRAY   another one
 *   OTHER   anything else, what is no file among it */
enum holds { HOLDS_OTHER, HOLDS_APRT, HOLDS_F32, HOLDS_ARRAY };

/* A pipe of that name is not waited for. */
static enum apr_code look_into(const char *path, enum holds *holds, struct apr_error *e)
{
    static const char f32[] = "{'descr': '<f4'";
    char start[10 + sizeof f32 - 1] = "";
    struct stat st;
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    const bool file = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    const ssize_t n = file ? pread(fd, start, sizeof start, 0) : -1;
    const enum apr_code code = (fd < 0 && errno != ENXIO) || (file && n < 0) ? saving_failed(path, e) : APR_OK;
    if (fd >= 0)
        close(fd);
    *holds = HOLDS_OTHER;
    if (n == 0 || (n >= 4 && memcmp(start, APRT_MAGIC, 4) == 0))
        *holds = HOLDS_APRT;
    else if (n >= 6 && memcmp(start, NPY_MAGIC, 6) == 0)
        *holds = memcmp(start + 10, f32, sizeof f32 - 1) == 0 ? HOLDS_F32 : HOLDS_ARRAY;
    return code;
}

/* ---- in the place of a file ----------------------------------------------------------------------------------------- */

static enum apr_code check_raw(const struct trace *t, const char *path, struct apr_error *e)
{
    if (apr_content_of(path, &t->o->cli.run) == APR_CONTENT_MODEL)
        return refuse_place(path, "it holds a model", e);
    return t->o->force ? APR_OK : refuse_place(path, "it is there already; --force replaces it", e);
}

enum apr_code check_place(const struct trace *t, const char *path, bool of_model, bool raw, struct apr_error *e)
{
    struct stat st;
    enum holds holds;
    if (stat(path, &st) != 0)
        return APR_OK;
    if (!S_ISREG(st.st_mode))
        return refuse_place(path, S_ISDIR(st.st_mode) ? "it is a folder" : "it is no file", e);
    if (apr_use_of(&st, t->engine.path, of_model) >= APR_PART ||
        (t->o->tokens_file != NULL && apr_use_of(&st, t->o->tokens_file, false) == APR_READ))
        return refuse_place(path, "it is an input", e);
    if (raw)
        return check_raw(t, path, e);
    APR_TRY(look_into(path, &holds, e));
    if (holds == HOLDS_APRT || (holds == HOLDS_F32 && t->o->force))
        return APR_OK;
    if (holds == HOLDS_F32)
        return refuse_place(path, "it is there already; --force replaces it", e);
    return refuse_place(path, holds == HOLDS_ARRAY ? "it is there already, and no array of F32"
                                                   : "it is there already, and no saved activation", e);
}

/* ---- stages of another run ------------------------------------------------------------------------------------------ */

/* A look through the folder.
 *   of_model  the model is a folder
 *   ended     the run is: which files it writes is known. Else it is what was asked for
 *   into      of removals, or NULL */
struct look {
    struct trace     *t;
    const char       *folder;
    struct apr_sinks *into;
    bool              of_model, ended;
};

/* The stage that "attn_norm.bin" or "lm_head.npy" is called for, else APR_NSTAGES. */
static unsigned stage_of(const char *name)
{
    const size_t n = strlen(name);
    if (n <= 4 || (strcmp(name + n - 4, ".bin") != 0 && strcmp(name + n - 4, ".npy") != 0))
        return APR_NSTAGES;
    return apr_stage_rank((struct apr_bytes){ (const unsigned char *)name, n - 4 });
}

static bool is_written(const struct trace *t, const char *path)
{
    size_t i = 0;
    while (i < t->saved.n && strcmp(t->saved.path[i], path) != 0)
        i++;
    return i < t->saved.n;
}

/* Will it be? A run that may stop anywhere does not say. sub: "layer-3/", or "". */
static bool is_asked_for(const struct trace *t, const char *sub, const char *name)
{
    static const char *const suffix[] = { ".bin", ".npy" };
    uint64_t layer = APR_WHOLE_MODEL;
    const unsigned stage = stage_of(name);
    if (*sub != 0 && apr_digits(apr_text(sub + strlen("layer-")), &layer) + strlen("layer-/") != strlen(sub))
        return false;
    return !t->o->stop_at_nan && strcmp(name + strlen(name) - 4, suffix[t->o->format]) == 0 && t->o->stage[stage] &&
        layer <= APR_WHOLE_MODEL && in_layers(t->o, (uint32_t)layer) && (*sub == 0 || layer < t->engine.net->nlayer);
}

/* A stage's file that this run does not write. What others may have made is never removed. */
static enum apr_code take_stale(const struct look *l, const char *path, const char *name, struct apr_error *e)
{
    enum holds holds;
    APR_TRY(look_into(path, &holds, e));
    const bool ours = holds == HOLDS_APRT || (holds == HOLDS_F32 && l->t->o->format == FORMAT_NPY);
    if (holds == HOLDS_OTHER)
        return APR_OK;
    if (!ours)
        return refuse_place(path, "it has the name of a stage, is none of this run's, and is not removed: take another folder", e);
    if (!l->t->o->force)
        return refuse_place(path, "it is a stage of another run, and would stay beside those of this one: --force removes it", e);
    return l->into == NULL ? APR_OK : apr_sinks_remove(l->into, name, e);
}

static enum apr_code look_through(const struct look *l, const char *sub, struct apr_error *e);

static enum apr_code look_at(const struct look *l, const char *sub, const char *entry, struct apr_error *e)
{
    const bool layer = *sub == 0 && strncmp(entry, "layer-", strlen("layer-")) == 0;
    const char *const name = (const char *)apr_arena_format(&l->t->arena, "%s%s%s", sub, entry, layer ? "/" : "").at;
    const char *const path = (const char *)apr_arena_format(&l->t->arena, "%s%s", l->folder, name == NULL ? "" : name).at;
    if (name == NULL || path == NULL)
        return apr_no_memory(e);
    if (layer)
        return look_through(l, name, e);
    if (stage_of(entry) == APR_NSTAGES || (l->ended && is_written(l->t, path)))
        return APR_OK;
    return !l->ended && is_asked_for(l->t, sub, entry) ? check_place(l->t, path, l->of_model, false, e) : take_stale(l, path, name, e);
}

/* The folder, or one in it (sub: "layer-3/", or ""). */
static enum apr_code look_through(const struct look *l, const char *sub, struct apr_error *e)
{
    const char *const folder = (const char *)apr_arena_format(&l->t->arena, "%s%s", l->folder, sub).at;
    struct dirent **entry;
    if (folder == NULL)
        return apr_no_memory(e);
    const int n = scandir(folder, &entry, NULL, alphasort); /* messages do not depend on the file system's order */
    if (n < 0)
        return errno == ENOTDIR ? APR_OK : errno == ENOMEM ? apr_no_memory(e) : saving_failed(folder, e);
    enum apr_code code = APR_OK;
    for (int i = 0; i < n; i++) {
        if (code == APR_OK)
            code = look_at(l, sub, entry[i]->d_name, e);
        free(entry[i]);
    }
    free(entry);
    return code;
}

enum apr_code check_earlier(struct trace *t, const char *folder, bool of_model, struct apr_error *e)
{
    return look_through(&(struct look){ .t = t, .folder = folder, .of_model = of_model }, "", e);
}

enum apr_code remove_earlier(struct trace *t, const char *folder, struct apr_sinks *sinks, struct apr_error *e)
{
    return look_through(&(struct look){ .t = t, .folder = folder, .into = sinks, .ended = true }, "", e);
}

void remove_empty(const char *folder)
{
    DIR *const d = opendir(folder);
    for (const struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        if (strncmp(entry->d_name, "layer-", strlen("layer-")) == 0)
            unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR);
    if (d != NULL)
        closedir(d);
}
