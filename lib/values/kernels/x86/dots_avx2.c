#ifdef __x86_64__
#include <immintrin.h>

#include "values/kernels/init.h"

#define LEVEL     __attribute__((target("avx2,fma")))
#define LANE      LEVEL INLINE
#define WIDE      4u
#define ROWS      3u
#define POSITIONS 4u

typedef __m256d doubles;

LANE doubles none(void) { return _mm256_setzero_pd(); }
LANE doubles load(const double *p) { return _mm256_loadu_pd(p); }
LANE doubles kept(doubles v) { __asm__("" : "+x"(v)); return v; }
LANE void store(double *p, doubles v) { _mm256_storeu_pd(p, v); }
LANE doubles widen(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
LANE doubles fused(doubles a, doubles b, doubles c) { return _mm256_fmadd_pd(a, b, c); }

LANE double folded(const double lane[APR_LANES])
{
    const __m256d four = (load(lane) + load(lane + 8)) + (load(lane + 4) + load(lane + 12));
    const __m128d two = _mm256_castpd256_pd128(four) + _mm256_extractf128_pd(four, 1);
    return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

#include "values/kernels/dots_lanes.h"
#include "values/kernels/row_dots_lanes.h"

void apr_dots_avx2(struct apr_kernels *k)
{
    k->dots = dots;
    set_row_dots(k);
}
#endif
