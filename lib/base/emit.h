/* Bytes of a file put together in memory, front to back. */
#ifndef APR_EMIT_H
#define APR_EMIT_H

#include <stdio.h>

#include "base/core.h"

/* `to` takes bytes by way of stdio until the end. Private: at, n. */
struct apr_emit {
    FILE  *to;
    char  *at;
    size_t n;
};

APR_MUST_CHECK enum apr_code apr_emit_begin(struct apr_emit *m, struct apr_error *e);
void apr_put_integer(unsigned char *to, uint64_t v, unsigned width); /* little-endian, of 1 to 8 bytes */
void apr_emit_integer(FILE *to, uint64_t v, unsigned width);      /* likewise */
void apr_emit_bytes(FILE *to, struct apr_bytes b);
void apr_emit_fill(FILE *to, int byte, uint64_t n);

/* How many bytes there are so far. */
uint64_t apr_emit_length(const struct apr_emit *m);

/* All of them; the caller frees out->at with free. Memory that ran out on the way is told here. */
APR_MUST_CHECK enum apr_code apr_emit_end(struct apr_emit *m, struct apr_bytes *out, struct apr_error *e);

/* Gives them up. Also after apr_emit_end. */
void apr_emit_drop(struct apr_emit *m);

#endif
