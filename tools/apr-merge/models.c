/* The models: opened, bound to their families, and their tensors in the dialect of the result. */
#include "lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/table.h"
#include "family/kind.h"
#include "family/missing.h"
#include "files/address.h"
#include "flow/turned.h"
#include "model/format.h"
#include "model/open.h"

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* Where the number of the layer stands: the first part of the name, behind another, that is digits alone. */
static bool find_layer(struct apr_bytes name, size_t *from, size_t *to)
{
    for (size_t i = 0; i < name.n; i++) {
        if (name.at[i] != '.')
            continue;
        size_t k = i + 1;
        while (k < name.n && name.at[k] >= '0' && name.at[k] <= '9')
            k++;
        if (k > i + 1 && k < i + 8 && k < name.n && name.at[k] == '.') {
            *from = i + 1;
            *to = k;
            return true;
        }
    }
    return false;
}

int64_t layer_in(struct apr_bytes name)
{
    size_t from, to;
    int64_t n = 0;
    if (!find_layer(name, &from, &to))
        return -1;
    for (; from < to; from++)
        n = n * 10 + (name.at[from] - '0');
    return n;
}

struct apr_bytes at_layer(struct apr_arena **arena, struct apr_bytes name, uint32_t layer)
{
    size_t from, to;
    if (!find_layer(name, &from, &to))
        return name;
    return apr_arena_format(arena, "%.*s%u%.*s", (int)from, (const char *)name.at, layer, (int)(name.n - to), (const char *)name.at + to);
}

static struct apr_bytes spelled(const struct model *m, struct apr_bytes name, char room[APR_NAME_ROOM])
{
    return m->family == NULL ? name : apr_family_spelling(m->family, name, room);
}

const struct apr_wish *wish_called(const struct model *m, struct apr_bytes name)
{
    char room[APR_NAME_ROOM];
    const union apr_table_value *const at = apr_table_find(&m->by_name, spelled(m, name, room));
    return at == NULL ? NULL : &m->wishes.wish[at->number];
}

