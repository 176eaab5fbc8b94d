/* Singular vectors by a randomised block Krylov method (C. Musco, C. Musco, "Randomized block Krylov methods for stronger and faster
 * approximate singular value decomposition", 2015): with G = D^T D and a few random columns X, the space of X, G X, G^2 X ... holds the
 * vectors of the largest singular values after a few steps, also where values lie close, as those of noise do. The basis is kept
 * orthonormal (modified Gram-Schmidt, twice), so that G in it is what the projections say, a small matrix whose eigenvectors are found
 * whole (eigen.c). It ends when a step takes next to nothing off the error, or when the basis is all of the space: then the result is
 * exact. A whole decomposition would be thousands of such steps for a matrix of some thousand rows, and hold it several times. */
#include "svd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "eigen.h"
#include "values/kernels.h"

#define MORE        8        /* columns of a block beyond the rank */
#define TILE_ROWS   64u
#define TILE_COLS   256u
#define LITTLE_GAIN 1e-5     /* what a step takes off the square of the error, as a share of it, when the next is not worth it */
#define NO_GAIN     1e-14    /* the same as a share of the square of D: rounding */
#define NOTHING     1e-13    /* as a share of the largest: what is left of a column, when nothing is */
#define LEAST_VALUE 1e-15    /* square of a singular value as a share of the largest, of those that D has */

static double *new_matrix(uint64_t rows, uint64_t cols)
{
    uint64_t n;
    return apr_mul(rows, cols, &n) && n < SIZE_MAX / sizeof(double) ? calloc((size_t)n + 1, sizeof(double)) : NULL;
}

/* ---- products with D ------------------------------------------------------------------------------------------------ */

/* Eight columns of four rows: c += a b, with elements (i, k) of a at a[i * row + k * step]; rows of b and c are ld apart. The same bits in
 * whatever widths it is done, as each element of c is a sum of its own. */
#define PRODUCT(level, attributes, bytes)                                                                                              \
    typedef double lanes_##level __attribute__((vector_size(bytes)));                                                                  \
    attributes static void product_##level(const double *a, size_t row, size_t step, size_t nk, const double *b, double *c, size_t ld) \
    {                                                                                                                                  \
        for (size_t j = 0; j < 8; j += (bytes) / sizeof(double)) {                                                                     \
            lanes_##level s0, s1, s2, s3, x;                                                                                           \
            memcpy(&s0, c + j, sizeof s0);                                                                                             \
            memcpy(&s1, c + ld + j, sizeof s1);                                                                                        \
            memcpy(&s2, c + 2 * ld + j, sizeof s2);                                                                                    \
            memcpy(&s3, c + 3 * ld + j, sizeof s3);                                                                                    \
            for (size_t k = 0; k < nk; k++) {                                                                                          \
                memcpy(&x, b + k * ld + j, sizeof x);                                                                                  \
                s0 += a[k * step] * x;                                                                                                 \
                s1 += a[row + k * step] * x;                                                                                           \
                s2 += a[2 * row + k * step] * x;                                                                                       \
                s3 += a[3 * row + k * step] * x;                                                                                       \
            }                                                                                                                          \
            memcpy(c + j, &s0, sizeof s0);                                                                                             \
            memcpy(c + ld + j, &s1, sizeof s1);                                                                                        \
            memcpy(c + 2 * ld + j, &s2, sizeof s2);                                                                                    \
            memcpy(c + 3 * ld + j, &s3, sizeof s3);                                                                                    \
        }                                                                                                                              \
    }
PRODUCT(plain, , 32)
#if defined(__x86_64__)
PRODUCT(avx2, __attribute__((target("avx2"))), 64)
#endif

/* out += D in, or D^T in, where both have ld columns, a multiple of eight, and out has three rows more than it needs. */
struct times {
    const struct svd *s;
    const double     *in;
    double           *out;
    size_t            ld;
    bool              turned;
};

struct tile {
    double d[TILE_ROWS * TILE_COLS], base[TILE_ROWS * TILE_COLS];
};

