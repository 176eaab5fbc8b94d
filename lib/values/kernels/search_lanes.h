/* The searches of search.h, one block a lane (lanes.h): the same operations in the same order, of blocks turned so that x[i] holds
 * element i of each. Levels are floats here, as sums need them, and are not kept: by what they were taken tells them again
 * (levels_as_found). Where all that is rounded lies within 2^22, which is nearly always, a sum and a limit do; else all lanes take the
 * long way. Functions are inlined only where their arguments must be known: all else of it would make the code large. */
#ifndef APR_KERNELS_SEARCH_LANES_H
#define APR_KERNELS_SEARCH_LANES_H

#include "values/kernels/search.h"

/* What a search found for each lane: the scale and the min, and by what its levels were taken,
 *     per_scale * (x - from);    a NaN for levels that are all 0 */
struct lanes_found {
    floats scale, min, per_scale, from;
};

struct lanes_fit {
    floats a, b;
};

/* Lanes with a NaN or an infinity. */
LANE which not_finite(const floats *x, unsigned n)
{
    floats zero = all(0);
    for (unsigned i = 0; i < n; i++)
        zero = zero + x[i] * all(0);
    return is_nan(zero);
}

/* Whether nearest() does. */
LANE which is_near(floats v) { return is_at_most(magnitude(v), all(0x3fffffp0f)); }

/* The nearest level. Of what is near, a sum with 1.5 * 2^23 holds it in its low bits: it is limited there, as integers are, on either side
 * or on none. */
enum limits { NONE, UPPER, BOTH };
LANE floats near_level(floats v, int least, int most, enum limits limits)
{
    const ints zero = bits(all(APR_TO_NEAREST));
    ints sum = bits(v + all(APR_TO_NEAREST));
    if (limits != NONE)
        sum = lesser_ints(sum, plus(zero, all_ints(most)));
    if (limits == BOTH)
        sum = greater_ints(sum, plus(zero, all_ints(least)));
    return floats_of(sum) - all(APR_TO_NEAREST);
}
LANE floats any_level(floats v, int least, int most) { return floats_of_ints(clamp_ints(nearest_ints(v), least, most)); }

/* Blocks for which levels around half are sought. */
struct around {
    const floats *x, *w, *wx;
    unsigned      n;
    int           half;
    bool          near;
};

/* How levels fit at `count` scales, one or two. */
LANE void fits_at(const struct around *a, const floats *per_scale, unsigned count, enum limits limits, struct lanes_fit *f)
{
    UNROLL4
    for (unsigned k = 0; k < count; k++)
        f[k].a = f[k].b = all(0);
    UNROLL4
    for (unsigned i = 0; i < a->n; i++)
        UNROLL4
        for (unsigned k = 0; k < count; k++) {
            const floats place = per_scale[k] * a->x[i];
            const floats l = a->near ? near_level(place, -a->half, a->half - 1, limits) : any_level(place, -a->half, a->half - 1);
            f[k].a = f[k].a + a->wx[i] * l;
            f[k].b = f[k].b + a->w[i] * l * l;
        }
}

/* What is kept of a fit that is better than the best one. */
LANE void keep_better(struct lanes_fit f, floats per_scale, floats *best, struct lanes_found *found)
{
    const which better = both(is_more(f.b, all(0)), is_more(f.a * f.a, *best * f.b));
    const floats scale = f.a / f.b;
    found->scale = choose(better, scale, found->scale);
    found->per_scale = choose(better, per_scale, found->per_scale);
    *best = choose(better, scale * f.a, *best);
}

/* Two of the fits that follow the first, at slack and one more than that, or at -1 and 1. */
LANE void try_slack(const struct around *a, floats at, int slack, enum limits limits, floats *best, struct lanes_found *found)
{
    const int second = slack == -1 ? 1 : slack + 1;
    const floats per_scale[2] = { all(-((float)a->half + 0.1f * (float)slack)) / at, all(-((float)a->half + 0.1f * (float)second)) / at };
    struct lanes_fit f[2];
    fits_at(a, per_scale, 2, limits, f);
    keep_better(f[0], per_scale[0], best, found);
    keep_better(f[1], per_scale[1], best, found);
}

