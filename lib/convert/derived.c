#include "convert/derived.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "convert/conversion_parts.h"
#include "family/packing.h"
#include "model/format.h"
#include "model/json_edit.h"
#include "model/meta.h"
#include "model/side.h"

/* ---- making --------------------------------------------------------------------------------------------------------- */

/* A text in the place of config.json, that nobody can change. */
static void stand_in(struct apr_derived *d, struct apr_bytes text, const char *path)
{
    d->config.map = text;
    d->config.stored = text.n;
    d->config.path = path;
    d->config.copied = true;
    d->config.fd = -1;
    d->m.config = &d->config;
}

static enum apr_code begin_config(struct apr_derived *d, const struct apr_model *of, struct apr_error *e)
{
    struct apr_bytes text = { 0 };
    if (of->config != NULL) {
        stand_in(d, of->config->map, of->config->path);
        return APR_OK;
    }
    APR_TRY(apr_side_carried(&d->arena, of, "config.json", &text, e));
    if (text.at != NULL && !of->format->own_names)
        stand_in(d, text, "config.json");
    return APR_OK;
}

enum apr_code apr_derived_begin(struct apr_derived *d, const struct apr_model *of, struct apr_error *e)
{
    *d = (struct apr_derived){ .m = *of };
    d->m.file = NULL;
    d->m.tensor = NULL;
    d->m.ntensor = d->m.tensor_room = d->m.nfile = 0;
    d->m.arena = NULL;
    d->m.by_name = (struct apr_table){ 0 };
    d->m.note = NULL;
    d->m.nnote = d->m.note_room = 0;
    d->m.meta.entry = apr_arena_alloc(&d->arena, (of->meta.n + 1) * sizeof *of->meta.entry);
    if (d->m.meta.entry == NULL)
        return apr_no_memory(e);
    if (of->meta.n > 0)
        memcpy(d->m.meta.entry, of->meta.entry, of->meta.n * sizeof *of->meta.entry);
    unsigned first;
    APR_TRY(apr_derived_files(d, of, &first, e));
    return begin_config(d, of, e);
}

void apr_derived_end(struct apr_derived *d)
{
    free(d->m.file);
    free(d->m.tensor);
    apr_table_free(&d->m.by_name);
    apr_arena_free(&d->m.arena);
    apr_arena_free(&d->arena);
}

enum apr_code apr_derived_files(struct apr_derived *d, const struct apr_model *of, unsigned *first, struct apr_error *e)
{
    struct apr_source **const grown = realloc(d->m.file, (d->m.nfile + of->nfile + 1) * sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    d->m.file = grown;
    *first = (unsigned)d->m.nfile;
    for (size_t i = 0; i < of->nfile; i++)
        d->m.file[d->m.nfile++] = of->file[i];
    return APR_OK;
}

enum apr_code apr_derived_add(struct apr_derived *d, const struct apr_tensor *t, struct apr_error *e)
{
    struct apr_tensor *const grown = apr_grown(d->m.tensor, &d->m.tensor_room, d->m.ntensor, 64, sizeof *grown);
    bool fresh;
    if (grown == NULL)
        return apr_no_memory(e);
    d->m.tensor = grown;
    union apr_table_value *const at = apr_table_put(&d->m.by_name, t->name, &fresh);
    if (at == NULL)
        return apr_no_memory(e);
    if (!fresh)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, " would be there twice");
    at->number = d->m.ntensor;
    d->m.tensor[d->m.ntensor++] = *t;
    return APR_OK;
}

/* ---- what config.json says ------------------------------------------------------------------------------------------ */

enum apr_code apr_derived_config(struct apr_derived *d, const char *path, struct apr_bytes json, struct apr_error *e)
{
    static const char *const inner[] = { "text_config.", "llm_config.", "lm_config.", "language_config.", "" };
    struct apr_bytes text = d->config.map;
    if (d->m.config == NULL)
        return APR_OK;
    for (size_t i = 0; i < APR_LENGTH(inner); i++) {
        const struct apr_bytes whole = apr_arena_format(&d->arena, "%s%s", inner[i], path);
        if (whole.at == NULL)
            return apr_no_memory(e);
        if (apr_json_find(text, (const char *)whole.at).at == NULL)
            continue;
        APR_TRY(apr_json_put(&d->arena, &text, (const char *)whole.at, json, e));
        d->config.map = text;
        d->config.stored = text.n;
    }
    return APR_OK;
}

