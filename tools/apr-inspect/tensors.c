/* --tensors, --stats, --hash: one tensor after the other, as text and as JSON. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "files/source.h"
#include "inspect.h"
#include "model/model.h"

#define WIDEST 100 /* columns of a name in a table; in a file longer ones push their row to the right */
#define LEAST   20 /* of those that a terminal leaves it */

/* What the rows share: how many columns each part of them takes. */
struct listing {
    struct inspection      *x;
    struct apr_out         *json;
    size_t                  name, dtype, shape, file, offset, size;
    struct apr_model_digest digest;
};

static unsigned asked(const struct options *o) { return (o->stats ? SCAN_STATS : 0u) | (o->hash ? SCAN_HASH : 0u); }

/* Some of the tensors are no model. */
static bool has_model_hash(const struct options *o) { return o->hash && o->selection.filter == NULL; }

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

/* ---- text ----------------------------------------------------------------------------------------------------------- */

/* A column of eight heights for each bin, the highest bin full. */
static void print_spark(const uint64_t bin[APR_SPARK_BINS])
{
    static const char *const height[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    uint64_t most = 1;
    for (size_t i = 0; i < APR_SPARK_BINS; i++)
        most = bin[i] > most ? bin[i] : most;
    for (size_t i = 0; i < APR_SPARK_BINS; i++)
        fputs(height[bin[i] == 0 ? 0 : 1 + (size_t)(7 * (double)bin[i] / (double)most)], stdout);
}

static void print_real(const char *label, double v)
{
    if (isnan(v))
        printf("  %s -", label);
    else
        printf("  %s %.6g", label, v);
}

static void print_stats(const struct scanned *row, bool colour)
{
    const struct apr_stats *s = &row->stats;
    if (!row->decodable) {
        puts("    values of this type are not decoded");
        return;
    }
    printf("  ");
    print_real("min", s->min);
    print_real("max", s->max);
    print_real("mean", s->mean);
    print_real("std", s->std);
    print_real("rms", s->rms);
    print_real("kurtosis", s->kurtosis);
    printf("\n    zeros %" PRIu64, s->zeros);
    const bool bad = s->nans + s->infs > 0;
    printf("%s  NaN %" PRIu64 "  Inf %" PRIu64 "%s\n    percentiles %s", apr_style(bad && colour, APR_RED), s->nans, s->infs,
           apr_style(bad && colour, APR_PLAIN), s->exact ? "(exact)" : "(4096 bins)");
    for (size_t i = 0; i < APR_NPERCENTILES; i++)
        if (isnan(s->percentile[i]))
            printf("  %u: -", apr_percentiles[i]);
        else
            printf("  %u: %.4g", apr_percentiles[i], s->percentile[i]);
    printf("\n    [");
    print_spark(s->spark);
    puts("]");
}

/* The stored tensors of a packed one, where they are asked for; else none. */
static const struct apr_tensor *const *parts_shown(const struct inspection *x, const struct apr_tensor *t, size_t *n)
{
    *n = 0;
    return x->o->full && t->packed != NULL ? apr_packing_parts(x->packing, (size_t)(t - x->m->tensor), n) : NULL;
}

static void widen(size_t *width, size_t columns) { *width = columns > *width ? columns : *width; }

static size_t digits_of(uint64_t n) { return (size_t)snprintf(NULL, 0, "%" PRIu64, n); }

/* Room for a line. */
static void make_room(struct listing *l, const struct apr_tensor *t, unsigned indent)
{
    char shape[176];
    widen(&l->name, apr_columns(t->name) + indent);
    widen(&l->dtype, strlen(stored_dtype(t)->name));
    widen(&l->shape, strlen(apr_spell_shape(t->dim, t->ndim, shape)));
    widen(&l->offset, digits_of(apr_tensor_offset(l->x->m, t)));
    widen(&l->size, digits_of(stored_bytes(t)));
}

/* The widest of each part; a name gets what a terminal leaves it. */
static void measure(struct listing *l)
{
    const struct inspection *const x = l->x;
    size_t n;
    l->name = l->offset = strlen("tensor");
    l->dtype = l->shape = strlen("dtype");
    l->size = strlen("size");
    for (size_t i = 0; i < x->m->ntensor; i++)
        if (is_chosen(x, &x->m->tensor[i])) {
            const struct apr_tensor *const *const part = parts_shown(x, &x->m->tensor[i], &n);
            make_room(l, &x->m->tensor[i], 0);
            for (size_t k = 0; k < n; k++)
                make_room(l, part[k], 2);
        }
    l->file = x->m->nfile > 1 ? 2 + (digits_of(x->m->nfile - 1) > 4 ? digits_of(x->m->nfile - 1) : 4) : 0;
    const size_t others = 2 + l->dtype + 2 + l->shape + l->file + 2 + l->offset + 2 + l->size, total = x->o->cli.columns;
    const size_t most = total == 0 ? WIDEST : total > others + LEAST ? total - others : LEAST;
    l->name = l->name > most ? most : l->name;
}

/* On a terminal a name that is wider than its column has a line of its own. */
static void print_line(const struct listing *l, const struct apr_tensor *t, unsigned indent)
{
    const size_t columns = apr_columns(t->name) + indent, rest = columns <= l->name ? l->name - columns : 0;
    const bool alone = columns > l->name && l->x->o->cli.columns > 0;
    char shape[176];
    printf("%*s", (int)indent, "");
    apr_print_bytes(stdout, t->name);
    printf("%s%*s", alone ? "\n" : "", (int)(alone ? l->name : rest), "");
    printf("  %-*s  %-*s", (int)l->dtype, stored_dtype(t)->name, (int)l->shape, apr_spell_shape(t->dim, t->ndim, shape));
    if (l->file > 0)
        printf("%*u", (int)l->file, t->file);
    printf("  %*" PRIu64 "  %*" PRIu64 "%s\n", (int)l->offset, apr_tensor_offset(l->x->m, t), (int)l->size, stored_bytes(t), t->tied ? "  tied" : "");
}

static void print_row(const struct listing *l, const struct scanned *row)
{
    const struct apr_tensor *t = row->t;
    char hex[33];
    size_t n;
    print_line(l, t, 0);
    const struct apr_tensor *const *const part = parts_shown(l->x, t, &n);
    for (size_t i = 0; i < n; i++)
        print_line(l, part[i], 2);
    if (l->x->o->stats)
        print_stats(row, l->x->o->cli.colour);
    if (l->x->o->hash) {
        printf("    bytes  %s\n", apr_digest_spell(row->hash, hex));
        printf("    values %s\n", row->decodable ? apr_digest_spell(row->value_hash, hex) : "-");
    }
}

static void print_header(const struct listing *l)
{
    const struct apr_model *m = l->x->m;
    const bool colour = l->x->o->cli.colour;
    if (m->nfile > 1)
        for (size_t i = 0; i < m->nfile; i++) {
            printf("file %zu  ", i);
            apr_print_bytes(stdout, apr_text(m->file[i]->path));
            putchar('\n');
        }
    printf("%s%-*s  %-*s  %-*s%*s  %*s  %*s%s\n", apr_style(colour, APR_BOLD), (int)l->name, "tensor", (int)l->dtype, "dtype", (int)l->shape, "shape",
           (int)l->file, l->file > 0 ? "file" : "", (int)l->offset, "offset", (int)l->size, "size", apr_style(colour, APR_PLAIN));
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

static enum apr_code take_row(void *listing, const struct scanned *row, struct apr_error *e)
{
    struct listing *l = listing;
    (void)e;
    if (l->x->o->hash)
        apr_model_digest_add(&l->digest, row->t, row->hash);
    if (l->json != NULL)
        write_row(l->json, l->x, row);
    else
        print_row(l, row);
    return APR_OK;
}

static enum apr_code list(struct listing *l, struct apr_error *e)
{
    const struct apr_model *m = l->x->m;
    if (asked(l->x->o) != 0)
        return scan_tensors(l->x, asked(l->x->o), take_row, l, e);
    for (size_t i = 0; i < m->ntensor; i++)
        if (is_chosen(l->x, &m->tensor[i]))
            APR_TRY(take_row(l, &(struct scanned){ .t = &m->tensor[i] }, e));
    return APR_OK;
}

enum apr_code write_tensors(struct apr_out *j, struct inspection *x, struct apr_error *e)
{
    struct listing l = { .x = x, .json = j };
    char hex[33];
    apr_out_open(j, "tensors", '[');
    const enum apr_code code = list(&l, e);
    apr_out_close(j, ']');
    if (code == APR_OK && has_model_hash(x->o))
        apr_out_text(j, "model_hash", apr_digest_spell(apr_model_digest_end(&l.digest), hex));
    return code;
}

int show_tensors(struct inspection *x)
{
    struct listing l = { .x = x };
    struct apr_error e;
    char hex[33];
    measure(&l);
    print_header(&l);
    if (list(&l, &e) != APR_OK) {
        apr_error_in(&e, x->path);
        return apr_cli_fail(&x->o->cli, &e);
    }
    if (has_model_hash(x->o))
        printf("\nmodel  %s\n", apr_digest_spell(apr_model_digest_end(&l.digest), hex));
    return APR_EXIT_YES;
}
