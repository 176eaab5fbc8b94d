/* Q1_0, one block of 128 a lane (see lanes.h): the only one of the small types whose sum has an order. */
#ifndef APR_KERNELS_Q1_LANES_H
#define APR_KERNELS_Q1_LANES_H

/* LANES blocks: | f16 d, the mean of |x| | 16: bit i for x[i] >= 0 | */
LANE void q1_0_blocks(const float *x, unsigned char *out)
{
    floats sum = all(0);
    for (unsigned i = 0; i < 128; i += 4) {
        floats v[4];
        turn_four(x + i, 128, v);
        for (unsigned j = 0; j < 4; j++)
            sum = sum + magnitude(v[j]);
    }
    float d[LANES];
    store(d, sum / all(128));
    for (unsigned l = 0; l < LANES; l++, x += 128, out += 18) {
        apr_store_scale(out, d[l]);
        for (unsigned i = 0; i < 128; i += 16) {
            unsigned plus_signs = 0;
            for (unsigned j = 0; j < 16; j += LANES)
                plus_signs |= bits_of(is_at_most(all(0), load(x + i + j))) << j;
            apr_store16(out + 2 + i / 8, (uint16_t)plus_signs);
        }
    }
}

LEVEL static void q1_0_encode(const float *x, size_t n, unsigned char *out)
{
    const size_t step = 128 * (size_t)LANES;
    for (; n >= step; n -= step, x += step, out += 18 * LANES)
        q1_0_blocks(x, out);
    apr_q1_0_encode(x, n, out);
}

#endif