/* The first fit is of the farthest value at level 0. With a slack of -6 or less no value lies beyond the levels, of 4 or less only on the
 * other side of 0. */
LANE struct lanes_found search_around(const struct around *a)
{
    const floats at = farthest(a->x, a->n);
    struct lanes_found found = { .min = all(0), .per_scale = all((float)-a->half) / at, .from = all(0) };
    struct lanes_fit first;
    fits_at(a, &found.per_scale, 1, UPPER, &first);
    found.scale = choose(is_other(first.b, all(0)), first.a / first.b, all(0));
    floats best = found.scale * first.a;
    for (int slack = -9; slack < -5; slack += 2)
        try_slack(a, at, slack, NONE, &best, &found);
    for (int slack = -5; slack < 4; slack += slack == -1 ? 3 : 2)
        try_slack(a, at, slack, UPPER, &best, &found);
    for (int slack = 4; slack < 9; slack += 2)
        try_slack(a, at, slack, BOTH, &best, &found);
    const which nothing = is_less(magnitude(at), all(APR_ALMOST_NOTHING));
    found.scale = choose(nothing, all(0), found.scale);
    found.per_scale = choose(nothing, all(NAN), found.per_scale);
    return found;
}

LEVEL static struct lanes_found search_near(struct around a)
{
    a.near = true;
    return search_around(&a);
}
LEVEL static struct lanes_found search_far(struct around a)
{
    a.near = false;
    return search_around(&a);
}

/* apr_fit_around(), n at most 32. The farthest value at a level not beyond half + 0.9: near, if all is finite. */
LEVEL static struct lanes_found fit_around(const floats *x, const floats *w, unsigned n, int half)
{
    floats wx[32];
    for (unsigned i = 0; i < n; i++)
        wx[i] = w[i] * x[i];
    const struct around a = { x, w, wx, n, half, false };
    return any(not_finite(x, n)) ? search_far(a) : search_near(a);
}

/* One turn of element i. Where its place would be beyond all levels, lanes take the long way. */
LANE which take_turn(floats x, int half, floats *level, struct lanes_fit *f)
{
    const floats w = x * x, wx = w * x;
    struct lanes_fit other = { f->a - wx * *level, f->b - w * *level * *level };
    const which can = is_more(other.a, all(0));
    const floats place = x * other.b / other.a;
    const bool near = !any(unless(can, is_near(place)));
    const floats better = near ? near_level(place, -half, half - 1, BOTH) : any_level(place, -half, half - 1);
    other.a = other.a + wx * better;
    other.b = other.b + w * better * better;
    const which fits = both(is_more(other.b, all(0)), is_more(other.a * other.a * f->b, f->a * f->a * other.b));
    const which changes = both(both(can, fits), is_other(better, *level));
    *level = choose(changes, better, *level);
    f->a = choose(changes, other.a, f->a);
    f->b = choose(changes, other.b, f->b);
    return changes;
}

/* apr_fit_by_turns() of TURNS times LANES blocks of 16, since each turn waits for the one before it. Scales only. */
#define TURNS 4
LEVEL static void fit_by_turns(floats x[TURNS][16], int half, floats scale[TURNS])
{
    floats level[TURNS][16], at[TURNS];
    struct lanes_fit f[TURNS];
    which changed = no_lane();
    for (unsigned t = 0; t < TURNS; t++) {
        at[t] = farthest(x[t], 16);
        f[t] = (struct lanes_fit){ all(0), all(0) };
        for (unsigned i = 0; i < 16; i++) {
            const floats w = x[t][i] * x[t][i];
            level[t][i] = any_level(all((float)-half) / at[t] * x[t][i], -half, half - 1);
            f[t].a = f[t].a + w * x[t][i] * level[t][i];
            f[t].b = f[t].b + w * level[t][i] * level[t][i];
        }
    }
    for (unsigned round = 0; round < 5; round++) {
        changed = no_lane();
        for (unsigned i = 0; i < 16; i++)
            UNROLL4
            for (unsigned t = 0; t < TURNS; t++)
                changed = either(changed, take_turn(x[t][i], half, &level[t][i], &f[t]));
        if (!any(changed))
            break;
    }
    for (unsigned t = 0; t < TURNS; t++) {
        const which something = unless(is_more(f[t].b, all(0)), is_less(magnitude(at[t]), all(APR_ALMOST_NOTHING)));
        scale[t] = choose(something, f[t].a / f[t].b, all(0));
    }
}

