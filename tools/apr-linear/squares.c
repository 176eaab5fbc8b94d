/* Least squares. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lanes.h"
#include "optimize.h"

#define BLOCK       64u               /* rows that are taken in at once: with R they fit L2 up to some hundred columns */
#define MOST_GROUPS 8u
#define GROUPS_ROOM ((size_t)2 << 20) /* bytes of all groups' R */
#define NOTHING     0x1p-1000         /* a square as small is what is left of what has vanished: a quotient by it would overflow */

/* The upper triangle of what was taken in: of each row a one, its features and its target, width = p + 2 columns; column-major, so that
 * column j begins at at[j * width]. Behind the ones the features are about their means, exactly, whatever was rounded before. block: BLOCK
 * rows on their way in, column-major. */
struct triangle {
    size_t  width;
    double *at, *block;
};

/* Householder's reflection of each column k that makes [R_kk; block column k] one number, applied to the columns behind it. */
APR_INLINED void take_in(struct triangle *r)
{
    for (size_t k = 0; k < r->width; k++) {
        double *const v = r->block + k * BLOCK, *const pivot = &r->at[k * r->width + k];
        const double below = lanes_dot(v, v, BLOCK);
        if (below < NOTHING)
            continue;
        const double length = sqrt(*pivot * *pivot + below), to = *pivot > 0 ? -length : length, first = *pivot - to;
        const double by = 2 / (first * first + below);
        *pivot = to;
        for (size_t j = k + 1; j < r->width; j++) {
            double *const upper = &r->at[j * r->width + k], *const column = r->block + j * BLOCK;
            const double share = by * (first * *upper + lanes_dot(v, column, BLOCK));
            *upper -= share * first;
            lanes_add(column, -share, v, BLOCK);
        }
    }
}

#define BODY(level, attributes)                                                                                           \
    attributes static void take_in_##level(struct triangle *r) { take_in(r); }                                            \
    attributes static double dot_##level(const double *a, const double *b, size_t n) { return lanes_dot(a, b, n); }       \
    attributes static void add_##level(double *y, double a, const double *x, size_t n) { lanes_add(y, a, x, n); }
APR_FOR_LEVELS(BODY)
#undef BODY

/* ---- the rows ------------------------------------------------------------------------------------------------------- */

struct squares {
    struct problem  *q;
    struct triangle *group;
    size_t           ngroup, rows;
    double           mean; /* of the target */
};

static void fill_row(const struct squares *s, double *block, size_t row, size_t at)
{
    const struct problem *const q = s->q;
    const double *const x = q->x + row * q->p;
    block[at] = 1;
    for (size_t j = 0; j < q->p; j++)
        block[(j + 1) * BLOCK + at] = (x[j] - q->shift[j]) / q->scale[j];
    block[(q->p + 1) * BLOCK + at] = q->y[row] - s->mean;
}

static void take_group(void *ctx, size_t group, unsigned worker)
{
    struct squares *const s = ctx;
    struct triangle *const r = &s->group[group];
    const size_t end = (group + 1) * s->rows < s->q->n ? (group + 1) * s->rows : s->q->n;
    (void)worker;
    for (size_t i = group * s->rows, n; i < end;) {
        memset(r->block, 0, BLOCK * r->width * sizeof *r->block);
        for (n = 0; i < end && n < BLOCK; i++)
            if (s->q->role[i] == ROW_LEARNED)
                fill_row(s, r->block, i, n++);
        APR_AT_LEVEL(take_in, s->q->isa)(r);
    }
}

/* The rows of another triangle, which are rows like any. */
static void take_triangle(const struct problem *q, struct triangle *r, const struct triangle *other)
{
    for (size_t i = 0; i < r->width; i += BLOCK) {
        memset(r->block, 0, BLOCK * r->width * sizeof *r->block);
        for (size_t j = i; j < r->width; j++)
            for (size_t k = i; k <= j && k < i + BLOCK; k++)
                r->block[j * BLOCK + (k - i)] = other->at[j * r->width + k];
        APR_AT_LEVEL(take_in, q->isa)(r);
    }
}

/* The penalty n l2 W^2 / 2, as rows that have sqrt(n l2) in one column each. */
static void take_penalty(const struct problem *q, struct triangle *r)
{
    const double root = sqrt((double)q->used * q->l2);
    for (size_t i = 0; i < q->p && root > 0; i += BLOCK) {
        memset(r->block, 0, BLOCK * r->width * sizeof *r->block);
        for (size_t j = i; j < q->p && j < i + BLOCK; j++)
            r->block[(j + 1) * BLOCK + (j - i)] = root;
        APR_AT_LEVEL(take_in, q->isa)(r);
    }
}

