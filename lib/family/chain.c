#include "family/chain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

static bool real(const struct apr_expr *x, const struct apr_scope *scope, double *out)
{
    const struct apr_result r = apr_expr_value(x, scope);
    *out = r.number;
    return r.known && r.text.at == NULL;
}

/* A number that the contract does not give is 0. */
static bool work_out(const struct apr_role_transform *t, const struct apr_scope *scope, struct apr_transform *out)
{
    bool known = true;
    *out = (struct apr_transform){ .op = t->op, .nn = t->nn, .only = t->only, .norder = t->norder, .order = t->order };
    for (unsigned i = 0; i < t->nn && known; i++)
        known = t->n[i] == NULL || apr_expr_size(t->n[i], scope, &out->n[i]);
    for (unsigned i = 0; i < t->nby && known; i++)
        known = real(t->by[i], scope, &out->by[i]);
    return known;
}

bool apr_role_chain(const struct apr_role *role, bool gguf, const struct apr_scope *scope, struct apr_transform out[APR_MAX_STEPS],
                    size_t *n)
{
    const unsigned joined = apr_role_joined(role) ? 1 : 0, from = gguf ? joined : 0, to = gguf ? role->ntransform : joined;
    bool known = true;
    *n = 0;
    for (unsigned i = from; i < to && known; i++)
        known = work_out(&role->transform[i], scope, &out[(*n)++]);
    return known;
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

#define MOST_BLOCKS 8u /* of an order, that are told */

struct spelling {
    char  *text;
    size_t n, room;
};

static void put(struct spelling *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct spelling *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(s->text + s->n, s->room - s->n, format, args);
    va_end(args);
    s->n += n < 0 ? 0 : (size_t)n;
    if (s->n >= s->room)
        s->n = s->room - 1;
}

/* Ops whose name tells enough where numbers are not asked for. */
static bool is_plain(enum apr_op op)
{
    return op <= APR_OP_ROWS || op == APR_OP_CONCAT_ROWS || op == APR_OP_CONCAT_COLS || (op >= APR_OP_SQUEEZE && op <= APR_OP_ADD);
}

static void put_order(struct spelling *s, const struct apr_transform *t)
{
    for (unsigned i = 0; i < t->norder && i < MOST_BLOCKS; i++)
        put(s, "%s%u", i == 0 ? "(" : ",", t->order[i]);
    put(s, "%s", t->norder > MOST_BLOCKS ? ",..." : "");
    if (t->n[0] != 1)
        put(s, " of %llu", (unsigned long long)t->n[0]);
    put(s, ")");
}

static void put_one(struct spelling *s, const struct apr_transform *t, bool numbers)
{
    const bool regroups = t->op == APR_OP_REGROUP || t->op == APR_OP_REGROUP_COLS;
    const bool scales = t->op == APR_OP_SCALE || t->op == APR_OP_ADD;
    const unsigned nn = regroups && t->n[2] == 0 ? 2 : t->nn;
    put(s, "%s", apr_op_word(t->op));
    if (!numbers && is_plain(t->op))
        return;
    if (t->norder > 0) {
        put_order(s, t);
    } else if (scales) {
        for (unsigned i = 0; i < (t->nn > 0 ? t->nn : 1); i++)
            put(s, "%s%g", i == 0 ? "(" : ",", t->by[i]);
        put(s, ")");
    } else {
        for (unsigned i = 0; i < nn; i++)
            put(s, "%s%llu%s", i == 0 ? "(" : ",", (unsigned long long)t->n[i], i + 1 == nn ? ")" : "");
    }
}

/* What is done to the parts behind a split, from transform i on; the number of them. */
static size_t put_parts(struct spelling *s, const struct apr_transform *t, size_t n, bool numbers)
{
    const unsigned parts = t[-1].op == APR_OP_MLA_SPLIT ? 2 : t[-1].nn;
    size_t i = 0;
    for (unsigned part = 0; n > 0 && part < parts; part++) {
        put(s, "%s", part == 0 ? "[" : ";");
        for (bool first = true; i < n && t[i].only == part + 1; i++, first = false) {
            put(s, "%s", first ? "" : "+");
            put_one(s, &t[i], numbers);
        }
    }
    put(s, "%s", n > 0 ? "]" : "");
    return i;
}

void apr_chain_spell(const struct apr_transform *chain, size_t n, uint64_t part, bool numbers, char *text, size_t room)
{
    struct spelling s = { text, strlen(text), room };
    for (size_t i = 0; i < n; i++) {
        if (chain[i].only > 0 && chain[i].only - 1 != part) {
            if (part == APR_ALL_PARTS && i > 0)
                i += put_parts(&s, &chain[i], n - i, numbers);
            continue;
        }
        put(&s, "%s", s.n > 0 ? "+" : "");
        put_one(&s, &chain[i], numbers);
    }
}