/* A block's range and the sums of its weights. */
struct lanes_range {
    floats least, most, w, wx;
};

LANE struct lanes_range range_of(const floats *x, const floats *w, unsigned n)
{
    struct lanes_range r = { x[0], x[0], w[0], w[0] * x[0] };
    for (unsigned i = 1; i < n; i++) {
        r.least = lesser(x[i], r.least);
        r.most = greater(x[i], r.most);
        r.w = r.w + w[i];
        r.wx = r.wx + w[i] * x[i];
    }
    return r;
}

/* Blocks, ABREAST times LANES of them, since each step of this search waits for the one before it. It is passed by value, so that compilers
 * see that nothing stored changes it. */
#define ABREAST 2
struct abreast {
    const floats *x[ABREAST], *w[ABREAST];
    unsigned      n;
    int           largest;
    bool          absolute, finite;
};

/* The same on their way: w l, w l l and w l x are summed over levels l. Lanes that are done have but one value. */
struct from_min {
    struct abreast     v;
    struct lanes_range range[ABREAST];
    which              done[ABREAST];
    floats             wl[ABREAST], wll[ABREAST], wlx[ABREAST], level[32][ABREAST];
};

LANE void sum_errors(struct abreast v, const struct from_min *b, const floats *scale, const floats *min, bool absolute, floats *error)
{
    floats sum[ABREAST];
    UNROLL4
    for (unsigned k = 0; k < ABREAST; k++)
        sum[k] = all(0);
    UNROLL4
    for (unsigned i = 0; i < v.n; i++)
        UNROLL4
        for (unsigned k = 0; k < ABREAST; k++) {
            const floats off = scale[k] * b->level[i][k] + min[k] - v.x[k][i];
            sum[k] = sum[k] + v.w[k][i] * (absolute ? magnitude(off) : square(off));
        }
    memcpy(error, sum, sizeof sum);
}

LEVEL static void errors_of(const struct from_min *b, const floats *scale, const floats *min, floats *error)
{
    if (b->v.absolute)
        sum_errors(b->v, b, scale, min, true, error);
    else
        sum_errors(b->v, b, scale, min, false, error);
}

LANE void sum_levels(struct abreast v, const floats *per_scale, const floats *from, bool near, struct from_min *b)
{
    floats wl[ABREAST], wll[ABREAST], wlx[ABREAST], per[ABREAST], least[ABREAST];
    memcpy(per, per_scale, sizeof per);
    memcpy(least, from, sizeof least);
    UNROLL4
    for (unsigned k = 0; k < ABREAST; k++)
        wl[k] = wll[k] = wlx[k] = all(0);
    UNROLL4
    for (unsigned i = 0; i < v.n; i++)
        UNROLL4
        for (unsigned k = 0; k < ABREAST; k++) {
            const floats place = per[k] * (v.x[k][i] - least[k]);
            const floats l = near ? near_level(place, 0, v.largest, BOTH) : any_level(place, 0, v.largest), each = v.w[k][i] * l;
            b->level[i][k] = l;
            wl[k] = wl[k] + each;
            wll[k] = wll[k] + each * l;
            wlx[k] = wlx[k] + each * v.x[k][i];
        }
    memcpy(b->wl, wl, sizeof wl);
    memcpy(b->wll, wll, sizeof wll);
    memcpy(b->wlx, wlx, sizeof wlx);
}

