/* Rows and lists of names for people: name first, and no line longer than the terminal. */
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "model/json.h"
#include "ui/block_json.h"

/* ---- columns -------------------------------------------------------------------------------------------------------- */

/* Where a row has what. What does not fit a terminal is left out from the right; words that belong to few rows go below.
 *   total  columns of the terminal, 0: no end */
struct form {
    size_t total, name;
    bool   status, rmse, kinds;
};

#define NUMBERS    31u /* columns of the mark, cosine and max diff */
#define STATUS     17u
#define RMSE       13u
#define KINDS      33u /* dtypes and shape */
#define MOST_NAME  60u
#define LEAST_NAME 40u

static size_t others_of(const struct form *f)
{
    return NUMBERS + (f->status ? STATUS : 0) + (f->rmse ? RMSE : 0) + (f->kinds ? KINDS : 0);
}

static struct form form_of(const struct options *o)
{
    struct form f = { .total = o->cli.columns, .name = MOST_NAME, .status = true, .rmse = true, .kinds = true };
    if (f.total == 0)
        return f;
    f.kinds = f.total >= others_of(&f) + MOST_NAME;
    f.rmse = f.total >= others_of(&f) + LEAST_NAME;
    f.status = f.total >= others_of(&f) + LEAST_NAME;
    f.name = f.total > others_of(&f) + LEAST_NAME ? f.total - others_of(&f) : LEAST_NAME;
    f.name = f.name > MOST_NAME ? MOST_NAME : f.name;
    return f;
}

void print_columns(const struct options *o)
{
    const struct form f = form_of(o);
    printf("%s%-*s       %12s %11s%s%s%s%s\n", apr_style(o->cli.colour, APR_BOLD), (int)f.name, "tensor", "cosine", "max diff",
           f.rmse ? "         rmse" : "", f.status ? "  status" : "", f.kinds ? "           dtypes          shape" : "",
           apr_style(o->cli.colour, APR_PLAIN));
}

static void pad(FILE *to, size_t n) { fprintf(to, "%*s", (int)n, ""); }

/* A name that is longer than the terminal loses its beginning: layer and role stand at the end. Returns its columns. */
static size_t put_name(FILE *to, size_t most, struct apr_bytes name)
{
    size_t columns = apr_columns(name), cut = 0;
    while (most > 0 && columns > most) {
        const size_t step = apr_utf8_length(name.at + cut, name.n - cut);
        cut += step > 0 ? step : 1;
        columns = 3 + apr_columns((struct apr_bytes){ name.at + cut, name.n - cut });
    }
    fputs(cut > 0 ? "..." : "", to);
    apr_print_bytes(to, (struct apr_bytes){ name.at + cut, name.n - cut });
    return columns;
}

/* The name in its column; one that is longer has a line of its own. */
static void print_name(FILE *to, const struct form *f, struct apr_bytes name)
{
    const size_t columns = put_name(to, f->total, name);
    if (columns > f->name)
        fputc('\n', to);
    pad(to, columns > f->name ? f->name : f->name - columns);
}

void print_behind(const struct options *o, size_t at, struct apr_bytes name)
{
    const size_t most = o->cli.columns;
    if (most > 0 && at + apr_columns(name) > most)
        fputs("\n  ", stdout);
    put_name(stdout, most > 2 ? most - 2 : most, name);
    putchar('\n');
}

/* ---- a row ---------------------------------------------------------------------------------------------------------- */

static enum apr_style style_of(const struct row *r)
{
    if (!r->pass)
        return APR_RED;
    return r->status == STATUS_IDENTICAL || r->status == STATUS_NEARLY ? APR_GREEN : APR_PLAIN;
}

static void print_number(FILE *to, double v, int width)
{
    if (isnan(v))
        fprintf(to, "%*s", width, "-");
    else
        fprintf(to, "%*.*g", width, 6, v);
}

