#include "measure.h"

#include <math.h>
#include <string.h>

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

static uint64_t reals_of(const struct apr_tensor *t) { return t->dtype->pair != NULL ? 2 * t->count : t->count; }

uint64_t comparable_count(const struct pair *p)
{
    if (p->problem != NULL)
        return 0;
    if (p->view != NULL) {
        uint64_t count = 1; /* no more than that of a */
        for (unsigned i = 0; i < p->ndim; i++)
            count *= p->dim[i];
        return count;
    }
    return p->a->count == p->b->count && reals_of(p->a) == reals_of(p->b) ? reals_of(p->a) : 0;
}

static bool same_encoding(const struct apr_tensor *a, const struct apr_tensor *b)
{
    const size_t head = a->dtype->head;
    return a->dtype == b->dtype && a->row == b->row && a->swapped == b->swapped && a->data.n == b->data.n &&
           (head == 0 || a->data.n == 0 || memcmp(a->data.at, b->data.at, head) == 0);
}

struct sides sides_of(const struct options *o, const struct models *models, const struct pair *pair, bool turned)
{
    static const struct apr_transform transpose = { .op = APR_OP_TRANSPOSE };
    const struct apr_kernels *k = o->cli.run.kernels;
    struct sides s = { .o = o };
    struct apr_error never;
    if (pair->view != NULL) {
        struct apr_view own = *pair->own;
        own.part = &pair->a;
        own.npart = 1;
        s.a = apr_input_through(k, models->a, &own, pair->dim, pair->ndim);
        s.b = apr_input_through(k, models->b, pair->view, pair->dim, pair->ndim);
    } else if (turned) {
        struct apr_view v = apr_view_of(&pair->b, 1, 0);
        if (apr_view_forth(&v, &transpose, 1, pair->a->dim, pair->a->ndim, &never) != APR_OK)
            v.npart = 0; /* cannot be: it is a matrix */
        s.a = apr_input_of(k, models->a, pair->a);
        s.b = apr_input_through(k, models->b, &v, pair->a->dim, pair->a->ndim);
    } else {
        s.a = apr_input_of(k, models->a, pair->a);
        s.b = apr_input_of(k, models->b, pair->b);
        apr_input_reshape(&s.b, s.a.dim, s.a.ndim);
    }
    s.alike = s.a.plain && s.b.plain && same_encoding(&s.a.one, &s.b.one);
    return s;
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

/* What both sides are read as: floats, doubles where some value needs one or is shown, integers where a double does not hold them. */
enum as { FLOATS, DOUBLES, WHOLE };

static enum as read_as(const struct sides *s, bool shown)
{
    return s->a.whole && s->b.whole ? WHOLE : s->a.wide || s->b.wide || shown ? DOUBLES : FLOATS;
}

static void read_values(const struct apr_input *in, struct apr_window *w, enum as as, uint64_t first, size_t n, void *out)
{
    if (as == WHOLE)
        apr_input_whole(in, w, first, n, out);
    else if (as == DOUBLES)
        apr_input_doubles(in, w, first, n, out);
    else
        apr_input_floats(in, w, first, n, out);
}

static void read_tile(const struct apr_input *in, struct apr_window *w, enum as as, uint64_t row, size_t h, uint64_t col, size_t wide, void *out)
{
    if (as == WHOLE)
        apr_input_tile_whole(in, w, row, h, col, wide, out);
    else if (as == DOUBLES)
        apr_input_tile_doubles(in, w, row, h, col, wide, out);
    else
        apr_input_tile_floats(in, w, row, h, col, wide, out);
}

static bool is_signed(const struct apr_input *in) { return apr_input_part(in, 0)->dtype->kind == APR_SIGNED; }

/* n pairs, elements `first` and on of a chunk. */
static void add_difference(const struct sides *s, enum as as, const void *a, const void *b, size_t n, uint64_t first, struct apr_difference *into)
{
    const struct apr_kernels *k = s->a.k;
    if (as == WHOLE)
        k->difference_whole(a, is_signed(&s->a), b, is_signed(&s->b), n, first, into);
    else if (as == DOUBLES)
        k->difference_wide(a, b, n, first, into);
    else
        k->difference(a, b, n, first, into);
}

static double whole_value(const struct apr_input *in, uint64_t bits) { return is_signed(in) ? (double)(int64_t)bits : (double)bits; }

/* Two integers: false when they are the same. */
static bool whole_differ(const struct sides *s, uint64_t a, uint64_t b, struct worst *w)
{
    struct apr_difference one = { 0 };
    add_difference(s, WHOLE, &a, &b, 1, 0, &one);
    w->a = whole_value(&s->a, a);
    w->b = whole_value(&s->b, b);
    w->diff = one.max;
    return one.identical == 0;
}

static bool doubles_differ(double a, double b, struct worst *w)
{
    w->a = a;
    w->b = b;
    w->diff = isfinite(a) && isfinite(b) ? fabs(a - b) : INFINITY;
    return a != b && !(isnan(a) && isnan(b));
}

/* n pairs from element `index` on, in rows of `width`, each `stride` elements behind the one before; as doubles or integers. */
static void collect_worst(const struct sides *s, enum as as, const void *a, const void *b, size_t n, uint64_t index, size_t width,
                          uint64_t stride, struct partial *p)
{
    const double *x = a, *y = b;
    const uint64_t *i = a, *j = b;
    for (size_t k = 0; k < n; k++) {
        struct worst w = { .index = index + k / width * stride + k % width };
        if (as == WHOLE ? whole_differ(s, i[k], j[k], &w) : doubles_differ(x[k], y[k], &w))
            add_worst(p, (size_t)s->o->top, &w);
    }
}

/* ---- linear order --------------------------------------------------------------------------------------------------- */

static bool equal_bytes(const struct sides *s, struct scratch *own, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += APR_STRETCH) {
        const size_t now = (size_t)apr_min(n - i, APR_STRETCH);
        const struct apr_bytes x = apr_input_touch(&s->a, &own->a, 0, first + i, now), y = apr_input_touch(&s->b, &own->b, 0, first + i, now);
        if (memcmp(x.at, y.at, x.n) != 0)
            return false;
    }
    return true;
}

