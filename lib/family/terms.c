#include "family/terms.h"

#include "base/bytes.h"

struct asked {
    const struct apr_binding *b;
    uint64_t                  layer;
};

static struct apr_result value(void *ctx, struct apr_bytes name)
{
    const struct asked *a = ctx;
    const struct apr_family *const f = apr_binding_family(a->b);
    if (apr_bytes_is(name, "layer"))
        return (struct apr_result){ .known = true, .number = (double)a->layer };
    for (unsigned i = 0; i < APR_NTERMS && apr_family_dim(f, name) == NULL; i++)
        if (f->term[i] != NULL && apr_bytes_is(name, apr_term_words[i]))
            return apr_term(a->b, (enum apr_term)i, a->layer);
    return apr_binding_word(a->b, name);
}

static bool has(void *ctx, struct apr_bytes path)
{
    const struct asked *a = ctx;
    return apr_binding_has(a->b, path);
}

/* Terms name only those above them, so this ends. */
struct apr_result apr_term(const struct apr_binding *b, enum apr_term term, uint64_t layer)
{
    struct asked a = { b, layer };
    const struct apr_scope scope = { value, has, &a };
    const struct apr_expr *const x = apr_binding_family(b)->term[term];
    return x == NULL ? (struct apr_result){ 0 } : apr_expr_value(x, &scope);
}

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
