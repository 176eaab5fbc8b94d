/* Thresholds of what is in hand: scores, counts of them, a sample. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "flow/threshold_count.h"

#define LONG_ROW      4096u /* scores: of so many it pays to look at more bits of their keys at a time */
#define LARGEST_DIGIT 11u   /* bits */
#define DEVIATIONS    6     /* of a sample, within which the key is sought */

uint32_t apr_digit_of(const uint64_t *count, uint32_t n, bool highest, uint64_t *left)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t digit = highest ? n - 1 - i : i;
        if (count[digit] >= *left)
            return digit;
        *left -= count[digit];
    }
    return highest ? 0 : n - 1;
}

/* By runs of a fixed length, of which compilers make vectors. */
static void mark_below(uint64_t limit, uint32_t flip, const float *score, size_t n, bool *taken)
{
    size_t i = 0;
    const uint32_t last = (uint32_t)(limit - 1);
    if (limit == 0) {
        memset(taken, 0, n * sizeof *taken);
        return;
    }
    for (; i + 16 <= n; i += 16)
        for (size_t k = i; k < i + 16; k++)
            taken[k] = (apr_score_key(score[k]) ^ flip) <= last;
    for (; i < n; i++)
        taken[i] = (apr_score_key(score[i]) ^ flip) <= last;
}

void apr_cutoff_mark(const struct apr_cutoff *c, const float *score, uint64_t first, size_t n, bool *taken)
{
    const uint32_t key = c->key, flip = c->flip;
    const size_t equals = c->end <= first ? 0 : (size_t)apr_min(c->end - first, n); /* of these the ones that have the key count */
    mark_below((uint64_t)key + 1, flip, score, equals, taken);
    mark_below(key, flip, score + equals, n - equals, taken + equals);
}

struct apr_cutoff apr_take_all(bool highest)
{
    return (struct apr_cutoff){ UINT32_MAX, highest ? UINT32_MAX : 0, UINT64_MAX };
}

struct apr_cutoff apr_cutoff_of(const float *score, size_t n, uint64_t k, bool highest)
{
    uint32_t key = 0;
    if (k == 0)
        return (struct apr_cutoff){ 0 };
    if (k >= n)
        return apr_take_all(highest);
    const unsigned digit = n < LONG_ROW ? 8 : LARGEST_DIGIT;
    for (unsigned top = 32, shift; top > 0; top = shift) {
        shift = top > digit ? top - digit : 0;
        const uint32_t known = top == 32 ? 0 : UINT32_MAX << top, ndigit = 1u << (top - shift);
        uint64_t count[1u << LARGEST_DIGIT];
        memset(count, 0, ndigit * sizeof *count);
        for (size_t i = 0; i < n; i++) {
            const uint32_t other = apr_score_key(score[i]);
            count[other >> shift & (ndigit - 1)] += ((other ^ key) & known) == 0;
        }
        key |= apr_digit_of(count, ndigit, highest, &k) << shift;
    }
    size_t end = 0;
    for (; k > 0; end++)
        k -= apr_score_key(score[end]) == key;
    return (struct apr_cutoff){ highest ? ~key : key, highest ? UINT32_MAX : 0, end };
}

/* Of n keys the one before which `rank` others stand; they change places. */
static uint32_t key_at(uint32_t *key, size_t n, size_t rank)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        const uint32_t middle = key[low + (high - low) / 2];
        size_t below = low, above = high;
        for (size_t i = low; i < above;) {
            const uint32_t k = key[i];
            if (k < middle) {
                key[i++] = key[below];
                key[below++] = k;
            } else if (k > middle) {
                key[i] = key[--above];
                key[above] = k;
            } else {
                i++;
            }
        }
        if (rank >= below && rank < above)
            return middle;
        low = rank < below ? low : above;
        high = rank < below ? below : high;
    }
    return key[low];
}

struct apr_probe apr_probe_for(const struct apr_contest *c, unsigned r, uint32_t *sample, size_t n)
{
    const uint64_t k = c->rank[r].highest ? c->count - c->rank[r].k : c->rank[r].k - 1;
    const double share = (double)k / (double)c->count, rank = share * (double)n;
    const double reach = DEVIATIONS * sqrt(rank * (1 - share)) + DEVIATIONS, from = rank - reach, to = rank + reach;
    struct apr_probe p = { .key = key_at(sample, n, (size_t)rank) };
    p.low = from < 0 ? 0 : key_at(sample, n, (size_t)from);
    p.width = (to >= (double)n ? UINT32_MAX : key_at(sample, n, (size_t)to)) - p.low;
    while (p.width >> p.shift >= APR_MOST_BUCKETS)
        p.shift++;
    return p;
}
