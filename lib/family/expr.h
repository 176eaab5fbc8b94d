/* The small expressions of family contracts: sizes and conditions over dims. */
#ifndef APR_EXPR_H
#define APR_EXPR_H

#include "base/core.h"

/* A value: a number, or a string (text.at not NULL). Booleans are 0 and 1. Not known: nothing tells it, or, wrong, what tells it cannot be
 * meant: a text where a number should stand, a number that comes to none. */
struct apr_result {
    bool             known;
    double           number;
    struct apr_bytes text;
    bool             wrong;
};

/* A compiled expression. It owns its nodes; names and strings are views into the text it was compiled from, which must outlive it. */
struct apr_expr;

/* Compiles text; docs/families.md says what each means.
 *   numbers, 'strings', names, ( )
 *   + - * / (real), unary -, == != < <= > >=, and or not; lowest to highest: or, and, not, comparison (no chains), + -, * /, unary -
 *   of one     floor ceil sqrt ln exp normal quantile
 *   of two     min max mod, first(a, b)
 *   of three   if(c, a, b)
 *   of a path  name.name: has(path) has(path, i) value(path) length(path) at(path, i)
 *              letter(path, i) find(path, x, from)
 * At most APR_EXPR_BYTES, 64 levels. APR_EARG quotes it and says what is wrong at which character (from 1). The caller frees it with
 * apr_expr_free. */
#define APR_EXPR_BYTES 1024
APR_MUST_CHECK enum apr_code apr_expr_new(struct apr_expr **x, struct apr_bytes text, struct apr_error *e);
void apr_expr_free(struct apr_expr *x);

/* How names, and the paths of value and at, get their values while evaluating; an element's path ends in its number, and lives for the
 * call. Each may say "not known".
 *   path  NULL: paths are as good as names */
struct apr_scope {
    struct apr_result (*value)(void *ctx, struct apr_bytes name);
    bool              (*has)(void *ctx, struct apr_bytes path);
    void               *ctx;
    struct apr_result (*path)(void *ctx, struct apr_bytes path);
};

/* The value; not known when a name it needs is not; wrong when one is, a division is by zero, types do not fit, or the number is not
 * finite, but for an element and a quantile. `and`, `or`, `first` and `if` need only the operands that decide; `first` does not pass over
 * what is wrong. Never fails otherwise. Any thread. */
struct apr_result apr_expr_value(const struct apr_expr *x, const struct apr_scope *scope);

/* The same in a layer, where the name `layer` is its number. */
struct apr_result apr_expr_in_layer(const struct apr_expr *x, const struct apr_scope *scope, uint64_t layer);

/* As a size: a non-negative integer below 2^53; false when it is not known or none. */
bool apr_expr_size(const struct apr_expr *x, const struct apr_scope *scope, uint64_t *n);

/* As a condition; `otherwise` when it is not known. */
bool apr_expr_true(const struct apr_expr *x, const struct apr_scope *scope, bool otherwise);

/* Calls f for every name it mentions, for every path of has, of value and at, in order; stops when f returns false. */
void apr_expr_names(const struct apr_expr *x, bool (*f)(void *ctx, struct apr_bytes name), void *ctx);
void apr_expr_paths(const struct apr_expr *x, bool (*f)(void *ctx, struct apr_bytes path), void *ctx);
void apr_expr_values(const struct apr_expr *x, bool (*f)(void *ctx, struct apr_bytes path), void *ctx);

/* Is the path "tensors.ROLE"? Then *role is. */
bool apr_path_role(struct apr_bytes path, struct apr_bytes *role);

/* The name, when the expression is just one. */
bool apr_expr_is_name(const struct apr_expr *x, struct apr_bytes *name);

#endif
