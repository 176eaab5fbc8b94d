/* Where tensors come from: the models, their families, and which of their tensors are wanted under which name. */
#include "convert/conversion_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "base/table.h"
#include "family/kind.h"
#include "family/missing.h"
#include "files/source.h"
#include "flow/turned.h"
#include "model/format.h"
#include "model/json.h"
#include "model/json_edit.h"
#include "model/meta.h"
#include "model/open.h"

/* ---- the family ----------------------------------------------------------------------------------------------------- */

static enum apr_code named_family(const struct apr_conversion *c, const struct apr_family **f, struct apr_error *e)
{
    struct apr_nearest near = apr_nearest_to(apr_text(c->o->family));
    struct apr_bytes name;
    for (size_t i = 0; (name = apr_families_name(c->o->selection.families, i)).n > 0; i++) {
        if (apr_bytes_is(name, c->o->family))
            return apr_families_get(c->o->selection.families, i, f, e);
        apr_nearest_try(&near, name);
    }
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--family: no family is called %s%s%s%s", APR_QUOTED(apr_text(c->o->family)),
                    near.best.n > 0 ? " (did you mean " : "",
                    near.best.n > 0 ? (const char *)apr_arena_copy(&c->source.m->arena, near.best).at : "",
                    near.best.n > 0 ? "?)" : "");
}

static enum apr_code no_family(const struct apr_conversion *c, const struct apr_convert_source *s, const struct apr_family *const either[2],
                               struct apr_error *e)
{
    const struct apr_bytes word = apr_class_said(s->m, s->config);
    if (s->m->format->config && s->m->config == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE,
                        "there is no config.json beside it, which says what model it is: --config FILE gives one, --family NAME tells the "
                        "family, --keep-names carries tensors as they are");
    if (either[1] != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE,
                        "its names fit the families %.*s and %.*s, which order rows differently, and it does not say which: --family NAME "
                        "tells",
                        APR_PRINTED(either[0]->name), APR_PRINTED(either[1]->name));
    if (word.n > 0 && c->o->selection.files.n > 0)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE,
                        "no contract knows %s, that of --family-file neither: name it there under detect.architectures, or take that with "
                        "--family %.*s",
                        APR_QUOTED(word), APR_PRINTED(apr_families_name(c->o->selection.families, 0)));
    if (word.n > 0)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE,
                        "no contract knows %s: --family-file takes one of your own, --family NAME tells whose it is like, --keep-names "
                        "carries tensors as they are",
                        APR_QUOTED(word));
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE,
                    "it does not say what model it is: --family NAME or --config FILE tells, --keep-names carries tensors as they are");
}

static bool keeps_names(const struct apr_conversion *c)
{
    return c->o->keep_names || c->untold;
}

/* A checkpoint's file by itself, without a word of what model it is, and nothing asked of it that a family decides: there is nothing to
 * translate by. */
static bool is_untold(const struct apr_conversion *c, const struct apr_convert_source *s)
{
    return s == &c->source && s->m->format->config && s->m->config == NULL && s->config == NULL && s->packing == NULL &&
           apr_class_said(s->m, NULL).n == 0 && apr_model_kind(s->m) == APR_KIND_MODEL && c->o->dtype == NULL && !c->o->retyped &&
           !apr_is_quantizing(c->o);
}

/* Must its tensors be translated? An APR may hold any dialect, which only its names tell. */
static bool needs_translation(const struct apr_conversion *c, const struct apr_convert_source *s)
{
    const bool same_format = s->m->format == c->format, any = !s->m->format->own_names && !s->m->format->config;
    if (keeps_names(c) || (same_format && s == &c->source))
        return false;
    if (any && s->binding != NULL)
        return apr_binding_spoken(s->binding, s->m) != c->dialect;
    if (any)
        return c->dialect == APR_GGUF;
    return s->m->format->own_names != (c->dialect == APR_GGUF);
}

static enum apr_code check_kind(const struct apr_convert_source *s, struct apr_error *e)
{
    const enum apr_model_kind kind = apr_model_kind(s->m);
    for (size_t i = 0; i < s->m->nnote; i++)
        if (strcmp(s->m->note[i].code, "index.beside") == 0)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: give the folder or the index", s->m->note[i].text);
    if (kind != APR_KIND_MODEL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE,
                        "it is %s, which no family's contract describes: --keep-names carries its tensors as they are",
                        apr_model_kind_text(kind));
    return APR_OK;
}

