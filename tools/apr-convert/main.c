#include "convert.h"

#include <stdio.h>

#include "in_place.h"
#include "ui/remote.h"

/* The command line: a conversion, or one file that is changed where it is. */
struct options {
    struct apr_convert_options c;
    bool                       in_place, recover;
};

static enum apr_code convert(struct apr_conversion *c, struct apr_error *e)
{
    APR_TRY(apr_conversion_plan(c, e));
    return c->o->dry_run ? APR_OK : apr_conversion_write(c, e);
}

static int convert_model(struct apr_convert_options *o)
{
    struct apr_conversion c = { .o = o };
    struct apr_error e;
    int exit_code = apr_conversion_target(&c);
    if (exit_code >= 0)
        return exit_code;
    const enum apr_code code = convert(&c, &e);
    if (code != APR_OK)
        apr_error_in(&e, o->in);
    exit_code = report(&c, code == APR_OK ? NULL : &e);
    apr_conversion_end(&c);
    return exit_code;
}

/* ---- in place ------------------------------------------------------------------------------------------------------- */

static void tell_recovery(const struct options *o, enum apr_recovery done)
{
    static const char *const words[] = { "no edit was interrupted", "an interrupted edit was finished", "an interrupted edit was undone" };
    if (!o->c.cli.quiet && (done != APR_NOTHING_LEFT || o->recover))
        printf("%s\n", words[done]);
}

static void write_in_place(const struct options *o, const struct in_place *done)
{
    static const char *const words[] = { NULL, "finished", "undone" };
    struct apr_out out = { .to = stdout };
    struct apr_report r = { .out = &out, .schema = "apr-convert/1" };
    apr_report_begin(&r);
    apr_out_text(&out, "input", o->c.in);
    apr_out_text(&out, "recovered", words[done->recovered]);
    if (!o->recover) {
        apr_out_bool(&out, "written", done->written);
        apr_out_count(&out, "header_bytes", done->header);
        apr_out_count(&out, "inserted_bytes", done->inserted);
    }
    apr_report_end(&r, NULL);
}

static int fail_in_place(const struct options *o, struct apr_error *e)
{
    struct apr_conversion c = { .o = (struct apr_convert_options *)(uintptr_t)&o->c };
    apr_error_in(e, o->c.in);
    return report(&c, e);
}

