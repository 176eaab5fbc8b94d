#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "model/json.h"
#include "ui/block_json.h"
#include "values/chunk.h"

struct text_row {
    char  *line;
    size_t order;
    double cosine, rmse, max;
};

const char *const layout_words[] = { "same", "reversed_shape", "transposed", "reshaped", "incompatible" };
const char *const status_words[NSTATUS] = { "Identical", "NearlyIdentical", "SmallDiff", "MediumDiff", "LargeDiff", "Critical",
                                            "Transposed" };

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

/* The position in B of element `index` of A. */
static uint64_t index_in_b(const struct row *r, uint64_t index)
{
    return r->layout == LAYOUT_TRANSPOSED ? index % r->dim_a[1] * r->dim_a[0] + index / r->dim_a[1] : index;
}

/* The block that holds an element, taken apart; nothing for a type without blocks. */
static void write_block(struct apr_out *j, const char *key, const struct apr_kernels *k, const struct apr_tensor *t, uint64_t index)
{
    if (t->dtype->block > 1 && !t->swapped)
        apr_out_block(j, key, k, t->dtype, apr_element_bytes(t, index, 1).at);
}

static void write_blocks(struct apr_out *j, const struct options *o, const struct row *r, uint64_t index)
{
    const struct pair *p = r->pair;
    write_block(j, "block_a", o->cli.run.kernels, p->a, index);
    if (p->view == NULL) {
        write_block(j, "block_b", o->cli.run.kernels, p->b, index_in_b(r, index));
        return;
    }
    const struct apr_place place = apr_view_place(p->view, index);
    if (place.part < p->view->npart)
        write_block(j, "block_b", o->cli.run.kernels, p->view->part[place.part], place.index);
}

