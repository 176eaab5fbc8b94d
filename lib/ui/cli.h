/* What all tools do alike on the command line: options, help, threads and ISA, exit codes, the end of stdout, SIGBUS. */
#ifndef APR_CLI_H
#define APR_CLI_H

#include "base/core.h"

enum { APR_EXIT_YES = 0, APR_EXIT_NO = 1, APR_EXIT_NONE = 2 };

/* How an option's argument is read, and what `to` points at:
 *   FLAG   no argument; bool set to true       UNSET   no argument; bool set to false
 *   COUNT  uint64_t, decimal                   SIZE    uint64_t, with k M G T, Ki Mi Gi Ti
 *   REAL   double, finite                      TEXT    const char *
 *   LIST   struct apr_texts, repeatable        CHOICE  unsigned: index into the words of `argument`, "name|cosine|rmse"
 *   MAYBE  unsigned: 1 alone, 2 + index with "=WORD"; never takes the next word */
enum apr_option_kind { APR_OPTION_FLAG, APR_OPTION_UNSET, APR_OPTION_COUNT, APR_OPTION_SIZE, APR_OPTION_REAL, APR_OPTION_TEXT, APR_OPTION_LIST,
                       APR_OPTION_CHOICE, APR_OPTION_MAYBE };

struct apr_texts {
    const char **text;
    size_t       n;
};

/* One row of a tool's option table; `given`, if not NULL, is set when the option occurs. */
struct apr_option {
    const char          *name;      /* "--limit" */
    enum apr_option_kind kind;
    void                *to;
    const char          *argument;  /* "N", "FILE", "auto|always"; NULL for flags */
    const char          *help;      /* one line */
    bool                *given;
};

enum apr_when { APR_AUTO, APR_ALWAYS, APR_NEVER };

/* A tool's command line. The tool fills the first part, apr_cli_parse the second. The options of every tool (--json --threads --isa
 * --quiet --progress --color --help --version) are added by it. */
struct apr_cli {
    const char              *tool;      /* "apr-diff" */
    const char              *synopsis;  /* "A B" */
    const char              *about;     /* a sentence or two */
    const struct apr_option *option;
    size_t                   noption;

    const char   **operand;
    size_t         noperand;
    bool           json, quiet, colour; /* colour: on, for stdout */
    struct apr_run run;
    /* private */
    uint64_t       threads;
    unsigned       isa, progress, color;
    struct apr_texts *lists;
};

/* Parses; options and operands may mix, "--" ends options. Returns -1 to go on, or the exit code: --help and --version have been
 * answered on stdout (0), or the fault has been told on stderr with the synopsis (2). Installs the SIGBUS handler, ignores SIGXFSZ.
 * The environment is read here and nowhere else: TMPDIR, NO_COLOR. */
int apr_cli_parse(struct apr_cli *c, int argc, char **argv);

/* "TOOL: why" and the synopsis on stderr, in one line each; returns APR_EXIT_NONE. */
int apr_cli_usage(const struct apr_cli *c, const char *format, ...) APR_PRINTF(2, 3);

/* "TOOL: FILE: at byte N: text" on stderr, one line; returns APR_EXIT_NONE. */
int apr_cli_fail(const struct apr_cli *c, const struct apr_error *e);

/* Flushes stdout and frees what parse made. Returns code, or APR_EXIT_NONE with a message when stdout could not be written (a full
 * disk); a closed pipe is silent. Every path of main ends with it. */
int apr_cli_finish(struct apr_cli *c, int code);

#endif
