#include "family/rows.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"

static const char *const op_words[APR_NOPS] = {
    [APR_OP_ROPE_PERMUTE] = "rope_permute", [APR_OP_TRANSPOSE] = "transpose",   [APR_OP_QKV_NEOX] = "qkv_neox",
    [APR_OP_QKV_FALCON] = "qkv_falcon",     [APR_OP_STACK] = "stack",           [APR_OP_SPLIT_ROWS] = "split_rows",
    [APR_OP_SPLIT_COLS] = "split_cols",     [APR_OP_MLA_SPLIT] = "mla_split",   [APR_OP_ROWS] = "rows",
    [APR_OP_SQUEEZE] = "squeeze",           [APR_OP_UNSQUEEZE] = "unsqueeze",   [APR_OP_RESHAPE] = "reshape",
    [APR_OP_ADD] = "add",                   [APR_OP_NEG_EXP] = "neg_exp",       [APR_OP_REGROUP] = "regroup",
    [APR_OP_REGROUP_COLS] = "regroup_cols", [APR_OP_UNGROUP] = "ungroup",       [APR_OP_CONCAT_ROWS] = "concat_rows",
    [APR_OP_CONCAT_COLS] = "concat_cols",   [APR_OP_PAD_ROWS] = "pad_rows",     [APR_OP_ORDER] = "order",
    [APR_OP_ORDER_COLS] = "order_cols",     [APR_OP_SCALE] = "scale",
};

const char *apr_op_word(enum apr_op op) { return op_words[op]; }

enum apr_op apr_op_named(struct apr_bytes name)
{
    enum apr_op op = 0;
    while (op < APR_NOPS && !apr_bytes_equal(name, apr_text(op_words[op])))
        op++;
    return op;
}

bool apr_op_keeps_shape(enum apr_op op)
{
    static const bool keeps[APR_NOPS] = {
        [APR_OP_ROPE_PERMUTE] = true, [APR_OP_QKV_NEOX] = true, [APR_OP_QKV_FALCON] = true, [APR_OP_REGROUP] = true,
        [APR_OP_REGROUP_COLS] = true, [APR_OP_UNGROUP] = true,  [APR_OP_ORDER] = true,      [APR_OP_ORDER_COLS] = true,
        [APR_OP_ADD] = true,          [APR_OP_SCALE] = true,    [APR_OP_NEG_EXP] = true,
    };
    return keeps[op];
}

static bool is_split_of_sizes(enum apr_op op)
{
    return op == APR_OP_SPLIT_ROWS || op == APR_OP_SPLIT_COLS || op == APR_OP_CONCAT_ROWS || op == APR_OP_CONCAT_COLS;
}

bool apr_op_splits(enum apr_op op) { return is_split_of_sizes(op) || op == APR_OP_MLA_SPLIT; }

static bool is_of_cols(enum apr_op op)
{
    return op == APR_OP_SPLIT_COLS || op == APR_OP_CONCAT_COLS || op == APR_OP_REGROUP_COLS || op == APR_OP_ORDER_COLS;
}

/* ---- shapes --------------------------------------------------------------------------------------------------------- */

static uint64_t product(const uint64_t *dim, unsigned n)
{
    uint64_t p = 1;
    for (unsigned i = 0; i < n; i++)
        p *= dim[i];
    return p;
}

/* Do the numbers add up to the whole, without going round? */
static bool adds_up(const uint64_t *n, unsigned nn, uint64_t whole)
{
    unsigned i = 0;
    while (i < nn && n[i] <= whole)
        whole -= n[i++];
    return i == nn && whole == 0;
}

/* Does every product of its dims fit 64 bits? */
static bool countable(const uint64_t *dim, unsigned ndim)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < ndim; i++)
        if (dim[i] > 0 && !apr_mul(n, dim[i], &n))
            return false;
    return true;
}

/* Rows and columns as the row ops see them: of a vector each element is a row. */
static uint64_t rows_of(const uint64_t *dim, unsigned ndim) { return ndim < 2 ? product(dim, ndim) : product(dim, ndim - 1); }
static uint64_t cols_of(const uint64_t *dim, unsigned ndim) { return ndim < 2 ? 1 : dim[ndim - 1]; }

