/* A union of vocabularies: the tokens of the model whose words the result has, with their ids, then what others have beside them, model by
 * model. Rows of the embedding and of the head go by token. */
#include "merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "token/tokenizer_write.h"
#include "token/vocabulary_read.h"

/* ---- the vocabularies ----------------------------------------------------------------------------------------------- */

/* While it is made.
 *   first   the vocabulary of the reference; v: that of another, until its tokens are taken
 *   at      the number of each text in the union, of which there are n so far
 *   token   those that the reference has not, merge: those that lead to them; their texts are in the merge's arena */
struct uniting {
    struct merge          *m;
    struct apr_vocabulary  first, v;
    uint64_t               n;
    struct apr_table       at;
    struct apr_token      *token;
    struct apr_merge      *merge;
    size_t                 ntoken, token_room, nmerge, merge_room;
};

/* The embedding, which also is the head where there is none; or NULL. */
static const struct apr_wish *embedding_of(const struct model *model)
{
    for (size_t i = 0; i < model->wishes.n; i++)
        if (is_vocabulary(&model->wishes.wish[i]) && model->wishes.wish[i].ndim == 2)
            return &model->wishes.wish[i];
    return NULL;
}

/* Does a token stand for its text, and has it a row? */
static bool counts(const struct apr_vocabulary *v, const struct apr_token *t, uint64_t rows)
{
    return t->id < rows && t->type != APR_TOKEN_UNUSED && apr_vocabulary_find(v, t->text) == t;
}

static bool is_bytewise(const struct apr_vocabulary *v)
{
    return v->from != APR_FROM_TOKENIZER_JSON || apr_bytes_have(v->decoder, "ByteLevel") || apr_bytes_have(v->pre_tokenizer, "ByteLevel");
}

static enum apr_code check_kind(const struct uniting *u, size_t i, const struct apr_vocabulary *v, struct apr_error *e)
{
    static const char *const words[] = { "BPE", "SentencePiece's BPE", "Unigram", "WordPiece" };
    const struct config *const c = &u->m->config;
    const char *const path = c->model[i].path, *const reference = c->model[u->m->reference].path;
    const struct apr_vocabulary *const first = &u->first;
    if (v->ntoken == 0 || v->kind < APR_VOCABULARY_BPE || v->kind > APR_VOCABULARY_WORDPIECE)
        return fail_at(c, c->unite, e, "%s has no vocabulary that can be united with others: %s", path,
                       v->ntoken == 0 ? "it has none" : (const char *)APR_QUOTED(v->model));
    if (v->kind != first->kind)
        return fail_at(c, c->unite, e, "the vocabulary of %s is a %s, that of %s a %s: there is no union of them", path,
                       words[v->kind - 1], reference, words[first->kind - 1]);
    if (v->kind != APR_VOCABULARY_BPE || (is_bytewise(v) == is_bytewise(first) && apr_bytes_equal(v->suffix, first->suffix)))
        return APR_OK;
    return fail_at(c, c->unite, e, "the tokens of %s stand for other bytes than those of %s: there is no union of them", path, reference);
}

static enum apr_code read_vocabulary(struct uniting *u, size_t i, struct apr_vocabulary *v, struct apr_error *e)
{
    bool words = false;
    APR_TRY(apr_vocabulary_read(v, u->m->model[i].opened, &u->m->o->c.cli.run, e));
    APR_TRY(check_kind(u, i, v, e));
    for (size_t k = 0; k < v->ntoken && v->kind == APR_VOCABULARY_WORDPIECE; k++)
        words |= apr_bytes_have(v->token[k].text, "\u2581");
    if (words) {
        apr_table_free(&v->by_text);
        APR_TRY(apr_spell_words(v, e));
    }
    return apr_vocabulary_index(v, e);
}

/* ---- their union ---------------------------------------------------------------------------------------------------- */

