/* The methods: a row for each, and the coefficients of those that are combinations of their models. */
#include "merge.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fmath.h"

#define MOST_VECTORS (MOST_MODELS + 1)

/* ---- angles --------------------------------------------------------------------------------------------------------- */

/* arcsin of 0 to sqrt(1/2): a series, and Newton's steps against the sine. */
static double arcsine(double x)
{
    const double square = x * x;
    double a = x * (1 + square * (1 / 6. + square * (3 / 40. + square * (5 / 112. + square * 35 / 1152.))));
    for (int i = 0; i < 4; i++)
        a += (x - apr_sin(a)) / apr_cos(a);
    return a;
}

double angle_of(double cosine)
{
    static const double pi = 3.14159265358979323846;
    const double half = sqrt((1 - fabs(cosine)) / 2);
    const double angle = 2 * arcsine(half);
    return cosine < 0 ? pi - angle : angle;
}

/* The shares of a and b at t of the way from a to b, along the arc or, where `line` finds it too flat, straight; dots of aa, bb, ab. */
static void along_arc(double t, double aa, double bb, double ab, bool (*line)(double cosine), double *of_a, double *of_b)
{
    const double a = sqrt(aa), b = sqrt(bb);
    double cosine = ab / ((a > 1e-8 ? a : 1) * (b > 1e-8 ? b : 1));
    cosine = cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
    *of_a = 1 - t;
    *of_b = t;
    if (line(cosine))
        return;
    const double theta = angle_of(cosine), sine = apr_sin(theta);
    *of_a = apr_sin((1 - t) * theta) / sine;
    *of_b = apr_sin(t * theta) / sine;
}

static bool nearly_parallel(double cosine) { return fabs(cosine) > 0.9995; }
static bool parallel(double cosine) { return 1 - cosine * cosine <= 1e-16; }

static enum apr_code settle_slerp(const struct merged *t, const double *gram, double *coef, struct apr_error *e)
{
    (void)e;
    along_arc(t->p[PARAM_T], gram[3], gram[0], gram[1], nearly_parallel, &coef[1], &coef[0]);
    return APR_OK;
}

static enum apr_code settle_nuslerp(const struct merged *t, const double *gram, double *coef, struct apr_error *e)
{
    const double a = t->x[0].p[PARAM_WEIGHT], b = t->x[1].p[PARAM_WEIGHT], sum = a + b;
    (void)e;
    along_arc(fabs(sum) < 1e-6 ? 0.5 : b / sum, gram[0], gram[3], gram[1], parallel, &coef[0], &coef[1]);
    return APR_OK;
}

/* ---- several at once ------------------------------------------------------------------------------------------------ */

/* Of combinations a and b of n vectors whose dots are gram. */
static double dot_of(const double *gram, size_t n, const double *a, const double *b)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            sum += a[i] * b[k] * gram[i * n + k];
    return sum;
}

static double length_of(const double *gram, size_t n, const double *a)
{
    const double square = dot_of(gram, n, a, a);
    return square > 0 ? sqrt(square) : 0;
}

/* How long vector i is along a combination of them. */
static double along(const double *gram, size_t n, size_t i, const double *a)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += gram[i * n + k] * a[k];
    return sum;
}

/* Weights that add up to 1, where that is asked for. */
static enum apr_code weights_of(const struct merged *t, double *w, struct apr_error *e)
{
    double sum = 0;
    for (size_t i = 0; i < t->n; i++)
        sum += w[i] = t->x[i].p[PARAM_WEIGHT];
    if (t->p[PARAM_NORMALIZE_WEIGHTS] == 0)
        return APR_OK;
    if (sum == 0)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->tensor.name, ": its weights add up to 0, by which they are divided");
    for (size_t i = 0; i < t->n; i++)
        w[i] /= sum;
    return APR_OK;
}

/* Everything is said in the vectors as they are: vector i divided by length[i] is a unit. */
static enum apr_code settle_multislerp(const struct merged *t, const double *gram, double *coef, struct apr_error *e)
{
    const size_t n = t->n;
    double w[MOST_VECTORS], mean[MOST_VECTORS] = { 0 }, tangent[MOST_VECTORS] = { 0 }, length[MOST_VECTORS], size = 0, drift = 0;
    APR_TRY(weights_of(t, w, e));
    for (size_t i = 0; i < n; i++) {
        length[i] = sqrt(gram[i * n + i]) + 1e-8;
        mean[i] = w[i] / length[i];
        size += w[i] * sqrt(gram[i * n + i]);
    }
    const double middle = length_of(gram, n, mean);
    if (middle < 1e-8) {
        if (n > 2)
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->tensor.name,
                                   ": the models' directions cancel, so there is none between them");
        memcpy(coef, w, n * sizeof *coef);
        return APR_OK;
    }
    for (size_t i = 0; i < n; i++)
        mean[i] /= middle;
    for (size_t i = 0; i < n; i++)
        drift += w[i] * along(gram, n, i, mean) / length[i];
    for (size_t i = 0; i < n; i++)
        tangent[i] = w[i] / length[i] - drift * mean[i];
    const double r = length_of(gram, n, tangent) + 1e-8;
    for (size_t i = 0; i < n; i++)
        coef[i] = (mean[i] * apr_cos(r) + tangent[i] * (apr_sin(r) / r)) * size;
    return APR_OK;
}

