/* One fit, and those of the folds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fit.h"

#define SMALL      65536 /* numbers that one thread looks at sooner than two wake up */
#define NEARNESS   512   /* how much smaller than its size the range of a column is that is counted from its least value */
#define FIRST_ROWS 64    /* that are asked whether any column is one */

/* ---- who is held back ------------------------------------------------------------------------------------------------ */

/* The finalizer of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
}

double fit_place(uint64_t seed, uint64_t row, unsigned which)
{
    return (double)(mix(mix(mix(seed + 0x9E3779B97F4A7C15) + row) + which) >> 11) * 0x1p-53;
}

static bool is_held_back(const struct fit *f, size_t row)
{
    return f->o->fraction_given && fit_place(f->o->seed, row, 0) < f->o->test_fraction;
}

static void split(struct fit *f)
{
    for (size_t i = 0; i < f->d.n; i++)
        f->role[i] = is_held_back(f, i) ? ROW_SCORED : ROW_LEARNED;
}

/* Rows of the fold are scored, the others that are not held back are learned from. */
static void split_fold(struct fit *f, uint64_t fold)
{
    for (size_t i = 0; i < f->d.n; i++) {
        const bool own = (uint64_t)(fit_place(f->o->seed, i, 1) * (double)f->o->cv) == fold;
        f->role[i] = is_held_back(f, i) ? ROW_UNUSED : own ? ROW_SCORED : ROW_LEARNED;
    }
}

/* ---- one fit --------------------------------------------------------------------------------------------------------- */

static enum apr_code descend(const struct fit *f, struct problem *q, double *at, struct descent *d, struct apr_error *e)
{
    if (f->direct)
        return optimize_squares(q, at, d, e);
    return f->o->optimizer == FIT_GD ? optimize_gd(q, at, d, e) : optimize_lbfgs(q, at, d, e);
}

/* What the loss does not tell apart: the same number added to every class. */
static void centre(double *x, size_t outputs, size_t p)
{
    for (size_t j = 0; j < p; j++) {
        double sum = 0;
        for (size_t k = 0; k < outputs; k++)
            sum += x[k * p + j];
        for (size_t k = 0; k < outputs; k++)
            x[k * p + j] -= sum / (double)outputs;
    }
}

static enum apr_code check_finite(const struct fit *f, struct apr_error *e)
{
    for (size_t i = 0; i < f->outputs * f->d.p; i++)
        if (!isfinite(f->w[i] + f->b[i / f->d.p]))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "the weights are not finite: the numbers are too large for sums of their squares");
    return APR_OK;
}

static struct problem problem_of(const struct fit *f)
{
    return (struct problem){ .x = f->d.x, .y = f->d.y, .role = f->role, .n = f->d.n, .p = f->d.p, .outputs = f->outputs,
                             .logistic = f->logistic, .l2 = f->o->l2, .team = f->team, .isa = f->o->cli.run.kernels->isa };
}

/* The steps of plain gradient descent are those of the columns as they are; all else may count them from elsewhere. */
static bool is_shifted(const struct fit *f) { return f->o->optimizer == FIT_LBFGS || f->o->standardize; }

static enum apr_code learn(struct fit *f, struct problem *q, double *at, struct descent *d, struct apr_error *e)
{
    const bool shifts = is_shifted(f);
    *d = (struct descent){ .most = f->o->max_iter, .tolerance = f->o->tol, .rate = f->o->lr };
    q->moved = shifts && !f->o->standardize;
    APR_TRY(problem_begin(q, shifts, f->o->standardize, e));
    memset(at, 0, problem_size(q) * sizeof *at);
    APR_TRY(descend(f, q, at, d, e));
    problem_plain(q, at, f->w, f->b);
    if (f->logistic && f->outputs > 1) {
        centre(f->b, f->outputs, 1);
        if (f->o->l2 == 0)
            centre(f->w, f->outputs, f->d.p);
    }
    return check_finite(f, e);
}

/* Fits to the rows that are learned from, and scores both kinds. */
static enum apr_code fit_once(struct fit *f, struct descent *d, struct score *train, struct score *test, struct apr_error *e)
{
    struct problem q = problem_of(f);
    double *const at = malloc(problem_size(&q) * sizeof *at);
    enum apr_code code = at == NULL ? apr_no_memory(e) : learn(f, &q, at, d, e);
    if (code == APR_OK) {
        *train = problem_score(&q, f->w, f->b, ROW_LEARNED);
        *test = problem_score(&q, f->w, f->b, ROW_SCORED);
    }
    problem_end(&q);
    free(at);
    return code;
}

double fit_score(const struct fit *f, const struct score *s)
{
    if (f->logistic)
        return (double)s->right / (double)s->n;
    return s->tss > 0 ? 1 - s->rss / s->tss : NAN;
}

