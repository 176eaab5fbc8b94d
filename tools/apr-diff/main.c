#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "discover.h"
#include "family/packing.h"
#include "files/source.h"
#include "forward/saved.h"
#include "model/format.h"
#include "model/model.h"
#include "model/open.h"
#include "model/stage.h"
#include "ui/remote.h"

#define MOST_WORST 10000 /* so that a result slot stays below 1 MiB */
#define MOST_TOLD  10    /* rules that match nothing */

static enum apr_code read_tolerances(struct options *o, struct apr_error *e)
{
    struct apr_source *s = NULL;
    enum apr_code code = apr_source_open(&s, o->tolerances, &o->cli.run, e);
    if (code == APR_OK)
        code = read_rules(&o->rules, o->tolerances, s->map, &o->bounds, e);
    else
        apr_error_in(e, o->tolerances);
    return apr_source_end(s, code, e);
}

/* What the names alone cannot tell, told on stderr. */
static void tell_ambiguity(const struct options *o, const struct match *m)
{
    struct apr_error e;
    if (m->either[1] == NULL || o->cli.quiet)
        return;
    apr_fail(&e, APR_OK, APR_NOWHERE, "its names fit the families %.*s and %.*s, which order rows differently, and neither model says which: "
             "tensors are paired by equal names only", APR_PRINTED(m->either[0]->name), APR_PRINTED(m->either[1]->name));
    apr_error_in(&e, o->cli.operand[0]);
    apr_cli_fail(&o->cli, &e);
}

/* A class that no contract knows, told on stderr where tensors found no partner for it. */
static void tell_unknown(const struct options *o, const struct match *m)
{
    struct apr_error e;
    if (m->unknown.n == 0 || m->nonly_a + m->nonly_b == 0 || o->cli.quiet)
        return;
    apr_fail(&e, APR_OK, APR_NOWHERE, "no contract knows %s%s: tensors are paired by equal names only; %s", APR_QUOTED(m->unknown),
             o->selection.files.n > 0 ? ", that of --family-file neither" : "",
             o->selection.files.n > 0 ? "it is to be named there under detect.architectures" : "--family-file takes one of your own");
    apr_error_in(&e, o->cli.operand[m->unknown_of]);
    apr_cli_fail(&o->cli, &e);
}

/* How many tensors of a model lack a twin without an excuse. */
static size_t unpaired(const struct match *m, bool of_b)
{
    size_t n = of_b ? m->nonly_b : m->nonly_a;
    for (size_t i = 0; i < m->nexcused; i++)
        n -= m->excused[i].of_b == of_b;
    return n;
}

/* Where both models have tensors without a twin, values may tell which belong together. */
static void tell_discovery(const struct options *o, const struct match *m)
{
    struct apr_error e;
    if (o->discover || o->cli.quiet || o->cli.json || o->subset || o->nparts > 0 || unpaired(m, false) == 0 || unpaired(m, true) == 0)
        return;
    apr_fail(&e, APR_OK, APR_NOWHERE, "--discover looks for pairs, by their values, among the tensors without a twin, and only there");
    apr_cli_fail(&o->cli, &e);
}

/* Rules that match no tensor of either model, whatever is compared of them, told on stderr. */
static void tell_idle_rules(const struct options *o, const struct apr_model *a, const struct apr_model *b)
{
    const struct apr_model *const model[] = { a, b };
    struct apr_patterns *match = o->rules.match;
    struct apr_error e;
    size_t idle = 0;
    for (unsigned k = 0; match != NULL && k < APR_LENGTH(model); k++)
        for (size_t i = 0; i < model[k]->ntensor; i++)
            if (apr_patterns_note(match, model[k]->tensor[i].name, &e) != APR_OK)
                return;
    for (size_t i = 0; i < apr_patterns_count(match); i++)
        if (!apr_patterns_noted(match, i) && ++idle <= MOST_TOLD) {
            apr_fail(&e, APR_OK, APR_NOWHERE, "line %u: no tensor matches %s", o->rules.line[i], APR_QUOTED(apr_patterns_text(match, i)));
            apr_error_in(&e, o->tolerances);
            apr_cli_fail(&o->cli, &e);
        }
    if (idle > MOST_TOLD) {
        apr_fail(&e, APR_OK, APR_NOWHERE, "no tensor matches %zu more of its rules", idle - MOST_TOLD);
        apr_error_in(&e, o->tolerances);
        apr_cli_fail(&o->cli, &e);
    }
}

