/* The search of IQ2's and IQ3's encoders (iq_encode.h) for lanes. What is in a lane differs from step to step:
 *     trials      where the levels nearest to each value are found, and where fits are summed up: a trial adds in the order of values
 *     candidates  where the best neighbour of a group is sought: each adds up the errors of its own values
 * Terms of sums come from tables: a value has 4 (IQ2) or 8 (IQ3) levels, and a tuple's bits say which. */
#ifndef APR_KERNELS_IQ23_LANES_H
#define APR_KERNELS_IQ23_LANES_H

#include "values/kernels/iq_encode.h"
#include "values/kernels/search_lanes.h"

enum { TRIALS = 32, CELLS = 32, GROUPS = 8 };

/* The positions of levels, repeated; of IQ2, of IQ3. */
static const float iq_positions[2][16] = {
    { 1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7 },
    { 1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15 },
};

/* A sub-block spread out: each value has a cell for each level, a group 32 cells. */
struct cells {
    float x[GROUPS * CELLS + LANES], v[GROUPS * CELLS + LANES]; /* the same in all cells of a value */
    float a[GROUPS * CELLS + LANES], b[GROUPS * CELLS + LANES]; /* w * x * position, w * position * position */
};

/* The search of a sub-block while it goes on; `fours` is a constant in every function: 8 values of 4 levels a group, or 4 of 8. */
struct trial_run {
    const struct apr_codebook *book;
    const struct apr_iq_part  *part;
    unsigned                   n, ntrial;
    float                      scale[TRIALS];
    int32_t                    tuple[GROUPS][TRIALS + 1], entry[GROUPS][TRIALS + LANES];
    struct cells               cells;
};

LANE unsigned levels_in(bool fours) { return fours ? 4 : 8; }
LANE unsigned width_of(bool fours) { return fours ? 8 : 4; }
LANE int bits_in(bool fours) { return fours ? 2 : 3; }

/* Each cell is written by its value last: stores run over into the cells of values to come. */
LANE void spread(struct trial_run *r, bool fours)
{
    for (unsigned i = 0; i < r->n; i++) {
        const float x = r->part->x[i], w = r->part->w[i];
        for (unsigned l = 0; l < levels_in(fours); l += LANES) {
            const unsigned at = i * levels_in(fours) + l;
            const floats position = load(iq_positions[!fours] + l);
            store(r->cells.x + at, all(x));
            store(r->cells.v + at, all(r->part->v[i]));
            store(r->cells.a + at, all(w * x) * position);
            store(r->cells.b + at, all(w) * position * position);
        }
    }
}

/* The entry of a value's table that a tuple says, in each lane. */
LANE floats cell(const float *table, unsigned i, ints tuple, bool fours)
{
    return fours ? look_up_four(load_four(table + 4 * i), right(tuple, 2 * (int)i))
                 : look_up_eight(load_eight(table + 8 * i), right(tuple, 3 * (int)i));
}

/* Of LANES trials the tuple of levels nearest to a group's values. No NaN but the default one comes up, whose low bits make 0. */
LANE ints nearest_tuples(const float *x, floats per_scale, bool fours)
{
    ints tuple = all_ints(0);
    UNROLL8
    for (unsigned i = 0; i < width_of(fours); i++) {
        const floats v = all(0.5f) * (per_scale * all(x[i]) - all(1));
        const ints level = minus(and(bits(v + all(APR_TO_NEAREST)), all_ints(0x7fffff)), all_ints(0x400000));
        tuple = or(tuple, left(clamp_ints(level, 0, fours ? 2 : 7), bits_in(fours) * (int)i));
    }
    return tuple;
}

