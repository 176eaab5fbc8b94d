/* lib/family/rows.h against plain loops written from the formulas, for random sizes: places, runs, chains of both sides; and what an input
 * reads through such views: values, tiles, blocks. */
#include "support.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "family/rows.h"
#include "files/source.h"
#include "flow/input.h"
#include "values/dtype.h"

static uint64_t seed;

static uint64_t any(uint64_t from, uint64_t to)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return from + (seed >> 33) % (to - from + 1);
}

/* ---- the formulas ------------------------------------------------------------------------------------------------- */

/* Arrays of one side. An element is the number that it has on the HuggingFace side: tensor * count + index; NONE: it has none there. */
#define NONE UINT32_MAX
struct side {
    size_t n;
    struct array {
        uint64_t dim[APR_MAX_DIMS], count;
        unsigned ndim;
        uint32_t *id;
    } a[APR_MAX_PARTS];
};

static void side_free(struct side *s)
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

static struct side huggingface(size_t n, const uint64_t *dim, unsigned ndim)
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

static struct side formulas(const struct apr_transform *t, size_t n, size_t nhf, const uint64_t *dim, unsigned ndim)
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

struct chain {
    struct apr_transform t[APR_MAX_STEPS];
    size_t               n, nhf;
    uint64_t             dim[APR_MAX_DIMS];
    unsigned             ndim;
};

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
static struct chain random_chain(enum apr_op op, uint64_t cols)
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

/* A side as tensors of one dtype with random values, in a file. */
struct stored {
    struct apr_source       *s;
    struct apr_model         m;
    struct apr_tensor        t[APR_MAX_PARTS];
    const struct apr_tensor *part[APR_MAX_PARTS];
    size_t                   n;
};

static void random_block(struct test_bytes *b, const struct apr_dtype *d)
{
    if (d == &apr_dtypes[APR_F32])
        test_floats(b, &(float){ (float)any(0, 100000) / 64 - 700 }, 1);
    else
        test_integer(b, 0x2000 + any(0, 0x1fff) + (any(0, 1) << 15), 2);
    for (unsigned i = 0; d == &apr_dtypes[APR_Q8_0] && i < 32; i++)
        test_integer(b, any(0, 255), 1);
}

static struct stored *store(const struct side *side, const struct apr_dtype *d)
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

static void stored_free(struct stored *s)
{
    apr_source_close(s->s);
    free(s);
}

/* ---- places ------------------------------------------------------------------------------------------------------- */

/* The view shows `to` (one array) by way of `from`: every element of every run; what from lacks is in no part. */
static void places_are_right(const char *what, const struct apr_view *v, const struct array *to, const struct side *from)
{
    for (uint64_t e = 0; e < to->count; e++) {
        const struct apr_place p = apr_view_place(v, e);
        assert_true(p.run > 0 && p.part <= from->n);
        for (uint64_t i = 0; i < p.run && e + i < to->count; i++) {
            const uint64_t index = p.index + i * p.stride;
            bool lost = true;
            if (p.part < from->n) {
                if (index >= from->a[p.part].count || from->a[p.part].id[index] != to->id[e + i])
                    fail_msg("%s: element %llu + %llu lies at %llu of part %llu", what, (unsigned long long)e, (unsigned long long)i,
                             (unsigned long long)index, (unsigned long long)p.part);
                continue;
            }
            for (size_t k = 0; lost && to->id[e + i] != NONE && k < from->n; k++)
                for (uint64_t j = 0; lost && j < from->a[k].count; j++)
                    lost = from->a[k].id[j] != to->id[e + i];
            if (!lost)
                fail_msg("%s: element %llu is said to be lost", what, (unsigned long long)(e + i));
        }
    }
}

static struct apr_view view_of(const struct apr_tensor *const *part, size_t npart, uint64_t first, const struct chain *c, bool forth)
{
    struct apr_view v = apr_view_of(part, npart, first);
    struct apr_error e;
    if ((forth ? apr_view_forth(&v, c->t, c->n, c->dim, c->ndim, &e) : apr_view_back(&v, c->t, c->n, c->dim, c->ndim, &e)) != APR_OK)
        fail_msg("%s: %s", apr_op_word(c->t[0].op), e.text);
    return v;
}