/* Rows of TILE_COLS, with zeros behind what D has. */
static void read_tile(const struct svd *s, struct apr_window *w, struct tile *t, uint64_t row, uint64_t col)
{
    const size_t h = (size_t)apr_min(TILE_ROWS, s->base->nrow - row), wide = (size_t)apr_min(TILE_COLS, s->base->ncol - col);
    apr_input_tile_doubles(s->tuned, w, row, h, col, wide, t->d);
    apr_input_tile_doubles(s->base, w, row, h, col, wide, t->base);
    for (size_t i = 0; i < h * wide; i++)
        t->d[i] -= t->base[i];
    memset(t->d + h * wide, 0, (TILE_ROWS * TILE_COLS - h * wide) * sizeof *t->d);
    for (size_t i = h; wide < TILE_COLS && i-- > 0;) {
        memmove(t->d + i * TILE_COLS, t->d + i * wide, wide * sizeof *t->d);
        memset(t->d + i * TILE_COLS + wide, 0, (TILE_COLS - wide) * sizeof *t->d);
    }
}

static void multiply(const struct times *x, const struct tile *t, size_t rows, size_t nk, const double *in, double *out)
{
    const size_t row = x->turned ? 1 : TILE_COLS, step = x->turned ? TILE_COLS : 1;
    for (size_t j = 0; j < x->ld; j += 8)
        for (size_t i = 0; i < rows; i += 4)
#if defined(__x86_64__)
            (x->s->run->kernels->isa >= APR_AVX2 ? product_avx2 : product_plain)(t->d + i * row, row, step, nk, in + j,
                                                                                out + i * x->ld + j, x->ld);
#else
            product_plain(t->d + i * row, row, step, nk, in + j, out + i * x->ld + j, x->ld);
#endif
}

/* The rows of out that a row of tiles, or a column of them, is for. */
static void times_task(void *ctx, size_t i, unsigned worker)
{
    const struct times *const x = ctx;
    const struct apr_input *const in = x->s->base;
    struct tile *const t = apr_team_scratch(x->s->team, worker);
    struct apr_window w = apr_window_of(x->s->run);
    const uint64_t first = (uint64_t)i * (x->turned ? TILE_COLS : TILE_ROWS);
    w.streams = 4;
    if (x->turned)
        for (uint64_t row = 0; row < in->nrow; row += TILE_ROWS) {
            read_tile(x->s, &w, t, row, first);
            multiply(x, t, (size_t)apr_min(TILE_COLS, in->ncol - first), (size_t)apr_min(TILE_ROWS, in->nrow - row), x->in + row * x->ld,
                     x->out + first * x->ld);
        }
    else
        for (uint64_t col = 0; col < in->ncol; col += TILE_COLS) {
            read_tile(x->s, &w, t, first, col);
            multiply(x, t, (size_t)apr_min(TILE_ROWS, in->nrow - first), (size_t)apr_min(TILE_COLS, in->ncol - col), x->in + col * x->ld,
                     x->out + first * x->ld);
        }
    apr_window_drop(&w);
}

static void times(const struct svd *s, bool turned, const double *in, double *out, size_t ld)
{
    struct times x = { s, in, out, ld, turned };
    const uint64_t n = turned ? s->base->ncol : s->base->nrow;
    memset(out, 0, (size_t)(n + 3) * ld * sizeof *out);
    apr_team_do(s->team, (size_t)apr_ceil(n, turned ? TILE_COLS : TILE_ROWS), times_task, &x);
}

/* ---- the basis ------------------------------------------------------------------------------------------------------ */

/* Vectors of n numbers, n being the lesser side of D, m the other.
 *   flip    n are the rows
 *   q       k orthonormal vectors, one behind the other, and room for a block
 *   h       of each vector but the last block's, its image under G in the basis: the upper triangle, column by column
 *   first   where the last block begins
 *   block, ld  most vectors of a block, and that as a multiple of eight
 *   x, z, y  a block side by side, its product with D, with D^T D
 *   value, row  k eigenvalues, of G over the square of D, by falling size; the eigenvectors, in `vector`
 *   gained  what the largest sum to */
