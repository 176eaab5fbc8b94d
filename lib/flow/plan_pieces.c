#include "flow/plan_pieces.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "values/dtype.h"

bool apr_is_verbatim(const struct apr_planned *t)
{
    return t->how == APR_COPY && t->in->plain && !t->in->one.swapped && t->in->one.data.n == t->bytes;
}

/* ---- segments ------------------------------------------------------------------------------------------------------- */

#define MOST_PADDING 4096u /* of a piece; an alignment may be larger */

/* Where the tensor that follows begins, or the data ends. */
static uint64_t next_of(const struct apr_plan *p, const struct apr_planned_file *f, size_t tensor)
{
    return f->header.n + (tensor + 1 == f->first + f->n ? f->data : p->tensor[tensor + 1].at);
}

/* Where its segment ends: what is between belongs to it, unless it is a segment of its own. */
static uint64_t end_of(const struct apr_plan *p, const struct apr_planned_file *f, size_t tensor)
{
    const uint64_t end = f->header.n + p->tensor[tensor].at + p->tensor[tensor].bytes, next = next_of(p, f, tensor);
    return next - end < MOST_PADDING ? next : end;
}

/* Its pieces are made one by one, and each is measured. */
static bool stands_alone(const struct apr_planned *t)
{
    return t->bytes > APR_PIECE / 2 || t->lossy || ((t->how == APR_ENCODE || t->how == APR_GENERATE) && apr_is_quantized(t->dtype));
}

/* Elements of a piece: whole rows, and whole blocks, or blocks where rows are longer. */
static uint64_t step_of(const struct apr_planned *t)
{
    const uint64_t block = t->dtype->block, row = t->ndim == 0 ? 1 : t->dim[t->ndim - 1];
    const uint64_t blocks = (APR_PIECE - MOST_PADDING) / t->dtype->bytes - 1; /* and room for a head */
    const uint64_t row_blocks = row / block + (row % block != 0);
    const bool whole = row % block == 0 || t->row == row;
    if (whole && row_blocks > 0 && row_blocks <= blocks)
        return blocks / row_blocks * row;
    return blocks * block;
}

/* Do blocks with importance depend on all of their row? */
static bool by_row(const struct apr_planned *t)
{
    const enum apr_dtype_id id = apr_dtype_id(t->dtype);
    return t->importance != NULL && t->how == APR_ENCODE && (id == APR_Q4_0 || id == APR_Q4_1 || id == APR_Q5_0 || id == APR_Q5_1);
}

/* A piece is whole rows of those that are padded, a batch of those that are looked at whole. */
static bool too_long(const struct apr_planned *t)
{
    if (by_row(t) && t->dim[t->ndim - 1] > APR_BATCH)
        return true;
    return t->row != t->count && !apr_is_verbatim(t) && (t->row / t->dtype->block + 1) * t->dtype->bytes > APR_PIECE - MOST_PADDING;
}

