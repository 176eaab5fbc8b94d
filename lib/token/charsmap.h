/* SentencePiece's precompiled normalization: what stands for a run of characters. */
#ifndef APR_CHARSMAP_H
#define APR_CHARSMAP_H

#include "base/core.h"

/* A view of it; begin with apr_charsmap_on, of no bytes for one that maps nothing.
 *   units, texts  private: a double array, and what its values are places in
 *   first         where the walk stands behind each byte that begins a run, or 0 */
struct apr_charsmap {
    struct apr_bytes units, texts;
    uint32_t         first[256];
};
APR_MUST_CHECK enum apr_code apr_charsmap_on(struct apr_charsmap *m, struct apr_bytes bytes, struct apr_error *e);

/* The longest run that the text begins with, or the shortest: its bytes, 0 when there is none, and what stands for it,
 * which is UTF-8. APR_ECORRUPT: it leads out of itself. */
struct apr_mapped {
    size_t           n;
    struct apr_bytes to;
};
APR_MUST_CHECK enum apr_code apr_charsmap_find(const struct apr_charsmap *m, struct apr_bytes text, bool shortest, struct apr_mapped *found,
                                               struct apr_error *e);

#endif
