/* The parts of apr-trace. */
#ifndef APR_TRACE_H
#define APR_TRACE_H

#include "base/arena.h"
#include "base/hash.h"
#include "family/packing.h"
#include "flow/selection.h"
#include "forward/forward.h"
#include "judge.h"
#include "token/ids.h"
#include "ui/cli.h"
#include "ui/report.h"

/* ---- what the user wants -------------------------------------------------------------------------------------------- */

enum trace_format { FORMAT_APRT, FORMAT_NPY };

/* [from, to) */
struct span {
    uint64_t from, to;
};

/* The command line.
 *   tokens ... positions  as given, NULL when not
 *   stage                 those that --save-tensor names; all: it says "all"
 *   layer, cut            of --save-tensor-layers or --layer, of --positions; to 0: not given
 *   top                   TOP_UNSAID when not given */
#define TOP_UNSAID UINT64_MAX
struct options {
    struct apr_cli       cli;
    struct apr_selection selection; /* families alone */
    const char          *tokens, *tokens_file, *prompt, *features, *save_tensor, *layers, *dir, *positions, *compare, *map;
    struct apr_texts     weights;
    struct apr_patterns *weight;
    uint64_t             one_layer, top, greedy;
    double               threshold;
    unsigned             format;
    bool                 no_special, one_layer_given, raw, stop_at_nan, greedy_given, jsonl, all, force;
    bool                 stage[APR_NSTAGES];
    struct span          layer, cut;
    struct judging       judging;
};

/* Is a forward pass of tokens, or features, asked for? Are stages saved? */
static inline bool has_input(const struct options *o)
{
    return o->tokens != NULL || o->tokens_file != NULL || o->prompt != NULL || o->features != NULL;
}
static inline bool saves_stages(const struct options *o) { return o->save_tensor != NULL; }

/* stages.c: reads the names of --save-tensor, and "A..B" (blanks are no matter). -1, or the exit code of what was told. */
int read_stages(struct options *o);
int read_span(const struct options *o, const char *option, const char *text, struct span *span);

/* ---- a model that runs: engine.c ------------------------------------------------------------------------------------ */

/* net: NULL for a model whose weights alone are wanted. */
struct engine {
    const char              *path;
    struct apr_model        *m;       /* without packing, where there is any */
    struct apr_model        *opened;  /* as it is stored */
    struct apr_packing      *packing; /* or NULL */
    const struct apr_family *family;
    struct apr_binding      *binding;
    struct apr_net          *net;
    struct apr_encoder      *encoder; /* NULL until it is asked for */
};

/* Opens the model, and where it is to run finds its family and puts the net together. e names the file. Close it with close_engine, after
 * a failure too. */
APR_MUST_CHECK enum apr_code open_engine(struct engine *x, const struct options *o, const char *path, bool runs, struct apr_error *e);
void close_engine(struct engine *x);

/* Opens its tokenizer, if that has not been done: APR_EARG when there is none. */
APR_MUST_CHECK enum apr_code need_encoder(struct engine *x, const struct options *o, struct apr_error *e);

/* The same for what cannot be had without; instead: what there is else, in words. */
APR_MUST_CHECK enum apr_code need_encoder_for(struct engine *x, const struct options *o, const char *instead, struct apr_error *e);

/* The same for texts that are a help: without a tokenizer, or with one that is broken or not known, x->encoder stays NULL. */
APR_MUST_CHECK enum apr_code try_encoder(struct engine *x, const struct options *o, struct apr_error *e);

/* ---- a run ---------------------------------------------------------------------------------------------------------- */

struct saving;
struct comparing;
struct measure;

/* Where the first value that is no finite number stands.
 *   position  of the sequence; index: in its row, of attn_scores and attn_softmax head * seen + position
 *   culprit   the weight that holds it, in words; or ""
 *   expert    of the layer under way: the numbers of those `used` experts that each position from `first` on goes through */
struct nonfinite {
    bool     found;
    uint32_t layer;
    unsigned stage;
    uint64_t position, index;
    float    value;
    char     culprit[512];
    float   *expert;
    uint64_t used, first;
};

/*   ids        the input; of a classic model feature, nrow rows of them, stands instead
 *   sequence   NULL until it runs
 *   saving     NULL: nothing is saved; comparing: likewise
 *   saved      paths of what is written, in order
 *   logits     of the last position; NULL: there are none
 *   stopped    at nonfinite
 *   greedy     the tokens that were found; ended: the last one ends a text
 *   begun      the report is */
