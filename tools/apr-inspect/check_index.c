/* Stage 3: the index of a sharded checkpoint against its shards. That each tensor lies where the index says is a rule of opening. */
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "files/address.h"
#include "files/source.h"
#include "model/format.h"
#include "model/json.h"
#include "model/model.h"
#include "model/open.h"

#define INDEX_NAME "model.safetensors.index.json"

/* The path of the index beside a checkpoint, which the caller frees; *path is NULL where the model has no folder. */
static enum apr_code path_beside(const struct inspection *x, char **path, struct apr_error *e)
{
    const char *file = x->m->nfile == 0 ? "-" : x->m->file[0]->path;
    const size_t folder = apr_folder_length(file);
    *path = NULL;
    if (!x->m->format->config || strcmp(file, "-") == 0)
        return APR_OK;
    *path = malloc(folder + sizeof INDEX_NAME);
    if (*path == NULL)
        return apr_no_memory(e);
    memcpy(*path, file, folder);
    memcpy(*path + folder, INDEX_NAME, sizeof INDEX_NAME);
    return APR_OK;
}

/* ---- a sum in the index --------------------------------------------------------------------------------------------- */

/* The member of that name, as spelled; false when there is none, or it lies behind a syntax error. */
static bool find_member(struct apr_bytes object, const char *quoted, struct apr_bytes *value)
{
    struct apr_error ignored;
    struct apr_walk w;
    struct apr_item item;
    bool more = apr_walk_in(&w, object, 0, '{', &ignored) == APR_OK;
    while (more && apr_walk_next(&w, &item, &more, &ignored) == APR_OK && more)
        if (apr_bytes_is(item.key, quoted)) {
            *value = item.value;
            return true;
        }
    return false;
}

/* What the index says of its shards' bytes, when it lies at path. */
static enum apr_code check_total(struct inspection *x, const char *path, struct apr_error *e)
{
    struct apr_source *s;
    struct apr_bytes metadata, size;
    uint64_t said, total = 0;
    APR_TRY(apr_source_sidecar(&s, path, APR_MOST_INDEX, &x->o->cli.run, e));
    enum apr_code code = APR_OK;
    for (size_t i = 0; i < x->opened->ntensor; i++)
        total += stored_bytes(&x->opened->tensor[i]);
    if (s != NULL && find_member(s->map, "\"metadata\"", &metadata) && find_member(metadata, "\"total_size\"", &size) &&
        apr_json_plain(size, &said) && said != total)
        code = add_finding(&x->findings, "index.total_size", no_tensor, e,
                           "the index says that the tensors take %llu bytes, they take %llu", (unsigned long long)said,
                           (unsigned long long)total);
    apr_source_close(s);
    return code;
}

/* ---- a model and an index in one folder ----------------------------------------------------------------------------- */

/* Is b the tensor that t is? bytes: the data too, else the header alone. */
static bool same_tensor(const struct apr_tensor *t, const struct apr_tensor *b, bool bytes)
{
    return b != NULL && t->dtype == b->dtype && t->ndim == b->ndim && memcmp(t->dim, b->dim, t->ndim * sizeof *t->dim) == 0 &&
           t->data.n == b->data.n && (!bytes || t->data.n == 0 || memcmp(t->data.at, b->data.at, t->data.n) == 0);
}

/* A tensor of either that the other lacks, or has otherwise; NULL when both name the same values. */
static const struct apr_tensor *find_other(const struct apr_model *m, const struct apr_model *other, bool bytes)
{
    for (size_t i = 0; i < other->ntensor; i++)
        if (apr_model_find(m, other->tensor[i].name) == NULL)
            return &other->tensor[i];
    for (size_t i = 0; i < m->ntensor; i++)
        if (!same_tensor(&m->tensor[i], apr_model_find(other, m->tensor[i].name), bytes))
            return &m->tensor[i];
    return NULL;
}

/* The folder was opened by its model.safetensors: the index at path has to lead to the same values. */
static enum apr_code check_rival(struct inspection *x, const char *path, struct apr_error *e)
{
    static const char text[] = "the folder is ambiguous: model.safetensors was read, and model.safetensors.index.json beside it";
    struct apr_model *other;
    struct apr_error why;
    struct stat st;
    if (stat(x->path, &st) != 0 || !S_ISDIR(st.st_mode) || lstat(path, &st) != 0)
        return APR_OK;
    enum apr_code code = apr_open(&other, path, &x->o->cli.run, &why);
    if (code == APR_ENOMEM) {
        *e = why;
        return code;
    }
    if (code != APR_OK)
        return add_finding(&x->findings, "index.ambiguous", no_tensor, e, "%s cannot be: %s", text, why.text);
    const struct apr_tensor *t = find_other(x->opened, other, x->o->check == CHECK_ALL);
    const struct apr_tensor *const own = t == NULL ? NULL : apr_model_find(x->opened, t->name);
    code = apr_model_intact(other, e);
    if (code == APR_OK && t != NULL)
        code = add_finding(&x->findings, "index.ambiguous", own == NULL ? no_tensor : own->name, e,
                           "%s names other values, first those of %s", text, APR_QUOTED(t->name));
    apr_close(other);
    return code;
}

enum apr_code check_index(struct inspection *x, struct apr_error *e)
{
    char *path;
    APR_TRY(path_beside(x, &path, e));
    const enum apr_code code = path == NULL ? APR_OK : x->m->nfile > 1 ? check_total(x, path, e) : check_rival(x, path, e);
    free(path);
    return code;
}
