#include "family/packing.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "family/packing_fit.h"
#include "files/source.h"
#include "model/hf_config.h"
#include "model/meta.h"
#include "model/model.h"
#include "values/chunk.h"
#include "values/dtype.h"

#define MOST_SAID   8u
#define MOST_FAULTS 1000u

/* What each stored tensor is: ODD are codes that do not fit, SPARED scales of activations. */
enum role { PLAIN, CODES, HELPER, ODD, SPARED };

/* A weight of the view: its tensor, its method, the stored ones. */
struct weight {
    struct apr_tensor                 t;
    const struct apr_packing_method  *method;
    const struct apr_tensor *const   *part;
    size_t                            npart;
};

/*   weight  of the stored tensors that are codes, in their order; number[i]: of stored tensor i
 *   stored  of tensor i of the view: the stored one that it stands for */
struct apr_packing {
    struct apr_model               view;
    const struct apr_model        *model;
    const struct apr_hf_config    *config;
    struct apr_hf_config          *own, *beside, *carried; /* read here: the same; hf_quant_config.json; of the model's metadata */
    struct apr_said_method         said;
    unsigned char                 *role;
    struct weight                 *weight;
    size_t                         nweight, weight_room;
    uint32_t                      *number;
    const struct apr_tensor      **stored;
    struct findings {
        struct apr_packing_fault  *at;
        size_t                     n, room;
    } faults, guesses;
    struct apr_arena              *arena;
};

/* ---- one weight ----------------------------------------------------------------------------------------------------- */

static bool ends_in(struct apr_bytes name, const char *end, size_t *begins)
{
    const size_t n = strlen(end);
    *begins = name.n - n;
    return name.n > n && apr_bytes_end(name, apr_text(end));
}

static struct apr_bytes without(struct apr_bytes name, const char *end)
{
    size_t begins;
    return ends_in(name, end, &begins) ? (struct apr_bytes){ name.at, begins } : name;
}

static bool has_dtype(const struct apr_tensor *t, uint64_t dtypes)
{
    return apr_dtype_id(t->dtype) < 64 && (dtypes >> apr_dtype_id(t->dtype) & 1) != 0;
}

/* Are the codes and one of the helpers it needs there? */
static bool is_method(const struct apr_packing_method *m, struct apr_fit *x)
{
    size_t begins;
    if (!has_dtype(x->codes, m->dtypes) || !ends_in(x->codes->name, m->codes, &begins))
        return false;
    x->stem = (struct apr_bytes){ x->codes->name.at, begins };
    x->module = without(x->stem, ".weight");
    for (size_t i = 0; i < APR_LENGTH(m->needs) && m->needs[i] != NULL; i++) {
        const struct apr_tensor *const helper = apr_fit_find(x, m->needs[i]);
        if (helper != NULL && has_dtype(helper, m->needs_dtypes) && (m->is == NULL || m->is(x)))
            return true;
    }
    return false;
}