struct trace {
    const struct options *o;
    struct engine         engine;
    struct apr_team      *team;
    struct apr_ids        ids;
    float                *feature;
    uint64_t              nrow;
    struct apr_sequence  *sequence;
    struct saving        *saving;
    struct comparing     *comparing;
    struct measure       *measure;
    struct apr_arena     *arena;
    struct saved {
        const char **path;
        size_t       n, room;
    }                     saved;
    struct nonfinite      nonfinite;
    float                *logits;
    struct apr_ids        greedy;
    bool                  stopped, ended, seen[APR_NSTAGES];
    unsigned char         half[4]; /* of a character of --greedy, nhalf bytes */
    size_t                nhalf;
    uint64_t              nstage; /* rows that were reported */
    struct apr_out        json;
    struct apr_report     report;
    bool                  begun;
    struct judgement     *judgement; /* judge.h */
};

/* How many positions the input has. */
static inline uint64_t positions_of(const struct trace *t) { return t->feature != NULL ? t->nrow : t->ids.n; }

/* tokens.c: the input into ids, or feature; each is checked against the model. */
APR_MUST_CHECK enum apr_code read_input(struct trace *t, struct apr_error *e);

/* pieces.c: how --prompt was cut, as a member of the JSON object and as a line of text; nothing of other inputs. */
void write_pieces(struct apr_out *j, const struct trace *t);
void print_pieces(const struct trace *t);

/* run.c: the forward pass, its stages, the logits of its last position. What stopped it at a value that is not finite is no failure. */
APR_MUST_CHECK enum apr_code run_input(struct trace *t, struct apr_error *e);

/* greedy.c: goes on from there. */
APR_MUST_CHECK enum apr_code run_greedy(struct trace *t, struct apr_error *e);

/* The id of the highest logit, of equal ones the lowest; what is no number comes last. And the n best of them in order, n <= nlogit. */
uint64_t best_logit(const float *logits, uint64_t n);
void best_logits(const float *logits, uint64_t nlogit, uint64_t n, uint64_t *id);

/* ---- stages: stages.c ----------------------------------------------------------------------------------------------- */

/* One stage of one layer as it was found to be. mean ... are NAN where no value is finite.
 *   file     where it was saved, or NULL
 *   in_reference  the other trace has it, `other` values of it in the shape other_dim; compared: as many, in a shape that fits, so that
 *                 cosine ... are known: NAN where no pair is finite
 *   ratio    how many times as large it is here; nonfinite_there: values that are not finite
 *   exact    every value is equal; unlike, scaled: what it differs by
 *   index    of the largest difference, or of the first pair of which one is not finite; APR_NOWHERE: they are equal */
struct stage_row {
    uint32_t          layer;
    unsigned          stage, ndim;
    uint64_t          dim[3], count, nan, inf, zero;
    double            min, max, mean, std, rms;
    struct apr_digest hash;
    const char       *file;
    bool              in_reference, compared, same, exact, unlike, scaled;
    unsigned          other_ndim;
    uint64_t          other_dim[APR_MAX_DIMS];
    uint64_t          other, nonfinite_there, mismatches, index;
    double            cosine, ratio, max_diff, rms_diff;
};

/* Is the layer one of those asked for? Is the stage of that layer looked at? */
bool in_layers(const struct options *o, uint32_t layer);
bool is_wanted(const struct trace *t, uint32_t layer, unsigned stage);

/* A stage as a run hands it over: cuts it to the wished positions, measures, saves, compares and reports it. */
APR_MUST_CHECK enum apr_code take_stage(struct trace *t, const struct apr_stage_values *v, struct apr_error *e);

/* The same for one that comes in pieces; n values in all, as dim says. */
APR_MUST_CHECK enum apr_code begin_stage(struct trace *t, uint32_t layer, unsigned stage, const uint64_t *dim, unsigned ndim,
                                         struct apr_error *e);
APR_MUST_CHECK enum apr_code put_values(struct trace *t, const float *x, uint64_t n, struct apr_error *e);
APR_MUST_CHECK enum apr_code end_stage(struct trace *t, struct apr_error *e);
void free_measure(struct trace *t);

/* nonfinite.c: where there is a value in it that is not finite, the first of the run, t->nonfinite says so. */
APR_MUST_CHECK enum apr_code find_nonfinite(struct trace *t, const struct apr_stage_values *v, struct apr_error *e);
void find_culprit(const struct trace *t, struct nonfinite *f); /* culprit.c */
enum apr_code stop_run(struct trace *t, struct apr_error *e); /* a failure that is none: t->stopped */
const char *spell_nonfinite(float v); /* "nan", "inf", "-inf" */

/* ---- files: save.c, weights.c --------------------------------------------------------------------------------------- */

