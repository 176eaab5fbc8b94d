#include "values/kernels/init.h"

static double dot(const float *w, const double *x, size_t n)
{
    double lane[APR_LANES] = { 0 };
    for (size_t i = 0; i < n; i++)
        lane[i % APR_LANES] += w[i] * x[i];
    return apr_fold(lane);
}

static void dots(const float *w, size_t nrow, const double *x, size_t nx, size_t n, double *y, size_t stride)
{
    for (size_t p = 0; p < nx; p++)
        for (size_t r = 0; r < nrow; r++)
            y[p * stride + r] = dot(w + r * n, x + p * n, n);
}

/* A double of each, whatever the weights are. */
#define ROW_DOTS(name, type)                                                                 \
    static void name(const type *w, size_t nrow, const double *x, size_t n, double *y)       \
    {                                                                                        \
        for (size_t r = 0; r < nrow; r++, w += n) {                                          \
            double lane[APR_LANES] = { 0 };                                                  \
            for (size_t i = 0; i < n; i++)                                                   \
                lane[i % APR_LANES] += w[i] * x[i];                                          \
            y[r] = apr_fold(lane);                                                           \
        }                                                                                    \
    }
ROW_DOTS(row_dots, float)
ROW_DOTS(row_dots_wide, double)

void apr_dots_init(struct apr_kernels *k, enum apr_isa isa)
{
    k->dots = dots;
    k->row_dots = row_dots;
    k->row_dots_wide = row_dots_wide;
#if APR_X86
    if (isa == APR_AVX512 && APR_WIDE) {
        apr_dots_avx512(k);
        apr_dot_avx512(k);
    } else if (isa >= APR_AVX2) {
        apr_dots_avx2(k);
        apr_dot_avx2(k);
    }
#elif APR_ARM
    if (isa == APR_NEON)
        apr_dots_neon(k);
#else
    (void)isa;
#endif
}