/* Elements [at, at + n), n <= APR_STRETCH. */
static void measure_some(const struct sides *s, struct scratch *own, uint64_t at, size_t n, uint64_t in_chunk, struct apr_difference *lanes,
                         struct partial *p)
{
    const enum as as = read_as(s, s->o->top > 0);
    _Alignas(64) double x[APR_STRETCH], y[APR_STRETCH];
    read_values(&s->a, &own->a, as, at, n, x);
    read_values(&s->b, &own->b, as, at, n, y);
    add_difference(s, as, x, y, n, in_chunk, lanes);
    if (s->o->top > 0)
        collect_worst(s, as, x, y, n, at, n, 0, p);
}

/* Elements decoded at a time where both sides lie in one run: few enough that the memory's own look-ahead, and the lines asked for
 * here, arrive while the piece before is measured. */
#define RUN_STRETCH 512u
#define AHEAD   2048u /* bytes */

/* Are n elements from `first` on whole blocks in one run, in this machine's byte order? */
static bool is_run(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    const uint64_t block = t->dtype->block;
    return t->packed == NULL && !t->swapped && t->row == t->count && !t->dtype->wide && first % block == 0 && n % block == 0;
}

/* How many elements of B from `at` on, of at most n, lie in one run, and where. */
static size_t run_of_b(const struct sides *s, uint64_t at, size_t n, struct apr_place *p)
{
    *p = apr_view_place(&s->b.view, at);
    return p->run < n ? (size_t)p->run : n;
}

