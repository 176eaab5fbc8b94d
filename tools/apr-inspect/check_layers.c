/* Stage 9: a tensor against those that play its part in the other layers. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* A deviation of a matrix counts in units of 1.4826 MAD, the std of a normal distribution, or of 5 % of the spread where layers are more
 * alike than that; sound models stay below. Norms and biases differ by layer in sound models: theirs counts in sizes of the median. */
#define LEAST_LAYERS 8
#define MOST_Z       12.0
#define MOST_TIMES   1000.0
#define MAD_TO_STD   1.4826
#define LEAST_UNIT   0.05

/* Of one role, those that count, and room for numbers of each. */
struct layers {
    struct findings      *findings;
    const struct moments *moments;
    size_t               *tensor, n;
    double               *mean, *std, *v;
    struct apr_error     *e;
};

/* The median of a column, and that of the distances from it; v has room for n. */
static double spread_of(const double *column, size_t n, double *v, double *middle)
{
    memcpy(v, column, n * sizeof *v);
    *middle = median(v, n);
    for (size_t i = 0; i < n; i++)
        v[i] = fabs(column[i] - *middle);
    return MAD_TO_STD * median(v, n);
}

/* Tells of number i when `tell`; is it an outlier? */
static enum apr_code judge_matrix(struct layers *l, size_t i, const double middle[2], const double unit[2], size_t noutlier, bool *is)
{
    const double least = LEAST_UNIT * middle[1];
    const double z[2] = { (l->mean[i] - middle[0]) / fmax(unit[0], least), (l->std[i] - middle[1]) / fmax(unit[1], least) };
    const unsigned worse = fabs(z[1]) >= fabs(z[0]);
    const struct apr_bytes name = l->moments[l->tensor[i]].name;
    *is = fabs(z[worse]) > MOST_Z;
    if (!*is || noutlier == 0)
        return APR_OK;
    return add_finding_as(l->findings, noutlier == 1 ? APR_INFO : APR_WARNING, "layers.outlier", name, l->e,
                          "tensor %s: its %s is %.4g, the median of its %zu siblings %.4g (z = %.1f)", APR_QUOTED(name),
                          worse ? "std" : "mean", worse ? l->std[i] : l->mean[i], l->n, middle[worse], z[worse]);
}

/* All outliers are counted before the first is told: a lone one may be meant. */
static enum apr_code judge_matrices(struct layers *l)
{
    double middle[2];
    const double unit[2] = { spread_of(l->mean, l->n, l->v, &middle[0]), spread_of(l->std, l->n, l->v, &middle[1]) };
    size_t noutlier = 0;
    bool is;
    for (size_t i = 0; i < l->n; i++) {
        APR_TRY(judge_matrix(l, i, middle, unit, 0, &is));
        noutlier += is;
    }
    for (size_t i = 0; noutlier > 0 && i < l->n; i++)
        APR_TRY(judge_matrix(l, i, middle, unit, noutlier, &is));
    return APR_OK;
}

static enum apr_code judge_vectors(struct layers *l)
{
    size_t noutlier = 0;
    for (size_t i = 0; i < l->n; i++)
        l->v[i] = l->mean[i] = sqrt(l->mean[i] * l->mean[i] + l->std[i] * l->std[i]);
    const double middle = median(l->v, l->n);
    for (size_t i = 0; i < l->n; i++)
        noutlier += l->mean[i] > MOST_TIMES * middle;
    for (size_t i = 0; i < l->n; i++) {
        const struct apr_bytes name = l->moments[l->tensor[i]].name;
        if (l->mean[i] > MOST_TIMES * middle)
            APR_TRY(add_finding_as(l->findings, noutlier == 1 ? APR_INFO : APR_WARNING, "layers.outlier", name, l->e,
                                   "tensor %s: its rms is %.4g, the median of its %zu siblings %.4g", APR_QUOTED(name), l->mean[i], l->n,
                                   middle));
    }
    return APR_OK;
}

static enum apr_code judge_role(struct layers *l, const struct role *r)
{
    l->n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (l->moments[r->tensor[i]].usable) {
            l->mean[l->n] = l->moments[r->tensor[i]].mean;
            l->std[l->n] = l->moments[r->tensor[i]].std;
            l->tensor[l->n++] = r->tensor[i];
        }
    if (l->n < LEAST_LAYERS)
        return APR_OK;
    return l->moments[l->tensor[0]].vector ? judge_vectors(l) : judge_matrices(l);
}

enum apr_code check_layers(const struct judging *j, const struct roles *r, struct apr_error *e)
{
    const size_t room = j->n + 1;
    double *v = malloc(3 * room * sizeof *v);
    struct layers l = { .findings = j->findings, .moments = j->moments, .tensor = malloc(room * sizeof *l.tensor), .e = e };
    enum apr_code code = v == NULL || l.tensor == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK) {
        l.mean = v;
        l.std = v + room;
        l.v = v + 2 * room;
    }
    for (size_t i = 0; i < r->n && code == APR_OK; i++)
        code = judge_role(&l, &r->at[i]);
    free(v);
    free(l.tensor);
    return code;
}