static void both_ways_each_transform_is_its_formula(void **state)
{
    (void)state;
    for (seed = 1; seed < 4000; seed++) {
        const uint64_t start = seed;
        const enum apr_op op = (enum apr_op)any(0, APR_OP_RESHAPE);
        const struct chain c = random_chain(op, 1);
        struct side hf = huggingface(c.nhf, c.dim, c.ndim), gguf = formulas(c.t, c.n, c.nhf, c.dim, c.ndim);
        for (size_t k = 0; k < gguf.n; k++) {
            uint64_t dim[APR_MAX_DIMS];
            unsigned ndim = c.ndim;
            memcpy(dim, c.dim, sizeof dim);
            assert_true(apr_transform_shape(c.t, c.n, k, dim, &ndim));
            assert_int_equal(ndim, gguf.a[k].ndim);
            assert_memory_equal(dim, gguf.a[k].dim, ndim * sizeof *dim);
            const struct apr_view back = view_of(NULL, hf.n, k, &c, false);
            places_are_right(apr_op_word(op), &back, &gguf.a[k], &hf);
        }
        for (size_t k = 0; k < hf.n; k++) {
            const struct apr_view forth = view_of(NULL, gguf.n, k, &c, true);
            places_are_right(apr_op_word(op), &forth, &hf.a[k], &gguf);
        }
        side_free(&hf);
        side_free(&gguf);
        seed = start;
    }
}

/* Twelve rows, as numpy has them: reshape and swapaxes, slices put behind each other, rows by their numbers. */
static void twelve_rows_lie_as_numpy_lays_them(void **state)
{
    (void)state;
    const uint32_t order[] = { 2, 0, 1, 1, 2, 0 };
    const struct { struct apr_transform t; uint64_t gguf[12]; } rows[] = {
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3 } }, { 0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11 } },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 3, 1 } }, { 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11 } },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 6, 1 } }, { 0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11 } },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 4 } }, { 0, 1, 2, 3, 4, 8, 5, 9, 6, 10, 7, 11 } },
        { { .op = APR_OP_UNGROUP, .nn = 4, .n = { 2, 1, 3, 2 } }, { 0, 6, 1, 2, 3, 7, 8, 9, 4, 5, 10, 11 } },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 4 }, .norder = 3, .order = order }, { 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7 } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (uint64_t cols = 1; cols < 4; cols += 2) {
            struct chain c = { .t = { rows[i].t }, .n = 1, .ndim = 2, .dim = { 12, cols } };
            const struct apr_view back = view_of(NULL, 1, 0, &c, false), forth = view_of(NULL, 1, 0, &c, true);
            for (uint64_t e = 0; e < 12 * cols; e++) {
                const uint64_t from = rows[i].gguf[e / cols] * cols + e % cols;
                assert_int_equal(apr_view_place(&back, e).index, from);
                assert_int_equal(apr_view_place(&forth, from).index, e);
            }
        }
}

/* So rows of blocks are moved whole, and many at a time. */
static void rows_that_stay_together_are_one_run(void **state)
{
    (void)state;
    const uint32_t order[] = { 1, 2, 3, 0, 3, 0, 1, 2 };
    const struct { struct apr_transform t; uint64_t e, run; } rows[] = {
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3 } }, 0, 3 * 64 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3 } }, 70, 3 * 64 - 70 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 8 } }, 0, 8 * 64 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 1, 3 } }, 0, UINT64_MAX },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 2, 2, 4 } }, 0, 2 * 64 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 2, 2, 4 } }, 4 * 64, 4 * 64 },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 3 }, .norder = 4, .order = order }, 0, 9 * 64 },
        { { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 16 } }, 0, 12 * 64 },
        { { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 16 } }, 12 * 64, 4 * 64 },
        { { .op = APR_OP_REGROUP_COLS, .nn = 3, .n = { 2, 8 } }, 8, 8 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct chain c = { .t = { rows[i].t }, .n = 1, .ndim = 2, .dim = { 12, 64 } };
        const struct apr_view back = view_of(NULL, 1, 0, &c, false);
        assert_int_equal(apr_view_place(&back, rows[i].e).run, rows[i].run);
    }
}

/* Forward and then the inverse: HuggingFace's order again, but for rows that were cut off. */
static void there_and_back_is_the_identity(void **state)
{
    (void)state;
    for (seed = 1; seed < 3000; seed++) {
        const uint64_t start = seed;
        struct chain c = random_chain((enum apr_op)any(0, APR_OP_RESHAPE), 1);
        struct side hf = huggingface(c.nhf, c.dim, c.ndim), gguf = formulas(c.t, c.n, c.nhf, c.dim, c.ndim);
        for (size_t k = 0; k < hf.n; k++) {
            struct apr_view v = view_of(NULL, hf.n, k, &c, true);
            struct apr_error e;
            if (c.n > 3 || apr_view_back(&v, c.t, c.n, c.dim, c.ndim, &e) != APR_OK)
                continue;
            for (uint64_t i = 0; i < hf.a[k].count; i++) {
                const struct apr_place p = apr_view_place(&v, i);
                if (p.part != hf.n || c.t[0].op != APR_OP_ROWS)
                    assert_true(p.part == k && p.index == i);
            }
        }
        for (size_t k = 0; k < gguf.n; k++) { /* the other way round nothing remains */
            struct apr_view v = view_of(NULL, gguf.n, k, &c, false);
            struct apr_error e;
            assert_int_equal(apr_view_forth(&v, c.t, c.n, c.dim, c.ndim, &e), APR_OK);
            assert_int_equal(v.nstep, 0);
            assert_true(apr_view_plain(&v) == (k == 0));
        }
        side_free(&hf);
        side_free(&gguf);
        seed = start;
    }
}

