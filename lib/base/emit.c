#include "base/emit.h"
#include "base/memstream.h"

#include <stdlib.h>

enum apr_code apr_emit_begin(struct apr_emit *m, struct apr_error *e)
{
    *m = (struct apr_emit){ 0 };
    m->to = apr_memstream(&m->at, &m->n);
    return m->to == NULL ? apr_no_memory(e) : APR_OK;
}

void apr_put_integer(unsigned char *to, uint64_t v, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        to[i] = (unsigned char)(v >> 8 * i);
}

void apr_emit_integer(FILE *to, uint64_t v, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        putc((int)(v >> 8 * i & 0xFF), to);
}

void apr_emit_bytes(FILE *to, struct apr_bytes b)
{
    if (b.n > 0)
        fwrite(b.at, 1, b.n, to);
}

void apr_emit_fill(FILE *to, int byte, uint64_t n)
{
    for (; n > 0; n--)
        putc(byte, to);
}

uint64_t apr_emit_length(const struct apr_emit *m)
{
    fflush(m->to); /* what fails then is told at the end */
    return m->n;
}

enum apr_code apr_emit_end(struct apr_emit *m, struct apr_bytes *out, struct apr_error *e)
{
    const bool lost = ferror(m->to) != 0;
    const bool closed = fclose(m->to) == 0;
    m->to = NULL;
    if (lost || !closed || m->at == NULL) { /* memory that is out when it closes leaves no text */
        apr_emit_drop(m);
        return apr_no_memory(e);
    }
    *out = (struct apr_bytes){ (const unsigned char *)m->at, m->n };
    m->at = NULL;
    return APR_OK;
}

void apr_emit_drop(struct apr_emit *m)
{
    if (m->to != NULL)
        fclose(m->to);
    free(m->at);
    *m = (struct apr_emit){ 0 };
}
