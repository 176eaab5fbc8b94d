/* The model as a page: its statistics as JSON, facts and tables, and the script that draws. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ui/page.h"

#include "base/memstream.h"
#include "files/source.h"
#include "inspect.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/model.h"
#include "values/dtype.h"

#define MOST_ROWS 1000 /* of the table; the drawings and the data have all */
#define MOST_KEYS 1000
#define COLUMNS   300  /* of a value from metadata */

static const char script[] =
#include "tools/apr-inspect/page.js.h"
    ;

static const char *const severity_words[] = { [APR_INFO] = "info", [APR_WARNING] = "warning", [APR_FAULT] = "error" };

/* x: the inspection, with options of the page's own. */
struct page {
    struct inspection *x;
    struct apr_page    html;
    struct scanned    *row; /* the first MOST_ROWS */
    size_t             nrow, all;
    uint64_t           nonfinite; /* rows with NaN or infinity */
};

/* ---- the data ------------------------------------------------------------------------------------------------------- */

static enum apr_code take_row(void *ctx, const struct scanned *row, struct apr_error *e)
{
    struct page *page = ctx;
    (void)e;
    write_row(&page->html.data, page->x, row);
    if (page->nrow < MOST_ROWS)
        page->row[page->nrow++] = *row;
    page->all++;
    page->nonfinite += row->decodable && row->stats.nans + row->stats.infs > 0;
    return APR_OK;
}

/* The object that --json would print, its rows last. */
static enum apr_code write_data(struct page *page, struct options *o, struct apr_error *e)
{
    struct apr_out *j = &page->html.data;
    int ignored;
    struct apr_report r = begin_object(j, page->x);
    APR_TRY(write_members(j, page->x, &ignored, e));
    o->stats = true;
    apr_out_open(j, "tensors", '[');
    APR_TRY(scan_tensors(page->x, SCAN_STATS, take_row, page, e));
    apr_out_close(j, ']');
    apr_report_end(&r, NULL);
    return APR_OK;
}

/* ---- facts ---------------------------------------------------------------------------------------------------------- */

static void put_text(struct apr_page *p, const char *before, struct apr_bytes text, const char *after)
{
    fputs(before, p->to);
    apr_page_text(p, text);
    fputs(after, p->to);
}

static void put_fact(struct apr_page *p, const char *word, struct apr_bytes text, const char *more)
{
    fputs("<div>", p->to);
    apr_page_fact(p, word);
    put_text(p, "", text, " <span class=\"count\">");
    put_text(p, "", apr_text(more), "</span></dd></div>\n");
}

static void put_verdict(struct page *page)
{
    const struct findings *f = &page->x->findings;
    size_t faults = 0, warnings = 0;
    for (size_t i = 0; i < f->n; i++) {
        faults += f->at[i].severity == APR_FAULT;
        warnings += f->at[i].severity == APR_WARNING;
    }
    FILE *to = page->html.to;
    if (faults > 0)
        fprintf(to, " <span class=\"badge bad\">%zu error%s</span>", faults, faults > 1 ? "s" : "");
    if (warnings > 0)
        fprintf(to, " <span class=\"badge warn\">%zu warning%s</span>", warnings, warnings > 1 ? "s" : "");
    if (page->nonfinite > 0)
        fprintf(to, " <span class=\"badge bad\">tensors with NaN or infinity: %" PRIu64 "</span>", page->nonfinite);
    if (faults + warnings + page->nonfinite == 0)
        fputs(" <span class=\"badge good\">nothing found wrong</span>", to);
}

struct total {
    uint64_t tensors, elements, bytes;
};

static void add_to(struct total *sum, const struct apr_tensor *t)
{
    sum->tensors++;
    sum->elements += t->count;
    sum->bytes += stored_bytes(t);
}

