/* --help. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "ui/cli_table.h"
#include "ui/report.h"

#define WIDTH         96 /* columns of the help, at most */
#define LEAST_COLUMNS 80 /* of a terminal that does not say */
#define HELP_AT       32 /* where an option's words begin; a longer option stands on a line of its own */

/* COLUMNS counts before what the terminal says, as in ls. */
unsigned apr_cli_columns(void)
{
    const char *const columns = getenv("COLUMNS");
    struct winsize size = { 0 };
    char *end = NULL;
    if (!isatty(STDOUT_FILENO))
        return 0;
    unsigned long n = columns != NULL && *columns >= '0' && *columns <= '9' ? strtoul(columns, &end, 10) : 0;
    if ((n == 0 || *end != 0) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        n = size.ws_col;
    return n == 0 ? LEAST_COLUMNS : n < LEAST_COLUMNS / 2 ? LEAST_COLUMNS / 2 : n > 10000 ? 10000 : (unsigned)n;
}

/* Words of text from column `at`, further lines from column `from`. */
static void wrap(const char *text, size_t at, size_t from)
{
    const size_t terminal = apr_cli_columns(), width = terminal > 0 && terminal < WIDTH ? terminal : WIDTH;
    bool fresh = true;
    while (*(text += strspn(text, " ")) != 0) {
        const size_t n = strcspn(text, " "), columns = apr_columns((struct apr_bytes){ (const unsigned char *)text, n });
        if (!fresh && at + 1 + columns > width) {
            printf("\n%*s", (int)from, "");
            at = from;
        } else if (!fresh) {
            putchar(' ');
            at++;
        }
        fwrite(text, 1, n, stdout);
        at += columns;
        text += n;
        fresh = false;
    }
    putchar('\n');
}

/* The text of a row whose name ends in column `at`. */
static void print_text(size_t at, const char *text)
{
    if (at + 2 > HELP_AT) {
        putchar('\n');
        at = 0;
    }
    printf("%*s", (int)(HELP_AT - at), "");
    wrap(text, HELP_AT, HELP_AT);
}

static void print_options(const struct apr_option *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const bool maybe = apr_cli_is_maybe(&row[i]);
        const char *const argument = row[i].argument != NULL ? row[i].argument : "", letter = apr_cli_letter(&row[i]);
        size_t at = letter != 0 ? (size_t)printf("  -%c,", letter) : 0;
        const char *const before = maybe ? "[=" : *argument != 0 ? " " : "";
        at += (size_t)printf("%*s%s%s%s%s", at > 0 ? 1 : 2, "", row[i].name, before, argument, maybe ? "]" : "");
        print_text(at, row[i].help);
    }
}

static void print_said(const char *title, const struct apr_said *row)
{
    if (title != NULL && row != NULL && row->name != NULL)
        printf("\n%s:\n", title);
    for (; row != NULL && row->name != NULL; row++)
        print_text((size_t)printf("  %s", row->name), row->text);
}

void apr_cli_help(const struct apr_cli_table *t)
{
    const struct apr_cli *const c = t->c;
    printf("usage: %s [OPTION]... %s\n\n", c->tool, c->synopsis);
    wrap(c->about, 0, 0);
    for (const struct apr_verb *v = c->verb; v != NULL && v->name != NULL; v++) {
        fputs(v == c->verb ? "\nVerbs:\n" : "", stdout);
        print_text((size_t)printf("  %s", v->name), v->about);
    }
    if (c->noption > 0)
        printf("\nOptions:\n");
    print_options(c->option, c->noption);
    printf("\nOptions of every tool:\n");
    print_options(t->common, APR_NCOMMON);
    printf("\nExit status:\n");
    for (const struct apr_said *row = apr_cli_exits; row->name != NULL; row++)
        printf("  %s  %s\n", row->name, row->text);
    print_said("Environment", apr_cli_environment);
    print_said(NULL, c->environment);
    for (size_t i = 0; i < APR_LENGTH(c->example); i++)
        if (c->example[i] != NULL)
            printf("%s  %s\n", i > 0 ? "" : "\nExamples:\n", c->example[i]);
}
