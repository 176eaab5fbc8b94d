#include "family/rows.h"

#include <string.h>

#include "base/bytes.h"

static const char *const op_words[APR_NOPS] = {
    [APR_OP_ROPE_PERMUTE] = "rope_permute", [APR_OP_TRANSPOSE] = "transpose",   [APR_OP_QKV_NEOX] = "qkv_neox",
    [APR_OP_QKV_FALCON] = "qkv_falcon",     [APR_OP_STACK] = "stack",           [APR_OP_SPLIT_ROWS] = "split_rows",
    [APR_OP_SPLIT_COLS] = "split_cols",     [APR_OP_MLA_SPLIT] = "mla_split",   [APR_OP_ROWS] = "rows",
    [APR_OP_SQUEEZE] = "squeeze",           [APR_OP_UNSQUEEZE] = "unsqueeze",   [APR_OP_RESHAPE] = "reshape",
    [APR_OP_ADD] = "add",                   [APR_OP_NEG_EXP] = "neg_exp",
};

const char *apr_op_word(enum apr_op op) { return op_words[op]; }

enum apr_op apr_op_named(struct apr_bytes name)
{
    enum apr_op op = 0;
    while (op < APR_NOPS && !apr_bytes_equal(name, apr_text(op_words[op])))
        op++;
    return op;
}

/* ---- shapes --------------------------------------------------------------------------------------------------------- */

static uint64_t product(const uint64_t *dim, unsigned n)
{
    uint64_t p = 1;
    for (unsigned i = 0; i < n; i++)
        p *= dim[i];
    return p;
}

