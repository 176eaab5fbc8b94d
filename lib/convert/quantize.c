/* Which dtype each tensor gets where a preset, a rule or a target says so, and the importance of its columns. */
#include "convert/conversion_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "family/mix.h"
#include "model/format.h"
#include "values/dtype.h"

bool apr_is_quantizing(const struct apr_convert_options *o)
{
    return o->preset != NULL || o->recipe.n > 0 || apr_has_aim(o);
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* What the model that a tensor comes from, the source or a graft, tells of its names; NULL: nothing. */
static const struct apr_binding *binding_of(const struct apr_conversion *c, const struct apr_wish *x)
{
    const struct apr_binding *b = x->in->m == c->source.m ? c->source.binding : NULL;
    for (size_t i = 0; i < c->ngraft && b == NULL; i++)
        b = x->in->m == c->graft[i].m ? c->graft[i].binding : NULL;
    return b;
}

/* What a tensor is for, by what it is made of. */
static bool meaning_of(const struct apr_conversion *c, const struct apr_wish *x, struct apr_meaning *s)
{
    const struct apr_binding *const b = x->values != NULL ? NULL : binding_of(c, x);
    const struct apr_tensor *const t = b == NULL ? NULL : apr_model_find(x->in->m, apr_input_part(x->in, 0)->name);
    return t != NULL && apr_binding_meaning(b, t, 0, s);
}

/* The name that the tensor has in a GGUF, or its values are part of; its own where no family tells. */
static enum apr_code gguf_name(struct apr_conversion *c, const struct apr_wish *x, struct apr_bytes *name, struct apr_error *e)
{
    char text[APR_NAME_ROOM];
    struct apr_meaning s;
    const bool own = c->dialect == APR_GGUF && (c->source.translated || c->source.m->format->own_names || apr_mix_block(x->name) >= 0);
    *name = x->name;
    if (own || !meaning_of(c, x, &s))
        return APR_OK;
    if (s.dialect == APR_GGUF) {
        *name = apr_input_part(x->in, 0)->name;
        return APR_OK;
    }
    if (s.role->known[APR_GGUF].n == 0 || apr_role_spell(s.role->known[APR_GGUF].word[0], s.layer, 0, text, sizeof text) == 0)
        return APR_OK;
    *name = apr_arena_copy(&c->plan.arena, apr_text(text));
    return name->at == NULL ? apr_no_memory(e) : APR_OK;
}

/* ---- importance ----------------------------------------------------------------------------------------------------- */

/* Do rows of the target run along columns of the GGUF? */
static enum apr_code is_turned(const struct apr_binding *b, const struct apr_meaning *s, bool *turned, struct apr_error *e)
{
    struct apr_transform step[APR_MAX_STEPS];
    size_t n;
    *turned = false;
    APR_TRY(apr_binding_chain(b, s->role, APR_GGUF, step, &n, e));
    for (size_t i = 0; i < n; i++)
        *turned |= step[i].op == APR_OP_TRANSPOSE;
    return APR_OK;
}

/* Which matrix of the GGUF's stack the tensor is: of a GGUF by where it begins, of a checkpoint by its name. */
static uint64_t expert_of(const struct apr_wish *x, const struct apr_meaning *s)
{
    if (s->dialect != APR_GGUF)
        return s->expert;
    const struct apr_place p = apr_view_place(&x->in->view, 0);
    const struct apr_tensor *const t = p.part < x->in->view.npart ? apr_input_part(x->in, p.part) : NULL;
    return t == NULL || t->ndim < 3 ? 0 : p.index / (t->dim[t->ndim - 1] * t->dim[t->ndim - 2]);
}

/* Weights [first, first + n) of an entry, into the plan's memory. */
static enum apr_code keep_weights(struct apr_conversion *c, const struct apr_imatrix_entry *x, uint64_t first, uint64_t n,
                                  const float **kept, struct apr_error *e)
{
    float *const w = n > SIZE_MAX / sizeof *w ? NULL : apr_arena_alloc(&c->plan.arena, (size_t)n * sizeof *w);
    if (w == NULL)
        return apr_no_memory(e);
    apr_imatrix_weights(x, first, n, w);
    *kept = w;
    return APR_OK;
}

/* The weights of the columns of a tensor that the GGUF calls `name`; *kept stays NULL where there are none. */
static enum apr_code importance_of(struct apr_conversion *c, const struct apr_wish *x, const struct apr_planned *t, struct apr_bytes name,
                                   const float **kept, struct apr_error *e)
{
    const uint64_t ncol = t->ndim == 0 ? 1 : t->dim[t->ndim - 1], all = apr_planned_importance(t);
    const struct apr_imatrix_entry *entry = c->imatrix == NULL ? NULL : apr_imatrix_find(c->imatrix, name);
    struct apr_meaning s;
    bool turned;
    if (entry == NULL || t->ndim < 2 || t->count == 0)
        return APR_OK;
    if (c->dialect != APR_GGUF && meaning_of(c, x, &s)) {
        APR_TRY(is_turned(binding_of(c, x), &s, &turned, e));
        if (turned)
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, ": importance is of the columns of a GGUF, which are its rows here");
        const uint64_t first = expert_of(x, &s) * ncol;
        if (entry->n != all && first + ncol <= entry->n && entry->n % ncol == 0)
            return keep_weights(c, entry, first, ncol, kept, e);
    }
    APR_TRY(apr_imatrix_of(c->imatrix, name, ncol, all / ncol, &entry, e));
    return entry == NULL ? APR_OK : keep_weights(c, entry, 0, all, kept, e);
}

