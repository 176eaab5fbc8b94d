/* --merge: what one run would have said, out of the JSON of its shares. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "files/source.h"
#include "model/findings.h"
#include "share.h"

/* Members of any model's object, in their order; those before the metadata are the same in all shares. */
static const char *const members[] = { "files", "format", "format_version", "family", "architecture", "parameters", "tensor_count",
                                      "tensor_bytes", "bits_per_weight", "dtypes", "metadata" };
#define NMEMBERS APR_LENGTH(members)

struct merging {
    struct options         *o;
    struct share           *share;
    size_t                  n;
    struct apr_item         member[NMEMBERS]; /* of the first share */
    struct apr_out         *json;             /* or NULL, then as text: */
    struct listing          listing;
    struct apr_model_digest digest;
    struct findings         findings, degenerate, round_trip;
    struct moments         *moments;
    size_t                  nmoments, room;
    struct apr_arena       *arena;            /* of tensors' names */
};

/* ---- checking ------------------------------------------------------------------------------------------------------- */

static enum apr_code same_metadata(const struct share *p, const struct share *first, struct apr_error *e)
{
    if (apr_bytes_equal(p->base.large[SHARE_METADATA].value, first->base.large[SHARE_METADATA].value))
        return APR_OK;
    apr_fail(e, APR_EARG, APR_NOWHERE, "its metadata is not that of %s: the parts are of different runs", first->base.s->path);
    apr_error_in(e, p->base.s->path);
    return APR_EARG;
}

/* All of the model's rows are there, where all were asked for. */
static enum apr_code check_rows(const struct merging *g, struct apr_error *e)
{
    const struct share *const first = &g->share[0];
    uint64_t rows = 0;
    for (size_t i = 0; i < g->n; i++)
        rows += g->share[i].ntensor;
    if ((!first->stats && !first->hash) || first->filtered || rows == apr_member_count(first->base.top, "tensor_count"))
        return APR_OK;
    return apr_share_wrong(&first->base, "the tensors of all shares together are not its ", "tensor_count", e);
}

