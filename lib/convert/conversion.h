/* A model on its way to another file: what apr-convert does, for every tool that writes a model. The source, a path or a model of computed
 * tensors, goes to any format, dialect, dtype and number of shards, with config.json, tokenizer and keys; each target is whole or as it
 * was.
 *
 *     struct apr_convert_options o = { 0 };                   APR_CONVERT_OPTIONS(&o) in the table of o.cli; o.in, o.out, o.model
 *     struct apr_conversion c = { .o = &o };
 *     apr_convert_usage, apr_convert_recipe, apr_selection_families
 *                                                             what the options say
 *     apr_conversion_target                                   where it goes
 *     apr_conversion_plan                                     all that is known before any value is read
 *     apr_conversion_write, unless o.dry_run                  reads, computes, writes, verifies
 *     apr_conversion_end, apr_convert_options_end */
#ifndef APR_CONVERSION_H
#define APR_CONVERSION_H

#include "base/pattern.h"
#include "convert/aim.h"
#include "convert/edits.h"
#include "convert/recipe.h"
#include "family/bind.h"
#include "family/mix.h"
#include "family/packing.h"
#include "flow/plan.h"
#include "flow/selection.h"
#include "flow/wish.h"
#include "model/hf_config.h"
#include "model/imatrix.h"
#include "model/model.h"
#include "model/side.h"
#include "ui/cli.h"
#include "ui/report.h"

/* The command line of a tool that writes a model. It fills the first rows, its option table the others.
 *   in, out        the source and the target
 *   other          nother further paths that are read, and never written
 *   model          NULL: `in` is opened. Else the source itself, borrowed and in its own dialect, which `in` names: of tensors that
 *                  files hold or that are computed (flow/computed.h); those keep their dtype but for what --type and the target's rules ask
 *   tokenizer_files  NULL, or files that are the tokenizer, whatever the source has
 *   retyped        the dtypes of `model` are others than config.json says
 *   unpacked       it has values of what was packed: what is said of codes goes no further
 *   to, type ...   as given, NULL when not
 *   dtype          what `type` names; NULL: each keeps its own, or `automatic`: the first 16-bit type met
 *   preset         what `quantize` names, where it is a mix; APR's own schemes are a dtype
 *   recipe         rules of --tensor-type and of the file that --recipe names
 *   output_dtype, embedding_dtype  of --output-tensor-type, --token-embedding-type
 *   target_bpw, target_size  0: not given
 *   partial        of --keep-going-from
 *   sized, counted --shard-size, --shards were given
 *   part, nparts   of --partition K/N; 0: not given */
struct apr_convert_options {
    struct apr_cli              cli;
    const char                 *in, *out, *const *other;
    size_t                      nother;
    struct apr_model           *model;
    const struct apr_side      *tokenizer_files;
    bool                        retyped, unpacked;
    struct apr_selection        selection;
    const char                 *to, *type, *quantize, *imatrix, *recipe_path, *write_recipe, *output_type, *embedding_type, *compress;
    const char                 *tokenizer, *config, *family, *pre, *partition, *partial;
    struct apr_texts            drops, keeps, grafts, tensor_types;
    struct apr_edits            edits;
    uint64_t                    shard_size, shards, part, nparts;
    bool                        no_shard, pure, keep_names, dry_run, force, no_verify, resume, nan_to_zero, allow_requantize, leave_output;
    bool                        sized, counted;
    const struct apr_dtype     *dtype, *output_dtype, *embedding_dtype;
    const struct apr_preset    *preset;
    struct apr_recipe           recipe;
    bool                        automatic;
    double                      target_bpw;
    uint64_t                    target_size;
    bool                        sized_target, priced;
    int                         zstd;
    struct apr_patterns        *drop, *keep;
};

/* A model that tensors come from, the source or a graft.
 *   translated  its tensors go by another dialect than the target's
 *   m           as it is without packing where codes are undone; else, as `opened`, as it is stored
 *   m, config   may be NULL while it is being opened */
struct apr_convert_source {
    const char                 *path;
    struct apr_model           *m, *opened;
    struct apr_packing         *packing;
    const struct apr_family    *family;
    struct apr_binding         *binding;
    struct apr_hf_config       *config;
    struct apr_wishes           wishes;
    bool                        translated;
};

/* A conversion under way.
 *   format, dialect, folder  of the target
 *   main      dtype of most of what is written
 *   blocks    that of packed weights that are written as they are, as blocks; or NULL
 *   aim       of --target-size, --target-bpw: what was chosen
 *   weighable, weighed, fell_back  tensors quantized to a dtype that importance has a say in, those that have it, those whose rows were no
 *             whole blocks of what was meant
 *   overhead  bytes of the file besides its tensors; `plain` while that is found out, with every tensor as it is
 *   untold    nothing says what model the source is: its tensors keep their names
 *   shown     the target as messages call it */
