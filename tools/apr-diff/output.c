/* The report as it is written: to stdout as text, JSON or JSON Lines, and into a page. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "discover.h"
#include "files/remote.h"
#include "base/memstream.h"
#include "ui/fold.h"
#include "ui/share.h"

struct text_row {
    char  *line;
    size_t order;
    double cosine, rmse, max;
};

bool close_text(FILE *to, char *const *text) { return fclose(to) == 0 && *text != NULL; }

/* ---- text rows that wait to be sorted ------------------------------------------------------------------------------- */

static enum apr_code keep_text(struct output *out, const struct row *r, struct apr_error *e)
{
    struct text_row *more = apr_grown(out->kept, &out->room, out->nkept, 256, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    out->kept = more;
    struct text_row *k = &out->kept[out->nkept];
    size_t n = 0;
    const bool unsound = !was_compared(r) || r->sums.nonfinite > 0; /* its numbers do not say how bad it is */
    *k = (struct text_row){ .order = out->nkept, .cosine = unsound ? NAN : r->cosine, .rmse = unsound ? NAN : r->rmse,
                            .max = unsound ? NAN : r->sums.max };
    FILE *to = apr_memstream(&k->line, &n);
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

/* Worst first; what could not be compared, and NaN or infinity on one side, is worst of all. */
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
    const struct options *o = out->o;
    enum sort_key key = o->sort == SORT_NAME ? SORT_COSINE : (enum sort_key)o->sort;
    if (out->nkept > 0)
        qsort_r(out->kept, out->nkept, sizeof *out->kept, by_key, &key);
    for (size_t i = 0; i < out->nkept && (o->worst == 0 || i < o->worst); i++)
        fputs(out->kept[i].line, stdout);
}

/* ---- the report ----------------------------------------------------------------------------------------------------- */

static void write_subject(struct apr_out *j, const void *about)
{
    const struct subject *s = about;
    apr_out_text(j, "model_a", s->model_a);
    apr_out_text(j, "model_b", s->model_b);
    apr_out_text(j, "format_a", s->format_a);
    apr_out_text(j, "format_b", s->format_b);
}

static void print_heading(const struct options *o, const struct subject *subject)
{
    for (int of_b = 0; of_b < 2; of_b++) {
        printf("%c  ", of_b ? 'B' : 'A');
        apr_print_text(stdout, of_b ? subject->model_b : subject->model_a);
        fputs("  (", stdout);
        apr_print_text(stdout, of_b ? subject->format_b : subject->format_a);
        puts(")");
    }
    if (o->summary)
        return;
    putchar('\n');
    print_columns(o);
}

/* Not beside JSON, nor where the page has stdout for itself. */
static bool prints_text(const struct options *o) { return !o->cli.json && !o->cli.taken; }

enum apr_code begin_report(struct output *out, const struct options *o, const struct subject *subject, struct apr_error *e)
{
    *out = (struct output){ .o = o, .subject = *subject, .json = { .to = stdout }, .sum.min_cosine = NAN };
    out->report = (struct apr_report){ .out = &out->json, .schema = "apr-diff/1", .rows = "results", .subject = write_subject,
                                       .about = &out->subject, .lines = o->jsonl };
    if (o->cli.json)
        apr_report_begin(&out->report);
    else if (prints_text(o))
        print_heading(o, subject);
    if (o->html == NULL)
        return APR_OK;
    APR_TRY(begin_page(&out->page, o, subject, e));
    out->page_report = out->report;
    out->page_report.out = page_data(out->page);
    out->page_report.lines = false;
    apr_report_begin(&out->page_report);
    return APR_OK;
}

static void put_row(struct apr_report *r, const struct options *o, const struct row *row)
{
    apr_report_row(r);
    write_row(r->out, o, row);
    apr_report_row_end(r);
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
        put_row(&out->page_report, out->o, r);
        APR_TRY(page_row(out->page, r, e));
    }
    if (out->o->cli.json)
        put_row(&out->report, out->o, r);
    if (!prints_text(out->o) || out->o->summary || (out->o->failed && r->pass))
        return APR_OK;
    if (out->o->sort != SORT_NAME || out->o->worst > 0)
        return keep_text(out, r, e);
    print_row(stdout, out->o, r);
    return APR_OK;
}

void write_names(struct apr_out *j, const char *key, const struct apr_bytes *name, size_t n)
{
    apr_out_open(j, key, '[');
    for (size_t i = 0; i < n; i++)
        apr_out_bytes(j, NULL, name[i]);
    apr_out_close(j, ']');
}

bool passes(const struct output *out) { return out->sum.failed == 0 && !out->subject.unmatched; }