/* A's order through B's tensors: back along one chain, forth along another. */
static void chains_of_two_models_compose(void **state)
{
    (void)state;
    const struct apr_transform one[] = {
        { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 2 } },        { .op = APR_OP_TRANSPOSE },
        { .op = APR_OP_QKV_NEOX, .nn = 1, .n = { 2 } },            { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { 4, 1 } },
        { .op = APR_OP_SPLIT_ROWS, .nn = 3, .n = { 5, 6, 1 } },    { .op = APR_OP_SPLIT_COLS, .nn = 2, .n = { 4, 5 } },
        { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 3, 3, 1 } },     { .op = APR_OP_ROWS, .nn = 2, .n = { 2, 7 } },
        { .op = APR_OP_RESHAPE, .nn = 3, .n = { 4, 3, 9 } },       { .op = APR_OP_STACK, .nn = 1, .n = { 1 } },
        { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3, 0 } },       { .op = APR_OP_REGROUP, .nn = 3, .n = { 4, 1, 4 } },
        { .op = APR_OP_REGROUP_COLS, .nn = 3, .n = { 3, 1, 0 } },  { .op = APR_OP_UNGROUP, .nn = 4, .n = { 2, 1, 3, 2 } },
        { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 15 } },           { .op = APR_OP_CONCAT_ROWS, .nn = 2, .n = { 5, 7 } },
        { .op = APR_OP_CONCAT_COLS, .nn = 2, .n = { 8, 1 } },
        { .op = APR_OP_ORDER, .nn = 1, .n = { 4 }, .norder = 3, .order = (const uint32_t[]){ 2, 0, 1, 1, 2, 0 } },
        { .op = APR_OP_ORDER_COLS, .nn = 1, .n = { 3 }, .norder = 3, .order = (const uint32_t[]){ 1, 2, 0, 2, 0, 1 } },
    };
    const uint64_t dim[APR_MAX_DIMS] = { 12, 9 };
    for (size_t a = 0; a < APR_LENGTH(one); a++)
        for (size_t b = 0; b < APR_LENGTH(one); b++)
            for (unsigned turned = 0; turned < 2; turned++) {
                struct chain x = { .t = { one[a] }, .n = 1, .nhf = 1, .dim = { 12, 9 }, .ndim = 2 };
                struct chain y = { .t = { one[b] }, .n = 1, .nhf = 1, .dim = { 12, 9 }, .ndim = 2 };
                if (turned && one[b].op == APR_OP_RESHAPE)
                    y.t[y.n++] = one[1];
                struct side in_a = formulas(x.t, x.n, 1, dim, 2), in_b = formulas(y.t, y.n, 1, dim, 2);
                for (size_t k = 0; k < in_a.n; k++) {
                    struct apr_view v = view_of(NULL, in_b.n, k, &x, false);
                    struct apr_error e;
                    char what[64];
                    snprintf(what, sizeof what, "%s, then %s", apr_op_word(one[a].op), apr_op_word(one[b].op));
                    assert_int_equal(apr_view_forth(&v, y.t, y.n, dim, 2, &e), APR_OK);
                    places_are_right(what, &v, &in_a.a[k], &in_b);
                }
                side_free(&in_a);
                side_free(&in_b);
            }
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

/* What the array should read as: the values of the stored side by their ids; 0 where none has them. */
static double *expected(const struct array *to, const struct side *from, const struct stored *s, size_t nid)
{
    const struct apr_kernels *k = apr_kernels_for(APR_SCALAR);
    double *by_id = calloc(nid + 1, sizeof *by_id), *out = calloc(to->count + 1, sizeof *out);
    assert_true(by_id != NULL && out != NULL);
    for (size_t p = 0; p < from->n; p++)
        for (uint64_t i = 0; i < from->a[p].count; i++)
            if (from->a[p].id[i] != NONE)
                apr_read_doubles(k, &s->t[p], i, 1, &by_id[from->a[p].id[i]]);
    for (uint64_t i = 0; i < to->count; i++)
        out[i] = to->id[i] == NONE ? 0 : by_id[to->id[i]];
    free(by_id);
    return out;
}

