#include "family/rows.h"

#include "base/bytes.h"

/* ---- places --------------------------------------------------------------------------------------------------------- */

/* Rows [row, row + together) of the HuggingFace or the GGUF side are rows `to` and on of the other. */
struct rows_moved {
    uint64_t to, together;
};

/* Each head of d rows: row p is row (p % 2) * d/2 + p / 2. */
static struct rows_moved rope_permute(const struct apr_step *s, uint64_t r)
{
    const uint64_t d = s->rows / s->n[0], h = r / d * d, p = r % d;
    return (struct rows_moved){ s->forward ? h + p % (d / 2) * 2 + p / (d / 2) : h + p % 2 * (d / 2) + p / 2, 1 };
}

static struct rows_moved qkv_neox(const struct apr_step *s, uint64_t r)
{
    const uint64_t heads = s->n[0], d = s->rows / (3 * heads), j = r % d, k = r / d;
    return (struct rows_moved){ s->forward ? k % 3 * heads * d + k / 3 * d + j : (k % heads * 3 + k / heads) * d + j, d - j };
}

/* A group is m query heads, one key head, one value head. */
static struct rows_moved qkv_falcon(const struct apr_step *s, uint64_t r)
{
    const uint64_t heads = s->n[0], groups = s->n[1], m = heads / groups, d = s->rows / (heads + 2 * groups), j = r % d, k = r / d;
    if (s->forward) {
        const uint64_t g = k / (m + 2), t = k % (m + 2);
        return (struct rows_moved){ (t < m ? g * m + t : t == m ? heads + g : heads + groups + g) * d + j, d - j };
    }
    const uint64_t g = k < heads ? k / m : (k - heads) % groups, t = k < heads ? k % m : m + (k - heads) / groups;
    return (struct rows_moved){ (g * (m + 2) + t) * d + j, d - j };
}

/* (groups, m, size) to (m, groups, size): each side is `outer` times `inner` blocks that the other has turned. */
static struct rows_moved regroup(const struct apr_step *s, uint64_t r)
{
    const uint64_t from = s->n[2], size = s->n[1];
    if (r < from)
        return (struct rows_moved){ r, from - r };
    const uint64_t m = (s->rows - from) / (s->n[0] * size), inner = s->forward ? m : s->n[0], outer = s->forward ? s->n[0] : m;
    const uint64_t block = (r - from) / size, j = (r - from) % size;
    return (struct rows_moved){ from + (block % inner * outer + block / inner) * size + j, size - j };
}

/* | a b c | a b c | to | a a | b b | c c | */
static struct rows_moved ungroup(const struct apr_step *s, uint64_t r)
{
    const uint64_t groups = s->n[0], whole = s->rows / groups;
    uint64_t before = 0;
    unsigned i = 1;
    if (s->forward) {
        const uint64_t g = r / whole, at = r % whole;
        while (at >= before + s->n[i])
            before += s->n[i++];
        return (struct rows_moved){ groups * before + g * s->n[i] + at - before, before + s->n[i] - at };
    }
    while (r >= groups * (before + s->n[i]))
        before += s->n[i++];
    const uint64_t at = r - groups * before, j = at % s->n[i];
    return (struct rows_moved){ at / s->n[i] * whole + before + j, s->n[i] - j };
}

#define MOST_BLOCKS 64u /* that lie side by side are told at a time */

static struct rows_moved order(const struct apr_step *s, uint64_t r)
{
    const uint32_t *const to = s->forward ? s->order + s->norder : s->order;
    const uint64_t size = s->n[0], block = r / size, j = r % size;
    uint64_t n = 1;
    while (n < MOST_BLOCKS && block + n < s->norder && to[block + n] == to[block] + n)
        n++;
    return (struct rows_moved){ to[block] * size + j, n * size - j };
}

typedef struct rows_moved move_fn(const struct apr_step *s, uint64_t r);

/* Whole rows go elsewhere in their matrix. Where a run goes down one column it stays one within the rows that stay together. */
static void take_moved(const struct apr_step *s, struct apr_place *p, move_fn *move)
{
    const uint64_t row = p->index / s->cols, col = p->index % s->cols, r = row % s->rows;
    const struct rows_moved m = move(s, r);
    p->run = p->stride == 1       ? apr_min(p->run, m.together * s->cols - col)
             : p->stride == s->cols ? apr_min(p->run, m.together)
                                    : 1;
    p->index = (row - r + m.to) * s->cols + col;
}

