/* Which tensors the result has, and what each is made of: those of the models that have one name, layer by layer. */
#include "merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "ui/report.h"
#include "values/dtype.h"

/* Where a tensor stands: its slice, its layer there (-1: outside), x of the gradients. */
struct place {
    const struct slice *slice;
    int64_t             layer;
    double              x;
};

/* ---- parameters ----------------------------------------------------------------------------------------------------- */

static enum apr_code missing(const struct merge *m, const struct apr_yaml *node, enum param p, struct apr_bytes name, struct apr_error *e)
{
    return fail_at(&m->config, node, e, "%s is missing%s, which %s needs, for %s", params[p].name, p < BY_MODEL ? " of this model" : "",
                   m->config.method->name, APR_QUOTED(name));
}

static bool takes(const struct method *m, enum param p) { return (m->required | m->optional) >> p & 1; }

/* Those that differ from model to model, by the name in the model; the method's by that of the result. */
static enum apr_code ask_by_model(const struct merge *m, const struct place *at, const struct part *part, struct operand *x,
                                  struct apr_bytes name,
                                  bool given[BY_MODEL], struct apr_error *e)
{
    const struct apr_yaml *const level[] = { part->parameters, at->slice->parameters, m->config.level[0], m->config.level[1] };
    for (enum param p = 0; p < BY_MODEL; p++) {
        x->p[p] = params[p].usual;
        given[p] = takes(m->config.method, p) && parameter_at(level, APR_LENGTH(level), p, name, at->x, &x->p[p]);
        if (!given[p] && (m->config.method->required >> p & 1))
            return missing(m, part->node, p, name, e);
    }
    return APR_OK;
}

static enum apr_code ask_by_method(const struct merge *m, const struct place *at, struct merged *t, struct apr_error *e)
{
    const struct apr_yaml *const level[] = { at->slice->parameters, m->config.level[0], m->config.level[1] };
    for (enum param p = BY_MODEL; p < NPARAMS; p++) {
        t->p[p] = p == PARAM_NORMALIZE ? t->method->normalize : p == PARAM_RESCALE ? t->method->rescale : params[p].usual;
        t->given[p] = takes(m->config.method, p) && parameter_at(level, APR_LENGTH(level), p, t->tensor.name, at->x, &t->p[p]);
        if (!t->given[p] && (m->config.method->required >> p & 1))
            return missing(m, m->config.method_node, p, t->tensor.name, e);
    }
    return APR_OK;
}

/* Chances stay inside (0, 1). */
static enum apr_code check_epsilon(const struct merge *m, const struct part *part, const struct operand *x, struct apr_error *e)
{
    const double density = x->p[PARAM_DENSITY], epsilon = x->p[PARAM_EPSILON];
    if (m->config.method->thinning != THIN_BY_RANK || density >= 1 || (epsilon >= 0 && density - epsilon > 0 && density + epsilon < 1))
        return APR_OK;
    const struct apr_yaml *const node = part->parameters == NULL ? part->node : part->parameters;
    return fail_at(&m->config, node, e, "epsilon %g: density %g - epsilon and + epsilon both lie between 0 and 1", epsilon, density);
}

static enum apr_code check_density(const struct merge *m, const struct part *part, const struct operand *x, struct apr_error *e)
{
    if (x->p[PARAM_DENSITY] >= 0 && x->p[PARAM_DENSITY] <= 1)
        return APR_OK;
    return fail_at(&m->config, part->node, e, "density is a share from 0 to 1, not %g", x->p[PARAM_DENSITY]);
}

/* ---- operands ------------------------------------------------------------------------------------------------------- */

bool is_vocabulary(const struct apr_wish *x)
{
    static const char *const words[] = { "embed_tokens", "lm_head", "token_embd", "wte", "word_embeddings", "embed_out", "output.weight" };
    bool is = x->role != NULL && (apr_bytes_is(x->role->name, "token_embd") || apr_bytes_is(x->role->name, "output"));
    for (size_t i = 0; i < APR_LENGTH(words) && !is; i++)
        is = layer_in(x->name) < 0 && apr_bytes_have(x->name, words[i]);
    return is;
}

