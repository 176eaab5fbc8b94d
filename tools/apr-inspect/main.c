#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "model/model.h"

/* ---- one model ------------------------------------------------------------------------------------------------------ */

/* What was asked for as text, one after the other; with nothing asked for, the overview. */
static int show_text(struct inspection *x)
{
    const struct options *o = x->o;
    const struct {
        bool  wanted;
        int (*show)(struct inspection *x);
    } views[] = {
        { o->get != NULL, show_value },
        { o->metadata, show_metadata },
        { o->tensors || o->stats || o->hash, show_tensors },
        { o->tensor != NULL, show_tensor },
        { o->tree, show_tree },
        { o->tokenizer, show_tokenizer },
        { o->check != CHECK_NONE, show_findings },
    };
    int exit_code = APR_EXIT_YES;
    bool any = o->manifest != NULL || o->html != NULL;
    for (size_t i = 0; i < APR_LENGTH(views) && exit_code != APR_EXIT_NONE; i++)
        if (views[i].wanted) {
            const int told = views[i].show(x);
            exit_code = told > exit_code ? told : exit_code;
            any = true;
        }
    return any ? exit_code : show_overview(x);
}

static int write_files(struct inspection *x)
{
    int exit_code = APR_EXIT_YES;
    if (x->o->manifest != NULL)
        exit_code = write_manifest(x);
    if (x->o->html != NULL && exit_code == APR_EXIT_YES)
        exit_code = write_page(x);
    return exit_code;
}

static int show_model(struct inspection *x)
{
    if (x->o->textconv)
        return show_textconv(x);
    if (x->o->verify != NULL)
        return verify_manifest(x);
    const int written = write_files(x);
    if (written != APR_EXIT_YES)
        return written;
    return x->o->cli.json ? show_json(x) : show_text(x);
}

