/* The values of a tensor of the result, element by element, from those of its models. */
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/levels.h"

/* ---- reading -------------------------------------------------------------------------------------------------------- */

size_t stretch_of(const struct merged *t) { return (size_t)apr_min(APR_STRETCH, OPERAND_ROOM / (t->n + 1) / 16 * 16); }

/* What is no finite number is noted, unless it is to be 0, and becomes 0. */
static void heal(struct merged *t, size_t n, double *x)
{
    if (!t->merge->o->c.nan_to_zero)
        atomic_store(&t->nonfinite, true);
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] - x[i] == 0 ? x[i] : 0;
}

static void read_one(struct merged *t, const struct apr_input *in, struct apr_window *w, uint64_t first, size_t n, double *out)
{
    float narrow[APR_STRETCH];
    bool finite;
    if (in->wide) {
        apr_input_doubles(in, w, first, n, out);
        finite = t->merge->loops->are_finite(out, n);
    } else {
        apr_input_floats(in, w, first, n, narrow);
        finite = t->merge->loops->widen(narrow, n, out);
    }
    if (!finite)
        heal(t, n, out);
}

/* The models, the base, and adapters on each, are read in turn. */
static void read_in_turn(const struct merged *t, struct apr_window *w)
{
    if (w != NULL)
        w->streams = (unsigned)apr_min(2 * (t->n + 1), APR_MOST_STREAMS);
}

void read_operands(struct merged *t, struct apr_window *w, uint64_t first, size_t n, double *out)
{
    read_in_turn(t, w);
    for (size_t i = 0; i < t->n; i++)
        read_one(t, t->x[i].in, w, first, n, out + i * n);
    if (t->base != NULL)
        read_one(t, t->base, w, first, n, out + t->n * n);
}

void read_difference(struct merged *t, size_t i, struct apr_window *w, uint64_t first, size_t n, double *d)
{
    double base[APR_STRETCH];
    read_in_turn(t, w);
    read_one(t, t->x[i].in, w, first, n, d);
    read_one(t, t->base, w, first, n, base);
    t->merge->loops->subtract(d, base, n);
}

void read_magnitudes(struct merged *t, size_t i, struct apr_window *w, uint64_t first, size_t n, float *out)
{
    const struct loops *const loops = t->merge->loops;
    const struct apr_input *const in = t->x[i].in;
    float x[APR_STRETCH], base[APR_STRETCH];
    double d[APR_STRETCH];
    if (!in->wide && !t->base->wide) {
        read_in_turn(t, w);
        apr_input_floats(in, w, first, n, x);
        apr_input_floats(t->base, w, first, n, base);
        if (loops->distance(x, base, n, out))
            return;
    }
    read_difference(t, i, w, first, n, d);
    loops->magnitude(d, n, out);
}

enum apr_code check_finite(const struct apr_input *in, struct apr_bytes name, const struct model *m, const char *help, struct apr_error *e)
{
    double x[APR_STRETCH];
    for (uint64_t first = 0; first < in->count; first += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, in->count - first);
        apr_input_doubles(in, NULL, first, n, x);
        for (size_t i = 0; i < n; i++)
            if (x[i] - x[i] != 0)
                return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, name, " of %s: element %llu is %s%s", m->said->path,
                                       (unsigned long long)(first + i), x[i] != x[i] ? "NaN" : "infinite", help);
    }
    return APR_OK;
}

enum apr_code merged_sound(const struct apr_computation *c, struct apr_error *e)
{
    const struct merged *const t = (const struct merged *)(const void *)c;
    if (atomic_load(&t->starved))
        return apr_no_memory(e);
    if (!atomic_load(&t->nonfinite))
        return APR_OK;
    static const char help[] = "; --nan-to-zero takes it as 0";
    for (size_t i = 0; i < t->n; i++)
        APR_TRY(check_finite(t->x[i].in, t->tensor.name, t->x[i].model, help, e));
    return t->base == NULL ? APR_OK : check_finite(t->base, t->tensor.name, t->base_model, help, e);
}

/* ---- thinning ------------------------------------------------------------------------------------------------------- */

#define DIGIT 8u /* bits of keys by which numbers are sorted at a time */