static enum apr_code take_room(struct squares *s, size_t width, struct apr_error *e)
{
    for (size_t i = 0; i < s->ngroup; i++) {
        uint64_t n;
        if (!apr_mul(width, width + BLOCK, &n) || n > SIZE_MAX / sizeof(double) || (s->group[i].at = calloc((size_t)n, sizeof(double))) == NULL)
            return apr_no_memory(e);
        s->group[i].width = width;
        s->group[i].block = s->group[i].at + width * width;
    }
    return APR_OK;
}

/* ---- the triangle --------------------------------------------------------------------------------------------------- */

struct pivots {
    const struct problem *q;
    double               *a;      /* column-major, `width` numbers a column */
    size_t                width, p;
    size_t               *order;
    double               *by, *norm;
};

static double dot(const struct pivots *v, const double *a, const double *b, size_t n) { return APR_AT_LEVEL(dot, v->q->isa)(a, b, n); }
static void add(const struct pivots *v, double *y, double a, const double *x, size_t n) { APR_AT_LEVEL(add, v->q->isa)(y, a, x, n); }

/* Makes n numbers one: the first becomes the length, returned is the factor; the vector is left in them, its first in *first. */
static double reflect(const struct pivots *v, double *x, size_t n, double *diagonal)
{
    const double length = sqrt(dot(v, x, x, n));
    *diagonal = x[0] > 0 ? -length : length;
    x[0] -= *diagonal;
    const double norm = dot(v, x, x, n);
    return norm > 0 ? 2 / norm : 0;
}

static void swap_columns(struct pivots *v, size_t a, size_t b)
{
    for (size_t i = 0; i < v->p && a != b; i++) {
        const double kept = v->a[a * v->width + i];
        v->a[a * v->width + i] = v->a[b * v->width + i];
        v->a[b * v->width + i] = kept;
    }
    const size_t kept = v->order[a];
    v->order[a] = v->order[b];
    v->order[b] = kept;
}

/* A column of one value is nothing but its mean: what is left of it behind the ones is how its sum was rounded. ones: of each column what it has
 * along them, v->width numbers apart. */
static void clear_constants(const struct pivots *v, const double *ones, size_t nrow)
{
    for (size_t j = 0; j < v->p; j++) {
        double *const x = v->a + j * v->width;
        if (sqrt(dot(v, x, x, v->p)) <= DBL_EPSILON * (double)nrow * fabs(ones[j * v->width]))
            memset(x, 0, v->p * sizeof *x);
    }
}

/* The longest column first, of what is left of each; the target's goes along. Diagonals stand in norm; returns the rank. */
static size_t decompose(struct pivots *v, size_t nrow)
{
    const double least = DBL_EPSILON * (double)(nrow > v->p ? nrow : v->p);
    double *const target = v->a + v->p * v->width;
    for (size_t k = 0; k < v->p; k++) {
        size_t best = k;
        double most = -1;
        for (size_t j = k; j < v->p; j++) {
            const double *const x = v->a + j * v->width + k, square = dot(v, x, x, v->p - k);
            best = square > most ? j : best;
            most = square > most ? square : most;
        }
        if (k > 0 && !(sqrt(most) > least * fabs(v->norm[0])))
            return k;
        if (!(most > 0))
            return k;
        swap_columns(v, k, best);
        double *const x = v->a + k * v->width + k;
        const double by = reflect(v, x, v->p - k, &v->norm[k]);
        for (size_t j = k + 1; j <= v->p; j++) {
            double *const column = (j < v->p ? v->a + j * v->width : target) + k;
            add(v, column, -by * dot(v, x, column, v->p - k), x, v->p - k);
        }
    }
    return v->p;
}

/* [R11 R12] y = c of least norm: its transpose is Q S, so y = Q u with S' u = c. z: p * rank numbers of room. */
static void solve_short(struct pivots *v, size_t rank, const double *c, double *z, double *y)
{
    const size_t p = v->p;
    for (size_t i = 0; i < rank; i++)
        for (size_t j = 0; j < p; j++)
            z[i * p + j] = j < i ? 0 : j == i ? v->norm[i] : v->a[j * v->width + i];
    double *const diagonal = v->norm; /* copied into z above */
    for (size_t k = 0; k < rank; k++) {
        double *const x = z + k * p + k;
        v->by[k] = reflect(v, x, p - k, &diagonal[k]);
        for (size_t j = k + 1; j < rank; j++) {
            double *const column = z + j * p + k;
            add(v, column, -v->by[k] * dot(v, x, column, p - k), x, p - k);
        }
    }
    memset(y, 0, p * sizeof *y);
    for (size_t i = 0; i < rank; i++) {
        double sum = c[i];
        for (size_t k = 0; k < i; k++)
            sum -= z[i * p + k] * y[k]; /* S[k][i] */
        y[i] = sum / diagonal[i];
    }
    for (size_t k = rank; k-- > 0;) {
        const double *const x = z + k * p + k;
        add(v, y + k, -v->by[k] * dot(v, x, y + k, p - k), x, p - k);
    }
}