struct krylov {
    const struct svd *s;
    bool              flip;
    size_t            n, m, k, first, block, ld;
    double           *q, *h, *x, *z, *y, *value, *vector;
    const double    **row;
    double            gained;
};

static size_t triangle(size_t k) { return k * (k + 1) / 2; }

static enum apr_code begin(struct krylov *b, const struct svd *s, struct apr_error *e)
{
    const uint64_t rows = s->base->nrow, cols = s->base->ncol;
    *b = (struct krylov){ .s = s, .flip = rows < cols, .n = (size_t)apr_min(rows, cols), .m = (size_t)(rows < cols ? cols : rows) };
    b->block = (size_t)apr_min(s->rank + MORE, b->n);
    b->ld = (b->block + 7) / 8 * 8;
    b->x = new_matrix(b->n, b->ld);
    b->z = new_matrix((uint64_t)b->m + 3, b->ld);
    b->y = new_matrix((uint64_t)b->n + 3, b->ld);
    return b->x == NULL || b->z == NULL || b->y == NULL || !apr_team_room(s->team, sizeof(struct tile)) ? apr_no_memory(e) : APR_OK;
}

static void end(struct krylov *b)
{
    free(b->q);
    free(b->h);
    free(b->x);
    free(b->z);
    free(b->y);
    free(b->value);
    free(b->vector);
    free(b->row);
}

/* There is room for another block, and for what G makes of the one before it. */
static enum apr_code grow(struct krylov *b, struct apr_error *e)
{
    double *const q = realloc(b->q, (b->k + b->block) * b->n * sizeof *q);
    if (q != NULL)
        b->q = q;
    double *const h = realloc(b->h, (triangle(b->k) + 1) * sizeof *h);
    if (h != NULL)
        b->h = h;
    return q == NULL || h == NULL ? apr_no_memory(e) : APR_OK;
}

/* A vector behind the basis is made orthogonal to it; of the first of two times, what G is there is noted. */
static void project(void *ctx, size_t j, unsigned worker)
{
    struct krylov *const b = ctx;
    double *const y = b->q + (b->k + j) * b->n, *const h = b->h + triangle(b->first + j);
    (void)worker;
    for (unsigned time = 0; time < 2; time++)
        for (size_t k = 0; k < b->k; k++) {
            const double share = dot_of(b->q + k * b->n, y, b->n);
            add_to(y, -share, b->q + k * b->n, b->n);
            if (time == 0 && k <= b->first + j)
                h[k] = share;
        }
}

/* n vectors behind the basis, orthogonal to it, become part of it, but for those that the others make up. */
static void take_in(struct krylov *b, size_t n, double largest)
{
    const size_t from = b->k;
    b->first = from;
    for (size_t j = 0; j < n && b->k < b->n; j++) {
        double *const y = b->q + b->k * b->n;
        memmove(y, b->q + (from + j) * b->n, b->n * sizeof *y);
        for (size_t k = from; k < b->k; k++)
            add_to(y, -dot_of(b->q + k * b->n, y, b->n), b->q + k * b->n, b->n);
        for (size_t k = from; k < b->k; k++)
            add_to(y, -dot_of(b->q + k * b->n, y, b->n), b->q + k * b->n, b->n);
        const double length = sqrt(dot_of(y, y, b->n));
        if (length <= NOTHING * largest)
            continue;
        for (size_t i = 0; i < b->n; i++)
            y[i] /= length;
        b->k++;
    }
}

/* Element i of vector j is a number from -1 to 1, drawn by (i, j). */
static void draw_block(struct krylov *b)
{
    for (size_t j = 0; j < b->block; j++)
        for (size_t i = 0; i < b->n; i++)
            b->q[j * b->n + i] = (double)(int64_t)apr_draw(j, i) * 0x1p-63;
    take_in(b, b->block, 1);
}

/* Vectors side by side, zeros beside them. */
static void lay(const struct krylov *b, const double *from, size_t n)
{
    for (size_t i = 0; i < b->n; i++)
        for (size_t j = 0; j < b->ld; j++)
            b->x[i * b->ld + j] = j < n ? from[j * b->n + i] : 0;
}

