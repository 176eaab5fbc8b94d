/* What was learned, as text and as JSON. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "fit.h"
#include "ui/report.h"

#define LARGEST 10 /* weights that are shown */

static const char *optimizer_word(const struct fit *f) { return f->direct ? "qr" : f->o->optimizer == FIT_GD ? "gd" : "lbfgs"; }

/* The name of a feature, or its number among them. */
static struct apr_bytes feature_word(const struct fit *f, size_t i, char room[32])
{
    if (f->d.name != NULL)
        return f->d.name[i];
    snprintf(room, 32, "x%zu", i + 1);
    return apr_text(room);
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void out_score(struct apr_out *o, const char *key, const struct fit *f, const struct score *s)
{
    apr_out_open(o, key, '{');
    apr_out_count(o, "rows", s->n);
    apr_out_real(o, "score", fit_score(f, s));
    apr_out_real(o, f->logistic ? "log_loss" : "rmse", f->logistic ? s->log_loss : sqrt(s->rss / (double)s->n));
    apr_out_close(o, '}');
}

static void out_cv(struct apr_out *o, const struct fit *f)
{
    if (!f->o->cv_given) {
        apr_out_null(o, "cv");
        return;
    }
    apr_out_open(o, "cv", '{');
    apr_out_count(o, "folds", f->o->cv);
    apr_out_real(o, "mean", f->cv_mean);
    apr_out_real(o, "std", f->cv_std);
    apr_out_close(o, '}');
}

static void out_weights(struct apr_out *o, const struct fit *f)
{
    apr_out_open(o, "weights", '[');
    for (size_t k = 0; k < f->outputs; k++) {
        apr_out_open(o, NULL, '[');
        for (size_t j = 0; j < f->d.p; j++)
            apr_out_real(o, NULL, f->w[k * f->d.p + j]);
        apr_out_close(o, ']');
    }
    apr_out_close(o, ']');
    apr_out_open(o, "bias", '[');
    for (size_t k = 0; k < f->outputs; k++)
        apr_out_real(o, NULL, f->b[k]);
    apr_out_close(o, ']');
}

static void out_columns(struct apr_out *o, const struct fit *f)
{
    char room[32];
    apr_out_open(o, "columns", '[');
    for (size_t j = 0; j < f->d.p; j++)
        apr_out_bytes(o, NULL, feature_word(f, j, room));
    apr_out_close(o, ']');
}

static void out_classes(struct apr_out *o, const struct fit *f)
{
    if (!f->logistic) {
        apr_out_null(o, "classes");
        return;
    }
    apr_out_open(o, "classes", '[');
    for (size_t i = 0; i < f->d.nclass; i++)
        apr_out_raw(o, NULL, f->d.class[i].json);
    apr_out_close(o, ']');
}

static void out_fit(struct apr_out *o, const struct fit *f)
{
    apr_out_text(o, "model", f->logistic ? "logistic" : "linear");
    apr_out_count(o, "rows", f->d.n);
    out_columns(o, f);
    apr_out_count(o, "dropped_rows", f->d.left_out);
    out_classes(o, f);
    apr_out_text(o, "optimizer", optimizer_word(f));
    apr_out_count(o, "iterations", f->descent.steps);
    apr_out_bool(o, "converged", f->descent.reached);
    apr_out_real(o, "loss", f->descent.loss);
    apr_out_real(o, "gradient_max", f->descent.steepness);
    out_score(o, "train", f, &f->train);
    if (f->o->fraction_given)
        out_score(o, "test", f, &f->test);
    else
        apr_out_null(o, "test");
    out_cv(o, f);
    out_weights(o, f);
    apr_out_text(o, "output", f->o->cli.operand[1]);
}

static void report_json(const struct fit *f, const struct apr_error *why)
{
    struct apr_report r = { .out = &(struct apr_out){ .to = stdout }, .schema = "apr-linear/1", .file = f->o->cli.operand[0] };
    apr_report_begin(&r);
    if (why == NULL)
        out_fit(r.out, f);
    apr_report_end(&r, why);
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

static void print_model(const struct fit *f)
{
    printf("model      %s%s", f->logistic ? "logistic" : "linear", f->o->model_given ? "" : ", as its target is");
    if (f->logistic) {
        printf(", %zu classes:", f->d.nclass);
        for (size_t i = 0; i < f->d.nclass && i < LARGEST; i++) {
            printf("%s ", i == 0 ? "" : ",");
            apr_print_bytes(stdout, f->d.class[i].text);
        }
        printf("%s", f->d.nclass > LARGEST ? ", ..." : "");
    }
    printf("\nrows       %zu", f->d.n);
    if (f->d.left_out > 0)
        printf(", %" PRIu64 " left out", f->d.left_out);
    printf("\ncolumns    %zu\n", f->d.p);
}

static void print_score(const struct fit *f, const char *word, const struct score *s)
{
    const char *const score = fabs(fit_score(f, s)) < 1000 ? "%-10s %s %.4f, %s %.4g" : "%-10s %s %.4g, %s %.4g";
    printf(score, word, f->logistic ? "accuracy" : "R2", fit_score(f, s), f->logistic ? "log loss" : "RMSE",
           f->logistic ? s->log_loss : sqrt(s->rss / (double)s->n));
    printf(f->o->fraction_given ? ", %zu rows\n" : "\n", s->n);
}

static void print_descent(const struct fit *f)
{
    const struct descent *const d = &f->descent;
    if (f->direct)
        printf("optimizer  least squares, by QR\n");
    else
        printf("optimizer  %s, %" PRIu64 " iteration%s, gradient %.2g%s\n", optimizer_word(f), d->steps, d->steps == 1 ? "" : "s", d->steepness,
               d->reached ? "" : ": not converged");
    printf("loss       %.6g\n", d->loss);
}

/* The numbers of the largest weights, largest first. */
static size_t find_largest(const struct fit *f, size_t best[LARGEST])
{
    size_t n = 0;
    for (size_t i = 0; i < f->outputs * f->d.p; i++) {
        size_t at = n;
        while (at > 0 && fabs(f->w[i]) > fabs(f->w[best[at - 1]]))
            at--;
        if (at == LARGEST)
            continue;
        n += n < LARGEST;
        memmove(best + at + 1, best + at, (n - at - 1) * sizeof *best);
        best[at] = i;
    }
    return n;
}

static void print_weights(const struct fit *f)
{
    size_t best[LARGEST], wide = 0;
    char room[32];
    const size_t n = find_largest(f, best), p = f->d.p;
    for (size_t i = 0; i < n; i++) {
        const size_t columns = apr_columns(feature_word(f, best[i] % p, room));
        wide = columns > wide ? columns : wide;
    }
    for (size_t i = 0; i < n; i++) {
        const struct apr_bytes name = feature_word(f, best[i] % p, room);
        printf("%-10s ", i == 0 ? "weights" : "");
        apr_print_bytes(stdout, name);
        printf("%*s  %12.6g", (int)(wide - apr_columns(name)), "", f->w[best[i]]);
        if (f->outputs > 1) {
            printf("  ");
            apr_print_bytes(stdout, f->d.class[best[i] / p].text);
        }
        putchar('\n');
    }
    if (n < f->outputs * p)
        printf("           ... of %zu\n", f->outputs * p);
}

static void report_text(const struct fit *f)
{
    print_model(f);
    print_descent(f);
    print_score(f, "train", &f->train);
    if (f->o->fraction_given)
        print_score(f, "test", &f->test);
    if (f->o->cv_given)
        printf("cv         %" PRIu64 " folds: %s %.4f, standard deviation %.4f\n", f->o->cv, f->logistic ? "accuracy" : "R2", f->cv_mean, f->cv_std);
    print_weights(f);
    printf("written    ");
    apr_print_text(stdout, f->o->cli.operand[1]);
    putchar('\n');
}

static void warn(const struct fit *f, const char *why)
{
    struct apr_error e;
    if (f->o->cli.quiet)
        return;
    apr_fail(&e, APR_OK, APR_NOWHERE, "%s", why);
    apr_error_in(&e, f->o->cli.operand[0]);
    apr_cli_fail(&f->o->cli, &e);
}

static void warn_of_data(const struct fit *f)
{
    if (f->d.doubtful)
        warn(f, "the first row was taken for data, yet its target alone is text: if it is a header, --header yes");
}

static void warn_of_fit(const struct fit *f)
{
    if (f->separable)
        warn(f, "a plane parts the classes, so there is no optimum: --l2 gives it one");
    else if (f->o->optimizer == FIT_GD && f->descent.loss > f->descent.first)
        warn(f, "the loss is higher than it began: a smaller --lr, or --standardize");
    else if (!f->descent.reached && f->logistic && f->o->optimizer == FIT_LBFGS)
        warn(f, "not converged: --max-iter, --standardize or --l2 help");
}

int fit_report(const struct fit *f, const struct apr_error *why)
{
    if (f->o->cli.json)
        report_json(f, why);
    if (why != NULL)
        return apr_cli_fail(&f->o->cli, why);
    warn_of_data(f);
    warn_of_fit(f);
    if (!f->o->cli.json && !f->o->cli.quiet && !f->to_stdout)
        report_text(f);
    return APR_EXIT_YES;
}
