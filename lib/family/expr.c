#include "family/expr_parts.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define MOST_LEVELS 64
#define MOST_DIGITS 63   /* of one number, as spelled */

/* Higher binds tighter. */
enum level { LEVEL_OR, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARISON, LEVEL_SUM, LEVEL_PRODUCT };

static const struct operator {
    char       text[4];
    enum op    op;
    enum level level;
} operators[] = { /* where one begins like another the longer comes first */
    { "or", OR, LEVEL_OR },
    { "and", AND, LEVEL_AND },
    { "==", EQ, LEVEL_COMPARISON }, { "!=", NE, LEVEL_COMPARISON },
    { "<=", LE, LEVEL_COMPARISON }, { "<", LT, LEVEL_COMPARISON },
    { ">=", GE, LEVEL_COMPARISON }, { ">", GT, LEVEL_COMPARISON },
    { "+", ADD, LEVEL_SUM },        { "-", SUB, LEVEL_SUM },
    { "*", MUL, LEVEL_PRODUCT },    { "/", DIV, LEVEL_PRODUCT },
};

static const struct function {
    const char *name;
    enum op     op;
    unsigned    arguments;
} functions[] = {
    { "floor", FLOOR, 1 }, { "ceil", CEIL, 1 }, { "sqrt", SQRT, 1 }, { "ln", LN, 1 }, { "exp", EXP, 1 },
    { "normal", NORMAL, 1 }, { "quantile", QUANTILE, 1 },
    { "min", MIN, 2 },     { "max", MAX, 2 },   { "mod", MOD, 2 }, { "first", FIRST, 2 }, { "if", IF, 3 },
};

/* ---- compiling ----------------------------------------------------------------------------------------------------- */

struct reader {
    struct apr_bytes  text;
    size_t            at;
    unsigned          levels;
    struct apr_expr  *x;
    struct apr_error *e;
};