static enum apr_code add(struct apr_segments *s, const struct apr_segment *one, struct apr_error *e)
{
    struct apr_segment *const grown = apr_grown(s->at, &s->room, s->n, 64, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    s->at = grown;
    s->at[s->n] = *one;
    s->at[s->n++].base = s->npiece;
    s->npiece += one->npiece;
    return APR_OK;
}

static uint64_t pieces_between(uint64_t begin, uint64_t end) { return begin == end ? 0 : (end - 1) / APR_PIECE - begin / APR_PIECE + 1; }

/* The segment that begins with a tensor. */
static struct apr_segment segment_at(const struct apr_plan *p, size_t file, size_t first)
{
    const struct apr_planned_file *const f = &p->file[file];
    const struct apr_planned *const t = &p->tensor[first];
    struct apr_segment s = { .file = file, .first = first, .n = 1, .begin = f->header.n + t->at, .end = end_of(p, f, first), .npiece = 1 };
    if (stands_alone(t)) {
        if (apr_is_verbatim(t)) {
            s.npiece = pieces_between(s.begin, s.end);
        } else {
            s.step = step_of(t);
            s.npiece = t->count == 0 ? s.end > s.begin : (t->count - 1) / s.step + 1;
        }
        return s;
    }
    for (size_t next = first + 1; next < f->first + f->n && !stands_alone(&p->tensor[next]); next++) {
        if (s.end != f->header.n + p->tensor[next].at || end_of(p, f, next) - s.begin > APR_PIECE)
            break;
        s.end = end_of(p, f, next);
        s.n++;
    }
    s.npiece = s.end > s.begin;
    return s;
}

static enum apr_code add_file(struct apr_segments *s, const struct apr_plan *p, size_t file, struct apr_error *e)
{
    const struct apr_planned_file *const f = &p->file[file];
    const struct apr_segment header = { .file = file, .first = f->first, .end = f->header.n, .npiece = pieces_between(0, f->header.n) };
    APR_TRY(add(s, &header, e));
    for (size_t i = f->first; i < f->first + f->n;) {
        const struct apr_segment next = segment_at(p, file, i);
        if (too_long(&p->tensor[i]))
            return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, p->tensor[i].name, ": its rows are longer than is written%s", by_row(&p->tensor[i]) ? " with importance" : ", padded");
        APR_TRY(add(s, &next, e));
        i += next.n;
        const uint64_t end = next_of(p, f, i - 1);
        const struct apr_segment padding = { .file = file, .first = i - 1, .begin = next.end, .end = end,
                                             .npiece = pieces_between(next.end, end) };
        if (padding.npiece > 0)
            APR_TRY(add(s, &padding, e));
    }
    return APR_OK;
}

enum apr_code apr_segments_of(struct apr_segments *s, const struct apr_plan *p, struct apr_error *e)
{
    *s = (struct apr_segments){ 0 };
    for (size_t i = 0; i < p->nfile; i++)
        if (p->only == 0 || p->only == i + 1)
            APR_TRY(add_file(s, p, i, e));
    return APR_OK;
}

/* ---- places in a tensor --------------------------------------------------------------------------------------------- */

/* Where the block begins that holds an element, which is the first of a block; count: where the data ends. */
static uint64_t bytes_before(const struct apr_planned *t, uint64_t element)
{
    const uint64_t block = t->dtype->block, per_row = t->row / block + (t->row % block != 0);
    if (element == t->count)
        return t->bytes;
    const uint64_t row = element / t->row, within = element % t->row;
    return t->dtype->head + (row * per_row + within / block) * t->dtype->bytes;
}

void apr_piece_range(const struct apr_plan *p, const struct apr_segment *s, uint64_t i, uint64_t *from, uint64_t *to)
{
    const struct apr_planned *const t = &p->tensor[s->first];
    const bool last = i + 1 == s->npiece;
    if (s->step == 0) {
        const uint64_t number = s->npiece == 1 ? 0 : s->begin / APR_PIECE + i;
        *from = i == 0 ? s->begin : number * APR_PIECE;
        *to = last ? s->end : (number + 1) * APR_PIECE;
    } else {
        *from = s->begin + (i == 0 ? 0 : bytes_before(t, i * s->step));
        *to = last ? s->end : s->begin + bytes_before(t, (i + 1) * s->step);
    }
}

/* ---- blocks --------------------------------------------------------------------------------------------------------- */

static enum apr_code no_blocks(const struct apr_planned *t, struct apr_error *e)
{
    return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name,
                           ": its %s blocks cannot be put in that order as they are; --type converts it",
                           t->dtype->name);
}

static enum apr_code copy_range(const struct apr_planned *t, struct apr_maker *m, uint64_t from, uint64_t n, unsigned char *out)
{
    const struct apr_bytes b = { t->in->one.data.at + from, (size_t)n };
    if (n == 0)
        return APR_OK;
    apr_window_touch(&m->window, t->in->m->file[t->in->one.file]->map, b);
    memcpy(out, b.at, b.n);
    return APR_OK;
}

