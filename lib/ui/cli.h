/* What all tools do alike on the command line: options, help, threads and ISA, exit codes, the end of stdout, SIGBUS. */
#ifndef APR_CLI_H
#define APR_CLI_H

#include "base/core.h"
#include "base/pattern.h"

enum { APR_EXIT_YES = 0, APR_EXIT_NO = 1, APR_EXIT_NONE = 2 };

/* How an option's argument is read, and what `to` points at:
 *   FLAG   no argument; bool set to true       UNSET   no argument; bool set to false
 *   COUNT  uint64_t, decimal                   SIZE    uint64_t, with k M G T, Ki Mi Gi Ti
 *   REAL   double, finite                      COSINE  REAL, from -1 to 1
 *   TEXT   const char *
 *   LIST   struct apr_texts, repeatable        CHOICE  unsigned: index into the words of `argument`, "name|cosine|rmse"
 *   PATH   TEXT, a file or folder that the tool sees to. It has a name, as those below have
 *   INPUT  PATH, a file that is read           INPUTS  LIST, of such files
 *   OUTPUT PATH, a file that is written: apr_cli_outputs holds it against what is read
 *   IMATRIX  OUTPUT, an importance matrix, which replaces nothing else: beside a model's file it may have the name of one, but not of its
 *            shards
 *   MAYBE_OUTPUT  OUTPUT, with "=FILE" only; `given` says that the option stands there, alone or not
 *   MAYBE  unsigned: 1 alone, 2 + index with "=WORD"; never takes the next word */
enum apr_option_kind { APR_OPTION_FLAG, APR_OPTION_UNSET, APR_OPTION_COUNT, APR_OPTION_SIZE, APR_OPTION_REAL, APR_OPTION_COSINE,
                       APR_OPTION_TEXT, APR_OPTION_LIST, APR_OPTION_CHOICE, APR_OPTION_MAYBE, APR_OPTION_PATH, APR_OPTION_INPUT,
                       APR_OPTION_INPUTS, APR_OPTION_OUTPUT, APR_OPTION_IMATRIX, APR_OPTION_MAYBE_OUTPUT };

struct apr_texts {
    const char **text;
    size_t       n;
};

/* What an option's argument may be: the i-th word, NULL behind the last. */
typedef const char *apr_offer_fn(size_t i);

/* What of a model it names. */
enum apr_named { APR_NAMED_NOTHING, APR_NAMED_TENSOR, APR_NAMED_KEY };

/* One row of a tool's option table.
 *   given    set when the option occurs; or NULL
 *   needs    options, parted by blanks, without all of which this one has no effect: it is then refused; NULL: none
 *   against  options it does not go with: refused with any of them
 *   instead  what others call it, parted by blanks ("--dtype"): whoever types one of these is told this option's name; NULL: nothing
 * and for completions, which know of themselves the words of a CHOICE:
 *   files    suffixes, parted by blanks, of the file that it names, or that a TEXT may name; of a FLAG: of what operands then are
 *   offer    words that a TEXT or LIST may be, the last of several where commas part them; or NULL
 *   named    what it names of the models that are operands */
struct apr_option {
    const char          *name;      /* "--limit" */
    enum apr_option_kind kind;
    void                *to;
    const char          *argument;  /* "N", "FILE", "auto|always"; NULL for flags */
    const char          *help;      /* one line */
    bool                *given;
    const char          *needs, *against, *instead;
    const char          *files;
    apr_offer_fn        *offer;
    enum apr_named       named;
};

/* A name, and what is to be said of it. Tables of them end with a name that is NULL. */
struct apr_said {
    const char *name, *text;
};

/* A command line of its own behind its first word: run has argv[0] for it, and returns the exit code. Tables end likewise. */
struct apr_verb {
    const char *name;
    int       (*run)(int argc, char **argv);
    const char *about;      /* one line */
};

enum apr_when { APR_AUTO, APR_ALWAYS, APR_NEVER };

/* Suffixes of models, and what a model may be, for the man page. */
#define APR_MODELS "safetensors gguf apr safetensors.index.json"
extern const struct apr_said apr_model_files[];

