#ifdef __x86_64__
#include <immintrin.h>

#include "values/kernels/init.h"

#define LEVEL     __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define LANE      LEVEL INLINE
#define WIDE      8u
#define ROWS      4u
#define POSITIONS 6u

typedef __m512d doubles;

LANE doubles none(void) { return _mm512_setzero_pd(); }
LANE doubles load(const double *p) { return _mm512_loadu_pd(p); }
LANE doubles kept(doubles v) { __asm__("" : "+v"(v)); return v; }
LANE void store(double *p, doubles v) { _mm512_storeu_pd(p, v); }
LANE doubles widen(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
LANE doubles fused(doubles a, doubles b, doubles c) { return _mm512_fmadd_pd(a, b, c); }

LANE double folded(const double lane[APR_LANES])
{
    const __m512d eight = load(lane) + load(lane + 8);
    const __m256d four = _mm512_castpd512_pd256(eight) + _mm512_extractf64x4_pd(eight, 1);
    const __m128d two = _mm256_castpd256_pd128(four) + _mm256_extractf128_pd(four, 1);
    return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

#include "values/kernels/dots_lanes.h"
#include "values/kernels/row_dots_lanes.h"

void apr_dots_avx512(struct apr_kernels *k)
{
    k->dots = dots;
    set_row_dots(k);
}
#endif