/* Does a chunk of A meet runs of B, all of them whole blocks and whole sets of lanes? So do rows in another order. */
static bool meets_runs(const struct sides *s, uint64_t chunk, size_t n)
{
    if (!s->a.plain || s->b.view.nvalue > 0 || s->b.strided || s->o->top > 0)
        return false;
    for (size_t i = 0, now; i < n; i += now) {
        struct apr_place p;
        now = run_of_b(s, chunk + i, n - i, &p);
        if (p.part == s->b.view.npart || !is_run(&s->a.one, chunk + i, now) || !is_run(apr_input_part(&s->b, p.part), p.index, now) ||
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
static void measure_run(const struct sides *s, struct scratch *own, uint64_t at, size_t n, const struct apr_place *p, uint64_t in_chunk,
                        struct apr_difference *lanes)
{
    const struct apr_kernels *k = s->a.k;
    const struct apr_tensor *part = apr_input_part(&s->b, p->part);
    const struct apr_dtype *da = s->a.one.dtype, *db = part->dtype;
    apr_decode_fn *const decode_a = k->decode[da - apr_dtypes], *const decode_b = k->decode[db - apr_dtypes];
    const unsigned char *a = apr_input_touch(&s->a, &own->a, 0, at, n).at, *b = apr_input_touch(&s->b, &own->b, p->part, p->index, n).at;
    _Alignas(64) float x[RUN_STRETCH], y[RUN_STRETCH];
    for (size_t i = 0; i < n; i += RUN_STRETCH) {
        const size_t now = n - i < RUN_STRETCH ? n - i : RUN_STRETCH, bytes_a = now / da->block * da->bytes, bytes_b = now / db->block * db->bytes;
        ask_for(a, bytes_a);
        ask_for(b, bytes_b);
        decode_a(s->a.one.data.at, a, now, x);
        decode_b(part->data.at, b, now, y);
        k->difference(x, y, now, in_chunk + i, lanes);
        a += bytes_a;
        b += bytes_b;
    }
}

static void measure_chunk(const struct sides *s, struct scratch *own, uint64_t chunk, size_t n, struct partial *p)
{
    struct apr_difference lanes = { 0 };
    p->differs = true;
    if (meets_runs(s, chunk, n)) {
        struct apr_place place;
        for (size_t i = 0, now; i < n; i += now) {
            now = run_of_b(s, chunk + i, n - i, &place);
            measure_run(s, own, chunk + i, now, &place, i, &lanes);
        }
    } else {
        for (size_t i = 0; i < n; i += APR_STRETCH)
            measure_some(s, own, chunk + i, (size_t)apr_min(n - i, APR_STRETCH), i, &lanes, p);
    }
    struct sums sums = folded(&lanes);
    sums.max_at += chunk;
    add_sums(&p->sums, &sums);
}

static bool is_decodable(const struct sides *s) { return s->a.decodable && s->b.decodable; }

void measure_linear(const struct sides *s, struct scratch *own, uint64_t first, uint64_t end, bool shortcut, struct partial *p)
{
    for (uint64_t chunk = first; chunk < end; chunk += APR_CHUNK) {
        const uint64_t n = apr_min(end - chunk, APR_CHUNK);
        if (shortcut && s->alike && equal_bytes(s, own, chunk, n)) {
            p->equal = true;
            p->sums.identical += n;
        } else if (!is_decodable(s)) {
            p->undecodable = true;
        } else {
            measure_chunk(s, own, chunk, (size_t)n, p);
        }
    }
}

/* ---- by tiles ------------------------------------------------------------------------------------------------------- */

void measure_band(const struct sides *s, struct scratch *own, uint64_t row, size_t h, struct partial *p)
{
    const uint64_t ncol = s->a.ncol;
    const enum as as = read_as(s, s->o->top > 0);
    double *const a = own->tile[0], *const b = own->tile[1];
    p->undecodable = !is_decodable(s);
    p->differs = is_decodable(s);
    for (uint64_t col = 0; is_decodable(s) && col < ncol; col += TILE_COLUMNS) {
        const size_t wide = (size_t)apr_min(TILE_COLUMNS, ncol - col);
        struct apr_difference lanes = { 0 };
        read_tile(&s->a, &own->a, as, row, h, col, wide, a);
        read_tile(&s->b, &own->b, as, row, h, col, wide, b);
        add_difference(s, as, a, b, h * wide, 0, &lanes);
        struct sums sums = folded(&lanes);
        sums.max_at = (row + sums.max_at / wide) * ncol + col + sums.max_at % wide;
        add_sums(&p->sums, &sums);
        if (s->o->top > 0)
            collect_worst(s, as, a, b, h * wide, row * ncol + col, wide, ncol, p);
    }
}

#define SAMPLE_TILE 16u

void measure_sample(const struct sides *s, struct scratch *own, struct partial *p)
{
    const enum as as = read_as(s, false);
    struct apr_difference lanes = { 0 };
    uint64_t at = 0;
    p->undecodable = !is_decodable(s);
    for (unsigned i = 0; is_decodable(s) && i < SAMPLED / (SAMPLE_TILE * SAMPLE_TILE); i++) {
        at += 0x9e3779b97f4a7c15; /* steps of the golden ratio spread evenly over 2^64; the upper half is the row, the lower the column */
        const uint64_t row = (at >> 32) * (s->a.nrow - SAMPLE_TILE + 1) >> 32, col = (at & UINT32_MAX) * (s->a.ncol - SAMPLE_TILE + 1) >> 32;
        read_tile(&s->a, &own->a, as, row, SAMPLE_TILE, col, SAMPLE_TILE, own->tile[0]);
        read_tile(&s->b, &own->b, as, row, SAMPLE_TILE, col, SAMPLE_TILE, own->tile[1]);
        add_difference(s, as, own->tile[0], own->tile[1], SAMPLE_TILE * SAMPLE_TILE, 0, &lanes);
    }
    p->sums = folded(&lanes);
}

void measure_rows(const struct sides *s, struct scratch *own, uint64_t row, size_t h)
{
    const uint64_t ncol = s->a.ncol;
    const enum as as = read_as(s, true);
    double *const a = own->tile[0], *const b = own->tile[1];
    memset(own->lanes, 0, sizeof own->lanes);
    for (uint64_t col = 0; col < ncol; col += TILE_COLUMNS) {
        const size_t wide = (size_t)apr_min(TILE_COLUMNS, ncol - col);
        read_tile(&s->a, &own->a, as, row, h, col, wide, a);
        read_tile(&s->b, &own->b, as, row, h, col, wide, b);
        for (size_t r = 0; r < h; r++)
            add_difference(s, as, a + r * wide, b + r * wide, wide, col, &own->lanes[r]);
    }
}
