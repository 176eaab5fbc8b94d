#include "problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "lanes.h"

#define MOST_BLOCKS 64
#define BLOCKS_ROOM ((size_t)4 << 20) /* bytes of sums, all blocks together */
#define LEAST_ROWS  256               /* of a block: fewer are not worth the sum of their sums */
#define STRIP       16                /* rows whose losses are looked at together */

/* ---- a strip of rows ------------------------------------------------------------------------------------------------- */

/* The derivative of each loss by its z, in its place; returns the sum of the losses, where it is wanted. The sum of log(1 + e) is the log of one
 * product less 1, so that a loss next to nothing is not lost beside the 1. */
APR_INLINED double binary(double *z, const double *y, size_t n, bool wanted)
{
    double e[STRIP], loss = 0, product = 0;
    for (size_t i = 0; i < n; i++)
        e[i] = -fabs(z[i]);
    lanes_exp(e, n);
    for (size_t i = 0; i < n; i++) {
        const double wrong = y[i] > 0 ? -z[i] : z[i];
        loss += wrong > 0 ? wrong : 0;
        product += e[i] + product * e[i];
        z[i] = (z[i] >= 0 ? 1 : e[i]) / (1 + e[i]) - y[i];
    }
    return wanted ? loss + apr_log1p(product) : 0;
}

/* The same of k outputs a row. */
APR_INLINED double softmax(double *z, size_t k, const double *y, size_t n, bool wanted)
{
    double loss = 0, product = 0;
    size_t top[STRIP];
    for (size_t i = 0; i < n; i++) {
        double *const row = z + i * k, own = row[(size_t)y[i]];
        top[i] = 0;
        for (size_t j = 1; j < k; j++)
            top[i] = row[j] > row[top[i]] ? j : top[i];
        const double most = row[top[i]];
        loss += most - own;
        for (size_t j = 0; j < k; j++)
            row[j] -= most;
    }
    lanes_exp(z, n * k);
    for (size_t i = 0; i < n; i++) {
        double *const row = z + i * k, rest = 0;
        for (size_t j = 0; j < k; j++)
            rest += j == top[i] ? 0 : row[j];
        product += rest + product * rest;
        for (size_t j = 0; j < k; j++)
            row[j] /= 1 + rest;
        row[(size_t)y[i]] -= 1;
    }
    return wanted ? loss + apr_log1p(product) : 0;
}

APR_INLINED double squares(double *z, const double *y, size_t n)
{
    double loss = 0;
    for (size_t i = 0; i < n; i++) {
        z[i] -= y[i];
        loss += z[i] * z[i] / 2;
    }
    return loss;
}

APR_INLINED double losses(const struct problem *q, const size_t row[STRIP], double *z, size_t n, bool wanted)
{
    double y[STRIP];
    for (size_t i = 0; i < n; i++)
        y[i] = q->y[row[i]];
    if (!q->logistic)
        return squares(z, y, n);
    return q->outputs == 1 ? binary(z, y, n, wanted) : softmax(z, q->outputs, y, n, wanted);
}

/* The next rows of a role, at most STRIP of those from *at on and before `end`, and their z. Returns how many. */
APR_INLINED size_t answer(const struct problem *q, const double *w, const double *b, uint8_t role, size_t *at, size_t end,
                          size_t row[STRIP], double *z)
{
    size_t n = 0;
    for (; n < STRIP && *at < end; ++*at) {
        if (q->role[*at] != role)
            continue;
        for (size_t k = 0; k < q->outputs; k++)
            *z++ = lanes_dot(w + k * q->p, q->x + *at * q->p, q->p) + b[k];
        row[n++] = *at;
    }
    return n;
}

/* ---- a block of rows ------------------------------------------------------------------------------------------------ */

/* Of a block: | outputs * p sums of gradients | outputs of them for biases | loss | outputs * STRIP of scratch | */
static double *partial_of(const struct problem *q, size_t block) { return q->partial + block * q->stride; }

/* Behind its last row. */
static size_t block_end(const struct problem *q, size_t block) { return (block + 1) * q->rows < q->n ? (block + 1) * q->rows : q->n; }

/* The part of n rows, at most 4, in the gradient. */
APR_INLINED void add_rows(const struct problem *q, const size_t *row, const double *z, size_t n, double *g, double *gb)
{
    const double *x[4];
    for (size_t j = 0; j < 4; j++)
        x[j] = q->x + row[j < n ? j : 0] * q->p;
    for (size_t k = 0; k < q->outputs; k++) {
        double d[4];
        for (size_t j = 0; j < 4; j++)
            d[j] = j < n ? z[j * q->outputs + k] : 0;
        gb[k] += (d[0] + d[1]) + (d[2] + d[3]);
        lanes_add_four(g + k * q->p, d, x, q->p);
    }
}