/* ---- the mix -------------------------------------------------------------------------------------------------------- */

static enum apr_code take_dtype(const struct apr_conversion *c, const struct apr_wish *x, struct apr_planned *t, const struct apr_dtype *to,
                                struct apr_error *e)
{
    const struct apr_dtype *const from = apr_stored_dtype(x);
    if (to == t->dtype)
        return APR_OK;
    const bool again = from != NULL && from != to && (apr_is_quantized(from) || (apr_is_quantized_source(from) && apr_is_quantized(to)));
    if (again && !c->o->allow_requantize)
        return apr_refuse_again(t->name, from, to, e);
    t->dtype = to;
    return APR_OK;
}

/* With rules alone each weight is to stay as it is but for those: of packed ones a checkpoint has all or none. */
static enum apr_code check_unruled(const struct apr_conversion *c, const struct apr_wish *x, const struct apr_mixed *m, struct apr_error *e)
{
    if (c->dialect == APR_GGUF || c->o->preset != NULL || c->o->dtype != NULL || apr_has_aim(c->o) || m->dtype != m->from ||
        m->ruled != NULL)
        return APR_OK;
    for (size_t i = 0; x->values == NULL && i < x->in->view.npart; i++) {
        const struct apr_tensor *const t = apr_input_part(x->in, i);
        if (t->packed != NULL)
            return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, x->name,
                                   " is packed as %s, and no rule is for it: --type says what the values of all others are to be",
                                   t->dtype->name);
    }
    return APR_OK;
}

/* A rule that decides nothing is a slip: what it was for would stay as it is without a word. */
static enum apr_code check_rules(const struct apr_conversion *c, struct apr_error *e)
{
    const struct apr_recipe *const r = &c->o->recipe;
    for (size_t i = 0; i < r->n; i++) {
        if (apr_recipe_idle(r, i, e)) {
            e->code = APR_EARG;
            return APR_EARG;
        }
        if (r->rule[i].dtype != NULL && apr_is_quantized(r->rule[i].dtype) && r->rule[i].used > 0 && r->rule[i].used == r->rule[i].spared)
            return apr_fail(e, APR_EARG, APR_NOWHERE,
                            "the rule %s is for tensors that stay as they are alone: vectors, norms, routers; --type with --pure changes "
                            "them",
                            APR_QUOTED(apr_patterns_text(r->match, i)));
    }
    return APR_OK;
}