/* The reference's keep their ids, whatever lies between them. */
static enum apr_code take_first(struct uniting *u, uint64_t rows, struct united_model *of, struct apr_error *e)
{
    const struct apr_vocabulary *const v = &u->first;
    bool fresh;
    for (size_t k = 0; k < v->ntoken; k++) {
        const struct apr_token *const t = &v->token[k];
        union apr_table_value *const at = counts(v, t, rows) ? apr_table_put(&u->at, t->text, &fresh) : NULL;
        if (at != NULL)
            u->n = 1 + (at->number = t->id);
        else if (counts(v, t, rows))
            return apr_no_memory(e);
    }
    *of = (struct united_model){ .n = u->n };
    return APR_OK;
}

static enum apr_code add_token(struct uniting *u, struct apr_token t, struct apr_error *e)
{
    struct apr_token *const grown = apr_grown(u->token, &u->token_room, u->ntoken, 256, sizeof *grown);
    bool fresh;
    if (grown != NULL)
        u->token = grown;
    t.text = apr_arena_copy(&u->m->arena, t.text);
    union apr_table_value *const at = t.text.at == NULL ? NULL : apr_table_put(&u->at, t.text, &fresh);
    if (grown == NULL || at == NULL)
        return apr_no_memory(e);
    if (u->n >= APR_MOST_TOKENS)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a union of more than %llu tokens", (unsigned long long)APR_MOST_TOKENS);
    t.id = (uint32_t)(at->number = u->n++);
    u->token[u->ntoken++] = t;
    return APR_OK;
}

/* Tokens of another, and where they lie in it. None of them comes later: the list is as long as the union is then. */
static enum apr_code take_tokens(struct uniting *u, uint64_t rows, struct united_model *of, struct apr_error *e)
{
    const struct apr_vocabulary *const v = &u->v;
    const uint64_t most = u->n + v->ntoken;
    of->row = apr_arena_alloc(&u->m->arena, most * sizeof *of->row);
    if (of->row == NULL)
        return apr_no_memory(e);
    for (uint64_t id = 0; id < most; id++)
        of->row[id] = UINT32_MAX;
    for (size_t k = 0; k < v->ntoken; k++) {
        const struct apr_token *const t = &v->token[k];
        if (!counts(v, t, rows))
            continue;
        if (apr_table_find(&u->at, t->text) == NULL)
            APR_TRY(add_token(u, *t, e));
        of->row[apr_table_find(&u->at, t->text)->number] = t->id;
    }
    of->n = u->n;
    return APR_OK;
}

/* Merges whose parts are tokens, and make one that has come with this model, from number `first` on. */
static enum apr_code take_merges(struct uniting *u, uint64_t first, struct apr_error *e)
{
    struct apr_vocabulary *const v = &u->v;
    for (size_t k = 0; k < v->nmerge && v->kind == APR_VOCABULARY_BPE && first < u->n; k++) {
        struct apr_merge m = v->merge[k];
        const struct apr_token *const whole = apr_vocabulary_join(v, &m);
        const union apr_table_value *const at = whole == NULL ? NULL : apr_table_find(&u->at, whole->text);
        if (at == NULL || at->number < first || apr_table_find(&u->at, m.left) == NULL || apr_table_find(&u->at, m.right) == NULL)
            continue;
        struct apr_merge *const grown = apr_grown(u->merge, &u->merge_room, u->nmerge, 256, sizeof *grown);
        if (grown != NULL)
            u->merge = grown;
        m.left = apr_arena_copy(&u->m->arena, m.left);
        m.right = apr_arena_copy(&u->m->arena, m.right);
        if (grown == NULL || m.left.at == NULL || m.right.at == NULL)
            return apr_no_memory(e);
        u->merge[u->nmerge++] = m;
    }
    return APR_OK;
}

