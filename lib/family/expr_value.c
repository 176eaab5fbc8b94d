/* What expressions come to. */
#include "family/expr_parts.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/fmath.h"

#define MOST_ELEMENTS 4096 /* of a list */

static const struct apr_result unknown, wrong = { .wrong = true };

static struct apr_result number(double v)
{
    return isfinite(v) ? (struct apr_result){ .known = true, .number = v } : wrong;
}

static bool is_number(struct apr_result r)
{
    return r.known && r.text.at == NULL;
}

/* The share of a normal distribution below x deviations. */
static double normal(double x) { return (1 + apr_erf(x / sqrt(2))) / 2; }

/* Below how many deviations a share of a normal distribution lies, in the steps in which PyTorch works it out in F32. */
static struct apr_result quantile(double share)
{
    const double twice = (double)(2 * (float)share - 1);
    double low = -8, high = 8;
    if (!(twice >= -1 && twice <= 1))
        return wrong;
    for (unsigned i = 0; i < 64; i++) {
        const double middle = (low + high) / 2;
        *(apr_erf(middle) < twice ? &low : &high) = middle;
    }
    const double x = (double)((float)high * (float)sqrt(2));
    return (struct apr_result){ .known = true, .number = twice == -1 ? -(double)INFINITY : twice == 1 ? (double)INFINITY : x };
}

static struct apr_result calculate(enum op op, double a, double b)
{
    switch (op) {
    case NEGATIVE: return number(-a);
    case NOT:      return number(a == 0);
    case EQ:       return number(a == b);
    case NE:       return number(a != b);
    case LT:       return number(a < b);
    case LE:       return number(a <= b);
    case GT:       return number(a > b);
    case GE:       return number(a >= b);
    case ADD:      return number(a + b);
    case SUB:      return number(a - b);
    case MUL:      return number(a * b);
    case DIV:      return b == 0 ? wrong : number(a / b);
    case FLOOR:    return number(floor(a));
    case CEIL:     return number(ceil(a));
    case MOD:      return b == 0 ? wrong : number(a - b * floor(a / b));
    case MIN:      return number(a < b ? a : b);
    case MAX:      return number(a > b ? a : b);
    case SQRT:     return number(sqrt(a));
    case LN:       return number(apr_log(a));
    case EXP:      return number(apr_exp(a));
    case NORMAL:   return number(normal(a));
    case QUANTILE: return quantile(a);
    default:       return unknown;
    }
}

static struct apr_result evaluate(const struct apr_expr *x, unsigned i, const struct apr_scope *scope);

/* Either operand may decide alone: 0 for `and`, anything else for `or`. */
static struct apr_result decide(const struct apr_expr *x, const struct node *n, const struct apr_scope *scope)
{
    const bool decisive = n->op == OR;
    bool open = false, bad = false;
    for (unsigned i = 0; i < 2; i++) {
        const struct apr_result r = evaluate(x, n->kid[i], scope);
        if (is_number(r) && (r.number != 0) == decisive)
            return number(decisive);
        open |= !is_number(r);
        bad |= r.wrong || r.text.at != NULL;
    }
    return bad ? wrong : open ? unknown : number(!decisive);
}

static struct apr_result at_path(const struct apr_scope *scope, struct apr_bytes path)
{
    return scope->path != NULL ? scope->path(scope->ctx, path) : scope->value(scope->ctx, path);
}

/* Element number `index` of the list at the path: it has the path of the list, a dot and the number. Or is it there? */
static struct apr_result element(const struct node *n, struct apr_result index, const struct apr_scope *scope)
{
    char path[APR_EXPR_BYTES + 24];
    if (!index.known)
        return index;
    if (!is_number(index) || !(index.number >= 0 && index.number < 0x1p53) || index.number != floor(index.number))
        return wrong;
    const int length = snprintf(path, sizeof path, "%.*s.%llu", APR_PRINTED(n->text), (unsigned long long)index.number);
    const struct apr_bytes at = { (const unsigned char *)path, (size_t)length };
    return n->op == HAS_AT ? number(scope->has(scope->ctx, at)) : at_path(scope, at);
}

/* How many elements the list at the path has. */
static struct apr_result length_of(const struct node *n, const struct apr_scope *scope)
{
    char path[APR_EXPR_BYTES + 24];
    unsigned count = 0;
    if (!scope->has(scope->ctx, n->text))
        return unknown;
    while (count < MOST_ELEMENTS) {
        const int length = snprintf(path, sizeof path, "%.*s.%u", APR_PRINTED(n->text), count);
        if (!scope->has(scope->ctx, (struct apr_bytes){ (const unsigned char *)path, (size_t)length }))
            break;
        count++;
    }
    return number(count);
}

/* Letter number `index` of the text at the path, ASCII as those are that stand for kinds of layers. */
static struct apr_result letter(const struct node *n, struct apr_result index, const struct apr_scope *scope)
{
    const struct apr_result text = at_path(scope, n->text);
    if (!text.known || !index.known)
        return text.wrong || index.wrong ? wrong : unknown;
    if (text.text.at == NULL || !is_number(index) || !(index.number >= 0) || index.number != floor(index.number))
        return wrong;
    if (!(index.number < (double)text.text.n))
        return unknown;
    return (struct apr_result){ .known = true, .text = { text.text.at + (size_t)index.number, 1 } };
}