static int inspect(const struct options *o, struct apr_families *families, const char *path)
{
    struct inspection x;
    struct apr_error e;
    int exit_code;
    if (begin_inspection(&x, o, families, path, &e) == APR_OK)
        exit_code = show_model(&x);
    else
        exit_code = o->cli.json ? fail_json(&x, &e) : apr_cli_fail(&o->cli, &e);
    if (exit_code != APR_EXIT_NONE && !o->cli.json && apr_model_intact(x.m, &e) != APR_OK)
        exit_code = apr_cli_fail(&o->cli, &e);
    end_inspection(&x);
    return exit_code;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

static int inspect_all(const struct options *o, struct apr_families *families)
{
    const bool headlines = o->cli.noperand > 1 && !o->cli.json && !o->textconv;
    int exit_code = APR_EXIT_YES;
    for (size_t i = 0; i < o->cli.noperand; i++) {
        if (headlines) {
            printf("%s%s", i > 0 ? "\n" : "", apr_style(o->cli.colour, APR_BOLD));
            apr_print_bytes(stdout, apr_text(o->cli.operand[i]));
            printf("%s\n", apr_style(o->cli.colour, APR_PLAIN));
        }
        const int told = inspect(o, families, o->cli.operand[i]);
        exit_code = told > exit_code ? told : exit_code;
    }
    return exit_code;
}

static enum apr_code read_filters(struct options *o, const struct apr_texts *texts, struct apr_error *e)
{
    for (size_t i = 0; i < texts->n; i++)
        APR_TRY(apr_patterns_add(&o->filter, apr_text(texts->text[i]), e));
    return APR_OK;
}

/* Is anything but files asked for? */
static bool shows_text(const struct options *o)
{
    return o->get != NULL || o->metadata || o->tensors || o->stats || o->hash || o->tensor != NULL || o->tree || o->tokenizer ||
           o->check != CHECK_NONE || o->textconv || o->verify != NULL;
}

static int check_usage(const struct options *o)
{
    if (o->cli.noperand == 0)
        return apr_cli_usage(&o->cli, "needs a model");
    if (o->cli.noperand > 1 && (o->manifest != NULL || o->verify != NULL || o->html != NULL))
        return apr_cli_usage(&o->cli, "--manifest, --verify and --html take one model, got %zu", o->cli.noperand);
    if (o->textconv && o->cli.json)
        return apr_cli_usage(&o->cli, "--textconv is text for git; --json does not go with it");
    if (o->tensor == NULL && (o->slice != NULL || o->hex || o->blocks))
        return apr_cli_usage(&o->cli, "--slice, --hex and --blocks need --tensor NAME");
    return -1;
}

static enum apr_code read_families(struct apr_families **families, const struct apr_texts *files, const struct apr_run *r,
                                   struct apr_error *e)
{
    APR_TRY(apr_families_new(families, e));
    for (size_t i = 0; i < files->n; i++)
        APR_TRY(apr_families_add(*families, files->text[i], r, e));
    return APR_OK;
}

static int fail_outputs(const struct options *o, struct apr_error *e)
{
    struct inspection none = { .o = o, .path = o->cli.operand[0] };
    return o->cli.json ? fail_json(&none, e) : apr_cli_fail(&o->cli, e);
}

static int run(struct options *o, const struct apr_texts *filters, const struct apr_texts *files)
{
    struct apr_families *families = NULL;
    struct apr_error e;
    int exit_code = check_usage(o);
    if (exit_code >= 0)
        return exit_code;
    if (apr_cli_outputs(&o->cli, &e) != APR_OK)
        return fail_outputs(o, &e);
    if (o->cli.taken && shows_text(o))
        return apr_cli_usage(&o->cli, "what goes to standard output cannot share it with what is to be shown");
    enum apr_code code = read_filters(o, filters, &e);
    if (code == APR_EARG)
        return apr_cli_usage(&o->cli, "--filter: %s", e.text);
    if (code == APR_OK)
        code = read_families(&families, files, &o->cli.run, &e);
    exit_code = code == APR_OK ? inspect_all(o, families) : apr_cli_fail(&o->cli, &e);
    apr_families_free(families);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    struct apr_texts filters = { 0 }, families = { 0 };
    unsigned check = CHECK_NONE;
    const struct apr_option option[] = {
        { "--tensors", APR_OPTION_FLAG, &o.tensors, NULL, "name, dtype, shape, file, byte offset and size of each tensor", NULL },
        { "--filter", APR_OPTION_LIST, &filters, "PATTERN", "only tensors whose name matches; repeatable", NULL },
        { "--metadata", APR_OPTION_FLAG, &o.metadata, NULL, "all keys with their types", NULL },
        { "--full", APR_OPTION_FLAG, &o.full, NULL, "metadata without cuts", NULL },
        { "--get", APR_OPTION_TEXT, &o.get, "KEY", "one metadata value raw, an array one element a line; exit 1 when there is none", NULL },
        { "--stats", APR_OPTION_FLAG, &o.stats, NULL, "moments, extremes, percentiles and a histogram of each tensor", NULL },
        { "--hash", APR_OPTION_FLAG, &o.hash, NULL, "hashes of each tensor's bytes and values, and of the model", NULL },
        { "--manifest", APR_OPTION_OUTPUT, &o.manifest, "FILE", "write the hashes down", NULL },
        { "--verify", APR_OPTION_INPUT, &o.verify, "FILE", "compare with hashes that were written down; exit 1 when one differs", NULL },
        { "--check", APR_OPTION_MAYBE, &check, "fast",
          "look for faults in ten stages; fast: in six, without tensor data; exit 1 when there are any", NULL },
        { "--tree", APR_OPTION_FLAG, &o.tree, NULL, "the modules, with what is in them", NULL },
        { "--depth", APR_OPTION_COUNT, &o.depth, "N", "levels of the tree; default: all", NULL },
        { "--tokenizer", APR_OPTION_FLAG, &o.tokenizer, NULL, "its model, sizes, special tokens, both ends, and the chat template", NULL },
        { "--tensor", APR_OPTION_TEXT, &o.tensor, "NAME", "values of one tensor", NULL },
        { "--slice", APR_OPTION_TEXT, &o.slice, "A:B,...", "which of them, by dimension; of --hex bytes, of --blocks blocks", NULL },
        { "--hex", APR_OPTION_FLAG, &o.hex, NULL, "its bytes", NULL },
        { "--blocks", APR_OPTION_FLAG, &o.blocks, NULL, "its quantized blocks, field by field", NULL },
        { "--html", APR_OPTION_OUTPUT, &o.html, "FILE", "write a page with per-layer statistics and histograms", NULL },
        { "--textconv", APR_OPTION_FLAG, &o.textconv, NULL, "text that git can compare", NULL },
        { "--family-file", APR_OPTION_INPUTS, &families, "FILE", "a model family's contract of your own; repeatable", NULL },
    };
    o.cli = (struct apr_cli){
        .tool = "apr-inspect",
        .synopsis = "MODEL...",
        .about = "Shows what is in a model file, and checks whether it is sound. Without an option: one screen, from the headers alone.",
        .option = option,
        .noption = APR_LENGTH(option),
    };
    int exit_code = apr_cli_parse(&o.cli, argc, argv);
    o.check = (enum check_kind)check;
    if (exit_code < 0)
        exit_code = run(&o, &filters, &families);
    apr_patterns_free(o.filter);
    return apr_cli_finish(&o.cli, exit_code);
}
