#include "model/fetch.h"

#include "files/source.h"
#include "model/format.h"

enum apr_code apr_fetch_header(const struct apr_format *format, struct apr_source *s, struct apr_error *e)
{
    for (;;) {
        const struct apr_bytes head = apr_source_head(s);
        const uint64_t n = head.n == s->map.n || format->header == NULL ? 0 : format->header(head, s->map.n);
        if (n <= head.n)
            return APR_OK;
        if (n == APR_HEADER_ALL)
            return apr_source_fetch(s, apr_source_missing(s), e);
        APR_TRY(apr_source_reach(s, n, e));
    }
}

enum apr_code apr_fetch_all(const struct apr_model *m, struct apr_error *e)
{
    uint64_t bytes = 0, missing = 0;
    for (size_t i = 0; i < m->nfile; i++) {
        bytes += m->file[i]->map.n;
        missing += apr_source_missing(m->file[i]);
    }
    for (size_t i = 0; i < m->nfile; i++)
        if (apr_source_missing(m->file[i]) > 0) {
            APR_TRY(apr_source_may_fetch(m->file[i], bytes, e));
            APR_TRY(apr_source_fetch(m->file[i], missing, e));
            missing = 0; /* is told once */
        }
    return APR_OK;
}

enum apr_code apr_fetch_tensor(const struct apr_model *m, const struct apr_tensor *t, struct apr_error *e)
{
    return t->file < m->nfile ? apr_source_want(m->file[t->file], t->data, e) : APR_OK;
}
