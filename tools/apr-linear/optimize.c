#include "optimize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lanes.h"

#define MEMORY      20                /* steps that L-BFGS remembers */
#define MEMORY_ROOM ((size_t)4 << 20) /* bytes of them, but at least LEAST_MEMORY */
#define LEAST_MEMORY 5
#define MOST_TRIES  40                /* points of one line */
#define FLAT        0.5               /* of the slope at its start: a line is left where it is no steeper */

#define BODY(level, attributes)                                                                                              \
    attributes static double dot_##level(const double *a, const double *b, size_t n) { return lanes_dot(a, b, n); }          \
    attributes static void add_##level(double *y, double a, const double *x, size_t n) { lanes_add(y, a, x, n); }
APR_FOR_LEVELS(BODY)
#undef BODY

static double dot(const struct problem *q, const double *a, const double *b, size_t n) { return APR_AT_LEVEL(dot, q->isa)(a, b, n); }
static void add(const struct problem *q, double *y, double a, const double *x, size_t n) { APR_AT_LEVEL(add, q->isa)(y, a, x, n); }

/* ---- L-BFGS --------------------------------------------------------------------------------------------------------- */

/* s and y of the last steps, round and round; rho = 1 / (s y).
 *   diagonal  about the inverse of the curvature along each parameter */
struct memory {
    struct problem *q;
    size_t          size, room, n, next;
    double         *s, *y, *diagonal, *direction, *at, *gradient;
    double          rho[MEMORY], alpha[MEMORY], gamma;
};

static enum apr_code begin(struct memory *m, struct problem *q, struct apr_error *e)
{
    const size_t size = problem_size(q), fit = MEMORY_ROOM / (2 * size * sizeof(double));
    *m = (struct memory){ .q = q, .size = size, .gamma = 1 };
    m->room = fit < LEAST_MEMORY ? LEAST_MEMORY : fit > MEMORY ? MEMORY : fit;
    uint64_t n;
    if (!apr_mul(size, 2 * m->room + 5, &n) || n > SIZE_MAX / sizeof *m->s || (m->s = malloc((size_t)n * sizeof *m->s)) == NULL)
        return apr_no_memory(e);
    m->y = m->s + m->room * size;
    m->diagonal = m->y + m->room * size;
    m->direction = m->diagonal + size;
    m->at = m->direction + size;
    m->gradient = m->at + size;
    return APR_OK;
}

/* No loss is more curved than that by its z: 1/4 for two classes, p (1 - p) at equal chances for more. */
static void measure_curvature(struct memory *m)
{
    const struct problem *const q = m->q;
    const double k = (double)q->outputs, by_z = !q->logistic ? 1 : q->outputs == 1 ? 0.25 : (k - 1) / (k * k);
    for (size_t o = 0; o < q->outputs; o++)
        for (size_t j = 0; j < q->p; j++) {
            const double u = q->variance[j] / (q->scale[j] * q->scale[j]), curvature = by_z * u + q->l2;
            m->diagonal[o * q->p + j] = u > 0 ? 1 / curvature : 1 / (by_z + q->l2);
        }
    for (size_t o = 0; o < q->outputs; o++)
        m->diagonal[q->outputs * q->p + o] = 1 / by_z;
}

/* direction = -H gradient, by the two loops over what is remembered. */
static void find_direction(struct memory *m, const double *gradient)
{
    double *const d = m->direction;
    for (size_t i = 0; i < m->size; i++)
        d[i] = -gradient[i];
    for (size_t k = 1; k <= m->n; k++) {
        const size_t i = (m->next + m->room - k) % m->room;
        m->alpha[i] = m->rho[i] * dot(m->q, m->s + i * m->size, d, m->size);
        add(m->q, d, -m->alpha[i], m->y + i * m->size, m->size);
    }
    for (size_t i = 0; i < m->size; i++)
        d[i] *= m->gamma * m->diagonal[i];
    for (size_t k = m->n; k >= 1; k--) {
        const size_t i = (m->next + m->room - k) % m->room;
        const double beta = m->rho[i] * dot(m->q, m->y + i * m->size, d, m->size);
        add(m->q, d, m->alpha[i] - beta, m->s + i * m->size, m->size);
    }
}

