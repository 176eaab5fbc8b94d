/* One offer for each of many items, so that all of them fit a budget and the sum of errors is least. */
#ifndef APR_BUDGET_H
#define APR_BUDGET_H

#include "base/core.h"

/* What an item may become. error: not negative; NaN or infinite: this offer does not exist. */
struct apr_offer {
    uint64_t bytes;
    double   error;
};

/* nitem items with noffer offers each, those of item i from offer[i * noffer] on. All are to take at most `most` bytes and, where that can
 * be had, at least `least`: 0 when only the error counts. */
struct apr_budget {
    const struct apr_offer *offer;
    size_t                  nitem, noffer;
    uint64_t                least, most;
};

/* What was chosen.
 *   bound   no choice of at most `most` bytes has an error below it: that of the best mixture, in which one item may be between two
 *           offers (the Lagrangian, or linear, bound)
 *   exact   it is known that no choice within the limits has a smaller error, but for rounding; else it is at most error - bound above */
struct apr_spent {
    uint64_t bytes;
    double   error, bound;
    bool     exact;
};

/* Least and most bytes that any choice takes. UINT64_MAX twice: some item has no offer, or a sum does not fit 64 bits. */
void apr_budget_range(const struct apr_budget *b, uint64_t *least, uint64_t *most);

/* Sets choice[i] to the number of item i's offer. This is the multiple-choice knapsack:
 *   1  of each item's offers the lower convex hull of (bytes, error) is taken. All items begin with their smallest; then the steps along
 *      the hulls are taken by falling error saved per byte as far as they fit. Where the first did not fit gives the bound and the price
 *      of a byte.
 *   2  an offer whose error plus price of bytes is above its item's least by more than (error so far - bound) is part of no better choice.
 *      What is left is searched: sums of bytes and errors, item by item, without those that are no smaller and no better than another, or
 *      that are already above the same limit. Where they are more than 8192 (fewer with very many items) the best of each of as many
 *      ranges of bytes stays: only then the result may be inexact.
 *   3  where that takes fewer than `least` bytes, the same is searched over all offers for the least error within the limits; where there
 *      is none, the choice stays.
 * The same choice everywhere, ties too: smaller first, then by the offer's number. O(nitem * noffer * log) and the search, which is under
 * a second for 10,000 items of 16. APR_EARG when nothing fits. */
APR_MUST_CHECK enum apr_code apr_budget_spend(const struct apr_budget *b, size_t *choice, struct apr_spent *spent, struct apr_error *e);

#endif
