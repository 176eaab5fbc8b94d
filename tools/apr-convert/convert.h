/* apr-convert: what its parts share. */
#ifndef APR_CONVERT_H
#define APR_CONVERT_H

#include "base/pattern.h"
#include "edits.h"
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
#include "recipe.h"
#include "target.h"
#include "ui/cli.h"
#include "ui/report.h"

/* The command line.
 *   to, type ...   as given, NULL when not
 *   dtype          what `type` names; NULL: each keeps its own, or `automatic`: the first 16-bit type met
 *   preset         what `quantize` names, where it is a mix; APR's own schemes are a dtype
 *   recipe         rules of --tensor-type and of the file that --recipe names
 *   output_dtype, embedding_dtype  of --output-tensor-type, --token-embedding-type
 *   target_bpw, target_size  0: not given
 *   partial        of --keep-going-from
 *   sized, counted --shard-size, --shards were given
 *   part, nparts   of --partition K/N; 0: not given */
struct options {
    struct apr_cli          cli;
    struct apr_selection    selection;
    const char             *to, *type, *quantize, *imatrix, *recipe_path, *write_recipe, *output_type, *embedding_type, *compress, *tokenizer, *config, *family,
                           *pre, *partition, *partial;
    struct apr_texts        drops, keeps, grafts, tensor_types;
    struct edits            edits;
    uint64_t                shard_size, shards, part, nparts;
    bool                    no_shard, pure, keep_names, dry_run, force, no_verify, resume, nan_to_zero, allow_requantize, leave_output, in_place, recover,
                            sized, counted;
    const struct apr_dtype *dtype, *output_dtype, *embedding_dtype;
    const struct apr_preset *preset;
    struct recipe           recipe;
    bool                    automatic;
    double                  target_bpw;
    uint64_t                target_size;
    bool                    sized_target, priced;
    int                     zstd;
    struct apr_patterns    *drop, *keep;
};

/* A model that tensors come from, the source or a graft.
 *   translated  its tensors go by another dialect than the target's
 *   m           as it is without packing where codes are undone; else, as `opened`, as it is stored
 *   m, config   may be NULL while it is being opened */
struct source {
    const char             *path;
    struct apr_model       *m, *opened;
    struct apr_packing     *packing;
    const struct apr_family *family;
    struct apr_binding     *binding;
    struct apr_hf_config   *config;
    struct apr_wishes       wishes;
    bool                    translated;
};

/* A conversion under way.
 *   format, dialect, folder  of the target
 *   main      dtype of most of what is written
 *   blocks    that of packed weights that are written as they are, as blocks; or NULL
 *   aim       of --target-size, --target-bpw: what was chosen
 *   weighable, weighed, fell_back  tensors quantized to a dtype that importance has a say in, those that have it, those whose rows were no
 *             whole blocks of what was meant
 *   overhead  bytes of the file besides its tensors; `plain` while that is found out, with every tensor as it is
 *   shown     the target as messages call it */
struct conversion {
    struct options          *o;
    const struct apr_format *format;
    enum apr_dialect         dialect;
    bool                     folder;
    struct source            source, *graft;
    size_t                   ngraft;
    struct apr_side          side;
    struct apr_imatrix      *imatrix;
    struct target            aim;
    uint64_t                 overhead;
    bool                     plain;
    size_t                   weighable, weighed, fell_back;
    struct apr_plan          plan;
    const struct apr_dtype  *main, *blocks;
    uint64_t                 bytes, elements, expert_elements, nexpert;
    bool                     head, quantized, unknown_pre, verified;
};

/* Opens the source and the grafts, finds their families, wishes for their tensors in the target's dialect; drops, keeps, renames and grafts
 * are done. Close with close_sources, after a failure too. */
APR_MUST_CHECK enum apr_code open_sources(struct conversion *c, struct apr_error *e);
void close_sources(struct conversion *c);

/* codes.c: says behind a message that names of packed weights are those of what is stored, where that is so. And APR_ECORRUPT when what is
 * planned would leave codes without what undoes them. */
void tell_codes(const struct source *s, struct apr_error *e);
APR_MUST_CHECK enum apr_code check_codes(const struct conversion *c, struct apr_error *e);

/* Is it quantized, so that --allow-requantize must be given to quantize it again? FP8 is not: its values are floats. */
bool is_quantized_source(const struct apr_dtype *d);

/* Puts the wished tensors into the plan: which dtype each gets, and how it comes about. */
APR_MUST_CHECK enum apr_code plan_tensors(struct conversion *c, struct apr_error *e);

/* The dtype of the parts of a wish, NULL when they differ; of a generated one F32. And of an input. */
const struct apr_dtype *stored_dtype(const struct apr_wish *x);
const struct apr_dtype *stored_dtype_of(const struct apr_input *in);

/* APR_EARG: it is quantized already, and --allow-requantize is not given. */
enum apr_code refuse_again(struct apr_bytes name, const struct apr_dtype *from, const struct apr_dtype *to, struct apr_error *e);

/* Are dtypes chosen tensor by tensor: by a preset, by rules, for a target? */
bool is_quantizing(const struct options *o);

/* scales.c: puts the factors of NVFP4 blocks into the plan, behind the tensor that they are of, as NAME.scale and NAME.input_scale: a GGUF
 * has them apart. APR_EUNSUPPORTED where parts of one matrix have several. */
APR_MUST_CHECK enum apr_code plan_scales(struct conversion *c, const struct apr_planned *t, struct apr_error *e);

/* Gives the planned tensors, one for each wish, the dtypes of preset and rules, and the importance of their columns. */
APR_MUST_CHECK enum apr_code quantize_tensors(struct conversion *c, struct apr_planned *t, struct apr_error *e);

/* Is a size wanted? Gives mixed, one for each planned tensor, dtypes that meet it, those that `mix` lets change; c->aim says what was
 * chosen. The table of choices as text and JSON; the recipe, where one is asked for. */
bool has_target(const struct options *o);
APR_MUST_CHECK enum apr_code choose_towards(struct conversion *c, struct apr_planned *t, struct apr_mixed *mixed, const struct apr_mix *mix,
                                            struct apr_error *e);
void print_aim(const struct conversion *c);
void write_aim(struct apr_out *j, const struct conversion *c);
APR_MUST_CHECK enum apr_code save_recipe(const struct conversion *c, struct apr_error *e);

/* What a preset asks of the model: by the keys that a GGUF of it has. */
APR_MUST_CHECK enum apr_code read_mix(struct conversion *c, struct apr_mix *mix, struct apr_error *e);

/* Puts metadata, tokenizer and the files beside into the plan, with the edits of the command line. */
APR_MUST_CHECK enum apr_code plan_metadata(struct conversion *c, struct apr_error *e);

/* The dtype that a word of the command line names, of those that can be written; NULL for none. */
const struct apr_dtype *written_dtype(const struct options *o, const char *word);

/* Words that completions offer (ui/cli.h): of --to, of --type, of an option that gives some tensors a dtype, of --quantize, --compress. */
const char *offer_format(size_t i);
const char *offer_type(size_t i);
const char *offer_type_of_rule(size_t i);
const char *offer_preset(size_t i);
const char *offer_compression(size_t i);

/* A name, and blanks up to `width` columns, of which there are 64 at most. */
void print_name(struct apr_bytes name, size_t width);

/* What was done, or with --dry-run what would be; why: or NULL. Returns the exit code. */
int report(struct conversion *c, const struct apr_error *why);

#endif
