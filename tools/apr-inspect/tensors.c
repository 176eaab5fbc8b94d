/* --tensors, --stats, --hash: one tensor after the other, as text and as JSON. */
#include <stdio.h>

#include "files/source.h"
#include "listing.h"
#include "model/model.h"

/* What rows are written to, one after the other; json: or NULL, then to a table. */
struct rows {
    struct inspection      *x;
    struct apr_out         *json;
    struct listing          listing;
    struct apr_model_digest digest;
};

static unsigned asked(const struct options *o) { return (o->stats ? SCAN_STATS : 0u) | (o->hash ? SCAN_HASH : 0u); }

bool has_model_hash(const struct options *o) { return o->hash && !o->filtered && o->nparts == 0; }

static struct listed listed_of(const struct inspection *x, const struct apr_tensor *t)
{
    struct listed l = { .name = t->name, .dtype = stored_dtype(t)->name, .ndim = t->ndim, .file = t->file,
                        .offset = apr_tensor_offset(x->m, t), .size = stored_bytes(t), .tied = t->tied };
    for (unsigned i = 0; i < t->ndim; i++)
        l.dim[i] = t->dim[i];
    return l;
}

/* The stored tensors of a packed one, where they are asked for; else none. */
static const struct apr_tensor *const *parts_shown(const struct inspection *x, const struct apr_tensor *t, size_t *n)
{
    *n = 0;
    return x->o->full && t->packed != NULL ? apr_packing_parts(x->packing, (size_t)(t - x->m->tensor), n) : NULL;
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void write_stats(struct apr_out *j, const struct scanned *row)
{
    const struct apr_stats *s = &row->stats;
    if (!row->decodable) {
        apr_out_text(j, "error", "values of this type are not decoded");
        return;
    }
    apr_out_count(j, "count", s->count);
    apr_out_real(j, "min", s->min);
    apr_out_real(j, "max", s->max);
    apr_out_real(j, "mean", s->mean);
    apr_out_real(j, "std", s->std);
    apr_out_real(j, "rms", s->rms);
    apr_out_count(j, "zero_count", s->zeros);
    apr_out_count(j, "nan_count", s->nans);
    apr_out_count(j, "inf_count", s->infs);
    for (size_t i = 0; i < APR_NPERCENTILES; i++) {
        char key[8];
        snprintf(key, sizeof key, "p%u", apr_percentiles[i]);
        apr_out_real(j, key, s->percentile[i]);
    }
    apr_out_bool(j, "percentiles_exact", s->exact);
    apr_out_real(j, "kurtosis", s->kurtosis);
    apr_out_counts(j, "histogram", s->spark, APR_SPARK_BINS);
}

/* The stored tensors of a packed one, codes first. */
static void write_parts(struct apr_out *j, const struct inspection *x, const struct apr_tensor *t)
{
    size_t n;
    const struct apr_tensor *const *const part = apr_packing_parts(x->packing, (size_t)(t - x->m->tensor), &n);
    apr_out_open(j, "parts", '[');
    for (size_t i = 0; i < n; i++) {
        apr_out_open(j, NULL, '{');
        apr_out_bytes(j, "name", part[i]->name);
        apr_out_text(j, "dtype", part[i]->dtype->name);
        apr_out_counts(j, "shape", part[i]->dim, part[i]->ndim);
        apr_out_count(j, "file", part[i]->file);
        apr_out_count(j, "offset", apr_tensor_offset(x->m, part[i]));
        apr_out_count(j, "size", part[i]->data.n);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

void write_row(struct apr_out *j, const struct inspection *x, const struct scanned *row)
{
    const struct apr_tensor *t = row->t;
    char hex[33];
    apr_out_open(j, NULL, '{');
    apr_out_bytes(j, "name", t->name);
    apr_out_text(j, "dtype", stored_dtype(t)->name);
    apr_out_counts(j, "shape", t->dim, t->ndim);
    apr_out_count(j, "file", t->file);
    apr_out_count(j, "offset", apr_tensor_offset(x->m, t));
    apr_out_count(j, "size", stored_bytes(t));
    if (t->tied)
        apr_out_bool(j, "tied", true);
    if (x->o->full && t->packed != NULL)
        write_parts(j, x, t);
    if (x->o->stats)
        write_stats(j, row);
    if (x->o->hash) {
        apr_out_text(j, "hash", apr_digest_spell(row->hash, hex));
        apr_out_text(j, "value_hash", row->decodable ? apr_digest_spell(row->value_hash, hex) : NULL);
    }
    apr_out_close(j, '}');
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

static void print_row(struct rows *r, const struct scanned *row)
{
    const struct inspection *const x = r->x;
    size_t n;
    const struct apr_tensor *const *const part = parts_shown(x, row->t, &n);
    const struct listed line = listed_of(x, row->t);
    print_line(&r->listing, &line, 0);
    for (size_t i = 0; i < n; i++) {
        const struct listed one = listed_of(x, part[i]);
        print_line(&r->listing, &one, 2);
    }
    print_scanned(x->o, row);
}

static enum apr_code take_row(void *rows, const struct scanned *row, struct apr_error *e)
{
    struct rows *r = rows;
    (void)e;
    if (r->x->o->hash)
        apr_model_digest_add(&r->digest, row->t, row->hash);
    if (r->json != NULL)
        write_row(r->json, r->x, row);
    else
        print_row(r, row);
    return APR_OK;
}

static enum apr_code list(struct rows *r, struct apr_error *e)
{
    const struct apr_model *m = r->x->m;
    if (asked(r->x->o) != 0)
        return scan_tensors(r->x, asked(r->x->o), take_row, r, e);
    for (size_t i = 0; i < m->ntensor; i++)
        if (is_chosen(r->x, &m->tensor[i]))
            APR_TRY(take_row(r, &(struct scanned){ .t = &m->tensor[i] }, e));
    return APR_OK;
}

enum apr_code write_tensors(struct apr_out *j, struct inspection *x, struct apr_error *e)
{
    struct rows r = { .x = x, .json = j };
    char hex[33];
    apr_out_open(j, "tensors", '[');
    const enum apr_code code = list(&r, e);
    apr_out_close(j, ']');
    if (code == APR_OK && has_model_hash(x->o))
        apr_out_text(j, "model_hash", apr_digest_spell(apr_model_digest_end(&r.digest), hex));
    return code;
}

/* Room for all that will be listed. */
static void measure(struct listing *l, const struct inspection *x)
{
    size_t n;
    *l = listing_of(x->m->nfile);
    for (size_t i = 0; i < x->m->ntensor; i++)
        if (is_chosen(x, &x->m->tensor[i])) {
            const struct apr_tensor *const *const part = parts_shown(x, &x->m->tensor[i], &n);
            const struct listed line = listed_of(x, &x->m->tensor[i]);
            make_room(l, &line, 0);
            for (size_t k = 0; k < n; k++) {
                const struct listed one = listed_of(x, part[k]);
                make_room(l, &one, 2);
            }
        }
    fit_room(l, x->o);
}

int show_tensors(struct inspection *x)
{
    struct rows r = { .x = x };
    struct apr_error e;
    measure(&r.listing, x);
    for (size_t i = 0; x->m->nfile > 1 && i < x->m->nfile; i++)
        print_file(i, apr_text(x->m->file[i]->path));
    print_header(&r.listing, x->o);
    if (list(&r, &e) != APR_OK) {
        apr_error_in(&e, x->path);
        return apr_cli_fail(&x->o->cli, &e);
    }
    if (has_model_hash(x->o))
        print_model_hash(apr_model_digest_end(&r.digest));
    return APR_EXIT_YES;
}
