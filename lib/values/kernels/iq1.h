/* What the encoders of IQ1_S and IQ1_M share, scalar and SIMD: from where a sub-block's levels part to the bytes of its block. */
#ifndef APR_KERNELS_IQ1_H
#define APR_KERNELS_IQ1_H

#include "values/kernels/codebook.h"
#include "values/kernels/encode.h"

/* Sub-blocks whose largest magnitude is less are 0. */
#define IQ1_S_LEAST 1e-12f
#define IQ1_M_LEAST 1e-7f

/* What the levels 0, 1, 2 of a group of 8 stand for, times the scale: -1, 0, 1, all a little more (plus) or less (minus). */
#define IQ1_SHIFT 0.125f
static const float iq1_value[2][4] = { { -1 + IQ1_SHIFT, IQ1_SHIFT, 1 + IQ1_SHIFT }, { -1 - IQ1_SHIFT, -IQ1_SHIFT, 1 - IQ1_SHIFT } };

/* Where the levels of a sub-block part: by rising value, the elements before `first` have level 0, those before `second` level 1, the rest
 * 2. Element j of that order is order[j * step]. Of `minus`, bit g is group g's. A scale may be negative yet. Not found: nothing fits, and
 * the sub-block is 0. */
struct iq1_split {
    bool           found;
    float          scale;
    unsigned       first, second, minus;
    const uint8_t *order;
    size_t         step;
};

/* What is stored of a sub-block of up to four groups: a tuple of the codebook and its index for each. moved: a tuple is not what it was
 * when the scale was fitted. */
struct iq1_sub {
    float    scale;
    unsigned minus;
    bool     moved;
    uint16_t tuple[4], index[4];
};

/* As integers, keys sort as their floats do. Both zeros are one value; NaNs lie at the ends. */
static inline int32_t iq1_key(float x)
{
    const uint32_t bits = apr_bits_of_float(x);
    return bits == 0x80000000u ? 0 : (int32_t)(bits ^ (bits >> 31 ? 0x7fffffffu : 0));
}

/* Of n tuples the one nearest to a group of 8: of the least sum of (w * e) * e where e = scale * value[level] - x; the first of several. */
typedef unsigned iq1_nearest_fn(const uint16_t *tuple, unsigned n, const float *x, const float *w, float scale, const float value[4]);

/* The levels of n elements, two bits for each. Turned: 2 minus each. */
static inline uint64_t iq1_levels(const struct iq1_split *split, unsigned n, bool turned)
{
    uint64_t lowest = 0, highest = 0;
    for (unsigned j = 0; j < split->first; j++)
        lowest |= (uint64_t)1 << 2 * split->order[j * split->step];
    for (unsigned j = split->second; j < n; j++)
        highest |= (uint64_t)1 << 2 * split->order[j * split->step];
    const uint64_t ones = 0x5555555555555555u >> (64 - 2 * n);
    return turned ? ones - highest + lowest : ones - lowest + highest;
}

/* Levels as tuples of the codebook. A negative scale is turned, and with it the levels and the signs of the shifts. */
static inline void iq1_settle(const struct apr_codebook *book, const struct iq1_split *split, const float *x, const float *w, unsigned n,
                              iq1_nearest_fn *pick, struct iq1_sub *sub)
{
    *sub = (struct iq1_sub){ .tuple = { book->entry[0], book->entry[0], book->entry[0], book->entry[0] } };
    if (!split->found)
        return;
    const bool turned = split->scale < 0;
    uint64_t levels = iq1_levels(split, n, turned);
    sub->scale = turned ? -split->scale : split->scale;
    sub->minus = turned ? split->minus ^ ((1u << n / 8) - 1) : split->minus;
    for (unsigned g = 0; g < n / 8; g++, levels >>= 16) {
        unsigned tuple = levels & 0xffff;
        if (book->at[tuple] & APR_OFF_GRID) {
            const uint32_t near = book->at[tuple];
            tuple = pick(book->list + apr_near_first(near), apr_near_count(near), x + 8 * g, w + 8 * g, sub->scale,
                         iq1_value[sub->minus >> g & 1]);
            sub->moved = true;
        }
        sub->tuple[g] = (uint16_t)tuple;
        sub->index[g] = (uint16_t)book->at[tuple];
    }
}

