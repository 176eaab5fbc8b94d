#include "flow/threshold_count.h"

#include <math.h>

#include "base/levels.h"

static void count_one(float score, const struct apr_probe *p, uint32_t *bucket, struct apr_counted *into)
{
    const uint32_t key = apr_score_key(score);
    into->below += key < p->low;
    into->equals += key == p->key;
    into->nan |= isnan(score);
    if (p->width > 0 && key - p->low <= p->width && key != p->key)
        bucket[(key - p->low) >> p->shift]++;
}

#define NAME(x) x##_of_four
#define WIDTH   4u
#define LEVEL
#include "flow/threshold_lanes.h"
#undef NAME
#undef WIDTH
#undef LEVEL

#ifdef __x86_64__
#define NAME(x) x##_of_eight
#define WIDTH   8u
#define LEVEL   __attribute__((target("avx2")))
#include "flow/threshold_lanes.h"
apr_count_keys_fn *apr_count_keys_at(enum apr_isa isa) { return isa >= APR_AVX2 ? count_keys_of_eight : count_keys_of_four; }
#else
apr_count_keys_fn *apr_count_keys_at(enum apr_isa isa)
{
    (void)isa;
    return count_keys_of_four;
}
#endif
