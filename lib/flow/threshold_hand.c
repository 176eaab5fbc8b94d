/* Thresholds of what is in hand: scores, counts of them, a sample. */
#include <math.h>
#include <stdlib.h>

#include "flow/threshold_count.h"

#define DEVIATIONS 6 /* of a sample, within which the key is sought */

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

void apr_cutoff_mark(const struct apr_cutoff *c, const float *score, uint64_t first, size_t n, bool *taken)
{
    const uint32_t key = c->key, flip = c->flip;
    const size_t equals = c->end <= first ? 0 : (size_t)apr_min(c->end - first, n); /* of these the ones that have the key count */
    for (size_t i = 0; i < equals; i++)
        taken[i] = (apr_score_key(score[i]) ^ flip) <= key;
    for (size_t i = equals; i < n; i++)
        taken[i] = (apr_score_key(score[i]) ^ flip) < key;
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
    for (unsigned shift = 24; shift < 32; shift -= 8) {
        const uint32_t known = shift == 24 ? 0 : UINT32_MAX << (shift + 8);
        uint64_t count[256] = { 0 };
        for (size_t i = 0; i < n; i++) {
            const uint32_t other = apr_score_key(score[i]);
            count[other >> shift & 255] += ((other ^ key) & known) == 0;
        }
        key |= apr_digit_of(count, 256, highest, &k) << shift;
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
