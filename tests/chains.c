#include "chains.h"

#include <stdio.h>

#include "base/bytes.h"
#include "files/source.h"
#include "values/dtype.h"

uint64_t seed;

uint64_t any(uint64_t from, uint64_t to)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return from + (seed >> 33) % (to - from + 1);
}

/* ---- the formulas ------------------------------------------------------------------------------------------------- */

void side_free(struct side *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->a[i].id);
    s->n = 0;
}

/* The next array of a side; without dims it is a scalar. */
static struct array *side_add(struct side *s, const uint64_t *dim, unsigned ndim)
{
    struct array *a = &s->a[s->n++];
    a->ndim = ndim;
    a->count = 1;
    for (unsigned i = 0; i < ndim; i++)
        a->count *= a->dim[i] = dim[i];
    a->id = calloc(a->count + 1, sizeof *a->id);
    assert_non_null(a->id);
    return a;
}

struct side huggingface(size_t n, const uint64_t *dim, unsigned ndim)
{
    struct side s = { 0 };
    for (size_t k = 0; k < n; k++) {
        struct array *a = side_add(&s, dim, ndim);
        for (uint64_t i = 0; i < a->count; i++)
            a->id[i] = (uint32_t)(k * a->count + i);
    }
    return s;
}

static bool is_split(enum apr_op op)
{
    return op == APR_OP_SPLIT_ROWS || op == APR_OP_SPLIT_COLS || op == APR_OP_CONCAT_ROWS || op == APR_OP_CONCAT_COLS;
}

/* Where row p of `rows` comes from, of those ops that move rows of a batch: sought by walking HuggingFace's groups in their order. */
static uint64_t source_row(const struct apr_transform *t, uint64_t rows, uint64_t p)
{
    const uint64_t *n = t->n;
    if (t->op == APR_OP_ORDER || t->op == APR_OP_ORDER_COLS)
        return t->order[p / n[0]] * n[0] + p % n[0];
    if (t->op == APR_OP_UNGROUP) {
        uint64_t at = 0, before = 0;
        for (unsigned i = 1; i < t->nn; before += n[i++])
            for (uint64_t g = 0; g < n[0]; g++)
                for (uint64_t j = 0; j < n[i]; j++, at++)
                    if (at == p)
                        return g * (rows / n[0]) + before + j;
    }
    uint64_t at = n[2];
    for (uint64_t k = 0; p >= n[2] && k < (rows - n[2]) / n[0] / n[1]; k++)
        for (uint64_t g = 0; g < n[0]; g++)
            for (uint64_t j = 0; j < n[1]; j++, at++)
                if (at == p)
                    return n[2] + g * ((rows - n[2]) / n[0]) + k * n[1] + j;
    return p;
}

static bool moves_rows(enum apr_op op)
{
    return op == APR_OP_REGROUP || op == APR_OP_UNGROUP || op == APR_OP_ORDER || op == APR_OP_REGROUP_COLS || op == APR_OP_ORDER_COLS;
}

static void formula_of_rows(const struct apr_transform *t, const struct array *hf, struct array *g)
{
    const bool cols = t->op == APR_OP_REGROUP_COLS || t->op == APR_OP_ORDER_COLS;
    const unsigned at = cols || hf->ndim == 1 ? hf->ndim - 1 : hf->ndim - 2;
    const uint64_t rows = hf->dim[at], inner = at == hf->ndim - 1 ? 1 : hf->dim[hf->ndim - 1];
    for (uint64_t b = 0; b < hf->count / (rows * inner); b++)
        for (uint64_t r = 0; r < rows; r++)
            for (uint64_t c = 0; c < inner; c++)
                g->id[(b * rows + r) * inner + c] = hf->id[(b * rows + source_row(t, rows, r)) * inner + c];
}

static void formula_of_padding(uint64_t padded, const struct array *hf, struct array *g)
{
    const uint64_t rows = hf->ndim == 1 ? hf->dim[0] : hf->dim[hf->ndim - 2], inner = hf->ndim == 1 ? 1 : hf->dim[hf->ndim - 1];
    for (uint64_t b = 0; b < hf->count / (rows * inner); b++)
        for (uint64_t r = 0; r < padded; r++)
            for (uint64_t c = 0; c < inner; c++)
                g->id[(b * padded + r) * inner + c] = r < rows ? hf->id[(b * rows + r) * inner + c] : NONE;
}

