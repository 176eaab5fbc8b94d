/* PCRE2 interprets here, without its compiler to machine code: no memory is executable, and steps are the same everywhere. */
#include "base/regex.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/bytes.h"

#define MOST_PARENTHESES 100
#define MOST_CODE        65536 /* bytes */
#define MOST_FRAMES      16384 /* KiB of what a match may come back to */
#define MOST_DEPTH       100000
#define OWN_BYTES        512   /* of what belongs to each, its code aside */
#define TRY_STEPS        64    /* of beginning a match at all */

struct apr_regex {
    pcre2_code          *code;
    pcre2_match_context *context;
    size_t               bytes;      /* of code */
    uint64_t             left, step; /* of the match at hand: steps left, steps an item costs */
};

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

/* Behind the class at i ("[:alpha:]", within a set), or i when there is none. */
static size_t behind_class(struct apr_bytes t, size_t i)
{
    size_t end = i + 2;
    if (t.n - i < 4 || memcmp(t.at + i, "[:", 2) != 0)
        return i;
    while (end < t.n && (t.at[end] == '^' || (t.at[end] >= 'a' && t.at[end] <= 'z')))
        end++;
    return t.n - end >= 2 && memcmp(t.at + end, ":]", 2) == 0 ? end + 2 : i;
}

/* Behind the set whose bracket is at i: what is in it means nothing outside. */
static size_t behind_set(struct apr_bytes t, size_t i)
{
    i += i + 1 < t.n && t.at[i + 1] == '^' ? 2 : 1;
    for (const size_t first = i; i < t.n && (t.at[i] != ']' || i == first);) {
        const size_t behind = behind_class(t, i);
        i = behind > i ? behind : t.at[i] == '\\' ? i + 2 : i + 1;
    }
    return i + 1;
}

/* What may stand behind "(?": groups that only group, looking ahead and behind, and letters that change how one matches. */
static bool plain_group(struct apr_bytes t, size_t i)
{
    static const char *const looks[] = { "<=", "<!" };
    for (size_t k = 0; k < APR_LENGTH(looks); k++)
        if (t.n - i >= 2 && memcmp(t.at + i, looks[k], 2) == 0)
            return true;
    const bool number = t.n - i >= 2 && t.at[i] == '-' && t.at[i + 1] >= '0' && t.at[i + 1] <= '9';
    return i < t.n && memchr(":=!>|ims^-)", t.at[i], 11) != NULL && !number;
}

static const char *refused(struct apr_bytes t)
{
    for (size_t i = 0; i < t.n; i++) {
        if (t.at[i] == '\\' && i + 1 < t.n) {
            i++;
            if (t.at[i] == 'g' || t.at[i] == 'k' || (t.at[i] >= '1' && t.at[i] <= '9'))
                return "back references are not accepted";
            if (t.at[i] == 'Q' || t.at[i] == 'E')
                return "\\Q and \\E are not accepted";
        } else if (t.at[i] == '[') {
            i = behind_set(t, i) - 1;
        } else if (t.at[i] == '(' && i + 1 < t.n) {
            if (t.at[i + 1] == '*')
                return "verbs, (*NAME), are not accepted";
            if (t.at[i + 1] == '?' && !plain_group(t, i + 2))
                return "after (? only : = ! > | <= <! and i m s are accepted";
        }
    }
    return NULL;
}

/* ---- compiling ------------------------------------------------------------------------------------------------------ */

/* Called before each item: PCRE2's own limit counts anew at every place where a match may begin. */
static int count(pcre2_callout_block *block, void *regex)
{
    struct apr_regex *x = regex;
    (void)block;
    if (x->left < x->step)
        return PCRE2_ERROR_MATCHLIMIT;
    x->left -= x->step;
    return 0;
}

static enum apr_code complain(struct apr_error *e, int fault)
{
    unsigned char why[256];
    if (fault == PCRE2_ERROR_NOMEMORY || fault == PCRE2_ERROR_HEAP_FAILED)
        return apr_no_memory(e);
    pcre2_get_error_message(fault, why, sizeof why);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "%s", (const char *)why);
}

