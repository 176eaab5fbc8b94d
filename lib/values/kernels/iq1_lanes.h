/* IQ1_S and IQ1_M, one sub-block a lane (see lanes.h, and iq1_encode.c for what is done).
 *
 * Of the pairs of places where levels part, nearly all are far worse than the best. Scores that are right to 2^-10 tell which: a first
 * pass over all pairs finds about the largest one, and a second does what the scalar encoder does, but only near to it (of IQ1_S, in
 * rows of pairs that come near), and takes as the score to beat, from the start, one that is smaller by 2^-9. What comes out is the
 * same. Both ways take, from some pair on, the same ones: the first that both take makes them equal, and the best is taken by both.
 * For as long as no pair was taken by both, a taken one is within a few roundings of the score to beat on either way, which then rises
 * by no more than some roundings for each of 1122 pairs, in all 2^-11. This needs scores, sums and products without overflow and
 * underflow; where they may have one, the score to beat begins as the scalar encoder's does, and all pairs are near. */
#ifndef APR_KERNELS_IQ1_LANES_H
#define APR_KERNELS_IQ1_LANES_H

#include "values/kernels/iq1.h"

/* The state of a search: the scores to beat, and what was found: scales, places as first << 8 | second << 16 | minus, or -1. */
struct iq1_search {
    floats score, scale;
    ints   at;
};

/* LANES tuples at a time: the first least of each lane, then the first of those. A value's terms at its levels are a table. */
LEVEL static unsigned iq1_nearest(const uint16_t *tuple, unsigned n, const float *x, const float *w, float scale, const float value[4])
{
    const floats scaled = all(scale) * again_and_again(load_four(value));
    four_floats term[8];
    UNROLL
    for (unsigned i = 0; i < 8; i++) {
        const floats e = scaled - all(x[i]);
        term[i] = first_four(all(w[i]) * e * e);
    }
    floats least = all(FLT_MAX);
    ints at = all_ints(0);
    for (unsigned k = 0; k < n; k += LANES) {
        const ints packed = load_halves(tuple + k), number = plus(lane_numbers(), all_ints((int)k));
        floats sum = look_up_four(term[0], packed);
        UNROLL
        for (int i = 1; i < 8; i++)
            sum = sum + look_up_four(term[i], right(packed, 2 * i));
        const which less = both(is_less(sum, least), is_less_int(number, all_ints((int)n)));
        least = choose(less, sum, least);
        at = choose_ints(less, number, at);
    }
    int32_t number[LANES], first = INT32_MAX;
    store_ints(number, at);
    for (unsigned equal = bits_of(is_equal(least, all(least_of(least)))); equal; equal &= equal - 1)
        first = number[__builtin_ctz(equal)] < first ? number[__builtin_ctz(equal)] : first;
    return tuple[first];
}

/* Weights of nblock blocks, whose mean squares times two are `twice`; importance is of a row of ncol, NULL for none, the first block at
 * column. */
LANE void iq1_weigh(const float *x, unsigned nblock, const float *twice, const float *importance, size_t ncol, size_t column, float *w)
{
    for (unsigned b = 0; b < nblock; b++, x += 256, w += 256, column = column + 256 < ncol ? column + 256 : 0)
        for (unsigned i = 0; i < 256; i += LANES) {
            floats weight = load(x + i) * load(x + i);
            if (importance)
                weight = load(importance + column + i) * root(all(twice[b]) + weight);
            store(w + i, weight);
        }
}

/* Twice the mean squares of LANES blocks. */
LANE void iq1_twice(const float *x, float twice[LANES])
{
    floats sum = all(0);
    for (unsigned i = 0; i < 256; i += 4) {
        floats v[4];
        turn_four(x + i, 256, v);
        for (unsigned j = 0; j < 4; j++)
            sum = sum + v[j] * v[j];
    }
    store(twice, all(2) * sum / all(256));
}