/* gguf[..] = hf[..], one transform. */
static struct side formula(const struct apr_transform *t, const struct side *in)
{
    struct side out = { 0 };
    const struct array *hf = &in->a[0];
    const uint64_t *n = t->n, C = hf->ndim < 2 ? 1 : hf->dim[hf->ndim - 1], R = C == 0 ? 0 : hf->count / C;
    uint64_t dim[APR_MAX_DIMS + 1];
    memcpy(dim, hf->dim, sizeof hf->dim);
    if (t->op == APR_OP_STACK) {
        memmove(dim + 1, dim, hf->ndim * sizeof *dim);
        dim[0] = n[0];
        struct array *g = side_add(&out, dim, hf->ndim + 1);
        for (uint64_t x = 0; x < n[0]; x++)
            for (uint64_t i = 0; i < hf->count; i++)
                g->id[x * hf->count + i] = in->a[x].id[i];
        return out;
    }
    if (is_split(t->op)) {
        const bool cols = t->op == APR_OP_SPLIT_COLS || t->op == APR_OP_CONCAT_COLS;
        const unsigned at = cols || hf->ndim == 1 ? hf->ndim - 1 : hf->ndim - 2;
        const uint64_t whole = hf->dim[at], inner = cols || hf->ndim == 1 ? 1 : C,
                       outer = hf->count / (whole * inner);
        uint64_t before = 0;
        for (unsigned k = 0; k < t->nn; before += n[k++]) {
            dim[at] = n[k];
            struct array *g = side_add(&out, dim, hf->ndim);
            for (uint64_t o = 0; o < outer; o++)
                for (uint64_t r = 0; r < n[k]; r++)
                    for (uint64_t c = 0; c < inner; c++)
                        g->id[(o * n[k] + r) * inner + c] = hf->id[(o * whole + before + r) * inner + c];
        }
        return out;
    }
    if (t->op == APR_OP_MLA_SPLIT) {
        const uint64_t nope = n[1], v = n[2];
        struct array *k_b = side_add(&out, (const uint64_t[]){ n[0], C, nope }, 3),
                      *v_b = side_add(&out, (const uint64_t[]){ n[0], v, C }, 3);
        for (uint64_t h = 0; h < n[0]; h++)
            for (uint64_t r = 0; r < C; r++) {
                for (uint64_t j = 0; j < nope; j++)
                    k_b->id[(h * C + r) * nope + j] = hf->id[(h * (nope + v) + j) * C + r];
                for (uint64_t j = 0; j < v; j++)
                    v_b->id[(h * v + j) * C + r] = hf->id[(h * (nope + v) + nope + j) * C + r];
            }
        return out;
    }
    unsigned ndim = hf->ndim;
    if (t->op == APR_OP_TRANSPOSE) {
        dim[ndim - 1] = hf->dim[ndim - 2];
        dim[ndim - 2] = hf->dim[ndim - 1];
    }
    if (t->op == APR_OP_ROWS)
        dim[0] = n[1];
    if (t->op == APR_OP_SQUEEZE)
        memmove(dim + n[0], dim + n[0] + 1, (--ndim - n[0]) * sizeof *dim);
    if (t->op == APR_OP_UNSQUEEZE) {
        memmove(dim + n[0] + 1, dim + n[0], (ndim++ - n[0]) * sizeof *dim);
        dim[n[0]] = 1;
    }
    if (t->op == APR_OP_RESHAPE)
        memcpy(dim, n, (ndim = t->nn) * sizeof *dim);
    if (t->op == APR_OP_PAD_ROWS)
        dim[ndim < 2 ? 0 : ndim - 2] = n[0];
    struct array *g = side_add(&out, dim, ndim);
    if (t->op == APR_OP_PAD_ROWS)
        formula_of_padding(n[0], hf, g);
    else
        memcpy(g->id, hf->id, g->count * sizeof *g->id);
    if (moves_rows(t->op))
        formula_of_rows(t, hf, g);
    if (t->op == APR_OP_ROPE_PERMUTE) {
        const uint64_t d = R / n[0];
        for (uint64_t h = 0; h < n[0]; h++)
            for (uint64_t p = 0; p < d; p++)
                for (uint64_t c = 0; c < C; c++)
                    g->id[(h * d + p) * C + c] = hf->id[(h * d + (p % 2) * (d / 2) + p / 2) * C + c];
    }
    if (t->op == APR_OP_QKV_NEOX) {
        const uint64_t A = n[0], D = R / (3 * A), H = A * D;
        for (uint64_t s = 0; s < 3; s++)
            for (uint64_t h = 0; h < A; h++)
                for (uint64_t j = 0; j < D; j++)
                    for (uint64_t c = 0; c < C; c++)
                        g->id[(s * H + h * D + j) * C + c] = hf->id[((h * 3 + s) * D + j) * C + c];
    }
    if (t->op == APR_OP_QKV_FALCON) {
        const uint64_t A = n[0], K = n[1], m = A / K, D = R / (A + 2 * K);
        for (uint64_t k = 0; k < K; k++)
            for (uint64_t q = 0; q < m + 2; q++)
                for (uint64_t j = 0; j < D; j++)
                    for (uint64_t c = 0; c < C; c++) {
                        const uint64_t row = q < m ? (k * m + q) * D + j : q == m ? (A + k) * D + j : (A + K + k) * D + j;
                        g->id[row * C + c] = hf->id[((k * (m + 2) + q) * D + j) * C + c];
                    }
    }
    if (t->op == APR_OP_TRANSPOSE) {
        const uint64_t r = hf->dim[ndim - 2], c = hf->dim[ndim - 1];
        for (uint64_t b = 0; b < hf->count / (r * c); b++)
            for (uint64_t i = 0; i < r; i++)
                for (uint64_t j = 0; j < c; j++)
                    g->id[b * r * c + j * r + i] = hf->id[b * r * c + i * c + j];
    }
    if (t->op == APR_OP_ROWS)
        memcpy(g->id, hf->id + n[0] * (hf->count / hf->dim[0]), g->count * sizeof *g->id);
    return out;
}

