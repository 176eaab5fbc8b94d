/* What the values of a piece of a tensor are: one walk over them, decoded and as they are stored. */
#include "check.h"

#include <math.h>

#include "base/bytes.h"
#include "flow/input.h"
#include "values/dtype.h"

#define SMALL        4096
#define SAMPLED      61
#define DEAD_SQUARES 1e-12 /* a row whose L2 norm is below 1e-6 */

struct row_state {
    uint64_t length, at, number, padding;
    double   squares;
};

static void end_row(struct row_state *r, struct tally *t)
{
    const bool live = !(r->squares < DEAD_SQUARES), dead = !live && r->number != r->padding;
    if (dead && t->dead++ == 0)
        t->first_dead = r->number;
    t->live += live;
    t->tail = live ? 0 : t->tail + dead;
    r->number++;
    r->at = 0;
    r->squares = 0;
}

/* Adds n values, from element `first` on; sums are of distances from `about`, which keeps small spreads around large means. */
static void add_values(struct tally *t, struct row_state *row, const double *v, size_t n, uint64_t first, double about, double sum[2])
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(v[i])) {
            const double d = v[i] - about;
            sum[0] += d;
            sum[1] += d * d;
            t->n++;
            t->zeros += v[i] == 0;
            t->min = v[i] < t->min ? v[i] : t->min;
            t->max = v[i] > t->max ? v[i] : t->max;
        } else {
            if (t->nans + t->infs == 0)
                t->first_bad = first + i;
            t->nans += isnan(v[i]) != 0;
            t->infs += isinf(v[i]) != 0;
        }
        if (row->length > 0) {
            row->squares += v[i] * v[i];
            if (++row->at == row->length)
                end_row(row, t);
        }
    }
}

/* Every value of a small tensor, else every 61st: no number of columns is a multiple of that. `first` is v's element in the tensor. */
static void sample(struct tally *t, const double *v, size_t n, uint64_t first, uint64_t count)
{
    const uint64_t step = count < SMALL ? 1 : SAMPLED;
    for (size_t i = (size_t)((step - first % step) % step); i < n; i += (size_t)step)
        if (v[i] != 0 && isfinite(v[i]))
            t->magnitude[magnitude_class(v[i])]++;
}

/* A piece has as large a share of the blocks as it has of the pieces; so each block is seen once, whoever decodes it. */
static uint64_t block_share(uint64_t nblock, uint64_t i, uint64_t of) { return nblock / of * i + nblock % of * i / of; }

struct tally tally_piece(const struct job *j, uint64_t padding, const struct apr_input *in, struct apr_window *w, uint64_t piece)
{
    const uint64_t begin = piece * j->piece, end = apr_min(begin + j->piece, j->t->count), nblock = block_count(j->t);
    const bool decodable = apr_decodable(in->k, j->t); /* as it is stored: not complex */
    struct tally t = { .min = INFINITY, .max = -INFINITY };
    struct row_state row = { .length = j->row, .number = j->row > 0 ? begin / j->row : 0, .padding = padding };
    double v[APR_STRETCH], about = 0, sum[2] = { 0, 0 };
    for (uint64_t at = begin; at < end && decodable; at += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, end - at);
        apr_input_doubles(in, w, at, n, v);
        if (at == begin && isfinite(v[0]))
            about = v[0];
        add_values(&t, &row, v, n, at, about, sum);
        sample(&t, v, n, at, j->t->count);
    }
    if (t.n > 0) {
        t.mean = about + sum[0] / (double)t.n;
        t.squares = fmax(0, sum[1] - sum[0] * sum[0] / (double)t.n);
    }
    const uint64_t from = block_share(nblock, piece, j->npiece), to = block_share(nblock, piece + 1, j->npiece);
    apr_input_stored(in, w, from * j->t->dtype->bytes, (size_t)((to - from) * j->t->dtype->bytes));
    tally_blocks(j->t, from, to, &t.blocks);
    return t;
}

void merge_tally(struct tally *into, const struct tally *t)
{
    const double n = (double)into->n, m = (double)t->n, apart = t->mean - into->mean;
    if (m > 0) {
        into->mean += apart * m / (n + m);
        into->squares += t->squares + apart * apart * n * m / (n + m);
    }
    if (into->nans + into->infs == 0)
        into->first_bad = t->first_bad;
    if (into->dead == 0)
        into->first_dead = t->first_dead;
    into->n += t->n;
    into->zeros += t->zeros;
    into->nans += t->nans;
    into->infs += t->infs;
    into->tail = t->live > 0 ? t->tail : into->tail + t->tail;
    into->live += t->live;
    into->dead += t->dead;
    into->min = t->min < into->min ? t->min : into->min;
    into->max = t->max > into->max ? t->max : into->max;
    for (unsigned k = 0; k < MAGNITUDES; k++)
        into->magnitude[k] += t->magnitude[k];
    merge_blocks(&into->blocks, &t->blocks);
}