/* What G makes of the last block, behind the basis and orthogonal to it. */
static void step(struct krylov *b)
{
    const size_t n = b->k - b->first;
    lay(b, b->q + b->first * b->n, n);
    times(b->s, b->flip, b->x, b->z, b->ld);
    times(b->s, !b->flip, b->z, b->y, b->ld);
    for (size_t i = 0; i < b->n; i++)
        for (size_t j = 0; j < n; j++)
            b->q[(b->k + j) * b->n + i] = b->y[i * b->ld + j];
    apr_team_do(b->s->team, n, project, b);
}

static int by_value(const void *a, const void *c, void *basis)
{
    const struct krylov *const b = basis;
    const double *const x = *(const double *const *)a, *const y = *(const double *const *)c;
    const double u = b->value[(size_t)(x - b->vector) / b->k], v = b->value[(size_t)(y - b->vector) / b->k];
    return u != v ? (u < v) - (u > v) : (x > y) - (x < y);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* What of G is known in the basis: its eigenvalues by falling size, and its eigenvectors when they are asked for. */
static enum apr_code solve(struct krylov *b, bool vectors, struct apr_error *e)
{
    const size_t k = b->k;
    double *const a = new_matrix(k, k), *const work = new_matrix(2, k);
    free(b->value);
    b->value = new_matrix(1, k);
    b->vector = vectors ? new_matrix(k, k) : NULL;
    b->row = vectors ? calloc(k, sizeof *b->row) : NULL;
    const bool there = a != NULL && work != NULL && b->value != NULL && (!vectors || (b->vector != NULL && b->row != NULL));
    for (size_t j = 0; there && j < k; j++)
        for (size_t i = 0; i <= j; i++)
            a[i * k + j] = a[j * k + i] = b->h[triangle(j) + i] / b->s->square;
    if (there)
        eigen(a, k, b->value, b->vector, work);
    for (size_t i = 0; there && vectors && i < k; i++)
        b->row[i] = b->vector + i * k;
    if (there && vectors)
        qsort_r(b->row, k, sizeof *b->row, by_value, b);
    if (there)
        qsort(b->value, k, sizeof *b->value, by_size);
    b->gained = 0;
    for (size_t i = 0; there && i < k && i < b->s->rank; i++)
        b->gained += b->value[i];
    free(a);
    free(work);
    return there ? APR_OK : apr_no_memory(e);
}

static enum apr_code search(struct krylov *b, struct apr_error *e)
{
    APR_TRY(grow(b, e));
    draw_block(b);
    for (double before = 0;; before = b->gained) {
        APR_TRY(grow(b, e));
        step(b);
        APR_TRY(solve(b, false, e));
        const double gain = b->gained - before, left = 1 - b->gained;
        const size_t k = b->k, n = k - b->first;
        if (k == b->n || (before > 0 && gain <= LITTLE_GAIN * (left > 0 ? left : 0) + NO_GAIN))
            return APR_OK;
        take_in(b, n, b->value[0] * b->s->square);
        if (b->k == k)
            return APR_OK;
    }
}

/* ---- the result ----------------------------------------------------------------------------------------------------- */

static enum apr_code new_result(const struct svd *s, struct low_rank *out, struct apr_error *e)
{
    uint64_t rows, cols;
    if (!apr_mul(s->base->nrow, out->rank, &rows) || !apr_mul(s->base->ncol, out->rank, &cols))
        return apr_no_memory(e);
    out->of_rows = calloc((size_t)rows, sizeof *out->of_rows);
    out->of_cols = calloc((size_t)cols, sizeof *out->of_cols);
    return out->of_rows == NULL || out->of_cols == NULL ? apr_no_memory(e) : APR_OK;
}

/* Number i of vector k, of as many rows, or columns, as n. */
static void put(const struct svd *s, struct low_rank *out, bool rows, uint64_t n, uint64_t i, uint64_t k, double x)
{
    (rows ? out->of_rows : out->of_cols)[rows == s->turned ? k * n + i : i * out->rank + k] = (float)x;
}

/* The vectors that the eigenvectors are in the basis, into its place. */
static void combine(void *ctx, size_t i, unsigned worker)
{
    struct krylov *const b = ctx;
    double *const to = b->h + i * b->n;
    (void)worker;
    memset(to, 0, b->n * sizeof *to);
    for (size_t k = 0; k < b->k; k++)
        add_to(to, b->row[i][k], b->q + k * b->n, b->n);
}

/* Singular values are those of D, whose square roots go to both sides. */
static void split(struct krylov *b, struct low_rank *out)
{
    times(b->s, b->flip, b->x, b->z, b->ld);
    for (size_t k = 0; k < out->rank; k++) {
        double square = 0;
        for (size_t i = 0; i < b->m; i++)
            square += b->z[i * b->ld + k] * b->z[i * b->ld + k];
        const double root = sqrt(sqrt(square));
        for (size_t i = 0; i < b->n; i++)
            put(b->s, out, b->flip, b->n, i, k, root * b->x[i * b->ld + k]);
        for (size_t i = 0; i < b->m && root > 0; i++)
            put(b->s, out, !b->flip, b->m, i, k, b->z[i * b->ld + k] / root);
    }
}

static enum apr_code finish(struct krylov *b, struct low_rank *out, struct apr_error *e)
{
    const struct svd *const s = b->s;
    double kept = 0, left = 0;
    APR_TRY(solve(b, true, e));
    while (out->rank < b->k && out->rank < s->rank && b->value[out->rank] > LEAST_VALUE * b->value[0] &&
           b->value[out->rank] * s->square > s->epsilon * s->epsilon)
        kept += b->value[out->rank++];
    for (size_t i = b->k; i-- > out->rank;)
        left += b->value[i] > 0 ? b->value[i] : 0;
    left = b->k == b->n ? left : 1 - kept;
    out->error = left > 0 ? sqrt(left) : 0;
    if (out->rank == 0)
        return APR_OK;
    APR_TRY(new_result(s, out, e));
    free(b->h);
    b->h = new_matrix(out->rank, b->n);
    if (b->h == NULL)
        return apr_no_memory(e);
    apr_team_do(s->team, (size_t)out->rank, combine, b);
    lay(b, b->h, (size_t)out->rank);
    split(b, out);
    return APR_OK;
}

/* At a rank as high as the lesser side nothing is to be found: D itself, times the unit matrix. */
static enum apr_code whole(const struct svd *s, struct low_rank *out, struct apr_error *e)
{
    const uint64_t rows = s->base->nrow, cols = s->base->ncol;
    const bool flip = rows < cols;
    struct apr_window w = apr_window_of(s->run);
    double d[APR_STRETCH], base[APR_STRETCH];
    out->rank = apr_min(rows, cols);
    APR_TRY(new_result(s, out, e));
    for (uint64_t i = 0; i < out->rank; i++)
        put(s, out, flip, out->rank, i, i, 1);
    for (uint64_t row = 0; row < rows; row++)
        for (uint64_t col = 0, n; col < cols; col += n) {
            n = apr_min(APR_STRETCH, cols - col);
            apr_input_doubles(s->tuned, &w, row * cols + col, (size_t)n, d);
            apr_input_doubles(s->base, &w, row * cols + col, (size_t)n, base);
            for (uint64_t i = 0; i < n; i++)
                put(s, out, !flip, flip ? cols : rows, flip ? col + i : row, flip ? row : col + i, d[i] - base[i]);
        }
    apr_window_drop(&w);
    return APR_OK;
}

enum apr_code svd_of(const struct svd *s, struct low_rank *out, struct apr_error *e)
{
    struct krylov b = { 0 };
    *out = (struct low_rank){ 0 };
    if (s->epsilon <= 0 && s->rank >= apr_min(s->base->nrow, s->base->ncol))
        return whole(s, out, e);
    enum apr_code code = begin(&b, s, e);
    if (code == APR_OK)
        code = search(&b, e);
    if (code == APR_OK)
        code = finish(&b, out, e);
    end(&b);
    return code;
}
