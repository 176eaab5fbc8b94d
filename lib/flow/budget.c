#include "flow/budget.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STATES 8192u      /* after an item */
#define FEWEST_STATES 64u
#define MOST_NODES (1u << 21)  /* of all items together */
#define ROUNDS 4               /* of the search, each with what the one before has found */
#define DUST 1e-12             /* of sums as large as these, which rounding may change */

/* One step along an item's hull: what it costs and saves. */
struct step {
    size_t   item, at, from, to;
    uint64_t bytes;
    double   rate;
};

/* Some choice for the first items. excess: of error and price above the least. node: how it came about. */
struct state {
    uint64_t bytes;
    double   error, excess;
    uint32_t node;
};

struct node {
    uint32_t from, offer;
};

/* A search under way.
 *   limit   of the excess
 *   open    items of which more than one offer is left; rest, reach: the least and most bytes of those from each on
 *   spread  nothing is dropped for being larger and no better, as a larger one may be wanted
 *   now, next, merged  rooms for states */
struct search {
    const struct apr_budget *b;
    double                   price, limit;
    size_t                  *open, nopen;
    uint64_t                *rest, *reach, least, most;
    bool                     spread, thinned;
    size_t                   width;
    struct state            *now, *next, *merged;
    struct node             *node;
    size_t                   nnode;
};

static const struct apr_offer *offers_of(const struct apr_budget *b, size_t item) { return b->offer + item * b->noffer; }

static bool exists(const struct apr_offer *o) { return o->error >= 0 && o->error < INFINITY; }

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

void apr_budget_range(const struct apr_budget *b, uint64_t *least, uint64_t *most)
{
    bool fits = true;
    *least = *most = 0;
    for (size_t i = 0; i < b->nitem && fits; i++) {
        const struct apr_offer *const o = offers_of(b, i);
        uint64_t low = UINT64_MAX, high = 0;
        for (size_t j = 0; j < b->noffer; j++)
            if (exists(&o[j])) {
                low = apr_min(low, o[j].bytes);
                high = o[j].bytes > high ? o[j].bytes : high;
            }
        fits = low <= high && apr_add(*least, low, least) && apr_add(*most, high, most);
    }
    if (!fits)
        *least = *most = UINT64_MAX;
}

static uint64_t bytes_of(const struct apr_budget *b, const size_t *choice)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < b->nitem; i++)
        sum += offers_of(b, i)[choice[i]].bytes;
    return sum;
}

static double error_of(const struct apr_budget *b, const size_t *choice)
{
    double sum = 0;
    for (size_t i = 0; i < b->nitem; i++)
        sum += offers_of(b, i)[choice[i]].error;
    return sum;
}

/* What an offer costs when a byte has a price. */
static double cost_of(const struct apr_offer *o, double price) { return o->error + price * (double)o->bytes; }

static double least_cost(const struct apr_budget *b, size_t item, double price)
{
    const struct apr_offer *const o = offers_of(b, item);
    double least = INFINITY;
    for (size_t j = 0; j < b->noffer; j++)
        if (exists(&o[j]))
            least = fmin(least, cost_of(&o[j], price));
    return least;
}

/* No choice that fits has a smaller error. */
static double bound_of(const struct apr_budget *b, double price)
{
    double sum = 0;
    for (size_t i = 0; i < b->nitem; i++)
        sum += least_cost(b, i, price);
    return sum - price * (double)b->most;
}

/* ---- hulls ---------------------------------------------------------------------------------------------------------- */

static bool comes_before(const struct apr_offer *o, size_t a, size_t b)
{
    return o[a].bytes != o[b].bytes ? o[a].bytes < o[b].bytes : o[a].error != o[b].error ? o[a].error < o[b].error : a < b;
}

static double rate_of(const struct apr_offer *from, const struct apr_offer *to)
{
    return (from->error - to->error) / (double)(to->bytes - from->bytes);
}

