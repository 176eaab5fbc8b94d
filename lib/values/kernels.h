/* The kernel table: one function per dtype and job, filled once at start by the dtype rows' init functions. */
#ifndef APR_KERNELS_H
#define APR_KERNELS_H

#include "base/core.h"
#include "base/cpu.h"

/* Decodes n elements (a multiple of the dtype's block) from blocks into out. Bit-exact at every ISA level.
 *   head    the start of the tensor's data, for dtypes whose head is not 0; else unused
 *   blocks  the first whole block; any alignment
 *   out     n values; any alignment; may not overlap the input */
typedef void apr_decode_fn(const unsigned char *head, const unsigned char *blocks, size_t n, float *out);
typedef void apr_decode_wide_fn(const unsigned char *head, const unsigned char *blocks, size_t n, double *out);

/* Encodes n values (a multiple of the dtype's block: who has fewer fills up with zeros) into blocks, each for itself. Never fails;
 * the same bytes at every ISA level.
 *   x    any alignment
 *   out  n / block * bytes of them; any alignment; may not overlap x
 * F32 and F64 are copied. F16 and BF16 round to nearest even and overflow to infinity; a NaN stays one, made quiet, with the upper bits
 * of its payload. Blocks are those of llama.cpp's quantizers without an importance matrix, APR_Q4 those of the reference:
 *   NaN       is lost: passed over when the scale is chosen, then given a code (Q1_0: the scale is NaN; IQ4_NL: it is 0)
 *   infinity  and what is too large for the scale's type make the scale infinite or NaN (MXFP4: 255), which whoever must not write it
 *             finds in the block, by bad_scale or in its f16 fields (NVFP4: lost, as its scales saturate; K types, IQ4_XS: lost
 *             with its sub-block, as is what overflows when squared, so that who must not lose it looks for it first) */
typedef void apr_encode_fn(const float *x, size_t n, unsigned char *out);
typedef void apr_encode_wide_fn(const double *x, size_t n, unsigned char *out);

/* The same of whole rows, ncol of importance for the columns of each: what llama.cpp's quantizers write with an importance matrix. Some
 * look at a whole row, others only at a block.
 *   ncol        a multiple of the dtype's block
 *   importance  ncol of them, finite and not negative; any alignment; may not overlap out */
typedef void apr_encode_weighted_fn(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out);

#define APR_MOST_ELEMENTS 256 /* of a block */

/* One block as numbers. Its n values fall into nscale runs of one length, each with a scale, and into nsub sub-blocks of one length, each
 * with an integer scale and an integer min. A type without sub-blocks has one, whose scale and min are 1. Value i is
 *     scale * sub_scale * quant[i] - min * sub_min
 * from left to right, each operation rounded to f32. has_min: else min is 0. */
struct apr_unpacked {
    unsigned n, nscale, nsub;
    bool     has_min;
    float    scale[4], min;
    int8_t   sub_scale[16], sub_min[16];
    int8_t   quant[APR_MOST_ELEMENTS];
};
typedef void apr_unpack_fn(const unsigned char *block, struct apr_unpacked *out);

/* What a checker asks of one block without decoding it.
 *   bad_scale  the name of the first field that makes a scale NaN or infinite, or NULL
 *   codes      whether an encoder would write them: never (foreign), or others for the same values (loose) */
enum apr_codes { APR_CODES_SOUND, APR_CODES_LOOSE, APR_CODES_FOREIGN };
typedef const char *apr_bad_scale_fn(const unsigned char *block);
typedef enum apr_codes apr_codes_fn(const unsigned char *block);

#define APR_LANES 16

/* Sums of one chunk while it is measured: element i of the chunk goes to lane i % 16. Sums are over finite pairs only.
 *   identical   equal pairs: same value, both NaN, equal infinities
 *   small, medium, large  pairs with 0 < |a-b| < 0.001, < 0.01, >= 0.01
 *   nonfinite   other pairs with a NaN or an infinity
 *   max, max_at largest |a-b| and the lowest index that has it (of the chunk); max_at is meaningless while max is 0 */
struct apr_difference {
    double   ab[APR_LANES], aa[APR_LANES], bb[APR_LANES], d[APR_LANES], dd[APR_LANES];
    double   max;
    uint64_t max_at;
    uint64_t identical, small, medium, large, nonfinite;
};

