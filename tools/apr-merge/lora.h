/* Adapters of low rank: a model with one on it is a model again, some of whose tensors are computed. */
#ifndef APR_MERGE_LORA_H
#define APR_MERGE_LORA_H

#include "merge.h"

/* A tensor of the model with the adapter: w + factor B A.
 *   w        the model's, or what the adapter has in its place
 *   a, b     [rank, in], [out, rank]; absent where rank is 0
 *   turned   w is [in, out]
 *   target   DoRA: the norms that the rows [out] of the new matrix get; by: what they are multiplied by for that, once it is measured */
struct adapted {
    struct apr_computation  c;
    const struct apr_input *w, *a, *b, *target;
    double                  factor;
    double                 *by;
    uint64_t                rank, nrow, ncol;
    bool                    turned, wide;
    struct apr_bytes        name;
};

/* One adapter on a model, which begins as it was: `wishes` are its tensors in the adapter's dialect. */
struct lora {
    struct apr_model  *m;
    struct apr_wishes  wishes;
    struct apr_derived result;
    struct adapted   **tensor;
    size_t             ntensor;
    struct apr_arena  *arena;
    bool               began;
};

/* Puts the adapters that the configuration names onto the model: m, binding and dialect are those of the result. Frees what they took. */
APR_MUST_CHECK enum apr_code put_loras_on(struct model *m, const struct options *o, struct apr_error *e);
void free_loras(struct model *m);

/* Measures the rows whose norms DoRA says. Before a value is read. */
APR_MUST_CHECK enum apr_code measure_loras(struct model *models, size_t n, const struct apr_run *r, struct apr_error *e);

#define MOST_RANK 4096u /* of an adapter, to begin with */

#endif
