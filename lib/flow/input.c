#include "flow/input.h"

#include <assert.h>
#include <string.h>

#include "base/fmath.h"
#include "files/source.h"
#include "flow/computed.h"
#include "values/dtype.h"
#include "values/packed.h"

/* ---- making --------------------------------------------------------------------------------------------------------- */

void apr_input_reshape(struct apr_input *in, const uint64_t *dim, unsigned ndim)
{
    in->ndim = ndim;
    memcpy(in->dim, dim, ndim * sizeof *dim);
    in->count = 1;
    for (unsigned i = 0; i < ndim; i++)
        in->count *= dim[i];
    in->ncol = ndim == 0 ? 1 : dim[ndim - 1];
    in->nrow = in->ncol == 0 ? 0 : in->count / in->ncol;
}

static void describe(struct apr_input *in)
{
    const struct apr_view *v = &in->view;
    in->decodable = true;
    in->whole = v->npart > 0 && v->nvalue == 0;
    for (size_t i = 0; i < v->npart; i++) {
        const struct apr_tensor *t = apr_input_part(in, i);
        in->decodable &= apr_decodable(in->k, t);
        in->wide |= t->dtype->wide;
        in->whole &= apr_is_whole(t->dtype) && t->dtype == apr_input_part(in, 0)->dtype && t->computed == NULL;
    }
    in->plain = v->npart == 1 && apr_view_plain(v) && apr_input_part(in, 0)->packed == NULL && apr_input_part(in, 0)->computed == NULL;
    in->strided = apr_view_strided(v);
}

struct apr_input apr_input_of(const struct apr_kernels *k, const struct apr_model *m, const struct apr_tensor *t)
{
    struct apr_input in = { .k = k, .m = m, .view = apr_view_of(NULL, 1, 0), .one = *t };
    struct apr_tensor *const one = &in.one;
    if (t->dtype->pair != NULL) {
        one->dtype = t->dtype->pair;
        one->count *= 2;
        one->row *= 2;
        if (one->ndim < APR_MAX_DIMS)
            one->dim[one->ndim++] = 2;
        else
            one->dim[one->ndim - 1] *= 2;
    }
    apr_input_reshape(&in, one->dim, one->ndim);
    describe(&in);
    return in;
}

struct apr_input apr_input_through(const struct apr_kernels *k, const struct apr_model *m, const struct apr_view *v, const uint64_t *dim,
                                   unsigned ndim)
{
    struct apr_input in = { .k = k, .m = m, .view = *v };
    if (v->npart == 1) {
        in.one = *v->part[0];
        in.view.part = NULL;
    }
    apr_input_reshape(&in, dim, ndim);
    describe(&in);
    return in;
}

struct apr_input *apr_input_keep(struct apr_arena **a, const struct apr_input *in)
{
    const struct apr_view *const v = &in->view;
    const size_t n = v->nvalue > 0 ? offsetof(struct apr_input, view.value) + v->nvalue * sizeof *v->value
                                   : offsetof(struct apr_input, view.step) + v->nstep * sizeof *v->step;
    struct apr_input *const kept = apr_arena_alloc(a, n);
    if (kept != NULL)
        memcpy((void *)kept, in, n);
    return kept;
}

/* ---- runs ----------------------------------------------------------------------------------------------------------- */

static void touch(const struct apr_input *in, struct apr_window *w, unsigned file, struct apr_bytes b)
{
    if (w != NULL && b.n > 0)
        apr_window_touch(w, in->m->file[file]->map, b);
}

struct apr_bytes apr_input_touch(const struct apr_input *in, struct apr_window *w, uint64_t part, uint64_t first, uint64_t n)
{
    const struct apr_tensor *t = apr_input_part(in, part);
    if (t->computed != NULL)
        return (struct apr_bytes){ NULL, 0 };
    const struct apr_bytes b = apr_element_bytes(t, first, n);
    touch(in, w, t->file, b);
    if (t->packed != NULL)
        touch(in, w, t->packed->scale.file, apr_packed_scales(t, first, n));
    return b;
}

struct apr_bytes apr_input_stored(const struct apr_input *in, struct apr_window *w, uint64_t from, size_t n)
{
    const struct apr_tensor *t = apr_input_part(in, 0);
    const uint64_t begin = apr_min(from, t->data.n), head = apr_min(t->dtype->head, t->data.n - begin);
    const struct apr_bytes b = { t->data.at + head + begin, (size_t)apr_min(n, t->data.n - begin - head) };
    touch(in, w, t->file, b);
    return b;
}

/* What elements are read as: numbers, or blocks as they are stored. */
enum as { FLOATS, DOUBLES, BLOCKS };

