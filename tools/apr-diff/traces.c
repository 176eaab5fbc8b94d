#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "diff.h"
#include "forward/saved.h"
#include "model/stage.h"

#define TOP_DIFFS 10

/* partly: another program saved one of them, so only what both have is compared. */
struct stage_report {
    const struct options *o;
    struct apr_out        json;
    struct apr_report     report;
    bool                  pass, diverged, partly;
    uint32_t              first_layer;
    struct apr_bytes      first_stage;
    uint64_t              first_index;
};

static void write_subject(struct apr_out *j, const void *about)
{
    const struct options *o = about;
    apr_out_text(j, "model_a", o->cli.operand[0]);
    apr_out_text(j, "model_b", o->cli.operand[1]);
}

static void write_layer(struct apr_out *j, uint32_t layer)
{
    if (layer == APR_WHOLE_MODEL)
        apr_out_text(j, "layer", "whole-model");
    else
        apr_out_count(j, "layer", layer);
}

static void write_stage(struct apr_out *j, const struct row *r, uint32_t layer, struct apr_bytes stage)
{
    write_layer(j, layer);
    apr_out_bytes(j, "stage", stage);
    apr_out_count(j, "dim_product", r->count);
    apr_out_real(j, "max_abs_diff", r->sums.max);
    if (r->sums.max > 0)
        apr_out_count(j, "max_abs_diff_index", r->sums.max_at);
    else
        apr_out_null(j, "max_abs_diff_index");
    apr_out_real(j, "rms_diff", r->rmse);
    apr_out_real(j, "cosine_sim", r->cosine);
    apr_out_real(j, "norm_ratio", r->norm_ratio);
    apr_out_count(j, "nonfinite_mismatch", r->sums.nonfinite);
    apr_out_bool(j, "pass", r->pass);
    apr_out_open(j, "top_diffs", '[');
    for (size_t i = 0; i < r->ntop; i++) {
        apr_out_open(j, NULL, '{');
        apr_out_count(j, "index", r->top[i].index);
        apr_out_real(j, "a", r->top[i].a);
        apr_out_real(j, "b", r->top[i].b);
        apr_out_real(j, "abs_diff", r->top[i].diff);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

static void print_stage(const struct options *o, const struct row *r)
{
    printf("%s%-5s%s %13.9f %13.6g %13.6g %12llu  ", apr_style(o->cli.colour, r->pass ? APR_GREEN : APR_RED), r->pass ? "same" : "part",
           apr_style(o->cli.colour, APR_PLAIN), r->cosine, r->sums.max, r->rmse, (unsigned long long)r->count);
    apr_print_bytes(stdout, r->name);
    if (r->failed >> FAILED_SCALE & 1)
        printf("  norm ratio %.6g", r->norm_ratio);
    if (r->sums.nonfinite > 0)
        printf("  nonfinite mismatch: %llu", (unsigned long long)r->sums.nonfinite);
    putchar('\n');
}

static enum apr_code take_stage(void *ctx, const struct row *r, struct apr_error *e)
{
    struct stage_report *report = ctx;
    uint32_t layer;
    struct apr_bytes stage;
    (void)e;
    apr_stage_split(r->name, &layer, &stage);
    if (!r->pass && !report->diverged) {
        report->diverged = true;
        report->first_layer = layer;
        report->first_stage = stage;
        report->first_index = r->ntop > 0 ? r->top[0].index : 0;
    }
    report->pass &= r->pass;
    if (!report->o->cli.json) {
        print_stage(report->o, r);
        return APR_OK;
    }
    apr_report_row(&report->report);
    write_stage(&report->json, r, layer, stage);
    apr_report_row_end(&report->report);
    return APR_OK;
}

/* ---- pairing -------------------------------------------------------------------------------------------------------- */

/* Makes of *t what it is compared by: where the other side has but the last position of the stage, that one. */
static enum apr_code cut_to_last(struct match *m, const struct apr_tensor **t, const struct apr_tensor *other, struct apr_error *e)
{
    struct apr_tensor view;
    if (!apr_trace_last(*t, other->count, &view))
        return APR_OK;
    struct apr_tensor *const last = apr_arena_alloc(&m->arena, sizeof *last);
    if (last == NULL)
        return apr_no_memory(e);
    *last = view;
    *t = last;
    return APR_OK;
}

static enum apr_code add_pair(struct match *m, const struct apr_tensor *a, const struct apr_tensor *b, struct apr_error *e)
{
    const struct apr_tensor *const whole = a;
    APR_TRY(cut_to_last(m, &a, b, e));
    APR_TRY(cut_to_last(m, &b, whole, e));
    m->pair[m->npair++] = (struct pair){ .a = a, .b = b, .name = a->name };
    char shape_a[176], shape_b[176];
    if (a->count == b->count && !apr_trace_fits(a->dim, a->ndim, b->dim, b->ndim))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "stage %s has the shape %s in A and %s in B", APR_QUOTED(a->name),
                        apr_spell_shape(a->dim, a->ndim, shape_a), apr_spell_shape(b->dim, b->ndim, shape_b));
    if (a->count == b->count)
        return APR_OK;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "stage %s has %llu values in A and %llu in B", APR_QUOTED(a->name),
                    (unsigned long long)a->count, (unsigned long long)b->count);
}