static enum apr_code config_number(struct apr_derived *d, struct apr_bytes path, uint64_t n, struct apr_error *e)
{
    const struct apr_bytes key = apr_arena_copy(&d->arena, path), text = apr_arena_format(&d->arena, "%" PRIu64, n);
    return key.at == NULL || text.at == NULL ? apr_no_memory(e) : apr_derived_config(d, (const char *)key.at, text, e);
}

enum apr_code apr_config_drop(struct apr_arena **arena, struct apr_bytes *config, const char *key, struct apr_error *e)
{
    APR_TRY(apr_json_drop(arena, config, key, e));
    struct apr_bytes inner = apr_json_find(*config, "text_config");
    if (inner.n == 0 || inner.at[0] != '{' || apr_json_find(inner, key).at == NULL)
        return APR_OK;
    APR_TRY(apr_json_drop(arena, &inner, key, e));
    return apr_json_put(arena, config, "text_config", inner, e);
}

enum apr_code apr_derived_forget(struct apr_derived *d, const char *key, struct apr_error *e)
{
    if (d->m.config == NULL)
        return APR_OK;
    APR_TRY(apr_config_drop(&d->arena, &d->config.map, key, e));
    d->config.stored = d->config.map.n;
    return APR_OK;
}

enum apr_code apr_derived_unpacked(struct apr_derived *d, struct apr_error *e)
{
    d->m.quant_config = NULL;
    for (size_t i = 0; apr_packing_keys[i] != NULL; i++)
        APR_TRY(apr_derived_forget(d, apr_packing_keys[i], e));
    return APR_OK;
}

/* ---- what metadata says --------------------------------------------------------------------------------------------- */

static enum apr_code meta_number(struct apr_derived *d, struct apr_bytes key, uint64_t n, struct apr_error *e)
{
    for (size_t i = 0; i < d->m.meta.n; i++) {
        struct apr_value *const v = &d->m.meta.entry[i].value;
        const bool is_signed = v->type == APR_META_I8 || v->type == APR_META_I16 || v->type == APR_META_I32 || v->type == APR_META_I64;
        const bool is_unsigned = v->type == APR_META_U8 || v->type == APR_META_U16 || v->type == APR_META_U32 || v->type == APR_META_U64;
        if ((!is_signed && !is_unsigned) || !apr_bytes_equal(d->m.meta.entry[i].key, key))
            continue;
        v->u = n;
        if (v->text.n > 0)
            v->text = apr_arena_format(&d->arena, "%" PRIu64, n);
        if (v->text.n > 0 && v->text.at == NULL)
            return apr_no_memory(e);
    }
    return APR_OK;
}

/* The entry of a family's kv that a GGUF calls so behind its architecture, or NULL. */
static const struct apr_kv *kv_called(const struct apr_family *f, const char *key)
{
    for (size_t i = 0; i < f->nkv; i++)
        if (f->kv[i].own && apr_bytes_end(f->kv[i].key, apr_text(key)))
            return &f->kv[i];
    return NULL;
}

/* n wherever the dim, or the key, is stated. */
static enum apr_code state(struct apr_derived *d, const struct apr_binding *b, const char *dim, const char *key, uint64_t n,
                           struct apr_error *e)
{
    const struct apr_family *const f = apr_binding_family(b);
    const struct apr_dim *const stated = apr_family_dim(f, apr_text(dim));
    const struct apr_kv *const kv = kv_called(f, key);
    for (size_t i = 0; stated != NULL && i < stated->key.n; i++) /* an APR's binding knows nothing of a config.json that it carries */
        APR_TRY(config_number(d, stated->key.word[i], n, e));
    if (kv != NULL && kv->apr.n > 0)
        APR_TRY(meta_number(d, kv->apr, n, e));
    return kv == NULL ? APR_OK : meta_number(d, apr_binding_states(b, kv).key, n, e);
}

enum apr_code apr_derived_vocabulary(struct apr_derived *d, const struct apr_binding *b, uint64_t n, struct apr_error *e)
{
    return state(d, b, "V", ".vocab_size", n, e);
}
