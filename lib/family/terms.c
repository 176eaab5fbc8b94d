#include "family/terms.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

/* ---- where a value stands --------------------------------------------------------------------------------------------- */

static bool is_key(const struct apr_kv *k, struct apr_bytes name)
{
    const size_t skip = k->own && k->key.n > 0;
    return apr_bytes_equal((struct apr_bytes){ k->key.at + skip, k->key.n - skip }, name);
}

static bool goes_with(const struct apr_kv *k, struct apr_bytes name)
{
    return is_key(k, name) || apr_bytes_equal(k->hf, name) || apr_bytes_equal(k->apr, name) || apr_words_hold(&k->value.word, name);
}

struct apr_bytes apr_term_place(const struct apr_binding *b, struct apr_bytes name)
{
    const struct apr_family *const f = apr_binding_family(b);
    const struct apr_dim *const d = apr_family_dim(f, name);
    struct apr_result ignored;
    struct apr_bytes key = d == NULL ? (struct apr_bytes){ 0 } : apr_binding_states_dim(b, d).key;
    if (d == NULL && apr_binding_stands(b, name, &ignored) != APR_STANDS_NOWHERE)
        return name;
    for (size_t i = 0; i < f->nkv && key.n == 0; i++)
        if (d != NULL ? f->kv[i].fills == d : goes_with(&f->kv[i], name))
            key = apr_binding_states(b, &f->kv[i]).key;
    return key.n > 0 ? key : name;
}

/* "LIST.7" of a list that is too short for it, or of what is none. */
static bool lacks_element(const struct apr_binding *b, struct apr_bytes name)
{
    struct apr_result list;
    size_t n = name.n;
    while (n > 0 && name.at[n - 1] >= '0' && name.at[n - 1] <= '9')
        n--;
    if (n == name.n || n < 2 || name.at[n - 1] != '.')
        return false;
    const enum apr_standing place = apr_binding_stands(b, apr_term_place(b, (struct apr_bytes){ name.at, n - 1 }), &list);
    return place == APR_STANDS_IN_CONFIG || (place == APR_STANDS_IN_METADATA && !list.known);
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

#define MOST_TOLD 4  /* that a message names */
#define PATH_ROOM 96

/* What a term was worked out of: paths and keys, in the order in which they were asked for. */
struct told {
    char   path[MOST_TOLD][PATH_ROOM];
    size_t n;
};

/* One asking: told is NULL where nobody wants to know. A term that others name is worked out once, however often they do. */
struct asked {
    const struct apr_binding *b;
    uint64_t                  layer;
    struct told              *told;
    bool                      known[APR_NTERMS];
    struct apr_result         value[APR_NTERMS];
};

static void note(struct told *t, const struct apr_binding *b, struct apr_bytes place)
{
    struct apr_result ignored;
    if (t->n == MOST_TOLD || place.n >= PATH_ROOM || apr_binding_stands(b, place, &ignored) == APR_STANDS_NOWHERE)
        return;
    for (size_t i = 0; i < t->n; i++)
        if (apr_bytes_is(place, t->path[i]))
            return;
    snprintf(t->path[t->n++], PATH_ROOM, "%.*s", APR_PRINTED(place));
}

#define MOST_NOTED 1000 /* names that are looked at for a message */

/* Of a dim that is a formula: what that is of. */
struct noting {
    struct told              *told;
    const struct apr_binding *b;
    unsigned                  depth, left;
};

static bool note_name(void *ctx, struct apr_bytes name)
{
    struct noting *const x = ctx;
    const struct apr_dim *const d = apr_family_dim(apr_binding_family(x->b), name);
    const size_t before = x->told->n;
    if (x->left == 0)
        return false;
    x->left--;
    note(x->told, x->b, apr_term_place(x->b, name));
    if (d == NULL || d->value == NULL || x->told->n > before || x->depth == 0)
        return true;
    x->depth--;
    apr_expr_names(d->value, note_name, x);
    x->depth++;
    return true;
}

static void note_word(const struct asked *a, struct apr_bytes name)
{
    if (a->told != NULL)
        note_name(&(struct noting){ a->told, a->b, MOST_TOLD, MOST_NOTED }, name);
}

/* Terms name only those above them, so this ends. */
static struct apr_result value_of(struct asked *a, enum apr_term term);

static struct apr_result value(void *ctx, struct apr_bytes name)
{
    struct asked *const a = ctx;
    const struct apr_family *const f = apr_binding_family(a->b);
    if (apr_bytes_is(name, "layer"))
        return (struct apr_result){ .known = true, .number = (double)a->layer };
    if (apr_family_dim(f, name) == NULL)
        for (unsigned i = 0; i < APR_NTERMS; i++)
            if (f->term[i] != NULL && apr_bytes_is(name, apr_term_words[i]))
                return value_of(a, (enum apr_term)i);
    note_word(a, name);
    return apr_binding_word(a->b, name);
}

/* What stands there and is neither a number nor a text is wrong, and not as good as absent. */
static struct apr_result path(void *ctx, struct apr_bytes name)
{
    const struct asked *const a = ctx;
    struct apr_result stored, r = apr_binding_word(a->b, name);
    note_word(a, name);
    if (apr_family_dim(apr_binding_family(a->b), name) != NULL)
        return r;
    if (apr_binding_stands(a->b, apr_term_place(a->b, name), &stored) == APR_STANDS_IN_CONFIG && !stored.known)
        r = (struct apr_result){ .wrong = true };
    r.wrong |= !r.known && lacks_element(a->b, name);
    return r;
}

static bool has(void *ctx, struct apr_bytes name)
{
    const struct asked *a = ctx;
    return apr_binding_has(a->b, name);
}

static struct apr_result value_of(struct asked *a, enum apr_term term)
{
    const struct apr_scope scope = { value, has, a, path };
    const struct apr_expr *const x = apr_binding_family(a->b)->term[term];
    if (!a->known[term]) {
        a->known[term] = true; /* should it name itself, it is not known */
        a->value[term] = x == NULL ? (struct apr_result){ 0 } : apr_expr_value(x, &scope);
    }
    return a->value[term];
}

static struct apr_result ask(const struct apr_binding *b, enum apr_term term, uint64_t layer, struct told *told)
{
    struct asked a = { .b = b, .layer = layer, .told = told };
    return value_of(&a, term);
}

struct apr_result apr_term(const struct apr_binding *b, enum apr_term term, uint64_t layer) { return ask(b, term, layer, NULL); }

/* ---- what cannot be meant --------------------------------------------------------------------------------------------- */

/* ": "KEY" is VALUE", of all that were told. */
static void put_told(const struct apr_binding *b, const struct told *t, char *out, size_t room)
{
    struct apr_result v;
    size_t at = 0;
    *out = '\0';
    for (size_t i = 0; i < t->n && at < room; i++) {
        const struct apr_bytes path = apr_text(t->path[i]);
        apr_binding_stands(b, path, &v);
        at += (size_t)snprintf(out + at, room - at, "%s%s is ", i == 0 ? ": " : ", ", APR_QUOTED(path));
        if (at < room && !v.known)
            at += (size_t)snprintf(out + at, room - at, "neither a number nor a text");
        else if (at < room && v.text.at != NULL)
            at += (size_t)snprintf(out + at, room - at, "%s", APR_QUOTED(v.text));
        else if (at < room)
            at += (size_t)snprintf(out + at, room - at, "%.9g", v.number);
    }
}

enum apr_code apr_term_refuse(const struct apr_binding *b, enum apr_term term, uint64_t layer, const char *wanted, struct apr_error *e)
{
    char said[600], comes_to[64] = "nothing that can be meant";
    struct told told = { .n = 0 };
    const struct apr_result r = ask(b, term, layer, &told);
    put_told(b, &told, said, sizeof said);
    if (r.known && r.text.at != NULL)
        snprintf(comes_to, sizeof comes_to, "a text");
    else if (r.known)
        snprintf(comes_to, sizeof comes_to, "%.9g", r.number);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "`%s` of family %.*s comes to %s, where %s should stand%s", apr_term_words[term],
                    APR_PRINTED(apr_binding_family(b)->name), comes_to, wanted, said);
}