static void take_shape(struct merged *t, const struct apr_wish *x)
{
    t->tensor.ndim = x->ndim;
    memcpy(t->tensor.dim, x->dim, x->ndim * sizeof *x->dim);
}

/* The shapes are one, but of a vocabulary: then the rows that all have. */
static enum apr_code join_shape(struct merge *m, struct merged *t, const struct apr_wish *x, const struct model *model, struct apr_error *e)
{
    char mine[176], theirs[176];
    struct apr_tensor *const s = &t->tensor;
    if (x->ndim == s->ndim && memcmp(x->dim, s->dim, x->ndim * sizeof *x->dim) == 0)
        return APR_OK;
    const bool rows = x->ndim == s->ndim && x->ndim > 0 && memcmp(x->dim + 1, s->dim + 1, (x->ndim - 1) * sizeof *x->dim) == 0;
    if (!rows || !is_vocabulary(x))
        return fail_at(&m->config, model->said->node, e, "tensor %s is %s in %s, and %s in the models before it", APR_QUOTED(x->name),
                       apr_spell_shape(x->dim, x->ndim, mine), model->said->path, apr_spell_shape(s->dim, s->ndim, theirs));
    APR_TRY(warn(&m->config, e, "%s: tensor %s has %llu rows, and %llu in the models before it: those that all have are merged",
                 model->said->path,
                 APR_QUOTED(x->name), (unsigned long long)x->dim[0], (unsigned long long)s->dim[0]));
    s->dim[0] = apr_min(s->dim[0], x->dim[0]);
    return APR_OK;
}

/* One model's tensor of it. */
static enum apr_code add_operand(struct merge *m, struct merged *t, const struct place *at, const struct part *part,
                                 const struct apr_wish *x, size_t place,
                                 bool given[BY_MODEL], struct apr_error *e)
{
    const struct model *const model = &m->model[part->model];
    if (t->n == 0 && t->base == NULL)
        take_shape(t, x);
    APR_TRY(join_shape(m, t, x, model, e));
    if (place == NONE) {
        t->base = x->in;
        t->base_model = model;
        return APR_OK;
    }
    struct operand *const o = &t->x[t->n++];
    *o = (struct operand){ .in = x->in, .model = model, .place = place };
    APR_TRY(ask_by_model(m, at, part, o, x->name, given, e));
    APR_TRY(check_density(m, part, o, e));
    APR_TRY(check_epsilon(m, part, o, e));
    for (enum param p = 0; p < BY_MODEL; p++)
        t->given[p] |= given[p];
    return APR_OK;
}

/* ---- dtypes --------------------------------------------------------------------------------------------------------- */

/* The input that says what the result is like: the base's, else the first. */
static const struct apr_input *like(const struct merge *m, const struct merged *t)
{
    for (size_t i = 0; i < t->n && t->base == NULL; i++)
        if (m->config.base != NONE && t->x[i].model == &m->model[m->config.base])
            return t->x[i].in;
    return t->base != NULL ? t->base : t->x[0].in;
}

static bool is_float(const struct apr_dtype *d) { return d != NULL && d->kind == APR_REAL && d->block == 1 && !d->packed; }

/* A GGUF keeps vectors in F32. */
static const struct apr_dtype *dtype_of(const struct merge *m, const struct merged *t)
{
    const struct apr_dtype *const d = apr_stored_dtype_of(like(m, t)), *const f32 = &apr_dtypes[APR_F32];
    const bool keeps = m->model[m->reference].dialect == APR_GGUF && d == f32 && t->tensor.ndim < 2;
    if (m->config.dtype != NULL && !keeps)
        return m->config.dtype;
    return is_float(d) ? d : t->tensor.ndim < 2 ? f32 : &apr_dtypes[APR_F16];
}

/* Numbers that are merged: all are decoded, and are no integers. */
static bool is_merged(const struct apr_input *in)
{
    bool real = in->decodable;
    for (size_t i = 0; i < in->view.npart; i++)
        real &= apr_is_real(apr_input_part(in, i)->dtype);
    return real;
}

