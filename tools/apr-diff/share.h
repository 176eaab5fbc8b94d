/* The JSON of one --partition run, which is a file like any other: nothing in it is believed. */
#ifndef APR_DIFF_SHARE_H
#define APR_DIFF_SHARE_H

#include "diff.h"
#include "model/json.h"

/* One share. Strings are borrowed from `top`, rows stay in the text.
 *   top       all keys but "results"
 *   results   the rows' text, and where it begins
 *   number, of  which share, of how many
 *   metadata, config  its members of those names */
struct share {
    struct apr_source *s;
    json_t            *top;
    struct apr_bytes   results;
    struct apr_item    metadata, config;
    uint64_t           results_at, number, of;
};

/* Opens and checks it whole: its keys, every row, and that its counts and its verdict are what its rows add up to. Messages name the
 * file and the row. Free with free_share, after a failure too. */
APR_MUST_CHECK enum apr_code read_share(struct share *p, const char *path, const struct apr_run *r, struct apr_error *e);
void free_share(struct share *p);

/* Hands its rows to take, in order; what a row borrows lives until take returns. */
APR_MUST_CHECK enum apr_code share_rows(const struct share *p, row_fn *take, void *ctx, struct apr_error *e);

/* Its metadata, as compare_metadata would have it; *d NULL when it was not compared. In `into`, which free_metadata frees. */
APR_MUST_CHECK enum apr_code share_metadata(const struct share *p, struct metadata *into, const struct metadata **d, struct apr_error *e);

/* Its config, as compare_config would have it. In `into`, which free_config frees. */
APR_MUST_CHECK enum apr_code share_config(const struct share *p, struct config *into, struct apr_error *e);

/* Values of an object that has been checked. */
uint64_t share_count(const json_t *object, const char *key);
double share_real(const json_t *object, const char *key);           /* NAN for null */
const char *share_excuse(const json_t *word);                       /* that of excuse_words, NULL when it is none */
const char *share_text(const json_t *object, const char *key);
struct apr_bytes share_bytes(const json_t *object, const char *key);

#endif
