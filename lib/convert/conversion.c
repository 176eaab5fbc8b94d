/* A conversion from its options to what is written. */
#include "convert/conversion_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "files/sink.h"
#include "model/format.h"
#include "ui/progress.h"

#define MOST_TRIES 3 /* of a plan for a size */

static enum apr_code begin_plan(struct apr_conversion *c, struct apr_error *e)
{
    const struct apr_convert_options *const o = c->o;
    struct apr_plan *const p = &c->plan;
    p->format = c->format;
    p->folder = c->folder;
    p->out = o->out;
    p->force = o->force;
    p->nan_to_zero = o->nan_to_zero;
    p->resume = o->resume || o->partial != NULL;
    p->shard_bytes = o->shard_size;
    p->nshard = (unsigned)(o->nparts > 0 ? o->nparts : o->shards);
    p->only = (unsigned)o->part;
    p->zstd = o->zstd;
    if (!c->folder || p->out[strlen(p->out) - 1] == '/')
        return APR_OK;
    p->out = (const char *)apr_arena_format(&p->arena, "%s/", p->out).at;
    return p->out == NULL ? apr_no_memory(e) : APR_OK;
}

static enum apr_code open_imatrix(struct apr_conversion *c, struct apr_error *e)
{
    if (c->o->imatrix == NULL)
        return APR_OK;
    const enum apr_code code = apr_imatrix_open(&c->imatrix, c->o->imatrix, &c->o->cli.run, e);
    if (code != APR_OK)
        apr_error_in(e, c->o->imatrix);
    return code;
}

/* All that is known before any data is written. */
static enum apr_code plan_all(struct apr_conversion *c, struct apr_error *e)
{
    APR_TRY(begin_plan(c, e));
    APR_TRY(apr_plan_tensors(c, e));
    APR_TRY(apr_plan_metadata(c, e));
    return apr_plan_place(&c->plan, e);
}

static enum apr_code same_place(const char *path, const struct apr_target *recipe, struct apr_error *e)
{
    struct apr_target place = { .stream = -1, .folder = -1 };
    enum apr_code code = apr_target_find(&place, path, e);
    if (code == APR_OK && apr_target_same(recipe, &place))
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: the model goes there");
    apr_target_free(&place);
    return code;
}

/* A recipe in the place of what else is written would be gone. What is there is replaced by --force alone. */
static enum apr_code check_recipe(const struct apr_conversion *c, struct apr_error *e)
{
    const char *const path = c->o->write_recipe;
    struct apr_target recipe = { .stream = -1, .folder = -1 };
    if (path == NULL)
        return APR_OK;
    enum apr_code code = apr_target_find(&recipe, path, e);
    for (size_t i = 0; i < c->plan.nfile && code == APR_OK; i++)
        code = same_place(c->plan.file[i].path, &recipe, e);
    if (code == APR_OK && c->plan.resume && strncmp(path, c->plan.out, strlen(c->plan.out)) == 0 && strstr(path, ".apr-partial") != NULL)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: an interrupted run would be there");
    if (code == APR_OK && recipe.stream < 0 && recipe.exists && S_ISREG(recipe.st.st_mode) && !c->o->force)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "is there already: --force replaces it");
    apr_target_free(&recipe);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

/* How much of the one planned file is no tensor. The last tensor is not filled up in every format. */
static uint64_t overhead_of(const struct apr_plan *p)
{
    uint64_t overhead = p->file[0].size;
    for (size_t i = 0; i < p->ntensor; i++)
        overhead -= (i + 1 < p->ntensor ? p->tensor[i + 1].at : p->file[0].data) - p->tensor[i].at;
    return overhead;
}

static void forget_plan(struct apr_conversion *c)
{
    apr_plan_end(&c->plan);
    free(c->aim.tensor);
    c->aim.tensor = NULL;
    c->head = c->quantized = false;
    c->bytes = c->elements = c->expert_elements = c->nexpert = 0;
}

/* What is no tensor is known from a plan in which each stays as it is. The header may say more when they do not: then it is planned
 * again. */
static enum apr_code plan_to_size(struct apr_conversion *c, struct apr_error *e)
{
    c->plain = true;
    APR_TRY(plan_all(c, e));
    c->plain = false;
    for (int tries = 0; tries < MOST_TRIES; tries++) {
        c->overhead = overhead_of(&c->plan);
        forget_plan(c);
        APR_TRY(plan_all(c, e));
        c->aim.reached = (double)c->plan.file[0].size;
        if (c->plan.file[0].size <= c->o->target_size)
            return APR_OK;
    }
    return apr_fail(e, APR_EARG, APR_NOWHERE, "the file would have %llu bytes, not %llu", (unsigned long long)c->plan.file[0].size,
                    (unsigned long long)c->o->target_size);
}

enum apr_code apr_conversion_plan(struct apr_conversion *c, struct apr_error *e)
{
    APR_TRY(apr_conversion_free_to(c, e));
    APR_TRY(apr_conversion_open(c, e));
    APR_TRY(open_imatrix(c, e));
    APR_TRY(c->o->target_size > 0 ? plan_to_size(c, e) : plan_all(c, e));
    return check_recipe(c, e);
}

enum apr_code apr_conversion_write(struct apr_conversion *c, struct apr_error *e)
{
    const enum apr_code code = apr_plan_write(&c->plan, &c->o->cli.run, !c->o->no_verify, &c->verified, e);
    apr_progress_end(c->o->cli.run.progress);
    return code == APR_OK ? apr_save_recipe(c, e) : code;
}

void apr_conversion_end(struct apr_conversion *c)
{
    apr_plan_end(&c->plan);
    apr_imatrix_close(c->imatrix);
    free(c->aim.tensor);
    apr_conversion_close(c);
}
