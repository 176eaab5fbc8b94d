/* The folder of a trace, and the files in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "files/address.h"
#include "files/sinks.h"
#include "saving.h"

/* folder: with its '/'. */
struct saving {
    struct apr_sinks *sinks;
    const char       *folder;
    bool              of_model; /* the model is a folder */
};

struct saved_file {
    struct apr_sink *sink;
    uint64_t         at;
};

/* ---- the folder ----------------------------------------------------------------------------------------------------- */

/* Without slashes at its end, unless it is nothing else. */
static size_t bare_length(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return n;
}

/* "some.model.gguf" -> "some.model-trace", "models/qwen2/" -> "models/qwen2-trace". */
static enum apr_code default_folder(struct trace *t, const char *path, bool is_folder, struct apr_error *e)
{
    size_t n = bare_length(path);
    const char *const slash = memrchr(path, '/', n), *const name = slash == NULL ? path : slash + 1;
    const char *const dot = is_folder ? NULL : memrchr(name, '.', n - (size_t)(name - path));
    if (dot != NULL && dot != name)
        n = (size_t)(dot - path);
    t->saving->folder = (const char *)apr_arena_format(&t->arena, "%.*s-trace/", (int)n, path).at;
    return t->saving->folder == NULL ? apr_no_memory(e) : APR_OK;
}

/* Has the path a name to go by? "." and ".." have not. */
static bool is_named(const char *path)
{
    const size_t n = bare_length(path);
    const char *const slash = memrchr(path, '/', n), *const name = slash == NULL ? path : slash + 1;
    const size_t length = n - (size_t)(name - path);
    return length > 0 && !(length == 1 && name[0] == '.') && !(length == 2 && name[0] == '.' && name[1] == '.');
}

/* Does it lie in a folder, not at an address or in a pipe? */
static bool lies_here(const char *model) { return strcmp(model, "-") != 0 && !apr_is_address(model); }

static enum apr_code choose_folder(struct trace *t, struct apr_error *e)
{
    const char *const dir = t->o->dir, *const model = t->engine.path;
    if (dir != NULL) {
        t->saving->folder = (const char *)apr_arena_format(&t->arena, "%.*s/", (int)bare_length(dir), dir).at;
        if (strcmp(dir, "/") == 0)
            t->saving->folder = "/";
        return t->saving->folder == NULL ? apr_no_memory(e) : APR_OK;
    }
    if (!lies_here(model))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "there is no folder beside it: --save-tensor-dir says where files go");
    if (!t->saving->of_model || is_named(model))
        return default_folder(t, model, t->saving->of_model, e);
    char *const real = realpath(model, NULL);
    const enum apr_code code = real == NULL ? apr_no_memory(e) : default_folder(t, real, true, e);
    free(real);
    return code;
}

/* What was begun stays open until all of it takes its place. */
static void allow_many_files(void)
{
    struct rlimit most;
    if (getrlimit(RLIMIT_NOFILE, &most) == 0 && most.rlim_cur < most.rlim_max) {
        most.rlim_cur = most.rlim_max;
        setrlimit(RLIMIT_NOFILE, &most);
    }
}

enum apr_code begin_saving(struct trace *t, struct apr_error *e)
{
    struct stat model, folder;
    if (!saves_stages(t->o) && t->o->weights.n == 0)
        return APR_OK;
    t->saving = calloc(1, sizeof *t->saving);
    if (t->saving == NULL)
        return apr_no_memory(e);
    const bool here = lies_here(t->engine.path);
    if (here && stat(t->engine.path, &model) != 0)
        return saving_failed(t->engine.path, e);
    t->saving->of_model = here && S_ISDIR(model.st_mode);
    APR_TRY(choose_folder(t, e));
    if (t->saving->of_model && stat(t->saving->folder, &folder) == 0 && folder.st_dev == model.st_dev && folder.st_ino == model.st_ino)
        return refuse_place(t->saving->folder, "it is the model's own folder", e);
    allow_many_files();
    APR_TRY(apr_sinks_begin(&t->saving->sinks, t->saving->folder, false, e));
    return saves_stages(t->o) && apr_sinks_exists(t->saving->sinks) ? check_earlier(t, t->saving->folder, t->saving->of_model, e) : APR_OK;
}

