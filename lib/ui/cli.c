/* The command line, and what frames a run: signals, threads, colour, the end of stdout. */
#include "ui/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "files/sink.h"
#include "files/source.h"
#include "model/model.h"
#include "ui/progress.h"
#include "ui/report.h"
#include "values/kernels.h"

#define MAX_THREADS 1024
#define NCOMMON     8
#define WIDTH       96   /* columns of the help, at most */
#define LEAST_COLUMNS 80 /* of a terminal that does not say */
#define HELP_AT     32   /* where an option's words begin; a longer option stands on a line of its own */

/* The words of --isa after "auto". */
static const enum apr_isa isa_of_word[] = { APR_SCALAR, APR_AVX2, APR_AVX512, APR_NEON };

/* What only one parse needs: both halves of the option table, and what the common half fills. */
struct parse {
    struct apr_cli   *c;
    struct apr_option common[NCOMMON];
    bool              help, version, threads_given;
    bool             *seen; /* each option of both halves, by its number */
};

/* The short forms, which are those of common options. */
static const struct {
    char        letter;
    const char *name;
} shorts[] = { { 'h', "--help" }, { 'V', "--version" }, { 'q', "--quiet" }, { 'j', "--threads" } };

/* ---- messages ------------------------------------------------------------------------------------------------------ */

/* The report that a script waits for, when there is none of the tool's own. Not behind what stands in a file already: it might be an
 * input, which nobody has looked at yet. */