static void put_head(struct page *page)
{
    const struct inspection *x = page->x;
    struct apr_page *p = &page->html;
    const struct apr_bytes architecture = architecture_of(x), none = apr_text("not known");
    char number[32], more[64];
    struct total sum = { 0 };
    uint64_t files = 0;
    for (size_t i = 0; i < x->m->ntensor; i++)
        add_to(&sum, &x->m->tensor[i]);
    sum.elements = 0;
    for (size_t i = 0; i < x->m->ntensor; i++)
        sum.elements += x->m->tensor[i].count;
    for (size_t i = 0; i < x->m->nfile; i++)
        files += x->m->file[i]->stored;
    put_text(p, "<header><h1>", apr_text(x->path), "</h1>\n<p>apr-inspect");
    put_verdict(page);
    fputs("</p>\n<dl class=\"facts\">\n", p->to);
    put_fact(p, "format", apr_text(x->m->format->name), version_of(x->m));
    put_fact(p, "family", x->family_name.n > 0 ? x->family_name : none, "");
    put_fact(p, "architecture", architecture.n > 0 ? architecture : none, "");
    snprintf(more, sizeof more, "%" PRIu64, sum.elements);
    put_fact(p, "parameters", apr_text(spell_count(sum.elements, number)), sum.elements < 1000 ? "" : more);
    snprintf(number, sizeof number, "%zu", x->m->ntensor);
    put_fact(p, "tensors", apr_text(number), apr_spell_size(sum.bytes, more));
    snprintf(number, sizeof number, "%.2f", sum.elements == 0 ? 0 : 8 * (double)sum.bytes / (double)sum.elements);
    put_fact(p, "bits per weight", apr_text(sum.elements == 0 ? "\xE2\x80\x93" : number), "");
    snprintf(more, sizeof more, "in %zu files", x->m->nfile);
    put_fact(p, "on disk", apr_text(apr_spell_size(files, number)), x->m->nfile > 1 ? more : "");
    fputs("</dl></header>\n", p->to);
}

/* ---- tables --------------------------------------------------------------------------------------------------------- */

static void put_findings(struct page *page)
{
    static const char *const column[] = { "|severity", "#stage", "|code", "|what", "|tensor" };
    static const char *const badge[] = { [APR_INFO] = "", [APR_WARNING] = "warn", [APR_FAULT] = "bad" };
    const struct findings *f = &page->x->findings;
    struct apr_page *p = &page->html;
    if (f->n == 0)
        return;
    fprintf(p->to, "<section><h2>Findings <span class=\"count\">%zu</span></h2>\n", f->n);
    apr_page_table(p, "findings", "", column, APR_LENGTH(column));
    for (size_t i = 0; i < f->n; i++) {
        fprintf(p->to, "<tr><td><span class=\"badge %s\">%s</span></td>", badge[f->at[i].severity], severity_words[f->at[i].severity]);
        apr_page_count(p, f->at[i].stage);
        put_text(p, "<td><code>", apr_text(f->at[i].code), "</code></td><td class=\"words\">");
        put_text(p, "", apr_text(f->at[i].text), "</td><td class=\"name\">");
        put_text(p, "", f->at[i].tensor, "</td></tr>\n");
    }
    fputs("</tbody></table></div></section>\n", p->to);
}

static void put_dtypes(struct page *page)
{
    static const char *const column[] = { "|dtype", "#tensors", "#parameters", "#bytes" };
    const struct apr_model *m = page->x->m;
    struct apr_page *p = &page->html;
    struct total sum[APR_NDTYPES] = { 0 };
    for (size_t i = 0; i < m->ntensor; i++)
        add_to(&sum[apr_dtype_id(m->tensor[i].dtype)], &m->tensor[i]);
    fputs("<section><h2>Where the bytes are</h2><div id=\"sizes\"></div>\n", p->to);
    apr_page_table(p, "dtypes", "", column, APR_LENGTH(column));
    for (size_t i = 0; i < APR_NDTYPES; i++) {
        if (sum[i].tensors == 0)
            continue;
        fprintf(p->to, "<tr><td>%s</td>", apr_dtypes[i].name);
        apr_page_count(p, sum[i].tensors);
        apr_page_count(p, sum[i].elements);
        apr_page_size(p, sum[i].bytes);
        fputs("</tr>\n", p->to);
    }
    fputs("</tbody></table></div></section>\n", p->to);
}

