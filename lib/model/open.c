#include "model/open.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files/address.h"
#include "files/journal.h"
#include "files/source.h"
#include "model/fetch.h"
#include "model/format.h"
#include "model/mistake.h"
#include "model/model.h"
#include "model/shard_index.h"
#include "model/stage.h"

#define MOST_SHARDS 65536
#define INDEX_NAME  "model.safetensors.index.json"

/* ---- one file ------------------------------------------------------------------------------------------------------- */

static enum apr_code recognise(struct apr_model *m, const struct apr_source *s, struct apr_error *e)
{
    const struct apr_format *const *f = apr_formats;
    const struct apr_bytes head = apr_source_head(s), start = { head.at, (size_t)apr_min(head.n, 64) };
    while (*f != NULL && !(*f)->probe(start, s->map.n))
        f++;
    if (*f == NULL)
        return apr_no_model_file(s->path, head, e);
    if (m->format != NULL && m->format != *f)
        return apr_fail(e, APR_ECORRUPT, 0, "is a file of format %s, but %s is of format %s", (*f)->name, m->file[0]->path,
                        m->format->name);
    m->format = *f;
    return APR_OK;
}

/* Gives s to the model and reads it. */
static enum apr_code read_source(struct apr_model *m, struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source **more = realloc(m->file, (m->nfile + 1) * sizeof *more);
    if (more == NULL) {
        apr_source_close(s);
        return apr_no_memory(e);
    }
    m->file = more;
    m->file[m->nfile++] = s;
    enum apr_code code = s->copied ? APR_OK : apr_rewrite_pending(s->path, e);
    if (code == APR_OK)
        code = apr_found(recognise(m, s, e), e, "file.format");
    if (code == APR_OK)
        code = apr_fetch_header(m->format, s, e);
    if (code == APR_OK)
        code = m->format->read(m, s, r, e);
    struct apr_error why;
    if (code != APR_OK && apr_source_intact(s, &why) != APR_OK) { /* what was found wrong is no news about the file */
        *e = why;
        return why.code;
    }
    if (code != APR_OK)
        apr_error_in(e, s->path);
    return code;
}

/* Reads a file that was looked for; *there: it exists. */
static enum apr_code read_file(struct apr_model *m, const char *path, bool *there, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source *s;
    const enum apr_code code = apr_source_sidecar(&s, path, APR_MOST_SHARD, r, e);
    *there = code != APR_OK || s != NULL;
    return s == NULL ? code : read_source(m, s, r, e);
}

/* ---- an index and its shards ---------------------------------------------------------------------------------------- */

static enum apr_code read_shards(struct apr_model *m, const struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    struct apr_shard_index *index;
    bool there;
    const size_t length = apr_folder_length(s->path);
    char *folder = strndup(s->path, length);
    if (folder == NULL)
        return apr_no_memory(e);
    enum apr_code code = apr_shard_index_read(&index, m, s, e);
    for (size_t i = 0; code == APR_OK && i < apr_shard_index_nshard(index); i++) {
        char *path = length == 0 ? strndup((const char *)apr_shard_index_shard(index, i).at, apr_shard_index_shard(index, i).n)
                                   : apr_beside(folder, apr_shard_index_shard(index, i));
        code = path == NULL ? apr_no_memory(e) : read_file(m, path, &there, r, e);
        if (code == APR_OK && !there)
            code = apr_shard_index_explain(index, i, s, e);
        free(path);
    }
    if (code == APR_OK)
        code = apr_shard_index_check(index, m, s, e);
    apr_shard_index_free(index);
    free(folder);
    return code;
}

/* Closes s. */
static enum apr_code read_index(struct apr_model *m, struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    enum apr_code code = apr_source_reach(s, s->map.n, e);
    if (code == APR_OK)
        code = read_shards(m, s, r, e);
    if (code != APR_OK)
        apr_error_in(e, s->path);
    return apr_source_end(s, code, e);
}