static enum apr_code read_shares(struct merging *g, struct apr_error *e)
{
    static const char *const same[] = { "files", "format", "format_version", "family", "architecture", "parameters", "tensor_count",
                                        "tensor_bytes", "bits_per_weight", "dtypes", NULL };
    for (size_t i = 0; i < g->n; i++) {
        APR_TRY(read_share(&g->share[i], g->o->cli.operand[i], &g->o->cli.run, e));
        APR_TRY(apr_share_join(&g->share[i].base, &g->share[0].base, e));
    }
    APR_TRY(apr_shares_fit(g->share, g->n, sizeof *g->share, same, e));
    for (size_t i = 1; i < g->n; i++)
        APR_TRY(same_metadata(&g->share[i], &g->share[0], e));
    APR_TRY(check_rows(g, e));
    for (size_t i = 0; i < NMEMBERS; i++)
        APR_TRY(apr_member_find(&g->share[0].base.all, members[i], &g->member[i], e));
    g->o->stats = g->share[0].stats;
    g->o->hash = g->share[0].hash;
    g->o->full = g->share[0].full;
    g->o->filtered = g->share[0].filtered;
    g->o->check = g->share[0].check ? CHECK_ALL : CHECK_NONE;
    return APR_OK;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

static enum apr_code each_row(struct merging *g, shared_row_fn *take, struct apr_error *e)
{
    for (size_t i = 0; i < g->n; i++)
        APR_TRY(share_rows(&g->share[i], take, g, e));
    return APR_OK;
}

static enum apr_code room_for_row(void *merging, const struct shared_row *row, struct apr_error *e)
{
    struct merging *const g = merging;
    (void)e;
    make_room(&g->listing, &row->line, 0);
    for (size_t i = 0; i < json_array_size(row->parts); i++) {
        const struct listed part = listed_part(json_array_get(row->parts, i));
        make_room(&g->listing, &part, 2);
    }
    return APR_OK;
}

static void print_row(const struct merging *g, const struct shared_row *row)
{
    print_line(&g->listing, &row->line, 0);
    for (size_t i = 0; i < json_array_size(row->parts); i++) {
        const struct listed part = listed_part(json_array_get(row->parts, i));
        print_line(&g->listing, &part, 2);
    }
    print_scanned(g->o, &row->found);
}

static enum apr_code take_row(void *merging, const struct shared_row *row, struct apr_error *e)
{
    struct merging *const g = merging;
    const struct apr_tensor t = { .name = row->line.name, .tied = row->line.tied };
    (void)e;
    if (g->o->hash)
        apr_model_digest_add(&g->digest, &t, row->found.hash);
    if (g->json != NULL)
        apr_out_raw(g->json, NULL, row->text);
    else
        print_row(g, row);
    return APR_OK;
}

/* ---- findings ------------------------------------------------------------------------------------------------------- */

static enum apr_code take_moments(void *merging, const struct moments *m, struct apr_error *e)
{
    struct merging *const g = merging;
    struct moments *more = apr_grown(g->moments, &g->room, g->nmoments, 256, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    g->moments = more;
    g->moments[g->nmoments] = *m;
    g->moments[g->nmoments].name = apr_arena_copy(&g->arena, m->name);
    return g->moments[g->nmoments++].name.at == NULL ? apr_no_memory(e) : APR_OK;
}

static enum apr_code middle_of(void *merging, const struct role *r, double *middle, struct apr_error *e)
{
    const struct merging *const g = merging;
    uint64_t *const of = calloc(CLASSES, sizeof *of);
    enum apr_code code = of == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < g->n; i++)
        code = share_classes(&g->share[i], r->name, of, e);
    if (code == APR_OK)
        *middle = middle_of_classes(of);
    free(of);
    return code;
}

static enum apr_code all_findings(struct merging *g, unsigned stage, struct findings *into, struct apr_error *e)
{
    for (size_t i = 0; i < g->n; i++)
        APR_TRY(share_findings(&g->share[i], stage, stage, into, &g->arena, e));
    return APR_OK;
}

/* In the order of one run: stage by stage, each share's in turn; what takes all tensors together is judged here. */
static enum apr_code judge(struct merging *g, struct apr_error *e)
{
    const json_t *const partition = json_object_get(g->share[0].base.top, "partition");
    for (unsigned stage = APR_STAGE_CONTAINER; stage <= APR_STAGE_VALUES; stage++)
        APR_TRY(all_findings(g, stage, &g->findings, e));
    APR_TRY(all_findings(g, APR_STAGE_DEGENERATE, &g->degenerate, e));
    APR_TRY(all_findings(g, APR_STAGE_ROUND_TRIP, &g->round_trip, e));
    for (size_t i = 0; i < g->n; i++)
        APR_TRY(share_moments(&g->share[i], take_moments, g, e));
    const struct judging j = { .findings = &g->findings, .moments = g->moments, .n = g->nmoments, .middle = middle_of, .ctx = g,
                               .held = apr_member_real(partition, "held"), .type = apr_member_text(partition, "held_by") };
    return judge_together(&j, &g->degenerate, &g->round_trip, e);
}

/* ---- the report ----------------------------------------------------------------------------------------------------- */

static void write_files(struct apr_out *j, const void *merging)
{
    const struct merging *const g = merging;
    apr_out_raw(j, members[0], g->member[0].value);
}

static enum apr_code write_all(struct merging *g, int *exit_code, struct apr_error *e)
{
    char hex[33];
    for (size_t i = 1; i < NMEMBERS; i++)
        apr_out_raw(g->json, members[i], g->member[i].value);
    if (g->o->stats || g->o->hash) {
        apr_out_open(g->json, "tensors", '[');
        const enum apr_code code = each_row(g, take_row, e);
        apr_out_close(g->json, ']');
        APR_TRY(code);
    }
    if (has_model_hash(g->o))
        apr_out_text(g->json, "model_hash", apr_digest_spell(apr_model_digest_end(&g->digest), hex));
    if (g->o->check != CHECK_NONE)
        *exit_code = write_findings(g->json, &g->findings);
    return APR_OK;
}

static int write_report(struct merging *g)
{
    struct apr_out out = { .to = stdout };
    struct apr_report r = { .out = &out, .schema = "apr-inspect/1", .subject = write_files, .about = g };
    struct apr_error e;
    int exit_code = APR_EXIT_YES;
    g->json = &out;
    apr_report_begin(&r);
    const enum apr_code code = write_all(g, &exit_code, &e);
    apr_report_end(&r, code == APR_OK ? NULL : &e);
    return code == APR_OK ? exit_code : apr_cli_fail(&g->o->cli, &e);
}

static enum apr_code print_tensors(struct merging *g, struct apr_error *e)
{
    const json_t *const files = json_object_get(g->share[0].base.top, "files");
    const size_t nfile = json_array_size(files);
    g->listing = listing_of(nfile);
    APR_TRY(each_row(g, room_for_row, e));
    fit_room(&g->listing, g->o);
    for (size_t i = 0; nfile > 1 && i < nfile; i++)
        print_file(i, apr_member_bytes(json_array_get(files, i), "path"));
    print_header(&g->listing, g->o);
    APR_TRY(each_row(g, take_row, e));
    if (has_model_hash(g->o))
        print_model_hash(apr_model_digest_end(&g->digest));
    return APR_OK;
}

static int print_report(struct merging *g)
{
    struct apr_error e;
    if ((g->o->stats || g->o->hash) && print_tensors(g, &e) != APR_OK)
        return apr_cli_fail(&g->o->cli, &e);
    return g->o->check == CHECK_NONE ? APR_EXIT_YES : print_findings(g->o, &g->findings);
}

int merge_shares(struct options *o)
{
    struct merging g = { .o = o, .n = o->cli.noperand, .share = calloc(o->cli.noperand, sizeof *g.share) };
    struct apr_error e;
    enum apr_code code = g.share == NULL ? apr_no_memory(&e) : read_shares(&g, &e);
    if (code == APR_OK && o->check != CHECK_NONE)
        code = judge(&g, &e);
    const int exit_code = code != APR_OK ? fail_run(o, &e) : o->cli.json ? write_report(&g) : print_report(&g);
    for (size_t i = 0; g.share != NULL && i < g.n; i++)
        apr_share_close(&g.share[i].base);
    free(g.share);
    free(g.moments);
    apr_arena_free(&g.arena);
    free_findings(&g.findings);
    free_findings(&g.degenerate);
    free_findings(&g.round_trip);
    return exit_code;
}
