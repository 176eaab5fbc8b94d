#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "files/source.h"
#include "check.h"
#include "model/findings.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/open.h"
#include "ui/share.h"

/* ---- opening -------------------------------------------------------------------------------------------------------- */

/* A broken config.json leaves a model that can be looked at: what is wrong with it is kept, not raised. */
static enum apr_code read_config(struct inspection *x, struct apr_error *e)
{
    if (x->m->config == NULL)
        return APR_OK;
    if (apr_hf_config_new(&x->config, x->m->config->map, &x->config_error) == APR_OK)
        return APR_OK;
    apr_error_in(&x->config_error, x->m->config->path);
    if (x->config_error.code != APR_ENOMEM)
        return APR_OK;
    *e = x->config_error;
    return e->code;
}

/* Are all tensors such as the family's contract drops, so that none of them is held against it? */
static bool is_tower(const struct inspection *x)
{
    size_t i = 0;
    while (i < x->m->ntensor && apr_binding_skips(x->binding, &x->m->tensor[i]))
        i++;
    return i > 0 && i == x->m->ntensor;
}

static enum apr_code find_family(struct inspection *x, struct apr_error *e)
{
    const struct apr_family *either[2];
    if (!x->o->check && x->o->html == NULL)
        return x->config_error.code != APR_OK ? APR_OK : apr_family_said_name(x->o->selection.families, x->m, &x->family_name, e);
    if (x->config_error.code == APR_OK)
        APR_TRY(apr_family_said(x->o->selection.families, x->m, &x->family, e));
    if (x->family == NULL && x->config_error.code == APR_OK)
        APR_TRY(apr_family_guessed(x->o->selection.families, x->m, &x->family, either, e));
    if (x->family != NULL)
        x->family_name = x->family->name;
    if (x->family == NULL || x->kind != APR_KIND_MODEL)
        return APR_OK;
    APR_TRY(apr_bind(&x->binding, x->family, x->m, NULL, e));
    if (!is_tower(x))
        return APR_OK;
    apr_binding_free(x->binding);
    x->binding = NULL;
    return APR_OK;
}

/* Does the filter want the tensor, or one that it is stored in? */
static enum apr_code choose(const struct inspection *x, size_t i, bool *wanted, struct apr_error *e)
{
    size_t n = 0;
    const struct apr_tensor *const *const part = x->m->tensor[i].packed == NULL ? NULL : apr_packing_parts(x->packing, i, &n);
    APR_TRY(apr_patterns_want(x->o->selection.filter, x->m->tensor[i].name, wanted, e));
    for (size_t k = 0; k < n && !*wanted; k++)
        APR_TRY(apr_patterns_want(x->o->selection.filter, part[k]->name, wanted, e));
    return APR_OK;
}

static enum apr_code choose_tensors(struct inspection *x, struct apr_error *e)
{
    x->chosen = calloc(x->m->ntensor + 1, sizeof *x->chosen);
    if (x->chosen == NULL)
        return apr_no_memory(e);
    bool any = x->o->selection.filter == NULL;
    for (size_t i = 0; i < x->m->ntensor; i++) {
        APR_TRY(choose(x, i, &x->chosen[i], e));
        any |= x->chosen[i];
    }
    const struct apr_patterns *const filter = x->o->selection.filter;
    return any ? APR_OK
               : apr_fail(e, APR_EARG, APR_NOWHERE, "no tensor matches --filter %s%s", APR_QUOTED(apr_patterns_text(filter, 0)),
                          apr_patterns_count(filter) > 1 ? " or the other filters" : "");
}

/* Of the chosen ones, cut by bytes. */
static enum apr_code choose_share(struct inspection *x, struct apr_error *e)
{
    const struct apr_tensor *const t = x->m->tensor;
    uint64_t total = 0, before = 0;
    if (x->o->nparts == 0)
        return APR_OK;
    x->mine = calloc(x->m->ntensor + 1, sizeof *x->mine);
    if (x->mine == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < x->m->ntensor; i++)
        total += x->chosen[i] ? t[i].data.n + 1 : 0;
    for (size_t i = 0; i < x->m->ntensor; i++)
        if (x->chosen[i]) {
            x->mine[i] = apr_share_of(before, total, x->o->nparts) == x->o->part;
            before += t[i].data.n + 1;
        }
    return APR_OK;
}

/* A manifest is of the tensors as they are stored. */
static enum apr_code unpack(struct inspection *x, struct apr_error *e)
{
    if (x->o->manifest != NULL || x->o->verify != NULL)
        return APR_OK;
    if (x->config != NULL)
        APR_TRY(apr_packing_of(&x->packing, x->m, x->config, e));
    else
        APR_TRY(apr_packing_open(&x->packing, x->m, e));
    if (x->packing != NULL)
        x->m = apr_packing_view(x->packing);
    return APR_OK;
}

/* Does what is asked for take more than headers and single tensors? --textconv leaves out what does. */
static bool reads_data(const struct options *o)
{
    return o->stats || o->hash || o->check == CHECK_ALL || o->html != NULL || o->manifest != NULL || o->verify != NULL ||
           (o->textconv && o->cli.download);
}

