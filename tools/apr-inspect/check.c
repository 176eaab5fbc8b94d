/* Stages 1 to 3 as the readers left them, and the order of all ten. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/findings.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/model.h"
#include "ui/share.h"

bool has_weights(const struct inspection *x) { return x->kind != APR_KIND_TRACE && x->kind != APR_KIND_IMATRIX; }

/* ---- what readers noted --------------------------------------------------------------------------------------------- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* The text with its place before it: a shard's name where there are several, the byte where there is one. */
static enum apr_code add_placed(struct inspection *x, const struct apr_note *note, struct apr_error *e)
{
    const bool sharded = x->m->nfile > 1;
    const char *file = sharded ? last_part(x->m->file[note->file]->path) : "";
    char byte[40] = "";
    if (note->at != APR_NOWHERE)
        snprintf(byte, sizeof byte, "at byte %llu: ", (unsigned long long)note->at);
    return add_finding(&x->findings, note->code, note->tensor, e, "%s%s%s%s", file, sharded ? ": " : "", byte,
                       note->text);
}

static enum apr_code add_notes(struct inspection *x, unsigned stage, struct apr_error *e)
{
    for (size_t i = 0; i < x->m->nnote; i++)
        if (x->m->note[i].stage == stage)
            APR_TRY(add_placed(x, &x->m->note[i], e));
    return APR_OK;
}

/* Checksums over all of the bytes, where the format has them. */
static enum apr_code verify_files(struct inspection *x, struct apr_error *e)
{
    const struct apr_model *m = x->opened;
    for (size_t i = 0; m->format->verify != NULL && i < m->nfile; i++) {
        struct apr_error why;
        if (x->o->nparts > 0 && apr_share_of(i, m->nfile, x->o->nparts) != x->o->part)
            continue;
        const enum apr_code code = m->format->verify(m, m->file[i], &why);
        apr_error_in(&why, m->file[i]->path);
        if (code != APR_OK && why.finding == NULL) {
            *e = why;
            return code;
        }
        if (code != APR_OK)
            APR_TRY(finding_of_error(&x->findings, &why, e));
    }
    return APR_OK;
}

/* ---- an error as a finding ------------------------------------------------------------------------------------------ */

enum apr_code finding_of_error(struct findings *f, const struct apr_error *why, struct apr_error *e)
{
    const struct apr_bytes tensor = apr_arena_copy(&f->arena, (struct apr_bytes){ why->tensor, why->tensor_bytes }); /* outlives why */
    char byte[40] = "";
    if (why->code == APR_ENOMEM || why->code == APR_EARG)
        return APR_OK;
    if (why->at != APR_NOWHERE)
        snprintf(byte, sizeof byte, "at byte %llu: ", (unsigned long long)why->at);
    return add_finding(f, why->finding != NULL ? why->finding : "file.unreadable", tensor, e, "%s: %s%s", last_part(why->file), byte,
                       why->text);
}

/* ---- the ten stages ------------------------------------------------------------------------------------------------- */

/* Of shares the first does what takes headers alone. */
enum apr_code check_model(struct inspection *x, struct apr_error *e)
{
    const bool headers = x->o->part <= 1;
    if (headers)
        APR_TRY(add_notes(x, APR_STAGE_CONTAINER, e));
    if (x->o->check == CHECK_ALL)
        APR_TRY(verify_files(x, e));
    if (headers) {
        APR_TRY(add_notes(x, APR_STAGE_INDEX, e));
        APR_TRY(add_notes(x, APR_STAGE_EXTENTS, e));
        APR_TRY(check_index(x, e));
        APR_TRY(add_notes(x, APR_STAGE_METADATA, e));
        APR_TRY(check_metadata(x, e));
        APR_TRY(check_contract(x, e));
        APR_TRY(check_tokenizer(x, e));
    }
    if (x->o->check == CHECK_ALL)
        APR_TRY(check_values(x, e));
    return apr_model_unchanged(x->m, e);
}