static void write_usage_error(const struct apr_cli *c, const char *text)
{
    struct stat st;
    struct apr_error e;
    if (fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
        return;
    char schema[64];
    snprintf(schema, sizeof schema, "%s/1", c->tool);
    struct apr_report r = { .out = &(struct apr_out){ .to = stdout }, .schema = schema };
    apr_fail(&e, APR_EARG, APR_NOWHERE, "%s", text);
    apr_report_begin(&r);
    apr_report_end(&r, &e);
}

int apr_cli_usage(const struct apr_cli *c, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    apr_progress_end(c->run.progress);
    fprintf(stderr, "%s: ", c->tool);
    apr_print_bytes(stderr, apr_text(text));   /* it may quote an operand */
    fprintf(stderr, "\nusage: %s [OPTION]... %s   (more: %s --help)\n", c->tool, c->synopsis, c->tool);
    if (c->json || c->asked)
        write_usage_error(c, text);
    return APR_EXIT_NONE;
}

int apr_cli_fail(const struct apr_cli *c, const struct apr_error *e)
{
    apr_progress_end(c->run.progress);
    fprintf(stderr, "%s: ", c->tool);
    if (*e->file)
        fprintf(stderr, "%s: ", e->file);
    if (e->at != APR_NOWHERE)
        fprintf(stderr, "at byte %llu: ", (unsigned long long)e->at);
    fprintf(stderr, "%s\n", e->text);
    return APR_EXIT_NONE;
}

int apr_cli_patterns(const struct apr_cli *c, const char *option, const struct apr_texts *texts, struct apr_patterns **p)
{
    struct apr_error e;
    for (size_t i = 0; i < texts->n; i++) {
        const enum apr_code code = apr_patterns_add(p, apr_text(texts->text[i]), &e);
        if (code != APR_OK)
            return code == APR_EARG ? apr_cli_usage(c, "%s: %s", option, e.text) : apr_cli_fail(c, &e);
    }
    return -1;
}

void apr_cli_tell(const struct apr_cli *c, const struct apr_model *m, const char *code)
{
    struct apr_error e;
    for (size_t i = 0; i < m->nnote && !c->quiet; i++)
        if (!strcmp(m->note[i].code, code)) {
            apr_fail(&e, APR_OK, APR_NOWHERE, "%s", m->note[i].text);
            apr_error_in(&e, m->file[0]->path);
            apr_cli_fail(c, &e);
        }
}

static int no_memory(const struct apr_cli *c)
{
    struct apr_error e;
    apr_no_memory(&e);
    return apr_cli_fail(c, &e);
}

/* ---- the terminal --------------------------------------------------------------------------------------------------- */

static bool read_count(const char **text, uint64_t *n)
{
    const char *s = *text;
    for (*n = 0; *s >= '0' && *s <= '9'; s++)
        if (!apr_mul(*n, 10, n) || !apr_add(*n, (uint64_t)(*s - '0'), n))
            return false;
    const bool any = s != *text;
    *text = s;
    return any;
}

/* COLUMNS counts before what the terminal says, as in ls. */
static unsigned terminal_columns(void)
{
    const char *columns = getenv("COLUMNS");
    struct winsize size = { 0 };
    uint64_t n = 0;
    if (!isatty(STDOUT_FILENO))
        return 0;
    if ((!columns || !read_count(&columns, &n) || *columns || n == 0) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        n = size.ws_col;
    return n == 0 ? LEAST_COLUMNS : n < LEAST_COLUMNS / 2 ? LEAST_COLUMNS / 2 : n > 10000 ? 10000 : (unsigned)n;
}

/* ---- help ---------------------------------------------------------------------------------------------------------- */

/* Words of text from column `at`, further lines from column `from`. */
static void wrap(const char *text, size_t at, size_t from)
{
    const size_t terminal = terminal_columns(), width = terminal > 0 && terminal < WIDTH ? terminal : WIDTH;
    bool fresh = true;
    while (*(text += strspn(text, " "))) {
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

/* Has it an argument only behind "="? */
static bool is_maybe(const struct apr_option *o) { return o->kind == APR_OPTION_MAYBE || o->kind == APR_OPTION_MAYBE_OUTPUT; }

static void print_options(const struct apr_option *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const bool maybe = is_maybe(&row[i]);
        const char *argument = row[i].argument ? row[i].argument : "";
        size_t at = 0;
        for (size_t k = 0; k < APR_LENGTH(shorts); k++)
            if (!strcmp(shorts[k].name, row[i].name))
                at = (size_t)printf("  -%c,", shorts[k].letter);
        at += (size_t)printf("%*s%s%s%s%s", at ? 1 : 2, "", row[i].name, maybe ? "[=" : *argument ? " " : "", argument, maybe ? "]" : "");
        if (at + 2 > HELP_AT) {
            putchar('\n');
            at = 0;
        }
        printf("%*s", (int)(HELP_AT - at), "");
        wrap(row[i].help, HELP_AT, HELP_AT);
    }
}

static void print_help(const struct parse *p)
{
    printf("usage: %s [OPTION]... %s\n\n", p->c->tool, p->c->synopsis);
    wrap(p->c->about, 0, 0);
    if (p->c->noption)
        printf("\nOptions:\n");
    print_options(p->c->option, p->c->noption);
    printf("\nOptions of every tool:\n");
    print_options(p->common, NCOMMON);
    printf("\nExit status:\n"
           "  0  done, or the same\n"
           "  1  an honest no: they differ, the check found faults\n"
           "  2  no answer: usage, input or output error, malformed file\n");
    for (size_t i = 0; i < APR_LENGTH(p->c->example); i++)
        if (p->c->example[i])
            printf("%s  %s\n", i ? "" : "\nExamples:\n", p->c->example[i]);
}

/* ---- arguments ----------------------------------------------------------------------------------------------------- */

/* What may follow a number: ".25", of one to six digits, is 25 of 100. */
static bool read_fraction(const char **text, uint64_t *part, uint64_t *places)
{
    *part = 0;
    *places = 1;
    if (**text != '.')
        return true;
    for (++*text; **text >= '0' && **text <= '9' && *places < 1000000; ++*text, *places *= 10)
        *part = *part * 10 + (uint64_t)(**text - '0');
    return *places > 1;
}

static bool read_size(const char *text, uint64_t *n)
{
    static const struct {
        const char *word;
        uint64_t    unit;
    } suffix[] = {
        { "", 1 }, { "k", 1000 }, { "M", 1000000 }, { "G", 1000000000 }, { "T", 1000000000000 },
        { "Ki", 1ull << 10 }, { "Mi", 1ull << 20 }, { "Gi", 1ull << 30 }, { "Ti", 1ull << 40 },
    };
    uint64_t part, places;
    if (!read_count(&text, n) || !read_fraction(&text, &part, &places))
        return false;
    for (size_t i = 0; i < APR_LENGTH(suffix); i++)
        if (!strcmp(text, suffix[i].word)) /* half a byte is none */
            return (part == 0 || suffix[i].unit > 1) && apr_mul(*n, suffix[i].unit, n) && apr_add(*n, part * suffix[i].unit / places, n);
    return false;
}

/* Decimal only: strtod would also take white space, "0x1p3" and "inf". */
static bool read_real(const char *text, double *v)
{
    char *end;
    *v = strtod(text, &end);
    return *text && text[strspn(text, "0123456789+-.eE")] == '\0' && *end == '\0' && isfinite(*v);
}

static bool read_choice(const char *text, const char *words, unsigned *index)
{
    const size_t n = strlen(text);
    for (*index = 0;; ++*index) {
        const size_t word = strcspn(words, "|");
        if (word == n && !memcmp(words, text, n))
            return true;
        if (!words[word])
            return false;
        words += word + 1;
    }
}

static bool append(struct apr_texts *list, const char *text)
{
    const char **grown = realloc(list->text, (list->n + 1) * sizeof *grown);
    if (!grown)
        return false;
    list->text = grown;
    list->text[list->n++] = text;
    return true;
}

/* Is it the name of a file or folder? "" is none: a script's variable that was never set. */
static bool names_a_file(const struct apr_option *o)
{
    return o->kind == APR_OPTION_PATH || o->kind == APR_OPTION_INPUT || o->kind == APR_OPTION_INPUTS || o->kind == APR_OPTION_OUTPUT ||
        o->kind == APR_OPTION_IMATRIX || o->kind == APR_OPTION_MAYBE_OUTPUT;
}

/* Stores the argument of one option; -1, or the exit code of the fault that was told. */
static int store(const struct apr_cli *c, const struct apr_option *o, const char *text)
{
    const char *rest = text;
    uint64_t n;
    double real;
    unsigned index;

    if (o->given)
        *o->given = true;
    if (names_a_file(o) && text && !*text)
        return apr_cli_usage(c, "%s wants a name for %s, not \"\"", o->name, o->argument);
    switch (o->kind) {
    case APR_OPTION_FLAG: case APR_OPTION_UNSET:
        *(bool *)o->to = o->kind == APR_OPTION_FLAG;
        break;
    case APR_OPTION_COUNT:
        if (!read_count(&rest, &n) || *rest)
            return apr_cli_usage(c, "%s wants a whole number, not \"%s\"", o->name, text);
        *(uint64_t *)o->to = n;
        break;
    case APR_OPTION_SIZE:
        if (!read_size(text, &n))
            return apr_cli_usage(c, "%s wants a size (a number, perhaps with k M G T Ki Mi Gi Ti), not \"%s\"", o->name, text);
        *(uint64_t *)o->to = n;
        break;
    case APR_OPTION_REAL: case APR_OPTION_COSINE:
        if (!read_real(text, &real))
            return apr_cli_usage(c, "%s wants a finite number, not \"%s\"", o->name, text);
        if (o->kind == APR_OPTION_COSINE && (real < -1 || real > 1))
            return apr_cli_usage(c, "%s wants a cosine, from -1 to 1, not \"%s\"", o->name, text);
        *(double *)o->to = real;
        break;
    case APR_OPTION_TEXT: case APR_OPTION_PATH: case APR_OPTION_INPUT: case APR_OPTION_OUTPUT: case APR_OPTION_IMATRIX:
    case APR_OPTION_MAYBE_OUTPUT:
        *(const char **)o->to = text;
        break;
    case APR_OPTION_LIST: case APR_OPTION_INPUTS:
        if (!append(o->to, text))
            return no_memory(c);
        break;
    case APR_OPTION_CHOICE:
        if (!read_choice(text, o->argument, &index))
            return apr_cli_usage(c, "%s wants one of %s, not \"%s\"", o->name, o->argument, text);
        *(unsigned *)o->to = index;
        break;
    case APR_OPTION_MAYBE:
        if (text && !read_choice(text, o->argument, &index))
            return apr_cli_usage(c, "%s takes nothing or one of =%s, not \"%s\"", o->name, o->argument, text);
        *(unsigned *)o->to = text ? 2 + index : 1;
        break;
    }
    return -1;
}

/* ---- parsing ------------------------------------------------------------------------------------------------------- */

static void fill_common(struct parse *p)
{
    struct apr_cli *c = p->c;
    const struct apr_option row[NCOMMON] = {
        { "--json", APR_OPTION_FLAG, &c->json, NULL, "the answer as one JSON object" },
        { "--threads", APR_OPTION_COUNT, &c->threads, "N", "1 to 1024 (default: the CPUs this process may use); changes no result",
          .given = &p->threads_given },
        { "--isa", APR_OPTION_CHOICE, &c->isa, "auto|scalar|avx2|avx512|neon", "instructions to use; changes no result" },
        { "--quiet", APR_OPTION_FLAG, &c->quiet, NULL, "only the answer and errors" },
        { "--progress", APR_OPTION_CHOICE, &c->progress, "auto|always|never", "a line on standard error (auto: on a terminal)" },
        { "--color", APR_OPTION_CHOICE, &c->color, "auto|always|never", "colours (auto: on a terminal, unless NO_COLOR is set)" },
        { "--help", APR_OPTION_FLAG, &p->help, NULL, "this page" },
        { "--version", APR_OPTION_FLAG, &p->version, NULL, "the version" },
    };
    memcpy(p->common, row, sizeof row);
}

static size_t count_options(const struct parse *p) { return p->c->noption + NCOMMON; }

static const struct apr_option *option_at(const struct parse *p, size_t i)
{
    return i < p->c->noption ? &p->c->option[i] : &p->common[i - p->c->noption];
}

/* The number of the option of that name, all n bytes of it; count_options(p) when there is none. */
static size_t exactly(const struct parse *p, const char *name, size_t n)
{
    size_t i = 0;
    while (i < count_options(p) && (strlen(option_at(p, i)->name) != n || memcmp(option_at(p, i)->name, name, n)))
        i++;
    return i;
}

/* Is the word one of some, parted by blanks? */
static bool is_among(const char *names, const char *word, size_t n)
{
    for (size_t length; names && *names; names += length + (names[length] == ' ')) {
        length = strcspn(names, " ");
        if (length == n && !memcmp(names, word, n))
            return true;
    }
    return false;
}

/* Nothing is called `word`, nor begins with it. */
static int unknown_option(const struct parse *p, const char *word, size_t n)
{
    struct apr_nearest near = apr_nearest_to((struct apr_bytes){ (const unsigned char *)word, n });
    for (size_t i = 0; i < count_options(p); i++)
        apr_nearest_try(&near, apr_text(option_at(p, i)->name));
    for (size_t i = 0; i < count_options(p); i++)
        if (is_among(option_at(p, i)->instead, word, n))
            near.best = apr_text(option_at(p, i)->name);
    if (near.best.n)
        return apr_cli_usage(p->c, "unknown option %.*s (did you mean %.*s?)", (int)apr_min(n, 256), word, (int)near.best.n, (const char *)near.best.at);
    return apr_cli_usage(p->c, "unknown option %.*s", (int)apr_min(n, 256), word);
}

/* The number of the option that the n bytes of word name, or begin as no other does; -1 with *i, or the exit code of what was told. */
static int find(const struct parse *p, const char *word, size_t n, size_t *i)
{
    char several[256] = "";
    size_t nfound = 0, first = count_options(p);
    *i = exactly(p, word, n);
    for (size_t k = 0; n > 2 && *i == count_options(p) && k < count_options(p); k++)
        if (!strncmp(option_at(p, k)->name, word, n)) {
            const size_t at = strlen(several);
            snprintf(several + at, sizeof several - at, "%s%s", nfound++ ? ", " : "", option_at(p, k)->name);
            first = nfound == 1 ? k : first;
        }
    if (nfound > 1)
        return apr_cli_usage(p->c, "option %.*s could be %s", (int)apr_min(n, 256), word, several);
    *i = nfound == 1 ? first : *i;
    return *i == count_options(p) ? unknown_option(p, word, n) : -1;
}

/* What a beginning of a name was taken for is said where it names a file that is not there: another option may have been meant. */
static int check_short_name(const struct parse *p, const struct apr_option *o, const char *typed, const char *file)
{
    const bool reads = o->kind == APR_OPTION_INPUT || o->kind == APR_OPTION_INPUTS;
    const size_t n = strcspn(typed, "=");
    if (!reads || typed[1] != '-' || n == strlen(o->name) || !strcmp(file, "-") || access(file, F_OK) == 0)
        return -1;
    return apr_cli_usage(p->c, "%.*s is short for %s: cannot open %s: %s", (int)n, typed, o->name, file, strerror(errno));
}

/* Stores option number i, whose argument is `value`, or, where that is NULL and it wants one, the next word. */
static int take(const struct parse *p, size_t i, const char *value, int argc, char **argv, int *at)
{
    const char *const typed = argv[*at];
    const struct apr_option *o = option_at(p, i);
    const bool flag = o->kind == APR_OPTION_FLAG || o->kind == APR_OPTION_UNSET;
    const bool bare = flag || (is_maybe(o) && !value);
    p->seen[i] = true;
    if (flag && value)
        return apr_cli_usage(p->c, "%s takes no argument", o->name);
    if (!bare && !value && *at + 1 == argc)
        return apr_cli_usage(p->c, "%s wants an argument: %s", o->name, o->argument);
    value = bare ? NULL : value ? value : argv[++*at];
    const int told = bare ? -1 : check_short_name(p, o, typed, value);
    return told >= 0 ? told : store(p->c, o, value);
}

/* Short options: letters side by side ("-qh"), an argument behind its letter ("-j4") or the next word. */
static int take_letters(const struct parse *p, int argc, char **argv, int *at)
{
    for (const char *letter = argv[*at] + 1; *letter; letter++) {
        size_t k = 0;
        while (k < APR_LENGTH(shorts) && shorts[k].letter != *letter)
            k++;
        if (k == APR_LENGTH(shorts))
            return unknown_option(p, argv[*at], strlen(argv[*at]));
        const size_t i = exactly(p, shorts[k].name, strlen(shorts[k].name));
        const bool wants = option_at(p, i)->kind != APR_OPTION_FLAG;
        const int told = take(p, i, wants && letter[1] ? letter + 1 : NULL, argc, argv, at);
        if (told >= 0 || wants)
            return told;
    }
    return -1;
}

/* Reads the option argv[*at], and its argument when that is the next word. */
static int take_option(const struct parse *p, int argc, char **argv, int *at)
{
    const char *word = argv[*at], *equals = strchr(word, '=');
    size_t i;
    if (word[1] != '-')
        return take_letters(p, argc, argv, at);
    const int told = find(p, word, equals ? (size_t)(equals - word) : strlen(word), &i);
    return told >= 0 ? told : take(p, i, equals ? equals + 1 : NULL, argc, argv, at);
}

/* The first of some options, parted by blanks, that was given; NULL when none was. */
static const char *first_given(const struct parse *p, const char *names)
{
    for (size_t n; *names; names += n + (names[n] == ' ')) {
        n = strcspn(names, " ");
        const size_t i = exactly(p, names, n);
        if (i < count_options(p) && p->seen[i])
            return option_at(p, i)->name;
    }
    return NULL;
}

/* "a, b or c" out of "a b c". */
static const char *spell_choice(const char *names, char *out, size_t room)
{
    size_t at = 0;
    for (size_t n; *names && at < room; names += n + (names[n] == ' ')) {
        n = strcspn(names, " ");
        const char *behind = !names[n] ? "" : strchr(names + n + 1, ' ') ? ", " : " or ";
        at += (size_t)snprintf(out + at, room - at, "%.*s%s", (int)n, names, behind);
    }
    return out;
}

/* An option without effect is a mistake, not a wish. */
static int check_effects(const struct parse *p)
{
    char choice[512] = "";
    for (size_t i = 0; i < p->c->noption; i++) {
        const struct apr_option *o = &p->c->option[i];
        const char *other = p->seen[i] && o->against ? first_given(p, o->against) : NULL;
        if (other)
            return apr_cli_usage(p->c, "%s does not go with %s", o->name, other);
        if (p->seen[i] && o->needs && !first_given(p, o->needs))
            return apr_cli_usage(p->c, "%s has no effect without %s", o->name, spell_choice(o->needs, choice, sizeof choice));
    }
    return -1;
}

static unsigned allowed_cpus(void)
{
    cpu_set_t set;
    const long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (unsigned)n;
}

static bool wants_colour(const struct apr_cli *c)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    if (c->color != APR_AUTO)
        return c->color == APR_ALWAYS;
    return isatty(STDOUT_FILENO) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

/* Options -> what the tool and the library ask for. */
static int settle(struct parse *p)
{
    struct apr_cli *c = p->c;
    const char *tmpdir = getenv("TMPDIR");

    if (p->threads_given && (c->threads < 1 || c->threads > MAX_THREADS))
        return apr_cli_usage(c, "--threads wants a number from 1 to %d", MAX_THREADS);
    const enum apr_isa isa = c->isa ? isa_of_word[c->isa - 1] : apr_isa_best();
    if (!apr_isa_has(isa))
        return apr_cli_usage(c, "--isa %s: this CPU does not have it", apr_isa_word(isa));
    c->run.threads = p->threads_given ? (unsigned)c->threads : allowed_cpus();
    c->run.kernels = apr_kernels_for(isa);
    c->run.tmpdir = tmpdir && *tmpdir ? tmpdir : "/tmp";
    if (c->progress == APR_ALWAYS || (c->progress == APR_AUTO && !c->quiet))
        c->run.progress = apr_progress_new(c->progress == APR_ALWAYS);
    c->colour = wants_colour(c);
    c->columns = terminal_columns();
    return -1;
}

/* ---- signals ------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t reader_left, pipes_ignored;

static void die_by(int number)
{
    apr_sink_abandon();
    signal(number, SIG_DFL);
    raise(number);
}

/* A mapped file that shrank, or a disk that failed: the lost pages read as zeros from here on, and apr_model_intact tells. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
    const int kept = errno;
    (void)context;
    if (info->si_code <= 0 || !apr_source_patch(info->si_addr))     /* si_code <= 0: somebody sent it */
        die_by(number);
    errno = kept;
}

/* Nobody reads on: the end, unless a file is being written, which is finished first. */
static void on_sigpipe(int number)
{
    reader_left = 1;
    if (!pipes_ignored && !apr_sink_pending())
        die_by(number);
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
    sigfillset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void prepare_signals(void)
{
    static const int ends[] = { SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGXCPU, SIGVTALRM, SIGPROF, SIGIO };
    struct sigaction bus = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO }, now;

    sigemptyset(&bus.sa_mask);
    sigaction(SIGBUS, &bus, NULL);
    signal(SIGXFSZ, SIG_IGN);           /* a file size limit is a failing write, with its message */
    for (size_t i = 0; i < APR_LENGTH(ends); i++)
        if (sigaction(ends[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL)   /* nohup stays what it is */
            handle(ends[i], die_by);
    pipes_ignored = sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
    handle(SIGPIPE, on_sigpipe);
}

/* ---- the frame of a run -------------------------------------------------------------------------------------------- */

/* stdout as a sink, which keeps errno of the first write that failed; and what stdio had in its place. */
static struct apr_sink answer;
static FILE           *plain;

static enum apr_code prepare_process(struct apr_error *e)
{
    static char buffer[64 << 10];

    prepare_signals();
    for (int fd = 0; fd <= 2; fd++)     /* a model file must not become a closed stdout: this one refuses writes */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            break;
    if (plain)
        return APR_OK;
    APR_TRY(apr_sink_begin(&answer, "-", 0, e));
    plain = stdout;
    stdout = answer.to;                 /* a variable like any other in the GNU C Library */
    setvbuf(stdout, buffer, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, sizeof buffer);
    return APR_OK;
}

static int parse_all(struct parse *p, int argc, char **argv)
{
    struct apr_cli *c = p->c;
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (!options || argv[i][0] != '-' || !argv[i][1]) {
            c->operand[c->noperand++] = argv[i];
        } else if (!strcmp(argv[i], "--")) {
            options = false;
        } else {
            const int told = take_option(p, argc, argv, &i);
            if (told >= 0)
                return told;
            if (p->help)
                print_help(p);
            if (p->version)
                printf("%s %s\n", c->tool, APR_VERSION);
            if (p->help || p->version)
                return APR_EXIT_YES;
        }
    }
    const int told = check_effects(p);
    return told >= 0 ? told : settle(p);
}

int apr_cli_parse(struct apr_cli *c, int argc, char **argv)
{
    struct parse p = { .c = c };
    struct apr_error e;

    if (prepare_process(&e) != APR_OK)
        return apr_cli_fail(c, &e);
    fill_common(&p);
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        c->asked |= strcmp(argv[i], "--json") == 0; /* for words about what stands before it */
    c->operand = calloc((size_t)argc + 1, sizeof *c->operand);
    p.seen = calloc(count_options(&p), sizeof *p.seen);
    const int told = c->operand && p.seen ? parse_all(&p, argc, argv) : no_memory(c);
    free(p.seen);
    return told;
}

/* False when not all of the answer arrived; why is told, but that nobody reads it. */
static bool end_stdout(const struct apr_cli *c)
{
    struct apr_error e;
    if (!plain)
        return true;
    const bool whole = apr_sink_end(&answer, &e) == APR_OK;
    stdout = plain;
    plain = NULL;
    if (!whole)
        apr_cli_fail(c, &e);
    if (reader_left && !pipes_ignored)
        die_by(SIGPIPE);
    return whole && !reader_left;
}

int apr_cli_finish(struct apr_cli *c, int code)
{
    apr_progress_free(c->run.progress);
    c->run.progress = NULL;
    for (size_t i = 0; i < c->noption; i++)
        if (c->option[i].kind == APR_OPTION_LIST || c->option[i].kind == APR_OPTION_INPUTS) {
            struct apr_texts *list = c->option[i].to;
            free(list->text);
            *list = (struct apr_texts){ 0 };
        }
    free(c->operand);
    c->operand = NULL;
    c->noperand = 0;

    return end_stdout(c) ? code : APR_EXIT_NONE;
}