/* Rows that lie along columns of what is stored, in tiles of which each row is moved to its place. first and n are whole rows. */
static bool transpose(const struct apr_planned *t, struct apr_maker *m, uint64_t first, uint64_t n, unsigned char *out)
{
    const struct apr_input *const in = t->in;
    const size_t width = t->dtype->bytes, panel = APR_STRETCH * sizeof(double) / width / APR_TILE;
    unsigned char *const tile = (unsigned char *)m->wide_line;
    for (uint64_t row = 0; row < n / in->ncol; row += APR_TILE) {
        const size_t h = (size_t)apr_min(APR_TILE, n / in->ncol - row);
        for (uint64_t col = 0; col < in->ncol; col += panel) {
            const size_t wide = (size_t)apr_min(panel, in->ncol - col);
            if (!apr_input_tile_blocks(in, &m->window, first / in->ncol + row, h, col, wide, tile))
                return false;
            for (size_t i = 0; i < h; i++)
                memcpy(out + ((row + i) * in->ncol + col) * width, tile + i * wide * width, wide * width);
        }
    }
    return true;
}

static enum apr_code move_blocks(const struct apr_planned *t, struct apr_maker *m, uint64_t first, uint64_t n, unsigned char *out,
                                 struct apr_error *e)
{
    const struct apr_input *const in = t->in;
    const bool words = t->dtype->block == 1 && t->dtype->head == 0 && t->dtype->bytes <= sizeof(double);
    if (in->strided && words && in->ncol > 0 && first % in->ncol == 0 && n % in->ncol == 0)
        return transpose(t, m, first, n, out) ? APR_OK : no_blocks(t, e);
    if (first == 0 && t->dtype->head > 0) {
        if (in->view.npart != 1)
            return no_blocks(t, e);
        memcpy(out, apr_input_part(in, 0)->data.at, t->dtype->head);
        out += t->dtype->head;
    }
    return apr_input_blocks(in, &m->window, first, n, out) ? APR_OK : no_blocks(t, e);
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* As doubles; for what holds no more than floats do, as floats. */
static bool is_wide(const struct apr_planned *t)
{
    return t->how == APR_GENERATE ? t->wide != NULL : t->how == APR_ENCODE && t->in->wide;
}

/* Whole rows of an input that is read by tiles. */
static void read_rows(const struct apr_input *in, bool wide, struct apr_maker *m, uint64_t first, uint64_t n)
{
    const size_t panel = APR_STRETCH / APR_TILE;
    for (uint64_t row = 0; row < n / in->ncol; row += APR_TILE) {
        const size_t h = (size_t)apr_min(APR_TILE, n / in->ncol - row);
        for (uint64_t col = 0; col < in->ncol; col += panel) {
            const size_t now = (size_t)apr_min(panel, in->ncol - col);
            if (wide)
                apr_input_tile_doubles(in, &m->window, first / in->ncol + row, h, col, now, m->wide_line);
            else
                apr_input_tile_floats(in, &m->window, first / in->ncol + row, h, col, now, m->line);
            for (size_t i = 0; i < h; i++) {
                const uint64_t to = (row + i) * in->ncol + col;
                if (wide)
                    memcpy(m->wide + to, m->wide_line + i * now, now * sizeof *m->wide);
                else
                    memcpy(m->x + to, m->line + i * now, now * sizeof *m->x);
            }
        }
    }
}

/* Elements [first, first + n), at most APR_BATCH, into m->x, or into m->wide as doubles. */
static void read_input(const struct apr_input *in, bool wide, struct apr_maker *m, uint64_t first, uint64_t n)
{
    if (in->strided && first % in->ncol == 0 && n % in->ncol == 0) {
        read_rows(in, wide, m, first, n);
        return;
    }
    for (uint64_t i = 0; i < n; i += APR_STRETCH) {
        const size_t now = (size_t)apr_min(APR_STRETCH, n - i);
        if (wide)
            apr_input_doubles(in, &m->window, first + i, now, m->wide + i);
        else
            apr_input_floats(in, &m->window, first + i, now, m->x + i);
    }
}

/* The same of a tensor: into m->x, those of a wide input into m->wide as well. */
static void read_values(const struct apr_planned *t, struct apr_maker *m, uint64_t first, uint64_t n)
{
    if (t->how == APR_GENERATE && t->wide != NULL)
        memcpy(m->wide, t->wide + first, n * sizeof *m->wide);
    else if (t->how == APR_GENERATE)
        memcpy(m->x, t->values + first, n * sizeof *m->x);
    else
        read_input(t->in, is_wide(t), m, first, n);
    for (uint64_t i = 0; is_wide(t) && i < n; i++)
        m->x[i] = (float)m->wide[i];
}

/* What is written is measured against other values than those that it is made of. */
static void read_others(const struct apr_planned *t, struct apr_maker *m, uint64_t first, uint64_t n)
{
    const bool wide = is_wide(t) || t->against->wide;
    read_input(t->against, wide, m, first, n);
    for (uint64_t i = 0; wide && i < n; i++)
        m->x[i] = (float)m->wide[i];
}

static bool is_finite(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits & 0x7F800000u) != 0x7F800000u;
}

