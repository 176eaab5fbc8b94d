/* apr_dots_fn for lanes of doubles: a template, included by x86/dots_avx512.c, x86/dots_avx2.c and arm/dots_neon.c, which define
 *     WIDE    doubles of a register;  LANE  in front of functions: inline, and the level's target attribute;  LEVEL  the attribute alone
 *     ROWS, POSITIONS  rows and positions that are multiplied at a time, ROWS * POSITIONS registers of sums and some more for factors
 *     doubles WIDE of them, and: none() zeros; load() and store(); kept() a value that is to stay in its register, where gcc would load it
 *             again for each use; widen() that many floats; fused(a, b, c) a * b + c, of which the product is exact; folded() the 16
 *             lanes in their registers as one sum, as apr_fold() does it
 * The 16 lanes of a sum are 16 / WIDE registers. So that registers suffice for many sums, a tile is walked some lanes at a time. */
#ifndef APR_KERNELS_DOTS_LANES_H
#define APR_KERNELS_DOTS_LANES_H

#define PER_SUM (APR_LANES / WIDE)
#define COLUMNS 512u /* of positions, which stay in the first cache while rows go by */
#define BAND    24u  /* rows that go by */

/* What is to be multiplied, rows and positions each `n` apart; sums are one behind the other, `sums` positions wide. */
struct tile {
    const float  *w;
    const double *x;
    size_t        n, columns;
    double       *sum;
};

/* The sums of one row and one position, as they lie in memory between two runs of columns. */
#define SUM(r, p) (t->sum + ((r) * POSITIONS + (p)) * APR_LANES)

/* Adds the products of `rows` rows and `positions` positions, `deep` registers of each sum at a time. All three are constants wherever it
 * is called, so that `sum` is registers. */
LANE void add_products(const struct tile *t, unsigned rows, unsigned positions, unsigned deep)
{
    for (unsigned from = 0; from < PER_SUM; from += deep) {
        doubles sum[ROWS][POSITIONS][PER_SUM];
        UNROLL
        for (unsigned r = 0; r < rows; r++)
            UNROLL
            for (unsigned p = 0; p < positions; p++)
                UNROLL
                for (unsigned d = 0; d < deep; d++)
                    sum[r][p][d] = load(SUM(r, p) + (from + d) * WIDE);
        for (size_t i = from * WIDE; i < t->columns; i += APR_LANES)
            UNROLL
            for (unsigned d = 0; d < deep; d++) {
                doubles w[ROWS];
                UNROLL
                for (unsigned r = 0; r < rows; r++)
                    w[r] = widen(t->w + r * t->n + i + d * WIDE);
                UNROLL
                for (unsigned p = 0; p < positions; p++) {
                    const doubles x = load(t->x + p * t->n + i + d * WIDE);
                    UNROLL
                    for (unsigned r = 0; r < rows; r++)
                        sum[r][p][d] = fused(w[r], x, sum[r][p][d]);
                }
            }
        UNROLL
        for (unsigned r = 0; r < rows; r++)
            UNROLL
            for (unsigned p = 0; p < positions; p++)
                UNROLL
                for (unsigned d = 0; d < deep; d++)
                    store(SUM(r, p) + (from + d) * WIDE, sum[r][p][d]);
    }
}

/* Few positions have registers for more of their lanes, and need them: an addition waits for the one before it in its lane. */
#define DEEP(positions) ((positions) * 2 > POSITIONS ? 1 : (positions) == 1 || PER_SUM == 2 ? (PER_SUM < 4 ? PER_SUM : 4) : 2)

#define CASE(rows, positions)                                        \
    case positions:                                                  \
        add_products(t, rows, positions, DEEP(positions));           \
        break;
#if POSITIONS == 6
#define CASES(rows) CASE(rows, 1) CASE(rows, 2) CASE(rows, 3) CASE(rows, 4) CASE(rows, 5) CASE(rows, 6)
#else
#define CASES(rows) CASE(rows, 1) CASE(rows, 2) CASE(rows, 3) CASE(rows, 4)
#endif

LEVEL static void add_rows(const struct tile *t, size_t positions)
{
    switch (positions) {
        CASES(ROWS)
    }
}

LEVEL static void add_row(const struct tile *t, size_t positions)
{
    switch (positions) {
        CASES(1)
    }
}

/* Adds `columns` columns of a band of rows. */
LEVEL static void add_band(struct tile t, size_t nrow, size_t positions)
{
    for (; nrow >= ROWS; nrow -= ROWS, t.w += ROWS * t.n, t.sum += ROWS * POSITIONS * APR_LANES)
        add_rows(&t, positions);
    for (; nrow > 0; nrow--, t.w += t.n, t.sum += POSITIONS * APR_LANES)
        add_row(&t, positions);
}

/* The last columns, fewer than 16, filled up with zeros: to a lane, which is never -0, they add nothing. */
LEVEL static void add_last(struct tile t, size_t nrow, size_t positions)
{
    float w[ROWS * APR_LANES] = { 0 };
    double x[POSITIONS * APR_LANES] = { 0 };
    for (size_t p = 0; p < positions; p++)
        memcpy(x + p * APR_LANES, t.x + p * t.n, t.columns * sizeof *x);
    for (size_t now; nrow > 0; nrow -= now, t.w += now * t.n, t.sum += now * POSITIONS * APR_LANES) {
        now = nrow < ROWS ? nrow : ROWS;
        for (size_t r = 0; r < now; r++)
            memcpy(w + r * APR_LANES, t.w + r * t.n, t.columns * sizeof *w);
        add_band((struct tile){ w, x, APR_LANES, APR_LANES, t.sum }, now, positions);
    }
}

LEVEL static void dots_of_band(const float *w, size_t nrow, const double *x, size_t positions, size_t n, double *y, size_t stride)
{
    double sum[BAND * POSITIONS * APR_LANES];
    memset(sum, 0, nrow * POSITIONS * APR_LANES * sizeof *sum);
    const size_t whole = n - n % APR_LANES;
    size_t i = 0;
    for (size_t now; i < whole; i += now) {
        now = whole - i < COLUMNS ? whole - i : COLUMNS;
        add_band((struct tile){ w + i, x + i, n, now, sum }, nrow, positions);
    }
    if (i < n)
        add_last((struct tile){ w + i, x + i, n, n - i, sum }, nrow, positions);
    for (size_t p = 0; p < positions; p++)
        for (size_t r = 0; r < nrow; r++)
            y[p * stride + r] = folded(sum + (r * POSITIONS + p) * APR_LANES);
}

/* Positions are dealt out evenly, so that none is left over for a run of its own. */
LEVEL static void dots(const float *w, size_t nrow, const double *x, size_t nx, size_t n, double *y, size_t stride)
{
    for (size_t nrun = (nx + POSITIONS - 1) / POSITIONS, now; nrun > 0; nrun--, nx -= now, x += now * n, y += now * stride) {
        now = (nx + nrun - 1) / nrun;
        for (size_t r = 0; r < nrow; r += BAND)
            dots_of_band(w + r * n, nrow - r < BAND ? nrow - r : BAND, x, now, n, y + r, stride);
    }
}

#endif
