/* Names that differ in their numbers alone, told as one: "model.layers.{0-47}.input_layernorm.weight". */
#ifndef APR_FOLD_H
#define APR_FOLD_H

#include <stdio.h>

#include "base/core.h"

#define APR_FOLD_NUMBERS 4 /* of a name; those behind them are text */

/* Names that are one but for their numbers, which are parts between dots or slashes.
 *   first      the first of them, in the order given
 *   low, high  least and largest of each number */
struct apr_fold {
    struct apr_bytes first;
    size_t           n;
    uint64_t         low[APR_FOLD_NUMBERS], high[APR_FOLD_NUMBERS];
};

/* Folds n names; groups stand in the order of their first name, *ngroup of them. The caller frees *group with free. False when memory
 * is out. */
APR_MUST_CHECK bool apr_fold_names(const struct apr_bytes *name, size_t n, struct apr_fold **group, size_t *ngroup);

/* The name of a group, made safe for a terminal, numbers that differ as {LOW-HIGH}. */
void apr_fold_print(FILE *to, const struct apr_fold *f);

#endif