/* Adds n pairs, which are elements first .. first + n of the chunk; first is a multiple of 16. */
typedef void apr_difference_fn(const float *a, const float *b, size_t n, uint64_t first, struct apr_difference *into);
typedef void apr_difference_wide_fn(const double *a, const double *b, size_t n, uint64_t first, struct apr_difference *into);

/* Likewise for integers of 64 bits as they are stored, little-endian at any alignment. Products are those of their doubles, but a
 * difference is taken of the integers and rounded once: only equal integers are identical. */
typedef void apr_difference_whole_fn(const unsigned char *a, bool a_signed, const unsigned char *b, bool b_signed, size_t n,
                                     uint64_t first, struct apr_difference *into);

/* Power sums of one chunk about a centre while it is read: element i of the chunk goes to lane i % 16. Over finite values only. */
struct apr_moments {
    double   d1[APR_LANES], d2[APR_LANES], d3[APR_LANES], d4[APR_LANES];
    double   min[APR_LANES], max[APR_LANES]; /* of either zero, the sign is not defined */
    uint64_t zeros, nans, infs, plus; /* plus: positive ones among the infinities */
};

/* No values: zeros, and infinities for min and max. */
struct apr_moments apr_no_moments(void);

/* Adds n values; n is a multiple of 16 in all calls for a chunk but the last. */
typedef void apr_moments_fn(const float *x, size_t n, double centre, struct apr_moments *into);
typedef void apr_moments_wide_fn(const double *x, size_t n, double centre, struct apr_moments *into);

#define APR_BINS 65536u

/* bin[i] is (x[i] - base) * scale without its fraction; 65535 for that and more, 0 for less than 1 and for NaN. */
typedef void apr_bins_fn(const float *x, size_t n, double base, double scale, uint16_t *bin);
typedef void apr_bins_wide_fn(const double *x, size_t n, double base, double scale, uint16_t *bin);

/* y[p * stride + r] = sum of w[r * n + i] * x[p * n + i] for r < nrow, p < nx: products are exact in double, product i is added to lane
 * i % 16 by rising i, and the lanes are folded 8+8, 4+4, 2+2, 1+1.
 *   x  doubles that hold floats: they are used nrow times */
typedef void apr_dots_fn(const float *w, size_t nrow, const double *x, size_t nx, size_t n, double *y, size_t stride);

/* y[r] = sum of w[r * n + i] * x[i] for r < nrow, of any doubles: each product is rounded, never fused, and goes to its lane and with it into
 * the sum as in apr_dots_fn. Any alignment; y may not overlap the others. */
typedef void apr_row_dots_fn(const float *w, size_t nrow, const double *x, size_t n, double *y);
typedef void apr_row_dots_wide_fn(const double *w, size_t nrow, const double *x, size_t n, double *y);

/* y[r] = the sum of row r with x alone: bit for bit what decoding and apr_dots_fn give (but for which NaN), without decoded values on the
 * way.
 *   row  nrow of them, n elements each as blocks, wherever they are; any alignment
 *   n    a multiple of the dtype's block */
typedef void apr_dot_fn(const unsigned char *const *row, size_t nrow, const double *x, size_t n, double *y);

/* How a run of codes of a packed weight becomes values, each operation rounded to f32. Of the group of a code
 *     level == NULL  (code - zero) * scale    bias != NULL  code * scale + bias    else  level[code] * scale
 * and where it is `scaled`, times the factor, or divided by it.
 *   bits               of a code, 1 to 8; they follow each other low bits first, without gaps
 *   turned             codes of 4 bits: the high nibble of a byte comes first
 *   with_sign          codes of 8 bits: they have one
 *   level              16 of them, for codes of 4 bits
 *   scale, zero, bias  one a group
 *   first, group       codes of the first group, which may have begun before the run, and of each after it; both above 0
 * Of codes, those n are read and nothing behind them, the first of which begins a byte. */
struct apr_coding {
    unsigned     bits;
    bool         turned, with_sign, scaled, divides;
    const float *level, *scale, *zero, *bias;
    size_t       first, group;
    float        factor;
};
typedef void apr_put_codes_fn(const unsigned char *codes, size_t n, const struct apr_coding *c, float *out);

