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
    struct cell c = { .hash = mixed(g->key[i]) };
    for (unsigned a = 0; a < AXES; a++) {
        const double at = (double)g->lane[i][a] / g->width + 0.37, low = floor(at), rest = at - low, margin = g->margin / g->width;
        const uint64_t own = hash_axis(a, low);
        c.hash += own;
        if (c.ndoubt < MOST_DOUBTS && (rest < margin || 1 - rest < margin))
            c.change[c.ndoubt++] = hash_axis(a, rest < margin ? low - 1 : low + 1) - own;
    }
    return c;
}

static double distance(const float *x, const float *y)
{
    double sum = 0;
    for (size_t l = 0; l < SKETCH; l++) {
        const double d = (double)x[l] - (double)y[l];
        sum += d * d;
    }
    return sum;
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
            const double d = g->key[p - 1] == g->key[i] ? distance(g->lane[p - 1], g->lane[i]) : INFINITY;
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

enum apr_code classify(const float (*lane)[SKETCH], const uint64_t *key, size_t n, double near, uint32_t *class, uint32_t *nclass,
                       struct apr_error *e)
{
    struct grid g = { .lane = lane, .key = key, .near = near, .width = 4 * near < 0.001 ? 0.001 : 4 * near, .margin = 0.7 * near,
                      .class = class };
    *nclass = 0;
    if (n >= UINT32_MAX)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "too many rows for a search by value");
    for (g.mask = 64; g.mask < 2 * n; g.mask *= 2) {}
    g.head = calloc(g.mask, sizeof *g.head);
    g.next = calloc(n + 1, sizeof *g.next);
    const bool memory = g.head != NULL && g.next != NULL;
    g.mask--;
    for (size_t i = 0; memory && i < n; i++) {
        const struct cell c = cell_of(&g, i);
        const uint32_t found = nearest(&g, i, &c);
        class[i] = found > 0 ? class[found - 1] : (*nclass)++;
        if (found > 0)
            continue;
        uint32_t *const head = &g.head[mixed(c.hash) & g.mask];
        g.next[i] = *head;
        *head = (uint32_t)i + 1;
    }
    free(g.head);
    free(g.next);
    return memory ? APR_OK : apr_no_memory(e);
}
