#include "flow/selection.h"

#include "base/bytes.h"

enum apr_code apr_selection_filters(struct apr_selection *s, struct apr_error *e)
{
    struct apr_error why;
    for (size_t i = 0; i < s->filters.n; i++)
        if (apr_patterns_add(&s->filter, apr_text(s->filters.text[i]), &why) != APR_OK)
            return apr_fail(e, why.code, APR_NOWHERE, "--filter: %s", why.text);
    return APR_OK;
}

enum apr_code apr_selection_families(struct apr_selection *s, const struct apr_run *r, struct apr_error *e)
{
    APR_TRY(apr_families_new(&s->families, e));
    for (size_t i = 0; i < s->files.n; i++)
        APR_TRY(apr_families_add(s->families, s->files.text[i], r, e));
    return APR_OK;
}

void apr_selection_free(struct apr_selection *s)
{
    apr_patterns_free(s->filter);
    apr_families_free(s->families);
}
