/* The report as a page: its JSON, what it adds up to, the worst tensors as a table, and the script that draws. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ui/page.h"

#include "base/bytes.h"
#include "diff.h"

#define MOST_ROWS 1000 /* of the table; the drawings and the data have all */

static const char script[] =
#include "tools/apr-diff/page.js.h"
    ;

/* A row of the table. unsound: it could not be compared, or one side has NaN or infinity where the other has not. */
struct kept {
    char        *name, *name_b, *problem; /* the last two may be NULL */
    char         shape[176], dtypes[64];
    enum status  status;
    enum layout  layout;
    bool         pass, unsound;
    double       cosine, max, rmse, sqnr;
    uint64_t     order;
};

struct page {
    struct apr_page html;
    struct kept     kept[MOST_ROWS]; /* worst first */
    size_t          nkept;
    uint64_t        nrows;
};

enum apr_code begin_page(struct page **page, const struct options *o, const struct subject *subject, struct apr_error *e)
{
    char *title = NULL;
    *page = calloc(1, sizeof **page);
    if (*page == NULL || asprintf(&title, "%s against %s", subject->model_b, subject->model_a) < 0)
        return apr_no_memory(e);
    const enum apr_code code = apr_page_begin(&(*page)->html, o->html, title, e);
    free(title);
    return code;
}

struct apr_out *page_data(struct page *page) { return &page->html.data; }

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

static int descending(double x, double y) { return (x < y) - (x > y); }

