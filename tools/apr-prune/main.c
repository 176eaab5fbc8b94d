#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "base/table.h"
#include "family/kind.h"
#include "files/source.h"
#include "model/format.h"
#include "model/open.h"
#include "prune.h"
#include "token/ids.h"
#include "ui/progress.h"
#include "ui/remote.h"

/* ---- the source ----------------------------------------------------------------------------------------------------- */

static enum apr_code named_family(const struct pruning *p, const struct apr_family **f, struct apr_error *e)
{
    struct apr_families *const all = p->o->to.selection.families;
    struct apr_nearest near = apr_nearest_to(apr_text(p->o->to.family));
    struct apr_bytes name;
    for (size_t i = 0; (name = apr_families_name(all, i)).n > 0; i++) {
        if (apr_bytes_is(name, p->o->to.family))
            return apr_families_get(all, i, f, e);
        apr_nearest_try(&near, name);
    }
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--family: no family is called %s%s%.*s%s", APR_QUOTED(apr_text(p->o->to.family)),
                    near.best.n > 0 ? " (did you mean " : "", APR_PRINTED(near.best), near.best.n > 0 ? "?)" : "");
}

/* p->binding stays NULL where nothing tells. */
static enum apr_code find_family(struct pruning *p, struct apr_error *e)
{
    struct apr_families *const all = p->o->to.selection.families;
    const struct apr_family *f = NULL, *either[2];
    if (p->o->to.family != NULL)
        APR_TRY(named_family(p, &f, e));
    else
        APR_TRY(apr_family_said(all, p->m, &f, e));
    if (f == NULL)
        APR_TRY(apr_family_guessed(all, p->m, &f, either, e));
    return f == NULL ? APR_OK : apr_bind(&p->binding, f, p->m, NULL, e);
}

/* What is packed counts by its values, and goes on as codes where none of it is pruned and no dtype is asked for. */
static enum apr_code unpack(struct pruning *p, struct apr_error *e)
{
    APR_TRY(apr_packing_open(&p->packing, p->opened, e));
    if (zeroes(p->o))
        APR_TRY(apr_packing_sure(p->packing, "its values cannot be pruned", e));
    p->m = p->packing == NULL ? p->opened : apr_packing_view(p->packing);
    p->source = zeroes(p->o) && p->o->to.dtype != NULL ? p->m : p->opened;
    return APR_OK;
}

static enum apr_code open_source(struct pruning *p, struct apr_error *e)
{
    APR_TRY(apr_open(&p->opened, p->o->to.in, &p->o->to.cli.run, e));
    const enum apr_model_kind kind = apr_model_kind(p->opened);
    if (kind != APR_KIND_MODEL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "it is %s, which is not pruned", apr_model_kind_text(kind));
    for (size_t i = 0; i < p->opened->nnote; i++)
        if (strcmp(p->opened->note[i].code, "index.beside") == 0)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: give the folder or the index", p->opened->note[i].text);
    APR_TRY(apr_model_verify(p->opened, e)); /* what is carried over is to be what was written */
    APR_TRY(unpack(p, e));
    return find_family(p, e);
}

/* ---- pruning -------------------------------------------------------------------------------------------------------- */

static enum apr_code choose(struct pruning *p, struct apr_error *e)
{
    APR_TRY(open_source(p, e));
    if (drops(p->o))
        APR_TRY(choose_layers(p, e));
    if (!zeroes(p->o))
        return APR_OK;
    APR_TRY(choose_matrices(p, e));
    return read_importance(p, e);
}

static enum apr_code measure(struct pruning *p, struct apr_error *e)
{
    if (p->nmatrix == 0)
        return APR_OK;
    APR_TRY(find_cutoffs(p, e));
    APR_TRY(measure_damage(p, e));
    apr_progress_end(p->o->to.cli.run.progress);
    return apr_model_unchanged(p->m, e);
}

static enum apr_code write_pruned(struct pruning *p, struct apr_error *e)
{
    APR_TRY(make_pruned(p, e));
    APR_TRY(check_layers(p, e));
    p->o->to.model = &p->pruned.m;
    APR_TRY(apr_conversion_plan(&p->conversion, e));
    if (p->o->to.dry_run)
        return APR_OK;
    APR_TRY(measure(p, e));
    APR_TRY(apr_conversion_write(&p->conversion, e));
    p->written = true;
    return APR_OK;
}

/* Before anything is read, whether it may be written. */
static enum apr_code prune(struct pruning *p, struct apr_error *e)
{
    if (!p->o->report)
        APR_TRY(apr_conversion_free_to(&p->conversion, e));
    APR_TRY(choose(p, e));
    return p->o->report ? measure(p, e) : write_pruned(p, e);
}

