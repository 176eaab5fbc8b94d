#include "fit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files/sink.h"
#include "files/source.h"
#include "linear.h"

#define MOST_FOLDS 1000

static int check_usage(const struct fit_options *o)
{
    const struct apr_cli *const c = &o->cli;
    if (c->noperand != 2)
        return apr_cli_usage(c, "needs the data and the model to be written, got %zu", c->noperand);
    if (o->l2 < 0)
        return apr_cli_usage(c, "--l2 takes 0 or more");
    if (o->lr_given && (o->optimizer != FIT_GD || o->lr <= 0))
        return apr_cli_usage(c, o->lr <= 0 ? "--lr takes more than 0" : "--lr has no effect without --optimizer gd");
    if (o->tol_given && o->tol < 0)
        return apr_cli_usage(c, "--tol takes 0 or more");
    if (o->max_iter_given && o->max_iter == 0)
        return apr_cli_usage(c, "--max-iter takes more than 0");
    if (o->fraction_given && !(o->test_fraction > 0 && o->test_fraction < 1))
        return apr_cli_usage(c, "--test-fraction is between 0 and 1");
    if (o->cv_given && (o->cv < 2 || o->cv > MOST_FOLDS))
        return apr_cli_usage(c, "--cv takes 2 to %d folds", MOST_FOLDS);
    if (o->seed_given && !o->cv_given && !o->fraction_given)
        return apr_cli_usage(c, "--seed has no effect without --test-fraction or --cv");
    if (c->json && strcmp(c->operand[1], "-") == 0)
        return apr_cli_usage(c, "the model and --json would share standard output");
    if (o->data.table.delimiter != NULL && !table_is_delimiter(o->data.table.delimiter))
        return apr_cli_usage(c, "--delimiter is one character, no quote and no end of a line, or \\t");
    return -1;
}

static void fill_defaults(struct fit_options *o)
{
    const bool gd = o->optimizer == FIT_GD;
    o->max_iter = o->max_iter_given ? o->max_iter : gd ? 100 : 1000;
    o->tol = o->tol_given ? o->tol : gd ? 0 : 1e-8;
    o->data.path = o->cli.operand[0];
    o->data.learn = !o->model_given ? LEARN_AUTO : o->model == 0 ? LEARN_LOGISTIC : LEARN_LINEAR;
}

/* Before anything is learned: the model can be written, and replaces nothing that is wanted. */
static enum apr_code check_output(struct fit *f, struct apr_error *e)
{
    const struct fit_options *const o = f->o;
    const char *const path = o->cli.operand[1];
    struct apr_target t;
    enum apr_code code = apr_target_find(&t, path, e);
    const bool file = code == APR_OK && t.stream < 0 && t.exists && S_ISREG(t.st.st_mode); /* a device or a pipe replaces nothing */
    f->to_stdout = code == APR_OK && t.stream == STDOUT_FILENO;
    if (file && apr_source_is_open(t.st.st_dev, t.st.st_ino))
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: it is an input");
    else if (file && !o->force)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "is there already; --force replaces it");
    else if (f->to_stdout && o->cli.json)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "the model and --json would share standard output");
    apr_target_free(&t);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

static enum apr_code fit_all(struct fit *f, struct apr_error *e)
{
    const struct fit_options *const o = f->o;
    APR_TRY(data_read(&f->d, &o->data, &o->cli.run, e));
    APR_TRY(check_output(f, e));
    const enum apr_code code = fit_learn(f, e);
    if (code != APR_OK) {
        apr_error_in(e, o->data.path);
        return code;
    }
    return fit_write(f, o->cli.operand[1], e);
}

static int run(struct fit_options *o)
{
    struct fit f = { .o = o };
    struct apr_error e;
    const int told = check_usage(o);
    if (told >= 0)
        return told;
    fill_defaults(o);
    const enum apr_code code = fit_all(&f, &e);
    const int exit_code = fit_report(&f, code == APR_OK ? NULL : &e);
    apr_team_free(f.team);
    data_free(&f.d);
    free(f.role);
    free(f.w);
    free(f.b);
    free(f.origin);
    return exit_code;
}