/* Blocks, when they are had, decode to what is wanted; of a type without blocks they are had always. */
static void blocks_are(const char *what, const struct apr_input *in, struct apr_window *w, uint64_t e, uint64_t n, const double *want)
{
    static unsigned char blocks[16 * APR_STRETCH];
    static float floats[APR_STRETCH];
    const struct apr_dtype *d = apr_input_part(in, 0)->dtype;
    if (!apr_input_blocks(in, w, e, n, blocks)) {
        if (d->block == 1 || (in->plain && e % d->block == 0 && n % d->block == 0))
            fail_msg("%s: elements %llu and on are no blocks", what, (unsigned long long)e);
        return;
    }
    assert_int_equal(n % d->block, 0);
    in->k->decode[apr_dtype_id(d)](blocks, blocks, n, floats);
    for (uint64_t i = 0; i < n; i++)
        if (floats[i] != (float)want[e + i])
            fail_msg("%s: in a block element %llu is %g, not %g", what, (unsigned long long)(e + i), (double)floats[i], want[e + i]);
}

static void reads_as(const char *what, const struct apr_view *v, const struct stored *s, const struct array *to, const double *want)
{
    static float floats[APR_STRETCH];
    static double doubles[APR_STRETCH];
    const struct apr_kernels *k = apr_kernels_for(apr_isa_best());
    const struct apr_input in = apr_input_through(k, &s->m, v, to->dim, to->ndim);
    struct apr_window window = { .most = (size_t)any(1, 4096) };
    const uint64_t block = s->t[0].dtype->block;
    for (uint64_t e = 0, n; e < to->count; e += n) {
        n = apr_min(to->count - e, any(1, 200));
        apr_input_floats(&in, &window, e, (size_t)n, floats);
        apr_input_doubles(&in, &window, e, (size_t)n, doubles);
        for (uint64_t i = 0; i < n; i++)
            if (floats[i] != (float)want[e + i] || doubles[i] != want[e + i])
                fail_msg("%s: element %llu reads as %g and %g, not %g", what, (unsigned long long)(e + i), (double)floats[i], doubles[i],
                         want[e + i]);
        const uint64_t whole = e / block * block;
        blocks_are(what, &in, &window, whole, apr_min(to->count - whole, block * any(1, 5)), want);
    }
    assert_int_equal(in.count, to->count);
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t row = any(0, in.nrow - 1), col = any(0, in.ncol - 1), h = any(1, apr_min(in.nrow - row, 20)),
                       w = any(1, apr_min(in.ncol - col, 100));
        apr_input_tile_doubles(&in, &window, row, (size_t)h, col, (size_t)w, doubles);
        apr_input_tile_floats(&in, &window, row, (size_t)h, col, (size_t)w, floats);
        for (uint64_t y = 0; y < h; y++)
            for (uint64_t x = 0; x < w; x++) {
                const double value = want[(row + y) * in.ncol + col + x];
                if (doubles[y * w + x] != value || floats[y * w + x] != (float)value)
                    fail_msg("%s: row %llu, column %llu of a tile is %g, not %g", what, (unsigned long long)(row + y),
                             (unsigned long long)(col + x), doubles[y * w + x], value);
            }
    }
    apr_window_drop(&window);
}

static bool whole_blocks(const struct side *s, const struct apr_dtype *d)
{
    bool yes = true;
    for (size_t i = 0; i < s->n; i++)
        yes &= s->a[i].ndim > 0 && s->a[i].dim[s->a[i].ndim - 1] % d->block == 0;
    return yes;
}

static void inputs_follow_places_for_every_dtype(void **state)
{
    (void)state;
    static const enum apr_dtype_id dtype[] = { APR_F32, APR_F16, APR_Q8_0 };
    for (seed = 1; seed < 900; seed++) {
        const uint64_t start = seed;
        const struct apr_dtype *d = &apr_dtypes[dtype[any(0, 2)]];
        const struct chain c = random_chain((enum apr_op)any(0, APR_OP_RESHAPE), d->block);
        struct side hf = huggingface(c.nhf, c.dim, c.ndim), gguf = formulas(c.t, c.n, c.nhf, c.dim, c.ndim);
        const size_t nid = (size_t)(hf.n * hf.a[0].count);
        for (unsigned forth = 0; forth < 2; forth++) {
            const struct side *from = forth ? &gguf : &hf, *to = forth ? &hf : &gguf;
            if (!whole_blocks(from, d))
                continue;
            struct stored *s = store(from, d);
            for (size_t k = 0; k < to->n; k++) {
                const struct apr_view v = view_of(s->part, s->n, k, &c, forth);
                double *want = expected(&to->a[k], from, s, nid);
                reads_as(apr_op_word(c.t[0].op), &v, s, &to->a[k], want);
                free(want);
            }
            stored_free(s);
        }
        side_free(&hf);
        side_free(&gguf);
        seed = start;
    }
}