APR_INLINED void sum_block(const struct problem *q, size_t block)
{
    double *const g = partial_of(q, block), *const gb = g + q->outputs * q->p, *const loss = gb + q->outputs, *const z = loss + 1;
    const size_t end = block_end(q, block);
    size_t row[STRIP], n;
    memset(g, 0, (size_t)(z - g) * sizeof *g);
    for (size_t i = block * q->rows; (n = answer(q, q->w, q->b, ROW_LEARNED, &i, end, row, z)) > 0;) {
        *loss += losses(q, row, z, n, q->wants_loss);
        for (size_t first = 0; first < n; first += 4)
            add_rows(q, row + first, z + first * q->outputs, n - first < 4 ? n - first : 4, g, gb);
    }
}

#define BODY(level, attributes)                                                                                                     \
    attributes static void sum_block_##level(const struct problem *q, size_t block) { sum_block(q, block); }                        \
    attributes static size_t answer_##level(const struct problem *q, const double *w, const double *b, uint8_t role, size_t *at,    \
                                            size_t row[STRIP], double *z)                                                           \
    {                                                                                                                               \
        return answer(q, w, b, role, at, q->n, row, z);                                                                             \
    }                                                                                                                               \
    attributes static double losses_##level(const struct problem *q, const size_t row[STRIP], double *z, size_t n)                  \
    {                                                                                                                               \
        return losses(q, row, z, n, true);                                                                                          \
    }                                                                                                                               \
    attributes static double dot_##level(const double *a, const double *b, size_t n) { return lanes_dot(a, b, n); }
APR_FOR_LEVELS(BODY)
#undef BODY

static void sum_task(void *ctx, size_t block, unsigned worker)
{
    const struct problem *const q = ctx;
    (void)worker;
    APR_AT_LEVEL(sum_block, q->isa)(q, block);
}

/* ---- columns -------------------------------------------------------------------------------------------------------- */

/* The sums of a block's columns into its partial sums: of x, or squared of (x - w)^2. */
APR_INLINED void sum_columns(const struct problem *q, size_t block, bool squared)
{
    double *const sum = partial_of(q, block);
    memset(sum, 0, q->p * sizeof *sum);
    for (size_t i = block * q->rows; i < block_end(q, block); i++)
        for (size_t j = 0; j < q->p && q->role[i] == ROW_LEARNED; j++) {
            const double d = squared ? q->x[i * q->p + j] - q->w[j] : q->x[i * q->p + j];
            sum[j] += squared ? d * d : d;
        }
}

static void sum_plain_task(void *ctx, size_t block, unsigned worker)
{
    (void)worker;
    sum_columns(ctx, block, false);
}

static void sum_squared_task(void *ctx, size_t block, unsigned worker)
{
    (void)worker;
    sum_columns(ctx, block, true);
}

static void merge_columns(const struct problem *q, double *to)
{
    for (size_t j = 0; j < q->p; j++) {
        double sum = 0;
        for (size_t block = 0; block < q->nblock; block++)
            sum += partial_of(q, block)[j];
        to[j] = sum / (double)q->used;
    }
}

/* Has the column one value alone? Its mean may be off by a rounding, and its variance then is not 0. */
static bool is_constant(const struct problem *q, size_t j)
{
    const double *first = NULL;
    for (size_t i = 0; i < q->n; i++) {
        const double *const v = q->x + i * q->p + j;
        if (q->role[i] != ROW_LEARNED)
            continue;
        first = first == NULL ? v : first;
        if (*v != *first)
            return false;
    }
    return true;
}