/* The errors of a group's values at each level, for two scales. */
LANE void make_terms(const struct trial_run *r, unsigned group, float first_scale, float second_scale, float *first, float *second,
                     bool fours)
{
    UNROLL8
    for (unsigned c = 0; c < CELLS; c += LANES) {
        const floats position = load(iq_positions[!fours] + c % levels_in(fours));
        const floats x = load(r->cells.x + group * CELLS + c), v = load(r->cells.v + group * CELLS + c);
        const floats e = all(first_scale) * position - x, f = all(second_scale) * position - x;
        store(first + c, v * e * e);
        store(second + c, v * f * f);
    }
}

/* The candidates seen so far: of each lane the least error, the one after it, and where in the list the lane was for the least. */
struct nearest {
    floats least, second;
    ints   place;
};

LANE struct nearest see(struct nearest n, floats sum, which counts, ints place)
{
    const floats error = choose(counts, sum, all(FLT_MAX));
    const which less = is_less(error, n.least);
    const floats other = choose(less, n.least, error);
    return (struct nearest){ choose(less, error, n.least), lesser(other, n.second), choose_ints(less, place, n.place) };
}

/* The place of the least error, the first of several; of the first candidate where no error is a number below the largest float. clear:
 * all others are more than margin away. */
LANE unsigned first_least(struct nearest n, float margin, bool *clear)
{
    int32_t places[LANES];
    const float least = least_of(n.least);
    const floats bound = all(least + margin);
    const unsigned close = bits_of(is_at_most(n.least, bound)), also_close = bits_of(is_at_most(n.second, bound));
    unsigned equal = bits_of(is_equal(n.least, all(least)));
    *clear = ((close & (close - 1)) | also_close) == 0;
    store_ints(places, n.place);
    int best = places[__builtin_ctz(equal)];
    while (__builtin_expect((equal &= equal - 1) != 0, 0))
        best = places[__builtin_ctz(equal)] < best ? places[__builtin_ctz(equal)] : best;
    return (unsigned)best;
}

/* The best entries near a tuple for two scales, by LANES candidates at a time: one stream of work for both. */
struct neighbours {
    int32_t entry[2];
    bool    clear[2];
};
LANE struct neighbours best_neighbours(const struct trial_run *r, unsigned group, uint32_t at, float first_scale, float second_scale,
                                       float margin, bool fours)
{
    const uint16_t *const near = r->book->list + apr_near_first(at);
    const int count = (int)apr_near_count(at);
    float first_term[CELLS], second_term[CELLS];
    struct nearest a = { all(FLT_MAX), all(FLT_MAX), all_ints(0) }, b = a;
    struct neighbours found;
    make_terms(r, group, first_scale, second_scale, first_term, second_term, fours);
    for (int k = 0; k < count; k += LANES) {
        const ints tuple = load_halves(near + k), place = plus(lane_numbers(), all_ints(k));
        floats first = cell(first_term, 0, tuple, fours), second = cell(second_term, 0, tuple, fours);
        UNROLL8
        for (unsigned i = 1; i < width_of(fours); i++) {
            first = first + cell(first_term, i, tuple, fours);
            second = second + cell(second_term, i, tuple, fours);
        }
        const which counts = is_less_int(place, all_ints(count));
        a = see(a, first, counts, place);
        b = see(b, second, counts, place);
    }
    found.entry[0] = near[first_least(a, margin, &found.clear[0])];
    found.entry[1] = near[first_least(b, margin, &found.clear[1])];
    return found;
}

/* What two errors of a group may differ by for rounding's sake, eightfold; an infinity where numbers are too large or small to say.
 * An error is within 14 * 2^-24 of the sum of v * (scale * top + |x|)^2, as each of its few operations rounds once. Where one entry is
 * better than all others by this margin, for two scales, it is in between: the difference of errors over scale is linear in scale, and
 * scales differ by less than half. */
static inline float margin_of(const float *x, const float *v, unsigned n, float most_scale)
{
    float sum = 0, most = 0;
    for (unsigned i = 0; i < n; i++) {
        const float reach = most_scale + fabsf(x[i]);
        sum += v[i] * reach * reach;
        most = reach > most ? reach : most;
    }
    return most < 0x1p40f && sum > 0x1p-80f && sum < 0x1p80f ? sum * 0x1p-17f : INFINITY;
}

