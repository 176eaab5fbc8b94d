#include "loops.h"

#include <string.h>

#include "base/levels.h"

#define MAGNITUDE 0x7FFFFFFFu /* of a float's bits */

/* some(..., i, m) for each `width` of n values from i on, and then for those that are left: m is a constant in all but the last. */
#define EACH_OF(width, n, some, ...)                                                                                               \
    do {                                                                                                                           \
        size_t each_ = 0;                                                                                                          \
        for (; each_ + (width) <= (n); each_ += (width))                                                                           \
            some(__VA_ARGS__, each_, width);                                                                                       \
        if (each_ < (n))                                                                                                           \
            some(__VA_ARGS__, each_, (n) - each_);                                                                                 \
    } while (0)
#define EACH(n, some, ...) EACH_OF(WIDTH, n, some, __VA_ARGS__)

/* A vector out of m values at `at`, and as many back. */
#define LOAD(type, name, at, m)                                                                                                    \
    type name = { 0 };                                                                                                             \
    move(&name, at, (m) * sizeof *(at), sizeof name / sizeof name[0] * sizeof *(at))
#define STORE(name, at, m) move(at, &name, (m) * sizeof *(at), sizeof name / sizeof name[0] * sizeof *(at))

__attribute__((noinline)) static void move_few(void *to, const void *from, size_t n) { memcpy(to, from, n); }

APR_INLINED void move(void *to, const void *from, size_t n, size_t all)
{
    if (n == all)
        memcpy(to, from, all);
    else
        move_few(to, from, n);
}

/* The sum of a vector's values, from the first on. */
#define SUM_OF(type, v)                                                                                                            \
    ({                                                                                                                             \
        type sum_ = 0, lane_[sizeof(v) / sizeof(type)];                                                                            \
        memcpy(lane_, &(v), sizeof lane_);                                                                                         \
        for (size_t i_ = 0; i_ < APR_LENGTH(lane_); i_++)                                                                          \
            sum_ += lane_[i_];                                                                                                     \
        sum_;                                                                                                                      \
    })

/* Vectors that are 16 lanes, folded 8+8, 4+4, 2+2, 1+1. */
static double folded(double lane[16])
{
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t k = 0; k < half; k++)
            lane[k] += lane[k + half];
    return lane[0];
}
#define FOLDED(v) folded(memcpy(&(double[16]){ 0 }, v, sizeof v))
#define UNROLLED _Pragma("GCC unroll 8")

#define NAME(x) x##_of_two
#define WIDTH   2u
#define LEVEL
#include "loops_lanes.h"
#undef NAME
#undef WIDTH
#undef LEVEL

#ifdef __x86_64__
#define NAME(x) x##_of_four
#define WIDTH   4u
#define LEVEL   __attribute__((target("avx2")))
#include "loops_lanes.h"
const struct loops *loops_at(enum apr_isa isa) { return isa >= APR_AVX2 ? &loops_of_four : &loops_of_two; }
#else
const struct loops *loops_at(enum apr_isa isa)
{
    (void)isa;
    return &loops_of_two;
}
#endif