static float magnitude(float x) { return x < 0 ? -x : x; }

static bool is_finite_wide(double x) { return x - x == 0; }

/* A value that would come back infinite. */
static enum apr_code too_large(const struct apr_planned *t, const struct apr_maker *m, uint64_t first, uint64_t i, struct apr_error *e)
{
    const uint64_t ncol = t->ndim == 0 ? 1 : t->dim[t->ndim - 1];
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, ": row %llu, column %llu is too large for %s; %s",
                           (unsigned long long)((first + i) / ncol), (unsigned long long)((first + i) % ncol), t->dtype->name,
                           is_finite(m->x[i]) ? "--type bf16 and f32 hold it" : "without --type it stays what it is");
}

/* What the dtype cannot hold: refused or, of what is no number, 0 from here on. */
static enum apr_code check_finite(const struct apr_plan *p, const struct apr_planned *t, struct apr_maker *m, uint64_t first, uint64_t n,
                                  struct apr_rounding *r, struct apr_error *e)
{
    const uint64_t ncol = t->ndim == 0 ? 1 : t->dim[t->ndim - 1];
    const float most = apr_largest_held(t->dtype);
    for (uint64_t i = 0; i < n; i++) {
        if (magnitude(m->x[i]) <= most)
            continue;
        if (is_finite(m->x[i]))
            return too_large(t, m, first, i, e);
        if (is_wide(t) && is_finite_wide(m->wide[i]))
            return too_large(t, m, first, i, e);
        if (!apr_is_quantized(t->dtype))
            continue;
        if (!p->nan_to_zero)
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name,
                                   ": row %llu, column %llu is %s, which %s cannot hold; --nan-to-zero writes 0",
                                   (unsigned long long)((first + i) / ncol), (unsigned long long)((first + i) % ncol),
                                   m->x[i] != m->x[i] ? "NaN" : m->x[i] > 0 ? "infinite" : "minus infinity", t->dtype->name);
        m->x[i] = 0;
        m->wide[i] = 0;
        r->nan++;
    }
    return APR_OK;
}

/* ---- encoding ------------------------------------------------------------------------------------------------------- */

/* How many elements of a row, or of what is flat, are left from element i of a batch on. */
static size_t left_of_row(const struct apr_planned *t, uint64_t first, uint64_t i, uint64_t n)
{
    return (size_t)apr_min(n - i, t->row - (first + i) % t->row);
}

/* The reference's: one scale for all, halves away from zero. */
static void encode_q8(const float *x, size_t n, float scale, unsigned char *out)
{
    for (size_t i = 0; i < n; i++) {
        const float q = x[i] / scale, whole = (float)(int)q, rest = q - whole;
        const int code = (int)whole + (rest >= 0.5f) - (rest <= -0.5f);
        out[i] = (unsigned char)(code > 127 ? 127 : code < -127 ? -127 : code);
    }
}

