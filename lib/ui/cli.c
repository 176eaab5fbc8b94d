/* The command line: messages, arguments, parsing. */
#include "ui/cli_table.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "files/remote.h"
#include "files/source.h"
#include "model/model.h"
#include "ui/progress.h"
#include "ui/remote.h"
#include "ui/report.h"
#include "values/kernels.h"

#define MAX_THREADS 1024
/* The words of --isa after "auto". */
static const enum apr_isa isa_of_word[] = { APR_SCALAR, APR_AVX2, APR_AVX512, APR_NEON };

/* One parse: the options, and which of them were seen, by their numbers. */
struct parse {
    struct apr_cli_table table;
    struct apr_cli      *c;
    bool                *seen;
};

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

/* Stores the argument of one option; -1, or the exit code of the fault that was told. */
static int store(const struct apr_cli *c, const struct apr_option *o, const char *text)
{
    const char *rest = text;
    uint64_t n;
    double real;
    unsigned index;

    if (o->given)
        *o->given = true;
    if (apr_cli_names_a_file(o) && text && !*text)
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
    for (size_t i = 0; i < apr_cli_count(&p->table); i++)
        apr_nearest_try(&near, apr_text(apr_cli_at(&p->table, i)->name));
    for (size_t i = 0; i < apr_cli_count(&p->table); i++)
        if (is_among(apr_cli_at(&p->table, i)->instead, word, n))
            near.best = apr_text(apr_cli_at(&p->table, i)->name);
    if (near.best.n)
        return apr_cli_usage(p->c, "unknown option %.*s (did you mean %.*s?)", (int)apr_min(n, 256), word, (int)near.best.n,
                             (const char *)near.best.at);
    return apr_cli_usage(p->c, "unknown option %.*s", (int)apr_min(n, 256), word);
}

/* The number of the option that the n bytes of word name, or begin as no other does; -1 with *i, or the exit code of what was told. */
static int find(const struct parse *p, const char *word, size_t n, size_t *i)
{
    char several[256] = "";
    size_t nfound = 0, first = apr_cli_count(&p->table);
    *i = apr_cli_exactly(&p->table, word, n);
    for (size_t k = 0; n > 2 && *i == apr_cli_count(&p->table) && k < apr_cli_count(&p->table); k++)
        if (!strncmp(apr_cli_at(&p->table, k)->name, word, n)) {
            const size_t at = strlen(several);
            snprintf(several + at, sizeof several - at, "%s%s", nfound++ ? ", " : "", apr_cli_at(&p->table, k)->name);
            first = nfound == 1 ? k : first;
        }
    if (nfound > 1)
        return apr_cli_usage(p->c, "option %.*s could be %s", (int)apr_min(n, 256), word, several);
    *i = nfound == 1 ? first : *i;
    return *i == apr_cli_count(&p->table) ? unknown_option(p, word, n) : -1;
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
    const struct apr_option *o = apr_cli_at(&p->table, i);
    const bool flag = apr_cli_is_flag(o);
    const bool bare = flag || (apr_cli_is_maybe(o) && !value);
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
        const size_t i = apr_cli_of_letter(&p->table, *letter);
        if (i == apr_cli_count(&p->table))
            return unknown_option(p, argv[*at], strlen(argv[*at]));
        const bool wants = apr_cli_at(&p->table, i)->kind != APR_OPTION_FLAG;
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
        const size_t i = apr_cli_exactly(&p->table, names, n);
        if (i < apr_cli_count(&p->table) && p->seen[i])
            return apr_cli_at(&p->table, i)->name;
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

    if (p->table.threads_given && (c->threads < 1 || c->threads > MAX_THREADS))
        return apr_cli_usage(c, "--threads wants a number from 1 to %d", MAX_THREADS);
    const enum apr_isa isa = c->isa ? isa_of_word[c->isa - 1] : apr_isa_best();
    if (!apr_isa_has(isa))
        return apr_cli_usage(c, "--isa %s: this CPU does not have it", apr_isa_word(isa));
    c->run.threads = p->table.threads_given ? (unsigned)c->threads : allowed_cpus();
    c->run.kernels = apr_kernels_for(isa);
    c->run.tmpdir = tmpdir && *tmpdir ? tmpdir : access("/tmp", F_OK) == 0 ? "/tmp" : NULL;
    if (c->progress == APR_ALWAYS || (c->progress == APR_AUTO && !c->quiet))
        c->run.progress = apr_progress_new(c->progress == APR_ALWAYS);
    c->colour = wants_colour(c);
    c->columns = apr_cli_columns();
    return apr_remote_settle(c);
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
            if (p->table.help)
                apr_cli_help(&p->table);
            if (p->table.version)
                printf("%s %s\n", c->tool, APR_VERSION);
            if (p->table.help || p->table.version)
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

    if (apr_cli_begin_process(&e) != APR_OK)
        return apr_cli_fail(c, &e);
    apr_cli_table_of(&p.table, c);
    if (argc > 1 && strcmp(argv[1], "--complete") == 0)
        return apr_cli_complete(&p.table, argc, argv);
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        c->asked |= strcmp(argv[i], "--json") == 0; /* for words about what stands before it */
    c->operand = calloc((size_t)argc + 1, sizeof *c->operand);
    p.seen = calloc(apr_cli_count(&p.table), sizeof *p.seen);
    const int told = c->operand && p.seen ? parse_all(&p, argc, argv) : no_memory(c);
    free(p.seen);
    return told;
}

int apr_cli_finish(struct apr_cli *c, int code)
{
    apr_remote_free(c->run.remote);
    apr_progress_free(c->run.progress);
    c->run.remote = NULL;
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

    return apr_cli_end_process(c) ? code : APR_EXIT_NONE;
}
