#include "convert/recipe.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <yaml.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "base/nearest.h"
#include "family/yaml.h"
#include "files/source.h"
#include "ui/report.h"

#define MOST_RULES ((size_t)250000) /* more than the largest model has tensors */
#define MOST_WORD  32               /* bytes of a type, with its NUL */

/* ---- a rule --------------------------------------------------------------------------------------------------------- */

/* Where a rule, or a part of it, stands, as messages say it. */
struct where {
    char text[200];
};

static const char *lower_case(const char *word, char text[MOST_WORD])
{
    size_t n = 0;
    for (; word[n] != 0 && n < MOST_WORD - 1; n++)
        text[n] = (char)tolower((unsigned char)word[n]);
    text[n] = 0;
    return text;
}

/* Tells the type that is nearest, or all that there are. */
static enum apr_code no_type(const struct apr_recipe *r, const char *word, const struct where *w, struct apr_error *e)
{
    char wanted[MOST_WORD], name[APR_NDTYPES][MOST_WORD], all[512] = "";
    struct apr_nearest near = apr_nearest_to(apr_text(lower_case(word, wanted)));
    size_t n = 0;
    for (size_t i = 0; i < APR_NDTYPES; i++) {
        if (r->type(r->ctx, apr_dtypes[i].name) == NULL)
            continue;
        apr_nearest_try(&near, apr_text(lower_case(apr_dtypes[i].name, name[i])));
        n += n < sizeof all ? (size_t)snprintf(all + n, sizeof all - n, "%s ", name[i]) : 0;
    }
    apr_nearest_try(&near, apr_text(APR_RECIPE_COPY));
    if (near.best.n > 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: there is no type %s; did you mean %s", w->text, APR_QUOTED(apr_text(word)),
                        APR_QUOTED(near.best));
    return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: there is no type %s, only %s" APR_RECIPE_COPY, w->text, APR_QUOTED(apr_text(word)), all);
}

static enum apr_code take_type(const struct apr_recipe *r, const char *word, const struct where *w, const struct apr_dtype **dtype,
                               struct apr_error *e)
{
    *dtype = r->type(r->ctx, word);
    return *dtype != NULL || strcasecmp(word, APR_RECIPE_COPY) == 0 ? APR_OK : no_type(r, word, w, e);
}