const char *apr_bounds_wanted(enum apr_bounds range, double v)
{
    if (range == APR_ABOVE_0 && !(v > 0))
        return "a number above 0";
    return range == APR_FROM_0 && !(v >= 0) ? "a number from 0 on" : NULL;
}

enum apr_code apr_term_number(const struct apr_binding *b, enum apr_term term, uint64_t layer, double otherwise, double *out,
                              struct apr_error *e)
{
    static const enum apr_bounds ranges[APR_NTERMS] = {
        [APR_TERM_EPS] = APR_ABOVE_0, [APR_TERM_EMBED_SCALE] = APR_ABOVE_0, [APR_TERM_RESIDUAL_SCALE] = APR_ABOVE_0,
        [APR_TERM_LOGIT_SCALE] = APR_ABOVE_0, [APR_TERM_ATTN_SCALE] = APR_ABOVE_0, [APR_TERM_LOGIT_CAP] = APR_FROM_0,
        [APR_TERM_ATTN_CAP] = APR_FROM_0, [APR_TERM_TEMPERATURE] = APR_FROM_0, [APR_TERM_ROPE_BASE] = APR_ABOVE_0,
        [APR_TERM_ROPE_FACTOR] = APR_ABOVE_0, [APR_TERM_ROPE_ORIGINAL] = APR_ABOVE_0, [APR_TERM_ROPE_SCALE] = APR_ABOVE_0,
        [APR_TERM_EXPERT_SCALE] = APR_ABOVE_0,
    };
    const struct apr_result r = apr_term(b, term, layer);
    *out = otherwise;
    if (!r.known)
        return r.wrong ? apr_term_refuse(b, term, layer, "a number", e) : APR_OK;
    if (r.text.at != NULL)
        return apr_term_refuse(b, term, layer, "a number", e);
    const char *const wanted = apr_bounds_wanted(ranges[term], r.number);
    *out = r.number;
    return wanted == NULL ? APR_OK : apr_term_refuse(b, term, layer, wanted, e);
}

