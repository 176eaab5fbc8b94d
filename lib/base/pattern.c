/* Each pattern has a plain part that a name must hold: all of a word, the longest run of a glob, nothing of an expression but all of one
 * that spells a single name. The words find the plain parts in a name, and only the patterns that those belong to are tried, in their
 * order. */
#include "base/pattern.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/glob.h"
#include "base/regex.h"
#include "base/words.h"

#define MOST_CODE  ((size_t)16 << 20)  /* bytes of all expressions */
#define FIRST_WORK ((uint64_t)1 << 30) /* steps, of a nanosecond or so, that all matching may take, ... */
#define NAME_WORK  ((uint64_t)1 << 15) /* with as many more for each name, ... */
#define TRY_WORK   ((uint64_t)1 << 26) /* and of them one pattern with one name */

#define TRIAL_WORK 64                  /* of finding out that one must be tried */

enum kind { WORD, GLOB, NAME, REGEX };

struct pattern {
    enum kind         kind;
    bool              noted;
    struct apr_bytes  text, plain;
    struct apr_regex *regex;
};

/* try: the numbers of those whose plain part a name has; first: a word that occurs in it */
struct apr_patterns {
    struct apr_arena *arena;
    struct pattern   *at;
    size_t            n, room;
    struct apr_words *words; /* of all, or NULL since the last was added */
    size_t           *try, ntry, first;
    size_t            code;  /* bytes of all expressions */
    uint64_t          work;
    bool              all;   /* noting */
};

/* ---- making --------------------------------------------------------------------------------------------------------- */

#define PREFIX "re:"

/* Makes the expression ^...$ of plain and escaped characters the name that it spells; leaves any other as it is. There may be very many of
 * these, as no expression may. */
static enum apr_code make_name(struct apr_patterns *p, struct pattern *x, struct apr_error *e)
{
    static const char special[] = "\\^$.[]|()?*+{}";
    const size_t first = sizeof PREFIX, last = x->text.n - 1; /* ^ is before the first, $ the last */
    size_t n = 0;
    if (x->text.n <= first || x->text.at[first - 1] != '^' || x->text.at[last] != '$' || !apr_is_utf8(x->text))
        return APR_OK;
    unsigned char *const name = apr_arena_alloc(&p->arena, x->text.n);
    if (name == NULL)
        return apr_no_memory(e);
    for (size_t i = first; i < last; name[n++] = x->text.at[i++]) {
        const bool escape = x->text.at[i] == '\\';
        i += escape;
        if (escape ? i == last || !ispunct(x->text.at[i]) : memchr(special, x->text.at[i], sizeof special - 1) != NULL)
            return APR_OK;
    }
    x->kind = NAME;
    x->plain = (struct apr_bytes){ name, n };
    return APR_OK;
}

static enum apr_code make(struct apr_patterns *p, struct pattern *x, struct apr_error *e)
{
    struct apr_error why;
    x->text = apr_arena_copy(&p->arena, x->text);
    if (x->text.at == NULL)
        return apr_no_memory(e);
    if (x->text.n > APR_PATTERN_MOST)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "pattern %s: it has %zu bytes, more than %d", APR_QUOTED(x->text), x->text.n, APR_PATTERN_MOST);
    if (x->kind == GLOB) {
        x->plain = apr_glob_literal(x->text);
        return APR_OK;
    }
    x->plain = (struct apr_bytes){ x->text.at, x->kind == WORD ? x->text.n : 0 };
    if (x->kind == REGEX)
        APR_TRY(make_name(p, x, e));
    if (x->kind != REGEX)
        return APR_OK;
    const size_t skip = sizeof PREFIX - 1;
    const enum apr_code code = apr_regex_new(&x->regex, (struct apr_bytes){ x->text.at + skip, x->text.n - skip }, &why);
    if (code == APR_ENOMEM)
        return apr_no_memory(e);
    if (code != APR_OK)
        return apr_fail(e, code, APR_NOWHERE, "pattern %s: %s", APR_QUOTED(x->text), why.text);
    p->code += apr_regex_bytes(x->regex);
    if (p->code <= MOST_CODE)
        return APR_OK;
    apr_regex_free(x->regex);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "pattern %s: with it the expressions of %zu patterns take more than %zu MiB",
                    APR_QUOTED(x->text), p->n + 1, MOST_CODE >> 20);
}

static enum apr_code add(struct apr_patterns **patterns, struct pattern x, struct apr_error *e)
{
    struct apr_patterns *p = *patterns;
    if (p == NULL && (p = *patterns = calloc(1, sizeof *p)) == NULL)
        return apr_no_memory(e);
    struct pattern *more = apr_grown(p->at, &p->room, p->n, 8, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    p->at = more;
    APR_TRY(make(p, &x, e));
    p->at[p->n++] = x;
    apr_words_free(p->words);
    p->words = NULL;
    return APR_OK;
}

static bool is_glob(struct apr_bytes text)
{
    bool yes = false;
    for (size_t i = 0; i < text.n; i++)
        yes |= text.at[i] == '*' || text.at[i] == '?' || text.at[i] == '[';
    return yes;
}

enum apr_code apr_patterns_add(struct apr_patterns **p, struct apr_bytes text, struct apr_error *e)
{
    const bool regex = text.n >= 3 && memcmp(text.at, "re:", 3) == 0;
    return add(p, (struct pattern){ .kind = regex ? REGEX : is_glob(text) ? GLOB : WORD, .text = text }, e);
}

enum apr_code apr_patterns_add_glob(struct apr_patterns **p, struct apr_bytes text, struct apr_error *e)
{
    return add(p, (struct pattern){ .kind = GLOB, .text = text }, e);
}

void apr_patterns_free(struct apr_patterns *p)
{
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->n; i++)
        apr_regex_free(p->at[i].regex);
    apr_words_free(p->words);
    apr_arena_free(&p->arena);
    free(p->at);
    free(p->try);
    free(p);
}

