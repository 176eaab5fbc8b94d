/* --filter and --family-file, which every tool has that looks at tensors: which of them, and by whose contracts. */
#ifndef APR_SELECTION_H
#define APR_SELECTION_H

#include "base/pattern.h"
#include "family/family.h"
#include "ui/cli.h"

/* filters, files: as given on the command line. filter: NULL when there was none. families: the embedded and the user's. */
struct apr_selection {
    struct apr_texts     filters, files;
    struct apr_patterns *filter;
    struct apr_families *families;
};

/* The option's rows for a tool's table. */
#define APR_SELECTION_FILTER(s, help) "--filter", APR_OPTION_LIST, &(s)->filters, "PATTERN", help "; repeatable"
#define APR_SELECTION_FAMILY(s)       "--family-file", APR_OPTION_INPUTS, &(s)->files, "FILE", "a model family's contract of your own; repeatable", .files = "yaml yml"

/* Reads the filters; APR_EARG names one that is no pattern, which is a matter of usage. Reads the contracts; e names the file. Free with
 * apr_selection_free, after a failure too. */
APR_MUST_CHECK enum apr_code apr_selection_filters(struct apr_selection *s, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_selection_families(struct apr_selection *s, const struct apr_run *r, struct apr_error *e);
void apr_selection_free(struct apr_selection *s);

#endif