struct apr_conversion {
    struct apr_convert_options *o;
    const struct apr_format    *format;
    enum apr_dialect            dialect;
    bool                        folder;
    struct apr_convert_source   source, *graft;
    size_t                      ngraft;
    struct apr_side             side;
    struct apr_imatrix         *imatrix;
    struct apr_aim              aim;
    uint64_t                    overhead;
    bool                        plain;
    size_t                      weighable, weighed, fell_back;
    struct apr_plan             plan;
    const struct apr_dtype     *main, *blocks;
    uint64_t                    bytes, elements, expert_elements, nexpert;
    bool                        head, quantized, unknown_pre, untold, verified;
};

/* Words that completions offer (ui/cli.h): of --to, of --type, of an option that gives some tensors a dtype, of --quantize, --compress. */
const char *apr_offer_format(size_t i);
const char *apr_offer_type(size_t i);
const char *apr_offer_type_of_rule(size_t i);
const char *apr_offer_preset(size_t i);
const char *apr_offer_compression(size_t i);

/* The rows of an option table that every tool has which writes a model. */
#define APR_CONVERT_OPTIONS(o)                                                                                                          \
    { "--to", APR_OPTION_TEXT, &(o)->to, "FORMAT", "apr, safetensors or gguf; default: as the target's suffix says",                    \
      .offer = apr_offer_format },                                                                                                      \
    { "--type", APR_OPTION_TEXT, &(o)->type, "T", "dtype of the matrices: f32 f16 bf16 q8_0 ...", .instead = "--dequantize --dtype",    \
      .offer = apr_offer_type },                                                                                                        \
    { "--pure", APR_OPTION_FLAG, &(o)->pure, NULL, "--type holds of vectors and norms too", .needs = "--type" },                        \
    { "--allow-requantize", APR_OPTION_FLAG, &(o)->allow_requantize, NULL, "quantized tensors may be quantized again" },                \
    { "--nan-to-zero", APR_OPTION_FLAG, &(o)->nan_to_zero, NULL, "values that are not finite become 0; else they are refused" },        \
    { "--compress", APR_OPTION_TEXT, &(o)->compress, "zstd[:LEVEL]", "APR: independent frames with a seek table",                       \
      .offer = apr_offer_compression },                                                                                                 \
    { "--shard-size", APR_OPTION_SIZE, &(o)->shard_size, "N", "shards of at most N bytes of tensors", .given = &(o)->sized,             \
      .against = "--shards --partition" },                                                                                              \
    { "--shards", APR_OPTION_COUNT, &(o)->shards, "N", "N shards, as even as whole tensors allow", .given = &(o)->counted },            \
    { "--partition", APR_OPTION_TEXT, &(o)->partition, "K/N", "only the K-th of N shards, every byte as one run writes it" },           \
    { "--family", APR_OPTION_TEXT, &(o)->family, "NAME", "the model's family, which else the model tells" },                            \
    { APR_SELECTION_FAMILY(&(o)->selection) },                                                                                          \
    { "--dry-run", APR_OPTION_FLAG, &(o)->dry_run, NULL, "prints the plan and writes nothing" },                                        \
    { "--force", APR_OPTION_FLAG, &(o)->force, NULL, "replaces a file that is there; never an input" },                                 \
    { "--no-verify", APR_OPTION_FLAG, &(o)->no_verify, NULL, "does not read the result back", .against = "--dry-run" }

/* What the options say, and whether that makes sense: -1, or the exit code when the fault has been told. The rules of the file that
 * --recipe names, if there is one; e names the file. Free with the last, after a failure too. */
int apr_convert_usage(struct apr_convert_options *o);
APR_MUST_CHECK enum apr_code apr_convert_recipe(struct apr_convert_options *o, struct apr_error *e);
void apr_convert_options_end(struct apr_convert_options *o);

/* Where it goes: format, dialect, folder; sets o->cli.taken. -1, or the exit code when the fault has been told. */
int apr_conversion_target(struct apr_conversion *c);

/* APR_EARG, before anything is read: the target is there already and --force is not given, or it is an input. */
APR_MUST_CHECK enum apr_code apr_conversion_free_to(const struct apr_conversion *c, struct apr_error *e);

/* All that is known before any value is read: the source and the grafts are open, c->plan has every tensor, key and place. */
APR_MUST_CHECK enum apr_code apr_conversion_plan(struct apr_conversion *c, struct apr_error *e);

/* Writes the plan, and the recipe where one is asked for. c->verified says whether it was read back. */
APR_MUST_CHECK enum apr_code apr_conversion_write(struct apr_conversion *c, struct apr_error *e);
void apr_conversion_end(struct apr_conversion *c);

/* The dtype that a word of the command line names, of those that can be written; NULL for none. */
const struct apr_dtype *apr_written_dtype(const struct apr_convert_options *o, const char *word);

/* Is it quantized, so that --allow-requantize must be given to quantize it again? FP8 is not: its values are floats. */
bool apr_is_quantized_source(const struct apr_dtype *d);

/* Are dtypes chosen tensor by tensor: by a preset, by rules, for a target? */
bool apr_is_quantizing(const struct apr_convert_options *o);

/* The dtype of an input's parts, NULL when they differ. */
const struct apr_dtype *apr_stored_dtype_of(const struct apr_input *in);

/* Is a size wanted? */
bool apr_has_aim(const struct apr_convert_options *o);

#endif
