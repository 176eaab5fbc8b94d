/* Which dtype each tensor gets, and how it comes about. */
#include "convert/conversion_parts.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "model/format.h"
#include "values/dtype.h"
#include "values/packed.h"

static const struct apr_dtype *const f32 = &apr_dtypes[APR_F32], *const f16 = &apr_dtypes[APR_F16], *const bf16 = &apr_dtypes[APR_BF16];

/* As PyTorch and others call them. */
static const char *usual_name(const char *word)
{
    static const char *const names[][2] = { { "fp32", "f32" },    { "float32", "f32" }, { "float", "f32" },    { "fp16", "f16" },
                                            { "float16", "f16" }, { "half", "f16" },    { "bfloat16", "bf16" } };
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        if (strcasecmp(word, names[i][0]) == 0)
            return names[i][1];
    return word;
}

/* Is there an encoder, with importance or without? What has one scale for all of a tensor needs none. */
static bool is_written(const struct apr_kernels *k, size_t id)
{
    return k->encode[id] != NULL || k->encode_weighted[id] != NULL || apr_dtypes[id].head > 0;
}

const struct apr_dtype *apr_written_dtype(const struct apr_convert_options *o, const char *word)
{
    word = usual_name(word);
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (is_written(o->cli.run.kernels, i) && strcasecmp(apr_dtypes[i].name, word) == 0)
            return &apr_dtypes[i];
    return NULL;
}

static bool is_half(const struct apr_dtype *d) { return d == f16 || d == bf16; }

const struct apr_dtype *apr_stored_dtype_of(const struct apr_input *in)
{
    const struct apr_dtype *const d = apr_input_part(in, 0)->dtype;
    for (size_t i = 1; i < in->view.npart; i++)
        if (apr_input_part(in, i)->dtype != d)
            return NULL;
    return d;
}

const struct apr_dtype *apr_stored_dtype(const struct apr_wish *x) { return x->values != NULL ? f32 : apr_stored_dtype_of(x->in); }

/* ---- the policy (families.md 2) ------------------------------------------------------------------------------------- */

static const struct apr_role *role_of(const struct apr_conversion *c, const struct apr_wish *x)
{
    struct apr_meaning s;
    if (x->role != NULL || c->source.binding == NULL || x->in->view.npart != 1)
        return x->role;
    const struct apr_tensor *const t = apr_model_find(c->source.m, x->from);
    return t != NULL && apr_binding_meaning(c->source.binding, t, 0, &s) ? s.role : NULL;
}

/* Is it a weight by its name? A GGUF calls all of them so, a checkpoint calls stacks of experts by their layer alone: there the family's
 * name in a GGUF tells, and without a family that it is packed, or a stack and no bias. */
static bool is_weight(const struct apr_conversion *c, const struct apr_wish *x, const struct apr_role *role)
{
    if (apr_bytes_end(x->name, apr_text(".weight")) || c->dialect == APR_GGUF)
        return apr_bytes_end(x->name, apr_text(".weight"));
    if (role != NULL && role->known[APR_GGUF].n > 0)
        return apr_bytes_end(role->known[APR_GGUF].word[0], apr_text(".weight"));
    return x->in->view.npart > 0 && (apr_input_part(x->in, 0)->packed != NULL ||
                                      (x->ndim > 2 && !apr_bytes_end(x->name, apr_text("bias"))));
}

/* Is it one that stays F32 whatever is asked for: vectors, norms, routers, positions? */
static bool stays_f32(const struct apr_conversion *c, const struct apr_wish *x)
{
    static const char *const ending[] = { "norm.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight", "position_embd.weight",
                                          "token_types.weight", "ssm_conv1d.weight" };
    const struct apr_role *const role = role_of(c, x);
    bool stays = x->ndim < 2 || (role != NULL && role->f32) || !is_weight(c, x, role);
    for (size_t i = 0; i < APR_LENGTH(ending) && !stays; i++)
        stays = apr_bytes_end(x->name, apr_text(ending[i]));
    return stays;
}