static enum apr_code take_pattern(struct apr_recipe *r, struct apr_bytes pattern, const struct where *w, struct apr_error *e)
{
    struct apr_error why;
    if (pattern.n == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: the pattern is empty", w->text);
    const enum apr_code code = apr_patterns_add(&r->match, pattern, &why);
    return code == APR_OK ? APR_OK : code == APR_ENOMEM ? apr_no_memory(e) : apr_fail(e, code, APR_NOWHERE, "%s: %s", w->text, why.text);
}

/* The rule comes first, then its pattern, so that there are never more patterns than rules. */
static enum apr_code add_rule(struct apr_recipe *r, struct apr_bytes pattern, const struct where *w, struct apr_recipe_rule rule,
                              struct apr_error *e)
{
    struct apr_recipe_rule *const more = apr_grown(r->rule, &r->room, r->n, 16, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    r->rule = more;
    if (r->n == MOST_RULES)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: more than %zu rules", w->text, MOST_RULES);
    APR_TRY(take_pattern(r, pattern, w, e));
    r->rule[r->n++] = rule;
    return APR_OK;
}

enum apr_code apr_recipe_add(struct apr_recipe *r, const char *option, struct apr_error *e)
{
    const char *const equals = strrchr(option, '=');
    struct where w;
    struct apr_recipe_rule rule = { 0 };
    snprintf(w.text, sizeof w.text, "--tensor-type %s", APR_QUOTED(apr_text(option)));
    if (equals == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: expected PATTERN=TYPE, as in ffn_down=q6_k", w.text);
    APR_TRY(take_type(r, equals + 1, &w, &rule.dtype, e));
    return add_rule(r, (struct apr_bytes){ (const unsigned char *)option, (size_t)(equals - option) }, &w, rule, e);
}

void apr_recipe_free(struct apr_recipe *r)
{
    apr_patterns_free(r->match);
    free(r->rule);
    r->match = NULL;
    r->rule = NULL;
    r->n = r->room = 0;
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static struct where place(unsigned line, unsigned column)
{
    struct where w;
    snprintf(w.text, sizeof w.text, "line %u, column %u", line, column);
    return w;
}

static struct where place_of_value(const struct apr_yaml *v) { return place(v->value_line, v->value_column); }

static enum apr_code unknown_key(const struct apr_yaml *v, struct apr_error *e)
{
    const struct where w = place(v->line, v->column);
    struct apr_nearest near = apr_nearest_to(v->key);
    apr_nearest_try(&near, apr_text("match"));
    apr_nearest_try(&near, apr_text("type"));
    return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: unknown key %s%s%s", w.text, APR_QUOTED(v->key),
                    near.best.n > 0 ? "; did you mean " : ", expected match and type", near.best.n > 0 ? APR_QUOTED(near.best) : "");
}

static enum apr_code take_rule(struct apr_recipe *r, const struct apr_yaml *map, struct apr_error *e)
{
    const struct apr_yaml *const match = apr_yaml_get(map, "match"), *const type = apr_yaml_get(map, "type");
    struct where w = place_of_value(map);
    struct apr_recipe_rule rule = { .line = map->value_line, .column = map->value_column };
    if (map->kind != APR_YAML_MAP)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: expected a rule, {match: PATTERN, type: TYPE}%s%s", w.text,
                        map->text.n > 0 ? ", not " : "", map->text.n > 0 ? APR_QUOTED(map->text) : "");
    for (const struct apr_yaml *v = map->child; v != NULL; v = v->next) {
        if (v != match && v != type)
            return unknown_key(v, e);
        if (v->kind != APR_YAML_SCALAR)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: expected one word for %s", place_of_value(v).text, APR_QUOTED(v->key));
    }
    if (match == NULL || type == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: a rule without %s", w.text, match == NULL ? "match" : "type");
    w = place_of_value(type);
    APR_TRY(take_type(r, (const char *)type->text.at, &w, &rule.dtype, e));
    w = place_of_value(match);
    return add_rule(r, match->text, &w, rule, e);
}

static enum apr_code take_rules(struct apr_recipe *r, const struct apr_yaml *list, struct apr_error *e)
{
    if (list->kind != APR_YAML_LIST)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: expected a list of rules, - {match: PATTERN, type: TYPE}",
                        place_of_value(list).text);
    for (const struct apr_yaml *map = list->child; map != NULL; map = map->next)
        APR_TRY(take_rule(r, map, e));
    return APR_OK;
}

enum apr_code apr_recipe_read(struct apr_recipe *r, const char *path, struct apr_bytes text, struct apr_error *e)
{
    struct apr_yaml_document *d;
    enum apr_code code = apr_yaml_parse(&d, text, e);
    r->path = path;
    if (code == APR_OK)
        code = take_rules(r, apr_yaml_root(d), e);
    if (code != APR_OK)
        apr_error_in(e, path);
    apr_yaml_free(d);
    return code;
}

enum apr_code apr_recipe_open(struct apr_recipe *r, const char *path, const struct apr_run *run, struct apr_error *e)
{
    struct apr_source *s = NULL;
    enum apr_code code = apr_source_open(&s, path, run, e);
    if (code == APR_OK)
        code = apr_recipe_read(r, path, s->map, e);
    else
        apr_error_in(e, path);
    return apr_source_end(s, code, e);
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

static enum apr_code first_of(struct apr_recipe *r, struct apr_bytes name, size_t *first, struct apr_error *e)
{
    APR_TRY(apr_patterns_first(r->match, name, first, e));
    return apr_patterns_note(r->match, name, e);
}

enum apr_code apr_recipe_find(struct apr_recipe *r, struct apr_bytes name, struct apr_bytes gguf, const struct apr_recipe_rule **rule,
                              struct apr_error *e)
{
    size_t first, other = APR_NO_PATTERN;
    *rule = NULL;
    APR_TRY(first_of(r, name, &first, e));
    if (gguf.n > 0 && !apr_bytes_equal(name, gguf))
        APR_TRY(first_of(r, gguf, &other, e));
    first = other < first ? other : first;
    if (first == APR_NO_PATTERN)
        return APR_OK;
    r->rule[first].used++;
    *rule = &r->rule[first];
    return APR_OK;
}

bool apr_recipe_idle(const struct apr_recipe *r, size_t i, struct apr_error *why)
{
    const bool option = r->rule[i].line == 0;
    const struct where w = option ? (struct where){ "--tensor-type" } : place(r->rule[i].line, r->rule[i].column);
    if (apr_patterns_noted(r->match, i))
        return false;
    apr_fail(why, APR_OK, APR_NOWHERE, "%s: no tensor matches %s", w.text, APR_QUOTED(apr_patterns_text(r->match, i)));
    if (!option)
        apr_error_in(why, r->path);
    return true;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

/* Events go to it one by one; after a failure none does. */
struct writer {
    yaml_emitter_t emitter;
    FILE          *to;
    bool           lost;
};

static int take_output(void *ctx, unsigned char *bytes, size_t n)
{
    const struct writer *const w = ctx;
    return fwrite(bytes, 1, n, w->to) == n;
}

/* made: whether the event could be made. The emitter frees it. */
static void emit(struct writer *w, yaml_event_t *event, int made)
{
    if (made && w->lost)
        yaml_event_delete(event);
    else
        w->lost = !made || !yaml_emitter_emit(&w->emitter, event);
}

static void emit_scalar(struct writer *w, struct apr_bytes text)
{
    yaml_event_t event;
    emit(w, &event, yaml_scalar_event_initialize(&event, NULL, NULL, text.at, (int)text.n, 1, 1, YAML_ANY_SCALAR_STYLE));
}

static void emit_rule(struct writer *w, struct apr_bytes pattern, const char *type)
{
    yaml_event_t event;
    emit(w, &event, yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_FLOW_MAPPING_STYLE));
    emit_scalar(w, apr_text("match"));
    emit_scalar(w, pattern);
    emit_scalar(w, apr_text("type"));
    emit_scalar(w, apr_text(type));
    emit(w, &event, yaml_mapping_end_event_initialize(&event));
}

static void begin(struct writer *w)
{
    yaml_event_t event;
    yaml_emitter_set_output(&w->emitter, take_output, w);
    yaml_emitter_set_encoding(&w->emitter, YAML_UTF8_ENCODING);
    yaml_emitter_set_width(&w->emitter, -1);  /* a rule is a line */
    yaml_emitter_set_unicode(&w->emitter, 0); /* and ASCII, whatever a name holds */
    emit(w, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));
    emit(w, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1));
    emit(w, &event, yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE));
}