static void a_plain_view_gives_bytes(void **state)
{
    (void)state;
    seed = 1;
    struct side hf = huggingface(1, (const uint64_t[]){ 3, 64 }, 2);
    struct stored *s = store(&hf, &apr_dtypes[APR_Q8_0]);
    const struct apr_input in = apr_input_of(apr_kernels_for(APR_SCALAR), &s->m, &s->t[0]);
    struct apr_window window = { .most = 1000 };
    assert_true(in.plain && !in.strided);
    const struct apr_bytes b = apr_input_touch(&in, &window, 0, 64, 64);
    assert_ptr_equal(b.at, s->t[0].data.at + 2 * 34);
    assert_int_equal(b.n, 2 * 34);
    apr_window_drop(&window);
    stored_free(s);
    side_free(&hf);
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

static const struct apr_transform plus_one = { .op = APR_OP_ADD, .by = { 1 } }, minus_exp = { .op = APR_OP_NEG_EXP };

static struct apr_input changed_by(const struct chain *c, const struct stored *s, bool forth)
{
    const struct apr_view v = view_of(s->part, 1, 0, c, forth);
    return apr_input_through(apr_kernels_for(APR_SCALAR), &s->m, &v, c->dim, c->ndim);
}

static void values_change_forwards_and_back_in_f32(void **state)
{
    (void)state;
    static const float w[] = { 0, -1, 1, 0.1f, -0.3f, 3.5f, 1e-9f };
    struct side side = huggingface(1, (const uint64_t[]){ 7 }, 1);
    struct stored *s = store(&side, &apr_dtypes[APR_F32]);
    const struct chain add = { .t = { plus_one }, .n = 1, .dim = { 7 }, .ndim = 1 },
                       exps = { .t = { minus_exp }, .n = 1, .dim = { 7 }, .ndim = 1 };
    const struct chain both = { .t = { plus_one, minus_exp }, .n = 2, .dim = { 7 }, .ndim = 1 };
    float copy[7], out[7];
    double doubles[7];
    memcpy(copy, w, sizeof w);
    s->t[0].data.at = (const unsigned char *)copy; /* no window: memory of our own is not let go of */
    struct apr_input in = changed_by(&add, s, false); /* HuggingFace's values in GGUF's place */
    assert_false(in.plain);
    assert_false(apr_input_blocks(&in, NULL, 0, 7, doubles));
    apr_input_floats(&in, NULL, 0, 7, out);
    apr_input_doubles(&in, NULL, 0, 7, doubles);
    for (size_t i = 0; i < 7; i++) {
        assert_true(out[i] == w[i] + 1.0f);
        assert_true(doubles[i] == (double)(w[i] + 1.0f));
    }
    in = changed_by(&exps, s, false);
    apr_input_floats(&in, NULL, 0, 7, out);
    for (size_t i = 0; i < 7; i++)
        assert_true(out[i] == (float)-exp((double)w[i]));
    in = changed_by(&both, s, false);
    float sum[7];
    apr_input_floats(&in, NULL, 0, 7, sum);
    for (size_t i = 0; i < 7; i++) /* in their order */
        assert_true(sum[i] == (float)-exp((double)(w[i] + 1.0f)));
    memcpy(copy, out, sizeof out);
    in = changed_by(&exps, s, true);
    apr_input_floats(&in, NULL, 0, 7, out);
    for (size_t i = 0; i < 7; i++)
        assert_true(fabsf(out[i] - w[i]) <= 1e-6f);
    in = changed_by(&add, s, true);
    apr_input_floats(&in, NULL, 0, 7, out);
    for (size_t i = 0; i < 7; i++)
        assert_true(out[i] == copy[i] - 1.0f);
    stored_free(s);
    side_free(&side);
}

/* Six rows of two columns in groups of 2, 3 and 1 rows, times 0.3, 0.7 and 1.1 as numpy has it in f32; in the order of the GGUF, which
 * regroups them before or behind that. */
static void rows_are_scaled_where_they_lie(void **state)
{
    (void)state;
    static const float w[] = { 1, 3, 7, -2.5f, 0.1f, 5 };
    static const float scaled[] = { 0.30000001192092896f, 0.9000000357627869f, 4.900000095367432f, -1.75f, 0.07000000029802322f, 5.5f };
    static const float again[] = { 1, 3, 7.000000476837158f, -2.5f, 0.10000000149011612f, 5 };
    static const unsigned row_of[] = { 0, 3, 1, 4, 2, 5 }; /* numpy: arange(6).reshape(2, 3).T */
    const struct apr_transform scale = { .op = APR_OP_SCALE, .nn = 3, .n = { 2, 3, 1 }, .by = { 0.3, 0.7, 1.1 } };
    const struct apr_transform moves = { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 0 } };
    struct side side = huggingface(1, (const uint64_t[]){ 6, 2 }, 2);
    struct stored *s = store(&side, &apr_dtypes[APR_F32]);
    float copy[12], out[12], tile[12];
    double doubles[12];
    const struct chain c = { .t = { scale, moves }, .n = 2, .dim = { 6, 2 }, .ndim = 2 };
    s->t[0].data.at = (const unsigned char *)copy;
    for (size_t i = 0; i < 12; i++)
        copy[i] = w[i / 2];
    struct apr_input in = changed_by(&c, s, false);
    apr_input_floats(&in, NULL, 0, 12, out);
    apr_input_tile_floats(&in, NULL, 0, 6, 0, 2, tile);
    apr_input_doubles(&in, NULL, 1, 11, doubles);
    for (size_t i = 0; i < 12; i++) {
        assert_true(out[i] == scaled[row_of[i / 2]] && tile[i] == out[i]);
        assert_true(i == 0 || doubles[i - 1] == (double)out[i]);
    }
    memcpy(copy, out, sizeof out);
    in = changed_by(&c, s, true);
    apr_input_floats(&in, NULL, 0, 12, out);
    for (size_t i = 0; i < 12; i++)
        assert_true(out[i] == again[i / 2]);
    const struct chain after = { .t = { moves, scale }, .n = 2, .dim = { 6, 2 }, .ndim = 2 };
    for (size_t i = 0; i < 12; i++)
        copy[i] = w[i / 2];
    in = changed_by(&after, s, false);
    apr_input_floats(&in, NULL, 0, 12, out);
    for (size_t i = 0; i < 12; i++)
        assert_true(out[i] == w[row_of[i / 2]] * (i < 4 ? 0.3f : i < 10 ? 0.7f : 1.1f));
    stored_free(s);
    side_free(&side);
}

