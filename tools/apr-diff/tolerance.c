#include <math.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "diff.h"
#include "family/yaml.h"
#include "files/source.h"

/* A tolerance file is a list of maps: - {match: PATTERN, cosine: F, max_abs: F, rmse: F, ignore: true} */

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

static enum apr_code take_pattern(const struct apr_yaml *v, struct apr_pattern **to, struct apr_error *e)
{
    struct apr_error why;
    if (v->text.n == 0)
        return complain(v, "match is empty", e);
    const enum apr_code code = apr_pattern_new(to, text_of(v), &why);
    return code == APR_OK ? APR_OK : code == APR_ENOMEM ? apr_no_memory(e) : complain(v, why.text, e);
}

static enum apr_code take_value(const struct apr_yaml *v, struct rule *rule, struct apr_error *e)
{
    if (v->kind != APR_YAML_SCALAR)
        return complain_of(v, "expected a plain value for", v->key, e);
    if (apr_bytes_is(v->key, "match"))
        return take_pattern(v, &rule->match, e);
    if (apr_bytes_is(v->key, "cosine"))
        return take_number(v, &rule->bounds.cosine, e);
    if (apr_bytes_is(v->key, "max_abs"))
        return take_number(v, &rule->bounds.max_abs, e);
    if (apr_bytes_is(v->key, "rmse"))
        return take_number(v, &rule->bounds.rmse, e);
    if (!apr_bytes_is(v->key, "ignore"))
        return complain_of(v, "unknown key", v->key, e);
    rule->bounds.ignore = apr_bytes_is(v->text, "true");
    if (!rule->bounds.ignore && !apr_bytes_is(v->text, "false"))
        return complain_of(v, "ignore must be true or false, not", v->text, e);
    return APR_OK;
}

static enum apr_code read_rules(struct options *o, const struct apr_yaml *list, struct apr_error *e)
{
    if (list->kind != APR_YAML_LIST)
        return complain(list, "expected a list of rules", e);
    o->rule = calloc(list->n + 1, sizeof *o->rule);
    if (o->rule == NULL)
        return apr_no_memory(e);
    for (const struct apr_yaml *map = list->child; map != NULL; map = map->next) {
        struct rule *rule = &o->rule[o->nrule++];
        rule->bounds = o->bounds;
        if (map->kind != APR_YAML_MAP)
            return complain(map, "expected a rule, {match: ..., ...}", e);
        for (const struct apr_yaml *v = map->child; v != NULL; v = v->next)
            APR_TRY(take_value(v, rule, e));
        if (rule->match == NULL)
            return complain(map, "a rule without match", e);
    }
    return APR_OK;
}

enum apr_code read_tolerances(struct options *o, const char *path, struct apr_error *e)
{
    struct apr_source *s = NULL;
    struct apr_yaml_document *d = NULL;
    enum apr_code code = apr_source_open(&s, path, &o->cli.run, e);
    if (code == APR_OK)
        code = apr_yaml_parse(&d, s->map, e);
    if (code == APR_OK)
        code = read_rules(o, apr_yaml_root(d), e);
    apr_yaml_free(d);
    apr_source_close(s);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

const struct bounds *bounds_for(const struct options *o, struct apr_bytes name, struct apr_bytes name_b)
{
    for (size_t i = 0; i < o->nrule; i++)
        if (apr_pattern_matches(o->rule[i].match, name) || apr_pattern_matches(o->rule[i].match, name_b))
            return &o->rule[i].bounds;
    return &o->bounds;
}
