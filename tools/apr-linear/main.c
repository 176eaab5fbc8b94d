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

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < APR_LENGTH(verbs); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    struct apr_cli c = {
        .tool = "apr-linear",
        .synopsis = "fit|predict|serve ...",
        .about = "Fits, asks and serves the classic models: linear and logistic regression. Each verb has its own page: apr-linear fit --help.",
        .example = { "apr-linear fit DATA MODEL.apr", "apr-linear predict MODEL DATA", "apr-linear serve MODEL" },
    };
    int exit_code = apr_cli_parse(&c, argc, argv);
    if (exit_code < 0)
        exit_code = c.noperand == 0 ? apr_cli_usage(&c, "needs a verb: fit, predict or serve")
                                    : apr_cli_usage(&c, "\"%s\" is no verb: fit, predict and serve are", c.operand[0]);
    return apr_cli_finish(&c, exit_code);
}
