/* apr-merge: models made of models. */
#include "extract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ui/remote.h"

/* ---- merging -------------------------------------------------------------------------------------------------------- */

/* All that is read, none of which may be written. */
static enum apr_code name_inputs(struct merge *m, struct apr_error *e)
{
    const struct config *const c = &m->config;
    const char **const other = apr_arena_alloc(&m->arena, (9 * c->nmodel + 1) * sizeof *other);
    size_t n = 0;
    if (other == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < c->nmodel; i++) {
        other[n++] = c->model[i].path;
        for (size_t k = 0; k < c->model[i].nlora; k++)
            other[n++] = c->model[i].lora[k];
    }
    if (c->path != NULL)
        other[n++] = c->path;
    m->o->c.other = other;
    m->o->c.nother = n;
    return APR_OK;
}

/* Whose words, dialect and dtypes the result has: the base's, else the first model's. */
static size_t reference_of(const struct config *c) { return c->base != NONE ? c->base : c->slice[0].part[0].model; }

static enum apr_code plan(struct merge *m, struct apr_error *e)
{
    struct apr_convert_options *const o = &m->o->c;
    m->reference = reference_of(&m->config);
    o->in = m->config.model[m->reference].path;
    APR_TRY(name_inputs(m, e));
    APR_TRY(apr_conversion_free_to(&m->conversion, e));
    APR_TRY(open_models(&m->model, &m->config, m->reference, m->o, e));
    if (m->config.unite != NULL)
        APR_TRY(unite_vocabularies(m, e));
    APR_TRY(begin_result(m, e));
    APR_TRY(pair_models(m, e));
    APR_TRY(make_result(m, e));
    o->model = &m->result.m;
    o->retyped = m->config.dtype != NULL;
    o->unpacked = m->model[m->reference].packing != NULL;
    o->edits.template_text = m->config.chat_template;
    if (m->config.tokenizer != NONE)
        o->tokenizer = m->config.model[m->config.tokenizer].path;
    return apr_conversion_plan(&m->conversion, e);
}

static enum apr_code merge(struct merge *m, const char *path, struct apr_bytes text, struct apr_error *e)
{
    APR_TRY(path != NULL ? config_open(&m->config, m->o, path, e) : config_read(&m->config, m->o, text, e));
    APR_TRY(plan(m, e));
    if (m->o->c.dry_run)
        return APR_OK;
    APR_TRY(measure_tensors(m, e));
    APR_TRY(measure_against_base(m, e));
    return apr_conversion_write(&m->conversion, e);
}

static int merge_models(struct options *o, const char *path, struct apr_bytes text)
{
    struct merge m = { .o = o, .loops = loops_at(o->c.cli.run.kernels->isa), .config = { .base = NONE }, .conversion = { .o = &o->c } };
    struct apr_error e;
    int exit_code = apr_conversion_target(&m.conversion);
    if (exit_code >= 0)
        return exit_code;
    const enum apr_code code = merge(&m, path, text, &e);
    exit_code = report(&m, code == APR_OK ? NULL : &e);
    apr_conversion_end(&m.conversion);
    if (m.began)
        apr_derived_end(&m.result);
    apr_side_end(&m.united.files);
    close_models(m.model, m.config.nmodel);
    free(m.tensor);
    config_end(&m.config);
    apr_arena_free(&m.arena);
    return exit_code;
}

/* ---- the command line ----------------------------------------------------------------------------------------------- */

static const char *offer_method(size_t i) { return method_at(i) != NULL ? method_at(i)->name : NULL; }

static int run(struct options *o, char *const *argv, struct apr_arena **arena)
{
    struct apr_cli *const cli = &o->c.cli;
    const char *path = NULL;
    struct apr_bytes text = { 0 };
    struct apr_error e;
    if (!o->extract && (cli->noperand < 2 || (o->method == NULL && cli->noperand != 2)))
        return apr_cli_usage(cli, o->method == NULL ? "needs a configuration and a target, or --method, models and a target"
                             : "needs models and a target");
    o->c.out = cli->noperand == 0 ? "" : cli->operand[cli->noperand - 1];
    int exit_code = apr_convert_usage(&o->c);
    if (exit_code < 0 && !o->extract && o->method != NULL)
        exit_code = config_of_options(o, argv, arena, &text);
    else if (exit_code < 0 && !o->extract)
        o->c.in = path = cli->operand[0];
    if (exit_code >= 0)
        return exit_code;
    if (apr_selection_families(&o->c.selection, &cli->run, &e) != APR_OK)
        return apr_cli_fail(cli, &e);
    return o->extract ? extract_lora(o) : merge_models(o, path, text);
}