/* ---- siblings by number --------------------------------------------------------------------------------------------- */

/* Where "-00002-of-00005.SUFFIX" begins in path, or NULL. */
static char *numbering(char *path, const char *suffix, unsigned *number, unsigned *count)
{
    static const char shape[] = "-00000-of-00000";
    const size_t n = strlen(path), tail = sizeof shape - 1 + strlen(suffix);
    if (n <= tail || strcmp(path + n - strlen(suffix), suffix) != 0)
        return NULL;
    char *at = path + n - tail;
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == '0' ? at[i] < '0' || at[i] > '9' : at[i] != shape[i])
            return NULL;
    *number = (unsigned)strtoul(at + 1, NULL, 10);
    *count = (unsigned)strtoul(at + 10, NULL, 10);
    return at;
}

/* path is one of `count` shards: reads them all, in order, into m, which is still empty. seen: that one's own source, or NULL, which is
 * taken over. */
static enum apr_code read_siblings(struct apr_model *m, const char *path, struct apr_source *seen, const struct apr_format *format,
                                   unsigned count, unsigned number, const struct apr_run *r, struct apr_error *e)
{
    unsigned named_number = 0, named_count = 0;
    bool there;
    char *name = strndup(path, apr_path_length(path));
    char *at = name == NULL ? NULL : numbering(name, format->suffix, &named_number, &named_count);
    enum apr_code code = APR_OK;
    if (name == NULL) {
        code = apr_no_memory(e);
    } else if (count > MOST_SHARDS || number >= count) {
        code = apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "says that it is shard %u of %u (counted from 0)", number, count);
    } else if (at == NULL || named_count != count || named_number != number + 1) {
        code = apr_fail(e, APR_ECORRUPT, APR_NOWHERE,
                        "is shard %u of %u, but its name does not end in -%05u-of-%05u%s, so the others cannot be found", number + 1, count,
                        number + 1, count, format->suffix);
    }
    if (code != APR_OK)
        apr_error_in(e, path);
    for (unsigned i = 0; code == APR_OK && i < count; i++) {
        snprintf(at, strlen(at) + 1, "-%05u-of-%05u%s", i + 1, count, format->suffix);
        there = seen != NULL && i == number;
        code = there ? read_source(m, seen, r, e) : read_file(m, name, &there, r, e);
        seen = i == number ? NULL : seen;
        if (code == APR_OK && !there) {
            code = apr_fail(e, APR_EIO, APR_NOWHERE, "shard %u of %u, %s, is not there", i + 1, count, APR_QUOTED(apr_text(name)));
            apr_error_in(e, path);
            e->finding = "file.missing_shard";
        }
    }
    apr_source_close(seen);
    free(name);
    return code;
}

/* ---- a trace -------------------------------------------------------------------------------------------------------- */

/* Paths within the folder: "layer-3/ffn_out.bin". */
struct stage_files {
    char **path;
    size_t n, room;
};

static bool ends(const char *name, const char *with)
{
    const size_t n = strlen(name), m = strlen(with);
    return n > m && strcmp(name + n - m, with) == 0;
}

/* Is a file of that name one of a trace's? */
static bool is_stage_file(const char *name)
{
    const struct apr_format *const *f = apr_formats;
    while (*f != NULL && !((*f)->trace && ends(name, (*f)->suffix)))
        f++;
    return *f != NULL;
}

/* Without what it ends in. */
static struct apr_bytes stage_name(const char *path)
{
    return (struct apr_bytes){ (const unsigned char *)path, (size_t)(strrchr(path, '.') - path) };
}

static int in_computation_order(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    const int order = apr_stage_compare(stage_name(x), stage_name(y));
    return order != 0 ? order : strcmp(x, y); /* layer-1 and layer-01 */
}