bool apr_same_shape(const uint64_t *a, unsigned na, const uint64_t *b, unsigned nb)
{
    while (na > 0 && *a == 1)
        a++, na--;
    while (nb > 0 && *b == 1)
        b++, nb--;
    return na == nb && memcmp(a, b, na * sizeof *a) == 0;
}

static bool insert_dim(uint64_t *dim, unsigned *ndim, uint64_t at, uint64_t size)
{
    if (*ndim == APR_MAX_DIMS || at > *ndim)
        return false;
    memmove(dim + at + 1, dim + at, (*ndim - at) * sizeof *dim);
    dim[at] = size;
    ++*ndim;
    return true;
}

/* Which dim has the rows of an op that knows a batch, or its columns; ndim for a scalar. */
static unsigned row_dim(enum apr_op op, unsigned ndim) { return ndim > 1 && !is_of_cols(op) ? ndim - 2 : ndim - 1; }

/* Do groups of so many fill the whole, without going round? */
static bool fills(uint64_t groups, uint64_t of, uint64_t whole)
{
    uint64_t n;
    return groups > 0 && of > 0 && apr_mul(groups, of, &n) && whole % n == 0;
}

/* G groups of so many rows of every part. */
static bool is_ungrouped(const uint64_t *n, unsigned nn, uint64_t rows)
{
    for (unsigned i = 0; i < nn; i++)
        if (n[i] == 0)
            return false;
    return nn > 1 && rows % n[0] == 0 && adds_up(n + 1, nn - 1, rows / n[0]);
}

/* Numbers that an f32 has, and for a scale the way back. */
static bool are_sound(const struct apr_transform *t)
{
    const unsigned n = t->op == APR_OP_SCALE && t->nn > 0 ? t->nn : 1;
    for (unsigned i = 0; i < n; i++)
        if (!isfinite((float)t->by[i]) || (t->op == APR_OP_SCALE && (float)t->by[i] == 0))
            return false;
    return true;
}

/* One transform of those that know a batch. */
static bool change_rows(const struct apr_transform *t, uint64_t part, uint64_t *rows)
{
    const uint64_t *n = t->n;
    switch (t->op) {
    case APR_OP_SPLIT_ROWS:
    case APR_OP_SPLIT_COLS:
    case APR_OP_CONCAT_ROWS:
    case APR_OP_CONCAT_COLS:
        if (part >= t->nn || !adds_up(n, t->nn, *rows))
            return false;
        *rows = n[part];
        return true;
    case APR_OP_REGROUP:
    case APR_OP_REGROUP_COLS:
        return n[2] <= *rows && fills(n[0], n[1], *rows - n[2]);
    case APR_OP_UNGROUP:
        return is_ungrouped(n, t->nn, *rows);
    case APR_OP_PAD_ROWS:
        if (n[0] < *rows)
            return false;
        *rows = n[0];
        return true;
    case APR_OP_ORDER:
    case APR_OP_ORDER_COLS:
        return t->norder > 0 && fills(t->norder, n[0], *rows) && *rows / t->norder == n[0];
    default: /* SCALE */
        return are_sound(t) && (t->nn == 0 || adds_up(n, t->nn, *rows));
    }
}

static bool swap_last(uint64_t *dim, unsigned ndim)
{
    if (ndim < 2)
        return false;
    const uint64_t last = dim[ndim - 1];
    dim[ndim - 1] = dim[ndim - 2];
    dim[ndim - 2] = last;
    return true;
}

/* kv_b [heads * (nope + v), rank] to k_b [heads, rank, nope] and v_b [heads, v, rank]; n: heads, nope, v. */
static bool split_heads(const uint64_t *n, uint64_t part, uint64_t *dim, unsigned *ndim)
{
    if (*ndim != 2 || n[0] == 0 || dim[0] % n[0] != 0 || !adds_up(n + 1, 2, dim[0] / n[0]) || part > 1)
        return false;
    const uint64_t rank = dim[1];
    *ndim = 3;
    dim[2] = part == 0 ? n[1] : rank;
    dim[1] = part == 0 ? rank : n[2];
    dim[0] = n[0];
    return true;
}

