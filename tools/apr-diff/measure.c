#include "measure.h"

#include <math.h>
#include <string.h>

#define WINDOW_BYTES ((uint64_t)16 << 20) /* pages of a map that are kept resident, all threads together, each side */
#define LEAST_WINDOW (1u << 20)
#define MOST_WINDOW  (2u << 20)

/* ---- sums ----------------------------------------------------------------------------------------------------------- */

static void add_sums(struct sums *to, const struct sums *s)
{
    to->ab += s->ab;
    to->aa += s->aa;
    to->bb += s->bb;
    to->d += s->d;
    to->dd += s->dd;
    to->identical += s->identical;
    to->small += s->small;
    to->medium += s->medium;
    to->large += s->large;
    to->nonfinite += s->nonfinite;
    if (s->max > to->max || (s->max == to->max && s->max_at < to->max_at)) {
        to->max = s->max;
        to->max_at = s->max_at;
    }
}

struct sums folded(const struct apr_difference *d)
{
    return (struct sums){ .ab = apr_fold(d->ab), .aa = apr_fold(d->aa), .bb = apr_fold(d->bb), .d = apr_fold(d->d), .dd = apr_fold(d->dd),
                          .max = d->max, .max_at = d->max_at, .identical = d->identical, .small = d->small, .medium = d->medium,
                          .large = d->large, .nonfinite = d->nonfinite };
}

static bool is_worse(const struct worst *x, const struct worst *y)
{
    return x->diff > y->diff || (x->diff == y->diff && x->index < y->index);
}

static void add_worst(struct partial *p, size_t most, const struct worst *w)
{
    if (p->ntop == most && !is_worse(w, &p->top[most - 1]))
        return;
    size_t i = p->ntop < most ? p->ntop++ : most - 1;
    for (; i > 0 && is_worse(w, &p->top[i - 1]); i--)
        p->top[i] = p->top[i - 1];
    p->top[i] = *w;
}

/* n pairs from element `index` on, in rows of `width`, each `stride` elements behind the one before. */
static void collect_worst(struct partial *p, size_t most, const double *a, const double *b, size_t n, uint64_t index, size_t width, uint64_t stride)
{
    for (size_t i = 0; i < n; i++) {
        const bool same = a[i] == b[i] || (isnan(a[i]) && isnan(b[i]));
        const double diff = isfinite(a[i]) && isfinite(b[i]) ? fabs(a[i] - b[i]) : INFINITY;
        if (!same)
            add_worst(p, most, &(struct worst){ index + i / width * stride + i % width, a[i], b[i], diff });
    }
}

void add_partial(struct partial *to, const struct partial *p, size_t most)
{
    add_sums(&to->sums, &p->sums);
    to->equal |= p->equal;
    to->differs |= p->differs;
    to->undecodable |= p->undecodable;
    for (size_t i = 0; i < p->ntop; i++)
        add_worst(to, most, &p->top[i]);
}

/* ---- sides ---------------------------------------------------------------------------------------------------------- */

static struct apr_tensor as_reals(const struct apr_tensor *t)
{
    struct apr_tensor real = *t;
    if (t->dtype->pair != NULL) {
        real.dtype = t->dtype->pair;
        real.count *= 2;
        real.row *= 2;
    }
    return real;
}

uint64_t comparable_count(const struct pair *p)
{
    const struct apr_tensor a = as_reals(p->a), b = as_reals(p->b);
    if (p->problem != NULL)
        return 0;
    if (p->view != NULL)
        return p->a->count;
    return p->a->count == p->b->count && a.count == b.count ? a.count : 0;
}

static bool same_encoding(const struct apr_tensor *a, const struct apr_tensor *b)
{
    const size_t head = a->dtype->head;
    return a->dtype == b->dtype && a->row == b->row && a->swapped == b->swapped && a->data.n == b->data.n &&
           (head == 0 || a->data.n == 0 || memcmp(a->data.at, b->data.at, head) == 0);
}