#define TAKE(name) static void take_##name(const struct apr_step *s, struct apr_place *p) { take_moved(s, p, name); }
TAKE(rope_permute)
TAKE(qkv_neox)
TAKE(qkv_falcon)
TAKE(regroup)
TAKE(ungroup)
TAKE(order)

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

static uint64_t sum(const uint64_t *n, unsigned nn)
{
    uint64_t s = 0;
    for (unsigned i = 0; i < nn; i++)
        s += n[i];
    return s;
}

/* Of a run from `at` on what lies before `end`. */
static void end_run(struct apr_place *p, uint64_t at, uint64_t end) { p->run = apr_min(p->run, (end - at + p->stride - 1) / p->stride); }

static void take_split(const struct apr_step *s, struct apr_place *p)
{
    const uint64_t whole = sum(s->n, s->nn) * s->cols;
    uint64_t before = 0, part = 0;
    if (s->forward) {
        const uint64_t at = p->index % whole;
        while (at >= before + s->n[part] * s->cols)
            before += s->n[part++] * s->cols;
        const uint64_t size = s->n[part] * s->cols;
        end_run(p, at - before, size);
        p->index = p->index / whole * size + at - before;
        p->part = part;
    } else {
        for (; part < p->part; part++)
            before += s->n[part] * s->cols;
        const uint64_t size = s->n[part] * s->cols, at = p->index % size;
        end_run(p, at, size);
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
        if (p->index < before)
            end_run(p, p->index, before);
        p->part = NO_PART;
    } else {
        p->index -= before;
        end_run(p, p->index, size);
    }
}

static void take_padded(const struct apr_step *s, struct apr_place *p)
{
    const uint64_t size = s->rows * s->cols, padded = s->n[0] * s->cols, from = s->forward ? size : padded, to = s->forward ? padded : size;
    const uint64_t at = p->index % from;
    end_run(p, at, at < size ? size : padded);
    p->index = p->index / from * to + at;
    if (at >= size)
        p->part = NO_PART;
}

/* Where element e lies before step n. */
static struct apr_place place_before(const struct apr_view *v, uint64_t e, unsigned n)
{
    static void (*const take[APR_NOPS])(const struct apr_step *, struct apr_place *) = {
        [APR_OP_ROPE_PERMUTE] = take_rope_permute, [APR_OP_QKV_NEOX] = take_qkv_neox,  [APR_OP_QKV_FALCON] = take_qkv_falcon,
        [APR_OP_TRANSPOSE] = take_transpose,       [APR_OP_STACK] = take_stack,        [APR_OP_SPLIT_ROWS] = take_split,
        [APR_OP_SPLIT_COLS] = take_split,          [APR_OP_MLA_SPLIT] = take_mla,      [APR_OP_ROWS] = take_some_rows,
        [APR_OP_REGROUP] = take_regroup,           [APR_OP_REGROUP_COLS] = take_regroup, [APR_OP_UNGROUP] = take_ungroup,
        [APR_OP_CONCAT_ROWS] = take_split,         [APR_OP_CONCAT_COLS] = take_split,  [APR_OP_PAD_ROWS] = take_padded,
        [APR_OP_ORDER] = take_order,               [APR_OP_ORDER_COLS] = take_order,
    };
    struct apr_place p = { v->first, e, UINT64_MAX, 1 };
    for (unsigned i = 0; i < n && p.part != NO_PART; i++)
        if (v->step[i].only == 0 || p.part == v->step[i].only - 1)
            take[v->step[i].op](&v->step[i], &p);
    return p;
}

struct apr_place apr_view_place(const struct apr_view *v, uint64_t e)
{
    struct apr_place p = place_before(v, e, v->nstep);
    if (p.part >= v->npart)
        p.part = v->npart;
    return p;
}

struct apr_changed apr_view_change(const struct apr_view *v, unsigned i, uint64_t e)
{
    const struct apr_change *const c = &v->value[i];
    struct apr_place p = place_before(v, e, c->at);
    struct apr_changed changed = { .op = c->op, .forward = c->forward, .by = c->by[0] };
    changed.none = p.part == NO_PART || (c->only > 0 && p.part != c->only - 1);
    if (!changed.none && c->nn > 0) { /* by the rows in which it lies */
        const uint64_t at = p.index % (c->rows * c->cols);
        uint64_t end = c->n[0] * c->cols;
        unsigned k = 0;
        while (at >= end)
            end += c->n[++k] * c->cols;
        end_run(&p, at, end);
        changed.by = c->by[k];
    }
    changed.run = p.run;
    return changed;
}
