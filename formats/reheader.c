#include "reheader.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum apr_code apr_build(struct apr_builder *b, struct apr_error *e)
{
    *b = (struct apr_builder){ 0 };
    b->to = open_memstream(&b->text, &b->n);
    return b->to == NULL ? apr_no_memory(e) : APR_OK;
}

enum apr_code apr_built(struct apr_builder *b, struct apr_error *e)
{
    const bool lost = ferror(b->to) != 0;
    const int closed = fclose(b->to);
    b->to = NULL;
    b->made = (struct apr_bytes){ (unsigned char *)b->text, b->n };
    return lost || closed != 0 || b->text == NULL ? apr_no_memory(e) : APR_OK;
}

void apr_build_integer(struct apr_builder *b, uint64_t v, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        putc((int)(v >> 8 * i & 0xFF), b->to);
}

void apr_build_bytes(struct apr_builder *b, struct apr_bytes bytes)
{
    if (bytes.n > 0)
        fwrite(bytes.at, 1, bytes.n, b->to);
}

void apr_build_drop(struct apr_builder *b)
{
    if (b->to != NULL)
        fclose(b->to);
    free(b->text);
    *b = (struct apr_builder){ 0 };
}

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