/* The ranks by magnitude of a row, equal ones by index: rank[i] of element i. room: of 2 n numbers. */
static void rank_row(const float *magnitude, size_t n, uint64_t *room, uint32_t *rank)
{
    uint64_t *from = room, *to = room + n;
    for (size_t i = 0; i < n; i++)
        from[i] = (uint64_t)apr_score_key(magnitude[i]) << 32 | i;
    for (unsigned shift = 32; shift < 64; shift += DIGIT) {
        size_t place[1u << DIGIT] = { 0 }, sum = 0;
        for (size_t i = 0; i < n; i++)
            place[from[i] >> shift & ((1u << DIGIT) - 1)]++;
        for (size_t digit = 0; digit < APR_LENGTH(place); digit++) {
            const size_t before = sum;
            sum += place[digit];
            place[digit] = before;
        }
        for (size_t i = 0; i < n; i++)
            to[place[from[i] >> shift & ((1u << DIGIT) - 1)]++] = from[i];
        uint64_t *const other = from;
        from = to;
        to = other;
    }
    for (size_t i = 0; i < n; i++)
        rank[(uint32_t)from[i]] = (uint32_t)i;
}

/* Of a row, or NULL when memory is out: the caller frees it. */
static uint32_t *ranks_of(struct merged *t, size_t i, struct apr_window *w, uint64_t row)
{
    const size_t n = (size_t)t->ncol;
    uint32_t *const rank = t->ncol > UINT32_MAX ? NULL : malloc(n * sizeof *rank);
    float *const magnitude = malloc(n * sizeof *magnitude);
    uint64_t *const room = malloc(2 * n * sizeof *room);
    const bool enough = rank != NULL && magnitude != NULL && room != NULL;
    for (size_t at = 0, now; enough && at < n; at += now) {
        now = (size_t)apr_min(APR_STRETCH, n - at);
        read_magnitudes(t, i, w, row * n + at, now, magnitude + at);
    }
    if (enough)
        rank_row(magnitude, n, room, rank);
    free(magnitude);
    free(room);
    if (enough)
        return rank;
    free(rank);
    return NULL;
}

/* x where an element is kept that has such a chance, else 0. */
static double if_drawn(uint64_t key, uint64_t index, double chance, double x)
{
    return apr_kept((double)(apr_draw(key, index) >> 11) * 0x1p-53 < chance, x);
}

/* Elements [first, first + n), which may lie in several rows. */
static void thin_by_rank(struct merged *t, size_t i, struct apr_window *w, uint64_t first, size_t n, double *d)
{
    const double density = t->x[i].p[PARAM_DENSITY], epsilon = t->x[i].p[PARAM_EPSILON];
    for (size_t now; n > 0; first += now, d += now, n -= now) {
        const uint64_t row = first / t->ncol, col = first % t->ncol;
        uint32_t *const rank = ranks_of(t, i, w, row);
        now = (size_t)apr_min(n, t->ncol - col);
        if (rank == NULL)
            atomic_store(&t->starved, true);
        for (size_t k = 0; rank != NULL && k < now; k++) {
            const double at = t->ncol > 1 ? (double)rank[col + k] / (double)(t->ncol - 1) : 0.5;
            d[k] = if_drawn(t->key[i], first + k, density - epsilon + 2 * epsilon * at, d[k]);
        }
        free(rank);
    }
}

/* The highest key that a cutoff takes at an index; 0: none, as no key is. */
static uint32_t limit_at(const struct apr_cutoff *c, uint64_t index) { return c->key - (c->key > 0 && index >= c->end); }

/* The next of n elements for which two cutoffs, both from the same end, are one band: what the one takes and the other, if any, does not.
 * Returns how many. */
static size_t next_band(const struct apr_cutoff *taken, const struct apr_cutoff *left, uint64_t first, size_t n, struct band *b)
{
    *b = (struct band){ taken->flip, left == NULL ? 0 : limit_at(left, first), limit_at(taken, first) };
    n = taken->end > first ? (size_t)apr_min(n, taken->end - first) : n;
    return left != NULL && left->end > first ? (size_t)apr_min(n, left->end - first) : n;
}

static void keep_between(const struct merged *t, const struct apr_cutoff *taken, const struct apr_cutoff *left, uint64_t first, size_t n,
                         double *d)
{
    struct band b;
    for (size_t now; n > 0; first += now, d += now, n -= now) {
        now = next_band(taken, left, first, n, &b);
        t->merge->loops->keep(d, now, &b);
    }
}

