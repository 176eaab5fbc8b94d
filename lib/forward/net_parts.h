/* Putting a net together: what its files share. */
#ifndef APR_NET_PARTS_H
#define APR_NET_PARTS_H

#include "base/arena.h"
#include "family/stored.h"
#include "family/terms.h"
#include "forward/net.h"
#include "model/stage.h"

/* What it is put together with. part: room for the tensors of one role, APR_MOST_PARTS of them. */
struct apr_netting {
    struct apr_net           *n;
    const struct apr_kernels *k;
    const struct apr_model   *m;
    const struct apr_binding *b;
    const struct apr_tensor **part;
    struct apr_error         *e;
};

/* ---- weights (net_weights.c) ------------------------------------------------------------------------------------------ */

/* The first of the roles (blanks part their names) that the model has in the layer, or NULL. */
const struct apr_role *apr_net_role(const struct apr_netting *g, const char *roles, uint32_t layer);

/* A tensor as the forward pass wants it, and what it was made of. in NULL: the model has none. */
struct apr_piece {
    const struct apr_input  *in;
    const struct apr_role   *role;
    const struct apr_tensor *stored; /* the first of those it is made of */
};

/* number: which of the tensors that the role is in a GGUF: 0, but 1 for what lies behind gates. */
APR_MUST_CHECK enum apr_code apr_net_piece(const struct apr_netting *g, const char *roles, uint32_t layer, unsigned number,
                                           struct apr_piece *p);

/* n floats of the first of the roles that is there; NULL when none is. n 0: as many as there are, and *n is told. in: where they are
 * stored, or NULL: nobody asks. */
APR_MUST_CHECK enum apr_code apr_net_vector(const struct apr_netting *g, const char *roles, uint32_t layer, uint64_t *n, const float **out,
                                            const struct apr_input **in);

/* A matrix of nout rows of nin; either may be 0 and is told. */
APR_MUST_CHECK enum apr_code apr_net_matrix(const struct apr_netting *g, const char *roles, uint32_t layer, unsigned number, uint64_t *nout,
                                            uint64_t *nin, struct apr_matrix *out);

/* The same with its bias: the role's name and "_bias". */
APR_MUST_CHECK enum apr_code apr_net_linear(const struct apr_netting *g, const char *roles, uint32_t layer, uint64_t *nout, uint64_t *nin,
                                            struct apr_linear *out);

/* Experts in one stack: out[i * stride] gets expert i of n. Without a bias. */
APR_MUST_CHECK enum apr_code apr_net_stack(const struct apr_netting *g, const char *roles, uint32_t layer, unsigned number, uint64_t n,
                                           uint64_t *nout, uint64_t *nin, struct apr_linear *out, size_t stride);

/* A norm over n elements. */
APR_MUST_CHECK enum apr_code apr_net_norm(const struct apr_netting *g, const char *roles, uint32_t layer, uint64_t n, struct apr_norm *out);

/* Memory of the net's own: n elements; NULL when memory is out. */
void *apr_net_room(const struct apr_netting *g, uint64_t n, size_t size);

/* ---- numbers (net_numbers.c) ------------------------------------------------------------------------------------------- */

/* A term as a whole number of at most `most`, as a condition; `otherwise` where it is not known. */
APR_MUST_CHECK enum apr_code apr_net_size(const struct apr_netting *g, enum apr_term term, uint64_t layer, uint64_t otherwise,
                                          uint64_t most, uint64_t *out);
APR_MUST_CHECK enum apr_code apr_net_flag(const struct apr_netting *g, enum apr_term term, uint64_t layer, bool otherwise, bool *out);

/* All that belongs to no layer and is no weight. */
APR_MUST_CHECK enum apr_code apr_net_numbers(const struct apr_netting *g);

/* ---- rope (net_rope.c) -------------------------------------------------------------------------------------------------- */

/* The rotation of a layer's heads. */
APR_MUST_CHECK enum apr_code apr_net_rope(const struct apr_netting *g, uint32_t layer, struct apr_rope *out);

#endif
