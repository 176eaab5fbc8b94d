/* Classes of points that are near each other, found by the cells of a grid. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "discover.h"

#define AXES        12u  /* numbers of a point that say in which cell it lies */
#define MOST_DOUBTS 8u   /* of them, that may be as well those of the next cell: 256 cells to look into */
#define MOST_LOOKS  128u  /* points that one is held against: a bound for those who lie all in one cell and in no class */

/* The first point of each class lies in the list of its cell. */
struct grid {
    const float (*lane)[SKETCH];
    const uint64_t *key;
    double          near, width, margin;
    uint32_t       *head, *next, *class; /* by the cell's hash, by point: number + 1, 0 for none; of each point */
    size_t          mask;
};

/* The cell of a point, and the neighbours along the axes in which it is near the next: their hashes differ by `change`. */
struct cell {
    uint64_t hash, change[MOST_DOUBTS];
    unsigned ndoubt;
};

static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    return x ^ x >> 32;
}

static uint64_t hash_axis(unsigned axis, double number) { return mixed((uint64_t)(int64_t)number * 0x9E3779B97F4A7C15u + axis + 1); }

static struct cell cell_of(const struct grid *g, size_t i)
{
    struct cell c = { .hash = mixed(g->key[i] >> 1) };
    for (unsigned a = 0; a < AXES; a++) {
        const double at = (double)g->lane[i][a] / g->width + 0.37, low = floor(at), rest = at - low, margin = g->margin / g->width;
        const uint64_t own = hash_axis(a, low);
        c.hash += own;
        if (c.ndoubt < MOST_DOUBTS && (rest < margin || 1 - rest < margin))
            c.change[c.ndoubt++] = hash_axis(a, rest < margin ? low - 1 : low + 1) - own;
    }
    return c;
}

/* The nearest first point of a class that is near enough, n + 1 for none. */
static uint32_t nearest(const struct grid *g, size_t i, const struct cell *c)
{
    double best = g->near * g->near;
    uint32_t found = 0;
    unsigned looks = 0;
    for (unsigned set = 0; set < 1u << c->ndoubt; set++) {
        uint64_t hash = c->hash;
        for (unsigned k = 0; k < c->ndoubt; k++)
            hash += set >> k & 1 ? c->change[k] : 0;
        for (uint32_t p = g->head[mixed(hash) & g->mask]; p != 0 && looks < MOST_LOOKS; p = g->next[p - 1], looks++) {
            const double d = g->key[p - 1] >> 1 == g->key[i] >> 1 ? distance_of(g->lane[p - 1], g->lane[i]) : INFINITY;
            if (d <= best && (d < best || found == 0)) {
                best = d;
                found = p;
            }
            if (d == 0)
                return p;
        }
    }
    return found;
}

/* Gives point i the class of one that is near, or the next. True where it is the first of its class. */
static bool settle(struct grid *g, size_t i, uint32_t *nclass)
{
    const struct cell c = cell_of(g, i);
    const uint32_t found = nearest(g, i, &c);
    g->class[i] = found > 0 ? g->class[found - 1] : (*nclass)++;
    if (found > 0)
        return false;
    uint32_t *const head = &g->head[mixed(c.hash) & g->mask];
    g->next[i] = *head;
    *head = (uint32_t)i + 1;
    return true;
}

/* A's points are told apart as those of files that were rounded are; then each of B's belongs to the nearest of A's. */
static enum apr_code settle_roughly(struct grid *g, const struct points *p, size_t n, double near, uint32_t *nclass, struct apr_error *e)
{
    uint32_t *const first = malloc((n + 1) * sizeof *first), *const found = malloc((n + 1) * sizeof *found);
    size_t nfirst = 0;
    enum apr_code code = first == NULL || found == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < n; i++)
        if (!is_of_b(g->key[i]) && settle(g, i, nclass))
            first[nfirst++] = (uint32_t)i;
    if (code == APR_OK)
        code = find_nearest(p, n, first, nfirst, near, found, e);
    for (size_t i = 0; code == APR_OK && i < n; i++)
        if (is_of_b(g->key[i]) && found[i] != UINT32_MAX)
            g->class[i] = g->class[found[i]];
        else if (is_of_b(g->key[i]))
            settle(g, i, nclass);
    free(first);
    free(found);
    return code;
}

enum apr_code classify(const struct points *p, size_t n, double near, uint32_t *class, uint32_t *nclass, struct apr_error *e)
{
    const double own = fmin(near, NEAR_ROUNDED);
    struct grid g = { .lane = p->lane, .key = p->key, .near = own, .width = fmax(4 * own, 0.001), .margin = 0.7 * own, .class = class };
    *nclass = 0;
    if (n >= UINT32_MAX)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "too many rows for a search by value");
    for (g.mask = 64; g.mask < 2 * n; g.mask *= 2) {}
    g.head = calloc(g.mask, sizeof *g.head);
    g.next = calloc(n + 1, sizeof *g.next);
    enum apr_code code = g.head == NULL || g.next == NULL ? apr_no_memory(e) : APR_OK;
    g.mask--;
    if (code == APR_OK && near > NEAR_ROUNDED)
        code = settle_roughly(&g, p, n, near, nclass, e);
    else
        for (size_t i = 0; code == APR_OK && i < n; i++)
            settle(&g, i, nclass);
    free(g.head);
    free(g.next);
    return code;
}