/* What is computed is floats, or doubles where the dtype is wide. */
static void compute(const struct apr_tensor *t, struct apr_window *w, uint64_t first, size_t n, enum as as, void *out)
{
    float narrow[APR_STRETCH];
    const bool widened = as == DOUBLES && !t->dtype->wide;
    assert(as != BLOCKS);
    t->computed->values(t->computed, w, first, n, widened ? narrow : out);
    for (size_t i = 0; widened && i < n; i++)
        ((double *)out)[i] = narrow[i];
}

/* n elements of a part, side by side. */
static void read_run(const struct apr_input *in, struct apr_window *w, uint64_t part, uint64_t first, size_t n, enum as as, void *out)
{
    const struct apr_tensor *t = apr_input_part(in, part);
    apr_input_touch(in, w, part, first, n);
    if (t->computed != NULL)
        compute(t, w, first, n, as, out);
    else if (as == FLOATS)
        apr_read_floats(in->k, t, first, n, out);
    else if (as == DOUBLES)
        apr_read_doubles(in->k, t, first, n, out);
    else
        apr_read_blocks(t, first, n, out);
}

static size_t width_of(const struct apr_input *in, enum as as)
{
    return as == FLOATS ? sizeof(float) : as == DOUBLES ? sizeof(double) : apr_input_part(in, 0)->dtype->bytes;
}

/* Elements [first, first + n) into out, `width` bytes each, those that no part has as zeros. */
static void read_stored(const struct apr_input *in, struct apr_window *w, uint64_t first, size_t n, enum as as, void *out)
{
    const size_t width = width_of(in, as);
    unsigned char *to = out;
    for (size_t now; n > 0; first += now, n -= now, to += now * width) {
        const struct apr_place p = apr_view_place(&in->view, first);
        now = (size_t)apr_min(p.run, n);
        if (p.part == in->view.npart)
            memset(to, 0, now * width);
        else if (p.stride == 1)
            read_run(in, w, p.part, p.index, now, as, to);
        else
            for (size_t i = 0; i < now; i++)
                read_run(in, w, p.part, p.index + i * p.stride, 1, as, to + i * width);
    }
}

/* The float that an F16 would keep. */
static float through_half(const struct apr_kernels *k, float x)
{
    unsigned char code[2];
    k->encode[APR_F16](&x, 1, code);
    k->decode[APR_F16](code, code, 1, &x);
    return x;
}

/* In f32, as converters do. */
static float changed(const struct apr_changed *c, float x)
{
    const float by = (float)c->by;
    if (c->op == APR_OP_ADD)
        return c->forward ? x + by : x - by;
    if (c->op == APR_OP_SCALE)
        return c->forward ? x * by : x / by;
    return c->forward ? -apr_exp_float(x) : (float)apr_log(-x);
}

/* Elements [first, first + n), from the stored side on: places were sought the other way round, so the last change comes first. */
#define CHANGE(name, type)                                                                                                 \
    static void name(const struct apr_input *in, uint64_t first, size_t n, type *x)                                        \
    {                                                                                                                      \
        for (unsigned i = in->view.nvalue; i-- > 0;)                                                                       \
            for (size_t k = 0, now; k < n; k += now) {                                                                     \
                const struct apr_changed c = apr_view_change(&in->view, i, first + k);                                     \
                now = (size_t)apr_min(c.run, n - k);                                                                       \
                for (size_t j = k; !c.none && j < k + now; j++)                                                            \
                    x[j] = in->half ? through_half(in->k, changed(&c, (float)x[j])) : changed(&c, (float)x[j]);            \
            }                                                                                                              \
    }
CHANGE(change_floats, float)
CHANGE(change_doubles, double)

static void change_none(const struct apr_input *in, uint64_t first, size_t n, uint64_t *x) { (void)in, (void)first, (void)n, (void)x; }

void apr_input_floats(const struct apr_input *in, struct apr_window *w, uint64_t first, size_t n, float *out)
{
    read_stored(in, w, first, n, FLOATS, out);
    change_floats(in, first, n, out);
}

void apr_input_doubles(const struct apr_input *in, struct apr_window *w, uint64_t first, size_t n, double *out)
{
    read_stored(in, w, first, n, DOUBLES, out);
    change_doubles(in, first, n, out);
}

void apr_input_all_floats(const struct apr_input *in, struct apr_window *w, uint64_t first, uint64_t n, float *out)
{
    double wide[APR_STRETCH];
    for (uint64_t now; n > 0; first += now, out += now, n -= now) {
        now = apr_min(n, APR_STRETCH);
        if (!in->wide) {
            apr_input_floats(in, w, first, (size_t)now, out);
            continue;
        }
        apr_input_doubles(in, w, first, (size_t)now, wide);
        for (size_t i = 0; i < now; i++)
            out[i] = (float)wide[i];
    }
}