static enum apr_code add_to(struct apr_packing *p, struct findings *f, const struct apr_error *why, struct apr_bytes tensor,
                            struct apr_error *e)
{
    if (f->n == MOST_FAULTS)
        return APR_OK;
    struct apr_packing_fault *const more = apr_grown(f->at, &f->room, f->n, 8, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    f->at = more;
    const struct apr_bytes text = apr_arena_copy(&p->arena, apr_text(why->text));
    if (text.at == NULL)
        return apr_no_memory(e);
    f->at[f->n++] = (struct apr_packing_fault){ tensor, (const char *)text.at };
    return APR_OK;
}

/* The helpers that the method's builder did not ask for belong to the weight as well. */
static void take_rest(struct apr_fit *x, const struct apr_packing_method *m)
{
    for (size_t i = 0; i < APR_LENGTH(m->helper) && m->helper[i] != NULL; i++) {
        const struct apr_tensor *const t = apr_fit_find(x, m->helper[i]);
        size_t k = 0;
        while (k < x->npart && x->part[k] != t)
            k++;
        if (t != NULL && k == x->npart && x->npart < APR_MOST_PARTS)
            x->part[x->npart++] = t;
    }
}

/* "a.qweight", "a.weight_packed" -> "a.weight"; "a_blocks" -> "a". A name that is there already is a fault. */
static enum apr_code name_weight(struct apr_fit *x, const struct apr_packing_method *m, struct apr_error *e)
{
    if (strcmp(m->codes, m->weight) == 0)
        return APR_OK;
    x->t.name = apr_arena_format(x->arena, "%.*s%s", APR_PRINTED(x->stem), m->weight);
    if (x->t.name.at == NULL)
        return apr_no_memory(e);
    const struct apr_tensor *const there = apr_model_find(x->m, x->t.name);
    return there == NULL ? APR_OK : apr_misfit(x, there, e, " stands beside the codes of that weight");
}

static atomic_uint_fast64_t serial; /* of all weights of the process */

static enum apr_code keep(struct apr_packing *p, struct apr_fit *x, const struct apr_packing_method *m, struct apr_error *e)
{
    struct weight *const more = apr_grown(p->weight, &p->weight_room, p->nweight, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    p->weight = more;
    struct apr_packed *const to = apr_arena_alloc(&p->arena, sizeof *to);
    const struct apr_tensor **const part = apr_arena_alloc(&p->arena, x->npart * sizeof *part);
    if (to == NULL || part == NULL)
        return apr_no_memory(e);
    *to = x->to;
    to->serial = atomic_fetch_add(&serial, 1) + 1;
    for (size_t i = 0; i < x->npart; i++)
        to->bytes += x->part[i]->data.n;
    memcpy(part, x->part, x->npart * sizeof *part);
    if (x->guess[0] != 0) {
        struct apr_error text;
        apr_fail_tensor(&text, APR_OK, APR_NOWHERE, x->codes->name, " is read as %s, and nothing says which it is", x->guess);
        APR_TRY(add_to(p, &p->guesses, &text, x->codes->name, e));
    }
    x->t.packed = to;
    p->number[x->codes - p->model->tensor] = (uint32_t)p->nweight;
    p->role[x->codes - p->model->tensor] = CODES;
    for (size_t i = 1; i < x->npart; i++)
        p->role[x->part[i] - p->model->tensor] = HELPER;
    p->weight[p->nweight++] = (struct weight){ x->t, m, part, x->npart };
    return APR_OK;
}

/* What is said of the weight is nothing that a method has. */
static enum apr_code refuse_said(const struct apr_fit *x, struct apr_error *e)
{
    char value[64] = "";
    const size_t n = json_dumpb(x->said.value, value, sizeof value - 1, JSON_ENCODE_ANY | JSON_COMPACT);
    return apr_misfit(x, x->codes, e, " is of codes for which config.json says %s %s%s, which cannot be", x->said.wrong, value,
                      n >= sizeof value ? " .." : "");
}

/* By what is said of it, or by what else may be meant; the first reason is the one that is told. */
static enum apr_code fit(struct apr_packing *p, const struct apr_packing_method *m, const struct apr_fit *empty, struct apr_error *e)
{
    struct apr_said said[MOST_SAID];
    struct apr_error first = { 0 }, why;
    const size_t n = apr_said_of(p->config, empty->module, said, MOST_SAID);
    for (size_t i = 0; i < n; i++) {
        struct apr_fit x = *empty;
        x.said = said[i];
        x.part[x.npart++] = x.codes;
        enum apr_code code = x.said.wrong != NULL ? refuse_said(&x, &why) : m->fit(&x, &why);
        take_rest(&x, m);
        if (code == APR_OK)
            code = name_weight(&x, m, &why);
        if (code == APR_ENOMEM || code == APR_EIO) {
            *e = why;
            return code;
        }
        if (code == APR_OK)
            return keep(p, &x, m, e);
        if (i == 0)
            first = why;
    }
    p->role[empty->codes - p->model->tensor] = ODD;
    return add_to(p, &p->faults, &first, empty->codes->name, e);
}

/* Codes by their type and name, of a model whose config.json says that it has such: without what undoes them they say nothing. */
static enum apr_code check_bare(struct apr_packing *p, const struct apr_tensor *t, struct apr_error *e)
{
    const uint64_t codes = APR_F8S | APR_BIT(APR_I8) | APR_BIT(APR_U8) | APR_BIT(APR_I32) | APR_BIT(APR_U32);
    const struct apr_fit x = { .codes = t };
    struct apr_error why;
    size_t begins;
    if (t->ndim < 2 || t->count < 2 || !has_dtype(t, codes) || apr_bytes_have(t->name, "scale"))
        return APR_OK;
    for (size_t i = 0; i < apr_packing_nmethod; i++) {
        const struct apr_packing_method *const m = &apr_packing_methods[i];
        const char *const suffix = *m->codes != 0 || has_dtype(t, APR_F8S) ? m->codes : ".weight";
        if (!has_dtype(t, m->dtypes) || !ends_in(t->name, suffix, &begins))
            continue;
        if (apr_misfit(&x, t, &why, " is of codes (%s), but has nothing beside it that says what they stand for", t->dtype->name) ==
            APR_ENOMEM)
            return apr_no_memory(e);
        return add_to(p, &p->faults, &why, t->name, e);
    }
    return APR_OK;
}

static enum apr_code try_methods(struct apr_packing *p, const struct apr_tensor *codes, struct apr_error *e)
{
    struct apr_fit x = { .k = apr_kernels_for(APR_SCALAR), .m = p->model, .arena = &p->arena, .codes = codes, .method = p->said.word,
                         .t = *codes };
    if (codes->tied)
        return APR_OK;
    for (size_t i = 0; i < apr_packing_nmethod; i++) {
        struct apr_said said = { 0 };
        const struct apr_packing_method *const m = &apr_packing_methods[i];
        if (m->is != NULL && has_dtype(codes, m->dtypes))
            apr_said_of(p->config, codes->name, &said, 1);
        x.said = said;
        if (is_method(m, &x))
            return fit(p, m, &x, e);
    }
    return APR_OK;
}

/* Scales of activations and of caches change no value of a weight, whatever module they stand in. */
static void leave_out_activations(struct apr_packing *p)
{
    static const char *const ending[] = { ".k_scale", ".v_scale", ".q_scale", ".prob_scale", ".kv_scale", ".input_scale", ".output_scale",
                                          ".input_zero_point", ".output_zero_point", ".k_zero_point", ".v_zero_point",
                                          ".input_global_scale" };
    for (size_t i = 0; i < p->model->ntensor; i++)
        for (size_t k = 0; k < APR_LENGTH(ending) && p->role[i] == PLAIN; k++)
            if (apr_bytes_end(p->model->tensor[i].name, apr_text(ending[k])) && p->model->tensor[i].count <= APR_STRETCH)
                p->role[i] = SPARED;
}

/* ---- the view ------------------------------------------------------------------------------------------------------- */

static enum apr_code build_view(struct apr_packing *p, struct apr_error *e)
{
    struct apr_model *const v = &p->view;
    const struct apr_model *const m = p->model;
    *v = *m;
    v->arena = NULL;
    v->by_name = (struct apr_table){ 0 };
    v->ntensor = 0;
    v->tensor_room = m->ntensor + 1;
    v->tensor = calloc(v->tensor_room, sizeof *v->tensor);
    v->note = calloc(m->nnote + 1, sizeof *v->note);
    v->note_room = m->nnote + 1;
    p->stored = calloc(v->tensor_room, sizeof *p->stored);
    if (v->tensor == NULL || v->note == NULL || p->stored == NULL || !apr_table_expect(&v->by_name, m->ntensor))
        return apr_no_memory(e);
    if (m->nnote > 0)
        memcpy(v->note, m->note, m->nnote * sizeof *v->note);
    for (size_t i = 0; i < m->ntensor; i++) {
        if (p->role[i] == HELPER || p->role[i] == SPARED)
            continue;
        const struct apr_tensor *const t = p->role[i] == CODES ? &p->weight[p->number[i]].t : &m->tensor[i];
        bool fresh;
        union apr_table_value *const at = apr_table_put(&v->by_name, t->name, &fresh);
        if (at == NULL)
            return apr_no_memory(e);
        at->number = v->ntensor;
        p->stored[v->ntensor] = &m->tensor[i];
        v->tensor[v->ntensor++] = *t;
    }
    return APR_OK;
}

/* A method that nobody knows, of a model that holds nothing but plain numbers, was never applied. */
static bool has_codes(const struct apr_model *m)
{
    for (size_t i = 0; i < m->ntensor; i++)
        if (m->tensor[i].ndim > 1 && !has_dtype(&m->tensor[i], APR_FLOATS | APR_BIT(APR_F64) | APR_BIT(APR_BOOL)) && m->tensor[i].count > 1)
            return true;
    return false;
}

/* hf_quant_config.json, where config.json says nothing of a method; one that cannot be read says nothing either, as its tensors speak. */
static enum apr_code read_beside(struct apr_packing *p, struct apr_error *e)
{
    struct apr_error ignored;
    if (p->model->quant_config == NULL || apr_said_any(p->config))
        return APR_OK;
    const enum apr_code code = apr_hf_config_new(&p->beside, p->model->quant_config->map, &ignored);
    if (code == APR_ENOMEM)
        return apr_no_memory(e);
    if (code == APR_OK && apr_said_any(p->beside))
        p->config = p->beside;
    return APR_OK;
}

/* A file without a config.json that says it may carry what is said: under its own keys, or a GGUF all of config.json. */
static enum apr_code read_carried(struct apr_packing *p, struct apr_error *e)
{
    struct apr_bytes whole = apr_meta_string(&p->model->meta, "hf.config.json");
    struct apr_error why;
    if (apr_said_any(p->config))
        return APR_OK;
    for (size_t i = 0; whole.n == 0 && apr_packing_keys[i] != NULL; i++) {
        const struct apr_bytes text = apr_meta_string(&p->model->meta, apr_packing_keys[i]);
        if (text.n == 0 || text.n > APR_MOST_CONFIG)
            continue;
        whole = apr_arena_format(&p->arena, "{\"%s\":%.*s}", apr_packing_keys[i], APR_PRINTED(text));
        if (whole.at == NULL)
            return apr_no_memory(e);
    }
    const enum apr_code code = whole.n == 0 ? APR_OK : apr_hf_config_new(&p->carried, whole, &why);
    if (code == APR_ENOMEM)
        return apr_no_memory(e);
    if (p->carried != NULL && apr_said_any(p->carried))
        p->config = p->carried;
    return APR_OK;
}

static enum apr_code build(struct apr_packing *p, struct apr_error *e)
{
    const size_t n = p->model->ntensor;
    p->role = calloc(n + 1, sizeof *p->role);
    p->number = calloc(n + 1, sizeof *p->number);
    if (p->role == NULL || p->number == NULL)
        return apr_no_memory(e);
    APR_TRY(read_beside(p, e));
    APR_TRY(read_carried(p, e));
    APR_TRY(apr_said_method(&p->said, &p->arena, p->config, e));
    if (p->said.unknown != NULL && has_codes(p->model))
        return APR_OK;
    p->said.unknown = NULL;
    for (size_t i = 0; i < n; i++)
        APR_TRY(try_methods(p, &p->model->tensor[i], e));
    const bool any = apr_said_any(p->config);
    for (size_t i = 0; any && i < n; i++)
        if (p->role[i] == PLAIN)
            APR_TRY(check_bare(p, &p->model->tensor[i], e));
    if (p->nweight > 0)
        leave_out_activations(p);
    return APR_OK;
}

enum apr_code apr_packing_of(struct apr_packing **out, const struct apr_model *m, const struct apr_hf_config *config, struct apr_error *e)
{
    struct apr_packing *p = calloc(1, sizeof *p);
    *out = NULL;
    if (p == NULL)
        return apr_no_memory(e);
    p->model = m;
    p->config = config;
    enum apr_code code = build(p, e);
    const bool any = p->nweight > 0 || p->faults.n > 0 || p->said.unknown != NULL;
    if (code == APR_OK && any)
        code = build_view(p, e);
    if (code == APR_OK && any)
        *out = p;
    else
        apr_packing_free(p);
    return code;
}

void apr_packing_free(struct apr_packing *p)
{
    if (p == NULL)
        return;
    apr_arena_free(&p->view.arena);
    apr_table_free(&p->view.by_name);
    free(p->view.tensor);
    free(p->view.note);
    free(p->role);
    free(p->number);
    free(p->weight);
    free(p->stored);
    free(p->faults.at);
    free(p->guesses.at);
    apr_hf_config_free(p->own);
    apr_hf_config_free(p->beside);
    apr_hf_config_free(p->carried);
    apr_arena_free(&p->arena);
    free(p);
}

enum apr_code apr_packing_open(struct apr_packing **p, const struct apr_model *m, struct apr_error *e)
{
    struct apr_hf_config *config = NULL;
    struct apr_error why;
    *p = NULL;
    if (apr_hf_config_of(&config, m, &why) == APR_ENOMEM)
        return apr_no_memory(e);
    const enum apr_code code = apr_packing_of(p, m, config, e);
    if (*p != NULL)
        (*p)->own = config;
    else
        apr_hf_config_free(config);
    return code;
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

struct apr_model *apr_packing_view(struct apr_packing *p) { return &p->view; }

const struct apr_tensor *const *apr_packing_parts(const struct apr_packing *p, size_t i, size_t *n)
{
    const size_t stored = (size_t)(p->stored[i] - p->model->tensor);
    if (p->role[stored] == CODES) {
        const struct weight *const w = &p->weight[p->number[stored]];
        *n = w->npart;
        return w->part;
    }
    *n = 1;
    return &p->stored[i];
}

bool apr_packing_is_spared(const struct apr_packing *p, size_t i) { return p->role[i] == SPARED; }

size_t apr_packing_count(const struct apr_packing *p, const char **method)
{
    size_t most = 0;
    *method = "";
    for (size_t k = 0; k < apr_packing_nmethod; k++) {
        size_t n = 0;
        for (size_t i = 0; i < p->nweight; i++)
            n += strcmp(p->weight[i].method->name, apr_packing_methods[k].name) == 0;
        if (n > most) {
            most = n;
            *method = apr_packing_methods[k].name;
        }
    }
    return p->nweight;
}

size_t apr_packing_faults(const struct apr_packing *p, const struct apr_packing_fault **fault)
{
    *fault = p->faults.at;
    return p->faults.n;
}

size_t apr_packing_guesses(const struct apr_packing *p, const struct apr_packing_fault **guess)
{
    *guess = p->guesses.at;
    return p->guesses.n;
}

const char *apr_packing_unknown(const struct apr_packing *p) { return p->said.unknown; }

enum apr_code apr_packing_understood(const struct apr_packing *p, const char *instead, struct apr_error *e)
{
    if (p != NULL && p->faults.n > 0)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "%s%s%s", p->faults.at[0].text, *instead == 0 ? "" : ": ", instead);
    if (p != NULL && p->said.unknown != NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "its weights are packed by %s, which is not known here%s%s",
                        APR_QUOTED(apr_text(p->said.unknown)), *instead == 0 ? "" : ": ", instead);
    return APR_OK;
}

enum apr_code apr_packing_sure(const struct apr_packing *p, const char *instead, struct apr_error *e)
{
    APR_TRY(apr_packing_understood(p, instead, e));
    if (p == NULL || p->guesses.n == 0)
        return APR_OK;
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "%s%s%s", p->guesses.at[0].text, *instead == 0 ? "" : ": ", instead);
}