enum apr_code begin_inspection(struct inspection *x, const struct options *o, const char *path, struct apr_error *e)
{
    *x = (struct inspection){ .o = o, .path = path };
    APR_TRY((o->partial ? apr_open_partial : reads_data(o) ? apr_open : apr_open_headers)(&x->opened, path, &o->cli.run, e));
    x->m = x->opened;
    x->kind = apr_model_kind(x->m);
    enum apr_code code = read_config(x, e);
    if (code == APR_OK)
        code = unpack(x, e);
    if (code == APR_OK)
        code = choose_tensors(x, e);
    if (code == APR_OK)
        code = choose_share(x, e);
    if (code == APR_OK)
        code = find_family(x, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

void end_inspection(struct inspection *x)
{
    free_findings(&x->findings);
    free(x->chosen);
    free(x->mine);
    if (x->measured != NULL)
        free_measured(x->measured);
    free(x->measured);
    apr_binding_free(x->binding);
    apr_packing_free(x->packing);
    apr_hf_config_free(x->config);
    apr_close(x->opened);
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

struct apr_bytes architecture_of(const struct inspection *x) { return apr_class_said(x->m, x->config); }

/* Bare NaN is no JSON: a text that has it counts up to there. Of a key that stands twice the last counts. */
enum apr_code config_metadata(const struct inspection *x, struct apr_meta *config, struct apr_error *e)
{
    struct apr_walk walk, start;
    struct apr_item item;
    struct apr_error ignored;
    bool more = true;
    *config = (struct apr_meta){ 0 };
    if (x->config == NULL || apr_walk_in(&start, x->m->config->map, 0, '{', &ignored) != APR_OK)
        return APR_OK;
    for (walk = start; apr_walk_next(&walk, &item, &more, &ignored) == APR_OK && more;)
        config->room++;
    config->entry = calloc(config->room + 1, sizeof *config->entry);
    if (config->entry == NULL)
        return apr_no_memory(e);
    for (walk = start; config->n < config->room && apr_walk_next(&walk, &item, &more, &ignored) == APR_OK; config->n++) {
        struct apr_meta_entry *entry = &config->entry[config->n];
        if (apr_json_string(x->m, item.key, item.key_at, &entry->key, &ignored) != APR_OK ||
            apr_json_value(x->m, item.value, item.value_at, &entry->value, &ignored) != APR_OK)
            break;
    }
    return apr_meta_keep_last(config, NULL, NULL, e);
}

bool is_chosen(const struct inspection *x, const struct apr_tensor *t) { return x->chosen[t - x->m->tensor]; }

bool is_mine(const struct inspection *x, const struct apr_tensor *t)
{
    return is_chosen(x, t) && (x->mine == NULL || x->mine[t - x->m->tensor]);
}

/* ---- findings ------------------------------------------------------------------------------------------------------- */

static enum apr_code add(struct findings *f, enum apr_severity severity, const struct apr_finding *kind, struct apr_bytes tensor,
                         struct apr_error *e, const char *format, va_list arguments)
{
    struct apr_error printable;
    char text[sizeof printable.text];
    vsnprintf(text, sizeof text, format, arguments);
    const char *name = APR_QUOTED(tensor);
    const bool named = tensor.n == 0 || memmem(text, strlen(text), name, strlen(name)) != NULL;
    apr_fail(&printable, APR_OK, APR_NOWHERE, "%s%s%s%s", named ? "" : "tensor ", named ? "" : name, named ? "" : ": ", text);
    struct finding *more = apr_grown(f->at, &f->room, f->n, 16, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    f->at = more;
    const struct apr_bytes kept = apr_arena_copy(&f->arena, apr_text(printable.text));
    if (kept.at == NULL)
        return apr_no_memory(e);
    f->at[f->n++] = (struct finding){ severity, kind->stage, kind->code, tensor, (const char *)kept.at };
    return APR_OK;
}

enum apr_code add_finding(struct findings *f, const char *code, struct apr_bytes tensor, struct apr_error *e, const char *format, ...)
{
    const struct apr_finding *kind = apr_finding_of(code);
    va_list arguments;
    va_start(arguments, format);
    const enum apr_code added = add(f, kind->severity, kind, tensor, e, format, arguments);
    va_end(arguments);
    return added;
}

enum apr_code add_finding_as(struct findings *f, enum apr_severity severity, const char *code, struct apr_bytes tensor, struct apr_error *e,
                             const char *format, ...)
{
    const struct apr_finding *kind = apr_finding_of(code);
    va_list arguments;
    assert(severity >= kind->mild && severity <= kind->severity);
    va_start(arguments, format);
    const enum apr_code added = add(f, severity, kind, tensor, e, format, arguments);
    va_end(arguments);
    return added;
}

void free_findings(struct findings *f)
{
    free(f->at);
    apr_arena_free(&f->arena);
    *f = (struct findings){ 0 };
}
