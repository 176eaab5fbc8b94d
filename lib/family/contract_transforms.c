/* The transforms of a contract's tensors. */
#include "family/contract.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/nearest.h"

/* The parameters of each op by their keys, in the order of apr_transform.n. The last may be a list, which fills what is left of it, or
 * absent. */
static const struct {
    const char *keys, *key[3];
    bool        list, optional;
} parameters[APR_NOPS] = {
    [APR_OP_ROPE_PERMUTE] = { "op heads", { "heads" }, false, false },
    [APR_OP_TRANSPOSE]    = { "op", { NULL }, false, false },
    [APR_OP_QKV_NEOX]     = { "op heads", { "heads" }, false, false },
    [APR_OP_QKV_FALCON]   = { "op heads kv_heads", { "heads", "kv_heads" }, false, false },
    [APR_OP_STACK]        = { "op count", { "count" }, false, false },
    [APR_OP_SPLIT_ROWS]   = { "op parts then", { "parts" }, true, false },
    [APR_OP_SPLIT_COLS]   = { "op parts then", { "parts" }, true, false },
    [APR_OP_MLA_SPLIT]    = { "op heads nope v then", { "heads", "nope", "v" }, false, false },
    [APR_OP_ROWS]         = { "op from count", { "from", "count" }, false, false },
    [APR_OP_REGROUP]      = { "op groups size from", { "groups", "size", "from" }, false, true },
    [APR_OP_REGROUP_COLS] = { "op groups size from", { "groups", "size", "from" }, false, true },
    [APR_OP_UNGROUP]      = { "op groups parts", { "groups", "parts" }, true, false },
    [APR_OP_CONCAT_ROWS]  = { "op parts", { "parts" }, true, false },
    [APR_OP_CONCAT_COLS]  = { "op parts", { "parts" }, true, false },
    [APR_OP_PAD_ROWS]     = { "op count", { "count" }, false, false },
    [APR_OP_ORDER]        = { "op rows size", { NULL }, false, false },
    [APR_OP_ORDER_COLS]   = { "op rows size", { NULL }, false, false },
    [APR_OP_SQUEEZE]      = { "op dim", { "dim" }, false, false },
    [APR_OP_UNSQUEEZE]    = { "op dim", { "dim" }, false, false },
    [APR_OP_RESHAPE]      = { "op shape", { "shape" }, true, false },
    [APR_OP_ADD]          = { "op value", { NULL }, false, false },
    [APR_OP_SCALE]        = { "op by parts", { NULL }, false, false },
    [APR_OP_NEG_EXP]      = { "op", { NULL }, false, false },
};

enum apr_code apr_contract_sizes(const struct apr_contract *c, const struct apr_yaml *at, uint64_t least, struct apr_expr **out,
                                 unsigned most, unsigned *n)
{
    APR_TRY(apr_contract_list(c, at, most));
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next, ++*n)
        APR_TRY(apr_contract_size(c, k, least, &out[*n]));
    return APR_OK;
}

/* ---- one of them -------------------------------------------------------------------------------------------------- */

static enum apr_code lacks(const struct apr_contract *c, const struct apr_yaml *at, const char *key)
{
    return apr_contract_fault(c, at, "the op lacks", apr_text(key));
}

/* Numbers of rows and of dims. */
static bool counts_from_0(const char *key) { return strcmp(key, "from") == 0 || strcmp(key, "dim") == 0; }

static enum apr_code read_parameters(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role_transform *t)
{
    for (unsigned i = 0; i < 3 && parameters[t->op].key[i] != NULL; i++) {
        const struct apr_yaml *const p = apr_yaml_get(at, parameters[t->op].key[i]);
        const bool last = i == 2 || parameters[t->op].key[i + 1] == NULL;
        if (p == NULL && !(last && parameters[t->op].optional))
            return lacks(c, at, parameters[t->op].key[i]);
        if (last && parameters[t->op].list)
            APR_TRY(apr_contract_sizes(c, p, 1, t->n, APR_MAX_PARTS - t->nn, &t->nn));
        else
            APR_TRY(apr_contract_size(c, p, counts_from_0(parameters[t->op].key[i]) ? 0 : 1, &t->n[t->nn++]));
    }
    return APR_OK;
}

