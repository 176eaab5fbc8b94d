/* What was done, or would be: as text and as JSON. */
#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "prune.h"

static const char *const method_words[] = { "magnitude", "wanda", "random" };

static double norm_kept(const struct matrix *x) { return apr_norm_ratio(x->damage.all, x->damage.kept); }

/* NAN where no importance matrix tells. */
static double error_of(const struct matrix *x) { return x->rms == NULL ? NAN : apr_norm_ratio(x->damage.weighed, x->damage.lost); }

static double sparsity_of(const struct matrix *x) { return x->t->count == 0 ? 0 : (double)x->damage.zeros / (double)x->t->count; }

/* Are values read? */
static bool measured(const struct pruning *p) { return p->o->report || !p->o->to.dry_run; }

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void write_subject(struct apr_out *j, const void *about)
{
    const struct pruning *const p = about;
    apr_out_text(j, "input", p->o->to.in);
    apr_out_text(j, "method", zeroes(p->o) ? method_words[p->o->method] : NULL);
}

static void write_row(struct apr_report *r, const struct pruning *p, const struct matrix *x)
{
    apr_report_row(r);
    apr_out_bytes(r->out, "name", x->t->name);
    apr_out_text(r->out, "dtype", x->t->dtype->name);
    apr_out_counts(r->out, "shape", x->t->dim, x->t->ndim);
    if (measured(p)) {
        apr_out_count(r->out, "zeros", x->damage.zeros);
        apr_out_real(r->out, "sparsity", sparsity_of(x));
        apr_out_real(r->out, "norm_kept", norm_kept(x));
        if (x->rms != NULL)
            apr_out_real(r->out, "error", error_of(x));
    }
    apr_report_row_end(r);
}

static void write_layers(struct apr_out *j, const struct pruning *p)
{
    apr_out_open(j, "layers_dropped", '[');
    for (uint32_t i = 0; p->gone != NULL && i < p->nlayer; i++)
        if (p->gone[i])
            apr_out_count(j, NULL, i);
    apr_out_close(j, ']');
    if (p->influence == NULL)
        return;
    apr_out_open(j, "influence", '[');
    for (uint32_t i = 0; i < p->nlayer; i++)
        apr_out_real(j, NULL, p->influence[i]);
    apr_out_close(j, ']');
}

static void write_json(const struct pruning *p, const struct apr_error *why)
{
    struct apr_out out = { .to = stdout };
    struct apr_report r = { .out = &out, .schema = "apr-prune/1", .rows = "tensors", .subject = write_subject, .about = p };
    apr_report_begin(&r);
    for (size_t i = 0; i < p->nmatrix && why == NULL; i++)
        write_row(&r, p, &p->matrix[i]);
    apr_report_sum(&r);
    if (why == NULL) {
        write_layers(&out, p);
        apr_out_text(&out, "output", p->written ? p->o->to.out : NULL);
        apr_out_bool(&out, "verified", p->conversion.verified);
        if (p->o->to.dry_run)
            apr_out_bool(&out, "dry_run", true);
    }
    apr_report_end(&r, why);
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

#define NAME_WIDTH 64u

/* "model.layers.0.mlp.up_proj.weight  50.0 % zeros  norm kept 0.9312  error 0.2113" */
static void print_rows(const struct pruning *p)
{
    size_t width = 0;
    for (size_t i = 0; i < p->nmatrix; i++)
        if (apr_columns(p->matrix[i].t->name) > width)
            width = apr_columns(p->matrix[i].t->name);
    width = width < NAME_WIDTH ? width : NAME_WIDTH;
    for (size_t i = 0; i < p->nmatrix; i++) {
        const struct matrix *const x = &p->matrix[i];
        const size_t columns = apr_columns(x->t->name);
        apr_print_bytes(stdout, x->t->name);
        printf("%*s", columns < width ? (int)(width - columns) : 0, "");
        if (measured(p))
            printf("  %5.1f %% zeros  norm kept %.4f", 100 * sparsity_of(x), norm_kept(x));
        if (measured(p) && x->rms != NULL)
            printf("  error %.4f", error_of(x));
        putchar('\n');
    }
}

static void print_layers(const struct pruning *p)
{
    for (uint32_t i = 0; i < p->nlayer && p->gone != NULL; i++) {
        if (!p->gone[i])
            continue;
        printf("layer %lu is dropped", (unsigned long)i);
        printf(p->influence == NULL ? "\n" : ": influence %.6g\n", p->influence == NULL ? 0 : p->influence[i]);
    }
}

/* "28 matrices, 50.0 % zeros, norm kept 0.9312, error 0.2113" */
static void print_whole(const struct pruning *p)
{
    struct damage sum = { 0 };
    uint64_t count = 0;
    bool weighed = p->nmatrix > 0;
    for (size_t i = 0; i < p->nmatrix; i++) {
        const struct matrix *const x = &p->matrix[i];
        count += x->t->count;
        sum.zeros += x->damage.zeros;
        sum.all += x->damage.all;
        sum.kept += x->damage.kept;
        sum.weighed += x->damage.weighed;
        sum.lost += x->damage.lost;
        weighed = weighed && x->rms != NULL;
    }
    printf("%zu %s", p->nmatrix, p->nmatrix == 1 ? "matrix" : "matrices");
    if (measured(p))
        printf(", %.1f %% zeros, norm kept %.4f", 100 * (double)sum.zeros / (double)count, apr_norm_ratio(sum.all, sum.kept));
    if (measured(p) && weighed)
        printf(", error %.4f", apr_norm_ratio(sum.weighed, sum.lost));
}

static void print_summary(const struct pruning *p)
{
    char size[32];
    if (p->nmatrix > 0)
        print_whole(p);
    if (p->ngone > 0)
        printf("%s%lu of %lu layers dropped", p->nmatrix > 0 ? "; " : "", (unsigned long)p->ngone, (unsigned long)p->nlayer);
    if (p->written)
        printf("; %zu tensors, %s", p->conversion.plan.ntensor, apr_spell_size(p->conversion.plan.bytes_out, size));
    printf("%s\n", !p->written ? "; nothing was written" : p->conversion.verified ? "; verified" : "");
}

int report(const struct pruning *p, const struct apr_error *why)
{
    if (p->o->to.cli.json)
        write_json(p, why);
    if (why != NULL)
        return apr_cli_fail(&p->o->to.cli, why);
    if (p->o->to.cli.json || p->o->to.cli.taken)
        return APR_EXIT_YES;
    if (p->o->report || p->o->to.dry_run)
        print_rows(p);
    if (!p->o->to.cli.quiet || p->o->report || p->o->to.dry_run) {
        print_layers(p);
        print_summary(p);
    }
    return APR_EXIT_YES;
}
