/* apr-merge: what its parts share. */
#ifndef APR_MERGE_H
#define APR_MERGE_H

#include <stdatomic.h>

#include "convert/conversion.h"
#include "convert/derived.h"
#include "family/yaml.h"
#include "flow/computed.h"
#include "flow/threshold.h"
#include "loops.h"

#define MOST_MODELS 64u

/* ---- the command line ----------------------------------------------------------------------------------------------- */

/*   weights, loras  as given; t, lambda, density: where their flag says so
 *   strict          0: unknown keys are refused
 *   extract         --extract-lora, with rank, sv_epsilon (extract.h) */
struct options {
    struct apr_convert_options c;
    const char                *method, *base;
    struct apr_texts           weights, loras;
    double                     density, t, lambda;
    bool                       has_density, has_t, has_lambda;
    uint64_t                   seed;
    unsigned                   strict;
    bool                       extract;
    uint64_t                   rank;
    double                     sv_epsilon;
};

/* ---- parameters ----------------------------------------------------------------------------------------------------- */

/* Those before PARAM_T may differ from model to model. */
enum param {
    PARAM_WEIGHT, PARAM_DENSITY, PARAM_GAMMA, PARAM_EPSILON, PARAM_SCALE,
    PARAM_T, PARAM_LAMBDA, PARAM_NORMALIZE, PARAM_RESCALE, PARAM_FLATTEN, PARAM_ROW_WISE, PARAM_NORMALIZE_WEIGHTS, PARAM_MAX_ITER,
        PARAM_TOL,
    PARAM_TOPK, PARAM_FILTER_WISE, PARAM_INT8_MASK, NPARAMS
};
#define BY_MODEL PARAM_T

/* boolean: true or false, else a number; `usual` is what it is where nobody says */
struct param_row {
    const char *name;
    bool        boolean;
    double      usual;
};
extern const struct param_row params[NPARAMS];

struct config;
struct method;

/* A `parameters` of the configuration makes sense for the method; else APR_EARG with line and name. Unknown names are warned of where the
 * configuration is not strict. */
APR_MUST_CHECK enum apr_code check_parameters(struct config *c, const struct apr_yaml *parameters, struct apr_error *e);

/* What the first of the levels (NULL: nothing) says of a parameter for a tensor of that name at x of its slice; false: none does. */
bool parameter_at(const struct apr_yaml *const *level, size_t nlevel, enum param p, struct apr_bytes name, double x, double *value);

/* ---- the configuration ---------------------------------------------------------------------------------------------- */

/* A model that the configuration names: its path, and adapters that are put onto it, as `path+adapter`; one of each text.
 *   node  where it stands first; scale: of each adapter */
struct named {
    struct apr_bytes       text;
    const char            *path;
    const struct apr_yaml *node;
    const char            *lora[8];
    double                 scale[8];
    size_t                 nlora;
};

/* What a slice takes of a model: layers [from, to); to 0 with `whole`: all of them. */
struct part {
    size_t                 model;
    bool                   whole;
    uint32_t               from, to;
    const struct apr_yaml *node, *parameters;
};

/*   base  a model; NONE: it has none of its own */
#define NONE SIZE_MAX
struct slice {
    struct part           *part;
    size_t                 npart, base;
    const struct apr_yaml *node, *parameters;
};

/* A configuration, checked but for what the models say.
 *   path       NULL: it was made of the command line, whose words messages then use
 *   level      of parameters behind those of source and slice: the module's, the whole's
 *   tokenizer  of tokenizer_source or tokenizer.source: a model, or NONE; unite: where a union is asked for, or NULL
 *   dtype      of the result, or NULL
 *   warning    texts for stderr */
struct config {
    struct apr_yaml_document *document;
    const char               *path;
    struct apr_bytes          folder;
    bool                      strict;
    const struct method      *method;
    const struct apr_yaml    *root, *method_node, *level[2], *unite;
    struct named             *model;
    size_t                    nmodel, model_room;
    size_t                    base, tokenizer;
    bool                      sliced;
    struct slice             *slice;
    size_t                    nslice;
    const struct apr_dtype   *dtype;
    struct apr_bytes          chat_template;
    const char              **warning;
    size_t                    nwarning, warning_room;
    struct apr_arena         *arena;
};

/* Reads a file, or a text that the command line stands for (path NULL). End with config_end, after a failure too. */
APR_MUST_CHECK enum apr_code config_open(struct config *c, const struct options *o, const char *path, struct apr_error *e);
APR_MUST_CHECK enum apr_code config_read(struct config *c, const struct options *o, struct apr_bytes text, struct apr_error *e);
void config_end(struct config *c);

