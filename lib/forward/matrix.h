/* A matrix of a model that multiplies activations: y = x W^T, W as it is stored, decoded on the way. */
#ifndef APR_MATRIX_H
#define APR_MATRIX_H

#include "family/family.h"
#include "flow/input.h"
#include "flow/team.h"

/* nout rows of nin, from row `first` of `in` on (an expert of a stack). in NULL: the model has none.
 *   role, part, layer, expert  what it is: names in messages and in an importance matrix. part: which of the role's GGUF names;
 *                              expert 0 where there are none, layer APR_WHOLE_MODEL for what belongs to none */
struct apr_matrix {
    const struct apr_input *in;
    const struct apr_role  *role;
    uint64_t                first, nout, nin;
    uint32_t                layer, expert;
    unsigned                part;
};

/* One of the matrices that are multiplied with the same x: y[p * stride + o] = sum over i of W[o][i] * x[p * nin + i], for p < n, o < nout.
 *   stride  at least nout; y may lie within a wider row */
struct apr_product {
    const struct apr_matrix *w;
    float                   *y;
    size_t                   stride;
};

/* All of them, of one nin, in one go: decoding one token, the threads meet once and not once a matrix. Products of floats are summed as
 * doubles in 16 lanes (kernels.h, apr_dots_fn), rounded once; what is no number becomes the one quiet NaN 0x7fc00000. Rows are decoded once
 * for all positions, by the team's threads, and the bytes of y depend on nothing else. Fails when memory is out, or a row is longer than
 * APR_MOST_COLUMNS. x: n x nin floats. */
#define APR_MOST_COLUMNS ((uint64_t)1 << 24)
APR_MUST_CHECK enum apr_code apr_matrices_times(const struct apr_product *product, size_t nproduct, struct apr_team *team, const float *x,
                                                size_t n, struct apr_error *e);

/* Rows [first, first + n) as floats: embeddings, by token. out: n x nin. */
void apr_matrix_rows(const struct apr_matrix *w, uint64_t first, size_t n, float *out);

#endif