/* What a step did to the gradient. A step without curvature teaches nothing. */
static void remember(struct memory *m, const double *from, const double *before)
{
    double *const s = m->s + m->next * m->size, *const y = m->y + m->next * m->size, scaled = 0;
    for (size_t i = 0; i < m->size; i++) {
        s[i] = m->at[i] - from[i];
        y[i] = m->gradient[i] - before[i];
        scaled += y[i] * m->diagonal[i] * y[i];
    }
    const double sy = dot(m->q, s, y, m->size);
    if (!(sy > 0) || !(scaled > 0) || !isfinite(1 / sy))
        return;
    m->rho[m->next] = 1 / sy;
    m->gamma = sy / scaled;
    m->next = (m->next + 1) % m->room;
    m->n += m->n < m->room;
}

static double slope_at(struct memory *m, const double *from, double t, double *loss)
{
    for (size_t i = 0; i < m->size; i++)
        m->at[i] = from[i] + t * m->direction[i];
    problem_at(m->q, m->at, m->gradient, loss);
    return dot(m->q, m->gradient, m->direction, m->size);
}

/* Goes along the direction until the slope is FLAT of what it was: between two points whose slopes have different signs by the chord of
 * slopes, else ahead. False when no such point is found, or none that is lower. */
static bool search(struct memory *m, const double *from, const double *gradient, double first, double *loss)
{
    const double start = dot(m->q, gradient, m->direction, m->size);
    double low = 0, low_slope = start, high = INFINITY, high_slope = 0, t = first, value;
    if (!(start < 0))
        return false;
    for (unsigned i = 0; i < MOST_TRIES; i++) {
        const double slope = slope_at(m, from, t, &value);
        if (fabs(slope) <= FLAT * -start && value <= *loss + 1e-12 * fabs(*loss)) {
            *loss = value;
            return true;
        }
        if (isnan(slope) || slope > 0 || !isfinite(value)) {
            high = t;
            high_slope = slope;
        } else {
            low = t;
            low_slope = slope;
        }
        const double width = high - low, chord = low + width * (low_slope / (low_slope - high_slope));
        if (isinf(high))
            t = low * 4;
        else
            t = isfinite(chord) && chord > low + 0.1 * width && chord < high - 0.1 * width ? chord : low + 0.5 * width;
        if (!(t > low) || !(t < high))
            return false;
    }
    return false;
}

/* One step from `at`, whose gradient and loss are known and become those of the point that is reached. */
static bool step(struct memory *m, double *at, double *gradient, double *loss, bool fresh)
{
    if (fresh)
        m->n = 0;
    if (fresh)
        m->gamma = 1;
    find_direction(m, gradient);
    if (!search(m, at, gradient, 1, loss))
        return false;
    remember(m, at, gradient);
    memcpy(at, m->at, m->size * sizeof *at);
    memcpy(gradient, m->gradient, m->size * sizeof *gradient);
    return true;
}

enum apr_code optimize_lbfgs(struct problem *q, double *at, struct descent *d, struct apr_error *e)
{
    struct memory m;
    APR_TRY(begin(&m, q, e));
    double *const gradient = m.gradient + m.size;
    measure_curvature(&m);
    problem_at(q, at, gradient, &d->loss);
    d->steepness = problem_steepness(q, gradient);
    for (d->steps = 0; d->steps < d->most && !(d->steepness <= d->tolerance); d->steps++) {
        if (!step(&m, at, gradient, &d->loss, false) && (m.n == 0 || !step(&m, at, gradient, &d->loss, true)))
            break; /* no point is lower: rounding has the last word */
        d->steepness = problem_steepness(q, gradient);
    }
    d->reached = d->steepness <= d->tolerance;
    free(m.s);
    return APR_OK;
}

/* ---- gradient descent ----------------------------------------------------------------------------------------------- */

enum apr_code optimize_gd(struct problem *q, double *at, struct descent *d, struct apr_error *e)
{
    const size_t size = problem_size(q);
    double *const gradient = malloc(size * sizeof *gradient);
    if (gradient == NULL)
        return apr_no_memory(e);
    for (d->steps = 0; d->steps < d->most; d->steps++) {
        problem_at(q, at, gradient, d->steps == 0 ? &d->first : NULL);
        if (d->tolerance > 0 && problem_steepness(q, gradient) <= d->tolerance)
            break;
        for (size_t i = 0; i < size; i++)
            at[i] -= d->rate * gradient[i];
    }
    problem_at(q, at, gradient, &d->loss);
    d->steepness = problem_steepness(q, gradient);
    d->reached = d->steepness <= d->tolerance;
    free(gradient);
    if (!isfinite(d->loss) || !isfinite(d->steepness))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "the steps grow without bound: a smaller --lr, or --standardize");
    return APR_OK;
}