/* A file of the trace that is under way. */
struct saved_file;

/* Begins the folder, where anything is to be saved. */
APR_MUST_CHECK enum apr_code begin_saving(struct trace *t, struct apr_error *e);

/* Begins a file in it; name: "layer-0/attn_norm.bin"; raw: stored bytes. It takes bytes from front to back. *path: where it will lie. */
APR_MUST_CHECK enum apr_code begin_file(struct trace *t, const char *name, bool raw, uint64_t size, struct saved_file **f,
                                        const char **path, struct apr_error *e);
APR_MUST_CHECK enum apr_code put_bytes(struct saved_file *f, const void *bytes, size_t n, struct apr_error *e);

/* The file of a stage, its header written. */
APR_MUST_CHECK enum apr_code begin_stage_file(struct trace *t, const struct stage_row *r, struct saved_file **f, const char **path,
                                              struct apr_error *e);

/* The header of an npy file of F32. */
APR_MUST_CHECK enum apr_code put_npy_header(struct saved_file *f, const uint64_t *dim, unsigned ndim, struct apr_error *e);

/* Puts all files in place. end_saving gives up what is not, and frees; to be called in any case. */
APR_MUST_CHECK enum apr_code finish_saving(struct trace *t, struct apr_error *e);
void end_saving(struct trace *t);

/* Where files go, with a '/' at the end. */
const char *saving_folder(const struct trace *t);

APR_MUST_CHECK enum apr_code save_weights(struct trace *t, struct apr_error *e);

/* ---- another trace: compare.c --------------------------------------------------------------------------------------- */

/* Opens the trace of --compare. */
APR_MUST_CHECK enum apr_code begin_comparing(struct trace *t, struct apr_error *e);
void end_comparing(struct trace *t);

/* Has it that stage? */
bool has_reference(const struct trace *t, uint32_t layer, unsigned stage);

/* Before a stage's values; n of them from value `first` on, by chunks of APR_CHUNK; after them all. */
void begin_comparison(struct trace *t, struct stage_row *r);
void add_comparison(struct trace *t, const float *x, uint64_t first, size_t n);
APR_MUST_CHECK enum apr_code end_comparison(struct trace *t, struct stage_row *r, struct apr_error *e);

/* The first stage that is not the same; NULL: none. */
const struct stage_row *first_divergence(const struct trace *t);

/* How many were compared; of these are not the same, or equal in every value. lowest: of those that are not equal, the one of the lowest
 * cosine; NULL: there is none. */
struct tally {
    uint64_t                compared, differing, exact;
    const struct stage_row *lowest;
};
struct tally tally_of(const struct trace *t);
bool is_foreign_reference(const struct trace *t);

/* APR_EARG when nothing was in common. */
APR_MUST_CHECK enum apr_code check_comparison(const struct trace *t, struct apr_error *e);

/* The next name of a stage on one side only; *i is 0 at first. False behind the last. */
bool only_in_reference(const struct trace *t, size_t *i, struct apr_bytes *name);
bool only_here(const struct trace *t, size_t *i, struct apr_bytes *name);

/* ---- what is said: report.c, text.c --------------------------------------------------------------------------------- */

void begin_report(struct trace *t);
void report_stage(struct trace *t, const struct stage_row *r);

/* The rest of it; why: or NULL. The exit code. */
int end_report(struct trace *t, const struct apr_error *why);

/* The best tokens, best first; free id with free. encoder: for their texts, or NULL. */
struct top {
    uint64_t           *id, n;
    struct apr_encoder *encoder;
};
APR_MUST_CHECK enum apr_code find_top(struct trace *t, struct top *top, struct apr_error *e);

/* Is the answer the vector of an encoder? */
bool is_pooled(const struct trace *t);

/* As text. Tokens of --greedy as they come: a character may be in several. */
void print_stage(const struct trace *t, const struct stage_row *r);
APR_MUST_CHECK enum apr_code print_summary(struct trace *t, struct apr_error *e);
void print_greedy_token(struct trace *t, uint32_t id);
void end_greedy_text(struct trace *t);

/* ---- encoders: pooling.c -------------------------------------------------------------------------------------------- */

/* "mean", "cls", "last", "none", "rank": what makes one vector of all positions. *vector, of malloc, has net->hidden values; NULL: there is
 * none. */
APR_MUST_CHECK enum apr_code pool(const struct trace *t, const char **pooling, float **vector, struct apr_error *e);

/* Has it a head that gives labels, which nothing runs here? *head: the name of its matrix. */
bool is_classifier(const struct trace *t, struct apr_bytes *head);

#endif
