/* How often each magnitude occurs among some values. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "flow/input.h"
#include "flow/pass.h"

static unsigned class_of(double v)
{
    const float f = (float)fabs(v);
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (unsigned)apr_min(bits >> 16, 0x7F7F);
}

static double value_of(unsigned k)
{
    const uint32_t bits = (uint32_t)k << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

void count_classes(const struct apr_input *in, struct apr_window *w, uint64_t begin, uint64_t end, uint64_t of[CLASSES])
{
    double v[APR_STRETCH];
    for (uint64_t at = begin; at < end; at += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, end - at);
        apr_input_doubles(in, w, at, n, v);
        for (size_t i = 0; i < n; i++)
            if (isfinite(v[i]) && v[i] != 0)
                of[class_of(v[i])]++;
    }
}

double middle_of_classes(const uint64_t of[CLASSES])
{
    uint64_t all = 0, below = 0;
    unsigned k = 0;
    for (unsigned i = 0; i < CLASSES; i++)
        all += of[i];
    while (k + 1 < CLASSES && below + of[k] < (all + 1) / 2)
        below += of[k++];
    return value_of(k);
}

enum apr_code add_to_census(struct census *c, const uint64_t of[CLASSES], struct apr_error *e)
{
    size_t n = 0, old = 0;
    for (uint32_t k = 0, i = 0; k < CLASSES; k++) {
        const bool has = i < c->n && c->at[i].class == k;
        n += has || of[k] > 0;
        i += has;
    }
    struct counted *const at = malloc((n + 1) * sizeof *at);
    if (at == NULL)
        return apr_no_memory(e);
    n = 0;
    for (uint32_t k = 0; k < CLASSES; k++) {
        const bool has = old < c->n && c->at[old].class == k;
        if (has || of[k] > 0)
            at[n++] = (struct counted){ k, of[k] + (has ? c->at[old].n : 0) };
        old += has;
    }
    free(c->at);
    *c = (struct census){ at, n };
    return APR_OK;
}

/* ---- of a role ------------------------------------------------------------------------------------------------------ */

/* The role's values once more. */
struct counting {
    const struct inspection *x;
    const struct role       *role;
    uint64_t                 of[CLASSES];
};

static struct apr_cut cut_role(void *ctx, size_t i, unsigned mode)
{
    const struct counting *c = ctx;
    const struct apr_tensor *t = &c->x->m->tensor[c->role->tensor[i]];
    (void)mode;
    return (struct apr_cut){ (t->count - 1) / APR_CHUNK + 1, 16, APR_ALONE, t->data.n };
}

static enum apr_code make_role(void *ctx, const struct apr_pieces *pieces, void *scratch, void *result, struct apr_error *e)
{
    const struct counting *c = ctx;
    const struct apr_tensor *t = &c->x->m->tensor[c->role->tensor[pieces->input]];
    const struct apr_input in = apr_input_of(c->x->o->cli.run.kernels, c->x->m, t);
    (void)e;
    memset(result, 0, CLASSES * sizeof(uint64_t));
    count_classes(&in, scratch, pieces->first * APR_CHUNK, apr_min(t->count, (pieces->first + pieces->n) * APR_CHUNK), result);
    apr_window_rest(scratch);
    return APR_OK;
}

static enum apr_code take_role(void *ctx, const struct apr_pieces *pieces, const void *result, struct apr_error *e)
{
    struct counting *c = ctx;
    const uint64_t *of = result;
    (void)pieces, (void)e;
    for (unsigned k = 0; k < CLASSES; k++)
        c->of[k] += of[k];
    return APR_OK;
}

static void enter_role(void *ctx, void *scratch)
{
    const struct counting *c = ctx;
    *(struct apr_window *)scratch = apr_window_of(&c->x->o->cli.run);
}

static void leave_role(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(scratch);
}

enum apr_code middle_of_role(void *inspection, const struct role *r, double *middle, struct apr_error *e)
{
    const struct inspection *const x = inspection;
    struct counting *c = calloc(1, sizeof *c);
    if (c == NULL)
        return apr_no_memory(e);
    c->x = x;
    c->role = r;
    const struct apr_job job = { .what = "checking", .ctx = c, .ninput = r->n, .result = CLASSES * sizeof(uint64_t),
                                 .scratch = sizeof(struct apr_window), .cut = cut_role, .make = make_role, .take = take_role,
                                 .enter = enter_role, .leave = leave_role };
    const enum apr_code code = apr_pass(&x->o->cli.run, &job, e);
    *middle = middle_of_classes(c->of);
    free(c);
    return code;
}
