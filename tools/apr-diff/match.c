#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "diff.h"
#include "family/bind.h"
#include "model/hf_config.h"
#include "model/model.h"

#define MOST_TENSORS_OF_A_ROLE 4096 /* experts */

/* What matching two models takes. binding is NULL while no family is known. */
struct matching {
    struct match         *m;
    const struct options *o;
    const struct apr_model *model[2];
    struct apr_binding   *binding[2];
    bool                 *taken;        /* of B's tensors */
    const struct apr_tensor **part;     /* room for one role's tensors */
    struct apr_error     *e;
};

void free_match(struct match *m)
{
    apr_arena_free(&m->arena);
    free(m->pair);
    free(m->only_a);
    free(m->only_b);
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

/* Binds both models to the family that either names, or that the names of both fit. */
static enum apr_code find_family(struct matching *w)
{
    const struct apr_family *f = NULL, *either[2] = { 0 };
    for (int i = 0; i < 2 && f == NULL; i++)
        APR_TRY(apr_family_said(w->o->selection.families, w->model[i], &f, w->e));
    for (int i = 0; i < 2 && f == NULL && either[1] == NULL; i++)
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

/* ---- one pair through its role -------------------------------------------------------------------------------------- */

/* A copy of the text that lives as long as the match. */
static enum apr_code keep(struct matching *w, const char *text, const char **kept)
{
    *kept = (const char *)apr_arena_copy(&w->m->arena, apr_text(text)).at;
    return *kept == NULL ? apr_no_memory(w->e) : APR_OK;
}

/* "rope_permute", "stack", "transpose+split_rows"; NULL when nothing is moved or changed. */
static enum apr_code describe(struct matching *w, struct pair *p, const struct apr_transform *const chain[2], const size_t n[2])
{
    char text[256] = "";
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < n[side]; i++) {
            const size_t at = strlen(text);
            snprintf(text + at, sizeof text - at, "%s%s", at > 0 ? "+" : "", apr_op_word(chain[side][i].op));
        }
    return text[0] == 0 ? APR_OK : keep(w, text, &p->transform);
}

static const char *spell(const struct apr_tensor *t, char buffer[176]) { return apr_spell_shape(t->dim, t->ndim, buffer); }

/* Has t the shape that the HuggingFace shape takes on its way through the chain? */
static bool shape_fits(const struct apr_tensor *t, const struct apr_transform *chain, size_t n, uint64_t part, const uint64_t *dim, unsigned ndim)
{
    uint64_t shape[APR_MAX_DIMS];
    unsigned nshape = ndim;
    memcpy(shape, dim, sizeof shape);
    return apr_transform_shape(chain, n, part, shape, &nshape) && nshape == t->ndim && memcmp(shape, t->dim, nshape * sizeof *shape) == 0;
}

/* The shape on the HuggingFace side: of the side that has it, else as the contract says. */
static bool huggingface_shape(const struct matching *w, const struct apr_role *role, const struct apr_tensor *a, const struct apr_meaning *meaning_a,
                              enum apr_dialect dialect_b, uint64_t *dim, unsigned *ndim)
{
    const struct apr_tensor *t = meaning_a->dialect == APR_HF ? a : dialect_b == APR_HF ? w->part[0] : NULL;
    if (t == NULL)
        return apr_binding_shape(w->binding[0], role, dim, ndim);
    memcpy(dim, t->dim, sizeof t->dim);
    *ndim = t->ndim;
    return true;
}

static enum apr_code misshapen(struct matching *w, struct pair *p, const struct apr_role *role, const struct apr_tensor *t)
{
    char text[768], a[176], b[176];
    const struct apr_family *f = apr_binding_family(w->binding[0]);
    snprintf(text, sizeof text, "family %.*s, role %.*s: shape %s does not belong to %s %s (%s, line %u)", (int)f->name.n, (const char *)f->name.at,
             (int)role->name.n, (const char *)role->name.at, spell(p->a, a), t == p->a ? "this role, whose twin has" : "its twin's", spell(p->b, b), f->file,
             role->line);
    return keep(w, text, &p->problem);
}

/* Fills p->view: B's `n` tensors of the role, in w->part, in the order of A. */
static enum apr_code look_through(struct matching *w, struct pair *p, const struct apr_role *role, const struct apr_meaning *meaning_a, size_t n)
{
    struct apr_transform chain_a[APR_MAX_STEPS], chain_b[APR_MAX_STEPS];
    const struct apr_transform *const chain[2] = { chain_a, chain_b };
    size_t length[2];
    uint64_t dim[APR_MAX_DIMS] = { 0 };
    unsigned ndim;
    const enum apr_dialect dialect_b = apr_binding_dialect(w->binding[1], role, meaning_a->layer);
    struct apr_error why;
    if (apr_binding_chain(w->binding[0], role, meaning_a->dialect, chain_a, &length[0], &why) != APR_OK ||
        apr_binding_chain(w->binding[1], role, dialect_b, chain_b, &length[1], &why) != APR_OK)
        return keep(w, why.text, &p->problem);
    const uint64_t number = meaning_a->dialect == APR_HF ? 0 : meaning_a->part;
    if (!huggingface_shape(w, role, p->a, meaning_a, dialect_b, dim, &ndim) || !shape_fits(p->a, chain_a, length[0], number, dim, ndim))
        return misshapen(w, p, role, p->a);
    for (size_t i = 0; i < n; i++)
        if (!shape_fits(w->part[i], chain_b, length[1], dialect_b == APR_HF ? 0 : i, dim, ndim)) {
            p->b = w->part[i];
            return misshapen(w, p, role, w->part[i]);
        }
    APR_TRY(describe(w, p, chain, length));
    if (length[0] + length[1] == 0)
        return APR_OK;
    const struct apr_tensor **part = apr_arena_alloc(&w->m->arena, n * sizeof *part);
    struct apr_view *view = apr_arena_alloc(&w->m->arena, sizeof *view);
    if (part == NULL || view == NULL)
        return apr_no_memory(w->e);
    memcpy(part, w->part, n * sizeof *part);
    *view = apr_view_of(part, n, meaning_a->dialect == APR_HF ? meaning_a->expert : meaning_a->part);
    if (apr_view_back(view, chain_a, length[0], dim, ndim, &why) != APR_OK || apr_view_forth(view, chain_b, length[1], dim, ndim, &why) != APR_OK)
        return keep(w, why.text, &p->problem);
    struct apr_view *own = apr_arena_alloc(&w->m->arena, sizeof *own);
    if (own == NULL)
        return apr_no_memory(w->e);
    apr_view_exchange(view, own);
    p->view = view;
    p->own = own;
    return APR_OK;
}

/* Is a name of either side wanted? */
static enum apr_code wanted(const struct matching *w, struct apr_bytes a, const struct apr_tensor *const *part, size_t n, bool *yes)
{
    APR_TRY(apr_patterns_want(w->o->selection.filter, a, yes, w->e));
    for (size_t i = 0; !*yes && i < n; i++)
        APR_TRY(apr_patterns_want(w->o->selection.filter, part[i]->name, yes, w->e));
    return APR_OK;
}

/* Pairs t of A with B's tensors of the role, when B has them all; *found says so. */
static enum apr_code pair_role(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning, const struct apr_role *role,
                               struct apr_bytes name, bool *found)
{
    const size_t n = apr_binding_parts(w->binding[1], role, meaning->layer, w->part, MOST_TENSORS_OF_A_ROLE);
    bool yes;
    *found = n > 0;
    for (size_t i = 0; i < n; i++)
        w->taken[w->part[i] - w->model[1]->tensor] = true;
    if (n == 0)
        return APR_OK;
    APR_TRY(wanted(w, name, w->part, n, &yes));
    if (!yes)
        return APR_OK;
    struct pair *p = &w->m->pair[w->m->npair++];
    *p = (struct pair){ .a = t, .b = w->part[0], .name = name };
    return look_through(w, p, role, meaning, n);
}

/* ---- tied heads ----------------------------------------------------------------------------------------------------- */

static const struct apr_role *embedding_role(const struct matching *w)
{
    return apr_family_role(apr_binding_family(w->binding[0]), apr_text("token_embd"));
}

static bool is_head(const struct apr_binding *b, const struct apr_tensor *t, struct apr_meaning *meaning)
{
    return apr_binding_meaning(b, t, 0, meaning) && apr_bytes_is(meaning->role->name, "output");
}

/* A head of B where A has none of its own: A's embedding is its match. */
static enum apr_code pair_tied_head(struct matching *w, const struct apr_tensor *head, bool *found)
{
    const struct apr_tensor *embedding[1];
    struct apr_meaning meaning;
    *found = is_head(w->binding[1], head, &meaning) && apr_binding_tied(w->binding[0]) && apr_binding_may_tie(w->binding[1]) &&
             apr_binding_parts(w->binding[0], embedding_role(w), 0, embedding, 1) == 1;
    bool yes;
    if (!*found)
        return APR_OK;
    APR_TRY(wanted(w, embedding[0]->name, &head, 1, &yes));
    if (!yes)
        return APR_OK;
    /* a placeholder is a name for the embedding, so it goes by its own */
    w->m->pair[w->m->npair++] = (struct pair){ .a = embedding[0], .b = head, .name = head->tied ? head->name : embedding[0]->name };
    return APR_OK;
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
        for (size_t i = 0; !found && apr_binding_meaning(w->binding[0], t, i, &meaning); i++)
            APR_TRY(pair_role(w, t, &meaning, meaning.role, t->name, &found));
        if (!found && is_head(w->binding[0], t, &meaning) && apr_binding_tied(w->binding[1]) && apr_binding_may_tie(w->binding[0]))
            APR_TRY(pair_role(w, t, &meaning, embedding_role(w), t->name, &found));
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

static enum apr_code match_all(struct matching *w)
{
    const struct apr_model *a = w->model[0], *b = w->model[1];
    size_t nsame = 0;
    for (size_t i = 0; i < a->ntensor; i++) {
        const struct apr_tensor *t = &a->tensor[i], *match = apr_model_find(b, t->name);
        if (match == NULL)
            continue;
        w->taken[match - b->tensor] = true;
        nsame++;
        bool yes;
        APR_TRY(apr_patterns_want(w->o->selection.filter, t->name, &yes, w->e));
        w->m->pair[w->m->npair] = (struct pair){ .a = t, .b = match, .name = t->name };
        w->m->npair += yes;
    }
    if (nsame < a->ntensor || nsame < b->ntensor)
        APR_TRY(find_family(w));
    for (size_t i = 0; nsame < a->ntensor && i < a->ntensor; i++)
        if (apr_model_find(b, a->tensor[i].name) == NULL)
            APR_TRY(match_a(w, &a->tensor[i]));
    for (size_t i = 0; i < b->ntensor; i++)
        if (!w->taken[i])
            APR_TRY(match_b(w, &b->tensor[i]));
    return APR_OK;
}

/* The absence of a match fails the verdict, but not for what converters generate (one such name needs no family to be known) or drop, nor
 * for what a rule ignores. */
static enum apr_code mind_unmatched(const struct matching *w, int side, struct apr_bytes name)
{
    const struct bounds *rule;
    const struct apr_binding *b = w->binding[side];
    const struct apr_tensor *t = apr_model_find(w->model[side], name);
    struct apr_meaning meaning;
    const bool generated = apr_bytes_is(name, "rope_freqs.weight") ||
                           (b != NULL && apr_binding_meaning(b, t, 0, &meaning) && meaning.role->generated);
    const bool dropped = b != NULL && apr_binding_skips(b, t);
    APR_TRY(find_rule(&w->o->rules, name, name, &rule, w->e));
    w->m->unmatched |= !w->o->subset && !generated && !dropped && !(rule != NULL && rule->ignore);
    return APR_OK;
}

static int by_name(const void *a, const void *b) { return apr_bytes_compare(*(const struct apr_bytes *)a, *(const struct apr_bytes *)b); }

static int by_pair_name(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    const int order = apr_bytes_compare(x->name, y->name);
    return order != 0 ? order : apr_bytes_compare(x->b->name, y->b->name);
}

static uint64_t pair_bytes(const struct pair *p) { return p->a->data.n + (p->view == NULL ? p->b->data.n : p->a->data.n) + 1; }

/* Keeps the share of this part: pair p goes where the bytes before it fall when all of them are cut into nparts equal lengths. */
static void keep_part(struct match *m, uint64_t part, uint64_t nparts)
{
    uint64_t total = 0, before = 0;
    size_t kept = 0;
    for (size_t i = 0; i < m->npair; i++)
        total += pair_bytes(&m->pair[i]);
    for (size_t i = 0; i < m->npair; i++) {
        const uint64_t share = (uint64_t)((unsigned __int128)before * nparts / total) + 1;
        before += pair_bytes(&m->pair[i]);
        if (share == part)
            m->pair[kept++] = m->pair[i];
    }
    m->npair = kept;
}

enum apr_code match_models(struct match *m, const struct options *o, const struct apr_model *a, const struct apr_model *b, struct apr_error *e)
{
    *m = (struct match){ .pair = malloc((a->ntensor + b->ntensor + 1) * sizeof *m->pair),
                         .only_a = malloc((a->ntensor + 1) * sizeof *m->only_a),
                         .only_b = malloc((b->ntensor + 1) * sizeof *m->only_b) };
    struct matching w = { .m = m, .o = o, .model = { a, b }, .taken = calloc(b->ntensor + 1, sizeof *w.taken),
                          .part = malloc(MOST_TENSORS_OF_A_ROLE * sizeof *w.part), .e = e };
    const bool memory = w.taken != NULL && w.part != NULL && m->pair != NULL && m->only_a != NULL && m->only_b != NULL;
    enum apr_code code = memory ? match_all(&w) : apr_no_memory(e);
    if (code == APR_OK && o->selection.filter != NULL && m->npair + m->nonly_a + m->nonly_b == 0)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "no tensor matches the filter");
    for (size_t i = 0; code == APR_OK && i < m->nonly_a; i++)
        code = mind_unmatched(&w, 0, m->only_a[i]);
    for (size_t i = 0; code == APR_OK && i < m->nonly_b; i++)
        code = mind_unmatched(&w, 1, m->only_b[i]);
    free(w.taken);
    free(w.part);
    if (code != APR_OK) {
        free_match(m);
        return code;
    }
    qsort(m->pair, m->npair, sizeof *m->pair, by_pair_name);
    qsort(m->only_a, m->nonly_a, sizeof *m->only_a, by_name);
    qsort(m->only_b, m->nonly_b, sizeof *m->only_b, by_name);
    if (o->limit > 0 && m->npair > o->limit)
        m->npair = (size_t)o->limit;
    if (o->nparts > 0)
        keep_part(m, o->part, o->nparts);
    return APR_OK;
}