/* The largest scale; one that is not a number shows. */
static inline float iq1_largest_scale(const struct iq1_sub *sub, unsigned n)
{
    float most = 0;
    for (unsigned i = 0; i < n; i++)
        if (!(sub[i].scale <= most) && !isnan(most))
            most = sub[i].scale;
    return most;
}

/* A sub-block's scale in three bits: of d, the odd number of them nearest to it. */
static inline unsigned iq1_scale_code(float inverse, float scale)
{
    return (unsigned)apr_clamp(apr_nearest(0.5f * (inverse * scale - 1)), 0, 7);
}

/* | f16 d | 32: indices | 8 u16: four times bits 8-10 of an index, 3-bit scale, sign of the shift | */
static inline void iq1_store_s(const struct iq1_sub sub[8], unsigned char *out)
{
    const float most = iq1_largest_scale(sub, 8), d = most / 15, inverse = 1 / d;
    apr_store_scale(out, most != 0 ? d * 1.125f : 0);
    for (unsigned s = 0; s < 8; s++) {
        unsigned high = most != 0 ? iq1_scale_code(inverse, sub[s].scale) << 12 | (sub[s].minus & 1) << 15 : 0;
        for (unsigned g = 0; g < 4; g++) {
            out[2 + 4 * s + g] = (unsigned char)sub[s].index[g];
            high |= (unsigned)sub[s].index[g] >> 8 << 3 * g;
        }
        apr_store16(out + 34 + 2 * s, (uint16_t)high);
    }
}

/* The scales of a block of IQ1_M before its own is fitted to their codes. */
struct iq1_scales {
    float    most, d;
    unsigned code[16];
};

static inline struct iq1_scales iq1_code_scales(const struct iq1_sub sub[16])
{
    struct iq1_scales scales = { .most = iq1_largest_scale(sub, 16) };
    scales.d = scales.most / 15;
    for (unsigned s = 0; s < 16 && scales.most != 0; s++)
        scales.code[s] = iq1_scale_code(1 / scales.d, sub[s].scale);
    return scales;
}

/* | 32: indices | 16: two nibbles: bits 8-10 of an index, sign of the shift | 4 u16: four 3-bit scales, a quarter of f16 d |
 * a and b are the sums, over the block, of weight * value * x and weight * value * value. */
static inline void iq1_store_m(const struct iq1_sub sub[16], const struct iq1_scales *scales, float a, float b, unsigned char *out)
{
    unsigned word[4] = { 0 };
    for (unsigned s = 0; s < 16; s++) {
        const unsigned minus = scales->most != 0 ? sub[s].minus : 0;
        out[2 * s] = (unsigned char)sub[s].index[0];
        out[2 * s + 1] = (unsigned char)sub[s].index[1];
        const unsigned low = (unsigned)sub[s].index[0] >> 8 | (minus & 1) << 3, high = (unsigned)sub[s].index[1] >> 8 | minus >> 1 << 3;
        out[32 + s] = (unsigned char)(low | high << 4);
        word[s / 4] |= scales->code[s] << 3 * (s % 4);
    }
    unsigned char half[2] = { 0 };
    if (scales->most != 0)
        apr_store_scale(half, (b > 0 ? a / b : scales->d) * 1.1125f);
    for (unsigned i = 0; i < 4; i++)
        apr_store16(out + 48 + 2 * i, (uint16_t)(word[i] | (unsigned)(apr_load16(half) >> 4 * i & 15) << 12));
}

#endif
