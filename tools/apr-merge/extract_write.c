/* What an adapter is written as, and what is said of it. */
#include "extract.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "ui/report.h"
#include "values/dtype.h"

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

enum apr_code plan_adapter(struct extraction *x, struct apr_error *e)
{
    struct apr_plan *const p = &x->conversion.plan;
    const bool slash = apr_bytes_end(apr_text(x->o->c.out), apr_text("/"));
    const struct apr_bytes out = apr_arena_format(&x->arena, "%s%s", x->o->c.out, slash ? "" : "/");
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

int answer_extracted(const struct extraction *x, const struct apr_error *why)
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
