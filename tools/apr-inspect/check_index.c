/* Stage 3: the index of a sharded checkpoint against its shards. That each tensor lies where the index says is a rule of opening. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/format.h"
#include "model/json.h"

/* Opens the file of that name beside a checkpoint; *s is NULL when there is none, or the model has no folder. */
static enum apr_code open_beside(const struct inspection *x, const char *name, uint64_t most, struct apr_source **s, struct apr_error *e)
{
    const char *path = x->m->file[0]->path, *slash = strrchr(path, '/');
    const size_t folder = slash == NULL ? 0 : (size_t)(slash - path) + 1, n = strlen(name);
    *s = NULL;
    if (!x->m->format->config || strcmp(path, "-") == 0)
        return APR_OK;
    char *beside = malloc(folder + n + 1);
    if (beside == NULL)
        return apr_no_memory(e);
    memcpy(beside, path, folder);
    memcpy(beside + folder, name, n + 1);
    const enum apr_code code = apr_source_sidecar(s, beside, most, &x->o->cli.run, e);
    free(beside);
    return code;
}

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

enum apr_code check_index(struct inspection *x, struct apr_error *e)
{
    struct apr_source *s;
    struct apr_bytes metadata, size;
    uint64_t said, total = 0;
    if (x->m->nfile < 2)
        return APR_OK;
    APR_TRY(open_beside(x, "model.safetensors.index.json", APR_MOST_INDEX, &s, e));
    enum apr_code code = APR_OK;
    for (size_t i = 0; i < x->m->ntensor; i++)
        total += stored_bytes(&x->m->tensor[i]);
    if (s != NULL && find_member(s->map, "\"metadata\"", &metadata) && find_member(metadata, "\"total_size\"", &size) &&
        apr_json_plain(size, &said) && said != total)
        code = add_finding(&x->findings, "index.total_size", no_tensor, e,
                           "the index says that the tensors take %llu bytes, they take %llu", (unsigned long long)said,
                           (unsigned long long)total);
    return apr_source_end(s, code, e);
}