void take_sides(struct sides *s, const struct options *o, const struct models *models, const struct pair *pair, bool turned)
{
    const struct apr_kernels *k = o->cli.run.kernels;
    static const struct apr_transform transpose = { .op = APR_OP_TRANSPOSE };
    struct apr_error never;
    *s = (struct sides){ .o = o, .model_a = models->a, .model_b = models->b, .a = as_reals(pair->a), .b = as_reals(pair->b) };
    s->part_a[0] = &s->a;
    s->part_b[0] = &s->b;
    s->view_a = apr_view_of(s->part_a, 1, 0);
    s->view_b = pair->view != NULL ? *pair->view : apr_view_of(s->part_b, 1, 0);
    if (pair->view != NULL) {
        s->view_a = *pair->own;
        s->view_a.part = s->part_a;
        s->view_a.npart = 1;
    }
    if (turned && apr_view_forth(&s->view_b, &transpose, 1, pair->a->dim, 2, &never) != APR_OK)
        s->view_b = apr_view_of(s->part_b, 0, 0); /* cannot be: it is a matrix */
    s->count = comparable_count(pair);
    s->ncol = pair->a->ndim == 0 ? 1 : pair->a->dim[pair->a->ndim - 1];
    s->nrow = s->ncol == 0 ? 0 : s->count / s->ncol;
    s->alike = apr_view_plain(&s->view_a) && apr_view_plain(&s->view_b) && same_encoding(&s->a, &s->b);
    s->strided = apr_view_strided(&s->view_b);
    s->decodable = apr_decodable(k, &s->a);
    s->wide = s->a.dtype->wide;
    for (size_t i = 0; i < s->view_b.npart; i++) {
        s->decodable &= apr_decodable(k, s->view_b.part[i]);
        s->wide |= s->view_b.part[i]->dtype->wide;
    }
}

static size_t window(const struct sides *s)
{
    const uint64_t share = WINDOW_BYTES / s->o->cli.run.threads;
    return share < LEAST_WINDOW ? LEAST_WINDOW : share > MOST_WINDOW ? MOST_WINDOW : (size_t)share;
}

/* ---- linear order --------------------------------------------------------------------------------------------------- */

static bool equal_bytes(struct apr_reader *a, struct apr_reader *b, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += APR_PIECE) {
        const size_t now = (size_t)apr_min(n - i, APR_PIECE);
        const struct apr_bytes x = apr_reader_touch(a, a->v->part[0], first + i, now), y = apr_reader_touch(b, b->v->part[0], first + i, now);
        if (memcmp(x.at, y.at, x.n) != 0)
            return false;
    }
    return true;
}

static void measure_piece(const struct sides *s, struct apr_reader *ra, struct apr_reader *rb, uint64_t at, size_t n, uint64_t in_chunk,
                          struct apr_difference *lanes, struct partial *p)
{
    const struct apr_kernels *k = ra->k;
    const size_t top = (size_t)s->o->top;
    if (s->wide || top > 0) {
        double x[APR_PIECE], y[APR_PIECE];
        apr_reader_doubles(ra, at, n, x);
        apr_reader_doubles(rb, at, n, y);
        k->difference_wide(x, y, n, in_chunk, lanes);
        if (top > 0)
            collect_worst(p, top, x, y, n, at, n, 0);
    } else {
        float x[APR_PIECE], y[APR_PIECE];
        apr_reader_floats(ra, at, n, x);
        apr_reader_floats(rb, at, n, y);
        k->difference(x, y, n, in_chunk, lanes);
    }
}

/* Elements decoded at a time where both sides lie in one run: few enough that the memory's own look-ahead, and the lines asked for
 * here, arrive while the piece before is measured. */
#define STRETCH 512u
#define AHEAD   2048u /* bytes */