static enum apr_code index_wishes(struct model *m, struct apr_error *e)
{
    char room[APR_NAME_ROOM];
    bool fresh;
    for (size_t i = 0; i < m->wishes.n; i++) {
        const struct apr_wish *const x = &m->wishes.wish[i];
        const struct apr_bytes name = apr_arena_copy(&m->arena, spelled(m, x->name, room));
        union apr_table_value *const at = name.at == NULL ? NULL : apr_table_put(&m->by_name, name, &fresh);
        if (at == NULL)
            return apr_no_memory(e);
        if (fresh)
            at->number = i;
        const int64_t layer = layer_in(x->name);
        if (layer >= 0 && layer < UINT32_MAX && (uint32_t)layer >= m->nlayer)
            m->nlayer = (uint32_t)layer + 1;
    }
    return APR_OK;
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static enum apr_code unpack(struct model *m, struct apr_error *e)
{
    APR_TRY(apr_hf_config_of(&m->config, m->opened, e));
    APR_TRY(apr_packing_of(&m->packing, m->opened, m->config, e));
    APR_TRY(apr_packing_sure(m->packing, "its values cannot be merged", e));
    m->m = m->packing == NULL ? m->opened : apr_packing_view(m->packing);
    return APR_OK;
}

static enum apr_dialect dialect_of(const struct model *m)
{
    if (m->m->format->own_names)
        return APR_GGUF;
    return m->m->format->config || m->binding == NULL ? APR_HF : apr_binding_spoken(m->binding, m->m);
}

static enum apr_code find_family(struct model *m, const struct model *first, struct options *o, struct apr_error *e)
{
    const struct apr_family *either[2] = { 0 };
    APR_TRY(apr_family_said(o->c.selection.families, m->m, &m->family, e));
    if (m->family == NULL)
        APR_TRY(apr_family_guessed(o->c.selection.families, m->m, &m->family, either, e));
    if (m->family != NULL)
        APR_TRY(apr_bind(&m->binding, m->family, m->m, m == first ? NULL : first->binding, e));
    m->dialect = dialect_of(m);
    return APR_OK;
}

static enum apr_code open_model(struct model *m, const struct model *first, struct options *o, struct apr_error *e)
{
    APR_TRY(apr_open(&m->opened, m->said->path, &o->c.cli.run, e));
    if (apr_model_kind(m->opened) != APR_KIND_MODEL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it is %s, no model", apr_model_kind_text(apr_model_kind(m->opened)));
    APR_TRY(apr_model_verify(m->opened, e));
    APR_TRY(unpack(m, e));
    APR_TRY(find_family(m, first, o, e));
    return put_loras_on(m, o, e);
}

/* Says where the configuration names the model, before what is wrong with it. */
static enum apr_code about(const struct config *c, const struct named *said, enum apr_code code, struct apr_error *e)
{
    const struct apr_error why = *e;
    if (code == APR_OK || code == APR_ENOMEM)
        return code;
    if (c->path == NULL) {
        apr_error_in(e, said->path);
        return code;
    }
    *e = (struct apr_error){ .code = code };
    fail_at(c, said->node, e, "%s: %s", why.file[0] != 0 ? why.file : said->path, why.text);
    e->code = code;
    return code;
}

/* A configuration names paths: a name of the hub is none, and nothing is fetched. The command line may name addresses. */
static enum apr_code check_there(const struct config *c, const struct named *said, struct apr_error *e)
{
    const struct apr_bytes text = said->text;
    const unsigned char *const end = text.at + text.n, *const slash = memchr(text.at, '/', text.n);
    const bool named = slash != NULL && text.at[0] != '.' && text.at[0] != '/';
    const bool address = apr_is_address((const char *)text.at);
    const bool remote = address || (named && memchr(slash + 1, '/', (size_t)(end - slash) - 1) == NULL);
    if (access(said->path, F_OK) == 0 || (address && c->path == NULL))
        return APR_OK;
    return fail_at(c, said->node, e, "there is no model %s%s", APR_QUOTED(text), remote
                   ? ": nothing is fetched here, models are paths; --method takes addresses" : "");
}

static enum apr_code check_family(const struct config *c, const struct model *m, const struct model *first, struct apr_error *e)
{
    if (m->family == first->family || m->family == NULL || first->family == NULL)
        return APR_OK;
    return fail_at(c, m->said->node, e, "%s is of the family %.*s, %s of the family %.*s", m->said->path, APR_PRINTED(m->family->name),
                   first->said->path,
                   APR_PRINTED(first->family->name));
}

static enum apr_code spare_nothing(void *ctx, struct apr_bytes name, const char **reason, struct apr_error *e)
{
    (void)ctx;
    (void)name;
    (void)e;
    *reason = NULL;
    return APR_OK;
}

static enum apr_code wish_for(struct model *m, const struct model *reference, const struct options *o, struct apr_error *e)
{
    const enum apr_dialect to = o->extract ? APR_HF : reference->dialect;
    if (m->dialect != to && m->binding == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "its family is not known, so its tensors are not found by those of %s",
                        o->extract ? "an adapter" : reference->said->path);
    APR_TRY(apr_wishes_of(&m->wishes, o->c.cli.run.kernels, m->m, m->dialect != to ? m->binding : NULL, to, spare_nothing, NULL, e));
    if (m->packing != NULL && m->dialect == to && to == APR_HF)
        APR_TRY(apr_turn_wishes(&m->wishes, o->c.cli.run.kernels, m->m, e));
    return index_wishes(m, e);
}

enum apr_code open_models(struct model **models, const struct config *c, size_t reference, struct options *o, struct apr_error *e)
{
    struct model *const m = *models = calloc(c->nmodel + 1, sizeof *m);
    if (m == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < c->nmodel; i++)
        APR_TRY(check_there(c, &c->model[i], e));
    for (size_t i = 0; i < c->nmodel; i++) {
        m[i].said = &c->model[i];
        APR_TRY(about(c, m[i].said, open_model(&m[i], &m[0], o, e), e));
    }
    for (size_t i = 0; i < c->nmodel; i++)
        APR_TRY(check_family(c, &m[i], &m[reference], e));
    for (size_t i = 0; i < c->nmodel; i++)
        APR_TRY(about(c, m[i].said, wish_for(&m[i], &m[reference], o, e), e));
    return APR_OK;
}

void close_models(struct model *models, size_t n)
{
    for (size_t i = 0; models != NULL && i < n; i++) {
        apr_wishes_end(&models[i].wishes);
        free_loras(&models[i]);
        apr_table_free(&models[i].by_name);
        apr_binding_free(models[i].binding);
        apr_hf_config_free(models[i].config);
        apr_packing_free(models[i].packing);
        apr_close(models[i].opened);
        apr_arena_free(&models[i].arena);
    }
    free(models);
}