static void write_element(struct apr_out *j, const struct options *o, const struct row *r, size_t i)
{
    const unsigned parts = strcmp(r->dtype_a, apr_dtypes[APR_C64].name) == 0 ? 2 : 1;
    const struct worst *w = &r->top[i];
    apr_out_open(j, NULL, '{');
    apr_out_count(j, "index", w->index);
    write_index(j, "index_a", w->index, r->dim_a, r->ndim_a, parts);
    write_index(j, "index_b", index_in_b(r, w->index), r->dim_b, r->ndim_b, parts);
    apr_out_real(j, "a", w->a);
    apr_out_real(j, "b", w->b);
    apr_out_real(j, "abs_diff", w->diff);
    write_blocks(j, o, r, w->index);
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

static void write_row(struct apr_out *j, const struct options *o, const struct row *r)
{
    const bool compared = was_compared(r);
    apr_out_open(j, NULL, '{');
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
    apr_out_real(j, "sqnr_db", r->sqnr);
    apr_out_real(j, "cosine_linear", r->cosine_linear);
    apr_out_real(j, "cosine_transposed", r->cosine_transposed);
    apr_out_text(j, "status", status_words[r->status]);
    apr_out_bool(j, "pass", r->pass);
    if (r->ignored)
        apr_out_bool(j, "ignored", true);
    if (r->error != NULL)
        apr_out_text(j, "error", r->error);
    if (r->problem != NULL)
        apr_out_text(j, "problem", r->problem);
    if (o->top > 0)
        write_top(j, o, r);
    if (o->rows > 0)
        write_rows(j, r);
    apr_out_close(j, '}');
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

static enum apr_style style_of(const struct row *r)
{
    if (!r->pass)
        return APR_RED;
    return r->status == STATUS_IDENTICAL || r->status == STATUS_NEARLY ? APR_GREEN : APR_YELLOW;
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

bool close_text(FILE *to, char *const *text) { return fclose(to) == 0 && *text != NULL; }

/* The blocks around worst element number i, as their JSON: one line a side. */
static void print_blocks(FILE *to, const struct options *o, const struct row *r, size_t i)
{
    char *text = NULL;
    size_t n = 0;
    struct apr_walk w, members;
    struct apr_item item = { .value = r->top_raw };
    struct apr_error never;
    bool more = true;
    if (r->pair != NULL) {
        FILE *memory = open_memstream(&text, &n);
        if (memory == NULL)
            return;
        write_element(&(struct apr_out){ .to = memory }, o, r, i);
        if (!close_text(memory, &text))
            return;
        item.value = (struct apr_bytes){ (const unsigned char *)text, n };
    } else if (apr_walk_in(&w, r->top_raw, 0, '[', &never) == APR_OK) {
        for (size_t k = 0; more && k <= i; k++)
            more = apr_walk_next(&w, &item, &more, &never) == APR_OK && more;
    }
    more = apr_walk_in(&members, item.value, 0, '{', &never) == APR_OK;
    while (more && apr_walk_next(&members, &item, &more, &never) == APR_OK && more)
        if (apr_bytes_equal(item.key, apr_text("\"block_a\"")) || apr_bytes_equal(item.key, apr_text("\"block_b\""))) {
            fprintf(to, "      block %c  ", item.key.at[7] == 'a' ? 'A' : 'B');
            apr_out_raw(&(struct apr_out){ .to = to }, NULL, item.value);
            fputc('\n', to);
        }
    free(text);
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

static void print_row(FILE *to, const struct options *o, const struct row *r)
{
    char shape[176], dtypes[64];
    const bool colour = o->cli.colour;
    const bool incompatible = r->layout == LAYOUT_INCOMPATIBLE;
    snprintf(dtypes, sizeof dtypes, "%s %s", r->dtype_a, r->dtype_b);
    fprintf(to, "%s%-15s%s ", apr_style(colour, style_of(r)), status_words[r->status], apr_style(colour, APR_PLAIN));
    print_cosine(to, r->cosine);
    print_number(to, was_compared(r) ? r->sums.max : NAN, 13);
    print_number(to, r->rmse, 13);
    fprintf(to, "  %-15s %-16s ", dtypes, apr_spell_shape(r->dim_a, r->ndim_a, shape));
    apr_print_bytes(to, r->name);
    if (!apr_bytes_equal(r->name, r->name_b)) {
        fputs(" = ", to);
        apr_print_bytes(to, r->name_b);
    }
    if (incompatible || r->layout == LAYOUT_RESHAPED)
        fprintf(to, "  %s %s", incompatible ? "against" : "reshaped from", apr_spell_shape(r->dim_b, r->ndim_b, shape));
    else if (r->layout != LAYOUT_SAME)
        fprintf(to, "  %s", layout_words[r->layout]);
    if (r->sums.nonfinite > 0)
        fprintf(to, "  nonfinite mismatch: %llu", (unsigned long long)r->sums.nonfinite);
    if (r->ignored)
        fputs("  ignored", to);
    if (r->transform != NULL)
        fprintf(to, "  %s", r->transform);
    if (r->error != NULL)
        fprintf(to, "  %s", r->error);
    if (r->problem != NULL)
        fprintf(to, "  %s", r->problem);
    fputc('\n', to);
    print_details(to, o, r);
}

static enum apr_code keep_text(struct output *out, const struct row *r, struct apr_error *e)
{
    struct text_row *more = apr_grown(out->kept, &out->room, out->nkept, 256, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    out->kept = more;
    struct text_row *k = &out->kept[out->nkept];
    size_t n = 0;
    *k = (struct text_row){ .order = out->nkept, .cosine = r->cosine, .rmse = r->rmse, .max = was_compared(r) ? r->sums.max : NAN };
    FILE *to = open_memstream(&k->line, &n);
    if (to == NULL)
        return apr_no_memory(e);
    print_row(to, out->o, r);
    if (!close_text(to, &k->line)) {
        free(k->line);
        return apr_no_memory(e);
    }
    out->nkept++;
    return APR_OK;
}

/* Worst first; what could not be compared is worst of all. */
static int descending(double x, double y)
{
    if (isnan(x) || isnan(y))
        return isnan(y) - isnan(x);
    return (x < y) - (x > y);
}

static int by_key(const void *a, const void *b, void *key)
{
    const struct text_row *x = a, *y = b;
    const enum sort_key k = *(const enum sort_key *)key;
    const int order = k == SORT_COSINE ? descending(-x->cosine, -y->cosine)
                    : k == SORT_RMSE   ? descending(x->rmse, y->rmse)
                                       : descending(x->max, y->max);
    return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static void print_kept(struct output *out)
{
    enum sort_key key = (enum sort_key)out->o->sort;
    if (out->nkept > 0)
        qsort_r(out->kept, out->nkept, sizeof *out->kept, by_key, &key);
    for (size_t i = 0; i < out->nkept; i++)
        fputs(out->kept[i].line, stdout);
}

/* ---- the report ----------------------------------------------------------------------------------------------------- */

static void write_subject(const struct output *out, struct apr_out *j)
{
    apr_out_text(j, "schema", "apr-diff/1");
    apr_out_text(j, "model_a", out->subject.model_a);
    apr_out_text(j, "model_b", out->subject.model_b);
    apr_out_text(j, "format_a", out->subject.format_a);
    apr_out_text(j, "format_b", out->subject.format_b);
}

static void begin_json(const struct output *out, struct apr_out *j)
{
    apr_out_open(j, NULL, '{');
    write_subject(out, j);
    apr_out_open(j, "results", '[');
}

static void print_heading(const struct options *o, const struct subject *subject)
{
    printf("A  ");
    apr_print_bytes(stdout, apr_text(subject->model_a));
    printf("  (%s)\nB  ", subject->format_a);
    apr_print_bytes(stdout, apr_text(subject->model_b));
    printf("  (%s)\n\n%s%-15s %12s%13s%13s  %-15s %-16s %s%s\n", subject->format_b, apr_style(o->cli.colour, APR_BOLD), "status", "cosine",
           "max diff", "rmse", "dtypes", "shape", "tensor", apr_style(o->cli.colour, APR_PLAIN));
}

enum apr_code begin_report(struct output *out, const struct options *o, const struct subject *subject, struct apr_error *e)
{
    *out = (struct output){ .o = o, .subject = *subject, .json = { .to = stdout }, .sum.min_cosine = NAN };
    if (!o->cli.json)
        print_heading(o, subject);
    else if (!o->jsonl)
        begin_json(out, &out->json);
    if (o->html == NULL)
        return APR_OK;
    APR_TRY(begin_page(&out->page, o, subject, e));
    begin_json(out, page_data(out->page));
    return APR_OK;
}

/* Replaces *copy, which holds a name (no NUL in it). */
static enum apr_code remember(char **copy, struct apr_bytes name, struct apr_error *e)
{
    free(*copy);
    *copy = strndup((const char *)name.at, name.n);
    return *copy == NULL ? apr_no_memory(e) : APR_OK;
}

enum apr_code report_row(void *output, const struct row *r, struct apr_error *e)
{
    struct output *out = output;
    struct summary *s = &out->sum;
    s->compared++;
    s->count[r->status]++;
    s->below += r->below;
    s->failed += !r->pass;
    if (r->error != NULL && !r->ignored && s->first_error == NULL) {
        s->first_error = r->error;
        APR_TRY(remember(&s->error_name, r->name, e));
    }
    if (!isnan(r->cosine) && !(r->cosine >= s->min_cosine)) {
        s->min_cosine = r->cosine;
        APR_TRY(remember(&s->min_name, r->name, e));
    }
    if (out->page != NULL) {
        write_row(page_data(out->page), out->o, r);
        APR_TRY(page_row(out->page, r, e));
    }
    if (out->o->cli.json) {
        write_row(&out->json, out->o, r);
        if (out->o->jsonl)
            apr_out_line(&out->json);
    } else if (out->o->sort == SORT_NAME) {
        print_row(stdout, out->o, r);
    } else {
        return keep_text(out, r, e);
    }
    return APR_OK;
}

void write_names(struct apr_out *j, const char *key, const struct apr_bytes *name, size_t n)
{
    apr_out_open(j, key, '[');
    for (size_t i = 0; i < n; i++)
        apr_out_bytes(j, NULL, name[i]);
    apr_out_close(j, ']');
}

static bool passes(const struct output *out) { return out->sum.failed == 0 && !out->subject.unmatched; }

static void write_summary(const struct output *out, struct apr_out *j, const struct match *m, struct apr_bytes metadata)
{
    const struct summary *s = &out->sum;
    write_names(j, "only_in_a", m->only_a, m->nonly_a);
    write_names(j, "only_in_b", m->only_b, m->nonly_b);
    apr_out_count(j, "tensors_compared", s->compared);
    apr_out_count(j, "identical_count", s->count[STATUS_IDENTICAL] + s->count[STATUS_NEARLY]);
    apr_out_count(j, "nearly_identical_count", s->count[STATUS_NEARLY]);
    apr_out_count(j, "small_count", s->count[STATUS_SMALL]);
    apr_out_count(j, "medium_count", s->count[STATUS_MEDIUM]);
    apr_out_count(j, "large_count", s->count[STATUS_LARGE]);
    apr_out_count(j, "critical_count", s->count[STATUS_CRITICAL]);
    apr_out_count(j, "transposed_count", s->count[STATUS_TRANSPOSED]);
    apr_out_real(j, "min_cosine", s->min_cosine);
    if (isnan(s->min_cosine))
        apr_out_null(j, "min_cosine_tensor");
    else
        apr_out_text(j, "min_cosine_tensor", s->min_name);
    apr_out_real(j, "threshold", out->o->bounds.cosine);
    apr_out_count(j, "below_threshold_count", s->below);
    apr_out_text(j, "verdict", passes(out) ? "Pass" : "Fail");
    apr_out_raw(j, "metadata", metadata);
    if (out->o->nparts > 0) {
        apr_out_open(j, "partition", '{');
        apr_out_count(j, "number", out->o->part);
        apr_out_count(j, "of", out->o->nparts);
        apr_out_bool(j, "unmatched_fails", out->subject.unmatched);
        apr_out_close(j, '}');
    }
}

void print_names(const char *what, const struct apr_bytes *name, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        printf("%s  ", what);
        apr_print_bytes(stdout, name[i]);
        putchar('\n');
    }
}

static void print_summary(const struct output *out, const struct match *m)
{
    const struct summary *s = &out->sum;
    const bool colour = out->o->cli.colour, pass = passes(out);
    char cosine[32];
    print_names("only in A", m->only_a, m->nonly_a);
    print_names("only in B", m->only_b, m->nonly_b);
    printf("\n%llu compared:", (unsigned long long)s->compared);
    const char *comma = "";
    for (unsigned i = 0; i < NSTATUS; i++)
        if (s->count[i] > 0) {
            printf("%s %llu %s", comma, (unsigned long long)s->count[i], status_words[i]);
            comma = ",";
        }
    if (m->nonly_a + m->nonly_b > 0)
        printf("%s %zu without a twin", comma, m->nonly_a + m->nonly_b);
    putchar('\n');
    if (!isnan(s->min_cosine)) {
        printf("lowest cosine: %s  ", apr_spell_real(s->min_cosine, cosine));
        apr_print_bytes(stdout, apr_text(s->min_name));
        putchar('\n');
    }
    printf("verdict: %s%s%s", apr_style(colour, pass ? APR_GREEN : APR_RED), pass ? "Pass" : "Fail", apr_style(colour, APR_PLAIN));
    if (s->failed > 0)
        printf(", %llu outside the bounds", (unsigned long long)s->failed);
    putchar('\n');
}

static void free_output(struct output *out)
{
    for (size_t i = 0; i < out->nkept; i++)
        free(out->kept[i].line);
    free(out->kept);
    free(out->sum.min_name);
    free(out->sum.error_name);
    free_page(out->page);
}

/* The error that rows without values add up to. */
static enum apr_code row_error(const struct output *out, struct apr_error *e)
{
    apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "tensor %s: %s", APR_QUOTED(apr_text(out->sum.error_name)), out->sum.first_error);
    apr_error_in(e, out->subject.model_a);
    return APR_EUNSUPPORTED;
}

/* why: what the report ends with, or NULL. */
static void end_json(const struct output *out, struct apr_out *j, const struct match *m, struct apr_bytes metadata, const struct apr_error *why)
{
    if (j->depth > 1)
        apr_out_close(j, ']');
    write_summary(out, j, m, metadata);
    if (why != NULL)
        apr_out_error(j, why);
    apr_out_close(j, '}');
}

int end_report(struct output *out, const struct match *m, struct apr_bytes metadata)
{
    const bool json = out->o->cli.json;
    struct apr_error e;
    enum apr_code code = APR_OK;
    if (out->o->jsonl) {
        apr_out_open(&out->json, NULL, '{');
        write_subject(out, &out->json);
    }
    if (!json) {
        print_kept(out);
        code = print_metadata(metadata, &e);
        print_summary(out, m);
    }
    if (code == APR_OK && out->sum.first_error != NULL)
        code = row_error(out, &e);
    if (out->page != NULL) {
        const struct apr_error *why = code == APR_OK ? NULL : &e;
        struct apr_error of_page;
        end_json(out, page_data(out->page), m, metadata, why);
        if (end_page(out->page, out, m, passes(out), why, &of_page) != APR_OK && code == APR_OK) {
            code = of_page.code;
            e = of_page;
        }
    }
    if (json) {
        end_json(out, &out->json, m, metadata, code == APR_OK ? NULL : &e);
        apr_out_line(&out->json);
    }
    const int exit_code = code != APR_OK ? apr_cli_fail(&out->o->cli, &e) : passes(out) ? APR_EXIT_YES : APR_EXIT_NO;
    free_output(out);
    return exit_code;
}

int fail_report(struct output *out, const struct apr_error *e)
{
    if (out->o->jsonl)
        apr_out_open(&out->json, NULL, '{');
    else if (out->o->cli.json)
        apr_out_close(&out->json, ']');
    if (out->o->cli.json) {
        apr_out_error(&out->json, e);
        apr_out_close(&out->json, '}');
        apr_out_line(&out->json);
    } else {
        print_kept(out);
    }
    free_output(out);
    return apr_cli_fail(&out->o->cli, e);
}

int fail_early(const struct options *o, const char *schema, const struct apr_error *e)
{
    struct apr_out j = { .to = stdout };
    if (o->cli.json) {
        apr_out_open(&j, NULL, '{');
        apr_out_text(&j, "schema", schema);
        apr_out_error(&j, e);
        apr_out_close(&j, '}');
        apr_out_line(&j);
    }
    return apr_cli_fail(&o->cli, e);
}
