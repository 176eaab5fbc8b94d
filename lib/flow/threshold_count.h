/* Keys of scores, counted: what lib/flow/threshold.c does with each score it asks for. */
#ifndef APR_THRESHOLD_COUNT_H
#define APR_THRESHOLD_COUNT_H

#include "flow/threshold.h"

#define APR_MOST_BUCKETS 65536u

/* What is looked for: keys from low to low + width, in at most APR_MOST_BUCKETS buckets of 2^shift, and one key. A width of 0: no
 * buckets. */
struct apr_probe {
    uint32_t low, width, key;
    unsigned shift;
};

/*   below   keys below `low`; equals: of that one key
 *   nan     a score has no place among the others */
struct apr_counted {
    uint32_t below, equals;
    bool     nan;
};

/* Sets *into for n scores and adds to the buckets, in which that one key, which may be very many, does not count. */
typedef void apr_count_keys_fn(const float *score, size_t n, const struct apr_probe *p, uint32_t *bucket, struct apr_counted *into);

/* The same counts at every level of instructions. */
apr_count_keys_fn *apr_count_keys_at(enum apr_isa isa);

/* The bucket of n in which the last one is, of those that are taken from one end: *left of all in them, at least one. *left becomes how
 * many are taken of it. */
uint32_t apr_digit_of(const uint64_t *count, uint32_t n, bool highest, uint64_t *left);

/* What takes all. */
struct apr_cutoff apr_take_all(bool highest);

/* Where the last key that a rank takes is by a sample of n keys, at least one, within some deviations of that; they change places. */
struct apr_probe apr_probe_for(const struct apr_contest *c, unsigned r, uint32_t *sample, size_t n);

#endif
