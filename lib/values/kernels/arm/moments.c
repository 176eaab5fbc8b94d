#ifdef __aarch64__
#include <arm_neon.h>

#include "values/kernels/run.h"

INLINE float64x2_t load2(const void *from, size_t i, bool wide)
{
    return wide ? vld1q_f64((const double *)from + i) : vcvt_f64_f32(vld1_f32((const float *)from + i));
}

INLINE void lanes_neon(const void *x, size_t n, bool wide, double centre, struct apr_moments *into)
{
    for (unsigned l = 0; l < APR_LANES; l += 2) {
        float64x2_t d1 = vld1q_f64(into->d1 + l), d2 = vld1q_f64(into->d2 + l), d3 = vld1q_f64(into->d3 + l);
        float64x2_t d4 = vld1q_f64(into->d4 + l), min = vld1q_f64(into->min + l), max = vld1q_f64(into->max + l);
        uint64x2_t zeros = vdupq_n_u64(0);
        for (size_t i = l; i < n; i += APR_LANES) {
            const float64x2_t v = load2(x, i, wide), d = vsubq_f64(v, vdupq_n_f64(centre)), square = vmulq_f64(d, d);
            d1 = vaddq_f64(d1, d);
            d2 = vaddq_f64(d2, square);
            d3 = vaddq_f64(d3, vmulq_f64(square, d));
            d4 = vaddq_f64(d4, vmulq_f64(square, square));
            min = vminq_f64(v, min);
            max = vmaxq_f64(v, max);
            zeros = vsubq_u64(zeros, vceqzq_f64(v));
        }
        vst1q_f64(into->d1 + l, d1);
        vst1q_f64(into->d2 + l, d2);
        vst1q_f64(into->d3 + l, d3);
        vst1q_f64(into->d4 + l, d4);
        vst1q_f64(into->min + l, min);
        vst1q_f64(into->max + l, max);
        into->zeros += vaddvq_u64(zeros);
    }
}

INLINE uint64x2_t bins2(const void *x, size_t i, bool wide, double base, double scale)
{
    const float64x2_t at = vmulq_f64(vsubq_f64(load2(x, i, wide), vdupq_n_f64(base)), vdupq_n_f64(scale));
    return vandq_u64(vcvtq_u64_f64(vminq_f64(at, vdupq_n_f64(APR_BINS - 1))), vcgeq_f64(at, vdupq_n_f64(1)));
}

INLINE void bins_neon(const void *x, size_t i, bool wide, double base, double scale, uint16_t *bin)
{
    for (unsigned l = 0; l < 16; l += 4) {
        const uint32x2_t low = vmovn_u64(bins2(x, i + l, wide, base, scale)), high = vmovn_u64(bins2(x, i + l + 2, wide, base, scale));
        vst1_u16(bin + l, vmovn_u32(vcombine_u32(low, high)));
    }
}

MOMENTS(, floats, float, false, lanes_neon, apr_moments_scalar)
MOMENTS(, doubles, double, true, lanes_neon, apr_moments_wide_scalar)
BINS(, float_bins, float, false, bins_neon, apr_bins_scalar)
BINS(, double_bins, double, true, bins_neon, apr_bins_wide_scalar)

void apr_moments_neon(struct apr_kernels *k)
{
    k->moments = floats;
    k->moments_wide = doubles;
    k->bins = float_bins;
    k->bins_wide = double_bins;
}
#endif