/* The other name by which rules may speak of it: of a GGUF's tensor that of the source, of others that of a GGUF. */
static struct apr_bytes other_name(const struct apr_conversion *c, const struct apr_wish *x, struct apr_bytes gguf)
{
    return c->dialect == APR_GGUF ? apr_input_part(x->in, 0)->name : gguf;
}

/* What the first rule says. "copy" is what it would be without a rule and --type. Rules are for what a preset may change: the rest no
 * engine reads in blocks, unless --pure says so of --type: of a preset, it says that all it may change get one dtype. */
static enum apr_code apply_rule(struct apr_conversion *c, const struct apr_mix *mix, const struct apr_wish *x, const struct apr_dtype *now,
                                struct apr_mixed *m, struct apr_error *e)
{
    const struct apr_recipe_rule *rule;
    const bool matrix = apr_mix_may_change(mix, m);
    APR_TRY(apr_recipe_find(&c->o->recipe, x->name, other_name(c, x, m->name), &rule, e));
    if (rule == NULL)
        return APR_OK;
    if (!matrix && (!c->o->pure || mix->preset != NULL)) {
        c->o->recipe.rule[rule - c->o->recipe.rule].spared++;
        return APR_OK;
    }
    m->ruled = rule->dtype != NULL ? rule->dtype : c->o->dtype != NULL && apr_stored_dtype(x) != NULL ? apr_stored_dtype(x) : now;
    return APR_OK;
}

/* What the mix asks of each tensor. */
static enum apr_code look_at(struct apr_conversion *c, const struct apr_mix *mix, const struct apr_planned *t, struct apr_mixed *mixed,
                             const float **importance, struct apr_error *e)
{
    for (size_t i = 0; i < c->source.wishes.n; i++) {
        const struct apr_wish *const x = &c->source.wishes.wish[i];
        struct apr_mixed *const m = &mixed[i];
        *m = (struct apr_mixed){ .ndim = t[i].ndim, .dim = t[i].dim, .from = t[i].dtype };
        APR_TRY(gguf_name(c, x, &m->name, e));
        if (x->values != NULL)
            continue;
        APR_TRY(apply_rule(c, mix, x, t[i].dtype, m, e));
        APR_TRY(importance_of(c, x, &t[i], m->name, &importance[i], e));
        m->has_importance = importance[i] != NULL;
    }
    return APR_OK;
}

/* Without a preset only rules and the target change anything, and what the options say of output and embeddings: as with a preset, what
 * is said of an output that is tied is said of the embedding. */
static void choose_ruled(const struct apr_mix *mix, bool tied, struct apr_mixed *m)
{
    const bool output = apr_bytes_is(m->name, "output.weight");
    if (m->ruled == NULL && output)
        m->ruled = mix->leave_output ? m->from : mix->output;
    if (m->ruled == NULL && !output && apr_mix_outside(mix, m->name))
        m->ruled = mix->embedding != NULL || !tied ? mix->embedding : mix->output;
    m->dtype = m->ruled != NULL ? m->ruled : m->from;
}

static enum apr_code choose(struct apr_conversion *c, const struct apr_mix *mix, struct apr_planned *t, struct apr_mixed *mixed,
                            const float **importance, struct apr_error *e)
{
    const bool aims = apr_has_aim(c->o);
    bool tied = true;
    if (mix->preset != NULL)
        return apr_mix_choose(mix, mixed, c->source.wishes.n, e);
    for (size_t i = 0; i < c->source.wishes.n; i++)
        tied = tied && !apr_bytes_is(mixed[i].name, "output.weight");
    for (size_t i = 0; i < c->source.wishes.n; i++) {
        choose_ruled(mix, tied, &mixed[i]);
        t[i].importance = importance[i];
        if (aims)
            APR_TRY(take_dtype(c, &c->source.wishes.wish[i], &t[i], mixed[i].dtype, e));
    }
    return aims && !c->plain ? apr_choose_towards(c, t, mixed, mix, e) : APR_OK;
}

