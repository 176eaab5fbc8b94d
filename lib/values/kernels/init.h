/* What the kernel files share: their init functions, named by the rows of lib/values/dtype.c, and loads from unaligned little-endian
 * bytes. */
#ifndef APR_KERNELS_INIT_H
#define APR_KERNELS_INIT_H

#include <string.h>

#include "values/kernels.h"

/* Each sets the entries of its own dtypes to the best body for the level. Called once per level and row: filling twice is harmless. */
void apr_plain_init(struct apr_kernels *k, enum apr_isa isa);      /* F64 F32, integers, BOOL */
void apr_half_init(struct apr_kernels *k, enum apr_isa isa);       /* F16 BF16 */
void apr_float8_init(struct apr_kernels *k, enum apr_isa isa);      /* F8 F6 F4 */
void apr_legacy_init(struct apr_kernels *k, enum apr_isa isa);        /* Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q8_1 */
void apr_k_init(struct apr_kernels *k, enum apr_isa isa);          /* Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K */
void apr_iq_init(struct apr_kernels *k, enum apr_isa isa);         /* IQ1 IQ2 IQ3 */
void apr_levels4_init(struct apr_kernels *k, enum apr_isa isa);      /* IQ4_NL IQ4_XS MXFP4 NVFP4 */
void apr_ternary_init(struct apr_kernels *k, enum apr_isa isa);        /* Q1_0 Q2_0 TQ1_0 TQ2_0 */
void apr_apr_init(struct apr_kernels *k, enum apr_isa isa);        /* APR_Q4 APR_Q8 */
void apr_iq_encode_init(struct apr_kernels *k);                    /* encoders of IQ2 IQ3, by apr_iq_init */
void apr_iq1_encode_init(struct apr_kernels *k);                   /* of IQ1, likewise */
void apr_difference_init(struct apr_kernels *k, enum apr_isa isa); /* of no dtype */
void apr_moments_init(struct apr_kernels *k, enum apr_isa isa);    /* likewise: moments and bins */
void apr_dots_init(struct apr_kernels *k, enum apr_isa isa);
void apr_packed_init(struct apr_kernels *k, enum apr_isa isa);     /* of what packed weights are decoded with */

/* The encoders of IQ4_NL and IQ4_XS, which stand apart. */
void apr_iq4_encoders(struct apr_kernels *k);

/* The same entries set to SIMD bodies, by the functions above: see x86/ and arm/. Each is there on its own machine only. */
#ifdef __x86_64__
#define APR_X86 1
#else
#define APR_X86 0
#endif
/* Are bodies for AVX-512 there beside those for AVX2, where they are long? The static program has one of both, which gives the same bits. */
#ifdef APR_STATIC
#define APR_WIDE 0
#else
#define APR_WIDE 1
#endif
#ifdef __aarch64__
#define APR_ARM 1
#else
#define APR_ARM 0
#endif
void apr_half_x86(struct apr_kernels *k);
void apr_float8_x86(struct apr_kernels *k);
void apr_legacy_x86(struct apr_kernels *k);
void apr_k_x86(struct apr_kernels *k);
void apr_levels4_x86(struct apr_kernels *k);
void apr_apr_x86(struct apr_kernels *k);
void apr_difference_x86(struct apr_kernels *k, enum apr_isa isa);
void apr_moments_x86(struct apr_kernels *k, enum apr_isa isa);
void apr_packed_x86(struct apr_kernels *k);
void apr_packed_avx512(struct apr_kernels *k);
void apr_dots_avx2(struct apr_kernels *k);
void apr_dots_avx512(struct apr_kernels *k);
void apr_dot_avx2(struct apr_kernels *k);
void apr_dot_avx512(struct apr_kernels *k);
void apr_half_neon(struct apr_kernels *k);
void apr_float8_neon(struct apr_kernels *k);
void apr_legacy_neon(struct apr_kernels *k);
void apr_k_neon(struct apr_kernels *k);
void apr_levels4_neon(struct apr_kernels *k);
void apr_apr_neon(struct apr_kernels *k);
void apr_difference_neon(struct apr_kernels *k);
void apr_moments_neon(struct apr_kernels *k);
void apr_dots_neon(struct apr_kernels *k);

/* Those encoders that have one block a lane (lanes.h): set after all others. */
void apr_encode_avx2(struct apr_kernels *k);
void apr_encode_avx512(struct apr_kernels *k);
void apr_encode_neon(struct apr_kernels *k);

/* Before a loop: all of its rounds at once, or so many. */
#ifdef __clang__
#define UNROLL  _Pragma("clang loop unroll(full)")
#define UNROLL4 _Pragma("clang loop unroll_count(4)")
#define UNROLL8 _Pragma("clang loop unroll_count(8)")
#else
#define UNROLL  _Pragma("GCC unroll 64")
#define UNROLL4 _Pragma("GCC unroll 4")
#define UNROLL8 _Pragma("GCC unroll 8")
#endif

