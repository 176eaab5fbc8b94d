#include "match.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/model.h"
#include "ui/share.h"

void free_match(struct match *m)
{
    apr_arena_free(&m->arena);
    free(m->pair);
    free(m->only_a);
    free(m->only_b);
    free(m->excused);
    apr_binding_free(m->binding[0]);
    apr_binding_free(m->binding[1]);
    *m = (struct match){ 0 };
}

/* ---- the family ----------------------------------------------------------------------------------------------------- */

/* The class that either model names, now that no family is known. */
static enum apr_code keep_unknown(struct matching *w)
{
    for (unsigned i = 0; i < 2 && w->m->unknown.n == 0; i++) {
        struct apr_hf_config *config;
        APR_TRY(apr_hf_config_of(&config, w->model[i], w->e));
        const struct apr_bytes word = apr_class_said(w->model[i], config);
        w->m->unknown_of = i;
        if (word.n > 0)
            w->m->unknown = apr_arena_copy(&w->m->arena, word);
        apr_hf_config_free(config);
        if (word.n > 0 && w->m->unknown.at == NULL)
            return apr_no_memory(w->e);
    }
    return APR_OK;
}

/* Binds both models to the family that either names, or that the names of both fit. Where one names a class that nobody knows, the names
 * of the other are no evidence against it. */
static enum apr_code find_family(struct matching *w)
{
    const struct apr_family *f = NULL, *either[2] = { 0 };
    bool named = false;
    for (int i = 0; i < 2 && f == NULL; i++)
        APR_TRY(apr_family_said(w->o->selection.families, w->model[i], &f, w->e));
    for (int i = 0; i < 2 && f == NULL && !named; i++)
        APR_TRY(apr_names_a_class(w->model[i], &named, w->e));
    for (int i = 0; i < 2 && f == NULL && !named && either[1] == NULL; i++)
        APR_TRY(apr_family_guessed(w->o->selection.families, w->model[i], &f, either, w->e));
    w->m->either[0] = either[0];
    w->m->either[1] = either[1];
    if (f == NULL)
        return keep_unknown(w);
    struct apr_binding *first;
    APR_TRY(apr_bind(&first, f, w->model[0], NULL, w->e));
    enum apr_code code = apr_bind(&w->m->binding[1], f, w->model[1], first, w->e);
    if (code == APR_OK)
        code = apr_bind(&w->m->binding[0], f, w->model[0], w->m->binding[1], w->e);
    apr_binding_free(first);
    w->binding[0] = w->m->binding[0];
    w->binding[1] = w->m->binding[1];
    return code;
}

/* ---- spellings ------------------------------------------------------------------------------------------------------ */

/* Pairs t, for which the contract has no role, with the tensor of B whose name is the same as the contract spells it. */
static enum apr_code pair_spelling(struct matching *w, const struct apr_tensor *t, bool *found)
{
    const struct apr_family *f = apr_binding_family(w->binding[0]);
    const struct apr_model *b = w->model[1];
    char room[APR_NAME_ROOM];
    bool fresh;
    if (w->model[0]->format->own_names || b->format->own_names)
        return APR_OK;
    const bool first_use = w->spelled.n == 0;
    for (size_t i = 0; first_use && i < b->ntensor; i++) {
        const struct apr_bytes name = apr_arena_copy(&w->m->arena, apr_family_spelling(f, b->tensor[i].name, room));
        union apr_table_value *v = name.at == NULL ? NULL : apr_table_put(&w->spelled, name, &fresh);
        if (v == NULL)
            return apr_no_memory(w->e);
        if (fresh)
            v->number = i;
    }
    const union apr_table_value *v = apr_table_find(&w->spelled, apr_family_spelling(f, t->name, room));
    if (v == NULL || w->taken[v->number])
        return APR_OK;
    struct pair *p;
    *found = true;
    w->part[0] = &b->tensor[v->number];
    return begin_pair(w, t, 1, &p);
}

/* ---- tied heads ----------------------------------------------------------------------------------------------------- */

static const struct apr_role *embedding_role(const struct matching *w)
{
    return apr_family_role(apr_binding_family(w->binding[0]), apr_text("token_embd"));
}

