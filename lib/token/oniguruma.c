/* Expressions in Oniguruma's syntax for Ruby, which the tokenizers of HuggingFace speak, in PCRE2's.
 *   [a-c\s]    [\x{61}-\x{63}\t-\r ...]           characters by their numbers, classes by what Oniguruma has in them
 *   [a[^b]]    (?:[\x{61}]|[^\x{62}])             what is more than a list stands beside it
 *   [^a&&\S]   (?:(?!(?:(?=[\x{61}])[^...]))(?s:.))
 *   (?m:.)     (?s:.)
 *   a{1,2}+    (?:a{1,2})+ */
#include "token/expression_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define DEPTH 32u /* of parentheses, and of sets, within each other */
#define HEX   "0-9A-Fa-f"

/* from, i  the text and where it is read
 *   atom   where in out the last thing begins that a quantifier may stand behind
 *   open   the same of the parentheses that are open */
struct spelling {
    struct apr_bytes  from;
    size_t            i, atom, open[DEPTH];
    unsigned          depth;
    struct apr_made  *out;
    struct apr_error *e;
};

static unsigned char look(const struct spelling *s, size_t ahead) { return s->i + ahead < s->from.n ? s->from.at[s->i + ahead] : 0; }

static bool begins(const struct spelling *s, const char *word)
{
    const size_t n = strlen(word);
    return s->i <= s->from.n && s->from.n - s->i >= n && memcmp(s->from.at + s->i, word, n) == 0;
}

static enum apr_code refuse(const struct spelling *s, const char *why)
{
    return apr_fail(s->e, APR_EUNSUPPORTED, APR_NOWHERE, "the expression %s has %s at byte %zu", APR_QUOTED(s->from), why, s->i);
}

static enum apr_code say(const struct spelling *s, struct apr_made *to, const char *text) { return apr_made_add(to, apr_text(text), s->e); }

static enum apr_code say_number(const struct spelling *s, struct apr_made *to, const char *before, uint32_t c)
{
    char text[24];
    snprintf(text, sizeof text, "%s\\x{%x}", before, (unsigned)c);
    return say(s, to, text);
}

static enum apr_code insert(const struct spelling *s, size_t at, const char *text)
{
    const size_t n = strlen(text), behind = s->out->n - at;
    APR_TRY(say(s, s->out, text));
    memmove(s->out->at + at + n, s->out->at + at, behind);
    memcpy(s->out->at + at, text, n);
    return APR_OK;
}

/* ---- classes --------------------------------------------------------------------------------------------------------- */

/* What \s and its like have in them, or NULL; \S and its like as well. */
static const char *members_of(unsigned char letter)
{
    switch (letter | 0x20) {
    case 's': return APR_SPACES;
    case 'w': return APR_WORD;
    case 'd': return "\\p{Nd}";
    case 'h': return HEX;
    default:  return NULL;
    }
}

static const char *category(const char *word)
{
    static const char *const names[][2] = {
        { "letter", "L" }, { "mark", "M" }, { "number", "N" }, { "punctuation", "P" }, { "symbol", "S" }, { "separator", "Z" },
        { "other", "C" }, { "uppercaseletter", "Lu" }, { "lowercaseletter", "Ll" }, { "titlecaseletter", "Lt" },
        { "modifierletter", "Lm" }, { "otherletter", "Lo" }, { "decimalnumber", "Nd" }, { "digit", "Nd" }, { "alpha", "Alphabetic" },
        { "upper", "Uppercase" }, { "lower", "Lowercase" }, { "any", "Any" }, { "alphabetic", "Alphabetic" },
        { "uppercase", "Uppercase" }, { "lowercase", "Lowercase" }, { "emoji", "Emoji" }, { "ideographic", "Ideographic" },
        { "extendedpictographic", "Extended_Pictographic" },
    };
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        if (strcmp(names[i][0], word) == 0)
            return names[i][1];
    return NULL;
}

/* {Name} or {^Name}, behind \p: a category, a property, or else a script, without what it shares with others. */
static enum apr_code spell_property(struct spelling *s, struct apr_made *to, bool not)
{
    char word[32], text[48];
    size_t n = 0;
    const bool caret = look(s, 0) == '{' && look(s, 1) == '^';
    if (look(s, 0) != '{')
        return refuse(s, "\\p without {");
    for (s->i += caret ? 2 : 1; look(s, 0) != '}'; s->i++) {
        const unsigned char c = look(s, 0), small = c >= 'A' && c <= 'Z' ? c | 0x20 : c;
        if (c == ' ' || c == '_' || c == '-')
            continue;
        if (n + 1 == sizeof word || small < 'a' || small > 'z')
            return refuse(s, "an unknown property");
        word[n++] = (char)small;
    }
    word[n] = 0;
    s->i++;
    const char *const known = category(word);
    if (n > 0 && n <= 2)
        word[0] = (char)(word[0] - 'a' + 'A');
    snprintf(text, sizeof text, "\\%c{%s%s}", not != caret ? 'P' : 'p', known == NULL && n > 2 ? "sc:" : "", known != NULL ? known : word);
    return say(s, to, text);
}

