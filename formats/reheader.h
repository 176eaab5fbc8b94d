/* What the headers for an edit in place have in common; the three makers of them. */
#ifndef APR_REHEADER_H
#define APR_REHEADER_H

#include "base/emit.h"
#include "model/format.h"

enum apr_code apr_gguf_reheader(struct apr_reheader *h, struct apr_error *e);
enum apr_code apr_apr_reheader(struct apr_reheader *h, struct apr_error *e);
enum apr_code apr_safetensors_reheader(struct apr_reheader *h, struct apr_error *e);

/* room + inserted bytes of `fill` for h->header; the first are those of `start`. When those are too many h->missing says by how many, and
 * there is no header. */
APR_MUST_CHECK enum apr_code apr_reheader_fill(struct apr_reheader *h, struct apr_bytes start, int fill, struct apr_error *e);

/* Is it the value that the file has, untouched? */
bool apr_value_untouched(const struct apr_value *a, const struct apr_value *b);

#endif
