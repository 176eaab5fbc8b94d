#include "extract.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "base/table.h"
#include "family/kind.h"
#include "lora.h"
#include "model/model.h"
#include "svd.h"
#include "ui/progress.h"
#include "ui/report.h"
#include "values/dtype.h"

#define PIECE 65536u /* elements that one task measures */

/* A tensor that both models have.
 *   name    as the class of the model spells it
 *   square  the sum of the squares of the differences */
struct parameter {
    const struct apr_wish *base, *tuned;
    struct apr_bytes       name;
    size_t                 module;
    bool                   linear, turned;
    double                 square;
};

/* What its tensors' names begin with.
 *   linear   its weight, that of a linear layer, or NONE
 *   low      what the adapter has for that, where there is something
 *   differs  one of its other tensors does
 *   saved    all of it goes into the adapter */
struct module {
    struct apr_bytes name;
    size_t           linear;
    struct low_rank  low;
    bool             differs, saved;
};

struct extraction {
    struct options       *o;
    struct config         config;
    struct named          named[2];
    struct model         *model;
    struct parameter     *parameter;
    struct module        *module;
    size_t                n, nmodule;
    struct apr_table      by_name; /* of each module: its number */
    struct apr_team      *team;
    struct apr_conversion conversion;
    struct apr_bytes      text; /* adapter_config.json */
    uint64_t              rank; /* the highest */
    bool                  turned, biased;
    size_t                embedding; /* of a model whose head that is, where it is saved; else NONE */
    struct apr_bytes      head;      /* what the class calls the head then, without ".weight" */
    struct apr_arena     *arena;
};

/* ---- which tensors -------------------------------------------------------------------------------------------------- */

static bool begins(struct apr_bytes name, struct apr_bytes with) { return name.n >= with.n && memcmp(name.at, with.at, with.n) == 0; }

