/* Parameters as a configuration has them: numbers, words, gradients over the layers, lists with filters. */
#include "merge.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "base/nearest.h"

const struct param_row params[NPARAMS] = {
    [PARAM_WEIGHT] = { "weight", false, 1 },
    [PARAM_DENSITY] = { "density", false, 1 },
    [PARAM_GAMMA] = { "gamma", false, 0.01 },
    [PARAM_EPSILON] = { "epsilon", false, 0.15 },
    [PARAM_SCALE] = { "scale", false, 1 },
    [PARAM_T] = { "t", false, 0 },
    [PARAM_LAMBDA] = { "lambda", false, 1 },
    [PARAM_NORMALIZE] = { "normalize", true, 0 },
    [PARAM_RESCALE] = { "rescale", true, 0 },
    [PARAM_FLATTEN] = { "nuslerp_flatten", true, 1 },
    [PARAM_ROW_WISE] = { "nuslerp_row_wise", true, 0 },
    [PARAM_NORMALIZE_WEIGHTS] = { "normalize_weights", true, 1 },
    [PARAM_MAX_ITER] = { "max_iter", false, 10 },
    [PARAM_TOL] = { "tol", false, 1e-5 },
    [PARAM_TOPK] = { "select_topk", false, 1 },
    [PARAM_FILTER_WISE] = { "filter_wise", true, 0 },
    [PARAM_INT8_MASK] = { "int8_mask", true, 0 },
};

/* ---- scalars -------------------------------------------------------------------------------------------------------- */

/* As PyYAML reads them, and 1e-3 and infinity as people mean them. */
static bool number_of(const struct apr_yaml *y, double *value)
{
    char *end;
    if (y->kind != APR_YAML_SCALAR || y->quoted || y->text.n == 0)
        return false;
    if (strspn((const char *)y->text.at, "+-.0123456789eE") != y->text.n)
        return false;
    *value = strtod((const char *)y->text.at, &end);
    return *end == 0 && *value - *value == 0;
}

static bool boolean_of(const struct apr_yaml *y, double *value)
{
    static const char *const words[] = { "false", "no", "off", "true", "yes", "on" };
    if (y->kind != APR_YAML_SCALAR || y->quoted)
        return false;
    for (size_t i = 0; i < APR_LENGTH(words); i++)
        if (y->text.n == strlen(words[i]) && strcasecmp((const char *)y->text.at, words[i]) == 0) {
            *value = i >= 3;
            return true;
        }
    return false;
}

/* A boolean counts as 0 or 1 wherever a number does, and a number but 0 as true. */
static bool scalar_of(const struct apr_yaml *y, double *value) { return number_of(y, value) || boolean_of(y, value); }

/* ---- checking ------------------------------------------------------------------------------------------------------- */

static bool is_filtered(const struct apr_yaml *list) { return list->child != NULL && list->child->kind == APR_YAML_MAP; }

static enum apr_code no_value(const struct config *c, const struct apr_yaml *y, enum param p, struct apr_error *e)
{
    return fail_at(c, y, e, "%s takes %s, not %s", params[p].name, params[p].boolean ? "true or false"
                   : "a number, a list of numbers, or a list of {filter, value}",
                   y->kind == APR_YAML_SCALAR ? APR_QUOTED(y->text) : y->n == 0 ? "nothing" : "that");
}

#define MOST_ITERATIONS 100000 /* more than any middle takes, and few enough to end */

/* What lies between two numbers of a gradient is as good as they are. */
static enum apr_code check_range(const struct config *c, const struct apr_yaml *y, enum param p, double value, struct apr_error *e)
{
    const bool share = p == PARAM_DENSITY || p == PARAM_GAMMA || p == PARAM_TOPK;
    char text[32];
    if (share && !(value >= 0 && value <= 1))
        return fail_at(c, y, e, "%s is a share from 0 to 1, not %s", params[p].name, apr_spell_real(value, text));
    if (p == PARAM_MAX_ITER && !(value >= 0 && value <= MOST_ITERATIONS))
        return fail_at(c, y, e, "max_iter is a number from 0 to %d, not %s", MOST_ITERATIONS, apr_spell_real(value, text));
    if (p == PARAM_TOL && value < 0)
        return fail_at(c, y, e, "tol is no less than 0, not %s", apr_spell_real(value, text));
    return APR_OK;
}

static enum apr_code check_scalar(const struct config *c, const struct apr_yaml *y, enum param p, struct apr_error *e)
{
    double value;
    return scalar_of(y, &value) ? check_range(c, y, p, value, e) : no_value(c, y, p, e);
}

/* A number, a boolean, or a list of them. */
static enum apr_code check_plain(const struct config *c, const struct apr_yaml *y, enum param p, struct apr_error *e)
{
    if (y->kind != APR_YAML_LIST || y->n == 0)
        return check_scalar(c, y, p, e);
    for (const struct apr_yaml *i = y->child; i != NULL; i = i->next)
        APR_TRY(check_scalar(c, i, p, e));
    return APR_OK;
}

