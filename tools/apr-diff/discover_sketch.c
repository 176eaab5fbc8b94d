/* Sketches of tensors, of their rows and of their columns: one pass over the bytes each. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fmath.h"
#include "discover.h"
#include "flow/input.h"
#include "flow/pass.h"

/* Signs repeat after so many values, then those of each further run are turned round or not. */
#define SIGNS      65536u
#define RUN_CHUNKS 16
#define WIDE       256u /* columns of a tile */
#define FEW        32u  /* rows of doubles at a time */

/* ---- signs ---------------------------------------------------------------------------------------------------------- */

static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u; /* the finish of SplitMix64 */
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

enum apr_code prepare_sketches(struct discovery *d, struct apr_error *e)
{
    d->sign = malloc(SIGNS * sizeof *d->sign);
    if (d->sign == NULL)
        return apr_no_memory(e);
    for (uint64_t i = 0; i < SIGNS; i++)
        d->sign[i] = mixed((i + 1) * 0x9E3779B97F4A7C15u) >> 63 ? -1 : 1;
    return APR_OK;
}

static double run_sign(uint64_t run) { return run > 0 && mixed(run * 0xD1B54A32D192ED03u) >> 63 ? -1 : 1; }

/* The sketch of as many ones. */
static void sketch_ones(const struct discovery *d, uint64_t count, double lane[SKETCH])
{
    double whole[SKETCH] = { 0 }, runs = 0;
    const uint64_t last = count / SIGNS, rest = count % SIGNS;
    for (uint64_t r = 0; r < last; r++)
        runs += run_sign(r);
    memset(lane, 0, SKETCH * sizeof *lane);
    for (size_t i = 0; i < SIGNS && last > 0; i++)
        whole[i % SKETCH] += d->sign[i];
    for (size_t i = 0; i < rest; i++)
        lane[i % SKETCH] += d->sign[i];
    for (size_t l = 0; l < SKETCH; l++)
        lane[l] = lane[l] * run_sign(last) + whole[l] * runs;
}

