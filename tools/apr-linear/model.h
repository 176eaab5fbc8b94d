/* A linear model, whole in memory: what predict and serve answer from. */
#ifndef APR_LINEAR_MODEL_H
#define APR_LINEAR_MODEL_H

#include "base/arena.h"
#include "values/kernels.h"

/* A class as CSV and metrics have it, and as JSON has it: "setosa" in quotes, 3 as it was spelled. */
struct linear_class {
    struct apr_bytes text, json;
};

/* A class that is text: both, in the arena. */
APR_MUST_CHECK enum apr_code linear_class_spell(struct linear_class *c, struct apr_bytes text, struct apr_arena **a, struct apr_error *e);

/* What a model that says nothing is taken for, and has one output: --as. */
enum linear_as { LINEAR_AS_SAID, LINEAR_AS_LINEAR, LINEAR_AS_LOGISTIC };

/* It owns all it points at, and is not changed once it is loaded: any number of threads may answer from it.
 *   name        stem of its file, or the folder's name
 *   model_type  "logistic_regression" or "linear_regression"
 *   version     its content hash, as apr-inspect --hash prints it
 *   weight      [outputs, inputs], row-major, floats where these hold what is stored and there are many, else wide is there; the other
 *               is NULL
 *   bias        outputs of them, zeros where none is stored
 *   class       nclass of them, in their order; 0: its answer is a number. Two classes may have one output
 *   feature     nfeature names, one an input, no two alike; 0: columns count. by_name: the number of each */
struct linear_model {
    const char               *name, *model_type;
    char                      version[33];
    size_t                    inputs, outputs;
    float                    *weight;
    double                   *wide, *bias;
    struct linear_class      *class;
    size_t                    nclass;
    struct apr_bytes         *feature;
    size_t                    nfeature;
    struct apr_table          by_name;
    const struct apr_kernels *kernels;
    struct apr_arena         *arena;
};

/* Loads the model at path, any that apr_open knows of the family linear. e names the file. Free with linear_free. */
APR_MUST_CHECK enum apr_code linear_load(struct linear_model **m, const char *path, enum linear_as as, const struct apr_run *r,
                                         struct apr_error *e);
void linear_free(struct linear_model *m); /* NULL is nothing */

/* The number of the input of that name, or m->inputs. */
size_t linear_feature(const struct linear_model *m, struct apr_bytes name);

/* z = Wx + b, outputs of them. The same bits at every ISA level, and for a row alone or among others. */
void linear_answer(const struct linear_model *m, const double *x, double *z);

/* Of a model with classes: the one that z speaks for, and where p is not NULL, the nclass probabilities in class order. Two classes of one
 * output are p = 1 / (1 + exp(-z)), of which the later wins at 0.5; others a softmax, ties going to the lower class. */
size_t linear_choose(const struct linear_model *m, const double *z, double *p);

#endif
