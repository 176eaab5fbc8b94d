/* What is said of tensors only in the company of others, whoever looked at them. */
#include "check.h"

#include <stdlib.h>

enum apr_code append_findings(struct findings *into, struct findings *more, struct apr_error *e)
{
    enum apr_code code = APR_OK;
    for (size_t i = 0; i < more->n; i++) {
        const struct finding *f = &more->at[i];
        if (code == APR_OK)
            code = add_finding_as(into, f->severity, f->code, f->tensor, e, "%s", f->text);
    }
    free_findings(more);
    return code;
}

enum apr_code judge_together(const struct judging *j, struct findings *degenerate, struct findings *round_trip, struct apr_error *e)
{
    struct roles roles = { 0 };
    enum apr_code code = find_roles(&roles, j->moments, j->n, e);
    if (code == APR_OK)
        code = check_magnitudes(j, &roles, e);
    const enum apr_code first = append_findings(j->findings, degenerate, e);
    if (code == APR_OK)
        code = first;
    if (code == APR_OK)
        code = check_layers(j, &roles, e);
    const enum apr_code last = append_findings(j->findings, round_trip, e);
    free_roles(&roles);
    return code == APR_OK ? last : code;
}

void free_measured(struct measured *m)
{
    for (size_t i = 0; m->census != NULL && i < m->roles.n; i++)
        free(m->census[i].at);
    free(m->census);
    free(m->moments);
    free_roles(&m->roles);
}