static int change_in_place(const struct options *o)
{
    const char *const path = o->c.in;
    struct in_place done = { 0 };
    struct apr_error e;
    if (o->recover) {
        if (recover_in_place(path, &done.recovered, &e) != APR_OK)
            return fail_in_place(o, &e);
    } else if (!apr_have_edits(&o->c.edits)) {
        return apr_cli_usage(&o->c.cli, "--in-place: nothing to change; --set, --unset, --chat-template and --rename do");
    } else if (edit_in_place(path, &o->c.edits, &o->c.cli.run, &done, &e) != APR_OK) {
        return fail_in_place(o, &e);
    }
    if (o->c.cli.json)
        write_in_place(o, &done);
    else
        tell_recovery(o, done.recovered);
    return APR_EXIT_YES;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

/* The target is no input, though it stands among the operands. */
static enum apr_code check_outputs(struct apr_convert_options *o, struct apr_error *e)
{
    const size_t n = o->cli.noperand;
    o->cli.noperand = n > 1 ? 1 : n;
    const enum apr_code code = apr_cli_outputs(&o->cli, e);
    o->cli.noperand = n;
    return code;
}

static int count_operands(struct options *o)
{
    const struct apr_cli *const cli = &o->c.cli;
    if (o->in_place || o->recover) {
        if (cli->noperand != 1)
            return apr_cli_usage(cli, "%s takes one file, got %zu", o->in_place ? "--in-place" : "--recover", cli->noperand);
    } else if (cli->noperand != 2) {
        return apr_cli_usage(cli, "needs a model and a target, got %zu", cli->noperand);
    }
    o->c.in = cli->operand[0];
    o->c.out = cli->noperand > 1 ? cli->operand[1] : NULL;
    return -1;
}

static int run(struct options *o)
{
    struct apr_conversion none = { .o = &o->c };
    struct apr_error e;
    int exit_code = count_operands(o);
    if (exit_code < 0 && !o->in_place && !o->recover)
        exit_code = apr_convert_usage(&o->c);
    if (exit_code >= 0)
        return exit_code;
    enum apr_code code = apr_convert_recipe(&o->c, &e);
    if (code == APR_OK)
        code = check_outputs(&o->c, &e);
    if (code == APR_OK)
        code = apr_selection_families(&o->c.selection, &o->c.cli.run, &e);
    if (code != APR_OK)
        return report(&none, &e);
    return o->in_place || o->recover ? change_in_place(o) : convert_model(&o->c);
}

#define NOT_IN_PLACE                                                                                                                      \
    "--to --type --quantize --compress --shard-size --shards --no-shard --partition --drop --keep --graft --tokenizer --config "          \
    "--family --keep-names --dry-run --force --no-verify --resume --keep-going-from --pure --pre --nan-to-zero --allow-requantize "       \
    "--imatrix --tensor-type --recipe --write-recipe --target-bpw --target-size --leave-output --output-tensor-type "                     \
    "--token-embedding-type"

int main(int argc, char **argv)
{
    struct options o = { 0 };
    const struct apr_option option[] = {
        { "--to", APR_OPTION_TEXT, &o.c.to, "FORMAT", "apr, safetensors or gguf; default: as the target's suffix says",
          .offer = apr_offer_format },
        { "--type", APR_OPTION_TEXT, &o.c.type, "T", "dtype of the matrices: f32 f16 bf16 q8_0 ..., auto for the first 16-bit one met",
          .instead = "--dequantize --dtype --outtype", .offer = apr_offer_type },
        { "--pure", APR_OPTION_FLAG, &o.c.pure, NULL, "--type holds of vectors and norms too; --quantize gives all matrices one dtype",
          .needs = "--type --quantize" },
        { "--quantize", APR_OPTION_TEXT, &o.c.quantize, "PRESET", "a mix of llama-quantize: Q4_K_M IQ4_XS ...; apr_q4, apr_q8 of APR's own",
          .against = "--type", .offer = apr_offer_preset },
        { "--imatrix", APR_OPTION_INPUT, &o.c.imatrix, "FILE", "importance of columns (GGUF or legacy .dat), for blocks that take it",
          .needs = "--type --quantize --tensor-type --recipe --target-bpw --target-size", .files = "gguf dat" },
        { "--tensor-type", APR_OPTION_LIST, &o.c.tensor_types, "PATTERN=T",
          "dtype of the tensors whose name matches; the first that matches counts; repeatable", .named = APR_NAMED_TENSOR },
        { "--recipe", APR_OPTION_INPUT, &o.c.recipe_path, "FILE", "YAML: a list of {match: PATTERN, type: T}, after those of --tensor-type",
          .files = "yaml yml" },
        { "--write-recipe", APR_OPTION_OUTPUT, &o.c.write_recipe, "FILE", "the dtype of each tensor, for --recipe",
          .needs = "--target-size --target-bpw --quantize", .against = "--rename --dry-run", .files = "yaml yml" },
        { "--target-bpw", APR_OPTION_REAL, &o.c.target_bpw, "F", "types by measured error, so that all tensors have F bits per weight",
          .given = &o.c.priced, .against = "--type --quantize --target-size" },
        { "--target-size", APR_OPTION_SIZE, &o.c.target_size, "N", "the same, so that the file has at most N bytes",
          .given = &o.c.sized_target, .against = "--type --quantize --compress --shards --shard-size --partition" },
        { "--leave-output", APR_OPTION_FLAG, &o.c.leave_output, NULL, "output.weight stays what it is", .against = "--output-tensor-type",
          .needs = "--quantize --target-bpw --target-size" },
        { "--output-tensor-type", APR_OPTION_TEXT, &o.c.output_type, "T", "dtype of output.weight",
          .needs = "--quantize --target-bpw --target-size", .offer = apr_offer_type_of_rule },
        { "--token-embedding-type", APR_OPTION_TEXT, &o.c.embedding_type, "T", "dtype of token_embd.weight",
          .needs = "--quantize --target-bpw --target-size", .offer = apr_offer_type_of_rule },
        { "--allow-requantize", APR_OPTION_FLAG, &o.c.allow_requantize, NULL, "quantized tensors may be quantized again",
          .needs = "--type --quantize --tensor-type --recipe --target-bpw --target-size" },
        { "--nan-to-zero", APR_OPTION_FLAG, &o.c.nan_to_zero, NULL, "values that are not finite become 0 in blocks; else they are refused",
          .needs = "--type --quantize --tensor-type --recipe --target-bpw --target-size" },
        { "--compress", APR_OPTION_TEXT, &o.c.compress, "zstd[:LEVEL]", "APR: independent frames with a seek table",
          .offer = apr_offer_compression },
        { "--shard-size", APR_OPTION_SIZE, &o.c.shard_size, "N", "shards of at most N bytes of tensors", .given = &o.c.sized,
          .against = "--shards --partition" },
        { "--shards", APR_OPTION_COUNT, &o.c.shards, "N", "N shards, as even as whole tensors allow", .given = &o.c.counted },
        { "--no-shard", APR_OPTION_FLAG, &o.c.no_shard, NULL, "one file, which is what is written without an option",
          .against = "--shard-size --shards --partition" },
        { "--partition", APR_OPTION_TEXT, &o.c.partition, "K/N", "only the K-th of N shards, every byte as one run writes it" },
        { "--rename", APR_OPTION_LIST, &o.c.edits.rename, "A=B", "tensor A of the target is called B; repeatable",
          .named = APR_NAMED_TENSOR },
        { "--drop", APR_OPTION_LIST, &o.c.drops, "PATTERN", "not the tensors whose name, in either dialect, matches; repeatable",
          .named = APR_NAMED_TENSOR },
        { "--keep", APR_OPTION_LIST, &o.c.keeps, "PATTERN", "only those whose name matches; repeatable", .named = APR_NAMED_TENSOR },
        { "--graft", APR_OPTION_LIST, &o.c.grafts, "FILE:PATTERN", "tensors that match come from FILE; repeatable", .files = APR_MODELS },
        { "--set", APR_OPTION_LIST, &o.c.edits.set, "KEY=TYPE:VALUE", "metadata: u8 i8 ... f64, bool, str; repeatable",
          .named = APR_NAMED_KEY },
        { "--unset", APR_OPTION_LIST, &o.c.edits.unset, "KEY", "takes a key of the metadata out; repeatable", .named = APR_NAMED_KEY },
        { "--tokenizer", APR_OPTION_TEXT, &o.c.tokenizer, "DIR", "the tokenizer's files are those of DIR", .files = "/" },
        { "--config", APR_OPTION_INPUT, &o.c.config, "FILE", "stands for the source's config.json", .files = "json" },
        { "--chat-template", APR_OPTION_INPUT, &o.c.edits.chat_template, "FILE", "the chat template is FILE", .files = "jinja txt" },
        { "--pre", APR_OPTION_TEXT, &o.c.pre, "NAME", "what llama.cpp calls the pre-tokenizer" },
        { "--family", APR_OPTION_TEXT, &o.c.family, "NAME", "the model's family, which else the model tells" },
        { APR_SELECTION_FAMILY(&o.c.selection) },
        { "--keep-names", APR_OPTION_FLAG, &o.c.keep_names, NULL, "no renaming, no transforms: tensors as they are" },
        { "--dry-run", APR_OPTION_FLAG, &o.c.dry_run, NULL, "prints the plan and writes nothing" },
        { "--force", APR_OPTION_FLAG, &o.c.force, NULL, "replaces a file that is there; never an input" },
        { "--no-verify", APR_OPTION_FLAG, &o.c.no_verify, NULL, "does not read the result back", .against = "--dry-run" },
        { "--resume", APR_OPTION_FLAG, &o.c.resume, NULL, "goes on where a run with this option was interrupted", .against = "--dry-run" },
        { "--keep-going-from", APR_OPTION_TEXT, &o.c.partial, "PARTIAL", "the same, where PARTIAL is what that run left",
          .against = "--resume", .files = "part" },
        { "--in-place", APR_OPTION_FLAG, &o.in_place, NULL,
          "IN alone: --set, --unset, --chat-template, --rename change its header where it is", .against = NOT_IN_PLACE },
        { "--recover", APR_OPTION_FLAG, &o.recover, NULL, "IN alone: finishes or undoes an edit in place that was interrupted",
          .against = NOT_IN_PLACE " --in-place --set --unset --chat-template --rename" },
        APR_REMOTE_OPTIONS(&o.c.cli),
    };
    o.c.cli = (struct apr_cli){
        .tool = "apr-convert",
        .synopsis = "IN OUT",
        .about = "Converts a model between APR, SafeTensors and GGUF. Without an option every tensor keeps its dtype and every value; what "
                 "has no place in the target is an error, never lost in silence. A target that is a folder is a HuggingFace checkpoint.",
        .example = { "apr-convert model/ new.gguf --type auto", "apr-convert model-q8_0.gguf new/ --type bf16",
          "apr-convert --in-place model.gguf --chat-template chat.jinja" },
        .option = option,
        .noption = APR_LENGTH(option),
        .brief = "converts language models between APR, SafeTensors and GGUF",
        .files = APR_MODELS,
        .file = apr_model_files,
        .environment = apr_remote_environment,
    };
    int exit_code = apr_cli_parse(&o.c.cli, argc, argv);
    if (exit_code < 0)
        exit_code = run(&o);
    apr_convert_options_end(&o.c);
    return apr_cli_finish(&o.c.cli, exit_code);
}
