#include "forward/matrix.h"

#include <math.h>
#include <string.h>

#include "values/dtype.h"

#define GROUP_ELEMENTS 65536u /* of weights that are decoded at a time: as floats they stay in the second cache */
#define GROUP_ROWS     8u     /* at least, as far as there are so many */
#define MOST_ELEMENTS  ((uint64_t)1 << 22) /* more of them are decoded at a time only if one row has more */
#define GROUPS         4u     /* for each thread, rather than large ones */
#define X_BYTES        ((uint64_t)64 << 20) /* of activations as doubles, at most, unless one position has more */
#define MOST_POSITIONS 1024u  /* at a time */

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

/* A row as it is stored, where it lies in one piece of whole blocks and is what it will be: else NULL. *t is the tensor that has it. */
static const unsigned char *stored_row(const struct apr_matrix *w, uint64_t row, const struct apr_tensor **t)
{
    const struct apr_input *const in = w->in;
    const uint64_t first = (w->first + row) * w->nin;
    struct apr_place p = { .index = first, .run = w->nin, .stride = 1 };
    if (in->view.nvalue > 0 || in->wide)
        return NULL;
    if (!in->plain)
        p = apr_view_place(&in->view, first);
    if (p.part >= in->view.npart || p.run < w->nin || (p.stride != 1 && w->nin > 1))
        return NULL;
    *t = apr_input_part(in, p.part);
    const struct apr_dtype *const d = (*t)->dtype;
    if ((*t)->packed != NULL || (*t)->swapped || d->head > 0 || w->nin % d->block != 0 || (*t)->row % d->block != 0 ||
        p.index % d->block != 0)
        return NULL;
    return (*t)->data.at + p.index / d->block * d->bytes;
}

void apr_matrix_rows(const struct apr_matrix *w, uint64_t first, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++, out += w->nin) {
        const struct apr_tensor *t;
        const unsigned char *const stored = stored_row(w, first + i, &t);
        if (stored != NULL)
            w->in->k->decode[apr_dtype_id(t->dtype)](t->data.at, stored, (size_t)w->nin, out);
        else
            apr_input_all_floats(w->in, NULL, (w->first + first + i) * w->nin, w->nin, out);
    }
}

#define TILE_COLUMNS 256u

/* Rows of an input whose columns are runs: h of them, at most APR_TILE. tile: h x TILE_COLUMNS. */
static void strided_rows(const struct apr_matrix *w, uint64_t row, size_t h, float *tile, float *out)
{
    for (uint64_t col = 0; col < w->nin; col += TILE_COLUMNS) {
        const size_t wide = (size_t)apr_min(TILE_COLUMNS, w->nin - col);
        apr_input_tile_floats(w->in, NULL, w->first + row, h, col, wide, tile);
        for (size_t i = 0; i < h; i++)
            memcpy(out + i * w->nin + col, tile + i * wide, wide * sizeof *out);
    }
}

/* ---- products ------------------------------------------------------------------------------------------------------- */

/* What the threads do: groups of rows of all matrices, one after the other. group: rows of one. */
struct times {
    const struct apr_product *product;
    size_t                    nproduct, n, group;
    uint64_t                  nin;
    const float              *from;
    double                   *x;
    size_t                    first; /* position of x */
    struct apr_team          *team;
};

static float rounded(double sum) { return isnan(sum) ? NAN : (float)sum; }

static size_t groups_of(const struct times *t, const struct apr_product *p) { return (size_t)((p->w->nout + t->group - 1) / t->group); }

/* The scratch of a worker: | sums of a group | its rows, decoded | a tile of those | */
static double *sums_of(const struct times *t, unsigned worker) { return apr_team_scratch(t->team, worker); }
static float *rows_of(const struct times *t, unsigned worker) { return (float *)(void *)(sums_of(t, worker) + t->n * t->group); }
static float *tile_of(const struct times *t, unsigned worker) { return rows_of(t, worker) + t->group * (size_t)t->nin; }

#define AT_ONCE       8u    /* rows of which one position is the product, at most */
#define FIRST_CACHE   4096u /* of their elements, decoded */

/* Rows of one dtype as they are stored, or none of them. */
static apr_dot_fn *stored_rows(const struct apr_matrix *w, uint64_t first, size_t n, const unsigned char *row[AT_ONCE])
{
    const struct apr_tensor *t = NULL;
    const struct apr_dtype *d = NULL;
    for (size_t i = 0; i < n; i++) {
        row[i] = stored_row(w, first + i, &t);
        if (row[i] == NULL || (i > 0 && t->dtype != d))
            return NULL;
        d = t->dtype;
    }
    return d != NULL ? w->in->k->dot[apr_dtype_id(d)] : NULL;
}