/* Of rows that are split one part alone is changed, and rows that are added are 0 whatever is done before. */
static void a_part_alone_is_changed_and_what_is_added_is_zero(void **state)
{
    (void)state;
    const struct apr_transform split = { .op = APR_OP_SPLIT_ROWS, .nn = 2, .n = { 2, 4 } };
    const struct apr_transform add = { .op = APR_OP_ADD, .only = 2, .by = { 10 } }, exps = { .op = APR_OP_NEG_EXP };
    const struct apr_transform pad = { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 8 } };
    struct side side = huggingface(1, (const uint64_t[]){ 6 }, 1);
    struct stored *s = store(&side, &apr_dtypes[APR_F32]);
    const struct chain parts = { .t = { split, add }, .n = 2, .dim = { 6 }, .ndim = 1 };
    const struct chain padded = { .t = { exps, pad }, .n = 2, .dim = { 6 }, .ndim = 1 };
    float w[6] = { 1, 2, 3, 4, 5, 6 }, out[8];
    const struct apr_kernels *k = apr_kernels_for(APR_SCALAR);
    s->t[0].data.at = (const unsigned char *)w;
    for (unsigned part = 0; part < 2; part++) {
        const struct apr_view v = view_of(s->part, 1, part, &parts, false);
        const struct apr_input in = apr_input_through(k, &s->m, &v, split.n + part, 1);
        apr_input_floats(&in, NULL, 0, (size_t)split.n[part], out);
        assert_int_equal(v.nvalue, part);
        for (unsigned i = 0; i < split.n[part]; i++)
            assert_true(out[i] == w[2 * part + i] + (part == 0 ? 0 : 10));
    }
    struct apr_view v = view_of(s->part, 1, 0, &padded, false);
    const struct apr_input in = apr_input_through(k, &s->m, &v, pad.n, 1);
    apr_input_floats(&in, NULL, 0, 8, out);
    for (unsigned i = 0; i < 8; i++)
        assert_true(out[i] == (i < 6 ? (float)-exp((double)w[i]) : 0));
    s->t[1] = s->t[0]; /* both parts again, whole: HuggingFace's is the sum less what was added to the second */
    s->t[0].count = s->t[0].row = s->t[0].dim[0] = 2;
    s->t[1].count = s->t[1].row = s->t[1].dim[0] = 4;
    s->t[1].data.at += 2 * sizeof *w;
    v = view_of((const struct apr_tensor *const[]){ &s->t[0], &s->t[1] }, 2, 0, &parts, true);
    const struct apr_input whole = apr_input_through(k, &s->m, &v, parts.dim, 1);
    apr_input_floats(&whole, NULL, 0, 6, out);
    for (unsigned i = 0; i < 6; i++)
        assert_true(out[i] == w[i] - (i < 2 ? 0 : 10));
    stored_free(s);
    side_free(&side);
}