static uint64_t sum(const uint64_t *n, unsigned nn)
{
    uint64_t s = 0;
    for (unsigned i = 0; i < nn; i++)
        s += n[i];
    return s;
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
static void matrix_of(const uint64_t *dim, unsigned ndim, uint64_t *rows, uint64_t *cols)
{
    *cols = ndim < 2 ? 1 : dim[ndim - 1];
    *rows = ndim == 0 ? 1 : ndim == 1 ? dim[0] : product(dim, ndim - 1);
}

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

/* One transform of a countable shape; part says which output of a split. False when it does not fit. */
static bool change_shape(const struct apr_transform *t, uint64_t part, uint64_t *dim, unsigned *ndim)
{
    uint64_t rows, cols;
    const uint64_t *n = t->n;
    matrix_of(dim, *ndim, &rows, &cols);
    switch (t->op) {
    case APR_OP_ROPE_PERMUTE:
        return n[0] > 0 && rows % n[0] == 0 && rows / n[0] % 2 == 0;
    case APR_OP_QKV_NEOX:
        return n[0] > 0 && rows % 3 == 0 && rows / 3 % n[0] == 0;
    case APR_OP_QKV_FALCON:
        return n[1] > 0 && n[0] >= n[1] && n[0] < UINT64_MAX / 4 && n[0] % n[1] == 0 && rows % (n[0] + 2 * n[1]) == 0;
    case APR_OP_TRANSPOSE: {
        if (*ndim < 2)
            return false;
        const uint64_t last = dim[*ndim - 1];
        dim[*ndim - 1] = dim[*ndim - 2];
        dim[*ndim - 2] = last;
        return true;
    }
    case APR_OP_STACK:
        return n[0] > 0 && insert_dim(dim, ndim, 0, n[0]);
    case APR_OP_SPLIT_ROWS:
    case APR_OP_SPLIT_COLS: {
        const unsigned at = t->op == APR_OP_SPLIT_ROWS && *ndim > 1 ? *ndim - 2 : *ndim - 1;
        if (*ndim == 0 || part >= t->nn || !adds_up(n, t->nn, dim[at]))
            return false;
        dim[at] = n[part];
        return true;
    }
    case APR_OP_MLA_SPLIT:
        if (*ndim != 2 || n[0] == 0 || rows % n[0] != 0 || !adds_up(n + 1, 2, rows / n[0]) || part > 1)
            return false;
        *ndim = 3;
        dim[2] = part == 0 ? n[1] : cols;
        dim[1] = part == 0 ? cols : n[2];
        dim[0] = n[0];
        return true;
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
    case APR_OP_ADD:
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
        if (!take_shape(&t[i], part, dim, ndim))
            return false;
    return true;
}

/* ---- building ------------------------------------------------------------------------------------------------------- */

struct apr_view apr_view_of(const struct apr_tensor *const *part, size_t npart, uint64_t first)
{
    return (struct apr_view){ .part = part, .npart = npart, .first = first };
}

static bool moves_nothing(enum apr_op op) { return op == APR_OP_SQUEEZE || op == APR_OP_UNSQUEEZE || op == APR_OP_RESHAPE; }
static bool changes_values(enum apr_op op) { return op == APR_OP_ADD || op == APR_OP_NEG_EXP; }

static enum apr_code too_many(struct apr_error *e)
{
    return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "more transforms in a row than are taken");
}

/* Values come back the other way: what the step does to places is undone to them. To undo and do the same is nothing. */
static enum apr_code add_value(struct apr_view *v, const struct apr_transform *t, bool forward, struct apr_error *e)
{
    if (forward && v->nvalue > 0 && v->value[v->nvalue - 1].forward && v->value[v->nvalue - 1].op == t->op &&
        memcmp(&v->value[v->nvalue - 1].value, &t->value, sizeof t->value) == 0) {
        v->nvalue--;
        return APR_OK;
    }
    if (v->nvalue == APR_MAX_VALUES)
        return too_many(e);
    v->value[v->nvalue].op = t->op;
    v->value[v->nvalue].forward = !forward;
    v->value[v->nvalue++].value = t->value;
    return APR_OK;
}

static bool undoes(const struct apr_step *last, const struct apr_step *s)
{
    return !last->forward && s->forward && last->op == s->op && last->nn == s->nn && memcmp(last->n, s->n, s->nn * sizeof *s->n) == 0 &&
           last->rows == s->rows && last->cols == s->cols;
}

/* dim is the shape on the HuggingFace side of the step, and fits it. */
static enum apr_code add_step(struct apr_view *v, const struct apr_transform *t, bool forward, const uint64_t *dim, unsigned ndim,
                              struct apr_error *e)
{
    struct apr_step s = { .op = t->op, .forward = forward, .nn = t->nn };
    memcpy(s.n, t->n, t->nn * sizeof *t->n);
    matrix_of(dim, ndim, &s.rows, &s.cols);
    if (t->op == APR_OP_TRANSPOSE)
        s.rows = dim[ndim - 2];
    if (t->op == APR_OP_SPLIT_COLS)
        s.cols = 1;
    if (t->op == APR_OP_STACK)
        s.cols *= s.rows;
    if (t->op == APR_OP_ROWS)
        s.cols = product(dim + 1, ndim - 1);
    if (t->op == APR_OP_ROWS && t->n[0] == 0 && t->n[1] == dim[0]) /* all of them */
        return APR_OK;
    if (v->nstep > 0 && undoes(&v->step[v->nstep - 1], &s)) {
        v->nstep--;
        return APR_OK;
    }
    if (v->nstep == APR_MAX_STEPS)
        return too_many(e);
    v->step[v->nstep++] = s;
    return APR_OK;
}

static enum apr_code add_chain(struct apr_view *v, const struct apr_transform *t, size_t n, bool forward, const uint64_t *dim,
                               unsigned ndim, struct apr_error *e)
{
    uint64_t shape[APR_MAX_STEPS + 1][APR_MAX_DIMS] = { { 0 } };
    unsigned nshape[APR_MAX_STEPS + 1];
    if (n > APR_MAX_STEPS)
        return too_many(e);
    memcpy(shape[0], dim, ndim * sizeof *dim);
    nshape[0] = ndim;
    for (size_t i = 0; i < n; i++) {
        memcpy(shape[i + 1], shape[i], sizeof shape[i]);
        nshape[i + 1] = nshape[i];
        if (!take_shape(&t[i], 0, shape[i + 1], &nshape[i + 1]))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "the transform %s does not fit the shape", op_words[t[i].op]);
    }
    for (size_t i = 0; i < n; i++) {
        const size_t k = forward ? i : n - 1 - i;
        if (changes_values(t[k].op))
            APR_TRY(add_value(v, &t[k], forward, e));
        else if (!moves_nothing(t[k].op))
            APR_TRY(add_step(v, &t[k], forward, shape[k], nshape[k], e));
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
        if (v->value[i].forward || other->nvalue == APR_MAX_VALUES) {
            v->value[kept++] = v->value[i];
        } else {
            /* the first op of the chain that is walked forward is the last to be undone, so the first to be done */
            memmove(other->value + 1, other->value, other->nvalue * sizeof *other->value);
            other->value[0] = v->value[i];
            other->value[0].forward = true;
            other->nvalue++;
        }
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

/* ---- places --------------------------------------------------------------------------------------------------------- */

/* Ops that send row q to row p and keep columns. */
static uint64_t move_row(const struct apr_step *s, uint64_t r)
{
    const uint64_t heads = s->n[0];
    if (s->op == APR_OP_ROPE_PERMUTE) {
        const uint64_t d = s->rows / heads, h = r / d * d, p = r % d;
        return s->forward ? h + p % (d / 2) * 2 + p / (d / 2) : h + p % 2 * (d / 2) + p / 2;
    }
    if (s->op == APR_OP_QKV_NEOX) {
        const uint64_t d = s->rows / (3 * heads), j = r % d, k = r / d;
        return s->forward ? k % 3 * heads * d + k / 3 * d + j : (k % heads * 3 + k / heads) * d + j;
    }
    /* QKV_FALCON: a group is m query heads, one key head, one value head */
    const uint64_t groups = s->n[1], m = heads / groups, d = s->rows / (heads + 2 * groups), j = r % d, k = r / d;
    if (s->forward) {
        const uint64_t g = k / (m + 2), t = k % (m + 2);
        return (t < m ? g * m + t : t == m ? heads + g : heads + groups + g) * d + j;
    }
    const uint64_t g = k < heads ? k / m : (k - heads) % groups, t = k < heads ? k % m : m + (k - heads) / groups;
    return (g * (m + 2) + t) * d + j;
}

static uint64_t rows_together(const struct apr_step *s)
{
    switch (s->op) {
    case APR_OP_QKV_NEOX:
        return s->rows / (3 * s->n[0]);
    case APR_OP_QKV_FALCON:
        return s->rows / (s->n[0] + 2 * s->n[1]);
    default:
        return 1;
    }
}

static void take_rows(const struct apr_step *s, struct apr_place *p)
{
    const uint64_t row = p->index / s->cols, col = p->index % s->cols, together = rows_together(s);
    p->run = p->stride == 1 ? apr_min(p->run, (together - row % together) * s->cols - col) : 1;
    p->index = move_row(s, row) * s->cols + col;
}

static void take_transpose(const struct apr_step *s, struct apr_place *p)
{
    const uint64_t r = s->forward ? s->rows : s->cols, c = s->forward ? s->cols : s->rows; /* of the side it comes from */
    const uint64_t matrix = p->index / (r * c), i = p->index / c % r, j = p->index % c;
    const bool down = p->stride == c, along = !down && p->stride == 1;
    p->run = down ? apr_min(p->run, r - i) : along ? apr_min(p->run, c - j) : 1;
    p->stride = along ? r : 1;
    p->index = matrix * r * c + j * r + i;
}

static void take_stack(const struct apr_step *s, struct apr_place *p)
{
    const uint64_t size = s->cols, at = p->index % size, left = (size - at + p->stride - 1) / p->stride;
    p->run = apr_min(p->run, left);
    if (s->forward) {
        p->index += p->part * size;
        p->part = 0;
    } else {
        p->part = p->index / size;
        p->index = at;
    }
}

static void take_split(const struct apr_step *s, struct apr_place *p)
{
    const uint64_t whole = sum(s->n, s->nn) * s->cols;
    uint64_t before = 0, part = 0;
    if (s->forward) {
        const uint64_t at = p->index % whole;
        while (at >= before + s->n[part] * s->cols)
            before += s->n[part++] * s->cols;
        const uint64_t size = s->n[part] * s->cols;
        p->run = apr_min(p->run, (size - (at - before) + p->stride - 1) / p->stride);
        p->index = p->index / whole * size + at - before;
        p->part = part;
    } else {
        for (; part < p->part; part++)
            before += s->n[part] * s->cols;
        const uint64_t size = s->n[part] * s->cols, at = p->index % size;
        p->run = apr_min(p->run, (size - at + p->stride - 1) / p->stride);
        p->index = p->index / size * whole + before + at;
        p->part = 0;
    }
}

static void take_mla(const struct apr_step *s, struct apr_place *p)
{
    const uint64_t nope = s->n[1], v = s->n[2], rank = s->cols, head = nope + v;
    const bool one = p->stride == 1;
    if (s->forward) {
        const uint64_t row = p->index / rank, c = p->index % rank, h = row / head, j = row % head;
        p->run = one ? apr_min(p->run, rank - c) : 1;
        p->part = j >= nope;
        p->stride = one && j < nope ? nope : 1;
        p->index = j < nope ? (h * rank + c) * nope + j : (h * v + j - nope) * rank + c;
    } else if (p->part == 0) {
        const uint64_t j = p->index % nope, c = p->index / nope % rank, h = p->index / nope / rank;
        p->run = one ? apr_min(p->run, nope - j) : 1;
        p->stride = one ? rank : 1;
        p->index = (h * head + j) * rank + c;
    } else {
        const uint64_t row = p->index / rank, c = p->index % rank;
        p->run = one ? apr_min(p->run, rank - c) : 1;
        p->stride = 1;
        p->index = (row / v * head + nope + row % v) * rank + c;
        p->part = 0;
    }
}

#define NO_PART UINT64_MAX

static void take_some_rows(const struct apr_step *s, struct apr_place *p)
{
    const uint64_t before = s->n[0] * s->cols, size = s->n[1] * s->cols;
    if (!s->forward) {
        p->index += before;
    } else if (p->index < before || p->index >= before + size) {
        p->run = p->index < before ? apr_min(p->run, (before - p->index + p->stride - 1) / p->stride) : p->run;
        p->part = NO_PART;
    } else {
        p->index -= before;
        p->run = apr_min(p->run, (size - p->index + p->stride - 1) / p->stride);
    }
}

struct apr_place apr_view_place(const struct apr_view *v, uint64_t e)
{
    static void (*const take[APR_NOPS])(const struct apr_step *, struct apr_place *) = {
        [APR_OP_ROPE_PERMUTE] = take_rows,      [APR_OP_QKV_NEOX] = take_rows,    [APR_OP_QKV_FALCON] = take_rows,
        [APR_OP_TRANSPOSE] = take_transpose,    [APR_OP_STACK] = take_stack,      [APR_OP_SPLIT_ROWS] = take_split,
        [APR_OP_SPLIT_COLS] = take_split,       [APR_OP_MLA_SPLIT] = take_mla,    [APR_OP_ROWS] = take_some_rows,
    };
    struct apr_place p = { v->first, e, UINT64_MAX, 1 };
    for (unsigned i = 0; i < v->nstep && p.part != NO_PART; i++)
        take[v->step[i].op](&v->step[i], &p);
    if (p.part >= v->npart)
        p.part = v->npart;
    return p;
}
