/* apr-linear fit: what was asked for, and what came of it. */
#ifndef APR_LINEAR_FIT_H
#define APR_LINEAR_FIT_H

#include "data.h"
#include "optimize.h"
#include "values/kernels.h"
#include "ui/cli.h"

enum fit_optimizer { FIT_LBFGS, FIT_GD };

struct fit_options {
    struct apr_cli   cli;
    struct data_wish data;
    unsigned         model, optimizer, dtype; /* indices into their words */
    bool             model_given, max_iter_given, tol_given, lr_given, seed_given, fraction_given, cv_given, standardize, force;
    double           l2, tol, lr, test_fraction;
    uint64_t         max_iter, seed, cv;
};

/* w [outputs, p] and b are of the features as they are; d.x is that less the origin of each column.
 *   to_stdout  the model goes where the answer would
 *   direct  by least squares, without steps
 *   separable  a plane has every row that was learned from on its own side, and nothing holds the weights back */
struct fit {
    const struct fit_options *o;
    struct data               d;
    size_t                    outputs;
    bool                      logistic, to_stdout, direct, separable;
    uint8_t                  *role;
    double                   *w, *b, *origin;
    struct apr_team          *team;
    struct descent            descent;
    struct score              train, test;
    double                    cv_mean, cv_std;
};

/* What a score comes to: the share of rows that are right, or R2. */
double fit_score(const struct fit *f, const struct score *s);

/* Learns: fills the second part of *f, whose data are read. */
APR_MUST_CHECK enum apr_code fit_learn(struct fit *f, struct apr_error *e);

/* The row's place in the unit interval, by which it is held back (which 0) or belongs to a fold (which 1): the same everywhere. */
double fit_place(uint64_t seed, uint64_t row, unsigned which);

/* Writes the model. */
APR_MUST_CHECK enum apr_code fit_write(const struct fit *f, const char *path, struct apr_error *e);

/* Tells what was learned, or with an error that nothing was; returns the exit code. */
int fit_report(const struct fit *f, const struct apr_error *why);

#endif
