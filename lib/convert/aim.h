/* Types by measured error: which dtype each tensor gets so that all of them meet a target, and values change least. */
#ifndef APR_AIM_H
#define APR_AIM_H

#include "flow/trial.h"

/* A dtype that a tensor could have, what it takes (without padding), and how far it is off: sums over its elements. NULL: none. */
struct apr_aim_option {
    const struct apr_dtype *dtype;
    uint64_t                bytes;
    struct apr_tried        error;
};

/* One tensor of the target.
 *   in          what it is read from; NULL: it stays what it is
 *   importance  as in apr_trial, or NULL
 *   kept        its dtype, and with kept_bytes what it takes, when it stays what it is: then nothing is off. count elements
 *   fixed       it stays, or becomes kept because someone said so: nothing is measured
 *   chosen      the result; less, more: the options with a smaller error for the next more bytes, and a larger one for the next fewer */
struct apr_aim_tensor {
    struct apr_bytes        name;
    const struct apr_input *in;
    const float            *importance;
    const struct apr_dtype *kept;
    uint64_t                kept_bytes, count;
    bool                    fixed;
    struct apr_aim_option   chosen, less, more;
};

/* What is asked for, and what came of it.
 *   bpw         bits of all tensors over all elements; 0: not asked for
 *   size        bytes of the whole file; 0: not asked for. One of both
 *   overhead    bytes of it that are no tensors: header, tail, what stands between them; each tensor then fills up to `alignment`
 *   allowed     which dtypes may be chosen, bit i for apr_dtypes[i]: those that the format holds (all: UINT64_MAX)
 *   sample      as in apr_trials: APR_AIM_SAMPLE, or 0 to look at all
 *   bytes       of all tensors without padding; elements of all
 *   reached     bits per element, or bytes of the file
 *   unreachable  why it failed: no choice of types meets the target
 *   error       the sum of all (weighted) errors; bound: no choice that fits has a smaller one; exact: nor than error */
struct apr_aim {
    double                 bpw;
    uint64_t               size, overhead, alignment, allowed, sample;
    bool                   nan_to_zero;
    struct apr_aim_tensor *tensor;
    size_t                 ntensor;
    uint64_t               bytes, elements;
    double                 reached, error, bound;
    bool                   exact, unreachable;
};

#define APR_AIM_SAMPLE (1u << 20)

/* Measures and chooses (apr_budget_spend). Of bits per element the result is within a percent where that can be, and no more than asked
 * for where that can be too; a file is no larger than asked for, and 97 percent of it or more where that can be.
 *   APR_EARG  nothing reaches the target: the message says what the least and the most are; or as apr_trials_run */
APR_MUST_CHECK enum apr_code apr_aim_choose(struct apr_aim *t, const struct apr_run *r, struct apr_error *e);

#endif