/* The tensor as it is stored, where that is all there is to it. */
static bool is_copy(const struct merge *m, const struct merged *t, const struct apr_input *in, bool whole)
{
    const struct apr_dtype *const d = apr_stored_dtype_of(in);
    const bool cleaned = m->o->c.nan_to_zero && is_float(d);
    if (!in->plain || in->count != t->count)
        return false;
    return !is_merged(in) || (whole && !cleaned && (m->config.dtype == NULL || dtype_of(m, t) == d));
}

/* The dtype of a part that is quantized, or NULL. */
static const struct apr_dtype *quantized_part(const struct apr_input *in)
{
    for (size_t i = 0; in != NULL && i < in->view.npart; i++)
        if (apr_is_quantized_source(apr_input_part(in, i)->dtype))
            return apr_input_part(in, i)->dtype;
    return NULL;
}

/* What was rounded to blocks is not to be so again unless someone says so. */
static enum apr_code check_again(const struct merge *m, const struct merged *t, struct apr_error *e)
{
    const struct apr_convert_options *const o = &m->o->c;
    const struct apr_dtype *d = quantized_part(t->base);
    if (o->dtype == NULL || !apr_is_quantized(o->dtype) || o->allow_requantize || t->tensor.ndim < 2)
        return APR_OK;
    for (size_t i = 0; i < t->n && d == NULL; i++)
        d = quantized_part(t->x[i].in);
    if (d == NULL)
        return APR_OK;
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->tensor.name,
                           " is %s in a model already: --allow-requantize quantizes it again, to %s", d->name, o->dtype->name);
}

static void copy(struct merge *m, struct merged *t, const struct apr_input *in, const struct model *model)
{
    const struct apr_bytes name = t->tensor.name;
    t->tensor = *apr_input_part(in, 0);
    t->tensor.name = name;
    t->tensor.file += m->first_file[model - m->model];
}

/* ---- one tensor ----------------------------------------------------------------------------------------------------- */

static enum apr_code finish(struct merge *m, struct merged *t, struct apr_error *e)
{
    const struct apr_input *const in = like(m, t);
    const struct model *model = t->base_model;
    for (size_t i = 0; i < t->n; i++)
        model = t->x[i].in == in ? t->x[i].model : model;
    struct apr_tensor *const s = &t->tensor;
    s->dtype = dtype_of(m, t);
    s->row = 0;
    uint64_t bytes;
    if (!apr_tensor_measure(s, &bytes))
        return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, s->name, ": no file holds so many elements");
    t->count = s->count;
    t->ncol = s->ndim == 0 ? 1 : s->dim[s->ndim - 1];
    t->nrow = t->ncol == 0 ? 0 : t->count / t->ncol;
    if (s->ndim < 2) {
        t->ncol = t->count;
        t->nrow = 1;
    }
    const bool alone = t->n + (t->base != NULL) == 1 || (t->method->kernel == KERNEL_COMBINATION && t->n == 1 &&
                                                         t->method == method_named(apr_text("passthrough")));
    const bool whole = alone && !t->given[PARAM_SCALE];
    if (is_copy(m, t, in, whole)) {
        copy(m, t, in, model);
        return APR_OK;
    }
    if (!is_merged(in))
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, s->name, " of %s holds no numbers that can be merged", model->said->path);
    APR_TRY(check_again(m, t, e));
    s->computed = &t->c;
    s->data = (struct apr_bytes){ 0 };
    t->c = (struct apr_computation){ .values = merged_values, .sound = merged_sound };
    return APR_OK;
}

/* A method that needs a base, or several models, does without for a tensor that they lack. */
static void choose_method(struct merge *m, struct merged *t, size_t apart)
{
    const struct method *const method = m->config.method;
    const bool lacks_base = apart > 0 && t->base == NULL && method->base != BASE_MAY;
    t->method = method;
    if (t->n + (t->base != NULL) == 1)
        t->method = method_named(apr_text("passthrough"));
    else if (lacks_base || t->n < method->least)
        t->method = method_named(apr_text("linear"));
}

