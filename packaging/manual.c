/* Writes a tool's man page from its own tables: linked with the tool, in whose main this stands in the place of apr_cli_parse.
 *   manual/apr-diff VERSION SECONDS TOOL... >apr-diff.1        SECONDS: the page's date, since 1970; TOOL: all there are */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ui/cli_table.h"

int __wrap_apr_cli_parse(struct apr_cli *c, int argc, char **argv); /* the linker's word for it */

/* ---- roff ----------------------------------------------------------------------------------------------------------- */

/* Text as it is: what roff would make of a character is taken from it. */
static void put(const char *text)
{
    for (; *text != 0; text++)
        switch (*text) {
        case '\\': fputs("\\e", stdout); break;
        case '-': fputs("\\-", stdout); break;
        case '\'': fputs("\\(aq", stdout); break;
        case '`': fputs("\\(ga", stdout); break;
        case '^': fputs("\\(ha", stdout); break;
        case '~': fputs("\\(ti", stdout); break;
        default: putchar(*text); break;
        }
}

static void put_in(char font, const char *text)
{
    printf("\\f%c", font);
    put(text);
    fputs("\\fR", stdout);
}

/* A line of its own, which begins no request. */
static void put_line(const char *text)
{
    fputs(*text == '.' ? "\\&" : "", stdout);
    put(text);
    putchar('\n');
}

/* "; needs --a, --b or --c" */
static void put_names(const char *before, const char *names, const char *last)
{
    fputs(before, stdout);
    for (size_t n; *names != 0; names += n + (names[n] == ' ')) {
        n = strcspn(names, " ");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)n, names);
        put_in('B', name);
        fputs(names[n] == 0 ? "" : strchr(names + n + 1, ' ') != NULL ? ", " : last, stdout);
    }
}

/* What the table of a verb is asked for, whose main calls apr_cli_parse anew; NULL: the tool's own is at work. */
static void (*asked)(const struct apr_cli *c);
static const char *verb;

static bool begun; /* the section has a paragraph */

static void paragraph(void)
{
    fputs(begun ? ".PP\n" : "", stdout);
    begun = true;
}

/* ---- parts ---------------------------------------------------------------------------------------------------------- */

static void put_rows(const struct apr_said *row)
{
    for (; row != NULL && row->name != NULL; row++) {
        fputs(".TP 4\n", stdout);
        put_in('B', row->name);
        putchar('\n');
        put_line(row->text);
    }
}

static void put_option(const struct apr_option *o)
{
    const bool maybe = apr_cli_is_maybe(o);
    fputs(".TP 4\n", stdout);
    if (apr_cli_letter(o) != 0)
        printf("\\fB\\-%c\\fR, ", apr_cli_letter(o));
    put_in('B', o->name);
    fputs(maybe ? "[=" : o->argument != NULL ? " " : "", stdout);
    if (o->argument != NULL)
        put_in('I', o->argument);
    fputs(maybe ? "]\n" : "\n", stdout);
    put(o->help);
    if (o->needs != NULL)
        put_names("; needs ", o->needs, " or ");
    if (o->against != NULL)
        put_names("; not with ", o->against, " and ");
    putchar('\n');
}

static void put_synopsis(const struct apr_cli *c)
{
    if (c->verb != NULL)
        return;
    paragraph();
    put_in('B', c->tool);
    if (verb != NULL)
        printf(" \\fB%s\\fR", verb);
    fputs(" [\\fIOPTION\\fR]... ", stdout);
    put_in('I', c->synopsis + (verb != NULL ? strlen(verb) + 1 : 0));
    putchar('\n');
}

static void put_about(const struct apr_cli *c)
{
    paragraph();
    if (verb != NULL)
        printf(".B %s:\n", verb);
    put_line(c->about);
}

static void put_options(const struct apr_cli *c)
{
    if (verb != NULL)
        printf(".SS %s\n", verb);
    for (size_t i = 0; i < c->noption; i++)
        put_option(&c->option[i]);
}

static void put_examples(const struct apr_cli *c)
{
    for (size_t i = 0; i < APR_LENGTH(c->example) && c->example[i] != NULL && c->verb == NULL; i++) {
        paragraph();
        fputs(".nf\n.RS 4\n", stdout);
        put_line(c->example[i]);
        fputs(".RE\n.fi\n", stdout);
    }
}

/* ---- the page ------------------------------------------------------------------------------------------------------- */

/* A section to which the tool's own table, and that of each of its verbs, has something to say. */
static void section(const struct apr_cli *c, const char *title, void (*put_part)(const struct apr_cli *c))
{
    printf(".SH %s\n", title);
    begun = false;
    put_part(c);
    asked = put_part;
    for (const struct apr_verb *v = c->verb; v != NULL && v->name != NULL; v++) {
        verb = v->name;
        v->run(1, (char *[]){ (char *)(uintptr_t)v->name, NULL });
    }
    asked = NULL;
    verb = NULL;
}

static void put_head(const struct apr_cli *c, const char *version, const char *seconds)
{
    const time_t when = (time_t)strtoll(seconds, NULL, 10);
    char date[24];
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&when));
    fputs(".TH ", stdout);
    for (const char *at = c->tool; *at != 0; at++)
        printf(*at == '-' ? "\\-" : "%c", *at >= 'a' && *at <= 'z' ? *at - 'a' + 'A' : *at);
    printf(" 1 %s \"apr tools %s\"\n", date, version);
    fputs(".nh\n.ad l\n", stdout); /* words stay whole: names of options are typed as they stand */
    printf(".SH NAME\n");
    put(c->tool);
    fputs(" \\- ", stdout);
    put_line(c->brief);
}

static void put_see_also(const struct apr_cli *c, int n, char **tool)
{
    printf(".SH SEE ALSO\n");
    for (int i = 0, more = 0; i < n; i++)
        if (strcmp(tool[i], c->tool) != 0) {
            fputs(more++ > 0 ? ",\n" : "", stdout);
            put_in('B', tool[i]);
            fputs("(1)", stdout);
        }
    printf("\n.PP\nThe folder of documents, ");
    put_in('I', "share/doc/apr-tools/docs");
    printf(", has ");
    put_in('I', c->tool);
    printf("\\fI.md\\fR with all that it prints.\n");
}

int __wrap_apr_cli_parse(struct apr_cli *c, int argc, char **argv)
{
    if (asked != NULL) {
        asked(c);
        return APR_EXIT_YES;
    }
    if (argc < 3)
        return APR_EXIT_NONE;
    struct apr_cli_table t;
    apr_cli_table_of(&t, c);
    put_head(c, argv[1], argv[2]);
    section(c, "SYNOPSIS", put_synopsis);
    section(c, "DESCRIPTION", put_about);
    section(c, "OPTIONS", put_options);
    puts(".SS Options of every tool");
    for (size_t i = 0; i < APR_NCOMMON; i++)
        put_option(&t.common[i]);
    puts(".SH EXIT STATUS");
    put_rows(apr_cli_exits);
    puts(".SH ENVIRONMENT");
    put_rows(apr_cli_environment);
    put_rows(c->environment);
    puts(".SH FILES");
    put_rows(c->file);
    section(c, "EXAMPLES", put_examples);
    put_see_also(c, argc - 3, argv + 3);
    return APR_EXIT_YES;
}
