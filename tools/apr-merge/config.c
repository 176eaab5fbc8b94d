/* A configuration of mergekit, read as it is. */
#include "merge.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/nearest.h"

#define MOST_LAYER 65535u
#define MOST_SLICES 65536u

/* What a map says of key, or NULL; null says nothing. */
static const struct apr_yaml *said(const struct apr_yaml *map, const char *key)
{
    const struct apr_yaml *const y = apr_yaml_get(map, key);
    const bool null = y != NULL && y->kind == APR_YAML_SCALAR && !y->quoted &&
                      (y->text.n == 0 || apr_bytes_is(y->text, "null") || apr_bytes_is(y->text, "Null") || apr_bytes_is(y->text, "~"));
    return null ? NULL : y;
}

/* ---- messages ------------------------------------------------------------------------------------------------------- */

enum apr_code fail_at(const struct config *c, const struct apr_yaml *node, struct apr_error *e, const char *format, ...)
{
    char text[sizeof e->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (c->path == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s", text);
    apr_fail(e, APR_EARG, APR_NOWHERE, "line %u, column %u: %s", node->line, node->column, text);
    apr_error_in(e, c->path);
    return APR_EARG;
}

enum apr_code warn(struct config *c, struct apr_error *e, const char *format, ...)
{
    char text[sizeof e->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const struct apr_bytes kept = apr_arena_copy(&c->arena, apr_text(text));
    const char **const grown = apr_grown(c->warning, &c->warning_room, c->nwarning, 4, sizeof *grown);
    if (grown != NULL)
        c->warning = grown;
    if (kept.at == NULL || grown == NULL)
        return apr_no_memory(e);
    c->warning[c->nwarning++] = (const char *)kept.at;
    return APR_OK;
}

void config_end(struct config *c)
{
    for (size_t i = 0; i < c->nslice; i++)
        free(c->slice[i].part);
    free(c->slice);
    free(c->model);
    free(c->warning);
    apr_yaml_free(c->document);
    apr_arena_free(&c->arena);
}

/* Every key of a map is one of those; `refused` may name one of them that is not served. */
static enum apr_code check_keys(struct config *c, const struct apr_yaml *map, const char *const *known, size_t nknown, struct apr_error *e)
{
    for (const struct apr_yaml *y = map->child; y != NULL; y = y->next) {
        struct apr_nearest near = apr_nearest_to(y->key);
        size_t i = 0;
        while (i < nknown && !apr_bytes_is(y->key, known[i]))
            apr_nearest_try(&near, apr_text(known[i++]));
        if (i < nknown)
            continue;
        if (!c->strict)
            APR_TRY(warn(c, e, "line %u: the key %s, which there is not, is ignored", y->line, APR_QUOTED(y->key)));
        else if (near.best.n > 0)
            return fail_at(c, y, e, "there is no key %s here; did you mean %.*s?", APR_QUOTED(y->key), APR_PRINTED(near.best));
        else
            return fail_at(c, y, e, "there is no key %s here", APR_QUOTED(y->key));
    }
    return APR_OK;
}

static enum apr_code as_text(const struct config *c, const struct apr_yaml *y, const char *what, struct apr_error *e)
{
    return y->kind == APR_YAML_SCALAR && y->text.n > 0 ? APR_OK : fail_at(c, y, e, "%s is a text", what);
}

/* ---- models --------------------------------------------------------------------------------------------------------- */

static enum apr_code path_in(struct config *c, struct apr_bytes text, const char **path, struct apr_error *e)
{
    const bool absolute = text.n > 0 && text.at[0] == '/';
    const struct apr_bytes whole = absolute ? apr_arena_copy(&c->arena, text)
                                            : apr_arena_format(&c->arena, "%.*s%.*s", APR_PRINTED(c->folder), APR_PRINTED(text));
    *path = (const char *)whole.at;
    return whole.at == NULL ? apr_no_memory(e) : APR_OK;
}

/* "ADAPTER:SCALE" where ADAPTER alone is a file, and the whole is none. */
static enum apr_code take_lora(struct config *c, struct named *m, struct apr_bytes text, struct apr_error *e)
{
    if (m->nlora == APR_LENGTH(m->lora))
        return fail_at(c, m->node, e, "more than %zu adapters of one model", APR_LENGTH(m->lora));
    double *const scale = &m->scale[m->nlora];
    const char **const path = &m->lora[m->nlora++];
    char *end;
    *scale = 1;
    APR_TRY(path_in(c, text, path, e));
    const char *const colon = strrchr(*path, ':');
    if (access(*path, F_OK) == 0 || colon == NULL)
        return APR_OK;
    const double asked = strtod(colon + 1, &end);
    if (colon[1] == 0 || *end != 0 || asked - asked != 0)
        return APR_OK;
    const struct apr_bytes bare = apr_arena_copy(&c->arena, (struct apr_bytes){ (const unsigned char *)*path, (size_t)(colon - *path) });
    *path = (const char *)bare.at;
    *scale = asked;
    return bare.at == NULL ? apr_no_memory(e) : APR_OK;
}

/* "PATH+ADAPTER+...", where PATH is the longest that is there. */
static enum apr_code split_model(struct config *c, struct named *m, struct apr_bytes text, struct apr_error *e)
{
    APR_TRY(path_in(c, text, &m->path, e));
    if (access(m->path, F_OK) == 0)
        return APR_OK;
    for (size_t n = text.n; n-- > 1;) {
        const char *path;
        if (text.at[n] != '+')
            continue;
        APR_TRY(path_in(c, (struct apr_bytes){ text.at, n }, &path, e));
        if (access(path, F_OK) != 0 && memchr(text.at, '+', n) != NULL)
            continue;
        m->path = path;
        for (size_t from = n + 1; from <= text.n;) {
            const unsigned char *const next = from < text.n ? memchr(text.at + from, '+', text.n - from) : NULL;
            const size_t end = next == NULL ? text.n : (size_t)(next - text.at);
            APR_TRY(take_lora(c, m, (struct apr_bytes){ text.at + from, end - from }, e));
            from = end + 1;
        }
        return APR_OK;
    }
    return APR_OK;
}

/* The number of the model that a node names, new or known. */
static enum apr_code model_of(struct config *c, const struct apr_yaml *y, size_t *number, struct apr_error *e)
{
    APR_TRY(as_text(c, y, "a model", e));
    for (*number = 0; *number < c->nmodel; ++*number)
        if (apr_bytes_equal(c->model[*number].text, y->text))
            return APR_OK;
    if (c->nmodel == MOST_MODELS)
        return fail_at(c, y, e, "more than %u models", MOST_MODELS);
    struct named *const grown = apr_grown(c->model, &c->model_room, c->nmodel, 4, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    c->model = grown;
    c->model[c->nmodel] = (struct named){ .text = y->text, .node = y };
    return split_model(c, &c->model[c->nmodel++], y->text, e);
}

/* ---- slices --------------------------------------------------------------------------------------------------------- */

static bool layer_of(const struct apr_yaml *y, uint32_t *n)
{
    char *end;
    if (y == NULL || y->kind != APR_YAML_SCALAR || y->quoted || y->text.n == 0)
        return false;
    if (strspn((const char *)y->text.at, "0123456789") != y->text.n)
        return false;
    const unsigned long value = strtoul((const char *)y->text.at, &end, 10);
    *n = (uint32_t)value;
    return *end == 0 && value <= MOST_LAYER;
}

static enum apr_code read_range(const struct config *c, const struct apr_yaml *y, struct part *p, struct apr_error *e)
{
    if (y->kind != APR_YAML_LIST || y->n != 2 || !layer_of(y->child, &p->from) || !layer_of(y->child->next, &p->to))
        return fail_at(c, y, e, "layer_range is [from, to), two numbers of layers");
    return p->from < p->to ? APR_OK : fail_at(c, y, e, "layer_range [%u, %u) has no layer", p->from, p->to);
}

/* A source of a slice, or an element of `models`. */
static enum apr_code read_part(struct config *c, const struct apr_yaml *y, bool ranged, struct part *p, struct apr_error *e)
{
    static const char *const keys[] = { "model", "parameters", "layer_range" };
    const struct apr_yaml *const model = said(y, "model"), *const range = said(y, "layer_range");
    *p = (struct part){ .whole = !ranged, .node = y, .parameters = said(y, "parameters") };
    if (y->kind != APR_YAML_MAP || model == NULL)
        return fail_at(c, y, e, "a map with model is wanted");
    APR_TRY(check_keys(c, y, keys, ranged ? 3 : 2, e));
    APR_TRY(model_of(c, model, &p->model, e));
    APR_TRY(check_parameters(c, p->parameters, e));
    if (!ranged)
        return APR_OK;
    return range == NULL ? fail_at(c, y, e, "layer_range is missing: [from, to)") : read_range(c, range, p, e);
}

static enum apr_code read_parts(struct config *c, const struct apr_yaml *list, bool ranged, struct slice *s, struct apr_error *e)
{
    if (list->kind != APR_YAML_LIST || list->n == 0)
        return fail_at(c, list, e, "%s is a list of maps with model", ranged ? "sources" : "models");
    if (list->n > MOST_MODELS)
        return fail_at(c, list, e, "more than %u models", MOST_MODELS);
    s->part = calloc(list->n + 1, sizeof *s->part); /* and room for a base that joins them */
    if (s->part == NULL)
        return apr_no_memory(e);
    for (const struct apr_yaml *y = list->child; y != NULL; y = y->next)
        APR_TRY(read_part(c, y, ranged, &s->part[s->npart++], e));
    for (size_t i = 1; ranged && i < s->npart; i++)
        if (s->part[i].to - s->part[i].from != s->part[0].to - s->part[0].from)
            return fail_at(c, s->part[i].node, e, "sources of a slice have equal lengths: %u and %u layers",
                           s->part[0].to - s->part[0].from,
                           s->part[i].to - s->part[i].from);
    return APR_OK;
}

static enum apr_code read_slice(struct config *c, const struct apr_yaml *y, struct slice *s, struct apr_error *e)
{
    static const char *const keys[] = { "sources", "parameters", "base_model", "residual_weight" };
    const struct apr_yaml *const sources = said(y, "sources"), *const base = said(y, "base_model");
    *s = (struct slice){ .base = NONE, .node = y, .parameters = said(y, "parameters") };
    if (y->kind != APR_YAML_MAP || sources == NULL)
        return fail_at(c, y, e, "a slice is a map with sources");
    APR_TRY(check_keys(c, y, keys, APR_LENGTH(keys), e));
    APR_TRY(check_parameters(c, s->parameters, e));
    if (base != NULL)
        APR_TRY(model_of(c, base, &s->base, e));
    return read_parts(c, sources, true, s, e);
}

/* The one slice that `models` are. */
static enum apr_code read_models(struct config *c, const struct apr_yaml *models, struct apr_error *e)
{
    c->slice = calloc(1, sizeof *c->slice);
    if (c->slice == NULL)
        return apr_no_memory(e);
    c->nslice = 1;
    c->slice[0] = (struct slice){ .base = NONE, .node = models };
    return read_parts(c, models, false, &c->slice[0], e);
}

static enum apr_code read_slices(struct config *c, const struct apr_yaml *list, struct apr_error *e)
{
    if (list->kind != APR_YAML_LIST || list->n == 0 || list->n > MOST_SLICES)
        return fail_at(c, list, e, "slices is a list of maps with sources");
    c->sliced = true;
    c->slice = calloc(list->n, sizeof *c->slice);
    if (c->slice == NULL)
        return apr_no_memory(e);
    for (const struct apr_yaml *y = list->child; y != NULL; y = y->next)
        APR_TRY(read_slice(c, y, &c->slice[c->nslice++], e));
    return APR_OK;
}

/* What models are merged: exactly one of the keys says so. */
static enum apr_code read_body(struct config *c, const struct apr_yaml *map, bool module, struct apr_error *e)
{
    const struct apr_yaml *const models = said(map, "models"), *const slices = said(map, "slices");
    if (models != NULL && slices != NULL)
        return fail_at(c, models->line > slices->line ? models : slices, e, "models and slices both say what is merged: one of them");
    if (models == NULL && slices == NULL)
        return fail_at(c, map, e, "one of models, slices%s says what is merged: there is none", module ? "" : ", modules");
    return models != NULL ? read_models(c, models, e) : read_slices(c, slices, e);
}

static enum apr_code read_modules(struct config *c, const struct apr_yaml *modules, struct apr_error *e)
{
    static const char *const keys[] = { "models", "slices", "parameters" };
    const struct apr_yaml *const module = modules->child;
    if (said(c->root, "models") != NULL || said(c->root, "slices") != NULL)
        return fail_at(c, modules, e, "modules stands alone, without models and slices");
    if (modules->kind != APR_YAML_MAP || modules->n != 1 || module->kind != APR_YAML_MAP)
        return fail_at(c, modules, e, "modules is a map of one module: models with several are not merged");
    APR_TRY(check_keys(c, module, keys, APR_LENGTH(keys), e));
    c->level[0] = said(module, "parameters");
    APR_TRY(check_parameters(c, c->level[0], e));
    return read_body(c, module, true, e);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static enum apr_code read_method(struct config *c, struct apr_error *e)
{
    const struct apr_yaml *const y = c->method_node = said(c->root, "merge_method");
    struct apr_nearest near;
    if (y == NULL)
        return fail_at(c, c->root, e, "merge_method is missing");
    APR_TRY(as_text(c, y, "merge_method", e));
    c->method = method_named(y->text);
    if (c->method != NULL)
        return APR_OK;
    if (method_is_refused(y->text))
        return fail_at(c, y, e, "the method %s is not served", APR_QUOTED(y->text));
    near = apr_nearest_to(y->text);
    for (size_t i = 0; method_at(i) != NULL; i++)
        apr_nearest_try(&near, apr_text(method_at(i)->name));
    if (near.best.n > 0)
        return fail_at(c, y, e, "there is no method %s; did you mean %.*s?", APR_QUOTED(y->text), APR_PRINTED(near.best));
    return fail_at(c, y, e, "there is no method %s", APR_QUOTED(y->text));
}

/* out_dtype wins over dtype. */
static enum apr_code read_dtype(struct config *c, const struct options *o, struct apr_error *e)
{
    static const char *const key[] = { "dtype", "out_dtype" };
    for (size_t i = 0; i < APR_LENGTH(key); i++) {
        const struct apr_yaml *const y = said(c->root, key[i]);
        if (y == NULL)
            continue;
        APR_TRY(as_text(c, y, key[i], e));
        c->dtype = apr_written_dtype(&o->c, (const char *)y->text.at);
        if (c->dtype == NULL || c->dtype->block != 1 || c->dtype->kind != APR_REAL)
            return fail_at(c, y, e, "%s: %s is no dtype of floats: float32, float16 and bfloat16 are", key[i], APR_QUOTED(y->text));
    }
    return APR_OK;
}

/* The value of tokenizer_source or tokenizer.source. */
static enum apr_code read_source(struct config *c, const struct apr_yaml *y, struct apr_error *e)
{
    APR_TRY(as_text(c, y, "the tokenizer's source", e));
    if (apr_bytes_is(y->text, "union"))
        c->unite = y;
    return c->unite != NULL || apr_bytes_is(y->text, "base") ? APR_OK : model_of(c, y, &c->tokenizer, e);
}

static enum apr_code read_tokenizer(struct config *c, struct apr_error *e)
{
    static const char *const keys[] = { "source", "tokens", "pad_to_multiple_of" };
    const struct apr_yaml *const source = said(c->root, "tokenizer_source"), *const map = said(c->root, "tokenizer");
    const struct apr_yaml *const template = said(c->root, "chat_template");
    if (source != NULL && map != NULL)
        return fail_at(c, map, e, "tokenizer and tokenizer_source both name a tokenizer: one of them");
    if (template != NULL) {
        APR_TRY(as_text(c, template, "chat_template", e));
        c->chat_template = apr_bytes_is(template->text, "auto") ? (struct apr_bytes){ 0 } : template->text;
    }
    if (source != NULL)
        return read_source(c, source, e);
    if (map == NULL)
        return APR_OK;
    if (map->kind != APR_YAML_MAP)
        return fail_at(c, map, e, "tokenizer is a map with source");
    APR_TRY(check_keys(c, map, keys, APR_LENGTH(keys), e));
    for (size_t i = 1; i < APR_LENGTH(keys); i++)
        if (said(map, keys[i]) != NULL)
            return fail_at(c, said(map, keys[i]), e, "%s is not served", keys[i]);
    if (said(map, "source") != NULL)
        return read_source(c, said(map, "source"), e);
    c->unite = map; /* as there */
    return APR_OK;
}

static bool has_part(const struct slice *s, size_t model)
{
    bool has = false;
    for (size_t i = 0; i < s->npart; i++)
        has |= s->part[i].model == model;
    return has;
}

/* Where the method needs a base that the models do not list, it joins them. */
static enum apr_code join_base(const struct config *c, struct slice *s, struct apr_error *e)
{
    if (c->method->base == BASE_AS_MODEL || s->base == NONE || has_part(s, s->base))
        return APR_OK;
    if (c->sliced)
        return fail_at(c, s->node, e, "the base model is none of the slice's sources");
    s->part[s->npart++] = (struct part){ .model = s->base, .whole = true, .node = c->model[s->base].node };
    return APR_OK;
}

static enum apr_code check_slice(const struct config *c, struct slice *s, struct apr_error *e)
{
    const struct method *const m = c->method;
    if (s->base == NONE)
        s->base = c->base;
    APR_TRY(join_base(c, s, e));
    const bool apart = m->base != BASE_AS_MODEL && s->base != NONE;
    const size_t n = s->npart - apart;
    if (!apart && (m->base == BASE_MUST || m->base == BASE_ONE_OF_TWO))
        return fail_at(c, c->method_node, e, "%s needs a base_model", m->name);
    if (n >= m->least && n <= m->most)
        return APR_OK;
    if (m->least == m->most)
        return fail_at(c, c->sliced ? s->node : c->method_node, e, "%s takes %u model%s%s, got %zu", m->name, m->least, m->least == 1
                       ? "" : "s",
                       apart ? " beside the base" : "", n);
    return fail_at(c, c->sliced ? s->node : c->method_node, e, "%s takes %u models or more%s, got %zu", m->name, m->least, apart
                   ? " beside the base" : "", n);
}

static enum apr_code read_root(struct config *c, const struct options *o, struct apr_error *e)
{
    static const char *const keys[] = { "merge_method", "models", "slices", "modules", "base_model", "parameters", "dtype", "out_dtype",
                                        "tokenizer_source", "tokenizer", "chat_template", "cache_dir" };
    const struct apr_yaml *y;
    if (c->root->kind != APR_YAML_MAP)
        return fail_at(c, c->root, e, "a configuration is a map with merge_method");
    APR_TRY(check_keys(c, c->root, keys, APR_LENGTH(keys), e));
    if ((y = said(c->root, "cache_dir")) != NULL)
        return fail_at(c, y, e, "cache_dir: nothing is fetched, so nothing is cached; models are paths");
    APR_TRY(read_method(c, e));
    APR_TRY(read_dtype(c, o, e));
    c->level[1] = said(c->root, "parameters");
    APR_TRY(check_parameters(c, c->level[1], e));
    y = said(c->root, "modules");
    APR_TRY(y != NULL ? read_modules(c, y, e) : read_body(c, c->root, false, e));
    if ((y = said(c->root, "base_model")) != NULL)
        APR_TRY(model_of(c, y, &c->base, e));
    APR_TRY(read_tokenizer(c, e));
    for (size_t i = 0; i < c->nslice; i++)
        APR_TRY(check_slice(c, &c->slice[i], e));
    return APR_OK;
}

enum apr_code config_read(struct config *c, const struct options *o, struct apr_bytes text, struct apr_error *e)
{
    c->base = c->tokenizer = NONE;
    c->strict = o->strict == 0;
    enum apr_code code = apr_yaml_parse(&c->document, text, e);
    if (code == APR_OK) {
        c->root = apr_yaml_root(c->document);
        code = read_root(c, o, e);
    }
    if (code != APR_OK && c->path != NULL)
        apr_error_in(e, c->path);
    return code;
}

/* All of a file, its end marked by a NUL. */
static enum apr_code read_file(struct apr_arena **a, const char *path, const struct apr_run *r, struct apr_bytes *text, struct apr_error *e)
{
    struct apr_source *s;
    APR_TRY(apr_source_open(&s, path, r, e));
    enum apr_code code = s->map.n > APR_YAML_MOST ? apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu bytes are no configuration", s->map.n)
        : APR_OK;
    if (code == APR_OK) {
        *text = apr_arena_copy(a, s->map);
        code = text->at == NULL ? apr_no_memory(e) : APR_OK;
    }
    return apr_source_end(s, code, e);
}

enum apr_code config_open(struct config *c, const struct options *o, const char *path, struct apr_error *e)
{
    const char *const slash = strrchr(path, '/');
    struct apr_bytes text = { 0 };
    c->path = path;
    c->folder = (struct apr_bytes){ (const unsigned char *)path, slash == NULL ? 0 : (size_t)(slash - path) + 1 };
    const enum apr_code code = read_file(&c->arena, path, &o->c.cli.run, &text, e);
    if (code != APR_OK) {
        apr_error_in(e, path);
        return code;
    }
    return config_read(c, o, text, e);
}