static unsigned char peek(const struct reader *r)
{
    return r->at < r->text.n ? r->text.at[r->at] : 0;
}

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_space(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_space(struct reader *r)
{
    while (is_space(peek(r)))
        r->at++;
}

static void skip_digits(struct reader *r)
{
    while (is_digit(peek(r)))
        r->at++;
}

static struct apr_bytes since(const struct reader *r, size_t begin)
{
    return (struct apr_bytes){ r->text.at + begin, r->at - begin };
}

/* Letters, digits and _ from here on. */
static struct apr_bytes take_word(struct reader *r)
{
    const size_t begin = r->at;
    while (is_letter(peek(r)) || is_digit(peek(r)))
        r->at++;
    return since(r, begin);
}

static bool stands(const struct reader *r, const char *token)
{
    const size_t n = strlen(token);
    if (n > r->text.n - r->at || memcmp(r->text.at + r->at, token, n) != 0)
        return false;
    struct reader behind = *r;
    behind.at += n;
    return !is_letter((unsigned char)token[0]) || take_word(&behind).n == 0;
}

static bool accept(struct reader *r, const char *token)
{
    skip_space(r);
    const bool yes = stands(r, token);
    if (yes)
        r->at += strlen(token);
    return yes;
}

/* Counts characters, not bytes: a string may hold any UTF-8. */
APR_PRINTF(3, 4) static enum apr_code complain(const struct reader *r, size_t at, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    size_t character = 1;
    for (size_t i = 0; i < at; i++)
        character += (r->text.at[i] & 0xC0) != 0x80;
    return apr_fail(r->e, APR_EARG, APR_NOWHERE, "in %s: at character %zu: %s", APR_QUOTED(r->text), character, what);
}

static enum apr_code expected(struct reader *r, const char *what)
{
    skip_space(r);
    const size_t at = r->at;
    if (at == r->text.n)
        return complain(r, at, "expected %s, but the expression ends", what);
    struct apr_bytes found = take_word(r);
    if (found.n == 0)
        found.n = apr_utf8_length(found.at, r->text.n - at);
    found.n += found.n == 0;
    return complain(r, at, "expected %s, found %s", what, APR_QUOTED(found));
}

/* One level deeper; the caller goes back up by itself. */
static enum apr_code descend(struct reader *r)
{
    return ++r->levels > MOST_LEVELS ? complain(r, r->at, "more than %d levels deep", MOST_LEVELS) : APR_OK;
}

/* A node takes at least one byte of the text, so there is room for all. */
static uint16_t add(struct reader *r, struct node node)
{
    r->x->node[r->x->n] = node;
    return r->x->n++;
}

static enum apr_code read_binary(struct reader *r, unsigned lowest, uint16_t *out);

static enum apr_code read_number(struct reader *r, uint16_t *out)
{
    const size_t begin = r->at;
    skip_digits(r);
    if (peek(r) == '.') {
        r->at++;
        skip_digits(r);
    }
    const size_t mantissa_end = r->at;
    if (peek(r) == 'e' || peek(r) == 'E') {
        r->at++;
        r->at += peek(r) == '+' || peek(r) == '-';
        if (!is_digit(peek(r)))
            r->at = mantissa_end;
        skip_digits(r);
    }
    const struct apr_bytes spelled = since(r, begin);
    char text[MOST_DIGITS + 1] = "";
    if (spelled.n > MOST_DIGITS)
        return complain(r, begin, "a number of more than %d digits", MOST_DIGITS);
    memcpy(text, spelled.at, spelled.n);
    const double v = strtod(text, NULL);
    if (!isfinite(v))
        return complain(r, begin, "%s is no finite number", text);
    *out = add(r, (struct node){ .op = NUMBER, .number = v });
    return APR_OK;
}

static enum apr_code read_string(struct reader *r, uint16_t *out)
{
    const size_t begin = ++r->at;
    const unsigned char *const end = memchr(r->text.at + begin, '\'', r->text.n - begin);
    if (end == NULL)
        return complain(r, begin - 1, "a string without an end");
    r->at = (size_t)(end - r->text.at);
    *out = add(r, (struct node){ .op = STRING, .text = since(r, begin) });
    r->at++;
    return APR_OK;
}

/* A path, of which the op knows what to do with it. */
static enum apr_code read_path(struct reader *r, enum op op, uint16_t *out)
{
    skip_space(r);
    const size_t begin = r->at;
    do {
        r->at += r->at > begin;
        if (take_word(r).n == 0)
            return expected(r, "a name");
    } while (peek(r) == '.');
    *out = add(r, (struct node){ .op = op, .text = since(r, begin) });
    return APR_OK;
}

/* at(path, index), letter(path, index), find(path, x, from), has(path, index): the operands come behind the path, and the node of all
 * behind them. has(path) has none. */
static enum apr_code read_at(struct reader *r, enum op op, uint16_t *out)
{
    uint16_t path;
    struct node n = { .op = op };
    APR_TRY(read_path(r, op == HAS_AT ? HAS : op, &path));
    skip_space(r);
    if (op == HAS_AT && peek(r) != ',') {
        *out = path;
        return APR_OK;
    }
    n.text = r->x->node[path].text;
    r->x->n = path;
    for (unsigned i = 0; i < (op == FIND ? 2 : 1); i++) {
        if (!accept(r, ","))
            return expected(r, "','");
        APR_TRY(read_binary(r, LEVEL_OR, &n.kid[i]));
    }
    *out = add(r, n);
    return APR_OK;
}

static enum apr_code read_arguments(struct reader *r, const struct function *f, uint16_t *out)
{
    struct node n = { .op = f->op };
    for (unsigned i = 0; i < f->arguments; i++) {
        if (i > 0 && !accept(r, ","))
            return expected(r, "','");
        APR_TRY(read_binary(r, LEVEL_OR, &n.kid[i]));
    }
    *out = add(r, n);
    return APR_OK;
}

static enum apr_code read_call(struct reader *r, size_t begin, struct apr_bytes name, uint16_t *out)
{
    if (apr_bytes_is(name, "value") || apr_bytes_is(name, "length"))
        return read_path(r, apr_bytes_is(name, "value") ? VALUE : LENGTH, out);
    if (apr_bytes_is(name, "at") || apr_bytes_is(name, "has"))
        return read_at(r, apr_bytes_is(name, "at") ? AT : HAS_AT, out);
    if (apr_bytes_is(name, "letter") || apr_bytes_is(name, "find"))
        return read_at(r, apr_bytes_is(name, "letter") ? LETTER : FIND, out);
    for (size_t i = 0; i < APR_LENGTH(functions); i++)
        if (apr_bytes_is(name, functions[i].name))
            return read_arguments(r, &functions[i], out);
    return complain(r, begin, "no function is called %s", APR_QUOTED(name));
}

/* A number, a string, a name, a call, or anything in parentheses. */
static enum apr_code read_operand(struct reader *r, uint16_t *out)
{
    skip_space(r);
    if (is_digit(peek(r)))
        return read_number(r, out);
    if (peek(r) == '\'')
        return read_string(r, out);
    if (stands(r, "and") || stands(r, "or") || stands(r, "not") || (!is_letter(peek(r)) && peek(r) != '('))
        return expected(r, "a value");
    const size_t begin = r->at;
    const struct apr_bytes name = take_word(r);
    if (!accept(r, "(")) {
        *out = add(r, (struct node){ .op = NAME, .text = name });
        return APR_OK;
    }
    APR_TRY(descend(r));
    APR_TRY(name.n == 0 ? read_binary(r, LEVEL_OR, out) : read_call(r, begin, name, out));
    r->levels--;
    return accept(r, ")") ? APR_OK : expected(r, "an operator or ')'");
}

static enum apr_code read_unary(struct reader *r, uint16_t *out)
{
    if (!accept(r, "-"))
        return read_operand(r, out);
    struct node n = { .op = NEGATIVE };
    APR_TRY(descend(r));
    APR_TRY(read_unary(r, &n.kid[0]));
    r->levels--;
    *out = add(r, n);
    return APR_OK;
}

static enum apr_code read_not(struct reader *r, unsigned lowest, uint16_t *out)
{
    if (lowest > LEVEL_NOT || !accept(r, "not"))
        return read_unary(r, out);
    struct node n = { .op = NOT };
    APR_TRY(descend(r));
    APR_TRY(read_binary(r, LEVEL_NOT, &n.kid[0]));
    r->levels--;
    *out = add(r, n);
    return APR_OK;
}

static const struct operator *next_operator(struct reader *r)
{
    skip_space(r);
    for (size_t i = 0; i < APR_LENGTH(operators); i++)
        if (stands(r, operators[i].text))
            return &operators[i];
    return NULL;
}

/* Operands joined by operators that bind at least as tight as `lowest`. */
static enum apr_code read_binary(struct reader *r, unsigned lowest, uint16_t *out)
{
    APR_TRY(read_not(r, lowest, out));
    const struct operator *before = NULL, *o;
    while ((o = next_operator(r)) != NULL && o->level >= lowest) {
        if (before != NULL && before->level == LEVEL_COMPARISON && o->level == LEVEL_COMPARISON)
            return complain(r, r->at, "comparisons do not chain");
        struct node n = { .op = o->op, .kid = { *out } };
        r->at += strlen(o->text);
        APR_TRY(read_binary(r, o->level + 1u, &n.kid[1]));
        *out = add(r, n);
        before = o;
    }
    return APR_OK;
}

enum apr_code apr_expr_new(struct apr_expr **x, struct apr_bytes text, struct apr_error *e)
{
    *x = NULL;
    if (text.n > APR_EXPR_BYTES)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "in %s: at character %d: an expression of more than %d bytes", APR_QUOTED(text),
                        APR_EXPR_BYTES + 1, APR_EXPR_BYTES);
    struct reader r = { .text = text, .e = e, .x = malloc(sizeof *r.x + text.n * sizeof r.x->node[0]) };
    if (r.x == NULL)
        return apr_no_memory(e);
    r.x->n = 0;
    uint16_t root;
    enum apr_code code = read_binary(&r, LEVEL_OR, &root);
    if (code == APR_OK && r.at < text.n)
        code = expected(&r, "an operator or the end");
    if (code == APR_OK)
        *x = r.x;
    else
        free(r.x);
    return code;
}