/* The tensor of that name in the result; `from` is its name in the sources, but for the layer. */
static enum apr_code add_tensor(struct merge *m, const struct place *at, struct apr_bytes name, struct apr_bytes from, struct apr_error *e)
{
    const struct slice *const s = at->slice;
    const bool apart = m->config.method->base != BASE_AS_MODEL && s->base != NONE;
    struct merged *const t = apr_arena_alloc(&m->arena, sizeof *t);
    struct operand *const x = apr_arena_alloc(&m->arena, s->npart * sizeof *x);
    struct merged **const grown = apr_grown(m->tensor, &m->room, m->ntensor, 64, sizeof *grown);
    size_t place = 0;
    if (grown != NULL)
        m->tensor = grown;
    if (t == NULL || x == NULL || grown == NULL)
        return apr_no_memory(e);
    *t = (struct merged){ .merge = m, .method = m->config.method, .x = x };
    t->tensor.name = apr_arena_copy(&m->arena, name);
    if (t->tensor.name.at == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < s->npart; i++) {
        const struct part *const part = &s->part[i];
        const bool base = apart && part->model == s->base;
        const struct apr_bytes there = at->layer < 0 ? from : at_layer(&m->arena, from, part->from + (uint32_t)at->layer);
        const struct apr_wish *w = there.at == NULL ? NULL : wish_called(&m->model[part->model], there);
        bool given[BY_MODEL] = { 0 };
        if (there.at == NULL)
            return apr_no_memory(e);
        if (w != NULL && w->values == NULL && m->config.unite != NULL)
            APR_TRY(unite_rows(m, s, part->model, &w, e));
        if (w != NULL && w->values == NULL)
            APR_TRY(add_operand(m, t, at, part, w, base ? NONE : place, given, e));
        place += !base;
    }
    if (t->n == 0 && t->base == NULL)
        return APR_OK;
    choose_method(m, t, apart);
    APR_TRY(ask_by_method(m, at, t, e));
    m->tensor[m->ntensor++] = t;
    return finish(m, t, e);
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

/* The name as the model's family spells it, by which those of several models are one; kept. */
static struct apr_bytes key_of(struct merge *m, const struct model *model, struct apr_bytes name)
{
    char room[APR_NAME_ROOM];
    return apr_arena_copy(&m->arena, model->family == NULL ? name : apr_family_spelling(model->family, name, room));
}

/* Is it read before the layers? */
static bool is_before(struct apr_bytes name) { return apr_bytes_have(name, "embed") || apr_bytes_have(name, "embd") ||
                                               apr_bytes_have(name, "wte") || apr_bytes_have(name, "wpe"); }

enum kind { BEFORE, BEHIND };

/* Names of the sources that are not in a layer, each once. */
static enum apr_code add_outside(struct merge *m, const struct slice *s, enum kind kind, struct apr_table *seen, struct apr_error *e)
{
    const struct place at = { .slice = s, .layer = -1 };
    bool fresh;
    for (size_t i = 0; i < s->npart; i++) {
        const struct model *const model = &m->model[s->part[i].model];
        for (size_t k = 0; k < model->wishes.n; k++) {
            const struct apr_wish *const w = &model->wishes.wish[k];
            if (layer_in(w->name) >= 0 || is_before(w->name) != (kind == BEFORE) || w->values != NULL)
                continue;
            const struct apr_bytes key = key_of(m, model, w->name);
            if (key.at == NULL || apr_table_put(seen, key, &fresh) == NULL)
                return apr_no_memory(e);
            if (fresh)
                APR_TRY(add_tensor(m, &at, w->name, w->name, e));
        }
    }
    return APR_OK;
}

/* Is it an expert of which the reference has the first, but not that many? */
static bool is_further_expert(const struct model *reference, struct apr_meaning s)
{
    s.dialect = reference->dialect;
    s.layer = s.layer < reference->nlayer ? s.layer : reference->nlayer > 0 ? reference->nlayer - 1 : 0;
    const bool there = apr_binding_find(reference->binding, &s) != NULL, one = s.expert == 0;
    s.expert = 0;
    return !one && !there && apr_binding_find(reference->binding, &s) != NULL;
}

/* A matrix that no layer of the result's contract has: of experts where there are none, or fewer; dense where there are. */
static enum apr_code check_place(const struct merge *m, const struct model *model, const struct apr_wish *w, struct apr_error *e)
{
    const struct model *const reference = &m->model[m->reference];
    const struct apr_tensor *const t = w->ndim < 2 || model->binding == NULL ? NULL : apr_model_find(model->m, w->from);
    struct apr_meaning s;
    if (t == NULL || reference->binding == NULL || reference->family != model->family || !apr_binding_meaning(model->binding, t, 0, &s) ||
        ((s.role->when == NULL || apr_binding_holds(reference->binding, s.role->when)) && !is_further_expert(reference, s)))
        return APR_OK;
    return fail_at(&m->config, model->said->node, e, "%s of %s has no place in a model like %s", APR_QUOTED(w->name), model->said->path,
                   reference->said->path);
}

/* Layer number k of a slice, which is number `out` of the result. */
static enum apr_code add_layer(struct merge *m, const struct slice *s, uint32_t k, uint32_t count, uint32_t out, struct apr_error *e)
{
    const struct place at = { .slice = s, .layer = k, .x = count > 1 ? (double)k / (count - 1) : 1 };
    struct apr_table seen = { 0 };
    enum apr_code code = APR_OK;
    bool fresh;
    for (size_t i = 0; i < s->npart && code == APR_OK; i++) {
        const struct model *const model = &m->model[s->part[i].model];
        for (size_t j = 0; j < model->wishes.n && code == APR_OK; j++) {
            const struct apr_wish *const w = &model->wishes.wish[j];
            if (layer_in(w->name) != (int64_t)s->part[i].from + k || w->values != NULL)
                continue;
            const struct apr_bytes name = at_layer(&m->arena, w->name, out);
            const struct apr_bytes key = name.at == NULL ? name : key_of(m, model, name);
            if (key.at == NULL || apr_table_put(&seen, key, &fresh) == NULL)
                code = apr_no_memory(e);
            else if (fresh)
                code = check_place(m, model, w, e);
            if (code == APR_OK && fresh)
                code = add_tensor(m, &at, name, w->name, e);
        }
    }
    apr_table_free(&seen);
    return code;
}

static uint32_t length_of(const struct slice *s) { return s->part[0].to - s->part[0].from; }

/* Ranges are within their models, of which `models` takes all layers. */
static enum apr_code check_ranges(struct merge *m, struct apr_error *e)
{
    for (size_t i = 0; i < m->config.nslice; i++) {
        struct slice *const s = &m->config.slice[i];
        for (size_t k = 0; k < s->npart; k++) {
            struct part *const p = &s->part[k];
            const struct model *const model = &m->model[p->model];
            if (p->whole)
                p->to = model->nlayer;
            if (p->to > model->nlayer)
                return fail_at(&m->config, apr_yaml_get(p->node, "layer_range"), e, "layers [%u, %u): %s has %u", p->from, p->to,
                               model->said->path, model->nlayer);
            if (p->to - p->from != length_of(s))
                return fail_at(&m->config, p->node, e, "%s has %u layers, the models before it %u", model->said->path, p->to - p->from,
                               length_of(s));
        }
    }
    return APR_OK;
}

enum apr_code pair_models(struct merge *m, struct apr_error *e)
{
    const struct config *const c = &m->config;
    struct apr_table seen = { 0 };
    uint32_t out = 0;
    APR_TRY(check_ranges(m, e));
    enum apr_code code = add_outside(m, &c->slice[0], BEFORE, &seen, e);
    for (size_t i = 0; i < c->nslice && code == APR_OK; i++)
        for (uint32_t k = 0; k < length_of(&c->slice[i]) && code == APR_OK; k++)
            code = add_layer(m, &c->slice[i], k, length_of(&c->slice[i]), out++, e);
    if (code == APR_OK)
        code = add_outside(m, &c->slice[c->nslice - 1], BEHIND, &seen, e);
    apr_table_free(&seen);
    if (code == APR_OK && m->ntensor == 0)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "there is no tensor to merge");
    return code;
}
