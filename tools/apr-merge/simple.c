/* The simple cases: what --method and its parameters say, as the configuration that they stand for. */
#include "merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "base/nearest.h"
#include "ui/report.h"

/* Where an option's text stands among the arguments, alone or behind "="; argv ends with NULL. */
static size_t place_of(char *const *argv, const char *text)
{
    size_t i = 0;
    while (argv[i] != NULL && !(text >= argv[i] && text <= argv[i] + strlen(argv[i])))
        i++;
    return i;
}

static int no_method(const struct options *o)
{
    struct apr_nearest near = apr_nearest_to(apr_text(o->method));
    for (size_t i = 0; method_at(i) != NULL; i++)
        apr_nearest_try(&near, apr_text(method_at(i)->name));
    if (near.best.n > 0)
        return apr_cli_usage(&o->c.cli, "--method: there is no method %s; did you mean %.*s?", APR_QUOTED(apr_text(o->method)),
                             APR_PRINTED(near.best));
    return apr_cli_usage(&o->c.cli, "--method: there is no method %s%s", APR_QUOTED(apr_text(o->method)),
                         method_is_refused(apr_text(o->method)) ? " here" : "");
}

static int check_given(const struct options *o, const struct method *m)
{
    const struct { const char *option; bool given; enum param p; } rows[] = {
        { "--weight", o->weights.n > 0, PARAM_WEIGHT }, { "--density", o->has_density, PARAM_DENSITY },
        { "--t", o->has_t, PARAM_T }, { "--lambda", o->has_lambda, PARAM_LAMBDA },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        if (rows[i].given && !((m->required | m->optional) >> rows[i].p & 1))
            return apr_cli_usage(&o->c.cli, "%s has no effect with --method %s", rows[i].option, m->name);
        if (!rows[i].given && (m->required >> rows[i].p & 1))
            return apr_cli_usage(&o->c.cli, "--method %s needs %s", m->name, rows[i].option);
    }
    if ((m->base == BASE_MUST || m->base == BASE_ONE_OF_TWO) && o->base == NULL)
        return apr_cli_usage(&o->c.cli, "--method %s needs --base", m->name);
    return -1;
}

/* Weights are as many as the models that have one. */
static int check_weights(const struct options *o, const struct method *m)
{
    size_t n = o->c.cli.noperand - 1;
    for (size_t i = 0; i + 1 < o->c.cli.noperand && m->base != BASE_AS_MODEL && o->base != NULL; i++)
        n -= strcmp(o->c.cli.operand[i], o->base) == 0;
    if (o->weights.n > 0 && o->weights.n != n)
        return apr_cli_usage(&o->c.cli, "--weight stands once for each of %zu models, got %zu", n, o->weights.n);
    for (size_t i = 0; i < o->weights.n; i++) {
        char *end;
        const double w = strtod(o->weights.text[i], &end);
        if (*o->weights.text[i] == 0 || *end != 0 || w - w != 0)
            return apr_cli_usage(&o->c.cli, "--weight takes a number, not %s", APR_QUOTED(apr_text(o->weights.text[i])));
    }
    return -1;
}

/* "PATH+ADAPTER+ADAPTER", the adapters being those that stand between this model and the next. */
static struct apr_bytes model_text(const struct options *o, char *const *argv, struct apr_arena **a, size_t i)
{
    const size_t from = place_of(argv, o->c.cli.operand[i]), to = place_of(argv, o->c.cli.operand[i + 1]);
    const bool last = i + 2 == o->c.cli.noperand; /* what stands behind the target is the last model's */
    struct apr_bytes text = apr_arena_format(a, "%s", o->c.cli.operand[i]);
    for (size_t k = 0; k < o->loras.n && text.at != NULL; k++) {
        const size_t at = place_of(argv, o->loras.text[k]);
        if (at > from && (at < to || last))
            text = apr_arena_format(a, "%s+%s", (const char *)text.at, o->loras.text[k]);
    }
    return text;
}

static void put_real(FILE *to, const char *key, double v)
{
    char text[32];
    fprintf(to, "  %s: %s\n", key, apr_spell_real(v, text));
}

/* A text in the quotes that YAML shares with JSON. */
static void put_quoted(FILE *to, struct apr_bytes s)
{
    fputc('"', to);
    for (size_t i = 0; i < s.n; i++)
        if (s.at[i] == '"' || s.at[i] == '\\')
            fprintf(to, "\\%c", s.at[i]);
        else if (s.at[i] < 0x20)
            fprintf(to, "\\x%02x", s.at[i]);
        else
            fputc(s.at[i], to);
    fputs("\"\n", to);
}

static bool put_models(FILE *to, const struct options *o, const struct method *m, char *const *argv, struct apr_arena **a)
{
    size_t weight = 0;
    fprintf(to, "models:\n");
    for (size_t i = 0; i + 1 < o->c.cli.noperand; i++) {
        const struct apr_bytes text = model_text(o, argv, a, i);
        const bool base = m->base != BASE_AS_MODEL && o->base != NULL && strcmp(o->c.cli.operand[i], o->base) == 0;
        if (text.at == NULL)
            return false;
        fprintf(to, "- model: ");
        put_quoted(to, text);
        if (weight < o->weights.n && !base)
            fprintf(to, "  parameters: {weight: %s}\n", o->weights.text[weight++]);
    }
    return true;
}

static bool put_config(FILE *to, const struct options *o, const struct method *m, char *const *argv, struct apr_arena **a)
{
    fprintf(to, "merge_method: %s\n", m->name);
    if (o->base != NULL) {
        fprintf(to, "base_model: ");
        put_quoted(to, apr_text(o->base));
    }
    if (o->has_density || o->has_t || o->has_lambda)
        fprintf(to, "parameters:\n");
    if (o->has_density)
        put_real(to, "density", o->density);
    if (o->has_t)
        put_real(to, "t", o->t);
    if (o->has_lambda)
        put_real(to, "lambda", o->lambda);
    return put_models(to, o, m, argv, a);
}

int config_of_options(struct options *o, char *const *argv, struct apr_arena **arena, struct apr_bytes *text)
{
    const struct method *const m = method_named(apr_text(o->method));
    struct apr_emit emit = { 0 };
    struct apr_error e;
    int exit_code = m == NULL ? no_method(o) : check_given(o, m);
    if (exit_code < 0)
        exit_code = check_weights(o, m);
    if (exit_code >= 0)
        return exit_code;
    enum apr_code code = apr_emit_begin(&emit, &e);
    if (code == APR_OK)
        code = put_config(emit.to, o, m, argv, arena) ? apr_emit_end(&emit, text, &e) : apr_no_memory(&e);
    apr_emit_drop(&emit);
    if (code == APR_OK) {
        const struct apr_bytes made = *text;
        *text = apr_arena_copy(arena, made);
        free((void *)(uintptr_t)made.at);
        code = text->at == NULL ? apr_no_memory(&e) : APR_OK;
    }
    return code == APR_OK ? -1 : apr_cli_fail(&o->c.cli, &e);
}
