/* What the headers for an edit in place have in common; the three makers of them. */
#ifndef APR_REHEADER_H
#define APR_REHEADER_H

#include <stdio.h>

#include "base/core.h"
#include "model/format.h"

enum apr_code apr_gguf_reheader(struct apr_reheader *h, struct apr_error *e);
enum apr_code apr_apr_reheader(struct apr_reheader *h, struct apr_error *e);
enum apr_code apr_safetensors_reheader(struct apr_reheader *h, struct apr_error *e);

/* Bytes being made, in memory. Begin with zeros; what was written is in `made` after apr_built, and the caller frees it, after a failure
 * too. */
struct apr_builder {
    FILE            *to;
    char            *text;
    size_t           n;
    struct apr_bytes made;
};
APR_MUST_CHECK enum apr_code apr_build(struct apr_builder *b, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_built(struct apr_builder *b, struct apr_error *e);
void apr_build_integer(struct apr_builder *b, uint64_t v, unsigned width);
void apr_build_bytes(struct apr_builder *b, struct apr_bytes bytes);
void apr_build_drop(struct apr_builder *b);

/* room + inserted bytes of `fill` for h->header; the first are those of `start`. When those are too many h->missing says by how many, and
 * there is no header. */
APR_MUST_CHECK enum apr_code apr_reheader_fill(struct apr_reheader *h, struct apr_bytes start, int fill, struct apr_error *e);

/* Is it the value that the file has, untouched? */
bool apr_value_untouched(const struct apr_value *a, const struct apr_value *b);

#endif