void thin_out(struct merged *t, size_t i, struct apr_window *w, uint64_t first, size_t n, double *d)
{
    const double density = t->x[i].p[PARAM_DENSITY];
    if (density >= 1)
        return;
    switch (t->method->thinning) {
    case THIN_NOT: break;
    case THIN_LARGEST: keep_between(t, &t->cut[i][0], NULL, first, n, d); break;
    case THIN_MIDDLE: keep_between(t, &t->cut[i][1], &t->cut[i][0], first, n, d); break;
    case THIN_RANDOM:
        for (size_t k = 0; k < n; k++)
            d[k] = if_drawn(t->key[i], first + k, density, d[k]);
        break;
    case THIN_BY_RANK: thin_by_rank(t, i, w, first, n, d); break;
    }
}

/* ---- kernels -------------------------------------------------------------------------------------------------------- */

/* Sums of coefficients times models and base; those of each row, or column, are their own. */
static void combine(const struct merged *t, uint64_t first, size_t n, const double *x, double *out)
{
    const size_t ncoef = t->n + 1, nx = t->n + (t->base != NULL);
    const enum units units = t->method->units(t);
    memset(out, 0, n * sizeof *out);
    for (size_t at = 0, now; at < n; at += now) {
        const uint64_t row = (first + at) / t->ncol, col = (first + at) % t->ncol;
        now = units < UNITS_ROWS ? n : (size_t)apr_min(n - at, t->ncol - col);
        for (size_t i = 0; i < nx; i++)
            if (units != UNITS_COLUMNS)
                t->merge->loops->add(out + at, t->coef[(units == UNITS_ROWS ? row * ncoef : 0) + i], x + i * n + at, now);
            else
                for (size_t k = 0; k < now; k++)
                    out[at + k] += t->coef[(col + k) * ncoef + i] * x[i * n + at + k];
    }
}

static void subtract_base(const struct merged *t, size_t n, double *x)
{
    for (size_t i = 0; i < t->n; i++)
        t->merge->loops->subtract(x + i * n, x + t->n * n, n);
}

static double sign_of(double x) { return (x > 0) - (x < 0); }

static double factor_of(const struct merged *t, size_t i) { return t->x[i].p[PARAM_WEIGHT] * (t->keep == NULL ? 1 : t->keep[i]); }

/* The changes of x number i, thinned out and weighted, from floats in one go. False: not all are finite. */
static bool change_by(const struct merged *t, size_t i, const float *base, struct apr_window *w, uint64_t first, size_t n, double *out)
{
    const bool all = t->x[i].p[PARAM_DENSITY] >= 1, middle = t->method->thinning == THIN_MIDDLE;
    struct band b = { 0, 0, UINT32_MAX };
    bool finite = true;
    float x[APR_STRETCH];
    apr_input_floats(t->x[i].in, w, first, n, x);
    for (size_t at = 0, now; at < n; at += now) {
        now = all ? n : next_band(&t->cut[i][middle], middle ? &t->cut[i][0] : NULL, first + at, n - at, &b);
        finite &= t->merge->loops->change(x + at, base + at, now, &b, factor_of(t, i), out + at);
    }
    return finite;
}

/* Where magnitude decides and nothing needs a double: as change_operands, or false. */
static bool change_floats(const struct merged *t, struct apr_window *w, uint64_t first, size_t n, double *x)
{
    float base[APR_STRETCH];
    bool narrow = !t->base->wide && (t->method->thinning == THIN_LARGEST || t->method->thinning == THIN_MIDDLE);
    for (size_t i = 0; i < t->n; i++)
        narrow &= !t->x[i].in->wide;
    if (!narrow)
        return false;
    read_in_turn(t, w);
    apr_input_floats(t->base, w, first, n, base);
    bool finite = t->merge->loops->widen(base, n, x + t->n * n);
    for (size_t i = 0; i < t->n && finite; i++)
        finite = change_by(t, i, base, w, first, n, x + i * n);
    return finite;
}

/* The thinned out and weighted changes of each x, and the base behind them. */
static void change_operands(struct merged *t, struct apr_window *w, uint64_t first, size_t n, double *x)
{
    if (change_floats(t, w, first, n, x))
        return;
    read_operands(t, w, first, n, x);
    subtract_base(t, n, x);
    for (size_t i = 0; i < t->n; i++) {
        thin_out(t, i, w, first, n, x + i * n);
        t->merge->loops->scale(x + i * n, factor_of(t, i), n);
    }
}