static void end(struct writer *w)
{
    yaml_event_t event;
    emit(w, &event, yaml_sequence_end_event_initialize(&event));
    emit(w, &event, yaml_document_end_event_initialize(&event, 1));
    emit(w, &event, yaml_stream_end_event_initialize(&event));
}

/* re:^...$, the pattern of one name, into room for the longest there is; empty when it would be longer. */
static struct apr_bytes spell_pattern(struct apr_bytes name, unsigned char pattern[APR_PATTERN_MOST])
{
    static const char start[] = "re:^", special[] = "\\^$.[]|()?*+{}";
    size_t n = sizeof start - 1;
    memcpy(pattern, start, n);
    for (size_t i = 0; i < name.n; i++) {
        if (APR_PATTERN_MOST - n < 3)
            return (struct apr_bytes){ 0 };
        if (memchr(special, name.at[i], sizeof special - 1) != NULL)
            pattern[n++] = '\\';
        pattern[n++] = name.at[i];
    }
    pattern[n++] = '$';
    return (struct apr_bytes){ pattern, n };
}

static enum apr_code write_rule(struct writer *w, const struct apr_recipe_line *line, struct apr_error *e)
{
    unsigned char room[APR_PATTERN_MOST];
    char type[MOST_WORD];
    const struct apr_bytes pattern = spell_pattern(line->name, room);
    if (pattern.n == 0)
        return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, line->name, ": its name is too long for a recipe, it has %zu bytes",
                               line->name.n);
    if (!apr_is_utf8(line->name) || memchr(pattern.at, 0, pattern.n) != NULL)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, line->name, ": its name is no text, as a recipe needs");
    emit_rule(w, pattern, line->dtype == NULL ? APR_RECIPE_COPY : lower_case(line->dtype->name, type));
    return APR_OK;
}

static void write_remark(FILE *to, const char *remark)
{
    while (*remark != 0) {
        const size_t n = strcspn(remark, "\n");
        fputs(n > 0 ? "# " : "#", to);
        apr_print_bytes(to, (struct apr_bytes){ (const unsigned char *)remark, n });
        fputc('\n', to);
        remark += n + (remark[n] != 0);
    }
}

/* Memory is all that can be wanting. */
static enum apr_code write_rules(FILE *to, const struct apr_recipe_line *line, size_t n, struct apr_error *e)
{
    struct writer w = { .to = to };
    enum apr_code code = APR_OK;
    if (!yaml_emitter_initialize(&w.emitter))
        return apr_no_memory(e);
    begin(&w);
    for (size_t i = 0; code == APR_OK && i < n; i++)
        code = write_rule(&w, &line[i], e);
    if (code == APR_OK)
        end(&w);
    yaml_emitter_delete(&w.emitter);
    return code == APR_OK && w.lost ? apr_no_memory(e) : code;
}

enum apr_code apr_recipe_write(struct apr_bytes *text, const char *remark, const struct apr_recipe_line *line, size_t n,
                               struct apr_error *e)
{
    struct apr_emit m;
    *text = (struct apr_bytes){ 0 };
    APR_TRY(apr_emit_begin(&m, e));
    write_remark(m.to, remark);
    enum apr_code code = write_rules(m.to, line, n, e);
    if (code == APR_OK && (n > MOST_RULES || apr_emit_length(&m) > APR_YAML_MOST))
        code = apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu tensors are more than a recipe holds", n);
    if (code == APR_OK)
        return apr_emit_end(&m, text, e);
    apr_emit_drop(&m);
    return code;
}
