#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "model/model.h"
#include "ui/remote.h"

/* ---- one model ------------------------------------------------------------------------------------------------------ */

/* What was asked for as text, one after the other; with nothing asked for, the overview. */
static int show_text(struct inspection *x)
{
    const struct options *o = x->o;
    const struct {
        bool  wanted;
        int (*show)(struct inspection *x);
    } views[] = {
        { o->get.n > 0, show_value },
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
    if (!any)
        exit_code = show_overview(x);
    const int whole = o->partial ? print_partial(x) : APR_EXIT_YES;
    return whole > exit_code ? whole : exit_code;
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

static int inspect(const struct options *o, const char *path)
{
    struct inspection x;
    struct apr_error e;
    int exit_code;
    const enum apr_code code = begin_inspection(&x, o, path, &e);
    if (code == APR_OK && !o->textconv)
        apr_cli_tell(&o->cli, x.m, "index.beside");
    if (code == APR_OK)
        exit_code = show_model(&x);
    else if (o->textconv && code != APR_EIO && code != APR_ENOMEM)
        exit_code = show_unreadable(o, path, &e);
    else
        exit_code = o->cli.json ? fail_json(&x, &e) : apr_cli_fail(&o->cli, &e);
    if (x.m != NULL && exit_code != APR_EXIT_NONE && !o->cli.json && apr_model_unchanged(x.m, &e) != APR_OK)
        exit_code = apr_cli_fail(&o->cli, &e);
    end_inspection(&x);
    apr_remote_tell(&o->cli);
    return exit_code;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

static int inspect_all(const struct options *o)
{
    const bool headlines = o->cli.noperand > 1 && !o->cli.json && !o->textconv;
    int exit_code = APR_EXIT_YES;
    for (size_t i = 0; i < o->cli.noperand; i++) {
        if (headlines) {
            printf("%s%s", i > 0 ? "\n" : "", apr_style(o->cli.colour, APR_BOLD));
            apr_print_bytes(stdout, apr_text(o->cli.operand[i]));
            printf("%s\n", apr_style(o->cli.colour, APR_PLAIN));
        }
        const int told = inspect(o, o->cli.operand[i]);
        exit_code = told > exit_code ? told : exit_code;
    }
    return exit_code;
}

/* Is anything but files asked for? */
static bool shows_text(const struct options *o)
{
    return o->get.n > 0 || o->metadata || o->tensors || o->stats || o->hash || o->tensor != NULL || o->tree || o->tokenizer ||
           o->check != CHECK_NONE || o->textconv || o->verify != NULL;
}

static int check_usage(struct options *o)
{
    if (o->cli.noperand == 0)
        return apr_cli_usage(&o->cli, o->merge ? "--merge needs the JSON of the parts" : "needs a model");
    if (o->partition != NULL && !apr_cli_share(o->partition, &o->part, &o->nparts))
        return apr_cli_usage(&o->cli, "--partition needs K/N with 1 <= K <= N, not %s", APR_QUOTED(apr_text(o->partition)));
    if (o->partition != NULL && o->cli.noperand > 1)
        return apr_cli_usage(&o->cli, "--partition takes one model, got %zu", o->cli.noperand);
    if (o->partition != NULL && o->check == CHECK_FAST)
        return apr_cli_usage(&o->cli, "--check=fast reads headers alone, of which --partition has no shares");
    if (o->cli.noperand > 1 && (o->manifest != NULL || o->verify != NULL || o->html != NULL))
        return apr_cli_usage(&o->cli, "--manifest, --verify and --html take one model, got %zu", o->cli.noperand);
    return -1;
}

int fail_run(const struct options *o, struct apr_error *e)
{
    struct inspection none = { .o = o, .path = o->cli.operand[0] };
    return o->cli.json ? fail_json(&none, e) : apr_cli_fail(&o->cli, e);
}

static int run(struct options *o)
{
    struct apr_error e;
    const int exit_code = check_usage(o);
    if (exit_code >= 0)
        return exit_code;
    o->cli.json |= o->nparts > 0;
    if (apr_cli_outputs(&o->cli, &e) != APR_OK)
        return fail_run(o, &e);
    if (o->cli.taken && shows_text(o))
        return apr_cli_usage(&o->cli, "what goes to standard output cannot share it with what is to be shown");
    if (o->merge)
        return merge_shares(o);
    enum apr_code code = apr_selection_filters(&o->selection, &e);
    o->filtered = o->selection.filter != NULL;
    if (code == APR_EARG)
        return apr_cli_usage(&o->cli, "%s", e.text);
    if (code == APR_OK)
        code = apr_selection_families(&o->selection, &o->cli.run, &e);
    return code == APR_OK ? inspect_all(o) : fail_run(o, &e);
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    unsigned check = CHECK_NONE;
    const struct apr_option option[] = {
        { "--tensors", APR_OPTION_FLAG, &o.tensors, NULL, "name, dtype, shape, file, byte offset and size of each tensor" },
        { APR_SELECTION_FILTER(&o.selection, "only tensors whose name matches"),
          .needs = "--tensors --stats --hash --check --tree --manifest --verify --html --textconv", .named = APR_NAMED_TENSOR },
        { "--metadata", APR_OPTION_FLAG, &o.metadata, NULL, "all keys with their types" },
        { "--full", APR_OPTION_FLAG, &o.full, NULL, "metadata without cuts; the stored tensors of packed ones",
          .needs = "--metadata --tensors --stats --hash --json --html" },
        { "--get", APR_OPTION_LIST, &o.get, "KEY",
          "a metadata value raw, an array one element a line, KEY.MEMBER of an object; exit 1 when there is none; repeatable",
          .named = APR_NAMED_KEY },
        { "--stats", APR_OPTION_FLAG, &o.stats, NULL, "moments, extremes, percentiles and a histogram of each tensor" },
        { "--hash", APR_OPTION_FLAG, &o.hash, NULL, "hashes of each tensor's bytes and values, and of the model" },
        { "--manifest", APR_OPTION_OUTPUT, &o.manifest, "FILE", "write the hashes down" },
        { "--verify", APR_OPTION_INPUT, &o.verify, "FILE", "compare with hashes that were written down; exit 1 when one differs",
          .against = "--tensors --metadata --get --stats --hash --manifest --check --tree --tokenizer --tensor --html" },
        { "--check", APR_OPTION_MAYBE, &check, "fast",
          "look for faults in ten stages; fast: in six, without tensor data; exit 1 when there are any" },
        { "--tree", APR_OPTION_FLAG, &o.tree, NULL, "the modules, with what is in them" },
        { "--depth", APR_OPTION_COUNT, &o.depth, "N", "levels of the tree; default: all", .needs = "--tree" },
        { "--tokenizer", APR_OPTION_FLAG, &o.tokenizer, NULL, "its model, sizes, special tokens, both ends, and the chat template" },
        { "--tensor", APR_OPTION_TEXT, &o.tensor, "NAME", "values of one tensor", .named = APR_NAMED_TENSOR },
        { "--slice", APR_OPTION_TEXT, &o.slice, "A:B,...", "which of them, by dimension; of --hex bytes, of --blocks blocks",
          .needs = "--tensor" },
        { "--hex", APR_OPTION_FLAG, &o.hex, NULL, "its bytes", .needs = "--tensor" },
        { "--blocks", APR_OPTION_FLAG, &o.blocks, NULL, "its quantized blocks, field by field", .needs = "--tensor" },
        { "--html", APR_OPTION_OUTPUT, &o.html, "FILE", "write a page with per-layer statistics and histograms", .files = "html" },
        { "--partial", APR_OPTION_FLAG, &o.partial, NULL,
          "what is there of a file cut short, a download under way; exit 1 while it is not whole",
          .against = "--check --manifest --verify --html --textconv" },
        { "--textconv", APR_OPTION_FLAG, &o.textconv, NULL, "text that git can compare",
          .against = "--json --tensors --metadata --get --stats --hash --manifest --verify --check --tree --tokenizer --tensor --html" },
        { "--partition", APR_OPTION_TEXT, &o.partition, "K/N", "the K-th of N shares of the work, as JSON for --merge",
          .needs = "--stats --hash --check",
          .against = "--tensors --metadata --get --manifest --verify --tree --tokenizer --tensor --html --partial --textconv" },
        { "--merge", APR_OPTION_FLAG, &o.merge, NULL, "put the JSON of all N shares together; they are the operands",
          .against = "--tensors --filter --metadata --full --get --stats --hash --manifest --verify --check --tree --tokenizer --tensor "
            "--html --partial --textconv --family-file --partition" },
        { APR_SELECTION_FAMILY(&o.selection) },
        APR_REMOTE_OPTIONS(&o.cli),
    };
    o.cli = (struct apr_cli){
        .tool = "apr-inspect",
        .synopsis = "MODEL...",
        .about = "Shows what is in a model file, and checks whether it is sound. Without an option: one screen, from the headers alone.",
        .example = { "apr-inspect model.gguf", "apr-inspect --check model/ && echo sound",
          "apr-inspect --json --stats model.safetensors | jq '.tensors[0]'" },
        .option = option,
        .noption = APR_LENGTH(option),
        .brief = "shows what is in a language model, and checks it",
        .files = APR_MODELS,
        .file = apr_model_files,
        .environment = apr_remote_environment,
    };
    int exit_code = apr_cli_parse(&o.cli, argc, argv);
    o.check = (enum check_kind)check;
    if (exit_code < 0)
        exit_code = run(&o);
    apr_selection_free(&o.selection);
    return apr_cli_finish(&o.cli, exit_code);
}