static int diff_values(struct options *o, const struct models *models)
{
    const struct apr_model *const a = models->a, *const b = models->b;
    struct apr_error e;
    struct output out;
    struct match m;
    enum apr_code code = match_models(&m, o, models, &e);
    if (code != APR_OK) {
        apr_error_in(&e, o->cli.operand[0]);
        return fail_early(o, "apr-diff/1", &e);
    }
    struct metadata metadata = { 0 };
    struct discovery found = { 0 };
    struct config config;
    code = compare_config(&config, o, a, b, &e);
    if (code != APR_OK) {
        free_config(&config);
        free_match(&m);
        return fail_early(o, "apr-diff/1", &e);
    }
    const struct subject subject = { o->cli.operand[0], o->cli.operand[1], a->format->name, b->format->name,
                                     m.unmatched || (o->metadata && config.n > 0), &config };
    tell_ambiguity(o, &m);
    tell_unknown(o, &m);
    code = begin_report(&out, o, &subject, &e);
    if (code == APR_OK && o->metadata)
        code = compare_metadata(&metadata, &a->meta, &b->meta, &e);
    if (code == APR_OK)
        code = compare_pairs(o, models, m.pair, m.npair, report_row, &out, &e);
    if (code == APR_OK && o->discover)
        code = discover(&found, o, models, &m, &e);
    if (code == APR_OK && o->draft != NULL)
        code = write_draft(&found, &e);
    const int exit_code = code != APR_OK ? fail_report(&out, &e)
                                         : end_report(&out, &m, o->discover ? &found : NULL, o->metadata ? &metadata : NULL);
    if (exit_code == APR_EXIT_NO)
        tell_discovery(o, &m);
    free_discovery(&found);
    free_metadata(&metadata);
    free_config(&config);
    free_match(&m);
    return exit_code;
}

/* ---- traces --------------------------------------------------------------------------------------------------------- */

static bool has_stage(void *other, uint32_t layer, unsigned stage)
{
    char name[64];
    snprintf(name, sizeof name, "layer-%u/%s", layer, apr_stage_name(stage));
    return apr_model_find(other, apr_text(name)) != NULL;
}

/* Makes traces of both, where one of them is a trace or a map is given. */
static enum apr_code as_traces(const struct options *o, struct apr_model *a, struct apr_model *b, struct apr_error *e)
{
    struct apr_stage_map *map = NULL;
    if (o->stage_map == NULL && !a->format->trace && !b->format->trace)
        return APR_OK;
    APR_TRY(o->stage_map == NULL ? APR_OK : apr_stage_map_open(&map, o->stage_map, &o->cli.run, e));
    struct apr_model *const model[] = { a, b };
    enum apr_code code = APR_OK;
    for (unsigned i = 0; code == APR_OK && i < 2; i++) {
        code = apr_as_trace(model[i], map, &(struct apr_other_side){ has_stage, model[1 - i] }, e);
        if (code != APR_OK)
            apr_error_in(e, o->cli.operand[i]);
    }
    apr_stage_map_free(map);
    if (code == APR_OK && o->stage_map != NULL && !apr_is_foreign(a) && !apr_is_foreign(b)) {
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "both are traces under their own names: --stage-map has no effect");
        apr_error_in(e, o->cli.operand[0]);
    }
    return code;
}

static const char *schema_of(const struct options *o) { return o->structure ? "apr-structure/1" : "apr-diff/1"; }

static void tell_notes(const struct options *o, const struct apr_model *m)
{
    apr_cli_tell(&o->cli, m, "index.beside");
    apr_cli_tell(&o->cli, m, "trace.unmapped");
}

/* What is packed and not understood is compared as it is stored, what may be read in several ways in the likeliest: told on stderr. */
static void tell_packing(const struct options *o, unsigned of, const struct apr_packing *p)
{
    struct apr_error e;
    if (o->cli.quiet || (apr_packing_understood(p, "such codes are compared as they are stored", &e) == APR_OK &&
                         apr_packing_sure(p, "its config.json beside it tells", &e) == APR_OK))
        return;
    apr_error_in(&e, o->cli.operand[of]);
    apr_cli_fail(&o->cli, &e);
}

/* Puts what codes stand for in the place of codes, but for --raw-codes. */
static enum apr_code unpack(const struct options *o, unsigned of, struct apr_packing **p, const struct apr_model **m, bool *codes,
                            struct apr_error *e)
{
    struct apr_error ignored;
    const enum apr_code code = apr_packing_open(p, *m, e);
    if (code != APR_OK)
        apr_error_in(e, o->cli.operand[of]);
    if (code != APR_OK || *p == NULL)
        return code;
    *codes |= o->raw_codes || apr_packing_understood(*p, "", &ignored) != APR_OK;
    if (o->raw_codes)
        return APR_OK;
    tell_packing(o, of, *p);
    *m = apr_packing_view(*p);
    return APR_OK;
}