static enum apr_code find_family(struct apr_conversion *c, struct apr_convert_source *s, struct apr_error *e)
{
    const struct apr_family *either[2] = { 0 };
    if (c->o->family != NULL)
        APR_TRY(named_family(c, &s->family, e));
    else
        APR_TRY(apr_family_said(c->o->selection.families, s->m, &s->family, e));
    if (s->family == NULL && !keeps_names(c) && needs_translation(c, s))
        APR_TRY(apr_family_guessed(c->o->selection.families, s->m, &s->family, either, e));
    c->untold = c->untold || (s->family == NULL && needs_translation(c, s) && is_untold(c, s));
    if (s->family == NULL && needs_translation(c, s)) {
        APR_TRY(check_kind(s, e));
        return no_family(c, s, either, e);
    }
    if (s->family != NULL)
        APR_TRY(apr_bind(&s->binding, s->family, s->m, c->source.binding, e));
    s->translated = needs_translation(c, s);
    return s->translated ? check_kind(s, e) : APR_OK;
}

/* ---- which tensors -------------------------------------------------------------------------------------------------- */

static enum apr_code matches(struct apr_patterns *p, struct apr_bytes name, bool *yes, struct apr_error *e)
{
    size_t first = APR_NO_PATTERN;
    if (p != NULL)
        APR_TRY(apr_patterns_note(p, name, e));
    if (p != NULL)
        APR_TRY(apr_patterns_first(p, name, &first, e));
    *yes = first != APR_NO_PATTERN;
    return APR_OK;
}

/* Does this name, of either dialect, leave the tensor behind? */
static enum apr_code spare_dropped(void *ctx, struct apr_bytes name, const char **reason, struct apr_error *e)
{
    const struct apr_conversion *const c = ctx;
    bool dropped;
    APR_TRY(matches(c->o->drop, name, &dropped, e));
    *reason = dropped ? "dropped" : NULL;
    return APR_OK;
}

/* What a converter makes anew has no place in a checkpoint. */
static bool is_generated(const struct apr_conversion *c, struct apr_bytes name)
{
    const struct apr_tensor *const t = c->source.binding == NULL || !c->format->config ? NULL : apr_model_find(c->source.m, name);
    struct apr_meaning s;
    return t != NULL && !keeps_names(c) && apr_binding_meaning(c->source.binding, t, 0, &s) && s.role->generated;
}

/* With --keep nothing is missed, and what the family does not know stays behind; the rest is sorted out when both names are known. */
static enum apr_code spare(void *ctx, struct apr_bytes name, const char **reason, struct apr_error *e)
{
    struct apr_conversion *const c = ctx;
    const struct apr_convert_source *const s = &c->source;
    const struct apr_tensor *t;
    struct apr_meaning meaning;
    bool kept;
    APR_TRY(spare_dropped(c, name, reason, e));
    if (*reason == NULL && is_generated(c, name))
        *reason = "generated";
    if (c->o->keep == NULL || *reason != NULL)
        return APR_OK;
    APR_TRY(matches(c->o->keep, name, &kept, e));
    t = apr_model_find(s->m, name);
    if (!kept && (t == NULL || (s->translated && !apr_binding_meaning(s->binding, t, 0, &meaning))))
        *reason = "not kept";
    return APR_OK;
}

/* Is the wish wanted, by its own name and those of what it is made of? */
static enum apr_code is_wanted(const struct apr_conversion *c, const struct apr_wish *x, const char **reason, struct apr_error *e)
{
    bool dropped, kept = c->o->keep == NULL, yes;
    APR_TRY(matches(c->o->drop, x->name, &dropped, e));
    if (!kept)
        APR_TRY(matches(c->o->keep, x->name, &kept, e));
    for (size_t i = 0; i < x->in->view.npart; i++) {
        const struct apr_bytes name = apr_input_part(x->in, i)->name;
        APR_TRY(matches(c->o->keep, name, &yes, e));
        kept |= yes;
    }
    *reason = dropped ? "dropped" : kept ? NULL : "not kept";
    return APR_OK;
}

static enum apr_code select_wishes(struct apr_conversion *c, struct apr_error *e)
{
    struct apr_wishes *const w = &c->source.wishes;
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        const char *reason = NULL;
        APR_TRY(is_wanted(c, &w->wish[i], &reason, e));
        if (reason == NULL)
            w->wish[n++] = w->wish[i];
        else
            APR_TRY(apr_wishes_leave_out(w, w->wish[i].name, reason, e));
    }
    w->n = n;
    return APR_OK;
}