/* With the prefix that the model's class has before its names, and some checkpoints leave out. */
static struct apr_bytes full_name(struct extraction *x, struct apr_bytes name)
{
    const struct apr_cleaning *const how = x->model->family == NULL ? NULL : &x->model->family->cleaning;
    bool full = how == NULL || how->write_prefix.n == 0 || begins(name, how->write_prefix);
    for (size_t i = 0; !full && i < how->write_unless.n; i++)
        full = begins(name, how->write_unless.word[i]);
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
        if (x->module[x->parameter[i].module].saved && means(x->model, x->parameter[i].base, &s) && apr_bytes_is(s.role->name, "token_embd"))
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

/* ---- adapter_config.json -------------------------------------------------------------------------------------------- */

/* PEFT wants this word where an adapter has nothing of low rank. */
#define NO_TARGET "dummy-target-modules"

static void write_names(const struct extraction *x, struct apr_out *j, const char *key, bool saved)
{
    size_t n = 0;
    for (size_t i = 0; i < x->nmodule; i++)
        n += saved ? x->module[i].saved : x->module[i].low.rank > 0;
    if (n == 0) {
        apr_out_text(j, key, saved ? NULL : NO_TARGET);
        return;
    }
    apr_out_open(j, key, '[');
    for (size_t i = 0; i < x->nmodule; i++)
        if (saved ? x->module[i].saved : x->module[i].low.rank > 0)
            apr_out_bytes(j, NULL, x->module[i].name);
    if (saved && x->embedding != NONE)
        apr_out_bytes(j, NULL, x->head);
    apr_out_close(j, ']');
}

static void write_ranks(const struct extraction *x, struct apr_out *j)
{
    apr_out_open(j, "rank_pattern", '{');
    for (size_t i = 0; i < x->nmodule; i++)
        if (x->module[i].low.rank > 0 && x->module[i].low.rank != x->rank) {
            apr_out_key(j, x->module[i].name);
            apr_out_count(j, NULL, x->module[i].low.rank);
        }
    apr_out_close(j, '}');
    apr_out_open(j, "alpha_pattern", '{');
    apr_out_close(j, '}');
}

static bool is_causal(const struct extraction *x)
{
    const struct apr_bytes word = apr_class_said(x->model->opened, x->model->config);
    return x->model->config == NULL || word.n == 0 || apr_bytes_have(word, "ForCausalLM") || apr_bytes_have(word, "LMHead");
}

static void write_config(const struct extraction *x, FILE *to)
{
    struct apr_out j = { .to = to };
    const uint64_t rank = x->rank > 0 ? x->rank : 1;
    apr_out_open(&j, NULL, '{');
    apr_out_text(&j, "peft_type", "LORA");
    apr_out_text(&j, "task_type", is_causal(x) ? "CAUSAL_LM" : NULL);
    apr_out_text(&j, "base_model_name_or_path", x->named[0].path);
    apr_out_count(&j, "r", rank);
    apr_out_count(&j, "lora_alpha", rank);
    apr_out_real(&j, "lora_dropout", 0);
    apr_out_text(&j, "bias", x->biased ? "all" : "none");
    apr_out_bool(&j, "fan_in_fan_out", x->turned);
    apr_out_bool(&j, "inference_mode", true);
    write_ranks(x, &j);
    write_names(x, &j, "target_modules", false);
    write_names(x, &j, "modules_to_save", true);
    apr_out_close(&j, '}');
    apr_out_line(&j);
}

static enum apr_code make_config(struct extraction *x, struct apr_error *e)
{
    struct apr_emit m = { 0 };
    enum apr_code code = apr_emit_begin(&m, e);
    if (code == APR_OK) {
        write_config(x, m.to);
        code = apr_emit_end(&m, &x->text, e);
    }
    apr_emit_drop(&m);
    return code == APR_OK ? apr_side_put(&x->conversion.plan.side, "adapter_config.json", x->text, e) : code;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------- */

static enum apr_code add(struct extraction *x, struct apr_planned *t, const char *before, struct apr_bytes name, const char *behind,
                         struct apr_error *e)
{
    t->name = apr_arena_format(&x->arena, "base_model.model.%.*s%s%s", APR_PRINTED(name), before, behind);
    return t->name.at == NULL ? apr_no_memory(e) : apr_plan_add(&x->conversion.plan, t, e);
}

/* The scale of all is that of the highest rank, so a lower one's is undone in its factors. */
static enum apr_code add_pair(struct extraction *x, const struct module *m, struct apr_error *e)
{
    const struct parameter *const p = &x->parameter[m->linear];
    const struct apr_dtype *const d = x->o->c.dtype != NULL ? x->o->c.dtype : &apr_dtypes[APR_F32];
    const uint64_t rank = m->low.rank, in = p->base->dim[!x->turned], out = p->base->dim[x->turned];
    float *const a = x->turned ? m->low.of_rows : m->low.of_cols, *const b = x->turned ? m->low.of_cols : m->low.of_rows;
    struct apr_planned pa = { .dtype = d, .ndim = 2, .dim = { rank, in }, .how = APR_GENERATE, .values = a };
    struct apr_planned pb = { .dtype = d, .ndim = 2, .dim = { out, rank }, .how = APR_GENERATE, .values = b };
    for (uint64_t i = 0; i < out * rank; i++)
        b[i] = (float)((double)b[i] * (double)rank / (double)x->rank);
    APR_TRY(add(x, &pa, ".lora_A.weight", m->name, "", e));
    return add(x, &pb, ".lora_B.weight", m->name, "", e);
}

/* A tensor as the tuned model has it. */
static enum apr_code add_whole(struct extraction *x, const struct parameter *p, struct apr_error *e)
{
    const struct module *const m = &x->module[p->module];
    const struct apr_input *const in = p->tuned->in;
    const struct apr_dtype *const stored = apr_stored_dtype_of(in);
    struct apr_planned t = { .dtype = stored, .ndim = p->tuned->ndim, .in = in };
    memcpy(t.dim, p->tuned->dim, sizeof t.dim);
    if (stored == NULL || (apr_is_real(stored) && (stored->block > 1 || stored->packed)))
        t.dtype = &apr_dtypes[APR_F32];
    if (x->o->c.dtype != NULL && t.ndim >= 2 && apr_is_real(t.dtype))
        t.dtype = x->o->c.dtype;
    t.how = t.dtype == stored && in->plain && !apr_input_part(in, 0)->swapped ? APR_COPY : APR_ENCODE;
    if (x->embedding != NONE && p == &x->parameter[x->embedding])
        APR_TRY(add(x, &t, "", x->head, ".weight", e));
    if (m->saved)
        return add(x, &t, "", p->name, "", e);
    const struct apr_bytes rest = { p->name.at + m->name.n, p->name.n - m->name.n };
    const struct apr_bytes behind = apr_arena_copy(&x->arena, rest);
    return behind.at == NULL ? apr_no_memory(e) : add(x, &t, ".base_layer", m->name, (const char *)behind.at, e);
}

static enum apr_code plan(struct extraction *x, struct apr_error *e)
{
    struct apr_plan *const p = &x->conversion.plan;
    const struct apr_bytes out = apr_arena_format(&x->arena, "%s%s", x->o->c.out, apr_bytes_end(apr_text(x->o->c.out), apr_text("/")) ? "" : "/");
    p->format = x->conversion.format;
    p->out = (const char *)out.at;
    p->folder = p->adapter = true;
    p->force = x->o->c.force;
    if (out.at == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < x->n; i++) {
        const struct parameter *const q = &x->parameter[i];
        const struct module *const m = &x->module[q->module];
        if (m->linear == i && m->low.rank > 0)
            APR_TRY(add_pair(x, m, e));
        else if (m->saved || (m->differs && q->square > 0))
            APR_TRY(add_whole(x, q, e));
    }
    APR_TRY(apr_draft_text(&p->meta, "format", apr_text("pt"), e));
    APR_TRY(make_config(x, e));
    return apr_plan_place(p, e);
}

/* ---- the answer ----------------------------------------------------------------------------------------------------- */

static void write_subject(struct apr_out *j, const void *about)
{
    const struct extraction *const x = about;
    apr_out_text(j, "method", "extract-lora");
    apr_out_open(j, "models", '[');
    apr_out_text(j, NULL, x->named[1].path);
    apr_out_close(j, ']');
    apr_out_text(j, "base", x->named[0].path);
}

static void write_json(const struct extraction *x, const struct apr_error *why)
{
    struct apr_out out = { .to = stdout };
    struct apr_report r = { .out = &out, .schema = "apr-merge/1", .rows = "modules", .subject = write_subject, .about = x };
    apr_report_begin(&r);
    for (size_t i = 0; i < x->nmodule && why == NULL; i++) {
        const struct module *const m = &x->module[i];
        if (m->linear == NONE || !(x->parameter[m->linear].square > 0) || m->saved)
            continue;
        apr_report_row(&r);
        apr_out_bytes(&out, "name", m->name);
        apr_out_count(&out, "rank", m->low.rank);
        apr_out_real(&out, "error", m->low.error);
        apr_report_row_end(&r);
    }
    apr_report_sum(&r);
    if (why == NULL) {
        write_names(x, &out, "modules_to_save", true);
        apr_out_text(&out, "output", x->o->c.out);
        if (x->o->c.dry_run)
            apr_out_bool(&out, "dry_run", true);
        apr_out_bool(&out, "verified", x->conversion.verified);
    }
    apr_report_end(&r, why);
}

/* "adapter of rank 16: 224 modules, 65 saved whole, 80 MB; verified" */
static void print_summary(const struct extraction *x)
{
    const struct apr_plan *const p = &x->conversion.plan;
    size_t low = 0, saved = 0;
    char size[32];
    for (size_t i = 0; i < x->nmodule; i++) {
        low += x->module[i].low.rank > 0;
        saved += x->module[i].saved;
    }
    printf("adapter of rank %llu: %zu module%s, %zu saved whole, %s%s\n", (unsigned long long)x->rank, low, low == 1 ? "" : "s", saved,
           apr_spell_size(p->file[0].size + x->text.n, size), x->o->c.dry_run ? "; nothing was written"
           : x->conversion.verified ? "; verified" : "");
}

static void print_modules(const struct extraction *x)
{
    for (size_t i = 0; i < x->nmodule; i++) {
        const struct module *const m = &x->module[i];
        if (m->low.rank == 0 && !m->saved)
            continue;
        apr_print_bytes(stdout, m->name);
        if (m->saved)
            puts("  whole");
        else
            printf("  rank %llu  error %.3g\n", (unsigned long long)m->low.rank, m->low.error);
    }
}

static int answer(const struct extraction *x, const struct apr_error *why)
{
    const struct apr_cli *const cli = &x->o->c.cli;
    if (cli->json)
        write_json(x, why);
    if (why != NULL)
        return apr_cli_fail(cli, why);
    if (!cli->json && x->o->c.dry_run)
        print_modules(x);
    if (!cli->json && (!cli->quiet || x->o->c.dry_run))
        print_summary(x);
    return APR_EXIT_YES;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code extract(struct extraction *x, struct apr_error *e)
{
    APR_TRY(apr_conversion_free_to(&x->conversion, e));
    APR_TRY(open_models(&x->model, &x->config, 0, x->o, e));
    APR_TRY(pair_all(x, e));
    APR_TRY(compare(x, e));
    APR_TRY(plan(x, e));
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
    exit_code = answer(&x, code == APR_OK ? NULL : &e);
    end(&x);
    return exit_code;
}