/* iq1_key, and back, but for the sign of a zero. */
LANE ints iq1_keys(floats x)
{
    const ints v = choose_ints(is_equal(x, all(0)), all_ints(0), bits(x));
    return xor(v, right(right_signed(v, 31), 1));
}
LANE floats iq1_unkey(ints key) { return floats_of(xor(key, right(right_signed(key, 31), 1))); }

/* Elements as they are sorted: their keys, what they weigh, and where they were. */
struct iq1_sorted {
    ints   key[32], from[32];
    floats w[32];
};

LANE void iq1_exchange(struct iq1_sorted *s, unsigned a, unsigned b)
{
    const ints ka = s->key[a], kb = s->key[b], fa = s->from[a], fb = s->from[b];
    const floats wa = s->w[a], wb = s->w[b];
    const which wrong = either(is_less_int(kb, ka), both(is_equal_int(ka, kb), is_less_int(fb, fa)));
    s->key[a] = lesser_ints(ka, kb);
    s->key[b] = greater_ints(ka, kb);
    s->from[a] = choose_ints(wrong, fb, fa);
    s->from[b] = choose_ints(wrong, fa, fb);
    s->w[a] = choose(wrong, wb, wa);
    s->w[b] = choose(wrong, wa, wb);
}

/* By key, equal ones as they came: Batcher's merges of odd and even places. */
LANE void iq1_sort(struct iq1_sorted *s, unsigned n)
{
    for (unsigned run = 1; run < n; run *= 2)
        for (unsigned step = run; step; step /= 2)
            for (unsigned begin = step % run; begin + step < n; begin += 2 * step)
                for (unsigned i = begin; i < begin + step && i + step < n; i++)
                    if ((i ^ (i + step)) < 2 * run)
                        iq1_exchange(s, i, i + step);
}

/* The scalar encoder's try. */
LANE void iq1_try(struct iq1_search *s, floats a, floats b, int at)
{
    const which better = both(is_more(b, all(0)), is_more(a * a, s->score * b));
    if (!any(better))
        return;
    const floats scale = a / b;
    s->scale = choose(better, scale, s->scale);
    s->score = choose(better, scale * a, s->score);
    s->at = choose_ints(better, all_ints(at), s->at);
}

/* About a * a / b. */
LANE floats iq1_score(floats a, floats b) { return a * a * rough_inverse(b); }

/* What to beat from the start, where the largest score is about `most`; whether a score is near to it, in any lane. */
LANE which iq1_begin(struct iq1_search *s, floats most, floats weight)
{
    const floats least = all(0x1p-50f), largest = all(0x1p50f);
    const which sound = both(both(is_less(least, most), is_less(most, largest)), both(is_less(least, weight), is_less(weight, largest)));
    s->score = choose(sound, most * all(1 - 0x1p-9f), all(-FLT_MAX));
    s->scale = all(0);
    s->at = all_ints(-1);
    return sound;
}
LANE bool iq1_is_near(floats score, floats most, which sound)
{
    return !every(both(sound, is_less(score, most * all(1 - 0x1.8p-9f))));
}

/* Sums for IQ1_S: of all before a place, and what those from there on give at level 2, plus and minus. */
struct iq1_sums_s {
    floats x[33], w[33], a[2][33], b[2][33];
};
struct iq1_pair {
    floats a[2], b[2];
};

LANE void iq1_sum_s(const struct iq1_sorted *s, struct iq1_sums_s *sums)
{
    sums->x[0] = sums->w[0] = all(0);
    for (unsigned j = 0; j < 32; j++) {
        sums->x[j + 1] = sums->x[j] + s->w[j] * iq1_unkey(s->key[j]);
        sums->w[j + 1] = sums->w[j] + s->w[j];
    }
    for (unsigned j = 0; j <= 32; j++)
        for (unsigned sign = 0; sign < 2; sign++) {
            const floats v = all(iq1_value[sign][2]);
            sums->a[sign][j] = (sums->x[32] - sums->x[j]) * v;
            sums->b[sign][j] = (sums->w[32] - sums->w[j]) * v * v;
        }
}

