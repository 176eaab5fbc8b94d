/* Base64 (RFC 4648, the standard alphabet, padded). */
#ifndef APR_BASE64_H
#define APR_BASE64_H

#include "base/arena.h"
#include "base/core.h"

/* In the arena, with a NUL behind; at is NULL when memory is out. */
struct apr_bytes apr_base64_encode(struct apr_arena **a, struct apr_bytes bytes);

/* False for what is no base64, or when memory is out (*out.at is NULL then). */
bool apr_base64_decode(struct apr_arena **a, struct apr_bytes text, struct apr_bytes *out);

#endif
