/* One row of the report, as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "ui/block_json.h"
#include "values/chunk.h"
#include "values/packed.h"

const char *const layout_words[] = { "same", "reversed_shape", "transposed", "reshaped", "incompatible" };
const char *const status_words[NSTATUS] = { "Identical", "NearlyIdentical", "SmallDiff", "MediumDiff", "LargeDiff", "Critical",
                                            "Transposed" };
const char *const failure_words[NFAILURES] = { "cosine", "scale", "sqnr", "max_abs", "rmse", "nonfinite", "shape", "layout", "values" };

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

/* parts: numbers an element consists of; when it is more than one, which of them comes last. */
static void write_index(struct apr_out *j, const char *key, uint64_t index, const uint64_t *dim, unsigned ndim, unsigned parts)
{
    uint64_t at[APR_MAX_DIMS + 1] = { 0 };
    at[ndim] = index % parts;
    index /= parts;
    for (unsigned i = ndim; i-- > 0 && dim[i] > 0;) {
        at[i] = index % dim[i];
        index /= dim[i];
    }
    apr_out_counts(j, key, at, ndim + (parts > 1));
}

/* Where element `index` of A lies in B: in *t, at the index returned; *t is NULL where B has no place for it. */
static uint64_t place_in_b(const struct row *r, uint64_t index, const struct apr_tensor **t)
{
    const struct apr_view *v = r->pair->view;
    *t = r->pair->b;
    if (v == NULL)
        return r->layout == LAYOUT_TRANSPOSED ? index % r->dim_a[1] * r->dim_a[0] + index / r->dim_a[1] : index;
    const struct apr_place place = apr_view_place(v, index - r->pair->before);
    *t = place.part == v->npart ? NULL : v->part[place.part];
    return place.index;
}

bool find_block(const struct row *r, uint64_t index, bool of_b, const struct apr_tensor **t, const unsigned char **block)
{
    const struct pair *p = r->pair;
    *t = p->a;
    if (of_b)
        index = place_in_b(r, index, t);
    if (*t == NULL || (*t)->dtype->block == 1 || (*t)->swapped || ((*t)->packed != NULL && (*t)->packed->form != APR_PACKED_BLOCKS))
        return false;
    *block = apr_element_bytes(*t, index, 1).at;
    return true;
}

static void write_element(struct apr_out *j, const struct options *o, const struct row *r, size_t i)
{
    const unsigned parts = r->pair->a->dtype->pair != NULL ? 2 : 1;
    const struct worst *w = &r->top[i];
    const struct apr_tensor *t;
    const unsigned char *block;
    apr_out_open(j, NULL, '{');
    apr_out_count(j, "index", w->index);
    write_index(j, "index_a", w->index, r->dim_a, r->ndim_a, parts);
    const uint64_t index_b = place_in_b(r, w->index, &t);
    if (t != NULL)
        write_index(j, "index_b", index_b, t->dim, t->ndim, parts);
    else
        apr_out_null(j, "index_b");
    apr_out_bytes(j, "name_b", t == NULL ? (struct apr_bytes){ 0 } : t->name);
    apr_out_real(j, "a", w->a);
    apr_out_real(j, "b", w->b);
    apr_out_real(j, "abs_diff", w->diff);
    for (int of_b = 0; of_b < 2; of_b++)
        if (find_block(r, w->index, of_b, &t, &block))
            apr_out_block(j, of_b ? "block_b" : "block_a", o->cli.run.kernels, t->dtype, block);
    apr_out_close(j, '}');
}

static void write_top(struct apr_out *j, const struct options *o, const struct row *r)
{
    if (r->pair == NULL) {
        apr_out_raw(j, "top", r->top_raw);
        return;
    }
    apr_out_open(j, "top", '[');
    for (size_t i = 0; i < r->ntop; i++)
        write_element(j, o, r, i);
    apr_out_close(j, ']');
}

