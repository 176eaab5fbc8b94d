/* A path, and the model behind it. */
#ifndef APR_OPEN_H
#define APR_OPEN_H

#include "base/core.h"

/* Opens a model: one file, a folder, an index, any shard of a split model, a trace folder, an APRT file, "-". Formats are known
 * by content. Costs time in the headers, not in the data (but compressed files are inflated, pipes copied, what lies behind an address
 * is fetched, which r->remote must allow). On failure *m is NULL and e names the file. Close it with apr_close. */
APR_MUST_CHECK enum apr_code apr_open(struct apr_model **m, const char *path, const struct apr_run *r, struct apr_error *e);

/* The same, but of what lies behind an address only the headers are there (model/fetch.h), and fetched for this. */
APR_MUST_CHECK enum apr_code apr_open_headers(struct apr_model **m, const char *path, const struct apr_run *r, struct apr_error *e);

/* The same of what is there of one file that was cut short, a download under way: its header and index must be whole, tensors whose data
 * is not are left out and counted in *m. */
APR_MUST_CHECK enum apr_code apr_open_partial(struct apr_model **m, const char *path, const struct apr_run *r, struct apr_error *e);

/* Opens one file as it is, without its siblings, index or config.json: to change it. No folder, index or pipe. */
APR_MUST_CHECK enum apr_code apr_open_alone(struct apr_model **m, const char *path, const struct apr_run *r, struct apr_error *e);

/* A model of one file alone, of a format that is known, whether or not it is one of several. s is the model's from here on, also after a
 * failure. */
APR_MUST_CHECK enum apr_code apr_open_source(struct apr_model **m, struct apr_source *s, const struct apr_format *format,
                                             const struct apr_run *r, struct apr_error *e);

/* Holds each file's checksum over all of its bytes, where its format has one; e names the file. */
APR_MUST_CHECK enum apr_code apr_model_verify(const struct apr_model *m, struct apr_error *e);

/* Unmaps and frees all of it; NULL is nothing. */
void apr_close(struct apr_model *m);

#endif