/* One transform of a countable shape; part says which output of a split. False when it does not fit. */
static bool change_shape(const struct apr_transform *t, uint64_t part, uint64_t *dim, unsigned *ndim)
{
    const uint64_t *const n = t->n, rows = rows_of(dim, *ndim);
    switch (t->op) {
    case APR_OP_ROPE_PERMUTE:
        return n[0] > 0 && rows % n[0] == 0 && rows / n[0] % 2 == 0;
    case APR_OP_QKV_NEOX:
        return n[0] > 0 && rows % 3 == 0 && rows / 3 % n[0] == 0;
    case APR_OP_QKV_FALCON:
        return n[1] > 0 && n[0] >= n[1] && n[0] < UINT64_MAX / 4 && n[0] % n[1] == 0 && rows % (n[0] + 2 * n[1]) == 0;
    case APR_OP_TRANSPOSE:
        return swap_last(dim, *ndim);
    case APR_OP_STACK:
        return n[0] > 0 && insert_dim(dim, ndim, 0, n[0]);
    case APR_OP_SPLIT_ROWS:
    case APR_OP_SPLIT_COLS:
    case APR_OP_CONCAT_ROWS:
    case APR_OP_CONCAT_COLS:
    case APR_OP_REGROUP:
    case APR_OP_REGROUP_COLS:
    case APR_OP_UNGROUP:
    case APR_OP_PAD_ROWS:
    case APR_OP_ORDER:
    case APR_OP_ORDER_COLS:
        return *ndim > 0 && change_rows(t, part, &dim[row_dim(t->op, *ndim)]);
    case APR_OP_SCALE:
        return *ndim > 0 ? change_rows(t, part, &dim[row_dim(t->op, *ndim)]) : t->nn == 0 && are_sound(t);
    case APR_OP_ADD:
        return are_sound(t);
    case APR_OP_MLA_SPLIT:
        return split_heads(n, part, dim, ndim);
    case APR_OP_ROWS:
        if (*ndim == 0 || n[0] > dim[0] || n[1] > dim[0] - n[0])
            return false;
        dim[0] = n[1];
        return true;
    case APR_OP_SQUEEZE:
        if (n[0] >= *ndim || dim[n[0]] != 1)
            return false;
        memmove(dim + n[0], dim + n[0] + 1, (*ndim - n[0] - 1) * sizeof *dim);
        --*ndim;
        return true;
    case APR_OP_UNSQUEEZE:
        return insert_dim(dim, ndim, n[0], 1);
    case APR_OP_RESHAPE:
        if (t->nn > APR_MAX_DIMS || !countable(n, t->nn) || product(n, t->nn) != product(dim, *ndim))
            return false;
        memcpy(dim, n, t->nn * sizeof *dim);
        *ndim = t->nn;
        return true;
    case APR_OP_NEG_EXP:
    case APR_NOPS:
        break;
    }
    return true;
}

static bool take_shape(const struct apr_transform *t, uint64_t part, uint64_t *dim, unsigned *ndim)
{
    return countable(dim, *ndim) && change_shape(t, part, dim, ndim) && countable(dim, *ndim);
}

bool apr_transform_shape(const struct apr_transform *t, size_t n, uint64_t part, uint64_t *dim, unsigned *ndim)
{
    for (size_t i = 0; i < n; i++)
        if ((t[i].only == 0 || t[i].only - 1 == part) && !take_shape(&t[i], part, dim, ndim))
            return false;
    return true;
}

/* ---- building ------------------------------------------------------------------------------------------------------- */

struct apr_view apr_view_of(const struct apr_tensor *const *part, size_t npart, uint64_t first)
{
    return (struct apr_view){ .part = part, .npart = npart, .first = first };
}

static bool moves_nothing(enum apr_op op) { return op == APR_OP_SQUEEZE || op == APR_OP_UNSQUEEZE || op == APR_OP_RESHAPE; }
static bool changes_values(enum apr_op op) { return op == APR_OP_ADD || op == APR_OP_SCALE || op == APR_OP_NEG_EXP; }

static enum apr_code too_many(struct apr_error *e)
{
    return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "more transforms in a row than are taken");
}

/* Is the part still that which the view begins with, whatever the element? */
static bool is_first_part(const struct apr_view *v)
{
    unsigned i = 0;
    while (i < v->nstep && v->step[i].op != APR_OP_STACK && !apr_op_splits(v->step[i].op))
        i++;
    return i == v->nstep;
}

/* Does it stand where it does for a reason? Else it is the same before and behind every step. */
static bool is_placed(const struct apr_change *c) { return c->only > 0 || c->nn > 0; }