/* Two single files are one stage each, whatever they are called, if they are of one layer. */
static enum apr_code pair_files(struct match *m, const struct apr_tensor *a, const struct apr_tensor *b, struct apr_error *e)
{
    uint32_t layer_a, layer_b;
    struct apr_bytes stage;
    apr_stage_split(a->name, &layer_a, &stage);
    apr_stage_split(b->name, &layer_b, &stage);
    if (layer_a != layer_b)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "stage %s in A, %s in B: they are of different layers", APR_QUOTED(a->name),
                        APR_QUOTED(b->name));
    return add_pair(m, a, b, e);
}

/* Both models are in computation order. */
static enum apr_code pair_stages(struct match *m, const struct apr_model *a, const struct apr_model *b, struct apr_error *e)
{
    size_t i = 0, k = 0;
    while (i < a->ntensor || k < b->ntensor) {
        const struct apr_tensor *x = &a->tensor[i], *y = &b->tensor[k];
        const int order = i == a->ntensor ? 1 : k == b->ntensor ? -1 : apr_stage_compare(x->name, y->name);
        if (order < 0) {
            m->only_a[m->nonly_a++] = x->name;
        } else if (order > 0) {
            m->only_b[m->nonly_b++] = y->name;
        } else {
            APR_TRY(add_pair(m, x, y, e));
        }
        i += order <= 0;
        k += order >= 0;
    }
    return APR_OK;
}

static enum apr_code keep_names(const struct options *o, struct apr_bytes *name, size_t *n, struct apr_error *e)
{
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        bool yes;
        APR_TRY(apr_patterns_want(o->selection.filter, name[i], &yes, e));
        name[kept] = name[i];
        kept += yes;
    }
    *n = kept;
    return APR_OK;
}

/* What the filters and the limit leave. */
static enum apr_code select_stages(struct match *m, const struct options *o, struct apr_error *e)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->npair; i++) {
        bool yes;
        APR_TRY(apr_patterns_want(o->selection.filter, m->pair[i].a->name, &yes, e));
        if (!yes)
            APR_TRY(apr_patterns_want(o->selection.filter, m->pair[i].b->name, &yes, e));
        m->pair[kept] = m->pair[i];
        kept += yes;
    }
    m->npair = kept;
    APR_TRY(keep_names(o, m->only_a, &m->nonly_a, e));
    APR_TRY(keep_names(o, m->only_b, &m->nonly_b, e));
    if (o->selection.filter != NULL && m->npair + m->nonly_a + m->nonly_b == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "no stage matches the filter");
    if (o->limit > 0 && m->npair > o->limit)
        m->npair = (size_t)o->limit;
    return APR_OK;
}

