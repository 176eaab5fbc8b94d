#include <stdlib.h>

#include "base/bytes.h"
#include "model/model.h"
#include "trace.h"
#include "ui/progress.h"
#include "ui/remote.h"

#define MOST_TOP 1000000 /* more than any vocabulary that is trained */

/* ---- tracing -------------------------------------------------------------------------------------------------------- */

static bool runs(const struct options *o) { return has_input(o) || is_judging(&o->judging); }

/* Layers and positions that are asked for are there. */
static enum apr_code check_spans(const struct trace *t, struct apr_error *e)
{
    const struct options *const o = t->o;
    const uint64_t nlayer = t->engine.net->nlayer, n = positions_of(t);
    if (o->layer.to > nlayer)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "there is no layer %llu: the model has %llu, 0 to %lld",
                        (unsigned long long)o->layer.to - 1, (unsigned long long)nlayer, (long long)nlayer - 1);
    if (o->cut.to > n)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--positions %llu..%llu: the input has %llu, 0..%llu", (unsigned long long)o->cut.from,
                        (unsigned long long)o->cut.to, (unsigned long long)n, (unsigned long long)n);
    return APR_OK;
}

/* What an encoder, or a classic model, has not. */
static enum apr_code check_kind(const struct trace *t, struct apr_error *e)
{
    const struct options *const o = t->o;
    const struct apr_net *const net = t->engine.net;
    const char *const option = o->greedy_given ? "--greedy" : o->top != TOP_UNSAID ? "--top" : NULL;
    if (net->head.w.in == NULL && !o->all && o->stage[APR_STAGE_LM_HEAD])
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it is an encoder, without a head: it has no stage lm_head");
    if (net->head.w.in == NULL && option != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it is an encoder, without a head: there are no logits for %s", option);
    if (net->features && o->greedy_given)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it takes features, not tokens: --greedy has nothing to go on with");
    return APR_OK;
}

static enum apr_code trace_input(struct trace *t, struct apr_error *e)
{
    APR_TRY(read_input(t, e));
    APR_TRY(check_kind(t, e));
    APR_TRY(check_spans(t, e));
    if (t->o->compare != NULL)
        APR_TRY(begin_comparing(t, e));
    APR_TRY(begin_saving(t, e));
    begin_report(t);
    print_pieces(t);
    if (t->o->weights.n > 0)
        APR_TRY(save_weights(t, e));
    APR_TRY(run_input(t, e));
    if (t->o->greedy_given && !t->nonfinite.found)
        APR_TRY(run_greedy(t, e));
    return t->comparing == NULL ? APR_OK : check_comparison(t, e);
}

static enum apr_code trace_weights(struct trace *t, struct apr_error *e)
{
    APR_TRY(begin_saving(t, e));
    begin_report(t);
    return t->o->weights.n > 0 ? save_weights(t, e) : APR_OK;
}

static enum apr_code trace_model(struct trace *t, struct apr_error *e)
{
    const struct options *const o = t->o;
    APR_TRY(open_engine(&t->engine, o, o->cli.operand[0], runs(o), e));
    apr_cli_tell(&o->cli, t->engine.m, "index.beside");
    if (runs(o))
        APR_TRY(apr_team_new(&t->team, o->cli.run.threads, e));
    APR_TRY(has_input(o) ? trace_input(t, e) : trace_weights(t, e));
    if (is_judging(&o->judging))
        APR_TRY(judge(t, e));
    APR_TRY(apr_model_unchanged(t->engine.m, e));
    return finish_saving(t, e);
}

static void end_trace(struct trace *t)
{
    end_judging(t);
    end_saving(t);
    end_comparing(t);
    free_measure(t);
    apr_sequence_free(t->sequence);
    apr_team_free(t->team);
    close_engine(&t->engine);
    apr_ids_free(&t->ids);
    apr_ids_free(&t->greedy);
    free(t->feature);
    free(t->nonfinite.expert);
    free(t->logits);
    free(t->saved.path);
    apr_arena_free(&t->arena);
}

/* ---- usage ---------------------------------------------------------------------------------------------------------- */

/* What the options that are given want tokens for; NULL: nothing. */
static const char *wants_input(const struct options *o)
{
    return o->save_tensor != NULL   ? "--save-tensor"
           : o->compare != NULL     ? "--compare"
           : o->stop_at_nan         ? "--stop-at-nan"
           : o->greedy_given        ? "--greedy"
           : o->top != TOP_UNSAID   ? "--top"
                                    : NULL;
}

static int check_usage(struct options *o)
{
    static const char inputs[] = "--tokens, --tokens-file or --prompt";
    if (o->cli.noperand != 1)
        return apr_cli_usage(&o->cli, "needs one model, got %zu", o->cli.noperand);
    if (!has_input(o) && wants_input(o) != NULL)
        return apr_cli_usage(&o->cli, "%s needs tokens: %s", wants_input(o), inputs);
    if (!runs(o) && o->weights.n == 0)
        return apr_cli_usage(&o->cli, "needs tokens (%s; a classic model takes --features), or --save-weights", inputs);
    if (o->greedy_given && o->greedy == 0)
        return apr_cli_usage(&o->cli, "--greedy takes more than 0");
    if (o->top == 0)
        return apr_cli_usage(&o->cli, "--top takes more than 0");
    if (o->top != TOP_UNSAID && o->top > MOST_TOP)
        return apr_cli_usage(&o->cli, "--top goes up to %d", MOST_TOP);
    if (o->one_layer_given && o->one_layer >= APR_WHOLE_MODEL)
        return apr_cli_usage(&o->cli, "--layer: no model has a layer %llu", (unsigned long long)o->one_layer);
    return -1;
}

static int read_options(struct options *o)
{
    int exit_code = o->save_tensor != NULL ? read_stages(o) : -1;
    if (exit_code < 0 && o->layers != NULL)
        exit_code = read_span(o, "--save-tensor-layers", o->layers, &o->layer);
    if (exit_code < 0 && o->positions != NULL)
        exit_code = read_span(o, "--positions", o->positions, &o->cut);
    if (o->one_layer_given)
        o->layer = (struct span){ o->one_layer, o->one_layer + 1 };
    for (size_t i = 0; i < o->weights.n && exit_code < 0; i++)
        if (*o->weights.text[i] == 0)
            exit_code = apr_cli_usage(&o->cli, "--save-weights wants a pattern, not \"\": * is all of them");
    return exit_code < 0 ? apr_cli_patterns(&o->cli, "--save-weights", &o->weights, &o->weight) : exit_code;
}

static int run(struct options *o)
{
    struct trace t = { .o = o };
    struct apr_error e;
    int exit_code = check_usage(o);
    if (exit_code < 0)
        exit_code = read_options(o);
    if (exit_code >= 0)
        return exit_code;
    o->cli.json |= o->jsonl;
    enum apr_code code = apr_cli_outputs(&o->cli, &e);
    if (code == APR_OK)
        code = apr_selection_families(&o->selection, &o->cli.run, &e);
    if (code == APR_OK)
        code = trace_model(&t, &e);
    apr_progress_end(o->cli.run.progress);
    if (code != APR_OK)
        apr_error_in(&e, o->cli.operand[0]);
    exit_code = end_report(&t, code == APR_OK ? NULL : &e);
    end_trace(&t);
    return exit_code;
}

static const char *offer_stage(size_t i) { return i == 0 ? "all" : i <= APR_NSTAGES ? apr_stage_name((unsigned)i - 1) : NULL; }

int main(int argc, char **argv)
{
    struct options o = { .top = TOP_UNSAID, .threshold = 0.999 };
    const struct apr_option option[] = {
        { "--tokens", APR_OPTION_TEXT, &o.tokens, "ID,...", "the input, as token ids", .against = "--tokens-file --prompt --features" },
        { "--tokens-file", APR_OPTION_INPUT, &o.tokens_file, "FILE", "the input: ids, parted by commas or white space",
          .against = "--prompt --features" },
        { "--prompt", APR_OPTION_TEXT, &o.prompt, "TEXT", "the input, cut into tokens by the model's own tokenizer",
          .against = "--features" },
        { "--no-special", APR_OPTION_FLAG, &o.no_special, NULL, "special tokens in the prompt are text like any other",
          .needs = "--prompt" },
        { "--features", APR_OPTION_TEXT, &o.features, "X,...", "the input of a classic model: a number for each of its features" },
        { "--save-tensor", APR_OPTION_TEXT, &o.save_tensor, "STAGE,...|all", "save what these stages hand on", .offer = offer_stage },
        { "--save-tensor-layers", APR_OPTION_TEXT, &o.layers, "A..B", "of layers A to B - 1 only", .needs = "--save-tensor --compare",
          .against = "--layer" },
        { "--layer", APR_OPTION_COUNT, &o.one_layer, "N", "of layer N only", .given = &o.one_layer_given,
          .needs = "--save-tensor --compare" },
        { "--save-tensor-dir", APR_OPTION_PATH, &o.dir, "DIR", "where files go; default: MODEL-trace beside the model" },
        { "--format", APR_OPTION_CHOICE, &o.format, "aprt|npy", "of saved stages; default aprt", .needs = "--save-tensor" },
        { "--positions", APR_OPTION_TEXT, &o.positions, "A..B", "cut stages to positions A to B - 1; lm_head has the last one only, else",
          .needs = "--save-tensor --compare" },
        { "--save-weights", APR_OPTION_LIST, &o.weights, "PATTERN", "save the tensors whose name matches as NAME.npy, in F32; repeatable",
          .named = APR_NAMED_TENSOR },
        { "--raw", APR_OPTION_FLAG, &o.raw, NULL, "save their stored bytes, as NAME.raw", .needs = "--save-weights" },
        { "--force", APR_OPTION_FLAG, &o.force, NULL, "replace arrays that are there, remove stages of another run; never an input",
          .needs = "--save-tensor --save-weights" },
        { "--top", APR_OPTION_COUNT, &o.top, "K", "the K best tokens at the last position; default 5" },
        { "--compare", APR_OPTION_PATH, &o.compare, "DIR",
          "compare with a saved trace, name the first stage that differs; exit 1 when one does" },
        { "--stage-map", APR_OPTION_INPUT, &o.map, "FILE", "what another program calls the stages in DIR; default transformers",
          .needs = "--compare", .files = "yaml yml" },
        { "--threshold", APR_OPTION_COSINE, &o.threshold, "F", "lowest cosine that is the same; default 0.999", .needs = "--compare" },
        { "--stop-at-nan", APR_OPTION_FLAG, &o.stop_at_nan, NULL, "stop at the first value that is not finite, and name it; exit 1" },
        { "--greedy", APR_OPTION_COUNT, &o.greedy, "N", "go on for N tokens, always with the best one", .given = &o.greedy_given },
        JUDGING_OPTIONS(&o.judging)
        { "--jsonl", APR_OPTION_FLAG, &o.jsonl, NULL, "JSON Lines: the stages, then the summary" },
        { APR_SELECTION_FAMILY(&o.selection) },
        APR_REMOTE_OPTIONS(&o.cli),
    };
    o.cli = (struct apr_cli){
        .tool = "apr-trace",
        .synopsis = "MODEL",
        .about = "Runs a model's forward pass over given tokens and lays it open: saves what flows between its stages, compares it "
                 "with another run's, shows the best next tokens. Or saves weights. The same bytes at any number of threads, from any of the formats.",
        .example = { "apr-trace model/ --prompt 'Once upon a time' --top 10",
                     "apr-trace model/ --tokens 1,2,3 --save-tensor all --save-tensor-dir a",
                     "apr-trace model.gguf --tokens 1,2,3 --compare a" },
        .option = option,
        .noption = APR_LENGTH(option),
        .brief = "runs a language model and lays its forward pass open",
        .files = APR_MODELS,
        .file = apr_model_files,
        .environment = apr_remote_environment,
    };
    int exit_code = apr_cli_parse(&o.cli, argc, argv);
    if (exit_code < 0)
        exit_code = run(&o);
    apr_selection_free(&o.selection);
    apr_patterns_free(o.weight);
    return apr_cli_finish(&o.cli, exit_code);
}