/* APR_EARG about a place of it: "line N, column M: ..." */
enum apr_code fail_at(const struct config *c, const struct apr_yaml *node, struct apr_error *e, const char *format, ...) APR_PRINTF(4, 5);
APR_MUST_CHECK enum apr_code warn(struct config *c, struct apr_error *e, const char *format, ...) APR_PRINTF(3, 4);

/* The configuration that the command line stands for, as its text in the arena. -1, or the exit code: the fault has been told. */
int config_of_options(struct options *o, char *const *argv, struct apr_arena **arena, struct apr_bytes *text);

/* ---- models --------------------------------------------------------------------------------------------------------- */

/* An open model, as the merge sees it.
 *   opened   as stored; m: without packing, with its adapters
 *   dialect  its own
 *   wishes   its tensors in the dialect of the result; by_name: their numbers, by the names as the family spells them
 *   nlayer   how many layers its names have
 *   lora     adapters that are on it, one on the other */
struct model {
    const struct named      *said;
    struct apr_model        *opened, *m;
    struct apr_packing      *packing;
    struct apr_hf_config    *config;
    const struct apr_family *family;
    struct apr_binding      *binding;
    enum apr_dialect         dialect;
    struct apr_wishes        wishes;
    struct apr_table         by_name;
    struct apr_arena        *arena;
    uint32_t                 nlayer;
    struct lora             *lora;
    size_t                   nlora;
};

/* Opens all, tells their families, wishes for their tensors in the dialect of model number `reference`, or that of an adapter that is
 * extracted. Close with close_models, after a failure too. */
APR_MUST_CHECK enum apr_code open_models(struct model **models, const struct config *c, size_t reference, struct options *o,
                                         struct apr_error *e);
void close_models(struct model *models, size_t n);

/* The dtype of floats that has its values: its own, else F32 of a vector and F16 of a matrix. */
const struct apr_dtype *float_of(const struct apr_wish *x);

/* Are its rows tokens? */
bool is_vocabulary(const struct apr_wish *x);

/* The model's tensor of that name, or NULL; the number of the layer in a name, -1: none; the same name with another one. */
const struct apr_wish *wish_called(const struct model *m, struct apr_bytes name);
int64_t layer_in(struct apr_bytes name);
struct apr_bytes at_layer(struct apr_arena **arena, struct apr_bytes name, uint32_t layer);

/* ---- what is merged ------------------------------------------------------------------------------------------------- */

/* One of the models of a tensor. place: among those of the slice that are no base */
struct operand {
    const struct apr_input *in;
    const struct model     *model;
    size_t                  place;
    double                  p[BY_MODEL];
};

/* How the numbers of a measuring pass are taken: over the whole tensor, by rows, by columns. */
enum units { UNITS_NONE, UNITS_WHOLE, UNITS_ROWS, UNITS_COLUMNS };

/* A tensor of the result.
 *   of_base    the values of the base in its place
 *   method     the configuration's, but of a tensor that too few models have
 *   tensor     as it stands in the result; not computed where it is one that is stored
 *   base       what differences are to, or NULL
 *   coef       of each unit one for each x and one for the base: combinations are their sum
 *   cut        of each x, where elements are chosen by magnitude; key: where they are drawn
 *   keep       of each x: what is kept is multiplied by it; kept: how many are kept, NULL: all
 *   part       of each x: its weight where that is measured (sce)
 *   nonfinite  a value that is no finite number was met; starved: memory ran out */
struct merged {
    struct apr_computation  c, of_base;
    struct merge           *merge;
    const struct method    *method;
    struct apr_tensor       tensor;
    struct operand         *x;
    size_t                  n;
    const struct apr_input *base;
    const struct model     *base_model;
    double                  p[NPARAMS];
    bool                    given[NPARAMS];
    uint64_t                count, nrow, ncol;
    double                 *coef, *keep, *part;
    struct apr_cutoff     (*cut)[APR_MOST_RANKS];
    uint64_t               *key, *kept;
    atomic_bool             nonfinite, starved;
};

/* The row in a model of each of the first n tokens of a union, UINT32_MAX where it has none; NULL: the tokens' numbers. It has no others. */
struct united_model {
    uint64_t  n;
    uint32_t *row;
};

/* A union of n tokens.
 *   files  of its tokenizer, where it is another than that of the model whose words the result has */
struct united {
    uint64_t             n;
    struct united_model *of;
    struct apr_side      files;
};

/* All of it.
 *   loops       for the level of instructions
 *   reference   whose dialect, metadata and tokenizer the result has
 *   first_file  of each model: what is to be added to a tensor's `file` in the result, which goes to the target
 *   began       there is a result */
