#include "extract.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "family/kind.h"
#include "lora.h"
#include "model/model.h"
#include "ui/progress.h"
#include "ui/report.h"
#include "values/dtype.h"

#define PIECE 65536u /* elements that one task measures */

/* ---- which tensors -------------------------------------------------------------------------------------------------- */

/* With the prefix that the model's class has before its names, and some checkpoints leave out. */
static struct apr_bytes full_name(struct extraction *x, struct apr_bytes name)
{
    const struct apr_cleaning *const how = x->model->family == NULL ? NULL : &x->model->family->cleaning;
    bool full = how == NULL || how->write_prefix.n == 0 || apr_bytes_begin(name, how->write_prefix);
    for (size_t i = 0; !full && i < how->write_unless.n; i++)
        full = apr_bytes_begin(name, how->write_unless.word[i]);
    return full ? name : apr_arena_format(&x->arena, "%.*s%.*s", APR_PRINTED(how->write_prefix), APR_PRINTED(name));
}

static bool means(const struct model *m, const struct apr_wish *w, struct apr_meaning *s)
{
    const struct apr_tensor *const t = apr_model_find(m->m, apr_input_part(w->in, 0)->name);
    return m->binding != NULL && t != NULL && apr_binding_meaning(m->binding, t, 0, s);
}

/* Is it the weight of a linear layer, and is that [in, out]? */
static void look_at(const struct extraction *x, struct parameter *p)
{
    static const char *const others[] = { "embed", "embd", "wte", "wpe", "token_type", "norm", "router", "mlp.gate.weight",
                                          "moe.gate.weight" };
    struct apr_meaning s;
    p->linear = p->base->ndim == 2 && apr_bytes_end(p->name, apr_text(".weight"));
    for (size_t i = 0; i < APR_LENGTH(others); i++)
        p->linear &= !apr_bytes_have(p->name, others[i]);
    if (!means(x->model, p->base, &s))
        return;
    p->linear &= !s.role->f32;
    for (unsigned i = 0; i < s.role->ntransform; i++)
        p->turned ^= s.role->transform[i].op == APR_OP_TRANSPOSE;
}

static enum apr_code pair(struct extraction *x, struct parameter *p, struct apr_error *e)
{
    const struct apr_wish *const a = p->base, *const b = p->tuned = wish_called(&x->model[1], a->name);
    char mine[176], theirs[176];
    if (b == NULL)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, a->name, " is not in %s", x->named[1].path);
    if (a->ndim != b->ndim || memcmp(a->dim, b->dim, a->ndim * sizeof *a->dim) != 0)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, a->name, " is %s in %s, and %s in %s", apr_spell_shape(a->dim, a->ndim, mine),
                               x->named[0].path, apr_spell_shape(b->dim, b->ndim, theirs), x->named[1].path);
    if (!a->in->decodable || !b->in->decodable)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, a->name, ": its values are not decoded");
    p->name = full_name(x, a->name);
    if (p->name.at == NULL)
        return apr_no_memory(e);
    look_at(x, p);
    x->turned |= p->linear && p->turned;
    return APR_OK;
}

/* The module that the tensor is of. */
static enum apr_code place(struct extraction *x, size_t number, struct apr_error *e)
{
    struct parameter *const p = &x->parameter[number];
    struct apr_bytes name = p->name;
    bool fresh;
    while (name.n > 0 && name.at[name.n - 1] != '.')
        name.n--;
    name.n -= name.n > 0;
    union apr_table_value *const at = apr_table_put(&x->by_name, name, &fresh);
    if (at == NULL)
        return apr_no_memory(e);
    if (fresh) {
        x->module[x->nmodule] = (struct module){ .name = name, .linear = NONE };
        at->number = x->nmodule++;
    }
    p->module = (size_t)at->number;
    if (p->linear && p->turned == x->turned)
        x->module[p->module].linear = number;
    return APR_OK;
}

/* Not of those that only a converter makes. */
static bool is_own(const struct model *m, const struct apr_wish *w)
{
    struct apr_meaning s;
    return w->values == NULL && !(means(m, w, &s) && s.role->generated != APR_NOT_GENERATED);
}