/* Takes over `path`. */
static enum apr_code add_stage(struct stage_files *found, char *path, struct apr_error *e)
{
    if (path == NULL)
        return apr_no_memory(e);
    char **more = apr_grown(found->path, &found->room, found->n, 64, sizeof *more);
    if (more == NULL) {
        free(path);
        return apr_no_memory(e);
    }
    found->path = more;
    found->path[found->n++] = path;
    return APR_OK;
}

/* Appends the stages in FOLDER/SUB (SUB may be ""), and when `deeper` those of its folders layer-*. A SUB that is no folder has
 * none. */
static enum apr_code find_stages(struct stage_files *found, const char *folder, const char *sub, bool deeper, struct apr_error *e)
{
    char *path = *sub == 0 ? strdup(folder) : apr_beside(folder, apr_text(sub));
    DIR *d = path == NULL ? NULL : opendir(path);
    enum apr_code code = APR_OK;
    if (path == NULL)
        code = apr_no_memory(e);
    else if (d == NULL && (deeper || errno != ENOTDIR))
        code = apr_fail(e, APR_EIO, APR_NOWHERE, "cannot open the folder: %s", strerror(errno));
    while (d != NULL && code == APR_OK) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (entry == NULL && errno != 0)
            code = apr_fail(e, APR_EIO, APR_NOWHERE, "cannot list the folder: %s", strerror(errno));
        if (entry == NULL)
            break;
        if (is_stage_file(entry->d_name))
            code = add_stage(found, *sub == 0 ? strdup(entry->d_name) : apr_beside(sub, apr_text(entry->d_name)), e);
        else if (deeper && strncmp(entry->d_name, "layer-", 6) == 0)
            code = find_stages(found, folder, entry->d_name, false, e);
    }
    if (code != APR_OK && path != NULL)
        apr_error_in(e, path);
    if (d != NULL)
        closedir(d);
    free(path);
    return code;
}

static enum apr_code read_trace(struct apr_model *m, const char *folder, const struct apr_run *r, struct apr_error *e)
{
    struct stage_files found = { 0 };
    enum apr_code code = find_stages(&found, folder, "", true, e);
    if (code == APR_OK && found.n == 0) {
        code = apr_no_model_folder(folder, e);
        apr_error_in(e, folder);
    }
    if (found.n > 0)
        qsort(found.path, found.n, sizeof *found.path, in_computation_order);
    for (size_t i = 0; code == APR_OK && i < found.n; i++) {
        char *path = apr_beside(folder, apr_text(found.path[i]));
        bool there;
        code = path == NULL ? apr_no_memory(e) : read_file(m, path, &there, r, e);
        free(path);
    }
    for (size_t i = 0; i < found.n; i++)
        free(found.path[i]);
    free(found.path);
    return code;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return apr_is_address(path) ? apr_is_folder_address(path) : stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The folder that a file lies in; the caller frees it. */
static char *folder_of(const char *path)
{
    const size_t n = apr_folder_length(path);
    return n == 0 ? strdup(".") : strndup(path, n);
}

/* Maps the file of that name that lies in the folder `path`, or beside the file `path`, when there is one. */
static enum apr_code read_config(struct apr_source **to, const char *path, const char *name, const struct apr_run *r, struct apr_error *e)
{
    char *folder = is_folder(path) ? strdup(path) : folder_of(path);
    char *config = folder == NULL ? NULL : apr_beside(folder, apr_text(name));
    enum apr_code code = config == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK)
        code = apr_source_sidecar(to, config, APR_MOST_CONFIG, r, e);
    free(config);
    free(folder);
    return code;
}