/* Trials first to last of a group have the same tuple, off the grid, and their own entries are known. Those between have the same unless
 * the two differ or one of them is not clear. */
struct span {
    unsigned first, last;
    bool     first_clear, last_clear;
};

/* Adds a span to the n that are open, unless there is nothing to seek in it. */
LANE unsigned add_open(struct span *open, unsigned n, const int32_t *entry, unsigned first, unsigned last, bool first_clear,
                       bool last_clear)
{
    open[n] = (struct span){ first, last, first_clear, last_clear };
    return n + ((last > first + 1) & !(first_clear & last_clear & (entry[first] == entry[last])));
}

/* Trials from one on have an entry, and so have some after the last, whose own are then written. */
LANE void put_entries(int32_t *entry, unsigned first, unsigned last, int32_t value)
{
    for (unsigned k = first; k <= last; k += LANES)
        store_ints(entry + k, all_ints(value));
}

/* The trials of a group whose tuple is another than that of the trial before, bit k for trial k. */
LANE uint32_t starts_of(const int32_t *tuple, unsigned ntrial)
{
    uint32_t same = 0;
    for (unsigned k = 0; k < ntrial; k += LANES)
        same |= (uint32_t)bits_of(is_equal_int(load_ints(tuple + k), load_ints(tuple + k + 1))) << k;
    return ~(same << 1) & (uint32_t)((1ull << ntrial) - 1);
}

/* What lies within a span: thirds of it are sought, then what these leave open. */
LANE void settle(struct trial_run *r, unsigned group, float margin, struct span span, bool fours)
{
    int32_t *const entry = r->entry[group];
    struct span open[TRIALS];
    unsigned n = 1;
    open[0] = span;
    while (n) {
        const struct span s = open[--n];
        const unsigned third = (s.last - s.first + 1) / 3, low = s.first + third, high = s.last - third;
        const struct neighbours found =
            best_neighbours(r, group, r->book->at[r->tuple[group][low]], r->scale[low], r->scale[high], margin, fours);
        for (unsigned k = low; k < high; k++)
            entry[k] = found.entry[0];
        for (unsigned k = high; k < s.last; k++)
            entry[k] = found.entry[1];
        n = add_open(open, n, entry, s.first, low, s.first_clear, found.clear[0]);
        n = add_open(open, n, entry, low, high, found.clear[0], found.clear[1]);
        n = add_open(open, n, entry, high, s.last, found.clear[1], s.last_clear);
    }
}

/* The entries of all trials of a group. Those of a tuple on the grid are it; of others the ends of each run of the same tuple are sought,
 * and between them where they leave that open. */
LANE void pick_group(struct trial_run *r, unsigned group, float most_scale, bool fours)
{
    const unsigned w = width_of(fours);
    const int32_t *const tuple = r->tuple[group];
    int32_t *const entry = r->entry[group];
    const float margin = margin_of(r->part->x + group * w, r->part->v + group * w, w, most_scale);
    struct span open[TRIALS];
    unsigned nopen = 0;
    store_ints(entry + (r->ntrial - 1) / LANES * LANES, all_ints(0));
    for (uint32_t starts = starts_of(tuple, r->ntrial), rest; starts; starts = rest) {
        rest = starts & (starts - 1);
        const unsigned first = (unsigned)__builtin_ctz(starts), last = (rest ? (unsigned)__builtin_ctz(rest) : r->ntrial) - 1;
        const uint32_t at = r->book->at[tuple[first]];
        if (!(at & APR_OFF_GRID)) {
            put_entries(entry, first, last, tuple[first]);
            continue;
        }
        const struct neighbours found = best_neighbours(r, group, at, r->scale[first], r->scale[last], margin, fours);
        put_entries(entry, first, last, found.entry[0]);
        entry[last] = found.entry[1];
        nopen = add_open(open, nopen, entry, first, last, found.clear[0], found.clear[1]);
    }
    while (nopen)
        settle(r, group, margin, open[--nopen], fours);
}

