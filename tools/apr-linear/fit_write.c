/* MODEL.apr: weight, bias, and what they are of. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "fit.h"
#include "flow/plan.h"
#include "model/format.h"
#include "ui/report.h"

/* ---- metadata -------------------------------------------------------------------------------------------------------- */

/* key = what write makes of the fit, in JSON. */
static enum apr_code put(struct apr_draft *meta, const char *key, const struct fit *f, void (*write)(struct apr_out *, const struct fit *),
                         struct apr_error *e)
{
    char *text;
    size_t n;
    FILE *const to = apr_memstream(&text, &n);
    if (to == NULL)
        return apr_no_memory(e);
    write(&(struct apr_out){ .to = to }, f);
    enum apr_code code = fclose(to) == 0 ? APR_OK : apr_no_memory(e);
    if (code == APR_OK)
        code = apr_draft_json(meta, key, (struct apr_bytes){ (const unsigned char *)text, n }, e);
    free(text);
    return code;
}

static void write_classes(struct apr_out *o, const struct fit *f)
{
    apr_out_open(o, NULL, '[');
    for (size_t i = 0; i < f->d.nclass; i++)
        apr_out_raw(o, NULL, f->d.class[i].json);
    apr_out_close(o, ']');
}

static void write_features(struct apr_out *o, const struct fit *f)
{
    apr_out_open(o, NULL, '[');
    for (size_t i = 0; i < f->d.p; i++)
        apr_out_bytes(o, NULL, f->d.name[i]);
    apr_out_close(o, ']');
}

static void write_l2(struct apr_out *o, const struct fit *f) { apr_out_real(o, NULL, f->o->l2); }
static void write_size(struct apr_out *o, const struct fit *f) { apr_out_count(o, NULL, f->outputs * (f->d.p + 1) * (f->o->dtype == 0 ? 4 : 8)); }
static void write_count(struct apr_out *o, const struct fit *f) { apr_out_count(o, NULL, f->outputs * (f->d.p + 1)); }

static enum apr_code put_metadata(struct apr_draft *meta, const struct fit *f, struct apr_error *e)
{
    const struct apr_value none = { .type = APR_META_NULL, .encoding = APR_JSON };
    APR_TRY(apr_draft_text(meta, "model_type", apr_text(f->logistic ? "logistic_regression" : "linear_regression"), e));
    APR_TRY(apr_draft_put(meta, apr_text("license"), &none, e));
    APR_TRY(apr_draft_put(meta, apr_text("data_source"), &none, e));
    APR_TRY(apr_draft_put(meta, apr_text("data_license"), &none, e));
    APR_TRY(put(meta, "total_size", f, write_size, e));
    APR_TRY(put(meta, "param_count", f, write_count, e));
    APR_TRY(apr_draft_text(meta, "architecture", apr_text(f->logistic ? "LogisticRegression" : "LinearRegression"), e));
    if (f->d.nclass > 0)
        APR_TRY(put(meta, "classes", f, write_classes, e));
    if (f->d.name != NULL)
        APR_TRY(put(meta, "features", f, write_features, e));
    APR_TRY(apr_draft_text(meta, "objective", apr_text(!f->logistic ? "least_squares" : f->outputs == 1 ? "logistic" : "softmax"), e));
    return put(meta, "l2", f, write_l2, e);
}

/* ---- tensors --------------------------------------------------------------------------------------------------------- */

/* As floats, which they must fit. */
static enum apr_code round_all(const double *x, size_t n, float *to, const char *name, struct apr_error *e)
{
    for (size_t i = 0; i < n; i++) {
        if (fabs(x[i]) > FLT_MAX)
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, apr_text(name), ": %g fits no F32: --dtype f64", x[i]);
        to[i] = (float)x[i];
    }
    return APR_OK;
}

static enum apr_code plan_tensor(struct apr_plan *p, const struct fit *f, const char *name, unsigned ndim, const double *x, float *rounded,
                                 struct apr_error *e)
{
    const bool narrow = f->o->dtype == 0;
    struct apr_planned t = { .name = apr_text(name), .dtype = &apr_dtypes[narrow ? APR_F32 : APR_F64], .ndim = ndim, .dim = { f->outputs, f->d.p },
                             .how = APR_GENERATE };
    if (ndim == 1)
        t.dim[1] = 0;
    if (narrow)
        APR_TRY(round_all(x, f->outputs * (ndim == 2 ? f->d.p : 1), rounded, name, e));
    t.values = narrow ? rounded : NULL;
    t.wide = narrow ? NULL : x;
    return apr_plan_add(p, &t, e);
}

static enum apr_code write_plan(struct apr_plan *p, const struct fit *f, float *rounded, struct apr_error *e)
{
    bool verified;
    APR_TRY(put_metadata(&p->meta, f, e));
    APR_TRY(plan_tensor(p, f, "weight", 2, f->w, rounded, e));
    APR_TRY(plan_tensor(p, f, "bias", 1, f->b, rounded + f->outputs * f->d.p, e));
    APR_TRY(apr_plan_place(p, e));
    const struct apr_run one = { .threads = 1, .kernels = f->o->cli.run.kernels, .tmpdir = f->o->cli.run.tmpdir };
    return apr_plan_write(p, &one, false, &verified, e);
}

enum apr_code fit_write(const struct fit *f, const char *path, struct apr_error *e)
{
    struct apr_plan p = { .format = apr_format_called("apr"), .out = path, .force = f->o->force, .unsynced = true };
    float *const rounded = malloc(f->outputs * (f->d.p + 1) * sizeof *rounded);
    const enum apr_code code = rounded == NULL ? apr_no_memory(e) : write_plan(&p, f, rounded, e);
    apr_plan_end(&p);
    free(rounded);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}