static int diff_models(struct options *o, const struct apr_model *a, const struct apr_model *b)
{
    struct apr_packing *packing[2] = { 0 };
    struct models models = { a, b, false };
    struct apr_error e;
    enum apr_code code = unpack(o, 0, &packing[0], &models.a, &models.codes, &e);
    if (code == APR_OK)
        code = unpack(o, 1, &packing[1], &models.b, &models.codes, &e);
    const int exit_code = code != APR_OK ? fail_early(o, schema_of(o), &e)
                          : o->structure ? diff_structure(o, models.a, models.b)
                                         : diff_values(o, &models);
    if (exit_code != APR_EXIT_NONE && !o->structure && !o->cli.quiet)
        tell_idle_rules(o, models.a, models.b);
    apr_packing_free(packing[0]);
    apr_packing_free(packing[1]);
    return exit_code;
}

static int diff_files(struct options *o)
{
    struct apr_model *a = NULL, *b = NULL;
    struct apr_error e;
    int exit_code;
    enum apr_code (*const open)(struct apr_model **, const char *, const struct apr_run *, struct apr_error *) =
        o->structure ? apr_open_headers : apr_open;
    enum apr_code code = open(&a, o->cli.operand[0], &o->cli.run, &e);
    if (code == APR_OK)
        code = open(&b, o->cli.operand[1], &o->cli.run, &e);
    if (code == APR_OK)
        code = as_traces(o, a, b, &e);
    if (code == APR_OK && a->format->trace && o->html != NULL)
        code = apr_fail(&e, APR_EARG, APR_NOWHERE, "--html shows models, and these are traces");
    for (int i = 0; code == APR_OK && i < 2; i++)
        tell_notes(o, i == 0 ? a : b);
    if (code != APR_OK)
        exit_code = fail_early(o, schema_of(o), &e);
    else if (a->format->trace && !o->structure)
        exit_code = diff_traces(o, a, b);
    else
        exit_code = diff_models(o, a, b);
    if (a != NULL && b != NULL && a->format->trace && exit_code != APR_EXIT_NONE && !o->structure && !o->cli.quiet)
        tell_idle_rules(o, a, b);
    apr_close(a);
    apr_close(b);
    apr_remote_tell(&o->cli);
    return exit_code;
}

static int check_usage(struct options *o, const char *partition)
{
    if (o->merge && o->cli.noperand == 0)
        return apr_cli_usage(&o->cli, "--merge needs the JSON of the parts");
    if (!o->merge && o->cli.noperand != 2)
        return apr_cli_usage(&o->cli, "needs two models, got %zu", o->cli.noperand);
    if (partition != NULL && !apr_cli_share(partition, &o->part, &o->nparts))
        return apr_cli_usage(&o->cli, "--partition needs K/N with 1 <= K <= N, not %s", APR_QUOTED(apr_text(partition)));
    if (o->top > MOST_WORST || o->rows > MOST_WORST)
        return apr_cli_usage(&o->cli, "--top and --rows go up to %d", MOST_WORST);
    return -1;
}

static int run(struct options *o, const char *partition)
{
    struct apr_error e;
    int exit_code = check_usage(o, partition);
    if (exit_code >= 0)
        return exit_code;
    o->cli.json |= o->jsonl;
    enum apr_code code = apr_cli_outputs(&o->cli, &e);
    if (code != APR_OK)
        return fail_early(o, schema_of(o), &e);
    code = apr_selection_filters(&o->selection, &e);
    if (code == APR_EARG)
        return apr_cli_usage(&o->cli, "%s", e.text);
    if (code == APR_OK)
        code = apr_selection_families(&o->selection, &o->cli.run, &e);
    if (code == APR_OK && o->tolerances != NULL)
        code = read_tolerances(o, &e);
    if (code != APR_OK)
        return fail_early(o, schema_of(o), &e);
    return o->merge ? merge_shares(o) : diff_files(o);
}

static void free_options(struct options *o)
{
    apr_selection_free(&o->selection);
    free_rules(&o->rules);
}