/* The sums of those before `first` at level 0. */
LANE struct iq1_pair iq1_low_s(const struct iq1_sums_s *sums, unsigned first)
{
    const floats up = all(iq1_value[0][0]), down = all(iq1_value[1][0]);
    return (struct iq1_pair){ { sums->x[first] * up, sums->x[first] * down }, { sums->w[first] * up * up, sums->w[first] * down * down } };
}

/* The sums of all. At level 1 the two signs differ by no more than theirs. */
LANE struct iq1_pair iq1_all_s(const struct iq1_sums_s *sums, const struct iq1_pair *low, unsigned first, unsigned second)
{
    const floats shift = all(IQ1_SHIFT), a = (sums->x[second] - sums->x[first]) * shift;
    const floats b = (sums->w[second] - sums->w[first]) * shift * shift;
    return (struct iq1_pair){ { low->a[0] + a + sums->a[0][second], low->a[1] - a + sums->a[1][second] },
                              { low->b[0] + b + sums->b[0][second], low->b[1] + b + sums->b[1][second] } };
}

LANE void iq1_search_s(const struct iq1_sorted *sorted, struct iq1_search *s)
{
    struct iq1_sums_s sums;
    floats row[33], most = all(0);
    iq1_sum_s(sorted, &sums);
    for (unsigned first = 0; first <= 32; first++) {
        const struct iq1_pair low = iq1_low_s(&sums, first);
        row[first] = all(0);
        for (unsigned second = first; second <= 32; second++) {
            const struct iq1_pair p = iq1_all_s(&sums, &low, first, second);
            row[first] = greater(iq1_score(p.a[0], p.b[0]), row[first]);
            row[first] = greater(iq1_score(p.a[1], p.b[1]), row[first]);
        }
        most = greater(row[first], most);
    }
    const which sound = iq1_begin(s, most, sums.w[32]);
    for (unsigned first = 0; first <= 32; first++) {
        const struct iq1_pair low = iq1_low_s(&sums, first);
        for (unsigned second = first; iq1_is_near(row[first], most, sound) && second <= 32; second++) {
            const struct iq1_pair p = iq1_all_s(&sums, &low, first, second);
            iq1_try(s, p.a[0], p.b[0], (int)(first << 8 | second << 16));
            iq1_try(s, p.a[1], p.b[1], (int)(first << 8 | second << 16 | 15));
        }
    }
}

/* Sums for IQ1_M that are only about right, as the scalar encoder adds up each pair anew: of each group before a place; what that takes
 * from b as `first` and as `second`, plus and minus; what all give at level 2. The values of levels are 1 apart. */
struct iq1_sums_m {
    floats x[2][17], w[2][17], first[2][2][17], second[2][2][17], a[2][2], b[2][2];
};

LANE void iq1_sum_m(const struct iq1_sorted *s, struct iq1_sums_m *sums)
{
    for (unsigned g = 0; g < 2; g++) {
        sums->x[g][0] = sums->w[g][0] = all(0);
        for (unsigned j = 0; j < 16; j++) {
            const which own = g ? is_less_int(all_ints(7), s->from[j]) : is_less_int(s->from[j], all_ints(8));
            sums->x[g][j + 1] = sums->x[g][j] + choose(own, s->w[j] * iq1_unkey(s->key[j]), all(0));
            sums->w[g][j + 1] = sums->w[g][j] + choose(own, s->w[j], all(0));
        }
        for (unsigned sign = 0; sign < 2; sign++) {
            const float *const v = iq1_value[sign];
            sums->a[g][sign] = sums->x[g][16] * all(v[2]);
            sums->b[g][sign] = sums->w[g][16] * all(v[2] * v[2]);
            for (unsigned j = 0; j <= 16; j++) {
                sums->first[g][sign][j] = sums->w[g][j] * all(v[0] * v[0] - v[1] * v[1]);
                sums->second[g][sign][j] = sums->w[g][j] * all(v[1] * v[1] - v[2] * v[2]);
            }
        }
    }
}