enum apr_code apr_refuse_again(struct apr_bytes name, const struct apr_dtype *from, const struct apr_dtype *to, struct apr_error *e)
{
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, name, " is %s already: --allow-requantize quantizes it again, to %s", from->name,
                           to->name);
}

/* Is it packed as blocks that a GGUF has? */
static bool keeps_blocks(const struct apr_wish *x)
{
    bool all = x->values == NULL && x->in->view.npart > 0 && x->in->view.nvalue == 0;
    for (size_t i = 0; all && i < x->in->view.npart; i++) {
        const struct apr_tensor *const t = apr_input_part(x->in, i);
        all = t->packed != NULL && !t->dtype->packed && apr_packed_has_blocks(t);
    }
    return all;
}

/* Without --type a GGUF gets the values that codes stand for, but of what its makers would rather have asked. */
static enum apr_code unpacked_dtype(const struct apr_conversion *c, const struct apr_wish *x, const struct apr_dtype **to,
                                    struct apr_error *e)
{
    for (size_t i = 0; i < x->in->view.npart; i++) {
        const struct apr_tensor *const t = apr_input_part(x->in, i);
        if (t->packed != NULL && !apr_is_quantizing(c->o) && !t->dtype->decoded && !(keeps_blocks(x) && *to == t->dtype))
            return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name, " is packed as %s: --type says what its values are to be",
                                   t->dtype->name);
        if (t->dtype->packed)
            *to = f32;
    }
    return APR_OK;
}

bool apr_is_quantized_source(const struct apr_dtype *d)
{
    const enum apr_dtype_id id = apr_dtype_id(d);
    return apr_is_quantized(d) || (d->packed && !(id >= APR_FP8_TENSOR && id <= APR_FP8_BLOCK));
}

/* What --type makes of it. */
static enum apr_code asked_dtype(const struct apr_conversion *c, const struct apr_wish *x, const struct apr_dtype *from,
                                 const struct apr_dtype **to, struct apr_error *e)
{
    const struct apr_dtype *const wanted = c->o->dtype;
    const bool gguf = c->dialect == APR_GGUF, numbers = from == NULL || apr_is_real(from);
    *to = from;
    if (gguf && c->o->automatic && keeps_blocks(x))
        return APR_OK;
    if (!numbers || !x->in->decodable)
        return APR_OK;
    if (!c->o->pure && stays_f32(c, x)) {
        *to = gguf || from == NULL || from->packed || apr_is_quantized(from) || !apr_is_quantized(wanted) ? f32 : from;
        return APR_OK;
    }
    *to = apr_is_quantized(wanted) && !wanted->flat && x->dim[x->ndim == 0 ? 0 : x->ndim - 1] % wanted->block != 0 ? f16 : wanted;
    if (x->ndim == 0 && apr_is_quantized(wanted))
        *to = f32;
    if (from != NULL && apr_is_quantized_source(from) && apr_is_quantized(*to) && from != *to && !c->o->allow_requantize)
        return apr_refuse_again(x->name, from, *to, e);
    return APR_OK;
}

static enum apr_code choose_dtype(const struct apr_conversion *c, const struct apr_wish *x, const struct apr_dtype **to,
                                  struct apr_error *e)
{
    const struct apr_dtype *const from = apr_stored_dtype(x);
    *to = from;
    if (x->values != NULL)
        return APR_OK;
    if (c->o->dtype != NULL)
        return asked_dtype(c, x, from, to, e);
    APR_TRY(unpacked_dtype(c, x, to, e));
    if (from == NULL || x->in->view.nvalue > 0 || (x->role != NULL && c->dialect == APR_GGUF && is_half(from) && stays_f32(c, x)))
        *to = f32;
    return APR_OK;
}

/* Blocks are decoded because a dtype was asked for, never by chance. */
static enum apr_code check_blocks(const struct apr_conversion *c, const struct apr_wish *x, const struct apr_planned *t,
                                  struct apr_error *e)
{
    const struct apr_dtype *const from = apr_stored_dtype(x);
    if (x->values != NULL || x->in->view.nvalue == 0 || from == NULL || !apr_is_quantized(from) || c->o->dtype != NULL || t->dtype != f32)
        return APR_OK;
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->name, ": its values change on the way, and %s blocks cannot: --type decodes them, "
                           "--keep-names carries them as they are", from->name);
}

