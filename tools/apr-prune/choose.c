/* Which matrices are pruned. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/table.h"
#include "flow/turned.h"
#include "prune.h"
#include "values/dtype.h"

#define LONGEST_ROW ((uint64_t)1 << 20) /* elements that are held to rank a row */

/* ---- what a tensor is ----------------------------------------------------------------------------------------------- */

static bool meaning_of(const struct pruning *p, const struct apr_tensor *t, struct apr_meaning *s)
{
    return p->binding != NULL && apr_binding_meaning(p->binding, t, 0, s);
}

/* Its name in a GGUF, or its own where nothing tells. */
static enum apr_code gguf_name(struct pruning *p, const struct apr_tensor *t, struct apr_bytes *name, struct apr_error *e)
{
    char text[APR_NAME_ROOM];
    struct apr_meaning s;
    *name = t->name;
    if (!meaning_of(p, t, &s) || s.dialect == APR_GGUF || s.role->known[APR_GGUF].n == 0)
        return APR_OK;
    if (apr_role_spell(s.role->known[APR_GGUF].word[0], s.layer, s.expert, text, sizeof text) == 0)
        return APR_OK;
    *name = apr_arena_copy(&p->arena, apr_text(text));
    return name->at == NULL ? apr_no_memory(e) : APR_OK;
}

/* Is it stored the other way round than a GGUF has it, whose rows are outputs? */
static bool is_turned(const struct pruning *p, const struct apr_tensor *t)
{
    struct apr_meaning s;
    bool turned = false;
    if (!meaning_of(p, t, &s) || s.dialect == APR_GGUF)
        return false;
    for (unsigned i = 0; i < s.role->ntransform; i++)
        turned ^= s.role->transform[i].op == APR_OP_TRANSPOSE;
    return turned;
}

/* What it is for: a role, else its name without numbers. */
static enum apr_code purpose_of(struct pruning *p, const struct apr_tensor *t, struct apr_bytes *purpose, struct apr_error *e)
{
    struct apr_meaning s;
    if (meaning_of(p, t, &s)) {
        *purpose = s.role->name;
        return APR_OK;
    }
    unsigned char *const text = apr_arena_alloc(&p->arena, t->name.n + 1);
    size_t n = 0;
    if (text == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < t->name.n; i++)
        if (t->name.at[i] < '0' || t->name.at[i] > '9')
            text[n++] = t->name.at[i];
    *purpose = (struct apr_bytes){ text, n };
    return APR_OK;
}

static enum apr_code group_of(struct pruning *p, const struct apr_tensor *t, size_t *group, struct apr_error *e)
{
    const size_t next = p->groups.n;
    struct apr_bytes purpose;
    bool fresh;
    APR_TRY(purpose_of(p, t, &purpose, e));
    union apr_table_value *const at = apr_table_put(&p->groups, purpose, &fresh);
    if (at == NULL)
        return apr_no_memory(e);
    at->number = fresh ? next : at->number;
    *group = (size_t)at->number;
    return APR_OK;
}

/* ---- which ones ----------------------------------------------------------------------------------------------------- */

static bool is_matrix(const struct pruning *p, const struct apr_tensor *t)
{
    unsigned wide = 0;
    for (unsigned i = 0; i < t->ndim; i++)
        wide += t->dim[i] > 1;
    return wide >= 2 && !t->tied && apr_is_real(t->dtype) && apr_decodable(p->o->to.cli.run.kernels, t);
}

/* A linear layer of a block: what llama-quantize would change of one. */
static bool is_linear(const struct apr_tensor *t, struct apr_bytes gguf)
{
    const struct apr_mix none = { .architecture = { (const unsigned char *)"", 0 } };
    const struct apr_mixed x = { .name = gguf, .ndim = t->ndim, .dim = t->dim, .from = t->dtype };
    return apr_bytes_have(gguf, "blk.") && apr_mix_may_change(&none, &x);
}

/* Does a pattern match the tensor, by its own name or by a GGUF's? */
static enum apr_code matches(struct apr_patterns *patterns, const struct apr_tensor *t, struct apr_bytes gguf, bool *yes,
                             struct apr_error *e)
{
    size_t first = APR_NO_PATTERN, other = APR_NO_PATTERN;
    *yes = false;
    if (patterns == NULL)
        return APR_OK;
    APR_TRY(apr_patterns_note(patterns, t->name, e));
    APR_TRY(apr_patterns_first(patterns, t->name, &first, e));
    if (!apr_bytes_equal(t->name, gguf)) {
        APR_TRY(apr_patterns_note(patterns, gguf, e));
        APR_TRY(apr_patterns_first(patterns, gguf, &other, e));
    }
    *yes = first != APR_NO_PATTERN || other != APR_NO_PATTERN;
    return APR_OK;
}

/* A pattern that matches nothing is a slip. */
static enum apr_code check_idle(const struct apr_patterns *patterns, const char *option, struct apr_error *e)
{
    for (size_t i = 0; patterns != NULL && i < apr_patterns_count(patterns); i++)
        if (!apr_patterns_noted(patterns, i))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "%s %s matches no matrix", option, APR_QUOTED(apr_patterns_text(patterns, i)));
    return APR_OK;
}