/* How many tensors get blocks that importance has a say in, and how many have it; how many another dtype than was meant. True: it should
 * have importance and has none. */
static bool count_quantized(struct apr_conversion *c, const struct apr_mix *mix, const struct apr_planned *t, const struct apr_mixed *m)
{
    const bool weighs = t->dtype != m->from && c->o->cli.run.kernels->encode_weighted[apr_dtype_id(t->dtype)] != NULL;
    c->weighable += weighs;
    c->weighed += weighs && t->importance != NULL;
    c->fell_back += m->fell_back && t->dtype != m->from;
    return weighs && t->importance == NULL && !apr_mix_outside(mix, m->name);
}

/* Does a contract, or its name, tell what a tensor is for? */
static bool are_known(const struct apr_conversion *c)
{
    bool known = c->source.binding != NULL || c->source.m->format->own_names;
    for (size_t i = 0; i < c->source.wishes.n && !known; i++)
        known = apr_mix_block(c->source.wishes.wish[i].name) >= 0;
    return known;
}

static enum apr_code quantize_with(struct apr_conversion *c, struct apr_planned *t, struct apr_mixed *mixed, const float **importance,
                                   struct apr_error *e)
{
    const struct apr_convert_options *const o = c->o;
    bool lacking = false;
    struct apr_mix mix = { .preset = o->preset, .pure = o->pure, .imatrix = c->imatrix != NULL, .leave_output = o->leave_output,
                           .output = o->output_dtype, .embedding = o->embedding_dtype };
    if ((o->preset != NULL || apr_has_aim(o)) && !are_known(c))
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE,
                        "what its tensors are for is not known, so there is no telling which may be quantized: --family NAME says whose it "
                        "is like, --type gives all matrices one dtype");
    APR_TRY(apr_read_mix(c, &mix, e));
    APR_TRY(look_at(c, &mix, t, mixed, importance, e));
    APR_TRY(check_rules(c, e));
    for (size_t i = 0; i < c->source.wishes.n && c->dialect != APR_GGUF; i++) /* a checkpoint keeps layers that a GGUF leaves out */
        if (mix.nblock > 0 && apr_mix_block(mixed[i].name) >= (int64_t)mix.nblock)
            mix.nblock = (uint32_t)apr_mix_block(mixed[i].name) + 1;
    APR_TRY(choose(c, &mix, t, mixed, importance, e));
    c->weighable = c->weighed = c->fell_back = 0;
    for (size_t i = 0; i < c->source.wishes.n; i++) {
        APR_TRY(check_unruled(c, &c->source.wishes.wish[i], &mixed[i], e));
        APR_TRY(take_dtype(c, &c->source.wishes.wish[i], &t[i], mixed[i].dtype, e));
        t[i].importance = importance[i];
        lacking |= count_quantized(c, &mix, &t[i], &mixed[i]);
    }
    if (c->imatrix != NULL && lacking && c->weighed == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE,
                        "the imatrix has none of the %zu tensors that take importance: it is another model's, or an edited one",
                        c->weighable);
    return c->imatrix == NULL ? APR_OK : apr_imatrix_unchanged(c->imatrix, e);
}

enum apr_code apr_quantize_tensors(struct apr_conversion *c, struct apr_planned *t, struct apr_error *e)
{
    const size_t n = c->source.wishes.n;
    struct apr_mixed *const mixed = calloc(n + 1, sizeof *mixed);
    const float **const importance = calloc(n + 1, sizeof *importance);
    const enum apr_code code = mixed == NULL || importance == NULL ? apr_no_memory(e) : quantize_with(c, t, mixed, importance, e);
    free(mixed);
    free(importance);
    return code;
}