const char *saving_folder(const struct trace *t) { return t->saving->folder; }

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static enum apr_code note_saved(struct trace *t, const char *path, struct apr_error *e)
{
    const char **const grown = apr_grown(t->saved.path, &t->saved.room, t->saved.n, 64, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    t->saved.path = grown;
    t->saved.path[t->saved.n++] = path;
    return APR_OK;
}

enum apr_code begin_file(struct trace *t, const char *name, bool raw, uint64_t size, struct saved_file **f, const char **path,
                         struct apr_error *e)
{
    *f = apr_arena_alloc(&t->arena, sizeof **f);
    *path = (const char *)apr_arena_format(&t->arena, "%s%s", t->saving->folder, name).at;
    if (*f == NULL || *path == NULL)
        return apr_no_memory(e);
    APR_TRY(check_place(t, *path, t->saving->of_model, raw, e));
    APR_TRY(apr_sinks_add(t->saving->sinks, *path, size, true, &(*f)->sink, e));
    return note_saved(t, *path, e);
}

enum apr_code put_bytes(struct saved_file *f, const void *bytes, size_t n, struct apr_error *e)
{
    APR_TRY(apr_sink_write_at(f->sink, f->at, bytes, n, e));
    f->at += n;
    return APR_OK;
}

/* | 93 "NUMPY" | 1 0 | u16 length | {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } | blanks to a multiple of 64 | \n | */
static size_t make_npy_header(const uint64_t *dim, unsigned ndim, char out[512])
{
    size_t n = 10;
    memcpy(out, NPY_MAGIC, 6);
    out[6] = 1;
    out[7] = 0;
    n += (size_t)sprintf(out + n, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (unsigned i = 0; i < ndim; i++)
        n += (size_t)sprintf(out + n, "%s%llu%s", i > 0 ? " " : "", (unsigned long long)dim[i], i + 1 < ndim || ndim == 1 ? "," : "");
    n += (size_t)sprintf(out + n, "), }");
    while ((n + 1) % 64 != 0)
        out[n++] = ' ';
    out[n++] = '\n';
    apr_put_integer((unsigned char *)out + 8, n - 10, 2);
    return n;
}

enum apr_code put_npy_header(struct saved_file *f, const uint64_t *dim, unsigned ndim, struct apr_error *e)
{
    char header[512];
    return put_bytes(f, header, make_npy_header(dim, ndim, header), e);
}

static enum apr_code put_aprt_header(struct saved_file *f, const struct stage_row *r, struct apr_error *e)
{
    unsigned char header[12];
    memcpy(header, APRT_MAGIC, 4);
    apr_put_integer(header + 4, r->layer, 4);
    apr_put_integer(header + 8, r->count, 4);
    return put_bytes(f, header, sizeof header, e);
}

enum apr_code begin_stage_file(struct trace *t, const struct stage_row *r, struct saved_file **f, const char **path, struct apr_error *e)
{
    static const char *const suffix[] = { "bin", "npy" };
    const bool npy = t->o->format == FORMAT_NPY;
    char name[64];
    uint64_t bytes;
    if (!npy && r->count > UINT32_MAX)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "stage %s has %llu values, and an APRT file at most %lu: --format npy, or fewer "
                        "--positions", apr_stage_name(r->stage), (unsigned long long)r->count, (unsigned long)UINT32_MAX);
    if (!apr_mul(r->count, sizeof(float), &bytes))
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "stage %s is too large", apr_stage_name(r->stage));
    if (r->layer == APR_WHOLE_MODEL)
        snprintf(name, sizeof name, "%s.%s", apr_stage_name(r->stage), suffix[npy]);
    else
        snprintf(name, sizeof name, "layer-%lu/%s.%s", (unsigned long)r->layer, apr_stage_name(r->stage), suffix[npy]);
    APR_TRY(begin_file(t, name, false, bytes, f, path, e));
    return npy ? put_npy_header(*f, r->dim, r->ndim, e) : put_aprt_header(*f, r, e);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

enum apr_code finish_saving(struct trace *t, struct apr_error *e)
{
    if (t->saving == NULL || t->saved.n == 0)
        return APR_OK;
    const bool old = apr_sinks_exists(t->saving->sinks) && t->nstage > 0 && saves_stages(t->o);
    if (old)
        APR_TRY(remove_earlier(t, t->saving->folder, t->saving->sinks, e));
    APR_TRY(apr_sinks_end(t->saving->sinks, e));
    if (old)
        remove_empty(t->saving->folder);
    return APR_OK;
}

void end_saving(struct trace *t)
{
    if (t->saving != NULL)
        apr_sinks_drop(t->saving->sinks);
    free(t->saving);
    t->saving = NULL;
}