static enum apr_code make_files(struct uniting *u, uint64_t first, struct apr_error *e)
{
    struct merge *const m = u->m;
    const struct model *const reference = &m->model[m->reference];
    const struct apr_run *const r = &m->o->c.cli.run;
    const struct apr_vocabulary *const v = &u->first;
    struct apr_more_tokens more = { first, u->token, u->merge, u->ntoken, u->nmerge };
    if (v->kind == APR_VOCABULARY_SPM) {
        more.merge = v->merge;
        more.nmerge = v->nmerge;
    }
    struct apr_side side = { 0 };
    struct apr_tokenizer t = { .m = reference->opened, .b = reference->binding, .side = &side };
    enum apr_code code = apr_side_of(&side, reference->opened, r, e);
    if (code == APR_OK)
        code = apr_tokenizer_extended(&m->united.files, &t, &more, r, e);
    apr_side_end(&side);
    if (code != APR_OK)
        apr_error_in(e, reference->said->path);
    else
        m->o->c.tokenizer_files = &m->united.files;
    return code;
}

static enum apr_code take_model(struct uniting *u, size_t i, struct apr_error *e)
{
    const struct apr_wish *const embedding = embedding_of(&u->m->model[i]);
    const uint64_t rows = embedding == NULL ? APR_MOST_TOKENS : apr_min(embedding->dim[0], APR_MOST_TOKENS), first = u->n;
    struct united_model *const of = &u->m->united.of[i];
    const bool reference = i == u->m->reference;
    enum apr_code code = read_vocabulary(u, i, reference ? &u->first : &u->v, e);
    if (code == APR_OK)
        code = reference ? take_first(u, rows, of, e) : take_tokens(u, rows, of, e);
    if (code == APR_OK && !reference)
        code = take_merges(u, first, e);
    apr_vocabulary_end(&u->v);
    if (code != APR_OK)
        apr_error_in(e, u->m->config.model[i].path);
    return code;
}

static enum apr_code unite(struct uniting *u, struct apr_error *e)
{
    struct merge *const m = u->m;
    m->united.of = apr_arena_alloc(&m->arena, m->config.nmodel * sizeof *m->united.of);
    if (m->united.of == NULL)
        return apr_no_memory(e);
    APR_TRY(take_model(u, m->reference, e));
    const uint64_t first = u->n;
    for (size_t i = 0; i < m->config.nmodel; i++)
        if (i != m->reference)
            APR_TRY(take_model(u, i, e));
    m->united.n = u->n;
    return u->n == first && first == u->first.size ? APR_OK : make_files(u, first, e);
}