static int worst_first(const struct kept *x, const struct kept *y)
{
    if (x->unsound != y->unsound)
        return y->unsound - x->unsound;
    if (x->pass != y->pass)
        return x->pass - y->pass;
    if (isnan(x->cosine) != isnan(y->cosine))
        return isnan(y->cosine) - isnan(x->cosine);
    const int by_cosine = isnan(x->cosine) ? 0 : descending(-x->cosine, -y->cosine);
    const int order = by_cosine != 0 ? by_cosine : descending(x->max, y->max);
    return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static void forget(struct kept *k)
{
    free(k->name);
    free(k->name_b);
    free(k->problem);
}

/* Copies: of a merged report nothing outlives the row. */
static bool keep_texts(struct kept *k, const struct row *r)
{
    const char *problem = r->error != NULL ? r->error : r->problem;
    const bool same_name = apr_bytes_equal(r->name, r->name_b);
    apr_spell_shape(r->dim_a, r->ndim_a, k->shape);
    snprintf(k->dtypes, sizeof k->dtypes, "%s %s", r->dtype_a, r->dtype_b);
    k->name = strndup((const char *)r->name.at, r->name.n);
    k->name_b = same_name ? NULL : strndup((const char *)r->name_b.at, r->name_b.n);
    k->problem = problem == NULL ? NULL : strdup(problem);
    return k->name != NULL && (same_name || k->name_b != NULL) && (problem == NULL || k->problem != NULL);
}

enum apr_code page_row(struct page *page, const struct row *r, struct apr_error *e)
{
    const bool compared = was_compared(r);
    struct kept k = { .status = r->status, .layout = r->layout, .pass = r->pass, .cosine = r->cosine, .max = compared ? r->sums.max : NAN,
                      .rmse = r->rmse, .sqnr = r->sqnr, .order = page->nrows++ };
    k.unsound = !r->ignored && (!compared || r->sums.nonfinite > 0);
    size_t low = 0, high = page->nkept;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (worst_first(&page->kept[middle], &k) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == MOST_ROWS)
        return APR_OK;
    if (!keep_texts(&k, r)) {
        forget(&k);
        return apr_no_memory(e);
    }
    if (page->nkept == MOST_ROWS)
        forget(&page->kept[--page->nkept]);
    memmove(&page->kept[low + 1], &page->kept[low], (page->nkept - low) * sizeof k);
    page->kept[low] = k;
    page->nkept++;
    return APR_OK;
}

static void write_table(struct page *page)
{
    static const char *const column[] = { "|tensor", "|status", "#1 &minus; cosine", "#largest |a&minus;b|", "#rmse", "#SQNR dB", "|dtypes",
                                          "|shape", "|layout" };
    const char *caption = page->nrows > MOST_ROWS ? "The worst 1,000; the drawings show all." : "Headings sort.";
    struct apr_page *p = &page->html;
    fprintf(p->to, "<section><h2>Tensors, worst first <span class=\"count\">%" PRIu64 "</span></h2>\n", page->nrows);
    apr_page_table(p, "tensors", caption, column, APR_LENGTH(column));
    for (size_t i = 0; i < page->nkept; i++) {
        const struct kept *k = &page->kept[i];
        fputs("<tr><td class=\"name\">", p->to);
        apr_page_text(p, apr_text(k->name));
        if (k->name_b != NULL) {
            fputs("<div>= ", p->to);
            apr_page_text(p, apr_text(k->name_b));
            fputs("</div>", p->to);
        }
        fputs("</td><td>", p->to);
        const char *colour = !k->pass ? "bad" : k->status <= STATUS_NEARLY ? "good" : "warn";
        fprintf(p->to, "<span class=\"badge %s\">%s</span></td>", colour, status_words[k->status]);
        apr_page_real(p, 1 - k->cosine);
        apr_page_real(p, k->max);
        apr_page_real(p, k->rmse);
        apr_page_real(p, k->sqnr);
        fputs("<td>", p->to);
        apr_page_text(p, apr_text(k->dtypes));
        fprintf(p->to, "</td><td>%s</td><td>%s", k->shape, layout_words[k->layout]);
        if (k->problem != NULL) {
            fputs(": ", p->to);
            apr_page_text(p, apr_text(k->problem));
        }
        fputs("</td></tr>\n", p->to);
    }
    fputs("</tbody></table></div></section>\n", p->to);
}

/* ---- what it adds up to --------------------------------------------------------------------------------------------- */

static void write_model(struct apr_page *p, const char *word, const char *path, const char *format)
{
    fprintf(p->to, "<p>%s <span class=\"name\">", word);
    apr_page_text(p, apr_text(path));
    fprintf(p->to, "</span> <span class=\"count\">%s</span></p>\n", format);
}

static void write_fact(struct apr_page *p, const char *word, uint64_t n)
{
    fprintf(p->to, "<div>");
    apr_page_fact(p, word);
    fprintf(p->to, "%" PRIu64 "</dd></div>\n", n);
}

/* As wide as there are tensors of the status. */
static void write_statuses(struct apr_page *p, const struct summary *s)
{
    static const char *const colour[NSTATUS] = { "same", "q0", "q2", "q4", "q6", "q8", "d0" };
    fputs("<div class=\"bar-of-parts\" aria-hidden=\"true\">", p->to);
    for (unsigned i = 0; i < NSTATUS; i++)
        if (s->count[i] > 0)
            fprintf(p->to, "<span class=\"%s\" style=\"flex-grow:%" PRIu64 "\"></span>", colour[i], s->count[i]);
    fputs("</div>\n<ul class=\"legend\">", p->to);
    for (unsigned i = 0; i < NSTATUS; i++)
        if (s->count[i] > 0)
            fprintf(p->to, "<li><i class=\"%s\"></i>%" PRIu64 " %s</li>", colour[i], s->count[i], status_words[i]);
    fputs("</ul>\n", p->to);
}

static void write_summary(struct apr_page *p, const struct output *out, const struct match *m, bool pass)
{
    const struct summary *s = &out->sum;
    char number[32];
    fprintf(p->to, "<header><h1>apr-diff <span class=\"badge %s\">%s</span></h1>\n", pass ? "good" : "bad", pass ? "Pass" : "Fail");
    write_model(p, "A, the reference:", out->subject.model_a, out->subject.format_a);
    write_model(p, "B:", out->subject.model_b, out->subject.format_b);
    fputs("<dl class=\"facts\">\n", p->to);
    write_fact(p, "tensors compared", s->compared);
    write_fact(p, "outside the bounds", s->failed);
    write_fact(p, "only in A", m->nonly_a);
    write_fact(p, "only in B", m->nonly_b);
    fputs("<div>", p->to);
    apr_page_fact(p, "threshold");
    fprintf(p->to, "%s</dd></div>\n<div class=\"wide\">", apr_spell_real(out->o->bounds.cosine, number));
    apr_page_fact(p, "lowest cosine");
    if (isnan(s->min_cosine)) {
        fputs("&ndash;", p->to);
    } else {
        fprintf(p->to, "%s <span class=\"name\">", apr_spell_real(s->min_cosine, number));
        apr_page_text(p, apr_text(s->min_name));
        fputs("</span>", p->to);
    }
    fputs("</dd></div>\n</dl>\n", p->to);
    write_statuses(p, s);
    fputs("</header>\n", p->to);
}

static const char drawings[] =
    "<noscript><p class=\"note\">The drawings need a script; every number is in the table.</p></noscript>\n"
    "<section><h2>Where: layers by roles</h2><div id=\"map\"></div></section>\n"
    "<section><h2>How much: tensors by error</h2><div id=\"errors\"></div></section>\n";

enum apr_code end_page(struct page *page, const struct output *out, const struct match *m, bool pass, const struct apr_error *why,
                       struct apr_error *e)
{
    struct apr_page *p = &page->html;
    apr_page_body(p);
    write_summary(p, out, m, pass);
    if (why != NULL) {
        fputs("<p class=\"bad\">", p->to);
        apr_page_text(p, apr_text(why->text));
        fputs("</p>\n", p->to);
    }
    fputs(drawings, p->to);
    write_table(page);
    apr_page_names(p, "Only in A", m->only_a, m->nonly_a);
    apr_page_names(p, "Only in B", m->only_b, m->nonly_b);
    fputs("<section id=\"metadata\"></section>\n", p->to);
    return apr_page_end(p, script, e);
}

void free_page(struct page *page)
{
    if (page == NULL)
        return;
    apr_page_drop(&page->html);
    for (size_t i = 0; i < page->nkept; i++)
        forget(&page->kept[i]);
    free(page);
}
