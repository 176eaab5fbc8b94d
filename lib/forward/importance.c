#include "forward/importance.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "flow/plan.h"
#include "model/format.h"
#include "values/dtype.h"

/* One tensor of a GGUF: nmatrix of ncol columns.
 *   sum    nmatrix x ncol; once it is written, floats from its start on
 *   count  of each matrix: how many rows were summed
 *   part   of each: the matrix whose rows are counted, as parts of one may follow */
struct counted {
    struct apr_bytes name;
    uint64_t         nmatrix, ncol;
    double          *sum;
    uint64_t        *count;
    struct part {
        const struct apr_input *in;
        uint64_t                first;
    }               *part;
};

/* stacked: of the name of a stack of experts, how many they are. place: of each name, its entry. */
struct apr_importance {
    struct counted   *entry;
    size_t            nentry, room;
    struct apr_table  stacked, place;
    struct apr_arena *arena;
};

/* ---- entries -------------------------------------------------------------------------------------------------------- */

static enum apr_code note_stack(struct apr_importance *im, const struct apr_matrix *w, uint64_t n, struct apr_error *e)
{
    char text[APR_NAME_ROOM];
    bool fresh;
    if (w->in == NULL || !apr_matrix_gguf_name(w, text))
        return APR_OK;
    const struct apr_bytes name = apr_arena_copy(&im->arena, apr_text(text));
    union apr_table_value *const v = name.at == NULL ? NULL : apr_table_put(&im->stacked, name, &fresh);
    if (v == NULL)
        return apr_no_memory(e);
    v->number = n;
    return APR_OK;
}

static enum apr_code note_stacks(struct apr_importance *im, const struct apr_net *net, struct apr_error *e)
{
    for (uint64_t i = 0; i < net->nlayer; i++) {
        const struct apr_experts *const x = &net->layer[i].experts;
        if (x->n == 0)
            continue;
        APR_TRY(note_stack(im, &x->expert[0].gate.w, x->n, e));
        APR_TRY(note_stack(im, &x->expert[0].up.w, x->n, e));
        APR_TRY(note_stack(im, &x->expert[0].down.w, x->n, e));
    }
    return APR_OK;
}

enum apr_code apr_importance_new(struct apr_importance **im, const struct apr_net *net, struct apr_error *e)
{
    *im = calloc(1, sizeof **im);
    if (*im == NULL)
        return apr_no_memory(e);
    const enum apr_code code = note_stacks(*im, net, e);
    if (code == APR_OK)
        return APR_OK;
    apr_importance_free(*im);
    *im = NULL;
    return code;
}

void apr_importance_free(struct apr_importance *im)
{
    if (im == NULL)
        return;
    for (size_t i = 0; i < im->nentry; i++) {
        free(im->entry[i].sum);
        free(im->entry[i].count);
        free(im->entry[i].part);
    }
    free(im->entry);
    apr_table_free(&im->stacked);
    apr_table_free(&im->place);
    apr_arena_free(&im->arena);
    free(im);
}

static enum apr_code add_entry(struct apr_importance *im, struct apr_bytes name, uint64_t nmatrix, uint64_t ncol, struct apr_error *e)
{
    struct counted *const more = apr_grown(im->entry, &im->room, im->nentry, 64, sizeof *more);
    uint64_t n;
    bool fresh;
    if (more == NULL)
        return apr_no_memory(e);
    im->entry = more;
    struct counted *const x = &im->entry[im->nentry];
    *x = (struct counted){ .name = apr_arena_copy(&im->arena, name), .nmatrix = nmatrix, .ncol = ncol };
    if (x->name.at == NULL || !apr_mul(nmatrix, ncol, &n) || n > SIZE_MAX / sizeof *x->sum)
        return apr_no_memory(e);
    im->nentry++;
    x->sum = calloc((size_t)n, sizeof *x->sum);
    x->count = calloc((size_t)nmatrix, sizeof *x->count);
    x->part = calloc((size_t)nmatrix, sizeof *x->part);
    union apr_table_value *const place = apr_table_put(&im->place, x->name, &fresh);
    if (x->sum == NULL || x->count == NULL || x->part == NULL || place == NULL)
        return apr_no_memory(e);
    place->number = im->nentry - 1;
    return APR_OK;
}

static enum apr_code entry_of(struct apr_importance *im, struct apr_bytes name, uint64_t matrix, uint64_t nmatrix, uint64_t ncol,
                              struct counted **x, struct apr_error *e)
{
    const union apr_table_value *const place = apr_table_find(&im->place, name);
    if (place == NULL)
        APR_TRY(add_entry(im, name, nmatrix, ncol, e));
    *x = &im->entry[place == NULL ? im->nentry - 1 : place->number];
    if ((*x)->nmatrix != nmatrix || (*x)->ncol != ncol || matrix >= nmatrix)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, name, ": matrix %" PRIu64 " of %" PRIu64 " with %" PRIu64
                               " columns, after one of %" PRIu64 " with %" PRIu64, matrix, nmatrix, ncol, (*x)->nmatrix, (*x)->ncol);
    return APR_OK;
}

/* ---- counting ------------------------------------------------------------------------------------------------------- */

/* Which of n rows made the sum of a column what it is. */
static enum apr_code odd_sum(const struct counted *x, uint64_t column, const float *rows, size_t n, struct apr_error *e)
{
    size_t p = 0;
    while (p < n && fabsf(rows[p * x->ncol + column]) <= FLT_MAX)
        p++;
    if (p == n)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->name, ": the squares of its input column %" PRIu64
                               " add up to more than a float", column);
    const float v = rows[p * x->ncol + column];
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->name, ": column %" PRIu64 " of what it is multiplied by is %s", column,
                           isnan(v) ? "NaN" : v > 0 ? "inf" : "-inf");
}

