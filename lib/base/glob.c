#include "base/glob.h"

#include <ctype.h>

#include "base/bytes.h"

#define NO_CHARACTER 0x110000 /* and more: bytes that are in no character */

/* The character at *i, which moves behind it. */
static uint32_t take(struct apr_bytes s, size_t *i)
{
    static const unsigned char mask[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
    const size_t n = apr_utf8_length(s.at + *i, s.n - *i);
    if (n == 0)
        return NO_CHARACTER + s.at[(*i)++];
    uint32_t c = s.at[(*i)++] & mask[n];
    for (size_t k = 1; k < n; k++)
        c = c << 6 | (s.at[(*i)++] & 0x3fu);
    return c;
}

/* ---- sets ----------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name; /* with what closes it */
    int       (*has)(int c);
} classes[] = {
    { "alpha:]", isalpha }, { "digit:]", isdigit }, { "alnum:]", isalnum }, { "upper:]", isupper },
    { "lower:]", islower }, { "space:]", isspace }, { "blank:]", isblank }, { "punct:]", ispunct },
    { "print:]", isprint }, { "graph:]", isgraph }, { "cntrl:]", iscntrl }, { "xdigit:]", isxdigit },
};

/* The class that begins at i ("[:digit:]"), *end behind it; -1 when none does. */
static int class_at(struct apr_bytes g, size_t i, size_t *end)
{
    if (g.n - i < 2 || memcmp(g.at + i, "[:", 2) != 0)
        return -1;
    for (size_t k = 0; k < APR_LENGTH(classes); k++) {
        const size_t n = strlen(classes[k].name);
        if (g.n - i - 2 >= n && memcmp(g.at + i + 2, classes[k].name, n) == 0) {
            *end = i + 2 + n;
            return (int)k;
        }
    }
    return -1;
}

/* The next character of a set, which \ may stand before. */
static uint32_t take_member(struct apr_bytes g, size_t *i)
{
    *i += g.at[*i] == '\\' && *i + 1 < g.n;
    return take(g, i);
}

/* The set that begins with the bracket at *g: is c in it? *g is then behind its end; without one it stays. */
static bool set_has(struct apr_bytes glob, size_t *g, uint32_t c)
{
    size_t i = *g + 1;
    const bool not = i < glob.n && (glob.at[i] == '!' || glob.at[i] == '^');
    i += not;
    bool has = false;
    for (const size_t first = i; i < glob.n && (glob.at[i] != ']' || i == first);) {
        const int class = class_at(glob, i, &i);
        if (class >= 0) {
            has |= c < 0x80 && classes[class].has((int)c);
            continue;
        }
        const uint32_t low = take_member(glob, &i);
        uint32_t high = low;
        if (glob.n - i > 1 && glob.at[i] == '-' && glob.at[i + 1] != ']') {
            i++;
            high = take_member(glob, &i);
        }
        has |= low <= c && c <= high;
    }
    if (i >= glob.n)
        return false;
    *g = i + 1;
    return has != not;
}

/* ---- one character, then many --------------------------------------------------------------------------------------- */

/* Does what stands at *g, which is no star, take the character c? *g moves behind it. */
static bool takes(struct apr_bytes glob, size_t *g, uint32_t c)
{
    const size_t begin = *g;
    if (glob.at[begin] == '?') {
        ++*g;
        return true;
    }
    if (glob.at[begin] == '[') {
        const bool has = set_has(glob, g, c);
        if (*g > begin)
            return has;
    }
    return take_member(glob, g) == c;
}

/* What follows the last star is tried ever further right; what stands before it need never be tried again. */
bool apr_glob_matches(struct apr_bytes glob, struct apr_bytes name, uint64_t *work)
{
    size_t g = 0, i = 0, star = SIZE_MAX, from = 0;
    while (i < name.n) {
        if (g < glob.n && glob.at[g] == '*') {
            star = ++g;
            from = i;
            continue;
        }
        size_t next = g, after = i;
        const bool taken = g < glob.n && takes(glob, &next, take(name, &after));
        /* a set is read to its end, or in vain to that of the glob */
        const uint64_t steps = g < glob.n && glob.at[g] == '[' ? glob.n - g : 1;
        if (*work < steps) {
            *work = 0;
            return false;
        }
        *work -= steps;
        if (!taken && star == SIZE_MAX)
            return false;
        if (!taken) {
            take(name, &from);
            next = star;
            after = from;
        }
        g = next;
        i = after;
    }
    while (g < glob.n && glob.at[g] == '*')
        g++;
    return g == glob.n;
}

bool apr_glob_is(const char *glob, const char *path)
{
    uint64_t work = UINT64_MAX;
    return apr_glob_matches(apr_text(glob), apr_text(path), &work);
}

struct apr_bytes apr_glob_literal(struct apr_bytes glob)
{
    struct apr_bytes longest = { glob.at, 0 };
    for (size_t g = 0, begin; g < glob.n;) {
        for (begin = g; g < glob.n && memchr("*?[\\", glob.at[g], 4) == NULL;)
            g++;
        if (g - begin > longest.n)
            longest = (struct apr_bytes){ glob.at + begin, g - begin };
        begin = g;
        if (g < glob.n && glob.at[g] == '[')
            set_has(glob, &g, 0);
        else if (g + 1 < glob.n && glob.at[g] == '\\')
            g++;
        g += g == begin || glob.at[begin] == '\\';
    }
    return longest;
}