static void merge_thinned(struct merged *t, struct apr_window *w, uint64_t first, size_t n, double *x, double *out)
{
    const struct loops *const loops = t->merge->loops;
    const bool normalize = t->p[PARAM_NORMALIZE] != 0;
    double weight[MOST_MODELS], changes[APR_STRETCH], sum = 0;
    change_operands(t, w, first, n, x);
    for (size_t i = 0; i < t->n; i++)
        sum += weight[i] = t->x[i].p[PARAM_WEIGHT];
    if (t->method->votes) {
        loops->vote(x, t->n, weight, normalize, n, changes);
    } else {
        memset(changes, 0, n * sizeof *changes);
        for (size_t i = 0; i < t->n; i++)
            loops->add(changes, 1, x + i * n, n);
        loops->divide(changes, normalize && fabs(sum) >= 1e-8 ? sum : 1, n);
    }
    memcpy(out, x + t->n * n, n * sizeof *out);
    loops->add(out, t->p[PARAM_LAMBDA], changes, n);
}

float variance_at(const struct merged *t, size_t n, const double *d, size_t k)
{
    double mean = 0, sum = 0;
    for (size_t i = 0; i < t->n; i++)
        mean += d[i * n + k];
    mean /= (double)t->n;
    for (size_t i = 0; i < t->n; i++)
        sum += (d[i * n + k] - mean) * (d[i * n + k] - mean);
    return (float)(sum / (double)t->n);
}

/* x becomes differences; those at positions that do not vary enough are 0. */
void select_varying(const struct merged *t, uint64_t first, size_t n, double *x)
{
    subtract_base(t, n, x);
    for (size_t k = 0; k < n && t->p[PARAM_TOPK] < 1; k++)
        if (!apr_cutoff_takes(&t->cut[0][0], variance_at(t, n, x, k), first + k))
            for (size_t i = 0; i < t->n; i++)
                x[i * n + k] = 0;
}

static void merge_sce(const struct merged *t, uint64_t first, size_t n, double *x, double *out)
{
    select_varying(t, first, n, x);
    for (size_t k = 0; k < n; k++) {
        double sum = 0, total = 0, share = 0;
        for (size_t i = 0; i < t->n; i++)
            sum += x[i * n + k];
        const double sign = sum >= 0 ? 1 : -1;
        for (size_t i = 0; i < t->n; i++)
            if (sign_of(x[i * n + k]) == sign) {
                total += x[i * n + k] * t->part[i];
                share += t->part[i];
            }
        out[k] = x[t->n * n + k] + total / (share > 1e-6 ? share : 1e-6);
    }
}

static void merge_near(const struct merged *t, size_t n, const double *x, double *out)
{
    for (size_t k = 0; k < n; k++) {
        const double apart = fabs(x[n + k] - x[k]), share = t->p[PARAM_T] / (apart > 1e-6 ? apart : 1e-6);
        const double w = share > 1 ? 1 : share > 0 ? share : 0;
        out[k] = w * x[k] + (1 - w) * x[n + k];
    }
}

static void merge_stretch(struct merged *t, struct apr_window *w, uint64_t first, size_t n, double *out)
{
    double x[OPERAND_ROOM];
    if (t->method->kernel != KERNEL_THINNED)
        read_operands(t, w, first, n, x);
    switch (t->method->kernel) {
    case KERNEL_COMBINATION: combine(t, first, n, x, out); break;
    case KERNEL_THINNED: merge_thinned(t, w, first, n, x, out); break;
    case KERNEL_SCE: merge_sce(t, first, n, x, out); break;
    case KERNEL_NEARSWAP: merge_near(t, n, x, out); break;
    }
}

static void put(const struct merged *t, size_t n, const double *from, void *out, size_t at)
{
    if (t->tensor.dtype->wide)
        memcpy((double *)out + at, from, n * sizeof *from);
    else
        t->merge->loops->narrow(from, n, (float *)out + at);
}

void merged_values(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out)
{
    struct merged *const t = (struct merged *)(uintptr_t)c;
    double made[APR_STRETCH];
    for (size_t at = 0, now; at < n; at += now) {
        now = (size_t)apr_min(stretch_of(t), n - at);
        merge_stretch(t, w, first + at, now, made);
        put(t, now, made, out, at);
    }
}

void base_values(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out)
{
    const struct merged *const t = (const struct merged *)(const void *)((const char *)c - offsetof(struct merged, of_base));
    double base[APR_STRETCH];
    if (!t->tensor.dtype->wide && !t->base->wide) {
        apr_input_floats(t->base, w, first, n, out);
        return;
    }
    apr_input_doubles(t->base, w, first, n, base);
    put(t, n, base, out, 0);
}
