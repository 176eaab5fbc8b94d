/* The nearest of many points, found in a tree that halves them along the axis in which they differ most. */
#include <math.h>
#include <stdlib.h>

#include "discover.h"

#define LEAF       8u
#define SAMPLED    32u
#define MOST_SEEN  1024u /* points that one is held against */
#define TRIED      64u   /* points of a group, of which one in HOPE finds another, or none of the rest is looked for */
#define HOPE       16u
#define AXIS_SHARE 0.4   /* noise is spread over the axes: of what may lie between two points, so much along one */

/* Points [first, end) of `point` are those of one tree or of a part of it; the one in the middle parts them, along axis[middle]. */
struct trees {
    const float (*lane)[SKETCH];
    uint32_t      *point;
    unsigned char *axis;
};

struct sought {
    const struct trees *t;
    const float        *lane;
    double              best, reach; /* the square of the distance; along an axis */
    uint32_t            found, seen;
};

/* ---- making --------------------------------------------------------------------------------------------------------- */

static unsigned widest_axis(const struct trees *t, size_t first, size_t end)
{
    const size_t step = (end - first + SAMPLED - 1) / SAMPLED;
    double widest = -1;
    unsigned axis = 0;
    for (unsigned a = 0; a < SKETCH; a++) {
        double sum = 0, square = 0, n = 0;
        for (size_t i = first; i < end; i += step, n++) {
            const double x = (double)t->lane[t->point[i]][a];
            sum += x;
            square += x * x;
        }
        const double spread = square - sum * sum / n;
        if (spread > widest) {
            widest = spread;
            axis = a;
        }
    }
    return axis;
}

/* Equal ones in the order of their numbers. */
static bool lies_before(const struct trees *t, unsigned axis, uint32_t x, uint32_t y)
{
    const float at_x = t->lane[x][axis], at_y = t->lane[y][axis];
    return at_x != at_y ? at_x < at_y : x < y;
}

static void swap(uint32_t *x, uint32_t *y)
{
    const uint32_t keep = *x;
    *x = *y;
    *y = keep;
}

/* Puts the one that belongs in the middle there, those that lie before it in front. */
static void part_at(const struct trees *t, unsigned axis, size_t first, size_t end, size_t middle)
{
    uint32_t *const p = t->point;
    uint64_t seed = 1;
    while (end - first > 1) {
        size_t at = first;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        swap(&p[first + (size_t)((seed >> 33) % (end - first))], &p[end - 1]);
        for (size_t i = first; i + 1 < end; i++)
            if (lies_before(t, axis, p[i], p[end - 1]))
                swap(&p[i], &p[at++]);
        swap(&p[at], &p[end - 1]);
        if (at == middle)
            return;
        if (at < middle)
            first = at + 1;
        else
            end = at;
    }
}

static void plant(const struct trees *t, size_t first, size_t end)
{
    while (end - first > LEAF) {
        const size_t middle = first + (end - first) / 2;
        t->axis[middle] = (unsigned char)widest_axis(t, first, end);
        part_at(t, t->axis[middle], first, end, middle);
        plant(t, first, middle); /* half as many each time */
        first = middle + 1;
    }
}

/* ---- seeking -------------------------------------------------------------------------------------------------------- */

static void look_at(struct sought *s, uint32_t point)
{
    const double d = distance_of(s->t->lane[point], s->lane);
    s->seen++;
    if (d < s->best || (d == s->best && (s->found == UINT32_MAX || point < s->found))) {
        s->best = d;
        s->found = point;
    }
}

/* The near half first, then the other one, if what is sought may lie there. */
static void seek(struct sought *s, size_t first, size_t end)
{
    while (end - first > LEAF && s->seen < MOST_SEEN) {
        const size_t middle = first + (end - first) / 2;
        const uint32_t point = s->t->point[middle];
        const unsigned axis = s->t->axis[middle];
        const double beyond = (double)s->lane[axis] - (double)s->t->lane[point][axis];
        look_at(s, point);
        seek(s, beyond < 0 ? first : middle + 1, beyond < 0 ? middle : end);
        if (fabs(beyond) > s->reach || beyond * beyond > s->best)
            return;
        *(beyond < 0 ? &first : &end) = beyond < 0 ? middle + 1 : middle;
    }
    for (size_t i = first; i < end && s->seen < MOST_SEEN; i++)
        look_at(s, s->t->point[i]);
}

/* ---- all points ------------------------------------------------------------------------------------------------------ */

static int by_key(const void *p, const void *q, void *key)
{
    const uint32_t x = *(const uint32_t *)p, y = *(const uint32_t *)q;
    const uint64_t *const k = key;
    return k[x] != k[y] ? (k[x] > k[y]) - (k[x] < k[y]) : (x > y) - (x < y);
}

/* Where the points of a key begin, or of the next. */
static size_t key_begins(const uint32_t *point, size_t n, const uint64_t *key, uint64_t wanted)
{
    size_t low = 0, high = n;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (key[point[mid]] < wanted)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static uint32_t nearest_of(const struct trees *t, size_t npoint, const uint64_t *key, size_t i, double near)
{
    struct sought s = { t, t->lane[i], near * near, AXIS_SHARE * near, UINT32_MAX, 0 };
    const uint64_t own = key[i] & ~(uint64_t)1;
    seek(&s, key_begins(t->point, npoint, key, own), key_begins(t->point, npoint, key, own + 1));
    return s.found;
}

/* Points [first, end) are a group: rows of a tensor. */
static void seek_group(const struct trees *t, size_t npoint, const uint64_t *key, size_t first, size_t end, double near, uint32_t *nearest)
{
    const size_t step = (end - first + TRIED - 1) / TRIED;
    size_t tried = 0, found = 0;
    for (size_t i = first; i < end; i += step, tried++)
        found += nearest_of(t, npoint, key, i, near) != UINT32_MAX;
    for (size_t i = first; i < end; i++)
        nearest[i] = HOPE * found < tried ? UINT32_MAX : nearest_of(t, npoint, key, i, near);
}

enum apr_code find_nearest(const struct points *p, size_t n, uint32_t *point, size_t npoint, double near, uint32_t *nearest,
                           struct apr_error *e)
{
    const uint64_t *const key = p->key;
    struct trees t = { p->lane, point, malloc(npoint + 1) };
    if (t.axis == NULL)
        return apr_no_memory(e);
    if (npoint > 0)
        qsort_r(point, npoint, sizeof *point, by_key, (void *)(uintptr_t)key);
    for (size_t i = 0, end; i < npoint; i = end) {
        for (end = i + 1; end < npoint && key[point[end]] == key[point[i]]; end++) {}
        plant(&t, i, end);
    }
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && p->group != NULL && p->group[end] == p->group[i]; end++) {}
        if (is_of_b(key[i]))
            seek_group(&t, npoint, key, i, end, near, nearest);
    }
    free(t.axis);
    return APR_OK;
}
