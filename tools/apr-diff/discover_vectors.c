/* Vectors: their values in another order, parts of each other. */
#include "discover.h"

enum apr_code discover_vectors(struct discovery *d, struct apr_error *e)
{
    (void)d, (void)e;
    return APR_OK;
}