/* By its role or, where the contract knows none, since it drops a head that is always the embedding, by its name. */
static bool is_head(const struct apr_binding *b, const struct apr_tensor *t, struct apr_meaning *meaning)
{
    const struct apr_family *f = apr_binding_family(b);
    char room[APR_NAME_ROOM];
    if (apr_binding_meaning(b, t, 0, meaning))
        return apr_bytes_is(meaning->role->name, "output");
    *meaning = (struct apr_meaning){ .role = apr_family_role(f, apr_text("token_embd")), .dialect = APR_HF };
    return apr_family_role(f, apr_text("output")) == NULL && apr_bytes_is(apr_family_spelling(f, t->name, room), "lm_head.weight");
}

/* A head of B where A has none of its own: A's embedding is its match. */
static enum apr_code pair_tied_head(struct matching *w, const struct apr_tensor *head, bool *found)
{
    const struct apr_tensor *embedding[1];
    struct apr_meaning meaning;
    *found = is_head(w->binding[1], head, &meaning) && !apr_binding_is_copy(w->binding[1], &meaning, head) &&
             apr_binding_tied(w->binding[0]) && apr_binding_may_tie(w->binding[1]) &&
             apr_binding_parts(w->binding[0], embedding_role(w), 0, embedding, 1) == 1;
    bool yes;
    if (!*found)
        return APR_OK;
    APR_TRY(wanted(w, embedding[0]->name, &head, 1, &yes));
    if (!yes)
        return APR_OK;
    /* a placeholder is a name for the embedding, so it goes by its own */
    struct pair *p = &w->m->pair[w->m->npair++];
    *p = (struct pair){ .a = embedding[0], .b = head, .name = head->tied ? head->name : embedding[0]->name };
    have_shape(p, embedding[0]);
    return share_rows_of(w, p, &yes);
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

/* Adds the name, if it is wanted. */
static enum apr_code keep_name(const struct matching *w, struct apr_bytes name, struct apr_bytes *kept, size_t *n)
{
    bool yes;
    APR_TRY(apr_patterns_want(w->o->selection.filter, name, &yes, w->e));
    kept[*n] = name;
    *n += yes;
    return APR_OK;
}

static enum apr_code match_a(struct matching *w, const struct apr_tensor *t)
{
    bool found = false;
    if (w->binding[0] != NULL) {
        struct apr_meaning meaning;
        /* of two spellings one has the pair, from whichever side it is looked at */
        if (apr_binding_meaning(w->binding[0], t, 0, &meaning) && apr_binding_is_second(w->binding[0], &meaning, t))
            return keep_name(w, t->name, w->m->only_a, &w->m->nonly_a);
        for (size_t i = 0; !found && apr_binding_meaning(w->binding[0], t, i, &meaning); i++)
            APR_TRY(pair_role(w, t, &meaning, meaning.role, &found));
        for (size_t i = 0; !found && apr_binding_meaning(w->binding[0], t, i, &meaning); i++)
            APR_TRY(pair_experts(w, t, &meaning, &found));
        if (!found && is_head(w->binding[0], t, &meaning) && apr_binding_tied(w->binding[1]) && apr_binding_may_tie(w->binding[0]) &&
            !apr_binding_is_copy(w->binding[0], &meaning, t))
            APR_TRY(pair_role(w, t, &meaning, embedding_role(w), &found));
        if (!found)
            APR_TRY(pair_spelling(w, t, &found));
    }
    return found ? APR_OK : keep_name(w, t->name, w->m->only_a, &w->m->nonly_a);
}

static enum apr_code match_b(struct matching *w, const struct apr_tensor *t)
{
    bool found = false;
    if (w->binding[1] != NULL)
        APR_TRY(pair_tied_head(w, t, &found));
    return found ? APR_OK : keep_name(w, t->name, w->m->only_b, &w->m->nonly_b);
}

/* The same of two tensors of one name, where that is the name of an embedding or of a head. */
static enum apr_code share_vocabulary(struct matching *w, struct pair *p)
{
    struct apr_meaning meaning;
    bool shared;
    return apr_binding_meaning(w->binding[0], p->a, 0, &meaning) && is_vocabulary(meaning.role) ? share_rows_of(w, p, &shared) : APR_OK;
}

static enum apr_code match_all(struct matching *w)
{
    const struct apr_model *a = w->model[0], *b = w->model[1];
    size_t nsame = 0;
    bool other_rows = false;
    for (size_t i = 0; i < a->ntensor; i++) {
        const struct apr_tensor *t = &a->tensor[i], *match = apr_model_find(b, t->name);
        if (match == NULL)
            continue;
        w->taken[match - b->tensor]++;
        nsame++;
        bool yes;
        APR_TRY(apr_patterns_want(w->o->selection.filter, t->name, &yes, w->e));
        w->m->pair[w->m->npair] = (struct pair){ .a = t, .b = match, .name = t->name };
        have_shape(&w->m->pair[w->m->npair], t);
        APR_TRY(turn_stack(w, &w->m->pair[w->m->npair]));
        w->m->npair += yes;
        other_rows |= t->ndim > 1 && match->ndim == t->ndim && t->dim[0] != match->dim[0];
    }
    const size_t npair = w->m->npair;
    if (nsame < a->ntensor || nsame < b->ntensor || other_rows)
        APR_TRY(find_family(w));
    for (size_t i = 0; w->binding[0] != NULL && other_rows && i < npair; i++)
        APR_TRY(share_vocabulary(w, &w->m->pair[i]));
    for (size_t i = 0; nsame < a->ntensor && i < a->ntensor; i++)
        if (apr_model_find(b, a->tensor[i].name) == NULL)
            APR_TRY(match_a(w, &a->tensor[i]));
    for (size_t i = 0; i < b->ntensor; i++)
        if (w->taken[i] == 0)
            APR_TRY(match_b(w, &b->tensor[i]));
    return APR_OK;
}

/* The absence of a match fails the verdict, but not where there is an excuse, nor for what a rule ignores. */
static enum apr_code mind_unmatched(const struct matching *w, int side, struct apr_bytes name)
{
    const struct bounds *rule;
    const struct apr_model *m = w->model[side];
    const char *reason = excuse_of(m, w->binding[side], apr_model_find(m, name), w->model[!side]->format->own_names);
    if (reason != NULL)
        w->m->excused[w->m->nexcused++] = (struct excuse){ name, side, reason };
    APR_TRY(find_rule(&w->o->rules, name, name, &rule, w->e));
    w->m->unmatched |= !w->o->subset && reason == NULL && !(rule != NULL && rule->ignore);
    return APR_OK;
}

const struct apr_tensor *const *parts_met(const struct pair *p, size_t *n)
{
    const struct apr_view *v = p->view;
    *n = v == NULL && p->npart > 0 ? p->npart : 1;
    if (v == NULL)
        return p->npart > 0 ? p->part : &p->b;
    for (unsigned i = 0; i < v->nstep && *n == 1; i++)
        if (v->step[i].forward ? apr_op_splits(v->step[i].op) : v->step[i].op == APR_OP_STACK)
            *n = v->npart;
    return *n > 1 ? v->part : v->part + apr_min(apr_view_place(v, 0).part, v->npart - 1);
}

static int by_name(const void *a, const void *b) { return apr_bytes_compare(*(const struct apr_bytes *)a, *(const struct apr_bytes *)b); }

static int by_pair_name(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    const int order = apr_bytes_compare(x->name, y->name);
    return order != 0 ? order : apr_bytes_compare(x->b->name, y->b->name);
}

static uint64_t pair_bytes(const struct pair *p) { return p->a->data.n + (p->view == NULL ? p->b->data.n : p->a->data.n) + 1; }

static void fold(struct apr_digest *d, const void *bytes, size_t n)
{
    *d = apr_digest_fold(*d, apr_digest_of((struct apr_bytes){ bytes, n }));
}

/* The bounds of each row, whatever rule they come from. */
static enum apr_code fold_bounds(struct apr_digest *d, const struct options *o, const struct pair *p, struct apr_error *e)
{
    const struct bounds *rule = NULL;
    APR_TRY(find_rule(&o->rules, p->name, p->b->name, &rule, e));
    const struct bounds *const b = rule == NULL ? &o->bounds : rule;
    const double bound[] = { b->cosine, b->scale, b->sqnr, b->max_abs, b->rmse, b->ignore };
    fold(d, bound, sizeof bound);
    return APR_OK;
}

/* What all shares of a run agree on: both models, the pairs, and the options that rows depend on. */
static enum apr_code plan_of(struct match *m, const struct options *o, const struct models *models, struct apr_error *e)
{
    const uint64_t option[] = { o->top, o->rows, o->limit, o->metadata, o->subset, o->no_transpose, o->transpose_aware, o->raw_codes, m->npair };
    m->plan = apr_digest_fold(apr_share_plan(models->a), apr_share_plan(models->b));
    fold(&m->plan, option, sizeof option);
    for (size_t i = 0; i < m->npair; i++) {
        const struct pair *const p = &m->pair[i];
        fold(&m->plan, p->name.at, p->name.n);
        fold(&m->plan, p->b->name.at, p->b->name.n);
        if (p->transform != NULL)
            fold(&m->plan, p->transform, strlen(p->transform));
        APR_TRY(fold_bounds(&m->plan, o, p, e));
    }
    return APR_OK;
}

/* Keeps the share of this part: pair p goes where the bytes before it fall when all of them are cut into nparts equal lengths. */
static void keep_part(struct match *m, uint64_t part, uint64_t nparts)
{
    uint64_t total = 0, before = 0;
    size_t kept = 0;
    for (size_t i = 0; i < m->npair; i++)
        total += pair_bytes(&m->pair[i]);
    for (size_t i = 0; i < m->npair; i++) {
        const uint64_t share = apr_share_of(before, total, nparts);
        before += pair_bytes(&m->pair[i]);
        if (share == part)
            m->pair[kept++] = m->pair[i];
    }
    m->npair = kept;
}

enum apr_code match_models(struct match *m, const struct options *o, const struct models *models, struct apr_error *e)
{
    const struct apr_model *const a = models->a, *const b = models->b;
    *m = (struct match){ .pair = malloc((a->ntensor + b->ntensor + 1) * sizeof *m->pair),
                         .only_a = malloc((a->ntensor + 1) * sizeof *m->only_a),
                         .only_b = malloc((b->ntensor + 1) * sizeof *m->only_b),
                         .excused = malloc((a->ntensor + b->ntensor + 1) * sizeof *m->excused) };
    struct matching w = { .m = m, .o = o, .model = { a, b }, .taken = calloc(b->ntensor + 1, sizeof *w.taken),
                          .part = malloc(MOST_TENSORS_OF_A_ROLE * sizeof *w.part), .e = e };
    const bool memory = w.taken != NULL && w.part != NULL && m->pair != NULL && m->only_a != NULL && m->only_b != NULL &&
                        m->excused != NULL;
    enum apr_code code = memory ? match_all(&w) : apr_no_memory(e);
    m->note = models->codes ? "codes compared, scales not applied" : NULL;
    if (code == APR_OK && o->selection.filter != NULL && m->npair + m->nonly_a + m->nonly_b == 0)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "no tensor matches the filter");
    if (code == APR_OK) {
        qsort(m->pair, m->npair, sizeof *m->pair, by_pair_name);
        qsort(m->only_a, m->nonly_a, sizeof *m->only_a, by_name);
        qsort(m->only_b, m->nonly_b, sizeof *m->only_b, by_name);
    }
    for (size_t i = 0; code == APR_OK && i < m->nonly_a; i++)
        code = mind_unmatched(&w, 0, m->only_a[i]);
    for (size_t i = 0; code == APR_OK && i < m->nonly_b; i++)
        code = mind_unmatched(&w, 1, m->only_b[i]);
    free(w.taken);
    apr_table_free(&w.spelled);
    free(w.part);
    if (code != APR_OK) {
        free_match(m);
        return code;
    }
    if (o->limit > 0 && m->npair > o->limit)
        m->npair = (size_t)o->limit;
    if (o->nparts == 0)
        return APR_OK;
    code = plan_of(m, o, models, e);
    if (code == APR_OK)
        keep_part(m, o->part, o->nparts);
    else
        free_match(m);
    return code;
}
