/* Of stage 7: magnitudes that no weight has, by those of the tensor's own role and by the model's type. */
#include "check.h"

#include <math.h>

#include "base/bytes.h"

#define MOST_TIMES  1e6   /* the median magnitude of a role */
#define LEAST_LIMIT 1.0   /* a matrix that decayed to nothing may hold a few plain values; a vector, one that is large */

/* ---- one role ------------------------------------------------------------------------------------------------------- */

/* What its median is at least, by the samples; and its largest magnitude. */
static void sampled(const struct role *r, const struct moments *moments, double *middle, double *most)
{
    uint64_t of[MAGNITUDES] = { 0 }, all = 0, below = 0;
    unsigned k = 0;
    *most = 0;
    for (size_t i = 0; i < r->n; i++) {
        const struct moments *m = &moments[r->tensor[i]];
        *most = fmax(*most, m->most);
        for (unsigned j = 0; j < MAGNITUDES; j++) {
            of[j] += m->magnitude[j];
            all += m->magnitude[j];
        }
    }
    while (k + 1 < MAGNITUDES && below + of[k] < (all + 1) / 2)
        below += of[k++];
    *middle = least_of_class(k);
}

static enum apr_code judge_role(const struct judging *j, const struct role *r, struct apr_error *e)
{
    const struct moments *const moments = j->moments;
    double middle, most, least = moments[r->tensor[0]].vector ? MOST_TIMES : LEAST_LIMIT;
    sampled(r, moments, &middle, &most);
    const bool far = most > fmax(least, MOST_TIMES * middle);
    if (!far && (j->held == 0 || most <= j->held))
        return APR_OK;
    if (far)
        APR_TRY(j->middle(j->ctx, r, &middle, e));
    for (size_t i = 0; i < r->n; i++) {
        const struct moments *const m = &moments[r->tensor[i]];
        if (far && m->most > fmax(least, MOST_TIMES * middle))
            APR_TRY(add_finding(j->findings, "values.range", m->name, e,
                                "tensor %s: its largest magnitude is %.4g, more than a million times %.4g, the median of its role",
                                APR_QUOTED(m->name), m->most, middle));
        else if (j->held > 0 && m->most > j->held && !apr_bytes_have(m->name, "mask") && !m->made)
            APR_TRY(add_finding(j->findings, "values.range", m->name, e,
                                "tensor %s: its largest magnitude is %.6g, more than %s holds, in which the model is stored",
                                APR_QUOTED(m->name), m->most, j->type));
    }
    return APR_OK;
}

enum apr_code check_magnitudes(const struct judging *j, const struct roles *r, struct apr_error *e)
{
    for (size_t i = 0; i < r->n; i++)
        APR_TRY(judge_role(j, &r->at[i], e));
    return APR_OK;
}
