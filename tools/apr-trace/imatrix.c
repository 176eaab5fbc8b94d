/* --imatrix: which columns of the matrices have most to do, for those who quantize. */
#include <stdlib.h>

#include "judgement.h"
#include "model/model.h"

enum apr_code need_importance(struct trace *t, struct judgement *g, struct apr_error *e)
{
    return g->importance != NULL ? APR_OK : apr_importance_new(&g->importance, t->engine.net, e);
}

bool wants_products(const struct judging *j) { return j->imatrix != NULL && j->perplexity == NULL; }

enum apr_code take_product(void *ctx, const struct apr_matrix *w, const float *x, size_t n, struct apr_error *e)
{
    struct trace *const t = ctx;
    struct judgement *const g = judgement_of(t);
    if (g == NULL)
        return apr_no_memory(e);
    APR_TRY(need_importance(t, g, e));
    return apr_importance_add(g->importance, w, x, n, e);
}

/* Nothing is written of a model that changed meanwhile. */
enum apr_code write_importance(struct trace *t, struct judgement *g, struct apr_error *e)
{
    const struct judging *const j = &t->o->judging;
    g->chunks = g->judged ? apr_windows_count(&g->window) : 1;
    g->chunk_size = g->judged ? g->window.length : positions_of(t);
    APR_TRY(apr_model_unchanged(t->engine.m, e));
    APR_TRY(need_importance(t, g, e));
    g->nmatrix = apr_importance_count(g->importance);
    APR_TRY(apr_importance_write(g->importance, j->imatrix, j->perplexity, g->chunks, g->chunk_size, &t->o->cli.run, e));
    g->written = true;
    return APR_OK;
}