static void measure_columns(struct problem *q, bool shifts, bool standard)
{
    apr_team_do(q->team, q->nblock, sum_plain_task, q);
    merge_columns(q, q->w);
    apr_team_do(q->team, q->nblock, sum_squared_task, q);
    merge_columns(q, q->variance);
    for (size_t j = 0; j < q->p; j++) {
        if (!(q->variance[j] > 0x1p-90 * q->w[j] * q->w[j]) || is_constant(q, j))
            q->variance[j] = 0;
        q->shift[j] = shifts ? q->w[j] : 0;
        q->scale[j] = standard && q->variance[j] > 0 ? sqrt(q->variance[j]) : 1;
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static double *room(uint64_t a, uint64_t b)
{
    uint64_t n;
    return apr_mul(a, b, &n) && n < SIZE_MAX / sizeof(double) ? malloc((size_t)(n + (n == 0)) * sizeof(double)) : NULL;
}

enum apr_code problem_begin(struct problem *q, bool shifts, bool standard, struct apr_error *e)
{
    q->used = 0;
    for (size_t i = 0; i < q->n; i++)
        q->used += q->role[i] == ROW_LEARNED;
    q->stride = (q->outputs * (q->p + 1 + STRIP) + 1 + 15) / 8 * 8;
    const size_t fit = BLOCKS_ROOM / (q->stride * sizeof *q->partial), most = fit < 1 ? 1 : fit > MOST_BLOCKS ? MOST_BLOCKS : fit;
    const size_t wanted = (q->n + LEAST_ROWS - 1) / LEAST_ROWS, n = wanted < 1 ? 1 : wanted > most ? most : wanted;
    q->rows = (q->n + n - 1) / n;
    q->nblock = q->rows == 0 ? 1 : (q->n + q->rows - 1) / q->rows;
    q->partial = room(q->nblock, q->stride);
    q->w = room(q->outputs, q->p);
    q->b = room(q->outputs, 1);
    q->shift = room(q->p, 1);
    q->scale = room(q->p, 1);
    q->variance = room(q->p, 1);
    if (q->partial == NULL || q->w == NULL || q->b == NULL || q->shift == NULL || q->scale == NULL || q->variance == NULL)
        return apr_no_memory(e);
    if (q->used == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "no row is left to learn from");
    if (shifts || standard) {
        measure_columns(q, shifts, standard);
        return APR_OK;
    }
    for (size_t j = 0; j < q->p; j++) {
        q->shift[j] = q->variance[j] = 0;
        q->scale[j] = 1;
    }
    return APR_OK;
}

void problem_end(struct problem *q)
{
    free(q->partial);
    free(q->w);
    free(q->b);
    free(q->shift);
    free(q->scale);
    free(q->variance);
    q->partial = q->w = q->b = q->shift = q->scale = q->variance = NULL;
}

void problem_plain(const struct problem *q, const double *at, double *w, double *b)
{
    for (size_t k = 0; k < q->outputs; k++) {
        double *const row = w + k * q->p;
        for (size_t j = 0; j < q->p; j++)
            row[j] = at[k * q->p + j] / q->scale[j];
        b[k] = at[q->outputs * q->p + k] - APR_AT_LEVEL(dot, q->isa)(row, q->shift, q->p);
    }
}

/* The sums of all blocks, into the first. */
static const double *merge(const struct problem *q)
{
    double *const all = partial_of(q, 0);
    for (size_t block = 1; block < q->nblock; block++) {
        const double *const one = partial_of(q, block);
        for (size_t i = 0; i <= q->outputs * (q->p + 1); i++)
            all[i] += one[i];
    }
    return all;
}

void problem_at(struct problem *q, const double *at, double *gradient, double *loss)
{
    const size_t nweight = q->outputs * q->p;
    const double used = (double)q->used;
    problem_plain(q, at, q->w, q->b);
    q->wants_loss = loss != NULL;
    apr_team_do(q->team, q->nblock, sum_task, q);
    const double *const sum = merge(q);
    double squares = 0;
    for (size_t k = 0; k < q->outputs; k++) {
        const double bias = sum[nweight + k];
        for (size_t j = 0; j < q->p; j++) {
            const size_t i = k * q->p + j;
            gradient[i] = (sum[i] - q->shift[j] * bias) / q->scale[j] / used + q->l2 * at[i];
            squares += at[i] * at[i];
        }
        gradient[nweight + k] = bias / used;
    }
    if (loss != NULL)
        *loss = sum[nweight + q->outputs] / used + q->l2 / 2 * squares;
}

double problem_steepness(const struct problem *q, const double *gradient)
{
    double most = 0;
    for (size_t k = 0; k < q->outputs; k++) {
        const double bias = gradient[q->outputs * q->p + k];
        most = fabs(bias) > most ? fabs(bias) : most;
        for (size_t j = 0; j < q->p; j++) {
            const double g = gradient[k * q->p + j] + (q->moved ? q->shift[j] * bias : 0);
            most = fabs(g) > most || isnan(g) ? fabs(g) : most;
        }
    }
    return most;
}

/* ---- scores --------------------------------------------------------------------------------------------------------- */

/* Is the row right, and does it lie on its side of the boundary? */
static void judge(const struct problem *q, const double *z, double y, struct score *s)
{
    const size_t n = q->outputs, own = q->logistic && n > 1 ? (size_t)y : 0;
    size_t best = 0;
    bool apart = true;
    for (size_t k = 1; k < n; k++)
        best = z[k] > z[best] ? k : best;
    for (size_t k = 0; k < n && n > 1; k++)
        apart &= k == own || z[k] < z[own];
    const bool right = n > 1 ? best == own : (*z >= 0) == (y > 0);
    s->apart += n > 1 ? apart : right && *z != 0;
    s->right += right;
    s->n++;
}

struct score problem_score(struct problem *q, const double *w, const double *b, uint8_t role)
{
    struct score s = { 0 };
    double *const z = q->partial, mean = 0;
    size_t row[STRIP], n;
    for (size_t at = 0; (n = APR_AT_LEVEL(answer, q->isa)(q, w, b, role, &at, row, z)) > 0;) {
        for (size_t i = 0; i < n; i++) {
            judge(q, z + i * q->outputs, q->y[row[i]], &s);
            mean += q->y[row[i]];
        }
        s.log_loss += APR_AT_LEVEL(losses, q->isa)(q, row, z, n);
        for (size_t i = 0; i < n; i++)
            s.rss += z[i * q->outputs] * z[i * q->outputs];
    }
    mean /= (double)s.n;
    for (size_t i = 0; i < q->n; i++)
        if (q->role[i] == role)
            s.tss += (q->y[i] - mean) * (q->y[i] - mean);
    s.log_loss /= (double)s.n;
    return s;
}
