/* --target-bpw and --target-size: the tensors of a conversion as convert/aim.h asks about them, and what it answers: dtypes, a recipe. */
#include "convert/conversion_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/sink.h"
#include "model/format.h"
#include "values/dtype.h"

bool apr_has_aim(const struct apr_convert_options *o) { return o->target_bpw > 0 || o->target_size > 0; }

/* ---- asking --------------------------------------------------------------------------------------------------------- */

/* Which dtypes the target's format has, for a matrix of whole blocks. */
static uint64_t held(const struct apr_conversion *c)
{
    uint64_t dtypes = 0;
    const char *why;
    for (size_t i = 0; i < APR_NDTYPES; i++) {
        if (apr_dtypes[i].packed)
            break; /* they come last, and none is written */
        const struct apr_planned t = { .dtype = &apr_dtypes[i], .ndim = 2, .dim = { 1, 256 }, .count = 256, .row = 256 };
        dtypes |= (uint64_t)c->format->rule->holds(&t, &why) << i;
    }
    return dtypes;
}

/* What it takes in the target as it is now. */
static uint64_t bytes_now(const struct apr_planned *t)
{
    struct apr_tensor shape = { .dtype = t->dtype, .ndim = t->ndim };
    uint64_t bytes;
    memcpy(shape.dim, t->dim, sizeof shape.dim);
    return apr_tensor_measure(&shape, &bytes) ? bytes : UINT64_MAX;
}

/* A tensor that a rule or an option has decided stays so; one that a preset would leave alone is left alone. */
static struct apr_aim_tensor ask(const struct apr_conversion *c, const struct apr_planned *t, const struct apr_mixed *m, bool free)
{
    const struct apr_dtype *const stored = t->values != NULL ? NULL : apr_stored_dtype_of(t->in);
    const bool again = stored == NULL || !apr_is_quantized(stored) || c->o->allow_requantize;
    return (struct apr_aim_tensor){ .name = t->name, .in = t->in, .importance = t->importance, .kept = t->dtype, .kept_bytes = bytes_now(t),
                                   .count = t->count, .fixed = t->values != NULL || m->ruled != NULL || !free || !again };
}

/* What would let more tensors change, or lets them become less. */
static enum apr_code tell_what_helps(const struct apr_conversion *c, enum apr_code code, struct apr_error *e)
{
    const size_t n = strlen(e->text);
    bool blocks = false;
    for (size_t i = 0; i < c->aim.ntensor; i++)
        blocks |= c->aim.tensor[i].fixed && apr_is_quantized(c->aim.tensor[i].kept);
    if (c->aim.unreachable && n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - n, "%s%s",
                 blocks && !c->o->allow_requantize ? "; --allow-requantize lets quantized tensors change" : "",
                 c->imatrix == NULL ? "; with --imatrix there are smaller types" : "");
    return code;
}

enum apr_code apr_choose_towards(struct apr_conversion *c, struct apr_planned *t, struct apr_mixed *mixed, const struct apr_mix *mix,
                                 struct apr_error *e)
{
    const size_t n = c->source.wishes.n;
    struct apr_aim *const aim = &c->aim;
    *aim = (struct apr_aim){ .bpw = c->o->target_bpw, .size = c->o->target_size, .overhead = c->overhead,
                             .alignment = c->format->rule->align(&c->plan), .allowed = held(c), .sample = APR_AIM_SAMPLE,
                             .nan_to_zero = c->o->nan_to_zero, .ntensor = n };
    aim->tensor = calloc(n + 1, sizeof *aim->tensor);
    if (aim->tensor == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < n; i++)
        aim->tensor[i] = ask(c, &t[i], &mixed[i], apr_mix_may_change(mix, &mixed[i]));
    const enum apr_code code = apr_aim_choose(aim, &c->o->cli.run, e);
    if (code != APR_OK)
        return tell_what_helps(c, code, e);
    for (size_t i = 0; i < n; i++)
        mixed[i].dtype = aim->tensor[i].chosen.dtype;
    return APR_OK;
}

/* ---- the recipe ----------------------------------------------------------------------------------------------------- */

/* Every tensor by its name, so that the run with it alone gives the same. */
static enum apr_code recipe_text(const struct apr_conversion *c, struct apr_bytes *text, struct apr_error *e)
{
    const struct apr_plan *const p = &c->plan;
    struct apr_recipe_line *const line = calloc(p->ntensor + 1, sizeof *line);
    size_t n = 0;
    if (line == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < p->ntensor; i++) {
        const struct apr_planned *const t = &p->tensor[i];
        if (t->how != APR_GENERATE)
            line[n++] = (struct apr_recipe_line){ t->name, t->how == APR_ENCODE ? t->dtype : NULL };
    }
    static const char remark[] = "Dtypes as apr-convert chose them: for --recipe, with the same model and the same --imatrix.";
    const enum apr_code code = apr_recipe_write(text, remark, line, n, e);
    free(line);
    return code;
}

enum apr_code apr_save_recipe(const struct apr_conversion *c, struct apr_error *e)
{
    struct apr_bytes text;
    struct apr_sink file;
    if (c->o->write_recipe == NULL)
        return APR_OK;
    APR_TRY(recipe_text(c, &text, e));
    enum apr_code code = apr_sink_begin(&file, c->o->write_recipe, text.n, e);
    if (code == APR_OK) {
        file.fresh = !c->o->force;
        if (text.n > 0)
            fwrite(text.at, 1, text.n, file.to);
        code = apr_sink_end(&file, e);
    }
    free((void *)(uintptr_t)text.at);
    if (code != APR_OK)
        apr_error_in(e, c->o->write_recipe);
    return code;
}