/* Levels are monotonous in x: where those of the range's ends are near, all are. */
LEVEL static void take_levels(struct from_min *b, const floats *per_scale, const floats *from)
{
    bool near = b->v.finite;
    UNROLL4
    for (unsigned k = 0; k < ABREAST; k++) {
        const floats least = per_scale[k] * (b->range[k].least - from[k]), most = per_scale[k] * (b->range[k].most - from[k]);
        near &= every(either(both(is_near(least), is_near(most)), b->done[k]));
    }
    if (near)
        sum_levels(b->v, per_scale, from, true, b);
    else
        sum_levels(b->v, per_scale, from, false, b);
}

/* The line that is nearest to the values, given their levels; it means nothing unless the determinant is more than 0. */
LANE floats line_of(const struct from_min *b, unsigned k, floats *scale, floats *min)
{
    const floats w = b->range[k].w, wx = b->range[k].wx, wl = b->wl[k], wll = b->wll[k], wlx = b->wlx[k];
    const floats determinant = w * wll - wl * wl;
    *scale = (w * wlx - wx * wl) / determinant;
    *min = (wll * wx - wl * wlx) / determinant;
    const which above = is_more(*min, all(0));
    if (any(above)) {
        *scale = choose(above, wlx / wll, *scale);
        *min = choose(above, all(0), *min);
    }
    return determinant;
}

/* One scale tried. */
LEVEL static void step_from_min(struct from_min *b, float aim, struct lanes_found *found, floats *least_error)
{
    floats per_scale[ABREAST], from[ABREAST], scale[ABREAST], min[ABREAST], determinant[ABREAST], error[ABREAST];
    UNROLL4
    for (unsigned k = 0; k < ABREAST; k++) {
        from[k] = found[k].min;
        per_scale[k] = all(aim) / (b->range[k].most - from[k]);
    }
    take_levels(b, per_scale, from);
    UNROLL4
    for (unsigned k = 0; k < ABREAST; k++)
        determinant[k] = line_of(b, k, &scale[k], &min[k]);
    errors_of(b, scale, min, error);
    UNROLL4
    for (unsigned k = 0; k < ABREAST; k++) {
        const which better = both(is_more(determinant[k], all(0)), is_less(error[k], least_error[k]));
        found[k].from = choose(better, from[k], found[k].from);
        found[k].per_scale = choose(better, per_scale[k], found[k].per_scale);
        found[k].scale = choose(better, scale[k], found[k].scale);
        found[k].min = choose(better, min[k], found[k].min);
        least_error[k] = choose(better, error[k], least_error[k]);
    }
}

/* apr_fit_from_min(), n at most 32. Of x and w n for each ABREAST follow one another. */
LEVEL static void fit_from_min(const floats *x, const floats *w, unsigned n, const struct apr_steps *s, struct lanes_found found[ABREAST])
{
    struct from_min b = { .v = { .n = n, .largest = s->largest, .absolute = s->absolute, .finite = !any(not_finite(x, ABREAST * n)) } };
    floats per_scale[ABREAST], from[ABREAST], scale[ABREAST], error[ABREAST];
    UNROLL4
    for (unsigned k = 0; k < ABREAST; k++) {
        b.v.x[k] = x + k * n;
        b.v.w[k] = w + k * n;
        b.range[k] = range_of(b.v.x[k], b.v.w[k], n);
        from[k] = lesser(all(0), b.range[k].least);
        b.done[k] = is_equal(b.range[k].most, from[k]);
        per_scale[k] = all((float)s->largest) / (b.range[k].most - from[k]);
        scale[k] = all(1) / per_scale[k];
        found[k] = (struct lanes_found){ scale[k], from[k], per_scale[k], from[k] };
    }
    take_levels(&b, per_scale, from);
    errors_of(&b, scale, from, error);
    for (unsigned i = 0; i <= s->nstep; i++)
        step_from_min(&b, s->first + s->step * (float)i + (float)s->largest, found, error);
    UNROLL4
    for (unsigned k = 0; k < ABREAST; k++) {
        found[k].scale = choose(b.done[k], all(0), found[k].scale);
        found[k].per_scale = choose(b.done[k], all(0), found[k].per_scale);
        found[k].from = choose(b.done[k], all(0), found[k].from);
        found[k].min = -choose(b.done[k], from[k], found[k].min);
    }
}