/* The middle of units on the sphere, to which each step goes by the mean of the ways to all of them. */
static void middle_of(const struct merged *t, const double *gram, size_t n, const double *length, size_t nunit, double *u)
{
    const double tol = t->p[PARAM_TOL];
    for (double step = 0; step < t->p[PARAM_MAX_ITER]; step++) {
        double tangent[MOST_VECTORS] = { 0 }, back = 0;
        for (size_t i = 0; i < n; i++) {
            if (length[i] <= tol)
                continue;
            double cosine = along(gram, n, i, u) / length[i];
            cosine = cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
            const double theta = angle_of(cosine);
            if (theta < tol)
                continue;
            const double share = theta / apr_sin(theta) / (double)nunit;
            tangent[i] += share / length[i];
            back += share * cosine;
        }
        for (size_t i = 0; i < n; i++)
            tangent[i] -= back * u[i];
        const double r = length_of(gram, n, tangent);
        if (r < tol)
            return;
        for (size_t i = 0; i < n; i++)
            u[i] = apr_cos(r) * u[i] + apr_sin(r) / r * tangent[i];
        const double size = length_of(gram, n, u);
        for (size_t i = 0; i < n && size > 0; i++)
            u[i] /= size;
    }
}

static enum apr_code settle_karcher(const struct merged *t, const double *gram, double *coef, struct apr_error *e)
{
    const size_t n = t->n + (t->base != NULL);
    const double tol = t->p[PARAM_TOL];
    double length[MOST_VECTORS], u[MOST_VECTORS] = { 0 }, sum = 0;
    size_t nunit = 0, first = n;
    (void)e;
    for (size_t i = 0; i < n; i++) {
        length[i] = sqrt(gram[i * n + i]);
        sum += length[i];
        nunit += length[i] > tol;
        first = first == n && length[i] > tol ? i : first;
    }
    for (size_t i = 0; i < n; i++)
        u[i] = length[i] > tol ? 1 / length[i] / (double)nunit : 0;
    const double size = length_of(gram, n, u);
    for (size_t i = 0; i < n && nunit > 0; i++)
        u[i] = size >= tol ? u[i] / size : i == first ? 1 / length[i] : 0;
    if (nunit > 0)
        middle_of(t, gram, n, length, nunit, u);
    for (size_t i = 0; i < n; i++)
        coef[i] = u[i] * (sum / (double)n);
    return APR_OK;
}

static enum apr_code settle_stock(const struct merged *t, const double *gram, double *coef, struct apr_error *e)
{
    const size_t n = t->n;
    double sum = 0;
    (void)e;
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++) {
            const double lengths = sqrt(gram[i * n + i]) * sqrt(gram[k * n + k]);
            const double cosine = gram[i * n + k] / (lengths > 1e-6 ? lengths : 1e-6);
            sum += cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
        }
    const double c = sum / ((double)n * (double)(n - 1) / 2), below = 1 + (double)(n - 1) * c;
    const double share = fabs(below) < 1e-6 ? 0 : (double)n * c / below;
    for (size_t i = 0; i < n; i++)
        coef[i] = share / (double)n;
    return APR_OK;
}

/* ---- by weights alone ----------------------------------------------------------------------------------------------- */

static enum apr_code settle_linear(const struct merged *t, const double *gram, double *coef, struct apr_error *e)
{
    double sum = 0;
    (void)gram;
    for (size_t i = 0; i < t->n; i++)
        sum += coef[i] = t->x[i].p[PARAM_WEIGHT];
    if (t->p[PARAM_NORMALIZE] == 0)
        return APR_OK;
    if (sum == 0)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->tensor.name, ": its weights add up to 0, by which they are divided");
    for (size_t i = 0; i < t->n; i++)
        coef[i] /= sum;
    return APR_OK;
}

static enum apr_code settle_task(const struct merged *t, const double *gram, double *coef, struct apr_error *e)
{
    double sum = 0;
    (void)gram;
    (void)e;
    for (size_t i = 0; i < t->n; i++)
        sum += t->x[i].p[PARAM_WEIGHT];
    const double share = t->p[PARAM_NORMALIZE] == 0 || fabs(sum) < 1e-8 ? 1 : sum;
    for (size_t i = 0; i < t->n; i++)
        coef[i] = t->p[PARAM_LAMBDA] * t->x[i].p[PARAM_WEIGHT] / share;
    return APR_OK;
}

/* What only the base has is the base. */
static enum apr_code settle_scale(const struct merged *t, const double *gram, double *coef, struct apr_error *e)
{
    (void)gram;
    (void)e;
    coef[0] = t->n == 0 ? 1 : t->x[0].p[PARAM_SCALE];
    return APR_OK;
}