/* Of one row in a list, the number below n that it is. */
static enum apr_code read_row(const struct apr_contract *c, const struct apr_yaml *at, uint32_t n, uint32_t *row)
{
    uint64_t number = 0;
    bool fine = at->kind == APR_YAML_SCALAR && at->text.n > 0 && at->text.n < 10;
    for (size_t i = 0; i < at->text.n && fine; i++) {
        fine = at->text.at[i] >= '0' && at->text.at[i] <= '9';
        number = 10 * number + (uint64_t)(at->text.at[i] - '0');
    }
    if (!fine || number >= n)
        return apr_contract_fault(c, at, "rows of an order are the numbers from 0 up to how many there are, not", at->text);
    *row = (uint32_t)number;
    return APR_OK;
}

static enum apr_code read_order(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role_transform *t)
{
    const struct apr_yaml one = { .kind = APR_YAML_SCALAR, .line = at->line, .text = apr_text("1") };
    const struct apr_yaml *const rows = apr_yaml_get(at, "rows"), *const size = apr_yaml_get(at, "size");
    if (rows == NULL)
        return lacks(c, at, "rows");
    APR_TRY(apr_contract_list(c, rows, APR_MAX_ORDER));
    uint32_t *const order = apr_arena_alloc(&c->f->arena, 2 * rows->n * sizeof *order + 1), *const back = order + rows->n;
    if (order == NULL)
        return apr_no_memory(c->e);
    t->order = order;
    for (size_t i = 0; i < rows->n; i++)
        back[i] = UINT32_MAX;
    for (const struct apr_yaml *k = rows->child; k != NULL; k = k->next, t->norder++) {
        APR_TRY(read_row(c, k, (uint32_t)rows->n, &order[t->norder]));
        if (back[order[t->norder]] != UINT32_MAX)
            return apr_contract_fault(c, k, "a row stands twice in an order:", k->text);
        back[order[t->norder]] = t->norder;
    }
    t->nn = 1;
    return apr_contract_size(c, size == NULL ? &one : size, 1, &t->n[0]);
}

/* A number for all, or one for each part. */
static enum apr_code read_scale(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role_transform *t)
{
    const struct apr_yaml *const by = apr_yaml_get(at, "by"), *const parts = apr_yaml_get(at, "parts");
    if (by == NULL || (by->kind == APR_YAML_LIST && parts == NULL))
        return lacks(c, at, by == NULL ? "by" : "parts");
    if (by->kind != APR_YAML_LIST) {
        t->nby = 1;
        return parts == NULL ? apr_contract_factor(c, by, true, &t->by[0])
                             : apr_contract_fault(c, parts, "parts need a list of what they are multiplied", apr_text("by"));
    }
    APR_TRY(apr_contract_list(c, by, APR_MAX_PARTS));
    for (const struct apr_yaml *k = by->child; k != NULL; k = k->next)
        APR_TRY(apr_contract_factor(c, k, true, &t->by[t->nby++]));
    APR_TRY(apr_contract_sizes(c, parts, 1, t->n, APR_MAX_PARTS, &t->nn));
    if (t->nn != t->nby || t->nn == 0)
        return apr_contract_fault(c, parts, "not as many parts as there are numbers, or none:", by->key);
    return APR_OK;
}

static enum apr_code read_values(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role_transform *t)
{
    const struct apr_yaml *const value = apr_yaml_get(at, "value");
    switch (t->op) {
    case APR_OP_ADD:
        t->nby = 1;
        return value == NULL ? lacks(c, at, "value") : apr_contract_factor(c, value, false, &t->by[0]);
    case APR_OP_SCALE:
        return read_scale(c, at, t);
    case APR_OP_ORDER:
    case APR_OP_ORDER_COLS:
        return read_order(c, at, t);
    default:
        return APR_OK;
    }
}

static bool splits(enum apr_op op) { return op == APR_OP_SPLIT_ROWS || op == APR_OP_SPLIT_COLS || op == APR_OP_MLA_SPLIT; }

static enum apr_code read_some(const struct apr_contract *c, const struct apr_yaml *at, unsigned only, struct apr_role *r);