static enum apr_code compile(struct apr_regex *x, struct apr_bytes text, struct apr_error *e)
{
    static const uint32_t options = PCRE2_UTF | PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C |
                                    PCRE2_AUTO_CALLOUT;
    int fault;
    size_t at;
    uint32_t references = 0, captures = 0;
    pcre2_compile_context *limits = pcre2_compile_context_create(NULL);
    if (limits == NULL)
        return apr_no_memory(e);
    pcre2_set_parens_nest_limit(limits, MOST_PARENTHESES);
    x->code = pcre2_compile(text.at, text.n, options, &fault, &at, limits);
    pcre2_compile_context_free(limits);
    if (x->code == NULL)
        return complain(e, fault);
    pcre2_pattern_info(x->code, PCRE2_INFO_SIZE, &x->bytes);
    pcre2_pattern_info(x->code, PCRE2_INFO_BACKREFMAX, &references);
    pcre2_pattern_info(x->code, PCRE2_INFO_CAPTURECOUNT, &captures);
    if (references + captures > 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "back references and named groups are not accepted");
    if (x->bytes > MOST_CODE)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it compiles to %zu bytes, more than %d", x->bytes, MOST_CODE);
    return APR_OK;
}

enum apr_code apr_regex_new(struct apr_regex **out, struct apr_bytes text, struct apr_error *e)
{
    const char *why = refused(text);
    *out = NULL;
    if (why != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s", why);
    struct apr_regex *x = calloc(1, sizeof *x);
    if (x == NULL)
        return apr_no_memory(e);
    x->context = pcre2_match_context_create(NULL);
    const enum apr_code code = x->context == NULL ? apr_no_memory(e) : compile(x, text, e);
    if (code != APR_OK) {
        apr_regex_free(x);
        return code;
    }
    pcre2_set_heap_limit(x->context, MOST_FRAMES);
    pcre2_set_depth_limit(x->context, MOST_DEPTH);
    pcre2_set_callout(x->context, count, x);
    *out = x;
    return APR_OK;
}

void apr_regex_free(struct apr_regex *x)
{
    if (x == NULL)
        return;
    pcre2_code_free(x->code);
    pcre2_match_context_free(x->context);
    free(x);
}

size_t apr_regex_bytes(const struct apr_regex *x) { return OWN_BYTES + x->bytes; }

/* ---- matching ------------------------------------------------------------------------------------------------------- */

/* An item may look through the whole text before the next is counted, a fraction of a step for each byte. */
static int match(struct apr_regex *x, struct apr_bytes text, pcre2_match_data *data, uint64_t *work)
{
    const uint64_t begin = TRY_STEPS + text.n;
    if (*work < begin) {
        *work = 0;
        return PCRE2_ERROR_MATCHLIMIT;
    }
    x->left = *work - begin;
    x->step = 8 + text.n / 4;
    const int found = pcre2_match(x->code, text.n == 0 ? (const unsigned char *)"" : text.at, text.n, 0, 0, data, x->context);
    *work = found == PCRE2_ERROR_MATCHLIMIT ? 0 : x->left;
    return found;
}

enum apr_code apr_regex_matches(struct apr_regex *x, struct apr_bytes text, uint64_t *work, bool *yes, struct apr_error *e)
{
    *yes = false;
    if (text.n > APR_REGEX_SUBJECT)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "has %zu bytes, and expressions are for %d", text.n, APR_REGEX_SUBJECT);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    if (data == NULL)
        return apr_no_memory(e);
    const int found = match(x, text, data, work);
    pcre2_match_data_free(data);
    *yes = found >= 0;
    switch (found) {
    case PCRE2_ERROR_NOMATCH:
        return APR_OK;
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
    case PCRE2_ERROR_HEAPLIMIT:
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "takes more steps than are accepted");
    default:
        return found >= 0 ? APR_OK : complain(e, found);
    }
}