/* Are n elements from `first` on whole blocks in one run, in this machine's byte order? */
static bool is_run(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    const uint64_t block = t->dtype->block;
    return !t->swapped && t->row == t->count && !t->dtype->wide && first % block == 0 && n % block == 0;
}

/* How many elements of B from `at` on, of at most n, lie in one run, and where. */
static size_t run_of_b(const struct sides *s, uint64_t at, size_t n, struct apr_place *p)
{
    *p = apr_view_place(&s->view_b, at);
    return p->run < n ? (size_t)p->run : n;
}

/* Does a chunk of A meet runs of B, all of them whole blocks and whole sets of lanes? So do rows in another order. */
static bool meets_runs(const struct sides *s, uint64_t chunk, size_t n)
{
    if (!apr_view_plain(&s->view_a) || s->view_b.nvalue > 0 || s->strided || s->o->top > 0)
        return false;
    for (size_t i = 0, now; i < n; i += now) {
        struct apr_place p;
        now = run_of_b(s, chunk + i, n - i, &p);
        if (p.part == s->view_b.npart || !is_run(&s->a, chunk + i, now) || !is_run(s->view_b.part[p.part], p.index, now) ||
            (now % APR_LANES != 0 && i + now < n))
            return false;
    }
    return true;
}

static void ask_for(const unsigned char *at, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        __builtin_prefetch(at + AHEAD + i, 0, 2);
}

/* Elements [at, at + n), a run on both sides: decoded and measured without leaving the first cache. */
static void measure_run(const struct sides *s, struct apr_reader *ra, struct apr_reader *rb, uint64_t at, size_t n, const struct apr_place *p,
                        uint64_t in_chunk, struct apr_difference *lanes)
{
    const struct apr_kernels *k = ra->k;
    const struct apr_tensor *part = s->view_b.part[p->part];
    const struct apr_dtype *da = s->a.dtype, *db = part->dtype;
    apr_decode_fn *const decode_a = k->decode[da - apr_dtypes], *const decode_b = k->decode[db - apr_dtypes];
    const unsigned char *a = apr_reader_touch(ra, &s->a, at, n).at, *b = apr_reader_touch(rb, part, p->index, n).at;
    _Alignas(64) float x[STRETCH], y[STRETCH];
    for (size_t i = 0; i < n; i += STRETCH) {
        const size_t now = n - i < STRETCH ? n - i : STRETCH, bytes_a = now / da->block * da->bytes, bytes_b = now / db->block * db->bytes;
        ask_for(a, bytes_a);
        ask_for(b, bytes_b);
        decode_a(s->a.data.at, a, now, x);
        decode_b(part->data.at, b, now, y);
        k->difference(x, y, now, in_chunk + i, lanes);
        a += bytes_a;
        b += bytes_b;
    }
}

static void measure_chunk(const struct sides *s, struct apr_reader *ra, struct apr_reader *rb, uint64_t chunk, size_t n, struct partial *p)
{
    struct apr_difference lanes = { 0 };
    p->differs = true;
    if (meets_runs(s, chunk, n)) {
        struct apr_place place;
        for (size_t i = 0, now; i < n; i += now) {
            now = run_of_b(s, chunk + i, n - i, &place);
            measure_run(s, ra, rb, chunk + i, now, &place, i, &lanes);
        }
    } else {
        for (size_t i = 0; i < n; i += APR_PIECE)
            measure_piece(s, ra, rb, chunk + i, (size_t)apr_min(n - i, APR_PIECE), i, &lanes, p);
    }
    struct sums sums = folded(&lanes);
    sums.max_at += chunk;
    add_sums(&p->sums, &sums);
}