struct side formulas(const struct apr_transform *t, size_t n, size_t nhf, const uint64_t *dim, unsigned ndim)
{
    struct side s = huggingface(nhf, dim, ndim);
    for (size_t i = 0; i < n; i++) {
        struct side one = { .n = 1 };
        if (t[i].only > 0)
            one.a[0] = s.a[t[i].only - 1];
        struct side next = formula(&t[i], t[i].only > 0 ? &one : &s);
        side_free(t[i].only > 0 ? &one : &s);
        if (t[i].only > 0)
            s.a[t[i].only - 1] = next.a[0];
        else
            s = next;
    }
    return s;
}

/* ---- random chains ------------------------------------------------------------------------------------------------ */

static void shape_of(struct chain *c, unsigned ndim, uint64_t a, uint64_t b, uint64_t d)
{
    memcpy(c->dim, (const uint64_t[]){ a, b, d }, 3 * sizeof *c->dim);
    c->ndim = ndim;
}

/* A random order of up to 7 blocks, which the next call makes another. */
static void random_order(struct apr_transform *t)
{
    static uint32_t order[14];
    t->norder = (unsigned)any(1, 7);
    for (uint32_t i = 0; i < t->norder; i++)
        order[i] = i;
    for (uint32_t i = 0; i < t->norder; i++) {
        const uint64_t k = any(i, t->norder - 1);
        const uint32_t row = order[i];
        order[i] = order[k];
        order[k] = row;
    }
    for (uint32_t i = 0; i < t->norder; i++)
        order[t->norder + order[i]] = i;
    t->order = order;
}

/* The rows of an op of those that move rows of a batch, or pad them, with random numbers. */
static uint64_t random_rows(struct apr_transform *t, uint64_t size)
{
    uint64_t rows = any(1, 9);
    switch (t->op) {
    case APR_OP_ORDER:
    case APR_OP_ORDER_COLS:
        random_order(t);
        t->n[t->nn++] = size * any(1, 3);
        return t->norder * t->n[0];
    case APR_OP_UNGROUP:
        t->n[0] = any(1, 4);
        for (rows = 0, t->nn = 1; t->nn < 4; t->nn++)
            rows += t->n[t->nn] = any(1, 4);
        return t->n[0] * rows;
    case APR_OP_PAD_ROWS:
        t->n[t->nn++] = rows + any(0, 5);
        return rows;
    default:
        t->nn = 3;
        memcpy(t->n, (const uint64_t[]){ any(1, 4), size * any(1, 3), any(0, 1) * size * any(0, 5) }, 3 * sizeof *t->n);
        return t->n[2] + t->n[0] * t->n[1] * any(1, 4);
    }
}