/* ---- characters ------------------------------------------------------------------------------------------------------ */

static unsigned digit_of(unsigned char c)
{
    const unsigned char small = c | 0x20;
    return c >= '0' && c <= '9' ? c - (unsigned)'0' : small >= 'a' && small <= 'f' ? small - (unsigned)'a' + 10 : 16;
}

static bool take_digits(struct spelling *s, unsigned base, unsigned most, uint32_t *number)
{
    unsigned n = 0;
    for (*number = 0; n < most && digit_of(look(s, 0)) < base; n++, s->i++)
        *number = *number * base + digit_of(look(s, 0));
    return n > 0 && *number <= 0x10FFFF && (*number & 0x1FF800) != 0xD800;
}

/* What \n, \x{..}, \u.... or a backslash before a sign stands for; s->i is behind the backslash. */
static enum apr_code take_escape(struct spelling *s, uint32_t *c)
{
    static const char names[] = "ntrfvae", values[] = "\n\t\r\f\v\a\033";
    const unsigned char letter = look(s, 0);
    const char *const at = letter == 0 ? NULL : strchr(names, letter);
    size_t n;
    bool sound = letter != 0;
    if (at != NULL) {
        *c = (unsigned char)values[at - names];
        s->i++;
    } else if (letter == 'x' && look(s, 1) == '{') {
        s->i += 2;
        sound = take_digits(s, 16, 8, c) && look(s, 0) == '}';
        s->i++;
    } else if (letter == 'x' || letter == 'u') {
        s->i++;
        sound = take_digits(s, 16, letter == 'x' ? 2 : 4, c);
    } else if (letter == '0') {
        sound = take_digits(s, 8, 3, c);
    } else if (sound) {
        *c = apr_character(s->from.at + s->i, s->from.n - s->i, &n);
        s->i += n;
        sound = *c >= 0x80 || !((*c >= '1' && *c <= '9') || ((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z'));
    }
    return sound ? APR_OK : refuse(s, "an unknown escape");
}

static enum apr_code take_character(struct spelling *s, uint32_t *c)
{
    size_t n;
    if (look(s, 0) == '\\') {
        s->i++;
        if (look(s, 0) != 'b') /* within a set it is a character */
            return take_escape(s, c);
        s->i++;
        *c = '\b';
        return APR_OK;
    }
    if (s->i >= s->from.n)
        return refuse(s, "a set without an end");
    *c = apr_character(s->from.at + s->i, s->from.n - s->i, &n);
    s->i += n;
    return APR_OK;
}

/* ---- sets ------------------------------------------------------------------------------------------------------------ */

/* list: what is between brackets; others: expressions with a | before each. */
struct set {
    struct apr_made list, others;
};

static enum apr_code spell_set(struct spelling *s, struct apr_made *to, unsigned depth);

/* [:name:]; *found is false when it is none. */
static enum apr_code spell_posix(struct spelling *s, struct set *set, bool *found)
{
    static const char *const names[][2] = {
        { "[:alpha:]", "\\p{Alphabetic}" }, { "[:digit:]", "\\p{Nd}" },       { "[:alnum:]", "\\p{Alphabetic}\\p{Nd}" },
        { "[:upper:]", "\\p{Uppercase}" },  { "[:lower:]", "\\p{Lowercase}" }, { "[:punct:]", "\\p{P}\\p{S}" },
        { "[:space:]", APR_SPACES },        { "[:cntrl:]", "\\p{Cc}" },       { "[:xdigit:]", HEX },
        { "[:word:]", APR_WORD },
    };
    *found = false;
    for (size_t i = 0; i < APR_LENGTH(names) && !*found; i++)
        if (begins(s, names[i][0])) {
            *found = true;
            s->i += strlen(names[i][0]);
            APR_TRY(say(s, &set->list, names[i][1]));
        }
    return APR_OK;
}

/* Does a class stand here, where a range might end? */
static bool no_end_of_range(const struct spelling *s)
{
    const unsigned char next = look(s, 1), letter = look(s, 2);
    return next == 0 || next == ']' || next == '[' ||
           (next == '\\' && (members_of(letter) != NULL || (letter | 0x20) == 'p'));
}

static enum apr_code spell_range(struct spelling *s, struct set *set)
{
    uint32_t c;
    APR_TRY(take_character(s, &c));
    APR_TRY(say_number(s, &set->list, "", c));
    if (look(s, 0) != '-' || no_end_of_range(s))
        return APR_OK;
    s->i++;
    APR_TRY(take_character(s, &c));
    return say_number(s, &set->list, "-", c);
}

static enum apr_code spell_member(struct spelling *s, struct set *set, unsigned depth)
{
    const unsigned char letter = look(s, 0) == '\\' ? look(s, 1) : 0;
    const char *const members = letter == 0 ? NULL : members_of(letter);
    bool posix = false;
    if (look(s, 0) == '[') {
        APR_TRY(spell_posix(s, set, &posix));
        if (posix)
            return APR_OK;
        APR_TRY(say(s, &set->others, "|"));
        return spell_set(s, &set->others, depth);
    }
    if ((letter | 0x20) == 'p' && letter != 0) {
        s->i += 2;
        return spell_property(s, &set->list, letter == 'P');
    }
    if (members == NULL)
        return spell_range(s, set);
    s->i += 2;
    if (letter >= 'a')
        return say(s, &set->list, members);
    APR_TRY(say(s, &set->others, "|[^"));
    APR_TRY(say(s, &set->others, members));
    return say(s, &set->others, "]");
}

/* One operand of &&, or a whole set, as an expression for one character; `not` is for what is but a list. */
static enum apr_code put_operand(const struct spelling *s, struct apr_made *to, const struct set *set, bool not)
{
    const struct apr_bytes list = { set->list.at, set->list.n };
    struct apr_bytes others = { set->others.at, set->others.n };
    if (list.n == 0 && others.n == 0)
        return refuse(s, "an empty set");
    if (list.n == 0) /* the first | joins nothing */
        others = (struct apr_bytes){ others.at + 1, others.n - 1 };
    if (set->others.n > 0)
        APR_TRY(say(s, to, "(?:"));
    if (list.n > 0) {
        APR_TRY(say(s, to, not ? "[^" : "["));
        APR_TRY(apr_made_add(to, list, s->e));
        APR_TRY(say(s, to, "]"));
    }
    if (set->others.n > 0) {
        APR_TRY(apr_made_add(to, others, s->e));
        APR_TRY(say(s, to, ")"));
    }
    return APR_OK;
}

/* Up to && or ]. */
static enum apr_code spell_operand(struct spelling *s, struct set *set, bool first, unsigned depth)
{
    while (!(begins(s, "&&") || (look(s, 0) == ']' && !first))) {
        first = false;
        APR_TRY(spell_member(s, set, depth));
    }
    return APR_OK;
}

static enum apr_code spell_operands(struct spelling *s, struct apr_made *to, struct set *set, unsigned depth)
{
    const bool not = look(s, 1) == '^';
    s->i += not ? 2 : 1;
    APR_TRY(spell_operand(s, set, true, depth));
    if (look(s, 0) == ']' && (!not || set->others.n == 0)) {
        s->i++;
        return put_operand(s, to, set, not);
    }
    APR_TRY(say(s, to, not ? "(?:(?!(?:" : "(?:"));
    while (look(s, 0) == '&') {
        APR_TRY(say(s, to, "(?="));
        APR_TRY(put_operand(s, to, set, false));
        APR_TRY(say(s, to, ")"));
        set->list.n = set->others.n = 0;
        s->i += 2;
        APR_TRY(spell_operand(s, set, false, depth));
    }
    s->i++;
    APR_TRY(put_operand(s, to, set, false));
    return say(s, to, not ? "))(?s:.))" : ")");
}

static enum apr_code spell_set(struct spelling *s, struct apr_made *to, unsigned depth)
{
    struct set set = { 0 };
    if (depth == 0)
        return refuse(s, "too many sets in sets");
    const enum apr_code code = spell_operands(s, to, &set, depth - 1);
    free(set.list.at);
    free(set.others.at);
    return code;
}

/* ---- the rest -------------------------------------------------------------------------------------------------------- */

static enum apr_code spell_backslash(struct spelling *s)
{
    static const char boundary[] = "(?:(?<=[" APR_WORD "])(?![" APR_WORD "])|(?<![" APR_WORD "])(?=[" APR_WORD "]))";
    static const char inside[] = "(?:(?<=[" APR_WORD "])(?=[" APR_WORD "])|(?<![" APR_WORD "])(?![" APR_WORD "]))";
    const unsigned char letter = look(s, 1);
    uint32_t c;
    if (letter != 0 && members_of(letter) != NULL) {
        s->i += 2;
        APR_TRY(say(s, s->out, letter >= 'a' ? "[" : "[^"));
        APR_TRY(say(s, s->out, members_of(letter)));
        return say(s, s->out, "]");
    }
    s->i += 2;
    switch (letter) {
    case 'p':
    case 'P': return spell_property(s, s->out, letter == 'P');
    case 'b': return say(s, s->out, boundary);
    case 'B': return say(s, s->out, inside);
    case 'A': return say(s, s->out, "\\A");
    case 'z': return say(s, s->out, "\\z");
    case 'Z': return say(s, s->out, "\\Z");
    case 'R': return say(s, s->out, "(?>\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])");
    default:  break;
    }
    s->i--;
    APR_TRY(take_escape(s, &c));
    return say_number(s, s->out, "", c);
}

/* The letters of (?i) or (?i: : m is PCRE2's s. */
static enum apr_code spell_letters(struct spelling *s)
{
    for (; look(s, 0) != ')' && look(s, 0) != ':'; s->i++) {
        const unsigned char c = look(s, 0);
        const char one[2] = { (char)(c == 'm' ? 's' : c), 0 };
        if (c == 0 || strchr("imx-", c) == NULL)
            return refuse(s, "an unknown group");
        APR_TRY(say(s, s->out, one));
    }
    if (look(s, 0) == ')')
        s->depth--; /* it holds for what follows */
    return say(s, s->out, s->from.at[s->i++] == ')' ? ")" : ":");
}

static enum apr_code spell_open(struct spelling *s)
{
    static const char *const plain[] = { "(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!" };
    if (s->depth == DEPTH)
        return refuse(s, "too many parentheses in parentheses");
    s->open[s->depth++] = s->out->n;
    for (size_t i = 0; i < APR_LENGTH(plain); i++)
        if (begins(s, plain[i])) {
            s->i += strlen(plain[i]);
            return say(s, s->out, plain[i]);
        }
    if (begins(s, "(*"))
        return refuse(s, "an unknown group");
    if (!begins(s, "(?")) {
        s->i++;
        return say(s, s->out, "(?:");
    }
    s->i += 2;
    APR_TRY(say(s, s->out, "(?"));
    return spell_letters(s);
}

/* Behind * + ? {}: ? is lazy and + possessive, but a + behind {} is a quantifier of its own. */
static enum apr_code spell_quantifier(struct spelling *s)
{
    const bool braces = look(s, 0) == '{', open = braces && look(s, 1) == ',';
    size_t end = s->i + 1;
    while (braces && end < s->from.n && s->from.at[end] != '}')
        end++;
    if (end - s->i > 16 || (braces && end == s->from.n))
        return refuse(s, "a brace without an end");
    end += braces;
    if (open)
        APR_TRY(say(s, s->out, "{0"));
    const size_t from = s->i + (open ? 1 : 0);
    APR_TRY(apr_made_add(s->out, (struct apr_bytes){ s->from.at + from, end - from }, s->e));
    s->i = end;
    if (braces && look(s, 0) == '+') {
        APR_TRY(insert(s, s->atom, "(?:"));
        return say(s, s->out, ")");
    }
    if (look(s, 0) != '?' && look(s, 0) != '+')
        return APR_OK;
    return say(s, s->out, s->from.at[s->i++] == '?' ? "?" : "+");
}

/* Is it {n}, {n,}, {,m} or {n,m}? Else the brace is a character. */
static bool is_interval(const struct spelling *s)
{
    size_t i = 1, digits = 0;
    while ((look(s, i) >= '0' && look(s, i) <= '9') || look(s, i) == ',')
        digits += look(s, i++) != ',';
    return digits > 0 && look(s, i) == '}';
}

static enum apr_code spell_one(struct spelling *s)
{
    const unsigned char c = look(s, 0);
    const char one[2] = { (char)c, 0 };
    if (c == '*' || c == '+' || c == '?' || (c == '{' && is_interval(s)))
        return spell_quantifier(s);
    s->atom = s->out->n;
    switch (c) {
    case '\\': return spell_backslash(s);
    case '[':  return spell_set(s, s->out, DEPTH);
    case '(':  return spell_open(s);
    case ')':
        if (s->depth == 0)
            return refuse(s, "a parenthesis too many");
        s->atom = s->open[--s->depth];
        s->i++;
        return say(s, s->out, ")");
    case '{':
        s->i++;
        return say(s, s->out, "\\{");
    default:
        s->i++;
        return apr_made_add(s->out, c < 0x80 ? apr_text(one) : (struct apr_bytes){ s->from.at + s->i - 1, 1 }, s->e);
    }
}

enum apr_code apr_spell_expression(struct apr_made *out, struct apr_bytes text, struct apr_error *e)
{
    struct spelling s = { .from = text, .out = out, .e = e };
    while (s.i < text.n)
        APR_TRY(spell_one(&s));
    return s.depth > 0 ? refuse(&s, "a parenthesis too few") : APR_OK;
}