/* A pattern that leaves nothing out, or keeps nothing, is a slip. */
static enum apr_code check_idle(const struct apr_conversion *c, const struct apr_patterns *p, const char *option, struct apr_error *e)
{
    for (size_t i = 0; i < apr_patterns_count(p); i++) {
        if (apr_patterns_noted(p, i))
            continue;
        apr_fail(e, APR_EARG, APR_NOWHERE, "%s %s matches no tensor", option, APR_QUOTED(apr_patterns_text(p, i)));
        apr_tell_codes(&c->source, e);
        return APR_EARG;
    }
    return APR_OK;
}

/* ---- grafts --------------------------------------------------------------------------------------------------------- */

/* FILE:PATTERN, where FILE is the shortest that is there. */
static enum apr_code split_graft(const char *text, char **file, const char **pattern, struct apr_error *e)
{
    for (const char *colon = strchr(text, ':'); colon != NULL; colon = strchr(colon + 1, ':')) {
        *file = strndup(text, (size_t)(colon - text));
        if (*file == NULL)
            return apr_no_memory(e);
        *pattern = colon + 1;
        if (access(*file, F_OK) == 0 && **pattern != 0)
            return APR_OK;
        free(*file);
    }
    *file = NULL;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--graft %s: FILE:PATTERN is wanted, with a FILE that is there", APR_QUOTED(apr_text(text)));
}

static enum apr_code spare_nothing(void *ctx, struct apr_bytes name, const char **reason, struct apr_error *e)
{
    (void)ctx;
    (void)name;
    (void)e;
    *reason = NULL;
    return APR_OK;
}

static enum apr_code replace(struct apr_wish *to, const struct apr_wish *from, struct apr_error *e)
{
    if (from->ndim != to->ndim || memcmp(from->dim, to->dim, to->ndim * sizeof *to->dim) != 0)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, to->name, ": the graft of that name has another shape");
    const struct apr_bytes name = to->name;
    *to = *from;
    to->name = name;
    return APR_OK;
}

/* Puts the tensors of s that match in the place of those of their names. */
static enum apr_code graft_tensors(struct apr_conversion *c, const struct apr_convert_source *s, struct apr_patterns *p,
                                   struct apr_error *e)
{
    struct apr_wishes *const w = &c->source.wishes;
    struct apr_table place = { 0 };
    enum apr_code code = APR_OK;
    bool fresh, yes;
    size_t n = 0;
    for (size_t i = 0; i < w->n && code == APR_OK; i++) {
        union apr_table_value *const at = apr_table_put(&place, w->wish[i].name, &fresh);
        if (at == NULL)
            code = apr_no_memory(e);
        else
            at->number = i;
    }
    for (size_t i = 0; i < s->wishes.n && code == APR_OK; i++) {
        const struct apr_wish *const x = &s->wishes.wish[i];
        code = matches(p, x->name, &yes, e);
        if (code == APR_OK && !yes && x->from.n > 0)
            code = matches(p, x->from, &yes, e);
        if (code != APR_OK || !yes)
            continue;
        const union apr_table_value *const at = apr_table_find(&place, x->name);
        code = at == NULL ? apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->name, " of the graft has no counterpart in the source")
                          : replace(&w->wish[at->number], x, e);
        if (at == NULL)
            apr_tell_codes(s, e);
        n++;
    }
    apr_table_free(&place);
    if (code == APR_OK && n == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--graft: no tensor of it matches %s", APR_QUOTED(apr_patterns_text(p, 0)));
    return code;
}

static enum apr_code open_source(struct apr_conversion *c, struct apr_convert_source *s, const char *path, apr_spare_fn *which,
                                 struct apr_error *e);

static enum apr_code graft(struct apr_conversion *c, size_t i, struct apr_error *e)
{
    struct apr_convert_source *const s = &c->graft[i];
    struct apr_patterns *p = NULL;
    const char *pattern = NULL;
    char *file;
    APR_TRY(split_graft(c->o->grafts.text[i], &file, &pattern, e));
    s->path = file;
    c->ngraft++;
    enum apr_code code = apr_patterns_add(&p, apr_text(pattern), e);
    if (code == APR_OK)
        code = open_source(c, s, file, spare_nothing, e);
    if (code == APR_OK)
        code = graft_tensors(c, s, p, e);
    apr_patterns_free(p);
    if (code != APR_OK)
        apr_error_in(e, file);
    return code;
}