bool shape_of(const struct discovery *d, const struct signature *s, uint64_t count, struct shape *out)
{
    double ones[SKETCH];
    const double n = (double)count, mean = s->sum / n, variance = s->square / n - mean * mean;
    *out = (struct shape){ .mean = mean };
    if (!(variance > 1e-10 * mean * mean) || !isfinite(variance))
        return false;
    out->deviation = sqrt(variance);
    sketch_ones(d, count, ones);
    for (size_t l = 0; l < SKETCH; l++)
        out->lane[l] = (float)((s->lane[l] - mean * ones[l]) / (out->deviation * sqrt(n)));
    return true;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* Makes 0 of what is not finite. */
static void clean(float *x, size_t n)
{
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= !(fabsf(x[i]) <= FLT_MAX);
    for (size_t i = 0; bad && i < n; i++)
        if (!(fabsf(x[i]) <= FLT_MAX))
            x[i] = 0;
}

/* log(-x), 0 where there is none. */
static void undo_exp(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0 ? (float)apr_log(-(double)x[i]) : 0;
}

/* Adds n values, the first of which is number `at` of its run of SIGNS: a multiple of SKETCH. */
static void add_values(const struct discovery *d, const float *x, size_t n, size_t at, struct signature *s)
{
    const float *sign = d->sign + at;
    double lane[SKETCH] = { 0 }, sum[SKETCH] = { 0 }, square[SKETCH] = { 0 };
    float max = -FLT_MAX;
    size_t i = 0;
    for (; i + SKETCH <= n; i += SKETCH)
        for (size_t l = 0; l < SKETCH; l++) {
            const double v = x[i + l];
            lane[l] += v * sign[i + l];
            sum[l] += v;
            square[l] += v * v;
        }
    for (size_t l = 0; i < n; i++, l++) {
        const double v = x[i];
        lane[l] += v * sign[i];
        sum[l] += v;
        square[l] += v * v;
    }
    for (i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t l = 0; l < SKETCH; l++) {
        s->lane[l] += lane[l];
        s->sum += sum[l];
        s->square += square[l];
    }
    s->max = max > s->max ? max : s->max;
}

static const struct signature nothing = { .max = -INFINITY };

static void join(struct signature *to, const struct signature *s, double sign)
{
    for (size_t l = 0; l < SKETCH; l++)
        to->lane[l] += sign * s->lane[l];
    to->sum += s->sum;
    to->square += s->square;
    to->max = s->max > to->max ? s->max : to->max;
}

/* Elements [from, end) of an input, of which `origin` is the first of what is sketched, into s, which begins with zeros. */
static void read_values(const struct discovery *d, const struct apr_input *in, struct apr_window *w, uint64_t origin, uint64_t from,
                        uint64_t end, bool negated, float *room, struct signature *s)
{
    *s = nothing;
    for (uint64_t i = from; i < end;) {
        const uint64_t run = (i - origin) / SIGNS, stop = apr_min(end, origin + (run + 1) * SIGNS);
        struct signature one = nothing;
        for (size_t n; i < stop; i += n) {
            n = (size_t)apr_min(stop - i, APR_STRETCH);
            apr_input_all_floats(in, w, i, n, room);
            if (negated)
                undo_exp(room, n);
            clean(room, n);
            add_values(d, room, n, (size_t)((i - origin) % SIGNS), &one);
        }
        join(s, &one, run_sign(run));
    }
}

/* ---- a pass --------------------------------------------------------------------------------------------------------- */

/* Of a thread; windows of A and B. */
struct room {
    struct apr_window w[2];
    float             value[APR_STRETCH];
    float             tile[APR_TILE * WIDE];
    double            wide[FEW * WIDE];
    struct signature  row[APR_TILE];
};

struct sketching {
    const struct discovery *d;
    struct stretch         *stretch;
    const struct view      *view;
    float                 (*lane)[SKETCH], *norm;
};

static void enter(void *ctx, void *scratch)
{
    const struct sketching *c = ctx;
    struct room *const own = scratch;
    own->w[0] = own->w[1] = apr_window_of(&c->d->o->cli.run);
}

static void leave(void *ctx, void *scratch)
{
    struct room *const own = scratch;
    (void)ctx;
    apr_window_drop(&own->w[0]);
    apr_window_drop(&own->w[1]);
}

static struct apr_input input_of(const struct discovery *d, const struct item *item)
{
    return apr_input_of(d->o->cli.run.kernels, item->of_b ? d->models->b : d->models->a, item->t);
}

static uint64_t bytes_of(const struct item *item, uint64_t elements)
{
    return (uint64_t)((unsigned __int128)item->t->data.n * elements / item->t->count);
}

static struct apr_cut cut_stretch(void *ctx, size_t i, unsigned mode)
{
    const struct sketching *c = ctx;
    const struct stretch *s = &c->stretch[i];
    (void)mode;
    return (struct apr_cut){ (s->count + SIGNS - 1) / SIGNS, RUN_CHUNKS, s->count, bytes_of(s->item, s->count) };
}

static enum apr_code make_stretch(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct sketching *c = ctx;
    const struct stretch *s = &c->stretch[p->input];
    const struct apr_input in = input_of(c->d, s->item);
    struct room *const own = scratch;
    struct apr_window *const w = &own->w[s->item->of_b];
    (void)e;
    read_values(c->d, &in, w, s->first, s->first + p->first * SIGNS, s->first + apr_min((p->first + p->n) * SIGNS, s->count), s->negated,
                own->value,
                result);
    apr_window_rest(w);
    return APR_OK;
}

static enum apr_code take_stretch(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    const struct sketching *c = ctx;
    (void)e;
    join(&c->stretch[p->input].signature, result, 1);
    return APR_OK;
}

enum apr_code sketch_stretches(const struct discovery *d, struct stretch *s, size_t n, struct apr_error *e)
{
    struct sketching c = { .d = d, .stretch = s };
    const struct apr_job job = { .what = "looking for pairs", .ctx = &c, .ninput = n, .result = sizeof(struct signature),
                                 .shared = sizeof(struct signature), .scratch = sizeof(struct room), .cut = cut_stretch,
                                 .make = make_stretch, .take = take_stretch, .enter = enter, .leave = leave };
    for (size_t i = 0; i < n; i++)
        s[i].signature = nothing;
    APR_TRY(apr_pass(&d->o->cli.run, &job, e));
    return models_unchanged(d->models, e);
}

/* ---- rows and columns ------------------------------------------------------------------------------------------------- */

/* The rows that make up a piece. */
static uint64_t rows_of_piece(const struct view *v)
{
    return v->turned ? APR_TILE : v->width >= SIGNS ? 1 : SIGNS / v->width;
}

static struct apr_cut cut_view(void *ctx, size_t i, unsigned mode)
{
    const struct sketching *c = ctx;
    const struct view *v = &c->view[i];
    const uint64_t nrow = v->slabs * v->rows, each = rows_of_piece(v);
    (void)mode;
    return (struct apr_cut){ (nrow + each - 1) / each, 1, v->item->t->count, v->item->t->data.n };
}

static void keep_row(const struct sketching *c, uint64_t at, const struct signature *s)
{
    const double norm = sqrt(s->square);
    c->norm[at] = (float)norm;
    for (size_t l = 0; l < SKETCH; l++)
        c->lane[at][l] = norm > 0 && isfinite(norm) ? (float)(s->lane[l] / norm) : 0;
}

/* h rows of n columns, those that need doubles rounded to floats, into own->tile. */
static void read_tile(const struct apr_input *in, struct apr_window *w, struct room *own, uint64_t row, size_t h, uint64_t col, size_t n)
{
    if (!in->wide)
        apr_input_tile_floats(in, w, row, h, col, n, own->tile);
    for (size_t r = 0, now; in->wide && r < h; r += now) {
        now = (size_t)apr_min(h - r, FEW);
        apr_input_tile_doubles(in, w, row + r, now, col, n, own->wide);
        for (size_t i = 0; i < now * n; i++)
            own->tile[r * n + i] = (float)own->wide[i];
    }
    clean(own->tile, h * n);
}

/* Rows [row, row + h) of a matrix, tile by tile. */
static void sketch_band(const struct sketching *c, const struct apr_input *in, struct apr_window *w, struct room *own, uint64_t row,
                        size_t h)
{
    for (size_t r = 0; r < h; r++)
        own->row[r] = nothing;
    for (uint64_t col = 0; col < in->ncol; col += WIDE) {
        const size_t wide = (size_t)apr_min(in->ncol - col, WIDE);
        const double sign = run_sign(col / SIGNS);
        read_tile(in, w, own, row, h, col, wide);
        for (size_t r = 0; r < h; r++) {
            struct signature one = nothing;
            add_values(c->d, own->tile + r * wide, wide, (size_t)(col % SIGNS), &one);
            join(&own->row[r], &one, sign);
        }
    }
}

static void sketch_columns(const struct sketching *c, const struct view *v, struct room *own, uint64_t first, uint64_t n)
{
    static const struct apr_transform transpose = { .op = APR_OP_TRANSPOSE };
    const uint64_t dim[] = { v->slabs, v->rows, v->width };
    const struct discovery *d = c->d;
    struct apr_view through = apr_view_of(&v->item->t, 1, 0);
    struct apr_window *const w = &own->w[v->item->of_b];
    struct apr_error never;
    if (apr_view_forth(&through, &transpose, 1, dim, 3, &never) != APR_OK)
        return; /* cannot be: it has rows and columns */
    const struct apr_input in = apr_input_through(d->o->cli.run.kernels, v->item->of_b ? d->models->b : d->models->a, &through, dim, 3);
    for (uint64_t row = first; row < first + n;) {
        const size_t h = (size_t)apr_min(apr_min(first + n - row, v->rows - row % v->rows), APR_TILE); /* of one slab */
        sketch_band(c, &in, w, own, row, h);
        for (size_t r = 0; r < h; r++)
            keep_row(c, v->first + row + r, &own->row[r]);
        row += h;
    }
}

static enum apr_code make_view(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct sketching *c = ctx;
    const struct view *v = &c->view[p->input];
    const uint64_t each = rows_of_piece(v), first = p->first * each, n = apr_min(p->n * each, v->slabs * v->rows - first);
    struct room *const own = scratch;
    struct apr_window *const w = &own->w[v->item->of_b];
    (void)e;
    *(unsigned char *)result = 0;
    if (v->turned)
        sketch_columns(c, v, own, first, n);
    const struct apr_input in = input_of(c->d, v->item);
    for (uint64_t r = first; !v->turned && r < first + n; r++) {
        struct signature s;
        read_values(c->d, &in, w, r * v->width, r * v->width, (r + 1) * v->width, false, own->value, &s);
        keep_row(c, v->first + r, &s);
    }
    apr_window_rest(w);
    return APR_OK;
}

static enum apr_code take_view(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    (void)ctx, (void)p, (void)result, (void)e;
    return APR_OK;
}

enum apr_code sketch_rows(const struct discovery *d, const struct view *v, size_t n, float (*lane)[SKETCH], float *norm,
                          struct apr_error *e)
{
    struct sketching c = { .d = d, .view = v, .lane = lane, .norm = norm };
    const struct apr_job job = { .what = "looking at rows", .ctx = &c, .ninput = n, .result = 1, .shared = 1,
                                 .scratch = sizeof(struct room),
                                 .cut = cut_view, .make = make_view, .take = take_view, .enter = enter, .leave = leave };
    APR_TRY(apr_pass(&d->o->cli.run, &job, e));
    return models_unchanged(d->models, e);
}