/* About the sums of one group, plus and minus. */
LANE struct iq1_pair iq1_group_m(const struct iq1_sums_m *sums, unsigned g, unsigned first, unsigned second)
{
    const floats x = sums->x[g][first] + sums->x[g][second];
    return (struct iq1_pair){ { sums->a[g][0] - x, sums->a[g][1] - x },
                              { sums->b[g][0] + sums->first[g][0][first] + sums->second[g][0][second],
                                sums->b[g][1] + sums->first[g][1][first] + sums->second[g][1][second] } };
}

enum { IQ1_PAIRS_M = 17 * 18 / 2 };

/* About the scores of all pairs, each with the four signs, and the largest. */
LANE floats iq1_score_m(const struct iq1_sorted *sorted, floats score[4 * IQ1_PAIRS_M], floats *weight)
{
    struct iq1_sums_m sums;
    floats most = all(0);
    iq1_sum_m(sorted, &sums);
    *weight = sums.w[0][16] + sums.w[1][16];
    for (unsigned first = 0; first <= 16; first++)
        for (unsigned second = first; second <= 16; second++, score += 4) {
            const struct iq1_pair p = iq1_group_m(&sums, 0, first, second), q = iq1_group_m(&sums, 1, first, second);
            UNROLL
            for (unsigned c = 0; c < 4; c++) {
                score[c] = iq1_score(p.a[c >> 1] + q.a[c & 1], p.b[c >> 1] + q.b[c & 1]);
                most = greater(score[c], most);
            }
        }
    return most;
}

/* What the sorted elements add to a and b: by signs, level and place. */
struct iq1_terms_m {
    floats a[4][3][16], b[4][3][16];
};

LANE void iq1_term_m(const struct iq1_sorted *s, struct iq1_terms_m *terms)
{
    for (unsigned j = 0; j < 16; j++) {
        const which upper = is_less_int(all_ints(7), s->from[j]);
        const floats x = iq1_unkey(s->key[j]), w = s->w[j];
        for (unsigned level = 0; level < 3; level++) {
            const floats p = all(iq1_value[0][level]), m = all(iq1_value[1][level]);
            const floats ap = w * p * x, am = w * m * x, bp = w * p * p, bm = w * m * m;
            terms->a[0][level][j] = ap;
            terms->a[1][level][j] = choose(upper, am, ap);
            terms->a[2][level][j] = choose(upper, ap, am);
            terms->a[3][level][j] = am;
            terms->b[0][level][j] = bp;
            terms->b[1][level][j] = choose(upper, bm, bp);
            terms->b[2][level][j] = choose(upper, bp, bm);
            terms->b[3][level][j] = bm;
        }
    }
}

/* The sums of the elements before a place, of which those before `first` are at level 0, the rest at 1: how far they have come. */
struct iq1_run_m {
    unsigned at;
    floats   a, b;
};

LANE void iq1_try_m(struct iq1_search *s, const struct iq1_terms_m *terms, struct iq1_run_m *run, unsigned c, unsigned first,
                    unsigned second)
{
    for (; run->at < second; run->at++) {
        run->a = run->a + terms->a[c][1][run->at];
        run->b = run->b + terms->b[c][1][run->at];
    }
    floats a = run->a, b = run->b;
    for (unsigned j = second; j < 16; j++) {
        a = a + terms->a[c][2][j];
        b = b + terms->b[c][2][j];
    }
    iq1_try(s, a, b, (int)(first << 8 | second << 16 | (c & 1) << 1 | c >> 1));
}

LANE void iq1_search_m(const struct iq1_sorted *sorted, struct iq1_search *s)
{
    floats score[4 * IQ1_PAIRS_M], weight;
    struct iq1_terms_m terms;
    struct iq1_run_m low[4];
    const floats most = iq1_score_m(sorted, score, &weight);
    const which sound = iq1_begin(s, most, weight);
    iq1_term_m(sorted, &terms);
    for (unsigned c = 0; c < 4; c++)
        low[c] = (struct iq1_run_m){ 0, all(0), all(0) };
    unsigned k = 0;
    for (unsigned first = 0; first <= 16; first++) {
        struct iq1_run_m run[4] = { low[0], low[1], low[2], low[3] };
        for (unsigned second = first; second <= 16; second++)
            for (unsigned c = 0; c < 4; c++)
                if (iq1_is_near(score[k++], most, sound))
                    iq1_try_m(s, &terms, &run[c], c, first, second);
        for (unsigned c = 0; c < 4 && first < 16; c++)
            low[c] = (struct iq1_run_m){ first + 1, low[c].a + terms.a[c][0][first], low[c].b + terms.b[c][0][first] };
    }
}