/* Notes that the one file of m is a shard of an index that lies beside it. An index that cannot be read is no matter here. */
static enum apr_code note_index(struct apr_model *m, const char *path, const struct apr_run *r, struct apr_error *e)
{
    char *folder = folder_of(path);
    char *index = folder == NULL ? NULL : apr_beside(folder, apr_text(INDEX_NAME)), *quoted = NULL;
    struct apr_source *s = NULL;
    struct apr_error ignored;
    const size_t before = apr_folder_length(path);
    const bool spelled = index != NULL && asprintf(&quoted, "\"%.*s\"", (int)(apr_path_length(path) - before), path + before) >= 0;
    enum apr_code code = spelled ? APR_OK : apr_no_memory(e);
    if (code == APR_OK && apr_source_sidecar(&s, index, APR_MOST_INDEX, r, &ignored) == APR_OK && s != NULL &&
        memmem(s->map.at, s->map.n, quoted, strlen(quoted)) != NULL)
        apr_model_note(m, "index.beside", (struct apr_bytes){ 0 }, 0, "is one shard of %s beside it, and was opened alone", INDEX_NAME);
    apr_source_close(s);
    free(quoted);
    free(index);
    free(folder);
    return code;
}

/* ---- any path ------------------------------------------------------------------------------------------------------- */

/* What a server's folder holds it does not tell. */
static enum apr_code no_remote_model(const char *folder, struct apr_error *e)
{
    apr_fail(e, APR_EIO, APR_NOWHERE, "has neither model.safetensors nor " INDEX_NAME ": name the file itself, as in %s%sNAME.gguf",
             folder, folder[apr_path_length(folder) - 1] == '/' ? "" : "/");
    apr_error_in(e, folder);
    return APR_EIO;
}

/* A model before an adapter, one file before its shards: what a loader of the folder takes. */
static enum apr_code read_folder(struct apr_model *m, const char *folder, const struct apr_run *r, struct apr_error *e)
{
    char *single = apr_beside(folder, apr_text("model.safetensors")), *index = apr_beside(folder, apr_text(INDEX_NAME));
    char *adapter = apr_beside(folder, apr_text("adapter_model.safetensors"));
    struct apr_source *s = NULL;
    bool there = false;
    enum apr_code code = single == NULL || index == NULL || adapter == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK && apr_is_address(folder))
        code = apr_address_check(folder, e);
    if (code == APR_OK)
        code = read_file(m, single, &there, r, e);
    if (code == APR_OK && !there)
        code = apr_source_sidecar(&s, index, APR_MOST_INDEX, r, e);
    if (code == APR_OK && s != NULL)
        code = read_index(m, s, r, e);
    else if (code == APR_OK && !there)
        code = read_file(m, adapter, &there, r, e);
    if (code == APR_OK && !there && s == NULL)
        code = apr_is_address(folder) ? no_remote_model(folder, e) : read_trace(m, folder, r, e);
    free(single);
    free(index);
    free(adapter);
    return code;
}

static enum apr_code read_path(struct apr_model *m, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct stat st;
    if (strcmp(path, "-") != 0 && is_folder(path))
        return read_folder(m, path, r, e);
    struct apr_source *s;
    const enum apr_code code = apr_source_open_parts(&s, path, r, e);
    if (code == APR_EIO && !apr_is_address(path) && stat(path, &st) != 0 && errno == ENOENT)
        apr_explain_absent(path, e);
    if (code != APR_OK)
        return code;
    if (apr_is_shard_index(apr_source_head(s)))
        return read_index(m, s, r, e);
    APR_TRY(read_source(m, s, r, e));
    return m->format->config && strcmp(path, "-") != 0 ? note_index(m, path, r, e) : APR_OK;
}

static struct apr_model *new_model(bool partial)
{
    struct apr_model *m = calloc(1, sizeof *m);
    if (m != NULL)
        m->partial = partial;
    return m;
}

/* WHOLE: all data is there. HEADERS: of remote files the headers are. PARTIAL: the same, and of what is cut off it is left out. */
enum extent { WHOLE, HEADERS, PARTIAL };

