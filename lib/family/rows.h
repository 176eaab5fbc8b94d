/* Tensors seen in another order: the transforms between dialects (families.md section 3) as maps of element numbers. Nothing is ever
 * made as a whole: a view says where element e of the wished-for tensor lies in the stored ones, and for how many elements on. */
#ifndef APR_ROWS_H
#define APR_ROWS_H

#include "base/core.h"

#define APR_MAX_PARTS 8 /* of a split */

/* Transforms from the HuggingFace side to the GGUF side, and their parameters in n:
 *   ROPE_PERMUTE  heads               rows of each head: split halves to adjacent pairs
 *   TRANSPOSE     -                   the last two dims
 *   QKV_NEOX      heads               rows by head (q, k, v each) to all q, all k, all v
 *   QKV_FALCON    heads, kv heads     rows by group to all q, all k, all v
 *   STACK         count               separate tensors to one with a leading dim
 *   SPLIT_ROWS    sizes               one tensor to several, along the last dim but one (of a vector: its only one)
 *   SPLIT_COLS    sizes               along the last dim
 *   MLA_SPLIT     heads, nope, v      kv_b to k_b (transposed in each head) and v_b
 *   ROWS          from, count         some of the rows
 *   SQUEEZE, UNSQUEEZE  dim           shape alone, as RESHAPE (dims)
 *   ADD           value               w + value, in f32
 *   NEG_EXP       -                   -exp(w), in f32; backwards ln(-w) */
enum apr_op { APR_OP_ROPE_PERMUTE, APR_OP_TRANSPOSE, APR_OP_QKV_NEOX, APR_OP_QKV_FALCON, APR_OP_STACK, APR_OP_SPLIT_ROWS, APR_OP_SPLIT_COLS,
              APR_OP_MLA_SPLIT, APR_OP_ROWS, APR_OP_SQUEEZE, APR_OP_UNSQUEEZE, APR_OP_RESHAPE, APR_OP_ADD, APR_OP_NEG_EXP, APR_NOPS };

struct apr_transform {
    enum apr_op op;
    unsigned    nn;
    uint64_t    n[APR_MAX_PARTS];
    double      value;
};

/* The op of that name, APR_NOPS when there is none. */
enum apr_op apr_op_named(struct apr_bytes name);
const char *apr_op_word(enum apr_op op);

#define APR_MAX_STEPS  4
#define APR_MAX_VALUES 4

/* One step of a view: an op in one direction, with what it needs of the shape it meets. */
struct apr_step {
    enum apr_op op;
    bool        forward;
    unsigned    nn;
    uint64_t    n[APR_MAX_PARTS];
    uint64_t    rows, cols; /* of the HuggingFace side */
};

/* Element e of the view is found by taking (part, e) through the steps; then it lies in part[number]. Its value comes back through
 * the value ops, last to first. The view borrows part. */
struct apr_view {
    unsigned                        nstep, nvalue;
    const struct apr_tensor *const *part;
    size_t                          npart;
    uint64_t                        first; /* the part number to begin with: which expert, which part of a split */
    struct { enum apr_op op; bool forward; double value; } value[APR_MAX_VALUES];
    struct apr_step                 step[APR_MAX_STEPS];
};

/* The tensors themselves, in their order. */
struct apr_view apr_view_of(const struct apr_tensor *const *part, size_t npart, uint64_t first);

/* Adds the chain of transforms to the steps, from the HuggingFace side (whose shape is given, of one tensor) to the GGUF side, or back:
 * then in reverse order. A view of B in the order of A is: back along A's chain, forward along B's; where both are the same, nothing
 * remains of them. APR_EARG says which transform the shape does not allow. */
APR_MUST_CHECK enum apr_code apr_view_forth(struct apr_view *v, const struct apr_transform *t, size_t n, const uint64_t *dim, unsigned ndim,
                                            struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_view_back(struct apr_view *v, const struct apr_transform *t, size_t n, const uint64_t *dim, unsigned ndim,
                                           struct apr_error *e);

/* Takes out of v the value ops that undo a transform and puts the transforms themselves on `other`: the two are then compared as the
 * GGUF side has the values, where w + 1 is what a converter wrote and not rounded a second time. */
void apr_view_exchange(struct apr_view *v, struct apr_view *other);

/* The shape on the GGUF side of output number `part`; false when the transforms do not fit the shape or it has too many dims. */
bool apr_transform_shape(const struct apr_transform *t, size_t n, uint64_t part, uint64_t *dim, unsigned *ndim);

/* Is it one shape? A GGUF may leave out leading dims of 1, or write them. */
bool apr_same_shape(const uint64_t *a, unsigned na, const uint64_t *b, unsigned nb);

/* Where element e lies: in part[part] from element `index`, each `stride` further on, `run` of them at least. part is npart where there
 * is none (rows that were cut off): such elements are 0. */
struct apr_place {
    uint64_t part, index, run, stride;
};
struct apr_place apr_view_place(const struct apr_view *v, uint64_t e);

/* Is it part 0 as it is stored: every element, every value? */
bool apr_view_plain(const struct apr_view *v);

/* Does it walk down columns? Then it is read by tiles. */
bool apr_view_strided(const struct apr_view *v);

#endif
