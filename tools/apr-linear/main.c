#include <string.h>

#include "linear.h"
#include "ui/cli.h"

static const struct verb {
    const char *name;
    int       (*run)(int argc, char **argv);
} verbs[] = {
    { "fit", fit_main },
    { "predict", predict_main },
    { "serve", serve_main },
};

/* The verb of that name, or NULL. */
static const struct verb *verb_called(const char *name)
{
    for (size_t i = 0; i < APR_LENGTH(verbs); i++)
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
    const struct verb *const verb = argc > 1 ? verb_called(argv[1]) : NULL;
    if (verb != NULL)
        return verb->run(argc - 1, argv + 1);
    struct apr_cli c = {
        .tool = "apr-linear",
        .synopsis = "fit|predict|serve ...",
        .about = "Fits, asks and serves the classic models: linear and logistic regression. Each verb has its own page: apr-linear fit --help.",
        .example = { "apr-linear fit DATA MODEL.apr", "apr-linear predict MODEL DATA", "apr-linear serve MODEL" },
    };
    int exit_code = apr_cli_parse(&c, argc, argv);
    if (exit_code < 0)
        exit_code = no_verb(&c);
    return apr_cli_finish(&c, exit_code);
}