/* What each element of a sub-block stands for, but for the scale. */
LANE void iq1_values(const struct iq1_sub *sub, unsigned n, float *v)
{
    for (unsigned g = 0; g < n / 8; g++)
        for (unsigned i = 0; i < 8; i++)
            v[8 * g + i] = iq1_value[sub->minus >> g & 1][sub->tuple[g] >> 2 * i & 3];
}

/* LANES sub-blocks of n, 32 of IQ1_S or 16 of IQ1_M. v: what their elements stand for. */
LANE void iq1_subs(const struct apr_codebook *book, const float *x, const float *w, unsigned n, struct iq1_sub *sub, float *v)
{
    struct iq1_sorted sorted;
    struct iq1_search search;
    floats turned[32], most = all(0);
    turn(x, n, n, turned);
    turn(w, n, n, sorted.w);
    for (unsigned i = 0; i < n; i++) {
        most = greater(magnitude(turned[i]), most);
        sorted.key[i] = iq1_keys(turned[i]);
        sorted.from[i] = all_ints((int)i);
    }
    iq1_sort(&sorted, n);
    if (n == 32)
        iq1_search_s(&sorted, &search);
    else
        iq1_search_m(&sorted, &search);
    uint8_t order[32 * LANES];
    float scale[LANES];
    int32_t at[LANES];
    for (unsigned j = 0; j < n; j++)
        store_bytes(order + j * LANES, sorted.from[j]);
    store(scale, search.scale);
    store_ints(at, choose_ints(is_at_most(all(n == 32 ? IQ1_S_LEAST : IQ1_M_LEAST), most), search.at, all_ints(-1)));
    for (unsigned l = 0; l < LANES; l++) {
        const struct iq1_split split = { at[l] >= 0, scale[l], at[l] >> 8 & 255, at[l] >> 16 & 255, at[l] & 255, order + l, LANES };
        iq1_settle(book, &split, x + n * l, w + n * l, n, iq1_nearest, &sub[l]);
        iq1_values(&sub[l], n, v + n * l);
    }
    floats values[32], weights[32], a = all(0), b = all(0);
    turn(v, n, n, values);
    turn(w, n, n, weights);
    for (unsigned i = 0; i < n; i++) {
        a = a + weights[i] * values[i] * turned[i];
        b = b + weights[i] * values[i] * values[i];
    }
    float fitted[LANES];
    store(fitted, a / b);
    const unsigned fits = bits_of(both(is_more(a, all(0)), is_more(b, all(0))));
    for (unsigned l = 0; l < LANES; l++)
        if (sub[l].moved && fits >> l & 1)
            sub[l].scale = fitted[l];
}

/* The sums over LANES blocks of IQ1_M to which their scales are fitted. */
LANE void iq1_fit_m(const float *x, const float *w, const float *v, float a[LANES], float b[LANES])
{
    floats sum_a = all(0), sum_b = all(0);
    for (unsigned i = 0; i < 256; i += 4) {
        floats vs[4], ws[4], xs[4];
        turn_four(v + i, 256, vs);
        turn_four(w + i, 256, ws);
        turn_four(x + i, 256, xs);
        for (unsigned j = 0; j < 4; j++) {
            sum_a = sum_a + ws[j] * vs[j] * xs[j];
            sum_b = sum_b + ws[j] * vs[j] * vs[j];
        }
    }
    store(a, sum_a);
    store(b, sum_b);
}

/* Where blocks stand in rows of importance; NULL: there is none. */
struct iq1_columns {
    const float *importance;
    size_t       ncol, at;
};