static enum apr_code graft_all(struct apr_conversion *c, struct apr_error *e)
{
    const size_t n = c->o->grafts.n;
    c->graft = calloc(n + 1, sizeof *c->graft);
    if (c->graft == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < n; i++)
        APR_TRY(graft(c, i, e));
    return APR_OK;
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

/* --config stands for the config.json beside the source. */
static enum apr_code take_config(struct apr_conversion *c, struct apr_convert_source *s, struct apr_error *e)
{
    if (c->o->config != NULL && s == &c->source) {
        apr_source_close(s->m->config);
        s->m->config = NULL;
        const enum apr_code code = apr_source_open(&s->m->config, c->o->config, &c->o->cli.run, e);
        if (code != APR_OK) {
            apr_error_in(e, c->o->config);
            return code;
        }
    }
    return apr_hf_config_of(&s->config, s->m, e);
}

/* An option that would say nothing. */
static enum apr_code check_effect(const struct apr_conversion *c, const struct apr_convert_source *s, struct apr_error *e)
{
    const bool as_it_is = s->m->format->own_names && c->format->own_names;
    if (s == &c->source && as_it_is && c->o->config != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--config has no effect from GGUF to GGUF, which keeps its keys: --set changes them");
    if (s == &c->source && c->o->pre != NULL && !c->format->own_names)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--pre has no effect: only a GGUF names its pre-tokenizer");
    return APR_OK;
}

/* Do codes go as they are, with what undoes them, to where the same names and dtypes are? */
static bool carries_codes(const struct apr_conversion *c, const struct apr_convert_source *s)
{
    if (c->o->dtype != NULL || apr_is_quantizing(c->o))
        return false;
    return keeps_names(c) || (s->m->format == c->format && s == &c->source) || s->m->format->own_names == c->format->own_names;
}

/* Puts what codes stand for in their place, where they must be undone. */
static enum apr_code unpack(const struct apr_conversion *c, struct apr_convert_source *s, struct apr_error *e)
{
    if (carries_codes(c, s))
        return APR_OK;
    APR_TRY(apr_packing_of(&s->packing, s->opened, s->config, e));
    APR_TRY(apr_packing_sure(s->packing, "--keep-names without --type carries codes and scales as they are", e));
    if (s->packing != NULL)
        s->m = apr_packing_view(s->packing);
    return APR_OK;
}

/* Are values, there, what once were codes? */
static bool is_unpacked(const struct apr_conversion *c, const struct apr_convert_source *s)
{
    return s->packing != NULL || (c->o->unpacked && s == &c->source);
}

/* Where a checkpoint's own names go on, without a contract that would turn them. */
static enum apr_code turn_stacks(const struct apr_conversion *c, struct apr_convert_source *s, struct apr_error *e)
{
    const bool own = is_unpacked(c, s) && !s->translated && c->dialect == APR_HF;
    return own ? apr_turn_wishes(&s->wishes, c->o->cli.run.kernels, s->m, e) : APR_OK;
}

static enum apr_code open_source(struct apr_conversion *c, struct apr_convert_source *s, const char *path, apr_spare_fn *which,
                                 struct apr_error *e)
{
    s->path = path;
    const bool given = c->o->model != NULL && s == &c->source;
    if (given)
        s->opened = c->o->model;
    else
        APR_TRY(apr_open(&s->opened, path, &c->o->cli.run, e));
    s->m = s->opened;
    APR_TRY(check_effect(c, s, e));
    if (s->m->format->trace)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it is a trace, which holds no weights");
    if (!given)
        APR_TRY(apr_model_verify(s->m, e)); /* what is carried over is to be what was written */
    APR_TRY(take_config(c, s, e));
    APR_TRY(unpack(c, s, e));
    APR_TRY(find_family(c, s, e));
    APR_TRY(apr_wishes_of(&s->wishes, c->o->cli.run.kernels, s->m, s->translated ? s->binding : NULL, c->dialect, which, c, e));
    for (size_t i = 0; s->packing != NULL && i < s->opened->ntensor; i++)
        if (apr_packing_is_spared(s->packing, i))
            APR_TRY(apr_wishes_leave_out(&s->wishes, s->opened->tensor[i].name, "scales activations", e));
    return turn_stacks(c, s, e);
}

/* Does a carried tokenizer_config.json say that template? One that cannot be read says nothing, and is told where it is translated. */
static enum apr_code config_has_template(const struct apr_side *side, struct apr_bytes template, bool *same, struct apr_error *e)
{
    const struct apr_bytes config = apr_side_get(side, "tokenizer_config.json");
    json_t *json;
    *same = false;
    const enum apr_code code = config.at == NULL ? APR_OK : apr_json_load_last(&json, config, 0, e);
    if (config.at == NULL || code != APR_OK)
        return code == APR_ENOMEM ? code : APR_OK;
    const json_t *const said = json_object_get(json, "chat_template");
    *same = json_is_string(said) && json_string_length(said) == template.n && memcmp(json_string_value(said), template.at, template.n) == 0;
    json_decref(json);
    return APR_OK;
}

/* The template that an APR's own key states counts before those of the files it carries: --chat-template may have set it. */
static enum apr_code take_template(struct apr_conversion *c, struct apr_error *e)
{
    const struct apr_model *const m = c->source.m;
    const struct apr_bytes own = apr_meta_string(&m->meta, "chat_template"), file = apr_side_get(&c->side, "chat_template.jinja");
    const struct apr_bytes template = own.n > 0 ? own : apr_meta_string(&m->meta, "tokenizer.chat_template");
    if (m->format->config || m->format->own_names || template.n == 0)
        return APR_OK;
    bool same = file.at != NULL && apr_bytes_equal(file, template);
    if (file.at == NULL)
        APR_TRY(config_has_template(&c->side, template, &same, e));
    return same ? APR_OK : apr_side_put(&c->side, "chat_template.jinja", template, e);
}

/* What is unpacked is not what config.json says of codes. */
static enum apr_code forget_packing(struct apr_conversion *c, struct apr_error *e)
{
    struct apr_bytes config = apr_side_get(&c->side, "config.json");
    if (!is_unpacked(c, &c->source) || config.at == NULL)
        return APR_OK;
    for (size_t i = 0; apr_packing_keys[i] != NULL; i++)
        APR_TRY(apr_config_drop(&c->side.arena, &config, apr_packing_keys[i], e));
    apr_side_remove(&c->side, "hf_quant_config.json");
    return apr_side_put(&c->side, "config.json", config, e);
}

static enum apr_code open_side(struct apr_conversion *c, struct apr_error *e)
{
    APR_TRY(apr_side_of(&c->side, c->source.m, &c->o->cli.run, e));
    APR_TRY(take_template(c, e));
    if (c->source.m->config != NULL && (c->o->config != NULL || c->o->model != NULL))
        APR_TRY(apr_side_put(&c->side, "config.json", c->source.m->config->map, e));
    APR_TRY(forget_packing(c, e));
    if (c->o->tokenizer_files != NULL) {
        apr_side_forget(&c->side, true);
        return apr_copy_side(&c->side, c->o->tokenizer_files, e);
    }
    if (c->o->tokenizer == NULL)
        return APR_OK;
    const size_t n = strlen(c->o->tokenizer);
    const struct apr_bytes folder = apr_arena_format(&c->side.arena, "%s%s", c->o->tokenizer,
                                                     n > 0 && c->o->tokenizer[n - 1] != '/' ? "/" : "");
    const size_t before = c->side.nsource;
    if (folder.at == NULL)
        return apr_no_memory(e);
    apr_side_forget(&c->side, true);
    APR_TRY(apr_side_folder(&c->side, (const char *)folder.at, true, &c->o->cli.run, e));
    if (c->side.nsource == before)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--tokenizer %s: there are no files of a tokenizer",
                        APR_QUOTED(apr_text(c->o->tokenizer)));
    return APR_OK;
}

enum apr_code apr_conversion_open(struct apr_conversion *c, struct apr_error *e)
{
    const char *const path = c->o->in;
    enum apr_code code = open_source(c, &c->source, path, spare, e);
    if (code == APR_OK)
        code = open_side(c, e);
    if (code == APR_OK)
        code = select_wishes(c, e);
    if (code == APR_OK)
        code = check_idle(c, c->o->drop, "--drop", e);
    if (code == APR_OK)
        code = check_idle(c, c->o->keep, "--keep", e);
    if (code == APR_OK)
        code = graft_all(c, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

static void close_source(struct apr_convert_source *s)
{
    apr_wishes_end(&s->wishes);
    apr_binding_free(s->binding);
    apr_hf_config_free(s->config);
    apr_packing_free(s->packing);
}

void apr_conversion_close(struct apr_conversion *c)
{
    for (size_t i = 0; i < c->ngraft; i++) {
        close_source(&c->graft[i]);
        apr_close(c->graft[i].opened);
        free((char *)(uintptr_t)c->graft[i].path);
    }
    free(c->graft);
    apr_side_end(&c->side);
    close_source(&c->source);
    if (c->o->model == NULL)
        apr_close(c->source.opened);
}