struct merge {
    struct options       *o;
    const struct loops   *loops;
    struct config         config;
    struct model         *model;
    size_t                reference;
    unsigned             *first_file;
    struct apr_derived    result;
    struct united         united;
    struct merged       **tensor;
    size_t                ntensor, room;
    struct apr_conversion conversion;
    struct apr_arena     *arena;
    bool                  began;
};

/* result.c, pairs.c: the files of the result; which tensors it has, and what each is made of; the model that they are. */
APR_MUST_CHECK enum apr_code begin_result(struct merge *m, struct apr_error *e);
APR_MUST_CHECK enum apr_code pair_models(struct merge *m, struct apr_error *e);
APR_MUST_CHECK enum apr_code make_result(struct merge *m, struct apr_error *e);

/* union.c: what a union of vocabularies is made of; and the model's tensor with a row for each of its tokens in the place of *wish, where
 * rows are tokens: its own, else the base's, else the mean of those of the slice that have it, else of all. */
APR_MUST_CHECK enum apr_code unite_vocabularies(struct merge *m, struct apr_error *e);
APR_MUST_CHECK enum apr_code unite_rows(struct merge *m, const struct slice *s, size_t model, const struct apr_wish **wish,
                                        struct apr_error *e);

/* What is planned is measured against the base while it is written, where there is one. */
APR_MUST_CHECK enum apr_code measure_against_base(struct merge *m, struct apr_error *e);

/* measure.c: what the methods need to know of whole tensors. values.c: the values. */
APR_MUST_CHECK enum apr_code measure_tensors(struct merge *m, struct apr_error *e);
void merged_values(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out);
enum apr_code merged_sound(const struct apr_computation *c, struct apr_error *e);

/* APR_EARG names the first element of a model's tensor that is no finite number, and then says `help`. */
APR_MUST_CHECK enum apr_code check_finite(const struct apr_input *in, struct apr_bytes name, const struct model *m, const char *help,
                                          struct apr_error *e);

void base_values(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out);

/* n elements of each x from `first` on, and of the base, one after the other into `out`; n at most stretch_of. Of the difference of one to
 * the base, n at most APR_STRETCH, and its magnitudes. What is not finite is noted, and 0. */
#define OPERAND_ROOM 16384u /* doubles, of all operands */
size_t stretch_of(const struct merged *t);
void read_operands(struct merged *t, struct apr_window *w, uint64_t first, size_t n, double *out);
void read_difference(struct merged *t, size_t i, struct apr_window *w, uint64_t first, size_t n, double *d);
void read_magnitudes(struct merged *t, size_t i, struct apr_window *w, uint64_t first, size_t n, float *out);

/* The differences d of x number i to the base are thinned out: what is not kept becomes 0, the rest stays. */
void thin_out(struct merged *t, size_t i, struct apr_window *w, uint64_t first, size_t n, double *d);

/* sce: the population variance of element k of differences, n of each x; all of read_operands as differences,
    0 where they vary too little. */
float variance_at(const struct merged *t, size_t n, const double *d, size_t k);
void select_varying(const struct merged *t, uint64_t first, size_t n, double *x);

/* ---- methods -------------------------------------------------------------------------------------------------------- */

enum base_rule { BASE_AS_MODEL, BASE_MAY, BASE_MUST, BASE_ONE_OF_TWO };
enum thinning { THIN_NOT, THIN_LARGEST, THIN_MIDDLE, THIN_RANDOM, THIN_BY_RANK };
enum kernel { KERNEL_COMBINATION, KERNEL_THINNED, KERNEL_SCE, KERNEL_NEARSWAP };

/* A row.
 *   least, most   models beside the base
 *   required, optional   parameters, a bit each
 *   normalize, rescale   what they are where nobody says
 *   units         which dots and norms it needs of its tensor: of the differences to the base where there is one and `differences`, else of
 *                 the models, the base the last of them
 *   settle        the coefficients of n x and the base, of a unit: gram is (n + base) squared; NULL: they are settled by sums of weights
 *   votes         only what has the sign of the sum counts */
struct method {
    const char    *name;
    unsigned       least, most;
    enum base_rule base;
    uint32_t       required, optional;
    bool           normalize, rescale, differences, votes;
    enum thinning  thinning;
    enum kernel    kernel;
    enum units   (*units)(const struct merged *t);
    enum apr_code (*settle)(const struct merged *t, const double *gram, double *coef, struct apr_error *e);
};
const struct method *method_named(struct apr_bytes name);
const struct method *method_at(size_t i); /* NULL behind the last */
bool method_is_refused(struct apr_bytes name);

double angle_of(double cosine);

int report(struct merge *m, const struct apr_error *why);

#endif
