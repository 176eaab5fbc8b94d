/* IQ4_NL and IQ4_XS, one block of 32 or 256 a lane (see lanes.h), by the operations of iq4_encode.c in their order.
 *
 * The steps of a sub-block have scales so close together that a value comes near one middle between two levels only: they take the value
 * farthest from 0 to -120 ... -134, so any value to within 120 / 127 ... 134 / 127 of where the middle step takes it, while middles are
 * 1.23 times apart, or more. So each value has two levels to choose from, and what it adds to the sums is worked out before for both. */
#ifndef APR_KERNELS_IQ4_LANES_H
#define APR_KERNELS_IQ4_LANES_H

#include "values/kernels/grids.h"

#define IQ4_SUB  32u
#define IQ4_STEPS 15
#define IQ4_MOST 256u /* elements of a block */

/* For code u: its level and the one above (of the last, itself); the middles between it and those below and above; what lies half way
 * between these. Entries beyond the ends are out of reach, for all but NaN. */
struct iq4_levels {
    float level[16], above[16], middle_below[16], middle_above[16], between[16];
};

INLINE struct iq4_levels iq4_levels(void)
{
    struct iq4_levels t;
    for (unsigned u = 0; u < 16; u++) {
        t.level[u] = iq4nl_levels[u];
        t.above[u] = iq4nl_levels[u < 15 ? u + 1 : 15];
        t.middle_above[u] = u < 15 ? (t.level[u] + t.above[u]) / 2 : INFINITY;
        t.middle_below[u] = u > 0 ? t.middle_above[u - 1] : -INFINITY;
        t.between[u] = (t.middle_below[u] + t.middle_above[u]) / 2;
    }
    return t;
}

/* The last entry of a rising table that v is not less than, or the first; the last for NaN. */
LANE ints iq4_place(sixteen_floats rising, floats v)
{
    ints u = all_ints(0);
    UNROLL4 for (int half = 8; half > 0; half /= 2) {
        const ints up = plus(u, all_ints(half));
        u = choose_ints(is_less(v, look_up(rising, up)), u, up);
    }
    return u;
}

/* The values of a sub-block, and what each adds to the sums qx and qq below its middle and from there on. */
struct iq4_terms {
    floats x[IQ4_SUB], middle[IQ4_SUB], qx_below[IQ4_SUB], qx_above[IQ4_SUB], qq_below[IQ4_SUB], qq_above[IQ4_SUB];
};

LANE void iq4_terms(const floats *x, const floats *weight, floats per_d, struct iq4_terms *t)
{
    const struct iq4_levels tables = iq4_levels();
    const sixteen_floats level = load_sixteen(tables.level), above = load_sixteen(tables.above);
    const sixteen_floats middle = load_sixteen(tables.middle_above), between = load_sixteen(tables.between);
    for (unsigned i = 0; i < IQ4_SUB; i++) {
        const ints u = iq4_place(between, per_d * x[i]);
        const floats q = look_up(level, u), next = look_up(above, u);
        t->x[i] = x[i];
        t->middle[i] = look_up(middle, u);
        t->qx_below[i] = weight[i] * q * x[i];
        t->qx_above[i] = weight[i] * next * x[i];
        t->qq_below[i] = weight[i] * q * q;
        t->qq_above[i] = weight[i] * next * next;
    }
}

/* Two sums over a sub-block; q stands for the level of x. */
struct iq4_fit {
    floats qx, qq;
};

LANE void iq4_add(const struct iq4_terms *t, unsigned i, floats per_d, struct iq4_fit *f)
{
    const which below = is_less(per_d * t->x[i], t->middle[i]);
    f->qx = f->qx + choose(below, t->qx_below[i], t->qx_above[i]);
    f->qq = f->qq + choose(below, t->qq_below[i], t->qq_above[i]);
}

/* Five fits at once, so that no addition waits for the one before. */
LANE void iq4_fit_five(const struct iq4_terms *t, const floats per_d[5], struct iq4_fit out[5])
{
    struct iq4_fit a = { all(0), all(0) }, b = a, c = a, d = a, e = a;
    for (unsigned i = 0; i < IQ4_SUB; i++) {
        iq4_add(t, i, per_d[0], &a);
        iq4_add(t, i, per_d[1], &b);
        iq4_add(t, i, per_d[2], &c);
        iq4_add(t, i, per_d[3], &d);
        iq4_add(t, i, per_d[4], &e);
    }
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
    out[4] = e;
}