static enum apr_code pair_all(struct extraction *x, struct apr_error *e)
{
    const struct apr_wishes *const base = &x->model[0].wishes, *const tuned = &x->model[1].wishes;
    x->parameter = calloc(base->n + 1, sizeof *x->parameter);
    x->module = calloc(base->n + 1, sizeof *x->module);
    if (x->parameter == NULL || x->module == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < tuned->n; i++)
        if (is_own(&x->model[1], &tuned->wish[i]) && wish_called(&x->model[0], tuned->wish[i].name) == NULL)
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, tuned->wish[i].name, " is not in %s", x->named[0].path);
    for (size_t i = 0; i < base->n; i++)
        if (is_own(x->model, &base->wish[i])) {
            x->parameter[x->n].base = &base->wish[i];
            APR_TRY(pair(x, &x->parameter[x->n++], e));
        }
    for (size_t i = 0; i < x->n; i++)
        APR_TRY(place(x, i, e));
    return APR_OK;
}

/* ---- what differs --------------------------------------------------------------------------------------------------- */

struct measuring {
    const struct parameter *p;
    const struct apr_run   *run;
    double                 *square; /* of each piece */
};

static void measure_piece(void *ctx, size_t i, unsigned worker)
{
    const struct measuring *const m = ctx;
    const uint64_t first = (uint64_t)i * PIECE, end = apr_min(first + PIECE, m->p->base->count);
    struct apr_window w = apr_window_of(m->run);
    double a[APR_STRETCH], b[APR_STRETCH];
    (void)worker;
    w.streams = 2;
    for (uint64_t at = first; at < end; at += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, end - at);
        apr_input_doubles(m->p->base->in, &w, at, n, a);
        apr_input_doubles(m->p->tuned->in, &w, at, n, b);
        for (size_t k = 0; k < n; k++)
            m->square[i] += (b[k] - a[k]) * (b[k] - a[k]);
    }
    apr_window_drop(&w);
}

static enum apr_code measure(const struct extraction *x, struct parameter *p, struct apr_error *e)
{
    const size_t n = (size_t)apr_ceil(p->base->count, PIECE);
    struct measuring m = { p, &x->o->c.cli.run, calloc(n + 1, sizeof *m.square) };
    if (m.square == NULL)
        return apr_no_memory(e);
    apr_team_do(x->team, n, measure_piece, &m);
    for (size_t i = 0; i < n; i++)
        p->square += m.square[i];
    free(m.square);
    if (p->square - p->square == 0)
        return APR_OK;
    APR_TRY(check_finite(p->base->in, p->name, &x->model[0], "", e));
    APR_TRY(check_finite(p->tuned->in, p->name, &x->model[1], "", e));
    return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, p->name, ": the differences are too large");
}

static enum apr_code reduce(struct extraction *x, struct module *m, struct apr_error *e)
{
    const struct parameter *const p = &x->parameter[m->linear];
    const struct svd s = { p->base->in, p->tuned->in, &x->o->c.cli.run, x->team, x->o->rank, x->o->sv_epsilon, p->square, p->turned };
    APR_TRY(svd_of(&s, &m->low, e));
    x->rank = m->low.rank > x->rank ? m->low.rank : x->rank;
    return APR_OK;
}

/* PEFT parts a head from the embedding that it is when one of them is saved, so both are. */
static void find_head(struct extraction *x)
{
    const struct apr_binding *const b = x->model->binding;
    const struct apr_role *const head = b == NULL ? NULL : apr_family_role(x->model->family, apr_text("output"));
    struct apr_meaning s;
    if (b == NULL || !apr_binding_tied(b))
        return;
    for (size_t i = 0; i < x->n; i++)
        if (x->module[x->parameter[i].module].saved && means(x->model, x->parameter[i].base, &s) &&
            apr_bytes_is(s.role->name, "token_embd"))
            x->embedding = i;
    x->head = head == NULL || head->known[APR_HF].n == 0 ? apr_text("lm_head.weight") : head->known[APR_HF].word[0];
    x->head.n -= apr_bytes_end(x->head, apr_text(".weight")) ? strlen(".weight") : 0;
}

