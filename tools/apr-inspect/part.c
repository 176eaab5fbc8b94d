#include "part.h"

#include <math.h>
#include <string.h>

#include "files/source.h"
#include "values/chunk.h"

#define WINDOW_BYTES (1u << 20) /* of a map's pages that one thread keeps */

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

struct apr_tensor as_reals(const struct apr_tensor *t)
{
    struct apr_tensor real = *t;
    if (t->dtype->pair != NULL) {
        real.dtype = t->dtype->pair;
        real.count *= 2;
        real.row *= 2;
    }
    return real;
}

static struct apr_bytes blocks_of(const struct apr_tensor *t)
{
    const size_t head = t->data.n < t->dtype->head ? t->data.n : t->dtype->head;
    return (struct apr_bytes){ t->data.at + head, t->data.n - head };
}

static size_t piece_bytes(const struct apr_tensor *t) { return APR_PIECE / t->dtype->block * t->dtype->bytes; }

/* The stored bytes of a piece: of whole blocks one after the other, so that padding of rows is among them. */
static struct apr_bytes stored_piece(const struct apr_tensor *t, uint64_t piece)
{
    const struct apr_bytes blocks = blocks_of(t);
    const uint64_t from = piece * piece_bytes(t);
    if (from >= blocks.n)
        return (struct apr_bytes){ 0 };
    return (struct apr_bytes){ blocks.at + from, (size_t)apr_min(piece_bytes(t), blocks.n - from) };
}

uint64_t pieces_of(const struct apr_tensor *real)
{
    const uint64_t stored = blocks_of(real).n / piece_bytes(real) + (blocks_of(real).n % piece_bytes(real) != 0);
    const uint64_t values = real->count / APR_PIECE + (real->count % APR_PIECE != 0);
    return stored > values ? stored : values;
}

bool is_small(const struct apr_tensor *real) { return real->count <= SMALL_PIECES * APR_PIECE && pieces_of(real) <= CHUNK_PIECES; }

enum way way_of(const struct apr_tensor *real)
{
    return is_small(real) ? BY_VALUES : real->dtype->ncode > 0 ? BY_CODES : BY_BINS;
}

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

void begin_reading(struct reader *r, const struct apr_kernels *k)
{
    r->k = k;
    r->window = (struct apr_bytes){ 0 };
}

void read_tensor(struct reader *r, const struct apr_model *m, const struct apr_tensor *t)
{
    const struct apr_bytes map = m->file[t->file]->map;
    if (r->window.n > 0 && r->map.at != map.at)
        end_reading(r);
    r->map = map;
    r->t = as_reals(t);
}

void end_reading(struct reader *r)
{
    if (r->window.n > 0)
        apr_drop_behind(r->map, r->window);
    r->window.n = 0;
}

static void touch(struct reader *r, struct apr_bytes b)
{
    const struct apr_bytes w = r->window.n > 0 ? r->window : b;
    const unsigned char *const low = b.at < w.at ? b.at : w.at, *const high = b.at + b.n > w.at + w.n ? b.at + b.n : w.at + w.n;
    r->window = (struct apr_bytes){ low, (size_t)(high - low) };
}

static struct apr_bytes read_stored(struct reader *r, uint64_t piece)
{
    struct apr_bytes b = stored_piece(&r->t, piece);
    if (b.n > 0)
        touch(r, b);
    if (r->t.swapped && b.n > 0) {
        apr_turn_blocks(&r->t, b, r->turned);
        b.at = r->turned;
    }
    return b;
}

size_t read_values(struct reader *r, uint64_t piece)
{
    const uint64_t first = piece * APR_PIECE, n = first < r->t.count ? apr_min(APR_PIECE, r->t.count - first) : 0;
    if (n == 0)
        return 0;
    touch(r, apr_element_bytes(&r->t, first, n));
    if (r->t.dtype->wide)
        apr_read_doubles(r->k, &r->t, first, (size_t)n, r->x.d);
    else
        apr_read_floats(r->k, &r->t, first, (size_t)n, r->x.f);
    return (size_t)n;
}

/* Which NaN comes out of arithmetic on a block's NaN is the compiler's choice: they count as one. */
static struct apr_digest digest_of_values(struct reader *r, size_t n)
{
    bool nan = false;
    for (size_t i = 0; r->t.dtype->block > 1 && i < n; i++)
        nan |= isnan(r->x.f[i]) != 0;
    for (size_t i = 0; nan && i < n; i++)
        r->x.f[i] = isnan(r->x.f[i]) ? NAN : r->x.f[i];
    return apr_digest_of((struct apr_bytes){ r->x.bytes, n * (r->t.dtype->wide ? sizeof(double) : sizeof(float)) });
}

void add_moments(const struct reader *r, size_t n, const struct apr_grid *g, struct apr_moments *m)
{
    if (r->t.dtype->wide)
        apr_grid_add(r->k, g, r->x.d, n, m);
    else
        r->k->moments(r->x.f, n, g->centre, m);
}

static void count_bins(struct reader *r, size_t n, const struct apr_grid *g, uint32_t *count)
{
    if (r->t.dtype->wide)
        apr_grid_bins(r->k, g, r->x.d, n, r->bin);
    else
        r->k->bins(r->x.f, n, g->base, g->scale, r->bin);
    for (size_t i = 0; i < n; i++)
        count[r->bin[i]]++;
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

/* Into four tables, which are added up when all is counted. */
static void count_bytes(struct apr_bytes b, uint32_t *count)
{
    for (size_t i = 0; i < b.n; i++)
        count[i % 4 << 8 | b.at[i]]++;
}

void read_part(struct reader *r, unsigned what, const struct apr_grid *g, uint64_t first, uint64_t n, struct part *p,
               uint32_t *count)
{
    const enum way way = way_of(&r->t);
    const bool decodable = apr_decodable(r->k, &r->t), hash = what & SCAN_HASH, stats = (what & SCAN_STATS) && decodable;
    const bool bins = stats && way == BY_BINS, hash_values = hash && decodable && !r->t.dtype->native;
    const uint64_t end = apr_min(first + n, pieces_of(&r->t));
    p->sums = apr_no_sums();
    p->nstored = p->nvalues = 0;
    for (uint64_t chunk = first; chunk < end; chunk += CHUNK_PIECES) {
        struct apr_digest *const stored = &p->stored[p->nstored++], *const values = &p->values[p->nvalues];
        struct apr_moments m = apr_no_moments();
        *stored = *values = (struct apr_digest){ 0, 0 };
        for (uint64_t i = chunk; i < apr_min(chunk + CHUNK_PIECES, end); i++) {
            if (r->window.n >= WINDOW_BYTES)
                end_reading(r);
            const struct apr_bytes b = hash || (stats && way == BY_CODES) ? read_stored(r, i) : (struct apr_bytes){ 0 };
            if (hash && b.n > 0)
                *stored = apr_digest_fold(*stored, apr_digest_of(b));
            if (stats && way == BY_CODES)
                (r->t.dtype->ncode > 256 ? count_words : count_bytes)(b, count);
            const size_t now = bins || hash_values ? read_values(r, i) : 0;
            if (hash_values && now > 0)
                *values = apr_digest_fold(*values, digest_of_values(r, now));
            if (bins) {
                add_moments(r, now, g, &m);
                count_bins(r, now, g, count);
            }
        }
        if (r->t.dtype->native)
            *values = *stored;
        p->nvalues += chunk * APR_PIECE < r->t.count;
        apr_sums_add_chunk(&p->sums, &m);
    }
}