/* For small functions of SIMD bodies: a call would be refused where it crosses target attributes, and undo constants. */
#define INLINE __attribute__((always_inline)) static inline

/* Where differences begin to be of medium size, and large. */
#define APR_SMALL  0.001
#define APR_MEDIUM 0.01

/* The encoders of dtypes whose init function is in another file: plain ones of K types, and weighted ones. */
void apr_k_encode_init(struct apr_kernels *k);
void apr_legacy_weighted_init(struct apr_kernels *k);

/* For what SIMD bodies leave over. */
apr_encode_fn          apr_q1_0_encode;
apr_difference_fn      apr_difference_scalar;
apr_difference_wide_fn apr_difference_wide_scalar;
apr_moments_fn         apr_moments_scalar;
apr_moments_wide_fn    apr_moments_wide_scalar;
apr_bins_fn            apr_bins_scalar;
apr_bins_wide_fn       apr_bins_wide_scalar;
apr_put_values_fn      apr_put_values_scalar;

/* Codes i to i + n of a run, all of its group g. */
void apr_put_some_codes(const unsigned char *codes, size_t i, size_t n, const struct apr_coding *c, size_t g, float *out);

/* The difference of integers of 64 bits out of a level's difference of doubles. */
void apr_difference_whole_by(apr_difference_wide_fn *wide, const unsigned char *a, bool a_signed, const unsigned char *b, bool b_signed,
                             size_t n, uint64_t first, struct apr_difference *into);
#define WHOLE(name, wide)                                                                                                    \
    static void name(const unsigned char *a, bool a_signed, const unsigned char *b, bool b_signed, size_t n, uint64_t first, \
                     struct apr_difference *into)                                                                            \
    {                                                                                                                        \
        apr_difference_whole_by(wide, a, a_signed, b, b_signed, n, first, into);                                             \
    }

static inline uint16_t apr_load16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }

static inline uint32_t apr_load32(const unsigned char *p) { return apr_load16(p) | (uint32_t)apr_load16(p + 2) << 16; }

static inline float apr_float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t apr_bits_of_float(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* A smaller float's exponent and fraction, moved to where binary32 has them, as the bits of its value; excess is 127 - bias. A
 * subnormal gets the hidden one that it lacks, which is then subtracted: exact, and no slow subnormal is ever an operand. */
static inline uint32_t apr_rebias(uint32_t moved, uint32_t excess)
{
    const uint32_t one = 1u << 23, subnormal = moved < one ? UINT32_MAX : 0;
    const float f = apr_float_of_bits(moved + (excess << 23) + (subnormal & one));
    return apr_bits_of_float(f - apr_float_of_bits(subnormal & ((excess << 23) + one)));
}

/* apr_f16_to_f32 in place. */
static inline float apr_half(uint16_t h)
{
    const uint32_t magnitude = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16, number = apr_rebias(magnitude << 13, 112);
    const uint32_t special = 0x7f800000u | magnitude << 13 | (magnitude > 0x7c00 ? 0x400000u : 0);
    return apr_float_of_bits(sign | (magnitude >= 0x7c00 ? special : number));
}

static inline float apr_flip(float f, unsigned negative) { return apr_float_of_bits(apr_bits_of_float(f) ^ (uint32_t)negative << 31); }

/* 2 to the power of e - 128: the scale of MXFP4, half of what F8_E8M0 means by e. */
static inline float apr_e8m0_half(unsigned e) { return apr_float_of_bits(e < 2 ? 0x200000u << e : (e - 1) << 23); }

static inline float apr_load_half(const unsigned char *p) { return apr_half(apr_load16(p)); }

/* Scale and min j of the eight pairs in 12 bytes:
 *   | 4: scales 0-3 | 4: mins 0-3 | 4: scales 4-7 low nibble, mins 4-7 high nibble |, their upper two bits in those of the first 8 */
static inline void apr_six_bits(const unsigned char *b, unsigned j, unsigned *scale, unsigned *min)
{
    if (j < 4) {
        *scale = b[j] & 63u;
        *min = b[j + 4] & 63u;
    } else {
        *scale = (b[j + 4] & 15u) | (unsigned)b[j - 4] >> 6 << 4;
        *min = b[j + 4] >> 4 | (unsigned)b[j] >> 6 << 4;
    }
}

/* A block of n values under one scale, without sub-blocks and mins, its quants still to be put. */
static inline void apr_begin_block(struct apr_unpacked *u, unsigned n, float scale)
{
    u->n = n;
    u->nscale = u->nsub = 1;
    u->has_min = false;
    u->scale[0] = scale;
    u->min = 0;
    u->sub_scale[0] = u->sub_min[0] = 1;
}

#endif
