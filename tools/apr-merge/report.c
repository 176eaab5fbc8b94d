/* What was merged, or would be: as text and as JSON. */
#include "merge.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "ui/report.h"

static void write_subject(struct apr_out *j, const void *about)
{
    const struct merge *const m = about;
    const struct config *const c = &m->config;
    apr_out_text(j, "method", c->method == NULL ? m->o->method : c->method->name);
    apr_out_open(j, "models", '[');
    for (size_t i = 0; i < c->nmodel; i++)
        if (c->base != i || (c->method != NULL && c->method->base == BASE_AS_MODEL))
            apr_out_bytes(j, NULL, c->model[i].text);
    apr_out_close(j, ']');
    apr_out_text(j, "base", c->nmodel > 0 && c->base != NONE ? c->model[c->base].path : NULL);
}

/* What a planned tensor is made of, where that is one merged tensor. */
static const struct merged *merged_of(const struct apr_planned *t)
{
    const struct apr_computation *const c = t->in == NULL || t->in->view.npart == 0 ? NULL : apr_input_part(t->in, 0)->computed;
    return c == NULL ? NULL : (const struct merged *)(const void *)c;
}

static void write_kept(struct apr_out *j, const struct merged *t)
{
    apr_out_open(j, "kept", '[');
    for (size_t i = 0; i < t->n; i++)
        apr_out_real(j, NULL, t->count == 0 ? NAN : (double)t->kept[i] / (double)t->count);
    apr_out_close(j, ']');
}

static void write_row(struct apr_report *r, const struct merge *m, const struct apr_planned *t)
{
    const struct merged *const merged = merged_of(t);
    const bool measured = t->against != NULL && !m->o->c.dry_run;
    apr_report_row(r);
    apr_out_bytes(r->out, "name", t->name);
    apr_out_text(r->out, "dtype", t->dtype->name);
    apr_out_counts(r->out, "shape", t->dim, t->ndim);
    apr_out_real(r->out, "norm_of_change", measured ? t->rmse * sqrt((double)t->count) : NAN);
    apr_out_real(r->out, "cosine_to_base", measured ? t->cosine : NAN);
    if (merged != NULL && merged->kept != NULL)
        write_kept(r->out, merged);
    apr_report_row_end(r);
}

static bool is_ours(const struct merge *m, size_t shard) { return m->conversion.plan.only == 0 || shard + 1 == m->conversion.plan.only; }

static void write_json(const struct merge *m, const struct apr_error *why)
{
    const struct apr_plan *const p = &m->conversion.plan;
    struct apr_out out = { .to = stdout };
    struct apr_report r = { .out = &out, .schema = "apr-merge/1", .rows = "tensors", .subject = write_subject, .about = m };
    apr_report_begin(&r);
    for (size_t i = 0; i < p->ntensor && why == NULL; i++)
        if (is_ours(m, p->tensor[i].shard))
            write_row(&r, m, &p->tensor[i]);
    apr_report_sum(&r);
    if (why == NULL) {
        apr_out_text(&out, "output", m->o->c.out);
        if (m->o->c.dry_run)
            apr_out_bool(&out, "dry_run", true);
        apr_out_bool(&out, "verified", m->conversion.verified);
    }
    apr_report_end(&r, why);
}

static void print_planned(const struct apr_planned *t)
{
    char shape[176];
    apr_print_bytes(stdout, t->name);
    printf("  %s  %s", t->dtype->name, apr_spell_shape(t->dim, t->ndim, shape));
    if (t->transform != NULL)
        printf("  %s", t->transform);
    putchar('\n');
}

/* "ties of 3 models: 291 tensors, 2.2 GB; verified" */
static void print_summary(const struct merge *m)
{
    const struct apr_plan *const p = &m->conversion.plan;
    char size[32];
    uint64_t bytes = p->bytes_out;
    size_t n = 0;
    for (size_t i = 0; i < p->ntensor; i++)
        n += is_ours(m, p->tensor[i].shard);
    for (size_t i = 0; i < p->nfile && m->o->c.dry_run; i++)
        bytes += is_ours(m, i) ? p->file[i].size : 0;
    printf("%s of %zu model%s: %zu tensor%s, %s%s\n", m->config.method->name, m->config.nmodel, m->config.nmodel == 1 ? "" : "s", n,
           n == 1 ? "" : "s",
           apr_spell_size(bytes, size), m->o->c.dry_run ? "; nothing was written" : m->conversion.verified ? "; verified" : "");
}

int report(struct merge *m, const struct apr_error *why)
{
    const struct apr_cli *const cli = &m->o->c.cli;
    for (size_t i = 0; i < m->config.nwarning && !cli->quiet; i++) {
        struct apr_error e;
        apr_fail(&e, APR_OK, APR_NOWHERE, "%s", m->config.warning[i]);
        if (m->config.path != NULL)
            apr_error_in(&e, m->config.path);
        apr_cli_fail(cli, &e);
    }
    if (cli->json)
        write_json(m, why);
    if (why != NULL)
        return apr_cli_fail(cli, why);
    if (cli->json || cli->taken)
        return APR_EXIT_YES;
    for (size_t i = 0; i < m->conversion.plan.ntensor && m->o->c.dry_run; i++)
        if (is_ours(m, m->conversion.plan.tensor[i].shard))
            print_planned(&m->conversion.plan.tensor[i]);
    if (!cli->quiet || m->o->c.dry_run)
        print_summary(m);
    return APR_EXIT_YES;
}