/* A cosine near 1 matters in how far from 1 it is; six digits would hide that. */
static void print_cosine(FILE *to, double v)
{
    if (isnan(v))
        fprintf(to, "%12s", "-");
    else if (v == 1)
        fprintf(to, "%12s", "1");
    else
        fprintf(to, "%12.9f", v > 1 - 5e-10 ? 1 - 1e-9 : v);
}

/* Words behind a row, two blanks before each; below it where the line would be too long. */
struct notes {
    FILE              *to;
    const struct form *form;
    size_t             at;
};

static void note(struct notes *n, const char *before, struct apr_bytes words)
{
    const size_t columns = strlen(before) + apr_columns(words);
    if (n->form->total > 0 && n->at + 2 + columns > n->form->total) {
        fputs("\n  ", n->to);
        n->at = 2;
    }
    fputs("  ", n->to);
    fputs(before, n->to);
    apr_print_bytes(n->to, words);
    n->at += 2 + columns;
}

static const char *spell_short(double v, char *text, size_t room)
{
    snprintf(text, room, isnan(v) ? "none" : "%.6g", v);
    return text;
}

#define MOST_PARTS 8u /* that are named; of a stack only the first is */

/* What else of B the row meets, of n parts. */
static void note_more(struct notes *n, size_t nparts)
{
    char count[32];
    snprintf(count, sizeof count, "%zu more", nparts - 1);
    if (nparts > MOST_PARTS)
        note(n, "+ ", apr_text(count));
}

static void note_parts(struct notes *n, const struct row *r)
{
    size_t nparts;
    const struct apr_tensor *const *const part = parts_met(r->pair, &nparts);
    for (size_t i = 1; i < nparts && nparts <= MOST_PARTS; i++)
        note(n, "+ ", part[i]->name);
    note_more(n, nparts);
}

static struct apr_bytes text_of(const json_t *string)
{
    return (struct apr_bytes){ (const unsigned char *)json_string_value(string), json_string_length(string) };
}

/* Those of a row that a share had; free with json_decref. NULL: none. */
static json_t *raw_parts(const struct row *r)
{
    struct apr_error ignored;
    json_t *list;
    return r->parts_raw[1].n > 0 && apr_json_load(&list, r->parts_raw[1], 0, &ignored) == APR_OK ? list : NULL;
}

static void note_raw_parts(struct notes *n, const struct row *r)
{
    json_t *const list = raw_parts(r);
    const size_t nparts = json_array_size(list);
    for (size_t i = 1; i < nparts && nparts <= MOST_PARTS; i++)
        note(n, "+ ", text_of(json_array_get(list, i)));
    if (list != NULL)
        note_more(n, nparts);
    json_decref(list);
}

/* Does it meet more than one tensor of B? The first is then named whatever room there is, or the others would look like all. */
static bool meets_several(const struct row *r)
{
    json_t *const list = r->pair == NULL ? raw_parts(r) : NULL;
    size_t nparts = json_array_size(list);
    json_decref(list);
    if (r->pair != NULL)
        parts_met(r->pair, &nparts);
    return nparts > 1;
}

static void print_notes(FILE *to, const struct form *f, size_t at, const struct row *r)
{
    struct notes n = { to, f, at };
    char shape[176], count[24];
    const char *const why[] = { r->transform, r->error, r->problem };
    if (!apr_bytes_equal(r->name, r->name_b) && (f->total == 0 || at + 4 + apr_columns(r->name_b) <= f->total || meets_several(r)))
        note(&n, "= ", r->name_b);
    if (r->pair != NULL)
        note_parts(&n, r);
    else
        note_raw_parts(&n, r);
    if (r->layout == LAYOUT_INCOMPATIBLE || r->layout == LAYOUT_RESHAPED)
        note(&n, r->layout == LAYOUT_RESHAPED ? "reshaped from " : "against ", apr_text(apr_spell_shape(r->dim_b, r->ndim_b, shape)));
    else if (r->layout != LAYOUT_SAME)
        note(&n, "", apr_text(layout_words[r->layout]));
    snprintf(count, sizeof count, "%llu", (unsigned long long)r->sums.nonfinite);
    if (r->sums.nonfinite > 0)
        note(&n, "nonfinite mismatch: ", apr_text(count));
    if (r->failed >> FAILED_SCALE & 1)
        note(&n, "norm ratio ", apr_text(spell_short(r->norm_ratio, count, sizeof count)));
    if (r->failed >> FAILED_SQNR & 1)
        note(&n, "sqnr in dB ", apr_text(spell_short(r->sqnr, count, sizeof count)));
    snprintf(count, sizeof count, "%llu", (unsigned long long)r->left_out);
    if (r->left_out > 0)
        note(&n, "rows that one side lacks: ", apr_text(count));
    if (r->ignored)
        note(&n, "", apr_text("ignored"));
    for (size_t i = 0; i < APR_LENGTH(why); i++)
        if (why[i] != NULL)
            note(&n, "", apr_text(why[i]));
}