/* ---- how ------------------------------------------------------------------------------------------------------------ */

/* Do the rows of the input lie in whole blocks, side by side? */
static bool rows_move(const struct apr_input *in)
{
    const struct apr_tensor *const one = apr_input_part(in, 0);
    const uint64_t block = one->dtype->block;
    if (in->ncol % block != 0 || (one->row != one->count && one->packed == NULL))
        return in->plain;
    for (uint64_t row = 0; row < in->nrow; row++)
        for (uint64_t col = 0; col < in->ncol;) {
            const struct apr_place p = apr_view_place(&in->view, row * in->ncol + col);
            const uint64_t run = apr_min(p.run, in->ncol - col);
            if (p.part == in->view.npart || p.stride != 1 || p.index % block != 0 || run % block != 0 || run == 0)
                return false;
            col += run;
        }
    return true;
}

/* Are there blocks of d, with the importance that is there? */
static enum apr_code check_written(const struct apr_conversion *c, const struct apr_wish *x, const struct apr_planned *t,
                                   struct apr_error *e)
{
    const struct apr_kernels *const k = c->o->cli.run.kernels;
    const enum apr_dtype_id id = apr_dtype_id(t->dtype);
    const struct apr_dtype *const from = apr_stored_dtype(x);
    if (k->encode[id] == NULL && k->encode_weighted[id] != NULL && t->importance == NULL)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->name,
                               ": %s is only made with an importance matrix, which %s: --imatrix FILE gives one", t->dtype->name,
                               c->imatrix == NULL ? "is not given" : "does not have it");
    const bool computed = x->in->view.npart > 0 && apr_input_part(x->in, 0)->computed != NULL; /* and so encoded in any case */
    const bool written = is_written(k, id) || (computed && k->encode_wide[id] != NULL);
    if (!written || (from == t->dtype && from->block > 1 && c->o->dtype == NULL && !computed))
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, x->name,
                               " is %s, whose blocks do not go through %s: --type decodes them, --keep-names carries them as they are",
                               from == NULL ? t->dtype->name : from->name, x->transform == NULL ? "this" : x->transform);
    if (!x->in->decodable)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, x->name, ": values of %s are not decoded",
                               from == NULL ? "its parts" : from->name);
    return APR_OK;
}

/* A preset or a rule may choose what the target's format does not hold. */
static enum apr_code check_held(const struct apr_conversion *c, const struct apr_planned *t, struct apr_error *e)
{
    char text[512] = "";
    const char *why;
    if (!apr_is_quantizing(c->o) || !apr_is_quantized(t->dtype) || t->ndim == 0 || t->dim[t->ndim - 1] % t->dtype->block != 0 ||
        c->format->rule->holds(t, &why))
        return APR_OK;
    for (size_t i = 0, n = 0; i < APR_NDTYPES; i++) {
        struct apr_planned other = *t;
        other.dtype = &apr_dtypes[i];
        const bool may = is_written(c->o->cli.run.kernels, i) && apr_is_quantized(other.dtype) && c->format->rule->holds(&other, &why);
        if (may && n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, " %s", apr_dtypes[i].name);
    }
    return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name, " would be %s, which %s does not hold%s%s", t->dtype->name,
                           c->format->title, *text == 0 ? "; a GGUF does" : "; of blocks it holds", text);
}

static bool is_computed(const struct apr_input *in)
{
    bool any = false;
    for (size_t i = 0; i < in->view.npart; i++)
        any |= apr_input_part(in, i)->computed != NULL;
    return any;
}