static enum apr_code open_path(struct apr_model **out, const char *path, enum extent extent, const struct apr_run *r, struct apr_error *e)
{
    const bool partial = extent == PARTIAL;
    struct apr_model *m = new_model(partial);
    *out = NULL;
    enum apr_code code = m == NULL ? apr_no_memory(e) : read_path(m, path, r, e);
    unsigned count = 1, number = 0;
    if (code == APR_OK && m->nfile == 1 && m->format->shards != NULL) {
        code = m->format->shards(m, &count, &number, e);
        if (code != APR_OK)
            apr_error_in(e, m->file[0]->path);
    }
    if (code == APR_OK && count > 1) {
        const struct apr_format *format = m->format;
        struct apr_source *const seen = m->file[0]->remote != NULL ? m->file[0] : NULL; /* what was fetched is not fetched again */
        m->nfile = seen != NULL ? 0 : m->nfile;
        apr_close(m);
        m = new_model(partial);
        if (m == NULL)
            apr_source_close(seen);
        code = m == NULL ? apr_no_memory(e) : read_siblings(m, path, seen, format, count, number, r, e);
        apr_found(code, e, "file.shards");
    }
    const bool beside = code == APR_OK && m->format->config && strcmp(path, "-") != 0;
    if (beside)
        code = read_config(&m->config, path, "config.json", r, e);
    if (code == APR_OK && beside)
        code = read_config(&m->quant_config, path, "hf_quant_config.json", r, e);
    if (code == APR_OK && extent == WHOLE)
        code = apr_fetch_all(m, e);
    if (code != APR_OK) {
        apr_error_in(e, path);
        apr_close(m);
        return code;
    }
    *out = m;
    return APR_OK;
}

static enum apr_code read_alone(struct apr_model *m, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source *s;
    if (apr_is_address(path))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "lies behind an address; a file of this machine is wanted");
    APR_TRY(apr_source_open(&s, path, r, e));
    if (s->copied || apr_is_shard_index(s->map)) {
        apr_fail(e, APR_EARG, APR_NOWHERE, "is %s; a file with tensors is wanted", s->copied ? "a pipe or a device" : "an index of shards");
        apr_source_close(s);
        return APR_EARG;
    }
    APR_TRY(read_source(m, s, r, e));
    return m->format->config ? note_index(m, path, r, e) : APR_OK;
}

enum apr_code apr_open_alone(struct apr_model **out, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct apr_model *m = new_model(false);
    const enum apr_code code = m == NULL ? apr_no_memory(e) : read_alone(m, path, r, e);
    if (code != APR_OK) {
        apr_error_in(e, path);
        apr_close(m);
        m = NULL;
    }
    *out = m;
    return code;
}

enum apr_code apr_open(struct apr_model **m, const char *path, const struct apr_run *r, struct apr_error *e)
{
    return open_path(m, path, WHOLE, r, e);
}

enum apr_code apr_open_headers(struct apr_model **m, const char *path, const struct apr_run *r, struct apr_error *e)
{
    return open_path(m, path, HEADERS, r, e);
}

enum apr_code apr_open_partial(struct apr_model **m, const char *path, const struct apr_run *r, struct apr_error *e)
{
    return open_path(m, path, PARTIAL, r, e);
}

enum apr_code apr_open_source(struct apr_model **out, struct apr_source *s, const struct apr_format *format, const struct apr_run *r,
                              struct apr_error *e)
{
    struct apr_model *const m = new_model(false);
    *out = NULL;
    if (m == NULL) {
        apr_source_close(s);
        return apr_no_memory(e);
    }
    m->format = format;
    const enum apr_code code = read_source(m, s, r, e);
    if (code == APR_OK)
        *out = m;
    else
        apr_close(m);
    return code;
}

enum apr_code apr_model_verify(const struct apr_model *m, struct apr_error *e)
{
    for (size_t i = 0; i < m->nfile && m->format->verify != NULL; i++) {
        const enum apr_code code = m->format->verify(m, m->file[i], e);
        if (code != APR_OK) {
            apr_error_in(e, m->file[i]->path);
            return code;
        }
    }
    return APR_OK;
}

const struct apr_format *apr_format_called(const char *name)
{
    size_t i = 0;
    while (strcmp(apr_formats[i]->name, name) != 0)
        i++;
    return apr_formats[i];
}