static void print_kinds(FILE *to, const struct row *r)
{
    char shape[176];
    const size_t columns = apr_columns(apr_text(r->dtype_a)) + 1 + apr_columns(apr_text(r->dtype_b));
    fputs("  ", to);
    apr_print_text(to, r->dtype_a);
    fputc(' ', to);
    apr_print_text(to, r->dtype_b);
    pad(to, columns < 15 ? 15 - columns : 0);
    fprintf(to, " %s", apr_spell_shape(r->dim_a, r->ndim_a, shape));
}

/* The blocks around worst element number i, as JSON: one line a side. */
static void print_blocks(FILE *to, const struct options *o, const struct row *r, size_t i)
{
    for (int of_b = 0; of_b < 2; of_b++) {
        struct apr_out j = { .to = to };
        const struct apr_tensor *t;
        const unsigned char *block;
        const struct apr_bytes merged = r->pair != NULL ? (struct apr_bytes){ 0 } : of_b ? r->blocks[i].b : r->blocks[i].a;
        const bool own = r->pair != NULL && find_block(r, r->top[i].index, of_b, &t, &block);
        if (!own && merged.n == 0)
            continue;
        fprintf(to, "      block %c  ", of_b ? 'B' : 'A');
        if (own)
            apr_out_block(&j, NULL, o->cli.run.kernels, t->dtype, block);
        else
            apr_out_raw(&j, NULL, merged);
        fputc('\n', to);
    }
}

static void print_details(FILE *to, const struct options *o, const struct row *r)
{
    for (size_t i = 0; i < r->ntop; i++) {
        fprintf(to, "    element %llu: %.9g against %.9g\n", (unsigned long long)r->top[i].index, r->top[i].a, r->top[i].b);
        print_blocks(to, o, r, i);
    }
    for (size_t i = 0; i < r->nrows; i++) {
        fprintf(to, "    row %llu: rmse %.6g, max %.6g, cosine %.9f", (unsigned long long)r->rows[i].row, r->rows[i].rmse, r->rows[i].max,
                r->rows[i].cosine);
        if (r->rows[i].nonfinite > 0)
            fprintf(to, ", nonfinite mismatch: %llu", (unsigned long long)r->rows[i].nonfinite);
        fputc('\n', to);
    }
}

void print_row(FILE *to, const struct options *o, const struct row *r)
{
    const struct form f = form_of(o);
    const bool colour = o->cli.colour;
    print_name(to, &f, r->name);
    fprintf(to, "  %s%-4s%s ", apr_style(colour, style_of(r)), r->pass ? "" : "FAIL", apr_style(colour, APR_PLAIN));
    print_cosine(to, r->cosine);
    print_number(to, was_compared(r) ? r->sums.max : NAN, 12);
    if (f.rmse)
        print_number(to, r->rmse, (int)RMSE);
    if (f.status)
        fprintf(to, "  %s%-*s%s", apr_style(colour, style_of(r)), f.kinds ? 15 : 0, status_words[r->status], apr_style(colour, APR_PLAIN));
    if (f.kinds)
        print_kinds(to, r);
    print_notes(to, &f, f.name + others_of(&f), r);
    fputc('\n', to);
    print_details(to, o, r);
}