/* With one position it does not pay to have decoded rows in memory. */
static void one_position(const struct times *t, const struct apr_product *p, uint64_t row, size_t nrow, float *rows, double *sums)
{
    const struct apr_matrix *const w = p->w;
    const unsigned char *stored[AT_ONCE];
    const size_t few = FIRST_CACHE / ((size_t)t->nin + 1);
    for (size_t now; nrow > 0; row += now, nrow -= now) {
        now = nrow < AT_ONCE ? nrow : AT_ONCE;
        apr_dot_fn *const dot = stored_rows(w, row, now, stored);
        if (dot != NULL) {
            dot(stored, now, t->x, (size_t)t->nin, sums);
        } else {
            now = now <= few ? now : few > 1 ? few : 1;
            apr_matrix_rows(w, row, now, rows);
            w->in->k->dots(rows, now, t->x, 1, (size_t)t->nin, sums, now);
        }
        for (size_t r = 0; r < now; r++)
            p->y[t->first * p->stride + row + r] = rounded(sums[r]);
    }
}

static void times_group(void *ctx, size_t i, unsigned worker)
{
    const struct times *const t = ctx;
    const struct apr_product *p = t->product;
    for (; i >= groups_of(t, p); p++)
        i -= groups_of(t, p);
    const struct apr_matrix *const w = p->w;
    const uint64_t row = i * t->group;
    const size_t nrow = (size_t)apr_min(t->group, w->nout - row);
    float *const rows = rows_of(t, worker);
    double *const sums = sums_of(t, worker);
    if (t->n == 1 && !w->in->strided) {
        one_position(t, p, row, nrow, rows, sums);
        return;
    }
    if (w->in->strided && !w->in->wide)
        strided_rows(w, row, nrow, tile_of(t, worker), rows);
    else
        apr_matrix_rows(w, row, nrow, rows);
    w->in->k->dots(rows, nrow, t->x, t->n, (size_t)t->nin, sums, nrow);
    for (size_t k = 0; k < t->n; k++)
        for (size_t r = 0; r < nrow; r++)
            p->y[(t->first + k) * p->stride + row + r] = rounded(sums[k * nrow + r]);
}

static void widen(void *ctx, size_t i, unsigned worker)
{
    (void)worker;
    const struct times *const t = ctx;
    const size_t n = (size_t)t->nin;
    const float *const from = t->from + (t->first + i) * n;
    double *const to = t->x + i * n;
    size_t k = 0;
    for (; k + 8 <= n; k += 8)
        for (unsigned j = 0; j < 8; j++) /* a number of turns that is known is what makes gcc -O2 use its vectors */
            to[k + j] = from[k + j];
    for (; k < n; k++)
        to[k] = from[k];
}

/* Rows of a group: as many as stay in the cache, but fewer where there would be too few groups. Columns that are runs are read
 * by many rows. */
static size_t rows_of_group(const struct times *t)
{
    uint64_t rows = 0;
    bool strided = false;
    for (size_t i = 0; i < t->nproduct; i++) {
        rows += t->product[i].w->nout;
        strided |= t->product[i].w->in->strided;
    }
    const uint64_t in_cache = GROUP_ELEMENTS / (t->nin + 1), most = MOST_ELEMENTS / (t->nin + 1) + 1;
    const uint64_t each = strided ? APR_TILE : apr_min(in_cache, rows / (GROUPS * apr_team_size(t->team))) / GROUP_ROWS * GROUP_ROWS;
    const uint64_t group = each < GROUP_ROWS ? GROUP_ROWS : apr_min(each, APR_TILE);
    return (size_t)apr_min(group, most);
}

static bool make_room(struct times *t)
{
    uint64_t x, w, y;
    return apr_mul(t->nin, sizeof(double), &x) && apr_mul(x, t->n, &x) && apr_mul(t->nin + TILE_COLUMNS, t->group * sizeof(float), &w) &&
           apr_mul(t->n, t->group * sizeof(double), &y) && apr_add(w, y, &w) && (t->x = apr_team_common(t->team, x)) != NULL &&
           apr_team_room(t->team, w);
}

enum apr_code apr_matrices_times(const struct apr_product *product, size_t nproduct, struct apr_team *team, const float *x, size_t n,
                                 struct apr_error *e)
{
    if (nproduct == 0 || n == 0)
        return APR_OK;
    struct times t = { .product = product, .nproduct = nproduct, .nin = product->w->nin, .from = x, .team = team };
    if (t.nin > APR_MOST_COLUMNS)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "rows of more than %u columns are not multiplied", (unsigned)APR_MOST_COLUMNS);
    t.group = rows_of_group(&t);
    const uint64_t most = apr_min(X_BYTES / (sizeof(double) * (t.nin + 1)) + 1, MOST_POSITIONS);
    size_t ngroup = 0;
    for (size_t i = 0; i < nproduct; i++)
        ngroup += groups_of(&t, &product[i]);
    for (; t.first < n; t.first += t.n) {
        t.n = (size_t)apr_min(n - t.first, most);
        if (!make_room(&t))
            return apr_no_memory(e);
        apr_team_do(team, t.n, widen, &t);
        apr_team_do(team, ngroup, times_group, &t);
    }
    return APR_OK;
}