static enum apr_code add_rows(struct counted *x, uint64_t matrix, const float *rows, size_t n, struct apr_error *e)
{
    double *const sum = x->sum + matrix * x->ncol;
    for (size_t p = 0; p < n; p++)
        for (uint64_t i = 0; i < x->ncol; i++) {
            const double v = rows[p * x->ncol + i];
            sum[i] += v * v;
        }
    for (uint64_t i = 0; i < x->ncol; i++)
        if (!(sum[i] <= FLT_MAX))
            return odd_sum(x, i, rows, n, e);
    x->count[matrix] += n;
    return APR_OK;
}

enum apr_code apr_importance_add(struct apr_importance *im, const struct apr_matrix *w, const float *x, size_t n, struct apr_error *e)
{
    char name[APR_NAME_ROOM];
    struct counted *entry;
    for (unsigned i = 0; i < w->role->ntransform; i++)
        if (w->role->transform[i].op == APR_OP_MLA_SPLIT)
            return APR_OK;
    if (!apr_matrix_gguf_name(w, name) || strncmp(name, "blk.", 4) != 0)
        return APR_OK;
    const union apr_table_value *const stack = apr_table_find(&im->stacked, apr_text(name));
    APR_TRY(entry_of(im, apr_text(name), w->expert, stack == NULL ? 1 : stack->number, w->nin, &entry, e));
    struct part *const part = &entry->part[w->expert];
    if (part->in == NULL)
        *part = (struct part){ w->in, w->first };
    return part->in == w->in && part->first == w->first ? add_rows(entry, w->expert, x, n, e) : APR_OK;
}

size_t apr_importance_count(const struct apr_importance *im) { return im->nentry; }

/* ---- the file ------------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return apr_bytes_compare(((const struct counted *)a)->name, ((const struct counted *)b)->name);
}

/* n floats where as many doubles, or integers that are counts, stand: each is read before its place is written. */
static const float *narrowed_sums(double *sum, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const float v = (float)sum[i];
        memcpy((char *)sum + i * sizeof v, &v, sizeof v);
    }
    return (const float *)(void *)sum;
}

static const float *narrowed_counts(uint64_t *count, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const float v = (float)count[i];
        memcpy((char *)count + i * sizeof v, &v, sizeof v);
    }
    return (const float *)(void *)count;
}

/* One matrix alone is a vector, as ggml's tensors end with their last dim that is not 1. */
static enum apr_code plan_values(struct apr_plan *p, const struct counted *x, const char *suffix, uint64_t ncol, const float *values,
                                 struct apr_error *e)
{
    struct apr_planned t = { .dtype = &apr_dtypes[APR_F32], .ndim = 1, .dim = { ncol }, .how = APR_GENERATE, .values = values };
    if (x->nmatrix > 1) {
        t.ndim = 2;
        t.dim[0] = x->nmatrix;
        t.dim[1] = ncol;
    }
    t.name = apr_arena_format(&p->arena, "%.*s.%s", APR_PRINTED(x->name), suffix);
    return t.name.at == NULL ? apr_no_memory(e) : apr_plan_add(p, &t, e);
}

static enum apr_code plan_keys(struct apr_plan *p, const char *dataset, uint64_t chunks, uint64_t chunk_size, struct apr_error *e)
{
    struct apr_array datasets = { .element = APR_META_STRING };
    if (chunks > UINT32_MAX || chunk_size > UINT32_MAX)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%" PRIu64 " chunks of %" PRIu64 " tokens are more than an importance matrix can tell",
                        chunks, chunk_size);
    APR_TRY(apr_draft_text(&p->meta, "general.type", apr_text("imatrix"), e));
    if (dataset != NULL)
        apr_array_text(&datasets, apr_text(dataset));
    APR_TRY(apr_draft_array(&p->meta, "imatrix.datasets", &datasets, e));
    APR_TRY(apr_draft_u32(&p->meta, "imatrix.chunk_count", (uint32_t)chunks, e));
    return apr_draft_u32(&p->meta, "imatrix.chunk_size", (uint32_t)chunk_size, e);
}

static enum apr_code plan_entries(struct apr_plan *p, struct apr_importance *im, struct apr_error *e)
{
    qsort(im->entry, im->nentry, sizeof *im->entry, by_name);
    for (size_t i = 0; i < im->nentry; i++) {
        struct counted *const x = &im->entry[i];
        APR_TRY(plan_values(p, x, "in_sum2", x->ncol, narrowed_sums(x->sum, x->nmatrix * x->ncol), e));
        APR_TRY(plan_values(p, x, "counts", 1, narrowed_counts(x->count, x->nmatrix), e));
    }
    return APR_OK;
}

enum apr_code apr_importance_write(struct apr_importance *im, const char *path, const char *dataset, uint64_t chunks, uint64_t chunk_size,
                                   const struct apr_run *r, struct apr_error *e)
{
    struct apr_plan p = { .format = apr_format_called("gguf"), .out = path, .force = true };
    bool verified;
    if (im->nentry == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "no matrix of a layer was multiplied by anything: there is no importance to write");
    enum apr_code code = plan_keys(&p, dataset, chunks, chunk_size, e);
    if (code == APR_OK)
        code = plan_entries(&p, im, e);
    if (code == APR_OK)
        code = apr_plan_place(&p, e);
    if (code == APR_OK)
        code = apr_plan_write(&p, r, false, &verified, e);
    apr_plan_end(&p);
    return code;
}
