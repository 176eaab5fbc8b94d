/* The encoders of IQ4_NL and IQ4_XS: four-bit codes for the same sixteen levels, under a scale that is searched for. */
#include "values/kernels/encode.h"
#include "values/kernels/grids.h"

#define SUB   32u
#define NSUBS 8u

/* The code of the level nearest to v; of two as near, the upper; 15 for NaN. Halves the middles between levels, without a branch. A
 * middle is exact in f32, and so are the distances to both levels from next to it: the smaller tells the side. */
static inline unsigned nearest_level(float v)
{
    unsigned u = 0;
    for (unsigned half = 8; half > 0; half /= 2) {
        const unsigned up = u + half;
        u = 2 * v < (float)(iq4nl_levels[up - 1] + iq4nl_levels[up]) ? u : up;
    }
    return u;
}

/* Two sums over a sub-block coded with 1 / scale = per_d: q stands for the level of x. */
struct fit {
    float qx, qq;
};

static struct fit fit(const float x[SUB], const float weight[SUB], float per_d)
{
    struct fit f = { 0, 0 };
    for (unsigned i = 0; i < SUB; i++) {
        const float q = (float)iq4nl_levels[nearest_level(per_d * x[i])];
        f.qx += weight[i] * q * x[i];
        f.qq += weight[i] * q * q;
    }
    return f;
}

/* The scale of least squares for a sub-block, among those that take the value farthest from 0 to a number near that of the lowest level:
 * a first guess to 127, then fifteen steps to -134 ... -120. Squares fall with qx * qx / qq. */
static float scale_of(const float x[SUB], const float weight[SUB])
{
    const float farthest = apr_farthest(x, SUB), lowest = (float)iq4nl_levels[0];
    if (fabsf(farthest) < 1e-15f)
        return 0;
    struct fit f = fit(x, weight, 1 / (-farthest / lowest));
    float d = f.qq > 0 ? f.qx / f.qq : 0, best = d * f.qx;
    for (int step = -7; step <= 7; step++) {
        f = fit(x, weight, (float)(step + iq4nl_levels[0]) / farthest);
        if (f.qq > 0 && f.qx * f.qx > best * f.qq) {
            d = f.qx / f.qq;
            best = d * f.qx;
        }
    }
    return d;
}

/* The scale of each sub-block of a block of n values. A value weighs its square, or with importance the importance of its column times
 *     sqrt(2 mean(x * x) + x * x)
 * where the mean is the block's. */
static void scales_of(const float *x, unsigned n, const float *importance, float *scale)
{
    float squares = 0, weight[SUB];
    for (unsigned i = 0; i < n; i++)
        squares += x[i] * x[i];
    const float twice_mean = squares * (2 / (float)n);
    for (unsigned s = 0; s < n; s += SUB) {
        for (unsigned i = 0; i < SUB; i++) {
            const float square = x[s + i] * x[s + i];
            weight[i] = importance ? importance[s + i] * sqrtf(twice_mean + square) : square;
        }
        scale[s / SUB] = scale_of(x + s, weight);
    }
}

static void store_codes(const float x[SUB], float d, unsigned char *q)
{
    uint8_t code[SUB];
    const float per_d = apr_inverse(d);
    for (unsigned i = 0; i < SUB; i++)
        code[i] = (uint8_t)nearest_level(per_d * x[i]);
    apr_store_nibbles(code, SUB, q);
}

/* | f16 d | 16: nibbles, which stand for levels |: codes are of the d that is not yet rounded to f16. */
static void encode_nl(const float *x, const float *importance, unsigned char *out)
{
    float d;
    scales_of(x, SUB, importance, &d);
    apr_store_scale(out, d);
    store_codes(x, d, out + 2);
}

/* | f16 d | u16: upper two bits of eight scales | 4: lower four bits, both 32 too large | 128: nibbles, 16 low then the same 16 high |
 * d makes the scale farthest from 0 -32. Scales are those sought over d, to the nearest, and codes are of what that makes of them, but
 * of the d that is not yet rounded to f16. */
static void encode_xs(const float *x, const float *importance, unsigned char *out)
{
    float scale[NSUBS];
    scales_of(x, NSUBS * SUB, importance, scale);
    const float d = -apr_farthest(scale, NSUBS) / 32, per_d = apr_inverse(d);
    apr_store_scale(out, d);
    memset(out + 2, 0, 6);
    for (unsigned s = 0; s < NSUBS; s++) {
        const int whole = apr_clamp(apr_nearest(per_d * scale[s]), -32, 31), stored = whole + 32;
        out[2 + s / 4] |= (unsigned char)(stored >> 4 << s % 4 * 2);
        out[4 + s / 2] |= (unsigned char)((stored & 15) << s % 2 * 4);
        store_codes(x + s * SUB, d * (float)whole, out + 8 + s * SUB / 2);
    }
}

static void iq4_nl(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 32, x += 32, out += 18)
        encode_nl(x, NULL, out);
}

static void iq4_xs(const float *x, size_t n, unsigned char *out)
{
    for (; n; n -= 256, x += 256, out += 136)
        encode_xs(x, NULL, out);
}

static void iq4_nl_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    for (; nrow; nrow--)
        for (size_t i = 0; i < ncol; i += 32, x += 32, out += 18)
            encode_nl(x, importance + i, out);
}

static void iq4_xs_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    for (; nrow; nrow--)
        for (size_t i = 0; i < ncol; i += 256, x += 256, out += 136)
            encode_xs(x, importance + i, out);
}

void apr_iq4_encoders(struct apr_kernels *k)
{
    k->encode[APR_IQ4_NL] = iq4_nl;
    k->encode[APR_IQ4_XS] = iq4_xs;
    k->encode_weighted[APR_IQ4_NL] = iq4_nl_weighted;
    k->encode_weighted[APR_IQ4_XS] = iq4_xs_weighted;
}