void measure_linear(const struct sides *s, uint64_t first, uint64_t end, bool shortcut, struct partial *p)
{
    const struct apr_kernels *k = s->o->cli.run.kernels;
    struct apr_reader ra = apr_reader_on(k, s->model_a, &s->view_a, window(s)), rb = apr_reader_on(k, s->model_b, &s->view_b, window(s));
    for (uint64_t chunk = first; chunk < end; chunk += APR_CHUNK) {
        const uint64_t n = apr_min(end - chunk, APR_CHUNK);
        if (shortcut && s->alike && equal_bytes(&ra, &rb, chunk, n)) {
            p->equal = true;
            p->sums.identical += n;
        } else if (!s->decodable) {
            p->undecodable = true;
        } else {
            measure_chunk(s, &ra, &rb, chunk, (size_t)n, p);
        }
    }
    apr_reader_drop(&ra);
    apr_reader_drop(&rb);
}

/* ---- by tiles ------------------------------------------------------------------------------------------------------- */

/* Columns [col, col + w) of the band, as doubles or, where no value needs one, as floats. */
static void measure_tile(const struct sides *s, struct apr_reader *ra, struct apr_reader *rb, uint64_t row, size_t h, uint64_t col, size_t w,
                         void *buffer, struct apr_difference *lanes)
{
    const struct apr_kernels *k = ra->k;
    if (s->wide || s->o->top > 0) {
        double *a = buffer, *b = a + h * w;
        apr_reader_tile(ra, s->ncol, row, h, col, w, a);
        apr_reader_tile(rb, s->ncol, row, h, col, w, b);
        k->difference_wide(a, b, h * w, 0, lanes);
    } else {
        float *a = buffer, *b = a + h * w;
        apr_reader_tile_floats(ra, s->ncol, row, h, col, w, a);
        apr_reader_tile_floats(rb, s->ncol, row, h, col, w, b);
        k->difference(a, b, h * w, 0, lanes);
    }
}

void measure_band(const struct sides *s, uint64_t row, size_t h, double *buffer, struct partial *p)
{
    const struct apr_kernels *k = s->o->cli.run.kernels;
    struct apr_reader ra = apr_reader_on(k, s->model_a, &s->view_a, window(s)), rb = apr_reader_on(k, s->model_b, &s->view_b, window(s));
    p->undecodable = !s->decodable;
    p->differs = s->decodable;
    for (uint64_t col = 0; s->decodable && col < s->ncol; col += TILE_COLUMNS) {
        const size_t w = (size_t)apr_min(TILE_COLUMNS, s->ncol - col);
        struct apr_difference lanes = { 0 };
        measure_tile(s, &ra, &rb, row, h, col, w, buffer, &lanes);
        struct sums sums = folded(&lanes);
        sums.max_at = (row + sums.max_at / w) * s->ncol + col + sums.max_at % w;
        add_sums(&p->sums, &sums);
        if (s->o->top > 0)
            collect_worst(p, (size_t)s->o->top, buffer, buffer + h * w, h * w, row * s->ncol + col, w, s->ncol);
    }
    apr_reader_drop(&ra);
    apr_reader_drop(&rb);
}

void measure_rows(const struct sides *s, uint64_t row, size_t h, double *buffer, struct apr_difference *lanes)
{
    const struct apr_kernels *k = s->o->cli.run.kernels;
    struct apr_reader ra = apr_reader_on(k, s->model_a, &s->view_a, window(s)), rb = apr_reader_on(k, s->model_b, &s->view_b, window(s));
    for (uint64_t col = 0; col < s->ncol; col += TILE_COLUMNS) {
        const size_t w = (size_t)apr_min(TILE_COLUMNS, s->ncol - col);
        double *a = buffer, *b = a + h * w;
        apr_reader_tile(&ra, s->ncol, row, h, col, w, a);
        apr_reader_tile(&rb, s->ncol, row, h, col, w, b);
        for (size_t r = 0; r < h; r++)
            k->difference_wide(a + r * w, b + r * w, w, col, &lanes[r]);
    }
    apr_reader_drop(&ra);
    apr_reader_drop(&rb);
}