static void solve_whole(const struct pivots *v, const double *c, double *y)
{
    for (size_t k = v->p; k-- > 0;) {
        double sum = c[k];
        for (size_t j = k + 1; j < v->p; j++)
            sum -= v->a[j * v->width + k] * y[j];
        y[k] = sum / v->norm[k];
    }
}

static enum apr_code solve(const struct problem *q, struct triangle *r, double *at, struct apr_error *e)
{
    struct pivots v = { .q = q, .a = r->at + r->width + 1, .width = r->width, .p = q->p };
    v.order = malloc(q->p * sizeof *v.order);
    v.by = malloc(3 * q->p * sizeof *v.by);
    double *z = NULL;
    enum apr_code code = v.order == NULL || v.by == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK) {
        v.norm = v.by + q->p;
        double *const y = v.norm + q->p, *const c = v.a + q->p * r->width;
        for (size_t j = 0; j < q->p; j++)
            v.order[j] = j;
        clear_constants(&v, r->at + r->width, q->used);
        const size_t rank = decompose(&v, q->used);
        z = rank == q->p ? NULL : malloc((rank * q->p + 1) * sizeof *z);
        if (rank == q->p)
            solve_whole(&v, c, y);
        else if (z == NULL)
            code = apr_no_memory(e);
        else
            solve_short(&v, rank, c, z, y);
        for (size_t j = 0; j < q->p && code == APR_OK; j++)
            at[v.order[j]] = y[j];
    }
    free(v.order);
    free(v.by);
    free(z);
    return code;
}

/* What the ones are worth, where the weights are known. */
static double bias_of(const struct triangle *r, size_t p, const double *w)
{
    double rest = r->at[(p + 1) * r->width];
    for (size_t j = 0; j < p; j++)
        rest -= r->at[(j + 1) * r->width] * w[j];
    return rest / r->at[0];
}

static double mean_of_target(const struct problem *q)
{
    double sum = 0, rest = 0;
    for (size_t i = 0; i < q->n; i++)
        sum += q->role[i] == ROW_LEARNED ? q->y[i] : 0;
    const double mean = sum / (double)q->used;
    for (size_t i = 0; i < q->n; i++)
        rest += q->role[i] == ROW_LEARNED ? q->y[i] - mean : 0;
    return mean + rest / (double)q->used;
}

static enum apr_code tell(struct problem *q, const double *at, struct descent *d, struct apr_error *e)
{
    double *const gradient = malloc(problem_size(q) * sizeof *gradient);
    if (gradient == NULL)
        return apr_no_memory(e);
    problem_at(q, at, gradient, &d->loss);
    d->steepness = problem_steepness(q, gradient);
    d->steps = 1;
    d->reached = true;
    free(gradient);
    return APR_OK;
}

enum apr_code optimize_squares(struct problem *q, double *at, struct descent *d, struct apr_error *e)
{
    const size_t width = q->p + 2, bytes = width * (width + BLOCK) * sizeof(double), fit = GROUPS_ROOM / bytes;
    const size_t wanted = (q->n + 4095) / 4096, most = fit < 1 ? 1 : fit > MOST_GROUPS ? MOST_GROUPS : fit;
    struct triangle group[MOST_GROUPS] = { 0 };
    struct squares s = { .q = q, .group = group, .ngroup = wanted < 1 ? 1 : wanted > most ? most : wanted, .mean = mean_of_target(q) };
    s.rows = (q->n + s.ngroup - 1) / s.ngroup;
    enum apr_code code = take_room(&s, width, e);
    if (code == APR_OK) {
        apr_team_do(q->team, s.ngroup, take_group, &s);
        for (size_t i = 1; i < s.ngroup; i++)
            take_triangle(q, &group[0], &group[i]);
        take_penalty(q, &group[0]);
        code = solve(q, &group[0], at, e);
        at[q->p] = s.mean + bias_of(&group[0], q->p, at);
    }
    for (size_t i = 0; i < s.ngroup; i++)
        free(group[i].at);
    return code == APR_OK ? tell(q, at, d, e) : code;
}
