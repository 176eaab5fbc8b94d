/* MXFP4 and NVFP4, LANES values of a block at once (see lanes.h): nothing is summed here. */
#ifndef APR_KERNELS_FP4_LANES_H
#define APR_KERNELS_FP4_LANES_H

#include "values/kernels/fp4.h"

LANE float fp4_largest(const float *x, unsigned n)
{
    float most[LANES];
    floats v = all(0);
    for (unsigned i = 0; i < n; i += LANES)
        v = greater(magnitude(load(x + i)), v);
    store(most, v);
    return apr_largest(most, LANES);
}

/* As nearest_fp4() of levels4.c: codes of the first of the eight levels from 0 that is nearest, then the sign. */
LANE ints fp4_nearest(floats x, const float level[8])
{
    const floats far = magnitude(x);
    floats least = far;
    ints code = all_ints(0);
    UNROLL4 for (int c = 1; c < 8; c++) {
        const floats distance = magnitude(all(level[c]) - far);
        const which nearer = is_less(distance, least);
        code = choose_ints(nearer, all_ints(c), code);
        least = choose(nearer, distance, least);
    }
    const ints sign = and(right(bits(x), 28), all_ints(8));
    return choose_ints(is_equal_int(code, all_ints(0)), code, or(code, sign));
}

LANE void fp4_store(const float *x, unsigned n, float scale, unsigned char *out)
{
    float level[8];
    uint8_t code[32];
    apr_fp4_levels(scale, level);
    for (unsigned i = 0; i < n; i += LANES)
        store_bytes(code + i, fp4_nearest(load(x + i), level));
    apr_store_nibbles(code, n, out);
}

LEVEL static void mxfp4_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 17) {
        out[0] = apr_mxfp4_exponent(fp4_largest(x, 32));
        fp4_store(x, 32, apr_e8m0_half(out[0]), out + 1);
    }
}

LEVEL static void nvfp4_encode(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 64, out += 36)
        for (unsigned g = 0; g < 4; g++, x += 16) {
            out[g] = apr_to_ue4m3(fp4_largest(x, 16) / 6);
            fp4_store(x, 16, apr_float_of_bits(ue4m3_half[out[g]]), out + 4 + 8 * g);
        }
}

INLINE void set_fp4_encoders(struct apr_kernels *k)
{
    k->encode[APR_MXFP4] = mxfp4_encode;
    k->encode[APR_NVFP4] = nvfp4_encode;
}

#endif