static void end_pruning(struct pruning *p)
{
    apr_conversion_end(&p->conversion);
    apr_derived_end(&p->pruned);
    free(p->matrix);
    apr_table_free(&p->groups);
    apr_table_free(&p->prefixes);
    free(p->gone);
    free(p->influence);
    apr_imatrix_close(p->imatrix);
    apr_binding_free(p->binding);
    apr_packing_free(p->packing);
    apr_close(p->opened);
    apr_arena_free(&p->arena);
}

/* ---- options -------------------------------------------------------------------------------------------------------- */

static int read_pattern(struct options *o)
{
    const struct apr_bytes text = apr_text(o->pattern);
    const size_t stay = apr_digits(text, &o->stay);
    size_t of = 0;
    if (stay > 0 && stay < text.n && text.at[stay] == ':')
        of = apr_digits((struct apr_bytes){ text.at + stay + 1, text.n - stay - 1 }, &o->of);
    if (of == 0 || stay + 1 + of != text.n || o->stay == 0 || o->stay >= o->of || o->of > MOST_NEIGHBOURS)
        return apr_cli_usage(&o->to.cli, "--pattern takes N:M, N of each M neighbours, 0 < N < M <= %u, not %s", MOST_NEIGHBOURS,
                             APR_QUOTED(text));
    return -1;
}

static int read_layers(struct options *o)
{
    const struct apr_bytes text = apr_text(o->drop_layers);
    const size_t from = apr_digits(text, &o->drop_from);
    size_t to = 0;
    if (from > 0 && from + 2 < text.n && text.at[from] == '.' && text.at[from + 1] == '.')
        to = apr_digits((struct apr_bytes){ text.at + from + 2, text.n - from - 2 }, &o->drop_to);
    if (to == 0 || from + 2 + to != text.n || o->drop_from >= o->drop_to)
        return apr_cli_usage(&o->to.cli, "--drop-layers takes A..B, layers A to B - 1, not %s", APR_QUOTED(text));
    return -1;
}

static int check_usage(struct options *o)
{
    struct apr_cli *const cli = &o->to.cli;
    char text[32];
    if (cli->noperand != 2 && !(o->report && cli->noperand == 1))
        return apr_cli_usage(cli, "needs a model and a target, got %zu", cli->noperand);
    if (!zeroes(o) && !drops(o))
        return apr_cli_usage(cli, "nothing to do: --sparsity, --pattern, --drop-layers or --drop-count says what");
    if (o->sparse && !(o->sparsity >= 0 && o->sparsity <= 1))
        return apr_cli_usage(cli, "--sparsity takes a share, 0 to 1, not %s", apr_spell_real(o->sparsity, text));
    if (o->method == WANDA && o->imatrix == NULL)
        return apr_cli_usage(cli, "--method wanda needs what comes in: --imatrix FILE tells, which apr-trace --imatrix writes");
    if (o->seeded && o->method != RANDOM)
        return apr_cli_usage(cli, "--seed has no effect but on --method random");
    if (o->counted && o->drop_count == 0)
        return apr_cli_usage(cli, "--drop-count takes more than 0");
    if (o->counted && o->tokens_file == NULL)
        return apr_cli_usage(cli, "--drop-count needs tokens to run: --tokens-file FILE");
    if (!o->scope_given)
        o->scope = o->method == WANDA ? ROW : TENSOR;
    int exit_code = o->pattern != NULL ? read_pattern(o) : -1;
    return exit_code < 0 && o->drop_layers != NULL ? read_layers(o) : exit_code;
}

static int read_options(struct options *o)
{
    int exit_code = check_usage(o);
    if (exit_code < 0)
        exit_code = apr_convert_usage(&o->to);
    if (exit_code < 0)
        exit_code = apr_cli_patterns(&o->to.cli, "--match", &o->matches, &o->match);
    if (exit_code < 0)
        exit_code = apr_cli_patterns(&o->to.cli, "--skip", &o->skips, &o->skip);
    return exit_code;
}

/* The target is no input, though it stands among the operands. */
static enum apr_code check_outputs(struct apr_cli *cli, struct apr_error *e)
{
    const size_t n = cli->noperand;
    cli->noperand = 1;
    const enum apr_code code = apr_cli_outputs(cli, e);
    cli->noperand = n;
    return code;
}

