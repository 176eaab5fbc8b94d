/* What stands packed behind a file's header, unpacked into an unlinked temporary file step by step: a caller looks at what there is
 * before it asks for more, and never more is written than was asked for. So a bomb costs what its index can justify. */
#ifndef APR_INFLATE_H
#define APR_INFLATE_H

#include "files/source.h"

/* ZSTD  frames back to back, skippable ones among them, with windows of at most 128 MiB
 * LZ4   the decoded size as u32, then one block */
enum apr_packing { APR_PACKED_ZSTD, APR_PACKED_LZ4 };

struct apr_inflater;

/* Begins on s: `header` bytes of its map are carried as they are, the rest is packed. s must outlive the inflater, which ends with
 * apr_inflate_free. Offsets in messages are those of the packed file. */
APR_MUST_CHECK enum apr_code apr_inflate_new(struct apr_inflater **f, const struct apr_source *s, size_t header, enum apr_packing packing,
                                             const struct apr_run *r, struct apr_error *e);

/* Unpacks until there are n bytes, the header among them, or all there are: then the packed bytes are known to end well. */
APR_MUST_CHECK enum apr_code apr_inflate_to(struct apr_inflater *f, uint64_t n, struct apr_error *e);

/* The bytes there are now, mapped until the next call with f. */
APR_MUST_CHECK enum apr_code apr_inflate_view(struct apr_inflater *f, struct apr_bytes *view, struct apr_error *e);

/* Puts the bytes there are in the place of s->map. Only apr_inflate_free may follow. */
APR_MUST_CHECK enum apr_code apr_inflate_into(struct apr_inflater *f, struct apr_source *s, struct apr_error *e);

void apr_inflate_free(struct apr_inflater *f); /* NULL is nothing */

#endif
