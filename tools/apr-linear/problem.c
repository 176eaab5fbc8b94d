#include "problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "lanes.h"

#define MOST_BLOCKS 64
#define BLOCKS_ROOM ((size_t)4 << 20) /* bytes of sums, all blocks together */
#define LEAST_ROWS  256               /* of a block: fewer are not worth the sum of their sums */

/* ---- a row ---------------------------------------------------------------------------------------------------------- */

/* What z says of a row: the derivative of its loss by z, in its place, and the loss where it is wanted. */
static double binary(double *z, double y, bool wanted)
{
    const double small = apr_exp(-fabs(*z)), p = *z >= 0 ? 1 / (1 + small) : small / (1 + small);
    const double wrong = y > 0 ? -*z : *z, loss = wanted ? (wrong > 0 ? wrong : 0) + apr_log1p(small) : 0;
    *z = p - y;
    return loss;
}

static double softmax(double *z, size_t n, size_t y, bool wanted)
{
    double top = z[0], sum = 0;
    for (size_t k = 1; k < n; k++)
        top = z[k] > top ? z[k] : top;
    const double own = z[y];
    for (size_t k = 0; k < n; k++)
        sum += z[k] = apr_exp(z[k] - top);
    for (size_t k = 0; k < n; k++)
        z[k] /= sum;
    z[y] -= 1;
    return wanted ? apr_log(sum) + (top - own) : 0;
}

static double row_loss(const struct problem *q, double *z, double y)
{
    if (q->logistic)
        return q->outputs == 1 ? binary(z, y, q->wants_loss) : softmax(z, q->outputs, (size_t)y, q->wants_loss);
    *z -= y;
    return *z * *z / 2;
}

/* ---- a block of rows ------------------------------------------------------------------------------------------------ */

/* Of a block: | outputs * p sums of gradients | outputs of them for biases | loss | outputs * 4 of scratch | */
static double *partial_of(const struct problem *q, size_t block) { return q->partial + block * q->stride; }

ALWAYS void sum_block(const struct problem *q, size_t block)
{
    double *const g = partial_of(q, block), *const gb = g + q->outputs * q->p, *const loss = gb + q->outputs, *const z = loss + 1;
    const size_t end = (block + 1) * q->rows < q->n ? (block + 1) * q->rows : q->n;
    const double *row[4];
    double d[4];
    memset(g, 0, (size_t)(z - g) * sizeof *g);
    for (size_t i = block * q->rows; i < end;) {
        size_t n = 0;
        for (; n < 4 && i < end; i++) {
            if (q->role[i] != ROW_LEARNED)
                continue;
            row[n] = q->x + i * q->p;
            for (size_t k = 0; k < q->outputs; k++)
                z[n * q->outputs + k] = lanes_dot(q->w + k * q->p, row[n], q->p) + q->b[k];
            *loss += row_loss(q, z + n * q->outputs, q->y[i]);
            n++;
        }
        if (n == 0)
            break;
        for (size_t k = n; k < 4; k++)
            row[k] = row[0];
        for (size_t k = 0; k < q->outputs; k++) {
            for (size_t j = 0; j < 4; j++)
                d[j] = j < n ? z[j * q->outputs + k] : 0;
            gb[k] += (d[0] + d[1]) + (d[2] + d[3]);
            lanes_add_four(g + k * q->p, d, row, q->p);
        }
    }
}

ALWAYS void answer_rows(const struct problem *q, const double *w, const double *b, size_t i, double *z)
{
    for (size_t k = 0; k < q->outputs; k++)
        z[k] = lanes_dot(w + k * q->p, q->x + i * q->p, q->p) + b[k];
}

#define BODY(level, attributes)                                                                                            \
    attributes static void sum_block_##level(const struct problem *q, size_t block) { sum_block(q, block); }              \
    attributes static void answer_##level(const struct problem *q, const double *w, const double *b, size_t i, double *z) \
    {                                                                                                                     \
        answer_rows(q, w, b, i, z);                                                                                       \
    }                                                                                                                     \
    attributes static double dot_##level(const double *a, const double *b, size_t n) { return lanes_dot(a, b, n); }
FOR_LEVELS(BODY)
#undef BODY

static void sum_task(void *ctx, size_t block, unsigned worker)
{
    const struct problem *const q = ctx;
    (void)worker;
    AT_LEVEL(sum_block, q->isa)(q, block);
}

/* ---- columns -------------------------------------------------------------------------------------------------------- */

/* Sums over blocks of rows, into the partial sums: of x, of (x - shift)^2; and whether a column has two values. */
static void sum_columns(void *ctx, size_t block, unsigned worker)
{
    const struct problem *const q = ctx;
    double *const sum = partial_of(q, block);
    const size_t end = (block + 1) * q->rows < q->n ? (block + 1) * q->rows : q->n;
    (void)worker;
    memset(sum, 0, q->p * sizeof *sum);
    for (size_t i = block * q->rows; i < end; i++)
        for (size_t j = 0; j < q->p && q->role[i] == ROW_LEARNED; j++)
            sum[j] += q->x[i * q->p + j];
}

static void sum_squares(void *ctx, size_t block, unsigned worker)
{
    const struct problem *const q = ctx;
    double *const sum = partial_of(q, block);
    const size_t end = (block + 1) * q->rows < q->n ? (block + 1) * q->rows : q->n;
    (void)worker;
    memset(sum, 0, q->p * sizeof *sum);
    for (size_t i = block * q->rows; i < end; i++)
        for (size_t j = 0; j < q->p && q->role[i] == ROW_LEARNED; j++) {
            const double d = q->x[i * q->p + j] - q->w[j];
            sum[j] += d * d;
        }
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
    apr_team_do(q->team, q->nblock, sum_columns, q);
    merge_columns(q, q->w);
    apr_team_do(q->team, q->nblock, sum_squares, q);
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
    q->stride = (q->outputs * (q->p + 1) + 1 + 4 * q->outputs + 15) / 8 * 8;
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
        b[k] = at[q->outputs * q->p + k] - AT_LEVEL(dot, q->isa)(row, q->shift, q->p);
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

static void score_row(const struct problem *q, double *z, double y, struct score *s)
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
    const double loss = row_loss(q, z, y);
    s->log_loss += loss;
    s->rss += *z * *z;
    s->n++;
}

struct score problem_score(struct problem *q, const double *w, const double *b, uint8_t role)
{
    struct score s = { 0 };
    double *const z = q->partial, mean = 0;
    q->wants_loss = true;
    for (size_t i = 0; i < q->n; i++)
        if (q->role[i] == role) {
            AT_LEVEL(answer, q->isa)(q, w, b, i, z);
            score_row(q, z, q->y[i], &s);
            mean += q->y[i];
        }
    mean /= (double)s.n;
    for (size_t i = 0; i < q->n; i++)
        if (q->role[i] == role)
            s.tss += (q->y[i] - mean) * (q->y[i] - mean);
    s.log_loss /= (double)s.n;
    return s;
}
