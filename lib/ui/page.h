/* A page of HTML that stands alone: one file that loads nothing from elsewhere. First comes its data, one JSON object; then what it
 * says in words and tables, which needs no script; last the script that draws the data. */
#ifndef APR_PAGE_H
#define APR_PAGE_H

#include <stdio.h>

#include "base/core.h"
#include "files/sink.h"
#include "ui/report.h"

struct apr_page {
    FILE           *to;   /* HTML goes here, between apr_page_body and apr_page_end */
    struct apr_out  data; /* JSON goes here, between apr_page_begin and apr_page_body */
    struct apr_sink file; /* private */
};

/* Begins a page that will lie at path; a file that is there stays until apr_page_end. */
APR_MUST_CHECK enum apr_code apr_page_begin(struct apr_page *p, const char *path, const char *title, struct apr_error *e);

/* The data is complete; the body begins. */
void apr_page_body(struct apr_page *p);

/* Ends the page with its script and puts it into its place, whole. After a failure there is what was there before. */
APR_MUST_CHECK enum apr_code apr_page_end(struct apr_page *p, const char *script, struct apr_error *e);

/* Gives the page up; nothing is left of it. For a page that was begun and not ended, or is all zero. */
void apr_page_drop(struct apr_page *p);

/* Text from a file: markup is escaped, and what may not be shown stands as \xNN. */
void apr_page_text(struct apr_page *p, struct apr_bytes s);

/* "<dt>word</dt><dd>": what follows is the fact. */
void apr_page_fact(struct apr_page *p, const char *word);

/* Begins a table to be sorted: "|name" for a column of text, "#name" for one of numbers. id names it for scripts and for those who
 * cannot see it; the caption may be "". */
void apr_page_table(struct apr_page *p, const char *id, const char *caption, const char *const *column, size_t n);

/* Cells of numbers, sorted by their value and spelled with four digits or as a size; NAN is a dash. */
void apr_page_real(struct apr_page *p, double v);
void apr_page_count(struct apr_page *p, uint64_t v);
void apr_page_size(struct apr_page *p, uint64_t v);

/* At most 200 names as a list under a heading with their number; nothing when there is none. */
void apr_page_names(struct apr_page *p, const char *heading, const struct apr_bytes *name, size_t n);

#endif
