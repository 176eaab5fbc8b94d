/* "Did you mean": the word of many that is nearest to a misspelt one. */
#ifndef APR_NEAREST_H
#define APR_NEAREST_H

#include "base/core.h"

/* Distance counts characters put in, left out, changed, and neighbours changed round: optimal string alignment (Damerau, "A technique for
 * computer detection and correction of spelling errors", 1964). A word that is the first or the last part of a dotted one is near it,
 * one of three bytes or more that stands between its dots a little less. Words over 128 bytes are never near.
 *   best      the nearest so far, a view of what was tried; empty while none is near: within a fifth of the word, and always within 2
 *   distance  its distance */
struct apr_nearest {
    struct apr_bytes wanted, best;
    unsigned         distance;
};

struct apr_nearest apr_nearest_to(struct apr_bytes wanted);
void apr_nearest_try(struct apr_nearest *n, struct apr_bytes candidate); /* the first of equally near ones stays */

#endif