static enum apr_code choose_way(const struct apr_conversion *c, const struct apr_wish *x, struct apr_planned *t, struct apr_error *e)
{
    const struct apr_dtype *const from = apr_stored_dtype(x);
    const struct apr_input *const in = x->in;
    APR_TRY(check_blocks(c, x, t, e));
    APR_TRY(check_held(c, t, e));
    if (x->values != NULL) {
        t->how = APR_GENERATE;
        return APR_OK;
    }
    if (from == t->dtype && in->plain && !apr_input_part(in, 0)->swapped) {
        t->how = APR_COPY;
        t->row = apr_input_part(in, 0)->row;
        return APR_OK;
    }
    const bool moves = from == t->dtype && in->view.nvalue == 0 && !is_computed(in) && (from->block == 1 || rows_move(in)) &&
                       (from->head == 0 || in->plain);
    t->how = moves ? APR_BLOCKS : APR_ENCODE;
    if (moves)
        return APR_OK;
    APR_TRY(check_written(c, x, t, e));
    t->lossy = !is_computed(in) && (t->dtype != f32 || in->wide);
    x->in->half = c->o->dtype != NULL && c->dialect == APR_GGUF && from == f16 && in->view.nvalue > 0;
    return APR_OK;
}

/* ---- the 16-bit type ------------------------------------------------------------------------------------------------ */

/* The dtype of most of the weights. */
static const struct apr_dtype *main_dtype(const struct apr_planned *t, size_t n)
{
    uint64_t count[APR_NDTYPES] = { 0 };
    size_t most = APR_F32;
    for (size_t i = 0; i < n; i++)
        if (t[i].ndim > 1 && t[i].dtype->kind == APR_REAL)
            count[apr_dtype_id(t[i].dtype)] += t[i].count;
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (count[i] > count[most])
            most = i;
    return &apr_dtypes[most];
}

/* Are n values, at most APR_STRETCH, exact in d, a 16-bit type? */
static bool are_exact(const struct apr_conversion *c, const float *value, size_t n, const struct apr_dtype *d)
{
    const struct apr_kernels *const k = c->o->cli.run.kernels;
    float back[APR_STRETCH];
    unsigned char code[2 * APR_STRETCH];
    k->encode[apr_dtype_id(d)](value, n, code);
    k->decode[apr_dtype_id(d)](code, code, n, back);
    return memcmp(value, back, n * sizeof *value) == 0;
}

/* Is every value exact in d? Stops at the first that is not. */
static bool is_exact(const struct apr_conversion *c, const struct apr_input *in, const struct apr_dtype *d)
{
    struct apr_window w = apr_window_of(&c->o->cli.run);
    float value[APR_STRETCH];
    bool exact = in->decodable && !in->wide;
    for (uint64_t first = 0; first < in->count && exact; first += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, in->count - first);
        apr_input_floats(in, &w, first, n, value);
        exact = are_exact(c, value, n, d);
    }
    apr_window_drop(&w);
    return exact;
}

/* A checkpoint has its vectors in the 16-bit type of its weights: they are given it back where that changes no value. */
static void narrow(const struct apr_conversion *c, const struct apr_wish *x, struct apr_planned *t, size_t n, const struct apr_dtype *half)
{
    for (size_t i = 0; i < n; i++) {
        const bool came = x[i].role != NULL || c->o->dtype != NULL; /* from another dialect, or through another dtype */
        const bool from_f32 = t[i].how != APR_GENERATE && t[i].dtype == f32 && t[i].in->view.npart > 0;
        if (came && from_f32 && (is_computed(t[i].in) ? apr_stored_dtype_of(t[i].in) == half : is_exact(c, t[i].in, half))) {
            t[i].dtype = half;
            t[i].how = APR_ENCODE;
            t[i].lossy = false;
        }
        if (t[i].how == APR_GENERATE && t[i].count <= APR_STRETCH && are_exact(c, t[i].values, (size_t)t[i].count, half))
            t[i].dtype = half;
    }
}

/* The first 16-bit type of a matrix, in the order of the tensors; else F16. */
static const struct apr_dtype *first_half(const struct apr_wishes *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const struct apr_dtype *const d = apr_stored_dtype(&w->wish[i]);
        if (d != NULL && is_half(d) && w->wish[i].ndim > 1)
            return d;
    }
    return f16;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------- */

