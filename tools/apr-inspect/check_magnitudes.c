/* Of stage 7: magnitudes that no weight has, by those of the tensor's own role and by the model's type. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "flow/input.h"
#include "flow/pass.h"
#include "values/dtype.h"

#define MOST_TIMES  1e6   /* the median magnitude of a role */
#define LEAST_LIMIT 1.0   /* a matrix that decayed to nothing may hold a few plain values; a vector, one that is large */
#define PER_PIECE   APR_CHUNK

/* A magnitude's float without its sign and its lower 16 bits; a BF16 is told whole. */
#define CLASSES 32768

/* ---- the median of a role, exactly ---------------------------------------------------------------------------------- */

struct counting {
    const struct inspection *x;
    const struct role       *role;
    uint64_t                 of[CLASSES];
};

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

static const struct apr_tensor *tensor_of(const struct counting *c, size_t i) { return &c->x->m->tensor[c->role->tensor[i]]; }

static struct apr_cut cut(void *ctx, size_t i, unsigned mode)
{
    const struct apr_tensor *t = tensor_of(ctx, i);
    (void)mode;
    return (struct apr_cut){ (t->count - 1) / PER_PIECE + 1, 16, APR_ALONE, t->data.n };
}

static enum apr_code make(void *ctx, const struct apr_pieces *pieces, void *scratch, void *result, struct apr_error *e)
{
    const struct counting *c = ctx;
    const struct apr_tensor *t = tensor_of(c, pieces->input);
    const struct apr_input in = apr_input_of(c->x->o->cli.run.kernels, c->x->m, t);
    const uint64_t begin = pieces->first * PER_PIECE, end = apr_min(t->count, begin + pieces->n * PER_PIECE);
    uint64_t *of = result;
    double v[APR_STRETCH];
    (void)e;
    memset(of, 0, CLASSES * sizeof *of);
    for (uint64_t at = begin; at < end; at += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, end - at);
        apr_input_doubles(&in, scratch, at, n, v);
        for (size_t i = 0; i < n; i++)
            if (isfinite(v[i]) && v[i] != 0)
                of[class_of(v[i])]++;
    }
    apr_window_rest(scratch);
    return APR_OK;
}

static enum apr_code take(void *ctx, const struct apr_pieces *pieces, const void *result, struct apr_error *e)
{
    struct counting *c = ctx;
    const uint64_t *of = result;
    (void)pieces, (void)e;
    for (unsigned k = 0; k < CLASSES; k++)
        c->of[k] += of[k];
    return APR_OK;
}

static void enter(void *ctx, void *scratch)
{
    const struct counting *c = ctx;
    *(struct apr_window *)scratch = apr_window_of(&c->x->o->cli.run);
}

static void leave(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(scratch);
}

/* That of the role's values that are not 0. */
static enum apr_code median_of(const struct inspection *x, const struct role *r, double *middle, struct apr_error *e)
{
    struct counting *c = calloc(1, sizeof *c);
    if (c == NULL)
        return apr_no_memory(e);
    c->x = x;
    c->role = r;
    const struct apr_job job = { .what = "checking", .ctx = c, .ninput = r->n, .result = CLASSES * sizeof(uint64_t),
                                 .scratch = sizeof(struct apr_window), .cut = cut, .make = make, .take = take, .enter = enter,
                                 .leave = leave };
    const enum apr_code code = apr_pass(&x->o->cli.run, &job, e);
    uint64_t all = 0, below = 0;
    unsigned k = 0;
    for (unsigned i = 0; i < CLASSES; i++)
        all += c->of[i];
    while (k + 1 < CLASSES && below + c->of[k] < (all + 1) / 2)
        below += c->of[k++];
    *middle = value_of(k);
    free(c);
    return code;
}

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

/* The type most weights are stored in, when that has 16 bits, and the largest number it holds; 0 when there is none. */
static double held_by_model(const struct inspection *x, const char **type)
{
    uint64_t all = 0, f16 = 0, bf16 = 0;
    for (size_t i = 0; i < x->m->ntensor; i++) {
        const struct apr_tensor *t = &x->m->tensor[i];
        all += t->count;
        f16 += t->dtype == &apr_dtypes[APR_F16] ? t->count : 0;
        bf16 += t->dtype == &apr_dtypes[APR_BF16] ? t->count : 0;
    }
    *type = f16 > all / 2 ? "F16" : "BF16";
    return f16 > all / 2 ? 65504 : bf16 > all / 2 ? 0x1.FEp127 : 0;
}

/* Does a converter make it, in F32 whatever the model is stored in? */
static bool is_made(const struct inspection *x, const struct apr_tensor *t)
{
    struct apr_meaning s;
    return x->binding != NULL && apr_binding_meaning(x->binding, t, 0, &s) && s.role->generated != APR_NOT_GENERATED;
}

static enum apr_code judge_role(struct inspection *x, const struct role *r, const struct moments *moments, double held, const char *type,
                                struct apr_error *e)
{
    double middle, most, least = moments[r->tensor[0]].vector ? MOST_TIMES : LEAST_LIMIT;
    sampled(r, moments, &middle, &most);
    const bool far = most > fmax(least, MOST_TIMES * middle);
    if (!far && (held == 0 || most <= held))
        return APR_OK;
    if (far)
        APR_TRY(median_of(x, r, &middle, e));
    for (size_t i = 0; i < r->n; i++) {
        const double v = moments[r->tensor[i]].most;
        const struct apr_bytes name = x->m->tensor[r->tensor[i]].name;
        if (far && v > fmax(least, MOST_TIMES * middle))
            APR_TRY(add_finding(&x->findings, "values.range", name, e,
                                "tensor %s: its largest magnitude is %.4g, more than a million times %.4g, the median of its role",
                                APR_QUOTED(name), v, middle));
        else if (held > 0 && v > held && !apr_bytes_have(name, "mask") && !is_made(x, &x->m->tensor[r->tensor[i]]))
            APR_TRY(add_finding(&x->findings, "values.range", name, e,
                                "tensor %s: its largest magnitude is %.6g, more than %s holds, in which the model is stored",
                                APR_QUOTED(name), v, type));
    }
    return APR_OK;
}

enum apr_code check_magnitudes(struct inspection *x, const struct roles *r, const struct moments *moments, struct apr_error *e)
{
    const char *type;
    const double held = held_by_model(x, &type);
    for (size_t i = 0; i < r->n; i++)
        APR_TRY(judge_role(x, &r->at[i], moments, held, type, e));
    return APR_OK;
}