/* fit() of iq4_encode.c, for any scale. */
LANE struct iq4_fit iq4_fit_any(const floats *x, const floats *weight, floats per_d)
{
    const struct iq4_levels tables = iq4_levels();
    const sixteen_floats level = load_sixteen(tables.level), middle = load_sixteen(tables.middle_below);
    struct iq4_fit f = { all(0), all(0) };
    for (unsigned i = 0; i < IQ4_SUB; i++) {
        const floats q = look_up(level, iq4_place(middle, per_d * x[i]));
        f.qx = f.qx + weight[i] * q * x[i];
        f.qq = f.qq + weight[i] * q * q;
    }
    return f;
}

/* scale_of() of iq4_encode.c: the first guess, then the steps. */
LEVEL static void iq4_scale(const floats *x, const floats *weight, floats *scale)
{
    const floats most = farthest(x, IQ4_SUB);
    const struct iq4_fit first = iq4_fit_any(x, weight, all(1) / (-most / all(iq4nl_levels[0])));
    struct iq4_fit fit[IQ4_STEPS];
    struct iq4_terms t;
    floats per_d[IQ4_STEPS];
    for (int step = 0; step < IQ4_STEPS; step++)
        per_d[step] = all((float)(step - IQ4_STEPS / 2 + iq4nl_levels[0])) / most;
    iq4_terms(x, weight, per_d[IQ4_STEPS / 2], &t);
    for (unsigned i = 0; i < IQ4_STEPS; i += 5)
        iq4_fit_five(&t, per_d + i, fit + i);
    floats d = choose(is_more(first.qq, all(0)), first.qx / first.qq, all(0)), best = d * first.qx;
    for (unsigned i = 0; i < IQ4_STEPS; i++) {
        const floats qx = fit[i].qx, qq = fit[i].qq, tried = qx / qq;
        const which better = both(is_more(qq, all(0)), is_more(qx * qx, best * qq));
        d = choose(better, tried, d);
        best = choose(better, tried * qx, best);
    }
    *scale = choose(is_less(magnitude(most), all(1e-15f)), all(0), d);
}

LANE floats iq4_inverse(floats d) { return choose(is_other(d, all(0)), all(1) / d, all(0)); }

/* LANES times 32 nibbles, for d: where lane l's go is out + l * bytes. */
LANE void iq4_store_codes(const floats *x, floats d, unsigned char *out, size_t bytes)
{
    const struct iq4_levels tables = iq4_levels();
    const sixteen_floats middle = load_sixteen(tables.middle_below);
    const floats per_d = iq4_inverse(d);
    int32_t four[4][LANES];
    for (unsigned i = 0; i < 4; i++) {
        ints codes = all_ints(0);
        UNROLL4 for (unsigned j = 0; j < 4; j++) {
            const floats low = per_d * x[4 * i + j], high = per_d * x[16 + 4 * i + j];
            codes = or(codes, left(iq4_place(middle, low), 8 * (int)j));
            codes = or(codes, left(iq4_place(middle, high), 8 * (int)j + 4));
        }
        store_ints(four[i], codes);
    }
    for (unsigned l = 0; l < LANES; l++)
        for (unsigned i = 0; i < 4; i++)
            memcpy(out + l * bytes + 4 * i, &four[i][l], 4);
}

/* scales_of(): those of LANES blocks of nsub sub-blocks, one block behind the other; so lies the importance, if there is any. */
LANE void iq4_scales(const float *x, unsigned nsub, const float *importance, floats *scale)
{
    const unsigned n = nsub * IQ4_SUB;
    floats v[IQ4_SUB], weight[IQ4_SUB], squares = all(0);
    for (unsigned s = 0; s < n && importance; s += IQ4_SUB) {
        turn(x + s, n, IQ4_SUB, v);
        for (unsigned i = 0; i < IQ4_SUB; i++)
            squares = squares + v[i] * v[i];
    }
    const floats twice_mean = squares * all(2 / (float)n);
    for (unsigned s = 0; s < nsub; s++) {
        turn(x + s * IQ4_SUB, n, IQ4_SUB, v);
        if (importance)
            turn(importance + s * IQ4_SUB, n, IQ4_SUB, weight);
        for (unsigned i = 0; i < IQ4_SUB; i++)
            weight[i] = importance ? weight[i] * root(twice_mean + v[i] * v[i]) : v[i] * v[i];
        iq4_scale(v, weight, &scale[s]);
    }
}

LANE void iq4_nl_blocks(const float *x, const float *importance, unsigned char *out)
{
    floats scale, v[IQ4_SUB];
    float d[LANES];
    iq4_scales(x, 1, importance, &scale);
    store(d, scale);
    for (unsigned l = 0; l < LANES; l++)
        apr_store_scale(out + l * 18, d[l]);
    turn(x, IQ4_SUB, IQ4_SUB, v);
    iq4_store_codes(v, scale, out + 2, 18);
}

