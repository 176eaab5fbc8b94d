/* A model's tensors as another dialect has them: their names, their shapes, and what each is made of. Nothing is read. */
#ifndef APR_WISH_H
#define APR_WISH_H

#include "family/bind.h"
#include "flow/input.h"

/* One tensor as it is wished for.
 *   from       what it is made of, for people: a name, "experts.{0-7}.w1.weight", "q + k + v"; empty: generated
 *   role       NULL: no family was asked
 *   in         what it is read from (apr_input_keep); all zero for one that is generated
 *   values     of a generated one, count of them
 *   transform  "rope_permute(4)", "stack(8)", "transpose+split_cols"; NULL: none */
struct apr_wish {
    struct apr_bytes       name, from;
    const struct apr_role *role;
    struct apr_input      *in;
    const float           *values;
    unsigned               ndim;
    uint64_t               dim[APR_MAX_DIMS], count;
    const char            *transform;
};

/* A tensor that is not carried over, and why: "skipped by contract", "tied", "equal to the embedding", or as the caller says. */
struct apr_left_out {
    struct apr_bytes name;
    const char      *reason;
};

/* Begin with zeros, end with apr_wishes_end. In the order in which a converter writes: generated ones, then as the sources lie, names of
 * a checkpoint's file in byte order. */
struct apr_wishes {
    struct apr_wish     *wish;
    struct apr_left_out *left;
    size_t               n, room, nleft, left_room;
    struct apr_arena    *arena;
};

/* Should the tensor of that name stay behind, and in which words? *reason NULL: no. */
typedef enum apr_code apr_spare_fn(void *ctx, struct apr_bytes name, const char **reason, struct apr_error *e);

/* All tensors of m in a dialect, HuggingFace's or GGUF's; without a binding as they are, and so are those that only a converter makes. Those that `spare` takes stay behind, and are not
 * missed. APR_EARG names a tensor that the family does not know, that it wants and misses, or whose shape is another than the contract's,
 * and the option that helps. The model and the binding must outlive the wishes. */
APR_MUST_CHECK enum apr_code apr_wishes_of(struct apr_wishes *w, const struct apr_kernels *k, const struct apr_model *m,
                                           const struct apr_binding *b, enum apr_dialect dialect, apr_spare_fn *spare, void *ctx,
                                           struct apr_error *e);
/* Notes a tensor that stays behind; name and reason must outlive the wishes. */
APR_MUST_CHECK enum apr_code apr_wishes_leave_out(struct apr_wishes *w, struct apr_bytes name, const char *reason, struct apr_error *e);
void apr_wishes_end(struct apr_wishes *w);

#endif
