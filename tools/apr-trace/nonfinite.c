/* The first value that is no finite number. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "trace.h"

static uint64_t first_bad(const float *x, uint64_t n)
{
    uint64_t i = 0;
    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

const char *spell_nonfinite(float v) { return isnan(v) ? "nan" : v > 0 ? "inf" : "-inf"; }

/* Which experts each position goes through: only these have a part in what comes of it. */
static enum apr_code keep_experts(struct trace *t, const struct apr_stage_values *v, struct apr_error *e)
{
    struct nonfinite *const f = &t->nonfinite;
    const size_t bytes = (size_t)(v->dim[0] * v->dim[1]) * sizeof *f->expert;
    float *const grown = realloc(f->expert, bytes + 1);
    if (grown == NULL)
        return apr_no_memory(e);
    memcpy(grown, v->values, bytes);
    f->expert = grown;
    f->used = v->dim[1];
    f->first = v->position;
    return APR_OK;
}

/* By positions first, then by heads: what comes of the first token tells most. */
enum apr_code find_nonfinite(struct trace *t, const struct apr_stage_values *v, struct apr_error *e)
{
    const unsigned at = v->ndim == 3 ? 1 : 0;
    const uint64_t heads = v->ndim == 3 ? v->dim[0] : 1, n = v->dim[at], width = v->dim[at + 1];
    if (v->stage == APR_STAGE_MOE_ROUTER_INDICES)
        APR_TRY(keep_experts(t, v, e));
    if (t->nonfinite.found || first_bad(v->values, heads * n * width) == heads * n * width)
        return APR_OK;
    for (uint64_t p = 0; p < n; p++)
        for (uint64_t h = 0; h < heads; h++) {
            const float *const row = v->values + (h * n + p) * width;
            const uint64_t i = first_bad(row, width);
            if (i == width)
                continue;
            struct nonfinite *const f = &t->nonfinite;
            f->found = true;
            f->layer = v->layer;
            f->stage = v->stage;
            f->position = v->position + p;
            f->index = h * width + i;
            f->value = row[i];
            find_culprit(t, f);
            return APR_OK;
        }
    return APR_OK;
}

/* The stage that has it is done. */
enum apr_code stop_run(struct trace *t, struct apr_error *e)
{
    t->stopped = true;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "a value is not finite");
}
