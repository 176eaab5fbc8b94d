/* What could stand in one place of a command line, for the completions of shells. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "model/model.h"
#include "model/open.h"
#include "ui/cli_table.h"

/* The words of a line, of which number `at` is asked for.
 *   value    the option whose argument that is, or NULL
 *   operand  the words that are operands
 *   files    suffixes of operands
 *   plain    "--" stands before it: no options follow */
struct line {
    const struct apr_cli_table *t;
    char                      **word;
    int                         n, at;
    const struct apr_option    *value;
    const char                **operand;
    size_t                      noperand;
    const char                 *files;
    bool                        plain;
};

/* ---- answers -------------------------------------------------------------------------------------------------------- */

static bool begins(const char *word, const char *with) { return strncmp(word, with, strlen(with)) == 0; }

static void offer_files(const char *suffixes)
{
    if (suffixes == NULL || *suffixes != 0)
        printf("\tfiles%s%s\n", suffixes != NULL ? " " : "", suffixes != NULL ? suffixes : "");
}

/* A name that a terminal would not show as it is is not offered. */
static void offer_name(struct apr_bytes name, const char *begun)
{
    const size_t n = strlen(begun);
    if (name.n > 0 && name.n >= n && memcmp(name.at, begun, n) == 0 && apr_is_utf8(name) && !apr_has_control(name))
        printf("%.*s\n", APR_PRINTED(name));
}

/* Names of one model, but for those that stand in an earlier one. */
static void offer_names(const struct apr_model *m, const struct apr_model *earlier, enum apr_named named, const char *begun)
{
    for (size_t i = 0; named == APR_NAMED_TENSOR && i < m->ntensor; i++)
        if (earlier == NULL || apr_model_find(earlier, m->tensor[i].name) == NULL)
            offer_name(m->tensor[i].name, begun);
    for (size_t i = 0; named == APR_NAMED_KEY && i < m->meta.n; i++)
        offer_name(m->meta.entry[i].key, begun);
}

