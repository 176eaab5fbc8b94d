/* Order statistics of tensors that are never held: which elements of a group have its k lowest or highest scores. */
#ifndef APR_THRESHOLD_H
#define APR_THRESHOLD_H

#include <string.h>

#include "base/core.h"

/* ---- a cutoff ------------------------------------------------------------------------------------------------------- */

/* Which elements of a tensor are taken: those whose key is below `key`, and of those that have it the ones whose index is below `end`. All
 * zero takes nothing. */
struct apr_cutoff {
    uint32_t key, flip;
    uint64_t end;
};

/* A score's place among all: keys rise with scores, minus infinity first. Zeros of both signs are one. Not of NaN. */
static inline uint32_t apr_score_key(float score)
{
    uint32_t bits;
    score += 0.0f; /* minus zero becomes zero */
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

/* Is the element taken? index: in its tensor. */
static inline bool apr_cutoff_takes(const struct apr_cutoff *c, float score, uint64_t index)
{
    const uint32_t key = apr_score_key(score) ^ c->flip;
    return key < c->key || (key == c->key && index < c->end);
}

/* The same of n elements from index `first` on. */
void apr_cutoff_mark(const struct apr_cutoff *c, const float *score, uint64_t first, size_t n, bool *taken);

/* The k lowest of n scores in hand, or the k highest; equal ones by rising index. None is NaN; k above n is n. O(n). */
struct apr_cutoff apr_cutoff_of(const float *score, size_t n, uint64_t k, bool highest);

/* ---- groups --------------------------------------------------------------------------------------------------------- */

/* How many a group is to take, and from which end. */
struct apr_rank {
    uint64_t k;
    bool     highest;
};
#define APR_MOST_RANKS 2

/* A tensor whose elements have scores. name: for messages. */
struct apr_scored {
    struct apr_bytes name;
    uint64_t         count;
};

/* Elements that compete: all of n tensors from the first on, as if one lay behind the other. Equal scores go by that order.
 *   rank, nrank   what is asked of them, one or two answers; k above their number is all
 *   count, zeros  set: how many they are, and how many scores are 0 (that only when `choose` asks for it) */
struct apr_contest {
    size_t          first, n;
    struct apr_rank rank[APR_MOST_RANKS];
    unsigned        nrank;
    uint64_t        count, zeros;
};

/* What is to be found.
 *   score    scores of elements [first, first + n) of a tensor, n <= APR_STRETCH; the same at every call, of any thread. scratch: the
 *            thread's own, `scratch` bytes aligned to 64, which enter gets ready and leave lets go; all three may be absent
 *   choose   sets the ranks when count and zeros are known; on the calling thread, contest by contest. NULL: they stand
 *   cutoff   set: of tensor i and rank r at [i * APR_MOST_RANKS + r] */
struct apr_thresholds {
    const struct apr_scored *tensor;
    size_t                   ntensor;
    struct apr_contest      *contest;
    size_t                   ncontest;
    void                    *ctx;
    size_t                   scratch;
    enum apr_code (*score)(void *ctx, size_t tensor, uint64_t first, size_t n, void *scratch, float *score, struct apr_error *e);
    void (*choose)(void *ctx, size_t contest, struct apr_contest *c);
    void (*enter)(void *ctx, void *scratch);
    void (*leave)(void *ctx, void *scratch);
    struct apr_cutoff *cutoff;
};

/* Counts, on r->threads threads: the upper halves of all keys of a contest, then the lower halves of those that begin as the one looked
 * for; where only some of its equals are taken, these once more by index. Of a large contest a sample says first where the key is to be
 * sought, and which it probably is: then all is counted in one go, or in two where keys seldom repeat. So scores are asked for once to
 * three times, four times where the sample misleads, and never where every rank takes none or all and `choose` is NULL. Memory: 65,536
 * counts for each slot of the pass and for one contest, whatever is counted, and 8 bytes for each 65,536 elements of the largest contest.
 * The same answer at any number of threads. APR_EARG names the tensor and element of a score that is NaN. */
APR_MUST_CHECK enum apr_code apr_thresholds_find(const struct apr_thresholds *t, const struct apr_run *r, struct apr_error *e);

#endif