static bool is_gone(const struct pruning *p, const struct apr_tensor *t)
{
    struct apr_meaning s;
    return p->gone != NULL && meaning_of(p, t, &s) && s.role->layered && s.layer < p->nlayer && p->gone[s.layer];
}

static enum apr_code is_chosen(const struct pruning *p, const struct apr_tensor *t, struct apr_bytes gguf, bool *yes, struct apr_error *e)
{
    bool skipped;
    *yes = is_matrix(p, t);
    if (!*yes)
        return APR_OK;
    if (p->o->match != NULL)
        APR_TRY(matches(p->o->match, t, gguf, yes, e));
    else
        *yes = is_linear(t, gguf);
    APR_TRY(matches(p->o->skip, t, gguf, &skipped, e));
    *yes = *yes && !skipped && !is_gone(p, t);
    return APR_OK;
}

/* ---- what cannot be ------------------------------------------------------------------------------------------------- */

/* Zeros survive a quantizer only by chance. */
static enum apr_code check_quantized(const struct pruning *p, const struct matrix *x, struct apr_error *e)
{
    const struct apr_convert_options *const to = &p->o->to;
    const struct apr_dtype *const d = x->t->dtype;
    if (p->o->report)
        return APR_OK;
    if (to->dtype == NULL && x->t->packed != NULL)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->t->name,
                               " is packed as %s: --type bf16 makes values of it, which can be pruned", d->name);
    if (!apr_is_quantized_source(d) || to->allow_requantize || (to->dtype != NULL && !apr_is_quantized(to->dtype)))
        return APR_OK;
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->t->name,
                           " is %s: --type f16 widens it, --allow-requantize quantizes what is left again", d->name);
}

static enum apr_code check_shape(const struct matrix *x, struct apr_error *e)
{
    const struct options *const o = x->o;
    if (o->of > 0 && inputs_of(x) % o->of != 0)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->t->name, ": its rows of %llu do not divide into groups of --pattern %s",
                               (unsigned long long)inputs_of(x), o->pattern);
    if (o->of == 0 && o->scope == ROW && inputs_of(x) > LONGEST_ROW)
        return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, x->t->name, ": rows of more than %llu elements are not ranked",
                               (unsigned long long)LONGEST_ROW);
    return APR_OK;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

/* Experts of a packed stack lie as their codes do, and go on as the class has them. */
static enum apr_code take_turned(struct pruning *p, struct matrix *x, const struct apr_tensor *t, struct apr_error *e)
{
    struct apr_tensor *const turned = apr_arena_alloc(&p->arena, sizeof *turned);
    const struct apr_tensor **const part = apr_arena_alloc(&p->arena, sizeof *part);
    if (turned == NULL || part == NULL)
        return apr_no_memory(e);
    *part = t;
    *turned = *t;
    APR_TRY(apr_turned_input(&x->in, p->o->to.cli.run.kernels, p->m, part, e));
    memcpy(turned->dim, x->in.dim, sizeof turned->dim);
    x->t = turned;
    x->turned = !x->turned;
    return APR_OK;
}

static const struct apr_tensor *in_source(const struct pruning *p, const struct apr_tensor *t)
{
    size_t n;
    return p->source == p->m ? t : apr_packing_parts(p->packing, (size_t)(t - p->m->tensor), &n)[0];
}

static enum apr_code take_matrix(struct pruning *p, const struct apr_tensor *t, struct apr_bytes gguf, struct apr_error *e)
{
    struct matrix *const x = &p->matrix[p->nmatrix++];
    *x = (struct matrix){ .computation.values = pruned_values, .o = p->o, .t = t, .before = in_source(p, t), .gguf = gguf };
    x->in = apr_input_of(p->o->to.cli.run.kernels, p->m, t);
    x->turned = is_turned(p, t);
    if (apr_is_turned(t))
        APR_TRY(take_turned(p, x, t, e));
    x->ncol = x->t->dim[t->ndim - 1];
    x->nrow = t->count / x->ncol;
    x->high = x->t->dim[t->ndim - 2];
    x->key = apr_draw_key(t->name, p->o->seed);
    APR_TRY(group_of(p, t, &x->group, e));
    APR_TRY(check_quantized(p, x, e));
    return check_shape(x, e);
}

enum apr_code choose_matrices(struct pruning *p, struct apr_error *e)
{
    p->matrix = calloc(p->m->ntensor + 1, sizeof *p->matrix);
    if (p->matrix == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < p->m->ntensor; i++) {
        const struct apr_tensor *const t = &p->m->tensor[i];
        struct apr_bytes gguf;
        bool yes;
        APR_TRY(gguf_name(p, t, &gguf, e));
        APR_TRY(is_chosen(p, t, gguf, &yes, e));
        if (yes)
            APR_TRY(take_matrix(p, t, gguf, e));
    }
    APR_TRY(check_idle(p->o->match, "--match", e));
    APR_TRY(check_idle(p->o->skip, "--skip", e));
    if (p->nmatrix > 0)
        return APR_OK;
    return apr_fail(e, APR_EARG, APR_NOWHERE, p->o->match != NULL || p->o->skip != NULL || p->binding != NULL
                                                  ? "no matrix is left to prune"
                                                  : "what its tensors are for is not known: --match says which to prune, --family NAME "
                                                    "whose it is like");
}