int main(int argc, char **argv)
{
    struct options o = { .bounds = { .cosine = 0.999, .scale = NAN, .sqnr = -INFINITY, .max_abs = INFINITY, .rmse = INFINITY } };
    const char *partition = NULL;
    bool accepted;
    const struct apr_option option[] = {
        { "--limit", APR_OPTION_COUNT, &o.limit, "N", "only the first N common tensors, by A's names; 0: all" },
        { APR_SELECTION_FILTER(&o.selection, "only tensors whose name, in A or B, matches"), .named = APR_NAMED_TENSOR },
        { "--threshold", APR_OPTION_COSINE, &o.bounds.cosine, "F", "lowest cosine that passes; default 0.999" },
        { "--max-scale", APR_OPTION_REAL, &o.bounds.scale, "F", "how far the norm ratio may be from 1; default sqrt(2 (1 - threshold))" },
        { "--min-sqnr", APR_OPTION_REAL, &o.bounds.sqnr, "DB", "lowest signal to noise ratio, in dB, that passes" },
        { "--max-abs", APR_OPTION_REAL, &o.bounds.max_abs, "F", "largest |a - b| that passes" },
        { "--max-rmse", APR_OPTION_REAL, &o.bounds.rmse, "F", "largest root mean square of a - b that passes" },
        { "--tolerances", APR_OPTION_INPUT, &o.tolerances, "FILE", "bounds by name, in YAML: - {match: PATTERN, cosine: F, ...}", .files = "yaml yml" },
        { APR_SELECTION_FAMILY(&o.selection) },
        { "--subset", APR_OPTION_FLAG, &o.subset, NULL, "a tensor on one side only does not fail the verdict" },
        { "--metadata", APR_OPTION_FLAG, &o.metadata, NULL, "compare the metadata too, key by key" },
        { "--structure", APR_OPTION_FLAG, &o.structure, NULL, "names, shapes, dtypes and metadata only; reads no tensor data",
          .against = "--top --rows --threshold --max-scale --min-sqnr --max-abs --max-rmse --tolerances --no-transpose --html --partition" },
        { "--top", APR_OPTION_COUNT, &o.top, "K", "the K worst elements of each tensor" },
        { "--rows", APR_OPTION_COUNT, &o.rows, "K", "the K worst rows of each matrix" },
        { "--sort", APR_OPTION_CHOICE, &o.sort, "name|cosine|rmse|max", "order of the text rows, worst first" },
        { "--worst", APR_OPTION_COUNT, &o.worst, "N", "text: only the N rows of lowest cosine, or last by --sort",
          .against = "--json --jsonl --structure" },
        { "--failed", APR_OPTION_FLAG, &o.failed, NULL, "text: only the rows that fail", .against = "--json --jsonl --structure" },
        { "--summary", APR_OPTION_FLAG, &o.summary, NULL, "text: only the last lines", .against = "--json --jsonl --structure" },
        { "--no-transpose", APR_OPTION_FLAG, &o.no_transpose, NULL, "compare in linear order only, never a transpose" },
        { "--discover", APR_OPTION_MAYBE_OUTPUT, &o.draft, "FILE", "pair by value what no name pairs; FILE: a contract of what was found",
          &o.discover, .against = "--structure --partition", .files = "yaml yml" },
        { "--jsonl", APR_OPTION_FLAG, &o.jsonl, NULL, "JSON Lines: the rows, then the summary" },
        { "--html", APR_OPTION_OUTPUT, &o.html, "FILE", "write the report as a page too", .files = "html" },
        { "--partition", APR_OPTION_TEXT, &partition, "K/N", "only the K-th of N shares of the tensors" },
        { "--stage-map", APR_OPTION_INPUT, &o.stage_map, "FILE",
          "which names of saved activations are which stages; default: transformers", .files = "yaml yml" },
        { "--merge", APR_OPTION_FLAG, &o.merge, NULL, "put the JSON of all N shares together; they are the operands",
          .files = "json", .against = "--limit --filter --threshold --max-scale --min-sqnr --max-abs --max-rmse --tolerances --family-file --subset --metadata --structure "
            "--top --rows --no-transpose --transpose-aware --partition --stage-map --raw-codes --discover" },
        { "--raw-codes", APR_OPTION_FLAG, &o.raw_codes, NULL, "compare packed weights as they are stored: codes, scales, zeros" },
        { "--values", APR_OPTION_FLAG, &accepted, NULL, "accepted; values are always compared" },
        { "--transpose-aware", APR_OPTION_FLAG, &o.transpose_aware, NULL, "a square matrix that is the transpose of its twin passes",
          .against = "--no-transpose --structure" },
        APR_REMOTE_OPTIONS(&o.cli),
    };
    o.cli = (struct apr_cli){
        .tool = "apr-diff",
        .synopsis = "A B",
        .about = "Compares every tensor of model B with its counterpart in model A, across formats, dtypes, names and layouts; or two "
                 "traces, stage by stage. Pass: each keeps its cosine and its norm, and nothing lacks its counterpart without a reason.",
        .example = { "apr-diff model/ model.gguf", "apr-diff --json a.safetensors b.apr | jq .verdict",
          "apr-diff --top 3 --sort cosine model/ model-q4_k_m.gguf" },
        .option = option,
        .noption = APR_LENGTH(option),
        .brief = "compares two language models, tensor by tensor",
        .files = APR_MODELS,
        .file = apr_model_files,
        .environment = apr_remote_environment,
    };
    int exit_code = apr_cli_parse(&o.cli, argc, argv);
    if (exit_code < 0)
        exit_code = run(&o, partition);
    free_options(&o);
    return apr_cli_finish(&o.cli, exit_code);
}