static enum apr_code check_filtered(const struct config *c, const struct apr_yaml *list, enum param p, struct apr_error *e)
{
    for (const struct apr_yaml *i = list->child; i != NULL; i = i->next) {
        const struct apr_yaml *const value = apr_yaml_get(i, "value"), *const filter = apr_yaml_get(i, "filter");
        if (i->kind != APR_YAML_MAP || value == NULL)
            return fail_at(c, i, e, "%s: a list of {filter, value} has a value in each", params[p].name);
        for (const struct apr_yaml *k = i->child; k != NULL; k = k->next)
            if (k != value && k != filter)
                return fail_at(c, k, e, "%s: %s is neither filter nor value", params[p].name, APR_QUOTED(k->key));
        if (filter != NULL && filter->kind != APR_YAML_SCALAR)
            return fail_at(c, filter, e, "%s: a filter is a part of a tensor's name", params[p].name);
        APR_TRY(check_plain(c, value, p, e));
    }
    return APR_OK;
}

static enum param param_called(struct apr_bytes key)
{
    enum param p = 0;
    while (p < NPARAMS && !apr_bytes_is(key, params[p].name))
        p++;
    return p;
}

static enum apr_code no_parameter(struct config *c, const struct apr_yaml *y, struct apr_error *e)
{
    struct apr_nearest near = apr_nearest_to(y->key);
    for (size_t i = 0; i < NPARAMS; i++)
        apr_nearest_try(&near, apr_text(params[i].name));
    if (!c->strict)
        return warn(c, e, "line %u: the parameter %s, which there is not, is ignored", y->line, APR_QUOTED(y->key));
    if (near.best.n > 0)
        return fail_at(c, y, e, "there is no parameter %s; did you mean %.*s?", APR_QUOTED(y->key), APR_PRINTED(near.best));
    return fail_at(c, y, e, "there is no parameter %s", APR_QUOTED(y->key));
}

enum apr_code check_parameters(struct config *c, const struct apr_yaml *parameters, struct apr_error *e)
{
    if (parameters == NULL)
        return APR_OK;
    if (parameters->kind != APR_YAML_MAP && parameters->text.n > 0)
        return fail_at(c, parameters, e, "parameters is a map of names to values");
    for (const struct apr_yaml *y = parameters->child; y != NULL; y = y->next) {
        const enum param p = param_called(y->key);
        if (p == NPARAMS) {
            APR_TRY(no_parameter(c, y, e));
            continue;
        }
        if (p != PARAM_INT8_MASK && !((c->method->required | c->method->optional) >> p & 1))
            return fail_at(c, y, e, "%s has no parameter %s", c->method->name, params[p].name);
        if (y->kind == APR_YAML_LIST && is_filtered(y))
            APR_TRY(check_filtered(c, y, p, e));
        else
            APR_TRY(check_plain(c, y, p, e));
    }
    return APR_OK;
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

static const struct apr_yaml *element(const struct apr_yaml *list, size_t i)
{
    const struct apr_yaml *y = list->child;
    while (i-- > 0)
        y = y->next;
    return y;
}

/* At x of the layers, from 0 to 1: between numbers there is a line, between booleans nothing. */
static double gradient(const struct apr_yaml *list, double x)
{
    const double at = x * (double)(list->n - 1);
    const size_t i = (size_t)at, j = i + 1 < list->n ? i + 1 : list->n - 1;
    double a = 0, b = 0;
    bool numbers = true;
    for (const struct apr_yaml *y = list->child; y != NULL; y = y->next)
        numbers &= number_of(y, &a);
    scalar_of(element(list, i), &a);
    scalar_of(element(list, j), &b);
    return numbers ? (1 - (at - (double)i)) * a + (at - (double)i) * b : a;
}

static bool fits(const struct apr_yaml *filter, struct apr_bytes name)
{
    if (filter == NULL || apr_bytes_is(filter->text, "*"))
        return true;
    return filter->text.n <= name.n && memmem(name.at, name.n, filter->text.at, filter->text.n) != NULL;
}

static bool value_at(const struct apr_yaml *y, struct apr_bytes name, double x, double *value)
{
    if (y->kind == APR_YAML_LIST && is_filtered(y)) {
        for (const struct apr_yaml *i = y->child; i != NULL; i = i->next)
            if (fits(apr_yaml_get(i, "filter"), name))
                return value_at(apr_yaml_get(i, "value"), name, x, value);
        return false;
    }
    if (y->kind == APR_YAML_LIST) {
        *value = gradient(y, x);
        return true;
    }
    return scalar_of(y, value);
}

bool parameter_at(const struct apr_yaml *const *level, size_t nlevel, enum param p, struct apr_bytes name, double x, double *value)
{
    for (size_t i = 0; i < nlevel; i++) {
        const struct apr_yaml *const y = apr_yaml_get(level[i], params[p].name);
        if (y != NULL && value_at(y, name, x, value))
            return true;
    }
    return false;
}