/* What those who read models at addresses look at. */
extern const struct apr_said apr_remote_environment[];

/* A tool's command line. The tool fills the first part, apr_cli_parse the second. The options of every tool (--json --threads or -j,
 * --isa --quiet or -q, --progress --color --help or -h, --version or -V) are added by it. */
struct apr_cli {
    const char              *tool;      /* "apr-diff" */
    const char              *synopsis;  /* "A B" */
    const char              *about;     /* a sentence or two */
    const char              *example[4]; /* command lines that --help ends with; all of them are tried (tests/test_manual.c) */
    const struct apr_option *option;
    size_t                   noption;
    const char              *brief;      /* of the man page's first line: "compares two language models" */
    const char              *files;      /* suffixes of its operands, parted by blanks; NULL: any. "" : they are no files */
    const struct apr_said   *file, *environment; /* of the man page: files, and what of the environment this tool alone looks at; or NULL */
    const struct apr_verb   *verb;       /* or NULL */

    const char   **operand;
    size_t         noperand;
    bool           json, quiet, colour; /* colour: on, for stdout */
    bool           download, no_cache, verbose; /* APR_REMOTE_OPTIONS (ui/remote.h) */
    bool           taken;               /* set by apr_cli_outputs: an output option has stdout for itself */
    unsigned       columns;             /* of the terminal that stdout is; 0: it is none, and lines may be of any length */
    struct apr_run run;
    /* private */
    uint64_t       threads;
    unsigned       isa, progress, color;
    bool           asked; /* --json stands on the line, perhaps behind what makes no sense */
    struct apr_texts *lists;
};

/* Parses; options and operands may mix, "--" ends options; a prefix that only one option has stands for it. Returns -1 to go on, or the
 * exit code: --help and --version have been answered on stdout (0), or the fault has been told on stderr with the synopsis (2). The
 * environment is read here and nowhere else: TMPDIR, NO_COLOR, TERM, COLUMNS; for addresses see ui/remote.h. Sees to signals: SIGBUS is a
 * file that shrank, those that end a program remove what a sink has begun first, SIGXFSZ is a write that fails, and so is SIGPIPE while a
 * sink is at work; stdout keeps the reason of its first failure. */
int apr_cli_parse(struct apr_cli *c, int argc, char **argv);

/* Before anything is read: APR_EARG when an output is one of the inputs (operands, INPUT and INPUTS; through links too), belongs to a
 * model that is one, holds a model by its content, or shares a file with another output or with stdout; APR_EIO when it cannot be
 * written at all. e names the file. */
APR_MUST_CHECK enum apr_code apr_cli_outputs(struct apr_cli *c, struct apr_error *e);

/* "K/N" with 1 <= K <= N: a share of the work, of --partition. */
bool apr_cli_share(const char *text, uint64_t *k, uint64_t *n);

/* "TOOL: why" and the synopsis on stderr, in one line each, and with --json a report that is only an error; returns APR_EXIT_NONE. */
int apr_cli_usage(const struct apr_cli *c, const char *format, ...) APR_PRINTF(2, 3);

/* Adds what an option was given as name patterns (base/pattern.h): -1 to go on, or the exit code, the fault has been told. */
int apr_cli_patterns(const struct apr_cli *c, const char *option, const struct apr_texts *texts, struct apr_patterns **p);

/* "TOOL: FILE: at byte N: text" on stderr, one line; returns APR_EXIT_NONE. */
int apr_cli_fail(const struct apr_cli *c, const struct apr_error *e);

/* Tells on stderr, unless --quiet, the notes of a model that have that code: "index.beside", that it is only one shard of what lies beside
 * it; "trace.unmapped", what of another program's activations no map knows. */
void apr_cli_tell(const struct apr_cli *c, const struct apr_model *m, const char *code);

/* Flushes stdout and frees what parse made. Returns code, or APR_EXIT_NONE with a message when stdout could not be written (a full
 * disk). When its reader has left, the process ends by SIGPIPE, as any other would have then; where that is ignored, silently. Every
 * path of main ends with it. */
int apr_cli_finish(struct apr_cli *c, int code);

#endif
