/* HTML pages: head, escaping, tables. */
#include "ui/page.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NAMES 200

static const char css[] =
#include "ui/page.css.h"
    ;
static const char shared_script[] =
#include "ui/page.js.h"
    ;

void apr_page_drop(struct apr_page *p)
{
    if (p->data.to != NULL)
        fclose(p->data.to);
    apr_sink_drop(&p->file);
    *p = (struct apr_page){ .to = NULL };
}

/* ---- the data ------------------------------------------------------------------------------------------------------- */

/* JSON has '<' only in strings; spelled \u003c it can begin no tag that ends the script element. */
static ssize_t write_data(void *cookie, const char *text, size_t n)
{
    FILE *to = cookie;
    for (size_t i = 0; i < n;) {
        const char *tag = memchr(text + i, '<', n - i);
        const size_t end = tag == NULL ? n : (size_t)(tag - text);
        fwrite(text + i, 1, end - i, to);
        if (tag != NULL)
            fputs("\\u003c", to);
        i = end + (tag != NULL);
    }
    return ferror(to) ? 0 : (ssize_t)n;
}

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n";

enum apr_code apr_page_begin(struct apr_page *p, const char *path, const char *title, struct apr_error *e)
{
    *p = (struct apr_page){ .to = NULL };
    APR_TRY(apr_sink_begin(&p->file, path, 0, e));
    p->to = p->file.to;
    p->data.to = fopencookie(p->to, "w", (cookie_io_functions_t){ .write = write_data });
    if (p->data.to == NULL) {
        apr_page_drop(p);
        return apr_no_memory(e);
    }
    fputs(head, p->to);
    fputs("<title>", p->to);
    apr_page_text(p, (struct apr_bytes){ (const unsigned char *)title, strlen(title) });
    fprintf(p->to, "</title>\n<style>\n%s</style>\n<script type=\"application/json\" id=\"data\">\n", css);
    return APR_OK;
}

void apr_page_body(struct apr_page *p)
{
    fclose(p->data.to); /* what it could not write, p->to remembers */
    p->data.to = NULL;
    fputs("</script>\n</head>\n<body>\n", p->to);
}

enum apr_code apr_page_end(struct apr_page *p, const char *script, struct apr_error *e)
{
    fprintf(p->to, "<script>\n%s%s</script>\n</body>\n</html>\n", shared_script, script);
    return apr_sink_end(&p->file, e);
}

/* ---- the body ------------------------------------------------------------------------------------------------------- */

static const char *entity(unsigned char c)
{
    switch (c) {
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '&': return "&amp;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

void apr_page_text(struct apr_page *p, struct apr_bytes s)
{
    for (size_t i = 0; i < s.n;) {
        const char *name = entity(s.at[i]);
        const size_t length = apr_shown_length(&s.at[i], s.n - i);
        if (name != NULL)
            fputs(name, p->to);
        else if (length > 0)
            fwrite(&s.at[i], 1, length, p->to);
        else
            fprintf(p->to, "\\x%02x", s.at[i]);
        i += length > 0 ? length : 1;
    }
}

void apr_page_fact(struct apr_page *p, const char *word) { fprintf(p->to, "<dt>%s</dt><dd>", word); }

void apr_page_table(struct apr_page *p, const char *id, const char *caption, const char *const *column, size_t n)
{
    fprintf(p->to, "<div class=\"scroll\" tabindex=\"0\"><table id=\"%s\" class=\"sortable\" aria-label=\"%s\">", id, id);
    if (*caption != 0)
        fprintf(p->to, "<caption>%s</caption>", caption);
    fputs("\n<thead><tr>", p->to);
    for (size_t i = 0; i < n; i++)
        fprintf(p->to, "<th scope=\"col\"%s>%s</th>", *column[i] == '#' ? " class=\"n\"" : "", column[i] + 1);
    fputs("</tr></thead>\n<tbody>\n", p->to);
}

void apr_page_real(struct apr_page *p, double v)
{
    char exact[32];
    if (isnan(v))
        fputs("<td class=\"n\">&ndash;</td>", p->to);
    else if (isinf(v))
        fprintf(p->to, "<td class=\"n\" data-v=\"%sInfinity\">%s&infin;</td>", v < 0 ? "-" : "", v < 0 ? "&minus;" : "");
    else
        fprintf(p->to, "<td class=\"n\" data-v=\"%s\">%.4g</td>", apr_spell_real(v, exact), v == 0 ? 0 : v);
}

void apr_page_count(struct apr_page *p, uint64_t v) { fprintf(p->to, "<td class=\"n\" data-v=\"%" PRIu64 "\">%" PRIu64 "</td>", v, v); }

void apr_page_size(struct apr_page *p, uint64_t v)
{
    char size[32];
    fprintf(p->to, "<td class=\"n\" data-v=\"%" PRIu64 "\">%s</td>", v, apr_spell_size(v, size));
}

void apr_page_names(struct apr_page *p, const char *heading, const struct apr_bytes *name, size_t n)
{
    if (n == 0)
        return;
    fprintf(p->to, "<h2>%s <span class=\"count\">%zu</span></h2>\n<ul class=\"names\">\n", heading, n);
    for (size_t i = 0; i < n && i < MOST_NAMES; i++) {
        fputs("<li>", p->to);
        apr_page_text(p, name[i]);
        fputs("</li>\n", p->to);
    }
    fputs("</ul>\n", p->to);
    if (n > MOST_NAMES)
        fprintf(p->to, "<p class=\"note\">and %zu more</p>\n", n - MOST_NAMES);
}