/* Behind a split of rows: some parts go their own way. */
static void random_parts(struct chain *c, uint64_t rows[3])
{
    static const enum apr_op ops[] = { APR_OP_REGROUP, APR_OP_UNGROUP, APR_OP_PAD_ROWS, APR_OP_ORDER, APR_OP_TRANSPOSE };
    bool ordered = false;
    for (unsigned k = 0; k < 3; k++) {
        struct apr_transform *const t = &c->t[c->n];
        *t = (struct apr_transform){ .op = ops[any(0, 3)], .only = k + 1 };
        rows[k] = any(1, 6);
        if (any(0, 2) == 0 || (t->op == APR_OP_ORDER && ordered))
            continue;
        ordered |= t->op == APR_OP_ORDER;
        rows[k] = random_rows(t, 1);
        c->n++;
    }
}

/* One op on a shape that it fits, of odd sizes; columns are a multiple of `cols`. */
struct chain random_chain(enum apr_op op, uint64_t cols)
{
    struct chain c = { .n = 1, .nhf = 1 };
    struct apr_transform *t = &c.t[0];
    const uint64_t r = any(1, 9), w = cols * any(1, 7);
    *t = (struct apr_transform){ .op = op };
    shape_of(&c, 2, r, w, 0);
    switch (op) {
    case APR_OP_ROPE_PERMUTE:
    case APR_OP_QKV_NEOX:
        t->n[t->nn++] = any(1, 5);
        shape_of(&c, cols == 1 ? (unsigned)any(1, 2) : 2, t->n[0] * any(1, 5) * (op == APR_OP_ROPE_PERMUTE ? 2 : 3), w, 0);
        break;
    case APR_OP_QKV_FALCON:
        t->n[1] = any(1, 3);
        t->n[0] = t->n[1] * any(1, 4);
        t->nn = 2;
        shape_of(&c, cols == 1 ? (unsigned)any(1, 2) : 2, (t->n[0] + 2 * t->n[1]) * any(1, 5), w, 0);
        break;
    case APR_OP_TRANSPOSE:
        if (any(0, 1))
            shape_of(&c, 3, any(1, 3), r * (cols == 1 ? 1 : cols), w);
        else
            shape_of(&c, 2, r * cols, w, 0);
        break;
    case APR_OP_STACK:
        t->n[t->nn++] = c.nhf = any(1, 5);
        if (any(0, 1)) {
            c.t[c.n++] = (struct apr_transform){ .op = APR_OP_TRANSPOSE };
            c.dim[0] *= cols;
        }
        break;
    case APR_OP_REGROUP:
    case APR_OP_UNGROUP:
    case APR_OP_ORDER:
    case APR_OP_PAD_ROWS: {
        const uint64_t rows = random_rows(t, 1);
        if (cols == 1 && any(0, 2) == 0)
            shape_of(&c, 1, rows, 0, 0);
        else if (any(0, 1))
            shape_of(&c, 3, any(1, 3), rows, w);
        else
            shape_of(&c, 2, rows, w, 0);
        if (c.ndim == 2 && any(0, 1)) { /* of a matrix that is turned first */
            c.t[1] = *t;
            c.t[0] = (struct apr_transform){ .op = APR_OP_TRANSPOSE };
            shape_of(&c, 2, w, rows, 0);
            c.n = 2;
        }
        break;
    }
    case APR_OP_REGROUP_COLS:
    case APR_OP_ORDER_COLS:
        shape_of(&c, 2, r, random_rows(t, cols), 0);
        break;
    case APR_OP_SPLIT_ROWS:
    case APR_OP_SPLIT_COLS:
    case APR_OP_CONCAT_ROWS:
    case APR_OP_CONCAT_COLS: {
        const bool wide = op == APR_OP_SPLIT_COLS || op == APR_OP_CONCAT_COLS;
        uint64_t whole = 0, sizes[3];
        if (op == APR_OP_SPLIT_ROWS)
            random_parts(&c, sizes);
        for (t->nn = 0; t->nn < 3; t->nn++)
            whole += t->n[t->nn] = op == APR_OP_SPLIT_ROWS ? sizes[t->nn] : any(1, 6) * (wide ? cols : 1);
        if (cols == 1 && any(0, 2) == 0)
            shape_of(&c, 1, whole, 0, 0);
        else if (any(0, 1))
            shape_of(&c, 3, any(1, 3), wide ? r : whole, wide ? whole : w);
        else
            shape_of(&c, 2, wide ? r : whole, wide ? whole : w, 0);
        if (c.ndim == 2 && c.n == 1 && any(0, 1)) { /* as of a Conv1D matrix: turned, then cut along the other side */
            c.t[1] = *t;
            c.t[1].op = wide ? APR_OP_SPLIT_ROWS : APR_OP_SPLIT_COLS;
            c.t[0] = (struct apr_transform){ .op = APR_OP_TRANSPOSE };
            c.n = 2;
        }
        break;
    }
    case APR_OP_MLA_SPLIT:
        memcpy(t->n, (const uint64_t[]){ any(1, 4), cols * any(1, 5), any(1, 6) }, 3 * sizeof *t->n);
        t->nn = 3;
        shape_of(&c, 2, t->n[0] * (t->n[1] + t->n[2]), w, 0);
        break;
    case APR_OP_ROWS:
        t->n[0] = any(0, r - 1);
        t->n[1] = any(1, r - t->n[0]);
        t->nn = 2;
        break;
    case APR_OP_SQUEEZE:
        t->n[t->nn++] = 1;
        shape_of(&c, 3, r, 1, w);
        break;
    case APR_OP_UNSQUEEZE:
        t->n[t->nn++] = any(0, 2);
        break;
    case APR_OP_RESHAPE:
        memcpy(t->n, (const uint64_t[]){ 2, r, w }, 3 * sizeof *t->n);
        t->nn = 3;
        shape_of(&c, 2, 2 * r, w, 0);
        if (any(0, 1))
            c.t[c.n++] = (struct apr_transform){ .op = APR_OP_TRANSPOSE };
        break;
    default:
        c.n = 0;
    }
    return c;
}

