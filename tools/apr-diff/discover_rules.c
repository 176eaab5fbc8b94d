/* What order rows were put into, told as a rule when it is one. */
#include <stdlib.h>
#include <string.h>

#include "discover.h"

#define SLACK       20u /* one row in so many may be of another class than the rule says: what is found is measured */
#define ROUGH_SLACK 8u

/* ---- places --------------------------------------------------------------------------------------------------------- */

static int by_class(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    return x->class != y->class ? (x->class > y->class) - (x->class < y->class) : (x->at > y->at) - (x->at < y->at);
}

/* The first entry of a class, or n. */
static size_t first_of(const struct placed *p, size_t n, uint32_t class)
{
    size_t low = 0, high = n;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (p[mid].class < class)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

enum apr_code begin_places(struct places *p, const uint32_t *s, size_t ns, struct apr_error *e)
{
    *p = (struct places){ .s = s, .ns = ns, .row = malloc((ns + 1) * sizeof *p->row), .taken = calloc(ns + 1, sizeof *p->taken),
                          .skip = calloc(ns + 1, sizeof *p->skip) };
    if (p->row == NULL || p->taken == NULL || p->skip == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < ns; i++)
        p->row[i] = (struct placed){ s[i], (uint32_t)i };
    if (ns > 0)
        qsort(p->row, ns, sizeof *p->row, by_class);
    return APR_OK;
}

void end_places(struct places *p)
{
    free(p->row);
    free(p->taken);
    free(p->skip);
    *p = (struct places){ 0 };
}

static uint32_t place_of(struct places *p, uint32_t class, uint32_t wanted)
{
    if (wanted < p->ns && p->s[wanted] == class && !p->taken[wanted]) {
        p->taken[wanted] = true;
        return wanted;
    }
    const size_t first = first_of(p->row, p->ns, class);
    for (size_t i = first; i < p->ns && (i += p->skip[first]) < p->ns && p->row[i].class == class; p->skip[first]++, i = first)
        if (!p->taken[p->row[i].at]) {
            p->taken[p->row[i].at] = true;
            return p->row[i].at;
        }
    return UINT32_MAX;
}

void take_places(struct places *p, const uint32_t *t, size_t n, uint32_t *place)
{
    for (size_t j = 0; j < n; j++)
        place[j] = place_of(p, t[j], j == 0 ? 0 : place[j - 1] + 1);
}

void leave_places(struct places *p, const uint32_t *place, size_t n)
{
    for (size_t j = 0; j < n; j++)
        if (place[j] != UINT32_MAX) {
            p->taken[place[j]] = false;
            p->skip[first_of(p->row, p->ns, p->s[place[j]])] = 0;
        }
}

/* ---- rules ---------------------------------------------------------------------------------------------------------- */

/* Where row j of what a transform makes of n rows comes from. */
static size_t source(const struct apr_transform *t, size_t n, size_t j)
{
    size_t at = 0, width = 0;
    switch (t->op) {
    case APR_OP_ROPE_PERMUTE: {
        const size_t head = n / (size_t)t->n[0], p = j % head;
        return j - p + p % 2 * (head / 2) + p / 2;
    }
    case APR_OP_QKV_NEOX: {
        const size_t d = n / 3 / (size_t)t->n[0], part = j / (n / 3), head = j % (n / 3) / d;
        return (3 * head + part) * d + j % d;
    }
    case APR_OP_QKV_FALCON: {
        const size_t q = (size_t)(t->n[0] / t->n[1]), groups = (size_t)t->n[1], d = n / ((q + 2) * groups);
        const size_t nq = q * d * groups, nk = d * groups;
        if (j < nq)
            return j / (q * d) * (q + 2) * d + j % (q * d);
        return (j - nq) % nk / d * (q + 2) * d + (q + (j - nq) / nk) * d + j % d;
    }
    case APR_OP_REGROUP: {
        const size_t groups = (size_t)t->n[0], size = (size_t)t->n[1], from = (size_t)t->n[2];
        const size_t m = (n - from) / (groups * size), k = j - from;
        return j < from ? j : from + (k / size % groups * m + k / (size * groups)) * size + k % size;
    }
    case APR_OP_UNGROUP:
        for (unsigned i = 1; i < t->nn; i++)
            width += (size_t)t->n[i];
        for (unsigned i = 1; i < t->nn; at += (size_t)t->n[i++]) {
            const size_t part = (size_t)t->n[i], all = part * (size_t)t->n[0];
            if (j < all)
                return j / part * width + at + j % part;
            j -= all;
        }
        return 0;
    case APR_OP_ORDER:
        return t->order[j / (size_t)t->n[0]] * (size_t)t->n[0] + j % (size_t)t->n[0];
    default:
        return j;
    }
}

static size_t allowance(const struct strings *x, size_t n) { return n / (x->rough ? ROUGH_SLACK : SLACK); }

static bool fits(const struct strings *x, const struct apr_transform *t)
{
    const size_t allowed = allowance(x, x->n * x->slabs);
    size_t wrong = 0;
    for (size_t k = 0; k < x->slabs; k++)
        for (size_t j = 0; j < x->n && wrong <= allowed; j++)
            wrong += x->t[k * x->n + j] != x->s[k * x->n + source(t, x->n, j)];
    return wrong <= allowed;
}

static bool fits_heads(const struct strings *x, struct apr_transform *t)
{
    for (uint64_t heads = 1; heads <= x->n / 4; heads++) {
        *t = (struct apr_transform){ .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { heads } };
        if (x->n % (2 * heads) == 0 && fits(x, t))
            return true;
    }
    for (uint64_t heads = 2; heads <= x->n / 3; heads++) {
        *t = (struct apr_transform){ .op = APR_OP_QKV_NEOX, .nn = 1, .n = { heads } };
        if (x->n % (3 * heads) == 0 && fits(x, t))
            return true;
    }
    return false;
}

/* Rows before `still` stay where they are; so does the first block of what is regrouped. */
static bool fits_groups(const struct strings *x, const uint32_t *place, struct apr_transform *t)
{
    size_t still = 0;
    while (still < x->n && place[still] == still)
        still++;
    for (uint64_t size = still; size > 0; size--)
        for (uint64_t from = still - size, groups = 2; size <= (x->n - from) / 4 && groups <= (x->n - from) / size / 2; groups++) {
            if ((x->n - from) % (groups * size) != 0 || place[still] != from + (x->n - from) / groups)
                continue;
            *t = (struct apr_transform){ .op = APR_OP_REGROUP, .nn = 3, .n = { groups, size, from } };
            if (fits(x, t))
                return true;
        }
    return false;
}

bool find_groups(const uint32_t *place, size_t n, struct apr_transform *step)
{
    size_t width = 0, at = 0, j = 0;
    for (j = 1; j < n && place[j] == place[j - 1] + 1; j++) {}
    if (n == 0 || place[0] != 0 || j == n || place[j] == UINT32_MAX || place[j] < j)
        return false;
    width = place[j]; /* the second group begins */
    *step = (struct apr_transform){ .op = APR_OP_UNGROUP, .nn = 1, .n = { n / width } };
    if (n % width != 0 || n / width < 2)
        return false;
    for (j = 0; j < n; j += (size_t)step->n[step->nn++] * (n / width)) {
        size_t part = 1;
        if (step->nn == APR_MAX_PARTS || place[j] != at)
            return false;
        while (j + part < n && part < width - at && place[j + part] == at + part)
            part++;
        if (part * (n / width) > n - j)
            return false;
        step->n[step->nn] = part;
        at += part;
    }
    return at == width && step->nn > 2;
}

/* q of several heads, k and v of one each. */
static bool is_falcon(const struct apr_transform *groups, struct apr_transform *t)
{
    const uint64_t *n = groups->n;
    *t = (struct apr_transform){ .op = APR_OP_QKV_FALCON, .nn = 2, .n = { n[1] / n[2] * n[0], n[0] } };
    return groups->nn == 4 && n[2] == n[3] && n[1] % n[2] == 0 && n[1] > n[2];
}

/* Blocks of one size in any order, as long a size as will do. */
static enum apr_code make_order(struct discovery *d, const uint32_t *place, size_t n, struct apr_transform *t, bool *found,
                                struct apr_error *e)
{
    size_t size = n;
    for (size_t j = 0, run = 1; j < n; j++, run++)
        if (j + 1 == n || place[j + 1] != place[j] + 1) { /* a run ends here: sizes divide its length and where it begins */
            for (size_t a = run, b; a != 0; a = b) {
                b = size % a;
                size = a;
            }
            for (size_t a = place[j] + 1 - run, b; a != 0; a = b) {
                b = size % a;
                size = a;
            }
            run = 0;
        }
    const size_t blocks = n / size;
    *found = blocks <= APR_MAX_ORDER;
    if (!*found)
        return APR_OK;
    uint32_t *const order = apr_arena_alloc(&d->arena, 2 * blocks * sizeof *order);
    if (order == NULL)
        return apr_no_memory(e);
    for (size_t k = 0; k < blocks; k++) {
        order[k] = place[k * size] / (uint32_t)size;
        order[blocks + order[k]] = (uint32_t)k;
    }
    *t = (struct apr_transform){ .op = APR_OP_ORDER, .nn = 1, .n = { size }, .norder = (unsigned)blocks, .order = order };
    return APR_OK;
}

/* Gives rows that stand nowhere the places that are left, by rising number; false where too many do. */
static bool fill_places(const struct strings *x, uint32_t *place, bool *taken)
{
    const size_t n = x->n, allowed = allowance(x, n);
    size_t missing = 0, free_at = 0;
    memset(taken, 0, n);
    for (size_t j = 0; j < n; j++) {
        missing += place[j] == UINT32_MAX;
        if (place[j] != UINT32_MAX)
            taken[place[j]] = true;
    }
    for (size_t j = 0; j < n && missing <= allowed; j++) {
        while (place[j] == UINT32_MAX && taken[free_at])
            free_at++;
        if (place[j] == UINT32_MAX)
            place[j] = (uint32_t)free_at++;
    }
    return missing <= allowed;
}

/* From the last row to the first, where noise hides some of them. */
static enum apr_code fits_reverse(struct discovery *d, const struct strings *x, struct apr_transform *t, bool *found, struct apr_error *e)
{
    *found = x->n > 2 && x->n <= APR_MAX_ORDER;
    uint32_t *const order = *found ? apr_arena_alloc(&d->arena, 2 * x->n * sizeof *order) : NULL;
    if (order == NULL)
        return *found ? apr_no_memory(e) : APR_OK;
    for (size_t j = 0; j < x->n; j++)
        order[j] = order[x->n + j] = (uint32_t)(x->n - 1 - j);
    *t = (struct apr_transform){ .op = APR_OP_ORDER, .nn = 1, .n = { 1 }, .norder = (unsigned)x->n, .order = order };
    *found = fits(x, t);
    return APR_OK;
}

/* A rule of rows that places tell, or any order; cols: the same of columns, for which there are fewer rules. */
static enum apr_code rule_of(struct discovery *d, const struct strings *x, bool cols, uint32_t *place, struct apr_transform *step,
                             bool *found, struct apr_error *e)
{
    struct apr_transform groups;
    if (fits_groups(x, place, step)) {
        step->op = cols ? APR_OP_REGROUP_COLS : APR_OP_REGROUP;
        return APR_OK;
    }
    if (!cols && find_groups(place, x->n, &groups)) {
        *step = groups;
        if ((is_falcon(&groups, step) && fits(x, step)) || (*step = groups, fits(x, step)))
            return APR_OK;
    }
    if (x->rough) {
        APR_TRY(fits_reverse(d, x, step, found, e));
        if (*found && cols)
            step->op = APR_OP_ORDER_COLS;
        if (*found)
            return APR_OK;
    }
    bool *const taken = malloc(x->n + 1);
    if (taken == NULL)
        return apr_no_memory(e);
    *found = fill_places(x, place, taken);
    free(taken);
    if (*found)
        APR_TRY(make_order(d, place, x->n, step, found, e));
    if (*found && cols)
        step->op = APR_OP_ORDER_COLS;
    /* every slab has the order of the first, or there is none */
    const size_t size = *found ? (size_t)step->n[0] : 1;
    size_t wrong = 0;
    for (size_t j = 0; *found && j < x->n * x->slabs; j++)
        wrong += x->t[j] != x->s[j - j % x->n + step->order[j % x->n / size] * size + j % size];
    *found &= wrong <= allowance(x, x->n * x->slabs);
    return APR_OK;
}

enum apr_code order_rule(struct discovery *d, const struct strings *x, bool cols, struct apr_transform *step, unsigned *nstep, bool *found,
                        struct apr_error *e)
{
    const struct apr_transform same = { .op = APR_OP_SQUEEZE };
    *nstep = 0;
    *found = fits(x, &same);
    if (*found)
        return APR_OK;
    *nstep = 1;
    *found = !cols && fits_heads(x, step);
    if (*found)
        return APR_OK;
    uint32_t *const place = malloc((x->n + 1) * sizeof *place);
    if (place == NULL)
        return apr_no_memory(e);
    *found = true;
    struct places all;
    enum apr_code code = begin_places(&all, x->s, x->n, e);
    if (code == APR_OK)
        take_places(&all, x->t, x->n, place);
    end_places(&all);
    if (code == APR_OK)
        code = rule_of(d, x, cols, place, step, found, e);
    free(place);
    return code;
}
