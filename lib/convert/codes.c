/* Packed weights that are carried as they are stored, by the names of their codes and of what is beside those. */
#include "convert/conversion_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"

void apr_tell_codes(const struct apr_convert_source *s, struct apr_error *e)
{
    struct apr_packing *p = NULL;
    struct apr_error ignored;
    const char *method;
    if (s->opened == NULL || s->packing != NULL || apr_packing_of(&p, s->opened, s->config, &ignored) != APR_OK || p == NULL)
        return;
    if (apr_packing_count(p, &method) > 0) {
        const size_t n = strlen(e->text);
        snprintf(e->text + n, sizeof e->text - n, "; its weights are carried as they are stored, by %s under the names of codes and scales"
                 ": --type makes one tensor of each", method);
    }
    apr_packing_free(p);
}

/* The model as it would be written: names and tensors, no more. */
static enum apr_code put_together(struct apr_model *m, const struct apr_conversion *c, struct apr_error *e)
{
    const size_t n = c->plan.ntensor;
    bool fresh;
    *m = *c->source.opened;
    m->arena = NULL;
    m->by_name = (struct apr_table){ 0 };
    m->ntensor = 0;
    m->tensor = calloc(n + 1, sizeof *m->tensor);
    if (m->tensor == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        const struct apr_planned *const t = &c->plan.tensor[i];
        if (t->in == NULL || t->in->view.npart != 1)
            continue;
        union apr_table_value *const at = apr_table_put(&m->by_name, t->name, &fresh);
        if (at == NULL)
            return apr_no_memory(e);
        at->number = m->ntensor;
        m->tensor[m->ntensor] = *apr_input_part(t->in, 0);
        m->tensor[m->ntensor++].name = t->name;
    }
    return APR_OK;
}

/* Would codes that fit be written so that they do not? */
static enum apr_code check_written_codes(const struct apr_conversion *c, const struct apr_model *m, struct apr_error *e)
{
    const struct apr_convert_source *const s = &c->source;
    struct apr_packing *before = NULL, *after = NULL;
    struct apr_error why;
    enum apr_code code = apr_packing_of(&before, s->opened, s->config, e);
    if (code == APR_OK && before != NULL && apr_packing_understood(before, "", &why) == APR_OK) {
        code = apr_packing_of(&after, m, s->config, e);
        if (code == APR_OK)
            code = apr_packing_understood(after, "what is renamed or left out of a packed weight leaves its codes without a meaning", e);
    }
    apr_packing_free(after);
    apr_packing_free(before);
    return code;
}

enum apr_code apr_check_codes(const struct apr_conversion *c, struct apr_error *e)
{
    struct apr_model m;
    if (c->source.packing != NULL || (c->o->drop == NULL && c->o->keep == NULL && c->o->edits.rename.n == 0))
        return APR_OK;
    enum apr_code code = put_together(&m, c, e);
    if (code == APR_OK)
        code = check_written_codes(c, &m, e);
    apr_table_free(&m.by_name);
    free(m.tensor);
    return code;
}
