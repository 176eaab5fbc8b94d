#include "reheader.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum apr_code apr_reheader_fill(struct apr_reheader *h, struct apr_bytes start, int fill, struct apr_error *e)
{
    const uint64_t n = h->room + h->inserted;
    h->missing = start.n > n ? start.n - n : 0;
    if (h->missing > 0)
        return APR_OK;
    unsigned char *const at = malloc((size_t)n + 1);
    if (at == NULL)
        return apr_no_memory(e);
    memset(at, fill, (size_t)n);
    if (start.n > 0)
        memcpy(at, start.at, start.n);
    h->header = (struct apr_bytes){ at, (size_t)n };
    return APR_OK;
}

bool apr_value_untouched(const struct apr_value *a, const struct apr_value *b)
{
    return a->type == b->type && a->element == b->element && a->encoding == b->encoding && a->n == b->n && a->u == b->u &&
           a->text.at == b->text.at && a->text.n == b->text.n;
}
