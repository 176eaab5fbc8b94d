/* --tensors, --stats, --hash as text. */
#include "listing.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define WIDEST 100 /* columns of a name in a table; in a file longer ones push their row to the right */
#define LEAST   20 /* of those that a terminal leaves it */

/* ---- columns -------------------------------------------------------------------------------------------------------- */

static void widen(size_t *width, size_t columns) { *width = columns > *width ? columns : *width; }

static size_t digits_of(uint64_t n) { return (size_t)snprintf(NULL, 0, "%" PRIu64, n); }

struct listing listing_of(size_t nfile)
{
    struct listing l = { .name = strlen("tensor"), .offset = strlen("tensor"), .dtype = strlen("dtype"), .shape = strlen("dtype"),
                         .size = strlen("size") };
    l.file = nfile > 1 ? 2 + (digits_of(nfile - 1) > 4 ? digits_of(nfile - 1) : 4) : 0;
    return l;
}

void make_room(struct listing *l, const struct listed *t, unsigned indent)
{
    char shape[176];
    widen(&l->name, apr_columns(t->name) + indent);
    widen(&l->dtype, strlen(t->dtype));
    widen(&l->shape, strlen(apr_spell_shape(t->dim, t->ndim, shape)));
    widen(&l->offset, digits_of(t->offset));
    widen(&l->size, digits_of(t->size));
}

void fit_room(struct listing *l, const struct options *o)
{
    const size_t others = 2 + l->dtype + 2 + l->shape + l->file + 2 + l->offset + 2 + l->size, total = o->cli.columns;
    const size_t most = total == 0 ? WIDEST : total > others + LEAST ? total - others : LEAST;
    l->name = l->name > most ? most : l->name;
    l->alone = total > 0;
}

/* ---- lines ---------------------------------------------------------------------------------------------------------- */

void print_file(size_t i, struct apr_bytes path)
{
    printf("file %zu  ", i);
    apr_print_bytes(stdout, path);
    putchar('\n');
}

void print_header(const struct listing *l, const struct options *o)
{
    const bool colour = o->cli.colour;
    printf("%s%-*s  %-*s  %-*s%*s  %*s  %*s%s\n", apr_style(colour, APR_BOLD), (int)l->name, "tensor", (int)l->dtype, "dtype",
           (int)l->shape, "shape", (int)l->file, l->file > 0 ? "file" : "", (int)l->offset, "offset", (int)l->size, "size",
           apr_style(colour, APR_PLAIN));
}

void print_line(const struct listing *l, const struct listed *t, unsigned indent)
{
    const size_t columns = apr_columns(t->name) + indent, rest = columns <= l->name ? l->name - columns : 0;
    const bool alone = columns > l->name && l->alone;
    char shape[176];
    printf("%*s", (int)indent, "");
    apr_print_bytes(stdout, t->name);
    printf("%s%*s", alone ? "\n" : "", (int)(alone ? l->name : rest), "");
    printf("  %-*s  %-*s", (int)l->dtype, t->dtype, (int)l->shape, apr_spell_shape(t->dim, t->ndim, shape));
    if (l->file > 0)
        printf("%*" PRIu64, (int)l->file, t->file);
    printf("  %*" PRIu64 "  %*" PRIu64 "%s\n", (int)l->offset, t->offset, (int)l->size, t->size, t->tied ? "  tied" : "");
}

/* ---- what was found ------------------------------------------------------------------------------------------------- */

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

void print_scanned(const struct options *o, const struct scanned *row)
{
    char hex[33];
    if (o->stats)
        print_stats(row, o->cli.colour);
    if (o->hash) {
        printf("    bytes  %s\n", apr_digest_spell(row->hash, hex));
        printf("    values %s\n", row->decodable ? apr_digest_spell(row->value_hash, hex) : "-");
    }
}

void print_model_hash(struct apr_digest d)
{
    char hex[33];
    printf("\nmodel  %s\n", apr_digest_spell(d, hex));
}
