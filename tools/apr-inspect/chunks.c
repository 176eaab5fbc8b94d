#include "chunks.h"

#include <math.h>
#include <string.h>

/* ---- sizes ---------------------------------------------------------------------------------------------------------- */

static size_t stretch_bytes(const struct apr_dtype *d) { return APR_STRETCH / d->block * d->bytes; }

static uint64_t times(uint64_t n, uint64_t size) { return n / size + (n % size != 0); }

/* Of its stored bytes, padding of rows among them, or of its values if those are more. */
static uint64_t stretches_of(const struct apr_input *in)
{
    const struct apr_tensor *t = &in->one;
    const uint64_t stored = times(t->data.n - apr_min(t->data.n, t->dtype->head), stretch_bytes(t->dtype));
    const uint64_t values = times(t->count, APR_STRETCH);
    return stored > values ? stored : values;
}

uint64_t chunks_of(const struct apr_input *in) { return times(stretches_of(in), CHUNK_STRETCHES); }

enum way way_of(const struct apr_input *in)
{
    const bool small = in->count <= SMALL_STRETCHES * APR_STRETCH && stretches_of(in) <= CHUNK_STRETCHES;
    return small ? BY_VALUES : in->one.dtype->ncode > 0 ? BY_CODES : BY_BINS;
}

/* ---- stretches ------------------------------------------------------------------------------------------------------ */

/* The stored bytes of a stretch, whole blocks one after the other, in little-endian order. */
static struct apr_bytes read_stored(struct reader *r, const struct apr_input *in, uint64_t stretch)
{
    const size_t n = stretch_bytes(in->one.dtype);
    struct apr_bytes b = apr_input_stored(in, &r->window, stretch * n, n);
    if (in->one.swapped && b.n > 0) {
        apr_turn_blocks(&in->one, b, r->turned);
        b.at = r->turned;
    }
    return b;
}

size_t read_values(struct reader *r, const struct apr_input *in, uint64_t stretch)
{
    const uint64_t first = stretch * APR_STRETCH, n = first < in->count ? apr_min(APR_STRETCH, in->count - first) : 0;
    if (in->wide && n > 0)
        apr_input_doubles(in, &r->window, first, (size_t)n, r->x.d);
    else if (n > 0)
        apr_input_floats(in, &r->window, first, (size_t)n, r->x.f);
    return (size_t)n;
}

/* Which NaN comes out of arithmetic on a block's NaN is the compiler's choice: they count as one. */
static struct apr_digest digest_of_values(struct reader *r, const struct apr_input *in, size_t n)
{
    bool nan = false;
    for (size_t i = 0; in->one.dtype->block > 1 && i < n; i++)
        nan |= isnan(r->x.f[i]) != 0;
    for (size_t i = 0; nan && i < n; i++)
        r->x.f[i] = isnan(r->x.f[i]) ? NAN : r->x.f[i];
    return apr_digest_of((struct apr_bytes){ r->x.bytes, n * (in->wide ? sizeof(double) : sizeof(float)) });
}

void add_moments(const struct reader *r, const struct apr_input *in, size_t n, const struct apr_grid *g, struct apr_moments *m)
{
    if (in->wide)
        apr_grid_add(in->k, g, r->x.d, n, m);
    else
        in->k->moments(r->x.f, n, g->centre, m);
}

/* Four codes at a time; alike ones at once, for the counter of a long run of zeros would be waited for at every step. */
static void count_words(struct apr_bytes b, uint32_t *count)
{
    size_t i = 0;
    for (; i + 8 <= b.n; i += 8) {
        uint64_t codes;
        memcpy(&codes, b.at + i, sizeof codes);
        if ((codes >> 16 | codes << 48) == codes) {
            count[codes & 0xffff] += 4;
            continue;
        }
        count[codes & 0xffff]++;
        count[codes >> 16 & 0xffff]++;
        count[codes >> 32 & 0xffff]++;
        count[codes >> 48]++;
    }
    for (; i + 2 <= b.n; i += 2)
        count[b.at[i] | b.at[i + 1] << 8]++;
}

/* On its own: among the rest of a stretch's work this loop has been a fifth slower. */
__attribute__((noinline)) static void count_each(const uint16_t *bin, size_t n, uint32_t *count)
{
    for (size_t i = 0; i < n; i++)
        count[bin[i]]++;
}

static void count_bins(struct reader *r, const struct apr_input *in, size_t n, const struct apr_grid *g, uint32_t *count)
{
    if (in->wide)
        apr_grid_bins(in->k, g, r->x.d, n, r->bin);
    else
        in->k->bins(r->x.f, n, g->base, g->scale, r->bin);
    count_each(r->bin, n, count);
}

/* Into four tables, which are added up when all is counted. */
static void count_bytes(struct apr_bytes b, uint32_t *count)
{
    for (size_t i = 0; i < b.n; i++)
        count[i % 4 << 8 | b.at[i]]++;
}

/* ---- chunks --------------------------------------------------------------------------------------------------------- */

/* What is done with each stretch. */
struct wish {
    const struct apr_input *in;
    const struct apr_grid  *grid;
    uint32_t               *count;
    bool                    hash, hash_values, codes, bins;
};

static void read_stretch(struct reader *r, const struct wish *w, uint64_t stretch, struct apr_digest *stored, struct apr_digest *values,
                         struct apr_moments *m)
{
    const struct apr_bytes b = w->hash || w->codes ? read_stored(r, w->in, stretch) : (struct apr_bytes){ 0 };
    if (w->hash && b.n > 0)
        *stored = apr_digest_fold(*stored, apr_digest_of(b));
    if (w->codes)
        (w->in->one.dtype->ncode > 256 ? count_words : count_bytes)(b, w->count);
    const size_t now = w->bins || w->hash_values ? read_values(r, w->in, stretch) : 0;
    if (w->hash_values && now > 0)
        *values = apr_digest_fold(*values, digest_of_values(r, w->in, now));
    if (w->bins) {
        add_moments(r, w->in, now, w->grid, m);
        count_bins(r, w->in, now, w->grid, w->count);
    }
}

void read_chunks(struct reader *r, const struct apr_input *in, unsigned what, const struct apr_grid *g, uint64_t first, uint64_t n,
                 struct chunks *c, uint32_t *count)
{
    const enum way way = way_of(in);
    const bool native = in->one.dtype->native, hash = what & SCAN_HASH, stats = (what & SCAN_STATS) && in->decodable;
    const struct wish wish = { in, g, count, hash, hash && in->decodable && !native, stats && way == BY_CODES, stats && way == BY_BINS };
    const uint64_t end = stretches_of(in);
    c->sums = apr_no_sums();
    c->nstored = c->nvalues = 0;
    for (uint64_t chunk = first; chunk < first + n; chunk++) {
        struct apr_digest *const stored = &c->stored[c->nstored++], *const values = &c->values[c->nvalues];
        struct apr_moments m = apr_no_moments();
        *stored = *values = (struct apr_digest){ 0, 0 };
        for (uint64_t i = chunk * CHUNK_STRETCHES; i < apr_min((chunk + 1) * CHUNK_STRETCHES, end); i++)
            read_stretch(r, &wish, i, stored, values, &m);
        if (native)
            *values = *stored;
        c->nvalues += chunk * APR_CHUNK < in->count;
        apr_sums_add_chunk(&c->sums, &m);
    }
}