/* What the adapter will have. */
static enum apr_code compare(struct extraction *x, struct apr_error *e)
{
    struct apr_progress *const progress = x->o->c.cli.run.progress;
    bool any = false;
    APR_TRY(apr_team_new(&x->team, x->o->c.cli.run.threads, e));
    apr_progress_begin(progress, "extracting", x->n);
    apr_progress_unit(progress, "tensors", 1);
    for (size_t i = 0; i < x->n; i++) {
        struct parameter *const p = &x->parameter[i];
        struct module *const m = &x->module[p->module];
        APR_TRY(measure(x, p, e));
        any |= p->square > 0;
        if (m->linear == i && p->square > 0)
            APR_TRY(reduce(x, m, e));
        m->differs |= m->linear != i && p->square > 0;
        apr_progress_add(progress, 1);
    }
    for (size_t i = 0; i < x->nmodule; i++) {
        struct module *const m = &x->module[i];
        m->saved = m->differs && m->low.rank == 0;
        x->biased |= m->differs && !m->saved;
    }
    find_head(x);
    return any ? APR_OK : apr_fail(e, APR_EARG, APR_NOWHERE, "%s has no other values than %s", x->named[1].path, x->named[0].path);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code extract(struct extraction *x, struct apr_error *e)
{
    APR_TRY(apr_conversion_free_to(&x->conversion, e));
    APR_TRY(open_models(&x->model, &x->config, 0, x->o, e));
    APR_TRY(pair_all(x, e));
    APR_TRY(compare(x, e));
    APR_TRY(plan_adapter(x, e));
    return x->o->c.dry_run ? APR_OK : apr_conversion_write(&x->conversion, e);
}

static void end(struct extraction *x)
{
    apr_progress_end(x->o->c.cli.run.progress);
    apr_conversion_end(&x->conversion);
    apr_team_free(x->team);
    for (size_t i = 0; i < x->nmodule; i++) {
        free(x->module[i].low.of_rows);
        free(x->module[i].low.of_cols);
    }
    free(x->module);
    free(x->parameter);
    free((void *)(uintptr_t)x->text.at);
    apr_table_free(&x->by_name);
    close_models(x->model, 2);
    apr_arena_free(&x->arena);
}

/* What the command line says makes sense: -1, or the exit code. */
static int check_usage(struct options *o)
{
    const struct apr_dtype *const d = o->c.dtype;
    if (o->c.cli.noperand != 3)
        return apr_cli_usage(&o->c.cli, "--extract-lora takes BASE TUNED OUT");
    if (o->rank == 0 || o->rank > MOST_RANK)
        return apr_cli_usage(&o->c.cli, "--extract-lora needs a --rank from 1 to %u", MOST_RANK);
    if (d != NULL && d != &apr_dtypes[APR_F32] && d != &apr_dtypes[APR_F16] && d != &apr_dtypes[APR_BF16])
        return apr_cli_usage(&o->c.cli, "--type: an adapter is f32, f16 or bf16");
    return -1;
}

int extract_lora(struct options *o)
{
    const char *const *const operand = o->c.cli.operand;
    struct extraction x = { .o = o, .conversion = { .o = &o->c }, .embedding = NONE };
    struct apr_error e;
    int exit_code = check_usage(o);
    if (exit_code >= 0)
        return exit_code;
    for (size_t i = 0; i < 2; i++)
        x.named[i] = (struct named){ .text = apr_text(operand[i]), .path = operand[i] };
    x.config = (struct config){ .model = x.named, .nmodel = 2 };
    const char *const other[] = { operand[1] };
    o->c.in = operand[0];
    o->c.other = other;
    o->c.nother = 1;
    o->c.to = "safetensors";
    exit_code = apr_conversion_target(&x.conversion);
    if (exit_code < 0 && !x.conversion.folder)
        exit_code = apr_cli_usage(&o->c.cli, "%s is no folder, where an adapter goes", APR_QUOTED(apr_text(o->c.out)));
    if (exit_code >= 0)
        return exit_code;
    const enum apr_code code = extract(&x, &e);
    exit_code = answer_extracted(&x, code == APR_OK ? NULL : &e);
    end(&x);
    return exit_code;
}