/* The sums of fits of LANES trials. */
LANE void fit_trials(const struct trial_run *r, unsigned trial, float *a, float *b, bool fours)
{
    floats sum_a = all(0), sum_b = all(0);
    for (unsigned g = 0; g < r->n / width_of(fours); g++) {
        const ints tuple = load_ints(r->entry[g] + trial);
        UNROLL8
        for (unsigned i = 0; i < width_of(fours); i++) {
            sum_a = sum_a + cell(r->cells.a + g * CELLS, i, tuple, fours);
            sum_b = sum_b + cell(r->cells.b + g * CELLS, i, tuple, fours);
        }
    }
    store(a + trial, sum_a);
    store(b + trial, sum_b);
}

/* The groups that are to be picked again, with the scale that was fitted to all, and the scale of these. */
LANE void pick_again(const struct apr_iq_kind *kind, struct trial_run *r, unsigned off, struct apr_iq_fit *f, bool fours)
{
    const unsigned w = width_of(fours), bits_each = (unsigned)bits_in(fours);
    const float per_scale = 1 / f->scale;
    float a = 0, b = 0;
    for (unsigned g = 0; g < r->n / w; g++) {
        if (kind->again != APR_IQ_OFF_GRID || off >> g & 1) {
            int32_t tuple[LANES];
            store_ints(tuple, nearest_tuples(r->part->x + g * w, all(per_scale), fours));
            const uint32_t at = r->book->at[tuple[0]];
            f->tuple[g] = (uint16_t)(at & APR_OFF_GRID ? best_neighbours(r, g, at, f->scale, f->scale, 0, fours).entry[0] : tuple[0]);
        }
        for (unsigned i = 0; i < w; i++) {
            const unsigned at = g * CELLS + i * levels_in(fours) + ((unsigned)f->tuple[g] >> i * bits_each & (levels_in(fours) - 1));
            a += r->cells.a[at];
            b += r->cells.b[at];
        }
    }
    if (b > 0)
        f->scale = a / b;
}

/* Takes the trials that are better than those before. Returns which groups are off the grid in the last one taken, bit g for group g. */
LANE unsigned take_best(const struct apr_iq_kind *kind, const struct trial_run *r, unsigned ngroup, const float *a, const float *b,
                        struct apr_iq_fit *f)
{
    float best = 0;
    int taken = -1;
    for (unsigned k = 0; k < r->ntrial; k++)
        if (b[k] > 0 && a[k] * a[k] > best * b[k]) {
            f->scale = a[k] / b[k];
            best = f->scale * a[k];
            taken = (int)k;
        }
    unsigned off = 0;
    for (unsigned g = 0; g < ngroup && taken >= 0; g++) {
        f->tuple[g] = (uint16_t)r->entry[g][taken];
        off |= (unsigned)(r->tuple[g][taken] != r->entry[g][taken]) << g;
    }
    return kind->again == APR_IQ_ALL_ALWAYS || (taken < 0 && kind->again == APR_IQ_ALL_IF_ANY) ? ~0u : off;
}