static void scales_of_rows_are_exchanged_only_where_they_stand_first(void **state)
{
    (void)state;
    const struct apr_transform scale = { .op = APR_OP_SCALE, .nn = 2, .n = { 2, 4 }, .by = { 2, 3 } },
                               one = { .op = APR_OP_SCALE, .by = { 1 } };
    const struct apr_transform moves = { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 0 } };
    const struct apr_transform first[] = { scale, moves }, last[] = { moves, scale };
    const uint64_t dim[APR_MAX_DIMS] = { 6, 2 };
    struct apr_error e;
    struct apr_view b = apr_view_of(NULL, 1, 0), own = b;
    assert_int_equal(apr_view_forth(&b, first, 2, dim, 2, &e), APR_OK);
    apr_view_exchange(&b, &own);
    assert_true(b.nvalue == 0 && own.nvalue == 1 && own.value[0].forward && own.value[0].at == 0);
    b = own = apr_view_of(NULL, 1, 0);
    assert_int_equal(apr_view_forth(&b, last, 2, dim, 2, &e), APR_OK);
    apr_view_exchange(&b, &own);
    assert_true(b.nvalue == 1 && own.nvalue == 0);
    b = apr_view_of(NULL, 1, 0); /* the step must stay that the scale stands behind */
    assert_int_equal(apr_view_back(&b, last, 2, dim, 2, &e), APR_OK);
    assert_int_equal(apr_view_forth(&b, first, 2, dim, 2, &e), APR_OK);
    assert_true(b.nstep == 2 && b.nvalue == 2);
    b = apr_view_of(NULL, 1, 0);
    assert_int_equal(apr_view_back(&b, &one, 1, dim, 2, &e), APR_OK);
    assert_true(apr_view_plain(&b));
}

static void exchange_compares_as_gguf_has_the_values(void **state)
{
    (void)state;
    const struct apr_transform both[] = { plus_one, minus_exp, { .op = APR_OP_ADD, .by = { 3 } } };
    const uint64_t dim[APR_MAX_DIMS] = { 7 };
    struct apr_error e;
    struct apr_view b = apr_view_of(NULL, 1, 0), own = { 0 };
    assert_int_equal(apr_view_forth(&b, both, 3, dim, 1, &e), APR_OK); /* A is HuggingFace's, B GGUF's */
    apr_view_exchange(&b, &own);
    assert_int_equal(b.nvalue, 0);
    assert_int_equal(own.nvalue, 3);
    for (unsigned i = 0; i < 3; i++) { /* done from the last one on */
        assert_true(own.value[i].forward);
        assert_int_equal(own.value[i].op, both[2 - i].op);
        assert_true(own.value[i].by[0] == both[2 - i].by[0]);
    }
    b = apr_view_of(NULL, 1, 0);
    own = b;
    assert_int_equal(apr_view_back(&b, both, 3, dim, 1, &e), APR_OK); /* the other way round B is made GGUF's */
    apr_view_exchange(&b, &own);
    assert_int_equal(b.nvalue, 3);
    assert_int_equal(own.nvalue, 0);
    assert_int_equal(apr_view_forth(&b, both, 3, dim, 1, &e), APR_OK); /* both GGUF's: nothing to do */
    assert_int_equal(b.nvalue, 0);
}

/* ---- what does not fit -------------------------------------------------------------------------------------------- */