/* ---- the table ------------------------------------------------------------------------------------------------------ */

static enum units none(const struct merged *t) { (void)t; return UNITS_NONE; }
static enum units whole(const struct merged *t) { (void)t; return UNITS_WHOLE; }

static enum units by_flatten(const struct merged *t)
{
    if (t->p[PARAM_FLATTEN] != 0 || t->tensor.ndim < 2)
        return UNITS_WHOLE;
    return t->p[PARAM_ROW_WISE] != 0 ? UNITS_COLUMNS : UNITS_ROWS;
}

static enum units by_filter(const struct merged *t)
{
    return t->p[PARAM_FILTER_WISE] != 0 && t->tensor.ndim > 1 ? UNITS_ROWS : UNITS_WHOLE;
}

#define BIT(p)   (1u << PARAM_##p)
#define THINNED  (BIT(DENSITY) | BIT(LAMBDA) | BIT(NORMALIZE) | BIT(RESCALE))
#define ANY      MOST_MODELS

static const struct method methods[] = {
    { "linear", 1, ANY, BASE_AS_MODEL, BIT(WEIGHT), BIT(NORMALIZE), true, .units = none, .settle = settle_linear },
    { "slerp", 1, 1, BASE_ONE_OF_TWO, BIT(T), 0, .units = whole, .settle = settle_slerp },
    { "nuslerp", 2, 2, BASE_MAY, BIT(WEIGHT), BIT(FLATTEN) | BIT(ROW_WISE), .differences = true, .units = by_flatten,
      .settle = settle_nuslerp },
    { "multislerp", 1, ANY, BASE_MAY, BIT(WEIGHT), BIT(NORMALIZE_WEIGHTS), .differences = true, .units = whole,
      .settle = settle_multislerp },
    { "karcher", 1, ANY, BASE_MAY, 0, BIT(MAX_ITER) | BIT(TOL), .units = whole, .settle = settle_karcher },
    { "task_arithmetic", 1, ANY, BASE_MUST, BIT(WEIGHT), BIT(LAMBDA) | BIT(NORMALIZE), .differences = true, .units = none,
      .settle = settle_task },
    { "ties", 1, ANY, BASE_MUST, BIT(WEIGHT), THINNED, true, .votes = true, .thinning = THIN_LARGEST, .kernel = KERNEL_THINNED,
      .units = none },
    { "dare_ties", 1, ANY, BASE_MUST, BIT(WEIGHT), THINNED, false, true, .votes = true, .thinning = THIN_RANDOM, .kernel = KERNEL_THINNED,
      .units = none },
    { "dare_linear", 1, ANY, BASE_MUST, BIT(WEIGHT), THINNED, false, true, .thinning = THIN_RANDOM, .kernel = KERNEL_THINNED,
      .units = none },
    { "breadcrumbs", 1, ANY, BASE_MUST, BIT(WEIGHT), THINNED | BIT(GAMMA), .thinning = THIN_MIDDLE, .kernel = KERNEL_THINNED,
      .units = none },
    { "breadcrumbs_ties", 1, ANY, BASE_MUST, BIT(WEIGHT), THINNED | BIT(GAMMA), .votes = true, .thinning = THIN_MIDDLE,
      .kernel = KERNEL_THINNED, .units = none },
    { "della", 1, ANY, BASE_MUST, BIT(WEIGHT), THINNED | BIT(EPSILON), true, true, .votes = true, .thinning = THIN_BY_RANK,
      .kernel = KERNEL_THINNED, .units = none },
    { "della_linear", 1, ANY, BASE_MUST, BIT(WEIGHT), THINNED | BIT(EPSILON), false, true, .thinning = THIN_BY_RANK,
      .kernel = KERNEL_THINNED, .units = none },
    { "sce", 1, ANY, BASE_MUST, 0, BIT(TOPK), .kernel = KERNEL_SCE, .units = none },
    { "model_stock", 2, ANY, BASE_MUST, 0, BIT(FILTER_WISE), .differences = true, .units = by_filter, .settle = settle_stock },
    { "nearswap", 1, 1, BASE_MUST, BIT(T), 0, .kernel = KERNEL_NEARSWAP, .units = none },
    { "passthrough", 1, 1, BASE_AS_MODEL, 0, BIT(SCALE), .units = none, .settle = settle_scale },
};

const struct method *method_at(size_t i) { return i < APR_LENGTH(methods) ? &methods[i] : NULL; }

const struct method *method_named(struct apr_bytes name)
{
    for (size_t i = 0; i < APR_LENGTH(methods); i++)
        if (apr_bytes_is(name, methods[i].name))
            return &methods[i];
    return NULL;
}

bool method_is_refused(struct apr_bytes name)
{
    return apr_bytes_is(name, "arcee_fusion") || apr_bytes_is(name, "ram") || apr_bytes_is(name, "ramplus_tl");
}
