#ifdef __x86_64__
#include "values/kernels/x86/avx2.h"

#define LEVEL   __attribute__((target("avx2,fma,f16c")))
#define LANE    LEVEL INLINE
#define PER_SUM 4u

typedef __m256d doubles;
struct prepared { /* nothing */
    char none;
};

LANE doubles none(void) { return _mm256_setzero_pd(); }

LANE double folded(const doubles sum[PER_SUM])
{
    const __m256d four = (sum[0] + sum[2]) + (sum[1] + sum[3]);
    const __m128d two = _mm256_castpd256_pd128(four) + _mm256_extractf128_pd(four, 1);
    return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

LANE doubles add_four(__m128 w, const double *x, doubles sum) { return _mm256_fmadd_pd(_mm256_cvtps_pd(w), _mm256_loadu_pd(x), sum); }

LANE void add_floats(__m256 low, __m256 high, const double *x, doubles sum[PER_SUM])
{
    sum[0] = add_four(_mm256_castps256_ps128(low), x, sum[0]);
    sum[1] = add_four(_mm256_extractf128_ps(low, 1), x + 4, sum[1]);
    sum[2] = add_four(_mm256_castps256_ps128(high), x + 8, sum[2]);
    sum[3] = add_four(_mm256_extractf128_ps(high, 1), x + 12, sum[3]);
}

#include "values/kernels/x86/dot_lanes.h"

/* Of blocks, registers are too few: they are as fast by way of decoded rows in the first cache. */
void apr_dot_avx2(struct apr_kernels *k) { set_plain_dots(k); }
#endif