LANE void search_lanes(const struct apr_iq_kind *kind, const struct apr_codebook *book, const struct apr_iq_part *part, float largest,
                       float scale, struct apr_iq_fit *f, bool fours)
{
    const unsigned ngroup = kind->n / width_of(fours), ntrial = 2 * (unsigned)kind->trials + 1;
    struct trial_run r;
    float a[TRIALS], b[TRIALS];
    r.book = book;
    r.part = part;
    r.n = kind->n;
    r.ntrial = ntrial;
    spread(&r, fours);
    for (unsigned g = 0; g < ngroup; g++)
        r.tuple[g][(ntrial + LANES - 1) / LANES * LANES] = 0;
    for (unsigned k = 0; k < ntrial; k += LANES) {
        const floats step = floats_of_ints(plus(lane_numbers(), all_ints((int)k - kind->trials)));
        const floats per_scale = (all((float)kind->top) + step * all(kind->step)) / all(largest);
        store(r.scale + k, all(1) / per_scale);
        for (unsigned g = 0; g < ngroup; g++)
            store_ints(r.tuple[g] + k, nearest_tuples(part->x + g * width_of(fours), per_scale, fours));
    }
    for (unsigned g = 0; g < ngroup; g++)
        pick_group(&r, g, r.scale[0] * (float)kind->top, fours);
    for (unsigned k = 0; k < ntrial; k += LANES)
        fit_trials(&r, k, a, b, fours);
    *f = (struct apr_iq_fit){ .scale = scale };
    const unsigned off = take_best(kind, &r, ngroup, a, b, f);
    if (off && f->scale > 0)
        pick_again(kind, &r, off, f, fours);
}

LEVEL static void search_fours(const struct apr_iq_kind *kind, const struct apr_codebook *book, const struct apr_iq_part *part,
                               float largest, float scale, struct apr_iq_fit *f)
{
    search_lanes(kind, book, part, largest, scale, f, true);
}

LEVEL static void search_eights(const struct apr_iq_kind *kind, const struct apr_codebook *book, const struct apr_iq_part *part,
                                float largest, float scale, struct apr_iq_fit *f)
{
    search_lanes(kind, book, part, largest, scale, f, false);
}

/* The sub-blocks of a super-block, one a lane. */
LEVEL static void first_scales(const struct apr_iq_part part[APR_IQ_PARTS], float scale[APR_IQ_PARTS])
{
    for (unsigned at = 0; at < 256 / 32; at += LANES) {
        const size_t stride = sizeof *part / sizeof(float);
        floats x[32], w[32], level[32];
        turn(part[at].x, stride, 32, x);
        turn(part[at].w, stride, 32, w);
        store(scale + at, fit_positive(x, w, 32, 4, level));
    }
}

LEVEL static void weigh_part(const struct apr_iq_kind *k, const float *x, const float *importance, float sigma2, struct apr_iq_part *p)
{
    for (unsigned i = 0; i < k->n; i += LANES) {
        const floats squares = square(load(x + i));
        floats w = squares;
        if (importance)
            w = load(importance + i) * root(all(sigma2) + squares);
        else if (k->share > 0)
            w = all(k->share * sigma2) + squares;
        store(p->w + i, w);
        store(p->v + i, root(w));
    }
}

static const struct apr_iq_level level_fours = { weigh_part, search_fours, first_scales },
                                 level_eights = { weigh_part, search_eights, first_scales };
APR_IQ_WEIGHTED(iq2_xxs, level_fours)
APR_IQ_WEIGHTED(iq2_xs, level_fours)
APR_IQ_WEIGHTED(iq2_s, level_fours)
APR_IQ_WEIGHTED(iq3_xxs, level_eights)
APR_IQ_WEIGHTED(iq3_s, level_eights)
APR_IQ_PLAIN(iq2_s, level_fours)
APR_IQ_PLAIN(iq3_xxs, level_eights)
APR_IQ_PLAIN(iq3_s, level_eights)

static inline void set_iq23_encoders(struct apr_kernels *k)
{
    k->encode[APR_IQ2_S] = iq2_s_plain;
    k->encode[APR_IQ3_XXS] = iq3_xxs_plain;
    k->encode[APR_IQ3_S] = iq3_s_plain;
    k->encode_weighted[APR_IQ2_XXS] = iq2_xxs_weighted;
    k->encode_weighted[APR_IQ2_XS] = iq2_xs_weighted;
    k->encode_weighted[APR_IQ2_S] = iq2_s_weighted;
    k->encode_weighted[APR_IQ3_XXS] = iq3_xxs_weighted;
    k->encode_weighted[APR_IQ3_S] = iq3_s_weighted;
}

#endif
