#ifdef __aarch64__
#include <arm_neon.h>

#include "values/kernels/runs.h"

INLINE float64x2_t load2(const void *from, size_t i, bool wide)
{
    return wide ? vld1q_f64((const double *)from + i) : vcvt_f64_f32(vld1_f32((const float *)from + i));
}

INLINE float64x2_t add_product2(float64x2_t sum, float64x2_t x, float64x2_t y, bool wide)
{
    return wide ? vaddq_f64(sum, vmulq_f64(x, y)) : vfmaq_f64(sum, x, y);
}

/* Lanes l and l + 1 of a run. */
INLINE void two_lanes(const void *a, const void *b, size_t n, bool wide, bool far, unsigned l, struct apr_difference *into,
                      struct found *f)
{
    float64x2_t ab = vld1q_f64(into->ab + l), aa = vld1q_f64(into->aa + l), bb = vld1q_f64(into->bb + l);
    float64x2_t sum = vld1q_f64(into->d + l), dd = vld1q_f64(into->dd + l), most = vdupq_n_f64(0);
    uint64x2_t zero = vdupq_n_u64(0), below_small = zero, below_medium = zero;
    for (size_t i = l; i < n; i += APR_LANES) {
        const float64x2_t x = load2(a, i, wide), y = load2(b, i, wide), d = vabdq_f64(x, y);
        ab = add_product2(ab, x, y, wide);
        aa = add_product2(aa, x, x, wide);
        bb = add_product2(bb, y, y, wide);
        sum = vaddq_f64(sum, d);
        dd = vaddq_f64(dd, vmulq_f64(d, d));
        most = vmaxq_f64(d, most);
        zero = vsubq_u64(zero, vceqzq_f64(d));
        if (far) {
            below_small = vsubq_u64(below_small, vcltq_f64(d, vdupq_n_f64(APR_SMALL)));
            below_medium = vsubq_u64(below_medium, vcltq_f64(d, vdupq_n_f64(APR_MEDIUM)));
        }
    }
    vst1q_f64(into->ab + l, ab);
    vst1q_f64(into->aa + l, aa);
    vst1q_f64(into->bb + l, bb);
    vst1q_f64(into->d + l, sum);
    vst1q_f64(into->dd + l, dd);
    vst1q_f64(f->most + l, most);
    f->zero += vaddvq_u64(zero);
    f->below_small += vaddvq_u64(below_small);
    f->below_medium += vaddvq_u64(below_medium);
}

INLINE bool run_neon(const void *a, const void *b, size_t n, bool wide, bool far, uint64_t first, struct apr_difference *into)
{
    const struct apr_difference before = *into;
    struct found f = { 0 };
    for (unsigned l = 0; l < APR_LANES; l += 2)
        two_lanes(a, b, n, wide, far, l, into, &f);
    return close_run(a, b, n, wide, far, first, &f, &before, into);
}

DIFFERENCE(, floats, float, false, run_neon, apr_difference_scalar)
DIFFERENCE(, doubles, double, true, run_neon, apr_difference_wide_scalar)
WHOLE(whole, doubles)

void apr_difference_neon(struct apr_kernels *k)
{
    k->difference = floats;
    k->difference_wide = doubles;
    k->difference_whole = whole;
}
#endif