void apr_input_whole(const struct apr_input *in, struct apr_window *w, uint64_t first, size_t n, uint64_t *out)
{
    assert(in->whole);
    read_stored(in, w, first, n, BLOCKS, out);
}

/* ---- blocks --------------------------------------------------------------------------------------------------------- */

/* Do elements [first, first + n) of a part fill whole blocks? The last one of a row may be padded. */
static bool fills_blocks(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    const uint64_t block = t->dtype->block, from = first % t->row, to = (first + n - 1) % t->row + 1;
    return from % block == 0 && (to % block == 0 || to == t->row);
}

/* Do blocks of zeros hold zeros? Not where they are exponents. */
static bool zeros_are_zero(const struct apr_input *in, const struct apr_tensor *t)
{
    static const unsigned char none[512];
    const enum apr_dtype_id id = apr_dtype_id(t->dtype);
    float value[256];
    if (t->dtype->block == 1 && t->dtype->wide)
        return true;
    if (in->k->decode[id] == NULL || t->dtype->bytes > sizeof none || t->dtype->block > APR_LENGTH(value))
        return false;
    in->k->decode[id](none, none, t->dtype->block, value);
    bool zero = true;
    for (size_t i = 0; i < t->dtype->block; i++)
        zero &= value[i] == 0;
    return zero;
}

/* One run of a view as blocks; *out moves on. */
static bool put_blocks(const struct apr_input *in, struct apr_window *w, const struct apr_place *p, uint64_t n, unsigned char **out)
{
    const struct apr_dtype *d = apr_input_part(in, 0)->dtype;
    const struct apr_tensor *t = p->part == in->view.npart ? NULL : apr_input_part(in, p->part);
    if (t == NULL) {
        const uint64_t bytes = n / d->block * d->bytes;
        memset(*out, 0, (size_t)bytes);
        *out += bytes;
        return n % d->block == 0 && zeros_are_zero(in, apr_input_part(in, 0));
    }
    if (t->dtype != d || t->computed != NULL || !apr_packed_has_blocks(t) || (p->stride == 1 || n == 1 ? !fills_blocks(t, p->index, n) : d->block > 1))
        return false;
    if (p->stride == 1) {
        read_run(in, w, p->part, p->index, (size_t)n, BLOCKS, *out);
        *out += apr_blocks_bytes(t, p->index, n);
        return true;
    }
    for (uint64_t i = 0; i < n; i++, *out += d->bytes)
        read_run(in, w, p->part, p->index + i * p->stride, 1, BLOCKS, *out);
    return true;
}

bool apr_input_blocks(const struct apr_input *in, struct apr_window *w, uint64_t first, uint64_t n, void *out)
{
    unsigned char *to = out;
    if (in->view.nvalue > 0 || in->view.npart == 0 || (in->view.npart > 1 && apr_input_part(in, 0)->dtype->head > 0))
        return false;
    for (uint64_t now; n > 0; first += now, n -= now) {
        const struct apr_place p = apr_view_place(&in->view, first);
        now = apr_min(p.run, n);
        if (!put_blocks(in, w, &p, now, &to))
            return false;
    }
    return true;
}

/* ---- tiles ---------------------------------------------------------------------------------------------------------- */

/* Rows from the i-th on whose places at column col lie side by side, as those of a transposed matrix do. */
static size_t side_by_side(const struct apr_input *in, uint64_t row, size_t h, uint64_t col, size_t wide, const struct apr_place *first)
{
    size_t n = 1;
    for (; n < h; n++) {
        const struct apr_place p = apr_view_place(&in->view, (row + n) * in->ncol + col);
        if (p.part != first->part || p.stride != first->stride || p.index != first->index + n || p.run < wide)
            break;
    }
    return n;
}

#define COLUMNS 16u /* read at a time, so that each line of a tile is written once */

/* n rows by `wide` columns from p on, whose columns are runs: read 16 columns, then written row by row. */
#define SCATTER(name, type, as)                                                                                            \
    static void name(const struct apr_input *in, struct apr_window *w, const struct apr_place *p, size_t n, size_t wide,   \
                     type *out)                                                                                            \
    {                                                                                                                      \
        type column[COLUMNS][APR_TILE];                                                                                    \
        for (size_t j = 0; j < wide; j += COLUMNS) {                                                                       \
            const size_t now = wide - j < COLUMNS ? wide - j : COLUMNS;                                                    \
            for (size_t k = 0; k < now; k++)                                                                               \
                read_run(in, w, p->part, p->index + (j + k) * p->stride, n, as, column[k]);                                \
            for (size_t i = 0; i < n; i++)                                                                                 \
                for (size_t k = 0; k < now; k++)                                                                           \
                    out[i * wide + j + k] = column[k][i];                                                                  \
        }                                                                                                                  \
    }
