#ifdef __aarch64__
#include <arm_neon.h>

#include "values/kernels/init.h"

#define LEVEL
#define LANE      INLINE
#define WIDE      2u
#define ROWS      4u
#define POSITIONS 6u

typedef float64x2_t doubles;

LANE doubles none(void) { return vdupq_n_f64(0); }
LANE doubles load(const double *p) { return vld1q_f64(p); }
LANE doubles kept(doubles v) { __asm__("" : "+w"(v)); return v; }
LANE void store(double *p, doubles v) { vst1q_f64(p, v); }
LANE doubles widen(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }
LANE doubles fused(doubles a, doubles b, doubles c) { return vfmaq_f64(c, a, b); }

LANE double folded(const double lane[APR_LANES])
{
    const doubles a = vaddq_f64(load(lane), load(lane + 8)), b = vaddq_f64(load(lane + 2), load(lane + 10));
    const doubles c = vaddq_f64(load(lane + 4), load(lane + 12)), d = vaddq_f64(load(lane + 6), load(lane + 14));
    return vaddvq_f64(vaddq_f64(vaddq_f64(a, c), vaddq_f64(b, d)));
}

#include "values/kernels/dots_lanes.h"
#include "values/kernels/row_dots_lanes.h"

void apr_dots_neon(struct apr_kernels *k)
{
    k->dots = dots;
    set_row_dots(k);
}
#endif