static enum apr_code validate(struct fit *f, struct apr_error *e)
{
    const uint64_t n = f->o->cv;
    double sum = 0, squares = 0;
    double *const score = malloc((size_t)n * sizeof *score);
    enum apr_code code = score == NULL ? apr_no_memory(e) : APR_OK;
    for (uint64_t i = 0; i < n && code == APR_OK; i++) {
        struct descent d;
        struct score train, test;
        split_fold(f, i);
        code = fit_once(f, &d, &train, &test, e);
        if (code == APR_OK && test.n == 0)
            code = apr_fail(e, APR_EARG, APR_NOWHERE, "--cv %llu: fold %llu has no row, there are only %zu", (unsigned long long)n,
                            (unsigned long long)i + 1, f->d.n);
        if (code == APR_OK)
            sum += score[i] = fit_score(f, &test);
    }
    f->cv_mean = sum / (double)n;
    for (uint64_t i = 0; i < n && code == APR_OK; i++)
        squares += (score[i] - f->cv_mean) * (score[i] - f->cv_mean);
    f->cv_std = sqrt(squares / (double)n);
    free(score);
    return code;
}

/* Of the rows that are learned from. */
static enum apr_code check_classes(const struct fit *f, struct apr_error *e)
{
    size_t first = 0;
    while (first < f->d.n && f->role[first] != ROW_LEARNED)
        first++;
    for (size_t i = first; i < f->d.n; i++)
        if (f->role[i] == ROW_LEARNED && f->d.y[i] != f->d.y[first])
            return APR_OK;
    return first == f->d.n ? APR_OK
                           : apr_fail(e, APR_EARG, APR_NOWHERE, "all rows that are not held back are of one class, %s: another --seed, or a smaller --test-fraction",
                                      APR_QUOTED(f->d.class[(size_t)f->d.y[first]].text));
}

/* ---- where columns are counted from ---------------------------------------------------------------------------------- */

/* Do numbers of that range lie so near to each other, and so far from zero, that less the least they are exact? */
static bool lies_far(double least, double most) { return most > least && least * most > 0 && most - least < fabs(least) / NEARNESS; }

static void find_range(const struct fit *f, size_t n, double *least, double *most)
{
    const size_t p = f->d.p;
    memcpy(least, f->d.x, p * sizeof *least);
    memcpy(most, f->d.x, p * sizeof *most);
    for (size_t i = 1; i < n; i++)
        for (size_t j = 0; j < p; j++) {
            const double x = f->d.x[i * p + j];
            least[j] = x < least[j] ? x : least[j];
            most[j] = x > most[j] ? x : most[j];
        }
}

static bool any_lies_far(const struct fit *f, const double *least, const double *most)
{
    bool any = false;
    for (size_t j = 0; j < f->d.p; j++)
        any |= lies_far(least[j], most[j]);
    return any;
}

/* Years and times, which vary by little of what they are, are counted from the least of them: nothing is lost by that, while in sums of products
 * with 1.6e9 all would be. */
static enum apr_code move_origin(struct fit *f, struct apr_error *e)
{
    const size_t p = f->d.p, n = f->d.n;
    double *const most = malloc(p * sizeof *most), *const least = f->origin;
    if (most == NULL)
        return apr_no_memory(e);
    find_range(f, n < FIRST_ROWS ? n : FIRST_ROWS, least, most);
    if (any_lies_far(f, least, most))
        find_range(f, n, least, most);
    const bool any = any_lies_far(f, least, most);
    for (size_t j = 0; j < p; j++)
        least[j] = lies_far(least[j], most[j]) ? least[j] : 0;
    for (size_t i = 0; i < n && any; i++)
        for (size_t j = 0; j < p; j++)
            f->d.x[i * p + j] -= least[j];
    free(most);
    return APR_OK;
}

/* Of columns as they were. */
static void move_back(struct fit *f)
{
    for (size_t k = 0; k < f->outputs; k++)
        for (size_t j = 0; j < f->d.p; j++)
            f->b[k] -= f->w[k * f->d.p + j] * f->origin[j];
    if (f->logistic && f->outputs > 1)
        centre(f->b, f->outputs, 1);
}

static enum apr_code learn_all(struct fit *f, struct apr_error *e)
{
    split(f);
    if (f->logistic)
        APR_TRY(check_classes(f, e));
    if (f->o->cv_given)
        APR_TRY(validate(f, e));
    split(f);
    APR_TRY(fit_once(f, &f->descent, &f->train, &f->test, e));
    if (f->o->fraction_given && f->test.n == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--test-fraction %g of %zu rows holds none back", f->o->test_fraction, f->d.n);
    f->separable = f->logistic && f->o->l2 == 0 && f->train.apart == f->train.n;
    f->descent.reached &= !f->separable;
    return APR_OK;
}

enum apr_code fit_learn(struct fit *f, struct apr_error *e)
{
    f->logistic = f->d.nclass > 0;
    f->outputs = f->d.nclass > 2 ? f->d.nclass : 1;
    f->direct = !f->logistic && f->o->optimizer == FIT_LBFGS;
    uint64_t n;
    if (!apr_mul(f->outputs, f->d.p + 1, &n) || n > SIZE_MAX / 64)
        return apr_no_memory(e);
    f->role = malloc(f->d.n);
    f->w = malloc((size_t)n * sizeof *f->w);
    f->b = malloc(f->outputs * sizeof *f->b);
    f->origin = calloc(f->d.p, sizeof *f->origin);
    if (f->role == NULL || f->w == NULL || f->b == NULL || f->origin == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_team_new(&f->team, f->d.n * f->d.p < SMALL ? 1 : f->o->cli.run.threads, e));
    if (is_shifted(f))
        APR_TRY(move_origin(f, e));
    APR_TRY(learn_all(f, e));
    move_back(f);
    return check_finite(f, e);
}
