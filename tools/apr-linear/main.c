#include <string.h>

#include "linear.h"
#include "ui/cli.h"

static const struct apr_verb verbs[] = {
    { "fit", fit_main, "learns a linear or logistic model from CSV, NumPy or SafeTensors" },
    { "predict", predict_main, "answers each row of data with a row" },
    { "serve", serve_main, "answers over HTTP" },
    { 0 },
};

static const struct apr_said linear_files[] = {
    { "*.csv, *.tsv, *.npy, *.safetensors", "data: columns with names or without, an array, the tensors X and y" },
    { "*.apr, *.gguf, *.safetensors", "a model, told by its content; fit writes APR" },
    { "-", "standard input, standard output" },
    { 0 },
};

/* The verb of that name, or NULL. */
static const struct apr_verb *verb_called(const char *name)
{
    for (size_t i = 0; verbs[i].name != NULL; i++)
        if (strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    return NULL;
}

/* Why there is nothing to do. */
static int no_verb(const struct apr_cli *c)
{
    if (c->noperand == 0)
        return apr_cli_usage(c, "needs a verb: fit, predict or serve");
    if (verb_called(c->operand[0]) != NULL)
        return apr_cli_usage(c, "options stand behind the verb: apr-linear %s ...", c->operand[0]);
    return apr_cli_usage(c, "\"%s\" is no verb: fit, predict and serve are", c->operand[0]);
}

int main(int argc, char **argv)
{
    const struct apr_verb *const verb = argc > 1 ? verb_called(argv[1]) : NULL;
    if (verb != NULL)
        return verb->run(argc - 1, argv + 1);
    struct apr_cli c = {
        .tool = "apr-linear",
        .synopsis = "fit|predict|serve ...",
        .about = "Fits, asks and serves the classic models: linear and logistic regression. Each verb has its own page: apr-linear fit --help.",
        .example = { "apr-linear fit iris.csv iris.apr", "apr-linear predict iris.apr iris.csv --score", "apr-linear serve iris.apr" },
        .brief = "fits, asks and serves linear models",
        .files = "",
        .file = linear_files,
        .verb = verbs,
    };
    int exit_code = apr_cli_parse(&c, argc, argv);
    if (exit_code < 0)
        exit_code = no_verb(&c);
    return apr_cli_finish(&c, exit_code);
}
