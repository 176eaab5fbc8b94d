/* --target-bpw and --target-size: the tensors of a conversion as target.h asks about them, and what it answers: dtypes, a table, a recipe. */
#include "convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/sink.h"
#include "model/format.h"
#include "values/dtype.h"

bool has_target(const struct options *o) { return o->target_bpw > 0 || o->target_size > 0; }

/* ---- asking --------------------------------------------------------------------------------------------------------- */

/* Which dtypes the target's format has, for a matrix of whole blocks. */
static uint64_t held(const struct conversion *c)
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
static struct target_tensor ask(const struct conversion *c, const struct apr_planned *t, const struct apr_mixed *m, bool free)
{
    const struct apr_dtype *const stored = t->values != NULL ? NULL : stored_dtype_of(t->in);
    const bool again = stored == NULL || !apr_is_quantized(stored) || c->o->allow_requantize;
    return (struct target_tensor){ .name = t->name, .in = t->in, .importance = t->importance, .kept = t->dtype, .kept_bytes = bytes_now(t),
                                   .count = t->count, .fixed = t->values != NULL || m->ruled != NULL || !free || !again };
}

/* What would let more tensors change, or lets them become less. */
static enum apr_code tell_what_helps(const struct conversion *c, enum apr_code code, struct apr_error *e)
{
    const size_t n = strlen(e->text);
    bool blocks = false;
    for (size_t i = 0; i < c->aim.ntensor; i++)
        blocks |= c->aim.tensor[i].fixed && apr_is_quantized(c->aim.tensor[i].kept);
    if (c->aim.unreachable && n < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - n, "%s%s", blocks && !c->o->allow_requantize ? "; --allow-requantize lets quantized tensors change" : "",
                 c->imatrix == NULL ? "; with --imatrix there are smaller types" : "");
    return code;
}

enum apr_code choose_towards(struct conversion *c, struct apr_planned *t, struct apr_mixed *mixed, const struct apr_mix *mix,
                             struct apr_error *e)
{
    const size_t n = c->source.wishes.n;
    struct target *const aim = &c->aim;
    *aim = (struct target){ .bpw = c->o->target_bpw, .size = c->o->target_size, .overhead = c->overhead, .alignment = c->format->rule->align(&c->plan),
                            .allowed = held(c), .sample = TARGET_SAMPLE, .nan_to_zero = c->o->nan_to_zero, .ntensor = n };
    aim->tensor = calloc(n + 1, sizeof *aim->tensor);
    if (aim->tensor == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < n; i++)
        aim->tensor[i] = ask(c, &t[i], &mixed[i], apr_mix_may_change(mix, &mixed[i]));
    const enum apr_code code = choose_by_target(aim, &c->o->cli.run, e);
    if (code != APR_OK)
        return tell_what_helps(c, code, e);
    for (size_t i = 0; i < n; i++)
        mixed[i].dtype = aim->tensor[i].chosen.dtype;
    return APR_OK;
}

/* ---- telling -------------------------------------------------------------------------------------------------------- */

static double bits(const struct target_tensor *x, const struct target_option *o)
{
    return x->count == 0 ? 0 : 8 * (double)o->bytes / (double)x->count;
}

static void print_other(const char *word, const struct target_option *o)
{
    if (o->dtype != NULL)
        printf("  %s %-7s %-10.4g", word, o->dtype->name, o->error.weighted);
}

/* In llama-quantize's order, as the tensors lie in a GGUF. */
static int in_order(const void *a, const void *b)
{
    const struct target_tensor *const *const x = a, *const *const y = b;
    return apr_mix_order((*x)->name, (*y)->name);
}

/* "blk.0.ffn_up.weight  Q4_K     4.50 bits  error 12.3        smaller Q3_K    30.1        larger Q5_K    4.4" */
static void print_choices(const struct target *aim, const struct target_tensor **row)
{
    size_t n = 0, width = 0;
    for (size_t i = 0; i < aim->ntensor; i++)
        if (!aim->tensor[i].fixed) {
            row[n++] = &aim->tensor[i];
            width = aim->tensor[i].name.n > width ? aim->tensor[i].name.n : width;
        }
    qsort(row, n, sizeof *row, in_order);
    for (size_t i = 0; i < n; i++) {
        print_name(row[i]->name, width);
        printf("  %-7s %5.2f bits  error %-10.4g", row[i]->chosen.dtype->name, bits(row[i], &row[i]->chosen), row[i]->chosen.error.weighted);
        print_other("smaller", &row[i]->less);
        print_other("larger", &row[i]->more);
        putchar('\n');
    }
}

void print_aim(const struct conversion *c)
{
    const struct target *const aim = &c->aim;
    const struct target_tensor **const row = calloc(aim->ntensor + 1, sizeof *row);
    if (row != NULL)
        print_choices(aim, row);
    free(row);
    if (aim->size > 0)
        printf("target: %.0f of %llu bytes", aim->reached, (unsigned long long)aim->size);
    else
        printf("target: %.4f of %g bits per weight", aim->reached, aim->bpw);
    printf("; error %.6g, %s (bound %.6g)\n", aim->error, aim->exact ? "exact: none is smaller" : "near the smallest", aim->bound);
}

static void write_option(struct apr_out *j, const char *key, const struct target_option *o)
{
    if (o->dtype == NULL) {
        apr_out_null(j, key);
        return;
    }
    apr_out_open(j, key, '{');
    apr_out_text(j, "dtype", o->dtype->name);
    apr_out_count(j, "bytes", o->bytes);
    apr_out_real(j, "error", o->error.weighted);
    apr_out_close(j, '}');
}

void write_aim(struct apr_out *j, const struct conversion *c)
{
    const struct target *const aim = &c->aim;
    apr_out_open(j, "target", '{');
    apr_out_real(j, aim->size > 0 ? "size" : "bits_per_weight", aim->size > 0 ? (double)aim->size : aim->bpw);
    apr_out_real(j, "reached", aim->reached);
    apr_out_real(j, "error", aim->error);
    apr_out_real(j, "bound", aim->bound);
    apr_out_bool(j, "exact", aim->exact);
    apr_out_open(j, "choices", '[');
    for (size_t i = 0; i < aim->ntensor; i++) {
        if (aim->tensor[i].fixed)
            continue;
        apr_out_open(j, NULL, '{');
        apr_out_bytes(j, "name", aim->tensor[i].name);
        write_option(j, "chosen", &aim->tensor[i].chosen);
        write_option(j, "smaller", &aim->tensor[i].less);
        write_option(j, "larger", &aim->tensor[i].more);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
    apr_out_close(j, '}');
}

/* ---- the recipe ----------------------------------------------------------------------------------------------------- */

/* Every tensor by its name, so that the run with it alone gives the same. */
static enum apr_code recipe_text(const struct conversion *c, struct apr_bytes *text, struct apr_error *e)
{
    const struct apr_plan *const p = &c->plan;
    struct recipe_line *const line = calloc(p->ntensor + 1, sizeof *line);
    size_t n = 0;
    if (line == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < p->ntensor; i++) {
        const struct apr_planned *const t = &p->tensor[i];
        if (t->how != APR_GENERATE)
            line[n++] = (struct recipe_line){ t->name, t->how == APR_ENCODE ? t->dtype : NULL };
    }
    const enum apr_code code = recipe_write(text, "Dtypes as apr-convert chose them: for --recipe, with the same model and the same --imatrix.",
                                            line, n, e);
    free(line);
    return code;
}

enum apr_code save_recipe(const struct conversion *c, struct apr_error *e)
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