static void write_rows(struct apr_out *j, const struct row *r)
{
    apr_out_open(j, "rows", '[');
    for (size_t i = 0; i < r->nrows; i++) {
        apr_out_open(j, NULL, '{');
        apr_out_count(j, "row", r->rows[i].row);
        apr_out_real(j, "rmse", r->rows[i].rmse);
        apr_out_real(j, "max_diff", r->rows[i].max);
        apr_out_real(j, "cosine_similarity", r->rows[i].cosine);
        apr_out_count(j, "nonfinite_mismatch", r->rows[i].nonfinite);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

/* The stored tensors that the row meets. */
static void write_parts(struct apr_out *j, const struct row *r)
{
    static const char *const keys[] = { "parts_a", "parts_b" };
    for (unsigned i = 0; r->pair == NULL && i < 2; i++)
        if (r->parts_raw[i].n > 0)
            apr_out_raw(j, keys[i], r->parts_raw[i]);
    if (r->pair == NULL)
        return;
    size_t n;
    const struct apr_tensor *const *const part = parts_met(r->pair, &n);
    apr_out_open(j, keys[0], '[');
    apr_out_bytes(j, NULL, r->pair->a->name);
    apr_out_close(j, ']');
    apr_out_open(j, keys[1], '[');
    for (size_t i = 0; i < n; i++)
        apr_out_bytes(j, NULL, part[i]->name);
    apr_out_close(j, ']');
}

static void write_failures(struct apr_out *j, const struct row *r)
{
    apr_out_open(j, "failed", '[');
    for (unsigned i = 0; i < NFAILURES; i++)
        if (r->failed >> i & 1)
            apr_out_text(j, NULL, failure_words[i]);
    apr_out_close(j, ']');
}

void write_row(struct apr_out *j, const struct options *o, const struct row *r)
{
    const bool compared = was_compared(r);
    apr_out_bytes(j, "name", r->name);
    apr_out_bytes(j, "name_b", r->name_b);
    apr_out_counts(j, "shape_a", r->dim_a, r->ndim_a);
    apr_out_counts(j, "shape_b", r->dim_b, r->ndim_b);
    apr_out_text(j, "dtype_a", r->dtype_a);
    apr_out_text(j, "dtype_b", r->dtype_b);
    apr_out_text(j, "layout", layout_words[r->layout]);
    apr_out_text(j, "transform", r->transform);
    apr_out_count(j, "element_count", r->count);
    apr_out_count(j, "identical_count", r->sums.identical);
    apr_out_count(j, "small_diff_count", r->sums.small);
    apr_out_count(j, "medium_diff_count", r->sums.medium);
    apr_out_count(j, "large_diff_count", r->sums.large);
    apr_out_count(j, "nonfinite_mismatch", r->sums.nonfinite);
    apr_out_real(j, "mean_diff", r->mean);
    apr_out_real(j, "max_diff", compared ? r->sums.max : NAN);
    if (compared && r->sums.max > 0)
        apr_out_count(j, "max_diff_index", r->sums.max_at);
    else
        apr_out_null(j, "max_diff_index");
    apr_out_real(j, "rmse", r->rmse);
    apr_out_real(j, "cosine_similarity", r->cosine);
    apr_out_real(j, "norm_ratio", r->norm_ratio);
    apr_out_real(j, "sqnr_db", r->sqnr);
    apr_out_real(j, "cosine_linear", r->cosine_linear);
    apr_out_real(j, "cosine_transposed", r->cosine_transposed);
    apr_out_text(j, "status", status_words[r->status]);
    apr_out_bool(j, "pass", r->pass);
    write_failures(j, r);
    apr_out_count(j, "rows_left_out", r->left_out);
    write_parts(j, r);
    if (r->ignored)
        apr_out_bool(j, "ignored", true);
    if (r->error != NULL)
        apr_out_text(j, "error", r->error);
    if (r->problem != NULL)
        apr_out_text(j, "problem", r->problem);
    const bool merged = r->pair == NULL; /* what its share had */
    if (merged ? r->top_raw.n > 0 : o->top > 0)
        write_top(j, o, r);
    if (merged ? r->rows != NULL : o->rows > 0)
        write_rows(j, r);
}