/* Neither a pipe, which would be waited for, nor an address: nothing is fetched for a keystroke. */
static bool is_there(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

/* Names of the models on the line; what cannot be read has none. */
static void offer_of_models(const struct line *l, enum apr_named named, const char *begun)
{
    struct apr_model *m[2] = { 0 };
    const struct apr_run run = { .threads = 1, .tmpdir = "/tmp" };
    struct apr_error e;
    size_t n = 0;
    for (size_t i = 0; i < l->noperand && n < APR_LENGTH(m); i++)
        if (is_there(l->operand[i]) && apr_open(&m[n], l->operand[i], &run, &e) == APR_OK) {
            offer_names(m[n], n > 0 ? m[0] : NULL, named, begun);
            n++;
        }
    for (size_t i = 0; i < n; i++)
        apr_close(m[i]);
}

/* The words of "a|b|c". */
static void offer_choices(const char *words, const char *begun)
{
    for (size_t n; *words != 0; words += n + (words[n] == '|')) {
        n = strcspn(words, "|");
        if (strlen(begun) <= n && begins(words, begun))
            printf("%.*s\n", (int)n, words);
    }
}

static void offer_argument(const struct line *l, const struct apr_option *o, const char *begun)
{
    const char *const comma = strrchr(begun, ','), *const last = comma == NULL ? begun : comma + 1;
    if (o->kind == APR_OPTION_CHOICE || o->kind == APR_OPTION_MAYBE)
        offer_choices(o->argument, begun);
    for (size_t i = 0; o->offer != NULL && o->offer(i) != NULL; i++)
        if (begins(o->offer(i), last))
            printf("%.*s%s\n", (int)(last - begun), begun, o->offer(i));
    if (o->named != APR_NAMED_NOTHING)
        offer_of_models(l, o->named, begun);
    if (apr_cli_names_a_file(o) || o->files != NULL)
        offer_files(o->files);
}

static void offer_options(const struct apr_cli_table *t, const char *begun)
{
    for (size_t i = 0; i < apr_cli_count(t); i++) {
        const struct apr_option *const o = apr_cli_at(t, i);
        if (begun[1] == 0 && apr_cli_letter(o) != 0)
            printf("-%c\t%s\n", apr_cli_letter(o), o->help);
        if (begins(o->name, begun))
            printf("%s\t%s\n", o->name, o->help);
    }
}

/* ---- the line ------------------------------------------------------------------------------------------------------- */

/* The option that a word names, or begins as no other does; NULL. */
static const struct apr_option *option_of(const struct apr_cli_table *t, const char *word)
{
    const size_t n = strcspn(word, "="), exact = apr_cli_exactly(t, word, n);
    const struct apr_option *found = exact < apr_cli_count(t) ? apr_cli_at(t, exact) : NULL;
    size_t several = 0;
    for (size_t i = 0; n > 2 && exact == apr_cli_count(t) && i < apr_cli_count(t); i++)
        if (strncmp(apr_cli_at(t, i)->name, word, n) == 0) {
            found = apr_cli_at(t, i);
            several++;
        }
    return several > 1 ? NULL : found;
}

/* The option that wants the next word; NULL: the word is complete. */
static const struct apr_option *wants_next(const struct apr_cli_table *t, const char *word)
{
    const struct apr_option *o = NULL;
    if (word[1] == '-') {
        o = strchr(word, '=') == NULL ? option_of(t, word) : NULL;
    } else {
        const size_t i = apr_cli_of_letter(t, word[strlen(word) - 1]);
        o = i < apr_cli_count(t) ? apr_cli_at(t, i) : NULL;
    }
    return o == NULL || apr_cli_is_flag(o) || apr_cli_is_maybe(o) ? NULL : o;
}

/* Which words are operands, and what is asked for. */
static void read_line(struct line *l)
{
    bool plain = false;
    for (int i = 0; i < l->n; i++) {
        const char *const word = l->word[i];
        if (i == l->at) {
            l->plain = plain;
        } else if (plain || word[0] != '-' || word[1] == 0) {
            l->operand[l->noperand++] = word;
        } else if (strcmp(word, "--") == 0) {
            plain = true;
        } else {
            const struct apr_option *const o = wants_next(l->t, word), *const flag = option_of(l->t, word);
            if (flag != NULL && apr_cli_is_flag(flag) && flag->files != NULL)
                l->files = flag->files;
            if (o != NULL && ++i == l->at)
                l->value = o;
        }
    }
}

static void answer(const struct line *l)
{
    const char *const word = l->at >= 0 && l->at < l->n ? l->word[l->at] : "", *const equals = strchr(word, '=');
    if (l->value != NULL) {
        offer_argument(l, l->value, word);
    } else if (!l->plain && word[0] == '-' && equals != NULL) {
        const struct apr_option *const o = option_of(l->t, word);
        if (o != NULL && !apr_cli_is_flag(o))
            offer_argument(l, o, equals + 1);
    } else if (!l->plain && word[0] == '-') {
        offer_options(l->t, word);
    } else {
        offer_files(l->files);
    }
}

/* The verb that the line begins with, when what is asked for stands behind it. */
static const struct apr_verb *verb_of(const struct line *l)
{
    const struct apr_verb *v = l->t->c->verb;
    while (v != NULL && v->name != NULL && (l->at == 0 || strcmp(v->name, l->word[0]) != 0))
        v++;
    return v != NULL && v->name != NULL ? v : NULL;
}

/* Hands the line behind a verb on to it, as "VERB --complete AT WORD...". */
static int ask_verb(const struct apr_verb *v, const struct line *l, char **argv)
{
    char number[24];
    snprintf(number, sizeof number, "%d", l->at - 1);
    argv[0] = (char *)(uintptr_t)v->name;
    argv[2] = number;
    memmove(&argv[3], &argv[4], (size_t)l->n * sizeof *argv);
    return v->run(l->n + 2, argv);
}

int apr_cli_complete(const struct apr_cli_table *t, int argc, char **argv)
{
    struct line l = { .t = t, .word = argv + 3, .n = argc > 3 ? argc - 3 : 0, .at = argc > 2 ? atoi(argv[2]) : 0, .files = t->c->files };
    const struct apr_verb *const verb = verb_of(&l);
    if (verb != NULL)
        return ask_verb(verb, &l, argv);
    l.operand = calloc((size_t)l.n + 1, sizeof *l.operand);
    if (l.operand == NULL)
        return APR_EXIT_NONE;
    read_line(&l);
    const char *const word = l.at >= 0 && l.at < l.n ? l.word[l.at] : "";
    for (const struct apr_verb *v = t->c->verb; v != NULL && v->name != NULL && l.at == 0; v++)
        if (word[0] != '-' && begins(v->name, word))
            printf("%s\t%s\n", v->name, v->about);
    answer(&l);
    free(l.operand);
    return APR_EXIT_YES;
}