/* What is done to each part of the split that was read last. */
static enum apr_code read_then(const struct apr_contract *c, const struct apr_yaml *then, struct apr_role *r)
{
    const struct apr_yaml *k = then == NULL ? NULL : then->child;
    if (then != NULL)
        APR_TRY(apr_contract_list(c, then, apr_contract_outputs(r)));
    for (unsigned part = 1; k != NULL; k = k->next, part++)
        APR_TRY(read_some(c, k, part, r));
    return APR_OK;
}

/* One that nobody knows, with the nearest of those that are. */
static enum apr_code unknown_op(const struct apr_contract *c, const struct apr_yaml *op)
{
    struct apr_nearest near = apr_nearest_to(op->text);
    char what[128] = "unknown op";
    for (unsigned i = 0; i < APR_NOPS; i++)
        if (parameters[i].keys != NULL)
            apr_nearest_try(&near, apr_text(apr_op_word((enum apr_op)i)));
    if (near.best.n > 0)
        snprintf(what, sizeof what, "unknown op, where %.*s may be meant:", APR_PRINTED(near.best));
    return apr_contract_fault(c, op, what, op->text);
}

/* only: of which part of the split that stands before it, from 1; 0: of all. */
static enum apr_code read_transform(const struct apr_contract *c, const struct apr_yaml *at, unsigned only, struct apr_role *r)
{
    const struct apr_yaml *const op = apr_yaml_get(at, "op");
    const enum apr_op which = op == NULL ? APR_NOPS : apr_op_named(op->text);
    if (which == APR_NOPS)
        return op != NULL ? unknown_op(c, op) : apr_contract_fault(c, at, "unknown op", at->text);
    if (only > 0 && (apr_op_splits(which) || which == APR_OP_STACK))
        return apr_contract_fault(c, op, "behind a split there is no", op->text);
    if (r->ntransform == APR_MAX_STEPS)
        return apr_contract_fault(c, op, "too many transforms in a row:", op->text);
    struct apr_role_transform *const t = &r->transform[r->ntransform++];
    t->op = which;
    t->only = only;
    APR_TRY(apr_contract_keys(c, at, parameters[which].keys));
    APR_TRY(read_parameters(c, at, t));
    APR_TRY(read_values(c, at, t));
    return read_then(c, apr_yaml_get(at, "then"), r);
}

/* One, or a list of them. */
static enum apr_code read_some(const struct apr_contract *c, const struct apr_yaml *at, unsigned only, struct apr_role *r)
{
    if (at->kind == APR_YAML_MAP)
        return read_transform(c, at, only, r);
    APR_TRY(apr_contract_list(c, at, APR_MAX_STEPS));
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next)
        APR_TRY(read_transform(c, k, only, r));
    return APR_OK;
}

/* ---- all of a role ------------------------------------------------------------------------------------------------ */

enum apr_code apr_contract_read_transforms(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role *r)
{
    return read_some(c, at, 0, r);
}

/* The split, of which there is one at most. */
static const struct apr_role_transform *split_of(const struct apr_role *r)
{
    for (unsigned i = 0; i < r->ntransform; i++)
        if (splits(r->transform[i].op))
            return &r->transform[i];
    return NULL;
}

unsigned apr_contract_outputs(const struct apr_role *r)
{
    const struct apr_role_transform *const split = split_of(r);
    return split == NULL ? 1 : split->op == APR_OP_MLA_SPLIT ? 2 : split->nn;
}

enum apr_code apr_contract_sound_transforms(const struct apr_contract *c, const struct apr_yaml *at, const struct apr_role *r)
{
    bool split = false;
    for (unsigned i = 0; i < r->ntransform; i++) {
        const struct apr_role_transform *const t = &r->transform[i];
        const bool first = t->op == APR_OP_STACK || t->op == APR_OP_CONCAT_ROWS || t->op == APR_OP_CONCAT_COLS;
        if ((first && i > 0) || (split && t->only == 0))
            return apr_contract_fault(c, at, "stack comes first, and so does a concatenation, and a split last; look at", r->name);
        split |= splits(t->op);
    }
    if (r->ntransform + (r->nsplit > 0) > APR_MAX_STEPS)
        return apr_contract_fault(c, at, "too many transforms; look at", r->name);
    return APR_OK;
}
