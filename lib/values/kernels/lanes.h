/* What the SIMD encoders share: one block a lane, so that each lane adds in the order of the scalar encoder. An encoder for lanes is a
 * template, NAME_lanes.h, in terms of the types and functions of x86/lanes16.h, x86/lanes8.h or arm/lanes4.h, one of which is included
 * before it, by x86/encode_avx512.c, x86/encode_avx2.c and arm/encode_neon.c. Those define
 *     LANES   how many;  LANE  in front of functions: inline, and the level's target attribute;  LEVEL  the attribute alone
 *     floats  LANES f32, with the operators + - * / (never fused);  ints  LANES i32;  which  a yes or no for each lane
 * and functions on them, each the same for all levels; what lanes8.h says of one holds everywhere. This file adds what is made of those;
 * they include it at their end. */
#ifndef APR_KERNELS_LANES_H
#define APR_KERNELS_LANES_H

/* Of each lane, as C's operators have it on one float; min and max are x < m ? x : m, so of NaNs the second stays. */
LANE floats magnitude(floats v) { return floats_of(and(bits(v), all_ints(0x7fffffff))); }
LANE floats square(floats v) { return v * v; }
LANE floats clamp(floats v, float least, float most) { return lesser(greater(v, all(least)), all(most)); }
LANE ints clamp_ints(ints v, int least, int most) { return lesser_ints(greater_ints(v, all_ints(least)), all_ints(most)); }
LANE which is_more(floats a, floats b) { return is_less(b, a); }
LANE which is_nan(floats v) { return is_other(v, v); }
LANE bool every(which w) { return bits_of(w) == (1u << LANES) - 1; }

/* To the nearest whole number, ties to even, of lanes whose magnitude is at most 2^22 - 1; other lanes get anything. */
LANE floats nearest(floats v) { return v + all(APR_TO_NEAREST) - all(APR_TO_NEAREST); }

/* apr_nearest() of any float. */
LANE ints nearest_ints(floats v)
{
    const ints low = minus(and(bits(v + all(APR_TO_NEAREST)), all_ints(0x7fffff)), all_ints(0x400000));
    return choose_ints(is_nan(v), all_ints(0), low);
}
LANE floats nearest_of_any(floats v) { return floats_of_ints(nearest_ints(v)); }

/* n elements, a multiple of 4, of LANES rows, as n vectors, element i of each row in one: lane l is x + l * stride. */
LANE void turn(const float *x, size_t stride, unsigned n, floats *out)
{
    for (unsigned i = 0; i < n; i += 4)
        turn_four(x + i, stride, out + i);
}

/* The number of magnitudes' first largest, apr_farthest() of each lane. */
LANE floats farthest(const floats *x, unsigned n)
{
    floats most = all(0), at = all(0);
    for (unsigned i = 0; i < n; i++) {
        const which more = is_more(magnitude(x[i]), most);
        most = choose(more, magnitude(x[i]), most);
        at = choose(more, x[i], at);
    }
    return at;
}

#endif