/* Rows, or a run of one row, from element `first` on, with the importance of its columns: a run where the tensor's rows are longer than
 * a batch. */
static void encode_weighted(const struct apr_kernels *k, const struct apr_planned *t, const float *x, uint64_t first, uint64_t n,
                            unsigned char *out)
{
    const struct apr_dtype *const d = t->dtype;
    const uint64_t ncol = t->dim[t->ndim - 1], nrow = t->ndim < 3 ? t->count / ncol : t->dim[t->ndim - 2];
    for (uint64_t now; n > 0; n -= now, first += now, x += now) {
        const uint64_t row = first / ncol, matrix = row / nrow, col = first % ncol;
        const uint64_t rows = apr_min(n / ncol, nrow - row % nrow);
        now = rows > 0 && col == 0 ? rows * ncol : apr_min(n, ncol - col);
        k->encode_weighted[d - apr_dtypes](x, now > ncol ? now / ncol : 1, now > ncol ? ncol : now, t->importance + matrix * ncol + col, out);
        out += now / d->block * d->bytes;
    }
}

static void encode_row(const struct apr_kernels *k, const struct apr_planned *t, const float *x, size_t n, unsigned char *out)
{
    const struct apr_dtype *const d = t->dtype;
    apr_encode_fn *const encode = k->encode[d - apr_dtypes];
    const size_t rest = n % d->block, whole = n - rest;
    float block[APR_MOST_ELEMENTS] = { 0 };
    encode(x, whole, out);
    if (rest == 0)
        return;
    memcpy(block, x + whole, rest * sizeof *block);
    encode(block, d->block, out + whole / d->block * d->bytes);
}

/* Elements [i, i + n) of a batch were finite. In a block whose scale is not, all are lost: its largest is to blame. */
static enum apr_code check_scales(const struct apr_kernels *k, const struct apr_planned *t, const struct apr_maker *m, uint64_t first,
                                  uint64_t i, uint64_t n, const unsigned char *blocks, struct apr_error *e)
{
    const struct apr_dtype *const d = t->dtype;
    for (const uint64_t end = i + n; i < end; i += d->block, blocks += d->bytes) {
        uint64_t largest = i;
        if (apr_bad_scale(k, d, blocks) == NULL)
            continue;
        for (uint64_t j = i; j < apr_min(end, i + d->block); j++)
            if (magnitude(m->x[j]) > magnitude(m->x[largest]))
                largest = j;
        return too_large(t, m, first, largest, e);
    }
    return APR_OK;
}

static enum apr_code encode(const struct apr_kernels *k, const struct apr_planned *t, const struct apr_maker *m, uint64_t first,
                            uint64_t n, float scale, unsigned char *out, struct apr_error *e)
{
    const struct apr_dtype *const d = t->dtype;
    if (d->head > 0) {
        encode_q8(m->x, (size_t)n, scale, out);
        return APR_OK;
    }
    if (d == &apr_dtypes[APR_F64]) {
        for (uint64_t i = 0; i < n; i++)
            memcpy(out + i * sizeof(double), is_wide(t) ? &m->wide[i] : &(double){ m->x[i] }, sizeof(double));
        return APR_OK;
    }
    const bool weighted = t->importance != NULL && k->encode_weighted[d - apr_dtypes] != NULL;
    if (k->encode[d - apr_dtypes] == NULL && !weighted)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name, ": nothing is encoded as %s", d->name);
    for (uint64_t i = 0, now; i < n; i += now) {
        now = left_of_row(t, first, i, n);
        if (weighted)
            encode_weighted(k, t, m->x + i, first + i, now, out);
        else
            encode_row(k, t, m->x + i, (size_t)now, out);
        if (apr_is_quantized(d))
            APR_TRY(check_scales(k, t, m, first, i, now, out, e));
        out += (now / d->block + (now % d->block != 0)) * d->bytes;
    }
    return APR_OK;
}