int fit_main(int argc, char **argv)
{
    struct fit_options o = { .lr = 0.1 };
    const struct apr_option option[] = {
        { "--model", APR_OPTION_CHOICE, &o.model, "logistic|linear",
          "default: logistic where the target is text or at most 20 distinct integers", .given = &o.model_given },
        { "--target", APR_OPTION_TEXT, &o.data.table.target, "NAME|N", "the column to be learned, by name or number; default: the last" },
        { "--target-file", APR_OPTION_INPUT, &o.data.target_file, "FILE.npy", "the target, of data that are a NumPy array", .against = "--target",
          .files = "npy" },
        { "--drop", APR_OPTION_LIST, &o.data.table.drop, "NAME", "a column that is not looked at; repeatable" },
        { "--header", APR_OPTION_CHOICE, &o.data.table.header, "auto|yes|no",
          "the first row names the columns; auto: where a field of it, other than the target's, is text" },
        { "--delimiter", APR_OPTION_TEXT, &o.data.table.delimiter, "C", "what parts fields; default: a comma, or a tab where the first line has tabs alone" },
        { "--missing", APR_OPTION_CHOICE, &o.data.table.missing, "error|drop", "rows with a field that is no finite number; drop leaves them out" },
        { "--l2", APR_OPTION_REAL, &o.l2, "F", "weight of the penalty l2/2 sum W^2; default 0" },
        { "--optimizer", APR_OPTION_CHOICE, &o.optimizer, "lbfgs|gd",
          "lbfgs: to the optimum, a linear model by QR; gd: gradient descent from zero" },
        { "--max-iter", APR_OPTION_COUNT, &o.max_iter, "N", "steps at most; default 1000, gd: 100", .given = &o.max_iter_given },
        { "--tol", APR_OPTION_REAL, &o.tol, "F", "the largest component of the gradient to stop at; default 1e-8, gd: 0, never early",
          .given = &o.tol_given },
        { "--lr", APR_OPTION_REAL, &o.lr, "F", "of gd, the step as a share of the gradient; default 0.1", .given = &o.lr_given },
        { "--standardize", APR_OPTION_FLAG, &o.standardize, NULL,
          "fit columns of mean 0 and standard deviation 1; the weights are of the columns as they are, the penalty is not" },
        { "--test-fraction", APR_OPTION_REAL, &o.test_fraction, "F", "hold back a share of the rows, and score on them", .given = &o.fraction_given },
        { "--cv", APR_OPTION_COUNT, &o.cv, "K", "score on each of K folds, learning from the others", .given = &o.cv_given },
        { "--seed", APR_OPTION_COUNT, &o.seed, "N", "another choice of rows; default 0", .given = &o.seed_given },
        { "--dtype", APR_OPTION_CHOICE, &o.dtype, "f32|f64", "of the stored weights" },
        { "--force", APR_OPTION_FLAG, &o.force, NULL, "replace the model that is there" },
    };
    o.cli = (struct apr_cli){
        .tool = "apr-linear",
        .synopsis = "fit DATA MODEL.apr",
        .about = "Learns a linear or logistic model from CSV, a NumPy array or SafeTensors (X and y), and writes it as an APR file: the same bytes "
                 "at any number of threads, on any CPU.",
        .example = { "apr-linear fit iris.csv iris.apr --l2 0.01",
                     "apr-linear fit prices.csv prices.apr --target price --drop id --standardize --cv 5" },
        .option = option,
        .noption = APR_LENGTH(option),
        .files = "csv tsv npy safetensors apr",
    };
    int exit_code = apr_cli_parse(&o.cli, argc, argv);
    if (exit_code < 0)
        exit_code = run(&o);
    return apr_cli_finish(&o.cli, exit_code);
}