/* | f16 d | u16: upper two bits of eight scales | 4: lower four bits |, of LANES blocks */
LANE void iq4_xs_store_scales(floats d, const ints whole[8], unsigned char *out)
{
    float by_lane[LANES];
    int32_t stored[8][LANES];
    store(by_lane, d);
    for (unsigned s = 0; s < 8; s++)
        store_ints(stored[s], plus(whole[s], all_ints(32)));
    for (unsigned l = 0; l < LANES; l++, out += 136) {
        apr_store_scale(out, by_lane[l]);
        memset(out + 2, 0, 6);
        for (unsigned s = 0; s < 8; s++) {
            out[2 + s / 4] |= (unsigned char)(stored[s][l] >> 4 << s % 4 * 2);
            out[4 + s / 2] |= (unsigned char)((stored[s][l] & 15) << s % 2 * 4);
        }
    }
}

LANE void iq4_xs_blocks(const float *x, const float *importance, unsigned char *out)
{
    floats scale[8], v[IQ4_SUB];
    ints whole[8];
    iq4_scales(x, 8, importance, scale);
    const floats d = -farthest(scale, 8) / all(32), per_d = iq4_inverse(d);
    for (unsigned s = 0; s < 8; s++)
        whole[s] = clamp_ints(nearest_ints(per_d * scale[s]), -32, 31);
    iq4_xs_store_scales(d, whole, out);
    for (unsigned s = 0; s < 8; s++) {
        turn(x + s * IQ4_SUB, IQ4_MOST, IQ4_SUB, v);
        iq4_store_codes(v, d * floats_of_ints(whole[s]), out + 8 + s * IQ4_SUB / 2, 136);
    }
}

LANE void iq4_blocks(const float *x, unsigned block, const float *importance, unsigned char *out)
{
    if (block == IQ4_SUB)
        iq4_nl_blocks(x, importance, out);
    else
        iq4_xs_blocks(x, importance, out);
}

/* The importance of blocks first, first + 1 ... of a matrix, one behind the other: as it lies there, or copied. */
LANE const float *iq4_importance(const float *importance, size_t ncol, unsigned block, size_t first, float *copy)
{
    const size_t at = first * block % ncol;
    if (at + LANES * block <= ncol)
        return importance + at;
    for (size_t l = 0; l < LANES; l++)
        memcpy(copy + l * block, importance + (first + l) * block % ncol, block * sizeof *copy);
    return copy;
}

/* nblock blocks, of rows of ncol where there is importance. When fewer than LANES are left, the last stands in the other lanes too. */
LANE void iq4_encode(const float *x, size_t nblock, unsigned block, unsigned bytes, size_t ncol, const float *importance,
                     unsigned char *out)
{
    float weights[LANES * IQ4_MOST], rest[LANES * IQ4_MOST];
    unsigned char rest_out[LANES * 136];
    for (size_t i = 0; i < nblock; i += LANES) {
        const size_t now = nblock - i < LANES ? nblock - i : LANES;
        const float *const from = importance ? iq4_importance(importance, ncol, block, i, weights) : NULL;
        for (size_t l = 0; l < LANES && now < LANES; l++)
            memcpy(rest + l * block, x + (l < now ? i + l : nblock - 1) * block, block * sizeof *rest);
        iq4_blocks(now < LANES ? rest : x + i * block, block, from, now < LANES ? rest_out : out + i * bytes);
        if (now < LANES)
            memcpy(out + i * bytes, rest_out, now * bytes);
    }
}

LEVEL static void iq4_nl_encode(const float *x, size_t n, unsigned char *out) { iq4_encode(x, n / 32, 32, 18, 0, NULL, out); }
LEVEL static void iq4_xs_encode(const float *x, size_t n, unsigned char *out) { iq4_encode(x, n / 256, 256, 136, 0, NULL, out); }

LEVEL static void iq4_nl_encode_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    iq4_encode(x, nrow * ncol / 32, 32, 18, ncol, importance, out);
}

LEVEL static void iq4_xs_encode_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    iq4_encode(x, nrow * ncol / 256, 256, 136, ncol, importance, out);
}

INLINE void set_iq4_encoders(struct apr_kernels *k)
{
    k->encode[APR_IQ4_NL] = iq4_nl_encode;
    k->encode[APR_IQ4_XS] = iq4_xs_encode;
    k->encode_weighted[APR_IQ4_NL] = iq4_nl_encode_weighted;
    k->encode_weighted[APR_IQ4_XS] = iq4_xs_encode_weighted;
}

#endif
