/* The JSON of one --partition run, which is a file like any other: nothing in it is believed. */
#ifndef APR_DIFF_SHARE_H
#define APR_DIFF_SHARE_H

#include "diff.h"
#include "ui/share.h"

/* One share. Strings are borrowed from base.top, rows stay in the text.
 *   metadata, config  its members of those names */
struct share {
    struct apr_share base;
    struct apr_item  metadata, config;
};

/* Opens and checks it whole: its keys, every row, and that its counts and its verdict are what its rows add up to. Messages name the
 * file and the row. Close base with apr_share_close, after a failure too. */
APR_MUST_CHECK enum apr_code read_share(struct share *p, const char *path, const struct apr_run *r, struct apr_error *e);

/* Hands its rows to take, in order; what a row borrows lives until take returns. */
APR_MUST_CHECK enum apr_code share_rows(const struct share *p, row_fn *take, void *ctx, struct apr_error *e);

/* Its metadata, as compare_metadata would have it; *d NULL when it was not compared. In `into`, which free_metadata frees. */
APR_MUST_CHECK enum apr_code share_metadata(const struct share *p, struct metadata *into, const struct metadata **d, struct apr_error *e);

/* Its config, as compare_config would have it. In `into`, which free_config frees. */
APR_MUST_CHECK enum apr_code share_config(const struct share *p, struct config *into, struct apr_error *e);

const char *share_excuse(const json_t *word); /* that of excuse_words, NULL when it is none */

#endif