/* LANES blocks of IQ1_S, of which the first nblock are written. */
LEVEL static void iq1_s_blocks(const struct apr_codebook *book, const float *x, unsigned nblock, const struct iq1_columns *c,
                               unsigned char *out)
{
    float twice[LANES], w[256 * LANES], v[32 * LANES];
    struct iq1_sub sub[8 * LANES];
    iq1_twice(x, twice);
    iq1_weigh(x, LANES, twice, c->importance, c->ncol, c->at, w);
    for (unsigned s = 0; s < 8 * nblock; s += LANES)
        iq1_subs(book, x + 32 * s, w + 32 * s, 32, sub + s, v);
    for (unsigned i = 0; i < nblock; i++)
        iq1_store_s(sub + 8 * i, out + 50 * i);
}

LEVEL static void iq1_m_blocks(const struct apr_codebook *book, const float *x, unsigned nblock, const struct iq1_columns *c,
                               unsigned char *out)
{
    float twice[LANES], a[LANES], b[LANES], w[256 * LANES], v[256 * LANES];
    struct iq1_sub sub[16 * LANES];
    struct iq1_scales scales[LANES];
    iq1_twice(x, twice);
    iq1_weigh(x, LANES, twice, c->importance, c->ncol, c->at, w);
    for (unsigned s = 0; s < 16 * nblock; s += LANES)
        iq1_subs(book, x + 16 * s, w + 16 * s, 16, sub + s, v + 16 * s);
    for (unsigned i = 0; i < nblock; i++) {
        scales[i] = iq1_code_scales(sub + 16 * i);
        for (unsigned j = 0; j < 256; j++)
            v[256 * i + j] *= (float)(2 * scales[i].code[j / 16] + 1);
    }
    memset(v + 256 * nblock, 0, 256 * (LANES - nblock) * sizeof *v);
    iq1_fit_m(x, w, v, a, b);
    for (unsigned i = 0; i < nblock; i++)
        iq1_store_m(sub + 16 * i, &scales[i], a[i], b[i], out + 56 * i);
}

typedef void iq1_blocks_fn(const struct apr_codebook *book, const float *x, unsigned nblock, const struct iq1_columns *c,
                           unsigned char *out);

/* nblock blocks; what is left over of LANES is filled up with zeros. */
LEVEL static void iq1_encode(iq1_blocks_fn *blocks, const float *x, size_t nblock, struct iq1_columns c, unsigned bytes, unsigned char *out)
{
    const struct apr_codebook *const book = apr_codebook(APR_BOOK_IQ1S);
    for (; nblock >= LANES; nblock -= LANES, x += 256 * LANES, out += (size_t)bytes * LANES) {
        blocks(book, x, LANES, &c, out);
        c.at = (c.at + 256 * LANES) % c.ncol;
    }
    if (nblock == 0)
        return;
    float padded[256 * LANES];
    memcpy(padded, x, 256 * nblock * sizeof *x);
    memset(padded + 256 * nblock, 0, 256 * (LANES - nblock) * sizeof *x);
    blocks(book, padded, (unsigned)nblock, &c, out);
}

LEVEL static void iq1_s_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    iq1_encode(iq1_s_blocks, x, nrow * (ncol / 256), (struct iq1_columns){ importance, ncol, 0 }, 50, out);
}

LEVEL static void iq1_m_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    iq1_encode(iq1_m_blocks, x, nrow * (ncol / 256), (struct iq1_columns){ importance, ncol, 0 }, 56, out);
}

LEVEL static void iq1_m_plain(const float *x, size_t n, unsigned char *out)
{
    iq1_encode(iq1_m_blocks, x, n / 256, (struct iq1_columns){ NULL, 256, 0 }, 56, out);
}

static inline void set_iq1_encoders(struct apr_kernels *k)
{
    k->encode_weighted[APR_IQ1_S] = iq1_s_weighted;
    k->encode[APR_IQ1_M] = iq1_m_plain;
    k->encode_weighted[APR_IQ1_M] = iq1_m_weighted;
}

#endif