static void shapes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct { struct apr_transform t; uint64_t dim[3]; unsigned ndim; } rows[] = {
        { { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 3 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 4 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 1 } }, { 0 }, 0 },
        { { .op = APR_OP_TRANSPOSE }, { 4 }, 1 },                                 { { .op = APR_OP_TRANSPOSE }, { 0 }, 0 },
        { { .op = APR_OP_QKV_NEOX, .nn = 1, .n = { 0 } }, { 6, 4 }, 2 },
        { { .op = APR_OP_QKV_NEOX, .nn = 1, .n = { 4 } }, { 6, 4 }, 2 },
        { { .op = APR_OP_QKV_NEOX, .nn = 1, .n = { UINT64_MAX } }, { 6, 4 }, 2 },
        { { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { 3, 2 } }, { 7, 4 }, 2 },
        { { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { 2, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { 0, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { UINT64_MAX, 1 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_STACK, .nn = 1, .n = { 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_STACK, .nn = 1, .n = { 1ull << 62 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SPLIT_ROWS, .nn = 2, .n = { 1, 2 } }, { 4, 4 }, 2 },     { { .op = APR_OP_SPLIT_ROWS, .nn = 0 }, { 4, 4 }, 2 },
        { { .op = APR_OP_SPLIT_ROWS, .nn = 2, .n = { UINT64_MAX, 5 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SPLIT_COLS, .nn = 1, .n = { 4 } }, { 0 }, 0 },
        { { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 2, 1, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 1, 5, UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 0, 1, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 1, 2, 2 } }, { 4 }, 1 },
        { { .op = APR_OP_ROWS, .nn = 2, .n = { 3, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROWS, .nn = 2, .n = { 1, UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROWS, .nn = 2, .n = { 0, 0 } }, { 0 }, 0 },
        { { .op = APR_OP_SQUEEZE, .nn = 1, .n = { 1 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SQUEEZE, .nn = 1, .n = { 2 } }, { 4, 1 }, 2 },
        { { .op = APR_OP_UNSQUEEZE, .nn = 1, .n = { 3 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_RESHAPE, .nn = 2, .n = { 4, 5 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_RESHAPE, .nn = 2, .n = { 1ull << 32, 1ull << 32 } }, { 0 }, 1 },
        { { .op = APR_OP_ADD }, { 1ull << 32, 1ull << 32 }, 2 },
        { { .op = APR_OP_ADD, .by = { INFINITY } }, { 4 }, 1 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 0, 1, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 1, 0, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3, 0 } }, { 9, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 5 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 1ull << 63, 2, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 1, 1, 0 } }, { 0 }, 0 },
        { { .op = APR_OP_REGROUP_COLS, .nn = 3, .n = { 2, 1, 0 } }, { 4, 3 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 1, .n = { 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 2, 2, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 0, 2, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 2, 1, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 1, 5, UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_CONCAT_ROWS, .nn = 2, .n = { 1, 4 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_CONCAT_COLS, .nn = 2, .n = { 5, UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 3 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 1 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 0 }, .norder = 4 }, { 4, 4 }, 2 },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 1 }, .norder = 2 }, { 4, 4 }, 2 },
        { { .op = APR_OP_ORDER_COLS, .nn = 1, .n = { UINT64_MAX }, .norder = 2 }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .by = { 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .by = { 1e-60 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .by = { NAN } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .by = { 1e39 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .nn = 2, .n = { 1, 2 }, .by = { 1, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .nn = 2, .n = { 2, 2 }, .by = { 1, 0 } }, { 4, 4 }, 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_view v = apr_view_of(NULL, 1, 0);
        struct apr_error e = { 0 };
        uint64_t dim[APR_MAX_DIMS] = { 0 };
        unsigned ndim = rows[i].ndim;
        memcpy(dim, rows[i].dim, sizeof rows[i].dim);
        if (apr_view_forth(&v, &rows[i].t, 1, dim, ndim, &e) != APR_EARG || strstr(e.text, apr_op_word(rows[i].t.op)) == NULL)
            fail_msg("row %zu, %s: %s", i, apr_op_word(rows[i].t.op), e.text);
        assert_int_equal(apr_view_back(&v, &rows[i].t, 1, dim, ndim, &e), APR_EARG);
        assert_false(apr_transform_shape(&rows[i].t, 1, 0, dim, &ndim));
    }
}

static void long_chains_are_refused(void **state)
{
    (void)state;
    struct apr_transform t[APR_MAX_STEPS + 1], values[APR_MAX_STEPS];
    const uint64_t dim[APR_MAX_DIMS] = { 3, 3 };
    struct apr_view v = apr_view_of(NULL, 1, 0);
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(t); i++)
        t[i] = (struct apr_transform){ .op = APR_OP_TRANSPOSE };
    for (size_t i = 0; i < APR_LENGTH(values); i++)
        values[i] = plus_one;
    assert_int_equal(apr_view_forth(&v, t, APR_LENGTH(t), dim, 2, &e), APR_ELIMIT);
    assert_int_equal(apr_view_forth(&v, t, APR_MAX_STEPS, dim, 2, &e), APR_OK);
    assert_int_equal(apr_view_forth(&v, t, 1, dim, 2, &e), APR_ELIMIT);
    assert_int_equal(apr_view_forth(&v, values, APR_MAX_STEPS, dim, 2, &e), APR_OK);
    assert_int_equal(apr_view_forth(&v, &plus_one, 1, dim, 2, &e), APR_ELIMIT);
}

static void ops_have_names(void **state)
{
    (void)state;
    for (unsigned op = 0; op < APR_NOPS; op++)
        assert_int_equal(apr_op_named(apr_text(apr_op_word((enum apr_op)op))), op);
    assert_int_equal(apr_op_named(apr_text("")), APR_NOPS);
    assert_int_equal(apr_op_named(apr_text("stac")), APR_NOPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_each_transform_is_its_formula),
        cmocka_unit_test(twelve_rows_lie_as_numpy_lays_them),
        cmocka_unit_test(rows_that_stay_together_are_one_run),
        cmocka_unit_test(there_and_back_is_the_identity),
        cmocka_unit_test(chains_of_two_models_compose),
        cmocka_unit_test(inputs_follow_places_for_every_dtype),
        cmocka_unit_test(a_plain_view_gives_bytes),
        cmocka_unit_test(values_change_forwards_and_back_in_f32),
        cmocka_unit_test(rows_are_scaled_where_they_lie),
        cmocka_unit_test(a_part_alone_is_changed_and_what_is_added_is_zero),
        cmocka_unit_test(scales_of_rows_are_exchanged_only_where_they_stand_first),
        cmocka_unit_test(exchange_compares_as_gguf_has_the_values),
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
        cmocka_unit_test(long_chains_are_refused),
        cmocka_unit_test(ops_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