/* Two of one op with the same numbers. */
static bool same_change(const struct apr_change *a, const struct apr_change *b)
{
    const bool same = a->op == b->op && a->nn == b->nn && a->only == b->only && memcmp(a->n, b->n, a->nn * sizeof *a->n) == 0 &&
                      memcmp(a->by, b->by, (a->nn > 0 ? a->nn : 1) * sizeof *a->by) == 0;
    return same && (!is_placed(a) || (a->at == b->at && a->rows == b->rows && a->cols == b->cols));
}

/* The rows and columns that a step or a change counts in. */
static void count_in(enum apr_op op, const uint64_t *dim, unsigned ndim, uint64_t *rows, uint64_t *cols)
{
    *rows = ndim == 0 ? 1 : dim[row_dim(op, ndim)];
    *cols = ndim < 2 || is_of_cols(op) ? 1 : dim[ndim - 1];
}

static bool is_nothing(const struct apr_change *c)
{
    bool nothing = c->op == APR_OP_SCALE;
    for (unsigned i = 0; i < (c->nn > 0 ? c->nn : 1); i++)
        nothing &= c->by[i] == 1;
    return nothing;
}

/* Values come back the other way: what the step does to places is undone to them. To undo and do the same is nothing. */
static enum apr_code add_value(struct apr_view *v, const struct apr_transform *t, bool forward, const uint64_t *dim, unsigned ndim,
                               struct apr_error *e)
{
    struct apr_change c = { .op = t->op, .forward = !forward, .nn = t->nn, .only = t->only, .at = v->nstep };
    memcpy(c.n, t->n, sizeof c.n);
    memcpy(c.by, t->by, sizeof c.by);
    count_in(t->op, dim, ndim, &c.rows, &c.cols);
    if (is_nothing(&c))
        return APR_OK;
    if (forward && v->nvalue > 0 && v->value[v->nvalue - 1].forward && same_change(&v->value[v->nvalue - 1], &c)) {
        v->nvalue--;
        return APR_OK;
    }
    if (v->nvalue == APR_MAX_VALUES)
        return too_many(e);
    v->value[v->nvalue++] = c;
    return APR_OK;
}

static bool undoes(const struct apr_step *last, const struct apr_step *s)
{
    return !last->forward && s->forward && last->op == s->op && last->nn == s->nn && memcmp(last->n, s->n, s->nn * sizeof *s->n) == 0 &&
           last->only == s->only && last->rows == s->rows && last->cols == s->cols && last->order == s->order;
}

/* Takes the last step away, unless a value would lose its place. */
static bool take_back(struct apr_view *v)
{
    for (unsigned i = 0; i < v->nvalue; i++)
        if (v->value[i].at == v->nstep && is_placed(&v->value[i]))
            return false;
    v->nstep--;
    for (unsigned i = 0; i < v->nvalue; i++)
        v->value[i].at = v->value[i].at > v->nstep ? v->nstep : v->value[i].at;
    return true;
}

/* Of rows in groups, or padded: does it leave all as they are? */
static bool moves_no_row(const struct apr_step *s)
{
    if (s->op == APR_OP_PAD_ROWS || s->op == APR_OP_ROWS)
        return s->n[s->op == APR_OP_ROWS] == s->rows; /* all of them, so from the first on */
    if (s->op == APR_OP_REGROUP || s->op == APR_OP_REGROUP_COLS)
        return s->n[0] == 1 || s->rows - s->n[2] <= s->n[0] * s->n[1];
    return s->op == APR_OP_UNGROUP && (s->n[0] == 1 || s->nn == 2);
}

static struct apr_step step_of(const struct apr_transform *t, bool forward, const uint64_t *dim, unsigned ndim)
{
    struct apr_step s = { .op = t->op, .forward = forward, .nn = t->nn, .only = t->only, .norder = t->norder, .order = t->order };
    memcpy(s.n, t->n, t->nn * sizeof *t->n);
    switch (t->op) {
    case APR_OP_ROPE_PERMUTE:
    case APR_OP_QKV_NEOX:
    case APR_OP_QKV_FALCON:
    case APR_OP_MLA_SPLIT:
        s.rows = rows_of(dim, ndim);
        s.cols = cols_of(dim, ndim);
        break;
    case APR_OP_STACK:
        s.rows = 1;
        s.cols = product(dim, ndim);
        break;
    case APR_OP_ROWS:
        s.rows = dim[0];
        s.cols = product(dim + 1, ndim - 1);
        break;
    case APR_OP_TRANSPOSE:
        s.rows = dim[ndim - 2];
        s.cols = dim[ndim - 1];
        break;
    default:
        count_in(t->op, dim, ndim, &s.rows, &s.cols);
    }
    return s;
}