/* ---- matching ------------------------------------------------------------------------------------------------------- */

static enum apr_code prepare(struct apr_patterns *p, struct apr_error *e)
{
    if (p->words != NULL)
        return APR_OK;
    struct apr_bytes *plain = calloc(p->n, sizeof *plain);
    size_t *try = realloc(p->try, p->n * sizeof *try);
    p->try = try == NULL ? p->try : try;
    if (plain == NULL || try == NULL) {
        free(plain);
        return apr_no_memory(e);
    }
    for (size_t i = 0; i < p->n; i++)
        plain[i] = p->at[i].plain;
    p->work = FIRST_WORK;
    const enum apr_code code = apr_words_new(&p->words, plain, p->n, e);
    free(plain);
    return code;
}

/* A word that is found matches; of equal ones, those behind it can be no first. */
static bool take_found(void *patterns, size_t i)
{
    struct apr_patterns *p = patterns;
    if (p->at[i].kind != WORD) {
        if (!p->at[i].noted || !p->all)
            p->try[p->ntry++] = i;
        return true;
    }
    p->at[i].noted |= p->all;
    p->first = i < p->first ? i : p->first;
    return p->all;
}

static enum apr_code beyond(const struct pattern *x, struct apr_bytes name, const char *why, struct apr_error *e)
{
    return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "pattern %s: the name %s %s", APR_QUOTED(x->text), APR_QUOTED(name), why);
}

/* What was left for all patterns was less than one may take. */
static enum apr_code all_beyond(const struct apr_patterns *p, const struct pattern *x, struct apr_bytes name, struct apr_error *e)
{
    return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu patterns together take more steps than are accepted: at pattern %s, with the name %s",
                    p->n, APR_QUOTED(x->text), APR_QUOTED(name));
}

static enum apr_code matches(struct apr_patterns *p, const struct pattern *x, struct apr_bytes name, bool *yes, struct apr_error *e)
{
    const uint64_t most = p->work < TRY_WORK ? p->work : TRY_WORK;
    uint64_t left = most;
    struct apr_error why;
    enum apr_code code = APR_OK;
    if (x->kind == NAME) {
        *yes = apr_bytes_equal(x->plain, name);
    } else if (x->kind == GLOB) {
        *yes = apr_glob_matches(x->text, name, &left);
    } else {
        code = apr_regex_matches(x->regex, name, &left, yes, &why);
    }
    p->work -= most - left;
    if (code == APR_ENOMEM)
        return apr_no_memory(e);
    if (left == 0)
        return most < TRY_WORK ? all_beyond(p, x, name, e) : beyond(x, name, "takes more steps than are accepted", e);
    return code == APR_OK ? APR_OK : beyond(x, name, why.text, e);
}

static int by_number(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* Fills p->try, by rising number, and p->first. */
static enum apr_code find(struct apr_patterns *p, struct apr_bytes name, struct apr_error *e)
{
    uint64_t taken = 0;
    APR_TRY(prepare(p, e));
    p->ntry = 0;
    p->first = APR_NO_PATTERN;
    apr_words_find(p->words, name, take_found, p, &taken);
    qsort(p->try, p->ntry, sizeof *p->try, by_number);
    p->work += NAME_WORK;
    taken += TRIAL_WORK * p->ntry;
    if (taken > p->work)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu patterns take more steps than are accepted, with the name %s", p->n,
                        APR_QUOTED(name));
    p->work -= taken;
    return APR_OK;
}

enum apr_code apr_patterns_first(struct apr_patterns *p, struct apr_bytes name, size_t *first, struct apr_error *e)
{
    *first = APR_NO_PATTERN;
    if (p == NULL)
        return APR_OK;
    p->all = false;
    APR_TRY(find(p, name, e));
    for (size_t i = 0; i < p->ntry && p->try[i] < p->first; i++) {
        bool yes;
        APR_TRY(matches(p, &p->at[p->try[i]], name, &yes, e));
        if (yes)
            p->first = p->try[i];
    }
    *first = p->first;
    return APR_OK;
}

enum apr_code apr_patterns_want(struct apr_patterns *p, struct apr_bytes name, bool *yes, struct apr_error *e)
{
    size_t first;
    *yes = p == NULL;
    APR_TRY(apr_patterns_first(p, name, &first, e));
    *yes |= first != APR_NO_PATTERN;
    return APR_OK;
}

enum apr_code apr_patterns_note(struct apr_patterns *p, struct apr_bytes name, struct apr_error *e)
{
    if (p == NULL)
        return APR_OK;
    p->all = true;
    APR_TRY(find(p, name, e));
    for (size_t i = 0; i < p->ntry; i++) {
        bool yes;
        APR_TRY(matches(p, &p->at[p->try[i]], name, &yes, e));
        p->at[p->try[i]].noted |= yes;
    }
    return APR_OK;
}

bool apr_patterns_noted(const struct apr_patterns *p, size_t i) { return p->at[i].noted; }

size_t apr_patterns_count(const struct apr_patterns *p) { return p == NULL ? 0 : p->n; }

struct apr_bytes apr_patterns_text(const struct apr_patterns *p, size_t i) { return p->at[i].text; }