LANE floats level_at_most(floats v, int largest) { return lesser(all((float)largest), nearest_of_any(v)); }
LANE floats level_in_byte(floats level) { return floats_of_ints(and(truncated(level), all_ints(255))); }

LANE floats best_of_nine(const floats *x, const floats *w, unsigned n, int largest, floats most)
{
    floats per_scale = all((float)largest) / most, scale = all(1) / per_scale, least = all(0);
    for (unsigned i = 0; i < n; i++) {
        const floats off = x[i] - scale * level_in_byte(nearest_of_any(per_scale * x[i]));
        least = least + w[i] * off * off;
    }
    for (int k = -4; k <= 4; k++) {
        const floats now = all(0.1f * (float)k + (float)largest) / most;
        floats error = all(0);
        scale = all(1) / now;
        for (unsigned i = 0; i < n; i++) {
            const floats off = x[i] - scale * level_at_most(now * x[i], largest);
            error = error + w[i] * off * off;
        }
        const which better = k == 0 ? no_lane() : is_less(error, least);
        least = choose(better, error, least);
        per_scale = choose(better, now, per_scale);
    }
    return per_scale;
}

LANE which take_positive_turn(floats x, floats w, int largest, floats *level, struct lanes_fit *f)
{
    const floats wx = w * x;
    struct lanes_fit other = { f->a - wx * *level, f->b - w * *level * *level };
    const which can = both(is_more(other.a, all(0)), is_more(other.b, all(0)));
    const floats better = level_at_most(x * other.b / other.a, largest);
    other.a = other.a + wx * better;
    other.b = other.b + w * better * better;
    const which fits = is_more(other.a * other.a * f->b, f->a * f->a * other.b);
    const which changes = both(both(can, fits), is_other(better, *level));
    *level = choose(changes, level_in_byte(better), *level);
    f->a = choose(changes, other.a, f->a);
    f->b = choose(changes, other.b, f->b);
    return changes;
}

/* apr_fit_positive(), levels as floats. */
LEVEL static floats fit_positive(const floats *x, const floats *w, unsigned n, int largest, floats *level)
{
    floats most = all(0);
    for (unsigned i = 0; i < n; i++)
        most = greater(most, x[i]);
    const floats per_scale = best_of_nine(x, w, n, largest, most);
    struct lanes_fit f = { all(0), all(0) };
    for (unsigned i = 0; i < n; i++) {
        const floats l = level_at_most(per_scale * x[i], largest);
        f.a = f.a + w[i] * x[i] * l;
        f.b = f.b + w[i] * l * l;
        level[i] = level_in_byte(l);
    }
    for (unsigned round = 0; round < 5; round++) {
        which changed = no_lane();
        for (unsigned i = 0; i < n; i++)
            changed = either(changed, take_positive_turn(x[i], w[i], largest, &level[i], &f));
        if (!any(changed))
            break;
    }
    const which nothing = is_less(most, all(APR_ALMOST_NOTHING));
    for (unsigned i = 0; i < n; i++)
        level[i] = choose(nothing, all(0), level[i]);
    return choose(unless(is_more(f.b, all(0)), nothing), f.a / f.b, all(0));
}

/* n levels, contiguous, a multiple of LANES, of one block: those that a search kept, around half or (half 0) from a min; and those of a
 * rounded scale. */
LANE void levels_as_found(const float *x, unsigned n, float per_scale, float from, int least, int most, uint8_t *level)
{
    for (unsigned i = 0; i < n; i += LANES) {
        const ints l = clamp_ints(nearest_ints(all(per_scale) * (load(x + i) - all(from))), least, most);
        store_bytes(level + i, isnan(per_scale) && least < 0 ? all_ints(0) : minus(l, all_ints(least)));
    }
}

LANE void levels_of(const float *x, unsigned n, float scale, float min, int least, int most, uint8_t *level)
{
    for (unsigned i = 0; i < n; i += LANES) {
        const ints l = clamp_ints(nearest_ints((load(x + i) + all(min)) / all(scale)), least, most);
        store_bytes(level + i, minus(l, all_ints(least)));
    }
}

#endif