static int run(struct options *o)
{
    struct pruning p = { .o = o, .conversion.o = &o->to };
    const char *other[2];
    struct apr_error e;
    int exit_code = read_options(o);
    if (exit_code >= 0)
        return exit_code;
    o->to.in = o->to.cli.operand[0];
    o->to.out = o->to.cli.noperand > 1 ? o->to.cli.operand[1] : NULL;
    o->to.other = other;
    if (o->imatrix != NULL)
        other[o->to.nother++] = o->imatrix;
    if (o->tokens_file != NULL)
        other[o->to.nother++] = o->tokens_file;
    exit_code = o->report ? -1 : apr_conversion_target(&p.conversion);
    if (exit_code >= 0)
        return exit_code;
    enum apr_code code = check_outputs(&o->to.cli, &e);
    if (code == APR_OK)
        code = apr_selection_families(&o->to.selection, &o->to.cli.run, &e);
    if (code == APR_OK)
        code = prune(&p, &e);
    apr_progress_end(o->to.cli.run.progress);
    if (code != APR_OK)
        apr_error_in(&e, o->to.in);
    exit_code = report(&p, code == APR_OK ? NULL : &e);
    end_pruning(&p);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct options o = { .method = MAGNITUDE };
    const struct apr_option option[] = {
        { "--method", APR_OPTION_CHOICE, &o.method, "magnitude|wanda|random",
          "score of an element: |w|; |w| times the root mean square of its input; a seeded hash", .needs = "--sparsity --pattern" },
        { "--sparsity", APR_OPTION_REAL, &o.sparsity, "F", "share of the elements of each group that becomes zero, lowest scores first",
          .given = &o.sparse, .against = "--pattern" },
        { "--scope", APR_OPTION_CHOICE, &o.scope, "row|tensor|role|model",
          "the group in which elements compete; default row for wanda, else tensor",
          .given = &o.scope_given, .needs = "--sparsity" },
        { "--pattern", APR_OPTION_TEXT, &o.pattern, "N:M", "N of each M neighbours along a row stay: 2:4, 4:8" },
        { "--imatrix", APR_OPTION_INPUT, &o.imatrix, "FILE", "importance of columns, for wanda and to tell the error",
          .needs = "--sparsity --pattern", .files = "gguf dat" },
        { "--match", APR_OPTION_LIST, &o.matches, "PATTERN", "the matrices to prune; default: the linear layers of blocks; repeatable",
          .needs = "--sparsity --pattern", .named = APR_NAMED_TENSOR },
        { "--skip", APR_OPTION_LIST, &o.skips, "PATTERN", "not those whose name matches; repeatable", .needs = "--sparsity --pattern",
          .named = APR_NAMED_TENSOR },
        { "--seed", APR_OPTION_COUNT, &o.seed, "N", "of --method random; default 0", .given = &o.seeded, .needs = "--method" },
        { "--drop-layers", APR_OPTION_TEXT, &o.drop_layers, "A..B", "layers A to B - 1 go, the rest are renumbered",
          .against = "--drop-count" },
        { "--drop-count", APR_OPTION_COUNT, &o.drop_count, "N", "the N layers go that change least what goes through them",
          .given = &o.counted },
        { "--by", APR_OPTION_CHOICE, &o.by, "influence", "what they are chosen by: 1 - mean cosine of what goes in and what comes out",
          .needs = "--drop-count" },
        { "--tokens-file", APR_OPTION_INPUT, &o.tokens_file, "FILE", "token ids that are run for it, parted by commas or white space",
          .needs = "--drop-count" },
        { "--report", APR_OPTION_FLAG, &o.report, NULL, "what it would do to each matrix; nothing is written",
          .against = "--dry-run --force --no-verify --to --compress --shards --shard-size --partition" },
        APR_CONVERT_OPTIONS(&o.to),
        APR_REMOTE_OPTIONS(&o.to.cli),
    };
    o.to.cli = (struct apr_cli){
        .tool = "apr-prune",
        .synopsis = "MODEL OUT",
        .about = "Sets the elements of a model's matrices that matter least to zero, or takes layers out of it. Reads and writes APR, "
                 "SafeTensors and GGUF as apr-convert does: everything else stays as it is, and the same bytes come of it at any number of "
                 "threads.",
        .example = { "apr-prune model/ pruned/ --method wanda --imatrix model.imatrix.gguf --sparsity 0.5",
                     "apr-prune model/ sparse/ --pattern 2:4 --method wanda --imatrix model.imatrix.gguf",
                     "apr-prune large/ short/ --drop-count 2 --by influence --tokens-file tokens.txt" },
        .option = option,
        .noption = APR_LENGTH(option),
        .brief = "sets weights of language models to zero, or takes layers out",
        .files = APR_MODELS,
        .file = apr_model_files,
        .environment = apr_remote_environment,
    };
    int exit_code = apr_cli_parse(&o.to.cli, argc, argv);
    if (exit_code < 0)
        exit_code = run(&o);
    apr_patterns_free(o.match);
    apr_patterns_free(o.skip);
    apr_convert_options_end(&o.to);
    return apr_cli_finish(&o.to.cli, exit_code);
}
