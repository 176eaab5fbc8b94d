/* Llama 3's scaling of rotary frequencies: pairs of long waves are slowed by a factor, those of short waves not at all. */
#ifndef APR_LLAMA3_H
#define APR_LLAMA3_H

#include "base/core.h"

/* theta: the base; dims: elements of a head that turn; low <= high */
struct apr_llama3 {
    double theta, dims, factor, low, high, original;
};

/* What the frequency of pair i is divided by, in F32. */
float apr_llama3_factor(const struct apr_llama3 *s, uint64_t i);

/* Finds a factor, low, high and original context with which theta and dims, which are set, give exactly these n factors, or each within 2
 * millionths where the last bit is another's. Of several the usual: 1 and 4, the context 8192, or the model's over the factor. context: the
 * model's, or 0. False where no scaling is found. */
bool apr_llama3_find(struct apr_llama3 *s, const float *factor, uint64_t n, double context);

#endif