enum apr_code unite_vocabularies(struct merge *m, struct apr_error *e)
{
    struct uniting u = { .m = m };
    const enum apr_code code = unite(&u, e);
    apr_vocabulary_end(&u.first);
    apr_table_free(&u.at);
    free(u.token);
    free(u.merge);
    return code;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

/* A model's tensor with a row for each token of the union.
 *   from    of each model what it has of that tensor, or NULL
 *   merged  of each model: whether it is merged here
 *   base    its number, or NONE; ncol: of one row */
struct united_rows {
    struct apr_computation  c;
    const struct united    *u;
    const struct apr_wish **from;
    bool                   *merged, wide;
    size_t                  nmodel, model, base;
    uint64_t                ncol;
};

/* The row of a token in model i; UINT32_MAX: it has none. */
static uint32_t row_in(const struct united_rows *t, size_t i, uint64_t token)
{
    const struct united_model *const of = &t->u->of[i];
    const uint64_t row = token >= of->n ? UINT32_MAX : of->row == NULL ? token : of->row[token];
    return t->from[i] != NULL && row < t->from[i]->dim[0] ? (uint32_t)row : UINT32_MAX;
}

/* The mean of those that have the token, of what is merged here or of all; false: none has it. */
static bool read_mean(const struct united_rows *t, bool all, struct apr_window *w, uint64_t token, uint64_t col, size_t n, double *x)
{
    double one[APR_STRETCH], count = 0;
    memset(x, 0, n * sizeof *x);
    for (size_t i = 0; i < t->nmodel; i++) {
        const uint32_t row = all || t->merged[i] ? row_in(t, i, token) : UINT32_MAX;
        if (row == UINT32_MAX)
            continue;
        apr_input_doubles(t->from[i]->in, w, row * t->ncol + col, n, one);
        for (size_t k = 0; k < n; k++)
            x[k] += one[k];
        count++;
    }
    for (size_t k = 0; k < n && count > 0; k++)
        x[k] /= count;
    return count > 0;
}

/* Columns [col, col + n) of a token: the model's own, else the base's, else of those that have it. */
static void read_token(const struct united_rows *t, struct apr_window *w, uint64_t token, uint64_t col, size_t n, double *x)
{
    size_t i = t->model;
    if (row_in(t, i, token) == UINT32_MAX)
        i = t->base;
    if (i != NONE && row_in(t, i, token) != UINT32_MAX)
        apr_input_doubles(t->from[i]->in, w, row_in(t, i, token) * t->ncol + col, n, x);
    else if (!read_mean(t, false, w, token, col, n, x))
        read_mean(t, true, w, token, col, n, x);
}

static void united_values(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out)
{
    const struct united_rows *const t = (const struct united_rows *)(const void *)c;
    double x[APR_STRETCH];
    for (size_t at = 0, now; at < n; at += now) {
        const uint64_t col = (first + at) % t->ncol;
        now = (size_t)apr_min(n - at, t->ncol - col);
        read_token(t, w, (first + at) / t->ncol, col, now, x + at);
    }
    if (t->wide)
        memcpy(out, x, n * sizeof *x);
    else
        for (size_t i = 0; i < n; i++)
            ((float *)out)[i] = (float)x[i];
}

static enum apr_code find_parts(struct merge *m, const struct slice *s, const struct apr_wish *x, struct united_rows *t,
                                struct apr_error *e)
{
    t->from = apr_arena_alloc(&m->arena, t->nmodel * sizeof *t->from);
    t->merged = apr_arena_alloc(&m->arena, t->nmodel * sizeof *t->merged);
    if (t->from == NULL || t->merged == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < t->nmodel; i++) {
        const struct apr_wish *w = wish_called(&m->model[i], x->name);
        if (w == NULL && x->ndim == 2)
            w = embedding_of(&m->model[i]);
        const bool fits = w != NULL && w->values == NULL && w->ndim == x->ndim && (x->ndim == 1 || w->dim[1] == x->dim[1]);
        t->from[i] = fits && w->in->decodable ? w : NULL;
        t->merged[i] = i == t->base;
    }
    for (size_t i = 0; i < s->npart; i++)
        t->merged[s->part[i].model] = true;
    return APR_OK;
}

enum apr_code unite_rows(struct merge *m, const struct slice *s, size_t model, const struct apr_wish **wish, struct apr_error *e)
{
    const struct apr_wish *const x = *wish, *const embedding = embedding_of(&m->model[model]);
    struct united_rows *const t = apr_arena_alloc(&m->arena, sizeof *t);
    struct apr_wish *const w = apr_arena_alloc(&m->arena, sizeof *w);
    const bool bias = x->ndim == 1 && embedding != NULL && x->dim[0] == embedding->dim[0];
    if (!is_vocabulary(x) || (x->ndim != 2 && !bias) || !x->in->decodable)
        return APR_OK;
    if (t == NULL || w == NULL)
        return apr_no_memory(e);
    *t = (struct united_rows){ .c = { .values = united_values }, .u = &m->united, .nmodel = m->config.nmodel, .model = model,
                               .base = s->base, .ncol = x->ndim == 1 ? 1 : x->dim[1] };
    APR_TRY(find_parts(m, s, x, t, e));
    *w = *x;
    w->dim[0] = m->united.n;
    if (!apr_mul(w->dim[0], t->ncol, &w->count))
        return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, x->name, ": no file holds so many elements");
    struct apr_tensor one = { .name = x->name, .dtype = float_of(x), .ndim = x->ndim, .dim = { w->dim[0], x->dim[1] }, .count = w->count,
                              .row = w->count, .computed = &t->c };
    t->wide = one.dtype->wide;
    const struct apr_input in = apr_input_of(m->o->c.cli.run.kernels, m->model[model].m, &one);
    w->in = apr_input_keep(&m->arena, &in);
    *wish = w;
    return w->in == NULL ? apr_no_memory(e) : APR_OK;
}
