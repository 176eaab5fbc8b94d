/* apr_row_dots_fn for lanes of doubles: a template, included behind dots_lanes.h, whose names it goes by. Some rows at a time share what
 * is loaded of x, and their sums, which are added to in turn, do not wait for each other. Of few rows in the first cache the loads are what
 * takes time, a register a cycle: three for two rows. */
#ifndef APR_KERNELS_ROW_DOTS_LANES_H
#define APR_KERNELS_ROW_DOTS_LANES_H

#define AT_ONCE (WIDE == 8 ? 4u : 2u) /* rows whose sums are in registers */

/* Whole runs of 16 columns of `rows` rows, a constant wherever it is called; rows lie `stride` apart. */
#define ADD_RUNS(name, type, get)                                                                                                \
    LANE void name(const type *w, size_t stride, unsigned rows, const double *x, size_t n, doubles sum[AT_ONCE][PER_SUM])        \
    {                                                                                                                            \
        for (size_t i = 0; i < n; i += APR_LANES)                                                                                \
            UNROLL                                                                                                               \
            for (unsigned d = 0; d < PER_SUM; d++) {                                                                             \
                const doubles v = kept(load(x + i + d * WIDE));                                                                  \
                UNROLL                                                                                                           \
                for (unsigned r = 0; r < rows; r++)                                                                              \
                    sum[r][d] = sum[r][d] + get(w + r * stride + i + d * WIDE) * v;                                              \
            }                                                                                                                    \
    }

/* The last columns, fewer than 16, are filled up with zeros: to a lane, which is never -0, they add nothing. */
#define ROW_DOTS(name, type, get)                                                                                                \
    ADD_RUNS(name##_runs, type, get)                                                                                             \
    LANE void name##_some(const type *w, unsigned rows, const double *x, size_t n, double *y)                                    \
    {                                                                                                                            \
        doubles sum[AT_ONCE][PER_SUM];                                                                                           \
        UNROLL                                                                                                                   \
        for (unsigned r = 0; r < rows; r++)                                                                                      \
            UNROLL                                                                                                               \
            for (unsigned d = 0; d < PER_SUM; d++)                                                                               \
                sum[r][d] = none();                                                                                              \
        const size_t whole = n - n % APR_LANES;                                                                                  \
        name##_runs(w, n, rows, x, whole, sum);                                                                                  \
        if (whole < n) {                                                                                                         \
            type last[AT_ONCE * APR_LANES] = { 0 };                                                                              \
            double at[APR_LANES] = { 0 };                                                                                        \
            memcpy(at, x + whole, (n - whole) * sizeof *x);                                                                      \
            for (unsigned r = 0; r < rows; r++)                                                                                  \
                memcpy(last + r * APR_LANES, w + r * n + whole, (n - whole) * sizeof *w);                                        \
            name##_runs(last, APR_LANES, rows, at, APR_LANES, sum);                                                              \
        }                                                                                                                        \
        UNROLL                                                                                                                   \
        for (unsigned r = 0; r < rows; r++) {                                                                                    \
            double lane[APR_LANES];                                                                                              \
            UNROLL                                                                                                               \
            for (unsigned d = 0; d < PER_SUM; d++)                                                                               \
                store(lane + d * WIDE, sum[r][d]);                                                                               \
            y[r] = folded(lane);                                                                                                 \
        }                                                                                                                        \
    }                                                                                                                            \
    LEVEL static void name(const type *w, size_t nrow, const double *x, size_t n, double *y)                                     \
    {                                                                                                                            \
        for (; nrow >= AT_ONCE; nrow -= AT_ONCE, w += AT_ONCE * n, y += AT_ONCE)                                                 \
            name##_some(w, AT_ONCE, x, n, y);                                                                                    \
        for (; nrow >= 2; nrow -= 2, w += 2 * n, y += 2)                                                                         \
            name##_some(w, 2, x, n, y);                                                                                          \
        if (nrow > 0)                                                                                                            \
            name##_some(w, 1, x, n, y);                                                                                          \
    }

ROW_DOTS(row_dots, float, widen)
ROW_DOTS(row_dots_wide, double, load)

static inline void set_row_dots(struct apr_kernels *k)
{
    k->row_dots = row_dots;
    k->row_dots_wide = row_dots_wide;
}

#endif
