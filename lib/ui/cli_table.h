/* The option table of a command line as a whole, for those who read it: the parser, --help, completions, the man page. */
#ifndef APR_CLI_TABLE_H
#define APR_CLI_TABLE_H

#include "ui/cli.h"

#define APR_NCOMMON 8

/* The tool's options, then those of every tool, and what these fill. */
struct apr_cli_table {
    struct apr_cli   *c;
    struct apr_option common[APR_NCOMMON];
    bool              help, version, threads_given;
};

void apr_cli_table_of(struct apr_cli_table *t, struct apr_cli *c); /* c stays where it is as long as t is used */
size_t                   apr_cli_count(const struct apr_cli_table *t);
const struct apr_option *apr_cli_at(const struct apr_cli_table *t, size_t i);

/* The number of the option of that name, all n bytes of it; apr_cli_count when there is none. */
size_t apr_cli_exactly(const struct apr_cli_table *t, const char *name, size_t n);

/* The letter that stands for an option, or 0; the number of the option that a letter stands for. */
char   apr_cli_letter(const struct apr_option *o);
size_t apr_cli_of_letter(const struct apr_cli_table *t, char letter);

/* Has it no argument? Has it one behind "=" only? */
static inline bool apr_cli_is_flag(const struct apr_option *o) { return o->kind == APR_OPTION_FLAG || o->kind == APR_OPTION_UNSET; }
static inline bool apr_cli_is_maybe(const struct apr_option *o)
{
    return o->kind == APR_OPTION_MAYBE || o->kind == APR_OPTION_MAYBE_OUTPUT;
}

/* Is its argument the name of a file or folder? */
bool apr_cli_names_a_file(const struct apr_option *o);

/* What the environment does to every tool; ends with a name that is NULL. */
extern const struct apr_said apr_cli_environment[];

/* The exit codes, likewise. */
extern const struct apr_said apr_cli_exits[];

/* Prints what --help answers. */
void apr_cli_help(const struct apr_cli_table *t);

/* Columns of the terminal that stdout is, 0 when it is none. */
unsigned apr_cli_columns(void);

/* Answers --complete AT WORD..., which the completions of the shells ask (packaging/): what could stand in the place of WORD number AT, a
 * candidate a line with its description behind a tab. A line that begins with a tab says what else can: "files" with the suffixes they
 * have, if not any. An argument behind "=" is answered without what stands before it. Returns the exit code. */
int apr_cli_complete(const struct apr_cli_table *t, int argc, char **argv);

/* Signals and stdout, before anything is read, and after all is written: false when not all of it arrived. Why is told, but that nobody
 * reads on. */
APR_MUST_CHECK enum apr_code apr_cli_begin_process(struct apr_error *e);
bool                         apr_cli_end_process(const struct apr_cli *c);

#endif