static void write_excused(struct apr_out *j, const struct match *m)
{
    apr_out_open(j, "excused", '[');
    for (size_t i = 0; i < m->nexcused; i++) {
        apr_out_open(j, NULL, '{');
        apr_out_text(j, "side", m->excused[i].of_b ? "b" : "a");
        apr_out_bytes(j, "name", m->excused[i].name);
        apr_out_text(j, "reason", m->excused[i].reason);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

static void write_summary(const struct output *out, struct apr_out *j, const struct match *m, const struct discovery *found,
                          const struct metadata *metadata)
{
    const struct summary *s = &out->sum;
    write_names(j, "only_in_a", m->only_a, m->nonly_a);
    write_names(j, "only_in_b", m->only_b, m->nonly_b);
    write_excused(j, m);
    if (found != NULL)
        write_discovery(j, found);
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
    if (m->note != NULL)
        apr_out_text(j, "note", m->note);
    apr_out_text(j, "verdict", passes(out) ? "Pass" : "Fail");
    write_metadata(j, "metadata", metadata);
    write_config(j, "config", out->subject.config);
    if (out->o->nparts > 0) {
        apr_share_begin(j, out->o->part, out->o->nparts, m->plan);
        apr_out_bool(j, "unmatched_fails", out->subject.unmatched);
        apr_out_close(j, '}');
    }
}

/* Many that differ in their numbers alone are one line; without memory for that, a line each. */
void print_names(const char *what, const struct apr_bytes *name, size_t n)
{
    struct apr_fold *group;
    size_t ngroup;
    const bool folded = apr_fold_names(name, n, &group, &ngroup);
    for (size_t i = 0; i < (folded ? ngroup : n); i++) {
        const size_t many = folded ? group[i].n : 1;
        printf("%s  ", what);
        if (many > 1)
            apr_fold_print(stdout, &group[i]);
        else
            apr_print_bytes(stdout, folded ? group[i].first : name[i]);
        if (many > 1)
            printf("  (%zu)", many);
        putchar('\n');
    }
    free(group);
}

/* Names of one side alone: those that have no excuse, then the others by why. */
static void print_unmatched(const struct match *m, bool of_b)
{
    const struct apr_bytes *only = of_b ? m->only_b : m->only_a;
    const size_t n = of_b ? m->nonly_b : m->nonly_a;
    const char *const side = of_b ? "only in B" : "only in A";
    struct apr_bytes *name = malloc((n + 1) * sizeof *name);
    if (name == NULL) {
        print_names(side, only, n);
        return;
    }
    const struct excuse *const first = m->excused, *const end = first == NULL ? NULL : first + m->nexcused;
    size_t some = 0;
    const struct excuse *x = first;
    while (x != end && x->of_b != of_b)
        x++;
    for (size_t i = 0; i < n; i++) {
        const bool excused = x != end && x->of_b == of_b && apr_bytes_equal(x->name, only[i]); /* both are in order */
        name[some] = only[i];
        some += !excused;
        x += excused;
    }
    print_names(side, name, some);
    for (size_t k = 0; excuse_words[k] != NULL; k++) {
        char what[64];
        some = 0;
        for (x = first; x != end; x++)
            if (x->of_b == of_b && strcmp(x->reason, excuse_words[k]) == 0)
                name[some++] = x->name;
        snprintf(what, sizeof what, "%s, excused (%s)", side, excuse_words[k]);
        print_names(what, name, some);
    }
    free(name);
}

static void print_summary(const struct output *out, const struct match *m)
{
    const struct summary *s = &out->sum;
    const bool colour = out->o->cli.colour, pass = passes(out);
    char cosine[32];
    print_unmatched(m, false);
    print_unmatched(m, true);
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
        const int at = printf("lowest cosine: %s  ", apr_spell_real(s->min_cosine, cosine));
        print_behind(out->o, (size_t)at, apr_text(s->min_name));
    }
    if (m->note != NULL) {
        fputs("note: ", stdout);
        apr_print_text(stdout, m->note);
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
static void end_json(const struct output *out, struct apr_report *r, const struct match *m, const struct discovery *found,
                     const struct metadata *metadata, const struct apr_error *why)
{
    apr_report_sum(r);
    write_summary(out, r->out, m, found, metadata);
    if (out->o->cli.verbose)
        apr_out_count(r->out, "fetched_bytes", apr_remote_fetched(out->o->cli.run.remote));
    apr_report_end(r, why);
}

int end_report(struct output *out, const struct match *m, const struct discovery *found, const struct metadata *metadata)
{
    struct apr_error e;
    enum apr_code code = out->sum.first_error != NULL ? row_error(out, &e) : APR_OK;
    if (prints_text(out->o)) {
        print_kept(out);
        print_metadata(metadata);
        print_config(out->subject.config);
        if (found != NULL)
            print_discovery(found);
        print_summary(out, m);
    }
    if (out->page != NULL) {
        const struct apr_error *why = code == APR_OK ? NULL : &e;
        struct apr_error of_page;
        end_json(out, &out->page_report, m, found, metadata, why);
        if (end_page(out->page, out, m, passes(out), why, &of_page) != APR_OK && code == APR_OK) {
            code = of_page.code;
            e = of_page;
        }
    }
    if (out->o->cli.json)
        end_json(out, &out->report, m, found, metadata, code == APR_OK ? NULL : &e);
    const int exit_code = code != APR_OK ? apr_cli_fail(&out->o->cli, &e) : passes(out) ? APR_EXIT_YES : APR_EXIT_NO;
    free_output(out);
    return exit_code;
}

int fail_report(struct output *out, const struct apr_error *e)
{
    if (out->o->cli.json)
        apr_report_end(&out->report, e);
    else
        print_kept(out);
    free_output(out);
    return apr_cli_fail(&out->o->cli, e);
}

int fail_early(const struct options *o, const char *schema, const struct apr_error *e)
{
    struct apr_report r = { .out = &(struct apr_out){ .to = stdout }, .schema = schema };
    if (o->cli.json) {
        apr_report_begin(&r);
        apr_report_end(&r, e);
    }
    return apr_cli_fail(&o->cli, e);
}
