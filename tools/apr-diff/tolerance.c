#include "tolerance.h"

#include <math.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "family/yaml.h"
#include "values/kernels.h"

double scale_allowed(const struct bounds *b)
{
    return isnan(b->scale) ? apr_scale_allowed(b->cosine) : b->scale;
}

/* A tolerance file is a list of maps: - {match: PATTERN, cosine: F, scale: F, sqnr: DB, max_abs: F, rmse: F, ignore: true} */

static enum apr_code complain(const struct apr_yaml *node, const char *what, struct apr_error *e)
{
    return apr_fail(e, APR_EARG, APR_NOWHERE, "line %u: %s", node->line, what);
}

static enum apr_code complain_of(const struct apr_yaml *node, const char *what, struct apr_bytes word, struct apr_error *e)
{
    return apr_fail(e, APR_EARG, APR_NOWHERE, "line %u: %s %s", node->line, what, APR_QUOTED(word));
}

/* Texts are NUL-terminated, and hold no other NUL. */
static const char *text_of(const struct apr_yaml *scalar) { return (const char *)scalar->text.at; }

static enum apr_code take_number(const struct apr_yaml *v, double *to, struct apr_error *e)
{
    char *end;
    *to = strtod(text_of(v), &end);
    if (v->text.n == 0 || end != text_of(v) + v->text.n || !isfinite(*to))
        return complain_of(v, "is no number:", v->text, e);
    return APR_OK;
}

static enum apr_code take_pattern(const struct apr_yaml *v, struct rules *r, struct apr_error *e)
{
    struct apr_error why;
    if (v->text.n == 0)
        return complain(v, "match is empty", e);
    const enum apr_code code = apr_patterns_add(&r->match, v->text, &why);
    return code == APR_OK ? APR_OK : code == APR_ENOMEM ? apr_no_memory(e) : complain(v, why.text, e);
}

static enum apr_code take_bound(const struct apr_yaml *v, struct bounds *bounds, struct apr_error *e)
{
    const struct {
        const char *key;
        double     *bound;
    } numbers[] = { { "cosine", &bounds->cosine }, { "scale", &bounds->scale }, { "sqnr", &bounds->sqnr }, { "max_abs", &bounds->max_abs },
                    { "rmse", &bounds->rmse } };
    for (size_t i = 0; i < APR_LENGTH(numbers); i++)
        if (apr_bytes_is(v->key, numbers[i].key))
            return take_number(v, numbers[i].bound, e);
    if (!apr_bytes_is(v->key, "ignore"))
        return complain_of(v, "unknown key", v->key, e);
    bounds->ignore = apr_bytes_is(v->text, "true");
    if (!bounds->ignore && !apr_bytes_is(v->text, "false"))
        return complain_of(v, "ignore must be true or false, not", v->text, e);
    return APR_OK;
}

static enum apr_code take_rule(struct rules *r, size_t i, const struct apr_yaml *map, struct apr_error *e)
{
    if (map->kind != APR_YAML_MAP)
        return complain(map, "expected a rule, {match: ..., ...}", e);
    for (const struct apr_yaml *v = map->child; v != NULL; v = v->next) {
        if (v->kind != APR_YAML_SCALAR)
            return complain_of(v, "expected a plain value for", v->key, e);
        APR_TRY(apr_bytes_is(v->key, "match") ? take_pattern(v, r, e) : take_bound(v, &r->bounds[i], e));
    }
    if (apr_patterns_count(r->match) <= i)
        return complain(map, "a rule without match", e);
    r->line[i] = map->line;
    return APR_OK;
}

static enum apr_code take_rules(struct rules *r, const struct apr_yaml *list, const struct bounds *otherwise, struct apr_error *e)
{
    if (list->kind != APR_YAML_LIST)
        return complain(list, "expected a list of rules", e);
    r->bounds = calloc(list->n + 1, sizeof *r->bounds);
    r->line = calloc(list->n + 1, sizeof *r->line);
    if (r->bounds == NULL || r->line == NULL)
        return apr_no_memory(e);
    size_t i = 0;
    for (const struct apr_yaml *map = list->child; map != NULL; map = map->next, i++) {
        r->bounds[i] = *otherwise;
        APR_TRY(take_rule(r, i, map, e));
    }
    return APR_OK;
}

enum apr_code read_rules(struct rules *r, const char *path, struct apr_bytes text, const struct bounds *otherwise, struct apr_error *e)
{
    struct apr_yaml_document *d;
    *r = (struct rules){ .path = path };
    enum apr_code code = apr_yaml_parse(&d, text, e);
    if (code == APR_OK)
        code = take_rules(r, apr_yaml_root(d), otherwise, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    apr_yaml_free(d);
    return code;
}

void free_rules(struct rules *r)
{
    apr_patterns_free(r->match);
    free(r->bounds);
    free(r->line);
}

enum apr_code find_rule(const struct rules *r, struct apr_bytes name, struct apr_bytes name_b, const struct bounds **bounds,
                        struct apr_error *e)
{
    size_t first, first_b = APR_NO_PATTERN;
    enum apr_code code = apr_patterns_first(r->match, name, &first, e);
    if (code == APR_OK && !apr_bytes_equal(name, name_b))
        code = apr_patterns_first(r->match, name_b, &first_b, e);
    if (code != APR_OK)
        apr_error_in(e, r->path);
    first = first_b < first ? first_b : first;
    *bounds = first == APR_NO_PATTERN ? NULL : &r->bounds[first];
    return code;
}
