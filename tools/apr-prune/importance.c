/* How much comes in at each column: from an importance matrix. */
#include <math.h>

#include "base/bytes.h"
#include "prune.h"

/* Of how many inputs all matrices of the stack are. */
static uint64_t inputs_of_all(const struct matrix *x) { return x->turned ? x->nrow : x->nrow / x->high * x->ncol; }

/* Where the matrix begins in the entry: a checkpoint's expert is one of a stack there. */
static enum apr_code place_in(const struct pruning *p, const struct matrix *x, const struct apr_imatrix_entry *entry, uint64_t *first,
                              struct apr_error *e)
{
    struct apr_meaning s;
    const uint64_t all = inputs_of_all(x), one = inputs_of(x);
    *first = 0;
    if (entry->n == all)
        return APR_OK;
    if (all == one && entry->n % one == 0 && p->binding != NULL && apr_binding_meaning(p->binding, x->t, 0, &s) &&
        s.expert < entry->n / one) {
        *first = s.expert * one;
        return APR_OK;
    }
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->t->name, " has %llu inputs, the imatrix's %s %llu", (unsigned long long)all,
                           APR_QUOTED(entry->name), (unsigned long long)entry->n);
}

static enum apr_code read_entry(struct pruning *p, struct matrix *x, const struct apr_imatrix_entry *entry, struct apr_error *e)
{
    const uint64_t n = inputs_of_all(x);
    uint64_t first;
    APR_TRY(place_in(p, x, entry, &first, e));
    float *const rms = n > SIZE_MAX / sizeof *rms ? NULL : apr_arena_alloc(&p->arena, (size_t)n * sizeof *rms);
    if (rms == NULL)
        return apr_no_memory(e);
    apr_imatrix_weights(entry, first, n, rms);
    for (uint64_t i = 0; i < n; i++)
        rms[i] = sqrtf(rms[i]);
    x->rms = rms;
    return APR_OK;
}

enum apr_code read_importance(struct pruning *p, struct apr_error *e)
{
    const struct options *const o = p->o;
    if (o->imatrix == NULL)
        return APR_OK;
    enum apr_code code = apr_imatrix_open(&p->imatrix, o->imatrix, &o->to.cli.run, e);
    for (size_t i = 0; i < p->nmatrix && code == APR_OK; i++) {
        struct matrix *const x = &p->matrix[i];
        const struct apr_imatrix_entry *const entry = apr_imatrix_find(p->imatrix, x->gguf);
        if (entry != NULL)
            code = read_entry(p, x, entry, e);
        else if (o->method == WANDA)
            code = apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->t->name, ": there is no %s in the imatrix", APR_QUOTED(x->gguf));
    }
    if (code == APR_OK)
        code = apr_imatrix_unchanged(p->imatrix, e);
    if (code != APR_OK)
        apr_error_in(e, o->imatrix);
    return code;
}
