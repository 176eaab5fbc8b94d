#include <assert.h>

#include "forward/sequence.h"

#define LITTLE_WORK 8192u /* numbers that one thread computes sooner than two agree on it */

void apr_share_work(struct apr_sequence *s, size_t n, uint64_t work, apr_task_fn *task, void *ctx)
{
    if (work > LITTLE_WORK)
        apr_team_do(s->team, n, task, ctx);
    else
        for (size_t i = 0; i < n; i++)
            task(ctx, i, 0);
}

enum apr_code apr_linear_products(struct apr_sequence *s, const struct apr_into *into, size_t ninto, const float *x, size_t n,
                                  struct apr_error *e)
{
    struct apr_product product[APR_INTO];
    size_t nproduct = 0;
    assert(ninto <= APR_INTO);
    for (size_t i = 0; i < ninto; i++) {
        const struct apr_matrix *const w = &into[i].linear->w;
        if (w->in == NULL)
            continue;
        if (s->observer != NULL && s->observer->product != NULL)
            APR_TRY(s->observer->product(s->observer->ctx, w, x, n, e));
        product[nproduct++] = (struct apr_product){ w, into[i].y, into[i].stride };
    }
    return apr_matrices_times(product, nproduct, s->team, x, n, e);
}

void apr_linear_bias(const struct apr_into *into, size_t ninto, size_t n)
{
    for (size_t i = 0; i < ninto; i++) {
        const float *const bias = into[i].linear->bias;
        if (bias == NULL)
            continue;
        for (size_t p = 0; p < n; p++) {
            float *const y = into[i].y + p * into[i].stride;
            for (size_t k = 0; k < into[i].linear->w.nout; k++)
                y[k] = apr_rounded((double)y[k] + bias[k]);
        }
    }
}

enum apr_code apr_linear_whole(struct apr_sequence *s, const struct apr_linear *l, const float *x, size_t n, float *y, struct apr_error *e)
{
    const struct apr_into into = { l, y, (size_t)l->w.nout };
    APR_TRY(apr_linear_products(s, &into, 1, x, n, e));
    apr_linear_bias(&into, 1, n);
    return APR_OK;
}