void apr_expr_free(struct apr_expr *x)
{
    free(x);
}

/* ---- what it names ------------------------------------------------------------------------------------------------- */

static void each(const struct apr_expr *x, enum op op, enum op last, bool (*f)(void *ctx, struct apr_bytes text), void *ctx)
{
    unsigned i = 0;
    while (i < x->n && (x->node[i].op < op || x->node[i].op > last || f(ctx, x->node[i].text)))
        i++;
}

void apr_expr_names(const struct apr_expr *x, bool (*f)(void *ctx, struct apr_bytes name), void *ctx) { each(x, NAME, NAME, f, ctx); }
void apr_expr_paths(const struct apr_expr *x, bool (*f)(void *ctx, struct apr_bytes path), void *ctx) { each(x, HAS, LENGTH, f, ctx); }
void apr_expr_values(const struct apr_expr *x, bool (*f)(void *ctx, struct apr_bytes path), void *ctx) { each(x, VALUE, FIND, f, ctx); }

bool apr_path_role(struct apr_bytes path, struct apr_bytes *role)
{
    static const char tensors[] = "tensors.";
    const size_t n = sizeof tensors - 1;
    const bool yes = path.n > n && memcmp(path.at, tensors, n) == 0;
    if (yes)
        *role = (struct apr_bytes){ path.at + n, path.n - n };
    return yes;
}

bool apr_expr_is_name(const struct apr_expr *x, struct apr_bytes *name)
{
    if (x->node[x->n - 1].op != NAME)
        return false;
    *name = x->node[x->n - 1].text;
    return true;
}
