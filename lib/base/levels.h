/* One body compiled for each level of instructions, where loops are plain enough that the compiler's vectors do: the bits are the same at
 * each, as no product is fused with a sum. What wants instructions by name is a kernel (values/kernels/). */
#ifndef APR_LEVELS_H
#define APR_LEVELS_H

#include <string.h>

#include "base/core.h"

/* What is shared by the bodies. Vectors travel by address: by value, their way into a function depends on the level. */
#define APR_INLINED static inline __attribute__((always_inline))

/* x, or 0 where it does not stay, without a branch that nothing could foresee. */
static inline double apr_kept(bool stays, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= -(uint64_t)stays;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* APR_FOR_LEVELS: what BODY(level, attributes) makes, for each, with the level in its name. APR_AT_LEVEL: that of a level. */
#if defined(__x86_64__)
#define APR_FOR_LEVELS(BODY)                                                                                                        \
    BODY(scalar, ) BODY(avx2, __attribute__((target("avx2"))))                                                                      \
    BODY(avx512, __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl"))))
#define APR_AT_LEVEL(name, isa) ((isa) >= APR_AVX512 ? name##_avx512 : (isa) >= APR_AVX2 ? name##_avx2 : name##_scalar)
#else
#define APR_FOR_LEVELS(BODY)    BODY(scalar, )
#define APR_AT_LEVEL(name, isa) ((void)(isa), name##_scalar)
#endif

#endif
