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
 *   REGROUP       groups, size, from  rows behind the first `from`: (groups, m, size) to (m, groups, size)
 *   UNGROUP       groups, sizes       groups of rows, each of some of every part, to all of the first part, all of the second ...
 *   CONCAT_ROWS, CONCAT_COLS  sizes   several tensors to one: a split backwards (see apr_role_chain)
 *   PAD_ROWS      count               rows up to so many, those that are added 0
 *   ORDER         size                block i of so many rows is block order[i]
 *   SQUEEZE, UNSQUEEZE  dim           shape alone, as RESHAPE (dims)
 *   ADD           -                   w + by[0], in f32
 *   SCALE         sizes               w * by[i] in f32, i that of the sizes in whose rows it lies; without sizes by[0]. Back: w / by[i]
 *   NEG_EXP       -                   -exp(w), in f32; backwards ln(-w)
 * A _COLS is the same of the last dim. The rows of REGROUP, UNGROUP, PAD_ROWS, ORDER and SCALE are those of SPLIT_ROWS. */
enum apr_op { APR_OP_ROPE_PERMUTE, APR_OP_TRANSPOSE, APR_OP_QKV_NEOX, APR_OP_QKV_FALCON, APR_OP_STACK, APR_OP_SPLIT_ROWS, APR_OP_SPLIT_COLS,
              APR_OP_MLA_SPLIT, APR_OP_ROWS, APR_OP_REGROUP, APR_OP_REGROUP_COLS, APR_OP_UNGROUP, APR_OP_CONCAT_ROWS, APR_OP_CONCAT_COLS,
              APR_OP_PAD_ROWS, APR_OP_ORDER, APR_OP_ORDER_COLS, APR_OP_SQUEEZE, APR_OP_UNSQUEEZE, APR_OP_RESHAPE, APR_OP_ADD, APR_OP_SCALE,
              APR_OP_NEG_EXP, APR_NOPS };

/*   only   behind a split: of part only - 1 alone; 0: of all
 *   order  norder numbers below it, each once, and behind them the same the other way round: which block of the order number i is */
struct apr_transform {
    enum apr_op     op;
    unsigned        nn, only, norder;
    uint64_t        n[APR_MAX_PARTS];
    double          by[APR_MAX_PARTS];
    const uint32_t *order;
};

/* The op of that name, APR_NOPS when there is none. */
enum apr_op apr_op_named(struct apr_bytes name);
const char *apr_op_word(enum apr_op op);

/* Does it leave the numbers of rows and columns as they are? Is it one that makes several tensors of one? */
bool apr_op_keeps_shape(enum apr_op op);
bool apr_op_splits(enum apr_op op);

#define APR_MAX_STEPS  6
#define APR_MAX_VALUES 6
#define APR_MAX_ORDER  65536u /* blocks of an order */

/* One step of a view: an op in one direction, with what it needs of the shape it meets. */
struct apr_step {
    enum apr_op     op;
    bool            forward;
    unsigned        nn, only, norder;
    uint64_t        n[APR_MAX_PARTS];
    uint64_t        rows, cols; /* of the HuggingFace side */
    const uint32_t *order;
};

/* What is done to values; `at` steps lead to where it is done. */
struct apr_change {
    enum apr_op op;
    bool        forward;
    unsigned    nn, only, at;
    uint64_t    n[APR_MAX_PARTS];
    uint64_t    rows, cols;
    double      by[APR_MAX_PARTS];
};

/* Element e of the view is found by taking (part, e) through the steps; then it lies in part[number]. Its value comes back through
 * the changes, last to first. The view borrows part, and the lists that transforms have. */
struct apr_view {
    unsigned                        nstep, nvalue;
    const struct apr_tensor *const *part;
    size_t                          npart;
    uint64_t                        first; /* the part number to begin with: which expert, which part of a split */
    struct apr_step                 step[APR_MAX_STEPS];
    struct apr_change               value[APR_MAX_VALUES];
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
 * GGUF side has the values, where w + 1 is what a converter wrote and not rounded a second time. What is done to some rows only, and
 * beyond a step, stays. */
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

/* What change number i makes of the value of element e and of `run` of them at least: op, forward or back, with `by`. none: nothing. */
struct apr_changed {
    enum apr_op op;
    bool        forward, none;
    double      by;
    uint64_t    run;
};
struct apr_changed apr_view_change(const struct apr_view *v, unsigned i, uint64_t e);

/* Is it part 0 as it is stored: every element, every value? */
bool apr_view_plain(const struct apr_view *v);

/* Does it walk down columns? Then it is read by tiles. */
bool apr_view_strided(const struct apr_view *v);

#endif