enum apr_code apr_term_text(const struct apr_binding *b, enum apr_term term, uint64_t layer, struct apr_bytes *out, struct apr_error *e)
{
    const struct apr_result r = apr_term(b, term, layer);
    *out = r.text;
    return r.wrong || (r.known && r.text.at == NULL) ? apr_term_refuse(b, term, layer, "a text", e) : APR_OK;
}

struct sought {
    struct apr_bytes path;
    bool             found;
};

static bool seek(void *ctx, struct apr_bytes path)
{
    struct sought *const s = ctx;
    s->found = s->found || apr_bytes_equal(s->path, path);
    return !s->found;
}

/* Does the contract ask for the elements of a list there, so that one may stand in the stead of a number? */
static bool goes_by_layers(const struct apr_family *f, struct apr_bytes path)
{
    struct sought s = { path, false };
    for (unsigned i = 0; i < APR_NTERMS && !s.found; i++)
        if (f->term[i] != NULL)
            apr_expr_values(f->term[i], seek, &s);
    for (size_t i = 0; i < f->nrole && !s.found; i++)
        if (f->role[i].where != NULL)
            apr_expr_values(f->role[i].where, seek, &s);
    return s.found;
}

/* Is what stands at that path of another kind than the dim? *told: it is the dim's value. */
static bool misfits(const struct apr_binding *b, const struct apr_dim *d, struct apr_bytes path, bool *told)
{
    const struct apr_family *const f = apr_binding_family(b);
    struct apr_result v;
    double largest;
    const enum apr_standing place = apr_binding_stands(b, path, &v);
    *told = place != APR_STANDS_NOWHERE;
    if (!v.known && !d->text && goes_by_layers(f, path) && apr_binding_listed(b, path, &largest))
        return false;
    return v.known ? (v.text.at != NULL) != d->text : place == APR_STANDS_IN_CONFIG;
}

/* The path or key that a dim misfits; empty: none. A path counts even where another one comes before it. */
static struct apr_bytes misfit(const struct apr_binding *b, const struct apr_dim *d)
{
    const struct apr_family *const f = apr_binding_family(b);
    bool told = false;
    for (size_t i = 0; i < d->key.n; i++) {
        bool stands;
        if (misfits(b, d, d->key.word[i], &stands))
            return d->key.word[i];
        told |= stands;
    }
    for (size_t i = 0; i < f->nkv && !told; i++) {
        const struct apr_bytes key = f->kv[i].fills == d ? apr_binding_states(b, &f->kv[i]).key : (struct apr_bytes){ 0 };
        if (key.n > 0 && misfits(b, d, key, &told))
            return key;
    }
    return (struct apr_bytes){ 0 };
}

enum apr_code apr_terms_check(const struct apr_binding *b, struct apr_error *e)
{
    const struct apr_family *const f = apr_binding_family(b);
    for (size_t i = 0; i < f->ndim; i++) {
        char said[600];
        struct told told = { .n = 0 };
        const struct apr_bytes path = misfit(b, &f->dim[i]);
        if (path.n == 0)
            continue;
        note(&told, b, path);
        put_told(b, &told, said, sizeof said);
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%.*s of family %.*s should be %s%s", APR_PRINTED(f->dim[i].name), APR_PRINTED(f->name),
                        f->dim[i].text ? "a text" : "a number", said);
    }
    return APR_OK;
}

/* ---- what nothing tells ----------------------------------------------------------------------------------------------- */

/* The first dim that an expression needs and nothing tells. */
struct want {
    const struct apr_binding *b;
    const struct apr_dim     *dim;
};

static bool look(void *ctx, struct apr_bytes name)
{
    struct want *w = ctx;
    const struct apr_dim *const d = apr_family_dim(apr_binding_family(w->b), name);
    if (d == NULL || apr_binding_word(w->b, name).known)
        return true;
    w->dim = d;
    if (d->key.n == 0 && d->value != NULL) /* a formula: what it is of */
        apr_expr_names(d->value, look, w);
    return false;
}

enum apr_code apr_term_unknown(const struct apr_binding *b, enum apr_term term, struct apr_error *e)
{
    const struct apr_family *const f = apr_binding_family(b);
    const struct apr_kv *kv = NULL;
    struct want w = { .b = b };
    if (f->term[term] != NULL)
        apr_expr_names(f->term[term], look, &w);
    for (size_t i = 0; i < f->nkv && w.dim != NULL && kv == NULL; i++)
        kv = f->kv[i].fills == w.dim ? &f->kv[i] : NULL;
    if (w.dim == NULL || w.dim->key.n == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "nothing tells `%s`, which the forward pass of family %.*s needs", apr_term_words[term],
                        APR_PRINTED(f->name));
    return apr_fail(e, APR_EARG, APR_NOWHERE,
                    "nothing tells `%s`, which the forward pass of family %.*s needs: \"%.*s\" in config.json%s%.*s", apr_term_words[term],
                    APR_PRINTED(f->name), APR_PRINTED(w.dim->key.word[0]), kv == NULL ? "" : ", or the key ARCHITECTURE",
                    APR_PRINTED(kv == NULL ? apr_text("") : kv->key));
}