/* ---- tensors ------------------------------------------------------------------------------------------------------ */

static void random_block(struct test_bytes *b, const struct apr_dtype *d)
{
    if (d == &apr_dtypes[APR_F32])
        test_floats(b, &(float){ (float)any(0, 100000) / 64 - 700 }, 1);
    else
        test_integer(b, 0x2000 + any(0, 0x1fff) + (any(0, 1) << 15), 2);
    for (unsigned i = 0; d == &apr_dtypes[APR_Q8_0] && i < 32; i++)
        test_integer(b, any(0, 255), 1);
}

struct stored *store(const struct side *side, const struct apr_dtype *d)
{
    struct stored *s = calloc(1, sizeof *s);
    struct test_bytes b = { 0 };
    struct apr_error e;
    size_t at[APR_MAX_PARTS];
    assert_non_null(s);
    test_text(&b, "?"); /* data is not aligned */
    for (size_t k = 0; k < side->n; k++) {
        at[k] = b.n;
        for (uint64_t i = 0; i < side->a[k].count / d->block; i++)
            random_block(&b, d);
    }
    if (apr_source_open(&s->s, test_file("stored", b.at, b.n), test_run_with(1), &e) != APR_OK)
        fail_msg("%s", e.text);
    s->m = (struct apr_model){ .file = &s->s, .nfile = 1 };
    for (s->n = 0; s->n < side->n; s->n++) {
        const struct array *a = &side->a[s->n];
        struct apr_tensor *t = &s->t[s->n];
        *t = (struct apr_tensor){ .dtype = d, .ndim = a->ndim, .count = a->count, .row = a->count };
        memcpy(t->dim, a->dim, sizeof t->dim);
        t->data = (struct apr_bytes){ s->s->map.at + at[s->n], (size_t)(a->count / d->block * d->bytes) };
        s->part[s->n] = t;
    }
    test_free(&b);
    return s;
}

void stored_free(struct stored *s)
{
    apr_source_close(s->s);
    free(s);
}

struct apr_view view_of(const struct apr_tensor *const *part, size_t npart, uint64_t first, const struct chain *c, bool forth)
{
    struct apr_view v = apr_view_of(part, npart, first);
    struct apr_error e;
    if ((forth ? apr_view_forth(&v, c->t, c->n, c->dim, c->ndim, &e) : apr_view_back(&v, c->t, c->n, c->dim, c->ndim, &e)) != APR_OK)
        fail_msg("%s: %s", apr_op_word(c->t[0].op), e.text);
    return v;
}