/* Elements [i, i + n) of a batch, n <= APR_STRETCH, as they will be read: a batch begins with a row, or lies in one. */
static void decode(const struct apr_kernels *k, const struct apr_planned *t, uint64_t batch, const unsigned char *out, uint64_t i,
                   size_t n, float scale, struct apr_maker *m)
{
    const struct apr_tensor made = { .dtype = t->dtype, .count = batch, .row = t->row < batch ? t->row : batch, .data = { out, SIZE_MAX } };
    if (t->dtype->head > 0)
        for (size_t j = 0; j < n; j++)
            m->line[j] = (float)(int8_t)out[i + j] * scale;
    else if (is_wide(t) || t->dtype->wide)
        apr_read_doubles(k, &made, i, n, m->wide_line);
    else
        apr_read_floats(k, &made, i, n, m->line);
    if (t->dtype->wide && !is_wide(t))
        for (size_t j = 0; j < n; j++)
            m->line[j] = (float)m->wide_line[j];
    if (t->dtype->head > 0 && is_wide(t))
        for (size_t j = 0; j < n; j++)
            m->wide_line[j] = (double)m->line[j];
}

static void measure(const struct apr_kernels *k, const struct apr_planned *t, struct apr_maker *m, uint64_t n, const unsigned char *out,
                    float scale, struct apr_rounding *r)
{
    struct apr_difference d = { 0 };
    for (uint64_t i = 0; i < n; i += APR_STRETCH) {
        const size_t now = (size_t)apr_min(APR_STRETCH, n - i);
        decode(k, t, n, out, i, now, scale, m);
        if (is_wide(t))
            k->difference_wide(m->wide + i, m->wide_line, now, i, &d);
        else
            k->difference(m->x + i, m->line, now, i, &d);
    }
    r->ab += apr_fold(d.ab);
    r->aa += apr_fold(d.aa);
    r->bb += apr_fold(d.bb);
    r->dd += apr_fold(d.dd);
    r->max = d.max > r->max ? d.max : r->max;
    r->n += n - d.nonfinite;
    r->overflowed += d.nonfinite;
}

/* Elements of a batch: whole rows where they are read by tiles or padded. */
static uint64_t batch_of(const struct apr_planned *t)
{
    const uint64_t row = t->ndim == 0 ? 1 : t->dim[t->ndim - 1];
    return row > 0 && row <= APR_BATCH ? APR_BATCH / row * row : APR_BATCH;
}

/* Rows that are no whole blocks do not part a flat tensor: then batches are blocks. */
static uint64_t next_batch(const struct apr_planned *t, uint64_t first, uint64_t end)
{
    const uint64_t block = t->dtype->block, batch = batch_of(t);
    const uint64_t n = t->row == t->count && batch % block != 0 ? APR_BATCH : batch;
    return apr_min(n, t->row == t->count ? end - first : apr_min(end - first, t->row < n ? n : t->row - first % t->row));
}

static enum apr_code encode_range(const struct apr_plan *p, const struct apr_kernels *k, const struct apr_planned *t, uint64_t first,
                                  uint64_t end, float scale, struct apr_maker *m, unsigned char *out, struct apr_rounding *r,
                                  struct apr_error *e)
{
    const bool values = t->how == APR_GENERATE || t->in->decodable;
    if (!values)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name, ": its values cannot be read");
    if (first == 0 && t->dtype->head > 0) {
        memcpy(out, &scale, sizeof scale);
        out += t->dtype->head;
    }
    const uint64_t origin = bytes_before(t, first);
    for (uint64_t n; first < end; first += n) {
        n = next_batch(t, first, end);
        unsigned char *const to = out + (bytes_before(t, first) - origin);
        read_values(t, m, first, n);
        if (apr_is_quantized(t->dtype) || (is_wide(t) && t->dtype == &apr_dtypes[APR_F32]))
            APR_TRY(check_finite(p, t, m, first, n, r, e));
        APR_TRY(encode(k, t, m, first, n, scale, to, e));
        if (t->lossy && t->against != NULL)
            read_others(t, m, first, n);
        if (t->lossy)
            measure(k, t, m, n, to, scale, r);
    }
    return APR_OK;
}

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

