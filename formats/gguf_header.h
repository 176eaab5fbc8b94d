/* How far the header of a GGUF goes, which says nowhere how long it is. */
#ifndef APR_FORMATS_GGUF_HEADER_H
#define APR_FORMATS_GGUF_HEADER_H

#include "base/core.h"

#define LEAST_KEY    (8 + 1 + 4 + 1)      /* bytes of the smallest entries there can be: a count is held against them */
#define LEAST_TENSOR (8 + 4 + 4 + 8)
#define LEAST_STRING 8
#define LEAST_ARRAY  (4 + 8)
#define MOST_DEPTH   16u                  /* arrays in arrays */
#define MOST_DIMS    4u

/* Where the header ends that begins with `start`; when that lies behind it, how many bytes to have before asking again: what they can be
 * seen to take, and some more, so that few reads do. Arrays under way are taken to go on as they began. start.n where it makes no sense,
 * which reading it will tell. */
uint64_t apr_gguf_header(struct apr_bytes start, uint64_t size);

#endif