static enum apr_code plan_one(const struct apr_conversion *c, const struct apr_wish *x, struct apr_planned *t, struct apr_error *e)
{
    *t = (struct apr_planned){ .name = x->name, .from = x->from, .ndim = x->ndim, .count = x->count, .row = x->count, .in = x->in,
                               .values = x->values, .transform = x->transform };
    memcpy(t->dim, x->dim, sizeof t->dim);
    return choose_dtype(c, x, &t->dtype, e);
}

static void count_elements(struct apr_conversion *c, const struct apr_wish *x, const struct apr_planned *t)
{
    const struct apr_bytes role = x->role == NULL ? (struct apr_bytes){ 0 } : x->role->name;
    c->quantized |= apr_is_quantized(t->dtype);
    if (t->how == APR_BLOCKS && c->dialect == APR_GGUF && keeps_blocks(x))
        c->blocks = t->dtype;
    c->head |= apr_bytes_is(role, "output") || apr_bytes_is(x->name, "output.weight") || apr_bytes_is(x->name, "lm_head.weight");
    c->elements += t->count;
    if (apr_bytes_have(x->name, "_exps.") && t->ndim > 2) { /* not their biases: llama.cpp counts those as shared */
        c->expert_elements += t->count;
        c->nexpert = t->dim[0];
    }
}

static enum apr_code rename_all(const struct apr_conversion *c, struct apr_planned *t, size_t n, struct apr_error *e)
{
    struct apr_bytes *const name = malloc((n + 1) * sizeof *name);
    if (name == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < n; i++)
        name[i] = t[i].name;
    const enum apr_code code = apr_edit_names(name, n, &c->o->edits, e);
    if (code == APR_EARG)
        apr_tell_codes(&c->source, e);
    for (size_t i = 0; i < n; i++)
        t[i].name = name[i];
    free(name);
    return code;
}

/* As llama-quantize writes them. */
static int in_order(const void *a, const void *b)
{
    const struct apr_planned *const x = a, *const y = b;
    return apr_mix_order(x->name, y->name);
}

static enum apr_code add_all(struct apr_conversion *c, struct apr_planned *t, struct apr_error *e)
{
    const struct apr_wishes *const w = &c->source.wishes;
    for (size_t i = 0; i < w->n; i++)
        APR_TRY(plan_one(c, &w->wish[i], &t[i], e));
    c->main = main_dtype(t, w->n);
    if (apr_is_quantizing(c->o) || c->imatrix != NULL)
        APR_TRY(apr_quantize_tensors(c, t, e));
    for (size_t i = 0; i < w->n; i++) {
        APR_TRY(choose_way(c, &w->wish[i], &t[i], e));
        count_elements(c, &w->wish[i], &t[i]);
    }
    c->main = main_dtype(t, w->n);
    if (c->dialect == APR_HF && is_half(c->main))
        narrow(c, w->wish, t, w->n, c->main);
    APR_TRY(rename_all(c, t, w->n, e));
    for (size_t i = 0; i < w->n && c->aim.tensor != NULL; i++)
        c->aim.tensor[i].name = t[i].name;
    if (apr_is_quantizing(c->o) && c->dialect == APR_GGUF)
        qsort(t, w->n, sizeof *t, in_order);
    for (size_t i = 0; i < w->n; i++) {
        const enum apr_code code = apr_plan_add(&c->plan, &t[i], e);
        if (code == APR_EUNSUPPORTED)
            apr_tell_codes(&c->source, e);
        APR_TRY(code);
        APR_TRY(apr_plan_scales(c, &t[i], e));
    }
    for (size_t i = 0; i < c->plan.ntensor; i++)
        c->bytes += c->plan.tensor[i].bytes;
    return apr_check_codes(c, e);
}

enum apr_code apr_plan_tensors(struct apr_conversion *c, struct apr_error *e)
{
    struct apr_planned *const t = calloc(c->source.wishes.n + 1, sizeof *t);
    if (t == NULL)
        return apr_no_memory(e);
    if (c->o->automatic)
        c->o->dtype = first_half(&c->source.wishes);
    const enum apr_code code = add_all(c, t, e);
    free(t);
    if (code != APR_OK)
        apr_error_in(e, c->source.path);
    return code;
}
