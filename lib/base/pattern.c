/* Name patterns: substring, glob, regular expression. */
#include "base/pattern.h"

#include <fnmatch.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum kind { WORD, GLOB, REGEX };

struct apr_pattern {
    enum kind kind;
    char     *text; /* of a word or glob */
    regex_t   regex;
};

enum apr_code apr_pattern_new(struct apr_pattern **out, const char *text, struct apr_error *e)
{
    struct apr_pattern *p = calloc(1, sizeof *p);

    *out = NULL;
    if (!p)
        return apr_no_memory(e);
    if (!strncmp(text, "re:", 3)) {
        const int fault = regcomp(&p->regex, text + 3, REG_EXTENDED | REG_NOSUB);
        if (fault) {
            char why[128];
            regerror(fault, &p->regex, why, sizeof why);
            free(p);
            if (fault == REG_ESPACE)
                return apr_no_memory(e);
            return apr_fail(e, APR_EARG, APR_NOWHERE, "pattern %s: %s", APR_QUOTED(apr_text(text)), why);
        }
        p->kind = REGEX;
    } else {
        p->kind = strpbrk(text, "*?[") ? GLOB : WORD;
        p->text = strdup(text);
        if (!p->text) {
            free(p);
            return apr_no_memory(e);
        }
    }
    *out = p;
    return APR_OK;
}

void apr_pattern_free(struct apr_pattern *p)
{
    if (p && p->kind == REGEX)
        regfree(&p->regex);
    if (p)
        free(p->text);
    free(p);
}

static bool matches(const struct apr_pattern *p, const char *name)
{
    switch (p->kind) {
    case WORD:
        return strstr(name, p->text);
    case GLOB:
        return !fnmatch(p->text, name, 0);
    case REGEX:
        return !regexec(&p->regex, name, 0, NULL, 0);
    }
    return false;
}

/* The functions of the C library want a terminator, which names in a map do not have; they have no NUL inside. */
bool apr_pattern_matches(const struct apr_pattern *p, struct apr_bytes name)
{
    char near[512], *copy = name.n < sizeof near ? near : malloc(name.n + 1);

    if (!copy)
        return false;
    if (name.n)
        memcpy(copy, name.at, name.n);
    copy[name.n] = '\0';
    const bool yes = matches(p, copy);
    if (copy != near)
        free(copy);
    return yes;
}