/* dim is the shape on the HuggingFace side of the step, and fits it. */
static enum apr_code add_step(struct apr_view *v, const struct apr_transform *t, bool forward, const uint64_t *dim, unsigned ndim,
                              struct apr_error *e)
{
    const struct apr_step s = step_of(t, forward, dim, ndim);
    if (moves_no_row(&s) || (v->nstep > 0 && undoes(&v->step[v->nstep - 1], &s) && take_back(v)))
        return APR_OK;
    if (v->nstep == APR_MAX_STEPS)
        return too_many(e);
    v->step[v->nstep++] = s;
    return APR_OK;
}

/* Transform k of a chain, of that shape on its HuggingFace side. Of a part that the view cannot meet: nothing. */
static enum apr_code add_one(struct apr_view *v, const struct apr_transform *t, bool forward, const uint64_t *dim, unsigned ndim,
                             struct apr_error *e)
{
    if (moves_nothing(t->op) || (t->only > 0 && t->only - 1 != v->first && is_first_part(v)))
        return APR_OK;
    return changes_values(t->op) ? add_value(v, t, forward, dim, ndim, e) : add_step(v, t, forward, dim, ndim, e);
}

static enum apr_code add_chain(struct apr_view *v, const struct apr_transform *t, size_t n, bool forward, const uint64_t *dim,
                               unsigned ndim, struct apr_error *e)
{
    uint64_t shape[APR_MAX_STEPS][APR_MAX_DIMS];
    unsigned nshape[APR_MAX_STEPS];
    if (n > APR_MAX_STEPS)
        return too_many(e);
    for (size_t i = 0; i < n; i++) {
        const uint64_t part = t[i].only == 0 ? 0 : t[i].only - 1;
        uint64_t behind[APR_MAX_DIMS];
        memcpy(shape[i], dim, ndim * sizeof *dim);
        nshape[i] = ndim;
        const bool fits = apr_transform_shape(t, i, part, shape[i], &nshape[i]);
        unsigned nbehind = nshape[i];
        memcpy(behind, shape[i], sizeof behind);
        if (!fits || !take_shape(&t[i], part, behind, &nbehind))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "the transform %s does not fit the shape", op_words[t[i].op]);
    }
    for (size_t i = 0; i < n; i++) {
        const size_t k = forward ? i : n - 1 - i;
        APR_TRY(add_one(v, &t[k], forward, shape[k], nshape[k], e));
    }
    return APR_OK;
}

enum apr_code apr_view_forth(struct apr_view *v, const struct apr_transform *t, size_t n, const uint64_t *dim, unsigned ndim,
                             struct apr_error *e)
{
    return add_chain(v, t, n, true, dim, ndim, e);
}

enum apr_code apr_view_back(struct apr_view *v, const struct apr_transform *t, size_t n, const uint64_t *dim, unsigned ndim,
                            struct apr_error *e)
{
    return add_chain(v, t, n, false, dim, ndim, e);
}

void apr_view_exchange(struct apr_view *v, struct apr_view *other)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < v->nvalue; i++) {
        const struct apr_change *const c = &v->value[i];
        if (c->forward || (c->at > 0 && is_placed(c)) || other->nvalue == APR_MAX_VALUES) {
            v->value[kept++] = *c;
            continue;
        }
        /* the first op of the chain that is walked forward is the last to be undone, so the first to be done */
        memmove(other->value + 1, other->value, other->nvalue * sizeof *other->value);
        other->value[0] = *c;
        other->value[0].forward = true;
        other->value[0].at = other->value[0].only = 0; /* of another part it would not be here */
        other->nvalue++;
    }
    v->nvalue = kept;
}

bool apr_view_plain(const struct apr_view *v) { return v->nstep == 0 && v->nvalue == 0 && v->first == 0; }

bool apr_view_strided(const struct apr_view *v)
{
    for (unsigned i = 0; i < v->nstep; i++)
        if (v->step[i].op == APR_OP_TRANSPOSE || v->step[i].op == APR_OP_MLA_SPLIT)
            return true;
    return false;
}