/* The same of codes that are values already, in place; and of bytes of F8_E4M3, decoded on the way. Without levels and biases; a zero of 0
 * is not subtracted. */
typedef void apr_put_values_fn(float *x, size_t n, const struct apr_coding *c);
typedef void apr_put_bytes_fn(const unsigned char *code, size_t n, const struct apr_coding *c, float *out);

/* Words of 32 bits that stand in columns, into rows of 16 words. `words`: lines of 16 words, `stride` bytes apart; `out`: rows,
 * `out_stride` apart.
 *   down    16 lines: word w of line l becomes word l of row w
 *   across  128 lines of words of eight nibbles in the order 0 2 4 6 1 3 5 7: nibble i of word w of line l becomes nibble l of
 *           row 8w + i */
typedef void apr_turn_words_fn(const unsigned char *words, size_t stride, unsigned char *out, size_t out_stride);

struct apr_kernels {
    enum apr_isa             isa;
    apr_decode_fn           *decode[APR_NDTYPES];      /* NULL: not decodable, or wide */
    apr_decode_wide_fn      *decode_wide[APR_NDTYPES]; /* for dtypes marked wide */
    apr_encode_fn           *encode[APR_NDTYPES];          /* NULL: nothing is written in it so, or it is wide */
    apr_encode_wide_fn      *encode_wide[APR_NDTYPES];     /* for F64 */
    apr_encode_weighted_fn  *encode_weighted[APR_NDTYPES]; /* NULL: importance changes nothing; where encode is NULL it is needed */
    apr_unpack_fn           *unpack[APR_NDTYPES];      /* NULL: no blocks, or ones of more than a scale for each integer */
    apr_bad_scale_fn        *bad_scale[APR_NDTYPES];   /* NULL: its scales are its f16 and f32 fields */
    apr_codes_fn            *codes[APR_NDTYPES];       /* NULL: all are sound */
    apr_difference_fn       *difference;
    apr_difference_wide_fn  *difference_wide;
    apr_difference_whole_fn *difference_whole;
    apr_moments_fn          *moments;
    apr_moments_wide_fn     *moments_wide;
    apr_bins_fn             *bins;
    apr_bins_wide_fn        *bins_wide;
    apr_dots_fn             *dots;
    apr_row_dots_fn         *row_dots;
    apr_row_dots_wide_fn    *row_dots_wide;
    apr_dot_fn              *dot[APR_NDTYPES];         /* NULL: decode it, then dots */
    apr_put_codes_fn        *put_codes;
    apr_put_values_fn       *put_values;
    apr_put_bytes_fn        *put_e4m3;                 /* NULL: decode, then put_values */
    apr_turn_words_fn       *words_down;
    apr_turn_words_fn       *words_across;
};

/* The table for a level; the CPU must have it (apr_isa_has). Valid forever, the same at every call. */
const struct apr_kernels *apr_kernels_for(enum apr_isa isa);

/* The name of the first field of a block that makes a scale NaN or infinite, or NULL: what decoding it may hide. */
const char *apr_bad_scale(const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *block);

/* 16 lanes to one sum: 8+8, 4+4, 2+2, 1+1. */
double apr_fold(const double lane[APR_LANES]);

/* The cosine of two vectors by their sums of products: 1 when both are zero, 0 when one is; from -1 to 1, whatever rounding did. */
double apr_cosine(double ab, double aa, double bb);

/* How many times as large as the first the second is: 1 when both are zero, NAN when the first alone is. */
double apr_norm_ratio(double aa, double bb);

/* How far a norm ratio, or its inverse, may be from 1 where nothing else is said: what a cosine at its floor allows for noise, and a cosine
 * is blind to a lost scale. sqrt(2 (1 - floor)), 0 for a floor of 1. */
double apr_scale_allowed(double floor);

/* The bounds that two vectors are the same by, here and in every tool. largest: the largest difference of their elements; where neither
 * bound leaves room for one, any is too much, though the cosine is rounded to 1. */
bool apr_is_unlike(double cosine, double largest, double floor, double allowed);
bool apr_is_scaled(double ratio, double allowed);

/* IEEE binary16 to binary32, as F16C does it: exact, signalling NaNs quieted. */
float apr_f16_to_f32(uint16_t h);

#endif