/* The offers of an item that some price of a byte makes the best, by rising bytes; returns how many. */
static size_t hull_of(const struct apr_offer *o, size_t noffer, size_t *hull)
{
    size_t n = 0, nsorted = 0;
    size_t *const sorted = hull + noffer;
    for (size_t j = 0; j < noffer; j++) {
        size_t at = nsorted;
        if (!exists(&o[j]))
            continue;
        for (; at > 0 && comes_before(o, j, sorted[at - 1]); at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = j;
        nsorted++;
    }
    for (size_t j = 0; j < nsorted; j++) {
        const struct apr_offer *const x = &o[sorted[j]];
        if (n > 0 && x->error >= o[hull[n - 1]].error)
            continue;
        while (n > 1 && rate_of(&o[hull[n - 1]], x) >= rate_of(&o[hull[n - 2]], &o[hull[n - 1]]))
            n--;
        hull[n++] = sorted[j];
    }
    return n;
}

static int by_rate(const void *a, const void *b)
{
    const struct step *const x = a, *const y = b;
    if (x->rate != y->rate)
        return x->rate > y->rate ? -1 : 1;
    if (x->item != y->item)
        return x->item < y->item ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The steps of all items, best first, and the smallest offer of each. */
static size_t find_steps(const struct apr_budget *b, size_t *choice, size_t *hull, struct step *step)
{
    size_t n = 0;
    for (size_t i = 0; i < b->nitem; i++) {
        const struct apr_offer *const o = offers_of(b, i);
        const size_t nhull = hull_of(o, b->noffer, hull);
        choice[i] = hull[0];
        for (size_t j = 1; j < nhull; j++)
            step[n++] = (struct step){ .item = i, .at = j, .from = hull[j - 1], .to = hull[j],
                                       .bytes = o[hull[j]].bytes - o[hull[j - 1]].bytes, .rate = rate_of(&o[hull[j - 1]], &o[hull[j]]) };
    }
    qsort(step, n, sizeof *step, by_rate);
    return n;
}

/* Takes steps as far as they fit. The price of a byte is the rate of the first that does not, 0 when all do. */
static double take_steps(const struct apr_budget *b, size_t *choice, const struct step *step, size_t n)
{
    uint64_t left = b->most - bytes_of(b, choice);
    double price = 0;
    for (size_t i = 0; i < n; i++) {
        if (choice[step[i].item] != step[i].from)
            continue;
        if (step[i].bytes > left) {
            price = price == 0 ? step[i].rate : price;
            continue;
        }
        choice[step[i].item] = step[i].to;
        left -= step[i].bytes;
    }
    return price;
}

static enum apr_code begin(const struct apr_budget *b, size_t *choice, double *price, struct apr_error *e)
{
    size_t *const hull = calloc(2 * b->noffer + 1, sizeof *hull);
    struct step *const step = calloc(b->nitem * b->noffer + 1, sizeof *step);
    if (hull != NULL && step != NULL)
        *price = take_steps(b, choice, step, find_steps(b, choice, hull, step));
    const bool done = hull != NULL && step != NULL;
    free(hull);
    free(step);
    return done ? APR_OK : apr_no_memory(e);
}

/* ---- search --------------------------------------------------------------------------------------------------------- */

/* May the offer be part of what is searched for? */
static bool is_left(const struct search *s, const struct apr_offer *o, double least)
{
    return exists(o) && cost_of(o, s->price) - least <= s->limit;
}

/* Finds the open items, takes what the others have off the limits, and sums up from the end what open ones take. */
static void open_items(struct search *s, const size_t *choice)
{
    const struct apr_budget *const b = s->b;
    uint64_t taken = 0;
    s->nopen = 0;
    for (size_t i = 0; i < b->nitem; i++) {
        const double least = least_cost(b, i, s->price);
        size_t left = 0;
        for (size_t j = 0; j < b->noffer; j++)
            left += is_left(s, &offers_of(b, i)[j], least);
        if (left > 1)
            s->open[s->nopen++] = i;
        else
            taken += offers_of(b, i)[choice[i]].bytes;
    }
    s->most = b->most - taken;
    s->least = b->least > taken ? b->least - taken : 0;
    s->rest[s->nopen] = s->reach[s->nopen] = 0;
    for (size_t n = s->nopen; n-- > 0;) {
        const struct apr_budget one = { .offer = offers_of(b, s->open[n]), .nitem = 1, .noffer = b->noffer };
        apr_budget_range(&one, &s->rest[n], &s->reach[n]);
        s->rest[n] += s->rest[n + 1];
        s->reach[n] += s->reach[n + 1];
    }
}

/* Adds a state behind others that are no larger. */
static void append(const struct search *s, struct state *list, size_t *n, const struct state *x)
{
    const struct state *const last = *n == 0 ? NULL : &list[*n - 1];
    if (last != NULL && last->error <= x->error && (!s->spread || last->bytes == x->bytes))
        return;
    if (last != NULL && last->bytes == x->bytes)
        --*n;
    list[(*n)++] = *x;
}

static bool is_before(const struct state *a, const struct state *b)
{
    return a->bytes != b->bytes ? a->bytes < b->bytes : a->error <= b->error;
}

/* Merges list with the states of now to which an offer of open item `at` is added, into merged. */
static size_t merge_offer(const struct search *s, size_t at, size_t offer, size_t nnow, const struct state *list, size_t n)
{
    const struct apr_offer *const o = &offers_of(s->b, s->open[at])[offer];
    const double excess = fmax(0, cost_of(o, s->price) - least_cost(s->b, s->open[at], s->price));
    size_t i = 0, out = 0;
    for (size_t j = 0; j < nnow; j++) {
        const struct state *const from = &s->now[j];
        const struct state x = { .bytes = from->bytes + o->bytes, .error = from->error + o->error, .excess = from->excess + excess,
                                 .node = (uint32_t)(j * s->b->noffer + offer) };
        if (x.excess > s->limit || x.bytes + s->rest[at + 1] > s->most || x.bytes + s->reach[at + 1] < s->least)
            continue;
        for (; i < n && is_before(&list[i], &x); i++)
            append(s, s->merged, &out, &list[i]);
        append(s, s->merged, &out, &x);
    }
    for (; i < n; i++)
        append(s, s->merged, &out, &list[i]);
    return out;
}

/* Leaves the best of each of `width` ranges of bytes. */
static size_t thin(struct search *s, struct state *list, size_t n)
{
    if (n <= s->width)
        return n;
    const uint64_t low = list[0].bytes, range = (list[n - 1].bytes - low) / s->width + 1;
    size_t out = 1;
    for (size_t i = 1; i < n; i++) {
        struct state *const last = &list[out - 1];
        if ((last->bytes - low) / range != (list[i].bytes - low) / range)
            list[out++] = list[i];
        else if (list[i].error < last->error)
            *last = list[i];
    }
    s->thinned = true;
    return out;
}

/* All states after open item `at`, of those before it. */
static size_t add_item(struct search *s, size_t at, size_t nnow)
{
    const size_t item = s->open[at];
    const double least = least_cost(s->b, item, s->price);
    size_t n = 0;
    for (size_t j = 0; j < s->b->noffer; j++) {
        if (!is_left(s, &offers_of(s->b, item)[j], least))
            continue;
        n = merge_offer(s, at, j, nnow, s->next, n);
        struct state *const swap = s->next;
        s->next = s->merged;
        s->merged = swap;
    }
    n = thin(s, s->next, n);
    for (size_t i = 0; i < n; i++) {
        const uint32_t key = s->next[i].node;
        s->node[s->nnode] = (struct node){ s->now[key / s->b->noffer].node, (uint32_t)(key % s->b->noffer) };
        s->next[i].node = (uint32_t)s->nnode++;
    }
    struct state *const swap = s->now;
    s->now = s->next;
    s->next = swap;
    return n;
}

/* Sets choice to the best of all that is left, if there is any. */
static bool search(struct search *s, size_t *choice)
{
    size_t n = 1;
    const struct state *best = NULL;
    open_items(s, choice);
    s->now[0] = (struct state){ 0 };
    s->nnode = 0;
    for (size_t at = 0; at < s->nopen; at++)
        n = add_item(s, at, n);
    for (size_t i = 0; i < n && s->nopen > 0; i++)
        if (s->now[i].bytes >= s->least && (best == NULL || s->now[i].error < best->error))
            best = &s->now[i];
    if (best == NULL)
        return false;
    uint32_t node = best->node;
    for (size_t at = s->nopen; at-- > 0; node = s->node[node].from)
        choice[s->open[at]] = s->node[node].offer;
    return true;
}

static void end_search(struct search *s)
{
    free(s->open);
    free(s->rest);
    free(s->reach);
    free(s->now);
    free(s->next);
    free(s->merged);
    free(s->node);
}

/* Room for a search over all items. Offers go into the number of a state before it has a node. */
static enum apr_code begin_search(struct search *s, struct apr_error *e)
{
    const size_t n = s->b->nitem, fair = MOST_NODES / (n + 1);
    s->width = fair < FEWEST_STATES ? FEWEST_STATES : fair > MOST_STATES ? MOST_STATES : fair;
    const size_t states = s->width * s->b->noffer + 1;
    s->open = calloc(n + 1, sizeof *s->open);
    s->rest = calloc(n + 1, sizeof *s->rest);
    s->reach = calloc(n + 1, sizeof *s->reach);
    s->now = calloc(states, sizeof *s->now);
    s->next = calloc(states, sizeof *s->next);
    s->merged = calloc(states, sizeof *s->merged);
    s->node = calloc(n * s->width + 1, sizeof *s->node);
    const bool all = s->open && s->rest && s->reach && s->now && s->next && s->merged && s->node;
    return all ? APR_OK : apr_no_memory(e);
}

/* Searches for a smaller error, and again with the lower limit that it gives, while that helps. True: there is none. */
static bool improve(struct search *s, size_t *choice, size_t *trial, double bound)
{
    const size_t size = s->b->nitem * sizeof *choice;
    for (int round = 0; round < ROUNDS; round++) {
        const double error = error_of(s->b, choice);
        s->limit = error - bound + DUST * (error + s->price * (double)s->b->most);
        s->thinned = false;
        memcpy(trial, choice, size);
        const bool better = search(s, trial) && error_of(s->b, trial) < error;
        if (better)
            memcpy(choice, trial, size);
        if (!s->thinned || !better)
            return !s->thinned;
    }
    return false;
}

/* Searches for a choice that is not too small. */
static bool enlarge(struct search *s, size_t *choice, size_t *trial)
{
    memcpy(trial, choice, s->b->nitem * sizeof *choice);
    s->price = 0;
    s->limit = INFINITY;
    s->least = s->b->least;
    s->spread = true;
    s->thinned = false;
    if (search(s, trial))
        memcpy(choice, trial, s->b->nitem * sizeof *choice);
    return !s->thinned;
}

enum apr_code apr_budget_spend(const struct apr_budget *b, size_t *choice, struct apr_spent *spent, struct apr_error *e)
{
    uint64_t least, most;
    struct search s = { .b = b };
    apr_budget_range(b, &least, &most);
    if (least == UINT64_MAX || least > b->most)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "nothing fits %llu bytes", (unsigned long long)b->most);
    size_t *const trial = calloc(b->nitem + 1, sizeof *trial);
    enum apr_code code = trial == NULL ? apr_no_memory(e) : begin(b, choice, &s.price, e);
    if (code == APR_OK)
        code = begin_search(&s, e);
    if (code == APR_OK) {
        const struct apr_budget fits = { .offer = b->offer, .nitem = b->nitem, .noffer = b->noffer, .most = b->most };
        s.b = &fits;
        const double bound = bound_of(b, s.price);
        spent->exact = improve(&s, choice, trial, bound);
        spent->bound = fmax(0, fmin(bound, error_of(b, choice)));
        s.b = b;
        if (bytes_of(b, choice) < b->least)
            spent->exact = enlarge(&s, choice, trial);
        spent->bytes = bytes_of(b, choice);
        spent->error = error_of(b, choice);
    }
    end_search(&s);
    free(trial);
    return code;
}