/* The number of the first element, from one on, that is what is looked for, or -1. Not known where there is no list. */
static struct apr_result find(const struct node *n, struct apr_result of, struct apr_result from, const struct apr_scope *scope)
{
    if (!of.known || !from.known)
        return of.wrong || from.wrong ? wrong : unknown;
    if (!is_number(from) || !(from.number >= 0 && from.number < MOST_ELEMENTS) || from.number != floor(from.number))
        return wrong;
    for (unsigned first = (unsigned)from.number, i = first; i < MOST_ELEMENTS; i++) {
        const struct apr_result r = element(n, number(i), scope);
        if (!r.known)
            return r.wrong ? wrong : i == 0 ? unknown : number(-1);
        if (is_number(r) != is_number(of))
            return wrong;
        if (is_number(r) ? r.number == of.number : apr_bytes_equal(r.text, of.text))
            return number(i);
    }
    return number(-1);
}

static struct apr_result operate(const struct apr_expr *x, const struct node *n, const struct apr_scope *scope)
{
    const struct apr_result a = evaluate(x, n->kid[0], scope);
    const struct apr_result b = n->op >= FIRST_BINARY ? evaluate(x, n->kid[1], scope) : a;
    if (is_number(a) && is_number(b))
        return calculate(n->op, a.number, b.number);
    if (!a.known || !b.known)
        return a.wrong || b.wrong ? wrong : unknown;
    if (a.text.at != NULL && b.text.at != NULL && (n->op == EQ || n->op == NE))
        return number(apr_bytes_equal(a.text, b.text) == (n->op == EQ));
    return wrong;
}

/* Calls itself at most once for each node on the way down. */
static struct apr_result evaluate(const struct apr_expr *x, unsigned i, const struct apr_scope *scope)
{
    const struct node *const n = &x->node[i];
    struct apr_result r;
    switch (n->op) {
    case NUMBER:
        return number(n->number);
    case STRING:
        return (struct apr_result){ .known = true, .text = n->text };
    case NAME:
        r = scope->value(scope->ctx, n->text);
        return is_number(r) ? number(r.number) : r;
    case VALUE:
    case AT:
        r = n->op == AT ? element(n, evaluate(x, n->kid[0], scope), scope) : at_path(scope, n->text);
        return is_number(r) && !(n->op == AT && isinf(r.number)) ? number(r.number) : r;
    case LENGTH:
        return length_of(n, scope);
    case LETTER:
        return letter(n, evaluate(x, n->kid[0], scope), scope);
    case FIND:
        return find(n, evaluate(x, n->kid[0], scope), evaluate(x, n->kid[1], scope), scope);
    case HAS_AT:
        return element(n, evaluate(x, n->kid[0], scope), scope);
    case HAS:
        return number(scope->has(scope->ctx, n->text));
    case AND:
    case OR:
        return decide(x, n, scope);
    case FIRST:
        r = evaluate(x, n->kid[0], scope);
        return r.known || r.wrong ? r : evaluate(x, n->kid[1], scope);
    case IF:
        r = evaluate(x, n->kid[0], scope);
        return is_number(r) ? evaluate(x, n->kid[r.number != 0 ? 1 : 2], scope) : r.known ? wrong : r;
    default:
        return operate(x, n, scope);
    }
}

struct apr_result apr_expr_value(const struct apr_expr *x, const struct apr_scope *scope)
{
    return evaluate(x, x->n - 1u, scope);
}

/* A scope within another that knows one name more. */
struct in_layer {
    const struct apr_scope *scope;
    uint64_t                layer;
};

static struct apr_result value_in_layer(void *ctx, struct apr_bytes name)
{
    const struct in_layer *const in = ctx;
    return apr_bytes_is(name, "layer") ? number((double)in->layer) : in->scope->value(in->scope->ctx, name);
}

static bool has_in_layer(void *ctx, struct apr_bytes path)
{
    const struct in_layer *const in = ctx;
    return in->scope->has(in->scope->ctx, path);
}

static struct apr_result path_in_layer(void *ctx, struct apr_bytes path)
{
    const struct in_layer *const in = ctx;
    return at_path(in->scope, path);
}

struct apr_result apr_expr_in_layer(const struct apr_expr *x, const struct apr_scope *scope, uint64_t layer)
{
    struct in_layer in = { scope, layer };
    return apr_expr_value(x, &(struct apr_scope){ value_in_layer, has_in_layer, &in, path_in_layer });
}

bool apr_expr_size(const struct apr_expr *x, const struct apr_scope *scope, uint64_t *n)
{
    const struct apr_result r = apr_expr_value(x, scope);
    if (!is_number(r) || !(r.number >= 0 && r.number < 0x1p53) || r.number != floor(r.number))
        return false;
    *n = (uint64_t)r.number;
    return true;
}

bool apr_expr_true(const struct apr_expr *x, const struct apr_scope *scope, bool otherwise)
{
    const struct apr_result r = apr_expr_value(x, scope);
    return is_number(r) ? r.number != 0 : otherwise;
}