/* Elements [first, end) of a tensor. */
static enum apr_code make_elements(const struct apr_plan *p, const struct apr_kernels *k, size_t tensor, uint64_t first, uint64_t end,
                                   const float *scale, struct apr_maker *m, unsigned char *out, struct apr_rounding *r,
                                   struct apr_error *e)
{
    const struct apr_planned *const t = &p->tensor[tensor];
    if (first == end)
        return APR_OK;
    if (t->how == APR_COPY || t->how == APR_BLOCKS)
        return move_blocks(t, m, first, end - first, out, e);
    return encode_range(p, k, t, first, end, scale == NULL ? 1 : scale[tensor], m, out, r, e);
}

/* All of some small tensors. */
static enum apr_code make_group(const struct apr_plan *p, const struct apr_kernels *k, const struct apr_segment *s, const float *scale,
                                struct apr_maker *m, struct apr_rounding *r, struct apr_error *e)
{
    memset(m->out, 0, (size_t)(s->end - s->begin));
    for (size_t i = s->first; i < s->first + s->n; i++) {
        const struct apr_planned *const t = &p->tensor[i];
        unsigned char *const out = m->out + (t->at - p->tensor[s->first].at);
        if (apr_is_verbatim(t))
            APR_TRY(copy_range(t, m, 0, t->bytes, out));
        else
            APR_TRY(make_elements(p, k, i, 0, t->count, scale, m, out, r, e));
    }
    return APR_OK;
}

enum apr_code apr_piece_make(const struct apr_plan *p, const struct apr_kernels *k, const struct apr_segment *s, uint64_t i,
                             const float *scale, struct apr_maker *m, struct apr_rounding *r, struct apr_error *e)
{
    const struct apr_planned *const t = &p->tensor[s->first];
    uint64_t from, to;
    apr_piece_range(p, s, i, &from, &to);
    if (s->n == 0 && s->begin > 0) {
        memset(m->out, 0, (size_t)(to - from));
        return APR_OK;
    }
    if (s->n == 0) {
        memcpy(m->out, p->file[s->file].header.at + from, (size_t)(to - from));
        return APR_OK;
    }
    if (s->step == 0 && !(apr_is_verbatim(t) && stands_alone(t)))
        return make_group(p, k, s, scale, m, r, e);
    const uint64_t data = apr_min(to, s->begin + t->bytes), pad = data < from ? from : data;
    memset(m->out + (pad - from), 0, (size_t)(to - pad));
    if (s->step == 0)
        return copy_range(t, m, from - s->begin, pad - from, m->out);
    const uint64_t first = i * s->step;
    return make_elements(p, k, s->first, first, apr_min(t->count, first + s->step), scale, m, m->out, r, e);
}

enum apr_code apr_piece_largest(const struct apr_plan *p, const struct apr_segment *s, uint64_t i, struct apr_maker *m, float *largest,
                                struct apr_error *e)
{
    const struct apr_planned *const t = &p->tensor[s->first];
    const uint64_t end = apr_min(t->count, (i + 1) * s->step);
    struct apr_rounding ignored = { 0 };
    *largest = 0;
    for (uint64_t first = i * s->step, n; first < end; first += n) {
        n = next_batch(t, first, end);
        read_values(t, m, first, n);
        APR_TRY(check_finite(p, t, m, first, n, &ignored, e));
        for (uint64_t j = 0; j < n; j++) {
            const float x = magnitude(m->x[j]);
            *largest = x > *largest ? x : *largest;
        }
    }
    return APR_OK;
}