static enum apr_code match_stages(struct match *m, const struct options *o, const struct apr_model *a, const struct apr_model *b,
                                  struct apr_error *e)
{
    if (o->nparts > 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "is a trace: --partition is for models");
    *m = (struct match){ .pair = malloc((a->ntensor + 1) * sizeof *m->pair),
                         .only_a = malloc((a->ntensor + 1) * sizeof *m->only_a),
                         .only_b = malloc((b->ntensor + 1) * sizeof *m->only_b) };
    if (m->pair == NULL || m->only_a == NULL || m->only_b == NULL)
        return apr_no_memory(e);
    const bool files = a->ntensor == 1 && b->ntensor == 1;
    APR_TRY(files ? pair_files(m, &a->tensor[0], &b->tensor[0], e) : pair_stages(m, a, b, e));
    if (m->npair == 0 && (apr_is_foreign(a) || apr_is_foreign(b)))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "no stage is in both: %s in A, %s in B", APR_QUOTED(a->tensor[0].name),
                        APR_QUOTED(b->tensor[0].name));
    return select_stages(m, o, e);
}

/* ---- the report ----------------------------------------------------------------------------------------------------- */

static void end_json(struct stage_report *report, const struct match *m)
{
    struct apr_out *j = &report->json;
    apr_report_sum(&report->report);
    write_names(j, "only_in_a", m->only_a, m->nonly_a);
    write_names(j, "only_in_b", m->only_b, m->nonly_b);
    if (report->diverged) {
        apr_out_open(j, "first_divergence", '{');
        write_layer(j, report->first_layer);
        apr_out_bytes(j, "stage", report->first_stage);
        apr_out_count(j, "index", report->first_index);
        apr_out_close(j, '}');
    } else {
        apr_out_null(j, "first_divergence");
    }
    apr_out_real(j, "threshold", report->o->bounds.cosine);
    apr_out_text(j, "verdict", report->pass ? "Pass" : "Fail");
}

static void end_text(const struct stage_report *report, const struct match *m)
{
    if (report->partly && m->nonly_a + m->nonly_b > 0)
        printf("\nnot compared: stages that only A has, %zu, or only B, %zu\n", m->nonly_a, m->nonly_b);
    print_names("only in A", m->only_a, report->partly ? 0 : m->nonly_a);
    print_names("only in B", m->only_b, report->partly ? 0 : m->nonly_b);
    if (report->diverged) {
        printf("\nfirst divergence: ");
        if (report->first_layer != APR_WHOLE_MODEL)
            printf("layer %u, ", report->first_layer);
        printf("stage ");
        apr_print_bytes(stdout, report->first_stage);
        printf(", index %llu", (unsigned long long)report->first_index);
    }
    printf("\nverdict: %s\n", report->pass ? "Pass" : "Fail");
}

int diff_traces(struct options *o, const struct apr_model *a, const struct apr_model *b)
{
    struct stage_report report = { .o = o, .json.to = stdout, .pass = true, .partly = apr_is_foreign(a) || apr_is_foreign(b) };
    struct match m = { 0 };
    struct apr_error e;
    enum apr_code code = match_stages(&m, o, a, b, &e);
    if (o->top == 0)
        o->top = TOP_DIFFS;
    o->no_transpose = true;
    if (code != APR_OK) {
        free_match(&m);
        apr_error_in(&e, o->cli.operand[0]);
        return fail_early(o, "apr-stage-diff/1", &e);
    }
    report.report = (struct apr_report){ .out = &report.json, .schema = "apr-stage-diff/1", .rows = "stages", .subject = write_subject,
                                         .about = o, .lines = o->jsonl };
    if (o->cli.json)
        apr_report_begin(&report.report);
    else
        printf("%-5s %13s %13s %13s %12s  stage\n", "", "cosine", "max diff", "rms", "values");
    code = compare_pairs(o, &(struct models){ a, b }, m.pair, m.npair, take_stage, &report, &e);
    report.pass &= o->subset || report.partly || m.nonly_a + m.nonly_b == 0;
    if (code == APR_OK && o->cli.json)
        end_json(&report, &m);
    else if (code == APR_OK)
        end_text(&report, &m);
    if (o->cli.json)
        apr_report_end(&report.report, code == APR_OK ? NULL : &e);
    free_match(&m);
    if (code != APR_OK)
        return apr_cli_fail(&o->cli, &e);
    return report.pass ? APR_EXIT_YES : APR_EXIT_NO;
}