SCATTER(scatter_floats, float, FLOATS)
SCATTER(scatter_doubles, double, DOUBLES)
SCATTER(scatter_whole, uint64_t, BLOCKS)

#define READ_TILE(name, type, read_row, scatter, change)                                                                           \
    void name(const struct apr_input *in, struct apr_window *w, uint64_t row, size_t h, uint64_t col, size_t wide,         \
              type *out)                                                                                                   \
    {                                                                                                                      \
        for (size_t i = 0, n; i < h; i += n) {                                                                             \
            const struct apr_place p = apr_view_place(&in->view, (row + i) * in->ncol + col);                              \
            n = 1;                                                                                                         \
            if (p.stride == 1 || p.run < wide || p.part == in->view.npart) {                                               \
                read_row(in, w, (row + i) * in->ncol + col, wide, out + i * wide);                                         \
            } else {                                                                                                       \
                n = side_by_side(in, row + i, h - i, col, wide, &p);                                                       \
                scatter(in, w, &p, n, wide, out + i * wide);                                                               \
                for (size_t r = i; in->view.nvalue > 0 && r < i + n; r++)                                                  \
                    change(in, (row + r) * in->ncol + col, wide, out + r * wide);                                          \
            }                                                                                                              \
        }                                                                                                                  \
    }

READ_TILE(apr_input_tile_floats, float, apr_input_floats, scatter_floats, change_floats)
READ_TILE(apr_input_tile_doubles, double, apr_input_doubles, scatter_doubles, change_doubles)
READ_TILE(apr_input_tile_whole, uint64_t, apr_input_whole, scatter_whole, change_none)

/* As SCATTER, bit for bit. */
#define SCATTER_BITS(name, type)                                                                                           \
    static void name(const struct apr_input *in, struct apr_window *w, const struct apr_place *p, size_t n, size_t wide,   \
                     type *out)                                                                                            \
    {                                                                                                                      \
        type column[COLUMNS][APR_TILE];                                                                                    \
        for (size_t j = 0; j < wide; j += COLUMNS) {                                                                       \
            const size_t now = wide - j < COLUMNS ? wide - j : COLUMNS;                                                    \
            for (size_t k = 0; k < now; k++)                                                                               \
                read_run(in, w, p->part, p->index + (j + k) * p->stride, n, BLOCKS, column[k]);                            \
            for (size_t i = 0; i < n; i++)                                                                                 \
                for (size_t k = 0; k < now; k++)                                                                           \
                    out[i * wide + j + k] = column[k][i];                                                                  \
        }                                                                                                                  \
    }
SCATTER_BITS(scatter_1, uint8_t)
SCATTER_BITS(scatter_2, uint16_t)
SCATTER_BITS(scatter_4, uint32_t)
SCATTER_BITS(scatter_8, uint64_t)

static void scatter_blocks(const struct apr_input *in, struct apr_window *w, const struct apr_place *p, size_t n, size_t wide, void *out)
{
    switch (apr_input_part(in, 0)->dtype->bytes) {
    case 1:  scatter_1(in, w, p, n, wide, out); break;
    case 2:  scatter_2(in, w, p, n, wide, out); break;
    case 4:  scatter_4(in, w, p, n, wide, out); break;
    default: scatter_8(in, w, p, n, wide, out);
    }
}

/* Elements of the width of one integer, of one dtype in all parts. */
static bool are_words(const struct apr_input *in)
{
    const struct apr_dtype *const d = apr_input_part(in, 0)->dtype;
    bool same = d->block == 1 && !d->packed && d->head == 0 && (d->bytes == 1 || d->bytes == 2 || d->bytes == 4 || d->bytes == 8);
    for (size_t i = 1; i < in->view.npart; i++)
        same &= apr_input_part(in, i)->dtype == d;
    for (size_t i = 0; i < in->view.npart; i++)
        same &= apr_input_part(in, i)->computed == NULL;
    return same;
}

bool apr_input_tile_blocks(const struct apr_input *in, struct apr_window *w, uint64_t row, size_t h, uint64_t col, size_t wide, void *out)
{
    if (in->view.nvalue > 0 || in->view.npart == 0 || !are_words(in))
        return false;
    const size_t line = wide * apr_input_part(in, 0)->dtype->bytes;
    for (size_t i = 0, n; i < h; i += n) {
        unsigned char *const to = (unsigned char *)out + i * line;
        const struct apr_place p = apr_view_place(&in->view, (row + i) * in->ncol + col);
        n = 1;
        if (p.stride != 1 && p.run >= wide && p.part != in->view.npart) {
            n = side_by_side(in, row + i, h - i, col, wide, &p);
            scatter_blocks(in, w, &p, n, wide, to);
        } else if (!apr_input_blocks(in, w, (row + i) * in->ncol + col, wide, to)) {
            return false;
        }
    }
    return true;
}