/* For the man page. */
static const struct apr_said files[] = {
    { "CONFIG.yml", "a configuration as mergekit's: methods, models, slices, parameters" },
    { "*.safetensors, *.gguf, *.apr", "a model, told by its content; of a split one, any shard; a folder stands for what it holds" },
    { "adapter_config.json, adapter_model.safetensors", "an adapter of PEFT, in its folder; one in a GGUF is that file" },
    { 0 },
};

#define SIMPLE .needs = "--method"

int main(int argc, char **argv)
{
    struct options o = { 0 };
    struct apr_arena *arena = NULL;
    const struct apr_option option[] = {
        { "--method", APR_OPTION_TEXT, &o.method, "NAME",
          "linear slerp nuslerp multislerp karcher task_arithmetic ties dare_ties ...; models are operands",
          .offer = offer_method },
        { "--base", APR_OPTION_TEXT, &o.base, "MODEL", "what differences are to", SIMPLE, .files = APR_MODELS },
        { "--weight", APR_OPTION_LIST, &o.weights, "F", "once for each model, in their order", SIMPLE },
        { "--density", APR_OPTION_REAL, &o.density, "F", "share of each difference that stays", .given = &o.has_density, SIMPLE },
        { "--t", APR_OPTION_REAL, &o.t, "F", "how far from the base to the model", .given = &o.has_t, SIMPLE },
        { "--lambda", APR_OPTION_REAL, &o.lambda, "F", "what the merged difference is multiplied by", .given = &o.has_lambda, SIMPLE },
        { "--lora", APR_OPTION_LIST, &o.loras, "ADAPTER[:SCALE]", "onto the model before it; repeatable", SIMPLE,
          .files = "safetensors gguf" },
        { "--seed", APR_OPTION_COUNT, &o.seed, "N", "of random choices; default 0" },
        { "--extract-lora", APR_OPTION_FLAG, &o.extract, NULL, "writes what TUNED has over BASE as an adapter of PEFT, into the folder OUT",
          .against = "--method --seed --strict --to --pure --allow-requantize --nan-to-zero --compress --shard-size --shards --partition" },
        { "--rank", APR_OPTION_COUNT, &o.rank, "R", "highest rank of its matrices", .needs = "--extract-lora" },
        { "--sv-epsilon", APR_OPTION_REAL, &o.sv_epsilon, "F", "singular values up to F are left out; default 0",
          .needs = "--extract-lora" },
        { "--strict", APR_OPTION_CHOICE, &o.strict, "yes|no", "no: keys of a configuration that are not known are ignored with a warning" },
        APR_CONVERT_OPTIONS(&o.c),
        APR_REMOTE_OPTIONS(&o.c.cli),
    };
    o.c.cli = (struct apr_cli){
        .tool = "apr-merge",
        .synopsis = "CONFIG.yml OUT, or --method NAME A B ... OUT, or --extract-lora --rank R BASE TUNED OUT/",
        .about = "Makes a model of models, by mergekit's configurations or by the options of one method. Each tensor is made piece by piece "
                 "from its models, of any format and dtype, and rounded once.",
        .example = { "apr-merge merge.yml merged/", "apr-merge --method slerp --base one/ --t 0.5 one/ two/ between/",
                     "apr-merge --method ties --base base/ --weight 1 --weight 0.5 --density 0.4 one/ two/ merged.gguf" },
        .option = option,
        .noption = APR_LENGTH(option),
        .brief = "makes a language model of several",
        .files = "yml yaml " APR_MODELS,
        .file = files,
        .environment = apr_remote_environment,
    };
    int exit_code = apr_cli_parse(&o.c.cli, argc, argv);
    if (exit_code < 0)
        exit_code = run(&o, argv, &arena);
    apr_convert_options_end(&o.c);
    apr_arena_free(&arena);
    return apr_cli_finish(&o.c.cli, exit_code);
}