static void put_tensors(struct page *page)
{
    static const char *const column[] = { "|tensor", "|dtype", "|shape", "#size", "#min", "#max", "#mean", "#std", "#rms",
                                          "#kurtosis", "#zeros", "#NaN", "#infinite" };
    const char *caption = page->all > MOST_ROWS ? "The first 1,000; the drawings show all." : "In the file's order; headings sort.";
    struct apr_page *p = &page->html;
    char shape[176];
    fprintf(p->to, "<section><h2>Tensors <span class=\"count\">%zu</span></h2>\n", page->all);
    apr_page_table(p, "tensors", caption, column, APR_LENGTH(column));
    for (size_t i = 0; i < page->nrow; i++) {
        const struct scanned *row = &page->row[i];
        const struct apr_stats *s = &row->stats;
        const double number[] = { s->min, s->max, s->mean, s->std, s->rms, s->kurtosis };
        const uint64_t count[] = { s->zeros, s->nans, s->infs };
        put_text(p, "<tr><td class=\"name\">", row->t->name, "</td>");
        fprintf(p->to, "<td>%s</td><td>%s</td>", row->t->dtype->name, apr_spell_shape(row->t->dim, row->t->ndim, shape));
        apr_page_size(p, stored_bytes(row->t));
        for (size_t k = 0; k < APR_LENGTH(number); k++)
            apr_page_real(p, row->decodable ? number[k] : NAN);
        for (size_t k = 0; k < APR_LENGTH(count); k++)
            if (row->decodable)
                apr_page_count(p, count[k]);
            else
                apr_page_real(p, NAN);
        fputs("</tr>\n", p->to);
    }
    fputs("</tbody></table></div></section>\n", p->to);
}

static enum apr_code put_value(struct apr_page *p, const struct apr_value *v, struct apr_error *e)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = apr_memstream(&text, &n);
    if (to == NULL)
        return apr_no_memory(e);
    print_value(to, v, COLUMNS);
    if (fclose(to) != 0 || text == NULL) {
        free(text);
        return apr_no_memory(e);
    }
    put_text(p, "<td class=\"words\">", (struct apr_bytes){ (const unsigned char *)text, n }, "</td></tr>\n");
    free(text);
    return APR_OK;
}

static enum apr_code put_metadata(struct page *page, struct apr_error *e)
{
    static const char *const column[] = { "|key", "|type", "|value" };
    const struct apr_meta *meta = &page->x->m->meta;
    struct apr_page *p = &page->html;
    if (meta->n == 0)
        return APR_OK;
    fprintf(p->to, "<section><h2>Metadata <span class=\"count\">%zu</span></h2>\n", meta->n);
    apr_page_table(p, "metadata", meta->n > MOST_KEYS ? "The first 1,000 keys; the data has all." : "", column, APR_LENGTH(column));
    for (size_t i = 0; i < meta->n && i < MOST_KEYS; i++) {
        const struct apr_value *v = &meta->entry[i].value;
        put_text(p, "<tr><td class=\"name\">", meta->entry[i].key, "</td>");
        fprintf(p->to, "<td>%s", apr_meta_type_word(v->type == APR_META_ARRAY ? v->element : v->type));
        if (v->type == APR_META_ARRAY)
            fprintf(p->to, "[%" PRIu64 "]", apr_meta_length(v));
        fputs("</td>", p->to);
        APR_TRY(put_value(p, v, e));
    }
    fputs("</tbody></table></div></section>\n", p->to);
    return APR_OK;
}

/* ---- the page ------------------------------------------------------------------------------------------------------- */

static const char drawings[] =
    "<noscript><p class=\"note\">The drawings need a script; every number is in the tables.</p></noscript>\n"
    "<section><h2>Layers by roles</h2><div id=\"map\"></div></section>\n"
    "<section><h2>Values by role</h2><div id=\"values\"></div></section>\n";

static enum apr_code fill(struct page *page, struct options *o, struct apr_error *e)
{
    APR_TRY(write_data(page, o, e));
    apr_page_body(&page->html);
    put_head(page);
    put_findings(page);
    fputs(drawings, page->html.to);
    put_dtypes(page);
    put_tensors(page);
    APR_TRY(put_metadata(page, e));
    return apr_page_end(&page->html, script, e);
}

int write_page(struct inspection *x)
{
    const struct options *asked = x->o;
    struct options o = { .cli = asked->cli, .selection = asked->selection, .full = asked->full, .html = asked->html,
                         .check = asked->check != CHECK_NONE ? asked->check : CHECK_ALL };
    struct inspection own = *x;
    struct page page = { .x = &own, .row = malloc(MOST_ROWS * sizeof(struct scanned)) };
    struct apr_error e;
    own.o = &o;
    own.findings = (struct findings){ 0 };
    enum apr_code code = page.row == NULL ? apr_no_memory(&e) : apr_page_begin(&page.html, o.html, x->path, &e);
    if (code == APR_OK)
        code = fill(&page, &o, &e);
    if (code != APR_OK)
        apr_error_in(&e, x->path);
    apr_page_drop(&page.html);
    free_findings(&own.findings);
    free(page.row);
    return code == APR_OK ? APR_EXIT_YES : apr_cli_fail(&x->o->cli, &e);
}
